"""Filtered fits, by hand and in blocks."""

import math

import numpy as np
import pytest
import torch

from mmcl.beyond.filtering import filtered_fit
from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.spectral import fit


def by_hand(x, x_tilde, rank, threshold):
    """The filtered fit in numpy with index arrays: no blocks, no Gram matrices."""
    n = len(x)
    first, second = np.arange(n // 2), np.arange(n // 2, n)
    kept = np.zeros(n, dtype=bool)
    for half, other in ((first, second), (second, first)):
        a, b = x[other] - x[other].mean(0), x_tilde[other] - x_tilde[other].mean(0)
        u, _, vt = np.linalg.svd(a.T @ b)
        u, v = u[:, :rank], vt[:rank].T
        m = len(other) - 1
        scale = np.sqrt(np.sum((a @ u) ** 2) / m * np.sum((b @ v) ** 2) / m)
        score = np.sum(((x[half] - x[other].mean(0)) @ u) * ((x_tilde[half] - x_tilde[other].mean(0)) @ v), 1)
        kept[half[score > threshold * scale]] = True
    a, b = x[kept] - x[kept].mean(0), x_tilde[kept] - x_tilde[kept].mean(0)
    return np.linalg.svd(a.T @ b)[0][:, :rank], kept


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_filtered_fit_is_the_one_done_by_hand(threshold):
    p = spiked(401, 7, 5, 2, noise_std=0.5, wrong_share=0.5, draws=2, seed=9)
    x, x_tilde = p.x + 1000, 3 * p.x_tilde - 20
    result = filtered_fit(x, x_tilde, 2, threshold)
    for i in range(2):
        u, kept = by_hand(x[i].numpy(), x_tilde[i].numpy(), 2, threshold)
        assert sin_theta(result.g1[i].mT, u) < 1e-8
        assert torch.equal(result.kept[i], torch.as_tensor(kept))
    alone = filtered_fit(x[1], x_tilde[1], 2, threshold)
    torch.testing.assert_close(alone.g1, result.g1[1])


def test_filtered_fit_does_not_depend_on_block_length_units_or_float32_storage(monkeypatch):
    p = spiked(400, 7, 5, 2, noise_std=0.3, wrong_share=0.5, seed=10)
    whole = filtered_fit(p.x, p.x_tilde, 2)
    monkeypatch.setattr("mmcl.beyond.filtering.BLOCK", 100)
    blocks = filtered_fit(100 * p.x, 0.01 * p.x_tilde, 2)
    assert torch.equal(blocks.kept, whole.kept)
    assert sin_theta(blocks.g1.mT, whole.g1.mT) < 1e-10
    assert filtered_fit(p.x.float(), p.x_tilde.float().numpy(), 2).g1.dtype == torch.float64


def test_filter_that_keeps_everything_is_the_plain_fit():
    p = spiked(300, 7, 5, 2, noise_std=0.5, wrong_share=0.3, draws=2, seed=11)
    result, plain = filtered_fit(p.x, p.x_tilde, 2, -math.inf), fit(p.x, p.x_tilde, 2)
    assert bool(result.kept.all())
    torch.testing.assert_close(result.g1, plain.g1)
    torch.testing.assert_close(result.g2, plain.g2)


def test_filter_keeps_right_pairs_drops_wrong_ones_and_lowers_the_error():
    p = spiked(4000, 10, 8, 4, noise_std=0.1, wrong_share=0.8, draws=20, seed=12)
    result = filtered_fit(p.x, p.x_tilde, 4)
    assert result.kept[~p.wrong].double().mean() > 0.7
    assert result.kept[p.wrong].double().mean() < 0.25
    plain = sin_theta(fit(p.x, p.x_tilde, 4).g1.mT, p.u1).mean()
    assert sin_theta(result.g1.mT, p.u1).mean() < 0.5 * plain


def test_filter_brings_back_the_bias_of_noise_within_a_modality():
    p = spiked(40_000, 10, 10, 4, noise_std=1.0, noise="correlated", draws=10, seed=13)
    plain = sin_theta(fit(p.x, p.x_tilde, 4).g1.mT, p.u1).mean()
    assert sin_theta(filtered_fit(p.x, p.x_tilde, 4, 0.0).g1.mT, p.u1).mean() > 3 * plain


def test_bad_arguments_of_the_filter_are_named():
    p = spiked(20, 6, 5, 2)
    for arguments, message in (
        ((p.x, p.x_tilde[:-1], 2), "19"),
        ((p.x, p.x_tilde, 6), "rank = 6"),
        ((p.x[:3], p.x_tilde[:3], 2), "n = 3"),
        ((p.x, p.x_tilde, 2, math.nan), "threshold = nan"),
        ((p.x, p.x_tilde, 2, 1e9), "keeps 0 of 20"),
    ):
        with pytest.raises(ValueError, match=message):
            filtered_fit(*arguments)


def test_a_further_round_has_teachers_of_the_kept_pairs_and_helps_a_poor_one():
    p = spiked(6000, 30, 30, 12, noise_std=0.5, wrong_share=0.85, draws=3, seed=14)
    once, twice = (filtered_fit(p.x, p.x_tilde, 12, 0.0, rounds=k) for k in (1, 2))
    half, errors = slice(0, 3000), [sin_theta(f.g1.mT, p.u1).mean() for f in (once, twice)]
    assert errors[1] < 0.97 * errors[0]
    x, y = p.x[0], p.x_tilde[0]
    kept = once.kept[0, half]
    a, b = x[half][kept], y[half][kept]
    u, _, vt = np.linalg.svd((a - a.mean(0)).T @ (b - b.mean(0)))
    rest = [v[3000:] - v[half].mean(0) for v in (x, y)]
    score = ((rest[0] @ u[:, :12]) * (rest[1] @ vt[:12].T)).sum(1)
    assert torch.equal(twice.kept[0, 3000:], score > 0)
    with pytest.raises(ValueError, match="rounds = 0"):
        filtered_fit(x, y, 12, rounds=0)
