"""failure_conditions: the factors of its config that a failure needs, its sizes, and the nearest config that passes.

Each factor of the smallest failing config is changed alone. A failure that shows with every other value does not depend
on the factor. A failure that shows with no other value needs the one it has, or another change in its place: hx is
needed where there is one step alone. So what seems to be needed is left out of a larger config, too.

Where a cause is known that can be run without the subject, that tells on which numbers to ask for a changed config.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, combinations, permutations
from typing import Any, ClassVar, Final, NamedTuple

from harness.checks.case_checks import against
from harness.checks.result import Result, Verdict
from harness.diagnosis.fresh_cases import changed, fitting, flipped, infinite, stilled, wider
from harness.diagnosis.identify.model import RIGHT_NETWORK, Network
from harness.diagnosis.value_threshold import NumbersNeeded, drawn, numbers_needed
from harness.oracle.compare import OF_VALUE, MismatchKind
from harness.search.search_record import Finding
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.outcome import PROCESS_LOST
from harness.space.refit import fitted
from harness.space.scope import HIGHEST_COST, Scope, factors_of
from harness.space.values import draw

SIZE_NAMES: Final = ("T", "N", "input_size", "hidden_size", "num_layers")  # The factors that are asked for as sizes

# The steps up from a size: every remainder of 4, and some of 8 and 16, the widths of vectors.
LARGER: Final = (1, 2, 3, 4, 7, 8, 15, 16)

FAR_SIZES: Final = (32, 64, 128, 256)
"""Further steps up, where a failure shows at all of those: a band of sizes may end behind them. They are tried as long
as a case costs no more than one of a search (``HIGHEST_COST``)."""

# The widths of vectors and blocks by which a pattern is looked for: those of hardware first.
WIDTHS: Final = (2, 4, 8, 16, *(width for width in range(3, 16) if width not in (4, 8)))

# The orders in which two sizes may have to be.
SIZE_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
}

# The values that a changed config is tried with, after the failing case's own.
FACTOR_DRAWS: Final = (("normal", 0), ("default", 1), ("saturated", 2))

# Further values for relu: in a small case most of it is zero in half of all sets, and nothing shows.
MORE: Final = tuple(("normal", seed) for seed in range(1, 6))

FURTHER: Final = range(6, 30)
"""Seeds of values that are drawn until a known cause would show on them. One that shows on one set in eight, as with
relu and dropout in a small case, is met with them and the above in 99 of 100; one that never shows needs the factor."""

# the cases on which a known cause would show that a subject is asked for, of each changed config
KNOWN_CASES: Final = 2

GRADIENT_FACTOR: Final = 256
"""The factor by which the gradients of a loss are larger in further sets. A mistake that cuts off large gradients shows
there."""

LARGE_GRADIENT_SETS: Final = (("default", 3), ("default", 4), ("normal", 5))
"""The values of these sets. tanh lets little pass where it is saturated, as it mostly is in small cases of normal
values."""


IRREGULAR: Final = "irregularly"  # the pattern of sizes that have none


@dataclass(frozen=True)
class FailingSizes:
    """The sizes at which a failure shows, of those tried."""

    smallest: int
    fails: tuple[int, ...]
    passes: tuple[int, ...]

    @property
    def pattern(self) -> str:
        """The pattern of the sizes: ``from 17 on``, ``at 1 only``, ``at multiples of 8``; empty if every size fails.

        ``IRREGULAR`` stands for sizes without one.
        """
        if not self.passes:
            return "" if self.smallest == 1 else f"from {self.smallest} on"
        return next((text for text, _ in self._patterns()), IRREGULAR) if self.fails else f"at {self.smallest} only"

    def shows(self, size: int) -> bool:
        """Tell whether the failure would show at a size that was not tried, by its pattern; without one, no."""
        return size >= self.smallest and next((fails(size) for _, fails in self._patterns()), False)

    def _patterns(self) -> Iterator[tuple[str, Callable[[int], bool]]]:
        """Yield the patterns that all sizes fit that were tried, each with what tells whether a size fails by it."""
        tried = (self.smallest, *self.fails, *self.passes)
        for text, fails in (*chain(*map(self._of_width, WIDTHS)), *self._of_others()):
            if all(fails(size) == (size not in self.passes) for size in tried):
                yield text, fails

    def _of_width(self, width: int) -> Iterator[tuple[str, Callable[[int], bool]]]:
        rest, since = self.smallest % width, f"from {self.smallest} on"
        at = f"at {rest} more than multiples of {width}" if rest else f"at multiples of {width}"
        at = at if width > 2 else ("even", "odd")[rest]
        yield at + (f", {since}" if self.smallest > width else ""), lambda size: size % width == rest
        if len(self.passes) > 1:
            yield f"{since}, except at multiples of {width}", lambda size: size % width != 0

    def _of_others(self) -> Iterator[tuple[str, Callable[[int], bool]]]:
        since, last = f"from {self.smallest} on", max(self.smallest, *self.fails, 0)
        if self.fails:
            yield f"from {self.smallest} to {last}", lambda size: size <= last
        if len(self.passes) > 1:  # as halves of an axis, or pairs, have it
            yield f"{since}, except at powers of 2", lambda size: size & (size - 1) != 0
        elif last > self.passes[0]:
            yield f"{since}, except at {self.passes[0]}", lambda size: size != self.passes[0]


@dataclass(frozen=True)
class FailureConditions:
    """The factors that a failure depends on."""

    needs: Mapping[str, Any] = field(default_factory=dict)  # The factors with which it fails, and with no other value
    # The values that fail, for factors of which several values fail and others do not.
    partly: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    independent: tuple[str, ...] = ()  # The factors of which every value fails
    sizes: Mapping[str, FailingSizes] = field(default_factory=dict)
    relations: tuple[tuple[str, str, str], ...] = ()
    """The pairs of sizes that must be in an order (a key of ``SIZE_ORDERS``). ``sizes`` leaves out both, but
    for the second of an unequal pair, and for the second of an ordered pair where it has a threshold of its own."""
    # Needs of which one must be met: a factor's value, or a size that it has, or more.
    either: tuple[tuple[tuple[str, Any], ...], ...] = ()
    passing: tuple[str, Any] | None = None  # The nearest neighbour that passes: a factor, and its value there
    numbers: NumbersNeeded | None = None  # what it needs of the numbers; ``None`` if these were not varied

    def covers(self, config: RNNConfig) -> bool:
        """Tell whether a config has all that the failure needs, as far as that is known."""
        values = factors_of(config)
        return (
            all(values[name] == value for name, value in self.needs.items())
            and all(values[name] in several for name, several in self.partly.items())
            and all(_has(size, values[name]) for name, size in self.sizes.items())
            and all(any(_satisfies(values[name], need) for name, need in needs) for needs in self.either)
            and all(SIZE_ORDERS[sign](values[first], values[second]) for first, sign, second in self.relations)
        )


def _satisfies(value: Any, need: Any) -> bool:
    """Tell whether a value is what is needed, or as large as a size that is."""
    return bool(value >= need.smallest) if isinstance(need, FailingSizes) else bool(value == need)


def _has(size: FailingSizes, value: Any) -> bool:
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
    shows: Callable[[Case], bool] | None = None,
    may_show: Callable[[Case], bool] | None = None,
    of_cause: Callable[[Case, Result], bool] = lambda _case, _result: False,
    right: Network = RIGHT_NETWORK,
) -> FailureConditions:
    """Return what the failure of a minimal case depends on, each factor changed alone within ``scope``.

    ``explains_all`` says whether a known cause of that name leaves nothing else wrong on a case that ``check`` excuses.
    ``shows`` says whether a known cause shows on a case, without the subject: no other case is then checked.
    ``may_show`` says in less time where it does not. In ``right`` that cause is mended. ``of_cause`` says whether a
    failure of another kind has it: a gradient that is wrong with one loss is missing with another.
    """
    asked = (finding, check, explains_all, of_cause, right)
    verdicts = _ByRuns(*asked) if shows is None else _ByModel(*asked, shows, may_show or shows)
    return _Conditions(finding.case.config, scope, verdicts).all()


@dataclass(frozen=True)
class _ByRuns:
    """Whether a config fails as a finding does, where nothing but runs of the subject tells."""

    finding: Finding
    check: Callable[[Case], Result]
    explains_all: Callable[[Case, str], bool]
    of_cause: Callable[[Case, Result], bool]
    right: Network
    known: dict[RNNConfig, bool | None] = field(default_factory=dict, kw_only=True)
    # The configs that fail for what is known, though not for this cause.
    otherwise: set[RNNConfig] = field(default_factory=set, kw_only=True)

    most: ClassVar[float] = math.inf  # the cases on which the failure may show that a config is asked for

    def fails(self, config: RNNConfig) -> bool | None:
        """Tell whether a config fails; ``None`` if it is refused, or fails in another way."""
        if config not in self.known:
            self.known[config] = self._fails(config)
        return self.known[config]

    def _fails(self, config: RNNConfig) -> bool | None:
        passed, unsure, telling = True, False, 0
        for candidate in self._candidates(config):
            result = self.check(candidate)
            if result.verdict is Verdict.UNSUPPORTED:
                return None
            if against(result) and self._alike(candidate, result):
                return True
            if not self._tells(candidate):
                unsure |= result.known_as is not None  # roundings may be as large, and another mistake fails there
                continue
            # where it answers, it does not crash, whatever else is wrong
            answers = self.finding.result.raised is not None and against(result) and result.raised is None
            if result.known_as is not None or answers:
                self.otherwise.add(config)
            passed &= answers or self._passes(candidate, result)
            telling += 1
            if telling == self.most:
                break
        return False if passed and not unsure and (telling or not self._rare) else None

    def _tells(self, _case: Case) -> bool:
        """Tell whether the cause would show on a case."""
        return True

    @property
    def _rare(self) -> bool:
        """True if the cause shows on no draw of the finding's own config, so that no such draw tells anything."""
        return False

    @property
    def _finite(self) -> bool:
        return all(mismatch.sort is not MismatchKind.FINITENESS for mismatch in self.finding.result.mismatches)

    def _alike(self, case: Case, result: Result) -> bool:
        return like(result) == like(self.finding.result) or self.of_cause(case, result)

    def _passes(self, case: Case, result: Result) -> bool:
        """Tell whether nothing is wrong with a case that is not what is known, and explains all of it."""
        return not against(result) and (result.known_as is None or self.explains_all(case, result.known_as))

    def _candidates(self, config: RNNConfig) -> Iterator[Case]:
        """Yield the cases of a config that the subject is asked for.

        There are enough that numbers show which the own config needs, so that no factor is taken for what they decide.
        """
        own = self.own
        yield from _tries(self.finding.case, config, finite=self._finite)
        if own is not None and not own.always:
            yield from (drawn(config, number) for number in range(own.telling))

    @cached_property
    def own(self) -> NumbersNeeded | None:
        """What the failure needs of the numbers of its own config."""
        return self.numbers(self.finding.case.config)

    def numbers(self, config: RNNConfig) -> NumbersNeeded | None:
        """Return what the failure needs of the numbers of a config; ``None`` if they are not varied.

        Numbers that are not finite are no matter of size or sign, and a process that dies takes too long.
        """
        if self.finding.result.failure in PROCESS_LOST or not self._finite or config.cost > HIGHEST_COST:
            return None
        return numbers_needed(config, self._fails_on, self.right)

    def _fails_on(self, case: Case) -> bool | None:
        result = self.check(case)
        if against(result):
            return self._alike(case, result) or None
        return False if self._passes(case, result) and result.verdict is not Verdict.UNSUPPORTED else None

    def holds(self, _numbers: NumbersNeeded) -> bool:
        """Tell whether the subject bears out what is needed of the numbers."""
        return True


@dataclass(frozen=True)
class _ByModel(_ByRuns):
    """The same where a cause is known that tells on which cases it shows, and two of those are run."""

    shows: Callable[[Case], bool]
    may_show: Callable[[Case], bool]

    most: ClassVar[float] = KNOWN_CASES

    def _tells(self, case: Case) -> bool:
        return self.shows(case)

    @cached_property
    def _rare(self) -> bool:
        config = self.finding.case.config
        draws = (draw(config, distribution, seed) for distribution in ("normal", "default") for seed in (0, 1))
        return not any(map(self.shows, draws))

    def _candidates(self, config: RNNConfig) -> Iterator[Case]:
        rare = config.nonlinearity == "relu" or config.drops
        further = (draw(config, "normal", seed) for seed in (FURTHER if rare else ()))
        return filter(self.may_show, chain(_tries(self.finding.case, config, finite=self._finite), further))

    def _fails_on(self, case: Case) -> bool | None:
        return self.shows(case)

    def holds(self, numbers: NumbersNeeded) -> bool:
        return all(super(_ByModel, self)._fails_on(case) is not False for case in numbers.failing[:KNOWN_CASES])


class _Conditions(NamedTuple):
    """The search for what one failing config has that others lack."""

    config: RNNConfig
    scope: Scope
    verdicts: _ByRuns

    def all(self) -> FailureConditions:
        """Return what the failure depends on."""
        config, here = self.config, factors_of(self.config)
        tried_sizes = {name: self._size(name) for name in SIZE_NAMES}
        sizes = {name: size for name, size in tried_sizes.items() if size is not None}
        units = sizes.get("hidden_size")
        if config.proj_size and units is not None and (units.smallest, units.passes) == (config.proj_size + 1, ()):
            del sizes["hidden_size"]  # no projection of that size has fewer
        by_factor = self._flipped()
        several = {
            name: [value for value, failed in failures.items() if failed] for name, failures in by_factor.items()
        }
        needs = {name: here[name] for name, values in several.items() if not values}
        independent = tuple(name for name, values in several.items() if len(values) == len(by_factor[name]))
        partly = {name: (here[name], *values) for name, values in several.items() if name not in {*needs, *independent}}
        nearest = self._nearest(sizes, by_factor)
        relations = tuple(self._related(sizes))
        for first, sign, another in relations:
            sizes.pop(first, None)
            size = sizes.pop(another, None) if sign != "!=" else None
            if size is not None and sign != "==" and size.smallest > 1:
                # it fails at these where the first is as large
                sizes[another] = FailingSizes(size.smallest, size.passes, ())
        either = tuple(self._alternatives(needs, sizes, relations))
        for (name, _), *_ in either:
            needs.pop(name, None)
            sizes.pop(name, None)
        alone = {name: 1 for name, size in sizes.items() if size.smallest == 1 < getattr(config, name)}
        if len(alone) > 1 and self._fails(alone) is False:
            either += (tuple((name, FailingSizes(2, (), ())) for name in alone),)
        factors = FailureConditions(needs, partly, independent, sizes, relations, either, nearest)
        return replace(factors, numbers=self._numbers(factors))

    def _fails(self, changes: dict[str, Any]) -> bool | None:
        """Tell whether it fails with some factors changed."""
        return self.verdicts.fails(self._changed(changes))

    def _changed(self, changes: dict[str, Any]) -> RNNConfig:
        return changed(self.config, changes)

    def _flipped(self) -> dict[str, dict[Any, bool]]:
        """Return whether it fails with each factor, but for sizes, at each other value alone.

        Without a loss there are no gradients that could be wrong.
        """
        here, by_factor = factors_of(self.config), dict[str, dict[Any, bool]]()
        gradients = self.config.loss is not None and like(self.verdicts.finding.result) == "gradients"
        for neighbour in flipped(self.config, self.scope):
            there = factors_of(neighbour)
            differing = [name for name in there if there[name] != here[name]]
            if "proj_size" in differing:  # which may need more units
                differing = [name for name in differing if name != "hidden_size"]
            if len(differing) != 1 or differing[0] in SIZE_NAMES or (neighbour.loss is None and gradients):
                continue
            if (failed := self.verdicts.fails(neighbour)) is not None:
                by_factor.setdefault(differing[0], {})[there[differing[0]]] = failed
        return by_factor

    def _size(self, name: str) -> FailingSizes | None:
        own = getattr(self.config, name)
        smaller = (size for size in dict.fromkeys((1, 2, 3, own - 1)) if 0 < size < own)
        allowed = (size for size in smaller if self.scope.allows(name, size))
        # The case is minimal for the values that were tried on it; others may show the failure at smaller sizes.
        smallest = next((size for size in allowed if self._fails({name: size})), own)
        failures: dict[int, bool | None] = {} if smallest == own else {own: True}
        failures |= self._at(name, self._larger(name))
        passes = [size for size, failed in failures.items() if failed is False and size > smallest]
        # its multiples, or its powers
        multiples = {fitting(name, times * base, self.scope) for base in passes[:1] for times in (2, 3)}
        failures |= self._at(name, sorted(multiples - failures.keys()))
        failures |= self._beyond(name, failures)
        if not any(failed is not None for failed in failures.values()):
            return None
        fails, passing = (tuple(size for size in sorted(failures) if failures[size] is how) for how in (True, False))
        return FailingSizes(smallest, fails, passing)

    def _larger(self, name: str) -> list[int]:
        size = getattr(self.config, name)
        larger = {fitting(name, size + step, self.scope) for step in (LARGER if name != "num_layers" else (1, 2))}
        return sorted(other for other in larger if other > size)

    def _at(self, name: str, sizes: Iterable[int]) -> dict[int, bool | None]:
        """Return whether it fails at some other sizes, as far as there are such configs."""
        configs = {size: self._changed({name: size}) for size in sizes}
        return {size: self.verdicts.fails(config) for size, config in configs.items() if config != self.config}

    def _beyond(self, name: str, failures: Mapping[int, bool | None]) -> dict[int, bool | None]:
        """Try far sizes, if no nearer one passes, and then sizes down to the last that fails.

        Without them, a failure at sizes from 21 to 39 would be told as one from 21 on. All far ones are tried, because
        a failure that is also behind the first that passes is no band.
        """
        if name == "num_layers":
            return {}
        own = getattr(self.config, name)
        steps = () if False in failures.values() else FAR_SIZES
        sizes = [size for size in (fitting(name, own + step, self.scope) for step in steps) if size > own]
        cheap = (size for size in sizes if self._changed({name: size}).cost <= HIGHEST_COST)
        far = self._at(name, (size for size in cheap if size not in failures))
        every = {own: True, **failures, **far}
        passes = [size for size, failed in every.items() if failed is False]
        last = max(size for size, failed in every.items() if failed)
        between = [size for size in range(last + 1, min(passes, default=0)) if self.scope.allows(name, size)]
        while between:  # the end of the band is between the last that fails and the first that passes
            middle = len(between) // 2
            far[between[middle]] = failed = self._fails({name: between[middle]})
            if failed is None:
                break
            between = between[middle + 1 :] if failed else between[:middle]
        return far

    def _related(self, sizes: Mapping[str, FailingSizes]) -> Iterator[tuple[str, str, str]]:
        """Yield pairs of sizes that fail only where they are equal, only where they are not, or where one is larger."""
        for first, second in combinations(sizes, 2):
            here, there = getattr(self.config, first), getattr(self.config, second)
            if here == there and not sizes[first].fails and not sizes[second].fails:
                both = [self._changed({first: size, second: size}) for size in self._larger(first)]
                if any(self.verdicts.fails(larger) for larger in both if larger != self.config):
                    yield first, "==", second
        for first, second in permutations(sizes, 2):
            if sizes[first].fails and sizes[first].passes == (getattr(self.config, second),):
                yield first, "!=", second
        for first, second in permutations(sizes, 2):
            sign = {0: ">=", 1: ">"}.get(getattr(self.config, first) - getattr(self.config, second))
            alone = sizes[first].fails and not sizes[first].passes and sizes[second].passes and not sizes[second].fails
            if sign is not None and alone and self._ordered(first, second):
                yield first, sign, second

    def _ordered(self, first: str, second: str) -> bool:
        """Tell whether it fails with both sizes larger by the same steps, and passes if the other is larger by more."""
        here, there = getattr(self.config, first), getattr(self.config, second)
        for step in LARGER:
            if not self.scope.allows(first, here + step) or not self.scope.allows(second, there + step + 1):
                return False
            if not self._fails({first: here + step, second: there + step}):
                return False
            if self._fails({first: here + step, second: there + step + 1}) is not False:
                return False
        return True

    def _alternatives(
        self, needs: Mapping[str, Any], sizes: Mapping[str, FailingSizes], relations: tuple[tuple[str, str, str], ...]
    ) -> Iterator[tuple[tuple[str, Any], ...]]:
        """Yield each need that a larger config does not have, with what is needed in its place.

        Nothing is needed in its place where no single change does.
        """
        thresholds = {name: size for name, size in sizes.items() if size.smallest > 1 and not size.passes}
        if not needs and not thresholds:
            return
        large = wider(self.config, self.scope)
        for first, sign, another in relations:
            large = changed(large, {another: getattr(large, first)}) if sign == "==" else large
        for name in ("hx", "bias"):
            if name not in needs and self.scope.allows(name, True):
                large = changed(large, {name: True})
        if not self.verdicts.fails(large):
            return
        here, wide = factors_of(self.config), factors_of(large)
        companions = [name for name in (*SIZE_NAMES, "hx", "bias") if here[name] != wide[name]]
        covered = set[str]()
        for name, need in {**needs, **thresholds}.items():
            without = self._without(name, need)
            if name in covered or without is None or not self.verdicts.fails(changed(large, without)):
                continue
            others: list[tuple[str, Any]] = []
            for partner in (factor for factor in companions if factor != name):
                is_size = partner in SIZE_NAMES
                values = range(here[partner] + 1, here[partner] + 4) if is_size else (wide[partner],)
                allowed = (value for value in values if self.scope.allows(partner, value))
                at = next((value for value in allowed if self._fails({**without, partner: value})), None)
                if at is not None:
                    others.append((partner, FailingSizes(at, (), ()) if is_size else at))
            covered |= {name, *(partner for partner, _ in others)}
            yield ((name, need), *others)

    def _without(self, name: str, need: Any) -> dict[str, Any] | None:
        """Return a change by which a need is not met; ``None`` if the scope has none."""
        if isinstance(need, FailingSizes):
            return {name: need.smallest - 1} if self.scope.allows(name, need.smallest - 1) else None
        others = [value for value in self.scope.values()[name] if value not in {need, "meta"}]
        return {name: others[0]} if others else None

    def _numbers(self, factors: FailureConditions) -> NumbersNeeded | None:
        """Return what the failure needs of the numbers: of a wider config, where all that could hide it is rare."""
        wide = wider(self.config, self.scope)
        numbers = self.verdicts.numbers(wide) if factors.covers(wide) else None
        numbers = numbers if numbers is not None and numbers.fails else self.verdicts.own
        return numbers if numbers is not None and self.verdicts.holds(numbers) else None

    def _nearest(
        self, sizes: Mapping[str, FailingSizes], by_factor: Mapping[str, Mapping[Any, bool]]
    ) -> tuple[str, Any] | None:
        """Return the neighbour that passes and differs least: a size one smaller, or larger; else a factor changed.

        It is none of those that fail ``otherwise``.
        """
        for size, name in sorted(((getattr(self.config, name), name) for name in sizes), reverse=True):
            smaller = self._changed({name: size - 1}) if size > 1 and self.scope.allows(name, size - 1) else self.config
            passes = smaller != self.config and self.verdicts.fails(smaller) is False
            if passes and smaller not in self.verdicts.otherwise:
                return name, size - 1
        others = [(name, min(size.passes)) for name, size in sizes.items() if size.passes]
        for name, failures in by_factor.items():
            # Without a loss there are no gradients.
            passing = [value for value, failed in failures.items() if not failed and (name != "loss" or value)]
            others += [(name, value) for value in passing]
        return next((change for change in others if self._changed(dict([change])) not in self.verdicts.otherwise), None)


def _tries(case: Case, config: RNNConfig, *, finite: bool) -> Iterator[Case]:
    yield fitted(case, config)
    if not finite:  # the values drawn below are all finite
        yield infinite(config, 0)
    for distribution, seed in FACTOR_DRAWS if config.nonlinearity == "tanh" else (*FACTOR_DRAWS, *MORE):
        yield draw(config, distribution, seed)
    if config.loss is not None and config.nonlinearity == "relu":
        yield stilled(config, 0)
    if config.loss is not None:
        for generic in (draw(config, *which) for which in LARGE_GRADIENT_SETS):
            cotangents = {name: array * array.dtype.type(GRADIENT_FACTOR) for name, array in generic.cotangents.items()}
            yield Case.from_arrays(config, {**generic.arrays, **cotangents})


def like(result: Result) -> str:
    """Return the kind of a result, which for wrong numbers is ``values`` or ``gradients``.

    Which array shows wrong numbers first does not matter then. Broken memory may end a process at several lines, and
    by several signals; an end that leaves no line is like no other.
    """
    if result.failure is not None and result.raised is not None and result.raised_at is None:
        return f"{result.kind}: {', '.join(result.raised.classes)}"
    if not result.mismatches or result.mismatches[0].relation or result.mismatches[0].sort not in OF_VALUE:
        return result.kind
    return "gradients" if result.mismatches[0].array.endswith(".grad") else "values"
