"""line_quantities: every number that an identified layer's lines make on a case, down to the parts of each sum."""

import ast
import re
from collections.abc import Mapping
from functools import cache
from itertools import combinations
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.model import ROLES
from harness.diagnosis.identify.terms import LayerTrace, namespace
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np

FORWARD_QUANTITIES: Final = ("s", "h")
BACKWARD_QUANTITIES: Final = ("slope", "next", "dh", "da")
SUMS: Final = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # the gradients that are summed over the steps
MOST_TERMS: Final = 7  # terms of a sum whose partial sums are made, 2**7
SAME: Final = 1e-10  # the relative difference of two float64 numbers that are taken for one: some 1e6 roundings


class LineQuantity(NamedTuple):
    """A result of a line at a step: the line's key among ``lines``, and whether it is all of it or a part."""

    key: str
    t: int
    result: bool


def quantities_of(text: Mapping[str, str], f: LayerTrace) -> dict[LineQuantity, list[Floats]]:
    """Return what the lines of a layer make of a trace's numbers, whoever made those.

    Each step's lines read what the trace has of other steps. Raises what a line raises that does not stand for itself.
    """
    made: dict[LineQuantity, list[Floats]] = {}

    def keep(key: str, t: int, names: dict[str, Any]) -> None:
        for value_code, statement in _statements(text[key])[: 1 if key in ROLES else None]:
            kept: dict[str, list[Any]] = {"read": [], "part": [], "term": []}
            value = eval(value_code, names | {"kept": _keeping(kept)})  # noqa: S307 - our own line
            terms = kept["term"] if len(kept["term"]) <= MOST_TERMS else []
            sums = [sum(some) for size in range(2, len(terms)) for some in combinations(terms, size)]
            read = [] if key in SUMS else [v for v in kept["read"] if isinstance(v, np.ndarray)]
            for result, values in ((False, [*kept["part"], *sums]), (True, [value])):
                arrays = [np.asarray(v, np.float64) for v in values]
                new = [array for array in arrays if not any(map(one_like(array), read))]  # not another name for one
                made.setdefault(LineQuantity(key, t, result), []).extend(new)
            if key not in (*ROLES, "start"):
                exec(statement, names)  # noqa: S102 - our own line

    for t in range(f.T):
        returned = [(role,) for role in ROLES if role != "hx" or t == 0]  # each reads what the trace has
        for keys in (FORWARD_QUANTITIES, *((BACKWARD_QUANTITIES, *returned) if f.da else ())):
            names = namespace(f, t)
            for key in keys:
                keep(key, t, names)
    keep("start", 0, namespace(f, 0) | {"hx": f.given_hx})
    for role in SUMS if f.da else ():
        terms = [made[LineQuantity(role, t, result=True)][-1] for t in range(f.T)]
        for t in range(f.T):  # the sums of a loop in either order
            made[LineQuantity(role, t, result=True)] += [np.asarray(sum(some)) for some in (terms[t:], terms[: t + 1])]
    return made


def equal(first: Floats, second: Floats) -> bool:
    """Tell whether two sorted arrays have the same numbers."""
    return first.size == second.size and bool((np.abs(first - second) <= SAME * np.abs(first)).all())


def one_like(array: Floats) -> Any:
    """Return a function that tells which arrays have an array's numbers, in any order."""
    numbers = np.sort(array.ravel())
    return lambda second: equal(numbers, np.sort(np.ravel(second)))


def _keeping(kept: Mapping[str, list[Any]]) -> Any:
    def keep(kind: str, value: Any, sign: int = 1) -> Any:
        kept[kind].append(sign * value if kind == "term" else value)
        return value

    return keep


@cache
def _statements(text: str) -> list[tuple[Any, Any]]:
    """Return the statements of a line as code, each with its value, which keeps what that is made of."""
    body: list[Any] = ast.parse(re.sub(r"\bdh_next\b(?!\[)", "dh_next[t]", text.strip())).body
    codes = [compile(ast.Module([statement], []), "line", "exec") for statement in body]
    values = [
        ast.fix_missing_locations(ast.Expression(_ValueKeeper().of_sum(statement.value, 1))) for statement in body
    ]
    return [(compile(value, "line", "eval"), code) for value, code in zip(values, codes, strict=True)]


class _ValueKeeper(ast.NodeTransformer):
    """Makes an expression keep what it reads, its operations, and the terms of its sum, in the branches it takes."""

    def of_sum(self, node: Any, sign: int) -> ast.expr:
        if isinstance(node, ast.IfExp):
            return ast.IfExp(node.test, self.of_sum(node.body, sign), self.of_sum(node.orelse, sign))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            right = self.of_sum(node.right, sign if isinstance(node.op, ast.Add) else -sign)
            return self._kept("part", ast.BinOp(self.of_sum(node.left, sign), node.op, right))
        return self._kept("term", self.visit(node), ast.Constant(sign))

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Lambda | ast.ListComp | ast.GeneratorExp):  # what is in it has no value here
            return node
        if isinstance(node, ast.IfExp):
            return ast.IfExp(node.test, self.visit(node.body), self.visit(node.orelse))
        made: Any = self.generic_visit(node)
        if isinstance(node, ast.BinOp | ast.UnaryOp | ast.Call | ast.Compare):
            return self._kept("part", made)
        return self._kept("read", made) if isinstance(node, ast.Subscript | ast.Name) else made

    @staticmethod
    def _kept(kind: str, *values: ast.expr) -> ast.expr:
        return ast.Call(ast.Name("kept", ast.Load()), [ast.Constant(kind), *values], [])
