"""Every public function of the wing takes any array that numpy can read, and refuses a bad value in one sentence."""

import functools

import pytest
import torch
from bad_calls import EYE3, EYE4, G1, G2, U, V, X, Y, finite, functions_of, names, the_same, wrong
from helpers import normal

import mmcl.beyond
from mmcl import spectral
from mmcl.beyond import (
    cross_fit,
    detection,
    few_pairs,
    filter_theory,
    filtering,
    finite_size,
    kernels,
    landmarks,
    latent_classes,
    limits,
    limits_compared,
    limits_general,
    matching,
    optimisers,
    partial_overlap,
    ratio,
    recovery,
    refit,
)

FITTED = spectral.fit(X, Y, 2)
X_AND_Y = {"x": (X, "paired"), "x_tilde": (Y, "paired")}
RANK, RHO, LOSS, SEED = (2, "rank"), (1.0, "positive"), ("clip", "loss"), (0, "seed")
REST = {"x_unpaired": (X[:20], "any rows"), "x_tilde_unpaired": (Y[:20], "any rows")}
NOISE = {"noise_std": (1.0, "scales"), "noise_std_tilde": (1.1, "scales")}
LIMIT = {"aspect": (0.2, "scales"), "aspect_tilde": ([0.3, 0.4], "scale"), "signal": (1.5, "scales")} | NOISE
ETA = {"right_share": (0.5, "shares")}
SCORES = {"scores": (matching.Scores(X, normal(30, 4)), "object")}
FEW = few_pairs.FewPairs((X, Y), (X, Y), (X, Y), (X, Y))
LABELS = [0, 1] * 20
DIRECTIONS = {"directions": (U, "one"), "within": (torch.eye(2).double(), "square"), "noise": (EYE4, "square")}
TILDE = {"directions_tilde": (V, "one"), "within_tilde": (torch.eye(2).double(), "square")}
DRAWN = {"d1": (4, "count"), "d2": (3, "count"), "rank": RANK, "draws": (1, "count"), "seed": SEED}


def every(generator):
    """A function that lists what a generator yields."""

    @functools.wraps(generator)
    def listed(**arguments):
        return list(generator(**arguments))

    return listed


CALLS = [  # function, argument -> a value that is right, and its kind
    (limits.outliers, LIMIT | ETA),
    (limits.overlaps, LIMIT | ETA),
    (
        limits.sin_theta_limit,
        {k: v for k, v in LIMIT.items() if k != "signal"} | {"signals": ([2, 1], "positives")} | ETA,
    ),
    (limits.threshold_share, LIMIT),
    (limits_compared.pca_overlap, dict.fromkeys(("aspect", "signal", "noise_std"), (1.0, "scale"))),
    (limits_compared.joint_pca_overlaps, {k: v for k, v in (LIMIT | ETA).items() if k != "noise_std_tilde"}),
    (limits_compared.cca_overlaps, LIMIT | ETA),
    (limits_compared.prediction_overlap, LIMIT | ETA),
    (limits_compared.bayes_threshold_share, LIMIT),
    (limits_compared.nuisance_thresholds, LIMIT | {"nuisance": ((4.0, 0.25, 0.4), "nuisance")}),
    (
        limits_general.paired_outliers,
        DIRECTIONS
        | TILDE
        | {"across": (torch.eye(2).double(), "square"), "noise_tilde": (EYE3, "square"), "n": (9, "several")},
    ),
    (limits_general.unimodal_outliers, DIRECTIONS | {"n": (9, "several")}),
    (limits_general.unimodal_outliers, DIRECTIONS | {"n": (9, "several"), "masked": (True, "free")}),
    (
        finite_size.finite_size_errors,
        {"u1": (U, "one"), "u2": (V, "one"), "noise": (EYE4, "covariance"), "noise_tilde": (EYE3, "covariance")}
        | {"n": (100, "several"), "signal": (1.0, "variances"), "right_share": (0.9, "share")},
    ),
    (matching.Scores, {"a": (X, "any rows"), "b": (normal(30, 4), "any encoder")}),
    (matching.top_b, SCORES | {"count": (2, "count or none")}),
    (matching.row_and_column_argmax, SCORES),
    (matching.mutual, SCORES),
    (matching.assignment, SCORES),
    (
        matching.log_odds,
        SCORES
        | {"column_sum": (torch.zeros(30).double(), "column"), "absent": (1.0, "weight"), "own": (False, "free")},
    ),
    (cross_fit.cross_fit, X_AND_Y | REST | {"rank": RANK, "folds": (5, "several")}),
    (filter_theory.kept_moments, {"rank": (3, "count"), "threshold": (0.5, "weight")}),
    (
        filter_theory.filtered_error,
        {"n": (100, "several"), "d": (9, "several"), "rank": RANK, "noise_std": (0.1, "positive")}
        | {"right_share": (0.5, "share"), "threshold": (0.5, "weight or none")},
    ),
    (few_pairs.FewPairs, dict.fromkeys(("pairs", "validation", "unpaired", "tests"), ((X, Y), "two"))),
    (few_pairs.choose, {"options": ([({}, FEW)], "options"), "labels": (LABELS, "classes"), "rank": RANK}),
    (
        few_pairs.retrieval,
        {"found": (FITTED, "fitted"), "rows": ((X, Y), "both"), "labels": (LABELS, "classes")}
        | {"labels_tilde": (LABELS, "classes")},
    ),
    (
        few_pairs.graph_map,
        {"x": (X, "one"), "dimension": (2, "rank"), "landmarks": (9, "several"), "graphs": (1, "count")}
        | {"seed": (0, "small seed")},
    ),
    (
        every(few_pairs.graph_options),
        {"features": (few_pairs.FewPairs(*[(X[:, None], Y[:, None])] * 4), "object")}
        | {"values": ((torch.ones(1, 4), torch.ones(1, 3)), "both"), "dimensions": ([2], "ranks")}
        | {"smooths": ([1.0], "numbers"), "ridges": ([0.1], "numbers")},
    ),
    (
        every(few_pairs.linear_options),
        {"features": (FEW, "object"), "dimensions": ([2], "ranks"), "ridges": ([0.1], "numbers")},
    ),
    (
        every(few_pairs.kernel_options),
        {"features": (FEW, "object"), "widths": ([0.5], "positives"), "ridges": ([0.1], "numbers")},
    ),
    *(
        (f, {"s": (normal(6, 5), "one"), "mask": (torch.ones(6, 5) > 0, "mask"), "tau": (0.5, "positive")})
        for f in (kernels.masked_clip, kernels.masked_clip_weights)
    ),
    (kernels.gaussian_kernel, {"x": (X, "rows"), "landmarks": (X[:9], "encoder"), "width": (1.0, "positive")}),
    (kernels.kernel_map, {"x": (X, "one"), "width": (1.0, "positive")}),
    (
        kernels.fit_kernel,
        {"k": (X @ X.mT, "square"), "k_tilde": (Y @ Y.mT, "square"), "weights": (normal(40, 40), "square")}
        | {"rank": RANK, "rho": RHO},
    ),
    (recovery.noise_of_information, {"nats": (3.0, "positive"), "rank": (3, "count")}),
    (recovery.swap_probability, {"rank": (3, "count"), "noise_std": (0.3, "weight")}),
    (recovery.exact_matching, {"candidates": ([2, 9], "numbers"), "rank": (3, "count"), "noise_std": (0.3, "weight")}),
    (
        recovery.recovery,
        {
            "rows": (5, "several"),
            "rank": (3, "count"),
            "noise_std": (0.3, "weight"),
            "draws": (1, "count"),
            "seed": SEED,
        },
    ),
    (recovery.known_ratio, {"u1": (U, "one"), "u2": (V, "one"), "noise_std": (0.3, "weight")}),
    (
        partial_overlap.overlapping,
        {"pairs": (9, "count"), "rows": (5, "count"), "overlap": (0.5, "share")} | DRAWN,
    ),
    (
        partial_overlap.error_control,
        {"data": (partial_overlap.overlapping(30, 10, 0.5, draws=1, d1=6, d2=5, rank=2), "object")}
        | {"rank": RANK, "rates": ([0.1, 0.2], "rates")},
    ),
    (partial_overlap.gains, {"pairs": (30, "several"), "rows": (9, "count"), "fdr": (0.2, "fdr")} | DRAWN),
    (
        optimisers.objective,
        X_AND_Y
        | {
            "g1": (G1[None], "path"),
            "g2": (G2[None], "path"),
            "loss": LOSS,
            "rho": (1.0, "weight"),
            "block": (9, "count"),
        },
    ),
    (
        optimisers.svd_iteration,
        X_AND_Y
        | {
            "start": (FITTED, "fitted"),
            "loss": LOSS,
            "rho": RHO,
            "lengths": ([0.5, 1.0], "numbers"),
            "steps": (2, "count"),
        },
    ),
    (optimisers.step_limit, X_AND_Y | {"best": (FITTED, "fitted"), "loss": LOSS, "rho": RHO}),
    (
        optimisers.distorted,
        {"best": (FITTED, "fitted"), "condition": (2.0, "ratio"), "draws": (2, "count"), "seed": SEED},
    ),
    (filtering.filtered_fit, X_AND_Y | {"rank": RANK, "threshold": (0.5, "number")}),
    (detection.calibrate, {"fit": (FITTED, "fitted")} | X_AND_Y | {"folds": (5, "several")}),
    (
        detection.detect_pairs,
        {"fit": (FITTED, "fitted")}
        | X_AND_Y
        | REST
        | {
            "fdr": (None, "fdr"),
            "rule": ("mutual", "word"),
            "score": ("density_ratio", "word"),
            "folds": (5, "several"),
        },
    ),
    (
        detection.score_matrix,
        {"fit": (ratio.gaussian_ratio(FITTED, X, Y), "fitted"), "x": (X, "rows"), "x_tilde": (Y, "rows")},
    ),
    (ratio.gaussian_ratio, {"fit": (FITTED, "fitted")} | X_AND_Y),
    (refit.detect_and_refit, X_AND_Y | REST | {"rank": RANK, "rounds": (1, "count"), "folds": (5, "several")}),
    (
        latent_classes.detect_classes,
        X_AND_Y
        | {
            "classes": (2, "several"),
            "ridge": (0.1, "positive"),
            "starts": (1, "count"),
            "moves": (1, "steps"),
            "seed": (0, "small seed"),
        },
    ),
    (
        landmarks.landmark_features,
        {
            "x": (X, "rows"),
            "dimension": (2, "rank"),
            "landmarks": (9, "several"),
            "neighbours": (3, "rank"),
            "sample": (40, "several"),
            "seed": (0, "small seed"),
        },
    ),
]


@pytest.mark.parametrize("call", CALLS, ids=names)
def test_what_is_wrong_is_named_in_one_sentence(call):
    wrong(call)


@pytest.mark.parametrize("call", CALLS, ids=names)
def test_numbers_are_the_same_in_whatever_array_they_come(call):
    the_same(call)


@pytest.mark.parametrize("call", CALLS, ids=names)
def test_what_is_found_at_the_edges_is_finite_or_refused(call):
    finite(call)


def test_the_table_holds_every_function_of_the_wing():
    """Those not in it take what others of the wing have made and checked."""
    inside = {
        *("calibrated", "calibration", "candidates", "checked", "controlled", "cosine", "density_ratio", "detect"),
        *("evidence", "inner_product", "log_likelihood", "logistic", "odds_of", "shrunk", "why_nothing"),
    }
    assert functions_of(mmcl.beyond) - {names(call) for call in CALLS} == inside
