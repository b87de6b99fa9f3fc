"""Tests of likeness: whether a subject computes what a fault does, for mistakes by hand and for correct subjects."""

from typing import Any

import numpy as np
import pytest

from harness import Case, RNNConfig, as_subject, draw
from harness.checks.agreement import observe
from harness.diagnosis.faults import CATALOGUE, Fault
from harness.diagnosis.likeness import Seen, forward_part
from tests import implementations

GENERIC = RNNConfig(4, 5, T=5, N=3, hx=True)


def fault(name: str) -> Fault:
    return next(fault for fault in CATALOGUE if fault.name == name)


def seen(function: Any, case: Case | None = None) -> Seen:
    return Seen(observe(as_subject(function), case or draw(GENERIC, "normal", 1), with_probes=False))


def late(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Return each state a step late, hx first, while the next step reads the correct one."""
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return np.concatenate([h0, output[:-1]]), h_n


def test_of_the_whole_catalogue_only_the_mistake_that_is_made_is_reproduced() -> None:
    one = seen(implementations.without_b_hh)

    assert [f.name for f in CATALOGUE if one.reproduces(f)] == ["IgnoresBiasHH"]
    assert [f.name for f in CATALOGUE if one.resembles(f)] == ["IgnoresBiasHH"]
    assert not one.right


def test_a_right_subject_reproduces_no_fault_that_would_show() -> None:
    one = seen(implementations.vectorised)

    assert one.right
    assert not [f for f in CATALOGUE if one.tells_apart(f) and one.reproduces(f)]


def test_a_fault_that_cannot_be_told_step_by_step_is_told_by_whole_runs() -> None:
    fault_of_output = next(f for f in CATALOGUE if not f.stepwise and seen(late).resembles(f))

    assert seen(late).reproduces(fault_of_output)
    assert not seen(implementations.vectorised).reproduces(fault_of_output)


def test_where_a_whole_run_hides_a_fault_nothing_is_decided() -> None:
    fault_of_output = next(f for f in CATALOGUE if not f.stepwise and seen(late).resembles(f))
    zeros = draw(RNNConfig(1, 1, T=2))
    zeros = Case.from_arrays(zeros.config, {name: array * 0 for name, array in zeros.arrays.items()})
    blind = seen(implementations.vectorised, zeros)

    assert blind.undecided(fault_of_output)
    assert not blind.reproduces(fault_of_output)
    assert not seen(late).undecided(fault_of_output)


def with_b_hh(value: float) -> Case:
    case = draw(RNNConfig(2, 3, T=2), "normal", 1)
    return Case.from_arrays(case.config, {**case.arrays, "bias_hh_l0": np.full(3, value, np.float32)})


@pytest.mark.parametrize(("bias", "shows"), [(0.0, False), (1e-3, True)])
def test_a_fault_is_active_where_it_makes_a_difference(bias: float, shows: bool) -> None:
    one = seen(implementations.vectorised, with_b_hh(bias))

    assert one.active(fault("IgnoresBiasHH")) is shows
    assert one.tells_apart(fault("IgnoresBiasHH")) is shows


def test_a_fault_is_active_in_a_layer_that_the_layers_above_hide() -> None:
    case = draw(RNNConfig(2, 3, num_layers=2, T=2, hx=True), "normal", 1)
    hidden = {name: array * (name not in {"weight_hh_l0", "weight_ih_l1"}) for name, array in case.arrays.items()}
    x = case.x * np.array([[[0]], [[1]]], np.float32)
    above = seen(implementations.vectorised, Case.from_arrays(case.config, {**hidden, "x": x}))

    assert above.active(fault("SkipsZeroX"))
    assert not above.tells_apart(fault("SkipsZeroX"))


def test_what_makes_no_more_than_roundings_is_active_but_cannot_be_told() -> None:
    one = seen(implementations.vectorised, with_b_hh(1e-9))  # in float32, which rounds states of 1 by 6e-8

    assert one.active(fault("IgnoresBiasHH"))
    assert not one.tells_apart(fault("IgnoresBiasHH"))


def test_the_way_forward_can_be_looked_at_alone() -> None:
    from harness.subjects.torch_module import TorchSubject

    whole = observe(TorchSubject(), draw(GENERIC.replace(loss="both"), "normal", 1))
    part = forward_part(whole)

    assert part.case.config.loss is None
    assert set(part.outcome.arrays) == {"output", "h_n"}
    assert Seen(part).right
