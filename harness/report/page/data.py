"""The data of the HTML report: the records of subjects and findings, with all that the page says beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from harness.checks.laws import LAWS
from harness.checks.result import WAVERS, Method, Result, Verdict
from harness.oracle.compare import Sort
from harness.report import coverage, wording
from harness.report.everything import Row, table_data
from harness.report.examination_facts import undone_by_failure
from harness.report.picture import as_numbers
from harness.report.place import UNKNOWN, Stored
from harness.report.record import finding_record
from harness.report.refusals import refusal_facts, refusal_head, refusals_line
from harness.report.severity import Told
from harness.report.short import case_code, cause_of, replay_line, upstream_of, worst_line
from harness.report.text import headline
from harness.search.examination import Examination
from harness.search.record import MARGINS, Hunt, Stop
from harness.space.config import TANGENT
from harness.space.searched import AGREEMENT
from harness.subjects.capabilities import Capabilities
from harness.subjects.ground import kernels

MISSING: Final = 4
"""The number of combinations that no case had and that are listed."""

CALL: Final = 60
"""The most characters of an error that a drawing holds."""

WEAK: Final = (Method.FORM, Method.END_TO_END)
"""The methods of comparison by which errors may hide."""

SCRIPT: Final = "reproduce.py"


def page_data(
    subjects: Sequence[dict[str, Any]],
    findings: Sequence[dict[str, Any]],
    command: str,
    version: str,
    *,
    rows: Sequence[Row] | None = None,
    upgrade: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the data of a whole page. ``command`` repeats what made it, with this ``version`` of the harness.

    ``rows`` are those of the table of ``check --all``, and ``upgrade`` is what two environments differ in.
    """
    # A finding's id is that of its case, which several subjects may fail on.
    numbered = [{**one, "anchor": f"{one['id']}-{number}"} for number, one in enumerate(findings, 1)]
    of: dict[str, list[dict[str, Any]]] = {}
    for one in numbered:
        of.setdefault(one["subject"], []).append(one)
    return {
        "version": version,
        "table": None if rows is None else table_data(rows),
        "upgrade": upgrade,
        "subjects": [{**one, "findings": of.get(one["name"], [])} for one in subjects],
        "findings": numbered,
        "margins": margins_by_dtype(subjects),
        "grounds": _grounds(subjects),
        "command": command,
    }


def _grounds(subjects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each ground once, with the names of the subjects that stood on it."""
    found: list[dict[str, Any]] = []
    for one in subjects:
        facts = {"seed": one["seed"], **one["ground"]}
        if (same := next((ground for ground in found if ground["facts"] == facts), None)) is not None:
            same["names"].append(one["name"])
        elif one["ground"]:
            found.append({"names": [one["name"]], "facts": facts})
    return found


def margins_by_dtype(subjects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each dtype, and each subject that computed in it, the share of cases by how near to allowance.

    Each has a label: the subject, and what chose its kernels.
    """
    dtypes = sorted({dtype for one in subjects for dtype in one["margins"]})
    return [
        {
            "dtype": dtype,
            "subjects": [
                {"name": one["name"], "kernels": one["kernels"], **_shares(one["margins"][dtype])}
                for one in subjects
                if dtype in one["margins"]
            ],
        }
        for dtype in dtypes
    ]


def _shares(counts: Mapping[int, int]) -> dict[str, Any]:
    cases = sum(counts.values())
    bars = [{"power": power, "share": counts.get(power, 0) / cases} for power in range(MARGINS, 1)]
    return {"cases": cases, "bars": bars}


def subject_data(done: Examination, told: Sequence[Told], capabilities: Capabilities) -> dict[str, Any]:
    """Return what the page says of a subject, but for its findings."""
    hunt = done.hunt
    return {
        "name": hunt.subject,
        "headline": headline(done, told),
        "tone": wording.tone(done.verdict),
        "facts": list(_facts(done)),
        "limits": _limits(done),
        "dropout": _dropout(done),
        "refusals": _refusals(done),
        "margins": {dtype: dict(counts) for dtype, counts in hunt.margins.items()},
        "pairs": [
            {"factors": list(pair), "met": met, "of": of}
            for pair, (met, of) in hunt.coverage.pairs(hunt.scope).items()
            if hunt.coverage.cases
        ],
        "shares": coverage.shares_record(hunt.searched),
        "capabilities": dict(_capabilities(done, capabilities)),
        "ground": dict(hunt.ground),
        "kernels": kernels(hunt.ground) if hunt.ground else "",
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
        "case": case_code(case, told.kept, 2000),
        "config_line": wording.config_line(case.config),
        "worst": worst_line(told.finding.result, case.config),
        "further": told.further,
        "replay": replay_line(told, tolerance),
        "upstream": upstream_of(told),
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
        "upstream": stored.record.get("upstream"),
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
        "dtype": (record.get("config") or {}).get("dtype", "float64"),
        "raised_at": _raised_at(record),
        "call": _call(record),
        "no_map": _no_map(record),
        "files": dict(files),
    }


def _raised_at(record: Mapping[str, Any]) -> str | None:
    """Return the file and line that raised."""
    at = Result(Verdict.BROKEN, traceback=record.get("traceback") or "").raised_at
    return None if at is None else f"{at[0]}, line {at[1]}"


def _call(record: Mapping[str, Any]) -> str | None:
    """Return in some words how the whole call failed, if no part of its results is known to be wrong."""
    if record.get("verdict") != Verdict.BROKEN.value:
        return None
    message = str(record.get("message") or "")
    if message.startswith(WAVERS):
        return "two runs of this call differ"
    return message.splitlines()[0] if message and len(message.splitlines()[0]) <= CALL else "this call fails"


def _no_map(record: Mapping[str, Any]) -> str:
    """Return in a sentence why there is no map of the errors."""
    first: Mapping[str, Any] = next(iter(record.get("mismatches") or ()), {})
    if str(record.get("message") or "").startswith(WAVERS):
        because = "the two runs are compared with each other, and neither is known to be right"
    elif record.get("verdict") == Verdict.BROKEN.value:
        because = "the call returned no numbers"
    elif first.get("law"):
        because = f"by the law of {first['law']}, two runs of the subject are compared with each other"
    elif first.get("sort") in _NO_NUMBERS:
        because = _NO_NUMBERS[first["sort"]]
    elif TANGENT in first.get("array", ""):
        because = "derivatives are compared along one direction, not element by element"
    else:
        because = "in the cases that would be drawn, every number is within its allowance"
    return f"There is no map of the errors: {because}."


_NO_NUMBERS: Final = {
    Sort.MISSING.value: "an array is missing",
    Sort.UNEXPECTED.value: "an array was returned that nn.RNN does not return",
    Sort.SHAPE.value: "an array has another shape, so its numbers have no counterparts",
    Sort.DTYPE.value: "the numbers have another dtype, for which no allowance is derived",
    Sort.MALFORMED.value: "the call did not return the arrays that nn.RNN returns",
    Sort.CHANGED.value: "the results are right; what is wrong is the array that was passed in",
    Sort.ALIASED.value: "the results are right; what is wrong is that arrays share memory",
    Sort.OVERWRITTEN.value: "the results are right until the next call overwrites them",
}
"""The reasons why there is no map, by the sort of difference that is not of numbers."""


def _facts(done: Examination) -> Iterator[tuple[str, str]]:
    hunt = done.hunt
    yield "checked", f"{wording.counted(hunt.asked, 'case')} in {hunt.seconds:.1f} s; ended by {hunt.stop.value}"
    if hunt.checks:
        yield (
            "compared",
            "; ".join(f"{hunt.checks[one]:,} {wording.METHODS[one]}" for one in Method if hunt.checks[one]),
        )
    if done.dropout is not None:
        yield "dropout", wording.dropout_line(done.dropout).partition(":")[0]
    if done.refusals is not None:
        yield "refusals", refusals_line(done.refusals)
    for said in [f"{', '.join(names)}: {said}" for said, names in undone_by_failure(hunt).items()]:
        yield "fails at", said
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
    if not hunt.findings and (said := wording.unshown_line(done)) is not None:
        yield said
    for method in WEAK:
        if hunt.checks[method]:
            yield f"{wording.counted(hunt.checks[method], 'case')} compared {method.value}"
    if hunt.suspicions:
        yield f"{wording.counted(len(hunt.suspicions), 'case')} beyond usual roundings, not repeated on other values"
    ids = {finding.id for finding in hunt.findings}
    known = {name: number for name, number in hunt.known.items() if name not in ids}
    yield from (f"known issue: {said}" for said in wording.known_lines(known, {}, hunt.own))
    yield from (f"refused: {said}" for said in wording.refused_lines(hunt.unsupported))
    yield from (f"not compared: {said}" for said in wording.not_compared_lines(hunt.not_compared))
    if done.verdict is Verdict.NOT_ENOUGH:
        yield f"too little for a verdict: {', '.join(done.lacking)}"


def _not_covered(hunt: Hunt) -> Iterator[str]:
    if hunt.scope.loss == (None,):
        yield "gradients: not asked for"
    for said, names in wording.left_out(hunt.refused).items():
        yield f"left out: {', '.join(names)}; the subject says: {said}"
    yield from (f"neither supported nor refused: {said}" for said in undone_by_failure(hunt))
    if not hunt.coverage.cases:
        yield "all of it: no case was answered"
        return
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


def _dropout(done: Examination) -> dict[str, Any] | None:
    """Return the law of dropout that is broken, and how; ``None`` if none is."""
    if done.dropout is None or not done.dropout.failed:
        return None
    cause, told = wording.dropout_told(done.dropout)
    return {"cause": cause, "facts": {**told, **done.dropout_facts}}


def _refusals(done: Examination) -> list[dict[str, Any]]:
    """Return each kind of malformed call that is not refused as it must be."""
    every = () if done.refusals is None else done.refusals.findings
    return [{"head": refusal_head(one), "facts": refusal_facts(one)} for one in every]


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
