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

import jupytext
import yaml


class UsageError(ValueError):
    """A mistake in what was asked for, told in one sentence."""


class Parameter(NamedTuple):
    """A line of the parameters cell: ``name: type = default  # meaning``."""

    name: str
    types: tuple[str, ...]
    default: object
    meaning: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({' | '.join(self.types)}, default {spelled(self.default)})"


class _Reader(yaml.SafeLoader):
    """YAML in which values are what they look like: 1e-3 is a number, ``yes``, ``1:30`` and ``010`` are words."""

    yaml_implicit_resolvers: dict = {}


_NUMBER = r"[-+]?(?:(?:0|[1-9][\d_]*)(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][-+]?\d+)?|[-+]?\.?inf|\.?nan"
for _tag, _pattern in {
    "bool": "true|True|false|False",
    "null": "null|None|~|",
    "int": r"[-+]?(?:0|[1-9][\d_]*)",
    "float": _NUMBER,
}.items():
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), None)
_Reader.add_constructor(
    "tag:yaml.org,2002:float",
    lambda _, node: float(re.sub(r"_|\.(?=[in])", "", node.value)),  # .inf and .nan as well
)


def read_mapping(path: Path) -> dict[str, object]:
    """A YAML file of ``name: value`` lines.

    Raises:
        UsageError: if it cannot be read, is not YAML, or holds something else.
    """
    try:
        read = yaml.load(path.read_text("utf-8"), _Reader)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not text"
        raise UsageError(f"{path} is not YAML{where}: {problem}; write one 'name: value' a line") from None
    if not isinstance(read, dict | None):
        raise UsageError(f"{path} must hold lines 'name: value', not a {type(read).__name__}")
    return {str(name): value for name, value in (read or {}).items()}


def parameters_of(notebook) -> dict[str, Parameter]:
    """The parameters of a notebook: names, types, literal defaults and comments of the cell tagged ``parameters``."""
    cell = next((c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])), None)
    lines = cell.source.splitlines() if cell else []
    found = {}
    for node in ast.parse(cell.source).body if cell else []:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            name, types = ast.unparse(node.target), ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign):
            name, types = ast.unparse(node.targets[0]), ""
        else:
            continue
        literal = ast.literal_eval(node.value)
        kinds = [t.strip() for t in (types or type(literal).__name__.removesuffix("Type")).split("|")]
        comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip(" #")
        found[name] = Parameter(name, tuple(kinds), literal, comment)
    return found


def _fit(value: object, kind: str) -> object:
    """The value as one of type ``kind``, as "float" or "list[int]".

    Raises:
        TypeError: if it is none.
    """
    kind, _, inner = kind.removesuffix("]").partition("[")
    if kind == "list" and isinstance(value, list | tuple):
        return [_fit(v, inner) for v in value] if inner else list(value)
    if type(value).__name__.removesuffix("Type") == kind:
        return value
    if kind == "float" and type(value) is int:
        return float(value)
    if kind == "int" and type(value) is float and value.is_integer():
        return int(value)
    raise TypeError


def coerce(value: object, parameter: Parameter) -> object:
    """A parameter's value in the type of its line in the notebook, from ``"1e-3"``, ``"true"``, ``"[1, 2]"``.

    Raises:
        UsageError: if the value cannot be of the parameter's type.
    """
    read = value
    if isinstance(value, str):
        try:
            read = yaml.load(value, _Reader) if value.strip() else value
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
    raise UsageError(f"parameter {parameter.name} must be {types}, got {value!r}; its default is {parameter.default!r}")


def find_notebook(wanted: str, folder: Path = Path("notebooks")) -> Path:
    """The notebook meant by ``02``, ``2``, ``02_robustness``, or the path of a ``.py`` file.

    Raises:
        UsageError: listing the notebooks, if it is none or several of them.
    """
    if wanted.endswith(".py") and Path(wanted).is_file():
        return Path(wanted)
    there = {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.py"))}
    name = Path(wanted).name.removesuffix(".py").removesuffix(".ipynb")
    found = [n for n in there if n == name or n.split("_")[0] == name.zfill(2) or (len(name) > 2 and name in n)]
    if len(found) == 1:
        return there[found[0]]
    if not there:
        raise UsageError(f"there are no notebooks in {folder.resolve()}; go to the folder of the repository")
    close = difflib.get_close_matches(name, there, 1, 0.4)
    asked = f"there is no notebook {wanted!r}" if wanted else "name a notebook"
    asked += f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(f"{asked}; the notebooks are {', '.join(there)}")


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
        UsageError: naming the profiles, if there is no such profile.
    """
    file = source.parent / "profiles.yaml"
    profiles: dict = {"default": {}, **(read_mapping(file) if file.exists() else {})}
    if profile not in profiles:
        raise UsageError(f"there is no profile {profile!r}; the profiles are {', '.join(profiles)}")
    return dict((profiles[profile] or {}).get(source.stem.split("_")[0]) or {})


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
    allowed = parameters_of(jupytext.read(source))
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
    return " ".join(["python -m mmcl report", notebook, *pairs])


def slug(values: dict[str, object]) -> str:
    """A file name's part for these values: readable, and by its last eight letters another for other values."""
    if not values:
        return "defaults"
    words = ",".join(f"{name}={re.sub(r'[^A-Za-z0-9.+]+', '-', spelled(v)).strip('-')}" for name, v in values.items())
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
    return f"{words[:60].rstrip(',=-')}-{digest}"
