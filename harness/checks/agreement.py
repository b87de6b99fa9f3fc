"""The check of agreement: it compares a subject, on a case, with what the reference says that nn.RNN computes.

``observe`` runs the subject, ``assess`` compares. The comparison is step-local (see ``oracle.expectation``), so the
subject's output of every layer must be known. In a single time step, h_n holds all of them. Otherwise inner layers are
reached by running the subject on prefixes of the stack, with the same weights. Their outputs are taken for those inside
the full run if both runs have equal h_n. That is strong evidence but no proof, because states that differ by a rounding
may become equal again. So a difference that is seen only through a prefix is a disagreement only if it is larger than
the two runs' own roundings can make it. If not, it is suspicious where it is larger than they usually make it.

Gradients are compared twice: as the case has them, where inner errors are carried along, and with probes
(``oracle.probe_units``), which show every inner state and gradient of a wider layer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

from numpy.typing import NDArray

from harness.checks.result import PROBES, ComparisonMethod, RaisedError, Result, Verdict
from harness.checks.vacuous import vacuous_mistakes
from harness.oracle import probe_units
from harness.oracle.arithmetic_assumptions import STRICT, AcceptedErrors, Arithmetic
from harness.oracle.array_layout import layout, time_major
from harness.oracle.bounded_array import BoundedArray, to_float64
from harness.oracle.compare import (
    Mismatch,
    MismatchKind,
    check_form,
    compare,
    over_tolerance,
    same_numbers,
    share_of_tolerance,
    suspect,
)
from harness.oracle.expectation import apart_from_prefixes, expect_local, single_step_states, usually_apart
from harness.oracle.expected import ExpectedArray, or_nan
from harness.oracle.gradient_expectation import expect_gradients, expect_whole_run
from harness.oracle.pinned_numpy import np
from harness.oracle.setting import Setting, reference_of
from harness.oracle.unroll import Unroll
from harness.space.case import Array, Case, as_plain
from harness.space.config import PREACTIVATION, RNNConfig
from harness.space.declared_arithmetic import LEAST_ASSUMED, DeclaredArithmetic
from harness.space.errors import require_type
from harness.space.factor_table import PLAIN, having
from harness.space.outcome import PROCESS_LOST, Failure, Outcome
from harness.subjects.protocol import Subject, backend_of, masks_of

PROBED_COST: Final = 2**23
"""The highest cost of a probed case (``RNNConfig.cost``); more expensive gradients are compared without probes. Near
it, at 2**22.7, probes take 22 ms, beside 11 ms for the case itself.
"""


@dataclass(frozen=True)
class Observation:
    """The results of a subject on a case, on prefixes of its stack, and with probes around it."""

    case: Case  # the plain form of the case that was run (``Case.plain``), with the masks that dropout drew in the run
    outcome: Outcome  # the outcome in the plain form's shapes
    arithmetic: Arithmetic
    raw: Outcome | None = None  # the outcome as it was returned
    unfit: Result | None = None  # the result, if there are no values to compare
    independent: bool = True
    """True if roundings may be taken to be independent, as the soft model does. They are not if one value is read again
    and again, because it is rounded in the same way each time.
    """
    prefixes: dict[int, Array] | None = None
    """The subject's output of the first k layers run alone, by k, for each layer whose output is not in the outcome
    itself; ``None`` if that could not be obtained.
    """
    probed: tuple[Case, Outcome] | None = None
    """The case ``probe_units.probed(case)`` and its outcome; ``None`` without gradients, or if the subject does not
    support it.
    """
    # A reference with a known issue: where it gives NaN, NaN is accepted as well as the right value.
    or_nan: Unroll | None = None
    rounded: float = 0.0
    """The distance that each number may have from the computed one in addition to the tolerance, for example if it was
    typed from a print. Such numbers are compared end to end only, because what the next step read is not known.
    """
    original_config: RNNConfig | None = None  # before it was brought into the plain form; ``None`` if it was not

    @property
    def config(self) -> RNNConfig:
        """The config that the subject was asked for, with the way in which it was called."""
        return self.original_config or self.case.config


def check_agreement(
    subject: Subject, case: Case, *, accepted: AcceptedErrors = STRICT, with_probes: bool = True
) -> Result:
    """Run ``subject`` on ``case`` and compare everything that it returns.

    ``accepted`` is a tolerance looser than the dtype's own. Without probes, gradients are compared less sharply, in
    half the time.
    """
    require_type("subject", subject, Subject, "as_subject(function) makes one")
    require_type("case", case, Case, "draw(config) makes one")
    observation = observe(subject, case, accepted, with_probes=with_probes)
    result = assess(observation)
    return result if result.verdict is not Verdict.AGREES else effects_of(observation.raw) or result


# The plain values of what does not matter to probes, which know of lengths themselves.
_HOWEVER: Final = {name: PLAIN[name] for name in having("probed") if name != "lengths"}


def observe(
    subject: Subject, case: Case, accepted: AcceptedErrors = STRICT, *, with_probes: bool = True
) -> Observation:
    """Run ``subject`` on ``case``, on prefixes of its stack, and with the probes that a local comparison needs."""
    outcome, arithmetic = subject.run(case), arithmetic_of(subject, case, accepted)
    if (bad := unfit(case, outcome)) is not None:
        return Observation(case, outcome, arithmetic, outcome, bad)
    masks = masks_of(subject, case)
    if masks is None or case.config.device == "meta":
        return Observation(case, outcome, arithmetic, outcome, Result(Verdict.AGREES, method=ComparisonMethod.FORM))
    plain, config = (replace(case, masks=masks) if masks else case).plain(), case.config
    # Carriers round what they carry like any unit: only the dtype's own roundings leave it unchanged.
    # How gradients are asked for does not matter: the probes ask in the plain way.
    plainly = config is plain.config or config.replace(**_HOWEVER) == plain.config
    worthwhile = with_probes and accepted.derived and not masks and plainly
    computed = plain_outcome(config, outcome)
    return Observation(
        plain,
        computed,
        arithmetic,
        outcome,
        independent=config.strides != "expanded",
        prefixes=_prefixes(subject, case, computed),
        probed=_probed(subject, plain) if worthwhile else None,
        original_config=config,
    )


def plain_outcome(config: RNNConfig, outcome: Outcome) -> Outcome:
    """Return the results in the shapes and the dtype of the plain form."""
    if config.plain is config and config.lengths is None:
        return outcome
    arrays = as_plain(config, outcome.arrays)
    with np.errstate(over="ignore", invalid="ignore"):  # a float32 gradient may overflow autocast's float16
        return replace(outcome, arrays={name: array.astype(config.plain.dtype) for name, array in arrays.items()})


def arithmetic_of(subject: Subject, case: Case, accepted: AcceptedErrors = STRICT) -> Arithmetic:
    """Return the assumptions about the subject's arithmetic on a case."""
    return _arithmetic(case.config.plain.dtype, backend_of(subject, case.config) or LEAST_ASSUMED, accepted)


@lru_cache(64)
def _arithmetic(dtype: str, backend: DeclaredArithmetic, accepted: AcceptedErrors) -> Arithmetic:
    return Arithmetic(dtype, backend, accepted.in_dtype(dtype))


def assess(
    observation: Observation, reference: Unroll | None = None, *, soft: bool = True, with_margin: bool = False
) -> Result:
    """Compare an observation with what a correct subject may give; unless ``soft``, only with the hard tolerances.

    ``reference`` is one with a known issue, which is taken to be right.

    ``with_margin`` also measures how much of its tolerances a subject that agrees uses.
    """
    if observation.unfit is not None:
        return observation.unfit
    case = observation.case
    setting = Setting(reference or reference_of(case.config), case, observation.arithmetic)
    soft = soft and observation.independent
    suspicious: list[Mismatch] = []
    if observation.prefixes is None:
        mismatches, tight = _end_to_end(observation, setting, with_margin=with_margin)
        method = ComparisonMethod.END_TO_END
    else:
        mismatches, suspicious, tight = _local(observation, setting, soft=soft, with_margin=with_margin)
        method = ComparisonMethod.LOCAL
    spoke = False
    if not mismatches and observation.probed is not None:
        if (bad := unfit(*observation.probed)) is not None:
            wider = f"run with probes, in {observation.probed[0].config!r}"
            with_issue = tuple(replace(mismatch, probed=True) for mismatch in bad.mismatches)
            return replace(bad, message=f"{wider}: {bad.message}" if bad.message else "", mismatches=with_issue)
        shown = _with_probes(setting, *observation.probed, soft=soft)
        if shown is not None:
            mismatches, suspicious, spoke = shown[0], suspicious + shown[1], True
    if case.config.loss is not None and method is ComparisonMethod.LOCAL and not spoke:
        method = ComparisonMethod.CARRIED
    if mismatches:
        return Result(Verdict.DISAGREES, tuple(mismatches), method=method)
    if suspicious:
        return Result(Verdict.SUSPECT, tuple(suspicious), method=method)
    return Result(
        Verdict.AGREES, method=method, also=(PROBES,) if spoke else (), margin=tight.margin, vacuous=tight.vacuous
    )


class Departure(NamedTuple):
    """The elements of a layer, each compared alone: by one step from the subject's own state, or back."""

    array: str  # the name ``output`` or ``preactivation.grad``
    layer: int
    over: NDArray[np.float64]  # the differences as multiples of their tolerances, (T, N, D*H), time first

    @property
    def bad(self) -> NDArray[np.bool_]:
        """The elements that are wrong in themselves."""
        return self.over > 1


def departures(observation: Observation) -> list[Departure]:
    """Return how far each layer departs from its expected values, in the order of computation: forward, then back.

    The list is empty if the inner states could not be obtained; for gradients it has only what probes show.
    """
    if observation.unfit is not None or observation.prefixes is None:
        return []
    case = observation.case
    setting, states = Setting.of(case, observation.arithmetic), _states(observation)
    measured: list[Departure] = []
    for layer, (own, expected) in enumerate(zip(states, expect_local(setting, states), strict=True)):
        values, tolerance = (
            time_major(array, case.config) for array in (expected["output"].values, expected["output"].tolerance)
        )
        measured.append(Departure("output", layer, over_tolerance(own.values, values, tolerance)))
    if observation.probed is not None and unfit(*observation.probed) is None:
        wider, outcome = observation.probed
        witness = probe_units.witness(setting, outcome.arrays)
        if witness is not None:
            inside = setting._replace(case=wider)
            backward = expect_gradients(inside, witness.states, witness.preactivation_gradients).preactivations
            for layer in reversed(range(case.config.num_layers)):
                chosen = probe_units.selection(case.config, PREACTIVATION, layer)
                allowed = probe_units.cut(backward[layer], chosen)
                da = witness.preactivation_gradients[layer][chosen]
                measured.append(Departure(PREACTIVATION, layer, over_tolerance(da, allowed.values, allowed.tolerance)))
    return measured


def _prefixes(subject: Subject, case: Case, outcome: Outcome) -> dict[int, Array] | None:
    config, arrays = case.config, outcome.arrays
    has_output = "output" in arrays
    if has_output and config.num_layers == 1:
        return {}
    if not arrays.keys() >= {*config.form.final} or ("output" in outcome.not_returned and config.T > 1):
        return None
    if config.T == 1 and (not has_output or holds_output(config, arrays)):
        return {}
    outputs: dict[int, Array] = {}
    for layers in range(1, config.num_layers + (not has_output)):
        prefix = case.prefix(layers)
        if (
            config.gated
            and config.loss is not None
            and config.wrt != "inputs"
            and "grad_mode" in subject.capabilities.offers
        ):
            # Kernels of torch's LSTM depend on whether gradients are recorded.
            prefix = replace(prefix, config=prefix.config.replace(grad_mode="enable_grad"))
        inner = subject.run(prefix)
        if inner.failure or check_form(prefix.config, inner.arrays, required=_required(prefix)):
            return None
        inner = plain_outcome(prefix.config, inner)
        rows = layers * config.num_directions
        if not all(same_numbers(inner.arrays[name], arrays[name][:rows]) for name in config.form.final):
            return None
        outputs[layers] = inner.arrays["output"]
    return outputs


def holds_output(config: RNNConfig, arrays: Mapping[str, Array]) -> bool:
    """Tell whether h_n ends with the single step of output, as it must; otherwise nothing is read from it."""
    [top] = single_step_states(config, to_float64(arrays["h_n"]))[-1:]
    return same_numbers(layout(top.values, config), to_float64(arrays["output"]))


def _probed(subject: Subject, case: Case) -> tuple[Case, Outcome] | None:
    if case.config.loss is None or case.config.gated:  # whose probes are not built
        return None
    wider = probe_units.probed(case)
    offered = wider.config.wrt in subject.capabilities.offers.get(
        "wrt", (wider.config.wrt,)
    )  # probes are read from x's gradient
    if wider.config.cost > PROBED_COST or not offered:
        return None
    outcome = subject.run(wider)
    if outcome.failure is Failure.UNSUPPORTED or not {"x.grad", "output"}.isdisjoint(outcome.not_returned):
        return None
    return wider, outcome if unfit(wider, outcome) else plain_outcome(wider.config, outcome)


def _states(observation: Observation) -> list[BoundedArray]:
    """Return the output of every layer, from the outcome if it holds it, else from a prefix."""
    case, arrays, prefixes = observation.case, observation.outcome.arrays, observation.prefixes or {}
    layers = case.config.num_layers
    inner = [BoundedArray(time_major(array, case.config)) for array in prefixes.values()]
    if len(prefixes) + ("output" in arrays) < layers:
        inner = single_step_states(case.config, to_float64(arrays["h_n"]))
    if "output" in arrays:
        return [*inner[: layers - 1], BoundedArray(time_major(arrays["output"], case.config))]
    return inner


class _Tightness(NamedTuple):
    """The tightness of a case's tolerances: the margin, and the mistakes that they would have hidden."""

    margin: float | None = None
    vacuous: tuple[str, ...] = ()


def _local(
    observation: Observation, setting: Setting, *, soft: bool, with_margin: bool
) -> tuple[list[Mismatch], list[Mismatch], _Tightness]:
    """Return the disagreements of the case itself, its suspicious differences, and its tightness if it is asked for."""
    case, states = observation.case, _states(observation)
    expected = _expected(observation, setting, states)
    mismatches = _compared_layers(observation, states, expected)
    if mismatches and observation.prefixes and not _needs_no_prefix(mismatches[0], case):
        wider = _expected(observation, setting, apart_from_prefixes(setting, states))
        proved = _compared_layers(observation, states, wider)
        if proved or case.config.gated:  # which has no model of what is usual
            return proved, [], _Tightness()
        usual = _expected(observation, setting, usually_apart(setting, states))
        # Where the two runs may differ by any amount, as after an overflow, one says nothing about the other.
        mismatches = _compared_layers(observation, states, _exempt_as(wider, usual))
        return [], [replace(mismatch, sort=MismatchKind.SUSPICIOUS) for mismatch in mismatches], _Tightness()
    if mismatches:
        return mismatches, [], _Tightness()
    suspicious = _compared_layers(observation, states, expected, soft=True) if soft else []
    if not with_margin:
        return [], suspicious, _Tightness()
    layers = _layers(observation, states, expected)
    margin = _margin((layer.actual, layer.expected) for layer in layers)
    outputs = [values["output"] for values in expected if "output" in values]
    return [], suspicious, _Tightness(margin, vacuous_mistakes(case, outputs, expected[-1]))


def _exempt_as(
    wider: Sequence[dict[str, ExpectedArray]], expected: Sequence[dict[str, ExpectedArray]]
) -> list[dict[str, ExpectedArray]]:
    """Return the expected values of the second argument, with infinite tolerances wherever the first has them."""
    pairs = zip(wider, expected, strict=True)
    return [
        {
            name: replace(value, tolerance=np.where(np.isinf(loose[name].tolerance), np.inf, value.tolerance))
            for name, value in own.items()
        }
        for loose, own in pairs
    ]


def _expected(
    observation: Observation, setting: Setting, states: Sequence[BoundedArray]
) -> list[dict[str, ExpectedArray]]:
    expected = expect_local(setting, states)
    if observation.or_nan is not None:
        with_issue = expect_local(setting._replace(reference=observation.or_nan), states)
        expected = [_accepting_nan(*pair) for pair in zip(expected, with_issue, strict=True)]
    if observation.case.config.loss is not None:
        of_gradients = expect_gradients(setting, states).arrays
        if observation.or_nan is not None:
            alike = setting._replace(reference=observation.or_nan)
            of_gradients = _accepting_nan(of_gradients, expect_gradients(alike, states).arrays)
        expected[-1] |= of_gradients
    return expected


def _accepting_nan(
    expected: dict[str, ExpectedArray], with_issue: dict[str, ExpectedArray]
) -> dict[str, ExpectedArray]:
    return {name: or_nan(value, with_issue[name]) for name, value in expected.items()}


class _Layer(NamedTuple):
    """The arrays of one layer that are compared, and their expected values."""

    config: RNNConfig
    actual: dict[str, Array]
    expected: dict[str, ExpectedArray]
    number: int | None  # the number of an inner layer; ``None`` for the whole stack


def _layers(
    observation: Observation, states: Sequence[BoundedArray], expected: Sequence[dict[str, ExpectedArray]]
) -> Iterator[_Layer]:
    """Yield what is compared layer by layer, from the first one up."""
    case = observation.case
    for layer, own in enumerate(states[:-1] if case.config.T > 1 else ()):  # in a single step, h_n shows the same
        config = case.config.prefix(layer + 1)
        yield _Layer(config, {"output": layout(own.values, config)}, expected[layer], layer)
    top = {"output": layout(states[-1].values, case.config), **observation.outcome.arrays}
    yield _Layer(case.config, top, expected[-1], None)


def _compared_layers(
    observation: Observation,
    states: Sequence[BoundedArray],
    expected: Sequence[dict[str, ExpectedArray]],
    *,
    soft: bool = False,
) -> list[Mismatch]:
    mismatches: list[Mismatch] = []
    for config, actual, allowed, layer in _layers(observation, states, expected):
        if soft:
            mismatches += suspect(config, actual, allowed, observation.arithmetic, layer)
        else:
            mismatches += compare(config, actual, allowed, layer)
    return mismatches


def _margin(compared: Iterable[tuple[Mapping[str, Array], Mapping[str, ExpectedArray]]]) -> float | None:
    """Return the largest difference as a multiple of its tolerance, of arrays whose differences are all within them."""
    largest = [
        share_of_tolerance(to_float64(array), expected[name].values, expected[name].tolerance)
        for actual, expected in compared
        for name, array in actual.items()
        if name in expected and expected[name].or_nan is None
    ]
    return max(largest, default=None)


def _with_probes(
    setting: Setting, wider: Case, outcome: Outcome, *, soft: bool
) -> tuple[list[Mismatch], list[Mismatch]] | None:
    """Return the disagreements that probes show, and the suspicious differences; ``None`` if probes show nothing."""
    config, arithmetic = setting.case.config, setting.arithmetic
    witness = probe_units.witness(setting, outcome.arrays)
    if witness is None:
        return None
    inside = setting._replace(case=wider)
    states = expect_local(inside, witness.states)
    gradients = expect_gradients(inside, witness.states, witness.preactivation_gradients)
    mismatches: list[Mismatch] = []
    suspicious: list[Mismatch] = []

    def look(name: str, array: Array, expected: ExpectedArray, layer: int | None = None) -> None:
        chosen = probe_units.selection(config, name, layer)
        actual, allowed = {name: array[chosen]}, {name: probe_units.cut(expected, chosen)}
        mismatches.extend(compare(config, actual, allowed, layer, probed=True))
        if soft and not mismatches:
            suspicious.extend(suspect(config, actual, allowed, arithmetic, layer, probed=True))

    for layer, own in enumerate(witness.states):
        look("output", layout(own.values, wider.config), states[layer]["output"], layer)
    for layer in reversed(range(config.num_layers)):
        da = witness.preactivation_gradients[layer]
        look(PREACTIVATION, da, gradients.preactivations[layer], layer)
    for name in config.gradients.keys() & gradients.arrays.keys() & outcome.arrays.keys():  # it has no readout
        look(name, outcome.arrays[name], gradients.arrays[name])
    return mismatches, [] if mismatches else suspicious


def _end_to_end(observation: Observation, setting: Setting, *, with_margin: bool) -> tuple[list[Mismatch], _Tightness]:
    case, expected = observation.case, expect_whole_run(setting)
    if observation.or_nan is not None:
        expected = _accepting_nan(expected, expect_whole_run(setting._replace(reference=observation.or_nan)))
    if observation.rounded:
        expected = {
            name: replace(value, tolerance=value.tolerance + observation.rounded) for name, value in expected.items()
        }
    mismatches = compare(case.config, observation.outcome.arrays, expected)
    if mismatches or not with_margin:
        return mismatches, _Tightness()
    margin = _margin([(observation.outcome.arrays, expected)])
    return [], _Tightness(
        margin, vacuous_mistakes(case, [expected["output"]] if "output" in expected else [], expected)
    )


def _needs_no_prefix(mismatch: Mismatch, case: Case) -> bool:
    """Return whether a mismatch is the first layer's own, which read the case's x and not a prefix's output."""
    return mismatch.array == "output" and (mismatch.layer == 0 or case.config.num_layers == 1)


def failure_of(outcome: Outcome) -> Result | None:
    """Return the result of an outcome that has no arrays at all, or ``None``."""
    if outcome.failure is Failure.UNSUPPORTED:
        return Result(Verdict.UNSUPPORTED, message=outcome.message)
    if outcome.failure in {Failure.RAISED, *PROCESS_LOST}:
        failure = None if outcome.failure is Failure.RAISED else outcome.failure
        raised = RaisedError.of(outcome.classes if failure is None else (outcome.message,), outcome.traceback)
        return Result(
            Verdict.BROKEN, message=outcome.message, traceback=outcome.traceback, failure=failure, raised=raised
        )
    if outcome.failure is Failure.MALFORMED:
        return Result(Verdict.DISAGREES, (Mismatch("the result", MismatchKind.MALFORMED, actual=outcome.message),))
    return None


def unfit(case: Case, outcome: Outcome) -> Result | None:
    """Return the result of an outcome without values that can be compared, or ``None``."""
    if (failure := failure_of(outcome)) is not None:
        return failure
    found = _form(case, outcome)
    return Result(Verdict.DISAGREES, tuple(found)) if found else None


def effects_of(outcome: Outcome | None) -> Result | None:
    """Return the result of a call that wrote into its inputs, or whose arrays share memory, or ``None``.

    The values of such a call are compared first. They are copies, made when it returned.
    """
    if outcome is None:
        return None
    found = [Mismatch(name, MismatchKind.CHANGED) for name in outcome.changed_inputs]
    found += [Mismatch(name, MismatchKind.ALIASED, actual=twin) for name, twin in outcome.aliased]
    return Result(Verdict.DISAGREES, tuple(found)) if found else None


def _form(case: Case, outcome: Outcome) -> list[Mismatch]:
    """Return what is wrong with names, shapes and dtypes; gradients are included only if the outputs are right."""
    required = tuple(name for name in _required(case) if name not in outcome.not_returned)
    found = check_form(case.config, outcome.arrays, required=required)
    if any(mismatch.array in case.config.outputs for mismatch in found):
        return [mismatch for mismatch in found if mismatch.array not in case.config.gradients]
    gradients = [name for name in case.config.gradients if name not in {*outcome.arrays, *outcome.not_returned}]
    return check_form(case.config, {}, required=tuple(gradients)) + found


def _required(case: Case) -> tuple[str, ...]:
    return ("output", *case.config.form.final) if case.config.output_size is None else ("readout",)
