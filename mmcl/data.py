"""The model of the pairs, eq. (3.2): a signal that both modalities share, noise in each, and wrong pairs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmcl._checks import (
    all_finite,
    as_generator,
    as_tensor,
    at_least,
    finite_rows,
    no_less_than,
    one_of,
    rank_at_most,
    share,
    shown,
    within,
)


@dataclass(frozen=True)
class Spiked:
    """A draw of the spiked model; leading dimension ``draws`` where it was asked for.

    Attributes:
        x, x_tilde: (..., n, d1), (..., n, d2) observed pairs C = {(i, i)}, row i of one with row i of the other.
        u1, u2: (..., d1, rank), (..., d2, rank) orthonormal columns, what an encoder should find.
        z, z_tilde: (..., n, rank) latent rows of x and of x_tilde; row i of both is equal where pair i is right.
        wrong: (..., n) bool, the pairs whose second row has another latent.
        partner: (..., n) int64, the true pairs E = {(i, partner_i)}: the row of x_tilde that has the latent of row i
            of x. It is i where the pair is right; -1 where no row of the sample has it ("fresh").
        noise, noise_tilde: (..., d1, d1), (..., d2, d2) noise covariances.
    """

    x: Tensor
    x_tilde: Tensor
    u1: Tensor
    u2: Tensor
    z: Tensor
    z_tilde: Tensor
    wrong: Tensor
    partner: Tensor
    noise: Tensor
    noise_tilde: Tensor


def spiked(
    n: int,
    d1: int,
    d2: int,
    rank: int,
    noise_std: float | tuple[float, float] = 0.3,
    wrong_share: float = 0.0,
    draws: int | None = None,
    seed: int | torch.Generator = 0,
    noise: str | Tensor | tuple = "isotropic",
    signal: float | Sequence[float] | Tensor = 1.0,
    axes: tuple[Tensor, Tensor] | None = None,
    wrong: str = "permuted",
) -> Spiked:
    """Pairs from the spiked model: x = U1 z + noise, x_tilde = U2 z_tilde + noise, z normal with variances ``signal``.

    Wrong pairs are of two kinds, the same for the linear loss up to 1/n, not for CLIP, which sees unobserved partners:
        "permuted"    the paper's: z_tilde is z in another order, so the partner of a wrongly paired row is elsewhere
                      in the sample. The wrong rows are one random cycle. E[U1^T S U2] = (m - 1)/(n - 1) Sigma_z for
                      m right pairs and S of the linear loss.
        "fresh"       z_tilde of a wrong pair is drawn afresh, its partner was never sampled: m/n Sigma_z.

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
        wrong_share: distortion rate p_n, rounded to whole pairs. One wrong pair alone cannot be permuted: it becomes
            two. With one seed a larger share keeps the wrong pairs of a smaller one, and x as it is; all z_tilde of
            the smaller one's wrong pairs stay too, but that of a single pair if permuted.
        draws: None for one draw, else the number of independent draws (a leading dimension).
        seed: int, or a `torch.Generator` to go on from.
        noise: a kind by name, or a covariance (d, d), taken as it is; a tuple gives each modality its own.
        signal: variance of the latent coordinates, one number or ``rank`` of them, > 0.
        axes: None for random U1, U2, else the pair (u1, u2) to use: with noise=(p.noise, p.noise_tilde) too, this
            draws more pairs of the model that p was drawn from.
        wrong: "permuted" or "fresh"; nothing else of the draw depends on it.

    Returns:
        Spiked, float64. U1, U2, W, the latents, the noise and the choice of wrong pairs differ from draw to draw.

    Raises:
        ValueError: if an argument is out of range, or a covariance is not symmetric and positive semidefinite.

    Reference: PMLR 206:4348, eq. (3.2); Section 5.2 has d1 = 40, d2 = 39, rank 10 and noise 0.3.

    Example:
        >>> p = spiked(n=6, d1=4, d2=3, rank=2, wrong_share=0.5, seed=1)
        >>> int(p.wrong.sum()), bool((p.z == p.z_tilde[p.partner]).all())
        (3, True)
    """
    at_least(2, n=n)
    at_least(1, d1=d1, d2=d2)
    rank = rank_at_most(rank, d1, d2)
    share(wrong_share=wrong_share)
    one_of(("permuted", "fresh"), wrong=wrong)
    stds = _pair_of("noise_std", noise_std)
    no_less_than(0, **dict(zip(("noise_std", "noise_std of the second"), stds, strict=True)))
    if draws is not None:
        at_least(1, draws=draws)
    variances = within(0, math.inf, "signal", signal)
    if variances.shape not in ((), (rank,)) or not bool((variances > 0).all()):
        raise ValueError(f"signal = {signal}; give one positive variance or {rank} of them")
    batch = () if draws is None else (draws,)
    generator = as_generator(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    if axes is None:
        u1, u2 = (torch.linalg.qr(normal(d, rank))[0] for d in (d1, d2))
    else:
        u1, u2 = (_axes(u, d, rank) for u, d in zip(_pair_of("axes", axes), (d1, d2), strict=True))
    z, fresh = (variances.sqrt() * normal(n, rank) for _ in range(2))
    order = torch.rand(*batch, n, generator=generator).argsort(-1)
    count = round(wrong_share * n)
    count += count == 1 and wrong == "permuted"
    chosen = order < count
    if wrong == "permuted":
        partner = _cycle(order, count)
        z_tilde = z.take_along_dim(partner.argsort(-1).unsqueeze(-1), -2)
    else:
        partner = torch.arange(n).masked_fill(chosen, -1)
        z_tilde = fresh.where(chosen.unsqueeze(-1), z)
    kinds = _pair_of("noise", noise)
    covariances = [
        std**2 * _noise_shape(kind, d, rank, normal) if isinstance(kind, str) else _given(kind, d).expand(*batch, d, d)
        for kind, std, d in zip(kinds, stds, (d1, d2), strict=True)
    ]
    x, x_tilde = (
        latent @ u.mT + normal(n, u.shape[-2]) @ _root(covariance)
        for latent, u, covariance in zip((z, z_tilde), (u1, u2), covariances, strict=True)
    )
    return Spiked(x, x_tilde, u1, u2, z, z_tilde, chosen, partner, *covariances)


def _cycle(order: Tensor, count: int) -> Tensor:
    """The permutation (..., n) that sends the row at place k < count of ``order`` to the one at k + 1, in a circle."""
    following = ((order + 1) % max(count, 1)).where(order < count, order)
    return order.argsort(-1).gather(-1, following)


def _noise_shape(kind: str, d: int, rank: int, normal: Callable[..., Tensor]) -> Tensor:
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


def _pair_of(name: str, value: Any) -> tuple[Any, Any]:
    """One value for both modalities, or a pair with one for each."""
    if not isinstance(value, tuple | list):
        return value, value
    if len(value) != 2:
        raise ValueError(f"{name} = {shown(value)}; give one for both modalities, or a pair")
    return value[0], value[1]


def _given(covariance: Tensor, d: int) -> Tensor:
    covariance = all_finite("noise", as_tensor("noise", covariance).to(torch.float64))
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


def _axes(u: Tensor, d: int, rank: int) -> Tensor:
    u = finite_rows("axes", u).to(torch.float64)
    if u.shape[-2:] != (d, rank):
        raise ValueError(f"axes of shape {tuple(u.shape)}; give the pair (u1, u2), here ({d}, {rank})")
    return u


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt().unsqueeze(-2)) @ vectors.mT
