"""Input checks shared by the module: each error names the wrong value, what is allowed, and what to do."""

import math
from typing import Any

import torch
from torch import Tensor


def as_rows(name: str, x: Any) -> Tensor:
    """``x`` as a floating (..., n, d) tensor; numpy arrays and integers are accepted (float64)."""
    x = torch.as_tensor(x)
    if not x.is_floating_point():
        x = x.to(torch.float64)
    if x.ndim < 2:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; rows are samples, so pass (..., n, d)")
    return x


def all_finite(name: str, x: Tensor) -> Tensor:
    """Raise if ``x`` holds NaN or infinity; a finite mean settles the common case in one cheap pass."""
    if math.isfinite(x.detach().mean()) or bool(torch.isfinite(x).all()):
        return x
    bad = int((~torch.isfinite(x)).sum())
    raise ValueError(f"{name} holds {bad} NaN or infinite value(s) of {x.numel()}; drop or impute those rows first")


def paired(x: Any, x_tilde: Any) -> tuple[Tensor, Tensor]:
    """Both modalities as tensors of one dtype, with at least two rows, paired row by row, all finite."""
    x, x_tilde = as_rows("x", x), as_rows("x_tilde", x_tilde)
    n, n_tilde = x.shape[-2], x_tilde.shape[-2]
    if n != n_tilde:
        raise ValueError(f"x has {n} rows and x_tilde {n_tilde}; row i of one must be paired with row i of the other")
    if n < 2:
        raise ValueError(f"n = {n} pairs; a contrastive loss compares pairs, so give at least 2")
    if x.shape[:-2] != x_tilde.shape[:-2]:
        raise ValueError(
            f"batch dimensions {tuple(x.shape[:-2])} of x and {tuple(x_tilde.shape[:-2])} of x_tilde differ; "
            "expand one to the other"
        )
    dtype = torch.promote_types(x.dtype, x_tilde.dtype)
    return all_finite("x", x.to(dtype)), all_finite("x_tilde", x_tilde.to(dtype))


def as_encoders(x: Tensor, x_tilde: Tensor, g1: Any, g2: Any) -> tuple[Tensor, Tensor]:
    """Encoders (..., r, d1), (..., r, d2) of the two modalities as tensors in their dtype, all finite."""
    g1, g2 = (torch.as_tensor(g).to(x) for g in (g1, g2))
    for name, g, d in (("g1", g1, x.shape[-1]), ("g2", g2, x_tilde.shape[-1])):
        if g.ndim < 2 or g.shape[-1] != d:
            raise ValueError(f"{name} has shape {tuple(g.shape)}; an encoder of rows with {d} entries is (..., r, {d})")
        all_finite(name, g)
    if g1.shape[-2] != g2.shape[-2]:
        raise ValueError(f"g1 has {g1.shape[-2]} rows and g2 {g2.shape[-2]}; both encode into the same r dimensions")
    return g1, g2


def rank_at_most(rank: int, *dims: int) -> int:
    """Raise unless ``rank`` is an integer in 1..min(dims)."""
    if isinstance(rank, bool) or int(rank) != rank or not 1 <= rank <= min(dims):
        raise ValueError(f"rank = {rank}; it must be an integer from 1 to min{dims} = {min(dims)}")
    return int(rank)


def positive(**values: float) -> None:
    """Raise unless every named value is a finite number above zero."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} = {value}; it must be a positive number")


def no_less_than(minimum: float, **values: float) -> None:
    """Raise unless every named value is a finite number of at least ``minimum``."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= minimum):
            raise ValueError(f"{name} = {value}; it must be a number of at least {minimum}")


def share(**values: float) -> None:
    """Raise unless every named value lies in [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value}; a share lies between 0 and 1")


def at_least(minimum: int, **values: float) -> None:
    """Raise unless every named value is an integer of at least ``minimum``."""
    for name, value in values.items():
        if isinstance(value, bool) or int(value) != value or value < minimum:
            raise ValueError(f"{name} = {value}; it must be an integer of at least {minimum}")


def as_generator(seed: int | torch.Generator) -> torch.Generator:
    """``seed`` itself if it is a `torch.Generator`, else a new one on the CPU seeded with it."""
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
