import base64
import csv
import io
import json
import re
import shlex
from html import unescape
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from PIL import Image

from mmcl.notebook.claims import claims_of
from mmcl.reports import page
from mmcl.reports.__main__ import main
from mmcl.reports.formulas import mathml
from mmcl.reports.parameters import (
    Parameter,
    UsageError,
    changed,
    choose_parameters,
    coerce,
    command_for,
    find_notebook,
    parameters_of,
    slug,
)
from mmcl.reports.run import take_outputs
from mmcl.reports.statements import measured_column, statements

HEAD = r"""# %% [markdown]
# # 1 A toy of $n$ numbers
#
# The first paragraph, with $\hat\Sigma \in \mathbb{R}^{d\times r}$ and [a link](02_other.ipynb).
#
# $$\begin{aligned} a &= \mathcal{L}(x) \\ b &< c \end{aligned}$$

# %% tags=["parameters"]
n: int = 3  # how many
tau: float = 1.0  # temperature
sizes: list = [1, 2]  # sizes, as [1, 2]
label: str | None = None  # a label
fast: bool = False  # whether

# %%
from matplotlib.figure import Figure
from mmcl.notebook.claims import claim, ledger, show

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
    source = write(tmp_path, "# %%\nfrom mmcl.notebook.claims import claim\nclaim('1.1', 'nan', float('nan'), 0, 1);")
    assert main(["run", str(source), str(tmp_path / "a.run.ipynb")]) == 1
    source = write(tmp_path, "# %%\n1 / 0\n")
    assert main(["run", str(source), str(tmp_path / "b.run.ipynb")]) == 1
    assert sorted(p.name for p in tmp_path.glob("?.*.ipynb")) == ["a.failed.ipynb", "b.failed.ipynb"]
    html = page.report(nbformat.read(tmp_path / "b.failed.ipynb", 4), "b")
    assert html.index("This run failed") < html.index('id="failed-cell"') < html.rindex("ZeroDivisionError")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["-p", "size=[3]"],
            ["'size'", "did you mean sizes?", "n (int, default 3)", "label (str | None, default null)"],
        ),
        (["-p", "n=2.5"], ["parameter n must be int, got '2.5'; its default is 3"]),
        (["-p", "n"], ["'n' is not name=value"]),
        (["-p", "fast", "yes"], ["parameter fast must be bool (true or false), got 'yes'"]),
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
        ("float", "-1e-3", -0.001),
        ("float", "inf", float("inf")),
        ("int", "1_000", 1000),
        ("float", "2", 2.0),
        ("float", 2, 2.0),
        ("int", "1e3", 1000),
        ("int", "-5", -5),
        ("bool", "true", True),
        ("bool", "False", False),
        ("int | None", "null", None),
        ("int | None", "4", 4),
        ("list", "[1,2]", [1, 2]),
        ("list", "[1e-3, true, null, clip, [2]]", [0.001, True, None, "clip", [2]]),
        ("list[float]", "[1, 2e0]", [1.0, 2.0]),
        ("list[str]", "[clip, linear]", ["clip", "linear"]),
        ("list[int] | None", "null", None),
        ("str", "12", "12"),
        ("str", "clip", "clip"),
        ("str", "a: b # c", "a: b # c"),
        ("str", "", ""),
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
        ("list[int]", "[1, 2.5]"),
        ("int", "010"),
        ("float", "1:30"),
    ],
)
def test_a_value_of_another_type_is_refused(types, value):
    with pytest.raises(UsageError, match=rf"x must be {re.escape(types)}( \(.*\))?, got"):
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
    assert "<code>label</code></td><td><strong>ab</strong></td><td>null</td><td>a label" in html
    assert "<code>n</code></td>" not in html
    assert '<details class="code">' in html
    assert "1 of 1 claims hold with these parameters" in html


def test_the_report_of_a_failed_run_says_so_at_its_top(broken):
    html = page.report(nbformat.read(broken[1].parent / "01_toy.failed.ipynb", 4), "01_toy")
    assert "<title>FAILED: 1 A toy" in html
    told = html.index("1 of 1 claims")
    assert "not hold with these parameters" in html[told : told + 80]
    assert html.index('<a href="#claim-1.1">[1.1]') < html.index("The first paragraph")


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


def test_the_index_is_a_map_of_the_statements_with_the_status_of_their_claims(good, broken, tmp_path):
    build, readme = tmp_path / "default", tmp_path / "README.md"
    build.mkdir()
    (build / "01_toy.run.ipynb").write_text(good[1].read_text())
    (build / "02_bad.failed.ipynb").write_text((broken[1].parent / "01_toy.failed.ipynb").read_text())
    link, measured = "[{0}, 1](notebooks/{0}.ipynb)", "[1.1] 3 (3 ± 0)"
    rows = [
        ("Three is $n$", "01_toy", measured),
        ("Nearly three", "01_toy", f"shown in part: {measured}"),
        ("Not three", "01_toy", f"differs: {measured}"),
        ("Who knows", "01_toy", "open"),
        ("Three and four", "01_toy", f"{measured}; [1.7] 4 (4 ± 0)"),
        ("Four", "02_bad", measured),
    ]
    head = "| statement | notebook | function | test | measured |\n|---|---|---|---|---|\n"
    lines = [f"| {text} | {link.format(name)} | f | t | {cell} |\n" for text, name, cell in rows]
    readme.write_text(head + "".join(lines))
    arguments = ["index", "--readme", str(readme), str(tmp_path / "index.html"), str(build), "01_toy", "02_bad"]
    assert main(arguments) == 1
    html = (tmp_path / "index.html").read_text()
    statuses = re.findall(r'<span class="status">([^<]*)</span> <a href="([^"]*)">notebook (\w+), 1', html)
    assert [s for s, _, _ in statuses] == [
        "shown",
        "shown in part",
        "differs",
        "open",
        "not reached",
        "does not hold here",
    ]
    assert statuses[0][1] == "01_toy.html#claim-1.1"
    assert statuses[-1][1] == "02_bad.failed.html#claim-1.1"
    assert html.count("<figure>") == 5
    assert "<strong>3</strong> (3 ± 0)" in html


def test_a_status_that_is_none_and_a_row_without_a_notebook_are_refused():
    head = "| statement | notebook | function | test | measured |\n|---|---|---|---|---|\n"
    with pytest.raises(UsageError, match="'Maybe' has status 'perhaps'"):
        statements(head + "| Maybe | [01, 1](notebooks/01_toy.ipynb) | f | t | perhaps: [1.1] |\n")
    with pytest.raises(UsageError, match="no link to a notebook"):
        statements(head + "| Maybe | 01 | f | t | [1.1] |\n")


def test_a_judged_status_survives_new_numbers(good):
    claims = {c.id: c for c in claims_of(nbformat.read(good[1], 4))}
    head = "| statement | notebook | function | test | measured |\n|---|---|---|---|---|\n"
    text = head + "| a | x | y | z | differs: [1.1] old |\n"
    assert "| differs: [1.1] 3 (3 ± 0) |" in measured_column(text, claims)


# ---------------------------------------------------------------- questions


@pytest.fixture(scope="module")
def asked(good, tmp_path_factory):
    """A report whose claim does not hold, by file, profile and command line: (folder, exit status, source)."""
    folder = tmp_path_factory.mktemp("asked")
    (folder / "values.yaml").write_text("n: 7\nlabel: 'from a file'\nsizes: [1e-3]\n")
    values = ["-f", str(folder / "values.yaml"), "-p", "label", "a = b", "-p", "fast=true"]
    status = main(["report", str(good[0]), "--profile", "smoke", *values, "-o", str(folder / "out")])
    (made,) = (folder / "out").iterdir()
    return made, status, good[0]


def test_a_report_is_written_whether_or_not_its_claims_hold_and_the_status_tells(asked):
    folder, status, _ = asked
    assert status == 1
    assert sorted(p.name for p in folder.iterdir()) == [
        f"{folder.name}.html", f"{folder.name}.ipynb", "claims.json", "results.csv",
    ]  # fmt: skip
    html = (folder / f"{folder.name}.html").read_text()
    assert html.index("1 of 1 claims") < html.index("The first paragraph")
    assert "a link" in html
    assert "02_other" not in html
    assert "index.html" not in html


def test_the_numbers_of_a_report_are_there_for_machines(asked):
    folder, _, source = asked
    found = json.loads((folder / "claims.json").read_text())
    values = {"n": 7, "tau": 0.001, "sizes": [0.001], "label": "a = b", "fast": True}
    assert found["parameters"] == values == found["changed"]
    assert [(c["id"], c["measured"], c["expected"], c["holds"]) for c in found["claims"]] == [("1.1", 7, 3, False)]
    assert found["versions"]["torch"]
    assert found["seconds"] > 0
    (row,) = csv.DictReader((folder / "results.csv").open())
    assert (row["n"], row["fast"], row["id"], row["measured"], row["holds"]) == ("7", "true", "1.1", "7.0", "false")
    assert json.loads(row["sizes"]) == [0.001]


def test_the_command_in_a_report_asks_the_same_question_again(asked):
    folder, _, source = asked
    found = json.loads((folder / "claims.json").read_text())
    words = shlex.split(found["command"])
    assert words[:4] == ["python", "-m", "mmcl", "report"]
    assert words[4] == str(source)
    pairs = [value for option, value in zip(words, words[1:], strict=False) if option == "-p"]
    assert choose_parameters(source, pairs=pairs) == found["changed"]
    assert shlex.join(words) in unescape((folder / f"{folder.name}.html").read_text())


@pytest.mark.parametrize(
    "values",
    [{"x": "it's"}, {"x": "null"}, {"x": -0.001}, {"x": float("inf")}, {"x": [True, None, "a b", 1e-9]}, {"x": ""}],
)
def test_a_value_survives_its_command(values):
    (pair,) = shlex.split(command_for("01", values))[6:]
    kind = type(values["x"]).__name__
    assert coerce(pair.partition("=")[2], Parameter("x", (kind,), None)) == values["x"]


def test_file_names_are_readable_and_differ_with_the_parameters():
    many = [{}, {"n": 1}, {"n": 1.5}, {"n": "1"}, {"n": [1, 2]}, {"n": [12]}, {"n": "a/b"}, {"n": "a\\b"}, {"n": "a b"}]
    many += [{"n": "x" * 300}, {"n": "x" * 301}, {"n": 1, "m": 2}, {"n": "1,m=2"}]
    names = [slug(values) for values in many]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w.+=,-]{1,80}", name) for name in names)
    assert slug({"n": 500, "noise": "isotropic"}).startswith("n=500,noise=isotropic-")


def test_a_report_made_again_replaces_the_one_before(asked):
    folder, _, source = asked
    (folder / "stale").write_text("")
    values = ["n=7", "sizes=[1e-3]", "label=a = b", "fast=true", "tau=1e-3"]
    arguments = [word for pair in values for word in ("-p", pair)]
    assert main(["report", str(source), *arguments, "-o", str(folder.parent)]) == 1
    assert list(folder.parent.iterdir()) == [folder]
    assert not (folder / "stale").exists()


def test_make_passes_its_pairs_in_one_argument(good, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("mmcl.reports.answer.report", lambda *given: seen.append(given) or (tmp_path, {"problem": ""}))
    pairs = "n=1e3 label=two words sizes=[1, 2] fast=true"
    assert main(["report", str(good[0]), "--pairs", pairs]) == 0
    assert seen[0][1] == {"n": 1000, "label": "two words", "sizes": [1, 2], "fast": True}


def test_parameters_are_listed_with_their_meaning(good, capsys):
    assert main(["parameters", str(good[0])]) == 0
    lines = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]
    assert ["label", "str | None", "null", "a label"] in lines
    assert ["sizes", "list", "[1, 2]", "sizes, as [1, 2]"] in lines


def test_a_comment_is_read_after_a_default_that_spans_lines_or_holds_a_hash():
    source = 'a: list = [\n    1,\n]  # one\nb = "#é"  # two\nc: int = 1\n'
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    found = parameters_of(notebook_of(cell))
    assert [(p.meaning, p.default) for p in found.values()] == [("one", [1]), ("two", "#é"), ("", 1)]
    assert changed({"c": 2, "a": [1]}, found) == {"c": 2}


@pytest.mark.parametrize("wanted", ["01", "1", "01_toy", "toy", "notebooks/01_toy.py", "01_toy.ipynb"])
def test_a_notebook_is_found_by_number_name_or_path(good, wanted):
    assert find_notebook(wanted, good[0].parent) == good[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["09"], ["no notebook '09'", "01_toy"]),
        (["01_tyo"], ["did you mean 01_toy?"]),
        ([""], ["name a notebook", "01_toy"]),
        (["01", "-f", "missing.yaml"], ["cannot read missing.yaml"]),
        (["01", "-f", "broken.yaml"], ["broken.yaml is not YAML in line 2, column 2"]),
        (["01", "-f", "list.yaml"], ["must hold lines 'name: value', not a list"]),
        (["01", "-o", "list.yaml"], ["cannot write into list.yaml", "-o"]),
        (["01", "--treads", "2"], ["unrecognized arguments", "--help"]),
    ],
)
def test_a_wrong_question_ends_in_one_sentence_before_a_kernel_starts(
    good, tmp_path, monkeypatch, capsys, arguments, told
):
    (tmp_path / "notebooks").symlink_to(good[0].parent)
    (tmp_path / "broken.yaml").write_text("n: [1, 2\nx: 3\n")
    (tmp_path / "list.yaml").write_text("- n\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mmcl.reports.answer.execute", lambda *_: pytest.fail("a kernel was started"))
    try:
        status = main(["report", *arguments])
    except SystemExit as stop:
        status = stop.code
    message = capsys.readouterr().err
    assert status == 2
    assert all(text in message for text in told), message
    assert message.count("\n") == 1


# ---------------------------------------------------------------- pages


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
    assert typeset in unescape(mathml(formula))


@pytest.mark.parametrize(
    "formula", [r"\foo{x}", r"\frac{1", r"\left( x", r"a \eqref{b}", r"a \\ b", r"\mathbf{x}}", r"a & b"]
)
@pytest.mark.parametrize("mark", ["$", "$$"])
def test_a_formula_that_cannot_be_typeset_fails_by_name(formula, mark):
    with pytest.raises(page.RenderError, match="cannot typeset the formula") as caught:
        page.report(notebook_of(nbformat.v4.new_markdown_cell(f"So {mark}{formula}{mark}.")), "x")
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
        with pytest.raises(page.RenderError, match="the report would"):
            page.report(notebook_of(cell), "x")


def test_a_figure_without_alternative_text_fails():
    output = nbformat.v4.new_output("display_data", data={"image/png": "AAAA"})
    with pytest.raises(page.RenderError, match="alternative text"):
        page.report(notebook_of(nbformat.v4.new_code_cell(outputs=[output])), "x")


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
    (figure,) = [
        o for c in nbformat.read(committed, 4).cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    (drawn,) = [o for c in run.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    small, whole = (Image.open(io.BytesIO(base64.b64decode(o.data["image/png"]))) for o in (figure, drawn))
    assert small.mode == "P"
    assert small.size == whole.size
    assert abs(np.asarray(small.convert("RGB"), float) - np.asarray(whole.convert("RGB"), float)).max() < 32
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
