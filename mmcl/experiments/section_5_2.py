"""Section 5.2 as published: AdamW on the pairs, then on unpaired rows batch by batch.

``python -m mmcl.experiments.section_5_2 notebooks/stored/section_5_2.json`` makes the stored results of Figure 2
(`mmcl.experiments.figure_2`): about half an hour on one core.
"""

import sys
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mmcl._checks import at_least, paired, positive, rank_at_most
from mmcl.losses import CLIP
from mmcl.training import random_encoders, similarities, take_steps
from mmcl.unpaired import UnpairedLoss


class Encoders(NamedTuple):
    """g1 (..., rank, d1) and g2 (..., rank, d2)."""

    g1: Tensor
    g2: Tensor


def train_published(
    x: Tensor,
    x_tilde: Tensor,
    x_unpaired: Tensor,
    x_tilde_unpaired: Tensor,
    rank: int,
    tau: float = 1.0,
    lr: float = 2e-3,
    epochs: int = 100,
    epochs_unpaired: int = 100,
    batch_size: int = 50,
    seed: int = 0,
    progress: bool = False,
) -> tuple[Encoders, Encoders]:
    """The published training: AdamW on CLIP over the pairs, then, going on, on (4.1) over batches of unpaired rows.

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

    Reference: PMLR 206:4348-4380, Section 5.2, and the notebook that came with it.
    """
    rows = slice(min(a.shape[-2] for a in (x_unpaired, x_tilde_unpaired)))
    rest = paired(x_unpaired[..., rows, :], x_tilde_unpaired[..., rows, :])
    stages = (*paired(x, x_tilde), CLIP(tau), epochs), (*rest, UnpairedLoss(tau=tau), epochs_unpaired)
    rank = rank_at_most(rank, *(a.shape[-1] for a in stages[0][:2]))
    positive(lr=lr)
    at_least(2, batch_size=batch_size)
    g1, g2 = (g.requires_grad_() for g in random_encoders(stages[0][0], stages[0][1], rank, seed))
    optimizer, found = torch.optim.AdamW([g1, g2], lr=lr), []
    for a, b, loss, passes in stages:
        if batch_size > a.shape[-2]:
            raise ValueError(f"batch_size = {batch_size}, but there are only {a.shape[-2]} rows")
        batches = [slice(i, i + batch_size) for i in range(0, a.shape[-2] - batch_size + 1, batch_size)]

        def objective(rows: slice, a: Tensor = a, b: Tensor = b, loss=loss) -> Tensor:
            return loss(similarities(a[..., rows, :], b[..., rows, :], g1, g2))

        for _ in tqdm(range(passes), desc=f"AdamW {loss!r}", unit="epoch", disable=not progress):
            take_steps(optimizer, objective, batches)
        found.append(Encoders(g1.detach().clone(), g2.detach().clone()))
    first, both = found
    return first, both


if __name__ == "__main__":
    from mmcl.experiments.figure_2 import main  # which imports what this file imports, and is not needed to train

    main(sys.argv[1])
