"""Whenever a process is killed, what is there is whole, and the next run ends as if nothing had happened."""

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
import pytest

import mmcl
from mmcl._files import MINUTE, write_whole
from mmcl.reports import answer, dependencies, run
from mmcl.reports.__main__ import main

ROOT = Path(mmcl.__file__).parents[1]
CHAPTER = """# %% [markdown]
# # 1 A toy of $n$ numbers
#
# ## 1.1 A section

# %% tags=["parameters"]
n: int = 3  # how many

# %%
from mmcl.notebook.claims import claim
claim("a", "$n$ is small", n, 0, 9)
"""
CHANGES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.scandir", "shutil.rmtree", "tempfile.mkdtemp"}


def visible(folder):
    """The files of a folder, but for hidden ones, which are of no account: path -> content."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {p: p.read_bytes() for p in files if not any(part[0] == "." for part in p.relative_to(folder).parts)}


def hidden(folder):
    return [p for p in folder.rglob(".*")]


def killed(action, folder, at):
    """Whether a process that kills itself before its ``at``-th operation on files of a folder gets so far."""
    if (pid := os.fork()) == 0:
        count = itertools.count(1)

        def hook(event, given):
            if event in CHANGES and str(given[0] if given else "").startswith(str(folder)) and next(count) == at:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.addaudithook(hook)
            action()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


# ---------------------------------------------------------------- every writer, at every step


def executed(n):
    """A notebook as a run leaves it."""
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell(f"n = {n}", execution_count=1, id="a")
    cell.outputs = [nbformat.v4.new_output("stream", text=f"{n}\n")]
    notebook.cells = [nbformat.v4.new_markdown_cell(f"# 1 A toy\n\nOf {n} numbers.", id="b"), cell]
    versions = {"torch": "1"}
    notebook.metadata["mmcl"] = {"name": "01_toy", "source": "01", "versions": versions, "machine": "m", "problem": ""}
    return notebook


def writers(folder):
    """What writes files: name -> a function that writes something else for another n."""

    def save(name, n):
        return write_whole(folder / name, nbformat.writes(executed(n)))

    def render(n):
        executed_there = save(".executed.run.ipynb", n)
        main(["render", str(executed_there), str(folder / "01_toy.html")])

    def index(n):
        notebook = executed(n)
        notebook.metadata["mmcl"]["problem"] = f"this is wrong with {n}"
        write_whole(folder / ".01_toy.run.ipynb", nbformat.writes(notebook))
        main(["index", str(folder / "index.html"), str(folder), ".01_toy"])

    def outputs(n):
        save(".done.ipynb", n)
        committed = executed(n)
        committed.cells[1].outputs = []
        write_whole(folder / "01_toy.ipynb", nbformat.writes(committed))
        run.take_outputs(folder / "01_toy.ipynb", folder / ".done.ipynb")

    def pairs(n):
        (folder / "01_toy.py").write_text(CHAPTER + f"\n# %%\nn = {n}\n")
        main(["pairs", str(folder / "01_toy.py")])

    def report(n):
        answer.write_folder(folder / "01_toy-n=3", {"a.html": f"page {n}", "claims.json": json.dumps({"n": n})})

    def depends(n):
        (folder / "notebooks").mkdir(exist_ok=True)
        source = folder / "notebooks" / "01_toy.py"
        source.write_text("import mmcl.theory\n" if n % 2 else "import mmcl.data\n")
        dependencies.write(folder / "depends.mk", [source])

    return {f.__name__: f for f in (render, index, outputs, pairs, report, depends)}


@pytest.mark.parametrize("name", writers(Path()))
def test_a_writer_killed_at_any_step_leaves_files_whole_and_the_next_one_ends(tmp_path, monkeypatch, name, capsys):
    """It kills itself before its first, second, ... operation on files, until it gets to its end."""
    write = writers(tmp_path)[name]
    write(2)
    after = visible(tmp_path)
    write(1)
    before = visible(tmp_path)
    mine = {path for path in before if before[path] != after[path]} - set(tmp_path.rglob("*.py"))
    assert mine
    for step in itertools.count(1):
        gone = killed(lambda: write(2), tmp_path, step)
        for path, content in visible(tmp_path).items():
            if path in mine:
                assert content in (before[path], after[path], *intermediate(name, path)), (step, path)
        write(1)
        assert visible(tmp_path) == before, step
        if not gone:
            break
    assert step > 4
    for left in hidden(tmp_path):
        os.utime(left, (time.time() - 2 * MINUTE, time.time() - 2 * MINUTE))
    write(2)
    assert not [path for path in hidden(tmp_path) if path.name.endswith(".part") or path.name.startswith(".pair-")]


def intermediate(name, path):
    """What the writer of outputs finds in the committed notebook: it has none yet."""
    if name != "outputs":
        return []
    made = [executed(n) for n in (1, 2)]
    for notebook in made:
        notebook.cells[1].outputs = []
    return [nbformat.writes(notebook).encode() for notebook in made]


def test_nothing_writes_a_file_but_the_one_writer():
    """Besides it: the module that make runs before there is an environment, and what lies in a temporary folder."""
    words = r"write_(text|bytes)\(|\bopen\([^)]*[\"'][wax]b?[\"']|json\.dump\("
    words += r"|savefig\((?!png|full)|np\.savez?\((?!whole)"
    found = {}
    for path in (ROOT / "mmcl").rglob("*.py"):
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if re.search(words, line)]
        if lines := [line for line in lines if not line.startswith("...")]:  # an example writes where it likes
            found[path.relative_to(ROOT / "mmcl").as_posix()] = lines
    assert found == {
        "_files.py": ['with part.open("xb") as file:'],
        "reports/dependencies.py": ['part.write_text(rules(notebooks), "utf-8")'],
        "reports/endings.py": ['sys.stdout = open(os.devnull, "w")  # nothing is left to be flushed at the end'],
    }


# ---------------------------------------------------------------- make and a sweep, at any moment


@pytest.fixture
def repository(tmp_path):
    """A repository of one tiny chapter, with the Makefile and the module of this one."""
    shutil.copytree(ROOT / "mmcl", tmp_path / "mmcl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_toy.py").write_text(CHAPTER)
    (tmp_path / "notebooks" / "profiles.yaml").write_text('smoke: {"01": {n: 2}}\n')
    (tmp_path / "notebooks" / "statements.yaml").write_text("[]\n")
    (tmp_path / "grid.yaml").write_text("n: [1, 2]\n")
    (tmp_path / "tmp").mkdir()
    return tmp_path


def start(command, repository):
    temporary = tempfile.mkdtemp(prefix="k-")  # sockets want a short name
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "PYTHONPATH")}
    return subprocess.Popen(
        command, cwd=repository, env=environment | {"TMPDIR": temporary}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def contents(folder):
    """What is in the files of a folder but for dates, seconds, and names of cells that are drawn at random."""
    texts = {p.relative_to(folder).as_posix(): content.decode() for p, content in visible(folder).items()}
    moving = (
        r'"id": "[^"]*"',
        r'"(duration|seconds)": [\d.e-]+',
        r"\d{4}-\d\d-\d\d[T\d:.+-]*",
        r"\d[\d.]* ?s\b",
        r",\d+\.\d+$",
        r"<td>\d+\.\d</td>",
    )
    return {name: re.sub("|".join(moving), "#", text, flags=re.M) for name, text in texts.items()}


@pytest.mark.slow
@pytest.mark.kernel
def test_after_kills_at_random_moments_the_next_run_ends_as_a_clean_one(repository):
    """Of make and of a sweep, both at a time: each waits more than it computes."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(survives, repository), ("make", "sweep")))


def survives(repository, what):
    made = repository / ("build/smoke" if what == "make" else "out")
    command = ["make", "PROFILE=smoke", f"PY={sys.executable}"]
    if what == "sweep":
        command = [sys.executable, "-m", "mmcl", "sweep", "01", "grid.yaml", "-j", "2", "-o", "out"]
    started = time.monotonic()
    with start(command, repository) as clean:
        told = clean.communicate()[0]
    took = time.monotonic() - started
    assert clean.returncode == 0, told
    expected = contents(made)
    shutil.rmtree(made)
    draw = random.Random(0)
    for _ in range(5):
        with start(command, repository) as process:
            time.sleep(draw.uniform(0, 0.8 * took))
            os.killpg(process.pid, signal.SIGKILL)
        assert contents(made).items() <= expected.items(), "each file is whole"
    if what == "make":  # and a run that was damaged afterwards is made again
        write_whole(made / "01_toy.run.ipynb", b"\0" * 5000)
    with start(command, repository) as last:
        told = last.communicate()[0]
    assert last.returncode == 0, told
    assert contents(made) == expected
