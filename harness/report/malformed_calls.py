"""Reports of malformed calls that a class does not refuse, for people and as data."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from harness.checks.malformed import AcceptedMalformedCall, MalformedCallAnswers
from harness.report import wording
from harness.report.escaping_console import fact_table

TWO_LINES: Final = 140  # the characters of two lines on 80 columns, less some that words leave at their ends


def refusals_facts(refusals: MalformedCallAnswers) -> Iterator[tuple[str, str]]:
    """Yield how many malformed calls were refused, and which rules could not be asked for."""
    yield "refusals", refusals_line(refusals)
    for reason, number in wording.alike(refusals.left_out).items():
        yield "", f"{wording.counted(number, 'kind')} left out, whose well-formed call fails: {reason}"


def refusals_line(refusals: MalformedCallAnswers) -> str:
    """Return how many malformed calls were refused, and how many were not."""
    parts = [f"{refusals.refused:,} of {wording.counted(refusals.calls, 'malformed call')} refused as documented"]
    if refusals.interrupted:
        parts[0] += " until interrupted"
    if refusals.known:
        parts.append(f"not, as is known of torch: {', '.join(dict.fromkeys(refusals.known))}")
    return "; ".join(parts)


def refusals_findings(refusals: MalformedCallAnswers) -> RenderableType:
    """Return every finding."""
    return Group(*(part for finding in refusals.findings for part in ("", _finding(finding))))


def refusals_findings_in_short(refusals: MalformedCallAnswers) -> RenderableType:
    """Return a line for each wrong way to answer a malformed call: the number of kinds of calls and their names."""
    lines = [
        Padding(Text(f"{lapse} ({len(rules)}): {_some(rules, TWO_LINES - len(lapse))}"), (0, 0, 0, 2))
        for lapse, rules in by_lapse(refusals.findings).items()
    ]
    lines += [Padding(Text(f"run it: python {shlex.quote(refusals.script)}"), (0, 0, 0, 2))] if refusals.script else []
    lines.append(Padding(Text("--profile port asks for no refusals"), (0, 0, 0, 2)))
    return Group("", Text("Malformed calls that are not refused as they must be, by kind:", "bold red"), *lines)


def by_lapse(findings: Sequence[AcceptedMalformedCall]) -> dict[str, list[str]]:
    """Return the rules that are broken, by the wrong way to answer a call."""
    names: dict[str, list[str]] = {}
    for finding in findings:
        names.setdefault(finding.lapse.value, []).append(finding.rule)
    return names


def _some(names: Sequence[str], length: int) -> str:
    """Return the names that fit into a length, and how many more there are."""
    shown = "; ".join(names)
    if len(shown) <= length:
        return shown
    fitting = shown[: length - len("; ... and 10 more: -v")].split("; ")[:-1]
    return f"{'; '.join(fitting)}; ... and {len(names) - len(fitting)} more: -v"


def refusal_head(finding: AcceptedMalformedCall) -> str:
    """Return the kind of a malformed call, and the wrong way in which it was answered."""
    return f"{finding.rule}: {finding.lapse.value}"


def refusal_facts(finding: AcceptedMalformedCall) -> dict[str, str]:
    """Return what should have happened, what happened, and the call as code."""
    return {"expected": " or ".join(finding.raises), "happened": finding.happened, "code": finding.code}


def _finding(finding: AcceptedMalformedCall) -> RenderableType:
    facts = fact_table(refusal_facts(finding).items())
    return Group(Text(refusal_head(finding), "bold red"), Padding(facts, (0, 0, 0, 2)))
