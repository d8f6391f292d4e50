"""The quasi-Newton steps of the fits: what L-BFGS remembers, and where the SVD steps end."""

import pytest
import torch
from helpers import close, normal, pairs, relative

from mmcl._descent import Curvature
from mmcl.covariance import loss_and_covariance
from mmcl.data import spiked
from mmcl.losses import CLIP
from mmcl.spectral import closed_form, fit, projected_step


def bfgs(first, steps, changes):
    """The inverse Hessian by the updates as they are defined, pair after pair, from a multiple of the identity."""
    identity = torch.eye(steps.shape[-1], dtype=steps.dtype)
    h = first * identity
    for s, y in zip(steps, changes, strict=True):
        v = identity - torch.outer(y, s) / (s @ y)
        h = v.mT @ h @ v + torch.outer(s, s) / (s @ y)
    return h


def test_the_compact_form_is_the_bfgs_updates_one_after_the_other_and_leaves_out_what_does_not_bend():
    steps, hessian = normal(2, 5, 6, seed=1), normal(6, 6, seed=2)
    changes = steps @ (hessian @ hessian.mT + torch.eye(6))
    known = Curvature(steps.new_zeros(2, 0, 6), steps.new_zeros(2, 0, 6), torch.full((2, 1), 0.7).double())
    for k in range(5):
        step, change = steps[:, k].clone(), changes[:, k].clone()
        if k == 2:
            change[1] = -change[1]  # in the second entry L curves downwards here
        known = known.after(step.view(2, 2, 3), change.view(2, 2, 3))
    gradient = normal(2, 2, 3, seed=3)
    for entry, used in ((0, [0, 1, 2, 3, 4]), (1, [0, 1, 3, 4])):
        s, y = steps[entry][used], changes[entry][used]
        length = (s[-1] @ y[-1]) / (y[-1] @ y[-1])
        expected = bfgs(length, s, y) @ gradient[entry].flatten()
        close(known.times(gradient)[entry].flatten(), expected, 1e-10)


def test_without_memory_the_step_is_the_length_and_a_quadratic_is_known_after_as_many_steps_as_it_has_dimensions():
    blank = Curvature(normal(0, 4, seed=1), normal(0, 4, seed=1), torch.tensor([0.5]).double())
    gradient = normal(2, 2, seed=2)
    assert torch.equal(blank.times(gradient), gradient / 2)
    diagonal = torch.tensor([1.0, 2.0, 5.0, 9.0]).double()
    for k in range(4):
        step = torch.eye(4)[k].double()
        blank = blank.after(step.view(2, 2), (diagonal * step).view(2, 2))
    close(blank.times(gradient), gradient / diagonal.view(2, 2), 1e-14)


@pytest.mark.parametrize("tau", [0.01, 0.3, 3.0])
def test_the_end_of_a_fit_is_a_fixed_point_of_the_svd_steps_of_the_chapter(tau):
    x, x_tilde = pairs(60, 8, 7, seed=4)
    found = fit(x, x_tilde, 3, CLIP(tau))
    assert bool(found.converged)
    h1, h2 = projected_step(x, x_tilde, found.g1, found.g2, CLIP(tau), 1.0, step=min(1.0, tau))
    assert relative(h1.mT @ h2, found.g1.mT @ found.g2) < 1e-7


def test_at_a_small_temperature_steps_of_one_length_are_still_far_away_after_three_times_as_many():
    x, x_tilde = pairs(300, 12, 11, seed=5)
    found = fit(x, x_tilde, 4, CLIP(0.01))
    g1, g2 = fit(x, x_tilde, 4).g1 * 0.1, fit(x, x_tilde, 4).g2 * 0.1
    for _ in range(3 * found.steps):
        g1, g2 = projected_step(x, x_tilde, g1, g2, CLIP(0.01), 1.0, step=0.01)
    assert bool(found.converged)
    assert relative(g1.mT @ g2, found.g1.mT @ found.g2) > 1e-3


@pytest.mark.parametrize(
    ("name", "tau"),
    [("clip", 0.01), ("clip", 1.0), ("clip", 4.0), ("siglip", 1), ("modified_triplet", 1), ("lifted_structured", 1)],
)
def test_weak_signals_next_to_strong_noise_take_tens_of_steps_to_the_last_digits(name, tau):
    p = spiked(300, 20, 19, 5, seed=1, noise_std=1.0)
    found = fit(p.x, p.x_tilde, 5, CLIP(tau) if name == "clip" else name)
    assert bool(found.converged)
    assert found.steps < 120


@pytest.mark.parametrize("rank", [1, 3])
def test_the_first_step_is_the_svd_of_the_contrastive_cross_covariance_over_rho(rank):
    x, x_tilde = pairs(60, 8, 7, seed=6)
    zero = torch.zeros(rank, 8).double(), torch.zeros(rank, 7).double()
    s = loss_and_covariance(x, x_tilde, *zero, CLIP(50.0))[1]
    first, best = fit(x, x_tilde, rank, CLIP(50.0), rho=2.0, max_steps=1), closed_form(s, rank, rho=2.0)
    close(first.g1.mT @ first.g2, best.g1.mT @ best.g2, 1e-12)


def test_an_entry_that_has_converged_stands_still_while_the_others_go_on():
    x, x_tilde = pairs(80, 8, 7, seed=7)
    easy, hard = torch.stack([x / 30, 3 * x]), torch.stack([x_tilde / 30, 3 * x_tilde])
    both, alone = fit(easy, hard, 2, CLIP(0.05)), fit(x / 30, x_tilde / 30, 2, CLIP(0.05))
    assert alone.steps < both.steps
    assert bool(both.converged.all())
    assert torch.equal(
        both.history[alone.steps :, 0], both.history[alone.steps, 0].expand(both.steps - alone.steps + 1)
    )
