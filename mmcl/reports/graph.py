"""The statements as a graph, drawn as SVG: a column for each chapter, a line from what is needed to what needs it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from mmcl.reports.statements import Statement

MARKS = {
    "shown": "✓", "shown in part": "◐", "differs": "✗", "open": "○", "not reached": "–", "does not hold here": "!",
}  # fmt: skip
PART_NAMES = ("Part I: the paper", "Part II: beyond the paper")
SHORT = {"Theorem": "Thm", "Proposition": "Prop", "Corollary": "Cor", "Lemma": "Lem", "Remark": "Rem"}
SHORT |= {"Algorithm": "Alg", "Assumptions": "Asm", "Section": "Sec", "Eq.": "Eq", "Figure": "Fig"}
WIDTH, HEAD, NODE, STEP = 1160, 76, 30, 37  # of the drawing, of the names above, of a node, from node to node
GAP = 14  # between the nodes of two columns


class Row(NamedTuple):
    """A statement as this run leaves it: its status, and the page and place where it is argued."""

    statement: Statement
    status: str
    link: str


def label(statement: Statement) -> str:
    """The name of a statement in a node: the first number the paper gives it, or the words of the id of one of ours.

    Example:
        >>> label(Statement("thm-7.1", "Theorem 7.1, eq. (7.5)", "paper", "", "open", "", ""))
        'Thm 7.1'
        >>> label(Statement("ours-few-pairs", "ours", "ours", "", "open", "", ""))
        'few pairs'
    """
    if statement.part == "ours" or " with " in statement.number:
        return statement.id.removeprefix("ours-").replace("-", " ")
    first = re.split(", | to ", statement.number)[0]
    return " ".join(SHORT.get(word, word) for word in first.split())


def graph(rows: Sequence[Row], chapters: Mapping[str, tuple[str, str]]) -> Markup:
    """The drawing, in which each node and each chapter is a link.

    Args:
        rows: the statements, in reading order.
        chapters: name -> (title without formulas, page), in order; one without statements has no column.
    """
    columns = [name for name in chapters if any(row.statement.chapter == name for row in rows)]
    wide = WIDTH / max(len(columns), 1)
    place: dict[str, tuple[float, float]] = {}
    for number, name in enumerate(columns):
        own = [row for row in rows if row.statement.chapter == name]
        place |= {row.statement.id: (number * wide + GAP / 2, HEAD + STEP * i) for i, row in enumerate(own)}
    height = max((y for _, y in place.values()), default=0) + STEP
    needs = [(need, row.statement.id) for row in rows for need in row.statement.rests_on if need in place]
    lines = [_line(need, id, place[need], place[id], wide - GAP) for need, id in needs]
    heads = [_head(i * wide + GAP / 2, *chapters[name], wide) for i, name in enumerate(columns)]
    first = [
        min((i for i, name in enumerate(columns) if (name[0] == "0") == paper), default=-1) for paper in (True, False)
    ]
    heads += [
        _part(i * wide + GAP / 2, text, round(height)) for i, text in zip(first, PART_NAMES, strict=True) if i >= 0
    ]
    nodes = [_node(row, *place[row.statement.id], wide - GAP) for row in rows if row.statement.id in place]
    return Markup(
        '<svg class="graph" viewBox="0 0 {} {}" role="group" aria-label="The graph of the statements">{}{}{}</svg>'
    ).format(WIDTH, round(height), Markup().join(lines), Markup().join(heads), Markup().join(nodes))


def _line(need: str, id: str, start: tuple[float, float], end: tuple[float, float], width: float) -> Markup:
    """A curve from the right of one node to the left of another; within a column, along its left."""
    (x0, y0), (x1, y1) = start, end
    y0, y1 = y0 + NODE / 2, y1 + NODE / 2
    if x0 < x1:
        path = f"M{x0 + width:.0f} {y0:.0f}C{x0 + width + 34:.0f} {y0:.0f} {x1 - 34:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
    elif x0 == x1:
        path = f"M{x0:.0f} {y0:.0f}C{x0 - 8:.0f} {y0:.0f} {x0 - 8:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
    else:
        path = f"M{x0:.0f} {y0:.0f}C{x0 - 34:.0f} {y0:.0f} {x1 + width + 34:.0f} {y1:.0f} {x1 + width:.0f} {y1:.0f}"
    return Markup('<path data-ends="{} {}" d="{}"/>').format(need, id, path)


def _part(x: float, text: str, height: int) -> Markup:
    """The name of a part over its first column, and a rule to its left if there is a part before."""
    rule = Markup('<line x1="{0:.0f}" x2="{0:.0f}" y1="0" y2="{1}"/>').format(x - GAP, height) if x > 20 else ""
    return Markup('{}<text class="part" x="{:.0f}" y="13">{}</text>').format(rule, x, text)


def _head(x: float, title: str, page: str, width: float) -> Markup:
    """The name of a chapter above its column, in at most three lines."""
    spans = _lines(
        textwrap.wrap(title, max(8, int(width / 7.5)), max_lines=3, placeholder="…", break_long_words=False), x, 15
    )
    return Markup('<a href="{}"><text class="head" x="{:.0f}" y="33">{}</text></a>').format(page, x, spans)


def _lines(lines: Sequence[str], x: float, step: int) -> Markup:
    """Lines of text below each other."""
    spans = [Markup('<tspan x="{:.0f}" dy="{}">{}</tspan>').format(x, step if i else 0, t) for i, t in enumerate(lines)]
    return Markup().join(spans)


def _node(row: Row, x: float, y: float, width: float) -> Markup:
    """A statement: its mark, and its name in one line or, smaller, in two."""
    statement, name = row.statement, label(row.statement)
    long = len(name) > (width - 26) / 6.6
    lines = (
        textwrap.wrap(name, int((width - 22) / 5.9), max_lines=2, placeholder="…", break_long_words=False)
        if long
        else [name]
    )
    told = f"{statement.number}, {row.status}: " + re.sub(r"[$\\{}]", "", statement.text)
    text = _lines(lines, x + 20, 12)
    return Markup(
        '<a class="node {}" id="node-{}" href="{}" aria-label="{}"><title>{}</title>'
        '<rect x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{}" rx="4"/>'
        '<text class="mark" x="{:.0f}" y="{:.0f}">{}</text><text class="{}" y="{:.0f}">{}</text></a>'
    ).format(
        row.status.replace(" ", "-"), statement.id, row.link, f"{statement.number}: {row.status}", told,
        x, y, width, NODE, x + 6, y + 20, MARKS[row.status],
        "long" if long else "", y + (13 if len(lines) > 1 else 20), text,
    )  # fmt: skip
