"""Loss to SVD: the objective, its closed form (Lemma 2.1), and the fits (Sections 2 and 7.3)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcl._checks import (
    as_encoders,
    as_generator,
    as_pairs,
    at_least,
    no_less_than,
    paired,
    per_entry,
    positive,
    rank_at_most,
    with_encoders,
)
from mmcl._descent import descend
from mmcl.covariance import balanced_factors, evaluate, linear_covariance, truncated_svd
from mmcl.losses import CLIP, ContrastiveLoss, Linear, resolve


@dataclass(frozen=True)
class Fit:
    """Encoders fitted to pairs, with M = g1^T g2.

    Attributes:
        g1, g2: (..., rank, d1) and (..., rank, d2), balanced: g1 g1^T = g2 g2^T, diagonal, decreasing.
        loss: (...,) the loss with its penalty, L = l + rho/2 ||M||_F^2, at the encoders.
        steps: SVD steps taken (0 for the linear loss).
        converged: (...,) bool, whether the tolerance was met.
        history: (steps + 1, ...) L before the first step and after each, to single precision but for the first and
            the last ones.
    """

    g1: Tensor
    g2: Tensor
    loss: Tensor
    steps: int
    converged: Tensor
    history: Tensor


def svd_objective(g1: Tensor, g2: Tensor, a: Tensor, rho: float = 1.0) -> Tensor:
    """tr(G1 A G2^T) - rho/2 ||G1^T G2||_F^2, the objective of Lemma 2.1, which `closed_form` maximises.

    Args:
        g1, g2: (..., r, d1), (..., r, d2) encoders.
        a: (..., d1, d2).
        rho: weight of the penalty.

    Returns:
        (...,), at most sum_{k<=r} c_k^2 / (2 rho) with c_k the singular values of A.

    Example:
        >>> svd_objective(torch.eye(2), torch.eye(2), torch.diag(torch.tensor([3.0, 1.0])))
        tensor(3.)
    """
    a, g1, g2 = with_encoders("a", a, g1, g2)
    no_less_than(0, rho=rho)
    m = g1.mT @ g2
    return (a * m).sum((-2, -1)) - rho / 2 * m.square().sum((-2, -1))


def fit(
    x: Tensor,
    x_tilde: Tensor,
    rank: int,
    loss: str | ContrastiveLoss = "linear",
    rho: float = 1.0,
    tol: float = 1e-8,
    max_steps: int = 500,
    progress: bool = False,
) -> Fit:
    """Encoders that minimise L = l(x g1^T g2 x_tilde^T) + rho/2 ||g1^T g2||_F^2, by singular value decompositions.

    The linear loss is one pass and one SVD: M = SVD_r(S)/rho. Any other loss is minimised over M = g1^T g2 by SVDs:
    the first is of the contrastive cross-covariance at M = 0, the others are `projected_step` with a curvature in place
    of the step: that at M = 0 in closed form, which L-BFGS corrects on the way. Backtracking guarantees that L falls.
    Far from the end similarities are computed in single precision, which is as good there and twice as fast.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs, torch or numpy; each batch entry is fitted on its own.
        rank: encoder dimension r, 1 to min(d1, d2).
        loss: a name in `mmcl.losses.LOSSES` or a loss object, such as ``LOSSES["clip"](tau=0.5)``.
        rho: weight of the penalty, > 0.
        tol: converged when the gradient of L along the matrices of rank r, ||P_T(rho M - S)||_F, is at most
            tol ||P_T(S)||_F. The loss is then correct to about tol^2 relative. Below 64 eps of the dtype (8e-6 in
            float32) the gradient is rounding error, so that is the least that is asked for.
        max_steps: steps at most, for the losses that iterate.
        progress: show a progress bar on stderr.

    Returns:
        Fit, with balanced encoders.

    Raises:
        ValueError: for bad data, rank, rho, tol or loss; the message says what is allowed.

    Reference: PMLR 206:4348, Proposition 2.1, Remark 2.1 and Lemma 2.1.

    Example:
        >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> found = fit(x, x[:, :3], 2, "clip")
        >>> bool(found.converged), tuple(found.g1.shape), tuple(found.g2.shape)
        (True, (2, 4), (2, 3))
    """
    x, x_tilde = as_pairs(x, x_tilde)
    rank = rank_at_most(rank, x.shape[-1], x_tilde.shape[-1])
    positive(rho=rho, tol=tol)
    at_least(1, max_steps=max_steps)
    loss = resolve(loss)
    if isinstance(loss, Linear):
        return closed_form(linear_covariance(x, x_tilde, loss), rank, rho)
    tol = max(tol, 64 * torch.finfo(x.dtype).eps)
    svd, value, converged, history = descend(*paired(x, x_tilde), rank, loss, rho, tol, max_steps, progress)
    return Fit(*balanced_factors(*svd), value, len(history) - 1, converged, history)


def closed_form(covariance: Tensor, rank: int, rho: float = 1.0) -> Fit:
    """Lemma 2.1: the `Fit` with M = SVD_r(S)/rho, S (..., d1, d2); its loss is -1/(2 rho) sum_{k<=r} sigma_k^2.

    Example:
        >>> found = closed_form(torch.diag(torch.tensor([3.0, 2.0, 1.0])), 2, rho=0.5)
        >>> (found.g1.mT @ found.g2).diagonal(), found.loss
        (tensor([6.0000, 4.0000, 0.0000]), tensor(-13.))
    """
    positive(rho=rho)
    u, s, v = truncated_svd(covariance, rank)
    value = -s.square().sum(-1) / (2 * rho)
    done = torch.ones_like(value, dtype=torch.bool)
    return Fit(*balanced_factors(u, s / rho, v), value, 0, done, value.unsqueeze(0))


def algorithm_4(x: Tensor, x_tilde: Tensor, g1: Tensor, g2: Tensor, rank: int, tau: float, nu: float) -> Fit:
    """Algorithm 4: the weights (7.3) of InfoNCE from initial encoders, then one SVD of the S they give.

    S = 1/n sum_i beta_i x_i x~_i^T - 1/n sum_{i!=j} beta_ij x_i x~_j^T, beta_i = nu - (P_ii + Q_ii)/2 and
    beta_ij = (P_ij + Q_ij)/2, P and Q the row and column softmax of <g1 x_i, g2 x~_j>/tau. No n x n matrix is kept.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs, centred beforehand if their means are not zero.
        g1, g2: (..., r, d1), (..., r, d2) initial encoders, r not necessarily ``rank``.
        rank: rank of the new encoders, 1 to min(d1, d2).
        tau: temperature, > 0.
        nu: weight of the observed pairs, >= 1; Theorem 7.1 asks for 1.1/eta, eta the share of right pairs.

    Returns:
        `Fit` with g1^T g2 = SVD_r(S); its loss is minus the SVD objective of S at rho = 1.

    Raises:
        ValueError: for bad data, encoders, rank, tau or nu.

    Reference: PMLR 206:4348, Section 7.3, Algorithm 4, Lemma 7.2 and Theorem 7.1.

    Example:
        >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        >>> first = fit(x, x, 2)
        >>> algorithm_4(x, x, first.g1, first.g2, 2, tau=1.0, nu=2.0).g1.shape
        torch.Size([2, 4])
    """
    x, x_tilde = paired(x, x_tilde)
    g1, g2 = as_encoders(x, x_tilde, g1, g2)
    rank = rank_at_most(rank, x.shape[-1], x_tilde.shape[-1])
    _, covariance = evaluate(x, x_tilde, g1, g2, CLIP(tau=tau, nu=nu))
    return closed_form(covariance, rank)


def projected_step(
    x: Tensor, x_tilde: Tensor, g1: Tensor, g2: Tensor, loss: str | ContrastiveLoss, rho: float, step: float | Tensor
) -> tuple[Tensor, Tensor]:
    """One gradient step in M = g1^T g2, kept at its rank: M+ = SVD_r((1 - step rho) M + step S(beta(M))).

    With step = 1/rho it is SVD_r(S(beta(M)))/rho, the singular value decomposition of the contrastive
    cross-covariance. It converges near a minimiser where step (rho + `curvature`) < 2 and oscillates beyond.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs.
        g1, g2: (..., r, d1), (..., r, d2) encoders.
        loss: a name in `mmcl.losses.LOSSES` or a loss object.
        rho: weight of the penalty.
        step: step length in M, >= 0; one number, or (..., 1, 1) with one for each batch entry.

    Returns:
        g1, g2 after the step, balanced.

    Raises:
        ValueError: for bad data, encoders, loss or numbers.

    Example:
        >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> g1, g2 = projected_step(x, x, torch.eye(4)[:2].double(), torch.eye(4)[:2].double(), "linear", 1.0, 1.0)
        >>> best = fit(x, x, 2)
        >>> bool(torch.allclose(g1.mT @ g2, best.g1.mT @ best.g2))
        True
    """
    x, x_tilde = paired(x, x_tilde)
    g1, g2 = as_encoders(x, x_tilde, g1, g2)
    penalty, length = (a.to(x) for a in per_entry(0, rho=rho, step=step))
    _, covariance = evaluate(x, x_tilde, g1, g2, resolve(loss))
    return balanced_factors(*truncated_svd((1 - length * penalty) * g1.mT @ g2 + length * covariance, g1.shape[-2]))


def curvature(
    x: Tensor,
    x_tilde: Tensor,
    g1: Tensor,
    g2: Tensor,
    loss: str | ContrastiveLoss,
    steps: int = 40,
    seed: int | torch.Generator = 0,
) -> float:
    """Largest second derivative of l in M = g1^T g2 along unit directions tangent to the matrices of its rank.

    Power iteration on D -> P_T(-dS(beta(M))[D]), with central differences of S and P_T the tangent projection.

    Args:
        x, x_tilde, g1, g2, loss: as for `projected_step`, without batch dimensions.
        steps: power iterations.
        seed: int or `torch.Generator` of the first direction.

    Returns:
        float, in the units of rho; 0 for the linear loss, whose S does not depend on M.

    Raises:
        ValueError: for bad data, encoders, loss or numbers.
    """
    x, x_tilde = paired(x, x_tilde)
    g1, g2 = as_encoders(x, x_tilde, g1, g2)
    at_least(1, steps=steps)
    if x.ndim > 2 or g1.ndim > 2 or g2.ndim > 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; the curvature is taken of one data set and pair of encoders")
    positive(**{"|G1^T G2|": (m := g1.mT @ g2).norm()})
    (u, _, v), identity = truncated_svd(m, g1.shape[-2]), torch.eye(len(m)).to(m)
    direction = torch.randn(m.shape, generator=as_generator(seed), dtype=m.dtype).to(m.device)
    length, loss = 1e-4 * m.norm(), resolve(loss)

    def covariance(at: Tensor) -> Tensor:
        return evaluate(x, x_tilde, identity, at, loss)[1]

    def tangent(a: Tensor) -> Tensor:
        off = a - u @ (u.mT @ a)
        return a - off + off @ v @ v.mT

    for _ in range(steps):
        unit = F.normalize(tangent(direction).flatten(), dim=0).view_as(m)  # 0 of 0
        direction = (covariance(m - length * unit) - covariance(m + length * unit)) / (2 * length)
    return float((unit * direction).sum())
