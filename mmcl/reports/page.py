"""Executed notebooks as single HTML files that need no network: formulas as MathML, figures embedded."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

import nbformat
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from nbconvert.filters import Highlight2HTML, strip_ansi

from mmcl.notebook.claims import CLAIM_MIME, LEDGER_MIME, NUMBER_MIME, Claim, claims_of, ledger_html
from mmcl.reports.formulas import Renderer, markdown
from mmcl.reports.offline import checked
from mmcl.reports.parameters import changed, command_for, parameters_of, spelled
from mmcl.reports.places import heading_of
from mmcl.reports.statements import Statement

_templates = Environment(loader=PackageLoader("mmcl.reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _inline(text: str) -> Markup:
    """One line of Markdown, with typeset formulas."""
    return markdown(text, inline=True)


_templates.filters["inline"] = _inline
_templates.globals["ledger"] = lambda page, claims: Markup(ledger_html(claims, _inline, page))


def _output(output) -> Markup:
    """One output of a code cell."""
    if output.output_type == "stream":
        shown = Markup('<pre class="{}">{}</pre>').format(output.name, output.text)
        return shown if output.text.strip() else Markup()
    if output.output_type == "error" and output.ename == "ClaimFailed":
        return Markup('<pre class="error">Do not hold:\n{}</pre>').format(output.evalue)
    if output.output_type == "error":
        trace = strip_ansi("\n".join(output.traceback))
        return Markup('<pre class="error" id="failed-cell">{}</pre>').format(trace)
    data = output.data
    if CLAIM_MIME in data:
        return Markup(Claim.from_json(data[CLAIM_MIME]).html(_inline))
    if NUMBER_MIME in data:
        number = data[NUMBER_MIME]
        return Markup("<p>{}: <strong>{}</strong></p>").format(
            _inline(number["statement"]), data["text/plain"].rpartition(": ")[2]
        )
    if LEDGER_MIME in data:
        return Markup('<p>The table of all claims is <a href="#ledger">at the top</a>.</p>')
    if "image/png" in data:
        alt = output.metadata.get("image/png", {}).get("alt", "")
        png = data["image/png"].strip()
        width = int.from_bytes(base64.b64decode(png[:32])[16:20], "big")  # of the header, in pixels
        figure = Markup('<figure{}><img alt="{}" src="data:image/png;base64,{}"></figure>')
        return figure.format(Markup(' class="wide" tabindex="0"') if width > 800 else "", alt, png)
    if "text/html" in data:
        return Markup(f'<div class="scroll">{data["text/html"]}</div>')
    if "text/markdown" in data or "text/latex" in data:
        return markdown(data.get("text/markdown") or data["text/latex"])
    return Markup("<pre>{}</pre>").format(data.get("text/plain", ""))


def figures(notebook) -> list:
    """The outputs of an executed notebook that hold a figure, in order."""
    outputs = (o for c in notebook.cells for o in c.get("outputs", []))
    return [o for o in outputs if "image/png" in o.get("data", {})]


def _summary(notebook, name: str) -> dict:
    """Title, first paragraph, claims, first figure and problem of a notebook."""
    text = next((c.source for c in notebook.cells if c.cell_type == "markdown"), "")
    title = re.search(r"^# +(.*)$", text, re.M)
    blocks = [b for b in re.split(r"\n\s*\n|^#.*$", text, flags=re.M) if b and b.strip()]
    return {
        "name": name,
        "title": title[1] if title else name,
        "first": markdown(blocks[0].strip()) if blocks else "",
        "claims": claims_of(notebook),
        "figure": Markup().join(map(_output, figures(notebook)[:1])),
        "problem": notebook.metadata.get("mmcl", {}).get("problem", ""),
    }


def _cells(notebook, renderer: Renderer, boxes: dict[str, list[Statement]]) -> list[dict]:
    """What the template shows of each cell: ``html`` of a text, or ``code``, ``lines`` and ``outputs``."""
    highlight, titled = Highlight2HTML(pygments_lexer="ipython3"), False
    cells: list[dict] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            source = cell.source if titled else re.sub(r"^# +.*$", "", cell.source, count=1, flags=re.M)
            titled = True
            renderer.attachments = cell.get("attachments", {})
            cells += [{"html": html} for html in _with_boxes(source, renderer, boxes)]
        elif cell.cell_type == "code" and (cell.source.strip() or cell.outputs):
            cells.append({
                "code": Markup(highlight(cell.source)),
                "lines": cell.source.count("\n") + 1,
                "injected": "injected-parameters" in cell.metadata.get("tags", []),
                "outputs": [_output(o) for o in cell.outputs],
            })  # fmt: skip
    return cells


def _with_boxes(source: str, renderer: Renderer, boxes: dict[str, list[Statement]]) -> list[Markup]:
    """A cell of text in parts: up to a heading that argues statements, their boxes, and what follows."""
    parts, begin = [], 0
    for match in re.finditer(r"^###? +(.*\S)", source, re.M):
        if match[1] in boxes:
            parts.append(markdown(source[begin : match.end()], renderer))
            parts += [Markup(_templates.get_template("box.html.j2").render(s=s)) for s in boxes[match[1]]]
            begin = match.end()
    return [*parts, markdown(source[begin:], renderer)]


def _boxes(notebook, statements: Iterable[Statement]) -> dict[str, list[Statement]]:
    """Heading -> the statements that its section argues."""
    boxes: dict[str, list[Statement]] = {}
    for statement in statements:
        boxes.setdefault(heading_of(statement.section, notebook), []).append(statement)
    return boxes


def stopped(notebook) -> bool:
    """Whether a cell of an executed notebook raised; claims that do not hold, summed up at its end, are no stop."""
    outputs = (o for c in notebook.cells for o in c.get("outputs", []))
    return any(o.output_type == "error" and o.ename != "ClaimFailed" for o in outputs)


def report(notebook, name: str, statements: Iterable[Statement] = (), alone: bool = False) -> str:
    """An executed notebook as one HTML page.

    Args:
        notebook: as ``mmcl.reports.run`` leaves it, or its evidence of a failure (marked so at the top).
        name: used as title if the notebook has no heading of level 1.
        statements: those of the registry; each that the notebook argues has a box at the head of its section.
        alone: the page is sent without the other reports, so it does not link to them.

    Raises:
        RenderError: for a formula that cannot be typeset, a figure without alternative text, or anything
            that would be loaded from elsewhere.
    """
    renderer, about = Renderer(alone=alone), notebook.metadata.get("mmcl", {})
    boxes = _boxes(notebook, (s for s in statements if s.chapter == about.get("name", name)))
    allowed = parameters_of(notebook)
    values = notebook.metadata.get("papermill", {}).get("parameters", {})
    differ = changed(values, allowed)
    page = _templates.get_template("report.html.j2").render(
        **_summary(notebook, name),
        cells=_cells(notebook, renderer, boxes),
        contents=[entry for entry in renderer.contents if entry[0] in (2, 3)],
        changed=[(allowed[n], spelled(value), spelled(allowed[n].default)) for n, value in differ.items()],
        seed=spelled(values.get("seed", allowed["seed"].default)) if "seed" in allowed else "",
        command=command_for(about.get("source", name), differ),
        stopped=stopped(notebook),
        about=about,
        papermill=notebook.metadata.get("papermill", {}),
        alone=alone,
    )
    return checked(page)


def _section_figure(notebook, claim: str) -> Markup:
    """The first figure of the section in which a notebook makes a claim."""
    sections = [nbformat.v4.new_notebook()]
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, re.M):
            sections.append(nbformat.v4.new_notebook())
        sections[-1].cells.append(cell)
    found = [f for s in sections if claim in [c.id for c in claims_of(s)] for f in figures(s)]
    return _output(found[0]) if found else Markup()


def _argued(statement: Statement, notebook, page: str) -> dict:
    """A row of the index: a statement with the verdict of its claims in this run."""
    made = {c.id: c for c in claims_of(notebook)} if notebook else {}
    claims = [made[i] for i in statement.claims if i in made]
    status = statement.verdict
    if not all(c.holds for c in claims):
        status = "does not hold here"
    elif len(claims) < len(statement.claims):
        status = "not reached"
    figure = _section_figure(notebook, claims[0].id) if claims else Markup()
    where = f"{page}#claim-{claims[0].id}" if claims else page
    return {"statement": statement, "status": status, "claims": claims, "figure": figure, "link": where}


def index(notebooks: dict, profile: str, statements: Iterable[Statement] = ()) -> str:
    """The page that links the reports: the paper's argument as a map, notebook by notebook, and the ledger.

    Args:
        notebooks: name -> executed notebook, or None if it could not be run.
        profile: the profile of the parameter values they ran with.
        statements: those of the registry; each is shown with its status, numbers and figure of this run.
    """
    entries = []
    for name, notebook in notebooks.items():
        entry = {"name": name, "title": name, "problem": "was not run", "claims": []}
        entry |= _summary(notebook, name) if notebook else {}
        entry["page"] = name + (".failed.html" if entry["problem"] else ".html")
        rows = [_argued(s, notebook, entry["page"]) for s in statements if s.chapter == name]
        entries.append(entry | {"rows": rows})
    return checked(_templates.get_template("index.html.j2").render(entries=entries, profile=profile))


def sweep_page(notebook, swept: dict, fixed: dict, numbers: list, answers: list, command: str) -> str:
    """The page that compares the points of a sweep.

    Args:
        notebook: the notebook, without outputs.
        swept: name -> values; fixed: name -> value of the other parameters that the grid or profile gives.
        numbers: see ``mmcl.reports.compare.numbers``.
        answers: (answer, link to its page) of each point, see ``mmcl.reports.answer.answer``.
        command: what makes the page again.
    """
    points = []
    for found, link in answers:
        values = [spelled(found["parameters"][name]) for name in swept]
        label = ", ".join(f"{name}={value}" for name, value in zip(swept, values, strict=True))
        holds = sum(c["holds"] for c in found["claims"])
        points.append(
            found | {"values": values, "label": label, "link": link, "holds": holds, "claims": len(found["claims"])}
        )
    page = _templates.get_template("sweep.html.j2").render(
        title=_summary(notebook, "A notebook")["title"],
        swept={name: [spelled(v) for v in values] for name, values in swept.items()},
        fixed={name: spelled(value) for name, value in fixed.items()},
        meanings={name: p.meaning for name, p in parameters_of(notebook).items()},
        numbers=numbers,
        points=points,
        versions=next((p["versions"] for p in points if "versions" in p), {}),
        command=command,
    )
    return checked(page)
