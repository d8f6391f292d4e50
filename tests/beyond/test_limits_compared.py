"""The limits of other methods: simulation, the population for many rows, and the phase diagram of equal modalities."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import close

from mmcl.beyond.limits import overlaps, threshold_share
from mmcl.beyond.limits_compared import (
    bayes_threshold_share,
    cca_overlaps,
    joint_pca_overlaps,
    nuisance_thresholds,
    pca_overlap,
    prediction_overlap,
)

ASPECTS = torch.tensor([0.01, 0.1, 0.5, 1.0, 2.0]).double()


def draw(n, a, b, signal, s1, s2, eta, nuisance, rng):
    """Signal on the first coordinate of both modalities, nuisance (g1, g2, c) on the second, wrong pairs fresh."""
    x, x_tilde = s1 * rng.standard_normal((n, round(a * n))), s2 * rng.standard_normal((n, round(b * n)))
    z, fresh, w, own = rng.standard_normal((4, n))
    x[:, 0] += math.sqrt(signal) * z
    x_tilde[:, 0] += math.sqrt(signal) * np.where(np.arange(n) < round(eta * n), z, fresh)
    if nuisance:
        g1, g2, c = nuisance
        x[:, 1] += math.sqrt(g1) * w
        x_tilde[:, 1] += math.sqrt(g2) * (c * w + math.sqrt(1 - c**2) * own)
    return x - x.mean(0), x_tilde - x_tilde.mean(0)


def leading(x, x_tilde):
    """Squared coordinates 0 and 1 of what four methods find: name -> ((u0, u1), (v0, v1)) for the leading direction."""
    n, found = len(x), {}
    within, within_tilde, across = x.T @ x / n, x_tilde.T @ x_tilde / n, x.T @ x_tilde / n
    root, root_tilde = (np.linalg.inv(scipy.linalg.cholesky(c, lower=True)) for c in (within, within_tilde))
    joint = scipy.linalg.eigh(np.block([[within, across], [across.T, within_tilde]]))[1][:, -1]
    found["joint"] = joint[: x.shape[1]], joint[x.shape[1] :]
    for name, left, right in (("linear", None, None), ("cca", root, root_tilde), ("prediction", root, None)):
        inner = across if left is None else left @ across
        u, _, vt = np.linalg.svd(inner if right is None else inner @ right.T, full_matrices=False)
        found[name] = [
            direction if r is None else r.T @ direction for direction, r in ((u[:, 0], left), (vt[0], right))
        ]
    u, v = found["cca"]
    found["loadings"] = within @ u, within_tilde @ v
    return {name: [(a**2)[:2] / (a @ a) for a in pair] for name, pair in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "seed"), [((0.25, 0.1, 2.2, 0.8, 0.8, 0.9), 0), ((0.1, 0.3, 1.4, 0.7, 0.7, 0.75), 1)]
)
def test_overlaps_of_joint_pca_cca_and_prediction_are_the_simulated_ones(setting, seed):
    rng, n, draws = np.random.default_rng(seed), 1500, 8
    found = [leading(*draw(n, *setting, None, rng)) for _ in range(draws)]
    predicted = {
        "joint": joint_pca_overlaps(*setting[:4], setting[-1]),
        "linear": overlaps(*setting),
        "cca": cca_overlaps(*setting),
        "loadings": cca_overlaps(*setting, loadings=True),
        "prediction": (None, prediction_overlap(*setting)),
    }
    for name, pair in predicted.items():
        for side, value in enumerate(pair):
            if value is not None:
                rows = np.array([f[name][side][0] for f in found])
                assert float(value) > 0.05
                allowed = 3 * rows.std(ddof=1) / draws**0.5 + 10 / n
                assert abs(rows.mean() - float(value)) < allowed, (name, side, rows.mean(), value)


@pytest.mark.slow
def test_signal_and_nuisance_change_places_at_the_predicted_share():
    rng, n, a, b, signal, nuisance = np.random.default_rng(2), 1500, 0.1, 0.05, 1.5, (1.0, 2.0, 0.5)
    shares = nuisance_thresholds(a, b, signal, 1, 1, nuisance)
    names = dict(zip(("linear", "cca", "prediction"), shares, strict=True))
    for step in (-0.15, 0.15):
        for name, share in names.items():
            found = [leading(*draw(n, a, b, signal, 1, 1, float(share) + step, nuisance, rng)) for _ in range(3)]
            signal_part, nuisance_part = np.mean([f[name][1] for f in found], 0)
            assert (signal_part > 2 * nuisance_part) == (step > 0), (name, step, signal_part, nuisance_part)


def test_pca_sees_a_signal_above_root_a_and_many_rows_show_all():
    assert pca_overlap(ASPECTS, ASPECTS.sqrt(), 1).abs().max() < 1e-12
    assert bool((pca_overlap(ASPECTS, 1.01 * ASPECTS.sqrt(), 1) > 0).all())
    assert float(pca_overlap(1e-9, 1, 1)) == pytest.approx(1)


def test_joint_pca_with_every_pair_wrong_sees_a_signal_later_than_pca_of_one_modality():
    signal = torch.linspace(0.05, 1.4, 20).double()
    assert bool((joint_pca_overlaps(0.5, 0.5, signal, 1, 0)[0] <= pca_overlap(0.5, signal, 1)).all())
    joint = joint_pca_overlaps(0.5, 0.5, 2**0.5 * 0.5**0.5 / 1.5 + 1e-6, 1, 0.5)[0]  # sqrt(2a)/(1 + eta)
    assert 0 < float(joint) < 1e-4


def test_with_all_pairs_right_and_few_dimensions_every_method_finds_all():
    few = 1e-7, 1e-7, 0.7, 1, 1
    values = [pca_overlap(1e-7, 0.7, 1), *joint_pca_overlaps(1e-7, 1e-7, 0.7, 1, 1), *cca_overlaps(*few, 1)]
    values += [*cca_overlaps(*few, 1, loadings=True), prediction_overlap(*few, 1)]
    close(torch.stack(values), torch.ones(len(values)).double(), 1e-5)


def test_thresholds_of_equal_modalities_are_those_of_the_phase_diagram():
    a, eta = ASPECTS, 0.8
    p = ((1 + 8 * a).sqrt() - 1) / 4
    for least, share in (
        (a / (p + eta * (p * (1 + p)).sqrt()), threshold_share),
        ((a / (1 + eta**2)).sqrt(), bayes_threshold_share),
    ):
        close(share(a, a, least, 1, 1), torch.full_like(a, eta), 1e-6)
    a = a[:2]
    least = 1 / (eta * ((1 - a) / a).sqrt() - 1)  # of CCA
    assert bool((cca_overlaps(a, a, 0.999 * least, 1, 1, eta)[0] == 0).all())
    assert bool((cca_overlaps(a, a, 1.001 * least, 1, 1, eta)[0] > 0).all())


def test_no_method_sees_a_signal_below_the_bayes_threshold():
    signal = torch.linspace(0.05, 1.5, 60).double()[:, None]
    for a, b in ((0.1, 0.1), (0.6, 0.3), (0.2, 1.5)):
        eta = torch.linspace(0, 1, 41).double()
        hidden = eta < bayes_threshold_share(a, b, signal, 1, 1)
        seen = [torch.stack(overlaps(a, b, signal, 1, 1, eta)).amax(0)]
        seen += [pca_overlap(a, signal, 1).expand_as(hidden), pca_overlap(b, signal, 1).expand_as(hidden)]
        seen += [joint_pca_overlaps(a, b, signal, 1, eta)[0]]
        if a + b < 1:
            seen += [cca_overlaps(a, b, signal, 1, 1, eta)[0]]
        for overlap in seen:
            assert bool((overlap[hidden] < 1e-9).all())


def test_a_signal_that_takes_every_pair_to_be_right_has_the_bayes_threshold_one_and_a_weaker_one_none():
    assert bayes_threshold_share(0.5, 0.5, 0.5, 1, 1) == 1  # (1 - A)(1 - B) = AB at A = B = 1/2
    assert bayes_threshold_share(0.5, 0.5, 0.499, 1, 1) == torch.inf


def test_eta_star_is_the_share_at_which_the_linear_loss_sees_what_pca_just_sees():
    stars = [float(threshold_share(a, a, a**0.5, 1, 1)) for a in (0.01, 0.1, 0.5, 1, 2)]
    assert [round(star, 3) for star in stars] == [0.906, 0.758, 0.626, 0.577, 0.537]
    assert float(threshold_share(1e6, 1e6, 1e3, 1, 1)) == pytest.approx(2**0.5 - 1, abs=1e-3)


def test_few_dimensions_have_the_thresholds_of_the_population():
    signal, (s1, s2), (g1, g2, c) = 1.2, (0.8, 1.1), (2.0, 0.6, 0.35)
    found = nuisance_thresholds(1e-9, 1e-9, signal, s1, s2, (g1, g2, c))
    root = math.sqrt((signal + s1**2) * (signal + s2**2) / ((g1 + s1**2) * (g2 + s2**2)))
    expected = [1, root, math.sqrt((signal + s1**2) / (g1 + s1**2))]
    close(torch.stack(found), c * math.sqrt(g1 * g2) / signal * torch.tensor(expected).double(), 1e-4)


def test_own_noise_as_a_nuisance_without_correlation_has_the_closed_form():
    a, signal, w = 0.4, 1.0, 2.0
    found = nuisance_thresholds(a, a, signal, 1, 1, (w, w, 0)).linear
    assert float(found) == pytest.approx(a**0.5 * (w / signal - 1) / (w + a) ** 0.5, abs=1e-6)
    weak = nuisance_thresholds(a, a, 0.5, 1, 1, (0.1, 0.1, 0)).linear  # in the bulk: no nuisance at all
    assert float(weak) == pytest.approx(float(threshold_share(a, a, 0.5, 1, 1)))


def test_methods_are_defined_only_where_covariances_can_be_inverted():
    with pytest.raises(ValueError, match="less than 1"):
        cca_overlaps(0.5, 0.5, 1, 1, 1, 1)
    found = nuisance_thresholds(1.2, 0.5, 5, 1, 1, (1, 1, 0.5))
    assert [bool(share.isnan()) for share in found] == [False, True, True]
