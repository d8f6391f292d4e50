"""The command ``mmcl audit``: a user's files to a chapter as parameters, and its page and tables into a folder."""

from __future__ import annotations

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
    sub.add_argument("features", type=Path, metavar="FILE", help=".npz with x and y; or x as .npy, .csv or .parquet")
    sub.add_argument("features_y", type=Path, metavar="FILE_Y", nargs="?", help="y, if FILE is x alone")
    sub.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help=f"a parameter of {CHAPTER}")
    sub.add_argument("-o", type=Path, default=Path("report"), metavar="FOLDER", help="default: report")


def audit(features: Path, features_y: Path | None, pairs: list[str], folder: Path) -> tuple[list[Path], str]:
    """Run the chapter on files and write its page, ``suspects.csv`` and ``recovered.csv`` into a folder.

    Args:
        features, features_y: as `mmcl.practice.files.read_pairs` takes them.
        pairs: further parameters, ``name=value``.
        folder: where to; files of other names in it stay.

    Returns:
        The paths written, and what went wrong, "" if nothing. After an error the page tells how far it came.

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
    made = {PAGE: page.report(notebook, "report", alone=True), **files_of(notebook)}
    written = [write_whole(folder / name, text) for name, text in made.items()]
    return written, notebook.metadata.mmcl.problem
