"""Section 5.1 with networks: runs and their stored file."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from mmcl import graph
from mmcl.experiments import graph_networks, section_5_1
from mmcl.experiments.graph_networks import SCHEDULES
from mmcl.experiments.labelled import Labelled
from mmcl.experiments.section_5_1 import Setting, experiment, main, prepare


@pytest.fixture(autouse=True)
def _few_tests(monkeypatch):
    monkeypatch.setattr(section_5_1, "TESTS", (10, 20))


def toys(seed, classes=3, train_rows=24, test_rows=90):
    """Images of classes that differ by the place of a bright square."""
    generator = torch.Generator().manual_seed(seed)

    def some(n):
        labels = torch.arange(n) % classes
        images = torch.randint(0, 60, (n, 28, 28), generator=generator, dtype=torch.uint8)
        for image, c in zip(images, labels, strict=True):
            image[9 * c : 9 * c + 9, 9 * ((c + seed) % 3) : 9 * ((c + seed) % 3) + 9] += 150
        return images, labels

    return Labelled(*some(train_rows), *some(test_rows))


def graphs_and_counts(monkeypatch, **settings):
    """What each of the settings trains on."""
    seen = []

    def only_look(x, x_tilde, edges, schedule, count, seed):
        seen.append((x, edges, count))

    monkeypatch.setattr(section_5_1, "Training", only_look)
    prepare(toys(0), toys(1), Setting(0.1, images=8, **settings))
    return seen[0]


def test_the_loss_is_over_the_edges_before_the_partition_and_blocks_are_whole(monkeypatch):
    _, noisy, count = graphs_and_counts(monkeypatch)
    _, blocks, count_after = graphs_and_counts(monkeypatch, clusters=3, partition="blocks")
    assert count == count_after == float(noisy.sum())
    assert float(blocks.sum()) == 3 * 8 * 8 != count  # exact at p' = 0.1
    assert graphs_and_counts(monkeypatch, schedule="AdamW", rows="random")[2] is None


def test_algorithm_2_is_given_the_noisy_graph_and_its_answer_is_trained_on(monkeypatch):
    noisy = graphs_and_counts(monkeypatch)[1]
    given = []
    monkeypatch.setattr(
        graph, "algorithm_2", lambda e, k, seed: given.append((e, k, seed)) or torch.tril(e), raising=False
    )
    _, left, count = graphs_and_counts(monkeypatch, clusters=3, partition="algorithm 2", seed=0)
    assert torch.equal(given[0][0], noisy)
    assert given[0][1:] == (3, 0)
    assert torch.equal(left, torch.tril(noisy))
    assert count == float(noisy.sum())


def test_rows_are_the_first_of_each_class_or_random_ones(monkeypatch):
    data = toys(0, train_rows=60)
    for rows, equal in (("first", True), ("random", False)):
        seen = []
        monkeypatch.setattr(section_5_1, "Training", lambda x, *rest, seen=seen: seen.append(x))
        prepare(data, data, Setting(0.0, images=8, rows=rows))
        first = sorted(data.rows[:24].flatten(1).sum(1).tolist())
        assert (sorted(seen[0].flatten(1).sum(1).tolist()) == first) is equal


def test_training_on_a_graph_of_classes_finds_the_classes_and_equal_graphs_are_trained_once():
    first, second, known = toys(0), toys(1), {}
    setting = Setting(0.0, schedule="AdamW", rows="random", images=8, steps=6, seed=3)
    clean = experiment(first, second, setting, known)
    parted = experiment(first, second, replace(setting, flip=0.1, clusters=3, partition="blocks"), known)
    assert len(known) == 1  # at p' = 0.1 the partition of 24 images is exact
    assert clean["accuracy"] == parted["accuracy"]
    assert clean["accuracy"][0] < 0.7 < clean["accuracy"][-1]
    assert clean["step"] == [0, 1, 5, 6]
    assert (parted["flip"], parted["clusters"], parted["partition"]) == (0.1, 3, "blocks")
    assert (clean["clusters"], clean["partition"]) == (None, None)
    json.dumps(parted)


def toy_runs():
    one = Setting(0.1, steps=2, images=8)
    return [one, replace(one, schedule="constant rate"), replace(one, clusters=3, partition="blocks")]


def test_a_file_made_in_two_goes_is_the_file_made_in_one(monkeypatch, tmp_path):
    for name, seed in (("load_fashion_mnist", 0), ("load_mnist", 1)):
        monkeypatch.setattr(section_5_1, name, lambda seed=seed: toys(seed))
    monkeypatch.setattr(graph_networks, "convolutional", graph_networks.dense)  # quick
    monkeypatch.setattr(section_5_1, "runs", toy_runs)
    monkeypatch.setattr(section_5_1, "starts", lambda: toy_runs()[:1])
    whole, parts = tmp_path / "new" / "x.json", tmp_path / "parts.json"
    main(str(whole))
    made = []

    def stops(*rest, **progress):
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(rest)
        return experiment(*rest, **progress)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(section_5_1, "experiment", stops)
        with pytest.raises(KeyboardInterrupt):
            main(str(parts))
    begun = json.loads(parts.read_text())
    assert len(begun["runs"]) == 1
    begun["runs"].append({"flip": 0.7})  # of a plan that was changed: it goes
    parts.write_text(json.dumps(begun))
    main(str(parts), resume=True)
    a, b = (json.loads(path.read_text()) for path in (whole, parts))
    assert (a["starts"], a["runs"]) == (b["starts"], b["runs"])
    assert (len(a["starts"]), len(a["runs"])) == (1, 3)
    assert a["command"] == f"python -m mmcl.experiments.section_5_1 {whole}"
    monkeypatch.setattr(section_5_1, "experiment", lambda *rest, **progress: pytest.fail("made twice"))
    main(str(parts), resume=True)
    assert [p.name for p in tmp_path.glob("*.part")] == []


def test_every_start_and_run_of_the_stored_file_is_sound_and_there_once():
    for settings in (section_5_1.starts(), section_5_1.runs()):
        assert len(set(settings)) == len(settings)
        assert all((s.clusters is None) == (s.partition is None) for s in settings)
        assert all(s.schedule in SCHEDULES and s.partition in (None, *section_5_1.DENOISED) for s in settings)


def test_the_stored_file_holds_what_the_command_makes():
    stored = json.loads((Path(__file__).parents[2] / "notebooks" / "stored" / "section_5_1.json").read_text())
    for name, settings in (("starts", section_5_1.starts()), ("runs", section_5_1.runs())):
        made = [{k: run[k] for k in asdict(settings[0])} for run in stored[name]]
        assert all(m in [asdict(s) for s in settings] for m in made)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="fewer than 50"):
        prepare(toys(0), toys(1), Setting(0.0))
    with pytest.raises(ValueError, match="clusters = 3, partition = None"):
        prepare(toys(0), toys(1), Setting(0.0, clusters=3, images=8))
