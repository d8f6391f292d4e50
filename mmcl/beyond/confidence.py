"""How sure a detected pair is, learned from known pairs hidden among the unpaired rows, and why nothing was detected."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mmcl.beyond.cross_fit import CrossFit
from mmcl.beyond.matching import Scores, log_odds
from mmcl.beyond.ratio import density_ratio


@dataclass(frozen=True)
class Calibration:
    """What hiding known pairs among the unpaired rows showed.

    Attributes:
        odds, right: (n,) of the best candidate of each known row: its log odds, and whether it is the partner.
        unpaired: (N1,) log odds of the best candidate of each unpaired row.
        detected: (m,) log odds of the detected pairs.
        information: nats that the relation holds, by the correlations on pairs not fitted to.
    """

    odds: Tensor
    right: Tensor
    unpaired: Tensor
    detected: Tensor
    information: float

    def confidence(self) -> Tensor:
        """(m,) probability that each detected pair is right.

        A logistic regression of right on odds, with its prior moved to the share of right candidates under which the
        odds of the unpaired rows are most likely: some of these may have no partner.
        """
        n, known = len(self.right), self.right.double().mean()
        prior = ((n * known + 1) / (n + 2)).clamp(1e-6, 1 - 1e-6)
        detected, unpaired = (self._logit(prior, odds) - prior.logit() for odds in (self.detected, self.unpaired))
        share = prior
        for _ in range(200):
            share = (unpaired + share.logit()).sigmoid().mean().clamp(1e-6, 1 - 1e-6)
        return (detected + share.logit()).sigmoid()

    def _logit(self, prior: Tensor, odds: Tensor) -> Tensor:
        """Log odds that a candidate is right, at the prior of the known pairs."""
        if bool(self.right.all()) or not bool(self.right.any()):
            return prior.logit().expand(len(odds))
        scale = self.odds.std().clamp(min=1e-9)
        learned = LogisticRegression(C=10.0).fit((self.odds / scale).unsqueeze(1).numpy(), self.right.numpy())
        return torch.as_tensor(learned.coef_[0, 0] * (odds / scale).numpy() + learned.intercept_[0])


def calibration(p: CrossFit, pairs: Tensor, absent: float) -> Calibration:
    """Hide each fold of the known pairs among the unpaired rows, and look for their partners by a model without it.

    Args:
        p: known pairs and unpaired rows.
        pairs: (m, 2) the detected pairs, which the models are fitted to beside the known ones.
        absent: weight of a row having no partner, see `mmcl.beyond.matching.log_odds`.
    """
    n1, n2 = len(p.more), len(p.more_tilde)
    odds, right, unpaired, information = [], [], torch.empty(n1).to(p.x), []
    detected = torch.empty(len(pairs)).to(p.x)
    for k, ratio in enumerate(p.models(pairs)[0]):
        x, x_tilde = p.fold(k)
        scores = Scores(*density_ratio(ratio, torch.cat([p.more, x]), torch.cat([p.more_tilde, x_tilde])))
        best, at = log_odds(scores, scores.summary.column_sum, absent, own=True)
        odds.append(best[n1:])
        right.append(at[n1:] == n2 + torch.arange(len(x)))
        unpaired[k :: p.folds] = best[:n1][k :: p.folds]
        here = pairs[:, 0] % p.folds == k
        rows, columns = pairs[here].T
        own, s = scores.of(pairs[here]).clamp(max=300), scores.summary
        others = s.row_sum[rows].clamp(max=300).exp() + s.column_sum[columns].clamp(max=300).exp() - 2 * own.exp()
        detected[here] = own - (others.clamp(min=1e-300) + absent).log()
        information.append(float(-torch.log1p(-(ratio.correlations**2)).sum() / 2))
    return Calibration(torch.cat(odds), torch.cat(right), unpaired, detected, float(np.mean(information)))


def why_nothing(found: Calibration, n: int, n1: int, n2: int, rank: int, fdr: float) -> str:
    """In words: were the pairs too few, or was the relation too weak, and how much would do?"""
    must = math.ceil(n1 / (fdr * (2 * n + 1)))
    if must > min(n1, n2) / 2:
        enough = math.ceil(n1 / (fdr * min(n1, n2)))
        return (
            f"too few pairs: with {n} known pairs and {n1} unpaired rows, a rate of {fdr:g} asks for at least {must} "
            f"pairs that stand out from all null statistics; about {enough} known pairs would do, or fewer unpaired rows"
        )
    rivals, enough = math.exp(min(found.information, 50)), math.sqrt(1 - math.exp(-2 * math.log(max(n1, n2)) / rank))
    return (
        f"too weak a relation: hidden among {n2} candidates, {found.right.double().mean():.0%} of the known pairs find "
        f"their partner; {found.information:.1f} nats tell a partner from about {rivals:.0f} strangers. It would take "
        f"correlations of about {enough:.2f} in all {rank} dimensions (more pairs bring them out if they are there), or "
        "fewer candidates for each row"
    )
