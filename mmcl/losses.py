r"""The loss class of eq. (2.1) and SigLIP: values and closed-form contrastive weights.

With s_ij the similarity of row i of one modality and row j of the other, every loss here is

    l(s) = 1/n sum_i pos(s_ii) + 1/(2n) sum_i phi(eps psi(0) + sum_{j!=i} psi(s_ij - nu s_ii))
                               + 1/(2n) sum_i phi(eps psi(0) + sum_{j!=i} psi(s_ji - nu s_ii)),

the paper's eq. (2.1) without its penalty R when pos = 0; SigLIP has pos(t) = -log sigmoid(scale t + bias) and nu = 0.
The weights W = -n dl/ds pull pair (i, j) together where W_ij > 0 and push it apart where W_ij < 0. With alpha and
abar the derivatives of the two sums, W_ij = -(alpha_ij + abar_ji)/2 off the diagonal and
W_ii = nu/2 sum_{j!=i} (alpha_ij + abar_ij) - pos'(s_ii).

The private methods see s in blocks of rows, so that `mmcl.spectral` can walk an n x n matrix that is never kept:
`_prepare` a block that begins at row ``start``, add up its row and column `_totals` and `_merge` the latter over
blocks, then ask for the weights `_apart` of a block and `_together` of the diagonal.
"""

import math

import torch
import torch.nn.functional as F

from mmcl._checks import positive


class ContrastiveLoss:
    """A loss l(s) of the similarities: ``loss(s)`` is its value (...,), ``loss.weights(s)`` its W (..., n, n).

    Args of both: s, (..., n, n) similarities, n >= 2. The value leaves out the penalty R.
    Raises ValueError if s is not square or has fewer than two rows.
    Reference: arXiv 2302.06232, eq. (2.1) and Section 2; notebook 01, section 1.
    """

    nu = 1.0

    def __call__(self, s):
        diagonal, block = self._whole(s)
        return self._value(*self._totals(block, diagonal, 0), diagonal)

    def weights(self, s):
        diagonal, block = self._whole(s)
        rows, columns = self._totals(block, diagonal, 0)
        together = self._together(rows, columns, diagonal)
        return self._apart(block, diagonal, 0, rows, columns) + torch.diag_embed(together)

    def _whole(self, s):
        s = torch.as_tensor(s)
        if s.ndim < 2 or s.shape[-1] != s.shape[-2] or s.shape[-1] < 2:
            raise ValueError(f"s has shape {tuple(s.shape)}; similarities are (..., n, n) with n >= 2")
        return s.diagonal(dim1=-2, dim2=-1), self._prepare(s, 0, float(s.detach().abs().amax()))

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v:g}' for k, v in vars(self).items())})"


class _SumLoss(ContrastiveLoss):
    """phi linear, so every entry acts alone. Totals (..., 2, n) hold sum psi and sum psi'."""

    def _prepare(self, s, start, bound):
        return s

    def _differences(self, s, diagonal, start):
        own = diagonal[..., start : start + s.shape[-2]]
        return s - self.nu * own.unsqueeze(-1), s - self.nu * diagonal.unsqueeze(-2)

    def _totals(self, s, diagonal, start):
        by_row, by_column = self._differences(s, diagonal, start)
        return tuple(
            torch.stack([_off_diagonal(f(d), start).sum(dim) for f in (self._psi, self._slope)], -2)
            for d, dim in ((by_row, -1), (by_column, -2))
        )

    @staticmethod
    def _merge(columns, more):
        return columns + more

    def _value(self, rows, columns, diagonal):
        pairs = self._half(diagonal) * (rows + columns)[..., 0, :].sum(-1) / diagonal.shape[-1]
        return pairs + self._positive(diagonal).mean(-1)

    def _apart(self, s, diagonal, start, rows, columns):
        by_row, by_column = self._differences(s, diagonal, start)
        return -self._half(diagonal) * _off_diagonal(self._slope(by_row) + self._slope(by_column), start)

    def _together(self, rows, columns, diagonal):
        return self.nu * self._half(diagonal) * (rows + columns)[..., 1, :] - self._positive_slope(diagonal)

    def _half(self, diagonal):
        return 0.5

    def _positive(self, diagonal):
        return torch.zeros_like(diagonal)

    _positive_slope = _positive


class Linear(_SumLoss):
    """phi(x) = x/(n-1), psi(x) = x: the weights do not depend on s, and S is the sample cross-covariance."""

    def _psi(self, d):
        return d

    def _slope(self, d):
        return torch.ones_like(d)

    def _half(self, diagonal):
        return 0.5 / (diagonal.shape[-1] - 1)


class Triplet(_SumLoss):
    """phi(x) = x, psi(x) = max(x + margin, 0); at the kink the slope is taken as 0."""

    def __init__(self, margin=1.0):
        self.margin = margin

    def _psi(self, d):
        return F.relu(d + self.margin)

    def _slope(self, d):
        return (d + self.margin > 0).to(d.dtype)


class ModifiedTriplet(_SumLoss):
    """phi(x) = x, psi(x) = sigmoid(slope x): bounded, and the one loss here that is not convex in s."""

    def __init__(self, slope=1.0):
        positive(slope=slope)
        self.slope = slope

    def _psi(self, d):
        return torch.sigmoid(self.slope * d)

    def _slope(self, d):
        p = torch.sigmoid(self.slope * d)
        return self.slope * p * (1 - p)


class SigLIP(_SumLoss):
    """l = -1/n sum_ij log sigmoid(y_ij (scale s_ij + bias)), y = 1 on pairs, -1 elsewhere (Zhai et al., ICCV 2023)."""

    nu = 0.0

    def __init__(self, scale=1.0, bias=0.0):
        positive(scale=scale)
        self.scale, self.bias = scale, bias

    def _psi(self, s):
        return F.softplus(self.scale * s + self.bias)

    def _slope(self, s):
        return self.scale * torch.sigmoid(self.scale * s + self.bias)

    def _positive(self, diagonal):
        return F.softplus(-self.scale * diagonal - self.bias)

    def _positive_slope(self, diagonal):
        return -self.scale * torch.sigmoid(-self.scale * diagonal - self.bias)


class _ExponentialLoss(ContrastiveLoss):
    """psi(x) = exp(x/tau + margin). Totals (..., n) are logarithms, log sum_{j!=i} exp(s_ij/tau + margin).

    A block is kept as exponentials where none can overflow, so that the row and the column softmax share one exp,
    and as logits otherwise: similarities of 10^4 and more are then as good as small ones.
    `_phi` and its slope take a = log sum_{j!=i} psi(s_ij - s_ii).
    """

    tau, margin = 1.0, 0.0

    def _prepare(self, s, start, bound):
        logits = s / self.tau + self.margin
        logits.diagonal(start, -2, -1).fill_(-math.inf)
        exponentiate = bound / self.tau + abs(self.margin) < 0.4 * math.log(torch.finfo(s.dtype).max)
        return (logits.exp_() if exponentiate else logits), exponentiate

    def _totals(self, block, diagonal, start):
        values, exponentiated = block
        if exponentiated:
            return values.sum(-1).log(), values.sum(-2).log()
        return values.logsumexp(-1), values.logsumexp(-2)

    @staticmethod
    def _merge(columns, more):
        return torch.logaddexp(columns, more)

    def _value(self, rows, columns, diagonal):
        own = diagonal / self.tau
        return (self._phi(rows - own) + self._phi(columns - own)).mean(-1) / 2

    def _half_slope(self, totals, diagonal):
        return self._phi_slope(totals - diagonal / self.tau) / (2 * self.tau)

    def _apart(self, block, diagonal, start, rows, columns):
        values, exponentiated = block
        p = self._half_slope(rows, diagonal[..., start : start + rows.shape[-1]])
        q = self._half_slope(columns, diagonal)
        if exponentiated:
            return ((p / -rows.exp()).unsqueeze(-1) - (q / columns.exp()).unsqueeze(-2)).mul_(values)
        by_row, by_column = (values - rows.unsqueeze(-1)).exp(), (values - columns.unsqueeze(-2)).exp()
        return -(p.unsqueeze(-1) * by_row + q.unsqueeze(-2) * by_column)

    def _together(self, rows, columns, diagonal):
        return self._half_slope(rows, diagonal) + self._half_slope(columns, diagonal)


class SoftTriplet(_ExponentialLoss):
    """phi(x) = tau log(1 + x), psi(x) = exp(x/tau + margin)."""

    def __init__(self, tau=1.0, margin=1.0):
        positive(tau=tau)
        self.tau, self.margin = tau, margin

    def _phi(self, a):
        return self.tau * F.softplus(a)

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


class MINE(_ExponentialLoss):
    """phi(x) = log x, psi(x) = exp x, eps = 0: CLIP at tau = 1 without the pair itself in its normaliser."""

    def _phi(self, a):
        return a

    def _phi_slope(self, a):
        return torch.ones_like(a)


class LiftedStructured(_ExponentialLoss):
    """phi(x) = max(log x, 0)^2, psi(x) = exp(x + margin)."""

    def __init__(self, margin=1.0):
        self.margin = margin

    def _phi(self, a):
        return F.relu(a).square()

    def _phi_slope(self, a):
        return 2 * F.relu(a)


def _off_diagonal(values, start):
    """A copy of the block with the entries s_ii, which begin at column ``start``, set to zero."""
    own = values.diagonal(start, -2, -1)
    return values.diagonal_scatter(torch.zeros_like(own), start, -2, -1)


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
    raise ValueError(
        f"loss = {loss!r}; use one of {', '.join(LOSSES)}, or an object such as LOSSES['clip'](tau=0.5)"
    )
