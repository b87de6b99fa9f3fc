"""Measurement of the harness on planted faults: each is found within the default budget, small, and named."""

import pytest

from benchmarks.planted import PlantedSubject
from harness import hunt
from harness.diagnosis.diagnose import diagnose
from harness.diagnosis.faults import CATALOGUE, Fault
from harness.diagnosis.observations import Observations
from tests.long import few

SEED = 1

FIRST = {fault.family: fault for fault in reversed(CATALOGUE)}.values()  # The first fault of every family

# Faults that are the same if a block is larger than every size asked for: both leave out everything.
LOOK_ALIKES = {"ForgetsState", "LeavesOutLastStates", "LeavesOutLastUnits", "LeavesOutLastSequences"}


@pytest.mark.parametrize("fault", few(CATALOGUE, lambda fault: fault in FIRST), ids=lambda fault: fault.name)
def test_a_planted_fault_is_found_small_and_named(fault: Fault) -> None:
    subject = PlantedSubject(fault)

    record = hunt(subject, subject.scope(), seed=SEED)

    assert record.finding is not None
    config = record.finding.case.config
    if record.finding.result.of_tanh:  # then the dtype is the one in which tanh is measured to be worst
        config = config.replace(dtype="float32")
    assert config in fault.smallest
    diagnosis = diagnose(Observations(subject), record.finding, record.scope)
    assert diagnosis is not None
    names = [cause.sentence for cause in diagnosis.causes]
    assert fault.sentence in names
    assert len(names) == 1 or fault.name in LOOK_ALIKES
