"""Distances of subspaces, retrieval and probes, against scipy and naive loops."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from helpers import normal
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score

from mmcl.metrics import (
    class_accuracy,
    mean_average_precision,
    median_rank,
    orthonormal_columns,
    partner_ranks,
    probe_risk,
    recall_at_k,
    sin_theta,
    top_k_accuracy,
)


@pytest.mark.parametrize(("d", "r"), [(5, 1), (9, 4), (7, 6), (6, 6)])
def test_sin_theta_is_the_norm_of_the_sines_of_scipys_angles(d, r):
    u, v = normal(3, d, r, seed=1), normal(3, d, r, seed=2)
    for a, b, measured in zip(u, v, sin_theta(u, v), strict=True):
        expected = math.sqrt(sum(math.sin(t) ** 2 for t in scipy.linalg.subspace_angles(a.numpy(), b.numpy())))
        assert abs(float(measured) - expected) < 1e-12


@pytest.mark.parametrize("angle", [1e-12, 1e-9, 1e-4, 1.0])
def test_sin_theta_resolves_tiny_angles(angle):
    q = torch.linalg.qr(normal(8, 8, seed=3))[0]
    u, v = q[:, :2], q[:, :2].clone()
    v[:, 0] = math.cos(angle) * q[:, 0] + math.sin(angle) * q[:, 5]
    assert abs(float(sin_theta(u, v)) - math.sin(angle)) < 1e-15 + 1e-6 * min(angle, 1e-9)


def test_sin_theta_is_root_r_for_orthogonal_and_zero_for_equal_subspaces():
    q = torch.linalg.qr(normal(9, 9, seed=4))[0]
    assert abs(float(sin_theta(q[:, :4], q[:, 4:8])) - 2) < 1e-14
    assert float(sin_theta(q[:, :4], q[:, :4] @ normal(4, 4, seed=5))) < 1e-13


def test_sin_theta_sees_only_the_column_spaces_and_is_symmetric():
    u, v = normal(2, 3, 9, 4, seed=6), normal(2, 3, 9, 4, seed=7)
    a, b = normal(4, 4, seed=8), 1e3 * normal(4, 4, seed=9)
    torch.testing.assert_close(sin_theta(u @ a, v @ b), sin_theta(u, v), rtol=1e-10, atol=0)
    torch.testing.assert_close(sin_theta(v, u), sin_theta(u, v), rtol=1e-12, atol=0)


def test_orthonormal_columns_span_the_same_space():
    u = normal(7, 3, seed=10)
    q = orthonormal_columns("u", u)
    torch.testing.assert_close(q.mT @ q, torch.eye(3, dtype=u.dtype), rtol=0, atol=1e-14)
    torch.testing.assert_close(q @ q.mT @ u, u, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("u", "v", "message"),
    [
        (normal(3, 5, seed=11), normal(3, 5, seed=11), "u is 3 x 5, more columns than rows"),
        (torch.ones(5, 2), normal(5, 2, seed=11), "2 columns of u are linearly dependent"),
        (torch.zeros(5, 1), normal(5, 1, seed=11), "1 columns of u are linearly dependent"),
        (normal(5, 2, seed=11), normal(5, 3, seed=11), r"u is \(5, 2\) and v \(5, 3\)"),
        (normal(5, 2, seed=11), normal(4, 2, seed=11), r"u is \(5, 2\) and v \(4, 2\)"),
        (normal(5, 2, seed=11), normal(5, 2, seed=11) / 0, "v holds 10 NaN or infinite"),
        (normal(5, seed=11), normal(5, seed=11), r"u has shape \(5,\)"),
    ],
    ids=range(7),
)
def test_sin_theta_refuses_what_is_no_pair_of_bases(u, v, message):
    with pytest.raises(ValueError, match=message):
        sin_theta(u, v)


def naive_top_k(z, z_tilde, k, targets):
    hits = 0
    for i, row in enumerate(z):
        cosine = [float(row @ other / row.norm() / other.norm()) for other in z_tilde]
        own = cosine.pop(int(targets[i]))
        hits += sum(c >= own for c in cosine) < k
    return hits / len(z)


@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_top_k_accuracy_is_the_naive_loop(k, monkeypatch):
    z = normal(3, 12, 4, seed=12)
    z_tilde = (z + normal(3, 12, 4, seed=13)) * normal(3, 12, 1, seed=14).exp()
    expected = [naive_top_k(a, b, k, range(12)) for a, b in zip(z, z_tilde, strict=True)]
    assert top_k_accuracy(z, z_tilde, k).tolist() == expected
    assert k == 12 or len({0.0, 1.0} & set(expected)) == 0


@pytest.mark.parametrize("k", [1, 3])
def test_targets_say_which_candidate_is_right(k):
    generator = torch.Generator().manual_seed(15)
    z_tilde = normal(2, 20, 4, seed=16)
    targets = torch.randint(20, (2, 9), generator=generator)
    z = z_tilde.gather(1, targets.unsqueeze(-1).expand(2, 9, 4)) + 0.7 * normal(2, 9, 4, seed=17)
    expected = [naive_top_k(*entry[:2], k, entry[2]) for entry in zip(z, z_tilde, targets, strict=True)]
    assert top_k_accuracy(z, z_tilde, k, targets).tolist() == expected
    one = top_k_accuracy(z, z_tilde, k, targets[0].to(torch.int32).numpy())
    assert float(one[0]) == expected[0]


def test_more_rows_than_one_block_are_all_counted():
    z = normal(2500, 2, seed=18)
    z_tilde = z + 1e-9 * normal(2500, 2, seed=19)
    wrong = torch.arange(2500).roll(1)
    assert float(top_k_accuracy(z, z_tilde[:, :], k=25)) == 1
    shown = float(top_k_accuracy(z, z_tilde, 25, wrong))
    unit = torch.nn.functional.normalize(z, dim=-1), torch.nn.functional.normalize(z_tilde, dim=-1)
    similarity = unit[0] @ unit[1].mT
    rank = (similarity >= similarity[torch.arange(2500), wrong].unsqueeze(1)).sum(1)
    assert shown == float((rank <= 25).double().mean())


def test_ties_never_help():
    z = normal(6, 3, seed=20)
    assert float(top_k_accuracy(z, torch.ones(6, 3, dtype=z.dtype))) == 0
    assert float(top_k_accuracy(z, torch.ones(6, 3, dtype=z.dtype), k=5)) == 0
    assert float(top_k_accuracy(z, torch.zeros(6, 3, dtype=z.dtype), k=6)) == 1
    assert float(top_k_accuracy(torch.zeros(6, 3), torch.eye(6, 3), k=1)) == 0
    doubled = torch.eye(3).repeat(2, 1)
    assert float(top_k_accuracy(torch.eye(3), doubled, k=1)) == 0
    assert float(top_k_accuracy(torch.eye(3), doubled, k=2)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k = 0"),
        ({"k": 1.5}, "k = 1.5"),
        ({"k": 7}, "k = 7; it must be an integer from 1 to 6"),
        ({"z": torch.ones(8, 3)}, "8 queries and 6 candidates"),
        ({"targets": [0, 1, 2, 3, 4, 6]}, "targets run from 0 to 6; allowed are 0 to 5"),
        ({"targets": [0, 1, 2, 3, 4, -1]}, "targets run from -1 to 4"),
        ({"targets": [0, 1]}, r"shape \(2,\); give 6 indices"),
        ({"targets": [0.5] * 6}, "targets = .*; give integers"),
        ({"z": torch.ones(6, 4)}, r"z is \(6, 4\) and z_tilde \(6, 3\)"),
        ({"z": torch.ones(2, 6, 3)}, r"z is \(2, 6, 3\) and z_tilde \(6, 3\)"),
        ({"z": torch.full((6, 3), torch.nan)}, "z holds 18 NaN"),
        ({"z_tilde": torch.full((6, 3), torch.inf)}, "z_tilde holds 18 NaN or infinite"),
    ],
    ids=str,
)
def test_top_k_accuracy_refuses_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        top_k_accuracy(**({"z": torch.ones(6, 3), "z_tilde": torch.ones(6, 3)} | arguments))


@pytest.mark.parametrize("k", [1, 3])
def test_class_accuracy_is_that_of_a_double_loop(k):
    generator = torch.Generator().manual_seed(0)
    z, z_tilde = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (30, 20))
    labels, labels_tilde = (torch.randint(3, (n,), generator=generator) for n in (30, 20))
    hits = 0
    for i in range(30):
        cosine = [float(z[i] @ w / z[i].norm() / w.norm()) for w in z_tilde]
        hits += sum(int(labels_tilde[j] == labels[i]) for j in np.argsort(cosine)[-k:])
    assert class_accuracy(z, z_tilde, labels, labels_tilde, k) == pytest.approx(hits / (30 * k))
    with pytest.raises(ValueError, match="a label per row"):
        class_accuracy(z, z_tilde, labels[:5], labels_tilde)
    with pytest.raises(ValueError, match="k = 21"):
        class_accuracy(z, z_tilde, labels, labels_tilde, 21)


def test_probe_is_scikit_learns_ridge_and_counts_wrong_signs():
    generator = torch.Generator().manual_seed(6)
    rows = torch.randn(3, 60, 4, generator=generator, dtype=torch.float64) + 2
    targets = rows[..., :2] - 1.5 + 0.5 * torch.randn(3, 60, 2, generator=generator, dtype=torch.float64)
    risk, wrong = probe_risk(rows[:, :20], targets[:, :20], rows[:, 20:], targets[:, 20:], ridge=0.1)
    for k in range(3):
        penalty = 0.1 * float(rows[k, :20].var(0, correction=0).mean()) * 20
        model = Ridge(alpha=penalty).fit(rows[k, :20], targets[k, :20])
        predicted, true = model.predict(rows[k, 20:]), targets[k, 20:].numpy()
        assert abs(float(risk[k]) - ((predicted - true) ** 2).mean()) < 1e-12
        assert float(wrong[k]) == (np.sign(predicted) != np.sign(true)).mean()


def test_a_probe_depends_on_the_right_singular_space_of_the_encoder_only():
    x, targets, g, a = normal(50, 8, seed=20), normal(50, 2, seed=21), normal(3, 8, seed=22), normal(3, 3, seed=23)

    def risk(g):
        h = x @ g.mT
        return torch.stack(probe_risk(h[:30], targets[:30], h[30:], targets[30:], ridge=0.0))

    torch.testing.assert_close(risk(1e3 * a @ g), risk(g), rtol=1e-9, atol=0)
    torch.testing.assert_close(risk(torch.linalg.svd(g, full_matrices=False)[2]), risk(g), rtol=1e-9, atol=0)
    assert float((risk(normal(3, 8, seed=24)) - risk(g)).abs().max()) > 1e-3


# ------------------------------------------------------------------ retrieval with classes


def labelled(seed, n=30, m=20, classes=4):
    generator = torch.Generator().manual_seed(seed)
    z, z_tilde = normal(n, 3, seed=seed), normal(m, 3, seed=seed + 1)
    return z, z_tilde, *(torch.randint(classes, (k,), generator=generator) for k in (n, m))


@pytest.mark.parametrize("seed", [30, 40])
def test_mean_average_precision_is_scikit_learns_query_by_query(seed):
    z, z_tilde, labels, labels_tilde = labelled(seed)
    z_tilde = torch.cat([z_tilde, z_tilde[:5]])  # ties
    labels_tilde = torch.cat([labels_tilde, labels_tilde.flip(0)[:5]])
    cosine = (z / z.norm(dim=1, keepdim=True)) @ (z_tilde / z_tilde.norm(dim=1, keepdim=True)).mT
    expected = [
        average_precision_score((labels_tilde == label).numpy(), row.numpy())
        for label, row in zip(labels, cosine, strict=True)
    ]
    found = mean_average_precision(z, z_tilde, labels, labels_tilde)
    assert found == pytest.approx(np.mean(expected), abs=1e-12)


def test_mean_average_precision_of_partners_is_that_of_one_class_a_row():
    z = normal(40, 3, seed=50)
    z_tilde = z + normal(40, 3, seed=51)
    alone = mean_average_precision(z, z_tilde)
    assert alone == pytest.approx(mean_average_precision(z, z_tilde, range(40), range(40)), abs=1e-12)
    assert alone == pytest.approx(float(np.mean(1 / partner_ranks(z, z_tilde).numpy())), abs=1e-12)


def test_recall_is_the_share_of_ones_own_among_the_first_k_by_a_double_loop():
    z, z_tilde, labels, labels_tilde = labelled(60)
    for k in (1, 3, 20):
        shares = []
        for row, label in zip(z, labels, strict=True):
            cosine = [float(row @ w / row.norm() / w.norm()) for w in z_tilde]
            first = np.argsort(cosine)[::-1][:k].copy()
            shares.append(float((labels_tilde[first] == label).sum() / (labels_tilde == label).sum()))
        assert recall_at_k(z, z_tilde, k, labels, labels_tilde) == pytest.approx(np.mean(shares), abs=1e-6)
    assert recall_at_k(z[:20], z_tilde, 3) == float(top_k_accuracy(z[:20], z_tilde, 3))


def test_ranks_of_partners_are_scipys_and_their_median_numpys():
    z = normal(2, 31, 3, seed=70)
    z_tilde = z + normal(2, 31, 3, seed=71)
    unit = [torch.nn.functional.normalize(a, dim=-1) for a in (z, z_tilde)]
    cosine = (unit[0] @ unit[1].mT).numpy()
    expected = [[int(scipy.stats.rankdata(-row)[i]) for i, row in enumerate(entry)] for entry in cosine]
    assert partner_ranks(z, z_tilde).tolist() == expected
    assert median_rank(z, z_tilde).tolist() == [float(np.median(e)) for e in expected]
    assert float(median_rank(z[0, :30], z_tilde[0])) == float(np.median(expected[0][:30]))


def test_queries_of_a_class_that_no_candidate_has_are_left_out():
    z, z_tilde = torch.eye(3), torch.eye(3)
    assert mean_average_precision(z, z_tilde, [0, 1, 7], [0, 1, 1]) == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [0, 1, 2]}, "labels of one side only"),
        ({"labels": [0, 1], "labels_tilde": [0, 1, 2]}, "a label per row"),
        ({"labels": [5, 6, 7], "labels_tilde": [0, 1, 2]}, "no query has a candidate of its class"),
        ({"z": torch.eye(3) / 0}, "z holds 9 NaN"),
        ({"k": 4}, "k = 4; it must be an integer from 1 to 3"),
        ({"k": 0}, "k = 0"),
    ],
    ids=str,
)
def test_retrieval_refuses_what_does_not_fit(arguments, message):
    given = {"z": torch.eye(3), "z_tilde": torch.eye(3), "k": 1} | arguments
    with pytest.raises(ValueError, match=message):
        recall_at_k(**given)
    if "k" not in arguments:
        del given["k"]
        with pytest.raises(ValueError, match=message):
            mean_average_precision(**given)
