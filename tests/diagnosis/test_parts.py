"""Tests of parts: mistakes by hand in a part of the network only, and the names they get."""

from typing import Any

import numpy as np
import pytest
import torch

from harness import RNNConfig, Scope, as_subject, draw, hunt
from harness.diagnosis.diagnose import diagnose
from harness.diagnosis.faults import CATALOGUE, Fault
from harness.diagnosis.observations import Observations
from harness.diagnosis.parts import from_places, in_direction, in_gradients, parts_of, together
from harness.oracle.reference import Reference
from harness.subjects.protocol import Subject
from harness.subjects.torch_module import TorchSubject
from tests.implementations import changed_weights, step_by_step

WIDE = RNNConfig(3, 5, num_layers=2, bidirectional=True, T=4, N=2, hx=True, dtype="float64")


def fault(name: str) -> Fault:
    return next(fault for fault in CATALOGUE if fault.name == name)


def without_b_hh_where(part: Any) -> Any:
    """Return a layer that is correct except that b_hh is multiplied by the mask of a part."""

    def change(name: str, array: Any) -> Any:
        return array * part(name, array) if "bias_hh" in name else array

    return changed_weights(change)


def cause(subject: Any, scope: Scope | None = None) -> str:
    subject = subject if isinstance(subject, TorchSubject) else as_subject(subject)
    record = hunt(subject, scope)
    assert record.finding is not None
    diagnosis = diagnose(Observations(subject), record.finding, record.scope)
    assert diagnosis is not None
    assert diagnosis.certain
    return diagnosis.causes[0].sentence


@pytest.mark.parametrize(
    ("made", "where"),
    [
        (lambda name: "_reverse" in name, "in the reverse direction only"),
        (lambda name: "_reverse" not in name, "in the forward direction only"),
        (lambda name: "_l0" in name, "in the first layer only"),
        (lambda name: "_l0" not in name, "in the layers above the first only"),
        (lambda name: "_l0" not in name and "_reverse" in name, "in the reverse direction above the first layer only"),
    ],
)
def test_a_mistake_in_some_layers_or_directions_is_named_with_where_it_is_made(made: Any, where: str) -> None:
    rnn = without_b_hh_where(lambda name, _array: not made(name))

    assert cause(rnn) == f"ignores bias_hh: b_hh is never added, {where}"


@pytest.mark.parametrize(
    ("kept", "where"),
    [
        (lambda units: units < 3, "from unit 3 on"),
        (lambda units: (units < len(units) // 4 * 4) | (len(units) < 4), "in the units after the last full block of 4"),
    ],
)
def test_a_mistake_in_some_units_is_named_with_which(kept: Any, where: str) -> None:
    rnn = without_b_hh_where(lambda _name, array: kept(np.arange(len(array))))

    assert where in cause(rnn, Scope().only(num_layers=1, bidirectional=False))


def test_a_mistake_in_the_gradient_of_one_parameter_is_named_with_it() -> None:
    class Averages(torch.nn.RNN):
        """A layer whose weight_hh gradients are averages over the batch instead of sums."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            for name, weight in self.named_parameters():
                if "weight_hh" in name:
                    weight.register_hook(lambda g: g / self.N)  # type: ignore[no-untyped-call]

        def forward(self, x: Any, hx: Any = None) -> Any:
            self.N = x.shape[0 if self.batch_first else 1] if x.dim() == 3 else 1
            return super().forward(x, hx)

    scope = Scope().only(loss="both", hx=True, batched=True, N=[1, 2, 3, 4], strides="contiguous")

    assert "of weight_hh alone" in cause(TorchSubject(Averages, "Averages"), scope)


@pytest.mark.parametrize(
    ("rnn", "where"),
    [
        (step_by_step(below="before", returned="after"), ", in what the layer above reads only"),
        (step_by_step(below="after", returned="before"), ", in what is returned only"),
        (step_by_step(below="before", returned="before"), ""),
    ],
)
def test_a_mistake_in_some_outputs_is_named_with_which(rnn: Any, where: str) -> None:
    scope = Scope().only(bidirectional=False, num_layers=[1, 2, 3])

    delayed = "returns the state before each step: the initial one first, and never the final one"
    assert cause(rnn, scope) == delayed + where


def test_only_what_a_config_can_show_is_tried() -> None:
    def names(config: RNNConfig) -> set[str]:
        return {part.sentence.rpartition(", ")[2] for part in parts_of(fault("IgnoresBiasHH"), config)}

    assert names(RNNConfig(1, 1)) == {"in the forward direction only", "in the first layer only"}
    assert "in the reverse direction only" in names(RNNConfig(1, 1, bidirectional=True))
    assert "in the layers above the first only" in names(RNNConfig(1, 1, 2))
    assert list(from_places(fault("IgnoresBiasHH"), {"unit": 0, "t": 0})) == []


def test_the_parameters_concerned_are_those_of_the_part() -> None:
    part = in_direction(fault("IgnoresBiasHH"), 1)

    assert part.concerned(WIDE) == ["bias_hh_l0_reverse", "bias_hh_l1_reverse"]


def on_its_own(subject: Subject, name: str) -> Any:
    return subject.run(draw(WIDE, "normal", 2)).arrays[name]


@pytest.mark.parametrize("order", [1, -1])
def test_a_part_goes_with_another_mistake_that_is_made_everywhere(order: int) -> None:
    part = in_direction(fault("IgnoresBiasHH"), 1)
    reverse_lost = without_b_hh_where(lambda name, _array: "_reverse" not in name)

    both = together(*(part, fault("IgnoresHx"))[::order]).run(draw(WIDE, "normal", 2))

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return reverse_lost(x, np.zeros_like(h0), weights, config)

    for name in ("output", "h_n"):
        np.testing.assert_allclose(both[name], on_its_own(as_subject(rnn), name), rtol=1e-12)
        assert not np.allclose(both[name], part.run(draw(WIDE, "normal", 2))[name])


def test_units_that_are_wrong_leave_the_others_right_beside_another_mistake() -> None:
    (part,) = (p for p in from_places(fault("IgnoresBiasHH"), {"unit": 3}) if "from unit 3 on" in p.sentence)
    some = without_b_hh_where(lambda _name, array: np.arange(len(array)) < 3)

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return some(x, np.zeros_like(h0), weights, config)

    case = draw(WIDE, "normal", 2)
    np.testing.assert_allclose(part.run(case)["output"], on_its_own(as_subject(some), "output"), rtol=1e-12)
    np.testing.assert_allclose(
        together(part, fault("IgnoresHx")).run(case)["output"], on_its_own(as_subject(rnn), "output"), rtol=1e-12
    )


def test_gradients_of_some_parameters_leave_the_others_right() -> None:
    case = draw(WIDE.replace(loss="both"), "normal", 2)
    averaging = next(f for f in CATALOGUE if f.name == "AveragesOverBatch")

    part, right, wrong = (
        f.run(case) for f in (in_gradients(averaging, "weight_hh", ("weight_hh",)), Reference(), averaging)
    )

    for name, array in part.items():
        np.testing.assert_array_equal(array, (wrong if "weight_hh" in name else right)[name])
    assert any((wrong[name] != right[name]).any() for name in part if "weight_hh" in name)


def test_a_mistake_of_one_direction_that_does_not_show_forwards_does_not_backwards() -> None:
    """The x of the case is never zero, so that steps of zeros alone are not skipped."""
    case = draw(WIDE.replace(loss="both"), "normal", 2)
    skips = next(f for f in CATALOGUE if f.name == "SkipsZeroXOfBatchAndOutput")

    right = Reference().run(case)
    for direction in range(WIDE.num_directions):
        for name, array in in_direction(skips, direction).run(case).items():
            np.testing.assert_array_equal(array, right[name], err_msg=name)


def test_what_is_done_to_each_gradient_is_done_to_some_only() -> None:
    case = draw(WIDE.replace(loss="both"), "normal", 2)
    clipping = next(f for f in CATALOGUE if f.name == "ClipsGradients")

    part, right, wrong = (f.run(case) for f in (in_gradients(clipping, "x", ("x",)), Reference(), clipping))

    for name, array in part.items():
        np.testing.assert_array_equal(array, (wrong if name == "x.grad" else right)[name])
    assert (wrong["x.grad"] != right["x.grad"]).any()
