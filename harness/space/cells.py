"""cells: what a layer's step computes, as equations: those of nn.GRU and nn.LSTM, and those that a user writes."""

import ast
import reprlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import cleandoc, currentframe
from itertools import product
from keyword import iskeyword
from typing import Any, Final, NamedTuple, Protocol

from harness.space.errors import UsageError

FINITE: Final = sys.float_info.max  # the largest number of float64
GATE_FUNCTIONS: Final = ("sigmoid", "tanh")  # of a gate's sum
LONGEST_EQUATIONS: Final = 4096  # characters of equations; those of nn.LSTM are 250
MOST_GATES: Final = 4  # ``gate_inquiry.STATE_LEVELS`` has so many sums to drive gates to
TERMS: Final = ("W_i", "b_i", "W_h", "b_h")  # of a gate's sum, each followed by the gate's letter
RESERVED_LETTERS: Final = "htx"  # letters that are no gate's; t is tanh(c) below
SAVED_DATA: Final = "saved data"  # the place of a cell that no code defines here
NOTEBOOK: Final = "this session"  # that of one without a file

Polynomial = tuple[tuple[tuple[str, ...], float], ...]  # products of quantities, and what multiplies each
_Products = dict[tuple[str, ...], float]  # the same by the products


class Gate(NamedTuple):
    """A function of W_i x + b_i + factor * (W_h operand + b_h)."""

    letter: str
    function: str
    operand: str = "h"  # h, or a gate's product with it: ``r * h``
    factor: str = ""  # the gate that multiplies, if there is one


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell: what a step of a layer computes, as lines of Python.

    ``equations`` has a line for each gate, in the order in which the parameters hold their rows, and then one for each
    state: c, if there is one, and h. A gate is the ``sigmoid`` or ``tanh`` of its sum, and a state is a sum of products
    of gates and states. Behind the line of c, ``c`` is the new one. This is the GRU::

        r = sigmoid(W_ir @ x + b_ir + W_hr @ h + b_hr)
        z = sigmoid(W_iz @ x + b_iz + W_hz @ h + b_hz)
        n = tanh(W_in @ x + b_in + r * (W_hn @ h + b_hn))
        h = (1 - z) * n + z * h

    A gate may multiply h, as ``W_hn @ (r * h)``, or what is added to the sum, as here. The parameters are those of
    nn.GRU and nn.LSTM: ``weight_ih_l0`` has a block of hidden_size rows for each gate, and so on.

    A cell is known by its name from then on. A function or class is compared with ``Cell("MGU", ...)`` that has ``mgu``
    as a word of its name or declares ``@harness.conventions(mgu=True)``, that ``--layer mgu`` names, or whose file has
    no other cell. ``place`` is the file that defines it, which may define it anew, as a notebook may.

    Raises ``UsageError`` for equations that are none of these, and for the name of a cell of another file.
    """

    name: str
    equations: str
    place: str = field(default="", repr=False)
    lines: tuple[Gate, ...] = field(init=False, repr=False)
    c: Polynomial = field(init=False, repr=False)  # the new c, if there is one
    h: Polynomial = field(init=False, repr=False)  # the new h, where ``t`` is tanh of the new c, ``c'``

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier() or iskeyword(self.name):
            raise UsageError(f"name={self.name!r}: expected a name such as 'MGU'")
        if not isinstance(self.equations, str) or len(self.equations) > LONGEST_EQUATIONS:
            raise UsageError(
                f"equations={reprlib.repr(self.equations)}: expected lines such as 'h = (1 - z) * n + z * h'"
            )
        object.__setattr__(self, "equations", cleandoc(self.equations))
        for name, value in _Equations(self.equations).parts().items():
            object.__setattr__(self, name, value)
        if not self.place:
            object.__setattr__(self, "place", _place())
        _register(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what makes it, and makes it known."""
        return Cell, (self.name, self.equations, self.place)

    def __eq__(self, other: object) -> bool:
        """Tell whether another cell has the name and computes the same, however its equations are written."""
        return isinstance(other, Cell) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        return self.name, self.lines, frozenset(self.c), frozenset(self.h)

    @property
    def gates(self) -> str:
        """The letters of the blocks of H rows in each parameter, in their order."""
        return "".join(gate.letter for gate in self.lines)

    @property
    def reset(self) -> str:
        """The letters of the gates in whose sums another gate multiplies W_h h + b_h: their two biases are no sum."""
        return "".join(gate.letter for gate in self.lines if gate.factor)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The names of the initial states, one for each state that a step passes on."""
        return ("hx", "cx")[: 1 + bool(self.c)]

    @property
    def final(self) -> tuple[str, ...]:
        """The names of the final states."""
        return ("h_n", "c_n")[: 1 + bool(self.c)]


class CellDefinition(Protocol):
    """A cell of any kind: its name, the form of its arrays, and what defines it."""

    def __hash__(self) -> int: ...

    @property
    def name(self) -> str: ...
    @property
    def equations(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def gates(self) -> str: ...
    @property
    def hidden(self) -> tuple[str, ...]: ...
    @property
    def final(self) -> tuple[str, ...]: ...
    @property
    def reset(self) -> str: ...


class _Elman(NamedTuple):
    """The cell of nn.RNN, which has one sum, and functions of its own."""

    name: str = "RNN"
    equations: str = ""
    place: str = ""
    gates: str = "h"
    hidden: tuple[str, ...] = ("hx",)
    final: tuple[str, ...] = ("h_n",)
    reset: str = ""


class _Equations:
    """The lines of a cell, as they are read."""

    def __init__(self, text: str) -> None:
        self._gates: dict[str, Gate] = {}
        self._states: dict[str, Polynomial] = {}
        self._line = reprlib.repr(text)
        try:
            self._read_all(text)
        except SyntaxError as error:
            reason = f"line {error.lineno}: {(error.text or '').strip()}: {error.msg}"
            raise UsageError(f"equations: {reason}: expected lines of Python") from None
        except (RecursionError, MemoryError):
            raise self._error("expected a plainer expression") from None

    def _read_all(self, text: str) -> None:
        for line in ast.parse(text).body:
            self._line = ast.unparse(line)
            if not (isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name)):
                raise self._error("expected a line such as z = sigmoid(...) or h = ...")
            self._read(line.targets[0].id, line.value)

    def parts(self) -> Mapping[str, object]:
        """Return the fields of a cell."""
        if "h" not in self._states or not self._gates:
            raise UsageError(
                "equations: expected a line for each gate, then one for h, and for c before it if it has c"
            )
        return {"lines": tuple(self._gates.values()), "c": self._states.get("c", ()), "h": self._states["h"]}

    def _error(self, what: str) -> UsageError:
        return UsageError(f"equations: {self._line}: {what}")

    def _read(self, name: str, value: ast.expr) -> None:
        if "h" in self._states or name in self._gates or name in self._states:
            raise self._error("expected each name once, and h last")
        if name in ("h", "c"):
            old = {"h"} if name == "h" else {"h", "c"}  # the states before the step, as they may be read here
            self._states[name] = self._polynomial(value, old, new=name == "h" and "c" in self._states)
            return
        if len(name) != 1 or not name.islower() or name in RESERVED_LETTERS or self._states:
            raise self._error(
                f"{name}: expected gates, of one small letter other than t and x, before the states c and h"
            )
        if len(self._gates) == MOST_GATES:
            raise self._error(f"expected at most {MOST_GATES} gates")
        function = value.func.id if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) else ""
        if not isinstance(value, ast.Call) or function not in GATE_FUNCTIONS or len(value.args) != 1 or value.keywords:
            raise self._error(f"expected {' or '.join(GATE_FUNCTIONS)} of a sum")
        self._gates[name] = self._gate(name, function, value.args[0])

    # A gate.

    def _gate(self, letter: str, function: str, value: ast.expr) -> Gate:
        terms: dict[str, tuple[str, str]] = {}
        for term, operand, factor in self._terms(letter, value, ""):
            if term in terms:
                raise self._error(f"{term}{letter}: expected it once")
            terms[term] = operand, factor
        wanted = f"W_i{letter} @ x + b_i{letter} + W_h{letter} @ h + b_h{letter}"
        if set(terms) != {*TERMS} or terms["W_i"][1] or terms["b_i"][1] or terms["W_h"][1] != terms["b_h"][1]:
            raise self._error(
                f"expected {function}({wanted}), where a gate may multiply h, or (W_h{letter} @ h + b_h{letter})"
            )
        return Gate(letter, function, *terms["W_h"])

    def _terms(self, letter: str, value: ast.expr, factor: str) -> Iterator[tuple[str, str, str]]:
        """Yield the terms of a sum, each with what a matrix is multiplied by, and with the gate that multiplies it."""
        names = {f"{term}{letter}": term for term in TERMS}
        match value:
            case ast.BinOp(op=ast.Add()):
                yield from self._terms(letter, value.left, factor)
                yield from self._terms(letter, value.right, factor)
            case ast.BinOp(op=ast.Mult(), left=ast.Name(id=gate), right=inner) if gate in self._gates and not factor:
                yield from self._terms(letter, inner, gate)
            case ast.BinOp(op=ast.Mult(), left=inner, right=ast.Name(id=gate)) if gate in self._gates and not factor:
                yield from self._terms(letter, inner, gate)
            case ast.BinOp(op=ast.MatMult(), left=ast.Name(id=name), right=operand) if name in names:
                read = self._operand(operand)
                if (read == "x") != (names[name] == "W_i"):
                    raise self._error(f"{name} @ {ast.unparse(operand)}: expected W_i{letter} @ x, and W_h{letter} @ h")
                yield names[name], read, factor
            case ast.Name(id=name) if names.get(name, "W").startswith("b"):
                yield names[name], "", factor
            case _:
                raise self._error(f"{ast.unparse(value)}: expected {', '.join(names)} in the sum of {letter}")

    def _operand(self, value: ast.expr) -> str:
        match value:
            case ast.Name(id="x" | "h" as name):
                return name
            case ast.BinOp(op=ast.Mult(), left=ast.Name(id=first), right=ast.Name(id=second)):
                gate = next((name for name in (first, second) if name in self._gates), "")
                if gate and {first, second} == {gate, "h"}:
                    return f"{gate} * h"
        raise self._error(f"{ast.unparse(value)}: expected x, h, or a gate times h, whose line is above")

    # A state.

    def _polynomial(self, value: ast.expr, old: set[str], *, new: bool) -> Polynomial:
        terms = {names: coef for names, coef in self._expanded(value, old, new=new).items() if coef}
        if not terms or not all(abs(coef) <= FINITE for coef in terms.values()):
            raise self._error("expected a sum of products with numbers of float64")
        return tuple(terms.items())

    def _expanded(self, value: ast.expr, old: set[str], *, new: bool) -> _Products:
        """Return the products in an expression, sorted, with what multiplies each."""
        match value:
            case ast.Constant(value=int() | float() as number) if type(number) is not bool and number <= FINITE:
                return {(): float(number)}
            case ast.Name(id="c") if new:
                return {("c'",): 1.0}
            case ast.Name(id=name) if name in self._gates or name in old:
                return {(name,): 1.0}
            case ast.Call(func=ast.Name(id="tanh"), args=[ast.Name(id="c")], keywords=[]) if new:
                return {("t",): 1.0}
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return {names: -coef for names, coef in self._expanded(inner, old, new=new).items()}
            case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() as op, left=a, right=b):
                return self._combined(op, *(self._expanded(part, old, new=new) for part in (a, b)))
        raise self._error(f"{ast.unparse(value)}: expected gates and states with lines above, numbers, +, - and *")

    def _combined(self, op: ast.operator, left: _Products, right: _Products) -> _Products:
        """Return the products of a sum, a difference or a product of two sums."""
        products = {} if isinstance(op, ast.Mult) else dict(left)
        if isinstance(op, ast.Mult):
            for (first, p), (second, q) in product(left.items(), right.items()):
                if not {*first}.isdisjoint(second):  # so that there are at most 2**6 products
                    raise self._error("expected a sum of products, each with a gate or state once at most")
                names = tuple(sorted((*first, *second)))
                products[names] = products.get(names, 0.0) + p * q
            return products
        for names, coef in right.items():
            products[names] = products.get(names, 0.0) + (coef if isinstance(op, ast.Add) else -coef)
        return products


CELL_DEFINITIONS: Final[dict[str, CellDefinition]] = {"RNN": _Elman()}  # all cells by their names, those of users, too


def layer_named(cell: str) -> str:
    """Return the name of torch's layer with a cell, such as ``nn.LSTM``, or that of a cell that torch does not have."""
    return f"nn.{cell}" if cell in CELLS else cell


def data_of(name: str) -> Any:
    """Return a cell as plain data: its name, and with its equations, if torch's layers do not have it."""
    return name if name in CELLS else {"name": name, "equations": CELL_DEFINITIONS[name].equations}


def cell_of_data(data: Any) -> Any:
    """Return the name of a cell that ``data_of`` wrote, and make it known."""
    return Cell(data.get("name", ""), data.get("equations", ""), SAVED_DATA).name if isinstance(data, Mapping) else data


def make_known(name: str, equations: str, place: str) -> None:
    """Make a cell known in another process than that which has loaded the file that defines it."""
    if name not in CELLS:
        Cell(name, equations, place)


def cell_named(name: str) -> str:
    """Return the name of a cell that is written in upper or lower case; none, if there is none."""
    return next((own for own in CELL_DEFINITIONS if own.lower() == name.lower()), "")


def _place() -> str:
    """Return the file that makes a cell: it is behind this module's frames and that of the dataclass."""
    frame = currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return NOTEBOOK if frame is None else str(frame.f_globals.get("__file__", NOTEBOOK))


def _register(cell: Cell) -> None:
    """Make a cell known.

    It replaces one of its name that the same file defines, or that was read from saved data. A cell from saved data
    yields to one that a file defines, because the file may have been mended since. Raises ``UsageError`` for the name
    of a cell of torch's layers or of another file.
    """
    known = CELL_DEFINITIONS.get(cell_named(cell.name))
    if known is not None:
        of_torch = known.name in CELLS
        if cell.place == SAVED_DATA != known.place and (known == cell or not of_torch):
            return
        if known != cell and (of_torch or known.place not in (SAVED_DATA, cell.place)):
            whose = layer_named(known.name) if of_torch else f"another cell, in {known.place}"
            raise UsageError(f"name={cell.name!r}: is the name of {whose}; give this one another name")
        del CELL_DEFINITIONS[known.name]
    CELL_DEFINITIONS[cell.name] = cell


@contextmanager
def local_cells() -> Iterator[None]:
    """Forget afterwards the cells that became known meanwhile."""
    before = dict(CELL_DEFINITIONS)
    try:
        yield
    finally:
        CELL_DEFINITIONS.clear()
        CELL_DEFINITIONS.update(before)


_GATE: Final = "{0} = sigmoid(W_i{0} @ x + b_i{0} + W_h{0} @ h + b_h{0})"
_GRU: Final = "n = tanh(W_in @ x + b_in + r * (W_hn @ h + b_hn))\nh = (1 - z) * n + z * h"
_LSTM: Final = "c = f * c + i * g\nh = o * tanh(c)"
Cell("GRU", "\n".join([*map(_GATE.format, "rz"), _GRU]))
Cell(
    "LSTM",
    "\n".join([*map(_GATE.format, "if"), _GATE.format("g").replace("sigmoid", "tanh"), _GATE.format("o"), _LSTM]),
)

CELLS: Final = dict(CELL_DEFINITIONS)  # those of torch's layers, nn.RNN, nn.GRU and nn.LSTM
GATE_ORDERS: Final = {
    "iofg": ("ONNX",),
    "ifog": ("Core ML", "Caffe"),
    "igfo": ("TensorFlow 1",),
    "zrn": ("ONNX", "Keras", "oneDNN"),
}  # the frameworks by the order in which they have the gates' rows, where it is another than torch's
CELL_OF: Final = {len(cell.gates): name for name, cell in CELLS.items()}  # by the blocks of H rows in each parameter
