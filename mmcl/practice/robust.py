"""Encoders fitted to pairs of which some are wrong: each pair weighs as much as it looks right to a fit without it."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from mmcl._checks import all_finite, as_generator, as_tensor, at_least, no_less_than, paired, rank_at_most, shown
from mmcl.beyond._shapes import matrix
from mmcl.beyond.ratio import Ratio
from mmcl.covariance import balanced_factors, truncated_svd, whitening
from mmcl.practice.wrong_share import SHARES

FACTORS = torch.logspace(-1, 0.7, 24, dtype=torch.float64)  # tried for the strength of correlations
STRONGEST = 0.97  # correlation beyond which a Gaussian model is not believed


@dataclass(frozen=True)
class Judge(Ratio):
    """A density ratio whose canonical coordinates are drawn half way to one length, so that no long row decides."""

    def coordinates(self, x: Tensor, x_tilde: Tensor) -> tuple[Tensor, Tensor]:
        """Canonical coordinates z (..., n, r), times (sqrt(r) / |z|)^(1/2)."""
        a, b = super().coordinates(x, x_tilde)
        length = math.sqrt(a.shape[-1])
        a, b = (z * (length / z.norm(dim=-1, keepdim=True).clamp(min=1e-9)).sqrt() for z in (a, b))
        return a, b


@dataclass(frozen=True)
class Whitened:
    """Rows of both modalities, centred and whitened, and the maps that do it to other rows."""

    x: Tensor
    x_tilde: Tensor
    mean: Tensor
    mean_tilde: Tensor
    map: Tensor
    map_tilde: Tensor


def standard(x: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (n, d) centred, standardised and whitened, their mean (1, d), and the map (d, d); the ridge has no unit."""
    no_less_than(0, ridge=ridge)
    x = matrix("x", x)
    at_least(2, n=len(x))
    mean, std = x.mean(-2, keepdim=True), x.std(-2)
    unit = std.where(std > 1e-9 * std.max(), 1.0)
    to = whitening((x - mean) / unit, ridge) / unit.unsqueeze(1)
    return (x - mean) @ to, mean, to


def whitened(x: Tensor, x_tilde: Tensor, ridge: float = 0.1) -> Whitened:
    """Both modalities, each standardised and whitened without a look at the other."""
    x, x_tilde = paired(x, x_tilde)
    (a, mean, to), (b, mean_tilde, to_tilde) = (standard(rows, ridge) for rows in (x, x_tilde))
    return Whitened(a, b, mean, mean_tilde, to, to_tilde)


def weighted_fit(a: Tensor, b: Tensor, weights: Tensor, rank: int) -> Judge:
    """The linear loss's encoders of whitened pairs with weights w, and the Gaussian model of what they encode.

    They are the SVD of S = 1/n sum_i w_i a_i b_i^T, centred by the weighted means: each pair pulls with its weight.

    Args:
        a, b: (n, d1), (n, d2) whitened pairs.
        weights: (n,) at least 0.
        rank: of the encoders.
    """
    a, b = paired(matrix("a", a), matrix("b", b))
    rank = rank_at_most(rank, a.shape[1], b.shape[1])
    weights = all_finite("weights", as_tensor("weights", weights)).to(a)
    if weights.shape != (len(a),) or not bool((weights >= 0).all() & (weights > 0).any()):
        raise ValueError(f"weights = {shown(weights)}; give {len(a)} of at least 0, one a pair, not all of them 0")
    w = (weights / weights.sum()).unsqueeze(-1)
    s = (a * w).mT @ b - (a * w).sum(0).unsqueeze(1) * (b * w).sum(0)
    g1, g2 = balanced_factors(*truncated_svd(s, rank))
    g1, g2 = (torch.nn.functional.normalize(g, dim=-1) * (g.norm(dim=-1, keepdim=True) + 1e-12) for g in (g1, g2))
    z, z_tilde = a @ g1.mT, b @ g2.mT
    scales = [torch.diag(1 / v.std(0).clamp(min=1e-12)) for v in (z, z_tilde)]
    mean, mean_tilde = z.mean(0, keepdim=True), z_tilde.mean(0, keepdim=True)
    plain = Judge(g1, g2, mean, mean_tilde, scales[0], scales[1], torch.zeros(rank).to(a))
    p, q = plain.coordinates(a, b)
    c = (p * q * w).sum(0) / ((p**2 * w).sum(0) * (q**2 * w).sum(0)).sqrt().clamp(min=1e-12)
    return replace(plain, correlations=c.clamp(0.001, STRONGEST))


def strengthened(judge: Judge, factor: float | Tensor) -> Judge:
    """The same judge with all correlations times a factor, as far as a correlation can go."""
    return replace(judge, correlations=(judge.correlations * factor).clamp(0.001, STRONGEST))


def log_ratios(judge: Judge, a: Tensor, b: Tensor, factors: Tensor) -> Tensor:
    """Log density ratios (f, n) of pairs with the correlations times each of the factors (f,)."""
    p, q = judge.coordinates(a, b)
    c = (judge.correlations * factors.to(a).unsqueeze(1)).clamp(0.001, STRONGEST)
    gain = c / (1 - c**2)
    return gain @ (p * q).mT - (c * gain / 2) @ (p**2 + q**2).mT - torch.log1p(-(c**2)).sum(1, keepdim=True) / 2


def mixture(ratios: Tensor, shares: Tensor = SHARES[::10]) -> tuple[int, float]:
    """Which of the rows of log ratios (f, n), with which share of wrong pairs, makes the pairs most likely.

    A pair is wrong with probability p, and then its density ratio is 1: the likelihood is sum_i log(p + (1 - p) R_i).
    """
    excess = torch.expm1(ratios.clamp(-30, 30))
    gains = torch.stack([torch.log1p((1 - p) * excess).sum(1) for p in shares])
    best = int(gains.argmax())
    return best % len(ratios), float(shares[best // len(ratios)])


def truths(name: str, values: Any, n: int) -> Tensor:
    """``values`` as n truths, not all of them true."""
    found = as_tensor(name, values)
    if found.shape != (n,) or not bool(((found == 0) | (found == 1)).all()) or bool((found == 1).all()):
        raise ValueError(f"{name} has shape {tuple(found.shape)}; give {n} truths, not all of them true")
    return found == 1


def robust_fit(
    a: Tensor, b: Tensor, rank: int, trusted: Tensor, rounds: int = 4, folds: int = 5, seed: int | Generator = 0
) -> Judge:
    """Fit, weigh each pair by the probability that it is right under a fit without its fold, and fit again.

    Args:
        a, b: (n, d1), (n, d2) whitened pairs.
        rank: of the encoders.
        trusted: (n,) bool, pairs known to be right: their weight stays 1.
        rounds, folds: of weighing, and of the pairs.
        seed: of the folds.

    Returns:
        Judge, with correlations as strong as new pairs have them.
    """
    a, b = paired(matrix("a", a), matrix("b", b))
    at_least(1, rounds=rounds)
    at_least(2, folds=folds)
    generator, trusted = as_generator(seed), truths("trusted", trusted, len(a))
    fold = torch.randperm(len(a), generator=generator) % folds
    weights = torch.ones(len(a)).to(a)
    for _ in range(rounds):
        ratios = a.new_empty(len(FACTORS), len(a))
        for k in range(folds):
            judge = weighted_fit(a[fold != k], b[fold != k], weights[fold != k], rank)
            ratios[:, fold == k] = log_ratios(judge, a[fold == k], b[fold == k], FACTORS)
        best, share = mixture(ratios)
        right = (1 - share) * ratios[best].clamp(-30, 30).exp()
        weights = (right / (share + right)).clamp(min=1e-4).where(~trusted, 1.0)
    return strengthened(weighted_fit(a, b, weights, rank), float(FACTORS[best]))
