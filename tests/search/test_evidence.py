"""Tests of suspicion: a suspicion that repeats is a finding, and one that does not is only reported."""

from typing import Any

import numpy as np

from harness import RNNConfig, Scope, Verdict, as_subject, draw, hunt
from harness.checks.agreement import check_agreement
from harness.checks.result import Result
from harness.search.evidence import OTHER_SEEDS, weigh
from harness.space.case import Case
from tests import implementations

CONFIG = RNNConfig(16, 32, T=8, N=4)
SUSPECT = Result(Verdict.SUSPECT)


def slightly_off(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute with one bias slightly off: beyond usual roundings in wide sums, and within the worst ones."""
    scaled = {name: array * np.float32(1 + 1e-5 * name.startswith("bias_ih")) for name, array in weights.items()}
    return implementations.vectorised(x, h0, scaled, config)


def test_a_slight_but_steady_error_is_suspect_and_repeats() -> None:
    subject = as_subject(slightly_off)
    case = draw(CONFIG, "default", 3)
    result = check_agreement(subject, case)

    suspicion = weigh(case, result, lambda other: check_agreement(subject, other))

    assert result.verdict is Verdict.SUSPECT
    assert suspicion.repeats


def test_a_suspicion_that_does_not_repeat_is_no_finding() -> None:
    suspicion = weigh(draw(CONFIG, "default", 0), SUSPECT, lambda _: Result(Verdict.AGREES))

    assert (suspicion.again, suspicion.runs, suspicion.repeats) == (0, OTHER_SEEDS, False)


def test_other_values_than_the_case_s_own_are_tried() -> None:
    case, seen = draw(CONFIG, "default", 3), list[Case]()

    def note(other: Case) -> Result:
        seen.append(other)
        return Result(Verdict.AGREES)

    weigh(case, SUSPECT, note)

    assert len({other.id for other in seen} - {case.id}) == OTHER_SEEDS


def test_a_disagreement_met_on_the_way_takes_its_place() -> None:
    proved = Result(Verdict.DISAGREES)

    suspicion = weigh(draw(CONFIG, "default", 0), SUSPECT, lambda _: proved)

    assert suspicion.result is proved
    assert suspicion.repeats


def test_a_case_without_a_seed_is_tried_on_drawn_values() -> None:
    case = draw(CONFIG, "default", 0)
    unseeded = Case(case.config, case.x, case.hx, case.weights)

    assert weigh(unseeded, SUSPECT, lambda _: SUSPECT).repeats
    assert not weigh(unseeded, SUSPECT, lambda _: Result(Verdict.AGREES)).repeats


def test_a_search_reports_what_repeats() -> None:
    wide = Scope().only(input_size=16, hidden_size=32, T=8, N=4, num_layers=1, dtype="float32", nonlinearity="tanh")

    record = hunt(as_subject(slightly_off), wide, cases=200)

    assert record.finding is not None
    assert record.verdict in {Verdict.SUSPECT, Verdict.DISAGREES}
