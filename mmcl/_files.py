"""Files that appear whole or not at all, and what a killed process leaves behind."""

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MINUTE = 60.0  # what is younger may be between being made and being held


def write_whole(path: str | os.PathLike, content: bytes | str) -> Path:
    """Write a file that nobody ever sees in part: beside its place under a name of its own, then renamed.

    Args:
        path: the file; its folder is made if it does not exist. What was there stays until the new one is complete.
            What killed processes left of earlier tries is removed.
        content: bytes, or text, which is written as UTF-8 with the line ends it has.

    Returns:
        The path. It has the permissions any new file has.

    Raises:
        OSError: naming the path, if it cannot be written. After any exception, an interrupt too, the path is as it was
            and nothing is left beside it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(f"{folder}/new/x.txt", "whole").read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left(path.parent, f".{path.name}.", ".part")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            _hold(file.fileno())
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    return path


@contextmanager
def own_folder(parent: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """A temporary folder, removed at the end; those of this kind that killed processes left are removed first.

    Example:
        >>> with own_folder(Path(tempfile.gettempdir()), "mmcl-example-") as folder:
        ...     folder.is_dir()
        True
        >>> folder.exists()
        False
    """
    remove_left(parent, prefix, suffix)
    with tempfile.TemporaryDirectory(suffix, prefix, parent, ignore_cleanup_errors=True) as name:
        handle = os.open(name, os.O_RDONLY)
        try:
            _hold(handle)
            yield Path(name)
        finally:
            os.close(handle)


def remove_left(parent: Path, prefix: str, suffix: str) -> None:
    """Remove files and folders, a minute old or more, that have such a name and that no living process holds."""
    with suppress(OSError):  # another process may be quicker, and what is not ours stays
        for entry in [e for e in os.scandir(parent) if e.name.startswith(prefix) and e.name.endswith(suffix)]:
            with suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > MINUTE and not _held(entry.path):
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


def _hold(handle: int) -> None:
    """Lock what is open until it is closed or the process ends, however it ends; not all file systems can."""
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _held(path: str) -> bool:
    """Whether a living process has locked a file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
