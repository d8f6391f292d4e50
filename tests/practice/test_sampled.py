"""CLIP with strangers from a group: the exact loss where the group is everyone, and close to it beyond."""

import numpy as np
import pytest
import torch
from helpers import normal, pairs, relative

import mmcl
from mmcl.data import spiked
from mmcl.losses import CLIP, LOSSES
from mmcl.metrics import relative_error
from mmcl.practice.sampled import Groups, fit_sampled


@pytest.mark.parametrize("tau", [0.2, 1.0])
@pytest.mark.parametrize("nu", [1.0, 1.5])
def test_with_all_rows_as_strangers_it_ends_where_the_exact_fit_ends(tau, nu):
    x, y = pairs(200, 7, 5, seed=1)
    exact, found = (
        f(x, y, 2, CLIP(tau, nu), tol=1e-6, **more) for f, more in ((mmcl.fit, {}), (fit_sampled, {"strangers": 199}))
    )
    assert bool(found.converged)
    assert abs(float(found.loss - exact.loss)) < 1e-10
    assert relative(found.g1.mT @ found.g2, exact.g1.mT @ exact.g2) < 1e-5


def test_the_gradient_is_that_of_autograd_on_the_written_out_estimate():
    x, y, g1, g2 = normal(12, 4, seed=2), normal(12, 3, seed=3), normal(2, 4, seed=4), normal(2, 3, seed=5)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).view(3, 4)
    g1.requires_grad_(), g2.requires_grad_()
    s, tau, nu = (x @ g1.mT) @ (y @ g2.mT).mT, 0.7, 1.3
    total = 0.0
    for group in order:
        for i in group.tolist():
            others = [j for j in group.tolist() if j != i]
            for row in (s[i], s[:, i]):
                strangers = 11 / 3 * (row[others] / tau).exp().sum()
                total = total + (tau * torch.log((row[i] / tau).exp() + strangers) - nu * row[i]) / 24
    total.backward()
    total = total.detach()
    value, by_g1, by_g2 = Groups(x, y, order, tau, nu).value_and_gradient(g1.detach(), g2.detach())
    assert abs(value - float(total)) < 1e-12
    assert relative(by_g1, g1.grad) < 1e-12
    assert relative(by_g2, g2.grad) < 1e-12


def test_the_error_falls_with_the_number_of_strangers():
    p = spiked(2400, 12, 10, rank=3, noise_std=0.5, seed=1)
    exact = mmcl.fit(p.x, p.x_tilde, 3, CLIP(1.0), tol=1e-4)
    errors = []
    for strangers in (24, 99, 399):
        found = fit_sampled(p.x, p.x_tilde, 3, CLIP(1.0), strangers)
        errors.append(relative_error(found.g1.mT @ found.g2, exact.g1.mT @ exact.g2))
    assert errors[2] < errors[1] < errors[0]
    assert errors[1] < 0.1


def test_the_estimator_compares_with_as_many_strangers_as_it_is_told():
    x, y = (a.numpy() for a in pairs(600, 7, 5, seed=6))
    exact, found = (
        mmcl.MMCL(3, loss="clip", tau=0.5, ridge=0.01, strangers=s, tol=1e-4).fit(x[:400], y[:400]) for s in (None, 49)
    )
    assert abs(exact.score(x[400:], y[400:]) - found.score(x[400:], y[400:])) < 0.03
    assert np.abs(exact.x_rotations_ - found.x_rotations_).max() > 1e-6


def test_other_losses_and_no_strangers_are_refused():
    x, y = pairs(40, 4, 3, seed=7)
    with pytest.raises(ValueError, match="cannot be fitted with sampled strangers"):
        fit_sampled(x, y, 2, LOSSES["triplet"]())
    with pytest.raises(ValueError, match="strangers = 0"):
        fit_sampled(x, y, 2, CLIP(), strangers=0)
