"""Paired data: the spiked model of the paper, and two views of real handwritten digits that ship with scikit-learn."""

from dataclasses import dataclass

import sklearn.datasets
import torch

from mmcl._checks import at_least, rank_at_most, share


@dataclass(frozen=True)
class Spiked:
    """A draw of the spiked model; leading dimension ``draws`` where it was asked for.

    Attributes:
        x, x_tilde: (..., n, d1), (..., n, d2) pairs, row i of one with row i of the other.
        u1, u2: (..., d1, rank), (..., d2, rank) orthonormal columns, what an encoder should find.
        z, z_tilde: (..., n, rank) latent rows; equal where the pair is right.
        wrong: (..., n) bool, the pairs whose second row has a latent of its own.
    """

    x: torch.Tensor
    x_tilde: torch.Tensor
    u1: torch.Tensor
    u2: torch.Tensor
    z: torch.Tensor
    z_tilde: torch.Tensor
    wrong: torch.Tensor


def spiked(n, d1, d2, rank, noise_std=0.3, wrong_share=0.0, draws=None, seed=0):
    """Pairs from the spiked model: x = U1 z + noise, x_tilde = U2 z_tilde + noise, z standard normal.

    Args:
        n: pairs, at least 2.
        d1, d2: dimensions of the two modalities.
        rank: latent dimension r, 1 to min(d1, d2).
        noise_std: standard deviation of every noise coordinate, one number or a pair (first, second modality).
        wrong_share: share of the pairs, rounded to whole pairs, whose z_tilde is drawn afresh.
        draws: None for one draw, else the number of independent draws (a leading dimension).
        seed: int, or a `torch.Generator` to go on from.

    Returns:
        Spiked, float64.

    Raises:
        ValueError: if an argument is out of range.

    Reference: arXiv 2302.06232, Section 3 (the model) and 5.1 (its numbers); notebook 00.
    """
    at_least(2, n=n)
    rank = rank_at_most(rank, d1, d2)
    share(wrong_share=wrong_share)
    std1, std2 = noise_std if isinstance(noise_std, tuple | list) else (noise_std, noise_std)
    if min(std1, std2) < 0:
        raise ValueError(f"noise_std = {noise_std}; a standard deviation is not negative")
    batch = () if draws is None else (draws,)
    generator = as_generator(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    u1, u2 = (torch.linalg.qr(normal(d, rank))[0] for d in (d1, d2))
    z, fresh = normal(n, rank), normal(n, rank)
    order = torch.rand(*batch, n, generator=generator).argsort(-1)
    wrong = order < round(wrong_share * n)
    z_tilde = fresh.where(wrong.unsqueeze(-1), z)
    x = z @ u1.mT + std1 * normal(n, d1)
    x_tilde = z_tilde @ u2.mT + std2 * normal(n, d2)
    return Spiked(x, x_tilde, u1, u2, z, z_tilde, wrong)


def as_generator(seed):
    """``seed`` itself if it is a `torch.Generator`, else a new one on the CPU seeded with it."""
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Views:
    """Two views of the same images: rows of x and x_tilde are pairs, `labels` the class of the image.

    Attributes:
        x, x_tilde: (n, d1), (n, d2) training pairs; x_test, x_tilde_test: the held-out pairs.
        labels, labels_test: (n,) int64 classes.
    """

    x: torch.Tensor
    x_tilde: torch.Tensor
    labels: torch.Tensor
    x_test: torch.Tensor
    x_tilde_test: torch.Tensor
    labels_test: torch.Tensor


def digits_views(n_train=900, seed=0):
    """1,797 real handwritten digits (8 x 8), each split into two views of 32 pixels by a checkerboard.

    Args:
        n_train: training images, 2 to 1,795; the rest, 897 by default, is held out.
        seed: int or `torch.Generator` of the random split.

    Returns:
        Views with float64 grey levels from 0 to 16, not centred.

    Raises:
        ValueError: if n_train leaves fewer than two images on either side.

    Reference: E. Alpaydin, C. Kaynak, UCI Optical Recognition of Handwritten Digits, bundled with scikit-learn.
    """
    bunch = sklearn.datasets.load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float64)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    if not 2 <= n_train <= len(images) - 2:
        raise ValueError(f"n_train = {n_train}; there are {len(images)} images, so use 2 to {len(images) - 2}")
    row, column = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    white = (row + column) % 2 == 0
    order = torch.randperm(len(images), generator=as_generator(seed))
    views = images[:, white], images[:, ~white], labels
    return Views(*(a[order[:n_train]] for a in views), *(a[order[n_train:]] for a in views))
