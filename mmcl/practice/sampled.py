"""CLIP in time linear in n: every pair is compared with the same few strangers, and the sum over them scaled up."""

from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from mmcl._blocks import row_blocks
from mmcl._checks import at_least, paired, rank_at_most
from mmcl.covariance import balanced_factors, truncated_svd
from mmcl.losses import CLIP
from mmcl.spectral import Fit, fit

SCALES_TRIED = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # lengths at which the linear loss's M is tried as a start
TRIED_ON = 1000  # pairs


@dataclass(frozen=True)
class Strangers:
    """Pairs (n, d1), (n, d2), and the rows (m,) that all others are compared with.

    sum_{j != i} exp(s_ij/tau) is estimated by (n - 1)/m_i sum_{j in J, j != i} exp(s_ij/tau), with m_i the rows of J
    other than i, in both directions. Where J is all rows this is the loss itself.
    """

    x: Tensor
    x_tilde: Tensor
    chosen: Tensor
    loss: CLIP

    def value_and_gradient(self, g1: Tensor, g2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """l without its penalty, dl/dg1 (r, d1) and dl/dg2 (r, d2)."""
        z, z_tilde = self.x @ g1.mT, self.x_tilde @ g2.mT
        own, n = (z * z_tilde).sum(1), len(z)
        total, by_z, by_z_tilde = self._direction(z, z_tilde, own)
        more, by_z_tilde_too, by_z_too = self._direction(z_tilde, z, own)
        by_z = (by_z + by_z_too) / 2 - self.loss.nu * z_tilde
        by_z_tilde = (by_z_tilde + by_z_tilde_too) / 2 - self.loss.nu * z
        value = (total + more) / (2 * n) - self.loss.nu * own.mean()
        return value, by_z.mT @ self.x / n, by_z_tilde.mT @ self.x_tilde / n

    def _direction(self, z: Tensor, z_tilde: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """sum_i tau log sum_j exp(s_ij/tau) with queries z, and its derivatives by z and z_tilde."""
        tau, n, m = self.loss.tau, len(z), len(self.chosen)
        candidates = z_tilde[self.chosen]
        place = torch.full((n,), -1, dtype=torch.int64)
        place[self.chosen] = torch.arange(m)
        by_z, by_z_tilde, by_candidates = torch.empty_like(z), torch.empty_like(z), torch.zeros_like(candidates)
        total = torch.zeros((), dtype=torch.float64)
        for here in row_blocks(n, m, 2**19):
            logits = z[here] @ candidates.mT / tau
            among = (place[here] >= 0).nonzero()[:, 0]
            logits[among, place[here][among]] = -torch.inf
            seen = torch.full((len(logits), 1), m, dtype=z.dtype)
            seen[among] -= 1
            logits += torch.log((n - 1) / seen)
            sums = torch.logaddexp(logits.logsumexp(1), own[here] / tau)
            pair = (own[here] / tau - sums).exp_().unsqueeze(1)
            strangers = logits.sub_(sums.unsqueeze(1)).exp_()
            total += tau * sums.sum(dtype=torch.float64)
            by_z[here] = strangers @ candidates + pair * z_tilde[here]
            by_z_tilde[here] = pair * z[here]
            by_candidates += strangers.mT @ z[here]
        return total, by_z, by_z_tilde.index_add_(0, self.chosen, by_candidates)


def fit_sampled(
    x: Tensor,
    x_tilde: Tensor,
    rank: int,
    loss: CLIP,
    rho: float = 1.0,
    strangers: int = 1000,
    tol: float = 1e-4,
    max_steps: int = 200,
    seed: int = 0,
) -> Fit:
    """Encoders that minimise CLIP's loss with its penalty, each pair compared with ``strangers`` rows drawn once.

    L-BFGS on the factors g1, g2 with the gradient in closed form, from the linear loss's M at the best of a few lengths:
    O(n strangers r) time an evaluation and O(n r) memory beside the data. It is the exact loss where strangers >= n.

    Args:
        x, x_tilde: (n, d1), (n, d2) pairs, centred.
        rank, rho, max_steps: as for `mmcl.fit`.
        loss: `mmcl.losses.CLIP` with eps = 1.
        strangers: rows that every pair is compared with, >= 2.
        tol: converged when the gradient by the factors is at most tol times that of the penalty alone.
        seed: of the rows drawn.

    Returns:
        `Fit`; its loss is the estimated one.

    Raises:
        ValueError: for bad data, another loss, or fewer than two strangers.

    Example:
        >>> x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> found, exact = (fit_sampled(x, x[:, :3], 2, CLIP(), strangers=m, tol=1e-6) for m in (100, 400))
        >>> bool(exact.converged), bool(abs(exact.loss - fit(x, x[:, :3], 2, "clip").loss) < 1e-8)
        (True, True)
    """
    x, x_tilde = paired(x, x_tilde)
    rank = rank_at_most(rank, x.shape[-1], x_tilde.shape[-1])
    at_least(2, strangers=strangers)
    if not isinstance(loss, CLIP) or loss.eps != 1:
        raise ValueError(f"{loss!r} cannot be fitted with sampled strangers; use CLIP with eps = 1, or strangers=None")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    problem = Strangers(x, x_tilde, order[:strangers], loss)
    history: list[float] = []

    def penalised(flat: np.ndarray) -> tuple[float, np.ndarray]:
        g1, g2 = torch.from_numpy(flat).to(x.dtype).view(rank, -1).split([x.shape[1], x_tilde.shape[1]], 1)
        value, by_g1, by_g2 = problem.value_and_gradient(g1, g2)
        gram, gram_tilde = g1 @ g1.mT, g2 @ g2.mT
        history.append(float(value) + rho / 2 * float((gram * gram_tilde).sum()))
        gradient = torch.cat([by_g1 + rho * gram_tilde @ g1, by_g2 + rho * gram @ g2], 1)
        level = rho * torch.cat([gram_tilde @ g1, gram @ g2], 1).norm()
        reached.append(float(gradient.norm() / level.clamp(min=torch.finfo(x.dtype).tiny)))
        return history[-1], gradient.double().flatten().numpy()

    reached: list[float] = []
    start = _start(x[order[:TRIED_ON]], x_tilde[order[:TRIED_ON]], fit(x, x_tilde, rank, "linear", rho), loss, rho)
    tol = max(tol, 64 * torch.finfo(x.dtype).eps)

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
    done = torch.tensor(min(reached[-1:] + reached[-2:]) <= tol)
    return Fit(*balanced_factors(u, s, v), value, found.nit, done, torch.tensor(history, dtype=x.dtype))


def _start(x: Tensor, x_tilde: Tensor, linear: Fit, loss: CLIP, rho: float) -> Tensor:
    """The linear loss's encoders, side by side (r, d1 + d2), at the length where the loss of a few pairs is least."""
    few = Strangers(x, x_tilde, torch.arange(len(x)), loss)
    size = linear.g1.mT @ linear.g2

    def value(c: float) -> float:
        root = c**0.5
        penalty = rho / 2 * c**2 * float(size.square().sum())
        return float(few.value_and_gradient(root * linear.g1, root * linear.g2)[0]) + penalty

    best = min(SCALES_TRIED, key=value)
    return best**0.5 * torch.cat([linear.g1, linear.g2], 1)
