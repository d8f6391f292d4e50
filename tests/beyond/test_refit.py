"""Detecting partners and fitting again, by every rule and score."""

import pytest
import torch
from helpers import overlapping, shuffled

from mmcl.beyond.matching import EDGE_RULES
from mmcl.beyond.ratio import SCORES
from mmcl.beyond.refit import detect_and_refit
from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.spectral import fit


@pytest.mark.parametrize("rule", EDGE_RULES)
@pytest.mark.parametrize("score", SCORES)
def test_every_rule_and_score_finds_partners(rule, score):
    p = spiked(460, 20, 18, 5, noise_std=0.1, seed=14)
    order = shuffled(400)
    result = detect_and_refit(p.x[:60], p.x_tilde[:60], p.x[60:], p.x_tilde[60:][order], 5, rule, score, fdr=None)
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
        found = detect_and_refit(*data, 4, rule="row_and_column_argmax", fdr=None)
        sure.append(found.confidence)
        right.append((found.pairs[:, 0] - found.pairs[:, 1] == lag).double())
    sure, right = torch.cat(sure), torch.cat(right)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        here = (sure > low) & (sure <= low + 0.2)
        assert -0.1 < right[here].mean() - sure[here].mean() < 0.3


def test_one_wrong_pair_in_ten_is_accepted_unless_told_otherwise():
    rows, _, _ = overlapping(150, 100, 100, 50, seed=0)
    usual, tenth, fifth = (detect_and_refit(*rows, 5, **how).pairs for how in ({}, {"fdr": 0.1}, {"fdr": 0.2}))
    assert torch.equal(usual, tenth)
    assert 0 < len(tenth) < len(fifth)


@pytest.mark.parametrize(("fdr", "partners", "noise_std"), [(None, 400, 0.4), (0.2, 250, 0.1)])
def test_confidence_learned_from_hidden_known_pairs_is_the_share_that_is_right(fdr, partners, noise_std):
    """Some 500 pairs and 450 hidden ones: three standard errors of the difference of their shares are 0.08."""
    sure, right = [], []
    for seed in range(3):
        data, lag, _ = overlapping(150, 400, 400, partners, seed, noise_std=noise_std, rank=4)
        found = detect_and_refit(*data, 4, fdr=fdr)
        sure.append(found.confidence)
        right.append((found.pairs[:, 0] - found.pairs[:, 1] == lag).double())
    sure, right = torch.cat(sure), torch.cat(right)
    assert len(sure) > 400
    assert abs(float(sure.mean() - right.mean())) < 0.08
    assert right[sure > 0.8].mean() > 0.75
    assert fdr or right[sure < 0.2].mean() < 0.2


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
