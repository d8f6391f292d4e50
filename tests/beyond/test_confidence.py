"""What hidden pairs say about detected ones: flat where a label is rare, and the numbers in the reason for nothing."""

import pytest
import torch
from helpers import normal

from mmcl.beyond.confidence import Calibration, logistic, why_nothing


@pytest.mark.parametrize("found", [0, 1, 2])
def test_with_a_rare_label_the_odds_are_those_of_its_share_with_half_a_case_added_on_either_side(found):
    label = (torch.arange(9) < found).double()
    flat = logistic(normal(9), label, torch.ones(9), normal(4, seed=1))
    torch.testing.assert_close(flat.sigmoid(), torch.full((4,), (found + 0.5) / 10, dtype=torch.float64))


def seen(right):
    """40 hidden pairs of which all or none find their partner, and unpaired rows that look as if they had none."""
    odds, alone = normal(40) + 8, normal(40, seed=1) - 8
    return Calibration(odds, torch.full((40,), right), alone, normal(200, seed=2) - 8, torch.empty(0), 5.0)


def test_too_few_pairs_are_those_that_leave_no_p_value_small_enough_for_what_could_stand_out():
    """n1/(q (2 n + 1)) pairs must be above all null statistics; half of the rows could where little is known."""
    assert "asks for at least 50 pairs" in why_nothing(seen(True), 100, 1000, 1000, rank=5, fdr=0.1)
    lost = [why_nothing(seen(False), n, 100, 100, rank=5, fdr=0.1) for n in (9, 10)]
    assert "at least 53 pairs" in lost[0]
    assert "about 50 could" in lost[0]
    assert lost[1].startswith("too weak a relation")
