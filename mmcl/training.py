"""Training the encoders step by step: what the closed form and the spectral iteration are compared with."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.optimize
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from mmcl._checks import alike, as_encoders, as_generator, at_least, per_entry, positive, with_encoders
from mmcl._trajectory import Entry, Trajectory, checked, penalty, random_encoders, trajectory
from mmcl.covariance import evaluate
from mmcl.losses import ContrastiveLoss


def gradient_step(g1: Tensor, g2: Tensor, covariance: Tensor, rho: float, lr: float | Tensor) -> tuple[Tensor, Tensor]:
    """One gradient step on the factors: g1 + lr g2 D^T and g2 + lr g1 D, D = S - rho g1^T g2.

    By Proposition 2.1 it is a step of gradient ascent on the SVD objective of S = S(beta), held fixed, and S is all
    that the loss contributes. M = g1^T g2 moves by lr (D g2^T g2 + g1^T g1 D) + lr^2 D M^T D, exactly, and the
    objective by lr (||g2 D^T||_F^2 + ||g1 D||_F^2) to first order, so it rises unless the gradient is zero.

    Args:
        g1, g2: (..., r, d1), (..., r, d2) encoders.
        covariance: (..., d1, d2) contrastive cross-covariance S(beta) at them.
        rho: weight of the penalty.
        lr: step length; one number, or (..., 1, 1) with one for each batch entry.

    Returns:
        g1, g2 after the step.

    Reference: PMLR 206:4348, Proposition 2.1 and Lemma 2.1.

    Example:
        >>> g1, g2 = gradient_step(torch.eye(2), torch.eye(2), torch.diag(torch.tensor([3.0, 1.0])), rho=1.0, lr=0.1)
        >>> g1
        tensor([[1.2000, 0.0000],
                [0.0000, 1.0000]])
    """
    covariance, g1, g2 = with_encoders("covariance", covariance, g1, g2)
    numbers = (a.to(g1) for a in (*per_entry(0, rho=rho), *per_entry(-torch.inf, lr=lr)))
    return _stepped(g1, g2, covariance, *numbers)


def _stepped(g1: Tensor, g2: Tensor, covariance: Tensor, rho: Any, lr: Any) -> tuple[Tensor, Tensor]:
    up = covariance - rho * g1.mT @ g2
    return g1 + lr * g2 @ up.mT, g2 + lr * g1 @ up


def gradient_descent(
    x: Tensor,
    x_tilde: Tensor,
    rank: int,
    loss: str | ContrastiveLoss = "clip",
    rho: float = 1.0,
    lr: float = 0.1,
    steps: int = 200,
    seed: int | torch.Generator = 0,
    scale: float = 1.0,
    progress: bool = False,
) -> Trajectory:
    """Full-batch gradient descent on the factors: at every step `gradient_step` with S = S(beta) of the encoders.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs.
        rank: encoder dimension r.
        loss: a name in `mmcl.losses.LOSSES` or a loss object.
        rho: weight of the penalty, > 0.
        lr: step length, > 0.
        steps: gradient steps.
        seed, scale: of `random_encoders`, where the run starts.
        progress: show a progress bar on stderr.

    Returns:
        Trajectory with an entry before the first step and after each.

    Raises:
        ValueError: for bad data, rank, rho, lr or loss, and when the run diverges.

    Reference: PMLR 206:4348, Proposition 2.1.

    Example:
        >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        >>> path = gradient_descent(x, x, 2, steps=20)
        >>> path.g1.shape, bool(path.loss[-1] < path.loss[0])
        (torch.Size([21, 2, 4]), True)
    """
    x, x_tilde, rank, loss = checked(x, x_tilde, rank, loss, rho, lr)
    positive(rho=rho, scale=scale)
    at_least(0, steps=steps)
    g1, g2 = random_encoders(x, x_tilde, rank, seed, scale)
    entries = []
    for step in tqdm(range(steps + 1), desc="gradient descent", unit="step", disable=not progress):
        value, covariance = evaluate(x, x_tilde, g1, g2, loss)
        entries.append(Entry(step, value + penalty(g1, g2, rho), g1, g2))
        g1, g2 = _stepped(g1, g2, covariance, rho, lr)
        if not bool(torch.isfinite(g1).all()):
            raise ValueError(f"gradient descent diverged at step {step}: lr = {lr} is too long; try {lr / 10:g}")
    return trajectory(entries)


def similarities(x: Tensor, x_tilde: Tensor, g1: Tensor, g2: Tensor, normalize: bool = True) -> Tensor:
    """Similarities (..., n, n) of encoded rows: cosines, or inner products.

    Example:
        >>> similarities(torch.eye(2), 2 * torch.eye(2), torch.eye(2), torch.eye(2), normalize=False)
        tensor([[2., 0.],
                [0., 2.]])
    """
    x, x_tilde = alike(x=x, x_tilde=x_tilde)
    return _similarities(x, x_tilde, *as_encoders(x, x_tilde, g1, g2), normalize)


def _similarities(x: Tensor, x_tilde: Tensor, g1: Tensor, g2: Tensor, normalize: bool) -> Tensor:
    z, z_tilde = x @ g1.mT, x_tilde @ g2.mT
    if normalize:
        z, z_tilde = F.normalize(z, dim=-1), F.normalize(z_tilde, dim=-1)
    return z @ z_tilde.mT


def take_steps(optimizer: torch.optim.Optimizer, objective: Callable[[Any], Tensor], batches: Sequence[Any]) -> int:
    """One step of the optimizer for each batch, slice or indices, on objective(rows) summed over leading dimensions."""
    for rows in batches:
        optimizer.zero_grad()
        objective(rows).sum().backward()
        optimizer.step()
    return len(batches)


def adamw(
    x: Tensor,
    x_tilde: Tensor,
    rank: int,
    loss: str | ContrastiveLoss = "clip",
    rho: float = 0.0,
    lr: float = 2e-3,
    epochs: int = 100,
    batch_size: int = 50,
    normalize: bool = True,
    seed: int | torch.Generator = 0,
    progress: bool = False,
) -> Trajectory:
    """Minibatch AdamW on the factors, as the paper's experiments train (Section 5.2 has these defaults with tau = 1).

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs; batch entries share the minibatches and nothing else.
        rank: encoder dimension r.
        loss: a name in `mmcl.losses.LOSSES` or a loss object, applied to each minibatch.
        rho: weight of the penalty, >= 0.
        lr: learning rate of `torch.optim.AdamW`, whose other settings stay at their defaults.
        epochs, batch_size: passes over the pairs, and pairs per step; a last batch of one pair is skipped.
        normalize: train on cosine similarities, as published, instead of inner products.
        seed: of the initialisation and of the order of the pairs.
        progress: show a progress bar on stderr.

    Returns:
        Trajectory with an entry before the first epoch and after each. Its loss is that of the whole data, with the
        same kind of similarity as the training.

    Raises:
        ValueError: for bad data, rank, rho, lr or loss.

    Reference: PMLR 206:4348, Section 5.2.
    """
    x, x_tilde, rank, loss = checked(x, x_tilde, rank, loss, rho, lr)
    at_least(2, batch_size=batch_size)
    at_least(0, epochs=epochs)
    generator = as_generator(seed)
    g1, g2 = (g.requires_grad_() for g in random_encoders(x, x_tilde, rank, generator))
    optimizer = torch.optim.AdamW([g1, g2], lr=lr)

    def objective(rows: Tensor | slice) -> Tensor:
        s = _similarities(x[..., rows, :], x_tilde[..., rows, :], g1, g2, normalize)
        return loss(s) + penalty(g1, g2, rho)

    n, taken, entries = x.shape[-2], 0, []
    for epoch in tqdm(range(epochs + 1), desc="AdamW", unit="epoch", disable=not progress):
        if epoch:
            batches = torch.randperm(n, generator=generator).split(batch_size)
            taken += take_steps(optimizer, objective, [rows for rows in batches if len(rows) > 1])
        with torch.no_grad():
            entries.append(Entry(taken, objective(slice(None)), g1.detach().clone(), g2.detach().clone()))
    return trajectory(entries)


def lbfgs(
    x: Tensor,
    x_tilde: Tensor,
    rank: int,
    loss: str | ContrastiveLoss = "clip",
    rho: float = 1.0,
    tol: float = 1e-8,
    max_steps: int = 2000,
    seed: int | torch.Generator = 0,
    scale: float = 1.0,
) -> Trajectory:
    """L-BFGS on the factors with autograd gradients (scipy), the independent reference for `mmcl.spectral.fit`.

    Args:
        x, x_tilde: (n, d1), (n, d2) pairs.
        rank, loss, rho: as for `mmcl.spectral.fit`.
        tol: stop when the largest entry of the gradient is below it.
        max_steps: iterations at most.
        seed, scale: of `random_encoders`, where the run starts.

    Returns:
        Trajectory with an entry before the first iteration and after each. The factors are not balanced.

    Raises:
        ValueError: for bad data, rank, rho or loss.
    """
    x, x_tilde, rank, loss = checked(x, x_tilde, rank, loss, rho, 1.0)
    positive(rho=rho, tol=tol, scale=scale)
    at_least(1, max_steps=max_steps)
    if x.ndim > 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; L-BFGS trains on one data set, (n, {x.shape[-1]})")
    start = torch.cat([g.flatten() for g in random_encoders(x, x_tilde, rank, seed, scale)]).numpy()
    cut = rank * x.shape[-1]

    def factors(flat: Tensor) -> tuple[Tensor, Tensor]:
        return flat[:cut].view(rank, -1), flat[cut:].view(rank, -1)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.tensor(flat, dtype=x.dtype, requires_grad=True)
        g1, g2 = factors(at)
        value = loss((x @ g1.mT) @ (x_tilde @ g2.mT).mT) + penalty(g1, g2, rho)
        (gradient,) = torch.autograd.grad(value, at)
        return value.item(), gradient.numpy().astype(np.float64)

    def entry(step: int, flat: np.ndarray, value: float) -> Entry:
        return Entry(step, torch.tensor(value, dtype=x.dtype), *factors(torch.tensor(flat, dtype=x.dtype)))

    entries = [entry(0, start, objective(start)[0])]

    def record(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        entries.append(entry(len(entries), intermediate_result.x, intermediate_result.fun))

    options = {"maxiter": max_steps, "maxfun": 10 * max_steps, "gtol": tol, "ftol": 0}
    scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", callback=record, options=options)
    return trajectory(entries)
