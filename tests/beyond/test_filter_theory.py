"""Moments of kept pairs, and the error of a filter to first order."""

import math

import pytest
import torch

from mmcl.beyond.filter_theory import filtered_error, kept_moments
from mmcl.beyond.filtering import filtered_fit
from mmcl.covariance import cross_covariance, truncated_svd
from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.spectral import fit


@pytest.mark.parametrize("rank", [1, 3, 20])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.5])
def test_moments_of_kept_pairs_are_the_simulated_ones(rank, threshold):
    z, other = torch.randn(2, 400_000, rank, generator=torch.Generator().manual_seed(rank))
    m, draws = kept_moments(rank, threshold), len(z)
    for partner, signal, noise in ((z, m.right, m.noise_right), (other, m.wrong, m.noise_wrong)):
        score = (z * partner).sum(1)
        kept = (score > threshold * rank).float()
        for values, expected in ((score * kept / rank, signal), (partner.square().sum(1) * kept / rank, noise)):
            assert float(values.mean()) == pytest.approx(expected, abs=5 * float(values.std()) / draws**0.5 + 1e-6)


def test_at_threshold_0_the_switch_tends_to_one_over_the_root_of_two_pi_r():
    for rank in (50, 500):
        assert kept_moments(rank, 0.0).wrong * math.sqrt(2 * math.pi * rank) == pytest.approx(1, abs=0.5 / rank)


def test_the_slopes_on_both_sides_of_the_switch_are_one_half_and_zero():
    def slope(rank, one, other):
        errors = [filtered_error(10**6, 2 * rank, rank, 0.01, eta, 0.5) for eta in (one, other)]
        return math.log(errors[1] / errors[0]) / math.log(one / other)

    assert slope(200, 1.0, 0.1) == pytest.approx(0.5, abs=0.02)
    assert slope(2, 1e-3, 1e-4) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("threshold", [None, 0.0, 0.5])
def test_the_error_of_a_filter_is_the_predicted_one_at_low_noise(threshold):
    rank, d, n = 6, 30, 20_000
    for eta in (1.0, 0.3, 0.1):
        p = spiked(n, d, d, rank, noise_std=0.01, wrong_share=1 - eta, draws=2, seed=7)
        f = fit(p.x, p.x_tilde, rank) if threshold is None else filtered_fit(p.x, p.x_tilde, rank, threshold)
        measured = float(sin_theta(f.g1.mT, p.u1).square().mean().sqrt())
        assert measured == pytest.approx(filtered_error(n, d, rank, 0.01, eta, threshold), rel=0.15)


def test_with_every_pair_wrong_a_filter_one_way_round_still_finds_the_subspace():
    p = spiked(20_000, 30, 30, 3, noise_std=0.01, wrong_share=1.0, seed=8)
    half = slice(0, 10_000), slice(10_000, None)
    u, _, v = truncated_svd(cross_covariance(p.x[half[0]], p.x_tilde[half[0]]), 3)
    x, y = p.x[half[1]], p.x_tilde[half[1]]
    keep = ((x @ u) * (y @ v)).sum(1) > 0
    error = float(sin_theta(fit(x[keep], y[keep], 3).g1.mT, p.u1))
    assert error == pytest.approx(filtered_error(10_000, 30, 3, 0.01, 0.0, 0.0), rel=0.4)
    assert error < 0.01


def test_bad_input_is_named():
    for arguments, message in (
        ((0, 0.5), "rank = 0"),
        ((2, -1.0), "threshold = -1"),
        ((2, math.nan), "threshold = nan"),
    ):
        with pytest.raises(ValueError, match=message):
            kept_moments(*arguments)
    with pytest.raises(ValueError, match="right_share = 1.5"):
        filtered_error(10, 4, 2, 0.1, 1.5, None)
