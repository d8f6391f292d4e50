"""Files appear whole or not at all."""

import multiprocessing
import stat

import pytest

from mmcl import _files
from mmcl._files import write_whole


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
