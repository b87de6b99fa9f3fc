"""The mistakes that reproduce arrays which a user's code gave, where there is no code to run on fresh cases.

Some facts about the arrays are not known: tanh or relu, which axis is time, and which of nn.RNN's arrays they are.
These make several readings. In each, the arrays are one observation a case, and ``identify.explanations`` looks for
what explains them all.

The numbers are compared as given, in float64, by the tolerances of the coarsest dtype among them. That holds, too, for
code that computes in float64 and rounds its operands, its parameters and its results to that dtype. Each of the three
is off by at most u in relation to a product, which makes gamma_3 A, and a step has at least three terms, whose
tolerance is gamma_m A for m terms (``oracle.tolerance``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np

from harness.checks.agreement import Observation, assess
from harness.checks.result import Result
from harness.diagnosis.defects import noted_defects
from harness.diagnosis.identify.cause import LEAST_FRESH
from harness.diagnosis.identify.gates import right_of
from harness.diagnosis.identify.inquiry import explains
from harness.diagnosis.identify.networks_fitting_arrays import (
    MOST_CHOICES,
    MOST_COST,
    ArrayExplanation,
    case_apart,
    explanations,
)
from harness.diagnosis.identify.questions import Response, rounding_of
from harness.diagnosis.observation_cache import is_right
from harness.oracle.arithmetic_assumptions import FORMATS, Arithmetic
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.setting import Setting, reference_of
from harness.space.case import Array, Case, as_plain
from harness.space.config import ArraySpec, RNNConfig
from harness.space.errors import UsageError
from harness.space.factor_table import NONLINEARITIES
from harness.space.outcome import Outcome
from harness.subjects.explain_inputs import WeightsToExplain, array

NAMES_RETURNED: Final = ("readout", "output")
"""The names that arrays may have beside those of the final states, the likeliest first: a model with a linear layer
returns what that makes of the output."""


def ways_of(final: tuple[str, ...], number: int) -> list[tuple[str, ...]]:
    """Return the names that so many arrays in a tuple may have, given those of the final states."""
    ways = [*((name,) for name in (*NAMES_RETURNED, *final)), ("output", *final), ("readout", *final)]
    ways += [("output", "h_n"), final, ("output", *final, "readout")]
    return list(dict.fromkeys(way for way in ways if len(way) == number))


class GivenCase(NamedTuple):
    """One case as the user has it: what went in, and what came out of the user's code."""

    x: Any
    actual: Any
    hx: Any = None  # the initial state, or a tuple of several
    cotangents: Mapping[str, Any] | None = None


class _CaseArrays(NamedTuple):
    x: Array
    hidden: dict[str, Array]  # the initial states that are given
    cotangents: dict[str, Array]
    values: dict[str, Array]  # the arrays that came out, by their names in errors
    ways: list[tuple[str, ...]]  # the names that nn.RNN may have for them, in each way to take them


class ArrayInterpretation(NamedTuple):
    """One way to take what was given, and what is seen then, a case each."""

    observations: tuple[Observation, ...]
    other: str = ""
    """The thing that is not as the user said: ``batch_first``; ``dtype``, a coarser one; the order of the ``time``
    steps, or of the ``sequences``. Empty if all is."""
    names: tuple[str, ...] = ()  # the names of the cases, if they have any

    @property
    def config(self) -> RNNConfig:
        """The config of the first case."""
        return self.observations[0].case.config

    @property
    def is_right(self) -> bool:
        """True if nothing is wrong in it."""
        return all(is_right(observation) for observation in self.observations)

    @property
    def responses(self) -> list[Response]:
        """The arrays that came back, with what they were made of."""
        return [
            Response(one.case, {n: v.astype(np.float64) for n, v in one.outcome.arrays.items()}, rounded=one.rounded)
            for one in self.observations
        ]

    @property
    def only_zeros(self) -> bool:
        """True if all numbers that came back are zeros, and there are several."""
        arrays = [array for one in self.observations for array in one.outcome.arrays.values()]
        return sum(array.size for array in arrays) > 1 and not any(map(np.any, arrays))

    @property
    def dtypes(self) -> list[str]:
        """The dtype of each case."""
        return [one.arithmetic.dtype for one in self.observations]

    @property
    def nonfinite_values(self) -> int:
        """The number of values that are NaN or infinite where nn.RNN's are finite."""
        count = 0
        for one in self.observations:
            right = _right_arrays(one.case)
            arrays = one.outcome.arrays.items()
            count += sum(int((np.isfinite(right[name]) & ~np.isfinite(value)).sum()) for name, value in arrays)
        return count

    def reproduced(self, cause: ArrayCause) -> bool:
        """Tell whether mistakes give every number."""
        network = right_of(self.config) if cause.explanation is None else cause.explanation.network
        pairs = zip(self.responses, self.dtypes, strict=True)
        return all(explains(network, a, rounding_of(dtype)) for a, dtype in pairs)


@dataclass(frozen=True)
class ArrayCause:
    """Mistakes that reproduce everything that is wrong, in one reading."""

    reading: ArrayInterpretation
    """If there are no mistakes, all is right in this reading, though it is not the one that the user said."""
    explanation: ArrayExplanation | None = None

    @property
    def mistakes(self) -> tuple[str, ...]:
        """The mistakes in sentences."""
        return () if self.explanation is None else tuple(mistake.sentence for mistake in self.explanation.mistakes)

    def run(self, case: Case) -> Mapping[str, Any]:
        """Return what a layer with these mistakes gives."""
        return _right_arrays(case) if self.explanation is None else self.explanation.run(case)


@dataclass(frozen=True)
class ArraysExplained:
    """The answer, without words."""

    reading: ArrayInterpretation | None
    """The reading in which the arrays are right, or in which a mistake explains them; or else that in which fewest are
    wrong."""
    misfit: str = ""  # the reason why there is no reading at all: the arrays' shapes fit none
    results: tuple[Result, ...] = ()  # the results of the reading, one for each case
    causes: tuple[ArrayCause, ...] = ()  # the plainest first
    telling: str = ""  # what another case must have that tells the first cause from the others
    tried: bool = True
    """False if no mistake was tried: it takes too long to run even one on such long arrays, or h is projected."""
    defects: tuple[str, ...] = ()  # lines on mistakes of this package in looking for causes
    # the number of digits after the point that all values have, if they were taken to be rounded to so many.
    digits: int | None = None

    @property
    def agrees(self) -> bool:
        """True if everything is as nn.RNN has it."""
        return bool(self.results) and not any(result.failed for result in self.results)

    @property
    def wrong(self) -> int:
        """The number of values that are wrong in themselves, of the array that has most of them in each case."""
        return sum(max((mismatch.count for mismatch in result.mismatches), default=0) for result in self.results)

    @property
    def certain(self) -> bool:
        """True if one explanation alone reproduces everything, in enough wrong numbers to rule chance out.

        Two different ones would have to share each number that is wrong.
        """
        return len(self.causes) == 1 and self.wrong >= LEAST_FRESH

    @property
    def shared(self) -> tuple[str, ...]:
        """The mistakes that all causes have, if there are several: whichever it is, these are made."""
        if len(self.causes) < 2 or self.wrong < LEAST_FRESH:
            return ()
        return tuple(
            mistake for mistake in self.causes[0].mistakes if all(mistake in cause.mistakes for cause in self.causes)
        )


def explained(
    models: Sequence[WeightsToExplain],
    cases: Sequence[GivenCase],
    nonlinearity: str | None,
    *,
    batch_first: bool | None,
    atol: float,
) -> tuple[ArraysExplained, WeightsToExplain]:
    """Return what the arrays of all cases agree with, nn.RNN or mistakes, and with which of several models.

    In doubt, that is the first model. Raises ``UsageError`` for an x or hx that a model cannot read, and for an
    ``actual`` that nn.RNN cannot return.
    """
    given = [_as_arrays(case, models[0].config.form.final) for case in cases]
    asked = [_Asked(model, given, nonlinearity, batch_first, atol) for model in models]
    if len(models) > 1:  # mistakes are looked for only if no model fits
        asked = [one for one in asked if any(reading.is_right for reading in one.readings(one.firsts))][:1] or asked
    answers = [(_explained(one), one.model) for one in asked]
    return max(answers, key=lambda pair: (pair[0].agrees, pair[0].certain, not pair[0].misfit, -pair[0].wrong))


class _Asked(NamedTuple):
    """The arrays of all cases beside a model, and what is said of them."""

    model: WeightsToExplain
    cases: Sequence[_CaseArrays]
    nonlinearity: str | None
    batch_first: bool | None
    atol: float

    @property
    def firsts(self) -> tuple[bool, ...]:
        """What ``batch_first`` may be."""
        known = self.model.batch_first if self.batch_first is None else self.batch_first
        return (False, True) if known is None else (known,)

    def readings(self, firsts: Iterable[bool], difference: str = "") -> Iterator[ArrayInterpretation]:
        """Yield the ways to take the arrays."""
        config, nonlinearity = self.model.config, self.nonlinearity or self.model.nonlinearity
        if config.gated and nonlinearity is not None:
            raise UsageError(f"nonlinearity={nonlinearity!r}: {config.layer} has none; leave it out")
        phis = NONLINEARITIES[:1] if config.gated else NONLINEARITIES if nonlinearity is None else (nonlinearity,)
        for phi, first in product(phis, firsts):
            read = config.replace(nonlinearity=phi, batch_first=first)
            for observations in product(*(_observed(self.model, read, case, self.atol) for case in self.cases)):
                yield ArrayInterpretation(observations, difference)


def _explained(asked: _Asked) -> ArraysExplained:
    """Return what the arrays of all cases agree with: nn.RNN, or mistakes."""
    fitting = list(asked.readings(asked.firsts))
    if not fitting:
        config = asked.model.config.replace(batch_first=asked.firsts[-1])
        return ArraysExplained(None, misfit=next(filter(None, (_misfit(config, case) for case in asked.cases))))
    if (right := next((reading for reading in fitting if reading.is_right), None)) is not None:
        return ArraysExplained(right, results=results_of(right))
    if not asked.atol and (digits := _digits([v for case in asked.cases for v in case.values.values()])) is not None:
        return replace(_explained(asked._replace(atol=0.5 * 10.0**-digits)), digits=digits)
    turned = asked.readings([not asked.firsts[0]], "batch_first") if len(asked.firsts) == 1 else ()
    return _searched(fitting, [*turned, *(variant for reading in fitting for variant in _taken_otherwise(reading))])


def _digits(values: Iterable[Array]) -> int | None:
    """Return how many digits after the point all finite numbers have, if they are few enough to come from a print.

    Fewer than five different numbers could be so by chance. Multiples of 2**-k have k digits without being rounded.
    """
    with np.errstate(over="ignore"):
        numbers = np.concatenate([np.ravel(value).astype(np.float32) for value in values])
    numbers = numbers[np.isfinite(numbers)]
    if len(np.unique(numbers)) < 5:
        return None

    def exact(k: int) -> bool:
        return bool((np.round(numbers.astype(float), k).astype(np.float32) == numbers).all())

    digits = next((k for k in range(1, 6) if exact(k)), None)
    return None if digits is None or not (numbers * 2**digits % 1).any() else digits


def _taken_otherwise(reading: ArrayInterpretation) -> Iterator[ArrayInterpretation]:
    """Yield the same reading in coarser precision, and with the arrays in another order.

    Something may have been rounded to float32 on the way, the last time step may stand first, and the sequences of the
    batch may have changed places.
    """
    coarser = (replace(observation, arithmetic=Arithmetic("float32")) for observation in reading.observations)
    yield ArrayInterpretation(tuple(coarser), "dtype")
    if all(observation.case.config.loss is None for observation in reading.observations):
        for difference, change in (("time", _turned), ("sequences", _with_sequences_in_order)):
            moved = (_with_arrays(observation, change) for observation in reading.observations)
            yield ArrayInterpretation(tuple(moved), difference)


def _with_arrays(observation: Observation, change: Callable[[Case, str, Array], Array]) -> Observation:
    """Return an observation with each array changed."""
    arrays = {name: change(observation.case, name, array) for name, array in observation.outcome.arrays.items()}
    return replace(observation, outcome=replace(observation.outcome, arrays=arrays))


def _turned(case: Case, name: str, array: Array) -> Array:
    """Return an array with its last time step first, if it has time steps."""
    return array if name in case.config.form.final else np.flip(array, 1 if case.config.batch_first else 0)


def _with_sequences_in_order(case: Case, name: str, array: Array) -> Array:
    """Return an array with its sequences in the places of those of a right run, as they rank by one sum of each.

    The sum has weights that are drawn at random, so that different sequences have different ones.
    """
    axis = 0 if case.config.batch_first and name not in case.config.form.final else 1
    pair = (array, _right_arrays(case)[name])
    rows = [np.moveaxis(values, axis, 0).reshape(array.shape[axis], -1) for values in pair]
    weights = np.random.default_rng(0).standard_normal(rows[0].shape[1])
    actual, expected = (np.argsort(own @ weights) for own in rows)
    places = np.empty_like(actual)
    places[expected] = actual
    return np.take(array, places, axis)


def _searched(readings: Sequence[ArrayInterpretation], others: Sequence[ArrayInterpretation] = ()) -> ArraysExplained:
    """Look for what explains the arrays, in any reading: as few mistakes as will do.

    Nothing is looked for if one run of each reading costs too much.
    """
    nearest = min(readings, key=_distance)
    cost = len(readings) * sum(observation.case.config.cost for observation in readings[0].observations)
    if nearest.config.proj_size or cost > MOST_COST:
        return ArraysExplained(nearest, results=results_of(nearest), tried=False)
    causes, telling, defects = list[ArrayCause](), "", list[str]()
    with noted_defects(defects):
        causes = _plainest(readings, others, nearest)
        telling = " and ".join(dict.fromkeys(_apart(causes[0], rival) for rival in causes[1:]))
    reading = next((cause.reading for cause in causes if not cause.reading.other), nearest)
    return ArraysExplained(
        reading, results=results_of(reading), causes=tuple(causes), telling=telling, defects=tuple(defects)
    )


def _plainest(
    readings: Sequence[ArrayInterpretation], others: Sequence[ArrayInterpretation], nearest: ArrayInterpretation
) -> list[ArrayCause]:
    """Return the plainest causes of some readings, which other cases tell apart."""
    causes = [ArrayCause(reading) for reading in others if reading.is_right]
    if causes or not nearest.nonfinite_values:
        for reading in readings:
            if not reading.only_zeros:  # which many mistakes give
                found = explanations(reading.responses, reading.dtypes, 1 if causes else MOST_CHOICES)
                causes += [ArrayCause(reading, explanation) for explanation in found]
    fewest = min((max(len(cause.mistakes), 1) for cause in causes), default=0)
    different: list[ArrayCause] = []
    for cause in sorted(causes, key=lambda cause: bool(cause.mistakes)):
        if len(cause.mistakes) <= fewest and all(_apart(cause, rival) for rival in different):
            different.append(cause)
    return different


def _apart(cause: ArrayCause, rival: ArrayCause) -> str:
    """Return what another case must have to tell two causes apart; empty if nothing does."""
    if cause.reading.config.plain != rival.reading.config.plain or cause.reading.other != rival.reading.other:
        return "another x"
    return case_apart(cause.run, rival.run, cause.reading.observations[0].case)


def _distance(reading: ArrayInterpretation) -> tuple[int, float]:
    """Return how many numbers of a reading are wrong, and by how much at most."""
    answer = ArraysExplained(reading, results=results_of(reading))
    sizes = (mismatch.atol for result in answer.results for mismatch in result.mismatches)
    return answer.wrong, max(sizes, default=0.0)


def found_in(reading: ArrayInterpretation) -> ArraysExplained:
    """Return which mistakes explain a reading in which something is wrong."""
    return _searched([reading])


def results_of(reading: ArrayInterpretation) -> tuple[Result, ...]:
    """Compare each case of a reading with the reference."""
    return tuple(assess(observation, soft=False) for observation in reading.observations)


def hidden_by_roundings(observation: Observation) -> float:
    """Return the size below which an error may hide in what is compared end to end."""
    with np.errstate(all="ignore"):
        expected = expect_whole_run(Setting.of(observation.case, observation.arithmetic))
    names = [name for name in observation.outcome.arrays if name in observation.case.config.returned]
    return max(float(expected[name].tolerance.max(initial=0)) for name in names) + observation.rounded


def _right_arrays(case: Case) -> Mapping[str, Array]:
    with np.errstate(all="ignore"):
        return reference_of(case.config).run(case)


def _as_arrays(case: GivenCase, final: tuple[str, ...]) -> _CaseArrays:
    """Return a case's arrays. Raises ``UsageError`` for what has other names, or is too much or too little."""
    actual: Any = case.actual
    returned = (*NAMES_RETURNED, *final)
    cotangents = {name: array(f"cotangents[{name!r}]", value) for name, value in (case.cotangents or {}).items()}
    expected = [f"{name}.grad" for name in returned]
    if not cotangents.keys() <= {*expected}:
        held = ", ".join(map(repr, cotangents))[:200]
        raise UsageError(f"cotangents holds {held}: expected any of {', '.join(expected)}")
    if isinstance(actual, Mapping):
        outputs = {name for name in actual if not (cotangents and str(name).endswith(".grad"))}
        if not actual or not outputs <= {*returned}:
            held = ", ".join(map(repr, actual))[:200] or "nothing"
            hint = "; gradients need cotangents" if any(str(name).endswith(".grad") for name in outputs) else ""
            raise UsageError(f"actual holds {held}: expected any of {', '.join(returned)}{hint}")
        values, ways = {f"actual[{name!r}]": value for name, value in actual.items()}, [tuple(actual)]
    elif isinstance(actual, tuple):
        flat = [value for part in actual for value in (part if isinstance(part, tuple) else (part,))]
        values, ways = {f"actual[{i}]": value for i, value in enumerate(flat)}, ways_of(final, len(flat))
        if not ways:
            many = f"(output, {', '.join(final)})"
            raise UsageError(f"actual holds {len(flat)} arrays: expected one, {many}, or a dict by name")
    else:
        values, ways = {"actual": actual}, ways_of(final, 1)
    if not any(str(name).endswith(".grad") for name in ways[0]):
        cotangents = {}
    arrays = {label: array(label, value) for label, value in values.items()}
    several = isinstance(case.hx, tuple | list)
    states = () if case.hx is None else tuple(case.hx) if several else (case.hx,)
    if len(states) != len(final) and case.hx is not None:
        wanted = "one array" if len(final) == 1 else "a tuple (hx, cx)"
        raise UsageError(f"hx is {f'a tuple of {len(states)}' if several else 'one array'}: expected {wanted}")
    hidden = {name: array(name, state) for name, state in zip(("hx", "cx"), states, strict=False)}
    return _CaseArrays(array("x", case.x), hidden, cotangents, arrays, ways)


def _observed(model: WeightsToExplain, config: RNNConfig, case: _CaseArrays, atol: float) -> Iterator[Observation]:
    """Yield what is seen of a case, in every way in which its arrays can be nn.RNN's.

    Raises ``UsageError`` for an x that the layer cannot read.
    """
    config = called(config, case)
    if (states := _shaped(case.hidden, config.inputs)) is None:
        return
    start: dict[str, Any] = {"hx": None, **_wide(states)}
    dtype = _coarsest([*model.weights.values(), case.x, *states.values()], [*case.values.values()])
    for named in _named(config, case):
        read = "readout" in named or "readout.grad" in case.cotangents
        of_config = config if read else config.replace(output_size=None)
        weights = _wide({name: model.weights[name] for name in of_config.weights})
        cotangents = _cotangents(of_config, case)
        plain = Case(of_config, case.x.astype(np.float64), weights=weights, cotangents=cotangents, **start).plain()
        states_known = (of_config.num_layers == 1 and "output" in named) or (of_config.T == 1 and "h_n" in named)
        prefixes: dict[int, Array] | None = {} if states_known and not atol else None
        outcome = Outcome(as_plain(of_config, named))
        yield Observation(plain, outcome, Arithmetic(dtype), prefixes=prefixes, rounded=atol)


def _wide(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value.astype(np.float64) for name, value in arrays.items()}


def _cotangents(config: RNNConfig, case: _CaseArrays) -> dict[str, Array]:
    """Return the gradients of the loss as a config has them. Raises ``UsageError`` if they do not fit."""
    found = {}
    for name, spec in config.cotangents.items():
        if name not in case.cotangents:
            raise UsageError(f"cotangents lacks {name}: expected {spec_line(spec)}")
        found[name] = _required(f"cotangents[{name!r}]", case.cotangents[name], spec)
    return _wide(found)


def called(config: RNNConfig, case: _CaseArrays) -> RNNConfig:
    """Return the layer's config with the sizes of a case. Raises ``UsageError`` for an x that it cannot read."""
    shape, I = case.x.shape, config.input_size  # noqa: E741 - the published name
    axes = "N, T" if config.batch_first else "T, N"
    if len(shape) not in {2, 3} or shape[-1] != I or not case.x.size:
        hint = "; add the last axis: x[..., None]" if I == 1 and len(shape) < 3 else ""
        raise UsageError(f"x has shape {shape}: expected ({axes}, {I}), or (T, {I}) of one sequence{hint}")
    finals = {f"{name}.grad" for name in config.form.final}
    read = bool(finals & {*case.cotangents}), bool({*case.cotangents} - finals)
    losses = {(True, False): "h_n", (False, True): "output", (True, True): "both"}
    config = config.replace(hx=bool(case.hidden), loss=losses.get(read))
    if len(shape) == 2:
        return config.replace(T=shape[0], batched=False, batch_first=False)
    N, T = shape[:2] if config.batch_first else shape[1::-1]
    return config.replace(T=T, N=N)


def _coarsest(inputs: Sequence[Array], actual: Sequence[Array]) -> str:
    """Return the coarsest dtype of all arrays.

    Integers are exact. A float64 result that holds only numbers of float32 is taken to come from float32.
    """
    names = [value.dtype.name for value in (*inputs, *actual)]
    with np.errstate(over="ignore"):
        narrow = (np.array_equal(value, value.astype(np.float32), equal_nan=True) for value in actual)
    names += ["float32"] * any(narrow)
    return max((name for name in names if name in FORMATS), key=lambda name: FORMATS[name].u, default="float64")


def _named(config: RNNConfig, case: _CaseArrays) -> list[dict[str, Array]]:
    """Return the arrays by name, in every way in which their shapes fit.

    Ways that lack an axis count only if no way fits exactly.
    """
    ways = (dict(zip(names, case.values.values(), strict=True)) for names in case.ways)
    fitting = [named for way in ways if (named := _shaped(way, config.returned)) is not None]
    shapes = [value.shape for value in case.values.values()]
    return [named for named in fitting if [value.shape for value in named.values()] == shapes] or fitting


def _shaped(arrays: Mapping[str, Array], specs: Mapping[str, ArraySpec]) -> dict[str, Array] | None:
    """Return arrays in the shapes that are expected; ``None`` if one does not fit."""
    fits = {name: shaped(array, specs[name]) for name, array in arrays.items() if name in specs}
    fitting = {name: array for name, array in fits.items() if array is not None}
    return fitting if len(fitting) == len(arrays) else None


def shaped(value: Array, spec: ArraySpec) -> Array | None:
    """Return the array in the expected shape, if it lacks no more than axes of size 1; else ``None``.

    An array with as many axes must have that shape: (10, 1, 5) is not (1, 10, 5), because nothing may be exchanged.
    """
    if value.shape == spec.shape:
        return value
    without = tuple(size for size in spec.shape if size != 1)
    lacks = value.ndim < len(spec.shape) and tuple(size for size in value.shape if size != 1) == without
    return value.reshape(spec.shape) if lacks else None


def _required(label: str, value: Array, spec: ArraySpec) -> Array:
    """Return an array in the shape that is expected. Raises ``UsageError`` if it does not fit."""
    if (fit := shaped(value, spec)) is None:
        raise UsageError(f"{label} has shape {value.shape}: expected {spec_line(spec)}")
    return fit


def _misfit(config: RNNConfig, case: _CaseArrays) -> str:
    """Return why no reading fits a case, in one sentence; empty where one does. Raises ``UsageError`` if hx is why."""
    config = called(config, case)
    for name, state in case.hidden.items():
        _required(name, state, config.inputs[name])
    if _named(config, case):
        return ""
    for i, (label, value) in enumerate(case.values.items()):
        names = dict.fromkeys(way[i] for way in case.ways)
        specs = {name: config.returned[name] for name in names if name in config.returned}
        if any(shaped(value, spec) is not None for spec in specs.values()):
            continue
        opening = f"{label} has shape {value.shape}"
        if not specs:
            return f"{opening}, but the module has no readout: expected output, {', '.join(config.form.final)}, or all"
        for name, spec in specs.items():
            if reason := _reason(config, name, value.shape):
                return f"{opening}, expected {name} {spec_line(spec)}: {reason}"
        return f"{opening}, expected {' or '.join(f'{name} {spec_line(spec)}' for name, spec in specs.items())}"
    states = ", ".join(config.form.final)
    return f"the arrays do not fit together: expected (output, {states}) or (readout, {states})"


def _reason(config: RNNConfig, name: str, shape: tuple[int, ...]) -> str:
    """Return why an array may have the shape that it has; empty where no reason is known."""
    axes, expected = config.returned[name]
    wanted = dict(zip(axes, expected, strict=True))
    sizes = dict(zip(axes, shape, strict=True)) if len(shape) == len(axes) else {}
    differ = [axis for axis in sizes if sizes[axis] != wanted[axis]]
    turned = bool(sizes) and len(shape) > 2 and (shape[1], shape[0], *shape[2:]) == expected
    of_states = name in config.form.final
    one_step = "T" in axes and shape == tuple(size for axis, size in wanted.items() if axis != "T")
    one_direction = differ == ["D*H"] and config.bidirectional and sizes["D*H"] == config.hidden_size
    reasons = {
        "its first two axes are exchanged; its rows come first, with batch_first, too": turned and of_states,
        f"its first two axes are exchanged; with batch_first={config.batch_first}, {axes[0]} comes first": turned,
        "one direction is missing; forward and reverse stand side by side in the last axis": one_direction,
        f"{name} holds a row for each layer and direction": differ == ["L*D"],
        "one step too many; leave the initial state out": differ == ["T"] and sizes["T"] == config.T + 1,
        f"x has T={config.T} steps": differ == ["T"],
        "it holds one step; give all steps": one_step,
    }
    return next((reason for reason, fits in reasons.items() if fits), "")


def spec_line(spec: ArraySpec) -> str:
    """Return the axes and sizes of an array as text, such as ``(N, T, D*H) = (1, 10, 5)``."""
    return f"({', '.join(spec.axes)}) = {spec.shape}"
