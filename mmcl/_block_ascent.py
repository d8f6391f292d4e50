"""The ascent of `mmcl.modalities.fit_modalities`, one encoder after the other; L_M, B and C as there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmcl.covariance import evaluate, linear_covariance
from mmcl.losses import ContrastiveLoss, Linear

PairTerms = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # g_mu, g_mu' -> l(s), S
Terms = dict[tuple[int, int], PairTerms]


@dataclass(frozen=True)
class Block:
    """What L_M is in one encoder G_mu: the terms that hold it, B, C, and -dL_M/dG_mu = B - rho C G_mu."""

    value: Tensor
    b: Tensor
    c: Tensor
    up: Tensor


def block(terms: Terms, encoders: Sequence[Tensor], mu: int, rho: float) -> Block:
    g, others = encoders[mu], [other for other in range(len(encoders)) if other != mu]
    pairs = [terms[mu, other](g, encoders[other]) for other in others]
    b = torch.stack([encoders[other] @ s.mT for other, (_, s) in zip(others, pairs, strict=True)]).sum(0)
    c = torch.stack([encoders[other] @ encoders[other].mT for other in others]).sum(0)
    penalty = rho / 2 * (g * (c @ g)).sum((-2, -1))
    return Block(torch.stack([value for value, _ in pairs]).sum(0) + penalty, b, c, b - rho * c @ g)


def ascend(terms: Terms, encoders: list[Tensor], mu: int, rho: float, step: Tensor) -> tuple[Tensor, Tensor]:
    """G_mu + step C^+ up, the step halved until L_M falls by enough; and the step to begin with the next time.

    Enough is Armijo's condition in Hager and Zhang's form, by the slopes at both ends, which rounding cannot fool.
    """
    now = block(terms, encoders, mu, rho)
    direction = torch.linalg.pinv(now.c, hermitian=True) @ now.up
    slope = (direction * now.up).sum((-2, -1))
    rounding = 64 * torch.finfo(slope.dtype).eps * now.value.abs()
    while True:
        trial = encoders[mu] + step[..., None, None] * direction
        then = block(terms, [*encoders[:mu], trial, *encoders[mu + 1 :]], mu, rho)
        bend = slope - (direction * then.up).sum((-2, -1))  # step times the curvature of L_M along the direction
        falls = (bend <= 1.99 * slope) & (then.value <= now.value + rounding)
        stuck = ~(step * rho >= 1e-12)  # too short, or not a number
        if (falls | stuck).all():
            best = step * slope / bend.clamp(min=torch.finfo(slope.dtype).tiny)
            return trial.where(falls[..., None, None], encoders[mu]), best.clamp(1e-6 / rho, 1 / rho)
        step = step.where(falls, step / 2)


def extrapolate(
    terms: Terms, before: list[Tensor], now: list[Tensor], rho: float, reach: Tensor
) -> tuple[list[Tensor], Tensor]:
    """The last sweep once more, ``reach`` times as far, where L_M falls by it; then the next may reach further."""
    trial = [g + reach[..., None, None] * (g - old) for g, old in zip(now, before, strict=True)]
    falls = total(blocks(terms, trial, rho)) < total(blocks(terms, now, rho))
    chosen = [a.where(falls[..., None, None], b) for a, b in zip(trial, now, strict=True)]
    return chosen, torch.where(falls, 1.5 * reach, 0.5)


def spectral_start(terms: Terms, views: Sequence[Tensor], rank: int, rho: float) -> list[Tensor]:
    """Leading eigenvectors of the symmetric block matrix of the S_{mu,mu'}, scaled as for two modalities."""
    zero = [x.new_zeros(*x.shape[:-2], rank, x.shape[-1]) for x in views]
    blank = [x.new_zeros(*x.shape[:-2], x.shape[-1], x.shape[-1]) for x in views]
    indices = range(len(views))
    s = [[blank[a] if a == b else terms[a, b](zero[a], zero[b])[1] for b in indices] for a in indices]
    values, vectors = torch.linalg.eigh(torch.cat([torch.cat(row, -1) for row in s], -2))
    top = vectors[..., -rank:] * (2 * values[..., -rank:].clamp(min=0) / (rho * (len(views) - 1))).sqrt().unsqueeze(-2)
    return [g.mT for g in top.flip(-1).split([x.shape[-1] for x in views], -2)]


def pair_terms(views: Sequence[Tensor], loss: ContrastiveLoss) -> Terms:
    """For every ordered pair of modalities, l(s) and S as functions of the two encoders."""

    def of(x: Tensor, x_tilde: Tensor) -> PairTerms:
        if isinstance(loss, Linear):  # S is one matrix for all encoders, and l = -tr(G S G'^T)
            s = linear_covariance(x, x_tilde, loss)
            return lambda g1, g2: (-(s * (g1.mT @ g2)).sum((-2, -1)), s)
        return lambda g1, g2: evaluate(x, x_tilde, g1, g2, loss)

    return {(a, b): of(x, y) for a, x in enumerate(views) for b, y in enumerate(views) if a != b}


def blocks(terms: Terms, encoders: Sequence[Tensor], rho: float) -> list[Block]:
    return [block(terms, encoders, mu, rho) for mu in range(len(encoders))]


def total(parts: Sequence[Block]) -> Tensor:
    """L_M: every pair stands in two blocks."""
    return torch.stack([part.value for part in parts]).sum(0) / 2
