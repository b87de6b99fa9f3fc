"""literals: arrays as the code that makes them, in NumPy or in torch, as a person would write it.

Small arrays are written out. Those that are mostly zeros are written as zeros, and what is not zero is set. Large
arrays are read from a file that lies next to the script.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import ml_dtypes
import numpy as np

from harness.space.case import Array

WIDTH: Final = 100
"""The number of columns of a generated script."""

TOGETHER: Final = 400
"""The most numbers that a script writes out in all, some forty lines. Where there are more, the larger arrays go to the
file."""

SMALL: Final = 32
"""The most numbers of an array that is written out whatever the others are: three lines."""

PATCHES: Final = 8
"""The largest number of elements that are set one by one."""

SPARSE: Final = 9
"""The smallest number of elements of an array in which that is done."""

FILE: Final = "arrays.npz"

_NO_BREAK: Final = "\0"
_ANYWHERE: Final = -(10**9)

BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True)
class Code:
    """The expression that makes an array, and the assignments to its elements that must follow: ``[16, 3] = 1.0``."""

    expression: str
    patches: tuple[str, ...] = ()

    def assigned(self, target: str) -> list[str]:
        """Return statements that give the array to ``target``."""
        return [f"{target} = {self.expression}", *self.patched(target)]

    def patched(self, target: str) -> list[str]:
        """Return statements that set the elements which the expression leaves zero."""
        return [target + patch for patch in self.patches]


@dataclass
class Literals:
    """A writer of arrays for a script that uses NumPy, ``np``, or ``torch``. ``stored`` is what its file must hold."""

    library: str
    device: str = "cpu"
    stored: dict[str, Array] = field(default_factory=dict)
    too_large: frozenset[str] = frozenset()
    """The names of the arrays that are read from the file."""

    def choose(self, arrays: Mapping[str, Array]) -> None:
        """Decide which of all the arrays of a script, by name, go to its file."""
        costs = {name: _written(array) for name, array in arrays.items()}
        if sum(costs.values()) > TOGETHER:
            self.too_large = frozenset(name for name, cost in costs.items() if cost > SMALL)

    def code(self, name: str, array: Array, *, wide: bool = False, column: int = 0, indent: int = 0) -> Code:
        """Return the code of one array that begins at some column; a ``wide`` one stays where NumPy is, on the CPU."""
        device = "cpu" if wide else self.device
        if name in self.too_large:
            self.stored[name] = array.astype(np.float32) if array.dtype == BFLOAT16 else array
            return Code(self._read(name, array, device))
        options = [self._dtype(array)] if self._dtype(array) else []
        options += [] if device == "cpu" else [f'device="{device}"']
        if not array.size or _patches(array) is not None:
            zeros = f"{self.library}.zeros({', '.join([str(array.shape), *options])})"
            return Code(zeros, tuple(f"[{_index(i)}] = {number(array[i])}" for i in _patches(array) or ()))
        make = "np.array" if self.library == "np" else "torch.tensor"
        end = "".join(f", {option}" for option in options) + ")"
        return Code(f"{make}({nested(array, column + len(make) + 1 + len(end), indent)}{end}")

    def _dtype(self, array: Array) -> str:
        """Return the dtype as an argument; empty where it is the one that the library takes anyway."""
        name = array.dtype.name
        if self.library == "torch":
            return "" if name == "float32" else f"dtype=torch.{name}"
        if name == "float64" or (name == "bool" and array.size):
            return ""
        return "bool" if name == "bool" else "ml_dtypes.bfloat16" if array.dtype == BFLOAT16 else f"np.{name}"

    def _read(self, name: str, array: Array, device: str) -> str:
        read = f"arrays[{name!r}]".replace("'", '"')
        if self.library == "np":
            return f"{read}.astype(ml_dtypes.bfloat16)" if array.dtype == BFLOAT16 else read
        to = ([] if device == "cpu" else [f'"{device}"']) + (["torch.bfloat16"] if array.dtype == BFLOAT16 else [])
        return f"torch.from_numpy({read})" + (f".to({', '.join(to)})" if to else "")


def nested(array: Array, column: int = 0, indent: int = 0) -> str:
    """Return an array as nested lists, on one line if that fits behind the ``column`` columns that it has already."""
    if not array.ndim:
        return number(array)
    if array.ndim == 1:
        return listed("[", [number(value) for value in array], "]", column, indent)
    flat = f"[{', '.join(nested(row, _ANYWHERE) for row in array)}]"
    if column + len(flat) <= WIDTH:
        return flat
    inner = " " * (indent + 4)
    rows = "".join(f"{inner}{nested(row, indent + 5, indent + 4)},\n" for row in array)
    return f"[\n{rows}{' ' * indent}]"


def listed(begin: str, items: Sequence[str], end: str, column: int = 0, indent: int = 0) -> str:
    """Return ``begin``, items between commas, and ``end``: on one line, or with the items on lines of their own."""
    line = f"{begin}{', '.join(items)}{end}"
    if column + len(line) <= WIDTH:
        return line
    inner = " " * (indent + 4)
    whole = ", ".join(item.replace(" ", _NO_BREAK) for item in items) + ","
    filled = textwrap.fill(
        whole, WIDTH, initial_indent=inner, subsequent_indent=inner, break_on_hyphens=False, break_long_words=False
    )
    return f"{begin}\n{filled.replace(_NO_BREAK, ' ')}\n{' ' * indent}{end}"


def number(value: Array) -> str:
    """Return one element, of an array or by itself, as an expression that its dtype reads back bit for bit."""
    if value.dtype.kind == "b":
        return str(bool(value))
    wide = float(value)
    if not np.isfinite(wide):
        return f'float("{wide}")'
    short = repr(float(str(value[()]))) if wide else repr(wide)
    return short if value.dtype.type(float(short)) == value else repr(wide)


def _written(array: Array) -> int:
    """Return how many numbers are written for an array."""
    patches = _patches(array)
    return array.size if patches is None else len(patches)


def _patches(array: Array) -> list[tuple[int, ...]] | None:
    """Return where an array that is mostly zeros is not zero; ``None`` where it is not mostly zeros."""
    if array.dtype.kind == "b":
        return None
    zero = (array == 0) & ~np.signbit(array)
    others = array.size - int(zero.sum())
    if array.size < (SPARSE if others else 4) or others > min(PATCHES, array.size // 4):
        return None
    return [tuple(int(i) for i in index) for index in np.argwhere(~zero)]


def _index(index: tuple[int, ...]) -> str:
    return ", ".join(map(str, index))
