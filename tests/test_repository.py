"""The files of the repository agree with each other."""

import base64
import pkgutil
import re
import tomllib
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

import mmcl
from mmcl.notebook.claims import claims_of
from mmcl.reports.page import figures
from mmcl.reports.parameters import choose_parameters, parameters_of
from mmcl.reports.statements import HEADER, measured_column

ROOT = Path(mmcl.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RANGES = [Requirement(r) for r in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]
LOCK = [Requirement(r) for r in (ROOT / "requirements.lock").read_text().splitlines() if r[0] != "#"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
README = ROOT / "README.md"


def rows():
    """The rows of the README's statement table, as lists of cells."""
    lines = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in README.read_text("utf-8").splitlines()]
    start = next(i for i, cells in enumerate(lines) if [c.strip() for c in cells] == HEADER) + 2
    stop = next(i for i in range(start, len(lines) + 1) if i == len(lines) or not lines[i])
    return lines[start:stop]


@pytest.fixture(scope="module")
def committed():
    return {source.stem: nbformat.read(source.with_suffix(".ipynb"), 4) for source in SOURCES}


@pytest.mark.parametrize("wanted", RANGES, ids=lambda r: r.name)
def test_the_lock_and_the_conda_environment_are_within_the_ranges_of_the_project(wanted):
    pinned = [r for r in LOCK if r.name == wanted.name]
    assert pinned
    for pin in pinned:
        (version,) = pin.specifier
        assert version.operator == "=="
        assert wanted.specifier.contains(version.version)
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    entries = [entry.split(" ") for entry in conda if isinstance(entry, str)]
    (found,) = [rest for name, *rest in entries if name == CONDA_NAMES.get(wanted.name, wanted.name)]
    assert found[0] == str(wanted.specifier)


def test_the_conda_environment_asks_for_nothing_else_and_for_a_cpu_build():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    names = {entry.split(" ")[0] for entry in conda["dependencies"] if isinstance(entry, str)}
    assert names == {CONDA_NAMES.get(r.name, r.name) for r in RANGES} | {"python", "make", "pip"}
    assert "pytorch ==2.13.0 cpu*" in conda["dependencies"]
    assert conda["channels"] == ["conda-forge", "nodefaults"]


def test_the_lock_is_exact_and_free_of_cuda_and_of_indexes():
    assert len(LOCK) > 50
    for pin in LOCK:
        assert re.fullmatch(r"==[\w.+]+", str(pin.specifier)), pin
        assert not re.match("nvidia|cuda|triton", pin.name), pin
    assert not re.search(r"^ *-|://|--hash", (ROOT / "requirements.lock").read_text(), re.M)


def test_the_versions_of_the_software_agree():
    assert PROJECT["version"] == mmcl.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == mmcl.__version__


def test_make_help_lists_every_target_a_user_would_type():
    text = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split())
    assert phony - set(re.findall(r"^([a-z]+):.*## ", text, re.M)) == {"check-pairs", "check-python"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_a_notebook_has_parameters_and_its_profiles_fit_them(source):
    notebook = jupytext.read(source)
    assert parameters_of(notebook)
    for profile in yaml.safe_load((source.parent / "profiles.yaml").read_text()):
        choose_parameters(source, profile)


def test_profiles_name_existing_notebooks():
    numbers = {source.stem[:2] for source in SOURCES}
    for profile in yaml.safe_load((ROOT / "notebooks" / "profiles.yaml").read_text()).values():
        assert set(profile) <= numbers


def test_committed_notebooks_show_their_outputs_and_are_small(committed):
    assert sum(s.with_suffix(".ipynb").stat().st_size for s in SOURCES) < 3e6
    for name, notebook in committed.items():
        assert set(notebook.metadata) <= {"kernelspec", "jupytext"}, name
        code = [c for c in notebook.cells if c.cell_type == "code"]
        assert all(c.execution_count for c in code), f"{name}: run make outputs"
        for cell in notebook.cells:
            assert set(cell.metadata) <= {"tags", "lines_to_next_cell"}, name
            assert not any(o.get("name") == "stderr" for o in cell.get("outputs", [])), name
        assert all(c.holds for c in claims_of(notebook)), name


def test_claim_ids_are_unique_and_begin_with_the_number_of_their_notebook(committed):
    ids = [(name, c.id) for name, notebook in committed.items() for c in claims_of(notebook)]
    assert len({i for _, i in ids}) == len(ids)
    for name, i in ids:
        assert i.startswith(f"{int(name[:2])}."), (name, i)


def test_the_measured_column_of_the_readme_is_current(committed):
    claims = {c.id: c for notebook in committed.values() for c in claims_of(notebook)}
    assert measured_column(README.read_text("utf-8"), claims) == README.read_text("utf-8"), "run make readme"


def test_the_figure_of_the_readme_is_the_first_of_notebook_00(committed):
    first = figures(committed[SOURCES[0].stem])[0]
    drawn = (ROOT / "notebooks" / "argument.png").read_bytes()
    assert base64.b64decode(first.data["image/png"]) == drawn, "run make readme"


def test_each_row_of_the_readme_names_what_exists():
    tests = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
    for _, notebook, functions, names, measured in rows():
        assert "](" in notebook
        found = re.findall(r"mmcl(?:\.\w+)+", functions)
        assert found, functions
        for name in found:
            pkgutil.resolve_name(name)
        found = re.findall(r"test_\w+(?!\.py)\b", names)
        assert found, names
        for name in found:
            assert f"def {name}(" in tests or any((ROOT / "tests").rglob(f"{name}.py")), name
        assert re.search(r"\[\d", measured), measured


def test_the_links_of_the_readme_lead_to_files():
    for target in re.findall(r"\]\(([^)\s]+)\)", README.read_text("utf-8")):
        if "://" not in target and not target.startswith("#"):
            assert (ROOT / target.partition("#")[0]).exists(), target
