"""What make is asked for reaches the commands as it was typed; neither make nor a shell reads it."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mmcl
from mmcl.reports.parameters import command_for

ROOT = Path(mmcl.__file__).parents[1]
FAKE = """#!/bin/sh
for word in "$@"; do printf '%s\\0' "$word" >> said; done
"""
EVIL = [
    "$(shell touch evil)",
    "${shell touch evil}",
    "$$(touch evil)",
    "`touch evil`",
    '"; touch evil; "',
    "'; touch evil; '",
    "a b  c",
    "$(NAMES)",
    "$HOME",
    "\\",
    "#x",
    "n=1 label='it is' x=\"$y\"",
    "x%y:z=*?[a]~",
    "-h",
    "--profile=paper",
]


@pytest.fixture
def place(tmp_path):
    """A folder with the Makefile and a Python that only writes down what it is given."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "depends.mk").touch()
    (tmp_path / "fake").write_text(FAKE)
    (tmp_path / "fake").chmod(0o755)
    return tmp_path


def said(place, *words, **environment):
    """What make's commands give to Python, and how make ended."""
    (place / "said").unlink(missing_ok=True)
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    ended = subprocess.run(
        ["make", "PY=./fake", *words], cwd=place, env=clean | environment, capture_output=True, text=True
    )
    assert not (place / "evil").exists(), ended.stderr
    given = (place / "said").read_text().split("\0") if (place / "said").exists() else []
    return given[given.index("-m") + 2 : -1] if "-m" in given else [], ended


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("by_environment", [False, True])
def test_variables_reach_the_command_as_they_were_typed(place, evil, by_environment):
    def ask(target, **values):
        words = [] if by_environment else [f"{k}={v}" for k, v in values.items()]
        return said(place, target, *words, **(values if by_environment else {}))[0]

    assert ask("report", NB=evil, P=evil) == ["report", "--profile=default", f"--pairs={evil}", "--", evil]
    assert ask("report", NB="01", F=evil) == ["report", "--profile=default", "--pairs=", f"-f{evil}", "--", "01"]
    assert ask("sweep", NB=evil, GRID=evil, J=evil) == ["sweep", "--profile=default", f"-j{evil}", "--", evil, evil]
    assert ask("parameters", NB=evil) == ["parameters", "--", evil]


def test_what_is_not_given_is_empty_or_one_process(place):
    assert said(place, "report")[0] == ["report", "--profile=default", "--pairs=", "--", ""]
    assert said(place, "sweep", "PROFILE=smoke")[0] == ["sweep", "--profile=smoke", "-j1", "--", "", ""]


@pytest.mark.parametrize(
    "profile", ["", "../x", "/x", "a b", ".", "$(shell touch evil)", "`touch evil`", "x;touch evil"]
)
@pytest.mark.parametrize("by_environment", [False, True])
def test_a_profile_is_a_name_and_stays_inside_build(place, profile, by_environment):
    given = {"PROFILE": profile}
    words = [] if by_environment else [f"PROFILE={profile}"]
    found, ended = said(place, "report", *words, **(given if by_environment else {}))
    assert found == []
    assert ended.returncode == 2
    assert "is no name of a profile" in ended.stderr


@pytest.mark.parametrize("notebook", ["02_robustness", "/a b/it's.py", "$x;`y`"])
def test_a_command_can_be_pasted_whatever_is_in_it(notebook):
    command = command_for(notebook, {"label": "it's $HOME `x`; #", "sizes": [1, 2]})
    assert shlex.split(command)[3:5] == ["report", notebook]
    pasted = subprocess.run(
        ["sh", "-c", command.replace("python", "printf '%s\\n'", 1)], capture_output=True, text=True
    )
    assert "label=it's $HOME `x`; #" in pasted.stdout.splitlines()


def test_a_page_that_is_not_whole_is_named_once_and_made_anew(place):
    """Its run is whole and older, so that make by itself would see nothing to do."""
    pages = place / "build" / "smoke" / "reports"
    pages.mkdir(parents=True)
    old = [place / "requirements.lock", place / "notebooks" / "statements.yaml"]
    for name in ("01_toy", "02_toy"):
        old += [place / "notebooks" / f"{name}.py", place / "build" / "smoke" / f"{name}.run.ipynb"]
    for path in old:
        path.touch()
        os.utime(path, (1, 1))
    for name in ("01_toy", "02_toy", "index", "ledger"):
        (pages / f"{name}.html").write_text("<html></html>\n")
    assert said(place, "PROFILE=smoke")[1].stderr == ""
    assert "render" not in (place / "said").read_text()
    (pages / "01_toy.html").write_text("<html></ht")
    _, ended = said(place, "PROFILE=smoke")
    assert ended.stderr.splitlines()[0] == "mmcl: build/smoke/reports/01_toy.html is not whole and is made anew"
    assert "02_toy.html" not in ended.stderr
    asked = (place / "said").read_text()
    assert asked.count("render") == 1
    assert "build/smoke/reports/01_toy.html" in asked
    assert "index" in asked
    for name in ("01_toy", "index", "ledger"):
        (pages / f"{name}.html").write_text("<html></html>\n" * (name != "ledger"))
    assert "ledger.html is not whole" in said(place, "PROFILE=smoke")[1].stderr
    assert not (pages / "index.html").exists()


INTERRUPTED = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "papermill":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
runpy.run_module("mmcl", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_an_interrupt_while_modules_are_loaded_is_told_in_one_line():
    command = [sys.executable, "-c", INTERRUPTED, "parameters", "01"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "mmcl: interrupted\n")


@pytest.mark.slow
@pytest.mark.kernel
def test_an_interrupt_of_a_cell_is_told_in_one_line_and_leaves_nothing(tmp_path):
    """Sent to all processes of the terminal, as Ctrl-C is."""
    source = tmp_path / "01_toy.py"
    source.write_text("# %%\nfrom pathlib import Path\nimport time\nPath('runs').touch()\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "mmcl", "run", str(source), str(tmp_path / "x.run.ipynb")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not (tmp_path / "runs").exists():
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        told = [line for line in process.communicate()[1].splitlines() if line.strip() and "cell" not in line]
    assert (process.returncode, told) == (130, ["mmcl: interrupted"])
    assert {p.name for p in tmp_path.iterdir()} == {"01_toy.py", "runs"}
