"""Many-to-many pairs (paper, Section 5.2): graphs of pairs, their linear closed form, and the spectral partition."""

import warnings

import numpy as np
import scipy.linalg
import sklearn.cluster
import sklearn.exceptions
import torch

from mmcl._checks import all_finite, as_generator, as_rows, at_least, positive, share
from mmcl.spectral import closed_form


def class_graph(labels, labels_tilde, flip=0.0, seed=0):
    """Planted graph: an edge between rows of the same class, every entry then flipped with probability ``flip``.

    Args:
        labels, labels_tilde: (..., n1), (..., n2) integer classes, or clusters, of the rows of either modality.
        flip: probability p in [0, 1]; 1/2 leaves no trace of the classes. With one seed a larger p <= 1/2 flips
            what a smaller p flips, and more.
        seed: int or `torch.Generator`.

    Returns:
        (..., n1, n2) float64 of zeros and ones, E_ij = 1 where row i of one is paired with row j of the other.

    Raises:
        ValueError: if flip is not in [0, 1], or the batch dimensions of the labels do not broadcast.

    Reference: arXiv 2302.06232, Section 5.2.
    """
    share(flip=flip)
    same = torch.as_tensor(labels).unsqueeze(-1) == torch.as_tensor(labels_tilde).unsqueeze(-2)
    if flip > 0:
        same = same ^ (torch.rand(same.shape, generator=as_generator(seed), dtype=torch.float64) < flip)
    return same.to(torch.float64)


def graph_weights(graph):
    """Weights W of the linear loss of a graph, W = n (E/|E| - (row sums)(column sums)^T/|E|^2).

    The linear loss of a graph pulls every edge and pushes as if both ends of an edge were drawn apart, each from the
    law of the ends: rows and columns of W sum to zero. With E = I this is W = I - 11^T/n, the weights of the
    ordinary linear loss up to n/(n - 1).

    Args:
        graph: (..., n, m) E, entries >= 0 (a weighted graph is allowed), at least one above 0.

    Returns:
        (..., n, m), scaled for `mmcl.spectral.cross_covariance`, which divides by n and takes n = m.

    Raises:
        ValueError: if the graph has no edge, or an entry is negative or not finite.

    Reference: arXiv 2302.06232, Section 5.2; notebook 03.
    """
    shares = _edge_shares(graph)
    return shares.shape[-2] * (shares - shares.sum(-1, keepdim=True) * shares.sum(-2, keepdim=True))


def graph_covariance(x, x_tilde, graph):
    """Contrastive cross-covariance of a graph: Cov(x_I, x_tilde_J) when an edge (I, J) is drawn at random.

    It is 1/n x^T W x_tilde with W = graph_weights(graph), computed without W; n1 and n2 may differ.

    Args:
        x: (..., n1, d1) first modality.
        x_tilde: (..., n2, d2) second modality.
        graph: (..., n1, n2) E, entries >= 0.

    Returns:
        (..., d1, d2); batch dimensions of the three broadcast, so that many graphs can share the data.

    Raises:
        ValueError: if the shapes do not fit, the graph has no edge, or a value is not finite.
    """
    x, x_tilde = all_finite("x", as_rows("x", x)), all_finite("x_tilde", as_rows("x_tilde", x_tilde))
    shares = _edge_shares(graph).to(x.dtype)
    if shares.shape[-2:] != (x.shape[-2], x_tilde.shape[-2]):
        raise ValueError(
            f"graph is {tuple(shares.shape[-2:])}, but x has {x.shape[-2]} rows and x_tilde {x_tilde.shape[-2]}; "
            "give one row of the graph per row of x and one column per row of x_tilde"
        )
    means = (shares.sum(-1, keepdim=True).mT @ x).mT @ (shares.sum(-2, keepdim=True) @ x_tilde)
    return x.mT @ (shares @ x_tilde) - means


def _edge_shares(graph):
    """E/|E|, checked."""
    graph = all_finite("graph", as_rows("graph", graph))
    if bool((graph < 0).any()) or not bool((graph.sum((-2, -1)) > 0).all()):
        raise ValueError(
            "the graph holds a negative entry or no edge at all; give a graph with entries >= 0, some above 0"
        )
    return graph / graph.sum((-2, -1), keepdim=True)


def fit_graph(x, x_tilde, graph, rank, rho=1.0):
    """Encoders that minimise the linear loss of a graph of pairs, in closed form: M = SVD_r(S)/rho.

    L = -1/n sum_ij W_ij <g1 x_i, g2 x_tilde_j> + rho/2 ||g1^T g2||_F^2 with W = graph_weights(graph) and
    S = graph_covariance(x, x_tilde, graph). With E = I it is `mmcl.spectral.fit` up to n/(n - 1).

    Args:
        x, x_tilde: (..., n1, d1), (..., n2, d2) rows of either modality; n1 and n2 may differ.
        graph: (..., n1, n2) the graph, entries >= 0; batch dimensions broadcast.
        rank: encoder dimension r, 1 to min(d1, d2). K classes make a graph of rank K - 1 after centring.
        rho: weight of the penalty, > 0.

    Returns:
        Fit, with balanced encoders.

    Raises:
        ValueError: for bad data, graph, rank or rho.

    Reference: arXiv 2302.06232, Lemma 2.1 and Section 5.2; notebook 03.
    """
    positive(rho=rho)
    return closed_form(graph_covariance(x, x_tilde, graph), rank, rho)


def spectral_coordinates(graph, count):
    """Coordinates of both sides of a bipartite graph in which its clusters are points: Dhillon's embedding.

    With W the weights of `graph_weights` and R, C the row and column sums of E on the diagonal, the leading singular
    vectors u, v of R^(-1/2) W C^(-1/2) are taken back to R^(-1/2) u and C^(-1/2) v. (E in the place of W has one
    vector more, the constant one, which is left out: W is E without it.)

    Args:
        graph: (..., n1, n2) E, entries >= 0, at least one above 0.
        count: singular vectors to use, 1 to min(n1, n2) - 1.

    Returns:
        (..., n1, count) and (..., n2, count), by decreasing singular value. Vectors of singular value 0 (10^-6)
        carry nothing and are zero, as are rows without an edge.

    Raises:
        ValueError: if the graph has no edge, an entry is negative, or count is out of range.

    Reference: I. Dhillon, Co-clustering documents and words using bipartite spectral graph partitioning, KDD 2001.
    """
    shares = _edge_shares(graph)
    if not 1 <= count < min(shares.shape[-2:]):
        raise ValueError(f"count = {count}; it must be an integer from 1 to {min(shares.shape[-2:]) - 1}")
    r, c = shares.sum(-1, keepdim=True), shares.sum(-2, keepdim=True)
    r_root, c_root = (total.rsqrt().where(total > 0, 0) for total in (r, c))
    a = r_root * (shares - r * c) * c_root
    u, s = _leading_left(a, count)
    return r_root * u, c_root.mT * (a.mT @ u) * s.reciprocal().where(s > 0, 0)


def _leading_left(a, count):
    """Left singular vectors and values (0 below 10^-6) by a partial eigendecomposition of a a^T: faster than an SVD."""
    gram = (a @ a.mT).reshape(-1, a.shape[-2], a.shape[-2]).numpy(force=True)
    last = a.shape[-2] - 1
    found = [scipy.linalg.eigh(g, subset_by_index=(last - count + 1, last)) for g in gram]
    values, vectors = (torch.as_tensor(np.stack(f)).to(a).flip(-1) for f in zip(*found, strict=True))
    s = values.clamp(min=0).sqrt().view(*a.shape[:-2], 1, count)
    s = s.where(s > 1e-6, 0)
    return vectors.view(*a.shape[:-1], count) * (s > 0), s


def partition(graph, clusters, seed=0, starts=10):
    """Clusters of the rows of either modality by bipartite spectral partition: k - 1 singular vectors, then k-means.

    ``class_graph(*partition(graph, k))`` is the denoised graph, an edge between rows of the same cluster.

    Args:
        graph: (..., n1, n2) E, entries >= 0; each batch entry is partitioned on its own.
        clusters: k, 2 to min(n1, n2).
        seed, starts: of `sklearn.cluster.KMeans`.

    Returns:
        (..., n1) and (..., n2) int64 clusters 0 to k - 1; some are empty if the graph has fewer.

    Raises:
        ValueError: if k is out of range or the graph is not one.

    Reference: arXiv 2302.06232, Section 5.2; how much noise it stands: `mmcl.theory.partition_threshold`.
    """
    at_least(2, clusters=clusters)
    n1, n2 = torch.as_tensor(graph).shape[-2:]
    if clusters > min(n1, n2):
        raise ValueError(f"clusters = {clusters}; the graph is {n1} x {n2}, so use 2 to {min(n1, n2)}")
    return cluster(*spectral_coordinates(graph, clusters - 1), clusters, seed, starts)


def cluster(z, z_tilde, clusters, seed=0, starts=10):
    """k-means on the coordinates (..., n1, c), (..., n2, c) of both sides together; arguments as for `partition`.

    For several k on one graph, ``cluster(z[..., : k - 1], z_tilde[..., : k - 1], k)`` with z, z_tilde from one call
    of `spectral_coordinates` saves the singular value decompositions.
    """
    points = torch.cat([z, z_tilde], -2).round(decimals=9)  # rows that are equal but for rounding stay together
    kmeans = sklearn.cluster.KMeans(clusters, n_init=starts, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)  # fewer clusters than asked for
        labels = np.stack([kmeans.fit_predict(p) for p in points.reshape(-1, *points.shape[-2:]).numpy(force=True)])
    labels = torch.as_tensor(labels, dtype=torch.int64).view(points.shape[:-1])
    return labels[..., : z.shape[-2]], labels[..., z.shape[-2] :]
