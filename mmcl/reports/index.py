"""The first page, what was claimed and what came out on one screen, and the ledger of all checks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mmcl.notebook.claims import Claim
from mmcl.reports.graph import MARKS, Row, graph
from mmcl.reports.page import rendered, summary
from mmcl.reports.parameters import UsageError
from mmcl.reports.statements import PARTS, Statement


def _entries(notebooks: Mapping) -> list[dict[str, Any]]:
    """What the pages say of each chapter; see ``index``."""
    entries = []
    for name, notebook in notebooks.items():
        entry: dict[str, Any] = {"name": name, "title": name, "problem": "was not run", "claims": [], "first": ""}
        entry |= summary(notebook, name) if notebook else {}
        entries.append(entry | {"page": name + (".failed.html" if entry["problem"] else ".html")})
    return entries


def _status(statement: Statement, made: Mapping[str, Claim]) -> str:
    """The verdict on a statement, or what keeps this run from it."""
    claims = [made[i] for i in statement.claims if i in made]
    if not all(c.holds for c in claims):
        return "does not hold here"
    return statement.verdict if len(claims) == len(statement.claims) else "not reached"


def index(notebooks: Mapping, profile: str, statements: Iterable[Statement] = (), repository: str = "") -> str:
    """The page that links the reports: the argument, the graph of the statements, and their table.

    Args:
        notebooks: name -> executed notebook, or None if it could not be run.
        profile: the profile of the parameter values they ran with.
        statements: those of the registry; each is shown with its verdict and one number of this run.
        repository: "owner/name" on GitHub, for links that open the notebooks in Binder and in Colab; "" for none.
    """
    if repository and not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(f"the repository {repository!r} is not written owner/name")
    entries = _entries(notebooks)
    pages = {entry["name"]: entry["page"] for entry in entries}
    made = {entry["name"]: {c.id: c for c in entry["claims"]} for entry in entries}
    shown: list[tuple[Row, Claim | None]] = []
    for statement in (s for s in statements if s.chapter in pages):
        own = made[statement.chapter]
        row = Row(statement, _status(statement, own), f"{pages[statement.chapter]}#{statement.id}")
        shown.append((row, next((own[i] for i in statement.claims if i in own), None)))
    rows = [row for row, _ in shown]
    chapters = {entry["name"]: (entry["title"].replace("$", ""), entry["page"]) for entry in entries}
    counted = Counter(row.status for row in rows)
    return rendered(
        "index.html.j2",
        ["bar", "graph"],
        entries=entries,
        profile=profile,
        graph=graph(rows, chapters) if rows else "",
        parts=[[(row, claim) for row, claim in shown if row.statement.part == part] for part in PARTS],
        repository=repository,
        verdicts=[(status, mark, counted[status]) for status, mark in MARKS.items() if counted[status]],
    )


def times(notebooks: Mapping) -> str:
    """Chapter by chapter the seconds of its run and how many of its claims hold, as aligned text; then of all.

    Args:
        notebooks: see ``index``.
    """
    rows = []
    for entry, notebook in zip(_entries(notebooks), notebooks.values(), strict=True):
        timing = notebook.metadata.get("papermill", {}) if notebook else {}
        rows.append((entry["name"], timing.get("duration") or 0.0, [c.holds for c in entry["claims"]]))
    rows.append(("all", sum(row[1] for row in rows), [holds for row in rows for holds in row[2]]))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{n.ljust(width)}  {t:5.0f} s  {sum(held):3} of {len(held)} hold" for n, t, held in rows)


def ledger(notebooks: Mapping, profile: str) -> str:
    """The page of all checks, chapter by chapter; see ``index`` for the arguments."""
    return rendered("ledger.html.j2", ["bar"], entries=_entries(notebooks), profile=profile)
