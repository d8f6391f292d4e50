"""Section 5.1 with networks: training on a noisy graph of images, with a partition and without, as published.

``python -m mmcl.experiments.section_5_1 notebooks/stored/section_5_1.json [--resume]`` makes the stored results, run
by run; a step of the published schedule costs 60 GFLOP, two seconds on one core. With --resume it keeps the runs
that the file holds. Data come from the folder in MMCL_DATA or are downloaded.
"""

import argparse
import datetime
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from mmcl import graph
from mmcl._files import write_whole
from mmcl.experiments.graph_networks import SCHEDULES, Training, as_pixels, first_fall, train
from mmcl.experiments.images import load_fashion_mnist, load_mnist
from mmcl.experiments.labelled import Labelled
from mmcl.experiments.section_5_1_linear import class_retrieval, per_class

TESTS = 100, 100  # queries per class, and sets of candidates
SETTING = {
    "published": "SGD, learning rate 0.001, momentum 0.9, on row plus column cross-entropy over the number of edges "
    "before the partition, all images in each step, ReduceLROnPlateau with factor 0.3 and patience 10",
    "constant rate": "the same without ReduceLROnPlateau",
    "AdamW": "learning rate 0.001, batches of 100 x 100, divided by the edges of the batch",
    "rows": "the first images of each class, as published, or random ones",
    "step": "steps made; loss is what the next one descends, rate is its rate. A run ends when its rate is below 1e-5",
    "accuracy": "share of 1,000 Fashion-MNIST test images nearest, of 10 MNIST test images, one per class, to that of "
    "their class; mean over 100 sets of 10, from the first 200 test images of each digit",
    "fall": "of the loss in its first 11 steps, to first order and as a share of it; the plateau rule asks for 0.0001",
    "lists that a run lacks": "were not recorded when it was made",
}

DENOISED = {  # what a partition into k clusters leaves of the graph
    "algorithm 2": lambda edges, clusters, seed: graph.algorithm_2(edges, clusters, seed=seed),
    "blocks": lambda edges, clusters, seed: graph.class_graph(*graph.partition(edges, clusters, seed)),
}


@dataclass(frozen=True)
class Setting:
    """One run.

    Attributes:
        flip: share p' of flipped entries of the graph.
        clusters: k of the partition, None for no partition.
        partition: "algorithm 2", which removes edges between clusters, or "blocks", as the published code has it:
            k - 1 singular vectors, and an edge wherever the clusters are the same; None for no partition.
        schedule: name in `SCHEDULES`. All but AdamW divide the loss by the edges before the partition, as published.
        steps: at most.
        rows: "first" images of each class, as published, or "random" ones, for training and as queries.
        images: training images per class.
        seed: of rows, flips, partition and training.
    """

    flip: float
    clusters: int | None = None
    partition: str | None = None
    schedule: str = "published"
    steps: int = 2000
    rows: str = "first"
    images: int = 50
    seed: int = 0


def prepare(first: Labelled, second: Labelled, setting: Setting) -> tuple[Training, Callable]:
    """The encoders before their first step, and the function that gives their accuracy.

    Args:
        first, second: images for the convolutional and the dense encoder.
        setting: of the run.

    Raises:
        ValueError: if a class has too few images, or only one of clusters and partition is given.
    """
    if (setting.clusters is None) != (setting.partition is None):
        raise ValueError(f"clusters = {setting.clusters}, partition = {setting.partition!r}; give both or neither")
    generator, seed = torch.Generator().manual_seed(setting.seed), setting.seed
    only = {"first": setting.images, "random": None}[setting.rows]
    chosen, chosen_tilde = (per_class(a.labels, setting.images, generator, only).flatten() for a in (first, second))
    edges = graph.class_graph(first.labels[chosen], second.labels[chosen_tilde], setting.flip, seed)
    schedule = SCHEDULES[setting.schedule]
    count = None if schedule.batch else float(edges.sum())
    if setting.partition:
        edges = DENOISED[setting.partition](edges, setting.clusters, seed)
    queries = per_class(first.labels_test, TESTS[0], generator, only and TESTS[0]).flatten()
    candidates = per_class(second.labels_test, TESTS[1], generator, first=200).T

    def evaluate(f, g):
        z_tilde = g(as_pixels(second.rows_test[candidates.flatten()])).unflatten(0, candidates.shape)
        z = f(as_pixels(first.rows_test[queries]))
        return round(float(class_retrieval(z, z_tilde, first.labels_test[queries])), 4)

    return Training(first.rows[chosen], second.rows[chosen_tilde], edges, schedule, count, seed), evaluate


def experiment(
    first: Labelled, second: Labelled, setting: Setting, known: dict | None = None, progress: bool = False
) -> dict:
    """One run of Section 5.1: a graph on images of both data sets, noise, a partition or none, training, accuracy.

    Args:
        first, second, setting: of `prepare`.
        known: dict that remembers curves, so that what is equal, as graphs after an exact partition, is trained once.
        progress: show a bar on stderr.

    Returns:
        dict of the setting and of the lists step, loss, rate, accuracy.
    """
    known, (training, evaluate) = {} if known is None else known, prepare(first, second, setting)
    same = replace(setting, flip=0, clusters=None, partition=None), training.count, training.edges.numpy().tobytes()
    if same not in known:
        title = f"p' = {setting.flip}, {setting.partition}, {setting.schedule}, seed {setting.seed}" if progress else ""
        known[same] = train(training, evaluate, setting.steps, progress=title)
    return asdict(setting) | known[same]


def starts() -> list[Setting]:
    """Settings whose `first_fall` is stored."""
    noisy = [Setting(p, steps=11, seed=seed) for seed in range(6) for p in (0.2, 0.25, 0.3, 0.35, 0.4)]
    return noisy + [Setting(0.3, 10, way, steps=11, seed=seed) for seed in range(2) for way in DENOISED]


def runs() -> list[Setting]:
    """Settings of the stored runs. The first 12 steps show whether the rule cuts the rate at once."""
    found = [Setting(0.3, seed=seed, steps=steps) for seed, steps in enumerate((50, 600, 25, 25))]
    found += [Setting(0.3, schedule="constant rate", seed=1, steps=50)]
    found += [Setting(0.35, steps=600), Setting(0.25, seed=1, steps=25)]
    found += [Setting(0.3, schedule="constant rate", seed=1, steps=120), Setting(0.2, steps=120)]
    found += [Setting(0.4, steps=600), Setting(0.3, 10, "algorithm 2", steps=60)]
    plain = Setting(0.0, schedule="constant rate", rows="random")
    found += [replace(plain, images=10, steps=200), replace(plain, steps=60)]
    for seed in (0, 1):
        for p in (0.0, 0.2, 0.3, 0.4, 0.45):
            adamw = Setting(p, schedule="AdamW", rows="random", steps=100, seed=seed)
            found += [adamw, replace(adamw, clusters=10, partition="blocks")]
    return found


def main(path: str, resume: bool = False) -> None:
    """Make the stored results: `first_fall` of every start, and every run, each written when it is done.

    Args:
        path: the file.
        resume: make only what it lacks.
    """
    first, second = load_fashion_mnist(), load_mnist()
    known: dict = {}
    stored = json.loads(Path(path).read_text("utf-8")) if resume and Path(path).exists() else {"starts": [], "runs": []}
    stored |= {"command": f"python -m mmcl.experiments.section_5_1 {path}", "setting": SETTING}

    def fall(setting):
        return asdict(setting) | {"fall": round(first_fall(prepare(first, second, setting)[0]), 7)}

    def run(setting):
        return experiment(first, second, setting, known, progress=True)

    for name, make, settings in (("starts", fall, starts()), ("runs", run, runs())):
        stored[name] = [r for r in stored[name] if any(asdict(s).items() <= r.items() for s in settings)]
        for setting in tqdm(settings, desc=name):
            if not any(asdict(setting).items() <= r.items() for r in stored[name]):
                stored[name].append(make(setting))
                write(path, stored | {"date": str(datetime.date.today())})


def write(path: str, stored: dict) -> None:
    """JSON with one run a line, whole or not at all."""
    head = json.dumps({k: v for k, v in stored.items() if k not in ("starts", "runs")}, indent=1)[:-2]
    lists = [f' "{k}": [\n  ' + ",\n  ".join(map(json.dumps, stored[k])) + "\n ]" for k in ("starts", "runs")]
    write_whole(path, ",\n".join([head, *lists]) + "\n}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--resume", action="store_true", help="keep the runs that the file holds")
    options = parser.parse_args()
    main(options.path, options.resume)
