"""The command ``mmcl audit``: a user's files to a chapter as parameters, and its page and tables into a folder."""

from __future__ import annotations

import shlex
from pathlib import Path

from mmcl._files import write_whole
from mmcl.notebook.files import files_of
from mmcl.reports import answer, page
from mmcl.reports.parameters import CHAPTERS, UsageError, choose_parameters, find_notebook
from mmcl.reports.run import execute

CHAPTER = "16_your_pairs"
PAGE = "report.html"


def parameters(sub) -> None:
    """The arguments of the command, for its parser."""
    optional = "optionally ids, labels, x_test, y_test, x_unpaired, y_unpaired and their _ids"
    sub.add_argument(
        "features", type=Path, metavar="FILE", help=f".npz with x, y, {optional}; or x, .npy, .csv, .parquet"
    )
    sub.add_argument("features_y", type=Path, metavar="FILE_Y", nargs="?", help="y, if FILE is x alone")
    some = "n_components, fdr, permutations, seed"
    sub.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help=f"a parameter: {some}")
    sub.add_argument("-o", type=Path, default=Path("report"), metavar="FOLDER", help="default: report")


def audit(features: Path, features_y: Path | None, pairs: list[str], folder: Path) -> tuple[list[Path], str, str]:
    """Run the chapter on files and write its page, ``suspects.csv`` and ``recovered.csv`` into a folder.

    Args:
        features, features_y: as `mmcl.practice.files.read_pairs` takes them.
        pairs: further parameters, ``name=value``.
        folder: where to; files of other names in it stay.

    Returns:
        The paths written, what was found in short, and what went wrong, "" if nothing. After an error the page tells
        how far it came.

    Raises:
        UsageError: for files that are not there, parameters that do not fit, a folder that cannot be written.
    """
    for file in filter(None, (features, features_y)):
        if not file.is_file():
            raise UsageError(f"there is no file {file}")
    answer.writable(folder)
    source = find_notebook(CHAPTER, CHAPTERS)
    values = choose_parameters(source, "default", pairs) | {"features": str(features.resolve())}
    if features_y:
        values["features_y"] = str(features_y.resolve())
    notebook = execute(source.read_text("utf-8"), source, values)
    files = [str(file) for file in (features, features_y) if file]
    options = [part for pair in pairs for part in ("-p", pair)]
    notebook.metadata.mmcl.command = shlex.join(["mmcl", "audit", *files, *options, "-o", str(folder)])
    short = _summary_first(notebook)
    made = {PAGE: page.report(notebook, "report", alone=True), **files_of(notebook)}
    written = [write_whole(folder / name, text) for name, text in made.items()]
    return written, short, notebook.metadata.mmcl.problem


def _summary_first(notebook) -> str:
    """Put the cell tagged ``summary`` after the title, since it is read first and known last; its text."""
    for at, cell in enumerate(notebook.cells):
        if "summary" in cell.metadata.get("tags", ()) and cell.outputs:
            notebook.cells.insert(1, notebook.cells.pop(at))
            return cell.outputs[0].data["text/markdown"].replace("**", "")
    return ""
