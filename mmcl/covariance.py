"""The contrastive cross-covariance S(beta): from weights, at encoders, and its singular vectors (Section 2)."""

import math

import torch
from torch import Tensor

from mmcl._blocks import BLOCK, row_blocks
from mmcl._checks import (
    alike,
    all_finite,
    as_encoders,
    as_pairs,
    as_rows,
    as_tensor,
    finite_rows,
    no_less_than,
    paired,
    rank_at_most,
    shown,
    within,
)
from mmcl._svd import leading_triples, with_signs
from mmcl._weigh import weigh
from mmcl.losses import ContrastiveLoss, Linear, resolve


def loss_and_covariance(
    x: Tensor, x_tilde: Tensor, g1: Tensor, g2: Tensor, loss: str | ContrastiveLoss
) -> tuple[Tensor, Tensor]:
    """Value l (without penalty) and contrastive cross-covariance S(beta) at the encoders.

    The n x n similarities are kept only while they are small and walked in blocks of rows otherwise: O(n^2 (r + d))
    time, and beside the data no more memory than a copy of x_tilde.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs.
        g1, g2: (..., r, d1), (..., r, d2) encoders.
        loss: a name in `mmcl.losses.LOSSES` or a loss object.

    Returns:
        l (...,) and S (..., d1, d2); dL/dM = rho M - S, dL/dg1 = g2 (rho M - S)^T, dL/dg2 = g1 (rho M - S).

    Raises:
        ValueError: for bad pairs, encoders or loss.

    Reference: PMLR 206:4348, Proposition 2.1 and 8.1.

    Example:
        >>> value, s = loss_and_covariance(torch.eye(2), torch.eye(2), torch.eye(2), torch.eye(2), "clip")
        >>> round(float(value), 4), s.shape
        (0.3133, torch.Size([2, 2]))
    """
    x, x_tilde = paired(x, x_tilde)
    return evaluate(x, x_tilde, *as_encoders(x, x_tilde, g1, g2), resolve(loss))


def evaluate(x: Tensor, x_tilde: Tensor, g1: Tensor, g2: Tensor, loss: ContrastiveLoss) -> tuple[Tensor, Tensor]:
    """`loss_and_covariance` of what has been checked, for loops.

    Example:
        >>> value, s = evaluate(torch.eye(2), torch.eye(2), torch.eye(2), torch.eye(2), resolve("linear"))
        >>> float(value)
        -1.0
    """
    value, pulled, _ = weigh(x @ g1.mT, x_tilde @ g2.mT, loss, x_tilde, x[..., :0])
    return value, x.mT @ pulled / x.shape[-2]


def cross_covariance(x: Tensor, x_tilde: Tensor, weights: Tensor | None = None) -> Tensor:
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

    Reference: PMLR 206:4348, Proposition 2.1 and Remark 2.1.

    Example:
        >>> cross_covariance(torch.eye(3), torch.eye(3)).diagonal()
        tensor([0.3333, 0.3333, 0.3333])
    """
    x, x_tilde = as_pairs(x, x_tilde)
    n = x.shape[-2]
    if weights is None:
        product = _centred_product(x, x_tilde)
        if not bool(product.isfinite().all()):  # each value has a part in it, which saves a pass over the data
            all_finite("x", x), all_finite("x_tilde", x_tilde)
            raise ValueError("x and x_tilde hold numbers so large that their products overflow; scale them down")
        return product / (n - 1)
    all_finite("x", x), all_finite("x_tilde", x_tilde)
    weights = all_finite("weights", as_tensor("weights", weights).to(x))
    if weights.shape[-2:] != (n, n):
        raise ValueError(f"weights have shape {tuple(weights.shape)}; W is (..., n, n) with n = {n} pairs")
    return x.mT @ (weights @ x_tilde) / n


def linear_covariance(x: Tensor, x_tilde: Tensor, loss: Linear) -> Tensor:
    """S(beta) of the linear loss, whatever the encoders: (..., d1, d2).

    At nu = 1 it is the sample cross-covariance (Remark 2.1); nu > 1 adds `Linear.surplus` times 1/n sum_i x_i x~_i^T.

    Example:
        >>> linear_covariance(torch.eye(3), torch.eye(3), Linear(nu=2.0)).diagonal()
        tensor([0.6667, 0.6667, 0.6667])
    """
    if not isinstance(loss, Linear):
        raise ValueError(f"loss = {shown(loss)}; give a loss of mmcl.losses.Linear")
    centred = cross_covariance(x, x_tilde)
    if loss.nu == 1:
        return centred
    x, x_tilde = as_tensor("x", x).to(centred), as_tensor("x_tilde", x_tilde).to(centred)
    return centred + loss.surplus(x.shape[-2]) * x.mT @ x_tilde / x.shape[-2]


def _centred_product(x: Tensor, x_tilde: Tensor) -> Tensor:
    """sum_i (x_i - mean x)(x~_i - mean x~)^T in one pass: for any c and c~ it is

        sum_i (x_i - c)(x~_i - c~)^T - n (mean x - c)(mean x~ - c~)^T.

    With c and c~ the means of a few rows spread over all, the second term is small, so no digits are lost in it.
    """
    n, views = x.shape[-2], [a.reshape(-1, *a.shape[-2:]) for a in (x, x_tilde)]
    few = torch.linspace(0, n - 1, min(n, 64)).long()
    near = [a[:, few].mean(1, keepdim=True) for a in views]
    total, sums = x.new_zeros(len(views[0]), x.shape[-1], x_tilde.shape[-1]), [torch.zeros_like(c) for c in near]
    for here in row_blocks(n, x.numel() // n, BLOCK // 16):  # half a megabyte, which stays in the cache
        a, b = (view[:, here] - c for view, c in zip(views, near, strict=True))
        total.baddbmm_(a.mT, b)
        for s, block in zip(sums, (a, b), strict=True):
            s.baddbmm_(a.new_ones(len(a), 1, a.shape[1]), block)  # a product is twice as fast as a sum
    return (total - sums[0].mT @ sums[1] / n).view(*x.shape[:-2], *total.shape[1:])


def whitening(x: Tensor, ridge: float = 0.0) -> Tensor:
    """(Cov(x) + ridge I)^(-1/2), the symmetric matrix that gives (x - mean) unit covariance when ridge is 0.

    Args:
        x: (..., n, d) rows are samples.
        ridge: added to every variance, >= 0, in the squared units of x; needed when n <= d.

    Returns:
        (..., d, d). Fitting MMCL with the linear loss to two whitened views is canonical correlation analysis.

    Raises:
        ValueError: if x is not finite or Cov(x) + ridge I is numerically singular.

    Example:
        >>> whitening(2 * torch.eye(2)[[0, 1, 0, 1]], ridge=1.0).round(decimals=3)
        tensor([[0.7610, 0.2390],
                [0.2390, 0.7610]])
    """
    x = as_rows("x", x)
    no_less_than(0, ridge=ridge)
    values, vectors = torch.linalg.eigh(cross_covariance(x, x))
    values = values + ridge
    if bool((values[..., 0] <= x.shape[-1] * torch.finfo(x.dtype).eps * values[..., -1]).any()):
        raise ValueError(f"Cov(x) + ridge I is singular with ridge = {ridge}; use a larger ridge")
    return (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT


def truncated_svd(a: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
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

    Example:
        >>> truncated_svd(torch.diag(torch.tensor([1.0, -3.0])), 1)[1]
        tensor([3.])
    """
    a = finite_rows("a", a)
    rank = rank_at_most(rank, *a.shape[-2:])
    u, s, v = leading_triples(a, rank)
    u, v = with_signs(u, v)
    return u, s, v


def balanced_factors(u: Tensor, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Encoders g1 = s^(1/2) u^T, g2 = s^(1/2) v^T of M = u diag(s) v^T, for which g1 g1^T = g2 g2^T.

    Example:
        >>> g1, g2 = balanced_factors(*truncated_svd(torch.diag(torch.tensor([4.0, 1.0])), 2))
        >>> g1.mT @ g2
        tensor([[4., 0.],
                [0., 1.]])
    """
    u, v = alike(u=u, v=v)
    s = within(0, math.inf, "s", s).to(u)
    if not u.shape[-1:] == v.shape[-1:] == s.shape[-1:]:
        shapes = f"u, s, v have shapes {tuple(u.shape)}, {tuple(s.shape)}, {tuple(v.shape)}"
        raise ValueError(f"{shapes}; give (..., d1, r), (..., r), (..., d2, r), as of truncated_svd")
    root = s.sqrt().unsqueeze(-1)
    return root * u.mT, root * v.mT
