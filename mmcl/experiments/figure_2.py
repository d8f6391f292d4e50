"""Figure 2: after the published first stage, what several second stages make of the unpaired rows (Section 5.2).

The paper names the second stage only as "the procedure described in Section 4", the published notebook of this
section takes the B largest cosines of a block of B rows. `STAGES` has both readings and what lies between them.
"""

import copy
import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from mmcl._files import write_whole
from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.training import random_encoders, similarities, take_steps
from mmcl.unpaired import detect_edges

SETTING: dict[str, Any] = dict(d1=40, d2=39, rank=10, noise_std=0.3)
NUMBERS, RATIOS, BLOCK, EPOCHS, RATE = (100, 200, 500), (3, 9, 15), 50, 100, 2e-3


@dataclass(frozen=True)
class Stage:
    """A second stage: which entries of a block of cosines are edges, who computes the cosines, and what a block is.

    Attributes:
        rule: "largest" (the B largest entries of a block of B rows), "rule (4.2)" or "true" (the diagonal).
        frozen: whether the encoders of the pairs look for the edges, once, or the present encoders at every step.
        block: rows of a block, which holds the partners of its own rows: "50", "n" or "N". At "N" the edges are found
            among all unpaired rows, and are then pairs in blocks of 50.
        shuffled: whether the rows of one modality come in random order, so that partners share a block by chance.
    """

    rule: str
    frozen: bool
    block: str
    shuffled: bool = False


STAGES = {
    "published notebook": Stage("largest", frozen=False, block="50"),
    "published notebook, rows shuffled": Stage("largest", frozen=False, block="50", shuffled=True),
    "rule (4.2), first encoders, blocks of n": Stage("rule (4.2)", frozen=True, block="n"),
    "rule (4.2), first encoders, blocks of 50": Stage("rule (4.2)", frozen=True, block="50"),
    "rule (4.2), first encoders, all N": Stage("rule (4.2)", frozen=True, block="N"),
    "true pairs": Stage("true", frozen=True, block="50"),
}


def edges_of_block(s: Tensor, rule: str) -> Tensor:
    """Edges of blocks of similarities s (..., B, B) as a mask: B of them.

    Args:
        s: (..., B, B) similarities.
        rule: "largest" for the largest entries, "rule (4.2)" for the largest of all row and column maxima, "true" for
            the diagonal.

    Returns:
        (..., B, B) bool.

    Example:
        >>> edges_of_block(torch.tensor([[3.0, 2.0], [0.0, 1.0]]), "rule (4.2)")
        tensor([[ True,  True],
                [False, False]])
    """
    if rule == "true":
        return torch.eye(s.shape[-1], dtype=torch.bool).expand_as(s)
    if rule == "rule (4.2)":
        s = s.where((s == s.amax(-1, keepdim=True)) | (s == s.amax(-2, keepdim=True)), -torch.inf)
    largest = s.flatten(-2).topk(s.shape[-1]).indices
    return torch.zeros_like(s, dtype=torch.bool).flatten(-2).scatter_(-1, largest, True).view_as(s)


def block_loss(s: Tensor, edges: Tensor, tau: float = 1.0) -> Tensor:
    """The loss (4.1) at nu = 1 of blocks s (..., B, B) whose edges are a mask; (...,)."""
    logits = s / tau
    push = (logits.logsumexp(-1) + logits.logsumexp(-2)) / 2
    return tau * (push - (edges * logits).sum(-1)).mean(-1)


class LinearTraining:
    """Encoders (draws, r, d) on their way, with AdamW; `copy.deepcopy` gives a run to go on from."""

    def __init__(self, x: Tensor, x_tilde: Tensor, rank: int, seed: int = 0):
        self.g1, self.g2 = (g.requires_grad_() for g in random_encoders(x, x_tilde, rank, seed))
        self.optimizer = torch.optim.AdamW([self.g1, self.g2], lr=RATE)

    def epochs(self, x: Tensor, x_tilde: Tensor, stage: Stage, size: int, epochs: int) -> None:
        """Passes over the blocks of ``size`` rows of x and x_tilde (draws, N, d), in the order given."""
        x, x_tilde = (a[:, : a.shape[1] // size * size].unflatten(1, (-1, size)) for a in (x, x_tilde))
        with torch.no_grad():
            fixed = [edges_of_block(s, stage.rule) for s in self._blocks(x, x_tilde)] if stage.frozen else None

        def objective(t: int) -> Tensor:
            s = similarities(x[:, t], x_tilde[:, t], self.g1, self.g2)
            return block_loss(s, fixed[t] if fixed else edges_of_block(s.detach(), stage.rule))

        for _ in range(epochs):
            take_steps(self.optimizer, objective, range(x.shape[1]))

    def _blocks(self, x: Tensor, x_tilde: Tensor) -> Iterator[Tensor]:
        return (similarities(x[:, t], x_tilde[:, t], self.g1, self.g2) for t in range(x.shape[1]))


def second_stage(
    run: LinearTraining, x: Tensor, x_tilde: Tensor, stage: Stage, pairs: int, epochs: int = EPOCHS
) -> Tensor:
    """Encoders g1 (draws, r, d1) after the second stage, which goes on from a copy of ``run``.

    Args:
        run: the first stage, on ``pairs`` pairs.
        x, x_tilde: (draws, N, d1), (draws, N, d2) unpaired rows, in the order of their pairs.
        stage: the second stage.
        pairs: n.
        epochs: passes over the unpaired rows.
    """
    run, size = copy.deepcopy(run), pairs if stage.block == "n" else BLOCK
    if stage.shuffled:
        x_tilde = x_tilde[:, torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(0))]
    if stage.block == "N":
        with torch.no_grad():
            z, z_tilde = F.normalize(x @ run.g1.mT, dim=-1), F.normalize(x_tilde @ run.g2.mT, dim=-1)
        identity = torch.eye(z.shape[-1], dtype=z.dtype)
        edges = detect_edges(z, z_tilde, identity, identity)
        x, x_tilde = (a.gather(1, edges[..., [k]].expand_as(a)) for k, a in enumerate((x, x_tilde)))
        stage = STAGES["true pairs"]
    run.epochs(x, x_tilde, stage, size, epochs)
    return run.g1.detach()


def study(n: int, draws: int, ratios=RATIOS, stages=STAGES, epochs: int = EPOCHS, seed: int = 0) -> Iterator[dict]:
    """Errors ||sinTheta(G1, U1)||_F of every stage and ratio N/n on the same draws, one dict at a time.

    Yields:
        n, stage ("pairs alone" first, at ratio 0), ratio and error, a list of ``draws`` numbers.
    """
    p = spiked(n * (1 + max(ratios)), draws=draws, seed=seed + n, **SETTING)
    run = LinearTraining(p.x, p.x_tilde, SETTING["rank"], seed)
    run.epochs(p.x[:, :n], p.x_tilde[:, :n], STAGES["true pairs"], BLOCK, epochs)

    def row(stage: str, ratio: int, g1: Tensor) -> dict:
        return dict(n=n, stage=stage, ratio=ratio, error=[round(float(e), 4) for e in sin_theta(g1.mT, p.u1)])

    yield row("pairs alone", 0, run.g1.detach())
    for name, stage in stages.items():
        for ratio in ratios:
            rest = slice(n, n * (1 + ratio))
            yield row(name, ratio, second_stage(run, p.x[:, rest], p.x_tilde[:, rest], stage, n, epochs))


def main(path: str | PathLike, draws: int = 5) -> None:
    """Make the stored results: every stage, n and ratio on ``draws`` data sets, written after each."""
    setting = SETTING | dict(tau=1, nu=1, epochs=EPOCHS, learning_rate=RATE, optimizer="AdamW", similarity="cosine")
    stored: dict[str, Any] = {"command": f"python -m mmcl.experiments.section_5_2 {path}"}
    stored |= {"date": str(datetime.date.today())}
    stored |= dict(setting=setting, metric="||sinTheta(G1, U1)||_F, one number a draw, the same draws for all stages")
    rows = []
    with tqdm(total=len(NUMBERS) * (1 + len(RATIOS) * len(STAGES)), desc="Figure 2", unit="run") as bar:
        for row in (row for n in NUMBERS for row in study(n, draws)):
            rows.append(json.dumps(row))
            lines = json.dumps(stored, indent=1)[:-2] + ',\n "rows": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n"
            write_whole(path, lines)
            bar.update()
