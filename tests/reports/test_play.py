"""The figures to play with, in headless Chromium: their numbers are the module's, their controls need no mouse."""

import json

import nbformat
import pytest
import torch
from browser import NEEDS_ONE

from mmcl.experiments import playable
from mmcl.notebook import figures, play
from mmcl.reports import page

pytestmark = NEEDS_ONE
FIRST = {
    "weights": {"tau": 0.5, "nu": 1.5, "swapped": 2},
    "ellipses": {"angle": 120.0, "wrong_share": 0.3},
    "scores": {"noise_std": 0.3, "rank": 20, "candidates": 200},
}
SETTINGS = [
    ("weights", {"tau": 0.1, "nu": 1.0, "swapped": 0}, {"tau": -1, "nu": 1, "swapped": 0}),
    ("weights", {"tau": 10.0, "nu": 3.0, "swapped": 6}, {"tau": 1, "nu": 3, "swapped": 5}),
    ("weights", {"tau": 1.0, "nu": 1.35, "swapped": 3}, {"tau": 0, "nu": 1.35, "swapped": 2}),
    ("ellipses", {"angle": 0, "wrong_share": 0.0}, {"angle": 0, "wrong_share": 0}),
    ("ellipses", {"angle": 63, "wrong_share": 0.95}, {"angle": 63, "wrong_share": 0.95}),
    ("ellipses", {"angle": 150, "wrong_share": 0.5}, {"angle": 150, "wrong_share": 0.5}),
    ("scores", {"noise_std": 0.2, "rank": 4, "candidates": 10}, {"noise_std": 0.2, "rank": 4, "candidates": 1}),
    ("scores", {"noise_std": 2.0, "rank": 7, "candidates": 10_000}, {"noise_std": 2, "rank": 7, "candidates": 4}),
    ("scores", {"noise_std": 0.6, "rank": 100, "candidates": 1000}, {"noise_std": 0.6, "rank": 100, "candidates": 3}),
]


@pytest.fixture(scope="module")
def playing(tmp_path_factory):
    """A page of all three."""
    outputs = []
    with pytest.MonkeyPatch.context() as patched:
        made = lambda data, metadata, raw: outputs.append(  # noqa: E731
            nbformat.v4.new_output("display_data", data=data, metadata=metadata)
        )
        patched.setattr(figures, "display", made)
        for name, setting in FIRST.items():
            getattr(play, name)(getattr(playable, name)(**setting))
    cells = [nbformat.v4.new_markdown_cell("# Play"), nbformat.v4.new_code_cell("play()", outputs=outputs)]
    path = tmp_path_factory.mktemp("play") / "play.html"
    path.write_text(page.report(nbformat.v4.new_notebook(cells=cells), "play"), "utf-8")
    return path


def result(browser, name):
    return json.loads(browser.value(f"document.querySelector('[data-play={name}]').dataset.result"))


def close(found, wanted):
    for key, value in found.items():
        names = value if isinstance(value, dict) else {"": value}
        for inner, number in names.items():
            expected = wanted[key][inner] if inner else wanted[key]
            torch.testing.assert_close(
                torch.tensor(number).double(), torch.tensor(expected).double(), rtol=0, atol=1e-6
            )


def test_the_scripts_compute_what_the_module_computes(browser, playing):
    browser.open(playing)
    assert browser.said() == []
    for name, setting in FIRST.items():
        close(result(browser, name), getattr(playable, name)(**setting))
    for name, setting, sliders in SETTINGS:
        for key, value in sliders.items():
            slider = f"document.querySelector('[data-play={name}] input[name={key}]')"
            browser.value(f"{slider}.value = {value}; {slider}.dispatchEvent(new Event('input'))")
        close(result(browser, name), getattr(playable, name)(**setting))


@pytest.mark.parametrize("name", FIRST)
def test_each_slider_moves_by_key_says_its_value_and_changes_the_drawing(browser, playing, name):
    browser.open(playing)
    for key in FIRST[name]:
        selector = f"[data-play={name}] input[name={key}]"
        browser.tab_to(selector)
        figure = f"document.querySelector('[data-play={name}]')"
        shown = (
            f"{figure}.querySelector('input[name={key}]').ariaValueText + {figure}.querySelector('.stage').innerHTML"
        )
        before = browser.value(shown)
        browser.press("ArrowRight", 39)
        assert browser.value(shown) != before, key


@pytest.mark.parametrize("width", [1200, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_what_can_be_played_with(browser, playing, width, scheme):
    browser.open(playing, width, scheme=scheme)
    assert browser.serious() == []
    assert browser.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.value(
        "[...document.querySelectorAll('.stage svg')].every(e => e.getBoundingClientRect().height > 100)"
    )


def test_print_shows_the_first_frame_in_place_of_the_controls(browser, playing):
    browser.open(playing, 720, media="print")
    assert browser.value("[...document.querySelectorAll('figure > img')].map(e => e.checkVisibility())") == [True] * 3
    assert not browser.value("[...document.querySelectorAll('.stage, .play-controls')].some(e => e.checkVisibility())")


def test_a_script_is_shorter_than_60_lines(playing):
    folder = page.files("mmcl.reports") / "templates"
    lengths = {
        path.name: len(path.read_text("utf-8").splitlines()) for path in folder.iterdir() if path.name.endswith(".js")
    }
    assert {"weights.js", "ellipses.js", "scores.js"} <= set(lengths)
    assert max(lengths.values()) < 60
