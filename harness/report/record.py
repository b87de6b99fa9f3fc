"""Reports as plain data, for --json."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypedDict, cast

from harness.checks.accuracy import Accuracy
from harness.checks.result import Result
from harness.checks.vacuous import MISTAKES
from harness.diagnosis.error_map import Axis, ErrorMap, ErrorMaps
from harness.oracle.compare import Mismatch
from harness.report import wording
from harness.report.coverage import shares_record
from harness.report.facts import cause_of, facts_of_failure
from harness.report.place import Stored
from harness.report.refusals import refusals_record
from harness.report.severity import Told, severity
from harness.search.examination import Examination
from harness.search.record import Helpers, Hunt
from harness.search.suspicion import Suspicion
from harness.space.config import PREACTIVATION, RNNConfig


def examination_record(done: Examination, told: Sequence[Told] = ()) -> dict[str, Any]:
    """Return one subject's examination: its search with its findings, and its other checks."""
    return {
        **_hunt_record(done.hunt, told),
        "verdict": done.verdict.value if done.verdict else None,
        "contract": done.contract,
        "read_as": done.read_as,
        "dropout": None if done.dropout is None else result_record(done.dropout),
        "equal": None if done.equal is None else done.equal._asdict(),
        "dropout_facts": dict(done.dropout_facts),
        "refusals": None if done.refusals is None else refusals_record(done.refusals),
        "weak": {mistake: done.hunt.weak[mistake] for mistake in MISTAKES},
        "unshown": wording.unshown_line(done),
    }


def _hunt_record(hunt: Hunt, told: Sequence[Told]) -> dict[str, Any]:
    return {
        "subject": hunt.subject,
        "verdict": hunt.verdict.value if hunt.verdict else None,
        "seed": hunt.seed,
        "ground": hunt.ground,
        "accuracy": [_accuracy(one) for one in hunt.accuracy],
        "checks": hunt.total,
        "checks_by_method": {method.name.lower(): number for method, number in hunt.checks.items()},
        "configs": hunt.coverage.configs,
        "unsupported": hunt.unsupported.total(),
        "gradients_not_compared": dict(hunt.not_compared),
        "gradients_ignored": dict(hunt.ignored),
        "known_issues": {name: number for name, number in hunt.known.items() if name not in _ids(hunt)},
        "known_not_seen": {name: number for name, number in hunt.spared.items() if name not in hunt.known},
        "suspicions": [_suspicion(suspicion) for suspicion in hunt.suspicions],
        "left_out": hunt.refused,
        "slow": hunt.slow,
        "not_done": {what: {"case": repr(case), **result_record(bad)} for what, (case, bad) in hunt.undone.items()},
        "seconds": hunt.seconds,
        "stop": hunt.stop.name.lower(),
        "workers": _workers(hunt.helpers),
        "missing_shards": [str(shard) for shard in hunt.missing],
        "coverage": {
            "factors": {name: _share(*share) for name, share in hunt.coverage.met(hunt.scope).items()},
            "regimes": dict(hunt.coverage.regimes),
            "checks": shares_record(hunt.searched),
            "of_whole": _share(*hunt.searched.of_whole[1:]),
            "never_varied": hunt.searched.never_varied,
            "laws": dict(hunt.laws),
        },
        "findings": [_told_record(one) for one in told],
    }


def _workers(helpers: Helpers | None) -> dict[str, Any] | None:
    if wording.helpers_line(helpers) is None or helpers is None:
        return None
    told = {"scheduler": helpers.scheduler or None, "number": helpers.number}
    return {**told, "lost": helpers.lost, "alone": helpers.alone or None}


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    fields = ("dtype", "relative", "at", "absolute", "absolute_at", "nan_from", "points")
    told = {name: as_json(getattr(accuracy, name)) for name in fields}
    agrees = accuracy.close and accuracy.nan_from == math.inf
    return {**told, "agrees": agrees, "tolerance": accuracy.tolerance, "text": accuracy.error_line}


def _share(met: int, of: int) -> dict[str, int]:
    return {"met": met, "of": of}


def _ids(hunt: Hunt) -> set[str]:
    return {finding.id for finding in hunt.findings}


def finding_record(told: Told) -> dict[str, Any]:
    """Return a finding with numbers as JSON supports them: a non-finite number is a string."""
    finding, explanation, diagnosis = told.finding, told.explanation, told.explanation.diagnosis
    cause, certainty = cause_of(told)
    record = {
        "id": finding.id,
        "subject": finding.subject,
        "kind": finding.result.kind,
        "severity": severity(finding, explanation).value,
        "cause": cause,
        "certainty": certainty,
        "faults": [] if diagnosis is None else [fault.name for fault in diagnosis.causes],
        "further_cases": told.further,
        "minimal": finding.minimal,
        "config": finding.case.config.to_dict(),
        "case": repr(finding.case),
        **result_record(finding.result),
        "facts": [dataclasses.asdict(fact) for fact in facts_of_failure(told)],
        "error_maps": None if explanation.error_maps is None else maps_record(explanation.error_maps),
        "ground": dict(explanation.ground),
    }
    return cast("dict[str, Any]", as_json(record))


class AxisRecord(TypedDict):
    """An axis of a map of errors."""

    name: str
    labels: list[str]
    size: int


class MapRecord(TypedDict):
    """A map of errors as data."""

    text: str
    columns: AxisRecord
    rows: AxisRecord
    first: tuple[int, int]
    errors: list[list[float]]


class MapsRecord(TypedDict):
    """The maps of a finding's errors as data."""

    text: str
    maps: list[MapRecord]


def maps_record(maps: ErrorMaps) -> MapsRecord:
    """Return maps of errors, which are multiples of tolerances with three digits: more than 1 is wrong."""
    config, more = maps.config, maps.more
    sizes = f"T={config.T}, N={config.N}, input_size={config.input_size}, hidden_size={config.hidden_size}"
    whose = "made at each step from your own state before it" if maps.local else "of the whole run"
    said = f"Errors over tolerance, {whose}, in a case of {sizes}. More than 1 is wrong."
    if more:
        said += f" {wording.counted(more, 'more array')} {'is' if more == 1 else 'are'} wrong."
    return {"text": said, "maps": [_map(one, config) for one in maps.maps]}


def _map(one: ErrorMap, config: RNNConfig) -> MapRecord:
    what = {"output": "states", PREACTIVATION: "gradients by preactivations"}.get(one.array, one.array)
    parts = [what] + ([f"layer {one.layer}"] if one.layer is not None and config.num_layers > 1 else [])
    parts += [one.direction] if one.direction is not None else []
    parts += [f"sequence n={one.sequence}"] if one.sequence is not None and config.N > 1 else []
    place = ", ".join(f"{name}={index}" for name, index in one.place.items())
    cut = "".join(
        f"; {axis.name} {axis.labels[0]} to {axis.labels[-1]} of {axis.size}"
        for axis in (one.columns, one.rows)
        if len(axis.labels) < axis.size
    )
    return {
        "text": f"{', '.join(parts)}: first wrong at {place}{cut}",
        "columns": _axis(one.columns),
        "rows": _axis(one.rows),
        "first": one.first,
        "errors": [[float(f"{error:.3g}") for error in column] for column in one.errors.tolist()],
    }


def _axis(axis: Axis) -> AxisRecord:
    return {"name": axis.name, "labels": [*axis.labels], "size": axis.size}


def _told_record(told: Told) -> dict[str, Any]:
    kept = told.kept
    folder = None if kept is None else str(kept.folder)
    script = None if kept is None or kept.script is None else str(kept.folder / kept.script)
    return {**finding_record(told), "folder": folder, "script": script}


def stored_record(stored: Stored) -> dict[str, Any]:
    """Return a finding that was kept earlier."""
    return {
        "id": stored.id,
        "subject": stored.subject,
        "kept": None if stored.kept is None else stored.kept.isoformat(),
        "kind": stored.kind,
        "cause": stored.cause,
        "certainty": stored.certainty,
        "facts": [dataclasses.asdict(fact) for fact in stored.facts],
        "folder": str(stored.path),
        "damage": stored.damage or None,
    }


def result_record(result: Result) -> dict[str, Any]:
    """Return a check's result."""
    return {
        "verdict": result.verdict.value,
        "message": result.message,
        "traceback": result.traceback,
        "nondeterministic": result.nondeterministic,
        "method": result.method.name.lower(),
        "mismatches": [_mismatch(mismatch) for mismatch in result.mismatches],
    }


def _mismatch(mismatch: Mismatch) -> dict[str, Any]:
    fields = {field.name: getattr(mismatch, field.name) for field in dataclasses.fields(mismatch)}
    record = {**fields, "sort": mismatch.sort.value, "text": wording.mismatch_line(mismatch)}
    record |= {name: _json_number(getattr(mismatch, name)) for name in ("atol", "rtol")}
    record["sites"] = [
        {
            "place": dict(site.place),
            **{name: _json_number(getattr(site, name)) for name in ("actual", "expected", "difference", "allowance")},
        }
        for site in mismatch.sites
    ]
    return record


def _suspicion(suspicion: Suspicion) -> dict[str, Any]:
    return {
        "case": repr(suspicion.case),
        "strength": _json_number(suspicion.strength),
        "again": suspicion.again,
        "tried": suspicion.tried,
        **result_record(suspicion.result),
    }


def as_json(value: Any) -> Any:
    """Return the same data with numbers as JSON supports them."""
    if isinstance(value, dict):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return _json_number(value) if isinstance(value, float) and not isinstance(value, int) else value


def _json_number(value: float) -> float | str:
    """Return a number if JSON supports it, else its text."""
    return value if math.isfinite(value) else str(value)
