"""Files that a notebook hands over: they travel in its output, and whoever runs it decides where they lie."""

from IPython.display import display

FILE_MIME = "application/vnd.mmcl.file+json"


def attach(name: str, text: str) -> None:
    """Hand over a text file, and say so where the notebook is read.

    Args:
        name: its name, without a folder.
        text: what it holds.

    Raises:
        ValueError: if the name has a folder.
    """
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise ValueError(f"{name!r} is no plain file name, such as suspects.csv")
    lines = text.count("\n")
    shown = f"{name}: {lines - 1:,} rows"
    data = {"text/plain": shown, "text/html": f"<p>{shown}</p>", FILE_MIME: {"name": name, "text": text}}
    display(data, raw=True)


def files_of(notebook) -> dict[str, str]:
    """The files handed over in an executed notebook, by name."""
    outputs = (o.get("data", {}).get(FILE_MIME) for cell in notebook.cells for o in cell.get("outputs", []))
    return {file["name"]: file["text"] for file in outputs if file}
