"""Cross-covariances, whitening and the one SVD helper, each against an independent route."""

import math

import numpy as np
import pytest
import torch
from helpers import normal, pairs, relative, shuffled

from mmcl.covariance import balanced_factors, cross_covariance, linear_covariance, truncated_svd, whitening
from mmcl.losses import LOSSES
from mmcl.metrics import sin_theta


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
    for ridge, way in ((0.0, "use a larger ridge"), (-1.0, "it must be a number of at least 0")):
        with pytest.raises(ValueError, match=f"ridge = {ridge}; {way}"):
            whitening(x, ridge)


def test_one_direction_without_variance_is_enough_to_refuse_whitening_and_a_ridge_mends_it():
    x = normal(50, 4, seed=12)
    x[:, 3] = x[:, 0] - x[:, 1]
    with pytest.raises(ValueError, match="singular with ridge = 0"):
        whitening(x)
    assert bool(whitening(x, ridge=0.1).isfinite().all())


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


@pytest.mark.parametrize(("nu", "eps"), [(1, 0), (1, 2.0), (1.5, 0), (3.0, 0.7)])
def test_the_covariance_of_the_linear_loss_is_that_of_its_weights_at_any_similarities(nu, eps):
    x, x_tilde, loss = normal(2, 7, 5, seed=4) + 1, normal(2, 7, 9, seed=5) - 1, LOSSES["linear"](nu=nu, eps=eps)
    weights = loss.weights(normal(2, 7, 7, seed=6))
    assert relative(linear_covariance(x, x_tilde, loss), cross_covariance(x, x_tilde, weights)) < 1e-13


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize("shape", [(5, 6), (6, 5), (6,), (2, 5, 5)], ids=str)
def test_weights_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="n = 6 pairs"):
        cross_covariance(normal(6, 4, seed=44), normal(6, 3, seed=45), torch.zeros(shape))


@pytest.mark.parametrize("rank", [0, 4, 2.5])
def test_truncated_svd_refuses_a_rank_out_of_range(rank):
    with pytest.raises(ValueError, match=f"rank = {rank}"):
        truncated_svd(normal(5, 3, seed=47), rank)


def test_truncated_svd_refuses_what_is_not_finite():
    holed = normal(6, 4, seed=44)
    holed[2, 1], holed[3, 0] = math.nan, math.inf
    with pytest.raises(ValueError, match="a holds 2 NaN"):
        truncated_svd(holed, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_one_pass_keeps_its_digits_with_far_means_and_in_any_order_of_the_rows(dtype):
    x, x_tilde = (a.to(dtype) for a in pairs(5000, 6, 5, seed=60))
    x[:50] += 30.0  # an outlying group, first, last, or spread
    centred = [a.double() - a.double().mean(0) for a in (x, x_tilde)]
    expected = centred[0].mT @ centred[1] / (len(x) - 1)
    eps = torch.finfo(dtype).eps
    for order in (torch.arange(5000), torch.arange(5000).flip(0), torch.arange(5000).roll(2000), shuffled(5000)):
        assert relative(cross_covariance(x[order], x_tilde[order]).double(), expected) < 100 * eps
    far = [a.double() + 1e6 for a in (x, x_tilde)]
    assert relative(cross_covariance(*far), expected) < 1e6 * 100 * torch.finfo(torch.float64).eps
    batch = torch.stack([torch.stack([x, 2 * x])]), torch.stack([torch.stack([x_tilde, x_tilde])])
    assert relative(cross_covariance(*batch)[0, 1].double(), 2 * expected) < 100 * eps


def test_a_value_that_is_not_finite_is_found_in_the_product_and_named():
    x, x_tilde = pairs(3000, 6, 5, seed=61)
    for bad in (float("nan"), float("inf")):
        spoilt = x.clone()
        spoilt[1234, 3] = bad
        with pytest.raises(ValueError, match="x holds 1 NaN or infinite value"):
            cross_covariance(spoilt, x_tilde)
    with pytest.raises(ValueError, match="products overflow; scale them down"):
        cross_covariance(1e200 * x, 1e200 * x_tilde)
