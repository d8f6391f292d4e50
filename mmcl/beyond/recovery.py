"""When all partners can be found, and when almost all: the one-to-one matching and the row rule, subspaces known."""

import math
from dataclasses import dataclass

import scipy.stats
import torch
from torch import Generator, Tensor

from mmcl._checks import as_generator, at_least, positive, within
from mmcl.beyond._shapes import matrix
from mmcl.beyond.matching import EDGE_RULES, Scores
from mmcl.beyond.ratio import Ratio, density_ratio
from mmcl.detection_theory import Numbers, correlation


def noise_of_information(nats: float, rank: int) -> float:
    """The noise_std at which U1^T x and U2^T x_tilde have the given mutual information; inverts `information`.

    Example:
        >>> from mmcl.detection_theory import information
        >>> round(information(10, noise_of_information(9.0, rank=10)), 9)
        9.0
    """
    at_least(1, rank=rank)
    positive(nats=nats)
    return math.sqrt(1 / math.sqrt(-math.expm1(-2 * nats / rank)) - 1)


def swap_probability(rank: int, noise_std: float) -> float:
    """Probability that two right pairs score less together than the same rows with partners exchanged.

    The scores differ by c/(1 - c^2) <u_i - u_j, v_i - v_j>, and 4 <a, b> = |a + b|^2 - |a - b|^2 is a difference of
    independent chi2_r times 1 + c and 1 - c. So the probability is F_{r,r}((1 - c)/(1 + c)), with the cdf of Fisher's
    F; its Chernoff bound is (1 - c^2)^(r/2) = e^(-I), with I the mutual information.

    Args:
        rank: latent dimension r.
        noise_std: noise of both modalities, the latent coordinates having variance 1.

    Example:
        >>> from mmcl.detection_theory import information
        >>> swap_probability(10, 0.3) < math.exp(-information(10, 0.3))
        True
    """
    at_least(1, rank=rank)
    c = correlation(noise_std)
    return float(scipy.stats.f.cdf((1 - c) / (1 + c), rank, rank))


def exact_matching(candidates: Numbers, rank: int, noise_std: float) -> Tensor:
    """Approximate probability that the matching of largest score finds all N partners: exp(-N (N-1)/2 swap).

    It counts the exchanges of two partners as if they were rare and independent. Since swap <= e^(-I), the matching
    is right once I exceeds 2 log N; longer cycles are rarer still.

    Args:
        candidates: N >= 1 rows of either modality; one number or an array of them.
        rank, noise_std: of `swap_probability`.

    Returns:
        float64 tensor of the shape of ``candidates``.

    Reference: ours; 2 log N is the threshold of Dai, Cullina, Kiyavash, Database Alignment with Gaussian Features,
    AISTATS 2019 (arXiv 1903.01422).

    Example:
        >>> exact_matching([20, 200], rank=10, noise_std=0.3).round(decimals=2).tolist()
        [1.0, 0.77]
    """
    n = within(1, math.inf, "candidates", candidates)
    return (-n * (n - 1) / 2 * swap_probability(rank, noise_std)).exp()


@dataclass(frozen=True)
class Recovery:
    """Shares (draws,) of the N rows that get their own partner: by the best of each row, and by the best matching."""

    rows: Tensor
    matching: Tensor


def recovery(rows: int, rank: int, noise_std: float, draws: int, seed: int | Generator = 0) -> Recovery:
    """Simulated `Recovery` among N rows of either modality, the subspaces and the noise being known.

    Args:
        rows: N.
        rank, noise_std: of `swap_probability`.
        draws: independent data sets.
        seed: int or `torch.Generator`.

    Example:
        >>> found = recovery(50, rank=10, noise_std=0.1, draws=2)
        >>> found.matching.tolist()
        [1.0, 1.0]
    """
    at_least(2, rows=rows)
    at_least(1, draws=draws, rank=rank)
    generator, own = as_generator(seed), torch.arange(rows)
    truth, found = (
        known_ratio(torch.eye(rank, dtype=torch.float64), torch.eye(rank, dtype=torch.float64), noise_std),
        [],
    )
    for _ in range(draws):
        z, *noise = torch.randn(3, rows, rank, generator=generator, dtype=torch.float64)
        a, b = density_ratio(truth, *(z + noise_std * e for e in noise))
        # in a complete matching the terms of single rows add up to one constant, so the inner product is enough
        matched = EDGE_RULES["assignment"](Scores(a[:, :rank], b[:, :rank]))[:, 1]
        found.append(torch.stack([(at == own).double().mean() for at in ((a @ b.mT).argmax(1), matched)]))
    return Recovery(*torch.stack(found, 1))


def known_ratio(u1: Tensor, u2: Tensor, noise_std: float) -> Ratio:
    """The `Ratio` of the model itself: subspaces U1 (d1, r), U2 (d2, r), latent variances 1, and noise are known.

    Example:
        >>> eye = torch.eye(3, dtype=torch.float64)
        >>> known_ratio(eye, eye, 0.5).correlations.tolist()
        [0.8, 0.8, 0.8]
    """
    u1 = matrix("u1", u1).double()
    r = u1.shape[1]
    u2 = matrix("u2", u2, columns=r).double()
    zero, one = torch.zeros(1, r, dtype=torch.float64), torch.ones(r, dtype=torch.float64)
    c = min(correlation(noise_std), 1 - torch.finfo(torch.float64).eps)  # at 1 the ratio is infinite
    scale = (one / math.sqrt(1 + noise_std * noise_std)).diag()
    return Ratio(u1.mT, u2.mT, zero, zero, scale, scale, one * c)
