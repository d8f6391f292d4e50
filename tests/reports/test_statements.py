import nbformat
import pytest
from nbconvert.filters import add_anchor

from mmcl.notebook.claims import Claim
from mmcl.reports import places, statements
from mmcl.reports.formulas import markdown
from mmcl.reports.parameters import UsageError

ENTRY = """
- id: thm-3.1
  number: Theorem 3.1, restated as 8.1
  part: paper
  text: 'The error falls as $1/\\sqrt n$'
  verdict: shown
  chapter: 02_toy
  section: 1 The rate
  functions: [mmcl.spectral.fit, mmcl.theory.Rate.bound]
  tests: [tests/test_spectral.py::test_rate]
  claims: [thm-3.1.rate-in-n, 2.10]
"""
SECOND = ENTRY.replace("thm-3.1\n", "lem-7.1\n").replace("claims: ", "rests_on: [thm-3.1]\n  claims: ")
CLAIMS = {c.id: c for c in (Claim("thm-3.1.rate-in-n", "", -0.5, -0.5, 0.1, 0.1), Claim("2.10", "", 1, 1, 0, 0))}


def text(source: str):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source)])


NOTEBOOKS = {
    "02_toy": text("# 02 Toy\n## 1 The rate of $\\hat u$\nWords\n### 1.1 More\n```\n## no heading\n```\n## 2 End")
}


@pytest.fixture
def root(tmp_path):
    """A repository of one function, one class and one test."""
    for folder in ("mmcl", "tests", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "mmcl" / "spectral.py").write_text("import torch\n\n\ndef fit(x):\n    return x\n")
    (tmp_path / "mmcl" / "theory.py").write_text("class Rate:\n    share = 1\n\n    def bound(self):\n        pass\n")
    (tmp_path / "tests" / "test_spectral.py").write_text("@decorated\n@twice\ndef test_rate():\n    pass\n")
    return tmp_path


def registry(folder, entries: str):
    (folder / "statements.yaml").write_text(entries, "utf-8")
    return folder / "statements.yaml"


def test_an_entry_is_read_as_it_is_typed(tmp_path):
    first, second = statements.read(registry(tmp_path, ENTRY + SECOND))
    assert first.number == "Theorem 3.1, restated as 8.1"
    assert first.text == r"The error falls as $1/\sqrt n$"
    assert first.claims == ("thm-3.1.rate-in-n", "2.10"), "2.10 is not 2.1"
    assert (first.rests_on, second.rests_on) == ((), ("thm-3.1",))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "verdict: shown",
            "verdict: perhaps",
            "thm-3.1: verdict is 'perhaps', not one of shown, shown in part, differs",
        ),
        ("part: paper", "part: theirs", "part is 'theirs', not one of paper, ours"),
        ("number: Theorem 3.1, restated as 8.1", "number:", "has no number"),
        ("chapter:", "notebook:", "has a field 'notebook'; the fields are id, number"),
        ("tests: [tests/test_spectral.py::test_rate]", "tests: a", "tests must be a list of words, not a"),
        ("section: 1 The rate", "section: [a]", "section must be one text"),
        ("claims: [thm-3.1.rate-in-n, 2.10]", "claims: []", "it needs functions, tests and claims"),
        ("- id: thm-3.1", "- [1]\n- id: thm-3.1", "entry 1 is not made of lines"),
        ("claims: [", "rests_on: [thm-9.9]\n  claims: [", "thm-3.1 rests on 'thm-9.9', which is no other statement"),
        ("claims: [", "rests_on: [thm-3.1]\n  claims: [", "rests on 'thm-3.1'"),
        ("- id: thm-3.1", ENTRY + "- id: thm-3.1", "the id thm-3.1 is there twice"),
        (ENTRY, "id: thm-3.1", "must be a list"),
        ("part: paper", "part: [", "is not YAML"),
        ("part: paper", "part: &a paper\n  chapter: *a", "aliases (*) have no place"),
        ("part: paper", "part: !!str paper", "tags (!) and aliases"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(tmp_path, old, new, told):
    with pytest.raises(UsageError) as caught:
        statements.read(registry(tmp_path, ENTRY.replace(old, new)))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_open_statement_needs_no_function(tmp_path):
    lines = [line for line in ENTRY.splitlines() if not line.startswith(("  functions", "  tests", "  claims"))]
    (only,) = statements.read(registry(tmp_path, "\n".join(lines).replace("verdict: shown", "verdict: open")))
    assert (only.verdict, only.functions) == ("open", ())


def test_a_row_of_the_table_leads_to_section_function_and_test_and_shows_the_numbers(root):
    made = statements.read(registry(root, ENTRY))
    assert statements.problems(made, root, NOTEBOOKS, CLAIMS) == []
    row = statements.table(made, root, NOTEBOOKS, CLAIMS).splitlines()[2]
    assert row.strip("| ").split(" | ") == [
        r"The error falls as $1/\sqrt n$ (Theorem 3.1, restated as 8.1)",
        r"[02, 1](notebooks/02_toy.ipynb#1-The-rate-of-%24%5Chat-u%24)",
        "[`mmcl.spectral.fit`](mmcl/spectral.py#L4)<br>[`mmcl.theory.Rate.bound`](mmcl/theory.py#L4)",
        "[`test_rate`](tests/test_spectral.py#L3)",
        "shown: [thm-3.1.rate-in-n] -0.5 (-0.5 ± 0.1); [2.10] 1 (1 ± 0)",
    ]


def test_bars_in_a_row_stay_within_their_cell(root):
    made = statements.read(registry(root, ENTRY.replace("The error falls", "$|x|$ falls")))
    assert r"| $\|x\|$ falls as" in statements.table(made, root, NOTEBOOKS, CLAIMS)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("spectral.fit", "spectral.fitt", "mmcl/spectral.py does not define fitt"),
        ("spectral.fit", "spectre.fit", "mmcl.spectre.fit is in no file"),
        ("Rate.bound", "Rate.limit", "does not define Rate.limit"),
        ("::test_rate", "::test_other", "does not define test_other"),
        ("tests/test_spectral.py", "tests/test_gone.py", "does not define test_rate"),
        ("1 The rate", "9 Gone", "no sections have '9 Gone' in their heading"),
        ("1 The rate", "e", "sections have 'e' in their heading"),
        ("02_toy", "03_gone", "there is no chapter '03_gone'"),
        ("2.10", "2.11", "makes the claim 2.11"),
    ],
)
def test_what_does_not_exist_is_told_once_and_stops_the_table(root, old, new, told):
    made = statements.read(registry(root, ENTRY.replace(old, new)))
    (found,) = statements.problems(made, root, NOTEBOOKS, CLAIMS)
    assert told in found
    assert found.startswith("thm-3.1: ")
    with pytest.raises(UsageError):
        statements.table(made, root, NOTEBOOKS, CLAIMS)


@pytest.mark.parametrize(
    "heading", ["1 The rate", "3 A *weak* `fit`", r"2 CLIP at rate $1/\tau$", "4 What (not) to do: a & b"]
)
def test_the_anchor_of_a_heading_is_that_of_jupyter(heading):
    """nbconvert makes the same, up to the spelling of the characters that an address must not hold."""
    from urllib.parse import unquote

    theirs = add_anchor(f"<h2>{markdown(heading.replace('$', '&#36;'), inline=True)}</h2>").partition('id="')[2]
    assert unquote(places.anchor(heading)) == unquote(theirs.partition('"')[0].replace("&amp;", "&"))


def test_the_table_stands_between_its_marks_and_nothing_else_changes():
    readme = f"head\n{statements.BEGIN}\nold | table\n{statements.END}\ntail\n"
    made = statements.with_table(readme, "| new |")
    assert made == f"head\n{statements.BEGIN}\n| new |\n{statements.END}\ntail\n"
    assert statements.with_table(made, "| new |") == made
    with pytest.raises(UsageError, match="has no place for the table"):
        statements.with_table("head\n", "| new |")


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("Theorem 3.1; chapter 02.", []),
        ("Theorem 3.1; chapter 02_toy.", []),
        ("chapter 02, section 1.", []),
        ("chapter 02, sections 1 to 2.", []),
        ("chapter 02, section 2.", ["mmcl/spectral.py:4 names chapter 02, section 2, which has no fit"]),
        ("chapters 02 and 03.", ["mmcl/spectral.py:4 names chapter 03, which has no fit"]),
        ("chapter 07.", ["mmcl/spectral.py:4 names chapter 07, which has no fit"]),
        ("the chapter of 1901.", []),
    ],
)
def test_a_docstring_that_sends_to_a_chapter_that_never_mentions_the_function_is_found(root, reference, told):
    (root / "notebooks" / "02_toy.py").write_text("# %%\n# # 02\n# ## 1 One\nfit(x)\n# ## 2 Two\nfits(x)\n")
    (root / "notebooks" / "03_other.py").write_text("# %%\nrefit(x)\n")
    (root / "mmcl" / "spectral.py").write_text(
        f'import torch\n\n\ndef fit(x):\n    """Fit.\n\n    Reference: {reference}\n    """\n'
    )
    assert places.unmentioned(root) == told
