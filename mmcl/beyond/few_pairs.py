"""Few pairs and many unpaired rows: features of a modality by itself, and a choice among them on validation pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from mmcl.beyond.kernels import kernel_map
from mmcl.beyond.landmarks import LandmarkFeatures, landmark_features
from mmcl.covariance import whitening
from mmcl.metrics import class_accuracy
from mmcl.spectral import Fit, fit

Both = tuple[Tensor, Tensor]  # rows of the first and of the second modality


@dataclass(frozen=True)
class FewPairs:
    """Features of the pairs, of validation pairs, of unpaired rows, and of test rows, of both modalities."""

    pairs: Both
    validation: Both
    unpaired: Both
    tests: Both

    def whitened(self, ridge: float) -> "FewPairs":
        """All rows centred and whitened by the pairs, (Cov + ridge * mean variance)^(-1/2)."""
        roots = [(whitening(a, ridge * float(a.var(0).mean())), a.mean(0)) for a in self.pairs]

        def mapped(rows: Both) -> Both:
            one, other = ((a - mean) @ root for a, (root, mean) in zip(rows, roots, strict=True))
            return one, other

        return FewPairs(mapped(self.pairs), mapped(self.validation), mapped(self.unpaired), mapped(self.tests))


@dataclass(frozen=True)
class Choice:
    """The setting that did best on the validation pairs, how well, its whitened features and its fit."""

    setting: Mapping[str, Any]
    validation: float
    features: FewPairs
    fit: Fit


def choose(options: Iterator[tuple[dict[str, Any], FewPairs]], labels: Tensor, rank: int) -> Choice:
    """One SVD of each option's pairs; the option is kept that retrieves the right class most often in validation.

    Args:
        options: settings and whitened features.
        labels: (k,) classes of the validation pairs, which belong to no pair fitted to and to no test row.
        rank: encoder dimension r.

    Returns:
        `Choice`. No test row is looked at.

    Raises:
        ValueError: if there is no option.
    """
    best: Choice | None = None
    for setting, features in options:
        found = fit(*features.pairs, rank)
        accuracy = retrieval(found, features.validation, labels, labels)
        if best is None or accuracy > best.validation:
            best = Choice(setting, accuracy, features, found)
    if best is None:
        raise ValueError("no option to choose from; give at least one")
    return best


def retrieval(found: Fit, rows: Both, labels: Tensor, labels_tilde: Tensor) -> float:
    """Share of rows of the first modality whose nearest row of the second, by cosine, has their class."""
    z, z_tilde = rows[0] @ found.g1.mT, rows[1] @ found.g2.mT
    return float(class_accuracy(z, z_tilde, labels, labels_tilde))


@dataclass(frozen=True)
class GraphMap:
    """Several landmark graphs of one modality side by side, see `mmcl.beyond.landmarks`."""

    graphs: tuple[LandmarkFeatures, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """(n, graphs, m) features, not smoothed."""
        return torch.stack([g(x.float()).double() for g in self.graphs], 1)

    @property
    def eigenvalues(self) -> Tensor:
        """(graphs, m), decreasing along m."""
        return torch.stack([g.eigenvalues.double() for g in self.graphs])


def graph_map(x: Tensor, dimension: int, landmarks: int, graphs: int = 2, seed: int = 0) -> GraphMap:
    """`GraphMap` of all rows of a modality, fitted without any partner; arguments as of `landmark_features`.

    Example:
        >>> x = torch.linspace(0, 1, 200, dtype=torch.float64).unsqueeze(1)
        >>> graph_map(x, dimension=3, landmarks=20)(x).shape
        torch.Size([200, 2, 3])
    """
    return GraphMap(tuple(landmark_features(x.float(), dimension, landmarks, seed=seed + i) for i in range(graphs)))


def graph_options(
    features: FewPairs, values: list[Tensor], dimensions: list[int], smooths: list[float], ridges: list[float]
) -> Iterator[tuple[dict[str, Any], FewPairs]]:
    """Settings of graph features: how many, times which power of their eigenvalues, whitened with which ridge.

    Args:
        features: of `GraphMap`, (n, graphs, m).
        values: eigenvalues (graphs, m) of both modalities.
        dimensions, smooths, ridges: the settings, every combination of which is an option.
    """
    for m, smooth in product(dimensions, smooths):

        def scaled(both: Both, m: int = m, smooth: float = smooth) -> Both:
            one, other = ((a * v**smooth)[..., :m].flatten(1) for a, v in zip(both, values, strict=True))
            return one, other

        parts = (features.pairs, features.validation, features.unpaired, features.tests)
        some = FewPairs(*map(scaled, parts))
        for ridge in ridges:
            yield {"dimension": m, "smooth": smooth, "ridge": ridge}, some.whitened(ridge)


def linear_options(
    features: FewPairs, dimensions: list[int], ridges: list[float]
) -> Iterator[tuple[dict[str, Any], FewPairs]]:
    """Settings of plain features: the leading so many of them, whitened with which ridge."""
    for m, ridge in product(dimensions, ridges):
        parts = (features.pairs, features.validation, features.unpaired, features.tests)
        yield {"dimension": m, "ridge": ridge}, FewPairs(*((a[:, :m], b[:, :m]) for a, b in parts)).whitened(ridge)


def kernel_options(
    features: FewPairs, widths: list[float], ridges: list[float]
) -> Iterator[tuple[dict[str, Any], FewPairs]]:
    """Settings of a Gaussian kernel on the pairs: its width, in units of the spread of the rows, and the ridge."""
    for width in widths:
        maps = [kernel_map(a, width * float(a.var(0).sum().sqrt())) for a in features.pairs]
        parts = (features.pairs, features.validation, features.unpaired, features.tests)
        some = FewPairs(*((maps[0](a), maps[1](b)) for a, b in parts))
        for ridge in ridges:
            yield {"width": width, "ridge": ridge}, some.whitened(ridge)
