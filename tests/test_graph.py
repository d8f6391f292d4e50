"""Graphs of pairs: weights, closed form, spectral partition."""

import math

import numpy as np
import pytest
import torch
from helpers import shuffled
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from mmcl.covariance import cross_covariance, whitening
from mmcl.graph import (
    algorithm_2,
    class_graph,
    cluster,
    fit_graph,
    graph_covariance,
    graph_weights,
    partition,
    spectral_coordinates,
)
from mmcl.metrics import top_k_accuracy
from mmcl.spectral import fit
from mmcl.theory import partition_threshold


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def graph(*shape, seed=0, density=0.3):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < density).double()


def close(a, b, tol=1e-10):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=tol, atol=tol)


CLASSES = torch.arange(5).repeat_interleave(40)


def test_a_graph_of_one_edge_a_row_is_the_ordinary_linear_loss_up_to_n_over_n_minus_1():
    x, x_tilde, n = rows(30, 6) + 3, rows(30, 5, seed=1) - 2, 30
    identity = torch.eye(n, dtype=torch.float64)
    close(graph_weights(identity), identity - 1 / n)
    close(graph_covariance(x, x_tilde, identity), cross_covariance(x, x_tilde) * (n - 1) / n)
    ours, plain = fit_graph(x, x_tilde, identity, 3, rho=2.0), fit(x, x_tilde, 3, rho=2.0)
    close(ours.g1.mT @ ours.g2, plain.g1.mT @ plain.g2 * (n - 1) / n)
    close(ours.loss, plain.loss * ((n - 1) / n) ** 2)


def test_a_permuted_identity_is_the_ordinary_linear_loss_of_the_permuted_rows():
    x, x_tilde = rows(30, 6), rows(30, 5, seed=1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    edges = torch.eye(30, dtype=torch.float64)[order]
    close(graph_covariance(x, x_tilde, edges), cross_covariance(x, x_tilde[order]) * 29 / 30)


def test_rows_and_columns_of_the_weights_sum_to_zero():
    weights = graph_weights(graph(4, 20, 30) * rows(20, 30).abs())
    close(weights.sum(-1), torch.zeros(4, 20, dtype=torch.float64))
    close(weights.sum(-2), torch.zeros(4, 30, dtype=torch.float64))


def test_the_covariance_is_the_one_of_the_weights_of_a_double_loop_and_of_listed_edges():
    x, x_tilde, edges = rows(20, 4), rows(20, 3, seed=1) + 1, graph(20, 20)
    s = graph_covariance(x, x_tilde, edges)
    close(s, cross_covariance(x, x_tilde, graph_weights(edges)))
    total, degrees, degrees_tilde = edges.sum(), edges.sum(1), edges.sum(0)
    loop = sum(
        (edges[i, j] / total - degrees[i] * degrees_tilde[j] / total**2) * torch.outer(x[i], x_tilde[j])
        for i in range(20) for j in range(20)
    )  # fmt: skip
    close(s, loop)
    i, j = edges.nonzero().T  # the covariance, n not n - 1, of the list of all edges
    close(s, np.cov(x[i].numpy().T, x_tilde[j].numpy().T, ddof=0)[:4, 4:])


def test_the_covariance_of_a_rectangular_graph_is_that_of_its_list_of_edges():
    x, x_tilde, edges = rows(15, 4), rows(40, 3, seed=1), graph(15, 40)
    i, j = edges.nonzero().T
    close(graph_covariance(x, x_tilde, edges), np.cov(x[i].numpy().T, x_tilde[j].numpy().T, ddof=0)[:4, 4:])


def test_the_fit_is_the_minimiser_of_its_loss():
    x, x_tilde, edges, rho = rows(25, 5), rows(35, 4, seed=1), graph(25, 35), 0.7
    found = fit_graph(x, x_tilde, edges, 2, rho)
    weights = graph_weights(edges) / 25

    def loss(g1, g2):
        return rho / 2 * (g1.mT @ g2).square().sum() - (weights * (x @ g1.mT @ g2 @ x_tilde.mT)).sum()

    close(loss(found.g1, found.g2), found.loss)
    g1, g2 = found.g1.clone().requires_grad_(), found.g2.clone().requires_grad_()
    loss(g1, g2).backward()
    assert max(float(g1.grad.abs().max()), float(g2.grad.abs().max())) < 1e-10
    for seed in range(5):
        away = (g + 0.1 * rows(*g.shape, seed=seed) for g in (found.g1, found.g2))
        assert float(loss(*away)) > float(found.loss)


def test_permuting_rows_with_their_edges_leaves_the_fit_and_moves_the_clusters():
    x, x_tilde, edges = rows(200, 5), rows(200, 4, seed=1), class_graph(CLASSES, CLASSES, 0.1, seed=3)
    order, order_tilde = (torch.randperm(200, generator=torch.Generator().manual_seed(s)) for s in (4, 5))
    moved = edges[order][:, order_tilde]
    a, b = fit_graph(x, x_tilde, edges, 3), fit_graph(x[order], x_tilde[order_tilde], moved, 3)
    close(a.g1.mT @ a.g2, b.g1.mT @ b.g2)
    before, after = class_graph(*partition(edges, 5)), class_graph(*partition(moved, 5))
    assert torch.equal(before[order][:, order_tilde], after)


def test_batches_are_fitted_and_partitioned_entry_by_entry_and_graphs_share_data():
    x, x_tilde = rows(3, 60, 5), rows(3, 50, 4, seed=1)
    labels = torch.arange(5).repeat_interleave(12), torch.arange(5).repeat_interleave(10)
    edges = torch.stack([class_graph(*labels, p, seed=1) for p in (0.0, 0.05, 0.1)])
    before = x.clone(), edges.clone()
    whole, shared = fit_graph(x, x_tilde, edges, 2), fit_graph(x[0], x_tilde[0], edges, 2)
    found = partition(edges, 4, seed=2)
    for i in range(3):
        close(whole.g1[i], fit_graph(x[i], x_tilde[i], edges[i], 2).g1)
        close(shared.g2[i], fit_graph(x[0].numpy(), x_tilde[0].numpy(), edges[i].numpy(), 2).g2)
        for a, b in zip(found, partition(edges[i], 4, seed=2), strict=True):
            assert torch.equal(a[i], b)
    assert torch.equal(x, before[0])
    assert torch.equal(edges, before[1])


def test_a_planted_graph_has_its_edges_and_its_flips():
    labels, labels_tilde = torch.tensor([0, 1, 1]), torch.tensor([1, 0])
    close(class_graph(labels, labels_tilde), torch.tensor([[0.0, 1], [1, 0], [1, 0]]).double(), 0)
    close(class_graph(labels, labels_tilde, flip=1.0), torch.tensor([[1.0, 0], [0, 1], [0, 1]]).double(), 0)
    clean = class_graph(CLASSES, CLASSES)
    flips = [(class_graph(CLASSES, CLASSES, p, seed=7) - clean).abs() for p in (0.1, 0.3)]
    for p, flipped in zip((0.1, 0.3), flips, strict=True):
        assert abs(float(flipped.mean()) - p) < 5 * (p * (1 - p)) ** 0.5 / 200
    assert bool((flips[0] <= flips[1]).all())
    assert torch.equal(class_graph(CLASSES, CLASSES, 0.3, seed=7), class_graph(CLASSES, CLASSES, 0.3, seed=7))
    assert not torch.equal(class_graph(CLASSES, CLASSES, 0.3, seed=8), class_graph(CLASSES, CLASSES, 0.3, seed=7))


def test_flipping_shrinks_the_covariance_of_the_classes_and_leaves_its_directions():
    # E of the flipped graph is (1 - 2p) E + p: after centring, the same matrix times a number
    x, x_tilde, p = rows(200, 5), rows(200, 4, seed=1), 0.2
    clean = class_graph(CLASSES, CLASSES)
    expected = graph_covariance(x, x_tilde, (1 - 2 * p) * clean + p)
    ratio = (1 - 2 * p) * clean.sum() / ((1 - 2 * p) * clean + p).sum()
    close(expected, ratio * graph_covariance(x, x_tilde, clean))


@pytest.mark.parametrize("flip", [0.0, 0.1, 0.25])
def test_the_partition_recovers_planted_classes_exactly_well_below_the_threshold(flip):
    assert flip < partition_threshold(40, 200) - 0.1
    found = partition(class_graph(CLASSES, CLASSES, flip, seed=1), 5)
    assert torch.equal(class_graph(*found), class_graph(CLASSES, CLASSES))


def test_the_partition_recovers_unbalanced_classes_of_a_rectangular_graph():
    labels = torch.tensor([0] * 30 + [1] * 50 + [2] * 20), torch.tensor([1] * 15 + [2] * 40 + [0] * 25)
    found = partition(class_graph(*labels, 0.1, seed=1), 3)
    assert torch.equal(class_graph(*found), class_graph(*labels))


def test_the_partition_is_right_up_to_the_threshold_and_no_better_than_chance_beyond():
    edge = partition_threshold(40, 200)
    edges = torch.stack(
        [class_graph(CLASSES, CLASSES, p, seed=s) for p in (edge - 0.06, edge + 0.06) for s in range(4)]
    )
    scores = [adjusted_rand_score(CLASSES, labels) for labels in partition(edges, 5)[0]]
    assert min(scores[:4]) > 0.7
    assert max(scores[4:]) < 0.35


def test_too_many_clusters_split_no_clean_class_and_too_few_join_whole_classes():
    edges = class_graph(CLASSES, CLASSES)
    assert torch.equal(class_graph(*partition(edges, 9)), edges)
    labels, labels_tilde = partition(edges, 3)
    joined = class_graph(labels, labels_tilde)
    assert bool((joined >= edges).all())
    assert bool((joined > edges).any())
    for one in (labels, labels_tilde):
        assert all(len(one[c == CLASSES].unique()) == 1 for c in range(5))


def test_coordinates_of_a_class_are_one_point_and_a_row_without_edges_lies_at_the_origin():
    edges = class_graph(CLASSES, CLASSES)
    edges[7] = 0
    z, z_tilde = spectral_coordinates(edges, 4)
    close(z[7], torch.zeros(4, dtype=torch.float64))
    for c in range(5):
        points = torch.cat([z[(c == CLASSES) & (torch.arange(200) != 7)], z_tilde[c == CLASSES]])
        assert float((points - points[0]).abs().max()) < 1e-8
    close(torch.cat(cluster(z, z_tilde, 5)), torch.cat(partition(edges, 5)), 0)


def test_coordinates_are_eigenvectors_of_the_random_walk_on_the_graph():
    edges = graph(30, 40, density=0.5)
    z, z_tilde = spectral_coordinates(edges, 3)
    walk = edges / edges.sum(1, keepdim=True), edges.T / edges.sum(0).unsqueeze(1)
    round_trip = walk[0] @ walk[1] @ z
    values = (round_trip * z).sum(0) / z.square().sum(0)
    close(round_trip, z * values)
    close(walk[0] @ z_tilde, z * values.sqrt())


def reference(a, clusters):
    """Algorithm 2 as printed, in numpy: SVD, vectors 2 to l + 1, scaled rows, k-means, edges between clusters out."""
    d1, d2 = a.sum(1), a.sum(0)
    u, _, vt = np.linalg.svd(a / np.sqrt(np.outer(d1, d2)))
    columns = slice(1, 1 + math.ceil(math.log2(clusters)))
    z = np.concatenate([u[:, columns] / np.sqrt(d1)[:, None], vt.T[:, columns] / np.sqrt(d2)[:, None]])
    labels = KMeans(clusters, n_init=10, random_state=0).fit_predict(z)
    return a * (labels[: len(a), None] == labels[len(a) :])


@pytest.mark.parametrize("clusters", [2, 3, 4, 5, 8])
def test_algorithm_2_is_its_printed_steps_in_numpy(clusters):
    noisy = class_graph(torch.arange(clusters).repeat_interleave(30), torch.arange(clusters).repeat_interleave(25), 0.1)
    assert torch.equal(algorithm_2(noisy, clusters), torch.as_tensor(reference(noisy.numpy(), clusters)))


def test_algorithm_2_removes_edges_between_clusters_and_adds_none():
    noisy = torch.stack([class_graph(CLASSES, CLASSES, p, seed=1) for p in (0.05, 0.2)])
    before = noisy.clone()
    cleaned = algorithm_2(noisy, 5)
    assert torch.equal(noisy, before)
    assert bool((cleaned <= noisy).all())
    assert bool((cleaned < noisy).any())
    labels, labels_tilde = partition(noisy[0], 5, vectors=3)
    assert torch.equal(cleaned[0], noisy[0] * (labels.unsqueeze(1) == labels_tilde))
    whole = class_graph(*partition(noisy[0], 5))  # the repository's variant fills the blocks
    assert bool((whole > noisy[0]).any())


@pytest.mark.parametrize("clusters", [2, 3])
def test_algorithm_2_brings_back_planted_blocks_less_removed_edges_where_log_2_k_is_k_minus_1(clusters):
    labels = torch.arange(clusters).repeat_interleave(60)
    for flip in (0.1, 0.25):
        clean, noisy = class_graph(labels, labels), class_graph(labels, labels, flip, seed=2)
        assert torch.equal(algorithm_2(noisy, clusters), clean * noisy)


def test_algorithm_2_follows_permutations_of_both_sides():
    noisy = class_graph(CLASSES, CLASSES, 0.1, seed=3)
    order, order_tilde = shuffled(200, 4), shuffled(200, 5)
    moved = algorithm_2(noisy[order][:, order_tilde], 4)
    labels = partition(noisy, 4, vectors=2)
    assert torch.equal(moved, (noisy * class_graph(*labels))[order][:, order_tilde])


def test_log_2_k_vectors_put_classes_closer_together_than_k_minus_1_do():
    # five classes in three dimensions instead of four: with noise the printed algorithm mixes what the variant keeps
    noisy = torch.stack([class_graph(CLASSES, CLASSES, 0.3, seed=s) for s in range(6)])
    clean = class_graph(CLASSES, CLASSES)
    wrong = [(class_graph(*partition(noisy, 5, vectors=count)) != clean).double().mean((-2, -1)) for count in (3, None)]
    assert float(wrong[0].mean()) > 2 * float(wrong[1].mean())


def test_encoders_of_a_graph_of_classes_retrieve_the_class():
    centres, centres_tilde = 3 * rows(5, 8), 3 * rows(5, 7, seed=1)
    x, x_tilde = centres[CLASSES] + rows(200, 8, seed=2), centres_tilde[CLASSES] + rows(200, 7, seed=3)
    centres_tilde = (centres_tilde - x_tilde.mean(0)) @ whitening(x_tilde)
    x, x_tilde = ((a - a.mean(0)) @ whitening(a) for a in (x, x_tilde))
    found = fit_graph(x, x_tilde, class_graph(CLASSES, CLASSES, 0.2, seed=4), 4)
    candidates = centres_tilde @ found.g2.mT
    assert float(top_k_accuracy(x @ found.g1.mT, candidates, targets=CLASSES)) > 0.95


def test_bad_graphs_and_arguments_are_named():
    x, x_tilde, edges = rows(6, 3), rows(6, 3), torch.ones(6, 6)
    with pytest.raises(ValueError, match="no edge"):
        graph_weights(torch.zeros(6, 6))
    with pytest.raises(ValueError, match="no edge"):
        graph_weights(torch.stack([edges, torch.zeros(6, 6)]))
    with pytest.raises(ValueError, match="negative"):
        graph_weights(-edges)
    with pytest.raises(ValueError, match="NaN"):
        graph_weights(edges * torch.nan)
    with pytest.raises(ValueError, match="x has 6 rows and x_tilde 6"):
        graph_covariance(x, x_tilde, torch.ones(6, 5))
    with pytest.raises(ValueError, match="rank = 4"):
        fit_graph(x, x_tilde, edges, 4)
    with pytest.raises(ValueError, match="rho = 0"):
        fit_graph(x, x_tilde, edges, 2, rho=0)
    with pytest.raises(ValueError, match=r"flip = 1\.5"):
        class_graph([0, 1], [0, 1], 1.5)
    with pytest.raises(ValueError, match="clusters = 1"):
        partition(edges, 1)
    with pytest.raises(ValueError, match="clusters = 7"):
        partition(edges, 7)
    with pytest.raises(ValueError, match="clusters = 9"):
        algorithm_2(edges, 9)
    with pytest.raises(ValueError, match="count = 6"):
        spectral_coordinates(edges, 6)
