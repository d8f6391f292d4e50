"""Slopes, crossings and intervals of curves that are known."""

import math

import pytest
import torch

from mmcl.notebook.statistics import crossing, loglog_slope


def test_slope_and_crossing_of_known_curves():
    x = torch.tensor([0.0, 0.5, 1.0])
    falling, rising = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([0.0, 0.5, 1.0])
    at = crossing(x, torch.stack([rising, falling, rising - 5, rising + 5]), falling)
    assert float(at[0]) == pytest.approx(1 / 3)
    assert math.isnan(at[1])
    assert math.isnan(at[2])
    assert float(at[3]) == 0
    t = torch.tensor([1.0, 3.0, 10.0])
    assert float(loglog_slope(t, torch.stack([2 * t**-0.7, t**2]))[0]) == pytest.approx(-0.7)
