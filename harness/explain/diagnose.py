"""diagnose: which fault is the subject's? The one that the subject agrees with, here and on fresh cases.

A fault is a Reference, so "the subject computes what this fault computes" is the agreement check itself, with the fault
in the reference's place and the same derived tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.checks.agreement import assess, observe
from harness.checks.result import Verdict
from harness.explain.faults import CATALOGUE, Fault
from harness.explain.precision import Precision, estimate
from harness.oracle.arithmetic import STRICT, Accepted
from harness.oracle.compare import Sort
from harness.search.hunt import Finding
from harness.space.case import Case
from harness.space.config import TANGENT, RNNConfig
from harness.space.outcome import Failure
from harness.space.scope import Scope
from harness.space.values import draw
from harness.subjects.protocol import Subject

FRESH_REGIMES: Final = ("normal", "default")
"""Values of the fresh cases: generic, so that no two different faults give equal results by chance."""

_OF_VALUE: Final = {Sort.VALUE, Sort.FINITENESS, Sort.SUSPICIOUS}


@dataclass(frozen=True)
class Diagnosis:
    """Which faults of the catalogue explain everything that was seen of a subject, and what was tried."""

    causes: tuple[Fault, ...]
    tried: int
    """Faults in the catalogue."""
    fresh: int
    """Fresh cases on which every cause reproduces the subject, beside the failing case."""
    precision: Precision | None = None
    """Where no fault explains the subject: what its arithmetic looks like, if it is a matter of that."""

    @property
    def certain(self) -> bool:
        """Whether exactly one fault explains the subject, on fresh cases too."""
        return len(self.causes) == 1 and self.fresh > 0


def diagnose(
    subject: Subject, finding: Finding, scope: Scope | None = None, accepted: Accepted = STRICT
) -> Diagnosis | None:
    """The faults that reproduce ``subject`` within tolerance on the finding's case and on fresh ones around it.

    The fresh cases stay within ``scope``. ``None`` where there is nothing to ask for: a subject that broke, or whose
    arrays are wrong in shape or dtype, says itself what is wrong.
    """
    mismatches = finding.result.mismatches
    if not mismatches or not all(mismatch.sort in _OF_VALUE for mismatch in mismatches):
        return None
    if any(mismatch.array.endswith(TANGENT) for mismatch in mismatches):  # a fault is told by what a run returns
        return None
    # What is wrong forwards is wrong backwards, too, in as many ways as there are to differentiate: leave it out.
    backward = mismatches[0].array.endswith(".grad")
    case = finding.case if backward else finding.case.forward()
    scope = scope or Scope()
    if not backward:
        scope = scope.only(loss=None)
    faults = [fitted for fault in CATALOGUE for fitted in fault.fitted(case.config)]
    causes = _reproducing(faults, subject, case, accepted) or ()
    fresh = 0
    for other in _fresh_cases(case.config, scope):
        if not causes:
            break
        remaining = _reproducing(causes, subject, other, accepted)
        if remaining is not None:
            fresh += 1
            causes = remaining
    finite = all(mismatch.sort is not Sort.FINITENESS for mismatch in mismatches)
    precision = estimate(subject, case, accepted) if finite and not causes and not backward else None
    return Diagnosis(tuple(causes), len(CATALOGUE), fresh, precision)


def _reproducing(faults: Sequence[Fault], subject: Subject, case: Case, accepted: Accepted) -> Sequence[Fault] | None:
    """Those of ``faults`` that the subject agrees with on ``case``; ``None`` where it refuses the case.

    A suspicion clears a subject, but it convicts no fault. Probes are left out: a fault would spoil what they carry.
    """
    observation = observe(subject, case, accepted, with_probes=False)
    if observation.outcome.failure is Failure.UNSUPPORTED:
        return None
    return [fault for fault in faults if assess(observation, fault, soft=False).verdict is Verdict.AGREES]


def _fresh_cases(config: RNNConfig, scope: Scope) -> Iterator[Case]:
    """Wider cases around a config: longer, of sizes that are all different, and with each other factor flipped alone.

    More than twice as long, where a mistake that is made once is told from one that is made again.
    """
    longer = min((T for T in scope.T if max(2 * config.T, 3) < T), default=max(scope.T))
    sizes = {"T": longer, "N": 2, "input_size": 3, "hidden_size": 5}
    wide = config.replace(**{name: size for name, size in sizes.items() if size in getattr(scope, name)})
    yield from _drawn(wide, 0)
    for seed, (name, values) in enumerate(_flippable(scope).items(), start=1):
        for value in values:
            if value != getattr(wide, name):
                yield from _drawn(wide.replace(**{name: value}), seed)


def _flippable(scope: Scope) -> dict[str, tuple[Any, ...]]:
    names = ("num_layers", "bidirectional", "bias", "hx", "nonlinearity", "batch_first", "dtype", "output_size", "loss")
    return {name: values for name, values in scope.values().items() if name in names}


def _drawn(config: RNNConfig, seed: int) -> Iterator[Case]:
    return (draw(config, regime, seed) for regime in FRESH_REGIMES)
