"""Reports as plain data, for --json. What ``merge`` and ``coverage`` read again is written by the types (``codec``)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, fields
from typing import Any, cast

from harness.checks.malformed import MalformedCallAnswers
from harness.checks.result import Result
from harness.checks.vacuous import MISTAKES
from harness.report import wording
from harness.report.codec import encode
from harness.report.coverage_words import shares_record
from harness.report.finding_entry import SubjectFindings
from harness.report.finding_files import SavedFinding
from harness.report.reported_finding import ReportedFinding
from harness.search.evidence import Suspicion
from harness.search.plan_shards import Shard
from harness.search.search_record import Helpers, SearchRecord


@dataclass(frozen=True)
class RunOptions:
    """The options of a run: all its subjects and all shards of a search share them."""

    subjects: tuple[str, ...]  # that were asked for
    seed: int
    examples: int | None
    time: float | None
    tolerance: str
    timeout: float
    versions: dict[str, str]
    shard: Shard | None = None

    def difference(self, run: RunOptions) -> str | None:
        """Return the first thing that is different in another run, and what is expected; ``None`` if nothing is."""
        for field in fields(self):
            here, there = getattr(self, field.name), getattr(run, field.name)
            if field.name == "shard":
                here, there = here and here.of, there and there.of
            if here != there:
                return f"{field.name}={here!r}: expected {there!r}"
        return None


def run_record(run: RunOptions) -> dict[str, Any]:
    """Return what a report says of the run as a whole."""
    return {"run": encode(run, RunOptions)}


def subject_record(summary: SubjectFindings) -> dict[str, Any]:
    """Return the report on one subject."""
    done, hunt = summary.examination, summary.examination.hunt
    return {
        "verdict": done.verdict.value if done.verdict else None,
        **encode(hunt, SearchRecord),
        **_counts(hunt),
        "profile": done.profile,
        "read_as": done.read_as,
        "stages": list(summary.stages),
        "source": summary.source,
        "place": None if summary.place is None else list(summary.place),
        "dropout": encode(done.dropout, Result | None),
        "dropout_facts": dict(done.dropout_facts),
        "of_dropout": None if summary.of_dropout is None else finding_record(summary.of_dropout),
        "refusals": encode(done.refusals, MalformedCallAnswers | None),
        "equal": None if done.equal is None else done.equal._asdict(),
        "vacuous": {mistake: hunt.vacuous[mistake] for mistake in MISTAKES},
        "unshown": wording.unshown_line(done),
        "findings": [finding_record(finding) for finding in _in_order(summary)],
    }


def _in_order(summary: SubjectFindings) -> list[ReportedFinding]:
    """Return every finding, also those that the report shows as one, in the order of the report."""
    groups = [(finding.finding, *finding.also) for finding in summary.findings]
    places = {finding.id: place for place, some in reversed([*enumerate(groups)]) for finding in some}
    return sorted(summary.in_search_order, key=lambda finding: places[finding.id])


def _counts(hunt: SearchRecord) -> dict[str, Any]:
    """Return what follows from the cases of a search."""
    findings = {finding.id for finding in hunt.findings}
    return {
        "checks": hunt.total,
        "checks_by_method": {method.name.lower(): number for method, number in hunt.checks.items()},
        "configs": hunt.coverage.configs,
        "unsupported": hunt.unsupported.total(),
        "gradients_not_compared": dict(hunt.not_compared),
        "gradients_ignored": dict(hunt.ignored),
        "known_issues": {name: number for name, number in hunt.known.items() if name not in findings},
        "known_not_seen": {name: number for name, number in hunt.spared.items() if name not in hunt.known},
        "suspicions": encode(hunt.suspicions, list[Suspicion]),
        "workers": _workers(hunt.helpers),
        "coverage": {
            "factors": {name: _share(*share) for name, share in hunt.coverage.met(hunt.scope).items()},
            "distributions": dict(hunt.coverage.distributions),
            "checks": shares_record(hunt.searched),
            "of_whole": _share(*hunt.searched.of_whole[1:]),
            "never_varied": hunt.searched.never_varied,
            "relations": dict(hunt.relations),
        },
    }


def _workers(helpers: Helpers | None) -> dict[str, Any] | None:
    if wording.helpers_line(helpers) is None or helpers is None:
        return None
    record = {"scheduler": helpers.scheduler or None, "number": helpers.number}
    return {**record, "lost": helpers.lost_chunks, "alone": helpers.alone or None}


def _share(covered: int, total: int) -> dict[str, int]:
    return {"met": covered, "of": total}


def finding_record(finding: ReportedFinding) -> dict[str, Any]:
    """Return a finding."""
    result, config = finding.finding.result, finding.finding.case.config
    return {
        "id": finding.id,
        "subject": finding.finding.subject,
        "kind": result.kind,
        "method": result.method.name.lower(),
        "nondeterministic": result.nondeterministic,
        "minimal": finding.finding.minimal,
        "config": config.to_dict(),
        "code": repr(finding.finding.case),
        **encode(finding, ReportedFinding),
    }


def stored_record(stored: SavedFinding) -> dict[str, Any]:
    """Return a finding that was kept earlier."""
    return {
        "id": stored.id,
        "subject": stored.subject,
        "kept": None if stored.saved_at is None else stored.saved_at.isoformat(),
        "kind": stored.kind,
        "cause": stored.cause,
        "certainty": stored.certainty,
        "facts": [dataclasses.asdict(fact) for fact in stored.facts],
        "folder": str(stored.path),
        "damage": stored.damage or None,
    }


def result_record(result: Result) -> dict[str, Any]:
    """Return a check's result."""
    return cast("dict[str, Any]", encode(result, Result))


def as_json(value: Any) -> Any:
    """Return the same data with numbers as JSON supports them."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return _json_number(value) if isinstance(value, float) and not isinstance(value, int) else value


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
