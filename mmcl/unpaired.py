"""Unpaired data (paper, Section 4): the loss (4.1), the edge rule (4.2), and Algorithm 1 as the two steps analysed."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from mmcl._blocks import row_blocks
from mmcl._checks import as_labels, finite_rows, no_less_than, paired, positive
from mmcl._contrastive import ContrastiveLoss, ExponentialLoss
from mmcl.covariance import evaluate
from mmcl.spectral import closed_form, fit


class UnpairedLoss(ExponentialLoss):
    """The loss (4.1) without its penalty, for a set E of edges (i, j) between N rows of x and N rows of x_tilde:

        -nu/N sum_{(i,j) in E} s_ij + tau/(2N) sum_i log sum_j exp(s_ij/tau) + tau/(2N) sum_i log sum_j exp(s_ji/tau)

    The normaliser is N, however many edges there are. The weights are W = nu 1_E - (P + Q)/2 with P and Q the row and
    column softmax of s/tau: beta_ij = nu - (P_ij + Q_ij)/2 on edges (Proposition 8.2, which prints another sign). At
    nu = 1 and with the edges (i, i) it is InfoNCE, `mmcl.losses.CLIP`. At nu = 1 the weights of well recognised edges
    vanish; nu > 1 leaves them nu - 1.

    Args:
        edges: (m, 2) row indices (i, j), each edge once. None takes the N largest entries of s anew at every call,
            as the published training of Section 5.2 does on each batch (`mmcl.experiments.section_5_2`); the edges
            count as constants when the loss is differentiated.
        tau: temperature, > 0, in the units of s.
        nu: weight of the edges, >= 1.

    Raises:
        ValueError: if tau, nu or the shape of the edges is wrong; when called, if edges do not exist in s.

    Reference: PMLR 206:4348, eq. (4.1), (4.3) and Proposition 8.2.

    Example:
        >>> loss = UnpairedLoss([[0, 1], [1, 0]], tau=1.0, nu=1.5)
        >>> loss.weights(torch.zeros(2, 2))
        tensor([[-0.5000,  1.0000],
                [ 1.0000, -0.5000]])
    """

    exchangeable = False

    def __init__(self, edges: Tensor | Sequence[Sequence[int]] | None = None, tau: float = 1.0, nu: float = 1.0):
        positive(tau=tau)
        no_less_than(1, nu=nu)
        if edges is not None:
            edges = as_labels("edges", edges)
            if edges.ndim != 2 or edges.shape[1] != 2 or not len(edges):
                raise ValueError(f"edges of shape {tuple(edges.shape)}; give (m, 2) integer row indices, m >= 1")
        self.edges, self.tau, self.nu = edges, tau, nu

    def __repr__(self) -> str:
        edges = "largest entries" if self.edges is None else f"{len(self.edges)} edges"
        return f"UnpairedLoss({edges}, tau={self.tau:g}, nu={self.nu:g})"

    def _curvature_at_zero(self, n: int) -> float:
        return 1 / self.tau

    def _prepare(self, s: Tensor, start: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
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
        row, column = self.edges.to(s.device).mT - torch.tensor([[start], [0]], device=s.device)
        here = (row >= 0) & (row < s.shape[-2])
        chosen[..., row[here], column[here]] = 1
        return s / self.tau, chosen

    def _totals(self, block: tuple[Tensor, Tensor], diagonal: Tensor, start: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        logits, chosen = block
        return torch.stack([logits.logsumexp(-1), (logits * chosen).sum(-1)], -2), logits.logsumexp(-2)

    def _settle(self, rows: Tensor, columns: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        push, pull = (rows[..., 0, :] + columns) / 2, self.nu * rows[..., 1, :]
        return self.tau * (push - pull).mean(-1), torch.zeros_like(diagonal), rows[..., 0, :], columns

    def _apart(self, block: Any, diagonal: Tensor, start: int, by_row: Tensor, by_column: Tensor) -> Tensor:
        logits, chosen = block
        p, q = (logits - by_row.unsqueeze(-1)).exp(), (logits - by_column.unsqueeze(-2)).exp()
        return self.nu * chosen - (p + q) / 2

    _apart_times = ContrastiveLoss._apart_times  # its blocks are not exponentials


def detect_edges(x_unpaired: Tensor, x_tilde_unpaired: Tensor, g1: Tensor, g2: Tensor) -> Tensor:
    """Edge rule (4.2): the N largest similarities among all row maxima and all column maxima.

    Candidates are the entries (i, argmax_j s_ij) and (argmax_i s_ij, j) of s_ij = <g1 x_i, g2 x_tilde_j>, N to 2N of
    them. They are the true pairs exactly if all 2N argmaxima are. Similarities are walked in blocks of rows.

    Args:
        x_unpaired, x_tilde_unpaired: (..., N, d1), (..., N, d2) rows whose pairing is unknown.
        g1, g2: (..., r, d1), (..., r, d2) encoders.

    Returns:
        (..., N, 2) int64 row indices (i, j), sorted by i and then j. Of equal similarities the first in this order is
        taken.

    Raises:
        ValueError: if the numbers of rows differ, or a value is not finite.

    Reference: PMLR 206:4348, eq. (4.2).

    Example:
        >>> x, g = torch.eye(3), torch.eye(3)
        >>> detect_edges(x, x[[2, 0, 1]], g, g)
        tensor([[0, 1],
                [1, 2],
                [2, 0]])
    """
    z, z_tilde = (_embedded(*a) for a in (("x_unpaired", x_unpaired, g1), ("x_tilde_unpaired", x_tilde_unpaired, g2)))
    n = z.shape[-2]
    if z_tilde.shape[-1] != z.shape[-1] or z_tilde.shape[:-2] != z.shape[:-2]:
        shapes = f"{tuple(z.shape)} and {tuple(z_tilde.shape)}"
        raise ValueError(f"encoded rows are {shapes}; both encoders must have r rows")
    z_tilde = z_tilde.to(z)
    if z_tilde.shape[-2] != n:
        raise ValueError(f"x_unpaired has {n} rows and x_tilde_unpaired {z_tilde.shape[-2]}; rule (4.2) needs as many")
    row_best, column_best = z.new_full((2, *z.shape[:-1]), -torch.inf)
    row_at, column_at = torch.zeros(2, *z.shape[:-1], dtype=torch.int64, device=z.device)
    for rows in row_blocks(n, n * z.shape[:-2].numel()):
        s = z[..., rows, :] @ z_tilde.mT
        row_best[..., rows], row_at[..., rows] = s.max(-1)
        best, at = s.max(-2)
        higher = best > column_best
        column_best, column_at = best.where(higher, column_best), (at + rows.start).where(higher, column_at)
    own = torch.arange(n, device=z.device).expand_as(row_at)
    counted = row_at.gather(-1, column_at) == own  # a column's maximum that is its row's too
    value = torch.cat([row_best, column_best.masked_fill(counted, -torch.inf)], -1)
    entry, order = torch.cat([own * n + row_at, column_at * n + own], -1).sort(-1)
    largest = value.gather(-1, order).argsort(dim=-1, descending=True, stable=True)[..., :n]
    kept = entry.gather(-1, largest).sort(-1).values
    return torch.stack([kept // n, kept % n], -1)


def _embedded(name: str, x: Tensor, g: Tensor) -> Tensor:
    x, g = finite_rows(name, x), finite_rows(f"encoder of {name}", g)
    if g.shape[-1] != x.shape[-1]:
        raise ValueError(f"{name} has {x.shape[-1]} columns, and its encoder is for {g.shape[-1]}")
    return x @ g.to(x).mT


@dataclass(frozen=True)
class SemiSupervised:
    """What Algorithm 1 finds.

    Attributes:
        g1, g2: (..., rank, d1), (..., rank, d2) encoders, balanced: g1 g1^T = g2 g2^T.
        edges: (..., N, 2) int64 detected pairs (i, j) of unpaired rows.
    """

    g1: Tensor
    g2: Tensor
    edges: Tensor


def algorithm_1(
    x: Tensor,
    x_tilde: Tensor,
    x_unpaired: Tensor,
    x_tilde_unpaired: Tensor,
    rank: int,
    tau: float = 1.0,
    nu: float = 1.5,
) -> SemiSupervised:
    """Algorithm 1, semi-supervised MMCL, in the two steps that Lemma 4.1 and Theorem 4.1 analyse.

        1. encoders from the pairs by the linear loss: M = SVD_r(S), `mmcl.spectral.fit` with rho = 1;
        2. edges among the unpaired rows by rule (4.2), and one SVD (4.4) of S^u(beta), the contrastive
           cross-covariance of the loss (4.1) at these encoders and edges: M = SVD_r(S^u).

    The second step sees the unpaired rows only. Encoders scaled by 1/rho are the same as tau multiplied by rho.

    Args:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs.
        x_unpaired, x_tilde_unpaired: (..., N, d1), (..., N, d2) rows whose pairing is unknown.
        rank: encoder dimension r, 1 to min(d1, d2).
        tau: temperature, > 0, in the units of s; the theorem wants a constant times sqrt(r/log N).
        nu: >= 1. With nu = 1 a perfect detection cancels itself: S^u is (nu - 1)/N sum_E x_i x_tilde_j^T.

    Returns:
        SemiSupervised: g1, g2 and edges. Batch entries are done one after the other.

    Raises:
        ValueError: for bad data, rank, tau or nu.

    Reference: PMLR 206:4348, Algorithm 1, eq. (4.2) and (4.4), Lemma 4.1, Theorem 4.1.

    Example:
        >>> from mmcl.data import spiked
        >>> p = spiked(n=250, d1=40, d2=39, rank=30, noise_std=0.1, seed=1)
        >>> pairs, rest = (p.x[:200], p.x_tilde[:200]), (p.x[200:], p.x_tilde[200:])
        >>> found = algorithm_1(*pairs, *rest, rank=30, nu=1.5)
        >>> bool((found.edges[:, 0] == found.edges[:, 1]).all())
        True
    """
    x_unpaired, x_tilde_unpaired = (
        finite_rows(*a) for a in (("x_unpaired", x_unpaired), ("x_tilde_unpaired", x_tilde_unpaired))
    )
    x, x_tilde = paired(x, x_tilde)
    if x_unpaired.ndim > 2:
        entries = zip(x, x_tilde, x_unpaired, x_tilde_unpaired, strict=True)
        found = [algorithm_1(*entry, rank=rank, tau=tau, nu=nu) for entry in entries]
        return SemiSupervised(*(torch.stack([getattr(f, a) for f in found]) for a in ("g1", "g2", "edges")))
    x_unpaired, x_tilde_unpaired = x_unpaired.to(x), x_tilde_unpaired.to(x)
    first = fit(x, x_tilde, rank)
    edges = detect_edges(x_unpaired, x_tilde_unpaired, first.g1, first.g2)
    loss = UnpairedLoss(edges, tau, nu)
    _, covariance = evaluate(x_unpaired, x_tilde_unpaired, first.g1, first.g2, loss)
    second = closed_form(covariance, rank)
    return SemiSupervised(second.g1, second.g2, edges)


_HOME = {
    "calibrate": "beyond.detection",
    "detect_and_refit": "beyond.refit",
    "detect_pairs": "beyond.detection",
    "score_matrix": "beyond.detection",
}


def __getattr__(name: str) -> object:
    """What detects without training is ours and lives in `mmcl.beyond`; it is found here too, where it used to be."""
    if name in _HOME:
        return getattr(import_module(f"mmcl.{_HOME[name]}"), name)
    raise AttributeError(f"module 'mmcl.unpaired' has no attribute {name!r}")
