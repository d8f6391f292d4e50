"""Cross-covariances, the one SVD helper, and the fits, each against an independent route."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cross_decomposition import PLSSVD

from mmcl.covariance import balanced_factors, cross_covariance, loss_and_covariance, truncated_svd, whitening
from mmcl.losses import LOSSES
from mmcl.metrics import sin_theta
from mmcl.spectral import fit


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairs(n, d1, d2, seed, batch=(), shared=3):
    """Two views of ``shared`` common coordinates of unequal strength, and noise."""
    z = normal(*batch, n, shared, seed=seed) * torch.linspace(1.5, 0.7, shared)
    x = z @ normal(shared, d1, seed=seed + 1) / d1**0.5 + 0.4 * normal(*batch, n, d1, seed=seed + 2)
    return x, z @ normal(shared, d2, seed=seed + 3) / d2**0.5 + 0.4 * normal(*batch, n, d2, seed=seed + 4)


def relative(a, b):
    b = torch.as_tensor(b)
    return float((torch.as_tensor(a) - b).norm() / b.norm())


def numpy_cov(x, x_tilde):
    d1 = x.shape[-1]
    return np.cov(np.asarray(x).T, np.asarray(x_tilde).T)[:d1, d1:]


# ------------------------------------------------------------------ cross-covariances


@pytest.mark.parametrize(("n", "d1", "d2"), [(2, 3, 2), (50, 6, 4), (5, 20, 30), (9000, 300, 40)])
def test_linear_covariance_is_numpys(n, d1, d2):
    x, x_tilde = normal(n, d1, seed=1), normal(n, d2, seed=2)
    assert relative(cross_covariance(x, x_tilde), numpy_cov(x, x_tilde)) < 1e-12


@pytest.mark.parametrize(("mean", "tolerance"), [(1e3, 1e-11), (1e6, 1e-8)])
@pytest.mark.parametrize("n", [300, 20_000])
def test_linear_covariance_is_numpys_when_the_means_are_far_from_zero(mean, tolerance, n):
    x, x_tilde = pairs(n, 6, 5, seed=3)
    for a, b in ((mean, mean), (mean, -mean), (mean, 0), (0, mean)):
        assert relative(cross_covariance(x + a, x_tilde + b), numpy_cov(x + a, x_tilde + b)) < tolerance


def test_linear_covariance_is_that_of_the_linear_losses_weights():
    x, x_tilde = normal(2, 7, 5, seed=4), normal(2, 7, 9, seed=5)
    weights = LOSSES["linear"]().weights(normal(2, 7, 7, seed=6))
    assert relative(cross_covariance(x, x_tilde, weights), cross_covariance(x, x_tilde)) < 1e-13


def test_weighted_covariance_is_the_double_sum_over_rows():
    x, x_tilde, weights = normal(3, 6, 4, seed=7), normal(3, 6, 5, seed=8), normal(3, 6, 6, seed=9)
    expected = sum(
        weights[:, i, j, None, None] * x[:, i, :, None] * x_tilde[:, j, None, :] for i in range(6) for j in range(6)
    )
    assert relative(cross_covariance(x, x_tilde, weights), expected / 6) < 1e-14
    assert (
        relative(cross_covariance(x, x_tilde, weights[0].numpy()), cross_covariance(x, x_tilde, weights[[0] * 3])) == 0
    )


def test_covariance_takes_numpy_integers_and_the_wider_dtype():
    a, b = np.arange(12).reshape(4, 3), np.arange(8).reshape(4, 2) ** 2
    assert relative(cross_covariance(a, b), numpy_cov(a, b)) < 1e-14
    assert cross_covariance(torch.ones(3, 2), torch.ones(3, 2)).dtype == torch.float32
    assert cross_covariance(torch.ones(3, 2), torch.ones(3, 2).double()).dtype == torch.float64


def test_whitened_views_have_unit_covariance_and_give_the_canonical_correlations():
    x, x_tilde = pairs(200, 5, 4, seed=10)
    a, b = whitening(x), whitening(x_tilde)
    torch.testing.assert_close(cross_covariance(x @ a, x @ a), torch.eye(5, dtype=x.dtype), rtol=0, atol=1e-12)
    q1, q2 = (torch.linalg.qr(m - m.mean(0))[0] for m in (x, x_tilde))
    correlations = torch.linalg.svdvals(q1.mT @ q2)
    measured = truncated_svd(cross_covariance(x @ a, x_tilde @ b), 4)[1]
    torch.testing.assert_close(measured, correlations, rtol=0, atol=1e-12)


def test_whitening_with_a_ridge_is_the_inverse_root_and_without_one_refuses_a_singular_covariance():
    x = normal(2, 4, 6, seed=11)
    w = whitening(x, ridge=0.3)
    regular = torch.stack([torch.as_tensor(np.cov(m.numpy().T)) for m in x]) + 0.3 * torch.eye(6, dtype=x.dtype)
    assert relative(w @ regular @ w, torch.eye(6, dtype=x.dtype).expand(2, 6, 6)) < 1e-12
    for ridge in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"ridge = {ridge}; use a larger"):
            whitening(x, ridge)


# ------------------------------------------------------------------ singular value decomposition


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (2, 3, 7, 4)], ids=str)
def test_truncated_svd_is_numpys_best_approximation(shape):
    a = normal(*shape, seed=12)
    u, s, v = truncated_svd(a, 3)
    full_u, full_s, full_v = np.linalg.svd(a.numpy(), full_matrices=False)
    best = (full_u[..., :3] * full_s[..., None, :3]) @ full_v[..., :3, :]
    assert relative((u * s.unsqueeze(-2)) @ v.mT, best) < 1e-13
    assert bool((s.diff(dim=-1) <= 0).all())
    for q in (u, v):
        torch.testing.assert_close(q.mT @ q, torch.eye(3, dtype=a.dtype).expand(*shape[:-2], 3, 3), rtol=0, atol=1e-13)


def test_largest_entry_of_each_left_vector_is_positive_so_that_signs_do_not_depend_on_the_route():
    a = normal(4, 6, 5, seed=13)
    u, s, v = truncated_svd(a, 5)
    largest = u.gather(-2, u.abs().argmax(-2, keepdim=True))
    assert bool((largest > 0).all())
    other = truncated_svd(a * 7, 5)
    torch.testing.assert_close(other[0], u, rtol=0, atol=1e-12)
    torch.testing.assert_close(other[2], v, rtol=0, atol=1e-12)
    negative = truncated_svd(-a, 5)
    torch.testing.assert_close(negative[0], u, rtol=0, atol=1e-12)
    torch.testing.assert_close(negative[2], -v, rtol=0, atol=1e-12)


def test_singular_values_below_rounding_are_zero():
    a = normal(8, 2, seed=14) @ normal(2, 7, seed=15)
    assert (truncated_svd(a, 5)[1] > 0).tolist() == [True, True, False, False, False]
    assert torch.equal(truncated_svd(torch.zeros(4, 3, dtype=a.dtype), 3)[1], torch.zeros(3, dtype=a.dtype))
    u, v = torch.linalg.qr(normal(6, 6, seed=16))[0], torch.linalg.qr(normal(6, 6, seed=17))[0]
    kept = truncated_svd((u * torch.tensor([1, 1e-3, 1e-6, 1e-9, 1e-12, 1e-17])) @ v.mT, 6)[1]
    assert (kept > 0).tolist() == [True] * 5 + [False]


def test_repeated_singular_values_leave_the_approximation_and_orthonormality_intact():
    u, v = torch.linalg.qr(normal(7, 4, seed=18))[0], torch.linalg.qr(normal(6, 4, seed=19))[0]
    values = torch.tensor([2.0, 2.0, 2.0, 0.5], dtype=u.dtype)
    a = (u * values) @ v.mT
    found = truncated_svd(a, 3)
    torch.testing.assert_close(found[1], values[:3], rtol=0, atol=1e-14)
    assert relative((found[0] * found[1]) @ found[2].mT, 2 * u[:, :3] @ v[:, :3].mT) < 1e-13
    assert float(sin_theta(found[0], u[:, :3])) < 1e-13


def test_balanced_factors_multiply_to_m_and_have_equal_diagonal_gram_matrices():
    u, s, v = truncated_svd(normal(2, 7, 5, seed=20), 3)
    g1, g2 = balanced_factors(u, s, v)
    assert relative(g1.mT @ g2, (u * s.unsqueeze(-2)) @ v.mT) < 1e-14
    for g in (g1, g2):
        torch.testing.assert_close(g @ g.mT, s.diag_embed(), rtol=0, atol=1e-13)


# ------------------------------------------------------------------ fits

GRID = [(tau, rho) for tau in (0.5, 1.0, 2.0) for rho in (0.1, 0.5, 1.0)]


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
    x, x_tilde = pairs(60, 9, 8, seed=21)
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
    found = fit(x, x_tilde, 3, loss, rho=0.5, max_steps=1000)
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
    x, x_tilde = pairs(25, 6, 5, seed=27, batch=(2, 2))
    x = x * torch.tensor([1, 0.5, 2, 0.1], dtype=x.dtype).view(2, 2, 1, 1)
    loss = LOSSES["siglip"](scale=1, bias=-3) if name == "siglip" else name
    many = fit(x, x_tilde, 2, loss, rho=0.5, max_steps=400)
    assert many.g1.shape == (2, 2, 2, 6)
    assert many.g2.shape == (2, 2, 2, 5)
    assert many.history.shape == (many.steps + 1, 2, 2)
    for i in np.ndindex(2, 2):
        one = fit(x[i], x_tilde[i], 2, loss, rho=0.5, max_steps=400)
        assert bool(one.converged) == bool(many.converged[i])
        # a kink amplifies rounding: only the value is the same there
        tolerance = 1e-2 if name == "triplet" else 1e-5
        assert abs(float(many.loss[i] / one.loss) - 1) < (1e-5 if name == "triplet" else 1e-11)
        assert relative(many.g1[i].mT @ many.g2[i], one.g1.mT @ one.g2) < tolerance


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
    x, x_tilde = pairs(50, 7, 6, seed=30)
    one = fit(x, x_tilde, 2, LOSSES["clip"](tau=1.0), rho=0.4, tol=1e-10)
    for tau in (0.25, 0.5, 2.0, 8.0):
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
        assert int((torch.linalg.svdvals(found.g1) > 1e-7).sum()) == 2, name


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
    x, x_tilde = pairs(40, 6, 5, seed=42)
    short = fit(x, x_tilde, 2, "clip", rho=0.1, max_steps=2)
    assert (short.steps, bool(short.converged)) == (2, False)
    assert bool(fit(x, x_tilde, 2, "clip", rho=0.1).converged)
    loose = fit(x, x_tilde, 2, "clip", rho=0.1, tol=1e-2)
    assert loose.steps < fit(x, x_tilde, 2, "clip", rho=0.1).steps


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


@pytest.mark.parametrize("shape", [(5, 6), (6, 5), (6,), (2, 5, 5)], ids=str)
def test_weights_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="n = 6 pairs"):
        cross_covariance(GOOD["x"], GOOD["x_tilde"], torch.zeros(shape))


@pytest.mark.parametrize("rank", [0, 4, 2.5])
def test_truncated_svd_refuses_a_rank_out_of_range(rank):
    with pytest.raises(ValueError, match=f"rank = {rank}"):
        truncated_svd(normal(5, 3, seed=47), rank)


def test_truncated_svd_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="a holds 2 NaN"):
        truncated_svd(HOLED, 2)
