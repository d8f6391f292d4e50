"""The pages in headless Chromium, driven by the DevTools protocol over a pipe."""

import base64
import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time

import pytest

from mmcl.reports.__main__ import main

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM and not os.environ.get("CI"), reason="no Chromium on the PATH (Debian: apt install chromium)"
    ),
]

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
"""


class Browser:
    """One page of a headless Chromium with a fresh profile."""

    OPTIONS = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"

    def __init__(self):
        if not CHROMIUM:
            raise RuntimeError("no Chromium on the PATH, and the tests of the pages are not skipped where CI is set")
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (*os.pipe(), *os.pipe())]
        read, self.to, self.back, write = ends
        command = [CHROMIUM, *self.OPTIONS.split(), "--remote-debugging-pipe", f"--user-data-dir={self.profile.name}"]

        def as_chromium_wants_them():
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.process = subprocess.Popen(
            command, close_fds=False, stderr=subprocess.DEVNULL, preexec_fn=as_chromium_wants_them
        )
        os.close(read), os.close(write)
        self.buffer, self.count, self.session, self.events = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _receive(self, limit: float = 60) -> dict:
        end = time.monotonic() + limit
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.back], [], [], max(0, end - time.monotonic()))
            part = os.read(self.back, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError("Chromium does not answer")
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def call(self, method: str, **parameters) -> dict:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path, width: int = 1400, media: str = "") -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setEmulatedMedia", media=media)
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._receive())

    def value(self, expression: str):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        os.close(self.to), os.close(self.back)
        self.profile.cleanup()


@pytest.fixture(scope="module")
def browser():
    made = Browser()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report as `make` writes it, one that was asked for and whose claim fails, an index and a sweep's page."""
    folder = tmp_path_factory.mktemp("pages")
    source, build = folder / "01_toy.py", folder / "default"
    source.write_text(NOTEBOOK)
    (folder / "profiles.yaml").write_text("smoke: {}\n")
    (folder / "grid.yaml").write_text("n: [2, 3, 9]\nseed: [0, 1]\n")
    (folder / "statements.yaml").write_text(STATEMENTS)
    run, argued = build / "01_toy.run.ipynb", ["--statements", str(folder / "statements.yaml")]
    assert main(["run", str(source), str(run)]) == 0
    assert main(["render", *argued, str(run), str(folder / "01_toy.html")]) == 0
    shutil.copy(run, build / "02_other.run.ipynb")
    assert main(["index", *argued, str(folder / "index.html"), str(build), "01_toy", "02_other"]) == 0
    given = ["-p", "n=9", "-p", "a_rather_long_name_of_a_parameter", "another value with several words"]
    assert main(["report", str(source), *given, "-o", str(folder / "asked")]) == 1
    assert main(["sweep", str(source), str(folder / "grid.yaml"), "-j", "2", "-o", str(folder)]) == 1
    (asked,) = (folder / "asked").glob("*/*.html")
    swept = folder / "01_toy-sweep-grid" / "01_toy-sweep-grid.html"
    return {"report": folder / "01_toy.html", "asked": asked, "index": folder / "index.html", "sweep": swept}


KINDS = pytest.mark.parametrize("kind", ["report", "asked", "index", "sweep"])


@KINDS
def test_no_request_leaves_the_page_and_the_console_is_silent(browser, pages, kind):
    browser.open(pages[kind])
    browser.value("new Promise(done => setTimeout(done, 200))")
    requests = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith("data:")] == [pages[kind].as_uri()]
    spoken = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Network.loadingFailed")
    assert [e for e in browser.events if e["method"] in spoken] == []


@KINDS
@pytest.mark.parametrize("width", [1400, 390])
def test_figures_and_formulas_are_seen_and_nothing_is_wider_than_the_screen(browser, pages, kind, width):
    browser.open(pages[kind], width)
    seen = "[...document.querySelectorAll('{}')].filter(e => e.checkVisibility()).map(e => {})"
    box = "e.parentElement.getBoundingClientRect().width"
    figures = browser.value(seen.format("img", f"[e.naturalWidth, {box}, e.alt]"))
    assert figures
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
    assert targets or kind == "index"
    for target in set(targets):
        browser.value(f"window.scrollTo(0, 0); location.hash = ''; location.hash = {json.dumps(target)}")
        top = f"document.getElementById({json.dumps(target[1:])}).getBoundingClientRect().top"
        end = "window.scrollY + innerHeight >= document.documentElement.scrollHeight - 2"
        assert browser.value(f"Math.abs({top}) < 120 || ({end} && {top} < innerHeight)"), target


def test_the_contents_list_every_section_and_the_code_is_one_click_away(browser, pages):
    browser.open(pages["report"])
    listed = browser.value("[...document.querySelectorAll('nav.contents a')].map(e => e.textContent)")
    assert listed == ["1.1 A section", "1.2 Another"]
    code = "document.querySelector('details.code pre')"
    assert not browser.value(f"{code}.checkVisibility()")
    browser.value("document.querySelector('details.code summary').click()")
    assert browser.value(f"{code}.checkVisibility()")


def test_a_section_begins_with_the_statement_it_argues(browser, pages):
    browser.open(pages["report"])
    box = "document.getElementById('thm-1.1')"
    assert browser.value(f"{box}.previousElementSibling.id") == "1-1-a-section"
    text = browser.value(f"{box}.innerText")
    assert all(part in text for part in ("Theorem 1.1", "shown in part", "mmcl.losses.LOSSES", "test_with_a_name"))


def test_a_report_whose_claim_fails_says_so_on_the_first_screen(browser, pages):
    browser.open(pages["asked"], 390)
    top, text = browser.value("(e => [e.getBoundingClientRect().top, e.innerText])(document.querySelector('.failed'))")
    assert top < 400
    assert "1 of 1 claims" in text


@KINDS
def test_the_printed_page_is_whole(browser, pages, kind):
    browser.open(pages[kind], 720, media="print")
    cut = "(e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1) || e.getBoundingClientRect().right > innerWidth + 1"
    parts = "[...document.querySelectorAll('pre, table, img, .display, .scroll')].filter(e => e.checkVisibility())"
    hidden = browser.value(f"{parts}.filter(e => {cut}).map(e => e.outerHTML.slice(0, 120))")
    assert hidden == []
    browser.open(pages[kind])
    pdf = base64.b64decode(browser.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    assert pdf.startswith(b"%PDF")
    assert re.findall(rb"/Type /Page\b", pdf)
