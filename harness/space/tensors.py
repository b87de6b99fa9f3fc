"""Arrays in files of the format safetensors. The package makes no array of bfloat16, so its bytes are read here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save

from harness.space.atomic import atomic_write
from harness.space.case import LARGEST, Array
from harness.space.errors import UsageError

DTYPES: Final = {  # the dtypes that are read, by the format's names
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
    """Return the arrays in a file. Raise ``UsageError`` if it holds none, or more than ``LARGEST`` bytes."""
    try:
        size = path.stat().st_size
        found = safetensors.deserialize(path.read_bytes() if size <= LARGEST else b"")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except safetensors.SafetensorError as error:
        said = f"expected a file of safetensors ({' '.join(str(error).split())[:200]})"
        said = said if size <= LARGEST else f"holds {size:,} bytes, expected at most {LARGEST:,}"
        raise UsageError(f"{path}: {said}") from None
    unknown = sorted({about["dtype"] for _, about in found} - set(DTYPES))
    if unknown:
        raise UsageError(f"{path}: holds {', '.join(unknown)}: expected the dtypes {', '.join(DTYPES)}")
    return {name: np.frombuffer(about["data"], DTYPES[about["dtype"]]).reshape(about["shape"]) for name, about in found}
