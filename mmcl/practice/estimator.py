"""`MMCL`, the scikit-learn estimator: encoders of two modalities, fitted to pairs of any kind and number."""

from typing import Any

import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from mmcl.losses import ContrastiveLoss, Linear
from mmcl.practice.contrast import contrast
from mmcl.practice.inputs import View, as_pair, as_view, row_slices, usable_rows
from mmcl.practice.permutation import permutation_test
from mmcl.practice.scaling import scaled_rows, scalings
from mmcl.practice.selection import check_parameters, encode, folds_for, loss_of, partner_score, settings
from mmcl.practice.streaming import Moments, Tally, tally


def _can_be_streamed(model: "MMCL") -> bool:
    if model.loss == "linear" or isinstance(model.loss, Linear):
        return True
    raise AttributeError(f"loss = {model.loss!r} compares each pair with all others and cannot be streamed; use fit")


class MMCL(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Encoders of two modalities that make paired rows similar and strangers dissimilar, in the manner of scikit-learn.

    Each modality is centred and scaled; then the contrastive loss with its penalty,
    L = l(x g1^T g2 x_tilde^T) + rho/2 ||g1^T g2||_F^2, is minimised by `mmcl.fit`. The linear loss on whitened data is
    regularised canonical correlation analysis with components weighted by the roots of their correlations.

    Args:
        n_components: dimension r of the embedding, "auto", or "permutation": as many canonical correlations as a
            stepwise permutation test finds (`mmcl.practice.permutation`; needs n > d1 + d2).
        loss: a name in `mmcl.LOSSES` or a loss object, which then has its own tau and nu.
        tau: temperature of a loss that has one, or "auto".
        nu: weight of the pairs, >= 1.
        rho: weight of the penalty, > 0; for the linear loss it is the length of the scores and no more.
        scale: "whiten" (unit covariance, up to the ridge), "standardise" (unit variance of each feature) or "centre".
        ridge: added to the eigenvalues of both correlation matrices before whitening, >= 0, or "auto".
        strangers: None compares every pair with all others, in time n^2 a step; a number compares it with about that
            many, in time linear in n (`mmcl.practice.sampled`; CLIP). The linear loss needs neither.
        drop_missing: leave out pairs with NaN or infinity in either row rather than refuse them.
        tol, max_steps: of `mmcl.fit`, for the losses that iterate.
        random_state: seed of the rows that are tested on, and of the strangers.

    "auto" is chosen by cross-validation on the retrieval of rows held out; what was tried and found is `selection_`.

    Attributes:
        x_rotations_, y_rotations_: (d1, r), (d2, r); scores are rows less their mean times these.
        x_mean_, y_mean_: (d1,), (d2,).
        n_components_, ridge_, tau_: the values used.
        selection_: list of `mmcl.practice.selection.Selection`, one for each search.
        permutation_test_: `mmcl.practice.permutation.PermutationTest`, if it was asked for.
        n_samples_: pairs that were used, and n_dropped_ those that were not.
        n_iter_, converged_: of the fit.

    Example:
        >>> from mmcl.data import spiked
        >>> p = spiked(600, 20, 18, rank=3, noise_std=0.1)
        >>> x, y = p.x.numpy(), p.x_tilde.numpy()
        >>> model = MMCL(n_components=3).fit(x[:400], y[:400])
        >>> scores, scores_tilde = model.transform(x[400:], y[400:])
        >>> scores.shape, model.score(x[400:], y[400:]) > 0.5
        ((200, 3), True)
    """

    def __init__(
        self,
        n_components: int | str = "auto",
        loss: str | ContrastiveLoss = "linear",
        *,
        tau: float | str = "auto",
        nu: float = 1.0,
        rho: float = 1.0,
        scale: str = "whiten",
        ridge: float | str = "auto",
        strangers: int | None = None,
        drop_missing: bool = False,
        tol: float = 1e-4,
        max_steps: int = 500,
        random_state: int = 0,
    ):
        self.n_components = n_components
        self.loss = loss
        self.tau = tau
        self.nu = nu
        self.rho = rho
        self.scale = scale
        self.ridge = ridge
        self.strangers = strangers
        self.drop_missing = drop_missing
        self.tol = tol
        self.max_steps = max_steps
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any) -> "MMCL":
        """Fit the encoders to pairs, row i of X with row i of y.

        Args:
            X, y: (n, d1), (n, d2) numbers in any container: numpy, memory map, torch, pandas, scipy sparse, dask. The
                linear loss reads them once, block by block, and keeps d1 x d2 numbers; others hold them scaled.

        Raises:
            ValueError: for data or parameters that cannot be used, in one sentence.
        """
        return self._learn(X, y, None)

    @available_if(_can_be_streamed)
    def partial_fit(self, X: Any, y: Any) -> "MMCL":
        """Go on with more pairs: the fit is that of all pairs so far, in whatever blocks they came (linear loss)."""
        return self._learn(X, y, getattr(self, "_tally", None))

    def transform(self, X: Any, y: Any = None) -> Any:
        """Scores (n, r) of the rows of X, or both modalities' scores if y is given, in the container of each.

        With ``drop_missing`` a row with missing values has missing scores.
        """
        check_is_fitted(self)
        names = list(self.get_feature_names_out())
        x = self._known(as_view("X", X))
        scores = x.back(self._scores(x, self.x_mean_, self.x_rotations_), names)
        if y is None:
            return scores
        other = self._known(as_view("y", y))
        return scores, other.back(self._scores(other, self.y_mean_, self.y_rotations_), names)

    def score(self, X: Any, y: Any) -> float:
        """Mean average precision of partners among the rows given, both ways, by cosine: 1 if each finds its own first.

        `mmcl.metrics` has the other measures, for what `transform` returns.
        """
        check_is_fitted(self)
        x, other = (self._known(view) for view in as_pair(X, y))
        z = self._scores(x, self.x_mean_, self.x_rotations_)
        z_tilde = self._scores(other, self.y_mean_, self.y_rotations_)
        there = ~(z.isnan() | z_tilde.isnan()).any(1)
        return partner_score(z[there], z_tilde[there])

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _learn(self, X: Any, y: Any, before: Tally | None) -> "MMCL":
        check_parameters(self)
        pair = as_pair(X, y)
        pair = self._known(pair[0], reset=before is None), self._known(pair[1], reset=before is None)
        counted = Tally(self.scale, self.random_state, folds_for(self)) if before is None else before.copy()
        counted = tally(pair, counted, self.drop_missing)
        total = counted.total()
        rank, ridge, self.selection_ = settings(self, counted, lambda: self._tested_rank(pair, total, before))
        scaling = next(scalings(total, self.scale, (ridge,)))
        loss = loss_of(self, 1.0)
        if isinstance(loss, Linear):
            g1, g2 = encode(scaling, rank, self.rho)
            self.n_iter_, self.converged_ = 0, True
        else:
            g1, g2 = contrast(self, pair, total, scaling, rank)
        self.x_rotations_, self.y_rotations_ = g1.numpy(), g2.numpy()
        self.x_mean_, self.y_mean_ = total.mean.numpy(), total.mean_tilde.numpy()
        self.n_components_, self.ridge_ = rank, ridge
        self.n_samples_, self.n_dropped_ = total.n, counted.dropped
        self._tally = counted
        return self

    def _tested_rank(self, pair: tuple[View, View], total: Moments, before: Tally | None) -> int:
        """The number of canonical correlations that a permutation test finds, but one at least."""
        if before is not None:
            raise ValueError('n_components = "permutation" needs all pairs at once and cannot be streamed; use fit')
        as_they_are = next(scalings(total, "centre", (0.0,)))
        self.permutation_test_ = permutation_test(
            *scaled_rows(pair, total, as_they_are, self.drop_missing), seed=self.random_state
        )
        return max(1, self.permutation_test_.rank())

    def _known(self, view: View, reset: bool = False) -> View:
        """The view, if its features are those of the fit, which are remembered at ``reset``."""
        if view.name == "X":
            validate_data(self, X=view.table(), reset=reset, skip_check_array=True)
        elif reset:
            self.n_features_out_ = view.shape[1]
        elif view.shape[1] != self.n_features_out_:
            raise ValueError(f"y has {view.shape[1]} features, but MMCL is expecting {self.n_features_out_} of them")
        return view

    def _scores(self, view: View, mean: Any, rotations: Any) -> Tensor:
        """(rows - mean) rotations, (n, r), block by block in the dtype of the rows."""
        mean, rotations = (torch.from_numpy(a) for a in (mean, rotations))
        scores = torch.empty(view.shape[0], rotations.shape[1], dtype=view.dtype)
        for here in row_slices((view,)):
            (rows,), keep = usable_rows((view,), here, self.drop_missing)
            found = (rows.cpu() - mean.to(rows.dtype)) @ rotations.to(rows.dtype)
            scores[here] = torch.nan
            scores[here][slice(None) if keep is None else keep] = found
        return scores
