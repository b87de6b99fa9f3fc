"""Explanations of failures, in sentences that the subject's author can act on."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from harness.checks.repeatability import FLAKY_RUNS
from harness.diagnosis.failure_conditions import IRREGULAR, FailingSizes, FailureConditions
from harness.diagnosis.finding_explainer import Diagnosis
from harness.diagnosis.first_departure import FirstDeparture
from harness.diagnosis.identify.cause import IdentifiedCause
from harness.diagnosis.kernels import FailingStage, KernelSwitchResults
from harness.diagnosis.precision import FORMAT_NAMES, ShownPrecision
from harness.diagnosis.value_threshold import FIRST_DRAWS, NumbersNeeded
from harness.report.wording import CALL_FACTORS, counted
from harness.search.evidence import Certificate
from harness.space.config import PREACTIVATION, RNNConfig
from harness.subjects.torch_variants import KERNEL_SWITCHES

NAMES_LISTED: Final = 3  # kernels that are named


def code_lines(diagnosis: Diagnosis | None, config: RNNConfig) -> dict[str, str]:
    """Return the line of NumPy with the mistake and the layer's own line, by whose they are, if the cause is known."""
    if diagnosis is None or not isinstance(diagnosis.cause, IdentifiedCause):
        return {}
    return {name: line for name, line in zip(("yours", config.layer), diagnosis.cause.lines, strict=True) if line}


def coarse(diagnosis: Diagnosis) -> ShownPrecision | None:
    """Return the subject's arithmetic if that explains the failure, else ``None``."""
    precision = diagnosis.precision
    return None if precision is None or not precision.explains else precision


def precision_line(precision: ShownPrecision) -> str:
    """Return how coarse a subject's arithmetic is."""
    parts = []
    if precision.rounds_results:
        parts.append(
            f"its {precision.of} have {_bits(precision.returned_bits)} where the dtype has {precision.dtype_bits}"
        )
    elif precision.coarse_sums and not precision.coarse_activation and precision.sum_bits is not None:
        parts.append(f"its sums err as if their operands had {_bits(round(precision.sum_bits))}")
    if precision.coarse_activation and not precision.rounds_results:
        error, units = f"{precision.activation_error:.2g}", f"{precision.activation_units:.3g}"
        parts.append(
            f"its activation is off by up to {error} where its argument is exact, {units} times what is assumed"
        )
    return f"precision: {'; '.join(parts)}"


def where_line(where: FirstDeparture) -> str:
    """Return where a wider case is wrong, where that begins, and what only follows from it."""
    config = where.case.config
    what = "gradient by a preactivation" if where.array == PREACTIVATION else "state"
    layer = f"layer={where.layer}, " if config.num_layers > 1 else ""
    place = layer + ", ".join(f"{axis}={index}" for axis, index in where.place.items())
    line = f"in a wider case, wrong at {where.pattern}; " if where.pattern else "in a wider case, "
    line += f"the first wrong {what} is {place}; {where.wrong} of {where.total} are wrong in themselves"
    line += f", and {where.follows} more only follow from these" if where.follows else ""
    return f"{line}; T={config.T}, N={config.N}, input_size={config.input_size}, hidden_size={config.hidden_size}"


def fails_line(factors: FailureConditions, *, ends: bool = False, gradients: bool = False) -> str:
    """Return what the failure needs, in a few words.

    ``ends`` says that it is the end of a process, which repeats, and ``gradients`` that it needs a loss to have any.
    """
    condition, numbers = _condition(factors), "" if factors.numbers is None else _numbers(factors.numbers)
    parts = [f"with {condition}"] * bool(condition) + [numbers] * bool(numbers)
    irregular = [name for name, size in factors.sizes.items() if size.pattern == IRREGULAR]
    if irregular and not numbers:
        perhaps = "" if ends else ": perhaps not deterministic, or memory read before it is written"
        parts.append(f"irregular in {', '.join(irregular)}{perhaps}")
    return ", ".join(parts) or f"{'with any loss, ' * gradients}at every size, whatever the other factors are"


def _numbers(numbers: NumbersNeeded) -> str:
    """Return what a failure needs of the numbers of a case; nothing if every draw fails, or if there is none."""
    if numbers.always or not numbers.draws:
        return ""
    if numbers.threshold is not None:
        return f"only {numbers.threshold.words}"
    fails, draws = numbers.fails, numbers.draws
    if not fails and draws < FIRST_DRAWS:  # too few to say that it is rare
        do = "does" if draws == 1 else "do"
        return f"not with all numbers: {counted(draws, 'set')} drawn at random {do} not show it"
    share = "rare" if not fails else "few" if 4 * fails < draws else "some" if 2 * fails < draws else "most"
    return f"with {share} numbers: it shows on {fails or 'none'} of {draws} sets drawn at random"


def answers_line(answers: int, deterministic: Mapping[str, tuple[Any, ...]]) -> str:
    """Return how often the answer of a flaky subject changes, and with what it does not."""
    text = (
        f"{counted(answers, 'different answer')} in {FLAKY_RUNS} runs"
        if answers > 1
        else f"not again in {FLAKY_RUNS} runs"
    )
    conditions = (
        f"{name} in ({_values(values)})" if len(values) > 1 else _named(name, values[0])
        for name, values in deterministic.items()
    )
    return "; ".join([text, *(f"one answer with {some}" for some in conditions)])


def independent_line(factors: FailureConditions) -> str:
    """Return the factors that the failure does not depend on."""
    free = [name for name, size in factors.sizes.items() if not size.pattern]
    return ", ".join([*free, *(name for name in factors.independent if name not in CALL_FACTORS)])


def passing_line(factors: FailureConditions) -> str | None:
    """Return the nearest neighbour that passes, or ``None``."""
    return None if factors.passing is None else f"the same with {_named(*factors.passing)}"


def kernels_line(kernels: KernelSwitchResults) -> str | None:
    """Return what makes the failure go away, a setting or a stage, and which kernels ran; ``None`` if nothing does."""
    if kernels.stage is not None and kernels.stage.passes:
        return _stage_line(kernels.stage)
    if not kernels.passes:
        return None
    passes, fails = (
        ", ".join(KERNEL_SWITCHES[name].words for name in names) for names in (kernels.passes, kernels.fails)
    )
    parts = [f"passes with {passes}"] + ([f"oneDNN ran {', '.join(kernels.ran[:NAMES_LISTED])}"] if kernels.ran else [])
    return "; ".join(parts + ([f"fails with {fails}"] if fails else []))


def _stage_line(stage: FailingStage) -> str:
    """Return the stages that pass and the first that fails; of wrong numbers, how far each is from what is right."""
    if stage.off is None:
        return f"passes in {', '.join(stage.passes)}; fails from {stage.name} on"
    margins = zip(stage.passes, stage.margins, strict=True)
    passes = ", ".join(name if margin is None else f"{name} ({margin:.2g})" for name, margin in margins)
    return f"passes in {passes}; fails from {stage.name} on ({stage.off:.2g}); in brackets the error by its tolerance"


def minimal_lines(certificate: Certificate) -> list[str]:
    """Return what "minimal" rests on."""
    if not certificate.complete:
        return list(certificate.untried)
    counts = []
    if certificate.configs:
        counts.append(f"{counted(certificate.configs, 'plainer config')} ({counted(certificate.cases, 'case')})")
    if certificate.numbers:
        counts.append(counted(certificate.numbers, "plainer number"))
    passes = "no plainer neighbour fails so" if certificate.otherwise else "every plainer neighbour passes"
    lines = [f"{passes}: {', '.join(counts)}" if counts else "no config and no number is plainer"]
    if certificate.otherwise:
        lines.append(f"some fail for another reason: {'; '.join(certificate.otherwise)}")
    if certificate.refused:
        lines.append(f"not tried, because the subject refuses it: {'; '.join(certificate.refused)}")
    if certificate.fresh_process:
        lines.append("it fails in a fresh process, too")
    return lines


_SIGNS: Final = {"==": "equal to", "!=": "other than", ">": "greater than", ">=": "at least"}


def _condition(factors: FailureConditions) -> str:
    needs = [_need(name, value) for name, value in factors.needs.items()]
    needs += [f"{name} in ({_values(several)})" for name, several in factors.partly.items()]
    needs += [_need(name, size) for name, size in factors.sizes.items() if size.pattern not in {"", IRREGULAR}]
    needs += [f"{first} {_SIGNS[sign]} {second}" for first, sign, second in factors.relations]
    either = [" or ".join(_need(*pair) for pair in several) for several in factors.either if len(several) > 1]
    return ", and ".join(filter(None, [", ".join(needs), *either]))


def _need(name: str, need: Any) -> str:
    return f"{name} {need.pattern}" if isinstance(need, FailingSizes) else _named(name, need)


def _named(name: str, value: Any) -> str:
    return f"{name}={value}"


def _values(several: Iterable[Any]) -> str:
    return ", ".join(map(str, several))


def _bits(number_of: int) -> str:
    named = FORMAT_NAMES.get(number_of)
    return f"{number_of} significant bits" + (f" ({named})" if named else "")
