"""Density ratios fitted without the pairs they judge: folds of known pairs and unpaired rows."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmcl._checks import all_finite, as_rows, at_least, paired, rank_at_most
from mmcl.beyond.ratio import Ratio, gaussian_ratio
from mmcl.spectral import fit

FACTORS = 1 - torch.logspace(-3, 0, 49, dtype=torch.float64)[:-1]  # tried for the shrinking of correlations


@dataclass(frozen=True)
class CrossFit:
    """Known pairs and unpaired rows, and the folds they are dealt into: row i of either belongs to fold i mod folds."""

    x: Tensor
    x_tilde: Tensor
    more: Tensor
    more_tilde: Tensor
    rank: int
    folds: int

    def pairs(self, edges: Tensor, without: int | None = None) -> tuple[Tensor, Tensor]:
        """The known pairs and the edges as one set of pairs; without the rows of one fold, if it is named."""
        known = torch.arange(len(self.x))
        if without is not None:
            known = known[known % self.folds != without]
            edges = edges[edges[:, 0] % self.folds != without]
        x = torch.cat([self.x[known], self.more[edges[:, 0]]])
        return x, torch.cat([self.x_tilde[known], self.more_tilde[edges[:, 1]]])

    def fold(self, k: int) -> tuple[Tensor, Tensor]:
        """The known pairs of one fold."""
        return self.x[k :: self.folds], self.x_tilde[k :: self.folds]

    def models(self, edges: Tensor) -> tuple[list[Ratio], Tensor]:
        """A `Ratio` per fold, fitted without it, and the factor by which correlations shrink on new pairs.

        Encoders are fitted to make their own pairs agree, so correlations measured on these are too high. The factor
        is the one under which the known pairs, each judged by the model that has not seen it, are most likely.
        """
        ratios, gain = [], torch.zeros_like(FACTORS)
        for k in range(self.folds):
            pairs = self.pairs(edges, without=k)
            ratios.append(gaussian_ratio(fit(*pairs, self.rank), *pairs))
            gain = gain + log_likelihood(ratios[-1], *self.fold(k), FACTORS)
        factor = FACTORS[gain.argmax()]
        return [shrunk(r, factor) for r in ratios], factor


def cross_fit(
    x: Tensor, x_tilde: Tensor, x_unpaired: Tensor, x_tilde_unpaired: Tensor, rank: int, folds: int
) -> CrossFit:
    """`CrossFit` from checked input: pairs (n, d), unpaired rows of any number (N1, d1), (N2, d2)."""
    x, x_tilde = paired(x, x_tilde)
    if x.ndim > 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; detection takes one data set at a time, (n, d1)")
    rank = rank_at_most(rank, x.shape[-1], x_tilde.shape[-1])
    at_least(2, folds=folds)
    folds, n = min(folds, len(x)), len(x)
    if (fewest := n - math.ceil(n / folds)) <= rank:
        raise ValueError(
            f"n = {n} pairs in {folds} folds leave {fewest} to fit with; a density ratio in {rank} dimensions needs "
            f"more than {rank}: use more pairs, more folds or a lower rank"
        )
    more = []
    for name, rows, d in (
        ("x_unpaired", x_unpaired, x.shape[-1]),
        ("x_tilde_unpaired", x_tilde_unpaired, x_tilde.shape[-1]),
    ):
        rows = as_rows(name, rows).to(x.dtype)
        if rows.ndim > 2 or rows.shape[-1] != d:
            raise ValueError(f"{name} has shape {tuple(rows.shape)}; give rows of the dimension of the pairs, (N, {d})")
        more.append(all_finite(name, rows) if len(rows) else rows)
    return CrossFit(x, x_tilde, more[0], more[1], rank, folds)


def log_likelihood(ratio: Ratio, x: Tensor, x_tilde: Tensor, factors: Tensor) -> Tensor:
    """Sum over pairs of log p(x, x~) / (p(x) p(x~)) with the correlations times each of the factors (f,)."""
    a, b = ratio.coordinates(x, x_tilde)
    c = factors.to(a).unsqueeze(-1) * ratio.correlations
    along = ((a * b).sum(0) - c * (a.square() + b.square()).sum(0) / 2) * c / (1 - c**2)
    return (along - len(a) / 2 * torch.log1p(-(c**2))).sum(-1).to(factors)


def shrunk(ratio: Ratio, factor: Tensor | float) -> Ratio:
    """The same model with weaker correlations."""
    return replace(ratio, correlations=ratio.correlations * factor)
