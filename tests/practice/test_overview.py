"""What is looked at before an audit: the law of correlations that strangers reach by chance."""

import pytest

from mmcl.data import spiked
from mmcl.practice.overview import held_out_correlations


@pytest.mark.parametrize("wrong_share", [0.0, 1.0])
def test_correlations_of_permuted_partners_have_mean_0_and_variance_1_over_n_whatever_the_relation(wrong_share):
    p = spiked(400, 8, 7, rank=3, noise_std=0.3, wrong_share=wrong_share)
    own, chance = held_out_correlations(p.x.numpy(), p.x_tilde.numpy(), 3, permutations=200)
    error = (400 * 200 * 3) ** -0.5  # of a mean of 600 correlations
    assert float(chance.mean()) == pytest.approx(0, abs=4 * error)
    assert float(chance.square().mean()) * 400 == pytest.approx(1, abs=4 * (2 / 600) ** 0.5)
    assert bool((own > chance.amax(0)).all()) == (wrong_share == 0)
