"""Beyond the paper: drop the pairs that a first fit does not believe, and fit again."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmcl._blocks import BLOCK, row_blocks
from mmcl._checks import at_least, finite, paired, rank_at_most
from mmcl.covariance import balanced_factors, truncated_svd


@dataclass(frozen=True)
class FilteredFit:
    """Encoders fitted to the pairs that were kept.

    Attributes:
        g1, g2: (..., rank, d1), (..., rank, d2) balanced encoders, as of `mmcl.spectral.fit` with rho = 1.
        kept: (..., n) bool, the pairs that the teacher of the other half believed.
    """

    g1: Tensor
    g2: Tensor
    kept: Tensor


def filtered_fit(x: Tensor, x_tilde: Tensor, rank: int, threshold: float = 0.5, rounds: int = 1) -> FilteredFit:
    """MMCL with the linear loss on those pairs that a teacher, fitted to the other half of the pairs, believes.

    Each half of the pairs has its teacher, G1 = U^T and G2 = V^T of the SVD of its cross-covariance. A pair is kept
    if its score <G1 (x - mean), G2 (x_tilde - mean)> under the teacher of the other half exceeds
    threshold * sqrt(E|G1 (x - mean)|^2 E|G2 (x_tilde - mean)|^2), a share of the mean score that perfectly correlated
    pairs would have. The encoders are the SVD of the cross-covariance of all kept pairs. No knowledge of the wrong
    pairs, nor of their share, goes in.

    The rows are read in blocks, each converted to float64 for as long as it is used, in one pass and one more a round:
    float32 or memory-mapped arrays of any length need O(block) memory beside themselves and the n bits of ``kept``.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs, n >= 4, in random order: the first n // 2 are one half.
        rank: encoder dimension r, 1 to min(d1, d2).
        threshold: 0 keeps every positive score; 0.5 the scores nearer to those of right pairs than to the mean 0 of
            wrong ones; -inf keeps all pairs, and the result is `mmcl.spectral.fit`.
        rounds: filters. In each further one the teacher of a half is fitted to the pairs that were kept of it.

    Returns:
        FilteredFit, float64.

    Raises:
        ValueError: for bad data or rank, n < 4, rounds < 1, a threshold that is NaN or keeps fewer than 2 pairs.

    Example:
        >>> from mmcl.data import spiked
        >>> p = spiked(1000, 6, 5, rank=2, noise_std=0.1, wrong_share=0.5)
        >>> found = filtered_fit(p.x, p.x_tilde, rank=2)
        >>> found.kept[~p.wrong].double().mean() > 2 * found.kept[p.wrong].double().mean()
        tensor(True)

    Reference: Pareek, Oh, Du, Understanding the Gain from Data Filtering in Multimodal Contrastive Learning, NeurIPS
    2025, arXiv 2512.14230 (one split, teacher and student); chapter 14_filtering.
    """
    x, x_tilde = paired(x, x_tilde)
    n, d1 = x.shape[-2:]
    rank = rank_at_most(rank, d1, x_tilde.shape[-1])
    if n < 4:
        raise ValueError(f"n = {n} pairs; each half needs at least 2, so give 4 or more")
    if threshold != -math.inf:
        finite(threshold=threshold)
    at_least(1, rounds=rounds)
    halves = range(n // 2), range(n // 2, n)
    shift = [a[..., : min(n, 1000), :].double().mean(-2, keepdim=True) for a in (x, x_tilde)]
    whole = [_gram(_walk(x, x_tilde, half, shift)) for half in halves]
    kept, used = torch.empty(x.shape[:-1], dtype=torch.bool, device=x.device), whole
    for _ in range(rounds):
        teachers = [_teacher(every, some, d1, rank, threshold) for every, some in zip(whole, used, strict=True)]
        used = [
            _gram_of_kept(_walk(x, x_tilde, half, shift), teacher, kept)
            for half, teacher in zip(halves, teachers[::-1], strict=True)
        ]
        if bool((fewest := (used[0] + used[1])[..., 0, 0].min()) < 2):
            raise ValueError(f"threshold = {threshold} keeps {int(fewest)} of {n} pairs; lower it")
    g1, g2 = balanced_factors(*truncated_svd(_moments(used[0] + used[1], d1)[3], rank))
    return FilteredFit(g1, g2, kept)


@dataclass(frozen=True)
class _Teacher:
    """Means of one half of the pairs, SVD of those it uses, and the score (...,) above which it believes a pair."""

    mean: Tensor
    mean_tilde: Tensor
    u: Tensor
    v: Tensor
    level: Tensor

    def believes(self, x: Tensor, x_tilde: Tensor) -> Tensor:
        """(..., n) bool: <u^T (x - mean), v^T (x_tilde - mean)> > level."""
        score = (((x - self.mean) @ self.u) * ((x_tilde - self.mean_tilde) @ self.v)).sum(-1)
        return score > self.level.unsqueeze(-1)


def _walk(x: Tensor, x_tilde: Tensor, half: range, shift: list[Tensor]) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Blocks of the rows of one half: where they are, and x - shift, x_tilde - shift in float64."""
    entries = (x.numel() + x_tilde.numel()) // x.shape[-2]
    for here in row_blocks(half.stop, entries, BLOCK, half.start):
        yield here, x[..., here, :].double() - shift[0], x_tilde[..., here, :].double() - shift[1]


def _with_one(a: Tensor, b: Tensor) -> Tensor:
    """Rows c = (1, a, b), for which sum c c^T holds the count, the sums and the second moments."""
    return torch.cat([torch.ones_like(a[..., :1]), a, b], -1)


def _gram(walk: Iterator) -> Tensor:
    """Sum of c c^T, c = (1, x - shift, x_tilde - shift), over all rows of a walk."""
    total = torch.zeros(())
    for _, a, b in walk:
        c = _with_one(a, b)
        total = total + c.mT @ c
    return total


def _gram_of_kept(walk: Iterator, teacher: _Teacher, kept: Tensor) -> Tensor:
    """The same over those rows that the teacher believes; they are marked in ``kept``."""
    total = torch.zeros(())
    for here, a, b in walk:
        kept[..., here] = teacher.believes(a, b)
        c = _with_one(a, b)
        total = total + (c * kept[..., here].unsqueeze(-1)).mT @ c
    return total


def _moments(gram: Tensor, d1: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of what was summed: means (..., 1, d1), (..., 1, d2) relative to the shift; covariances (n - 1) of x, of both, of
    x_tilde."""
    count, total = gram[..., :1, :1], gram[..., :1, 1:]
    mean = total / count
    joint = (gram[..., 1:, 1:] - mean.mT @ total) / (count - 1)
    return mean[..., :d1], mean[..., d1:], joint[..., :d1, :d1], joint[..., :d1, d1:], joint[..., d1:, d1:]


def _teacher(every: Tensor, used: Tensor, d1: int, rank: int, threshold: float) -> _Teacher:
    """Directions from the pairs used, means and the scale of the scores from every pair of the half."""
    mean, mean_tilde, within, _, within_tilde = _moments(every, d1)
    u, _, v = truncated_svd(_moments(used, d1)[3], rank)
    scale = (u * (within @ u)).sum((-2, -1)) * (v * (within_tilde @ v)).sum((-2, -1))
    return _Teacher(mean, mean_tilde, u, v, threshold * scale.sqrt())
