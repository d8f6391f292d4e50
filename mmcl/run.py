"""Run notebooks with papermill, and carry their outputs and claims into the repository."""

from __future__ import annotations

import ast
import logging
import platform
import re
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jupytext
import nbformat
import papermill
import yaml
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from traitlets import default

from mmcl import __version__
from mmcl.report import claims_of

README_HEADER = ["statement", "notebook", "function", "test", "measured"]


class UsageError(ValueError):
    """A mistake in what was asked for, told in one sentence."""


class Parameter(NamedTuple):
    """A line of the parameters cell: ``name: type = default``."""

    name: str
    types: tuple[str, ...]
    default: object


class _ThisPython(AsyncKernelManager):
    """Starts kernels of the running interpreter, whatever kernels are installed for the user."""

    @default("transport")
    def _sockets_not_ports(self) -> str:
        return "ipc"

    @default("ip")
    def _socket_name(self) -> str:
        self._folder = tempfile.TemporaryDirectory(prefix="mmcl-")  # socket names must be short
        return f"{self._folder.name}/kernel"

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, language="python", display_name="Python 3")


def parameters_of(notebook) -> dict[str, Parameter]:
    """The parameters of a notebook: names, types and literal defaults of the cell tagged ``parameters``."""
    cell = next((c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])), None)
    found = {}
    for node in ast.parse(cell.source).body if cell else []:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            target, types = node.target, ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign):
            target, types = node.targets[0], ""
        else:
            continue
        literal = ast.literal_eval(node.value)
        types = re.sub(r"\[.*?\]", "", types) or type(literal).__name__
        found[target.id] = Parameter(target.id, tuple(t.strip() for t in types.split("|")), literal)
    return found


def coerce(value: object, parameter: Parameter) -> object:
    """A parameter's value in the type of its line in the notebook, from ``"1e-3"``, ``"true"``, ``"[1, 2]"``.

    Raises:
        UsageError: if the value cannot be of the parameter's type.
    """
    read = value
    if isinstance(value, str):
        try:
            read = ast.literal_eval({"true": "True", "false": "False", "null": "None"}.get(value, value))
        except (ValueError, SyntaxError):
            pass
    for kind in parameter.types:
        if type(read).__name__.removesuffix("Type") == kind:
            return read
        if kind == "float" and type(read) is int:
            return float(read)
        if kind == "int" and type(read) is float and read.is_integer():
            return int(read)
        if {kind, type(read).__name__} == {"list", "tuple"}:
            return list(read)
    if "str" in parameter.types and isinstance(value, str):
        return value
    raise UsageError(f"parameter {parameter.name} must be {' | '.join(parameter.types)}, got {value!r}")


def choose_parameters(source: Path, profile: str = "default", pairs=()) -> dict[str, object]:
    """The values to run a notebook with: those of a profile in ``profiles.yaml``, then ``name=value`` pairs.

    Raises:
        UsageError: for an unknown profile or parameter, or a value of the wrong type.
    """
    profiles = {"default": {}, **yaml.safe_load((source.parent / "profiles.yaml").read_text())}
    if profile not in profiles:
        raise UsageError(f"there is no profile {profile!r}; the profiles are {', '.join(profiles)}")
    asked = dict((profiles[profile] or {}).get(source.stem.split("_")[0], {}))
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{pair!r} is not name=value")
        asked[name] = value
    allowed = parameters_of(jupytext.read(source))
    for name in asked:
        if name not in allowed:
            known = ", ".join(f"{p.name} ({' | '.join(p.types)})" for p in allowed.values()) or "none"
            raise UsageError(f"{source.stem} has no parameter {name!r}; its parameters are: {known}")
    return {name: coerce(value, allowed[name]) for name, value in asked.items()}


class _Lines:
    """A stderr for progress bars that is not a terminal: one line per update."""

    def write(self, text: str) -> None:
        if text.strip("\r\n "):
            sys.stderr.write(text.strip("\r\n ") + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def failed_path(target: Path) -> Path:
    """Where the evidence of a failed run lies: x.failed.ipynb beside x.run.ipynb."""
    return target.with_name(target.name.removesuffix(".run.ipynb") + ".failed.ipynb")


def run(source: Path, target: Path, values: dict[str, object]) -> str:
    """Execute a notebook; ``target`` exists afterwards only if no cell raised and every claim holds.

    Args:
        source: notebooks/NN_name.py; the kernel starts in its folder.
        target: x.run.ipynb; x.ipynb is the notebook as converted, x.failed.ipynb the evidence of a failure.
        values: parameter values, see ``choose_parameters``.

    Returns:
        What went wrong, "" if nothing.
    """
    name, failed = source.stem, failed_path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    converted = failed.with_name(name + ".ipynb")
    jupytext.write(jupytext.read(source), converted)
    terminal = sys.stderr.isatty()
    bar = {"desc": name, "mininterval": 0.1 if terminal else 15, "file": sys.stderr if terminal else _Lines()}
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it does not know `x: int | None`
    problem = ""
    try:
        papermill.execute_notebook(
            converted, failed, values, kernel_name="python3", language="python", cwd=source.parent,
            progress_bar=bar, kernel_manager_class=_ThisPython, coalesce_streams=True,
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        problem = f"{error.ename}: {error.evalue}"
    except BaseException:  # interrupted, or the kernel died: what lies there is no evidence of a failure
        target.unlink(missing_ok=True)
        failed.unlink(missing_ok=True)
        raise
    notebook = nbformat.read(failed, 4)
    marker = "papermill-error-cell-tag"
    notebook.cells = [c for c in notebook.cells if marker not in c.metadata.get("tags", [])]
    try:
        broken = "; ".join(str(c) for c in claims_of(notebook) if not c.holds)
    except ValueError as error:
        broken = str(error)
    problem = problem or broken
    versions = {"mmcl": __version__, "python": platform.python_version()}
    versions |= {p: version(p) for p in ("torch", "numpy", "scipy", "scikit-learn")}
    machine = f"{platform.system()} {platform.machine()}"
    notebook.metadata["mmcl"] = {"versions": versions, "machine": machine, "problem": problem}
    nbformat.write(notebook, failed)
    if problem:
        target.unlink(missing_ok=True)
    else:
        failed.replace(target)
    return problem


def take_outputs(committed: Path, executed: Path) -> None:
    """Write the outputs of an executed notebook into the committed one, without timings, paths and stderr.

    Raises:
        UsageError: if the two differ in their inputs.
    """
    notebook, run = nbformat.read(committed, 4), nbformat.read(executed, 4)
    if [c.source for c in notebook.cells] != [c.source for c in run.cells]:
        raise UsageError(f"{committed} and {executed} differ in their cells; run `make pairs` and try again")
    for cell, done in zip(notebook.cells, run.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs = [o for o in done.outputs if o.get("name") != "stderr"]
            cell.execution_count = done.execution_count
    nbformat.write(notebook, committed)


def measured_column(text: str, claims: dict) -> str:
    """The README's text with the last cells of its statement table made anew from the claims, by id.

    Raises:
        UsageError: if there is no such table, or a cell names a claim that no notebook makes.
    """
    lines, inside, rows = text.splitlines(), False, 0
    for i, line in enumerate(lines):
        cells = re.split(r"(?<!\\)\|", line.strip())
        header = [c.strip().lower() for c in cells[1:-1]] == README_HEADER
        inside = header or (inside and line.lstrip().startswith("|"))
        ids = re.findall(r"\[(\d[\w.]*)\]", cells[-2]) if inside and len(cells) == 7 else []
        if missing := [c for c in ids if c not in claims]:
            raise UsageError(f"README.md names claim {missing[0]}, which no notebook makes")
        if ids:
            cells[-2] = f" {'; '.join(f'[{c}] {claims[c].row[2]} ({claims[c].criterion})' for c in ids)} "
            lines[i], rows = "|".join(cells), rows + 1
    if not rows:
        raise UsageError("README.md has no table | " + " | ".join(README_HEADER) + " | with claim ids")
    return "\n".join(lines) + "\n"
