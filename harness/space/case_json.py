"""A case as JSON that people can read, compare and edit; it is exact, and holds data only."""

import json
import os
from collections.abc import Mapping
from functools import partial
from itertools import chain
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from harness.space.case import Array, Case, CaseError, ValuesOrigin
from harness.space.config import ArraySpec, RNNConfig
from harness.space.errors import UsageError
from harness.space.factor_table import ConfigError
from harness.space.reading import parsed, read_bytes
from harness.space.scope import MOST_LAYERS
from harness.space.values import draw

CASE_JSON_VERSION: Final = 1  # The version of the JSON form; a file with a higher one is refused

# The values that JSON has no numbers for, by the strings that stand for them.
_NON_FINITE: Final = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}

_KEYS: Final = {"format", "config", "origin", "arrays", "notes"}
_REQUIRED: Final = ("format", "config", "arrays")
_SHOWN: Final = 40  # The number of characters of a wrong value that an error repeats


def to_json(case: Case, /, **notes: Any) -> str:
    """Return the case as JSON text that ``from_json`` reads back bit for bit, except for the payload of a NaN.

    A number is written as a short text that rounds to it in its dtype. ``notes`` are plain data. Raises
    ``ValueError`` if they hold a number that JSON does not have.
    """
    origin = None if case.origin is None else case.origin._asdict()
    return (
        _object(
            {
                "format": _dumped(CASE_JSON_VERSION),
                "config": _object({name: _dumped(value) for name, value in case.config.to_dict().items()}, "  "),
                "origin": _dumped(origin),
                "arrays": _object({name: _laid_out(array) for name, array in case.arrays.items()}, "  "),
                "notes": _object({name: _dumped(value) for name, value in notes.items()}, "  "),
            },
            "",
        )
        + "\n"
    )


def from_json(text: str | bytes, source: str | os.PathLike[str] = "case.json") -> tuple[Case, dict[str, Any]]:
    """Return the case in a JSON text and its notes; errors call the text ``source``.

    ``origin`` and ``notes`` may be missing. An origin that does not draw these numbers, because somebody edited them,
    is left out. Raises ``CaseError`` for text that is not a case, and says where it is wrong and what was expected.
    """
    return _CaseReader(os.fspath(source)).case(text)


def load_json(path: str | os.PathLike[str]) -> tuple[Case, dict[str, Any]]:
    """Return the case in a file, and its notes. Raise ``CaseError`` if the file is missing or holds no case."""
    try:
        text = read_bytes(path)
    except UsageError as error:
        raise CaseError(str(error)) from None
    return from_json(text, path)


def _dumped(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _object(fields: Mapping[str, str], indent: str) -> str:
    """Format an object of values that are JSON already, one line per field."""
    lines = ",\n".join(f"{indent}  {json.dumps(name)}: {value}" for name, value in fields.items())
    return f"{{\n{lines}\n{indent}}}" if fields else "{}"


def _laid_out(array: Array) -> str:
    """Format an array as nested lists: each innermost row on its own line; an array with a single row is one line."""
    return _lines(_readable(array), array.ndim if array.size > array.shape[-1] else 1, "    ")


def _lines(value: list[Any], depth: int, indent: str) -> str:
    if depth == 1:
        return _dumped(value)
    inner = f"{indent}  "
    rows = ",\n".join(inner + _lines(row, depth - 1, inner) for row in value)
    return f"[\n{rows}\n{indent}]"


def _readable(array: Array) -> Any:
    """Return the array as nested lists of floats that have short texts and round to its numbers."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        exact = array.astype(np.float64)
        if array.dtype != np.float64:
            # The shortest text of a float32 is not always one whose nearest float64 rounds back to it.
            short = np.array([float(str(number)) for number in array.ravel()]).reshape(array.shape)
            exact = np.where(short.astype(array.dtype) == array, short, exact)
    if np.isfinite(exact).all():
        return exact.tolist()
    mixed = exact.astype(object)
    mixed[np.isnan(exact)] = "NaN"
    mixed[np.isposinf(exact)] = "Infinity"
    mixed[np.isneginf(exact)] = "-Infinity"
    return mixed.tolist()


class _CaseReader:
    """A reader of one file, whose name begins every error."""

    def __init__(self, source: str) -> None:
        self._source = source

    def case(self, text: str | bytes) -> tuple[Case, dict[str, Any]]:
        document = self._document(text)
        notes = document.get("notes", {})
        if not isinstance(notes, dict):
            self._refuse(f"notes: {_shown(notes)}, expected an object")
        config = self._config(document["config"], document["arrays"])
        arrays, origin = self._arrays(config, document["arrays"]), self._origin(document.get("origin"))
        build = partial(Case.from_arrays, config, arrays)
        try:
            case = build(origin=origin)
        except CaseError as error:
            self._refuse(str(error))
        return (case if origin is None or _draws(origin, case) else build(origin=None)), notes

    def _refuse(self, message: str) -> NoReturn:
        raise CaseError(f"{self._source}: {message}")

    def _document(self, text: str | bytes) -> dict[str, Any]:
        try:
            document = parsed(
                text, parse_int=_integer, parse_constant=self._constant, object_pairs_hook=self._without_duplicates
            )
        except CaseError:
            raise
        except ValueError as error:
            self._refuse(f"not JSON: {error}")
        if not isinstance(document, dict):
            self._refuse(f"{_shown(document)}, expected a case: an object of {', '.join(sorted(_KEYS))}")
        for name in _REQUIRED:
            if name not in document:
                self._refuse(f"no {name!r}; expected a case: an object of {', '.join(sorted(_KEYS))}")
        version = document["format"]
        if type(version) is not int or not 1 <= version <= CASE_JSON_VERSION:
            self._refuse(f"case format {_shown(version)}, but this version reads formats up to {CASE_JSON_VERSION}")
        if unknown := sorted(set(document) - _KEYS):
            self._refuse(f"unknown {', '.join(map(repr, unknown))}; expected some of {', '.join(sorted(_KEYS))}")
        return document

    def _constant(self, text: str) -> NoReturn:
        self._refuse(f'{text} is no JSON; expected the string "{text}"')

    def _without_duplicates(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            self._refuse(f"{_shown(twice)} is there twice; expected every name once")
        return fields

    def _config(self, fields: Any, arrays: Any) -> RNNConfig:
        for name, value in (("config", fields), ("arrays", arrays)):
            if not isinstance(value, dict):
                self._refuse(f"{name}: {_shown(value)}, expected an object")
        layers = fields.get("num_layers")
        if isinstance(layers, int) and layers > (len(arrays) or MOST_LAYERS):  # before so many shapes are derived
            self._refuse(f"arrays: {len(arrays)} of them, too few for num_layers={layers}")
        try:
            return RNNConfig.from_dict(fields)
        except (ConfigError, TypeError) as error:
            self._refuse(f"config: {error}")

    def _arrays(self, config: RNNConfig, arrays: dict[str, Any]) -> dict[str, Array]:
        specs = config.given
        if missing := [name for name in specs if name not in arrays]:
            self._refuse(f"arrays: no {', '.join(missing)}; expected {', '.join(specs)}")
        if unknown := [name for name in arrays if name not in specs]:
            self._refuse(f"arrays: unknown {', '.join(map(_shown, unknown))}; expected {', '.join(specs)}")
        return {name: self._array(name, arrays[name], spec, config) for name, spec in specs.items()}

    def _array(self, name: str, value: Any, spec: ArraySpec, config: RNNConfig) -> Array:
        shape, axes, dtype = spec.shape, spec.axes, np.dtype(config.dtype)
        flat = [value]
        for axis, (size, letter) in enumerate(zip(shape, axes, strict=True)):
            for i, row in enumerate(flat):
                if type(row) is not list or len(row) != size:
                    what = f"a list of {len(row)}" if isinstance(row, list) else _shown(row)
                    self._refuse(f"{_place(name, i, shape[:axis])}: {what}, expected a list of {size} ({letter})")
            flat = list(chain.from_iterable(flat))
        return self._numbers(name, flat, shape, dtype).reshape(shape)

    def _numbers(self, name: str, flat: list[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        words: dict[int, float] = {}
        if not set(map(type, flat)) <= {float, int}:
            for i, value in enumerate(flat):
                if isinstance(value, str) and value in _NON_FINITE:
                    words[i], flat[i] = _NON_FINITE[value], 0.0
                elif type(value) not in {float, int}:
                    expected = ", ".join(map(json.dumps, _NON_FINITE))
                    self._refuse(f"{_place(name, i, shape)}: {_shown(value)}, expected a number or one of {expected}")
        doubles: NDArray[np.float64] = np.array(flat, np.float64)
        with np.errstate(over="ignore", under="ignore"):
            numbers: Array = doubles.astype(dtype)
            if not np.isfinite(numbers).all():
                first = int(np.argmin(np.isfinite(numbers)))
                self._refuse(f"{_place(name, first, shape)}: a number too large for {dtype}; expected a finite one")
            doubles[list(words)] = list(words.values())
            return doubles.astype(dtype)

    def _origin(self, data: Any) -> ValuesOrigin | None:
        if data is None:
            return None
        if not isinstance(data, dict) or set(data) != set(ValuesOrigin._fields):
            self._refuse(f"origin: {_shown(data)}, expected null or an object of {' and '.join(ValuesOrigin._fields)}")
        origin = ValuesOrigin(**data)
        if not isinstance(origin.distribution, str) or type(origin.seed) is not int or origin.seed < 0:
            self._refuse(f"origin: {_shown(data)}, expected a distribution's name and a seed, an int of at least 0")
        return origin


def _integer(text: str) -> float:
    """Parse an int; a negative zero and a number too long for an int become floats."""
    return float(text) if text == "-0" or len(text) > 300 else int(text)


def _draws(origin: ValuesOrigin, case: Case) -> bool:
    """Return whether the case has the values that its origin draws; the payload of a NaN does not count."""
    try:
        drawn = draw(case.config, *origin).arrays
    except UsageError:
        return False
    return all(_same(array, drawn[name]) for name, array in case.arrays.items())


def _same(a: Array, b: Array) -> bool:
    if a.tobytes() == b.tobytes():
        return True
    with np.errstate(invalid="ignore"):  # a signalling NaN
        nan, others = np.isnan(a), np.isnan(b)
    return bool(np.array_equal(nan, others) and a[~nan].tobytes() == b[~nan].tobytes())


def _place(name: str, index: int, shape: tuple[int, ...]) -> str:
    """Return the place of an element of a flattened array: ``x[2][0]``."""
    return f"arrays: {name}" + "".join(f"[{i}]" for i in (np.unravel_index(index, shape) if shape else ()))


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
