"""Data: the spiked model of eq. (3.2)."""

from dataclasses import dataclass

import torch

from mmcl._checks import as_generator, at_least, rank_at_most, share


@dataclass(frozen=True)
class Spiked:
    """A draw of the spiked model; leading dimension ``draws`` where it was asked for.

    Attributes:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs, row i of one with row i of the other.
        u1, u2: (..., d1, rank), (..., d2, rank) orthonormal columns, what an encoder should find.
        z, z_tilde: (..., n, rank) latent rows; equal where the pair is right.
        wrong: (..., n) bool, the pairs whose second row has a latent of its own.
        noise, noise_tilde: (..., d1, d1), (..., d2, d2) noise covariances.
    """

    x: torch.Tensor
    x_tilde: torch.Tensor
    u1: torch.Tensor
    u2: torch.Tensor
    z: torch.Tensor
    z_tilde: torch.Tensor
    wrong: torch.Tensor
    noise: torch.Tensor
    noise_tilde: torch.Tensor


def spiked(
    n, d1, d2, rank, noise_std=0.3, wrong_share=0.0, draws=None, seed=0, noise="isotropic", signal=1.0, axes=None
):
    """Pairs from the spiked model: x = U1 z + noise, x_tilde = U2 z_tilde + noise, z normal with variances ``signal``.

    The covariance of the noise is noise_std^2 times
        "isotropic"   I
        "diagonal"    diag(4 in the first ``rank`` coordinates, then evenly spaced from 0.2 to 1)
        "correlated"  0.5 I + 3 W W^T with random orthonormal W (d, rank): structure within the modality, as strong
                      as the signal at noise_std = 1 and independent of it.

    Args:
        n: pairs, at least 2.
        d1, d2: dimensions of the two modalities.
        rank: latent dimension r, 1 to min(d1, d2).
        noise_std: scale of a named kind of noise, one number or a pair (first, second modality).
        wrong_share: share of the pairs, rounded to whole pairs, whose z_tilde is drawn afresh.
        draws: None for one draw, else the number of independent draws (a leading dimension).
        seed: int, or a `torch.Generator` to go on from.
        noise: a kind by name, or a covariance (d, d), taken as it is; a tuple gives each modality its own.
        signal: variance of the latent coordinates, one number or ``rank`` of them, > 0.
        axes: None for random U1, U2, else the pair (u1, u2) to use: with noise=(p.noise, p.noise_tilde) too, this
            draws more pairs of the model that p was drawn from.

    Returns:
        Spiked, float64. U1, U2, W, the latents, the noise and the choice of wrong pairs differ from draw to draw.

    Raises:
        ValueError: if an argument is out of range, or a covariance is not symmetric and positive semidefinite.

    Reference: arXiv 2302.06232, Section 3 (the model) and 5.1 (its numbers); notebook 02, section 1.
    """
    at_least(2, n=n)
    rank = rank_at_most(rank, d1, d2)
    share(wrong_share=wrong_share)
    stds = noise_std if isinstance(noise_std, tuple | list) else (noise_std, noise_std)
    if min(stds) < 0:
        raise ValueError(f"noise_std = {noise_std}; a standard deviation is not negative")
    variances = torch.as_tensor(signal, dtype=torch.float64)
    if variances.shape not in ((), (rank,)) or not bool((variances > 0).all()):
        raise ValueError(f"signal = {signal}; give one positive variance or {rank} of them")
    batch = () if draws is None else (draws,)
    generator = as_generator(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    u1, u2 = axes or (torch.linalg.qr(normal(d, rank))[0] for d in (d1, d2))
    z, fresh = (variances.sqrt() * normal(n, rank) for _ in range(2))
    order = torch.rand(*batch, n, generator=generator).argsort(-1)
    wrong = order < round(wrong_share * n)
    z_tilde = fresh.where(wrong.unsqueeze(-1), z)
    kinds = noise if isinstance(noise, tuple | list) else (noise, noise)
    covariances = [
        std**2 * _noise_shape(kind, d, rank, normal) if isinstance(kind, str) else _given(kind, d).expand(*batch, d, d)
        for kind, std, d in zip(kinds, stds, (d1, d2), strict=True)
    ]
    x, x_tilde = (
        latent @ u.mT + normal(n, u.shape[-2]) @ _root(covariance)
        for latent, u, covariance in zip((z, z_tilde), (u1, u2), covariances, strict=True)
    )
    return Spiked(x, x_tilde, u1, u2, z, z_tilde, wrong, *covariances)


def _noise_shape(kind, d, rank, normal):
    """A named covariance (..., d, d) at noise_std = 1; ``normal`` draws with the batch dimensions."""
    if kind == "correlated":
        w = torch.linalg.qr(normal(d, rank))[0]
        return 0.5 * torch.eye(d, dtype=w.dtype) + 3 * w @ w.mT
    if kind not in ("isotropic", "diagonal"):
        raise ValueError(f"noise = {kind!r}; use 'isotropic', 'diagonal', 'correlated' or a covariance ({d}, {d})")
    variances = torch.ones(d, dtype=torch.float64)
    if kind == "diagonal":
        variances[:rank], variances[rank:] = 4, torch.linspace(0.2, 1, d - rank, dtype=torch.float64)
    return variances.expand(*normal(0).shape[:-1], d).diag_embed()


def _given(covariance, d):
    covariance = torch.as_tensor(covariance, dtype=torch.float64)
    if (
        covariance.shape[-2:] != (d, d)
        or not torch.allclose(covariance, covariance.mT)
        or bool((torch.linalg.eigvalsh(covariance)[..., 0] < -1e-10 * covariance.abs().amax()).any())
    ):
        raise ValueError(
            f"noise of shape {tuple(covariance.shape)} is not a covariance of {d} coordinates: "
            f"give a symmetric, positive semidefinite ({d}, {d}) matrix"
        )
    return covariance


def _root(covariance):
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt().unsqueeze(-2)) @ vectors.mT
