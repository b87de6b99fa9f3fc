"""Keeping a finding on disk: the case, the record, and what its reader may need, each in a file of its own."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from harness.explain.investigate import Explanation
from harness.explain.reproduce.literals import FILE
from harness.explain.reproduce.script import NAME
from harness.oracle.arithmetic import STRICT, Accepted
from harness.report.issue import issue_of, regression_test
from harness.report.place import Kept
from harness.report.record import finding_record
from harness.search.hang import Hang
from harness.search.hunt import Finding
from harness.store.findings import Store
from harness.store.scripts import offer
from harness.subjects.protocol import Subject

ISSUE: Final = "issue.md"
TEST: Final = "test_regression.py"


def keep(
    finding: Finding,
    explanation: Explanation,
    subject: Subject,
    directory: str | Path,
    *,
    accepted: Accepted = STRICT,
    tolerance: str = "derived",
) -> Kept:
    """Write a finding into a folder of its own below ``directory``, with a script that was run.

    Raises ``OSError`` if that fails.
    """
    with TemporaryDirectory(prefix="rnn-harness-") as place:
        folder = Path(place)
        try:
            made = offer(finding, subject, folder, accepted=accepted, outcome=explanation.outcome)
            reason = made.reason
        except Hang:
            reason = "it hangs, and a script would hang, too"
        files = {name: (folder / name).read_bytes() for name in (NAME, FILE) if (folder / name).exists()}
    script = files.get(NAME)
    said = issue_of(finding, explanation, None if script is None else script.decode())
    texts: dict[str, str | bytes] = {**files, ISSUE: said}
    if finding.result.failure is None:  # a test that hangs, or ends its process, would take all others with it
        texts[TEST] = regression_test(finding)
    saved = Store(directory).save(finding, finding_record(finding, explanation), texts, tolerance=tolerance)
    return Kept(saved, ("case.json", "finding.json", *texts), NAME if script is not None else None, reason)
