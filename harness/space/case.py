"""Case: a config with concrete arrays, which is everything needed to run it once, exactly, on any machine."""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.space.atomic import atomic_write
from harness.space.config import RNNConfig
from harness.space.errors import UsageError, require_type
from harness.space.reading import parsed, read_npz

Array = NDArray[Any]

CASE_FILE_VERSION: Final = 2  # The version of the file format; a file with a higher one is refused

LARGE_CASE: Final = 2**20
"""The most numbers of a case that a script or a test writes out: 20 MB of text. A search meets more in wide layers: in
6,600 cases the most were 1.7 million, nearly all of them weights.
"""

# Dtypes of ml_dtypes that NumPy knows by name once ml_dtypes is imported, but does not keep in its files.
_WIDENED: Final = (ml_dtypes.bfloat16.__name__,)

_INLINE: Final = 48
"""The count of numbers that a repr still writes out in full although it could name the seed: about three lines of text.
"""


# The smallest array that is written by its entries if most are zero; a smaller one is read at a glance.
_SPARSE: Final = 8


class CaseError(UsageError):
    """Arrays that do not fit their config, or a file that does not hold a case."""


class ValuesOrigin(NamedTuple):
    """The source of a case's values: ``values.draw(config, distribution, seed)``."""

    distribution: str
    seed: int


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """One config and its arrays, in the shapes, order and dtype that the config derives; all arrays are read-only.

    ``x`` is (T, N, I), or (N, T, I) if batch_first. ``hx`` is (L*D, N, H), or ``None`` if the config passes none; an
    LSTM's ``cx`` is like it. With a projection, ``hx`` is (L*D, N, P).
    ``weights`` maps every parameter's name to its array, and ``cotangents`` the name of each gradient that a loss gives
    to its array. Without a batch axis, N is left out of every shape. Raises ``CaseError`` if an array does not fit.

    ``masks`` do not belong to the case itself but to one run of it: what dropout kept of each inner layer's output (T,
    N, D*H or D*P), time first, by layer.
    """

    config: RNNConfig
    x: Array
    hx: Array | None
    weights: Mapping[str, Array]
    origin: ValuesOrigin | None = None
    cotangents: Mapping[str, Array] = field(default_factory=dict)
    masks: Mapping[int, Array] = field(default_factory=dict)
    cx: Array | None = None

    def __post_init__(self) -> None:
        require_type("config", self.config, RNNConfig, "RNNConfig(input_size, hidden_size) makes one")
        for name in ("weights", "cotangents"):
            require_type(name, getattr(self, name), Mapping, "arrays by name")
        for name in ("hx", "cx"):
            present, expected = getattr(self, name) is not None, name in self.config.hidden
            if present != expected:
                says = f"hx={self.config.hx}" if name == "hx" else f"hx={self.config.hx}, cell={self.config.cell!r}"
                raise CaseError(f"{name} is {'' if present else 'not '}given, but the config says {says}")
        if list(self.weights) != list(self.config.weights):
            raise CaseError(f"weights are {list(self.weights)}, expected {list(self.config.weights)} in this order")
        if list(self.cotangents) != list(self.config.cotangents):
            raise CaseError(f"cotangents are {list(self.cotangents)}, expected {list(self.config.cotangents)}")
        dtype, arrays, expanded = np.dtype(self.config.dtype), self.arrays, self.config.strides == "expanded"
        for name, spec in self.config.given.items():
            array = arrays[name]
            if not isinstance(array, np.ndarray) or array.shape != spec.shape or array.dtype != dtype:
                raise CaseError(f"{name} is {_describe(array)}, expected {dtype} {spec.shape} = {spec.axes}")
            if expanded and name not in self.weights and not _expanded(array, name):
                raise CaseError(f"{name} varies along its first axis: strides='expanded' requires one value there")
        g = self.cotangents.get("readout.grad")
        if g is not None and self.config.lengths is not None and g[padding(self.config)].any():
            raise CaseError("readout.grad is not zero in the padding, which has no readout")
        for name in self.config.inputs:
            object.__setattr__(self, name, _read_only(arrays[name]))
        for part in ("weights", "cotangents"):
            object.__setattr__(self, part, {name: _read_only(arrays[name]) for name in getattr(self, part)})

    @classmethod
    def of(
        cls, config: RNNConfig, x: Any, hx: Any = None, *, origin: ValuesOrigin | None = None, **others: Any
    ) -> Case:
        """Build a case from anything NumPy can turn into arrays; a case's repr is such a call.

        A dot in a name is an underscore here: ``readout_weight``, ``output_grad``.
        """
        require_type("config", config, RNNConfig, "RNNConfig(input_size, hidden_size) makes one")

        def array(value: Any, name: str) -> Array:
            try:
                return np.array(value, config.dtype)
            except (TypeError, ValueError, OverflowError) as error:
                raise CaseError(f"{name}={reprlib.repr(value)}: expected numbers ({error})") from None

        dotted = {name.replace(".", "_"): name for name in (*config.weights, *config.cotangents)}
        named = {dotted.get(name, name): array(value, name) for name, value in others.items()}
        cotangents = {name: named.pop(name) for name in config.cotangents if name in named}
        cx = named.pop("cx", None)
        return cls(config, array(x, "x"), None if hx is None else array(hx, "hx"), named, origin, cotangents, cx=cx)

    @classmethod
    def from_arrays(
        cls,
        config: RNNConfig,
        arrays: Mapping[str, Array],
        origin: ValuesOrigin | None = None,
        masks: Mapping[int, Array] | None = None,
    ) -> Case:
        """Build a case from arrays by name, as ``arrays`` gives them; arrays that are not the config's are left out."""
        require_type("config", config, RNNConfig, "RNNConfig(input_size, hidden_size) makes one")
        require_type("arrays", arrays, Mapping, "it is a dict of arrays by name")
        try:
            weights, cotangents = (
                {name: arrays[name] for name in names} for names in (config.weights, config.cotangents)
            )
            inputs: Mapping[str, Any] = {name: arrays[name] for name in config.inputs}
        except KeyError as missing:
            raise CaseError(f"arrays: no {missing}; expected {', '.join(config.given)}") from None
        hx, cx = (inputs.get(name) for name in ("hx", "cx"))
        return cls(config, inputs["x"], hx, weights, origin, cotangents, masks or {}, cx)

    @property
    def arrays(self) -> dict[str, Array]:
        """Every array by name: ``x``, the initial states if given, the weights, the cotangents."""
        return {**{name: getattr(self, name) for name in self.config.inputs}, **self.weights, **self.cotangents}

    @property
    def id(self) -> str:
        """Eight hex digits that identify this case: the same config and bits give the same id."""
        return self.digest.hex()[:8]

    @property
    def digest(self) -> bytes:
        """The whole digest, which no other case has: where a mistaken identity would be believed."""
        digest = hashlib.sha256(repr(self.config).encode())
        for array in self.arrays.values():
            digest.update(array.tobytes())
        return digest.digest()

    @property
    def is_large(self) -> bool:
        """True if its numbers are too many for a script or a test."""
        return sum(spec.size for spec in self.config.given.values()) > LARGE_CASE

    @property
    def seed(self) -> int:
        """The seed for the random generator of dropout; prefixes of a stack share it because they share x."""
        return zlib.crc32(self.x.tobytes())

    def plain(self) -> Case:
        """Return the same computation called in the plainest way (``RNNConfig.plain``), with padding set to zero."""
        config, plain = self.config, self.config.plain
        if plain is config and config.lengths is None:
            return self
        with np.errstate(over="ignore"):
            arrays = {name: array.astype(plain.dtype) for name, array in as_plain(config, self.arrays).items()}
        return Case.from_arrays(plain, arrays, masks=self.masks)

    def forward(self) -> Case:
        """Return the case without its loss, which is what a forward pass sees."""
        if self.config.loss is None:
            return self
        config = self.config.replace(loss=None, wrt="all")
        return Case(config, self.x, self.hx, self.weights, masks=self.masks, cx=self.cx)

    def prefix(self, num_layers: int) -> Case:
        """Return the case of this stack's first ``num_layers`` layers, without the readout and without gradients."""
        config = self.config.prefix(num_layers)
        rows = num_layers * config.num_directions
        hx, cx = (None if array is None else array[:rows] for array in (self.hx, self.cx))
        masks = {layer: mask for layer, mask in self.masks.items() if layer < num_layers - 1}
        return Case(config, self.x, hx, {name: self.weights[name] for name in config.weights}, masks=masks, cx=cx)

    def save(self, path: str | os.PathLike[str], **notes: Any) -> None:
        """Write the case to an ``.npz`` file, exactly and atomically; ``notes`` (plain data) go into its header."""
        header = {"format": CASE_FILE_VERSION, "config": self.config.to_dict(), "origin": self.origin, "notes": notes}
        arrays = {name: _storable(array) for name, array in self.arrays.items()}
        with atomic_write(path, follow=True) as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Case:
        """Read back a case that ``save`` wrote, or a finding's ``case.json``. Raise ``CaseError`` if there is none."""
        if str(path).endswith(".json"):
            from harness.space.case_json import load_json  # which imports this module

            return load_json(path)[0]
        return load_with_notes(path)[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as one block of numbers, which costs a tenth of pickling each array; read-only again afterwards."""
        return _unpickled, (self.config, self.origin, b"".join(array.tobytes() for array in self.arrays.values()))

    def __repr__(self) -> str:
        """Return code that pastes back: the numbers if they are few or have no seed, else the seed that drew them."""
        if self.origin is not None and sum(spec.size for spec in self.config.given.values()) > _INLINE:
            return f"draw({self.config!r}, distribution={self.origin.distribution!r}, seed={self.origin.seed})"
        named = {name.replace(".", "_"): array for name, array in self.arrays.items()}
        shown = ", ".join(f"{name}={code_of(array)}" for name, array in named.items())
        return f"Case.of({self.config!r}, {shown})"


def sparse(shape: tuple[int, ...], entries: Mapping[tuple[int, ...], float]) -> NDArray[np.float64]:
    """Return zeros except for some entries, such as ``sparse((17, 17), {(16, 3): 1.0})``.

    A case's repr writes arrays that are mostly zero in this way.
    """
    require_type("entries", entries, Mapping, "numbers by index")
    try:
        array = np.zeros(shape)
    except (TypeError, ValueError):
        raise UsageError(f"shape={reprlib.repr(shape)}: expected a tuple of sizes") from None
    for index, value in entries.items():
        try:
            array[index] = value
        except (TypeError, ValueError, IndexError):
            raise UsageError(f"entries: {index!r}: {value!r}: expected a number at an index of {shape}") from None
    return array


def as_plain(config: RNNConfig, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return arrays that belong to a config in the shapes of its ``plain`` config; dtypes stay.

    Padding is set to zero, except in x's gradient, where the subject itself must return zero.
    """
    plain: dict[str, Array] = {}
    for name, array in arrays.items():
        base = name.removesuffix(".grad")
        if not config.batched and not base.startswith(("weight", "bias", "readout.")):
            array = array[:, None]
        if config.lengths is not None and name != "x.grad" and base in {"x", "output", "readout"}:
            array = np.where(padding(config)[..., None], array.dtype.type(0), array)
        plain[name] = array
    return plain


@lru_cache(64)
def padding(config: RNNConfig) -> NDArray[np.bool_]:
    """Return which steps of which sequences are padding, (T, N), or (N, T) if batch_first."""
    assert config.lengths is not None
    behind = np.arange(config.T)[:, None] >= np.array(config.lengths)
    return behind.T if config.batch_first else behind


def prescribe(config: RNNConfig, arrays: Mapping[str, Array]) -> None:
    """Set, in place, the numbers that a config prescribes in arrays that are not weights.

    With ``expanded`` strides an input has one value along its first axis, and a cotangent one value throughout, because
    a loss like output.sum() gives such a gradient. Otherwise padding in x is NaN, which must not reach any result. A
    readout's gradient is zero in padding, which the loss would otherwise read.
    """
    expanded = config.strides == "expanded"
    for name, array in arrays.items():
        if expanded and array.size and name in config.cotangents:
            array[...] = array.flat[0]
        elif expanded and array.size and name in config.inputs:
            array[...] = array[:1].copy()
    if config.lengths is not None and not expanded:
        arrays["x"][padding(config)] = np.nan
    if config.lengths is not None and "readout.grad" in arrays:
        arrays["readout.grad"][padding(config)] = 0


def _expanded(array: Array, name: str) -> bool:
    """Return whether an array is one value along its first axis; a gradient that a loss gives, one value throughout."""
    first = array.reshape(-1)[:1] if name.endswith(".grad") else array[:1]
    return np.broadcast_to(first, array.shape).tobytes() == array.tobytes() if array.size else True


def _unpickled(config: RNNConfig, origin: ValuesOrigin | None, numbers: bytes) -> Case:
    arrays: dict[str, Array] = {}
    start, dtype = 0, np.dtype(config.dtype)
    for name, spec in config.given.items():
        arrays[name] = np.frombuffer(numbers, dtype, spec.size, start).reshape(spec.shape)
        start += spec.size * dtype.itemsize
    return Case.from_arrays(config, arrays, origin)


def load_with_notes(path: str | os.PathLike[str]) -> tuple[Case, dict[str, Any]]:
    """Return the case in a file, and the notes that were saved with it."""
    try:
        arrays = read_npz(path)
    except UsageError as error:
        text = "not a case file; expected one that Case.save wrote"
        raise CaseError(str(error).replace("expected what np.savez wrote", text)) from None
    try:
        header = parsed(str(arrays.pop("header")))
    except (KeyError, ValueError):
        raise CaseError(f"{path}: not a case file; expected one that Case.save wrote") from None
    version = header.get("format") if isinstance(header, dict) else None
    if version not in range(1, CASE_FILE_VERSION + 1):
        raise CaseError(f"{path}: case format {version!r}, but this version reads formats up to {CASE_FILE_VERSION}")
    try:
        config = RNNConfig.from_dict(header["config"])
        if config.num_layers > max(len(arrays), 1):
            raise CaseError(f"{path}: {len(arrays)} arrays, expected those of num_layers={config.num_layers}")
        if config.dtype in _WIDENED:
            arrays = {name: array.astype(config.dtype) for name, array in arrays.items()}
        origin = None if header["origin"] is None else ValuesOrigin(*header["origin"])
        if ("hx" in arrays) != config.hx:
            raise CaseError(f"{path}: hx is {'not ' if config.hx else ''}given, but the config says hx={config.hx}")
        if missing := [name for name in config.given if name not in arrays]:
            raise CaseError(f"{path}: incomplete case file: no {', '.join(missing)}")
        return Case.from_arrays(config, arrays, origin), dict(header["notes"])
    except (KeyError, TypeError) as error:
        raise CaseError(f"{path}: incomplete case file: {error!r}") from None


def _storable(array: Array) -> Array:
    """Cast the array, exactly, to a dtype that NumPy's files know."""
    return array.astype(np.float32) if array.dtype.name in _WIDENED else array


def _read_only(array: Array) -> Array:
    """Return a view that cannot be written through; the caller's own array stays writable."""
    view = array.view()
    view.flags.writeable = False
    return view


def _describe(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def code_of(array: Array) -> str:
    """Return the array as nested lists, or by its nonzero entries if these are few of many; a -0 counts as nonzero."""
    set_bytes = np.frombuffer(array.tobytes(), np.uint8).reshape(array.size, array.itemsize)
    entries = np.argwhere(set_bytes.any(1).reshape(array.shape)) if array.size else np.empty((0, array.ndim))
    if array.size < _SPARSE or 2 * len(entries) > array.size:
        return _paste(array)
    shown = ", ".join(f"{tuple(map(int, index))}: {_paste(array[tuple(index)])}" for index in entries)
    return f"sparse({array.shape}, {{{shown}}})"


def _paste(array: Array) -> str:
    """Return the array as nested lists that ``Case.of`` reads back bit for bit."""
    if array.ndim:
        return f"[{', '.join(_paste(row) for row in array)}]" if array.size else f"np.zeros({array.shape})"
    value = float(array)
    if not np.isfinite(value):
        return f'float("{value}")'
    # float32's shortest text is not always a text whose float64 rounds back to it; if not, write the float64's. The
    # same is done if bfloat16's text is -0, which is an int and has no sign.
    short = str(array[()])
    return short if array.dtype.type(float(short)) == array and value else repr(value)
