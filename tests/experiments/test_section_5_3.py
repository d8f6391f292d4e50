"""The heads of Section 5.3: architecture, loss, edges, several trainings at once."""

import pytest
import torch
from torch import nn

from mmcl.experiments import heads, section_5_3
from mmcl.experiments.heads import Descent, Streams
from mmcl.experiments.labelled import Labelled
from mmcl.losses import LOSSES

WIDTH = 6


def codes(n=40, seed=0):
    """Codes of two modalities with three classes, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    centres = 3 * torch.randn(2, 3, WIDTH, generator=generator)
    return [c[labels] + torch.randn(n, WIDTH, generator=generator) for c in centres], labels


def streams(rows, *how):
    """Streams that use the same rows of both modalities."""
    return Streams(rows, rows, how)


def as_module(stream):
    """The same head as torch layers."""
    layers = [nn.Linear(WIDTH, WIDTH) for _ in stream]
    for layer, weights in zip(layers, stream, strict=True):
        layer.weight.data, layer.bias.data = weights[:-1].T.clone(), weights[-1].clone()
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def test_a_head_is_linear_relu_linear_normalised():
    (x, _), _ = codes()
    both = heads.random_heads(2, WIDTH, seed=3)
    for stream in range(2):
        for modality in range(2):
            expected = nn.functional.normalize(as_module(both[stream, modality])(x), dim=-1)
            torch.testing.assert_close(heads.embed(both, x.unsqueeze(0), modality)[stream], expected)


def test_initial_weights_are_those_of_a_linear_layer_of_torch():
    both = heads.random_heads(500, 16)
    assert float(both.abs().max()) <= 0.25
    layer = torch.cat([nn.Linear(16, 16).weight.detach().flatten() for _ in range(200)])
    assert abs(float(both.std() / layer.std()) - 1) < 0.02


def test_the_objective_on_pairs_is_clip_and_on_edges_a_double_loop():
    generator = torch.Generator().manual_seed(1)
    z, w = (nn.functional.normalize(torch.randn(2, 7, 4, generator=generator).double(), dim=-1) for _ in range(2))
    s, tau = z @ w.mT, 0.7
    eye = torch.eye(7, dtype=s.dtype)
    torch.testing.assert_close(heads.objective(z, w, eye, tau), (LOSSES["clip"](tau=tau)(s) / tau).sum())
    edges = torch.rand(2, 7, 7, generator=generator).double()
    total = 0.0
    for b in range(2):
        for i in range(7):
            total += (s[b, i] / tau).exp().sum().log() / 14 + (s[b, :, i] / tau).exp().sum().log() / 14
            total -= sum(edges[b, i, j] * s[b, i, j] / tau for j in range(7)) / 7
    torch.testing.assert_close(heads.objective(z, w, edges, tau), total)


def test_detected_edges_are_row_and_column_maxima_and_transposed_ones_are_confused():
    s = torch.tensor([[0.9, 0.1, 0.6], [0.8, 0.3, 0.5], [0.0, 0.4, 0.1]])
    found = heads.targets(s, "detected")
    # best columns of the rows: 0, 0, 1; best rows of the columns: 0, 2, 0
    expected = torch.zeros(3, 3)
    for i, j in ((0, 0), (1, 0), (2, 1), (0, 0), (2, 1), (0, 2)):
        expected[i, j] += 0.5
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(heads.targets(s, "transposed"), expected.T)
    torch.testing.assert_close(heads.targets(s, "pairs"), torch.eye(3))
    assert float(found.sum()) == 3


def test_one_step_on_pairs_is_that_of_torch_layers_under_adamw():
    (x, w), _ = codes(n=8)
    start = heads.random_heads(1, WIDTH, seed=2)
    rows = torch.arange(8).unsqueeze(0)
    after = heads.train_heads(start, x, w, streams(rows, "pairs"), Descent(epochs=1, lr=0.01, batch_size=8))
    modules = [as_module(start[0, m]) for m in range(2)]
    optimizer = torch.optim.AdamW([p for m in modules for p in m.parameters()], lr=0.01)
    z, v = (nn.functional.normalize(m(a), dim=-1) for m, a in zip(modules, (x, w), strict=True))
    s, at = z @ v.T, torch.arange(8)
    (nn.functional.cross_entropy(s, at) / 2 + nn.functional.cross_entropy(s.T, at) / 2).backward()
    optimizer.step()
    for modality, module in enumerate(modules):
        for layer, k in ((0, 0), (1, 2)):
            torch.testing.assert_close(after[0, modality, layer, :-1].T, module[k].weight, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(after[0, modality, layer, -1], module[k].bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", heads.HOW)
def test_streams_trained_together_are_those_trained_alone(how):
    (x, w), _ = codes()
    start, rows = heads.random_heads(2, WIDTH, seed=4), torch.stack([torch.arange(40), torch.arange(40).flip(0)])
    descent = Descent(epochs=2, lr=0.01, batch_size=16)
    together = heads.train_heads(start, x, w, streams(rows, how, "pairs"), descent, seed=7)
    alone = heads.train_heads(start[:1], x, w, streams(rows[:1], how), descent, seed=7)
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-5)
    assert float((start - together).abs().max()) > 1e-3


def test_the_model_that_detects_is_the_one_handed_back():
    (x, w), _ = codes()
    start, rows, seen = heads.random_heads(1, WIDTH), torch.arange(40).unsqueeze(0), []
    other = heads.random_heads(1, WIDTH, seed=9)

    def run(answer):
        descent = Descent(epochs=3, lr=0.01, batch_size=20)
        return heads.train_heads(
            start, x, w, streams(rows, "detected"), descent, after_epoch=lambda epoch, h: seen.append(epoch) or answer
        )

    assert float((run(None) - run(other)).abs().max()) > 1e-4
    torch.testing.assert_close(run(None), run(start))
    assert seen == [0, 1, 2] * 4


def test_accuracy_is_that_of_a_double_loop():
    (x, w), labels = codes()
    both = heads.random_heads(2, WIDTH, seed=5)
    for stream, found in enumerate(heads.accuracy(both, x.unsqueeze(0), w.unsqueeze(0), labels, labels)):
        z, v = (heads.embed(both, a.unsqueeze(0), m)[stream] for m, a in enumerate((x, w)))
        right = [int(labels[max(range(40), key=lambda j: float(z[i] @ v[j]))] == labels[i]) for i in range(40)]  # noqa: B023
        assert float(found) == pytest.approx(sum(right) / 40)


@pytest.mark.parametrize(
    ("wrong", "say"),
    [({"lr": 0.0}, "lr = 0.0"), ({"tau": -1.0}, "tau = -1.0"), ({"epochs": 0}, "epochs = 0"),
     ({"batch_size": 1}, "batch_size = 1")],
)  # fmt: skip
def test_bad_numbers_of_a_descent_are_named(wrong, say):
    with pytest.raises(ValueError, match=say):
        Descent(**({"epochs": 1, "lr": 0.01} | wrong))


@pytest.mark.parametrize(("how", "say"), [(["guess"], "guess"), (["pairs", "pairs"], "1 streams")])
def test_bad_ways_of_streams_are_named(how, say):
    (x, w), _ = codes()
    walked = streams(torch.arange(40).unsqueeze(0), *how)
    with pytest.raises(ValueError, match=say):
        heads.train_heads(heads.random_heads(1, WIDTH), x, w, walked, Descent(1, 0.01))


def test_a_pass_sees_every_row_once_keeps_pairs_together_and_walks_modalities_apart_where_it_detects():
    rows = torch.stack([torch.arange(50), 100 + torch.arange(50)])
    walked = Streams(rows, rows + 1000, ["pairs", "detected"])
    batches = list(walked.batches(20, torch.Generator().manual_seed(0)))
    assert [a.shape for a, _ in batches] == [(2, 20), (2, 20), (2, 10)]
    a, b = (torch.cat(side, 1) for side in zip(*batches, strict=True))
    assert torch.equal(a.sort(1).values, rows)
    assert torch.equal(b.sort(1).values, rows + 1000)
    assert torch.equal(b[0], a[0] + 1000)
    assert int((b[1] == a[1] + 1000).sum()) < 10
    assert not torch.equal(a[0], rows[0])


def test_the_curves_rise_on_pairs_and_have_the_shapes_they_promise():
    (x, w), labels = codes(n=300, seed=6)
    (xt, wt), labels_test = codes(n=90, seed=6)
    sides = [Labelled(a, labels, b, labels_test) for a, b in ((x, xt), (w, wt))]
    stages = section_5_3.Stages(draws=2, pairs=60, epochs=40, loops=1, queries=90)
    found = section_5_3.accuracy_curves(*sides, stages)
    assert found["paired"].shape == (2, 40)
    assert all(found[how].shape == (2, section_5_3.LOOP) for how in heads.HOW)
    assert float(found["paired"][:, -1].min()) > 0.6 > 1.5 / 3
    assert found["accepted"].keys() == set(heads.HOW)
    assert len(found["seconds"]) == 2


def test_a_draw_splits_rows_of_equal_class_into_pairs_validation_pairs_and_the_rest():
    labels, labels_tilde = torch.arange(60) % 3, torch.arange(90) % 3
    one, other = (Labelled(torch.zeros(len(a), WIDTH), a, torch.zeros(1, WIDTH), a[:1]) for a in (labels, labels_tilde))
    drawn = section_5_3.draw(one, other, section_5_3.Stages(draws=2, pairs=20), seed=5)
    assert drawn.pairs.shape == drawn.validation.shape == drawn.unpaired.shape == (2, 2, 20)
    for i in range(2):
        rows, rows_tilde = torch.cat([drawn.pairs, drawn.validation, drawn.unpaired], -1)[:, i]
        assert torch.equal(labels[rows], labels_tilde[rows_tilde])
        assert len(set(rows.tolist())) == len(set(rows_tilde.tolist())) == 60
    assert not torch.equal(drawn.pairs[:, 0], drawn.pairs[:, 1])
    with pytest.raises(ValueError, match="pairs = 30, twice, of 60"):
        section_5_3.draw(one, other, section_5_3.Stages(draws=1, pairs=30))
