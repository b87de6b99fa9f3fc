"""activations: the functions of one number that may stand in the place of tanh and relu, and how one is recognised.

The set is that of torch.nn and Keras, with their parameters, and quotients of polynomials, which stand for any
approximation. A function is recognised by a table of its values, whatever the sum is that it is applied to.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import product
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.array_protocol import ElementFunction, sigmoid
from harness.diagnosis.identify.autodiff import Var, backward
from harness.diagnosis.identify.ball import Ball
from harness.diagnosis.identify.fit import plainest, solve
from harness.diagnosis.identify.line import function_of
from harness.oracle.arithmetic_assumptions import U64
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np

Numbers = Any  # an array of float64, a ``Ball`` or a ``Var``
Parameters = tuple[float, ...]
REACH: Final = 40.0  # the largest modulus of a sum that is sought for a value


def in_product(text: str) -> str:
    """Return an expression as a factor: in parentheses if it is a sum."""
    return f"({text})" if re.search(r" [-+@] ", text) else text


def times(factor: float, text: str) -> str:
    """Return an expression times a number."""
    return text if factor == 1 else f"{number(factor)} * {in_product(text)}"


def number(value: float) -> str:
    """Return a number as it is written: in six digits, or as a fraction of small numbers."""
    short, near = f"{value:.6g}", Fraction(value).limit_denominator(100) if math.isfinite(value) else None
    return short if float(short) == value or near is None or float(near) != value else str(near)


class ParametricActivation(NamedTuple):
    """A function of s and of its parameters. Its second derivative is at most ``bend``, but where its slope jumps."""

    line: str | Callable[..., str]  # {0} is s, the others are its parameters
    value: Callable[..., Any]  # of an array, or of one on a tape, which gives its slope
    bend: float = 2.0
    rises: tuple[float, float] = (-math.inf, math.inf)  # where it never falls
    cancels: bool = False  # whether terms cancel in how it is usually computed
    guesses: Callable[[Floats, Floats, float], Iterable[Parameters]] | None = None  # what parameters a table may have
    inverse: Callable[[Any], tuple[Any, Any]] | None = None  # s, and where it is known


def _by_line(line: str, **properties: Any) -> ParametricActivation:
    """Return a function that is evaluated as it is printed."""
    names = ("s", "a", "b")[: len({*re.findall(r"{\d}", line)})]
    return ParametricActivation(line, function_of(line.format(*names), *names), **properties)


class Activation(NamedTuple):
    """A function that is applied to the sum of a step."""

    name: str
    parameters: Parameters = ()
    low: float = -math.inf  # the range that its argument is clipped to
    high: float = math.inf
    dead_zone: float = 0.0  # values between -dead_zone and dead_zone become 0
    inside: float = 1.0  # what multiplies its argument

    @property
    def family(self) -> ParametricActivation:
        """The function with its parameters left open."""
        return FAMILIES[self.name]

    def line(self, s: str) -> str:
        """Return the function of an expression as a line of NumPy."""
        if self.inside != 1:
            return self._replace(inside=1.0).line(in_product(times(self.inside, s)))
        if self.dead_zone:
            text = self._replace(dead_zone=0.0).line(s)
            return f"(lambda v: np.where(np.abs(v) < {number(self.dead_zone)}, 0, v))({text})"
        line = self.family.line
        numbers = [number(p) for p in self.parameters]
        ends = (self.low, self.high)
        if not all(math.isinf(end) or end == float(f"{end:.6g}") for end in ends):  # those of its value are plainer
            own = self._replace(low=-math.inf, high=math.inf)
            tops = (end if math.isinf(end) else float(own.value(end)) for end in ends)
            return f"np.clip({own.line(s)}, {', '.join(map(_limit_text, tops))})"
        s = f"np.clip({s}, {', '.join(map(_limit_text, ends))})" if self.clips else s
        return line.format(s, *numbers).replace(" 1 * ", " ") if isinstance(line, str) else line(s, *self.parameters)

    def value(self, s: Any) -> Any:
        """Return the function of each number of an array."""
        value = self.family.value(self._within(s), *self.parameters)
        return np.where(np.abs(value) < self.dead_zone, 0.0, value) if self.dead_zone else value

    def slope(self, s: Any) -> Any:
        """Return the derivative at each number of an array."""
        on_tape = Var(np.asarray(s, np.float64))
        return backward({self.value(on_tape): np.ones(on_tape.shape)}, {"s": on_tape})["s"]

    @property
    def clips(self) -> bool:
        """True if the argument is clipped."""
        return self.low > -math.inf or self.high < math.inf

    def _within(self, s: Any) -> Any:
        s = s if self.inside == 1 else s * self.inside
        return np.clip(s, self.low, self.high) if self.clips else s

    @property
    def positive(self) -> bool:
        """True if it can be inverted of positive sums alone."""
        return self.family.rises[0] > -math.pi / 2

    def inverse(self, h: Floats) -> tuple[Floats, Floats]:
        """Return s, and where it is known: by its formula, or by halving the range in which the function rises."""
        if self.inside != 1:
            s, known = self._replace(inside=1.0).inverse(h)
            return s / self.inside, known
        with np.errstate(all="ignore"):
            if self.family.inverse is not None:
                s, known = self.family.inverse(h)
            else:
                least, most = max(self.family.rises[0], self.low, -REACH), min(self.family.rises[1], self.high, REACH)
                low, high = np.full(h.shape, least), np.full(h.shape, most)
                for _ in range(64):
                    middle = (low + high) / 2
                    below = self.value(middle) < h
                    low, high = np.where(below, middle, low), np.where(below, high, middle)
                s = (low + high) / 2
                known = (np.abs(self.value(s) - h) <= 1e-9 * (1 + np.abs(h))) & (np.abs(s) < REACH - 1)
                known &= np.abs(self.slope(s)) > 1e-3
        known = known & np.isfinite(s) & (s > self.low) & (s < self.high) & (np.abs(h) >= self.dead_zone)
        return np.where(known, s, 0.0), known

    def of(self, s: Numbers) -> Numbers:
        """Return the function of each number."""
        if self.inside != 1:
            return self._replace(inside=1.0).of(s * self.inside)
        if isinstance(s, Var):
            return Var(self.of(s.value), ((s, lambda g: g * self.slope_of(s.value)),))
        if not isinstance(s, Ball):
            return self.value(s)
        value, ends = self.value(s.value), (s.value - s.error, s.value + s.error)
        off = np.maximum(*(np.abs(self.value(end) - value) for end in ends))
        if self.family.rises != (-math.inf, math.inf):  # elsewhere the mean value theorem bounds what lies between
            steepest = np.maximum(*(np.abs(self.slope(end)) for end in ends)) + self.family.bend * s.error
            off = np.maximum(off, steepest * s.error)
        size = np.where(value == 0, 0.0, np.abs(value) + off)
        size = size + np.maximum(1, np.abs(s.value)) if self.family.cancels else size
        return Ball(value, off + (s.rounding.function * s.rounding.u + 4 * U64) * size, s.rounding)

    def slope_of(self, s: Numbers) -> Numbers:
        """Return the derivative at each number."""
        if self.inside != 1:
            return self._replace(inside=1.0).slope_of(s * self.inside) * self.inside
        if not isinstance(s, Ball):
            return self.slope(s)
        value = self.slope(s.value)
        # Where a slope jumps, that of either side is taken; torch's relu has 0 at 0, and is held to that.
        near = s.error if self.name == "relu" else s.error + np.spacing(np.abs(s.value))
        off = np.maximum(*(np.abs(self.slope(s.value + by) - value) for by in (-near, near)))
        off = off + self.family.bend * s.error
        if self.family.bend:  # of constant pieces nothing is rounded; others are made of numbers up to 1, which cancel
            off = off + (s.rounding.function * s.rounding.u + 4 * U64) * (np.abs(value) + 1)
        return Ball(value, off, s.rounding)


def _limit_text(value: float) -> str:
    return "None" if math.isinf(value) else number(value)


def _of_each(function: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function of each number of an array, or of one on a tape."""
    kind = ElementFunction(slope)
    return lambda s: s.mapped(function, kind) if isinstance(s, Var) else function(s)


_ERFC: Final = np.frompyfunc(math.erfc, 1, 1)
# Functions that are no lines, or whose lines overflow.
_softplus: Final = _of_each(lambda s: np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s))), sigmoid)
_normal: Final = _of_each(
    lambda s: np.asarray(_ERFC(-np.asarray(s) / math.sqrt(2)), np.float64) / 2,
    lambda s: np.exp(-s * s / 2) / math.sqrt(2 * math.pi),
)
_expm1: Final = _of_each(lambda s: np.expm1(np.minimum(s, 0)), lambda s: np.exp(np.minimum(s, 0)))
_arctan: Final = _of_each(np.arctan, lambda s: 1 / (1 + s * s))


def _arctanh(h: Any) -> Any:
    return 0.5 * np.log((1 + h) / (1 - h))


def _polynomial(coefficients: Parameters, s: Any) -> Any:
    value = s * 0.0
    for c in reversed(coefficients):
        value = value * s + c
    return value


def _parts(parameters: Parameters) -> tuple[float, Parameters, Parameters]:
    """Return the limit of s, and the coefficients above and below the bar, of the constant on."""
    limit, above, *rest = parameters
    return limit, tuple(rest[: int(above)]), tuple(rest[int(above) :])


def _quotient(s: Any, *parameters: float) -> Any:
    limit, above, below = _parts(parameters)
    v = np.clip(s, -limit, limit)
    return _polynomial(above, v) / _polynomial(below, v)


def _quotient_line(s: str, *parameters: float) -> str:
    limit, above, below = _parts(parameters)
    cut = math.isfinite(limit)
    v = "v" if cut else s

    def term(c: float, power: int) -> str:
        text = [f"{c:.6g}", v, f"{v}**{power}"][min(power, 2)]
        if not power or abs(c) == 1:
            return text if not power or c > 0 else f"-{text}"
        return f"{text} / {1 / c:.0f}" if abs(1 / c - round(1 / c)) < 1e-12 else f"{c:.6g} * {text}"

    def polynomial(coefficients: Parameters) -> str:
        terms = [term(c, power) for power, c in enumerate(coefficients) if c]
        return re.sub(r"\+ (\S+) / -", r"- \1 / ", " + ".join(terms)).replace("+ -", "- ")

    line = polynomial(above) if below == (1.0,) else f"({polynomial(above)}) / ({polynomial(below)})"
    return f"(lambda v: {line})(np.clip({s}, -{limit:.6g}, {limit:.6g}))" if cut else line


def _plain(value: float) -> float:
    return plainest(float(value), U64)


def _between(low: float, high: float) -> Iterator[Parameters]:
    """Yield the plain numbers between two: 0.5 is what most write."""
    for digits in (1, 2, 4):
        value = round((low + high) / 2 * 10**digits) / 10**digits if high < math.inf and low > -math.inf else math.inf
        for plain in (0.5, 0.0, value):
            if low <= plain < high:
                yield (plain,)
                return


# The degrees above and below the bar, and whether the function is odd.
DEGREES: Final = (
    *((above, 0, True) for above in (1, 3, 5, 7, 9)),
    *((above, above - 1, True) for above in (3, 5, 7, 9)),
    *((above, 0, False) for above in (1, 2, 3, 4, 5)),
    (3, 2, False),
)
INNER: Final = 1.0  # the range in which no approximation of tanh is cut off


def _quotients(s: Floats, h: Floats, noise: float) -> Iterator[Parameters]:
    """Yield the quotients of polynomials that have the values h at s, near 0 at least; each with its limit."""
    inner = np.abs(s) <= INNER
    for above, below, odd in DEGREES:
        each = 2 if odd else 1
        columns = {f"a{p}": s[inner] ** p for p in range(each - 1, above + 1, each)}
        columns |= {f"b{p}": -h[inner] * s[inner] ** p for p in range(each, below + 1, each)}
        if inner.sum() < 2 * len(columns):
            continue
        coefs = solve(columns, h[inner], noise)
        if coefs is None:
            continue
        coefs = {name: plainest(c, noise) for name, c in coefs.items()}
        P = tuple(coefs.get(f"a{p}", 0.0) for p in range(above + 1))
        Q = (1.0, *(coefs.get(f"b{p}", 0.0) for p in range(1, below + 1)))
        for limit in _limits(h, (math.inf, float(len(P)), *P, *Q)):
            yield (limit, float(len(P)), *P, *Q)


def _limits(h: Floats, parameters: Parameters) -> Iterator[float]:
    """Yield where a quotient may be cut off: nowhere, or where it has the value that large sums give."""
    yield math.inf
    grid = np.linspace(INNER / 2, 12, 4000)
    v = _quotient(grid, *parameters) - h[-1]
    for k in np.flatnonzero((np.sign(v[1:]) != np.sign(v[:-1])) | (np.abs(v[1:]) < 1e-6)):
        low, high = grid[k], grid[k + 1]
        near = [round(float(grid[k + 1]) * by) / by for by in (1, 2, 10)]  # a plain limit, at which it may have its top
        yield from (cut for cut in near if abs(float(_quotient(np.array(cut), *parameters)) - h[-1]) < 1e-9)
        for _ in range(60):
            middle = (low + high) / 2
            same = np.sign(_quotient(np.array(middle), *parameters) - h[-1]) == np.sign(v[k])
            low, high = (middle, high) if same else (low, middle)
        yield _plain(low)


# Each by its usual name, the plainest first.
FAMILIES: Final[dict[str, ParametricActivation]] = {
    "tanh": _by_line("np.tanh({0})", bend=0.8, inverse=lambda h: (_arctanh(h), np.abs(h) < 1)),
    "relu": _by_line("np.maximum({0}, 0)", bend=0.0, inverse=lambda h: (h, h > 0)),
    "identity": ParametricActivation("{0}", lambda s: s * 1.0, 0.0, inverse=lambda h: (h, np.isfinite(h))),
    "sigmoid": ParametricActivation(
        "1 / (1 + np.exp(-{0}))", sigmoid, cancels=True, inverse=lambda h: (np.log(h / (1 - h)), (h > 0) & (h < 1))
    ),
    "abs": _by_line("np.abs({0})", bend=0.0, rises=(0.0, math.inf)),
    "leaky relu": _by_line(
        "np.where({0} > 0, {0}, {1} * {0})",
        bend=0.0,
        guesses=lambda s, h, _: [(_plain(h[0] / s[0]),)] if h[0] / s[0] > 0 else [],
    ),
    "clip": _by_line(
        "np.clip({0}, {1}, {2})",
        bend=0.0,
        guesses=lambda s, h, _: [(_plain(h.min()), _plain(h.max()))],  # noqa: ARG005
    ),
    "hard sigmoid": _by_line(
        "np.clip({1} * {0} + 0.5, 0, 1)",
        bend=0.0,
        cancels=True,
        guesses=lambda s, h, _: [(_plain((h[k] - 0.5) / s[k]),) for k in [int(np.abs(s).argmin())]],
    ),
    "elu": ParametricActivation(
        "np.where({0} > 0, {0}, {1} * np.expm1({0}))",
        lambda s, a: np.where(s > 0, s, a * _expm1(s)),
        cancels=True,
        guesses=lambda s, h, _: [(_plain(h[0] / np.expm1(s[0])),)] if h[0] < 0 else [],
    ),
    "celu": ParametricActivation(
        "np.where({0} > 0, {0}, {1} * np.expm1({0} / {1}))",
        lambda s, a: np.where(s > 0, s, a * _expm1(s / a)),
        cancels=True,
        guesses=lambda s, h, _: [(_plain(-h[0]),)] if h[0] < 0 else [],  # noqa: ARG005
    ),
    "softplus": ParametricActivation("np.log1p(np.exp({0}))", _softplus, cancels=True),
    "softsign": _by_line("{0} / (1 + np.abs({0}))"),
    "silu": ParametricActivation(
        "{0} / (1 + np.exp(-{0}))", lambda s: s * sigmoid(s), rises=(0.0, math.inf), cancels=True
    ),
    "gelu": ParametricActivation(
        "{0} * (1 + erf({0} / np.sqrt(2))) / 2", lambda s: s * _normal(s), rises=(0.0, math.inf), cancels=True
    ),
    "gelu by tanh": _by_line(
        "{0} * (1 + np.tanh(np.sqrt(2 / np.pi) * ({0} + 0.044715 * {0}**3))) / 2", rises=(0.0, math.inf), cancels=True
    ),
    "mish": ParametricActivation(
        "{0} * np.tanh(np.log1p(np.exp({0})))", lambda s: s * np.tanh(_softplus(s)), rises=(0.0, math.inf), cancels=True
    ),
    "hard swish": _by_line("{0} * np.clip({0} / 6 + 0.5, 0, 1)", rises=(0.0, math.inf)),
    "arctan": ParametricActivation("np.arctan({0})", _arctan),
    "sin": _by_line("np.sin({0})", bend=1.0, rises=(-math.pi / 2, math.pi / 2)),
    "tanhshrink": _by_line("{0} - np.tanh({0})", cancels=True),
    "softshrink": _by_line(
        "np.sign({0}) * np.maximum(np.abs({0}) - {1}, 0)",
        bend=0.0,
        cancels=True,
        guesses=lambda s, h, _: [(_plain(s[-1] - h[-1]),)] if s[-1] > h[-1] > 0 else [],
    ),
    "hardshrink": _by_line(
        "np.where(np.abs({0}) > {1}, {0}, 0)",
        bend=0.0,
        guesses=lambda s, h, _: _between(np.abs(s[h == 0]).max(initial=0), np.abs(s[h != 0]).min(initial=np.inf)),
    ),
    "logsigmoid": ParametricActivation("-np.log1p(np.exp(-{0}))", lambda s: -_softplus(-s), cancels=True),
    "exp": _by_line("np.exp({0})"),
    "squareplus": _by_line("({0} + np.sqrt({0}**2 + 4)) / 2", cancels=True),
    "threshold": _by_line(
        "np.where({0} > {1}, {0}, {2})",
        bend=0.0,
        guesses=lambda s, h, _: [
            (a, _plain(h[0])) for (a,) in _between(s[h != s].max(initial=-np.inf), s[h == s].min(initial=np.inf))
        ],
    ),
    "quotient": ParametricActivation(_quotient_line, _quotient, cancels=True, guesses=_quotients),
}


def _composed(outer: ParametricActivation, inner: ParametricActivation) -> ParametricActivation:
    """Return one function of another one."""

    def inverse(h: Floats) -> tuple[Floats, Floats]:
        assert outer.inverse is not None
        assert inner.inverse is not None
        middle, known = outer.inverse(h)
        s, there = inner.inverse(middle)
        return s, known & there

    assert isinstance(outer.line, str)
    line, cancels = outer.line.format(inner.line), outer.cancels or inner.cancels
    return ParametricActivation(line, lambda s: outer.value(inner.value(s)), cancels=cancels, inverse=inverse)


FAMILIES.update(
    (f"{outer} of {inner}", _composed(FAMILIES[outer], FAMILIES[inner]))
    for outer, inner in product(("tanh", "sigmoid"), ("tanh", "sigmoid", "relu"))
)

TANH: Final = Activation("tanh")
IDENTITY: Final = Activation("identity")
ACTIVATIONS: Final = {name: Activation(name) for name, family in FAMILIES.items() if family.guesses is None}


ARGUMENTS: Final = (1.0, 2.0, 0.5, -1.0, 2 / 3, 1.702, 1 / 3, 3.0, 0.25, 4.0)  # what often multiplies a sum


HOMOGENEOUS: Final = {"relu", "identity", "abs", "leaky relu"}  # a factor of these is one of their argument


def recognised(s: Floats, h: Floats, noise: float) -> list[tuple[Activation, float]]:
    """Return the functions that have the values h at s, each with its factor; none if no function of the set does.

    All are the same function if there are several.
    """
    order = np.argsort(s)
    s, h = s[order], h[order]
    if np.ptp(h) <= 64 * noise * np.abs(h).max():  # a constant is none
        return []
    tops = dict.fromkeys([1.0, _plain(h[-1] / s[-1]), _plain(np.abs(h).max())])
    for argument in ARGUMENTS:
        fits: list[tuple[Activation, float]] = []
        for name, family in FAMILIES.items():
            guesses: list[tuple[Parameters, float]] = []
            with np.errstate(all="ignore"):
                if family.guesses is None:
                    v = family.value(argument * s)
                    k = int(np.nanargmax(np.where(np.isfinite(v), np.abs(v), -1)))
                    guesses = [((), plainest(float(h[k] / v[k]), noise))] if v[k] else []
                elif argument == 1:
                    guesses = [(p, top) for top in tops if top for p in family.guesses(s, h / top, noise)]
                for parameters, factor in guesses:
                    v = factor * family.value(argument * s, *parameters)
                    near = 256 * noise * (1 + np.abs(s) + np.abs(v))
                    if factor and math.isfinite(factor) and (np.abs(h - v) <= near).all():
                        factor = math.copysign(1.0, factor) if name in HOMOGENEOUS else factor
                        fits.append((Activation(name, parameters), factor))
                        break
        if fits:
            return [fit for fit in fits if not fit[0].parameters] or fits
    return [(kind, 1.0) for kind in _clipped(s, h, noise)]


def _clipped(s: Floats, h: Floats, noise: float) -> Iterator[Activation]:
    """Yield the functions that have the values h at s, which rise, where their argument is clipped."""
    flat = [int((h == end).sum()) > 1 for end in (h[0], h[-1])]
    for kind in ACTIVATIONS.values() if any(flat) else ():
        ends, known = kind.inverse(h[[0, -1]])
        low, high = (
            _limit(kind, float(end), float(value)) if is_flat and there else way * math.inf
            for end, value, is_flat, there, way in zip(ends, h[[0, -1]], flat, known, (-1, 1), strict=True)
        )
        clipped = kind._replace(low=low, high=high)
        if (low, high) != (-math.inf, math.inf) and low < high:
            v = clipped.value(s)
            if (np.abs(h - v) <= 256 * noise * (1 + np.abs(v))).all():
                yield clipped


def _limit(kind: Activation, end: float, value: float) -> float:
    """Return a limit of an argument: a plain number, if that has the value that a function ends with."""
    near = [round(end, digits) for digits in range(4)]
    return next((cut for cut in near if abs(float(kind.value(np.array(cut))) - value) <= 4 * U64 * abs(value)), end)
