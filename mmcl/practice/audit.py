"""Which of my pairs are wrong? Scores by models that have not seen the pair, and a share with its limits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.stats import false_discovery_control
from torch import Tensor
from tqdm.auto import tqdm

from mmcl._checks import as_generator, at_least, fraction, share
from mmcl.beyond.ratio import Ratio, density_ratio
from mmcl.practice.inputs import as_pair, usable_rows
from mmcl.practice.robust import Whitened, robust_fit, truths, weighted_fit, whitened
from mmcl.practice.wrong_share import (
    LEVELS,
    Binormal,
    Share,
    estimate_share,
    most_wrong,
    stranger_ranks,
    upper_share,
)

TOGETHER = 1000  # rows that are strangers to each other at a time
FEWEST = 50  # pairs, below which nothing can be said


@dataclass(frozen=True)
class Power:
    """How much an audit could see at all.

    Attributes:
        auc: the probability that a right pair scores above a pair of strangers, if as few pairs are wrong as the
            interval of ``wrong_share`` allows, that is at least; 0.5 sees nothing.
        found: the expected share of the wrong pairs that the list of suspects holds.
        if_clean: the upper bound on the share of wrong pairs that this audit would give if none were wrong.
        sees: whether own pairs score above strangers more than by chance (their mean rank, by three standard errors of
            ranks that are uniform); if not, nothing else that is said of wrong pairs counts.
    """

    auc: float
    found: float
    if_clean: float
    sees: bool

    def __str__(self) -> str:
        if not self.sees:
            return "the pairs score as strangers do, so that this audit could not have seen wrong ones."
        return (
            f"a right pair scores above a pair of strangers in at least {self.auc:.1%} of cases; the suspects hold "
            f"about {self.found:.0%} of the wrong pairs; if none were wrong, the bound would be {self.if_clean:.1%}."
        )


@dataclass(frozen=True)
class Audit:
    """What an audit of n pairs found.

    Attributes:
        score: (n,) share of strangers' scores below the pair's own, all by a model that has seen neither.
        probability: (n,) that the pair is wrong, under the model of ``wrong_share``.
        rate: (n,) share of right pairs to expect among the pairs that are at least as suspect, on the safe side.
        suspects: (m,) int64, the pairs with a rate of at most ``fdr``, the most suspect first.
        wrong_share_upper: limits that hold whatever the law of right pairs is (`upper_share`): high covers with the
            confidence asked for, value with one of a half.
        wrong_share: the estimate, and its interval, if scores are binormal (`estimate_share`).
        power: how much could have been seen.
        model: the law of the scores.
        weight: (n,) for fits to all pairs: the root of 1 - probability. Of seven weightings it was chosen on the
            retrieval of held-out rows, on other splits than those that are reported.
        refit: encoders .g1, .g2 and density ratio of all pairs with these weights.
    """

    score: Tensor
    probability: Tensor
    rate: Tensor
    suspects: Tensor
    wrong_share_upper: Share
    wrong_share: Share
    power: Power
    model: Binormal
    weight: Tensor
    refit: Ratio


def audit(
    X: Any,
    Y: Any,
    *,
    n_components: int = 20,
    ridge: float = 0.1,
    trusted: Sequence[bool] | Tensor | None = None,
    fdr: float = 0.2,
    confidence: float = 0.95,
    folds: int = 5,
    rounds: int = 4,
    random_state: int = 0,
    progress: bool = False,
) -> Audit:
    """Score every pair by models that have not seen it, rank the suspects, bound and estimate the share of wrong pairs.

    A wrong pair is taken to be a pair of strangers: a row and the partner of another row, without regard to what they
    show. The pairs are dealt into folds. For each fold encoders are fitted to the others, each of which weighs as much
    as it looks right (`robust_fit`), and score own pairs and all pairs of strangers of the fold.

    Args:
        X, Y: (n, d1), (n, d2) features in any container (see `mmcl.MMCL`), row i of one paired with row i of the
            other; n at least 50.
        n_components: dimensions that are compared; at most those of the features.
        ridge: added to the variances of the standardised features before whitening.
        trusted: (n,) bool, pairs known to be right. With them ``rate`` is controlled by their scores alone
            (conformal p-values and Benjamini-Hochberg) and the shares are of the others; without them it follows the
            model at the low end of the interval of ``wrong_share``.
        fdr: share of right pairs among the suspects to accept, between 0 and 1.
        confidence: of limits and interval.
        folds, rounds: of the cross-fit, at least 2; of weighing within it.
        random_state: of the folds.
        progress: show a progress bar on stderr.

    Returns:
        Audit.

    Raises:
        ValueError: for bad data, fewer than 50 pairs, or an option that is out of its range.

    Example:
        >>> from mmcl.data import spiked
        >>> p = spiked(600, 12, 10, rank=4, noise_std=0.3, wrong_share=0.3)
        >>> found = audit(p.x, p.x_tilde, n_components=4)
        >>> found.wrong_share.low < 0.3 < found.wrong_share_upper.high
        True
        >>> bool(found.probability[p.wrong].mean() > 0.8 > 0.2 > found.probability[~p.wrong].mean())
        True

    Reference: chapter 16_your_pairs.
    """
    at_least(1, n_components=n_components, rounds=rounds)
    at_least(2, folds=folds)
    share(fdr=fdr)
    fraction(confidence=confidence)
    generator = as_generator(random_state)
    (x, y), _ = usable_rows(as_pair(X, Y), slice(None), False)
    n, rank = len(x), min(n_components, x.shape[1], y.shape[1])
    if n < FEWEST:
        raise ValueError(f"n = {n} pairs; an audit compares each with strangers of its fold, so give {FEWEST} or more")
    safe = torch.zeros(n, dtype=torch.bool) if trusted is None else truths("trusted", trusted, n)
    w = whitened(x.double(), y.double(), ridge)
    fold, score = torch.randperm(n, generator=generator) % folds, torch.empty(n).double()
    for k in tqdm(range(folds), desc="audit", unit="fold", disable=not progress):
        rest, here = fold != k, (fold == k).nonzero().squeeze(1)
        judge = robust_fit(w.x[rest], w.x_tilde[rest], rank, safe[rest], rounds, seed=generator)
        for rows in here.chunk(-(-len(here) // TOGETHER)):
            a, b = density_ratio(judge, w.x[rows], w.x_tilde[rows])
            score[rows] = stranger_ranks(a @ b.mT)
    return conclude(score, safe, w, rank, fdr, confidence)


def conclude(score: Tensor, safe: Tensor, w: Whitened, rank: int, fdr: float, confidence: float) -> Audit:
    """What the ranks of the scores say; see `audit`."""
    upper = upper_share(score[~safe], confidence)
    estimate, model = estimate_share(score[~safe], score[safe], confidence)
    probability = model.probability_wrong(score).where(~safe, 0.0)
    rate = expected_rate(replace(model, share=estimate.low).probability_wrong(score), score, safe)
    order = torch.argsort(score, stable=True)
    suspects = order[(rate[order] <= fdr) & ~safe[order]]
    found = float(probability[suspects].sum() / probability.sum().clamp(min=1e-12))
    clean = (model.below(torch.as_tensor(LEVELS)) * len(score)).round().numpy()
    few, rank_mean = min(estimate.low, 0.99), float(score[~safe].mean())
    auc = min(1.0, max(0.5, (rank_mean - few / 2) / (1 - few)))  # since rank_mean = few / 2 + (1 - few) auc
    sees = rank_mean - 0.5 > 3 / math.sqrt(12 * int((~safe).sum()))
    power = Power(auc, min(1.0, found), most_wrong(clean, len(score), confidence), sees)
    weight = (1 - probability).clamp(min=1e-8).sqrt()
    refit = in_features(weighted_fit(w.x, w.x_tilde, weight, rank), w)
    estimate = estimate.at_most(upper.high)
    return Audit(score, probability, rate, suspects, upper, estimate, power, model, weight, refit)


def expected_rate(probability: Tensor, score: Tensor, safe: Tensor) -> Tensor:
    """Share of right pairs (n,) to expect among those at least as suspect: by trusted pairs, else by the model."""
    if bool(safe.any()):
        trusted, rate = score[safe].sort().values, torch.ones_like(score)
        values = (1 + torch.searchsorted(trusted, score[~safe], right=True)) / (len(trusted) + 1)
        rate[~safe] = torch.as_tensor(false_discovery_control(values.double().numpy()))
        return rate
    order = torch.argsort(score, stable=True)
    right = (1 - probability[order]).cumsum(0) / torch.arange(1, len(order) + 1)
    return torch.empty_like(right).scatter(0, order, right)


def in_features(judge: Ratio, w: Whitened) -> Ratio:
    """A judge of whitened rows as one of the rows that were whitened."""
    g1, g2 = judge.g1 @ w.map.mT, judge.g2 @ w.map_tilde.mT
    return replace(
        judge, g1=g1, g2=g2, mean=judge.mean + w.mean @ g1.mT, mean_tilde=judge.mean_tilde + w.mean_tilde @ g2.mT
    )
