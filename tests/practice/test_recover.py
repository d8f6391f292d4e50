"""Recovery of partners: safe by default, sure of what it says, and in words when nothing is found."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcl import detect_and_refit
from mmcl.beyond.confidence import calibration
from mmcl.beyond.cross_fit import cross_fit
from mmcl.data import spiked
from mmcl.experiments.digits import digits_views
from mmcl.practice.overview import perfect_error, reliability
from mmcl.practice.recover import recover


def rows(seed, known, unpaired, noise_std, rank=5, overlap=1.0):
    """Known pairs, unpaired rows of which a share has a partner, and the lag between partners."""
    partners = round(overlap * unpaired)
    p = spiked(known + 2 * unpaired - partners, 12, 10, rank=rank, noise_std=noise_std, seed=seed)
    start = known + unpaired - partners
    x, y = p.x[known : known + unpaired], p.x_tilde[start : start + unpaired]
    return (p.x[:known], p.x_tilde[:known], x, y), unpaired - partners


def test_error_control_is_the_default():
    assert inspect.signature(detect_and_refit).parameters["fdr"].default == 0.1
    false = []
    for seed in range(6):
        data, lag = rows(seed, 300, 200, 0.1, overlap=0.5)
        pairs = detect_and_refit(*data, 5).pairs
        false.append(float((pairs[:, 0] - pairs[:, 1] != lag).double().mean()) if len(pairs) else 0.0)
    assert np.mean(false) <= 0.1 + 2 * np.std(false) / 6**0.5


def test_a_weak_relation_recovers_nothing_and_leaves_the_encoders_as_they_were():
    data, _ = rows(1, 200, 300, noise_std=2.0)
    found = detect_and_refit(*data, 5)
    assert len(found.pairs) == 0
    assert found.reason.startswith("too weak a relation")
    torch.testing.assert_close(found.g1, found.history[0].g1)
    assert detect_and_refit(*data, 5, fdr=None).reason == ""


def test_the_correlation_that_the_reason_asks_for_is_enough():
    weak = detect_and_refit(*rows(2, 400, 100, noise_std=1.2)[0], 5)
    asked = float(re.search(r"correlations of about (\d\.\d+)", weak.reason)[1])
    noise_std = (1 / min(0.99, asked + 0.02) - 1) ** 0.5  # of spiked data with correlations 1 / (1 + noise_std^2)
    assert len(weak.pairs) == 0
    assert len(detect_and_refit(*rows(2, 400, 100, noise_std=noise_std)[0], 5, fdr=0.2).pairs) > 0


def test_the_number_of_pairs_that_the_reason_asks_for_is_enough():
    few = detect_and_refit(*rows(3, 30, 600, noise_std=0.02, overlap=0.4)[0], 5, fdr=0.02)
    assert few.reason.startswith("too few pairs: with 30 known pairs and 600 unpaired rows")
    asked = int(re.search(r"about (\d+) known pairs would do", few.reason)[1])
    assert len(detect_and_refit(*rows(3, asked, 600, noise_std=0.02, overlap=0.4)[0], 5, fdr=0.02).pairs) > 0


def hidden_digits(seed, lag, known=600, unpaired=200):
    """Views of real digits: known pairs, and unpaired rows whose partners stand ``lag`` rows before."""
    v = digits_views(1000, seed)
    more = v.x[known : known + unpaired], v.x_tilde[known + lag : known + lag + unpaired]
    return v.x[:known], v.x_tilde[:known], *more


def test_what_is_called_probable_happens_as_often_though_a_quarter_of_the_rows_has_no_partner():
    sure, right = [], []
    for seed in range(4):
        found = recover(*hidden_digits(seed, lag=50), n_components=16, fdr=0.2)
        sure.append(found.confidence)
        right.append(found.pairs[:, 0] - found.pairs[:, 1] == 50)
    sure, right = torch.cat(sure), torch.cat(right)
    assert len(sure) > 100
    assert 0.7 < right.double().mean()
    assert reliability(sure, right, 5)[-1] < 0.05


def hidden_numerals(seed, lag, known=600, unpaired=300):
    """Pixels and Zernike moments of numerals, otherwise the same."""
    held = np.load(Path(__file__).parents[1] / "data" / "numerals.npz")
    order = np.random.default_rng(seed).permutation(2000)
    x, y = (held[name].astype(float)[order] for name in ("pixels", "zernike"))
    end = known + unpaired
    return x[:known], y[:known], x[known:end], y[known + lag : end + lag]


def test_on_numerals_confidence_is_as_calibrated_as_one_that_is_right_would_be():
    sure, right = [], []
    for seed in range(6):
        found = recover(*hidden_numerals(seed, lag=0), n_components=20, fdr=0.1)
        sure.append(found.confidence)
        right.append(found.pairs[:, 0] == found.pairs[:, 1])
    sure, right = torch.cat(sure), torch.cat(right)
    assert len(sure) > 100
    assert reliability(sure, right, 5)[-1] < perfect_error(sure, 5).quantile(0.99) < 0.05


@pytest.mark.parametrize(("lag", "share"), [(0, 1.0), (150, 0.5), (225, 0.25)])
def test_the_share_of_rows_that_have_a_partner_is_found(lag, share):
    found = []
    for seed in range(4):
        known = [torch.tensor(rows) for rows in hidden_numerals(seed, lag, known=1000)]
        nothing = torch.empty(0, 2, dtype=torch.int64)
        found.append(calibration(cross_fit(*known, 20, 5), nothing, 300).partner_share())
    assert np.mean(found) == pytest.approx(share, abs=0.1)


def test_without_error_control_confidence_is_low_where_the_relation_is_weak():
    sure, right = [], []
    for seed in range(4):
        data, _ = rows(seed, 200, 200, noise_std=1.5)
        found = detect_and_refit(*data, 5, fdr=None)
        sure.append(found.confidence)
        right.append(found.pairs[:, 0] == found.pairs[:, 1])
    assert abs(float(torch.cat(sure).mean() - torch.cat(right).double().mean())) < 0.05


def test_tables_of_any_kind_are_taken_and_missing_values_named():
    (x, y, more, more_tilde), _ = rows(4, 60, 20, 0.2)
    found = recover(x, y, more.numpy(), more_tilde.numpy(), n_components=5)
    assert found.pairs.shape[1] == 2
    with pytest.raises(ValueError, match="X_unpaired"):
        recover(x, y, more * torch.nan, more_tilde)
