"""Tests of recognition: further failures of a known cause are told apart from those of another cause."""

from typing import Any

import pytest
import torch

from benchmarks.layers import first_styles, first_torch, third_numpy
from benchmarks.layers.torch_base import ByHand
from benchmarks.planted import named
from benchmarks.planted.subject import PlantedSubject
from harness import Case, RNNConfig, as_subject, draw
from harness.checks.agreement import assess, check_agreement, observe
from harness.diagnosis.finding_explainer import Diagnosis, FindingExplainer
from harness.diagnosis.identify.cause import IdentifiedCause
from harness.search.search_record import Finding
from harness.subjects.protocol import Subject, scope_of
from tests import implementations
from tests.causes import WITHOUT_B_HH, has_cause_of
from tests.diagnosis.halved_back import halved_back
from tests.searches import explained


def diagnosed(subject: Subject, case: Case) -> Diagnosis:
    finding = Finding(subject.name, case, check_agreement(subject, case))
    found = FindingExplainer(subject).diagnosis(finding, scope_of(subject))
    assert found is not None
    return found


def explains(diagnosis: Diagnosis, subject: Subject, case: Case) -> bool:
    observation = observe(subject, case, with_probes=False)
    result = assess(observation)
    assert result.failed
    assert diagnosis.cause is not None
    return diagnosis.cause.explains(subject, observation, result)


class Detached(torch.nn.RNN):
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        return super().forward(input, None if hx is None else hx.detach())


class DetachedHn(torch.nn.RNN):
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        output, h_n = super().forward(input, hx)
        return output, h_n.data


@pytest.mark.parametrize(
    ("layer", "config", "fault", "k"),
    [
        (Detached, RNNConfig(1, 1, hx=True, loss="output"), "NoGradientOfHx", None),
        (first_styles.Handwritten, RNNConfig(1, 1, T=9, hx=True, loss="h_n"), "DetachesState", 8),
        (DetachedHn, RNNConfig(1, 1, T=2, loss="h_n"), "IgnoresGradientOfHn", None),
    ],
)
def test_a_missing_gradient_has_the_cause_that_cuts_it_off(
    layer: Any, config: RNNConfig, fault: str, k: float | None
) -> None:
    subject, case = as_subject(layer), draw(config, "normal")
    assert check_agreement(subject, case).kind.endswith("missing")

    diagnosis = diagnosed(subject, case)

    assert has_cause_of(diagnosis, fault, config, k)
    wider = draw(config.replace(input_size=3), "normal")
    zeros = Case.from_arrays(wider.config, {name: array * 0 for name, array in wider.arrays.items()})
    assert explains(diagnosis, subject, zeros)
    assert not explains(WITHOUT_B_HH, subject, case)


class Transposes(ByHand):
    def step(self, layer: int, d: int, i: int, x_t: Any, h: Any) -> Any:
        summed = x_t @ self.weight_ih_l0.T + self.bias_ih_l0 + h @ self.weight_hh_l0 + self.bias_hh_l0
        return self.act(summed)


def test_states_in_few_bits_are_of_the_mistake_however_much_the_recurrence_spreads_them() -> None:
    subject = as_subject(Transposes)
    diagnosis = diagnosed(subject, draw(RNNConfig(1, 2, T=1, hx=True), "normal", 1))
    config = RNNConfig(8, 33, T=17, N=1, hx=True, dtype="bfloat16", loss="output")

    assert all(explains(diagnosis, subject, draw(config, "normal", seed)) for seed in range(4))


class StartsFromBelowAndHalves(first_torch.StartsFromBelow):
    def initial(self, layer: int, d: int, hx: Any, finals: Any) -> Any:
        return halved_back(super().initial(layer, d, hx, finals))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_derivative_of_a_mistake_is_of_the_mistake_and_another_gradient_is_not(dtype: str) -> None:
    config = RNNConfig(2, 3, num_layers=2, T=3, N=2, dtype=dtype)
    subject = as_subject(first_torch.StartsFromBelow)
    diagnosis = diagnosed(subject, draw(config, "normal", 1))
    case = draw(config.replace(loss="both"), "normal", 2)

    assert has_cause_of(diagnosis, "StartsFromLayerBelow", config)
    assert explains(diagnosis, subject, case)
    assert not explains(diagnosis, as_subject(StartsFromBelowAndHalves), case)


def test_a_mistake_is_not_recognised_where_another_shows_beside_it() -> None:
    subject = PlantedSubject(named("IgnoresBiasHH"))
    diagnosis = diagnosed(subject, draw(RNNConfig(1, 1), "normal"))
    case = draw(RNNConfig(3, 4, T=4, N=2), "normal", 1)

    assert explains(diagnosis, subject, case)
    assert not explains(diagnosis, PlantedSubject(named("IgnoresBiasIH")), case)


def rows_exchanged(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.without_b_hh(x, h0, weights, config)
    return output, h_n[::-1].copy()


def last_layer_halved(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.without_b_hh(x, h0, weights, config)
    return output * output.dtype.type(1 if config.num_layers == 1 else 0.5), h_n


@pytest.mark.parametrize(
    ("function", "T", "left"), [(rows_exchanged, 1, [("h_n", None)]), (last_layer_halved, 3, [("output", None)])]
)
def test_what_a_mistake_explains_of_a_failure_is_none_of_what_is_left(function: Any, T: int, left: Any) -> None:
    subject, config = as_subject(function), RNNConfig(2, 3, T=1, hx=True)
    cause = diagnosed(subject, draw(config, "normal")).cause
    assert isinstance(cause, IdentifiedCause)
    observation = observe(subject, draw(config.replace(num_layers=2, T=T), "normal"))
    result = assess(observation)

    found = cause.left(subject, observation, result)

    assert [(one.array, one.layer) for one in found.mismatches] == left
    assert len(result.mismatches) > 1


def test_a_mistake_of_some_layers_is_recognised_where_the_layers_below_are_seen_alone() -> None:
    subject = as_subject(third_numpy.stack_of_names)
    relu = RNNConfig(1, 1, num_layers=2, nonlinearity="relu", T=1)
    diagnosis = diagnosed(subject, draw(relu, "normal", 1))

    assert explains(diagnosis, subject, draw(relu.replace(hidden_size=8, T=20, N=2), "default", 1))


@pytest.mark.long
def test_a_mistake_in_the_gradient_by_x_is_known_again_though_probes_read_that() -> None:
    subject = PlantedSubject(named("ForgetsReverseToInput"))
    investigation, asked = FindingExplainer(subject), list[Finding]()

    done = explained(investigation, subject.scope(), heard=lambda finding, _: asked.append(finding), cases=150)

    assert asked == done.findings
    assert len(asked) == 1
