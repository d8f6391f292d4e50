"""First-order error of a teacher's filter at low noise: what is gained by dropping pairs, and when it stops."""

import math
from dataclasses import dataclass

import numpy as np
import scipy.stats

from mmcl._checks import at_least, no_less_than, positive, rank_at_most, share


@dataclass(frozen=True)
class Kept:
    """What a pair adds to the refit on average, as shares of what a right pair adds without a filter.

    Attributes:
        right, wrong: signal E[z^T z_tilde 1(kept)]/r of a right pair and of a wrong one.
        noise_right, noise_wrong: mean square E[|z_tilde|^2 1(kept)]/r, which multiplies the noise.
    """

    right: float
    wrong: float
    noise_right: float
    noise_wrong: float


def kept_moments(rank: int, threshold: float) -> Kept:
    """Moments of kept pairs when the teacher knows the subspaces and noise is low: kept if z^T z_tilde > threshold r.

    A right pair has z^T z_tilde = |z|^2 ~ chi2_r, so both its moments are P(chi2_(r+2) > threshold r). A wrong one has
    |z| g with g standard normal: E[|z| phi(t)]/r and E[|z|^2 Phi(-t)]/r with t = threshold r/|z|. At threshold 0 these
    are E|z|/(r sqrt(2 pi)), near 1/sqrt(2 pi r), and 1/2.

    Args:
        rank: latent dimension r.
        threshold: of `mmcl.beyond.filtering.filtered_fit`, at least 0.

    Example:
        >>> m = kept_moments(8, 0.0)
        >>> round(m.right, 9), round(m.wrong, 3), round(m.noise_wrong, 3)
        (1.0, 0.137, 0.5)
    """
    at_least(1, rank=rank)
    no_less_than(0, threshold=threshold)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    low, high = max(0.0, math.sqrt(rank) - 9), math.sqrt(rank) + 9
    radius = low + (high - low) / 2 * (nodes + 1)
    weights = (high - low) / 2 * weights * scipy.stats.chi.pdf(radius, rank)
    t = threshold * rank / radius
    right = float(scipy.stats.chi2.sf(threshold * rank, rank + 2))
    wrong = float(weights @ (radius * scipy.stats.norm.pdf(t))) / rank
    return Kept(right, wrong, right, float(weights @ (radius**2 * scipy.stats.norm.sf(t))) / rank)


def filtered_error(n: int, d: int, rank: int, noise_std: float, right_share: float, threshold: float | None) -> float:
    """First-order ||sinTheta(G1, U1)||_F of a filtered fit at low noise; ``threshold`` None for no filter.

        noise_std sqrt( (d - r) r/n (eta m_right + (1 - eta) m_wrong) ) / (eta a_right + (1 - eta) a_wrong)

    with signal a and mean square m of `kept_moments`. Without a filter m = 1, a_right = 1, a_wrong = 0: it goes as
    1/eta. With one it goes as 1/sqrt(eta) while eta m_right leads above and eta a_right below, and is constant where
    the wrong pairs lead in both: from eta = a_wrong downwards, about 1/sqrt(2 pi r) at threshold 0.

    Args:
        n, d, rank, noise_std: pairs, dimension of the first modality, latent dimension, noise; latent variances are 1.
        right_share: eta.
        threshold: of `mmcl.beyond.filtering.filtered_fit`.

    Reference: ours; the rates are those of Pareek, Oh, Du, arXiv 2512.14230; chapter 14_filtering.

    Example:
        >>> [round(filtered_error(10_000, 18, 8, 0.01, eta, None), 4) for eta in (1.0, 0.1)]
        [0.0009, 0.0089]
        >>> round(filtered_error(10_000, 18, 8, 0.01, 0.1, 0.0), 4)
        0.003
    """
    at_least(2, n=n, d=d)
    rank_at_most(rank, d)
    positive(noise_std=noise_std)
    share(right_share=right_share)
    m = Kept(1.0, 0.0, 1.0, 1.0) if threshold is None else kept_moments(rank, threshold)
    noise = right_share * m.noise_right + (1 - right_share) * m.noise_wrong
    signal = right_share * m.right + (1 - right_share) * m.wrong
    if not signal > 0:
        raise ValueError(
            f"right_share = {right_share} with threshold = {threshold} leaves no signal; raise the one, lower the other"
        )
    return noise_std * math.sqrt((d - rank) * rank / n * noise) / signal
