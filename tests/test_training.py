"""Training step by step: where it goes, how fast it may go, and that it agrees with the closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import close, normal, pairs, relative

from mmcl.covariance import loss_and_covariance
from mmcl.losses import LOSSES
from mmcl.metrics import sin_theta
from mmcl.spectral import curvature, fit, projected_step, svd_objective
from mmcl.training import adamw, gradient_descent, gradient_step, lbfgs, random_encoders


def clip_value(x, x_tilde, g1, g2, tau, rho):
    """CLIP with its penalty through cross-entropy."""
    logits, own = (x @ g1.mT) @ (x_tilde @ g2.mT).mT / tau, torch.arange(len(x))
    entropy = F.cross_entropy(logits, own) + F.cross_entropy(logits.mT, own)
    return tau * entropy / 2 + rho / 2 * (g1.mT @ g2).square().sum()


# ------------------------------------------------------------------ gradient descent


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_gradient_descent_is_sgd_on_the_cross_entropy(tau):
    x, x_tilde = pairs(20, 6, 5, seed=1)
    path = gradient_descent(x, x_tilde, 2, LOSSES["clip"](tau=tau), rho=0.3, lr=0.2, steps=15, seed=4)
    g1, g2 = path.g1[0].clone().requires_grad_(), path.g2[0].clone().requires_grad_()
    optimizer = torch.optim.SGD([g1, g2], lr=0.2)
    for t in range(16):
        value = clip_value(x, x_tilde, g1, g2, tau, 0.3)
        assert abs(float(path.loss[t]) - value.item()) < 1e-12
        assert relative(path.g1[t], g1.detach()) < 1e-12
        assert relative(path.g2[t], g2.detach()) < 1e-12
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert path.step.tolist() == list(range(16))


@pytest.mark.parametrize("name", ["linear", "clip", "modified_triplet"])
def test_a_step_on_the_loss_is_a_gradient_step_on_the_svd_objective_of_its_covariance(name):
    x, x_tilde = pairs(20, 6, 5, seed=2)
    path = gradient_descent(x, x_tilde, 2, name, rho=0.5, lr=0.1, steps=1)
    _, covariance = loss_and_covariance(x, x_tilde, path.g1[0], path.g2[0], name)
    factors = [g.clone().requires_grad_() for g in (path.g1[0], path.g2[0])]
    ascent = torch.autograd.grad(svd_objective(*factors, covariance, 0.5), factors)
    assert relative(path.g1[1], path.g1[0] + 0.1 * ascent[0]) < 1e-13
    assert relative(path.g2[1], path.g2[0] + 0.1 * ascent[1]) < 1e-13


@pytest.mark.parametrize("lr", [0.1, 1e-2, 1e-3])
def test_a_step_moves_m_by_a_first_order_law_and_a_remainder_of_second_order_known_exactly(lr):
    g1, g2, covariance, rho = normal(3, 2, 6, seed=21), normal(3, 2, 5, seed=22), normal(3, 6, 5, seed=23), 0.7
    m = g1.mT @ g2
    d = covariance - rho * m
    after = gradient_step(g1, g2, covariance, rho, lr)
    law = lr * (d @ g2.mT @ g2 + g1.mT @ g1 @ d) + lr**2 * d @ m.mT @ d
    close(after[0].mT @ after[1] - m, law, 1e-12 / lr)


def test_the_svd_objective_rises_at_the_rate_of_the_squared_gradient():
    g1, g2, covariance, rho = normal(3, 2, 6, seed=24), normal(3, 2, 5, seed=25), normal(3, 6, 5, seed=26), 0.7
    d = covariance - rho * g1.mT @ g2
    rate = (g2 @ d.mT).square().sum((-2, -1)) + (g1 @ d).square().sum((-2, -1))

    def objective(lr):
        return svd_objective(*gradient_step(g1, g2, covariance, rho, lr), covariance, rho)

    close((objective(1e-5) - objective(-1e-5)) / 2e-5, rate, 1e-7)


@pytest.mark.parametrize("name", ["linear", "clip", "soft_triplet"])
def test_gradient_descent_reaches_the_value_and_subspace_of_the_fit(name):
    x, x_tilde = pairs(30, 6, 5, seed=3)
    found = fit(x, x_tilde, 2, name)
    path = gradient_descent(x, x_tilde, 2, name, lr=0.3 if name != "soft_triplet" else 0.15, steps=500, seed=1)
    assert abs(float(path.loss[-1] - found.loss)) < 1e-6 * abs(float(found.loss))
    assert float(sin_theta(path.g1[-1].mT, found.g1.mT)) < 1e-3
    assert bool((path.loss.diff() < 1e-12).all())


def test_batched_gradient_descent_does_what_each_entry_does_from_the_same_start():
    x, x_tilde = pairs(15, 6, 5, seed=4, batch=(3,))
    path = gradient_descent(x, x_tilde, 2, "clip", steps=10, lr=0.1)
    assert path.g1.shape == (11, 3, 2, 6)
    assert path.loss.shape == (11, 3)
    changed = x.clone()
    changed[1] *= 3
    other = gradient_descent(changed, x_tilde, 2, "clip", steps=10, lr=0.1)
    for i in (0, 2):
        assert relative(other.g1[:, i], path.g1[:, i]) < 1e-13
    assert relative(other.g1[:, 1], path.g1[:, 1]) > 1e-3


def test_a_diverging_run_says_which_learning_rate_was_too_long():
    x, x_tilde = pairs(20, 6, 5, seed=5)
    with pytest.raises(ValueError, match=r"diverged at step \d+: lr = 50 is too long; try 5"):
        gradient_descent(x, x_tilde, 2, "linear", lr=50, steps=200)


# ------------------------------------------------------------------ steps in M


@pytest.mark.parametrize("rho", [0.5, 2.0])
@pytest.mark.parametrize("name", LOSSES)
def test_the_full_step_is_the_svd_of_the_contrastive_covariance_over_rho(name, rho):
    x, x_tilde = pairs(20, 6, 5, seed=6)
    g1, g2 = random_encoders(x, x_tilde, 2, seed=7)
    weights = LOSSES[name]().weights((x @ g1.mT) @ (x_tilde @ g2.mT).mT)
    u, s, vh = np.linalg.svd((x.mT @ weights @ x_tilde / 20).numpy())
    after = projected_step(x, x_tilde, g1, g2, name, rho, 1 / rho)
    assert relative(after[0].mT @ after[1], (u[:, :2] * s[:2]) @ vh[:2] / rho) < 1e-10


@pytest.mark.parametrize("eta", [0.1, 0.7])
def test_a_projected_step_is_the_best_rank_r_approximation_of_a_gradient_step_in_m(eta):
    x, x_tilde = pairs(20, 6, 5, seed=8)
    g1, g2 = random_encoders(x, x_tilde, 2, seed=9)
    m = (g1.mT @ g2).requires_grad_()
    value = LOSSES["clip"]()(x @ m @ x_tilde.mT) + 0.3 / 2 * m.square().sum()
    (gradient,) = torch.autograd.grad(value, m)
    u, s, vh = np.linalg.svd((m - eta * gradient).detach().numpy())
    after = projected_step(x, x_tilde, g1, g2, "clip", 0.3, eta)
    assert relative(after[0].mT @ after[1], (u[:, :2] * s[:2]) @ vh[:2]) < 1e-12
    torch.testing.assert_close(after[0] @ after[0].mT, after[1] @ after[1].mT, rtol=0, atol=1e-13)


def test_curvature_is_the_largest_eigenvalue_of_the_projected_hessian():
    x, x_tilde = pairs(20, 4, 3, seed=10)
    loss = LOSSES["clip"](tau=0.7)
    found = fit(x, x_tilde, 2, loss, rho=0.5)
    m = found.g1.mT @ found.g2
    hessian = torch.autograd.functional.hessian(lambda a: loss(x @ a @ x_tilde.mT), m).view(12, 12)
    u, v = torch.linalg.svd(m)[0][:, :2], torch.linalg.svd(m)[2].mT[:, :2]
    off1 = torch.eye(4, dtype=m.dtype) - u @ u.mT
    off2 = torch.eye(3, dtype=m.dtype) - v @ v.mT
    project = torch.eye(12, dtype=m.dtype) - torch.kron(off1, off2)
    expected = float(torch.linalg.eigvalsh(project @ hessian @ project)[-1])
    assert abs(curvature(x, x_tilde, found.g1, found.g2, loss, steps=300) / expected - 1) < 1e-4


@pytest.mark.parametrize(("tau", "rho"), [(0.5, 0.1), (0.5, 0.3)])
def test_the_projected_iteration_converges_exactly_where_eta_times_rho_plus_curvature_is_below_two(tau, rho):
    x, x_tilde = pairs(20, 6, 5, seed=11)
    loss = LOSSES["clip"](tau=tau)
    found = fit(x, x_tilde, 3, loss, rho, tol=1e-10, max_steps=3000)
    assert bool(found.converged)
    m = found.g1.mT @ found.g2
    limit = 2 / (rho + curvature(x, x_tilde, found.g1, found.g2, loss, steps=60))
    distance = {}
    for share in (0.9, 1.1):
        g1 = found.g1 + 1e-5 * found.g1.norm() * normal(*found.g1.shape, seed=12)
        g2, start = found.g2, relative(g1.mT @ found.g2, m)
        for _ in range(150):
            g1, g2 = projected_step(x, x_tilde, g1, g2, loss, rho, share * limit)
        distance[share] = relative(g1.mT @ g2, m) / start
    assert distance[0.9] < 0.3
    assert distance[1.1] > 10


# ------------------------------------------------------------------ AdamW and L-BFGS


@pytest.mark.parametrize("normalize", [True, False])
def test_full_batch_adamw_is_torchs_optimizer_on_the_cross_entropy(normalize):
    x, x_tilde = pairs(20, 6, 5, seed=13)
    arguments = {"rho": 0.2, "lr": 0.01, "epochs": 8, "batch_size": 20, "normalize": normalize, "seed": 5}
    path = adamw(x, x_tilde, 2, LOSSES["clip"](tau=0.5), **arguments)
    g1, g2 = path.g1[0].clone().requires_grad_(), path.g2[0].clone().requires_grad_()
    optimizer, own = torch.optim.AdamW([g1, g2], lr=0.01), torch.arange(20)
    for t in range(9):
        z, z_tilde = x @ g1.mT, x_tilde @ g2.mT
        if normalize:
            z, z_tilde = z / z.norm(dim=1, keepdim=True), z_tilde / z_tilde.norm(dim=1, keepdim=True)
        logits = z @ z_tilde.mT / 0.5
        entropy = F.cross_entropy(logits, own) + F.cross_entropy(logits.mT, own)
        value = 0.25 * entropy + 0.1 * (g1.mT @ g2).square().sum()
        assert abs(float(path.loss[t]) - value.item()) < 1e-10
        assert relative(path.g1[t], g1.detach()) < 1e-9
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert path.step.tolist() == list(range(9))


def test_adamw_visits_every_pair_once_an_epoch_and_skips_a_last_batch_of_one():
    x, x_tilde = pairs(21, 6, 5, seed=14)
    seen = []

    class Recorded(LOSSES["clip"]):
        def __call__(self, s):
            seen.append(len(s))
            return super().__call__(s)

    path = adamw(x, x_tilde, 2, Recorded(), epochs=3, batch_size=5)
    assert seen == [21] + 3 * [5, 5, 5, 5, 21]
    assert path.step.tolist() == [0, 4, 8, 12]


def test_adamw_entries_of_a_batch_do_not_see_each_other_and_seeds_reproduce():
    x, x_tilde = pairs(21, 6, 5, seed=15, batch=(3,))
    arguments = {"epochs": 3, "batch_size": 5, "rho": 0.1}
    path = adamw(x, x_tilde, 2, **arguments, seed=1)
    again = adamw(x, x_tilde, 2, **arguments, seed=1)
    assert torch.equal(path.g1, again.g1)
    assert torch.equal(path.loss, again.loss)
    assert relative(adamw(x, x_tilde, 2, **arguments, seed=2).g1, path.g1) > 0.1
    x = x.clone()
    x[1] = x[1] * 3 + 1
    other = adamw(x, x_tilde, 2, **arguments, seed=1)
    for i in (0, 2):
        assert relative(other.g1[:, i], path.g1[:, i]) < 1e-12
        assert relative(other.loss[:, i], path.loss[:, i]) < 1e-12
    assert relative(other.g1[:, 1], path.g1[:, 1]) > 1e-3


def test_lbfgs_reaches_the_value_of_the_fit_and_unbalanced_factors_of_the_same_m():
    x, x_tilde = pairs(40, 6, 5, seed=16)
    found = fit(x, x_tilde, 2, "clip", rho=0.5)
    path = lbfgs(x, x_tilde, 2, "clip", rho=0.5, seed=3)
    assert abs(float(path.loss[-1] / found.loss) - 1) < 1e-9
    assert relative(path.g1[-1].mT @ path.g2[-1], found.g1.mT @ found.g2) < 1e-4
    assert abs(clip_value(x, x_tilde, path.g1[-1], path.g2[-1], 1.0, 0.5).item() - float(path.loss[-1])) < 1e-12
    assert bool((path.loss.diff() <= 0).all())
    assert path.step.tolist() == list(range(len(path.loss)))


# ------------------------------------------------------------------ common to all


def test_random_encoders_are_those_of_a_linear_layer():
    x, x_tilde = torch.zeros(4, 2, 400, dtype=torch.float64), torch.zeros(4, 2, 100, dtype=torch.float64)
    for g, d in zip(random_encoders(x, x_tilde, 50, seed=1, scale=3.0), (400, 100), strict=True):
        bound = 3 / math.sqrt(d)
        assert g.shape == (4, 50, d)
        assert 0.99 * bound < float(g.abs().max()) <= bound
        # the mean of N uniforms has standard deviation bound / sqrt(3 N), their variance is bound^2 / 3
        assert abs(float(g.mean())) < 5 * bound / math.sqrt(3 * g.numel())
        assert abs(float(g.var()) / (bound**2 / 3) - 1) < 5 / math.sqrt(g.numel())
    a, b = (random_encoders(x, x_tilde, 2, seed=s)[0] for s in (1, 2))
    assert torch.equal(a, random_encoders(x, x_tilde, 2, seed=1)[0])
    assert not torch.equal(a, b)


RUNS = {
    "gradient_descent": lambda x, y, **k: gradient_descent(x, y, **({"rank": 2, "steps": 3} | k)),
    "adamw": lambda x, y, **k: adamw(x, y, **({"rank": 2, "epochs": 2, "batch_size": 5} | k)),
    "lbfgs": lambda x, y, **k: lbfgs(x, y, **({"rank": 2, "max_steps": 3} | k)),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_leave_inputs_and_the_global_random_state_alone(name):
    x, x_tilde = pairs(12, 4, 3, seed=17)
    before, state = (x.clone(), x_tilde.clone()), torch.get_rng_state()
    path = RUNS[name](x, x_tilde)
    assert torch.equal(x, before[0])
    assert torch.equal(x_tilde, before[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert not path.g1.requires_grad
    assert not path.loss.requires_grad
    assert not torch.equal(path.g1[0], path.g1[-1])
    assert torch.equal(RUNS[name](x.numpy(), x_tilde.numpy()).g1, path.g1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 4}, r"rank = 4; .* min\(4, 3\) = 3"),
        ({"rho": -0.1}, "rho = -0.1"),
        ({"loss": "clap"}, "loss = 'clap'"),
        ({"x": torch.full((12, 4), torch.nan)}, "x holds 48 NaN"),
        ({"x": torch.ones(11, 4)}, "x has 11 rows and x_tilde 12"),
        ({"x": torch.ones(1, 4), "x_tilde": torch.ones(1, 3)}, "n = 1 pairs"),
    ],
    ids=range(6),
)
@pytest.mark.parametrize("name", RUNS)
def test_runs_refuse_bad_input_and_say_the_wrong_value(name, arguments, message):
    x, x_tilde = pairs(12, 4, 3, seed=18)
    arguments = {"x": x, "x_tilde": x_tilde} | arguments
    with pytest.raises(ValueError, match=message):
        RUNS[name](arguments.pop("x"), arguments.pop("x_tilde"), **arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("gradient_descent", {"lr": 0}, "lr = 0"),
        ("gradient_descent", {"rho": 0}, "rho = 0"),
        ("gradient_descent", {"steps": -1}, "steps = -1"),
        ("adamw", {"lr": -1.0}, "lr = -1.0"),
        ("adamw", {"batch_size": 1}, "batch_size = 1"),
        ("adamw", {"epochs": 0.5}, "epochs = 0.5"),
        ("lbfgs", {"rho": 0}, "rho = 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_value(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        RUNS[name](*pairs(12, 4, 3, seed=19), **arguments)


def test_what_looks_at_one_data_set_refuses_several():
    x, x_tilde = pairs(12, 4, 3, seed=19, batch=(2,))
    with pytest.raises(ValueError, match=r"\(2, 12, 4\); L-BFGS trains on one data set"):
        lbfgs(x, x_tilde, 2)
    with pytest.raises(ValueError, match=r"\(2, 12, 4\); the curvature is taken of one data set"):
        curvature(x, x_tilde, normal(2, 4), normal(2, 3), "clip")


def test_the_value_of_a_path_is_that_of_its_encoders():
    x, x_tilde = pairs(20, 6, 5, seed=20)
    for name in RUNS:
        path = RUNS[name](x, x_tilde, loss="soft_triplet", rho=0.7, **({"normalize": False} if name == "adamw" else {}))
        value, _ = loss_and_covariance(x, x_tilde, path.g1[-1], path.g2[-1], "soft_triplet")
        expected = value + 0.35 * (path.g1[-1].mT @ path.g2[-1]).square().sum()
        assert abs(float(path.loss[-1] - expected)) < 1e-12, name


def test_the_linear_loss_has_no_curvature():
    x, x_tilde = pairs(20, 5, 4, seed=0)
    assert curvature(x, x_tilde, normal(2, 5), normal(2, 4), "linear") == 0
