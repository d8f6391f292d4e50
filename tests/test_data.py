"""The spiked model without its kinds of noise."""

import math

import pytest
import torch

from mmcl._checks import as_generator
from mmcl.data import spiked


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
        ({"wrong_share": -0.1}, "wrong_share = -0.1; a share lies between 0 and 1"),
        ({"wrong_share": 1.1}, "wrong_share = 1.1"),
        ({"wrong_share": math.nan}, "wrong_share = nan"),
        ({"noise_std": -1.0}, "noise_std = -1.0"),
        ({"noise_std": (0.1, -2.0)}, r"noise_std = \(0.1, -2.0\)"),
        ({"signal": 0.0}, "signal = 0.0"),
        ({"signal": [1.0, 2.0, 3.0]}, r"signal = \[1.0, 2.0, 3.0\]; give one positive variance or 2"),
    ],
    ids=str,
)
def test_spiked_refuses_what_is_out_of_range_and_says_the_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        spiked(**({"n": 10, "d1": 5, "d2": 4, "rank": 2} | arguments))
