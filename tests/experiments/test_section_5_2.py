"""The published training on pairs and then on unpaired rows, written out."""

import pytest
import torch

from mmcl.data import spiked
from mmcl.experiments.section_5_2 import train_published
from mmcl.training import random_encoders


def test_training_is_the_published_loop_written_out():
    p = spiked(160, 8, 7, 3, seed=18)
    data = p.x[:40], p.x_tilde[:40], p.x[40:], p.x_tilde[40:]
    first, both = train_published(*data, 3, tau=0.8, lr=0.01, epochs=3, epochs_unpaired=2, batch_size=20, seed=5)
    layers = [torch.nn.Linear(d, 3, bias=False, dtype=torch.float64) for d in (8, 7)]
    for layer, g in zip(layers, random_encoders(*data[:2], 3, 5), strict=True):
        layer.weight.data = g.clone()
    optimizer = torch.optim.AdamW([layer.weight for layer in layers], lr=0.01)
    for stage, (a, b, epochs) in enumerate(((*data[:2], 3), (*data[2:], 2))):
        for _ in range(epochs):
            for i in range(0, len(a), 20):
                u, v = (torch.nn.functional.normalize(f(c[i : i + 20])) for f, c in zip(layers, (a, b), strict=True))
                s = u @ v.T / 0.8
                edge = s.diagonal() if stage == 0 else s.flatten().sort(descending=True).values[:20]
                loss = 0.8 * (s.exp().sum(1).log().sum() + s.exp().sum(0).log().sum() - 2 * edge.sum()) / 40
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        for layer, g in zip(layers, (first, both)[stage], strict=True):
            torch.testing.assert_close(layer.weight.data, g)


def test_draws_are_trained_apart():
    p = spiked(60, 8, 7, 3, draws=2, seed=19)
    changed = p.x.clone()
    changed[1] = changed[1].flip(0)
    runs = [
        train_published(
            x[:, :20], p.x_tilde[:, :20], x[:, 20:], p.x_tilde[:, 20:], 3, epochs=2, epochs_unpaired=2, batch_size=10
        )[1]
        for x in (p.x, changed)
    ]
    torch.testing.assert_close(runs[0].g1[0], runs[1].g1[0])
    assert (runs[0].g1[1] - runs[1].g1[1]).abs().max() > 1e-3


def test_rows_without_counterpart_are_not_trained_on_and_batches_larger_than_the_data_are_refused():
    p = spiked(60, 8, 7, 3, seed=20)
    known, how = (p.x[:20], p.x_tilde[:20]), dict(rank=3, epochs=1, epochs_unpaired=1, batch_size=10)
    longer = train_published(*known, p.x[20:], p.x_tilde[20:50], **how)[1]
    torch.testing.assert_close(longer, train_published(*known, p.x[20:50], p.x_tilde[20:50], **how)[1])
    with pytest.raises(ValueError, match="batch_size = 50, but there are only 40"):
        train_published(p.x[20:], p.x_tilde[20:], p.x[:20], p.x_tilde[:20], 3, epochs=0)
