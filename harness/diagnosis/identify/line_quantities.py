"""line_quantities: every number that an identified layer's lines make on a case, down to the parts of each sum."""

import ast
import re
from collections.abc import Iterator, Mapping
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

    def keep(key: str, t: int, taken: ast.expr, names: dict[str, Any]) -> None:
        read = (
            []
            if key in SUMS
            else [v for v in _values(taken, names, ast.Subscript, ast.Name) if isinstance(v, np.ndarray)]
        )
        parts = [part for part in _parts(taken, names) if not any(map(one_like(part), read))]
        made.setdefault(LineQuantity(key, t, result=False), []).extend(parts)
        value = np.asarray(_value(taken, names), np.float64)
        if not any(map(one_like(value), read)):  # another name for a number is no new one
            made.setdefault(LineQuantity(key, t, result=True), []).append(value)

    for t in range(f.T):
        for group in (
            FORWARD_QUANTITIES,
            *((BACKWARD_QUANTITIES, *((role,) for role in ROLES if role != "hx" or t == 0)) if f.da else ()),
        ):
            names = namespace(f, t)
            for key in group:
                for statement in _statements(text[key])[: 1 if key in ROLES else None]:
                    keep(key, t, _taken(statement.value, names), names)
                    if key not in ROLES:
                        exec(compile(ast.Module([statement], []), key, "exec"), names)  # noqa: S102 - our own line
    for statement in _statements(text["start"]):
        keep("start", 0, statement.value, namespace(f, 0) | {"hx": f.given_hx})
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


@cache
def _statements(text: str) -> list[Any]:
    return ast.parse(re.sub(r"\bdh_next\b(?!\[)", "dh_next[t]", text.strip())).body


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    return eval(compile(ast.Expression(node), "line", "eval"), names)  # noqa: S307 - our own line


def _taken(node: ast.expr, names: dict[str, Any]) -> ast.expr:
    """Return an expression with the branches that a step takes."""

    class BranchSelector(ast.NodeTransformer):
        def visit_IfExp(self, branch: ast.IfExp) -> Any:
            return self.visit(branch.body if _value(branch.test, names) else branch.orelse)

    tree: ast.expr = BranchSelector().visit(ast.parse(ast.unparse(node), mode="eval").body)
    return tree


def _values(node: ast.expr, names: dict[str, Any], *kinds: type[ast.expr]) -> list[Any]:
    return [_value(part, names) for part in _inside(node) if isinstance(part, kinds)]


def _inside(node: ast.AST) -> Iterator[Any]:
    """Yield a node and those in it that have a value here, which the body of a function or of a loop has not."""
    yield node
    for part in () if isinstance(node, ast.Lambda | ast.ListComp | ast.GeneratorExp) else ast.iter_child_nodes(node):
        yield from _inside(part)


def _parts(node: ast.expr, names: dict[str, Any]) -> Iterator[Floats]:
    """Yield the values of an expression's operations, and of the sums of some of its terms."""
    values = _values(node, names, ast.BinOp, ast.UnaryOp, ast.Call, ast.Compare)
    terms = [sign * _value(term, names) for sign, term in _terms(node, 1)]
    some = range(2, len(terms)) if len(terms) <= MOST_TERMS else ()
    values += [sum(chosen) for size in some for chosen in combinations(terms, size)]
    yield from (np.asarray(value, np.float64) for value in values)


def _terms(node: ast.expr, sign: int) -> list[tuple[int, ast.expr]]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        return _terms(node.left, sign) + _terms(node.right, sign if isinstance(node.op, ast.Add) else -sign)
    return [(sign, node)]
