"""Centring, standardising and whitening as linear maps, from the moments of the data."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmcl.practice.inputs import View, row_slices, usable_rows
from mmcl.practice.streaming import Moments

SCALES = ("whiten", "standardise", "centre")


@dataclass(frozen=True)
class Scaling:
    """Maps (d, k) that scale centred rows of each modality, and the cross-covariance (k1, k2) of what they give."""

    map: Tensor
    map_tilde: Tensor
    cross: Tensor


def scalings(m: Moments, scale: str, ridges: tuple[float, ...]) -> Iterator[Scaling]:
    """A `Scaling` for each ridge; eigenvectors are computed once.

    With R the correlation matrix of a modality, D its standard deviations and R = U diag(l) U^T, whitening is
    D^-1 U (l + ridge)^(-1/2), so that ridge is a number without units; standardising is D^-1, centring nothing.
    A feature that does not vary is left out, and without a ridge so is a direction of no variance.
    """
    bases = [_basis(own, mean, scale, m) for own, mean in ((m.own, m.mean), (m.own_tilde, m.mean_tilde))]
    cross = bases[0][0].mT @ (m.cross / (m.n - 1)) @ bases[1][0]
    for ridge in ridges:
        a, b = (_inverse_root(values, ridge) for _, values in bases)
        yield Scaling(bases[0][0] * a, bases[1][0] * b, a.unsqueeze(1) * cross * b)


def _basis(own: Tensor, mean: Tensor, scale: str, m: Moments) -> tuple[Tensor, Tensor | None]:
    """The map (d, k) before the ridge, and the variances (k,) along it that are to be made one."""
    if scale == "centre":
        return torch.eye(len(mean), dtype=torch.float64), None
    variance = own.diagonal() if scale == "whiten" else own
    std = (variance / (m.n - 1)).sqrt()
    inverse = torch.where(std > 32 * m.eps * mean.abs(), 1 / std, 0.0)  # what is less is the rounding of a constant
    if scale == "standardise":
        return torch.diag(inverse), None
    values, vectors = torch.linalg.eigh(inverse.unsqueeze(1) * own / (m.n - 1) * inverse)
    return inverse.unsqueeze(1) * vectors, values


def _inverse_root(values: Tensor | None, ridge: float) -> Tensor:
    if values is None:
        return torch.ones(1, dtype=torch.float64)
    floor = len(values) * torch.finfo(torch.float32).eps * values[-1]
    return torch.where(values + ridge > floor, (values.clamp(min=0) + ridge).rsqrt(), 0.0)


def scaled_rows(pair: tuple[View, View], m: Moments, scaling: Scaling, drop_missing: bool) -> tuple[Tensor, Tensor]:
    """All usable rows of both modalities, centred and scaled, in the wider dtype of the two."""
    dtype = torch.promote_types(pair[0].dtype, pair[1].dtype)
    maps = scaling.map.to(dtype), scaling.map_tilde.to(dtype)
    means = m.mean.to(dtype), m.mean_tilde.to(dtype)
    scaled = tuple(torch.empty(view.shape[0], a.shape[1], dtype=dtype) for view, a in zip(pair, maps, strict=True))
    n = 0
    for here in row_slices(pair):
        rows, _ = usable_rows(pair, here, drop_missing)
        for into, part, mean, a in zip(scaled, rows, means, maps, strict=True):
            into[n : n + len(part)] = (part.to(dtype) - mean) @ a
        n += len(rows[0])
    return scaled[0][:n], scaled[1][:n]
