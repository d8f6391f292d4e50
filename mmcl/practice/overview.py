"""What to look at before an audit, and beside it: is there a relation, how are held-out rows retrieved, what next."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Generator, Tensor

from mmcl.practice.audit import in_features
from mmcl.practice.estimator import MMCL
from mmcl.practice.robust import weighted_fit, whitened


def held_out_correlations(
    x: np.ndarray, y: np.ndarray, rank: int, permutations: int = 100, folds: int = 5, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Canonical correlations of pairs that the directions were not fitted to, and what strangers reach by chance.

    Args:
        x, y: (n, d1), (n, d2) pairs.
        rank: how many.
        permutations: of the held-out partners; directions are fitted without them, so that each correlation has a
            null law of its own, which is not so for correlations of the rows that were fitted to.
        folds, seed: of the cross-fit.

    Returns:
        (r,) correlations, averaged over folds, and (permutations, r) the same for permuted partners.

    Reference: Winkler, Renaud, Smith, Nichols, Permutation inference for canonical correlation analysis, NeuroImage
    2020 (why the naive permutation test is not valid beyond the first).
    """
    generator = Generator().manual_seed(seed)
    fold = torch.randperm(len(x), generator=generator) % folds
    own, chance = torch.zeros(rank).double(), torch.zeros(permutations, rank).double()
    for k in range(folds):
        rest, here = (fold != k).numpy(), (fold == k).numpy()
        model = MMCL(rank, ridge=0.1).fit(x[rest], y[rest])
        a, b = (torch.from_numpy(np.asarray(z, dtype=float)) for z in model.transform(x[here], y[here]))
        a, b = ((z - z.mean(0)) / z.std(0).clamp(min=1e-12) for z in (a, b))
        own += (a * b).mean(0) / folds
        for i in range(permutations):
            chance[i] += (a * b[torch.randperm(len(b), generator=generator)]).mean(0) / folds
    return own, chance


def recall_curve(z: np.ndarray, z_tilde: np.ndarray, most: int = 50) -> Tensor:
    """(most,) share of rows whose own partner is among the k most similar by cosine, for k = 1, ..., most.

    Example:
        >>> recall_curve(np.eye(3), np.eye(3)[[0, 2, 1]], most=2)
        tensor([0.3333, 0.3333], dtype=torch.float64)
    """
    return (places(z, z_tilde).unsqueeze(1) <= torch.arange(1, most + 1)).double().mean(0)


def places(z: np.ndarray, z_tilde: np.ndarray) -> Tensor:
    """(n,) place of each row's own partner by cosine among all; ties count against it."""
    a, b = (torch.nn.functional.normalize(torch.as_tensor(np.asarray(v)).double(), dim=1) for v in (z, z_tilde))
    own = (a * b).sum(1, keepdim=True)
    return torch.cat([(a[i : i + 500] @ b.mT >= own[i : i + 500] - 1e-12).sum(1) for i in range(0, len(a), 500)])


def aligned_pca(x: np.ndarray, y: np.ndarray, rank: int) -> Callable[[np.ndarray, np.ndarray], tuple]:
    """A unimodal baseline: principal components of each modality, matched by their correlations on the pairs."""
    from sklearn.decomposition import PCA

    first, second = (PCA(min(rank, a.shape[1]), whiten=True).fit(a) for a in (x, y))
    match = MMCL(min(first.n_components_, second.n_components_), ridge=0.1)
    match.fit(first.transform(x), second.transform(y))
    return lambda a, b: match.transform(first.transform(a), second.transform(b))


def cosine_scores(x: np.ndarray, y: np.ndarray, rank: int, folds: int = 5, seed: int = 0) -> Tensor:
    """(n,) the simplest score of a pair: the cosine of its embeddings by a plain fit to the other folds."""
    fold = torch.randperm(len(x), generator=Generator().manual_seed(seed)) % folds
    score = torch.empty(len(x)).double()
    for k in range(folds):
        rest, here = (fold != k).numpy(), fold == k
        z = MMCL(rank, ridge=0.1).fit(x[rest], y[rest]).transform(x[here.numpy()], y[here.numpy()])
        a, b = (torch.nn.functional.normalize(torch.as_tensor(np.asarray(v)).double(), dim=1) for v in z)
        score[here] = (a * b).sum(1)
    return score


def weighted_places(
    x: np.ndarray, y: np.ndarray, weights: Tensor, rank: int, test: tuple[np.ndarray, np.ndarray]
) -> Tensor:
    """(m,) places of held-out partners under the linear loss's encoders of pairs with these weights (n,)."""
    w = whitened(torch.as_tensor(x).double(), torch.as_tensor(y).double())
    fitted = in_features(weighted_fit(w.x, w.x_tilde, weights.double(), rank), w)
    z, z_tilde = (torch.as_tensor(a).double() @ g.mT for a, g in zip(test, (fitted.g1, fitted.g2), strict=True))
    return places((z - fitted.mean).numpy(), (z_tilde - fitted.mean_tilde).numpy())


def reliability(probability: Tensor, happened: Tensor, bins: int = 10) -> tuple[Tensor, Tensor, Tensor, float]:
    """Mean probability, frequency and number of each bin that holds anything, and the expected calibration error.

    Example:
        >>> *_, error = reliability(torch.tensor([0.1, 0.1, 0.9]), torch.tensor([False, False, True]))
        >>> round(error, 2)
        0.1
    """
    where = (probability * bins).long().clamp(max=bins - 1)
    number = torch.bincount(where, minlength=bins)
    there = number > 0
    said, seen = (
        torch.zeros(bins).double().index_add(0, where, v.double())[there] / number[there]
        for v in (probability, happened)
    )
    return said, seen, number[there], float((number[there] * (said - seen).abs()).sum() / len(probability))


def perfect_error(probability: Tensor, bins: int = 10, draws: int = 200, seed: int = 0) -> Tensor:
    """(draws,) calibration errors, as of `reliability`, if what happens has the probabilities (n,) that are said.

    With few pairs in a bin it is not 0: a frequency differs from its probability by chance.

    Example:
        >>> few, many = (perfect_error(torch.full((n,), 0.9), bins=5) for n in (20, 2000))
        >>> bool(few.mean() > 0.04), bool(many.mean() < 0.01)
        (True, True)
    """
    generator = Generator().manual_seed(seed)
    happened = torch.rand(draws, len(probability), generator=generator) < probability
    return torch.tensor([reliability(probability, row, bins)[-1] for row in happened])


def known_probability(score: Tensor, wrong: Tensor) -> Tensor:
    """(n,) share of right pairs at each score, learned from the truth (n,) bool: the most that a score can say.

    It is the least-squares fit of the truth that increases with the score.

    Example:
        >>> known_probability(torch.tensor([0.1, 0.2, 0.9, 0.8]), torch.tensor([True, False, False, True]))
        tensor([0.0000, 0.5000, 1.0000, 0.5000], dtype=torch.float64)
    """
    from sklearn.isotonic import IsotonicRegression

    right = (~wrong).double().numpy()
    return torch.as_tensor(IsotonicRegression().fit_transform(score.double().numpy(), right)).double()


def best_retrieval(encoded: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str | None:
    """The encoders whose held-out partners come nearest to the top, if by two standard errors before all others.

    Args:
        encoded: by name, rows (m, r) of both modalities.

    Example:
        >>> z, (a, b, other) = np.eye(50), np.random.default_rng(0).standard_normal((3, 50, 50))
        >>> best_retrieval({"right": (z, z), "chance": (z, other)})
        'right'
        >>> best_retrieval({"as good": (z, z + 0.6 * a), "as this": (z, z + 0.6 * b)})
    """
    near = {name: 1 / places(*z).double() for name, z in encoded.items()}
    best = max(near, key=lambda name: float(near[name].mean()))
    leads = [near[best] - other for name, other in near.items() if name != best]
    clear = all(lead.mean() > 2 * lead.std() / len(lead) ** 0.5 for lead in leads)
    return best if clear else None
