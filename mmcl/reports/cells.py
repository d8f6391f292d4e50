"""The cells of an executed notebook as a reader wants them: text and figures first, the code of a step in one fold."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from nbconvert.filters import Highlight2HTML, strip_ansi

from mmcl.notebook.claims import CLAIM_MIME, LEDGER_MIME, NUMBER_MIME, Claim, claims_of, ledger_html
from mmcl.notebook.figures import PLAY_MIME
from mmcl.reports.formulas import Renderer, markdown
from mmcl.reports.graph import MARKS, PART_NAMES
from mmcl.reports.places import heading_of
from mmcl.reports.safe import clean
from mmcl.reports.statements import Statement

templates = Environment(loader=PackageLoader("mmcl.reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
COLUMN = 780  # pixels of a figure that is as wide as the text


def inline(text: str) -> Markup:
    """One line of Markdown, with typeset formulas."""
    return markdown(text, inline=True)


templates.filters["inline"] = inline


def ledger_table(claims: Iterable[Claim], page: str = "", name: str = "") -> Markup:
    """The table of claims, in a frame that scrolls."""
    table = Markup(ledger_html(claims, inline, page))
    frame = '<div class="scroll" tabindex="0" role="region" aria-label="{}">{}</div>'
    return Markup(frame).format(f"Table of checks {name}".strip(), table)


templates.globals |= {"ledger": ledger_table, "marks": MARKS, "part_names": PART_NAMES}


def figures(notebook) -> list:
    """The outputs of an executed notebook that hold a figure, in order."""
    outputs = (o for c in notebook.cells for o in c.get("outputs", []))
    return [o for o in outputs if "image/png" in o.get("data", {})]


def played(notebook) -> list[str]:
    """The names of the scripts that make figures of a notebook some to play with."""
    return sorted({o.data[PLAY_MIME]["name"] for o in figures(notebook) if PLAY_MIME in o.data})


def _source(data: dict) -> Markup:
    """The address of a figure that holds all of it: as SVG if that is there, else as PNG."""
    if svg := data.get("image/svg+xml"):
        quoted = re.sub("[%#<>&'\n]", lambda c: f"%{ord(c[0]):02X}", svg).replace('"', "'")
        return Markup("data:image/svg+xml,") + Markup(quoted)
    return Markup("data:image/png;base64,{}").format(data["image/png"].strip())


def figure(output, number: int | None = None) -> Markup:
    """A figure with its number and caption; without a number, the picture alone."""
    data, about = output.data, output.metadata.get("image/png", {})
    header = base64.b64decode(data["image/png"].strip()[:32])
    width, height = (int.from_bytes(header[i : i + 4], "big") for i in (16, 20))
    shown = about.get("width") or width
    play = data.get(PLAY_MIME)
    return Markup(
        templates.get_template("figure.html.j2").render(
            number=number,
            source=_source(data),
            alt=about.get("alt", ""),
            caption=inline(about["caption"]) if about.get("caption") else about.get("alt", ""),
            width=shown,
            height=round(shown * height / max(width, 1)),
            wide=shown > COLUMN,
            panels=json.dumps(about.get("panels", [])),
            play=play and play["name"],
            values=play and json.dumps(dict(play)),
        )
    )


def _output(output, numbers: Iterator[int], claims: list[Claim]) -> Markup:
    """One output of a code cell."""
    if output.output_type == "stream":
        shown = Markup('<pre class="{}" tabindex="0">{}</pre>').format(output.name, output.text)
        return shown if output.text.strip() else Markup()
    if output.output_type == "error" and output.ename == "ClaimFailed":
        return Markup('<pre class="error" tabindex="0">Do not hold:\n{}</pre>').format(output.evalue)
    if output.output_type == "error":
        trace = strip_ansi("\n".join(output.traceback))
        return Markup('<pre class="error" id="failed-cell" tabindex="0">{}</pre>').format(trace)
    data = output.data
    if CLAIM_MIME in data:
        return Markup(Claim.from_json(data[CLAIM_MIME]).html(inline))
    if NUMBER_MIME in data:
        number = data[NUMBER_MIME]
        value = data["text/plain"].rpartition(": ")[2]
        return Markup("<p>{}: <strong>{}</strong></p>").format(inline(number["statement"]), value)
    if LEDGER_MIME in data:
        return Markup('<div id="ledger">{}</div>').format(ledger_table(claims))
    if "image/png" in data:
        return figure(output, next(numbers))
    if "text/html" in data:
        return Markup(f'<div class="scroll">{clean(data["text/html"])}</div>')
    if "text/markdown" in data or "text/latex" in data:
        return markdown(data.get("text/markdown") or data["text/latex"])
    return Markup('<pre tabindex="0">{}</pre>').format(data.get("text/plain", ""))


def _says(cell) -> bool:
    """Whether a code cell only prints a sentence, or the ledger: then its code is of no interest."""
    return re.match(r"(Markdown|ledger)\(", cell.source.strip()) is not None


def _step(cells: list, show, highlight) -> dict[str, Any]:
    """Code cells that follow each other: their code in one fold, and their outputs."""
    tags = {tag for cell in cells for tag in cell.metadata.get("tags", [])}
    shown = [cell for cell in cells if cell.source.strip() and not _says(cell)]
    comment = re.match(r"# *(.*\S)", shown[0].source) if shown else None
    name = "Parameters and imports" if "parameters" in tags else comment[1] if comment else ""
    return {
        "code": [Markup(highlight(cell.source)) for cell in shown],
        "lines": sum(cell.source.count("\n") + 1 for cell in shown),
        "name": name,
        "outputs": [show(output) for cell in cells for output in cell.outputs],
    }


def blocks(notebook, renderer: Renderer, boxes: dict[str, list[Statement]]) -> list[dict[str, Any]]:
    """What the template shows in turn: ``html`` of a text, or a step's ``code``, ``lines``, ``name``, ``outputs``."""
    highlight, numbers, titled = Highlight2HTML(pygments_lexer="ipython3"), itertools.count(1), False
    claims, made = claims_of(notebook), list[dict[str, Any]]()
    full = (c for c in notebook.cells if c.source.strip() or c.get("outputs"))
    for kind, group in itertools.groupby(full, lambda cell: cell.cell_type):
        if kind == "code":
            made.append(_step(list(group), lambda output: _output(output, numbers, claims), highlight))
            continue
        for cell in group:
            source = cell.source if titled else re.sub(r"^# +.*$", "", cell.source, count=1, flags=re.M)
            titled = True
            renderer.attachments = cell.get("attachments", {})
            made += [{"html": html} for html in _with_boxes(source, renderer, boxes)]
    return made


def _with_boxes(source: str, renderer: Renderer, boxes: dict[str, list[Statement]]) -> list[Markup]:
    """A cell of text in parts: up to a heading that argues statements, their boxes, and what follows."""
    parts, begin = [], 0
    for match in re.finditer(r"^###? +(.*\S)", source, re.M):
        if match[1] in boxes:
            parts.append(markdown(source[begin : match.end()], renderer))
            parts += [Markup(templates.get_template("box.html.j2").render(s=s)) for s in boxes[match[1]]]
            begin = match.end()
    return [*parts, markdown(source[begin:], renderer)]


def boxes_of(notebook, statements: Iterable[Statement]) -> dict[str, list[Statement]]:
    """Heading -> the statements that its section argues."""
    boxes: dict[str, list[Statement]] = {}
    for statement in statements:
        boxes.setdefault(heading_of(statement.section, notebook), []).append(statement)
    return boxes
