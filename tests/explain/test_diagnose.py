"""diagnose: the right cause by name, and no cause where the catalogue has none."""

from typing import Any

import numpy as np
import pytest

from harness import Scope, as_subject, draw, hunt
from harness.explain.diagnose import Diagnosis, diagnose
from harness.explain.faults import CATALOGUE, Fault
from harness.oracle.reference import Reference
from harness.space.config import RNNConfig
from tests import implementations


def diagnosed(function: Any, scope: Scope | None = None) -> Diagnosis | None:
    subject = as_subject(function)
    record = hunt(subject, scope)
    assert record.finding is not None
    return diagnose(subject, record.finding, record.scope)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (implementations.without_b_hh, "IgnoresBiasHH"),
        (implementations.transposed_recurrence, "TransposesWeightHH"),
        (implementations.reverse_first, "ReverseBeforeForward"),
        (implementations.zero_start, "IgnoresHx"),
    ],
)
def test_mistakes_written_by_hand_are_named(function: Any, name: str) -> None:
    diagnosis = diagnosed(function)

    assert diagnosis is not None
    assert diagnosis.certain
    assert type(diagnosis.causes[0]).__name__ == name
    assert diagnosis.fresh > 0


@pytest.mark.parametrize("function", [implementations.wide_reverse_is_off, implementations.late_drift])
def test_a_mistake_that_is_in_no_catalogue_gets_no_name(function: Any) -> None:
    diagnosis = diagnosed(function)

    assert diagnosis is not None
    assert diagnosis.causes == ()
    assert diagnosis.tried == len(CATALOGUE)


def test_an_infinity_out_of_place_is_no_matter_of_precision() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        found = implementations.vectorised(x, h0, weights, config)
        return tuple(np.full_like(a, np.inf) for a in found)

    diagnosis = diagnosed(rnn, Scope().only(dtype="float32"))

    assert diagnosis is not None
    assert (diagnosis.causes, diagnosis.precision) == ((), None)


def test_a_mistake_that_only_looks_like_a_known_one_on_the_smallest_case_gets_no_name() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        wide = config.hidden_size > 2  # forgets b_hh in small layers only
        wrong = {name: array * (wide or "bias_hh" not in name) for name, array in weights.items()}
        return implementations.vectorised(x, h0, wrong, config)

    diagnosis = diagnosed(rnn)

    assert diagnosis is not None
    assert diagnosis.causes == ()


def test_factors_are_flipped_to_tell_a_known_mistake_from_its_look_alike() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        # forgets b_hh, but only in one direction's layers: no mistake of the catalogue
        one = not config.bidirectional
        wrong = {name: array * (not (one and "bias_hh" in name)) for name, array in weights.items()}
        return implementations.vectorised(x, h0, wrong, config)

    diagnosis = diagnosed(rnn, Scope().only(bidirectional=[False, True]))

    assert diagnosis is not None
    assert diagnosis.causes == ()


def test_a_cause_is_certain_only_alone_and_on_fresh_cases() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if (config.T, config.N, config.input_size, config.hidden_size) != (1, 1, 1, 1):
            raise NotImplementedError("one of each")
        return implementations.without_b_hh(x, h0, weights, config)

    diagnosis = diagnosed(rnn)

    assert diagnosis is not None
    assert diagnosis.fresh == 0
    assert not diagnosis.certain
    assert not Diagnosis(CATALOGUE[:2], 17, 5).certain


def test_a_wrong_shape_needs_no_cause() -> None:
    assert diagnosed(lambda x, h0: (x[..., :0], h0)) is None


def test_a_crash_needs_no_cause() -> None:
    def rnn(x: Any) -> Any:
        raise ValueError("boom")

    assert diagnosed(rnn) is None


def test_the_parameters_concerned_are_named() -> None:
    fault = next(fault for fault in CATALOGUE if type(fault).__name__ == "IgnoresBiasHH")

    assert fault.concerned(RNNConfig(1, 1, num_layers=2)) == ["bias_hh_l0", "bias_hh_l1"]


@pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: type(fault).__name__)
def test_every_fault_is_wrong_somewhere_and_reads_as_a_sentence(fault: Fault) -> None:
    differs = False
    for seed, nonlinearity in enumerate(("tanh", "relu")):
        config = RNNConfig(3, 4, 2, nonlinearity, bidirectional=True, T=3, N=2, hx=True, output_size=2, loss="both")
        case = draw(config, "default", seed)
        right, wrong = Reference().run(case), fault.run(case)
        differs |= any(not np.array_equal(right[name], wrong[name]) for name in right)

    assert differs
    assert fault.sentence
    assert fault.sentence[0].islower()
    assert "\n" not in fault.sentence
