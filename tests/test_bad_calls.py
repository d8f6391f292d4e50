"""Every public function takes any array that numpy can read, and refuses a bad value in one sentence that names it."""

import inspect
import math
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import normal, pairs
from torch import Tensor

import mmcl
from mmcl import (
    covariance,
    data,
    detection_theory,
    graph,
    losses,
    metrics,
    modalities,
    spectral,
    theory,
    training,
    unimodal,
    unpaired,
)
from mmcl.beyond import detection, filtering, landmarks, latent_classes, ratio, refit

MODULE = str(Path(mmcl.__file__).parent)
X, Y = pairs(40, 4, 3, seed=0)
G1, G2 = normal(2, 4, seed=1), normal(2, 3, seed=2)
U, V = (torch.linalg.qr(normal(d, 2, seed=d))[0] for d in (4, 3))
FITTED = spectral.fit(X, Y, 2)
S = 0.3 * normal(6, 6, seed=3)
PLANTED = graph.class_graph([0, 1, 2] * 4, [0, 1, 2] * 4, flip=0.1)
EYE4, EYE3 = torch.eye(4, dtype=torch.float64), torch.eye(3, dtype=torch.float64)


class Frame:
    """As a frame of pandas: an array for numpy, but rows cannot be had by their number, nor a shape by torch."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __getitem__(self, key):
        raise KeyError(key)

    def __len__(self):
        return len(self.values)


def spoilt(value):
    """The array with one entry that is no number, or not finite."""
    for bad in (math.nan, math.inf):
        (a := value.clone(memory_format=torch.contiguous_format)).view(-1)[-1] = bad
        yield a


WORDS = ["x", None, 1j, {}, object()]
NOT_NUMBERS = [*WORDS, "3", math.nan, math.inf, [1.0, 2.0], 10**400]
BAD = {  # kind of an argument -> what it cannot be
    "rows": lambda a: [
        *spoilt(a),
        a.to(torch.complex128),
        a.numpy() * 1j,
        a[0, 0],
        a[0],
        a[:, :0],
        a.numpy().astype(str),
        a.numpy().astype(object),
        [[1.0, 2.0], [3.0]],
        a.to_sparse(),
        *WORDS,
    ],
    "paired": lambda a: [*BAD["rows"](a), a[:-1], a[:1], a[:0], torch.stack([a, a])],
    "encoder": lambda a: [*BAD["rows"](a), a[:, :-1], a.mT],
    "square": lambda a: [*BAD["rows"](a), a[:-1], torch.stack([a[:-1]])],
    "weights": lambda a: [v for v in BAD["square"](a) if v is not None],
    "fitted": lambda _: [*WORDS, X, {"g1": G1, "g2": G2}],
    "graph": lambda a: [*BAD["rows"](a), -a, 0 * a],
    "labels": lambda a: [[0.5] * len(a), ["a"] * len(a), [math.nan] * len(a), *WORDS],
    "rank": lambda _: [*NOT_NUMBERS, 0, -1, 2.5, 10**6, True],
    "count": lambda _: [*NOT_NUMBERS, 0, -1, 2.5, True],
    "count or none": lambda _: [v for v in BAD["count"](_) if v is not None],
    "steps": lambda _: [*NOT_NUMBERS, -1, 2.5, True],
    "several": lambda _: [*BAD["count"](_), 1],
    "positive": lambda _: [*NOT_NUMBERS, 0.0, -1.0, True],
    "weight": lambda _: [*NOT_NUMBERS, -1.0, True],
    "number": lambda _: [*NOT_NUMBERS, True],
    "share": lambda _: [*NOT_NUMBERS, -0.1, 1.1],
    "below one": lambda _: [*NOT_NUMBERS, -0.1, 1.0],
    "fdr": lambda _: [v for v in (*NOT_NUMBERS, 0.0, 1.0, -0.1) if v is not None],
    "per entry": lambda _: [*WORDS, math.nan, math.inf, [1.0, 2.0], [], [[[1.0, 2.0]]]],
    "per entry, positive": lambda _: [*BAD["per entry"](_), -1.0, torch.tensor([[[1.0]], [[-1.0]]])],
    "numbers": lambda _: [*WORDS, math.nan, -1.0, [1.0, -1.0], []],
    "variances": lambda _: [*WORDS, math.nan, -1.0, [1.0, -1.0], [1.0] * 7, []],
    "seed": lambda _: [*NOT_NUMBERS, 2.5, 2**64],
    "small seed": lambda _: [*NOT_NUMBERS, 2.5, -1, 2**32],
    "loss": lambda _: ["nothing", None, 3, losses.CLIP, ["clip"], X],
    "word": lambda _: ["nothing", None, 3, ["clip"], X],
    "noise": lambda _: ["nothing", 3, -EYE4, normal(4, 4), EYE4 * math.nan, (EYE4,), EYE4[:2]],
    "deviations": lambda _: [*WORDS, math.nan, math.inf, -0.1, (0.1, -2.0), (0.1, 0.2, 0.3), (0.1, "x")],
    "axes": lambda _: [(U,), (U, V, V), (V, U), (U[:, :1], V), (U * math.nan, V), "x", 3],
    "views": lambda _: [[X], [], X, None, "x", [X, Y[:5]], [X, Y * math.nan], [X, "x"]],
    "encoders": lambda _: [[G1], [], [G1, G2, G2], [G1, G1], [G1, G2 * math.nan], [G1, "x"]],
    "modality": lambda _: [*NOT_NUMBERS, 2, -1, 0.5],
    "edges": lambda _: [[], [[0]], [[0.5, 1.0]], "x", [[0, math.nan]], 3],
    "free": lambda _: [],
}
X_AND_Y = {"x": (X, "paired"), "x_tilde": (Y, "paired")}
ENCODERS = {"g1": (G1, "encoder"), "g2": (G2, "encoder")}
RANK, RHO, LOSS, SEED = (2, "rank"), (1.0, "positive"), ("clip", "loss"), (0, "seed")
MODEL = {"u1": (U, "rows"), "u2": (V, "rows"), "noise": (EYE4, "square"), "noise_tilde": (EYE3, "square")}
SIGNAL, WRONG, PAIRS = (1.0, "variances"), (0.1, "below one"), (100, "positive")
PARTNERS = {"candidates": ([2, 9], "numbers"), "rank": (3, "count"), "noise_std": (0.3, "weight")}
REST = {"x_unpaired": (X[:20], "rows"), "x_tilde_unpaired": (Y[:20], "rows")}
RUN = X_AND_Y | {"rank": RANK, "loss": LOSS, "seed": SEED}
OF_LOSS = {"nu": (1.5, "positive"), "eps": (0.5, "weight")}
CALLS = [  # function, argument -> a value that is right, and its kind
    (covariance.loss_and_covariance, X_AND_Y | ENCODERS | {"loss": LOSS}),
    (covariance.cross_covariance, X_AND_Y | {"weights": (None, "free")}),
    (covariance.cross_covariance, X_AND_Y | {"weights": (normal(40, 40), "weights")}),
    (covariance.whitening, {"x": (X, "rows"), "ridge": (0.1, "weight")}),
    (covariance.truncated_svd, {"a": (normal(4, 3), "rows"), "rank": RANK}),
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


def names(call):
    return getattr(call[0], "__qualname__", repr(call[0]))


@pytest.mark.parametrize("call", CALLS, ids=names)
def test_what_is_wrong_is_named_in_one_sentence(call):
    function, arguments = call
    right = {name: value for name, (value, _) in arguments.items()}
    function(**right)
    said = []
    for name, (value, kind) in arguments.items():
        for bad in BAD[kind](value):
            try:
                function(**right | {name: bad})
                said.append(f"{name}={bad!r} is taken in silence")
            except (ValueError, TypeError) as error:
                where = traceback.extract_tb(error.__traceback__)[-1].filename
                if "\n" in str(error) or len(str(error)) > 300 or not where.startswith(MODULE):
                    said.append(f"{name}={bad!r}: {where[-30:]}: {error}")
            except Exception as error:
                said.append(f"{name}={bad!r}: {type(error).__name__}: {error}")
    assert not said, f"{len(said)}:\n" + "\n".join(" ".join(s.split())[:200] for s in said)


ARRAYS = ("rows", "paired", "encoder", "square", "graph", "weights")
WAYS = {  # what holds the numbers of a tensor, whatever the order of its rows and bytes
    "numpy": lambda a: a.numpy(),
    "turned twice": lambda a: np.ascontiguousarray(a.numpy()[::-1])[::-1],
    "by columns": lambda a: np.asfortranarray(a.numpy()),
    "every other": lambda a: np.repeat(a.numpy(), 2, axis=0)[::2],
    "big-endian": lambda a: a.numpy().astype(">f8"),
    "read-only": lambda a: np.frombuffer(a.contiguous().numpy().tobytes()).reshape(a.shape),
    "long double": lambda a: a.numpy().astype(np.longdouble),
    "lists": lambda a: a.tolist(),
    "frame": lambda a: Frame(a.numpy()),
    "transposed": lambda a: a.mT.contiguous().mT,
}


def numbers_in(result):
    """The tensors and numbers of a result, one after the other."""
    if isinstance(result, Tensor | float | int):
        return [torch.as_tensor(result).double()]
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else []
    parts = parts or vars(result).values() if hasattr(result, "__dict__") else parts
    return [tensor for part in parts for tensor in numbers_in(part)]


@pytest.mark.parametrize("call", CALLS, ids=names)
def test_numbers_are_the_same_in_whatever_array_they_come(call):
    function, arguments = call
    right = {name: value for name, (value, _) in arguments.items()}
    arrays = [name for name, (_, kind) in arguments.items() if kind in ARRAYS]
    expected = numbers_in(function(**right)) if arrays else []
    for way, made in WAYS.items() if arrays else ():
        found = numbers_in(function(**right | {name: made(right[name]) for name in arrays}))
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, equal_nan=True, msg=f"{way}: {a} {b}")


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
    """Those not in it take the results of others, or more rows than these, or are checked beside what they measure."""
    left_out = {
        "audit",
        "balanced_factors",
        "evaluate",
        "linear_covariance",
        "orthonormal_columns",
        "take_steps",
        "softplus",
    }
    files = (
        covariance,
        data,
        detection_theory,
        graph,
        losses,
        modalities,
        spectral,
        theory,
        training,
        unimodal,
        unpaired,
    )
    every = {
        f
        for m in files
        for n, f in vars(m).items()
        if inspect.isfunction(f) and f.__module__ == m.__name__ and n[0] != "_"
    }
    every |= {getattr(mmcl, name) for name in mmcl.__all__ if inspect.isfunction(getattr(mmcl, name))}
    here = {names(call) for call in CALLS}
    open_to_all = {
        f.__name__
        for f in every
        if not f.__module__.startswith(("mmcl.metrics", "mmcl.practice")) and not f.__name__.startswith("_")
    }
    assert open_to_all - here - left_out == set()
