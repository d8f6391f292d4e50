"""Monte-Carlo studies of the spiked model: many draws in one batched call, and what to say about them."""

import torch

from mmcl._checks import as_generator
from mmcl.data import Spiked, spiked
from mmcl.metrics import sin_theta

ENTRIES = 2**21  # data entries held at a time (16 MB in float64, what caches like); draws beyond are done in chunks


def errors(methods, n, d1, d2, rank, draws, seed=0, **model):
    """||sinTheta(G1, U1)||_F of several methods on the same independent draws, in batches that fit in memory.

    With one seed, studies that differ in wrong_share only use the same noise and nested sets of wrong pairs.

    Args:
        methods: dict name -> function of a `Spiked` batch that returns encoders (draws, rank, d1).
        n, d1, d2, rank, model: arguments of `mmcl.data.spiked`.
        draws: number of independent draws.
        seed: int or `torch.Generator`.

    Returns:
        dict name -> (draws,) errors between 0 and sqrt(rank).
    """
    generator = as_generator(seed)
    size = max(1, ENTRIES // (n * (d1 + d2)))
    found = {name: [] for name in methods}
    for start in range(0, draws, size):
        p = spiked(n, d1, d2, rank, draws=min(size, draws - start), seed=generator, **model)
        for name, method in methods.items():
            found[name].append(sin_theta(method(p).mT, p.u1))
    return {name: torch.cat(values) for name, values in found.items()}


def stored(n, d1, d2, rank, seed=0, dtype=torch.float32, chunk=2**17, **model):
    """One long draw of the spiked model, kept in ``dtype`` and drawn chunk by chunk, so that float64 is never kept.

    Args:
        n, d1, d2, rank, model: arguments of `mmcl.data.spiked`.
        seed: int or `torch.Generator`.
        chunk: pairs drawn at a time.

    Returns:
        Spiked with x and x_tilde in ``dtype``; z and z_tilde are None. Wrong pairs are permuted within their chunk.
    """
    generator = as_generator(seed)
    p = spiked(2, d1, d2, rank, seed=generator, **model)
    x, x_tilde = torch.empty(n, d1, dtype=dtype), torch.empty(n, d2, dtype=dtype)
    wrong, partner = torch.empty(n, dtype=torch.bool), torch.empty(n, dtype=torch.int64)
    model = {**model, "axes": (p.u1, p.u2), "noise": (p.noise, p.noise_tilde)}
    for start in range(0, n, chunk):
        rows = slice(start, min(start + chunk, n))
        more = spiked(rows.stop - start, d1, d2, rank, seed=generator, **model)
        x[rows], x_tilde[rows], wrong[rows] = more.x, more.x_tilde, more.wrong
        partner[rows] = more.partner.where(more.partner < 0, more.partner + start)
    return Spiked(x, x_tilde, p.u1, p.u2, None, None, wrong, partner, p.noise, p.noise_tilde)
