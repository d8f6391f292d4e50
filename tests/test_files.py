"""Files appear whole or not at all."""

import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from mmcl import _files
from mmcl._files import MINUTE, own_folder, write_whole


def test_what_is_written_is_what_is_read_text_as_utf8_and_line_ends_as_they_are(tmp_path):
    assert write_whole(tmp_path / "a", b"\0\xff\r\n").read_bytes() == b"\0\xff\r\n"
    assert write_whole(tmp_path / "b", "Σ\r\nη\n").read_bytes() == "Σ\r\nη\n".encode()
    assert write_whole(str(tmp_path / "b"), "") == tmp_path / "b"
    assert (tmp_path / "b").read_bytes() == b""


def test_a_missing_folder_is_made_and_permissions_are_those_of_any_new_file(tmp_path):
    path = write_whole(tmp_path / "new" / "newer" / "x", "1")
    (tmp_path / "plain").write_text("1")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert [p.name for p in path.parent.iterdir()] == ["x"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, SystemExit])
def test_an_interrupt_leaves_the_old_file_and_nothing_beside_it(monkeypatch, tmp_path, step, error):
    path = write_whole(tmp_path / "x", "old")

    def interrupted(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(_files.os, step, interrupted)
        with pytest.raises(error):
            write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    with pytest.raises(TypeError):
        write_whole(path, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("name", ["x", "folder/x"])
def test_an_error_of_the_disk_names_the_file_that_was_asked_for(monkeypatch, tmp_path, name):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(tmp_path / name, "new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / name))


# ---------------------------------------------------------------- what is left behind


def _aged(path, seconds=2 * MINUTE):
    os.utime(path, (time.time() - seconds, time.time() - seconds))
    return path


def _run_and_kill(code, tmp_path):
    """Run a piece of Python with ``folder`` set until it says that it is ready, and kill it there."""
    given = f"import sys, time\nfrom pathlib import Path\nfolder = Path({str(tmp_path)!r})\n{code}"
    with subprocess.Popen([sys.executable, "-c", given], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL


SLEEP = "print('ready', flush=True); time.sleep(60)"
KILLED_WRITER = f"""
from mmcl import _files
def fsync(handle): {SLEEP}
_files.os.fsync = fsync
_files.write_whole(folder / "x", "new")
"""
KILLED_FOLDER = f"""
from mmcl import _files
with _files.own_folder(folder, "mmcl-", ".part") as own:
    (own / "made").mkdir(); (own / "made" / "a").write_text("a")
    {SLEEP}
"""


def test_what_a_killed_writer_leaves_is_removed_by_the_next_one(tmp_path):
    write_whole(tmp_path / "x", "old")
    _run_and_kill(KILLED_WRITER, tmp_path)
    (left,) = tmp_path.glob(".x.*.part")
    assert (tmp_path / "x").read_text() == "old"
    write_whole(tmp_path / "x", "newer")
    assert left.exists(), "it is young: it might belong to somebody who has not locked it yet"
    _aged(left)
    write_whole(tmp_path / "y", "other")
    assert left.exists(), "it belongs to another file"
    write_whole(tmp_path / "x", "newest")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x", "y"]


def test_a_temporary_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path):
    _run_and_kill(KILLED_FOLDER, tmp_path)
    (left,) = tmp_path.iterdir()
    _aged(left)
    (tmp_path / "mmcl-not.this").mkdir()
    _aged(tmp_path / "mmcl-not.this")
    with own_folder(tmp_path, "mmcl-", ".part") as own:
        assert own.is_dir()
        assert not left.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["mmcl-not.this"]


def test_what_somebody_still_holds_is_left_alone_however_old(tmp_path):
    with own_folder(tmp_path, "mmcl-") as first:
        _aged(first)
        with own_folder(tmp_path, "mmcl-") as second:
            assert first.is_dir()
            assert first != second
    assert not list(tmp_path.iterdir())


def _write_often(path, letter):
    for _ in range(100):
        write_whole(path, letter * 100_000)


def test_of_two_writers_in_a_race_a_reader_sees_one_whole_file_or_the_other(tmp_path):
    path = write_whole(tmp_path / "x", "a" * 100_000)
    writers = [multiprocessing.get_context("fork").Process(target=_write_often, args=(path, c)) for c in "ab"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        content = path.read_text()
        assert len(content) == 100_000
        assert len(set(content)) == 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
