"""The notebooks' Markdown as HTML that needs no network: formulas become MathML."""

from __future__ import annotations

import re
import unicodedata
from html import unescape

from latex2mathml.converter import convert
from markupsafe import Markup
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from mmcl.reports.safe import clean


class RenderError(ValueError):
    """A notebook cannot become an offline report; the message names the formula or the element."""


_FUNCTIONS = "(?:log|ln|exp|sin|cos|tan|det|deg|dim|arg|ker|rank|diag|tr)"


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
    html = re.sub(rf"(<mi>{_FUNCTIONS}</mi>)(?=<m(?!o))", r'\1<mspace width="0.17em" />', html)
    html = re.sub(rf"(?<=</m[in]>)(?=<mi>{_FUNCTIONS}</mi>)", '<mspace width="0.17em" />', html)
    braces = re.sub(r"\\[\\{}]", "", latex)
    unknown = re.search(r"<m[io]>(\\\w*|&|\{|\})</m[io]>", html)
    if unknown or 'linebreak="newline"' in html or braces.count("{") != braces.count("}"):
        what = f": {unknown[1]} is not known here" if unknown else ": check its braces and line breaks"
        raise RenderError(f"cannot typeset the formula {latex.strip()!r}{what}")
    return html


class Renderer(IPythonRenderer):
    """Markdown to HTML with typeset formulas; collects the headings for the table of contents.

    Args:
        alone: the page travels without its neighbours, so that links to other notebooks become plain text.
    """

    def __init__(self, attachments=None, alone: bool = False):
        super().__init__(escape=False, embed_images=True, path="notebooks", attachments=attachments)
        self.contents: list[tuple[int, str, Markup]] = []
        self.alone = alone

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return f'<span class="display">{mathml(body, "block")}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def block_html(self, html: str) -> str:
        return super().block_html(html) if "<img" in html else html  # else the parser closes an open <details>

    def heading(self, text: str, level: int, **attrs) -> str:
        plain = re.sub(r"<math.*?</math>|<[^>]*>", "", text)
        anchor = re.sub(r"[^\w]+", "-", plain.lower()).strip("-") or "section"
        anchor += f"-{len(self.contents)}" if anchor in [a for _, a, _ in self.contents] else ""
        self.contents.append((level, anchor, Markup(text)))
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if self.alone and re.match(r"\w+\.ipynb", url):
            return text
        return super().link(text, re.sub(r"^(\w+)\.ipynb", r"\1.html", url), title)


def markdown(source: str, renderer: Renderer | None = None, inline: bool = False) -> Markup:
    """Markdown as HTML that runs nothing; ``inline`` without paragraphs, ``renderer`` collects the headings."""
    html = clean(MarkdownWithMath(renderer or Renderer()).render(source))
    if inline:
        html = re.sub(r"</?p>", "", html).strip()
    html = html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    return Markup(html)
