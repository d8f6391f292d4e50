r"""The loss class of eq. (2.1) and (8.1), and SigLIP: values and closed-form contrastive weights.

With s_ij the similarity of row i of one modality and row j of the other, a loss of the class is

    l(s) = 1/(2 C_n) sum_i phi( sum_j eps_ij psi(s_ij - nu s_ii) )
         + 1/(2 C_n) sum_i phi( sum_j eps_ij psi(s_ji - nu s_ii) ),    eps_ij = 1 for j != i, eps_ii = eps >= 0,

the paper's (8.1) without its penalty R; nu = 1 gives (2.1), and nu > 1 pulls every observed pair together once more.
With alpha_ij and abar_ij the derivatives eps_ij phi' psi' of the two sums, W = -n dl/ds is n/C_n times

    -beta_ij = -(alpha_ij + abar_ji)/2  off the diagonal,
     beta_i  = nu sum_j (alpha_ij + abar_ij)/2 - (alpha_ii + abar_ii)/2  on it.

(Proposition 8.1 prints -1 for the last term of beta_i, which is right only where eps phi' psi' = 1.)
C_n is n, and n(n-1) for the linear loss. The class asks for smooth phi and psi, which those of `Triplet` and of
`LiftedStructured` are not; `SigLIP` compares no similarity with s_ii. The others are in the class.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcl._checks import finite, positive, shown
from mmcl._contrastive import ContrastiveLoss, ExponentialLoss, LogLoss, SumLoss, softplus


class Linear(SumLoss):
    """phi(x) = psi(x) = x, C_n = n(n-1): in the class, eq. (3.1). W does not depend on s, and at nu = 1, whatever eps,
    S is the sample cross-covariance (Remark 2.1).

    Args:
        nu: weight of the pairs, >= 1; W_ii = 1 + `surplus`, W_ij = -1/(n-1).
        eps: factor of the pair's own term, >= 0; it acts only where nu > 1.

    Example:
        >>> LOSSES["linear"](nu=1.5).weights(torch.zeros(3, 3))
        tensor([[ 1.5000, -0.5000, -0.5000],
                [-0.5000,  1.5000, -0.5000],
                [-0.5000, -0.5000,  1.5000]])
    """

    def __init__(self, nu: float = 1.0, eps: float = 0.0):
        super().__init__(nu, eps)

    def surplus(self, n: int) -> float:
        """W_ii - 1 = (nu - 1)(1 + eps/(n - 1)), what a pair weighs more than in the sample cross-covariance."""
        return (self.nu - 1) * (1 + self.eps / (n - 1))

    def _psi(self, d: Tensor) -> Tensor:
        return d

    def _slope(self, d: Tensor) -> Tensor:
        return torch.ones_like(d)

    def _half(self, diagonal: Tensor) -> float:
        return 0.5 / (diagonal.shape[-1] - 1)


class Triplet(SumLoss):
    """phi(x) = x, psi(x) = max(x + margin, 0): not in the class as stated, for psi is not differentiable at -margin.

    Its slope there is taken as 0. Args: margin; nu >= 1 and eps >= 0 of (8.1).
    """

    def __init__(self, margin: float = 1.0, nu: float = 1.0, eps: float = 0.0):
        finite(margin=margin)
        self.margin = margin
        super().__init__(nu, eps)

    def _psi(self, d: Tensor) -> Tensor:
        return F.relu(d + self.margin)

    def _slope(self, d: Tensor) -> Tensor:
        return (d + self.margin > 0).to(d.dtype)


class ModifiedTriplet(SumLoss):
    """phi(x) = x, psi(x) = sigmoid(slope x): in the class; bounded, and the one loss here that is not convex in s.

    Args: slope > 0; nu >= 1 and eps >= 0 of (8.1).
    """

    def __init__(self, slope: float = 1.0, nu: float = 1.0, eps: float = 0.0):
        positive(slope=slope)
        self.slope = slope
        super().__init__(nu, eps)

    def _psi(self, d: Tensor) -> Tensor:
        return torch.sigmoid(self.slope * d)

    def _slope(self, d: Tensor) -> Tensor:
        p = torch.sigmoid(self.slope * d)
        return self.slope * p * (1 - p)


class SigLIP(SumLoss):
    """l = -1/n sum_ij log sigmoid(y_ij (scale s_ij + bias)), y = 1 on pairs, -1 elsewhere (Zhai et al., ICCV 2023).

    Not in the class: every similarity acts alone, none is compared with s_ii, so there is neither nu nor eps.
    Args: scale > 0; bias.
    """

    nu = 0.0

    def __init__(self, scale: float = 10.0, bias: float = -10.0):
        positive(scale=scale)
        finite(bias=bias)
        self.scale, self.bias = scale, bias

    def _curvature_at_zero(self, n: int) -> float:
        p = torch.sigmoid(torch.tensor(self.bias))
        return n * self.scale**2 * float(p * (1 - p))

    def _psi(self, d: Tensor) -> Tensor:
        return softplus(self.scale * d + self.bias)

    def _slope(self, d: Tensor) -> Tensor:
        return self.scale * torch.sigmoid(self.scale * d + self.bias)

    def _positive(self, diagonal: Tensor) -> Tensor:
        return softplus(-self.scale * diagonal - self.bias)

    def _positive_slope(self, diagonal: Tensor) -> Tensor:
        return -self.scale * torch.sigmoid(-self.scale * diagonal - self.bias)


class CLIP(LogLoss):
    """phi(x) = tau log x, psi(x) = exp(x/tau): in the class, InfoNCE; with eps = 1 it is CLIP, ALIGN and eq. (7.1).

    At eps = 1 its value is tau times the symmetric cross-entropy of the logits s/tau, less (nu - 1) mean s_ii, and
    W = nu I - (P + Q)/2 with P, Q the row and column softmax of s/tau, eq. (7.3). Any other eps multiplies the
    diagonal exp(s_ii/tau) in both softmaxes.

    Args: tau > 0, the temperature; nu >= 1 and eps >= 0 of (8.1).

    Example:
        >>> LOSSES["clip"](tau=0.5, nu=1.5).weights(torch.eye(2)).round(decimals=3)
        tensor([[ 0.6190, -0.1190],
                [-0.1190,  0.6190]])
    """

    def __init__(self, tau: float = 1.0, nu: float = 1.0, eps: float = 1.0):
        positive(tau=tau)
        self.tau = tau
        super().__init__(nu, eps)


class MINE(LogLoss):
    """phi(x) = log x, psi(x) = exp x: in the class; CLIP at tau = 1 without the pair itself in its normaliser.

    Args: nu >= 1 and eps >= 0 of (8.1).
    """

    def __init__(self, nu: float = 1.0, eps: float = 0.0):
        super().__init__(nu, eps)


class SoftTriplet(ExponentialLoss):
    """phi(x) = tau log(1 + x), psi(x) = exp(x/tau + margin): in the class; with margin 0 and nu = 1 it is CLIP.

    Args: tau > 0; margin; nu >= 1 and eps >= 0 of (8.1).
    """

    def __init__(self, tau: float = 1.0, margin: float = 1.0, nu: float = 1.0, eps: float = 0.0):
        positive(tau=tau)
        finite(margin=margin)
        self.tau, self.margin = tau, margin
        super().__init__(nu, eps)

    def _phi(self, u: Tensor) -> Tensor:
        return self.tau * softplus(u)

    def _phi_slope(self, u: Tensor) -> Tensor:
        return self.tau * torch.sigmoid(u)


class NPlus1Tuplet(SoftTriplet):
    """phi(x) = log(1 + x), psi(x) = exp x: in the class; at nu = 1 it is CLIP with tau = 1.

    Args: nu >= 1 and eps >= 0 of (8.1).
    """

    def __init__(self, nu: float = 1.0, eps: float = 0.0):
        super().__init__(tau=1.0, margin=0.0, nu=nu, eps=eps)


class LiftedStructured(ExponentialLoss):
    """phi(x) = max(log x, 0)^2, psi(x) = exp(x + margin): not in the class as stated, for phi is not smooth.

    Its first derivative is continuous, and Proposition 8.1 holds; its second derivative jumps from 0 to 2 at x = 1.
    Args: margin; nu >= 1 and eps >= 0 of (8.1).
    """

    def __init__(self, margin: float = 1.0, nu: float = 1.0, eps: float = 0.0):
        finite(margin=margin)
        self.margin = margin
        super().__init__(nu, eps)

    def _phi(self, u: Tensor) -> Tensor:
        return F.relu(u).square()

    def _phi_slope(self, u: Tensor) -> Tensor:
        return 2 * F.relu(u)


LOSSES: dict[str, Callable[..., ContrastiveLoss]] = {
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


def resolve(loss: str | ContrastiveLoss) -> ContrastiveLoss:
    """The loss object of a name in `LOSSES` (at its default parameters), or ``loss`` itself if it is one.

    Example:
        >>> resolve("clip")
        CLIP(tau=1, nu=1, eps=1)
    """
    if isinstance(loss, ContrastiveLoss):
        return loss
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]()
    known = f"use one of {', '.join(LOSSES)}, or an object such as LOSSES['clip'](tau=0.5)"
    raise ValueError(f"loss = {shown(loss)}; {known}")
