"""The losses that iterate, on scaled rows: their temperature, their fit, and a warning where they say nothing new."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from mmcl._checks import paired
from mmcl.losses import ContrastiveLoss
from mmcl.practice.inputs import View
from mmcl.practice.sampled import fit_sampled
from mmcl.practice.scaling import Scaling, scaled_rows
from mmcl.practice.selection import Selection, loss_of, partner_score
from mmcl.practice.streaming import Moments
from mmcl.spectral import fit

if TYPE_CHECKING:
    from mmcl.practice.estimator import MMCL

TAUS = (0.1, 0.2, 0.5, 1.0, 2.0)  # tried, in units of the spread of similarities under the linear loss
TRIED_ON = 1200  # pairs that a temperature is tried on
FLAT = 0.1  # similarities of strangers vary by less than this many tau: the loss is the linear one


def contrast(
    model: "MMCL", pair: tuple[View, View], total: Moments, scaling: Scaling, rank: int
) -> tuple[Tensor, Tensor]:
    """Rotations of a loss that iterates; the estimator is told its temperature, steps and convergence."""
    x, x_tilde = scaled_rows(pair, total, scaling, model.drop_missing)
    tau = model.tau
    if tau == "auto" and hasattr(loss_of(model, 1.0), "tau") and not isinstance(model.loss, ContrastiveLoss):
        found = select_tau(x, x_tilde, rank, lambda tau: loss_of(model, tau), model.rho, model.random_state)
        model.selection_.append(found)
        tau = found.best["tau"]
    loss = loss_of(model, 1.0 if tau == "auto" else float(tau))
    how = model.rho, model.tol, model.max_steps
    if model.strangers is None:
        fitted = fit(x, x_tilde, rank, loss, *how)
    else:
        fitted = fit_sampled(x, x_tilde, rank, loss, model.strangers, *how, model.random_state)
    model.n_iter_, model.converged_ = fitted.steps, bool(fitted.converged)
    if hasattr(loss, "tau"):
        model.tau_ = loss.tau
        warn_if_linear(loss.tau, spread(x @ fitted.g1.mT, x_tilde @ fitted.g2.mT))
    if not model.converged_:
        warnings.warn(
            f"{loss!r} has not met tol = {model.tol:g} in {fitted.steps} steps; raise max_steps, tol, ridge or rho",
            ConvergenceWarning,
            stacklevel=4,
        )
    return scaling.map @ fitted.g1.mT.double(), scaling.map_tilde @ fitted.g2.mT.double()


def spread(z: Tensor, z_tilde: Tensor) -> float:
    """Standard deviation of the similarities z_i . z~_j of strangers, from the covariances of both."""
    z, z_tilde = paired(z, z_tilde)
    a, b = (torch.atleast_2d(torch.cov(c.mT)) for c in (z, z_tilde))
    return float((a * b).sum().clamp(min=0).sqrt())


def warn_if_linear(tau: float, varied: float) -> None:
    if varied < FLAT * tau:
        warnings.warn(
            f"tau = {tau:g} is large against the similarities of strangers, which vary by {varied:.3g}: the softmax is "
            f"flat and the fit is that of the linear loss; take tau near {varied:.2g}, or scale='whiten'",
            stacklevel=5,
        )


def select_tau(
    x: Tensor, x_tilde: Tensor, rank: int, loss_at: Callable[[float], ContrastiveLoss], rho: float, seed: int
) -> Selection:
    """The temperature that retrieves held-out pairs best, among `TAUS` times the spread of similarities under the
    linear loss, on at most `TRIED_ON` pairs, a third of them held out."""
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:TRIED_ON]
    a, b = x[chosen].double(), x_tilde[chosen].double()
    test = max(1, len(a) // 3)
    linear = fit(a[test:], b[test:], rank, "linear", rho)
    unit = spread(a[test:] @ linear.g1.mT, b[test:] @ linear.g2.mT) or 1.0
    tried, scores = [], []
    for factor in TAUS:
        found = fit(a[test:], b[test:], rank, loss_at(factor * unit), rho, tol=1e-2, max_steps=100)
        tried.append({"tau": factor * unit})
        scores.append(partner_score(a[:test] @ found.g1.mT, b[:test] @ found.g2.mT))
    return Selection(tried, torch.tensor(scores, dtype=torch.float64).unsqueeze(1))
