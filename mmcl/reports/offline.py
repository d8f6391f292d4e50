"""The check that a page needs nothing but itself."""

from __future__ import annotations

from html.parser import HTMLParser

from mmcl.reports.formulas import RenderError


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


def checked(html: str) -> str:
    """The page itself, or RenderError if it would load something, or shows what cannot be read."""
    _OfflineCheck().feed(html)
    if "<mi>\\" in html:
        raise RenderError("a formula holds an unknown command: " + html.partition("<mi>\\")[2][:40])
    return html
