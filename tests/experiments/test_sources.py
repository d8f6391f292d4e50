"""Two modalities that share a class, and their principal components."""

import pytest
import torch

from mmcl.experiments import sources
from mmcl.experiments.images import Unavailable
from mmcl.experiments.sources import components, load_source


def unavailable():
    raise Unavailable("not here")


def test_without_mnist_auto_takes_the_digits_and_says_why_and_mnist_itself_raises(monkeypatch):
    monkeypatch.setattr(sources, "load_mnist", unavailable)
    found = load_source("auto")
    assert (found.real, found.note[:24]) == (False, "MNIST and Fashion-MNIST ")
    assert load_source("digits").note == ""
    with pytest.raises(Unavailable):
        load_source("mnist")
    with pytest.raises(ValueError, match="kind = 'cifar'"):
        load_source("cifar")


def test_the_two_views_of_a_digit_cover_its_board_once():
    found = load_source("digits", seed=3)
    white, black = (found.picture(side, view.rows[5]) for side, view in enumerate((found.first, found.second)))
    assert bool((white.isnan() ^ black.isnan()).all())
    assert torch.equal(found.first.labels, found.second.labels)


def test_components_are_white_on_the_training_rows_and_the_same_map_takes_the_test_rows():
    images = load_source("digits").first
    found = components(images, 6)
    torch.testing.assert_close(torch.cov(found.rows.T), torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-8)
    design = torch.cat([images.rows, torch.ones(len(images.rows), 1)], 1).double()
    map_ = torch.linalg.pinv(design, rtol=1e-10) @ found.rows  # some pixels are constant
    again = torch.cat([images.rows_test, torch.ones(len(images.rows_test), 1)], 1).double() @ map_
    torch.testing.assert_close(again, found.rows_test, rtol=0, atol=1e-6)
