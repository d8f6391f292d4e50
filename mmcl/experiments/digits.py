"""Real pairs that ship with scikit-learn: each handwritten digit seen as two views; rows put together by class."""

from dataclasses import dataclass

import sklearn.datasets
import torch
from torch import Generator, Tensor

from mmcl._checks import as_generator


@dataclass(frozen=True)
class Views:
    """Two views of the same images: rows of x and x_tilde are pairs, `labels` the class of the image.

    Attributes:
        x, x_tilde: (n, d1), (n, d2) training pairs; x_test, x_tilde_test: the held-out pairs.
        labels, labels_test: (n,) int64 classes.
    """

    x: Tensor
    x_tilde: Tensor
    labels: Tensor
    x_test: Tensor
    x_tilde_test: Tensor
    labels_test: Tensor


def digits_views(n_train: int = 900, seed: int | Generator = 0) -> Views:
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


def matched_rows(labels: Tensor, labels_tilde: Tensor, seed: int | Generator = 0) -> tuple[Tensor, Tensor]:
    """Rows of two data sets put together by class: entry i of both has the same class, and no row occurs twice.

    Args:
        labels, labels_tilde: (n,), (m,) integer classes of the rows of each modality.
        seed: int or `torch.Generator` of the choice and the order.

    Returns:
        rows, rows_tilde: (k,) indices in random order, k = sum over classes of the smaller count.

    Example:
        >>> labels, labels_tilde = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 0, 2])
        >>> rows, rows_tilde = matched_rows(labels, labels_tilde)
        >>> sorted(labels[rows].tolist()), torch.equal(labels[rows], labels_tilde[rows_tilde])
        ([0, 1], True)

    Reference: PMLR 206:4348-4380, Section 5.3, where digit c belongs to article c.
    """
    generator = as_generator(seed)
    found: tuple[list[Tensor], list[Tensor]] = [], []
    for c in torch.as_tensor(labels).unique():
        both = [(torch.as_tensor(a) == c).nonzero().squeeze(1) for a in (labels, labels_tilde)]
        for kept, rows in zip(found, both, strict=True):
            kept.append(rows[torch.randperm(len(rows), generator=generator)][: min(map(len, both))])
    rows, rows_tilde = map(torch.cat, found)
    order = torch.randperm(len(rows), generator=generator)
    return rows[order], rows_tilde[order]
