"""Explanation of a user's arrays in a dozen lines, the verdict and the cause first."""

import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Final

from harness.checks.result import ComparisonMethod
from harness.diagnosis.error_map import error_maps
from harness.diagnosis.explain_given_arrays import (
    ArrayCause,
    ArrayInterpretation,
    ArraysExplained,
    GivenCase,
    explained,
    hidden_by_roundings,
    spec_line,
)
from harness.diagnosis.first_departure import first_departure
from harness.diagnosis.identify.recurrence import step_lines
from harness.oracle.compare import Mismatch, MismatchKind
from harness.report.error_map_records import maps_record
from harness.report.explanation_lines import NAMES_LISTED
from harness.report.json_record import as_json
from harness.report.page import piece
from harness.report.terminal import shapes_rows
from harness.report.wording import counted, number, place
from harness.space.errors import UsageError, require_type
from harness.space.factor_table import NONLINEARITIES
from harness.subjects.explain_inputs import WeightsToExplain, models
from harness.subjects.run_user_code import a_or_an

WORD_COLUMNS: Final = 8  # The width of the words that begin the lines, with a space


# The words for arrays of zeros alone, of which no single mistake can be told.
ALL_ZEROS: Final = "all of the numbers are zeros"


ROLE_LETTERS: Final = {"weight_ih": "W_ih", "bias_ih": "b_ih", "weight_hh": "W_hh", "bias_hh": "b_hh"}


# The words for a reading in which all is right, by what is not as the user said.
READ_OTHERWISE: Final = {
    "dtype": "rounds to float32 somewhere: to that precision, everything is right",
    "time": "returns the output with its last time step first: turned, everything is right",
    "sequences": "returns the sequences of the batch in another order: put in order, everything is right",
}


def _no_pieces() -> dict[str, Any]:
    """Return the pieces of arrays whose shapes fit nothing."""
    return {"code": {}, "shapes": [], "error_maps": None}


@dataclass(frozen=True, repr=False)
class ExplainReport:
    """The answer of ``explain``; it prints as its lines."""

    agrees: bool  # True if the arrays are what nn.RNN gives, as far as its derived tolerances tell
    cause: str | None  # The mistake that reproduces the arrays if they are wrong, or what is wrong with their shape
    certain: bool  # True if exactly one explanation reproduces everything that is wrong
    others: tuple[str, ...] = ()  # Other explanations that would give the same numbers
    lines: tuple[str, ...] = field(default=(), compare=False)
    # The code, the shapes and the maps of errors that a notebook shows, as data.
    pieces: Mapping[str, Any] = field(default_factory=_no_pieces, compare=False)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        fits = bool(self.pieces["shapes"])  # the verdict on shapes that do not has its cause in it
        shown: dict[str, Any] = {
            "tone": "good" if self.agrees else "bad",
            "verdict": self.lines[0],
            "cause": self.cause if fits else None,
            "sure": "certain" if self.certain else "possibly",
            "more": [],
            "text": str(self),
        }
        return piece({**self.pieces, **shown})


def explain(
    module: Any,
    x: Any,
    actual: Any,
    *,
    hx: Any = None,
    nonlinearity: str | None = None,
    batch_first: bool | None = None,
    atol: float = 0.0,
    cotangents: Mapping[str, Any] | None = None,
    more: Sequence[Sequence[Any]] = (),
) -> ExplainReport:
    """Tell whether ``actual``, which your own code made of ``x``, is what torch's layer computes, and if not, why.

    ``module`` is an ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM``, a module that holds one and at most one ``nn.Linear`` after
    it, or a dict of their weights as ``state_dict()`` names them; only its weights are used, and it is never run.
    ``actual`` is the output, the readout, h_n, c_n, a tuple of these, or a dict by name. Arrays are NumPy's or tensors.
    ``hx`` is the initial state, or of an LSTM a tuple of two.

    ``nonlinearity`` and ``batch_first`` are the module's by default; if only weights are given, both values are tried.
    ``atol`` is the error that each number of ``actual`` may have by itself: 5e-5 for four printed digits after the
    point. If ``cotangents`` holds the gradients of the loss by outputs, as ``output.grad`` or ``h_n.grad``, ``actual``
    may hold the gradients that your code made of them, as ``weight_hh_l0.grad`` or ``x.grad``. ``more`` holds further
    cases, ``(x, actual)``, ``(x, actual, hx)`` or ``(x, actual, hx, cotangents)``, which tell apart what one does not.

    Raises ``UsageError`` if there is nothing to compare.
    """
    if nonlinearity is not None and not (isinstance(nonlinearity, str) and nonlinearity in NONLINEARITIES):
        raise UsageError(f"nonlinearity={nonlinearity!r}: expected {' or '.join(map(repr, NONLINEARITIES))}")
    if not isinstance(batch_first, bool | None):
        raise UsageError(f"batch_first={batch_first!r}: expected True or False")
    if isinstance(atol, bool) or not isinstance(atol, Real) or not 0 <= float(atol) < math.inf:
        raise UsageError(f"atol={atol!r}: expected a number of at least 0, such as 5e-5 for four printed digits")
    if not isinstance(more, tuple | list):
        raise UsageError(f"more={reprlib.repr(more)}: expected a list of cases, (x, actual) or (x, actual, hx)")
    for case in more:
        if not isinstance(case, tuple | list) or len(case) not in {2, 3, 4}:
            raise UsageError(
                f"more holds {a_or_an(type(case).__name__)}: expected cases, (x, actual) or (x, actual, hx)"
            )
    for gradients in (cotangents, *(case[3] for case in more if len(case) == 4)):
        if gradients is not None:
            require_type("cotangents", gradients, Mapping, "gradients of the loss by outputs, as output.grad")
    handed = models(module)
    cases = [GivenCase(x, actual, hx, cotangents), *(GivenCase(*case) for case in more)]
    answer, chosen = explained(handed, cases, nonlinearity, batch_first=batch_first, atol=float(atol))
    return _answer(answer, chosen, others=len(handed) - 1)


def _answer(answer: ArraysExplained, handed: WeightsToExplain, *, others: int) -> ExplainReport:
    if answer.reading is None:
        misfit = answer.misfit
        return ExplainReport(False, misfit, True, (), (f"disagrees with {handed.config.layer} in shape: {misfit}",))
    reading, zeros = answer.reading, not answer.agrees and answer.reading.only_zeros
    causes = [sentence(cause) for cause in answer.causes]
    lines = [_verdict(answer), *([] if answer.agrees else why(answer, causes)), *_taken_as(reading, drops=handed.drops)]
    if handed.words:
        fits = ", which fits" if answer.agrees else "; the other way fits no better"
        lines.append(line("", handed.words + fits * bool(others)))
    cause = causes[0] if causes else ALL_ZEROS if zeros else None
    return ExplainReport(answer.agrees, cause, answer.certain, tuple(causes[1:]), tuple(lines), _pieces(answer))


def _pieces(answer: ArraysExplained) -> dict[str, Any]:
    """Return the parts that a notebook shows, of the first case that is wrong."""
    assert answer.reading is not None
    wrong = next((i for i, result in enumerate(answer.results) if result.mismatches), 0)
    run = answer.reading.observations[wrong]
    maps = None if answer.agrees else error_maps(run)
    return {
        "code": dict(_code(answer.causes[0])) if answer.causes else {},
        "shapes": shapes_rows(run.case.config),
        "error_maps": None if maps is None else as_json(maps_record(maps)),
    }


def line(word: str, text: str) -> str:
    """Return a line of the report, which begins with a word."""
    return f"{word:<{WORD_COLUMNS}}{text}"


def numbers(reading: ArrayInterpretation) -> int:
    """Return how many numbers were given."""
    return sum(array.size for run in reading.observations for array in run.outcome.arrays.values())


def _verdict(answer: ArraysExplained) -> str:
    assert answer.reading is not None
    total, layer = numbers(answer.reading), answer.reading.config.layer
    if answer.agrees:
        rounded = "" if answer.digits is None else f" as rounded to {counted(answer.digits, 'digit')} after the point"
        return f"agrees with {layer} in all {counted(total, 'number')}{rounded}, {_how(answer)}"
    wrong = sum(mismatch.count for result in answer.results for mismatch in result.mismatches)
    return f"disagrees with {layer} in {wrong:,} of {counted(total, 'number')}, {_how(answer)}"


def _how(answer: ArraysExplained) -> str:
    if all(result.method is ComparisonMethod.LOCAL for result in answer.results):
        return "step by step"
    assert answer.reading is not None
    return f"end to end; less than {max(hidden_by_roundings(run) for run in answer.reading.observations):.1g} may hide"


def why(answer: ArraysExplained, causes: Sequence[str]) -> Iterator[str]:
    """Yield the lines that say what is wrong, and why."""
    reading = answer.reading
    assert reading is not None
    total = counted(numbers(reading), "number")
    every = f"all {total}" if numbers(reading) > 1 else "the number"
    if causes:
        yield line("cause", causes[0])
        yield from (line(*pair) for pair in _code(answer.causes[0]))
        yield line("certain" if answer.certain else "perhaps", _sure(answer, f"it reproduces {every}"))
        yield from (line("", f"or {cause}") for cause in causes[1:NAMES_LISTED])
        if len(causes) > NAMES_LISTED:
            yield line("", f"or one of {len(causes) - NAMES_LISTED} more")
        if answer.shared:
            yield line("certain", f"{'; and '.join(answer.shared)}, whichever it is")
    elif reading.only_zeros:
        yield line("cause", f"{ALL_ZEROS}: they tell nothing of what your code computes, and many mistakes give them")
    elif lost := reading.nonfinite_values:
        yield line(
            "cause", f"unknown: {lost} of {total} are NaN or infinite, where {reading.config.layer}'s are finite"
        )
    elif answer.defects:
        yield from (line("cause", defect) for defect in answer.defects)
    elif not answer.tried and reading.config.proj_size:
        yield line("cause", "unknown: no mistake is tried with proj_size")
    elif not answer.tried:
        yield line("cause", f"unknown: {total} are too many to try what may explain them: give fewer time steps")
    else:
        yield line("cause", f"unknown: no mistake that was tried reproduces {every}, nor do several at once")
    wrong = [(i, mismatch) for i, result in enumerate(answer.results) for mismatch in result.mismatches]
    case, mismatch = wrong[0]
    yield line("first", _first(reading, case, mismatch))
    case, mismatch = max(wrong, key=lambda pair: pair[1].sites[0].excess)
    yield line("worst", _worst(reading, case, mismatch))
    if not causes and all(error.sort is MismatchKind.VALUE for _, error in wrong):
        yield line("within", f"atol={max(error.atol for _, error in wrong):.1e} of every expected number")
    if answer.digits is not None:
        yield line("rounded", f"actual has at most {counted(answer.digits, 'digit')} after the point, and is taken so")


def _sure(answer: ArraysExplained, reproduces: str) -> str:
    """Return how certain a cause is, and what would make it more certain."""
    if answer.certain:
        return f"{reproduces}; nothing else as simple does"
    if len(answer.causes) == 1:
        return f"{reproduces}, but few are wrong: add other inputs with more=[(x, actual)]"
    others = "so does another" if len(answer.causes) == 2 else f"so do {len(answer.causes) - 1} others"
    return f"{reproduces}; {others}: {answer.telling} tells, with more=[(x, actual)]"


def sentence(cause: ArrayCause) -> str:
    """Return the mistakes, their parameters, and the reading of the arrays if that is not the one that was given."""
    config = cause.reading.config
    if cause.reading.other in READ_OTHERWISE:
        return READ_OTHERWISE[cause.reading.other]
    if cause.explanation is not None:
        return "; and ".join(cause.mistakes)
    return f"takes the other axis for time: it computes what {config.layer} does with batch_first={config.batch_first}"


def _code(cause: ArrayCause) -> list[tuple[str, str]]:
    if cause.explanation is None:
        return []
    network, nonlinearity = cause.explanation.network, cause.reading.config.nonlinearity
    layer = cause.reading.config.layer
    mistakes = cause.explanation.mistakes
    pairs = [step_lines(mistake.models[0], mistake.yours, mistake.right, network, nonlinearity) for mistake in mistakes]
    return [line for pair in dict.fromkeys(pairs) for line in zip(("yours", layer), pair, strict=True) if line[1]]


def _first(reading: ArrayInterpretation, case: int, mismatch: Mismatch) -> str:
    """Return where the error begins: if all states are known, by comparing each step alone."""
    where = first_departure(reading.observations[case])
    if where is None:
        site = min(mismatch.sites, key=lambda element: tuple(map(str, element.place.values())))
        return f"{mismatch.array}[{place(site)}]{_which_case(reading, case)}"
    at = ", ".join(f"{axis}={index}" for axis, index in where.place.items())
    pattern = f"; {where.wrong} of {where.total} are wrong in themselves" + (f", {where.pattern}" * bool(where.pattern))
    follows = f"; {where.follows} more only follow" if where.follows else ""
    return f"{where.array}[{at}]{_which_case(reading, case)}{pattern}{follows}"


def _worst(reading: ArrayInterpretation, case: int, mismatch: Mismatch) -> str:
    site, dtype = mismatch.sites[0], reading.observations[case].arithmetic.dtype
    values = f"{number(site.actual, dtype)}, should be {number(site.expected, dtype)}"
    return f"{mismatch.array}[{place(site)}]{_which_case(reading, case)} = {values} (±{site.tolerance:.2g})"


def _which_case(reading: ArrayInterpretation, case: int) -> str:
    if reading.names:
        return f" of case {reading.names[case]}"
    return f" of case {case + 1}" if len(reading.observations) > 1 else ""


def _taken_as(reading: ArrayInterpretation, *, drops: bool) -> Iterator[str]:
    run = reading.observations[0]
    config, arrays = reading.config, run.outcome.arrays
    names = ", ".join(f"{name} {spec_line(config.returned[name])}" for name in arrays)
    how = f"{config.nonlinearity}, " * (not config.gated) + f"batch_first={config.batch_first}, to the precision of "
    how += run.arithmetic.dtype
    rounded = f" and atol={run.rounded:g}" if run.rounded else ""
    yield line("taken", f"as {names}; {how}{rounded}")
    if drops:
        yield line("", "without its dropout, as in eval mode")
