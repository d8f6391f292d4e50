"""The six pairs of the figures."""

import pytest
import torch

from mmcl.covariance import cross_covariance
from mmcl.experiments.six_pairs import six_pairs


def test_the_six_pairs_are_centred_and_their_noise_is_uncorrelated_with_the_second_modality():
    pairs = six_pairs()
    for a in (pairs.x, pairs.x_tilde):
        assert torch.equal(a.mean(0), torch.zeros(a.shape[1]).double())
    expected = torch.tensor([[2.4, 0], [0, 3.2], [0, 0]]).double()
    torch.testing.assert_close(cross_covariance(pairs.x, pairs.x_tilde), expected)


@pytest.mark.parametrize("wrong", [0, 2, 3, 4, 5, 6])
def test_wrong_pairs_are_those_whose_corners_differ_and_their_partners_stay_in_the_sample(wrong):
    pairs = six_pairs(wrong)
    corners = pairs.x @ pairs.u1
    assert torch.equal((corners != pairs.x_tilde @ pairs.u2).any(1), pairs.wrong)
    assert int(pairs.wrong.sum()) == wrong
    partners = (corners[:, None] == pairs.x_tilde).all(-1).sum(1)
    assert torch.equal(partners, torch.ones(6, dtype=partners.dtype))


def test_the_right_partner_is_the_most_similar_row():
    pairs = six_pairs()
    similarities = (pairs.x @ pairs.u1) @ (pairs.x_tilde @ pairs.u2).mT
    assert torch.equal(similarities.argmax(1), torch.arange(6))


@pytest.mark.parametrize("wrong", [1, 7, -2])
def test_a_number_of_wrong_pairs_that_no_permutation_has_is_refused(wrong):
    with pytest.raises(ValueError, match=f"wrong = {wrong}"):
        six_pairs(wrong)
