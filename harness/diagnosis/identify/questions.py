"""questions: the questions that an identification asks of a subject, within what it takes."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cache, cached_property
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np

from harness.diagnosis.fresh_cases import fitting
from harness.diagnosis.identify.ball import SubjectRounding
from harness.diagnosis.observation_cache import ObservationCache
from harness.oracle.arithmetic_assumptions import FORMATS
from harness.oracle.bounded_array import Floats
from harness.oracle.compare import MismatchKind
from harness.space.case import Array, Case, prescribe
from harness.space.config import RNNConfig, fitted_lengths, role_of, weight_names
from harness.space.factor_table import ConfigError
from harness.space.scope import Scope
from harness.space.values import draw
from harness.subjects.protocol import Subject

EXACT_FIRST: Final = ("float64", "float32", "float16", "bfloat16")  # the most exact first


class CaseSizes(NamedTuple):
    """The sizes of a case."""

    T: int
    N: int
    input_size: int
    hidden_size: int


class CaseNumbers(NamedTuple):
    """How the numbers of a case are drawn."""

    seed: int = 0
    scale: float = 1e-2  # the size of upstream gradients
    weights: float = 1.0  # times the parameters with which every activation can be inverted
    at: tuple[int, ...] | None = None  # the steps at which upstream gradients are not 0; ``None`` for all
    zero: tuple[str, ...] = ()  # how the names of arrays begin that are 0
    positive: bool = False  # whether all numbers are, and so the sums
    blank: bool = False  # whether x is 0 at the second step of the first sequence, and at the third one of all
    plain_readout: bool = True  # whether a readout returns the states themselves, if it may


class Response(NamedTuple):
    """The arrays that a subject returned for a case, in the plain form."""

    case: Case
    arrays: Mapping[str, Floats]
    shorter: Floats | None = None  # the last states of shorter runs (T, N, H), where the output does not show them
    rounded: float = 0.0  # how far each number may be off by itself, as if rounded in print

    @property
    def steps(self) -> Floats | None:
        """The states (T, N, D*H), time first; ``None`` if they are not known."""
        return self.returned if self.shorter is None else self.shorter

    @property
    def returned(self) -> Floats | None:
        """The output (T, N, D*H), time first; ``None`` if it is not returned."""
        output = self.arrays.get("output")
        if output is None and self._reads_out_states:
            output = self.arrays.get("readout")
        return output if output is None or not self.case.config.batch_first else output.swapaxes(0, 1)

    @property
    def _reads_out_states(self) -> bool:
        """True if the readout is the output itself."""
        W = self.case.weights.get("readout.weight")
        return W is not None and W.shape[0] == W.shape[1] and bool((np.eye(len(W)) == W).all())

    @property
    def states(self) -> dict[tuple[int, int], Floats] | None:
        """The states of a single layer by direction, in the order of the steps; ``None`` if they are not known."""
        return self.top_states if self.case.config.num_layers == 1 else None

    @property
    def top_states(self) -> dict[tuple[int, int], Floats] | None:
        """Those of the last layer."""
        config = self.case.config
        if self.steps is None or config.lengths is not None or self.rounded:
            return None
        H, top = config.h_size, config.num_layers - 1
        directions = [self.steps[..., d * H : (d + 1) * H] for d in range(config.num_directions)]
        return {(top, d): states if d == 0 else states[::-1] for d, states in enumerate(directions)}


FUNCTION: Final = 8.0  # the error of a function in units of u: 4 ulp, which a tanh may have (``activation_accuracy``)


@cache
def rounding_of(dtype: str) -> SubjectRounding:
    """Return the roundings of a dtype."""
    form = FORMATS[dtype]
    return SubjectRounding(form.u, form.underflow, form.largest, FUNCTION)


# The T of cases that show what depends on the step: more than ten steps, and twice some.
LONG_TIMES: Final[tuple[int, ...]] = (8, 13)
# The largest T of a failing case for which longer ones are asked: a way back is commonly cut to fewer steps. Measured
# at 65: 7 s for a cut, 15 s where nothing explains the long cases.
MOST_STEPS: Final = 65

QUESTION_SECONDS: Final = 0.1  # seconds of a question, of some 300, from which the answer is not worth the wait
ENOUGH_QUESTIONS: Final = 10  # questions that tell how long one takes


class SubjectTooSlow(Exception):
    """Raised where a subject takes too long to be asked some hundred questions; it says so."""


class Asker:
    """One subject and its scope, asked for cases of numbers of our own."""

    def __init__(self, observations: ObservationCache, scope: Scope, nonlinearity: str) -> None:
        self._observations, self.scope, self.nonlinearity = observations, scope, nonlinearity
        values = scope.values()
        self.dtype = next((dtype for dtype in EXACT_FIRST if dtype in values["dtype"]), values["dtype"][0])
        self.losses = tuple(loss for loss in ("output", "both", "h_n") if loss in values["loss"])
        self.has_hx = True in values["hx"]
        self.has_bias = True in values["bias"]
        self.long: tuple[int, ...] = LONG_TIMES
        # Numbers of steps after which something may repeat that only the longest cases show.
        self.periods: tuple[int, ...] = ()
        self.excluded: frozenset[str] = frozenset()  # arrays, gradients by role, that are left out of every answer
        self.shorter = ""  # "h_n" or "output" if the states are those that shorter runs end with, by that array
        self.questions, self._seconds = 0, list[float]()
        self._answers: dict[Any, Response | None] = {}

    def choose_dtype(self) -> None:
        """Ask in float32 a subject that answers in it alone, or whose float64 has numbers of float32."""
        if self.dtype != "float64" or not self.allows("dtype", "float32"):
            return
        a = self.ask(CaseSizes(1, 2, 3, 3), loss=None)
        arrays = () if a is None else a.arrays.values()
        if a is None or any(array.any() and np.array_equal(array, array.astype(np.float32)) for array in arrays):
            self.dtype, self._answers = "float32", {}
            if a is None and self.ask(CaseSizes(1, 2, 3, 3), loss=None) is None:
                self.dtype = "float64"

    def lengthen(self, T: int) -> None:
        """Ask of longer cases, too, that show twice what first shows in cases of T steps."""
        if LONG_TIMES[-1] < T <= MOST_STEPS:
            self.long = (*LONG_TIMES, 2 * T + 1)
            self.periods = (T - 1, T, T - 2)  # after T - 1 steps, step T is the first that differs

    def without(self, name: str) -> Asker:
        """Return one that is not answered with an array, the output or h_n, nor asks for gradients by it."""
        asker = copy(self)
        losses = tuple(loss for loss in self.losses if loss not in ("both", name))
        shorter = "" if self.shorter == name else self.shorter
        vars(asker).update(excluded=self.excluded | {name}, losses=losses, shorter=shorter, _answers={})
        vars(asker).pop("ignores_padding", None)
        return asker

    @property
    def subject(self) -> Subject:
        """The subject that is asked."""
        return self._observations.subject

    @property
    def rounding(self) -> SubjectRounding:
        """The roundings of the dtype that is asked for."""
        return rounding_of(self.dtype)

    @property
    def noise(self) -> float:
        """The relative size of what some operations' roundings leave."""
        return 32 * FORMATS[self.dtype].u

    def allows(self, name: str, value: Any) -> bool:
        """Tell whether the subject takes a value of a factor."""
        return self.scope.allows(name, value)

    @cached_property
    def ignores_padding(self) -> bool:
        """True if all results are the same with NaN in x's padding as with zeros there."""
        config = self.config(**CaseSizes(3, 2, 3, 2)._asdict(), lengths=(3, 1))
        if config is None:
            return False
        case = draw(config)
        with_nan, with_zeros = self.of(case), self.of(replace(case, x=np.nan_to_num(case.x)))
        if with_nan is None or with_zeros is None:
            return False
        return all(np.array_equal(array, with_zeros.arrays[name]) for name, array in with_nan.arrays.items())

    def config(self, **factors: Any) -> RNNConfig | None:
        """Return the plainest config that the subject takes with some factors; ``None`` if it takes none."""
        lengths = factors.pop("lengths", None)
        if lengths is not None:
            return self._packed(lengths, factors)
        named = {"dtype": self.dtype, "nonlinearity": self.nonlinearity, "bias": self.has_bias, **factors}
        named |= {name: fitting(name, factors[name], self.scope) for name in CaseSizes._fields}
        values = self.scope.values()
        if named.get("hx", values["hx"][0]) not in values["hx"]:
            return None
        if named.get("loss") is not None and "all" in values["wrt"]:
            named.setdefault("wrt", "all")
        if None not in values["output_size"]:
            width = named["hidden_size"] * (2 if named.get("bidirectional") else 1)
            named["output_size"] = fitting("output_size", width, self.scope)
        if named["N"] != 1 and values["batched"] == (False,):
            return None
        for name, several in values.items():
            if name not in named:
                plainest = getattr(RNNConfig(1, 1), name, None) if name != "lengths" else None
                named[name] = plainest if plainest in several else several[0]
        try:
            config = self.scope.config(named)
        except ConfigError:
            return None
        wanted = factors.keys() - {*CaseSizes._fields}
        return config if all(getattr(config, name) == factors[name] for name in wanted) else None

    def _packed(self, lengths: tuple[int, ...], factors: Mapping[str, Any]) -> RNNConfig | None:
        """Return a config of a packed batch, with lengths that never rise if the subject takes no others."""
        if (plain := self.config(**factors)) is None:
            return None
        fitted = fitted_lengths(lengths, plain.T, plain.N)
        for several in (fitted, tuple(sorted(fitted, reverse=True))):
            with suppress(ConfigError):
                config = plain.replace(lengths=several)
                if self.allows("lengths", config.packing):
                    return config
        return None

    def ask(self, sizes: CaseSizes, seed: int = 0, **factors: Any) -> Response | None:
        """Return what the subject gives on generic numbers of some sizes; ``None`` if it takes no such case.

        ``factors`` are those of the config, and fields of ``CaseNumbers``.
        """
        numbers = CaseNumbers(seed, **{name: factors.pop(name) for name in CaseNumbers._fields if name in factors})
        key = (*sizes, *numbers, self.shorter, *sorted(factors.items()))
        if key not in self._answers:
            config = self.config(**sizes._asdict(), **factors)
            self._answers[key] = None if config is None else self._response(config, numbers)
        return self._answers[key]

    def _response(self, config: RNNConfig, numbers: CaseNumbers) -> Response | None:
        dtype = np.dtype(config.dtype)
        arrays: dict[str, Array] = {}
        # With exact numbers, no preactivation is beyond pi / 2, so that every activation can be inverted.
        terms = config.input_size + config.hidden_size + 2
        largest = 1.5 / terms if config.dtype == "float64" else 1 / math.sqrt(max(1, config.hidden_size))
        for name, spec in config.given.items():
            random = np.random.default_rng([numbers.seed, zlib.crc32(name.encode()), *spec.shape])
            values = random.uniform(0.0 if numbers.positive else -1.0, 1, spec.shape)
            values *= largest * numbers.weights if name.startswith(("weight", "bias")) else 1
            if name.endswith(".grad"):
                values *= numbers.scale
            by_step = values.swapaxes(0, 1) if config.batch_first and values.ndim == 3 else values
            if name in ("output.grad", "readout.grad") and numbers.at is not None:
                by_step[~np.isin(np.arange(config.T), numbers.at)] = 0
            if name == "x" and numbers.blank:
                by_step = by_step if config.batched else values[:, None]
                by_step[1:2, :1] = 0
                by_step[2:3] = 0
            if numbers.plain_readout and name == "readout.weight" and spec.shape[0] == spec.shape[1]:
                values = np.eye(len(values))
            if name.startswith(numbers.zero) or (numbers.plain_readout and name == "readout.bias"):
                values *= 0
            arrays[name] = values.astype(dtype)
        if config.lengths is not None:
            prescribe(config, arrays)
            arrays["x"] = np.nan_to_num(arrays["x"])  # whether padding is read shows in NaN, what it is read as in 0
        return self.of(Case.from_arrays(config, arrays))

    def unit(
        self, values: Floats, through: str, place: tuple[int, int] = (0, 0), **stack: Any
    ) -> tuple[Floats, Floats] | None:
        """Return what a single step of a layer and direction makes of some sums, with these.

        All is 0 but a bias, x or its own row of hx, with a unit matrix. The output must be its layer's.
        """
        sizes, (layer, d) = CaseSizes(1, 1, len(values), len(values)), place
        if (config := self.config(**sizes._asdict(), hx=through == "hx", loss=None, **stack)) is None:
            return None
        W = weight_names(layer, d)[0 if through == "x" else 1] if through in ("x", "hx") else ""
        arrays: dict[str, Array] = {}
        for name, spec in config.given.items():
            unit = name in (W, "readout.weight")
            array = np.eye(spec.shape[0], spec.shape[1]) if unit else np.zeros(spec.shape)
            arrays[name] = array.astype(np.dtype(config.dtype))
        sums = arrays[through][layer * config.num_directions + d] if through == "hx" else arrays[through]
        sums[...] = np.resize(values, sums.shape)
        if (a := self.of(Case.from_arrays(config, arrays))) is None or a.steps is None:
            return None
        number = min(sums.size, config.hidden_size)
        s, start = np.asarray(sums, np.float64).ravel(), d * config.hidden_size
        return s[:number], a.steps[0, 0, start : start + number]

    def sequences(self, number: int) -> Floats | None:
        """Return what a single step makes of some sequences, of one positive number each."""
        if (a := self.ask(CaseSizes(1, number, 1, 1), positive=True, hx=False, loss=None)) is None or a.steps is None:
            return None
        return a.steps[0, :, 0]

    def of(self, case: Case) -> Response | None:
        """Return what the subject gives on a case."""
        self.questions += 1
        start = time.perf_counter()
        observation = self._observations.of(case, with_probes=False)
        self._seconds.append(time.perf_counter() - start)
        # a busy machine delays some
        if self.questions % ENOUGH_QUESTIONS == 0 and median(self._seconds) > QUESTION_SECONDS:
            raise SubjectTooSlow("that takes hundreds of calls, and each takes long")
        returned = observation.outcome.arrays.items()
        arrays = {n: np.asarray(array, np.float64) for n, array in returned if role_of(n) not in self.excluded}
        if observation.outcome.failure is not None or observation.unfit is not None:
            wrong = () if observation.unfit is None else observation.unfit.mismatches
            missing = [m.array for m in wrong if m.sort is MismatchKind.MISSING and m.array.endswith(".grad")]
            if not wrong or len(missing) < len(wrong):
                return None
            arrays |= {name: np.zeros(case.config.gradients[name].shape) for name in missing}  # autograd has none
        answer = Response(observation.case, arrays)
        if case.config.bidirectional or (answer.steps is not None and not self.shorter):
            return answer
        last = last_state(answer, self.shorter)
        return answer if last is None else answer._replace(shorter=self._last_states(observation.case.forward(), last))

    def _last_states(self, case: Case, last: Floats) -> Floats | None:
        """Return the states of the last layer (T, N, H), each the last one of a run that ends with its step."""
        states = []
        for T in range(1, case.config.T):
            x = case.x[:, :T] if case.config.batch_first and case.config.batched else case.x[:T]
            config = case.config.replace(T=T)
            if not self.allows("T", T):
                return None
            self.questions += 1
            run = self._observations.of(Case.from_arrays(config, {**case.arrays, "x": x}), with_probes=False)
            state = last_state(Response(run.case, run.outcome.arrays), self.shorter) if run.unfit is None else None
            if state is None:
                return None
            states.append(state)
        return np.stack([*states, last])


def last_state(a: Response, name: str = "") -> Floats | None:
    """Return the state (N, H) with which an answer ends: h_n, or the last output, as ``name`` says; else either.

    An output may be 0 where it is not written.
    """
    last = None if a.returned is None else np.asarray(a.returned[-1], np.float64)
    if "h_n" in a.arrays and (name != "output" or last is None or not last.any()):
        return np.asarray(a.arrays["h_n"][-1], np.float64)
    return last
