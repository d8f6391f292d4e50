"""The audit on real pairs of which a known share is shuffled: digits in halves, and numerals in two descriptions."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from sklearn.metrics import roc_auc_score

from mmcl import audit
from mmcl.practice.overview import cosine_scores, known_probability, reliability, weighted_places

RANK = 20


def halves():
    """The left and the right half of each digit of scikit-learn."""
    images = sklearn.datasets.load_digits().images
    return images[:, :, :4].reshape(-1, 32), images[:, :, 4:].reshape(-1, 32)


def numerals(first="fourier", second="zernike"):
    """Two descriptions of each numeral of the Multiple Features set: Fourier coefficients, pixels, Zernike moments."""
    held = np.load(Path(__file__).parents[1] / "data" / "numerals.npz")
    return held[first].astype(float), held[second].astype(float)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("views", "least", "most"), [(("pixels", "zernike"), 0.7, 1.0), (("fourier", "pixels"), 0.0, 0.6)]
)
def test_weights_recover_what_their_scores_know_of_the_right_pairs_and_the_truth_at_these_scores_no_more(
    views, least, most
):
    """Chapter 16, section 5 has the numbers of ten draws."""
    gains = []
    for seed in range(200, 204):
        x, y, wrong, test = shuffled(numerals(*views), 0.5, seed)
        found = audit(x, y, n_components=RANK)
        truth = known_probability(found.score, wrong).clamp(min=1e-8).sqrt()
        plain, *others = (
            float((1 / weighted_places(x, y, w, RANK, test).double()).mean())
            for w in (torch.ones(900), found.weight, truth, ~wrong)
        )
        gains.append([other - plain for other in others])
    ours, truth, known = np.mean(gains, 0)
    assert least < ours / known < most
    assert (truth - ours) / known < 0.2
