"""The planted faults that each kind of run is needed for, beside the time that it takes.

Every fault of the catalogue is searched for as ``kills.py`` does, with all kinds of runs, and again without each kind:

- prefixes: runs on the first layers of a stack, without which a stack of layers is compared end to end;
- probes: wider runs that show the gradients inside;
- relations: other runs that must give the same;
- second run: the same run again.

``only`` counts the faults that are killed with all kinds and not without this one, and ``later`` those that take more
cases without it. ``seconds`` is the processor time of the kind in a search of torch's whole scope, its comparisons
included, and ``of a search`` the share. A last line has the runs on the cases themselves.

Run: ``python benchmarks/kinds_of_runs.py`` (some ten minutes), or with ``--families bias``.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.processes import one_thread_a_process

one_thread_a_process()

from benchmarks.kills import forget_plans  # noqa: E402
from benchmarks.planted import Fault  # noqa: E402
from benchmarks.planted.subject import PlantedSubject  # noqa: E402
from benchmarks.selftest import chosen  # noqa: E402
from harness import Case, Outcome, Subject, hunt  # noqa: E402
from harness.checks import agreement, case_checks  # noqa: E402
from harness.checks.case_checks import against  # noqa: E402
from harness.checks.result import ComparisonMethod, Result, Verdict  # noqa: E402
from harness.search.search import Search  # noqa: E402
from harness.search.search_options import SearchOptions  # noqa: E402
from harness.subjects.torch_module import TorchSubject  # noqa: E402

PREFIXES: Final[Callable[..., Any]] = vars(agreement)["_prefixes"]
AGREES: Final = Result(Verdict.AGREES, method=ComparisonMethod.RELATIONS)


def _one_layer(subject: Subject, case: Case, outcome: Outcome) -> Any:
    return PREFIXES(subject, case, outcome) if case.config.num_layers == 1 or case.config.T == 1 else None


# The functions of a kind, each with what stands in its place without it.
KINDS: Final[dict[str, list[tuple[Any, str, Callable[..., Any]]]]] = {
    "prefixes": [(agreement, "_prefixes", _one_layer)],
    "probes": [(agreement, "_probed", lambda *_: None), (agreement, "_with_probes", lambda *_, **__: None)],
    "relations": [(case_checks, "check_relations", lambda *_, **__: AGREES)],
    "second run": [(case_checks, "check_twice", lambda *_: AGREES)],
}


@contextmanager
def replaced(functions: Sequence[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """Have other functions in the place of some, by their module and name."""
    before = [getattr(module, name) for module, name, _ in functions]
    for module, name, function in functions:
        setattr(module, name, function)
    try:
        yield
    finally:
        for (module, name, _), function in zip(functions, before, strict=True):
            setattr(module, name, function)


def cases_to_a_kill(fault: Fault) -> int | None:
    """Return how many cases a search takes until one fails; ``None`` if none does."""
    subject = PlantedSubject(fault)
    with Search(subject, subject.scope(), SearchOptions()) as search:
        for event in search:
            if against(event.result):
                return search.record.total
    return None


def seconds() -> tuple[float, dict[str, float]]:
    """Return the processor time of a search of torch, and of each kind in it."""
    spent = dict.fromkeys(KINDS, 0.0)

    def timed(kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return call(*arguments, **options)
            finally:
                spent[kind] += time.process_time() - start

        return run

    hunt(TorchSubject(), cases=100)  # imports and caches that are filled once are not measured
    forget_plans()
    with replaced([(m, n, timed(kind, getattr(m, n))) for kind, of in KINDS.items() for m, n, _ in of]):
        start = time.process_time()
        hunt(TorchSubject())
        return time.process_time() - start, spent


def measured(faults: Sequence[Fault]) -> None:
    """Measure, and print a line for each kind."""
    total, spent = seconds()
    counts = [cases_to_a_kill(fault) for fault in faults]
    print(f"{len(faults)} faults, {sum(count is not None for count in counts)} killed with all kinds of runs")
    print(f"{'':14}{'only':>6}{'later':>7}{'seconds':>9}{'of a search':>13}", flush=True)
    for kind, functions in KINDS.items():
        with replaced(functions):
            without = [cases_to_a_kill(fault) for fault in faults]
        pairs = list(zip(counts, without, strict=True))
        only = [fault.name for fault, (a, b) in zip(faults, pairs, strict=True) if a and not b]
        later = sum(a is not None and b is not None and b > a for a, b in pairs)
        print(
            f"{kind:14}{len(only):6}{later:7}{spent[kind]:9.1f}{spent[kind] / total:13.0%}  {' '.join(only)}",
            flush=True,
        )
    rest = total - sum(spent.values())
    print(f"{'the cases':14}{'':13}{rest:9.1f}{rest / total:13.0%}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], help="faults by their class")
    parser.add_argument("--families", nargs="+", default=[])
    options = parser.parse_args()
    measured(chosen([*options.only, *options.families])[0])


if __name__ == "__main__":
    main()
