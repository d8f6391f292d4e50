"""A question to a notebook, answered: a run with other parameters, one HTML file to send on, numbers for machines."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat

from mmcl._files import own_folder, write_whole
from mmcl.notebook.claims import CLAIM_MIME, Claim, claims_of, numbers_of
from mmcl.reports import page, statements
from mmcl.reports.parameters import changed, command_for, parameters_of, slug
from mmcl.reports.reading import UsageError, read_json, read_text
from mmcl.reports.run import execute
from mmcl.reports.statements import Statement

NUMBERS = ("id", "statement", "measured", "expected", "below", "above", "holds")


SHAPE = {"parameters": dict, "changed": dict, "problem": str, "stopped": bool, "seconds": int | float}


def answer(notebook) -> dict:
    """What an executed notebook found, for ``claims.json``: parameters, claims, problem, versions, seconds, command."""
    allowed, about, timing = parameters_of(notebook), notebook.metadata.mmcl, notebook.metadata.papermill
    given = dict(timing.get("parameters", {}))
    differ = changed(given, allowed)
    claims = claims_of(notebook) if "claim id" not in about.problem else []
    return {
        "notebook": about.name,
        "parameters": {name: given.get(name, p.default) for name, p in allowed.items()},
        "changed": differ,
        "problem": about.problem,
        "stopped": page.stopped(notebook),
        "seconds": round(timing.get("duration") or 0, 2),
        "date": (timing.get("start_time") or "")[:10],
        "versions": about.versions,
        "machine": about.machine,
        "command": command_for(about.source, differ),
        "claims": [c._repr_mimebundle_()[CLAIM_MIME] | {"holds": c.holds} for c in claims],
        "numbers": list(numbers_of(notebook).values()),
    }


def read(folder: Path) -> dict | None:
    """The ``answer`` that lies in a folder as ``claims.json``, or None if none does or it is not whole."""
    found: Any = read_json(folder / "claims.json")
    try:
        whole = all(isinstance(found[name], kind) for name, kind in SHAPE.items())
        for data in found["claims"]:
            Claim.from_json(data)
        for data in found["numbers"]:
            str(data["id"]), str(data["statement"]), float(data["measured"])
    except (LookupError, TypeError, ValueError):
        return None
    return found if whole else None


def tidy(answers, names) -> str:
    """Claims and numbers of several answers as CSV, a line each: the parameters ``names``, the number, the seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *NUMBERS, "seconds"])
    for found in answers:
        values = [found["parameters"].get(n) for n in names]
        values = [json.dumps(v) if isinstance(v, list | bool) else v for v in values]
        for made in (*found["claims"], *found["numbers"]):
            made = made | {"holds": str(made.get("holds", "")).lower()}
            writer.writerow([*values, *(made.get(n, "") for n in NUMBERS), found["seconds"]])
    return text.getvalue()


def pages(notebook, stem: str, found: dict, argued: Iterable[Statement] = ()) -> dict[str, str]:
    """The files of a report, by name: the page, the executed notebook, ``claims.json`` and ``results.csv``.

    Args:
        notebook, found: as executed, and its ``answer``.
        stem: the name of the page, without ``.html``.
        argued: the statements of the registry.
    """
    return {
        f"{stem}.html": page.report(notebook, stem, argued, alone=True),
        f"{stem}.ipynb": nbformat.writes(notebook),
        "claims.json": json.dumps(found, indent=1, ensure_ascii=False) + "\n",
        "results.csv": tidy([found], list(found["parameters"])),
    }


def writable(folder: Path) -> None:
    """Make a folder, or raise UsageError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write into {folder} ({error.strerror}); choose another folder with -o") from None


def write_folder(folder: Path, files: dict[str, str]) -> None:
    """Write files into a folder that is complete from the moment it is there; one of that name is replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with own_folder(folder.parent, f".{folder.name[:40]}.", ".part") as place:
        for name, text in files.items():
            write_whole(place / "made" / name, text)
        if folder.exists():
            folder.replace(place / "old")
        (place / "made").replace(folder)


def report(source: Path, values: dict[str, object], parent: Path) -> tuple[Path, dict]:
    """Run a notebook with these parameter values and write its report into a folder of its own below ``parent``.

    Args:
        source: notebooks/NN_name.py.
        values: see ``mmcl.reports.parameters.choose_parameters``.
        parent: the report lies in ``parent``/NN_name-slug, where the slug spells what differs from the defaults.

    Returns:
        The path of the HTML page, which is there whether or not the claims hold, and the ``answer``.
    """
    writable(parent)
    notebook = execute(read_text(source), source, values)
    found = answer(notebook)
    stem = f"{source.stem}-{slug(found['changed'])}"
    write_folder(parent / stem, pages(notebook, stem, found, statements.beside(source)))
    return parent / stem / f"{stem}.html", found
