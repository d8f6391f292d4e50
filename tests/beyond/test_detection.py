"""Density ratios that hold for new pairs, and detection with and without error control."""

import pytest
import torch
from helpers import overlapping, shuffled

from mmcl.beyond.cross_fit import cross_fit, log_likelihood
from mmcl.beyond.detection import calibrate, detect_pairs, evidence, score_matrix
from mmcl.beyond.matching import EDGE_RULES, Scores
from mmcl.beyond.ratio import SCORES, gaussian_ratio
from mmcl.beyond.refit import detect_and_refit
from mmcl.data import spiked
from mmcl.spectral import fit


def test_in_a_complete_matching_row_and_column_terms_cancel():
    p = spiked(260, 12, 10, 3, noise_std=0.3, seed=21)
    ratio = calibrate(fit(p.x[:60], p.x_tilde[:60], 3), p.x[:60], p.x_tilde[:60])
    a, b = SCORES["density_ratio"](ratio, p.x[60:], p.x_tilde[60:])
    assert torch.equal(EDGE_RULES["assignment"](Scores(a, b)), EDGE_RULES["assignment"](Scores(a[:, :3], b[:, :3])))


def test_calibrated_ratio_is_likelier_on_new_pairs_than_the_plain_one_and_near_the_true_correlation():
    gain, shrink = [], []
    for seed in range(5):
        p = spiked(1060, 30, 28, 6, noise_std=0.5, seed=seed)
        few, new = (p.x[:60], p.x_tilde[:60]), (p.x[60:], p.x_tilde[60:])
        g = fit(*few, 6)
        plain, ours = gaussian_ratio(g, *few), calibrate(g, *few)
        one = torch.ones(1, dtype=torch.float64)
        gain.append(float(log_likelihood(ours, *new, one) - log_likelihood(plain, *new, one)))
        shrink.append(float((ours.correlations / plain.correlations).mean()))
    assert min(gain) > 0
    assert 0.6 < min(shrink) <= max(shrink) < 0.98
    p = spiked(20_000, 30, 28, 6, noise_std=0.5, seed=9)
    many = calibrate(fit(p.x, p.x_tilde, 6), p.x, p.x_tilde).correlations
    torch.testing.assert_close(many, torch.full_like(many, 1 / 1.25), atol=0.03, rtol=0)


def test_a_fold_is_left_out_with_its_known_pairs_and_with_the_edges_of_its_rows():
    data, _, _ = overlapping(10, 9, 8, 8, seed=23, rank=2)
    found = torch.tensor([[0, 3], [4, 1], [6, 2], [8, 0]])
    x, x_tilde = cross_fit(*data, 2, folds=4).pairs(found, without=0)
    expected = torch.cat([data[0][[1, 2, 3, 5, 6, 7, 9]], data[2][[6]]])
    assert torch.equal(x, expected)
    assert torch.equal(x_tilde[-1], data[3][2])
    assert len(cross_fit(*data, 2, folds=4).pairs(found)[0]) == 14


def test_log_likelihood_is_the_sum_of_the_scores_of_the_pairs():
    p = spiked(50, 8, 7, 3, seed=13)
    ratio = gaussian_ratio(fit(p.x, p.x_tilde, 3), p.x, p.x_tilde)
    total = log_likelihood(ratio, p.x, p.x_tilde, torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(total[0], score_matrix(ratio, p.x, p.x_tilde).diagonal().sum())


def test_detection_follows_a_permutation_of_the_rows_and_leaves_its_input_alone():
    p, order = spiked(330, 12, 10, 3, seed=15), shuffled(250)
    known, rest = (p.x[:80], p.x_tilde[:80]), (p.x[80:], p.x_tilde[80:])
    copies = [a.clone() for a in (p.x, p.x_tilde)]
    plain = detect_pairs(fit(*known, 3), *known, *rest)
    moved = detect_pairs(fit(*known, 3), *(a.numpy() for a in known), rest[0], rest[1][order])
    back = torch.stack([moved.pairs[:, 0], order[moved.pairs[:, 1]]], 1)
    assert torch.equal(back, plain.pairs)
    torch.testing.assert_close(moved.confidence, plain.confidence)
    assert torch.equal(p.x, copies[0])
    assert torch.equal(p.x_tilde, copies[1])


def test_bad_input_of_detection_is_named():
    data, _, _ = overlapping(40, 30, 30, 30, seed=17)
    x, x_tilde, more, more_tilde = data
    for arguments, options, message in (
        ((x[:0], x_tilde[:0], more, more_tilde), {}, "n = 0 pairs"),
        ((x[:6], x_tilde[:6], more, more_tilde), {}, "n = 6 pairs in 5 folds leave 4"),
        ((x, x_tilde[:-1], more, more_tilde), {}, "39"),
        ((x, x_tilde, more[:, 1:], more_tilde), {}, r"x_unpaired has shape \(30, 19\)"),
        ((x, x_tilde, more, more_tilde * torch.nan), {}, "x_tilde_unpaired holds 540 NaN"),
        ((x.expand(2, 40, 20), x_tilde.expand(2, 40, 18), more, more_tilde), {}, "one data set at a time"),
        (data, {"rule": "best"}, "rule = 'best'; use one of top_b"),
        (data, {"score": "euclid"}, "score = 'euclid'"),
        (data, {"fdr": 0.0}, "fdr = 0.0"),
        (data, {"rounds": 0}, "rounds = 0"),
    ):
        with pytest.raises(ValueError, match=message):
            detect_and_refit(*arguments, 5, **options)
    with pytest.raises(ValueError, match="no density ratio; use mmcl.beyond.detection.calibrate"):
        score_matrix(fit(x, x_tilde, 5), x, x_tilde)
    with pytest.raises(ValueError, match="fit.pairs goes up to"):
        detect_pairs(detect_and_refit(*data, 5), x, x_tilde, more[:5], more_tilde)


def shares(draws, partners, fdr, rows=300, columns=300, refit=False, **model):
    """Share of wrong pairs among the detected, and recall, over draws."""
    found = []
    for seed in range(draws):
        data, lag, _ = overlapping(200, rows, columns, partners, seed + 100, **model)
        how = detect_and_refit(*data, 5, fdr=fdr, rounds=2) if refit else detect_pairs(fit(*data[:2], 5), *data, fdr)
        right = how.pairs[:, 0] - how.pairs[:, 1] == lag
        assert len(how.pairs[:, 1].unique()) == len(right)
        found.append((float((~right).sum()) / max(1, len(right)), float(right.sum()) / max(1, partners)))
    return torch.tensor(found).T


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("fdr", [0.05, 0.2])
def test_share_of_wrong_pairs_is_at_most_the_rate_asked_for(fdr, refit):
    wrong, recall = shares(12, 150, fdr, noise_std=0.15, refit=refit)
    assert wrong.mean() <= fdr + 2 * wrong.std() / 12**0.5
    assert recall.mean() > 0.35


def test_a_smaller_rate_keeps_the_pairs_that_say_so():
    data, _, _ = overlapping(150, 300, 250, 200, seed=22, noise_std=0.15)
    plain = fit(*data[:2], 5)
    some, more = (detect_pairs(plain, *data, fdr=q) for q in (0.03, 0.3))
    assert 0 < len(some.pairs) < len(more.pairs)
    assert torch.equal(more.pairs[more.rate <= 0.03], some.pairs)
    assert detect_pairs(plain, *data).rate is None


@pytest.mark.parametrize(("rows", "columns"), [(120, 60), (60, 120)])
def test_pairs_above_all_null_statistics_have_the_smallest_rate_there_is(rows, columns):
    data, lag, _ = overlapping(100, rows, columns, 50, seed=24, noise_std=0.03)
    found = detect_pairs(fit(*data[:2], 5), *data, fdr=0.2)
    top = found.rate == found.rate.min()
    assert bool((found.pairs[top, 0] - found.pairs[top, 1] == lag).all())
    # half a null statistic of either side is taken to lie above: an expectation of (N1 + N2)/2 / (2n + 1) false pairs
    assert float(found.rate.min()) == pytest.approx((rows + columns) / 2 / (2 * 100 + 1) / int(top.sum()))


def test_with_unequal_sides_and_with_no_partner_at_all_the_rate_holds_too():
    for rows, columns, partners in ((300, 100, 60), (100, 300, 60), (300, 300, 0)):
        wrong, _ = shares(12, partners, 0.2, rows, columns, noise_std=0.2)
        assert wrong.mean() <= 0.2 + 2 * (0.2 * 0.8 / 12) ** 0.5


def test_the_rates_are_those_of_p_values_counted_one_by_one():
    data, _, _ = overlapping(60, 80, 80, 50, seed=25, noise_std=0.15)
    e = evidence(cross_fit(*data, 5, folds=5), torch.empty(0, 2, dtype=torch.int64))
    wrong = e.null_rows.tolist() + e.null_columns.tolist()
    values = [(1 + sum(w >= o for w in wrong)) / (2 * 60 + 1) for o in e.odds.tolist()]
    ordered = sorted(values)
    rates = {v: min(ordered[k] * 80 / (k + 1) for k in range(80) if ordered[k] >= v) for v in values}
    found = detect_pairs(fit(*data[:2], 5), *data, fdr=0.3)
    assert found.rate is not None
    assert found.rate.tolist() == pytest.approx([rates[values[i]] for i in found.pairs[:, 0].tolist()])
    assert torch.equal(e.at[found.pairs[:, 0]], found.pairs[:, 1])


def test_wrong_guesses_of_known_pairs_look_like_those_of_rows_without_partner():
    data, _, _ = overlapping(300, 300, 300, 0, seed=26, noise_std=0.3)
    e = evidence(cross_fit(*data, 5, folds=5), torch.empty(0, 2, dtype=torch.int64))
    spread = float(e.odds.std()) * (2 / 300) ** 0.5
    for null in (e.null_rows, e.null_columns):
        assert float(null.mean()) == pytest.approx(float(e.odds.mean()), abs=4 * spread)
