"""terms: what may stand in each sum of a layer's step and of its way back. nn.RNN's own terms come first.

A layer is a few sums: the preactivation, what is added to the activation, the gradient by the preactivation, and each
gradient that is returned. A sum is identified by the coefficients of its terms. So a table says what a term is and how
it is written, and nothing about mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from operator import add
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.activations import Activation, Numbers, in_product, sigmoid
from harness.diagnosis.identify.autodiff import Var
from harness.diagnosis.identify.ball import Ball
from harness.diagnosis.identify.gather import Gather, each, rows, together
from harness.diagnosis.identify.transform import AXIS_MATRICES
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np


def mapped(
    v: Numbers, function: Callable[[Any], Any], steepest: float, slope: Callable[[Numbers], Numbers] | None = None
) -> Numbers:
    """Apply a smooth function to each number.

    Bounds need the ``steepest`` slope that it has anywhere, and a tape its derivative, ``slope``.
    """
    if isinstance(v, Var):
        assert slope is not None
        return v.mapped(mapped(v.value, function, steepest), slope(v.value))
    return v.mapped(function, steepest) if isinstance(v, Ball) else function(v)


def jumped(v: Numbers, function: Callable[[Any], Any]) -> Numbers:
    """Apply a function that jumps at 0 to each number."""
    return v.jumped(function) if isinstance(v, Ball) else function(v)


def clipped(v: Numbers, limit: float) -> Numbers:
    """Cut each number off at a limit on either side."""
    return v.clipped(limit) if isinstance(v, Ball) else np.clip(v, -limit, limit)


def _root(v: Numbers) -> Numbers:
    """Return the square root of each number; 0 of those below 0."""
    if not isinstance(v, Ball):
        return np.sqrt(np.maximum(v, 0.0))
    root = np.sqrt(np.maximum(v.value, 0.0))
    off = np.sqrt(v.error)  # at most: two roots are no further apart than the root of how far their squares are
    off = np.minimum(off, np.divide(v.error, root, out=off.copy(), where=root > 0))
    return Ball(root, off + v.rounding.each * (root + off), v.rounding)


# The parts of a step's sum by how each is written, x for x[t].
PARTIAL_SUMS: Final[dict[str, Callable[[Any, int], Numbers]]] = {
    "x @ W_ih.T + b_ih + b_hh": lambda f, t: f.x[t] @ f.W_ih.T + f.b_ih + f.b_hh,
    "x @ W_ih.T + b_ih": lambda f, t: f.x[t] @ f.W_ih.T + f.b_ih,
    "x @ W_ih.T": lambda f, t: f.x[t] @ f.W_ih.T,
    "h[t-1] @ W_hh.T + b_hh": lambda f, t: f.state(t - 1) @ f.W_hh.T + f.b_hh,
    "h[t-1] @ W_hh.T": lambda f, t: f.state(t - 1) @ f.W_hh.T,
}

# What slopes are made of, by how it is written. nn.RNN's are 1 - h[t]**2, or h[t] > 0.
SLOPES: Final[dict[str, Callable[..., Numbers]]] = {
    "1": lambda h, s, x, dh: h * 0.0 + 1.0,
    "h**2": lambda h, s, x, dh: h * h,
    "(h > 0)": lambda h, s, x, dh: jumped(h, lambda v: (v > 0) * 1.0),
    "h": lambda h, s, x, dh: h * 1.0,
    "s": lambda h, s, x, dh: s * 1.0,
    "s**2": lambda h, s, x, dh: s * s,
    "np.tanh(s)**2": lambda h, s, x, dh: mapped(s, lambda v: np.tanh(v) ** 2, 0.8),
    "np.tanh(h)**2": lambda h, s, x, dh: mapped(h, lambda v: np.tanh(v) ** 2, 0.8),
    "np.tanh(s)": lambda h, s, x, dh: mapped(s, np.tanh, 1.0),
    "np.tanh(h)": lambda h, s, x, dh: mapped(h, np.tanh, 1.0),
    "sigmoid(s)": lambda h, s, x, dh: mapped(s, sigmoid, 0.25),
    "sigmoid(s)**2": lambda h, s, x, dh: mapped(s, lambda v: sigmoid(v) ** 2, 0.3),
    "sigmoid(h)": lambda h, s, x, dh: mapped(h, sigmoid, 0.25),
    "sigmoid(h)**2": lambda h, s, x, dh: mapped(h, lambda v: sigmoid(v) ** 2, 0.3),
    "np.abs(h)": lambda h, s, x, dh: mapped(h, np.abs, 1.0),
    "np.tanh(np.tanh(h))**2": lambda h, s, x, dh: mapped(h, lambda v: np.tanh(np.tanh(v)) ** 2, 0.8),
    "(np.tanh(s) * np.tanh(np.tanh(s)))**2": lambda h, s, x, dh: mapped(
        s, lambda v: (np.tanh(v) * np.tanh(np.tanh(v))) ** 2, 1.6
    ),
    "h**3": lambda h, s, x, dh: h * h * h,
    "h**4": lambda h, s, x, dh: h * h * h * h,
    "1/(1 + s**2)": lambda h, s, x, dh: mapped(s, lambda v: 1 / (1 + v * v), 0.65),
    "np.sqrt(1 - h**2)": lambda h, s, x, dh: _root(h * h * -1.0 + 1.0),
    "np.cos(s)": lambda h, s, x, dh: mapped(s, np.cos, 1.0),
    "np.exp(-np.abs(s))": lambda h, s, x, dh: mapped(s, lambda v: np.exp(-np.abs(v)), 1.0),
    # of a layer above the first, whose x is the state of the layer below
    "x**2": lambda h, s, x, dh: x * x,
    "(x > 0)": lambda h, s, x, dh: jumped(x, lambda v: (v > 0) * 1.0),
    "x": lambda h, s, x, dh: x * 1.0,
    # of a part of the sum, which is s then
    **{f"({part} > 0)": lambda h, s, x, dh: jumped(s, lambda v: (v > 0) * 1.0) for part in PARTIAL_SUMS},
    **{f"np.tanh({part})**2": lambda h, s, x, dh: mapped(s, lambda v: np.tanh(v) ** 2, 0.8) for part in PARTIAL_SUMS},
    # of the gradient that the slope multiplies
    "dh**2": lambda h, s, x, dh: dh * dh,
    "(dh > 0)": lambda h, s, x, dh: jumped(dh, lambda v: (v > 0) * 1.0),
    "dh": lambda h, s, x, dh: dh * 1.0,
}


def slope_term(name: str, f: LayerTrace, t: int, x: Numbers, dh: Numbers) -> Numbers:
    """Return a term of the slope of step t, of whose sum it may read a part; ``x`` is its input, or half of it."""
    part = next((part for part in PARTIAL_SUMS if part in name), None)
    s = f.back(f.s, t) if part is None else PARTIAL_SUMS[part](f, max(t, 0))
    return SLOPES[name](f.state(t), s, x, dh)


OF_INPUT: Final = ("x**2", "(x > 0)", "x")
OF_GRADIENT: Final = ("dh**2", "(dh > 0)", "dh")
RIGHT_SLOPE: Final = {"tanh": (("1", 1.0), ("h**2", -1.0)), "relu": (("(h > 0)", 1.0),)}


class LayerTrace:
    """One layer and direction of one call, in the order in which its steps are made: what terms are made of.

    x (T, N, F), hx (N, H), the states ``h`` and preactivations ``s`` by step, and on the way back the gradients by the
    states ``g``, their sums ``dh`` with what later steps pass on, and the gradients by the preactivations ``da``.
    """

    def __init__(self, x: Any, hx: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> None:  # noqa: PLR0917
        self.x, self.hx = x, hx
        self.below: LayerTrace | None = None  # the layer below, in the same direction
        self.beside: LayerTrace | None = None  # of a reverse direction, the forward one
        self.network_input: Any = x  # what the network is given
        self.W_ih, self.W_hh, self.b_ih, self.b_hh = W_ih, W_hh, b_ih, b_hh
        self.W_hr: Any = None  # of an LSTM whose h is projected
        self.T: int = len(x)
        self.N: int = x[0].shape[0]
        self.F: int = x[0].shape[1]  # the features of x
        self.H: int = self.W_hh.shape[0]
        self.h: dict[int, Numbers] = {}
        self.out: dict[int, Numbers] = {}  # what is returned of each step
        self.raw: list[Numbers] = []  # the same, as it was returned
        self.given_hx = hx  # before anything was made of it
        self.step_output: dict[int, Numbers] = {}  # what each step makes of the state that it reads
        self.s: dict[int, Numbers] = {}
        self.g: dict[int, Numbers] = {}
        self.dh: dict[int, Numbers] = {}
        self.da: dict[int, Numbers] = {}
        self.from_next: dict[int, Numbers] = {}  # what each step was passed by the one after it
        self.slope: dict[int, Numbers] = {}
        self.slope_by: Callable[[int, Numbers], Numbers] | None = None  # the slope of a step, if its dh decides it
        self.start = "hx"  # what the first step reads, as it was found
        self.sources: Callable[[], dict[int, dict[int, Numbers]]] = dict  # da by the step whose gradient it is part of
        self.kinds: dict[int, Activation] = {}  # the steps whose activation is another one
        self.first = 0
        self.passes_to_hx = True  # False if the step before the first is one to which nothing is passed
        self.blank: dict[int, Floats] = {}  # by step, 1 for each sequence (N, 1) whose x is all zeros there
        self.update_mask: Floats | None = None  # (N, H), 0 for the units and sequences whose state is not computed
        self.skipped: set[int] = set()  # the steps that are not computed
        self.continues_tape: Callable[[int], bool] = lambda t: True  # whether a tape goes on from the state of a step
        self.reads: Callable[[int, Sequence[Any]], Sequence[Any]] | None = None  # the parameters, as a step reads them
        self.derivative: Mapping[str, Mapping[int, Numbers]] = {}  # each step's part of the derivative, by role
        self.h_n_gradient: dict[int, Numbers] = {}  # what of h_n's gradient is passed to a step, or to hx at -1
        self.ends: Mapping[str, Any] = {}  # the states after the last step, of a layer with gates

    @property
    def square(self) -> bool:
        """True if x_t and h_t have one shape, so that one may be taken for the other."""
        return self.F == self.H

    def state(self, t: int) -> Numbers:
        """Return h after a step; before the first it is hx."""
        h = self.hx if t < 0 else self.h[min(t, self.T - 1)]
        return Var(h.value) if isinstance(h, Var) and not self.continues_tape(t) else h

    def kept(self, t: int) -> Numbers:
        """Return what a step makes; 0 where it is left out."""
        return np.zeros((self.N, self.H)) if t in self.skipped else self.step_output[t]

    def input(self, t: int) -> Numbers:
        """Return x at a step, counted as Python counts."""
        return self.x[t % self.T]

    def sloped(self, t: int, dh: Numbers) -> Numbers:
        """Return a gradient by a state times the slope."""
        if self.slope_by is not None:
            self.slope[t] = self.slope_by(t, dh)
        return dh * self.slope[t]

    def back(self, gradients: dict[int, Numbers], t: int) -> Numbers:
        """Return a gradient at a step; beyond the ends it is 0."""
        return gradients.get(t, np.zeros((self.N, self.H)))


WHERE_N_IS_H: Final = "N = H"  # of a term that can be where these are equal alone


class NoShapes(Exception):
    """Raised where a model has no shapes on a case: one of its terms needs sizes that are equal, and they are not."""


class Term(NamedTuple):
    """A term of a sum: how it is made, whether it needs input_size = hidden_size, and of which other trace it is."""

    made: Callable[[LayerTrace, int], Numbers]
    square: bool = False
    other: str = ""

    def value(self, f: LayerTrace, t: int) -> Numbers:
        """Return the term at a step of a trace; raise ``NoShapes`` where the trace cannot have it."""
        if not self.fits(f):
            raise NoShapes
        return self.made(f, t)

    def fits(self, f: LayerTrace) -> bool:
        """Tell whether a trace can have it."""
        if self.square and not f.square:
            return False
        if not self.other:
            return True
        if self.other == WHERE_N_IS_H:
            return f.N == f.H
        if self.other == "fed":
            return f.below is not None and bool(f.network_input[0].shape[-1] == f.F)
        which, _, read = self.other.partition(" ")
        trace: LayerTrace | None = getattr(f, which)
        width = None if trace is None else {"x": trace.F, "h": trace.H}.get(read, f.F)
        return width == f.F


def _expanded(v: Numbers) -> Numbers:
    return v[np.arange(v.shape[0])[:, None]]


def _diagonal(W: Any) -> Any:
    return (W * np.eye(len(np.atleast_1d(getattr(W, "value", W))))).sum(1) if W.shape[0] == W.shape[1] else W


# Functions that may stand where they do not belong: how each is written, its value and its derivative.
ELEMENTWISE: Final = (
    ("np.tanh({})", np.tanh, lambda v: mapped(v, lambda a: 1 - np.tanh(a) ** 2, 1.0)),
    ("np.maximum({}, 0)", lambda v: np.maximum(v, 0), lambda v: jumped(v, lambda a: (a > 0) * 1.0)),
    ("sigmoid({})", sigmoid, lambda v: mapped(v, lambda a: sigmoid(a) * (1 - sigmoid(a)), 1.0)),
    ("np.abs({})", np.abs, lambda v: jumped(v, np.sign)),
)


def _mapped_sum(function: Any, slope: Any, name: str) -> Callable[[LayerTrace, int], Numbers]:
    def value(f: LayerTrace, t: int) -> Numbers:
        v = f.x[t] @ f.W_ih.T if name.startswith("x") else f.state(t - 1) @ f.W_hh.T
        v = v + f.b_ih if name.endswith("b_ih") else v + f.b_hh if name.endswith("b_hh") else v
        return mapped(v, function, 1.0, slope)

    return value


def _mapped_operand(function: Any, slope: Any, name: str, W: str) -> Callable[[LayerTrace, int], Numbers]:
    def value(f: LayerTrace, t: int) -> Numbers:
        operand = f.state(t - 1) if name == "h[t-1]" else f.x[t]
        return mapped(operand, function, 1.0, slope) @ getattr(f, W).T

    return value


def _state_of(which: str, index: Callable[[int, int], int], f: LayerTrace, t: int) -> Numbers:
    trace: LayerTrace = getattr(f, which)
    return trace.state(index(t, f.T))


def _input_at(index: Callable[[int, int], int], f: LayerTrace, t: int) -> Numbers:
    return f.input(index(t, f.T))


def _of_other(which: str) -> dict[str, Term]:
    """Return the terms of a step with the parameters, or the states, of another layer or direction."""

    def source(f: LayerTrace) -> LayerTrace:
        trace: LayerTrace = getattr(f, which)
        return trace

    return {
        f"x[t] @ W_ih_{which}.T": Term(lambda f, t: f.x[t] @ source(f).W_ih.T, other=f"{which} x"),
        f"h_{which}[t-1] @ W_ih.T": Term(lambda f, t: source(f).state(t - 1) @ f.W_ih.T, other=f"{which} h"),
        f"b_ih_{which}": Term(lambda f, t: source(f).b_ih + np.zeros((f.N, 1)), other=which),
        f"h[t-1] @ W_hh_{which}.T": Term(lambda f, t: f.state(t - 1) @ source(f).W_hh.T, other=which),
        f"b_hh_{which}": Term(lambda f, t: source(f).b_hh + np.zeros((f.N, 1)), other=which),
        f"h_{which}[t] @ W_hh.T": Term(lambda f, t: source(f).state(t) @ f.W_hh.T, other=which),
        f"h_{which}[t-1] @ W_hh.T": Term(lambda f, t: source(f).state(t - 1) @ f.W_hh.T, other=which),
    }


def _by_columns(W: Numbers) -> Numbers:
    """Return a matrix whose numbers, taken row by row, are read as if they stood column by column."""
    rows, columns = W.shape
    place = np.arange(rows * columns).reshape(columns, rows)
    return W[place // columns, place % columns].T


def _side_by_side(parts: Sequence[tuple[Numbers, Numbers]], f: LayerTrace) -> Numbers:
    """Return the product of operands side by side with the transpose of matrices side by side, of any widths."""
    operands, matrices = zip(*parts, strict=True)
    result: Numbers = np.zeros((f.N, f.H))
    start = 0
    for v in operands:
        place = 0
        for W in matrices:
            low, high = max(start, place), min(start + v.shape[1], place + W.shape[1])
            if low < high:
                result = result + v[:, low - start : high - start] @ W[:, low - place : high - place].T
            place += W.shape[1]
        start += v.shape[1]
    return result


# How the transpose of a matrix may be read otherwise, each with how that is written.
MATRIX_READINGS: Final[dict[str, Callable[[Any], Any]]] = {
    "{}[::-1].T": lambda W: W[::-1],
    "{}[:, ::-1].T": lambda W: W[:, ::-1],
    "{}[::-1, ::-1].T": lambda W: W[::-1, ::-1],
    "{0}.reshape({0}.shape[::-1])": _by_columns,
    "np.tril({}).T": lambda W: W * np.tri(W.shape[0], W.shape[1]),
    "np.triu({}).T": lambda W: W * (1 - np.tri(W.shape[0], W.shape[1], -1)),
    "np.abs({}).T": lambda W: mapped(W, np.abs, 1.0, lambda v: jumped(v, np.sign)),
}


def _arranged(read: Callable[[Any], Any], operand: str, W: str) -> Callable[[LayerTrace, int], Numbers]:
    return lambda f, t: (f.x[t] if operand == "x[t]" else f.state(t - 1)) @ read(getattr(f, W)).T


def _mixed(matrix: Callable[[int], Floats], axis: int, operand: str, W: str) -> Callable[[LayerTrace, int], Numbers]:
    def value(f: LayerTrace, t: int) -> Numbers:
        v = f.x[t] if operand == "x[t]" else f.state(t - 1)
        M = matrix(v.shape[axis]).T
        return ((v.T @ M).T if axis == 0 else v @ M) @ getattr(f, W).T

    return value


def _along_batch(name: str) -> Callable[[LayerTrace, int], Numbers]:
    return lambda f, t: _expanded(getattr(f, name)) + np.zeros((1, f.H))


# Terms of a step that are tried one by one, each with the step's own part: whose matrix is read otherwise.
ARRANGED_TERMS: Final = {
    **{
        f"{operand} @ {line.format(W)}": Term(_arranged(read, operand, W))
        for operand, W in (("x[t]", "W_ih"), ("h[t-1]", "W_hh"))
        for line, read in MATRIX_READINGS.items()
    },
    **{
        f"{in_product(mixed.line.format(operand, axis))} @ {W}.T": Term(_mixed(mixed.of, axis, operand, W))
        for name, mixed in AXIS_MATRICES.items()
        for operand, W in (("x[t]", "W_ih"), ("h[t-1]", "W_hh"))
        for axis in (0, 1)
        if name and (name, axis) not in (("mean", 0), ("rolled on", 0))  # which are in ``GENERAL``
    },
    "np.hstack([x[t], h[t-1]]) @ np.hstack([W_hh, W_ih]).T": Term(
        lambda f, t: _side_by_side([(f.x[t], f.W_hh), (f.state(t - 1), f.W_ih)], f)
    ),
    "np.hstack([h[t-1], x[t]]) @ np.hstack([W_ih, W_hh]).T": Term(
        lambda f, t: _side_by_side([(f.state(t - 1), f.W_ih), (f.x[t], f.W_hh)], f)
    ),
    "b_ih[::-1]": Term(lambda f, t: f.b_ih[::-1] + np.zeros((f.N, 1))),
    "b_hh[::-1]": Term(lambda f, t: f.b_hh[::-1] + np.zeros((f.N, 1))),
    "b_ih[:, None]": Term(_along_batch("b_ih"), other=WHERE_N_IS_H),
    "b_hh[:, None]": Term(_along_batch("b_hh"), other=WHERE_N_IS_H),
}

# The preactivation s of a step, by how each term is written.
GENERAL: Final = {
    "x[t] @ W_ih.T": Term(lambda f, t: f.x[t] @ f.W_ih.T),
    "b_ih": Term(lambda f, t: f.b_ih + np.zeros((f.N, 1))),
    "h[t-1] @ W_hh.T": Term(lambda f, t: f.state(t - 1) @ f.W_hh.T),
    "b_hh": Term(lambda f, t: f.b_hh + np.zeros((f.N, 1))),
    "x[t] @ W_ih": Term(lambda f, t: f.x[t] @ f.W_ih, True),
    "h[t-1] @ W_hh": Term(lambda f, t: f.state(t - 1) @ f.W_hh),
    "h[t-1]": Term(lambda f, t: f.state(t - 1)),
    "x[t]": Term(lambda f, t: f.x[t], True),
    "hx @ W_hh.T": Term(lambda f, t: f.hx @ f.W_hh.T),
    "h[t-2] @ W_hh.T": Term(lambda f, t: f.state(t - 2) @ f.W_hh.T),
    "h[0] @ W_hh.T": Term(lambda f, t: f.state(min(0, t - 1)) @ f.W_hh.T),
    "x[t-1] @ W_ih.T": Term(lambda f, t: f.input(t - 1) @ f.W_ih.T),
    "x[t+1] @ W_ih.T": Term(lambda f, t: f.input(t + 1) @ f.W_ih.T),
    "x[0] @ W_ih.T": Term(lambda f, t: f.x[0] @ f.W_ih.T),
    "x[T-1] @ W_ih.T": Term(lambda f, t: f.x[f.T - 1] @ f.W_ih.T),
    "x[T-1-t] @ W_ih.T": Term(lambda f, t: f.x[f.T - 1 - t] @ f.W_ih.T),
    "x.mean(0) @ W_ih.T": Term(lambda f, t: _total(f.x) * (1 / f.T) @ f.W_ih.T),
    "x[:t+1].sum(0) @ W_ih.T": Term(lambda f, t: _total(f.x[: t + 1]) @ f.W_ih.T),
    "x[t] @ W_hh.T": Term(lambda f, t: f.x[t] @ f.W_hh.T, True),
    "h[t-1] @ W_ih.T": Term(lambda f, t: f.state(t - 1) @ f.W_ih.T, True),
    "h[t-1] * np.diag(W_hh)": Term(lambda f, t: f.state(t - 1) * _diagonal(f.W_hh)),
    "x[t] * np.diag(W_ih)": Term(lambda f, t: f.x[t] * _diagonal(f.W_ih), True),
    "x[t] @ W_ih.T @ W_hh.T": Term(lambda f, t: f.x[t] @ f.W_ih.T @ f.W_hh.T),
    "b_ih @ W_hh.T": Term(lambda f, t: (f.b_ih + np.zeros((f.N, 1))) @ f.W_hh.T),
    "b_hh @ W_hh.T": Term(lambda f, t: (f.b_hh + np.zeros((f.N, 1))) @ f.W_hh.T),
    "h[t-1].mean(0) @ W_hh.T": Term(lambda f, t: _mean(f.state(t - 1)) @ f.W_hh.T),
    "x[t].mean(0) @ W_ih.T": Term(lambda f, t: _mean(f.x[t]) @ f.W_ih.T),
    "h[t-1][:1] @ W_hh.T": Term(lambda f, t: f.state(t - 1)[:1] @ f.W_hh.T + np.zeros((f.N, 1))),
    "x[t][:1] @ W_ih.T": Term(lambda f, t: f.x[t][:1] @ f.W_ih.T + np.zeros((f.N, 1))),
    "h[t] @ np.tril(W_hh, -1).T": Term(lambda f, t: f.state(t) @ (f.W_hh * np.tri(f.H, k=-1)).T),
    "h[t-1] @ np.tril(W_hh, -1).T": Term(lambda f, t: f.state(t - 1) @ (f.W_hh * np.tri(f.H, k=-1)).T),
    "np.roll(h[t-1], 1, 0) @ W_hh.T": Term(lambda f, t: _rolled(f.state(t - 1)) @ f.W_hh.T),
    "np.roll(x[t], 1, 0) @ W_ih.T": Term(lambda f, t: _rolled(f.x[t]) @ f.W_ih.T),
    **{
        f"{line.format(name)} @ {W}.T": Term(_mapped_operand(function, slope, name, W))
        for line, function, slope in (
            ("np.tanh({0})", np.tanh, lambda v: mapped(v, lambda a: 1 - np.tanh(a) ** 2, 1.0)),
            ("np.maximum({}, 0)", lambda v: np.maximum(v, 0), lambda v: jumped(v, lambda a: (a > 0) * 1.0)),
            ("sigmoid({})", sigmoid, lambda v: mapped(v, lambda a: sigmoid(a) * (1 - sigmoid(a)), 1.0)),
            ("np.abs({})", np.abs, lambda v: jumped(v, np.sign)),
        )
        for name, W in (("h[t-1]", "W_hh"), ("x[t]", "W_ih"))
    },
    **{
        line.format(name): Term(_mapped_sum(function, slope, name))
        for line, function, slope in ELEMENTWISE
        for name in ("x[t] @ W_ih.T", "x[t] @ W_ih.T + b_ih", "h[t-1] @ W_hh.T", "h[t-1] @ W_hh.T + b_hh")
    },
    "1": Term(lambda f, t: np.ones((f.N, f.H))),
    "x_fed[t] @ W_ih.T": Term(lambda f, t: f.network_input[t] @ f.W_ih.T, other="fed"),
    **_of_other("below"),
    **_of_other("beside"),
}


# The steps of a quantity that may be read.
INDICES: Final[dict[str, Callable[[int, int], int]]] = {
    "t": lambda t, T: t,
    "t-1": lambda t, T: t - 1,
    "t+1": lambda t, T: t + 1,
    "t-2": lambda t, T: t - 2,
    "0": lambda t, T: 0,
    "T-1": lambda t, T: T - 1,
    "T-1-t": lambda t, T: T - 1 - t,
}


def _indices(k: int) -> dict[str, Callable[[int, int], int]]:
    """Return the steps that a loop over blocks, a window or a buffer of some size may read instead of its own."""
    return {
        f"t % {k}": lambda t, T: t % k,
        f"t // {k} * {k}": lambda t, T: t // k * k,
        f"min(t // {k} * {k} + {k - 1} - t % {k}, T - 1)": lambda t, T: min(t // k * k + k - 1 - t % k, T - 1),
        f"max(t - {k}, 0)": lambda t, T: max(t - k, 0),
        f"min(t, {k - 1})": lambda t, T: min(t, k - 1),
        f"max(t, T - {k})": lambda t, T: max(t, T - k),
        f"min(t + {k - 1}, T - 1)": lambda t, T: min(t + k - 1, T - 1),
        f"(t - {k}) % T": lambda t, T: (t - k) % T,
        f"(t + {k}) % T": lambda t, T: (t + k) % T,
        f"t // {k}": lambda t, T: t // k,
        f"min({k} * t, T - 1)": lambda t, T: min(k * t, T - 1),
    }


# Other steps that x may be read of, or the state before, at step t of T.
OTHER_STEPS: Final = {
    "max(t - 1, 0)": lambda t, T: max(t - 1, 0),
    "min(t + 1, T - 1)": lambda t, T: min(t + 1, T - 1),
} | {name: index for k in range(2, 12) for name, index in _indices(k).items()}


def _is_past(index: Callable[[int, int], int]) -> bool:
    return all(index(t, T) <= t for T in range(1, 25) for t in range(T))


def _input_read(index: Callable[[int, int], int]) -> Term:
    return Term(lambda f, t: f.x[index(t, f.T)] @ f.W_ih.T)


def _state_read(index: Callable[[int, int], int]) -> Term:
    return Term(lambda f, t: f.state(index(t, f.T) - 1) @ f.W_hh.T)


def read_of(operand: str, index: str) -> str:
    """Return how a product with x, or with the state before, of another step is written."""
    return f"x[{index}] @ W_ih.T" if operand == "x" else f"h[{index} - 1] @ W_hh.T"


# The terms that read one other step, with its number; for a state, that of the step which should read it.
OTHER_STEP_TERMS: Final[dict[str, dict[str, Callable[[int, int], int]]]] = {
    "x": {read_of("x", name): index for name, index in INDICES.items() if name not in ("t", "t-2")},
    "h": {
        "hx @ W_hh.T": lambda t, T: 0,
        "h[t-2] @ W_hh.T": lambda t, T: max(t - 1, 0),
        "h[0] @ W_hh.T": lambda t, T: min(1, t),
    },
}


def step_read(name: str) -> Term:
    """Return the product with x, or with the state before, of a step by its number, as ``read_of`` writes it."""
    k = int(name[2:].partition(" - 1]")[0].partition("]")[0])
    return (_input_read if name[0] == "x" else _state_read)(lambda t, T: k)


# Terms that in few steps are sums of those of single steps.
OVER_TIME: Final = ("x.mean(0) @ W_ih.T", "x[:t+1].sum(0) @ W_ih.T")
STEP_TERMS: Final = (
    GENERAL
    | ARRANGED_TERMS
    | {read_of("x", name): _input_read(index) for name, index in OTHER_STEPS.items()}
    | {read_of("h", name): _state_read(index) for name, index in OTHER_STEPS.items() if _is_past(index)}
)

# What is added to the activation: what a step reads, as it is. The first of those that are equal is taken.
ADDED_TERMS: Final = {
    "h[t-1]": Term(lambda f, t: f.state(t - 1)),
    "x[t]": Term(lambda f, t: f.x[t], True),
    **{
        f"h_{which}[{index}]": Term(partial(_state_of, which, INDICES[index]), other=which)
        for which in ("below", "beside")
        for index in ("t", "t-1")
    },
    "h[t-2]": Term(lambda f, t: f.state(t - 2)),
    "h[0]": Term(lambda f, t: f.state(min(0, t - 1))),
    "hx": Term(lambda f, t: f.hx + np.zeros((f.N, f.H))),
    **{f"x[{index}]": Term(partial(_input_at, INDICES[index]), True) for index in INDICES if index != "t"},
    "x_fed[t]": Term(lambda f, t: f.network_input[t], True, other="fed"),
    "1": STEP_TERMS["1"],
}
ACTIVATION_TERMS: Final = ADDED_TERMS | {
    name: STEP_TERMS[name] for name in ("b_ih", "b_hh", "h[t-1] @ W_hh.T", "x[t] @ W_ih.T")
}

# Steps of the way back, by how the gradient there is written.
DA: Final[dict[str, Callable[[LayerTrace, int], Numbers]]] = {
    "da[t]": lambda f, t: f.back(f.da, t),
    "da[t+1]": lambda f, t: f.back(f.da, t + 1),
    "da[0]": lambda f, t: f.back(f.da, f.first),
}


def _arranged_back(da: str, W: str) -> dict[str, Term]:
    """Return the products of a gradient with a matrix that is read otherwise, by how each is written."""

    def term(read: Callable[[Any], Any]) -> Term:
        return Term(lambda f, t: DA[da](f, t) @ read(getattr(f, W)))

    lines = {line.format(W): read for line, read in MATRIX_READINGS.items()}
    turned = {line.removesuffix(".T") if line.endswith(".T") else f"{line}.T": read for line, read in lines.items()}
    return {f"{da} @ {line}": term(read) for line, read in turned.items()}


# Terms of the way back that are tried one by one, each instead of nn.RNN's own: whose matrix is read otherwise.
ARRANGED_BACK: Final = {
    "x": _arranged_back("da[t]", "W_ih"),
    "hx": _arranged_back("da[0]", "W_hh"),
    "link": _arranged_back("da[t+1]", "W_hh"),
}

# What a step passes on to the step before it, dh_next; ``f.da`` and ``f.dh`` are the later step's.
LINK: Final = {
    "da[t+1] @ W_hh": Term(lambda f, t: f.da[t + 1] @ f.W_hh),
    "da[t+1] @ W_hh.T": Term(lambda f, t: f.da[t + 1] @ f.W_hh.T),
    "da[t+1]": Term(lambda f, t: f.da[t + 1]),
    "dh[t+1] @ W_hh": Term(lambda f, t: f.dh[t + 1] @ f.W_hh),
    "dh[t+1] @ W_hh.T": Term(lambda f, t: f.dh[t + 1] @ f.W_hh.T),
    "dh[t+1]": Term(lambda f, t: f.dh[t + 1]),
    "dh_next[t+1]": Term(lambda f, t: f.back(f.from_next, t + 1)),
    "g[t+1]": Term(lambda f, t: f.back(f.g, t + 1)),
    "g[t+1] @ W_hh": Term(lambda f, t: f.back(f.g, t + 1) @ f.W_hh),
    "(da[t+1] * slope[t+1]) @ W_hh": Term(lambda f, t: (f.da[t + 1] * f.slope[t + 1]) @ f.W_hh),
    "da[t+1] * np.diag(W_hh)": Term(lambda f, t: f.da[t + 1] * _diagonal(f.W_hh)),
    "da[t+1] @ W_ih": Term(lambda f, t: f.da[t + 1] @ f.W_ih, True),
    "da[t+1] @ W_ih.T": Term(lambda f, t: f.da[t + 1] @ f.W_ih.T, True),
    "(da[t+1] @ W_hh).mean(0)": Term(lambda f, t: _mean(f.da[t + 1] @ f.W_hh) + np.zeros((f.N, 1))),
    **ARRANGED_BACK["link"],
}


def _others(f: LayerTrace, t: int) -> Numbers:
    total: Numbers = np.zeros((f.N, f.H))
    for k, da in f.da.items():
        total = total + da if k != t else total
    return total


# The left operands of the parameters' gradients, and what alone makes the biases'.
LEFT: Final = {
    "da[t]": Term(lambda f, t: f.back(f.da, t)),
    "dh[t]": Term(lambda f, t: f.back(f.dh, t)),
    "g[t]": Term(lambda f, t: f.back(f.g, t)),
    "da[t+1]": Term(lambda f, t: f.back(f.da, t + 1)),
    "da[t-1]": Term(lambda f, t: f.back(f.da, t - 1)),
    "da[T-1-t]": Term(lambda f, t: f.back(f.da, f.T - 1 - t)),
    "da[T-1]": Term(lambda f, t: f.back(f.da, f.T - 1)),
    "da[0]": Term(lambda f, t: f.back(f.da, 0)),
    "slope[t]": Term(lambda f, t: f.slope[t]),
}

# Their right operands: each quantity at each step that may be taken for the right one, x[t] and h[t-1].
QUANTITIES: Final[dict[str, Callable[[LayerTrace, int], Numbers]]] = {
    "x": lambda f, t: f.input(t),
    "h": lambda f, t: f.state(t),
    "s": lambda f, t: f.back(f.s, min(t, f.T - 1)),
    "g": lambda f, t: f.back(f.g, t),
    "dh": lambda f, t: f.back(f.dh, t),
    "da": lambda f, t: f.back(f.da, t),
}


def _operand(quantity: str, index: str) -> Term:
    return Term(lambda f, t: QUANTITIES[quantity](f, INDICES[index](t, f.T)))


# x, and the states before, whose rows of all steps and sequences are paired with others, by how that is written: True
# if the axes are exchanged and then the shape is changed, False if it is the other way round.
ROWS_OVER_TIME: Final = {
    f"{v}.{line}[t]": line.startswith("swapaxes")
    for v in ("x", "h[-1:T-1]")
    for line in ("swapaxes(0, 1).reshape(T, N, -1)", "reshape(N, T, -1).swapaxes(0, 1)")
}


def _of_rows(quantity: str, f: LayerTrace, t: int, *, turned: bool) -> Numbers:
    read = [f.x[k] if quantity == "x" else f.state(k - 1) for k in range(f.T)]
    place = t * f.N + np.arange(f.N) if turned else np.arange(f.N) * f.T + t
    times, sequences = (place % f.T, place // f.T) if turned else (place // f.N, place % f.N)
    return together([read[k][n : n + 1] for k, n in zip(times.tolist(), sequences.tolist(), strict=True)])


RIGHT_TERMS: Final = {
    "x[t]": _operand("x", "t"),
    "h[t-1]": _operand("h", "t-1"),
    "h[t]": _operand("h", "t"),
    "h[T-t]": Term(lambda f, t: f.state(f.T - t)),  # the states before, in the order of another direction
    **{f"{quantity}[{index}]": _operand(quantity, index) for quantity in QUANTITIES for index in INDICES},
    "hx": Term(lambda f, t: f.hx),
    **{line: Term(partial(_of_rows, line[0], turned=turned)) for line, turned in ROWS_OVER_TIME.items()},
    "(h[t-1][:1] + 0 * h[t-1])": Term(lambda f, t: f.state(t - 1)[:1] + np.zeros((f.N, 1))),
    "(x[t][:1] + 0 * x[t])": Term(lambda f, t: f.x[t][:1] + np.zeros((f.N, 1))),
    "np.tanh(h[t-1])": Term(lambda f, t: mapped(f.state(t - 1), np.tanh, 1.0)),
    "np.tanh(x[t])": Term(lambda f, t: mapped(f.x[t], np.tanh, 1.0)),
    "1": Term(lambda f, t: None),
}


def _blocks(k: int, H: int) -> Floats:
    block = np.arange(H) // k
    return np.where(block[:, None] == block, 1.0, 0.0)


# What weight_hh's gradient may be multiplied by, by how that is written.
GRADIENT_MASKS: Final[dict[str, Callable[[int], Floats]]] = {
    "np.eye(H)": np.eye,
    "np.tri(H)": np.tri,
    "np.tri(H).T": lambda H: np.tri(H).T,
    "(1 - np.eye(H))": lambda H: 1 - np.eye(H),
    **{f"np.kron(np.eye(H), np.ones(({k}, {k})))[:H, :H]": partial(_blocks, k) for k in (2, 3, 4, 8, 16, 32)},
}

# What the slopes of tanh and relu are made of, as if x or hx were what these return.
GIVEN_SLOPES: Final[dict[str, Callable[[LayerTrace, int], Numbers]]] = {
    "x[t]**2": lambda f, t: f.x[t] * f.x[t],
    "(x[t] > 0)": lambda f, t: jumped(f.x[t], lambda v: (v > 0) * 1.0),
    "hx**2": lambda f, t: f.hx * f.hx,
    "(hx > 0)": lambda f, t: jumped(f.hx, lambda v: (v > 0) * 1.0),
}


def _times_slope(da: str, W: str, slope: str, f: LayerTrace, t: int) -> Numbers:
    return (DA[da](f, t) @ getattr(f, W)) * GIVEN_SLOPES[slope](f, t)


# The gradient that x[t] is given.
INPUT: Final = {
    "da[t] @ W_ih": Term(lambda f, t: f.back(f.da, t) @ f.W_ih),
    "(da.sum(0) - da[t]) @ W_ih": Term(lambda f, t: _others(f, t) @ f.W_ih),
    "da[t+1] @ W_ih": Term(lambda f, t: f.back(f.da, t + 1) @ f.W_ih),
    "da[t-1] @ W_ih": Term(lambda f, t: f.back(f.da, t - 1) @ f.W_ih),
    "da[t] @ W_ih.T": Term(lambda f, t: f.back(f.da, t) @ f.W_ih.T, True),
    "da[t] @ W_hh @ W_ih": Term(lambda f, t: f.back(f.da, t) @ f.W_hh @ f.W_ih),
    "da[t+1] @ W_hh @ W_ih": Term(lambda f, t: f.back(f.da, t + 1) @ f.W_hh @ f.W_ih),
    "dh[t] @ W_ih": Term(lambda f, t: f.back(f.dh, t) @ f.W_ih),
    "g[t] @ W_ih": Term(lambda f, t: f.back(f.g, t) @ f.W_ih),
    "da[t] @ W_hh": Term(lambda f, t: f.back(f.da, t) @ f.W_hh, True),
    "da[t]": Term(lambda f, t: f.back(f.da, t), True),
    "dh[t]": Term(lambda f, t: f.back(f.dh, t), True),
    "da[T-1-t] @ W_ih": Term(lambda f, t: f.back(f.da, f.T - 1 - t) @ f.W_ih),
    **{
        f"(da[t] @ W_ih) * {slope}": Term(partial(_times_slope, "da[t]", "W_ih", slope))
        for slope in ("x[t]**2", "(x[t] > 0)")
    },
    **ARRANGED_BACK["x"],
}

# The gradient that hx is given, once; ``f.first`` is the first step that the way back reaches.
START: Final = {
    "da[0] @ W_hh": Term(lambda f, t: f.back(f.da, f.first) @ f.W_hh),
    "da[0] @ W_hh, if reached": Term(lambda f, t: f.back(f.da, 0) @ f.W_hh),
    "da[0] @ W_hh, if passed": Term(lambda f, t: f.back(f.da, f.first) @ f.W_hh * float(f.passes_to_hx)),
    "dh_next[0]": Term(lambda f, t: f.back(f.from_next, f.first)),
    "dh[0]": Term(lambda f, t: f.back(f.dh, f.first)),
    "da[0]": Term(lambda f, t: f.back(f.da, f.first)),
    "da[0] @ W_hh.T": Term(lambda f, t: f.back(f.da, f.first) @ f.W_hh.T),
    "dh[0] @ W_hh": Term(lambda f, t: f.back(f.dh, f.first) @ f.W_hh),
    "dh[0] @ W_hh.T": Term(lambda f, t: f.back(f.dh, f.first) @ f.W_hh.T),
    "da[1] @ W_hh": Term(lambda f, t: f.back(f.da, f.first + 1) @ f.W_hh),
    "g[0]": Term(lambda f, t: f.back(f.g, f.first)),
    "g[0] @ W_hh": Term(lambda f, t: f.back(f.g, f.first) @ f.W_hh),
    "da[0] * np.diag(W_hh)": Term(lambda f, t: f.back(f.da, f.first) * _diagonal(f.W_hh)),
    "da[0] @ W_ih": Term(lambda f, t: f.back(f.da, f.first) @ f.W_ih, True),
    "(da[0] * slope[0]) @ W_hh": Term(lambda f, t: (f.back(f.da, f.first) * f.slope[f.first]) @ f.W_hh),
    "(da.sum(0) - da[0]) @ W_hh": Term(lambda f, t: _others(f, f.first) @ f.W_hh),
    "(da.sum(0) - da[0])": Term(lambda f, t: _others(f, f.first)),
    "da[T-1] @ W_hh": Term(lambda f, t: f.back(f.da, f.T - 1) @ f.W_hh),
    **{
        f"(da[0] @ W_hh) * {slope}": Term(partial(_times_slope, "da[0]", "W_hh", slope))
        for slope in ("hx**2", "(hx > 0)")
    },
    **ARRANGED_BACK["hx"],
}


def _mean(v: Numbers) -> Numbers:
    return v.sum(0) * (1.0 / max(1, v.shape[0])) + np.zeros((1, 1))  # of no sequence, whatever it is


def _total(several: Sequence[Numbers]) -> Numbers:
    return reduce(add, several)


def _placed(v: Numbers, index: Any) -> Numbers:
    """Return an array with its numbers in other places, each by its index among all."""
    return rows(v, Gather(index)) if isinstance(v, Var) else each(v, lambda a: a.ravel()[index])


# What a sequence may start at; ``f.hx`` is what it should.
SEQUENCE_STARTS: Final[dict[str, Callable[[LayerTrace], Numbers]]] = {
    "hx": lambda f: f.hx,
    "0 * hx": lambda f: f.hx * 0.0,
    "np.tanh(hx)": lambda f: mapped(f.hx, np.tanh, 1.0, ELEMENTWISE[0][2]),
    "np.maximum(hx, 0)": lambda f: mapped(f.hx, lambda v: np.maximum(v, 0), 1.0, ELEMENTWISE[1][2]),
    "hx[:1] + 0 * hx": lambda f: f.hx[:1] + np.zeros((f.N, 1)),
    "hx.mean(0) + 0 * hx": lambda f: _mean(f.hx) + np.zeros((f.N, 1)),
    "-hx": lambda f: f.hx * -1.0,
    "0.5 * hx": lambda f: f.hx * 0.5,
    "2 * hx": lambda f: f.hx * 2.0,
    "hx[::-1]": lambda f: f.hx[::-1],
    "hx.reshape(H, N).T": lambda f: _placed(f.hx, np.arange(f.N * f.H).reshape(f.H, f.N).T),
    "hx.T.reshape(N, H)": lambda f: _placed(f.hx, np.arange(f.N * f.H).reshape(f.N, f.H).T.reshape(f.N, f.H)),
    "hx_below": lambda f: f.hx if f.below is None else f.below.given_hx,
    "h_below[T-1]": lambda f: f.hx if f.below is None else f.below.state(f.T - 1),
    "hx_beside": lambda f: f.hx if f.beside is None else f.beside.given_hx,
    "h_beside[T-1]": lambda f: f.hx if f.beside is None else f.beside.state(f.T - 1),
}


def _at_least_the_last(k: int, t: int, T: int) -> int:
    return max(t, T - k)


def _at_most(k: int, t: int, T: int) -> int:  # noqa: ARG001
    return min(t, k)


def _last_of_buffer(k: int, t: int, T: int) -> int:
    """Return the last step that is written into the buffer of a step, of k that take turns."""
    return T - 1 - (T - 1 - t) % k


# What is returned of each step: the step whose state it is, hx at -1. Of two, it is a function of that state.
STATES_RETURNED: Final[dict[str, Callable[[int, int], int]]] = {
    "h[t]": lambda t, T: t,
    "s[t]": lambda t, T: t,
    "phi(h[t])": lambda t, T: t,
    "h[t-1]": lambda t, T: t - 1,
    "h[T-1-t]": lambda t, T: T - 1 - t,
    "h[T-1]": lambda t, T: T - 1,
    "h[0]": lambda t, T: 0,
    **{f"h[max(t, T-{k})]": partial(_at_least_the_last, k) for k in range(2, 13)},
    **{f"h[min(t, {k})]": partial(_at_most, k) for k in range(1, 12)},
    **{f"h[T-1-(T-1-t)%{k}]": partial(_last_of_buffer, k) for k in range(2, 12)},
}

# The step whose slope is taken.
AT: Final[dict[str, Callable[[int, int], int]]] = {
    "t": lambda t, T: t,
    "t-1": lambda t, T: t - 1,
    "t+1": lambda t, T: min(t + 1, T - 1),
    "T-1": lambda t, T: T - 1,
    "0": lambda t, T: 0,
}


def _rolled(v: Numbers) -> Numbers:
    order = np.roll(np.arange(v.shape[0]), 1)
    return v[order]
