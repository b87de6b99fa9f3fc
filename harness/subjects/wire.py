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
from harness.subjects.run_user_code import FailedRunError, MalformedResultError

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
        message = _object(line)
        if message is None:
            raise UsageError(f"said {_quoted(line)}, expected {GREETING}")
        if "error" in message:
            raise UsageError(" ".join(str(message["error"]).split()))
        if message.get("protocol") != PROTOCOL_VERSION:
            raise UsageError(f"protocol={message.get('protocol')!r}: expected {PROTOCOL_VERSION}, in {GREETING}")
        takes, offers = message.get("takes", []), message.get("offers", {})
        if not isinstance(takes, list) or not all(isinstance(arg, str) and arg in FUNCTION_ARGUMENTS for arg in takes):
            raise UsageError(f"takes={takes!r}: expected a list of some of {', '.join(OPENS)}")
        profile, software = message.get("profile", PORT), message.get("software", "")
        if profile not in PROFILE_WORDS:
            raise UsageError(f"profile={profile!r}: expected {' or '.join(PROFILE_WORDS)}")
        if not isinstance(software, str):
            raise UsageError(f"software={software!r}: expected text, such as a name and a version")
        if not isinstance(offers, dict):
            raise UsageError(f'offers={offers!r}: expected an object such as {{"dtype": ["float64"]}}')
        conventions = Conventions.of(message.get("conventions", []))
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in offers.items()}
        Scope().only(**values)  # raises UsageError for a factor that does not exist
        if len(conventions.form.hidden) > 1 and set(takes) <= OPENS.keys():  # its states are h0 and c0
            takes = [*takes, *["c0"] * ("c0" not in takes)]
        if set(takes) <= OPENS.keys():  # only the worker names the others, of a function that does not take them all
            takes = [*USUAL_ARGUMENTS, *takes]
        return cls(tuple(takes), values, profile, conventions, legible(software, 200))


def request(arguments: Mapping[str, Any]) -> bytes:
    """Return the message that asks for a case; ``arguments`` are those of ``function.FUNCTION_ARGUMENTS``."""
    config: RNNConfig = arguments["config"]
    states = {name: arguments[name] for name in ("h0", "c0") if name in arguments}
    arrays = {"x": arguments["x"], **states, **arguments["weights"], **(arguments.get("cotangents") or {})}
    for layer, mask in enumerate(arguments.get("masks") or ()):
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

        Raises ``NotImplementedError`` for a refusal, ``FailedRunError`` for an error that is reported, and
        ``MalformedResultError`` for what is no answer, or one that is too large for the config.
        """
        answer = _object(line)
        if answer is None:
            _refuse(_quoted(line), _ANSWER)
        if "unsupported" in answer:
            raise NotImplementedError(str(answer["unsupported"]))
        if "error" in answer:
            kind, traceback = str(answer.get("kind", "RuntimeError")), str(answer.get("traceback", ""))
            message = f"{kind}: {answer['error']}"
            raise FailedRunError(Outcome(failure=Failure.RAISED, message=message, traceback=traceback, classes=(kind,)))
        if "malformed" in answer:
            raise FailedRunError(Outcome(failure=Failure.MALFORMED, message=str(answer["malformed"])))
        shapes, dtype = answer.get("arrays"), answer.get("dtype", config.dtype)
        if not isinstance(shapes, dict):
            _refuse(_quoted(line), _ANSWER)
        for name, shape in shapes.items():
            if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
                _refuse(f"{name} of shape {shape!r}", "a list of sizes")
        dtypes = {name: _dtype(dtype.get(name) if isinstance(dtype, dict) else dtype) for name in shapes}
        header = cls({name: tuple(shape) for name, shape in shapes.items()}, dtypes)
        every = config.returned.values()
        most = ANSWER_ROOM * max(sum(spec.size for spec in every), 1) * dtype_named(config.dtype).itemsize
        if header.size > most:
            _refuse(f"{header.size:,} bytes", f"about {most // ANSWER_ROOM:,}")
        return header

    @property
    def size(self) -> int:
        """The number of bytes that follow."""
        return sum(prod(shape) * self.dtypes[name].itemsize for name, shape in self.shapes.items())

    def arrays(self, raw: bytes) -> dict[str, Array]:
        """Return the arrays in the bytes that followed."""
        arrays: dict[str, Array] = {}
        start = 0
        for name, shape in self.shapes.items():
            arrays[name] = _little(np.frombuffer(raw, self.dtypes[name], prod(shape), start).reshape(shape))
            start += arrays[name].nbytes
        return arrays


def returned(arrays: Mapping[str, Array], config: RNNConfig) -> tuple[Any, ...] | Array:
    """Return arrays by name as a function returns them. Raise ``MalformedResultError`` if their names are wrong."""
    gradients = {name: array for name, array in arrays.items() if name.endswith(".grad")}
    names = {name for name in arrays if name not in gradients}
    final = config.form.final
    if config.output_size is None:
        fit: list[tuple[str, ...]] = [("output", *final), final]
    else:
        fit = [("readout", *final), ("output", *final, "readout"), ("readout",)]
    order = next((way for way in fit if names == set(way)), None)
    if order is None:
        wanted = " or ".join(", ".join(way) for way in fit)
        _refuse(f"arrays {', '.join(arrays) or 'of no name'}", f"{wanted}, and gradients such as x.grad")
    if not gradients:
        return arrays[order[0]] if len(order) == 1 else tuple(arrays[name] for name in order)
    return (*(arrays[name] for name in order), gradients)


def dtype_named(name: str) -> np.dtype[Any]:
    """Return a dtype by its name; NumPy does not know all."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def _dtype(name: Any) -> np.dtype[Any]:
    """Return a dtype of numbers by its name. Raise ``MalformedResultError`` if there is none."""
    dtype = None
    with suppress(TypeError, ValueError):
        dtype = dtype_named(name) if isinstance(name, str) else None
    if dtype is None or not (dtype.kind in "fiubc" or name == "bfloat16"):
        _refuse(f"dtype {name!r}", f"one of {', '.join(DTYPES)}")
    return dtype


def _little(array: Array) -> Array:
    """Return an array in little-endian order, or back from it."""
    return array.byteswap() if sys.byteorder == "big" else array


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(answer: str, expected: str) -> NoReturn:
    raise MalformedResultError(f"answered {answer}, expected {expected}")


def _quoted(line: bytes) -> str:
    return repr(legible(line.decode(errors="replace").rstrip("\n"), _SHOWN))
