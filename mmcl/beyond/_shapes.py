"""Checks of shapes that this wing needs beside those of `mmcl._checks`."""

from typing import Any

import torch
from torch import Tensor

from mmcl._checks import finite_rows


def matrix(name: str, a: Any, rows: int | None = None, columns: int | None = None) -> Tensor:
    """``a`` as one finite matrix, of so many rows and columns where they are given."""
    a = finite_rows(name, a)
    if a.ndim > 2 or rows not in (None, len(a)) or columns not in (None, a.shape[1]):
        fitting = ", ".join(str(size or letter) for size, letter in ((rows, "n"), (columns, "d")))
        raise ValueError(f"{name} has shape {tuple(a.shape)}; give one matrix ({fitting})")
    return a


def fitting(**numbers: Tensor) -> None:
    """Raise unless the shapes of named arrays broadcast."""
    try:
        torch.broadcast_shapes(*(value.shape for value in numbers.values()))
    except RuntimeError:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in numbers.items() if value.ndim)
        raise ValueError(f"shapes that do not broadcast: {shapes}; give numbers, or arrays of one shape") from None
