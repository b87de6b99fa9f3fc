"""Sentences and numbers as every report writes them."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, Context
from typing import Any, Final

from harness.checks.activation_accuracy import CLOSE_TANH, Accuracy
from harness.checks.dropout import FALSE_ALARMS
from harness.checks.known_failures import KnownFailure
from harness.checks.known_issues import KNOWN_ISSUES, KnownIssue
from harness.checks.result import ComparisonMethod, Result, Verdict
from harness.checks.vacuous import MISTAKES
from harness.oracle.arithmetic_assumptions import STRICT
from harness.oracle.compare import Mismatch, MismatchKind, Site
from harness.oracle.judge import Judgement, WrongSide
from harness.search.examination import EqualBits, Examination
from harness.search.plan_shards import Shard
from harness.search.search_record import Helpers, SearchRecord
from harness.space.config import AXIS_LETTERS, PLAINEST, RNNConfig
from harness.space.factor_table import lacking
from harness.space.scope import Scope, factors_of
from harness.space.searched_scope import percent

HINTS: Final = {
    MismatchKind.SHAPE: "if it need not support this config: raise NotImplementedError, or leave it out with --only",
    MismatchKind.MISSING: "with a readout, return (output, h_n, readout), (readout, h_n) or the readout alone",
    MismatchKind.DTYPE: "return it in the expected dtype, or pin the one that it has, such as --dtype float64",
    MismatchKind.MALFORMED: "return what nn.RNN returns, as arrays",
    MismatchKind.CHANGED: "work on a copy: nn.RNN does not write into its inputs",
    MismatchKind.OVERWRITTEN: "return a new array each time: nn.RNN's next call does not change what it returned",
    MismatchKind.ALIASED: "return a copy: with nn.RNN, a write into one does not change the other",
}


CALL_FACTORS: Final = lacking("always_named")  # factors of the way a layer is called, which most users need not know


def verdict_on(hunt: SearchRecord, verdict: Verdict | None, end: str = "") -> str:
    """Return the verdict on the subject of a search as a sentence, and how it ended, and of what the verdict is."""
    known = verdict is Verdict.AGREES and any(hunt.known[failure.name] for failure in hunt.own)
    layer = PLAINEST.replace(cell=hunt.scope.cell[0]).layer
    part = of_scope(hunt.scope) if verdict is Verdict.AGREES else ""
    if verdict is Verdict.AGREES and (missing := [*_missing(hunt)]):
        part += f"{',' if part else ':'} without {' and '.join(missing)}"
    part += f", with the weights of {hunt.weights}" * bool(part and hunt.weights)
    if verdict is Verdict.NOT_ENOUGH and hunt.gaps:
        part = f": {'; '.join(gap_lines(hunt))}"
    return headline(hunt.subject, verdict, layer) + end + part + (", but for known failures" if known else "")


# The arrays by which there are gradients, in the order of a call.
_GRADIENTS_BY: Final = (
    *("x", "hx", "cx", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"),
    *("readout.weight", "readout.bias"),
)


def _missing(hunt: SearchRecord) -> Iterator[str]:
    """Yield what of a subject's results was not compared wherever it was asked for, in words."""
    results = [name for name in ("output", "h_n", "c_n") if hunt.not_compared[name]]
    yield from results
    if gradients := [name for name in _GRADIENTS_BY if hunt.not_compared[name]]:
        several = ", ".join(gradients[:-1]) + " and " * (len(gradients) > 1) + gradients[-1]
        yield f"the gradient{'s' * (len(gradients) > 1)} of {several}"


def gap_lines(hunt: SearchRecord) -> list[str]:
    """Return what a subject offers and was not compared, each with the reason and the pin that settles it."""
    values, lines = hunt.scope.values(), list[str]()
    for name, why in hunt.gaps.items():
        what = {"loss": "gradients are", "lengths": "lengths are"}.get(name, f"{name} is")
        part = "all " * (name == "loss" and any(hunt.scope.loss))
        pin = "none" if name == "loss" else ",".join(str(value).lower() for value in values.get(name, ()))
        settled = f"; --only {name}={pin} says that this is what you want" * bool(pin)
        lines.append(f"{what} not {part}checked: {why}{settled}")
    return lines


def of_scope(scope: Scope) -> str:
    """Return what of torch's layer a search was about, such as ``: one tanh layer``; nothing if it was about all."""
    layers, kinds = ({*scope.num_layers}, {*scope.nonlinearity})
    kind = f"{scope.nonlinearity[0]} " * (scope.cell == ("RNN",) and len(kinds) == 1)
    parts = [f"{kind}layers" * bool(kind)]
    if len(layers) == 1:
        parts = [f"one {kind}layer" if layers == {1} else f"{scope.num_layers[0]} {kind}layers"]
    if len({*scope.bidirectional}) == 1:
        parts.append("two directions" if scope.bidirectional[0] else "one direction")
    parts.append("from zeros" * (not any(scope.hx)))
    parts.append("forward only" * (not any(scope.loss)))
    parts.append(f"{scope.dtype[0]} alone" * (len({*scope.dtype}) == 1))
    return ": " * any(parts) + ", ".join(filter(None, parts))


def headline(subject: str, verdict: Verdict | None, layer: str) -> str:
    """Return a verdict on how a subject compares with a layer of torch's as a sentence."""
    return {
        None: f"{subject} was not checked",
        Verdict.AGREES: f"{subject} agrees with {layer}",
        Verdict.DISAGREES: f"{subject} disagrees with {layer}",
        Verdict.SUSPECT: f"{subject} is suspected to disagree with {layer}",
        Verdict.NOT_ENOUGH: f"{subject}: not enough seen to say that it agrees with {layer}",
        Verdict.UNSUPPORTED: f"{subject} refused everything it was asked",
        Verdict.BROKEN: f"{subject} is broken",
    }[verdict]


def so_far(done: Examination) -> str:
    """Return the words after the verdict on a subject that agrees, if an interrupt came before the end."""
    return " so far" if done.interrupted and done.verdict is Verdict.AGREES else ""


def verdict_word(done: Examination) -> str:
    """Return the verdict on a subject in a word or two, for a table."""
    if done.verdict is None:
        return "not checked"
    return done.verdict.value + so_far(done)


def tone(verdict: Verdict | None) -> str:
    """Return how a page shows a verdict: as ``good`` or ``bad``, or as ``warn`` if it is open."""
    if verdict is Verdict.AGREES:
        return "good"
    return "warn" if verdict in {None, Verdict.NOT_ENOUGH, Verdict.UNSUPPORTED} else "bad"


def missing_line(missing: Sequence[Shard]) -> str:
    """Return which shards of a search are missing."""
    return (
        f"shard {missing[0]} is missing" if len(missing) == 1 else f"shards {', '.join(map(str, missing))} are missing"
    )


def unshown_line(done: Examination) -> str | None:
    """Return which mistakes too few cases could have shown, why, and what to do; ``None`` if there are none."""
    few = [f"{mistake} ({number:,}; {MISTAKES[mistake]})" for mistake, number in done.unshown.items()]
    if not few:
        return None
    compared = counted(done.hunt.total - done.hunt.checks[ComparisonMethod.FORM], "case")
    more = "fewer pins" if done.hunt.accepted == STRICT else "fewer pins, or without --tolerance"
    return f"few of {compared} could have shown {', '.join(few)}: check with {more}"


def helpers_line(helpers: Helpers | None) -> str | None:
    """Return which workers of a cluster helped, and what was lost with a worker; ``None`` if neither is to be said."""
    if helpers is None or not (helpers.scheduler or helpers.lost_chunks):
        return None
    parts = [str(helpers.number) + (f" of {helpers.scheduler}" if helpers.scheduler else "")]
    if helpers.lost_chunks:
        parts.append(f"{counted(helpers.lost_chunks, 'chunk')} lost, and done again")
    if helpers.alone:
        parts.append(f"{helpers.alone}, and the command did the rest itself")
    return "; ".join(parts)


# Short words for the sharpness of comparisons.
COMPARISON_WORDS: Final = {
    ComparisonMethod.LOCAL: "step by step",
    ComparisonMethod.CARRIED: "step by step, with gradients",
    ComparisonMethod.FORM: "in names, shapes and dtypes only",
    ComparisonMethod.DROPOUT: "by the statistics of dropout",
    ComparisonMethod.RELATIONS: "by relations",
    ComparisonMethod.END_TO_END: "end to end, where small errors may hide",
    ComparisonMethod.NONE: "in nothing: no arrays",
}

_SHARES: Final = {
    MismatchKind.VALUE: "differs",
    MismatchKind.FINITENESS: "is infinite or NaN where it should not be, or finite where it should not,",
    MismatchKind.SUSPICIOUS: "differs by more than usual roundings explain",
}


_DERIVATIVES: Final = {
    "gradcheck": "its derivatives in forward mode differ from differences of its results",
    "gradgradcheck": "the derivatives of its gradients differ from differences of these",
}


def mismatch_line(mismatch: Mismatch) -> str:
    """Return what differs, in one line."""
    where = mismatch.array
    if mismatch.layer is not None and mismatch.probed:
        where = f"{where} of layer {mismatch.layer}"
    elif mismatch.layer is not None:
        where = f"{where} of the first {counted(mismatch.layer + 1, 'layer')} alone"
    if mismatch.probed:
        where = f"{where}, seen with probes,"
    if mismatch.sort in _SHARES:
        what = _SHARES[mismatch.sort]
        share = percent(mismatch.count, mismatch.total)
        if mismatch.relation:
            where = f"not the same with {mismatch.others}: {where}"
        return f"{where} {what} in {mismatch.count} of {mismatch.total} elements ({share})"
    if mismatch.relation:
        plain = replace(mismatch, relation="")
        return f"not the same with {mismatch.others}: {mismatch_line(plain)}"
    return {
        MismatchKind.MISSING: f"{where} is missing, expected {mismatch.expected}",
        MismatchKind.UNEXPECTED: f"{where} is no output of the layer: {mismatch.actual}",
        MismatchKind.SHAPE: f"{where} has shape {mismatch.actual}, expected {mismatch.expected}",
        MismatchKind.DTYPE: f"{where} has dtype {mismatch.actual}, expected {mismatch.expected}",
        MismatchKind.ALIASED: f"{where} shares memory with {mismatch.actual}",
        MismatchKind.OVERWRITTEN: f"{where} is overwritten by the next call",
        MismatchKind.CHANGED: f"{where} was given to the subject, which wrote into it",
        MismatchKind.MALFORMED: mismatch.actual,
        MismatchKind.DERIVATIVE: f"{_DERIVATIVES.get(mismatch.actual, where)} ({mismatch.actual})",
    }[mismatch.sort]


def place(site: Site) -> str:
    """Return the place of a differing element: ``t=3, n=0, unit=1``."""
    return ", ".join(f"{axis}={index}" for axis, index in site.place.items())


# The significant decimal digits that tell any two numbers of a dtype apart.
_DIGITS: Final = {"float64": 17, "float32": 9, "float16": 5, "bfloat16": 4}


def number(value: float, dtype: str) -> str:
    """Format a value with all the digits that its dtype tells apart."""
    return f"{value:.{_DIGITS[dtype]}g}"


def config_line(config: RNNConfig) -> str:
    """Return every field, so that none has to be remembered; those of the call only if they are unusual."""
    plain: Mapping[str, Any] = PLAINEST.fields
    fields: Mapping[str, Any] = config.fields
    return ", ".join(f"{name}={v}" for name, v in fields.items() if name not in CALL_FACTORS or v != plain[name])


def sizes_line(config: RNNConfig) -> str:
    """Return the sizes of a config, with the letters that stand for them."""
    beside = {"output_size", *(["proj_size"] if not config.proj_size else [])}
    letters = {letter: getattr(config, factor) for factor, letter in AXIS_LETTERS.items() if factor not in beside}
    return ", ".join(f"{letter}={size}" for letter, size in letters.items())


def leave_out_line(config: RNNConfig, needs: Mapping[str, Any], *, own: bool = True) -> str | None:
    """Return how to leave out an unusual way of calling, or a nonlinearity that is needed to fail; ``None`` if neither.

    Many users do not want to support it. A subject that is not the user's ``own`` cannot be made to refuse it.
    """
    plain, here = factors_of(PLAINEST.replace(cell=config.cell)), factors_of(config)
    names = {*CALL_FACTORS, *({"nonlinearity"} & needs.keys())}
    pins = [f"--only {name}={plain[name]}" for name in here if name in names and here[name] != plain[name]]
    pins = [pin for pin in pins if "enforce_sorted" not in pin]  # it comes with packing only
    how = "if it need not support this: raise NotImplementedError, or" if own else "to search without it:"
    return f"{how} {' '.join(pins)}" if pins else None


def judgement_line(judgement: Judgement) -> str:
    """Return which side is wrong, and by how much."""
    figures = f"the exact result is {judgement.exact:.9g}"
    if judgement.ruling in {WrongSide.SUBJECT, WrongSide.BOTH}:
        figures += (
            f", the subject is off by at least {judgement.off_by:.3g}, {judgement.subject:.3g} times its tolerance"
        )
    if judgement.ruling in {WrongSide.REFERENCE, WrongSide.BOTH}:
        figures += f", the reference by {judgement.reference:.3g} times its own"
    return f"{judgement.ruling.value}: {figures}"


def enough_line(result: Result) -> str | None:
    """Return the smallest explicit tolerance with which the differing values would have passed, if there is one."""
    values = [
        mismatch for mismatch in result.mismatches if mismatch.sort in {MismatchKind.VALUE, MismatchKind.SUSPICIOUS}
    ]
    if not values or any(
        mismatch.sort not in {MismatchKind.VALUE, MismatchKind.SUSPICIOUS} for mismatch in result.mismatches
    ):
        return None
    rtol, atol = max(mismatch.rtol for mismatch in values), max(mismatch.atol for mismatch in values)
    relative = f" or rtol={_rounded_up(rtol)}" if math.isfinite(rtol) else ""
    return f"this case passes with --tolerance atol={_rounded_up(atol)}{relative}"


def _rounded_up(value: float) -> str:
    return f"{Context(prec=2, rounding=ROUND_CEILING).create_decimal_from_float(value):.1e}"


def hints(mismatches: Iterable[Mismatch], config: RNNConfig) -> list[str]:
    """Return what to do about mismatches of a layer."""
    return [hint.replace(PLAINEST.layer, config.layer) for hint in map(_hint, mismatches) if hint]


def _hint(mismatch: Mismatch) -> str | None:
    if mismatch.array.endswith(".grad") and mismatch.sort in {MismatchKind.SHAPE, MismatchKind.DTYPE}:
        return None
    if mismatch.array.endswith(".grad") and mismatch.sort is MismatchKind.MISSING:
        name = mismatch.array.removesuffix(".grad")
        return f"a function returns it under {name!r} in its dict of gradients; in a module, it is detached somewhere"
    if mismatch.array == "readout" and mismatch.sort is MismatchKind.SHAPE:
        return HINTS[MismatchKind.MISSING]
    if mismatch.sort is MismatchKind.SHAPE and _turned(mismatch):
        even = ", with batch_first, too" if mismatch.array == "h_n" else ""
        return f"its first two axes are exchanged: nn.RNN's {mismatch.array} is {mismatch.expected}{even}"
    return HINTS.get(mismatch.sort)


def _turned(mismatch: Mismatch) -> bool:
    """Return whether a shape would be right with its first two axes exchanged."""
    actual, expected = (re.findall(r"\d+", text.rpartition("=")[2]) for text in (mismatch.actual, mismatch.expected))
    return len(actual) > 1 and [actual[1], actual[0], *actual[2:]] == expected


def not_compared_lines(names: Iterable[str]) -> list[str]:
    """Return what was not compared, because the subject does not return it: the output, and gradients."""
    finals = [name for name in ("h_n", "c_n") if name in names]
    gradients = sorted({*names} - {"output", *finals})
    lines = ["output: h_n is compared in its place (last_output_only)"] * ("output" in names)
    lines += [f"{' and '.join(finals)}: nothing that a call returns is known to be that"] * bool(finals)
    return [*lines, *[f"gradients by {', '.join(gradients)}: not returned"] * bool(gradients)]


def counted(number_of: int, what: str) -> str:
    """Return a number with its noun: ``1 case``, ``4,000 cases``."""
    return f"{number_of:,} {what}{'' if number_of == 1 else 's'}"


def accuracy_line(accuracy: Accuracy) -> str:
    """Return the error of a function in a subject that agrees."""
    return f"{accuracy.dtype} {accuracy.function} is {accuracy.error_line}; accepted up to {CLOSE_TANH / 2:g} ulp"


def equal_line(equal: EqualBits) -> str:
    """Return how often a subject gives the very bits of its first stage."""
    return f"those of {equal.to} in {equal.same:,} of {counted(equal.of, 'case')} that agree"


def dropout_line(result: Result) -> str:
    """Return whether dropout has its statistics, and how certain that is."""
    if result.message:
        return result.message
    return f"its masks have the statistics of dropout (a correct layer fails them once in {1 / FALSE_ALARMS:,.0f} runs)"


def dropout_told(result: Result) -> tuple[str, dict[str, str]]:
    """Return the statistics of dropout that are broken, and as facts what is wrong, and the config in which it is."""
    cause, _, rest = result.message.partition(": ")
    wrong, _, config = rest.rpartition("; in ")
    return cause, {"wrong": wrong or rest, **({"in": config} if config else {})}


def known_lines(
    known: Mapping[str, int], spared: Mapping[str, int], own: Sequence[KnownFailure] = (), *, short: bool = True
) -> list[str]:
    """Return a line for each known issue or failure that was met, and one for those that could have shown and did not.

    The reasons of issues are left out in ``short``. Users want to read the reasons of their own failures every time.
    """
    every: tuple[KnownIssue | KnownFailure, ...] = (*KNOWN_ISSUES, *own)
    lines = [
        f"{counted(known[issue.name], 'case')}: {issue.name} ({issue.whose})"
        + ("" if short and isinstance(issue, KnownIssue) else f": {issue.reason}")
        for issue in every
        if known.get(issue.name)
    ]
    gone = [issue.name for issue in every if spared.get(issue.name) and not known.get(issue.name)]
    return lines + ([f"expected and not seen: {', '.join(gone)}"] if gone else [])


_NUMBERS: Final = re.compile(r"\d+(?:\s*,\s*\d+)*")


_DTYPES: Final = re.compile(r"\bb?float\b")


def left_out(refused: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what a subject refuses, by what it says; sentences that differ only in numbers share the first of them."""
    first: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    for what, why in refused.items():
        key = _DTYPES.sub("", _NUMBERS.sub("", why))
        names.setdefault(first.setdefault(key, why), []).append(what)
    return {why: _together(whats) for why, whats in names.items()}


def refused_lines(refused: Mapping[str, int]) -> list[str]:
    """Return how many cases a subject refused, for each reason that it gave, the most frequent first."""
    return [f"{counted(number, 'case')}: {reason}" for reason, number in Counter(alike(refused)).most_common()]


def alike(sentences: Mapping[str, int]) -> dict[str, int]:
    """Count how often each sentence was said; sentences that differ only in numbers count as the first of them."""
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for sentence, number_of in sentences.items():
        key = first.setdefault(_NUMBERS.sub("", sentence), sentence)
        counts[key] = counts.get(key, 0) + number_of
    return counts


def _together(whats: Iterable[str]) -> list[str]:
    """Join ``num_layers=2``, ``num_layers=3`` to ``num_layers=2-3``, at the first one's place."""
    values: dict[str, list[str]] = {}
    for what in whats:
        name, _, value = what.partition("=")
        values.setdefault(name, []).append(value)
    return [
        f"{name}={values_line(map(int, some)) if all(map(str.isdigit, some)) else ', '.join(some)}"
        for name, some in values.items()
    ]


def values_line(values: Iterable[Any]) -> str:
    """Join values, with runs of sizes as ranges: ``1-17, 31-33``."""
    listed = list(values)
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in listed):
        return ", ".join(str(value) for value in listed)
    runs: list[list[int]] = []
    for value in sorted(listed):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
