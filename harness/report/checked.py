"""The result of ``harness.check``: it prints as the command's report, and shows its picture in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from typing import Any

from harness.checks.result import Verdict
from harness.report import wording
from harness.report.explained import code_lines
from harness.report.page.render import available, piece
from harness.report.paper import Paper
from harness.report.picture import picture_record, shapes_rows
from harness.report.severity import Told
from harness.report.short import cause_of
from harness.report.text import examination_report, headline
from harness.search.examination import Examination

WIDTH = 100
"""The columns of the printed report: JupyterLab with its side bar shows 110 of them in a window of 1300 pixels."""


@dataclass(frozen=True, repr=False)
class Checked:
    """The result of ``check``; it prints as the command's report."""

    examination: Examination
    told: tuple[Told, ...]
    """The findings with their explanations, the gravest first."""
    tolerance: str = "derived"

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
        return cause_of(self.told[0])[0] if self.told else None

    @property
    def certain(self) -> bool:
        """True if that cause is certain."""
        return bool(self.told) and self.told[0].certain

    def __str__(self) -> str:
        text = StringIO()
        paper = Paper(file=text, width=WIDTH, highlight=False, force_jupyter=False, force_terminal=False)
        paper.print(examination_report(self.examination, self.told, self.tolerance))
        return text.getvalue().rstrip("\n")

    __repr__ = __str__

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows; ``None``, and so the text, if what draws it is not installed."""
        return piece(self._pieces()) if available() else None

    def _pieces(self) -> dict[str, Any]:
        said = {
            "tone": wording.tone(self.verdict),
            "verdict": headline(self.examination, self.told),
            "more": [cause_of(one)[0] for one in self.told[1:]],
            "text": str(self),
        }
        if not self.told:
            return {**said, "cause": None, "sure": "", "code": {}, "picture": None, "shapes": []}
        first = self.told[0]
        cause, sure = cause_of(first)
        config, picture = first.finding.case.config, first.explanation.picture
        return {
            **said,
            "cause": cause,
            "sure": sure,
            "code": code_lines(first.explanation.diagnosis, config),
            "picture": None if picture is None else picture_record(picture),
            "shapes": shapes_rows(config),
        }
