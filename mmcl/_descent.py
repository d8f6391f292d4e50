"""The descent of `mmcl.spectral.fit`: projected gradient steps over the matrices M = g1^T g2 of rank r."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mmcl.covariance import balanced_factors, evaluate, truncated_svd
from mmcl.losses import ContrastiveLoss


@dataclass(frozen=True)
class State:
    """M = u diag(s) v^T of rank r, with the loss L and its gradient rho M - S(beta(M)) there."""

    u: Tensor
    s: Tensor
    v: Tensor
    m: Tensor
    gradient: Tensor
    value: Tensor


def descend(
    x: Tensor,
    x_tilde: Tensor,
    rank: int,
    loss: ContrastiveLoss,
    rho: float,
    tol: float,
    max_steps: int,
    progress: bool,
) -> tuple[State, Tensor, Tensor]:
    """Projected gradient with Barzilai-Borwein lengths, all batch entries at once; a converged entry stands still.

    Returns the last state, whether it met the tolerance (...,), and the losses (steps + 1, ...).
    """

    def at(a: Tensor) -> State:
        u, s, v = truncated_svd(a, rank)
        g1, g2 = balanced_factors(u, s, v)
        value, covariance = evaluate(x, x_tilde, g1, g2, loss)
        m = g1.mT @ g2
        return State(u, s, v, m, rho * m - covariance, value + rho / 2 * s.square().sum(-1))

    now = at(torch.zeros(*x.shape[:-2], x.shape[-1], x_tilde.shape[-1], dtype=x.dtype, device=x.device))
    step = torch.full_like(now.value, 1 / rho)
    converged = done = torch.zeros_like(step, dtype=torch.bool)
    history = [now.value]
    for _ in tqdm(range(max_steps), desc=f"fit {loss!r}", unit="step", disable=not progress):
        trial, falls, stuck = _backtrack(now, at, step, rho, done)
        before, now = now, _where(falls & ~done, trial, now)
        converged = _tangent_norm2(now) <= tol**2 * _norm2(rho * now.m - now.gradient)
        done = done | converged | stuck
        history.append(now.value)
        if done.all():
            break
        step = 1 / _curvature_along(before, now).clamp(min=rho)
    return now, converged, torch.stack(history)


def _backtrack(
    now: State, at: Callable[[Tensor], State], step: Tensor, rho: float, done: Tensor
) -> tuple[State, Tensor, Tensor]:
    """The state at SVD_r(M - step gradient), step halved until L falls by enough or step is too short to matter.

    Returns the state, and per batch entry whether L fell and whether step is too short. Entries that are done wait.
    """
    rounding = 64 * torch.finfo(now.value.dtype).eps * now.value.abs()
    while True:
        trial = at(now.m - step[..., None, None] * now.gradient)
        falls = trial.value <= now.value - 1e-4 / (2 * step) * _norm2(trial.m - now.m) + rounding
        stuck = step * rho < 1e-12
        if (falls | done | stuck).all():
            return trial, falls, stuck
        step = step.where(falls | done, step / 2)


def _where(chosen: Tensor, then: State, otherwise: State) -> State:
    """``then`` for the batch entries that are chosen, ``otherwise`` for the others."""

    def select(a: Tensor, b: Tensor) -> Tensor:
        return a.where(chosen.view(chosen.shape + (1,) * (a.ndim - chosen.ndim)), b)

    return State(*(select(getattr(then, f.name), getattr(otherwise, f.name)) for f in fields(State)))


def _norm2(a: Tensor) -> Tensor:
    return a.square().sum((-2, -1))


def _tangent_norm2(state: State) -> Tensor:
    """||P_T(gradient)||_F^2, P_T the projection on the tangent space of the matrices of rank r at M."""
    left, right = state.u.mT @ state.gradient, state.gradient @ state.v
    return _norm2(left) + _norm2(right) - _norm2(left @ state.v)


def _curvature_along(before: State, now: State) -> Tensor:
    """Second derivative of L along the last step, by Barzilai and Borwein; 0 for an entry that did not move."""
    change = now.m - before.m
    tiny = torch.finfo(change.dtype).tiny
    return (change * (now.gradient - before.gradient)).sum((-2, -1)) / _norm2(change).clamp(min=tiny)
