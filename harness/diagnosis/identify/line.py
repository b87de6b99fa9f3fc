"""line: an expression in NumPy that is evaluated as it is printed.

Only expressions that stand in this package become a ``Line``. The equations of a user's cell are parsed by
``space.cells``, which accepts names, numbers, operators and a few functions.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from harness.oracle.pinned_numpy import np

FUNCTIONS: Final[dict[str, Any]] = {"np": np, "min": min, "max": max}  # that a line may call


class Line:
    """An expression in NumPy, whose ``names`` are read of a scope."""

    def __init__(self, text: str) -> None:
        self.names, self._function = _compiled(text)

    def of(self, scope: Mapping[str, Any]) -> Any:
        """Return the value of the expression, given its names."""
        return self._function(*[scope[name] for name in self.names])


@cache
def _compiled(text: str) -> tuple[tuple[str, ...], Callable[..., Any]]:
    """Return the names that an expression reads, and the expression as a function of these."""
    read = {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}
    names = tuple(sorted(read - FUNCTIONS.keys()))
    function: Callable[..., Any] = eval(f"lambda {', '.join(names)}: ({text})", dict(FUNCTIONS))  # noqa: S307 - our own line
    return names, function
