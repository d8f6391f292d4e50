r"""The loss class of eq. (2.1) and SigLIP: values and closed-form contrastive weights.

With s_ij the similarity of row i of one modality and row j of the other, every loss here is

    l(s) = 1/n sum_i pos(s_ii) + 1/(2n) sum_i phi(eps psi(0) + sum_{j!=i} psi(s_ij - nu s_ii))
                               + 1/(2n) sum_i phi(eps psi(0) + sum_{j!=i} psi(s_ji - nu s_ii)),

the paper's eq. (2.1) without its penalty R when pos = 0; SigLIP has pos(t) = -log sigmoid(scale t + bias) and nu = 0.
The weights W = -n dl/ds pull pair (i, j) together where W_ij > 0 and push it apart where W_ij < 0. With alpha and
abar the derivatives of the two sums, W_ij = -(alpha_ij + abar_ji)/2 off the diagonal and
W_ii = nu/2 sum_{j!=i} (alpha_ij + abar_ij) - pos'(s_ii).
"""

import torch
import torch.nn.functional as F

from mmcl._checks import positive
from mmcl._contrastive import ContrastiveLoss, ExponentialLoss, SumLoss


def softplus(a):
    """log(1 + exp a), to rounding error everywhere: `F.softplus` drops exp(-a) beyond a = 20, which is 2e-9."""
    return -F.logsigmoid(-a)


class Linear(SumLoss):
    """phi(x) = x/(n-1), psi(x) = x: the weights do not depend on s, and S is the sample cross-covariance."""

    def _psi(self, d):
        return d

    def _slope(self, d):
        return torch.ones_like(d)

    def _half(self, diagonal):
        return 0.5 / (diagonal.shape[-1] - 1)


class Triplet(SumLoss):
    """phi(x) = x, psi(x) = max(x + margin, 0); at the kink the slope is taken as 0."""

    def __init__(self, margin=1.0):
        self.margin = margin

    def _psi(self, d):
        return F.relu(d + self.margin)

    def _slope(self, d):
        return (d + self.margin > 0).to(d.dtype)


class ModifiedTriplet(SumLoss):
    """phi(x) = x, psi(x) = sigmoid(slope x): bounded, and the one loss here that is not convex in s."""

    def __init__(self, slope=1.0):
        positive(slope=slope)
        self.slope = slope

    def _psi(self, d):
        return torch.sigmoid(self.slope * d)

    def _slope(self, d):
        p = torch.sigmoid(self.slope * d)
        return self.slope * p * (1 - p)


class SigLIP(SumLoss):
    """l = -1/n sum_ij log sigmoid(y_ij (scale s_ij + bias)), y = 1 on pairs, -1 elsewhere (Zhai et al., ICCV 2023)."""

    nu = 0.0

    def __init__(self, scale=10.0, bias=-10.0):
        positive(scale=scale)
        self.scale, self.bias = scale, bias

    def _psi(self, s):
        return softplus(self.scale * s + self.bias)

    def _slope(self, s):
        return self.scale * torch.sigmoid(self.scale * s + self.bias)

    def _positive(self, diagonal):
        return softplus(-self.scale * diagonal - self.bias)

    def _positive_slope(self, diagonal):
        return -self.scale * torch.sigmoid(-self.scale * diagonal - self.bias)


class SoftTriplet(ExponentialLoss):
    """phi(x) = tau log(1 + x), psi(x) = exp(x/tau + margin)."""

    def __init__(self, tau=1.0, margin=1.0):
        positive(tau=tau)
        self.tau, self.margin = tau, margin

    def _phi(self, a):
        return self.tau * softplus(a)

    def _phi_slope(self, a):
        return self.tau * torch.sigmoid(a)


class CLIP(SoftTriplet):
    """phi(x) = tau log x, psi(x) = exp(x/tau), eps = 1: tau times the symmetric cross-entropy of the logits s/tau.

    It is the soft triplet loss with margin 0, and its W is I - (P + Q)/2 with P, Q the row and column softmax.
    """

    def __init__(self, tau=1.0):
        super().__init__(tau, margin=0.0)


class NPlus1Tuplet(SoftTriplet):
    """phi(x) = log(1 + x), psi(x) = exp x: in this form it is CLIP with tau = 1."""

    def __init__(self):
        super().__init__(tau=1.0, margin=0.0)


class MINE(ExponentialLoss):
    """phi(x) = log x, psi(x) = exp x, eps = 0: CLIP at tau = 1 without the pair itself in its normaliser."""

    def _phi(self, a):
        return a

    def _phi_slope(self, a):
        return torch.ones_like(a)


class LiftedStructured(ExponentialLoss):
    """phi(x) = max(log x, 0)^2, psi(x) = exp(x + margin)."""

    def __init__(self, margin=1.0):
        self.margin = margin

    def _phi(self, a):
        return F.relu(a).square()

    def _phi_slope(self, a):
        return 2 * F.relu(a)


LOSSES = {
    "linear": Linear,
    "clip": CLIP,
    "mine": MINE,
    "triplet": Triplet,
    "soft_triplet": SoftTriplet,
    "n_plus_1_tuplet": NPlus1Tuplet,
    "lifted_structured": LiftedStructured,
    "modified_triplet": ModifiedTriplet,
    "siglip": SigLIP,
}


def resolve(loss):
    """The loss object of a name in `LOSSES` (at its default parameters), or ``loss`` itself if it is one."""
    if isinstance(loss, ContrastiveLoss):
        return loss
    if loss in LOSSES:
        return LOSSES[loss]()
    raise ValueError(f"loss = {loss!r}; use one of {', '.join(LOSSES)}, or an object such as LOSSES['clip'](tau=0.5)")
