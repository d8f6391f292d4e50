"""Which unpaired rows are partners: density ratios that hold for new pairs, and detection, with error control."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.stats import false_discovery_control
from torch import Tensor

from mmcl._checks import alike, fraction, has_encoders, one_of
from mmcl.beyond.cross_fit import CrossFit, cross_fit, shrunk
from mmcl.beyond.matching import EDGE_RULES, Scores, log_odds
from mmcl.beyond.ratio import SCORES, EncoderPair, Ratio, density_ratio, gaussian_ratio


@dataclass(frozen=True)
class DetectedPairs:
    """Pairs found among unpaired rows.

    Attributes:
        pairs: (m, 2) int64, row of the first modality and row of the second, by row.
        confidence: (m,) estimated probability that the pair is right, from the Gaussian density ratio: the odds of the
            pair against every other that shares one of its rows and, under error control, against having no partner.
        rate: (m,) under error control, the smallest ``fdr`` at which the pair is still detected; else None.
    """

    pairs: Tensor
    confidence: Tensor
    rate: Tensor | None = None


def calibrate(fit: EncoderPair, x: Tensor, x_tilde: Tensor, folds: int = 5) -> Ratio:
    """Encoders together with a Gaussian density ratio that holds for new pairs too.

    Args:
        fit: anything with encoders .g1 (r, d1), .g2 (r, d2), fitted to the pairs.
        x, x_tilde: (n, d1), (n, d2) those pairs.
        folds: of the cross-fit that finds by how much correlations on new pairs fall short of those on the fitted.

    Returns:
        `mmcl.beyond.ratio.Ratio`, for `score_matrix` and `detect_pairs`.

    Raises:
        ValueError: for bad data, or too few pairs for the folds and the rank.

    Example:
        >>> from mmcl.data import spiked
        >>> from mmcl.spectral import fit
        >>> p = spiked(60, 30, 28, rank=6, noise_std=0.5)
        >>> g = fit(p.x, p.x_tilde, rank=6)
        >>> plain, ours = gaussian_ratio(g, p.x, p.x_tilde), calibrate(g, p.x, p.x_tilde)
        >>> [round(float(r.correlations.mean()), 1) for r in (plain, ours)]  # 0.8 on new pairs
        [0.9, 0.8]
    """
    has_encoders(fit)
    rank = fit.g1.shape[-2]
    p = cross_fit(x, x_tilde, torch.empty(0, fit.g1.shape[-1]), torch.empty(0, fit.g2.shape[-1]), rank, folds)
    return calibrated(fit, p, torch.empty(0, 2, dtype=torch.int64))


def calibrated(fit: EncoderPair, p: CrossFit, edges: Tensor) -> Ratio:
    """`Ratio` of encoders fitted to the known pairs and edges of a `CrossFit`."""
    return shrunk(gaussian_ratio(fit, *p.pairs(edges)), p.models(edges)[1])


def score_matrix(fit: EncoderPair, x: Tensor, x_tilde: Tensor) -> Tensor:
    """Log density ratio log p(x_i, x~_j) / (p(x_i) p(x~_j)) of all rows against all rows, in nats.

    Args:
        fit: a result of `detect_and_refit` or of `calibrate`.
        x, x_tilde: (N1, d1), (N2, d2) rows.

    Returns:
        (N1, N2). The largest of a row is the Bayes rule's guess of its partner under the Gaussian model.

    Raises:
        ValueError: if the fit has no density ratio.

    Example:
        >>> from mmcl.data import spiked
        >>> from mmcl.spectral import fit
        >>> p = spiked(100, 12, 10, rank=4, noise_std=0.05)
        >>> s = score_matrix(calibrate(fit(p.x, p.x_tilde, rank=4), p.x, p.x_tilde), p.x[:20], p.x_tilde[:20])
        >>> torch.equal(s.argmax(1), torch.arange(20))
        True
    """
    a, b = density_ratio(fit, *alike(x=x, x_tilde=x_tilde))
    return a @ b.mT


def detect_pairs(
    fit: EncoderPair,
    x: Tensor,
    x_tilde: Tensor,
    x_unpaired: Tensor,
    x_tilde_unpaired: Tensor,
    fdr: float | None = None,
    rule: str = "mutual",
    score: str = "density_ratio",
    folds: int = 5,
) -> DetectedPairs:
    """Pairs among rows whose pairing is unknown, by an edge rule, or with a controlled share of wrong ones.

    Error control asks for every unpaired row i: is its best candidate its partner? The statistic is the log odds of
    the pair against all pairs that exclude it, and against no partner. A row without partner has statistics from the
    same law as a known pair's row whose own partner is withheld; so do columns. With both modalities of the n known
    pairs withheld in turn there are 2n such null statistics, p-values ((1 + their number above) / (2n + 1)), and
    Benjamini-Hochberg. All is cross-fitted: pairs and rows of one fold are judged by encoders that have seen neither.
    A row whose partner is there but beaten has a false statistic that is smaller still, which errs on the safe side.

    Args:
        fit: encoders .g1, .g2 fitted to the pairs, as of `mmcl.spectral.fit`; or a result of `detect_and_refit` on the
            same unpaired rows, whose detected pairs then help.
        x, x_tilde: (n, d1), (n, d2) the known pairs, in random order.
        x_unpaired, x_tilde_unpaired: (N1, d1), (N2, d2).
        fdr: None to apply the edge rule to all rows, which supposes that rows have partners; else the largest share
            q of wrong pairs among the detected that is allowed in expectation, between 0 and 1. The smallest p-value
            is 1/(2n + 1), so nothing is detected unless about N / (q (2n + 1)) pairs stand out.
        rule: edge rule, a name in `mmcl.beyond.matching.EDGE_RULES`, without error control.
        score: a name in `mmcl.beyond.ratio.SCORES`, without error control.
        folds: of the cross-fit, at least 2.

    Returns:
        `DetectedPairs`.

    Raises:
        ValueError: for bad data, fdr, rule or score.

    Example:
        >>> from mmcl.data import spiked
        >>> from mmcl.spectral import fit
        >>> p = spiked(200, 12, 10, rank=4, noise_std=0.05)
        >>> known, rest = (p.x[:100], p.x_tilde[:100]), (p.x[100:], p.x_tilde[100:].flip(0))
        >>> found = detect_pairs(fit(*known, rank=4), *known, *rest, fdr=0.2)
        >>> len(found.pairs) > 90, bool((found.pairs.sum(1) == 99).double().mean() > 0.8)
        (True, True)

    Reference: V. Vovk, Cross-conformal predictors, 2015 (the p-values); Bates, Candes, Lei, Romano, Sesia, Testing for
    outliers with conformal p-values, Annals of Statistics 2023 (with Benjamini-Hochberg); chapter 13_detection_limits.
    """
    has_encoders(fit)
    p = cross_fit(x, x_tilde, x_unpaired, x_tilde_unpaired, fit.g1.shape[-2], folds)
    before = getattr(fit, "pairs", torch.empty(0, 2, dtype=torch.int64))
    if len(before) and bool((before.amax(0) >= torch.tensor([len(p.more), len(p.more_tilde)])).any()):
        raise ValueError(f"fit.pairs goes up to {before.amax(0).tolist()}; pass the unpaired rows it was made with")
    return detect(fit, p, before, *checked(fdr, rule, score))


def checked(fdr: float | None, rule: str, score: str) -> tuple[float | None, Callable, Callable]:
    """The three arguments, names replaced by functions."""
    if fdr is not None:
        fraction(fdr=fdr)
    one_of(EDGE_RULES, rule=rule)
    one_of(SCORES, score=score)
    return fdr, EDGE_RULES[rule], SCORES[score]


def detect(
    fit: EncoderPair, p: CrossFit, before: Tensor, fdr: float | None, rule: Callable, score: Callable
) -> DetectedPairs:
    """`detect_pairs` after the checks; ``before`` are edges that the fit was made with."""
    if not len(p.more) or not len(p.more_tilde):
        return DetectedPairs(torch.empty(0, 2, dtype=torch.int64), torch.empty(0, dtype=p.x.dtype))
    if fdr is not None:
        return controlled(p, before, fdr)
    ratio = fit if isinstance(fit, Ratio) else calibrated(fit, p, before)
    likely = Scores(*density_ratio(ratio, p.more, p.more_tilde))
    found = rule(likely if score is density_ratio else Scores(*score(ratio, p.more, p.more_tilde)))
    found = found[found[:, 0].argsort(stable=True)]
    s, own = likely.summary, likely.of(found)
    others = (s.row_sum[found[:, 0]] - own).exp() + (s.column_sum[found[:, 1]] - own).exp() - 2
    return DetectedPairs(found, 1 / (1 + others.clamp(min=0)))


@dataclass(frozen=True)
class Evidence:
    """What error control looks at: how well each row's best candidate stands out, and how well a wrong one does.

    Attributes:
        odds: (N1,) log odds of the best pair of each unpaired row of the first modality, as of `log_odds`.
        at: (N1,) the unpaired row of the second modality in that pair.
        null_rows, null_columns: (n,), (n,) the same of the rows of the known pairs, of the first and of the second
            modality, searching among the unpaired rows: their own partner is not there, so what they find is wrong.
    """

    odds: Tensor
    at: Tensor
    null_rows: Tensor
    null_columns: Tensor


def evidence(p: CrossFit, before: Tensor) -> Evidence:
    """`Evidence` of the unpaired rows, each fold judged by encoders of the others; ``before`` are detected pairs."""
    n1, n2 = len(p.more), len(p.more_tilde)
    odds, at = torch.empty(n1, dtype=p.x.dtype), torch.empty(n1, dtype=torch.int64)
    rows, columns = [], []
    for k, ratio in enumerate(p.models(before)[0]):
        a, b = density_ratio(ratio, p.more, p.more_tilde)
        s = Scores(a, b).summary
        own = slice(k, None, p.folds)
        odds[own], at[own] = log_odds(Scores(a[own], b), s.column_sum, max(n1, n2), own=True)
        a_known, b_known = density_ratio(ratio, *p.fold(k))
        rows.append(log_odds(Scores(a_known, b), s.column_sum, max(n1, n2), own=False)[0])
        columns.append(log_odds(Scores(b_known, a), s.row_sum, max(n1, n2), own=False)[0])
    return Evidence(odds, at, torch.cat(rows), torch.cat(columns))


def controlled(p: CrossFit, before: Tensor, fdr: float) -> DetectedPairs:
    """Detection at a false discovery rate, see `detect_pairs`."""
    e, n1, n2 = evidence(p, before), len(p.more), len(p.more_tilde)
    above = [(null.unsqueeze(0) >= e.odds.unsqueeze(1)).sum(1) for null in (e.null_rows, e.null_columns)]
    values = (above[0] + 0.5 + (above[1] + 0.5) * n2 / n1) / (2 * len(p.x) + 1)
    rate = torch.as_tensor(false_discovery_control(values.clamp(max=1).numpy()))
    keep = rate <= fdr
    best = e.odds.new_full((n2,), -math.inf).scatter_reduce(0, e.at[keep], e.odds[keep], "amax")
    keep &= e.odds == best[e.at]  # of rows that want the same column, the likeliest
    return DetectedPairs(torch.stack([keep.nonzero().squeeze(1), e.at[keep]], 1), e.odds[keep].sigmoid(), rate[keep])
