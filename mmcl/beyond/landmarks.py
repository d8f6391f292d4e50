"""Features of a modality from its unpaired rows alone: eigenvectors of the graph in which rows share near landmarks."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.nn.functional import embedding_bag

from mmcl._blocks import row_blocks
from mmcl._checks import all_finite, as_rows, as_seed, at_least, rank_at_most

BLOCK = 8_192_000  # distances of rows to landmarks that are held at a time, 64 MB


@dataclass(frozen=True)
class LandmarkFeatures:
    """Map from rows to graph features, fitted by `landmark_features`.

    Attributes:
        landmarks: (p, d).
        neighbours: landmarks that a row is tied to.
        axes: (p, m) from weights on landmarks to features.
        eigenvalues: (m,) of the graph, decreasing, in (0, 1]: how slowly a feature changes along edges.
    """

    landmarks: Tensor
    neighbours: int
    axes: Tensor
    eigenvalues: Tensor

    def __call__(self, x: Tensor, smooth: float = 0.0) -> Tensor:
        """Features (n, m) of rows (n, d), of unit mean square on the rows fitted to, times eigenvalues^smooth."""
        x = torch.as_tensor(x).to(self.landmarks)
        axes = self.axes * self.eigenvalues**smooth
        ties = (_ties(x[here], self.landmarks, self.neighbours) for here in _blocks(x, self.landmarks))
        return torch.cat([embedding_bag(at, axes, per_sample_weights=weights, mode="sum") for at, weights in ties])


def landmark_features(
    x: Tensor, dimension: int, landmarks: int = 1000, neighbours: int = 5, sample: int = 20_000, seed: int = 0
) -> LandmarkFeatures:
    """Leading non-constant eigenvectors of the normalised graph Z D^-1 Z^T of rows that share landmarks.

    Row i has weights z_ij on its nearest landmarks, Gaussian in the distance, that sum to 1; D = diag(Z^T 1). The
    eigenvectors are the left singular vectors of Z D^-1/2 and extend to new rows as Z D^-1/2 v / sigma.

    Args:
        x: (n, d) rows; no partner and no label is used.
        dimension: features m, 1 to landmarks - 1; the constant eigenvector is left out.
        landmarks: number p of k-means centres of a random sample of the rows.
        neighbours: landmarks a row is tied to, below p.
        sample: rows for the k-means.
        seed: int, of the sample and of the k-means.

    Returns:
        LandmarkFeatures.

    Raises:
        ValueError: for bad rows or numbers.

    Example:
        >>> line = torch.linspace(0, 1, 200, dtype=torch.float64).unsqueeze(1)
        >>> features = landmark_features(line, dimension=1, landmarks=20)
        >>> slowest = features(line).squeeze(1)  # a half wave along the line
        >>> bool(slowest[0] * slowest[-1] < 0), round(float(slowest.square().mean()), 6)
        (True, 1.0)

    Reference: W. Liu, J. He, S.-F. Chang, Large Graph Construction for Scalable Semi-Supervised Learning, ICML 2010.
    """
    x = all_finite("x", as_rows("x", x))
    at_least(2, landmarks=landmarks, sample=sample)
    rank_at_most(neighbours, landmarks - 1)
    dimension = rank_at_most(dimension, landmarks - 1)
    if landmarks > min(len(x), sample):
        raise ValueError(f"landmarks = {landmarks}; there are {min(len(x), sample)} rows to find them among")
    seed = as_seed(seed)
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:sample]
    means = KMeans(landmarks, init="random", n_init=1, max_iter=10, random_state=seed)
    try:
        with warnings.catch_warnings(action="error", category=ConvergenceWarning):
            means.fit(x[chosen].numpy())
    except ConvergenceWarning:
        raise ValueError(f"landmarks = {landmarks}; x has fewer different rows, so give fewer landmarks") from None
    centres = torch.as_tensor(means.cluster_centers_, dtype=x.dtype)
    gram = torch.zeros(landmarks, landmarks, dtype=x.dtype)  # Z^T Z; its row sums are those of Z^T, since Z 1 = 1
    for at, weights in (_ties(x[here], centres, neighbours) for here in _blocks(x, centres)):
        products = weights.unsqueeze(2) * weights.unsqueeze(1)
        gram.index_put_((at.unsqueeze(2).expand_as(products), at.unsqueeze(1).expand_as(products)), products, True)
    scale = gram.sum(1).clamp(min=1e-6).rsqrt()
    values, vectors = torch.linalg.eigh(scale.unsqueeze(1) * gram * scale)
    values, vectors = values.flip(0)[1 : dimension + 1].clamp(min=1e-9), vectors.flip(1)[:, 1 : dimension + 1]
    return LandmarkFeatures(centres, neighbours, len(x) ** 0.5 * scale.unsqueeze(1) * vectors * values.rsqrt(), values)


def _blocks(x: Tensor, landmarks: Tensor) -> Iterator[slice]:
    return row_blocks(len(x), len(landmarks), BLOCK)


def _ties(x: Tensor, landmarks: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Nearest landmarks (n, s) and their weights: Gaussian, of the width at which the first left out has e^-2."""
    near, at = torch.cdist(x, landmarks).square().topk(neighbours + 1, largest=False)
    weights = torch.exp(-2 * near[:, :-1] / near[:, -1:].clamp(min=1e-12))
    return at[:, :-1], weights / weights.sum(1, keepdim=True)
