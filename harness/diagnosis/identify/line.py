"""line: an expression in NumPy that is evaluated as it is printed.

Only expressions that stand in this package become a ``Line``. The equations of a user's cell are parsed by
``space.cells``, which accepts names, numbers, operators and a few functions.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from harness.diagnosis.identify.array_protocol import sigmoid
from harness.oracle.pinned_numpy import np

# What a line may call.
FUNCTIONS: Final[dict[str, Any]] = {
    "np": np, "min": min, "max": max, "sum": sum, "range": range, "float": float, "sigmoid": sigmoid,
}  # fmt: skip


class Line:
    """An expression in NumPy: its ``names``, and its function of these."""

    def __init__(self, text: str) -> None:
        self.names, self.function = _compiled(text)

    def of(self, scope: Any) -> Any:
        """Return the value of the expression, given its names."""
        return self.function(*[scope[name] for name in self.names])


@cache
def _compiled(text: str) -> tuple[tuple[str, ...], Callable[..., Any]]:
    """Return the names that an expression reads, and the expression as a function of these."""
    nodes = [node for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)]
    bound = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    names = tuple(sorted({node.id for node in nodes} - bound - FUNCTIONS.keys()))
    return names, function_of(text, *names)


def function_of(text: str, *names: str, **others: Any) -> Callable[..., Any]:
    """Return an expression as a function of some names, in their order; ``others`` are what else it may call."""
    function: Callable[..., Any] = eval(f"lambda {', '.join(names)}: ({text})", FUNCTIONS | others)  # noqa: S307 - our own line
    return function
