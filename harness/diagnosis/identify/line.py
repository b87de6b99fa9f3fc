"""line: an expression in NumPy that is printed as it stands, and evaluated as it stands.

Only expressions of this package become a ``Line``: the equations of a user's cell go through ``space.cells``, which
accepts names, numbers, operators and a few functions.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from harness.diagnosis.identify.activations import Activation, Numbers
from harness.oracle.pinned_numpy import np


def _sigmoid(v: Numbers) -> Numbers:
    return Activation("sigmoid").of(v)


# What a line may read beside the names of its scope.
FUNCTIONS: Final[dict[str, Any]] = {
    "np": np,
    "sigmoid": _sigmoid,
    "min": min,
    "max": max,
    "range": range,
    "sum": sum,
    "len": len,
}


class Line:
    """An expression in NumPy: ``text`` is what a report prints, ``names`` are what it reads of a scope."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names, self._value = _compiled(text)

    def of(self, scope: Mapping[str, Any]) -> Any:
        """Return its value: numbers of the kind that the scope has, arrays, bounds or a tape."""
        return self._value(*[scope[name] for name in self.names])

    def __repr__(self) -> str:
        return f"Line({self.text!r})"


@cache
def _compiled(text: str) -> tuple[tuple[str, ...], Callable[..., Any]]:
    """Return the names that an expression reads, and the expression as a function of these."""
    nodes = [node for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)]
    bound = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    names = tuple(sorted({node.id for node in nodes} - bound - FUNCTIONS.keys()))
    value: Callable[..., Any] = eval(f"lambda {', '.join(names)}: ({text})", dict(FUNCTIONS))  # noqa: S307 - our own line
    return names, value


def lines(*texts: str) -> dict[str, Line]:
    """Return a table of lines by their texts."""
    return {text: Line(text) for text in texts}
