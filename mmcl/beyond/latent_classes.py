"""Edges by class detection: pairs that share a latent class are many-to-many partners, and the class can be found."""

from dataclasses import dataclass

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from mmcl._checks import as_seed, at_least, paired, positive

FLOOR = 0.01  # smallest probability of a class that a regression may claim


@dataclass(frozen=True)
class DetectedClasses:
    """Classes found among pairs.

    Attributes:
        labels: (n,) int64 class of each pair, 0 to k - 1.
        agreement: mean over pairs of log sum_c P(c|x) P(c|x~) / P(c), each pair judged by the others, in nats.
    """

    labels: Tensor
    agreement: float


def detect_classes(
    x: Tensor, x_tilde: Tensor, classes: int, ridge: float = 0.1, starts: int = 20, moves: int = 100, seed: int = 0
) -> DetectedClasses:
    """The partition of the pairs into k classes under which the two modalities agree best.

    If class is all that two modalities share, then p(x, x~)/(p(x) p(x~)) = sum_c P(c|x) P(c|x~)/P(c). The partition
    that maximises the mean logarithm over the pairs is sought, with both conditional probabilities from ridge
    regressions in which a pair has no say on itself. Search: k-means of the joined rows from several starts, each
    improved by assigning every pair to its most probable class; then, from the best, joining two classes and
    splitting a third, where this helps.

    Args:
        x, x_tilde: (n, d1), (n, d2) features of the pairs, scaled so that what matters is large.
        classes: k, at least 2.
        ridge: penalty of the regressions, > 0, in the squared units of the features.
        starts, moves: k-means runs, and attempts to join and split.
        seed: int, of the search.

    Returns:
        DetectedClasses.

    Raises:
        ValueError: for bad data or numbers.

    Example:
        >>> classes = torch.arange(60) % 3
        >>> x = torch.eye(3, dtype=torch.float64)[classes]
        >>> found = detect_classes(x, x.flip(1), classes=3, starts=2, moves=0)
        >>> len({(int(a), int(b)) for a, b in zip(found.labels, classes)})
        3
    """
    x, x_tilde = paired(x, x_tilde)
    at_least(2, classes=classes)
    at_least(1, starts=starts)
    at_least(0, moves=moves)
    seed = as_seed(seed)
    positive(ridge=ridge)
    smoothers, joined = [_leave_one_out(a, ridge) for a in (x, x_tilde)], torch.cat([x, x_tilde], 1)

    def clusters(rows: Tensor, k: int, seed: int) -> Tensor:
        found = KMeans(k, n_init=1, random_state=seed).fit(rows.numpy())
        return torch.as_tensor(found.labels_, dtype=torch.int64)

    best = max(
        (_improve(smoothers, clusters(joined, classes, seed + i), classes) for i in range(starts)), key=_agreement
    )
    generator = torch.Generator().manual_seed(seed)
    for i in range(moves if classes > 2 else 0):
        one, other, split = torch.randperm(classes, generator=generator)[:3].tolist()
        labels, inside = best.labels.clone(), (best.labels == split).nonzero().squeeze(1)
        if len(inside) < 4:
            continue
        labels[labels == one] = other
        labels[inside[clusters(joined[inside], 2, seed + i) == 1]] = one
        best = max(best, _improve(smoothers, labels, classes), key=_agreement)
    return best


def _agreement(found: DetectedClasses) -> float:
    return found.agreement


def _leave_one_out(x: Tensor, ridge: float) -> Tensor:
    """The matrix (n, n) that maps targets to ridge regression's prediction of each row from the other rows."""
    n, centred = len(x), x - x.mean(0)
    gram = centred @ centred.T / n
    hat = torch.linalg.solve(gram + ridge * torch.eye(n, dtype=x.dtype), gram) + 1 / n
    own = hat.diagonal()
    return (hat - own.diag_embed()) / (1 - own).unsqueeze(1)


def _improve(smoothers: list[Tensor], labels: Tensor, classes: int, steps: int = 30) -> DetectedClasses:
    """Reassign every pair to its most probable class until nothing changes."""
    for _ in range(steps):
        indicator = torch.nn.functional.one_hot(labels, classes).to(smoothers[0])
        share = indicator.mean(0).clamp(min=1e-3)
        first, second = ((s @ indicator).clamp(min=FLOOR) for s in smoothers)
        joint = first / first.sum(1, keepdim=True) * (second / second.sum(1, keepdim=True)) / share
        before, labels = labels, joint.argmax(1)
        if torch.equal(before, labels):
            break
    return DetectedClasses(before, float(joint.sum(1).log().mean()))
