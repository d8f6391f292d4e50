"""CLIP in time linear in n: rows are dealt into groups, and each pair is compared with the others of its own group."""

from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from mmcl._checks import as_seed, at_least, paired, positive, rank_at_most
from mmcl.covariance import balanced_factors, truncated_svd
from mmcl.losses import CLIP, ContrastiveLoss
from mmcl.spectral import Fit, fit

LENGTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # of the linear loss's M, tried as a start on one group


@dataclass(frozen=True)
class Groups:
    """Pairs (n, d1), (n, d2), dealt at random into groups of m rows or one more (``order`` (groups, m)).

    sum_{j != i} exp(s_ij/tau) is estimated by (n - 1)/(m - 1) times the sum over the group of i. Up to the constant
    tau log (n - 1)/(m - 1) that is CLIP's loss within groups, with the pair itself weighed by eps = (m - 1)/(n - 1).
    """

    x: Tensor
    x_tilde: Tensor
    order: Tensor
    tau: float
    nu: float

    def value_and_gradient(self, g1: Tensor, g2: Tensor, groups: int | None = None) -> tuple[float, Tensor, Tensor]:
        """l without its penalty, dl/dg1 (r, d1) and dl/dg2 (r, d2); of the first ``groups`` only, if that is given."""
        eps = (self.order.shape[1] - 1) / (len(self.x) - 1)
        loss, value = CLIP(self.tau, self.nu, eps), -self.tau * np.log(eps)
        by_g1, by_g2 = torch.zeros_like(g1), torch.zeros_like(g2)
        order = self.order[:groups]
        for rows in order:
            x, x_tilde = self.x[rows], self.x_tilde[rows]
            z, z_tilde = x @ g1.mT, x_tilde @ g2.mT
            part, weights = loss.value_and_weights(z @ z_tilde.mT)
            value += float(part) / len(order)
            by_g1 -= (weights @ z_tilde).mT @ x
            by_g2 -= (weights.mT @ z).mT @ x_tilde
        return value, by_g1 / order.numel(), by_g2 / order.numel()


def fit_sampled(
    x: Tensor,
    x_tilde: Tensor,
    rank: int,
    loss: ContrastiveLoss,
    strangers: int = 1000,
    rho: float = 1.0,
    tol: float = 1e-4,
    max_steps: int = 200,
    seed: int = 0,
) -> Fit:
    """Encoders that minimise CLIP's loss with its penalty, each pair compared with about ``strangers`` others.

    L-BFGS on the factors g1, g2 with the gradient in closed form, from the linear loss's M at the best of a few
    lengths: O(n strangers r) time an evaluation, O(strangers^2) memory. It is the exact loss where strangers >= n - 1.

    Args:
        x, x_tilde: (n, d1), (n, d2) pairs, centred.
        rank, rho, max_steps: as for `mmcl.fit`.
        loss: `mmcl.losses.CLIP` with eps = 1.
        strangers: rows that every pair is compared with, >= 1; the groups are of this size and one. Rows that are
            left over, fewer than there are groups, are not used.
        tol: converged when the gradient by the factors is at most tol times that of the penalty alone; 3 sqrt(eps) of
            the dtype is the least that is asked for (1e-3 in float32), since L-BFGS looks at L itself.
        seed: of the groups.

    Returns:
        `Fit`; its loss is the estimated one.

    Raises:
        ValueError: for bad data, another loss, or bad numbers.

    Example:
        >>> x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> found, exact = (fit_sampled(x, x[:, :3], 2, CLIP(), strangers=m, tol=1e-6) for m in (100, 400))
        >>> bool(exact.converged), bool(abs(exact.loss - fit(x, x[:, :3], 2, "clip").loss) < 1e-8)
        (True, True)
    """
    x, x_tilde = paired(x, x_tilde)
    rank = rank_at_most(rank, x.shape[-1], x_tilde.shape[-1])
    at_least(1, strangers=strangers, max_steps=max_steps)
    positive(rho=rho, tol=tol)
    seed = as_seed(seed)
    if not isinstance(loss, CLIP) or loss.eps != 1:
        raise ValueError(f"{loss!r} cannot be fitted with sampled strangers; use CLIP with eps = 1, or strangers=None")
    n, groups = len(x), max(1, len(x) // (strangers + 1))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[: n // groups * groups].view(groups, -1)
    problem = Groups(x, x_tilde, order, loss.tau, loss.nu)
    history: list[float] = []
    reached: list[float] = []

    def penalised(flat: np.ndarray) -> tuple[float, np.ndarray]:
        g1, g2 = torch.from_numpy(flat).to(x.dtype).view(rank, -1).split([x.shape[1], x_tilde.shape[1]], 1)
        value, by_g1, by_g2 = problem.value_and_gradient(g1, g2)
        gram, gram_tilde = g1 @ g1.mT, g2 @ g2.mT
        history.append(value + rho / 2 * float((gram * gram_tilde).sum()))
        gradient = torch.cat([by_g1 + rho * gram_tilde @ g1, by_g2 + rho * gram @ g2], 1)
        level = rho * torch.cat([gram_tilde @ g1, gram @ g2], 1).norm()
        reached.append(float(gradient.norm() / level.clamp(min=torch.finfo(x.dtype).tiny)))
        return history[-1], gradient.double().flatten().numpy()

    start = _start(problem, fit(x, x_tilde, rank, "linear", rho), rho)
    tol = max(tol, 3 * torch.finfo(x.dtype).eps ** 0.5)  # where L does not fall any more by what its digits show

    def enough(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        if reached[-1] <= tol:
            raise StopIteration

    found = scipy.optimize.minimize(
        penalised,
        start.double().flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        callback=enough,
        options={"maxiter": max_steps, "maxfun": 2 * max_steps, "ftol": 0.0, "gtol": 0.0, "maxcor": 20},
    )
    g1, g2 = torch.from_numpy(found.x).to(x.dtype).view(rank, -1).split([x.shape[1], x_tilde.shape[1]], 1)
    value = torch.tensor(float(found.fun), dtype=x.dtype)
    u, s, v = truncated_svd(g1.mT @ g2, rank)
    return Fit(
        *balanced_factors(u, s, v),
        value,
        found.nit,
        torch.tensor(reached[-1] <= tol),
        torch.tensor(history, dtype=x.dtype),
    )


def _start(problem: Groups, linear: Fit, rho: float) -> Tensor:
    """The linear loss's encoders, side by side (r, d1 + d2), at the length where the loss of one group is least."""
    size = float((linear.g1.mT @ linear.g2).square().sum())

    def value(c: float) -> float:
        return problem.value_and_gradient(c**0.5 * linear.g1, c**0.5 * linear.g2, 1)[0] + rho / 2 * c**2 * size

    return min(LENGTHS, key=value) ** 0.5 * torch.cat([linear.g1, linear.g2], 1)
