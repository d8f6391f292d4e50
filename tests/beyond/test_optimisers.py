"""The SVD iteration, its step limit, and encoders that the loss cannot tell apart."""

import pytest
import torch
from helpers import close, pairs

from mmcl.beyond.optimisers import Encoded, distorted, objective, step_limit, svd_iteration
from mmcl.covariance import cross_covariance
from mmcl.losses import LOSSES
from mmcl.spectral import closed_form, fit, projected_step

X, Y = pairs(60, 7, 6, seed=3)
CLIP = LOSSES["clip"](tau=0.5)


def encoded(found):
    return Encoded(found.g1, found.g2)


def test_the_iteration_is_the_projected_step_repeated_for_each_length():
    start = encoded(fit(X, Y, 3))
    path = svd_iteration(X, Y, start, CLIP, 0.7, torch.tensor([0.3, 0.9], dtype=torch.float64), steps=3)
    for k, length in enumerate((0.3, 0.9)):
        g = start
        for step in range(4):
            close(path.g1[step, k].mT @ path.g2[step, k], g[0].mT @ g[1], 1e-6)
            g = projected_step(X, Y, *g, CLIP, 0.7, length / 0.7)


def test_one_full_step_solves_the_linear_loss():
    random = Encoded(torch.randn(3, 7).double(), torch.randn(3, 6).double())
    path = svd_iteration(X, Y, random, "linear", 2.0, torch.tensor([1.0]), steps=1)
    best = closed_form(cross_covariance(X, Y), 3, 2.0)
    close(path.g1[1, 0].mT @ path.g2[1, 0], best.g1.mT @ best.g2, 1e-6)


def test_the_objective_of_a_fit_is_its_loss_in_any_blocks():
    found = fit(X, Y, 3, CLIP, rho=0.7)
    path = [a.expand(5, -1, -1) for a in (found.g1, found.g2)]
    for block in (2, 50):
        close(objective(X, Y, *path, CLIP, 0.7, block), found.loss.expand(5))


def test_steps_below_the_limit_converge_and_steps_above_do_not():
    rho = 0.15
    best = fit(X, Y, 3, CLIP, rho=rho, max_steps=2000)
    limit = step_limit(X, Y, encoded(best), CLIP, rho)
    assert 0 < limit < 1
    lengths = torch.tensor([0.8 * limit, 1.3 * limit])
    end = svd_iteration(X, Y, encoded(fit(X, Y, 3, rho=rho)), CLIP, rho, lengths, steps=200)
    gap = (objective(X, Y, end.g1[-1], end.g2[-1], CLIP, rho) / best.loss - 1).abs()
    assert gap[0] < 1e-4
    assert gap[1] > 1e-3


def test_distorted_encoders_have_the_same_product_and_the_condition_asked_for():
    eye = Encoded(torch.eye(4).double(), torch.eye(4).double())
    found = distorted(eye, 9.0, draws=3, seed=1)
    close(found.g1.mT @ found.g2, eye.g1.expand(3, 4, 4))
    values = torch.linalg.svdvals(found.g1)
    close(values[:, 0] / values[:, -1], torch.full((3,), 9.0).double())
    turned = distorted(eye, 1.0, draws=2)
    close(turned.g1 @ turned.g1.mT, torch.eye(4).double().expand(2, 4, 4))
    with pytest.raises(ValueError, match="condition = 0.5"):
        distorted(eye, 0.5, draws=1)
