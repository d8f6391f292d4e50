"""Deliberate mistakes in the mathematics, and what notices each: claims of a chapter, and unit tests.

A mistake is a piece of a function's source and what a wrong idea would have written there. `broken` makes it for a
while: the function is compiled again with the wrong piece and takes the place of the right one wherever mmcl holds it.
"""

import inspect
import io
import itertools
import json
import pkgutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FunctionType, ModuleType
from unittest import mock

import jupytext
import matplotlib.pyplot as plt
import pytest
import yaml
from threadpoolctl import threadpool_limits

from mmcl.notebook import claims

TESTS, NOTEBOOKS = Path(__file__).parent, Path(__file__).parents[1] / "notebooks"


@dataclass(frozen=True)
class Idea:
    """A mistake.

    Attributes:
        what: the idea that is broken, in plain words.
        swaps: place, right piece, wrong piece; the place is a function or method of mmcl, which holds the piece once.
        chapter: number of the chapter that argues the idea.
        claims: ids of its claims that must fail.
        tests: "file::function" of unit tests that must fail, for one of their parameters at least.
        stored: what the mistake would have made of stored results that the chapter reads.
    """

    what: str
    swaps: tuple[tuple[str, str, str], ...]
    chapter: str
    claims: tuple[str, ...]
    tests: tuple[str, ...]
    stored: Callable[[dict], dict] = lambda results: results


def _without_rule(stored: dict) -> dict:
    """Runs of Section 5.1 in which the rule never cuts the rate: those at a constant rate, which go the same way."""
    constant = [run for run in stored.get("runs", ()) if run["schedule"] == "constant rate"]
    return (
        stored | {"runs": stored["runs"] + [run | {"schedule": "published"} for run in constant]}
        if constant
        else stored
    )


def _partners_given(stored: dict) -> dict:
    """Curves of Section 5.3 if the rows called unpaired come with their partners: those of true pairs."""
    return stored | {"detected": stored["pairs"]} if "transposed" in stored else stored


_CLIP, _UNPAIRED, _LIMITS = "mmcl._contrastive.ExponentialLoss", "mmcl.unpaired", "mmcl.beyond.limits"
_HEADS, _AUDIT = "mmcl.experiments.heads", "mmcl.practice.audit"

IDEAS: dict[str, Idea] = {
    # Chapter 00: the map
    "strangers are pulled": Idea(
        "the softmax part of the weights has the other sign",
        ((f"{_CLIP}._apart", "return (a / -rows.exp()", "return (a / rows.exp()"),),
        "00",
        ("map.gradient",),
        ("test_losses.py::test_clip_weights_are_nu_times_identity_minus_the_mean_of_two_softmaxes",),
    ),
    "algorithm 1 without nu": Idea(
        "Algorithm 1 weighs the edges it found by 1, so that a perfect detection cancels itself",
        ((f"{_UNPAIRED}.algorithm_1", "UnpairedLoss(edges, tau, nu)", "UnpairedLoss(edges, tau)"),),
        "00",
        ("map.worth-pairs",),
        ("test_unpaired.py::test_at_nu_1_exact_edges_cancel_and_beyond_the_step_is_as_good_as_knowing_the_pairs",),
    ),
    # Chapter 01: loss to SVD
    "weights without nu": Idea(
        "the weight of an observed pair forgets nu, which the value of the loss has",
        ((f"{_CLIP}._settle", "share + self.nu - 1", "share"),),
        "01",
        ("eq-8.1.members",),
        ("test_losses.py::test_weights_are_minus_n_times_the_derivative_of_the_value",),
    ),
    "rows twice": Idea(
        "the value of the loss takes the sums over rows for those over columns too",
        ((f"{_CLIP}._settle", "_phi(u).mean(-1).sum(0) / 2", "_phi(u)[0].mean(-1)"),),
        "01",
        ("eq-8.1.members", "prop-2.1.step-in-m", "prop-2.1.ascent"),
        ("test_losses.py::test_clip_is_tau_times_the_cross_entropy_of_rows_and_columns",),
    ),
    "penalty twice": Idea(
        "the SVD objective has the whole penalty and not the half of it",
        (("mmcl.spectral.svd_objective", "rho / 2 *", "rho *"),),
        "01",
        ("lem-2.1.maximiser", "lem-2.1.value", "lem-2.1.tie"),
        ("test_spectral.py::test_no_encoders_have_a_larger_svd_objective_than_the_truncated_svd_over_rho",),
    ),
    "steps without penalty": Idea(
        "a gradient step forgets the penalty, so that nothing stops the growth",
        (("mmcl.training._stepped", "covariance - rho * g1.mT @ g2", "covariance"),),
        "01",
        ("prop-2.1.increment", "prop-2.1.frozen"),
        ("test_training.py::test_a_step_on_the_loss_is_a_gradient_step_on_the_svd_objective_of_its_covariance",),
    ),
    "not centred": Idea(
        "the cross-covariance of the linear loss is not centred",
        (
            (
                "mmcl.covariance._centred_product",
                "(total - sums[0].mT @ sums[1] / n)",
                "(views[0].mT @ views[1])",
            ),
        ),
        "01",
        ("eq-3.1.sign",),
        ("test_covariance.py::test_linear_covariance_is_that_of_the_linear_losses_weights",),
    ),
    # Chapter 02: robustness
    "divisor n": Idea(
        "the cross-covariance is divided by n and not by n - 1",
        (("mmcl.covariance.cross_covariance", "return product / (n - 1)", "return product / n"),),
        "02",
        ("model-3.2.permuted",),
        ("test_data.py::test_signal_left_in_s_is_m_minus_1_over_n_minus_1_if_permuted_and_m_over_n_if_fresh",),
    ),
    "fresh wrong pairs": Idea(
        "partners of wrong pairs are drawn afresh and not permuted: the true ones are not in the sample",
        (("mmcl.data.spiked", 'if wrong == "permuted":\n', "if False:\n"),),
        "02",
        ("model-3.2.permuted",),
        ("test_data.py::test_partners_are_a_permutation_of_the_sample_whose_fixed_points_are_the_right_pairs",),
    ),
    "angles of any basis": Idea(
        "principal angles are taken of bases that are not orthonormal",
        (("mmcl.metrics.orthonormal_columns", "return q", "return u"),),
        "02",
        ("thm-3.1.one-constant", "thm-3.1.rate-in-n", "thm-3.1.rate-in-eta"),
        ("test_metrics.py::test_sin_theta_sees_only_the_column_spaces_and_is_symmetric",),
    ),
    "wrong pairs cost a root": Idea(
        "the first-order error grows as 1/sqrt(eta), as if wrong pairs were only missing, and not as 1/eta",
        (("mmcl.theory.multimodal_error", "/ (1 - wrong_share)", "/ (1 - wrong_share) ** 0.5"),),
        "02",
        ("thm-3.1.first-order",),
        ("test_theory.py::test_multimodal_error_is_the_measured_one_to_first_order",),
    ),
    "rate in n": Idea(
        "the rate of the bound is the power 2/5 of what the root is taken of",
        (("mmcl.theory.epsilon_n", "/ n).sqrt()", "/ n) ** 0.4"),),
        "02",
        ("thm-3.1.needed-constant",),
        ("test_theory.py::test_bound_is_the_printed_formula_saturates_at_root_r_and_falls_as_one_over_eta",),
    ),
    "rate in the share": Idea(
        "the bound grows as 1/eta^2",
        (("mmcl.theory.rate_bound", "constant * epsilon / eta *", "constant * epsilon / eta**2 *"),),
        "02",
        ("thm-3.1.needed-constant",),
        ("test_theory.py::test_bound_is_the_printed_formula_saturates_at_root_r_and_falls_as_one_over_eta",),
    ),
    "diagonal kept": Idea(
        "masking keeps the diagonal of the covariance, so that it is PCA",
        (("mmcl.unimodal.without_diagonal", "return a - torch.diag_embed(a.diagonal(dim1=-2, dim2=-1))", "return a"),),
        "02",
        ("lem-7.1.diagonal", "lem-7.1.bias", "lem-7.1.bias-in-d"),
        ("test_unimodal.py::test_masked_fit_is_blind_to_noise_on_single_coordinates_and_pca_is_not",),
    ),
    "bias not squared": Idea(
        "the n at which MMCL overtakes has the bias of masking in its denominator and not the square",
        (("mmcl.theory.overtaking_n", "signal).square(), 0)", "signal), 0)"),),
        "02",
        ("abstract-ii.cubic",),
        ("test_theory.py::test_multimodal_learning_with_wrong_pairs_overtakes_masked_learning_at_the_predicted_n",),
    ),
    # Chapter 03: CLIP and wrong pairs
    "pairs are not pushed": Idea(
        "the softmax part is left out of the weight of an observed pair, beta_i = nu",
        ((f"{_CLIP}._settle", "(others - pair).sigmoid()", "torch.ones_like(u)"),),
        "03",
        ("lem-7.2.printed-min",),
        ("test_losses.py::test_clip_weights_are_nu_times_identity_minus_the_mean_of_two_softmaxes",),
    ),
    "penalty multiplies": Idea(
        "M = rho SVD_r(S): a larger penalty makes larger encoders",
        (("mmcl.spectral.closed_form", "s / rho, v", "s * rho, v"),),
        "03",
        ("thm-7.1.line", "thm-7.1.zero"),
        ("test_spectral.py::test_linear_fit_is_the_truncated_svd_with_minimum_minus_half_the_squares_over_rho",),
    ),
    "algorithm 4 without nu": Idea(
        "Algorithm 4 is CLIP's step, nu = 1, and has the wrong sign",
        (("mmcl.spectral.algorithm_4", "CLIP(tau=tau, nu=nu)", "CLIP(tau=tau)"),),
        "03",
        ("eq-7.5.operator-norm",),
        ("test_spectral.py::test_algorithm_4_leaves_the_signal_nu_eta_minus_one",),
    ),
    "temperature multiplies": Idea(
        "the logits of CLIP are s tau and not s/tau: a larger tau makes a sharper guess",
        (
            (f"{_CLIP}._prepare", "s.div_(self.tau)", "s.mul_(self.tau)"),
            (f"{_CLIP}._settle", "diagonal / self.tau", "diagonal * self.tau"),
        ),
        "03",
        ("lem-7.2.sandwich",),
        ("test_losses.py::test_clip_is_tau_times_the_cross_entropy_of_rows_and_columns",),
    ),
    # Chapter 04: unpaired rows
    "no temperature": Idea(
        "the softmaxes of (4.1) are of s and not of s/tau",
        ((f"{_UNPAIRED}.UnpairedLoss._prepare", "return s / self.tau, chosen\n", "return s, chosen\n"),),
        "04",
        ("eq-4.1.info-nce", "lem-4.1.gamma", "lem-4.1.off-edges"),
        ("test_unpaired.py::test_weights_of_the_unpaired_loss_are_minus_n_times_its_derivative",),
    ),
    "printed weights of edges": Idea(
        "an edge has the weight that Proposition 8.2 prints, nu - 1 + (P + Q)/2",
        (
            (
                f"{_UNPAIRED}.UnpairedLoss._apart",
                "self.nu * chosen - (p + q) / 2",
                "(self.nu - 1) * chosen + (2 * chosen - 1) * (p + q) / 2",
            ),
        ),
        "04",
        ("eq-4.3.gradient",),
        ("test_unpaired.py::test_weights_are_nu_minus_the_mean_softmax_on_edges_and_not_the_printed_ones",),
    ),
    "columns do not push": Idea(
        "the weights of (4.1) have the softmax along rows in place of the mean of both",
        ((f"{_UNPAIRED}.UnpairedLoss._apart", "- (p + q) / 2", "- p"),),
        "04",
        ("eq-4.3.gradient",),
        ("test_unpaired.py::test_weights_of_the_unpaired_loss_are_minus_n_times_its_derivative",),
    ),
    "columns are not asked": Idea(
        "rule (4.2) takes the best column of every row and does not ask the columns",
        ((f"{_UNPAIRED}.detect_edges", "column_best.masked_fill(counted,", "column_best.masked_fill(counted | True,"),),
        "04",
        ("eq-4.2.exact",),
        ("test_unpaired.py::test_edges_are_the_n_largest_of_all_row_and_column_maxima",),
    ),
    "strangers rarer than they are": Idea(
        "Chernoff's bound on a stranger winning is squared, (1 + 1/kappa)^-r",
        (("mmcl.detection_theory.exact_detection_bound", "** (-rank / 2)).clamp", "** (-rank)).clamp"),),
        "04",
        ("asm-4.2.bound",),
        ("test_detection_theory.py::test_a_stranger_beats_the_partner_with_at_most_half_the_chernoff_bound",),
    ),
    "edges shuffled": Idea(
        "the second step of Algorithm 1 sees the rows of its edges, each with the next one's column",
        (
            (
                f"{_UNPAIRED}.algorithm_1",
                "UnpairedLoss(edges, tau, nu)",
                "UnpairedLoss(torch.stack([edges[:, 0], edges[:, 1].roll(1)], 1), tau, nu)",
            ),
        ),
        "04",
        ("thm-4.1.worth-N-pairs",),
        ("test_unpaired.py::test_theorem_4_1_unpaired_rows_are_worth_as_many_pairs_to_first_order",),
    ),
    # Chapter 05: many-to-many
    "edges between clusters kept": Idea(
        "Algorithm 2 removes the edges within clusters and keeps those between them",
        (("mmcl.graph.algorithm_2", "return graph * class_graph", "return graph - graph * class_graph"),),
        "05",
        ("alg-2.cleans",),
        ("test_graph.py::test_algorithm_2_removes_edges_between_clusters_and_adds_none",),
    ),
    "blocks filled": Idea(
        "Algorithm 2 fills in the blocks of its clusters, as the published code does, and so adds edges",
        (
            ("mmcl.graph.algorithm_2", "return graph * class_graph", "return class_graph"),
            (
                "mmcl.experiments.section_5_1_linear._one_draw",
                "{k: noisy * class_graph(*part)",
                "{k: class_graph(*part)",
            ),
        ),
        "05",
        ("alg-2.steps", "table-1.few-clusters"),
        ("test_graph.py::test_algorithm_2_removes_edges_between_clusters_and_adds_none",),
    ),
    "first singular vectors": Idea(
        "the first pair of singular vectors, which knows the degrees only, is not skipped",
        (("mmcl.graph.spectral_coordinates", "(shares - r * c)", "shares"),),
        "05",
        ("alg-2.steps",),
        ("test_graph.py::test_algorithm_2_is_its_printed_steps_in_numpy",),
    ),
    "last singular vectors": Idea(
        "the partition uses the last singular vectors of the graph, which are noise",
        (("mmcl.graph._leading_left", "(n - count, n - 1)", "(0, count - 1)"),),
        "05",
        ("alg-2.cleans", "fig-1.partition", "table-1.partition-helps"),
        ("test_graph.py::test_the_partition_recovers_planted_classes_exactly_well_below_the_threshold",),
    ),
    "graph not centred": Idea(
        "the covariance of a graph keeps the means: strangers are not pushed apart",
        (("mmcl.graph.graph_covariance", "(shares @ x_tilde) - means", "(shares @ x_tilde)"),),
        "05",
        ("fig-1.covariance",),
        ("test_graph.py::test_the_covariance_is_the_one_of_the_weights_of_a_double_loop_and_of_listed_edges",),
    ),
    "noise only adds": Idea(
        "noise on a graph adds edges and removes none",
        (("mmcl.graph.class_graph", "same ^ (torch.rand", "same | (torch.rand"),),
        "05",
        ("fig-1.collapse",),
        ("test_graph.py::test_a_planted_graph_has_its_edges_and_its_flips",),
    ),
    "rule never cuts": Idea(
        "the plateau rule of the published training never lowers the rate",
        (
            (
                "mmcl.experiments.graph_networks.Schedule.start",
                "(descent, **self.plateau)",
                "(descent, **self.plateau, min_lr=self.settings['lr'])",
            ),
        ),
        "05",
        ("table-1.rule-stops",),
        (
            "experiments/test_graph_networks.py::"
            "test_the_published_rate_falls_to_3_tenths_after_11_steps_that_lower_the_loss_by_less_than_1_in_10000",
        ),
        _without_rule,
    ),
    # Chapter 06: real data
    "unpaired rows with their partners": Idea(
        "batches of unpaired rows hold partners at equal places, and these are taken for the edges found",
        (
            (
                f"{_HEADS}.Streams.batches",
                "self.rows_tilde[:, second].where(alone,",
                "self.rows_tilde[:, first].where(alone,",
            ),
            (f"{_HEADS}.targets", 'if how == "pairs"', 'if how != "transposed"'),
        ),
        "06",
        ("fig-3.unpaired",),
        (
            "experiments/test_section_5_3.py::"
            "test_a_pass_sees_every_row_once_keeps_pairs_together_and_walks_modalities_apart_where_it_detects",
            "experiments/test_section_5_3.py::"
            "test_detected_edges_are_row_and_column_maxima_and_transposed_ones_are_confused",
        ),
        _partners_given,
    ),
    "pairs pushed apart": Idea(
        "the objective of the heads rises with the similarity of pairs",
        ((f"{_HEADS}.objective", "(push - (edges", "(push + (edges"),),
        "06",
        ("alg-3.pairs-teach",),
        ("experiments/test_section_5_3.py::test_the_objective_on_pairs_is_clip_and_on_edges_a_double_loop",),
    ),
    "nothing is pushed": Idea(
        "the objective of the heads pulls pairs together and pushes nothing apart",
        ((f"{_HEADS}.objective", "(push - (edges", "(0 * push - (edges"),),
        "06",
        ("alg-3.pairs-teach",),
        ("experiments/test_section_5_3.py::test_the_objective_on_pairs_is_clip_and_on_edges_a_double_loop",),
    ),
    # Chapter 11: optimisers
    "half the step limit": Idea(
        "a step is thought too long when the error changes its sign, 1 - step (rho + h) < 0, not when it grows",
        (("mmcl.beyond.optimisers.step_limit", "return 2 * rho /", "return rho /"),),
        "11",
        ("ours.svd-iteration.step-limit",),
        ("beyond/test_optimisers.py::test_steps_below_the_limit_converge_and_steps_above_do_not",),
    ),
    "curvature of all matrices": Idea(
        "the curvature is the largest along any direction, and not along the matrices of rank r",
        (("mmcl.spectral.curvature", "tangent(direction).flatten()", "direction.flatten()"),),
        "11",
        ("ours.svd-iteration.step-limit",),
        ("test_training.py::test_curvature_is_the_largest_eigenvalue_of_the_projected_hessian",),
    ),
    "inverse not transposed": Idea(
        "the second encoder is distorted by A^-1 and not by A^-T",
        (
            (
                "mmcl.beyond.optimisers.distorted",
                "(q / stretch) @ turn @ g2",
                "((q / stretch) @ turn).mT @ g2",
            ),
        ),
        "11",
        ("ours.unseen.same-loss",),
        ("beyond/test_optimisers.py::test_distorted_encoders_have_the_same_product_and_the_condition_asked_for",),
    ),
    "whitening upside down": Idea(
        "views are multiplied by the root of their covariance and not by its inverse",
        (("mmcl.covariance.whitening", "values.rsqrt()", "values.sqrt()"),),
        "11",
        ("ours.digits.whitening", "ours.digits.chance"),
        ("test_covariance.py::test_whitened_views_have_unit_covariance_and_give_the_canonical_correlations",),
    ),
    # Chapter 12: exact limits
    "edge without aspects": Idea(
        "the edge of the bulk forgets the aspects in its cubic, 2 psi^3 + psi^2 = ab",
        ((f"{_LIMITS}._edge", "whole, product = 1 + a + b, a * b", "whole, product = 1 + 0 * a, a * b"),),
        "12",
        ("ours.limits.threshold",),
        ("beyond/test_limits.py::test_the_edge_is_the_largest_singular_value_of_noise_and_the_least_of_sigma_in_psi",),
    ),
    "share not squared": Idea(
        "the share of right pairs enters the equation of the outliers and not its square",
        ((f"{_LIMITS}._roots", "shared = eta**2 *", "shared = eta *"),),
        "12",
        ("ours.limits.share-squared",),
        (
            "beyond/test_limits.py::test_value_and_overlaps_are_the_simulated_ones_within_three_standard_errors_and_ten_over_n",
        ),
    ),
    "threshold without the edge": Idea(
        "the threshold of right pairs forgets the factor psi/(1 + psi) of the edge",
        ((f"{_LIMITS}._share_at", "(psi / (1 + psi) * f * g)", "(f * g)"),),
        "12",
        ("ours.limits.threshold",),
        ("beyond/test_limits.py::test_overlaps_rise_from_zero_at_the_threshold_and_the_outlier_leaves_the_edge_there",),
    ),
    "all pairs right": Idea(
        "the prediction at finite size forgets the share of right pairs",
        (("mmcl.beyond.finite_size.finite_size_errors", "right_share * x.variances", "x.variances"),),
        "12",
        ("ours.limits.finite-size", "ours.limits.finite-size-bias"),
        ("beyond/test_limits_finite_size.py::test_many_rows_have_the_error_of_first_order",),
    ),
    "overlaps that jump at the edge": Idea(
        "the overlaps with the signal lack a term of E, which is 0 at the edge",
        ((f"{_LIMITS}.outliers", " - 2 * psi**3", ""),),
        "12",
        ("ours.limits.second-route",),
        ("beyond/test_limits.py::test_overlaps_rise_from_zero_at_the_threshold_and_the_outlier_leaves_the_edge_there",),
    ),
    "signal of the other side": Idea(
        "the overlap of u has the signal to noise of x where that of the other modality belongs",
        ((f"{_LIMITS}.outliers", "weight * (b - beta * psi)", "weight * (b - alpha * psi)"),),
        "12",
        ("ours.limits.second-route",),
        ("beyond/test_limits_general.py::test_isotropic_noise_has_the_closed_form",),
    ),
    "edge in other units": Idea(
        "the edge of the bulk is without the noise of the modalities",
        ((f"{_LIMITS}.outliers", "edge = _value(end, a, b, scale)", "edge = _value(end, a, b, scale / scale)"),),
        "12",
        ("ours.limits.second-route",),
        ("beyond/test_limits.py::test_other_units_scale_the_singular_values_and_nothing_else",),
    ),
    "pca sees from a on": Idea(
        "PCA is taken to see a signal above a times the noise and not above its root",
        (("mmcl.beyond.limits_compared._pca", "a / alpha**2", "a / alpha"),),
        "12",
        ("ours.limits.second-route",),
        ("beyond/test_limits_compared.py::test_pca_sees_a_signal_above_root_a_and_many_rows_show_all",),
    ),
    # Chapter 13: detection
    "noise in one modality": Idea(
        "the correlation is that of a noisy view and a clean one, (1 + s^2)^(-1/2)",
        (
            (
                "mmcl.detection_theory.correlation",
                "return 1 / (1 + noise_std * noise_std)",
                "return (1 + noise_std**2) ** -0.5",
            ),
        ),
        "13",
        ("ours.bayes.rates", "ours.recovery.matching"),
        ("test_detection_theory.py::test_information_is_the_log_determinant_of_the_joint_covariance",),
    ),
    "lengths of rows forgotten": Idea(
        "the density ratio is an inner product: its terms in the length of each row are left out",
        (("mmcl.beyond.ratio.density_ratio", "(-(z**2 * (c * gain))", "(0 * (z**2 * (c * gain))"),),
        "13",
        ("ours.bayes.rates",),
        ("beyond/test_ratio.py::test_density_ratio_is_the_difference_of_gaussian_log_densities",),
    ),
    "p-values not corrected": Idea(
        "p-values are compared with the rate one by one, although there are many",
        (
            (
                "mmcl.beyond.detection.controlled",
                "torch.as_tensor(false_discovery_control(values.clamp(max=1).numpy()))",
                "values.clamp(max=1)",
            ),
        ),
        "13",
        ("ours.fdr.share-of-wrong", "ours.fdr.no-partner"),
        ("beyond/test_detection.py::test_the_rates_are_those_of_p_values_counted_one_by_one",),
    ),
    "folds judged by their own fit": Idea(
        "the model of each fold is fitted to the pairs of that fold too",
        (("mmcl.beyond.cross_fit.CrossFit.models", "without=k", "without=None"),),
        "13",
        ("ours.bayes.calibrated",),
        (
            "beyond/test_detection.py::"
            "test_calibrated_ratio_is_likelier_on_new_pairs_than_the_plain_one_and_near_the_true_correlation",
        ),
    ),
    # Chapter 14: filtering
    "kept wrong pairs teach nothing": Idea(
        "the wrong pairs that a filter keeps are chance, without the signal for which they were kept",
        (("mmcl.beyond.filter_theory.filtered_error", "+ (1 - right_share) * m.wrong", "+ 0 * m.wrong"),),
        "14",
        ("ours.filter.formula",),
        ("beyond/test_filter_theory.py::test_the_slopes_on_both_sides_of_the_switch_are_one_half_and_zero",),
    ),
    "judged by one's own teacher": Idea(
        "each half of the pairs is filtered by the teacher that was fitted to it",
        (("mmcl.beyond.filtering.filtered_fit", "teachers[::-1]", "teachers"),),
        "14",
        ("ours.filter.strangers",),
        ("beyond/test_filtering.py::test_filtered_fit_is_the_one_done_by_hand",),
    ),
    # Chapter 15: few pairs
    "farthest landmarks": Idea(
        "rows are tied to the landmarks farthest from them",
        (("mmcl.beyond.landmarks._ties", "largest=False", "largest=True"),),
        "15",
        ("ours.few-pairs.graph-lead", "ours.few-pairs.classes"),
        (
            "beyond/test_latent_classes.py::"
            "test_graph_features_are_eigenvectors_of_the_graph_of_rows_that_share_landmarks",
        ),
    ),
    "value without its half": Idea(
        "the least value of the loss is -sum s^2/rho and not half of it",
        (("mmcl.spectral.closed_form", "/ (2 * rho)", "/ rho"),),
        "15",
        ("ours.kernels.closed-form",),
        ("test_spectral.py::test_linear_fit_is_the_truncated_svd_with_minimum_minus_half_the_squares_over_rho",),
    ),
    "worst in validation": Idea(
        "the setting is kept that does worst on the validation pairs",
        (("mmcl.beyond.few_pairs.choose", "accuracy > best.validation", "accuracy < best.validation"),),
        "15",
        ("ours.few-pairs.choice",),
        ("beyond/test_few_pairs.py::test_the_choice_is_best_in_validation_and_no_test_row_is_looked_at",),
    ),
    "kernel without its root": Idea(
        "the kernel fit decomposes K W K~ and not K^(1/2) W K~^(1/2)",
        (("mmcl.beyond.kernels.fit_kernel", "root @ weights @ root_tilde", "k @ weights @ k_tilde"),),
        "15",
        ("ours.kernels.fit",),
        ("beyond/test_kernels.py::test_the_kernel_fit_is_the_fit_of_the_features_of_the_kernel",),
    ),
    "every pair has a say on itself": Idea(
        "the regressions that a class is found with have seen the pair that they judge",
        (
            (
                "mmcl.beyond.latent_classes._leave_one_out",
                "(hat - own.diag_embed()) / (1 - own).unsqueeze(1)",
                "hat",
            ),
        ),
        "15",
        ("ours.few-pairs.agreement",),
        ("beyond/test_latent_classes.py::test_a_row_has_no_say_in_its_own_prediction",),
    ),
    # Chapter 16: your pairs
    "judged by one's own fit": Idea(
        "pairs are scored by a model that was fitted to them too",
        ((f"{_AUDIT}.audit", "rest, here = fold != k,", "rest, here = fold >= 0,"),),
        "16",
        ("ours.audit.bound",),
        ("practice/test_audit.py::test_without_a_relation_pairs_score_as_strangers_do",),
    ),
    "rate over all pairs": Idea(
        "the expected number of right suspects is divided by all pairs and not by the suspects",
        ((f"{_AUDIT}.expected_rate", "torch.arange(1, len(order) + 1)", "len(order)"),),
        "16",
        ("ours.audit.suspects",),
        (
            "practice/test_audit.py::test_the_expected_rate_is_the_mean_probability_of_being_right_among_the_more_suspect",
        ),
    ),
    "weights upside down": Idea(
        "a pair weighs as much as it looks wrong",
        ((f"{_AUDIT}.conclude", "weight = (1 - probability)", "weight = probability"),),
        "16",
        ("ours.audit.refit",),
        (
            "practice/test_audit.py::test_weights_are_roots_of_the_probability_of_being_right_and_bring_the_refit_nearer",
        ),
    ),
    "every row gets a partner": Idea(
        "rows are recovered without control of errors",
        (("mmcl.practice.recover.recover", "rank, fdr=fdr)", "rank, fdr=None)"),),
        "16",
        ("ours.audit.recovered",),
        (
            "practice/test_recover.py::"
            "test_what_is_called_probable_happens_as_often_though_a_quarter_of_the_rows_has_no_partner",
        ),
    ),
    "a pair competes with itself": Idea(
        "the log odds of a pair count the pair among all that exclude it",
        (("mmcl.beyond.matching.log_odds", " - (1 + own) * e", ""),),
        "16",
        ("ours.audit.recovered",),
        ("beyond/test_matching.py::test_log_odds_are_the_sum_over_excluded_pairs_done_by_hand",),
    ),
    "yardstick too high": Idea(
        "the guesses of hidden partners, known to be wrong, stand out by a nat more than they do",
        (
            (
                "mmcl.beyond.detection.evidence",
                "torch.cat(rows), torch.cat(columns)",
                "torch.cat(rows) + 1, torch.cat(columns) + 1",
            ),
        ),
        "16",
        ("ours.audit.recovered",),
        ("beyond/test_detection.py::test_wrong_guesses_of_known_pairs_look_like_those_of_rows_without_partner",),
    ),
    "yardstick too low": Idea(
        "the guesses of hidden partners, known to be wrong, stand out by a nat less than they do",
        (
            (
                "mmcl.beyond.detection.evidence",
                "torch.cat(rows), torch.cat(columns)",
                "torch.cat(rows) - 1, torch.cat(columns) - 1",
            ),
        ),
        "16",
        ("ours.audit.recovered",),
        ("beyond/test_detection.py::test_wrong_guesses_of_known_pairs_look_like_those_of_rows_without_partner",),
    ),
    "chance is not averaged": Idea(
        "correlations of permuted partners are summed over the folds, those of own partners averaged",
        (
            (
                "mmcl.practice.overview.held_out_correlations",
                "(a * b[torch.randperm(len(b), generator=generator)]).mean(0) / folds",
                "(a * b[torch.randperm(len(b), generator=generator)]).mean(0)",
            ),
        ),
        "16",
        ("ours.audit.chance",),
        (
            "practice/test_overview.py::"
            "test_correlations_of_permuted_partners_have_mean_0_and_variance_1_over_n_whatever_the_relation",
        ),
    ),
    "chance with own partners": Idea(
        "for chance half of the partners stay where they were",
        (
            (
                "mmcl.practice.overview.held_out_correlations",
                "b[torch.randperm(len(b), generator=generator)]",
                "b[(torch.arange(len(b)) + torch.randint(2, (len(b),), generator=generator)) % len(b)]",
            ),
        ),
        "16",
        ("ours.audit.chance",),
        (
            "practice/test_overview.py::"
            "test_correlations_of_permuted_partners_have_mean_0_and_variance_1_over_n_whatever_the_relation",
        ),
    ),
}


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Make the mistake of this name in all of mmcl, and take it back, also from modules that were loaded meanwhile."""
    with ExitStack() as stack:
        for place, right, wrong in IDEAS[name].swaps:
            path, attribute = place.rsplit(".", 1)
            owner = pkgutil.resolve_name(path)
            original = vars(owner)[attribute]
            changed = _swapped(original, right, wrong)
            stack.callback(_replace, owner, changed, original)
            _replace(owner, original, changed)
        yield


def _replace(owner: type | ModuleType, old: FunctionType, new: FunctionType) -> None:
    """Put a function in the place of another: in its class, or in every loaded module of mmcl under whatever name."""
    loaded = [module for name, module in sys.modules.items() if name.split(".")[0] == "mmcl"]
    for holder in loaded if inspect.ismodule(owner) else [owner]:
        for key in [key for key, value in vars(holder).items() if value is old]:
            setattr(holder, key, new)


def _swapped(original: FunctionType, right: str, wrong: str) -> FunctionType:
    """The function with another piece of source, in the same globals."""
    source = textwrap.dedent(inspect.getsource(original))
    if source.count(right) != 1:
        raise ValueError(
            f"{original.__qualname__} holds {right!r} {source.count(right)} times; the table needs it once"
        )
    found: dict = {}
    exec(compile(source.replace(right, wrong), original.__code__.co_filename, "exec"), original.__globals__, found)
    return found[original.__name__]


def chapter_claims(chapter: str, until: tuple[str, ...], stored: Callable = lambda results: results) -> dict:
    """The claims of a chapter at the smoke sizes, run here from its source up to the last of the claims named.

    Assertions are left out, which would stop the chapter before the claim, and figures are closed and not drawn. Where
    a chapter can take its images from scikit-learn it does.
    """
    path = next(NOTEBOOKS.glob(f"{chapter}_*.py"))
    smoke = yaml.safe_load((NOTEBOOKS / "profiles.yaml").read_text("utf-8"))["smoke"].get(chapter, {})
    namespace: dict = {"__name__": path.stem}
    made: dict[str, claims.Claim] = {}
    loads = json.loads
    quiet = {
        "display": lambda *a, **k: None,
        "ledger": lambda: None,
        "show": lambda figure, alt, **k: plt.close(figure),
    }
    plt.switch_backend("agg")
    with ExitStack() as stack:
        stack.enter_context(chdir(NOTEBOOKS))
        stack.enter_context(threadpool_limits(1))
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(mock.patch.multiple(claims, _claims=made, **quiet))
        stack.enter_context(mock.patch("json.loads", lambda text, **k: stored(loads(text, **k))))
        stack.callback(plt.close, "all")
        for cell in jupytext.read(path).cells:
            if cell.cell_type == "code" and not set(until) <= set(made):
                exec(compile(cell.source, path.name, "exec", optimize=1), namespace)
            if "parameters" in cell.metadata.get("tags", []):
                namespace |= smoke | ({"data_set": "digits"} if "data_set" in namespace else {})
    return made


def cases(test: Callable) -> Iterator[dict]:
    """The arguments of a test function, for every combination of its parameters."""
    marks = [m for m in getattr(test, "pytestmark", []) if m.name == "parametrize"]
    names = [n.split(", ") if isinstance(n, str) else list(n) for n in (m.args[0] for m in marks)]
    for values in itertools.product(*(list(m.args[1]) for m in marks)):
        arguments = {}
        for some, value in zip(names, values, strict=True):
            value = getattr(value, "values", value) if not isinstance(value, dict) else value
            arguments |= dict(zip(some, value if len(some) > 1 else [value], strict=True))
        yield arguments


def run_test(node: str) -> None:
    """Run a test function as it is now, in a module read anew, over its parameters."""
    file, function = node.split("::")
    spec = spec_from_file_location(f"broken_{Path(file).stem}", TESTS / file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    test = getattr(module, function)
    for arguments in cases(test):
        with pytest.MonkeyPatch.context() as monkeypatch, warnings.catch_warnings(action="ignore"):
            if "monkeypatch" in inspect.signature(test).parameters:
                arguments["monkeypatch"] = monkeypatch
            test(**arguments)
