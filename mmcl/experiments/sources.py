"""Two modalities that share nothing but a class: MNIST with Fashion-MNIST, or digits that ship with scikit-learn."""

from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from mmcl._checks import at_least, one_of
from mmcl.experiments.digits import digits_views
from mmcl.experiments.images import Unavailable, load_fashion_mnist, load_mnist
from mmcl.experiments.labelled import Labelled

KINDS = ("auto", "mnist", "digits")


@dataclass(frozen=True)
class Source:
    """Two modalities of images whose classes correspond.

    Attributes:
        first, second: the modalities; images (n, 28, 28) uint8 of MNIST and Fashion-MNIST, or views (n, 32) of digits.
        names: what the modalities are called.
        real: whether they are MNIST and Fashion-MNIST.
        note: why they are not, where they were asked for by "auto"; else "".
    """

    first: Labelled
    second: Labelled
    names: tuple[str, str]
    real: bool
    note: str = ""

    def picture(self, side: int, row: Tensor) -> Tensor:
        """A row as an image (height, width); a view of a digit lies on the squares it was taken from, NaN elsewhere."""
        if self.real:
            return row
        board = torch.full((8, 8), torch.nan)
        board[(torch.arange(8).unsqueeze(1) + torch.arange(8)) % 2 == side] = row.float()
        return board


def load_source(kind: str = "auto", rows: int = 60_000, tests: int = 10_000, seed: int = 0) -> Source:
    """The two modalities of Sections 5.1 and 5.3: digit c of the first belongs to class c of the second.

    Args:
        kind: "mnist", "digits" (two views of the same 8 x 8 digits, then taken as two modalities), or "auto": MNIST
            with Fashion-MNIST where they can be found or downloaded (see `mmcl.experiments.images.load_mnist`).
        rows, tests: training and test images used of each modality, at most; the digits have 900 and 897.
        seed: of the split of the digits.

    Returns:
        Source.

    Raises:
        ValueError: if there is no such kind, or a number is out of range.
        Unavailable: if "mnist" is asked for and cannot be had.

    Example:
        >>> source = load_source("digits")
        >>> source.names, source.first.rows.shape
        (('digits, white squares', 'digits, black squares'), torch.Size([900, 32]))
    """
    one_of(KINDS, kind=kind)
    at_least(1, rows=rows, tests=tests)
    note = ""
    if kind != "digits":
        try:
            first, second = (_cut(load(), rows, tests) for load in (load_mnist, load_fashion_mnist))
            return Source(first, second, ("MNIST", "Fashion-MNIST"), real=True)
        except Unavailable:
            if kind == "mnist":
                raise
            note = (
                "MNIST and Fashion-MNIST can be neither found nor downloaded: put their official files into MNIST/raw "
                "and FashionMNIST/raw of a folder and set MMCL_DATA to it"
            )
    v = digits_views(seed=seed)
    first = Labelled(v.x, v.labels, v.x_test, v.labels_test)
    second = Labelled(v.x_tilde, v.labels, v.x_tilde_test, v.labels_test)
    return Source(first, second, ("digits, white squares", "digits, black squares"), real=False, note=note)


def _cut(images: Labelled, rows: int, tests: int) -> Labelled:
    return Labelled(images.rows[:rows], images.labels[:rows], images.rows_test[:tests], images.labels_test[:tests])


def components(images: Labelled, count: int) -> Labelled:
    """The images by their leading principal components, of mean 0 and variance 1 on the training rows.

    Args:
        images: rows (n, ...), flattened here.
        count: components, at most one less than a row has entries.

    Returns:
        Labelled with rows (n, count) and rows_test (m, count), float64.
    """
    at_least(1, count=count)
    flat, flat_test = (a.reshape(len(a), -1).double().numpy() for a in (images.rows, images.rows_test))
    pca = PCA(min(count, flat.shape[1] - 1), whiten=True, svd_solver="covariance_eigh").fit(flat)
    rows, rows_test = (torch.from_numpy(pca.transform(a)) for a in (flat, flat_test))
    return Labelled(rows, images.labels, rows_test, images.labels_test)
