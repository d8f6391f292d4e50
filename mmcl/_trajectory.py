"""What the runs of `mmcl.training` have in common: where they start, what they record, what they refuse."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mmcl._checks import as_generator, as_rows, no_less_than, paired, positive, rank_at_most
from mmcl.losses import ContrastiveLoss, resolve


@dataclass(frozen=True)
class Trajectory:
    """Encoders along a training run; the last entry is the result.

    Attributes:
        step: (t,) gradient steps taken when the entry was recorded, beginning with 0.
        loss: (t, ...) full-data loss with its penalty, L = l + rho/2 ||g1^T g2||_F^2.
        g1, g2: (t, ..., rank, d1) and (t, ..., rank, d2), so that `mmcl.metrics.sin_theta(path.g1.mT, u)` is a curve.
    """

    step: Tensor
    loss: Tensor
    g1: Tensor
    g2: Tensor


class Entry(NamedTuple):
    """One entry of a trajectory."""

    step: int
    loss: Tensor
    g1: Tensor
    g2: Tensor


def random_encoders(
    x: Tensor, x_tilde: Tensor, rank: int, seed: int | torch.Generator = 0, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Encoders with independent uniform entries in +-scale/sqrt(d), the initialisation of a linear layer in torch.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs, of which the shape and the dtype count.
        rank: encoder dimension r.
        seed: int or `torch.Generator`.
        scale: factor of the entries.

    Returns:
        g1 (..., r, d1) and g2 (..., r, d2).

    Example:
        >>> g1, g2 = random_encoders(torch.zeros(9, 4), torch.zeros(9, 3), 2)
        >>> g1.shape, g2.shape, bool(g1.abs().max() <= 0.5)
        (torch.Size([2, 4]), torch.Size([2, 3]), True)
    """
    x, x_tilde = as_rows("x", x), as_rows("x_tilde", x_tilde)
    rank = rank_at_most(rank, x.shape[-1], x_tilde.shape[-1])
    positive(scale=scale)
    generator = as_generator(seed)

    def draw(a: Tensor) -> Tensor:
        uniform = torch.rand(*a.shape[:-2], rank, a.shape[-1], generator=generator, dtype=a.dtype).to(a.device)
        return scale * (2 * uniform - 1) / a.shape[-1] ** 0.5

    return draw(x), draw(x_tilde)


def penalty(g1: Tensor, g2: Tensor, rho: float) -> Tensor:
    """R = rho/2 ||g1^T g2||_F^2."""
    return rho / 2 * (g1.mT @ g2).square().sum((-2, -1))


def checked(
    x: Tensor, x_tilde: Tensor, rank: int, loss: str | ContrastiveLoss, rho: float, lr: float
) -> tuple[Tensor, Tensor, int, ContrastiveLoss]:
    x, x_tilde = paired(x, x_tilde)
    rank = rank_at_most(rank, x.shape[-1], x_tilde.shape[-1])
    no_less_than(0, rho=rho)
    positive(lr=lr)
    return x, x_tilde, rank, resolve(loss)


def trajectory(entries: list[Entry]) -> Trajectory:
    return Trajectory(
        torch.tensor([entry.step for entry in entries]),
        torch.stack([entry.loss for entry in entries]),
        torch.stack([entry.g1 for entry in entries]),
        torch.stack([entry.g2 for entry in entries]),
    )
