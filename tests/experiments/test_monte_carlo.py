"""Studies over draws in batches, and one long draw in chunks."""

import pytest
import torch

from mmcl.data import spiked
from mmcl.experiments import monte_carlo
from mmcl.experiments.monte_carlo import errors, long_draw
from mmcl.metrics import sin_theta
from mmcl.spectral import fit

MODEL = dict(n=30, d1=7, d2=6, rank=2)


def test_errors_of_methods_are_those_of_a_loop_over_the_batches_that_fit(monkeypatch):
    methods = {"both": lambda p: fit(p.x, p.x_tilde, 2).g1, "truth": lambda p: p.u1.mT}
    monkeypatch.setattr(monte_carlo, "ENTRIES", 3 * 30 * 13)
    found = errors(methods, **MODEL, draws=7, seed=3, wrong_share=0.5)
    generator = torch.Generator().manual_seed(3)
    batches = [spiked(**MODEL, draws=k, seed=generator, wrong_share=0.5) for k in (3, 3, 1)]
    one_by_one = [
        float(sin_theta(fit(p.x[i], p.x_tilde[i], 2).g1.mT, p.u1[i])) for p in batches for i in range(len(p.x))
    ]
    assert found["both"].tolist() == pytest.approx(one_by_one, abs=1e-9)
    assert float(found["truth"].max()) < 1e-12


def test_a_long_draw_is_one_model_whose_chunks_are_independent():
    n, chunk = 40_000, 7000
    p = long_draw(n, 6, 5, 2, seed=1, chunk=chunk, noise_std=0.5, wrong_share=0.25)
    assert p.x.dtype == p.x_tilde.dtype == torch.float32
    x, x_tilde = p.x.double(), p.x_tilde.double()
    # an entry of a sample covariance has a standard deviation below 1.25 / sqrt(n) * sqrt(2); five of them
    assert float((x.mT @ x / n - p.u1 @ p.u1.mT - p.noise).abs().max()) < 5 * 1.8 / n**0.5
    assert float((x.mT @ x_tilde / n - 0.75 * p.u1 @ p.u2.mT).abs().max()) < 5 * 1.8 / n**0.5
    z = x @ p.u1
    assert float((z[:chunk].mT @ z[chunk : 2 * chunk] / chunk).abs().max()) < 5 * 1.25 / chunk**0.5
    assert int(p.wrong.sum()) == 10_000
    assert p.z.shape == p.z_tilde.shape == (0, 2)
    assert torch.equal(long_draw(n, 6, 5, 2, seed=1, chunk=chunk, noise_std=0.5, wrong_share=0.25).x, p.x)


def test_a_long_draw_in_one_chunk_is_the_plain_draw_with_its_axes():
    p = long_draw(50, 6, 5, 2, seed=2, dtype=torch.float64, wrong_share=0.4)
    generator = torch.Generator().manual_seed(2)
    first = spiked(2, 6, 5, 2, seed=generator, wrong_share=0.4)
    kept = dict(axes=(first.u1, first.u2), noise=(first.noise, first.noise_tilde))
    again = spiked(50, 6, 5, 2, seed=generator, wrong_share=0.4, **kept)
    for name in ("x", "x_tilde", "wrong", "partner", "u1"):
        assert torch.equal(getattr(p, name), getattr(again, name)), name


def test_partners_of_wrong_pairs_lie_in_their_chunk():
    p = long_draw(60, 6, 5, 2, seed=4, chunk=20, noise_std=0.0, wrong_share=0.5, dtype=torch.float64)
    z, z_tilde = p.x @ p.u1, p.x_tilde @ p.u2
    assert torch.equal(p.partner // 20, torch.arange(60) // 20)
    torch.testing.assert_close(z_tilde[p.partner], z)
    assert torch.equal(p.partner != torch.arange(60), p.wrong)


@pytest.mark.parametrize(
    ("wrong", "say"), [({"n": 41}, "leave one over"), ({"n": 1}, "n = 1"), ({"chunk": 1}, "chunk = 1")]
)
def test_bad_numbers_of_a_long_draw_are_named(wrong, say):
    with pytest.raises(ValueError, match=say):
        long_draw(**({"n": 40, "d1": 4, "d2": 4, "rank": 2, "chunk": 20} | wrong))
