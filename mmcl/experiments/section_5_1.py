"""Section 5.1 with networks: training on a noisy graph of images, with a partition and without, as published.

``python -m mmcl.experiments.section_5_1 notebooks/stored/section_5_1.json [--resume]`` makes the stored results, run
by run; a step of the published schedule costs 60 GFLOP, two seconds on one core. With --resume it keeps the runs
that the file holds. Data come from the folder in MMCL_DATA or are downloaded.
"""

import argparse
import datetime
import json
from pathlib import Path

import torch

from mmcl import graph
from mmcl._files import write_whole
from mmcl.experiments.graph_networks import SCHEDULES, Training, as_pixels, train
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
    "lists that a run lacks": "were not recorded when it was made",
}

DENOISED = {  # what a partition into k clusters leaves of the graph
    "algorithm 2": lambda edges, clusters, seed: graph.algorithm_2(edges, clusters, seed=seed),
    "blocks": lambda edges, clusters, seed: graph.class_graph(*graph.partition(edges, clusters, seed)),
}


def experiment(
    first: Labelled,
    second: Labelled,
    flip: float,
    clusters: int | None = None,
    partition: str = "algorithm 2",
    schedule: str = "published",
    steps: int | None = None,
    rows: str = "first",
    images: int = 50,
    seed: int = 0,
    known: dict | None = None,
    progress: bool = False,
) -> dict:
    """One run of Section 5.1: a graph on images of both data sets, noise, a partition or none, training, accuracy.

    Args:
        first, second: for the convolutional and the dense encoder.
        flip: share p' of flipped entries of the graph.
        clusters: k of the partition, None for no partition.
        partition: "algorithm 2", which removes edges between clusters, or "blocks", as the published code has it:
            k - 1 singular vectors, and an edge wherever the clusters are the same.
        schedule: name in `SCHEDULES`. All but AdamW divide the loss by the edges before the partition, as published.
        steps: None for those of the schedule.
        rows: "first" images of each class, as published, or "random" ones, for training and as queries.
        images: training images per class.
        seed: of rows, flips, partition and training.
        known: dict that remembers curves, so that what is equal, as graphs after an exact partition, is trained once.
        progress: show a bar on stderr.

    Returns:
        dict of the settings and of the lists step, loss, rate, accuracy.
    """
    setting = dict(flip=flip, clusters=clusters, partition=clusters and partition, schedule=schedule)
    setting |= dict(steps=steps or SCHEDULES[schedule].steps, rows=rows, images=images, seed=seed)
    generator, only = torch.Generator().manual_seed(seed), {"first": images, "random": None}[rows]
    chosen, chosen_tilde = (per_class(a.labels, images, generator, only).flatten() for a in (first, second))
    edges = graph.class_graph(first.labels[chosen], second.labels[chosen_tilde], flip, seed)
    count = None if SCHEDULES[schedule].batch else float(edges.sum())
    if clusters:
        edges = DENOISED[partition](edges, clusters, seed)
    queries = per_class(first.labels_test, TESTS[0], generator, only and TESTS[0]).flatten()
    candidates = per_class(second.labels_test, TESTS[1], generator, first=200).T

    def evaluate(f, g):
        z_tilde = g(as_pixels(second.rows_test[candidates.flatten()])).unflatten(0, candidates.shape)
        z = f(as_pixels(first.rows_test[queries]))
        return round(float(class_retrieval(z, z_tilde, first.labels_test[queries])), 4)

    known = {} if known is None else known
    key = *(setting[k] for k in ("schedule", "steps", "rows", "images", "seed")), count, edges.numpy().tobytes()
    if key not in known:
        training = Training(first.rows[chosen], second.rows[chosen_tilde], edges, SCHEDULES[schedule], count, seed)
        title = progress and f"p' = {flip}, k = {clusters}, {schedule}, seed {seed}"
        known[key] = train(training, evaluate, setting["steps"], progress=title)
    return setting | known[key]


def plan() -> list[dict]:
    """Settings of the stored runs, the most telling first."""
    default = dict(clusters=None, steps=600, rows="first", images=50, seed=0)
    runs = [dict(flip=0.3, schedule=name, seed=seed) for seed in (0, 1) for name in ("published", "constant rate")]
    runs += [dict(flip=p, schedule="published") for p in (0.2, 0.25, 0.35)]
    for images, steps in ((10, 200), (50, 60)):
        runs.append(dict(flip=0.0, schedule="constant rate", rows="random", images=images, steps=steps))
    for seed in (0, 1):
        for p in (0.0, 0.2, 0.3, 0.4, 0.45):
            adamw = dict(flip=p, schedule="AdamW", rows="random", steps=100, seed=seed)
            runs += [adamw, adamw | dict(clusters=10, partition="blocks")]
    return [default | run for run in runs]


def main(path: str, resume: bool = False) -> None:
    """Make the stored results: the runs of `plan`, each written when it is done."""
    first, second, path, known = load_fashion_mnist(), load_mnist(), Path(path), {}
    stored = json.loads(path.read_text("utf-8")) if resume and path.exists() else {"runs": []}
    stored |= {"command": f"python -m mmcl.experiments.section_5_1 {path}", "setting": SETTING}
    for setting in plan():
        if any(setting.items() <= run.items() for run in stored["runs"]):
            continue
        stored["runs"].append(experiment(first, second, **setting, known=known, progress=True))
        write(path, stored | {"date": str(datetime.date.today())})


def write(path: Path, stored: dict) -> None:
    """JSON with one run a line, whole or not at all."""
    head = json.dumps({k: v for k, v in stored.items() if k != "runs"}, indent=1)[:-2]
    write_whole(path, head + ',\n "runs": [\n  ' + ",\n  ".join(map(json.dumps, stored["runs"])) + "\n ]\n}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--resume", action="store_true", help="keep the runs that the file holds")
    options = parser.parse_args()
    main(options.path, options.resume)
