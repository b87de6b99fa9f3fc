"""upgrade: the reports on one subject under an old and a new interpreter, compared.

Each search ends some cases after its last cause. So a finding that only one of them has is run under the other
interpreter before it is called new or gone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from harness.diagnosis.finding_explainer import one_cause
from harness.report import wording
from harness.report.escaping_console import OPEN_STYLE, fact_table
from harness.report.facts import failure_line
from harness.report.finding_entry import SubjectFindings, entry_of
from harness.report.markdown import code, plain
from harness.report.reported_finding import ReportedFinding
from harness.search.common_scope import Behaviour
from harness.search.search_record import Finding, SearchRecord
from harness.subjects.environment import line

DEFECTS_SHOWN: Final = 8  # defects of a standing, and differences of behaviour, that get a line

Shows = Callable[[Finding], bool]  # runs a finding under an interpreter and tells whether it fails there


class DefectStanding(Enum):
    """The interpreters that have a defect: the new one alone, both, or the old one alone."""

    NEW = "new"
    BOTH = "in both"
    GONE = "gone"


_STYLES: Final = {DefectStanding.NEW: "bold red", DefectStanding.BOTH: OPEN_STYLE, DefectStanding.GONE: "bold green"}
_TONES: Final = {DefectStanding.NEW: "bad", DefectStanding.BOTH: "warn", DefectStanding.GONE: "good"}


class Defect(NamedTuple):
    """A finding, or a value that a subject neither supports nor refuses, and where it is."""

    standing: DefectStanding
    text: str
    kind: str
    id: str = ""


@dataclass(frozen=True)
class UpgradeComparison:
    """All that differs between an old and a new interpreter."""

    old: SubjectFindings
    new: SubjectFindings
    defects: tuple[Defect, ...]
    behaviour: tuple[Behaviour, ...]
    compared: int  # the cases of which both have the bits
    equal: int  # those of them whose bits are the same

    @property
    def worst(self) -> DefectStanding:
        """The standing that decides: the new interpreter's defects first."""
        return min(
            (defect.standing for defect in self.defects), key=list(DefectStanding).index, default=DefectStanding.GONE
        )

    def of(self, standing: DefectStanding) -> list[Defect]:
        """Return the defects of a standing."""
        return [defect for defect in self.defects if defect.standing is standing]


def compared(
    old: SubjectFindings, new: SubjectFindings, behaviour: Sequence[Behaviour], shows: tuple[Shows, Shows]
) -> UpgradeComparison:
    """Compare the reports of an old and a new interpreter. ``shows`` run a finding under the old and the new one."""
    earlier, later = old.examination.hunt, new.examination.hunt
    bits: list[tuple[str, str]] = []
    if (earlier.scope, earlier.log.planned) == (later.scope, later.log.planned):  # else their plans are not the same
        before = {case.number: case.bits for case in earlier.log.cases}
        pairs = ((before.get(case.number, ""), case.bits) for case in later.log.cases)
        bits = [both for both in pairs if all(both)]
    return UpgradeComparison(
        old,
        new,
        (*_findings(old.findings, new.findings, shows), *_unrefused(earlier, later)),
        (*behaviour, *_gradients(earlier, later)),
        len(bits),
        sum(first == second for first, second in bits),
    )


def _findings(
    old: Sequence[ReportedFinding], new: Sequence[ReportedFinding], shows: tuple[Shows, Shows]
) -> Iterator[Defect]:
    pairs: set[str] = set()
    for later in new:
        twins = {twin.id for twin in old if twin.id == later.id or one_cause(twin.identity, later.identity)}
        pairs |= twins
        yield _defect(later, DefectStanding.BOTH if twins or shows[0](later.finding) else DefectStanding.NEW)
    for earlier in old:
        if earlier.id in pairs:
            continue
        if not shows[1](earlier.finding):
            yield _defect(earlier, DefectStanding.GONE)
        elif not any(twin.identity.like == earlier.identity.like for twin in new):  # else it is one of those
            yield _defect(earlier, DefectStanding.BOTH)


def _defect(finding: ReportedFinding, standing: DefectStanding) -> Defect:
    return Defect(standing, f"{finding.id}  {entry_of(finding).headline}", finding.finding.result.kind, finding.id)


def _unrefused(old: SearchRecord, new: SearchRecord) -> Iterator[Defect]:
    """Yield the values that one neither supports nor refuses."""
    for what, (_, result) in {**old.unsupported_unrefused, **new.unsupported_unrefused}.items():
        standing = (
            DefectStanding.GONE
            if what not in new.unsupported_unrefused
            else DefectStanding.BOTH
            if what in old.unsupported_unrefused
            else DefectStanding.NEW
        )
        yield Defect(standing, f"fails at {what}: {failure_line(result)}", result.kind)


def _gradients(old: SearchRecord, new: SearchRecord) -> Iterator[Behaviour]:
    words = ("does not return it", "returns it")
    for name in sorted(set(old.not_compared) ^ set(new.not_compared)):
        what = "the output" if name == "output" else f"the gradient by {name}"
        yield Behaviour(what, *(words if name in old.not_compared else words[::-1]))


def headline(upgrade: UpgradeComparison) -> str:
    """Return in a sentence what the upgrade brings."""
    new, both, gone = (len(upgrade.of(standing)) for standing in DefectStanding)
    rest = [f"{number} {name}" for number, name in ((both, "in both"), (gone, "gone")) if number]
    news = wording.counted(new, "new finding") if new else "no new finding"
    return "; ".join([f"the upgrade brings {news}", *rest])


def upgrade_facts(upgrade: UpgradeComparison) -> Iterator[tuple[str, str]]:
    """Yield the facts, each with its name: what is new first."""
    for standing in DefectStanding:
        for text in _some([defect.text for defect in upgrade.of(standing)]):
            yield standing.value, text
    values = {difference.what: _each(difference) for difference in upgrade.behaviour}
    for text in _some([f"{', '.join(names)}: {each}" for each, names in wording.left_out(values).items()]):
        yield "behaviour", text
    yield "equal", equal_line(upgrade)
    for name, summary in (("from", upgrade.old), ("to", upgrade.new)):
        environment = summary.examination.hunt.environment
        yield name, f"{summary.subject} ({line(environment)})" if environment else summary.subject


def equal_line(upgrade: UpgradeComparison) -> str:
    """Return how many cases have the same bits."""
    return f"{upgrade.equal:,} of {wording.counted(upgrade.compared, 'case')} that agree under both, to the bit"


def behaviour_line(difference: Behaviour) -> str:
    """Return in a line what each of the two interpreters does."""
    return f"{difference.what}: {_each(difference)}"


def _each(difference: Behaviour) -> str:
    return f"the old one {difference.old}; the new one {difference.new}"


def _some(lines: Sequence[str]) -> list[str]:
    more = [f"and {len(lines) - DEFECTS_SHOWN} more"] if len(lines) > DEFECTS_SHOWN else []
    return [*lines[:DEFECTS_SHOWN], *more]


def upgrade_report(upgrade: UpgradeComparison, *, quiet: bool = False) -> RenderableType:
    """Return how two interpreters differ, in one line if ``quiet``."""
    head = Text(headline(upgrade), _STYLES[upgrade.worst])
    return head if quiet else Group("", head, Padding(fact_table(upgrade_facts(upgrade)), (0, 0, 0, 2)))


def upgrade_markdown(upgrade: UpgradeComparison) -> str:
    """Return the same as a section of the summary for CI."""
    rows = (f"- {name}: {code(text)}" for name, text in upgrade_facts(upgrade))
    return "\n".join([f"\n### {plain(headline(upgrade))}\n", *rows, ""])


def upgrade_data(upgrade: UpgradeComparison) -> dict[str, Any]:
    """Return the same for a page, with how it is shown."""
    return {"headline": headline(upgrade), "tone": _TONES[upgrade.worst], "facts": list(upgrade_facts(upgrade))}


def upgrade_record(upgrade: UpgradeComparison) -> dict[str, Any]:
    """Return the same as data."""
    return {
        "old": upgrade.old.subject,
        "new": upgrade.new.subject,
        "text": headline(upgrade),
        "findings": {
            standing.name.lower(): [
                {"id": defect.id, "text": defect.text, "kind": defect.kind} for defect in upgrade.of(standing)
            ]
            for standing in DefectStanding
        },
        "behaviour": [{**difference._asdict(), "text": behaviour_line(difference)} for difference in upgrade.behaviour],
        "compared": upgrade.compared,
        "equal": upgrade.equal,
    }
