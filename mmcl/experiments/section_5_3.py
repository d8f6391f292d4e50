"""Section 5.3 as published, over several draws of the pairs, and its stored results.

``python -m mmcl.experiments.section_5_3 notebooks/stored/section_5_3.json`` makes the stored results that notebook
04 draws: a quarter of an hour on one idle core, data from the folder in MMCL_DATA or downloaded.
"""

import datetime
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from mmcl.experiments.autoencoders import codes as codes_of
from mmcl.experiments.digits import matched_rows
from mmcl.experiments.heads import HOW, accuracy, random_heads, train_heads
from mmcl.experiments.images import load_fashion_mnist, load_mnist

LOOP = 5  # epochs between looks at the validation pairs
ACCEPT = 1.1  # factor by which a model must beat the best so far there to become the one that detects edges


@dataclass(frozen=True)
class Coded:
    """One modality: codes (M, width) and labels (M,) of training rows, codes_test and labels_test of test rows."""

    codes: torch.Tensor
    labels: torch.Tensor
    codes_test: torch.Tensor
    labels_test: torch.Tensor


def accuracy_curves(
    first, second, draws=3, n=500, epochs=100, loops=20, lr_unpaired=2e-5, queries=2000, seed=0, progress=False
):
    """Section 5.3 as published, over several draws of the pairs: heads on n pairs, then on unpaired rows in each `HOW`.

    A draw takes n pairs and as many validation pairs from `mmcl.data.matched_rows`; all others are the unpaired rows.
    The best model, which detects edges, is the first until another has `ACCEPT` times its accuracy on the validation
    pairs at the end of a loop of `LOOP` epochs.

    Args:
        first, second: `Coded` modalities.
        draws, n: draws of the pairs, and pairs.
        epochs: of the first stage.
        loops, lr_unpaired: of the second stage, and its learning rate.
        queries: test rows of the first modality that are looked up among all of the second.
        seed: of the first draw, the initialisation and the order of the rows.
        progress: show progress bars on stderr.

    Returns:
        dict of `paired` (draws, epochs) and, for each `HOW`, (draws, LOOP * loops) test accuracies after each epoch;
        `accepted`, how often another model became the best; `seconds` of both stages.
    """
    drawn = [matched_rows(first.labels, second.labels, seed + d) for d in range(draws)]
    rows, rows_tilde = (torch.stack([r[: min(map(len, side))] for r in side]) for side in zip(*drawn, strict=True))
    codes, curve, clock = (first.codes, second.codes), [], [time.perf_counter()]

    def test(heads):
        asked = first.codes_test[:queries], second.codes_test, first.labels_test[:queries], second.labels_test
        return accuracy(heads, *asked)

    def validate(heads):
        a, b = (r[:, n : 2 * n].repeat(len(heads) // draws, 1) for r in (rows, rows_tilde))
        return accuracy(heads, first.codes[a], second.codes[b], first.labels[a], second.labels[b])

    heads, pairs = random_heads(draws, first.codes.shape[1], seed), (rows[:, :n], rows_tilde[:, :n], ["pairs"] * draws)
    settings = dict(lr=2e-3, seed=seed, after_epoch=lambda _, heads: curve.append(test(heads)), progress=progress)
    heads = train_heads(heads, *codes, *pairs, epochs, **settings).repeat(len(HOW), 1, 1, 1, 1)
    clock.append(time.perf_counter())
    more = [r[:, 2 * n :].repeat(len(HOW), 1) for r in (rows, rows_tilde)] + [[h for h in HOW for _ in range(draws)]]
    best = _Best(heads, test, validate)
    settings = dict(lr=lr_unpaired, seed=seed + 1, after_epoch=best, progress=progress)
    train_heads(heads, *codes, *more, LOOP * loops, **settings)
    clock.append(time.perf_counter())
    stages = dict(zip(HOW, torch.stack(best.curve, 1).split(draws), strict=True))
    counts = dict(zip(HOW, best.accepted.int().view(-1, draws).tolist(), strict=True))
    seconds = [clock[1] - clock[0], clock[2] - clock[1]]
    return {"paired": torch.stack(curve, 1), **stages, "accepted": counts, "seconds": seconds}


class _Best:
    """Notes test accuracies after each epoch; after each loop, the best model so far is the one that detects edges."""

    def __init__(self, heads, test, validate):
        self.test, self.validate, self.curve = test, validate, []
        self.model, self.level, self.accepted = heads, validate(heads), torch.zeros(len(heads))

    def __call__(self, epoch, heads):
        self.curve.append(self.test(heads))
        if epoch % LOOP < LOOP - 1:
            return None
        now = self.validate(heads)
        better = now > ACCEPT * self.level
        self.level, self.accepted = now.where(better, self.level), self.accepted + better
        self.model = heads.where(better.view(-1, 1, 1, 1, 1), self.model).clone()
        return self.model


def _main(target):
    """Run `accuracy_curves` at the size of the paper and store its results."""
    torch.set_num_threads(1)
    sides = []
    for images in (load_mnist(), load_fashion_mnist()):
        codes, codes_test = codes_of(images.images, images.images_test, progress=True)
        sides.append(Coded(codes, images.labels, codes_test, images.labels_test))
    found = accuracy_curves(*sides, progress=True)
    result = {"command": f"python -m mmcl.experiments.section_5_3 {target}", "date": str(datetime.date.today())}
    result |= {k: v.mul(1e4).round().div(1e4).tolist() if torch.is_tensor(v) else v for k, v in found.items()}
    result["seconds"] = [round(s) for s in result["seconds"]]
    Path(target).write_text(json.dumps(result) + "\n", "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mmcl.experiments.section_5_3 notebooks/stored/section_5_3.json")
    _main(sys.argv[1])
