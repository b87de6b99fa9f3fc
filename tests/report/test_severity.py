"""Tests of the order of findings: the gravest first, and each once."""

from dataclasses import replace
from typing import Any

import pytest

from harness import Case, Result, RNNConfig, Verdict, draw
from harness.checks.result import RaisedError
from harness.diagnosis.failure_conditions import FailureConditions
from harness.diagnosis.finding_explainer import Diagnosis, Explanation
from harness.diagnosis.precision import ShownPrecision
from harness.oracle.compare import Mismatch, MismatchKind
from harness.report.examination_facts import examination_facts
from harness.report.facts import cause_of
from harness.report.finding_entry import SubjectFindings
from harness.report.reported_finding import in_order, reported
from harness.report.severity import Severity, has_special_values, severity
from harness.report.terminal import _one_line_each, subject_report
from harness.search.examination import Examination
from harness.search.search_record import Finding, Stop
from tests.causes import WITHOUT_B_HH
from tests.report.test_wording import disagreement, rendered

PLAIN = RNNConfig(1, 1)
COARSE = Explanation(Diagnosis(precision=ShownPrecision(24, 24, 1e-3, 5.9e-8, 0.4, 11.2, "tf32")))
CERTAIN = Explanation(WITHOUT_B_HH)


def finding(
    config: RNNConfig = PLAIN,
    array: str = "output",
    sort: MismatchKind = MismatchKind.VALUE,
    *,
    relation: str = "",
    **result: Any,
) -> Finding:
    mismatches = (Mismatch(array, sort, relation=relation, count=1, total=1),)
    given: dict[str, Any] = {"verdict": Verdict.DISAGREES, "mismatches": mismatches} | result
    return Finding("mine", draw(config, "dyadic"), Result(**given))


def raised(seed: int, line: int = 3, error: str = "ValueError: boom") -> Finding:
    at = f'File "mine.py", line {line}, in rnn\n    x / 0'
    result = Result(Verdict.BROKEN, message=error, traceback=at, raised=RaisedError.of((error.partition(":")[0],), at))
    return Finding("mine", draw(PLAIN, "normal", seed), result)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (finding(), Severity.VALUES),
        (finding(sort=MismatchKind.SHAPE), Severity.VALUES),
        (finding(RNNConfig(1, 1, loss="output"), "weight_hh_l0.grad"), Severity.GRADIENTS),
        (finding(RNNConfig(1, 1, strides="transposed")), Severity.CONDITION),
        (finding(RNNConfig(1, 1, T=2, N=2, lengths=(2, 1))), Severity.CONDITION),
        (finding(RNNConfig(1, 1, batched=False)), Severity.CONDITION),
        (finding(RNNConfig(1, 1, 2, dropout=0.5, training=True)), Severity.CONDITION),
        (finding(relation="batch split"), Severity.CONDITION),
        (finding(sort=MismatchKind.CHANGED), Severity.CONDITION),
        (raised(0), Severity.CRASH),
        (Finding("mine", draw(PLAIN, "special"), finding().result), Severity.SPECIAL),
        (finding(RNNConfig(1, 1, N=0), "h_n", MismatchKind.SHAPE), Severity.EMPTY),
        (finding(verdict=Verdict.SUSPECT), Severity.ACCURACY),
    ],
)
def test_a_finding_s_class_follows_from_its_case_and_how_it_fails(found: Finding, expected: Severity) -> None:
    assert severity(found, Explanation()) is expected


def test_what_precision_explains_is_a_matter_of_accuracy() -> None:
    assert severity(finding(), COARSE) is Severity.ACCURACY
    assert severity(finding(), CERTAIN) is Severity.VALUES


def test_results_without_a_right_bit_are_wrong_not_inaccurate() -> None:
    zeros = Explanation(Diagnosis(precision=ShownPrecision(24, 0, 1.0, 0.7, 1e6, None, None)))

    assert severity(finding(), zeros) is Severity.VALUES
    assert cause_of(finding(), zeros) == ("output differs in 1 of 1 elements (100 %)", "cause unknown")


@pytest.mark.parametrize("number", [float("inf"), float("nan"), 1e38, 1e-40])
def test_special_values_are_known(number: float) -> None:
    case = Case.of(PLAIN, [[[number]]], **{name: array.tolist() for name, array in draw(PLAIN).weights.items()})

    assert has_special_values(case)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("distribution", ["normal", "saturated", "dyadic"])
def test_values_of_other_distributions_and_padding_are_not_special(dtype: str, distribution: str) -> None:
    config = RNNConfig(2, 3, T=3, N=2, dtype=dtype, lengths=(3, 1))

    assert not has_special_values(draw(config, distribution))


def test_the_gravest_come_first_then_those_of_a_certain_cause_then_those_of_more_cases() -> None:
    empty, few, many, packed, named = (
        reported(finding(RNNConfig(1, 1, N=0)), CERTAIN),
        reported(finding(RNNConfig(1, 2)), further=1),
        reported(finding(RNNConfig(1, 3)), further=9),
        reported(finding(RNNConfig(1, 3, T=2, N=2, lengths=(2, 1))), CERTAIN),
        reported(finding(RNNConfig(1, 4)), CERTAIN),
    )

    assert in_order([empty, few, many, packed, named]) == [named, packed, many, few, empty]


def test_an_id_is_told_once_with_the_gravest_class_of_its_findings() -> None:
    value, relation = finding(), finding(relation="batch split")

    (one,) = in_order([reported(value, further=3), reported(relation, further=3)])

    assert value.id == relation.id
    assert (one.finding, one.also, one.further, one.severity) == (relation, (value,), 3, Severity.VALUES)


def test_errors_of_one_type_from_one_line_are_told_once() -> None:
    every = [raised(0), raised(1), raised(2, line=9), raised(3, error="TypeError: boom")]

    told = in_order([reported(one, further=2) for one in every])

    assert [(one.finding, len(one.also), one.further) for one in told] == [
        (every[1], 1, 4),
        (every[2], 0, 2),
        (every[3], 0, 2),
    ]


def test_mistakes_without_a_finding_of_their_own_are_counted_beside_the_number_of_findings() -> None:
    findings = [replace(reported(finding(RNNConfig(1, size))), mistakes=size) for size in (1, 2)]

    first, *_ = rendered(subject_report(SubjectFindings(Examination(disagreement()), tuple(findings))), 80).splitlines()

    assert "3 bugs in 2 findings" in first


def test_the_first_of_many_findings_is_shown_whole_and_the_others_in_a_line_each() -> None:
    findings = in_order([reported(finding(RNNConfig(1, size))) for size in range(1, 13)])

    lines = rendered(subject_report(SubjectFindings(Examination(disagreement()), tuple(findings))), 80).splitlines()

    at = [next(i for i, line in enumerate(lines) if one.finding.id in line) for one in findings[1:9]]
    assert at == [*range(at[0], at[0] + 8)]
    assert lines[at[-1] + 1] == "... and 3 more: -v"
    assert len(lines) <= 24


def test_lines_tell_findings_without_a_cause_apart_by_what_they_need() -> None:
    needs = [Explanation(factors=FailureConditions({"bias": value})) for value in (True, False)]
    told = [*(reported(finding(), one) for one in needs), reported(finding())]

    lines = rendered(_one_line_each(told), 80).splitlines()

    assert [line.partition("values")[2].strip() for line in lines] == [
        "output differs with bias=True (cause unknown)",
        "output differs with bias=False (cause unknown)",
        "output differs (cause unknown)",
    ]


def test_a_failing_report_says_what_was_never_compared() -> None:
    record = disagreement()
    record.not_compared.update(["h_n"])

    facts = dict(examination_facts(Examination(record), [reported(finding())]))

    assert "h_n" in facts["not compared"]


@pytest.mark.parametrize(
    ("stop", "said"),
    [(Stop.AFTER, "1.2 s, "), (Stop.TIME, "; ended by the time limit"), (Stop.INTERRUPTED, "; ended by an interrupt")],
)
def test_a_failing_report_says_if_the_search_was_cut_short(stop: Stop, said: str) -> None:
    record = disagreement()
    record.stop = stop

    checked = dict(examination_facts(Examination(record), [reported(finding())]))["checked"]

    assert said in checked
    assert ("ended by" in said) == ("ended by" in checked)


def test_statistics_of_dropout_stand_below_findings_only_if_they_are_broken() -> None:
    done = Examination(disagreement(), dropout=Result(Verdict.AGREES))

    assert "dropout" not in dict(examination_facts(done, [reported(finding())]))
    assert "dropout" in dict(examination_facts(done, [reported(finding())], verbose=True))


def test_an_order_of_gates_that_nothing_told_stands_below_findings() -> None:
    read = "kernel as weight_ih.T; rows taken in nn.LSTM's order i, f, g, o; returns output"
    facts = dict(examination_facts(Examination(disagreement(), read_as=read), [reported(finding())]))

    assert facts["read"] == "rows taken in nn.LSTM's order i, f, g, o"
