import re
from html import unescape
from pathlib import Path

import jupytext
import nbformat
import pytest

from mmcl import render
from mmcl.__main__ import main
from mmcl.report import claims_of
from mmcl.run import Parameter, UsageError, coerce, measured_column, take_outputs

HEAD = r"""# %% [markdown]
# # 1 A toy of $n$ numbers
#
# The first paragraph, with $\hat\Sigma \in \mathbb{R}^{d\times r}$ and [a link](02_other.ipynb).
#
# $$\begin{aligned} a &= \mathcal{L}(x) \\ b &< c \end{aligned}$$

# %% tags=["parameters"]
n: int = 3  # how many
tau: float = 1.0  # temperature
sizes: list[int] = [1, 2]  # sizes
label: str | None = None  # a label
fast: bool = False  # whether

# %%
from matplotlib.figure import Figure
from mmcl.report import claim, ledger, show

# %% [markdown]
# ## 1.1 A section
# | a | b |
# |---|---|
# | 1 | 2 |

# %%
claim("1.1", r"$n$ is three & $<$ four", n, 3, 0)
figure = Figure(figsize=(2, 1))
figure.subplots().plot([0, 1])
show(figure, alt='A line & "quotes"')
print("<script>printed</script>", tau, sizes, label, fast)
"""
LEDGER = "\n# %%\nledger()\n"


def write(folder: Path, text: str, name: str = "01_toy") -> Path:
    (folder / "profiles.yaml").write_text('smoke: {"01": {tau: 1e-3}}\npaper: {}\n')
    source = folder / f"{name}.py"
    source.write_text(text)
    return source


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A notebook that ran well with other parameters, in the smoke profile: (source, x.run.ipynb)."""
    folder = tmp_path_factory.mktemp("good")
    source, target = write(folder, HEAD + LEDGER), folder / "build" / "01_toy.run.ipynb"
    values = ["-p", "label=ab", "-p", "sizes=[7]", "-p", "fast=true"]
    assert main(["run", str(source), str(target), "--profile", "smoke", *values]) == 0
    return source, target


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A notebook whose claim does not hold, over the result of an earlier run: (source, x.run.ipynb)."""
    folder = tmp_path_factory.mktemp("broken")
    source, target = write(folder, HEAD.replace("n, 3, 0", "n, 4, 0") + LEDGER), folder / "01_toy.run.ipynb"
    target.write_text("an earlier result")
    assert main(["run", str(source), str(target)]) == 1
    return source, target


def test_a_good_run_leaves_the_target_with_coerced_parameters_and_claims(good):
    notebook = nbformat.read(good[1], 4)
    assert [c.id for c in claims_of(notebook)] == ["1.1"]
    assert "0.001 [7] ab True" in str([c.outputs for c in notebook.cells if "printed" in c.source])
    assert not list(good[1].parent.glob("*.failed.ipynb"))


def test_a_failed_claim_leaves_evidence_under_the_other_name_and_no_target(broken):
    assert not broken[1].exists()
    evidence = nbformat.read(broken[1].parent / "01_toy.failed.ipynb", 4)
    assert "ClaimFailed" in evidence.metadata.mmcl.problem
    assert "[1.1]" in evidence.metadata.mmcl.problem


def test_an_exception_or_a_claim_that_no_ledger_sums_up_fails_the_run(tmp_path):
    source = write(tmp_path, "# %%\nfrom mmcl.report import claim\nclaim('1.1', 'nan', float('nan'), 0, 1);")
    assert main(["run", str(source), str(tmp_path / "a.run.ipynb")]) == 1
    source = write(tmp_path, "# %%\n1 / 0\n")
    assert main(["run", str(source), str(tmp_path / "b.run.ipynb")]) == 1
    assert sorted(p.name for p in tmp_path.glob("?.*.ipynb")) == ["a.failed.ipynb", "b.failed.ipynb"]
    assert "ZeroDivisionError" in render.report(nbformat.read(tmp_path / "b.failed.ipynb", 4), "b")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-p", "m=3"], ["'m'", "n (int)", "tau (float)", "label (str | None)"]),
        (["-p", "n=2.5"], ["parameter n must be int, got '2.5'"]),
        (["-p", "n"], ["'n' is not name=value"]),
        (["--profile", "huge"], ["'huge'", "default, smoke, paper"]),
    ],
)
def test_a_mistake_exits_2_with_a_sentence_and_starts_no_kernel(good, tmp_path, capsys, arguments, told):
    assert main(["run", str(good[0]), str(tmp_path / "x.run.ipynb"), *arguments]) == 2
    message = capsys.readouterr().err
    assert all(text in message for text in told), message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("types", "value", "read"),
    [
        ("float", "1e-3", 0.001),
        ("float", "2", 2.0),
        ("float", 2, 2.0),
        ("int", "1e3", 1000),
        ("int", "-5", -5),
        ("bool", "true", True),
        ("bool", "False", False),
        ("int | None", "null", None),
        ("int | None", "4", 4),
        ("list", "[1,2]", [1, 2]),
        ("str", "12", "12"),
        ("str", "clip", "clip"),
        ("str | None", "null", None),
    ],
)
def test_values_are_read_in_the_type_of_their_parameter(types, value, read):
    got = coerce(value, Parameter("x", tuple(types.split(" | ")), None))
    assert got == read
    assert type(got) is type(read)


@pytest.mark.parametrize(
    ("types", "value"),
    [
        ("int", "true"),
        ("int", "x"),
        ("float", "null"),
        ("bool", "1"),
        ("list", "3"),
        ("bool", "yes"),
        ("str", 3),
    ],
)
def test_a_value_of_another_type_is_refused(types, value):
    with pytest.raises(UsageError, match=f"x must be {types}, got"):
        coerce(value, Parameter("x", (types,), None))


def test_the_report_is_one_offline_page_with_math_and_alternative_text(good, tmp_path):
    assert main(["render", str(good[1]), str(tmp_path / "out" / "01_toy.html")]) == 0
    html = (tmp_path / "out" / "01_toy.html").read_text()
    assert "<script" not in html
    assert not re.search(r"<link|src=\"(?!data:)|@import|url\(", html)
    assert "&lt;script&gt;printed" in html
    assert 'alt="A line &amp; &#34;quotes&#34;"' in html
    assert "<mi>ℝ</mi>" in unescape(html)
    assert "<mi>ℒ</mi>" in unescape(html)
    assert html.count("<mtr>") == 2
    assert "$" not in re.sub(r"<pre>.*?</pre>", "", html, flags=re.S)
    assert "<h1>1 A toy of <math" in html
    assert '<a href="#1-1-a-section">' in html
    assert '<h2 id="1-1-a-section">' in html
    assert 'href="02_other.html"' in html
    assert "<code>label = ab</code> (default None)" in html
    assert "<code>n =" not in html
    assert '<details class="code">' in html
    assert "1 of 1 claims hold" in html


def test_the_report_of_a_failed_run_says_so_at_its_top(broken):
    html = render.report(nbformat.read(broken[1].parent / "01_toy.failed.ipynb", 4), "01_toy")
    assert "<title>FAILED: 1 A toy" in html
    assert html.index("This run failed") < html.index("The first paragraph")
    assert "does not hold" in html
    assert 'id="failed-cell"' in html


def test_the_index_shows_each_notebook_and_tells_what_failed(good, broken, tmp_path, capsys):
    build = tmp_path / "smoke"
    build.mkdir()
    (build / "01_toy.run.ipynb").write_text(good[1].read_text())
    (build / "02_bad.failed.ipynb").write_text((broken[1].parent / "01_toy.failed.ipynb").read_text())
    arguments = ["index", str(tmp_path / "index.html"), str(build), "01_toy"]
    assert main(arguments) == 0
    assert main([*arguments, "02_bad", "03_missing"]) == 1
    printed, html = capsys.readouterr().out, (tmp_path / "index.html").read_text()
    assert "1 of 2 claims hold" in printed
    assert "FAILED 02_bad: ClaimFailed" in printed
    assert "FAILED 03_missing: was not run" in printed
    assert 'href="01_toy.html"' in html
    assert 'href="02_bad.failed.html#claim-1.1"' in html
    assert "Profile smoke" in html
    assert html.count("The first paragraph") == 2


def notebook_of(*cells):
    return nbformat.v4.new_notebook(cells=list(cells))


@pytest.mark.parametrize(
    ("formula", "typeset"),
    [
        (r"\mathcal L", "<mi>ℒ</mi>"),
        (r"\boldsymbol{\beta}", "<mi>𝜷</mi>"),
        (r"\mathbb{1}", "<mn>𝟙</mn>"),
        (r"\lVert x \rVert", '<mo stretchy="false">‖</mo><mi>x</mi>'),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "<mtr>"),
    ],
)
def test_letters_bars_and_aligned_lines_are_typeset_as_browsers_need_them(formula, typeset):
    assert typeset in unescape(render.mathml(formula))


@pytest.mark.parametrize(
    "formula", [r"\foo{x}", r"\frac{1", r"\left( x", r"a \eqref{b}", r"a \\ b", r"\mathbf{x}}", r"a & b"]
)
@pytest.mark.parametrize("mark", ["$", "$$"])
def test_a_formula_that_cannot_be_typeset_fails_by_name(formula, mark):
    with pytest.raises(render.RenderError, match="cannot typeset the formula") as caught:
        render.report(notebook_of(nbformat.v4.new_markdown_cell(f"So {mark}{formula}{mark}.")), "x")
    assert repr(formula.strip()) in str(caught.value)


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://x.org/a.js"></script>',
        '<img alt="a" src="https://x.org/a.png">',
        '<link rel="stylesheet" href="a.css">',
        '<p style="background: url(//x.org/a.png)">a</p>',
        "<iframe></iframe>",
    ],
)
def test_what_would_be_loaded_from_elsewhere_fails(html):
    output = nbformat.v4.new_output("display_data", data={"text/html": html})
    for cell in (nbformat.v4.new_markdown_cell(html), nbformat.v4.new_code_cell(outputs=[output])):
        with pytest.raises(render.RenderError, match="the report would"):
            render.report(notebook_of(cell), "x")


def test_a_figure_without_alternative_text_fails():
    output = nbformat.v4.new_output("display_data", data={"image/png": "AAAA"})
    with pytest.raises(render.RenderError, match="alternative text"):
        render.report(notebook_of(nbformat.v4.new_code_cell(outputs=[output])), "x")


def test_committed_outputs_hold_no_timings_paths_or_progress_bars(good, tmp_path):
    committed, executed = tmp_path / "01_toy.ipynb", tmp_path / "01_toy.run.ipynb"
    notebook = jupytext.read(good[0])
    run = nbformat.read(good[1], 4)
    run.cells = [c for c in run.cells if "injected-parameters" not in c.metadata.tags]
    run.cells[4].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="100%|###|"))
    nbformat.write(notebook, committed)
    nbformat.write(run, executed)
    take_outputs(committed, executed)
    text = committed.read_text()
    assert "A line & " in text
    assert "papermill" not in text
    assert "100%" not in text
    assert str(good[0].parent) not in text
    run.cells[2].source += " "
    nbformat.write(run, executed)
    with pytest.raises(UsageError, match="make pairs"):
        take_outputs(committed, executed)


def test_the_measured_column_is_made_from_the_claims(good):
    claims = {c.id: c for c in claims_of(nbformat.read(good[1], 4))}
    head = "a | b\n\n| statement | notebook | function | test | measured |\n|---|---|---|---|---|\n"
    row = "| $a \\| b$ [9.9] | x | y | z | {} |\n"
    new = measured_column(head + row.format("[1.1] old (text)") + "\ntail\n", claims)
    assert new == head + row.format("[1.1] 3 (3 ± 0)") + "\ntail\n"
    assert measured_column(new, claims) == new
    with pytest.raises(UsageError, match=r"names claim 7.7"):
        measured_column(head + row.format("[7.7]"), claims)
    with pytest.raises(UsageError, match="no table"):
        measured_column("| a |\n", claims)
