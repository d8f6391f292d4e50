"""Section 5.3 as published, over several draws of the pairs, and its stored results.

``python -m mmcl.experiments.section_5_3 notebooks/stored/section_5_3.json`` makes the stored results that chapter
06_real_data draws: a quarter of an hour on one idle core, data from the folder in MMCL_DATA or downloaded.
"""

import datetime
import json
import sys
import time
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mmcl._checks import at_least
from mmcl._files import write_whole
from mmcl.experiments.autoencoders import codes as codes_of
from mmcl.experiments.digits import matched_rows
from mmcl.experiments.heads import HOW, Descent, Streams, accuracy, random_heads, train_heads
from mmcl.experiments.images import load_fashion_mnist, load_mnist
from mmcl.experiments.labelled import Labelled

LOOP = 5  # epochs between looks at the validation pairs
ACCEPT = 1.1  # factor by which a model must beat the best so far there to become the one that detects edges
RATE = 2e-3  # learning rate of the first stage


@dataclass(frozen=True)
class Stages:
    """How much of Section 5.3 is run; the numbers published, but for the draws.

    Attributes:
        draws, pairs: draws of the pairs, and pairs in each.
        epochs: of the first stage.
        loops, lr_unpaired: of the second stage, `LOOP` epochs each, and its learning rate.
        queries: test rows of the first modality that are looked up among all of the second.
    """

    draws: int = 3
    pairs: int = 500
    epochs: int = 100
    loops: int = 20
    lr_unpaired: float = 2e-5
    queries: int = 2000

    def __post_init__(self):
        at_least(1, draws=self.draws, pairs=self.pairs, loops=self.loops, queries=self.queries)


PUBLISHED = Stages()


@dataclass(frozen=True)
class Drawn:
    """Both modalities and several draws of pairs among their rows; two rows are a pair if they have the same class.

    Attributes:
        first, second: codes (M, width), (M2, width) with classes.
        pairs, validation, unpaired: (2, draws, ·) rows of the first and of the second modality.
        queries: test rows of the first that are looked up among all of the second.
    """

    first: Labelled
    second: Labelled
    pairs: Tensor
    validation: Tensor
    unpaired: Tensor
    queries: int

    def test(self, heads: Tensor) -> Tensor:
        """Accuracy (streams,) on the test rows."""
        one, other, asked = self.first, self.second, slice(self.queries)
        return accuracy(heads, one.rows_test[asked], other.rows_test, one.labels_test[asked], other.labels_test)

    def validate(self, heads: Tensor) -> Tensor:
        """Accuracy (streams,) on the validation pairs of each stream's draw; streams run over the draws fastest."""
        a, b = self.validation.repeat(1, len(heads) // self.validation.shape[1], 1)
        return accuracy(heads, self.first.rows[a], self.second.rows[b], self.first.labels[a], self.second.labels[b])


def draw(first: Labelled, second: Labelled, stages: Stages, seed: int = 0) -> Drawn:
    """Pairs, as many validation pairs, and the rest, which is unpaired, from `matched_rows`; draw i has seed + i."""
    matched = [torch.stack(matched_rows(first.labels, second.labels, seed + i)) for i in range(stages.draws)]
    sizes = [stages.pairs, stages.pairs, matched[0].shape[1] - 2 * stages.pairs]
    if sizes[-1] < 1:
        raise ValueError(f"pairs = {stages.pairs}, twice, of {matched[0].shape[1]} rows that match leave none unpaired")
    pairs, validation, unpaired = torch.stack(matched, 1).split(sizes, -1)
    return Drawn(first, second, pairs, validation, unpaired, stages.queries)


def accuracy_curves(
    first: Labelled, second: Labelled, stages: Stages = PUBLISHED, seed: int = 0, progress: bool = False
) -> dict:
    """Section 5.3 as published, over several draws: heads on the pairs, then on unpaired rows in each `HOW`.

    Args:
        first, second: codes (M, width), (M2, width) of either modality.
        stages: how much of it.
        seed: of the first draw, the initialisation and the order of the rows.
        progress: show progress bars on stderr.

    Returns:
        dict of `paired` (draws, epochs) and, for each `HOW`, (draws, LOOP * loops) test accuracies after each epoch;
        `accepted`, how often another model became the best; `seconds` of both stages.

    Raises:
        ValueError: if a number of the stages is out of range, or too few rows match.
    """
    drawn, clock = draw(first, second, stages, seed), [time.perf_counter()]
    heads, paired = learn_pairs(drawn, stages, seed, progress)
    clock.append(time.perf_counter())
    best = learn_unpaired(heads, drawn, stages, seed + 1, progress)
    clock.append(time.perf_counter())
    curves = dict(zip(HOW, torch.stack(best.curve, 1).split(stages.draws), strict=True))
    accepted = dict(zip(HOW, best.accepted.view(-1, stages.draws).tolist(), strict=True))
    return {"paired": paired, **curves, "accepted": accepted, "seconds": [b - a for a, b in pairwise(clock)]}


def learn_pairs(drawn: Drawn, stages: Stages, seed: int, progress: bool = False) -> tuple[Tensor, Tensor]:
    """First stage, CLIP on the pairs: the heads (draws, ...) and their test accuracies (draws, epochs)."""
    curve: list[Tensor] = []
    heads = random_heads(stages.draws, drawn.first.rows.shape[1], seed)
    streams = Streams(drawn.pairs[0], drawn.pairs[1], ["pairs"] * stages.draws)

    def note(epoch: int, heads: Tensor) -> None:
        curve.append(drawn.test(heads))

    descent = Descent(stages.epochs, RATE)
    heads = train_heads(heads, drawn.first.rows, drawn.second.rows, streams, descent, seed, note, progress)
    return heads, torch.stack(curve, 1)


def learn_unpaired(heads: Tensor, drawn: Drawn, stages: Stages, seed: int, progress: bool = False) -> "Best":
    """Second stage, L' on the unpaired rows: every draw goes on in each `HOW`; what the `Best` of each has noted."""
    heads = heads.repeat(len(HOW), 1, 1, 1, 1)
    rows, rows_tilde = drawn.unpaired.repeat(1, len(HOW), 1)
    streams = Streams(rows, rows_tilde, [h for h in HOW for _ in range(stages.draws)])
    best, descent = Best(heads, drawn), Descent(LOOP * stages.loops, stages.lr_unpaired)
    train_heads(heads, drawn.first.rows, drawn.second.rows, streams, descent, seed, best, progress)
    return best


class Best:
    """The model that detects edges: the first, until another has `ACCEPT` times its accuracy on the validation pairs.

    It is called after each epoch, notes the test accuracy in `curve`, and looks at the validation pairs at the end of
    each loop of `LOOP` epochs; `accepted` (streams,) counts how often another became the best.
    """

    def __init__(self, heads: Tensor, drawn: Drawn):
        self.drawn, self.model, self.level = drawn, heads, drawn.validate(heads)
        self.accepted = torch.zeros(len(heads), dtype=torch.int32)
        self.curve: list[Tensor] = []

    def __call__(self, epoch: int, heads: Tensor) -> Tensor | None:
        self.curve.append(self.drawn.test(heads))
        if epoch % LOOP < LOOP - 1:
            return None
        now = self.drawn.validate(heads)
        better = now > ACCEPT * self.level
        self.level, self.accepted = now.where(better, self.level), self.accepted + better
        self.model = heads.where(better.view(-1, 1, 1, 1, 1), self.model).clone()
        return self.model


def _main(target: str) -> None:
    """Run `accuracy_curves` at the size of the paper and store its results."""
    torch.set_num_threads(1)
    sides = []
    for images in (load_mnist(), load_fashion_mnist()):
        codes, codes_test = codes_of(images.rows, images.rows_test, progress=True)
        sides.append(Labelled(codes, images.labels, codes_test, images.labels_test))
    found = accuracy_curves(sides[0], sides[1], progress=True)
    found["seconds"] = [round(s) for s in found["seconds"]]
    about = {"command": f"python -m mmcl.experiments.section_5_3 {target}", "date": str(datetime.date.today())}
    numbers = {k: v.mul(1e4).round().div(1e4).tolist() if torch.is_tensor(v) else v for k, v in found.items()}
    write_whole(target, json.dumps(about | numbers) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mmcl.experiments.section_5_3 notebooks/stored/section_5_3.json")
    _main(sys.argv[1])
