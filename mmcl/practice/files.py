"""Pairs from the user's files: .npz, or two of .npy, .csv, .parquet; what is missing, repeated or out of scale."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TABLES = (".npy", ".csv", ".parquet")
NAMES = ("id", "ids", "label", "labels")  # columns of a table that are not features


@dataclass(frozen=True)
class Given:
    """What the files hold, rows with a missing value left out.

    Attributes:
        x, y: (n, d1), (n, d2) pairs.
        ids: (n,) names of the pairs; their row numbers from 0 if there are none.
        rows: (n,) their row numbers from 0 in the file.
        labels: (n,) classes, or None.
        x_unpaired, y_unpaired: (N1, d1), (N2, d2) further rows; (0, d) if there are none.
        x_unpaired_ids, y_unpaired_ids: (N1,), (N2,) their names; their row numbers from 0 if there are none.
        x_test, y_test: pairs that are held out; (0, d) if there are none.
        missing: how many of the pairs were left out for a missing or infinite value.
        repeated: how many of the pairs repeat another one's row of x or of y.
    """

    x: np.ndarray
    y: np.ndarray
    ids: np.ndarray
    rows: np.ndarray
    labels: np.ndarray | None
    x_unpaired: np.ndarray
    y_unpaired: np.ndarray
    x_unpaired_ids: np.ndarray
    y_unpaired_ids: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    missing: int
    repeated: int

    @property
    def spread(self) -> tuple[float, float]:
        """Of each modality: the largest standard deviation of a feature over the smallest that is not 0."""
        return _spread(self.x), _spread(self.y)


def read_pairs(first: str | Path, second: str | Path = "") -> Given:
    """The pairs of one .npz, or of two tables whose row i belong together.

    Args:
        first: an .npz with x and y, and if you like labels, ids, x_unpaired, y_unpaired, x_unpaired_ids,
            y_unpaired_ids, x_test, y_test; or the table of x: .npy, .csv with or without a line of names, or .parquet.
            A column id or label of a .csv or .parquet is taken as such.
        second: the table of y.

    Returns:
        Given.

    Raises:
        ValueError: in one sentence, if a file cannot be read, or what it holds are no pairs.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/f.npz", x=np.eye(3), y=np.ones((3, 2)), ids=["a", "b", "c"])
        ...     read_pairs(f"{folder}/f.npz").ids.tolist()
        ['a', 'b', 'c']
    """
    first = Path(first)
    if first.suffix == ".npz":
        if str(second):
            raise ValueError(f"{first.name} holds both modalities; leave out {Path(second).name}")
        return pairs_of(_archive(first))
    if not str(second):
        raise ValueError(f"{first.name} is one table; give the other modality's too, or one .npz with x and y")
    one, other = _table(first), _table(Path(second))
    for name in ("ids", "labels"):
        if name in one and name in other and not np.array_equal(one[name], other[name]):
            raise ValueError(f"{name} of {first.name} and {Path(second).name} differ; bring the rows into one order")
    return pairs_of({**other, **one, "y": other["x"]})


def pairs_of(arrays: Mapping[str, np.ndarray]) -> Given:
    """`Given` from arrays by name, checked; see `read_pairs`."""
    for name in ("x", "y"):
        if name not in arrays:
            raise ValueError(
                f"there is no {name}, but {', '.join(arrays) or 'nothing'}; name the two modalities x and y"
            )
    x, y = _numbers(arrays, "x"), _numbers(arrays, "y")
    n, dims = len(x), {"x": x.shape[1], "y": y.shape[1]}
    if len(y) != n:
        raise ValueError(f"x has {n} rows and y {len(y)}; row i of one must belong to row i of the other")
    more = {
        f"{side}_{kind}": _numbers(arrays, f"{side}_{kind}", d) if f"{side}_{kind}" in arrays else np.empty((0, d))
        for side, d in dims.items()
        for kind in ("unpaired", "test")
    }
    if len(more["x_test"]) != len(more["y_test"]):
        raise ValueError(f"x_test has {len(more['x_test'])} rows and y_test {len(more['y_test'])}; give pairs")
    ids = _names(arrays, "ids", n)
    labels = _names(arrays, "labels", n) if "labels" in arrays else None
    whole, test = _whole(x, y), _whole(more["x_test"], more["y_test"])
    x, y = x[whole], y[whole]
    free = [_whole(more[f"{side}_unpaired"]) for side in dims]
    names = [_names(arrays, f"{s}_unpaired_ids", len(keep))[keep] for s, keep in zip(dims, free, strict=True)]
    return Given(
        x=x,
        y=y,
        ids=ids[whole],
        rows=np.arange(n)[whole],
        labels=None if labels is None else labels[whole],
        x_unpaired=more["x_unpaired"][free[0]],
        y_unpaired=more["y_unpaired"][free[1]],
        x_unpaired_ids=names[0],
        y_unpaired_ids=names[1],
        x_test=more["x_test"][test],
        y_test=more["y_test"][test],
        missing=int((~whole).sum()),
        repeated=max(len(a) - len(np.unique(a, axis=0)) for a in (x, y)),
    )


def _whole(*tables: np.ndarray) -> np.ndarray:
    """Which rows have finite values in all of the tables."""
    return np.logical_and.reduce([np.isfinite(a).all(1) for a in tables])


def _names(arrays: Mapping[str, np.ndarray], name: str, n: int) -> np.ndarray:
    """What an array of names holds; row numbers from 0 if there is none."""
    values = np.asarray(arrays.get(name, np.arange(n))).ravel()
    if len(values) != n:
        raise ValueError(f"there are {len(values)} {name} for {n} rows; give one for each")
    return values


def rows_as_csv(columns: Mapping[str, object]) -> str:
    """A table by columns as .csv text, with a line of names; numbers to four digits."""
    lines = [",".join(columns)]
    for row in zip(*(np.asarray(c).tolist() for c in columns.values()), strict=True):
        lines.append(",".join(_quoted(f"{v:.4g}" if isinstance(v, float) else str(v)) for v in row))
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A field of a .csv; a text that a spreadsheet would run as a formula is told to be one."""
    text = "'" + text if text[:1] in "=+@" or (text[:1] == "-" and not text[1:2].isdigit()) else text
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n\r') else text


def _archive(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as held:
            return {name: held[name] for name in held.files}
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except Exception as error:
        raise ValueError(f"cannot read {path.name} ({error}); make it with numpy.savez(path, x=..., y=...)") from None


def _table(path: Path) -> dict[str, np.ndarray]:
    if path.suffix not in TABLES:
        raise ValueError(f"{path.name} is no table that is read here; use .npz, {', '.join(TABLES)}")
    try:
        if path.suffix == ".npy":
            return {"x": np.load(path)}
        if path.suffix == ".parquet":
            return _columns(*_parquet(path))
        with path.open(newline="", encoding="utf-8-sig") as file:
            head, *rows = [row for row in csv.reader(file) if row]
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except ImportError:
        raise ValueError(f"to read {path.name}, pip install pandas pyarrow; or save it as .csv or .npy") from None
    except Exception as error:
        raise ValueError(f"cannot read {path.name} ({error})") from None
    if all(map(_is_number, head)):
        rows, head = [head, *rows], [str(i) for i in range(len(head))]
    if any(len(row) != len(head) for row in rows):
        raise ValueError(f"the lines of {path.name} are not equally long; each has a field for each column")
    return _columns(head, {name: np.array(column) for name, column in zip(head, zip(*rows, strict=True), strict=True)})


def _parquet(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    import pandas  # no dependency of ours: who has such a file has it

    frame = pandas.read_parquet(path)
    return list(map(str, frame.columns)), {str(name): frame[name].to_numpy() for name in frame.columns}


def _columns(names: list[str], columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features, ids and labels of a table by columns."""
    features = [name for name in names if name.lower() not in NAMES]
    found = {"x": np.column_stack([_floats(name, columns[name]) for name in features])}
    for name in names:
        if name.lower() in NAMES:
            found[name.lower().removesuffix("s") + "s"] = columns[name]
    return found


def _floats(name: str, column: np.ndarray) -> np.ndarray:
    if column.dtype.kind in "US":
        column = np.where(column == "", "nan", column)
    try:
        return column.astype(float)
    except (TypeError, ValueError):
        raise ValueError(f"column {name} holds no numbers; name it id or label, or leave it out") from None


def _numbers(arrays: Mapping[str, np.ndarray], name: str, d: int | None = None) -> np.ndarray:
    values = np.asarray(arrays[name])
    if values.ndim != 2 or values.dtype.kind not in "biuf" or (d is not None and values.shape[1] != d):
        wanted = "(rows, features)" if d is None else f"(rows, {d})"
        raise ValueError(f"{name} is {values.dtype} of shape {values.shape}; give numbers of shape {wanted}")
    return values.astype(float)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == ""
    return True


def _spread(x: np.ndarray) -> float:
    std = x.std(0)
    return float(std.max() / std[std > 0].min()) if (std > 0).any() else 1.0
