"""The descent of `mmcl.spectral.fit`: quasi-Newton steps over the matrices M = g1^T g2 of rank r."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mmcl.covariance import balanced_factors, evaluate, truncated_svd
from mmcl.losses import ContrastiveLoss

MEMORY = 2**23  # numbers kept of earlier steps at most, in up to 20 pairs


@dataclass(frozen=True)
class State:
    """M = u diag(s) v^T of rank r, with the loss L and its gradient rho M - S(beta(M)) there."""

    u: Tensor
    s: Tensor
    v: Tensor
    m: Tensor
    gradient: Tensor
    value: Tensor

    def tangent(self, a: Tensor) -> Tensor:
        """The projection of ``a`` on the tangent space of the matrices of rank r at M; where M has a smaller rank, as
        at 0, it may grow in any direction, and ``a`` stays as it is."""
        rest = a - self.u @ (self.u.mT @ a)
        return (a - rest + rest @ self.v @ self.v.mT).where(self.s[..., -1, None, None] > 0, a)


@dataclass(frozen=True)
class Curvature:
    """What L-BFGS remembers: steps and changes of the gradient (..., k, N), zero where L did not curve upwards."""

    steps: Tensor
    changes: Tensor
    length: Tensor  # (..., 1) of a step along minus the gradient, by the last pair

    def after(self, step: Tensor, change: Tensor) -> "Curvature":
        bend, size = ((a * change).sum((-2, -1)).unsqueeze(-1) for a in (step, change))
        bends = bend > 1e-10 * (_norm2(step).unsqueeze(-1) * size).sqrt()
        new = [(a.flatten(-2) * bends).unsqueeze(-2) for a in (step, change)]
        keep = min(20, max(1, MEMORY // new[0].numel()))
        kept = [torch.cat([a, b], -2)[..., -keep:, :] for a, b in zip((self.steps, self.changes), new, strict=True)]
        return Curvature(kept[0], kept[1], (bend / size).where(bends, self.length))

    def times(self, gradient: Tensor) -> Tensor:
        """The inverse Hessian of these pairs times (..., N), in the compact form of Byrd, Nocedal and Schnabel (1994):

            H = f I + [S fY] [[R^-T (D + f Y^T Y) R^-1, -R^-T], [-R^-1, 0]] [S fY]^T,

        S and Y steps and changes as columns, f the length, R the upper triangle of S^T Y, D its diagonal.
        """
        s, y, f = self.steps, self.changes, self.length.unsqueeze(-1)
        g = gradient.flatten(-2).unsqueeze(-1)
        products = s @ y.mT
        own = products.diagonal(dim1=-2, dim2=-1)
        r = products.triu() + torch.diag_embed((own == 0).to(own))
        p = torch.linalg.solve_triangular(r, s @ g, upper=True)
        inner = own.unsqueeze(-1) * p + f * (y @ (y.mT @ p - g))
        q = torch.linalg.solve_triangular(r.mT, inner, upper=False)
        return (f * (g - y.mT @ p) + s.mT @ q).view_as(gradient)


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
    """From M = 0 by M+ = SVD_r(M - P_T(H P_T(G))), G = rho M - S the gradient, P_T the projection on the tangent space
    and H the inverse Hessian that L-BFGS knows along it, 1/rho at first, so that the first step is SVD_r(S)/rho.

    All batch entries go at once; a converged one stands still. Returns the last state, whether it met the tolerance,
    and the losses (steps + 1, ...).
    """

    def at(a: Tensor) -> State:
        u, s, v = truncated_svd(a, rank)
        g1, g2 = balanced_factors(u, s, v)
        value, covariance = evaluate(x, x_tilde, g1, g2, loss)
        m = g1.mT @ g2
        return State(u, s, v, m, rho * m - covariance, value + rho / 2 * s.square().sum(-1))

    now = at(x.new_zeros(*x.shape[:-2], x.shape[-1], x_tilde.shape[-1]))
    shape = *x.shape[:-2], 0, now.m.shape[-2:].numel()
    known = Curvature(now.m.new_zeros(shape), now.m.new_zeros(shape), torch.full_like(now.value, 1 / rho).unsqueeze(-1))
    done = torch.zeros_like(now.value, dtype=torch.bool)
    history = [now.value]
    for _ in tqdm(range(max_steps), desc=f"fit {loss!r}", unit="step", disable=not progress):
        before, along = now, now.tangent(now.gradient)
        now, stuck = _backtrack(before, at, -now.tangent(known.times(along)), done)
        converged = _norm2(now.tangent(now.gradient)) <= tol**2 * _norm2(rho * now.m - now.gradient)
        done = done | converged | stuck
        history.append(now.value)
        if done.all():
            break
        known = known.after(now.tangent(now.m - before.m), now.tangent(now.gradient - along))
    return now, converged, torch.stack(history)


def _backtrack(now: State, at: Callable[[Tensor], State], step: Tensor, done: Tensor) -> tuple[State, Tensor]:
    """The state at SVD_r(M + t step), t shortened from 1 to the least of a parabola until L falls by enough.

    Returns the state and, per batch entry, whether t became too short to matter; such entries and those that are done
    stay where they are.
    """
    rounding = 64 * torch.finfo(now.value.dtype).eps * now.value.abs()
    t = torch.ones_like(now.value)
    while True:
        trial = at(now.m + t[..., None, None] * step)
        change, expected = trial.value - now.value, (now.gradient * (trial.m - now.m)).sum((-2, -1))
        falls = change <= 1e-4 * expected.clamp(max=0) + rounding
        stuck = t < 1e-12
        if (falls | done | stuck).all():
            return _where(falls & ~done, trial, now), stuck & ~falls
        least = expected / (2 * (expected - change))
        t = t.where(falls | done, least.nan_to_num(0.1).clamp(0.1, 0.5) * t)


def _where(chosen: Tensor, then: State, otherwise: State) -> State:
    """``then`` for the batch entries that are chosen, ``otherwise`` for the others."""

    def select(a: Tensor, b: Tensor) -> Tensor:
        return a.where(chosen.view(chosen.shape + (1,) * (a.ndim - chosen.ndim)), b)

    return State(*(select(getattr(then, f.name), getattr(otherwise, f.name)) for f in fields(State)))


def _norm2(a: Tensor) -> Tensor:
    return a.square().sum((-2, -1))
