"""Few pairs and many unpaired rows: features of a modality by itself, and a choice among them on validation pairs."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import torch
from torch import Tensor

from mmcl._checks import all_finite, as_encoders, as_seed, as_tensor, at_least, has_encoders, integer, shown, within
from mmcl.beyond._shapes import matrix
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

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            object.__setattr__(self, name, _both(name, getattr(self, name)))
            shapes = [tuple(a.shape[1:]) for a in getattr(self, name)]
            if shapes != [tuple(a.shape[1:]) for a in self.pairs]:
                raise ValueError(f"{name} are features {shapes[0]} and {shapes[1]}; give those that the pairs have")

    def whitened(self, ridge: float) -> "FewPairs":
        """All rows centred and whitened by the pairs, (Cov + ridge * mean variance)^(-1/2)."""
        roots = [(whitening(a, ridge * float(a.var(0).mean())), a.mean(0)) for a in self.pairs]

        def mapped(rows: Both) -> Both:
            one, other = ((a - mean) @ root for a, (root, mean) in zip(rows, roots, strict=True))
            return one, other

        return FewPairs(mapped(self.pairs), mapped(self.validation), mapped(self.unpaired), mapped(self.tests))


def _both(name: str, rows: Any) -> Both:
    if not isinstance(rows, tuple | list) or len(rows) != 2:
        raise ValueError(f"{name} = {shown(rows)}; give rows of the first and of the second modality")
    one, other = (as_tensor(name, a) for a in rows)
    return one, other


@dataclass(frozen=True)
class Choice:
    """The setting that did best on the validation pairs, how well, its whitened features and its fit."""

    setting: Mapping[str, Any]
    validation: float
    features: FewPairs
    fit: Fit


def choose(options: Iterable[tuple[dict[str, Any], FewPairs]], labels: Tensor, rank: int) -> Choice:
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
    for option in options if isinstance(options, Iterable) else [options]:
        if not isinstance(option, tuple | list) or len(option) != 2 or not isinstance(option[1], FewPairs):
            raise ValueError(f"an option is {shown(option)}; give a setting and its FewPairs")
        setting, features = option
        found = fit(*features.pairs, rank)
        accuracy = retrieval(found, features.validation, labels, labels)
        if best is None or accuracy > best.validation:
            best = Choice(setting, accuracy, features, found)
    if best is None:
        raise ValueError("no option to choose from; give at least one")
    return best


def retrieval(found: Fit, rows: Both, labels: Tensor, labels_tilde: Tensor) -> float:
    """Share of rows of the first modality whose nearest row of the second, by cosine, has their class."""
    has_encoders(found)
    x, x_tilde = (matrix("rows", a) for a in _both("rows", rows))
    g1, g2 = as_encoders(x, x_tilde, found.g1, found.g2)
    return class_accuracy(x @ g1.mT, x_tilde @ g2.mT, labels, labels_tilde)


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
    at_least(1, graphs=graphs)
    x, seed = matrix("x", x), as_seed(seed)
    return GraphMap(tuple(landmark_features(x.float(), dimension, landmarks, seed=seed + i) for i in range(graphs)))


def graph_options(
    features: FewPairs,
    values: Sequence[Tensor],
    dimensions: Sequence[int],
    smooths: Sequence[float],
    ridges: Sequence[float],
) -> Iterator[tuple[dict[str, Any], FewPairs]]:
    """Settings of graph features: how many, times which power of their eigenvalues, whitened with which ridge.

    Args:
        features: of `GraphMap`, (n, graphs, m).
        values: eigenvalues (graphs, m) of both modalities.
        dimensions, smooths, ridges: the settings, every combination of which is an option.
    """
    values = [
        all_finite("values", a).to(b) for a, b in zip(_both("values", values), _known(features).pairs, strict=True)
    ]
    if any(a.shape != b.shape[1:] for a, b in zip(values, features.pairs, strict=True)):
        shapes = ", ".join(str(tuple(a.shape)) for a in values)
        raise ValueError(f"values have shapes {shapes}; give eigenvalues (graphs, m) of features (n, graphs, m)")
    most = min(a.shape[-1] for a in values)
    for m, smooth in product(_dimensions(dimensions, most), _several(0, "smooths", smooths)):

        def scaled(both: Both, m: int = m, smooth: float = smooth) -> Both:
            one, other = ((a * v**smooth)[..., :m].flatten(1) for a, v in zip(both, values, strict=True))
            return one, other

        parts = (features.pairs, features.validation, features.unpaired, features.tests)
        some = FewPairs(*map(scaled, parts))
        for ridge in _several(0, "ridges", ridges):
            yield {"dimension": m, "smooth": smooth, "ridge": ridge}, some.whitened(ridge)


def linear_options(
    features: FewPairs, dimensions: Sequence[int], ridges: Sequence[float]
) -> Iterator[tuple[dict[str, Any], FewPairs]]:
    """Settings of plain features: the leading so many of them, whitened with which ridge."""
    most = min(matrix("features", a).shape[1] for a in _known(features).pairs)
    for m, ridge in product(_dimensions(dimensions, most), _several(0, "ridges", ridges)):
        parts = (features.pairs, features.validation, features.unpaired, features.tests)
        yield {"dimension": m, "ridge": ridge}, FewPairs(*((a[:, :m], b[:, :m]) for a, b in parts)).whitened(ridge)


def kernel_options(
    features: FewPairs, widths: Sequence[float], ridges: Sequence[float]
) -> Iterator[tuple[dict[str, Any], FewPairs]]:
    """Settings of a Gaussian kernel on the pairs: its width, in units of the spread of the rows, and the ridge."""
    for width in _several(math.ulp(0), "widths", widths):
        maps = [kernel_map(a, width * float(matrix("features", a).var(0).sum().sqrt())) for a in _known(features).pairs]
        parts = (features.pairs, features.validation, features.unpaired, features.tests)
        some = FewPairs(*((maps[0](a), maps[1](b)) for a, b in parts))
        for ridge in _several(0, "ridges", ridges):
            yield {"width": width, "ridge": ridge}, some.whitened(ridge)


def _known(features: FewPairs) -> FewPairs:
    if not isinstance(features, FewPairs):
        raise ValueError(f"features = {shown(features)}; give mmcl.beyond.few_pairs.FewPairs")
    return features


def _several(low: float, name: str, values: Sequence[float]) -> list[float]:
    return within(low, math.inf, name, values).reshape(-1).tolist()


def _dimensions(values: Sequence[int], most: int) -> list[int]:
    for value in values if isinstance(values, list | tuple) else [values]:
        integer(1, most, dimensions=value)
    return list(values)
