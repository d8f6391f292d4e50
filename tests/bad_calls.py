"""What calls of public functions are made of: values that are right, what cannot be, and what holds the same numbers.

A call is a function and, for each argument, a value that is right and its kind.
"""

import importlib
import inspect
import math
import pkgutil
import traceback
from pathlib import Path

import numpy as np
import torch
from helpers import normal, pairs
from torch import Tensor

import mmcl
from mmcl import losses

MODULE = str(Path(mmcl.__file__).parent)
X, Y = pairs(40, 4, 3, seed=0)
G1, G2 = normal(2, 4, seed=1), normal(2, 3, seed=2)
U, V = (torch.linalg.qr(normal(d, 2, seed=d))[0] for d in (4, 3))
EYE4, EYE3 = torch.eye(4, dtype=torch.float64), torch.eye(3, dtype=torch.float64)


class Frame:
    """As a frame of pandas: an array for numpy, but rows cannot be had by their number, nor a shape by torch."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __getitem__(self, key):
        raise KeyError(key)

    def __len__(self):
        return len(self.values)


def spoilt(value):
    """The array with one entry that is no number, or not finite."""
    for bad in (math.nan, math.inf):
        (a := value.clone(memory_format=torch.contiguous_format)).view(-1)[-1] = bad
        yield a


WORDS = ["x", None, 1j, {}, object()]
NOT_NUMBERS = [*WORDS, "3", math.nan, math.inf, [1.0, 2.0], 10**400]
BAD = {  # kind of an argument -> what it cannot be
    "rows": lambda a: [
        *spoilt(a),
        a.to(torch.complex128),
        a.numpy() * 1j,
        a[0, 0],
        a[0],
        a[:, :0],
        a[:0],
        a.numpy().astype(str),
        a.numpy().astype(object),
        [[1.0, 2.0], [3.0]],
        a.to_sparse(),
        *WORDS,
    ],
    "any rows": lambda a: [v for v in BAD["rows"](a) if not isinstance(v, Tensor) or v.ndim == 0 or len(v)],
    "paired": lambda a: [*BAD["rows"](a), a[:-1], a[:1], a[:0], torch.stack([a, a])],
    "any encoder": lambda a: [*BAD["any rows"](a), a[:, :-1], a.mT],
    "encoder": lambda a: [*BAD["rows"](a), a[:, :-1], a.mT],
    "square": lambda a: [*BAD["rows"](a), a[:-1], torch.stack([a[:-1]])],
    "covariance": lambda a: BAD["square"](a),
    "table": lambda a: [*spoilt(a), a.numpy() * 1j, a[:-1], a[:0], torch.stack([a, a]), [[1.0, 2.0], [3.0]], *WORDS],
    "trusted": lambda a: [v for v in (*WORDS, a[:-1], [True] * len(a), [0.5] * len(a), 1) if v is not None],
    "rows of X": lambda a: [v for v in BAD["table"](a) if not isinstance(v, Tensor) or v.shape != a[:-1].shape],
    "ranks of some": lambda a: [v for v in (*spoilt(a), a[None], a + 1, -a, a * 0, *WORDS) if v is not None],
    "weights of pairs": lambda a: [*spoilt(a), a[None], a[:-1], -a, a * 0, *WORDS],
    "clip": lambda _: [*WORDS, "clip", losses.CLIP(eps=0.5), losses.Linear()],
    "rank or word": lambda a: BAD["rank"](a),
    "at least one": lambda _: [*NOT_NUMBERS, 0.5, True],
    "ranks of scores": lambda a: [*spoilt(a), a[None], a + 1, -a, a * 0, a[:0], *WORDS],
    "weights": lambda a: [v for v in BAD["square"](a) if v is not None],
    "fitted": lambda _: [*WORDS, X, {"g1": G1, "g2": G2}],
    "graph": lambda a: [*BAD["rows"](a), -a, 0 * a],
    "labels": lambda a: [[0.5] * len(a), ["a"] * len(a), [math.nan] * len(a), *WORDS],
    "classes": lambda a: [*BAD["labels"](a), a[:-1], [], [a]],
    "places": lambda a: [v for v in (*BAD["classes"](a), [-1] * len(a), [len(a)] * len(a)) if v is not None],
    "vector": lambda a: [
        *spoilt(a),
        a.to(torch.complex128),
        a.numpy().astype(str),
        [[1.0, 2.0], [3.0]],
        a[:-1],
        *WORDS,
    ],
    "one": lambda a: [*BAD["rows"](a), torch.stack([a, a])],
    "object": lambda _: [*WORDS, X],
    "scale": lambda _: [*BAD["numbers"](_), 0.0, 1e-200, 1e200],
    "scales": lambda _: [*BAD["scale"](_), [1.0, 1.0, 1.0]],
    "positives": lambda _: [*BAD["numbers"](_), 0.0, [1.0, 0.0]],
    "shares": lambda _: [*BAD["numbers"](_), 1.1, [1.0, 1.0, 1.0]],
    "nuisance": lambda a: [*WORDS, a[:2], [], (-1.0, *a[1:]), (a[0], 0.0, a[2]), (*a[:2], 1.5), ("x", *a[1:])],
    "column": lambda a: [v for v in BAD["vector"](a) if not isinstance(v, Tensor) or not v.isinf().any()],
    "weight or none": lambda _: [v for v in BAD["weight"](_) if v is not None],
    "two": lambda a: [*WORDS, X, (), a[:1], (a[0], None), ("x", a[1]), (a[0][..., :-1], a[1])],
    "both": lambda a: [*BAD["two"](a), (a[0], a[1] * math.nan)],
    "options": lambda a: [*WORDS, [], [()], [None], [({}, None)], [(*a[0], 1)]],
    "ranks": lambda _: [*WORDS, [0], [2.5], ["x"], [10**6], [math.nan], 2],
    "rates": lambda _: [*WORDS, [], [0.0], [1.0], [math.nan], ["x"], 0.1],
    "mask": lambda a: [*WORDS, a[:-1], a & False, a * 2, a.numpy().astype(str)],
    "ratio": lambda _: [*NOT_NUMBERS, 0.5, True],
    "path": lambda a: [*BAD["encoder"](a), torch.cat([a, a]), a[None]],
    "linear": lambda _: [*WORDS, "linear", losses.CLIP(), losses.Linear],
    "rank": lambda _: [*NOT_NUMBERS, 0, -1, 2.5, 10**6, True],
    "count": lambda _: [*NOT_NUMBERS, 0, -1, 2.5, True],
    "count or none": lambda _: [v for v in BAD["count"](_) if v is not None],
    "steps": lambda _: [*NOT_NUMBERS, -1, 2.5, True],
    "several": lambda _: [*BAD["count"](_), 1],
    "positive": lambda _: [*NOT_NUMBERS, 0.0, -1.0, True],
    "weight": lambda _: [*NOT_NUMBERS, -1.0, True],
    "number": lambda _: [*NOT_NUMBERS, True],
    "share": lambda _: [*NOT_NUMBERS, -0.1, 1.1],
    "below one": lambda _: [*NOT_NUMBERS, -0.1, 1.0],
    "fdr": lambda _: [v for v in (*NOT_NUMBERS, 0.0, 1.0, -0.1) if v is not None],
    "per entry": lambda _: [*WORDS, math.nan, math.inf, [1.0, 2.0], [], [[[1.0, 2.0]]]],
    "per entry, positive": lambda _: [*BAD["per entry"](_), -1.0, torch.tensor([[[1.0]], [[-1.0]]])],
    "numbers": lambda _: [*WORDS, math.nan, -1.0, [1.0, -1.0], []],
    "variances": lambda _: [*WORDS, math.nan, -1.0, [1.0, -1.0], [1.0] * 7, []],
    "seed": lambda _: [*NOT_NUMBERS, 2.5, 2**64],
    "small seed": lambda _: [*NOT_NUMBERS, 2.5, -1, 2**32],
    "loss": lambda _: ["nothing", None, 3, losses.CLIP, ["clip"], X],
    "word": lambda _: ["nothing", None, 3, ["clip"], X],
    "noise": lambda _: ["nothing", 3, -EYE4, normal(4, 4), EYE4 * math.nan, (EYE4,), EYE4[:2]],
    "deviations": lambda _: [*WORDS, math.nan, math.inf, -0.1, (0.1, -2.0), (0.1, 0.2, 0.3), (0.1, "x")],
    "axes": lambda _: [(U,), (U, V, V), (V, U), (U[:, :1], V), (U * math.nan, V), "x", 3],
    "views": lambda _: [[X], [], X, None, "x", [X, Y[:5]], [X, Y * math.nan], [X, "x"]],
    "encoders": lambda _: [[G1], [], [G1, G2, G2], [G1, G1], [G1, G2 * math.nan], [G1, "x"]],
    "modality": lambda _: [*NOT_NUMBERS, 2, -1, 0.5],
    "edges": lambda _: [[], [[0]], [[0.5, 1.0]], "x", [[0, math.nan]], 3],
    "free": lambda _: [],
}


def names(call):
    return getattr(call[0], "__qualname__", repr(call[0]))


def wrong(call):
    """Fail unless what is right is taken, and what is wrong is refused by the module in one sentence."""
    function, arguments = call
    right = {name: value for name, (value, _) in arguments.items()}
    function(**right)
    said = []
    for name, (value, kind) in arguments.items():
        for bad in BAD[kind](value):
            try:
                function(**right | {name: bad})
                said.append(f"{name}={bad!r} is taken in silence")
            except (ValueError, TypeError) as error:
                where = traceback.extract_tb(error.__traceback__)[-1].filename
                if "\n" in str(error) or len(str(error)) > 300 or not where.startswith(MODULE):
                    said.append(f"{name}={bad!r}: {where[-30:]}: {error}")
            except Exception as error:
                said.append(f"{name}={bad!r}: {type(error).__name__}: {error}")
    assert not said, f"{len(said)}:\n" + "\n".join(" ".join(s.split())[:200] for s in said)


ARRAYS = (
    "table",
    "any rows",
    "any encoder",
    "path",
    "covariance",
    "ranks of scores",
    "one",
    "rows",
    "paired",
    "encoder",
    "square",
    "graph",
    "weights",
)
WAYS = {  # what holds the numbers of a tensor, whatever the order of its rows and bytes
    "numpy": lambda a: a.numpy(),
    "turned twice": lambda a: np.ascontiguousarray(a.numpy()[::-1])[::-1],
    "by columns": lambda a: np.asfortranarray(a.numpy()),
    "every other": lambda a: np.repeat(a.numpy(), 2, axis=0)[::2],
    "big-endian": lambda a: a.numpy().astype(">f8"),
    "read-only": lambda a: np.frombuffer(a.contiguous().numpy().tobytes()).reshape(a.shape),
    "long double": lambda a: a.numpy().astype(np.longdouble),
    "lists": lambda a: a.tolist(),
    "frame": lambda a: Frame(a.numpy()),
    "transposed": lambda a: a.T.contiguous().T if a.ndim == 2 else a,
}


def numbers_in(result):
    """The tensors and numbers of a result, one after the other."""
    if isinstance(result, Tensor | float | int):
        return [torch.as_tensor(result, dtype=torch.float64)]
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else []
    parts = parts or vars(result).values() if hasattr(result, "__dict__") else parts
    return [tensor for part in parts for tensor in numbers_in(part)]


def the_same(call):
    """Fail unless a function finds the same numbers in whatever array they come."""
    function, arguments = call
    right = {name: value for name, (value, _) in arguments.items()}
    arrays = [name for name, (_, kind) in arguments.items() if kind in ARRAYS]
    expected = numbers_in(function(**right)) if arrays else []
    for way, made in WAYS.items() if arrays else ():
        found = numbers_in(function(**right | {name: made(right[name]) for name in arrays}))
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, equal_nan=True, msg=f"{way}: {a} {b}")


EDGES = {  # kind of an argument -> what it can be at the most, which must not end in silence with what is not finite
    **dict.fromkeys(
        ("rows", "any rows", "paired", "encoder", "one", "path", "square", "weights", "graph", "table"),
        lambda a: [1e80 * a, 1e-80 * a, 0 * a, 0 * a + 3],
    ),
    "covariance": lambda a: [1e-80 * a, 0 * a, 0 * a + 3],
    **dict.fromkeys(("positive", "weight", "scale", "weight or none"), lambda _: [1e80, 1e-80]),
    **dict.fromkeys(("numbers", "scales", "positives"), lambda _: [[1e80], [1e-80]]),
    "number": lambda _: [1e80, -1e80],
    **dict.fromkeys(("share", "shares"), lambda _: [0.0, 1.0, 1e-80]),
    "below one": lambda _: [0.0, 1 - 1e-16],
    "variances": lambda _: [1e80, 1e-80],
    **dict.fromkeys(("count", "rank"), lambda _: [1]),
    "several": lambda _: [2],
    "ratio": lambda _: [1.0, 1e80],
    "deviations": lambda _: [0.0, 1e80],
}


def finite(call):
    """Fail if a function whose result is finite has another one at the edge of what an argument can be."""
    function, arguments = call
    right = {name: value for name, (value, _) in arguments.items()}
    if not all(bool(a.isfinite().all()) for a in numbers_in(function(**right))):
        return  # as it says: NaN and infinity are among its answers
    said = []
    for name, (value, kind) in arguments.items():
        for edge in EDGES.get(kind, lambda _: [])(value):
            try:
                found = numbers_in(function(**right | {name: edge}))
                said += [f"{name}={edge!r} gives {a}" for a in found if not bool(a.isfinite().all())]
            except Warning:  # it tells
                pass
            except (ValueError, TypeError) as error:
                where = traceback.extract_tb(error.__traceback__)[-1].filename
                said += [f"{name}={edge!r}: {where}: {error}"] if not where.startswith(MODULE) else []
            except Exception as error:
                said.append(f"{name}={edge!r}: {type(error).__name__}: {error}")
    assert not said, f"{len(said)}:\n" + "\n".join(" ".join(s.split())[:200] for s in said)


def functions_of(package, *more):
    """The names of the public functions of a package's own files, not of its wings; private files count if named."""
    files = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg]
    modules = [importlib.import_module(f"{package.__name__}.{n}") for n in files if n[0] != "_" or n in more]
    return {
        name
        for module in modules
        for name, f in vars(module).items()
        if inspect.isfunction(f) and f.__module__ == module.__name__ and name[0] != "_"
    }
