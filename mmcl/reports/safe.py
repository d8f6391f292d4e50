"""Pages that run nothing but our own scripts and load nothing: foreign HTML is cleaned, a policy tells the browser."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

import nh3

TAGS = set(
    "a abbr article aside b blockquote br caption cite code col colgroup dd del details dfn div dl dt em figcaption "
    "figure h1 h2 h3 h4 h5 h6 hr i img kbd li mark ol p pre q s section small span strong sub summary sup "
    "table tbody td tfoot th thead tr u ul var "
    "math maction menclose mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow ms mspace msqrt "
    "mstyle msub msubsup msup mtable mtd mtext mtr munder munderover none "
    "svg circle clipPath defs desc ellipse g line marker path polygon polyline rect text title tspan".split()
)
DRAWN = (
    "d x y x1 x2 y1 y2 cx cy r rx ry dx dy points transform viewBox fill stroke stroke-width stroke-dasharray "
    "stroke-linecap stroke-linejoin fill-opacity stroke-opacity opacity text-anchor font-size font-weight clip-path "
    "marker-end marker-start marker-mid markerWidth markerHeight refX refY orient preserveAspectRatio "
    "dominant-baseline"
)
FORMULAS = (
    "display mathvariant stretchy fence separator form accent accentunder displaystyle scriptlevel lspace rspace "
    "minsize maxsize linethickness columnalign columnspacing rowspacing notation largeop movablelimits"
)
ATTRIBUTES = {
    "*": {"id", "class", "title", "lang", "dir", "role", "tabindex", "style", "width", "height"}
    | set(FORMULAS.split()) | set(DRAWN.split()),
    "a": {"href"}, "img": {"src", "alt"}, "details": {"open"}, "ol": {"start"},
    "th": {"scope", "colspan", "rowspan"}, "td": {"colspan", "rowspan"}, "col": {"span"},
}  # fmt: skip
STYLES = {"text-align", "vertical-align", "white-space", "width", "min-width", "max-width", "font-weight", "font-style"}
LOADS = re.compile(r"url|image|src\(|import|expression|\\", re.I)  # in a style, or what paints a shape


def _attribute(tag: str, name: str, value: str) -> str | None:
    """The value of an allowed attribute, or None if it would lead to more than it says."""
    if name in ("href", "src"):
        shown = tag == "img" and value.startswith("data:image/")
        return value if shown or not value.lower().lstrip().startswith("data:") else None
    if name == "style" or name in DRAWN.split():
        within = re.fullmatch(r"url\(#[\w-]+\)", value) and name != "style"
        return None if LOADS.search(value) and not within else value
    return value


_cleaner = nh3.Cleaner(
    tags=TAGS,
    attributes=ATTRIBUTES,
    attribute_filter=_attribute,
    generic_attribute_prefixes={"aria-"},
    clean_content_tags={"script", "style"},
    url_schemes={"http", "https", "mailto", "data"},
    filter_style_properties=STYLES,
    link_rel=None,
)


def clean(html: str) -> str:
    """HTML of a notebook with nothing left that runs, loads or asks: formulas, drawings and folded answers pass.

    Example:
        >>> clean('<p onclick="alert(1)">a <a href="javascript:alert(1)">b</a><script>c</script></p>')
        '<p>a <a>b</a></p>'
    """
    return _cleaner.clean(html)


def digest(script: str) -> str:
    """How a policy names a script.

    Example:
        >>> digest("")
        "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def policy(scripts: Iterable[str]) -> str:
    """The Content-Security-Policy of a page: pictures and styles of its own, these scripts, and no host at all."""
    allowed = " ".join(map(digest, scripts)) or "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
