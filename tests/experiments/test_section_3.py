"""The settings of Theorem 3.1, the errors measured in them, and the axis that Lemma 7.1 excludes."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from mmcl.data import spiked
from mmcl.experiments.monte_carlo import errors
from mmcl.experiments.section_3 import (
    ModelSetting,
    encoder_errors,
    errors_over_n,
    methods,
    one_signal_axis,
    sweep,
    theorem_3_1_settings,
)
from mmcl.theory import masked_bias


def test_epsilon_of_a_setting_is_the_printed_formula_with_its_effective_ranks():
    s = ModelSetting(n=500, d1=6, d2=9, rank=2, decay=1.0, noise_std=0.3)
    ranks = 2 + sum(sum(1 / j for j in range(1, d + 1)) for d in (6, 9))  # variances 1/j: tr A/||A|| is a harmonic sum
    assert s.epsilon == pytest.approx(math.sqrt(ranks * math.log(515) / 500))
    assert ModelSetting(noise_std=0.1).epsilon == pytest.approx(
        ModelSetting(noise_std=2.0).epsilon
    )  # a ratio: free of the scale


def test_signal_and_noise_of_a_setting_have_the_condition_number_and_the_spectrum_that_it_names():
    s = ModelSetting(d1=4, d2=3, rank=3, decay=0.5, noise_std=2.0, condition=16)
    assert float(s.signal.max() / s.signal.min()) == pytest.approx(16)
    assert float(s.signal.max()) == 1
    for a, d in zip(s.covariances, (4, 3), strict=True):
        assert a.diagonal().tolist() == pytest.approx([4 * j**-0.5 for j in range(1, d + 1)])
        assert a.sum() == a.diagonal().sum()


def test_every_quantity_of_the_theorem_is_varied_and_the_noise_is_never_stronger_than_the_signal():
    settings = theorem_3_1_settings()
    values = [asdict(s) for s in settings]
    for name in ("n", "d1", "d2", "rank", "right_share", "noise_std", "decay"):
        assert len({v[name] for v in values}) >= 3
    assert all(s.condition == 1 and s.noise_std <= 1 for s in settings)
    assert len(set(settings)) == len(settings)


@pytest.mark.parametrize("setting", [ModelSetting(n=400, d1=12, d2=7, rank=3, right_share=0.6, condition=2.0)])
def test_errors_of_both_encoders_are_those_of_numpys_singular_vectors(setting):
    measured, _ = encoder_errors(setting, draws=3, seed=4)
    p = spiked(400, 12, 7, 3, wrong_share=0.4, noise=setting.covariances, signal=setting.signal, draws=3, seed=4)
    for k in range(3):
        u, _, vt = np.linalg.svd(np.cov(p.x[k].numpy().T, p.x_tilde[k].numpy().T)[:12, 12:])
        for side, (found, true) in enumerate(((u[:, :3], p.u1[k]), (vt[:3].T, p.u2[k]))):
            cosines = np.linalg.svd(found.T @ true.numpy())[1]
            assert float(measured[side, k]) == pytest.approx(math.sqrt(3 - (cosines**2).sum()), abs=1e-7)


def test_a_long_setting_in_parts_has_the_first_order_error(monkeypatch):
    setting = ModelSetting(n=2000, d1=10, d2=15, rank=2, noise_std=0.3)
    monkeypatch.setattr("mmcl.experiments.section_3.ENTRIES", 2000 * 25 * 7)  # seven draws at a time
    measured, predicted = encoder_errors(setting, draws=40, seed=1)
    assert measured.shape == predicted.shape == (2, 40)
    ratio = (measured.square().mean(1) / predicted.square().mean(1)).sqrt()
    # 40 draws of an error with 2 (d - 2) >= 16 terms: known to 1/sqrt(2 * 16 * 40) = 3 %
    assert float((ratio - 1).abs().max()) < 0.14


def test_a_sweep_is_its_settings_one_by_one():
    settings = [ModelSetting(n=100), ModelSetting(n=150, rank=3)]
    measured, predicted = sweep(settings, draws=2, seed=3)
    for k, s in enumerate(settings):
        torch.testing.assert_close((measured[k], predicted[k]), encoder_errors(s, 2, 30_000 + k), atol=0, rtol=0)
    assert not torch.equal(sweep(settings, draws=2, seed=4)[0], measured)


def test_errors_over_n_are_those_at_each_n_with_arguments_that_follow_n():
    model = dict(d1=6, d2=5, rank=2, draws=3, noise_std=0.5)
    found = errors_over_n([40, 80], methods(2), seed=2, wrong_share=lambda n: 1 - n**-0.5, **model)
    alone = errors(methods(2), 80, seed=20_000_080, wrong_share=1 - 80**-0.5, **model)
    for name in ("multimodal", "masked", "PCA"):
        assert found[name].shape == (2, 3)
        assert torch.equal(found[name][1], alone[name])


@pytest.mark.parametrize(("d", "rank"), [(12, 2), (40, 5), (150, 5)])
def test_masking_loses_the_signal_axis_in_nearly_isotropic_noise_at_any_dimension(d, rank):
    (u1, u2), noise = one_signal_axis(d, rank, seed=d)
    for u in (u1, u2):
        torch.testing.assert_close(u.T @ u, torch.eye(rank, dtype=u.dtype))
    assert float(u1.square().sum(1).max()) == pytest.approx(1)  # I(U1) = 1
    assert float(torch.linalg.cond(noise)) == pytest.approx(1.5)
    assert float((u1.T @ (noise - torch.eye(d, dtype=u1.dtype)) @ u1).abs().max()) < 1e-12
    assert float(masked_bias(u1, noise)) > 0.98  # one direction of rank is gone
    assert float(masked_bias(u2, torch.eye(d, dtype=u2.dtype))) < 0.75  # and none of a random signal


def test_an_axis_without_room_beside_it_is_refused():
    with pytest.raises(ValueError, match="rank = 1"):
        one_signal_axis(10, 1)
    with pytest.raises(ValueError, match="d = 5"):
        one_signal_axis(5, 5)
    with pytest.raises(ValueError, match="draws = 0"):
        encoder_errors(ModelSetting(n=10), draws=0)
