"""Section 5.3 as published, over several draws of the pairs, and its stored results.

``python -m mmcl.heads_study notebooks/stored/section_5_3.json`` makes the stored results that notebook 04 draws: a
quarter of an hour on one idle core, data from the folder in MMCL_DATA or downloaded.
"""

import datetime
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from mmcl.autoencoders import codes as codes_of
from mmcl.data import load_fashion_mnist, load_mnist, matched_rows
from mmcl.heads import HOW, accuracy, random_heads, train

LOOP = 5  # epochs between looks at the validation pairs
ACCEPT = 1.1  # factor by which a model must beat the best so far there to become the one that detects edges


@dataclass(frozen=True)
class Coded:
    """One modality: codes (M, width) and labels (M,) of training rows, codes_test and labels_test of test rows."""

    codes: torch.Tensor
    labels: torch.Tensor
    codes_test: torch.Tensor
    labels_test: torch.Tensor


def study(first, second, draws=3, n=500, epochs=100, loops=20, lr_unpaired=2e-5, queries=2000, seed=0, progress=False):
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

    def test(heads):
        return accuracy(
            heads, first.codes_test[:queries], second.codes_test, first.labels_test[:queries], second.labels_test
        )

    width, curve, start = first.codes.shape[1], [], time.perf_counter()
    heads = train(
        random_heads(draws, width, seed),
        first.codes,
        second.codes,
        rows[:, :n],
        rows_tilde[:, :n],
        ["pairs"] * draws,
        epochs,
        lr=2e-3,
        seed=seed,
        progress=progress,
        after_epoch=lambda _, heads: curve.append(test(heads)),
    )
    seconds, heads, curves = [time.perf_counter() - start], heads.repeat(len(HOW), 1, 1, 1, 1), []
    rows, rows_tilde = (a.repeat(len(HOW), 1) for a in (rows, rows_tilde))
    a, b = rows[:, n : 2 * n], rows_tilde[:, n : 2 * n]

    def validate(heads):
        return accuracy(heads, first.codes[a], second.codes[b], first.labels[a], second.labels[b])

    best, teacher, accepted = validate(heads), heads, torch.zeros(len(heads))

    def after(epoch, heads):
        nonlocal best, teacher, accepted
        curves.append(test(heads))
        if epoch % LOOP < LOOP - 1:
            return None
        now = validate(heads)
        better = now > ACCEPT * best
        best, accepted = now.where(better, best), accepted + better
        teacher = heads.where(better.view(-1, 1, 1, 1, 1), teacher).clone()
        return teacher

    how = [h for h in HOW for _ in range(draws)]
    train(
        heads,
        first.codes,
        second.codes,
        rows[:, 2 * n :],
        rows_tilde[:, 2 * n :],
        how,
        LOOP * loops,
        lr=lr_unpaired,
        seed=seed + 1,
        after_epoch=after,
        progress=progress,
    )
    seconds.append(time.perf_counter() - start - seconds[0])
    stages = dict(zip(HOW, torch.stack(curves, 1).split(draws), strict=True))
    counts = dict(zip(HOW, accepted.int().view(-1, draws).tolist(), strict=True))
    return {"paired": torch.stack(curve, 1), **stages, "accepted": counts, "seconds": seconds}


def _main(target):
    """Run `study` at the size of the paper and store its results."""
    torch.set_num_threads(1)
    sides = []
    for images in (load_mnist(), load_fashion_mnist()):
        codes, codes_test = codes_of(images.images, images.images_test, progress=True)
        sides.append(Coded(codes, images.labels, codes_test, images.labels_test))
    found = study(*sides, progress=True)
    result = {"command": f"python -m mmcl.heads_study {target}", "date": str(datetime.date.today())}
    result |= {k: v.mul(1e4).round().div(1e4).tolist() if torch.is_tensor(v) else v for k, v in found.items()}
    result["seconds"] = [round(s) for s in result["seconds"]]
    Path(target).write_text(json.dumps(result) + "\n", "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mmcl.heads_study notebooks/stored/section_5_3.json")
    _main(sys.argv[1])
