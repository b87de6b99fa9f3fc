"""shrink: makes a failing case small, one factor at a time, until no factor can be made plainer alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from harness.checks.result import Result
from harness.space.case import Case
from harness.space.config import ConfigError, RNNConfig, never_rise
from harness.space.scope import SIZES, Scope, configure, factors_of
from harness.space.values import REGIMES, draw

SEEDS: Final = 4
"""Seeds tried in every regime before a plainer config counts as passing."""

FEW: Final = 16
"""Plainer values of a factor that are each tried with as many seeds; of more of them, each is tried with one."""

_EACH_LENGTH: Final = "each length"
"""Stands for the lengths one by one, beside ``lengths``, the sort that they are of."""

NUMBERS: Final = ("num_layers", "T", "N", "hidden_size", "input_size", "output_size")
"""The factors that are walked down as numbers, those that make a case dearest first."""


def shrink(case: Case, result: Result, scope: Scope, check: Callable[[Case], Result]) -> Iterator[tuple[Case, Result]]:
    """Ever plainer failing cases of the same kind, the last of which is minimal in every factor.

    Minimal: for each factor, no plainer value of the scope fails with the others as they are, in any of the values
    tried. Sizes are tried from 1 up, within the scope where it pins them; other factors in the scope's order. Before
    every value is tried to the end, what is plainer at first sight is taken, a factor at a time.
    """
    kind = result.kind
    for search in (_at_first_sight, _plainer):
        while (found := search(case, kind, scope, check)) is not None:
            case = found[0]
            yield found


def _at_first_sight(case: Case, kind: str, scope: Scope, check: Callable[[Case], Result]) -> tuple[Case, Result] | None:
    """What still fails after one round through the factors, each made as plain as it can be with the same seed."""
    found: tuple[Case, Result] | None = None
    regime, seed = case.origin or ("normal", 0)
    for name in _factors(scope):
        for config in _with_plainer(name, case.config, scope):
            candidate = draw(config, regime, seed)
            if (seen := check(candidate)).shows(kind):
                case, found = candidate, (candidate, seen)
                break
    return found


def _plainer(case: Case, kind: str, scope: Scope, check: Callable[[Case], Result]) -> tuple[Case, Result] | None:
    for name in _factors(scope):
        configs = list(_with_plainer(name, case.config, scope))
        for config in configs:
            for candidate in cases_of(config, SEEDS if len(configs) <= FEW else 1):
                if (found := check(candidate)).shows(kind):
                    return candidate, found
    for candidate in cases_of(case.config):
        if candidate.origin == case.origin:
            break
        if (found := check(candidate)).shows(kind):
            return candidate, found
    return None


def cases_of(config: RNNConfig, seeds: int = SEEDS) -> Iterator[Case]:
    """The cases tried of a config, plainest first."""
    return (draw(config, regime, seed) for regime in REGIMES for seed in range(seeds))


def _factors(scope: Scope) -> tuple[str, ...]:
    return (*NUMBERS, *(name for name in scope.values() if name not in NUMBERS), _EACH_LENGTH)


def _with_plainer(name: str, config: RNNConfig, scope: Scope) -> Iterator[RNNConfig]:
    """The config with every plainer value of a factor, plainest first."""
    if name == _EACH_LENGTH:
        yield from _plainer_lengths(config, scope)
        return
    for value in _plainer_values(name, factors_of(config)[name], scope):
        plainer = _changed(config, name, value)
        if plainer.num_layers == 1 and 0 in scope.dropout:
            plainer = plainer.replace(dropout=0.0)
        if plainer != config and (scope.masks or not (plainer.dropout and plainer.training)):
            yield plainer


def _changed(config: RNNConfig, name: str, value: Any) -> RNNConfig:
    if name == "lengths" or config.lengths is None:
        return configure(factors_of(config) | {name: value})
    try:
        return config.replace(**{name: value})  # which keeps the lengths
    except ConfigError:
        return config


def _plainer_lengths(config: RNNConfig, scope: Scope) -> Iterator[RNNConfig]:
    """With one sequence, of those that are shorter than the longest, as long as that; or else shorter still.

    The sort of lengths stays, or becomes a plainer one: a step that another one takes back would have no end.
    """
    given = config.lengths or ()
    sorts = {config.packing, *_plainer_values("lengths", config.packing, scope)}
    for n, length in enumerate(given):
        for other in (config.T, *range(1, length)) if length < config.T else ():
            lengths = (*given[:n], other, *given[n + 1 :])
            plainer = config.replace(lengths=lengths, enforce_sorted=config.enforce_sorted and never_rise(lengths))
            if plainer.packing in sorts:
                yield plainer


def _plainer_values(name: str, value: Any, scope: Scope) -> Iterable[Any]:
    allowed = getattr(scope, name)
    if set(allowed) >= set(SIZES):
        return range(1, value)
    if name in NUMBERS:
        smaller = sorted(other for other in set(allowed) if None not in {other, value} and other < value)
        return [None, *smaller] if None in allowed and value is not None else smaller
    ordered = list(dict.fromkeys(allowed))
    return ordered[: ordered.index(value)] if value in ordered else []
