"""Tests of the effort of explanations: steps are counted over all of them, and time ends what takes longer."""

import time
from typing import Any

import pytest

from harness import RNNConfig, Scope, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.diagnosis import effort
from harness.diagnosis.effort import Effort, spend
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.report.reported_finding import reported
from harness.search.search_record import Finding
from tests import implementations


def spent(shares: list[float]) -> list[int]:
    """Return the steps that parts of some shares come to, one after the other, and how many are left."""
    whole, done = Effort(), [0] * len(shares)
    for number, share in enumerate(shares):
        with whole.part(share, 1.0):
            while True:
                spend()
                done[number] += 1
    return [*done, whole.steps]


@pytest.mark.parametrize(
    ("shares", "steps"), [([1], [90, 0]), ([1, 1], [90, 0, 0]), ([2 / 3, 1 / 2, 1], [60, 15, 15, 0])]
)
def test_each_part_ends_after_its_share_of_the_steps_that_are_left(
    monkeypatch: pytest.MonkeyPatch, shares: list[float], steps: list[int]
) -> None:
    monkeypatch.setattr(effort, "STEPS", 90)
    monkeypatch.setattr(effort, "SECONDS", 1e9)

    assert spent(shares) == steps


def test_time_ends_what_takes_longer_than_its_steps_should(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(seconds)))
    monkeypatch.setattr(effort, "SECONDS", 30.0)
    whole = Effort()

    with whole.part(1.0, 1 / 2):
        for _ in range(100):
            spend()

    assert whole.over == "the 30 s that finding causes may take were over before it was found"
    assert 10 <= whole.seconds <= 15
    assert not whole.spent


def test_what_is_no_part_of_an_explanation_is_not_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "STEPS", 0)

    for _ in range(100):
        spend()


def test_all_findings_of_a_subject_share_the_steps_and_one_without_a_cause_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(effort, "STEPS", 90)
    monkeypatch.setattr(effort, "SECONDS", 1e9)
    runs = 0

    def counted(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        nonlocal runs
        runs += 1
        return implementations.without_b_hh(x, h0, weights, config)

    subject = as_subject(counted)
    findings = [
        Finding(subject.name, case := draw(RNNConfig(1, size), "normal", 1), check_agreement(subject, case))
        for size in (1, 2, 3)
    ]
    investigation, runs = FindingExplainer(subject), 0

    for finding in findings:
        explanation = investigation.explain(finding, Scope.around(RNNConfig(1, 1)))
        of_it = reported(finding, explanation)
        assert of_it.certainty == "cause not looked for"
        assert [fact.text for fact in of_it.facts if fact.name == "cause"] == [
            "not looked for, because the 60 steps that finding causes may take were over before it was found"
        ]

    assert 0 < runs <= 90
