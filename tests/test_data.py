"""The spiked model (3.2): rows, moments, kinds of noise, and who is whose partner."""

import math

import numpy as np
import pytest
import torch
from helpers import normal

from mmcl._checks import as_generator
from mmcl.covariance import cross_covariance, truncated_svd
from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.spectral import fit


def close(a, b, tol=1e-10):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=tol, atol=tol)


def test_spiked_has_the_shapes_it_promises():
    one, many = spiked(7, 5, 4, 2), spiked(7, 5, 4, 2, draws=3)
    for data, batch in ((one, ()), (many, (3,))):
        assert data.x.shape == (*batch, 7, 5)
        assert data.x_tilde.shape == (*batch, 7, 4)
        assert data.u1.shape == (*batch, 5, 2)
        assert data.u2.shape == (*batch, 4, 2)
        assert data.z.shape == data.z_tilde.shape == (*batch, 7, 2)
        assert data.wrong.shape == (*batch, 7)
        assert data.x.dtype == data.x_tilde.dtype == torch.float64


def test_spiked_subspaces_are_orthonormal_and_differ_between_draws():
    data = spiked(5, 9, 8, 3, draws=4)
    for u in (data.u1, data.u2):
        torch.testing.assert_close(u.mT @ u, torch.eye(3, dtype=u.dtype).expand(4, 3, 3), rtol=0, atol=1e-14)
        assert float((u[0] @ u[0].mT - u[1] @ u[1].mT).norm()) > 0.1


def test_rows_are_subspace_times_latent_when_there_is_no_noise():
    data = spiked(50, 6, 5, 2, noise_std=0.0, wrong_share=0.3)
    torch.testing.assert_close(data.x, data.z @ data.u1.mT, rtol=0, atol=1e-14)
    torch.testing.assert_close(data.x_tilde, data.z_tilde @ data.u2.mT, rtol=0, atol=1e-14)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_moments_are_those_of_the_model(share):
    n = 200_000
    data = spiked(n, 4, 3, 2, noise_std=(0.5, 2.0), wrong_share=share, signal=[3.0, 1.0], seed=1)
    sigma = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    eye = [torch.eye(d, dtype=torch.float64) for d in (4, 3)]
    expected = {
        "x": (data.x.mT @ data.x, data.u1 @ sigma @ data.u1.mT + 0.25 * eye[0]),
        "x_tilde": (data.x_tilde.mT @ data.x_tilde, data.u2 @ sigma @ data.u2.mT + 4 * eye[1]),
        "cross": (data.x.mT @ data.x_tilde, (1 - share) * data.u1 @ sigma @ data.u2.mT),
    }
    for name, (product, moment) in expected.items():
        # an entry of the product has a variance below 2 * 7 * 7 / n; five standard deviations
        assert float((product / n - moment).abs().max()) < 5 * 10 / math.sqrt(n), name
    assert float(data.x.mean(0).abs().max()) < 5 * 2 / math.sqrt(n)
    torch.testing.assert_close(data.noise, 0.25 * eye[0])
    torch.testing.assert_close(data.noise_tilde, 4 * eye[1])


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.1, 2), (0.5, 10), (0.97, 19), (1.0, 20)])
def test_exactly_the_share_of_pairs_is_wrong_and_only_those_differ(share, count):
    data = spiked(20, 4, 4, 2, wrong_share=share, draws=5)
    assert data.wrong.sum(-1).tolist() == [count] * 5
    assert torch.equal((data.z != data.z_tilde).all(-1), data.wrong)
    assert torch.equal((data.z != data.z_tilde).any(-1), data.wrong)
    assert count in (0, 20) or not torch.equal(data.wrong[0], data.wrong[1])


@pytest.mark.parametrize("draws", [None, 4])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_partners_are_a_permutation_of_the_sample_whose_fixed_points_are_the_right_pairs(share, draws):
    p = spiked(20, 4, 4, 2, wrong_share=share, draws=draws, seed=2)
    rows = torch.arange(20).expand_as(p.partner)
    assert torch.equal(p.partner.sort(-1).values, rows)
    assert torch.equal(p.partner == rows, ~p.wrong)
    assert torch.equal(p.z_tilde.take_along_dim(p.partner.unsqueeze(-1), -2), p.z)


def test_fresh_latents_have_no_partner_in_the_sample():
    p = spiked(20, 4, 4, 2, wrong_share=0.4, draws=3, seed=2, wrong="fresh")
    assert torch.equal(p.partner, torch.arange(20).expand(3, 20).masked_fill(p.wrong, -1))
    distances = torch.cdist(p.z_tilde, p.z)
    assert float(distances.amin(-1)[p.wrong].min()) > 1e-3
    assert float(distances.amin(-1)[~p.wrong].max()) < 1e-12


@pytest.mark.parametrize(("kind", "count"), [("permuted", 2), ("fresh", 1)])
def test_one_wrong_pair_alone_cannot_be_permuted_and_becomes_two(kind, count):
    assert spiked(10, 4, 4, 2, wrong_share=0.1, draws=3, wrong=kind).wrong.sum(-1).tolist() == [count] * 3
    assert not bool(spiked(10, 4, 4, 2, wrong_share=0.04, wrong=kind).wrong.any())


def test_kinds_of_wrong_pairs_share_all_but_the_latents_of_the_wrong_rows():
    a, b = (spiked(30, 5, 4, 2, wrong_share=0.5, seed=3, wrong=kind) for kind in ("permuted", "fresh"))
    for name in ("x", "u1", "u2", "z", "wrong", "noise"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    close(a.x_tilde - a.z_tilde @ a.u2.mT, b.x_tilde - b.z_tilde @ b.u2.mT)


@pytest.mark.parametrize(("kind", "changed"), [("permuted", 1), ("fresh", 0)])
def test_a_larger_share_keeps_the_wrong_pairs_of_a_smaller_one(kind, changed):
    few, more = (spiked(40, 5, 4, 2, wrong_share=share, seed=4, wrong=kind) for share in (0.25, 0.6))
    assert torch.equal(few.x, more.x)
    assert bool((more.wrong >= few.wrong).all())
    assert int((few.x_tilde != more.x_tilde).any(-1)[few.wrong].sum()) == changed


@pytest.mark.parametrize(("n", "share"), [(20, 0.5), (20, 1.0), (100, 0.5)])
def test_signal_left_in_s_is_m_minus_1_over_n_minus_1_if_permuted_and_m_over_n_if_fresh(n, share):
    m = n - round(share * n)
    for kind, expected in (("permuted", (m - 1) / (n - 1)), ("fresh", m / n)):
        p = spiked(n, 6, 6, 3, noise_std=0.5, wrong_share=share, draws=40_000 // n, seed=5, wrong=kind)
        left = (p.u1.mT @ cross_covariance(p.x, p.x_tilde) @ p.u2).diagonal(dim1=-2, dim2=-1).mean(-1)
        error = float(left.std()) / len(left) ** 0.5
        assert abs(float(left.mean()) - expected) < 3 * error
        assert n == 100 or share / (n - 1) > 6 * error  # where the two kinds are told apart


def test_error_of_the_linear_loss_is_the_same_for_both_kinds_of_wrong_pairs():
    found = []
    for kind in ("permuted", "fresh"):
        p = spiked(200, 30, 30, 5, noise_std=0.5, wrong_share=0.5, draws=200, seed=6, wrong=kind)
        found.append(sin_theta(fit(p.x, p.x_tilde, 5).g1.mT, p.u1))
    error = (found[0].var() + found[1].var()).div(200).sqrt()
    assert abs(found[0].mean() - found[1].mean()) < 3 * error


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
    a = normal(7, 2)
    p = spiked(100_000, 7, 5, 2, noise=((a @ a.mT).numpy(), torch.zeros(5, 5)), seed=4)
    residual = p.x - p.z @ p.u1.mT
    close(residual.mT @ residual / 100_000, a @ a.mT, 0.15)
    close(p.x_tilde, p.z_tilde @ p.u2.mT)


def test_the_seed_decides_everything_and_the_global_state_nothing():
    def same(a, b):
        return [torch.equal(p, q) for p, q in zip(vars(a).values(), vars(b).values(), strict=True)]

    torch.manual_seed(0)
    first = spiked(9, 5, 4, 2, wrong_share=0.5, seed=3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert all(same(first, spiked(9, 5, 4, 2, wrong_share=0.5, seed=3)))
    assert all(same(first, spiked(9, 5, 4, 2, wrong_share=0.5, seed=torch.Generator().manual_seed(3))))
    assert not any(same(first, spiked(9, 5, 4, 2, wrong_share=0.5, seed=4))[:6])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_generator_goes_on_from_where_it_is():
    generator = torch.Generator().manual_seed(3)
    assert as_generator(generator) is generator
    assert not torch.equal(spiked(4, 3, 3, 1, seed=generator).x, spiked(4, 3, 3, 1, seed=generator).x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 1}, "n = 1"),
        ({"n": 2.5}, "n = 2.5"),
        ({"rank": 0}, "rank = 0"),
        ({"rank": 5}, r"rank = 5; it must be an integer from 1 to min\(5, 4\) = 4"),
        ({"wrong_share": -0.1}, "wrong_share = -0.1; it must be a share between 0 and 1"),
        ({"wrong_share": 1.1}, "wrong_share = 1.1"),
        ({"wrong_share": math.nan}, "wrong_share = nan"),
        ({"noise_std": -1.0}, "noise_std = -1.0"),
        ({"noise_std": (0.1, -2.0)}, r"noise_std of the second = -2.0"),
        ({"signal": 0.0}, "signal = 0.0"),
        ({"wrong": "shifted"}, "wrong = 'shifted'; use one of permuted, fresh"),
        ({"noise": "pink"}, "noise = 'pink'"),
        ({"noise": -torch.eye(5)}, "positive semidefinite"),
        ({"noise": torch.eye(4)}, r"\(4, 4\) is not a covariance of 5 coordinates"),
        ({"signal": [1.0, 2.0, 3.0]}, r"signal = \[1.0, 2.0, 3.0\]; give one positive variance or 2"),
    ],
    ids=str,
)
def test_spiked_refuses_what_is_out_of_range_and_says_the_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        spiked(**({"n": 10, "d1": 5, "d2": 4, "rank": 2} | arguments))


def test_wrong_pairs_shrink_the_cross_covariance_and_nothing_else():
    n = 200_000
    p = spiked(n, 6, 5, 2, noise_std=1.0, noise="correlated", wrong_share=0.75, seed=7)
    s = cross_covariance(p.x, p.x_tilde)
    torch.testing.assert_close(s, 0.25 * p.u1 @ p.u2.mT, atol=5 * 6 / n**0.5, rtol=0)


def test_one_batched_study_is_the_loop_over_draws():
    p = spiked(200, 9, 8, 3, noise_std=1.0, noise="correlated", wrong_share=0.5, draws=6, seed=14)
    batched = sin_theta(fit(p.x, p.x_tilde, 3).g1.mT, p.u1)
    for i in range(6):
        c = np.cov(p.x[i].numpy().T, p.x_tilde[i].numpy().T)[:9, 9:]
        assert float(sin_theta(np.linalg.svd(c)[0][:, :3], p.u1[i])) == pytest.approx(float(batched[i]), abs=1e-9)
    assert truncated_svd(cross_covariance(p.x, p.x_tilde), 3)[1].shape == (6, 3)
