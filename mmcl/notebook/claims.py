"""What a notebook calls to state, show and sum up its findings: ``claim``, ``record``, ``show`` and ``ledger``."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from html import escape

from IPython.display import display

from mmcl.notebook.figures import show as show  # chapters take it from here

CLAIM_MIME = "application/vnd.mmcl.claim+json"
NUMBER_MIME = "application/vnd.mmcl.number+json"
LEDGER_MIME = "application/vnd.mmcl.ledger+json"
COLUMNS = ("id", "statement", "measured", "expected", "tolerance", "holds")


class ClaimFailed(AssertionError):
    """Raised by ``ledger`` when a claim does not hold."""


def _number(value: float, resolution: float = 0.0) -> str:
    """Three significant digits, or as many as it takes to see differences of size ``resolution``."""
    if not math.isfinite(value) or value == 0:
        return f"{abs(value) if value == 0 else value:g}"
    magnitude = math.log10(abs(value))
    digits = max(3, math.floor(magnitude) + 1 if magnitude < 6 else 0)
    if 0 < resolution < abs(value):
        digits = max(digits, min(12, 2 + math.ceil(magnitude - math.log10(resolution))))
    return re.sub(r"e\+?(-?)0*(\d)", r"e\1\2", f"{value:.{digits}g}")


def _escaped(text: str) -> str:
    return escape(text, quote=False)


@dataclass(frozen=True)
class Claim:
    """One checked statement: it holds when expected - below <= measured <= expected + above."""

    id: str
    statement: str
    measured: float
    expected: float
    below: float
    above: float

    @property
    def holds(self) -> bool:
        return math.isfinite(self.measured) and -self.below <= self.measured - self.expected <= self.above

    @property
    def row(self) -> tuple[str, str, str, str, str, str]:
        """The texts of the ledger's ``COLUMNS``."""
        finite = [t for t in (self.below, self.above) if 0 < t < math.inf]
        expected = _number(self.expected, min(finite, default=0.0))
        below, above = (_number(t) if t else "" for t in (self.below, self.above))
        if self.below == self.above:
            tolerance = f"± {below or '0'}"
        elif math.inf in (self.below, self.above):
            at_least = self.above == math.inf
            expected = f"{'≥' if at_least else '≤'} {expected}"
            tolerance = (below and f"− {below}") if at_least else (above and f"+ {above}")
        else:
            tolerance = f"− {below or '0'} + {above or '0'}"
        measured = _number(self.measured, min(finite, default=0.0))
        return self.id, self.statement, measured, expected, tolerance, "yes" if self.holds else "NO"

    @property
    def verdict(self) -> str:
        return "✓ holds" if self.holds else "✗ does not hold"

    @property
    def criterion(self) -> str:
        """Expected value and tolerance in one text, as ``0 ± 1e-12`` or ``≥ 0.5``."""
        return " ".join(self.row[3:5]).strip()

    def __str__(self) -> str:
        numbers = f"measured {self.row[2]}, expected {self.criterion}"
        return f"{self.verdict} [{self.id}] {self.statement}: {numbers}"

    def html(self, inline: Callable[[str], str] = _escaped) -> str:
        """The claim as a paragraph, for a notebook and for its page; ``inline`` makes HTML of the statement."""
        return (
            f'<p class="claim {"holds" if self.holds else "fails"}" id="claim-{escape(self.id)}">'
            f'<strong class="verdict">{self.verdict}</strong> [{escape(self.id)}] {inline(self.statement)}: '
            f'<span class="number-shown">measured <strong>{self.row[2]}</strong>,</span> '
            f'<span class="number-shown">expected {self.criterion}</span></p>'
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        data = {k: v if isinstance(v, str) or math.isfinite(v) else str(v) for k, v in asdict(self).items()}
        return {"text/plain": str(self), "text/html": self.html(), CLAIM_MIME: data}

    @classmethod
    def from_json(cls, data: dict) -> Claim:
        """The claim stored in a notebook's output."""
        numbers = (float(data[k]) for k in ("measured", "expected", "below", "above"))
        return cls(data["id"], data["statement"], *numbers)


def ledger_html(claims: Iterable[Claim], inline: Callable[[str], str] = _escaped, page: str | None = None) -> str:
    """The ledger as a table, for a notebook and, with links to the claims on ``page``, for its page and the index."""
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    rows = []
    for claim in claims:
        _, _, *rest, verdict = claim.row
        id = escape(claim.id)
        link = id if page is None else f'<a href="{escape(page)}#claim-{id}">{id}</a>'
        cells = "".join(f"<td>{text}</td>" for text in (link, inline(claim.statement), *rest))
        kind = "holds" if claim.holds else "fails"
        rows.append(f'<tr class="{kind}">{cells}<td class="verdict">{verdict}</td></tr>')
    return f'<table class="ledger"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


class _Ledger(list):
    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/plain": table(self), "text/html": ledger_html(self), LEDGER_MIME: [claim.id for claim in self]}


_claims: dict[str, Claim] = {}


def claim(id: str, statement: str, measured, expected, tolerance) -> None:
    """Check a statement by a number, show the verdict, and keep it for the ledger.

    Args:
        id: a word, as "thm-3.1.rate-in-n", unique in all notebooks; running a cell again replaces its claim.
        statement: what is claimed, in words; may hold $...$ formulas.
        measured, expected: one number each (float, or a tensor or array with one element).
        tolerance: t for |measured - expected| <= t, or (below, above) for
            -below <= measured - expected <= above; one of the two may be infinite, so that
            ``expected=0.5, tolerance=(0, inf)`` claims "at least 0.5".

    A measured value that is NaN or infinite never holds.

    Raises:
        ValueError: if the id is no word, a value is not one number, expected is not finite, or a tolerance is
            negative, NaN, or infinite on both sides.
    """
    _check_id(id)
    below, above = tolerance if isinstance(tolerance, tuple | list) else (tolerance, tolerance)
    numbers = {"measured": measured, "expected": expected, "tolerance below": below, "tolerance above": above}
    for name, value in numbers.items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"claim {id}: {name} must be one number, got {value!r}") from None
    made = Claim(id, statement, *numbers.values())
    if not math.isfinite(made.expected):
        raise ValueError(f"claim {id}: expected must be finite, got {made.expected}")
    if not (made.below >= 0 and made.above >= 0 and min(made.below, made.above) < math.inf):
        raise ValueError(f"claim {id}: tolerance must be >= 0, finite on one side at least; got {tolerance}")
    _claims[made.id] = made
    display(made)


def _check_id(id: str) -> None:
    if not (isinstance(id, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*", id)):
        raise ValueError(f"id {id!r} must be a word of letters, digits, points, hyphens, as 'thm-3.1.rate-in-n'")


def ledger() -> None:
    """Show the table of all claims made so far; the last cell of every notebook.

    Raises:
        ClaimFailed: naming the claims that do not hold.
    """
    display(_Ledger(_claims.values()))
    failed = [str(c) for c in _claims.values() if not c.holds]
    if failed:
        raise ClaimFailed("\n".join(failed))


def record(id: str, statement: str, value) -> None:
    """Show a number that a sweep compares beside the claims, and that is not right or wrong by itself.

    Args:
        id: a word, as "mmcl_error"; unique in the notebook.
        statement: what was measured, in words; may hold $...$ formulas.
        value: one number (float, or a tensor or array with one element).

    Raises:
        ValueError: if the id is no word.
    """
    _check_id(id)
    measured = float(value)
    html = f"<p>[{id}] {_escaped(statement)}: <strong>{_number(measured)}</strong></p>"
    data = {"id": id, "statement": statement, "measured": measured if math.isfinite(measured) else str(measured)}
    plain = f"[{id}] {statement}: {_number(measured)}"
    display({"text/plain": plain, "text/html": html, NUMBER_MIME: data}, raw=True)


def claims_of(notebook) -> list[Claim]:
    """The claims shown in an executed notebook, in order.

    Raises:
        ValueError: if two outputs share a claim id, since the later would hide the earlier.
    """
    claims: dict[str, Claim] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if data := output.get("data", {}).get(CLAIM_MIME):
                if data["id"] in claims:
                    raise ValueError(f"claim id {data['id']} is used twice; give each claim its own")
                claims[data["id"]] = Claim.from_json(data)
    return list(claims.values())


def numbers_of(notebook) -> dict[str, dict]:
    """The numbers recorded in an executed notebook: id -> ``id``, ``statement``, ``measured``."""
    outputs = (o.get("data", {}).get(NUMBER_MIME) for c in notebook.cells for o in c.get("outputs", []))
    return {number["id"]: dict(number) for number in outputs if number}


def table(claims: Iterable[Claim], width: int = 56) -> str:
    """The ledger as aligned text; statements are wrapped to ``width`` columns."""
    rows = [COLUMNS]
    for c in claims:
        first, *rest = textwrap.wrap(c.statement, width) or [""]
        rows += [(c.id, first, *c.row[2:]), *(("", line, "", "", "", "") for line in rest)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
