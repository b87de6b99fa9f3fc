"""The data of the HTML report: the records of subjects and findings, with all that the page says beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from harness.checks.laws import LAWS
from harness.checks.result import Method, Verdict
from harness.report import coverage, wording
from harness.report.picture import as_numbers
from harness.report.place import UNKNOWN, Stored
from harness.report.record import examination_record, finding_record
from harness.report.severity import Told
from harness.report.short import case_line, cause_of, replay_line, worst_line
from harness.search.examination import Examination
from harness.search.record import MARGINS, Hunt, Stop
from harness.space.searched import AGREEMENT
from harness.subjects.capabilities import Capabilities
from harness.subjects.ground import line

MISSING: Final = 4
"""The number of combinations that no case had and that are listed."""

WEAK: Final = (Method.FORM, Method.END_TO_END)
"""The methods of comparison by which errors may hide."""

SCRIPT: Final = "reproduce.py"


def page_data(
    subjects: Sequence[dict[str, Any]], findings: Sequence[dict[str, Any]], command: str, version: str
) -> dict[str, Any]:
    """Return the data of a whole page. ``command`` repeats what made it, with this ``version`` of the harness."""
    return {"version": version, "subjects": list(subjects), "findings": list(findings), "command": command}


def subject_data(done: Examination, told: Sequence[Told], capabilities: Capabilities) -> dict[str, Any]:
    """Return what the page says of a subject, but for its findings."""
    hunt, record = done.hunt, examination_record(done)
    return {
        "name": hunt.subject,
        "verdict": record["verdict"],
        "headline": wording.headline(hunt.subject, done.verdict),
        "agrees": record["verdict"] == "agrees",
        "findings": [one.finding.id for one in told],
        "facts": dict(_facts(done)),
        "limits": _limits(done),
        "margins": _margins(hunt),
        "pairs": [
            {"factors": list(pair), "met": met, "of": of} for pair, (met, of) in hunt.coverage.pairs(hunt.scope).items()
        ],
        "shares": coverage.shares_record(hunt.searched),
        "capabilities": dict(_capabilities(done, capabilities)),
        "ground": dict(hunt.ground),
        "ground_line": line(hunt.ground) if hunt.ground else "",
        "seed": hunt.seed,
    }


def finding_data(told: Told, files: Mapping[str, str], tolerance: str) -> dict[str, Any]:
    """Return what the page says of a finding of a run; ``files`` are the texts that were kept with it."""
    record = finding_record(told.finding, told.explanation)
    cause, sure = cause_of(told)
    case = told.finding.case
    said = {
        "cause": cause,
        "sure": sure,
        "case": case_line(case, told.kept, 2000),
        "config_line": wording.config_line(case.config),
        "worst": worst_line(told.finding.result, case.config),
        "further": told.further,
        "replay": replay_line(told, tolerance),
        "script": None if told.kept is None or told.kept.script is None else str(told.kept.folder / told.kept.script),
    }
    return _finding(record, said, files)


def stored_data(stored: Stored, files: Mapping[str, str]) -> dict[str, Any]:
    """Return what the page says of a finding that was kept earlier, as far as its record has it."""
    cause = stored.record.get("cause") or {}
    certain = isinstance(cause, dict) and cause.get("certain")
    named = stored.cause not in {None, UNKNOWN}
    differs = next((one.get("text") for one in stored.record.get("mismatches", ())), None)
    said = {
        "cause": stored.cause if named else stored.record.get("clue") or differs or stored.kind or UNKNOWN,
        "sure": "certain" if certain else "" if named else UNKNOWN,
        "case": None if stored.found is None else repr(stored.found),
        "config_line": None if stored.found is None else wording.config_line(stored.found.config),
        "worst": None,
        "further": 0,
        "replay": f"rnn-harness replay {stored.id or stored.path}",
        "script": str(stored.path / SCRIPT) if SCRIPT in files else None,
    }
    return _finding({"id": stored.id or stored.path.name, "subject": stored.subject, **stored.record}, said, files)


_PARTS: Final = (
    *("id", "subject", "kind", "message", "traceback", "judge", "to_accept", "clue", "network", "picture"),
    *("where", "factors", "kernels", "certificate"),
)
"""The parts of a finding's record that the page shows; any may be missing."""


def _finding(record: Mapping[str, Any], said: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """Return a finding with the same names, whatever its record has."""
    cause = record.get("cause")
    faults = cause.get("faults", []) if isinstance(cause, dict) else []
    return {
        **dict.fromkeys(_PARTS),
        "mismatches": [],
        "minimal": False,
        **as_numbers(record),
        **said,
        "grounds": cause.get("text", [])[1:] if isinstance(cause, dict) else [],
        "code": faults[0].get("code") if len(faults) == 1 else None,
        "files": dict(files),
    }


def _facts(done: Examination) -> Iterator[tuple[str, str]]:
    hunt = done.hunt
    yield "checked", f"{wording.counted(hunt.total, 'case')} in {hunt.seconds:.1f} s; ended by {hunt.stop.value}"
    if hunt.checks:
        yield (
            "compared",
            "; ".join(f"{hunt.checks[one]:,} {wording.METHODS[one]}" for one in Method if hunt.checks[one]),
        )
    if done.dropout is not None:
        yield "dropout", wording.dropout_line(done.dropout)
    yield "contract", done.contract


def _limits(done: Examination) -> list[dict[str, Any]]:
    """Return what makes a pass mean less, in four groups."""
    groups = {
        "Weak cases": list(_weak(done)),
        "Space not covered": list(_not_covered(done.hunt)),
        "Laws not asked": list(_not_asked(done.hunt)),
        "Kernels not seen": list(_not_seen(done.hunt)),
    }
    return [{"title": title, "said": said} for title, said in groups.items()]


def _weak(done: Examination) -> Iterator[str]:
    hunt = done.hunt
    for method in WEAK:
        if hunt.checks[method]:
            yield f"{wording.counted(hunt.checks[method], 'case')} compared {method.value}"
    if hunt.suspicions:
        yield f"{wording.counted(len(hunt.suspicions), 'case')} beyond usual roundings, not repeated on other values"
    ids = {finding.id for finding in hunt.findings}
    known = {name: number for name, number in hunt.known.items() if name not in ids}
    yield from (f"known deviation: {said}" for said in wording.deviations_in_short(known, {}))
    if hunt.unsupported:
        yield f"{wording.counted(hunt.unsupported, 'case')} refused by the subject"
    if hunt.not_compared:
        yield f"gradients by {', '.join(sorted(hunt.not_compared))}: not returned, so not compared"
    if done.verdict is Verdict.NOT_ENOUGH:
        yield f"too little for a verdict: {', '.join(done.lacking)}"


def _not_covered(hunt: Hunt) -> Iterator[str]:
    if hunt.scope.loss == (None,):
        yield "gradients: not asked for"
    for said, names in wording.left_out(hunt.refused).items():
        yield f"left out: {', '.join(names)}; the subject says: {said}"
    if hunt.undone:
        yield f"neither supported nor refused: {', '.join(hunt.undone)}"
    for name, met, of in hunt.searched.shares(AGREEMENT):
        if met < of:
            yield f"{name}: {of - met:,} of {of:,} not met"
    pairs = (line.plain.strip() for line in coverage.missing_lines(hunt.searched, MISSING))
    yield from (f"no case with {said}" for said in pairs if "=" in said)
    if hunt.stop not in {Stop.BUDGET, Stop.FINDING}:
        yield f"the search ended by {hunt.stop.value}"


def _not_asked(hunt: Hunt) -> Iterator[str]:
    missing = [name for name in LAWS if not hunt.laws[name]]
    if missing:
        yield f"{len(missing)} of {len(LAWS)}: {', '.join(missing)}"


def _not_seen(hunt: Hunt) -> Iterator[str]:
    yield f"run on {', '.join(dict.fromkeys(hunt.scope.device))} only"
    if "ATen" in hunt.ground:
        yield f"torch computed with its {hunt.ground['ATen']} kernels; another CPU may choose others"
    if "BLAS of NumPy" in hunt.ground:
        yield f"NumPy computed with {hunt.ground['BLAS of NumPy']}; another CPU may choose other kernels"
    if hunt.ground.get("threads", "1") == "1":
        yield "one thread a process; kernels that share work between threads did not run"


def _margins(hunt: Hunt) -> list[dict[str, Any]]:
    """Return how many passing cases came how near to their allowance, by dtype."""
    return [
        {"dtype": dtype, "bars": [{"power": power, "cases": counts[power]} for power in range(MARGINS, 1)]}
        for dtype, counts in sorted(hunt.margins.items())
    ]


def _capabilities(done: Examination, capabilities: Capabilities) -> Iterator[tuple[str, str]]:
    scope = done.hunt.scope
    yield "contract", done.contract
    yield "layers", wording.values_line(sorted(set(scope.num_layers)))
    yield "bidirectional", _yes(True in scope.bidirectional)
    yield "nonlinearity", ", ".join(dict.fromkeys(scope.nonlinearity))
    yield "dtypes", ", ".join(dict.fromkeys(scope.dtype))
    yield "devices", ", ".join(dict.fromkeys(scope.device))
    yield "packed sequences", _yes(any(scope.lengths))
    yield "gradients", _yes(any(scope.loss))
    yield "directional derivatives", _yes(capabilities.jvp is not None)
    yield "dropout masks", _yes(capabilities.masks is not None)
    yield "malformed calls", _yes(done.refusals is not None)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
