"""The deterministic equivalent at finite d: many rows, the closed limits for few latents, and 40 draws."""

import pytest
import torch

from mmcl.beyond import finite_size
from mmcl.beyond.finite_size import finite_size_errors
from mmcl.beyond.limits import sin_theta_limit
from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.spectral import fit
from mmcl.theory import multimodal_error


def eye(d, k=None):
    return torch.eye(d, k or d, dtype=torch.float64)


@pytest.mark.parametrize(("eta", "a", "b"), [(1.0, 0.5, 0.5), (0.6, 0.5, 0.25)])
def test_one_latent_of_many_dimensions_has_the_exact_limit(eta, a, b):
    n = 1600
    d1, d2 = round(a * n), round(b * n)
    found = finite_size_errors(eye(d1, 1), eye(d2, 1), eye(d1), eye(d2), n, 2.0, eta)
    limit = sin_theta_limit(a, b, [2.0], 1, 1, eta)
    assert found[0] == pytest.approx(float(limit[0]), rel=0.01)
    assert found[1] == pytest.approx(float(limit[1]), rel=0.01)


def test_many_rows_have_the_error_of_first_order():
    p = spiked(2, 12, 9, 3, noise_std=0.8, noise="correlated", seed=4)
    signal, n = (1.5, 1.0, 0.8), 2_000_000
    found = finite_size_errors(p.u1, p.u2, p.noise, p.noise_tilde, n, signal, 0.5)
    first = float(multimodal_error(p.u1, p.u2, p.noise, p.noise_tilde, n, signal, wrong_share=0.5))
    assert found[0] == pytest.approx(first, rel=0.01)


def test_swapping_the_modalities_swaps_the_errors_and_units_do_not_matter():
    p = spiked(2, 20, 14, 4, noise_std=1.0, noise=("isotropic", "correlated"), seed=5)
    here = finite_size_errors(p.u1, p.u2, p.noise, p.noise_tilde, 200, 1.0, 0.7)
    there = finite_size_errors(p.u2, p.u1, 9 * p.noise_tilde, 9 * p.noise, 200, 9.0, 0.7)
    assert here == pytest.approx(there[::-1], rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "noise_std", "noise", "eta"),
    [
        (500, 1.0, "isotropic", 0.35),
        (500, 0.4, "isotropic", 0.3),
        (300, 0.3, "isotropic", 1.0),
        (800, 1.0, "correlated", 0.6),
    ],
)
def test_the_error_at_sizes_of_the_paper_is_within_ten_percent(n, noise_std, noise, eta):
    p = spiked(n, 40, 39, 10, noise_std, wrong_share=1 - eta, noise=noise, draws=40, seed=6)
    found = fit(p.x, p.x_tilde, 10)
    measured = [sin_theta(g.mT, u).square().mean().sqrt() for g, u in ((found.g1, p.u1), (found.g2, p.u2))]
    draws = range(0, 40, 1 if noise == "isotropic" else 10)
    predicted = torch.tensor(
        [finite_size_errors(p.u1[i], p.u2[i], p.noise[i], p.noise_tilde[i], n, 1.0, eta) for i in draws[:4]]
    )
    ratio = predicted.square().mean(0).sqrt() / torch.stack(measured)
    assert bool(((ratio > 0.9) & (ratio < 1.03)).all()), ratio


def test_a_fixed_point_that_is_not_reached_is_told(monkeypatch):
    monkeypatch.setattr(finite_size, "STEPS", 3)
    u, noise = torch.eye(6)[:, :2], torch.eye(6)
    with pytest.raises(ValueError, match="no fixed point at s = .* after 3 steps"):
        finite_size_errors(u, u, noise, noise, n=50)
