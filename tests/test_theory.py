"""First-order errors, the bound of Theorem 3.1, the bias of Lemma 7.1, the factor of Theorem 7.1: and the measured."""

import math

import pytest
import torch
from helpers import normal

from mmcl.covariance import cross_covariance, truncated_svd
from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.notebook.statistics import loglog_slope
from mmcl.spectral import fit
from mmcl.theory import (
    algorithm_4_factor,
    algorithm_4_signal,
    effective_rank,
    epsilon_n,
    masked_bias,
    multimodal_error,
    overtaking_n,
    rate_bound,
    unimodal_error,
)
from mmcl.unimodal import fit_masked, fit_pca

KINDS = ["isotropic", "diagonal", "correlated"]


def root_mean_square(a):
    return a.square().mean().sqrt()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong_share", [0.0, 0.5])
def test_multimodal_error_is_the_measured_one_to_first_order(kind, wrong_share):
    n, signal = 8000, (1.5, 1.0, 0.8)
    p = spiked(n, 20, 12, 3, noise_std=(1.0, 0.5), noise=kind, signal=signal, wrong_share=wrong_share, draws=30, seed=5)
    g = fit(p.x, p.x_tilde, 3)
    first = multimodal_error(p.u1, p.u2, p.noise, p.noise_tilde, n, signal, wrong_share)
    second = multimodal_error(p.u2, p.u1, p.noise_tilde, p.noise, n, signal, wrong_share)
    for e, predicted in ((sin_theta(g.g1.mT, p.u1), first), (sin_theta(g.g2.mT, p.u2), second)):
        # the mean of 30 draws is known to about 4 %; what follows first order is a few percent too
        assert abs(root_mean_square(e) / root_mean_square(predicted) - 1) < 0.12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("method", "masked"), [(fit_masked, True), (fit_pca, False)])
def test_unimodal_error_is_the_measured_one_to_first_order(kind, method, masked):
    n, signal = 8000, (1.5, 1.0, 0.8)
    p = spiked(n, 20, 12, 3, noise_std=1.0, noise=kind, signal=signal, draws=30, seed=6)
    e = sin_theta(method(p.x, 3).mT, p.u1)
    predicted = unimodal_error(p.u1, p.noise, n, signal, masked)
    assert abs(root_mean_square(e) / root_mean_square(predicted) - 1) < 0.12


def test_pca_and_multimodal_errors_agree_to_first_order_in_equal_isotropic_noise():
    p = spiked(10, 15, 15, 4, noise_std=0.7)
    pca = unimodal_error(p.u1, p.noise, 500, masked=False)
    torch.testing.assert_close(pca, multimodal_error(p.u1, p.u2, p.noise, p.noise_tilde, 500))


def test_error_scales_as_one_over_share_of_right_pairs_and_root_n():
    shares, sizes = [1.0, 0.7, 0.5, 0.35], [500, 1000, 2000]

    def error(n, share):
        p = spiked(n, 12, 12, 3, noise_std=0.5, noise="correlated", wrong_share=1 - share, draws=60, seed=8)
        return sin_theta(fit(p.x, p.x_tilde, 3).g1.mT, p.u1).mean()

    by_share, fewer = [error(2000, s) for s in shares], [error(n, 1.0) for n in sizes[:2]]
    # 60 draws know a mean, and so a slope over a factor of three or four, to about 4 %
    assert abs(loglog_slope(shares, torch.stack(by_share)) + 1) < 0.08
    assert abs(loglog_slope(sizes, torch.stack([*fewer, by_share[0]])) + 0.5) < 0.08


def test_no_right_pair_leaves_nothing_to_predict():
    p = spiked(20, 6, 5, 2)
    with pytest.raises(ValueError, match="1 - wrong_share = 0"):
        multimodal_error(p.u1, p.u2, p.noise, p.noise_tilde, 10, wrong_share=1)


def test_bound_is_the_printed_formula_saturates_at_root_r_and_falls_as_one_over_eta():
    noise, noise_tilde = torch.diag(torch.tensor([4.0, 1, 1, 1]).double()), torch.eye(3, dtype=torch.float64)
    assert float(effective_rank(noise)) == 7 / 4
    assert float(effective_rank(torch.zeros(2, 2))) == 0
    epsilon = math.sqrt((2 + 7 / 4 + 3) * math.log(10**6 + 7) / 10**6)
    assert float(epsilon_n(10**6, 2, noise, noise_tilde)) == pytest.approx(epsilon)
    assert float(rate_bound(10, 0.1, noise, noise_tilde, 2)) == 2**0.5
    low, high = rate_bound(10**6, torch.tensor([1.0, 0.25]), noise, noise_tilde, 2, constant=0.3)
    assert float(low) == pytest.approx(0.3 * 2**0.5 * epsilon)
    assert float(high / low) == pytest.approx(4)
    whole = rate_bound(10**6, 0.25, noise, noise_tilde, 2, constant=0.3, factor=True)
    assert float(whole / high) == pytest.approx(1 + epsilon / 0.25)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_one_constant_bounds_the_error_over_n_eta_rank_dimension_and_effective_rank(decay):
    # 0.26 bounds 29 settings of noise 0.7; here the corners of that grid, the spectrum of the noise like j^-decay
    for n, eta, rank, d in ((500, 1.0, 2, 10), (2000, 0.5, 5, 40), (2000, 0.5, 10, 40), (4000, 0.4, 5, 80)):
        spectrum = 0.49 * torch.diag(torch.arange(1, d + 1, dtype=torch.float64) ** -decay)
        p = spiked(n, d, d, rank, noise=spectrum, wrong_share=1 - eta, draws=4, seed=9)
        g = fit(p.x, p.x_tilde, rank)
        error = torch.maximum(sin_theta(g.g1.mT, p.u1), sin_theta(g.g2.mT, p.u2)).mean()
        assert 0.3 < float(error / rate_bound(n, eta, p.noise, p.noise_tilde, rank, constant=0.26)[0]) < 1


def test_the_limit_of_m_is_the_share_of_right_pairs_times_the_signal_and_not_the_signal():
    # Theorem 8.1 prints U1 Z U2^T/rho as the limit of G1^T G2; half of the pairs wrong leave half of it
    for n, near in ((2000, 0.28), (16_000, 0.1)):
        p = spiked(n, 40, 40, 5, noise_std=0.7, wrong_share=0.5, seed=10)
        g = fit(p.x, p.x_tilde, 5, rho=2.0)
        m, signal = 2.0 * g.g1.mT @ g.g2, p.u1 @ p.u2.mT
        assert float(torch.linalg.matrix_norm(m - 0.5 * signal, 2)) < near
        assert float(torch.linalg.matrix_norm(m - signal, 2)) > 0.45


def test_bias_of_masking_falls_as_root_2r_r_plus_2_over_d_for_uniform_subspaces():
    for rank in (2, 5):
        ratios = []
        for d in (80, 320):
            noise = torch.diag(0.5 + torch.rand(d, generator=torch.Generator().manual_seed(d), dtype=torch.float64))
            u = torch.linalg.qr(normal(10, d, rank, seed=d))[0]
            ratios.append(float(masked_bias(u, noise).mean()) * d / math.sqrt(2 * rank * (rank + 2)))
        assert 0.7 < ratios[0] < ratios[1] < 1.02
        assert ratios[1] > 0.85


def test_masking_loses_a_signal_on_one_coordinate_at_any_dimension_and_noise_between_coordinates_stays():
    for d in (40, 160):
        u = torch.linalg.qr(torch.cat([torch.eye(d, 1, dtype=torch.float64), normal(d, 4, seed=1)], 1))[0]
        w = torch.nn.functional.normalize(normal(d, 1, seed=2), dim=0)
        noise = torch.eye(d, dtype=torch.float64) + 0.5 * w @ w.T
        assert 0.95 < float(masked_bias(u, noise)) < 1.15
        p = spiked(2, d, d, 5, noise_std=1.0, noise="correlated", seed=3)
        assert float(masked_bias(p.u1, p.noise)) > 1.7


def test_masked_fit_of_many_rows_has_the_bias_of_the_population():
    p = spiked(200_000, 12, 12, 3, noise_std=0.5, noise="diagonal", seed=4)
    error = float(sin_theta(fit_masked(p.x, 3).mT, p.u1))
    assert error == pytest.approx(float(masked_bias(p.u1, p.noise)), abs=0.01)
    assert error > 0.1


def test_multimodal_learning_with_wrong_pairs_overtakes_masked_learning_at_the_predicted_n():
    p = spiked(2, 20, 20, 4, noise_std=0.5, seed=5)
    model = dict(axes=(p.u1, p.u2), noise=(p.noise, p.noise_tilde), wrong_share=0.5)
    predicted = float(overtaking_n(p.u1, p.u2, p.noise, p.noise_tilde, wrong_share=0.5))
    assert predicted == pytest.approx(842, rel=0.1)
    first_order = multimodal_error(p.u1, p.u2, p.noise, p.noise_tilde, predicted, wrong_share=0.5)
    torch.testing.assert_close(first_order, unimodal_error(p.u1, p.noise, predicted))
    bias = float(masked_bias(p.u1, p.noise).square())
    for n in (predicted / 2, predicted, predicted * 2):
        q = spiked(round(n), 20, 20, 4, draws=40, seed=6, **model)
        encoders = fit(q.x, q.x_tilde, 4).g1, fit_masked(q.x, 4)
        squares = [sin_theta(g.mT, p.u1.expand(40, 20, 4)).square() for g in encoders]
        behind = squares[0] - squares[1]  # to first order its mean is bias (n*/n - 1)
        error = float(behind.std()) / 40**0.5
        assert abs(float(behind.mean()) - bias * (predicted / n - 1)) < 4 * error
        assert n == predicted or abs(float(behind.mean())) > 4 * error
    assert float(overtaking_n(p.u1, p.u2, p.noise, p.noise_tilde, wrong_share=0.0)) < predicted


def test_overtaking_is_at_once_where_masking_has_more_variance_and_never_where_it_has_no_bias():
    even = torch.full((16, 1), 0.25, dtype=torch.float64)
    noise = 0.01 * torch.eye(16, dtype=torch.float64)
    assert float(overtaking_n(even, even, noise, 100 * noise, wrong_share=0.9)) > 1e12
    p = spiked(2, 20, 20, 3, noise_std=(1.0, 0.01), seed=7)
    assert float(overtaking_n(p.u1, p.u2, p.noise, p.noise_tilde)) == 0


def test_factor_of_algorithm_4_counts_the_weights_of_four_kinds_of_pairs():
    n, right, nu = 1000, 300, 2.5
    weights = torch.zeros(n, n, dtype=torch.float64)
    weights[range(n), range(n)] += nu  # observed pairs
    partner = torch.cat([torch.arange(right), torch.arange(right, n).roll(1)])
    weights[range(n), partner] -= 1  # true pairs
    signal = float(weights[range(n), partner].sum()) / n
    assert signal == pytest.approx(float(algorithm_4_signal(nu, right / n)))
    factor = float(weights.square().sum() / n) ** 0.5 / abs(signal)
    assert factor == pytest.approx(float(algorithm_4_factor(nu, right / n)))


def test_factor_of_algorithm_4_against_the_linear_losss_has_the_sign_of_2_nu_eta_minus_1():
    nu, eta = torch.linspace(0, 8, 81).double(), torch.linspace(0.1, 0.9, 9).double().unsqueeze(1)
    worse = algorithm_4_factor(nu, eta).square() - eta**-2
    apart = (2 * nu * eta - 1).abs() > 1e-9
    assert torch.equal((worse > 0)[apart], (2 * nu * eta > 1)[apart])
    assert float(algorithm_4_factor(2, 0.5)) == math.inf
    assert float(algorithm_4_factor(0, 0.3)) == 1


@pytest.mark.parametrize("nu", [0.0, 1.0, 4.0])
def test_factor_of_algorithm_4_is_that_of_the_limiting_weights_measured(nu):
    # the true pairs are pushed apart with weight 1 and the observed ones pulled with weight nu, as in Lemma 7.2
    p = spiked(2000, 15, 15, 3, noise_std=0.3, wrong_share=0.5, draws=30, seed=11)
    partner = p.x_tilde.take_along_dim(p.partner.unsqueeze(-1), -2)
    true = cross_covariance(p.x, partner)
    error, known = (
        sin_theta(truncated_svd(s, 3)[0], p.u1).square().mean().sqrt()
        for s in (nu * cross_covariance(p.x, p.x_tilde) - true, true)
    )
    assert float(error / known) == pytest.approx(float(algorithm_4_factor(nu, 0.5)), rel=0.12)
