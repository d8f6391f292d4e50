"""Loss to SVD: cross-covariances, the one SVD helper, and the fits (paper, Section 2)."""

from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from mmcl._checks import all_finite, as_rows, at_least, paired, positive, rank_at_most
from mmcl.losses import BLOCK, Linear, loss_and_covariance, resolve


def cross_covariance(x, x_tilde, weights=None):
    """Contrastive cross-covariance S(W) = 1/n x^T W x_tilde, the matrix a contrastive gradient step decomposes.

    Args:
        x: (..., n, d1) first modality, rows are samples.
        x_tilde: (..., n, d2) second modality, row i paired with row i of ``x``.
        weights: (..., n, n) W = -n dl/ds: positive where a pair is pulled together, negative where rows are pushed
            apart. None means the linear loss, for which S is the unbiased (n - 1) sample cross-covariance whatever
            the encoders are; then no n x n matrix and no centred copy of the data is made.

    Returns:
        (..., d1, d2) in the common dtype of the data.

    Raises:
        ValueError: if row counts or batch dimensions differ, n < 2, a value is not finite, or W is not (..., n, n).

    Reference: arXiv 2302.06232, Section 2; notebook 01, sections 1 and 2.
    """
    x, x_tilde = paired(x, x_tilde)
    n = x.shape[-2]
    if weights is None:
        return _centred_product(x, x_tilde) / (n - 1)
    weights = torch.as_tensor(weights, dtype=x.dtype)
    if weights.shape[-2:] != (n, n):
        raise ValueError(f"weights have shape {tuple(weights.shape)}; W is (..., n, n) with n = {n} pairs")
    return x.mT @ (weights @ x_tilde) / n


def _centred_product(x, x_tilde):
    """sum_i (x_i - mean x)(x~_i - mean x~)^T, centred block by block."""
    n, means = x.shape[-2], [a.mean(-2, keepdim=True) for a in (x, x_tilde)]
    size = max(1, BLOCK // 4 * n // x.numel())  # 2 MB: a block that stays in the cache costs next to nothing
    total = 0
    for start in range(0, n, size):
        block, block_tilde = (a[..., start : start + size, :] - m for a, m in zip((x, x_tilde), means, strict=True))
        total = total + block.mT @ block_tilde
    return total


def whitening(x, ridge=0.0):
    """(Cov(x) + ridge I)^(-1/2), the symmetric matrix that gives (x - mean) unit covariance when ridge is 0.

    Args:
        x: (..., n, d) rows are samples.
        ridge: added to every variance, >= 0, in the squared units of x; needed when n <= d.

    Returns:
        (..., d, d). Fitting MMCL with the linear loss to two whitened views is canonical correlation analysis.

    Raises:
        ValueError: if x is not finite or Cov(x) + ridge I is numerically singular.
    """
    x = all_finite("x", as_rows("x", x))
    values, vectors = torch.linalg.eigh(cross_covariance(x, x))
    values = values + ridge
    if ridge < 0 or bool((values[..., 0] <= x.shape[-1] * torch.finfo(x.dtype).eps * values[..., -1]).any()):
        raise ValueError(f"Cov(x) + ridge I is singular with ridge = {ridge}; use a larger ridge")
    return (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT


def truncated_svd(a, rank):
    """Leading singular triples of A: A is approximated best, among matrices of this rank, by u diag(s) v^T.

    Args:
        a: (..., d1, d2).
        rank: number of triples, 1 to min(d1, d2).

    Returns:
        u (..., d1, rank), s (..., rank) decreasing, v (..., d2, rank). Singular values below the rounding error
        max(d1, d2) eps s_1 are set to 0. The entry of largest modulus in each column of u is positive, which makes
        the triples unique unless singular values repeat.

    Raises:
        ValueError: if the rank is out of range or A is not finite.
    """
    a = torch.as_tensor(a)
    rank = rank_at_most(rank, *a.shape[-2:])
    u, s, vh = torch.linalg.svd(all_finite("a", a), full_matrices=False)
    u, s, v = u[..., :rank], s[..., :rank], vh.mT[..., :rank]
    s = s.where(s > max(a.shape[-2:]) * torch.finfo(s.dtype).eps * s[..., :1], 0)
    sign = u.gather(-2, u.abs().argmax(-2, keepdim=True)).sign()
    return u * sign, s, v * sign


def balanced_factors(u, s, v):
    """Encoders g1 = s^(1/2) u^T, g2 = s^(1/2) v^T of M = u diag(s) v^T, for which g1 g1^T = g2 g2^T."""
    root = s.sqrt().unsqueeze(-1)
    return root * u.mT, root * v.mT


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
        return closed_form(cross_covariance(x, x_tilde), rank, rho)
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
