"""Arrays in files of several formats, of which none can run code, or be larger than is said when unpacked."""

import math
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness.space import safetensors_file
from harness.space.errors import UsageError
from harness.space.reading import MOST_ARRAY_BYTES, MOST_WRITTEN, parsed, read_bytes, read_npz, require_archive, size_of
from harness.subjects.weight_schemes import DEEPEST

RETURNED_NAMES: Final = (
    "output",
    "h_n",
    "c_n",
    "readout",
)  # the names of what a layer returns, in a file that holds a whole case

COTANGENTS: Final = tuple(f"{name}.grad" for name in RETURNED_NAMES)
GIVEN_NAMES: Final = ("x", "h0", "hx", "c0", "cx")

# The dtypes that a JSON file may name.
JSON_DTYPES: Final = {name: np.dtype(name) for name in ("float64", "float32", "float16", "int64", "int32")}

PICKLE: Final = 2**20
"""The most bytes of the pickle that names the tensors of a file, which takes 60 times as much when it is read. That of
an nn.RNN with 64 layers in both directions has 50,000.
"""


def load_model(path: str) -> Any:
    """Load weights; of a file with a whole case, such as a test vector, the weights alone."""
    held = load(path)
    if not isinstance(held, Mapping) or not held:
        what = "no array" if isinstance(held, Mapping) else "an array without a name"
        raise UsageError(f"{path}: holds {what}: expected the weights of a layer, as its state_dict() names them")
    return {name: value for name, value in held.items() if not _of_a_case(str(name), (*GIVEN_NAMES, *RETURNED_NAMES))}


def load_array(path: str, *names: str) -> Any:
    """Load an array; of a file with names, the one of these names, or the one that was saved without a name."""
    held = load(path)
    if not isinstance(held, Mapping):
        return held
    arrays = [held[name] for name in (*names, "arr_0") if name in held]
    if not arrays:
        listed = " ".join(", ".join(map(str, held)).split())[:200] or "nothing"
        raise UsageError(f"{path}: holds {listed}: expected one array, under the name {' or '.join(names)}")
    return arrays[0]


def load_start(path: str) -> Any:
    """Return the initial state that a file holds, perhaps beside x, or a tuple of two; ``None`` if there is none."""
    held = load(path)
    if not isinstance(held, Mapping):
        return None
    states = [next((held[name] for name in names if name in held), None) for names in (("hx", "h0"), ("cx", "c0"))]
    if states[0] is None and states[1] is not None:
        raise UsageError(f"{path}: holds cx without hx: expected both, or neither")
    return states[0] if states[1] is None else tuple(states)


def load_returned(path: str) -> Any:
    """Load what came back; of a file with more than that, what a layer returns."""
    held = load(path)
    if not isinstance(held, Mapping) or not set(held) & set(RETURNED_NAMES):
        return held
    gradients = [name for name in held if str(name).endswith(".grad") and name not in COTANGENTS]
    return {name: held[name] for name in (*RETURNED_NAMES, *gradients) if name in held}


def load_cotangents(path: str) -> dict[str, Any]:
    """Return the gradients of the loss by outputs that a file holds beside x."""
    held = load(path)
    return {name: held[name] for name in COTANGENTS if name in held} if isinstance(held, Mapping) else {}


def _of_a_case(name: str, names: tuple[str, ...]) -> bool:
    return name in names or name.endswith((".tolerance", ".grad"))


def load(path: str) -> Any:
    """Load a file: an array, nested lists of numbers, or several of these by name.

    Its suffix tells its format: ``.npy``, ``.npz``, ``.safetensors`` or ``.json``. Any other is what ``torch.save``
    wrote.

    Raises ``UsageError`` if nothing can be read. No file can run code, or be larger than ``MOST_ARRAY_BYTES`` when
    unpacked.
    """
    try:
        return _loaded(path)
    except UsageError:
        raise
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except Exception as error:  # noqa: BLE001 - unpacking an unknown file may raise anything
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):  # a class that torch does not allow
            raise UsageError(
                f"{path}: holds more than tensors, such as a whole module, which could run code when it is read:"
                " expected what torch.save(model.state_dict(), ...) wrote"
            ) from None
        # torch and NumPy advise to read the file in a way in which it can run code: that is left out.
        reason = f"{type(error).__name__}: {error}".partition("\n")[0].partition(" In PyTorch")[0]
        reason = "a pickle, or no file of NumPy's" if "allow_pickle" in reason or "unsafely" in reason else reason
        raise UsageError(
            f"{path}: expected what np.save or np.savez wrote, or torch.save(model.state_dict(), ...) ({reason})"
        ) from None


def _loaded(path: str) -> Any:
    """Load a file. Raise whatever NumPy and torch raise, or ``UsageError`` for what they are not to be asked."""
    size_of(path, MOST_ARRAY_BYTES)
    if Path(path).suffix == ".safetensors":
        return safetensors_file.read(Path(path))
    if Path(path).suffix == ".json":
        return _of_json(Path(path))
    of_numpy = Path(path).suffix in {".npy", ".npz"}
    _require_small(path, of_numpy=of_numpy)
    if of_numpy:
        return read_npz(path) if zipfile.is_zipfile(path) else np.load(path, allow_pickle=False)
    import torch

    with warnings.catch_warnings(action="ignore"):  # of what else the file may hold
        held = torch.load(path, map_location="cpu", weights_only=True)
    _require_tensors(path, held)
    return held


def _require_small(path: str, *, of_numpy: bool) -> None:
    """Raise ``UsageError`` for an archive that is large when unpacked, and for tensors that are in no archive."""
    if not zipfile.is_zipfile(path):
        if not of_numpy and Path(path).stat().st_size:
            raise UsageError(f"{path}: expected what np.save or np.savez wrote, or torch.save(model.state_dict(), ...)")
        return
    require_archive(path)
    with zipfile.ZipFile(path) as archive:
        pickles = sum(part.file_size for part in archive.infolist() if part.filename.endswith(".pkl"))
    if pickles > PICKLE:
        raise UsageError(f"{path}: holds {pickles:,} bytes, expected at most {PICKLE:,}")


def _require_tensors(path: str, held: Any) -> None:
    """Raise ``UsageError`` for lists of lists, and for tensors that are large when they are copied, as views can be."""
    values = [*held.values()] if isinstance(held, Mapping) else held if isinstance(held, list | tuple) else [held]
    if any(isinstance(value, list | tuple | Mapping) for value in values):
        raise UsageError(f"{path}: expected a tensor, or several by name")
    size = sum(math.prod(value.shape) * value.element_size() for value in values if hasattr(value, "element_size"))
    if size > MOST_ARRAY_BYTES:
        raise UsageError(f"{path}: holds {size:,} bytes, expected at most {MOST_ARRAY_BYTES:,}")


def _of_json(path: Path) -> Any:
    """Return nested lists of numbers, or an array of ``{"dtype", "shape", "data"}``, or several of these by name."""
    try:
        held = parsed(read_bytes(path, MOST_WRITTEN))
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{path}: is no JSON ({error})") from None
    return _in_json(path, "", held, DEEPEST)


def _in_json(path: Path, name: str, held: Any, depth: int) -> Any:
    if isinstance(held, dict) and "data" not in held and depth:
        return {key: _in_json(path, key, value, depth - 1) for key, value in held.items()}
    where = f"{path}: {name[:80]!r}" if name else f"{path}: its content"
    if isinstance(held, dict):
        try:
            return np.array(held["data"], JSON_DTYPES[held.get("dtype", "float64")]).reshape(held["shape"])
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            expected = '{"dtype": "float32", "shape": [2, 3], "data": [...]}, or nested lists'
            raise UsageError(f"{where} is no array ({reason}): expected {expected}") from None
    expected = "expected nested lists of numbers, on each level of one length"
    if not isinstance(held, list):
        raise UsageError(f"{where} is {str(held)[:40]!r}: {expected}")
    try:
        kind = np.array(held).dtype.kind
    except ValueError:  # lists of several lengths, or too deep
        raise UsageError(f"{where} is no array, because its lists differ in length or depth: {expected}") from None
    if kind not in "biuf":
        raise UsageError(f"{where} holds more than numbers: {expected}")
    return held
