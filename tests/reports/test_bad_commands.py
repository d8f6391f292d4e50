"""Every mistake in a call ends in one sentence and the exit status 2 (3 where a run is to be made anew)."""

import errno
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

import mmcl
from mmcl.reports.__main__ import main

ROOT = Path(mmcl.__file__).parents[1]
CHAPTER = """# %% tags=["parameters"]
n: int = 3  # how many
tau: float = 1.0  # temperature
sizes: list = [1, 2]  # sizes
label: str | None = None  # a label
fast: bool = False  # whether
"""
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
BOMB += "".join(f"{b}: &{b} [{9 * f'*{a}, '}]\n" for a, b in pairwise("abcdefghi"))
FILES = {
    "list.yaml": b"- n\n",
    "word.yaml": b"n\n",
    "broken.yaml": b"n: [1, 2\nx: 3\n",
    "bytes.yaml": b"n: \xff\xfe\n",
    "zero.yaml": b"n: \0\n",
    "bomb.yaml": BOMB.encode(),
    "itself.yaml": b"n: &a [*a]\n",
    "tag.yaml": b"n: !!int abc\n",
    "python.yaml": b"n: !!python/name:os.system\n",
    "deep.yaml": b"n: " + b"[" * 1000,
    "digits.yaml": b"n: " + b"9" * 5000,
    "key.yaml": b"? [n]\n: 3\n",
    "mapping.yaml": b"n: {a: 1}\n",
    "inner.yaml": b"sizes: [{1: 2, a: 3}]\n",
    "grid.yaml": b"n: [1, 2]\n",
    "billion.yaml": "".join(f"{name}: {list(range(1000))}\n" for name in ("n", "tau")).encode(),
    "twice.yaml": b"tau: [1, 1.0]\n",
    "nan.yaml": b"tau: [.nan, .nan]\n",
    "garbage.run.ipynb": b"garbage",
    "cut.run.ipynb": nbformat.writes(nbformat.v4.new_notebook()).encode()[:-9],
    "bytes.run.ipynb": b"\xff\0\xff",
    "null.run.ipynb": b"null",
    "list.run.ipynb": b"[]",
    "deep.run.ipynb": b"[" * 1000,
    "cells.run.ipynb": json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {"mmcl": {}}, "cells": 3}).encode(),
    "old.run.ipynb": json.dumps({"nbformat": 3, "metadata": {}, "worksheets": []}).encode(),
    "plain.run.ipynb": nbformat.writes(nbformat.v4.new_notebook()).encode(),
    "statements.yaml": b"- 3\n",
    "02_bytes.py": b"# %%\nx = '\xff'\n",
    "03_syntax.py": b'# %% tags=["parameters"]\nn: int = (\n',
    "04_call.py": b'# %% tags=["parameters"]\nn: int = int(3)\n',
    "05_none.py": b"# %%\n1 + 1\n",
}
REPORTS = [
    ["01", "-p", "n=" + 5000 * "9"],
    ["01", "-p", "n=!!int abc"],
    ["01", "-p", "n=" + 1000 * "["],
    ["01", "-p", "n=*n"],
    ["01", "-p", "n=&a [*a]"],
    ["01", "-p", "n=2.5"],
    ["01", "-p", "n=nan"],
    ["01", "-p", "n=inf"],
    ["01", "-p", "n="],
    ["01", "-p", "n"],
    ["01", "-p"],
    ["01", "-p", "=3"],
    ["01", "-p", "1n=3"],
    ["01", "-p", "tau=" + 400 * "9"],
    ["01", "-p", "tau=[1]"],
    ["01", "-p", "tau=2001-01-01"],
    ["01", "-p", "sizes=3"],
    ["01", "-p", "sizes=[{a: 1}]"],
    ["01", "-p", "sizes=[!!binary YQ==]"],
    ["01", "-p", "label=\udcff"],
    ["01", "-p", "fast=yes"],
    ["01", "-p", "m=3"],
    ["01", "--pairs", "n"],
    ["01", "--profile", "huge"],
    ["01", "--profile", ""],
    ["01", "--profile", "shape"],
    ["01", "--profile", "chapters"],
    ["01", "--profile", "number"],
    ["01", "--profile", "values"],
    ["01", "--treads", "2"],
    ["01", "-o", "list.yaml"],
    ["01", "-o", "list.yaml/under"],
    *(["01", "-f", name] for name in FILES if name.endswith(".yaml") and name not in ("statements.yaml",)),
    ["01", "-f", "missing.yaml"],
    ["01", "-f", "."],
    [""],
    [" "],
    ["0"],
    ["000"],
    ["09"],
    ["-1"],
    ["toys"],
    ["02"],
    ["03"],
    ["04"],
    ["05", "-p", "n=3"],
    ["notebooks"],
    ["01", "02"],
    [],
]
SWEEPS = [
    *(["01", name] for name in FILES if name.endswith(".yaml") and name not in ("grid.yaml", "statements.yaml")),
    ["01", "missing.yaml"],
    ["01", "."],
    ["01", ""],
    ["01"],
    ["", "grid.yaml"],
    ["05", "grid.yaml"],
    ["02", "grid.yaml"],
    ["01", "grid.yaml", "-j", "0"],
    ["01", "grid.yaml", "-j", "two"],
    ["01", "grid.yaml", "--limit", "1"],
    ["01", "grid.yaml", "--limit", "many"],
    ["01", "grid.yaml", "--profile", "number"],
    ["01", "grid.yaml", "-o", "list.yaml"],
]
SCHEDULERS = ["x", "", "tcp://", "http://127.0.0.1:1", "tcp://[", "127.0.0.1:x", "\n"]
STEPS = [
    *(["render", name, "x.html"] for name in FILES if name.endswith(".ipynb")),
    ["render", "missing.run.ipynb", "x.html"],
    ["render", "--statements", "missing.yaml", "plain.run.ipynb", "x.html"],
    ["render", "--statements", "statements.yaml", "plain.run.ipynb", "x.html"],
    ["render", "--statements", "bytes.yaml", "plain.run.ipynb", "x.html"],
    ["render", "--statements", "deep.yaml", "plain.run.ipynb", "x.html"],
    ["render", ".", "x.html"],
    *(["index", "x.html", ".", name.removesuffix(".run.ipynb")] for name in FILES if name.endswith(".ipynb")),
    ["index", "--statements", "deep.yaml", "x.html", ".", "nothing"],
    ["run", "missing.py", "x.run.ipynb"],
    ["run", ".", "x.run.ipynb"],
    ["run", "notebooks/02_bytes.py", "x.run.ipynb"],
    ["run", "notebooks/03_syntax.py", "x.run.ipynb"],
    ["run", "notebooks/04_call.py", "x.run.ipynb"],
    ["run", "garbage.run.ipynb", "x.run.ipynb"],
    *(["pairs", name] for name in ("", ".", "missing.py", "plain.run.ipynb", "02_bytes.py")),
    ["render", "--statements", "bomb.yaml", "plain.run.ipynb", "x.html"],
    ["outputs", "garbage.run.ipynb", "plain.run.ipynb"],
    ["outputs", "plain.run.ipynb", "cut.run.ipynb"],
    ["outputs", "missing.ipynb", "plain.run.ipynb"],
    ["readme", "list.yaml", "garbage.run.ipynb"],
    ["readme", "missing.md", "plain.run.ipynb"],
    ["parameters", "02"],
    ["parameters", "03"],
    ["parameters", "04"],
    ["parameters", ""],
    ["parameters"],
    ["unknown"],
    [],
]
CALLS = [["report", *a] for a in REPORTS] + [["sweep", *a] for a in SWEEPS] + STEPS
PROFILES = """smoke: {"01": {tau: 1e-3}}
shape: [1]
chapters: {"01": 3}
number: {"000": {n: 3}}
values: {"01": [1]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("bad")
    (made / "notebooks").mkdir()
    return made


@pytest.fixture
def place(folder, monkeypatch):
    """A folder with everything that is wrong in some way; no kernel starts there."""
    chapters = {"01_toy.py": CHAPTER.encode(), "profiles.yaml": PROFILES.encode()}
    for name, content in (FILES | chapters).items():
        path = folder / ("notebooks" if name.endswith(".py") or name in chapters else "") / name
        if not path.exists():  # the index takes some away
            path.write_bytes(content)
    monkeypatch.chdir(folder)
    for module in ("answer", "run", "sweep"):
        monkeypatch.setattr(f"mmcl.reports.{module}.execute", lambda *_, **__: pytest.fail("a kernel was started"))
    return folder


def ended(arguments, capsys):
    """The exit status of a command and what it says."""
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    return status, capsys.readouterr().err


@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(call)[:60])
def test_a_bad_command_ends_in_one_sentence(place, capsys, call):
    before = {p for p in place.rglob("*") if p.is_file()}
    status, message = ended(call, capsys)
    assert status in (2, 3), message
    assert message.startswith("mmcl: ")
    assert message.count("\n") == 1, message
    assert len(message) < 600
    assert {p for p in place.rglob("*") if p.is_file()} <= before, "nothing is written"


@pytest.mark.parametrize("address", SCHEDULERS)
def test_a_scheduler_that_is_no_address_ends_in_one_sentence(place, capsys, address):
    pytest.importorskip("distributed")
    status, message = ended(["sweep", "01", "grid.yaml", "--scheduler", address], capsys)
    assert status == 2
    assert message.splitlines()[-1].startswith("mmcl: no dask scheduler answers at")


def test_a_chapter_without_parameters_says_so(place, capsys):
    assert main(["parameters", "05"]) == 0
    assert capsys.readouterr().out == "05_none has no parameters\n"


def test_a_run_that_is_not_whole_is_named_and_taken_away_by_the_index(place, capsys):
    assert main(["index", "x.html", ".", "cut", "garbage"]) == 3
    message = capsys.readouterr().err
    assert "cut.run.ipynb" in message
    assert "garbage.run.ipynb" in message
    assert not Path("cut.run.ipynb").exists()
    assert main(["index", "x.html", ".", "cut", "garbage"]) == 1, "they were not run"


def test_a_sweep_of_more_points_than_the_limit_is_for_who_raises_it(place, capsys):
    status, message = ended(["sweep", "01", "billion.yaml", "--limit", "999999"], capsys)
    assert status == 2
    assert "billion.yaml has 1,000,000 points, more than 999,999; take fewer values, or raise --limit" in message


def test_a_full_disk_ends_in_one_sentence_and_leaves_nothing(place, capsys, monkeypatch):
    from mmcl import _files

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    notebook = nbformat.v4.new_notebook(metadata={"mmcl": {"problem": ""}})
    Path("good.run.ipynb").write_text(nbformat.writes(notebook))
    monkeypatch.setattr(_files.os, "fsync", full)
    status, message = ended(["render", "good.run.ipynb", "full.html"], capsys)
    assert (status, message) == (1, "mmcl: No space left on device: full.html\n")
    assert not list(place.glob("*full.html*"))


def test_a_folder_of_temporary_files_with_a_long_name_ends_in_one_sentence(tmp_path, monkeypatch, capsys):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    (tmp_path / "01_toy.py").write_text(CHAPTER)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    status, message = ended(["run", str(tmp_path / "01_toy.py"), str(tmp_path / "x.run.ipynb")], capsys)
    assert status == 2
    assert message == f"mmcl: {long} is too long a name for sockets: set TMPDIR to a folder of a shorter one\n"
    assert not list(long.iterdir())


@pytest.mark.slow
def test_what_is_printed_to_nobody_or_to_a_full_disk_ends_without_a_traceback(place):
    command = [sys.executable, "-m", "mmcl", "parameters", str(place / "notebooks" / "01_toy.py")]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (1, "mmcl: No space left on device\n")
