"""The names of the checks, the same where a subject passes them and where it fails them."""

from typing import Final

from harness.checks.relations import RELATIONS
from harness.checks.result import DERIVATIVES, PROBES, TWICE, ComparisonMethod, Result
from harness.oracle.compare import MismatchKind

BESIDE_NAMES: Final = {
    TWICE: "the same answer twice",
    PROBES: "gradients with probes",
    DERIVATIVES: "derivatives beyond gradients",
}
DROPOUT_STATISTICS: Final = "the statistics of dropout"
MALFORMED_REFUSED: Final = "malformed calls are refused"
SUPPORTED: Final = "each value is supported or refused"
ACCURACY: Final = "the accuracy of its functions"


def agreement(dtype: str) -> str:
    """Return the name of the check of agreement in a dtype."""
    return f"agreement in {dtype}"


def relation_name(name: str) -> str:
    """Return the name of the check of a relation."""
    return f"the same with {RELATIONS[name].others}"


def failed_check(result: Result, dtype: str) -> str:
    """Return the name of the check that a result failed."""
    first = result.mismatches[0] if result.mismatches else None
    relation = result.relation or (first.relation if first is not None else "")
    if relation:
        return relation_name(relation)
    if result.nondeterministic or (first is not None and first.sort is MismatchKind.OVERWRITTEN):
        return BESIDE_NAMES[TWICE]
    if first is not None and first.sort is MismatchKind.DERIVATIVE:
        return BESIDE_NAMES[DERIVATIVES]
    if first is not None and first.probed:
        return BESIDE_NAMES[PROBES]
    if result.method is ComparisonMethod.DROPOUT:
        return DROPOUT_STATISTICS
    return ACCURACY if result.inaccurate else agreement(dtype)
