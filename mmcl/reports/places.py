"""Where things are in the repository: sections, functions and tests, for links that hold and checks that they do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from mmcl.reports.parameters import UsageError


def titles(folder: Path) -> dict[str, str]:
    """Chapter -> its title, of all in a folder, in order."""
    found = {}
    for path in sorted(folder.glob("[0-9][0-9]_*.py")):
        title = re.search(r"^# # +(.*\S)", path.read_text("utf-8"), re.M)
        found[path.stem] = title[1] if title else path.stem
    return found


def headings(notebook) -> list[str]:
    """The headings of the sections of a notebook, levels 2 and 3, as they are typed."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"^###? +(.*\S)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)


def heading_of(section: str, notebook) -> str:
    """The heading that is meant by a part of it.

    Raises:
        UsageError: if none of the notebook's headings is meant, or several are.
    """
    every = headings(notebook)
    found = [h for h in every if h == section] or [h for h in every if section in h]
    if len(found) != 1:
        raise UsageError(f"{len(found) or 'no'} sections have {section!r} in their heading")
    return found[0]


def anchor(heading: str) -> str:
    """The fragment by which GitHub and Jupyter find a heading of a notebook."""
    return quote(re.sub(r"[*`]", "", heading).replace(" ", "-"), safe="-.~!'/:,")


def line_of(path: Path, name: str) -> int:
    """The line at which a file of Python defines a function, a class, a method ``Class.name`` or a variable.

    Raises:
        UsageError: if it does not.
    """
    body = ast.parse(path.read_text("utf-8")).body if path.is_file() else []
    line = 0
    for part in name.split("."):
        found = [node for node in body if part in _defines(node)]
        if not found:
            raise UsageError(f"{path} does not define {name}")
        line, body = found[0].lineno, getattr(found[0], "body", [])
    return line


def _defines(node: ast.stmt) -> list[str]:
    """The names that a statement of Python defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def function_at(name: str, root: Path) -> tuple[str, int]:
    """The file and line of a dotted name, as ``mmcl.spectral.fit``."""
    parts = name.split(".")
    for i in range(len(parts) - 1, 0, -1):
        path = root.joinpath(*parts[:i]).with_suffix(".py")
        if path.is_file():
            return path.relative_to(root).as_posix(), line_of(path, ".".join(parts[i:]))
    raise UsageError(f"{name} is in no file of the module")


def test_at(name: str, root: Path) -> tuple[str, int]:
    """The file and line of a test, as ``tests/test_x.py::test_name``."""
    path, _, function = name.partition("::")
    return path, line_of(root / path, function or "?")


# ---------------------------------------------------------------- docstrings that name a chapter

_NUMBERS = r"\d+(?:(?:, | and | to )\d+)*"
_CHAPTERS = re.compile(rf"\b(?:chapter|notebook)s? ({_NUMBERS})(?:_\w+)?(?:, sections? ({_NUMBERS}))?")


def unmentioned(root: Path) -> list[str]:
    """The docstrings that send a reader to a chapter, or a section of it, which never mentions what they document.

    Returns:
        A sentence for each, with file and line.
    """
    chapters = {path.stem[:2]: path.read_text("utf-8") for path in (root / "notebooks").glob("[0-9][0-9]_*.py")}
    found = []
    for path in sorted((root / "mmcl").rglob("*.py")):
        for node, name in _documented(ast.parse(path.read_text("utf-8"))):
            text = " ".join((ast.get_docstring(node) or "").split())
            for numbers, sections in _CHAPTERS.findall(text):
                for number in _listed(numbers):
                    read = _sections(chapters.get(f"{number:02}", ""), _listed(sections))
                    if not re.search(rf"\b{name}\b", read):
                        where = f"chapter {number:02}" + (f", section {sections}" if sections else "")
                        found.append(f"{path.relative_to(root)}:{node.lineno} names {where}, which has no {name}")
    return found


def _documented(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef | ast.ClassDef, str]]:
    """Functions and classes with the name that a chapter would use; a method's is that of its class, too."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node, node.name
            inner = node.body if isinstance(node, ast.ClassDef) else []
            yield from ((n, f"(?:{node.name}|{n.name})") for n in inner if isinstance(n, ast.FunctionDef))


def _listed(text: str) -> list[int]:
    """The numbers of "1", "2, 4", "3 to 6"."""
    ends = re.sub(r"(\d+) to (\d+)", lambda m: ",".join(map(str, range(int(m[1]), int(m[2]) + 1))), text)
    return [int(number) for number in re.findall(r"\d+", ends)]


def _sections(chapter: str, numbers: list[int]) -> str:
    """The text of the sections with these numbers, of all of a chapter's if there are none."""
    parts = re.split(r"^# ## (?=\d)", chapter, flags=re.M)
    return "".join(part for part in parts if not numbers or re.split(r"\D", part, maxsplit=1)[0] in map(str, numbers))
