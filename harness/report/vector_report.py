"""vector_report: what came back of test vectors, in a dozen lines, the verdict and the cause first, and as data."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from harness.diagnosis.vector_comparison import VectorSetComparison
from harness.report.given_arrays_report import line, numbers, sentence, why
from harness.report.json_record import as_json, result_record
from harness.report.wording import config_line, counted, mismatch_line

NAMES_SHOWN: Final = 10  # the number of names of cases that a line shows


def judged_lines(judged: VectorSetComparison) -> list[str]:
    """Return the lines of the report."""
    return list(_lines(judged))


def judged_record(judged: VectorSetComparison, names: Sequence[str]) -> dict[str, Any]:
    """Return the same as data, with the result of each case in the order of ``names``."""
    answer = judged.found
    results = {**judged.results, **judged.unfit}
    causes = [] if answer is None or not judged.wrong else [sentence(cause) for cause in answer.causes]
    came = {name: result_record(results[name]) if name in results else None for name in names}
    record = {
        "agrees": judged.agrees,
        "cause": causes[0] if causes else None,
        "certain": bool(causes) and answer is not None and answer.certain,
        "others": causes[1:],
        "cases": came,
        "lines": judged_lines(judged),
    }
    return dict(as_json(record))


def _lines(judged: VectorSetComparison) -> Iterator[str]:
    answer = judged.found
    came = len(judged.unfit) + (0 if answer is None or answer.reading is None else len(answer.reading.observations))
    bad = len(judged.unfit) + len(judged.wrong)
    if not came:
        yield "not enough seen: no case has a result"
    elif not bad:
        assert answer is not None
        assert answer.reading is not None
        total = counted(numbers(answer.reading), "number")
        yield f"agrees with {judged.layer} in all {counted(came, 'case')}, {total}"
    else:
        yield f"disagrees with {judged.layer} in {bad} of {counted(came, 'case')}"
    if answer is not None and judged.wrong:
        yield from why(answer, [sentence(cause) for cause in answer.causes])
        assert answer.reading is not None
        first = answer.reading.observations[answer.reading.names.index(judged.wrong[0])]
        yield line("case", f"{judged.wrong[0]}: {config_line(first.case.config)}")
        yield line("wrong", _some(judged.wrong))
    for name, result in list(judged.unfit.items())[:NAMES_SHOWN]:
        yield line("form", f"{name}: {mismatch_line(result.mismatches[0]) if result.mismatches else result.message}")
    if len(judged.unfit) > NAMES_SHOWN:
        yield line("", f"and {len(judged.unfit) - NAMES_SHOWN} more")
    if judged.missing:
        yield line("missing", f"{_some(judged.missing)}: nothing came back")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{', '.join(names[:NAMES_SHOWN])}{more}"
