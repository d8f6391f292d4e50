"""The exact limits: identities, limits, equivariances, and simulation at n = 1,500."""

import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from helpers import close

from mmcl.beyond.limits import _edge, outliers, overlaps, sin_theta_limit, threshold_share
from mmcl.theory import multimodal_error

GRID = [(a, b, s1, s2) for a, b in ((0.1, 0.1), (0.5, 0.2), (1, 1), (2, 0.3)) for s1, s2 in ((1, 1), (0.8, 1.3))]


def settings(count=22, seed=3):
    """(a, b, lambda, s1, s2, eta) at random; not within 0.2 of the threshold, where n = 1,500 is not near the limit."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        a, b = np.exp(rng.uniform(np.log(0.05), 0, 2))
        signal, s1, s2, eta = *rng.uniform((0.4, 0.6, 0.6), (2.5, 1.3, 1.3)), rng.uniform(0.05, 1)
        threshold = float(threshold_share(a, b, signal, s1, s2))
        if threshold == 0 or abs(eta - min(threshold, 1.2)) > 0.2:
            found.append(tuple(round(float(t), 2) for t in (a, b, signal, s1, s2, eta)))
    return found


def draw(n, a, b, signal, s1, s2, eta, wrong, rng):
    """One draw with the signal on the first coordinate of both modalities: isotropic noise looks the same from all."""
    x, x_tilde = s1 * rng.standard_normal((n, round(a * n))), s2 * rng.standard_normal((n, round(b * n)))
    z, right = math.sqrt(signal) * rng.standard_normal(n), round(eta * n)
    others = np.roll(z[right:], 1) if wrong == "permuted" else math.sqrt(signal) * rng.standard_normal(n - right)
    x[:, 0] += z
    x_tilde[:, 0] += np.concatenate([z[:right], others])
    return x - x.mean(0), x_tilde - x_tilde.mean(0)


def measured(*setting, n=1500, draws=8, wrong="permuted", seed=0):
    """Leading singular value and the two squared overlaps: (draws, 3)."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(draws):
        x, x_tilde = draw(n, *setting, wrong, rng)
        u, s, vt = scipy.sparse.linalg.svds(x.T @ x_tilde / n, k=1, v0=np.ones(min(x.shape[1], x_tilde.shape[1])))
        rows.append((s[0], u[0, 0] ** 2, vt[0, 0] ** 2))
    return np.array(rows)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "setting"), list(enumerate(settings())))
def test_value_and_overlaps_are_the_simulated_ones_within_three_standard_errors_and_ten_over_n(number, setting):
    rows = measured(*setting, wrong=("permuted", "fresh")[number % 2], seed=number)
    found = outliers(*setting)
    seen = not bool(found.value[0].isnan())
    predicted = [float(found.value[0] if seen else found.edge), float(found.u[0]), float(found.v[0])]
    allowed = 3 * rows.std(0, ddof=1) / len(rows) ** 0.5 + 10 / 1500
    if not seen:  # a direction chosen blindly has an overlap of 1/d, and the largest value misses the edge by n^(-2/3)
        allowed[0] += predicted[0] * 1500 ** (-2 / 3)
    assert (abs(rows.mean(0) - predicted) < allowed).all(), (rows.mean(0), predicted, allowed)


def test_small_aspects_have_the_error_of_first_order_to_one_percent():
    n, d1, d2, signal, s1, s2, eta = 100_000, 100, 80, 1.3, 0.9, 1.2, 0.6
    u1, u2, noise, noise_tilde = (torch.eye(d).double()[:, :k] for k, d in ((1, d1), (1, d2), (d1, d1), (d2, d2)))
    first = multimodal_error(u1, u2, s1**2 * noise, s2**2 * noise_tilde, n, signal, wrong_share=1 - eta)
    second = multimodal_error(u2, u1, s2**2 * noise_tilde, s1**2 * noise, n, signal, wrong_share=1 - eta)
    limits = sin_theta_limit((d1 - 1) / n, (d2 - 1) / n, [signal], s1, s2, eta)  # 1 of d1 directions is the signal
    assert float(limits[0] / first) == pytest.approx(1, abs=0.01)
    assert float(limits[1] / second) == pytest.approx(1, abs=0.01)
    far = sin_theta_limit(100 * d1 / n, 100 * d2 / n, [signal], s1, s2, eta)
    assert float(far[0] / (10 * first)) < 0.9  # at d/n = 0.1 first order says too much


@pytest.mark.parametrize(("a", "b", "s1", "s2"), GRID)
def test_swapping_the_modalities_swaps_the_overlaps(a, b, s1, s2):
    eta = torch.linspace(0, 1, 7)
    here, there = outliers(a, b, 1.2, s1, s2, eta), outliers(b, a, 1.2, s2, s1, eta)
    close(here.u, there.v)
    close(here.v, there.u)
    close(here.value.nan_to_num(), there.value.nan_to_num())
    assert float(threshold_share(a, b, 0.5, s1, s2)) == pytest.approx(float(threshold_share(b, a, 0.5, s2, s1)))


@pytest.mark.parametrize(("a", "b", "s1", "s2"), GRID)
def test_other_units_scale_the_singular_values_and_nothing_else(a, b, s1, s2):
    here, there = outliers(a, b, 1.2, s1, s2, 0.7), outliers(a, b, 9 * 1.2, 3 * s1, 3 * s2, 0.7)
    close(there.value.nan_to_num(), 9 * here.value.nan_to_num())
    close(there.edge, 9 * here.edge)
    close(there.u, here.u)
    close(overlaps(a, b, 1.2, s1, s2, 0.7)[1], overlaps(a, b, 1.2 / 4, s1 / 2, s2 / 2, 0.7)[1])


@pytest.mark.parametrize(("a", "b", "s1", "s2"), GRID)
def test_overlaps_rise_from_zero_at_the_threshold_and_the_outlier_leaves_the_edge_there(a, b, s1, s2):
    signal = next(t for t in torch.linspace(2, 0.1, 400) if 0.2 < threshold_share(a, b, t, s1, s2) < 0.9)
    threshold = threshold_share(a, b, signal, s1, s2)
    eta = threshold + torch.tensor([-1e-6, 1e-6, 0.05, 0.1])
    found = outliers(a, b, signal, s1, s2, eta)
    assert bool(found.value[0].isnan().all())
    assert float(found.u[0, 0]) == float(found.v[0, 0]) == 0
    close(found.value[1, 0], found.edge[1])
    assert 0 < float(found.u[1, 0]) < 1e-4
    assert bool((found.u[1:, 0].diff() > 0).all())
    assert bool((found.v[1:, 0].diff() > 0).all())


def test_the_edge_is_the_largest_singular_value_of_noise_and_the_least_of_sigma_in_psi():
    a = torch.tensor([0.1, 0.5, 1.0, 2.0]).double()
    close(_edge(a, a), ((1 + 8 * a).sqrt() - 1) / 4)
    psi = _edge(a, torch.tensor(0.3, dtype=a.dtype))
    close(2 * psi**3 + (1.3 + a) * psi**2, 0.3 * a)
    rng = np.random.default_rng(1)
    x, x_tilde = rng.standard_normal((1500, 600)), rng.standard_normal((1500, 300))
    top = np.linalg.norm(x.T @ x_tilde / 1500, 2)
    assert top == pytest.approx(float(outliers(0.4, 0.2, 0.1, 1, 1, 1).edge), rel=1500 ** (-2 / 3))


def test_with_every_pair_wrong_a_strong_modality_makes_an_outlier_at_a_over_alpha_with_nothing_of_the_other():
    found = outliers(0.5, 0.8, 2.0, 1, 1.6, 0)
    psi = torch.tensor(0.25)
    assert float(found.value[0]) == pytest.approx(float(1.6 * ((1 + psi) * (0.5 + psi) * (0.8 + psi) / psi).sqrt()))
    rows = measured(0.5, 0.8, 2.0, 1, 1.6, 0, n=1000, draws=6)
    assert abs(rows[:, 1].mean() - float(found.u[0])) < 3 * rows[:, 1].std() / 6**0.5 + 10 / 1000
    assert float(found.v[0]) < 1e-6
    assert float(threshold_share(0.5, 0.8, 2.0, 1, 1.6)) == 0


def test_all_pairs_right_is_the_limit_of_many_pairs_right():
    close(torch.stack(overlaps(0.5, 0.3, 1.1, 1, 1, 1)), torch.stack(overlaps(0.5, 0.3, 1.1, 1, 1, 1 - 1e-12)), 1e-9)
    assert bool(outliers(0.5, 0.3, 4.0, 1, 1, 1).value[1].isnan())  # with every pair right, one outlier a latent


def test_two_strong_modalities_with_wrong_pairs_make_two_outliers_of_one_latent():
    found = outliers(1, 2, 6.0, 1, 1, [0.0, 0.05, 0.6])
    assert found.value.isnan().tolist() == [[False, False], [False, False], [False, True]]
    assert bool((found.value[:2, 0] > found.value[:2, 1]).all())


def test_latents_are_pooled_and_the_second_outlier_of_a_strong_one_displaces_a_weak_one():
    one = sin_theta_limit(0.5, 0.5, [1.5], 1, 1, 0.8)[0]
    close(sin_theta_limit(0.5, 0.5, [1.5, 1.5, 1.5], 1, 1, 0.8)[0], 3**0.5 * one)
    strong, weak = outliers(0.5, 0.5, 4.0, 1, 1, 0.1), outliers(0.5, 0.5, 0.9, 1, 1, 0.1)
    assert bool(weak.value[0].isnan())
    close(sin_theta_limit(0.5, 0.5, [4.0, 0.9], 1, 1, 0.1)[0] ** 2, 2 - strong.u.sum())
    assert sin_theta_limit([0.5, 1.0], 0.5, [4.0, 0.9], 1, 1, 0.1)[0].shape == (2,)


def test_a_share_of_the_threshold_needs_positive_numbers_and_a_share_lies_between_0_and_1():
    with pytest.raises(ValueError, match="signal = 0"):
        threshold_share(1, 1, 0, 1, 1)
    with pytest.raises(ValueError, match=r"noise_std_tilde = \[1, -1\]"):
        overlaps(1, 1, 1, 1, [1, -1], 1)
    with pytest.raises(ValueError, match=r"right_share = \[0.5, 1.5\]"):
        overlaps(1, 1, 1, 1, 1, [0.5, 1.5])
