"""The two walls of a page in headless Chromium: the allow-list alone, and the policy alone, let nothing run."""

import nbformat
from browser import NEEDS_ONE
from vectors import RUNS

from mmcl.reports import cells, formulas, page

pytestmark = NEEDS_ONE
VECTORS = [v.replace("alert(1)", "window.hit=1").replace("https://x.org", "https://x.invalid") for v in RUNS]
LEAVES = ("refresh", "<noscript", "<!-->")  # a policy cannot hold a refresh; the others swallow what follows them


def notebook_of(htmls):
    outputs = [nbformat.v4.new_output("display_data", data={"text/html": html}) for html in htmls]
    text = [nbformat.v4.new_markdown_cell(html) for html in htmls]
    return nbformat.v4.new_notebook(cells=[*text, nbformat.v4.new_code_cell("show()", outputs=outputs)])


def opened(browser, tmp_path, html):
    """What ran in a page, and what it asked for and got."""
    path = tmp_path / "x.html"
    path.write_text(html, "utf-8")
    browser.open(path)
    browser.value("new Promise(done => setTimeout(done, 300))")
    asked = {e["params"]["requestId"]: e["params"]["request"]["url"] for e in browser.events
             if e["method"] == "Network.requestWillBeSent"}  # fmt: skip
    blocked = {e["params"]["requestId"] for e in browser.events
               if e["method"] == "Network.loadingFailed" and e["params"].get("blockedReason") == "csp"}  # fmt: skip
    left = {url for id, url in asked.items() if id not in blocked and not url.startswith(("data:", "file:"))}
    return browser.value("window.hit"), left, browser.value("location.href") == path.as_uri()


def test_a_notebook_of_vectors_becomes_a_page_in_which_none_runs(browser, tmp_path):
    safe = [v for v in VECTORS if "<im" not in v.replace('<img src="data:', "")]  # another picture stops the page
    html = page.report(notebook_of(safe), "x")
    assert opened(browser, tmp_path, html)[:2] == (None, set())


def test_the_policy_alone_stops_what_the_allow_list_would_have_to(browser, tmp_path, monkeypatch):
    for module in (cells, formulas):
        monkeypatch.setattr(module, "clean", lambda html: html)
    monkeypatch.setattr(page, "checked", lambda html: html)
    raw = [v for v in VECTORS if not any(mark in v for mark in (*LEAVES, "href", "<form", "<iframe", "<annotation"))]
    html = page.report(notebook_of(raw), "x")
    assert opened(browser, tmp_path, html)[:2] == (None, set())
    without = html.replace("Content-Security-Policy", "x")
    assert opened(browser, tmp_path, without)[0] == 1, "the vectors are live"
