"""The SVD iteration at several step lengths, values along a path, and encoders that the loss cannot tell apart."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mmcl._blocks import row_blocks
from mmcl._checks import (
    as_encoders,
    as_generator,
    at_least,
    has_encoders,
    no_less_than,
    paired,
    positive,
    within,
)
from mmcl.beyond._shapes import matrix
from mmcl.covariance import loss_and_covariance
from mmcl.losses import ContrastiveLoss
from mmcl.spectral import curvature, projected_step


class Encoded(NamedTuple):
    """g1 (..., r, d1) and g2 (..., r, d2)."""

    g1: Tensor
    g2: Tensor


def objective(
    x: Tensor, x_tilde: Tensor, g1: Tensor, g2: Tensor, loss: str | ContrastiveLoss, rho: float, block: int = 50
) -> Tensor:
    """The penalised loss l + rho/2 ||G1^T G2||_F^2 of a path of encoders, walked ``block`` of them at a time.

    Args:
        x, x_tilde: (n, d1), (n, d2) pairs.
        g1, g2: (t, r, d1), (t, r, d2).
        loss, rho: as of `mmcl.spectral.fit`.

    Returns:
        (t,) values.

    Example:
        >>> x = torch.tensor([[1.0], [-1.0]])
        >>> objective(x, x, torch.ones(2, 1, 1), torch.ones(2, 1, 1), "linear", rho=1.0)  # -tr(S M) + M^2/2, S = 2
        tensor([-1.5000, -1.5000])
    """
    at_least(1, block=block)
    no_less_than(0, rho=rho)
    x, x_tilde = paired(x, x_tilde)
    g1, g2 = as_encoders(x, x_tilde, g1, g2)
    if (x.ndim, g1.ndim, g2.ndim) != (2, 3, 3) or len(g1) != len(g2):
        shapes = f"g1 has shape {tuple(g1.shape)} and g2 {tuple(g2.shape)}"
        raise ValueError(f"{shapes}; give a path (t, r, d1), (t, r, d2) of one set of pairs")
    values = []
    for some in row_blocks(len(g1), 1, block):
        one, other = (a.expand(len(g1[some]), -1, -1) for a in (x, x_tilde))
        values.append(loss_and_covariance(one, other, g1[some], g2[some], loss)[0])
    return torch.cat(values) + rho / 2 * (g1.mT @ g2).square().sum((-2, -1))


def svd_iteration(
    x: Tensor,
    x_tilde: Tensor,
    start: Encoded,
    loss: str | ContrastiveLoss,
    rho: float,
    lengths: Tensor,
    steps: int,
) -> Encoded:
    """`mmcl.spectral.projected_step` repeated without any safeguard, at several step lengths at once.

    Args:
        x, x_tilde: (n, d1), (n, d2) pairs.
        start: encoders g1 (r, d1), g2 (r, d2).
        loss, rho: as of `mmcl.spectral.fit`.
        lengths: (k,) step lengths times rho; 1 is the full step SVD_r(S)/rho.
        steps: iterations.

    Returns:
        g1 (steps + 1, k, r, d1), g2 likewise: the whole path.

    Example:
        >>> x = torch.eye(3, dtype=torch.float64)
        >>> g = Encoded(x[:1], x[:1])
        >>> svd_iteration(x, x, g, "linear", 1.0, torch.tensor([0.5, 1.0]), steps=4).g1.shape
        torch.Size([5, 2, 1, 3])
    """
    positive(rho=rho)
    at_least(1, steps=steps)
    x, x_tilde = paired(x, x_tilde)
    has_encoders(start)
    g1, g2 = as_encoders(x, x_tilde, matrix("g1", start.g1), matrix("g2", start.g2))
    lengths = within(0, torch.inf, "lengths", lengths).reshape(-1)
    k = len(lengths)
    (one, other), step = (a.expand(k, -1, -1) for a in (x, x_tilde)), (lengths / rho).to(x)[:, None, None]
    path = [(g1.expand(k, -1, -1), g2.expand(k, -1, -1))]
    for _ in range(steps):
        path.append(projected_step(one, other, *path[-1], loss, rho, step))
    g1, g2 = (torch.stack(g) for g in zip(*path, strict=True))
    return Encoded(g1, g2)


def step_limit(x: Tensor, x_tilde: Tensor, best: Encoded, loss: str | ContrastiveLoss, rho: float) -> float:
    """Step length times rho below which the SVD iteration converges at a minimiser: 2 rho/(rho + h), h the curvature.

    Close to it a step multiplies the error along a direction of curvature h by 1 - step (rho + h).

    Example:
        >>> x = torch.eye(3, dtype=torch.float64)
        >>> 0 < step_limit(x, x, Encoded(x[:1], x[:1]), "clip", rho=0.1) < 2
        True
    """
    positive(rho=rho)
    has_encoders(best)
    return 2 * rho / (rho + curvature(x, x_tilde, best.g1, best.g2, loss))


def distorted(best: Encoded, condition: float, draws: int, seed: int | Generator = 0) -> Encoded:
    """(A G1, A^-T G2) for random A of a condition number: the same M, loss and subspaces, other cosines.

    A = Q diag(condition^(-1/2) ... condition^(1/2)) Q', with random orthogonal Q and Q'.

    Args:
        best: encoders g1 (r, d1), g2 (r, d2).
        condition: largest over smallest singular value of A, at least 1.
        draws: matrices A.
        seed: int or `torch.Generator`.

    Returns:
        g1 (draws, r, d1), g2 (draws, r, d2).

    Example:
        >>> g = Encoded(torch.eye(2).double(), torch.eye(2).double())
        >>> a = distorted(g, 10.0, draws=3)
        >>> torch.allclose(a.g1.mT @ a.g2, torch.eye(2).double())
        True
    """
    no_less_than(1, condition=condition)
    at_least(1, draws=draws)
    has_encoders(best)
    g1, g2 = (matrix(name, g) for name, g in (("g1", best.g1), ("g2", best.g2)))
    matrix("g2", g2, rows=len(g1))
    r, generator = len(g1), as_generator(seed)
    q, turn = torch.linalg.qr(torch.randn(2, draws, r, r, generator=generator, dtype=torch.float64))[0].to(g1)
    stretch = condition ** torch.linspace(-0.5, 0.5, r).to(g1)
    return Encoded((q * stretch) @ turn @ g1, (q / stretch) @ turn @ g2)
