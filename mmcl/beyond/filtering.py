"""Beyond the paper: drop the pairs that a first fit does not believe, and fit again."""

import math
from dataclasses import dataclass

import torch

from mmcl._checks import paired, rank_at_most
from mmcl.covariance import BLOCK, balanced_factors, truncated_svd


@dataclass(frozen=True)
class FilteredFit:
    """Encoders fitted to the pairs that were kept.

    Attributes:
        g1, g2: (..., rank, d1), (..., rank, d2) balanced encoders, as of `mmcl.spectral.fit` with rho = 1.
        kept: (..., n) bool, the pairs that the teacher of the other half believed.
    """

    g1: torch.Tensor
    g2: torch.Tensor
    kept: torch.Tensor


def filtered_fit(x, x_tilde, rank, threshold=0.5):
    """MMCL with the linear loss on those pairs that a teacher, fitted to the other half of the pairs, believes.

    Each half of the pairs has its teacher, G1 = U^T and G2 = V^T of the SVD of its cross-covariance. A pair is kept
    if its score <G1 (x - mean), G2 (x_tilde - mean)> under the teacher of the other half exceeds
    threshold * sqrt(E|G1 (x - mean)|^2 E|G2 (x_tilde - mean)|^2), a share of the mean score that perfectly correlated
    pairs would have. The encoders are the SVD of the cross-covariance of all kept pairs. No knowledge of the wrong
    pairs, nor of their share, goes in.

    The rows are read in blocks, each converted to float64 for as long as it is used, in two passes: float32 or
    memory-mapped arrays of any length need O(block) memory beside themselves and the n bits of ``kept``.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs, n >= 4, in random order: the first n // 2 are one half.
        rank: encoder dimension r, 1 to min(d1, d2).
        threshold: 0 keeps every positive score; 0.5 the scores nearer to those of right pairs than to the mean 0 of
            wrong ones; -inf keeps all pairs, and the result is `mmcl.spectral.fit`.

    Returns:
        FilteredFit, float64.

    Raises:
        ValueError: for bad data or rank, n < 4, a threshold that is NaN or keeps fewer than 2 pairs.

    Reference: Pareek, Oh, Du, Understanding the Gain from Data Filtering in Multimodal Contrastive Learning, NeurIPS
    2025 (one split, teacher and student); notebook 02, section 6.
    """
    x, x_tilde = paired(x, x_tilde)
    n, d1 = x.shape[-2:]
    rank = rank_at_most(rank, d1, x_tilde.shape[-1])
    if n < 4:
        raise ValueError(f"n = {n} pairs; each half needs at least 2, so give 4 or more")
    if math.isnan(threshold):
        raise ValueError("threshold is NaN; use a number such as 0 or 0.5, or -inf to keep all pairs")
    halves = range(n // 2), range(n // 2, n)
    shift = [a[..., : min(n, 1000), :].double().mean(-2, keepdim=True) for a in (x, x_tilde)]
    teachers = [_teacher(_gram(x, x_tilde, half, shift), d1, rank, threshold) for half in halves]
    kept = torch.empty(x.shape[:-1], dtype=torch.bool, device=x.device)
    gram = sum(
        _gram(x, x_tilde, half, shift, teacher, kept) for half, teacher in zip(halves, teachers[::-1], strict=True)
    )
    if bool((fewest := gram[..., 0, 0].min()) < 2):
        raise ValueError(f"threshold = {threshold} keeps {int(fewest)} of {n} pairs; lower it")
    g1, g2 = balanced_factors(*truncated_svd(_moments(gram)[1][..., :d1, d1:], rank))
    return FilteredFit(g1, g2, kept)


def _gram(x, x_tilde, rows, shift, teacher=None, kept=None):
    """Sum of c c^T, c = (1, x - shift, x_tilde - shift), over ``rows``, or over those the teacher keeps."""
    d1 = x.shape[-1]
    size = max(1, BLOCK * x.shape[-2] // (x.numel() + x_tilde.numel()))
    total = 0
    for start in range(rows.start, rows.stop, size):
        block = slice(start, min(start + size, rows.stop))
        a, b = (data[..., block, :].double() - s for data, s in zip((x, x_tilde), shift, strict=True))
        c = torch.cat([torch.ones_like(a[..., :1]), a, b], -1)
        if teacher is None:
            total = total + c.mT @ c
            continue
        mean, u, v, threshold = teacher
        score = (((a - mean[..., :d1]) @ u) * ((b - mean[..., d1:]) @ v)).sum(-1)
        kept[..., block] = score > threshold.unsqueeze(-1)
        total = total + (c * kept[..., block].unsqueeze(-1)).mT @ c
    return total


def _moments(gram):
    """Mean (..., 1, d1 + d2), relative to the shift, and joint covariance (n - 1) of what was summed."""
    count, total = gram[..., :1, :1], gram[..., :1, 1:]
    mean = total / count
    return mean, (gram[..., 1:, 1:] - mean.mT @ total) / (count - 1)


def _teacher(gram, d1, rank, threshold):
    mean, covariance = _moments(gram)
    u, _, v = truncated_svd(covariance[..., :d1, d1:], rank)
    scale = (u * (covariance[..., :d1, :d1] @ u)).sum((-2, -1)) * (v * (covariance[..., d1:, d1:] @ v)).sum((-2, -1))
    return mean, u, v, threshold * scale.sqrt()
