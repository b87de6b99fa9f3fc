"""The part of the space that two subjects both support, for one plan of both, and what only one of them supports."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, Final, NamedTuple

from harness.search.guard import Guarded, Hang
from harness.search.narrow import Narrowed, narrow
from harness.space.scope import SIZE_FACTORS, SWITCHES, Scope
from harness.subjects.protocol import Subject


class Behaviour(NamedTuple):
    """Something that an old and a new subject do differently, and that is no finding."""

    what: str
    """The value, the config or the gradients: ``num_layers=2``."""
    old: str
    new: str
    """The words or the deed of each: ``refuses: one layer only``."""
    cases: int = 0
    """The number of cases in which that was seen; 0 if it was asked for by itself."""


SUPPORTS: Final = "supports it"


class Common(NamedTuple):
    """The support of two subjects, each with the scope that both support, and the values that only one supports."""

    old: Narrowed | None
    new: Narrowed | None
    """``None`` where a search must find that out itself: the subject hung, or nothing is supported by both."""
    behaviour: tuple[Behaviour, ...]


def common(old: tuple[Subject, Scope], new: tuple[Subject, Scope], until: float = math.inf) -> Common:
    """Ask two subjects for what they support of what each is asked for, and return what both do.

    After ``until`` (``time.perf_counter``) nothing more is asked, as in ``narrow``.
    """
    one, other = _narrowed(*old, until), _narrowed(*new, until)
    if one is None or other is None:
        return Common(None, None, ())
    behaviour = tuple(_only_one(one, other))
    scope = _both(one.scope, other.scope) if one.accepted and other.accepted else None
    if scope is None:
        return Common(None, None, behaviour)
    return Common(one._replace(scope=scope), other._replace(scope=scope), behaviour)


def _narrowed(subject: Subject, scope: Scope, until: float) -> Narrowed | None:
    try:
        return narrow(Guarded(subject), scope, until=until)
    except Hang:
        return None


def _both(old: Scope, new: Scope) -> Scope | None:
    """Return the scope of all that is in both; ``None`` if nothing is."""
    names = [one.name for one in fields(Scope) if one.name not in {*SWITCHES, "rules"}]
    kept: dict[str, Any] = {
        name: tuple(value for value in getattr(old, name) if value in getattr(new, name)) for name in names
    }
    rules = tuple(dict.fromkeys((*old.rules, *new.rules)))
    switches = {name: getattr(old, name) and getattr(new, name) for name in SWITCHES}
    scope = replace(old, rules=rules, **kept | switches)
    return scope if all(kept.values()) and scope.modes else None


def _only_one(old: Narrowed, new: Narrowed) -> Iterator[Behaviour]:
    """Yield what one subject supports and the other does not, unless the other fails there, which is a finding."""
    if not (old.accepted and new.accepted):
        if old.accepted or new.accepted:
            yield Behaviour("every plain config", _of_all(old), _of_all(new))
        return
    for what, said in _lacks(new, old):
        yield Behaviour(what, SUPPORTS, said)
    for what, said in _lacks(old, new):
        yield Behaviour(what, said, SUPPORTS)


def _of_all(one: Narrowed) -> str:
    return SUPPORTS if one.accepted else f"refuses: {next(iter(one.refused.values()))}"


def _lacks(lacking: Narrowed, having: Narrowed) -> Iterator[tuple[str, str]]:
    """Yield each value that only ``having`` supports, and what the other says."""
    fails = {what for what, _, _ in lacking.undone}
    for name, values in having.scope.values().items():
        for value in values:
            what = f"{name}={value}"
            if value in getattr(lacking.scope, name) or what in fails:
                continue
            if what in lacking.refused:
                yield what, f"refuses: {lacking.refused[what]}"
            elif name not in SIZE_FACTORS and not lacking.slow:  # one that is slow is asked for few values
                yield what, "does not offer it"
    for rule in lacking.scope.rules:
        supported = rule.value in getattr(having.scope, rule.factor)
        if supported and rule not in having.scope.rules:
            what = f"{rule.factor}={rule.value} except with {rule.words}"
            yield what, f"refuses: {lacking.refused[what]}"
