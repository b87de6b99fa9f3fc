"""factors: the factors of its config that a failure needs, the sizes at which it shows, and the nearest that passes.

Each factor of the smallest failing config is changed alone. A failure that shows with every other value does not depend
on the factor. A failure that shows with no other value needs the one it has.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Any, Final

from harness.checks.full_check import against
from harness.checks.result import Result, Verdict
from harness.diagnosis.fresh import changed, fitting, flipped, infinite, stilled
from harness.oracle.compare import OF_VALUE, Sort
from harness.search.record import Finding
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.cut import fitted
from harness.space.scope import COST, Scope, factors_of
from harness.space.values import draw

SIZES: Final = ("T", "N", "input_size", "hidden_size", "num_layers")  # The factors that are asked for as sizes

# The steps up from a size: every remainder of 4, and some of 8 and 16, the widths of vectors.
LARGER: Final = (1, 2, 3, 4, 7, 8, 15, 16)

FAR: Final = (32, 64, 128, 256)
"""Further steps up, where a failure shows at all of those: a band of sizes may end behind them. They are tried as long
as a case costs no more than one of a search (``COST``)."""

WIDTHS: Final = (2, 4, 8, 16)  # The widths of vectors and blocks by which a pattern is looked for

# The orders in which two sizes may have to be.
ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
}

# The values that a changed config is tried with, after the failing case's own.
DRAWS: Final = (("normal", 0), ("default", 1), ("saturated", 2))

# Further values for relu: in a small case most of it is zero in half of all sets, and nothing shows.
MORE: Final = tuple(("normal", seed) for seed in range(1, 6))

FURTHER: Final = range(6, 30)
"""Seeds of values that are drawn until a certain cause would show on them. One that shows on one set in eight, as with
relu and dropout in a small case, is met with them and the above in 99 of 100; one that never shows needs the factor."""

LOUD: Final = 256
"""The factor by which the gradients of a loss are larger in further sets. A mistake that cuts off large gradients shows
there."""

LOUDLY: Final = (("default", 3), ("default", 4), ("normal", 5))
"""The values of these sets. tanh lets little pass where it is saturated, as it mostly is in small cases of normal
values."""


@dataclass(frozen=True)
class Size:
    """The sizes at which a failure shows, of those tried."""

    smallest: int
    fails: tuple[int, ...]
    passes: tuple[int, ...]

    @property
    def pattern(self) -> str:
        """The pattern of the sizes: ``from 17 on``, ``at 1 only``, ``at multiples of 8``; empty if every size fails."""
        fails = (self.smallest, *self.fails)
        if not self.passes:
            return "" if self.smallest == 1 else f"from {self.smallest} on"
        if not self.fails:
            return f"at {self.smallest} only"
        by_width = next((text for width in WIDTHS if (text := self._by_width(width, fails))), None)
        if by_width is None and max(fails) < min(self.passes):
            return f"from {self.smallest} to {max(fails)}"
        return by_width or f"at {_listed(fails)}, not at {_listed(self.passes)}"

    def shows(self, size: int) -> bool:
        """Tell whether the failure would show at a size that was not tried, by its pattern; without one, no."""
        tried = (self.smallest, *self.fails, *self.passes)
        for width in WIDTHS:
            rest = self.smallest % width
            if all((one % width == rest) == (one not in self.passes) for one in tried):
                return size >= self.smallest and size % width == rest
            if all((one % width != 0) == (one not in self.passes) for one in tried):
                return size >= self.smallest and size % width != 0
        return bool(self.fails) and max(self.fails) < min(self.passes) and self.smallest <= size <= max(self.fails)

    def _by_width(self, width: int, fails: tuple[int, ...]) -> str | None:
        """Return the pattern, if the remainder by a width decides."""
        tried, rest = (*fails, *self.passes), self.smallest % width
        bound = "" if self.smallest <= width else f", from {self.smallest} on"
        if width == 2 and all((size % 2 == rest) == (size in fails) for size in tried):
            return ("odd" if rest else "even") + bound
        if all((size % width == rest) == (size in fails) for size in tried):
            return (f"at {rest} more than multiples of {width}" if rest else f"at multiples of {width}") + bound
        if all((size % width != 0) == (size in fails) for size in tried):
            return f"from {self.smallest} on, except at multiples of {width}"
        return None


def _listed(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sorted(sizes)))


@dataclass(frozen=True)
class Factors:
    """The factors that a failure depends on."""

    needs: Mapping[str, Any] = field(default_factory=dict)  # The factors with which it fails, and with no other value
    # The values that fail, for factors of which several values fail and others do not.
    partly: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    independent: tuple[str, ...] = ()  # The factors of which every value fails
    sizes: Mapping[str, Size] = field(default_factory=dict)
    relations: tuple[tuple[str, str, str], ...] = ()
    """The pairs of sizes that must be in an order (a key of ``ORDERS``). ``sizes`` leaves out both, but
    for the second of an unequal pair, and for the second of an ordered pair where it has a threshold of its own."""
    # The sizes of which each may be 1, but not all of them at once, if there are such.
    not_all_one: tuple[str, ...] = ()
    passing: tuple[str, Any] | None = None  # The nearest neighbour that passes: a factor, and its value there

    def covers(self, config: RNNConfig) -> bool:
        """Tell whether a config has all that the failure needs, as far as that is known."""
        values = factors_of(config)
        return (
            all(values[name] == value for name, value in self.needs.items())
            and all(values[name] in several for name, several in self.partly.items())
            and all(_has(size, values[name]) for name, size in self.sizes.items())
            and (not self.not_all_one or any(values[name] > 1 for name in self.not_all_one))
            and all(ORDERS[sign](values[one], values[other]) for one, sign, other in self.relations)
        )


def _has(size: Size, value: Any) -> bool:
    """Tell whether the failure shows at a size, or would by what was tried; the size may be 0."""
    if not size.passes:
        return bool(value >= size.smallest or size.smallest == 1)
    if value in {size.smallest, *size.fails, *size.passes}:
        return value not in size.passes
    return bool(value > 0) and size.shows(value)


def depends_on(
    finding: Finding,
    scope: Scope,
    check: Callable[[Case], Result],
    *,
    explains_all: Callable[[Case, str], bool] = lambda _case, _name: True,
    would_show: Callable[[Case], bool] | None = None,
    is_active: Callable[[Case], bool] = lambda _case: True,
    of_cause: Callable[[Case, Result], bool] = lambda _case, _result: False,
) -> Factors:
    """Return what the failure of a minimal case depends on, each factor changed alone within ``scope``.

    ``explains_all`` says whether an excuse of that name leaves nothing else wrong on a case that ``check`` excuses.
    ``would_show`` says whether a certain cause shows on a case: a changed config is tried until it would. ``is_active``
    says whether that cause makes any difference: where it makes none, another mistake makes the case fail. ``of_cause``
    says whether a failure of another kind has that cause: a gradient that is wrong with one loss is missing with
    another.
    """
    kind, config = like(finding.result), finding.case.config
    otherwise: set[RNNConfig] = set()
    """The configs that fail for what is known, or for another mistake, though not for this one."""
    finite = all(mismatch.sort is not Sort.FINITENESS for mismatch in finding.result.mismatches)

    def alike(case: Case, result: Result) -> bool:
        return like(result) == kind or of_cause(case, result)

    def fails(other: RNNConfig) -> bool | None:
        """Tell whether it fails with other factors; ``None`` if it is refused, or fails in another way."""
        passed, told = True, False
        for candidate in _tries(finding.case, other, finite=finite):
            result = check(candidate)
            if result.verdict is Verdict.UNSUPPORTED:
                return None
            if against(result) and alike(candidate, result):
                if is_active(candidate):
                    return True
                otherwise.add(other)
                continue
            if result.excused_by is not None:
                otherwise.add(other)
            passed &= not against(result) and (result.excused_by is None or explains_all(candidate, result.excused_by))
            told = told or (would_show is not None and would_show(candidate))
        if passed and would_show is not None and not told:
            for candidate in (draw(other, "normal", seed) for seed in FURTHER):
                if would_show(candidate):
                    result = check(candidate)
                    return alike(candidate, result) or None if against(result) else False
        return False if passed else None

    sizes: dict[str, Size] = {}
    for name in SIZES:
        if (size := _size(name, config, scope, fails)) is not None:
            sizes[name] = size
    here = factors_of(config)
    found: dict[str, dict[Any, bool]] = {}
    for other in flipped(config, scope):
        there = factors_of(other)
        differing = [name for name in there if there[name] != here[name]]
        if len(differing) == 1 and differing[0] not in SIZES and (failed := fails(other)) is not None:
            found.setdefault(differing[0], {})[there[differing[0]]] = failed
    needs: dict[str, Any] = {}
    partly: dict[str, tuple[Any, ...]] = {}
    independent: list[str] = []
    for name, tried in found.items():
        if all(tried.values()):
            independent.append(name)
        elif any(tried.values()):
            partly[name] = (here[name], *(value for value, failed in tried.items() if failed))
        else:
            needs[name] = here[name]
    nearest = _nearest(config, scope, sizes, found, fails, otherwise=otherwise)
    alone = {name: 1 for name, size in sizes.items() if size.smallest == 1 < getattr(config, name)}
    not_all_one = tuple(alone) if len(alone) > 1 and fails(changed(config, alone)) is False else ()
    relations = tuple(_related(config, sizes, scope, fails))
    for one, sign, another in relations:
        sizes.pop(one, None)
        size = sizes.pop(another, None) if sign != "!=" else None
        if size is not None and sign != "==" and size.smallest > 1:
            sizes[another] = Size(size.smallest, size.passes, ())  # it fails at these where the first is as large
    return Factors(needs, partly, tuple(independent), sizes, relations, not_all_one, nearest)


def _tries(case: Case, config: RNNConfig, *, finite: bool) -> Iterator[Case]:
    yield fitted(case, config)
    if not finite:  # the values drawn below are all finite
        yield infinite(config, 0)
    for regime, seed in DRAWS if config.nonlinearity == "tanh" else (*DRAWS, *MORE):
        yield draw(config, regime, seed)
    if config.loss is not None and config.nonlinearity == "relu":
        yield stilled(config, 0)
    if config.loss is not None:
        for generic in (draw(config, *which) for which in LOUDLY):
            cotangents = {name: array * array.dtype.type(LOUD) for name, array in generic.cotangents.items()}
            yield Case.from_arrays(config, {**generic.arrays, **cotangents})


def _larger(name: str, smallest: int, scope: Scope) -> list[int]:
    larger = {fitting(name, smallest + step, scope) for step in (LARGER if name != "num_layers" else (1, 2))}
    return sorted(size for size in larger if size > smallest)


def _size(name: str, config: RNNConfig, scope: Scope, fails: Callable[[RNNConfig], bool | None]) -> Size | None:
    own = getattr(config, name)
    smaller = (size for size in dict.fromkeys((1, 2, 3, own - 1)) if 0 < size < own)
    allowed = (size for size in smaller if fitting(name, size, scope) == size)
    # The case is minimal for the values that were tried on it; others may show the failure at smaller sizes.
    smallest = next((size for size in allowed if fails(changed(config, {name: size}))), own)
    tried: dict[int, bool | None] = {} if smallest == own else {own: True}
    for size in _larger(name, own, scope):
        if (other := changed(config, {name: size})) != config:
            tried[size] = fails(other)
    tried |= _beyond(name, config, scope, fails, tried)
    if not any(failed is not None for failed in tried.values()):
        return None
    return Size(
        smallest,
        tuple(size for size, failed in sorted(tried.items()) if failed),
        tuple(size for size, failed in sorted(tried.items()) if failed is False),
    )


def _beyond(
    name: str,
    config: RNNConfig,
    scope: Scope,
    fails: Callable[[RNNConfig], bool | None],
    tried: Mapping[int, bool | None],
) -> dict[int, bool | None]:
    """Try far sizes, if no nearer one passes, and then sizes down to the last that fails.

    Without them, a failure at sizes from 21 to 39 would be told as one from 21 on. All far ones are tried, because a
    failure that is also behind the first that passes is no band.
    """
    own = getattr(config, name)
    far: dict[int, bool | None] = {}
    if name == "num_layers":
        return far
    for size in () if False in tried.values() else (fitting(name, own + step, scope) for step in FAR):
        other = changed(config, {name: size})
        if size > own and size not in tried and other != config and other.cost <= COST:
            far[size] = fails(other)
    every = {own: True, **tried, **far}
    passes = [size for size, failed in every.items() if failed is False]
    last = max(size for size, failed in every.items() if failed)
    between = [size for size in range(last + 1, min(passes, default=0)) if scope.allows(name, size)]
    while between:  # the end of the band is between the last that fails and the first that passes
        middle = len(between) // 2
        far[between[middle]] = failed = fails(changed(config, {name: between[middle]}))
        if failed is None:
            break
        between = between[middle + 1 :] if failed else between[:middle]
    return far


def _related(
    config: RNNConfig, sizes: Mapping[str, Size], scope: Scope, fails: Callable[[RNNConfig], bool | None]
) -> Iterator[tuple[str, str, str]]:
    """Yield pairs of sizes that fail only where they are equal, only where they are not, or where one is larger."""
    for one, other in combinations(sizes, 2):
        here, there = getattr(config, one), getattr(config, other)
        if here == there and not sizes[one].fails and not sizes[other].fails:
            both = [changed(config, {one: size, other: size}) for size in _larger(one, here, scope)]
            if any(fails(larger) for larger in both if larger != config):
                yield one, "==", other
    for one, size in sizes.items():
        for other in sizes:
            if other != one and size.fails and size.passes == (getattr(config, other),):
                yield one, "!=", other
    for one, other in permutations(sizes, 2):
        sign = {0: ">=", 1: ">"}.get(getattr(config, one) - getattr(config, other))
        alone = sizes[one].fails and not sizes[one].passes and sizes[other].passes and not sizes[other].fails
        if sign is not None and alone and _ordered(config, one, other, scope, fails):
            yield one, sign, other


def _ordered(config: RNNConfig, one: str, other: str, scope: Scope, fails: Callable[[RNNConfig], bool | None]) -> bool:
    """Tell whether it fails with both sizes larger by the same steps, and passes where the other is larger by more."""
    here, there = getattr(config, one), getattr(config, other)
    for step in LARGER:
        if not scope.allows(one, here + step) or not scope.allows(other, there + step + 1):
            return False
        if not fails(changed(config, {one: here + step, other: there + step})):
            return False
        if fails(changed(config, {one: here + step, other: there + step + 1})) is not False:
            return False
    return True


def _nearest(
    config: RNNConfig,
    scope: Scope,
    sizes: Mapping[str, Size],
    found: Mapping[str, Mapping[Any, bool]],
    fails: Callable[[RNNConfig], bool | None],
    *,
    otherwise: set[RNNConfig],
) -> tuple[str, Any] | None:
    """Return the neighbour that passes and differs least: a size one smaller, or larger; else a factor changed.

    It is none of those that fail ``otherwise``.
    """
    for size, name in sorted(((getattr(config, name), name) for name in sizes), reverse=True):
        allowed = size > 1 and fitting(name, size - 1, scope) == size - 1
        smaller = changed(config, {name: size - 1}) if allowed else config
        if smaller != config and fails(smaller) is False and smaller not in otherwise:
            return name, size - 1
    others = [(name, min(size.passes)) for name, size in sizes.items() if size.passes]
    for name, tried in found.items():
        # Without a loss there are no gradients.
        others += [(name, value) for value, failed in tried.items() if not failed and (name, value) != ("loss", None)]
    return next((one for one in others if changed(config, dict([one])) not in otherwise), None)


def like(result: Result) -> str:
    """Return the kind of a result, which for wrong numbers is ``values`` or ``gradients``.

    Which array shows wrong numbers first does not matter then.
    """
    if not result.mismatches or result.mismatches[0].law or result.mismatches[0].sort not in OF_VALUE:
        return result.kind
    return "gradients" if result.mismatches[0].array.endswith(".grad") else "values"
