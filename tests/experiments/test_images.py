"""The official idx files: what is read, what is refused, and what a download leaves behind."""

import gzip
import hashlib
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

from mmcl.experiments import images

CONTENT = {
    "train-images-idx3-ubyte": np.arange(5 * 28 * 28).reshape(5, 28, 28),
    "train-labels-idx1-ubyte": np.array([3, 1, 4, 1, 5]),
    "t10k-images-idx3-ubyte": np.arange(2 * 28 * 28).reshape(2, 28, 28)[::-1],
    "t10k-labels-idx1-ubyte": np.array([9, 2]),
}


def idx_bytes(a):
    """An idx file written by the book: two zeros, type 8, dimensions, sizes in four bytes, big-endian, the values."""
    header = [0, 0, 8, a.ndim, *(byte for size in a.shape for byte in (0, 0, size // 256, size % 256))]
    return bytes(header) + (a % 256).astype(np.uint8).tobytes()


@pytest.fixture
def web(monkeypatch, tmp_path):
    """The four files, tiny, as a mirror would serve them, with their hashes made the official ones."""
    files = {f"{name}.gz": gzip.compress(idx_bytes(a), mtime=0) for name, a in CONTENT.items()}
    hashes = {
        name: tuple(hashlib.md5(raw).hexdigest() for raw in (files[f"{name}.gz"], idx_bytes(a)))
        for name, a in CONTENT.items()
    }
    monkeypatch.setattr(images, "FILES", {"MNIST": hashes, "FashionMNIST": hashes})
    monkeypatch.delenv("MMCL_DATA", raising=False)
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "cache"))
    return files


def serve(monkeypatch, files, asked):
    """Replace the network: `files` maps the end of an address to its bytes, or to an exception to raise."""

    class Downloader:
        def __init__(self, progressbar, timeout):
            assert progressbar
            assert max(timeout) < 60

        def __call__(self, url, output_file, _):
            asked.append(url)
            answer = next((a for end, a in files.items() if url.endswith(end)), ConnectionError("no route to host"))
            Path(output_file).write_bytes(b"half" if isinstance(answer, BaseException) else answer)
            if isinstance(answer, BaseException):
                raise answer

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)


def left_in(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("inside", ["", "FashionMNIST/raw"])
@pytest.mark.parametrize("by_variable", [False, True])
def test_files_are_read_from_a_read_only_folder_zipped_or_not(web, monkeypatch, tmp_path, zipped, inside, by_variable):
    folder = tmp_path / "data" / inside
    folder.mkdir(parents=True)
    for name in CONTENT:
        raw = web[f"{name}.gz"]
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(raw if zipped else gzip.decompress(raw))
    folder.chmod(0o555)
    if by_variable:
        monkeypatch.setenv("MMCL_DATA", str(tmp_path / "data"))
    found = images.load_fashion_mnist(None if by_variable else tmp_path / "data")
    for a, expected in zip(
        (found.rows, found.labels, found.rows_test, found.labels_test), CONTENT.values(), strict=True
    ):
        assert torch.equal(a.long(), torch.tensor((expected % 256).copy()))
    assert found.rows.dtype == torch.uint8
    assert found.labels.dtype == torch.int64
    assert len(left_in(folder)) == 4
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("spoil", "say"),
    [
        (lambda raw: gzip.compress(raw)[:-9], "is truncated or corrupt"),
        (lambda raw: gzip.compress(raw)[:20] + b"\0\1\2" + gzip.compress(raw)[23:], "is truncated or corrupt"),
        (lambda raw: raw[:-1], "holds 3,919 of the 3,920 bytes"),
        (lambda raw: raw + b"\0", "holds more than the 3,920 bytes"),
        (lambda raw: raw[:10], "is not an idx file"),
        (lambda raw: b"\0\0\x08\xff" + bytes(255 * 4), "is not an idx file"),
        (lambda raw: b"\0\0\x08\0", "is not an idx file"),
        (
            lambda raw: raw[:4] + b"\xff" * 12 + raw[16:],
            "is to hold 79,228,162,458,924,105,385,300,197,375 bytes, more",
        ),
        (lambda raw: b"", "is not an idx file"),
        (lambda raw: b"<html>not found</html>", "is not an idx file"),
        (lambda raw: raw[:100] + bytes([raw[100] ^ 1]) + raw[101:], "is not the official file"),
    ],
)
def test_a_spoilt_file_is_named_in_one_sentence(web, tmp_path, spoil, say):
    for name in CONTENT:
        (tmp_path / f"{name}.gz").write_bytes(web[f"{name}.gz"])
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(spoil(gzip.decompress(web[path.name + ".gz"])))
    with pytest.raises(ValueError, match=say) as error:
        images.load_mnist(tmp_path)
    assert str(path) in str(error.value)
    assert "put the official file in its place" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_more_is_unpacked_than_the_header_says(tmp_path):
    """A small file that unpacks to 30 MB: it is refused after the 10 bytes that its header names."""
    (tmp_path / "bomb").write_bytes(gzip.compress(idx_bytes(np.zeros(10)) + bytes(30_000_000), 9))
    tracemalloc.start()
    with pytest.raises(ValueError, match="bomb holds more than the 10 bytes in its header"):
        images.read_idx(tmp_path / "bomb")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_an_absent_file_is_named_with_its_place_and_nothing_is_downloaded(web, monkeypatch, tmp_path):
    asked = []
    serve(monkeypatch, web, asked)
    with pytest.raises(FileNotFoundError, match=re.escape(f"into {tmp_path / 'MNIST' / 'raw'}")):
        images.load_mnist(tmp_path)
    assert not asked


def test_a_download_happens_once_and_takes_the_second_mirror_when_the_first_fails(web, monkeypatch, tmp_path):
    asked, (first, second) = [], images.MIRRORS["MNIST"]
    broken = {f"{first}{name}": web[name][:-3] for name in list(web)[:2]}  # half a file: its hash is wrong
    serve(monkeypatch, broken | {f"{second}{name}": raw for name, raw in web.items()}, asked)
    found = images.load_mnist()
    assert found.labels.tolist() == [3, 1, 4, 1, 5]
    assert asked == [f"{mirror}{name}" for name in web for mirror in (first, second)]
    assert left_in(tmp_path / "cache") == sorted(web)
    images.load_mnist()
    assert len(asked) == 8


def test_a_spoilt_file_in_the_cache_is_fetched_again(web, monkeypatch, tmp_path):
    asked = []
    serve(monkeypatch, web, asked)
    images.load_mnist()
    (tmp_path / "cache" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"rotten")
    assert images.load_mnist().labels_test.tolist() == [9, 2]
    assert len(asked) == 5


@pytest.mark.parametrize("failure", [ConnectionError("no route"), TimeoutError("slow"), OSError("403"), b"wrong"])
def test_no_network_is_said_in_one_sentence_and_leaves_nothing_half_written(web, monkeypatch, tmp_path, failure):
    asked = []
    serve(monkeypatch, {".gz": failure}, asked)
    with pytest.raises(images.Unavailable, match="set MMCL_DATA to that folder") as error:
        images.load_mnist()
    assert "\n" not in str(error.value)
    assert len(asked) == len(images.MIRRORS["MNIST"])
    assert left_in(tmp_path) == []


def test_an_interrupt_leaves_nothing_half_written(web, monkeypatch, tmp_path):
    serve(monkeypatch, {".gz": KeyboardInterrupt()}, [])
    with pytest.raises(KeyboardInterrupt):
        images.load_mnist()
    assert left_in(tmp_path) == []


def test_an_unreachable_address_is_given_up_within_seconds(web, monkeypatch, tmp_path):
    """The real downloader, at a port of this machine where nobody listens."""
    monkeypatch.setattr(images, "MIRRORS", {"MNIST": ("http://127.0.0.1:9/", "http://127.0.0.1:9/again/")})
    with pytest.raises(images.Unavailable, match="ConnectionError"):
        images.load_mnist()
    assert left_in(tmp_path) == []


def test_each_data_set_has_four_files_and_more_than_one_mirror():
    for name, mirrors in images.MIRRORS.items():
        assert len(images.FILES[name]) == 4
        assert len(mirrors) > 1
        assert all(mirror.endswith("/") for mirror in mirrors)
        assert all(re.fullmatch("[0-9a-f]{32}", md5) for pair in images.FILES[name].values() for md5 in pair)
