"""Every public function of the wing refuses a bad value in one sentence, and the estimator does in `fit`."""

import pytest
import torch
from bad_calls import X, Y, finite, functions_of, names, the_same, wrong

import mmcl.practice
from mmcl import MMCL
from mmcl.losses import CLIP
from mmcl.practice import audit, contrast, permutation, recover, robust, sampled, selection, wrong_share

PAIRS = torch.cat([X, 2 * X[:20].flip(0)]), torch.cat([Y, 2 * Y[:20].flip(0)])  # as many as an audit needs
TABLES = {"X": (PAIRS[0], "table"), "Y": (PAIRS[1], "table")}
RANKS = torch.arange(0.5, 60).double() / 60
WHITE = robust.whitened(*PAIRS)
FITTED = {"a": (WHITE.x, "paired"), "b": (WHITE.x_tilde, "paired")}
TRUSTED = [True] * 5 + [False] * 55


def estimator(X, Y, **parameters):
    """The rotations and the scores of an `MMCL` fitted to pairs."""
    model = MMCL(**parameters).fit(X, Y)
    return torch.as_tensor(model.x_rotations_), torch.as_tensor(model.y_rotations_), model.score(X, Y)


CALLS = [  # function, argument -> a value that is right, and its kind
    (
        audit.audit,
        TABLES
        | {
            "n_components": (2, "count"),
            "ridge": (0.1, "weight"),
            "trusted": (TRUSTED, "trusted"),
            "fdr": (0.2, "share"),
        }
        | {"confidence": (0.9, "fdr"), "folds": (2, "several"), "rounds": (1, "count")}
        | {"random_state": (0, "seed")},
    ),
    (
        recover.recover,
        TABLES
        | {"X_unpaired": (X[:20], "rows of X"), "Y_unpaired": (Y[:20], "rows of X")}
        | {"n_components": (2, "count"), "ridge": (0.1, "weight"), "fdr": (0.2, "fdr")},
    ),
    (
        permutation.permutation_test,
        {"x": (X, "paired"), "x_tilde": (Y, "paired"), "permutations": (9, "count"), "seed": (0, "seed")},
    ),
    (selection.partner_score, {"z": (X, "paired"), "z_tilde": (X, "paired")}),
    (selection.partner_scores, {"z": (X, "paired"), "z_tilde": (X, "paired"), "ranks": ([1, 2], "ranks")}),
    (
        sampled.fit_sampled,
        {"x": (X, "paired"), "x_tilde": (Y, "paired"), "rank": (2, "rank"), "loss": (CLIP(), "clip")}
        | {"strangers": (9, "count"), "rho": (1.0, "positive"), "tol": (1e-3, "positive"), "max_steps": (9, "count")}
        | {"seed": (0, "seed")},
    ),
    (contrast.spread, {"z": (X, "paired"), "z_tilde": (X, "paired")}),
    (robust.standard, {"x": (X, "one"), "ridge": (0.1, "weight")}),
    (robust.whitened, {"x": (X, "paired"), "x_tilde": (Y, "paired"), "ridge": (0.1, "weight")}),
    (robust.weighted_fit, FITTED | {"weights": (RANKS, "weights of pairs"), "rank": (2, "rank")}),
    (
        robust.robust_fit,
        FITTED
        | {"rank": (2, "rank"), "trusted": (TRUSTED, "trusted"), "rounds": (1, "count"), "folds": (2, "several")}
        | {"seed": (0, "seed")},
    ),
    (wrong_share.normal_score, {"u": (RANKS, "ranks of some")}),
    (wrong_share.stranger_ranks, {"scores": (X[:4, :4], "square")}),
    (wrong_share.upper_share, {"u": (RANKS, "ranks of scores"), "confidence": (0.9, "fdr")}),
    (
        wrong_share.estimate_share,
        {"u": (RANKS, "ranks of scores"), "trusted": (RANKS[50:], "ranks of some"), "confidence": (0.9, "fdr")},
    ),
    (
        estimator,
        TABLES
        | {"n_components": (2, "rank or word"), "loss": ("linear", "loss"), "rho": (1.0, "positive")}
        | {"scale": ("whiten", "word"), "ridge": (0.1, "weight"), "random_state": (0, "small seed")},
    ),
    (
        estimator,
        TABLES
        | {"n_components": (2, "rank or word"), "loss": ("clip", "loss"), "tau": (0.5, "positive")}
        | {"nu": (1.0, "at least one"), "rho": (1.0, "positive"), "ridge": (0.1, "weight")}
        | {"strangers": (9, "count or none"), "tol": (1e-3, "positive"), "max_steps": (500, "count")}
        | {"random_state": (0, "small seed")},
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
    """Those not in it take what others of the wing have made and checked, or read tables and files, for which see
    `test_inputs` and `test_files`."""
    inside = {
        *("aligned_pca", "as_pair", "as_view", "check_parameters", "conclude", "contrast", "cosine_scores"),
        *("described", "encode", "expected_rate", "folds_for", "held_out_correlations", "in_features"),
        *("known_probability", "perfect_error"),
        *(
            "log_ratios",
            "loss_of",
            "mixture",
            "moments",
            "most_wrong",
            "next_steps",
            "pairs_of",
            "places",
            "best_retrieval",
            "unnamed",
            "summary",
        ),
        *("read_pairs", "recall_curve", "reliability", "row_slices", "rows_as_csv", "scaled_rows", "scalings"),
        *("select_linear", "select_tau", "settings", "strengthened", "tally", "truths", "usable_rows"),
        *("warn_if_linear", "weighted_places"),
    }
    assert functions_of(mmcl.practice) - {names(call) for call in CALLS} == inside
