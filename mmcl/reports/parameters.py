"""The parameters of a notebook: what its parameters cell says, and values from a command, a file or a profile."""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import yaml

from mmcl.reports.reading import UsageError, read_chapter, read_mapping, read_yaml

_INSTALLED = Path(__file__).resolve().parents[1] / "chapters"
CHAPTERS = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1] / "notebooks"  # that came with this mmcl


class Parameter(NamedTuple):
    """A line of the parameters cell: ``name: type = default  # meaning``."""

    name: str
    types: tuple[str, ...]
    default: object
    meaning: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({' | '.join(self.types)}, default {spelled(self.default)})"


def parameters_of(notebook) -> dict[str, Parameter]:
    """The parameters of a notebook: names, types, literal defaults and comments of the cell tagged ``parameters``.

    Raises:
        UsageError: if that cell is no Python, or a default in it no literal.
    """
    cell = next((c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])), None)
    lines = cell.source.splitlines() if cell else []
    found = {}
    for node in _statements(cell.source) if cell else []:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            name, types = ast.unparse(node.target), ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign):
            name, types = ast.unparse(node.targets[0]), ""
        else:
            continue
        try:
            literal = ast.literal_eval(node.value)
        except ValueError:
            raise UsageError(f"the default of parameter {name} is {ast.unparse(node.value)}, not a literal") from None
        kinds = [t.strip() for t in (types or type(literal).__name__.removesuffix("Type")).split("|")]
        comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip(" #")
        found[name] = Parameter(name, tuple(kinds), literal, comment)
    return found


def _statements(source: str) -> list:
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"the parameters cell is no Python: {error}") from None


def _fit(value: object, kind: str) -> object:
    """The value as one of type ``kind``, as "float" or "list[int]".

    Raises:
        TypeError: if it is none.
    """
    kind, _, inner = kind.removesuffix("]").partition("[")
    if kind == "list" and isinstance(value, list | tuple):
        return [_fit(v, inner) if inner else _plain(v) for v in value]
    if type(value).__name__.removesuffix("Type") == kind:
        return value
    if kind == "float" and type(value) is int and abs(value) < 2**1023:
        return float(value)
    if kind == "int" and type(value) is float and value.is_integer():
        return int(value)
    raise TypeError


def _plain(value: object) -> object:
    """A word, a number, true, false, null, or a list of such, else TypeError."""
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, str | int | float | None):
        return value
    raise TypeError


def coerce(value: object, parameter: Parameter) -> object:
    """A parameter's value in the type of its line in the notebook, from ``"1e-3"``, ``"true"``, ``"[1, 2]"``.

    Raises:
        UsageError: if the value cannot be of the parameter's type.
    """
    read = value
    if isinstance(value, str):
        try:
            read = read_yaml(value) if value.strip() else value
            read = value if isinstance(read, str) else read  # a word as it was typed
        except yaml.YAMLError:
            pass
    for kind in parameter.types:
        try:
            return _fit(read, kind)
        except TypeError:
            continue
    if "str" in parameter.types and isinstance(value, str):
        return value
    example = {"bool": "true or false", "list": "as [1, 2]", "str": "a word"}.get(parameter.types[0].split("[")[0], "")
    types = " | ".join(parameter.types) + (f" ({example})" if example else "")
    got = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:60]}..."
    raise UsageError(f"parameter {parameter.name} must be {types}, got {got}; its default is {parameter.default!r}")


def find_notebook(wanted: str, folder: Path | None = None) -> Path:
    """The notebook meant by ``02``, ``2``, ``02_robustness``, or the path of a ``.py`` file.

    Args:
        wanted: as the user typed it.
        folder: where to look; by default ``notebooks`` of the present folder, or else what came with this ``mmcl``.

    Raises:
        UsageError: listing the notebooks, if it is none or several of them.
    """
    if wanted.endswith(".py") and Path(wanted).is_file():
        return Path(wanted)
    folders = [Path("notebooks"), CHAPTERS] if folder is None else [folder]
    there = next(filter(None, map(_chapters_in, folders)), {})
    name = Path(wanted).name.removesuffix(".py").removesuffix(".ipynb")
    number = name.zfill(2) if name else None
    found = [n for n in there if n == name or n.split("_")[0] == number or (len(name) > 2 and name in n)]
    if len(found) == 1:
        return there[found[0]]
    if not there:
        raise UsageError(f"there are no notebooks in {folders[-1].resolve()}; go to the folder of the repository")
    close = difflib.get_close_matches(name, there, 1, 0.4)
    asked = f"there is no notebook {wanted!r}" if wanted else "name a notebook"
    asked += f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(f"{asked}; the notebooks are {', '.join(there)}")


def _chapters_in(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.py"))}


def check_names(names, allowed: dict[str, Parameter], notebook: str) -> None:
    """Raise UsageError with the nearest spelling and all parameters if one of the names is not allowed."""
    for name in names:
        if name not in allowed:
            close = difflib.get_close_matches(name, allowed, 1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            known = ", ".join(map(str, allowed.values())) or "none"
            raise UsageError(f"notebook {notebook} has no parameter {name!r}{meant}; its parameters are: {known}")


def profile_values(source: Path, profile: str) -> dict[str, object]:
    """The values that ``profiles.yaml`` beside a notebook gives it in a profile; none in the profile ``default``.

    Raises:
        UsageError: naming the profiles, if there is no such profile; or if the file has another shape.
    """
    file = source.parent / "profiles.yaml"
    profiles: dict = {"default": {}, **(read_mapping(file) if file.exists() else {})}
    if profile not in profiles:
        raise UsageError(f"there is no profile {profile!r}; the profiles are {', '.join(profiles)}")
    chapters = {} if profiles[profile] is None else profiles[profile]
    there = [path.stem.split("_")[0] for path in source.parent.glob("*.py")]
    rows = chapters.items() if isinstance(chapters, dict) else [("no chapters", chapters)]
    for number, values in rows:
        if number not in there or not isinstance(values, dict | None):
            shape = """'"NN": {name: value}' with NN, in quotes, the number of a chapter beside it"""
            raise UsageError(f"profile {profile} in {file} holds {number}: {values}; write {shape}")
    return dict(chapters.get(source.stem.split("_")[0]) or {})


def choose_parameters(source: Path, profile: str = "default", pairs=(), file: Path | None = None) -> dict[str, object]:
    """The values to run a notebook with: a profile's, then those of a YAML file, then ``name=value`` pairs.

    Raises:
        UsageError: for an unknown profile or parameter, or a value of the wrong type.
    """
    asked = profile_values(source, profile) | (read_mapping(file) if file else {})
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name.strip().isidentifier()):
            raise UsageError(f"{pair!r} is not name=value, as n=200")
        asked[name.strip()] = value.strip()
    allowed = parameters_of(read_chapter(source))
    check_names(asked, allowed, source.stem)
    return {name: coerce(value, allowed[name]) for name, value in asked.items()}


def changed(values: dict[str, object], allowed: dict[str, Parameter]) -> dict[str, object]:
    """The values that differ from the defaults, in the order of the notebook."""
    return {n: values[n] for n in allowed if n in values and values[n] != allowed[n].default}


def spelled(value: object) -> str:
    """A value as one types it: words bare, the rest as in YAML."""
    return value if isinstance(value, str) else json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan")


def command_for(notebook: str, values: dict[str, object]) -> str:
    """The command that makes the report of a notebook with these values."""
    pairs = [f"-p {shlex.quote(f'{name}={spelled(value)}')}" for name, value in values.items()]
    return " ".join(["python -m mmcl report", shlex.quote(notebook), *pairs])


def slug(values: dict[str, object]) -> str:
    """A file name's part for these values: readable, and by its last eight letters another for other values."""
    if not values:
        return "defaults"
    words = ",".join(f"{name}={re.sub(r'[^A-Za-z0-9.+]+', '-', spelled(v)).strip('-')}" for name, v in values.items())
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
    return f"{words[:60].rstrip(',=-')}-{digest}"
