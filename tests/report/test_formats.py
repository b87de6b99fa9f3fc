"""The formats for CI say what the report says, and nothing that a subject says can break them."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from html import unescape
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, strategies as st
from hypothesis.internal.observability import TestCaseObservation
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt

from harness.checks.malformed import AcceptedMalformedCall, MalformedCallAnswers, RefusalDefect
from harness.checks.result import ComparisonMethod, Result, Verdict
from harness.diagnosis.faulty_source_line import SourceLine
from harness.diagnosis.finding_explainer import Explanation
from harness.report.check_report import CheckReport
from harness.report.finding_entry import FindingEntry, SubjectFindings, entry_of
from harness.report.finding_files import Fact
from harness.report.github import line_of, upgrade_commands, workflow_commands
from harness.report.hypothesis_observability import observation
from harness.report.json_record import finding_record, subject_record
from harness.report.junit import junit
from harness.report.markdown import cell, code, fenced, markdown, plain
from harness.report.reported_finding import ReportedFinding, reported
from harness.report.upgrade import Defect, DefectStanding, UpgradeComparison
from harness.search.checker import CheckedCase
from harness.search.examination import Examination
from harness.search.plan import PlannedCase
from harness.search.search_record import SearchRecord, Stop
from harness.space.config import RNNConfig
from harness.space.coverage_counts import Coverage
from harness.space.values import draw
from tests.causes import WITHOUT_B_HH
from tests.report.test_wording import CASE, DIFFERS, FINDING, SEVERAL, TOLD, agreement, disagreement

# What a subject might say to break a report.
NASTY: Final = "a|b `c` <script> *d* _e_ [f](g)\n# h\r\n::error::i & ]]> \x1b[31m\x00\ud800 $x$ @j :k: \\| 100%, l"

UNREFUSED: Final = MalformedCallAnswers(
    1,
    0,
    findings=[
        AcceptedMalformedCall("hx: batch of 1", RefusalDefect.ACCEPTED, ("ValueError",), "no error", "rnn(x, hx)")
    ],
)


def agreeing() -> SubjectFindings:
    hunt = agreement()
    hunt.relations = Counter({"batch split": 7})
    hunt.beside = {"twice": Coverage()}
    hunt.known = Counter({"dropout multiplies by zero": 3})
    return SubjectFindings(Examination(hunt, MalformedCallAnswers(calls=97, refused=95), Result(Verdict.AGREES)))


def seen_too_little() -> SubjectFindings:
    done = agreeing().examination
    done.hunt.checks = Counter({ComparisonMethod.LOCAL: 20})
    return SubjectFindings(done)


def disagreeing() -> SubjectFindings:
    hunt = disagreement()
    hunt.failing = Counter({"float32": 20})
    done = Examination(hunt, UNREFUSED, Result(Verdict.DISAGREES, message="drops twice"))
    return SubjectFindings(done, tuple(SEVERAL))


def complaining(entry: FindingEntry, hunt: SearchRecord, place: tuple[str, str]) -> SubjectFindings:
    """Return a summary in which one thing is wrong."""
    made = SubjectFindings(Examination(hunt), (), place)
    vars(made)["entries"] = (entry,)
    return made


def said_by(text: str) -> SubjectFindings:
    """Return a summary in which everything is what a subject said."""
    hunt = replace(agreement(), subject=text, refused={text: text}, known=Counter({text: 1}), environment={"cpu": text})
    names = {"yours": "python", "nn.RNN": "python", "wrong": "", "case": "python", "replay": "sh"}
    facts = tuple(Fact(name, text, language=language) for name, language in names.items())
    entry = FindingEntry(text, text, facts, "certain")
    return complaining(entry, hunt, ("mine.py", "rnn"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"checks": Counter()}, "torch was not checked"),
        ({"checks": Counter(), "unsupported": Counter(["no"])}, "torch refused everything it was asked"),
        ({"stop": Stop.INTERRUPTED}, "agrees so far: interrupted before the end of the search"),
        ({"stop": Stop.INTERRUPTED, "checks": Counter()}, "not checked: interrupted before the end of the search"),
        ({}, ""),
    ],
)
def test_a_subject_that_is_neither_right_nor_wrong_says_why(changes: dict[str, Any], said: str) -> None:
    hunt = replace(agreement(), **changes)

    assert SubjectFindings(Examination(hunt)).shortfall == said


def test_values_that_fail_and_are_not_refused_are_a_problem() -> None:
    hunt = agreement()
    hunt.unsupported_unrefused = {f"num_layers={n}": (CASE, Result(Verdict.DISAGREES, (DIFFERS,))) for n in (2, 3)}

    (entry,) = SubjectFindings(Examination(hunt)).entries

    assert entry.title == "fails at num_layers=2-3: output differs in 1 of 1 elements (100 %)"


@pytest.mark.parametrize(("told", "said"), [([], ["drops twice"]), ([TOLD], [])])
def test_dropout_is_a_problem_where_nothing_else_explains_it(told: list[ReportedFinding], said: list[str]) -> None:
    done = Examination(agreement(), dropout=Result(Verdict.DISAGREES, message="drops twice"))

    assert [one.title for one in SubjectFindings(done, tuple(told)).entries][len(told) :] == said


# JUnit


def test_data_has_the_findings_in_the_order_of_the_report() -> None:
    summary = SubjectFindings(Examination(disagreement()), tuple(SEVERAL))
    of_report = [one.id for told in summary.findings for one in (*reversed(told.also), told.finding)]

    assert [one["id"] for one in subject_record(summary)["findings"]] != [one.id for one in SEVERAL]
    assert {*of_report} == {one.id for one in SEVERAL}
    assert [one["id"] for one in subject_record(summary)["findings"]] == of_report


def test_a_notebook_says_how_certain_every_cause_is() -> None:
    summary = SubjectFindings(Examination(disagreement()), tuple(SEVERAL))
    shown = unescape(CheckReport(summary)._repr_html_())

    assert any(entry.sure for entry in summary.entries[1:])
    for entry in summary.entries[1:]:
        assert f"<li>{entry.headline}</li>" in shown


def cases(summary: SubjectFindings) -> tuple[ET.Element, dict[str, list[str]]]:
    """Return a summary's test suite, and the names of its test cases by what became of them."""
    (suite,) = ET.fromstring(junit([summary]))  # noqa: S314 - ours
    found: dict[str, list[str]] = {}
    for one in suite.iter("testcase"):
        found.setdefault(one[0].tag if len(one) else "passed", []).append(one.attrib["name"])
    return suite, found


def test_a_suite_has_every_check_that_passed_and_what_was_left_out() -> None:
    suite, found = cases(agreeing())

    assert suite.attrib["name"] == "torch"
    assert found["passed"] == [
        "agreement in float32",
        "the same with two parts of the batch",
        "the same answer twice",
        "the statistics of dropout",
        "malformed calls are refused",
    ]
    assert found["skipped"] == ["num_layers=2-3", "hx=True", "dropout multiplies by zero"]
    assert [one.attrib["message"] for one in suite.iter("skipped")] == [
        "not supported: one layer only",
        "not supported: no hx",
        "a known issue, met in 3 cases",
    ]
    assert suite.attrib["time"] == "1.25"


def test_too_little_to_agree_is_an_error() -> None:
    suite, found = cases(seen_too_little())

    assert found["error"] == ["enough was seen"]
    assert [one.attrib["message"] for one in suite.iter("error")] == ["not enough seen: 20 of 200 cases"]


def test_a_check_that_fails_has_the_name_under_which_it_passes_and_holds_its_findings() -> None:
    suite, found = cases(disagreeing())

    assert set(found["failure"]) == {one.check for one in disagreeing().entries}
    assert len(found["failure"]) == int(suite.attrib["failures"])
    assert not {*found["failure"]} & {*found["passed"]}
    first = next(suite.iter("failure"))
    assert found["failure"][0] == "agreement in float32"
    assert first.attrib["message"].startswith("ignores bias_hh: b_hh is never added (certain)")
    assert first.text is not None
    for words in ("yours: h = tanh(", "smallest: Case.of(", f"replay: rnn-harness replay {TOLD.finding.id}"):
        assert words in first.text


def test_the_whole_text_of_a_finding_stands_once() -> None:
    hunt = disagreement()
    hunt.failing = Counter({"float32": 20, "float64": 3})
    suite, found = cases(SubjectFindings(Examination(hunt), (TOLD,)))
    first, second = (failure.text or "" for failure in suite.iter("failure"))

    assert found["failure"] == ["agreement in float32", "agreement in float64"]
    assert "smallest: Case.of(" in first
    assert second.splitlines() == [first.splitlines()[0], "its whole text is in the test case 'agreement in float32'"]


@pytest.mark.parametrize("failing", [{}, {"float32": 1}])
def test_a_dtype_passes_only_if_no_case_failed_in_it(failing: Mapping[str, int]) -> None:
    hunt = disagreement()
    hunt.failing = Counter(failing)
    in_float64 = replace(TOLD.finding, case=draw(replace(CASE.config, dtype="float64"), "normal", 0))
    hunt.findings = [in_float64]

    _, found = cases(SubjectFindings(Examination(hunt), (reported(in_float64),)))

    assert ("agreement in float32" in found.get("passed", [])) is not bool(failing)


def test_a_relation_that_is_broken_is_not_passed() -> None:
    hunt = disagreement()
    hunt.relations = Counter({"batch split": 3, "time split": 2})
    result = Result(Verdict.DISAGREES, (replace(DIFFERS, relation="time split"),))
    hunt.findings = [replace(TOLD.finding, result=result)]

    _, found = cases(SubjectFindings(Examination(hunt), (reported(hunt.findings[0]),)))

    assert "the same with two parts of the batch" in found["passed"]
    assert "the same with two stretches of time, with the state carried over" not in found["passed"]


def test_xml_holds_whatever_a_subject_says() -> None:
    suite, found = cases(said_by(NASTY))

    assert len(found["failure"]) == 1
    failure = next(suite.iter("failure"))
    assert failure.text is not None
    assert "a|b `c` <script>" in failure.text
    assert r"\x1b[31m\x00\ud800" in failure.text


# Markdown


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())


def render(text: str) -> str:
    return str(MarkdownIt("gfm-like", {"linkify": False}).render(text))


PRINTED: Final = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zs", "Zl", "Zp", "Cn", "Co"]))


@given(text=PRINTED)
@example(text="a|b")
@example(text=r"\|")
@example(text="``")
@example(text="_a_ __b__ a_b")
@example(text="<b>&amp;")
@example(text="https://example.com :x: @me")
@pytest.mark.parametrize("way", [plain, code, cell])
def test_markdown_shows_text_as_it_is_in_a_line_and_in_a_table(way: Callable[[str], str], text: str) -> None:
    line = render(f"### 1\\. {way(text)} end")
    table = render(f"| a | b |\n|---|---|\n| {way(text) if way is not code else cell(text)} | 2 |")

    assert text_of(line) == " ".join(f"1. {text} end".split())
    cells = [text_of(one) for one in re.findall(r"<td[^>]*>(.*?)</td>", table, re.DOTALL)]
    assert cells == [" ".join(text.split()), "2"]
    assert len(re.findall("<tr>", table)) == 2


def test_text_makes_no_link_no_emoji_and_calls_nobody() -> None:
    assert plain("https://a.b :x: @me $x$ #1: ok") == "https&#58;//a.b &#58;x: &#64;me &#36;x&#36; &#35;1: ok"


@given(text=PRINTED)
@example(text="```\nx\n````")
def test_a_fence_holds_any_text(text: str) -> None:
    tokens = MarkdownIt().parse(fenced(text, "python"))

    assert [token.type for token in tokens] == ["fence"]
    assert tokens[0].content.rstrip() == text.rstrip()


def test_a_summary_says_what_makes_a_pass_mean_less() -> None:
    shown = markdown([agreeing()])

    assert shown.startswith(
        "## rnn-harness: `torch` agrees with nn.RNN: one tanh layer, one direction, from zeros, forward only, float32 "
        "alone\n\n"
    )
    assert "- left out of `torch`: `num_layers=2-3`: one layer only\n- left out of `torch`: `hx=True`: no hx\n" in shown
    assert "not enough seen: 20 of 200 cases" in text_of(render(markdown([seen_too_little()])))


def test_nothing_that_a_subject_says_breaks_the_summary() -> None:
    html = render(markdown([said_by(NASTY), said_by(NASTY)]))

    assert len(re.findall("<tr>", html)) == 3
    assert len(re.findall("<h3>", html)) == 2
    assert len(re.findall("<pre>", html)) == 8
    assert re.findall("<script>|<em>|<a |<h1>", html) == []


# Annotations


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    (tmp_path / "sub").mkdir()
    source = "import numpy\n\n\ndef rnn(x):\n    pass\n\n\nclass A:\n    @staticmethod\n    def f(x):\n        pass\n"
    (tmp_path / "sub" / "mine.py").write_text(source)
    return tmp_path


def parsed(line: str) -> tuple[dict[str, str], str]:
    """Read a workflow command as GitHub does."""
    found = re.fullmatch(r"::error ([^:]*)::(.*)", line)
    assert found is not None
    pairs = dict(one.split("=", 1) for one in found[1].split(","))
    codes = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))

    def plainly(text: str, few: int = 0) -> str:
        for coded, character in codes if not few else (*codes[:few], codes[-1]):
            text = text.replace(coded, character)
        return text

    return {name: plainly(value) for name, value in pairs.items()}, plainly(found[2], 2)


def test_an_annotation_points_to_the_function(checkout: Path) -> None:
    summary = replace(disagreeing(), place=(str(checkout / "sub" / "mine.py"), "rnn"))

    first, *_ = workflow_commands(summary)

    properties, message = parsed(first)
    assert properties == {"file": "sub/mine.py", "line": "4", "title": "torch disagrees with nn.RNN"}
    assert message.startswith("ignores bias_hh: b_hh is never added (certain)\nyours: ")
    assert message.endswith(f"replay: rnn-harness replay {TOLD.finding.id}")


def test_an_annotation_points_to_the_line_that_raised(checkout: Path) -> None:
    file = checkout / "sub" / "mine.py"
    entry = FindingEntry("raises", "broken", at=(str(file), 5))

    (line,) = workflow_commands(complaining(entry, agreement(), (str(file), "rnn")))

    assert parsed(line)[0].items() >= {"file": "sub/mine.py", "line": "5"}.items()


def test_the_line_that_makes_a_mistake_is_a_fact_and_where_the_annotation_points(checkout: Path) -> None:
    file = checkout / "sub" / "mine.py"
    line = SourceLine(str(file), 5, "h = x")
    told = reported(FINDING, Explanation(replace(WITHOUT_B_HH, line=line)))

    (annotation,) = workflow_commands(complaining(entry_of(told), agreement(), (str(file), "rnn")))

    assert [fact.text for fact in told.facts if fact.name == "line"] == [f"{file}:5: h = x"]
    assert parsed(annotation)[0].items() >= {"file": "sub/mine.py", "line": "5"}.items()
    assert finding_record(told)["line"] == (str(file), 5)


@pytest.mark.parametrize("place", [None, ("/elsewhere/rnn.py", "rnn"), ("no such file.py", "rnn")])
def test_an_annotation_names_no_file_that_is_not_in_the_checkout(checkout: Path, place: Any) -> None:
    for line in workflow_commands(replace(disagreeing(), place=place)):
        assert "file" not in parsed(line)[0]


def test_too_little_to_agree_is_an_annotation_too(checkout: Path) -> None:
    (line,) = workflow_commands(seen_too_little())

    assert list(workflow_commands(agreeing())) == []
    assert parsed(line)[1] == "not enough seen: 20 of 200 cases"


def test_only_what_an_upgrade_brings_is_an_error() -> None:
    old, new = disagreeing(), disagreeing()
    known, other = new.entries[0], replace(new.entries[0], id="0123abcd")
    vars(new)["entries"] = (known, other, *[one for one in new.entries if not one.id])
    upgrade = UpgradeComparison(
        old, new, (Defect(DefectStanding.BOTH, "", "", known.id), Defect(DefectStanding.NEW, "", "")), (), 0, 0
    )

    levels = [line.partition(" ")[0] for line in upgrade_commands(upgrade)]

    assert levels[: len(old.entries)] == ["::notice"] * len(old.entries)
    assert levels[len(old.entries) :][:2] == ["::warning", "::error"]
    assert set(levels[len(old.entries) + 2 :]) == {"::warning"}  # refusals and dropout, as they were before


@given(text=st.text())
@example(text=NASTY)
@example(text="%0A")
def test_an_annotation_is_one_line_whatever_a_subject_says(text: str) -> None:
    (line,) = workflow_commands(said_by(text))

    properties, message = parsed(line)
    assert "\n" not in line
    assert "\r" not in line
    assert properties["title"].startswith(text)
    assert message.startswith(f"{text} (certain)")


@pytest.mark.parametrize(("name", "line"), [("rnn", 4), ("A", 8), ("A.f", 10), ("B", None), ("A.g", None)])
def test_the_line_of_a_name(checkout: Path, name: str, line: int | None) -> None:
    assert line_of(str(checkout / "sub" / "mine.py"), name) == line


# Observations


TEXT: Final = {"type": "string"}
FIELDS: Final[dict[str, Any]] = {
    "type": {"const": "test_case"},
    "status": {"enum": ["passed", "failed", "gave_up"]},
    "status_reason": TEXT,
    "representation": TEXT,
    "arguments": {"type": "object"},
    "how_generated": {"type": ["string", "null"]},
    "features": {"type": "object"},
    "coverage": {"type": ["object", "null"]},
    "timing": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
    "metadata": {"type": "object"},
    "property": TEXT,
    "run_start": {"type": "number"},
}
# A test case as the documentation of Hypothesis describes it.
FORMAT: Final = {"type": "object", "properties": FIELDS, "required": list(FIELDS), "additionalProperties": False}


def observed(result: Result) -> dict[str, Any]:
    line = observation(CheckedCase(ASKED, result, 0.125), "mine.py:rnn", 3, 1e9)
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    found: dict[str, Any] = json.loads(line)
    return found


ASKED: Final = PlannedCase(RNNConfig(2, 3, T=4, N=2, lengths=(4, 2)), "normal", 5, True, False, False)


@pytest.mark.parametrize(
    ("result", "status", "reason"),
    [
        (Result(Verdict.AGREES, also=("twice",)), "passed", ""),
        (Result(Verdict.AGREES, known_as="dropout multiplies by zero"), "passed", ""),
        (Result(Verdict.AGREES, known_as="1a2b3c4d"), "failed", "has the cause of finding 1a2b3c4d"),
        (Result(Verdict.DISAGREES, (DIFFERS,)), "failed", "output differs in 1 of 1 elements (100 %)"),
        (Result(Verdict.SUSPECT, (DIFFERS,)), "failed", "output differs in 1 of 1 elements (100 %)"),
        (Result(Verdict.BROKEN, message=NASTY, traceback=NASTY), "failed", NASTY.splitlines()[0]),
        (Result(Verdict.UNSUPPORTED, message="one layer only"), "gave_up", "one layer only"),
    ],
)
def test_an_observation_is_as_hypothesis_documents_it(result: Result, status: str, reason: str) -> None:
    found = observed(result)

    assert list(Draft202012Validator(FORMAT).iter_errors(found)) == []
    assert set(found) == {one.name for one in fields(TestCaseObservation)}
    assert (found["status"], found["status_reason"]) == (status, reason)


def test_an_observation_says_what_was_drawn_and_how_it_was_compared() -> None:
    found = observed(Result(Verdict.AGREES, also=("twice",)))

    assert eval(found["representation"], {"draw": draw, "RNNConfig": RNNConfig}).id == ASKED.case().id  # noqa: S307
    assert found["features"]["hidden_size"] == 3
    assert found["features"]["lengths"] == "falling"
    assert found["features"]["also: twice"] is True
    assert found["features"]["compared"] == "step by step"
    assert found["timing"] == {"execute:test": 0.125}
    assert (found["property"], found["run_start"]) == ("mine.py:rnn", 1e9)
