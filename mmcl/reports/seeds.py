"""How often each claim holds: chapters run with fresh seeds, and the exact interval of every claim's share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from scipy.stats import binomtest

from mmcl._files import write_whole
from mmcl.reports.sweep import sweep

FIRST = 1001  # fresh: no chapter's default, no test


class Held(NamedTuple):
    """A claim, at how many of how many seeds it held, and the exact 95 % interval of its share (Clopper, Pearson)."""

    id: str
    holds: int
    seeds: int
    low: float
    high: float


def held(answers: list[dict]) -> list[Held]:
    """Every claim of the points of a sweep over seeds, in order; a point that lacks a claim counts against it.

    Args:
        answers: what `mmcl.reports.sweep.sweep` returns.

    Example:
        >>> held([{"claims": [{"id": "a", "holds": h}]} for h in (True, True, False)])[0][:3]
        ('a', 2, 3)
    """
    ids = dict.fromkeys(claim["id"] for found in answers for claim in found["claims"])
    true = [{claim["id"] for claim in found["claims"] if claim["holds"]} for found in answers]
    counts = {name: sum(name in one for one in true) for name in ids}
    intervals = {name: binomtest(count, len(answers)).proportion_ci() for name, count in counts.items()}
    return [Held(name, counts[name], len(answers), ci.low, ci.high) for name, ci in intervals.items()]


def table(rows: list[Held]) -> str:
    """The claims that failed somewhere, the worst first, each with its interval; then how many never did."""
    failed = sorted((row for row in rows if row.holds < row.seeds), key=lambda row: row.holds / row.seeds)
    width = max((len(row.id) for row in failed), default=0)
    lines = [f"{r.id.ljust(width)}  {r.holds} of {r.seeds}  [{r.low:.3f}, {r.high:.3f}]" for r in failed]
    always = [row for row in rows if row.holds == row.seeds]
    least = f", so each at more than {min(row.low for row in always):.3f} of all" if always else ""
    return "\n".join([*lines, f"{len(always)} of {len(rows)} claims hold at every seed{least}"])


def seeds(source: Path, number: int, parent: Path, profile: str = "smoke", jobs: int = 1) -> list[Held]:
    """Run a chapter with ``number`` fresh seeds, by a sweep that goes on where it was interrupted.

    Args:
        source: notebooks/NN_name.py, with a parameter ``seed``.
        number: seeds.
        parent: folder of the sweep.
        profile: sizes, of notebooks/profiles.yaml.
        jobs: processes.
    """
    grid = parent / f"{number}-seeds.yaml"
    write_whole(grid, f"seed: {list(range(FIRST, FIRST + number))}\n")
    return held(sweep(source, grid, parent, profile, jobs)[1])
