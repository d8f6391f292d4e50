"""Monte-Carlo studies of the spiked model: many draws in one batched call, and one draw too long for float64."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from mmcl._blocks import row_blocks
from mmcl._checks import as_generator, at_least
from mmcl.data import Spiked, spiked
from mmcl.metrics import sin_theta

ENTRIES = 2**21  # data entries held at a time (16 MB in float64, what caches like); draws beyond are done in chunks


def errors(
    methods: Mapping[str, Callable[[Spiked], Tensor]],
    n: int,
    d1: int,
    d2: int,
    rank: int,
    draws: int,
    seed: int | Generator = 0,
    **model: Any,
) -> dict[str, Tensor]:
    """||sinTheta(G1, U1)||_F of several methods on the same independent draws, in batches that fit in memory.

    With one seed, studies that differ in wrong_share only use the same noise and nested sets of wrong pairs.

    Args:
        methods: dict name -> function of a `Spiked` batch that returns encoders (draws, rank, d1).
        n, d1, d2, rank, model: arguments of `mmcl.data.spiked`.
        draws: number of independent draws.
        seed: int or `torch.Generator`.

    Returns:
        dict name -> (draws,) errors between 0 and sqrt(rank).

    Example:
        >>> found = errors({"truth": lambda p: p.u1.mT}, n=10, d1=6, d2=5, rank=2, draws=3)
        >>> [round(float(e), 9) for e in found["truth"]]
        [0.0, 0.0, 0.0]
    """
    generator = as_generator(seed)
    found: dict[str, list[Tensor]] = {name: [] for name in methods}
    for some in row_blocks(draws, n * (d1 + d2), ENTRIES):
        p = spiked(n, d1, d2, rank, draws=some.stop - some.start, seed=generator, **model)
        for name, method in methods.items():
            found[name].append(sin_theta(method(p).mT, p.u1))
    return {name: torch.cat(values) for name, values in found.items()}


def long_draw(
    n: int,
    d1: int,
    d2: int,
    rank: int,
    seed: int | Generator = 0,
    dtype: torch.dtype = torch.float32,
    chunk: int = 2**17,
    **model: Any,
) -> Spiked:
    """One long draw of the spiked model, kept in ``dtype`` and drawn chunk by chunk, so that float64 is never kept.

    Args:
        n, d1, d2, rank, model: arguments of `mmcl.data.spiked`.
        seed: int or `torch.Generator`.
        chunk: pairs drawn at a time, at least 2. The share of wrong pairs is rounded in each, and wrong pairs are
            permuted within it.

    Returns:
        Spiked with x and x_tilde in ``dtype``; z and z_tilde are not kept: (0, rank).

    Raises:
        ValueError: if an argument is out of range, or a chunk of one pair is left over.

    Example:
        >>> long_draw(1000, 6, 5, rank=2, chunk=300).x.dtype
        torch.float32
    """
    at_least(2, n=n, chunk=chunk)
    if n % chunk == 1:
        raise ValueError(f"n = {n} pairs in chunks of {chunk} leave one over, and a draw has at least 2; change either")
    generator = as_generator(seed)
    p = spiked(2, d1, d2, rank, seed=generator, **model)
    x, x_tilde = torch.empty(n, d1, dtype=dtype), torch.empty(n, d2, dtype=dtype)
    wrong, partner = torch.empty(n, dtype=torch.bool), torch.empty(n, dtype=torch.int64)
    model = {**model, "axes": (p.u1, p.u2), "noise": (p.noise, p.noise_tilde)}
    for here in row_blocks(n, 1, chunk):
        more = spiked(here.stop - here.start, d1, d2, rank, seed=generator, **model)
        x[here], x_tilde[here], wrong[here] = more.x, more.x_tilde, more.wrong
        partner[here] = more.partner.where(more.partner < 0, more.partner + here.start)
    nothing = p.z[:0]
    return Spiked(x, x_tilde, p.u1, p.u2, nothing, nothing, wrong, partner, p.noise, p.noise_tilde)
