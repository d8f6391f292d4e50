"""The descent of `mmcl.spectral.fit`: quasi-Newton steps over the matrices M = g1^T g2 of rank r."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from mmcl._svd import leading_triples, with_signs
from mmcl._weigh import weigh
from mmcl.covariance import evaluate
from mmcl.losses import ContrastiveLoss

COARSE = 0.01  # gradient, as a share of S, down to which single precision will do
MEMORY = 2**23  # numbers kept of earlier steps at most, in up to 20 pairs
Triple = tuple[Tensor, Tensor, Tensor]  # u, s, v


@dataclass(frozen=True)
class State:
    """M = u diag(s) v^T of rank r, with the loss L and its rounding error, and the gradient P_T(rho M - S(beta(M))).

    P_T is the projection on the tangent space of the matrices of rank r at M. Where M has a smaller rank, as at 0, it
    may grow in any direction, and nothing is projected.
    """

    u: Tensor
    s: Tensor
    v: Tensor
    m: Tensor
    value: Tensor
    rounding: Tensor
    gradient: Tensor

    def towards(self, step: Tensor) -> Callable[[Tensor], Triple]:
        """t -> SVD_r(M + t P_T(step)), for which the SVD of a 2r x 2r matrix is enough where M has rank r:

            M + t P_T(step) = [u q] [[diag(s) + t k, t b^T], [t a, 0]] [v p]^T,

        with k = u^T step v and the QR decompositions q a = step v - u k and p b = step^T u - v k^T.
        """
        rank = self.s.shape[-1]
        if _lower_rank(self.s).any():
            return lambda t: leading_triples(self.m + t[..., None, None] * step, rank)
        across, down = step @ self.v, step.mT @ self.u
        k = self.u.mT @ across
        (q, a), (p, b) = torch.linalg.qr(across - self.u @ k), torch.linalg.qr(down - self.v @ k.mT)
        left, right = torch.cat([self.u, q], -1), torch.cat([self.v, p], -1)
        slope = torch.cat([torch.cat([k, b.mT], -1), F.pad(a, (0, rank))], -2)
        start = F.pad(torch.diag_embed(self.s), (0, rank, 0, rank))

        def at(t: Tensor) -> Triple:
            u, s, v = leading_triples(start + t[..., None, None] * slope, rank)
            return left @ u, s, right @ v

        return at


@dataclass(frozen=True)
class Curvature:
    """The inverse Hessian that L-BFGS knows from pairs (..., 2, k, N) of steps s_k and changes y_k of the gradient,
    beginning with H_0 = length diag(shape). Pairs are zero where L did not curve upwards."""

    shape: Tensor
    length: Tensor  # (..., 1, 1), for which H_0 has the curvature of the last pair
    pairs: Tensor

    def after(self, step: Tensor, change: Tensor) -> "Curvature":
        bend = (step * change).sum((-2, -1), keepdim=True)
        bends = bend > 1e-10 * (_norm2(step) * _norm2(change)).sqrt()[..., None, None]
        length = bend / (self.shape * change.square()).sum((-2, -1), keepdim=True)
        new = (torch.stack([step, change], -3) * bends.unsqueeze(-3)).flatten(-2).unsqueeze(-2)
        keep = min(20, max(1, MEMORY // new[..., 0, :, :].numel()))
        pairs = torch.cat([self.pairs, new], -2)[..., -keep:, :]
        return Curvature(self.shape, length.where(bends, self.length), pairs)

    def times(self, gradient: Tensor) -> Tensor:
        """H times (..., d1, d2), in the compact form of Byrd, Nocedal and Schnabel (1994):

            H = H_0 + [S H_0 Y] [[R^-T (D + Y^T H_0 Y) R^-1, -R^-T], [-R^-1, 0]] [S H_0 Y]^T,

        S and Y steps and changes as columns, R the upper triangle of S^T Y, D its diagonal.
        """
        (s, y), first = self.pairs.unbind(-3), (self.length * self.shape).flatten(-2).unsqueeze(-1)
        g = gradient.flatten(-2).unsqueeze(-1)
        products = s @ y.mT
        own = products.diagonal(dim1=-2, dim2=-1)
        r = products.triu() + torch.diag_embed((own == 0).to(own))
        p = torch.linalg.solve_triangular(r, s @ g, upper=True)
        rest = first * (g - y.mT @ p)
        q = torch.linalg.solve_triangular(r.mT, own.unsqueeze(-1) * p - y @ rest, upper=False)
        return (rest + s.mT @ q).view_as(gradient)


def descend(
    x: Tensor,
    x_tilde: Tensor,
    rank: int,
    loss: ContrastiveLoss,
    rho: float,
    tol: float,
    max_steps: int,
    progress: bool,
) -> tuple[Triple, Tensor, Tensor, Tensor]:
    """From M = 0 by M+ = SVD_r(M - P_T(H G)), G the gradient and H the inverse Hessian that L-BFGS knows, at first

        H_0 = (rho + c E[x x^T] (x) E[x_tilde x_tilde^T])^-1,

    the inverse Hessian at M = 0 of centred data, up to a share of 1/n, where c is the curvature of the loss at s = 0:
    1/tau for CLIP. The first step is along SVD_r(S(beta(0))) to the least of the parabola that this Hessian gives.
    While the gradient is large, similarities are computed in single precision.

    All batch entries go at once; a converged one stands still. Returns the last u, s, v, the loss there, whether the
    tolerance is met, and the losses (steps + 1, ...).
    """
    (axes, spread, unit), (axes_tilde, spread_tilde, unit_tilde) = _principal_axes(x), _principal_axes(x_tilde)
    x, x_tilde = x @ axes / unit, x_tilde @ axes_tilde / unit_tilde  # where H_0 is diagonal, and single precision safe
    penalty = rho / (unit * unit_tilde) ** 2
    hessian = penalty + loss._curvature_at_zero(x.shape[-2]) * spread * spread_tilde.mT
    views = {dtype: (x.to(dtype), x_tilde.to(dtype)) for dtype in (torch.float32, x.dtype)}
    dtype = torch.float32

    def at(u: Tensor, s: Tensor, v: Tensor) -> State:
        a, b = views[dtype]
        z, z_tilde, size = a @ u.to(dtype), b @ v.to(dtype), s.to(dtype).unsqueeze(-2)
        value, once, back = weigh(z, z_tilde * size, loss, z_tilde, z)
        sv, su = (c.to(x) / x.shape[-2] for c in (a.mT @ once, b.mT @ back))  # S v and S^T u
        covariance = sv @ v.mT + u @ (su - v @ (sv.mT @ u)).mT
        if (lower := _lower_rank(s)).any():
            whole = evaluate(a, b, u.to(dtype).mT, (size * v.to(dtype)).mT, loss)[1]
            covariance = whole.to(x).where(lower[..., None, None], covariance)
        m, value = u * s.unsqueeze(-2) @ v.mT, value.to(x) + penalty[..., 0, 0] / 2 * s.square().sum(-1)
        return State(u, s, v, m, value, 64 * torch.finfo(dtype).eps * value.abs(), penalty * m - covariance)

    def near(now: State, tol: float) -> Tensor:
        return _norm2(now.gradient) <= tol**2 * _norm2(penalty * now.m - now.gradient)

    value, covariance = _at_zero(x, x_tilde, loss)
    u, s, v = leading_triples(covariance, rank)
    m = u * s.unsqueeze(-2) @ v.mT
    size = (_norm2(m) / (hessian * m.square()).sum((-2, -1))).nan_to_num(0).unsqueeze(-1) * s
    now, path = State(u, 0 * s, v, 0 * m, value, 0 * value, -covariance), lambda t: (u, t.unsqueeze(-1) * size, v)
    none = m.new_zeros(*m.shape[:-2], 2, 0, m.shape[-2:].numel())
    known = start = Curvature(1 / hessian, torch.ones_like(penalty), none)
    done, history = torch.zeros_like(value, dtype=torch.bool), [value]
    for step in tqdm(range(max_steps), desc=f"fit {loss!r}", unit="step", disable=not progress):
        before = now
        if step == max_steps - 1:
            dtype = x.dtype
        now, stuck = _backtrack(before, at, path, done)
        history.append(now.value)
        if stuck.any() and known is not start:  # by rounding errors in what is known: once more without
            dtype, known = x.dtype, start
            now = before = at(now.u, now.s, now.v)
        elif dtype == x.dtype:
            done = done | near(now, tol) | stuck
            if done.all():
                break
        elif (near(now, COARSE) | (before.value - now.value <= now.rounding)).any():
            dtype = x.dtype
        known = known.after(now.m - before.m, now.gradient - before.gradient)
        path = now.towards(-known.times(now.gradient))
    u, v = with_signs(axes @ now.u, axes_tilde @ now.v)
    s = now.s / (unit * unit_tilde).squeeze(-1)
    return (u, s, v), now.value, near(now, tol), torch.stack(history)


def _lower_rank(s: Tensor) -> Tensor:
    return s[..., -1] == 0


def _principal_axes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvectors of E[x x^T], its eigenvalues (..., d, 1) over their mean, and the root of the mean (..., 1, 1)."""
    values, axes = torch.linalg.eigh(x.mT @ x / x.shape[-2])
    values = values.clamp(min=0).unsqueeze(-1)
    mean = values.mean(-2, keepdim=True)
    mean = mean.where(mean > 0, 1)
    return axes, values / mean, mean.sqrt()


def _at_zero(x: Tensor, x_tilde: Tensor, loss: ContrastiveLoss) -> tuple[Tensor, Tensor]:
    """`evaluate` at encoders that are 0. All similarities are 0, so of an exchangeable loss one row stands for all:

    S = w_ii/n sum_i x_i x~_i^T + w_ij/n sum_{i != j} x_i x~_j^T.
    """
    n, batch = x.shape[-2], x.shape[:-2]
    if not loss.exchangeable:
        g1, g2 = (a.new_zeros(*batch, 1, a.shape[-1]) for a in (x, x_tilde))
        return evaluate(x, x_tilde, g1, g2, loss)
    zero, row = x.new_zeros(n), loss._prepare(x.new_zeros(1, n), 0)
    totals = loss._totals(row, zero, 0)[0]
    totals = totals.expand(*totals.shape[:-1], n)
    value, together, by_row, by_column = loss._settle(totals, totals, zero)
    apart = loss._apart(row, zero, 0, by_row[..., :1], by_column)[0, -1]
    mean, mean_tilde = (a.mean(-2, keepdim=True) for a in (x, x_tilde))
    centred = (x - mean).mT @ (x_tilde - mean_tilde) / n
    covariance = (together[0] - apart) * centred + (together[0] + (n - 1) * apart) * mean.mT @ mean_tilde
    return value.expand(batch), covariance


def _backtrack(
    now: State, at: Callable[..., State], path: Callable[[Tensor], Triple], done: Tensor
) -> tuple[State, Tensor]:
    """The state at u, s, v = path(t), t shortened from 1 to the least of a parabola until L falls by enough.

    Returns the state and, per batch entry, whether t became too short to matter; such entries and those that are done
    stay where they are.
    """
    t = torch.ones_like(now.value)
    while True:
        trial = at(*path(t))
        change, expected = trial.value - now.value, (now.gradient * (trial.m - now.m)).sum((-2, -1))
        falls = change <= 1e-4 * expected.clamp(max=0) + torch.maximum(now.rounding, trial.rounding)
        stuck = t < 1e-12
        if (falls & ~done).all():
            return trial, ~falls
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
