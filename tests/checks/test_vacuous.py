"""Tests of vacuous: a case is vacuous against a mistake exactly where a subject that makes the mistake passes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness import Case, RNNConfig, Scope, as_subject, draw, hunt
from harness.checks.agreement import assess, check_agreement, observe
from harness.checks.result import Verdict
from harness.checks.vacuous import BY_GRADIENTS, LINEAR, NO_GRADIENT, NO_RECURRENT, SIGN, UNIT_ORDER, ZERO_STATES
from harness.report.finding_entry import SubjectFindings
from harness.report.markdown import markdown
from harness.report.terminal import subject_report
from harness.report.wording import unshown_line
from harness.search.examination import LEAST_WITH_GRADIENTS, Examination
from harness.subjects.torch_module import TorchSubject
from tests import implementations
from tests.report.test_wording import rendered

RIGHT = as_subject(implementations.vectorised)
ONE_STEP = RNNConfig(3, 4, T=1, N=2, dtype="float64")


def one_step(phi: Callable[[Any], Any]) -> Any:
    """Return a layer of one step whose nonlinearity is ``phi``."""

    def rnn(x: Any, weights: Any) -> Any:
        s = x @ weights["weight_ih_l0"].T + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        output = phi(s)
        return output, output[-1:].copy()

    return as_subject(rnn, "mistaken")


def vacuous(case: Case) -> tuple[str, ...]:
    result = assess(observe(RIGHT, case), with_margin=True)
    assert result.verdict is Verdict.AGREES
    return tuple(name for name in result.vacuous if name not in BY_GRADIENTS)


def scaled(case: Case, factor: float, shift: float = 0.0) -> Case:
    arrays = {n: array * factor + (shift if n == "bias_ih_l0" else 0) for n, array in case.arrays.items()}
    return Case.from_arrays(case.config, {n: a.astype(case.config.dtype) for n, a in arrays.items()})


@pytest.mark.parametrize(
    ("nonlinearity", "mistake", "phi"),
    [
        ("tanh", ZERO_STATES, np.zeros_like),
        ("tanh", SIGN, np.sign),
        ("tanh", LINEAR, lambda s: s),
        ("relu", ZERO_STATES, np.zeros_like),
        ("relu", LINEAR, lambda s: s),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_case_is_weak_exactly_where_the_mistake_passes(nonlinearity: str, mistake: str, phi: Any, dtype: str) -> None:
    mistaken, seen = one_step(phi), set()
    for seed in range(3):
        case = draw(ONE_STEP.replace(nonlinearity=nonlinearity, dtype=dtype), "normal", seed)
        for factor, shift in ((0, 0), (1e-9, 0), (1e-3, 0), (1, 0), (1, 200), (1, -200), (30, 0), (1000, 0)):
            if mistake == LINEAR and nonlinearity == "relu" and not factor:
                continue  # a state of 0 is taken for one that was cut
            one = scaled(case, factor, shift)
            passes = check_agreement(mistaken, one).verdict is Verdict.AGREES

            assert (mistake in vacuous(one)) == passes, (seed, factor, shift)
            seen.add(passes)

    assert seen == {True, False}


class WithoutGradients(TorchSubject):
    """Torch's own layer, whose gradients are zero, or those by weight_hh alone."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def run(self, case: Case) -> Any:
        outcome = super().run(case)
        lost = {n: np.zeros_like(a) for n, a in outcome.arrays.items() if n.endswith(".grad") and self._part in n}
        return replace(outcome, arrays={**outcome.arrays, **lost})


@pytest.mark.parametrize(("mistake", "part"), [(NO_GRADIENT, ""), (NO_RECURRENT, "weight_hh")])
def test_a_case_is_weak_for_gradients_exactly_where_gradients_of_zero_pass(mistake: str, part: str) -> None:
    mistaken, right, seen = WithoutGradients(part), TorchSubject(), Counter[bool]()
    config = RNNConfig(2, 3, T=1, N=2, loss="output")
    ways: list[dict[str, Any]] = [{}, {"T": 3}, {"hx": True}, {"wrt": "inputs"}, {"loss": None}, {"num_layers": 2}]
    for way in ways:
        for size in (0, 1e-40, 1):
            case = draw(config.replace(**way), "normal", 1)
            scaled_down = {n: (a * size).astype(a.dtype) for n, a in case.cotangents.items()}
            one = Case.from_arrays(case.config, {**case.arrays, **scaled_down})
            passes = check_agreement(mistaken, one).verdict is Verdict.AGREES
            result = assess(observe(right, one), with_margin=True)

            assert (mistake in result.vacuous) == passes, (way, size)
            seen[passes] += 1

    assert min(seen.values()) > 1


def test_an_order_of_units_does_not_show_where_all_numbers_are_equal() -> None:
    case = draw(RNNConfig(3, 4, T=3, N=2), "normal")
    equal = Case.from_arrays(case.config, case.arrays | {n: np.full_like(a, 0.25) for n, a in case.weights.items()})

    assert vacuous(equal) == (UNIT_ORDER,)
    assert vacuous(case) == ()
    assert UNIT_ORDER not in vacuous(draw(RNNConfig(1, 1), "normal"))  # one unit has no order


def test_inner_layers_count() -> None:
    case = draw(RNNConfig(3, 4, num_layers=2, nonlinearity="relu", T=3, N=4), "normal")
    dead = {name: array - 100 if name == "bias_ih_l1" else array for name, array in case.arrays.items()}

    assert ZERO_STATES not in vacuous(Case.from_arrays(case.config, dead))  # the first layer lives


def test_one_living_unit_after_many_dead_ones_is_seen() -> None:
    case = draw(RNNConfig(1, 70, nonlinearity="relu", T=1, N=1), "normal")
    bias = np.full(70, -100, np.float32)
    dead = Case.from_arrays(case.config, case.arrays | {"bias_ih_l0": bias.copy()})
    bias[-1] = 100
    living = Case.from_arrays(case.config, case.arrays | {"bias_ih_l0": bias})

    assert ZERO_STATES in vacuous(dead)
    assert ZERO_STATES not in vacuous(living)


SMALL = Scope().only(T=[1, 2], N=[1, 2], input_size=[1, 2, 3], hidden_size=[1, 2, 3], num_layers=1, dtype="float64")


@pytest.mark.parametrize(("tolerance", "low"), [("derived", set()), ("rtol=0,atol=2", {ZERO_STATES, SIGN})])
def test_a_run_that_could_show_little_says_so_and_what_to_do(tolerance: str, low: set[str]) -> None:
    done = Examination(hunt(RIGHT, SMALL.only(nonlinearity="tanh"), cases=200, tolerance=tolerance))

    assert done.verdict is Verdict.AGREES
    assert done.unshown.keys() == low
    assert all(number < LEAST_WITH_GRADIENTS for number in done.unshown.values())
    said = unshown_line(done)
    assert ("- vacuous in" in markdown([SubjectFindings(done)])) == bool(low)
    assert ("  vacuous" in rendered(subject_report(SubjectFindings(done)))) == bool(low)
    assert (said is not None) == bool(low)
    assert said is None or said.startswith("few of 200 cases could have shown states of zero (")
    assert said is None or (SIGN in said and said.endswith("check with fewer pins, or without --tolerance"))
    assert 0 < done.hunt.vacuous[UNIT_ORDER] < 100
    assert unshown_line(replace(done, hunt=replace(done.hunt, checks=Counter()))) is None
