"""terms: what may stand in each sum of a layer's step and of its way back. nn.RNN's own terms come first.

A layer is a few sums: the preactivation, what is added to the activation, the gradient by the preactivation, and each
gradient that is returned. A sum is identified by the coefficients of its terms. A term is a line of NumPy, which a
report prints and which is evaluated: so a table says how its terms are written, and nothing about mistakes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property, lru_cache, partial, reduce
from operator import add
from typing import Any, Final

from harness.diagnosis.identify.activations import Activation, Numbers, in_product
from harness.diagnosis.identify.autodiff import Var
from harness.diagnosis.identify.gather import together
from harness.diagnosis.identify.line import FUNCTIONS, Line, function_of
from harness.diagnosis.identify.transform import AXIS_MATRICES
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np


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
        gradient = gradients.get(t)
        return np.zeros((self.N, self.H)) if gradient is None else gradient


class StepwiseArray:
    """An array by step, of a trace, or as the line of a step has made it; the steps of a slice are counted from hx."""

    def __init__(self, value: Callable[[int], Any], end: int, start: int = 0) -> None:
        self._value, self._end, self._start = value, end, start
        self._made: dict[int, Any] | None = None

    def __getitem__(self, t: Any) -> Any:
        if type(t) is slice:
            return StepwiseArray(self._value, self._end if t.stop is None else t.stop, t.start or 0)
        return self._value(t) if self._made is None or t not in self._made else self._made[t]

    def __setitem__(self, t: int, value: Any) -> None:
        self._made = {**(self._made or {}), t: value}

    def __getattr__(self, name: str) -> Any:
        """Return what the array of all steps has."""
        return getattr(np.stack([*map(self._value, range(self._start, self._end))]), name)

    def sum(self, _axis: int) -> Any:
        """Return the sum over the steps."""
        return reduce(add, map(self._value, range(self._start, self._end)))

    def mean(self, axis: int) -> Any:
        """Return the mean over the steps."""
        return self.sum(axis) / (self._end - self._start)


def _reader(value: str) -> Callable[[LayerTrace, int], Any]:
    return function_of(value, "f", "t", StepwiseArray=StepwiseArray, partial=partial)


_PARAMETERS: Final = ("W_ih", "W_hh", "b_ih", "b_hh")
_OTHERS: Final = ("below", "beside")
# What the names of a line stand for at a step t of a trace f.
_NAMES: Final = {
    **{name: _reader(f"f.{name}") for name in (*_PARAMETERS, "hx", "T", "N", "H", "first", "passes_to_hx")},
    **{f"{name}_{which}": _reader(f"f.{which}.{name}") for name in _PARAMETERS for which in _OTHERS},
    **{f"hx_{which}": _reader(f"f.{which}.given_hx") for which in _OTHERS},
    **{f"h_{which}": _reader(f"StepwiseArray(f.{which}.state, f.T)") for which in _OTHERS},
    **{name: _reader(f"StepwiseArray(partial(f.back, f.{name}), f.T)") for name in ("g", "dh", "da", "slope")},
    "t": _reader("t"),
    "I": _reader("f.F"),
    "x": _reader("StepwiseArray(f.input, f.T)"),
    "x_fed": _reader("f.network_input"),
    "h": _reader("StepwiseArray(f.state, f.T)"),
    "s": _reader("StepwiseArray(lambda k: f.back(f.s, min(k, f.T - 1)), f.T)"),
    "dh_next": _reader("StepwiseArray(partial(f.back, f.from_next), f.T)"),
    "passed": _reader("StepwiseArray(partial(f.back, f.h_n_gradient), f.T)"),
    "da_of": _reader("StepwiseArray(lambda k: StepwiseArray(partial(f.back, f.sources()[k]), f.T), f.T)"),
}


def at_step(line: Line, f: LayerTrace, t: int) -> Any:
    """Return the value of a line at a step of a trace."""
    return line.function(*[_NAMES[name](f, t) for name in line.names])


def namespace(f: LayerTrace, t: int) -> dict[str, Any]:
    """Return all names that a step of a trace has, for lines that are executed."""
    names = dict(FUNCTIONS)
    for name, value in _NAMES.items():
        with suppress(AttributeError):  # of no layer below, or beside
            names[name] = value(f, t)
    return names


class NoShapes(Exception):
    """Raised where a model has no shapes on a case: one of its terms needs sizes that are equal, and they are not."""


WHERE_N_IS_H: Final = "N = H"  # of a term that can be where these are equal alone
SQUARE: Final = "input_size = hidden_size"
_NO_TWO_EQUAL: Final = (2, 3, 5)  # N, F and H
# Sizes with which a term has a shape if it always has one, or where two of them are equal alone.
_SIZES: Final = {"": _NO_TWO_EQUAL, SQUARE: (2, 5, 5), WHERE_N_IS_H: (5, 3, 5)}


def _of_sizes(N: int, F: int, H: int) -> LayerTrace:
    f = LayerTrace([np.ones((N, F))] * 2, *(np.ones(shape) for shape in ((N, H), (H, F), (H, H), (H,), (H,))))
    by_step = dict.fromkeys(range(2), f.hx)
    f.h = f.s = f.g = f.dh = f.da = f.from_next = f.slope = by_step
    f.sources = lambda: dict.fromkeys(range(2), by_step)
    return f


@lru_cache(maxsize=4096)
def has_shape(
    text: str, shape: str, sizes: tuple[int, int, int] = _NO_TWO_EQUAL, others: tuple[int, int] | None = None
) -> bool:
    """Tell whether a line has a shape of the letters N, F and H, given their sizes, and F and H of another layer."""
    f = _of_sizes(*sizes)
    f.below = f.beside = _of_sizes(sizes[0], *(others or sizes[1:]))
    full = tuple(getattr(f, letter) for letter in shape)
    try:
        return np.broadcast_shapes(np.shape(at_step(Line(text), f, 1)), full) == full
    except ValueError:
        return False


class Term:
    """A term of a sum, which is a line of NumPy whose numbers are N by ``width``, H or F; and what follows from it."""

    def __init__(self, text: str, width: str = "H") -> None:
        self._text, self._width = text, width
        self._of = next((which for which in ("below", "beside") if which in text), "fed" if "x_fed" in text else "")

    @cached_property
    def _line(self) -> Line:
        return Line(self._text)

    @cached_property
    def needs(self) -> str:
        """The sizes that must be equal, in words; those of another layer are not counted."""
        if self._of:
            return ""
        return next(words for words, sizes in _SIZES.items() if has_shape(self._text, f"N{self._width}", sizes))

    @cached_property
    def other(self) -> str:
        """What it needs beside its layer: that "below" or "beside" it, what the network is "fed", or N = H."""
        return self._of or (self.needs if self.needs == WHERE_N_IS_H else "")

    @property
    def square(self) -> bool:
        """True if it has its shape only where input_size = hidden_size."""
        return self.needs == SQUARE

    def value(self, f: LayerTrace, t: int) -> Numbers:
        """Return the term at a step of a trace; raise ``NoShapes`` where the trace cannot have it."""
        if not self.fits(f):
            raise NoShapes
        shape = f.N, getattr(f, self._width)
        if not f.N:  # there is no first sequence, and no mean
            return f.hx[:, :1] * np.zeros(shape)
        value = at_step(self._line, f, t)
        return value if getattr(value, "shape", ()) == shape else value + np.zeros(shape)

    def fits(self, f: LayerTrace) -> bool:
        """Tell whether a trace can have it."""
        if not (self._of or self.needs):
            return True
        other = f.beside if self._of == "beside" else f.below
        if (self._of and other is None) or (self._of == "fed" and f.network_input[0].shape[-1] != f.F):
            return False
        sizes = max(1, f.N), f.F, f.H
        return has_shape(self._text, f"N{self._width}", sizes, other and (other.F, other.H))


def terms(*texts: str, width: str = "H", reads: Mapping[str, str] | None = None) -> dict[str, Term]:
    """Return terms by how they are written.

    ``reads`` has what is evaluated in the place of an index that stands for another one at an end.
    """

    def evaluated(text: str) -> str:
        return reduce(lambda text, pair: text.replace(*pair), (reads or {}).items(), text)

    return {text: Term(evaluated(text), width) for text in texts}


def indices(texts: Iterable[str]) -> dict[str, Callable[[int, int], int]]:
    """Return steps by how they are written, each as a function of t and T."""
    return {text: function_of(text, "t", "T") for text in texts}


# The parts of a step's sum by how each is written, x for x[t].
PARTIAL_SUMS: Final = {
    part: Term(part.replace("x ", "x[t] "))
    for part in (
        *("x @ W_ih.T + b_ih + b_hh", "x @ W_ih.T + b_ih", "x @ W_ih.T"),
        *("h[t-1] @ W_hh.T + b_hh", "h[t-1] @ W_hh.T"),
    )
}
OF_INPUT: Final = ("x**2", "(x > 0)", "x")  # of a layer above the first, whose x is the state of the layer below
OF_GRADIENT: Final = ("dh**2", "(dh > 0)", "dh")  # which the slope multiplies
RIGHT_SLOPE: Final = {"tanh": (("1", 1.0), ("h**2", -1.0)), "relu": (("(h > 0)", 1.0),)}


def _partial_sum(slope: str) -> str | None:
    return next((part for part in PARTIAL_SUMS if part in slope), None)


def _slope(text: str) -> Callable[..., Numbers]:
    """Return a slope as a function of h, s, x and dh, where s is the part of the sum that it names, if it does."""
    text = text.replace(_partial_sum(text) or "s", "s").replace("1 - h**2", "np.maximum(1 - h**2, 0)")  # it has a root
    return function_of(text, "h", "s", "x", "dh")


# What slopes are made of, by how it is written. nn.RNN's are 1 - h[t]**2, or h[t] > 0.
SLOPES: Final[dict[str, Callable[..., Numbers]]] = {
    text: _slope(text)
    for text in (
        *("1", "h**2", "(h > 0)", "h", "s", "s**2", "np.tanh(s)**2", "np.tanh(h)**2", "np.tanh(s)", "np.tanh(h)"),
        *("sigmoid(s)", "sigmoid(s)**2", "sigmoid(h)", "sigmoid(h)**2", "np.abs(h)", "np.tanh(np.tanh(h))**2"),
        *("(np.tanh(s) * np.tanh(np.tanh(s)))**2", "h**3", "h**4", "1/(1 + s**2)", "np.sqrt(1 - h**2)"),
        *("np.cos(s)", "np.exp(-np.abs(s))", *OF_INPUT),
        *(f"({part} > 0)" for part in PARTIAL_SUMS),
        *(f"np.tanh({part})**2" for part in PARTIAL_SUMS),
        *OF_GRADIENT,
    )
}


def slope_term(name: str, f: LayerTrace, t: int, x: Numbers, dh: Numbers) -> Numbers:
    """Return a term of the slope of step t, of whose sum it may read a part; ``x`` is its input, or half of it."""
    part = _partial_sum(name)
    s = f.back(f.s, t) if part is None else PARTIAL_SUMS[part].value(f, max(t, 0))
    return SLOPES[name](f.state(t), s, x, dh)


# The operands of a step, with their matrices.
OPERANDS: Final = (("x[t]", "W_ih"), ("h[t-1]", "W_hh"))
# Functions that may stand where they do not belong.
ELEMENTWISE: Final = ("np.tanh({})", "np.maximum({}, 0)", "sigmoid({})", "np.abs({})")
# How the transpose of a matrix may be read otherwise.
MATRIX_READINGS: Final = (
    *("{}[::-1].T", "{}[:, ::-1].T", "{}[::-1, ::-1].T", "{0}.reshape({0}.shape[::-1])"),
    *("np.tril({}).T", "np.triu({}).T", "np.abs({}).T"),
)
# Until a state is made, it is the one that was made last.
_MADE_SO_FAR: Final = {"h[0]": "h[min(0, t-1)]"}

# Terms of a step that are tried one by one, each with the step's own part: whose matrix is read otherwise.
ARRANGED_TERMS: Final = terms(
    *(f"{operand} @ {line.format(W)}" for operand, W in OPERANDS for line in MATRIX_READINGS),
    *(
        f"{in_product(line.format(operand, axis))} @ {W}.T"
        for name, line in AXIS_MATRICES.items()
        for operand, W in OPERANDS
        for axis in (0, 1)
        if name and (name, axis) not in (("mean", 0), ("rolled on", 0))  # which are in ``GENERAL``
    ),
    "np.hstack([x[t], h[t-1]]) @ np.hstack([W_hh, W_ih]).T",
    "np.hstack([h[t-1], x[t]]) @ np.hstack([W_ih, W_hh]).T",
    *("b_ih[::-1]", "b_hh[::-1]", "b_ih[:, None]", "b_hh[:, None]"),
)


def _of_other(which: str) -> list[str]:
    """Return the terms of a step with the parameters, or the states, of another layer or direction."""
    return [
        *(f"x[t] @ W_ih_{which}.T", f"h_{which}[t-1] @ W_ih.T", f"b_ih_{which}", f"h[t-1] @ W_hh_{which}.T"),
        *(f"b_hh_{which}", f"h_{which}[t] @ W_hh.T", f"h_{which}[t-1] @ W_hh.T"),
    ]


# The preactivation s of a step, by how each term is written.
GENERAL: Final = terms(
    *("x[t] @ W_ih.T", "b_ih", "h[t-1] @ W_hh.T", "b_hh", "x[t] @ W_ih", "h[t-1] @ W_hh", "h[t-1]", "x[t]"),
    *("hx @ W_hh.T", "h[t-2] @ W_hh.T", "h[0] @ W_hh.T", "x[t-1] @ W_ih.T", "x[t+1] @ W_ih.T", "x[0] @ W_ih.T"),
    *("x[T-1] @ W_ih.T", "x[T-1-t] @ W_ih.T", "x.mean(0) @ W_ih.T", "x[:t+1].sum(0) @ W_ih.T", "x[t] @ W_hh.T"),
    *("h[t-1] @ W_ih.T", "h[t-1] * np.diag(W_hh)", "x[t] * np.diag(W_ih)", "x[t] @ W_ih.T @ W_hh.T"),
    *("b_ih @ W_hh.T", "b_hh @ W_hh.T", "h[t-1].mean(0) @ W_hh.T", "x[t].mean(0) @ W_ih.T"),
    *("h[t-1][:1] @ W_hh.T", "x[t][:1] @ W_ih.T", "h[t] @ np.tril(W_hh, -1).T", "h[t-1] @ np.tril(W_hh, -1).T"),
    *("np.roll(h[t-1], 1, 0) @ W_hh.T", "np.roll(x[t], 1, 0) @ W_ih.T"),
    *(f"{line.format(operand)} @ {W}.T" for line in ELEMENTWISE for operand, W in OPERANDS[::-1]),
    *(
        line.format(part)
        for line in ELEMENTWISE
        for part in ("x[t] @ W_ih.T", "x[t] @ W_ih.T + b_ih", "h[t-1] @ W_hh.T", "h[t-1] @ W_hh.T + b_hh")
    ),
    *("1", "x_fed[t] @ W_ih.T", *_of_other("below"), *_of_other("beside")),
    reads=_MADE_SO_FAR,
)

# The steps of a quantity that may be read.
INDICES: Final = indices(("t", "t-1", "t+1", "t-2", "0", "T-1", "T-1-t"))


def _indices(k: int) -> list[str]:
    """Return the steps that a loop over blocks, a window or a buffer of some size may read instead of its own."""
    return [
        *(f"t % {k}", f"t // {k} * {k}", f"min(t // {k} * {k} + {k - 1} - t % {k}, T - 1)", f"max(t - {k}, 0)"),
        *(f"min(t, {k - 1})", f"max(t, T - {k})", f"min(t + {k - 1}, T - 1)", f"(t - {k}) % T", f"(t + {k}) % T"),
        *(f"t // {k}", f"min({k} * t, T - 1)"),
    ]


# Other steps that x may be read of, or the state before, at step t of T.
OTHER_STEPS: Final = indices(
    ("max(t - 1, 0)", "min(t + 1, T - 1)", *(name for k in range(2, 12) for name in _indices(k)))
)


def _is_past(index: Callable[[int, int], int]) -> bool:
    return all(index(t, T) <= t for T in range(1, 25) for t in range(T))


def read_of(operand: str, index: str) -> str:
    """Return how a product with x, or with the state before, of another step is written."""
    return f"x[{index}] @ W_ih.T" if operand == "x" else f"h[{index} - 1] @ W_hh.T"


# The terms that read one other step, with its number; for a state, that of the step which should read it.
OTHER_STEP_TERMS: Final[dict[str, dict[str, Callable[[int, int], int]]]] = {
    "x": {read_of("x", name): index for name, index in INDICES.items() if name not in ("t", "t-2")},
    "h": {
        f"{read} @ W_hh.T": function_of(step, "t", "T")
        for read, step in (("hx", "0"), ("h[t-2]", "max(t - 1, 0)"), ("h[0]", "min(1, t)"))
    },
}

# Terms that in few steps are sums of those of single steps.
OVER_TIME: Final = ("x.mean(0) @ W_ih.T", "x[:t+1].sum(0) @ W_ih.T")
STEP_TERMS: Final = {
    **GENERAL,
    **ARRANGED_TERMS,
    **terms(*(read_of("x", name) for name in OTHER_STEPS)),
    **terms(*(read_of("h", name) for name, index in OTHER_STEPS.items() if _is_past(index))),
}

# The terms that a step has of its own x, state and parameters, whatever its sizes are.
ONE_STEP_TERMS: Final = tuple(
    name
    for name, term in {**GENERAL, **ARRANGED_TERMS}.items()
    if not (term.other or term.square or re.search(r"\bhx|x\.|\bx\[(?!t\])|\bh\[(?!t-1\])", name))
)

# What is added to the activation: what a step reads, as it is. The first of those that are equal is taken.
ADDED_TERMS: Final = terms(
    *("h[t-1]", "x[t]", "h_below[t]", "h_below[t-1]", "h_beside[t]", "h_beside[t-1]", "h[t-2]", "h[0]", "hx"),
    *(f"x[{index}]" for index in INDICES if index != "t"),
    *("x_fed[t]", "1"),
    reads=_MADE_SO_FAR,
)
ACTIVATION_TERMS: Final = ADDED_TERMS | {
    name: STEP_TERMS[name] for name in ("b_ih", "b_hh", "h[t-1] @ W_hh.T", "x[t] @ W_ih.T")
}


def _turned(line: str) -> str:
    return line.removesuffix(".T") if line.endswith(".T") else f"{line}.T"


def _arranged_back(da: str, W: str, **options: Any) -> dict[str, Term]:
    """Return the products of a gradient with a matrix that is read otherwise."""
    return terms(*(f"{da} @ {_turned(line.format(W))}" for line in MATRIX_READINGS), **options)


# The first step that the way back reaches, and the one after it.
_FROM_FIRST: Final = {"[0]": "[first]", "[1]": "[first+1]"}
# Terms of the way back that are tried one by one, each instead of nn.RNN's own: whose matrix is read otherwise.
ARRANGED_BACK: Final = {
    "x": _arranged_back("da[t]", "W_ih", width="F"),
    "hx": _arranged_back("da[0]", "W_hh", reads=_FROM_FIRST),
    "link": _arranged_back("da[t+1]", "W_hh"),
}

# What a step passes on to the step before it, dh_next.
LINK: Final = (
    terms(
        *("da[t+1] @ W_hh", "da[t+1] @ W_hh.T", "da[t+1]", "dh[t+1] @ W_hh", "dh[t+1] @ W_hh.T", "dh[t+1]"),
        *("dh_next[t+1]", "g[t+1]", "g[t+1] @ W_hh", "(da[t+1] * slope[t+1]) @ W_hh", "da[t+1] * np.diag(W_hh)"),
        *("da[t+1] @ W_ih", "da[t+1] @ W_ih.T", "(da[t+1] @ W_hh).mean(0)"),
    )
    | ARRANGED_BACK["link"]
)

# The left operands of the parameters' gradients, and what alone makes the biases'.
LEFT: Final = ("da[t]", "dh[t]", "g[t]", "da[t+1]", "da[t-1]", "da[T-1-t]", "da[T-1]", "da[0]", "slope[t]")

# x, and the states before, whose rows of all steps and sequences are paired with others, by how that is written: the
# axes are exchanged and then the shape is changed, or the other way round.
ROWS_OVER_TIME: Final = tuple(
    f"{v}.{line}[t]"
    for v in ("x", "h[-1:T-1]")
    for line in ("swapaxes(0, 1).reshape(T, N, -1)", "reshape(N, T, -1).swapaxes(0, 1)")
)
# Their right operands: each quantity at each step that may be taken for the right one, x[t] and h[t-1].
RIGHT_TERMS: Final = tuple(dict.fromkeys((
    *("x[t]", "h[t-1]", "h[t]", "h[T-t]"),  # the last are the states before, in the order of another direction
    *(f"{quantity}[{index}]" for quantity in ("x", "h", "s", "g", "dh", "da") for index in INDICES),
    *("hx", *ROWS_OVER_TIME, "(h[t-1][:1] + 0 * h[t-1])", "(x[t][:1] + 0 * x[t])", "np.tanh(h[t-1])", "np.tanh(x[t])"),
)))  # fmt: skip
# What weight_hh's gradient may be multiplied by.
GRADIENT_MASKS: Final = (
    *("np.eye(H)", "np.tri(H)", "np.tri(H).T", "(1 - np.eye(H))"),
    *(f"np.kron(np.eye(H), np.ones(({k}, {k})))[:H, :H]" for k in (2, 3, 4, 8, 16, 32)),
)

# A step's part of the gradient by a parameter, as it is written.


def product_of(left: str, right: str) -> str:
    """Return a product, which is summed over the batch."""
    return f"{left}.T @ {right}"


def row_sum(left: str) -> str:
    """Return a sum over the batch alone."""
    return f"{left}.sum(0)"


def over_units(left: str) -> str:
    """Return a sum over the units, too."""
    return f"{left}.sum()"


def transposed(product: str) -> str:
    """Return a product whose axes are exchanged."""
    return f"({product}).T"


def masked(product: str, mask: str) -> str:
    """Return a product of which some elements count."""
    return f"{product} * {mask}"


def of_sequence(n: int, left: str, right: str = "") -> str:
    """Return the part of one sequence."""
    return f"np.outer({left}[{n}], {right}[{n}])" if right else f"{left}[{n}]"


def of_sums(left: str, right: str) -> str:
    """Return a product of two sums over the batch."""
    return f"np.outer({left}.sum(0), {right}.sum(0))"


def by_last_read(operand: str) -> str:
    """Return a product whose operand is that of the step whose output's gradient it is part of."""
    read = "x[source]" if operand.startswith("x") else "h[source-1]"
    return f"sum(da_of[source][t].T @ {read} for source in range(t, T))"


@cache
def factors(text: str) -> tuple[Line, Line | None] | None:
    """Return the operands of a product that is summed over the batch, or the one of such a sum; ``None`` of others."""
    left, dot, right = text.partition(".T @ ")
    if not dot:
        return (Line(text.removesuffix(".sum(0)")), None) if text.endswith(".sum(0)") else None
    node: Any = ast.parse(text, mode="eval").body
    whole = isinstance(node, ast.BinOp) and ast.get_source_segment(text, node.left) == f"{left}.T"
    return (Line(left), Line(right)) if whole else None


def product(text: str, f: LayerTrace, *steps: int) -> Numbers:
    """Return some steps' part of a parameter's gradient."""
    if not f.N and "[t]" in text:  # there is no first sequence
        return 0.0
    if (operands := factors(text)) is None:
        line = Line(text)
        total = reduce(add, [at_step(line, f, t) for t in steps])
        return total if total.shape else total + np.zeros(f.H)  # a sum over the units, too, is that of each
    left, right = operands  # of all steps at once
    row = together([at_step(left, f, t) for t in steps])
    return row.sum(0) if right is None else row.T @ together([at_step(right, f, t) for t in steps])


# The gradient that x[t] is given.
INPUT: Final = {
    **terms(
        *("da[t] @ W_ih", "(da.sum(0) - da[t]) @ W_ih", "da[t+1] @ W_ih", "da[t-1] @ W_ih", "da[t] @ W_ih.T"),
        *("da[t] @ W_hh @ W_ih", "da[t+1] @ W_hh @ W_ih", "dh[t] @ W_ih", "g[t] @ W_ih", "da[t] @ W_hh", "da[t]"),
        *("dh[t]", "da[T-1-t] @ W_ih"),
        # as if x were what tanh, or relu, returns
        *("(da[t] @ W_ih) * x[t]**2", "(da[t] @ W_ih) * (x[t] > 0)"),
        width="F",
    ),
    **ARRANGED_BACK["x"],
}

# The gradient that hx is given, once; ``f.first`` is the first step that the way back reaches.
START: Final = {
    **terms("da[0] @ W_hh", reads=_FROM_FIRST),
    "da[0] @ W_hh, if reached": Term("da[0] @ W_hh"),
    "da[0] @ W_hh, if passed": Term("da[first] @ W_hh if passes_to_hx else 0 * hx"),
    **terms(
        *("dh_next[0]", "dh[0]", "da[0]", "da[0] @ W_hh.T", "dh[0] @ W_hh", "dh[0] @ W_hh.T", "da[1] @ W_hh"),
        *("g[0]", "g[0] @ W_hh", "da[0] * np.diag(W_hh)", "da[0] @ W_ih", "(da[0] * slope[0]) @ W_hh"),
        *("(da.sum(0) - da[0]) @ W_hh", "(da.sum(0) - da[0])", "da[T-1] @ W_hh"),
        *("(da[0] @ W_hh) * hx**2", "(da[0] @ W_hh) * (hx > 0)"),
        reads=_FROM_FIRST,
    ),
    **ARRANGED_BACK["hx"],
}


def _started(term: Term, f: LayerTrace) -> Numbers:
    """Return what a sequence starts at; hx in the place of a layer that is not there."""
    return term.value(f, 0) if term.fits(f) else f.hx


# What a sequence may start at, given the trace; ``f.hx`` is what it should.
SEQUENCE_STARTS: Final[dict[str, Callable[[LayerTrace], Numbers]]] = {
    text: partial(_started, term)
    for text, term in terms(
        *("hx", "0 * hx", "np.tanh(hx)", "np.maximum(hx, 0)", "hx[:1] + 0 * hx", "hx.mean(0) + 0 * hx", "-hx"),
        *("0.5 * hx", "2 * hx", "hx[::-1]", "hx.reshape(H, N).T", "hx.T.reshape(N, H)", "hx_below", "h_below[T-1]"),
        *("hx_beside", "h_beside[T-1]"),
    ).items()
}

# What is returned of each step: the step whose state it is, hx at -1. Of two, it is a function of that state.
STATES_RETURNED: Final[dict[str, Callable[[int, int], int]]] = {
    text: function_of(text[text.index("[") + 1 : text.rindex("]")], "t", "T")
    for text in (
        *("h[t]", "s[t]", "phi(h[t])", "h[t-1]", "h[T-1-t]", "h[T-1]", "h[0]"),
        *(f"h[max(t, T-{k})]" for k in range(2, 13)),
        *(f"h[min(t, {k})]" for k in range(1, 12)),
        *(f"h[T-1-(T-1-t)%{k}]" for k in range(2, 12)),  # the last step that is written into its buffer
    )
}

# The step whose slope is taken.
AT: Final = indices(("t", "t-1", "t+1", "T-1", "0"))
