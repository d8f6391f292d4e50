"""Executed notebooks as single HTML files that need no network: formulas as MathML, figures embedded."""

from __future__ import annotations

import re
import unicodedata
from html import unescape
from html.parser import HTMLParser

from jinja2 import Environment, PackageLoader
from latex2mathml.converter import convert
from markupsafe import Markup
from nbconvert.filters import Highlight2HTML, strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from mmcl.report import CLAIM_MIME, COLUMNS, LEDGER_MIME, Claim, claims_of
from mmcl.run import parameters_of

_templates = Environment(loader=PackageLoader("mmcl"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_templates.globals["columns"] = COLUMNS


class RenderError(ValueError):
    """A notebook cannot become an offline report; the message names the formula or the element."""


def _letter(match: re.Match) -> str:
    """A letter of a mathematical alphabet as its Unicode character, since browsers ignore mathvariant."""
    tag, style, letter = match[1], match[2].upper().replace("BOLD-", "BOLD "), unescape(match[3])
    name = re.sub("(LATIN|GREEK|LETTER) ", "", unicodedata.name(letter))
    for alphabet in (f"MATHEMATICAL {style} {name}", f"{style} {name}"):
        try:
            return f"<{tag}>{unicodedata.lookup(alphabet)}</{tag}>"
        except KeyError:
            continue
    return match[0]


def mathml(latex: str, display: str = "inline") -> str:
    """A LaTeX formula as MathML.

    Raises:
        RenderError: naming the formula, if it cannot be converted as a whole.
    """
    try:
        html = convert(re.sub(r"\{aligned\}", "{align*}", latex.strip()), display=display)
    except Exception as error:  # the converter raises many kinds, StopIteration among them
        raise RenderError(f"cannot typeset the formula {latex.strip()!r}: {error!r}") from error
    html = html.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    html = re.sub(r'<(m[in]) mathvariant="([a-z-]+)">(\w|&#x\w+;)</m[in]>', _letter, html)
    html = re.sub(r"<mo>(&#x0(?:2016|007C|27E8|27E9);|[|‖⟨⟩])</mo>", r'<mo stretchy="false">\1</mo>', html)
    braces = re.sub(r"\\[\\{}]", "", latex)
    unknown = re.search(r"<m[io]>(\\\w*|&|\{|\})</m[io]>", html)
    if unknown or 'linebreak="newline"' in html or braces.count("{") != braces.count("}"):
        what = f": {unknown[1]} is not known here" if unknown else ": check its braces and line breaks"
        raise RenderError(f"cannot typeset the formula {latex.strip()!r}{what}")
    return html


class _Renderer(IPythonRenderer):
    """Markdown to HTML with typeset formulas; collects the headings for the table of contents."""

    def __init__(self, attachments=None):
        super().__init__(escape=False, embed_images=True, path="notebooks", attachments=attachments)
        self.contents: list[tuple[int, str, Markup]] = []

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return f'<span class="display">{mathml(body, "block")}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def heading(self, text: str, level: int, **attrs) -> str:
        plain = re.sub(r"<math.*?</math>|<[^>]*>", "", text)
        anchor = re.sub(r"[^\w]+", "-", plain.lower()).strip("-") or "section"
        anchor += f"-{len(self.contents)}" if anchor in [a for _, a, _ in self.contents] else ""
        self.contents.append((level, anchor, Markup(text)))
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, re.sub(r"^(\w+)\.ipynb", r"\1.html", url), title)


def _markdown(source: str, renderer: _Renderer | None = None, inline: bool = False) -> Markup:
    html = MarkdownWithMath(renderer or _Renderer()).render(source)
    if inline:
        html = re.sub(r"</?p>", "", html).strip()
    html = html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    return Markup(html)


_templates.filters["inline"] = lambda text: _markdown(text, inline=True)


def _output(output) -> Markup:
    """One output of a code cell."""
    if output.output_type == "stream":
        shown = Markup('<pre class="{}">{}</pre>').format(output.name, output.text)
        return shown if output.text.strip() else Markup()
    if output.output_type == "error":
        trace = strip_ansi("\n".join(output.traceback))
        return Markup('<pre class="error" id="failed-cell">{}</pre>').format(trace)
    data = output.data
    if CLAIM_MIME in data:
        claim = Claim.from_json(data[CLAIM_MIME])
        return Markup(_templates.get_template("claim.html.j2").render(claim=claim))
    if LEDGER_MIME in data:
        return Markup('<p>The table of all claims is <a href="#ledger">at the top</a>.</p>')
    if "image/png" in data:
        alt = output.metadata.get("image/png", {}).get("alt", "")
        figure = Markup('<figure><img alt="{}" src="data:image/png;base64,{}"></figure>')
        return figure.format(alt, data["image/png"].strip())
    if "text/html" in data:
        return Markup(f'<div class="scroll">{data["text/html"]}</div>')
    if "text/markdown" in data or "text/latex" in data:
        return _markdown(data.get("text/markdown") or data["text/latex"])
    return Markup("<pre>{}</pre>").format(data.get("text/plain", ""))


class _OfflineCheck(HTMLParser):
    """Refuses whatever would load something from elsewhere, and pictures without alternative text."""

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in ("script", "iframe", "object", "embed", "link", "base"):
            raise RenderError(f"the report would hold a <{tag}> element")
        for name in ("src", "srcset", "poster", "data", "background", "xlink:href", "style"):
            value = attrs.get(name) or ""
            if "//" in value if name == "style" else value and not value.startswith(("data:", "#")):
                raise RenderError(f"the report would load {value[:80]!r} in <{tag} {name}>")
        if tag == "img" and not (attrs.get("alt") or "").strip():
            raise RenderError("a figure has no alternative text; use show(fig, alt=...)")


def _checked(html: str) -> str:
    _OfflineCheck().feed(html)
    if "<mi>\\" in html:
        raise RenderError("a formula holds an unknown command: " + html.partition("<mi>\\")[2][:40])
    return html


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
        "first": _markdown(blocks[0].strip()) if blocks else "",
        "claims": claims_of(notebook),
        "figure": "".join(map(_output, figures(notebook)[:1])),
        "problem": notebook.metadata.get("mmcl", {}).get("problem", ""),
    }


def report(notebook, name: str) -> str:
    """An executed notebook as one HTML page.

    Args:
        notebook: as ``mmcl.run.run`` leaves it, or its evidence of a failure (marked so at the top).
        name: used as title if the notebook has no heading of level 1.

    Raises:
        RenderError: for a formula that cannot be typeset, a figure without alternative text, or anything
            that would be loaded from elsewhere.
    """
    renderer, highlight = _Renderer(), Highlight2HTML(pygments_lexer="ipython3")
    summary = _summary(notebook, name)
    titled = False
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            source = cell.source if titled else re.sub(r"^# +.*$", "", cell.source, count=1, flags=re.M)
            titled = True
            renderer.attachments = cell.get("attachments", {})
            cells.append({"html": _markdown(source, renderer)})
        elif cell.cell_type == "code" and (cell.source.strip() or cell.outputs):
            cells.append({
                "code": Markup(highlight(cell.source)),
                "lines": cell.source.count("\n") + 1,
                "open": "injected-parameters" in cell.metadata.get("tags", []),
                "outputs": [_output(o) for o in cell.outputs],
            })  # fmt: skip
    defaults = {p.name: p.default for p in parameters_of(notebook).values()}
    values = notebook.metadata.get("papermill", {}).get("parameters", {})
    page = _templates.get_template("report.html.j2").render(
        **summary,
        cells=cells,
        contents=[entry for entry in renderer.contents if entry[0] in (2, 3)],
        changed={k: (v, defaults.get(k)) for k, v in values.items() if v != defaults.get(k)},
        stopped=any(o.output_type == "error" for c in notebook.cells for o in c.get("outputs", [])),
        about=notebook.metadata.get("mmcl", {}),
        papermill=notebook.metadata.get("papermill", {}),
    )
    return _checked(page)


def index(notebooks: dict, profile: str) -> str:
    """The page that links the reports: title, first paragraph, figure and claims of each, and the ledger.

    Args:
        notebooks: name -> executed notebook, or None if it could not be run.
        profile: the profile of the parameter values they ran with.
    """
    entries = [
        _summary(nb, name) if nb else {"name": name, "title": name, "problem": "was not run", "claims": []}
        for name, nb in notebooks.items()
    ]
    return _checked(_templates.get_template("index.html.j2").render(entries=entries, profile=profile))
