"""Result: what a check found, under one of four verdicts that are never mixed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from harness.oracle.compare import Mismatch, Sort
from harness.space.config import PREACTIVATION
from harness.space.outcome import Failure

_OF_GRADIENT: Final = re.compile(rf"[\w.]+\.grad: {Sort.VALUE.value}")
"""The kinds of wrong gradients. One mistake shows in one or another of them, by its numbers and by what there is to
see: W_hh's takes an initial state if there is one step."""

_INSIDE: Final = f"{PREACTIVATION}: {Sort.VALUE.value}"
"""The kind of what probes alone see: in a smaller case it may be seen from outside, but not the other way round."""


_FRAME: Final = re.compile(r'File "([^"]+)", line (\d+)')

WAVERS: Final = "not deterministic: two runs of the same case gave different results"
"""What the message of a result begins with, where a subject gave two answers to one question."""


OF_TANH: Final = "its tanh is "
"""Likewise, where the tanh alone was measured, and is what is wrong (``checks.accuracy``)."""


TWICE: Final = "twice"
"""The same answer, to the same question; and it stays as it is when another is asked."""

PROBES: Final = "probes"
"""Gradients, with probes (``oracle.probes``)."""

DERIVATIVES: Final = "derivatives"
"""Directional derivatives, of outputs or of gradients."""


class Verdict(Enum):
    """What can be said of a subject, or of a case. A fault of the harness itself is none of these: it is raised."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    SUSPECT = "suspect"
    """Within what rounding can do at worst, but beyond what it does: no proof, but strong evidence if it repeats."""
    NOT_ENOUGH = "not enough seen"
    """What was compared agrees, and is too little to say so of the subject."""
    UNSUPPORTED = "unsupported"
    """The subject says that it cannot do this config."""
    BROKEN = "broken"
    """The subject raised, died, did not answer in time, or does not give the same answer twice."""


class Method(Enum):
    """How sharp a comparison was."""

    LOCAL = "step by step, at the subject's own states"
    CARRIED = "step by step; gradients without probes, their errors carried along from step to step"
    FORM = "in names, shapes and dtypes only, for the values cannot be known: dropout without its masks, or meta"
    DROPOUT = "by the law of dropout, with the masks that a net shows which passes on what it reads"
    LAWS = "between runs of the subject itself, by laws"
    END_TO_END = "end to end, since the subject's inner states could not be had: small errors may hide"


@dataclass(frozen=True)
class Result:
    """A verdict with its grounds: the mismatches, or what the subject said when it refused or broke."""

    verdict: Verdict
    mismatches: tuple[Mismatch, ...] = ()
    message: str = ""
    traceback: str = ""
    method: Method = Method.LOCAL
    deviation: str | None = None
    """The known deviation that explains why it does not agree; then it is taken to agree."""
    failure: Failure | None = None
    """What became of the subject's process, where nothing came back of it."""
    also: tuple[str, ...] = ()
    """What a subject that agrees was held to beside its agreement: ``TWICE``, ``PROBES``, ``DERIVATIVES``, and laws."""
    not_compared: tuple[str, ...] = ()
    """Gradients that the subject does not return."""
    ignored: tuple[str, ...] = ()
    """Gradients that it returns, and nn.RNN does not have."""
    spared: tuple[str, ...] = ()
    """Known deviations that would have shown, and did not."""

    @property
    def failed(self) -> bool:
        """Whether this is a finding: the subject disagrees, or is broken."""
        return self.verdict in {Verdict.DISAGREES, Verdict.BROKEN}

    @property
    def wavers(self) -> bool:
        """Whether the subject gave two answers to one question."""
        return self.message.startswith(WAVERS)

    @property
    def raised_at(self) -> tuple[str, str] | None:
        """The file and the line where it ended: the last one that is no installed package's, if there is one."""
        frames: list[tuple[str, str]] = _FRAME.findall(self.traceback)
        own = [frame for frame in frames if "site-packages" not in frame[0]]
        return (own or frames)[-1] if frames else None

    @property
    def of_tanh(self) -> bool:
        """Whether it is how accurate the subject's tanh is."""
        return self.message.startswith(OF_TANH)

    @property
    def kind(self) -> str:
        """Which array differs first and how, or which error was raised."""
        if self.mismatches:
            return self.mismatches[0].kind
        if self.failure is not None:  # of one mistake a process may die in several ways
            return f"{self.verdict.value}: {self.failure.value}"
        return f"{self.verdict.value}: {self.message.partition(':')[0]}"

    def shows(self, kind: str) -> bool:
        """Whether this is a failure of that kind, be it beside others: what must stay while a case is made smaller."""
        for mismatch in self.mismatches if _OF_GRADIENT.fullmatch(kind) else ():
            if _OF_GRADIENT.fullmatch(mismatch.kind) and (kind == _INSIDE or not mismatch.probed):
                return True
        return (self.failed or self.verdict is Verdict.SUSPECT) and (
            self.kind == kind or any(mismatch.kind == kind for mismatch in self.mismatches)
        )
