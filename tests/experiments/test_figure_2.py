"""The second stages of Figure 2: their edges, their loss, and the published one among them."""

import json

import pytest
import torch
import torch.nn.functional as F
from helpers import normal

from mmcl.experiments import figure_2, section_5_2
from mmcl.experiments.figure_2 import STAGES, LinearTraining, block_loss, edges_of_block, second_stage
from mmcl.losses import CLIP
from mmcl.metrics import sin_theta
from mmcl.training import random_encoders
from mmcl.unpaired import UnpairedLoss, detect_edges


def test_edges_of_a_block_by_rule_4_2_are_those_of_detect_edges_and_the_largest_are_sorted():
    a, b = normal(3, 12, 4, seed=1), normal(3, 12, 4, seed=2)
    s = a @ b.mT
    identity = torch.eye(4, dtype=s.dtype)
    for one, found, x, y in zip(s, edges_of_block(s, "rule (4.2)"), a, b, strict=True):
        torch.testing.assert_close(found.nonzero(), detect_edges(x, y, identity, identity))
        largest = edges_of_block(one, "largest")
        assert largest.sum() == 12
        assert one[largest].min() > one[~largest].max()
    assert torch.equal(edges_of_block(s, "true"), torch.eye(12, dtype=torch.bool).expand(3, 12, 12))


def test_the_loss_of_a_block_is_4_1_and_on_the_diagonal_info_nce():
    s = normal(9, 9, seed=3)
    for rule in ("largest", "rule (4.2)"):
        mask = edges_of_block(s, rule)
        torch.testing.assert_close(block_loss(s, mask, 0.7), UnpairedLoss(mask.nonzero(), tau=0.7)(s))
    torch.testing.assert_close(block_loss(s, edges_of_block(s, "true"), 0.7), CLIP(0.7)(s))


@pytest.fixture(scope="module")
def trained():
    """Data, and a first stage of two passes over 100 pairs."""
    p = figure_2.spiked(300, draws=2, seed=4, **figure_2.SETTING)
    run = LinearTraining(p.x, p.x_tilde, 10, seed=5)
    run.epochs(p.x[:, :100], p.x_tilde[:, :100], STAGES["true pairs"], 50, 2)
    return p, run


def test_the_published_stages_are_the_published_training(trained):
    p, run = trained
    first, both = section_5_2.train_published(
        p.x[:, :100], p.x_tilde[:, :100], p.x[:, 100:], p.x_tilde[:, 100:], 10, epochs=2, epochs_unpaired=2, seed=5
    )
    torch.testing.assert_close(run.g1.detach(), first.g1)
    found = second_stage(run, p.x[:, 100:], p.x_tilde[:, 100:], STAGES["published notebook"], 100, 2)
    torch.testing.assert_close(found, both.g1)
    torch.testing.assert_close(run.g1.detach(), first.g1)  # the first stage is left as it was


def test_edges_among_all_rows_are_trained_on_as_pairs(trained):
    p, run = trained
    rest = p.x[:, 100:], p.x_tilde[:, 100:]
    z, z_tilde = (F.normalize(a @ g.detach().mT, dim=-1) for a, g in zip(rest, (run.g1, run.g2), strict=True))
    s, pairs = z @ z_tilde.mT, []
    for k in range(2):
        at = edges_of_block(s[k], "rule (4.2)").nonzero()
        pairs.append((rest[0][k, at[:, 0]], rest[1][k, at[:, 1]]))
    x, y = (torch.stack(a) for a in zip(*pairs, strict=True))
    found = second_stage(run, *rest, STAGES["rule (4.2), first encoders, all N"], 100, 1)
    torch.testing.assert_close(found, second_stage(run, x, y, STAGES["true pairs"], 100, 1))


def test_frozen_encoders_look_once_and_blocks_of_n_hold_n_rows(trained):
    p, run = trained
    rest = p.x[:, 100:], p.x_tilde[:, 100:]
    g = [a.detach().clone().requires_grad_() for a in (run.g1, run.g2)]
    z, z_tilde = (F.normalize(a[:, :100] @ b.mT, dim=-1) for a, b in zip(rest, g, strict=True))
    mask = edges_of_block((z @ z_tilde.mT).detach(), "rule (4.2)")
    fresh = LinearTraining(*rest, 10)
    fresh.g1.data, fresh.g2.data = (a.detach().clone() for a in g)
    start = fresh.g1.detach().clone()
    optimizer = torch.optim.AdamW(g, lr=figure_2.RATE)
    for _ in range(3):
        optimizer.zero_grad()
        z, z_tilde = (F.normalize(a[:, :100] @ b.mT, dim=-1) for a, b in zip(rest, g, strict=True))
        block_loss(z @ z_tilde.mT, mask).sum().backward()
        optimizer.step()
    stage = STAGES["rule (4.2), first encoders, blocks of n"]
    found = second_stage(fresh, rest[0][:, :100], rest[1][:, :100], stage, 100, 3)
    torch.testing.assert_close(found, g[0].detach())
    assert (found - start).abs().max() > 1e-3


def test_partners_out_of_order_hurt_and_in_order_help():
    rows = list(figure_2.study(100, draws=2, ratios=(3,), epochs=20, stages={k: STAGES[k] for k in list(STAGES)[:2]}))
    alone, aligned, shuffled = (torch.tensor(row["error"]).mean() for row in rows)
    assert aligned < alone < shuffled
    p = figure_2.spiked(400, draws=2, seed=100, **figure_2.SETTING)
    untrained = sin_theta(random_encoders(p.x, p.x_tilde, 10, 0)[0].mT, p.u1).mean()
    assert alone < untrained


def test_the_stored_file_is_whole_after_every_row(tmp_path, monkeypatch):
    monkeypatch.setattr(figure_2, "NUMBERS", (100,))
    monkeypatch.setattr(figure_2, "study", lambda n, draws: iter([dict(n=n, error=[0.5] * draws), dict(n=n, error=[])]))
    figure_2.main(tmp_path / "new" / "x.json", draws=2)
    stored = json.loads((tmp_path / "new" / "x.json").read_text("utf-8"))
    assert stored["rows"] == [dict(n=100, error=[0.5, 0.5]), dict(n=100, error=[])]
    assert stored["command"].startswith("python -m mmcl.experiments.section_5_2 ")
