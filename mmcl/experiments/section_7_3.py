"""Section 7.3: CLIP's weights when pairs are wrong (Lemma 7.2), and what Algorithm 4 makes of them (Theorem 7.1)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mmcl.data import Spiked


@dataclass(frozen=True)
class WeightLimits:
    """How far the weights (7.3) are from the four limits of Lemma 7.2, each (...,), the worst entry of its kind.

    Attributes:
        unobserved: 1 - beta_ij for the true pairs that were not observed, (i, j) in E without C.
        strangers: beta_ij for pairs neither true nor observed.
        right: beta_i - (nu - 1) for observed right pairs.
        wrong: nu - beta_i for observed wrong pairs.
        gap: smallest lead g of a true pair's similarity over the others in its row and in its column.
    """

    unobserved: Tensor
    strangers: Tensor
    right: Tensor
    wrong: Tensor
    gap: Tensor


def weight_limits(p: Spiked, g1: Tensor, g2: Tensor, tau: float) -> WeightLimits:
    """The four distances of Lemma 7.2 at given encoders; nu cancels in each of them.

    Differences from 1 are added up from the other entries of a softmax, so that 10^-20 is not rounded to 0.

    Args:
        p: pairs of the model (3.2), with wrong pairs permuted inside the sample and at least one pair of each kind.
        g1, g2: (..., r, d1), (..., r, d2) encoders.
        tau: temperature, in the units of the similarities.

    Raises:
        ValueError: if all pairs are right, all are wrong, or a partner is not in the sample.
    """
    if bool((p.partner < 0).any()) or not bool(p.wrong.any(-1).all() and (~p.wrong).any(-1).all()):
        raise ValueError("weight_limits needs right and wrong pairs whose partners are all in the sample")
    logits = (p.x @ g1.mT) @ (p.x_tilde @ g2.mT).mT / tau
    true = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, p.partner.unsqueeze(-1), True)
    others = logits.masked_fill(true, -math.inf)
    rows = (others.logsumexp(-1) - logits.logsumexp(-1)).exp()  # 1 - P at the partner of each row
    columns = (others.logsumexp(-2) - logits.logsumexp(-2)).exp()
    missed = (rows + columns.take_along_dim(p.partner, -1)) / 2  # 1 - beta of the true pair of each row
    beta = (logits.softmax(-1) + logits.softmax(-2)) / 2
    own = logits.diagonal(dim1=-2, dim2=-1)
    observed = torch.eye(own.shape[-1], dtype=torch.bool)
    lead = logits[true].view_as(own) - others.amax(-1)
    lead_of_column = logits.mT[true.mT].view_as(own) - others.amax(-2)
    return WeightLimits(
        unobserved=missed.where(p.wrong, 0).amax(-1),
        strangers=beta.masked_fill(true | observed, 0).amax((-2, -1)),
        right=missed.where(~p.wrong, 0).amax(-1),
        wrong=beta.diagonal(dim1=-2, dim2=-1).where(p.wrong, 0).amax(-1),
        gap=tau * torch.minimum(lead, lead_of_column).amin(-1),
    )


def pull_and_push(p: Spiked, g1: Tensor, g2: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """The two parts of the S of Algorithm 4, which is nu times the first minus the second, for every nu at once.

    Returns:
        1/n sum_i x_i x~_i^T and 1/n sum_ij (P_ij + Q_ij)/2 x_i x~_j^T, each (..., d1, d2).
    """
    logits, n = (p.x @ g1.mT) @ (p.x_tilde @ g2.mT).mT / tau, p.x.shape[-2]
    push = p.x.mT @ (logits.softmax(-1) @ p.x_tilde) + p.x.mT @ (logits.softmax(-2) @ p.x_tilde)
    return p.x.mT @ p.x_tilde / n, push / (2 * n)
