"""Unpaired data: the loss L', scores and edge rules, detection with and without error control, training, refitting."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from mmcl.beyond import matching
from mmcl.beyond.detection import calibrate, cross_fit, detect_pairs, log_likelihood, score_matrix
from mmcl.beyond.matching import EDGE_RULES, Scores, log_odds
from mmcl.beyond.ratio import SCORES, gaussian_ratio
from mmcl.beyond.refit import detect_and_refit
from mmcl.covariance import cross_covariance, loss_and_covariance
from mmcl.data import spiked
from mmcl.experiments.section_5_2 import train_published
from mmcl.losses import CLIP
from mmcl.metrics import sin_theta
from mmcl.spectral import fit
from mmcl.training import random_encoders
from mmcl.unpaired import UnpairedLoss


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shuffled(n, seed=0):
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def overlapping(n, rows, columns, partners, seed, noise_std=0.3, rank=5):
    """Known pairs, unpaired rows of which some have partners, and the lag i - j at which these stand."""
    p = spiked(n + rows + columns - partners, 20, 18, rank, noise_std=noise_std, seed=seed)
    start = n + rows - partners
    rest = p.x[n : n + rows], p.x_tilde[start : start + columns]
    return (p.x[:n], p.x_tilde[:n], *rest), rows - partners, p


# ---------------------------------------------------------------- the loss L'

EDGES = {"given": torch.tensor([[0, 1], [0, 2], [3, 3], [6, 0], [2, 5]]), "largest": None}


@pytest.mark.parametrize("kind", EDGES)
def test_value_of_the_unpaired_loss_is_the_written_formula(kind):
    s = 3 * normal(7, 7)
    chosen = torch.zeros(7, 7)
    if kind == "given":
        for i, j in EDGES[kind].tolist():
            chosen[i, j] = 1
    else:
        chosen[s >= s.flatten().sort(descending=True).values[6]] = 1
    m, a = int(chosen.sum()), s.numpy()
    pull = (a * chosen.numpy()).sum() / m
    push = sum(scipy.special.logsumexp(a / 0.5, axis).sum() for axis in (0, 1)) * 0.5 / (2 * m)
    assert float(UnpairedLoss(EDGES[kind], tau=0.5)(s)) == pytest.approx(push - pull, abs=1e-12)


@pytest.mark.parametrize("kind", EDGES)
def test_weights_of_the_unpaired_loss_are_minus_n_times_its_derivative(kind):
    s = (2 * normal(3, 7, 7, seed=1)).requires_grad_()
    loss = UnpairedLoss(EDGES[kind], tau=0.7)
    (slope,) = torch.autograd.grad(loss(s).sum(), s)
    torch.testing.assert_close(loss.weights(s.detach()), -7 * slope, atol=1e-13, rtol=0)


def test_gradient_of_the_unpaired_loss_is_the_trace_gradient_of_its_cross_covariance():
    x, x_tilde = normal(30, 6, seed=2), normal(30, 5, seed=3)
    g1, g2 = (g.requires_grad_() for g in random_encoders(x, x_tilde, 3, seed=4))
    loss = UnpairedLoss(tau=0.5)
    s = (x @ g1.mT) @ (x_tilde @ g2.mT).mT
    slopes = torch.autograd.grad(loss(s), (g1, g2))
    c = cross_covariance(x, x_tilde, loss.weights(s.detach()))
    torch.testing.assert_close(slopes[0], -g2 @ c.mT, atol=1e-12, rtol=0)
    torch.testing.assert_close(slopes[1], -g1 @ c, atol=1e-12, rtol=0)


def test_unpaired_loss_on_the_diagonal_is_clip_also_for_huge_similarities():
    own = torch.arange(9).unsqueeze(1).expand(9, 2)
    for s in (normal(9, 9, seed=5), 1e4 * normal(9, 9, seed=6)):
        torch.testing.assert_close(UnpairedLoss(own, 2.0)(s), CLIP(2.0)(s))
        torch.testing.assert_close(UnpairedLoss(own, 2.0).weights(s), CLIP(2.0).weights(s), atol=1e-10, rtol=0)


def test_unpaired_loss_walked_in_blocks_is_the_whole(monkeypatch):
    p = spiked(50, 8, 7, 3, seed=7)
    g1, g2 = random_encoders(p.x, p.x_tilde, 3, seed=8)
    loss = UnpairedLoss(torch.stack([shuffled(50), shuffled(50, 1)], 1)[:40])
    whole = loss_and_covariance(p.x, p.x_tilde, g1, g2, loss)
    s = (p.x @ g1.mT) @ (p.x_tilde @ g2.mT).mT
    torch.testing.assert_close(whole, (loss(s), cross_covariance(p.x, p.x_tilde, loss.weights(s))))
    monkeypatch.setattr("mmcl.covariance.KEEP", 100)
    monkeypatch.setattr("mmcl.covariance.BLOCK", 350)
    torch.testing.assert_close(loss_and_covariance(p.x, p.x_tilde, g1, g2, loss), whole)


def test_fit_of_the_unpaired_loss_on_true_edges_is_clips_fit_on_the_pairs():
    p, order = spiked(60, 8, 7, 3, seed=9), shuffled(60, 2)
    with_pairs = fit(p.x, p.x_tilde, 3, CLIP(0.5), tol=1e-9)
    with_edges = fit(p.x, p.x_tilde[order], 3, UnpairedLoss(torch.stack([order, torch.arange(60)], 1), 0.5), tol=1e-9)
    torch.testing.assert_close(with_edges.g1, with_pairs.g1, atol=1e-6, rtol=0)
    torch.testing.assert_close(with_edges.loss, with_pairs.loss)


def test_bad_edges_and_temperatures_are_named():
    for arguments, message in (
        ({"tau": 0}, "tau = 0"),
        ({"edges": torch.zeros(3, 3, dtype=torch.int64)}, "edges of shape"),
        ({"edges": torch.zeros(0, 2, dtype=torch.int64)}, "m >= 1"),
        ({"edges": torch.zeros(3, 2)}, "integer"),
    ):
        with pytest.raises(ValueError, match=message):
            UnpairedLoss(**arguments)
    with pytest.raises(ValueError, match="edges run from 0 to 4; allowed are 0 to 3"):
        UnpairedLoss(torch.tensor([[0, 4]]))(normal(4, 4))
    assert repr(UnpairedLoss(tau=0.5)) == "UnpairedLoss(largest entries, tau=0.5)"


# ---------------------------------------------------------------- scores and edges


def test_density_ratio_is_the_difference_of_gaussian_log_densities():
    p = spiked(400, 9, 8, 3, noise_std=0.5, seed=10)
    x, x_tilde = p.x + 2, 3 * p.x_tilde - 1
    g = fit(x, x_tilde, 3)
    u, v = (x @ g.g1.mT).numpy(), (x_tilde @ g.g2.mT).numpy()
    both = np.concatenate([u, v], 1)
    gauss = [scipy.stats.multivariate_normal(a.mean(0), np.cov(a.T)) for a in (both, u, v)]
    s = score_matrix(gaussian_ratio(g, x, x_tilde), x[:6], x_tilde[:5])
    for i in range(6):
        for j in range(5):
            expected = gauss[0].logpdf(np.concatenate([u[i], v[j]])) - gauss[1].logpdf(u[i]) - gauss[2].logpdf(v[j])
            assert float(s[i, j]) == pytest.approx(expected, abs=1e-9)


def test_density_ratio_does_not_see_invertible_maps_of_the_encodings_and_takes_batches():
    p = spiked(200, 9, 8, 3, noise_std=0.5, draws=2, seed=11)
    g = fit(p.x, p.x_tilde, 3)
    plain = gaussian_ratio(g, p.x, p.x_tilde)
    mapped = gaussian_ratio(type(plain)(normal(3, 3) @ g.g1, normal(3, 3, seed=1) @ g.g2, *[None] * 5), p.x, p.x_tilde)
    s = score_matrix(plain, p.x, p.x_tilde)
    torch.testing.assert_close(score_matrix(mapped, p.x, p.x_tilde), s, atol=1e-8, rtol=0)
    alone = gaussian_ratio(fit(p.x[1], p.x_tilde[1], 3), p.x[1], p.x_tilde[1])
    torch.testing.assert_close(score_matrix(alone, p.x[1], p.x_tilde[1]), s[1], atol=1e-8, rtol=0)


def test_cosine_and_inner_product_are_themselves():
    p = spiked(30, 6, 5, 2, seed=12)
    g = fit(p.x, p.x_tilde, 2)
    u, v = p.x.numpy() @ g.g1.numpy().T, p.x_tilde.numpy() @ g.g2.numpy().T
    inner = u @ v.T
    for name, s in (
        ("inner_product", inner),
        ("cosine", inner / np.outer(*(np.linalg.norm(a, axis=1) for a in (u, v)))),
    ):
        a, b = SCORES[name](g, p.x, p.x_tilde)
        torch.testing.assert_close(a @ b.mT, torch.as_tensor(s))


@pytest.mark.parametrize("scale", [1.0, 500.0])
def test_summary_in_blocks_is_the_summary_of_the_matrix(monkeypatch, scale):
    monkeypatch.setattr("mmcl.beyond.matching.BLOCK", 240)
    scores = Scores(scale * normal(31, 4), normal(23, 4, seed=1))
    s, found = scores.a @ scores.b.mT, scores.summary
    assert torch.equal(found.row_at, s.argmax(1))
    for best, total, dim in ((found.row_best, found.row_sum, 1), (found.column_best, found.column_sum, 0)):
        torch.testing.assert_close(best, s.amax(dim))
        torch.testing.assert_close(total, s.logsumexp(dim), atol=1e-9, rtol=0 if scale == 1 else 1e-3)


def by_hand(rule, s):
    """The edges of a rule as a set of pairs, from a whole matrix, with loops."""
    rows, columns = range(s.shape[0]), range(s.shape[1])
    of_row, of_column = {(i, int(s[i].argmax())) for i in rows}, {(int(s[:, j].argmax()), j) for j in columns}
    if rule == "row_and_column_argmax":
        return of_row | of_column
    if rule == "mutual":
        return of_row & of_column
    if rule == "assignment":
        return set(zip(*(a.tolist() for a in scipy.optimize.linear_sum_assignment(-s)), strict=True))
    level = np.sort(s.ravel())[-min(s.shape)]
    return {(i, j) for i in rows for j in columns if s[i, j] >= level}


@pytest.mark.parametrize("rule", EDGE_RULES)
@pytest.mark.parametrize("shape", [(12, 12), (9, 14), (14, 9)])
def test_edge_rules_in_blocks_are_those_done_by_hand(monkeypatch, rule, shape):
    monkeypatch.setattr("mmcl.beyond.matching.BLOCK", 160)
    scores = Scores(normal(shape[0], 4), normal(shape[1], 4, seed=1))
    found = [tuple(e) for e in EDGE_RULES[rule](scores).tolist()]
    assert len(set(found)) == len(found)
    assert set(found) == by_hand(rule, (scores.a @ scores.b.mT).numpy())


def test_an_assignment_too_large_to_keep_is_the_mutual_neighbours_and_too_many_edges_are_refused(monkeypatch):
    scores = Scores(normal(9, 4), normal(8, 4, seed=1))
    assert len(EDGE_RULES["top_b"](scores, 72)) == 72
    with pytest.raises(ValueError, match="count = 73 edges; 9 x 8 rows have 72"):
        EDGE_RULES["top_b"](scores, 73)
    monkeypatch.setattr(matching, "DENSE", 71)
    assert torch.equal(EDGE_RULES["assignment"](scores), EDGE_RULES["mutual"](scores))


@pytest.mark.parametrize("own", [True, False])
def test_log_odds_are_the_sum_over_excluded_pairs_done_by_hand(monkeypatch, own):
    monkeypatch.setattr("mmcl.beyond.matching.BLOCK", 120)
    a, b, rivals = normal(7, 3), normal(9, 3, seed=1), normal(11, 3, seed=2)
    rivals = torch.cat([a, rivals]) if own else rivals
    e, all_rows = np.exp((a @ b.mT).numpy()), np.exp((rivals @ b.mT).numpy())
    found, at = log_odds(Scores(a, b), torch.as_tensor(np.log(all_rows.sum(0))), 2.0, own)
    for i in range(7):
        rival = [k for k in range(len(rivals)) if not own or k != i]
        odds = e[i] / (2 + e[i].sum() - e[i] + all_rows[rival].sum(0))
        assert int(at[i]) == int(np.argmax(odds))
        assert float(found[i]) == pytest.approx(np.log(odds.max()), abs=1e-9)


# ---------------------------------------------------------------- detection


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


@pytest.mark.parametrize("rule", EDGE_RULES)
@pytest.mark.parametrize("score", SCORES)
def test_every_rule_and_score_finds_partners(rule, score):
    p = spiked(460, 20, 18, 5, noise_std=0.1, seed=14)
    order = shuffled(400)
    result = detect_and_refit(p.x[:60], p.x_tilde[:60], p.x[60:], p.x_tilde[60:][order], 5, rule, score)
    right = (order[result.pairs[:, 1]] == result.pairs[:, 0]).double().mean()
    if score == "inner_product" and rule in ("top_b", "row_and_column_argmax"):
        assert 0.02 < right < 0.2  # it prefers long rows: little more than chance, 1/400
        return
    assert right > 0.75
    assert torch.equal(result.history[0].g1, fit(p.x[:60], p.x_tilde[:60], 5).g1)
    assert sin_theta(result.g1.mT, p.u1) < 0.7 * sin_theta(result.history[0].g1.mT, p.u1)


def test_confidence_is_calibrated_to_the_safe_side():
    sure, right = [], []
    for seed in range(3):
        data, lag, _ = overlapping(150, 800, 800, 800, seed, rank=4)
        found = detect_and_refit(*data, 4, edges="row_and_column_argmax")
        sure.append(found.confidence)
        right.append((found.pairs[:, 0] - found.pairs[:, 1] == lag).double())
    sure, right = torch.cat(sure), torch.cat(right)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        here = (sure > low) & (sure <= low + 0.2)
        assert -0.1 < right[here].mean() - sure[here].mean() < 0.3


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


@pytest.mark.parametrize("fdr", [None, 0.2])
def test_unequal_numbers_of_rows_are_allowed_and_none_is_no_detection(fdr):
    for rows, columns in ((300, 120), (120, 300)):
        data, lag, _ = overlapping(100, rows, columns, 120, seed=16, noise_std=0.1)
        found = detect_and_refit(*data, 5, fdr=fdr)
        assert (found.pairs[:, 0] - found.pairs[:, 1] == lag).double().mean() > 0.75
        assert len(found.pairs) > 80
    empty = detect_and_refit(*data[:2], data[2][:0], data[3], 5, fdr=fdr)
    torch.testing.assert_close(empty.g1, fit(*data[:2], 5).g1)
    assert empty.pairs.shape == (0, 2)
    assert len(empty.confidence) == 0


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
        (data, {"edges": "best"}, "edges = 'best'; use one of top_b"),
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


# ---------------------------------------------------------------- training as published


def test_training_is_the_published_loop_written_out():
    p = spiked(160, 8, 7, 3, seed=18)
    data = p.x[:40], p.x_tilde[:40], p.x[40:], p.x_tilde[40:]
    first, both = train_published(*data, 3, tau=0.8, lr=0.01, epochs=3, epochs_unpaired=2, batch_size=20, seed=5)
    layers = [torch.nn.Linear(d, 3, bias=False, dtype=torch.float64) for d in (8, 7)]
    for layer, g in zip(layers, random_encoders(*data[:2], 3, 5), strict=True):
        layer.weight.data = g.clone()
    optimizer = torch.optim.AdamW([layer.weight for layer in layers], lr=0.01)
    for stage, (a, b, epochs) in enumerate(((*data[:2], 3), (*data[2:], 2))):
        for _ in range(epochs):
            for i in range(0, len(a), 20):
                u, v = (torch.nn.functional.normalize(f(c[i : i + 20])) for f, c in zip(layers, (a, b), strict=True))
                s = u @ v.T / 0.8
                edge = s.diagonal() if stage == 0 else s.flatten().sort(descending=True).values[:20]
                loss = 0.8 * (s.exp().sum(1).log().sum() + s.exp().sum(0).log().sum() - 2 * edge.sum()) / 40
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        for layer, g in zip(layers, (first, both)[stage], strict=True):
            torch.testing.assert_close(layer.weight.data, g)


def test_draws_are_trained_apart():
    p = spiked(60, 8, 7, 3, draws=2, seed=19)
    changed = p.x.clone()
    changed[1] = changed[1].flip(0)
    runs = [
        train_published(
            x[:, :20], p.x_tilde[:, :20], x[:, 20:], p.x_tilde[:, 20:], 3, epochs=2, epochs_unpaired=2, batch_size=10
        )[1]
        for x in (p.x, changed)
    ]
    torch.testing.assert_close(runs[0].g1[0], runs[1].g1[0])
    assert (runs[0].g1[1] - runs[1].g1[1]).abs().max() > 1e-3


def test_rows_without_counterpart_are_not_trained_on_and_batches_larger_than_the_data_are_refused():
    p = spiked(60, 8, 7, 3, seed=20)
    known, how = (p.x[:20], p.x_tilde[:20]), dict(rank=3, epochs=1, epochs_unpaired=1, batch_size=10)
    longer = train_published(*known, p.x[20:], p.x_tilde[20:50], **how)[1]
    torch.testing.assert_close(longer, train_published(*known, p.x[20:50], p.x_tilde[20:50], **how)[1])
    with pytest.raises(ValueError, match="batch_size = 50, but there are only 40"):
        train_published(p.x[20:], p.x_tilde[20:], p.x[:20], p.x_tilde[:20], 3, epochs=0)
