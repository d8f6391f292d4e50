"""Many-to-many pairs (paper, Sections 3.3 and 5.1): graphs of pairs, their linear closed form, and Algorithm 2."""

import warnings
from collections.abc import Sequence

import numpy as np
import scipy.linalg
import sklearn.cluster
import sklearn.exceptions
import torch
from torch import Tensor

from mmcl._checks import alike, as_generator, as_labels, as_seed, at_least, finite_rows, integer, share
from mmcl.spectral import Fit, closed_form

Labels = Sequence[int] | Tensor


def class_graph(labels: Labels, labels_tilde: Labels, flip: float = 0.0, seed: int | torch.Generator = 0) -> Tensor:
    """Planted graph: an edge between rows of the same class, every entry then flipped with probability ``flip``.

    Args:
        labels, labels_tilde: (..., n1), (..., n2) integer classes, or clusters, of the rows of either modality.
        flip: probability p in [0, 1], else ValueError; 1/2 leaves no trace of the classes. With one seed a larger
            p <= 1/2 flips what a smaller p flips, and more.
        seed: int or `torch.Generator`.

    Returns:
        (..., n1, n2) float64 of zeros and ones, E_ij = 1 where row i of one is paired with row j of the other.

    Reference: PMLR 206:4348, Section 5.1, where p' is the distortion rate.

    Example:
        >>> class_graph([0, 0, 1], [0, 1]).tolist()
        [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """
    share(flip=flip)
    same = as_labels("labels", labels).unsqueeze(-1) == as_labels("labels_tilde", labels_tilde).unsqueeze(-2)
    if flip > 0:
        same = same ^ (torch.rand(same.shape, generator=as_generator(seed), dtype=torch.float64) < flip)
    return same.to(torch.float64)


def graph_weights(graph: Tensor) -> Tensor:
    """Weights of the linear loss of a graph, W = n (E/|E| - (row sums)(column sums)^T/|E|^2).

    Every edge is pulled together, and pushed apart is what one would expect of two ends drawn independently: rows and
    columns of W sum to zero. With E = I, W = I - 11^T/n is that of the linear loss up to n/(n - 1).

    Args:
        graph: (..., n, m) E, entries >= 0 (a weighted graph is allowed), at least one above 0, else ValueError.

    Returns:
        (..., n, m), scaled for `mmcl.covariance.cross_covariance`, which divides by n and takes n = m.

    Example:
        >>> graph_weights(torch.eye(2)).tolist()
        [[0.5, -0.5], [-0.5, 0.5]]
    """
    shares = _edge_shares(graph)
    return shares.shape[-2] * (shares - shares.sum(-1, keepdim=True) * shares.sum(-2, keepdim=True))


def graph_covariance(x: Tensor, x_tilde: Tensor, graph: Tensor) -> Tensor:
    """Contrastive cross-covariance of a graph: Cov(x_I, x_tilde_J) when an edge (I, J) is drawn at random.

    It is 1/n x^T W x_tilde with W = graph_weights(graph), computed without W; n1 and n2 may differ.

    Args:
        x: (..., n1, d1) first modality.
        x_tilde: (..., n2, d2) second modality.
        graph: (..., n1, n2) E, entries >= 0.

    Returns:
        (..., d1, d2); batch dimensions broadcast, so that many graphs can share the data.

    Raises:
        ValueError: if the shapes do not fit, the graph has no edge, or a value is not finite.

    Example:
        >>> graph_covariance(torch.tensor([[1.0], [-1.0]]), torch.tensor([[3.0], [5.0]]), torch.eye(2))
        tensor([[-1.]])
    """
    x, x_tilde = alike(x=x, x_tilde=x_tilde)
    shares = _edge_shares(graph).to(x.dtype)
    if shares.shape[-2:] != (x.shape[-2], x_tilde.shape[-2]):
        sizes = f"x has {x.shape[-2]} rows and x_tilde {x_tilde.shape[-2]}"
        raise ValueError(f"graph is {tuple(shares.shape[-2:])}, but {sizes}; give (n1, n2) for n1 and n2 rows")
    means = (shares.sum(-1, keepdim=True).mT @ x).mT @ (shares.sum(-2, keepdim=True) @ x_tilde)
    return x.mT @ (shares @ x_tilde) - means


def _edge_shares(graph: Tensor) -> Tensor:
    """E/|E|, checked."""
    graph = finite_rows("graph", graph)
    if bool((graph < 0).any()) or not bool((graph.sum((-2, -1)) > 0).all()):
        raise ValueError("the graph holds a negative entry or no edge at all; give entries >= 0, some above 0")
    return graph / graph.sum((-2, -1), keepdim=True)


def fit_graph(x: Tensor, x_tilde: Tensor, graph: Tensor, rank: int, rho: float = 1.0) -> Fit:
    """Encoders that minimise the linear loss of a graph of pairs, in closed form: M = SVD_r(S)/rho.

    L = -tr(g1 S g2^T) + rho/2 ||g1^T g2||_F^2 with S = graph_covariance(x, x_tilde, graph). With E = I it is
    `mmcl.spectral.fit` up to n/(n - 1).

    Args:
        x, x_tilde, graph: as for `graph_covariance`.
        rank: encoder dimension r, 1 to min(d1, d2). K classes make a graph of rank K - 1 after centring.
        rho: weight of the penalty, > 0.

    Returns:
        Fit, with balanced encoders.

    Raises:
        ValueError: for bad data, graph, rank or rho.

    Reference: PMLR 206:4348, Lemma 2.1 and Section 5.1.

    Example:
        >>> fit_graph(torch.tensor([[1.0], [-1.0]]), torch.tensor([[3.0], [5.0]]), torch.eye(2), rank=1).loss
        tensor(-0.5000)
    """
    return closed_form(graph_covariance(x, x_tilde, graph), rank, rho)


def spectral_coordinates(graph: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Coordinates of both sides of a bipartite graph in which its clusters are points: Dhillon's embedding.

    With D1, D2 the row and column sums of E on the diagonal, the singular vectors 2 to ``count`` + 1 of
    D1^(-1/2) E D2^(-1/2) are taken back to D1^(-1/2) u and D2^(-1/2) v. The first pair is known, D1^(1/2) 1 and
    D2^(1/2) 1 with singular value 1, and is taken out before: that leaves the weights of `graph_weights` in E's place.

    Args:
        graph: (..., n1, n2) E, entries >= 0, at least one above 0.
        count: singular vectors to use, 1 to min(n1, n2) - 1.

    Returns:
        (..., n1, count) and (..., n2, count), by decreasing singular value. Vectors of singular value 0 (10^-6)
        carry nothing and are zero, as are rows without an edge.

    Raises:
        ValueError: if the graph has no edge, an entry is negative, or count is out of range.

    Reference: PMLR 206:4348, Algorithm 2 (its Z); I. Dhillon, Co-clustering documents and words, KDD 2001.

    Example:
        >>> z, z_tilde = spectral_coordinates(class_graph([0, 0, 1], [0, 1, 1]), 1)
        >>> bool(z[0] * z[1] > 0), bool(z[0] * z[2] < 0), bool(z[2] * z_tilde[1] > 0)
        (True, True, True)
    """
    shares = _edge_shares(graph)
    integer(1, min(shares.shape[-2:]) - 1, count=count)
    r, c = shares.sum(-1, keepdim=True), shares.sum(-2, keepdim=True)
    r_root, c_root = (total.rsqrt().where(total > 0, 0) for total in (r, c))
    a = r_root * (shares - r * c) * c_root
    u, s = _leading_left(a, count)
    return r_root * u, c_root.mT * (a.mT @ u) * s.reciprocal().where(s > 0, 0)


def _leading_left(a: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Left singular vectors and values (0 below 10^-6) by a partial eigendecomposition of a a^T: faster than an SVD."""
    n = a.shape[-2]
    gram = (a @ a.mT).reshape(-1, n, n).numpy(force=True)
    found = [scipy.linalg.eigh(g, subset_by_index=(n - count, n - 1)) for g in gram]
    values, vectors = (torch.as_tensor(np.stack(f)).to(a).flip(-1) for f in zip(*found, strict=True))
    s = values.clamp(min=0).sqrt().view(*a.shape[:-2], 1, count)
    s = s.where(s > 1e-6, 0)
    return vectors.view(*a.shape[:-1], count) * (s > 0), s


def partition(
    graph: Tensor, clusters: int, seed: int = 0, starts: int = 10, vectors: int | None = None
) -> tuple[Tensor, Tensor]:
    """Clusters of the rows of either modality by bipartite spectral partition: singular vectors, then k-means.

    ``class_graph(*partition(graph, k))``, which fills in missing edges, is the variant of the authors' repository; the
    paper's is `algorithm_2`.

    Args:
        graph: (..., n1, n2) E, entries >= 0; each batch entry is partitioned on its own.
        clusters: k, 2 to min(n1, n2).
        seed, starts: of `sklearn.cluster.KMeans`.
        vectors: singular vectors used, 1 to min(n1, n2) - 1; None for k - 1.

    Returns:
        (..., n1) and (..., n2) int64 clusters 0 to k - 1; some are empty if the graph has fewer.

    Raises:
        ValueError: if k or vectors are out of range or the graph is not one.

    Reference: PMLR 206:4348, Section 5.1; how much noise it stands: `mmcl.theory.partition_threshold`.

    Example:
        >>> labels, labels_tilde = partition(class_graph([0, 0, 1, 2], [0, 1, 2, 2]), 3)
        >>> labels[0] == labels[1] == labels_tilde[0], labels[2] == labels_tilde[1]
        (tensor(True), tensor(True))
    """
    graph = finite_rows("graph", graph)
    integer(2, min(graph.shape[-2:]), clusters=clusters)
    return cluster(*spectral_coordinates(graph, clusters - 1 if vectors is None else vectors), clusters, seed, starts)


def algorithm_2(graph: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """Algorithm 2 (BSGMP): the graph without its edges between clusters; none is added.

    The normalised adjacency An = D1^(-1/2) A D2^(-1/2), its singular vectors 2 to l + 1 with l = log2 k (rounded up),
    rows scaled by D1^(-1/2) and D2^(-1/2), k-means on both sides together.

    Args:
        graph: (..., n1, n2) adjacency A, entries >= 0; each batch entry is cleaned on its own.
        clusters, seed: k and the seed of k-means, as for `partition`, and as there ValueError if out of range.

    Returns:
        (..., n1, n2) the entries of ``graph`` within clusters and 0 between them.

    Reference: PMLR 206:4348, Algorithm 2 (Section 5.1).

    Example:
        >>> blocks = class_graph([0] * 4 + [1] * 4, [0] * 4 + [1] * 4)
        >>> added = torch.zeros(8, 8).index_put_(torch.tensor([[0], [7]]).unbind(), torch.tensor(1.0))
        >>> bool((algorithm_2(blocks + added, 2) == blocks).all())
        True
    """
    graph = finite_rows("graph", graph)
    integer(2, min(graph.shape[-2:]), clusters=clusters)
    vectors = max(1, (clusters - 1).bit_length())  # log2 k, rounded up
    return graph * class_graph(*partition(graph, clusters, seed, vectors=vectors))


def cluster(z: Tensor, z_tilde: Tensor, clusters: int, seed: int = 0, starts: int = 10) -> tuple[Tensor, Tensor]:
    """k-means on the coordinates (..., n1, c), (..., n2, c) of both sides together, all else as for `partition`.

    For several k on one graph, columns of one call of `spectral_coordinates` save the singular value decompositions.

    Example:
        >>> labels, labels_tilde = cluster(torch.tensor([[0.0], [5.0]]), torch.tensor([[5.0]]), 2)
        >>> labels[1] == labels_tilde[0], labels[0] == labels[1]
        (tensor(True), tensor(False))
    """
    z, z_tilde = alike(z=z, z_tilde=z_tilde)
    integer(1, z.shape[-2] + z_tilde.shape[-2], clusters=clusters)
    at_least(1, starts=starts)
    points = torch.cat([z, z_tilde], -2).round(decimals=9)  # rows that are equal but for rounding stay together
    kmeans = sklearn.cluster.KMeans(clusters, n_init=starts, random_state=as_seed(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)  # fewer clusters than asked for
        found = np.stack([kmeans.fit_predict(p) for p in points.reshape(-1, *points.shape[-2:]).numpy(force=True)])
    labels = torch.as_tensor(found, dtype=torch.int64).view(points.shape[:-1])
    return labels[..., : z.shape[-2]], labels[..., z.shape[-2] :]
