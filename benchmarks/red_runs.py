"""The duration of a red run: seconds of one processor from the first failing check to an explained finding.

It is measured for every fault of the catalogue, for the two older foreign sets, for wrong ports of GRU and LSTM, and
for oneDNN's defect in bfloat16 products of an odd number of terms. ``tests/emulated`` has that defect on any CPU, and
here it counts as unknown. Run: ``python benchmarks/red_runs.py``.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.processes import one_thread_a_process

one_thread_a_process()

from benchmarks.foreign import chosen  # noqa: E402
from benchmarks.layers import gated_ports  # noqa: E402
from benchmarks.layers.gated_ports import MISTAKES, WAYS_BACK  # noqa: E402
from benchmarks.planted import CATALOGUE  # noqa: E402
from benchmarks.planted.subject import PlantedSubject  # noqa: E402
from harness import Scope, Subject, as_subject  # noqa: E402
from harness.checks import case_checks  # noqa: E402
from harness.checks.case_checks import against  # noqa: E402
from harness.diagnosis.finding_explainer import FindingExplainer  # noqa: E402
from harness.search.search import Search  # noqa: E402
from harness.search.search_record import Finding  # noqa: E402
from harness.subjects.protocol import scope_of  # noqa: E402
from tests.emulated import FillsUpPairs  # noqa: E402


class Red(NamedTuple):
    """A wrong subject, and the scope to search."""

    name: str
    subject: Subject
    scope: Scope


def catalogue() -> Iterator[Red]:
    """Yield every fault, planted."""
    for fault in CATALOGUE:
        subject = PlantedSubject(fault)
        yield Red(fault.name, subject, subject.scope())


def foreign() -> Iterator[Red]:
    """Yield both older foreign sets."""
    for layer in [*chosen("first", ()), *chosen("second", ())]:
        if layer.mistakes:
            yield Red(layer.name, layer.subject, scope_of(layer.subject, layer.profile).only(**layer.only))


def gates() -> Iterator[Red]:
    """Yield the wrong ports of GRU and LSTM, forward and back."""
    for name in {**MISTAKES, **WAYS_BACK}:
        subject = as_subject(getattr(gated_ports, name), name)
        yield Red(name, subject, scope_of(subject))


def defect() -> Iterator[Red]:
    """Yield the emulated defect, after removing it from this process's known issues."""
    known: Any = case_checks
    known.TORCH_ISSUES = tuple(one for one in known.TORCH_ISSUES if "bfloat16" not in one.name)
    subject = as_subject(FillsUpPairs, "emulated")
    yield Red("emulated", subject, scope_of(subject).only(dtype="bfloat16"))


SETS = {"catalogue": catalogue, "foreign": foreign, "gates": gates, "defect": defect}


def seconds_of(red: Red) -> float | None:
    """Return the seconds from the first failing check to the explained finding; ``None`` if nothing fails."""
    began, ended = list[float](), list[float]()
    investigation = FindingExplainer(red.subject)

    with np.errstate(all="ignore"), Search(red.subject, red.scope) as search:
        for event in search:
            if isinstance(event, Finding):
                investigation.recognise(event, search.record)
                ended.append(time.process_time())
            elif against(event.result) and not began:
                began.append(time.process_time())
    return ended[0] - began[0] if began and ended else None


def main() -> None:
    """Print the median and the worst time of each set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sets", nargs="*", help=", ".join(SETS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, dict[str, Any]] = {}
    for name in options.sets or SETS:
        timed = {red.name: seconds for red in SETS[name]() if (seconds := seconds_of(red)) is not None}
        slowest = max(timed, key=timed.__getitem__)
        figures[name] = timed
        print(
            f"{name:10} {len(timed):4} red runs: median {statistics.median(timed.values()):.2f} s, "
            f"worst {timed[slowest]:.1f} s ({slowest})",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
