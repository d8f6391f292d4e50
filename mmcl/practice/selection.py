"""Ridge and rank by cross-validation on the retrieval of rows held out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmcl._checks import at_least, integer, no_less_than, one_of, paired, positive, rank_at_most, shown
from mmcl.losses import LOSSES, ContrastiveLoss
from mmcl.metrics import mean_average_precision
from mmcl.practice.scaling import SCALES, Scaling, scalings
from mmcl.practice.streaming import Tally
from mmcl.spectral import closed_form

if TYPE_CHECKING:
    from mmcl.practice.estimator import MMCL

FOLDS = 3
RIDGES: tuple[float, ...] = (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class Selection:
    """What was tried, and how well rows held out were retrieved with it.

    Attributes:
        tried: one dict of settings each.
        score: (tried, folds) mean average precision of partners among held-out rows.
    """

    tried: list[dict[str, float]]
    score: Tensor

    @property
    def best(self) -> dict[str, float]:
        """The settings of the highest mean score; the first of them in case of a tie."""
        return self.tried[int(self.score.mean(1).argmax())]


def partner_score(z: Tensor, z_tilde: Tensor) -> float:
    """Mean average precision of partners, row i of one with row i of the other, averaged over both directions.

    Example:
        >>> partner_score(torch.eye(4), torch.eye(4))
        1.0
    """
    return (mean_average_precision(z, z_tilde) + mean_average_precision(z_tilde, z)) / 2


def partner_scores(z: Tensor, z_tilde: Tensor, ranks: Sequence[int]) -> list[float]:
    """`partner_score` of the first r columns of both, for each r of the increasing ``ranks``.

    Similarities grow by the new columns' products, and both directions are read from one matrix.
    """
    z, z_tilde = paired(z, z_tilde)
    for r in ranks if isinstance(ranks, Sequence) else [ranks]:
        integer(1, min(z.shape[1], z_tilde.shape[1]), ranks=r)
    scores, similarity, before = [], torch.zeros(len(z), len(z_tilde), dtype=z.dtype), 0
    for r in ranks:
        similarity.addmm_(z[:, before:r], z_tilde[:, before:r].mT)
        row, column = (a[:, :r].norm(dim=1).clamp(min=torch.finfo(a.dtype).tiny) for a in (z, z_tilde))
        cosine = similarity / row.unsqueeze(1) / column
        own = cosine.diagonal()
        places = torch.stack([(cosine >= own.unsqueeze(1)).sum(1), (cosine >= own).sum(0)])
        scores.append(float(places.to(torch.float64).reciprocal().mean()))
        before = r
    return scores


def check_parameters(model: "MMCL") -> None:
    """Raise ValueError for a parameter of the estimator that is not allowed."""
    if not isinstance(model.loss, ContrastiveLoss) and not (isinstance(model.loss, str) and model.loss in LOSSES):
        raise ValueError(f"loss = {shown(model.loss)}; use one of {', '.join(LOSSES)}, or a loss object of mmcl.LOSSES")
    one_of(SCALES, scale=model.scale)
    integer(0, 2**32 - 1, random_state=model.random_state)
    words = {"n_components": ("auto", "permutation"), "ridge": ("auto",), "tau": ("auto",)}
    for name, allowed in words.items():
        if isinstance(value := getattr(model, name), str) and value not in allowed:
            raise ValueError(f"{name} = {value!r}; give a number or {' or '.join(map(repr, allowed))}")
    positive(rho=model.rho, tol=model.tol, tau=1.0 if isinstance(model.tau, str) else model.tau)
    no_less_than(0, ridge=0.0 if isinstance(model.ridge, str) else model.ridge)
    at_least(1, max_steps=model.max_steps)


def folds_for(model: "MMCL") -> int:
    """`FOLDS` if the rank or the ridge is to be chosen, 1 otherwise."""
    return FOLDS if model.n_components == "auto" or (model.ridge == "auto" and model.scale == "whiten") else 1


def loss_of(model: "MMCL", tau: float) -> ContrastiveLoss:
    """The estimator's loss, at this temperature if its kind has one."""
    if isinstance(model.loss, ContrastiveLoss):
        return model.loss
    make, offered = LOSSES[model.loss], {"tau": tau, "nu": model.nu}
    return make(**{name: value for name, value in offered.items() if name in signature(make).parameters})


def settings(model: "MMCL", tally: Tally, tested_rank: Callable[[], int]) -> tuple[int, float, list[Selection]]:
    """The rank and the ridge, as given or as chosen, and what the choice was made from."""
    total = tally.total()
    most = min(*total.cross.shape, max(1, total.n - 1))
    if total.n < 2:
        raise ValueError(f"n_samples = {total.n} usable pair(s); a loss that compares pairs needs at least 2")
    if model.n_components == "permutation":
        ranks: tuple[int, ...] = (tested_rank(),)
    elif isinstance(model.n_components, str):
        ranks = tuple(r for r in RANKS if r < most) + (min(most, RANKS[-1]),)
    else:
        ranks = (rank_at_most(model.n_components, *total.cross.shape),)
    ridges = RIDGES if isinstance(model.ridge, str) else (float(model.ridge),)
    if model.scale != "whiten":
        ridges = ridges[:1]
    if len(ranks) * len(ridges) == 1:
        return ranks[0], ridges[0], []
    if total.n < 4 * tally.folds or tally.folds == 1:
        return ranks[-1], ridges[-1] if model.ridge == "auto" else ridges[0], []
    found = select_linear(tally, model.scale, ridges, ranks)
    return int(found.best["n_components"]), found.best["ridge"], [found]


def select_linear(tally: Tally, scale: str, ridges: tuple[float, ...], ranks: tuple[int, ...]) -> Selection:
    """Cross-validation of the linear loss from the moments of the folds: one eigendecomposition of each modality a
    fold, one singular value decomposition a ridge, and the retrieval of the rows held out a rank."""
    columns = []
    for k in range(tally.folds):
        train, (x, x_tilde) = tally.total(without=k), tally.held_out(k)
        pair = x.double() - train.mean, x_tilde.double() - train.mean_tilde
        found = []
        for scaling in scalings(train, scale, ridges):
            z, z_tilde = (a @ g for a, g in zip(pair, encode(scaling, max(ranks)), strict=True))
            found += partner_scores(z.float(), z_tilde.float(), ranks)
        columns.append(torch.tensor(found, dtype=torch.float64))
    tried = [{"ridge": ridge, "n_components": r} for ridge in ridges for r in ranks]
    return Selection(tried, torch.stack(columns, 1))


def encode(scaling: Scaling, rank: int, rho: float = 1.0) -> tuple[Tensor, Tensor]:
    """The rotations (d1, r), (d2, r) of the linear loss: rows less their mean times them are the scores."""
    found = closed_form(scaling.cross, rank, rho)
    return scaling.map @ found.g1.mT, scaling.map_tilde @ found.g2.mT
