"""Three modalities: Corollary 7.1, and the fit by blocks, each against an independent route."""

from itertools import combinations, permutations

import pytest
import torch
from helpers import close, normal, relative

from mmcl.covariance import cross_covariance
from mmcl.losses import LOSSES
from mmcl.modalities import additive_loss, fit_modalities, loss_and_covariances, modality_gradient
from mmcl.spectral import fit

DIMENSIONS = (7, 6, 5)
MEMBERS = {
    "linear": LOSSES["linear"](nu=1.5, eps=0.5),
    "clip": LOSSES["clip"](tau=0.7, nu=1.5),
    "clip without itself": LOSSES["clip"](tau=0.7, eps=0),
    "soft_triplet": LOSSES["soft_triplet"](tau=0.7, margin=0.4, nu=1.1),
    "modified_triplet": LOSSES["modified_triplet"](eps=2, nu=3),
}


def three_views(n, seed, batch=()):
    z = normal(*batch, n, 3, seed=seed) * torch.linspace(1.5, 0.7, 3)
    return [
        z @ normal(3, d, seed=seed + d) / d**0.5 + 0.4 * normal(*batch, n, d, seed=seed + 10 + d) for d in DIMENSIONS
    ]


def three_encoders(seed, batch=()):
    return [normal(*batch, 2, d, seed=seed + d) for d in DIMENSIONS]


def equation_7_6(views, encoders, loss, rho):
    total = 0.0
    for a, b in combinations(range(3), 2):
        total = total + loss((views[a] @ encoders[a].mT) @ (views[b] @ encoders[b].mT).mT)
        total = total + rho / 2 * (encoders[a].mT @ encoders[b]).square().sum((-2, -1))
    return total


@pytest.mark.parametrize("batch", [(), (2, 2)], ids=str)
@pytest.mark.parametrize("name", MEMBERS)
def test_the_gradient_for_a_modality_is_that_of_the_sum_of_its_svd_objectives(name, batch):
    loss, rho = MEMBERS[name], 0.7
    views, encoders = three_views(20, 1, batch), [g.requires_grad_() for g in three_encoders(2, batch)]
    total = equation_7_6(views, encoders, loss, rho)
    expected = torch.autograd.grad(total.sum(), encoders)
    encoders = [g.detach() for g in encoders]
    close(additive_loss(views, encoders, loss, rho), total.detach(), 1e-12)
    for mu in range(3):
        assert relative(modality_gradient(views, encoders, mu, loss, rho), expected[mu]) < 1e-12


def test_the_printed_minus_one_in_beta_gives_another_gradient():
    # for CLIP sum_j (alpha_ij + abar_ij)/2 = 1, so print has beta_i = nu - 1 where autograd has nu - (P_ii + Q_ii)/2
    loss, views, encoders = MEMBERS["clip"], three_views(20, 1), three_encoders(2)
    printed = torch.zeros_like(encoders[0])
    for other in (1, 2):
        weights = loss.weights((views[0] @ encoders[0].mT) @ (views[other] @ encoders[other].mT).mT)
        weights = weights.diagonal_scatter(torch.full((20,), loss.nu - 1, dtype=weights.dtype))
        printed = printed - encoders[other] @ cross_covariance(views[0], views[other], weights).mT
    assert relative(printed, modality_gradient(views, encoders, 0, loss, rho=0.0)) > 1e-3


@pytest.mark.parametrize("name", MEMBERS)
def test_covariances_of_a_pair_in_both_orders_are_transposes(name):
    views, encoders = three_views(20, 1), three_encoders(2)
    value, s = loss_and_covariances(views, encoders, MEMBERS[name])
    assert set(s) == set(permutations(range(3), 2))
    reversed_value, r = loss_and_covariances(views[::-1], encoders[::-1], MEMBERS[name])
    close(reversed_value, value, 1e-13)
    for a, b in s:
        close(r[2 - b, 2 - a], s[b, a], 1e-12)
        close(s[b, a], s[a, b].mT, 1e-15)


@pytest.mark.parametrize("name", ["linear", "clip"])
def test_the_fit_never_raises_the_loss_and_ends_where_autograd_finds_no_slope(name):
    views, rho = three_views(15, 3), 0.7
    found = fit_modalities(views, 2, MEMBERS[name], rho, tol=1e-6)
    assert bool(found.converged)
    assert len(found.history) == found.steps + 1
    assert float(found.history.diff().max()) < 1e-13 * float(found.history.abs().max())
    encoders = [g.clone().requires_grad_() for g in found.encoders]
    value = equation_7_6(views, encoders, MEMBERS[name], rho)
    close(value.detach(), found.loss, 1e-12)
    for slope, g in zip(torch.autograd.grad(value, encoders), found.encoders, strict=True):
        assert float(slope.norm() / (rho * g.norm() ** 3)) < 1e-5


def test_a_step_for_the_linear_loss_is_the_least_squares_solution_for_one_encoder():
    views, rho = three_views(30, 3), 0.7
    found = fit_modalities(views, 2, "linear", rho, max_steps=1000, tol=1e-9)
    g = found.encoders
    s = {mu: cross_covariance(views[0], views[mu]) for mu in (1, 2)}
    # sum_mu' ||rho^(1/2) G_0^T G_mu' - S_0mu' / rho^(1/2)||^2 is quadratic in G_0: numpy's route by stacking
    design = torch.cat([g[1], g[2]], 1).mT * rho**0.5
    target = torch.cat([s[1], s[2]], 1).mT / rho**0.5
    close(g[0], torch.linalg.lstsq(design, target).solution, 1e-6)


@pytest.mark.parametrize("loss", ["linear", LOSSES["linear"](nu=2.0), LOSSES["clip"](tau=0.7, nu=1.5)], ids=str)
def test_two_views_give_the_known_fit(loss):
    views = three_views(20, 4)[:2]
    found, known = fit_modalities(views, 2, loss, 0.7, tol=1e-6), fit(*views, 2, loss, 0.7)
    close(found.loss, known.loss, 1e-10)
    close(found.encoders[0].mT @ found.encoders[1], known.g1.mT @ known.g2, 1e-5)


def test_entries_of_a_batch_do_not_see_each_other_and_one_without_signal_stands_still():
    views = three_views(12, 5, batch=(2,))
    for x in views:
        x[1] = 0
    many = fit_modalities(views, 2, "clip", tol=1e-4)
    one = fit_modalities([x[0] for x in views], 2, "clip", tol=1e-4)
    assert many.converged.tolist() == [True, True]
    close(many.loss[0], one.loss, 1e-8)
    for a, b in combinations(range(3), 2):
        close(many.encoders[a][0].mT @ many.encoders[b][0], one.encoders[a].mT @ one.encoders[b], 1e-3)
    assert all(float(g[1].abs().max()) == 0 for g in many.encoders)


def test_the_order_of_the_views_and_of_the_rows_does_not_matter():
    views, order = three_views(30, 6), torch.randperm(30, generator=torch.Generator().manual_seed(7))
    found = fit_modalities(views, 2, tol=1e-7)
    again = fit_modalities([x[order] for x in views[::-1]], 2, tol=1e-7)
    close(again.loss, found.loss, 1e-9)
    close(again.encoders[2].mT @ again.encoders[1], found.encoders[0].mT @ found.encoders[1], 1e-3)


def test_inputs_are_not_mutated_and_numpy_is_accepted():
    views = three_views(12, 8)
    before = [x.clone() for x in views]
    found = fit_modalities(views, 2, "clip", max_steps=3)
    assert all(torch.equal(a, b) for a, b in zip(views, before, strict=True))
    again = fit_modalities([x.numpy() for x in views], 2, "clip", max_steps=3)
    assert all(torch.equal(a, b) for a, b in zip(again.encoders, found.encoders, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"views": three_views(12, 9)[:1]}, r"1 view\(s\); a contrastive loss compares modalities"),
        ({"views": [normal(6, 4), normal(5, 4)]}, "x has 6 rows and x_tilde 5"),
        ({"rank": 6}, r"rank = 6; .* min\(7, 6, 5\) = 5"),
        ({"rho": 0}, "rho = 0"),
        ({"tol": -1}, "tol = -1"),
        ({"max_steps": 0}, "max_steps = 0"),
        ({"loss": "clap"}, "loss = 'clap'"),
    ],
    ids=range(7),
)
def test_the_fit_refuses_bad_input_and_says_the_wrong_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_modalities(**({"views": three_views(12, 9), "rank": 2} | arguments))


def test_encoders_that_do_not_fit_the_views_are_refused():
    views, encoders = three_views(12, 9), three_encoders(2)
    with pytest.raises(ValueError, match="2 encoders for 3 views"):
        additive_loss(views, encoders[:2])
    with pytest.raises(ValueError, match=r"rows with 6 entries is"):
        additive_loss(views, [encoders[0], encoders[2], encoders[1]])
