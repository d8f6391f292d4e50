"""The encoders of Section 5.2 and their loss."""

import json

import pytest
import torch
import torch.nn.functional as F

from mmcl.experiments import section_5_1
from mmcl.experiments.labelled import Labelled
from mmcl.experiments.section_5_1 import (
    convolutional,
    dense,
    experiment,
    graph_info_nce,
    published_sgd,
    sweep_flips,
    train_networks,
)
from mmcl.graph import class_graph
from mmcl.losses import LOSSES


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, tol=1e-10):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=tol, atol=tol)


def toys(seed, classes=3, train_rows=24, test_rows=120):
    """Images of classes that differ by the place of a bright square."""
    generator = torch.Generator().manual_seed(seed)

    def some(n):
        labels = torch.arange(n) % classes
        images = torch.randint(0, 60, (n, 28, 28), generator=generator, dtype=torch.uint8)
        for image, c in zip(images, labels, strict=True):
            image[9 * c : 9 * c + 9, 9 * ((c + seed) % 3) : 9 * ((c + seed) % 3) + 9] += 150
        return images, labels

    return Labelled(*some(train_rows), *some(test_rows))


def test_info_nce_of_a_graph_of_pairs_is_clips_symmetric_cross_entropy():
    s, tau, own = 3 * rows(12, 12), 0.7, torch.arange(12)
    value = graph_info_nce(s, torch.eye(12), tau)
    close(value, (F.cross_entropy(s / tau, own) + F.cross_entropy(s.T / tau, own)) / 2)
    close(value, LOSSES["clip"](tau=tau)(s) / tau)


def test_info_nce_of_a_graph_is_its_double_loop_and_pulls_edges_against_softmaxes_weighted_by_degree():
    s, edges = (2 * rows(5, 7)).requires_grad_(), class_graph(torch.tensor([0, 1, 1, 2, 2]), torch.arange(7) % 3)
    value = graph_info_nce(s, edges, 0.5)
    p, q = (s.detach() / 0.5).softmax(1), (s.detach() / 0.5).softmax(0)
    listed = [(p[i, j] * q[i, j]).log() for i in range(5) for j in range(7) if edges[i, j]]
    close(value.detach(), -sum(listed) / (2 * len(listed)))
    value.backward()
    pull = edges - (edges.sum(1, keepdim=True) * p + edges.sum(0, keepdim=True) * q) / 2
    close(-s.grad, pull / (0.5 * edges.sum()))


def test_info_nce_is_taken_entry_by_entry_of_a_batch_and_is_never_below_its_entropy():
    s, edges = rows(4, 6, 6), class_graph(torch.arange(6) // 2, torch.arange(6) // 2)
    values = graph_info_nce(s, edges)
    close(values[2], graph_info_nce(s[2], edges))
    close(graph_info_nce(1e3 * edges, edges), torch.tensor(2.0, dtype=torch.float64).log())  # two partners for each
    assert bool((values > torch.tensor(2.0).log()).all())


def test_encoders_have_the_published_layers():
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    sizes = (1 * 8 + 8 * 16 + 16 * 64 + 64 * 128) * 9 + 8 + 16 + 64 + 128 + 2 * (16 + 128)
    head = 128 * 49 * 512 + 512 * 256 + 256 * 128 + 512 + 256 + 128
    assert sum(p.numel() for p in convolutional().parameters()) == sizes + head
    layers = 784 * 512 + 512 * 256 + 256 * 128 + 3 * (512 + 256) + 128
    assert sum(p.numel() for p in dense().parameters()) == layers
    for net in (convolutional(), dense()):
        assert net(images).shape == (3, 128)


@pytest.mark.parametrize("settings", [{}, {"optimizer": published_sgd, "batch_size": 100}])
def test_training_repeats_itself_looks_when_told_and_leaves_global_random_numbers_alone(settings):
    data, state = toys(0), torch.get_rng_state()
    edges = class_graph(data.labels, data.labels)
    settings = {"batch_size": 12, **settings, "epochs": 4, "every": 3, "seed": 5}

    def look(f, g):
        assert not f.training
        assert not g.training
        return f(section_5_1.as_pixels(data.rows[:2])).sum().item()

    first = train_networks(data.rows, data.rows, edges, look, **settings)
    assert first[0] == [0, 1, 2, 3, 4]
    assert first == train_networks(data.rows, data.rows, edges, look, **settings)
    assert first[1] != train_networks(data.rows, data.rows, edges, look, **{**settings, "seed": 6})[1]
    assert torch.equal(state, torch.get_rng_state())


def test_training_on_a_graph_of_classes_finds_the_classes_and_equal_graphs_are_trained_once(monkeypatch):
    monkeypatch.setattr(section_5_1, "TESTS", (30, 20))
    graphs = []
    monkeypatch.setattr(
        section_5_1,
        "train_networks",
        lambda a, b, edges, *rest, **s: graphs.append(edges) or train_networks(a, b, edges, *rest, **s),
    )
    first, second = toys(0), toys(1)
    runs = sweep_flips(first, second, (0.0, 0.1), clusters=3, seeds=[3], images=8, epochs=3, batch_size=12)
    assert [(r["flip"], r["clusters"]) for r in runs] == [(0.0, None), (0.0, 3), (0.1, None), (0.1, 3)]
    assert len(graphs) == 2  # the clean one and the noisy one: at p = 0.1 the partition of 24 images is exact
    assert float(graphs[1].sum()) != float(graphs[0].sum())
    clean, same, _, parted = (r["accuracy"] for r in runs)
    assert clean[0] < 0.7 < clean[-1]
    assert clean == same == parted
    json.dumps(runs)
    alone = experiment(first, second, 0.0, images=8, seed=3, epochs=3, batch_size=12)
    assert alone == runs[0]


def test_the_stored_file_is_json_that_names_its_command_and_holds_every_run(monkeypatch, tmp_path):
    for name in ("load_fashion_mnist", "load_mnist"):
        monkeypatch.setattr(section_5_1, name, lambda: None)
    monkeypatch.setattr(section_5_1, "experiment", lambda *rest, **s: {"images": s["images"]})
    monkeypatch.setattr(section_5_1, "sweep_flips", lambda *rest, seeds, **s: [{"seed": seeds[0]}] * 2)
    section_5_1.main(str(tmp_path / "new" / "x.json"), draws=2)
    stored = json.loads((tmp_path / "new" / "x.json").read_text())
    assert stored["command"] == f"python -m mmcl.experiments.section_5_1 {tmp_path / 'new' / 'x.json'}"
    assert stored["published"] == [{"images": 10}, {"images": 50}]
    assert [r["seed"] for r in stored["runs"]] == [0, 0, 1, 1]
    assert len(stored["date"]) == 10


def test_bad_arguments_of_training_are_named():
    data = toys(0)
    edges = class_graph(data.labels, data.labels)
    for wrong in ({"batch_size": 1}, {"epochs": -1}, {"every": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} = "):
            train_networks(data.rows, data.rows, edges, lambda f, g: 0, **wrong)
    with pytest.raises(ValueError, match="fewer than 50"):
        experiment(data, data, 0.0)
