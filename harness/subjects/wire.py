"""wire: the protocol by which a program in any language is asked for cases; docs/other-languages.md describes it.

A message is a header, which is one line of JSON, and then the arrays that the header names, as raw little-endian
numbers. Nothing here starts a program or waits for one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final, NoReturn

import ml_dtypes
import numpy as np

from harness.space.case import Array
from harness.space.config import RNNConfig
from harness.space.conformance_profile import PORT, PROFILE_WORDS
from harness.space.errors import UsageError
from harness.space.factor_table import DTYPES, lacking
from harness.space.outcome import Failure, Outcome, legible
from harness.space.scope import Scope
from harness.subjects.conventions import Conventions
from harness.subjects.function import FUNCTION_ARGUMENTS, OPENS, USUAL_ARGUMENTS
from harness.subjects.run_user_code import Failed, Malformed

PROTOCOL_VERSION: Final = 1  # The version of the protocol, which a greeting names

# The most bytes of a header. One that names all gradients of five layers in two directions has 3,000.
LONGEST_HEADER: Final = 2**20

ANSWER_ROOM: Final = 16
"""The number of times the expected bytes that an answer may have, so that a wrong shape or dtype can be told of, which
takes up to 8 times as many in complex128 instead of float16. What is larger is refused before it is read."""

UNSENT: Final = lacking("sent")  # The fields of a config that mean nothing to a program
_SHOWN: Final = 80  # The number of characters of a wrong text that an error repeats

# The first line that a program writes, in words.
GREETING: Final = f'a greeting, one line of JSON such as {{"protocol": {PROTOCOL_VERSION}}}'

_ANSWER: Final = (
    'one line of JSON: {"arrays": {"output": [...], "h_n": [...]}} with the shapes, {"unsupported": "why"} or'
    ' {"error": "what"}; print anything else to standard error'
)


@dataclass(frozen=True)
class Greeting:
    """The line that a program writes when it starts: what it takes and offers."""

    # The arguments that a function would take, by which the space that is asked for is chosen.
    takes: tuple[str, ...] = USUAL_ARGUMENTS
    offers: Mapping[str, Any] = field(default_factory=dict)
    profile: str = PORT
    conventions: Conventions = field(default_factory=Conventions)
    software: str = ""  # The software that the program computes with, in its own words

    @classmethod
    def of(cls, line: bytes) -> Greeting:
        """Parse a greeting. Raise ``UsageError`` for what is none."""
        said = _object(line)
        if said is None:
            raise UsageError(f"said {_told(line)}, expected {GREETING}")
        if "error" in said:
            raise UsageError(" ".join(str(said["error"]).split()))
        if said.get("protocol") != PROTOCOL_VERSION:
            raise UsageError(f"protocol={said.get('protocol')!r}: expected {PROTOCOL_VERSION}, in {GREETING}")
        takes, offers = said.get("takes", []), said.get("offers", {})
        if not isinstance(takes, list) or not all(isinstance(one, str) and one in FUNCTION_ARGUMENTS for one in takes):
            raise UsageError(f"takes={takes!r}: expected a list of some of {', '.join(OPENS)}")
        profile, software = said.get("profile", PORT), said.get("software", "")
        if profile not in PROFILE_WORDS:
            raise UsageError(f"profile={profile!r}: expected {' or '.join(PROFILE_WORDS)}")
        if not isinstance(software, str):
            raise UsageError(f"software={software!r}: expected text, such as a name and a version")
        if not isinstance(offers, dict):
            raise UsageError(f'offers={offers!r}: expected an object such as {{"dtype": ["float64"]}}')
        conventions = Conventions.of(said.get("conventions", []))
        values = {name: tuple(of) if isinstance(of, list) else of for name, of in offers.items()}
        Scope().only(**values)  # raises UsageError for a factor that does not exist
        if len(conventions.form.hidden) > 1 and set(takes) <= OPENS.keys():  # its states are h0 and c0
            takes = [*takes, *["c0"] * ("c0" not in takes)]
        if set(takes) <= OPENS.keys():  # only the worker names the others, of a function that does not take them all
            takes = [*USUAL_ARGUMENTS, *takes]
        return cls(tuple(takes), values, profile, conventions, legible(software, 200))


def request(given: Mapping[str, Any]) -> bytes:
    """Return the message that asks for a case; ``given`` is what a function would be given (``function.GIVEN``)."""
    config: RNNConfig = given["config"]
    states = {name: given[name] for name in ("h0", "c0") if name in given}
    arrays = {"x": given["x"], **states, **given["weights"], **(given.get("cotangents") or {})}
    for layer, mask in enumerate(given.get("masks") or ()):
        arrays[f"mask_l{layer}"] = mask.astype(config.dtype)
    raw = [_little(array).tobytes() for array in arrays.values()]
    fields = {name: value for name, value in config.fields.items() if name not in UNSENT}
    shapes = {name: array.shape for name, array in arrays.items()}
    header = {"cell": config.cell.lower(), **fields, "arrays": shapes, "bytes": sum(map(len, raw))}
    return b"".join([json.dumps(header).encode(), b"\n", *raw])


@dataclass(frozen=True)
class Header:
    """The header of an answer with arrays: their shapes and their dtypes by name."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype[Any]]

    @classmethod
    def of(cls, line: bytes, config: RNNConfig) -> Header:
        """Parse the header of an answer.

        Raises ``NotImplementedError`` for a refusal, ``Failed`` for an error that is reported, and ``Malformed`` for
        what is no answer, or one that is too large for the config.
        """
        said = _object(line)
        if said is None:
            _refuse(_told(line), _ANSWER)
        if "unsupported" in said:
            raise NotImplementedError(str(said["unsupported"]))
        if "error" in said:
            kind, traceback = str(said.get("kind", "RuntimeError")), str(said.get("traceback", ""))
            message = f"{kind}: {said['error']}"
            raise Failed(Outcome(failure=Failure.RAISED, message=message, traceback=traceback, classes=(kind,)))
        if "malformed" in said:
            raise Failed(Outcome(failure=Failure.MALFORMED, message=str(said["malformed"])))
        shapes, dtype = said.get("arrays"), said.get("dtype", config.dtype)
        if not isinstance(shapes, dict):
            _refuse(_told(line), _ANSWER)
        for name, shape in shapes.items():
            if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
                _refuse(f"{name} of shape {shape!r}", "a list of sizes")
        dtypes = {name: _dtype(dtype.get(name) if isinstance(dtype, dict) else dtype) for name in shapes}
        found = cls({name: tuple(shape) for name, shape in shapes.items()}, dtypes)
        every = config.returned.values()
        most = ANSWER_ROOM * max(sum(spec.size for spec in every), 1) * dtype_named(config.dtype).itemsize
        if found.size > most:
            _refuse(f"{found.size:,} bytes", f"about {most // ANSWER_ROOM:,}")
        return found

    @property
    def size(self) -> int:
        """The number of bytes that follow."""
        return sum(prod(shape) * self.dtypes[name].itemsize for name, shape in self.shapes.items())

    def arrays(self, raw: bytes) -> dict[str, Array]:
        """Return the arrays in the bytes that followed."""
        found: dict[str, Array] = {}
        start = 0
        for name, shape in self.shapes.items():
            found[name] = _little(np.frombuffer(raw, self.dtypes[name], prod(shape), start).reshape(shape))
            start += found[name].nbytes
        return found


def returned(arrays: Mapping[str, Array], config: RNNConfig) -> tuple[Any, ...] | Array:
    """Return arrays by name as a function returns them. Raise ``Malformed`` if their names are not a layer's."""
    gradients = {name: array for name, array in arrays.items() if name.endswith(".grad")}
    names = {name for name in arrays if name not in gradients}
    final = config.form.final
    if config.output_size is None:
        fit: list[tuple[str, ...]] = [("output", *final), final]
    else:
        fit = [("readout", *final), ("output", *final, "readout"), ("readout",)]
    order = next((one for one in fit if names == set(one)), None)
    if order is None:
        wanted = " or ".join(", ".join(one) for one in fit)
        _refuse(f"arrays {', '.join(arrays) or 'of no name'}", f"{wanted}, and gradients such as x.grad")
    if not gradients:
        return arrays[order[0]] if len(order) == 1 else tuple(arrays[name] for name in order)
    return (*(arrays[name] for name in order), gradients)


def dtype_named(name: str) -> np.dtype[Any]:
    """Return a dtype by its name; NumPy does not know all."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def _dtype(name: Any) -> np.dtype[Any]:
    """Return a dtype of numbers by its name. Raise ``Malformed`` if there is none."""
    found = None
    with suppress(TypeError, ValueError):
        found = dtype_named(name) if isinstance(name, str) else None
    if found is None or not (found.kind in "fiubc" or name == "bfloat16"):
        _refuse(f"dtype {name!r}", f"one of {', '.join(DTYPES)}")
    return found


def _little(array: Array) -> Array:
    """Return an array in little-endian order, or back from it."""
    return array.byteswap() if sys.byteorder == "big" else array


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(found: str, expected: str) -> NoReturn:
    raise Malformed(f"answered {found}, expected {expected}")


def _told(line: bytes) -> str:
    return repr(legible(line.decode(errors="replace").rstrip("\n"), _SHOWN))
