"""Section 3: the settings in which Theorem 3.1 is tried, and the three ways to find U1 over n."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from mmcl._blocks import row_blocks
from mmcl._checks import as_generator, at_least
from mmcl.data import Spiked, spiked
from mmcl.experiments.monte_carlo import ENTRIES, errors
from mmcl.metrics import sin_theta
from mmcl.spectral import fit
from mmcl.theory import epsilon_n, multimodal_error
from mmcl.unimodal import fit_masked, fit_pca


@dataclass(frozen=True)
class ModelSetting:
    """One setting of the model (3.2); all but one or two of its values are those of the default.

    Attributes:
        varied: what is varied, in words.
        n: pairs. d1, d2: dimensions. rank: latent dimension r. right_share: eta = 1 - p_n.
        noise_std: standard deviation of the first noise coordinate.
        decay: a, the variance of noise coordinate j being noise_std^2 j^-a: the greater, the smaller its rank.
        condition: condition number of the signal covariance, whose variances run evenly from 1 to 1/condition.
    """

    varied: str = ""
    n: int = 2000
    d1: int = 40
    d2: int = 40
    rank: int = 5
    right_share: float = 0.5
    noise_std: float = 0.7
    decay: float = 0.0
    condition: float = 1.0

    @property
    def covariances(self) -> tuple[Tensor, Tensor]:
        """Noise covariances (d1, d1), (d2, d2)."""
        spectra = (torch.arange(1, d + 1, dtype=torch.float64) ** -self.decay for d in (self.d1, self.d2))
        first, second = (self.noise_std**2 * s.diag() for s in spectra)
        return first, second

    @property
    def signal(self) -> Tensor:
        """Variances (rank,) of the latent coordinates, the largest 1."""
        return torch.linspace(1, 1 / self.condition, self.rank, dtype=torch.float64)

    @property
    def epsilon(self) -> float:
        """eps_n of Theorem 8.1; the bound of Theorem 3.1 is C sqrt(r) epsilon / right_share, at most sqrt(r)."""
        return float(epsilon_n(self.n, self.rank, *self.covariances))


def theorem_3_1_settings() -> list[ModelSetting]:
    """43 settings over n, eta, r, d1, d2, effective rank and noise whose noise is at most as strong as the signal.

    Example:
        >>> settings = theorem_3_1_settings()
        >>> len(settings), max(s.noise_std for s in settings)
        (43, 1.0)
    """
    sizes, shares = (250, 500, 1000, 2000, 4000, 8000), (0.2, 0.3, 0.4, 0.7, 1.0)
    values: dict[str, list[dict]] = {
        "pairs n": [{"n": n, "noise_std": s} for s in (0.3, 0.7) for n in sizes],
        "right pairs": [{"right_share": e, "noise_std": s} for s in (0.3, 0.7) for e in shares],
        "rank r": [{"rank": r} for r in (2, 3, 8, 12, 20)],
        "dimension d": [{"d1": d, "d2": d} for d in (10, 20, 80, 160)] + [{"d2": 10}, {"d2": 160}],
        "effective rank": [{"decay": a} for a in (0.25, 0.5, 1.0, 2.0)],
        "noise": [{"noise_std": s} for s in (0.1, 0.2, 0.4, 0.5, 0.9, 1.0)],
    }
    return [replace(ModelSetting(varied), **value) for varied, some in values.items() for value in some]


def encoder_errors(setting: ModelSetting, draws: int, seed: int | Generator = 0) -> tuple[Tensor, Tensor]:
    """||sinTheta||_F of both encoders of the linear loss over independent draws, and its first-order prediction.

    Args:
        setting: what is drawn.
        draws: number of independent draws, at least 1.
        seed: int or `torch.Generator`.

    Returns:
        errors (2, draws) of G1 and G2, and `mmcl.theory.multimodal_error` of the same draws (2, draws).

    Example:
        >>> errors, first = encoder_errors(ModelSetting(n=500, noise_std=0.1), draws=3)
        >>> errors.shape, bool((errors / first - 1).abs().max() < 0.3)
        (torch.Size([2, 3]), True)
    """
    at_least(1, draws=draws)
    s, generator, found = setting, as_generator(seed), []
    model: dict[str, Any] = {"noise": s.covariances, "signal": s.signal, "wrong_share": 1 - s.right_share}
    for some in row_blocks(draws, s.n * (s.d1 + s.d2), ENTRIES):
        p = spiked(s.n, s.d1, s.d2, s.rank, draws=some.stop - some.start, seed=generator, **model)
        g = fit(p.x, p.x_tilde, s.rank)
        first = (p.u1, p.u2, p.noise, p.noise_tilde), (p.u2, p.u1, p.noise_tilde, p.noise)
        predicted = [multimodal_error(*a, s.n, s.signal, 1 - s.right_share) for a in first]
        measured = [sin_theta(g.g1.mT, p.u1), sin_theta(g.g2.mT, p.u2)]
        found.append(torch.stack([torch.stack(measured), torch.stack(predicted)]))
    errors, predicted_errors = torch.cat(found, -1)
    return errors, predicted_errors


def sweep(settings: Iterable[ModelSetting], draws: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`encoder_errors` of many settings, a seed for each: two tensors (settings, 2, draws).

    Example:
        >>> sweep([ModelSetting(n=100), ModelSetting(n=200)], draws=4)[0].shape
        torch.Size([2, 2, 4])
    """
    found = [encoder_errors(s, draws, 10_000 * seed + k) for k, s in enumerate(settings)]
    measured, predicted = (torch.stack(part) for part in zip(*found, strict=True))
    return measured, predicted


def methods(rank: int) -> dict[str, Callable[[Spiked], Tensor]]:
    """The encoders (..., rank, d1) that Section 3.2 compares: masked views of x, PCA of x, and pairs.

    Example:
        >>> p = spiked(n=100, d1=6, d2=5, rank=2)
        >>> {name: tuple(method(p).shape) for name, method in methods(2).items()}
        {'multimodal': (2, 6), 'masked': (2, 6), 'PCA': (2, 6)}
    """
    return {
        "multimodal": lambda p: fit(p.x, p.x_tilde, rank).g1,
        "masked": lambda p: fit_masked(p.x, rank),
        "PCA": lambda p: fit_pca(p.x, rank),
    }


def errors_over_n(
    sizes: Sequence[int], of: Mapping[str, Callable[[Spiked], Tensor]], seed: int = 0, **model: Any
) -> dict[str, Tensor]:
    """`mmcl.experiments.monte_carlo.errors` at several n, with draws of their own at each: name -> (sizes, draws).

    Args:
        sizes: numbers of pairs n.
        of: name -> encoder, as of `methods`.
        seed: int.
        model: d1, d2, rank, draws and other arguments of `mmcl.data.spiked`; a function of n is evaluated at each.

    Example:
        >>> found = errors_over_n([50, 100], methods(2), d1=6, d2=5, rank=2, draws=3, wrong_share=lambda n: 10 / n)
        >>> found["PCA"].shape
        torch.Size([2, 3])
    """
    found = []
    for n in sizes:
        at_n = {name: value(n) if callable(value) else value for name, value in model.items()}
        found.append(errors(of, n, seed=10_000_000 * seed + n, **at_n))
    return {name: torch.stack([f[name] for f in found]) for name in of}


def one_signal_axis(d: int, rank: int, seed: int | Generator = 0) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """What Lemma 7.1 excludes: a direction of the signal on one coordinate, I(U1) = 1, and nearly isotropic noise.

    U1 = (e_1, random directions without first coordinate), U2 random, noise I + w w^T/2 of condition number 1.5 with w
    a random direction orthogonal to U1. Masking erases all of e_1 e_1^T, and w takes its place.

    Args:
        d: dimension of both modalities, greater than rank.
        rank: latent dimension r, at least 2.
        seed: int or `torch.Generator`.

    Returns:
        The pair (u1, u2), each (d, rank), and the noise covariance (d, d): ``axes`` and ``noise`` of `spiked`.

    Example:
        >>> from mmcl.theory import masked_bias
        >>> (u1, u2), noise = one_signal_axis(40, 5)
        >>> round(float(masked_bias(u1, noise)), 1)
        1.0
    """
    generator = as_generator(seed)
    at_least(2, rank=rank)
    at_least(rank + 1, d=d)
    basis = torch.linalg.qr(torch.randn(d - 1, rank, generator=generator, dtype=torch.float64))[0]
    u1 = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), basis[:, 1:])
    w = torch.nn.functional.pad(basis[:, :1], (0, 0, 1, 0))
    u2 = torch.linalg.qr(torch.randn(d, rank, generator=generator, dtype=torch.float64))[0]
    return (u1, u2), torch.eye(d, dtype=torch.float64) + w @ w.T / 2
