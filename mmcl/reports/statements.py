"""The registry of statements, ``notebooks/statements.yaml``: which one is argued, computed and tested where.

The README's table, the rows of the index and the box at the head of a section are made from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mmcl.notebook.claims import Claim
from mmcl.reports import places
from mmcl.reports.reading import UsageError, read_text, read_yaml

VERDICTS = ("shown", "shown in part", "differs", "open")
PARTS = ("paper", "ours")
BEGIN, END = "<!-- statements: made by make readme -->", "<!-- end of statements -->"


@dataclass(frozen=True)
class Statement:
    """A statement of the paper, or of ours.

    Attributes:
        id: a word, as ``thm-3.1``.
        number: the paper's, as "Theorem 3.1, restated as 8.1"; "ours" for one that is not in it.
        part: "paper" or "ours".
        text: what it says, one line in plain words; may hold $...$ formulas.
        verdict: on the statement as it is printed: "shown", "shown in part", "differs" or "open".
        chapter: the stem of the notebook that argues it.
        section: the heading of the section there, or a part that no other heading holds.
        functions: dotted names of what computes it.
        tests: ``tests/test_x.py::test_name``.
        claims: the ids of the claims that decide about it.
        rests_on: the ids of the statements it needs.
    """

    id: str
    number: str
    part: str
    text: str
    verdict: str
    chapter: str
    section: str
    functions: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    rests_on: tuple[str, ...] = ()


LISTS = ("functions", "tests", "claims", "rests_on")


def _statement(row: object, place: str) -> Statement:
    """One entry of the registry."""
    if not isinstance(row, dict):
        raise UsageError(f"{place} is not made of lines 'name: value'")
    names = [field.name for field in fields(Statement)]
    if wrong := [name for name in row if name not in names]:
        raise UsageError(f"{place} has a field {wrong[0]!r}; the fields are {', '.join(names)}")
    if missing := [name for name in names if name not in LISTS and not row.get(name)]:
        raise UsageError(f"{place} has no {missing[0]}")
    for name, value in row.items():
        several = isinstance(value, list) and all(isinstance(v, str) for v in value)
        if not (several if name in LISTS else isinstance(value, str)):
            raise UsageError(
                f"{place}: {name} must be {'a list of words' if name in LISTS else 'one text'}, not {value}"
            )
    values: dict[str, Any] = {name: tuple(value) if name in LISTS else value for name, value in row.items()}
    made = Statement(**values)
    for name, allowed in (("verdict", VERDICTS), ("part", PARTS)):
        if getattr(made, name) not in allowed:
            raise UsageError(f"{place}: {name} is {getattr(made, name)!r}, not one of {', '.join(allowed)}")
    if made.verdict != "open" and not (made.functions and made.tests and made.claims):
        raise UsageError(f"{place} is {made.verdict}, so it needs functions, tests and claims; or it is open")
    return made


def read(path: Path) -> list[Statement]:
    """The statements of a registry, in its order.

    Raises:
        UsageError: naming the entry, if one is wrong by itself or rests on none of the others.
    """
    text = read_text(path)
    try:
        rows = read_yaml(text, words=True) or []
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(rows, list):
        raise UsageError(f"{path} must be a list, each entry beginning with '- id: ...'")
    ids = [row.get("id") if isinstance(row, dict) else None for row in rows]
    made = [
        _statement(row, f"{path}: {id or f'entry {i}'}") for i, (id, row) in enumerate(zip(ids, rows, strict=True), 1)
    ]
    for statement in made:
        if ids.count(statement.id) > 1:
            raise UsageError(f"{path}: the id {statement.id} is there twice")
        if unknown := [id for id in statement.rests_on if id not in ids or id == statement.id]:
            raise UsageError(f"{path}: {statement.id} rests on {unknown[0]!r}, which is no other statement")
    return made


def beside(source: Path) -> list[Statement]:
    """The statements of the registry in the folder of a notebook; none if it has no registry."""
    path = source.parent / "statements.yaml"
    return read(path) if path.exists() else []


def table(statements: Iterable[Statement], root: Path, notebooks: Mapping, claims: Mapping[str, Claim]) -> str:
    """The README's table, in Markdown.

    Args:
        statements: see ``read``.
        root: the folder of the repository, from which the links lead.
        notebooks: chapter -> notebook.
        claims: id -> claim, of all notebooks.

    Raises:
        UsageError: if a statement names what does not exist; see ``problems`` for all of them.
    """
    lines = ["| statement | where | function | test | measured |", "|---|---|---|---|---|"]
    for s in statements:
        if s.chapter not in notebooks:
            raise UsageError(f"{s.id}: there is no chapter {s.chapter!r}")
        heading = places.heading_of(s.section, notebooks[s.chapter])
        where = f"[{s.chapter[:2]}, {_short(heading)}](notebooks/{s.chapter}.ipynb#{places.anchor(heading)})"
        functions = "<br>".join(_link(name, *places.function_at(name, root)) for name in s.functions)
        tests = "<br>".join(_link(name.partition("::")[2], *places.test_at(name, root)) for name in s.tests)
        if unknown := [id for id in s.claims if id not in claims]:
            raise UsageError(f"{s.id} names the claim {unknown[0]}, which no notebook makes")
        measured = "; ".join(f"[{id}] {claims[id].row[2]} ({claims[id].criterion})" for id in s.claims)
        cells = [
            f"{s.text} ({s.number})",
            where,
            functions,
            tests,
            f"{s.verdict}: {measured}" if measured else s.verdict,
        ]
        lines.append("| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in cells) + " |")
    return "\n".join(lines)


def _short(heading: str) -> str:
    """The number of a section, or its whole heading if it has none."""
    number = re.match(r"\d[\d.]*(?= )", heading)
    return number[0].rstrip(".") if number else heading


def _link(text: str, path: str, line: int) -> str:
    return f"[`{text}`]({path}#L{line})"


def with_table(readme: str, made: str) -> str:
    """The README's text with the table between its two marks made anew.

    Raises:
        UsageError: if the marks are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UsageError(f"the README has no place for the table: the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def problems(statements: Iterable[Statement], root: Path, notebooks: Mapping, claims: Mapping[str, Claim]) -> list[str]:
    """What is wrong between the registry and the repository, a sentence each; see ``table`` for the arguments."""
    found = []
    for s in statements:
        checks: list[Callable] = [partial(places.function_at, name, root) for name in s.functions]
        checks += [partial(places.test_at, name, root) for name in s.tests]
        if s.chapter in notebooks:
            checks += [partial(places.heading_of, s.section, notebooks[s.chapter])]
        else:
            found.append(f"{s.id}: there is no chapter {s.chapter!r}")
        for check in checks:
            try:
                check()
            except UsageError as error:
                found.append(f"{s.id}: {error}")
        found += [f"{s.id}: no notebook makes the claim {id}" for id in s.claims if id not in claims]
    return found
