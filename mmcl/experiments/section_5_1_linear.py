"""Section 5.1 in closed form: noise on a graph of pairs, with and without a partition, over many draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from sklearn.metrics import adjusted_rand_score
from torch import Generator, Tensor
from tqdm.auto import tqdm

from mmcl._checks import as_generator
from mmcl.experiments.labelled import Labelled
from mmcl.graph import class_graph, cluster, fit_graph, graph_covariance, spectral_coordinates
from mmcl.metrics import top_k_accuracy

FIRST = 200  # candidates are drawn from the first so many test rows of each class, as published


@dataclass(frozen=True)
class NoisyGraphs:
    """What became of `draws` graphs with each share of flipped edges (``flips``).

    Attributes:
        accuracy: dict k -> (draws, flips) accuracy on test rows after Algorithm 2 with k clusters; None: without.
        filled: the same for the repository's variant: k - 1 vectors, and whole blocks filled in.
        agreement: dict k -> (draws, flips) adjusted Rand index of that variant's clusters and classes: 0 is chance.
        overlap: (draws, flips) mean squared cosine of the graph's singular vectors and the space of the classes.
        left: (draws, flips) part of the clean S that is left in the noisy one, <S, S_0>/<S_0, S_0>.
        strength: (draws, classes - 1) singular values of the clean S.
    """

    accuracy: Mapping[int | None, Tensor]
    filled: Mapping[int, Tensor]
    agreement: Mapping[int, Tensor]
    overlap: Tensor
    left: Tensor
    strength: Tensor


def noisy_graphs(
    first: Labelled,
    second: Labelled,
    flips: Sequence[float],
    clusters: Sequence[int] = (10,),
    draws: int = 10,
    rows: int = 50,
    queries: int = 100,
    sets: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> NoisyGraphs:
    """Graphs on random rows of two modalities with classes, noise, partitions and `fit_graph`, all draws.

    The rank of the encoders is the number of classes minus 1. The accuracy is that of `class_retrieval`, with test
    rows of the first modality as queries, and ``sets`` sets of one test row per class of the second as candidates.

    Args:
        first, second: features of either modality, classes 0 to C - 1.
        flips: shares of flipped edges, the first of them 0; with one seed they are nested.
        clusters: numbers of clusters k.
        draws: draws of rows, noise and candidates.
        rows, queries: of every class, in the graph (each side) and among the queries.
        sets: sets of candidates.
        seed: of the first draw; draw i has seed + i.
        progress: show a progress bar on stderr.

    Returns:
        NoisyGraphs.

    Raises:
        ValueError: if a class has too few rows, or a number is out of range.

    Reference: PMLR 206:4348-4380, Section 5.1; chapter 05_many_to_many.
    """
    found = []
    for number in tqdm(range(seed, seed + draws), desc="graphs", unit="draw", disable=not progress):
        found.append(_one_draw(*_sampled(first, second, rows, queries, sets, number), flips, clusters, number))
    return NoisyGraphs(
        accuracy={k: torch.stack([one.accuracy[k] for one in found]) for k in found[0].accuracy},
        filled={k: torch.stack([one.filled[k] for one in found]) for k in found[0].filled},
        agreement={k: torch.stack([one.agreement[k] for one in found]) for k in found[0].agreement},
        overlap=torch.stack([one.overlap for one in found]),
        left=torch.stack([one.left for one in found]),
        strength=torch.stack([one.strength for one in found]),
    )


def _sampled(
    first: Labelled, second: Labelled, rows: int, queries: int, sets: int, seed: int
) -> tuple[Labelled, Labelled]:
    """The rows of one draw: of the graph, with queries (C queries, d1) and candidates (sets, C, d2) as test rows."""
    generator = torch.Generator().manual_seed(seed)
    at, at_tilde = (per_class(each.labels, rows, generator).flatten() for each in (first, second))
    asked = per_class(first.labels_test, queries, generator).flatten()
    offered = per_class(second.labels_test, sets, generator, FIRST).T
    return _some(first, at, asked), _some(second, at_tilde, offered)


def _some(data: Labelled, at: Tensor, at_test: Tensor) -> Labelled:
    """Rows and test rows at these indices."""
    return Labelled(data.rows[at], data.labels[at], data.rows_test[at_test], data.labels_test[at_test])


def _one_draw(
    first: Labelled, second: Labelled, flips: Sequence[float], clusters: Sequence[int], seed: int
) -> NoisyGraphs:
    """`NoisyGraphs` of one draw, without the dimension of the draws: flip, partition, fit, compare with the classes."""
    rank = len(first.labels.unique()) - 1
    noisy = torch.stack([class_graph(first.labels, second.labels, p, seed) for p in flips])
    z, z_tilde = spectral_coordinates(noisy, max(rank, *(k - 1 for k in clusters)))
    parts = {k: cluster(z[..., : k - 1], z_tilde[..., : k - 1], k, seed, starts=4) for k in clusters}
    leading = {k: (k - 1).bit_length() for k in clusters}  # log2 k, rounded up
    printed = {k: cluster(z[..., :c], z_tilde[..., :c], k, seed, starts=4) for k, c in leading.items()}
    graphs = {None: noisy} | {k: noisy * class_graph(*part) for k, part in printed.items()}
    s = graph_covariance(first.rows, second.rows, noisy)
    return NoisyGraphs(
        accuracy={k: _accuracy(first, second, graph, rank) for k, graph in graphs.items()},
        filled={k: _accuracy(first, second, class_graph(*part), rank) for k, part in parts.items()},
        agreement={k: _agreement(first.labels, part[0]) for k, part in parts.items()},
        overlap=_overlap(z[..., :rank], first.labels),
        left=(s * s[0]).sum((-2, -1)) / s[0].square().sum(),
        strength=torch.linalg.svdvals(s[0])[:rank],
    )


def _accuracy(first: Labelled, second: Labelled, graph: Tensor, rank: int) -> Tensor:
    """`class_retrieval` (flips,) of the encoders fitted to each of the graphs (flips, n1, n2)."""
    fit = fit_graph(first.rows, second.rows, graph, rank)
    z, z_tilde = first.rows_test @ fit.g1.mT, second.rows_test @ fit.g2.mT[..., None, :, :]
    return class_retrieval(z, z_tilde, first.labels_test)


def _agreement(labels: Tensor, found: Tensor) -> Tensor:
    """Adjusted Rand index (flips,) of clusters (flips, n) and classes (n,)."""
    return torch.tensor([adjusted_rand_score(labels, one) for one in found])


def _overlap(z: Tensor, labels: Tensor) -> Tensor:
    """Mean squared cosine (flips,) of the spaces that coordinates (flips, n, C - 1) and classes span."""
    classes = torch.nn.functional.one_hot(labels).double()
    classes = torch.linalg.svd(classes - classes.mean(0), full_matrices=False)[0][:, : z.shape[-1]]
    return (torch.linalg.qr(z)[0].mT @ classes).square().sum((-2, -1)) / z.shape[-1]


def per_class(labels: Tensor, count: int, seed: int | Generator = 0, first: int | None = None) -> Tensor:
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

    Example:
        >>> labels = torch.tensor([0, 1, 0, 1, 1])
        >>> labels[per_class(labels, 2)]
        tensor([[0, 0],
                [1, 1]])
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


def class_retrieval(z: Tensor, z_tilde: Tensor, labels: Tensor) -> Tensor:
    """The accuracy of Section 5.1: a query is right if, of one candidate per class, that of its class is nearest.

    Args:
        z: (..., m, r) embeddings of the queries.
        z_tilde: (..., sets, classes, r) embeddings of the candidates; accuracies are averaged over sets.
        labels: (m,) classes of the queries, 0 to classes - 1, which index the candidates.

    Returns:
        (...,) share of queries that are right, nearest meaning by cosine.

    Example:
        >>> float(class_retrieval(torch.tensor([[2.0, 0], [0, 1]]), torch.eye(2).unsqueeze(0), torch.tensor([0, 0])))
        0.5

    Reference: PMLR 206:4348-4380, Section 5.1: 1,000 Fashion-MNIST test images as queries, 20 sets of 10 MNIST images
    as candidates, drawn from the first 200 test images of each digit.
    """
    queries = z.unsqueeze(-3).expand(*z_tilde.shape[:-2], *z.shape[-2:])
    return top_k_accuracy(queries, z_tilde, targets=labels).mean(-1)
