"""proof: the judge's ruling on the worst element of a finding, where all of its operands are known."""

from __future__ import annotations

from harness.checks.result import Result
from harness.oracle.compare import Sort
from harness.oracle.judge import Judgement, Ruling, judge


def judge_worst(result: Result) -> Judgement | None:
    """Judge the worst element of a finding; ``None`` if it has no exact equation, or the judge does not decide.

    The element is that of the first mismatch that has an equation for it. An element that is only suspicious is within
    the worst that is allowed, so that nobody is proved wrong about it.
    """
    for mismatch in (mismatch for mismatch in result.mismatches if mismatch.sort is not Sort.SUSPICIOUS):
        site = mismatch.sites[0] if mismatch.sites else None
        if site is not None and site.equation is not None:
            judgement = judge(site.equation, site.actual, site.expected, site.allowance)
            return None if judgement.ruling is Ruling.UNDECIDED else judgement
    return None
