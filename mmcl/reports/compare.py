"""The page that compares the points of a sweep: each recorded number drawn against each swept parameter."""

from __future__ import annotations

import base64
import io
import math
from statistics import fmean
from typing import NamedTuple

import matplotlib.pyplot as plt

from mmcl.notebook import plots
from mmcl.notebook.claims import Claim
from mmcl.reports.parameters import spelled

STYLES = [{"color": style["color"], "linestyle": style["linestyle"]} for style in plots.STYLE["axes.prop_cycle"]]
GREY = {"color": "#777777", "linestyle": "-"}


class Number(NamedTuple):
    """A recorded number that is no claim, so that it neither holds nor fails."""

    id: str
    statement: str
    measured: float
    expected: None = None
    holds: None = None
    criterion: str = ""


def _axis(values: list) -> tuple[dict[str, float], bool]:
    """Where each value of a swept parameter lies on the x axis, and whether that is logarithmic."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        return {spelled(v): v for v in values}, min(values) > 0 and max(values) >= 20 * min(values)
    return {spelled(v): i for i, v in enumerate(values)}, False


def _series(rows: list[tuple[dict, Claim | Number]], parameter: str, swept: dict[str, list]) -> dict[str, list]:
    """Label -> (value of the parameter, claim), a series for each combination of the others; seeds are repetitions."""
    others = [name for name in swept if name not in (parameter, "seed")]
    series: dict[str, list] = {}
    for values, claim in rows:
        label = ", ".join(f"{name} = {spelled(values[name])}" for name in others)
        series.setdefault(label, []).append((spelled(values[parameter]), claim))
    return series


def _draw(rows: list[tuple[dict, Claim | Number]], parameter: str, swept: dict[str, list]):
    """A number's measured values against a parameter: runs as dots, crosses where the claim fails, lines of means."""
    figure, (ax,) = plots.panels(width=4.4, height=3.1)
    at, log = _axis(swept[parameter])
    series = _series(rows, parameter, swept)
    styles = STYLES if len(series) <= len(STYLES) else [GREY] * len(series)
    for (label, points), style in zip(series.items(), styles, strict=False):
        style = style | ({"linestyle": ""} if parameter == "seed" else {})
        _line(ax, [(at[value], c) for value, c in points if math.isfinite(c.measured)], style, label)
    _expected(ax, [c for _, c in rows])
    if log:
        ax.set_xscale("log")
    if log or len(at) <= 6:
        ax.set_xticks(list(at.values()), list(at))
        ax.set_xticks([], minor=True)
    ax.set(xlabel=parameter.replace("_", " "), ylabel="measured")
    if 1 < len(series) <= len(STYLES):
        columns = 2 if max(map(len, series)) < 22 else 1
        figure.legend(loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
    return figure


def _line(ax, points: list[tuple[float, Claim | Number]], style: dict, label: str) -> None:
    """One series: runs as dots, as crosses where the claim fails, and a line through the means."""
    means = {x: fmean(c.measured for other, c in points if other == x) for x in sorted({x for x, _ in points})}
    ax.plot(list(means), list(means.values()), linewidth=1.6, marker="", **style)
    for fails, marker, size, edge in ((False, "o", 5, 1), (True, "x", 8, 2)):
        chosen = [(x, c.measured) for x, c in points if (c.holds is False) == fails]
        dots = style | {"marker": marker, "markersize": size, "markeredgewidth": edge, "linestyle": "", "zorder": 3}
        ax.plot([x for x, _ in chosen], [y for _, y in chosen], **dots)
    ax.plot([], [], label=label or None, marker="o", markersize=5, **style)


def _expected(ax, made: list[Claim | Number]) -> None:
    """A dashed line at the expected value and a band of its tolerance, if they are the same at all points."""
    claims = [c for c in made if isinstance(c, Claim)]
    if len({c.expected for c in claims}) != 1:
        return
    ax.axhline(claims[0].expected, color="#666666", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    below, above = min(c.below for c in claims), min(c.above for c in claims)
    if max(below, above) < math.inf and below + above > 0:
        ax.axhspan(claims[0].expected - below, claims[0].expected + above, color="#666666", alpha=0.1, linewidth=0)


def _png(figure) -> str:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)
    return base64.b64encode(png.getvalue()).decode()


def numbers(answers: list[dict], swept: dict[str, list]) -> list[dict]:
    """What the page shows of each number: id, statement, how often it holds, a figure for each parameter.

    They stand in the order in which the chapter makes them, the claims before the numbers that are only recorded.
    """
    rows: dict[str, list] = {}
    for found in answers:
        for claim in map(Claim.from_json, found["claims"]):
            rows.setdefault(claim.id, []).append((found["parameters"], claim))
    for found in answers:
        for data in found["numbers"]:
            number = Number(data["id"], data["statement"], float(data["measured"]))
            rows.setdefault(number.id, []).append((found["parameters"], number))
    return [_number(made, swept) for made in rows.values()]


def _number(made: list[tuple[dict, Claim | Number]], swept: dict[str, list]) -> dict:
    """What the page shows of one recorded number."""
    first, holds = made[0][1], sum(c.holds is True for _, c in made)
    checked = first.holds is not None
    criteria = {c.criterion for _, c in made}
    low, high = (f(c.measured for _, c in made) for f in (min, max))
    seen = f"measured from {low:.3g} to {high:.3g}" + (f", holds at {holds} of {len(made)} points." if checked else ".")
    return {
        "id": first.id,
        "statement": first.statement,
        "criterion": first.criterion if len(criteria) == 1 else "differs from point to point",
        "checked": checked,
        "holds": holds,
        "points": len(made),
        "figures": [(n, _png(_draw(made, n, swept)), f"[{first.id}] against {n}: {seen}") for n in swept],
    }
