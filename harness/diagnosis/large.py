"""large: the explanation of a failure that only shows on very large cases: the product of sizes from which on it fails.

A run of such a case takes seconds or minutes, so no known mistake is tried on it.
"""

from __future__ import annotations

from harness.checks.result import Verdict
from harness.diagnosis.factors import Factors, Size
from harness.diagnosis.investigate import Explanation
from harness.diagnosis.products import product_of
from harness.diagnosis.proof import judge_worst
from harness.search.large import TooLarge, Trial
from harness.search.record import Finding
from harness.space.config import RNNConfig
from harness.space.scope import Scope


def explain_large(finding: Finding, scope: Scope, trial: Trial) -> Explanation:
    """Return the product of sizes from which on the finding fails, or else the N, and the judge's ruling."""
    return Explanation(factors=_factors(finding, scope, trial), judgement=judge_worst(finding.result))


def _factors(finding: Finding, scope: Scope, trial: Trial) -> Factors | None:
    """Return the threshold; ``None`` if no smaller N was seen to pass."""
    config, kind = finding.case.config, finding.result.kind

    def fails(other: RNNConfig) -> bool | None:
        """Tell whether it fails at other sizes; ``None`` if it is refused, fails otherwise, or does not fit."""
        try:
            result = trial(other)
        except TooLarge:
            return None
        return True if result.shows(kind) else False if result.verdict is Verdict.AGREES else None

    if config.N == 1 or finding.result.wavers or fails(below := config.replace(N=config.N - 1)) is not False:
        return None
    if (product := product_of(config, "N", scope, fails)) is not None:
        return Factors(products=(product,), passing=("N", below.N))
    return Factors(sizes={"N": Size(config.N, (config.N + 1,), ())}, passing=("N", below.N))
