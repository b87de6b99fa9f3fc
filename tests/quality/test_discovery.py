"""The harness measured on planted faults: each is found in the default budget, small, and named."""

import numpy as np
import pytest

from harness import Case, Outcome, RNNConfig, Scope, hunt
from harness.explain.diagnose import diagnose
from harness.explain.faults import CATALOGUE, Fault
from harness.space.config import LOSSES

BIDIRECTIONAL = RNNConfig(1, 1, bidirectional=True, T=1, N=1)
TWO_BY_TWO = RNNConfig(1, 1, num_layers=2, bidirectional=True, T=1, N=1)

SMALLEST = {
    "AddsBiasHHTwice": {RNNConfig(1, 1)},
    "AddsBiasIHTwice": {RNNConfig(1, 1)},
    "AlwaysRelu": {RNNConfig(1, 1)},
    "AlwaysTanh": {RNNConfig(1, 1, nonlinearity="relu")},
    # A state is met at the second step, or at the first where one is passed: neither is smaller than the other.
    "ForgetsState": {RNNConfig(1, 1, T=2), RNNConfig(1, 1, hx=True)},
    "IgnoresBiasHH": {RNNConfig(1, 1)},
    "IgnoresBiasIH": {RNNConfig(1, 1)},
    "IgnoresHx": {RNNConfig(1, 1, hx=True)},
    "NoNonlinearity": {RNNConfig(1, 1)},
    "ReadoutIgnoresBias": {RNNConfig(1, 1, output_size=1)},
    "ReadsHxByDirection": {TWO_BY_TWO.replace(hx=True)},
    "ReverseBeforeForward": {BIDIRECTIONAL},
    "ReverseReadsForwards": {BIDIRECTIONAL.replace(T=2)},
    "ReverseUsesForwardWeights": {BIDIRECTIONAL},
    "TakesHnAtLastStep": {BIDIRECTIONAL.replace(T=2)},
    "TransposesWeightHH": {RNNConfig(1, 2, T=2), RNNConfig(1, 2, hx=True)},
    "WritesHnByDirection": {TWO_BY_TWO},
}


ONE = RNNConfig(1, 1, loss="output")
GRADIENTS = {
    "AveragesOverBatch": {ONE.replace(N=2)},
    "CutsBackpropagation": {ONE.replace(T=3)},
    "DetachesState": {ONE.replace(T=3)},
    "DetachesStateFromTheEnd": {ONE.replace(T=3)},
    "ForgetsStateBack": {ONE.replace(T=2), ONE.replace(hx=True)},
    "ForgetsWeightHHBack": {ONE.replace(T=2), ONE.replace(hx=True)},
    "FirstSequenceOnly": {ONE.replace(N=2)},
    "IgnoresGradientOfHn": {ONE.replace(loss="h_n")},
    "IgnoresInnerGradientOfHn": {ONE.replace(num_layers=2, loss="h_n")},
    "IgnoresSlope": {ONE},
    "LastSequenceOnly": {ONE.replace(N=2)},
    "LastStepOnly": {ONE.replace(T=2)},
    "NoGradientOfBiasHH": {ONE},
    "SlopeWithoutSquare": {ONE},
    "StopsBackpropagation": {ONE.replace(T=3)},
    "TransposesWeightHHBack": {RNNConfig(1, 2, T=2, loss="output"), RNNConfig(1, 2, hx=True, loss="output")},
}


class Planted:
    """A fault as a subject: computed in float64 and rounded at the end, as a careful but mistaken port would."""

    def __init__(self, fault: Fault) -> None:
        self.name = type(fault).__name__
        self._fault = fault

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def run(self, case: Case) -> Outcome:
        with np.errstate(all="ignore"):
            return Outcome({name: array.astype(case.config.dtype) for name, array in self._fault.run(case).items()})


def test_every_fault_of_the_catalogue_has_a_known_smallest_case() -> None:
    assert {*SMALLEST, *GRADIENTS} == {type(fault).__name__ for fault in CATALOGUE}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: type(fault).__name__)
def test_a_planted_fault_is_found_small_and_named(fault: Fault, seed: int) -> None:
    name = type(fault).__name__
    scope = Scope().only(output_size=1) if name.startswith("Readout") else Scope()
    if name in GRADIENTS:
        scope = scope.only(loss=LOSSES)
    [fault, *_] = [one for one in fault.fitted(RNNConfig(1, 1, T=3)) if getattr(one, "steps", 2) == 2]
    subject = Planted(fault)

    record = hunt(subject, scope, seed=seed)

    assert record.finding is not None
    assert record.finding.case.config in (SMALLEST | GRADIENTS)[name]
    diagnosis = diagnose(subject, record.finding, record.scope)
    assert diagnosis is not None
    assert [cause.sentence for cause in diagnosis.causes] == [fault.sentence]
