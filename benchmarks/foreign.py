"""The success of finding, shrinking and naming the mistakes of foreign sets of wrong implementations.

The sets (``tests/foreign``) were written without knowledge of the catalogue of faults. For each implementation this
prints the checks and the seconds to its first failure, the seconds to shrink and explain that, its size beside the true
minimum, and the named cause beside the truth, for a person to compare: ``python benchmarks/foreign.py [NAME]...``.

The third set has right implementations, too, and says in which words each mistake may be reported. For it the benchmark
measures what a user of the command reads: the verdict, how many defects are reported, whether the first named cause is
the right one, and how many lines there are until the end of the first finding.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import RenderableType

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.processes import one_thread_a_process

one_thread_a_process()

from harness import Scope, Subject, as_subject, hunt  # noqa: E402
from harness.checks.full_check import against  # noqa: E402
from harness.checks.result import Verdict  # noqa: E402
from harness.diagnosis.factors import Factors  # noqa: E402
from harness.diagnosis.fresh import changed  # noqa: E402
from harness.diagnosis.investigate import Explanation, Investigation  # noqa: E402
from harness.report import text  # noqa: E402
from harness.report.explained import cause_line, clue_line, fails_line, grounds  # noqa: E402
from harness.report.facts import failure_line  # noqa: E402
from harness.report.paper import Paper  # noqa: E402
from harness.report.severity import Told, in_order  # noqa: E402
from harness.report.wording import left_out, mismatch_line  # noqa: E402
from harness.search.checker import CheckedCase  # noqa: E402
from harness.search.examination import Examination, examine  # noqa: E402
from harness.search.options import Options  # noqa: E402
from harness.search.record import Finding  # noqa: E402
from harness.search.search import Search  # noqa: E402
from harness.search.simplify import PLAIN  # noqa: E402
from harness.space.contract import KERNEL  # noqa: E402
from harness.space.scope import factors_of  # noqa: E402
from harness.store.keep import keep  # noqa: E402
from harness.subjects.protocol import scope_of  # noqa: E402
from tests.foreign.manifest import RIGHT, WRONG, Wrong  # noqa: E402
from tests.foreign.manifest_forty import FORTY  # noqa: E402
from tests.foreign.manifest_strangers import STRANGERS, Stranger  # noqa: E402
from tests.foreign.strangers_node import NODE  # noqa: E402


def measured(wrong: Wrong, seed: int) -> dict[str, Any]:
    """Measure one wrong implementation, searched and explained as the command does it."""
    subject = as_subject(wrong.subject, wrong.name)
    start = time.process_time()
    found: list[float] = []
    investigation = Investigation(subject)

    with Search(subject, scope(subject, wrong), Options(seed=seed)) as search:
        for event in search:  # a tanh that is off, or a subject that wavers, does not end it
            if isinstance(event, CheckedCase) and against(event.result) and not found:
                found.append(time.process_time() - start)
    done = examine(subject, search.record)
    record = done.hunt
    searched = time.process_time() - start
    row: dict[str, Any] = {"name": wrong.name, "family": wrong.family, "truth": wrong.truth, "checks": record.total}
    if record.finding is None:
        dropout = done.dropout is not None and done.dropout.failed
        if record.accuracy and not dropout:
            said = "; ".join(f"{one.dtype}: {one.error_line}" for one in record.accuracy)
            return row | {"killed": True, "told_of_tanh": said, "seconds": searched}
        return row | {"killed": dropout, "by_the_law_of_dropout": dropout, "seconds": searched}
    finding = record.finding
    explanation = investigation.explain(finding, record.scope)
    took = time.process_time() - start
    here = factors_of(finding.case.config) | {"lengths": finding.case.config.lengths}
    minimum = {name: value for name, value in wrong.smallest.items() if here.get(name) != value}
    numbers = [one for a in finding.case.arrays.values() for one in a.ravel().tolist() if not np.isnan(one)]
    diagnosis = explanation.diagnosis
    return row | {
        "killed": True,
        "first": found[0] if found else searched,
        "seconds": took,
        "shrink_checks": record.shrink_checks,
        "config": repr(finding.case.config),
        "kind": finding.result.kind,
        "minimal": finding.minimal,
        "larger_than_true": minimum,
        "plain": all(abs(one) in {abs(p) for p in PLAIN} for one in numbers),
        "certain": finding.result.of_tanh or bool(diagnosis and diagnosis.certain),
        "causes": [] if diagnosis is None else [fault.name for fault in diagnosis.causes],
        "cause": [finding.result.message or finding.result.kind]
        if diagnosis is None or finding.result.of_tanh
        else [cause_line(diagnosis, finding.case.config, explanation.factors), *grounds(diagnosis)],
        "needs": "" if explanation.factors is None else fails_line(explanation.factors),
    }


def scope(subject: Subject, wrong: Wrong) -> Scope:
    """Return everything that the subject offers, pinned as the mistake needs it."""
    return scope_of(subject, KERNEL).only(**wrong.scope)


def told(stranger: Stranger, seed: int) -> dict[str, Any]:
    """Return what the command says about a stranger's implementation."""
    subject = as_subject(stranger.spec)
    investigation = Investigation(subject)
    start = time.process_time()
    asked = scope_of(subject, stranger.contract).only(**stranger.scope)
    with Search(subject, asked, Options(seed=seed)) as search:
        for finding in search.findings():
            search.pass_over(investigation.recognise(finding, search.record))
    done = examine(subject, search.record)
    seconds = time.process_time() - start
    explanations = [investigation.known_of(finding) for finding in done.hunt.findings]
    found = [graded(stranger, *pair) for pair in zip(done.hunt.findings, explanations, strict=True)]
    undone = {what: failure_line(result) for what, (_, result) in done.hunt.undone.items()}
    for said, names in left_out(undone).items():
        found.append(_graded(stranger, f"{', '.join(names)} fail and are not refused: {said}", None))
    if done.dropout is not None and done.dropout.failed:
        found.append(_graded(stranger, done.dropout.message, None))
    if done.refusals is not None and done.refusals.findings:
        lapses = Counter(one.lapse.value for one in done.refusals.findings)
        said = ", ".join(f"{number} kinds {lapse}" for lapse, number in lapses.items())
        found.append(_graded(stranger, f"malformed calls: {said}", None))
    return {
        "name": stranger.name,
        "mistakes": [mistake.truth for mistake in stranger.mistakes],
        "families": [mistake.family for mistake in stranger.mistakes],
        "verdict": done.verdict.value if done.verdict else None,
        "verdict_right": (done.verdict is Verdict.AGREES) == (not stranger.mistakes),
        "checks": done.hunt.total,
        "seconds": seconds,
        "found": found,
        "lines": lines_to_the_first_finding(subject, done, explanations),
    }


def false_claims(stranger: Stranger, finding: Finding, factors: Factors, told: list[str]) -> list[str]:
    """Return the claims about a finding's needs that contradict the manifest of the reported mistakes."""
    mistakes = [one for one in stranger.mistakes if one.truth in told] or list(stranger.mistakes)
    if any(one.rarely or one.how != "values" for one in mistakes):
        return []
    config, scope = finding.case.config, scope_of(as_subject(stranger.spec), stranger.contract)

    def shows(name: str, value: Any) -> bool:
        other = changed(config, {name: value})
        return other != config and not stranger.refuses(other) and any(one.shows(other) for one in mistakes)

    kept = {**{name: (value,) for name, value in factors.needs.items()}, **factors.partly}
    others = {name: [one for one in scope.values()[name] if one not in values] for name, values in kept.items()}
    claims = [f"needs {name}" for name, values in others.items() if any(shows(name, value) for value in values)]
    for name, size in factors.sizes.items():
        smaller = [size.smallest - 1] if size.smallest > 1 else []
        claims += [f"needs {name}"] if any(shows(name, value) for value in (*size.passes, *smaller)) else []
    if factors.passing is not None and shows(*factors.passing):
        claims.append(f"passes with {factors.passing[0]}={factors.passing[1]}")
    return claims


def graded(stranger: Stranger, finding: Finding, explanation: Explanation) -> dict[str, Any]:
    """Return what is said about a finding's cause, and how right that is."""
    diagnosis, result = explanation.diagnosis, finding.result
    config = {"config": repr(finding.case.config), "kind": result.kind}
    config |= {"needs": fails_line(explanation.factors)} if explanation.factors is not None else {}
    if diagnosis is None:
        said = "; ".join([*filter(None, [result.message]), *map(mismatch_line, result.mismatches)])
        return _graded(stranger, said, None) | config
    said = cause_line(diagnosis, finding.case.config, explanation.factors)
    if explanation.clue is not None:
        said = f"{said}; {clue_line(explanation.clue)}"
    explained = diagnosis.precision is not None and diagnosis.precision.explains and not diagnosis.causes
    grade = _graded(stranger, said, diagnosis.certain or explained)
    if explanation.factors is not None:
        grade["false"] = false_claims(stranger, finding, explanation.factors, grade["told"])
    return grade | config


def _graded(stranger: Stranger, said: str, certain: bool | None) -> dict[str, Any]:
    """Return the grade of a sentence: ``right`` if it has a word stated beforehand, ``possibly`` if it is not certain.

    Otherwise the grade is ``misleading`` if another cause is certain, and ``unknown`` if none is. ``certain`` is
    ``None`` if there is no cause to name beyond what was seen: that is right in the right words, and never misleading.
    """
    known = not said.startswith("unknown")
    right = [m.truth for m in stranger.mistakes if known and any(word.lower() in said.lower() for word in m.words)]
    grade = ("possibly" if certain is False else "right") if right else ("misleading" if certain else "unknown")
    return {"grade": grade, "told": right, "said": said, "certain": certain}


def lines_to_the_first_finding(subject: Subject, done: Examination, explanations: list[Explanation]) -> int:
    """Return the number of lines that the command prints, on 100 columns, until the end of the first finding.

    Without a finding, all lines are counted.
    """
    findings = []
    for finding, explanation in zip(done.hunt.findings, explanations, strict=True):
        with TemporaryDirectory() as folder:
            place = keep(finding, explanation, subject, folder)
        findings.append(Told(finding, explanation, place, done.hunt.known[finding.id]))
    shown = _printed(text.examination_report(done, in_order(findings)))
    return shown.index("", shown.index("") + 1) if findings else len(shown)  # a finding is between two empty lines


def _printed(report: RenderableType) -> list[str]:
    written = io.StringIO()
    Paper(file=written, width=100, highlight=False).print(report)
    return written.getvalue().splitlines()


def print_told(row: dict[str, Any]) -> None:
    """Print a stranger's row."""
    wrong = "" if row["verdict_right"] else "! "
    print(f"{wrong}{row['name']}  [{', '.join(row['families']) or 'right'}]  {' '.join(row['mistakes'])}")
    print(f"    {row['verdict']}; {row['seconds']:.1f} s, {row['checks']} checks, {row['lines']} lines")
    for one in row["found"]:
        print(f"    {one['grade']}: {one['said'][:300]}  [{one.get('needs', '')}]  {one.get('config', '')}")
        if one.get("false"):
            print(f"    ! not so: {', '.join(one['false'])}")
    sys.stdout.flush()


def print_shares(rows: list[dict[str, Any]]) -> None:
    """Print the results for the third set as a whole."""
    wrong = [row for row in rows if row["mistakes"]]
    right = [row for row in rows if not row["mistakes"]]
    firsts = Counter(row["found"][0]["grade"] for row in wrong if row["found"])
    causes = Counter(one["grade"] for row in wrong for one in row["found"])
    mistakes, defects = (sum(len(row[what]) for row in wrong) for what in ("mistakes", "found"))
    alike = sum(len(row["found"]) == len(row["mistakes"]) for row in wrong)
    told_of = sum(len({truth for one in row["found"] for truth in one["told"]}) for row in wrong)

    def shares(of: Counter[str]) -> str:
        return ", ".join(f"{grade} {of[grade]}" for grade in ("right", "possibly", "unknown", "misleading"))

    print(f"verdict right         {sum(row['verdict_right'] for row in rows)} of {len(rows)}")
    print(f"  right ones agree    {sum(row['verdict_right'] for row in right)} of {len(right)}")
    print(f"  wrong ones do not   {sum(row['verdict_right'] for row in wrong)} of {len(wrong)}")
    print(f"defects reported      {defects} for {mistakes} mistakes; as many as there are in {alike} of {len(wrong)}")
    print(f"mistakes told         {told_of} of {mistakes}")
    false = [claim for row in wrong for one in row["found"] for claim in one.get("false", [])]
    passes = sum(claim.startswith("passes") for claim in false)
    print(f"false needs, passes   {len(false) - passes}, {passes}")
    print(f"cause of the first    {shares(firsts)}")
    print(f"cause of all          {shares(causes)}")
    first = firsts["right"] + firsts["possibly"]
    seen = sum(
        row["found"][0]["grade"] == "right" and row["found"][0]["certain"] is None for row in wrong if row["found"]
    )
    print(f"right mistake first   {first} of {len(wrong)}: {firsts['right'] - seen} as a certain cause, ", end="")
    print(f"{firsts['possibly']} as a possible one, {seen} by a shape, an error or two answers that say it")
    if lines := [row["lines"] for row in wrong if row["found"]]:
        print(f"lines to its end      median {statistics.median(lines):g}, most {max(lines)}")
    if rows:
        seconds = [row["seconds"] for row in rows]
        print(f"seconds               median {statistics.median(seconds):.1f}, worst {max(seconds):.1f}")


def third(names: list[str], seed: int) -> list[dict[str, Any]]:
    """Measure the third set, and print it."""
    rows = []
    for stranger in STRANGERS:
        if names and stranger.name not in names:
            continue
        if "strangers_node" in stranger.spec and NODE is None:
            print(f"{stranger.name}: left out, for node is not installed")
            continue
        with np.errstate(all="ignore"):
            row = told(stranger, seed)
        print_told(row)
        rows.append(row)
    print_shares(rows)
    return rows


def main() -> None:
    """Print a row each, and the shares; with --json, write everything that was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    sets = ["first", "second", "both", "third", "all"]
    parser.add_argument("--of", choices=sets, default="both", help="which of the sets; both are the first two")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [] if options.of == "third" else first_two(options)
    if options.of in {"third", "all"}:
        rows += third(options.names, options.seed)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1, default=str))


def first_two(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the first set, the second, or both, and print them."""
    rows = []
    for wrong in {"first": WRONG, "second": FORTY}.get(options.of, (*WRONG, *FORTY)):
        if options.names and wrong.name not in options.names:
            continue
        with np.errstate(all="ignore"):
            row = measured(wrong, options.seed)
        rows.append(row)
        print(f"{row['name']}  [{row['family']}]  {row['truth']}")
        if row.get("by_the_law_of_dropout"):
            print(f"    {row['seconds']:.1f} s: it breaks the law of dropout")
        elif row.get("told_of_tanh"):
            print(f"    {row['seconds']:.1f} s: it agrees, and its tanh is said to be {row['told_of_tanh']}")
        elif row["killed"]:
            print(f"    {row['seconds']:.1f} s, {row['checks']} checks, {row['shrink_checks']} more; {row['config']}")
            extra = [f"not the true minimum: {row['larger_than_true']}"] if row["larger_than_true"] else []
            extra += [] if row["plain"] else ["numbers not plain"]
            extra += [] if row["minimal"] else ["no certificate"]
            print(f"    {'certain' if row['certain'] else '-------'}  {row['cause'][0]}  [{row['needs']}]")
            print("".join(f"    ! {line}\n" for line in extra), end="", flush=True)
        else:
            print(f"    ! SURVIVES {row['checks']} checks, {row['seconds']:.1f} s", flush=True)
    found = sum(row["killed"] for row in rows)
    killed = [row for row in rows if "config" in row]
    seconds = [row["seconds"] for row in killed]
    smallest = sum(not row["larger_than_true"] for row in killed)
    print(f"{found} of {len(rows)} found; of {len(killed)} at their true minimum {smallest}")
    print(f"plain numbers {sum(r['plain'] for r in killed)}; certain of a cause {sum(r['certain'] for r in killed)}")
    if seconds:
        print(f"seconds: median {statistics.median(seconds):.2f}, worst {max(seconds):.1f}")
    for right in RIGHT if not options.names else ():
        subject = as_subject(right.subject, right.name)
        record = hunt(subject, scope_of(subject, KERNEL), seed=options.seed)
        print(f"right: {right.name}: {'FALSE ALARM' if record.findings else 'agrees'} after {record.total} checks")
    return rows


if __name__ == "__main__":
    main()
