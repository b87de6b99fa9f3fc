"""Atomic writing of files: a file is there in full or not at all, whatever happens while it is written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


def write_text(path: str | os.PathLike[str], text: str, *, follow: bool = False) -> None:
    """Write a text in UTF-8 with ``atomic_write``; halves of surrogate pairs, as in names of files, become escapes."""
    with atomic_write(path, follow=follow) as file:
        file.write(text.encode(errors="backslashreplace"))


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, follow: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of ``path`` if the block ends well, and is deleted otherwise.

    It takes the place of a link, too: one that came with a folder must not choose what is overwritten. With ``follow``,
    for a path that the user named, a link is followed, and what is no regular file, such as a pipe, is written to
    directly. Raises ``OSError`` if the folder cannot be written to.
    """
    target = Path(path).resolve() if follow else Path(path)
    if follow and target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    temporary = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None  # the name that is known outside
        raise
