"""The two views of the digits, and rows put together by class."""

import pytest
import sklearn.datasets
import torch

from mmcl.experiments.digits import digits_views, matched_rows


def whole(views):
    x, x_tilde = torch.cat([views.x, views.x_test]), torch.cat([views.x_tilde, views.x_tilde_test])
    return x, x_tilde, torch.cat([views.labels, views.labels_test])


def test_digits_views_are_a_partition_of_the_1797_images_into_complementary_pixels():
    views = digits_views()
    assert views.x.shape == views.x_tilde.shape == (900, 32)
    assert views.x_test.shape == views.x_tilde_test.shape == (897, 32)
    x, x_tilde, labels = whole(views)
    images = torch.zeros(1797, 8, 8, dtype=torch.float64)
    cells = [(i, j) for i in range(8) for j in range(8)]
    for view, parity in ((x, 0), (x_tilde, 1)):
        for column, (i, j) in enumerate(c for c in cells if sum(c) % 2 == parity):
            images[:, i, j] = view[:, column]
    bunch = sklearn.datasets.load_digits()
    rebuilt = [(label, *image) for label, image in zip(labels.tolist(), images.flatten(1).tolist(), strict=True)]
    original = [(int(t), *row) for t, row in zip(bunch.target, bunch.data.tolist(), strict=True)]
    assert sorted(rebuilt) == sorted(original)
    assert rebuilt != original


def test_digits_views_split_by_the_seed():
    a, b, c = digits_views(100, seed=1), digits_views(100, seed=1), digits_views(100, seed=2)
    assert (a.x.shape[0], a.x_test.shape[0]) == (100, 1697)
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.labels_test, b.labels_test)
    assert not torch.equal(a.x, c.x)


@pytest.mark.parametrize("n_train", [1, 0, -5, 1796, 10_000])
def test_digits_views_refuse_a_split_without_two_images_on_either_side(n_train):
    with pytest.raises(ValueError, match=f"n_train = {n_train}; there are 1797 images"):
        digits_views(n_train)


def test_matched_rows_agree_in_class_and_occur_once():
    generator = torch.Generator().manual_seed(0)
    labels, labels_tilde = (torch.randint(4, (n,), generator=generator) for n in (50, 70))
    rows, rows_tilde = matched_rows(labels, labels_tilde, seed=1)
    assert torch.equal(labels[rows], labels_tilde[rows_tilde])
    counts = [torch.bincount(a, minlength=4) for a in (labels, labels_tilde)]
    assert len(rows) == int(torch.minimum(*counts).sum())
    assert len(set(rows.tolist())) == len(set(rows_tilde.tolist())) == len(rows)
    assert len(labels[rows].unique_consecutive()) > 10  # in random order, not by class
    assert torch.equal(matched_rows(labels, labels_tilde, seed=1)[0], rows)
    assert not torch.equal(matched_rows(labels, labels_tilde, seed=2)[0], rows)
