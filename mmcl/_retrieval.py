"""Retrieval by cosine, walked in blocks of queries: the place of a partner, and precision and recall with classes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmcl._blocks import row_blocks
from mmcl._checks import alike, as_labels, integer

Labels = Sequence[int] | Tensor


def partner_ranks(z: Tensor, z_tilde: Tensor, targets: Labels | None = None) -> Tensor:
    """Place of each row's partner among the rows of z_tilde by cosine, 1 for the most similar.

    Args:
        z: (..., n, r) embeddings of the queries.
        z_tilde: (..., m, r) embeddings of the candidates.
        targets: (..., n) index of each query's partner among the candidates; None means row i with row i.

    Returns:
        (..., n) int64, 1 to m. A candidate exactly as similar as the partner counts as before it, so ties never help.

    Raises:
        ValueError: if shapes or targets do not fit.

    Example:
        >>> partner_ranks(torch.eye(2), torch.eye(2)), partner_ranks(torch.eye(2), torch.eye(2), targets=[1, 1])
        (tensor([1, 1]), tensor([2, 1]))
    """
    z, z_tilde = alike(z=z, z_tilde=z_tilde)
    n, m = z.shape[-2], z_tilde.shape[-2]
    if z.shape[:-2] != z_tilde.shape[:-2] or z.shape[-1] != z_tilde.shape[-1]:
        raise ValueError(f"z is {tuple(z.shape)} and z_tilde {tuple(z_tilde.shape)}; only their row counts may differ")
    if targets is None:
        if n > m:
            raise ValueError(f"{n} queries and {m} candidates; pass targets, the index of each query's partner")
        targets = torch.arange(n)
    targets = as_labels("targets", targets).to(z.device)
    if targets.shape not in ((n,), z.shape[:-1]):
        raise ValueError(f"targets have shape {tuple(targets.shape)}; give {n} indices, one a query")
    targets = targets.expand(z.shape[:-1])
    if bool(((targets < 0) | (targets >= m)).any()):
        raise ValueError(f"targets run from {int(targets.min())} to {int(targets.max())}; allowed are 0 to {m - 1}")
    z, z_tilde = (torch.nn.functional.normalize(a, dim=-1) for a in (z, z_tilde))
    ranks = torch.empty(z.shape[:-1], dtype=torch.int64, device=z.device)
    for here in row_blocks(n, m * z.shape[:-2].numel(), 2**22):
        similarity = z[..., here, :] @ z_tilde.mT
        own = similarity.gather(-1, targets[..., here].unsqueeze(-1))
        ranks[..., here] = (similarity >= own).sum(-1)
    return ranks


def median_rank(z: Tensor, z_tilde: Tensor, targets: Labels | None = None) -> Tensor:
    """Median over rows of `partner_ranks`, (...,): the mean of the two middle ones if there are evenly many.

    Example:
        >>> median_rank(torch.eye(4), torch.eye(4)[[1, 0, 2, 3]])
        tensor(2.5000, dtype=torch.float64)
    """
    return partner_ranks(z, z_tilde, targets).to(torch.float64).quantile(0.5, -1)


def mean_average_precision(
    z: Tensor, z_tilde: Tensor, labels: Labels | None = None, labels_tilde: Labels | None = None
) -> float:
    """Mean over queries of the average precision with which the candidates that belong to them are found by cosine.

    The average precision of a query is the mean, over the candidates of its class, of the share of that class among
    the candidates at least as similar as that one.

    Args:
        z: (n, r) embeddings of the queries.
        z_tilde: (m, r) embeddings of the candidates.
        labels, labels_tilde: (n,), (m,) classes; without them only row i belongs to row i, and the average precision
            is 1 over the place of the partner.

    Returns:
        float in (0, 1]. Queries of a class that no candidate has are left out.

    Raises:
        ValueError: if shapes do not fit, or no query has a candidate of its class.

    Example:
        >>> z, z_tilde = torch.eye(3), torch.eye(3)[[0, 2, 1]]
        >>> round(mean_average_precision(z, z_tilde), 3)
        0.556
        >>> round(mean_average_precision(z, z_tilde, [0, 1, 1], [0, 1, 1]), 3)
        0.889
    """
    if labels is None and labels_tilde is None:
        return float(partner_ranks(z, z_tilde).to(torch.float64).reciprocal().mean())

    def average_precision(similarity: Tensor, relevant: Tensor) -> Tensor:
        ordered, order = similarity.sort(-1, descending=True)
        hit = relevant.gather(-1, order)
        place = torch.searchsorted(-ordered, -ordered, right=True)  # candidates at least as similar
        precision = hit.cumsum(-1).gather(-1, place - 1) / place.to(torch.float64)
        return (hit * precision).sum(-1) / hit.sum(-1)

    return _mean_over_queries(z, z_tilde, labels, labels_tilde, average_precision)


def recall_at_k(
    z: Tensor, z_tilde: Tensor, k: int, labels: Labels | None = None, labels_tilde: Labels | None = None
) -> float:
    """Mean over queries of the share, among the candidates that belong to them, of those in the k most similar.

    Args:
        z, z_tilde, labels, labels_tilde: as for `mean_average_precision`; without labels it is
            `mmcl.metrics.top_k_accuracy`.
        k: 1 to m.

    Returns:
        float in [0, 1]. A candidate exactly as similar as another counts as after it, so ties never help.

    Raises:
        ValueError: as for `mean_average_precision`, or if k does not fit.

    Example:
        >>> recall_at_k(torch.eye(2), torch.eye(2), 1, [0, 0], [0, 0])
        0.5
    """
    z, z_tilde = alike(z=z, z_tilde=z_tilde)
    integer(1, z_tilde.shape[-2], k=k)
    if labels is None and labels_tilde is None:
        return float((partner_ranks(z, z_tilde) <= k).to(torch.float64).mean())

    def recall(similarity: Tensor, relevant: Tensor) -> Tensor:
        ascending = similarity.sort(-1).values
        place = similarity.shape[-1] - torch.searchsorted(ascending, similarity.contiguous())
        return (relevant & (place <= k)).sum(-1) / relevant.sum(-1).to(torch.float64)

    return _mean_over_queries(z, z_tilde, labels, labels_tilde, recall)


def with_classes(
    z: Tensor, z_tilde: Tensor, labels: Labels | None, labels_tilde: Labels | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embeddings (n, r), (m, r) and a class for each row of both, checked."""
    z, z_tilde = alike(z=z, z_tilde=z_tilde)
    if labels is None or labels_tilde is None:
        raise ValueError("labels of one side only; give labels of the queries and labels_tilde of the candidates")
    labels, labels_tilde = as_labels("labels", labels), as_labels("labels_tilde", labels_tilde)
    (n, r), (m, s) = z.shape[-2:], z_tilde.shape[-2:]
    if z.ndim + z_tilde.ndim > 4 or r != s or (labels.shape, labels_tilde.shape) != ((n,), (m,)):
        raise ValueError(
            f"z is {tuple(z.shape)} with labels {tuple(labels.shape)}, z_tilde {tuple(z_tilde.shape)} with "
            f"{tuple(labels_tilde.shape)}; give a label per row, and embeddings of one dimension"
        )
    return z, z_tilde, labels, labels_tilde


def _mean_over_queries(
    z: Tensor,
    z_tilde: Tensor,
    labels: Labels | None,
    labels_tilde: Labels | None,
    measure: Callable[[Tensor, Tensor], Tensor],
) -> float:
    """The mean of measure(similarities, which candidates have the query's class), over queries that have candidates."""
    z, z_tilde, labels, labels_tilde = with_classes(z, z_tilde, labels, labels_tilde)
    found = torch.isin(labels, labels_tilde)
    if not found.any():
        raise ValueError("no query has a candidate of its class; labels and labels_tilde must share some")
    z, labels = torch.nn.functional.normalize(z[found], dim=-1), labels[found]
    z_tilde, total = torch.nn.functional.normalize(z_tilde, dim=-1), 0.0
    for here in row_blocks(len(z), len(z_tilde), 2**20):
        total += float(
            measure(z[here] @ z_tilde.mT, labels[here].unsqueeze(-1) == labels_tilde).sum(dtype=torch.float64)
        )
    return total / len(z)
