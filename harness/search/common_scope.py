"""common_scope: what two subjects support, so that both are searched with one plan, and what only one of them does."""

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, Final, NamedTuple

from harness.search.capability_discovery import DiscoveredScope, narrow
from harness.search.deadline import DeadlineSubject, Hang
from harness.space.factor_table import SIZE_FACTORS
from harness.space.scope import SCOPE_FLAGS, Scope
from harness.subjects.protocol import Subject

SUPPORTS: Final = "supports it"


class Behaviour(NamedTuple):
    """Differences between two interpreters that are no defects."""

    what: str
    old: str
    new: str


class JointScope(NamedTuple):
    """The support of each of two subjects, with the scope of both; ``None`` where there is none."""

    old: DiscoveredScope | None
    new: DiscoveredScope | None
    behaviour: tuple[Behaviour, ...] = ()


def joint_scope(
    old: tuple[Subject, Scope], new: tuple[Subject, Scope], *, slow: bool = False, until: float = math.inf
) -> JointScope:
    """Ask two subjects for what they support of what each is asked for, and return what both do.

    ``slow`` and ``until`` are as in ``narrow``.
    """
    try:
        earlier, later = (
            narrow(DeadlineSubject(subject), scope, slow=slow, until=until) for subject, scope in (old, new)
        )
    except Hang:
        return JointScope(None, None)
    behaviour = tuple(_behaviour(earlier, later))
    scope = _of_both(earlier.scope, later.scope) if earlier.accepted and later.accepted else None
    if scope is None:
        return JointScope(None, None, behaviour)
    return JointScope(earlier._replace(scope=scope), later._replace(scope=scope), behaviour)


def _of_both(old: Scope, new: Scope) -> Scope | None:
    """Return the scope of all that is in both; ``None`` if nothing is."""
    names = [field.name for field in fields(Scope) if field.name not in {*SCOPE_FLAGS, "rules"}]
    common: dict[str, Any] = {
        name: tuple(value for value in getattr(old, name) if value in getattr(new, name)) for name in names
    }
    rules = tuple(dict.fromkeys((*old.rules, *new.rules)))
    switches = {name: getattr(old, name) and getattr(new, name) for name in SCOPE_FLAGS}
    scope = replace(old, rules=rules, **common | switches)
    return scope if all(common.values()) and scope.modes else None


def _behaviour(old: DiscoveredScope, new: DiscoveredScope) -> Iterator[Behaviour]:
    """Yield what one subject supports and the other does not, unless the other fails there, which is a finding."""
    if not (old.accepted and new.accepted):
        if old.accepted or new.accepted:
            yield Behaviour("every plain config", _of_all(old), _of_all(new))
        return
    values = [_values(discovered) for discovered in (old, new)]
    for what in dict.fromkeys((*values[0], *values[1], *old.refused, *new.refused)):
        answers = _answer(old, values[0], what), _answer(new, values[1], what)
        if None not in answers and answers[0] != answers[1] and SUPPORTS in answers:
            yield Behaviour(what, str(answers[0]), str(answers[1]))


def _of_all(discovered: DiscoveredScope) -> str:
    return SUPPORTS if discovered.accepted else f"refuses: {next(iter(discovered.refused.values()))}"


def _values(discovered: DiscoveredScope) -> dict[str, None]:
    return {f"{name}={value}": None for name, values in discovered.scope.values().items() for value in values}


def _answer(discovered: DiscoveredScope, values: dict[str, None], what: str) -> str | None:
    """Return what a subject does with a value, or a value under a condition; ``None`` if that is no behaviour."""
    if what in discovered.refused:
        return f"refuses: {discovered.refused[what]}"
    if what.partition(" except with ")[0] in values:
        return SUPPORTS
    failing = any(what == unrefused for unrefused, _, _ in discovered.unsupported_unrefused)
    # Both are asked for the same values, and sizes that nobody refuses are only not asked for.
    return None if failing or what.partition("=")[0] in SIZE_FACTORS else "does not offer it"
