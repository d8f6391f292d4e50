"""The pages in headless Chromium: seen, heard, printed, and used without a mouse."""

import base64
import io
import json
import re
import shutil

import jupytext
import nbformat
import numpy as np
import pytest
from browser import NEEDS_ONE
from PIL import Image

from mmcl.reports import answer, compare, page
from mmcl.reports.__main__ import main

pytestmark = NEEDS_ONE

NOTEBOOK = r"""# %% [markdown]
# # 1 A toy of $n$ numbers
#
# A formula $\frac12\sum_{ij} E_{ij}\big(\log\operatorname{softmax}_j s_{ij} + \operatorname{logsoftmax}_i s_{ij}\big)$
# that is wider than a phone, in a list too:
#
# - $\frac12\sum_{ij} E_{ij}\big(\log\operatorname{softmax}_j s_{ij} + \operatorname{logsoftmax}_i s_{ij}\big)$
#
# Some words, $\hat\Sigma \in \mathbb{R}^{d\times r}$, and [a notebook](02_other.ipynb).
#
# $$\begin{aligned} \frac{\partial L}{\partial G_1} &= -G_2 S^\top + \rho\, G_2G_2^\top G_1, \qquad
# \frac{\partial L}{\partial G_2} = -G_1 S + \rho\, G_1G_1^\top G_2 \\ b &< c \end{aligned}$$

# %% tags=["parameters"]
n: int = 3  # how many
a_rather_long_name_of_a_parameter: str = "with a rather long default value"  # and a meaning that needs some words
seed: int = 0  # of every random number

# %%
from matplotlib.figure import Figure
from mmcl.notebook.claims import claim, ledger, show

# %% [markdown]
# ## 1.1 A section
# | a | b | c | d | e | f |
# |---|---|---|---|---|---|
# | a long cell | a long cell | a long cell | `a_function_of_a_module` | $x = \sum_i y_i z_i w_i$ | a long cell |

# %%
claim("thm-1.1.three", r"$n$ is three", n, 3, 1)
figure = Figure(figsize=(14, 3))
figure.subplots().plot([0, 1])
show(figure, alt="A line")

# %% [markdown]
# ## 1.2 Another
# More words.

# %%
print("a_line_of_output_that_does_not_break " * 12)
ledger()
"""
STATEMENTS = """
- id: thm-1.1
  number: Theorem 1.1
  part: paper
  text: That $n$ is three, in many words that may well need a second line
  verdict: shown in part
  chapter: 01_toy
  section: 1.1 A section
  functions: [mmcl.spectral.fit_with_a_long_name, mmcl.losses.LOSSES]
  tests: [tests/test_spectral.py::test_with_a_name_that_is_a_sentence_of_mathematics_and_longer_than_a_phone_is_wide]
  claims: [thm-1.1.three]
- id: thm-1.2
  number: Theorem 1.2
  part: paper
  text: That it rests on the first
  verdict: shown
  chapter: 01_toy
  section: 1.2 Another
  functions: [mmcl.spectral.fit]
  tests: [tests/test_spectral.py::test_x]
  claims: [thm-1.1.three]
  rests_on: [thm-1.1]
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report as `make` writes it, one that was asked for and whose claim fails, an index and a sweep's page."""
    folder = tmp_path_factory.mktemp("pages")
    source, build = folder / "01_toy.py", folder / "default"
    source.write_text(NOTEBOOK)
    (folder / "profiles.yaml").write_text("smoke: {}\n")
    (folder / "statements.yaml").write_text(STATEMENTS)
    (folder / "02_other.py").write_text("# %% [markdown]\n# # 2 Another chapter\n")
    run, argued = build / "01_toy.run.ipynb", ["--statements", str(folder / "statements.yaml")]
    assert main(["run", str(source), str(run)]) == 0
    assert main(["render", *argued, str(run), str(folder / "01_toy.html")]) == 0
    shutil.copy(run, build / "02_other.run.ipynb")
    assert main(["index", *argued, str(folder / "index.html"), str(build), "01_toy", "02_other"]) == 0
    given = ["-p", "n=9", "-p", "a_rather_long_name_of_a_parameter", "another value with several words"]
    assert main(["report", str(source), *given, "-o", str(folder / "asked")]) == 1
    (asked,) = (folder / "asked").glob("*/*.html")
    answers = [answer.answer(nbformat.read(path, 4)) for path in (run, asked.with_suffix(".ipynb"))]
    grid, linked = {"n": [3, 9]}, [(found, "01_toy.html") for found in answers]
    numbers = compare.numbers(answers, grid)
    swept = folder / "sweep.html"
    swept.write_text(page.sweep_page(jupytext.read(source), grid, {}, numbers, linked, "python -m mmcl sweep"))
    named = {name: folder / f"{name}.html" for name in ("index", "ledger")}
    return {"report": folder / "01_toy.html", "asked": asked, "sweep": swept, **named}


KINDS = pytest.mark.parametrize("kind", ["report", "asked", "index", "ledger", "sweep"])


@KINDS
def test_no_request_leaves_the_page_and_the_console_is_silent(browser, pages, kind):
    browser.open(pages[kind])
    browser.value("new Promise(done => setTimeout(done, 200))")
    requests = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith("data:")] == [pages[kind].as_uri()]
    assert browser.said() == []


@KINDS
@pytest.mark.parametrize("width", [1400, 390])
def test_figures_and_formulas_are_seen_and_nothing_is_wider_than_the_screen(browser, pages, kind, width):
    browser.open(pages[kind], width)
    seen = "[...document.querySelectorAll('{}')].filter(e => e.checkVisibility()).map(e => {})"
    box = "e.parentElement.getBoundingClientRect().width"
    figures = browser.value(seen.format("img", f"[e.naturalWidth, {box}, e.alt]"))
    stacked = browser.value(seen.format(".stack div", f"[e.clientHeight, {box}, e.parentElement.ariaLabel]"))
    figures += stacked
    assert figures or kind == "ledger"
    for natural, shown, alt in figures:
        assert natural > 0
        assert 0 < shown <= width
        assert alt
    formulas = browser.value(seen.format("math", "[e.getBoundingClientRect().width, e.getBoundingClientRect().height]"))
    assert formulas
    assert all(w > 3 and h > 5 for w, h in formulas), formulas
    assert browser.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    smallest = browser.value(
        "Math.min(...[...document.querySelectorAll('p, td, li')].map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 12


@KINDS
def test_each_link_within_the_page_scrolls_to_what_it_names(browser, pages, kind):
    browser.open(pages[kind])
    targets = browser.value("[...document.querySelectorAll('a[href^=\"#\"]')].map(e => e.getAttribute('href'))")
    assert targets or kind in ("index", "ledger")
    for target in set(targets):
        browser.value(f"window.scrollTo(0, 0); location.hash = ''; location.hash = {json.dumps(target)}")
        top = f"document.getElementById({json.dumps(target[1:])}).getBoundingClientRect().top"
        end = "window.scrollY + innerHeight >= document.documentElement.scrollHeight - 2"
        assert browser.value(f"Math.abs({top}) < 120 || ({end} && {top} < innerHeight)"), target


def test_the_contents_list_every_section_and_the_code_is_one_click_away(browser, pages):
    browser.open(pages["report"])
    listed = browser.value("[...document.querySelectorAll('.contents a')].map(e => e.textContent)")
    assert listed == ["1.1 A section", "1.2 Another", "How this page was made"]
    code = "document.querySelector('details.code pre')"
    assert not browser.value(f"{code}.checkVisibility()")
    browser.value("document.querySelector('details.code summary').click()")
    assert browser.value(f"{code}.checkVisibility()")


def test_a_section_begins_with_the_statement_it_argues(browser, pages):
    browser.open(pages["report"])
    box = "document.getElementById('thm-1.1')"
    assert browser.value(f"{box}.previousElementSibling.id") == "1-1-a-section"
    text = browser.value(f"{box}.textContent")
    assert all(part in text for part in ("Theorem 1.1", "shown in part", "mmcl.losses.LOSSES", "test_with_a_name"))


def test_a_report_whose_claim_fails_says_so_on_the_first_screen(browser, pages):
    browser.open(pages["asked"], 390)
    top, text = browser.value("(e => [e.getBoundingClientRect().top, e.innerText])(document.querySelector('.failed'))")
    assert top < 400
    assert "1 of 1 checks" in text


@KINDS
def test_the_printed_page_is_whole(browser, pages, kind):
    browser.open(pages[kind], 720, media="print")
    cut = "(e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1) || e.getBoundingClientRect().right > innerWidth + 1"
    parts = "[...document.querySelectorAll('pre, table, img, .display, .scroll, svg')].filter(e => e.checkVisibility())"
    hidden = browser.value(f"{parts}.filter(e => {cut}).map(e => e.outerHTML.slice(0, 120))")
    assert hidden == []
    browser.open(pages[kind])
    pdf = base64.b64decode(browser.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    assert pdf.startswith(b"%PDF")
    assert re.findall(rb"/Type /Page\b", pdf)


@KINDS
@pytest.mark.parametrize("width", [1200, 420])
def test_axe_finds_nothing_serious_in_light_and_in_dark(browser, pages, kind, width):
    for scheme in ("light", "dark"):
        browser.open(pages[kind], width, scheme=scheme)
        browser.value("document.querySelectorAll('details').forEach(e => { e.open = true; })")
        assert browser.serious() == [], scheme


def test_the_page_is_dark_where_the_reader_wants_it_dark_and_its_figures_too(browser, pages):
    for scheme, low, high in (("light", 240, 255), ("dark", 0, 40)):
        browser.open(pages["report"], 1200, scheme=scheme)
        browser.value("document.querySelector('figure').scrollIntoView()")
        x, y = browser.value("(r => [r.left, r.top])(document.querySelector('figure img').getBoundingClientRect())")
        clip = {"x": x + 3, "y": y + 3, "width": 8, "height": 8, "scale": 1}
        png = base64.b64decode(browser.call("Page.captureScreenshot", clip=clip)["data"])
        corner = np.asarray(Image.open(io.BytesIO(png)).convert("L"), float)
        assert low <= corner.mean() <= high, scheme


def test_the_text_begins_on_the_first_screen_and_what_was_run_stands_at_the_end(browser, pages):
    for width in (1200, 420):
        browser.open(pages["report"], width)
        assert browser.value("document.querySelector('h1').nextElementSibling.innerText.includes('1 of 1 checks hold')")
        assert browser.value("document.querySelector('main > p:not(.checks)').getBoundingClientRect().top") < 300
        order = browser.value(
            "['1-2-another', 'ledger', 'made'].map(i => document.getElementById(i).getBoundingClientRect().top)"
        )
        assert order == sorted(order)


def test_contents_and_bar_follow_the_scroll(browser, pages):
    browser.open(pages["report"], 1200)
    here = (
        "[document.querySelector('.here').textContent, document.querySelector('.contents [aria-current]')?.textContent]"
    )
    seen = []
    for target in ("1-1-a-section", "1-2-another", "made"):
        browser.value(
            f"document.getElementById({target!r}).scrollIntoView(); new Promise(done => setTimeout(done, 100))"
        )
        top = browser.value("document.querySelector('.bar').getBoundingClientRect().top")
        seen.append((top, browser.value(here)))
    names = ("1.1 A section", "1.2 Another", "How this page was made")
    assert seen[-1] == (0, [names[-1]] * 2)
    assert [s for s in seen if s[1][0]][0] in [(0, [name] * 2) for name in names]


def test_every_control_of_a_report_works_by_keyboard(browser, pages):
    browser.open(pages["report"], 1200)
    listed = "document.querySelector('.contents ol').checkVisibility()"
    browser.tab_to(".contents summary")
    browser.press("Enter", 13)
    assert browser.value(listed)
    browser.press("Tab", 9)
    assert browser.value("document.activeElement.hash") == "#1-1-a-section"
    browser.press("Escape", 27)
    assert not browser.value(listed)
    assert browser.value("document.activeElement.matches('.contents summary')")
    browser.tab_to("details.code summary")
    browser.press("Enter", 13)
    assert browser.value("document.querySelector('details.code pre').checkVisibility()")


def test_the_bar_leads_to_the_index_and_to_the_chapters_before_and_after(browser, pages):
    browser.open(pages["report"], 1200)
    links = browser.value("[...document.querySelectorAll('.bar nav a')].map(e => [e.getAttribute('href'), e.rel])")
    assert links == [["index.html", ""], ["02_other.html", "next"]]
    browser.open(pages["asked"], 1200)
    assert browser.value("document.querySelectorAll('.bar nav a').length") == 0


def test_the_index_is_one_screen_and_each_node_of_the_graph_leads_to_its_statement(browser, pages):
    browser.open(pages["index"], 1200)
    assert browser.value("document.querySelector('.graph').getBoundingClientRect().bottom") < 900
    links = browser.value(
        "[...document.querySelectorAll('.graph .node')].map(e => [e.getAttribute('href'), e.textContent])"
    )
    assert [link for link, _ in links] == ["01_toy.html#thm-1.1", "01_toy.html#thm-1.2"]
    assert all(mark in text for (_, text), mark in zip(links, "◐✓", strict=True)), "readable without colour"
    browser.tab_to(".graph #node-thm-1\\.2")
    assert browser.value("document.querySelectorAll('.graph path.lit').length") == 1
    browser.press("Enter", 13)
    browser.value("new Promise(done => setTimeout(done, 300))")
    assert browser.value("location.hash") == "#thm-1.2"
    assert browser.value("document.getElementById('thm-1.2').getBoundingClientRect().top") < 500


@KINDS
def test_print_shows_every_figure_and_what_is_folded(browser, pages, kind):
    browser.open(pages[kind], 720, media="print", scheme="dark")
    unseen = "[...document.querySelectorAll('{}')].filter(e => !e.getBoundingClientRect().height).length"
    assert browser.value(unseen.format("img")) == 0
    assert browser.value(unseen.format("main details > :not(summary)")) == 0
    paper = browser.value("getComputedStyle(document.documentElement).backgroundColor")
    assert paper in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
    assert browser.value("getComputedStyle(document.body).color") == "rgb(26, 26, 26)"
