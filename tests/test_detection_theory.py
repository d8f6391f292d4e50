"""Detection of partners and of clusters: formulas against simulations, limits and other integrals."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from helpers import normal

from mmcl.detection_theory import (
    bayes_top1,
    exact_detection,
    exact_detection_bound,
    information,
    inner_product_top1,
    partition_threshold,
)
from mmcl.unpaired import detect_edges


def simulated(score, candidates, rank, noise_std, blocks, seed=0):
    """Share of rows whose partner scores highest, and its standard error over blocks of N rows against N candidates."""
    generator, c, shares = torch.Generator().manual_seed(seed), 1 / (1 + noise_std**2), []
    for _ in range(blocks):
        z, a, b = torch.randn(3, candidates, rank, generator=generator, dtype=torch.float64)
        u, v = ((z + noise_std * e) * math.sqrt(c) for e in (a, b))
        s = u @ v.T if score == "inner" else 2 * u @ v.T / c - v.square().sum(-1)
        shares.append((s.argmax(-1) == torch.arange(candidates)).double().mean())
    shares = torch.stack(shares)
    return float(shares.mean()), float(shares.std() / blocks**0.5)


SETTINGS = [(2000, 10, 0.3, 10), (300, 5, 0.2, 60), (300, 20, 0.5, 60), (100, 1, 0.3, 200), (50, 3, 1.5, 400)]


@pytest.mark.parametrize(("candidates", "rank", "noise_std", "blocks"), SETTINGS)
@pytest.mark.parametrize(("score", "predicted"), [("bayes", bayes_top1), ("inner", inner_product_top1)])
def test_predicted_top1_is_the_simulated_one(score, predicted, candidates, rank, noise_std, blocks):
    share, error = simulated(score, candidates, rank, noise_std, blocks)
    assert abs(float(predicted(candidates, rank, noise_std)) - share) < 4 * error + 1e-6


def test_the_bayes_rule_is_the_posterior_of_the_gaussian_model():
    # 2 u.v/c - |v|^2 orders candidates as the density ratio log p(v|u)/p(v), by scipy's own normal densities
    rng, c = np.random.default_rng(0), 1 / (1 + 0.4**2)
    u, v = rng.normal(size=3), rng.normal(size=(50, 3))
    ratio = scipy.stats.norm.logpdf(v, c * u, math.sqrt(1 - c**2)).sum(1) - scipy.stats.norm.logpdf(v).sum(1)
    assert np.array_equal(np.argsort(ratio), np.argsort(2 * v @ u / c - (v**2).sum(1)))


def test_without_noise_the_bayes_rule_always_finds_the_partner_and_one_candidate_is_always_right():
    assert torch.equal(bayes_top1([1, 10, 10**6], 3, 0.0), torch.ones(3, dtype=torch.float64))
    for predicted in (bayes_top1, inner_product_top1):
        assert abs(float(predicted(1, 4, 0.7)) - 1) < 1e-10
    assert 1 - float(bayes_top1(1000, 4, 1e-3)) < 1e-3


def test_without_noise_the_inner_product_of_rank_1_finds_the_two_extreme_rows_and_no_other():
    # z z is largest of all z z' if z is the greatest row and positive, or the smallest and negative: 2 (1 - 2^-N)/N
    for n in (1, 2, 3, 10, 1000):
        assert abs(float(inner_product_top1(n, 1, 0.0)) - 2 * (1 - 0.5**n) / n) < 1e-6


def test_bayes_top1_is_the_triple_integral_over_angle_free_geometry():
    # rank 2, N = 7 by Simpson's rule over |u| and sqrt(T) instead of the Gauss rules
    c, n = 1 / (1 + 0.5**2), 7
    u, t = np.meshgrid(np.linspace(0, 8, 301), np.linspace(0, 8, 301), indexing="ij")
    right = scipy.stats.ncx2.pdf(t**2 / (1 - c**2), 2, u**2 * (1 - c**2) / c**2) / (1 - c**2)
    lost = (1 - scipy.stats.ncx2.cdf(t**2, 2, u**2 / c**2)) ** (n - 1)
    inner = scipy.integrate.simpson(lost * right * scipy.stats.chi2.pdf(u**2, 2) * 4 * u * t, t, axis=1)
    assert abs(float(bayes_top1(n, 2, 0.5)) - scipy.integrate.simpson(inner, u[:, 0])) < 1e-6


def test_top1_falls_with_candidates_and_noise_and_rises_with_rank_between_chance_and_one():
    counts = [1, 2, 5, 100, 10**4, 10**6]
    table = torch.stack([torch.stack([bayes_top1(counts, r, s) for s in (0.1, 0.3, 1.0, 4.0)]) for r in (1, 5, 30)])
    assert bool((table.diff(dim=-1) < 1e-9).all())
    assert bool((table.diff(dim=-2) < 1e-9).all())
    assert bool((table.diff(dim=-3) > -1e-9).all())
    assert bool((table * torch.tensor(counts) > 1 - 1e-4).all())
    for rank, best in zip((1, 5, 30), table, strict=True):
        assert bool((best[1] > inner_product_top1(counts, rank, 0.3) - 1e-6).all())


def test_very_large_noise_leaves_chance_and_the_two_formulas_meet_there():
    assert abs(float(bayes_top1(10, 3, 1e4)) - 0.1) < 1e-6
    below, above = (float(bayes_top1(10, 3, s)) for s in (6.99, 7.01))
    assert abs(below - above) < 1e-4


@pytest.mark.parametrize("rank", [100, 1600])
@pytest.mark.parametrize("nats", [math.log(1e4), math.log(1e8)])
def test_partners_are_found_below_the_information_and_lost_beyond_it(nats, rank):
    # the information density of a pair has mean I and, at large rank, standard deviation sqrt(2 I)
    noise = math.sqrt(1 / math.sqrt(1 - math.exp(-2 * nats / rank)) - 1)
    assert abs(information(rank, noise) - nats) < 1e-9
    below, at, above = bayes_top1([math.exp(nats + t * math.sqrt(2 * nats)) for t in (-1.5, 0, 1.5)], rank, noise)
    assert below > 0.95
    assert 0.5 < at < 0.75
    assert above < 0.25


def test_information_is_the_log_determinant_of_the_joint_covariance():
    s, r = 0.3, 10
    joint = np.block([[np.eye(r) * (1 + s**2), np.eye(r)], [np.eye(r), np.eye(r) * (1 + s**2)]])
    expected = r * math.log(1 + s**2) - np.linalg.slogdet(joint)[1] / 2
    assert abs(information(r, s) - expected) < 1e-10
    assert information(r, 0.0) == math.inf


@pytest.mark.parametrize(("rank", "noise_std"), [(4, 0.3), (10, 0.0), (6, 0.7)])
def test_a_stranger_beats_the_partner_with_at_most_half_the_chernoff_bound(rank, noise_std):
    z, e, e_tilde, stranger = normal(4, 400_000, rank, seed=1)
    u, lead = z + noise_std * e, z + noise_std * e_tilde - math.sqrt(1 + noise_std**2) * stranger
    beaten = float(((u * lead).sum(-1) < 0).double().mean())
    bound = (1 + 1 / (2 * (1 + noise_std**2) ** 2 - 1)) ** (-rank / 2) / 2
    assert 0.2 * bound < beaten < bound
    # the probability itself, given |u|: normal with mean -c |u|^2
    radius = torch.linalg.norm(u, dim=-1)
    c, v = 1 / (1 + noise_std**2), 1 + noise_std**2
    exact = float(scipy.stats.norm.cdf(-c * radius / math.sqrt(2 * v - c)).mean())
    assert abs(beaten - exact) < 5 * (bound / 400_000) ** 0.5
    # two rows: exact detection fails at most if one of two strangers wins in a row or in a column
    assert float(exact_detection_bound(2, rank, noise_std)) == pytest.approx(max(0, 1 - 4 * bound))


def test_rule_4_2_is_exact_as_often_as_predicted():
    for n, rank, draws in ((50, 20, 300), (50, 30, 300), (200, 30, 60), (200, 50, 60)):
        z, e, e_tilde = normal(3, draws, n, rank, seed=n + rank)
        g = torch.eye(rank, dtype=torch.float64)
        edges = detect_edges(z + 0.3 * e, z + 0.3 * e_tilde, g, g)
        share = float((edges[..., 0] == edges[..., 1]).all(-1).double().mean())
        predicted, below = (float(f(n, rank, 0.3)) for f in (exact_detection, exact_detection_bound))
        error, error_below = (4 * (p * (1 - p) / draws) ** 0.5 for p in (predicted, below))
        assert predicted - error - 1e-3 < share < predicted + error + 0.1  # failures cluster: a little low
        assert below - error_below - 1e-3 < share
        assert below < predicted + 1e-9


def test_exact_detection_switches_on_near_four_log_n_over_log_1_plus_1_over_kappa():
    kappa = 2 * (1 + 0.3**2) ** 2 - 1
    for n in (10**3, 10**6):
        switch = 4 * math.log(n) / math.log(1 + 1 / kappa)
        assert switch / math.log(n) == pytest.approx(7.3, abs=0.05)
        assert float(exact_detection_bound(n, math.floor(0.95 * switch), 0.3)) == 0
        assert float(exact_detection_bound(n, math.ceil(1.3 * switch), 0.3)) > 0.9


def test_the_threshold_solves_its_equation_and_is_the_papers_0_39():
    for m, n in ((50, 500), (3, 7), (1, 1)):
        p = partition_threshold(m, n)
        assert abs(m * (1 - 2 * p) - math.sqrt(n * p * (1 - p))) < 1e-10
    assert abs(partition_threshold(50, 500) - 0.391) < 5e-4


def test_singular_vectors_of_a_planted_graph_lose_the_classes_at_the_threshold():
    # overlap of the leading singular vectors with the classes: 1 - 1/theta^2 for signal theta over threshold
    generator, m, k = torch.Generator().manual_seed(3), 40, 5
    n = m * k
    block = torch.eye(k, dtype=torch.float64).repeat_interleave(m, 0)
    basis = torch.linalg.svd(block - block.mean(0))[0][:, : k - 1]
    edge = partition_threshold(m, n)
    overlaps = []
    for p in (edge - 0.1, edge, edge + 0.05):
        flips = torch.rand(8, n, n, generator=generator, dtype=torch.float64) < p
        e = (block @ block.T).bool() ^ flips
        u = torch.linalg.svd(e.double() - e.double().mean((-2, -1), keepdim=True))[0][..., : k - 1]
        overlaps.append(float((u.mT @ basis).square().sum((-2, -1)).mean() / (k - 1)))
    theta = m * (1 - 2 * (edge - 0.1)) / math.sqrt(n * (edge - 0.1) * (1.1 - edge))
    assert abs(overlaps[0] - (1 - theta**-2)) < 0.06
    assert overlaps[1] < 0.4
    assert overlaps[2] < 0.15


@pytest.mark.parametrize("predicted", [bayes_top1, inner_product_top1, exact_detection, exact_detection_bound])
def test_bad_arguments_of_the_limits_are_named(predicted):
    with pytest.raises(ValueError, match="candidates = 0"):
        predicted(0, 3, 0.3)
    with pytest.raises(ValueError, match="rank = 0"):
        predicted(5, 0, 0.3)
    with pytest.raises(ValueError, match="noise_std = -1"):
        predicted(5, 3, -1)
    with pytest.raises(ValueError, match="noise_std = nan"):
        information(3, math.nan)
    with pytest.raises(ValueError, match="per_class = 0"):
        partition_threshold(0, 10)
