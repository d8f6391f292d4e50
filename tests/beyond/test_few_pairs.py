"""Features of a modality by itself, and a choice among them that looks at validation pairs only."""

import pytest
import torch
from helpers import close, normal

from mmcl.beyond.few_pairs import FewPairs, choose, graph_map, graph_options, kernel_options, linear_options, retrieval


def views(seed=0, noise=0.3, tests=float("nan")):
    """Pairs of two modalities that share one of three classes; test rows are NaN, so that no one can look at them."""
    labels = torch.arange(60) % 3
    x, y = (torch.eye(3).double()[labels] @ normal(3, d, seed=seed + d) for d in (6, 5))
    x, y = x + noise * normal(60, 6, seed=seed + 1), y + noise * normal(60, 5, seed=seed + 2)
    cut = slice(0, 40), slice(40, 60)
    parts = [(x[c], y[c]) for c in cut]
    return FewPairs(
        *parts, (x[:5], y[:5]), (torch.full((4, 6), tests).double(), torch.full((4, 5), tests).double())
    ), labels[cut[1]]


def test_the_choice_is_best_in_validation_and_no_test_row_is_looked_at():
    good, labels = views()
    bad, _ = views(noise=30.0)
    chosen = choose(iter([({"k": 0}, bad), ({"k": 1}, good), ({"k": 2}, bad)]), labels, rank=2)
    assert chosen.setting == {"k": 1}
    assert chosen.validation == retrieval(chosen.fit, good.validation, labels, labels)
    assert chosen.validation > 0.9
    with pytest.raises(ValueError, match="no option"):
        choose(iter([]), labels, rank=2)


def test_whitened_pairs_have_unit_covariance_and_other_rows_go_the_same_way():
    features, _ = views()
    found = features.whitened(1e-12)
    for a in found.pairs:
        assert float(a.mean(0).abs().max()) < 1e-12
        close(a.T @ a / (len(a) - 1), torch.eye(a.shape[1]).double(), 1e-6)
    both = FewPairs(features.pairs, features.pairs, features.pairs, features.tests).whitened(0.1)
    assert torch.equal(both.pairs[0], both.validation[0])
    assert torch.equal(both.pairs[1], both.unpaired[1])


def test_options_are_every_combination_of_settings():
    features, _ = views(tests=0.0)
    assert len(list(linear_options(features, [2, 4], [0.1, 1.0]))) == 4
    for setting, some in kernel_options(features, [0.5, 1.0], [0.1]):
        assert set(setting) == {"width", "ridge"}
        assert some.pairs[0].shape == (40, 40)
    maps = [graph_map(normal(200, d, seed=d), dimension=4, landmarks=30, graphs=2) for d in (6, 5)]
    rows = [
        tuple(m(a) for m, a in zip(maps, both, strict=True))
        for both in (features.pairs, features.validation, features.unpaired, features.tests)
    ]
    options = list(graph_options(FewPairs(*rows), [m.eigenvalues for m in maps], [2, 4], [0.0, 2.0], [0.5]))
    assert [s["dimension"] for s, _ in options] == [2, 2, 4, 4]
    assert options[-1][1].tests[1].shape == (4, 8)


def test_smooth_features_are_multiplied_by_the_power_of_their_eigenvalue():
    x = normal(200, 6)
    m = graph_map(x, dimension=3, landmarks=30, graphs=1)
    plain, smooth = m(x), m.graphs[0](x.float(), smooth=2.0).double()
    close((plain * m.eigenvalues**2).flatten(1), smooth, 1e-5)
