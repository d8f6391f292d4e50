"""Unpaired data: the loss L', the training as published, and its spectral alternative, detect and refit (Section 4)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from tqdm.auto import tqdm

from mmcl._checks import at_least, paired, positive, rank_at_most
from mmcl._contrastive import ExponentialLoss
from mmcl.beyond.detection import calibrate, calibrated, checked, detect, detect_pairs, problem, score_matrix
from mmcl.beyond.matching import EDGE_RULES, SCORES, Ratio
from mmcl.losses import CLIP
from mmcl.spectral import fit
from mmcl.training import random_encoders, similarities, take_steps

__all__ = [
    "EDGE_RULES",
    "SCORES",
    "UnpairedLoss",
    "calibrate",
    "detect_and_refit",
    "detect_pairs",
    "score_matrix",
    "train",
]


class UnpairedLoss(ExponentialLoss):
    """L' without its penalty, for a set E of edges among rows whose pairing is unknown:

        1/|E| [ -sum_{(i,j) in E} s_ij + tau/2 sum_i log sum_j exp(s_ij/tau) + tau/2 sum_j log sum_i exp(s_ij/tau) ]

    Its weights are W = n/|E| (1_E - (P + Q)/2), P and Q the row and column softmax of s/tau: those of CLIP, with the
    edges in place of the diagonal. On the edges (i, i) it is CLIP.

    Args:
        edges: (m, 2) row indices, each edge once; None takes the n largest entries of s anew at every call, as the
            published training does on each batch. They count as constants when L' is differentiated.
        tau: temperature, > 0.

    Raises:
        ValueError: if tau or the shape of the edges is wrong; when called, if edges do not exist in s.

    Reference: arXiv 2302.06232, Section 4; notebook 03, section 6.
    """

    def __init__(self, edges=None, tau=1.0):
        positive(tau=tau)
        if edges is not None:
            edges = torch.as_tensor(edges)
            if edges.ndim != 2 or edges.shape[1] != 2 or not len(edges) or edges.is_floating_point():
                raise ValueError(f"edges of shape {tuple(edges.shape)}; give (m, 2) integer row indices, m >= 1")
        self.edges, self.tau = edges, tau

    def __repr__(self):
        return (
            f"UnpairedLoss({'largest entries' if self.edges is None else f'{len(self.edges)} edges'}, tau={self.tau:g})"
        )

    def _prepare(self, s, start, bound):
        n, chosen = s.shape[-1], torch.zeros_like(s)
        if self.edges is None:
            if s.shape[-2] != n:
                raise ValueError(f"{n} rows are too many for edges=None, which needs all similarities; give the edges")
            largest = s.detach().flatten(-2).topk(n).indices
            return s / self.tau, chosen.flatten(-2).scatter_(-1, largest, 1.0).view_as(s)
        if int(self.edges.min()) < 0 or int(self.edges.max()) >= n:
            raise ValueError(
                f"edges run from {int(self.edges.min())} to {int(self.edges.max())}; allowed are 0 to {n - 1}"
            )
        row, column = (self.edges - torch.tensor([start, 0])).mT
        here = (row >= 0) & (row < s.shape[-2])
        chosen[..., row[here], column[here]] = 1
        return s / self.tau, chosen

    def _totals(self, block, diagonal, start):
        logits, chosen = block
        return torch.stack([logits.logsumexp(-1), (logits * chosen).sum(-1)], -2), logits.logsumexp(-2)

    def _value(self, rows, columns, diagonal):
        pull = rows[..., 0, :].sum(-1) / 2 + columns.sum(-1) / 2 - rows[..., 1, :].sum(-1)
        return self.tau * pull / self._count(diagonal)

    def _apart(self, block, diagonal, start, rows, columns):
        logits, chosen = block
        push = ((logits - rows[..., 0, :].unsqueeze(-1)).exp() + (logits - columns.unsqueeze(-2)).exp()) / 2
        return diagonal.shape[-1] / self._count(diagonal) * (chosen - push)

    def _together(self, rows, columns, diagonal):
        return torch.zeros_like(diagonal)

    def _count(self, diagonal):
        return diagonal.shape[-1] if self.edges is None else len(self.edges)


class Encoders(NamedTuple):
    """g1 (..., rank, d1) and g2 (..., rank, d2)."""

    g1: torch.Tensor
    g2: torch.Tensor


def train(
    x,
    x_tilde,
    x_unpaired,
    x_tilde_unpaired,
    rank,
    tau=1.0,
    lr=2e-3,
    epochs=100,
    epochs_unpaired=100,
    batch_size=50,
    seed=0,
    progress=False,
):
    """The published training: AdamW on CLIP over the pairs, then, going on, on L' over batches of unpaired rows.

    Batch t of the second stage holds rows tB to (t+1)B - 1 of *both* modalities, and its edges are the B largest of
    its B x B cosines. So who passes partners at the same place tells it that they are in the same batch: the published
    run does. Pass one modality in random order for rows whose pairing is truly unknown.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs.
        x_unpaired, x_tilde_unpaired: (..., N, d1), (..., N, d2) further rows; those of the longer side that have no
            counterpart are left out. Batch entries share the batches' indices and nothing else.
        rank: encoder dimension r.
        tau: temperature; embeddings are normalised.
        lr: learning rate of `torch.optim.AdamW`, whose other settings stay at their defaults.
        epochs, epochs_unpaired: passes over the pairs and over the unpaired rows, in the order given.
        batch_size: rows B per step; an incomplete last batch is left out.
        seed: of the initial encoders, uniform in +-1/sqrt(d).
        progress: show a progress bar on stderr.

    Returns:
        Two `Encoders`: after the first stage, and after both.

    Raises:
        ValueError: for bad data, rank, tau or lr, or a batch_size beyond n or N.

    Reference: arXiv 2302.06232, Section 5.1; notebook 03, section 2.
    """
    rows = slice(min(a.shape[-2] for a in (x_unpaired, x_tilde_unpaired)))
    rest = paired(x_unpaired[..., rows, :], x_tilde_unpaired[..., rows, :])
    stages = (*paired(x, x_tilde), CLIP(tau), epochs), (*rest, UnpairedLoss(tau=tau), epochs_unpaired)
    rank = rank_at_most(rank, *(a.shape[-1] for a in stages[0][:2]))
    positive(lr=lr)
    at_least(2, batch_size=batch_size)
    g1, g2 = (g.requires_grad_() for g in random_encoders(*stages[0][:2], rank, seed))
    optimizer, found = torch.optim.AdamW([g1, g2], lr=lr), []
    for a, b, loss, passes in stages:
        if batch_size > a.shape[-2]:
            raise ValueError(f"batch_size = {batch_size}, but there are only {a.shape[-2]} rows")
        batches = [slice(i, i + batch_size) for i in range(0, a.shape[-2] - batch_size + 1, batch_size)]

        def objective(rows, a=a, b=b, loss=loss):
            return loss(similarities(a[..., rows, :], b[..., rows, :], g1, g2))

        for _ in tqdm(range(passes), desc=f"AdamW {loss!r}", unit="epoch", disable=not progress):
            take_steps(optimizer, objective, batches)
        found.append(Encoders(g1.detach().clone(), g2.detach().clone()))
    return tuple(found)


@dataclass(frozen=True)
class Round:
    """One round: the encoders that looked, the pairs (m, 2) they detected, and a confidence (m,) of each."""

    g1: torch.Tensor
    g2: torch.Tensor
    pairs: torch.Tensor
    confidence: torch.Tensor


@dataclass(frozen=True)
class Refit(Ratio):
    """Encoders refitted to known and detected pairs, with their density ratio (see `mmcl.beyond.matching.Ratio`).

    Attributes:
        pairs: (m, 2) int64 detected pairs, row of x_unpaired and row of x_tilde_unpaired.
        confidence: (m,) estimated probability of each to be right.
        history: a `Round` for each detection; the first has the encoders of the known pairs alone.
    """

    pairs: torch.Tensor
    confidence: torch.Tensor
    history: tuple


def detect_and_refit(
    x,
    x_tilde,
    x_unpaired,
    x_tilde_unpaired,
    rank,
    edges="mutual",
    score="density_ratio",
    fdr=None,
    rounds=4,
    folds=5,
    progress=False,
):
    """Unpaired rows without training: fit the pairs, detect partners, fit all pairs known and detected, and again.

    Every fit is the linear loss's: one SVD of the cross-covariance of the pairs and the detected edges, which is what
    a gradient step on L' decomposes when the softmaxes are flat. O(N1 N2 r) time a round and O(N1 + N2) memory beside
    the data, except for edges="assignment".

    Args:
        x, x_tilde: (n, d1), (n, d2) known pairs, in random order.
        x_unpaired, x_tilde_unpaired: (N1, d1), (N2, d2) further rows, which need not be equally many.
        rank: encoder dimension r.
        edges, score, fdr, folds: of `detect_pairs`, applied in every round. Without fdr the rows are supposed to have
            partners; with it, only pairs detected at that rate are used.
        rounds: detections at most; it stops when the detected pairs no longer change.
        progress: show a progress bar on stderr.

    Returns:
        Refit.

    Raises:
        ValueError: for bad data, rank, rule, score, fdr or rounds.

    Reference: arXiv 2302.06232, Section 4; notebook 03, sections 3 to 6.
    """
    p = problem(x, x_tilde, x_unpaired, x_tilde_unpaired, rank, folds)
    how = checked(fdr, edges, score)
    at_least(1, rounds=rounds)
    pairs, history = torch.empty(0, 2, dtype=torch.int64), []
    ratio = calibrated(fit(*p.pairs(pairs), p.rank), p, pairs)
    for _ in tqdm(range(rounds), desc="detect and refit", unit="round", disable=not progress):
        found = detect(ratio, p, pairs, *how)
        history.append(Round(ratio.g1, ratio.g2, found.pairs, found.confidence))
        if torch.equal(found.pairs, pairs):
            break
        pairs = found.pairs
        ratio = calibrated(fit(*p.pairs(pairs), p.rank), p, pairs)
    return Refit(**vars(ratio), pairs=pairs, confidence=history[-1].confidence, history=tuple(history))
