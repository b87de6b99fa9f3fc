"""One search done twice: by one run, and by all of its shards, each with a folder of its own."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import junitparser
import pytest

from harness.pipeline import Examined, run_pipeline
from harness.report.complaints import summary_of
from harness.report.junit import junit
from harness.report.record import examination_record
from harness.report.severity import in_order
from harness.search.options import Options
from harness.search.preparation import asked_scope
from harness.search.shards import Shard
from harness.store import met, shards
from harness.subjects.protocol import Subject


@dataclass(frozen=True)
class Sharded:
    """What one run said, and the folders of the shards."""

    one: Examined
    folders: list[Path]

    @classmethod
    def of(cls, make: Callable[[], Subject], folder: Path, of: int, *, cases: int, pins: Mapping[str, Any]) -> Self:
        """Search a subject, in one run and in ``of`` shards."""
        subject = make()
        contract, scope = subject.capabilities.contract, asked_scope(subject, (), pins, subject.capabilities.contract)

        def searched(subject: Subject, findings: Path, shard: Shard | None = None) -> Examined:
            options = Options(cases, contract=contract, shard=shard)
            return run_pipeline(subject, scope, options, folder=str(findings), warn=pytest.fail)

        question = shards.Question.of(subject, contract, scope)
        plan = shards.Plan((question,), 0, cases, None, "derived", 60.0, shards.Plan.here())
        folders = [folder / str(number) for number in range(1, of + 1)]
        for number, place in enumerate(folders, 1):
            done = searched(make(), place / shards.FINDINGS, Shard(number, of))
            assert done.log is not None
            place.mkdir(exist_ok=True)
            share = shards.Share.of(done.examination, done.told, done.log, done.capabilities.place, done.dropout)
            shards.save(place, Shard(number, of), plan, [share])
        return cls(searched(make(), folder / "one"), folders)

    def merged(self, findings: Path) -> shards.Combined:
        """Merge all shards."""
        (done,) = shards.combine(shards.read(self.folders), str(findings), pytest.fail)
        return done


def same_but_for_times(done: Examined | shards.Combined, other: Examined | shards.Combined) -> list[str]:
    """Return where the documents about two examinations differ, but for times and the places of findings."""
    return list(_differences(_documents(done), _documents(other)))


def _documents(done: Examined | shards.Combined) -> dict[str, Any]:
    record = json.loads(json.dumps(examination_record(done.examination, done.told), default=str))
    summary = summary_of(done.examination, in_order(done.told))
    junit_cases = [
        (case.name, *(part for one in case.result for part in (type(one), one.message)))
        for suite in junitparser.JUnitXml.fromstring(junit([summary]).encode())
        for case in suite
    ]
    return {"json": record, "junit": junit_cases, "coverage": met.document([done.examination.hunt.searched])}


def _differences(one: Any, other: Any, at: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}.keys() - {"seconds", "folder", "script"}:
            yield from _differences(one.get(name), other.get(name), f"{at}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, both in enumerate(zip(one, other, strict=True)):
            yield from _differences(*both, f"{at}[{place}]")
    elif one != other:
        yield f"{at}: {str(one)[:200]}, and {str(other)[:200]}"
