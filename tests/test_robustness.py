"""Predicted errors, the measured rate, crossings, and filtered fits."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from mmcl.beyond.filtering import filtered_fit
from mmcl.covariance import cross_covariance, truncated_svd
from mmcl.data import spiked
from mmcl.metrics import probe_risk, sin_theta
from mmcl.notebook.statistics import crossing, loglog_slope
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


def test_slope_and_crossing_of_known_curves():
    x = torch.tensor([0.0, 0.5, 1.0])
    falling, rising = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([0.0, 0.5, 1.0])
    at = crossing(x, torch.stack([rising, falling, rising - 5, rising + 5]), falling)
    assert float(at[0]) == pytest.approx(1 / 3)
    assert math.isnan(at[1])
    assert math.isnan(at[2])
    assert float(at[3]) == 0
    t = torch.tensor([1.0, 3.0, 10.0])
    assert float(loglog_slope(t, torch.stack([2 * t**-0.7, t**2]))[0]) == pytest.approx(-0.7)


def by_hand(x, x_tilde, rank, threshold):
    """The filtered fit in numpy with index arrays: no blocks, no Gram matrices."""
    n = len(x)
    first, second = np.arange(n // 2), np.arange(n // 2, n)
    kept = np.zeros(n, dtype=bool)
    for half, other in ((first, second), (second, first)):
        a, b = x[other] - x[other].mean(0), x_tilde[other] - x_tilde[other].mean(0)
        u, _, vt = np.linalg.svd(a.T @ b)
        u, v = u[:, :rank], vt[:rank].T
        m = len(other) - 1
        scale = np.sqrt(np.sum((a @ u) ** 2) / m * np.sum((b @ v) ** 2) / m)
        score = np.sum(((x[half] - x[other].mean(0)) @ u) * ((x_tilde[half] - x_tilde[other].mean(0)) @ v), 1)
        kept[half[score > threshold * scale]] = True
    a, b = x[kept] - x[kept].mean(0), x_tilde[kept] - x_tilde[kept].mean(0)
    return np.linalg.svd(a.T @ b)[0][:, :rank], kept


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_filtered_fit_is_the_one_done_by_hand(threshold):
    p = spiked(401, 7, 5, 2, noise_std=0.5, wrong_share=0.5, draws=2, seed=9)
    x, x_tilde = p.x + 1000, 3 * p.x_tilde - 20
    result = filtered_fit(x, x_tilde, 2, threshold)
    for i in range(2):
        u, kept = by_hand(x[i].numpy(), x_tilde[i].numpy(), 2, threshold)
        assert sin_theta(result.g1[i].mT, u) < 1e-8
        assert torch.equal(result.kept[i], torch.as_tensor(kept))
    alone = filtered_fit(x[1], x_tilde[1], 2, threshold)
    torch.testing.assert_close(alone.g1, result.g1[1])


def test_filtered_fit_does_not_depend_on_block_length_units_or_float32_storage(monkeypatch):
    p = spiked(400, 7, 5, 2, noise_std=0.3, wrong_share=0.5, seed=10)
    whole = filtered_fit(p.x, p.x_tilde, 2)
    monkeypatch.setattr("mmcl.beyond.filtering.BLOCK", 100)
    blocks = filtered_fit(100 * p.x, 0.01 * p.x_tilde, 2)
    assert torch.equal(blocks.kept, whole.kept)
    assert sin_theta(blocks.g1.mT, whole.g1.mT) < 1e-10
    assert filtered_fit(p.x.float(), p.x_tilde.float().numpy(), 2).g1.dtype == torch.float64


def test_filter_that_keeps_everything_is_the_plain_fit():
    p = spiked(300, 7, 5, 2, noise_std=0.5, wrong_share=0.3, draws=2, seed=11)
    result, plain = filtered_fit(p.x, p.x_tilde, 2, -math.inf), fit(p.x, p.x_tilde, 2)
    assert bool(result.kept.all())
    torch.testing.assert_close(result.g1, plain.g1)
    torch.testing.assert_close(result.g2, plain.g2)


def test_filter_keeps_right_pairs_drops_wrong_ones_and_lowers_the_error():
    p = spiked(4000, 10, 8, 4, noise_std=0.1, wrong_share=0.8, draws=20, seed=12)
    result = filtered_fit(p.x, p.x_tilde, 4)
    assert result.kept[~p.wrong].double().mean() > 0.7
    assert result.kept[p.wrong].double().mean() < 0.25
    plain = sin_theta(fit(p.x, p.x_tilde, 4).g1.mT, p.u1).mean()
    assert sin_theta(result.g1.mT, p.u1).mean() < 0.5 * plain


def test_filter_brings_back_the_bias_of_noise_within_a_modality():
    p = spiked(40_000, 10, 10, 4, noise_std=1.0, noise="correlated", draws=10, seed=13)
    plain = sin_theta(fit(p.x, p.x_tilde, 4).g1.mT, p.u1).mean()
    assert sin_theta(filtered_fit(p.x, p.x_tilde, 4, 0.0).g1.mT, p.u1).mean() > 3 * plain


def test_bad_arguments_of_the_filter_and_the_predictions_are_named():
    p = spiked(20, 6, 5, 2)
    for arguments, message in (
        ((p.x, p.x_tilde[:-1], 2), "19"),
        ((p.x, p.x_tilde, 6), "rank = 6"),
        ((p.x[:3], p.x_tilde[:3], 2), "n = 3"),
        ((p.x, p.x_tilde, 2, math.nan), "NaN"),
        ((p.x, p.x_tilde, 2, 1e9), "keeps 0 of 20"),
    ):
        with pytest.raises(ValueError, match=message):
            filtered_fit(*arguments)
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
