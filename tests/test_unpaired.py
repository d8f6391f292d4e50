"""The loss (4.1), the edge rule (4.2), and Algorithm 1: Lemma 4.1 and Theorem 4.1."""

import math

import numpy as np
import pytest
import scipy.special
import torch
from helpers import normal, shuffled

from mmcl import unpaired
from mmcl._blocks import row_blocks
from mmcl.beyond.detection import detect_pairs
from mmcl.covariance import cross_covariance, loss_and_covariance
from mmcl.data import spiked
from mmcl.losses import CLIP
from mmcl.metrics import sin_theta
from mmcl.spectral import closed_form, fit
from mmcl.theory import multimodal_error
from mmcl.training import random_encoders
from mmcl.unpaired import UnpairedLoss, algorithm_1, detect_edges

EDGES = {"given": torch.tensor([[0, 1], [0, 2], [3, 3], [6, 0], [2, 5]]), "largest": None}


@pytest.mark.parametrize("nu", [1.0, 1.7])
@pytest.mark.parametrize("kind", EDGES)
def test_value_of_the_unpaired_loss_is_the_written_formula_with_the_normaliser_n(kind, nu):
    s, edges = 3 * normal(7, 7), EDGES[kind]
    a = s.numpy()
    if edges is None:
        edges = np.argwhere(a >= np.sort(a, None)[-7])
    pull = nu / 7 * sum(a[i, j] for i, j in edges.tolist())
    push = sum(scipy.special.logsumexp(a / 0.5, axis).sum() for axis in (0, 1)) * 0.5 / (2 * 7)
    assert float(UnpairedLoss(EDGES[kind], tau=0.5, nu=nu)(s)) == pytest.approx(push - pull, abs=1e-12)


@pytest.mark.parametrize("nu", [1.0, 1.7])
@pytest.mark.parametrize("kind", EDGES)
def test_weights_of_the_unpaired_loss_are_minus_n_times_its_derivative(kind, nu):
    s = (2 * normal(3, 7, 7, seed=1)).requires_grad_()
    loss = UnpairedLoss(EDGES[kind], tau=0.7, nu=nu)
    (slope,) = torch.autograd.grad(loss(s).sum(), s)
    torch.testing.assert_close(loss.weights(s.detach()), -7 * slope, atol=1e-13, rtol=0)


def test_weights_are_nu_minus_the_mean_softmax_on_edges_and_not_the_printed_ones():
    s, edges, nu = normal(9, 9, seed=2), torch.stack([torch.arange(9), shuffled(9)], 1), 1.4
    i, j = edges.T
    softmaxes = (s / 0.8).softmax(1) + (s / 0.8).softmax(0)
    w = UnpairedLoss(edges, 0.8, nu).weights(s)
    torch.testing.assert_close(w[i, j], nu - softmaxes[i, j] / 2)
    w[i, j] -= nu
    torch.testing.assert_close(w, -softmaxes / 2)
    assert float((nu - softmaxes[i, j] / 2 - (nu - 1 + softmaxes[i, j] / 2)).abs().min()) > 0.1  # Prop 8.2 as printed


def test_gradient_of_the_unpaired_loss_is_the_trace_gradient_of_its_cross_covariance():
    x, x_tilde = normal(30, 6, seed=2), normal(30, 5, seed=3)
    g1, g2 = (g.requires_grad_() for g in random_encoders(x, x_tilde, 3, seed=4))
    loss = UnpairedLoss(torch.stack([shuffled(30), shuffled(30, 1)], 1)[:20], tau=0.5, nu=1.3)
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
    loss = UnpairedLoss(torch.stack([shuffled(50), shuffled(50, 1)], 1)[:40], nu=1.5)
    whole = loss_and_covariance(p.x, p.x_tilde, g1, g2, loss)
    s = (p.x @ g1.mT) @ (p.x_tilde @ g2.mT).mT
    torch.testing.assert_close(whole, (loss(s), cross_covariance(p.x, p.x_tilde, loss.weights(s))))
    monkeypatch.setattr("mmcl._weigh.KEEP", 100)
    monkeypatch.setattr("mmcl._weigh.BLOCK", 350)
    torch.testing.assert_close(loss_and_covariance(p.x, p.x_tilde, g1, g2, loss), whole)


def test_fit_of_the_unpaired_loss_on_true_edges_is_clips_fit_on_the_pairs():
    p, order = spiked(60, 8, 7, 3, seed=9), shuffled(60, 2)
    with_pairs = fit(p.x, p.x_tilde, 3, CLIP(0.5), tol=1e-9)
    with_edges = fit(p.x, p.x_tilde[order], 3, UnpairedLoss(torch.stack([order, torch.arange(60)], 1), 0.5), tol=1e-9)
    torch.testing.assert_close(with_edges.g1, with_pairs.g1, atol=1e-6, rtol=0)
    torch.testing.assert_close(with_edges.loss, with_pairs.loss)


def test_bad_edges_temperatures_and_nu_are_named():
    for arguments, message in (
        ({"tau": 0}, "tau = 0"),
        ({"nu": 0.9}, "nu = 0.9; it must be a number of at least 1"),
        ({"edges": torch.zeros(3, 3, dtype=torch.int64)}, "edges of shape"),
        ({"edges": torch.zeros(0, 2, dtype=torch.int64)}, "m >= 1"),
        ({"edges": torch.full((3, 2), 0.5)}, "integer"),
    ):
        with pytest.raises(ValueError, match=message):
            UnpairedLoss(**arguments)
    with pytest.raises(ValueError, match="edges run from 0 to 4; allowed are 0 to 3"):
        UnpairedLoss(torch.tensor([[0, 4]]))(normal(4, 4))
    x, g = normal(4000, 2), torch.eye(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="4000 rows are too many for edges=None"):
        loss_and_covariance(x, x, g, g, UnpairedLoss())
    assert repr(UnpairedLoss(tau=0.5)) == "UnpairedLoss(largest entries, tau=0.5, nu=1)"


# ---------------------------------------------------------------- the edge rule (4.2)


def rule(s):
    """(4.2) by hand, from a whole matrix: the N best of the set of all row and column maxima."""
    n = len(s)
    candidates = {(i, int(np.argmax(s[i]))) for i in range(n)} | {(int(np.argmax(s[:, j])), j) for j in range(n)}
    return sorted(sorted(candidates, key=lambda e: (-s[e], e))[:n])


@pytest.mark.parametrize("noise", [0.2, 3.0])
@pytest.mark.parametrize("block", [2**20, 7, 55])
def test_edges_are_the_n_largest_of_all_row_and_column_maxima(monkeypatch, noise, block):
    monkeypatch.setattr("mmcl.unpaired.row_blocks", lambda *a: row_blocks(*a, at_most=block))
    z = normal(3, 20, 4)
    x, x_tilde = z + noise * normal(3, 20, 4, seed=1), z + noise * normal(3, 20, 4, seed=2)
    g1, g2 = normal(3, 4, seed=3), normal(3, 4, seed=4)
    edges = detect_edges(x, x_tilde, g1, g2)
    assert edges.dtype == torch.int64
    for k in range(3):
        s = (x[k] @ g1.T) @ (x_tilde[k] @ g2.T).T
        assert [tuple(e) for e in edges[k].tolist()] == rule(s.numpy())


def test_equal_similarities_are_taken_in_the_order_of_their_rows():
    x = torch.tensor([[1.0], [1.0], [-1.0], [1.0]])  # s is 1 at 10 entries: row maxima (0, 0), (1, 0), (2, 2), (3, 0)
    edges = detect_edges(x, x, torch.eye(1), torch.eye(1))
    assert edges.tolist() == [[0, 0], [0, 1], [0, 3], [1, 0]]
    s = np.outer(x, x)
    assert [tuple(e) for e in edges.tolist()] == rule(s)


def test_edges_follow_a_permutation_of_the_rows_and_leave_the_data_alone():
    x, x_tilde, g = normal(30, 4), normal(30, 4, seed=1), torch.eye(4, dtype=torch.float64)
    copies, order, order_tilde = (x.clone(), x_tilde.clone()), shuffled(30), shuffled(30, 1)
    moved = detect_edges(x[order].numpy(), x_tilde[order_tilde].numpy(), g, g)
    back = torch.stack([order[moved[:, 0]], order_tilde[moved[:, 1]]], 1).tolist()
    assert sorted(back) == detect_edges(x, x_tilde, g, g).tolist()
    assert torch.equal(x, copies[0])
    assert torch.equal(x_tilde, copies[1])


@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_edges_are_the_same_for_all_encoders_of_one_m_and_any_scale(scale):
    x, x_tilde, a = normal(30, 5), normal(30, 4, seed=1), normal(3, 3, seed=2)
    g1, g2 = normal(3, 5, seed=3), normal(3, 4, seed=4)
    expected = detect_edges(x, x_tilde, g1, g2)
    assert torch.equal(detect_edges(x, x_tilde, scale * a @ g1, torch.linalg.inv(a).T @ g2), expected)


def test_rule_4_2_refuses_unequal_numbers_of_rows_and_encoders_of_another_width():
    x, g = normal(6, 3), torch.eye(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="x_unpaired has 6 rows and x_tilde_unpaired 5"):
        detect_edges(x, x[:5], g, g)
    with pytest.raises(ValueError, match="x_tilde_unpaired holds 3 NaN"):
        detect_edges(x, x.index_fill(0, torch.tensor(2), torch.nan)[:, :1].expand(6, 3), g, g)
    with pytest.raises(ValueError, match="x_unpaired has 3 columns, and its encoder is for 4"):
        detect_edges(x, x, normal(2, 4), g)
    with pytest.raises(ValueError, match="both encoders must have r rows"):
        detect_edges(x, x, g[:2], g)


# ---------------------------------------------------------------- Algorithm 1


def model(n, rows, d, rank, seed):
    """Pairs, and rows whose partner is at the same place; noise 0.3."""
    p = spiked(n + rows, d, d, rank, noise_std=0.3, seed=seed)
    return (p.x[:n], p.x_tilde[:n], p.x[n:], p.x_tilde[n:]), p


def test_algorithm_1_is_a_fit_an_edge_rule_and_an_svd_written_in_numpy():
    data, _ = model(60, 40, 9, 4, seed=1)
    tau, nu = 0.8, 1.3
    x, x_tilde, xu, xu_tilde = (a.numpy() for a in data)
    u, c, vt = np.linalg.svd(np.cov(x.T, x_tilde.T)[:9, 9:])
    s = xu @ (u[:, :4] * c[:4] @ vt[:4]) @ xu_tilde.T
    edges = rule(s)
    w = -(scipy.special.softmax(s / tau, 0) + scipy.special.softmax(s / tau, 1)) / 2
    for e in edges:
        w[e] += nu
    u, c, vt = np.linalg.svd(xu.T @ w @ xu_tilde / 40)
    found = algorithm_1(*data, rank=4, tau=tau, nu=nu)
    assert [tuple(e) for e in found.edges.tolist()] == edges
    torch.testing.assert_close(found.g1.mT @ found.g2, torch.as_tensor(u[:, :4] * c[:4] @ vt[:4]))
    torch.testing.assert_close(found.g1 @ found.g1.mT, found.g2 @ found.g2.mT)


def test_lemma_4_1_edges_are_exact_and_the_weights_of_partners_and_strangers_go_to_one_and_zero():
    (x, x_tilde, xu, xu_tilde), _ = model(2000, 150, 100, 90, seed=2)
    g = fit(x, x_tilde, 90)
    edges = detect_edges(xu, xu_tilde, g.g1, g.g2)
    assert torch.equal(edges, torch.arange(150).unsqueeze(1).expand(150, 2))
    s = (xu @ g.g1.mT) @ (xu_tilde @ g.g2.mT).mT
    others = s - torch.diag(torch.full((150,), math.inf, dtype=s.dtype))
    gap = float((s.diagonal() - torch.maximum(others.amax(0), others.amax(1))).min())
    for c in (1.0, 0.5, 0.25):
        tau = c * math.sqrt(90 / math.log(150))
        w = UnpairedLoss(edges, tau, nu=1.5).weights(s)
        strangers = torch.diag(w.diagonal()) - w
        p, q = ((s / tau).softmax(dim).fill_diagonal_(0) for dim in (1, 0))
        missing = (p.sum(1) + q.sum(0)) / 2  # 1 - beta of a partner: what its two softmaxes leave to strangers
        torch.testing.assert_close(w.diagonal(), 0.5 + missing)
        assert math.exp(-gap / tau) / 4 < float(missing.max()) < 150 * math.exp(-gap / tau)
        assert float(strangers.max()) <= 2 * float(missing.max())
    assert float(missing.max()) < 150**-4  # gamma > 4 at the smallest tau


@pytest.mark.parametrize("c", [0.5, 1.0])
def test_at_nu_1_exact_edges_cancel_and_beyond_the_step_is_as_good_as_knowing_the_pairs(c):
    data, p = model(900, 300, 90, 50, seed=3)
    tau = c * math.sqrt(50 / math.log(300))
    oracle = sin_theta(closed_form(data[2].mT @ data[3] / 300, 50).g1.mT, p.u1)
    found = {nu: algorithm_1(*data, rank=50, tau=tau, nu=nu) for nu in (1.0, 1.5)}
    assert all(torch.equal(f.edges[:, 0], f.edges[:, 1]) for f in found.values())
    errors = {nu: float(sin_theta(f.g1.mT, p.u1) / oracle) for nu, f in found.items()}
    assert errors[1.0] > 1.8
    assert errors[1.5] == pytest.approx(1, abs=0.01)


def test_theorem_4_1_unpaired_rows_are_worth_as_many_pairs_to_first_order():
    sizes = [400, 800, 1600]
    data, p = model(1200, 1600, 90, 70, seed=4)
    errors = []
    for rows in sizes:
        found = algorithm_1(*data[:2], *(a[:rows] for a in data[2:]), rank=70, tau=math.sqrt(70 / math.log(rows)) / 2)
        assert torch.equal(found.edges[:, 0], found.edges[:, 1])
        errors.append(float(sin_theta(found.g1.mT, p.u1)))
        assert errors[-1] / float(multimodal_error(p.u1, p.u2, p.noise, p.noise_tilde, rows)) == pytest.approx(
            1, abs=0.12
        )
    assert abs(np.polyfit(np.log(sizes), np.log(errors), 1)[0] + 0.5) < 0.1


def test_algorithm_1_follows_permutations_of_the_unpaired_rows_and_does_batches_one_by_one():
    data, _ = model(100, 60, 12, 5, seed=5)
    order, order_tilde = shuffled(60, 1), shuffled(60, 2)
    plain = algorithm_1(*data, rank=5)
    moved = algorithm_1(data[0], data[1], data[2][order], data[3][order_tilde], rank=5)
    torch.testing.assert_close(moved.g1, plain.g1, atol=1e-10, rtol=0)
    back = torch.stack([order[moved.edges[:, 0]], order_tilde[moved.edges[:, 1]]], 1)
    assert sorted(back.tolist()) == plain.edges.tolist()
    batch = algorithm_1(*(torch.stack([a, a.flip(0)]) for a in data), rank=5)
    torch.testing.assert_close(batch.g2[0], plain.g2)
    assert torch.equal(batch.edges[0], plain.edges)
    torch.testing.assert_close(batch.g1[1], plain.g1, atol=1e-10, rtol=0)


def test_encoders_scaled_by_1_over_rho_are_tau_times_rho():
    (x, x_tilde, xu, xu_tilde), _ = model(100, 60, 12, 5, seed=6)
    g, rho = fit(x, x_tilde, 5, rho=4.0), 4.0
    edges = detect_edges(xu, xu_tilde, g.g1, g.g2)
    s = loss_and_covariance(xu, xu_tilde, g.g1, g.g2, UnpairedLoss(edges, 0.6 / rho, 1.5))[1]
    found = algorithm_1(x, x_tilde, xu, xu_tilde, rank=5, tau=0.6, nu=1.5)
    torch.testing.assert_close(closed_form(s, 5).g1, found.g1)


def test_what_detects_without_training_is_found_where_it_used_to_be():
    assert unpaired.detect_pairs is detect_pairs
    with pytest.raises(AttributeError, match="no attribute 'detect_nothing'"):
        unpaired.detect_nothing  # noqa: B018
