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
import pytest
from PIL import Image

from mmcl.notebook.claims import claims_of
from mmcl.reports import page
from mmcl.reports.__main__ import main
from mmcl.reports.formulas import RenderError, markdown, mathml
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
claim("thm-1.1.three", r"$n$ is three & $<$ four", n, 3, 0)
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
    assert [c.id for c in claims_of(notebook)] == ["thm-1.1.three"]
    assert "0.001 [7] ab True" in str([c.outputs for c in notebook.cells if "printed" in c.source])
    assert not list(good[1].parent.glob("*.failed.ipynb"))


def test_a_failed_claim_leaves_evidence_under_the_other_name_and_no_target(broken):
    assert not broken[1].exists()
    evidence = nbformat.read(broken[1].parent / "01_toy.failed.ipynb", 4)
    assert "ClaimFailed" in evidence.metadata.mmcl.problem
    assert "[thm-1.1.three]" in evidence.metadata.mmcl.problem


@pytest.mark.kernel
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
    assert not re.search(r"<script .|<link|src=\"(?!data:)|@import", html)
    assert "&lt;script&gt;printed" in html
    assert 'alt="A line &amp; &#34;quotes&#34;"' in html
    assert "<mi>ℝ</mi>" in unescape(html)
    assert "<mi>ℒ</mi>" in unescape(html)
    assert html.count("<mtr>") == 2
    assert "$" not in re.sub(r"<(pre|script)>.*?</\1>", "", html, flags=re.S)
    assert "<h1>1 A toy of <math" in html
    assert '<a href="#1-1-a-section">' in html
    assert html.index("1 of 1 checks hold") < html.index("The first paragraph") < html.index('id="ledger"')
    assert '<h2 id="1-1-a-section">' in html
    assert 'href="02_other.html"' in html
    assert "<code>label</code></td><td><strong>ab</strong></td><td>null</td><td>a label" in html
    assert "<code>n</code></td><td>3</td><td>3</td><td>how many" in html
    assert '<details class="code">' in html


def test_the_report_of_a_failed_run_says_so_at_its_top(broken):
    html = page.report(nbformat.read(broken[1].parent / "01_toy.failed.ipynb", 4), "01_toy")
    assert "<title>FAILED: 1 A toy" in html
    told = html.index("1 of 1 checks")
    assert "not hold with these parameters" in html[told : told + 80]
    assert html.index('<a href="#claim-thm-1.1.three">[thm-1.1.three]') < html.index("The first paragraph")


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
    assert re.search(r"^01_toy +\d+ s +1 of 1 hold$", printed, re.M)
    assert re.search(
        r"^02_bad +\d+ s +0 of 1 hold\n03_missing +0 s +0 of 0 hold\nall +\d+ s +1 of 2 hold$", printed, re.M
    )
    assert "FAILED 02_bad: ClaimFailed" in printed
    assert "FAILED 03_missing: was not run" in printed
    assert 'href="01_toy.html"' in html
    assert 'Failed: <a href="02_bad.failed.html">' in html
    assert "Profile smoke" in html
    assert "1 of 2 checks hold" in " ".join(html.split())
    ledger = (tmp_path / "ledger.html").read_text()
    assert 'href="01_toy.html#claim-thm-1.1.three"' in ledger
    assert 'href="02_bad.failed.html#claim-thm-1.1.three"' in ledger


def test_the_index_is_a_map_of_the_statements_with_the_status_of_their_claims(good, broken, tmp_path):
    build, registry = tmp_path / "default", tmp_path / "statements.yaml"
    build.mkdir()
    (build / "01_toy.run.ipynb").write_text(good[1].read_text())
    (build / "02_bad.failed.ipynb").write_text((broken[1].parent / "01_toy.failed.ipynb").read_text())
    rows = [
        ("01_toy", "shown", "[thm-1.1.three]"),
        ("01_toy", "shown in part", "[thm-1.1.three]"),
        ("01_toy", "differs", "[thm-1.1.three]"),
        ("01_toy", "open", "[]"),
        ("01_toy", "shown", "[thm-1.1.three, thm-1.1.four]"),
        ("02_bad", "shown", "[thm-1.1.three]"),
    ]
    entry = "- {{id: s{i}, number: Theorem {i}, part: paper, text: $n$, verdict: {v}, chapter: {c}, section: 1.1 A, "
    entry += "functions: [f], tests: [t], claims: {made}}}\n"
    registry.write_text("".join(entry.format(i=i, c=c, v=v, made=made) for i, (c, v, made) in enumerate(rows)))
    arguments = ["index", "--statements", str(registry), str(tmp_path / "index.html"), str(build), "01_toy", "02_bad"]
    assert main(arguments) == 1
    html = (tmp_path / "index.html").read_text()
    expected = ["shown", "shown in part", "differs", "open", "not reached", "does not hold here"]
    rows = re.findall(
        r'<tr class="[\w-]*"><td><a href="([^"]*)">(Theorem \d)</a>.*?<span class="status">. ([^<]*)<', html, re.S
    )
    assert [status for *_, status in rows] == expected
    assert rows[0][:2] == ("01_toy.html#s0", "Theorem 0")
    assert rows[-1][0] == "02_bad.failed.html#s5"
    nodes = re.findall(r'<a class="node ([\w-]*)" id="node-s\d" href="([^"]*)" aria-label="([^"]*)"', html)
    assert [kind.replace("-", " ") for kind, *_ in nodes] == [told.partition(": ")[2] for *_, told in nodes] == expected
    assert [link for _, link, _ in nodes] == [link for link, *_ in rows]
    assert html.count("<img") == 1
    assert '<strong>3</strong></a> <span class="number-shown">(3 ± 0)' in html


def test_the_html_of_a_claim_and_of_the_ledger_is_that_of_the_notebook_with_formulas_typeset(good):
    notebook = nbformat.read(good[1], 4)
    html = page.report(notebook, "01_toy")
    outputs = [o.data for c in notebook.cells for o in c.get("outputs", []) if "text/html" in o.get("data", {})]
    formula = re.compile(r"<math.*?</math>")
    for data in outputs:
        for part in data["text/html"].split("$")[::2]:
            assert part.replace("<td>thm-1.1.three</td>", "") in html or "ledger" in part
    assert '<a href="#claim-thm-1.1.three">thm-1.1.three</a>' in html
    assert len(formula.findall(html)) >= 4


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
    assert html.index("1 of 1 checks") < html.index("The first paragraph")
    assert "a link" in html
    assert "02_other" not in html
    assert "index.html" not in html


def test_the_numbers_of_a_report_are_there_for_machines(asked):
    folder, _, source = asked
    found = json.loads((folder / "claims.json").read_text())
    values = {"n": 7, "tau": 0.001, "sizes": [0.001], "label": "a = b", "fast": True}
    assert found["parameters"] == values == found["changed"]
    assert [(c["id"], c["measured"], c["expected"], c["holds"]) for c in found["claims"]] == [
        ("thm-1.1.three", 7, 3, False)
    ]
    assert found["versions"]["torch"]
    assert found["seconds"] > 0
    (row,) = csv.DictReader((folder / "results.csv").read_text().splitlines())
    assert (row["n"], row["fast"], row["id"], row["measured"], row["holds"]) == (
        "7",
        "true",
        "thm-1.1.three",
        "7.0",
        "false",
    )
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


def test_a_folded_answer_ends_where_the_notebook_closes_it():
    html = str(markdown("<details><summary>Answer</summary>\n\nfor $r$ large\n\n</details>\n\nafter"))
    assert html.index("large") < html.index("</details>") < html.index("after")


@pytest.mark.parametrize(
    "formula", [r"\foo{x}", r"\frac{1", r"\left( x", r"a \eqref{b}", r"a \\ b", r"\mathbf{x}}", r"a & b"]
)
@pytest.mark.parametrize("mark", ["$", "$$"])
def test_a_formula_that_cannot_be_typeset_fails_by_name(formula, mark):
    with pytest.raises(RenderError, match="cannot typeset the formula") as caught:
        page.report(notebook_of(nbformat.v4.new_markdown_cell(f"So {mark}{formula}{mark}.")), "x")
    assert repr(formula.strip()) in str(caught.value)


def test_a_figure_without_alternative_text_fails():
    output = nbformat.v4.new_output("display_data", data={"image/png": "AAAA"})
    with pytest.raises(RenderError, match="alternative text"):
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
    assert figure.data["image/png"] == drawn.data["image/png"]
    assert "image/svg+xml" in drawn.data
    assert "svg" not in text
    assert Image.open(io.BytesIO(base64.b64decode(figure.data["image/png"]))).mode == "P"
    assert "papermill" not in text
    assert "100%" not in text
    assert str(good[0].parent) not in text
    run.cells[2].source += " "
    nbformat.write(run, executed)
    with pytest.raises(UsageError, match="make pairs"):
        take_outputs(committed, executed)


# ---------------------------------------------------------------- whose mmcl


@pytest.fixture
def elsewhere(tmp_path):
    """A repository of another place with a module of its own: the path of its notebook."""
    (tmp_path / "mmcl").mkdir()
    (tmp_path / "mmcl" / "__init__.py").write_text("raise RuntimeError('this module is broken')\n")
    (tmp_path / "notebooks").mkdir()
    return write(tmp_path / "notebooks", HEAD + LEDGER)


@pytest.mark.parametrize("command", ["run", "report", "sweep"])
def test_a_notebook_beside_another_module_is_refused_with_a_sentence(elsewhere, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text("n: [1, 2]\n")
    given = {"run": ["x.run.ipynb"], "report": [], "sweep": ["grid.yaml"]}[command]
    assert main([command, str(elsewhere), *given]) == 2
    message = capsys.readouterr().err
    assert f"belongs to the mmcl in {tmp_path}" in message
    assert message.count("\n") == 1


@pytest.mark.kernel
def test_the_kernel_imports_the_module_that_runs_it_wherever_it_is_installed(tmp_path, monkeypatch):
    """Another module on the path, as one that was installed from another place, is not what the notebook gets."""
    (tmp_path / "mmcl").mkdir()
    (tmp_path / "mmcl" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    source = write(tmp_path, "# %%\nimport mmcl\nprint(mmcl.__file__)\n")
    assert main(["run", str(source), str(tmp_path / "x.run.ipynb")]) == 0
    (output,) = nbformat.read(tmp_path / "x.run.ipynb", 4).cells[0].outputs
    assert output.text.strip() == str(Path(page.__file__).parents[1] / "__init__.py")
