"""The severity of findings and the order in which they are reported: what a user must fix first comes first."""

from enum import Enum
from typing import Any, Final

import ml_dtypes
import numpy as np

from harness.checks.result import Verdict
from harness.diagnosis.finding_explainer import Explanation
from harness.diagnosis.roundings import RoundingOnlyCause
from harness.oracle.compare import OF_EFFECT, MismatchKind
from harness.report import explanation_lines
from harness.report.wording import CALL_FACTORS
from harness.search.search_record import Finding
from harness.space.case import Case, padding
from harness.space.config import PLAINEST, RNNConfig


class Severity(Enum):
    """Classes of findings, the gravest first; the value is the word for it in a summary."""

    VALUES = "values"  # wrong numbers, or shapes or dtypes, in a plain call
    GRADIENTS = "gradients"  # wrong gradients in a plain call
    # Wrong only if the layer is called in a special way, or after other calls; or it writes into its inputs.
    CONDITION = "condition"
    CRASH = "error"  # it raises, dies, hangs, or gives two answers to one question
    SPECIAL = "special"  # wrong only for numbers that are infinite, NaN, subnormal or huge
    EMPTY = "empty"  # wrong only in a batch of no sequences
    ACCURACY = "accuracy"  # less accurate than assumed


_HUGE: Final = 8
"""The divisor of a dtype's largest number from which on numbers count as huge. The special distribution has a quarter
of the largest; in a smaller case such a number may have lost bits, which at most halves it.
"""


def severity(finding: Finding, explanation: Explanation) -> Severity:
    """Return the class of a finding, by how its case fails and what is special about the case."""
    result, config = finding.result, finding.case.config
    first, diagnosis = result.mismatches[0] if result.mismatches else None, explanation.diagnosis
    rounds = diagnosis is not None and isinstance(diagnosis.cause, RoundingOnlyCause)
    coarse = rounds or (diagnosis is not None and explanation_lines.coarse(diagnosis) is not None)
    classes = (
        (Severity.SPECIAL, bool(result.inaccurate) and first is not None and first.sort is MismatchKind.FINITENESS),
        (Severity.ACCURACY, result.verdict is Verdict.SUSPECT or coarse or bool(result.inaccurate)),
        (Severity.EMPTY, config.N == 0),
        (Severity.CRASH, result.verdict is Verdict.BROKEN),
        (Severity.SPECIAL, has_special_values(finding.case)),
        (Severity.CONDITION, _called_specially(config)),
        (Severity.CONDITION, first is not None and (first.sort in OF_EFFECT or bool(first.relation))),
        (
            Severity.GRADIENTS,
            first is not None and (first.array.endswith(".grad") or first.sort is MismatchKind.DERIVATIVE),
        ),
    )
    return next((named for named, holds in classes if holds), Severity.VALUES)


def has_special_values(case: Case) -> bool:
    """Return whether a case has an infinity, a NaN, a subnormal or a huge number; NaN as padding does not count.

    Nor does a subnormal that came by chance among the many normal numbers of a large drawn case.
    """
    if case.is_large and case.origin is not None:
        return case.origin.distribution == "special"
    limits: Any = ml_dtypes.finfo(case.config.dtype)  # type: ignore[no-untyped-call]
    tiny, huge = float(limits.tiny), float(limits.max) / _HUGE
    for name, array in case.arrays.items():
        values: Any = np.asarray(array).astype(np.float64)
        if name == "x" and case.config.lengths is not None:
            values = values[~padding(case.config)]
        sizes = np.abs(values[values != 0])
        if not np.isfinite(values).all() or bool(((sizes <= tiny) | (sizes >= huge)).any()):
            return True
    return False


def _called_specially(config: RNNConfig) -> bool:
    return config.drops or any(
        getattr(config, name) != getattr(PLAINEST, name) for name in CALL_FACTORS if name != "cell"
    )
