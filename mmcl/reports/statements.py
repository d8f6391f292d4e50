"""The statement table of README.md, the one place that says which statement is argued, computed and tested where."""

from __future__ import annotations

import re
from typing import NamedTuple

from mmcl.reports.parameters import UsageError

HEADER = ["statement", "notebook", "function", "test", "measured"]
STATUSES = ("shown", "shown in part", "differs", "open")


class Statement(NamedTuple):
    """A row of the table: a statement of the paper, where it is argued, and the claims that decide about it."""

    text: str
    label: str
    notebook: str
    status: str
    claims: tuple[str, ...]


def _rows(text: str):
    """Line number and cells of each row below the header, the empty ones before and after the bars included."""
    inside = False
    for i, line in enumerate(text.splitlines()):
        cells = re.split(r"(?<!\\)\|", line.strip())
        header = [c.strip().lower() for c in cells[1:-1]] == HEADER
        inside = header or (inside and line.lstrip().startswith("|"))
        if inside and not header and len(cells) == 7 and not re.fullmatch(r"[\s:-]+", cells[1]):
            yield i, cells


def statements(text: str) -> list[Statement]:
    """The rows of the README's table.

    The last cell begins with a status where a person has judged it ("shown in part: [1.4a] ..."); without one a
    statement counts as shown if it names claims, as open if not.

    Raises:
        UsageError: for a row without a link to its notebook, or a status that is none.
    """
    found = []
    for _, cells in _rows(text):
        link = re.search(r"\[([^\]]*)\]\((?:[^)]*/)?(\w+)\.ipynb", cells[2])
        ids = tuple(re.findall(r"\[(\d[\w.]*)\]", cells[-2]))
        status = _judged(cells[-2]).rstrip(": ") or ("shown" if ids else "open")
        if not link or status not in STATUSES:
            what = f"status {status!r}, not one of {STATUSES}" if link else "no link to a notebook"
            raise UsageError(f"README.md: the row {cells[1].strip()[:60]!r} has {what}")
        found.append(Statement(cells[1].strip(), link[1], link[2], status, ids))
    return found


def _judged(cell: str) -> str:
    """What stands before the first claim of a measured cell: "", or a status and a colon."""
    return cell.partition("[")[0].strip()


def measured_column(text: str, claims: dict) -> str:
    """The README's text with the last cells of its statement table made anew from the claims, by id.

    Raises:
        UsageError: if there is no such table, or a cell names a claim that no notebook makes.
    """
    lines, rows = text.splitlines(), 0
    for i, cells in _rows(text):
        ids = re.findall(r"\[(\d[\w.]*)\]", cells[-2])
        if missing := [c for c in ids if c not in claims]:
            raise UsageError(f"README.md names claim {missing[0]}, which no notebook makes")
        if ids:
            shown = "; ".join(f"[{c}] {claims[c].row[2]} ({claims[c].criterion})" for c in ids)
            cells[-2] = f" {f'{_judged(cells[-2])} {shown}'.strip()} "
            lines[i], rows = "|".join(cells), rows + 1
    if not rows:
        raise UsageError("README.md has no table | " + " | ".join(HEADER) + " | with claim ids")
    return "\n".join(lines) + "\n"
