"""The harness measured on itself: it must find, shrink and name every known fault, and accuse nothing that is right.

Each fault of the catalogue is planted in a subject, which is searched and explained as the command does it. Correct
layers are searched in the same way, and must raise no alarm. Run:
``python benchmarks/selftest.py [FAULT|FAMILY|correct|LAYER]... --workers 2``. Without names, everything is measured.
The exit code is 1 if a fault is not found or named wrongly, or if a correct layer is accused.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from enum import Enum
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.processes import one_thread_a_process

one_thread_a_process()

import numpy as np  # noqa: E402

from benchmarks.correct_layers import CORRECT, correct_subject  # noqa: E402
from benchmarks.planted import CATALOGUE, Fault, named  # noqa: E402
from benchmarks.planted.same import same_as, same_special  # noqa: E402
from benchmarks.planted.subject import PlantedSubject  # noqa: E402
from harness.diagnosis.defects import raise_defects  # noqa: E402
from harness.diagnosis.finding_explainer import Diagnosis, FindingExplainer  # noqa: E402
from harness.diagnosis.identify.cause import IdentifiedCause  # noqa: E402
from harness.diagnosis.nan_and_inf import NonFiniteMistake  # noqa: E402
from harness.diagnosis.roundings import RoundingOnlyCause  # noqa: E402
from harness.search.examination import Examination, examine  # noqa: E402
from harness.search.search import Search, hunt  # noqa: E402
from harness.search.search_options import SearchOptions  # noqa: E402
from harness.search.simplify import PLAIN_NUMBERS  # noqa: E402
from harness.space.case import Case, as_plain  # noqa: E402
from harness.space.config import RNNConfig  # noqa: E402
from harness.subjects.protocol import scope_of  # noqa: E402

raise_defects()


class Naming(Enum):
    """The way in which the report names a planted fault."""

    RIGHT = "right"
    WRONG = "wrong"  # another mistake, for certain
    NONE = "not named"


class Trial(NamedTuple):
    """What the harness made of a planted fault. Without a finding, only the first three fields say something."""

    fault: str
    family: str
    checks: int  # until the first failure, or in all
    found: bool = False
    minimal: bool = False  # the config is one of the smallest that can show the fault
    plain: bool = False  # all numbers are plain, padding left out
    naming: Naming = Naming.NONE
    shown: str = ""  # the config and the named causes

    @property
    def passed(self) -> bool:
        """True if the fault was found and not named wrongly."""
        return self.found and self.naming is not Naming.WRONG


class Correct(NamedTuple):
    """What the harness made of a correct layer."""

    name: str
    checks: int
    alarms: tuple[str, ...]


def trial(name: str, seed: int = 0, cases: int | None = None) -> Trial:
    """Search and explain a planted fault."""
    return trial_of(named(name), seed, cases)


def trial_of(fault: Fault, seed: int = 0, cases: int | None = None) -> Trial:
    """Search and explain a planted fault, of the catalogue or not."""
    subject = PlantedSubject(fault)
    record = hunt(subject, subject.scope(), cases=cases, seed=seed)
    finding = record.finding
    if finding is None:
        return Trial(fault.name, fault.family, record.total)
    case, diagnosis = finding.case, FindingExplainer(subject).explain(finding, record.scope).diagnosis
    cause = diagnosis.cause.sentence if diagnosis and diagnosis.cause else "nothing"
    return Trial(
        fault.name,
        fault.family,
        record.total,
        found=True,
        minimal=case.config in fault.smallest,
        plain=is_plain(case),
        naming=naming(fault, diagnosis, case.config),
        shown=f"{case.config!r}; named: {cause}",
    )


def naming(fault: Fault, diagnosis: Diagnosis | None, config: RNNConfig) -> Naming:
    """Return how a diagnosis names a fault: it is right if what was identified gives what the fault gives.

    Of a rounding, how coarse it is says all.
    """
    if diagnosis is None:
        return Naming.NONE
    if isinstance(diagnosis.cause, IdentifiedCause):
        return Naming.RIGHT if same_as(diagnosis.cause.identified, fault, config) else Naming.WRONG
    if isinstance(diagnosis.cause, NonFiniteMistake):
        return Naming.RIGHT if same_special(diagnosis.cause.reference, fault, config) else Naming.WRONG
    if fault.family == "rounding":
        coarse = diagnosis.precision is not None and diagnosis.precision.explains
        return Naming.RIGHT if coarse or isinstance(diagnosis.cause, RoundingOnlyCause) else Naming.NONE
    return Naming.NONE if diagnosis.cause is None else Naming.WRONG


def is_plain(case: Case) -> bool:
    """Return whether all numbers of a case are plain; padding, which is NaN, does not count."""
    arrays = as_plain(case.config, case.arrays)
    return all(bool(np.isin(array, PLAIN_NUMBERS).all()) for array in arrays.values())


def correct(name: str, seed: int = 0, cases: int | None = None) -> Correct:
    """Search a correct layer, and count what it is accused of."""
    with correct_subject(name) as subject:
        investigation = FindingExplainer(subject)
        options = SearchOptions(cases, seed=seed)
        with Search(subject, scope_of(subject), options) as search:
            for finding in search.findings():
                search.pass_over(investigation.recognise(finding, search.record))
        done = examine(subject, search.record, options)
    return Correct(name, done.hunt.total, tuple(_alarms(done)))


def _alarms(done: Examination) -> Iterator[str]:
    for finding in done.hunt.findings:
        yield f"{finding.result.verdict.value}: {finding.result.kind}: {finding.case!r}"
    if done.dropout is not None and done.dropout.failed:
        yield f"{done.dropout.verdict.value}: {done.dropout.kind}"
    for one in done.refusals.findings if done.refusals is not None else ():
        yield f"malformed call: {one.rule}: {one.lapse.value}"


HEADINGS: Final = ("faults", "found", "checks", "minimal", "plain", *(way.value for way in Naming))


def figures(trials: Sequence[Trial]) -> tuple[float, ...]:
    """Return the figures of a row of the table, in the order of ``HEADINGS``."""
    found = [one for one in trials if one.found]
    ways = [sum(one.naming is way for one in found) for way in Naming]
    checks = median(one.checks for one in found) if found else 0
    return (len(trials), len(found), checks, sum(t.minimal for t in found), sum(t.plain for t in found), *ways)


def lines(trials: Sequence[Trial], layers: Sequence[Correct]) -> Iterator[str]:
    """Yield the table by family, the faults to look at, and the correct layers."""
    if trials:
        widths = [len(heading) + 2 for heading in HEADINGS]
        rows = {family: [t for t in trials if t.family == family] for family in dict.fromkeys(t.family for t in trials)}
        yield f"{'family':14}" + "".join(f"{head:>{width}}" for head, width in zip(HEADINGS, widths, strict=True))
        for family, some in {**rows, "total": trials}.items():
            cells = zip(figures(some), widths, strict=True)
            yield f"{family:14}" + "".join(f"{figure:>{width}g}" for figure, width in cells)
    for one in trials:
        if not one.found:
            yield f"! {one.fault}: not found in {one.checks:,} checks"
        elif not one.minimal or one.naming is not Naming.RIGHT:
            yield f"! {one.fault}: {one.naming.value}{'' if one.minimal else ', not minimal'}: {one.shown}"
    for layer in layers:
        yield f"correct: {layer.name}: {len(layer.alarms)} false alarms in {layer.checks:,} checks"
        yield from (f"! {alarm}" for alarm in layer.alarms)


def chosen(names: Sequence[str]) -> tuple[list[Fault], list[str]]:
    """Return the faults and the correct layers of these names; everything if there are none."""
    if not names:
        return list(CATALOGUE), list(CORRECT)
    known = {"correct", *CORRECT, *(word for fault in CATALOGUE for word in (fault.name, fault.family))}
    if unknown := set(names) - known:
        sys.exit(f"{', '.join(sorted(unknown))}: expected names of faults, families, {', '.join(CORRECT)}, or correct")
    faults = [fault for fault in CATALOGUE if {fault.name, fault.family} & set(names)]
    return faults, [name for name in CORRECT if {name, "correct"} & set(names)]


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, help="cases for each subject; those of a search by default")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    faults, layers = chosen(options.names)
    start = time.perf_counter()
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        asked = {"seed": options.seed, "cases": options.examples}
        trials = pool.map(partial(trial, **asked), [fault.name for fault in faults])
        searched = list(pool.map(partial(correct, **asked), layers))
        tried = list(trials)
    print("\n".join(lines(tried, searched)))
    print(f"{time.perf_counter() - start:.0f} s; --seed {options.seed}")
    return 0 if all(one.passed for one in tried) and not any(layer.alarms for layer in searched) else 1


if __name__ == "__main__":
    sys.exit(main())
