"""The stepwise permutation test: Wilks' statistic, the null it keeps, and the one that a naive test does not keep."""

import numpy as np
import pytest
import torch
from helpers import normal, pairs

import mmcl
from mmcl.practice.permutation import permutation_test


def canonical(x, y):
    """Canonical variates and correlations by numpy: whiten by Cholesky factors, then a singular value decomposition."""
    x, y = x - x.mean(0), y - y.mean(0)
    a, b = (c @ np.linalg.inv(np.linalg.cholesky(c.T @ c)).T for c in (x, y))
    u, s, vh = np.linalg.svd(a.T @ b)
    return a @ u, s, b @ vh.T


def test_it_is_the_loop_that_takes_variates_out_one_by_one_and_permutes_what_is_left():
    x, y = normal(40, 4, seed=1).numpy(), normal(40, 3, seed=2).numpy()
    y[:, 0] += 2 * x[:, 0]
    found = permutation_test(x, y, permutations=30, seed=5)
    assert found.p_values[0] < 0.05 < found.p_values[1] < 1
    a, s, b = canonical(x, y)
    np.testing.assert_allclose(found.correlations, s, rtol=1e-10)
    generator, counts = torch.Generator().manual_seed(5), np.ones(3)
    for _ in range(30):
        order = torch.randperm(40, generator=generator).numpy()
        for k in range(3):
            shuffled = canonical(a[order, k:], b[:, k:])[1]
            counts[k] += -np.log(1 - shuffled**2).sum() >= -np.log(1 - s[k:] ** 2).sum()
    np.testing.assert_allclose(found.p_values, np.maximum.accumulate(counts / 31), rtol=1e-6)


def test_the_order_of_the_modalities_and_invertible_maps_do_not_matter():
    x, y = pairs(60, 4, 5, seed=2)
    once = permutation_test(x, y, 50)
    again = permutation_test(x @ normal(4, 4, seed=3) + 7, y @ normal(5, 5, seed=4), 50)
    torch.testing.assert_close(once.correlations, again.correlations, rtol=1e-9, atol=0)
    assert once.p_values.tolist() == again.p_values.tolist()
    torch.testing.assert_close(permutation_test(y, x, 50).correlations, once.correlations, rtol=1e-9, atol=0)


def test_a_second_correlation_that_is_not_there_is_found_at_the_level_only_though_the_first_is_strong():
    found, naive, draws = 0, 0, 200
    for seed in range(draws):
        x, y = normal(24, 3, seed=3 * seed), normal(24, 3, seed=3 * seed + 1)
        y[:, 0] = 4 * x[:, 0] + y[:, 0]
        result = permutation_test(x, y, permutations=39, seed=seed)
        assert result.p_values[0] <= 0.05
        found += result.rank() > 1
        null = [canonical(x[np.random.default_rng(k).permutation(24)].numpy(), y.numpy())[1][1] for k in range(39)]
        naive += (1 + sum(null >= result.correlations[1].numpy())) / 40 <= 0.05
    assert 1 <= found <= 20  # 10 expected; a binomial of 200 at 0.05 lies outside with probability 0.002
    assert naive < found or naive > 20


def test_as_many_components_as_are_found_are_fitted():
    x, y = pairs(300, 7, 5, seed=6)
    model = mmcl.MMCL("permutation").fit(x, y)
    assert model.n_components_ == model.permutation_test_.rank() == 3
    assert mmcl.MMCL("permutation").fit(normal(80, 4, seed=7), normal(80, 3, seed=8)).n_components_ == 1
    with pytest.raises(ValueError, match="cannot be streamed"):
        mmcl.MMCL("permutation").partial_fit(x, y).partial_fit(x, y)


def test_too_few_pairs_end_in_one_sentence():
    with pytest.raises(ValueError, match=r"n = 9 pairs and 5 \+ 4 features"):
        permutation_test(normal(9, 5, seed=1), normal(9, 4, seed=2))
