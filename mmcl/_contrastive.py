"""The two families of contrastive losses: sums, and logarithms of sums of exponentials.

The private methods see the similarities s in blocks of rows, so that `mmcl.covariance.loss_and_covariance` can walk
an n x n matrix that is never kept: `_prepare` a block that begins at row ``start``, add up its row and column
`_totals`, `_merge` the latter over blocks, then ask for the weights `_apart` of a block, `_together` of the diagonal.
`_prepare` may overwrite its block, and `_apart_times` is `_apart` times a matrix, for a loss that need not form it:
at n = 300 memory that is asked for anew costs more than the arithmetic.
The totals leave out the pair itself; `_value` and `_together` add its term, eps psi((1 - nu) s_ii).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcl._checks import all_finite, as_tensor, no_less_than


class ContrastiveLoss:
    """A loss l(s) of the similarities: ``loss(s)`` is its value (...,), ``loss.weights(s)`` its W (..., n, n).

    Args of both: s, (..., n, n) similarities, n >= 2. The value leaves out the penalty R and divides by C_n;
    W = -n dl/ds, so that S(beta) = 1/n x^T W x_tilde.
    Raises ValueError if s is not square or has fewer than two rows.
    Reference: PMLR 206:4348, eq. (2.1) and (8.1), Proposition 8.1.
    """

    nu, eps = 1.0, 0.0

    def __init__(self, nu: float, eps: float):
        no_less_than(1, nu=nu)
        no_less_than(0, eps=eps)
        self.nu, self.eps = nu, eps

    def __call__(self, s: Tensor) -> Tensor:
        diagonal, block = self._whole(s)
        return self._value(*self._totals(block, diagonal, 0), diagonal)

    def weights(self, s: Tensor) -> Tensor:
        return self.value_and_weights(s)[1]

    def value_and_weights(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """``loss(s)`` and ``loss.weights(s)`` from the same exponentials."""
        diagonal, block = self._whole(s)
        rows, columns = self._totals(block, diagonal, 0)
        value, together = self._value(rows, columns, diagonal), self._together(rows, columns, diagonal)
        return value, self._apart(block, diagonal, 0, rows, columns) + torch.diag_embed(together)

    def _whole(self, s: Tensor) -> tuple[Tensor, Any]:
        s = as_tensor("s", s)
        if s.ndim < 2 or s.shape[-1] != s.shape[-2] or s.shape[-1] < 2:
            raise ValueError(f"s has shape {tuple(s.shape)}; similarities are (..., n, n) with n >= 2")
        all_finite("s", s)
        return s.diagonal(dim1=-2, dim2=-1), self._prepare(s.clone(), 0, float(s.detach().abs().amax()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v:g}' for k, v in vars(self).items())})"

    def _prepare(self, s: Tensor, start: int, bound: float) -> Any:
        raise NotImplementedError

    def _totals(self, block: Any, diagonal: Tensor, start: int) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    @staticmethod
    def _merge(columns: Tensor, more: Tensor) -> Tensor:
        raise NotImplementedError

    def _value(self, rows: Tensor, columns: Tensor, diagonal: Tensor) -> Tensor:
        raise NotImplementedError

    def _apart(self, block: Any, diagonal: Tensor, start: int, rows: Tensor, columns: Tensor) -> Tensor:
        raise NotImplementedError

    def _apart_times(
        self, block: Any, diagonal: Tensor, start: int, rows: Tensor, columns: Tensor, right: Tensor
    ) -> Tensor:
        return self._apart(block, diagonal, start, rows, columns) @ right

    def _together(self, rows: Tensor, columns: Tensor, diagonal: Tensor) -> Tensor:
        raise NotImplementedError


class SumLoss(ContrastiveLoss):
    """phi linear, so every entry acts alone. Totals (..., 2, n) hold sum psi and sum psi' over j != i."""

    def _psi(self, d: Tensor) -> Tensor:
        raise NotImplementedError

    def _slope(self, d: Tensor) -> Tensor:
        raise NotImplementedError

    def _prepare(self, s: Tensor, start: int, bound: float) -> Tensor:
        return s

    def _differences(self, s: Tensor, diagonal: Tensor, start: int) -> tuple[Tensor, Tensor]:
        own = diagonal[..., start : start + s.shape[-2]]
        return s - self.nu * own.unsqueeze(-1), s - self.nu * diagonal.unsqueeze(-2)

    def _totals(self, s: Tensor, diagonal: Tensor, start: int) -> tuple[Tensor, Tensor]:
        by_row, by_column = (
            torch.stack([_off_diagonal(f(d), start).sum(dim) for f in (self._psi, self._slope)], -2)
            for d, dim in zip(self._differences(s, diagonal, start), (-1, -2), strict=True)
        )
        return by_row, by_column

    @staticmethod
    def _merge(columns: Tensor, more: Tensor) -> Tensor:
        return columns + more

    def _value(self, rows: Tensor, columns: Tensor, diagonal: Tensor) -> Tensor:
        pairs = self._half(diagonal) * (rows + columns)[..., 0, :].sum(-1) / diagonal.shape[-1]
        return pairs + self._positive(diagonal).mean(-1)

    def _apart(self, s: Tensor, diagonal: Tensor, start: int, rows: Tensor, columns: Tensor) -> Tensor:
        by_row, by_column = self._differences(s, diagonal, start)
        return -self._half(diagonal) * _off_diagonal(self._slope(by_row) + self._slope(by_column), start)

    def _together(self, rows: Tensor, columns: Tensor, diagonal: Tensor) -> Tensor:
        return self.nu * self._half(diagonal) * (rows + columns)[..., 1, :] - self._positive_slope(diagonal)

    def _half(self, diagonal: Tensor) -> float:
        """n / (2 C_n)."""
        return 0.5

    def _positive(self, diagonal: Tensor) -> Tensor:
        """The pair's own term, n/C_n eps psi((1 - nu) s_ii)."""
        return 2 * self._half(diagonal) * self.eps * self._psi((1 - self.nu) * diagonal)

    def _positive_slope(self, diagonal: Tensor) -> Tensor:
        return 2 * self._half(diagonal) * self.eps * (1 - self.nu) * self._slope((1 - self.nu) * diagonal)


class ExponentialLoss(ContrastiveLoss):
    """psi(x) = exp(x/tau + margin). Totals (..., n) are logarithms, t_i = log sum_{j!=i} exp(s_ij/tau + margin).

    A block is kept as exponentials where none can overflow, so that the row and the column softmax share one exp,
    and as logits otherwise: similarities of 10^4 and more are then as good as small ones.
    `_phi` and its slope take u = log( eps psi((1 - nu) s_ii) + sum_{j!=i} psi(s_ij - nu s_ii) ).
    """

    tau, margin = 1.0, 0.0

    def _phi(self, u: Tensor) -> Tensor:
        raise NotImplementedError

    def _phi_slope(self, u: Tensor) -> Tensor:
        raise NotImplementedError

    def _prepare(self, s: Tensor, start: int, bound: float) -> tuple[Tensor, bool]:
        logits = s.div_(self.tau).add_(self.margin)
        logits.diagonal(start, -2, -1).fill_(-math.inf)
        largest = bound / self.tau + abs(self.margin) + math.log(s.shape[-1])  # no sum overflows, no term underflows
        exponentiate = largest < 0.9 * math.log(torch.finfo(s.dtype).max)
        return (logits.exp_() if exponentiate else logits), exponentiate

    def _totals(self, block: tuple[Tensor, bool], diagonal: Tensor, start: int) -> tuple[Tensor, Tensor]:
        values, exponentiated = block
        if exponentiated:
            return values.sum(-1).log(), values.sum(-2).log()
        return values.logsumexp(-1), values.logsumexp(-2)

    @staticmethod
    def _merge(columns: Tensor, more: Tensor) -> Tensor:
        return torch.logaddexp(columns, more)

    def _log_sum(self, totals: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor]:
        """u, and the logarithm of what the terms j != i have in the sum to what the pair's own term has."""
        own = diagonal / self.tau
        log_eps = math.log(self.eps) if self.eps > 0 else -math.inf
        others, pair = totals - self.nu * own, log_eps + self.margin + (1 - self.nu) * own
        return torch.logaddexp(others, pair), others - pair

    def _value(self, rows: Tensor, columns: Tensor, diagonal: Tensor) -> Tensor:
        by_row, by_column = (self._phi(self._log_sum(totals, diagonal)[0]) for totals in (rows, columns))
        return (by_row + by_column).mean(-1) / 2

    def _half_slope(self, totals: Tensor, diagonal: Tensor, more: float = 0.0) -> Tensor:
        """sum_{j != i} alpha_ij / 2, or with ``more`` times sum_j alpha_ij / 2 added to it."""
        u, ratio = self._log_sum(totals, diagonal)
        return self._phi_slope(u) * (ratio.sigmoid() + more) / (2 * self.tau)

    def _apart(self, block: tuple[Tensor, bool], diagonal: Tensor, start: int, rows: Tensor, columns: Tensor) -> Tensor:
        values, exponentiated = block
        p, q = self._slopes(diagonal, start, rows, columns)
        if exponentiated:
            return ((p / -rows.exp()).unsqueeze(-1) - (q / columns.exp()).unsqueeze(-2)).mul_(values)
        by_row, by_column = (values - rows.unsqueeze(-1)).exp(), (values - columns.unsqueeze(-2)).exp()
        return -(p.unsqueeze(-1) * by_row + q.unsqueeze(-2) * by_column)

    def _apart_times(
        self, block: tuple[Tensor, bool], diagonal: Tensor, start: int, rows: Tensor, columns: Tensor, right: Tensor
    ) -> Tensor:
        values, exponentiated = block
        if not exponentiated:
            return super()._apart_times(block, diagonal, start, rows, columns, right)
        p, q = self._slopes(diagonal, start, rows, columns)
        by_row, by_column = (p / -rows.exp()).unsqueeze(-1), (q / -columns.exp()).unsqueeze(-1)
        first, second = (values @ torch.cat([right, by_column * right], -1)).chunk(2, -1)
        return by_row * first + second

    def _slopes(self, diagonal: Tensor, start: int, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        own = diagonal[..., start : start + rows.shape[-1]]
        return self._half_slope(rows, own), self._half_slope(columns, diagonal)

    def _together(self, rows: Tensor, columns: Tensor, diagonal: Tensor) -> Tensor:
        more = self.nu - 1
        return self._half_slope(rows, diagonal, more) + self._half_slope(columns, diagonal, more)


class LogLoss(ExponentialLoss):
    """phi(x) = tau log x."""

    def _phi(self, u: Tensor) -> Tensor:
        return self.tau * u

    def _phi_slope(self, u: Tensor) -> Tensor:
        return torch.full_like(u, self.tau)


def softplus(a: Tensor) -> Tensor:
    """log(1 + exp a), to rounding error everywhere: `F.softplus` drops exp(-a) beyond a = 20, which is 2e-9."""
    return -F.logsigmoid(-a)


def _off_diagonal(values: Tensor, start: int) -> Tensor:
    """A copy of the block with the entries s_ii, which begin at column ``start``, set to zero."""
    own = values.diagonal(start, -2, -1)
    return values.diagonal_scatter(torch.zeros_like(own), start, -2, -1)
