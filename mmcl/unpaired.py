"""Unpaired data: the loss L' (Section 4)."""

from importlib import import_module

import torch

from mmcl._checks import positive
from mmcl._contrastive import ExponentialLoss


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


def __getattr__(name):
    """What detects without training is ours and lives in `mmcl.beyond`; it is found here too, where it used to be."""
    if name in ("calibrate", "detect_and_refit", "detect_pairs", "score_matrix"):
        return getattr(import_module("mmcl.beyond." + ("refit" if name == "detect_and_refit" else "detection")), name)
    raise AttributeError(f"module 'mmcl.unpaired' has no attribute {name!r}")
