"""Scores as inner products of embeddings, and the Gaussian density ratio."""

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from helpers import normal

from mmcl.beyond.detection import score_matrix
from mmcl.beyond.ratio import SCORES, gaussian_ratio
from mmcl.data import spiked
from mmcl.spectral import fit


def test_density_ratio_is_the_difference_of_gaussian_log_densities():
    p = spiked(400, 9, 8, 3, noise_std=0.5, seed=10)
    x, x_tilde = p.x + 2, 3 * p.x_tilde - 1
    g = fit(x, x_tilde, 3)
    u, v = (x @ g.g1.mT).numpy(), (x_tilde @ g.g2.mT).numpy()
    both = np.concatenate([u, v], 1)
    gauss = [scipy.stats.multivariate_normal(a.mean(0), np.cov(a.T)) for a in (both, u, v)]
    s = score_matrix(gaussian_ratio(g, x, x_tilde), x[:6], x_tilde[:5])
    for i in range(6):
        for j in range(5):
            expected = gauss[0].logpdf(np.concatenate([u[i], v[j]])) - gauss[1].logpdf(u[i]) - gauss[2].logpdf(v[j])
            assert float(s[i, j]) == pytest.approx(expected, abs=1e-9)


def test_density_ratio_does_not_see_invertible_maps_of_the_encodings_and_takes_batches():
    p = spiked(200, 9, 8, 3, noise_std=0.5, draws=2, seed=11)
    g = fit(p.x, p.x_tilde, 3)
    plain = gaussian_ratio(g, p.x, p.x_tilde)
    mapped = gaussian_ratio(type(plain)(normal(3, 3) @ g.g1, normal(3, 3, seed=1) @ g.g2, *[None] * 5), p.x, p.x_tilde)
    s = score_matrix(plain, p.x, p.x_tilde)
    torch.testing.assert_close(score_matrix(mapped, p.x, p.x_tilde), s, atol=1e-8, rtol=0)
    alone = gaussian_ratio(fit(p.x[1], p.x_tilde[1], 3), p.x[1], p.x_tilde[1])
    torch.testing.assert_close(score_matrix(alone, p.x[1], p.x_tilde[1]), s[1], atol=1e-8, rtol=0)


def test_cosine_and_inner_product_are_themselves():
    p = spiked(30, 6, 5, 2, seed=12)
    g = fit(p.x, p.x_tilde, 2)
    u, v = p.x.numpy() @ g.g1.numpy().T, p.x_tilde.numpy() @ g.g2.numpy().T
    inner = u @ v.T
    for name, s in (
        ("inner_product", inner),
        ("cosine", inner / np.outer(*(np.linalg.norm(a, axis=1) for a in (u, v)))),
    ):
        a, b = SCORES[name](g, p.x, p.x_tilde)
        torch.testing.assert_close(a @ b.mT, torch.as_tensor(s))


def test_a_ratio_needs_more_pairs_than_dimensions_and_rows_that_vary():
    p = spiked(30, 6, 5, 3, seed=12)
    g = fit(p.x, p.x_tilde, 3)
    with pytest.raises(ValueError, match="n = 3 pairs; .* needs more than 3"):
        gaussian_ratio(g, p.x[:3], p.x_tilde[:3])
    with pytest.raises(ValueError, match="the encoded rows vary by"):
        gaussian_ratio(g, torch.full_like(p.x, 3.0), p.x_tilde)
