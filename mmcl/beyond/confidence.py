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


@dataclass(frozen=True)
class Calibration:
    """What hiding known pairs among the unpaired rows showed.

    Attributes:
        odds, right: of the best candidate of each known row, if no other row wants it more: its log odds, and whether
            it is the partner.
        alone: log odds of the same when the partner is withheld.
        unpaired: log odds of the same for each unpaired row.
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
        """The share of unpaired rows with a partner that makes their odds most likely: a mixture of the two laws."""
        partner = torch.cat([torch.ones(len(self.odds)), torch.zeros(len(self.alone))])
        ratio = logistic(torch.cat([self.odds, self.alone]), partner, torch.ones_like(partner), self.unpaired)
        shares = torch.linspace(0.005, 1, 200, dtype=torch.float64).unsqueeze(1)
        return float(shares[torch.log1p(shares * torch.expm1(ratio)).sum(1).argmax()])

    def confidence(self, share: float) -> Tensor:
        """(m,) probability that each detected pair is right if a share of the unpaired rows has a partner."""
        odds = torch.cat([self.odds, self.alone])
        right = torch.cat([self.right.double(), torch.zeros(len(self.alone))])
        weights = torch.cat([torch.full((len(self.odds),), share), torch.full((len(self.alone),), 1 - share)])
        return logistic(odds, right, weights, self.detected).sigmoid()


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
    odds, right, alone, unpaired, information = [], [], [], [], []
    detected = torch.empty(len(pairs)).to(p.x)
    for k, ratio in enumerate(p.models(pairs)[0]):
        x, x_tilde = p.fold(k)
        scores = Scores(*density_ratio(ratio, torch.cat([p.more, x]), torch.cat([p.more_tilde, x_tilde])))
        best, at, wins = candidates(scores, absent)
        odds.append(best[n1:][wins[n1:]])
        right.append((at[n1:] == n2 + torch.arange(len(x)))[wins[n1:]])
        lonely, _, alone_wins = candidates(Scores(scores.a, scores.b[:n2]), absent)
        alone.append(lonely[n1:][alone_wins[n1:]])
        own_fold = wins[:n1] & (torch.arange(n1) % p.folds == k)
        unpaired.append(best[:n1][own_fold])
        information.append(float(-torch.log1p(-(ratio.correlations**2)).sum() / 2))
        here = pairs[:, 0] % p.folds == k
        rows, columns = pairs[here].T
        own, s = scores.of(pairs[here]).clamp(max=300), scores.summary
        others = s.row_sum[rows].clamp(max=300).exp() + s.column_sum[columns].clamp(max=300).exp() - 2 * own.exp()
        detected[here] = (own - (others.clamp(min=0) + absent).log()).clamp(-CERTAIN, CERTAIN)
    found = [torch.cat(v) for v in (odds, right, alone, unpaired)]
    return Calibration(found[0], found[1], found[2], found[3], detected, float(np.mean(information)))


def candidates(scores: Scores, absent: float) -> tuple[Tensor, Tensor, Tensor]:
    """Log odds of the best candidate of each row, which it is, and whether no other row wants it more."""
    odds, at = log_odds(scores, scores.summary.column_sum, absent, own=True)
    odds = odds.clamp(-CERTAIN, CERTAIN)
    best = odds.new_full((scores.shape[1],), -math.inf).scatter_reduce(0, at, odds, "amax")
    return odds, at, odds == best[at]


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
        f"too weak a relation: hidden among {n2} candidates, {known:.0%} of the known pairs find "
        f"their partner; {found.information:.1f} nats tell a partner from about {rivals:.0f} strangers. It would take "
        f"correlations of about {enough:.2f} in all {rank} dimensions (more pairs bring them out if they are there), "
        "or fewer candidates for each row"
    )
