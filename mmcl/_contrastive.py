"""The two families of contrastive losses: sums, and logarithms of sums of exponentials.

The private methods see the similarities s in blocks of rows, so that `mmcl.losses.loss_and_covariance` can walk an
n x n matrix that is never kept: `_prepare` a block that begins at row ``start``, add up its row and column `_totals`,
`_merge` the latter over blocks, then ask for the weights `_apart` of a block and `_together` of the diagonal.
"""

import math

import torch


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


class SumLoss(ContrastiveLoss):
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


class ExponentialLoss(ContrastiveLoss):
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


def _off_diagonal(values, start):
    """A copy of the block with the entries s_ii, which begin at column ``start``, set to zero."""
    own = values.diagonal(start, -2, -1)
    return values.diagonal_scatter(torch.zeros_like(own), start, -2, -1)
