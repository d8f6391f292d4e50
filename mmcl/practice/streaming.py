"""Means and second moments of pairs in one pass over blocks of rows: added up, merged, on one machine or a cluster."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mmcl._blocks import row_blocks
from mmcl.practice.inputs import View, usable_rows

ENTRIES = 2**18  # of a block of one modality, 1 MB in float32: it stays in the cache
DEALT = 2**15  # rows dealt to the folds one by one; later ones go to them block by block, which is faster
HELD_OUT = 400  # rows that a fold keeps to be tested on


@dataclass(frozen=True)
class Moments:
    """Count, means and centred sums of products of n pairs, all float64; ``a + b`` are those of both sets together.

    Attributes:
        n: pairs.
        mean, mean_tilde: (d1,), (d2,).
        cross: (d1, d2) sum_i (x_i - mean)(x~_i - mean~)^T.
        own, own_tilde: the same sum of each modality with itself, (d, d); only its diagonal (d,), or nothing (0,),
            where no more is needed.
    """

    n: int
    mean: Tensor
    mean_tilde: Tensor
    cross: Tensor
    own: Tensor
    own_tilde: Tensor

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
        )


def _merged(own: Tensor, more: Tensor, far: Tensor, weight: float) -> Tensor:
    if own.ndim == 2:
        return torch.addr(own + more, far, far, alpha=weight)
    return own + more + weight * far.square() if len(own) else own


def moments(x: Tensor, x_tilde: Tensor, scale: str) -> Moments:
    """The `Moments` of one block of pairs (n, d1), (n, d2), with as many of them as ``scale`` needs.

    Example:
        >>> moments(torch.eye(2), torch.eye(2), "centre").cross
        tensor([[ 0.5000, -0.5000],
                [-0.5000,  0.5000]], dtype=torch.float64)
    """
    dtype = torch.promote_types(x.dtype, x_tilde.dtype)
    x, x_tilde = x.to(dtype), x_tilde.to(dtype)
    means = x.mean(0), x_tilde.mean(0)
    a, b = x - means[0], x_tilde - means[1]
    if scale == "whiten":
        own = [(c.mT @ c).double() for c in (a, b)]
    elif scale == "standardise":
        own = [c.square().sum(0).double() for c in (a, b)]
    else:
        own = [torch.empty(0, dtype=torch.float64)] * 2
    return Moments(len(x), means[0].double(), means[1].double(), (a.mT @ b).double(), *own)


@dataclass
class Tally:
    """What one pass over the pairs leaves behind: `Moments` of each fold, and a few rows of each to be tested on.

    Attributes:
        scale: of the estimator; it decides which moments are needed.
        seed: of the rows that are kept.
        folds: into which the rows are dealt.
        seen: rows so far.
        dropped: rows left out for missing values.
        moments: one a fold.
        kept: (x, x~, keys) a fold: the `HELD_OUT` rows of smallest random key, a uniform sample of the fold.
    """

    scale: str
    seed: int
    folds: int = 3
    seen: int = 0
    dropped: int = 0
    moments: list[Moments] = field(default_factory=list)
    kept: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def add(self, x: Tensor, x_tilde: Tensor) -> None:
        """Count in a block of rows, all of them usable."""
        start, self.seen = self.seen, self.seen + len(x)
        if start >= DEALT and len(self.moments) == self.folds:
            self._add(start // max(1, len(x)) % self.folds, x, x_tilde, start)
            return
        for k in range(self.folds):
            first = (k - start) % self.folds
            self._add(k, x[first :: self.folds], x_tilde[first :: self.folds], start)

    def _add(self, k: int, x: Tensor, x_tilde: Tensor, start: int) -> None:
        if len(x) == 0:
            return
        more = moments(x, x_tilde, self.scale)
        self.moments[k : k + 1] = [self.moments[k] + more if k < len(self.moments) else more]
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + start * self.folds + k) % 2**63)
        keys = torch.rand(len(x), generator=generator, dtype=torch.float64)
        if k < len(self.kept):
            x, x_tilde, keys = (torch.cat(both) for both in zip(self.kept[k], (x, x_tilde, keys), strict=True))
        least = keys.topk(min(HELD_OUT, len(keys)), largest=False, sorted=False).indices.sort().values
        self.kept[k : k + 1] = [(x[least], x_tilde[least], keys[least])]

    def copy(self) -> "Tally":
        """One that can be added to while this one stays as it is."""
        return replace(self, moments=list(self.moments), kept=list(self.kept))

    def total(self, without: int | None = None) -> Moments:
        """The moments of all pairs, or of those outside one fold."""
        parts = [m for k, m in enumerate(self.moments) if k != without]
        return sum(parts[1:], parts[0])


def tally(pairs: tuple[View, View], into: Tally, drop_missing: bool) -> Tally:
    """One pass over the pairs, counted into a `Tally`, which is returned."""
    n, *dims = pairs[0].shape[0], pairs[0].shape[1], pairs[1].shape[1]
    for here in row_blocks(n, max(dims), ENTRIES):
        rows, keep = usable_rows(pairs, here, drop_missing)
        into.dropped += 0 if keep is None else int((~keep).sum())
        into.add(rows[0], rows[1])
    return into
