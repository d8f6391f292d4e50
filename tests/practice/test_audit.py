"""The audit: bound, estimate and ranks against independent routes, and what may not change them."""

import re

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from helpers import normal
from sklearn.cross_decomposition import CCA

from mmcl import audit
from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.practice.audit import expected_rate
from mmcl.practice.robust import weighted_fit, whitened
from mmcl.practice.sentences import next_steps, summary, unnamed
from mmcl.practice.wrong_share import Binormal, estimate_share, most_wrong, stranger_ranks, upper_share


def test_a_rank_is_the_share_of_strangers_below():
    s = normal(7, 7, seed=1)
    others = [s[i, j] for i in range(7) for j in range(7) if i != j]
    for i, rank in enumerate(stranger_ranks(s)):
        assert float(rank) == pytest.approx((sum(float(o < s[i, i]) for o in others) + 0.5) / 43)
    assert torch.equal(stranger_ranks(torch.ones(5, 5)), torch.full((5,), 10.5 / 21))


SCORES = {
    "product": lambda a, b: a @ b.mT,
    "hubs": lambda a, b: a @ b.mT + 3 * a[:, :1].square() + 5 * b[:, 1:2].mT,
    "rows and columns only": lambda a, b: a[:, :1] + b[:, :1].mT,
}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_the_bound_covers_although_strangers_share_rows(score, share):
    n, draws, covered = 150, 120, 0
    for seed in range(draws):
        z = normal(n, 9, seed=seed)
        x, y = z[:, :3], 0.8 * z[:, :3] + 0.6 * z[:, 3:6]
        y[: round(share * n)] = z[: round(share * n), 6:]
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        ranks = [stranger_ranks(SCORES[score](x[f], y[f])) for f in order.chunk(5)]
        covered += upper_share(torch.cat(ranks)).high >= share - 1e-9
    assert covered / draws >= 0.95 - 2 * (0.05 * 0.95 / draws) ** 0.5


def test_wrong_pairs_vary_about_strangers_of_the_same_rows_no_more_than_a_binomial():
    gap = {name: [] for name in SCORES}
    for seed in range(800):
        a, b = normal(30, 3, seed=seed), normal(30, 3, seed=seed + 10_000)
        b[15:] = 0.9 * a[15:] + 0.2 * b[15:]  # right pairs are among the rows that strangers are made of
        for name, score in SCORES.items():
            gap[name].append(float((stranger_ranks(score(a, b))[:15] <= 0.5).sum()))
    for name, counts in gap.items():
        assert np.var(counts) < 1.1 * 15 / 4, name


def test_the_limit_is_the_largest_number_that_no_level_contradicts():
    counts = np.round(100 * np.linspace(0.02, 0.98, 97) * 0.4)
    limit = most_wrong(counts, 100, 0.95)
    assert 0.4 < limit < 0.7
    assert most_wrong(counts, 100, 0.5) < limit < most_wrong(counts, 100, 0.999)
    assert most_wrong(np.full(97, 100), 100, 0.95) == 1


def test_the_estimate_is_the_maximum_likelihood_that_an_optimiser_finds():
    z = normal(1500, seed=3)
    z[500:] = 1.8 + 0.6 * z[500:]
    share, model = estimate_share(torch.special.ndtr(z))

    def loss(t):
        p, density = 1 / (1 + np.exp(-t[0])), scipy.stats.norm.pdf
        return -np.log(p * density(z.numpy()) + (1 - p) * density(z.numpy(), t[1], np.exp(t[2]))).sum()

    best = scipy.optimize.minimize(loss, [-0.5, 1.5, -0.3], method="Nelder-Mead").x
    assert share.value == pytest.approx(1 / (1 + np.exp(-best[0])), abs=0.006)  # the grid's step is 0.005
    assert (model.mean, model.std) == pytest.approx((best[1], np.exp(best[2])), abs=0.02)
    assert share.low < 1 / 3 < share.high


def test_the_interval_of_the_estimate_covers_where_its_assumption_holds():
    inside = 0
    for seed in range(40):
        z = normal(400, seed=seed)
        wrong = 120
        z[wrong:] = 1.7 + 0.8 * z[wrong:]
        share, _ = estimate_share(torch.special.ndtr(z))
        inside += share.low - 0.0025 <= 0.3 <= share.high + 0.0025
    assert inside >= 35  # 95 % of 40, less two standard errors


def test_where_nothing_relates_the_estimate_says_so():
    share, model = estimate_share(torch.rand(500, generator=torch.Generator().manual_seed(0)).double())
    assert model.mean > 0.05 or (share.low, share.high) == (0, 1)
    assert share.high > 0.9


def test_the_probability_of_being_wrong_falls_with_the_rank():
    u = torch.linspace(0.001, 0.999, 500, dtype=torch.float64)
    for std in (0.4, 0.8, 1.0):
        p = Binormal(1.5, std, 0.3).probability_wrong(u)
        assert bool((p.diff() <= 1e-12).all())
    assert Binormal(1.0, 1.0, 0.5).auc == pytest.approx(scipy.stats.norm.cdf(1 / 2**0.5))


def test_a_fit_with_weights_of_nought_and_one_is_the_fit_of_a_part():
    x, y = normal(200, 6, seed=5), normal(200, 5, seed=6)
    y[:, 0] += x[:, 0]
    keep = torch.arange(200) < 120
    a, b = weighted_fit(x, y, keep.double(), 3), weighted_fit(x[keep], y[keep], torch.ones(120), 3)
    torch.testing.assert_close(a.g1, b.g1)
    torch.testing.assert_close(a.g2, b.g2)


def test_a_fit_of_whitened_pairs_is_canonical_correlation_analysis():
    p = spiked(800, 8, 7, rank=2, noise_std=0.5, seed=4)
    w = whitened(p.x, p.x_tilde, ridge=0.0)
    found = weighted_fit(w.x, w.x_tilde, torch.ones(800).double(), 2)
    cca = CCA(2, scale=False, max_iter=2000, tol=1e-10).fit(p.x.numpy(), p.x_tilde.numpy())
    assert sin_theta(w.map @ found.g1.mT, torch.tensor(cca.x_rotations_)) < 1e-4


def test_without_a_relation_pairs_score_as_strangers_do():
    """Those of a model that has seen them do not."""
    x, y = normal(300, 20, seed=7), normal(300, 20, seed=8)
    found = audit(x, y, n_components=10)
    assert scipy.stats.kstest(found.score.numpy(), "uniform").pvalue > 1e-3
    assert found.wrong_share_upper.high == 1
    assert not found.power.sees
    assert "could not have seen wrong" in str(found.power)
    assert summary(found, related=2, sure=None).endswith("Whether pairs are wrong cannot be seen here.")
    told = " ".join(next_steps(found, related=1, rank=3, sure=None))
    assert "cannot be seen here" in told
    assert "suspects.csv" not in told
    seen = weighted_fit(x, y, torch.ones(300).double(), 10)
    ranks = stranger_ranks((x @ seen.g1.mT) @ (y @ seen.g2.mT).mT)
    assert scipy.stats.kstest(ranks.numpy(), "uniform").pvalue < 1e-12


def shuffled_pairs(seed, n=400, share=0.3, noise_std=0.4):
    p = spiked(n, 12, 10, rank=4, noise_std=noise_std, wrong_share=share, seed=seed)
    return p.x, p.x_tilde, p.wrong


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_the_power_is_not_above_how_often_a_right_pair_scores_above_strangers_nor_far_below(share):
    x, y, wrong = shuffled_pairs(3, n=800, share=share, noise_std=0.8)
    found = audit(x, y, n_components=4, rounds=2)
    above = float(found.score[~wrong].mean())  # the score is the share of strangers below
    assert above - 0.2 < found.power.auc < above + 0.02
    assert found.power.sees


def test_units_and_containers_change_nothing():
    x, y, _ = shuffled_pairs(1)
    before = x.clone()
    plain = audit(x, y, n_components=4, rounds=2)
    assert torch.equal(x, before)
    units = torch.logspace(-3, 3, 12, dtype=torch.float64)
    torch.testing.assert_close(audit(5 + x * units, y, n_components=4, rounds=2).score, plain.score)
    torch.testing.assert_close(audit(x.numpy()[:, ::-1], y.numpy(), n_components=4, rounds=2).score, plain.score)


def test_with_trusted_pairs_the_share_of_right_pairs_among_suspects_is_controlled():
    false, caught = [], []
    for seed in range(6):
        x, y, wrong = shuffled_pairs(seed)
        trusted = ~wrong & (torch.arange(400) % 2 == 0)
        found = audit(x, y, n_components=4, rounds=2, trusted=trusted, fdr=0.2, random_state=seed)
        assert not bool(trusted[found.suspects].any())
        false.append(float((~wrong[found.suspects]).double().mean()) if len(found.suspects) else 0.0)
        caught.append(len(found.suspects))
    assert np.mean(false) <= 0.2 + 2 * np.std(false) / 6**0.5
    assert np.mean(caught) > 60


def test_bad_input_ends_in_one_sentence():
    x, y, _ = shuffled_pairs(2, n=60)
    for arguments, options, message in (
        ((x[:40], y[:40]), {}, "n = 40 pairs; an audit"),
        ((x, y[:-1]), {}, "59"),
        ((x, y * torch.nan), {}, "NaN"),
        ((x, y), {"fdr": 2.0}, "fdr = 2.0"),
        ((x, y), {"confidence": 1.0}, "confidence = 1.0"),
        ((x, y), {"folds": 1}, "folds = 1"),
        ((x, y), {"trusted": [True]}, "trusted has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            audit(*arguments, **options)


def test_the_expected_rate_is_the_mean_probability_of_being_right_among_the_more_suspect():
    score, right = normal(9, seed=3).sigmoid(), normal(9, seed=4).sigmoid()
    rate = expected_rate(1 - right, score, torch.zeros(9, dtype=torch.bool))
    for i in range(9):
        assert float(rate[i]) == pytest.approx(float(right[score <= score[i]].mean()))


def test_weights_are_roots_of_the_probability_of_being_right_and_bring_the_refit_nearer():
    p = spiked(400, 12, 10, rank=4, noise_std=0.4, wrong_share=0.5, seed=3)
    found = audit(p.x, p.x_tilde, n_components=4, ridge=0.0)
    torch.testing.assert_close(found.weight.square(), 1 - found.probability, atol=1e-7, rtol=0)
    w = whitened(p.x, p.x_tilde, ridge=0.0)
    alike, known = (w.map @ weighted_fit(w.x, w.x_tilde, a.double(), 4).g1.mT for a in (torch.ones(400), ~p.wrong))
    assert sin_theta(found.refit.g1.mT, known) < sin_theta(alike, known)


def test_what_the_list_leaves_is_said_and_true():
    x, y, wrong = shuffled_pairs(seed=4, n=1000, noise_std=0.6)
    found = audit(x, y, n_components=4)
    expected, left = (int(v.replace(",", "")) for v in re.findall(r"[\d,]+(?= wrong| are)", unnamed(found)))
    missed = int(wrong.sum()) - int(wrong[found.suspects].sum())
    spread = (found.wrong_share.high - found.wrong_share.low) * len(x)
    assert abs(expected - int(wrong.sum())) < spread
    assert abs(left - missed) < spread < missed
    assert len(found.suspects) > spread
    assert f"{len(found.suspects)} suspects" in summary(found, related=4, sure=None)
