"""A grid of questions to a notebook: each point in a process of its own, one table and one page of comparison."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import multiprocessing
import platform
import shlex
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import jupytext
from tqdm import tqdm

from mmcl._files import write_whole
from mmcl.reports import answer, compare, page
from mmcl.reports.dependencies import sources_of
from mmcl.reports.parameters import Parameter, changed, check_names, coerce, parameters_of, profile_values, slug
from mmcl.reports.reading import UsageError, read_chapter, read_mapping, read_text
from mmcl.reports.run import asked_as, check_module, execute, progress, versions

LIMIT = 10_000  # points that a sweep may have unless more are asked for


class SweepError(ChildProcessError):
    """A sweep that could not be finished."""


def grid_of(
    source: Path, file: Path, profile: str = "default", limit: int = LIMIT
) -> tuple[dict[str, list], dict[str, object]]:
    """What a grid file asks for: name -> values of the swept parameters, and the values of those held fixed.

    A line ``name: [a, b]`` sweeps; for a parameter that is itself a list, ``name: [[1, 2], [3]]`` does.

    Raises:
        UsageError: if the file or a name or value in it is wrong, it sweeps nothing, or has more points than ``limit``.
    """
    allowed, grid = parameters_of(read_chapter(source)), read_mapping(file)
    check_names(grid, allowed, source.stem)
    fixed = {n: coerce(v, allowed[n]) for n, v in profile_values(source, profile).items() if n not in grid}
    swept = {}
    for name, given in grid.items():
        values = _values(given, allowed[name])
        if len(values) == 1:
            fixed[name] = values[0]
        else:
            swept[name] = values
    if not swept:
        raise UsageError(f"{file} sweeps nothing: give at least one parameter several values, as 'n: [100, 200]'")
    if (points := math.prod(map(len, swept.values()))) > limit:
        raise UsageError(f"{file} has {points:,} points, more than {limit:,}; take fewer values, or raise --limit")
    return swept, fixed


def _values(given: object, parameter: Parameter) -> list:
    """The values that one line of a grid gives its parameter."""
    takes_lists = any(kind.startswith("list") for kind in parameter.types)
    several = given if isinstance(given, list) else []
    if not isinstance(given, list) or takes_lists and not any(isinstance(v, list) for v in given):
        several = [given]
    values = [coerce(v, parameter) for v in several]
    if len(values) != len(set(map(json.dumps, values))) or not values:
        raise UsageError(f"the grid gives {parameter.name} {'a value twice' if values else 'no value'}")
    return values


def code_hash(text: str, source: Path) -> str:
    """A hash of what computes a point's numbers besides its notebook's text: what that imports, and the libraries."""
    own = {source, source.parent / "profiles.yaml"}  # text and values, which the key of a point holds anyway
    texts = [path.read_bytes() for path in sources_of(source, text) if path not in own]
    return hashlib.sha256(b"\0".join([*texts, json.dumps(versions()).encode()])).hexdigest()


def point(text: str, source: Path, values: dict[str, object], key: str, code: str) -> dict[str, str]:
    """Run one point and return the files of its report; whatever goes wrong is recorded in its ``claims.json``.

    Nothing is written here, so that a worker may run on a machine that shares no disk with the one that asks.
    """
    allowed = parameters_of(jupytext.reads(text, "py:percent"))
    differ = changed(values, allowed)
    try:
        if code_hash(text, source) != code:
            raise RuntimeError(f"{platform.node()} has another mmcl or other libraries than this sweep began with")
        notebook = execute(text, source, values, quiet=True)
        found = answer.answer(notebook) | {"key": key}
        return answer.pages(notebook, f"{source.stem}-{slug(differ)}", found)
    except Exception as error:  # a kernel that died, a page that cannot be made: the sweep goes on
        found = {
            "notebook": source.stem,
            "parameters": {n: values.get(n, p.default) for n, p in allowed.items()},
            "changed": differ, "problem": f"{type(error).__name__}: {error}", "stopped": True,
            "seconds": 0, "claims": [], "numbers": [], "key": key,
        }  # fmt: skip
        return {"claims.json": json.dumps(found, indent=1) + "\n"}


def _finished(folder: Path, key: str) -> bool:
    """Whether a point lies there complete, made by this code from this notebook, and not stopped by an error."""
    found = answer.read(folder)
    if found is None and folder.exists():
        print(f"mmcl: {folder} is not whole and is made anew", file=sys.stderr)
    return found is not None and found.get("key") == key and not found["stopped"]


@contextmanager
def _executor(jobs: int, scheduler: str | None) -> Iterator[Executor]:
    """What runs the points: processes of this machine, or the workers of a dask cluster. An exception ends them."""
    if scheduler is not None:
        with _client(scheduler) as client, client.get_executor(pure=False) as executor:
            try:
                yield executor
            except BaseException:
                executor.shutdown(wait=False)
                raise
        return
    others = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs, spawn, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as executor:  # an interrupt ends them from here
        try:
            yield executor
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            executor.shutdown(cancel_futures=True)
            raise


def _client(scheduler: str):
    """A connection to a dask scheduler.

    Raises:
        UsageError: if dask is not there, or no scheduler.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("--scheduler needs dask: pip install 'mmcl[scale]'") from None
    try:
        return Client(scheduler, timeout=5, set_as_default=False)
    except Exception as error:  # no address, no answer, or an answer of something else: dask raises a dozen kinds
        told = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"no dask scheduler answers at {scheduler!r}: {told}") from None


def run_points(tasks: dict[Path, tuple], jobs: int, scheduler: str | None, done: int = 0) -> None:
    """Run points and write each into its folder as soon as it is there; those of a killed process are run again.

    Args:
        tasks: folder -> arguments of ``point``.
        jobs: processes of one thread each.
        scheduler: tcp address of a dask scheduler, whose workers then take the place of the processes.
        done: how many points were there before, for the progress bar.

    Raises:
        SweepError: if processes are killed again and again.
    """
    left = dict(tasks)
    with tqdm(desc="sweep", total=done + len(tasks), initial=done, unit="point", smoothing=0, **progress()) as bar:
        for _ in range(4):
            try:
                with _executor(min(jobs, len(left)), scheduler) as executor:
                    folders = {executor.submit(point, *task): folder for folder, task in left.items()}
                    for finished in as_completed(folders):
                        folder = folders.pop(finished)  # its result, a whole page, is not kept
                        answer.write_folder(folder, finished.result())
                        left.pop(folder)
                        bar.update()
                return
            except Exception as error:
                if not isinstance(error, BrokenProcessPool) and type(error).__name__ != "KilledWorker":
                    raise
                print("\nmmcl: a process was killed, perhaps for memory; its points are run again", file=sys.stderr)
    raise SweepError("processes are killed again and again; try fewer of them with -j")


def sweep(
    source: Path, grid: Path, parent: Path, profile="default", jobs=1, scheduler=None, limit=LIMIT
) -> tuple[Path, list[dict]]:
    """Run a notebook at each point of a grid; points that lie finished in the folder are not run again.

    Args:
        source: notebooks/NN_name.py.
        grid: YAML file, see ``grid_of``.
        parent: everything lies in ``parent``/NN_name-sweep-GRID: ``results.csv``, the page of the same name as
            the folder, and ``points/`` with a report of each point.
        profile: values of the parameters that the grid does not name.
        jobs, scheduler: see ``run_points``.
        limit: points at most.

    Returns:
        The path of the comparison page, and the answers of the points.
    """
    check_module(source)
    swept, fixed = grid_of(source, grid, profile, limit)
    folder = parent / f"{source.stem}-sweep-{grid.stem}"
    answer.writable(folder)
    places, tasks = _tasks(source, swept, fixed, folder / "points")
    print(f"{len(places):,} points, {len(tasks):,} of them to run", file=sys.stderr)
    if tasks:
        run_points(tasks, jobs, scheduler, len(places) - len(tasks))
    answers = [json.loads((place / "claims.json").read_text("utf-8")) for place in places]
    write_whole(folder / "results.csv", answer.tidy(answers, [*swept, *fixed]))
    words = ["python", "-m", "mmcl", "sweep", asked_as(source), str(grid)]
    command = shlex.join(words + (["--profile", profile] if profile != "default" else []))
    linked = [(found, _link(place, folder)) for found, place in zip(answers, places, strict=True)]
    numbers = compare.numbers(answers, swept)
    target = folder / f"{folder.name}.html"
    write_whole(target, page.sweep_page(read_chapter(source), swept, fixed, numbers, linked, command))
    return target, answers


def _tasks(source: Path, swept: dict, fixed: dict, folder: Path) -> tuple[list[Path], dict[Path, tuple]]:
    """The folders of all points of a grid, and what is to be run: folder -> arguments of ``point``."""
    text, source = read_text(source), source.resolve()
    code = code_hash(text, source)
    allowed, places, tasks = parameters_of(read_chapter(source)), [], {}
    for combination in itertools.product(*swept.values()):
        values = fixed | dict(zip(swept, combination, strict=True))
        every = {name: p.default for name, p in allowed.items()} | values
        digest = hashlib.sha256(json.dumps([text, code, every], sort_keys=True).encode()).hexdigest()
        places.append(folder / f"{source.stem}-{slug(changed(values, allowed))}")
        if not _finished(places[-1], digest):
            tasks[places[-1]] = (text, source, values, digest, code)
    return places, tasks


def _link(place: Path, folder: Path) -> str:
    """The address of a point's page, from the comparison page; "" if it stopped before it had one."""
    there = place / f"{place.name}.html"
    return quote(there.relative_to(folder).as_posix()) if there.exists() else ""
