"""The audit on real pairs of which a known share is shuffled: digits in halves, and numerals in two descriptions."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from sklearn.metrics import roc_auc_score

from mmcl import audit
from mmcl.practice.overview import cosine_scores, reliability, weighted_places

RANK = 20


def halves():
    """The left and the right half of each digit of scikit-learn."""
    images = sklearn.datasets.load_digits().images
    return images[:, :, :4].reshape(-1, 32), images[:, :, 4:].reshape(-1, 32)


def numerals():
    """Fourier coefficients and Zernike moments of each numeral of the Multiple Features set."""
    held = np.load(Path(__file__).parents[1] / "data" / "numerals.npz")
    return held["fourier"].astype(float), held["zernike"].astype(float)


def shuffled(views, share, seed):
    """900 pairs of which a share is passed on in a cycle, 800 held out, and which of the pairs are wrong."""
    order = np.random.default_rng(seed).permutation(len(views[0]))
    (x, y), test = (v[order[:900]] for v in views), tuple(v[order[900:1700]] for v in views)
    wrong = np.arange(900) < round(share * 900)
    y[wrong] = np.roll(y[wrong], 1, 0)
    again = np.random.default_rng(seed + 1).permutation(900)
    return x[again], y[again], torch.tensor(wrong[again]), test


@pytest.mark.slow
@pytest.mark.parametrize(("share", "seed"), [(0.1, 0), (0.3, 1), (0.5, 2), (0.7, 3)])
@pytest.mark.parametrize("views", [halves, numerals])
def test_the_bound_covers_the_ranking_beats_cosine_and_weighting_does_not_lose(views, share, seed):
    x, y, wrong, test = shuffled(views(), share, seed)
    found = audit(x, y, n_components=RANK)
    assert share - 0.01 <= found.wrong_share_upper.high <= share + 0.15
    assert found.wrong_share.value == pytest.approx(share, abs=0.08)
    cosine = roc_auc_score(~wrong, cosine_scores(x, y, RANK))
    assert roc_auc_score(~wrong, found.score) > cosine - 0.005
    assert reliability(found.probability, wrong)[-1] < (0.07 if share < 0.6 else 0.1)  # 0.05 on average
    plain, weighted, known = (
        1 / weighted_places(x, y, w, RANK, test).double() for w in (torch.ones(900), found.weight, ~wrong)
    )
    error = float((weighted - plain).std()) / len(plain) ** 0.5
    assert (weighted - plain).mean() > -error
    if share in (0.3, 0.5):
        assert (weighted - plain).mean() > 0.5 * (known - plain).mean() - 2 * error
