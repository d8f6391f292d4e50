"""Noise on graphs, over many draws, and the accuracy of Section 5.1."""

import pytest
import torch
from helpers import normal

from mmcl.experiments.labelled import Labelled
from mmcl.experiments.section_5_1_linear import class_retrieval, noisy_graphs, per_class
from mmcl.graph import class_graph, graph_covariance


def close(a, b, tol=1e-10):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=tol, atol=tol)


def test_class_retrieval_is_a_double_loop_over_queries_and_sets():
    z, sets, labels = normal(2, 9, 3), normal(2, 4, 5, 3, seed=1), torch.arange(9) % 5
    found = class_retrieval(z, sets, labels)
    for b in range(2):
        right = [
            int(max(range(5), key=lambda c: torch.cosine_similarity(z[b, i], one[c], dim=0)) == labels[i])
            for i in range(9) for one in sets[b]
        ]  # fmt: skip
        assert abs(float(found[b]) - sum(right) / len(right)) < 1e-12


def test_rows_per_class_are_of_the_class_without_repetition_and_among_the_first_if_told():
    labels = torch.arange(60) % 3
    found = per_class(labels, 8, seed=1)
    assert torch.equal(labels[found], torch.arange(3).unsqueeze(1).expand(3, 8))
    assert all(len(row.unique()) == 8 for row in found)
    assert torch.equal(found, per_class(labels, 8, seed=1))
    assert int(per_class(labels, 4, seed=1, first=5).max()) < 15
    with pytest.raises(ValueError, match="class 0 has 5 rows"):
        per_class(labels, 6, first=5)


def test_a_study_of_graphs_repeats_the_single_steps_and_follows_its_predictions():
    flips, side = [0.0, 0.2, 0.5], torch.arange(4).repeat_interleave(100)
    centres = normal(2, 4, 6)
    (x, x_test), (x_tilde, x_tilde_test) = ((c[side] + normal(2, 400, 6, seed=i + 1)) for i, c in enumerate(centres))
    found = noisy_graphs(
        Labelled(x, side, x_test, side),
        Labelled(x_tilde, side, x_tilde_test, side),
        flips,
        [2, 4],
        6,
        rows=40,
        sets=10,
        seed=3,
    )
    assert all(
        v.shape == (6, 3) for v in (*found.accuracy.values(), *found.agreement.values(), found.overlap, found.left)
    )
    close(found.left[:, 0], torch.ones(6, dtype=torch.float64))
    close(found.overlap[:, 0], torch.ones(6, dtype=torch.float64))
    close(found.filled[4][:, :2], found.accuracy[None][:, :1].expand(6, 2))  # exact partitions: the clean graph
    assert float(found.accuracy[None][:, 0].mean()) > 0.5 > float(found.filled[2][:, 0].mean())
    assert abs(float(found.accuracy[None][:, 2].mean()) - 0.25) < 0.1
    left = found.left[:, 1]
    assert abs(float(left.mean()) - 0.6 / (0.6 + 4 * 0.2)) < 5 * float(left.std()) / 6**0.5
    assert abs(float(found.overlap[:, 1].mean()) - (1 - 160 * 0.2 * 0.8 / (40 * 0.6) ** 2)) < 0.03
    generator = torch.Generator().manual_seed(4)
    at, at_tilde = (per_class(side, 40, generator).flatten() for _ in range(2))
    s = graph_covariance(x[at], x_tilde[at_tilde], class_graph(side[at], side[at_tilde]))
    close(found.strength[1], torch.linalg.svdvals(s)[:3])
