"""The SVD objective, the fits and Algorithm 4, each against an independent route."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import close, normal, pairs, relative
from sklearn.cross_decomposition import PLSSVD

from mmcl.covariance import cross_covariance, loss_and_covariance, truncated_svd, whitening
from mmcl.losses import LOSSES
from mmcl.metrics import sin_theta
from mmcl.spectral import algorithm_4, closed_form, fit, svd_objective
from mmcl.training import gradient_step


def numpy_cov(x, x_tilde):
    d1 = x.shape[-1]
    return np.cov(np.asarray(x).T, np.asarray(x_tilde).T)[:d1, d1:]


# ------------------------------------------------------------------ the SVD objective and its ascent


@pytest.mark.parametrize("rho", [0.1, 1.0, 10.0])
def test_no_encoders_have_a_larger_svd_objective_than_the_truncated_svd_over_rho(rho):
    a, r = normal(9, 8, seed=50), 4
    values = torch.linalg.svdvals(a)
    found = closed_form(a, r, rho)
    best = values[:r].square().sum() / (2 * rho)
    close(svd_objective(found.g1, found.g2, a, rho), best, 1e-13)
    close(-found.loss, best, 1e-13)
    for i in range(20):
        g1, g2 = normal(r, 9, seed=51 + i), normal(r, 8, seed=80 + i)
        for length in (1e-3, 0.1, 1, 10):
            assert float(svd_objective(found.g1 + length * g1, found.g2 + length * g2, a, rho)) < float(best)
    mixing = normal(r, r, seed=100)  # only M is determined: (B G1, B^-T G2) is another maximiser
    close(svd_objective(mixing @ found.g1, torch.linalg.inv(mixing).mT @ found.g2, a, rho), best, 1e-11)


def test_the_objective_is_the_square_that_is_completed_in_the_proof_of_lemma_2_1():
    a, g1, g2, rho = normal(3, 9, 8, seed=52), normal(3, 4, 9, seed=53), normal(3, 4, 8, seed=54), 0.7
    square = (rho**0.5 * g1.mT @ g2 - a / rho**0.5).square().sum((-2, -1)) - a.square().sum((-2, -1)) / rho
    close(-2 * svd_objective(g1, g2, a, rho), square, 1e-12)
    trace = (g1 @ a @ g2.mT).diagonal(dim1=-2, dim2=-1).sum(-1) - rho / 2 * (g1.mT @ g2).square().sum((-2, -1))
    close(svd_objective(g1, g2, a, rho), trace, 1e-12)


@pytest.mark.parametrize("seed", [55, 56, 57])
def test_the_gradient_flow_with_frozen_weights_reaches_the_truncated_svd_over_rho(seed):
    a, rho, r = normal(7, 6, seed=seed), 0.7, 3
    g1, g2 = 0.05 * normal(r, 7, seed=seed + 10), 0.05 * normal(r, 6, seed=seed + 20)
    lr = 0.2 / float(torch.linalg.matrix_norm(a, 2))
    u, s, v = truncated_svd(a, r)
    values = []
    for _ in range(1500):
        g1, g2 = gradient_step(g1, g2, a, rho, lr)
        values.append(float(svd_objective(g1, g2, a, rho)))
    assert relative(g1.mT @ g2, (u * s) @ v.mT / rho) < 1e-7
    assert float(sin_theta(g1.mT, u)) < 1e-7
    assert float(sin_theta(g2.mT, v)) < 1e-7
    assert np.diff(values).min() > -1e-13 * values[-1]


# ------------------------------------------------------------------ Algorithm 4


def wrong_pairs(n, r, d, share, seed):
    """Two views of one latent in known subspaces, noise 0.3; the last ``share`` of the rows of one shifted by one."""
    z, u1, u2 = normal(n, r, seed=seed), *(torch.linalg.qr(normal(d, r, seed=seed + i))[0] for i in (1, 2))
    partner = torch.arange(n)
    partner[n - int(share * n) :] = partner[n - int(share * n) :].roll(1)
    noise = (0.3 * normal(n, d, seed=seed + i) for i in (3, 4))
    return z @ u1.mT + next(noise), z[partner] @ u2.mT + next(noise), u1, u2, partner


@pytest.mark.parametrize("nu", [1, 2.5])
def test_algorithm_4_is_numpys_svd_of_the_double_sum_with_the_weights_7_3(nu):
    x, x_tilde = pairs(12, 6, 5, seed=60)
    g1, g2, tau = normal(3, 6, seed=61), normal(3, 5, seed=62), 0.8
    s = (x @ g1.mT @ g2 @ x_tilde.mT).numpy() / tau
    p, q = (np.exp(s) / np.exp(s).sum(axis, keepdims=True) for axis in (1, 0))
    total = np.zeros((6, 5))
    for i, j in np.ndindex(12, 12):
        total += ((nu if i == j else 0) - (p[i, j] + q[i, j]) / 2) * np.outer(x[i], x_tilde[j]) / 12
    u, c, vh = np.linalg.svd(total)
    found = algorithm_4(x, x_tilde, g1, g2, 2, tau=tau, nu=nu)
    close(found.g1.mT @ found.g2, (u[:, :2] * c[:2]) @ vh[:2], 1e-12)
    close(found.loss, torch.tensor(-(c[:2] ** 2).sum() / 2), 1e-12)
    batch = algorithm_4(torch.stack([x, 2 * x]), x_tilde.expand(2, 12, 5), g1, g2, 2, tau=tau, nu=nu)
    close(batch.g1[0].mT @ batch.g2[0], found.g1.mT @ found.g2, 1e-12)


@pytest.mark.parametrize(("nu", "coefficient"), [(1, -0.5), (2, 0), (3, 0.5), (4, 1)])
def test_algorithm_4_leaves_the_signal_nu_eta_minus_one(nu, coefficient):
    n, r = 600, 60
    x, x_tilde, u1, u2, partner = wrong_pairs(n, r, r, 0.5, seed=63)
    found = algorithm_4(x, x_tilde, u1.mT, u2.mT, r, tau=(r / np.log(n)) ** 0.5 / 4, nu=nu)
    m = found.g1.mT @ found.g2
    # Lemma 7.2: the softmax is 1 on the true pairs and 0 elsewhere
    assert relative(m, nu * x.mT @ x_tilde / n - x[partner].mT @ x_tilde / n) < 1e-3
    # the coefficient averages n r = 36,000 products, of standard deviation 1.2 nu at most: 4 standard errors
    assert abs(float((u1.mT @ m @ u2).diagonal().mean()) - coefficient) < 4 * 1.2 * nu / (n * r) ** 0.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"nu": 0.5}, "nu = 0.5"),
        ({"tau": 0}, "tau = 0"),
        ({"rank": 4}, "rank = 4"),
        ({"g1": normal(2, 5, seed=1)}, r"g1 has shape \(2, 5\)"),
        ({"g2": normal(3, 3, seed=1)}, "g1 has 2 rows and g2 3"),
    ],
    ids=range(5),
)
def test_algorithm_4_refuses_bad_input_and_says_the_wrong_value(changed, message):
    good = {"x": normal(6, 4, seed=1), "x_tilde": normal(6, 3, seed=2), "g1": normal(2, 4, seed=3)}
    with pytest.raises(ValueError, match=message):
        algorithm_4(**(good | {"g2": normal(2, 3, seed=4), "rank": 2, "tau": 1.0, "nu": 1.0} | changed))


# ------------------------------------------------------------------ fits

GRID = [(0.5, 0.3), (0.5, 1.0), (1.0, 0.5), (2.0, 0.1), (2.0, 1.0)]


def lbfgs(x, x_tilde, rank, tau, rho, seed):
    """CLIP on the factors as others write it: logits, cross-entropy both ways, autograd and torch's L-BFGS."""
    g1 = (0.3 * normal(rank, x.shape[1], seed=seed)).requires_grad_()
    g2 = (0.3 * normal(rank, x_tilde.shape[1], seed=seed + 1)).requires_grad_()
    own = torch.arange(len(x))
    optimizer = torch.optim.LBFGS(
        [g1, g2],
        max_iter=1000,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        logits = (x @ g1.mT) @ (x_tilde @ g2.mT).mT / tau
        entropy = F.cross_entropy(logits, own) + F.cross_entropy(logits.mT, own)
        value = tau * entropy / 2 + rho / 2 * (g1.mT @ g2).square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    return closure().item(), g1.detach(), g2.detach()


@pytest.mark.parametrize(("tau", "rho"), GRID)
def test_clip_fit_is_the_minimum_that_lbfgs_finds_on_the_factors(tau, rho):
    x, x_tilde = pairs(30, 9, 8, seed=21)
    value, g1, g2 = lbfgs(x, x_tilde, 2, tau, rho, seed=22)
    found = fit(x, x_tilde, 2, LOSSES["clip"](tau=tau), rho)
    assert bool(found.converged)
    assert abs(float(found.loss) / value - 1) < 1e-6
    assert float(sin_theta(found.g1.mT, g1.mT)) < 1e-4
    assert float(sin_theta(found.g2.mT, g2.mT)) < 1e-4
    assert relative(found.g1.mT @ found.g2, g1.mT @ g2) < 1e-4


@pytest.mark.parametrize("rho", [0.1, 1.0])
@pytest.mark.parametrize(("n", "d1", "d2", "rank"), [(40, 6, 5, 3), (5, 12, 9, 4), (5, 12, 9, 9)])
def test_linear_fit_is_the_truncated_svd_with_minimum_minus_half_the_squares_over_rho(n, d1, d2, rank, rho):
    x, x_tilde = pairs(n, d1, d2, seed=23)
    u, s, vh = np.linalg.svd(numpy_cov(x, x_tilde))
    found = fit(x, x_tilde, rank, rho=rho)
    assert relative(found.g1.mT @ found.g2, (u[:, :rank] * s[:rank]) @ vh[:rank] / rho) < 1e-12
    assert abs(float(found.loss) / (-(s[:rank] ** 2).sum() / (2 * rho)) - 1) < 1e-12
    value, _ = loss_and_covariance(x, x_tilde, found.g1, found.g2, "linear")
    penalty = rho / 2 * (found.g1.mT @ found.g2).square().sum()
    assert abs(float(value + penalty) / float(found.loss) - 1) < 1e-12
    assert (found.steps, bool(found.converged), found.history.tolist()) == (0, True, [float(found.loss)])


def test_linear_fit_has_the_singular_vectors_of_plssvd():
    x, x_tilde = pairs(80, 7, 6, seed=24)
    x, x_tilde = x + 5, x_tilde - 3
    model = PLSSVD(n_components=3, scale=False).fit(x.numpy(), x_tilde.numpy())
    found = fit(x.numpy(), x_tilde.numpy(), 3)
    for g, weights in ((found.g1, model.x_weights_), (found.g2, model.y_weights_)):
        cosine = F.normalize(g, dim=-1) @ torch.tensor(weights)
        torch.testing.assert_close(cosine.abs(), torch.eye(3, dtype=g.dtype), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_fit_stops_at_a_stationary_point_of_the_factors_or_says_that_it_did_not(name):
    x, x_tilde = pairs(40, 7, 6, seed=25)
    loss = LOSSES["siglip"](scale=1, bias=-3) if name == "siglip" else LOSSES[name]()
    found = fit(x, x_tilde, 3, loss, rho=0.5, max_steps=50 if name == "triplet" else 1000)
    assert bool(found.converged) == (name != "triplet")
    g1, g2 = (g.clone().requires_grad_() for g in (found.g1, found.g2))
    value = loss((x @ g1.mT) @ (x_tilde @ g2.mT).mT) + 0.25 * (g1.mT @ g2).square().sum()
    assert abs(float(value.detach() - found.loss)) < 1e-12 * abs(float(found.loss))
    if name != "triplet":
        _, covariance = loss_and_covariance(x, x_tilde, found.g1, found.g2, loss)
        size = covariance.norm() * found.g1.norm()
        for gradient in torch.autograd.grad(value, (g1, g2)):
            assert float(gradient.norm() / size) < 1e-7
    assert len(found.history) == found.steps + 1
    assert float(found.history[-1]) == float(found.loss)
    rounding = 1e-13 * found.history.abs().max()
    assert bool((found.history.diff() <= rounding).all())


@pytest.mark.parametrize("name", LOSSES)
def test_fit_starts_from_zero_encoders(name):
    x, x_tilde = pairs(20, 5, 4, seed=26)
    found = fit(x, x_tilde, 2, name, max_steps=1)
    if name != "linear":
        assert abs(float(found.history[0] - LOSSES[name]()(torch.zeros(20, 20, dtype=x.dtype)))) < 1e-13


@pytest.mark.parametrize("name", LOSSES)
def test_batched_fit_is_the_fit_of_each_entry(name):
    x, x_tilde = pairs(12, 4, 3, seed=27, batch=(2, 1))
    x = x * torch.tensor([1, 0.3], dtype=x.dtype).view(2, 1, 1, 1)
    loss = LOSSES["siglip"](scale=1, bias=-3) if name == "siglip" else name
    # the triplet loss has kinks and does not converge: a few steps, before its kinks amplify single precision
    arguments = {"rho": 0.5, "tol": 1e-6, "max_steps": 5 if name == "triplet" else 400}
    many = fit(x, x_tilde, 2, loss, **arguments)
    assert many.g1.shape == (2, 1, 2, 4)
    assert many.g2.shape == (2, 1, 2, 3)
    assert many.history.shape == (many.steps + 1, 2, 1)
    for i in np.ndindex(2, 1):
        one = fit(x[i], x_tilde[i], 2, loss, **arguments)
        assert bool(one.converged) == bool(many.converged[i]) == (name != "triplet")
        assert abs(float(many.loss[i] / one.loss) - 1) < (1e-7 if name == "triplet" else 1e-9)
        assert relative(many.g1[i].mT @ many.g2[i], one.g1.mT @ one.g2) < 1e-5


@pytest.mark.parametrize("loss", [LOSSES["linear"](nu=2.0, eps=0.5), LOSSES["clip"](tau=0.5, nu=1.5)], ids=str)
def test_fit_with_nu_above_one_is_stationary_for_the_loss_8_1(loss):
    x, x_tilde = pairs(20, 5, 4, seed=58)
    found = fit(x + 1, x_tilde - 1, 2, loss, rho=0.5)
    g1, g2 = (g.clone().requires_grad_() for g in (found.g1, found.g2))
    value = loss(((x + 1) @ g1.mT) @ ((x_tilde - 1) @ g2.mT).mT) + 0.25 * (g1.mT @ g2).square().sum()
    close(found.loss, value.detach(), 1e-12)
    for gradient in torch.autograd.grad(value, (g1, g2)):
        assert float(gradient.norm() / (0.5 * found.g1.norm() ** 3)) < 1e-7


def test_an_entry_without_any_signal_does_not_disturb_the_others():
    x, x_tilde = pairs(25, 6, 5, seed=28, batch=(2,))
    x[0] = 0
    many, one = fit(x, x_tilde, 2, "clip"), fit(x[1], x_tilde[1], 2, "clip")
    assert many.converged.tolist() == [True, True]
    assert float(many.g1[0].norm()) == 0
    assert relative(many.g1[1].mT @ many.g2[1], one.g1.mT @ one.g2) < 1e-6


@pytest.mark.parametrize("name", ["linear", "clip", "triplet", "siglip"])
def test_fitted_encoders_are_balanced(name):
    x, x_tilde = pairs(30, 6, 5, seed=29)
    found = fit(x, x_tilde, 3, name, max_steps=50)
    gram = found.g1 @ found.g1.mT
    torch.testing.assert_close(gram, found.g2 @ found.g2.mT, rtol=0, atol=1e-12 * float(gram.abs().max()))
    torch.testing.assert_close(gram, gram.diagonal().diag(), rtol=0, atol=1e-12 * float(gram.abs().max()))
    assert bool((gram.diagonal().diff() <= 0).all())


def test_loss_at_tau_is_tau_times_the_loss_at_one_with_rho_tau_and_the_fits_have_equal_subspaces():
    x, x_tilde = pairs(25, 7, 6, seed=30)
    one = fit(x, x_tilde, 2, LOSSES["clip"](tau=1.0), rho=0.4, tol=1e-10)
    for tau in (0.25, 8.0):
        found = fit(x, x_tilde, 2, LOSSES["clip"](tau=tau), rho=0.4 / tau, tol=1e-10)
        assert abs(float(found.loss) / (tau * float(one.loss)) - 1) < 1e-11
        assert relative(found.g1.mT @ found.g2, tau * one.g1.mT @ one.g2) < 1e-7
        assert float(sin_theta(found.g1.mT, one.g1.mT)) < 1e-7


def test_clip_fit_approaches_the_linear_fit_at_rate_one_over_tau():
    x, x_tilde = pairs(50, 7, 6, seed=31)
    x, x_tilde = x - x.mean(0), x_tilde - x_tilde.mean(0)
    linear = fit(x, x_tilde, 2)
    # CLIP keeps the pair in its normaliser: at zero similarity W = I - 11^T/n, and S is (n-1)/n of the linear one
    reference = linear.g1.mT @ linear.g2 * 49 / 50
    error = []
    for tau in (400.0, 800.0, 1600.0):
        found = fit(x, x_tilde, 2, LOSSES["clip"](tau=tau))
        error.append(relative(found.g1.mT @ found.g2, reference))
    assert error[0] < 0.05
    for before, after in zip(error, error[1:], strict=False):
        assert abs(before / after - 2) < 0.05


@pytest.mark.parametrize("name", ["linear", "clip", "modified_triplet"])
def test_rotated_data_give_rotated_encoders(name):
    x, x_tilde = pairs(40, 7, 6, seed=32)
    q, q_tilde = torch.linalg.qr(normal(7, 7, seed=33))[0], torch.linalg.qr(normal(6, 6, seed=34))[0]
    a, b = fit(x, x_tilde, 2, name), fit(x @ q, x_tilde @ q_tilde, 2, name)
    assert abs(float(a.loss / b.loss) - 1) < 1e-11
    assert relative(b.g1.mT @ b.g2, q.mT @ a.g1.mT @ a.g2 @ q_tilde) < 1e-6


@pytest.mark.parametrize("name", ["linear", "clip", "soft_triplet"])
def test_fit_does_not_see_the_order_of_the_pairs_nor_the_means(name):
    x, x_tilde = pairs(40, 6, 5, seed=35)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(36))
    a = fit(x, x_tilde, 2, name)
    b = fit(x[order], x_tilde[order], 2, name)
    assert relative(b.g1.mT @ b.g2, a.g1.mT @ a.g2) < 1e-6
    if name == "linear":
        b = fit(x + 3, x_tilde - 4, 2, name)
        assert relative(b.g1.mT @ b.g2, a.g1.mT @ a.g2) < 1e-12


def test_more_rank_than_signal_gives_encoders_of_numerical_rank_without_nan():
    x = normal(30, 2, seed=37) @ normal(2, 6, seed=38)
    x_tilde = x @ normal(6, 5, seed=39)
    for name in ("linear", "clip"):
        found = fit(x, x_tilde, 4, name)
        assert bool(found.converged), name
        assert int((torch.linalg.svdvals(found.g1.mT @ found.g2) > 1e-8).sum()) == 2, name  # M is known to tol


def test_single_precision_in_gives_single_precision_out():
    x, x_tilde = pairs(40, 6, 5, seed=40)
    for name in ("linear", "clip"):
        found = fit(x.float(), x_tilde.float(), 2, name, tol=1e-4)
        double = fit(x, x_tilde, 2, name)
        assert found.g1.dtype == found.loss.dtype == torch.float32
        assert bool(found.converged)
        assert relative((found.g1.mT @ found.g2).double(), double.g1.mT @ double.g2) < 1e-3


@pytest.mark.parametrize("name", ["linear", "clip", "triplet"])
def test_inputs_are_not_mutated(name):
    x, x_tilde = pairs(20, 6, 5, seed=41)
    before = x.clone(), x_tilde.clone()
    fit(x, x_tilde, 2, name, max_steps=20), cross_covariance(x, x_tilde), truncated_svd(x, 2), whitening(x)
    assert torch.equal(x, before[0])
    assert torch.equal(x_tilde, before[1])


def test_too_few_steps_are_not_called_convergence_and_enough_are():
    x, x_tilde = pairs(20, 6, 5, seed=42)
    short = fit(x, x_tilde, 2, "clip", rho=0.1, max_steps=2)
    assert (short.steps, bool(short.converged)) == (2, False)
    loose, tight = (fit(x, x_tilde, 2, "clip", rho=0.1, tol=tol) for tol in (1e-2, 1e-6))
    assert bool(loose.converged)
    assert bool(tight.converged)
    assert loose.steps < tight.steps


def test_progress_is_silent_unless_asked_for(capsys):
    x, x_tilde = pairs(20, 4, 4, seed=43)
    fit(x, x_tilde, 2, "clip", max_steps=3)
    assert capsys.readouterr() == ("", "")
    fit(x, x_tilde, 2, "clip", max_steps=3, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "CLIP(tau=1" in err


# ------------------------------------------------------------------ bad input

GOOD = {"x": normal(6, 4, seed=44), "x_tilde": normal(6, 3, seed=45), "rank": 2}
HOLED = GOOD["x"].clone()
HOLED[2, 1], HOLED[3, 0] = math.nan, math.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": normal(5, 4, seed=46)}, "x has 5 rows and x_tilde 6"),
        ({"x": normal(1, 4, seed=46), "x_tilde": normal(1, 3, seed=46)}, "n = 1 pairs"),
        ({"x": normal(2, 6, 4, seed=46)}, r"batch dimensions \(2,\) of x and \(\) of x_tilde differ"),
        ({"x": normal(6, seed=46)}, r"x has shape \(6,\)"),
        ({"x": HOLED}, "x holds 2 NaN or infinite value.* of 24"),
        ({"x_tilde": HOLED.numpy()}, "x_tilde holds 2 NaN"),
        ({"rank": 4}, r"rank = 4; it must be an integer from 1 to min\(4, 3\) = 3"),
        ({"rank": 0}, "rank = 0"),
        ({"rank": -1}, "rank = -1"),
        ({"rank": 1.5}, "rank = 1.5"),
        ({"rank": True}, "rank = True"),
        ({"rho": 0.0}, "rho = 0.0; it must be a positive number"),
        ({"rho": -1}, "rho = -1"),
        ({"rho": math.nan}, "rho = nan"),
        ({"rho": math.inf}, "rho = inf"),
        ({"tol": 0}, "tol = 0"),
        ({"max_steps": 0}, "max_steps = 0"),
        ({"max_steps": 2.5}, "max_steps = 2.5"),
        ({"loss": "clap"}, "loss = 'clap'"),
        ({"loss": None}, "loss = None"),
    ],
    ids=lambda v: "" if isinstance(v, str) else "-".join(v),
)
@pytest.mark.parametrize("name", ["linear", "clip"])
def test_fit_refuses_bad_input_and_says_the_wrong_value(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit(**(GOOD | {"loss": name} | arguments))


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_float32_reaches_its_tolerance_and_the_loss_of_float64(tau):
    x, x_tilde = pairs(300, 8, 6, seed=60)
    loss = LOSSES["clip"](tau=tau)
    single, double = fit(x.float(), x_tilde.float(), 3, loss), fit(x, x_tilde, 3, loss)
    assert bool(single.converged)
    assert single.steps <= double.steps + 5
    assert abs(float(single.loss - double.loss)) < 1e-5 * abs(float(double.loss))
    assert relative(single.g1.mT @ single.g2, double.g1.mT @ double.g2) < 1e-3
