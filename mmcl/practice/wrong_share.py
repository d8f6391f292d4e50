"""How many pairs are wrong, from ranks of scores among strangers: a bound that assumes nothing, and an estimate."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from scipy.stats import binom, chi2
from torch import Tensor

from mmcl._checks import as_square, as_tensor, at_least, fraction, shown

LEVELS = np.linspace(0.02, 0.98, 97)  # the ranks at which the laws of own pairs and of strangers are compared
SHARES = torch.linspace(0, 0.995, 200, dtype=torch.float64)  # of wrong pairs, that an estimate chooses among


@dataclass(frozen=True)
class Share:
    """A share with its limits: value, low and high, all between 0 and 1."""

    value: float
    low: float
    high: float

    def at_most(self, limit: float) -> "Share":
        """The same, cut at a limit."""
        return Share(*(min(v, limit) for v in (self.value, self.low, self.high)))


@dataclass(frozen=True)
class Binormal:
    """Two groups: normal scores of wrong pairs are N(0, 1), of right pairs N(mean, std^2); a share p is wrong."""

    mean: float
    std: float
    share: float

    def log_ratio(self, z: Tensor) -> Tensor:
        """log of the density of right pairs over that of wrong ones, made monotone where that of two normals is not."""
        if self.std < 1:  # the parabola turns here: beyond, a higher score would speak for a wrong pair
            z = z.clamp(max=self.mean / (1 - self.std**2))
        return (z**2 - ((z - self.mean) / self.std) ** 2) / 2 - math.log(self.std)

    def probability_wrong(self, u: Tensor) -> Tensor:
        """Of pairs whose scores have the ranks u among strangers: p / (p + (1 - p) ratio)."""
        odds = self.log_ratio(normal_score(u)) + math.log1p(-self.share) - math.log(max(self.share, 1e-300))
        return (-odds).sigmoid()

    def below(self, u: Tensor) -> Tensor:
        """The share of right pairs whose scores are below the share u of strangers' scores."""
        return torch.special.ndtr((normal_score(u) - self.mean) / self.std)

    @property
    def auc(self) -> float:
        """The probability that a right pair scores above a stranger."""
        return float(torch.special.ndtr(torch.tensor(self.mean / math.sqrt(1 + self.std**2))))


def normal_score(u: Tensor) -> Tensor:
    """The quantile of the standard normal law at each rank, all between 0 and 1.

    Example:
        >>> normal_score(torch.tensor([0.5, 0.975])).round(decimals=2)
        tensor([0.0000, 1.9600])
    """
    return torch.special.ndtri(_ranks("u", u))


def _ranks(name: str, u: Tensor) -> Tensor:
    u = as_tensor(name, u)
    if u.ndim != 1 or not bool(((u > 0) & (u < 1)).all()):
        raise ValueError(f"{name} = {shown(u)}; give ranks (n,) above 0 and below 1, as of stranger_ranks")
    return u


def stranger_ranks(scores: Tensor) -> Tensor:
    """Of scores (m, m) of m rows against m rows: the share of strangers' scores i != j below each own score i = i.

    Example:
        >>> stranger_ranks(torch.tensor([[3.0, 1.0], [2.0, 1.5]]))
        tensor([0.8333, 0.5000])
    """
    scores = as_square("scores", scores)
    m = len(scores)
    if scores.ndim > 2 or m < 2:
        raise ValueError(f"scores has shape {tuple(scores.shape)}; give the scores of m rows against m rows, m >= 2")
    strangers = scores[~torch.eye(m, dtype=torch.bool)].sort().values
    own = scores.diagonal().contiguous()
    below = (torch.searchsorted(strangers, own) + torch.searchsorted(strangers, own, right=True)) / 2
    return ((below + 0.5) / (m * (m - 1) + 1)).to(scores.dtype)


def upper_share(u: Tensor, confidence: float = 0.95) -> Share:
    """The largest share of wrong pairs that the ranks allow, whatever the law of right pairs is.

    A wrong pair is a pair of strangers, so its rank is uniform, and own pairs below the rank t are at least the wrong
    ones: F_own(t) >= p t, that is p <= inf_t F_own(t) / t. The limit is the largest number m of wrong pairs for which
    no count of own pairs below a t is improbably small for a Binomial(m, t); "improbably" is set by simulation so that
    it holds at all t together. Ranks are among the strangers that the same rows form. What the rows have in common with
    them moves both alike, so that the count of wrong pairs varies at most as a Binomial(m, t) about t m and the error
    of the strangers' law needs no band of its own.

    Args:
        u: (n,) ranks in (0, 1) of own scores among strangers' (`stranger_ranks`).
        confidence: of the limit.

    Returns:
        Share: high is the limit, which is not below the share of wrong pairs among these n with the confidence given;
        value is the same with a confidence of one half; low is 0, since right pairs may look like strangers too.

    Example:
        >>> u = torch.cat([torch.arange(0.5, 300) / 300, torch.full((700,), 0.999)]).double()
        >>> bound = upper_share(u)  # 30 % look like strangers
        >>> round(bound.value, 2), round(bound.high, 2)
        (0.3, 0.31)

    Reference: Meinshausen, Rice, Estimating the proportion of false null hypotheses, Annals of Statistics 2006;
    Genovese, Wasserman, A stochastic process approach to false discovery control, 2004 (the envelope).
    """
    fraction(confidence=confidence)
    u = _ranks("u", u)
    at_least(1, n=len(u))
    counts = (u.unsqueeze(1) <= torch.as_tensor(LEVELS)).sum(0).numpy()
    middle, high = (most_wrong(counts, len(u), c) for c in (0.5, confidence))
    return Share(middle, 0.0, high)


def most_wrong(counts: np.ndarray, n: int, confidence: float) -> float:
    """The limit of `upper_share` from the counts of own pairs below each of the levels."""
    improbable = _improbable(n, confidence)
    low, high = np.zeros(len(LEVELS), dtype=int), np.full(len(LEVELS), n)
    while (low < high).any():  # bisection: the largest number of wrong pairs at each level
        middle = (low + high + 1) // 2
        allowed = binom.cdf(counts, middle, LEVELS) >= improbable
        low, high = np.where(allowed, middle, low), np.where(allowed, high, middle - 1)
    return float(low.min()) / n


@lru_cache(maxsize=64)
def _improbable(n: int, confidence: float) -> float:
    """The probability that the least probable of the counts of n uniform ranks is below in 1 - confidence of cases."""
    sims = np.random.default_rng(0).multinomial(n, np.diff(LEVELS, prepend=0, append=1), 2000).cumsum(1)[:, :-1]
    return float(np.quantile(binom.cdf(sims, n, LEVELS).min(1), 1 - confidence))


def estimate_share(u: Tensor, trusted: Tensor | None = None, confidence: float = 0.95) -> tuple[Share, Binormal]:
    """The share of wrong pairs if both laws are normal on one scale, by maximum likelihood, with a likelihood interval.

    On the scale where strangers' scores are standard normal, those of right pairs are taken to be normal with a mean
    above 0 and a standard deviation of at most 1 (the binormal model of ROC curves). That is what the estimate assumes.

    Args:
        u: (n,) ranks of own scores among strangers'.
        trusted: (m,) ranks of pairs that are known to be right, if there are any: they show the law of right pairs.
        confidence: of the interval.

    Returns:
        Share, and the `Binormal` model at its value.

    Example:
        >>> z = torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> z[600:] = 2 + 0.7 * z[600:]
        >>> share, model = estimate_share(torch.special.ndtr(z))
        >>> share.low < 0.3 < share.high, round(model.mean, 1), round(model.std, 1)
        (True, 2.0, 0.7)
    """
    fraction(confidence=confidence)
    u = _ranks("u", u)
    at_least(1, n=len(u))
    trusted = u[:0] if trusted is None else _ranks("trusted", trusted)
    z, count = normal_score(u).mul(30).round().div(30).unique(return_counts=True)  # in bins: as good, and fast
    known = normal_score(trusted)
    right = count * (1 - SHARES.unsqueeze(1)).expand(-1, len(z))
    for step in range(150):
        total = (right.sum(1) + len(known)).clamp(min=1e-9)
        mean = (((right * z).sum(1) + known.sum()) / total).clamp(min=0)
        if step == 0:  # all pairs would have this mean if wrong ones had none
            mean = mean / (1 - SHARES)
        spread = (right * (z - mean.unsqueeze(1)) ** 2).sum(1) + ((known - mean.unsqueeze(1)) ** 2).sum(1)
        std = (spread / total).sqrt().clamp(0.2, 1.0)
        ratio = ((z**2 - ((z - mean.unsqueeze(1)) / std.unsqueeze(1)) ** 2) / 2 - std.log().unsqueeze(1)).exp()
        mixed = SHARES.unsqueeze(1) + (1 - SHARES.unsqueeze(1)) * ratio
        right = count * (1 - SHARES.unsqueeze(1)) * ratio / mixed.clamp(min=1e-300)
    known_fit = -(((known - mean.unsqueeze(1)) / std.unsqueeze(1)) ** 2) / 2 - std.log().unsqueeze(1)
    likelihood = (count * mixed.clamp(min=1e-300).log()).sum(1) + known_fit.sum(1)
    at = int(likelihood.argmax())
    inside = SHARES[2 * (likelihood[at] - likelihood) <= chi2.ppf(confidence, 1)]
    model = Binormal(float(mean[at]), float(std[at]), float(SHARES[at]))
    if model.mean < 0.05:  # right pairs score as strangers do: the ranks say nothing about the share
        return Share(float(SHARES[at]), 0.0, 1.0), replace(model, share=float(SHARES[at]))
    return Share(float(SHARES[at]), float(inside.min()), float(inside.max())), model
