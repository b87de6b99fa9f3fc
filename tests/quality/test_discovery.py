"""Measurement of the harness on planted faults: each is found within the default budget, small, and named."""

import pytest

from benchmarks.planted import CATALOGUE, Fault
from benchmarks.planted.subject import PlantedSubject
from benchmarks.selftest import Naming, naming
from harness import hunt
from harness.diagnosis.finding_explainer import FindingExplainer
from tests.long import few

SEED = 1

FIRST = {fault.family: fault for fault in reversed(CATALOGUE)}.values()  # The first fault of every family

# A NaN of padding that no sum shows; and a rounding that is told as the precision of gradients, which is no cause.
UNKNOWN = {"ReadsPadding", "SumsGradientsInFloat32"}


@pytest.mark.parametrize("fault", few(CATALOGUE, lambda fault: fault in FIRST), ids=lambda fault: fault.name)
def test_a_planted_fault_is_found_small_and_named(fault: Fault) -> None:
    subject = PlantedSubject(fault)

    record = hunt(subject, subject.scope(), seed=SEED)

    assert record.finding is not None
    config = record.finding.case.config
    if record.finding.result.inaccurate:  # then the dtype is the one in which tanh is measured to be worst
        config = config.replace(dtype="float32")
    assert config in fault.smallest
    diagnosis = FindingExplainer(subject).diagnosis(record.finding, record.scope)
    assert naming(fault, diagnosis, config) is (Naming.NONE if fault.name in UNKNOWN else Naming.RIGHT)
