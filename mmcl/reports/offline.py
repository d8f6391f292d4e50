"""The check that a page needs nothing but itself."""

from __future__ import annotations

from html.parser import HTMLParser

from mmcl.reports.formulas import RenderError
from mmcl.reports.safe import digest


class _OfflineCheck(HTMLParser):
    """Refuses whatever would load something from elsewhere, foreign scripts, and pictures without alternative text."""

    def __init__(self):
        super().__init__()
        self.policy, self.script = "", None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = attrs["content"]
        elif tag == "script" and not attrs:
            self.script = ""
        elif tag in ("script", "iframe", "object", "embed", "link", "base"):
            raise RenderError(f"the report would hold a <{tag}> element")
        for name in ("src", "srcset", "poster", "data", "background", "xlink:href", "style"):
            value = attrs.get(name) or ""
            if "//" in value if name == "style" else value and not value.startswith(("data:", "#")):
                raise RenderError(f"the report would load {value[:80]!r} in <{tag} {name}>")
        if tag == "img" and not (attrs.get("alt") or "").strip():
            raise RenderError("a figure has no alternative text; use show(fig, alt=...)")

    def handle_data(self, data):
        if self.script is not None:
            self.script += data

    def handle_endtag(self, tag):
        if tag == "script" and self.script is not None:
            if digest(self.script) not in self.policy:
                raise RenderError(f"the report would run a script that is not ours: {self.script[:80]!r}")
            self.script = None


def checked(html: str) -> str:
    """The page itself, or RenderError if it would load something, run something, or shows what cannot be read."""
    _OfflineCheck().feed(html)
    if "<mi>\\" in html:
        raise RenderError("a formula holds an unknown command: " + html.partition("<mi>\\")[2][:40])
    return html
