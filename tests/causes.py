"""Causes for tests: one that is known, and whether a diagnosis has the cause of a planted fault."""

from dataclasses import replace
from typing import Final

from benchmarks.planted import named
from benchmarks.planted.same import same_as
from harness.diagnosis.finding_explainer import Diagnosis
from harness.diagnosis.identify.cause import IdentifiedCause
from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.identify.model import LayerModel, Network
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.space.config import RNNConfig


def _without(term: str) -> Diagnosis:
    model = LayerModel()
    terms = tuple(one for one in model.step if one[0] != term)
    identified = Identification(Network(replace(model, step=terms)), "tanh", fresh=10)
    return Diagnosis(IdentifiedCause(identified, tuple(mistakes_of(identified.network, "tanh"))))


WITHOUT_B_HH: Final = _without("b_hh")  # of a layer that leaves b_hh out


def has_cause_of(
    diagnosis: Diagnosis | None, fault: str, config: RNNConfig | None = None, k: float | None = None
) -> bool:
    """Tell whether a diagnosis found the subject to compute what a planted fault does."""
    if diagnosis is None or not isinstance(diagnosis.cause, IdentifiedCause):
        return False
    return same_as(diagnosis.cause.identified, named(fault, k), config or RNNConfig(1, 1))
