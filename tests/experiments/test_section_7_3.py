"""The weights of Lemma 7.2 by a double loop, and the parts of Algorithm 4's matrix."""

import pytest
import torch

from mmcl.covariance import cross_covariance
from mmcl.data import spiked
from mmcl.experiments.section_7_3 import pull_and_push, weight_limits
from mmcl.losses import LOSSES

P = spiked(30, 50, 48, 40, wrong_share=0.4, draws=3, seed=2)
G1, G2, TAU = P.u1.mT, P.u2.mT, 2.0


@pytest.mark.parametrize("nu", [1.0, 2.5])
def test_the_four_distances_are_those_of_the_weights_of_clip_sorted_by_kind_of_pair(nu):
    found = weight_limits(P, G1, G2, TAU)
    weights = LOSSES["clip"](tau=TAU, nu=nu).weights((P.x @ P.u1) @ (P.x_tilde @ P.u2).mT)
    for draw in range(3):
        kinds = {"unobserved": [], "strangers": [], "right": [], "wrong": []}
        for i in range(30):
            for j in range(30):
                true, observed, w = int(P.partner[draw, i]) == j, i == j, float(weights[draw, i, j])
                if true and observed:
                    kinds["right"].append(w - (nu - 1))
                elif true:
                    kinds["unobserved"].append(1 + w)
                elif observed:
                    kinds["wrong"].append(nu - w)
                else:
                    kinds["strangers"].append(-w)
        for kind, distances in kinds.items():
            assert float(getattr(found, kind)[draw]) == pytest.approx(max(distances), rel=1e-6, abs=1e-13), kind


def test_what_is_missed_lies_between_a_quarter_and_n_times_the_exponential_of_the_smallest_lead():
    for tau in (0.5, 1.0, 2.0, 4.0):
        found = weight_limits(P, G1, G2, tau)
        ratio = torch.maximum(found.unobserved, found.right) * (found.gap / tau).exp()
        positive = found.gap > 0
        assert positive.any()
        assert bool(((ratio >= 0.25) & (ratio <= 30))[positive].all())


def test_distances_far_below_rounding_are_not_rounded_to_zero():
    found = weight_limits(spiked(30, 200, 200, 160, wrong_share=0.4, seed=1), *_subspaces(160), tau=1.0)
    assert 0 < float(found.unobserved) < 1e-20


def _subspaces(rank):
    p = spiked(30, 200, 200, rank, wrong_share=0.4, seed=1)
    return p.u1.mT, p.u2.mT


@pytest.mark.parametrize("nu", [1.0, 3.0])
def test_nu_times_the_pull_minus_the_push_is_the_covariance_of_the_weights(nu):
    pull, push = pull_and_push(P, G1, G2, TAU)
    weights = LOSSES["clip"](tau=TAU, nu=nu).weights((P.x @ P.u1) @ (P.x_tilde @ P.u2).mT)
    torch.testing.assert_close(nu * pull - push, cross_covariance(P.x, P.x_tilde, weights), rtol=0, atol=1e-12)


def test_pairs_of_one_kind_or_with_partners_outside_the_sample_are_refused():
    for p in (spiked(20, 6, 6, 2, wrong_share=0.0), spiked(20, 6, 6, 2, wrong_share=0.5, wrong="fresh")):
        with pytest.raises(ValueError, match="partners are all in the sample"):
            weight_limits(p, p.u1.mT, p.u2.mT, 1.0)
