"""The result of ``harness.check``: it prints as the command's report, and shows maps of its errors in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.checks.result import Verdict
from harness.report import wording
from harness.report.explained import code_lines
from harness.report.facts import cause_of
from harness.report.page import piece
from harness.report.paper import printed
from harness.report.record import maps_record
from harness.report.severity import Told
from harness.report.text import examination_report, headline, shapes_rows
from harness.search.examination import Examination

WIDTH = 100
"""The columns of the printed report: JupyterLab with its side bar shows 110 of them in a window of 1300 pixels."""


@dataclass(frozen=True, repr=False)
class Checked:
    """The result of ``check``; it prints as the command's report."""

    examination: Examination
    told: tuple[Told, ...]  # the findings with their explanations, the gravest first

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
        return printed(examination_report(self.examination, self.told), WIDTH)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return piece(self._pieces())

    def _pieces(self) -> dict[str, Any]:
        said = {
            "tone": wording.tone(self.verdict),
            "verdict": headline(self.examination, self.told),
            "more": [cause_of(one)[0] for one in self.told[1:]],
            "text": str(self),
        }
        if not self.told:
            return {**said, "cause": None, "sure": "", "code": {}, "error_maps": None, "shapes": []}
        first = self.told[0]
        cause, sure = cause_of(first)
        config, maps = first.finding.case.config, first.explanation.error_maps
        return {
            **said,
            "cause": cause,
            "sure": sure,
            "code": code_lines(first.explanation.diagnosis, config),
            "error_maps": None if maps is None else maps_record(maps),
            "shapes": shapes_rows(config),
        }
