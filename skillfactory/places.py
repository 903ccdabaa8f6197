"""Where files stand: on this machine's file system, or on any that fsspec knows (s3://, gs://, …).

A place elsewhere is a UPath: it behaves as a Path in all that is used of it, and is typed as one. Its files appear at once
or not at all, can't be added to, and are kept when they are closed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from skillfactory.errors import require


def place(text: str) -> Path:
    """The place that a path or a URL names; ConfigError if the package for URLs is missing."""
    if "://" not in text:
        return Path(text)
    return cast(Path, require("upath", "cloud").UPath(text))


def is_remote(path: Path) -> bool:
    """Whether a place is not on this machine's own file system."""
    return not isinstance(path, Path)


def opened(path: Path) -> BinaryIO:
    """The file to read from any offset, which Parquet needs."""
    return path.open("rb")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when all is written and on the disk."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    if os.name == "posix":  # the new name itself is in the folder, which is another thing to force to the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
