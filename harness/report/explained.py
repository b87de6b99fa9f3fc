"""Explanations of failures, in sentences that the subject's author can act on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from harness.checks.repeatability import RUNS
from harness.diagnosis.clues import Clue
from harness.diagnosis.diagnose import Diagnosis
from harness.diagnosis.factors import Factors
from harness.diagnosis.faults import Fault
from harness.diagnosis.investigate import Explanation
from harness.diagnosis.kernels import FailingStage, Kernels
from harness.diagnosis.positions import OtherOrder
from harness.diagnosis.precision import NAMES, Precision
from harness.diagnosis.stale import STATE, Stale
from harness.diagnosis.where import Where
from harness.report.wording import CALLED, counted
from harness.search.certificate import Certificate
from harness.space.config import PREACTIVATION, RNNConfig
from harness.space.parts import LOSSES
from harness.subjects.switches import SWITCHES

NAMED: Final = 3
"""The number of causes that are named if several are possible."""


def cause_lines(diagnosis: Diagnosis, config: RNNConfig, factors: Factors | None = None) -> list[str]:
    """Return the cause in one sentence, and then how certain it is."""
    if isinstance(instead := diagnosis.instead, OtherOrder):
        return [instead.sentence, instead.grounds]
    if isinstance(instead, Stale):
        fresh = counted(instead.fresh, "fresh one")
        these = "that state" if instead.roles == STATE else "these"
        return [instead.sentence, f"with {these}, nn.RNN gives what the subject does on this case and on {fresh}"]
    if instead is not None:
        fresh = counted(instead.fresh, "fresh one")
        return [instead.sentence, f"so declared, it agrees on this case and on {fresh}; as it is, it fails on them"]
    pairs = f", nor do any two of them ({counted(diagnosis.pairs, 'pair')} tried)" if diagnosis.pairs else ""
    if not diagnosis.causes:
        none = f"none of the {diagnosis.tried} known faults alone explains it{pairs}"
        if (precision := coarse(diagnosis)) is None:
            return [f"unknown: {none}"]
        return ["; ".join(precision_lines(precision)), none]
    lines = []
    for fault in diagnosis.causes:
        concerned = fault.concerned(config)
        lines.append(fault.sentence + (f" ({', '.join(concerned)})" if concerned else ""))
    sure = "" if diagnosis.certain else "possibly "
    where = ""
    if diagnosis.spared and factors is not None and (condition := _condition(factors)):
        where = f", where {condition}"
    more = f" or one of {len(lines) - NAMED} others" if len(lines) > NAMED else ""
    told = [sure + " or ".join(lines[:NAMED]) + more + where, _grounds(diagnosis)]
    if diagnosis.spared:
        told.append(f"the subject is right on {counted(diagnosis.spared, 'other')} where that would show")
    told += [f"it also {fault.sentence}: together, the two explain everything" for fault in diagnosis.elsewhere]
    told += [f"together with an earlier finding: it {fault.sentence}" for fault in diagnosis.beside[:1]]
    return told


def code_lines(diagnosis: Diagnosis | None, config: RNNConfig) -> dict[str, str]:
    """Return the line of NumPy with the mistake and nn.RNN's own line, by whose they are, if a single cause is left."""
    if diagnosis is None or len(diagnosis.causes) != 1:
        return {}
    return _code(diagnosis.causes[0], config)


def _code(fault: Fault, config: RNNConfig) -> dict[str, str]:
    both = fault.lines(config)
    return {} if both is None else dict(zip(("yours", "nn.RNN"), both, strict=True))


def coarse(diagnosis: Diagnosis) -> Precision | None:
    """Return the subject's arithmetic if that explains the failure and no fault does, else ``None``."""
    precision = diagnosis.precision
    return None if diagnosis.causes or precision is None or not precision.explains else precision


def _grounds(diagnosis: Diagnosis) -> str:
    ruled_out = diagnosis.tried - len(diagnosis.causes)
    others = f"{counted(ruled_out, 'other fault')} {'does' if ruled_out == 1 else 'do'} not"
    return f"reproduces the subject on this case and on {counted(diagnosis.fresh, 'fresh one')}; {others}"


def precision_lines(precision: Precision) -> list[str]:
    """Describe a subject's arithmetic, one property in each sentence."""
    lines = []
    if precision.rounds_results:
        lines.append(f"its results have {_bits(precision.returned_bits)} where the dtype has {precision.dtype_bits}")
    elif precision.coarse_sums and not precision.coarse_activation and precision.sum_bits is not None:
        lines.append(f"its sums err as if their operands had {_bits(round(precision.sum_bits))}")
    if precision.coarse_activation and not precision.rounds_results:
        error, units = f"{precision.activation_error:.2g}", f"{precision.activation_units:.3g}"
        lines.append(
            f"its activation is off by up to {error} where its argument is exact, {units} times what is assumed"
        )
    if lines and precision.accepted_by is not None:
        lines.append(f"--tolerance {precision.accepted_by} would accept that")
    return ["precision: " + lines[0], *lines[1:]] if lines else []


def where_line(where: Where) -> str:
    """Return where the failure begins, and what only follows from it."""
    config = where.case.config
    what = "gradient by a preactivation" if where.array == PREACTIVATION else "state"
    layer = f"layer={where.layer}, " if config.num_layers > 1 else ""
    place = layer + ", ".join(f"{axis}={index}" for axis, index in where.place.items())
    sizes = f"T={config.T}, N={config.N}, input_size={config.input_size}, hidden_size={config.hidden_size}"
    line = f"in a wider case ({sizes}), the first wrong {what} is {place}"
    line += f"; {where.wrong} of {where.total} are wrong in themselves"
    line += f" ({where.pattern})" if where.pattern else ""
    return line + (f", and {where.follows} more only follow from these" if where.follows else "")


def clue_line(clue: Clue) -> str:
    """Return what the wrong numbers have in common."""
    what = clue.role if clue.role in {"output", "h_n", "readout"} else f"{clue.role}'s gradient"
    return f"every wrong value of {what} {clue.text}"


def needs_line(factors: Factors) -> str:
    """Return what the failure needs."""
    return _condition(factors) or "nothing in particular: it fails at every size, and whatever the other factors are"


def fails_line(factors: Factors, further: int = 0) -> str:
    """Return what the failure needs, in a few words, and how many more cases failed with the same cause."""
    condition = _condition(factors)
    said = f"with {condition}" if condition else "at every size, whatever the other factors are"
    return f"{said}; {counted(further, 'more case')}" if further else said


def answers_line(answers: int, further: int = 0) -> str:
    """Return how often the answer of a flaky subject changes, and in how many more cases it does."""
    said = f"{counted(answers, 'different answer')} in {RUNS} runs" if answers > 1 else f"not again in {RUNS} runs"
    return f"{said}; {counted(further, 'more case')}" if further else said


def independent_line(factors: Factors) -> str:
    """Return the factors that the failure does not depend on."""
    free = [name for name, size in factors.sizes.items() if not size.pattern]
    return ", ".join([*free, *(name for name in factors.independent if name not in CALLED)])


def passing_line(factors: Factors) -> str | None:
    """Return the nearest neighbour that passes, or ``None``."""
    return None if factors.passing is None else f"the same with {_named(*factors.passing)}"


def kernels_line(kernels: Kernels) -> str | None:
    """Return what makes the failure go away, a setting or a stage, and which kernels ran; ``None`` if nothing does."""
    if kernels.stage is not None and kernels.stage.passes:
        return _stage_line(kernels.stage)
    if not kernels.passes:
        return None
    passes, fails = (", ".join(SWITCHES[name].words for name in names) for names in (kernels.passes, kernels.fails))
    parts = [f"passes with {passes}"] + ([f"oneDNN ran {', '.join(kernels.ran[:NAMED])}"] if kernels.ran else [])
    return "; ".join(parts + ([f"fails with {fails}"] if fails else []))


def _stage_line(stage: FailingStage) -> str:
    """Return the stages that pass and the first that fails; of wrong numbers, how far each is from what is right."""
    if stage.off is None:
        return f"passes in {', '.join(stage.passes)}; fails from {stage.name} on"
    margins = zip(stage.passes, stage.margins, strict=True)
    passes = ", ".join(name if margin is None else f"{name} ({margin:.2g})" for name, margin in margins)
    return f"passes in {passes}; fails from {stage.name} on ({stage.off:.2g}); in brackets the error by its allowance"


def minimal_lines(certificate: Certificate) -> list[str]:
    """Return what "minimal" rests on."""
    if not certificate.complete:
        return list(certificate.untried)
    tried = []
    if certificate.configs:
        tried.append(f"{counted(certificate.configs, 'plainer config')} ({counted(certificate.cases, 'case')})")
    if certificate.numbers:
        tried.append(counted(certificate.numbers, "plainer number"))
    passes = "no plainer neighbour fails so" if certificate.otherwise else "every plainer neighbour passes"
    lines = [f"{passes}: {', '.join(tried)}" if tried else "no config and no number is plainer"]
    if certificate.otherwise:
        lines.append(f"some fail for another reason: {'; '.join(certificate.otherwise)}")
    if certificate.refused:
        lines.append(f"not tried, because the subject refuses it: {'; '.join(certificate.refused)}")
    if certificate.fresh_process:
        lines.append("it fails in a fresh process, too")
    return lines


def explanation_record(explanation: Explanation, config: RNNConfig) -> dict[str, Any]:
    """Return the explanation as data."""
    return {
        "cause": None if explanation.diagnosis is None else _cause(explanation.diagnosis, config, explanation.factors),
        "factors": None if explanation.factors is None else _factors(explanation.factors),
        "where": None if explanation.where is None else _where(explanation.where),
        "clue": None if explanation.clue is None else clue_line(explanation.clue),
        "kernels": _kernels(explanation.kernels),
        "answers": None if explanation.answers is None else {"different": explanation.answers, "runs": RUNS},
        "ground": dict(explanation.ground),
    }


def certificate_record(certificate: Certificate) -> dict[str, Any]:
    """Return a certificate as data."""
    return {"complete": certificate.complete, **vars(certificate), "text": minimal_lines(certificate)}


_SIGNS: Final = {"==": "equal to", "!=": "other than", ">": "greater than", ">=": "at least"}


def _any_loss(name: str, several: Collection[Any]) -> bool:
    """Return whether a condition only says that gradients need a loss, which goes without saying."""
    return name == "loss" and {*several} == {*LOSSES} - {None}


def _condition(factors: Factors) -> str:
    needs = [_named(name, value) for name, value in factors.needs.items()]
    asked = {name: several for name, several in factors.partly.items() if not _any_loss(name, several)}
    needs += [f"{name} in ({_values(several)})" for name, several in asked.items()]
    needs += [f"{name} {size.pattern}" for name, size in factors.sizes.items() if size.pattern]
    needs += [f"{one} {_SIGNS[sign]} {other}" for one, sign, other in factors.relations]
    needs += _not_all_one(factors)
    return ", ".join(needs)


def _not_all_one(factors: Factors) -> list[str]:
    return [f"{' or '.join(factors.not_all_one)} from 2 on"] if factors.not_all_one else []


def _named(name: str, value: Any) -> str:
    return f"{name}={value}"


def _values(several: Iterable[Any]) -> str:
    return ", ".join(map(str, several))


def _bits(number_of: int) -> str:
    named = NAMES.get(number_of)
    return f"{number_of} significant bits" + (f" ({named})" if named else "")


def _cause(diagnosis: Diagnosis, config: RNNConfig, factors: Factors | None) -> dict[str, Any]:
    return {
        "text": cause_lines(diagnosis, config, factors),
        "certain": diagnosis.certain,
        "faults": [
            {
                "name": fault.name,
                "sentence": fault.sentence,
                "parameters": fault.concerned(config),
                "code": _code(fault, config) or None,
            }
            for fault in diagnosis.causes
        ],
        "beside": [fault.sentence for fault in diagnosis.beside],
        "elsewhere": [fault.sentence for fault in diagnosis.elsewhere],
        "precision": _precision(diagnosis),
        "tried": diagnosis.tried,
        "pairs_tried": diagnosis.pairs,
        "fresh_cases": diagnosis.fresh,
        "spared_cases": diagnosis.spared,
    }


def _precision(diagnosis: Diagnosis) -> dict[str, Any] | None:
    if (precision := coarse(diagnosis)) is None:
        return None
    return {"text": precision_lines(precision), **vars(precision)}


def _kernels(kernels: Kernels) -> dict[str, Any]:
    words = {part: [SWITCHES[name].words for name in getattr(kernels, part)] for part in ("passes", "fails")}
    stage = kernels.stage
    told = {"stage": None if stage is None else stage.name, "errors_by_allowance": _errors(stage)}
    return {**words, "ran": list(kernels.ran), **told, "text": kernels_line(kernels)}


def _errors(stage: FailingStage | None) -> dict[str, float | None]:
    """Return the largest error by its allowance, in each stage that passes, and then in the subject."""
    return {} if stage is None else {**dict(zip(stage.passes, stage.margins, strict=True)), "subject": stage.off}


def _factors(factors: Factors) -> dict[str, Any]:
    sizes: Mapping[str, Any] = {
        name: {"smallest": size.smallest, "fails": size.fails, "passes": size.passes, "text": size.pattern}
        for name, size in factors.sizes.items()
    }
    return {
        "needs": dict(factors.needs),
        "partly": {name: list(several) for name, several in factors.partly.items()},
        "independent": list(factors.independent),
        "sizes": sizes,
        "relations": [*(" ".join(relation) for relation in factors.relations), *_not_all_one(factors)],
        "nearest_passing": None if factors.passing is None else dict([factors.passing]),
        "text": needs_line(factors),
    }


def _where(where: Where) -> dict[str, Any]:
    return {
        "config": where.case.config.to_dict(),
        "array": where.array,
        "layer": where.layer,
        "place": where.place,
        "pattern": where.pattern,
        "wrong": where.wrong,
        "follows": where.follows,
        "total": where.total,
        "text": where_line(where),
    }
