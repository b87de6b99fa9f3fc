"""vector_files: cases as files, for where nothing can be called, and what came back of them.

A folder has ``index.json``, which names a file and gives the config of each case, smallest first, and these files. Each
holds what the layer is given, what is expected of it, and how far each element may be off.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.setting import Setting
from harness.space import safetensors_file
from harness.space.atomic import atomic_write
from harness.space.case import Array, Case, CaseError
from harness.space.cells import CELLS
from harness.space.config import RNNConfig
from harness.space.errors import UsageError
from harness.space.reading import read_npz
from harness.store.document import read as read_document

INDEX: Final = "index.json"
INDEX_VERSION: Final = 1  # The version of the index; a folder with a higher one is refused
TOLERANCE: Final = ".tolerance"  # The suffix in the name of an array's tolerances

_NAME: Final = re.compile(r"[A-Za-z0-9][\w-]*\.safetensors")
_UNBATCHED: Final = {"x", "hx", "cx", "output", "h_n", "c_n", "readout"}

FILE_STATES: Final = {"hx": "h0", "cx": "c0"}  # The names of initial states in a file


@dataclass(frozen=True)
class NamedCase:
    """A case, and the name of its file without the suffix."""

    name: str
    case: Case


def write(folder: Path, cases: Iterable[Case]) -> list[dict[str, Any]]:
    """Write cases into a folder, and return what its index says of each. Raise ``OSError`` if that is not possible."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)  # what is half written has no index
    listed = []
    for number, case in enumerate(cases, 1):
        name = f"{number:03}.safetensors"
        safetensors_file.write(folder / name, _arrays(case))
        listed.append({"file": name, "cell": case.config.cell.lower(), "config": case.config.to_dict()})
    lines = ",\n  ".join(map(json.dumps, listed))
    with atomic_write(folder / INDEX) as file:
        file.write(f'{{"format": {INDEX_VERSION}, "cases": [\n  {lines}\n]}}\n'.encode())
    return listed


def _arrays(case: Case) -> dict[str, Array]:
    config = case.config
    zeros = {name: np.zeros(spec.shape, config.dtype) for name, spec in config.replace(hx=True).inputs.items()}
    states = {FILE_STATES[name]: case.arrays.get(name, zeros[name]) for name in config.form.hidden}
    inputs = {"x": case.x, **states, **case.weights, **case.cotangents}
    with np.errstate(all="ignore"):
        expected = expect_whole_run(Setting.of(case.plain(), Arithmetic(config.dtype)))
    outputs: dict[str, Array] = {}
    for name, expectation in expected.items():
        alone = not config.batched and name.removesuffix(".grad") in _UNBATCHED
        for label, array in ((name, expectation.values), (f"{name}{TOLERANCE}", expectation.tolerance)):
            outputs[label] = np.ascontiguousarray((array[:, 0] if alone else array).astype(np.float64))
    return inputs | outputs


def read(folder: Path) -> list[NamedCase]:
    """Return the cases in a folder. Raise ``UsageError`` in one line if it has none, or names files outside."""
    index = folder / INDEX
    document = read_document(index)
    if document.get("format") != INDEX_VERSION:
        raise UsageError(f"{index}: format={document.get('format')!r}: expected {INDEX_VERSION}")
    listed = document.get("cases")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise UsageError(f"{index}: expected a list of cases, as `rnn-harness vectors` writes it")
    return [_read(folder, entry) for entry in listed]


def _read(folder: Path, about: dict[str, Any]) -> NamedCase:
    index, name = folder / INDEX, about.get("file")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{index}: file={str(name)[:80]!r}: expected the name of a file beside it, 001.safetensors")
    path = folder / name
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UsageError(f"{path}: expected a file, which leads nowhere else")
    cells = [cell.lower() for cell in CELLS]
    if about.get("cell") not in cells or not isinstance(about.get("config"), dict):
        raise UsageError(f"{index}: {name}: expected a cell, {', '.join(cells)}, and a config")
    arrays = safetensors_file.read(path)
    layers = about["config"].get("num_layers", 1)
    if isinstance(layers, int) and layers > len(arrays):  # before so many shapes are derived
        raise UsageError(f"{path}: {len(arrays)} arrays, too few for num_layers={layers}")
    try:
        config = RNNConfig.from_dict(about["config"])
        own = {name: arrays[FILE_STATES.get(name, name)] for name in config.given}
        case = Case.from_arrays(config, own)
    except KeyError as error:
        raise UsageError(f"{path}: no array {error}, which its config has") from None
    except (UsageError, CaseError, TypeError) as error:
        raise UsageError(f"{path}: {error}") from None
    if config.cell.lower() != about["cell"]:
        raise UsageError(f"{index}: cell={about['cell']!r}: expected {config.cell.lower()!r}, as its config has it")
    return NamedCase(Path(name).stem, case)


def results(folder: Path, vectors: Iterable[NamedCase]) -> Iterator[tuple[NamedCase, dict[str, Array] | None]]:
    """Yield each case with the arrays that came back of it, from ``NAME.safetensors`` or ``NAME.npz``, if any did.

    Raises ``UsageError`` for a file that holds no arrays.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected one with results, 001.safetensors or 001.npz")
    for vector in vectors:
        paths = [path for suffix in (".safetensors", ".npz") if (path := folder / f"{vector.name}{suffix}").is_file()]
        yield vector, _returned(paths[0], vector.case.config) if paths else None


def _returned(path: Path, config: RNNConfig) -> dict[str, Array]:
    """Return the arrays of a result that a layer of this config has."""
    arrays = safetensors_file.read(path) if path.suffix == ".safetensors" else read_npz(path)
    own = {name: array for name, array in arrays.items() if name in config.returned}
    if not own:
        held = ", ".join(list(arrays)[:10]) or "nothing"
        raise UsageError(f"{path}: holds {held}, expected some of {', '.join(config.returned)}")
    return own
