"""upgrade: what differs between two environments, in a few lines, and as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from harness.checks.compare_subjects import Apart
from harness.diagnosis.upgrade import Defect, Standing, Upgrade
from harness.report.facts import cause_of, failure_line
from harness.report.markdown import code, plain
from harness.report.paper import fact_table
from harness.report.record import as_json
from harness.report.severity import Told
from harness.report.wording import counted, left_out, place
from harness.search.common import Behaviour
from harness.subjects.ground import line

SHOWN: Final = 8
"""The number of defects of a standing, and of behaviours, that get a line."""

_STYLES: Final = {Standing.NEW: "bold red", Standing.OLD: "bold yellow", Standing.GONE: "bold green"}

NAMES: Final = {Standing.NEW: "new", Standing.OLD: "in both", Standing.GONE: "gone"}
"""The words for where a defect is."""


def upgrade_report(upgrade: Upgrade, told: Sequence[Told], *, quiet: bool = False) -> RenderableType:
    """Return how two environments differ, in one line if ``quiet``; ``told`` are the findings of both."""
    head, facts = Text(headline(upgrade), _style(upgrade)), fact_table()
    for name, said in upgrade_lines(upgrade, told):
        facts.add_row(name, Text(said))
    return head if quiet else Group("", head, Padding(facts, (0, 0, 0, 2)))


def upgrade_markdown(upgrade: Upgrade, told: Sequence[Told]) -> str:
    """Return the same as a section of the summary for CI."""
    rows = (f"- {name}: {code(said)}" for name, said in upgrade_lines(upgrade, told))
    return "\n".join([f"\n### {plain(headline(upgrade))}\n", *rows, ""])


def upgrade_lines(upgrade: Upgrade, told: Sequence[Told]) -> Iterator[tuple[str, str]]:
    """Yield the facts, each with its name: what is new first."""
    for standing in Standing:
        for said in _some([defect_line(one, told) for one in upgrade.of(standing)]):
            yield NAMES[standing], said
    values = {one.what: _each(one) for one in upgrade.behaviour if not one.cases}
    lines = [f"{', '.join(names)}: {each}" for each, names in left_out(values).items()]
    lines += [behaviour_line(one) for one in upgrade.behaviour if one.cases]
    for said in _some(lines):
        yield "behaviour", said
    yield from numbers(upgrade)
    for name, hunt in (("from", upgrade.old), ("to", upgrade.new)):
        yield name, f"{hunt.subject} ({line(hunt.ground)})" if hunt.ground else hunt.subject


def headline(upgrade: Upgrade) -> str:
    """Return in a sentence what the upgrade brings."""
    new, both, gone = (len(upgrade.of(standing)) for standing in Standing)
    rest = [f"{number} {name}" for number, name in ((both, "in both"), (gone, "gone")) if number]
    return "; ".join([f"the upgrade brings {counted(new, 'new finding') if new else 'no new finding'}", *rest])


def _style(upgrade: Upgrade) -> str:
    return next((style for standing, style in _STYLES.items() if upgrade.of(standing)), _STYLES[Standing.GONE])


def _some(lines: Sequence[str]) -> list[str]:
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [*lines[:SHOWN], *more]


def defect_line(defect: Defect, told: Sequence[Told]) -> str:
    """Return a defect in a line: the id and the cause of a finding, or the value that is not supported."""
    if defect.finding is None:
        return f"fails at {defect.what}: {failure_line(defect.result)}"
    cause, sure = cause_of(next(one for one in told if one.finding.id == defect.finding.id))
    return f"{defect.finding.id}  {cause}{f' ({sure})' if sure else ''}"


def behaviour_line(one: Behaviour) -> str:
    """Return in a line what each of the two environments does."""
    cases = f" ({counted(one.cases, 'case')})" if one.cases else ""
    return f"{one.what}{cases}: {_each(one)}"


def _each(one: Behaviour) -> str:
    return f"the old one {one.old}; the new one {one.new}"


def numbers(upgrade: Upgrade) -> Iterator[tuple[str, str]]:
    """Yield what became of the numbers of the cases that both computed."""
    yield "equal", f"{upgrade.equal:,} of {counted(upgrade.compared, 'case')} that both compute, to the bit"
    if upgrade.largest is not None:
        yield "rounding", f"{counted(upgrade.rounded, 'case')}, by at most {_apart_line(upgrade.largest)}"
    if upgrade.beyond:
        said = f"{counted(len(upgrade.beyond), 'case')}, as a finding or a known cause tells; first by"
        yield "beyond", f"{said} {_apart_line(upgrade.beyond[0])}"
    if upgrade.left:
        yield "left", f"{counted(upgrade.left, 'case')} with other bits, not compared because the time was over"


def _apart_line(apart: Apart) -> str:
    """Return how far two results are apart at most, and where."""
    return f"{apart.share:.2g} of the allowance, at {apart.array}[{place(apart.site)}] of {apart.config!r}"


def upgrade_data(upgrade: Upgrade, told: Sequence[Told]) -> dict[str, Any]:
    """Return the same for a page, with how it is shown."""
    tone = "bad" if upgrade.of(Standing.NEW) else "warn" if upgrade.of(Standing.OLD) else "good"
    return {"headline": headline(upgrade), "tone": tone, "facts": list(upgrade_lines(upgrade, told))}


def upgrade_record(upgrade: Upgrade, told: Sequence[Told]) -> dict[str, Any]:
    """Return the same as data."""
    record = {
        "old": upgrade.old.subject,
        "new": upgrade.new.subject,
        "text": headline(upgrade),
        "findings": {standing.value: [_defect(one, told) for one in upgrade.of(standing)] for standing in Standing},
        "behaviour": [{**one._asdict(), "text": behaviour_line(one)} for one in upgrade.behaviour],
        "compared": upgrade.compared,
        "equal": upgrade.equal,
        "rounded": upgrade.rounded,
        "largest_rounding": None if upgrade.largest is None else _apart(upgrade.largest),
        "beyond": [_apart(one) for one in upgrade.beyond],
        "left": upgrade.left,
    }
    return dict(as_json(record))


def _defect(defect: Defect, told: Sequence[Told]) -> dict[str, Any]:
    finding = defect.finding
    return {
        "id": None if finding is None else finding.id,
        "value": defect.what or None,
        "kind": defect.result.kind,
        "text": defect_line(defect, told),
    }


def _apart(apart: Apart) -> dict[str, Any]:
    site = apart.site
    return {
        "config": apart.config.to_dict(),
        "array": apart.array,
        "place": dict(site.place),
        "old": site.expected,
        "new": site.actual,
        "share": apart.share,
        "text": _apart_line(apart),
    }
