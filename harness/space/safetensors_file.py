"""Arrays in files of the format safetensors. The package makes no array of bfloat16, so its bytes are read here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save

from harness.space.atomic import atomic_write
from harness.space.case import Array
from harness.space.errors import UsageError
from harness.space.reading import MOST_ARRAY_BYTES, read_bytes

LONGEST_NAMES: Final = 2**20  # the most bytes of the header, which names the arrays; that of 1,000 layers has 800,000

FORMAT_DTYPES: Final = {  # the dtypes that are read, by the format's names
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
}


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays, atomically. Raise ``OSError`` where that is not possible."""
    with atomic_write(path) as file:
        file.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read(path: Path) -> dict[str, Array]:
    """Return the arrays in a file. Raise ``UsageError`` if it holds none, or more than ``MOST_ARRAY_BYTES`` bytes."""
    try:
        content = read_bytes(path, MOST_ARRAY_BYTES)
        if (names := int.from_bytes(content[:8], "little")) > LONGEST_NAMES:
            text = f"its header has {names:,} bytes, expected at most {LONGEST_NAMES:,}"
            raise UsageError(f"{path}: expected a file of safetensors ({text})")
        entries = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise UsageError(f"{path}: expected a file of safetensors ({' '.join(str(error).split())[:200]})") from None
    unknown = sorted({about["dtype"] for _, about in entries} - set(FORMAT_DTYPES))
    if unknown:
        raise UsageError(f"{path}: holds {', '.join(unknown)}: expected the dtypes {', '.join(FORMAT_DTYPES)}")
    try:
        return {
            name: np.frombuffer(entry["data"], FORMAT_DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in entries
        }
    except (ValueError, OverflowError) as error:  # more axes, or longer ones, than NumPy has
        raise UsageError(f"{path}: holds what is no array ({' '.join(str(error).split())[:200]})") from None
