"""Snapshots of what people read, and tests of its sentences."""

import os
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import RenderableType

from harness import Case, Result, RNNConfig, Verdict, draw
from harness.checks.activation_accuracy import Accuracy
from harness.checks.result import ComparisonMethod, RaisedError
from harness.diagnosis.failure_conditions import FailingSizes, FailureConditions
from harness.diagnosis.finding_explainer import Diagnosis, Explanation
from harness.diagnosis.first_departure import FirstDeparture, judge_worst
from harness.diagnosis.identify.mistake import Mistake
from harness.diagnosis.precision import ShownPrecision
from harness.oracle.arithmetic_assumptions import STRICT
from harness.oracle.compare import Mismatch, MismatchKind, Site
from harness.oracle.element_equation import ElementEquation
from harness.report import terminal, wording
from harness.report.escaping_console import EscapingConsole
from harness.report.facts import plain_finding
from harness.report.finding_entry import SubjectFindings, entry_of
from harness.report.finding_files import FindingFiles
from harness.report.reported_finding import ReportedFinding, reported
from harness.search.evidence import Certificate, Suspicion
from harness.search.examination import Examination
from harness.search.search_record import Finding, Helpers, SearchRecord, Stop
from harness.space.scope import Scope
from tests.causes import WITHOUT_B_HH

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"

CONFIG = RNNConfig(1, 1, T=1, N=1)
CASE = Case.of(CONFIG, [[[0.5]]], weight_ih_l0=[[0.25]], weight_hh_l0=[[-0.75]], bias_ih_l0=[0.125], bias_hh_l0=[1.0])
EQUATION = ElementEquation(np.array([0.5, 1.0, 0.0, 1.0]), np.array([0.25, 0.125, -0.75, 1.0]), "tanh")
SITES = (Site({"t": 0, "n": 0, "unit": 0}, 0.244918659, 0.8482836399575129, 2.5e-07, EQUATION),)
DIFFERS = Mismatch("output", MismatchKind.VALUE, count=1, total=1, atol=0.603, rtol=0.711, sites=SITES)
RESULT = Result(Verdict.DISAGREES, (DIFFERS,))
CERTIFICATE = Certificate(2, 56, 3, otherwise=("3f9c2a11",), refused=("num_layers=2",), fresh_process=True)
FINDING = Finding("mine.py:rnn", CASE, RESULT, certificate=CERTIFICATE)
FACTORS = FailureConditions(
    {"bias": True, "bidirectional": True},
    {"dtype": ("float32", "bfloat16")},
    ("nonlinearity", "hx"),
    {"T": FailingSizes(1, (2, 3), ()), "hidden_size": FailingSizes(17, (18, 24, 33), ())},
    passing=("hidden_size", 16),
)
WHERE = FirstDeparture(
    Case.of(
        RNNConfig(1, 1, T=2, N=1), [[[0.5]], [[1.0]]], **{name: array.tolist() for name, array in CASE.weights.items()}
    ),
    "output",
    0,
    {"t": 1, "n": 0, "unit": 0},
    "t: all but the first",
    1,
    1,
    2,
)
KEPT = FindingFiles(
    Path(".rnn-harness/3f9c2a11"), ("case.json", "finding.json", "reproduce.py", "issue.md"), "reproduce.py"
)

WHY = Explanation(WITHOUT_B_HH, FACTORS, WHERE, judgement=judge_worst(FINDING.result))


def assert_snapshot(name: str, shown: str) -> None:
    """Compare with the file of that name; ``UPDATE_SNAPSHOTS=1`` writes it, for a person to review."""
    shown = shown.rstrip("\n") + "\n"
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(shown)
    assert shown == path.read_text()


def rendered(renderable: RenderableType, width: int = 100) -> str:
    console = EscapingConsole(file=StringIO(), width=width, highlight=False)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def agreement() -> SearchRecord:
    scope = Scope.around(CASE.config).only(T=[1, 2], N=1, input_size=1, hidden_size=1)
    hunt = SearchRecord("torch", 0, scope, stop=Stop.BUDGET, seconds=1.25)
    hunt.checks[ComparisonMethod.LOCAL] = 200
    hunt.coverage.add(CASE.config, "normal", new_config=True)
    hunt.refused = {"num_layers=2": "one layer only", "num_layers=3": "one layer only", "hx=True": "no hx"}
    return hunt


def broken(subject: str = "mine.py:rnn") -> Finding:
    at = 'File "mine.py", line 3, in rnn'
    result = Result(
        Verdict.BROKEN, message="ValueError: boom", traceback=at, raised=RaisedError.of(("ValueError",), at)
    )
    return Finding(subject, draw(RNNConfig(1, 1, T=2), "dyadic"), result)


def suspected(subject: str = "mine.py:rnn") -> Finding:
    """Return a finding that was seen with probes, and is within the worst that roundings may do."""
    site = Site({"t": 3, "n": 0, "unit": 2}, 0.25000012, 0.25, 1e-07)
    mismatch = Mismatch(
        "preactivation.grad",
        MismatchKind.SUSPICIOUS,
        1,
        True,
        count=1,
        total=8,
        atol=1.2e-7,
        rtol=4.8e-7,
        sites=(site,),
    )
    return Finding(subject, CASE, Result(Verdict.SUSPECT, (mismatch,)), certificate=Certificate())


def unrepeated() -> SearchRecord:
    hunt = agreement()
    hunt.suspicions = [Suspicion(CASE, suspected().result, again=1, runs=8)]
    return hunt


COARSE = ShownPrecision(24, 24, 1e-3, 5.9e-8, 0.4, 11.2, "tf32")

IMPRECISE = Explanation(Diagnosis(precision=COARSE))
INACCURATE = reported(suspected(), IMPRECISE)
TOLD = reported(FINDING, WHY, KEPT, further=12)
SEVERAL = [
    reported(suspected("mine.py:third"), IMPRECISE),
    reported(broken(), further=3),
    reported(broken("mine.py:other"), further=4),
    TOLD,
]


def disagreement() -> SearchRecord:
    hunt = agreement()
    hunt.findings = [one.finding for one in SEVERAL]
    hunt.known.update({one.finding.id: one.further for one in SEVERAL})
    hunt.checks[ComparisonMethod.LOCAL] = 400
    return hunt


def finding_report(number: int, told: ReportedFinding, *, verbose: bool = False) -> RenderableType:
    return terminal.finding_report(str(number), entry_of(told), verbose=verbose)


SHOWN: dict[str, Any] = {
    "finding": lambda: finding_report(1, TOLD, verbose=True),
    "finding_in_short": lambda: finding_report(1, TOLD),
    "agreement": lambda: terminal.subject_report(SubjectFindings(Examination(agreement())), verbose=True),
    "agreement_in_short": lambda: terminal.subject_report(SubjectFindings(Examination(unrepeated()))),
    "disagreement": lambda: terminal.subject_report(SubjectFindings(Examination(disagreement()), tuple(SEVERAL))),
}


@pytest.mark.parametrize("name", list(SHOWN))
def test_reports(name: str) -> None:
    assert_snapshot(name, rendered(SHOWN[name]()))


def test_one_case_fails_and_several_fail() -> None:
    hunt = SearchRecord("mine", 0, Scope(), findings=[FINDING])

    assert (
        terminal.headline(SubjectFindings(Examination(hunt), (TOLD,)))
        == "mine disagrees with nn.RNN: 1 bug; 1 of 1 case fails"
    )
    hunt.known[FINDING.id] = 1
    assert (
        terminal.headline(SubjectFindings(Examination(hunt), (TOLD,)))
        == "mine disagrees with nn.RNN: 1 bug; 2 of 2 cases fail"
    )


def test_a_sweep_of_tanh_is_none_of_the_cases_and_these_fail_beyond_its_error() -> None:
    off = Accuracy("float32", 11_300.0, -4.0)
    finding = replace(
        FINDING, result=replace(FINDING.result, message=f"its tanh is {off.error_line}", inaccurate="tanh")
    )
    hunt = SearchRecord("mine", 0, Scope(), findings=[finding], accuracy=[off])
    hunt.checks[ComparisonMethod.LOCAL], hunt.known[finding.id] = 60, 5

    assert terminal.headline(SubjectFindings(Examination(hunt), (TOLD,))).endswith(
        ": 1 bug; 5 of 60 cases fail"
    )  # NaN is not allowed for
    hunt.accepted, hunt.known = STRICT._replace(measured=(off.accepted,)), Counter()
    assert terminal.headline(SubjectFindings(Examination(hunt), (TOLD,))).endswith(
        "; 0 of 60 cases fail beyond the error of its tanh"
    )


def test_what_is_cut_ends_with_a_whole_part() -> None:
    needs = "with hx=True, loss in (output, both), wrt in (all, weights), hidden_size from 2 on"

    assert terminal.cut(needs, 79) == "with hx=True, loss in (output, both), wrt in (all, weights), …"
    assert terminal.cut(needs, 66) == "with hx=True, loss in (output, both), …"
    assert terminal.cut("one two three four five", 20) == "one two three …"


BROKEN_STATISTICS = Result(
    Verdict.DISAGREES, message="dropout must act between layers only: output is 2, expected 1; in RNNConfig(1, 1)"
)


def test_dropout_that_breaks_its_relation_comes_first_where_nothing_else_explains_it() -> None:
    alone = rendered(
        terminal.subject_report(SubjectFindings(Examination(agreement(), dropout=BROKEN_STATISTICS)))
    ).splitlines()
    follows = rendered(
        terminal.subject_report(SubjectFindings(Examination(disagreement(), dropout=BROKEN_STATISTICS), tuple(SEVERAL)))
    )

    assert alone[0] == "torch disagrees with nn.RNN: dropout breaks its statistics"
    assert [line.strip() for line in alone[2:5]] == [
        "!  dropout must act between layers only",
        "wrong  output is 2, expected 1",
        "in     RNNConfig(1, 1)",
    ]
    assert "between layers only: output is 2, expected 1; this may fail because of the above" in " ".join(
        follows.split()
    )


def test_what_is_neither_done_nor_refused_is_told_in_a_line_a_reason() -> None:
    hunt = agreement()
    shape = Mismatch("output", MismatchKind.SHAPE, expected="(T, N, D*H) = (1, 1, 2)", actual="(1, 1, 1)")
    of_dtype = [
        Mismatch("output", MismatchKind.DTYPE, expected=dtype, actual="float32") for dtype in ("bfloat16", "float16")
    ]
    for what, one in (
        ("bidirectional=True", shape),
        ("autocast=bfloat16", of_dtype[0]),
        ("autocast=float16", of_dtype[1]),
    ):
        hunt.unsupported_unrefused[what] = (CASE, Result(Verdict.DISAGREES, (one,)))

    shown = rendered(terminal.subject_report(SubjectFindings(Examination(hunt))), 200)

    what = "some values of bidirectional, autocast fail and are not refused; the rest agrees"
    assert shown.startswith(f"torch disagrees with nn.RNN: {what}\n")
    assert "advice     if it need not support this: raise NotImplementedError, or --only bidirectional=" in shown
    assert "fails at   bidirectional=True: output has shape (1, 1, 1), expected (T, N, D*H) = (1, 1, 2)" in shown
    assert "fails at   autocast=bfloat16, float16: output has dtype float32, expected bfloat16" in shown


def test_refusals_that_differ_in_numbers_alone_are_one() -> None:
    refused = {"num_layers=2": "1 layer, not 2", "num_layers=3": "1 layer, not 3", "hx=True": "no hx"}

    assert wording.left_out(refused) == {"1 layer, not 2": ["num_layers=2-3"], "no hx": ["hx=True"]}
    assert wording.alike({"x of (1, 2)": 2, "x of (1, 2, 3)": 3, "y": 1}) == {"x of (1, 2)": 5, "y": 1}


def test_an_exception_s_text() -> None:
    assert_snapshot("exception", plain_finding("mine.py:rnn", CONFIG, RESULT))


@pytest.mark.parametrize(
    ("array", "actual", "expected", "words"),
    [
        ("h_n", (3, 1, 4), "(L*D, N, H) = (1, 3, 4)", "first two axes are exchanged: nn.RNN's h_n is (L*D, N, H)"),
        ("output", (3, 2, 4), "(N, T, H) = (2, 3, 4)", "first two axes are exchanged: nn.RNN's output is (N, T, H)"),
        ("output", (3, 4), "(N, T, H) = (2, 3, 4)", None),
        ("output", (2, 4, 3), "(N, T, H) = (2, 3, 4)", None),
    ],
)
def test_axes_that_are_exchanged_are_said_to_be(
    array: str, actual: tuple[int, ...], expected: str, words: str | None
) -> None:
    said = "".join(
        wording.hints([Mismatch(array, MismatchKind.SHAPE, expected=expected, actual=str(actual))], RNNConfig(1, 1))
    )

    assert words in said if words else "exchanged" not in said


def test_every_sort_can_be_worded() -> None:
    for sort in MismatchKind:
        assert wording.mismatch_line(Mismatch("output", sort, count=1, total=2, layer=0, actual="?"))


def test_runs_of_sizes_are_drawn_together() -> None:
    assert wording.values_line([3, 1, 2, 7, 9, 10]) == "1-3, 7, 9-10"
    assert wording.values_line([True, False]) == "True, False"
    assert wording.values_line([None, 2]) == "None, 2"


@pytest.mark.parametrize(
    ("helpers", "said"),
    [
        (None, None),
        (Helpers(2), None),
        (Helpers(2, lost_chunks=1), "2; 1 chunk lost, and done again"),
        (Helpers(2, "tcp://x:1", {"a", "b", "c"}), "3 of tcp://x:1"),
        (
            Helpers(2, "tcp://x:1", {"a"}, 4, "the scheduler was lost"),
            (
                "1 of tcp://x:1; 4 chunks lost, and done again; "
                "the scheduler was lost, and the command did the rest itself"
            ),
        ),
    ],
)
def test_workers_are_told_of_a_cluster_or_if_something_was_lost(helpers: Helpers | None, said: str | None) -> None:
    assert wording.helpers_line(helpers) == said


def test_refused_cases_are_told_with_their_reasons_the_most_frequent_first() -> None:
    hunt = agreement()
    hunt.unsupported.update({"no hx": 2, "1 layer, not 2": 1, "1 layer, not 3": 2})

    for shown in (terminal.subject_report(SubjectFindings(Examination(hunt)), verbose=v) for v in (False, True)):
        said = [line.split("refused", 1)[1].strip() for line in rendered(shown).splitlines() if " refused " in line]
        assert said == ["3 cases: 1 layer, not 2", "2 cases: no hx"]


def test_one_finding_whose_cause_is_unknown_may_be_several_bugs() -> None:
    hunt = SearchRecord("mine", 0, Scope(), findings=[FINDING])
    unknown = reported(FINDING, Explanation(Diagnosis()))

    assert terminal.headline(SubjectFindings(Examination(hunt), (unknown,))).endswith(
        ": at least 1 bug; 1 of 1 case fails"
    )
    other = replace(unknown, finding=replace(FINDING, case=draw(CONFIG)))
    assert "at least 1 bug in 2 findings;" in terminal.headline(SubjectFindings(Examination(hunt), (TOLD, other)))


@pytest.mark.parametrize("quiet", [False, True])
def test_each_mistake_that_the_first_line_counts_is_shown(*, quiet: bool) -> None:
    other = replace(FINDING, case=draw(CONFIG))
    hunt = SearchRecord("mine", 0, Scope(), findings=[FINDING, other])
    further = tuple(Mistake(words, "", "") for words in ("returns hx as h_n", "reads x of step T-1-t"))
    findings = (TOLD, reported(other, Explanation(replace(WITHOUT_B_HH, elsewhere=further))))
    summary = SubjectFindings(Examination(hunt), findings)

    report = rendered(terminal.quiet_report(summary) if quiet else terminal.subject_report(summary))
    assert all(f"beside  it {mistake.sentence}" in report for mistake in further)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ""),
        (["h_n"], ", without h_n"),
        (["hx"], ", without the gradient of hx"),
        (["output"], ", without output"),
        (["bias_ih", "x", "weight_hh"], ", without the gradients of x, weight_hh and bias_ih"),
        (["h_n", "hx", "cx"], ", without h_n and the gradients of hx and cx"),
    ],
)
def test_the_first_line_says_what_was_never_compared(names: list[str], words: str) -> None:
    record = SearchRecord("rnn", 0, Scope())
    record.not_compared.update(names)

    assert wording.verdict_on(record, Verdict.AGREES) == f"rnn agrees with nn.RNN: forward only{words}"
