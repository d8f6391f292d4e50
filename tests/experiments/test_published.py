"""The published numbers."""

import pytest

from mmcl.experiments.published import published


def test_published_numbers_are_accuracies_with_their_setting_and_provenance():
    for section, at in (("5.2", 10), ("5.3", 100)):
        found = published(section)
        assert "7c1fd49" in found["provenance"]
        curves = [v for k, v in found.items() if k.startswith(("paired", "with", "oracle"))]
        assert all(len(curve) == at and 0 < min(curve) < max(curve) < 1 for curve in curves)
    assert (published("5.2")["setting"]["n"], published("5.2")["with_unpaired"][-1]) == (300, 0.5962)
    with pytest.raises(ValueError, match="section = '5.1'"):
        published("5.1")


def test_a_printed_figure_has_its_axis_its_curves_and_its_own_provenance():
    found = published("figure_2")
    assert "digitised" in found["provenance"]
    assert "7c1fd49" not in found["provenance"]
    curves = [found[f"n={n}"] for n in (100, 200, 500)]
    assert all(len(curve) == len(found["ratio"]) and curve[0] == max(curve) < 10**0.5 for curve in curves)
    assert all(
        high > low
        for upper, lower in zip(curves, curves[1:], strict=False)
        for high, low in zip(upper, lower, strict=True)
    )
