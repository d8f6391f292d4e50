"""Limits of general noise: isotropic noise has the closed forms, other noise is simulated."""

import numpy as np
import pytest
import torch
from helpers import close, normal

from mmcl.beyond.limits import outliers
from mmcl.beyond.limits_compared import nuisance_thresholds, pca_overlap
from mmcl.beyond.limits_general import paired_outliers, unimodal_outliers
from mmcl.covariance import cross_covariance, truncated_svd
from mmcl.unimodal import fit_masked, fit_pca


def eye(d, k=None):
    return torch.eye(d, k or d, dtype=torch.float64)


def axes(d, k, seed):
    return torch.linalg.qr(normal(d, k, seed=seed))[0]


@pytest.mark.parametrize("eta", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize(("d1", "d2", "signal"), [(100, 300, 6.0), (40, 20, 0.9), (200, 200, 2.0)])
def test_isotropic_noise_has_the_closed_form(d1, d2, signal, eta):
    n, s1, s2, one = 200, 0.7, 1.1, torch.ones(1, 1).double()
    axis, axis_tilde = axes(d1, 1, 0), axes(d2, 1, 1)
    found = paired_outliers(
        axis, axis_tilde, signal * one, signal * one, eta * signal * one, s1**2 * eye(d1), s2**2 * eye(d2), n
    )
    expected = outliers(d1 / n, d2 / n, signal, s1, s2, eta)
    count = int((~expected.value.isnan()).sum())
    assert len(found.value) == count
    assert found.edge == pytest.approx(float(expected.edge))
    close(found.value, expected.value[:count], 1e-7)
    overlaps = torch.cat([found.u[:, 0], found.v[:, 0]]) ** 2
    close(overlaps, torch.cat([expected.u[:count], expected.v[:count]]), 1e-5)


def test_isotropic_noise_has_the_closed_form_of_pca_masked_or_not():
    axis, signal, n, d = axes(150, 2, 2), torch.diag(torch.tensor([2.0, 0.3]).double()), 300, 150
    for masked in (False, True):
        found = unimodal_outliers(axis, signal, eye(d), n, masked)
        assert len(found.value) == 1  # 0.3 is below sqrt(1/2)
        assert float(found.value[0]) == pytest.approx((1 + 2.0) * (1 + 0.5 / 2) - masked)
        close(found.u[0] ** 2, torch.stack([pca_overlap(0.5, 2.0, 1), torch.tensor(0.0).double()]), 1e-5)
        assert found.edge == pytest.approx((1 + 0.5**0.5) ** 2 - masked)


def test_rotating_the_directions_rotates_the_coordinates():
    turn = axes(2, 2, 5)
    c, noise = torch.diag(torch.tensor([3.0, 2.0]).double()), torch.diag(torch.linspace(0.3, 1.5, 60).double())
    b1, b2 = axes(60, 2, 6), axes(60, 2, 7)
    here = paired_outliers(b1, b2, c, c, 0.6 * c, noise, noise, 80)
    there = paired_outliers(b1 @ turn, b2, turn.T @ c @ turn, c, 0.6 * turn.T @ c, noise, noise, 80)
    close(there.value, here.value, 1e-7)
    close((there.u @ turn.T).abs(), here.u.abs(), 1e-4)


def test_signal_and_nuisance_have_equal_outliers_at_the_predicted_share():
    (g1, g2, c), signal, n, d = (2.0, 1.5, 0.4), 1.0, 400, 100
    share = float(nuisance_thresholds(d / n, d / n, signal, 1, 1, (g1, g2, c)).linear)
    within, within_tilde = (torch.diag(torch.tensor([signal, g]).double()) for g in (g1, g2))
    for step, winner in ((-0.01, 1), (0.01, 0)):
        across = torch.diag(torch.tensor([(share + step) * signal, c * (g1 * g2) ** 0.5]).double())
        found = paired_outliers(eye(d, 2), eye(d, 2), within, within_tilde, across, eye(d), eye(d), n)
        assert int(found.u[0].abs().argmax()) == winner


def simulated(n, b, c, v, seed, b_tilde=None, cross=None):
    """Rows with spikes of covariance c along b in diagonal noise v, and a second modality of the same kind."""
    k = len(c)
    joint = torch.linalg.cholesky(torch.cat([torch.cat([c, cross], 1), torch.cat([cross.mT, c], 1)]))
    z = normal(n, 2 * k, seed=seed) @ joint.mT
    x = z[:, :k] @ b.mT + normal(n, len(b), seed=seed + 1000) * v.sqrt()
    return x, z[:, k:] @ b_tilde.mT + normal(n, len(b), seed=seed + 2000) * v.sqrt()


@pytest.mark.slow
def test_overlaps_in_unequal_noise_with_structure_are_the_simulated_ones():
    n, d, draws, eta = 1500, 400, 10, 0.85
    b, b_tilde = axes(d, 2, 10), axes(d, 2, 11)
    c, v = torch.diag(torch.tensor([2.0, 2.6]).double()), torch.linspace(0.3, 1.6, d).double()
    cross = torch.diag(torch.tensor([eta * 2.0, 0.0]).double())  # the second direction is noise of either modality
    predicted = paired_outliers(b, b_tilde, c, c, cross, torch.diag(v), torch.diag(v), n)
    alone = [unimodal_outliers(b, c, torch.diag(v), n, masked) for masked in (False, True)]
    rows = []
    for seed in range(draws):
        x, x_tilde = simulated(n, b, c, v, seed, b_tilde, cross)
        u, s, right = truncated_svd(cross_covariance(x, x_tilde), 1)
        found = [s[0], *(b.mT @ u)[:, 0] ** 2, *(b_tilde.mT @ right)[:, 0] ** 2]
        rows.append(found + [t for fit in (fit_pca, fit_masked) for t in (fit(x, 1) @ b)[0] ** 2])
    rows = np.array(rows)
    expected = [predicted.value[0], *predicted.u[0] ** 2, *predicted.v[0] ** 2]
    expected = np.array(expected + [t for a in alone for t in a.u[0] ** 2])
    assert expected[1] > 0.6  # the cross-covariance finds the signal, one modality alone the noise
    assert expected[5] < 0.01 < 0.6 < expected[6]
    assert (abs(rows.mean(0) - expected) < 3 * rows.std(0, ddof=1) / draws**0.5 + 10 / n).all(), (
        rows.mean(0),
        expected,
    )


def test_what_does_not_fit_is_refused():
    one = torch.ones(1, 1).double()
    with pytest.raises(ValueError, match=r"noise has shape \(4, 4\)"):
        unimodal_outliers(eye(5, 1), one, eye(4), 10)
    with pytest.raises(ValueError, match="not orthonormal"):
        unimodal_outliers(2 * eye(5, 1), one, eye(5), 10)
    with pytest.raises(ValueError, match="not diagonal"):
        unimodal_outliers(eye(5, 1), one, eye(5) + 0.1, 10, masked=True)
    with pytest.raises(ValueError, match="across has shape"):
        paired_outliers(eye(5, 1), eye(5, 1), one, one, torch.ones(2, 1), eye(5), eye(5), 10)
    with pytest.raises(ValueError, match="eigenvalue"):
        unimodal_outliers(eye(5, 1), one, eye(5) * 0, 10)
