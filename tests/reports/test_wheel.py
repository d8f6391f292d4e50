"""What is installed is enough: the wheel has the chapters, and makes a user's page far from the repository."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmcl

ROOT = Path(mmcl.__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which the wheel of the working tree is installed."""
    tree, made, target = (tmp_path_factory.mktemp(name) for name in ("tree", "made", "target"))
    for name in ("mmcl", "notebooks"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    build = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", made, tree]
    subprocess.run(build, check=True)
    (wheel,) = made.glob("*.whl")
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", target, wheel], check=True)
    return target


def mmcl_of(installed, *arguments, cwd):
    """The command of the installed module, run in a folder: its standard output."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "mmcl", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, check=True, text=True, stdout=subprocess.PIPE).stdout


@pytest.mark.slow
def test_the_wheel_has_each_chapter_with_its_profiles_statements_and_stored_numbers_and_no_outputs(installed):
    there = {p.relative_to(installed / "mmcl" / "chapters").as_posix() for p in (installed / "mmcl").rglob("*.*")
             if "chapters" in p.parts and "__pycache__" not in p.parts}  # fmt: skip
    source = ROOT / "notebooks"
    wanted = [*source.glob("*.py"), *source.glob("*.yaml"), *source.glob("stored/*.json")]
    assert there == {path.relative_to(source).as_posix() for path in wanted}
    assert not (installed / "notebooks").exists()


@pytest.mark.kernel
@pytest.mark.slow
def test_two_files_become_a_page_in_an_empty_folder_without_the_repository(installed, tmp_path):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(150, 3))
    x, y = (z @ rng.normal(size=(3, d)) + 0.3 * rng.normal(size=(150, d)) for d in (6, 5))
    y[:30] = np.roll(y[:30], 1, 0)
    for name, rows in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", rows)
    empty = tmp_path / "empty"
    empty.mkdir()
    small = ["-p", "n_components=3", "-p", "permutations=20"]
    assert mmcl_of(installed, "audit", "../x.npy", "../y.npy", "-o", "report", *small, cwd=empty).splitlines()[1:] == [
        "report/report.html",
        "report/suspects.csv",
    ]
    rows = list(csv.DictReader((empty / "report" / "suspects.csv").read_text().splitlines()))
    assert {int(row["row"]) for row in rows} == set(range(150))  # each is judged, also those held out for retrieval
    assert np.mean([int(row["row"]) < 30 for row in rows[:20]]) > 0.8
    page = (empty / "report" / "report.html").read_text()
    assert "What to do next" in page
    assert str(ROOT) not in page


@pytest.mark.slow
def test_the_installed_chapters_are_found_by_number(installed, tmp_path):
    assert mmcl_of(installed, "parameters", "16", cwd=tmp_path).startswith("features ")
    asked = "from mmcl.reports.run import asked_as; from mmcl.reports.parameters import find_notebook as f;"
    code = f"{asked} print(asked_as(f('16')), f('16').parent)"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, cwd=tmp_path, env=environment, check=True, text=True, stdout=subprocess.PIPE).stdout
    assert told.split() == ["16_your_pairs", str(installed / "mmcl" / "chapters")]
