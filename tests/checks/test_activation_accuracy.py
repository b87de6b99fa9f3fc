"""Tests of accuracy: an inaccurate tanh is measured, is reported once or accepted, and hides no other mistake."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import Outcome, RNNConfig, Verdict, as_subject, conventions, draw, scope_of
from harness.checks.activation_accuracy import OPEN, Accuracy, TanhOverflow, measure, one_step
from harness.checks.agreement import assess, check_agreement, observe
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.oracle.arithmetic_assumptions import (
    FORMATS,
    STRICT,
    TOLERANCES,
    AcceptedErrors,
    Arithmetic,
    accepted,
    with_measured,
)
from harness.report.severity import Severity, severity
from harness.report.wording import accuracy_line
from harness.search.search import hunt
from harness.search.search_record import SearchRecord, Stop
from harness.space.case import Case
from harness.space.scope import Scope
from harness.subjects.torch_module import TorchSubject
from tests.searches import explained

Activation = Callable[[Any], Any]


def port(activation: Activation, *, ignores_b_hh: bool = False) -> Callable[..., Any]:
    """Return one layer in one direction with a given activation."""

    def rnn(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
        if config.num_layers > 1 or config.bidirectional or config.batch_first:
            raise NotImplementedError("one layer, one direction, time first")
        h, states = h0[0], []
        for frame in x:
            s = frame @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
            if config.bias:
                s = s + weights["bias_ih_l0"] + (0 if ignores_b_hh else weights["bias_hh_l0"])
            h = (activation(s) if config.nonlinearity == "tanh" else np.maximum(s, 0)).astype(x.dtype)
            states.append(h)
        return np.stack(states), h[None]

    return rnn


def off_by(units: float) -> Activation:
    """Return a tanh with a relative error of up to ``units`` u that varies with the argument."""

    def activation(s: Any) -> Any:
        wide = s.astype(np.float64)
        # NumPy's tanh in float64 counts as exact here; it adds less than 2 u.
        return np.tanh(wide) * (1 + units * FORMATS[s.dtype.name].u * np.sin(1e3 * wide))

    return activation


def by_one_exponential(s: Any) -> Any:
    """Compute tanh with errors in proportion to the 1 in the formula: 522 ulp and more near 0."""
    with np.errstate(all="ignore"):
        return 1 - 2 / (np.exp(2 * s) + 1)


def by_two_exponentials(s: Any) -> Any:
    """Compute tanh in a way that gives inf / inf for large arguments."""
    with np.errstate(all="ignore"):
        return (np.exp(s) - np.exp(-s)) / (np.exp(s) + np.exp(-s))


def of_float32(function: Any, **pins: Any) -> Scope:
    return scope_of(as_subject(function)).only(dtype="float32", **pins)


def measured(activation: Activation, within: AcceptedErrors = STRICT) -> list[Accuracy]:
    function = port(activation)
    return list(measure(as_subject(function), of_float32(function), within))


def searched(function: Any, cases: int = 120) -> SearchRecord:
    subject = as_subject(function)
    return explained(FindingExplainer(subject), of_float32(function), cases=cases)


@pytest.mark.parametrize("units", [2.6, 6])
def test_a_tanh_within_4_ulp_agrees_and_its_error_is_told(units: float) -> None:
    done = searched(port(off_by(units)))

    assert done.verdict is Verdict.AGREES
    [accuracy] = done.accuracy
    assert accuracy.close
    assert units - 0.5 < accuracy.relative < units + 1  # rounding the result adds this
    assert (accuracy.absolute, accuracy.nan_from) == (0, np.inf)
    assert accuracy_line(accuracy).startswith("float32 tanh is off by up to ")


def test_a_tanh_off_by_1e_7_near_0_agrees_though_that_is_hundreds_of_ulp() -> None:
    done = searched(port(by_one_exponential))

    assert done.verdict is Verdict.AGREES
    [accuracy] = done.accuracy
    assert 0 < accuracy.absolute < 3e-7
    assert "near 0" in accuracy.error_line


def test_a_tanh_that_is_cut_off_is_told_by_its_size_and_no_tolerance_is_advised() -> None:
    subject = as_subject(port(lambda s: np.where(np.abs(s) > 4, np.sign(s), np.tanh(s))))

    [cut_off] = measure(subject, scope_of(subject).only(dtype="float64"), STRICT)

    assert cut_off.error_line.startswith("off by up to 0.00067 times its value, at x = ")
    assert cut_off.tolerance is None


def test_a_tanh_off_by_20_ulp_is_one_finding_and_another_mistake_is_found_beside_it() -> None:
    done = searched(port(off_by(40), ignores_b_hh=True))

    assert done.verdict is Verdict.DISAGREES
    first, second = done.findings
    assert first.result.message.startswith("its tanh is off by up to 41 u (20.5 ulp), at x = ")
    assert first.result.advice == "--tolerance tanh=31ulp would accept that"
    assert first.case.x.size == 1
    assert second.case.arrays["bias_hh_l0"].any()
    assert not second.result.inaccurate


def test_an_inaccurate_tanh_is_one_finding_of_accuracy_in_all_dtypes_and_allowed_for() -> None:
    function = port(off_by(40))
    subject = as_subject(function)
    investigation = FindingExplainer(subject)

    done = explained(investigation, scope_of(subject).only(dtype=["float32", "float64"]), cases=40)

    [finding] = done.findings
    assert severity(finding, investigation.explanations[finding.id]) is Severity.ACCURACY
    assert (done.inaccurate, done.known.total()) == (("tanh",), 0)
    assert done.stop is Stop.BUDGET


def test_a_tanh_that_is_nan_of_large_arguments_is_one_finding_in_all() -> None:
    done = searched(port(by_two_exponentials), cases=300)

    [finding] = done.findings
    assert finding.result.message == "its tanh is NaN from |x| = 88.7 on"
    assert done.known[finding.id] > 0
    assert done.total == 300


def test_a_nan_that_no_large_argument_makes_is_found_beside_those_that_one_does() -> None:
    def of_a_negative_h(s: Any) -> Any:
        return np.where((s < -0.5) & (s > -0.6), np.nan, by_two_exponentials(s))

    done = searched(port(of_a_negative_h))

    assert done.findings
    assert not any(finding.result.inaccurate for finding in done.findings)


@pytest.mark.parametrize(
    ("activation", "dtype", "excused"),
    [
        (by_two_exponentials, "float32", True),
        (by_two_exponentials, "float64", False),
        (lambda s: np.where(s == 0.5, np.nan, np.tanh(s)), "float32", False),
        (lambda s: np.where(s == 0.5, 0, by_two_exponentials(s)), "float32", False),
    ],
    ids=["as measured", "of another dtype", "elsewhere", "beside a wrong number"],
)
def test_nan_is_excused_where_the_tanh_gives_it_and_nowhere_else(
    activation: Activation, dtype: str, excused: bool
) -> None:
    config = RNNConfig(1, 1, T=1, N=2, dtype=dtype)
    large = 89 if dtype == "float32" else 800
    case = one_step(config, np.array([0.5, large]))
    observation = observe(as_subject(port(activation)), case)

    result = assess(observation)

    assert result.verdict is Verdict.DISAGREES
    assert TanhOverflow("its id", "float32", 88.7).covers(observation, result) is excused


@pytest.mark.parametrize(
    "activation",
    [
        lambda s: np.maximum(s, 0),
        lambda s: 1 / (1 + np.exp(-s)),
        lambda s: np.clip(s, -1, 1),
        lambda s: np.tanh(s).astype(np.float16),
        np.tanh,
    ],
    ids=["relu", "sigmoid", "hard tanh", "results of fewer bits", "NumPy's"],
)
def test_another_function_other_results_and_numpy_s_tanh_are_no_matter_of_accuracy(activation: Activation) -> None:
    assert measured(activation) == []


def operands_are_rounded(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
    bits = x.view(np.uint32) & np.uint32(0xFFFF0000)
    return port(np.tanh)(bits.view(np.float32), h0, weights, config)


def sequences_stand_in_the_place_of_others(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
    return port(np.tanh)(np.roll(x, 1, axis=1), h0, weights, config)


def sequences_are_copies_of_others(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
    copied, whole = x.copy(), x.shape[1] // 32 * 32
    if whole:
        copied[:, whole:] = x[:, whole - 1 : whole]
    return port(np.tanh)(copied, h0, weights, config)


def some_sequences_have_fewer_bits(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
    output, h_n = port(np.tanh)(x, h0, weights, config)
    for array in (output, h_n):
        array[:, -16:] = array[:, -16:].astype(np.float16)
    return output, h_n


def it_raises(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
    if x.size > 100:
        raise ValueError("too large")
    return port(off_by(40))(x, h0, weights, config)


@pytest.mark.parametrize(
    "rnn",
    [
        operands_are_rounded,
        sequences_stand_in_the_place_of_others,
        sequences_are_copies_of_others,
        some_sequences_have_fewer_bits,
        it_raises,
    ],
)
def test_other_mistakes_are_no_matter_of_tanh(rnn: Any) -> None:
    assert list(measure(as_subject(rnn), of_float32(rnn), STRICT)) == []


def test_an_activation_that_is_identified_is_no_matter_of_accuracy() -> None:
    def pade(s: Any) -> Any:
        return np.clip(s * (27 + s * s) / (27 + 9 * s * s), -1, 1)

    function = port(pade)
    subject = as_subject(function)
    investigation = FindingExplainer(subject)

    done = explained(investigation, of_float32(function), cases=60)

    [finding] = done.findings
    diagnosis = investigation.explanations[finding.id].diagnosis
    assert diagnosis is not None
    assert diagnosis.certain
    assert done.accepted == STRICT


def test_nothing_is_measured_of_a_backend_that_is_known() -> None:
    class Counting(TorchSubject):
        runs = 0

        def run(self, case: Case) -> Outcome:
            self.runs += 1
            return super().run(case)

    subject = Counting()

    assert list(measure(subject, scope_of(subject), STRICT)) == []
    assert subject.runs == 0


@pytest.mark.parametrize("pins", [{"hidden_size": 8, "input_size": 8}, {"N": 1}, {"T": 3, "N": 2, "hidden_size": 5}])
def test_a_subject_of_certain_sizes_is_measured_at_these(pins: dict[str, int]) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
        if any(getattr(config, name) != size for name, size in pins.items() if name != "T"):
            raise NotImplementedError("other sizes")
        return port(off_by(40))(x, h0, weights, config)

    [accuracy] = measure(as_subject(rnn), of_float32(rnn, **pins), STRICT)

    assert accuracy.relative > 20


def test_what_a_user_accepts_is_no_news() -> None:
    assert len(measured(off_by(6), accepted("tanh=2ulp"))) == 1
    assert measured(off_by(6), accepted("tanh=8ulp")) == []
    assert measured(by_one_exponential, accepted("tanh=4ulp,tanh_atol=3e-7")) == []


def test_a_function_is_called_a_few_times_with_many_arguments_each() -> None:
    port_of, calls = port(by_two_exponentials), 0

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        nonlocal calls
        calls += 1
        return port_of(x, h0, weights, config)

    list(measure(as_subject(rnn), scope_of(as_subject(rnn)), STRICT))

    assert calls <= 2 * 2 * 4  # in two dtypes; a sweep has thousands of arguments


def test_a_tolerance_accepts_ulp_of_tanh_and_no_more() -> None:
    subject = as_subject(port(off_by(6)))
    beyond = as_subject(port(off_by(60)))
    case = draw(RNNConfig(1, 64, T=1, N=64), "saturated", 0)

    results = [check_agreement(one, case, accepted=accepted("tanh=8ulp")).verdict for one in (subject, beyond)]

    assert check_agreement(subject, case).verdict is Verdict.DISAGREES
    assert results == [Verdict.AGREES, Verdict.DISAGREES]


def test_a_tolerance_of_tanh_stands_beside_others_and_leaves_sums_as_they_are() -> None:
    both = accepted("tf32,tanh=8ulp")

    assert accepted("tanh=8ulp").derived
    assert (both.tanh, both.operand_u) == (16, TOLERANCES["tf32"].operand_u)
    assert Arithmetic("float32", accepted=accepted("tanh=8ulp")).tanh_error == 16 * 2.0**-24
    assert Arithmetic("float32", accepted=accepted("tanh=0.5ulp")).tanh_error == 2 * 2.0**-24


def test_what_was_measured_in_one_dtype_is_accepted_in_no_other() -> None:
    within = STRICT._replace(measured=(("float32", "tanh", 5.0, 1e-7),))

    assert (within.in_dtype("float32").tanh, within.in_dtype("float32").tanh_atol) == (5.0, 1e-7)
    assert within.in_dtype("float64") == STRICT
    assert with_measured("derived", within, "float32") == "tanh=2.5ulp,tanh_atol=1.00e-7"
    assert with_measured("tf32", within, "float64") == "tf32"
    assert accepted(with_measured("tf32", within, "float32")).in_dtype("float32").tanh == 5.0


def test_what_is_accepted_and_told_covers_a_finding_s_own_case() -> None:
    function = port(off_by(40))
    done = hunt(as_subject(function), of_float32(function), cases=40)

    [finding] = done.findings
    assert done.stop is Stop.FINDING
    again = done.accuracy[0].tolerance
    assert again is not None
    assert check_agreement(as_subject(function), finding.case, accepted=accepted(again)).verdict is Verdict.AGREES


def gated(cell: str, sigmoid: Activation, tanh: Activation, *, ignores_b_hh: bool = False) -> Callable[..., Any]:
    """Return one layer of gates in one direction with given functions."""

    def step(sums: list[Any], q: list[Any], states: list[Any]) -> list[Any]:
        if cell == "LSTM":
            i, f, g, o = (a + b for a, b in zip(sums, q, strict=True))
            c = sigmoid(f) * states[1] + sigmoid(i) * tanh(g)
            return [sigmoid(o) * tanh(c), c]
        r, z = (sigmoid(a + b) for a, b in zip(sums[:2], q[:2], strict=True))
        return [(1 - z) * tanh(sums[2] + r * q[2]) + z * states[0]]

    def run(x: Any, states: list[Any], weights: Any, config: RNNConfig) -> Any:
        if config.num_layers > 1 or config.bidirectional or config.batch_first or not config.bias:
            raise NotImplementedError("one layer with biases, one direction, time first")
        W, U, b, e = (weights[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        states, outputs = [state[0] for state in states], []
        for frame in x:
            sums = np.split(frame @ W.T + b, len(config.form.gates), 1)
            q = np.split(states[0] @ U.T + (0 * e if ignores_b_hh else e), len(config.form.gates), 1)
            states = [state.astype(x.dtype) for state in step(sums, q, states)]
            outputs.append(states[0])
        return np.stack(outputs), *(state[None] for state in states)

    def gru(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
        return run(x, [h0], weights, config)

    def lstm(x: Any, h0: Any, c0: Any, weights: Any, config: RNNConfig) -> Any:
        return run(x, [h0, c0], weights, config)

    function: Callable[..., Any] = lstm if cell == "LSTM" else gru
    return conventions(**{cell.lower(): True})(function)


def sigmoid(s: Any) -> Any:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-s))


def rough(function: Activation) -> Activation:
    """Return a function with a relative error of 40 u that varies with the argument, and exact where it is 1."""

    def of(s: Any) -> Any:
        wide = s.astype(np.float64)
        off = 40 * FORMATS[s.dtype.name].u * np.sin(1e3 * wide) * (abs(wide) < OPEN)
        return (function(wide) * (1 + off)).astype(s.dtype)

    return of


@pytest.mark.parametrize("cell", ["GRU", "LSTM"])
def test_the_functions_of_gates_are_measured(cell: str) -> None:
    def of(*functions: Activation) -> dict[str, float]:
        function = gated(cell, *functions)
        found = measure(as_subject(function), of_float32(function), STRICT)
        return {one.function: one.relative for one in found if not one.close}

    assert of(sigmoid, np.tanh) == {}
    # Each rounding of the states adds one unit or less.
    assert of(rough(sigmoid), np.tanh) == {"sigmoid": pytest.approx(40, abs=4)}
    assert of(sigmoid, rough(np.tanh)) == {"tanh": pytest.approx(40, abs=4)}
    assert set(of(rough(sigmoid), rough(np.tanh))) == {"sigmoid", "tanh"}


def test_a_rough_sigmoid_hides_no_other_mistake() -> None:
    done = searched(gated("LSTM", rough(sigmoid), np.tanh, ignores_b_hh=True), cases=60)

    measured, other = sorted(done.findings, key=lambda one: not one.result.inaccurate)
    assert measured.result.inaccurate == "sigmoid"
    assert "its sigmoid is off by up to" in measured.result.message
    assert not other.result.inaccurate
    assert done.inaccurate == ("sigmoid",)
    assert accepted(measured.result.advice.split()[1]).sigmoid > 40
