"""Result: what a check found, under one of several verdicts that are never mixed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from harness.oracle.compare import Mismatch, MismatchKind
from harness.space.config import PREACTIVATION, RNNConfig
from harness.space.outcome import Failure

_OF_GRADIENT: Final = re.compile(rf"[\w.]+\.grad: {MismatchKind.VALUE.value}")
"""A pattern for the kinds of wrong gradients. One mistake may show in different gradients, depending on the numbers and
on what there is to see: with a single step, W_hh has a gradient only if there is an initial state.
"""

_INSIDE: Final = f"{PREACTIVATION}: {MismatchKind.VALUE.value}"
"""The kind of an error that only probes see. In a smaller case such an error may be seen from outside, but an error
that is seen from outside must not become one that only probes see.
"""


_FRAME: Final = re.compile(r'File "([^"]+)", line (\d+)')
_NEWEST_FIRST: Final = "most recent call first"
_INSTALLED: Final = re.compile(r"(site|dist)-packages|[/\\]lib[/\\]python\d[^/\\]*[/\\]")  # Python's own modules, too

# The check that the same case gives the same answer again, and that the answer stays unchanged by a further call.
TWICE: Final = "twice"

PROBES: Final = "probes"  # the check of gradients with probes (``oracle.probe_units``)
DERIVATIVES: Final = "derivatives"  # the check of directional derivatives, of outputs or of gradients


class RaisedError(NamedTuple):
    """An error that was raised, or the end of the process."""

    classes: tuple[str, ...]  # the names of its class and of the base classes, nearest first; or how the process ended
    place: tuple[str, str] | None  # the file and line of its last frame, outside installed packages if there is one

    @classmethod
    def of(cls, classes: tuple[str, ...], traceback: str) -> RaisedError:
        """Return an error of these classes with a traceback as Python or faulthandler writes it."""
        frames: list[tuple[str, str]] = _FRAME.findall(traceback)
        own = [frame for frame in frames if not _INSTALLED.search(frame[0])]
        return cls(classes, (own or frames)[0 if _NEWEST_FIRST in traceback else -1] if frames else None)


class Verdict(Enum):
    """The possible statements about a subject or a case. An error of the harness itself is raised instead."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    SUSPECT = "suspect"
    """Within the worst that rounding can do, but beyond what it usually does: no proof, but strong evidence if it
    repeats.
    """
    # Everything that was compared agrees, but that is too little to say so of the subject.
    NOT_ENOUGH = "not enough seen"
    UNSUPPORTED = "unsupported"  # the subject says that it does not support this config
    BROKEN = "broken"  # the subject raised, died, did not answer in time, or does not give the same answer twice


class ComparisonMethod(Enum):
    """The sharpness of a comparison."""

    LOCAL = "step by step, at the subject's own states"
    CARRIED = "step by step; gradients without probes, their errors carried along from step to step"
    FORM = "in names, shapes and dtypes only; the values are unknown (dropout without its masks, or meta)"
    DROPOUT = "by the statistics of dropout, on nets in which its masks show"
    RELATIONS = "between runs of the subject itself, by relations"
    END_TO_END = "end to end, because the subject's inner states are unknown: small errors may hide"
    NONE = "in nothing, because the subject gave no arrays"


@dataclass(frozen=True)
class Result:
    """A verdict with its evidence: the mismatches, or what the subject said when it refused or broke."""

    verdict: Verdict
    mismatches: tuple[Mismatch, ...] = ()
    message: str = ""
    traceback: str = ""
    method: ComparisonMethod = ComparisonMethod.LOCAL
    known_as: str | None = None  # the name of the known issue, failure or finding that explains a disagreement
    # The name of the known issue that it would be if torch's own layer had the issue in this case, too.
    resembles: str = ""
    failure: Failure | None = None  # the failure of the subject's process, if it returned nothing
    raised: RaisedError | None = None  # the error that the subject raised, or how and where its process ended
    nondeterministic: bool = False  # true if the subject gave two answers to one question
    inaccurate: str = ""  # the function whose accuracy was measured and is wrong (``activation_accuracy``)
    relation: str = ""  # the relation that is broken
    # Further checks that an agreeing subject passed: ``TWICE``, ``PROBES``, ``DERIVATIVES``, and relations.
    also: tuple[str, ...] = ()
    advice: str = ""  # what would let the case pass, if the check knows that
    # The config of the net on which the statistics of dropout are broken.
    net: RNNConfig | None = field(default=None, compare=False)
    not_compared: tuple[str, ...] = ()  # gradients, or the output, that the subject does not return
    ignored: tuple[str, ...] = ()  # gradients that the subject returns and nn.RNN does not have
    spared: tuple[str, ...] = ()  # known issues that could have shown, and did not
    margin: float | None = field(default=None, compare=False)
    """The largest difference of a compared number, as a multiple of its tolerance, if all are within their tolerances.
    """
    # The mistakes that an agreeing subject could have made in this case without a difference (``vacuous``).
    vacuous: tuple[str, ...] = ()
    # A hash of the values of a subject that agrees, to tell them from any others (``case_checks.bits_of``).
    bits: str = field(default="", compare=False)

    @property
    def failed(self) -> bool:
        """True if this is a finding: the subject disagrees, or is broken."""
        return self.verdict in {Verdict.DISAGREES, Verdict.BROKEN}

    @property
    def raised_at(self) -> tuple[str, str] | None:
        """The file and line that raised an error, if they are known."""
        return None if self.raised is None else self.raised.place

    @property
    def error(self) -> tuple[str, RaisedError] | None:
        """The broken relation, and the error that was raised, if it is known where, or the end of the process."""
        located = self.raised is not None and (self.raised.place is not None or self.failure is not None)
        return (self.relation, self.raised) if located and self.raised is not None else None

    @property
    def kind(self) -> str:
        """The array that differs first and how it differs, or the error that was raised."""
        if self.mismatches:
            return self.mismatches[0].kind
        if self.failure is not None:  # the same mistake may end a process in several ways
            return f"{self.verdict.value}: {self.failure.value}"
        return f"{self.verdict.value}: {self.message.partition(':')[0]}"

    @classmethod
    def of_two_answers(cls, what: str) -> Result:
        """Return the result of a subject that gave two answers to one question."""
        message = f"not deterministic: two runs of the same case gave different results: {what}"
        return cls(Verdict.BROKEN, message=message, nondeterministic=True)

    def shows(self, kind: str) -> bool:
        """Return whether this result has a failure of that kind, perhaps among others.

        While a case is shrunk, this must stay true.
        """
        for mismatch in self.mismatches if _OF_GRADIENT.fullmatch(kind) else ():
            if _OF_GRADIENT.fullmatch(mismatch.kind) and (kind == _INSIDE or not mismatch.probed):
                return True
        return (self.failed or self.verdict is Verdict.SUSPECT) and (
            self.kind == kind or any(mismatch.kind == kind for mismatch in self.mismatches)
        )


def is_id(text: str) -> bool:
    """Return whether a text looks like the id of a finding."""
    return re.fullmatch(r"[0-9a-f]{8}", text) is not None
