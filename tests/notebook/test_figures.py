import base64
import io
import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mmcl.notebook import figures, play, plots
from mmcl.notebook.figures import PLAY_MIME, _laid_out, show


@pytest.fixture(autouse=True)
def displayed(monkeypatch):
    """What is displayed, as (data, metadata of the picture)."""
    seen = []
    monkeypatch.setattr(figures, "display", lambda data, metadata, raw: seen.append((data, metadata["image/png"])))
    return seen


def line():
    figure, (ax,) = plots.panels()
    plots.curves(ax, [0, 1], {"multimodal": [0, 1]}, "$x$", "y")
    return figure


def test_show_carries_the_alternative_text_and_the_same_bytes_each_time(displayed):
    for _ in range(2):
        show(line(), alt="A line\n  that rises.")
    (first, about), (second, _) = displayed
    assert about["alt"] == first["text/plain"] == "A line that rises."
    assert first == second
    for stored in (base64.b64decode(first["image/png"]), first["image/svg+xml"].encode()):
        assert matplotlib.__version__.encode() not in stored


def test_a_figure_is_stored_at_twice_the_width_it_is_shown_at_and_as_svg_only_where_that_is_smaller(displayed):
    show(line(), alt="A line")
    figure, (ax,) = plots.panels()
    ax.scatter(*[[i * i % 997 for i in range(start, start + 5000)] for start in (0, 9)])
    show(figure, alt="Points")
    (smooth, about), (rough, _) = displayed
    assert Image.open(io.BytesIO(base64.b64decode(smooth["image/png"]))).width // 2 == about["width"]
    assert len(smooth["image/svg+xml"]) < len(smooth["image/png"])
    assert "image/svg+xml" not in rough


def test_the_svg_is_transparent_needs_no_font_and_keeps_the_scales_of_its_letters(displayed):
    show(line(), alt="A line")
    svg = displayed[0][0]["image/svg+xml"]
    assert "<text" not in svg
    assert "#ffffff" not in svg.lower()
    assert "scale(0.015625)" in svg
    outside = re.sub(r"scale\([^)]*\)", "", svg)
    assert not re.search(r"\.\d{3}", outside)


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_show_without_alternative_text_is_refused(alt):
    with pytest.raises(ValueError, match="alt"):
        show(Figure(), alt=alt)


def test_a_figure_of_three_panels_is_cut_into_three_that_hold_their_titles_and_do_not_overlap():
    figure, axes = plots.panels(columns=3)
    for ax in axes:
        ax.set_title("short")
    _, columns = _laid_out(figure)
    assert len(columns) == 3
    assert all(a[2] <= b[0] + 0.02 for a, b in zip(columns, columns[1:], strict=False))
    assert all(left < right and 0 <= top < bottom <= 1 for left, top, right, bottom in columns)
    axes[0].set_title("a title that reaches far into the panel beside it " * 2)
    assert len(_laid_out(figure)[1]) == 2
    plt.close(figure)


def test_panels_in_two_rows_are_cut_by_columns_and_a_legend_of_the_whole_comes_last():
    figure, axes = plots.panels(columns=2, rows=2)
    plots.curves(axes[0], [0, 1], {"a": [0, 1]}, "x", "y")
    plots.legend_below(figure, axes[0])
    _, (first, second, legend) = _laid_out(figure)
    assert min(first[3] - first[1], second[3] - second[1]) > 0.8
    assert legend[1] > 0.8
    plt.close(figure)


def test_a_figure_to_play_with_carries_its_setting_and_says_what_to_do(displayed):
    setting = {"name": "scores", "noise_std": 1, "rank": 2, "candidates": 20, "score": [0, 1]}
    play.scores(setting | {"share": 0.5, "partner": [0, 1], "best": [1, 0]})
    data, about = displayed[0]
    assert data[PLAY_MIME] == setting
    assert "*Raise $r$:*" in about["caption"]


def test_the_256_colours_are_within_a_sixtieth_of_those_that_were_drawn():
    figure, (ax,) = plots.panels()
    plots.matrix(ax, np.sin(np.arange(900)).reshape(30, 30))
    full = io.BytesIO()
    frame, _ = _laid_out(figure)
    figure.savefig(full, format="png", dpi=figures.DPI, bbox_inches=frame)
    drawn, kept = (Image.open(io.BytesIO(data)) for data in (full.getvalue(), figures._png(figure, frame)))
    assert kept.mode == "P"
    assert np.abs(np.asarray(drawn.convert("RGB"), int) - np.asarray(kept.convert("RGB"), int)).max() <= 4
    plt.close(figure)
