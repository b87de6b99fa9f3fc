"""failure_conditions: the factors of its config that a failure needs, its sizes, and the nearest config that passes.

Each factor of the smallest failing config is changed alone. A failure that shows with every other value does not depend
on the factor. A failure that shows with no other value needs the one it has, or another change in its place: hx is
needed where there is one step alone. So what seems to be needed is left out of a larger config, too.

Where a cause is known that can be run without the subject, that tells on which numbers to ask for a changed config.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, combinations, permutations
from typing import Any, Final

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
        fails = (self.smallest, *self.fails)
        if not self.passes:
            return "" if self.smallest == 1 else f"from {self.smallest} on"
        if not self.fails:
            return f"at {self.smallest} only"
        by_width = next((text for width in WIDTHS if (text := self._by_width(width, fails))), None)
        if by_width is None and max(fails) < min(self.passes):
            return f"from {self.smallest} to {max(fails)}"
        if by_width is None and self._but_powers():
            return f"from {self.smallest} on, except at powers of 2"
        if by_width is None and self._but_one():
            return f"from {self.smallest} on, except at {self.passes[0]}"
        return by_width or IRREGULAR

    def shows(self, size: int) -> bool:
        """Tell whether the failure would show at a size that was not tried, by its pattern; without one, no."""
        sizes = (self.smallest, *self.fails, *self.passes)
        for width in WIDTHS:
            rest = self.smallest % width
            if all((tested % width == rest) == (tested not in self.passes) for tested in sizes):
                return size >= self.smallest and size % width == rest
            if len(self.passes) > 1 and all((tested % width != 0) == (tested not in self.passes) for tested in sizes):
                return size >= self.smallest and size % width != 0
        if self._but_powers():
            return size >= self.smallest and size & (size - 1) != 0
        if self._but_one():
            return size >= self.smallest and size not in self.passes
        return bool(self.fails) and max(self.fails) < min(self.passes) and self.smallest <= size <= max(self.fails)

    def _but_one(self) -> bool:
        return len(self.passes) == 1 and max(self.smallest, *self.fails, 0) > self.passes[0]

    def _but_powers(self) -> bool:
        """Tell whether a failure shows at all sizes but powers of 2, as halves of an axis, or pairs, have it."""
        sizes = (self.smallest, *self.fails, *self.passes)
        several = sum(size > self.smallest for size in self.passes) > 1
        return several and all((size & (size - 1) != 0) == (size not in self.passes) for size in sizes)

    def _by_width(self, width: int, fails: tuple[int, ...]) -> str | None:
        sizes, rest = (*fails, *self.passes), self.smallest % width
        bound = "" if self.smallest <= width else f", from {self.smallest} on"
        if width == 2 and all((size % 2 == rest) == (size in fails) for size in sizes):
            return ("odd" if rest else "even") + bound
        if all((size % width == rest) == (size in fails) for size in sizes):
            return (f"at {rest} more than multiples of {width}" if rest else f"at multiples of {width}") + bound
        if len(self.passes) > 1 and all((size % width != 0) == (size in fails) for size in sizes):
            return f"from {self.smallest} on, except at multiples of {width}"
        return None


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
    return _Dependence(finding, scope, check, explains_all, shows, may_show or shows, of_cause, right).factors()


@dataclass(frozen=True)
class _Dependence:
    """One failing case, and how further ones are asked for; as ``depends_on`` has it."""

    finding: Finding
    scope: Scope
    check: Callable[[Case], Result]
    explains_all: Callable[[Case, str], bool]
    shows: Callable[[Case], bool] | None
    may_show: Callable[[Case], bool] | None
    of_cause: Callable[[Case, Result], bool]
    right: Network
    # The configs that fail for what is known, though not for this cause.
    otherwise: set[RNNConfig] = field(default_factory=set)
    answers: dict[RNNConfig, bool | None] = field(default_factory=dict)
    rare: list[bool] = field(default_factory=list)  # whether the cause shows on rare numbers alone, once that is known
    own: list[NumbersNeeded] = field(default_factory=list)  # what it needs of the numbers, of the case's own config

    def factors(self) -> FailureConditions:
        """Return what the failure depends on: first the numbers, so that no factor is taken for what they decide."""
        config, fails = self.finding.case.config, self.fails
        if self.shows is None:
            self.own.extend(filter(None, [self._numbers_at(config)]))
        tried_sizes = {name: _size(name, config, self.scope, fails) for name in SIZE_NAMES}
        sizes = {name: size for name, size in tried_sizes.items() if size is not None}
        units = sizes.get("hidden_size")
        if config.proj_size and units is not None and (units.smallest, units.passes) == (config.proj_size + 1, ()):
            del sizes["hidden_size"]  # no projection of that size has fewer
        here, by_factor = factors_of(config), self._flipped()
        needs: dict[str, Any] = {}
        partly: dict[str, tuple[Any, ...]] = {}
        independent: list[str] = []
        for name, failures in by_factor.items():
            if all(failures.values()):
                independent += [name] * bool(failures)
            elif any(failures.values()):
                partly[name] = (here[name], *(value for value, failed in failures.items() if failed))
            else:
                needs[name] = here[name]
        nearest = self._nearest(sizes, by_factor)
        relations = tuple(_related(config, sizes, self.scope, fails))
        for first, sign, another in relations:
            sizes.pop(first, None)
            size = sizes.pop(another, None) if sign != "!=" else None
            if size is not None and sign != "==" and size.smallest > 1:
                sizes[another] = FailingSizes(
                    size.smallest, size.passes, ()
                )  # it fails at these where the first is as large
        either = tuple(self._alternatives(needs, sizes, relations))
        for (name, _), *_ in either:
            needs.pop(name, None)
            sizes.pop(name, None)
        alone = {name: 1 for name, size in sizes.items() if size.smallest == 1 < getattr(config, name)}
        if len(alone) > 1 and fails(changed(config, alone)) is False:
            either += (tuple((name, FailingSizes(2, (), ())) for name in alone),)
        factors = FailureConditions(needs, partly, tuple(independent), sizes, relations, either, nearest)
        return replace(factors, numbers=self._numbers(factors))

    def _flipped(self) -> dict[str, dict[Any, bool]]:
        """Return whether it fails with each factor, but for sizes, at each other value alone.

        Without a loss there are no gradients that could be wrong.
        """
        config, by_factor = self.finding.case.config, dict[str, dict[Any, bool]]()
        here = factors_of(config)
        for neighbour in flipped(config, self.scope):
            there = factors_of(neighbour)
            differing = [name for name in there if there[name] != here[name]]
            if "proj_size" in differing:  # which may need more units
                differing = [name for name in differing if name != "hidden_size"]
            if len(differing) != 1 or differing[0] in SIZE_NAMES:
                continue
            if neighbour.loss is None and config.loss is not None and like(self.finding.result) == "gradients":
                continue
            if (failed := self.fails(neighbour)) is not None:
                by_factor.setdefault(differing[0], {})[there[differing[0]]] = failed
        return by_factor

    def fails(self, config: RNNConfig) -> bool | None:
        """Tell whether it fails with other factors; ``None`` if it is refused, or fails in another way."""
        if config not in self.answers:
            self.answers[config] = self._fails(config)
        return self.answers[config]

    def _fails(self, config: RNNConfig) -> bool | None:
        passed, unsure, shown = True, False, 0
        for candidate in self._candidates(config):
            result = self.check(candidate)
            if result.verdict is Verdict.UNSUPPORTED:
                return None
            if against(result) and self._alike(candidate, result):
                return True
            if self.shows is not None and not self.shows(candidate):
                unsure |= result.known_as is not None  # roundings may be as large, and another mistake fails there
                continue
            # where it answers, it does not crash, whatever else is wrong
            answers = self.finding.result.raised is not None and against(result) and result.raised is None
            if result.known_as is not None or answers:
                self.otherwise.add(config)
            passed &= answers or self._passes(candidate, result)
            shown += 1
            if self.shows is not None and shown == KNOWN_CASES:
                break
        return False if passed and not unsure and (shown or not self._rare) else None

    @property
    def _rare(self) -> bool:
        """True if the cause shows on no draw of the finding's own config, so that no such draw tells anything."""
        if self.shows is None:
            return False
        if not self.rare:
            config = self.finding.case.config
            draws = (draw(config, distribution, seed) for distribution in ("normal", "default") for seed in (0, 1))
            self.rare.append(not any(map(self.shows, draws)))
        return self.rare[0]

    def _alike(self, case: Case, result: Result) -> bool:
        return like(result) == like(self.finding.result) or self.of_cause(case, result)

    def _passes(self, case: Case, result: Result) -> bool:
        """Tell whether nothing is wrong with a case that is not what is known, and explains all of it."""
        return not against(result) and (result.known_as is None or self.explains_all(case, result.known_as))

    def _candidates(self, config: RNNConfig) -> Iterator[Case]:
        """Yield the cases of a config that the subject is asked for, of a known cause only where it may show."""
        finite = all(mismatch.sort is not MismatchKind.FINITENESS for mismatch in self.finding.result.mismatches)
        tries = _tries(self.finding.case, config, finite=finite)
        if self.may_show is not None:
            rare = config.nonlinearity == "relu" or config.drops
            further = (draw(config, "normal", seed) for seed in (FURTHER if rare else ()))
            return filter(self.may_show, chain(tries, further))
        own = next(iter(self.own), None)
        if own is None or own.always:
            return tries
        return chain(tries, (drawn(config, number) for number in range(own.telling)))

    def _alternatives(
        self, needs: Mapping[str, Any], sizes: Mapping[str, FailingSizes], relations: tuple[tuple[str, str, str], ...]
    ) -> Iterator[tuple[tuple[str, Any], ...]]:
        """Yield each need that a larger config does not have, with what is needed in its place.

        Nothing is needed in its place where no single change does.
        """
        config = self.finding.case.config
        thresholds = {name: size for name, size in sizes.items() if size.smallest > 1 and not size.passes}
        if not needs and not thresholds:
            return
        large = wider(config, self.scope)
        for first, sign, another in relations:
            large = changed(large, {another: getattr(large, first)}) if sign == "==" else large
        for name, value in (("hx", True), ("bias", True)):
            if name not in needs and self.scope.allows(name, value):
                large = changed(large, {name: value})
        if not self.fails(large):
            return
        here, wide = factors_of(config), factors_of(large)
        companions = [name for name in (*SIZE_NAMES, "hx", "bias") if here[name] != wide[name]]
        covered = set[str]()
        for name, need in {**needs, **thresholds}.items():
            without = self._without(name, need)
            if name in covered or without is None or not self.fails(changed(large, without)):
                continue
            others: list[tuple[str, Any]] = []
            for partner in (factor for factor in companions if factor != name):
                values = range(here[partner] + 1, here[partner] + 4) if partner in SIZE_NAMES else (wide[partner],)
                at = next(
                    (v for v in values if self.scope.allows(partner, v) and self._fails_with(without, partner, v)), None
                )
                if at is not None:
                    others.append((partner, FailingSizes(at, (), ()) if partner in SIZE_NAMES else at))
            covered |= {name, *(partner for partner, _ in others)}
            yield ((name, need), *others)

    def _fails_with(self, without: dict[str, Any], name: str, value: Any) -> bool | None:
        return self.fails(changed(self.finding.case.config, {**without, name: value}))

    def _without(self, name: str, need: Any) -> dict[str, Any] | None:
        """Return a change by which a need is not met; ``None`` if the scope has none."""
        if isinstance(need, FailingSizes):
            return {name: need.smallest - 1} if self.scope.allows(name, need.smallest - 1) else None
        others = [value for value in self.scope.values()[name] if value not in {need, "meta"}]
        return {name: others[0]} if others else None

    def _numbers(self, factors: FailureConditions) -> NumbersNeeded | None:
        """Return what the failure needs of the numbers: of a wider config, where all that could hide it is rare."""
        config = self.finding.case.config
        wide, numbers = wider(config, self.scope), None
        if factors.covers(wide):
            numbers = self._numbers_at(wide)
        if numbers is None or not numbers.fails:
            numbers = self.own[0] if self.own else self._numbers_at(config)
        if numbers is not None and self.shows is not None:
            borne_out = all(self._fails_on(case) is not False for case in numbers.failing[:KNOWN_CASES])
            return numbers if borne_out else None
        return numbers

    def _numbers_at(self, config: RNNConfig) -> NumbersNeeded | None:
        """Return what the failure needs of the numbers of a config; ``None`` if they are not varied.

        Numbers that are not finite are no matter of size or sign, and a process that dies takes too long.
        """
        result = self.finding.result
        finite = all(mismatch.sort is not MismatchKind.FINITENESS for mismatch in result.mismatches)
        if result.failure in PROCESS_LOST or not finite or config.cost > HIGHEST_COST:
            return None
        return numbers_needed(config, self.shows or self._fails_on, self.right)

    def _fails_on(self, case: Case) -> bool | None:
        result = self.check(case)
        if against(result):
            return self._alike(case, result) or None
        return False if self._passes(case, result) and result.verdict is not Verdict.UNSUPPORTED else None

    def _nearest(
        self, sizes: Mapping[str, FailingSizes], by_factor: Mapping[str, Mapping[Any, bool]]
    ) -> tuple[str, Any] | None:
        """Return the neighbour that passes and differs least: a size one smaller, or larger; else a factor changed.

        It is none of those that fail ``otherwise``.
        """
        config = self.finding.case.config
        for size, name in sorted(((getattr(config, name), name) for name in sizes), reverse=True):
            allowed = size > 1 and fitting(name, size - 1, self.scope) == size - 1
            smaller = changed(config, {name: size - 1}) if allowed else config
            if smaller != config and self.fails(smaller) is False and smaller not in self.otherwise:
                return name, size - 1
        others = [(name, min(size.passes)) for name, size in sizes.items() if size.passes]
        for name, failures in by_factor.items():
            # Without a loss there are no gradients.
            others += [
                (name, value) for value, failed in failures.items() if not failed and (name, value) != ("loss", None)
            ]
        return next((change for change in others if changed(config, dict([change])) not in self.otherwise), None)


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


def _larger(name: str, smallest: int, scope: Scope) -> list[int]:
    larger = {fitting(name, smallest + step, scope) for step in (LARGER if name != "num_layers" else (1, 2))}
    return sorted(size for size in larger if size > smallest)


def _size(name: str, config: RNNConfig, scope: Scope, fails: Callable[[RNNConfig], bool | None]) -> FailingSizes | None:
    own = getattr(config, name)
    smaller = (size for size in dict.fromkeys((1, 2, 3, own - 1)) if 0 < size < own)
    allowed = (size for size in smaller if fitting(name, size, scope) == size)
    # The case is minimal for the values that were tried on it; others may show the failure at smaller sizes.
    smallest = next((size for size in allowed if fails(changed(config, {name: size}))), own)
    failures: dict[int, bool | None] = {} if smallest == own else {own: True}
    for size in _larger(name, own, scope):
        if (larger := changed(config, {name: size})) != config:
            failures[size] = fails(larger)
    passes = [size for size, failed in failures.items() if failed is False and size > smallest]
    for size in sorted({fitting(name, times * base, scope) for base in passes[:1] for times in (2, 3)}):
        if size not in failures and (larger := changed(config, {name: size})) != config:  # its multiples, or its powers
            failures[size] = fails(larger)
    failures |= _beyond(name, config, scope, fails, failures)
    if not any(failed is not None for failed in failures.values()):
        return None
    return FailingSizes(
        smallest,
        tuple(size for size, failed in sorted(failures.items()) if failed),
        tuple(size for size, failed in sorted(failures.items()) if failed is False),
    )


def _beyond(
    name: str,
    config: RNNConfig,
    scope: Scope,
    fails: Callable[[RNNConfig], bool | None],
    failures: Mapping[int, bool | None],
) -> dict[int, bool | None]:
    """Try far sizes, if no nearer one passes, and then sizes down to the last that fails.

    Without them, a failure at sizes from 21 to 39 would be told as one from 21 on. All far ones are tried, because a
    failure that is also behind the first that passes is no band.
    """
    own = getattr(config, name)
    far: dict[int, bool | None] = {}
    if name == "num_layers":
        return far
    for size in () if False in failures.values() else (fitting(name, own + step, scope) for step in FAR_SIZES):
        candidate = changed(config, {name: size})
        if size > own and size not in failures and candidate != config and candidate.cost <= HIGHEST_COST:
            far[size] = fails(candidate)
    every = {own: True, **failures, **far}
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
    config: RNNConfig, sizes: Mapping[str, FailingSizes], scope: Scope, fails: Callable[[RNNConfig], bool | None]
) -> Iterator[tuple[str, str, str]]:
    """Yield pairs of sizes that fail only where they are equal, only where they are not, or where one is larger."""
    for first, second in combinations(sizes, 2):
        here, there = getattr(config, first), getattr(config, second)
        if here == there and not sizes[first].fails and not sizes[second].fails:
            both = [changed(config, {first: size, second: size}) for size in _larger(first, here, scope)]
            if any(fails(larger) for larger in both if larger != config):
                yield first, "==", second
    for first, size in sizes.items():
        for second in sizes:
            if second != first and size.fails and size.passes == (getattr(config, second),):
                yield first, "!=", second
    for first, second in permutations(sizes, 2):
        sign = {0: ">=", 1: ">"}.get(getattr(config, first) - getattr(config, second))
        alone = sizes[first].fails and not sizes[first].passes and sizes[second].passes and not sizes[second].fails
        if sign is not None and alone and _ordered(config, first, second, scope, fails):
            yield first, sign, second


def _ordered(
    config: RNNConfig, first: str, second: str, scope: Scope, fails: Callable[[RNNConfig], bool | None]
) -> bool:
    """Tell whether it fails with both sizes larger by the same steps, and passes where the other is larger by more."""
    here, there = getattr(config, first), getattr(config, second)
    for step in LARGER:
        if not scope.allows(first, here + step) or not scope.allows(second, there + step + 1):
            return False
        if not fails(changed(config, {first: here + step, second: there + step})):
            return False
        if fails(changed(config, {first: here + step, second: there + step + 1})) is not False:
            return False
    return True


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
