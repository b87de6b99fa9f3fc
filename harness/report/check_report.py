"""The result of ``harness.check``: it prints as the command's report, and shows maps of its errors in a notebook."""

from dataclasses import dataclass
from typing import Any

from harness.checks.result import Verdict
from harness.report import wording
from harness.report.escaping_console import printed
from harness.report.facts import code_of
from harness.report.finding_entry import SubjectFindings, entry_of
from harness.report.page import piece
from harness.report.reported_finding import ReportedFinding
from harness.report.terminal import headline, shapes_rows, subject_report
from harness.search.examination import Examination

# The columns of the printed report: JupyterLab with its side bar shows 110 of them in a window of 1300 pixels.
REPORT_COLUMNS = 100


@dataclass(frozen=True, repr=False)
class CheckReport:
    """The result of ``check``; it prints as the command's report."""

    summary: SubjectFindings

    @property
    def examination(self) -> Examination:
        """The results of all parts of the check."""
        return self.summary.examination

    @property
    def findings(self) -> tuple[ReportedFinding, ...]:
        """The findings, the gravest first."""
        return self.summary.findings

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the subject; ``None`` if there is none."""
        return self.examination.verdict

    @property
    def agrees(self) -> bool:
        """True if the subject agrees with nn.RNN."""
        return self.verdict is Verdict.AGREES

    @property
    def cause(self) -> str | None:
        """The cause of the gravest finding, or how it fails; ``None`` without a finding."""
        return self.findings[0].cause if self.findings else None

    @property
    def certain(self) -> bool:
        """True if that cause is certain."""
        return bool(self.findings) and self.findings[0].certain

    def __str__(self) -> str:
        return printed(subject_report(self.summary), REPORT_COLUMNS)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return piece(self._pieces())

    def _pieces(self) -> dict[str, Any]:
        shown = {
            "tone": wording.tone(self.verdict),
            "verdict": headline(self.summary),
            "more": [entry_of(finding).headline for finding in self.findings[1:]],
            "text": str(self),
        }
        if not self.findings:
            return {**shown, "cause": None, "sure": "", "code": {}, "error_maps": None, "shapes": []}
        first = self.findings[0]
        return {
            **shown,
            "cause": first.cause,
            "sure": first.certainty,
            "code": code_of(first.facts),
            "error_maps": first.error_maps,
            "shapes": shapes_rows(first.finding.case.config),
        }
