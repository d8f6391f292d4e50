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
