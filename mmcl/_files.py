"""Files that appear whole or not at all."""

import os
import uuid
from pathlib import Path


def write_whole(path: str | os.PathLike, content: bytes | str) -> Path:
    """Write a file that nobody ever sees in part: beside its place under a name of its own, then renamed.

    Args:
        path: the file; its folder is made if it does not exist. What was there stays until the new one is complete.
        content: bytes, or text, which is written as UTF-8 with the line ends it has.

    Returns:
        The path. It has the permissions any new file has.

    Raises:
        OSError: if it cannot be written. After any exception, an interrupt too, the path is as it was and nothing
            is left beside it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(f"{folder}/new/x.txt", "whole").read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path
