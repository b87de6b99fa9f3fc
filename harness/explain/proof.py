"""proof: the judge's word on the worst element of a finding, where all of its operands are known."""

from __future__ import annotations

from harness.checks.result import Result
from harness.oracle.compare import Sort
from harness.oracle.judge import Judgement, Ruling, judge


def judge_worst(result: Result) -> Judgement | None:
    """Who is wrong about the first mismatch's worst element; ``None`` where that element has no exact equation.

    An element that is only suspicious is within what is allowed at worst, so that nobody is proved wrong about it.
    """
    for mismatch in (mismatch for mismatch in result.mismatches if mismatch.sort is not Sort.SUSPICIOUS):
        site = mismatch.sites[0] if mismatch.sites else None
        if site is not None and site.equation is not None:  # which complex numbers have none of
            judgement = judge(site.equation, site.actual.real, site.expected.real, site.allowance)
            return None if judgement.ruling is Ruling.UNDECIDED else judgement
    return None
