"""PCA, and contrastive learning from masks."""

import itertools

import numpy as np
import pytest
import torch
from helpers import normal
from sklearn.decomposition import PCA

from mmcl.covariance import cross_covariance
from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.unimodal import fit_masked, fit_pca, masked_views, train_masked


def close(a, b, tol=1e-10):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=tol, atol=tol)


def test_pca_is_scikit_learns_up_to_sign():
    x = normal(50, 12) * torch.linspace(1, 3, 12) + 5
    expected = torch.as_tensor(PCA(4, svd_solver="full").fit(x.numpy()).components_)
    close((fit_pca(x, 4) @ expected.mT).abs(), torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("fit", [fit_pca, fit_masked])
def test_encoders_are_orthonormal_shift_invariant_and_batched(fit):
    x = normal(3, 40, 9)
    before = x.clone()
    g = fit(x, 4)
    close(g @ g.mT, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    close(torch.stack([fit(x[i].numpy() + 7, 4) for i in range(3)]), g, 1e-8)
    close(fit(x[:, torch.randperm(40)], 4), g, 1e-8)
    assert torch.equal(x, before)


def test_masked_fit_is_blind_to_noise_on_single_coordinates_and_pca_is_not():
    u = torch.linalg.qr(normal(10, 3))[0]
    signal = u @ u.mT
    noise = torch.diag(torch.tensor([9.0] * 3 + [0.1] * 7, dtype=torch.float64))
    # rows whose sample covariance is exactly signal + noise, or exactly that with the diagonal changed
    for extra in (noise, 2 * noise):
        white = normal(60, 10)
        white = white - white.mean(0)
        white = white @ torch.linalg.inv(torch.linalg.cholesky(white.mT @ white / 59)).mT
        x = white @ torch.linalg.cholesky(signal + extra).mT
        a = signal - torch.diag(signal.diagonal())
        expected = torch.linalg.eigh(a)[1][:, -3:]
        assert sin_theta(fit_masked(x, 3).mT, expected) < 1e-8
        assert sin_theta(fit_pca(x, 3).mT, torch.eye(10, dtype=torch.float64)[:, :3]) < 0.5


def test_mean_over_all_masks_of_the_paper_is_a_quarter_of_the_covariance_without_its_diagonal():
    x = normal(9, 6) + 3
    masks = [torch.tensor(m, dtype=x.dtype) for m in itertools.product((0, 1), repeat=6)]
    mean = sum(cross_covariance(m * x, (1 - m) * x) for m in masks) / len(masks)
    c = torch.as_tensor(np.cov(x.numpy().T))
    close(mean, (c - torch.diag(c.diagonal())) / 4, 1e-14)


def test_masks_by_row_add_the_diagonal_over_4n_to_the_mean_over_all_masks():
    x = normal(3, 2)
    x = x - x.mean(0)
    masks = [torch.tensor(m, dtype=x.dtype).view(3, 2) for m in itertools.product((0, 1), repeat=6)]
    mean = sum(cross_covariance(m * x, (1 - m) * x) for m in masks) / len(masks)
    c = torch.as_tensor(np.cov(x.numpy().T))
    diagonal = torch.diag(c.diagonal())
    close(mean, (c - diagonal) / 4 + diagonal / (4 * 3))


@pytest.mark.parametrize(("per_row", "coins"), [(False, 800 * 6), (True, 800 * 3 * 6)])
def test_masked_views_share_no_coordinate_and_add_up(per_row, coins):
    x = normal(800, 3, 6)
    a, b = masked_views(x, 3, per_row)
    assert torch.equal(a + b, x)
    assert not bool((a * b).any())
    assert abs(float((a == 0).double().mean()) - 0.5) < 5 * 0.5 / coins**0.5
    same = ((a == 0) == (a[:, :1] == 0)).all(-1)[:, 1:].double().mean()  # rows of a draw that have its first row's mask
    assert float(same) == 1 if not per_row else abs(float(same) - 2**-6) < 5 * (2**-6 / 1600) ** 0.5


def test_s_of_sampled_masks_has_the_expectation_of_either_kind_and_varies_less_by_row():
    x = normal(6, 4)
    x = x - x.mean(0)
    c = torch.as_tensor(np.cov(x.numpy().T))
    off, diagonal, spread = (c - torch.diag(c.diagonal())) / 4, torch.diag(c.diagonal()) / 24, []
    for per_row, expected in ((False, off), (True, off + diagonal)):
        s = cross_covariance(*masked_views(x.expand(20_000, 6, 4), 1, per_row))
        error = s.std(0) / len(s) ** 0.5
        assert bool(((s.mean(0) - expected).abs() <= 4.5 * error).all())
        spread.append(s.var(0).sum())
    assert spread[1] < spread[0]


def test_training_on_sampled_masks_converges_to_the_closed_form():
    p = spiked(2000, 20, 20, 3, noise_std=0.7, noise="diagonal", draws=2, seed=2)
    path = train_masked(p.x, 3, steps=400, seed=1)
    distance = sin_theta(path.mT, fit_masked(p.x, 3).mT.expand(401, 2, 20, 3)).mean(-1)
    assert distance[0] > 1
    assert distance[-1] < 0.05
    assert distance[-1] < distance[100] / 1.3
    # M = G^T G goes to the positive part of rank r of 1/4 (C - diag C) + diag(C)/(4n)
    c = cross_covariance(p.x, p.x)
    values = torch.linalg.eigvalsh((c - torch.diag_embed(c.diagonal(dim1=-2, dim2=-1))) / 4)[..., -3:]
    close(torch.linalg.eigvalsh(path[-1] @ path[-1].mT), values, 0.02)


def test_bad_arguments_of_the_unimodal_fits_are_named():
    with pytest.raises(ValueError, match="rank = 7"):
        fit_masked(normal(9, 6), 7)
    with pytest.raises(ValueError, match="n = 1"):
        fit_pca(normal(1, 6), 2)
    with pytest.raises(ValueError, match="NaN"):
        fit_pca(torch.full((4, 3), torch.nan), 2)
    with pytest.raises(ValueError, match="lr = 2"):
        train_masked(normal(9, 6), 2, lr=2.0)
