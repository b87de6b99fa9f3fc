"""How well a foreign set of wrong implementations is found, made small, and named.

The sets (``tests/foreign``) were written without knowledge of the catalogue of faults. For each: the checks
and the seconds to its first failure, the seconds to make that small and to explain it, its size beside the true
minimum, and the cause that was named, beside the truth, for a person to compare:
``python benchmarks/foreign.py [NAME]...``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.threads import one_thread_a_process

one_thread_a_process()

from harness import Scope, Subject, as_subject, hunt  # noqa: E402
from harness.explain.investigate import Investigation  # noqa: E402
from harness.report.explained import cause_lines, needs_line  # noqa: E402
from harness.search.examination import examine  # noqa: E402
from harness.search.simplify import PLAIN  # noqa: E402
from harness.space.scope import factors_of  # noqa: E402
from harness.subjects.protocol import scope_of  # noqa: E402
from tests.foreign.manifest import RIGHT, WRONG, Wrong  # noqa: E402
from tests.foreign.manifest_forty import FORTY  # noqa: E402


def measured(wrong: Wrong, seed: int) -> dict[str, Any]:
    """One wrong implementation, searched and explained as the command does it."""
    subject = as_subject(wrong.subject, wrong.name)
    start = time.process_time()
    found: list[float] = []
    investigation = Investigation(subject)

    def first(record: Any) -> None:
        if record.shrinking and not found:
            found.append(time.process_time() - start)

    done = examine(subject, scope(subject, wrong), seed=seed, progress=first, recognise=lambda *_: None)
    record = done.hunt
    searched = time.process_time() - start
    row: dict[str, Any] = {"name": wrong.name, "family": wrong.family, "truth": wrong.truth, "checks": record.total}
    if record.finding is None:
        dropout = done.dropout is not None and done.dropout.failed
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
        "certain": bool(diagnosis and diagnosis.certain),
        "causes": [] if diagnosis is None else [type(fault).__name__ for fault in diagnosis.causes],
        "cause": [finding.result.kind]
        if diagnosis is None
        else cause_lines(diagnosis, finding.case.config, explanation.factors),
        "needs": "" if explanation.factors is None else needs_line(explanation.factors),
    }


def scope(subject: Subject, wrong: Wrong) -> Scope:
    """All that the subject offers, pinned as the mistake needs it."""
    return scope_of(subject).only(**wrong.scope)


def main() -> None:
    """Print a row each, and the shares; with --json, all that was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--of", choices=["first", "second", "both"], default="both", help="which of the two sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for wrong in {"first": WRONG, "second": FORTY, "both": (*WRONG, *FORTY)}[options.of]:
        if options.names and wrong.name not in options.names:
            continue
        with np.errstate(all="ignore"):
            row = measured(wrong, options.seed)
        rows.append(row)
        print(f"{row['name']}  [{row['family']}]  {row['truth']}")
        if row.get("by_the_law_of_dropout"):
            print(f"    {row['seconds']:.1f} s: it breaks the law of dropout")
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
        record = hunt(as_subject(right.subject, right.name), seed=options.seed)
        print(f"right: {right.name}: {'FALSE ALARM' if record.findings else 'agrees'} after {record.total} checks")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1, default=str))


if __name__ == "__main__":
    main()
