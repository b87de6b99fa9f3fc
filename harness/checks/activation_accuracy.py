"""The accuracy of a subject's tanh and sigmoid, measured on a sweep of known arguments before a search.

A function that is less accurate than assumed (``arithmetic_assumptions``) is no mistake of the layer, and shows in
every case. So it is measured if nothing is known of the subject's backend: on one step of one layer with W_ih = 1 and
all else 0, so that every preactivation is x itself, in a layer of gates with other gates at 0 or 1 (``VIEWS``). The
search accepts the measured error, and then finds other mistakes.

Measure. |tanh_of_the_subject(x) - tanh(x)| <= r u |tanh(x)| + a. If r <= 8 suffices for the whole sweep, a is 0.
Otherwise r is the largest relative error of results of at least 1/2, and a is the excess of the errors of smaller
results. A formula such as 1 - 2 / (exp(2x) + 1) has errors in proportion to the 1 in it, so that relative errors grow
without limit towards 0. An error that is too large, and at most twice as large near 0, is treated as relative, too.

Classes. 4 ulp are 8 u: r <= 8. At 1/2 that is 4 u, and as much is allowed below, a <= 4 u. Such a tanh agrees, and its
error is reported. A larger error is a finding, and so is a NaN where tanh is 1. If it is off by more than ``ANOTHER``,
gives fewer bits than its dtype has, or is right on arguments of few bits only, it is another function or another
arithmetic: the search can say more about it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final, NamedTuple

import flint
from flint import arb
from numpy.typing import NDArray

from harness.checks.agreement import Observation, assess
from harness.checks.result import Result, Verdict
from harness.oracle.arithmetic_assumptions import (
    FORMATS,
    FUNCTIONS,
    U64,
    AcceptedErrors,
    Arithmetic,
    function_tolerance,
)
from harness.oracle.bounded_array import Floats, to_float64
from harness.oracle.compare import MismatchKind
from harness.oracle.pinned_numpy import np
from harness.oracle.reference import Reference
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.outcome import Failure
from harness.space.scope import Scope, configure
from harness.subjects.protocol import Subject, backend_of

SWEPT_DTYPES: Final = ("float32", "float64")
CLOSE_TANH: Final = 8.0  # the relative error of a tanh that agrees, in u; XLA's rational is off by 6.2 u in plain NumPy
NEAR_ZERO: Final = 0.5  # the result below which errors may be as large in absolute terms as CLOSE allows at this result
APPROXIMATE: Final = 2.0**14  # the largest relative error of a fast tanh, in u: twice that of NVIDIA's tanh.approx.f32
# what is accepted over what is measured; on 12 million arguments, errors were up to 1.4 times it
MEASURED_MARGIN: Final = 1.5
ANOTHER: Final = 2.0**-8  # the error of another function; a tanh in bfloat16 has no larger one

POINTS: Final = 2_000  # arguments of a run
FEWER_ARGUMENTS: Final = 64  # arguments for a subject that refuses that many
SQUARES: Final[tuple[int, ...]] = (1, 2, 8, 16, 32)  # the layer sizes to try, if they are in the scope
WORST_ARGUMENTS: Final = 12  # the worst arguments of a sweep by each of three measures, around which more are tried
NEIGHBOUR_ARGUMENTS: Final = 24  # the arguments around each of them

OPEN: Final = 40.0
"""A bias at which tanh and sigmoid are 1. At its negative, sigmoid is 4e-18, which is 0 beside what is measured.
exp(2 * 40) does not overflow in float32."""


class ActivationView(NamedTuple):
    """A setting of a layer of gates in which a function shows."""

    swept: str  # the gate whose preactivations are the arguments
    biases: Mapping[str, float]  # those of other gates
    shows: str  # the array in which the results are
    scaled: bool = False  # by what another gate gives, which is 1 but for its error
    hx: float | None = None  # what h starts from, if it must start from something
    sign: float = 1.0  # of the weight that makes preactivations of x


# The views by cell and function, the best one first: z is h where n is 0 and h starts from 1, and else 1 - h.
VIEWS: Final = {
    ("GRU", "tanh"): (ActivationView("n", {"z": -OPEN, "r": OPEN}, "output"),),
    ("GRU", "sigmoid"): (
        ActivationView("z", {}, "output", hx=1.0),
        ActivationView("z", {"n": OPEN}, "output", sign=-1.0),
    ),
    ("LSTM", "tanh"): (ActivationView("g", {"i": OPEN, "f": -OPEN}, "c_n", scaled=True),),
    ("LSTM", "sigmoid"): (ActivationView("i", {"g": OPEN, "f": -OPEN}, "c_n"),),
}
PLAIN_VIEW: Final = ActivationView("h", {}, "output")  # of nn.RNN, whose states are tanh(x)

LEAST_RELATIVE: Final = float(np.finfo(np.float32).tiny)  # a smaller result counts by its absolute error alone
FEW_BITS: Final = 8  # the bits of an argument that no rounding of operands changes: bfloat16's
COARSE_TANH: Final = 2.0**-13  # a relative error that is half of what TF32 does to an argument
FEWEST_BITS: Final = 4  # the number of correct bits below which an error is not a matter of precision


@dataclass(frozen=True)
class Accuracy:
    """The errors of a function of a subject in one dtype, as a sweep measured them."""

    dtype: str
    relative: float  # the largest relative error, in u; beside an absolute one, only of results of at least NEAR
    at: float  # its argument
    absolute: float = 0.0  # the largest excess of smaller results' errors over the relative error
    absolute_at: float = 0.0
    nan_from: float = math.inf  # the size of arguments from which on it is NaN
    points: int = 0
    function: str = "tanh"
    assumed: bool = False  # its errors are no larger than the assumed ones, or than those that the user accepts
    # The cases that show a function that does not agree, and nothing else: NaN first, then the worst error.
    alone: tuple[Case, ...] = field(default=(), compare=False, repr=False)

    @property
    def u(self) -> float:
        """Unit roundoff."""
        return FORMATS[self.dtype].u

    @property
    def close(self) -> bool:
        """True if a function with these errors agrees."""
        return self.assumed or (self.relative <= CLOSE_TANH and self.absolute <= NEAR_ZERO * CLOSE_TANH * self.u)

    @property
    def alone_at(self) -> float:
        """The argument that shows the error best."""
        return self.at if self.relative > CLOSE_TANH or not self.absolute else self.absolute_at

    @property
    def accepted(self) -> tuple[str, str, float, float]:
        """The errors that a search accepts, in the form of ``AcceptedErrors.measured``."""
        return self.dtype, self.function, MEASURED_MARGIN * self.relative, MEASURED_MARGIN * self.absolute

    @property
    def tolerance(self) -> str | None:
        """The option value by which a user accepts these errors, in whole ulp; ``None`` if no fast tanh has them."""
        if self.relative > APPROXIMATE:
            return None
        _, function, relative, absolute = self.accepted
        return function_tolerance(function, 2 * math.ceil(relative / 2), absolute)

    @property
    def error_line(self) -> str:
        """The size of the error and its argument, in words."""
        words = f"{self.relative:.3g} u ({self.relative / 2:.3g} ulp)"
        if self.relative > APPROXIMATE:
            words = f"{self.relative * self.u:.2g} times its value"
        words += f", at x = {self.at:.9g}"
        if self.absolute:
            words += f", and near 0 by {self.absolute:.2g} more ({self.absolute / self.u:.2g} u)"
        return f"off by up to {words}"


def measure(subject: Subject, scope: Scope, accepted: AcceptedErrors) -> Iterator[Accuracy]:
    """Yield the accuracy of each function of a subject in each dtype that needs it, with at most three sweeps each."""
    device = next((device for device in scope.device if device != "meta"), None)
    if device is None or "tanh" not in scope.nonlinearity or len(scope.cell) > 1:
        return
    [cell], gated = scope.cell, scope.cell != ("RNN",)
    if gated and not (True in scope.bias and 1 in scope.T and True in scope.batched):
        return
    plainest = {name: values[0] for name, values in scope.values().items()}
    plainest |= {"nonlinearity": "tanh", "device": device, "num_layers": min(scope.num_layers), "hx": False}
    plainest |= {"loss": None, "wrt": "all", "lengths": None, "output_size": None, "strides": "contiguous"}
    plainest |= {"dropout": 0.0, "training": False}
    plainest |= {"bias": True, "batched": True, "proj_size": 0} if gated else {}
    for dtype, function in product(
        (dtype for dtype in SWEPT_DTYPES if dtype in scope.dtype), FUNCTIONS if gated else ["tanh"]
    ):
        views = VIEWS.get((cell, function), ()) if gated else (PLAIN_VIEW,)  # of a cell of the user's own, none
        if not views:
            continue
        view = next(view for view in views if view.hx is None or True in scope.hx)
        config = configure(plainest | {"dtype": dtype, "hx": view.hx is not None})
        if config.plain.dtype == dtype and config.num_layers == 1 and backend_of(subject, config) is None:
            measured = _Sweep(subject, config, scope, accepted, function=function, view=view).measured()
            if measured is not None:
                yield measured


class _Points(NamedTuple):
    """Arguments, and the subject's results for them."""

    x: Floats
    y: Floats

    def where(self, chosen: NDArray[np.bool_]) -> _Points:
        return _Points(self.x[chosen], self.y[chosen])


class _Errors(NamedTuple):
    off: Floats
    exact: Floats

    @property
    def relative(self) -> Floats:
        return np.divide(self.off, self.size, out=np.zeros_like(self.off), where=self.size > LEAST_RELATIVE)

    @property
    def size(self) -> Floats:
        return np.abs(self.exact)


class _Sweep:
    def __init__(
        self,
        subject: Subject,
        config: RNNConfig,
        scope: Scope,
        accepted: AcceptedErrors,
        *,
        function: str,
        view: ActivationView,
    ) -> None:
        self._subject, self._config, self._scope = subject, config, scope
        self._function, self._view = function, view
        self._arithmetic = Arithmetic(config.dtype, accepted=accepted.in_dtype(config.dtype))
        self._u = self._arithmetic.format.u

    def measured(self) -> Accuracy | None:
        """Return the accuracy of its tanh if there is something to report, else ``None``."""
        few, rounds = _rounded(arguments()), self._arithmetic.accepted.operand_u > 0
        first = self._first(few if rounds else arguments())
        if first is None or (np.isfinite(first.y).all() and self._assumed(self._errors(first))):
            return None
        near = self._near_the_worst(first)
        near = _rounded(near) if rounds else near
        few = few[np.linspace(0, few.size - 1, max(1, POINTS - near.size)).astype(int)]
        second = self._run(np.concatenate([near, few]))
        if not isinstance(second, _Points):
            return None
        return self._judged(_Points(*(np.concatenate(both) for both in zip(first, second, strict=True))))

    def _judged(self, points: _Points) -> Accuracy | None:
        """Return the accuracy that a sweep shows, or ``None`` if the errors are not a matter of accuracy."""
        nan_from = _nan_from(points)
        if nan_from is None or (nan_from < math.inf and (self._config.gated or 1 - math.tanh(nan_from) > self._u)):
            return None
        lost = max(points.x[(np.abs(points.x) == nan_from) & np.isnan(points.y)], default=nan_from)
        points = points.where(np.isfinite(points.y))
        errors = self._errors(points)
        if not points.x.size or errors.off.max() >= ANOTHER or significant_bits(points.y) < bits_of(self._u):
            return None
        accuracy = self._split(points.x, errors)
        accuracy = replace(
            accuracy, nan_from=nan_from, points=points.x.size, function=self._function, assumed=self._assumed(errors)
        )
        if not accuracy.close and self._of_something_else(points.x, errors):
            return None
        alone = ([] if nan_from == math.inf else [lost]) + ([] if accuracy.close else [accuracy.alone_at])
        return None if accuracy.assumed and not alone else replace(accuracy, alone=tuple(map(self._alone, alone)))

    def _of_something_else(self, x: Floats, errors: _Errors) -> bool:
        """Return whether an argument is right only in some places, or all arguments of few bits are right."""
        close = errors.off <= CLOSE_TANH * self._u * np.maximum(errors.size, NEAR_ZERO)
        coarse = errors.relative.max() > COARSE_TANH
        few = np.isin(x, _rounded(x))
        return bool(np.isin(x[~close], x[close]).any() or (coarse and close[few].all()))

    def _alone(self, x: float) -> Case:
        """Return a case of one argument alone.

        If a single argument is computed differently, the case has as many copies of it as were swept together.
        """
        together, config = self._run(np.full(1, x)), self._config
        width = min(config.input_size, config.hidden_size)
        case = one_step(config.replace(T=1, N=1), np.full(width, x), self._view)
        single = to_float64(self._subject.run(case).arrays.get(self._view.shows, np.zeros(1))).flat[0]
        same = isinstance(together, _Points) and single == together.y[0]
        return case if same or np.isnan(single) else one_step(config, np.full(_room(config), x), self._view)

    def _errors(self, points: _Points) -> _Errors:
        return _errors(points, self._u, self._function)

    def _split(self, x: Floats, errors: _Errors) -> Accuracy:
        off, size = errors.off, errors.size
        relative, absolute = split(*errors, self._u)
        at = float(x[np.where(size >= (NEAR_ZERO if absolute else 0), errors.relative, 0).argmax()])
        near = float(x[(off - relative * self._u * size).argmax()]) if absolute else 0.0
        return Accuracy(self._arithmetic.dtype, relative, at, absolute, near)

    def _assumed(self, errors: _Errors) -> bool:
        """Return whether errors are within those that are assumed of the subject, or accepted."""
        arithmetic, accepted = self._arithmetic, self._arithmetic.accepted
        relative = getattr(arithmetic, f"{self._function}_error") + accepted.rtol
        absolute = getattr(arithmetic, f"{self._function}_absolute") + accepted.atol
        return bool((errors.off <= relative * errors.size + absolute).all())

    def _near_the_worst(self, first: _Points) -> Floats:
        """Return arguments around the worst ones, and between the last finite result and the first other one."""
        finite = np.isfinite(first.y)
        points = first.where(finite)
        errors = self._errors(points)
        relative = errors.relative
        measures = (relative, errors.off, np.where(errors.size >= NEAR_ZERO, relative, 0))
        worst = points.x[np.concatenate([np.argsort(-measure)[:WORST_ARGUMENTS] for measure in measures])]
        around = np.linspace(1 - 2.0**-6, 1 + 2.0**-6, NEIGHBOUR_ARGUMENTS)
        nearby = [worst, np.outer(worst, around).ravel()]  # the same ones again, in other places
        if not finite.all():
            lost = np.abs(first.x[~finite]).min()
            last = np.abs(points.x)[np.abs(points.x) < lost].max(initial=0)
            between = np.linspace(last, lost, POINTS // 10)
            nearby += [between, -between]
        return np.concatenate(nearby)

    def _first(self, x: Floats) -> _Points | None:
        """Run the first sweep with few units and with many; the second sweep uses the shape of larger errors.

        A kernel may compute several units at once, by other formulas.
        """
        scope, plain, sweeps = self._scope, self._config, list[tuple[float, RNNConfig, _Points]]()
        sizes = [(size, size) for size in SQUARES if size in scope.input_size and size in scope.hidden_size]
        for some in dict.fromkeys([tuple(sizes), tuple(sizes[:0:-1])]):
            for config in self._shapes(plain, some):
                self._config = config
                points = self._run(x)
                if not isinstance(points, Failure):
                    if points is not None:
                        off = self._errors(points).off.max() if np.isfinite(points.y).all() else math.inf
                        sweeps.append((float(off), config, points))
                    break
        if not sweeps:
            return None
        _, self._config, worst = max(sweeps, key=lambda sweep: sweep[0])
        return worst

    def _shapes(self, config: RNNConfig, sizes: Sequence[tuple[int, int]]) -> Iterator[RNNConfig]:
        """Yield shapes: one unit with all arguments as a batch or as a sequence; more units; fewer arguments."""
        scope = self._scope
        few = max(1, min(scope.N)) if config.batched else 1
        gated = config.gated  # then c_n has the results of the last step alone
        for count in (POINTS, FEWER_ARGUMENTS):
            for width, height in sizes or [(scope.input_size[0], scope.hidden_size[0])]:
                rows = math.ceil(count / min(width, height))
                shapes = [(1, rows), (min(scope.T), rows)] if config.batched else []
                shapes = [*shapes, (rows, 1), (math.ceil(rows / few), few)] if not gated else shapes[:1]
                for T, N in dict.fromkeys(shapes):
                    yield config.replace(input_size=width, hidden_size=height, T=T, N=N)

    def _run(self, x: Floats) -> _Points | Failure | None:
        """Return the subject's results for arguments, for some of them if not all fit; or its failure if it refuses."""
        config, room = self._config, _room(self._config)
        chosen = x if x.size <= room else x[np.linspace(0, x.size - 1, room).astype(int)]
        case = one_step(config, np.resize(chosen, room), self._view)
        outcome = self._subject.run(case)
        if outcome.failure is not None:
            return outcome.failure if outcome.failure is Failure.UNSUPPORTED else None
        output, shows = outcome.arrays.get(self._view.shows), self._view.shows
        if output is None or output.shape != config.outputs[shows].shape or output.dtype != case.x.dtype:
            return None
        width = min(config.input_size, config.hidden_size)
        points = _Points(*(to_float64(array)[..., :width].ravel()[: chosen.size] for array in (case.x, output)))
        return points._replace(y=points.y / self._scale(config)) if self._view.scaled else points

    def _scale(self, config: RNNConfig) -> float:
        """Return what the function is multiplied by, as its results where it is 1 have it."""
        outcome = self._subject.run(one_step(config, np.full(_room(config), OPEN), self._view))
        shown = outcome.arrays.get(self._view.shows)
        scale = float(to_float64(shown).flat[0]) if shown is not None and shown.size else 1.0
        return scale if abs(scale - 1) < ANOTHER else 1.0


def _room(config: RNNConfig) -> int:
    return config.T * config.N * min(config.input_size, config.hidden_size)


def one_step(config: RNNConfig, x: Floats, view: ActivationView = PLAIN_VIEW) -> Case:
    """Return a case whose preactivations are the numbers given: W_ih is 1, and all else 0 but what the view sets."""
    width, H = min(config.input_size, config.hidden_size), config.hidden_size
    arrays = {name: np.zeros(spec.shape, config.dtype) for name, spec in {**config.inputs, **config.weights}.items()}
    if view.hx is not None:
        arrays["hx"][...] = view.hx
    for name, array in arrays.items():
        blocks = {gate: array[k * H : (k + 1) * H] for k, gate in enumerate(config.form.gates)}
        if name.startswith("weight_ih"):
            np.fill_diagonal(blocks[view.swept], view.sign)
        elif name.startswith("bias_ih"):
            for gate, bias in view.biases.items():
                blocks[gate][...] = bias
    arrays["x"][..., :width] = x.reshape(*arrays["x"].shape[:-1], width)
    return Case.from_arrays(config, arrays)


def arguments() -> Floats:
    """Return arguments of both signs: half spread over sizes from 2**-30 to 2**10, half over [-10, 10].

    Beyond 710, exp overflows in float64, too.
    """
    sizes = np.exp2(np.linspace(-30, 10, POINTS // 4))
    return np.concatenate([sizes, -sizes, np.linspace(-10, 10, POINTS // 2)])


def split(off: Floats, exact: Floats, u: float) -> tuple[float, float]:
    """Return r, in units of u, and a, such that every error is at most r u |tanh| + a."""
    size = np.abs(exact)
    relative = float(np.divide(off, size, out=np.zeros_like(off), where=size > LEAST_RELATIVE).max(initial=0)) / u
    if relative <= CLOSE_TANH:
        return relative, 0.0
    large = size >= NEAR_ZERO
    of_large = float((off[large] / size[large]).max(initial=0)) / u
    if of_large > CLOSE_TANH and relative <= 2 * of_large:
        return relative, 0.0
    return of_large, max(0.0, float((off - of_large * u * size).max()))


def bits_of(u: float) -> int:
    """Return the bits of the significand of a format with unit roundoff u = 2**-bits."""
    return int(-np.log2(u))


def significant_bits(numbers: Floats) -> int:
    """Return the most significant bits that any of the numbers needs, from its first 1 to its last."""
    mantissas = np.abs(np.frexp(numbers[np.isfinite(numbers) & (numbers != 0)])[0] * 2.0**53).astype(np.int64)
    trailing = np.log2(mantissas & -mantissas)
    return int(53 - trailing.min(initial=53))


def _rounded(x: Floats) -> Floats:
    """Return the same arguments, rounded to ``FEW_BITS`` significant bits, each once."""
    significand, exponent = np.frexp(x)
    return np.unique(np.ldexp(np.round(significand * 2.0**FEW_BITS), exponent - FEW_BITS))


def _errors(points: _Points, u: float, function: str) -> _Errors:
    """Return the errors beyond underflow, computed in float64 for float32 numbers, otherwise with balls of 128 bits."""
    exact = np.tanh(points.x) if function == "tanh" else np.exp(-np.logaddexp(0.0, -points.x))
    least = next(form.tiny for form in map(np.finfo, SWEPT_DTYPES) if form.eps == 2 * u)  # smaller results may be 0
    if u > U64:
        return _Errors(np.maximum(np.abs(points.y - exact) - least, 0.0), exact)
    before, flint.ctx.prec = flint.ctx.prec, 128
    try:
        formula = arb.tanh if function == "tanh" else lambda s: 1 / (1 + (-s).exp())
        off = [float(abs(formula(arb(x)) - y)) for x, y in zip(points.x.tolist(), points.y.tolist(), strict=True)]
    finally:
        flint.ctx.prec = before
    return _Errors(np.maximum(np.array(off) - least, 0.0), exact)


def _nan_from(points: _Points) -> float | None:
    """Return the least size from which on all arguments of a sign give NaN: infinite without NaN, else ``None``."""
    lost = ~np.isfinite(points.y)
    if not lost.any():
        return math.inf
    least = float(np.abs(points.x[lost]).min())
    signs = [sign for sign in (-1, 1) if (lost & (np.sign(points.x) == sign)).any()]
    tail = np.isin(np.sign(points.x), signs) & (np.abs(points.x) >= least)
    return least if np.isnan(points.y[tail]).all() and np.isnan(points.y[lost]).all() else None


class TanhOverflow(NamedTuple):
    """A known cause for NaN where a preactivation is so large that a subject's tanh gives NaN."""

    name: str  # of the finding that reports it
    dtype: str
    nan_from: float

    def covers(self, observation: Observation, result: Result) -> bool:
        """Return whether the subject gives NaN where its tanh does, and is right everywhere else."""
        if observation.unfit is not None or observation.arithmetic.dtype != self.dtype:
            return False
        if any(mismatch.relation or mismatch.sort is not MismatchKind.FINITENESS for mismatch in result.mismatches):
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            accepting = replace(observation, or_nan=_Overflowing(self.nan_from))
            return assess(accepting).verdict is Verdict.AGREES


class _Overflowing(Reference):
    """An nn.RNN whose tanh is NaN for large arguments, and for those that are large apart from rounding."""

    def __init__(self, nan_from: float) -> None:
        self._nan_from = nan_from * (1 - 2.0**-10)

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        y = super().activation(s, nonlinearity)
        return np.where(np.abs(s) >= self._nan_from, np.nan, y) if nonlinearity == "tanh" else y
