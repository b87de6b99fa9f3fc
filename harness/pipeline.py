"""The way of a subject through the rooms: it is examined, and each finding is explained, judged and kept, then told."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.checks.own import KnownFailure
from harness.diagnosis.investigate import Investigation
from harness.oracle.arithmetic import accepted
from harness.report.checked import Checked
from harness.report.place import DIRECTORY
from harness.report.progress import shown
from harness.report.severity import Told, in_order
from harness.search.crew import Crew
from harness.search.examination import Examination, examine
from harness.search.hunt import Progress, Search
from harness.search.log import Log
from harness.search.preparation import asked_scope
from harness.search.scan import Observe
from harness.search.shards import Shard
from harness.space.contract import KERNEL
from harness.space.scope import Scope
from harness.store.keep import Keeping
from harness.store.own import read as read_own
from harness.subjects.capabilities import Capabilities
from harness.subjects.protocol import Subject
from harness.subjects.registry import as_subject


@dataclass(frozen=True)
class Examined:
    """A subject's examination, and its findings with all that reports tell of them, in the order of the search."""

    examination: Examination
    told: tuple[Told, ...]
    capabilities: Capabilities
    """The subject's capabilities."""
    log: Log | None = None
    """The log of a shard, case by case; ``None`` for a whole run."""


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
    own: Sequence[KnownFailure] = (),
    shard: Shard | None = None,
) -> Examined:
    """Search a subject's cases, explain, judge and keep each finding as soon as there is one, and check the rest.

    The search is that of ``hunt``, or a ``shard`` of it. ``examine`` checks the rest, in the first shard only. Findings
    are kept in ``folder``; ``warn`` is told of those that cannot be. ``progress`` is told of the search, and
    ``observe`` of each of its cases. ``own`` are known failures, which the search goes around.
    """
    within = accepted(tolerance)
    keeping = Keeping(subject, folder, within, tolerance, warn)
    investigation = Investigation(subject, within)
    with Search(
        subject,
        scope,
        cases=cases,
        seconds=seconds,
        seed=seed,
        accepted=within,
        progress=progress,
        crew=crew,
        observe=observe,
        own=own,
        shard=shard,
    ) as search:
        for finding in search:
            recognised = investigation.recognise(finding, search.record)
            if recognised.earlier is None:
                keeping(finding, investigation.known_of(finding))
            search.go_on(recognised)
    done = Examination(search.record, contract=contract)
    if shard is None or shard.number == 1:
        done = examine(subject, search.record, cases=cases, contract=contract)
    told = []
    for finding in done.hunt.findings:
        explanation = investigation.known_of(finding)
        if finding.id not in keeping.places:  # the search ended before it was explained, or while it was kept
            keeping(finding, explanation)
        told.append(Told(finding, explanation, keeping.places[finding.id], done.hunt.known[finding.id]))
    return Examined(done, tuple(told), subject.capabilities, None if shard is None else search.log)


def check(
    subject: Any,
    *,
    cases: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    contract: str | None = None,
    tolerance: str = "derived",
    findings: str = DIRECTORY,
    known: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    **only: Any,
) -> Checked:
    """Search for a case on which ``subject`` fails, and explain it, as ``rnn-harness check`` does, in this process.

    ``subject`` is a function ``rnn(x, h0, weights, config) -> (output, h_n)``, a drop-in class for ``nn.RNN``, a
    ``Subject``, or the name of one. The options are the command's; ``only`` pins factors, as ``Scope.only`` does.
    Findings are kept in the folder ``findings``; ``known`` is a file of known failures. Unless ``quiet``, the progress
    is shown on standard error, or in a notebook as a line below the cell.

    Raises ``UsageError`` for options that make no sense, and ``SubjectError`` if ``subject`` cannot be a subject.
    """
    subject = as_subject(subject)
    contract = subject.capabilities.contract if contract is None else contract
    scope = asked_scope(subject, (), only, contract)
    own, idle = ([], []) if known is None else read_own(Path(known))
    for said in idle:
        warnings.warn(said, stacklevel=2)
    with shown(subject.name, Console(stderr=True, quiet=quiet)) as progress:
        done = go_through(
            subject,
            scope,
            folder=findings,
            warn=lambda said: warnings.warn(said, stacklevel=3),
            tolerance=tolerance,
            cases=cases,
            seconds=seconds,
            seed=seed,
            contract=contract,
            progress=progress,
            own=own,
        )
    return Checked(done.examination, tuple(in_order(done.told)), tolerance)
