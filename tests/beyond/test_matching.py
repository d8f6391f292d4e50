"""Summaries of scores, edge rules and log odds, walked in blocks."""

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from helpers import normal

from mmcl.beyond import matching
from mmcl.beyond.matching import EDGE_RULES, Scores, log_odds


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


def test_scores_of_edges_are_entries_of_the_matrix():
    a, b = normal(7, 3, seed=5), normal(9, 3, seed=6)
    edges = torch.tensor([[0, 8], [6, 2], [3, 3], [6, 0]])
    torch.testing.assert_close(Scores(a, b).of(edges), (a @ b.mT)[edges[:, 0], edges[:, 1]])
