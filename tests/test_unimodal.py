"""The noise of the spiked model, PCA, and contrastive learning from masks."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from mmcl.covariance import cross_covariance
from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.unimodal import fit_masked, fit_pca, masked_views, train_masked


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, tol=1e-10):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=tol, atol=tol)


def test_pca_is_scikit_learns_up_to_sign():
    x = rows(50, 12) * torch.linspace(1, 3, 12) + 5
    expected = torch.as_tensor(PCA(4, svd_solver="full").fit(x.numpy()).components_)
    close((fit_pca(x, 4) @ expected.mT).abs(), torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("fit", [fit_pca, fit_masked])
def test_encoders_are_orthonormal_shift_invariant_and_batched(fit):
    x = rows(3, 40, 9)
    before = x.clone()
    g = fit(x, 4)
    close(g @ g.mT, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    close(torch.stack([fit(x[i].numpy() + 7, 4) for i in range(3)]), g, 1e-8)
    close(fit(x[:, torch.randperm(40)], 4), g, 1e-8)
    assert torch.equal(x, before)


def test_masked_fit_is_blind_to_noise_on_single_coordinates_and_pca_is_not():
    u = torch.linalg.qr(rows(10, 3))[0]
    signal = u @ u.mT
    noise = torch.diag(torch.tensor([9.0] * 3 + [0.1] * 7, dtype=torch.float64))
    # rows whose sample covariance is exactly signal + noise, or exactly that with the diagonal changed
    for extra in (noise, 2 * noise):
        white = rows(60, 10)
        white = white - white.mean(0)
        white = white @ torch.linalg.inv(torch.linalg.cholesky(white.mT @ white / 59)).mT
        x = white @ torch.linalg.cholesky(signal + extra).mT
        a = signal - torch.diag(signal.diagonal())
        expected = torch.linalg.eigh(a)[1][:, -3:]
        assert sin_theta(fit_masked(x, 3).mT, expected) < 1e-8
        assert sin_theta(fit_pca(x, 3).mT, torch.eye(10, dtype=torch.float64)[:, :3]) < 0.5


def test_mean_over_all_masks_is_a_quarter_of_the_covariance_without_diagonal_plus_one_over_4n():
    x = rows(3, 2)
    x = x - x.mean(0)
    masks = [torch.tensor(m, dtype=x.dtype).view(3, 2) for m in itertools.product((0, 1), repeat=6)]
    mean = sum(cross_covariance(m * x, (1 - m) * x) for m in masks) / len(masks)
    c = torch.as_tensor(np.cov(x.numpy().T))
    diagonal = torch.diag(c.diagonal())
    close(mean, (c - diagonal) / 4 + diagonal / (4 * 3))


def test_masked_views_share_no_coordinate_and_add_up():
    x = rows(2, 500, 6)
    a, b = masked_views(x, 3)
    assert torch.equal(a + b, x)
    assert not bool((a * b).any())
    assert abs(float((a == 0).double().mean()) - 0.5) < 5 * 0.5 / 6000**0.5


def test_training_on_sampled_masks_converges_to_the_closed_form():
    p = spiked(2000, 20, 20, 3, noise_std=0.7, noise="diagonal", draws=3, seed=2)
    path = train_masked(p.x, 3, steps=400, seed=1)
    distance = sin_theta(path.mT, fit_masked(p.x, 3).mT.expand(401, 3, 20, 3)).mean(-1)
    assert distance[0] > 1
    assert distance[-1] < 0.05
    assert distance[-1] < distance[100] / 1.3
    # M = G^T G goes to the positive part of rank r of 1/4 (C - diag C) + diag(C)/(4n)
    c = cross_covariance(p.x, p.x)
    values = torch.linalg.eigvalsh((c - torch.diag_embed(c.diagonal(dim1=-2, dim2=-1))) / 4)[..., -3:]
    close(torch.linalg.eigvalsh(path[-1] @ path[-1].mT), values, 0.02)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "correlated"])
def test_sample_covariances_of_the_spiked_model_approach_those_it_says(kind):
    n, signal = 200_000, (2.0, 1.0, 0.5)
    p = spiked(n, 8, 6, 3, noise_std=(1.0, 0.5), noise=kind, signal=signal, wrong_share=0.25, seed=3)
    z = torch.diag(torch.tensor(signal, dtype=torch.float64))
    bound = 5 * 6 / n**0.5  # five standard errors of an entry, whose standard deviation is below 6
    close(p.x.mT @ p.x / n, p.u1 @ z @ p.u1.mT + p.noise, bound)
    close(p.x_tilde.mT @ p.x_tilde / n, p.u2 @ z @ p.u2.mT + p.noise_tilde, bound)
    close(p.x.mT @ p.x_tilde / n, 0.75 * p.u1 @ z @ p.u2.mT, bound)
    assert int(p.wrong.sum()) == n // 4
    assert torch.equal(p.wrong, (p.z != p.z_tilde).any(-1))


def test_kinds_of_noise_have_the_variances_they_say():
    p = spiked(5, 40, 30, 5, noise_std=2.0, noise=("diagonal", "correlated"), draws=2)
    close(p.noise.diagonal(dim1=-2, dim2=-1)[:, :5], torch.full((2, 5), 16.0, dtype=torch.float64))
    close(p.noise[0, 5, 5], torch.tensor(0.8, dtype=torch.float64))
    close(p.noise[0, -1, -1], torch.tensor(4.0, dtype=torch.float64))
    expected = torch.tensor([2.0] * 25 + [14.0] * 5, dtype=torch.float64).expand(2, 30)
    close(torch.linalg.eigvalsh(p.noise_tilde), expected)


def test_a_given_covariance_is_taken_as_it_is_even_when_singular():
    a = rows(7, 2)
    p = spiked(100_000, 7, 5, 2, noise=((a @ a.mT).numpy(), torch.zeros(5, 5)), seed=4)
    residual = p.x - p.z @ p.u1.mT
    close(residual.mT @ residual / 100_000, a @ a.mT, 0.15)
    close(p.x_tilde, p.z_tilde @ p.u2.mT)


def test_a_seed_gives_the_same_pairs_and_another_seed_others():
    first, second, other = (spiked(10, 5, 4, 2, noise="correlated", seed=s) for s in (1, 1, 2))
    assert torch.equal(first.x, second.x)
    assert not torch.equal(first.x, other.x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": "pink"}, "pink"),
        ({"noise": -torch.eye(6)}, "positive"),
        ({"noise": torch.eye(5)}, "6, 6"),
        ({"signal": (1.0, 2.0, 3.0)}, "2 of them"),
        ({"signal": 0.0}, "positive"),
        ({"noise_std": -1.0}, "-1"),
        ({"wrong_share": 1.5}, "1.5"),
    ],
)
def test_bad_arguments_of_the_spiked_model_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        spiked(10, 6, 6, 2, **arguments)


def test_bad_arguments_of_the_unimodal_fits_are_named():
    with pytest.raises(ValueError, match="rank = 7"):
        fit_masked(rows(9, 6), 7)
    with pytest.raises(ValueError, match="n = 1"):
        fit_pca(rows(1, 6), 2)
    with pytest.raises(ValueError, match="NaN"):
        fit_pca(torch.full((4, 3), torch.nan), 2)
    with pytest.raises(ValueError, match="lr = 2"):
        train_masked(rows(9, 6), 2, lr=2.0)
