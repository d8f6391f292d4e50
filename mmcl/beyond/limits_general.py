"""The limits of `mmcl.beyond.limits` for noise of any covariance, with any few directions that stick out of it.

Directions B (d, k) carry what is low-rank: the signal, noise with structure, a nuisance of both modalities. Everything
else is bulk noise of covariance Sigma. A singular value sigma outside the bulk is one at which a k1 + k2 matrix
M(sigma) is singular; its null vector c = (B1^T u, B2^T v) says where the singular vectors point.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from mmcl._checks import as_square, at_least
from mmcl.beyond._shapes import matrix

CLOSE = 1e-9  # relative distance to the poles at which searches begin and end


@dataclass(frozen=True)
class SpikedLimit:
    """Outliers of a matrix whose bulk ends at ``edge``, the largest first.

    Attributes:
        value: (m,) singular values of the cross-covariance, or eigenvalues of the covariance, outside the bulk.
        u: (m, k) coordinates B^T u of their left vectors along the directions.
        v: (m, k2) those of the right vectors; of one modality the same as u. Signs are common to a row of both.
        edge: where the bulk of noise alone ends.
    """

    value: Tensor
    u: Tensor
    v: Tensor
    edge: float


def paired_outliers(
    directions: Tensor,
    directions_tilde: Tensor,
    within: Tensor,
    within_tilde: Tensor,
    across: Tensor,
    noise: Tensor,
    noise_tilde: Tensor,
    n: int,
) -> SpikedLimit:
    """Limits of the singular values of S outside its bulk, and of their vectors, for any noise covariances.

    With w(psi) from psi = 1/n tr Sigma w (1 - Sigma w)^-1 and rho = B^T (1 - Sigma w)^-1 B in each modality,

        sigma^2 = psi (1 + psi)/(w1 w2),
        M = [[sigma (rho1^-1 - w1 C1), -(1 + psi) C12], [-(1 + psi) C12^T, sigma (rho2^-1 - w2 C2)]],

    outliers are where an eigenvalue of M crosses 0, and null vectors are scaled to c^T (dM/dsigma) c = 2. In isotropic
    noise with one direction it is `mmcl.beyond.limits.outliers`.

    Args:
        directions, directions_tilde: B1 (d1, k1), B2 (d2, k2), orthonormal columns.
        within, within_tilde: C1 (k1, k1), C2 (k2, k2), covariances of the latents along them.
        across: C12 (k1, k2), their cross-covariance: eta Lambda for a signal of which eta of the pairs are right, 0 for
            noise with structure within one modality.
        noise, noise_tilde: Sigma (d1, d1), (d2, d2) of the bulk, without what the directions add.
        n: pairs; only d1/n and d2/n matter.

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> one, b, i = torch.ones(1, 1).double(), torch.eye(50, 1).double(), torch.eye(50).double()
        >>> found = paired_outliers(b, b, 1.5 * one, 1.5 * one, 1.5 * one, i, i, n=50)
        >>> round(found.edge, 3), found.value.numpy().round(3), (found.u**2).numpy().round(3)
        (2.598, array([2.976]), array([[0.442]]))
    """
    at_least(2, n=n)
    own = _Bulk(noise, directions, within, n)
    other = _Bulk(noise_tilde, directions_tilde, within_tilde, n, "_tilde")
    k = len(own.within)
    cross = matrix("across", across, k, len(other.within)).double().numpy()

    def value(psi: float) -> float:
        return np.sqrt(psi * (1 + psi) / (own.w(psi) * other.w(psi)))

    def m(psi: float) -> np.ndarray:
        w1, w2 = own.w(psi), other.w(psi)
        sigma = np.sqrt(psi * (1 + psi) / (w1 * w2))
        return np.block(
            [
                [sigma * (own.resolved(w1) - w1 * own.within), -(1 + psi) * cross],
                [-(1 + psi) * cross.T, sigma * (other.resolved(w2) - w2 * other.within)],
            ]
        )

    values, vectors, edge = _crossings(value, m, 2.0)
    return SpikedLimit(values, vectors[:, :k], vectors[:, k:], edge)


def unimodal_outliers(directions: Tensor, within: Tensor, noise: Tensor, n: int, masked: bool = False) -> SpikedLimit:
    """Limits of the leading eigenvalues of PCA, or of masked contrastive learning, and of their vectors.

    With m = 0 for PCA and 1 for the masked fit, which deletes the diagonal, and kappa = 1 + p, E(p) solves
    1/n tr Sigma (E + m Sigma - kappa Sigma)^-1 = p/(1 + p), and outliers are where an eigenvalue of

        M = [B^T (E + m Sigma - kappa Sigma)^-1 B]^-1 - kappa C

    crosses 0, with null vectors scaled to c^T (dM/dE) c = 1. For the masked fit the directions are taken to be spread
    over many coordinates, so that the diagonal deleted is that of the noise.

    Args:
        directions: B (d, k), orthonormal columns: signal and noise with structure.
        within: C (k, k), covariance of the latents along them.
        noise: Sigma (d, d) of the bulk; diagonal if masked.
        n: rows.
        masked: whether the diagonal is deleted.

    Raises:
        ValueError: if shapes do not fit, or masked noise is not diagonal.

    Example:
        >>> found = unimodal_outliers(torch.eye(50, 1), torch.ones(1, 1), torch.eye(50), n=100)
        >>> found.value.numpy().round(3), (found.u**2).numpy().round(3)  # (1 + 1)(1 + 0.5), and 1/3
        (array([3.]), array([[0.333]]))
    """
    at_least(2, n=n)
    noise = as_square("noise", noise)
    if masked and not torch.equal(noise, torch.diag_embed(noise.diagonal(dim1=-2, dim2=-1))):
        raise ValueError("noise is not diagonal; the limit of the masked fit needs bulk noise that is, or masked=False")
    bulk = _Bulk(noise, directions, within, n)
    t, top = bulk.spectrum, bulk.spectrum.max()

    def value(p: float) -> float:
        shift = (1 + p - masked) * t
        level = p / (1 + p)

        def excess(e: float) -> float:
            return (t / (e - shift)).sum() / n - level

        low = shift.max() + CLOSE * top
        return _root(excess, low, shift.max() + t.sum() / n / level + top, 1e-13 * top)

    def m(p: float) -> np.ndarray:
        shifted = value(p) - (1 + p - masked) * t
        return np.linalg.inv(bulk.axes.T @ (bulk.axes / shifted[:, None])) - (1 + p) * bulk.within

    values, vectors, edge = _crossings(value, m, 1.0)
    return SpikedLimit(values, vectors, vectors, edge)


class _Bulk:
    """One modality in the eigenbasis of its noise: spectrum (d,), directions there (d, k), covariance along them."""

    def __init__(self, noise: Tensor, directions: Tensor, within: Tensor, n: int, tilde: str = "") -> None:
        b = matrix(f"directions{tilde}", directions).double().numpy()
        sigma = matrix(f"noise{tilde}", noise, len(b), len(b)).double().numpy()
        self.within, self.n = matrix(f"within{tilde}", within, b.shape[1], b.shape[1]).double().numpy(), n
        if not np.allclose(b.T @ b, np.eye(b.shape[1]), atol=1e-6):
            raise ValueError(
                f"the columns of directions{tilde} are not orthonormal; orthogonalise them and adapt within{tilde}"
            )
        self.spectrum, basis = np.linalg.eigh(sigma)
        if not self.spectrum[0] > 0:
            raise ValueError(
                f"noise{tilde} has the eigenvalue {self.spectrum[0]:.2g}; the limits are for positive ones"
            )
        self.axes = basis.T @ b

    def w(self, psi: float) -> float:
        """The root of psi = 1/n sum t w/(1 - t w)."""
        t, last = self.spectrum, 1 / self.spectrum.max()
        if np.ptp(t) <= 1e-12 * t.max():
            return psi / (len(t) / self.n + psi) * last
        return _root(lambda w: (t * w / (1 - t * w)).sum() / self.n - psi, 0, last * (1 - CLOSE), 1e-15 * last)

    def resolved(self, w: float) -> np.ndarray:
        """rho^-1, rho = B^T (1 - Sigma w)^-1 B."""
        return np.linalg.inv(self.axes.T @ (self.axes / (1 - self.spectrum * w)[:, None]))


def _root(f: Callable[[float], float], low: float, high: float, xtol: float) -> float:
    """Where f crosses 0 between low and high."""
    if not f(low) * f(high) <= 0:
        raise ValueError(
            "no root in float64: noise, within and across are too far apart in size; use units of the noise"
        )
    return scipy.optimize.brentq(f, low, high, xtol=xtol)


def _crossings(
    value: Callable[[float], float], matrix: Callable[[float], np.ndarray], norm: float
) -> tuple[Tensor, Tensor, float]:
    """Where eigenvalues of M(p) cross 0 between p = 0, which is infinity, and the p of the edge, where value is least.

    Returns the values there, null vectors with c^T (dM/dvalue) c = norm, and the value at the edge.
    """
    found = scipy.optimize.minimize_scalar(
        lambda q: value(np.exp(q)), bounds=(-25, 10), method="bounded", options={"xatol": 1e-9}
    )
    end, values, vectors = float(np.exp(found.x)), [], []

    def eigenvalue(j: int, q: float) -> float:
        return np.linalg.eigvalsh(matrix(np.exp(q)))[j]

    for j in range(int((np.linalg.eigvalsh(matrix(end)) < 0).sum())):
        q = _root(partial(eigenvalue, j), -25, np.log(end), 1e-13)
        p, step = float(np.exp(q)), 1e-5
        c = np.linalg.eigh(matrix(p))[1][:, j]
        rise = c @ (matrix(p * (1 + step)) - matrix(p * (1 - step))) @ c
        slope = rise / (value(p * (1 + step)) - value(p * (1 - step)))
        values.append(value(p))
        vectors.append(c * np.sqrt(norm / slope))
    size = len(matrix(end))
    return torch.tensor(values).double(), torch.as_tensor(np.array(vectors).reshape(-1, size)), float(found.fun)
