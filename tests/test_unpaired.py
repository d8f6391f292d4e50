"""The loss L' of unpaired rows."""

import pytest
import scipy.special
import scipy.stats
import torch
from helpers import normal, shuffled

from mmcl.covariance import cross_covariance, loss_and_covariance
from mmcl.data import spiked
from mmcl.losses import CLIP
from mmcl.spectral import fit
from mmcl.training import random_encoders
from mmcl.unpaired import UnpairedLoss

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
