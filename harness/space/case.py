"""Case: a config with concrete arrays, which is everything needed to run it once, exactly, anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.space.atomic import atomic_write
from harness.space.config import ArraySpec, RNNConfig
from harness.space.errors import UsageError

Array = NDArray[Any]

FORMAT: Final = 1
"""Version of the file format; a file that says a higher one is refused, never guessed at."""

_INLINE: Final = 48
"""Numbers that a repr writes out in full when it could also name the seed: about three lines of text."""


class CaseError(UsageError):
    """Arrays that do not fit their config, or a file that holds no case."""


class Origin(NamedTuple):
    """Where a case's values came from: ``values.draw(config, regime, seed)``."""

    regime: str
    seed: int


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """One config and its arrays, in the shapes, order and dtype that the config derives; all are read-only.

    ``x`` is (T, N, I), or (N, T, I) if batch_first; ``hx`` is (L*D, N, H), or ``None`` where the config passes none;
    ``weights`` maps every parameter's name to its array. Raises ``CaseError`` where an array does not fit.
    """

    config: RNNConfig
    x: Array
    hx: Array | None
    weights: Mapping[str, Array]
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if (self.hx is not None) != self.config.hx:
            raise CaseError(f"hx is {'not ' if self.hx is None else ''}given, but the config says hx={self.config.hx}")
        if list(self.weights) != list(self.config.weights):
            raise CaseError(f"weights are {list(self.weights)}, expected {list(self.config.weights)} in this order")
        dtype = np.dtype(self.config.dtype)
        for name, spec in self.specs.items():
            array = self.arrays[name]
            if not isinstance(array, np.ndarray) or array.shape != spec.shape or array.dtype != dtype:
                raise CaseError(f"{name} is {_describe(array)}, expected {dtype} {spec.shape} = {spec.axes}")
        object.__setattr__(self, "x", _read_only(self.x))
        object.__setattr__(self, "hx", None if self.hx is None else _read_only(self.hx))
        object.__setattr__(self, "weights", {name: _read_only(array) for name, array in self.weights.items()})

    @classmethod
    def of(cls, config: RNNConfig, x: Any, hx: Any = None, *, origin: Origin | None = None, **weights: Any) -> Case:
        """A case from anything NumPy can turn into arrays; what a case's repr pastes back to.

        The readout's parameters, whose names are no identifiers, are ``readout_weight`` and ``readout_bias`` here.
        """
        array = partial(np.array, dtype=config.dtype)
        named = {name.replace("readout_", "readout."): array(value) for name, value in weights.items()}
        return cls(config, array(x), None if hx is None else array(hx), named, origin)

    @property
    def specs(self) -> dict[str, ArraySpec]:
        """The shape of every array, by name: the inputs, then the weights."""
        return {**self.config.inputs, **self.config.weights}

    @property
    def arrays(self) -> dict[str, Array]:
        """Every array by name: ``x``, ``hx`` where given, then the weights."""
        given = {"x": self.x} if self.hx is None else {"x": self.x, "hx": self.hx}
        return {**given, **self.weights}

    @property
    def id(self) -> str:
        """Eight hex digits that stand for this very case: same config and same bits, same id."""
        digest = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True).encode())
        for array in self.arrays.values():
            digest.update(array.tobytes())
        return digest.hexdigest()[:8]

    def prefix(self, num_layers: int) -> Case:
        """The case of this stack's first ``num_layers`` layers, without the readout."""
        config = self.config.prefix(num_layers)
        hx = None if self.hx is None else self.hx[: num_layers * config.num_directions]
        return Case(config, self.x, hx, {name: self.weights[name] for name in config.weights})

    def save(self, path: str | os.PathLike[str], **notes: Any) -> None:
        """Write the case to an ``.npz`` file, exactly and atomically; ``notes`` (plain data) go into its header."""
        header = {"format": FORMAT, "config": self.config.to_dict(), "origin": self.origin, "notes": notes}
        with atomic_write(path) as file:
            np.savez(file, header=np.array(json.dumps(header)), **self.arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Case:
        """Read back what ``save`` wrote. Raises ``CaseError`` where the file is missing or holds no case."""
        return load_with_notes(path)[0]

    def __repr__(self) -> str:
        """Pastes back: the numbers in full when they are few, else the seed that drew them (else in full again)."""
        if self.origin is not None and sum(spec.size for spec in self.specs.values()) > _INLINE:
            return f"draw({self.config!r}, regime={self.origin.regime!r}, seed={self.origin.seed})"
        named = {name.replace(".", "_"): array for name, array in self.arrays.items()}
        shown = ", ".join(f"{name}={_paste(array)}" for name, array in named.items())
        return f"Case.of({self.config!r}, {shown})"


def load_with_notes(path: str | os.PathLike[str]) -> tuple[Case, dict[str, Any]]:
    """The case in a file, and the notes that were saved with it."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(str(stored["header"]))
            arrays = {name: stored[name] for name in stored.files if name != "header"}
    except FileNotFoundError:
        raise CaseError(f"{path}: no such file") from None
    except (OSError, KeyError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile):
        raise CaseError(f"{path}: not a case file; expected one that Case.save wrote") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        raise CaseError(f"{path}: case format {found!r}, but this version reads format {FORMAT}")
    try:
        config = RNNConfig.from_dict(header["config"])
        weights = {name: arrays[name] for name in config.weights}
        origin = None if header["origin"] is None else Origin(*header["origin"])
        return Case(config, arrays["x"], arrays.get("hx"), weights, origin), dict(header["notes"])
    except (KeyError, TypeError) as error:
        raise CaseError(f"{path}: incomplete case file: {error!r}") from None


def _read_only(array: Array) -> Array:
    """A view that cannot be written through; the caller's own array stays as it was."""
    view = array.view()
    view.flags.writeable = False
    return view


def _describe(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _paste(array: Array) -> str:
    """An array as nested lists that ``Case.of`` reads back bit for bit."""
    if array.ndim:
        return f"[{', '.join(_paste(row) for row in array)}]" if array.size else f"np.zeros({array.shape})"
    value = float(array)
    if not np.isfinite(value):
        return f'float("{value}")'
    # float32's shortest text is not always the text whose float64 rounds back to it; then write the float64's.
    short = str(array[()])
    return short if array.dtype.type(float(short)) == array else repr(value)
