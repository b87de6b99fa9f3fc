"""accuracy: how far a subject's tanh is off, measured on a sweep of arguments that are exactly known.

A tanh that is less accurate than assumed (``arithmetic``) is no mistake of the layer, and shows in every case. So it is
measured before a search, where nothing is known of the subject's backend: one step of one layer, W_ih = 1, all else 0,
of which every preactivation is x itself. What was measured is accepted in the search, which then finds what else there
is.

Measure. |tanh_of_the_subject(x) - tanh(x)| <= r u |tanh(x)| + a. Where r <= 8 does for all of the sweep, a is 0. Where
not, r is the largest relative error of results of at least 1/2, and a what smaller ones are off beyond that: a
formula such as 1 - 2 / (exp(2x) + 1) has errors that go by the 1 in it, so that relative ones grow without limit
towards 0. A sum of terms of size 1 is off by as much, whatever is left of it. What is too far off, and at most twice as
far near 0, is relative, too.

Classes. 4 ulp are 8 u: r <= 8. At 1/2 that is 4 u, and so much is allowed below, a <= 4 u. Such a tanh agrees, and its
error is told. One that is farther off is a finding, and so is one that is NaN where tanh is 1. What is off by more than
``ANOTHER``, or gives fewer bits than its dtype has, or is right on arguments of few bits alone, is another function
or other arithmetic: the search has more to say of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import flint
import numpy as np
from flint import arb
from numpy.typing import NDArray

from harness.checks.agreement import Observation, assess
from harness.checks.result import Result, Verdict
from harness.oracle.arithmetic import FORMATS, U64, UNKNOWN, Accepted, Arithmetic, tanh_tolerance
from harness.oracle.compare import Sort
from harness.oracle.reference import Floats, Reference, to_float64
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.outcome import Failure
from harness.space.scope import Scope, configure
from harness.subjects.protocol import Subject, backend_of

DTYPES: Final = ("float32", "float64")

CLOSE: Final = 8.0
"""Relative error of a tanh that agrees, in units of u: 4 ulp. Of 1.3 million arguments in float32, XLA's rational is
off by 6.2 u in plain NumPy, (exp(x) - exp(-x)) / (exp(x) + exp(-x)) by 4.7 u where the result is at least 1/2, and
1 - 2 / (exp(2x) + 1) by 5.4 u there."""

NEAR: Final = 0.5
"""Results that are nearer to 0 may be off by as much as ``CLOSE`` allows at this one."""

MARGIN: Final = 1.5
"""A search accepts this many times the error that was measured. A sweep meets the worst argument by chance: on 12
million arguments, each of the three tanh above was off by at most 1.4 times as much."""

POINTS: Final = 2_000
"""Arguments of a run."""

FEWER: Final = 64
"""Arguments of a subject that refuses as many."""

SQUARES: Final[tuple[int, ...]] = (1, 2, 8, 16, 32)
"""Sizes of layers that are tried, of those in the scope."""

FEW_BITS: Final = 8
"""Bits of an argument that no rounding of operands changes: bfloat16's."""

COARSE: Final = 2.0**-13
"""A relative error that is half of what TF32 makes of an argument."""

ZOOMED: Final = 12
AROUND: Final = 24
"""The worst arguments of a sweep, by each of three measures, and how many are tried around each."""

FEWEST: Final = 4
"""Bits below which an error is no matter of precision."""

ANOTHER: Final = 2.0**-8
"""An error of another function: a tanh of bfloat16 has no more."""


@dataclass(frozen=True)
class Accuracy:
    """The errors of a subject's tanh in one dtype, as a sweep measured them."""

    dtype: str
    relative: float
    """The largest relative error, in units of u; where ``absolute`` is not 0, of results of at least ``NEAR``."""
    at: float
    """Its argument."""
    absolute: float = 0.0
    """The largest error of smaller results, beyond that."""
    absolute_at: float = 0.0
    nan_from: float = math.inf
    """The size of arguments from which on it is NaN."""
    points: int = 0
    assumed: bool = False
    """True where its errors are no larger than those that are assumed, or that the user accepts."""
    alone: tuple[Case, ...] = field(default=(), compare=False, repr=False)
    """The cases that show a tanh that does not agree: NaN first, then the worst error, with nothing else in it."""

    @property
    def u(self) -> float:
        """Unit roundoff."""
        return FORMATS[self.dtype].u

    @property
    def close(self) -> bool:
        """Say if a tanh with these errors agrees."""
        return self.assumed or (self.relative <= CLOSE and self.absolute <= NEAR * CLOSE * self.u)

    @property
    def alone_at(self) -> float:
        """The argument that shows best how far it is off."""
        return self.at if self.relative > CLOSE or not self.absolute else self.absolute_at

    @property
    def accepted(self) -> tuple[str, float, float]:
        """The errors that a search is to accept, as ``Accepted.measured`` has them."""
        return self.dtype, MARGIN * self.relative, MARGIN * self.absolute

    @property
    def tolerance(self) -> str:
        """How a user asks for that, in whole ulp."""
        return tanh_tolerance(2 * math.ceil(self.accepted[1] / 2), self.accepted[2])

    @property
    def error_line(self) -> str:
        """How far it is off, and where."""
        said = f"{self.relative:.3g} u ({self.relative / 2:.3g} ulp), at x = {self.at:.3g}"
        if self.absolute:
            said += f", and near 0 by {self.absolute:.2g} more ({self.absolute / self.u:.2g} u)"
        return f"off by up to {said}"


class _Swept(NamedTuple):
    """Arguments, and what a subject made of them."""

    x: Floats
    y: Floats

    def where(self, chosen: NDArray[np.bool_]) -> _Swept:
        """Some of them."""
        return _Swept(self.x[chosen], self.y[chosen])


def measure(subject: Subject, scope: Scope, accepted: Accepted) -> Iterator[Accuracy]:
    """What is to be said of a subject's tanh, by dtype, if anything is; at most two runs of each."""
    device = next((device for device in scope.device if device != "meta"), None)
    for dtype in DTYPES if device is not None and "tanh" in scope.nonlinearity else ():
        if dtype in scope.dtype:
            plainest = {name: values[0] for name, values in scope.values().items()}
            fixed = {"nonlinearity": "tanh", "dtype": dtype, "device": device, "num_layers": min(scope.num_layers)}
            alone: dict[str, Any] = {"loss": None, "wrt": "all", "lengths": None, "output_size": None, "hx": False}
            alone |= {"dropout": 0.0, "training": False, "strides": "contiguous"}
            config = configure(plainest | fixed | alone)
            plain = config.plain.dtype == dtype and config.num_layers == 1
            if plain and backend_of(subject, config) == UNKNOWN:
                measured = _Sweep(subject, config, scope, accepted).measured()
                if measured is not None:
                    yield measured


class _Sweep:
    """The sweeps of one subject in one dtype."""

    def __init__(self, subject: Subject, config: RNNConfig, scope: Scope, accepted: Accepted) -> None:
        self._subject, self._config, self._scope = subject, config, scope
        self._arithmetic = Arithmetic(config.dtype, accepted=accepted.in_dtype(config.dtype))
        self._u = self._arithmetic.format.u

    def measured(self) -> Accuracy | None:
        """What is to be said of its tanh, if anything is."""
        few = _few_bits(arguments())
        first = self._first(few if self._arithmetic.accepted.operand_u else arguments())
        if first is None:
            return None
        if np.isfinite(first.y).all() and self._assumed(*self._errors(first)):
            return None
        zoomed = self._zoomed(first)
        zoomed = _few_bits(zoomed) if self._arithmetic.accepted.operand_u else zoomed
        few = few[np.linspace(0, few.size - 1, max(1, POINTS - zoomed.size)).astype(int)]
        second = self._run(np.concatenate([zoomed, few]))
        if not isinstance(second, _Swept):
            return None
        swept = _Swept(*(np.concatenate(both) for both in zip(first, second, strict=True)))
        return self._judged(swept)

    def _judged(self, swept: _Swept) -> Accuracy | None:
        """What is said of a sweep, if it is a matter of accuracy."""
        nan_from = _nan_from(swept)
        if nan_from is None or (nan_from < math.inf and 1 - math.tanh(nan_from) > self._u):
            return None
        lost = max(swept.x[(np.abs(swept.x) == nan_from) & np.isnan(swept.y)], default=nan_from)
        swept = swept.where(np.isfinite(swept.y))
        off, exact = self._errors(swept)
        if not swept.x.size or off.max(initial=0) >= ANOTHER or significant_bits(swept.y) < bits_of(self._u):
            return None
        found = self._split(swept.x, off, exact)
        found = replace(found, nan_from=nan_from, points=swept.x.size, assumed=self._assumed(off, exact))
        if not found.close and self._of_something_else(swept.x, off, exact):
            return None
        alone = [] if nan_from == math.inf else [lost]
        alone += [] if found.close else [found.alone_at]
        if found.assumed and not alone:
            return None
        return replace(found, alone=tuple(self._alone(x) for x in alone))

    def _of_something_else(self, x: Floats, off: Floats, exact: Floats) -> bool:
        """Whether one argument is right in one place and wrong in another, or those of few bits are all right."""
        close = off <= CLOSE * self._u * np.maximum(np.abs(exact), NEAR)
        coarse = (off / np.abs(exact)).max() > COARSE
        return bool(np.isin(x[~close], x[close]).any() or (coarse and close[x == _rounded(x)].all()))

    def _alone(self, x: float) -> Case:
        """A case of one argument alone; of as many as were swept, where that is computed in another way."""
        together, config = self._run(np.full(1, x)), self._config
        case = one_step(config.replace(T=1, N=1), np.full(min(config.input_size, config.hidden_size), x))
        single = self._subject.run(case).arrays.get("output", np.zeros(1))
        same = isinstance(together, _Swept) and to_float64(single).flat[0] == together.y[0]
        return case if same or np.isnan(single.flat[0]) else one_step(config, np.full(self._room, x))

    def _split(self, x: Floats, off: Floats, exact: Floats) -> Accuracy:
        dtype, u = self._arithmetic.dtype, self._u
        relative = split(off, exact, u)
        size = np.abs(exact)
        counted = size >= (NEAR if relative[1] else 0)
        ratio = np.where(counted, off / size, 0)
        beyond = off - relative[0] * u * size
        at, near = float(x[ratio.argmax()]), float(x[beyond.argmax()])
        return Accuracy(dtype, relative[0], at, relative[1], near if relative[1] else 0.0)

    def _errors(self, swept: _Swept) -> tuple[Floats, Floats]:
        return _errors(swept, self._u)

    def _assumed(self, off: Floats, exact: Floats) -> bool:
        """Whether errors are what is assumed of the subject, or accepted."""
        arithmetic, accepted = self._arithmetic, self._arithmetic.accepted
        relative, absolute = arithmetic.tanh_error + accepted.rtol, arithmetic.tanh_absolute + accepted.atol
        return bool((off <= relative * np.abs(exact) + absolute).all())

    def _zoomed(self, first: _Swept) -> Floats:
        """Arguments around the worst ones, and between the last that is finite and the first that is not."""
        finite = np.isfinite(first.y)
        swept = first.where(finite)
        off, exact = self._errors(swept)
        size = np.abs(exact)
        measures = (off / size, off, np.where(size >= NEAR, off / size, 0))
        worst = np.concatenate([np.argsort(-measure)[:ZOOMED] for measure in measures])
        around = np.linspace(1 - 2.0**-6, 1 + 2.0**-6, AROUND)
        points = [swept.x[worst], np.outer(swept.x[worst], around).ravel()]  # the same ones, in other places
        if not finite.all():
            lost = np.abs(first.x[~finite]).min()
            last = np.abs(swept.x)[np.abs(swept.x) < lost].max(initial=0)
            between = np.linspace(last, lost, POINTS // 10)
            points += [between, -between]
        return np.concatenate(points)

    def _first(self, x: Floats) -> _Swept | None:
        """The first sweep, in the first shape that the subject does; that is kept for the one after it."""
        for config in self._shapes():
            self._config = config
            swept = self._run(x)
            if not isinstance(swept, Failure):
                return swept
        return None

    def _shapes(self) -> Iterator[RNNConfig]:
        """One unit and all arguments in a batch, or one after the other; then more units, then fewer arguments."""
        scope, config = self._scope, self._config
        sizes = [(size, size) for size in SQUARES if size in scope.input_size and size in scope.hidden_size]
        few = max(1, min(scope.N)) if config.batched else 1
        for count in (POINTS, FEWER):
            for width, height in sizes or [(scope.input_size[0], scope.hidden_size[0])]:
                rows = math.ceil(count / min(width, height))
                shapes = [(1, rows), (min(scope.T), rows)] if config.batched else []
                for T, N in dict.fromkeys([*shapes, (rows, 1), (math.ceil(rows / few), few)]):
                    yield config.replace(input_size=width, hidden_size=height, T=T, N=N)

    @property
    def _room(self) -> int:
        """How many arguments go into a run."""
        config = self._config
        return config.T * config.N * min(config.input_size, config.hidden_size)

    def _run(self, x: Floats) -> _Swept | Failure | None:
        """What the subject makes of arguments, of some of them where there is no room for all; or that it refuses."""
        config = self._config
        room = self._room
        chosen = x if x.size <= room else x[np.linspace(0, x.size - 1, room).astype(int)]
        case = one_step(config, np.resize(chosen, room))
        outcome = self._subject.run(case)
        if outcome.failure is not None:
            return outcome.failure if outcome.failure is Failure.UNSUPPORTED else None
        output = outcome.arrays.get("output")
        if output is None or output.shape != config.outputs["output"].shape or output.dtype != case.x.dtype:
            return None
        width = min(config.input_size, config.hidden_size)
        return _Swept(*(to_float64(array)[..., :width].ravel()[: chosen.size] for array in (case.x, output)))


def one_step(config: RNNConfig, x: Floats) -> Case:
    """A case whose preactivations are the numbers given: W_ih is 1, and all else 0."""
    width = min(config.input_size, config.hidden_size)
    arrays = {name: np.zeros(spec.shape, config.dtype) for name, spec in {**config.inputs, **config.weights}.items()}
    for name, array in arrays.items():
        if name.startswith("weight_ih"):
            np.fill_diagonal(array, 1)
    arrays["x"][..., :width] = x.reshape(*arrays["x"].shape[:-1], width)
    return Case.from_arrays(config, arrays)


def arguments() -> Floats:
    """Arguments of both signs, as many of each size from 2**-30 to 2**10, and as many again of each part of [-10, 10].

    Beyond 710, exp overflows in float64, too.
    """
    sizes = np.exp2(np.linspace(-30, 10, POINTS // 4))
    return np.concatenate([sizes, -sizes, np.linspace(-10, 10, POINTS // 2)])


def split(off: Floats, exact: Floats, u: float) -> tuple[float, float]:
    """r, in units of u, and a, of which every error is at most r u |tanh| + a."""
    size = np.abs(exact)
    relative = float((off / size).max(initial=0)) / u
    if relative <= CLOSE:
        return relative, 0.0
    large = size >= NEAR
    of_large = float((off[large] / size[large]).max(initial=0)) / u
    if of_large > CLOSE and relative <= 2 * of_large:
        return relative, 0.0
    return of_large, max(0.0, float((off - of_large * u * size).max()))


def bits_of(u: float) -> int:
    """Bits of the significand of a format with unit roundoff u = 2**-bits."""
    return int(-np.log2(u))


def significant_bits(numbers: Floats) -> int:
    """The most significant bits that any of the numbers needs, from its first 1 to its last."""
    mantissas = np.abs(np.frexp(numbers[np.isfinite(numbers) & (numbers != 0)])[0] * 2.0**53).astype(np.int64)
    trailing = np.log2(mantissas & -mantissas)
    return int(53 - trailing.min(initial=53))


def _few_bits(x: Floats) -> Floats:
    """The same arguments, of ``FEW_BITS`` significant bits."""
    return np.unique(_rounded(x))


def _rounded(x: Floats) -> Floats:
    significand, exponent = np.frexp(x)
    return np.asarray(np.ldexp(np.round(significand * 2.0**FEW_BITS), exponent - FEW_BITS))


def _errors(swept: _Swept, u: float) -> tuple[Floats, Floats]:
    """|y - tanh(x)|, and tanh(x): of float32 numbers in float64, of others by balls of 128 bits (``oracle.judge``)."""
    exact = np.tanh(swept.x)
    if u > U64:
        return np.abs(swept.y - exact), exact
    before, flint.ctx.prec = flint.ctx.prec, 128
    try:
        off = [float(abs(arb(x).tanh() - y)) for x, y in zip(swept.x.tolist(), swept.y.tolist(), strict=True)]
    finally:
        flint.ctx.prec = before
    return np.array(off), exact


def _nan_from(swept: _Swept) -> float | None:
    """The least size from which on all arguments of a sign give NaN, infinite without any; ``None`` of others."""
    lost = ~np.isfinite(swept.y)
    if not lost.any():
        return math.inf
    least = float(np.abs(swept.x[lost]).min())
    signs = [sign for sign in (-1, 1) if (lost & (np.sign(swept.x) == sign)).any()]
    tail = np.isin(np.sign(swept.x), signs) & (np.abs(swept.x) >= least)
    return least if np.isnan(swept.y[tail]).all() and np.isnan(swept.y[lost]).all() else None


class Overflows(NamedTuple):
    """Excuses NaN where a preactivation is so large that a subject's tanh gives that."""

    name: str
    """Of the finding that tells so."""
    dtype: str
    nan_from: float

    def excuses(self, observation: Observation, result: Result) -> bool:
        """Whether the subject gives NaN where its tanh does, and is right everywhere else."""
        if observation.unfit is not None or observation.arithmetic.dtype != self.dtype:
            return False
        if any(mismatch.law or mismatch.sort is not Sort.FINITENESS for mismatch in result.mismatches):
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            accepting = replace(observation, or_nan=_Overflowing(self.nan_from))
            return assess(accepting).verdict is Verdict.AGREES


class _Overflowing(Reference):
    """nn.RNN with a tanh that is NaN of large arguments, be they that large but for the roundings of their sums."""

    def __init__(self, nan_from: float) -> None:
        self._nan_from = nan_from * (1 - 2.0**-10)

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        y = super().activation(s, nonlinearity)
        return np.where(np.abs(s) >= self._nan_from, np.nan, y) if nonlinearity == "tanh" else y
