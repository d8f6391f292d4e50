"""The notebook beside each chapter: the chapter's cells, with the outputs that were there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from jupytext.cli import jupytext

from mmcl._files import own_folder, write_whole
from mmcl.reports.reading import UsageError, read_chapter, read_ipynb


def paired(source: Path) -> bytes:
    """The notebook of a chapter as `jupytext --update` makes it: outputs stay with cells that have not changed.

    Args:
        source: notebooks/NN_name.py; the notebook beside it need not exist.

    Raises:
        UsageError: if one of them cannot be read.
    """
    read_chapter(source)
    notebook = source.with_suffix(".ipynb")
    if notebook.exists():
        read_ipynb(notebook)
    with own_folder(source.resolve().parent, ".pair-") as folder:  # where jupytext finds the settings of the repository
        for path in (source, notebook):
            if path.exists():
                shutil.copy(path, folder)
        jupytext(["--quiet", "--to", "ipynb", "--update", str(folder / source.name)])
        return (folder / notebook.name).read_bytes()


def pairs(sources: Iterable[Path], check: bool = False) -> None:
    """Bring the inputs of the notebooks beside chapters up to date, each whole or not at all.

    Args:
        sources: the chapters.
        check: write nothing.

    Raises:
        UsageError: naming the first notebook that is not up to date, if it is to be checked; or see `paired`.
    """
    for source in sources:
        made, notebook = paired(source), source.with_suffix(".ipynb")
        if notebook.exists() and notebook.read_bytes() == made:
            continue
        if check:
            raise UsageError(f"{notebook} is not what {source} says; make pairs mends it")
        write_whole(notebook, made)
