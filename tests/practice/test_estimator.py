"""The estimator: what it computes, against closed forms; how it behaves, against scikit-learn's contract."""

import numpy as np
import pytest
import torch
from helpers import pairs

import mmcl
from mmcl.covariance import cross_covariance, whitening


def numpy_pairs(n=300, d1=7, d2=5, seed=0):
    return tuple(a.numpy() for a in pairs(n, d1, d2, seed=seed))


def test_on_centred_data_it_is_the_closed_form_of_the_linear_loss():
    x, y = pairs(200, 7, 5, seed=1)
    model = mmcl.MMCL(3, scale="centre", rho=0.5).fit(x, y)
    expected = mmcl.fit(x, y, 3, rho=0.5)
    torch.testing.assert_close(torch.as_tensor(model.x_rotations_), expected.g1.mT, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(torch.as_tensor(model.y_rotations_), expected.g2.mT, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(model.transform(x), (x - x.mean(0)) @ expected.g1.mT, rtol=1e-9, atol=1e-11)


def test_whitened_without_a_ridge_it_is_canonical_correlation_analysis():
    x, y = pairs(300, 7, 5, seed=2)
    model = mmcl.MMCL(5, ridge=0.0).fit(x, y)
    expected = torch.linalg.svdvals(whitening(x) @ cross_covariance(x, y) @ whitening(y))
    z, z_tilde = model.transform(x, y)
    found = [float(torch.corrcoef(torch.stack([a, b]))[0, 1]) for a, b in zip(z.mT, z_tilde.mT, strict=True)]
    torch.testing.assert_close(torch.tensor(found, dtype=x.dtype), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("loss", ["clip", "linear", "triplet"])
def test_fit_transform_and_score_work_for_any_loss_and_scale(loss):
    x, y = numpy_pairs()
    for scale in ("whiten", "standardise", "centre"):
        model = mmcl.MMCL(2, loss=loss, tau=0.5, ridge=0.1, scale=scale, tol=1e-3).fit(x[:200], y[:200])
        z, z_tilde = model.transform(x[200:], y[200:])
        assert z.shape == z_tilde.shape == (100, 2)
        assert 5 / 100 < model.score(x[200:], y[200:]) < 1
