"""Exchanges of partners, matchings without an error, and the model's own density ratio."""

import math

import pytest
import torch

from mmcl.beyond.ratio import gaussian_ratio
from mmcl.beyond.recovery import exact_matching, known_ratio, noise_of_information, recovery, swap_probability
from mmcl.data import spiked
from mmcl.detection_theory import bayes_top1, correlation, information
from mmcl.spectral import fit


@pytest.mark.parametrize(("rank", "noise_std"), [(1, 1.0), (4, 0.6), (12, 1.2)])
def test_the_probability_of_an_exchange_is_the_simulated_one(rank, noise_std):
    generator, draws = torch.Generator().manual_seed(1), 200_000
    z, e, f = torch.randn(3, draws, 2, rank, generator=generator)
    u, v = z + noise_std * e, z + noise_std * f
    exchanged = ((u[:, 0] - u[:, 1]) * (v[:, 0] - v[:, 1])).sum(-1) < 0
    p = swap_probability(rank, noise_std)
    assert float(exchanged.double().mean()) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / draws))


def test_an_exchange_is_less_likely_than_its_chernoff_bound_and_has_its_exponent():
    for nats in (1.0, 5.0, 20.0, 60.0):
        p = swap_probability(40, noise_of_information(nats, 40))
        assert p < math.exp(-nats)
    assert -math.log(p) / nats == pytest.approx(1, abs=0.06)


def test_two_rows_are_matched_rightly_unless_they_are_exchanged():
    found = recovery(2, rank=3, noise_std=1.0, draws=1500, seed=3).matching
    assert set(found.tolist()) == {0.0, 1.0}
    p = swap_probability(3, 1.0)
    assert float(found.mean()) == pytest.approx(1 - p, abs=4 * math.sqrt(p * (1 - p) / 1500))


def test_rows_are_found_at_the_rate_of_the_bayes_rule_and_a_matching_finds_more():
    found = recovery(100, rank=8, noise_std=0.5, draws=30, seed=4)
    error = float(found.rows.std()) / 30**0.5
    assert float(found.rows.mean()) == pytest.approx(float(bayes_top1(100, 8, 0.5)), abs=4 * error)
    assert found.matching.mean() > found.rows.mean() + 3 * error


def test_half_of_the_data_sets_are_without_error_where_the_formula_says_so():
    nats = [c * math.log(100) for c in (1.0, 1.5, 2.2)]
    noises = [noise_of_information(i, 20) for i in nats]
    measured = [float((recovery(100, 20, s, 40, 5).matching == 1).double().mean()) for s in noises]
    predicted = [float(exact_matching(100, 20, s)) for s in noises]
    assert measured[0] <= 0.1
    assert measured == pytest.approx(predicted, abs=0.25)


def test_the_noise_of_an_information_inverts_the_information_of_a_noise():
    for rank, noise_std in ((1, 0.2), (10, 0.3), (30, 3.0)):
        assert noise_of_information(information(rank, noise_std), rank) == pytest.approx(noise_std)
    with pytest.raises(ValueError, match="nats = 0"):
        noise_of_information(0, 3)


def test_the_ratio_of_the_model_is_the_limit_of_the_fitted_one():
    p = spiked(40_000, 8, 7, 3, noise_std=0.5, seed=6)
    truth, fitted = known_ratio(p.u1, p.u2, 0.5), gaussian_ratio(fit(p.x, p.x_tilde, 3), p.x, p.x_tilde)
    torch.testing.assert_close(truth.correlations, torch.full((3,), correlation(0.5), dtype=torch.float64))
    torch.testing.assert_close(fitted.correlations, truth.correlations, atol=0.02, rtol=0)
    a, b = truth.coordinates(p.x, p.x_tilde)
    torch.testing.assert_close(a.mT @ a / len(a), torch.eye(3, dtype=torch.float64), atol=0.03, rtol=0)
    torch.testing.assert_close(a.mT @ b / len(a), truth.correlations.diag(), atol=0.03, rtol=0)
