"""Labelled rows of one modality, split into those to train on and those to test on."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Labelled:
    """One modality: rows with their classes, and test rows with theirs.

    Attributes:
        rows: (n, ...) images, codes or features to train on.
        labels: (n,) int64 classes.
        rows_test: (m, ...) rows that nothing is trained on.
        labels_test: (m,) int64 classes.
    """

    rows: Tensor
    labels: Tensor
    rows_test: Tensor
    labels_test: Tensor
