import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

import mmcl
from mmcl.reports import answer, compare, sweep
from mmcl.reports.__main__ import main
from mmcl.reports.parameters import UsageError
from mmcl.reports.sweep import grid_of

ROOT = Path(mmcl.__file__).parents[1]
NOTEBOOK = r"""# %% [markdown]
# # 1 A sum of $n$ numbers

# %% tags=["parameters"]
n: int = 3  # how many
kind: str = "plain"  # which numbers: plain or squared
sizes: list = [1]  # not used
pause: float = 0.0  # seconds to wait
seed: int = 0  # of every random number

# %%
import os
import time
import numpy as np
from mmcl.notebook.claims import claim, ledger, record

time.sleep(pause)
if n == 13:
    raise ValueError("n = 13 brings bad luck")
if n == 14:
    os._exit(1)

# %%
draws = np.random.default_rng(seed).normal(size=(n, 500)) @ np.random.default_rng(seed + 1).normal(size=(500, n))
claim("1.1", "trace of a random $n$ by $n$ matrix", (draws**2 if kind == "squared" else draws).trace(), 0, 1e4)
claim("1.2", "threads", int(os.environ["OMP_NUM_THREADS"]), 1, 0)
record("twice", "twice the number $n$", 2 * n)
claim("1.3", "$n$ is small", n, 0, (0, 8))

# %%
ledger()
"""


FOUR = "n: [2, 5]\nseed: [0, 1]\npause: 0.5\n"


def notebook_in(folder: Path) -> Path:
    (folder / "profiles.yaml").write_text("smoke: {'01': {kind: squared}}\n")
    (folder / "01_sum.py").write_text(NOTEBOOK)
    return folder / "01_sum.py"


@pytest.fixture
def source(tmp_path):
    return notebook_in(tmp_path)


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """The table of a sweep of four points, one after the other in the process that asks."""
    status, folder = run(notebook_in(tmp_path_factory.mktemp("one")), FOUR)
    assert status == 0
    return lines(folder)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line) for line in listed.split()]


def grid(folder: Path, text: str) -> Path:
    (folder / "grid.yaml").write_text(text)
    return folder / "grid.yaml"


def run(source: Path, text: str, *options: str, out: str = "out") -> tuple[int, Path]:
    """The exit status of a sweep and its folder."""
    folder = source.parent / out
    status = main(["sweep", str(source), str(grid(source.parent, text)), "-o", str(folder), *options])
    return status, folder / "01_sum-sweep-grid"


def lines(folder: Path) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in csv.DictReader((folder / "results.csv").read_text().splitlines())
    ]


def made_at(folder: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in folder.glob("points/*/claims.json")}


def test_a_grid_is_the_product_of_its_lists_over_the_values_of_the_profile(source):
    text = "n: [1, 2e0]\nsizes: [[1, 2], [3]]\nseed: 5\n"
    swept, fixed = grid_of(source, grid(source.parent, text), "smoke")
    assert swept == {"n": [1, 2], "sizes": [[1, 2], [3]]}
    assert fixed == {"kind": "squared", "seed": 5}


def test_a_list_is_one_value_of_a_parameter_that_is_a_list(source):
    swept, fixed = grid_of(source, grid(source.parent, "n: [1, 2]\nsizes: [4, 5]\nkind: [plain]\n"))
    assert (swept, fixed) == ({"n": [1, 2]}, {"sizes": [4, 5], "kind": "plain"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("n: 3", "sweeps nothing"),
        ("", "sweeps nothing"),
        ("m: [1, 2]", "no parameter 'm'"),
        ("n: [1, 2.5]", "parameter n must be int, got 2.5"),
        ("n: [1, 2, 1.0]", "a value twice"),
        ("n: []", "no value"),
        ("- n", "not a list"),
    ],
)
def test_a_wrong_grid_ends_in_one_sentence(source, capsys, text, told):
    assert run(source, text)[0] == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1


def test_the_table_and_the_page_of_a_sweep_hold_every_point_and_the_status_tells(source, capsys):
    status, folder = run(source, "n: [9, 13, 14]\nkind: [plain, squared]\n", "-j", "2")
    assert status == 1
    printed = capsys.readouterr()
    assert printed.out.strip() == str(folder / "01_sum-sweep-grid.html")
    assert "4 of 6 points stopped by an error" in printed.err
    assert "2 of 6 points with claims that do not hold" in printed.err
    rows = lines(folder)
    assert list(rows[0]) == ["n", "kind", *answer.NUMBERS]
    assert [(r["n"], r["kind"]) for r in rows[::4]] == [("9", "plain"), ("9", "squared")]
    assert [r["holds"] for r in rows if r["id"] != "twice"] == 2 * ["true", "true", "false"]
    assert {r["measured"] for r in rows if r["id"] == "1.2"} == {"1.0"}, "one thread each"
    twice = [r for r in rows if r["id"] == "twice"]
    assert [(r["measured"], r["expected"], r["holds"]) for r in twice] == 2 * [("18.0", "", "")]
    html = (folder / "01_sum-sweep-grid.html").read_text()
    assert "n=13, kind=plain: ValueError: n = 13 brings bad luck" in html
    assert "DeadKernelError" in html
    for anchor in ("1.1-n", "1.1-kind", "1.3-n", "twice-kind"):
        assert f'<a href="#{anchor}">' in html
        assert f'<figure id="{anchor}">' in html
    assert html.count('">report</a>') == 4


def test_what_is_finished_is_not_run_again_and_the_rest_is(source):
    status, folder = run(source, "n: [2, 3]\n")
    assert status == 0
    before = made_at(folder)
    assert run(source, "n: [2, 3, 4]\nseed: 0\n")[0] == 0
    after = made_at(folder)
    assert len(after) == 3
    assert before.items() <= after.items()
    source.write_text(NOTEBOOK + "\n# %%\n1 + 1\n")
    assert run(source, "n: [2, 3]\n")[0] == 0
    again = made_at(folder)
    assert {name for name in after if again[name] != after[name]} == set(before)


POINT = {"key": "k", "stopped": False, "problem": "", "parameters": {}, "changed": {}, "seconds": 1.0}
POINT |= {"claims": [], "numbers": [{"id": "a", "statement": "b", "measured": "nan"}]}


@pytest.mark.parametrize(("differs", "finished"), [({}, True), ({"stopped": True}, False), ({"key": "other"}, False)])
def test_only_a_point_that_ran_to_its_end_with_this_code_is_finished(tmp_path, capsys, differs, finished):
    assert not sweep._finished(tmp_path / "nothing", "k")
    (tmp_path / "claims.json").write_text(json.dumps(POINT | differs))
    assert sweep._finished(tmp_path, "k") is finished
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0\0",
        "[]",
        "null",
        "3",
        '{"key": "k", "stopped": false}',
        json.dumps(POINT)[:-3],
        json.dumps(POINT | {"claims": None}),
        json.dumps(POINT | {"claims": [{"id": "a"}]}),
        json.dumps(POINT | {"numbers": [3]}),
        json.dumps(POINT | {"numbers": [{"id": "a", "statement": "b", "measured": "x"}]}),
        json.dumps(POINT | {"parameters": []}),
    ],
)
def test_a_point_that_is_not_whole_is_named_and_made_anew(tmp_path, capsys, text):
    (tmp_path / "claims.json").write_text(text)
    assert not sweep._finished(tmp_path, "k")
    assert capsys.readouterr().err == f"mmcl: {tmp_path} is not whole and is made anew\n"


def test_a_sweep_says_how_many_points_it_has_before_it_starts(source, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "run_points", lambda *_: sys.exit(capsys.readouterr().err))
    with pytest.raises(SystemExit, match="^6 points, 6 of them to run\n$"):
        run(source, "n: [2, 3, 4]\nseed: [0, 1]\n")


def test_a_sweep_that_is_interrupted_leaves_nothing_half_written_and_goes_on(source, monkeypatch):
    write, written = answer.write_folder, []

    def interrupted(folder, files):
        if written:
            raise KeyboardInterrupt
        write(folder, files)
        written.append(folder)

    monkeypatch.setattr(answer, "write_folder", interrupted)
    status, folder = run(source, "n: [2, 3, 4]\n")
    assert status == 130
    assert list((folder / "points").iterdir()) == written
    assert sorted(p.suffix for p in written[0].iterdir()) == [".csv", ".html", ".ipynb", ".json"]
    monkeypatch.undo()
    before = made_at(folder)
    assert run(source, "n: [2, 3, 4]\n")[0] == 0
    assert len(made_at(folder)) == 3
    assert before.items() <= made_at(folder).items()


def test_a_folder_is_whole_or_not_there(tmp_path):
    answer.write_folder(tmp_path / "a", {"x": "old", "y": "old"})
    with pytest.raises(TypeError):
        answer.write_folder(tmp_path / "a", {"x": "new", "y": None})
    assert {p.name: p.read_text() for p in (tmp_path / "a").iterdir()} == {"x": "old", "y": "old"}
    answer.write_folder(tmp_path / "a", {"x": "new"})
    assert {p.name: p.read_text() for p in tmp_path.rglob("*") if p.is_file()} == {"x": "new"}


def test_the_numbers_are_the_same_whatever_the_number_of_processes(source, one_by_one):
    assert lines(run(source, FOUR, "-j", "3")[1]) == one_by_one
    assert len({row["measured"] for row in one_by_one if row["id"] == "1.1"}) == 4


def test_points_of_a_killed_process_are_run_again_and_no_other(source, capsys):
    """The second point kills the process that runs its kernel, once."""
    kill = (
        "if n == 3 and not os.path.exists('killed'):\n    open('killed', 'w').close()\n    os.kill(os.getppid(), 9)\n"
    )
    source.write_text(NOTEBOOK.replace("if n == 13:", kill + "if n == 13:"))
    status, folder = run(source, "n: [2, 3]\n")
    assert (status, len(made_at(folder))) == (0, 2)
    assert capsys.readouterr().err.count("a process was killed") == 1
    assert [row["measured"] for row in lines(folder) if row["id"] == "twice"] == ["4.0", "6.0"]
    assert (source.parent / "killed").exists()


def test_a_sweep_whose_processes_are_always_killed_ends_with_a_sentence(source, monkeypatch, capsys):
    class Broken(Executor):
        def submit(self, function, *task):
            (future := Future()).set_exception(BrokenProcessPool("killed"))
            return future

    monkeypatch.setattr(sweep, "ProcessPoolExecutor", lambda *_, **__: Broken())
    assert run(source, "n: [2, 3]\n")[0] == 1
    printed = capsys.readouterr().err
    assert printed.count("a process was killed") == 4
    assert "try fewer of them with -j" in printed


def test_an_interrupt_ends_the_processes_at_once(source):
    """Sent to the process that asks alone, as ``kill`` does; a point would take a minute."""
    command = [sys.executable, "-m", "mmcl", "sweep", str(source), str(grid(source.parent, "n: [2, 3]\npause: 60.0\n"))]
    with subprocess.Popen([*command, "-j", "2", "-o", str(source.parent / "out")], cwd=ROOT) as asking:
        while len(workers := children(asking.pid)) < 3 or not all(map(children, workers[1:])):
            time.sleep(0.1)
        asking.send_signal(signal.SIGINT)
        assert asking.wait(20) == 130
    assert not list(source.parent.rglob("claims.json"))


def test_a_worker_with_other_code_computes_nothing(source):
    files = sweep.point(NOTEBOOK, source, {"n": 2}, "key", "another hash")
    found = json.loads(files["claims.json"])
    assert found["stopped"]
    assert "another mmcl" in found["problem"]


def test_numbers_are_listed_as_the_chapter_makes_them_claims_first():
    def found(n, *ids):
        claims = [{"id": i, "statement": "", "measured": n, "expected": 0, "below": 1, "above": 1} for i in ids]
        return {"parameters": {"n": n}, "claims": claims, "numbers": [{"id": "error", "statement": "", "measured": n}]}

    numbers = compare.numbers([found(1, "thm-3.1.rate", "2.9"), found(2, "thm-3.1.rate", "2.9", "2.10")], {"n": [1, 2]})
    assert [n["id"] for n in numbers] == ["thm-3.1.rate", "2.9", "2.10", "error"]


# ---------------------------------------------------------------- dask


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as made:
        yield made


def test_a_sweep_on_a_dask_cluster_ends_complete_though_a_worker_process_is_killed(source, cluster, one_by_one):
    killed = []

    def kill_one_that_works():
        while not list(source.parent.rglob("claims.json")):
            time.sleep(0.05)
        busy = {address for address, state in cluster.scheduler.workers.items() if state.processing}
        killed.append(next(n.pid for n in cluster.workers.values() if n.worker_address in busy))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill_one_that_works, daemon=True)
    thread.start()
    status, folder = run(source, FOUR, "--scheduler", cluster.scheduler_address)
    thread.join(1)
    assert killed
    assert status == 0
    assert lines(folder) == one_by_one


def test_a_scheduler_that_does_not_answer_ends_in_one_sentence(source, capsys):
    pytest.importorskip("distributed")
    assert run(source, "n: [2, 3]\n", "--scheduler", "tcp://127.0.0.1:1")[0] == 2
    assert "no dask scheduler answers at 'tcp://127.0.0.1:1'" in capsys.readouterr().err


def test_a_grid_file_that_cannot_be_read_is_a_mistake_of_use(tmp_path):
    (tmp_path / "01_sum.py").write_text(NOTEBOOK)
    with pytest.raises(UsageError, match="cannot read"):
        grid_of(tmp_path / "01_sum.py", tmp_path / "none.yaml")
