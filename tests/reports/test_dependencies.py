import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mmcl
from mmcl.reports import dependencies, sweep
from mmcl.reports.dependencies import code_of, sources_of

ROOT = Path(mmcl.__file__).parents[1]
INIT = """
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmcl.theory import bound
_HOME = {"fit": "spectral", "bound": "theory", "refit": "beyond.refit"}
"""
MODULE = {
    "__init__": INIT,
    "spectral": "from mmcl import data\n",
    "data": "",
    "theory": "from mmcl._checks import paired\n",
    "_checks": "",
    "unpaired": "\n_HOME = {'refit': 'beyond.refit'}\n",
    "beyond/__init__": "",
    "beyond/refit": "def refit():\n    from ..spectral import fit\n",
    "experiments/__init__": "",
    "experiments/published": "read('published.json')\n",
    "experiments/section_5_3": "from mmcl.experiments.published import published\n",
    "notebook/__init__": "",
    "notebook/claims": "",
    "reports/__init__": "",
    "reports/page": "import mmcl.spectral\n",
}
CHAPTERS = {
    "01_one": "from mmcl import fit\nfrom mmcl.notebook.claims import claim\nimport mmcl.reports.page\n",
    "02_two": "import mmcl as m\nm.bound(1)\n",
    "03_three": "def late():\n    from mmcl.experiments import section_5_3\nopen('stored/three.json')\n",
    "04_four": "import numpy\n",
    "05_five": "from mmcl import *\n",
    "06_six": "import mmcl.beyond.refit\n",
    "08_eight": "from mmcl.unpaired import refit\n",
    "09_nine": "from mmcl import unpaired\nunpaired.refit()\n",
    "07_seven": "this is no Python\n",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A small repository with chapters that import in every way."""
    root = tmp_path_factory.mktemp("repository")
    for name, text in MODULE.items():
        (root / "mmcl" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "mmcl" / f"{name}.py").write_text(text)
    (root / "mmcl/experiments/published.json").write_text("{}")
    (root / "mmcl/experiments/other.json").write_text("{}")
    (root / "notebooks/stored").mkdir(parents=True)
    for name, text in CHAPTERS.items():
        (root / "notebooks" / f"{name}.py").write_text(text)
    for name in ("three", "four"):
        (root / "notebooks/stored" / f"{name}.json").write_text("{}")
    (root / "notebooks/profiles.yaml").write_text("smoke: {}\n")
    return root


@pytest.mark.parametrize(
    ("chapter", "read"),
    [
        ("01_one", "__init__ data notebook/__init__ notebook/claims spectral"),
        ("02_two", "__init__ _checks theory"),
        ("03_three", "__init__ experiments/__init__ experiments/published experiments/section_5_3"),
        ("04_four", ""),
        ("05_five", "__init__ _checks beyond/__init__ beyond/refit data spectral theory"),
        ("06_six", "__init__ beyond/__init__ beyond/refit data spectral"),
        ("08_eight", "__init__ beyond/__init__ beyond/refit data spectral unpaired"),
        ("09_nine", "__init__ beyond/__init__ beyond/refit data spectral unpaired"),
        ("07_seven", " ".join(name for name in MODULE if not name.startswith("reports"))),
    ],
)
def test_a_chapter_depends_on_what_it_imports_in_whatever_way(repository, chapter, read):
    found = [path.relative_to(repository).as_posix() for path in sources_of(repository / f"notebooks/{chapter}.py")]
    wanted = [f"mmcl/{name}.py" for name in read.split()]
    wanted += [f"notebooks/{chapter}.py", "notebooks/profiles.yaml"]
    wanted += ["mmcl/experiments/published.json"] * ("experiments/published" in read)
    wanted += ["notebooks/stored/three.json"] * (chapter == "03_three")
    assert found == sorted(wanted)


def test_what_python_really_imports_is_among_the_sources():
    """Another route: the modules that are there after the chapter's own import lines ran."""
    chapter = sorted((ROOT / "notebooks").glob("0*_*.py"))[0]
    lines = re.findall(r"^(?:from mmcl|import mmcl).*$", chapter.read_text("utf-8"), re.M)
    code = "\n".join(["import sys, json", *lines, "print(json.dumps([m.__file__ for n, m in sys.modules.items() "])
    code += "if n.split('.')[0] == 'mmcl']))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {Path(file) for file in json.loads(run.stdout)}
    assert imported <= set(code_of(chapter.read_text("utf-8"), ROOT))
    assert len(imported) > 5


def test_what_a_module_imports_when_it_is_first_used_stands_in_its_list():
    lazy = {p.name for p in (ROOT / "mmcl").rglob("*.py") if "import_module(" in p.read_text("utf-8")}
    listed = {p.name for p in (ROOT / "mmcl").rglob("*.py") if "\n_HOME = {" in p.read_text("utf-8")}
    assert lazy == listed
    chapter = "from mmcl.unpaired import detect_pairs"
    assert ROOT / "mmcl/beyond/detection.py" in code_of(chapter, ROOT)


def test_a_sweeps_hash_changes_with_the_mathematics_a_chapter_reads_and_with_nothing_else(repository, tmp_path):
    root = shutil.copytree(repository, tmp_path / "copy")
    chapter = root / "notebooks/03_three.py"

    def changed_by(name: str) -> bool:
        before = sweep.code_hash(chapter.read_text(), chapter)
        (root / name).write_text((root / name).read_text() + "\n# changed\n")
        return sweep.code_hash(chapter.read_text(), chapter) != before

    assert changed_by("mmcl/experiments/section_5_3.py")
    assert changed_by("mmcl/experiments/published.json")
    assert changed_by("notebooks/stored/three.json")
    assert not changed_by("mmcl/reports/page.py")
    assert not changed_by("mmcl/theory.py")
    assert not changed_by("notebooks/stored/four.json")
    assert not changed_by("notebooks/profiles.yaml"), "its values are in the key of a point"


# ---------------------------------------------------------------- make


@pytest.fixture
def made(repository, tmp_path):
    """A copy of the small repository, with the Makefile and all that it would make."""
    root = shutil.copytree(repository, tmp_path / "copy")
    for name in ("Makefile", "README.md", "requirements.lock", "pyproject.toml", "notebooks/statements.yaml"):
        shutil.copy(ROOT / name, root / name)
    shutil.copy(dependencies.__file__, root / "mmcl/reports/dependencies.py")
    now = time.time()
    for path in root.rglob("*"):
        os.utime(path, (now - 1000, now - 1000))
    for i, name in enumerate(["build/default/{}.run.ipynb", "reports/{}.html", "reports/index.html"]):
        for path in {root / name.format(chapter) for chapter in CHAPTERS}:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
            os.utime(path, (now - 900 + i, now - 900 + i))
    return root


def would_run(root: Path) -> list[str]:
    """The chapters that make would run (not: again, if a file of theirs is damaged); no environment is needed."""
    command = ["make", "-n", "-o", ".venv/.made", "reports/index.html"]
    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return re.findall(r"^\{ \S+ -m mmcl run notebooks/(\w+)\.py", printed, flags=re.M)


@pytest.mark.parametrize(
    ("touched", "runs"),
    [
        ([], []),
        (["mmcl/experiments/section_5_3.py"], ["03_three", "07_seven"]),
        (["mmcl/spectral.py"], ["01_one", "05_five", "06_six", "07_seven", "08_eight", "09_nine"]),
        (["mmcl/experiments/published.json"], ["03_three", "07_seven"]),
        (["notebooks/stored/three.json"], ["03_three"]),
        (["notebooks/stored/four.json", "mmcl/reports/page.py", "README.md"], []),
        (["notebooks/02_two.py"], ["02_two"]),
        (["notebooks/profiles.yaml"], sorted(CHAPTERS)),
        (["requirements.lock"], sorted(CHAPTERS)),
    ],
)
def test_make_runs_again_the_chapters_that_read_what_was_touched(made, touched, runs):
    for name in touched:
        (made / name).touch()
    assert would_run(made) == runs


def test_a_new_import_counts_from_the_next_make_on_and_a_file_that_is_gone_stops_nothing(made):
    assert would_run(made) == []
    (made / "notebooks/04_four.py").write_text("from mmcl import data\n")
    os.utime(made / "notebooks/04_four.py", (time.time() - 950,) * 2)  # older than its result
    assert would_run(made) == []
    time.sleep(0.02)
    (made / "mmcl/data.py").touch()
    (made / "build/depends.mk").unlink()
    assert "04_four" in would_run(made)
    (made / "mmcl/_checks.py").unlink()
    assert "02_two" in would_run(made)


def test_without_any_python_every_chapter_depends_on_everything(made):
    (made / "mmcl/reports/dependencies.py").write_text("raise SystemExit(1)\n")
    (made / "mmcl/theory.py").touch()
    assert would_run(made) == sorted(CHAPTERS)
