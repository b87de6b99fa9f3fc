"""Reports of a search for missing refusals, for people and as data."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.checks.breaks import Break, Variant
from harness.report import wording
from harness.search.refusals import Refusals, Wrong
from harness.subjects.answer import Answer, Kind
from harness.subjects.recipes import RECIPES

_LINE: Final = 70
"""The characters of a line on 80 columns, less some that words leave at its end."""

_MORE: Final = len("; ... and 10 more: -v")

_OUTCOMES: Final = {Kind.ACCEPTED: "accepted", Kind.CRASHED: "the process ended", Kind.HUNG: "it hung"}


def add_refusals(facts: Table, refusals: Refusals) -> None:
    """Add to a table of facts the numbers of malformed calls made and refused, and the known deviations met."""
    so_far = "; interrupted" if refusals.interrupted else ""
    calls = f"{wording.counted(refusals.calls, 'malformed call')} of {wording.counted(len(refusals.tried), 'kind')}"
    facts.add_row("refusals", f"{calls} in {refusals.seconds:.1f} s{so_far}; --seed {refusals.seed}")
    facts.add_row("", f"{refusals.refused:,} refused as they must be")
    if refusals.late:
        facts.add_row("", f"{refusals.late.total():,} of these later than possible: {_tally(refusals.late)}")
    if refusals.unsupported:
        facts.add_row("", f"{refusals.unsupported:,} that the subject does not support")
    if refusals.known:
        named = Counter({deviation.name: number for deviation, number in refusals.known.items()})
        facts.add_row("", f"known deviations of torch: {_tally(named)}")
    for said, number in wording.alike(refusals.unusable).items():
        facts.add_row("left out", Text(f"{wording.counted(number, 'well-formed call')} that failed: {said}"))


def add_refusals_in_short(facts: Table, refusals: Refusals) -> None:
    """Add the same in one line, and one more line for well-formed calls that were not accepted."""
    facts.add_row("refusals", refusals_line(refusals))
    if unusable := refusals.unusable:
        calls, said = wording.counted(unusable.total(), "well-formed call"), next(iter(unusable))
        facts.add_row("", Text(f"{calls} failed, so left out: {said}", no_wrap=True, overflow="ellipsis"))


def refusals_line(refusals: Refusals) -> str:
    """Return how many malformed calls were refused, and how many were not."""
    so_far = " until interrupted" if refusals.interrupted else ""
    calls = wording.counted(refusals.calls, "malformed call")
    parts = [f"{refusals.refused:,} of {calls} refused as documented{so_far}"]
    if refusals.deviating:
        parts.append(f"{refusals.deviating:,} not, by known deviations of torch")
    if refusals.unsupported:
        parts.append(f"{refusals.unsupported:,} not supported")
    return "; ".join(parts)


def refusals_findings(refusals: Refusals) -> RenderableType:
    """Return every finding."""
    return Group(*(part for wrong in refusals.findings for part in ("", _finding(refusals.subject, wrong))))


def refusals_findings_in_short(refusals: Refusals) -> RenderableType:
    """Return a line for each wrong way to answer a malformed call: the number of kinds of calls and their names."""
    if not refusals.findings:
        return Group()
    names: dict[str, list[str]] = {}
    for wrong in refusals.findings:
        assert wrong.refusal.lapse is not None  # true of every finding
        names.setdefault(wrong.refusal.lapse.value, []).append(wrong.broken.name)
    lines = []
    for lapse, kinds in names.items():
        said = f"{lapse} ({len(kinds)}): "
        lines.append(Padding(Text(said + _some(kinds, _LINE - len(said))), (0, 0, 0, 2)))
    lines.append(Padding(Text("--contract port asks for no refusals"), (0, 0, 0, 2)))
    return Group("", Text("Malformed calls that are not refused as they must be, by kind:", "bold red"), *lines)


def _some(names: list[str], length: int) -> str:
    """Return as many names as fit into the length, and how many more there are."""
    if len("; ".join(names)) <= length:
        return "; ".join(names)
    shown = names[:1]
    while len("; ".join(names[: len(shown) + 1])) <= length - _MORE:
        shown = names[: len(shown) + 1]
    more = len(names) - len(shown)
    return "; ".join(shown) + (f"; ... and {more} more: -v" if more else "")


def refusals_record(refusals: Refusals) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "subject": refusals.subject,
        "seed": refusals.seed,
        "calls": refusals.calls,
        "calls_by_break": dict(refusals.tried),
        "refused": refusals.refused,
        "late": dict(refusals.late),
        "unsupported": refusals.unsupported,
        "known_deviations": [
            {"name": one.name, "whose": one.whose.value, "reason": one.reason, "calls": number}
            for one, number in refusals.known.items()
        ],
        "unusable": dict(refusals.unusable),
        "seconds": refusals.seconds,
        "interrupted": refusals.interrupted,
        "findings": [_finding_record(refusals.subject, wrong) for wrong in refusals.findings],
    }


def _finding(subject: str, wrong: Wrong) -> RenderableType:
    facts = fact_table()
    for name, said in refusal_facts(subject, wrong).items():
        facts.add_row(name, Text(said))
    return Group(Text(refusal_head(wrong), "bold red"), Padding(facts, (0, 0, 0, 2)))


def refusal_head(wrong: Wrong) -> str:
    """Return the kind of a malformed call, and the wrong way in which it was answered."""
    assert wrong.refusal.lapse is not None  # true of every finding
    return f"{wrong.broken.name}: {wrong.refusal.lapse.value}"


def refusal_facts(subject: str, wrong: Wrong) -> dict[str, str]:
    """Return what is wrong with a malformed call, what should have happened, what happened, and the call as code."""
    broken = wrong.broken
    return {
        "wrong": broken.label,
        "expected": "\nor ".join(_expected(*pair) for pair in broken.breaks),
        "happened": _happened(wrong.refusal.answer),
        "well formed": f"{broken.base.config!r}, {broken.base.form.value}: accepted",
        "code": broken.call.as_code(_module(subject)),
    }


def _expected(kind: Break, variant: Variant) -> str:
    facts = ", ".join(" or ".join(fact) for fact in variant.facts)
    return f"{' or '.join(kind.raises)} in {kind.stage.value}{f', which mentions {facts}' if facts else ''}"


def _happened(answer: Answer) -> str:
    if answer.stage is not None:
        return f"{answer.classes[0]} in {answer.stage.value}: {answer.message}"
    what = ", ".join(answer.returned) or answer.message
    return f"{_OUTCOMES[answer.kind]}: {what}"


def _finding_record(subject: str, wrong: Wrong) -> dict[str, Any]:
    broken, answer = wrong.broken, wrong.refusal.answer
    return {
        "breaks": [
            {
                "name": kind.name,
                "wrong": variant.label,
                "stage": kind.stage.value,
                "raises": kind.raises,
                "facts": variant.facts,
            }
            for kind, variant in broken.breaks
        ],
        "lapse": wrong.refusal.lapse and wrong.refusal.lapse.value,
        "missing": wrong.refusal.missing,
        "answer": {
            "kind": answer.kind.value,
            "stage": answer.stage and answer.stage.value,
            "classes": answer.classes,
            "message": answer.message,
            "returned": answer.returned,
        },
        "config": broken.base.config.to_dict(),
        "form": broken.base.form.value,
        "call": dataclasses.asdict(broken.call),
        "code": broken.call.as_code(_module(subject)),
    }


def _module(subject: str) -> str:
    """Return the name of the class in code, if it is not torch's own."""
    return "" if subject in RECIPES else subject.rpartition(":")[2]


def _tally(counts: Counter[str]) -> str:
    return ", ".join(f"{what} ({number:,})" for what, number in counts.most_common())


def fact_table() -> Table:
    """Return an empty table of facts, each with its name before it."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    return facts
