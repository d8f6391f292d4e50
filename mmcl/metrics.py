"""How good encoders are: the distance of subspaces, and retrieval."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmcl._blocks import row_blocks
from mmcl._checks import alike, all_finite, as_rows, as_tensor, integer, no_less_than
from mmcl._retrieval import mean_average_precision as mean_average_precision
from mmcl._retrieval import median_rank as median_rank
from mmcl._retrieval import partner_ranks as partner_ranks
from mmcl._retrieval import recall_at_k as recall_at_k
from mmcl._retrieval import with_classes


def sin_theta(u: Tensor, v: Tensor) -> Tensor:
    """||sinTheta(U, V)||_F, the distance of two column spaces: 0 when equal, sqrt(r) when orthogonal.

    Args:
        u, v: (..., d, r) columns that span the subspaces, orthonormal or not; for an encoder G (r, d) pass ``g.mT``.

    Returns:
        (...,) Frobenius norm of the sines of the r principal angles, accurate for tiny angles too.

    Raises:
        ValueError: if the shapes do not match, or the columns are not linearly independent (r > d, say).

    Reference: PMLR 206:4348, Section 3.1 and Theorem 3.1.

    Example:
        >>> u, v = torch.tensor([[1.0], [0.0]]), torch.tensor([[3.0], [4.0]])
        >>> sin_theta(u, v)  # a triangle of 3, 4, 5
        tensor(0.8000)
    """
    u, v = orthonormal_columns("u", u), orthonormal_columns("v", v)
    if u.shape[-2:] != v.shape[-2:]:
        raise ValueError(
            f"u is {tuple(u.shape[-2:])} and v {tuple(v.shape[-2:])}; both must be (d, r) with the same d, r"
        )
    return (v - u @ (u.mT @ v)).norm(dim=(-2, -1))


def orthonormal_columns(name: str, u: Tensor) -> Tensor:
    """Orthonormal basis (..., d, r) of the column space of u (..., d, r); ValueError if its columns are dependent.

    Example:
        >>> orthonormal_columns("u", torch.tensor([[-2.0], [0.0]])).abs()
        tensor([[1.],
                [0.]])
    """
    u = all_finite(name, as_rows(name, u))
    d, r = u.shape[-2:]
    if r > d:
        raise ValueError(f"{name} is {d} x {r}, more columns than rows; pass an encoder G (r, d) as G.mT")
    q, s, _ = torch.linalg.svd(u, full_matrices=False)
    if bool((s[..., -1] <= d * torch.finfo(u.dtype).eps * s[..., 0]).any()):
        raise ValueError(f"the {r} columns of {name} are linearly dependent; pass a basis of the subspace")
    return q


def top_k_accuracy(z: Tensor, z_tilde: Tensor, k: int = 1, targets: Sequence[int] | Tensor | None = None) -> Tensor:
    """Share of rows of z whose own partner is among the k rows of z_tilde most similar by cosine.

    Args:
        z: (..., n, r) embeddings of the queries, ``x @ g1.mT``.
        z_tilde: (..., m, r) embeddings of the candidates.
        k: how many candidates are looked at, 1 to m.
        targets: (..., n) index of each query's partner among the candidates; None means row i with row i.

    Returns:
        (...,) share in [0, 1]. A candidate exactly as similar as the partner counts as before it, so ties never help.

    Raises:
        ValueError: if shapes, k or targets do not fit.

    Example:
        >>> z, z_tilde = torch.eye(3), torch.eye(3)[[0, 2, 1]]
        >>> round(float(top_k_accuracy(z, z_tilde)), 3), float(top_k_accuracy(z, z_tilde, targets=[0, 2, 1]))
        (0.333, 1.0)
    """
    z, z_tilde = alike(z=z, z_tilde=z_tilde)
    integer(1, z_tilde.shape[-2], k=k)
    return (partner_ranks(z, z_tilde, targets) <= k).to(torch.float64).mean(-1)


def class_accuracy(
    z: Tensor, z_tilde: Tensor, labels: Sequence[int] | Tensor, labels_tilde: Sequence[int] | Tensor, k: int = 1
) -> float:
    """Share, among the k rows of z_tilde most similar by cosine to a row of z, that have its class; mean over rows.

    Args:
        z: (n, r) embeddings of the queries.
        z_tilde: (m, r) embeddings of the candidates.
        labels, labels_tilde: (n,), (m,) classes.
        k: 1 to m.

    Returns:
        float in [0, 1].

    Raises:
        ValueError: if shapes or k do not fit.

    Reference: PMLR 206:4348, Section 5.3 (k = 1).

    Example:
        >>> class_accuracy(torch.eye(2), torch.eye(2), labels=[0, 1], labels_tilde=[0, 0])
        0.5
    """
    z, z_tilde, labels, labels_tilde = with_classes(z, z_tilde, labels, labels_tilde)
    integer(1, len(z_tilde), k=k)
    z, z_tilde, hits = torch.nn.functional.normalize(z, dim=-1), torch.nn.functional.normalize(z_tilde, dim=-1), 0
    for here in row_blocks(len(z), len(z_tilde), 2**22):
        similarity = z[here] @ z_tilde.mT
        near = similarity.argmax(-1, keepdim=True) if k == 1 else similarity.topk(k, -1).indices
        hits += int((labels_tilde[near] == labels[here].unsqueeze(-1)).sum())
    return hits / (k * len(z))


def relative_error(a: Sequence[float] | Tensor, b: Sequence[float] | Tensor) -> float:
    """||a - b|| / ||b||, Frobenius norms over all entries, as a float: 0 when equal.

    Raises:
        ValueError: if a and b are not finite numbers of one shape, or b is 0.

    Example:
        >>> round(relative_error([3.0, 5.0], [3.0, 4.0]), 3)
        0.2
    """
    a, b = (all_finite(name, as_tensor(name, v)).detach() for name, v in (("a", a), ("b", b)))
    if a.shape != b.shape or not bool((b != 0).any()):
        raise ValueError(f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}; give one shape, and a b that is not 0")
    return float((a - b).norm() / b.norm())


def probe_risk(
    features: Tensor, targets: Tensor, features_test: Tensor, targets_test: Tensor, ridge: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Mean squared error of a linear probe: ridge regression with intercept, fitted and tested on given features.

    With ridge = 0 it does not change under features -> features A^T, A invertible: all that a probe sees of an encoder
    G is its right singular space, the reason why the paper measures encoders by it.

    Args:
        features, targets: (..., m, r), (..., m, k) the labelled rows.
        features_test, targets_test: (..., t, r), (..., t, k).
        ridge: penalty, as a share of the features' mean variance, which keeps m <= r solvable.

    Returns:
        Mean squared error per target (...,), and the share of signs predicted wrongly (...,).

    Raises:
        ValueError: if shapes do not fit, or the features are linearly dependent and ridge is 0.

    Reference: PMLR 206:4348, Section 3.1 (the quality of encoders).

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> risk, wrong = probe_risk(x, 2 * x - 1, x, 2 * x - 1, ridge=0.0)
        >>> bool(risk < 1e-10), float(wrong)
        (True, 0.0)
    """
    features, targets, features_test, targets_test = alike(
        features=features, targets=targets, features_test=features_test, targets_test=targets_test
    )
    no_less_than(0, ridge=ridge)
    (m, r), (t, k) = features.shape[-2:], targets_test.shape[-2:]
    if targets.shape[-2:] != (m, k) or features_test.shape[-2:] != (t, r):
        raise ValueError(
            f"targets have shape {tuple(targets.shape)} and features_test {tuple(features_test.shape)}; "
            f"with the others they are (..., {m}, {k}) and (..., {t}, {r})"
        )
    mean, level = features.mean(-2, keepdim=True), targets.mean(-2, keepdim=True)
    a = features - mean
    gram = a.mT @ a
    gram = gram + ridge * gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] * torch.eye(a.shape[-1]).to(gram)
    weights, singular = torch.linalg.solve_ex(gram, a.mT @ (targets - level))
    if bool(singular.any()):
        raise ValueError(f"the features are linearly dependent and ridge = {ridge}; use a ridge above 0")
    predicted = (features_test - mean) @ weights + level
    wrong = (predicted.sign() != targets_test.sign()).to(predicted.dtype)
    return (predicted - targets_test).square().mean((-2, -1)), wrong.mean((-2, -1))
