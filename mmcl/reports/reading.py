"""What comes from outside, read in one place and refused in one sentence: YAML, chapters, executed notebooks."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import jupytext
import nbformat
import yaml


class UsageError(ValueError):
    """A mistake in what was asked for, told in one sentence."""


class DamagedError(UsageError):
    """A file that a run has made and that is no longer whole: it is to be made anew."""


class _Reader(yaml.SafeLoader):
    """YAML in which values are what they look like: 1e-3 is a number, ``yes``, ``1:30`` and ``010`` are words.

    What a value does not show is refused: tags (``!!int x``) and aliases (``*x``), by which few bytes hold millions.
    """

    yaml_implicit_resolvers: dict = {}

    def compose_node(self, parent, index):
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            problem = "tags (!) and aliases (*) have no place here"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


class _Words(_Reader):
    """The same in which all values are words: 2.10 is not 2.1."""

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


def read_yaml(text: str, words: bool = False) -> object:
    """The value that a text of YAML has, with ``words`` one that is made of words.

    Raises:
        yaml.YAMLError: if it has none, or one that is too deep or too long to be read.
    """
    try:
        return yaml.load(text, _Words if words else _Reader)
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="its brackets are too deep") from None
    except ValueError:
        raise yaml.MarkedYAMLError(problem="a number in it has too many digits") from None


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        UsageError: if it cannot be read or is no text.
    """
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text in UTF-8") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def read_mapping(path: Path) -> dict[str, object]:
    """A YAML file of ``name: value`` lines.

    Raises:
        UsageError: if it cannot be read, is not YAML, or holds something else.
    """
    text = read_text(path)
    try:
        read = read_yaml(text)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        told = f"{path} is not YAML{where}: {problem or 'it holds what is no text'}"
        raise UsageError(f"{told}; write one 'name: value' a line") from None
    if not isinstance(read, dict | None):
        raise UsageError(f"{path} must hold lines 'name: value', not a {type(read).__name__}")
    return {str(name): value for name, value in (read or {}).items()}


def read_chapter(path: Path):
    """The notebook that a file in py:percent is.

    Raises:
        UsageError: if it cannot be read, is no text, or is not called ``.py``.
    """
    if path.suffix != ".py":
        raise UsageError(f"{path} is no chapter; name the file that ends in .py")
    return jupytext.reads(read_text(path), "py:percent")


def read_ipynb(path: Path):
    """The notebook in a file ``.ipynb``.

    Raises:
        DamagedError: if it is there and no notebook, or not a whole one.
        UsageError: if it cannot be read.
    """
    raw = _bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            notebook = nbformat.v4.reads(raw.decode())
            nbformat.validate(notebook)
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError, nbformat.ValidationError):
        raise DamagedError(f"{path} is not a whole notebook; make it again") from None
    return notebook


def read_run(path: Path):
    """A notebook as `mmcl.reports.run` has executed it, with what it says of itself.

    Raises:
        DamagedError: if it is there and not what a run writes.
        UsageError: if it cannot be read.
    """
    notebook = read_ipynb(path)
    about = notebook.metadata.get("mmcl")
    if not (isinstance(about, dict) and isinstance(about.get("problem"), str)):
        raise DamagedError(f"{path} is not a notebook that `mmcl run` has executed; run it again")
    return notebook


def read_json(path: Path) -> object:
    """The value in a file of JSON, or None if it cannot be read, as after a kill or on a full disk."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
