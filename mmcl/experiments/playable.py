"""The numbers behind the figures to play with, at any setting; a page's script computes the same as it is played."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.special
import torch

from mmcl._checks import at_least
from mmcl.covariance import cross_covariance
from mmcl.detection_theory import correlation, inner_product_top1
from mmcl.experiments.six_pairs import six_pairs
from mmcl.losses import LOSSES
from mmcl.spectral import truncated_svd
from mmcl.unimodal import leading_eigenvectors, without_diagonal

NOISE = 2.0, 0.1  # variances along the two axes of the noise's ellipse; the signal has variance 1


def weights(tau: float, nu: float, swapped: int) -> dict[str, Any]:
    """CLIP's 6 x 6 weights (7.3) of six pairs under encoders that are already right, and the signal they leave.

    Args:
        tau: temperature.
        nu: strength of the pull.
        swapped: number of wrong pairs, 0 or 2 to 6.

    Returns:
        The arguments; ``corners`` (6, 2), the signal of the six rows; ``weights`` (6, 6), W = nu I - (P + Q)/2; and
        ``signal``, tr(U1^T S U2) as a share of that of the true pairs.

    Raises:
        ValueError: for a number of wrong pairs that is not possible, or parameters the loss does not have.

    Example:
        >>> made = weights(tau=0.2, nu=1, swapped=0)  # every pair is right and recognised: pull and push cancel
        >>> abs(made["signal"]) < 0.001
        True
    """
    pairs, true = six_pairs(wrong=swapped), six_pairs()
    w = LOSSES["clip"](tau=tau, nu=nu).weights((pairs.x @ pairs.u1) @ (pairs.x_tilde @ pairs.u2).mT)
    s = pairs.u1.mT @ cross_covariance(pairs.x, pairs.x_tilde, w) @ pairs.u2
    signal = s.trace() / true.x_tilde.square().sum() * 6
    given = {"name": "weights", "tau": tau, "nu": nu, "swapped": swapped, "corners": true.x_tilde.tolist()}
    return given | {"weights": w.tolist(), "signal": float(signal)}


def ellipses(angle: float, wrong_share: float) -> dict[str, Any]:
    """Signal and noise of one modality in two dimensions, and the direction that each method finds (n infinite).

    The signal lies along (1, 1)/sqrt(2) with variance 1, the noise has variances `NOISE` along its own axes. PCA finds
    the leading eigenvector of the covariance, masked learning that of the covariance without its diagonal (Lemma 7.1),
    multimodal learning the singular vector of the cross-covariance, which wrong pairs shrink and do not turn.

    Args:
        angle: of the long axis of the noise, in degrees from the first coordinate.
        wrong_share: share of wrong pairs, 0 to 1.

    Returns:
        The arguments; ``noise``; ``axis``, the directions of ``PCA``, ``masked`` and ``multimodal`` in degrees from the
        first coordinate, -90 to 90; ``off``, their distance from the signal's in degrees; ``strength`` of the latter.

    Example:
        >>> {name: round(value) for name, value in ellipses(angle=0, wrong_share=0.3)["off"].items()}
        {'PCA': 31, 'masked': 0, 'multimodal': 0}
    """
    if not (math.isfinite(angle) and 0 <= wrong_share < 1):
        raise ValueError(f"angle = {angle}, wrong_share = {wrong_share}; use degrees, and a share from 0 to below 1")
    turn = math.radians(angle)
    long = torch.tensor([math.cos(turn), math.sin(turn)], dtype=torch.float64)
    short = torch.stack([-long[1], long[0]])
    signal = torch.full((2, 2), 0.5, dtype=torch.float64)
    covariance = signal + NOISE[0] * long.outer(long) + NOISE[1] * short.outer(short)
    cross, strength, _ = truncated_svd((1 - wrong_share) * signal, 1)
    found = {"PCA": leading_eigenvectors(covariance, 1)[0]}
    found |= {"masked": leading_eigenvectors(without_diagonal(covariance), 1)[0], "multimodal": cross[:, 0]}
    axis = {name: (math.degrees(math.atan2(v[1], v[0])) + 90) % 180 - 90 for name, v in found.items()}
    off = {name: abs((value - 45 + 90) % 180 - 90) for name, value in axis.items()}
    given = {"name": "ellipses", "angle": angle, "wrong_share": wrong_share, "noise": NOISE}
    return given | {"axis": axis, "off": off, "strength": float(strength)}


def scores(noise_std: float, rank: int, candidates: int) -> dict[str, Any]:
    """The partner's score against the best of the strangers, at known subspaces.

    Given |U1^T x|^2 = v q^2, q^2 ~ chi2_r, v = 1 + noise_std^2: the partner's score is N(q^2, q^2 (v^2 - 1)), a
    stranger's N(0, q^2 v^2).

    Args:
        noise_std: noise of both modalities, at least 0.2 for densities that are right to 1e-6; a latent coordinate has
            variance 1.
        rank: latent dimension r, at least 4 for the same reason.
        candidates: N >= 2 rows, of which one is the partner.

    Returns:
        The arguments; ``score`` (141,), from -0.5 to 3 times r; the densities ``partner`` and ``best`` there; and
        ``share`` of rows whose partner wins, `mmcl.detection_theory.inner_product_top1`.

    Example:
        >>> round(scores(noise_std=0.3, rank=10, candidates=200)["share"], 2)
        0.54
    """
    at_least(2, candidates=candidates)
    if not (0.2 <= noise_std < math.inf and rank >= 4):
        raise ValueError(f"noise_std = {noise_std}, rank = {rank}; the densities need at least 0.2 and 4")
    t, v = np.linspace(-0.5, 3, 141), 1 / correlation(noise_std)
    low, high = max(math.sqrt(rank) - 8, 0), math.sqrt(rank) + 8
    x, w = np.polynomial.legendre.leggauss(600)
    q = (low + (high - low) * (x + 1) / 2)[:, None]
    weight = w[:, None] * np.exp((rank - 1) * np.log(q / math.sqrt(rank)) - (q**2 - rank) / 2)
    weight /= weight.sum()
    std, z = q * math.sqrt(v**2 - 1), t * rank / (q * v)
    partner = rank * (weight * np.exp(-(((t * rank - q**2) / std) ** 2) / 2) / std).sum(0) / math.sqrt(2 * math.pi)
    power = np.exp((candidates - 2) * scipy.special.log_ndtr(z) - z**2 / 2)
    best = rank * (candidates - 1) * (weight * power / (q * v)).sum(0) / math.sqrt(2 * math.pi)
    given = {"name": "scores", "noise_std": noise_std, "rank": rank, "candidates": candidates}
    share = float(inner_product_top1(candidates, rank, noise_std))
    return given | {"score": t.tolist(), "partner": partner.tolist(), "best": best.tolist(), "share": share}
