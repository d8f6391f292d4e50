"""The official idx files of MNIST and Fashion-MNIST: read from a folder, or downloaded once, their hashes checked."""

import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path

import numpy as np
import pooch
import torch

from mmcl.experiments.labelled import Labelled

FILES = {  # name of the data set -> file -> md5 of the gzip file as it is published, md5 of the idx file in it
    "MNIST": {
        "train-images-idx3-ubyte": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
        "train-labels-idx1-ubyte": ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
        "t10k-images-idx3-ubyte": ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
        "t10k-labels-idx1-ubyte": ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        "train-labels-idx1-ubyte": ("25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"),
        "t10k-images-idx3-ubyte": ("bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
        "t10k-labels-idx1-ubyte": ("bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
    },
}
MIRRORS = {  # name of the data set -> folders on the web, tried in turn
    "MNIST": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "FashionMNIST": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
}
DIMENSIONS, LARGEST = 3, 60_000 * 28 * 28  # of an official file
TIMEOUT = (3, 30)  # seconds to find a mirror, and to wait for its next bytes


class Unavailable(OSError):
    """The data are not on this machine and no mirror gave them: use other data, or put the files where it says."""


def load_mnist(folder: str | os.PathLike | None = None) -> Labelled:
    """MNIST, 70,000 handwritten digits of 28 x 28 pixels.

    Args:
        folder: where the four official files lie, as x, x.gz, MNIST/raw/x or MNIST/raw/x.gz; it is only read. None
            means the folder in the environment variable MMCL_DATA, and if that is not set a download, once, into
            `cache_folder`.

    Returns:
        Labelled with the official split: images (60000, 28, 28) and (10000, 28, 28), uint8 from 0 to 255, and their
        classes 0 to 9.

    Raises:
        FileNotFoundError: if a file is not in the folder given.
        ValueError: if a file is truncated or is not the official one.
        Unavailable: if no folder is given and no mirror answers.

    Reference: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits.
    """
    return _load("MNIST", folder)


def load_fashion_mnist(folder: str | os.PathLike | None = None) -> Labelled:
    """Fashion-MNIST, 70,000 articles of clothing of 28 x 28 pixels; arguments and errors as for `load_mnist`.

    The files have the names of MNIST's, so their place under a common folder is FashionMNIST/raw.

    Reference: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv 1708.07747.
    """
    return _load("FashionMNIST", folder)


def cache_folder() -> Path:
    """Where downloads and trained encoders are kept: MMCL_CACHE, or the user's cache folder as pooch names it."""
    return Path(os.environ.get("MMCL_CACHE") or pooch.os_cache("mmcl"))


def read_idx(path: str | os.PathLike, md5: str | None = None) -> np.ndarray:
    """An idx file of unsigned bytes as an array; gzip is recognised by its first bytes, not by the name.

    Args:
        path: the file.
        md5: of the uncompressed file, None for no check.

    Returns:
        numpy uint8 array of the shape in the header.

    Raises:
        ValueError: if the file is truncated, has another format, is larger than any official one, or its md5 differs.
    """
    mend = "put the official file in its place"
    with open(path, "rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else open(path, "rb") as file:
            head = file.read(4)
            sizes = file.read(4 * min(head[3], DIMENSIONS)) if len(head) == 4 else b""
            if head[:3] != b"\0\0\x08" or not sizes or len(sizes) != 4 * head[3]:
                raise ValueError(f"{path} is not an idx file of unsigned bytes; {mend}")
            shape = [int.from_bytes(sizes[i : i + 4]) for i in range(0, len(sizes), 4)]
            count = math.prod(shape)
            if count > LARGEST:
                raise ValueError(f"{path} is to hold {count:,} bytes, more than {LARGEST:,}; {mend}")
            raw = file.read(count + 1)  # no more, however much a small file unpacks to
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or corrupt ({error}); {mend}") from None
    if len(raw) != count:
        held = f"{len(raw):,} of" if len(raw) < count else "more than"
        raise ValueError(f"{path} holds {held} the {count:,} bytes in its header; {mend}")
    if md5 and hashlib.md5(head + sizes + raw, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(f"{path} is not the official file: its md5 is not {md5}; {mend}")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _load(name: str, folder: str | os.PathLike | None) -> Labelled:
    folder = folder or os.environ.get("MMCL_DATA")
    places = {file: _in_folder(name, file, folder) if folder else _downloaded(name, file) for file in FILES[name]}
    arrays = [read_idx(places[file], md5) for file, (_, md5) in FILES[name].items()]
    images, labels, images_test, labels_test = (torch.from_numpy(a.copy()) for a in arrays)
    return Labelled(images, labels.long(), images_test, labels_test.long())


def _in_folder(name: str, file: str, folder: str | os.PathLike) -> Path:
    """The path of a file under a folder in any of the four ways it may be kept there."""
    folder = Path(folder)
    for place in (folder / name / "raw", folder):
        for path in (place / file, place / f"{file}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"{file} of {name} is not in {folder}: put the official file, gzip or not, into {folder / name / 'raw'}, "
        "or give no folder and unset MMCL_DATA to download it"
    )


def _downloaded(name: str, file: str) -> str:
    """The path of a file in the cache, fetched from the first mirror that gives it whole."""
    place = cache_folder() / name / "raw"
    problem: Exception | None = None
    for mirror in MIRRORS[name]:
        try:
            return pooch.retrieve(
                f"{mirror}{file}.gz",
                f"md5:{FILES[name][file][0]}",
                f"{file}.gz",
                place,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT),
            )
        except (OSError, ValueError) as error:  # no network, a refusal, a full disk; a wrong hash
            problem = error
    raise Unavailable(
        f"{name} could not be downloaded into {place} ({type(problem).__name__}): put the four official files into "
        f"a folder as {name}/raw/{file}.gz and so on, and set MMCL_DATA to that folder"
    ) from problem
