"""Means and second moments of pairs in one pass over blocks of rows: added up, merged, on one machine or a cluster."""

import math
import operator
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmcl.practice.inputs import View, as_view, row_slices, usable_rows

NEAR = 8  # standard deviations: with means up to here float32 loses two of its seven digits at most
DEALT = 2**15  # rows dealt to the folds one by one; later ones go to them block by block, which is faster
HELD_OUT = 256  # rows that a fold keeps to be tested on


@dataclass(frozen=True)
class Moments:
    """Count, means and centred sums of products of n pairs, all float64; ``a + b`` are those of both sets together.

    Attributes:
        n: pairs.
        mean, mean_tilde: (d1,), (d2,).
        cross: (d1, d2) sum_i (x_i - mean)(x~_i - mean~)^T.
        own, own_tilde: the same sum of each modality with itself, (d, d); only its diagonal (d,), or nothing (0,),
            where no more is needed.
        eps: of the dtype that the rows had.
    """

    n: int
    mean: Tensor
    mean_tilde: Tensor
    cross: Tensor
    own: Tensor
    own_tilde: Tensor
    eps: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.cross.sum() + self.own.sum() + self.own_tilde.sum())

    def __add__(self, other: "Moments") -> "Moments":
        n = self.n + other.n
        far, far_tilde = other.mean - self.mean, other.mean_tilde - self.mean_tilde
        weight = self.n * other.n / n
        return Moments(
            n,
            self.mean + far * (other.n / n),
            self.mean_tilde + far_tilde * (other.n / n),
            torch.addr(self.cross + other.cross, far, far_tilde, alpha=weight),
            _merged(self.own, other.own, far, weight),
            _merged(self.own_tilde, other.own_tilde, far_tilde, weight),
            max(self.eps, other.eps),
        )


def _merged(own: Tensor, more: Tensor, far: Tensor, weight: float) -> Tensor:
    if own.ndim == 2:
        return torch.addr(own + more, far, far, alpha=weight)
    return own + more + weight * far.square() if len(own) else own


def moments(x: Tensor, x_tilde: Tensor, scale: str, near: tuple[Tensor, Tensor] | None = None) -> Moments:
    """The `Moments` of one block of pairs (n, d1), (n, d2), with as many of them as ``scale`` needs.

    Rows are centred first, or if no mean is larger than ``near`` afterwards, which costs nothing:
    sum_i x_i x~_i^T - n mean mean~^T, with few digits lost where means are not far beyond the standard deviations.

    Example:
        >>> moments(torch.eye(2), torch.eye(2), "centre").cross
        tensor([[ 0.5000, -0.5000],
                [-0.5000,  0.5000]], dtype=torch.float64)
    """
    n, dtype = len(x), torch.promote_types(x.dtype, x_tilde.dtype)
    a, b = x.to(dtype), x_tilde.to(dtype)
    means = [(c.new_ones(1, n) @ c)[0] / n for c in (a, b)]  # a matrix product: twice as fast as mean
    left = [m.double() for m in means]  # still to be taken off
    if near is None or not all(bool((m.abs() <= most).all()) for m, most in zip(means, near, strict=True)):
        a, b, left = a - means[0], b - means[1], [torch.zeros_like(m) for m in left]
    if scale == "whiten":
        own = [torch.addr((c.mT @ c).double(), m, m, alpha=-n) for c, m in zip((a, b), left, strict=True)]
    elif scale == "standardise":
        own = [c.square().sum(0).double() - n * m.square() for c, m in zip((a, b), left, strict=True)]
    else:
        own = [torch.empty(0, dtype=torch.float64)] * 2
    cross = torch.addr((a.mT @ b).double(), left[0], left[1], alpha=-n)
    return Moments(n, means[0].double(), means[1].double(), cross, own[0], own[1], torch.finfo(dtype).eps)


@dataclass
class Tally:
    """What one pass over the pairs leaves behind: `Moments` of each fold, and a few rows of each to be tested on.

    Attributes:
        scale: of the estimator; it decides which moments are needed.
        seed: of the rows that are kept.
        folds: into which the rows are dealt; 1 where nothing is to be chosen, and then no rows are kept.
        seen: rows so far.
        dropped: rows left out for missing values.
        near: means up to here are taken off after the product, see `moments`; from the first block.
        moments: those of each fold.
        kept: rows (x, x~, keys) of each fold; the `HELD_OUT` of smallest random key are a uniform sample.
        bound: no key above it can be among these any more.
    """

    scale: str
    seed: int
    folds: int = 3
    seen: int = 0
    dropped: int = 0
    near: tuple[Tensor, Tensor] | None = None
    moments: dict[int, Moments] = field(default_factory=dict)
    kept: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = field(default_factory=dict)
    bound: dict[int, float] = field(default_factory=dict)

    def add(self, x: Tensor, x_tilde: Tensor) -> bool:
        """Count in a block of rows; False, and nothing counted, if a value is not finite."""
        start, every = self.seen, self.folds
        dealt = [(k, slice((k - start) % every, None, every)) for k in range(every)]
        if start >= DEALT and len(self.moments) == every:
            dealt = [(start // len(x) % every, slice(None))]
        parts = [(k, x[here], x_tilde[here]) for k, here in dealt if len(x[here])]
        found = [moments(a, b, self.scale, self.near) for _, a, b in parts]
        if not all(m.finite for m in found):
            return False
        if self.near is None and len(x) > 1:
            self.near = NEAR * x.std(0), NEAR * x_tilde.std(0)
        for (k, a, b), more in zip(parts, found, strict=True):
            self.moments[k] = self.moments[k] + more if k in self.moments else more
            if every > 1:
                self._keep(k, a, b, start)
        self.seen += len(x)
        return True

    def _keep(self, k: int, x: Tensor, x_tilde: Tensor, start: int) -> None:
        """Collect the rows whose keys may be among the least; sort out which are when there are many."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + start * self.folds + k) % 2**63)
        keys = torch.rand(len(x), generator=generator, dtype=torch.float64)
        here = (keys < self.bound.get(k, 1.0)).nonzero()[:, 0]
        parts = [*self.kept.get(k, []), (x[here], x_tilde[here], keys[here])]
        if sum(len(part[2]) for part in parts) > 2 * HELD_OUT:
            parts = [_least(parts)]
            self.bound[k] = float(parts[0][2].max())
        self.kept[k] = parts

    def __add__(self, other: "Tally") -> "Tally":
        """That of both sets of rows."""
        both = self.copy()
        for k, more in other.moments.items():
            both.moments[k] = both.moments[k] + more if k in both.moments else more
        for k, parts in other.kept.items():
            both.kept[k] = [_least([*both.kept.get(k, []), *parts])]
            both.bound.pop(k, None)
        both.seen, both.dropped = max(self.seen, other.seen), self.dropped + other.dropped
        return both

    def copy(self) -> "Tally":
        """One that can be added to while this one stays as it is."""
        return replace(self, moments=dict(self.moments), kept=dict(self.kept), bound=dict(self.bound))

    def total(self, without: int | None = None) -> Moments:
        """The moments of all pairs, or of those outside one fold."""
        return reduce(operator.add, (m for k, m in sorted(self.moments.items()) if k != without))

    def held_out(self, k: int) -> tuple[Tensor, Tensor]:
        """Rows (x, x~) of one fold, `HELD_OUT` of them drawn at random if it has more."""
        return _least(self.kept[k])[:2]


def _least(rows: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """The `HELD_OUT` rows (x, x~, key) of smallest key, in the order given."""
    x, x_tilde, keys = (torch.cat([part[i] for part in rows]) for i in range(3))
    least = keys.topk(min(HELD_OUT, len(keys)), largest=False, sorted=False).indices.sort().values
    return x[least], x_tilde[least], keys[least]


def tally(pair: tuple[View, View], into: Tally, drop_missing: bool) -> Tally:
    """One pass over the pairs, counted into a `Tally`, which is returned; dask arrays are counted where they are."""
    if any(view.kind == "dask" for view in pair):
        return into + _where_they_are(pair, into, drop_missing)
    for here in row_slices(pair):
        if into.add(pair[0].rows(here), pair[1].rows(here)):
            continue
        rows, keep = usable_rows(pair, here, drop_missing)
        into.dropped += 0 if keep is None else int((~keep).sum())
        if len(rows[0]) and not into.add(rows[0], rows[1]):
            raise ValueError("X or y holds numbers that are too large, their products overflow; scale them down")
    return into


def _where_they_are(pair: tuple[View, View], like: Tally, drop_missing: bool) -> Tally:
    """Each chunk of rows counted as a task of dask, the tallies merged in a tree: what a lost worker had is redone."""
    import dask

    def count(x: Any, y: Any, start: int) -> Tally:
        names = np.arange(start, start + len(x))
        views = (replace(as_view("X", x), ids=names), replace(as_view("y", y), ids=names))
        empty = replace(like, moments={}, kept={}, bound={}, seen=like.seen + start, dropped=0)
        return tally(views, empty, drop_missing)

    def merge(parts: list[Tally]) -> Tally:
        return reduce(operator.add, parts)

    slices = list(row_slices(pair))
    parts = [dask.delayed(count)(pair[0].source[here], pair[1].source[here], here.start) for here in slices]
    while len(parts) > 1:
        parts = [dask.delayed(merge)(parts[i : i + 8]) for i in range(0, len(parts), 8)]
    return parts[0].compute()
