"""The parts of `mmcl.covariance.truncated_svd`, for loops."""

import torch
from torch import Tensor


def leading_triples(a: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """u (..., d1, rank), s (..., rank), v (..., d2, rank) of `truncated_svd` but for the signs, of what is checked."""
    u, s, vh = torch.linalg.svd(a, full_matrices=False)
    u, s, v = u[..., :rank], s[..., :rank], vh.mT[..., :rank]
    return u, s.where(s > max(a.shape[-2:]) * torch.finfo(s.dtype).eps * s[..., :1], 0), v


def with_signs(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the entry of largest modulus in each column of u made positive, which changes no u diag(s) v^T."""
    sign = u.gather(-2, u.abs().argmax(-2, keepdim=True)).sign()
    return u * sign, v * sign
