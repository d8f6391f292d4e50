"""Predicted errors and the measured rate."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from mmcl.covariance import cross_covariance, truncated_svd
from mmcl.data import spiked
from mmcl.metrics import probe_risk, sin_theta
from mmcl.notebook.statistics import loglog_slope
from mmcl.spectral import fit
from mmcl.theory import multimodal_error, rate_bound, unimodal_error
from mmcl.unimodal import fit_masked, fit_pca

KINDS = ["isotropic", "diagonal", "correlated"]


def root_mean_square(a):
    return a.square().mean().sqrt()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong_share", [0.0, 0.5])
def test_multimodal_error_is_the_measured_one_to_first_order(kind, wrong_share):
    n, signal = 20_000, (1.5, 1.0, 0.8)
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
    n, signal = 20_000, (1.5, 1.0, 0.8)
    p = spiked(n, 20, 12, 3, noise_std=1.0, noise=kind, signal=signal, draws=30, seed=6)
    e = sin_theta(method(p.x, 3).mT, p.u1)
    predicted = unimodal_error(p.u1, p.noise, n, signal, masked)
    assert abs(root_mean_square(e) / root_mean_square(predicted) - 1) < 0.12


def test_pca_and_multimodal_errors_agree_to_first_order_in_equal_isotropic_noise():
    p = spiked(10, 15, 15, 4, noise_std=0.7)
    pca = unimodal_error(p.u1, p.noise, 500, masked=False)
    torch.testing.assert_close(pca, multimodal_error(p.u1, p.u2, p.noise, p.noise_tilde, 500))


def test_wrong_pairs_shrink_the_cross_covariance_and_nothing_else():
    n = 200_000
    p = spiked(n, 6, 5, 2, noise_std=1.0, noise="correlated", wrong_share=0.75, seed=7)
    s = cross_covariance(p.x, p.x_tilde)
    torch.testing.assert_close(s, 0.25 * p.u1 @ p.u2.mT, atol=5 * 6 / n**0.5, rtol=0)


def test_error_scales_as_one_over_share_of_right_pairs_and_root_n():
    def error(n, share):
        p = spiked(n, 15, 15, 3, noise_std=1.0, noise="correlated", wrong_share=1 - share, draws=40, seed=8)
        return sin_theta(fit(p.x, p.x_tilde, 3).g1.mT, p.u1).mean()

    shares, sizes = [1.0, 0.7, 0.5, 0.35], [4000, 8000, 16000, 32000]
    assert abs(loglog_slope(shares, torch.stack([error(16_000, s) for s in shares])) + 1) < 0.08
    assert abs(loglog_slope(sizes, torch.stack([error(n, 1.0) for n in sizes])) + 0.5) < 0.08


def test_bound_saturates_at_root_r_and_falls_as_one_over_eta():
    assert float(rate_bound(10, 0.1, 40, 40, 5)) == 5**0.5
    low, high = rate_bound(10**6, torch.tensor([1.0, 0.25]), 40, 40, 5)
    assert float(high / low) == pytest.approx(4)
    assert float(low) == pytest.approx((5 * math.log(10**6 + 80) / 10**6) ** 0.5)


def test_no_right_pair_leaves_nothing_to_predict():
    p = spiked(20, 6, 5, 2)
    with pytest.raises(ValueError, match="wrong_share = 1"):
        multimodal_error(p.u1, p.u2, p.noise, p.noise_tilde, 10, wrong_share=1)


def test_one_batched_study_is_the_loop_over_draws():
    p = spiked(200, 9, 8, 3, noise_std=1.0, noise="correlated", wrong_share=0.5, draws=6, seed=14)
    batched = sin_theta(fit(p.x, p.x_tilde, 3).g1.mT, p.u1)
    for i in range(6):
        c = np.cov(p.x[i].numpy().T, p.x_tilde[i].numpy().T)[:9, 9:]
        assert float(sin_theta(np.linalg.svd(c)[0][:, :3], p.u1[i])) == pytest.approx(float(batched[i]), abs=1e-9)
    assert truncated_svd(cross_covariance(p.x, p.x_tilde), 3)[1].shape == (6, 3)


def test_probe_is_scikit_learns_ridge_and_counts_wrong_signs():
    generator = torch.Generator().manual_seed(6)
    rows = torch.randn(3, 60, 4, generator=generator, dtype=torch.float64) + 2
    targets = rows[..., :2] - 1.5 + 0.5 * torch.randn(3, 60, 2, generator=generator, dtype=torch.float64)
    risk, wrong = probe_risk(rows[:, :20], targets[:, :20], rows[:, 20:], targets[:, 20:], ridge=0.1)
    for k in range(3):
        penalty = 0.1 * float(rows[k, :20].var(0, correction=0).mean()) * 20
        model = Ridge(alpha=penalty).fit(rows[k, :20], targets[k, :20])
        predicted, true = model.predict(rows[k, 20:]), targets[k, 20:].numpy()
        assert abs(float(risk[k]) - ((predicted - true) ** 2).mean()) < 1e-12
        assert float(wrong[k]) == (np.sign(predicted) != np.sign(true)).mean()
