"""Tests of the facts of a finding, each once, and that every report shows them."""

from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import Case, Result, RNNConfig, Verdict, draw
from harness.diagnosis.failure_conditions import FailureConditions
from harness.diagnosis.finding_explainer import Diagnosis, Explanation
from harness.diagnosis.identify.cause import IdentifiedCause
from harness.diagnosis.kernels import FailingStage, KernelSwitchResults
from harness.oracle.compare import Mismatch, MismatchKind
from harness.report.facts import code_of
from harness.report.finding_entry import FindingEntry, SubjectFindings, entry_of, entry_of_stored
from harness.report.finding_files import Fact, FindingFiles
from harness.report.github import workflow_commands
from harness.report.issue import issue_of
from harness.report.json_record import finding_record, subject_record
from harness.report.junit import junit
from harness.report.markdown import markdown
from harness.report.page import page_of_run
from harness.report.reported_finding import ReportedFinding, reported
from harness.report.terminal import finding_report, stored_report
from harness.search.evidence import NOT_SHRUNK
from harness.search.examination import Examination
from harness.search.search_record import Finding
from harness.store.finding_folders import Store
from tests.causes import WITHOUT_B_HH
from tests.report.test_wording import (
    CASE,
    CERTIFICATE,
    CONFIG,
    FINDING,
    INACCURATE,
    KEPT,
    RESULT,
    TOLD,
    broken,
    disagreement,
    rendered,
    suspected,
)


def said(told: ReportedFinding, *, details: bool = False) -> dict[str, str]:
    """Return the facts that every report shows, or the details."""
    return {fact.name: fact.text for fact in told.all_facts if fact.detail is details}


@pytest.mark.parametrize(("assumed", "sure"), [(True, "possibly"), (False, "certain")])
def test_an_order_of_rows_that_no_run_told_is_no_certain_cause(*, assumed: bool, sure: str) -> None:
    cause = WITHOUT_B_HH.cause
    assert isinstance(cause, IdentifiedCause)
    order = replace(cause.new[0], what="reads its rows in the order i, o, f, g", of_order=True)
    told = reported(FINDING, Explanation(Diagnosis(replace(cause, new=(order,)), order_assumed=assumed)))

    assert (told.cause, told.certainty) == (order.what, sure)
    assert (told.certain, told.mistakes) == (not assumed, int(not assumed))


def test_the_facts_that_every_report_shows() -> None:
    assert list(said(TOLD)) == ["yours", "nn.RNN", "wrong", "smallest", "fails", "passes", "run it", "replay"]
    assert said(TOLD)["wrong"] == "output[t=0, n=0, unit=0] = 0.244918659, should be 0.84828364 (±2.5e-07)"
    assert said(TOLD)["fails"].endswith("hidden_size from 17 on; 12 more cases")
    assert said(TOLD)["run it"] == "python .rnn-harness/3f9c2a11/reproduce.py"


def test_the_details() -> None:
    details = said(TOLD, details=True)

    assert set(details) == {
        *("computes", "differs", "config", "whatever", "where", "evidence", "judge", "compared"),
        *("minimal", "kept"),
    }
    assert details["whatever"] == "T, nonlinearity, hx"
    assert "\nit fails in a fresh process, too" in details["minimal"]


def test_a_crash_has_its_place_and_its_traceback() -> None:
    told = reported(broken())

    assert said(told)["at"] == "mine.py, line 3"
    assert "wrong" not in said(told)  # the title says it
    assert said(told, details=True)["traceback"].startswith('File "mine.py"')


def test_the_lines_of_code_are_those_of_the_cause() -> None:
    lines = said(reported(FINDING, Explanation(WITHOUT_B_HH)))
    assert lines["yours"] == "h = tanh(x[t] @ W_ih.T + b_ih + h @ W_hh.T)"
    assert "yours" not in said(reported(FINDING, Explanation(Diagnosis())))
    assert "yours" not in said(reported(FINDING))


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        ("mine.py:rnn", ""),
        ("torch", ""),
        ("rnn", " --subject FILE.py:rnn"),
        ("test.<locals>.rnn", " --subject FILE.py:NAME"),
    ],
)
def test_a_function_that_has_no_file_is_replayed_by_the_name_of_one(subject: str, names: str) -> None:
    of_subject = replace(TOLD, finding=replace(TOLD.finding, subject=subject))

    assert said(of_subject)["replay"].endswith(f"replay {of_subject.id}{names}")


def test_a_long_case_is_told_in_words_and_loaded_by_code_that_runs(tmp_path: Path) -> None:
    config = RNNConfig(1, 2, num_layers=2, bidirectional=True, T=3, N=1)
    arrays = {name: np.zeros(spec.shape, np.float32) for name, spec in config.given.items()}
    arrays["bias_hh_l1"][1] = 1
    told = reported(replace(FINDING, case=Case.from_arrays(config, arrays)))
    folder = Store(tmp_path).save(told.finding)

    shown = said(replace(told, saved=FindingFiles(folder)))

    assert shown["smallest"] == (
        "input_size=1, hidden_size=2, num_layers=2, bidirectional=True, T=3, N=1; all numbers are 0 but "
        "bias_hh_l1 [0.0, 1.0]"
    )
    assert eval(shown["load it"], {"Case": Case}).id == told.finding.case.id  # noqa: S307 - the code is made above
    assert said(told, details=True)["code"] == repr(told.finding.case)
    many = reported(replace(FINDING, case=replace(draw(RNNConfig(8, 8, T=9, N=4), "normal", 0), origin=None)))
    assert said(many)["smallest"].endswith("; all numbers are 0 but some in 5 arrays")


def test_advice_says_which_tolerance_would_accept_it() -> None:
    assert said(INACCURATE)["advice"] == "--tolerance tf32 would accept that"
    advice = "--tolerance tanh=9ulp would accept that"
    measured = replace(RESULT, message="its tanh is off", inaccurate="tanh", advice=advice)
    assert said(reported(replace(FINDING, result=measured)))["advice"] == advice


def test_advice_says_how_to_leave_out_a_nonlinearity_alone_with_which_it_fails() -> None:
    finding = replace(FINDING, case=replace(CASE, config=CONFIG.replace(nonlinearity="relu")), certificate=CERTIFICATE)
    of_relu = Explanation(factors=FailureConditions({"nonlinearity": "relu"}))

    said_of_relu = said(reported(finding, of_relu))

    assert said_of_relu["advice"] == (
        "if it need not support this: raise NotImplementedError, or --only nonlinearity=tanh"
    )
    of_torch = said(reported(replace(finding, subject="torch"), of_relu))
    assert of_torch["advice"] == "to search without it: --only nonlinearity=tanh"
    assert "advice" not in said(reported(finding, Explanation(factors=FailureConditions())))


def test_a_wrong_gradient_whose_loss_may_be_any_still_needs_one() -> None:
    wrong = Result(Verdict.DISAGREES, (Mismatch("x.grad", MismatchKind.VALUE),))

    def fails(finding: Finding) -> str:
        return said(reported(finding, Explanation(factors=FailureConditions())))["fails"]

    assert fails(FINDING) == "at every size, whatever the other factors are"
    assert fails(replace(FINDING, result=wrong)) == "with any loss, at every size, whatever the other factors are"


def test_a_suspicion_says_that_it_is_not_proved() -> None:
    assert "no bound proves it wrong" in said(reported(suspected()), details=True)["suspect"]


def test_findings_that_are_reported_together_are_named() -> None:
    told = replace(TOLD, also=(broken(), broken()))

    assert said(told)["also"] == "ValueError: boom"


def test_what_other_projects_know_of_a_failure_is_said() -> None:
    copied = Result(
        Verdict.DISAGREES, (Mismatch("weight_ih_l0.grad", MismatchKind.MISSING, expected="(H, I) = (1, 1)"),)
    )
    case = replace(CASE, config=replace(CONFIG, preparation="deepcopy"))
    stage = Explanation(kernels=KernelSwitchResults(stage=FailingStage("torch:trace", ("torch",), (0.1,), None)))
    finding = replace(FINDING, subject="torch:trace", case=case, result=copied, certificate=CERTIFICATE)

    assert said(reported(finding, stage))["upstream"].startswith(
        "reported: https://github.com/pytorch/pytorch/issues/44951"
    )
    assert said(reported(finding, stage))["kernel"] == "passes in torch; fails from torch:trace on"
    assert said(reported(replace(finding, certificate=NOT_SHRUNK)))["upstream"].startswith("perhaps reported: ")
    assert said(reported(replace(FINDING, subject="torch:trace")))["upstream"].startswith(
        "no report is known; issue.md"
    )
    assert "upstream" not in said(TOLD)


def test_without_a_script_the_reason_is_said() -> None:
    assert (
        said(replace(TOLD, saved=replace(KEPT, script=None, no_script="it hangs")))["run it"] == "no script: it hangs"
    )


# Every report

EXTRA = TOLD
DONE = Examination(disagreement())
SUMMARY = SubjectFindings(DONE, (EXTRA,))

REPORTS: dict[str, Callable[[], str]] = {
    "terminal": lambda: rendered(finding_report("1", entry_of(EXTRA)), 1_000),
    "JUnit": lambda: unescape(junit([SUMMARY])),
    "Markdown": lambda: markdown([SUMMARY]),
    "annotations": lambda: "\n".join(workflow_commands(SUMMARY)).replace("%0A", "\n"),
}
FULL_REPORTS: dict[str, Callable[[], str]] = {
    "-v": lambda: rendered(finding_report("1", entry_of(EXTRA), verbose=True), 1_000),
    "page": lambda: unescape(page_of_run([SUMMARY], command="", version="1")),
}


@pytest.mark.parametrize("report", [*REPORTS, *FULL_REPORTS])
def test_every_report_shows_every_fact(report: str) -> None:
    shown = (REPORTS | FULL_REPORTS)[report]()

    for fact in EXTRA.all_facts:
        if report in FULL_REPORTS or not fact.detail:
            assert all(" ".join(line.split()) in " ".join(shown.split()) for line in fact.text.splitlines()), fact


def test_an_issue_has_every_fact_of_the_failure_and_the_script() -> None:
    written = issue_of(EXTRA, "print('script')")

    for fact in EXTRA.facts:
        assert all(line in written for line in fact.text.splitlines()), fact
    assert "```python\nprint('script')\n```" in written


def test_an_issue_is_a_document_whatever_a_subject_says() -> None:
    result = Result(Verdict.BROKEN, message="ValueError: a | b", traceback="Traceback:\n```\nboom")
    told = reported(replace(FINDING, result=result), Explanation(environment={"python": "3 | 4"}))

    written = issue_of(told, None)

    assert written.startswith("# mine.py:rnn: ValueError: a | b\n")
    assert "````\nTraceback:\n```\nboom\n````" in written
    assert r"| python | 3 \| 4 |" in written
    assert "rnn-harness replay" in written


def test_a_large_case_is_not_written_out_in_an_issue() -> None:
    case = replace(draw(RNNConfig(33, 33, T=9, N=3)), origin=None)

    written = issue_of(reported(replace(FINDING, case=case, subject="torch")), "import numpy")

    assert len(written) < 4_000
    assert written.startswith("# torch.nn.RNN: output differs")


def test_a_kept_finding_has_the_same_facts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(FINDING, finding_record(EXTRA), {"reproduce.py": ""})
    (stored,) = store.list()

    entry = entry_of_stored(stored)

    own = [fact for fact in entry_of(replace(EXTRA, further=0)).facts if fact.name not in {"run it", "replay", "kept"}]
    assert [fact for fact in entry.facts if fact.name not in {"run it", "replay", "kept"}] == own
    assert (entry.title, entry.sure) == (entry_of(EXTRA).title, "certain")
    assert f"python {stored.path / 'reproduce.py'}" in [fact.text for fact in entry.facts]
    assert "evidence" in rendered(stored_report([stored]))


def test_a_problem_in_plain_text_begins_with_its_cause() -> None:
    made: Any = FindingEntry("it is wrong", "value", (Fact("wrong", "1"), Fact("judge", "2", detail=True)), "certain")

    assert made.text == "it is wrong (certain)\nwrong: 1"


def test_the_manual_names_every_field_of_the_json() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    report = page.partition("## A report")[2].partition("## Weights and arrays")[0]

    for field in (*finding_record(TOLD), *subject_record(SUMMARY)):
        assert f"`{field}`" in report, field


def test_the_manual_explains_every_line() -> None:
    page = (Path(__file__).parents[2] / "docs" / "findings.md").read_text()
    lines = page.partition("## The lines of a finding")[2].partition("## The lines below the findings")[0]

    for told in (TOLD, INACCURATE, reported(suspected()), reported(broken())):
        for fact in told.all_facts:
            assert f"`{fact.name}`" in lines, fact.name


@pytest.mark.parametrize("layer", ["nn.RNN", "nn.GRU", "nn.LSTM"])
def test_the_lines_of_code_are_the_own_one_and_that_of_the_layer(layer: str) -> None:
    facts = [Fact("yours", "h = a"), Fact("wrong", "0"), Fact(layer, "h = b"), Fact("replay", "c", language="sh")]

    assert code_of(facts) == {"yours": "h = a", layer: "h = b"}
