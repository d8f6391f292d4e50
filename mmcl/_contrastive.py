"""The two families of contrastive losses: sums, and logarithms of sums of exponentials.

The private methods see the similarities s in blocks of rows, so that `mmcl.covariance.loss_and_covariance` can walk
an n x n matrix that is never kept: `_prepare` a block that begins at row ``start``, add up its row and column
`_totals`, `_merge` the latter over blocks, `_settle` them into the value, the weights of the diagonal and what each
row and each column has in the other weights, then ask for these, `_apart`, of each block.
`_prepare` may overwrite its block, and `_apart_times` is `_apart` and its transpose times matrices, for a loss that
need not form it: at n = 300 memory that is asked for anew costs more than the arithmetic.
The totals leave out the pair itself; `_settle` adds its term, eps psi((1 - nu) s_ii).
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
    exchangeable = True  # no pair is treated unlike another

    def __init__(self, nu: float, eps: float):
        no_less_than(1, nu=nu)
        no_less_than(0, eps=eps)
        self.nu, self.eps = nu, eps

    def __call__(self, s: Tensor) -> Tensor:
        diagonal, block = self._whole(s)
        return self._settle(*self._totals(block, diagonal, 0), diagonal)[0]

    def weights(self, s: Tensor) -> Tensor:
        return self.value_and_weights(s)[1]

    def value_and_weights(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """``loss(s)`` and ``loss.weights(s)`` from the same exponentials."""
        diagonal, block = self._whole(s)
        value, together, by_row, by_column = self._settle(*self._totals(block, diagonal, 0), diagonal)
        return value, self._apart(block, diagonal, 0, by_row, by_column) + torch.diag_embed(together)

    def _whole(self, s: Tensor) -> tuple[Tensor, Any]:
        s = as_tensor("s", s)
        if s.ndim < 2 or s.shape[-1] != s.shape[-2] or s.shape[-1] < 2:
            raise ValueError(f"s has shape {tuple(s.shape)}; similarities are (..., n, n) with n >= 2")
        all_finite("s", s)
        return s.diagonal(dim1=-2, dim2=-1), self._prepare(s.clone(), 0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v:g}' for k, v in vars(self).items())})"

    def _curvature_at_zero(self, n: int) -> float:
        """c for which -dS(beta(M))[D] is c Cov(x) D Cov(x_tilde) at M = 0, up to a share of 1/n."""
        return 0.0

    def _prepare(self, s: Tensor, start: int) -> Any:
        raise NotImplementedError

    def _totals(self, block: Any, diagonal: Tensor, start: int) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    @staticmethod
    def _merge(columns: Tensor, more: Tensor) -> Tensor:
        raise NotImplementedError

    def _settle(self, rows: Tensor, columns: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        raise NotImplementedError

    def _apart(self, block: Any, diagonal: Tensor, start: int, by_row: Tensor, by_column: Tensor) -> Tensor:
        raise NotImplementedError

    def _apart_times(
        self, block: Any, diagonal: Tensor, start: int, by_row: Tensor, by_column: Tensor, right: Tensor, left: Tensor
    ) -> tuple[Tensor, Tensor]:
        weights = self._apart(block, diagonal, start, by_row, by_column)
        return weights @ right, weights.mT @ left


class SumLoss(ContrastiveLoss):
    """phi linear, so every entry acts alone. Totals (..., 2, n) hold sum psi and sum psi' over j != i."""

    def _psi(self, d: Tensor) -> Tensor:
        raise NotImplementedError

    def _slope(self, d: Tensor) -> Tensor:
        raise NotImplementedError

    def _prepare(self, s: Tensor, start: int) -> Tensor:
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

    def _settle(self, rows: Tensor, columns: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pairs, slopes = (self._half(diagonal) * (rows + columns)).unbind(-2)
        value = pairs.sum(-1) / diagonal.shape[-1] + self._positive(diagonal).mean(-1)
        return value, self.nu * slopes - self._positive_slope(diagonal), rows, columns

    def _apart(self, s: Tensor, diagonal: Tensor, start: int, by_row: Tensor, by_column: Tensor) -> Tensor:
        right, down = self._differences(s, diagonal, start)
        return -self._half(diagonal) * _off_diagonal(self._slope(right) + self._slope(down), start)

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

    def _curvature_at_zero(self, n: int) -> float:
        u = torch.tensor(math.log(n - 1 + self.eps) + self.margin)
        return float(self._phi_slope(u)) / self.tau**2

    def _phi(self, u: Tensor) -> Tensor:
        raise NotImplementedError

    def _phi_slope(self, u: Tensor) -> Tensor:
        raise NotImplementedError

    def _prepare(self, s: Tensor, start: int) -> tuple[Tensor, bool]:
        own = s.diagonal(start, -2, -1).fill_(0)
        largest = max(abs(float(a)) for a in s.detach().aminmax()) / self.tau + abs(self.margin)
        logits = s.div_(self.tau)
        if self.margin:
            logits.add_(self.margin)
        own.fill_(-math.inf)
        exponentiate = largest + math.log(s.shape[-1]) < 0.9 * math.log(torch.finfo(s.dtype).max)
        return (logits.exp_() if exponentiate else logits), exponentiate  # no sum overflows, no term underflows

    def _totals(self, block: tuple[Tensor, bool], diagonal: Tensor, start: int) -> tuple[Tensor, Tensor]:
        values, exponentiated = block
        if exponentiated:
            return values.sum(-1).log(), values.sum(-2).log()
        return values.logsumexp(-1), values.logsumexp(-2)

    @staticmethod
    def _merge(columns: Tensor, more: Tensor) -> Tensor:
        return torch.logaddexp(columns, more)

    def _settle(self, rows: Tensor, columns: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The last two hold a_i = sum_{j != i} alpha_ij/2 and t_i for alpha_ij/2 = a_i exp(s_ij/tau + margin - t_i);
        so for columns."""
        totals, own = torch.stack([rows, columns]), diagonal / self.tau
        log_eps = math.log(self.eps) if self.eps > 0 else -math.inf
        others, pair = totals - self.nu * own, log_eps + self.margin + (1 - self.nu) * own
        u = torch.logaddexp(others, pair)
        slope, share = self._phi_slope(u) / (2 * self.tau), (others - pair).sigmoid()  # of j != i in the sum
        by_row, by_column = torch.stack([slope * share, totals], -2)
        together = (slope * (share + self.nu - 1)).sum(0)
        return self._phi(u).mean(-1).sum(0) / 2, together, by_row, by_column

    def _apart(
        self, block: tuple[Tensor, bool], diagonal: Tensor, start: int, by_row: Tensor, by_column: Tensor
    ) -> Tensor:
        values, exponentiated = block
        (a, rows), (b, columns) = by_row.unsqueeze(-1).unbind(-3), by_column.unsqueeze(-3).unbind(-2)
        if exponentiated:
            return (a / -rows.exp() - b / columns.exp()).mul_(values)
        return -(a * (values - rows).exp() + b * (values - columns).exp())

    def _apart_times(
        self, block: Any, diagonal: Tensor, start: int, by_row: Tensor, by_column: Tensor, right: Tensor, left: Tensor
    ) -> tuple[Tensor, Tensor]:
        values, exponentiated = block
        if not exponentiated:
            return super()._apart_times(block, diagonal, start, by_row, by_column, right, left)
        (a, rows), (b, columns) = (c.unsqueeze(-1).unbind(-3) for c in (by_row, by_column))
        p, q = a / -rows.exp(), b / -columns.exp()  # W_ij = exp(s_ij/tau + margin) (p_i + q_j)
        first, second = (values @ torch.cat([right, q * right], -1)).chunk(2, -1)
        third, fourth = (values.mT @ torch.cat([left, p * left], -1)).chunk(2, -1)
        return p * first + second, q * third + fourth


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
