"""tensors: files of arrays in the format safetensors, which few lines read in any language.

Eight bytes hold the length of the header, which is JSON: of each array its dtype, its shape, and where its bytes begin
and end behind the header. The package of that name has no bfloat16 of NumPy's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Final, NoReturn

import ml_dtypes
import numpy as np

from harness.space.atomic import atomic_write
from harness.space.case import LARGEST, Array
from harness.space.errors import UsageError

LONGEST: Final = 2**20
"""The most bytes of a header; 100 arrays have 10,000."""

DTYPES: Final = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
}
"""The dtypes that are read, by the format's names."""

_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays, atomically. Raise ``OSError`` where that is not possible."""
    header: dict[str, Any] = {}
    start = 0
    for name, array in arrays.items():
        where = [start, start + array.nbytes]
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": where}
        start = where[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(array.tobytes())


def read(path: Path) -> dict[str, Array]:
    """Return the arrays in a file. Raise ``UsageError`` in one line if it holds none, or more than the limits."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            fits = 2 <= length <= min(LONGEST, size - 8) and size <= LARGEST
            text, data = (file.read(length), file.read()) if fits else (b"", b"")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if size > LARGEST:
        _refuse(path, f"holds {size:,} bytes, expected at most {LARGEST:,}")
    if not fits:
        _refuse(path, f"a header of {length:,} bytes, expected one of safetensors")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        _refuse(path, "its header is no JSON, expected one of safetensors")
    if not isinstance(header, dict):
        _refuse(path, "its header is no object, expected one of safetensors")
    arrays = {name: _array(path, name, about, data) for name, about in header.items() if name != "__metadata__"}
    if sum(array.nbytes for array in arrays.values()) > len(data):  # few bytes would be copied many times
        _refuse(path, "its arrays overlap, expected bytes of its own for each")
    return arrays


def _array(path: Path, name: str, about: Any, data: bytes) -> Array:
    try:
        dtype, shape, (start, end) = DTYPES[about["dtype"]], about["shape"], about["data_offsets"]
        fits = all(type(size) is int and size >= 0 for size in (*shape, start, end)) and end <= len(data)
        fits = fits and prod(shape) * dtype.itemsize == end - start
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        known = ", ".join(DTYPES)
        _refuse(path, f"{name}: expected a dtype ({known}), a shape, and its bytes in the file, not {str(about)[:80]}")
    return np.frombuffer(data, dtype, prod(shape), start).reshape(shape)


def _refuse(path: Path, said: str) -> NoReturn:
    raise UsageError(f"{path}: {said}")
