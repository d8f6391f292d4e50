"""Graph features from unpaired rows, and classes from pairs."""

import math

import pytest
import torch
from helpers import normal

from mmcl.beyond.landmarks import landmark_features
from mmcl.beyond.latent_classes import _leave_one_out, detect_classes


def clouds(n, classes, d, spread=0.3, seed=0):
    """Two modalities with one Gaussian cloud a class, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    sides = []
    for _ in range(2):
        centres = torch.randn(classes, d, generator=generator, dtype=torch.float64)
        sides.append(centres[labels] + spread * torch.randn(n, d, generator=generator, dtype=torch.float64))
    return *sides, labels


def test_graph_features_are_eigenvectors_of_the_graph_of_rows_that_share_landmarks():
    x, _, _ = clouds(300, 4, 3, spread=1.0)
    found = landmark_features(x, 6, landmarks=20, neighbours=3)
    near = torch.cdist(x, found.landmarks).square()
    z = torch.zeros(300, 20, dtype=x.dtype)
    for i, row in enumerate(near):
        order = row.argsort()
        for j in order[:3]:
            z[i, j] = math.exp(-2 * row[j] / row[order[3]])
        z[i] /= z[i].sum()
    graph = z @ torch.diag(1 / z.sum(0)) @ z.T
    torch.testing.assert_close(graph.sum(1), torch.ones(300, dtype=x.dtype))  # the constant is the first eigenvector
    features = found(x)
    torch.testing.assert_close(graph @ features, features * found.eigenvalues)
    torch.testing.assert_close(features.T @ features / 300, torch.eye(6, dtype=x.dtype), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(features.mean(0), torch.zeros(6, dtype=x.dtype), rtol=0, atol=1e-8)
    values = torch.linalg.eigvalsh(graph).flip(0)
    torch.testing.assert_close(found.eigenvalues, values[1:7], rtol=1e-8, atol=1e-8)


def test_graph_features_of_new_rows_and_smoothing():
    x, _, _ = clouds(300, 4, 3)
    found = landmark_features(x[:200], 5, landmarks=20)
    torch.testing.assert_close(found(x)[:200], found(x[:200]))
    torch.testing.assert_close(found(x, smooth=2), found(x) * found.eigenvalues**2)
    again = landmark_features(x[:200], 5, landmarks=20)
    assert torch.equal(again(x), found(x))


def test_separate_clouds_have_features_that_are_constant_on_each():
    x, _, labels = clouds(400, 3, 5, spread=0.01)
    found = landmark_features(x, 2, landmarks=30)
    features = found(x)
    assert float(found.eigenvalues.min()) > 0.999
    for c in range(3):
        assert float(features[labels == c].std(0).max()) < 1e-3


@pytest.mark.parametrize(
    ("wrong", "say"),
    [({"dimension": 20}, "rank = 20"), ({"landmarks": 400}, "landmarks = 400"), ({"neighbours": 20}, "rank = 20")],
)
def test_bad_numbers_of_graph_features_are_named(wrong, say):
    with pytest.raises(ValueError, match=say):
        landmark_features(torch.randn(300, 3), **({"dimension": 5, "landmarks": 20} | wrong))


def test_a_row_may_be_tied_to_all_landmarks_but_one():
    x = normal(40, 2, seed=9)
    at = landmark_features(x, 2, landmarks=6, neighbours=5)
    near = torch.cdist(x, at.landmarks).square()
    weights = (-2 * near / near.amax(1, keepdim=True)).exp().scatter(1, near.argmax(1, keepdim=True), 0.0)
    torch.testing.assert_close(at(x), weights / weights.sum(1, keepdim=True) @ at.axes)
    with pytest.raises(ValueError, match="6"):
        landmark_features(x, 2, landmarks=6, neighbours=6)


def test_a_row_has_no_say_in_its_own_prediction():
    x, _, _ = clouds(30, 3, 4)
    y = torch.randn(30, 2, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    found = _leave_one_out(x, 0.1) @ y
    for i in (0, 7, 29):
        changed = y.clone()
        changed[i] += 100
        torch.testing.assert_close((_leave_one_out(x, 0.1) @ changed)[i], found[i])
        # ridge regression of the others about the mean of all x, with an intercept that is not penalised
        others = [j for j in range(30) if j != i]
        a = torch.cat([torch.ones(29, 1, dtype=x.dtype), x[others] - x.mean(0)], 1)
        penalty = 30 * 0.1 * torch.diag(torch.tensor([0.0, 1, 1, 1, 1], dtype=x.dtype))
        weights = torch.linalg.solve(a.T @ a + penalty, a.T @ y[others])
        row = torch.cat([torch.ones(1, dtype=x.dtype), x[i] - x.mean(0)])
        torch.testing.assert_close(row @ weights, found[i])


def test_classes_that_both_modalities_see_are_found():
    x, x_tilde, labels = clouds(240, 5, 6, spread=0.4, seed=3)
    found = detect_classes(x, x_tilde, 5, starts=5, moves=20)
    table = torch.zeros(5, 5)
    table.index_put_((found.labels, labels), torch.tensor(1.0), accumulate=True)
    assert float(table.amax(1).sum()) / 240 > 0.95
    assert int((table.sum(1) > 0).sum()) == 5


def test_agreement_of_perfect_classes_is_their_entropy_and_of_independent_rows_near_zero():
    x, x_tilde, labels = clouds(300, 3, 6, spread=0.01, seed=1)
    share = torch.bincount(labels) / 300
    entropy = float(-(share * share.log()).sum())
    assert detect_classes(x, x_tilde, 3, ridge=1e-3, starts=3, moves=5).agreement == pytest.approx(entropy, abs=0.05)
    shuffled = x_tilde[torch.randperm(300, generator=torch.Generator().manual_seed(2))]
    assert detect_classes(x, shuffled, 3, ridge=1e-3, starts=3, moves=5).agreement < 0.3 * entropy


def test_detection_leaves_its_input_and_is_reproducible():
    x, x_tilde, _ = clouds(80, 3, 4)
    before = x.clone(), x_tilde.clone()
    one, two = (detect_classes(x, x_tilde, 3, starts=2, moves=5, seed=4) for _ in range(2))
    assert torch.equal(one.labels, two.labels)
    assert torch.equal(x, before[0])
    assert torch.equal(x_tilde, before[1])
    with pytest.raises(ValueError, match="classes = 1"):
        detect_classes(x, x_tilde, 1)
    with pytest.raises(ValueError, match="ridge = 0"):
        detect_classes(x, x_tilde, 3, ridge=0)


def test_a_class_of_fewer_than_four_rows_is_not_split():
    x, x_tilde, _ = clouds(9, 5, 4, spread=0.1, seed=2)
    found = detect_classes(x, x_tilde, 5, starts=1, moves=0)
    assert int(torch.bincount(found.labels).max()) < 4
    assert torch.equal(detect_classes(x, x_tilde, 5, starts=1, moves=20).labels, found.labels)
