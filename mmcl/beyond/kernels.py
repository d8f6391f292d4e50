"""Kernel encoders in closed form, and CLIP with any mask of positives.

The named relative is UniCon (Sui, Wang, Do, arXiv 2604.16678): contrastive weights, a kernel for each modality, one
spectral decomposition in place of training, one-to-one or many-to-many. What is here is derived from the gradient
identity of Proposition 2.1, which holds for every loss of the similarities, so for every mask.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmcl._checks import alike, as_tensor, positive, rank_at_most
from mmcl.beyond._shapes import matrix
from mmcl.covariance import balanced_factors, truncated_svd


def masked_clip(s: Tensor, mask: Tensor, tau: float = 1.0) -> Tensor:
    """CLIP's loss when row i has several positives, mask_ij = 1: each row and column picks any of its positives.

        tau/(2n) [ sum_i log( sum_j e^(s_ij/tau) / sum_(j: mask_ij) e^(s_ij/tau) ) + the same over columns ]

    Args:
        s: (n, m) similarities.
        mask: (n, m) bool, at least one positive in each row and column, else ValueError.
        tau: temperature.

    Returns:
        The value; with mask = I it is `mmcl.losses.CLIP`.

    Example:
        >>> s = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> every = torch.ones(2, 2, dtype=torch.bool)
        >>> float(masked_clip(s, every)), masked_clip(s, torch.eye(2) > 0) > 0
        (0.0, tensor(True))
    """
    s, mask = _checked(s, mask, tau)
    some = s.masked_fill(~mask, -torch.inf)
    both = [(s / tau).logsumexp(dim) - (some / tau).logsumexp(dim) for dim in (1, 0)]
    return tau / (2 * len(s)) * (both[0].sum() + both[1].sum())


def masked_clip_weights(s: Tensor, mask: Tensor, tau: float = 1.0) -> Tensor:
    """W = -n dl/ds of `masked_clip`: softmax among the positives minus softmax among all, mean of rows and columns.

    With it the gradient of the loss in the encoders is that of -tr(G1 S G2^T) at S = 1/n x^T W x_tilde held fixed:
    Proposition 2.1, whatever the mask. Rows and columns with one positive have beta = 1 - P there, as CLIP's.

    Example:
        >>> masked_clip_weights(torch.zeros(2, 2), torch.eye(2) > 0).tolist()
        [[0.5, -0.5], [-0.5, 0.5]]
    """
    s, mask = _checked(s, mask, tau)
    some = s.masked_fill(~mask, -torch.inf)
    rows, columns = ((some / tau).softmax(dim) - (s / tau).softmax(dim) for dim in (1, 0))
    return (rows + columns) / 2


def _checked(s: Tensor, mask: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    positive(tau=tau)
    s, given = matrix("s", s), as_tensor("mask", mask)
    mask = (given == 1).to(s.device)
    if given.shape != s.shape or not bool((mask == given.to(s)).all()):
        raise ValueError(f"mask has shape {tuple(given.shape)}; give {tuple(s.shape)} truths, as of the similarities")
    if not bool(mask.any(0).all() and mask.any(1).all()):
        raise ValueError("a row or column has no positive; give each at least one, or leave it out")
    return s, mask


def gaussian_kernel(x: Tensor, landmarks: Tensor, width: float) -> Tensor:
    """k(x, y) = exp(-|x - y|^2/(2 width^2)), (n, p).

    Example:
        >>> gaussian_kernel(torch.zeros(1, 2), torch.zeros(1, 2), width=1.0)
        tensor([[1.]])
    """
    positive(width=width)
    x, landmarks = alike(x=x, landmarks=landmarks)
    if x.shape[-1] != landmarks.shape[-1]:
        raise ValueError(f"x has {x.shape[-1]} columns and landmarks {landmarks.shape[-1]}; give rows of one dimension")
    return torch.exp(-(torch.cdist(x, landmarks) / width).square() / 2)


@dataclass(frozen=True)
class KernelMap:
    """Features (n, p) whose inner products are a Gaussian kernel: exactly on the landmarks, projected elsewhere.

    Attributes:
        landmarks: (p, d) rows, those of the pairs.
        width: of the kernel, in the units of the rows.
        root: (p, p) K^(-1/2) of the kernel of the landmarks, zero where K has no rank.
    """

    landmarks: Tensor
    width: float
    root: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Features of rows (n, d)."""
        return gaussian_kernel(x, self.landmarks, self.width) @ self.root


def kernel_map(x: Tensor, width: float) -> KernelMap:
    """`KernelMap` with the rows x (p, d) as landmarks, with which `mmcl.spectral.fit` is a kernel fit.

    Raises:
        ValueError: for bad rows or width.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        >>> z = kernel_map(x, width=1.0)(x)
        >>> torch.allclose(z @ z.T, gaussian_kernel(x, x, 1.0))
        True
    """
    x = matrix("x", x).double()
    return KernelMap(x, width, _roots(gaussian_kernel(x, x, width))[1])


def _roots(k: Tensor) -> tuple[Tensor, Tensor]:
    """K^(1/2), K^(-1/2) of a symmetric positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh((k + k.mT) / 2)
    values = values.clamp(min=0)
    inverse = torch.where(values > len(k) * torch.finfo(k.dtype).eps * values.max(), values, torch.inf).rsqrt()
    return (vectors * values.sqrt()) @ vectors.mT, (vectors * inverse) @ vectors.mT


def fit_kernel(k: Tensor, k_tilde: Tensor, weights: Tensor, rank: int, rho: float = 1.0) -> tuple[Tensor, Tensor]:
    """Kernel encoders in closed form: coefficients of the maximiser of <M, S(W)> - rho/2 ||M||^2 over rank r.

    In the feature spaces S = 1/n Phi^T W Phi~; since Phi^T K^(-1/2) is an isometry its SVD is that of
    K^(1/2) W K~^(1/2)/n, and M = SVD_r(S)/rho as in Lemma 2.1.

    Args:
        k, k_tilde: (n, n), (m, m) kernels of the rows of either modality.
        weights: (n, m) W = -n dl/ds: of the linear loss of any graph (`mmcl.graph.graph_weights`), or of any loss at
            present similarities.
        rank: r.
        rho: weight of the penalty, > 0.

    Returns:
        a (n, r), b (m, r): the encoders are x -> k(x, X) a and x_tilde -> k(x_tilde, X~) b, balanced.

    Raises:
        ValueError: if the shapes do not fit, or rank or rho is out of range.

    Example:
        >>> x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
        >>> a, b = fit_kernel(x @ x.T, x @ x.T, torch.eye(2).double(), rank=1)
        >>> ((x @ x.T) @ a @ b.T @ (x @ x.T)).round().tolist()  # similarities s_ij = x_i M x_j with M = 1
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    positive(rho=rho)
    k, k_tilde, weights = alike(k=k, k_tilde=k_tilde, weights=weights)
    n, m = matrix("weights", weights).shape
    matrix("k", k, n, n), matrix("k_tilde", k_tilde, m, m)
    rank = rank_at_most(rank, n, m)
    (root, inverse), (root_tilde, inverse_tilde) = _roots(k), _roots(k_tilde)
    u, s, v = truncated_svd(root @ weights @ root_tilde / len(weights), rank)
    g1, g2 = balanced_factors(u, s / rho, v)
    return inverse @ g1.mT, inverse_tilde @ g2.mT
