"""The quasi-Newton steps of the fits: what L-BFGS remembers, and where the SVD steps end."""

import math

import pytest
import torch
from helpers import close, normal, pairs, relative

from mmcl._descent import Curvature, State, _at_zero
from mmcl.covariance import evaluate, loss_and_covariance, truncated_svd
from mmcl.data import spiked
from mmcl.losses import CLIP, LOSSES
from mmcl.spectral import closed_form, fit, projected_step


def bfgs(first, steps, changes):
    """The inverse Hessian by the updates as they are defined, pair after pair, from a diagonal."""
    identity = torch.eye(steps.shape[-1], dtype=steps.dtype)
    h = torch.diag(first)
    for s, y in zip(steps, changes, strict=True):
        v = identity - torch.outer(y, s) / (s @ y)
        h = v.mT @ h @ v + torch.outer(s, s) / (s @ y)
    return h


def blank(shape, batch=()):
    """No pairs yet, H_0 = diag(shape)."""
    return Curvature(shape, shape.new_ones(*batch, 1, 1), shape.new_zeros(*batch, 2, 0, shape.numel()))


def test_the_compact_form_is_the_bfgs_updates_one_after_the_other_and_leaves_out_what_does_not_bend():
    steps, hessian = normal(2, 5, 6, seed=1), normal(6, 6, seed=2)
    changes = steps @ (hessian @ hessian.mT + torch.eye(6))
    shape = 0.5 + normal(2, 3, seed=4).square()
    known = blank(shape, (2,))
    for k in range(5):
        step, change = steps[:, k].clone(), changes[:, k].clone()
        if k == 2:
            change[1] = -change[1]  # in the second entry L curves downwards here
        known = known.after(step.view(2, 2, 3), change.view(2, 2, 3))
    gradient = normal(2, 2, 3, seed=3)
    for entry, used in ((0, [0, 1, 2, 3, 4]), (1, [0, 1, 3, 4])):
        s, y, first = steps[entry][used], changes[entry][used], shape.flatten()
        length = (s[-1] @ y[-1]) / (y[-1] @ (first * y[-1]))
        expected = bfgs(length * first, s, y) @ gradient[entry].flatten()
        close(known.times(gradient)[entry].flatten(), expected, 1e-10)


def test_a_hessian_that_is_known_up_to_its_size_is_known_after_one_step_and_any_other_after_all_dimensions():
    gradient, diagonal = normal(2, 2, seed=2), torch.tensor([[1.0, 2.0], [5.0, 9.0]]).double()
    close(blank(1 / diagonal).times(gradient), gradient / diagonal, 1e-15)
    step = normal(2, 2, seed=5)
    close(blank(1 / diagonal).after(step, 7 * diagonal * step).times(gradient), gradient / (7 * diagonal), 1e-14)
    known = blank(diagonal)
    for step in torch.eye(4).double().view(4, 2, 2):
        known = known.after(step, diagonal * step)
    close(known.times(gradient), gradient / diagonal, 1e-14)


def state(u, s, v):
    m = u * s.unsqueeze(-2) @ v.mT
    return State(u, s, v, m, *(s.new_zeros(s.shape[:-1]) for _ in range(2)), m)


@pytest.mark.parametrize(("d1", "d2", "rank"), [(9, 8, 3), (5, 7, 3), (3, 6, 3), (4, 4, 4), (6, 5, 1)])
def test_the_small_matrix_gives_the_svd_of_the_step_along_the_tangent_space(d1, d2, rank):
    now, step = state(*truncated_svd(normal(2, d1, d2, seed=1), rank)), normal(2, d1, d2, seed=2)
    off = step - now.u @ (now.u.mT @ step)
    tangent = step - off + off @ now.v @ now.v.mT
    t = torch.tensor([0.3, 2.0]).double()
    u, s, v = now.towards(step)(t)
    expected = truncated_svd(now.m + t[:, None, None] * tangent, rank)
    close(s, expected[1], 1e-13)
    close(u * s.unsqueeze(-2) @ v.mT, expected[0] * expected[1].unsqueeze(-2) @ expected[2].mT, 1e-12)


def test_where_m_has_a_smaller_rank_it_may_grow_in_any_direction():
    u, s, v = truncated_svd(normal(2, 6, 5, seed=1), 3)
    now, step = state(u, s * torch.tensor([[1, 1, 1], [1, 1, 0]]), v), normal(2, 6, 5, seed=2)
    u, s, v = now.towards(step)(torch.ones(2).double())
    expected = truncated_svd(now.m + step, 3)
    close(u[1] * s[1] @ v[1].mT, expected[0][1] * expected[1][1] @ expected[2][1].mT, 1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_without_encoders_one_row_of_similarities_stands_for_all(name):
    x, x_tilde = pairs(30, 6, 5, seed=8, batch=(2,))
    x, x_tilde, loss = x + 3, x_tilde - 2, LOSSES[name]() if name == "siglip" else LOSSES[name](nu=1.5)
    zero = torch.zeros(2, 1, 6).double(), torch.zeros(2, 1, 5).double()
    for found, expected in zip(_at_zero(x, x_tilde, loss), evaluate(x, x_tilde, *zero, loss), strict=True):
        close(found, expected, 1e-13)


@pytest.mark.parametrize(
    ("name", "share"),
    [("clip", 0), ("siglip", 0), ("mine", 2), ("soft_triplet", 2), ("n_plus_1_tuplet", 2), ("lifted_structured", 50)],
)
def test_the_first_hessian_is_that_at_zero_of_centred_data_up_to_a_share_of_1_over_n(name, share):
    # of the lifted structured loss it is the size, for its phi is no logarithm
    n, direction, h = 100, normal(5, 4, seed=10), 1e-6
    x, x_tilde = (a - a.mean(0) for a in pairs(n, 5, 4, seed=9))
    loss = LOSSES[name](tau=0.3) if name in ("clip", "soft_triplet") else LOSSES[name]()
    before, after = (evaluate(x, x_tilde, torch.eye(5).double(), e * direction, loss)[1] for e in (-h, h))
    expected = loss._curvature_at_zero(n) * (x.mT @ x / n) @ direction @ (x_tilde.mT @ x_tilde / n)
    assert relative((before - after) / (2 * h), expected) < share / n + 1e-7


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
def test_the_first_step_is_along_the_svd_of_the_contrastive_cross_covariance(rank):
    x, x_tilde = pairs(60, 8, 7, seed=6)
    zero = torch.zeros(rank, 8).double(), torch.zeros(rank, 7).double()
    s = loss_and_covariance(x, x_tilde, *zero, CLIP(50.0))[1]
    first, best = fit(x, x_tilde, rank, CLIP(50.0), rho=2.0, max_steps=1), closed_form(s, rank, rho=2.0)
    end, whole = first.g1.mT @ first.g2, best.g1.mT @ best.g2
    length = (end * whole).sum() / whole.square().sum()
    close(end, length * whole, 1e-12)
    bend = (whole * (x.mT @ x / 60 @ whole @ x_tilde.mT @ x_tilde / 60)).sum() / whole.square().sum() / 50
    assert float(length) == pytest.approx(2.0 / (2.0 + float(bend)), rel=1e-6)


@pytest.mark.parametrize("size", [1e-60, 1e-8, 1e8, 1e60])
def test_the_units_of_the_data_do_not_matter_though_single_precision_could_not_hold_them(size):
    x, x_tilde = pairs(60, 8, 7, seed=6)
    plain, other = fit(x, x_tilde, 3, CLIP(0.1)), fit(x * size, x_tilde / size, 3, CLIP(0.1))
    assert other.steps == plain.steps
    close(other.loss, plain.loss, 1e-13)


@pytest.mark.parametrize("away", [10.0, 1e3, 1e6])
def test_data_that_are_not_centred_take_tens_of_steps_too(away):
    p = spiked(300, 20, 19, 5, seed=1, noise_std=1.0)
    found = fit(p.x + away, p.x_tilde - away, 5, CLIP(0.3))
    assert bool(found.converged)
    assert found.steps < 150


def test_a_fit_that_ends_in_single_precision_reports_the_loss_in_double():
    x, x_tilde = pairs(60, 8, 7, seed=6)
    for steps in (1, 2, 3):
        found = fit(x, x_tilde, 3, CLIP(0.3), max_steps=steps)
        value, _ = loss_and_covariance(x, x_tilde, found.g1, found.g2, CLIP(0.3))
        close(found.loss, value + (found.g1.mT @ found.g2).square().sum() / 2, 1e-14)
        assert float(found.history[-1]) == float(found.loss)


def test_where_nothing_is_shared_encoders_stay_at_zero():
    x, x_tilde = pairs(20, 4, 3, seed=6)
    found = fit(torch.stack([x, 0 * x]), torch.stack([x_tilde, x_tilde]), 2, CLIP(0.3))
    assert found.converged.tolist() == [True, True]
    assert not found.g1[1].any()
    assert float(found.loss[1]) == pytest.approx(0.3 * math.log(20), rel=1e-14)
    close(found.loss[0], fit(x, x_tilde, 2, CLIP(0.3)).loss, 1e-12)


def test_an_entry_that_has_converged_stands_still_while_the_others_go_on():
    x, x_tilde = pairs(80, 8, 7, seed=7)
    easy, hard = torch.stack([x / 30, 3 * x]), torch.stack([x_tilde / 30, 3 * x_tilde])
    both, alone = fit(easy, hard, 2, CLIP(0.05)), fit(x / 30, x_tilde / 30, 2, CLIP(0.05))
    assert alone.steps < both.steps
    assert bool(both.converged.all())
    assert torch.equal(
        both.history[alone.steps :, 0], both.history[alone.steps, 0].expand(both.steps - alone.steps + 1)
    )
