"""What users bring: rows of one modality in any container, read as blocks of floating tensors, given back as they came.

numpy arrays of any number type, order and strides, memory maps, masked arrays, torch tensors, pandas frames,
scipy sparse matrices, dask arrays. No container is imported unless the user has already done so.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmcl._blocks import row_blocks

ENTRIES = 2**19  # of a block of one modality, 2 MB in float32: small enough for the cache, large enough for Python
NAMED = 5  # rows that an error names


@dataclass(frozen=True)
class View:
    """Rows of one modality: ``view.rows(slice)`` is an (m, d) tensor, float32 or float64, without gradients.

    Attributes:
        name: how the user calls it, X or y.
        source: what they passed.
        kind: "numpy", "torch", "pandas", "sparse" or "dask".
        shape: (n, d).
        dtype: float32 where it holds every number of the source, float64 otherwise.
        ids: (n,) names of the rows, or None.
        frame: the pandas frame that the rows came in, or None.
    """

    name: str
    source: Any
    kind: str
    shape: tuple[int, int]
    dtype: torch.dtype
    ids: np.ndarray | None = None
    frame: Any = None

    def rows(self, here: slice = slice(None)) -> Tensor:
        part = self.source[here]
        if self.kind == "torch":
            return part.to(self.dtype)
        if self.kind == "sparse":
            part = part.toarray()
        elif self.kind == "dask":
            part = part.compute()
            part = part.toarray() if hasattr(part, "toarray") else part
        return _tensor(part, self.dtype)

    def table(self) -> Any:
        """What they passed, as far as scikit-learn looks at it: a frame's columns, or an array's shape."""
        return self.source if self.frame is None else self.frame

    def back(self, z: Tensor, names: list[str]) -> Any:
        """Rows (n, r) made from these, in the container they came in; sparse and dask come back as numpy."""
        if self.kind == "torch":
            return z.to(self.source.device)
        if self.kind == "pandas":
            return sys.modules["pandas"].DataFrame(z.numpy(), index=self.frame.index, columns=names)
        return z.numpy()

    def named(self, positions: Tensor) -> str:
        """The first of some rows, by their ids if they have any, in words."""
        shown = [int(i) if self.ids is None else self.ids[int(i)] for i in positions[:NAMED]]
        return ", ".join(map(str, shown)) + (", ..." if len(positions) > NAMED else "")


def as_view(name: str, data: Any) -> View:
    """``data`` as a `View`; a vector is one column.

    Raises:
        ValueError: if it is no table of real numbers, in one sentence.

    Example:
        >>> view = as_view("X", np.arange(6, dtype=">i2").reshape(3, 2)[::-1])
        >>> view.shape, view.rows(slice(0, 1))
        ((3, 2), tensor([[4., 5.]]))
    """
    if isinstance(data, View):
        return data
    ids = frame = None
    if isinstance(data, Tensor):
        kind, data = "torch", data.detach()
        if data.layout != torch.strided:
            data = data.to_dense()
    elif "scipy" in sys.modules and sys.modules["scipy"].sparse.issparse(data):
        kind, data = "sparse", data.tocsr()
    elif "dask" in sys.modules and type(data).__module__.startswith("dask.array"):
        kind = "dask"
    elif "pandas" in sys.modules and isinstance(data, _pandas().DataFrame | _pandas().Series):
        kind, ids, frame = "pandas", data.index.to_numpy(), data
        data = _frame(name, data)
    else:
        kind, data = "numpy", _array(name, data)
    if data.ndim == 1 and name != "X":
        data = data.reshape(-1, 1)
    if data.ndim != 2:
        raise ValueError(
            f"{name} has {data.ndim} dimension(s); rows are samples, so pass (n, d). Reshape your data: "
            "array.reshape(-1, 1) if it has one feature, array.reshape(1, -1) if it is one row"
        )
    if any(size != size for size in data.shape):
        raise ValueError(f"{name} has chunks of unknown sizes; call compute_chunk_sizes() on it first")
    n, d = map(int, data.shape)
    if d == 0 or n == 0:
        what, count = ("feature(s)", d) if d == 0 else ("sample(s)", n)
        raise ValueError(f"Found array with {count} {what} (shape=({n}, {d})) while a minimum of 1 is required.")
    return View(name, data, kind, (n, d), _dtype(name, data.dtype), ids, frame)


def as_pair(x: Any, y: Any) -> tuple[View, View]:
    """Two views paired row by row; frames whose row ids differ are refused.

    Raises:
        ValueError: if either is no table, the row counts differ, or the ids do.
    """
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None: give the other modality of the rows of X")
    a, b = as_view("X", x), as_view("y", y)
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            f"X has {a.shape[0]} rows and y {b.shape[0]}, inconsistent numbers of samples; row i of X must be paired "
            "with row i of y"
        )
    if a.ids is not None and b.ids is not None and not np.array_equal(a.ids, b.ids):
        i = int(np.argmax(a.ids != b.ids)) if a.ids.dtype == b.ids.dtype else 0
        raise ValueError(
            f"row {i} of X has the id {a.ids[i]!r} and row {i} of y {b.ids[i]!r}; bring them into one order, say with "
            "y.loc[X.index], or drop the index if the order is right"
        )
    return a, b


def row_slices(views: tuple[View, ...]) -> Iterator[slice]:
    """Slices that cover the rows once and in order: the chunks of a dask array, blocks that fit the cache otherwise."""
    chunked = next((view for view in views if view.kind == "dask"), None)
    if chunked is None:
        yield from row_blocks(views[0].shape[0], max(view.shape[1] for view in views), ENTRIES)
        return
    stop = 0
    for rows in chunked.source.chunks[0]:
        stop += rows
        yield slice(stop - rows, stop)


def usable_rows(views: tuple[View, ...], here: slice, drop_missing: bool) -> tuple[list[Tensor], Tensor | None]:
    """The rows ``here`` of each view, and which of them were kept: None for all of them.

    Rows with NaN or infinity in either view are left out if ``drop_missing``, and refused by name otherwise.
    """
    rows = [view.rows(here) for view in views]
    if all(bool(torch.isfinite(r.sum())) for r in rows):
        return rows, None
    whole = torch.stack([torch.isfinite(r).all(1) for r in rows])
    keep = whole.all(0)
    if keep.all():
        return rows, None
    if drop_missing:
        return [r[keep] for r in rows], keep
    guilty = next(i for i in range(len(views)) if not whole[i].all())
    bad = (~whole[guilty]).nonzero()[:, 0] + (here.start or 0)
    raise ValueError(
        f"{views[guilty].name} holds NaN or infinity in {len(bad)} row(s): {views[guilty].named(bad)}; impute them, "
        "or pass drop_missing=True to go on without these pairs"
    )


def _pandas() -> Any:
    return sys.modules["pandas"]


def _frame(name: str, data: Any) -> np.ndarray:
    kinds = list(data.dtypes) if hasattr(data, "columns") else [data.dtype]
    small = all(isinstance(k, np.dtype) and k.kind == "f" and k.itemsize <= 4 for k in kinds)
    try:
        return data.to_numpy(dtype=np.float32 if small else np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        frame = data if hasattr(data, "columns") else data.to_frame()
        bad = [str(c) for c in frame.columns if not _pandas().api.types.is_numeric_dtype(frame[c])]
        raise ValueError(
            f"the column(s) {', '.join(bad[:NAMED])} of {name} hold no numbers; drop or encode them first"
        ) from None


def _array(name: str, data: Any) -> np.ndarray:
    if isinstance(data, np.ma.MaskedArray):
        data = np.ma.filled(data.astype(float), np.nan)
    try:
        data = data if isinstance(data, np.ndarray) else np.asarray(data)
        if data.dtype.kind in "OUS":
            data = data.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} is no table of numbers ({error}); pass an (n, d) array") from None
    return data


def _dtype(name: str, dtype: Any) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        complex_ = dtype.is_complex
        small = dtype.itemsize <= (4 if dtype.is_floating_point else 2)
    else:
        dtype = np.dtype(dtype)
        complex_, small = dtype.kind == "c", dtype.itemsize <= (4 if dtype.kind == "f" else 2)
        if dtype.kind not in "bifuc":
            raise ValueError(f"{name} has the dtype {dtype}; pass real numbers")
    if complex_:
        raise ValueError(f"Complex data not supported: {name} is {dtype}; pass real and imaginary parts as columns")
    return torch.float32 if small else torch.float64


def _tensor(part: np.ndarray, dtype: torch.dtype) -> Tensor:
    """A tensor of an array of any byte order and strides; it shares the memory where torch can and may."""
    wanted = np.dtype(np.float32 if dtype == torch.float32 else np.float64)
    part = np.asarray(part)
    if part.dtype == wanted and part.flags.writeable and min(part.strides, default=0) >= 0:
        return torch.from_numpy(part)
    return torch.from_numpy(np.array(part, dtype=wanted, order="C"))
