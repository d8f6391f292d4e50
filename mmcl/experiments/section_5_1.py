"""The encoders of Section 5.2, one convolutional and one dense, trained on a graph of pairs by InfoNCE.

``python -m mmcl.experiments.section_5_1 notebooks/stored/section_5_2.json`` makes the stored results that notebook
04 draws: about a quarter of an hour on one core, data from the folder in MMCL_DATA or downloaded.
"""

import datetime
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from mmcl._checks import at_least
from mmcl.experiments.images import load_fashion_mnist, load_mnist
from mmcl.experiments.section_5_1_linear import class_retrieval, per_class
from mmcl.graph import class_graph, partition

TESTS = 100, 100  # queries per class, and sets of candidates
SETTING = {
    "published": "p = 0, SGD, learning rate 0.002, momentum 0.9, all images in each step, 10 and 50 images per class",
    "runs": "AdamW, learning rate 0.001, batches of 100 x 100, 50 images per class, partition into 10 clusters or none",
    "metric": "share of 1,000 Fashion-MNIST test images nearest, of 10 MNIST test images, one per class, to that of "
    "their class; mean over 100 sets of 10, from the first 200 test images of each digit",
}


def convolutional():
    """The published encoder of Fashion-MNIST: (n, 1, 28, 28) to (n, 128)."""
    hidden = nn.Linear(128 * 7 * 7, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 128)
    return nn.Sequential(*_block(1, 8, 16), *_block(16, 64, 128), nn.Flatten(), *hidden)


def _block(width, middle, out):
    first, second = nn.Conv2d(width, middle, 3, padding=1), nn.Conv2d(middle, out, 3, padding=1)
    return first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(out)


def dense():
    """The published encoder of MNIST: (n, 1, 28, 28) to (n, 128)."""
    layers = [nn.Flatten()]
    for width, out in ((784, 512), (512, 256)):
        layers += [nn.Linear(width, out), nn.BatchNorm1d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(256, 128))


def graph_info_nce(s, edges, tau=1.0):
    """InfoNCE with a graph as target, -1/(2|E|) sum_ij E_ij ( log softmax_j s_ij/tau + log softmax_i s_ij/tau ).

    Args:
        s: (..., n1, n2) similarities.
        edges: (..., n1, n2) E, entries >= 0. With E = I it is the symmetric cross-entropy of CLIP.
        tau: temperature.

    Returns:
        (...,) value. (The published code leaves out the 1/2, and divides by the edges before the partition.)
    """
    logits = s / tau
    both = logits.log_softmax(-1) + logits.log_softmax(-2)
    return -(edges * both).sum((-2, -1)) / (2 * edges.sum((-2, -1)))


def adamw(parameters):
    """AdamW with learning rate 0.001."""
    return torch.optim.AdamW(parameters, lr=1e-3)


def published_sgd(parameters):
    """The published optimiser: gradient descent with momentum 0.9, without its plateau rule.

    The published learning rate is 0.001 for a loss that is twice `graph_info_nce`, so it is 0.002 here.
    """
    return torch.optim.SGD(parameters, lr=2e-3, momentum=0.9)


def train_networks(images, images_tilde, edges, evaluate, epochs=20, every=5, batch_size=100, optimizer=adamw, seed=0):
    """The two encoders, trained on a graph of pairs with cosine similarities at temperature 1, as published.

    Args:
        images, images_tilde: (n1, 28, 28), (n2, 28, 28) grey levels 0 to 255.
        edges: (n1, n2) the graph. A step takes the subgraph of random rows and columns; with batch_size at least
            n1 and n2 it takes all, as published.
        evaluate: function of the two encoders, called with them in evaluation mode.
        epochs, every: passes over the rows, and passes between evaluations.
        batch_size: rows and columns per step.
        optimizer: `adamw` or `published_sgd`, or another function of the parameters.
        seed: of the initialisation and of the batches.

    Returns:
        list of epochs, from 0, and list of what evaluate returned.

    Raises:
        ValueError: if a number is out of range.

    Reference: arXiv 2302.06232, Section 5.2; notebook 04.
    """
    at_least(2, batch_size=batch_size)
    at_least(0, epochs=epochs)
    at_least(1, every=every)
    x, x_tilde, edges = as_pixels(images), as_pixels(images_tilde), edges.float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        f, g = convolutional(), dense()
    descent, generator = optimizer([*f.parameters(), *g.parameters()]), torch.Generator().manual_seed(seed)
    seen, found = [], []
    for epoch in range(epochs + 1):
        if epoch:
            _epoch(f.train(), g.train(), x, x_tilde, edges, descent, batch_size, generator)
        if epoch % every == 0 or epoch in (1, 2, epochs):
            with torch.no_grad():
                found.append(evaluate(f.eval(), g.eval()))
            seen.append(epoch)
    return seen, found


def _epoch(f, g, x, x_tilde, edges, descent, batch_size, generator):
    """One pass: disjoint random subgraphs."""
    orders = (torch.randperm(len(a), generator=generator).split(batch_size) for a in (x, x_tilde))
    for rows, columns in zip(*orders, strict=False):
        z, z_tilde = F.normalize(f(x[rows]), dim=1), F.normalize(g(x_tilde[columns]), dim=1)
        descent.zero_grad()
        graph_info_nce(z @ z_tilde.T, edges[rows][:, columns]).backward()
        descent.step()


def as_pixels(images):
    """(n, 1, 28, 28) float32 of images (n, 28, 28), grey levels as they are."""
    return torch.as_tensor(images).unsqueeze(1).float()


def experiment(first, second, flip, clusters=None, images=50, seed=0, known=None, **training):
    """One run of Section 5.2: a graph on images of both data sets, noise, a partition or none, training, accuracy.

    Args:
        first, second: `mmcl.experiments.labelled.Labelled` images for the convolutional and the dense encoder.
        flip: share p of flipped edges.
        clusters: k of the partition, None for no partition.
        images: training images per class.
        seed: of images, flips, partition and training.
        known: dict that remembers curves by graph, so that runs with the same seed and settings whose graphs are
            equal, as after an exact partition, are trained once.
        training: further arguments of `train_networks`.

    Returns:
        dict with flip, clusters, images, seed, and the lists epoch and accuracy.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, rows_tilde = (per_class(a.labels, images, generator).flatten() for a in (first, second))
    edges = class_graph(first.labels[rows], second.labels[rows_tilde], flip, seed)
    if clusters:
        edges = class_graph(*partition(edges, clusters, seed))
    queries = per_class(first.labels_test, TESTS[0], generator).flatten()
    candidates = per_class(second.labels_test, TESTS[1], generator, first=200).T

    def evaluate(f, g):
        z_tilde = g(as_pixels(second.rows_test[candidates.flatten()])).unflatten(0, candidates.shape)
        z = f(as_pixels(first.rows_test[queries]))
        return round(float(class_retrieval(z, z_tilde, first.labels_test[queries])), 4)

    known, key = {} if known is None else known, (seed, images, edges.numpy().tobytes())
    if key not in known:
        known[key] = train_networks(first.rows[rows], second.rows[rows_tilde], edges, evaluate, seed=seed, **training)
    epoch, accuracy = known[key]
    return dict(flip=flip, clusters=clusters, images=images, seed=seed, epoch=epoch, accuracy=accuracy)


def sweep_flips(first, second, flips, clusters=10, seeds=(0, 1), progress=False, **training):
    """`experiment` for every seed and flip, without and with a partition into ``clusters``.

    Returns:
        list of its dicts.
    """
    runs, known = [], {}
    with tqdm(total=2 * len(seeds) * len(flips), desc="graph encoders", unit="run", disable=not progress) as bar:
        for seed in seeds:
            for flip in flips:
                for k in (None, clusters):
                    runs.append(experiment(first, second, flip, k, seed=seed, known=known, **training))
                    bar.update()
    return runs


def main(path, draws=2):
    """Make the stored results: two runs at p = 0 with the published optimiser, and the study over p with AdamW."""
    first, second = load_fashion_mnist(), load_mnist()
    stored = {
        "command": f"python -m mmcl.experiments.section_5_1 {path}",
        "date": str(datetime.date.today()),
        "setting": SETTING,
    }
    stored |= {"published": [], "runs": []}
    for images, epochs in ((10, 200), (50, 60)):
        sgd = dict(optimizer=published_sgd, batch_size=500, epochs=epochs, every=10)
        stored["published"].append(experiment(first, second, 0.0, images=images, **sgd))
    for seed in range(draws):
        stored["runs"] += sweep_flips(first, second, (0.0, 0.2, 0.3, 0.4, 0.45), seeds=[seed], progress=True)
        _write(path, stored)


def _write(path, stored):
    """JSON with one run a line."""
    head = json.dumps({k: v for k, v in stored.items() if k not in ("published", "runs")}, indent=1)[:-2]
    lists = (f' "{k}": [\n  ' + ",\n  ".join(map(json.dumps, stored[k])) + "\n ]" for k in ("published", "runs"))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(head + ",\n" + ",\n".join(lists) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
