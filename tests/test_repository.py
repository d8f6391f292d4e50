"""The files of the repository agree with each other."""

import base64
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
import torch
import yaml
from packaging.requirements import Requirement

import mmcl
from mmcl.notebook.claims import claims_of
from mmcl.reports import index, places, statements
from mmcl.reports.page import figures
from mmcl.reports.parameters import UsageError, choose_parameters, parameters_of

ROOT = Path(mmcl.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RANGES = [Requirement(r) for r in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]
LOCK = [Requirement(r) for r in (ROOT / "requirements.lock").read_text().splitlines() if r[0] != "#"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
README = ROOT / "README.md"
REGISTRY = ROOT / "notebooks" / "statements.yaml"


@pytest.fixture(scope="module")
def committed():
    return {source.stem: nbformat.read(source.with_suffix(".ipynb"), 4) for source in SOURCES}


@pytest.fixture(scope="module")
def claims(committed):
    return {c.id: c for notebook in committed.values() for c in claims_of(notebook)}


def conda_entries():
    """What ``environment.yml`` takes from conda-forge, and what by pip."""
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    return conda, pip["pip"]


@pytest.mark.parametrize("wanted", RANGES, ids=lambda r: r.name)
def test_the_lock_and_the_conda_environment_are_within_the_ranges_of_the_project(wanted):
    pinned = [r for r in LOCK if r.name == wanted.name]
    assert pinned
    for pin in pinned:
        (version,) = pin.specifier
        assert version.operator == "=="
        assert wanted.specifier.contains(version.version)
    conda, pip = conda_entries()
    entries = [entry.split(" ") for entry in (*conda, *pip)]
    (found,) = [rest for name, *rest in entries if name == CONDA_NAMES.get(wanted.name, wanted.name)]
    assert found[0] == str(wanted.specifier)


def test_the_conda_environment_asks_for_nothing_else_and_for_a_cpu_build():
    conda, pip = conda_entries()
    names = {entry.split(" ")[0] for entry in (*conda, *pip)}
    assert names == {CONDA_NAMES.get(r.name, r.name) for r in RANGES} | {"python", "make", "pip", "-e"}
    assert pip == ["axe-core-python >=0.1", "-e ."]  # the first is not on conda-forge
    assert "pytorch ==2.13.0 cpu*" in conda
    assert yaml.safe_load((ROOT / "environment.yml").read_text())["channels"] == ["conda-forge", "nodefaults"]


def test_the_lock_is_exact_and_free_of_cuda_and_of_indexes():
    assert len(LOCK) > 50
    for pin in LOCK:
        assert re.fullmatch(r"==[\w.+]+", str(pin.specifier)), pin
        assert not re.match("nvidia|cuda|triton", pin.name), pin
    assert not re.search(r"^ *-|://|--hash", (ROOT / "requirements.lock").read_text(), re.M)


def test_the_versions_of_the_software_agree():
    assert PROJECT["version"] == mmcl.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == mmcl.__version__


def test_the_citation_has_what_the_format_asks_for():
    """cffconvert --validate agrees; it cannot be in the lock, since it wants an older jsonschema than Jupyter."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert cited["cff-version"] == "1.2.0"
    paper = cited["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper)
    assert paper["type"] == "conference-paper"
    assert (paper["start"], paper["end"], paper["volume"]) == (4348, 4380, 206)
    assert all({"given-names", "family-names"} == set(author) for author in paper["authors"])
    assert all({"type", "value"} <= set(identifier) for identifier in paper["identifiers"])


def test_the_site_is_published_from_where_make_writes_it():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text())
    assert workflow["permissions"] == {"contents": "read", "pages": "write", "id-token": "write"}
    steps = workflow["jobs"]["site"]["steps"]
    assert any(step.get("run") == "make -j2 site" for step in steps)
    (folder,) = [step["with"]["path"] for step in steps if "upload-pages-artifact" in step.get("uses", "")]
    recipe = re.search(r"^site: reports .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    assert f"mkdir -p {folder} && cp $(HTML) $(REPORTS)/index.html $(REPORTS)/ledger.html {folder}" in recipe


def test_binder_and_colab_find_what_the_links_of_the_index_promise():
    """Binder builds ``environment.yml`` at the root; Colab opens a notebook of the repository."""
    html = index.index({SOURCES[0].stem: None}, "default", repository="some-one/a.name")
    binder, colab = re.findall(r'href="(https://(?:mybinder|colab)[^"]*)"', html)
    assert binder == f"https://mybinder.org/v2/gh/some-one/a.name/HEAD?labpath=notebooks/{SOURCES[0].stem}.ipynb"
    assert colab.endswith(f"/github/some-one/a.name/blob/main/notebooks/{SOURCES[0].stem}.ipynb")
    assert SOURCES[0].with_suffix(".ipynb").is_file()
    assert "-e ." in conda_entries()[1]
    assert not [name for name in ("binder", ".binder", "runtime.txt", "Dockerfile") if (ROOT / name).exists()]
    with pytest.raises(UsageError, match="owner/name"):
        index.index({}, "default", repository='a/b"><script>')


def test_make_help_lists_every_target_a_user_would_type():
    text = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split())
    assert phony - set(re.findall(r"^([a-z-]+):.*## ", text, re.M)) == {"check-pairs", "check-python"}


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
    assert sum(s.with_suffix(".ipynb").stat().st_size for s in SOURCES) < 4e6
    for name, notebook in committed.items():
        assert set(notebook.metadata) <= {"kernelspec", "jupytext"}, name
        code = [c for c in notebook.cells if c.cell_type == "code"]
        assert all(c.execution_count for c in code), f"{name}: run make outputs"
        for cell in notebook.cells:
            assert set(cell.metadata) <= {"tags", "lines_to_next_cell"}, name
            assert not any(o.get("name") == "stderr" for o in cell.get("outputs", [])), name
        assert all(c.holds for c in claims_of(notebook)), name


def test_claim_ids_are_unique(committed):
    ids = [c.id for notebook in committed.values() for c in claims_of(notebook)]
    assert len(set(ids)) == len(ids)


def test_what_the_registry_names_exists(committed, claims):
    """Chapters, sections, functions, tests and claims; a wrong verdict or ``rests_on`` is refused when it is read."""
    assert statements.problems(statements.read(REGISTRY), ROOT, committed, claims) == []


def numbers_in(text: str) -> set[str]:
    """What identifies statements of the paper in a text: 7.1, (ii), Algorithm 2, Figure 1, ..."""
    return set(re.findall(r"\d+\.\d+|\(ii\)|(?:Algorithm|Figure|Table) \d", text))


@pytest.mark.parametrize("statement", [s for s in statements.read(REGISTRY) if s.part == "paper"], ids=lambda s: s.id)
def test_a_sentence_of_the_chapter_gives_the_verdict_of_the_registry(statement):
    text = (ROOT / "notebooks" / f"{statement.chapter}.py").read_text("utf-8")
    said = re.findall(r"\*\*So\*\* \((.*?: [a-z ]+)\): ", re.sub(r'"\s*f?"', "", text), flags=re.S)
    clauses = [clause.rsplit(": ", 1) for one in said for clause in one.split("; ")]
    assert statement.verdict in [
        verdict for names, verdict in clauses if numbers_in(names) & numbers_in(statement.number)
    ], (statement.number, clauses)


def test_the_table_of_the_readme_is_current(committed, claims):
    text = README.read_text("utf-8")
    made = statements.table(statements.read(REGISTRY), ROOT, committed, claims)
    assert statements.with_table(text, made) == text, "run make readme"


def test_a_docstring_names_only_chapters_that_mention_what_it_documents():
    assert places.unmentioned(ROOT) == []


def test_the_figure_of_the_readme_is_the_first_of_notebook_00(committed):
    first = figures(committed[SOURCES[0].stem])[0]
    drawn = (ROOT / "notebooks" / "argument.png").read_bytes()
    assert base64.b64decode(first.data["image/png"]) == drawn, "run make readme"


def test_the_links_of_the_readme_lead_to_files_and_to_lines_that_are_there():
    for target in re.findall(r"\]\(([^)\s]+)\)", README.read_text("utf-8")):
        if "://" in target or target.startswith("#"):
            continue
        path, _, fragment = target.partition("#")
        assert (ROOT / path).exists(), target
        if line := re.fullmatch(r"L(\d+)", fragment):
            assert re.match(r"\s*(def|class|\w+\b.*=)", (ROOT / path).read_text("utf-8").splitlines()[int(line[1]) - 1])


def test_the_snippet_of_the_readme_runs_with_numpy_arrays():
    (code,) = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)
    names = {}
    exec(code, names)
    assert isinstance(names["x"], np.ndarray)
    assert names["z"].shape == names["z_tilde"].shape == (500, 10)
    suspects, wrong = names["checked"].suspects, names["data"].wrong
    assert wrong[suspects].double().mean() > 0.6
    assert names["checked"].wrong_share.low <= 0.2 <= names["checked"].wrong_share_upper.high
    first, second = names["found"].pairs.T
    right = names["data"].partner[400 + first] == 400 + torch.from_numpy(names["order"])[second]
    assert len(right) > 30
    assert right.double().mean() > 0.8


def test_the_public_face_is_the_same_for_python_and_for_a_type_checker():
    text = (ROOT / "mmcl" / "__init__.py").read_text("utf-8")
    typed = re.findall(r"^    from mmcl\.([\w.]+) import (\w+) as \2$", text, re.M)
    assert {name: module for module, name in typed} == mmcl._HOME
    for name in mmcl.__all__:
        assert name in dir(mmcl)
        assert getattr(mmcl, name) is getattr(import_module(f"mmcl.{mmcl._HOME[name]}"), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'; it has LOSSES"):
        mmcl.nothing  # noqa: B018


def test_importing_the_package_imports_no_mathematics():
    code = "import sys, mmcl; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_checks_of_a_commit_call_what_is_there():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "pairs"}
    assert re.search("^check-pairs:", (ROOT / "Makefile").read_text(), re.M)


def test_the_command_of_the_project_is_there():
    module, _, function = PROJECT["scripts"]["mmcl"].partition(":")
    assert callable(getattr(import_module(module), function))


# ---------------------------------------------------------------- continuous integration


@pytest.fixture
def machine(tmp_path):
    """A repository whose make does nothing, and a PATH without a browser: the function that runs ``.ci/run`` there."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname", "env", "cat", "chmod"):
        (tools / tool).symlink_to(shutil.which(tool))
    script(tools / "make", 'echo "made $* with CI=$CI"')

    def run():
        command = [tools / "bash", tmp_path / ".ci" / "run"]
        return subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True)

    return tools, run


def script(path, text):
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def test_the_integration_uses_the_browser_that_is_there(machine):
    tools, run = machine
    script(tools / "google-chrome", "")
    done = run()
    assert (done.returncode, done.stdout) == (0, "made test with CI=true\n")


def test_the_integration_installs_a_browser_or_fails(machine):
    tools, run = machine
    failed = run()
    assert failed.returncode == 1
    assert "need a Chromium" in failed.stderr
    assert "made" not in failed.stdout
    script(tools / "apt-get", f'[ "$1" = update ] || {{ echo > {tools}/chromium; chmod +x {tools}/chromium; }}')
    done = run()
    assert done.returncode == 0, done.stderr
    assert "made test" in done.stdout
