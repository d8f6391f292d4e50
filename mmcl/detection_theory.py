"""What theory predicts about detection: of partners among N rows, the subspaces being known, and of clusters.

Of partners: U1^T x = z + noise_std * e and U2^T x_tilde = z + noise_std * e_tilde with z, e, e_tilde standard normal in
r dimensions: latent coordinates of variance 1, the same noise in both modalities.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy.special
import scipy.stats
import torch
from torch import Tensor

from mmcl._checks import at_least, no_less_than, positive, within

Numbers = float | Sequence[float] | Tensor


def correlation(noise_std: float) -> float:
    """Correlation c = 1/(1 + noise_std^2) of the coordinates of U1^T x and U2^T x_tilde.

    Example:
        >>> correlation(0.5)
        0.8
    """
    no_less_than(0, noise_std=noise_std)
    return 1 / (1 + noise_std * noise_std)


def information(rank: int, noise_std: float) -> float:
    """Mutual information of U1^T x and U2^T x_tilde, -(r/2) log(1 - c^2) nats, infinite without noise.

    A partner among N candidates is found while log N is below it, and lost beyond. Arguments as for `bayes_top1`.

    Example:
        >>> round(information(10, 0.3), 2)  # close to log 10,000 = 9.21
        9.22
    """
    at_least(1, rank=rank)
    c = correlation(noise_std)
    return -rank / 2 * math.log(1 - c**2) if c < 1 else math.inf


def bayes_top1(candidates: Numbers, rank: int, noise_std: float) -> Tensor:
    """Best possible share of rows that find their partner among N candidates, the subspaces being known.

    The Bayes rule maximises log p(v|u)/p(v) over the candidates v: with u = U1^T x, v = U2^T x_tilde standardised,
    it takes the smallest ||v - u/c||. Given ||u||^2 ~ chi2_r its rate is

        E (1 - F(T))^(N-1),   T ~ (1 - c^2) ncx2_r(||u||^2 (1 - c^2)/c^2),   F the cdf of ncx2_r(||u||^2/c^2),

    integrated by Gauss-Legendre rules over ||u|| and sqrt(T), to 1e-4 at rank 1 and much better beyond.

    Args:
        candidates: N >= 1, the partner included; one number or an array of them.
        rank: latent dimension r.
        noise_std: noise of both modalities, the latent coordinates having variance 1; 0 gives 1.

    Returns:
        float64 tensor of the shape of ``candidates``.

    Raises:
        ValueError: if an argument is out of range.

    Reference: ours; the best that any rule in the place of (4.2), PMLR 206:4348, could do row by row.

    Example:
        >>> bayes_top1([500, 10_000], rank=10, noise_std=0.3).round(decimals=3).tolist()
        [0.936, 0.682]
    """
    n, c = _candidates(candidates, rank), correlation(noise_std)
    if c == 1 or c < 1 / 50:  # no noise; or so much that the rules agree to 1e-4 of the rate, and ncx2 takes long
        return torch.ones_like(n) if c == 1 else inner_product_top1(candidates, rank, noise_std)
    u, outer = _radii(rank, np.zeros(1))
    t, inner = _radii(rank, u[0] ** 2 * (1 - c**2) / c**2)
    false = scipy.stats.ncx2.cdf((1 - c**2) * t**2, rank, (u[0] ** 2 / c**2)[:, None])
    return _expected_power(np.log1p(-false.clip(max=1 - 1e-16)), outer[0][:, None] * inner, n)


def inner_product_top1(candidates: Numbers, rank: int, noise_std: float) -> Tensor:
    """Share of rows whose partner has the largest inner product <U1^T x, U2^T x_tilde> among N candidates.

        E Phi( (m/(1 + s^2) + sqrt(s^2/(1 + s^2) + s^2) g) / sqrt(1 + s^2) )^(N-1),   m^2 ~ (1 + s^2) chi2_r,

    g standard normal, s = noise_std. It stays below 1 without noise, since a long row of x_tilde wins over the
    partner of a short row; the Bayes rule does not fall for that.

    Arguments, result and errors as for `bayes_top1`.

    Reference: ours; similarities of PMLR 206:4348, Algorithm 1, at G1 = U1^T, G2 = U2^T.

    Example:
        >>> round(float(inner_product_top1(10_000, rank=10, noise_std=0.3)), 3)
        0.105
    """
    n, v = _candidates(candidates, rank), 1 / correlation(noise_std)
    radius, outer = _radii(rank, np.zeros(1))
    g, weight = (a * 8 for a in np.polynomial.legendre.leggauss(200))
    score = (radius[0][:, None] / math.sqrt(v) + math.sqrt((1 - 1 / v) + v - 1) * g) / math.sqrt(v)
    return _expected_power(scipy.special.log_ndtr(score), outer[0][:, None] * (weight * scipy.stats.norm.pdf(g)), n)


def exact_detection_bound(candidates: Numbers, rank: int, noise_std: float) -> Tensor:
    """Lower bound on the probability that rule (4.2) finds all N true pairs and no other: the rank must exceed ~ log N.

        1 - N (N - 1) (1 + 1/kappa)^(-r/2),   kappa = 2 (1 + noise_std^2)^2 - 1,

    and 0 where that is negative. Given u = U1^T x_i the lead of the partner over a stranger is normal, so the stranger
    wins with probability at most 1/2 E exp(-|u|^2/(2 kappa (1 + noise_std^2))) = 1/2 (1 + 1/kappa)^(-r/2); there are
    N (N - 1) strangers in rows and as many in columns. The bound leaves 0 near r = 4 log N / log(1 + 1/kappa).

    Args:
        candidates: N >= 1 rows of either modality; one number or an array of them.
        rank, noise_std: as for `bayes_top1`.

    Returns:
        float64 tensor of the shape of ``candidates``.

    Reference: PMLR 206:4348, Assumption 4.2 and Lemma 4.1, with constants, for known subspaces.

    Example:
        >>> exact_detection_bound([10, 200], rank=40, noise_std=0.3).round(decimals=3).tolist()
        [0.998, 0.282]
    """
    n, kappa = _candidates(candidates, rank), 2 / correlation(noise_std) ** 2 - 1
    return (1 - n * (n - 1) * (1 + 1 / kappa) ** (-rank / 2)).clamp(min=0)


def exact_detection(candidates: Numbers, rank: int, noise_std: float) -> Tensor:
    """Approximate probability that rule (4.2) finds all N true pairs and no other: exp(-2 N (1 - top1)).

    It counts 2N argmaxima, of rows and of columns, each wrong with probability 1 - `inner_product_top1`, as if they
    were independent. Failures cluster, so the truth is somewhat higher. Arguments and result as for
    `exact_detection_bound`.

    Example:
        >>> exact_detection(200, rank=40, noise_std=0.3).round(decimals=2)
        tensor(0.8800, dtype=torch.float64)
    """
    n = _candidates(candidates, rank)
    return (-2 * n * (1 - inner_product_top1(n, rank, noise_std))).clamp(max=0).exp()


def partition_threshold(per_class: float, n_images: float) -> float:
    """Share p of flipped edges up to which a spectral partition can see the classes of a planted bipartite graph.

    Each class is a block of per_class x per_class edges in an n_images x n_images matrix, every entry flipped with
    probability p. The classes have singular values per_class (1 - 2p), the noise none above
    2 sqrt(n_images p (1 - p)); singular vectors keep a part of the classes while

        per_class (1 - 2p) > sqrt(n_images p (1 - p)),   that is  p < (1 - sqrt(n/(n + 4 per_class^2)))/2

    (Benaych-Georges, Nadakuditi, J. Multivariate Analysis 2012). In a rectangular graph geometric means of the two
    sides take the place of both numbers.

    Reference: ours, for the experiment of PMLR 206:4348, Section 5.1.

    Example:
        >>> round(partition_threshold(per_class=50, n_images=500), 2)
        0.39
    """
    positive(per_class=per_class, n_images=n_images)
    return (1 - math.sqrt(n_images / (n_images + 4 * per_class**2))) / 2


def _candidates(candidates: Numbers, rank: int) -> Tensor:
    at_least(1, rank=rank)
    return within(1, math.inf, "candidates", candidates)  # the partner is one of them


def _radii(rank: int, noncentrality: np.ndarray, nodes: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights (m, nodes) of rules for sqrt(ncx2_rank(noncentrality)), one for each of m noncentralities."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    low = np.maximum(np.sqrt(rank + noncentrality) - 8, 0)[:, None]
    half = (np.sqrt(rank + noncentrality)[:, None] + 8 - low) / 2
    radius = low + half * (x + 1)
    weight = half * w * 2 * radius * scipy.stats.ncx2.pdf(radius**2, rank, noncentrality[:, None])
    return radius, weight / weight.sum(-1, keepdims=True)


def _expected_power(logarithm: np.ndarray, weight: np.ndarray, n: Tensor) -> Tensor:
    """Weighted mean of exp(logarithm)^(n - 1) for every n; a probability of 0 is taken as the smallest number."""
    powers = (n.unsqueeze(-1) - 1) * torch.as_tensor(logarithm).clamp(min=-700).flatten()
    return powers.exp() @ torch.as_tensor(weight).flatten()
