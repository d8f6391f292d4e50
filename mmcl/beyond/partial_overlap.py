"""Studies of detection: unpaired rows of which only some have a partner, and gains from those that are found."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmcl._checks import at_least, fraction, share, shown
from mmcl.beyond.detection import detect_pairs
from mmcl.beyond.refit import detect_and_refit
from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.spectral import fit


@dataclass(frozen=True)
class Overlapping:
    """Known pairs, and unpaired rows of which the last of the first modality belong to the first of the second.

    Attributes:
        x, x_tilde: (n, d1), (n, d2) known pairs.
        x_unpaired, x_tilde_unpaired: (N, d1), (N, d2); row lag + i of the first has the partner i, i < partners.
        partners: how many rows have one.
    """

    x: Tensor
    x_tilde: Tensor
    x_unpaired: Tensor
    x_tilde_unpaired: Tensor
    partners: int

    @property
    def rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four arguments of `detect_pairs` and `detect_and_refit`."""
        return self.x, self.x_tilde, self.x_unpaired, self.x_tilde_unpaired

    @property
    def has_partner(self) -> Tensor:
        """(N,) bool, by row of the first modality."""
        return torch.arange(len(self.x_unpaired)) >= len(self.x_unpaired) - self.partners

    def right(self, pairs: Tensor) -> Tensor:
        """(m,) bool, whether pairs (m, 2) of unpaired rows are partners."""
        lag = len(self.x_unpaired) - self.partners
        return (pairs[:, 0] - pairs[:, 1] == lag) & (pairs[:, 0] >= lag)


def overlapping(pairs: int, rows: int, overlap: float, draws: int, seed: int = 0, **model: Any) -> list[Overlapping]:
    """Draws of the model (3.2): ``pairs`` known pairs and ``rows`` unpaired rows of either modality.

    Args:
        pairs, rows: n and N.
        overlap: share of the unpaired rows whose partner is among the others.
        draws: independent data sets.
        seed, model: of `mmcl.data.spiked`.

    Example:
        >>> (p,) = overlapping(30, 10, 0.5, draws=1, d1=6, d2=5, rank=2)
        >>> p.x_unpaired.shape, p.partners, p.right(torch.tensor([[5, 0], [5, 1]])).tolist()
        (torch.Size([10, 6]), 5, [True, False])
    """
    at_least(1, pairs=pairs, rows=rows, draws=draws)
    share(overlap=overlap)
    partners = round(overlap * rows)
    p = spiked(pairs + 2 * rows - partners, draws=draws, seed=seed, **model)
    first, second = slice(pairs, pairs + rows), slice(pairs + rows - partners, None)
    return [
        Overlapping(x[:pairs], y[:pairs], x[first], y[second], partners) for x, y in zip(p.x, p.x_tilde, strict=True)
    ]


def error_control(data: list[Overlapping], rank: int, rates: list[float]) -> tuple[Tensor, Tensor]:
    """Share of wrong pairs among the detected, and of partners found, at each rate and without control.

    Args:
        data: draws, as of `overlapping`.
        rank: encoder dimension r.
        rates: false discovery rates asked for.

    Returns:
        wrong, found: (rates + 1, draws); the last row is that of mutual nearest neighbours, uncontrolled. Where
        nothing is detected nothing is wrong: 0.
    """
    if not isinstance(data, list | tuple) or not data or not all(isinstance(p, Overlapping) for p in data):
        raise ValueError(f"data = {shown(data)}; give draws, as of mmcl.beyond.partial_overlap.overlapping")
    if not isinstance(rates, list | tuple) or not rates:
        raise ValueError(f"rates = {shown(rates)}; give a list of false discovery rates")
    for rate in rates:
        fraction(rates=rate)
    wrong, found = torch.zeros(2, len(rates) + 1, len(data), dtype=torch.float64)
    for i, p in enumerate(data):
        encoders = fit(p.x, p.x_tilde, rank)
        some = detect_pairs(encoders, *p.rows, fdr=max(rates))
        assert some.rate is not None
        pairs = [some.pairs[some.rate <= q] for q in rates]
        pairs.append(detect_pairs(encoders, *p.rows, fdr=None, rule="mutual").pairs)
        right = [float(p.right(a).sum()) for a in pairs]
        wrong[:, i] = torch.tensor([1 - k / len(a) if len(a) else 0.0 for k, a in zip(right, pairs, strict=True)])
        found[:, i] = torch.tensor(right) / max(1, p.partners)
    return wrong, found


def gains(
    pairs: int, rows: int, draws: int, rank: int, seed: int = 0, fdr: float = 0.2, **model: Any
) -> dict[str, Tensor]:
    """||sinTheta(G1, U1)||_F over that of the known pairs alone, when unpaired rows all have a partner.

    Args:
        pairs, rows: n and N.
        draws: independent data sets.
        rank: latent and encoder dimension r.
        fdr: false discovery rate of the controlled arm.
        seed, model: of `mmcl.data.spiked`.

    Returns:
        dict of (draws,) ratios: "all detected pairs", "wrong pairs controlled" and "all pairs known".
    """
    at_least(1, pairs=pairs, rows=rows, draws=draws)
    fraction(fdr=fdr)
    p = spiked(pairs + rows, rank=rank, draws=draws, seed=seed, **model)
    found = []
    for x, y, u in zip(p.x, p.x_tilde, p.u1, strict=True):
        data = x[:pairs], y[:pairs], x[pairs:], y[pairs:]
        every = detect_and_refit(*data, rank, rule="mutual", fdr=None)
        some = detect_and_refit(*data, rank, fdr=fdr, rounds=2)
        errors = [sin_theta(f.g1.mT, u) for f in (every.history[0], every, some, fit(x, y, rank))]
        found.append(torch.stack(errors[1:]) / errors[0])
    names = "all detected pairs", "wrong pairs controlled", "all pairs known"
    return dict(zip(names, torch.stack(found, 1), strict=True))
