"""Which rows belong together: scores of rows against rows, and rules that turn scores into edges.

Every score is an inner product of embeddings, score_ij = <a_i, b_j>, so that an N x N matrix is walked in blocks of
rows and never kept.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmcl._blocks import BLOCK, row_blocks
from mmcl._checks import all_finite, as_tensor, at_least, no_less_than, shown

DENSE = 6000**2  # scores that "assignment" keeps, 0.3 GB and a copy; beyond, it is the mutual nearest neighbours


@dataclass(frozen=True)
class Summary:
    """What one walk over the scores keeps: the best of each row (N1,) and its place, of each column (N2,), log-sums."""

    row_best: Tensor
    row_at: Tensor
    row_sum: Tensor
    column_best: Tensor
    column_sum: Tensor


@dataclass(frozen=True)
class Scores:
    """The scores <a_i, b_j> of all rows of a (N1, k) against all rows of b (N2, k), walked in blocks."""

    a: Tensor
    b: Tensor

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            object.__setattr__(self, name, all_finite(name, as_tensor(name, getattr(self, name))))
        if not self.a.ndim == self.b.ndim == 2 or self.a.shape[1] != self.b.shape[1]:
            shapes = f"a has shape {tuple(self.a.shape)} and b {tuple(self.b.shape)}"
            raise ValueError(f"{shapes}; give embeddings (N1, k) and (N2, k)")

    @property
    def shape(self) -> tuple[int, int]:
        """N1, N2."""
        return len(self.a), len(self.b)

    def of(self, edges: Tensor) -> Tensor:
        """Scores (m,) of edges (m, 2)."""
        return (self.a[edges[:, 0]] * self.b[edges[:, 1]]).sum(-1)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows and their scores against all columns, 2 MB each (larger ones are slower to get)."""
        for here in row_blocks(len(self.a), len(self.b), BLOCK // 4):
            yield here, self.a[here] @ self.b.mT

    @cached_property
    def summary(self) -> Summary:
        """`Summary`, in one walk; log-sums are log sum exp over a row or a column."""
        best, total = self.b.new_full((len(self.b),), -math.inf), self.b.new_zeros(len(self.b))
        shift = -math.inf
        # whole from the start: small tensors kept between blocks would keep the room of a block from being used again
        row_best, row_sum = self.a.new_empty(2, len(self.a))
        row_at = torch.empty_like(row_best, dtype=torch.int64)
        for here, s in self.blocks():
            row_best[here], row_at[here] = s.max(1)
            best = torch.maximum(best, s.amax(0))
            highest = max(shift, float(row_best[here].amax()))
            total, shift = total * math.exp(shift - highest), highest
            e = s.sub_(shift).exp_()
            # the maximum is there for rows and columns whose exponentials all underflow
            row_sum[here] = torch.maximum(shift + e.sum(1).log(), row_best[here])
            total = total + e.sum(0)
        return Summary(row_best, row_at, row_sum, best, torch.maximum(shift + total.log(), best))


def _known(scores: Scores) -> Scores:
    if not isinstance(scores, Scores):
        raise ValueError(f"scores = {shown(scores)}; give mmcl.beyond.matching.Scores(a, b) of embeddings")
    return scores


def top_b(scores: Scores, count: int | None = None) -> Tensor:
    """The ``count`` largest scores of all; by default as many as the smaller side has rows.

    Example:
        >>> top_b(Scores(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [2.0]])))
        tensor([[1, 1],
                [1, 0]])
    """
    count = min(_known(scores).shape) if count is None else count
    at_least(1, count=count)
    columns = _known(scores).shape[1]
    if count > scores.shape[0] * columns:
        raise ValueError(f"count = {count} edges; {scores.shape[0]} x {columns} rows have {scores.shape[0] * columns}")
    best, at = scores.a.new_empty(0), torch.empty(0, dtype=torch.int64, device=scores.a.device)
    for here, s in scores.blocks():
        more, where = s.flatten().topk(min(count, s.numel()))
        best, at = torch.cat([best, more]), torch.cat([at, where + here.start * columns])
        best, keep = best.topk(min(count, len(best)))
        at = at[keep]
    return torch.stack([at // columns, at % columns], 1)


def row_and_column_argmax(scores: Scores) -> Tensor:
    """The best column of every row and the best row of every column, each edge once.

    Example:
        >>> row_and_column_argmax(Scores(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [2.0]])))
        tensor([[0, 1],
                [1, 1],
                [1, 0]])
    """
    of_row, of_column = _known(scores).summary.row_at, Scores(scores.b, scores.a).summary.row_at
    rows, columns = (torch.arange(size, device=of_row.device) for size in scores.shape)
    new = of_row[of_column] != columns
    return torch.cat([torch.stack([rows, of_row], 1), torch.stack([of_column, columns], 1)[new]])


def mutual(scores: Scores) -> Tensor:
    """Mutual nearest neighbours: the edges that are the best of their row and of their column.

    Example:
        >>> mutual(Scores(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [2.0]])))
        tensor([[1, 1]])
    """
    s = _known(scores).summary
    rows = (s.row_best == s.column_best[s.row_at]).nonzero().squeeze(1)
    return torch.stack([rows, s.row_at[rows]], 1)


def assignment(scores: Scores) -> Tensor:
    """The one-to-one matching of largest total score, min(N1, N2) edges; beyond `DENSE` scores it is `mutual`.

    The mutual nearest neighbours are the part of a matching that no other row or column disputes; finding more is
    left to sizes at which the whole matrix can be kept.

    Example:
        >>> assignment(Scores(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [2.0]])))
        tensor([[0, 0],
                [1, 1]])
    """
    if math.prod(_known(scores).shape) > DENSE:
        return mutual(scores)
    found = linear_sum_assignment((scores.a @ scores.b.mT).cpu().numpy(), maximize=True)
    return torch.stack([torch.as_tensor(indices, device=scores.a.device) for indices in found], 1)


EDGE_RULES: dict[str, Callable[[Scores], Tensor]] = {  # scores -> edges (m, 2)
    "top_b": top_b,
    "row_and_column_argmax": row_and_column_argmax,
    "mutual": mutual,
    "assignment": assignment,
}


def log_odds(scores: Scores, column_sum: Tensor, absent: float, own: bool) -> tuple[Tensor, Tensor]:
    """Best log odds of each row's pairs, and the column where: pair (i, j) against all that exclude it.

        e^{s_ij} / (absent + sum_{k != j} e^{s_ik} + sum_{k != i} e^{s_kj})

    Args:
        scores: `Scores` of the rows looked at, as log density ratios.
        column_sum: (N2,) log-sums over the rows that compete for a column.
        absent: weight, >= 0, of the row having no partner at all.
        own: whether the rows looked at are among the competitors in ``column_sum``.

    Returns:
        (N1,) log odds, (N1,) columns.
    """
    no_less_than(0, absent=absent)
    odds, column_sum = _known(scores).a.new_empty(len(scores.a)), as_tensor("column_sum", column_sum)
    if column_sum.shape != (len(scores.b),) or bool(column_sum.isnan().any()):
        raise ValueError(f"column_sum = {shown(column_sum)}; give {len(scores.b)} log-sums, one a column")
    at = torch.empty_like(odds, dtype=torch.int64)
    columns = column_sum.clamp(max=300).exp()
    for here, s in scores.blocks():
        e = s.clamp_(max=300).exp()
        others = e.sum(1, keepdim=True) + columns - (1 + own) * e
        odds[here], at[here] = (s - (others.clamp_(min=0) + absent).log()).max(1)
    return odds, at
