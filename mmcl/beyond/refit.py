"""Unpaired rows without training: detect partners, refit on pairs known and detected, and again."""

from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from mmcl._checks import at_least
from mmcl.beyond.detection import calibrated, checked, cross_fit, detect
from mmcl.beyond.ratio import Ratio
from mmcl.spectral import fit


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
    p = cross_fit(x, x_tilde, x_unpaired, x_tilde_unpaired, rank, folds)
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
