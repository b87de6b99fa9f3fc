"""One search done twice: by one run, and by all of its shards, each with a report and a folder of its own."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import junitparser
import pytest

from harness.pipeline import run_pipeline
from harness.report.finding_entry import SubjectFindings
from harness.report.json_record import RunOptions, run_record, subject_record
from harness.report.junit import junit
from harness.search.plan_shards import Shard
from harness.search.scope_and_workers import asked_scope
from harness.search.search_options import SearchOptions
from harness.store.document import as_json, write
from harness.store.reports import add_up, read_shards
from harness.subjects.environment import versions
from harness.subjects.protocol import Subject


@dataclass(frozen=True)
class Sharded:
    """What one run said, and the reports of the shards."""

    one: SubjectFindings
    reports: list[Path]

    @classmethod
    def of(cls, make: Callable[[], Subject], folder: Path, of: int, *, cases: int, pins: Mapping[str, Any]) -> Self:
        """Search a subject, in one run and in ``of`` shards."""
        subject = make()
        profile, scope = subject.capabilities.profile, asked_scope(subject, (), pins, subject.capabilities.profile)

        def searched(subject: Subject, findings: Path, shard: Shard | None = None) -> SubjectFindings:
            options = SearchOptions(cases, profile=profile, shard=shard)
            return run_pipeline(subject, scope, options, folder=str(findings), warn=pytest.fail)

        reports = [folder / str(number) / "report.json" for number in range(1, of + 1)]
        for number, report in enumerate(reports, 1):
            shard = Shard(number, of)
            done = searched(make(), report.parent / "findings", shard)
            report.parent.mkdir(exist_ok=True)
            run = RunOptions((subject.name,), 0, cases, None, "derived", 60.0, versions(), shard)
            write(as_json("check", {**run_record(run), "subjects": [subject_record(done)]}), str(report))
        return cls(searched(make(), folder / "one"), reports)

    def merged(self, findings: Path) -> SubjectFindings:
        """Merge all shards."""
        (done,) = add_up(read_shards(self.reports), str(findings), pytest.fail)
        return done


def same_but_for_times(done: SubjectFindings, other: SubjectFindings) -> list[str]:
    """Return where the documents about two examinations differ, but for times and the places of findings."""
    return list(_differences(_documents(done), _documents(other)))


def _documents(done: SubjectFindings) -> dict[str, Any]:
    record = json.loads(as_json("check", subject_record(done)))
    junit_cases = [
        (case.name, *(part for one in case.result for part in (type(one), one.message)))
        for suite in junitparser.JUnitXml.fromstring(junit([done]).encode())
        for case in suite
    ]
    return {"json": record, "junit": junit_cases}


def _differences(one: Any, other: Any, at: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}.keys() - {"seconds", "folder"}:
            yield from _differences(one.get(name), other.get(name), f"{at}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, both in enumerate(zip(one, other, strict=True)):
            yield from _differences(*both, f"{at}[{place}]")
    elif one != other:
        yield f"{at}: {str(one)[:200]}, and {str(other)[:200]}"
