"""How sure a detected pair is, learned from known pairs hidden among the unpaired rows; why nothing was detected."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mmcl.beyond.cross_fit import CrossFit
from mmcl.beyond.matching import Scores, log_odds
from mmcl.beyond.ratio import density_ratio

CERTAIN = 30.0  # log odds beyond which nothing differs
CROWD = 10  # known pairs are hidden among at least as many times their number of unpaired rows: it hardly grows


@dataclass(frozen=True)
class Calibration:
    """What hiding known pairs among the unpaired rows showed.

    Attributes:
        odds, right: (n,) of the best candidate of each known row: its log odds, -inf if another row wants it more, and
            whether it is the partner and no other row wants it more.
        alone: (n,) log odds of the same when the partner is withheld.
        unpaired: (N1,) log odds of the same for each unpaired row.
        detected: (m,) log odds of the detected pairs.
        information: nats that the relation holds, by the correlations on pairs not fitted to.
    """

    odds: Tensor
    right: Tensor
    alone: Tensor
    unpaired: Tensor
    detected: Tensor
    information: float

    def partner_share(self) -> float:
        """The share of unpaired rows with a partner: the mixture of the two laws of odds that is nearest to theirs.

        It is the least-squares slope of F_unpaired - F_alone on F_partner - F_alone, distribution functions of odds.
        """
        at = torch.cat([self.odds, self.alone, self.unpaired]).unique()
        partner, alone, unpaired = (
            torch.searchsorted(v.sort().values, at, right=True) / len(v) for v in (self.odds, self.alone, self.unpaired)
        )
        gap = partner - alone
        return float((((unpaired - alone) * gap).sum() / gap.square().sum().clamp(min=1e-12)).clamp(0.005, 1))

    def confidence(self, share: float) -> Tensor:
        """(m,) probability that each detected pair is right if a share of the unpaired rows has a partner.

        It is learned from hidden rows whose candidate stands out as much as the least of the detected pairs does.
        """
        odds = torch.cat([self.odds, self.alone])
        right = torch.cat([self.right.double(), torch.zeros(len(self.alone))])
        weights = torch.cat([torch.full((len(self.odds),), share), torch.full((len(self.alone),), 1 - share)])
        like = odds >= self.detected.amin() if len(self.detected) else odds.isnan()
        return logistic(odds[like], right[like], weights[like], self.detected).sigmoid()


def logistic(odds: Tensor, label: Tensor, weights: Tensor, at: Tensor) -> Tensor:
    """Log odds of a label at some places, by a weighted logistic regression on log odds; flat if one label is rare."""
    share = ((weights * label).sum() + 0.5) / (weights.sum() + 1)
    if min(int(label.sum()), int((1 - label).sum())) < 3 or not len(at):
        return share.double().logit().expand(len(at))
    scale = odds.std().clamp(min=1e-9)
    learned = LogisticRegression(C=100.0)
    learned.fit((odds / scale).unsqueeze(1).numpy(), label.numpy(), sample_weight=weights.clamp(min=1e-6).numpy())
    return torch.as_tensor(learned.coef_[0, 0] * (at / scale).numpy() + learned.intercept_[0])


def calibration(p: CrossFit, pairs: Tensor, absent: float) -> Calibration:
    """Hide each fold of the known pairs among the unpaired rows, and look for their partners by a model without it.

    Args:
        p: known pairs and unpaired rows.
        pairs: (m, 2) the detected pairs, which the models are fitted to beside the known ones.
        absent: weight of a row having no partner, see `mmcl.beyond.matching.log_odds`.
    """
    n1, n2 = len(p.more), len(p.more_tilde)
    odds, right, alone, unpaired, information = [], [], [], p.x.new_empty(n1), []
    detected = p.x.new_empty(len(pairs))
    few = max(1, min(n1, n2) // CROWD)
    for k, ratio in enumerate(p.models(pairs)[0]):
        information.append(float(-torch.log1p(-(ratio.correlations**2)).sum() / 2))
        a, b = density_ratio(ratio, p.more, p.more_tilde)
        unpaired[k :: p.folds] = candidates(Scores(a, b), absent)[0][k :: p.folds]
        here = pairs[:, 0] % p.folds == k
        detected[here] = odds_of(Scores(a, b), pairs[here], absent)
        known, known_tilde = density_ratio(ratio, *p.fold(k))
        for u, v in zip(known.split(few), known_tilde.split(few), strict=True):
            best, at = candidates(Scores(torch.cat([a, u]), torch.cat([b, v])), absent)
            odds.append(best[n1:])
            right.append((at[n1:] == n2 + torch.arange(len(u))) & best[n1:].isfinite())
            alone.append(candidates(Scores(torch.cat([a, u]), b), absent)[0][n1:])
    found = [torch.cat(v) for v in (odds, right, alone)]
    return Calibration(found[0], found[1], found[2], unpaired, detected, float(np.mean(information)))


def candidates(scores: Scores, absent: float) -> tuple[Tensor, Tensor]:
    """Log odds of the best candidate of each row, -inf if another row wants it more, and which it is."""
    odds, at = log_odds(scores, scores.summary.column_sum, absent, own=True)
    odds = odds.clamp(-CERTAIN, CERTAIN)
    best = odds.new_full((scores.shape[1],), -math.inf).scatter_reduce(0, at, odds, "amax")
    return odds.where(odds == best[at], -math.inf), at


def odds_of(scores: Scores, pairs: Tensor, absent: float) -> Tensor:
    """Log odds (m,) of pairs (m, 2), as of `mmcl.beyond.matching.log_odds`."""
    (rows, columns), s, own = pairs.T, scores.summary, scores.of(pairs).clamp(max=300)
    others = s.row_sum[rows].clamp(max=300).exp() + s.column_sum[columns].clamp(max=300).exp() - 2 * own.exp()
    return (own - (others.clamp(min=0) + absent).log()).clamp(-CERTAIN, CERTAIN)


def why_nothing(found: Calibration, n: int, n1: int, n2: int, rank: int, fdr: float) -> str:
    """In words: were the pairs too few, or was the relation too weak, and how much would do?"""
    must, known = math.ceil(n1 / (fdr * (2 * n + 1))), float(found.right.double().mean())
    there = min(n1, n2) * (found.partner_share() * known if known > 0.5 else 0.5)  # that could stand out, at most
    if must > there:
        return (
            f"too few pairs: with {n} known pairs and {n1} unpaired rows, a rate of {fdr:g} asks for at least {must} "
            f"pairs that stand out from all null statistics, and about {there:.0f} could; about "
            f"{math.ceil(n1 / (fdr * max(there, 1)))} known pairs would do, or fewer rows"
        )
    rivals = math.exp(min(found.information, 50.0))
    enough = math.sqrt(1 - math.exp(-2 * math.log(max(n1, n2)) / rank))
    return (
        f"too weak a relation: hidden among {n2} candidates, {known:.0%} of the known pairs find their partner; what "
        f"both sides share tells a partner from about {rivals:.0f} of them. It would take "
        f"correlations of about {enough:.2f} in all {rank} dimensions (more pairs bring them out if they are there), "
        "or fewer candidates for each row"
    )
