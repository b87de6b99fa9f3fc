"""Observations: the cases of a search, each as a line in Hypothesis's observability format, which Tyche shows.

The format is documented at https://hypothesis.readthedocs.io/en/latest/reference/integrations.html#observability.
"""

import json
from typing import Any

from harness.checks.case_checks import against
from harness.checks.result import Result, Verdict, is_id
from harness.report.facts import failure_line
from harness.report.json_record import as_json
from harness.report.wording import COMPARISON_WORDS
from harness.search.checker import CheckedCase
from harness.space.scope import factors_of


def observation(checked: CheckedCase, subject: str, seed: int, run_start: float) -> str:
    """Return a case of a subject's search as a line of JSON; ``run_start`` is when the search began, as Unix time."""
    planned, result = checked.planned, checked.result
    status, reason = _status(result)
    values = {"distribution": planned.distribution, "seed": planned.seed}
    record = {
        "type": "test_case",
        "run_start": run_start,
        "property": subject,
        "status": status,
        "status_reason": reason,
        "representation": f"draw({planned.config!r}, distribution={planned.distribution!r}, seed={planned.seed})",
        "arguments": {"config": planned.config.to_dict(), **values},
        "how_generated": f"by the plan of a search, --seed {seed}",
        "features": {**factors_of(planned.config), "distribution": planned.distribution, **_comparison(result)},
        "timing": {"execute:test": checked.seconds},
        "coverage": None,
        "metadata": {"traceback": result.traceback or None},
    }
    return json.dumps(as_json(record), allow_nan=False) + "\n"


def _status(result: Result) -> tuple[str, str]:
    """Return the status, and the reason for it if the case did not pass."""
    if result.verdict is Verdict.UNSUPPORTED:
        return "gave_up", failure_line(result)
    if against(result):
        return "failed", failure_line(result)
    if result.known_as is not None and is_id(result.known_as):
        return "failed", f"has the cause of finding {result.known_as}"
    return "passed", ""


def _comparison(result: Result) -> dict[str, Any]:
    """Return how a case was compared, what else was asked of it, and the known issue that it shows."""
    if result.verdict is Verdict.UNSUPPORTED:
        return {}
    known = {} if result.known_as is None or is_id(result.known_as) else {"known issue": result.known_as}
    return {"compared": COMPARISON_WORDS[result.method], **{f"also: {check}": True for check in result.also}, **known}
