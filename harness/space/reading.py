"""reading: every file is opened here, so that it has a size before it is read, and none costs more than its size tells.

Only regular files are read: a pipe would be waited for, and a device has no end.
"""

import json
import os
import reprlib
import stat
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.space.errors import UsageError

FileLocation = str | os.PathLike[str]

MOST_ARRAY_BYTES: Final = 2**31  # the most bytes of the arrays in a file; those of T=500, N=64, H=1024 take a fifteenth
TEXT: Final = 2**26  # the most bytes of a document; the report of the longest search has less than a hundredth
MOST_WRITTEN: Final = 2**24  # the most bytes of what people write, such as the source of a subject

MOST_UNPACKED: Final = 2**26  # the bytes to which any archive may unpack
SHRUNK: Final = 16
"""A larger archive may unpack to this many times its size. Weights hardly shrink, and float64 that hold bfloat16 to a
fourth; zeros shrink to a thousandth.
"""

MEMBERS: Final = 10_000
"""The most arrays of a file, each of which takes some 0.2 ms to be read. The weights of 1,000 layers in both directions
are 8,000."""

VALUES: Final = 2**22  # the most commas in JSON, each a float of 32 bytes; a case of a search has 1.7 million
MOST_LISTS: Final = 2**20  # the most lists and objects in JSON, each of which takes 64 bytes at least


def require_path(name: str, value: object) -> None:
    """Raise ``UsageError`` unless an argument can be the name of a file."""
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{name}={reprlib.repr(value)}: expected the name of a file")


def size_of(path: FileLocation, most: int) -> int:
    """Return the size of a regular file. Raise ``UsageError`` in one line if there is none, or a larger one."""
    require_path("path", path)
    try:
        status = os.stat(path)  # noqa: PTH116 - of what may be no Path
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path}: expected a file")
    if status.st_size > most:
        raise UsageError(f"{path}: holds {status.st_size:,} bytes, expected at most {most:,}")
    return status.st_size


def read_bytes(path: FileLocation, most: int = TEXT) -> bytes:
    """Return what is in a regular file of at most so many bytes. Raise ``UsageError`` in one line if there is none."""
    size = size_of(path, most)
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None


def parsed(text: str | bytes, **hooks: Any) -> Any:
    """Return what JSON says. Raise ``ValueError`` if it is none, too deep, or made to take much memory."""
    comma, *opened = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    values, lists = text.count(comma), sum(map(text.count, opened))  # type: ignore[arg-type]
    if values > VALUES or lists > MOST_LISTS:
        raise ValueError(f"{values:,} commas and {lists:,} lists, expected at most {VALUES:,} and {MOST_LISTS:,}")
    try:
        return json.loads(text, **hooks)
    except RecursionError:
        raise ValueError("lists within lists too deep") from None


def read_npz(path: FileLocation) -> dict[str, NDArray[Any]]:
    """Return the arrays in an archive of NumPy's. Raise ``UsageError`` in one line for what is none, or too large."""
    require_archive(path)
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # noqa: BLE001 - unpacking an unknown file may raise anything
        text = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise UsageError(f"{path}: expected what np.savez wrote ({text})") from None


def require_archive(path: FileLocation) -> None:
    """Raise ``UsageError`` for what is no archive, or one that is large when it is unpacked."""
    size = size_of(path, MOST_ARRAY_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except Exception as error:  # noqa: BLE001 - likewise
        raise UsageError(f"{path}: expected what np.savez wrote ({' '.join(str(error).split())[:100]})") from None
    if len(parts) > MEMBERS:
        raise UsageError(f"{path}: holds {len(parts):,} arrays, expected at most {MEMBERS:,}")
    unpacked, most = sum(part.file_size for part in parts), min(MOST_ARRAY_BYTES, max(MOST_UNPACKED, SHRUNK * size))
    if unpacked > most:
        raise UsageError(f"{path}: holds {unpacked:,} bytes, expected at most {most:,}")
