"""Means and second moments of pairs in one pass over blocks of rows: added up, merged, on one machine or a cluster."""

import threading
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mmcl._blocks import row_blocks
from mmcl.practice.inputs import View, usable_rows

ENTRIES = 2**18  # of a block of one modality, 1 MB in float32: it stays in the cache
DEALT = 2**15  # rows dealt to the folds one by one; later ones go to them block by block, which is faster
HELD_OUT = 256  # rows that a fold keeps to be tested on


_ROOMS = threading.local()


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

    @property
    def finite(self) -> bool:
        return bool(torch.isfinite(self.mean).all() and torch.isfinite(self.mean_tilde).all())

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
    means = [(c.new_ones(1, len(c)) @ c)[0] / len(c) for c in (x, x_tilde)]  # a matrix product: twice as fast as mean
    a, b = (torch.sub(c, m, out=_room(c, i)) for i, (c, m) in enumerate(zip((x, x_tilde), means, strict=True)))
    if scale == "whiten":
        own = [(c.mT @ c).double() for c in (a, b)]
    elif scale == "standardise":
        own = [c.square().sum(0).double() for c in (a, b)]
    else:
        own = [torch.empty(0, dtype=torch.float64)] * 2
    return Moments(len(x), means[0].double(), means[1].double(), (a.mT @ b).double(), *own)


def _room(like: Tensor, which: int) -> Tensor:
    """A tensor of this shape to write into: the same memory each time, for fresh memory costs more than a product."""
    rooms = _ROOMS.__dict__.setdefault("rooms", {})
    room = rooms.get((which, like.dtype))
    if room is None or len(room) < like.numel():
        room = rooms[which, like.dtype] = like.new_empty(like.numel())
    return room[: like.numel()].view(like.shape)


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

    def add(self, x: Tensor, x_tilde: Tensor) -> bool:
        """Count in a block of rows; False, and nothing counted, if a value is not finite."""
        start, every = self.seen, self.folds
        dealt = [(k, slice((k - start) % every, None, every)) for k in range(every)]
        if start >= DEALT and len(self.moments) == every:
            dealt = [(start // len(x) % every, slice(None))]
        parts = [(k, x[here], x_tilde[here]) for k, here in dealt if len(x[here])]
        found = [moments(a, b, self.scale) for _, a, b in parts]
        if not all(m.finite for m in found):
            return False
        for (k, a, b), more in zip(parts, found, strict=True):
            self.moments[k : k + 1] = [self.moments[k] + more if k < len(self.moments) else more]
            self._keep(k, a, b, start)
        self.seen += len(x)
        return True

    def _keep(self, k: int, x: Tensor, x_tilde: Tensor, start: int) -> None:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + start * self.folds + k) % 2**63)
        rows = x, x_tilde, torch.rand(len(x), generator=generator, dtype=torch.float64)
        if k < len(self.kept):
            before = self.kept[k]
            if len(before[2]) == HELD_OUT:
                here = (rows[2] < before[2].max()).nonzero()[:, 0]
                rows = rows[0][here], rows[1][here], rows[2][here]
            rows = torch.cat([before[0], rows[0]]), torch.cat([before[1], rows[1]]), torch.cat([before[2], rows[2]])
        least = rows[2].topk(min(HELD_OUT, len(rows[2])), largest=False, sorted=False).indices.sort().values
        self.kept[k : k + 1] = [(rows[0][least], rows[1][least], rows[2][least])]

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
        if into.add(pairs[0].rows(here), pairs[1].rows(here)):
            continue
        rows, keep = usable_rows(pairs, here, drop_missing)
        into.dropped += 0 if keep is None else int((~keep).sum())
        if len(rows[0]) and not into.add(rows[0], rows[1]):
            raise ValueError(
                f"the sums of {pairs[0].name} or {pairs[1].name} overflow {rows[0].dtype}; scale the data down"
            )
    return into
