"""Learning from one modality: PCA, and contrastive learning between masked copies of the same rows."""

import torch
from torch import Tensor

from mmcl._checks import as_generator, as_square, at_least, finite_rows, paired, positive, rank_at_most
from mmcl.covariance import cross_covariance


def leading_eigenvectors(a: Tensor, rank: int) -> Tensor:
    """Orthonormal rows (..., rank, d): eigenvectors of the symmetric a (..., d, d), largest signed eigenvalue first.

    The entry of largest modulus in each row is positive. Raises ValueError if the rank is not in 1..d.

    Example:
        >>> leading_eigenvectors(torch.diag(torch.tensor([1.0, -5.0, 3.0])), rank=1)
        tensor([[0., 0., 1.]])
    """
    a = as_square("a", a)
    rank = rank_at_most(rank, a.shape[-1])
    g = torch.linalg.eigh(a)[1][..., -rank:].flip(-1).mT
    return g * g.gather(-1, g.abs().argmax(-1, keepdim=True)).sign()


def fit_pca(x: Tensor, rank: int) -> Tensor:
    """PCA, which a linear autoencoder learns: the leading eigenvectors of the sample covariance of x.

    Args:
        x: (..., n, d) rows are samples; they are centred here.
        rank: encoder dimension r, 1 to d.

    Returns:
        (..., rank, d) encoder with orthonormal rows, by decreasing eigenvalue. The entry of largest modulus in each
        row is positive.

    Raises:
        ValueError: if n < 2, the rank is out of range, or a value is not finite.

    Reference: PMLR 206:4348, Section 3.2 (the autoencoder it is compared with).

    Example:
        >>> fit_pca(torch.tensor([[1.0, 5.0], [-1.0, 5.0], [0.0, 5.0]]), rank=1)
        tensor([[1., 0.]])
    """
    return leading_eigenvectors(cross_covariance(x, x), rank)


def fit_masked(x: Tensor, rank: int) -> Tensor:
    """Unimodal contrastive learning with random masks (Lemma 7.1), in closed form.

    The rows are seen twice, as A x and (I - A) x with A = diag(a), a in {0, 1}^d of independent fair coins, and the
    linear contrastive loss is applied to the two views, with one encoder for both. One mask for all rows, as the paper
    draws it, makes S = A C (I - A), C the sample covariance, whose expectation over the masks is

        E S = 1/4 (C - diag(C)):

    the method is the leading eigenvectors of the covariance without its diagonal. Masks drawn row by row add
    diag(C)/(4n), which is left out here.

    Args:
        x: (..., n, d) rows are samples; they are centred here.
        rank: encoder dimension r, 1 to d.

    Returns:
        (..., rank, d) encoder with orthonormal rows, by decreasing (signed) eigenvalue. The loss learns those of
        positive eigenvalue only, since G^T G has no other.

    Raises:
        ValueError: if n < 2, the rank is out of range, or a value is not finite.

    Reference: PMLR 206:4348, Lemma 7.1; Ji, Deng, Nakada, Zou, Zhang, The Power of Contrast for Feature Learning,
    JMLR 2023, Theorem 3.11.

    Example:
        >>> x = torch.tensor([[1.0, 1.0, 3.0], [-1.0, -1.0, 3.0], [0.0, 0.0, -6.0]])  # PCA finds the third coordinate
        >>> fit_masked(x, rank=1).round(decimals=3)
        tensor([[0.7070, 0.7070, 0.0000]])
    """
    return leading_eigenvectors(without_diagonal(cross_covariance(x, x)), rank)


def without_diagonal(a: Tensor) -> Tensor:
    """a (..., d, d) with zeros on its diagonal; the argument is left as it is.

    Example:
        >>> without_diagonal(torch.ones(2, 2))
        tensor([[0., 1.],
                [1., 0.]])
    """
    a = as_square("a", a)
    return a - torch.diag_embed(a.diagonal(dim1=-2, dim2=-1))


def masked_views(x: Tensor, seed: int | torch.Generator = 0, per_row: bool = False) -> tuple[Tensor, Tensor]:
    """Two complementary random maskings (A x, (I - A) x), A = diag(a) with a fair coin for each coordinate.

    Args:
        x: (..., n, d) rows.
        seed: int or `torch.Generator`.
        per_row: False draws one mask for all n rows of a batch entry, as the paper does: then E_A S = 1/4 (C - diag(C))
            whatever the mean of x is. True draws a mask for each row, as training usually does: S varies less from
            draw to draw, and its expectation has diag(C)/(4n) more if the rows are centred.

    Returns:
        A pair of tensors (..., n, d) that add up to x.

    Reference: PMLR 206:4348, Section 3.2 and Lemma 7.1 (per_row=False).

    Example:
        >>> a, b = masked_views(torch.ones(2, 4), seed=1)
        >>> bool((a[0] == a[1]).all()), bool((a + b == 1).all())
        (True, True)
    """
    x = finite_rows("x", x)
    shape = x.shape if per_row else (*x.shape[:-2], 1, x.shape[-1])
    kept = x * (torch.rand(shape, generator=as_generator(seed), dtype=x.dtype) < 0.5)
    return kept, x - kept


def train_masked(x: Tensor, rank: int, steps: int = 2000, lr: float = 1.0, seed: int | torch.Generator = 0) -> Tensor:
    """The training that `fit_masked` is the limit of: stochastic gradient descent with new masks at every step.

    Step t draws `masked_views` with a mask for each row, takes S = cross_covariance of the two, and descends
    L(G) = -tr(G S G^T) + 1/2 ||G^T G||_F^2 by a step of length lr / (b (1 + t/100)), where b, the largest eigenvalue
    of 1/4 (C - diag(C)), makes lr free of units.

    Args:
        x: (..., n, d) rows are samples; they are centred here.
        rank: encoder dimension r.
        steps: gradient steps, one full pass with fresh masks each.
        lr: first step length in units of 1/b, in (0, 1].
        seed: int or `torch.Generator` of the start and the masks.

    Returns:
        (steps + 1, ..., rank, d) encoders before the first step and after each.

    Raises:
        ValueError: for bad data, rank, steps or lr.

    Example:
        >>> from mmcl.metrics import sin_theta
        >>> x = torch.randn(200, 1, generator=torch.Generator().manual_seed(1)) @ torch.ones(1, 6)
        >>> path = train_masked(x, rank=1, steps=100)
        >>> path.shape, bool(sin_theta(path[-1].T, fit_masked(x, rank=1).T) < 0.1)
        (torch.Size([101, 1, 6]), True)
    """
    x, _ = paired(x, x)
    x = x - x.mean(-2, keepdim=True)
    rank = rank_at_most(rank, x.shape[-1])
    at_least(0, steps=steps)
    positive(lr=lr)
    if lr > 1:
        raise ValueError(f"lr = {lr}; a step longer than 1/b diverges, so use (0, 1]")
    b = torch.linalg.eigvalsh(without_diagonal(cross_covariance(x, x)))[..., -1, None, None] / 4
    if not bool((b > 0).all()):
        raise ValueError("the features of x do not vary together, so that masked views share nothing; check the data")
    generator = as_generator(seed)
    g = torch.randn(*x.shape[:-2], rank, x.shape[-1], generator=generator, dtype=x.dtype) * (b / x.shape[-1]).sqrt() / 4
    path = [g]
    for t in range(steps):
        s = cross_covariance(*masked_views(x, generator, per_row=True))
        g = g + lr / (b * (1 + t / 100)) * (g @ (s + s.mT) / 2 - g @ g.mT @ g)
        path.append(g)
    return torch.stack(path)
