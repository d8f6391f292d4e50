"""Slopes, crossings and intervals of curves that are known."""

import math

import pytest
import torch

from mmcl.notebook.statistics import bootstrap, crossing, interval, loglog_slope, slope_of_draws


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


def test_intervals_of_normal_draws_hold_the_mean_in_95_of_100_cases():
    values = 3 + torch.randn(4000, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, low, high = interval(values)
    torch.testing.assert_close((low + high) / 2, mean)
    held = ((low < 3) & (3 < high)).double().mean()
    # P(|t_49| < 1.96) is 0.944, known to 0.0036 from 4,000 cases
    assert abs(float(held) - 0.944) < 4 * 0.0036
    torch.testing.assert_close(interval(values.T, dim=0), (mean, low, high))


def test_the_bootstrap_of_a_mean_is_its_interval_and_keeps_the_dependence_of_samples():
    a = torch.randn(3, 400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    at, low, high = bootstrap(lambda m: m, a, resamples=4000)
    mean, wanted_low, wanted_high = interval(a)
    torch.testing.assert_close(at, mean)
    # a quantile of 4,000 resamples is known to about 4 % of the half width
    half = (wanted_high - wanted_low) / 2
    assert float(((low - wanted_low) / half).abs().max()) < 0.2
    assert float(((high - wanted_high) / half).abs().max()) < 0.2
    difference = bootstrap(lambda m, k: m - k, a, a - 1)
    for limit in difference:
        torch.testing.assert_close(limit, torch.ones(3, dtype=a.dtype))


def test_slope_of_draws_is_off_by_its_standard_error():
    x, generator = torch.tensor([1.0, 2.0, 5.0, 9.0], dtype=torch.float64), torch.Generator().manual_seed(2)
    noise = torch.randn(2000, 4, 12, generator=generator, dtype=torch.float64)
    values = x.unsqueeze(-1) ** -0.7 * (0.2 * noise).exp()
    slope, error = slope_of_draws(x, values)
    z = (slope + 0.7) / error
    assert abs(float(z.mean())) < 4 / 2000**0.5
    # t with 44 degrees of freedom has the standard deviation 1.023; that of 2,000 is known to 1.6 %
    assert float(z.std()) == pytest.approx(1.023, rel=0.065)
    torch.testing.assert_close(slope, loglog_slope(x, values.log().mean(-1).exp()))
