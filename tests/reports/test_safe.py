"""What a notebook can and cannot put into a page."""

from html.parser import HTMLParser

import nbformat
import pytest
from vectors import RUNS

from mmcl.reports import page
from mmcl.reports.formulas import RenderError, markdown, mathml
from mmcl.reports.offline import checked
from mmcl.reports.safe import clean, digest, policy

PASSES = [
    mathml(r"\frac12\sum_{ij} \lVert b_i \rVert_F^2 \hat\Sigma"),
    mathml(r"\begin{aligned} a &= b \\ &\le \sqrt{\log n} \end{aligned}", "block"),
    '<svg viewBox="0 0 9 9" role="img" aria-label="a"><defs><clipPath id="a"><rect width="3"></rect></clipPath></defs>'
    '<path d="M0 0L1 1" clip-path="url(#a)" stroke="currentColor"></path><text x="1">b</text></svg>',
    '<details open=""><summary>Answer</summary><p>yes</p></details>',
    '<img src="data:image/png;base64,AAAA" alt="a">',
    '<table><thead><tr><th scope="col" style="text-align:right">a</th></tr></thead></table>',
    '<a href="02_other.html#x" id="y" class="z">b</a>',
]


class Live(HTMLParser):
    """Collects what a browser would run, load, send or follow on its own."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        if (
            tag
            in "script iframe object embed form input button meta base link style video audio animate use image".split()
        ):
            self.found.append(tag)
        for name, value in attrs:
            value = "".join((value or "").lower().split())
            bad = name.startswith("on") or "script:" in value or "url(" in value.replace("url(#", "")
            if bad or (name == "href" and value.startswith("data:")) or (name == "background") or "position" in value:
                self.found.append((tag, name, value))


@pytest.mark.parametrize("html", RUNS)
def test_nothing_that_runs_or_asks_a_host_is_left(html):
    for made in (clean(html), str(markdown(f"So {html} it is.\n\n{html}\n\n| a |\n|---|\n| {html} |\n"))):
        live = Live()
        live.feed(made)
        assert live.found == [], made


@pytest.mark.parametrize("html", PASSES)
def test_formulas_drawings_and_folded_answers_pass(html):
    live, after = HTMLParser(), HTMLParser()
    seen = []
    for parser, text in ((live, html), (after, clean(html))):
        tags = []
        parser.handle_starttag = lambda tag, attrs, tags=tags: tags.append((tag, sorted(attrs, key=str)))
        parser.handle_startendtag = parser.handle_starttag
        parser.feed(text)
        seen.append([(tag, [(n, v or "") for n, v in attrs]) for tag, attrs in tags])
    assert seen[0] == seen[1]
    assert clean(clean(html)) == clean(html)


def page_of(html):
    output = nbformat.v4.new_output("display_data", data={"text/html": html})
    for cell in (nbformat.v4.new_markdown_cell(html), nbformat.v4.new_code_cell(outputs=[output])):
        yield nbformat.v4.new_notebook(cells=[cell])


def test_a_picture_from_a_host_stops_the_page_and_names_itself():
    for notebook in page_of('<img alt="a" src="https://x.org/a.png">'):
        with pytest.raises(RenderError, match="would load 'https://x.org/a.png'"):
            page.report(notebook, "x")


def test_a_page_holds_our_scripts_and_no_other_whatever_the_notebook_says():
    for html in RUNS:
        for notebook in page_of(html):
            try:
                made = page.report(notebook, "x")
            except RenderError:
                continue
            assert made.count("<script") == 1
            live = Live()
            live.feed(made)
            assert live.found == ["meta"] * 4 + ["style", "script"]


def test_a_script_that_the_policy_does_not_name_stops_the_page():
    head = '<meta http-equiv="Content-Security-Policy" content="{}">'
    assert checked(head.format(policy(["a < b"])) + "<script>a < b</script>")
    with pytest.raises(RenderError, match="not ours"):
        checked(head.format(policy(["a < b"])) + "<script>a < c</script>")
    with pytest.raises(RenderError, match="not ours"):
        checked("<script>a < b</script>")
    with pytest.raises(RenderError, match="<script> element"):
        checked('<script src="data:text/javascript,a"></script>')


def test_the_policy_names_no_host_and_allows_no_inline_script_but_by_its_digest():
    told = policy(["a", "b"])
    assert told.startswith("default-src 'none'")
    assert f"script-src {digest('a')} {digest('b')};" in told
    assert "script-src 'none'" in policy([])
    assert "http" not in told
    assert "unsafe-eval" not in told
