"""The way of a subject through the rooms: it is examined, and each finding is explained, judged and kept, then told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.diagnosis.investigate import Investigation
from harness.oracle.arithmetic import accepted
from harness.report.severity import Told
from harness.search.crew import Crew
from harness.search.examination import Examination, examine
from harness.search.hunt import Progress
from harness.search.scan import Observe
from harness.space.contract import KERNEL
from harness.space.scope import Scope
from harness.store.keep import Keeping
from harness.subjects.protocol import Subject


@dataclass(frozen=True)
class Examined:
    """A subject's examination, and its findings with all that reports tell of them, in the order of the search."""

    examination: Examination
    told: tuple[Told, ...]


def go_through(
    subject: Subject,
    scope: Scope,
    *,
    folder: str,
    warn: Callable[[str], None],
    tolerance: str = "derived",
    cases: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    contract: str = KERNEL,
    crew: Crew | None = None,
    progress: Progress | None = None,
    observe: Observe | None = None,
) -> Examined:
    """Examine a subject as ``examine`` does, and explain, judge and keep each finding as soon as there is one.

    Findings are kept in ``folder``; ``warn`` is told of those that cannot be. ``progress`` is told of the search, and
    ``observe`` of each of its cases.
    """
    within = accepted(tolerance)
    keeping = Keeping(subject, folder, within, tolerance, warn)
    investigation = Investigation(subject, within, keeping)
    done = examine(
        subject,
        scope,
        cases=cases,
        seconds=seconds,
        seed=seed,
        accepted=within,
        progress=progress,
        recognise=investigation.recognise,
        crew=crew,
        contract=contract,
        observe=observe,
    )
    told = []
    for finding in done.hunt.findings:
        explanation = investigation.known_of(finding)
        if finding.id not in keeping.places:  # an interrupt came while it was kept
            keeping(finding, explanation)
        told.append(Told(finding, explanation, keeping.places[finding.id], done.hunt.known[finding.id]))
    return Examined(done, tuple(told))
