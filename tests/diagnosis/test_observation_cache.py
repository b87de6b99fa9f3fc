"""Tests of observations: an explanation runs the subject once on each case, unless its answers vary."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness import Case, Outcome, RNNConfig, Scope, Subject, as_subject, draw, hunt
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.diagnosis.observation_cache import ObservationCache
from harness.store.save import keep
from tests import implementations


class Counted:
    """A subject that counts how often it is run on each case."""

    def __init__(self, function: Any) -> None:
        self._subject: Subject = as_subject(function)
        self.name = self._subject.name
        self.runs: Counter[str] = Counter()

    def devices(self) -> tuple[str, ...]:
        return self._subject.devices()

    def run(self, case: Case) -> Outcome:
        self.runs[case.id] += 1
        return self._subject.run(case)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subject, name)


@pytest.mark.parametrize("function", [implementations.without_b_hh, implementations.zero_start])
def test_an_explanation_and_the_script_run_the_subject_once_on_each_case(function: Any, tmp_path: Path) -> None:
    record = hunt(as_subject(function), Scope().only(num_layers=1))  # deep cases share the runs of their lower layers
    assert record.finding is not None
    subject = Counted(function)

    explanation = FindingExplainer(subject).explain(record.finding, record.scope)
    keep(record.finding, explanation, subject, tmp_path)

    assert subject.runs[record.finding.case.id] == 1
    assert Counter(subject.runs.values())[2] <= 1  # the case whose lines are traced is run again
    assert max(subject.runs.values()) <= 2
    assert len(subject.runs) > 100


def test_a_subject_that_wavers_is_run_each_time() -> None:
    case = draw(RNNConfig(1, 1))
    steady, wavering = Counted(implementations.vectorised), Counted(implementations.vectorised)

    for observations in (ObservationCache(steady), ObservationCache(wavering, nondeterministic=True)):
        first, again = observations.of(case), observations.of(case)
        assert (first is again) == (not observations.nondeterministic)

    assert (steady.runs.total(), wavering.runs.total()) == (1, 2)


def test_what_was_seen_with_probes_is_known_without_them_but_not_the_other_way_round() -> None:
    case = draw(RNNConfig(1, 1, loss="output"))
    observations = ObservationCache(as_subject("torch"))

    plain, probed = observations.of(case, with_probes=False), observations.of(case)

    assert plain.probed is None
    assert probed.probed is not None
    assert observations.of(case) is probed
    assert observations.of(case, with_probes=False).probed is None
    assert observations.outcome(case) is probed.raw


def test_cases_are_told_apart_by_their_bits() -> None:
    observations = ObservationCache(as_subject(implementations.vectorised))
    one, other = (draw(RNNConfig(1, 1), "normal", seed) for seed in range(2))

    observations.of(one)

    assert observations.outcome(one) is not None
    assert observations.outcome(other) is None
