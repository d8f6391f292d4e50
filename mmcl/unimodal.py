"""Learning from one modality: PCA, and contrastive learning between masked copies of the same rows."""

import torch

from mmcl._checks import all_finite, as_generator, as_rows, at_least, positive, rank_at_most
from mmcl.covariance import cross_covariance


def leading_eigenvectors(a, rank):
    """Orthonormal rows (..., rank, d): eigenvectors of the symmetric a (..., d, d), largest signed eigenvalue first.

    The entry of largest modulus in each row is positive. Raises ValueError if the rank is not in 1..d.
    """
    rank = rank_at_most(rank, a.shape[-1])
    g = torch.linalg.eigh(a)[1][..., -rank:].flip(-1).mT
    return g * g.gather(-1, g.abs().argmax(-1, keepdim=True)).sign()


def fit_pca(x, rank):
    """PCA, which a linear autoencoder learns: the leading eigenvectors of the sample covariance of x.

    Args:
        x: (..., n, d) rows are samples; they are centred here.
        rank: encoder dimension r, 1 to d.

    Returns:
        (..., rank, d) encoder with orthonormal rows, by decreasing eigenvalue. The entry of largest modulus in each
        row is positive.

    Raises:
        ValueError: if n < 2, the rank is out of range, or a value is not finite.

    Reference: arXiv 2302.06232, Section 3 (the autoencoder it is compared with); notebook 02, section 3.
    """
    return leading_eigenvectors(cross_covariance(x, x), rank)


def fit_masked(x, rank):
    """Unimodal contrastive learning with random masks, in closed form.

    A row is seen twice, as a * x and (1 - a) * x with a in {0, 1}^d of independent fair coins, and the linear
    contrastive loss is applied to the two views, with one encoder for both. With n samples of mean 0 and sample
    covariance C (n - 1), the contrastive cross-covariance has the expectation over the masks

        E S = 1/4 (C - diag(C)) + diag(C)/(4n),

    so, up to the last term, the method is the leading eigenvectors of the covariance without its diagonal.

    Args:
        x: (..., n, d) rows are samples; they are centred here, before the masks, since masks would otherwise carry
            the mean into the diagonal.
        rank: encoder dimension r, 1 to d.

    Returns:
        (..., rank, d) encoder with orthonormal rows, by decreasing (signed) eigenvalue.

    Raises:
        ValueError: if n < 2, the rank is out of range, or a value is not finite.

    Reference: Ji, Deng, Nakada, Zou, Zhang, The Power of Contrast for Feature Learning, JMLR 2023; notebook 02.
    """
    return leading_eigenvectors(without_diagonal(cross_covariance(x, x)), rank)


def without_diagonal(a):
    """a (..., d, d) with zeros on its diagonal; the argument is left as it is."""
    return a - torch.diag_embed(a.diagonal(dim1=-2, dim2=-1))


def masked_views(x, seed=0):
    """Two complementary random maskings (a * x, (1 - a) * x) of every row, a fair coin for each coordinate.

    Args:
        x: (..., n, d) rows, centred by the caller.
        seed: int or `torch.Generator`.

    Returns:
        A pair of tensors (..., n, d) that add up to x.
    """
    x = as_rows("x", x)
    kept = x * (torch.rand(x.shape, generator=as_generator(seed), dtype=x.dtype) < 0.5)
    return kept, x - kept


def train_masked(x, rank, steps=2000, lr=1.0, seed=0):
    """The training that `fit_masked` is the limit of: stochastic gradient descent with new masks at every step.

    Step t draws two views, takes S = cross_covariance(a * x, (1 - a) * x), and descends
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

    Reference: notebook 02, section 3.
    """
    x = all_finite("x", as_rows("x", x))
    x = x - x.mean(-2, keepdim=True)
    rank = rank_at_most(rank, x.shape[-1])
    at_least(0, steps=steps)
    positive(lr=lr)
    if lr > 1:
        raise ValueError(f"lr = {lr}; a step longer than 1/b diverges, so use (0, 1]")
    b = torch.linalg.eigvalsh(without_diagonal(cross_covariance(x, x)))[..., -1, None, None] / 4
    generator = as_generator(seed)
    g = torch.randn(*x.shape[:-2], rank, x.shape[-1], generator=generator, dtype=x.dtype) * (b / x.shape[-1]).sqrt() / 4
    path = [g]
    for t in range(steps):
        s = cross_covariance(*masked_views(x, generator))
        g = g + lr / (b * (1 + t / 100)) * (g @ (s + s.mT) / 2 - g @ g.mT @ g)
        path.append(g)
    return torch.stack(path)
