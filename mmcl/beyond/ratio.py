"""Scores of rows against rows: inner product, cosine, Gaussian density ratio, each an inner product of embeddings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mmcl._checks import has_encoders, paired


class EncoderPair(Protocol):
    """Anything with g1 (..., r, d1) and g2 (..., r, d2)."""

    @property
    def g1(self) -> Tensor: ...

    @property
    def g2(self) -> Tensor: ...


@dataclass(frozen=True)
class Ratio:
    """Encoders and the Gaussian model of their outputs, in canonical coordinates a = A (G1 x - mean), b likewise.

    a and b have unit covariance and the correlations c on the diagonal of their cross-covariance.

    Attributes:
        g1, g2: (..., r, d1), (..., r, d2) encoders.
        mean, mean_tilde: (..., 1, r) means of the encoded rows.
        whiten, whiten_tilde: (..., r, r) the maps to canonical coordinates, applied from the right.
        correlations: (..., r) canonical correlations c, decreasing, in [0, 1).
    """

    g1: Tensor
    g2: Tensor
    mean: Tensor
    mean_tilde: Tensor
    whiten: Tensor
    whiten_tilde: Tensor
    correlations: Tensor

    def coordinates(self, x: Tensor, x_tilde: Tensor) -> tuple[Tensor, Tensor]:
        """Canonical coordinates (..., n, r) of rows of both modalities."""
        a = (torch.as_tensor(x) @ self.g1.mT - self.mean) @ self.whiten
        return a, (torch.as_tensor(x_tilde) @ self.g2.mT - self.mean_tilde) @ self.whiten_tilde


def gaussian_ratio(fit: EncoderPair, x: Tensor, x_tilde: Tensor) -> Ratio:
    """The Gaussian model of the encoded pairs: means, covariances and cross-covariance with divisor n - 1.

    Args:
        fit: anything with encoders .g1 and .g2.
        x, x_tilde: (..., n, d1), (..., n, d2) pairs, n > r.

    Returns:
        Ratio, whose correlations are those of the pairs given: too high for new pairs if the encoders were fitted to
        the same few (`mmcl.beyond.detection.calibrate` shrinks them).

    Raises:
        ValueError: for bad pairs, or n <= r.

    Example:
        >>> from mmcl.data import spiked
        >>> from mmcl.spectral import fit
        >>> p = spiked(5000, 6, 5, rank=2, noise_std=0.5)
        >>> ratio = gaussian_ratio(fit(p.x, p.x_tilde, rank=2), p.x, p.x_tilde)
        >>> [round(float(c), 1) for c in ratio.correlations]  # 1 / (1 + noise_std^2)
        [0.8, 0.8]
    """
    x, x_tilde = paired(x, x_tilde)
    has_encoders(fit)
    r = fit.g1.shape[-2]
    if x.shape[-2] <= r:
        raise ValueError(f"n = {x.shape[-2]} pairs; a density ratio in r = {r} dimensions needs more than {r}")
    (mean, root, white), (mean_tilde, root_tilde, white_tilde) = (
        _whitened(x @ fit.g1.mT),
        _whitened(x_tilde @ fit.g2.mT),
    )
    u, c, vh = torch.linalg.svd(white.mT @ white_tilde / (x.shape[-2] - 1))
    return Ratio(fit.g1, fit.g2, mean, mean_tilde, root @ u, root_tilde @ vh.mT, c.clamp(max=1 - 1e-6))


def _whitened(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of the rows z (..., n, r), Cov(z)^(-1/2), and (z - mean) Cov(z)^(-1/2)."""
    mean = z.mean(-2, keepdim=True)
    values, vectors = torch.linalg.eigh((z - mean).mT @ (z - mean) / (z.shape[-2] - 1))
    least = (
        4 * torch.finfo(z.dtype).eps * mean.abs().amax((-2, -1))
    ).square()  # rounding of rows that are all the same
    if not bool(((values[..., -1] > least) & values[..., -1].isfinite()).all()):
        raise ValueError(
            f"the encoded rows vary by {float(values[..., -1].min()):.2g}; a density ratio needs rows and encoders "
            "that vary, in units near 1"
        )
    floor = z.shape[-1] * torch.finfo(z.dtype).eps * values[..., -1:]
    root = (vectors * values.clamp(min=floor).rsqrt().unsqueeze(-2)) @ vectors.mT
    return mean, root, (z - mean) @ root


def inner_product(fit: EncoderPair, x: Tensor, x_tilde: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings of the similarity s_ij = <G1 x_i, G2 x~_j>."""
    return torch.as_tensor(x) @ fit.g1.mT, torch.as_tensor(x_tilde) @ fit.g2.mT


def cosine(fit: EncoderPair, x: Tensor, x_tilde: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings of the cosine of G1 x_i and G2 x~_j."""
    z, z_tilde = inner_product(fit, x, x_tilde)
    return torch.nn.functional.normalize(z, dim=-1), torch.nn.functional.normalize(z_tilde, dim=-1)


def density_ratio(fit: EncoderPair, x: Tensor, x_tilde: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings of log p(x_i, x~_j) / (p(x_i) p(x~_j)) in nats, under the Gaussian model of the encoded rows.

    In canonical coordinates it is sum_k [ c a b - c^2 (a^2 + b^2)/2 ] / (1 - c^2) - log(1 - c^2)/2: an inner product
    once a row term and a column term are appended. Comparing candidates of one row by it is the Bayes rule.

    Args:
        fit: a `Ratio`.
        x, x_tilde: (..., N1, d1), (..., N2, d2) rows.

    Returns:
        (..., N1, r + 2), (..., N2, r + 2) whose inner products are the log ratios.

    Raises:
        ValueError: if the fit has no density ratio.
    """
    if not isinstance(fit, Ratio):
        raise ValueError(
            "this fit has no density ratio; use mmcl.beyond.detection.calibrate(fit, x, x_tilde) on its pairs"
        )
    a, b = fit.coordinates(x, x_tilde)
    c = fit.correlations.unsqueeze(-2)
    gain = c / (1 - c**2)
    row, column = (-(z**2 * (c * gain)).sum(-1, keepdim=True) / 2 for z in (a, b))
    row = row - torch.log1p(-(c**2)).sum(-1, keepdim=True) / 2
    return torch.cat([a * gain, row, torch.ones_like(row)], -1), torch.cat([b, torch.ones_like(column), column], -1)


SCORES: dict[str, Callable[[EncoderPair, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "inner_product": inner_product,
    "cosine": cosine,
    "density_ratio": density_ratio,
}
