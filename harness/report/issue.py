"""issue: a finding as the Markdown of a bug report, and as a test that keeps it from coming back."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Final

from harness.checks.result import Method, Result, Verdict
from harness.diagnosis.investigate import Explanation
from harness.diagnosis.reproduce.literals import listed
from harness.diagnosis.reproduce.program import quoted
from harness.diagnosis.reproduce.torch_call import shown
from harness.oracle.arithmetic import with_measured
from harness.oracle.compare import Mismatch, Sort
from harness.report import explained, wording
from harness.report.markdown import fenced
from harness.search.record import Finding
from harness.space.case import Case

SHOWN: Final = 3
"""The number of arrays whose differences an issue shows; later ones mostly follow from the first."""

LONG: Final = 4_000
"""The number of characters beyond which a case that no seed gives is not written out."""

_SAID: Final = {
    Sort.MISSING: "{array} is missing, expected {expected}",
    Sort.UNEXPECTED: "{array}, {actual}, is no output of nn.RNN",
    Sort.SHAPE: "{array} has shape {actual}, expected {expected}",
    Sort.DTYPE: "{array} has dtype {actual}, expected {expected}",
    Sort.CHANGED: "{array} is an input, and the call wrote into it",
    Sort.ALIASED: "{array} shares memory with {actual}",
    Sort.OVERWRITTEN: "{array} is overwritten by the next call",
    Sort.MALFORMED: "{actual}",
    Sort.FINITENESS: "{array} is infinite or NaN where it should not be, or finite where it should not",
}


def issue_of(finding: Finding, explanation: Explanation, script: str | None) -> str:
    """Return the bug report of an explained finding; ``script`` is the text of the one that was seen to fail."""
    config = finding.case.config
    lines = []
    if explanation.diagnosis is not None:
        lines += explained.cause_lines(explanation.diagnosis, config, explanation.factors)
    if explanation.answers is not None:
        lines.append(explained.answers_line(explanation.answers))
    if explanation.factors is not None:
        lines.append(f"needs: {explained.needs_line(explanation.factors)}")
        if (passing := explained.passing_line(explanation.factors)) is not None:
            lines.append(f"passes: {passing}")
    if (kernel := explained.kernels_line(explanation.kernels)) is not None:
        lines.append(kernel)
    judgement = explanation.judgement
    proof = None if judgement is None else wording.judgement_line(judgement)
    code = explained.code_lines(explanation.diagnosis, config)
    return issue(finding, lines, proof, script, explanation.ground, code=code)


def issue(
    finding: Finding,
    cause_lines: Sequence[str],
    proof: str | None,
    script: str | None,
    environment: Mapping[str, str],
    *,
    code: Mapping[str, str] | None = None,
) -> str:
    """Return a bug report, ready to be pasted: what is known of the cause, the proof, the script, and what it ran on.

    ``code`` holds two lines of NumPy, by whose they are: the one that makes the mistake, and nn.RNN's.
    """
    result = finding.result
    parts = [f"# {title(finding)}", _expectation(result), *_happened(finding)]
    if result.method is Method.DROPOUT:
        parts += ["## The net", _config_block(finding.case)]
    else:
        parts += ["## Minimal case" if finding.minimal else "## Case", _case_block(finding.case)]
    if cause_lines:
        parts += ["## Cause", "\n".join(f"- {line}" for line in cause_lines)]
    if code:
        wrong, right = code.values()
        parts += ["As a line of NumPy, with nn.RNN's own line below it:", fenced(f"- {wrong}\n+ {right}", "diff")]
    if proof:
        parts += ["## Proof", proof]
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in environment.items())
    parts += ["## Environment", f"| | |\n|---|---|\n{rows}", "## How to reproduce"]
    if script is None:
        again = (
            f"`rnn-harness replay` on the saved case, or `assert_agrees({finding.subject!r}, case)` on the one above"
        )
        parts.append(f"There is no script for this; use {again}.")
    else:
        beside = " It reads `arrays.npz`, which belongs next to it." if "arrays.npz" in script else ""
        parts += [
            f"This script prints FAILED and exits with 1 until the mistake is fixed.{beside}",
            fenced(script, "python"),
        ]
    return "\n\n".join(parts) + "\n"


def title(finding: Finding) -> str:
    """Return what is wrong, in one line."""
    result, name = finding.result, shown(finding.subject)
    if result.method is Method.DROPOUT:
        return f"{name}: {wording.dropout_told(result)[0]}"
    if not result.mismatches:
        return _one_line(f"{name}: {_own_name(result.message)}")
    first = result.mismatches[0]
    if first.law:
        return f"{name} breaks the law of {first.law}: {_differs(first)}"
    return _one_line(f"{name}: {_differs(first)}")


def regression_test(finding: Finding) -> str:
    """Return a test for pytest, which fails as long as the finding does.

    A large case is read from the file that keeps it.
    """
    case, name = finding.case, re.sub(r"\W+", "_", finding.subject.rpartition(":")[2] or finding.subject)
    written, imports = 'Case.load(Path(__file__).with_name("case.json"))', ["from pathlib import Path", ""]
    if not _long(case):
        written = _spread(repr(case))
        imports = ["import numpy as np", ""] if "np." in written else []
    names = ["RNNConfig", "assert_agrees"] if "RNNConfig(" in written else ["assert_agrees"]
    asked = with_measured("derived", finding.accepted, case.config.plain.dtype)
    tolerance = "" if asked == "derived" else f", tolerance={quoted(asked)}"
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
        *(f"    {line}" for line in f"case = {written}".split("\n")),
        "",
        f"    assert_agrees(SUBJECT, case{tolerance})",
    ]
    return "\n".join(lines) + "\n"


def _expectation(result: Result) -> str:
    """Return what was expected."""
    if result.method is Method.DROPOUT:
        return (
            "**Expected:** the law of dropout: in training, each element of the output of every layer but the last "
            "becomes zero with probability p, independently and anew in each call, and others are scaled by 1/(1-p)."
        )
    law = next((mismatch for mismatch in result.mismatches if mismatch.law), None)
    if law is not None:
        return f"**Expected:** the law of {law.law}: the same as {law.others}."
    if result.verdict is Verdict.BROKEN:
        return "**Expected:** an answer, and the same answer each time."
    if result.mismatches[0].sites:
        return (
            "**Expected:** what `nn.RNN` is documented to compute, here by its equations in float64. The allowance of "
            "an element is the largest difference that rounding can explain. It is derived and not guessed."
        )
    if result.mismatches[0].sort is Sort.OVERWRITTEN:
        return "**Expected:** what `nn.RNN` returns, which its next call does not change."
    return "**Expected:** what `nn.RNN` returns, in its names, shapes and dtypes."


def _happened(finding: Finding) -> list[str]:
    result = finding.result
    parts = ["**What happened:**"]
    if result.message:
        parts.append(fenced(_own_name(result.message), ""))
    if result.traceback:
        parts.append(fenced(result.traceback.rstrip(), ""))
    shown = result.mismatches[:SHOWN]
    parts += [f"- {_differs(mismatch)}" for mismatch in shown if not mismatch.sites]
    tables = [mismatch for mismatch in shown if mismatch.sites]
    if tables:
        parts.append("\n".join(f"- {_differs(mismatch)}" for mismatch in tables))
        head = "| array | where | actual | expected | difference | allowance |\n|---|---|---|---|---|---|"
        rows = [
            f"| {mismatch.array} | {', '.join(f'{axis}={index}' for axis, index in site.place.items())} "
            f"| {site.actual:.9g} | {site.expected:.9g} | {site.difference:.3g} | {site.allowance:.3g} |"
            for mismatch in tables
            for site in mismatch.sites
        ]
        parts.append("\n".join([head, *rows]))
        parts.append(f"Compared {result.method.value}.")
    if len(result.mismatches) > SHOWN:
        parts.append(f"Further arrays that differ: {', '.join(m.array for m in result.mismatches[SHOWN:])}.")
    if any(mismatch.sort is Sort.SUSPICIOUS for mismatch in result.mismatches):
        parts.append("No bound proves this wrong, but it exceeds usual roundings, and it repeats on other values.")
    return parts


def _differs(mismatch: Mismatch) -> str:
    array = mismatch.array
    if mismatch.layer is not None:
        array += f" of layer {mismatch.layer}"
    if mismatch.probed:
        array += ", seen with probes,"
    if mismatch.sort in _SAID:
        said = _SAID[mismatch.sort].format(array=array, actual=mismatch.actual, expected=mismatch.expected)
    else:
        said = f"{array} differs"
    return said + (f" in {mismatch.count} of {mismatch.total} elements" if mismatch.total else "")


def _case_block(case: Case) -> str:
    if _long(case):
        return (
            f"{_config_block(case)}\n\nIts {_numbers(case):,} numbers are in the script, or in the file that keeps it."
        )
    written = _spread(repr(case))
    imports = ["import numpy as np", ""] if "np." in written else []
    return fenced("\n".join([*imports, _imported(written, "RNNConfig"), "", f"case = {written}"]), "python")


def _config_block(case: Case) -> str:
    return fenced(f"from harness import RNNConfig\n\nconfig = {_spread(repr(case.config))}", "python")


def _numbers(case: Case) -> int:
    return sum(spec.size for spec in case.config.given.values())


def _long(case: Case) -> bool:
    return case.origin is None and len(repr(case)) > LONG


def _imported(written: str, *names: str) -> str:
    """Return the import of what the code of a case needs, and of further names."""
    made = "Case" if written.startswith("Case") else "draw"
    sparse = {"sparse"} if "sparse(" in written else set()
    ordered = sorted({made, *sparse, *names}, key=lambda name: (name.islower(), name))
    return f"from harness import {', '.join(ordered)}"


def _spread(call: str) -> str:
    """Return a call, with its arguments on lines of their own where one line is too short for it."""
    tree = ast.parse(call, mode="eval").body
    assert isinstance(tree, ast.Call)
    function = ast.get_source_segment(call, tree.func) or ""
    given = [*tree.args, *tree.keywords]
    arguments = [ast.get_source_segment(call, argument) or "" for argument in given]
    line = listed(f"{function}(", arguments, ")", len("    case = "))
    if "\n" not in line or not function.startswith("Case"):
        return line
    return f"{function}(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"


def _cell(text: str) -> str:
    return _one_line(text).replace("|", r"\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _own_name(message: str) -> str:
    """Return a message in which a file that was given to check goes by its own name."""
    return re.sub(r"\b_rnn_harness_subject_(\w+\.)", r"\1", message)
