"""Section 5.2 in closed form: noise on a graph of pairs, with and without a partition, over many draws."""

from dataclasses import dataclass

import torch
from sklearn.metrics import adjusted_rand_score
from tqdm.auto import tqdm

from mmcl import graph
from mmcl._checks import as_generator
from mmcl.metrics import top_k_accuracy


@dataclass(frozen=True)
class NoisyGraphs:
    """What became of `draws` graphs with each share of flipped edges (``flips``).

    Attributes:
        accuracy: dict k -> (draws, flips) accuracy on test rows after a partition into k clusters; None: without.
        agreement: dict k -> (draws, flips) adjusted Rand index of clusters and classes: 1 equal, 0 chance.
        overlap: (draws, flips) mean squared cosine of the graph's singular vectors and the space of the classes.
        left: (draws, flips) part of the clean S that is left in the noisy one, <S, S_0>/<S_0, S_0>.
        strength: (draws, classes - 1) singular values of the clean S.
    """

    accuracy: dict
    agreement: dict
    overlap: torch.Tensor
    left: torch.Tensor
    strength: torch.Tensor


def noisy_graphs(first, second, flips, clusters=(10,), draws=10, rows=50, queries=100, sets=20, seed=0, progress=False):
    """Graphs on random rows of two modalities with classes, noise, partitions and `fit_graph`, all draws.

    The rank of the encoders is the number of classes minus 1. The accuracy is that of `class_retrieval`, with test
    rows of the first modality as queries, and ``sets`` sets of one test row per class of the second as candidates.

    Args:
        first, second: (features, labels, test features, test labels) of either modality, classes 0 to C - 1.
        flips: shares of flipped edges, the first of them 0; with one seed they are nested.
        clusters: numbers of clusters k.
        draws: draws of rows, noise and candidates.
        rows, queries: of every class, in the graph (each side) and among the queries.
        sets: candidates are drawn from the first 200 test rows of each class, as published.
        seed: of the first draw; draw i has seed + i.
        progress: show a progress bar on stderr.

    Returns:
        NoisyGraphs.

    Reference: arXiv 2302.06232, Section 5.2; notebook 04.
    """
    bar = tqdm(range(seed, seed + draws), desc="graphs", unit="draw", disable=not progress)
    found = [_draw(first, second, flips, clusters, rows, queries, sets, number) for number in bar]
    accuracy, agreement, *others = zip(*found, strict=True)
    by_k = ({k: torch.stack([one[k] for one in each]) for k in each[0]} for each in (accuracy, agreement))
    return NoisyGraphs(*by_k, *(torch.stack(other) for other in others))


def _draw(first, second, flips, clusters, rows, queries, sets, number):
    """The fields of `NoisyGraphs` for one draw."""
    (x, labels, *test), (x_tilde, labels_tilde, *test_tilde) = first, second
    generator = torch.Generator().manual_seed(number)
    at, at_tilde = (per_class(each, rows, generator).flatten() for each in (labels, labels_tilde))
    asked, offered = per_class(test[1], queries, generator), per_class(test_tilde[1], sets, generator, 200)
    x, x_tilde, labels, labels_tilde = x[at], x_tilde[at_tilde], labels[at], labels_tilde[at_tilde]
    edges = torch.stack([graph.class_graph(labels, labels_tilde, p, number) for p in flips])
    rank = len(labels.unique()) - 1
    z, z_tilde = graph.spectral_coordinates(edges, max(rank, *(k - 1 for k in clusters)))
    parts = {k: graph.cluster(z[..., : k - 1], z_tilde[..., : k - 1], k, number, starts=4) for k in clusters}
    accuracy = {}
    for k, e in [(None, edges), *((k, graph.class_graph(*part)) for k, part in parts.items())]:
        fit = graph.fit_graph(x, x_tilde, e, rank)
        candidates = test_tilde[0][offered.T] @ fit.g2.mT[..., None, :, :]
        accuracy[k] = class_retrieval(test[0][asked.flatten()] @ fit.g1.mT, candidates, test[1][asked.flatten()])
    agreement = {k: torch.tensor([adjusted_rand_score(labels, c) for c in part[0]]) for k, part in parts.items()}
    return (
        accuracy,
        agreement,
        _overlap(z[..., :rank], labels),
        *_signal(graph.graph_covariance(x, x_tilde, edges), rank),
    )


def _overlap(z, labels):
    classes = torch.nn.functional.one_hot(labels).double()
    classes = torch.linalg.svd(classes - classes.mean(0), full_matrices=False)[0][:, : z.shape[-1]]
    return (torch.linalg.qr(z)[0].mT @ classes).square().sum((-2, -1)) / z.shape[-1]


def _signal(s, rank):
    return (s * s[0]).sum((-2, -1)) / s[0].square().sum(), torch.linalg.svdvals(s[0])[:rank]


def per_class(labels, count, seed=0, first=None):
    """Random rows of every class.

    Args:
        labels: (n,) integer classes.
        count: rows of each class.
        seed: int or `torch.Generator`.
        first: draw among the first so many rows of each class, None among all.

    Returns:
        (classes, count) row indices, classes in increasing order.

    Raises:
        ValueError: if a class has fewer rows.
    """
    generator, found = as_generator(seed), []
    for c in labels.unique():
        rows = (labels == c).nonzero().squeeze(-1)[:first]
        if len(rows) < count:
            raise ValueError(
                f"class {int(c)} has {len(rows)} rows to draw from, fewer than {count}; ask for at most that"
            )
        found.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return torch.stack(found)


def class_retrieval(z, z_tilde, labels):
    """The accuracy of Section 5.2: a query is right if, of one candidate per class, that of its class is nearest.

    Args:
        z: (..., m, r) embeddings of the queries.
        z_tilde: (..., sets, classes, r) embeddings of the candidates; accuracies are averaged over sets.
        labels: (m,) classes of the queries, 0 to classes - 1, which index the candidates.

    Returns:
        (...,) share of queries that are right, nearest meaning by cosine.

    Reference: arXiv 2302.06232, Section 5.2: 1,000 Fashion-MNIST test images as queries, 20 sets of 10 MNIST images
    as candidates, drawn from the first 200 test images of each digit.
    """
    queries = z.unsqueeze(-3).expand(*z_tilde.shape[:-2], *z.shape[-2:])
    return top_k_accuracy(queries, z_tilde, targets=labels).mean(-1)
