"""issue: a finding as the Markdown of a bug report, and as a test that keeps it from coming back."""

import re
from typing import Final

from harness.checks.result import ComparisonMethod, Result, Verdict
from harness.diagnosis.script.script_text import title_of
from harness.diagnosis.script.user import quoted, wrapped
from harness.oracle.arithmetic_assumptions import with_measured
from harness.oracle.compare import MismatchKind
from harness.report import wording
from harness.report.facts import failure_line
from harness.report.finding_entry import entry_of
from harness.report.finding_files import Fact
from harness.report.markdown import facts_in_markdown, fenced
from harness.report.reported_finding import ReportedFinding
from harness.search.search_record import Finding
from harness.space.case import Case

LONG_CASE: Final = 4_000  # The number of characters beyond which a case that no seed gives is not written out


def issue_of(report: ReportedFinding, script: str | None) -> str:
    """Return the bug report of an explained finding; ``script`` is the text of the one that was seen to fail."""
    finding, entry = report.finding, entry_of(report)
    facts = [fact for fact in entry.facts if fact.name != "upstream" and len(fact.text) <= LONG_CASE]
    facts.insert(0, Fact("cause", entry.headline))
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in report.environment.items())
    parts = [
        f"# {title(finding)}",
        _expectation(finding.result, finding.case.config.layer),
        "**What happened:**",
        *facts_in_markdown(facts),
    ]
    parts += ["## Environment", f"| | |\n|---|---|\n{rows}", "## How to reproduce"]
    if script is None:
        parts.append("There is no script for this; use `rnn-harness replay` on the saved case.")
    else:
        files = [name for name in ("arrays.npz", "case.json") if name in script]
        beside = f" It reads `{files[0]}`, which belongs next to it." if files else ""
        parts += [
            f"This script prints FAILED and exits with 1 until the mistake is fixed.{beside}",
            fenced(script, "python"),
        ]
    return "\n\n".join(parts) + "\n"


def title(finding: Finding) -> str:
    """Return what is wrong, in one line."""
    of_dropout = finding.result.method is ComparisonMethod.DROPOUT
    text = wording.dropout_told(finding.result)[0] if of_dropout else failure_line(finding.result)
    return _one_line(f"{title_of(finding.subject)}: {_own_name(text)}")


def regression_test(finding: Finding) -> str:
    """Return a test for pytest, which fails as long as the finding does.

    A large case is read from the file that keeps it.
    """
    case, name = finding.case, re.sub(r"\W+", "_", finding.subject.rpartition(":")[2] or finding.subject)
    written, imports = 'Case.load(Path(__file__).with_name("case.json"))', ["from pathlib import Path", ""]
    if not _long(case):
        written = wrapped(repr(case), 4)
        imports = ["import numpy as np", ""] if "np." in written else []
    names = sorted([*re.findall(r"\b[A-Z]+Config(?=\()", written)[:1], "assert_agrees"])
    option = with_measured("derived", finding.accepted, case.config.plain.dtype)
    tolerance = "" if option == "derived" else f", tolerance={quoted(option)}"
    lines = [
        f'"""{finding.subject} on a case on which it once failed: {title(finding).partition(": ")[2]}."""',
        "",
        *imports,
        _imported(written, *names),
        "",
        f"SUBJECT = {quoted(finding.subject)}",
        "",
        "",
        f"def test_{name}_on_{finding.id}() -> None:",
        f"    case = {written}",
        "",
        f"    assert_agrees(SUBJECT, case{tolerance})",
    ]
    return "\n".join(lines) + "\n"


def _expectation(result: Result, layer: str) -> str:
    if result.method is ComparisonMethod.DROPOUT:
        return (
            "**Expected:** the statistics of dropout: in training, each element of the output of all layers but the "
            "last becomes zero with probability p, independently and anew in each call, and others are scaled by "
            "1/(1-p)."
        )
    relation = next((mismatch for mismatch in result.mismatches if mismatch.relation), None)
    if relation is not None:
        return f"**Expected:** the same with {relation.others}."
    if result.verdict is Verdict.BROKEN:
        return "**Expected:** an answer, and the same answer each time."
    if result.mismatches[0].sites:
        return (
            f"**Expected:** what `{layer}` is documented to compute, by its equations in float64. The tolerance of "
            "an element is the largest difference that rounding can explain. It is derived and not guessed."
        )
    if result.mismatches[0].sort is MismatchKind.OVERWRITTEN:
        return f"**Expected:** what `{layer}` returns, which its next call does not change."
    return f"**Expected:** what `{layer}` returns, in its names, shapes and dtypes."


def _long(case: Case) -> bool:
    return case.origin is None and len(repr(case)) > LONG_CASE


def _imported(written: str, *names: str) -> str:
    """Return the import of what the code of a case needs, and of further names."""
    made = "Case" if written.startswith("Case") else "draw"
    sparse = {"sparse"} if "sparse(" in written else set()
    ordered = sorted({made, *sparse, *names}, key=lambda name: (name.islower(), name))
    return f"from harness import {', '.join(ordered)}"


def _cell(text: str) -> str:
    return _one_line(text).replace("|", r"\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _own_name(message: str) -> str:
    """Return a message in which a file that was given to check goes by its own name."""
    return re.sub(r"\b_rnn_harness_subject_(\w+\.)", r"\1", message)
