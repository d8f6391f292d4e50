"""Loss to SVD: cross-covariances, the one SVD helper, and the fits (paper, Section 2)."""

from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from mmcl._checks import as_generator, at_least, paired, positive, rank_at_most
from mmcl.covariance import balanced_factors, cross_covariance, loss_and_covariance, truncated_svd
from mmcl.losses import Linear, resolve


@dataclass(frozen=True)
class Fit:
    """Encoders fitted to pairs, with M = g1^T g2.

    Attributes:
        g1, g2: (..., rank, d1) and (..., rank, d2), balanced: g1 g1^T = g2 g2^T, diagonal, decreasing.
        loss: (...,) the loss with its penalty, L = l + rho/2 ||M||_F^2, at the encoders.
        steps: projected gradient steps taken (0 for the linear loss).
        converged: (...,) bool, whether the tolerance was met.
        history: (steps + 1, ...) L before the first step and after each.
    """

    g1: torch.Tensor
    g2: torch.Tensor
    loss: torch.Tensor
    steps: int
    converged: torch.Tensor
    history: torch.Tensor


def fit(x, x_tilde, rank, loss="linear", rho=1.0, tol=1e-8, max_steps=500, progress=False):
    """Encoders that minimise L = l(x g1^T g2 x_tilde^T) + rho/2 ||g1^T g2||_F^2, by singular value decompositions.

    The linear loss is one pass and one SVD: M = SVD_r(S)/rho. Any other loss is minimised over M = g1^T g2 by
    projected gradient steps M+ = SVD_r((1 - eta rho) M + eta S(beta(M))) from M = 0: eta = 1/rho, the exact SVD of
    the contrastive cross-covariance, is the longest step tried; a Barzilai-Borwein length proposes the others and
    backtracking guarantees that L falls.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs, torch or numpy; each batch entry is fitted on its own.
        rank: encoder dimension r, 1 to min(d1, d2).
        loss: a name in `mmcl.losses.LOSSES` or a loss object, such as ``LOSSES["clip"](tau=0.5)``.
        rho: weight of the penalty, > 0.
        tol: converged when the gradient of L along the matrices of rank r, ||P_T(rho M - S)||_F, is at most
            tol ||S||_F. The loss is then correct to about tol^2 relative.
        max_steps: gradient steps at most, for the losses that iterate.
        progress: show a progress bar on stderr.

    Returns:
        Fit, with balanced encoders.

    Raises:
        ValueError: for bad data, rank, rho, tol or loss; the message says what is allowed.

    Reference: arXiv 2302.06232, Lemma 2.1 and Section 2; notebook 01, sections 2 to 5.
    """
    x, x_tilde = paired(x, x_tilde)
    rank = rank_at_most(rank, x.shape[-1], x_tilde.shape[-1])
    positive(rho=rho, tol=tol)
    at_least(1, max_steps=max_steps)
    loss = resolve(loss)
    if isinstance(loss, Linear):
        covariance = cross_covariance(x, x_tilde)
        if loss.nu > 1:
            covariance = covariance + loss.surplus(x.shape[-2]) * x.mT @ x_tilde / x.shape[-2]
        return closed_form(covariance, rank, rho)
    return _descend(x, x_tilde, rank, loss, rho, tol, max_steps, progress)


def closed_form(covariance, rank, rho=1.0):
    """Lemma 2.1: the `Fit` with M = SVD_r(S)/rho, S (..., d1, d2); its loss is -1/(2 rho) sum_{k<=r} sigma_k^2."""
    u, s, v = truncated_svd(covariance, rank)
    value = -s.square().sum(-1) / (2 * rho)
    done = torch.ones_like(value, dtype=torch.bool)
    return Fit(*balanced_factors(u, s / rho, v), value, 0, done, value.unsqueeze(0))


def _descend(x, x_tilde, rank, loss, rho, tol, max_steps, progress):
    """Projected gradient with Barzilai-Borwein lengths, all batch entries at once; a converged entry stands still."""

    def at(u, s, v):
        g1, g2 = balanced_factors(u, s, v)
        value, covariance = loss_and_covariance(x, x_tilde, g1, g2, loss)
        m = g1.mT @ g2
        return (u, s, v, m, rho * m - covariance, value + rho / 2 * s.square().sum(-1))

    def norm2(a):
        return a.square().sum((-2, -1))

    def column(per_entry):
        return per_entry[..., None, None]

    zero = torch.zeros(*x.shape[:-2], x.shape[-1], x_tilde.shape[-1], dtype=x.dtype, device=x.device)
    state = at(*truncated_svd(zero, rank))
    eta = torch.full_like(state[-1], 1 / rho)
    converged = torch.zeros_like(eta, dtype=torch.bool)
    done = converged
    history, tiny = [state[-1]], torch.finfo(x.dtype).tiny
    for _ in tqdm(range(max_steps), desc=f"fit {loss!r}", unit="step", disable=not progress):
        _, _, _, m, gradient, value = state
        rounding = 64 * torch.finfo(x.dtype).eps * value.abs()
        while True:
            trial = at(*truncated_svd(m - column(eta) * gradient, rank))
            change = trial[3] - m
            falls = trial[-1] <= value - 1e-4 / (2 * eta) * norm2(change) + rounding
            stuck = eta * rho < 1e-12
            if (falls | done | stuck).all():
                break
            eta = eta.where(falls | done, eta / 2)
        moves = falls & ~done
        state = tuple(
            then.where(moves.view(moves.shape + (1,) * (now.ndim - moves.ndim)), now)
            for now, then in zip(state, trial, strict=True)
        )
        u, s, v, m, new_gradient, value = state
        along = norm2(u.mT @ new_gradient) + norm2(new_gradient @ v) - norm2(u.mT @ new_gradient @ v)
        converged = along <= tol**2 * norm2(rho * m - new_gradient)
        done = done | converged | stuck
        history.append(value)
        if done.all():
            break
        # an entry that did not move has change 0 and no curvature: it must not turn into NaN
        curvature = (change * (new_gradient - gradient)).sum((-2, -1)) / norm2(change).clamp(min=tiny)
        eta = 1 / curvature.clamp(min=rho)
    u, s, v, _, _, value = state
    return Fit(*balanced_factors(u, s, v), value, len(history) - 1, converged, torch.stack(history))


def projected_step(x, x_tilde, g1, g2, loss, rho, eta):
    """One gradient step of length eta in M = g1^T g2, kept at its rank: M+ = SVD_r((1 - eta rho) M + eta S(beta(M))).

    With eta = 1/rho it is SVD_r(S(beta(M)))/rho, the singular value decomposition of the contrastive
    cross-covariance. It converges near a minimiser where eta (rho + `curvature`) < 2 and oscillates beyond.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs.
        g1, g2: (..., r, d1), (..., r, d2) encoders.
        loss: a name in `mmcl.losses.LOSSES` or a loss object.
        rho: weight of the penalty.
        eta: step length in M.

    Returns:
        g1, g2 after the step, balanced.

    Reference: arXiv 2302.06232, Section 2; notebook 01, sections 4 and 5.
    """
    _, covariance = loss_and_covariance(x, x_tilde, g1, g2, loss)
    return balanced_factors(*truncated_svd((1 - eta * rho) * g1.mT @ g2 + eta * covariance, g1.shape[-2]))


def curvature(x, x_tilde, g1, g2, loss, steps=40, seed=0):
    """Largest second derivative of l in M = g1^T g2 along unit directions tangent to the matrices of its rank.

    Power iteration on D -> P_T(-dS(beta(M))[D]), with central differences of S and P_T the tangent projection.

    Args:
        x, x_tilde, g1, g2, loss: as for `projected_step`, without batch dimensions.
        steps: power iterations.
        seed: int or `torch.Generator` of the first direction.

    Returns:
        float, in the units of rho.
    """
    m = g1.mT @ g2
    u, _, v = truncated_svd(m, g1.shape[-2])
    identity = torch.eye(len(m), dtype=m.dtype, device=m.device)
    direction = torch.randn(m.shape, generator=as_generator(seed), dtype=m.dtype).to(m.device)
    length = 1e-4 * m.norm()

    def covariance(at):
        return loss_and_covariance(x, x_tilde, identity, at, loss)[1]

    def tangent(a):
        off = a - u @ (u.mT @ a)
        return a - off + off @ v @ v.mT

    for _ in range(steps):
        unit = tangent(direction) / tangent(direction).norm()
        direction = (covariance(m - length * unit) - covariance(m + length * unit)) / (2 * length)
    return float((unit * direction).sum())
