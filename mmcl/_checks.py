"""Input checks shared by the module: each error names the wrong value, what is allowed, and what to do."""

import math
import warnings
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

# ---------------------------------------------------------------- arrays


def as_tensor(name: str, x: Any) -> Tensor:
    """``x`` as a tensor of float32 or float64: whatever numpy makes an array of, in any layout and order of bytes.

    Integers, half precision and what is not known to torch become float64. A tensor of float32 or float64 is itself.
    """
    if isinstance(x, Tensor):
        if x.is_complex() or x.layout != torch.strided:
            raise ValueError(f"{name} is a tensor of {x.dtype}, {x.layout}; give real numbers, dense")
        return x if x.dtype in (torch.float32, torch.float64) else x.to(torch.float64)
    try:
        a = np.asarray(x)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name} is no array of numbers ({' '.join(str(error).split())[:100]})") from None
    if a.dtype.kind not in "biuf":
        raise ValueError(f"{name} is {shown(x)}, which numpy makes {a.dtype} of; give an array of real numbers")
    a = np.require(a, np.float32 if a.dtype.kind == "f" and a.dtype.itemsize == 4 else np.float64, "C")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an array that is not to be written to: nothing here does
        return torch.from_numpy(a)


def as_rows(name: str, x: Any) -> Tensor:
    """``x`` as a floating (..., n, d) tensor, see `as_tensor`."""
    x = as_tensor(name, x)
    if x.ndim < 2 or 0 in (*x.shape[:-2], x.shape[-1]):
        raise ValueError(f"{name} has shape {tuple(x.shape)}; rows are samples, so pass (..., n, d)")
    return x


def all_finite(name: str, x: Tensor) -> Tensor:
    """Raise if ``x`` holds NaN or infinity; a finite mean settles the common case in one cheap pass."""
    if math.isfinite(x.detach().mean()) or bool(torch.isfinite(x).all()):
        return x
    bad = int((~torch.isfinite(x)).sum())
    raise ValueError(f"{name} holds {bad} NaN or infinite value(s) of {x.numel()}; drop or impute those rows first")


def finite_rows(name: str, x: Any, d: int | None = None) -> Tensor:
    """``x`` as `as_rows` gives it, all finite, with at least one row, and of ``d`` columns if that is given."""
    x = all_finite(name, as_rows(name, x))
    if x.shape[-2] == 0 or d not in (None, x.shape[-1]):
        raise ValueError(f"{name} has shape {tuple(x.shape)}; give (..., n, {'d' if d is None else d}), n >= 1")
    return x


def alike(**rows: Any) -> list[Tensor]:
    """Named arrays, each as `finite_rows` gives it, in one dtype."""
    found = [finite_rows(name, x) for name, x in rows.items()]
    return [x.to(torch.float64 if torch.float64 in {a.dtype for a in found} else torch.float32) for x in found]


def as_square(name: str, a: Any, d: int | None = None) -> Tensor:
    """``a`` as a finite (..., d, d) tensor."""
    a = finite_rows(name, a)
    if a.shape[-2:] != ((d or a.shape[-1]),) * 2:
        raise ValueError(f"{name} has shape {tuple(a.shape)}; it is (..., {d or 'd'}, {d or 'd'})")
    return a


def as_pairs(x: Any, x_tilde: Any) -> tuple[Tensor, Tensor]:
    """Both modalities as tensors of one dtype, with at least two rows, paired row by row."""
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
    return x.to(dtype), x_tilde.to(dtype)


def paired(x: Any, x_tilde: Any) -> tuple[Tensor, Tensor]:
    """`as_pairs`, all finite."""
    x, x_tilde = as_pairs(x, x_tilde)
    return all_finite("x", x), all_finite("x_tilde", x_tilde)


def as_encoders(x: Tensor, x_tilde: Tensor, g1: Any, g2: Any) -> tuple[Tensor, Tensor]:
    """Encoders (..., r, d1), (..., r, d2) of the two modalities as tensors in their dtype, all finite."""
    g1, g2 = as_tensor("g1", g1).to(x), as_tensor("g2", g2).to(x)
    for name, g, d in (("g1", g1, x.shape[-1]), ("g2", g2, x_tilde.shape[-1])):
        if g.ndim < 2 or g.shape[-1] != d or 0 in g.shape:
            raise ValueError(f"{name} has shape {tuple(g.shape)}; an encoder of rows with {d} entries is (..., r, {d})")
        all_finite(name, g)
    if g1.shape[-2] != g2.shape[-2]:
        raise ValueError(f"g1 has {g1.shape[-2]} rows and g2 {g2.shape[-2]}; both encode into the same r dimensions")
    return g1, g2


def with_encoders(name: str, a: Any, g1: Any, g2: Any) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix (..., d1, d2) and encoders (..., r, d1), (..., r, d2) of its two sides, all finite."""
    shapes = as_rows("g1", g1), as_rows("g2", g2)
    g1, g2 = as_encoders(*shapes, *shapes)
    a = finite_rows(name, a).to(g1)
    if a.shape[-2:] != (g1.shape[-1], g2.shape[-1]):
        fitting = g1.shape[-1], g2.shape[-1]
        raise ValueError(f"{name} has shape {tuple(a.shape)}; with these encoders it ends in {fitting}")
    return a, g1, g2


def signal_and_noise(u: Any, noise: Any, signal: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Directions (..., d, r), covariance (..., d, d) and r variances of the model of the pairs, as of `mmcl.data`."""
    u = finite_rows("u", u)
    d, r = u.shape[-2:]
    variances = within(0, math.inf, "signal", signal).to(u)
    if variances.shape not in ((), (1,), (r,)) or r > d:
        shapes = f"u has shape {tuple(u.shape)} and signal {tuple(variances.shape)}"
        raise ValueError(f"{shapes}; give (..., d, r), r <= d, and r variances")
    _demand(bool(((u.mT @ u - torch.eye(r).to(u)).abs() < 1e-3).all()), "u", u, "its columns must be orthonormal")
    return u, as_square("noise", noise, d).to(u), variances.expand(r)


def as_labels(name: str, labels: Any) -> Tensor:
    """Classes (..., n) as int64."""
    found = as_tensor(name, labels)
    _demand(found.ndim > 0 and bool((found % 1 == 0).all()), name, labels, "give integers, one a row")
    return found.long()


def has_encoders(fit: Any) -> None:
    """Raise unless ``fit`` has encoders."""
    right = isinstance(getattr(fit, "g1", None), Tensor) and isinstance(getattr(fit, "g2", None), Tensor)
    _demand(right, "fit", fit, "give encoders .g1 and .g2, as of mmcl.spectral.fit")


# ---------------------------------------------------------------- numbers


def _real(value: Any) -> float:
    """A number as a float; NaN for what is none, or no real one, or a word that spells one."""
    try:
        return math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return math.nan


def shown(value: Any) -> str:
    """A value in one line."""
    text = " ".join((repr if isinstance(value, str) else str)(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _demand(right: bool, name: str, value: Any, allowed: str) -> None:
    if not right:
        raise ValueError(f"{name} = {shown(value)}; {allowed}")


def _each(values: dict[str, Any], right: Callable[[float], bool], allowed: str) -> None:
    for name, value in values.items():
        _demand(right(_real(value)), name, value, allowed)


def rank_at_most(rank: Any, *dims: int) -> int:
    """Raise unless ``rank`` is an integer in 1..min(dims)."""
    right = _real(rank).is_integer() and 1 <= rank <= min(dims)
    _demand(right, "rank", rank, f"it must be an integer from 1 to min{dims} = {min(dims)}")
    return int(rank)


def positive(**values: Any) -> None:
    """Raise unless every named value is a finite number above zero."""
    _each(values, lambda v: 0 < v < math.inf, "it must be a positive number")


def no_less_than(minimum: float, **values: Any) -> None:
    """Raise unless every named value is a finite number of at least ``minimum``."""
    _each(values, lambda v: minimum <= v < math.inf, f"it must be a number of at least {minimum}")


def finite(**values: Any) -> None:
    """Raise unless every named value is a finite number."""
    _each(values, math.isfinite, "it must be a finite number")


def share(**values: Any) -> None:
    """Raise unless every named value lies in [0, 1]."""
    _each(values, lambda v: 0 <= v <= 1, "it must be a share between 0 and 1")


def fraction(**values: Any) -> None:
    """Raise unless every named value lies between 0 and 1 and is neither."""
    _each(values, lambda v: 0 < v < 1, "it must be a share above 0 and below 1, such as 0.05")


def at_least(minimum: int, **values: Any) -> None:
    """Raise unless every named value is an integer of at least ``minimum``."""
    _each(values, lambda v: v.is_integer() and v >= minimum, f"it must be an integer of at least {minimum}")


def integer(low: int, high: int, **values: Any) -> None:
    """Raise unless every named value is an integer from ``low`` to ``high``."""
    _each(values, lambda v: v.is_integer() and low <= v <= high, f"it must be an integer from {low} to {high}")


def one_of(allowed: Collection[str], **values: Any) -> None:
    """Raise unless every named value is one of these words."""
    for name, value in values.items():
        _demand(isinstance(value, str) and value in allowed, name, value, f"use one of {', '.join(allowed)}")


def within(low: float, high: float, name: str, values: Any) -> Tensor:
    """Numbers, one or an array, as a float64 tensor; raise unless all lie in [low, high], or above low = -inf."""
    found = as_tensor(name, values).to(torch.float64)
    right = found.numel() > 0 and bool(((found >= low) & (found <= high) & found.isfinite()).all())
    _demand(right, name, values, f"it must be made of finite numbers from {low:g} to {high:g}")
    return found


def per_entry(low: float, **values: Any) -> list[Tensor]:
    """Finite numbers from ``low`` on, each one for all batch entries or a tensor (..., 1, 1) with one for each."""
    found = [within(low, math.inf, name, value) for name, value in values.items()]
    for (name, value), numbers in zip(values.items(), found, strict=True):
        _demand(numbers.shape[-2:] in ((), (1, 1)), name, value, "give one number, or (..., 1, 1), one a batch entry")
    return found


def as_seed(seed: Any) -> int:
    """``seed`` as numpy and scikit-learn take it."""
    integer(0, 2**32 - 1, seed=seed)
    return int(seed)


def as_generator(seed: Any) -> torch.Generator:
    """``seed`` itself if it is a `torch.Generator`, else a new one on the CPU seeded with it."""
    if isinstance(seed, torch.Generator):
        return seed
    right = _real(seed).is_integer() and -(2**63) <= seed < 2**64
    _demand(right, "seed", seed, "it must be an integer of 64 bits or a torch.Generator")
    return torch.Generator().manual_seed(int(seed))
