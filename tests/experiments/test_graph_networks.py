"""The networks of Section 5.1, their loss and their schedules."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mmcl.experiments import graph_networks
from mmcl.experiments.graph_networks import (
    PUBLISHED,
    SCHEDULES,
    Schedule,
    Training,
    as_pixels,
    convolutional,
    dense,
    first_fall,
    graph_info_nce,
    train,
)
from mmcl.graph import class_graph
from mmcl.losses import LOSSES


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, tol=1e-10):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=tol, atol=tol)


def toy(n=12, classes=3, seed=0):
    """Images whose class is the place of a bright square, and a graph of their classes."""
    labels = torch.arange(n) % classes
    images = torch.randint(0, 60, (n, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    for image, c in zip(images, labels, strict=True):
        image[9 * c : 9 * c + 9] += 150
    return images, class_graph(labels, labels)


def same_parameters(a, b, tol=0.0):
    for p, q in zip([*a.f.parameters(), *a.g.parameters()], [*b.f.parameters(), *b.g.parameters()], strict=True):
        torch.testing.assert_close(p, q, rtol=tol, atol=tol)


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


def test_the_published_loss_is_cross_entropy_of_rows_plus_columns_over_the_edges_before_the_partition():
    s, noisy = rows(8, 6), class_graph(torch.arange(8) % 2, torch.arange(6) % 2, flip=0.3)
    left = noisy * class_graph(torch.arange(8) % 2, torch.arange(6) % 2)
    both = F.cross_entropy(s, left, reduction="sum") + F.cross_entropy(s.T, left.T, reduction="sum")
    close(graph_info_nce(s, left, count=noisy.sum()), both / noisy.sum())


def test_encoders_have_the_published_layers():
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    sizes = (1 * 8 + 8 * 16 + 16 * 64 + 64 * 128) * 9 + 8 + 16 + 64 + 128 + 2 * (16 + 128)
    head = 128 * 49 * 512 + 512 * 256 + 256 * 128 + 512 + 256 + 128
    assert sum(p.numel() for p in convolutional().parameters()) == sizes + head
    layers = 784 * 512 + 512 * 256 + 256 * 128 + 3 * (512 + 256) + 128
    assert sum(p.numel() for p in dense().parameters()) == layers
    for net in (convolutional(), dense()):
        assert net(images).shape == (3, 128)


def test_the_published_rate_falls_to_3_tenths_after_11_steps_that_lower_the_loss_by_less_than_1_in_10000():
    w = torch.zeros(1, requires_grad=True)
    descent, rule = PUBLISHED.start([w])
    best, idle, rate = float("inf"), 0, 1e-3
    generator = torch.Generator().manual_seed(0)
    for t in range(400):
        loss = 12.4 - 1.5 * min(t, 100) / 100 + 0.001 * float(torch.rand(1, generator=generator))
        rule.step(loss)
        best, idle = (loss, 0) if loss < best * (1 - 1e-4) else (best, idle + 1)
        if idle > 10:
            rate, idle = rate * 0.3 if rate - rate * 0.3 > 1e-12 else rate, 0
        assert descent.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-9)
        assert t > 105 or rate == 1e-3
    assert rate < 2e-12


def test_the_published_steps_are_gradient_descent_with_momentum():
    w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    descent, rule = SCHEDULES["constant rate"].start([w])
    assert rule is None
    at, speed = w.detach().clone(), 0
    for _ in range(5):
        descent.zero_grad()
        (w**4).sum().backward()
        descent.step()
        speed = 0.9 * speed + 4 * at**3
        at = at - 1e-3 * speed
        close(w.detach(), at)


@pytest.mark.parametrize("share", [0.25, 3.0])
def test_a_count_of_edges_other_than_their_own_lengthens_the_step_by_the_ratio(share):
    images, edges = toy()
    schedule = SCHEDULES["constant rate"]
    own, other = (Training(images, images, edges, schedule, c) for c in (edges.sum(), edges.sum() / share))
    longer = replace(schedule, settings={**schedule.settings, "lr": share * 1e-3})
    same = Training(images, images, edges, longer, edges.sum())
    for _ in range(2):
        losses = [t.loss() for t in (own, other, same)]
        for t, loss in zip((own, other, same), losses, strict=True):
            t.step(loss)
        same_parameters(other, same, 1e-5)  # float32
    close(losses[1].item(), share * losses[2].item(), 1e-5)
    with pytest.raises(AssertionError):
        same_parameters(other, own, 1e-5)


def test_schedules_go_the_same_way_until_the_rule_first_cuts_and_a_frozen_run_ends(monkeypatch):
    images, edges = toy()
    monkeypatch.setattr(graph_networks, "FROZEN", 1e-5)
    monkeypatch.setattr(graph_networks, "convolutional", dense)  # quick
    ruled = replace(PUBLISHED, plateau={"factor": 0.05, "patience": 2, "threshold": 0.5, "eps": 1e-12})
    a, b = (
        train(Training(images, images, edges, s), lambda f, g: 0.5, 12, 1)
        for s in (ruled, replace(ruled, plateau=None))
    )
    cut = next(i for i, r in enumerate(a["rate"]) if r < 1e-3)
    assert cut == 4  # the first loss is the best; three that are not better
    assert a["loss"][: cut + 1] == b["loss"][: cut + 1]  # the loss at the parameters before the first shorter step
    assert a["loss"][cut + 1] != b["loss"][cut + 1]
    assert a["rate"][-1] < 1e-5 <= a["rate"][-2]
    assert a["step"][-1] < 12 == b["step"][-1]
    assert b["rate"] == [1e-3] * 13


def test_the_first_fall_of_a_linear_loss_is_exact():
    g, start = torch.tensor([0.3, -0.2], dtype=torch.float64), 5.0
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    descent, _ = PUBLISHED.start([w])
    linear = SimpleNamespace(loss=lambda: start + w @ g, descent=descent)
    expected = first_fall(linear)
    close(expected, 48.2429 * 1e-3 * float(g @ g) / start, 1e-6)
    for _ in range(11):
        descent.zero_grad()
        linear.loss().backward()
        descent.step()
    close(expected, -float(w.detach() @ g) / start)


def test_the_first_fall_is_that_of_short_first_steps_on_images():
    images, edges = toy()
    short = replace(PUBLISHED, settings={"lr": 1e-6, "momentum": 0.9}, plateau=None)
    training = Training(images, images, edges, short, edges.sum())
    expected, before = first_fall(training, 2), training.loss().double().item()
    for _ in range(2):
        training.step(training.loss())
    assert 1 - training.loss().double().item() / before == pytest.approx(expected, rel=0.05)


def test_a_pass_takes_disjoint_rows_and_columns():
    images, edges = toy()
    training = Training(images, images, edges, Schedule("SGD", {"lr": 0.1}, batch=4))
    seen = []
    training._loss = lambda x, x_tilde, part: seen.append((x, x_tilde, part))
    for _ in range(3):
        training.loss()
    for side in (0, 1):
        taken = torch.cat([s[side] for s in seen])
        assert sorted(taken.sum((1, 2, 3)).tolist()) == sorted(as_pixels(images).sum((1, 2, 3)).tolist())
    brightest = (as_pixels(images) > 150).float().mean(3).squeeze(1)  # of each class its rows of the image
    for x, x_tilde, part in seen:
        a, b = ((v > 150).float().mean(3).squeeze(1) for v in (x, x_tilde))
        assert torch.equal(part > 0, a @ b.T > 0)
    assert brightest.shape == (12, 28)


@pytest.mark.parametrize("name", ["published", "AdamW"])
def test_training_repeats_itself_and_leaves_global_random_numbers_alone(name):
    images, edges = toy()
    state, schedule = torch.get_rng_state(), replace(SCHEDULES[name], batch=SCHEDULES[name].batch and 6)

    def look(f, g):
        assert not f.training
        assert not g.training
        return f(as_pixels(images[:2])).sum().item()

    found = [train(Training(images, images, edges, schedule, seed=seed), look, 4, 3) for seed in (5, 5, 6)]
    assert found[0]["step"] == [0, 1, 3, 4]
    assert found[0] == found[1]
    assert found[0]["accuracy"] != found[2]["accuracy"]
    assert torch.equal(state, torch.get_rng_state())


def test_training_goes_on_from_a_copy_as_if_never_stopped():
    images, edges = toy()
    training = Training(images, images, edges, PUBLISHED)
    training.step(training.loss())
    other = copy.deepcopy(training)
    for each in (training, other):
        each.step(each.loss())
    same_parameters(training, other)


def test_bad_numbers_of_training_are_named():
    images, edges = toy()
    training = Training(images, images, edges, PUBLISHED)
    for wrong in ({"steps": -1}, {"steps": 1, "every": 0}):
        with pytest.raises(ValueError, match=r"(steps|every) = "):
            train(training, lambda f, g: 0, **wrong)
