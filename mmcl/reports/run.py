"""Run notebooks with papermill, and carry their outputs and claims into the repository."""

from __future__ import annotations

import logging
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from traitlets import default

from mmcl import __version__
from mmcl._files import own_folder, write_whole
from mmcl.notebook.claims import claims_of
from mmcl.reports.dependencies import root_of
from mmcl.reports.parameters import CHAPTERS
from mmcl.reports.reading import UsageError, read_ipynb, read_run, read_text

HERE = Path(__file__).resolve().parents[2]  # the folder of this mmcl, which a notebook's kernel must import too

SOCKET = 100  # bytes that the path of a socket may have; systems differ, and none allows fewer than 104

# The matrices of the notebooks are small: threads that wait for each other on a busy machine cost more than they give,
# and the last digits of a sum depend on their number.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def _this_python(folder: str) -> type[AsyncKernelManager]:
    """What starts kernels of the running interpreter, whatever kernels the user has, with their sockets in a folder."""

    class ThisPython(AsyncKernelManager):
        @default("transport")
        def _sockets_not_ports(self) -> str:
            return "ipc"

        @default("ip")
        def _socket_name(self) -> str:
            return f"{folder}/kernel"

        @default("connection_file")
        def _beside_its_sockets(self) -> str:
            return f"{folder}/kernel.json"

        @property
        def kernel_spec(self) -> KernelSpec:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=50"]
            path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
            env = ONE_THREAD | ({"PYTHONPATH": path} if CHAPTERS.parent == HERE else {})  # no wheel
            return KernelSpec(argv=argv, env=env, language="python", display_name="Python 3")

    return ThisPython


class _Lines:
    """A stderr for progress bars that is not a terminal: one line per update."""

    def write(self, text: str) -> None:
        if text.strip("\r\n "):
            sys.stderr.write(text.strip("\r\n ") + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress() -> dict:
    """Where and how often tqdm shows progress: a bar on a terminal, now and then a line elsewhere."""
    terminal = sys.stderr.isatty()
    return {"mininterval": 0.1 if terminal else 15, "file": sys.stderr if terminal else _Lines()}


def versions() -> dict[str, str]:
    """What the numbers depend on: the versions of this module, of Python and of the numerical libraries."""
    libraries = {p: version(p) for p in ("torch", "numpy", "scipy", "scikit-learn")}
    return {"mmcl": __version__, "python": platform.python_version(), **libraries}


def failed_path(target: Path) -> Path:
    """Where the evidence of a failed run lies: x.failed.ipynb beside x.run.ipynb."""
    return target.with_name(target.name.removesuffix(".run.ipynb") + ".failed.ipynb")


def _problem(notebook) -> str:
    """What the claims of an executed notebook say against it."""
    try:
        return "; ".join(str(c) for c in claims_of(notebook) if not c.holds)
    except ValueError as error:
        return str(error)


def asked_as(source: Path) -> str:
    """How one asks for a notebook on the command line: by its name, or by its path if it is none of the repository."""
    return source.stem if source.resolve().parent.name in ("notebooks", CHAPTERS.name) else str(source)


def check_module(source: Path) -> None:
    """Raise UsageError if another ``mmcl`` than the one that runs stands beside a notebook."""
    beside = root_of(source.resolve())
    if beside != HERE:
        raise UsageError(
            f"{source} belongs to the mmcl in {beside}, but the one that runs is that of {HERE}; "
            f"go to {beside} and ask again"
        )


def execute(text: str, source: Path, values: dict[str, object], quiet=False):
    """The notebook with its outputs, run by papermill in a fresh kernel process of one thread.

    Args:
        text: the notebook as py:percent.
        source: notebooks/NN_name.py; the kernel starts in its folder, in a temporary one if that is not there.
        values: parameter values, see ``mmcl.reports.parameters.choose_parameters``.
        quiet: show no progress.

    Returns:
        The notebook; ``metadata.mmcl`` has versions, machine, and as ``problem`` what went wrong, "" if nothing.

    Raises:
        UsageError: see ``check_module``; or if the folder of temporary files has too long a name for sockets.
    """
    check_module(source)
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it does not know `x: int | None`
    name, folder, problem = source.stem, source.resolve().parent, ""
    with own_folder(Path(tempfile.gettempdir()), "mmcl-kernel-") as place:
        if len(os.fsencode(place / "kernel-1")) > SOCKET:
            raise UsageError(f"{place.parent} is too long a name for sockets: set TMPDIR to a folder of a shorter one")
        converted, executed = (place / f"{name}.{kind}.ipynb" for kind in ("in", "out"))
        jupytext.write(jupytext.reads(text, "py:percent"), converted)
        try:
            papermill.execute_notebook(
                converted, executed, values, kernel_name="python3", language="python",
                cwd=folder if folder.is_dir() else place, progress_bar=not quiet and {"desc": name, **progress()},
                kernel_manager_class=_this_python(str(place)), coalesce_streams=True,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            problem = f"{error.ename}: {error.evalue}"
        notebook = nbformat.read(executed, 4)
    marker = "papermill-error-cell-tag"
    notebook.cells = [c for c in notebook.cells if marker not in c.metadata.get("tags", [])]
    machine = f"{platform.system()} {platform.machine()}"
    about = {"name": name, "source": asked_as(source), "versions": versions(), "machine": machine}
    notebook.metadata["mmcl"] = about | {"problem": problem or _problem(notebook)}
    for path in ("input_path", "output_path"):
        notebook.metadata.papermill.pop(path, None)
    return notebook


def run(source: Path, target: Path, values: dict[str, object]) -> str:
    """Execute a notebook; ``target`` exists afterwards only if no cell raised and every claim holds.

    Args:
        source: notebooks/NN_name.py; the kernel starts in its folder.
        target: x.run.ipynb; x.failed.ipynb is the evidence of a failure.
        values: parameter values, see ``mmcl.reports.parameters.choose_parameters``.

    Returns:
        What went wrong, "" if nothing.
    """
    target.unlink(missing_ok=True)  # an interrupted run leaves nothing that could be taken for its result
    failed_path(target).unlink(missing_ok=True)
    notebook = execute(read_text(source), source, values)
    problem = notebook.metadata.mmcl.problem
    write_whole(failed_path(target) if problem else target, nbformat.writes(notebook) + "\n")
    return problem


def take_outputs(committed: Path, executed: Path) -> None:
    """Write the outputs of an executed notebook into the committed one, figures as PNG alone, without timings,
    paths and stderr.

    Raises:
        UsageError: if the two differ in their inputs, or one of them is no notebook.
    """
    notebook, run = read_ipynb(committed), read_run(executed)
    if [c.source for c in notebook.cells] != [c.source for c in run.cells]:
        raise UsageError(f"{committed} and {executed} differ in their cells; run `make pairs` and try again")
    for cell, done in zip(notebook.cells, run.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs = [o for o in done.outputs if o.get("name") != "stderr"]
            for data in (o.data for o in cell.outputs if "image/png" in o.get("data", {})):
                data.pop("image/svg+xml", None)  # of the page alone: both would double the size
            cell.execution_count = done.execution_count
    write_whole(committed, nbformat.writes(notebook) + "\n")
