"""Training the encoders step by step: what the closed form and the spectral iteration are compared with."""

from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from mmcl._checks import as_generator, at_least, paired, positive, rank_at_most
from mmcl.covariance import loss_and_covariance
from mmcl.losses import resolve


@dataclass(frozen=True)
class Trajectory:
    """Encoders along a training run; the last entry is the result.

    Attributes:
        step: (t,) gradient steps taken when the entry was recorded, beginning with 0.
        loss: (t, ...) full-data loss with its penalty, L = l + rho/2 ||g1^T g2||_F^2.
        g1, g2: (t, ..., rank, d1) and (t, ..., rank, d2), so that `mmcl.metrics.sin_theta(path.g1.mT, u)` is a curve.
    """

    step: torch.Tensor
    loss: torch.Tensor
    g1: torch.Tensor
    g2: torch.Tensor


def random_encoders(x, x_tilde, rank, seed=0, scale=1.0):
    """Encoders with independent uniform entries in +-scale/sqrt(d), the initialisation of a linear layer in torch."""
    generator = as_generator(seed)

    def draw(a):
        uniform = torch.rand(*a.shape[:-2], rank, a.shape[-1], generator=generator, dtype=a.dtype).to(a.device)
        return scale * (2 * uniform - 1) / a.shape[-1] ** 0.5

    return draw(x), draw(x_tilde)


def gradient_descent(x, x_tilde, rank, loss="clip", rho=1.0, lr=0.1, steps=200, seed=0, scale=1.0, progress=False):
    """Full-batch gradient descent on the factors: g1 += lr (g2 S^T - rho g2 g2^T g1), g2 likewise, S = S(beta).

    With S held fixed each step is one step of block power iteration on S, and S is all that the loss contributes.

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

    Reference: arXiv 2302.06232, Section 2; notebook 01, section 6.
    """
    x, x_tilde, rank, loss = _checked(x, x_tilde, rank, loss, rho, lr)
    at_least(0, steps=steps)
    g1, g2 = random_encoders(x, x_tilde, rank, seed, scale)
    entries = []
    for step in tqdm(range(steps + 1), desc="gradient descent", unit="step", disable=not progress):
        value, covariance = loss_and_covariance(x, x_tilde, g1, g2, loss)
        m = g1.mT @ g2
        entries.append((step, value + rho / 2 * m.square().sum((-2, -1)), g1, g2))
        down = rho * m - covariance
        g1, g2 = g1 - lr * g2 @ down.mT, g2 - lr * g1 @ down
        if not bool(torch.isfinite(g1).all()):
            raise ValueError(f"gradient descent diverged at step {step}: lr = {lr} is too long; try {lr / 10:g}")
    return _trajectory(entries)


def similarities(x, x_tilde, g1, g2, normalize=True):
    """Similarities (..., n, n) of encoded rows: cosines, or inner products."""
    z, z_tilde = x @ g1.mT, x_tilde @ g2.mT
    if normalize:
        z, z_tilde = F.normalize(z, dim=-1), F.normalize(z_tilde, dim=-1)
    return z @ z_tilde.mT


def take_steps(optimizer, objective, batches):
    """One step of the optimizer for each batch of rows, on the sum of objective(rows) over leading dimensions."""
    for rows in batches:
        optimizer.zero_grad()
        objective(rows).sum().backward()
        optimizer.step()
    return len(batches)


def adamw(
    x, x_tilde, rank, loss="clip", rho=0.0, lr=2e-3, epochs=100, batch_size=50, normalize=True, seed=0, progress=False
):
    """Minibatch AdamW on the factors, as the paper's experiments train (Section 5.1 has these defaults with tau = 1).

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

    Reference: arXiv 2302.06232, Section 5.1; notebook 01, section 6.
    """
    x, x_tilde, rank, loss = _checked(x, x_tilde, rank, loss, 1.0 if rho == 0 else rho, lr)
    at_least(2, batch_size=batch_size)
    at_least(0, epochs=epochs)
    generator = as_generator(seed)
    g1, g2 = (g.requires_grad_() for g in random_encoders(x, x_tilde, rank, generator))
    optimizer = torch.optim.AdamW([g1, g2], lr=lr)

    def objective(rows):
        s = similarities(x[..., rows, :], x_tilde[..., rows, :], g1, g2, normalize)
        return loss(s) + rho / 2 * (g1.mT @ g2).square().sum((-2, -1))

    n, taken, entries = x.shape[-2], 0, []
    for epoch in tqdm(range(epochs + 1), desc="AdamW", unit="epoch", disable=not progress):
        if epoch:
            batches = torch.randperm(n, generator=generator).split(batch_size)
            taken += take_steps(optimizer, objective, [rows for rows in batches if len(rows) > 1])
        with torch.no_grad():
            entries.append((taken, objective(slice(None)), g1.detach().clone(), g2.detach().clone()))
    return _trajectory(entries)


def lbfgs(x, x_tilde, rank, loss="clip", rho=1.0, tol=1e-8, max_steps=2000, seed=0, scale=1.0):
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
    x, x_tilde, rank, loss = _checked(x, x_tilde, rank, loss, rho, 1.0)
    start = torch.cat([g.flatten() for g in random_encoders(x, x_tilde, rank, seed, scale)])
    cut = rank * x.shape[-1]

    def factors(flat):
        return flat[:cut].view(rank, -1), flat[cut:].view(rank, -1)

    def objective(flat):
        flat = torch.tensor(flat, dtype=x.dtype, requires_grad=True)
        g1, g2 = factors(flat)
        value = loss((x @ g1.mT) @ (x_tilde @ g2.mT).mT) + rho / 2 * (g1.mT @ g2).square().sum()
        value.backward()
        return value.item(), flat.grad.numpy().astype(np.float64)

    entries = []

    def record(intermediate_result):
        flat = torch.tensor(intermediate_result.x, dtype=x.dtype)
        entries.append((len(entries), torch.tensor(intermediate_result.fun, dtype=x.dtype), *factors(flat)))

    record(scipy.optimize.OptimizeResult(x=start.numpy(), fun=objective(start.numpy())[0]))
    options = {"maxiter": max_steps, "maxfun": 10 * max_steps, "gtol": tol, "ftol": 0}
    scipy.optimize.minimize(objective, start.numpy(), jac=True, method="L-BFGS-B", callback=record, options=options)
    return _trajectory(entries)


def _checked(x, x_tilde, rank, loss, rho, lr):
    x, x_tilde = paired(x, x_tilde)
    rank = rank_at_most(rank, x.shape[-1], x_tilde.shape[-1])
    positive(rho=rho, lr=lr)
    return x, x_tilde, rank, resolve(loss)


def _trajectory(entries):
    step, *tensors = zip(*entries, strict=True)
    return Trajectory(torch.tensor(step), *(torch.stack(t) for t in tensors))
