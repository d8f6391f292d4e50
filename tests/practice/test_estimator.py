"""The estimator: what it computes, against closed forms; how it behaves, against scikit-learn's contract."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import normal, pairs
from sklearn.base import clone
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import mmcl
from mmcl.covariance import cross_covariance, whitening
from mmcl.losses import LOSSES
from mmcl.metrics import mean_average_precision, top_k_accuracy
from mmcl.practice.selection import partner_score, partner_scores

NUMERALS = np.load(Path(__file__).parents[1] / "data" / "numerals.npz")
ORDER = np.random.default_rng(0).permutation(2000)
TRAIN, TEST = ORDER[:1500], ORDER[1500:]


def numpy_pairs(n=300, d1=7, d2=5, seed=0):
    return tuple(a.numpy() for a in pairs(n, d1, d2, seed=seed))


# ---------------------------------------------------------------- what it computes


@pytest.mark.parametrize("loss", ["linear", "clip"])
def test_on_centred_data_it_is_the_fit_of_the_module(loss):
    x, y = pairs(200, 7, 5, seed=1)
    chosen = LOSSES[loss](**({"tau": 0.5} if loss == "clip" else {}))
    model = mmcl.MMCL(3, loss=loss, tau=0.5, scale="centre", rho=0.5, tol=1e-8).fit(x, y)
    expected = mmcl.fit(x - x.mean(0), y - y.mean(0), 3, chosen, rho=0.5)
    torch.testing.assert_close(torch.as_tensor(model.x_rotations_), expected.g1.mT, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(torch.as_tensor(model.y_rotations_), expected.g2.mT, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(model.transform(x), (x - x.mean(0)) @ expected.g1.mT, rtol=1e-6, atol=1e-8)
    given = mmcl.MMCL(3, loss=chosen, scale="centre", rho=0.5, tol=1e-8).fit(x, y)
    np.testing.assert_array_equal(given.x_rotations_, model.x_rotations_)


def test_whitened_without_a_ridge_it_is_canonical_correlation_analysis():
    x, y = pairs(300, 7, 5, seed=2)
    model = mmcl.MMCL(5, ridge=0.0).fit(x, y)
    expected = torch.linalg.svdvals(whitening(x) @ cross_covariance(x, y) @ whitening(y))
    z, z_tilde = model.transform(x, y)
    found = [float(torch.corrcoef(torch.stack([a, b]))[0, 1]) for a, b in zip(z.mT, z_tilde.mT, strict=True)]
    torch.testing.assert_close(torch.tensor(found, dtype=x.dtype), expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(z.var(0), expected, rtol=1e-9, atol=0)  # scores weigh as the roots of correlations


def test_standardised_it_is_scikit_learns_plssvd():
    x, y = numpy_pairs(seed=3)
    z, _ = mmcl.MMCL(2, scale="standardise").fit(x, y).transform(x, y)
    expected, _ = PLSSVD(2).fit(x, y).transform(x, y)
    for a, b in zip(z.T, expected.T, strict=True):
        assert abs(np.corrcoef(a, b)[0, 1]) > 1 - 1e-9


@pytest.mark.parametrize("scale", ["whiten", "standardise"])
def test_units_and_constant_features_do_not_matter(scale):
    x, y = numpy_pairs(seed=4)
    once = mmcl.MMCL(2, scale=scale, ridge=0.1).fit(x, y)
    units = np.array([1e-6, 1, 1e6, 3, 2, 1, 1e3])
    again = mmcl.MMCL(2, scale=scale, ridge=0.1).fit(np.c_[x * units + 5, np.full(300, 0.1)], y)
    z, z_tilde = once.transform(x, y)
    np.testing.assert_allclose(again.transform(np.c_[x * units + 5, np.full(300, 0.1)]), z, rtol=1e-6, atol=1e-8)


def test_an_invertible_map_of_the_features_changes_no_whitened_score():
    x, y = numpy_pairs(seed=5)
    once, again = (mmcl.MMCL(2, ridge=0.0).fit(a, y).transform(a) for a in (x, x @ normal(7, 7, seed=6).numpy() + 3))
    np.testing.assert_allclose(np.abs(once), np.abs(again), rtol=1e-6, atol=1e-8)


def test_fewer_rows_than_features_are_fitted():
    x, y = numpy_pairs(12, 30, 20, seed=7)
    for parameters in ({}, {"ridge": 0.0}, {"scale": "centre"}, {"loss": "clip", "tau": 1.0}):
        assert np.isfinite(mmcl.MMCL(3, **parameters).fit(x, y).transform(x)).all()


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"linear", "clip"}))
def test_every_loss_is_fitted(loss):
    x, y = numpy_pairs(seed=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = mmcl.MMCL(3, loss=loss, tau=0.5, ridge=0.1, max_steps=40).fit(x[:200], y[:200])
    assert model.score(x[200:], y[200:]) > 5 / 100  # chance is about 0.05


def test_nu_weighs_the_pairs_of_clip_and_not_of_the_linear_loss_on_centred_rows():
    x, y = numpy_pairs(seed=9)
    for loss, changes in (("clip", True), ("linear", False)):
        m = [mmcl.MMCL(2, loss=loss, tau=0.5, ridge=0.1, nu=nu).fit(x, y).x_rotations_ for nu in (1.0, 2.0)]
        unit = [a / np.linalg.norm(a) for a in m]
        assert (np.abs(unit[0] - unit[1]).max() > 1e-3) == changes


# ---------------------------------------------------------------- what it chooses


def test_scores_of_prefixes_are_the_scores_of_each():
    z, z_tilde = normal(50, 6, seed=10), normal(50, 6, seed=11)
    z_tilde = z + z_tilde
    expected = [partner_score(z[:, :r], z_tilde[:, :r]) for r in (2, 3, 6)]
    np.testing.assert_allclose(partner_scores(z, z_tilde, (2, 3, 6)), expected, rtol=1e-12)


def test_the_choice_is_the_best_of_what_was_tried_and_says_so():
    x, y = numpy_pairs(400, 20, 15, seed=12)
    model = mmcl.MMCL().fit(x, y)
    (chosen,) = model.selection_
    assert chosen.score.shape == (len(chosen.tried), 3)
    best = chosen.tried[int(chosen.score.mean(1).argmax())]
    assert (model.ridge_, model.n_components_) == (best["ridge"], best["n_components"])
    assert mmcl.MMCL(2, ridge=0.1).fit(x, y).selection_ == []


def test_cross_validation_from_moments_is_cross_validation_by_refitting():
    x, y = numpy_pairs(90, 6, 5, seed=13)
    chosen = mmcl.MMCL(2).fit(x, y).selection_[0]
    fold = np.arange(90) % 3
    for i, setting in enumerate(chosen.tried):
        for k in range(3):
            model = mmcl.MMCL(2, ridge=setting["ridge"]).fit(x[fold != k], y[fold != k])
            assert abs(model.score(x[fold == k], y[fold == k]) - float(chosen.score[i, k])) < 0.01  # ties in float32


def test_the_temperature_is_chosen_and_a_flat_softmax_is_named():
    x, y = numpy_pairs(300, 7, 5, seed=14)
    model = mmcl.MMCL(3, loss="clip", ridge=0.1).fit(x, y)
    assert model.tau_ == model.selection_[-1].best["tau"]
    with pytest.warns(UserWarning, match=r"tau = 100 is large .* the linear loss; take tau near"):
        flat = mmcl.MMCL(3, loss="clip", tau=100.0, ridge=0.1).fit(x, y)
    linear = mmcl.MMCL(3, ridge=0.1).fit(x, y)
    np.testing.assert_allclose(flat.x_rotations_, linear.x_rotations_, rtol=0.05, atol=0.01)
    with pytest.warns(UserWarning, match="is large"):
        mmcl.MMCL(3, loss="clip", tau=1.0, scale="centre").fit(x / 1000, y / 1000)


def test_a_fit_that_has_not_converged_says_so():
    x, y = numpy_pairs(seed=15)
    with pytest.warns(ConvergenceWarning, match="in 2 steps; raise max_steps"):
        assert not mmcl.MMCL(3, loss="clip", tau=0.1, ridge=0.1, max_steps=2).fit(x, y).converged_


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"loss": "hinge"}, "loss = 'hinge'; use one of linear, clip"),
        ({"scale": "sphere"}, "scale = 'sphere'; use one of whiten"),
        ({"n_components": 9}, r"rank = 9; it must be an integer from 1 to min\(7, 5\)"),
        ({"n_components": "all"}, "n_components = 'all'; give a number or 'auto' or 'permutation'"),
        ({"ridge": -1.0}, "ridge = -1.0"),
        ({"tau": 0.0}, "tau = 0.0"),
        ({"rho": -1.0}, "rho = -1.0"),
        ({"nu": 0.5}, "nu = 0.5"),
        ({"strangers": 0, "loss": "clip", "tau": 1.0}, "strangers = 0"),
        ({"strangers": 50, "loss": "triplet"}, "cannot be fitted with sampled strangers"),
    ],
    ids=str,
)
def test_parameters_that_are_not_allowed_end_in_one_sentence(parameters, message):
    with pytest.raises(ValueError, match=message):
        mmcl.MMCL(**{"n_components": 2, "ridge": 0.1} | parameters).fit(*numpy_pairs())


# ---------------------------------------------------------------- scikit-learn


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("parameters", [{}, {"n_components": 1, "loss": "clip", "tau": 1.0, "ridge": 0.1}], ids=str)
def test_scikit_learns_checks_hold(parameters):
    found = check_estimator(
        mmcl.MMCL(**parameters), on_skip=None
    )  # one, of other array libraries, needs a variable set
    assert sum(check["status"] == "passed" for check in found) > 40


def test_grid_search_and_pipelines_choose_and_score():
    x, y = numpy_pairs(seed=16)
    search = GridSearchCV(mmcl.MMCL(ridge=0.1), {"n_components": [1, 3], "scale": ["whiten", "centre"]}, cv=3)
    search.fit(x, y)
    assert search.best_params_["n_components"] == 3
    assert search.best_estimator_.transform(x).shape == (300, 3)
    chain = make_pipeline(StandardScaler(), mmcl.MMCL(2, ridge=0.1)).fit(x, y)
    direct = mmcl.MMCL(2, ridge=0.1).fit(x, y)
    np.testing.assert_allclose(chain.transform(x), direct.transform(x), rtol=1e-8, atol=1e-10)
    assert abs(chain.score(x, y) - direct.score(x, y)) < 1e-9


def test_a_clone_is_unfitted_and_a_pickle_is_the_model():
    x, y = numpy_pairs(seed=17)
    model = mmcl.MMCL(2, ridge=0.1).fit(x, y)
    with pytest.raises(NotFittedError):
        clone(model).transform(x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(x), model.transform(x))


def test_the_score_is_the_mean_average_precision_of_partners_both_ways():
    x, y = numpy_pairs(seed=18)
    model = mmcl.MMCL(2, ridge=0.1).fit(x[:200], y[:200])
    z, z_tilde = (torch.from_numpy(a) for a in model.transform(x[200:], y[200:]))
    both = mean_average_precision(z, z_tilde), mean_average_precision(z_tilde, z)
    assert abs(model.score(x[200:], y[200:]) - sum(both) / 2) < 1e-12


# ---------------------------------------------------------------- real data


@pytest.mark.parametrize(
    ("view", "other", "least"), [("fourier", "pixels", 0.19), ("fourier", "zernike", 0.18), ("pixels", "zernike", 0.77)]
)
def test_on_real_numerals_the_defaults_are_at_least_as_good_as_scikit_learns_best(view, other, least):
    x, y = NUMERALS[view], NUMERALS[other]
    ours = mmcl.MMCL().fit(x[TRAIN], y[TRAIN])
    score = ours.score(x[TEST], y[TEST])
    assert score > least
    a, b = (StandardScaler().fit(c[TRAIN].astype(float)) for c in (x, y))
    a, b = a.transform(x.astype(float)), b.transform(y.astype(float))
    for peer in (PLSSVD(16), PLSCanonical(16), CCA(8, max_iter=100, tol=1e-3)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            z, z_tilde = (torch.from_numpy(c) for c in peer.fit(a[TRAIN], b[TRAIN]).transform(a[TEST], b[TEST]))
        assert score > partner_score(z, z_tilde)
    whole = ours.transform(x[TEST], y[TEST])
    assert float(top_k_accuracy(*(torch.from_numpy(z) for z in whole), k=10)) > 20 * 10 / 500
