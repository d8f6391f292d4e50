"""Every public function takes any array that numpy can read, and refuses a bad value in one sentence that names it."""

import inspect

import pytest
import torch
from bad_calls import EYE3, EYE4, G1, G2, U, V, X, Y, finite, functions_of, names, the_same, wrong
from helpers import normal

import mmcl
from mmcl import (
    beyond,
    covariance,
    data,
    detection_theory,
    graph,
    losses,
    metrics,
    modalities,
    practice,
    spectral,
    theory,
    training,
    unimodal,
    unpaired,
)

S = 0.3 * normal(6, 6, seed=3)
PLANTED = graph.class_graph([0, 1, 2] * 4, [0, 1, 2] * 4, flip=0.1)
X_AND_Y = {"x": (X, "paired"), "x_tilde": (Y, "paired")}
ENCODERS = {"g1": (G1, "encoder"), "g2": (G2, "encoder")}
RANK, RHO, LOSS, SEED = (2, "rank"), (1.0, "positive"), ("clip", "loss"), (0, "seed")
MODEL = {"u1": (U, "rows"), "u2": (V, "rows"), "noise": (EYE4, "square"), "noise_tilde": (EYE3, "square")}
SIGNAL, WRONG, PAIRS = (1.0, "variances"), (0.1, "below one"), (100, "positive")
PARTNERS = {"candidates": ([2, 9], "numbers"), "rank": (3, "count"), "noise_std": (0.3, "weight")}
REST = {"x_unpaired": (X[:20], "rows"), "x_tilde_unpaired": (Y[:20], "rows")}
RUN = X_AND_Y | {"rank": RANK, "loss": LOSS, "seed": SEED}
EMBEDDED = {"z": (X, "rows"), "z_tilde": (normal(40, 4, seed=5), "rows")}
OWN, CLASSES = list(range(40)), {"labels": ([0, 1] * 20, "classes"), "labels_tilde": ([0, 1] * 20, "classes")}
OF_LOSS = {"nu": (1.5, "positive"), "eps": (0.5, "weight")}
CALLS = [  # function, argument -> a value that is right, and its kind
    (covariance.loss_and_covariance, X_AND_Y | ENCODERS | {"loss": LOSS}),
    (covariance.cross_covariance, X_AND_Y | {"weights": (None, "free")}),
    (covariance.cross_covariance, X_AND_Y | {"weights": (normal(40, 40), "weights")}),
    (covariance.whitening, {"x": (X, "rows"), "ridge": (0.1, "weight")}),
    (covariance.truncated_svd, {"a": (normal(4, 3), "rows"), "rank": RANK}),
    (covariance.balanced_factors, {"u": (U, "rows"), "s": (torch.ones(2).double(), "variances"), "v": (V, "rows")}),
    (covariance.linear_covariance, X_AND_Y | {"loss": (losses.Linear(nu=1.5), "linear")}),
    *(
        (
            made,
            {
                k: v
                for k, v in (
                    {
                        "tau": (0.5, "positive"),
                        "margin": (1.0, "number"),
                        "slope": (1.0, "positive"),
                        "scale": (1.0, "positive"),
                        "bias": (0.0, "number"),
                    }
                    | OF_LOSS
                ).items()
                if k in inspect.signature(made).parameters
            },
        )
        for made in losses.LOSSES.values()
    ),
    *((made(), {"s": (S, "square")}) for made in losses.LOSSES.values()),
    (losses.CLIP().weights, {"s": (S, "square")}),
    (losses.resolve, {"loss": LOSS}),
    (
        spectral.fit,
        X_AND_Y | {"rank": RANK, "loss": LOSS, "rho": RHO, "tol": (1e-3, "positive"), "max_steps": (9, "count")},
    ),
    (spectral.svd_objective, ENCODERS | {"a": (normal(4, 3), "encoder"), "rho": (1.0, "weight")}),
    (spectral.closed_form, {"covariance": (normal(4, 3), "rows"), "rank": RANK, "rho": RHO}),
    (spectral.algorithm_4, X_AND_Y | ENCODERS | {"rank": RANK, "tau": (1.0, "positive"), "nu": (1.5, "positive")}),
    (
        spectral.projected_step,
        X_AND_Y | ENCODERS | {"loss": LOSS, "rho": (1.0, "per entry, positive"), "step": (0.1, "per entry, positive")},
    ),
    (spectral.curvature, X_AND_Y | ENCODERS | {"loss": LOSS, "steps": (2, "count"), "seed": SEED}),
    (
        data.spiked,
        {
            "n": (8, "several"),
            "d1": (4, "count"),
            "d2": (3, "count"),
            "rank": RANK,
            "noise_std": (0.3, "deviations"),
            "wrong_share": (0.2, "share"),
            "draws": (2, "count or none"),
            "seed": SEED,
            "noise": ("isotropic", "noise"),
            "signal": SIGNAL,
            "axes": ((U, V), "axes"),
            "wrong": ("fresh", "word"),
        },
    ),
    (
        graph.class_graph,
        {"labels": ([0, 1], "labels"), "labels_tilde": ([0, 1, 1], "labels"), "flip": (0.1, "share"), "seed": SEED},
    ),
    (graph.graph_weights, {"graph": (PLANTED, "graph")}),
    (graph.graph_covariance, {"x": (X[:12], "rows"), "x_tilde": (Y[:12], "rows"), "graph": (PLANTED, "graph")}),
    (
        graph.fit_graph,
        {"x": (X[:12], "rows"), "x_tilde": (Y[:12], "rows"), "graph": (PLANTED, "graph"), "rank": RANK, "rho": RHO},
    ),
    (graph.spectral_coordinates, {"graph": (PLANTED, "graph"), "count": (2, "rank")}),
    (
        graph.partition,
        {"graph": (PLANTED, "graph"), "clusters": (3, "rank"), "seed": (0, "small seed"), "starts": (2, "count")},
    ),
    (graph.algorithm_2, {"graph": (PLANTED, "graph"), "clusters": (3, "rank"), "seed": (0, "small seed")}),
    (graph.cluster, {"z": (X, "rows"), "z_tilde": (X, "rows"), "clusters": (3, "rank"), "seed": (0, "small seed")}),
    (unpaired.UnpairedLoss, {"edges": ([[0, 1]], "edges"), "tau": (1.0, "positive"), "nu": (1.5, "positive")}),
    (unpaired.detect_edges, REST | ENCODERS),
    (unpaired.algorithm_1, X_AND_Y | REST | {"rank": RANK, "tau": (1.0, "positive"), "nu": (1.5, "positive")}),
    (unimodal.leading_eigenvectors, {"a": (EYE4, "square"), "rank": RANK}),
    (unimodal.fit_pca, {"x": (X, "rows"), "rank": RANK}),
    (unimodal.fit_masked, {"x": (X, "rows"), "rank": RANK}),
    (unimodal.without_diagonal, {"a": (EYE4, "square")}),
    (unimodal.masked_views, {"x": (X, "rows"), "seed": SEED}),
    (
        unimodal.train_masked,
        {"x": (X, "rows"), "rank": RANK, "steps": (2, "steps"), "lr": (0.5, "positive"), "seed": SEED},
    ),
    (
        modalities.additive_loss,
        {"views": ([X, Y], "views"), "encoders": ([G1, G2], "encoders"), "loss": LOSS, "rho": (1.0, "weight")},
    ),
    (modalities.loss_and_covariances, {"views": ([X, Y], "views"), "encoders": ([G1, G2], "encoders"), "loss": LOSS}),
    (
        modalities.modality_gradient,
        {"views": ([X, Y], "views"), "encoders": ([G1, G2], "encoders"), "mu": (1, "modality"), "loss": LOSS},
    ),
    (
        modalities.fit_modalities,
        {
            "views": ([X, Y], "views"),
            "rank": RANK,
            "loss": LOSS,
            "rho": RHO,
            "tol": (1e-3, "positive"),
            "max_steps": (2, "count"),
        },
    ),
    (theory.multimodal_error, MODEL | {"n": PAIRS, "signal": SIGNAL, "wrong_share": WRONG}),
    (theory.unimodal_error, {"u": (U, "rows"), "noise": (EYE4, "square"), "n": PAIRS, "signal": SIGNAL}),
    (theory.masked_bias, {"u": (U, "rows"), "noise": (EYE4, "square"), "signal": SIGNAL}),
    (theory.overtaking_n, MODEL | {"signal": SIGNAL, "wrong_share": WRONG}),
    (theory.effective_rank, {"a": (EYE4, "square")}),
    (
        theory.epsilon_n,
        {"n": (100, "numbers"), "rank": (2, "count"), "noise": (EYE4, "square"), "noise_tilde": (EYE3, "square")},
    ),
    (
        theory.rate_bound,
        {
            "n": (100, "numbers"),
            "right_share": (0.5, "numbers"),
            "noise": (EYE4, "square"),
            "noise_tilde": (EYE3, "square"),
            "rank": (2, "count"),
            "constant": (1.0, "positive"),
        },
    ),
    (theory.algorithm_4_signal, {"nu": (2.0, "numbers"), "right_share": (0.5, "numbers")}),
    (theory.algorithm_4_factor, {"nu": (2.0, "numbers"), "right_share": (0.7, "numbers")}),
    (detection_theory.correlation, {"noise_std": (0.3, "weight")}),
    (detection_theory.information, {"rank": (3, "count"), "noise_std": (0.3, "weight")}),
    *(
        (f, PARTNERS)
        for f in (
            detection_theory.bayes_top1,
            detection_theory.inner_product_top1,
            detection_theory.exact_detection_bound,
            detection_theory.exact_detection,
        )
    ),
    (detection_theory.partition_threshold, {"per_class": (5, "positive"), "n_images": (50, "positive")}),
    (
        training.gradient_step,
        ENCODERS | {"covariance": (normal(4, 3), "encoder"), "rho": (1.0, "per entry"), "lr": (0.1, "per entry")},
    ),
    (
        training.gradient_descent,
        RUN | {"rho": RHO, "lr": (0.1, "positive"), "steps": (2, "steps"), "scale": (1.0, "positive")},
    ),
    (training.similarities, {"x": (X, "rows"), "x_tilde": (Y, "rows")} | ENCODERS),
    (
        training.adamw,
        RUN | {"rho": (0.5, "weight"), "lr": (0.1, "positive"), "epochs": (1, "steps"), "batch_size": (9, "several")},
    ),
    (
        training.lbfgs,
        RUN | {"rho": RHO, "tol": (1e-3, "positive"), "max_steps": (2, "count"), "scale": (1.0, "positive")},
    ),
    (metrics.sin_theta, {"u": (U, "rows"), "v": (normal(4, 2), "rows")}),
    (metrics.orthonormal_columns, {"name": ("u", "free"), "u": (U, "rows")}),
    (metrics.top_k_accuracy, EMBEDDED | {"k": (2, "rank"), "targets": (OWN, "places")}),
    (metrics.partner_ranks, EMBEDDED | {"targets": (OWN, "places")}),
    (metrics.median_rank, EMBEDDED | {"targets": (OWN, "places")}),
    (metrics.class_accuracy, EMBEDDED | CLASSES | {"k": (2, "rank")}),
    (metrics.mean_average_precision, EMBEDDED | CLASSES),
    (metrics.recall_at_k, EMBEDDED | {"k": (2, "rank")} | CLASSES),
    (metrics.relative_error, {"a": (X, "vector"), "b": (X + 1, "vector")}),
    (
        metrics.probe_risk,
        {
            "features": (X, "rows"),
            "targets": (Y, "rows"),
            "features_test": (X[:20], "encoder"),
            "targets_test": (Y[:20], "encoder"),
            "ridge": (0.1, "weight"),
        },
    ),
]


@pytest.mark.parametrize("call", CALLS, ids=names)
def test_what_is_wrong_is_named_in_one_sentence(call):
    wrong(call)


@pytest.mark.parametrize("call", CALLS, ids=names)
def test_numbers_are_the_same_in_whatever_array_they_come(call):
    the_same(call)


@pytest.mark.parametrize("call", [c for c in CALLS if names(c) != "information"], ids=names)
def test_what_is_found_at_the_edges_is_finite_or_refused(call):
    finite(call)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.bool])
def test_integers_and_half_precision_are_computed_in_float64(dtype):
    """Half a mantissa holds no decomposition; numpy's half and small integers are read alike."""
    x = (4 * X).round().to(dtype)
    for rows in (x, *([] if dtype == torch.bfloat16 else [x.numpy()])):
        found = spectral.fit(rows, rows, 2)
        assert found.g1.dtype == torch.float64
        torch.testing.assert_close(found.g1, spectral.fit(x.double(), x.double(), 2).g1)
    assert spectral.fit(X.float(), Y.float(), 2).g1.dtype == torch.float32
    assert spectral.fit(X.float(), Y.numpy(), 2).g1.dtype == torch.float64


def test_the_table_holds_every_function_of_the_face_and_of_the_mathematics():
    """Those not in it are the loops inside others, which check; those of the wings have tables of their own."""
    wings = functions_of(beyond) | functions_of(practice)
    inside = {"evaluate", "take_steps", "with_classes"}
    every = functions_of(mmcl, "_retrieval")
    assert every - {names(call) for call in CALLS} == inside
    assert {name for name in mmcl.__all__ if inspect.isfunction(getattr(mmcl, name))} <= every | wings
