"""Unpaired rows of which only some have a partner."""

import torch

from mmcl.beyond.partial_overlap import error_control, gains, overlapping

MODEL = dict(d1=12, d2=10, rank=3, noise_std=0.2)


def test_partners_share_their_latents_and_no_other_rows_do():
    (p,) = overlapping(20, 9, 1 / 3, draws=1, seed=2, d1=8, d2=8, rank=8, noise_std=0.0)
    # without noise and at full rank lengths of rows are those of their latents
    first, second = (a.norm(dim=1) for a in (p.x_unpaired, p.x_tilde_unpaired))
    same = torch.isclose(first[:, None], second[None, :])
    assert p.partners == 3
    assert same.nonzero().tolist() == [[6, 0], [7, 1], [8, 2]]
    assert p.has_partner.tolist() == [False] * 6 + [True] * 3
    every = torch.cartesian_prod(torch.arange(9), torch.arange(9))
    assert every[p.right(every)].tolist() == same.nonzero().tolist()


def test_without_overlap_no_pair_is_right():
    (p,) = overlapping(20, 4, 0.0, draws=1, **MODEL)
    every = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    assert not bool(p.right(every).any())


def test_control_keeps_its_rate_and_none_keeps_nothing():
    wrong, found = error_control(overlapping(150, 200, 0.5, draws=6, seed=3, **MODEL), 3, [0.05, 0.3])
    assert wrong.shape == found.shape == (3, 6)
    assert bool((found[0] <= found[1]).all())
    assert float(wrong[1].mean()) <= 0.3 + 2 * float(wrong[1].std()) / 6**0.5
    assert wrong[2].mean() > wrong[1].mean()
    wrong, found = error_control(overlapping(150, 100, 0.0, draws=3, seed=4, **MODEL), 3, [0.05])
    assert torch.equal(wrong[1], torch.ones(3, dtype=torch.float64))
    assert torch.equal(found, torch.zeros(2, 3, dtype=torch.float64))


def test_all_pairs_known_are_the_limit_of_what_unpaired_rows_can_gain():
    found = gains(60, 300, draws=3, rank=3, seed=5, d1=12, d2=10, noise_std=0.2)
    known, detected = found["all pairs known"].mean(), found["all detected pairs"].mean()
    assert 0.2 < known < detected < 0.9
