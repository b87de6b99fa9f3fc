"""Keeping findings on disk: the case, the record, and what a reader may need, each in a file of its own."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from harness.checks.malformed import MalformedCallAnswers
from harness.checks.result import ComparisonMethod
from harness.diagnosis.finding_explainer import Explanation
from harness.diagnosis.script.script_text import ARRAYS_FILE, NAME, script_of_refusals
from harness.diagnosis.script.user import NoScript
from harness.oracle.arithmetic_assumptions import STRICT, AcceptedErrors, with_measured
from harness.report.finding_entry import entry_of_stored
from harness.report.finding_files import ISSUE, FindingFiles
from harness.report.issue import issue_of, regression_test
from harness.report.json_record import finding_record
from harness.report.reported_finding import reported
from harness.search.deadline import DeadlineSubject, Hang
from harness.search.search_record import Finding
from harness.space.atomic import write_text
from harness.store.finding_folders import Store
from harness.store.scripts import SCRIPT_SECONDS, offer
from harness.subjects.protocol import Subject

TEST: Final = "test_regression.py"


def keep(
    finding: Finding,
    explanation: Explanation,
    subject: Subject,
    directory: str | Path,
    *,
    accepted: AcceptedErrors = STRICT,
    tolerance: str = "derived",
    source: str = "",
    with_script: bool = True,
    until: float = math.inf,
) -> FindingFiles:
    """Write a finding into a folder of its own below ``directory``, with a script that was run, which takes longest.

    The script may run up to ``until`` (``time.perf_counter``). What an earlier search has kept of the same ``source``
    stays where this one was cut short and knows less. Raises ``OSError`` if that fails.
    """
    store, report = Store(directory), reported(finding, explanation)
    record = {**finding_record(report), "source": source}
    cut_short = explanation.why_unknown or not finding.minimal
    if cut_short and (before := store.more_complete(finding, record)) is not None:
        return replace(before.files, earlier=entry_of_stored(before).headline)
    with TemporaryDirectory(prefix="rnn-harness-") as place:
        folder, reason, remaining = Path(place), "an interrupt came before it was run", until - time.perf_counter()
        try:
            if with_script and remaining > 0:
                offered = offer(
                    *(finding, subject, folder),
                    accepted=accepted,
                    tolerance=tolerance,
                    outcome=explanation.outcome,
                    timeout=min(remaining, SCRIPT_SECONDS),
                )
                reason = offered.reason
            elif with_script:
                reason = "the time was over before it was run"
        except Hang:
            reason = "it hangs, and a script would hang, too"
        files = {name: (folder / name).read_bytes() for name in (NAME, ARRAYS_FILE) if (folder / name).exists()}
    script = files.get(NAME)
    issue = issue_of(report, None if script is None else script.decode())
    texts: dict[str, str | bytes] = {**files, ISSUE: issue}
    # A test that hangs, or ends its process, would take all others with it; and one call shows no relation of chance. A
    # large case is no test that anyone runs each time.
    if (
        finding.result.failure is None
        and finding.result.method is not ComparisonMethod.DROPOUT
        and not finding.case.is_large
    ):
        texts[TEST] = regression_test(finding)
    saved = store.save(finding, record, texts, tolerance=tolerance)
    names = ("case.json", "finding.json", *texts)
    return FindingFiles(saved, names, None if script is None else NAME, reason, own=store.owns(finding.id))


@dataclass
class FindingKeeper:
    """The keeping of one subject's findings, each as soon as it is explained."""

    subject: Subject
    folder: str
    accepted: AcceptedErrors  # The tolerance of the search; a finding may have been found under a looser one
    tolerance: str  # The tolerance as its user wrote it
    warn: Callable[[str], None]  # The function that hears of a finding that could not be kept
    until: float = math.inf  # The moment up to which scripts may run, by ``time.perf_counter``
    # The places, by the finding's id; ``None`` where a finding could not be kept.
    places: dict[str, FindingFiles | None] = field(default_factory=dict)
    _source: str = field(init=False)  # as it was before the search: the file may change while that goes on

    def __post_init__(self) -> None:
        """Note what is checked."""
        self._source = self.subject.capabilities.source

    def __call__(self, finding: Finding, explanation: Explanation, *, with_script: bool = True) -> None:
        """Keep a finding; a folder that cannot be written to costs a warning, not the report."""
        subject = DeadlineSubject(self.subject)
        within = self.accepted if finding.accepted is None else finding.accepted
        tolerance = with_measured(self.tolerance, within, finding.case.config.plain.dtype)
        try:
            saved = keep(
                *(finding, explanation, subject, self.folder),
                accepted=within,
                tolerance=tolerance,
                source=self._source,
                with_script=with_script,
                until=self.until,
            )
        except OSError as error:
            saved = None
            self.warn(f"--findings {self.folder}: the finding could not be kept: {error}")
        self.places[finding.id] = saved

    def refusals(self, refusals: MalformedCallAnswers) -> None:
        """Write a script that makes the malformed calls that are not refused, if one can."""
        path = Path(self.folder) / "malformed_{}.py".format(re.sub(r"\W+", "_", self.subject.name).strip("_"))
        try:
            text = script_of_refusals(self.subject.name, self.subject, refusals)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except NoScript:
            return
        except OSError as error:
            self.warn(f"--findings {self.folder}: the script of malformed calls could not be kept: {error}")
            return
        refusals.script = str(path)
