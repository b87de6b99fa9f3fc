"""narrow: leaves out of a scope what the subject says it cannot do, so that a search spends itself on what it can."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any, Final, NamedTuple

from harness.space.config import RNNConfig
from harness.space.outcome import Failure
from harness.space.scope import SIZE_FACTORS, Scope, configure, factors_of
from harness.space.values import draw
from harness.subjects.protocol import Subject

NOT_ASKED: Final = frozenset({*SIZE_FACTORS, "dropout", "training"})
"""Factors that are left as they are: a size is for the run itself to refuse, and dropout means nothing in one layer."""


class Narrowed(NamedTuple):
    """What is left of a scope, and what the subject said to each value that was left out."""

    scope: Scope
    refused: dict[str, str]
    """``{"num_layers=2": "only one layer"}``."""
    accepted: bool = True
    """Whether any config near the plainest was accepted; if none was, the scope is whole and ``refused`` says why."""


def narrow(subject: Subject, scope: Scope) -> Narrowed:
    """Ask the subject for each value of each factor, the others being at the plainest that it accepts.

    A value refused there is taken to be refused everywhere, which the record of a search states.
    """
    factors = {name: values for name, values in scope.values().items() if name not in NOT_ASKED and len(values) > 1}
    base = _accepted(subject, scope, factors)
    if base is None:
        refusal = _refusal(subject, plainest(scope), {})
        return Narrowed(scope, {repr(plainest(scope)): refusal or ""}, accepted=False)
    refused: dict[str, str] = {}
    for name, values in factors.items():
        refusals = {value: _refusal(subject, base, {name: value}) for value in values}
        kept = tuple(value for value in getattr(scope, name) if refusals[value] is None)
        refused |= {f"{name}={value}": said for value, said in refusals.items() if said is not None}
        scope = scope.only(**{name: kept})
    return Narrowed(scope, refused)


def plainest(scope: Scope) -> RNNConfig:
    """The config with every factor at the scope's plainest value."""
    factors = {name: values[0] for name, values in scope.values().items()}
    factors["dropout"], factors["training"] = scope.modes[0]
    return configure(factors)


def _accepted(subject: Subject, scope: Scope, factors: dict[str, tuple[Any, ...]]) -> RNNConfig | None:
    """The first config that the subject accepts, of those that differ from the plainest in at most three factors.

    If there is none, other sizes are tried, every size the same: a kernel may do none but multiples of 8, say.
    """
    for size in (None, 2, 8, 16, 32):
        sizes = {} if size is None else {name: size for name in SIZE_FACTORS if size in getattr(scope, name)}
        base = configure(factors_of(plainest(scope)) | sizes)
        for count in range(min(3, len(factors)) + 1):
            for names in combinations(factors, count):
                for values in product(*(factors[name][1:] for name in names)):
                    changes = dict(zip(names, values, strict=True))
                    if _refusal(subject, base, changes) is None:
                        return configure(factors_of(base) | changes)
    return None


def _refusal(subject: Subject, base: RNNConfig, changes: dict[str, Any]) -> str | None:
    config = configure(factors_of(base) | changes)
    outcome = subject.run(draw(config))
    return outcome.message if outcome.failure is Failure.UNSUPPORTED else None
