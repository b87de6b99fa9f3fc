"""Shrinking of a failing case, one factor or number at a time, until none of them can be made plainer alone."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations, islice, product
from math import prod
from typing import Any, Final, TypeVar

import numpy as np

from harness.checks.result import Result, Verdict
from harness.oracle.compare import MismatchKind
from harness.search.evidence import Certificate
from harness.search.simplify import Check, Simpler, ValueSimplifier, failure_of
from harness.space.case import Case
from harness.space.config import LARGE_STATES, RNNConfig, never_rise
from harness.space.factor_table import FACTORS, SIZE_FACTORS, SIZES, ConfigError, having
from harness.space.refit import fitted, without_one
from harness.space.scope import Scope, configure, factors_of
from harness.space.values import DISTRIBUTIONS, draw

SEEDS_A_CONFIG: Final = 4  # the number of seeds tried in every distribution before a plainer config counts as passing
FEW_VALUES: Final = 4
"""The number of plainer values of a factor up to which all are tried like this; of more, all but the nearest get fewer
tries. With all of them, a size of 17 would take 400 tries.
"""

FEWER_DISTRIBUTIONS: Final = ("dyadic", "normal")  # the distributions for those fewer tries
NEAREST: Final = 4
"""The number of a size's plainest values that the first pass tries; of the others, it tries powers of two and the
nearest. All of them would be 195 for a size of 196, and a failing size is met within a factor of two.
"""

LARGEST_SIZE: Final = max(SIZES)
"""The size up to which every smaller one is tried. Beyond it only a search for a threshold meets larger ones; the
others that are tried are the nearest and powers of two.
"""

# The factors that are shrunk as numbers, in the order of how expensive they make a case.
NUMERIC_FACTORS: Final = tuple(sorted(having("dear"), key=lambda name: FACTORS[name].dear))

# The sizes that are made small all at once.
LEAP_FACTORS: Final = tuple(name for name in NUMERIC_FACTORS if name not in {"output_size", "proj_size"})
LEAP: Final = 2
"""The largest size that counts as small there: with ``LEAPS``, at most 64 tiny cases, a fifth of what may be tried."""

# The number of sets of generic values for each combination, because one set may hide a mistake and two hardly do.
LEAPS: Final = 2

# The distribution with infinities and NaN. A failure that needs them shows in no other distribution, and is tried in no
# other.
WILD: Final = "special"

WILD_SEEDS: Final = 8
"""The number of seeds then tried in that distribution: in a small case few numbers are special, and their places may
matter.
"""

_EACH_LENGTH: Final = "each length"  # the name for the single lengths, as opposed to ``lengths``, which is their kind
# The name for the earlier call at another shape of a ``used`` module, which may be the call that fails.
_CALL_BEFORE: Final = "the call before"

_FIRST: Final = "the first preparation alone"  # the step from two preparations to the first of them
_TIED: Final = "sizes that are equal"  # the name for sizes that are equal, and so may have to stay equal


_T = TypeVar("_T")


class CaseShrinker:
    """The shrinking of a failing case: iterating gives ever plainer failing cases of the same kind.

    The last case is minimal. For each factor, no plainer value of the scope fails, with the other factors unchanged, in
    any of the values tried: drawn ones, and the case's own with any one time step, sequence, unit or layer left out. No
    number of it can be made plainer alone. ``certificate`` says what was tried. Sizes are tried from 1 up, within the
    scope if it pins them; other factors in the scope's order. Before every value is tried completely, a first pass
    takes what is quickly found to be plainer, one factor at a time.

    The kind changes once at most: a wrong infinity or NaN gives way to a wrong finite number of the same array. A
    suspicion, which rests on many sets of values, keeps its numbers, unless a plainer case proves it. No case is
    checked twice. ``check`` ends it by ``ShrinkBudgetSpent``.
    """

    def __init__(self, case: Case, result: Result, scope: Scope, check: Check) -> None:
        self._case, self._scope, self._kind = case, scope, result.kind
        self._numbers = result.failed
        unlike = bool(result.mismatches) and result.mismatches[0].sort is MismatchKind.FINITENESS
        self._wild = unlike and case.origin is not None and case.origin.distribution == WILD
        """True if the failure needs infinities or NaN; tame numbers were tried before."""
        self._finite = (
            f"{result.mismatches[0].array}: {MismatchKind.VALUE.value}" if unlike and not self._wild else None
        )
        """The kind of a failure of the same array among finite numbers, which tells more than an overflow."""
        self._checked = check
        self._results: dict[bytes, Result] = {}  # those of all cases so far: a quarter to a half is asked for again
        self._refused: dict[str, None] = {}
        self._otherwise: set[str] = set()  # the failures of another kind among the neighbours, and the known ones
        self._leapt: list[dict[str, Any]] = []  # the flags with which small sizes were tried
        self._done: RNNConfig | None = None  # the config whose plainer configs were all tried with drawn values
        self._cases = 0
        self._in_passing: Simpler | None = None  # the smallest failing case so far in an unfinished round
        self.certificate = Certificate().but_for("shrinking not finished")

    def __iter__(self) -> Iterator[Simpler]:
        """Yield ever plainer failing cases."""
        try:
            yield from self._down()
        except ShrinkBudgetSpent as spent:
            if self._in_passing is not None:
                yield self._take(self._in_passing)
            self.certificate = Certificate().but_for(f"shrinking not finished: {spent}")

    def _down(self) -> Iterator[Simpler]:
        plainest, otherwise = 0, set[str]()
        for large in (self._in_sequences, self._at_threshold):
            while (simpler := large()) is not None:
                yield self._take(simpler)
        while True:
            for search in (self._at_first_sight, self._in_one_leap, self._at_first_sight, self._plainer):
                while (simpler := search()) is not None:
                    yield self._take(simpler)
            if self._numbers:
                numbers = ValueSimplifier(self._case, self._kind, self._check)
                for simpler in numbers:
                    yield self._take(simpler)
                plainest, otherwise = numbers.tried, numbers.otherwise
            if (smaller := self._cut()) is None:
                break
            yield self._take(smaller)
        configs = sum(1 for name in _factors(self._scope) for _ in _with_plainer(name, self._case.config, self._scope))
        failures = tuple(sorted(self._otherwise | otherwise))
        self.certificate = Certificate(configs, self._cases, plainest, failures, tuple(self._refused))
        for name in LEAP_FACTORS:
            if (size := getattr(self._case.config, name)) > LARGEST_SIZE and self._scope.is_free(name):
                self.certificate = self.certificate.but_for(f"{name}={size}: only some of the smaller sizes were tried")

    def _take(self, simpler: Simpler) -> Simpler:
        self._case = simpler[0]
        self._numbers |= simpler[1].failed
        if self._finite is not None and simpler[1].shows(self._finite):
            self._kind, self._finite = self._finite, None
        return simpler

    def _shows(self, result: Result) -> bool:
        return result.shows(self._kind) or (self._finite is not None and result.shows(self._finite))

    def _check(self, case: Case) -> Result:
        if (key := case.digest) not in self._results:
            self._results[key] = self._checked(case)
        return self._results[key]

    def _in_sequences(self) -> Simpler | None:
        """Return the case with one size of 1 and as many times more sequences: what they have in common is a product.

        Sequences cost least, and in one order of sizes two failures with one product have one case.
        """
        config = self._case.config
        for name in LEAP_FACTORS if config.states > LARGE_STATES and self._scope.is_free("N") else ():
            size = getattr(config, name)
            if name == "N" or size == 1 or 1 not in _plainer_values(name, size, self._scope):
                continue
            traded = _changed(config, name, 1).replace(N=config.N * size)
            failing = ((c, r) for c in _few(self._case, traded, "normal") if self._shows(r := self._check(c)))
            if (shown := next(failing, None)) is not None:
                return shown
        return None

    def _at_threshold(self) -> Simpler | None:
        """Return the case with its first very large size halved, or nearer to where it passes; ``None`` if it is there.

        One search by halves finds the size from which it fails, where there is one.
        """
        for name in LEAP_FACTORS:
            here = getattr(self._case.config, name)
            if here <= LARGEST_SIZE or not self._scope.is_free(name):
                continue
            passes, smallest = 0, None
            fails = here
            while fails - passes > 1:
                size = (fails + passes) // 2
                config = _changed(self._case.config, name, size)
                failing = ((c, r) for c in _few(self._case, config, "normal") if self._shows(r := self._check(c)))
                if (shown := next(failing, None)) is not None:
                    fails, smallest = size, shown
                else:
                    passes = size
            if smallest is not None:
                return smallest
        return None

    def _in_one_leap(self) -> Simpler | None:
        """Return a failing case with the same flags and only small sizes, in case the sizes depend on each other."""
        here = factors_of(self._case.config)
        flags = {name: value for name, value in here.items() if name not in LEAP_FACTORS}
        alone = sum(here[name] > 1 for name in LEAP_FACTORS) < 2  # one size depends on no other
        if alone or flags in self._leapt or all(here[name] <= LEAP for name in LEAP_FACTORS):
            return None
        self._leapt.append(flags)
        packings: list[dict[str, Any]] = [{}]
        if here["lengths"] is not None and "any" in self._scope.lengths:
            packings.append({"lengths": "any", "enforce_sorted": False})  # a small case may need several lengths
        sizes = [list(self._small(name)) or [here[name]] for name in LEAP_FACTORS]
        smaller = (
            combined for combined in product(*sizes) if prod(combined) < prod(here[name] for name in LEAP_FACTORS)
        )
        for combined in sorted(smaller, key=lambda combined: (prod(combined), combined)):
            for seed, packing in product(range(LEAPS), packings):
                config = configure(here | dict(zip(LEAP_FACTORS, combined, strict=True)) | packing, seed)
                if config.num_layers == 1 and 0 in self._scope.dropout:
                    config = config.replace(dropout=0.0)
                if config.proj_size not in self._scope.proj_size:
                    continue
                candidate = draw(config, WILD if self._wild else "normal", seed)
                if self._shows(result := self._check(candidate)):
                    return candidate, result
        return None

    def _small(self, name: str) -> Iterable[int]:
        if self._scope.is_free(name):
            return range(1, LEAP + 1)
        return sorted(size for size in set(getattr(self._scope, name)) if 0 < size <= LEAP)

    def _at_first_sight(self) -> Simpler | None:
        """Return what still fails after one round through the factors, each made as plain as a few tries allow."""
        if self._done == self._case.config:
            return None
        case, simpler = self._case, None
        for name in _factors(self._scope):
            for config in _spread(list(_with_plainer(name, case.config, self._scope))):
                tries = _few(case, config, WILD if self._wild else "normal")
                shown = next(((c, r) for c in tries if self._shows(r := self._check(c))), None)
                if shown is not None:
                    case, simpler = shown[0], shown
                    self._in_passing = shown
                    break
        self._in_passing = None
        return simpler

    def _plainer(self) -> Simpler | None:
        """Return the first failing case of a plainer config, or of this config with a plainer distribution."""
        case = self._case
        if self._done == case.config:
            return None
        self._refused.clear()
        self._otherwise.clear()
        self._cases = 0
        for name in _factors(self._scope):
            configs = list(_with_plainer(name, case.config, self._scope))
            for config in configs:
                few = len(configs) <= FEW_VALUES or config is configs[-1]
                for candidate in self._drawn(config, few=few):
                    if (simpler := self._neighbour(candidate)) is not None:
                        return simpler
        for candidate in self._drawn(case.config, few=True) if case.origin is not None else ():
            if candidate.origin == case.origin:
                break
            if self._shows(result := self._check(candidate)):
                return candidate, result
        self._done = case.config
        return None

    def _drawn(self, config: RNNConfig, *, few: bool) -> Iterator[Case]:
        """Return the drawn cases to try for a config; ``few`` says that there are few other configs to try."""
        if self._wild:
            return chain(cases_of(config, WILD_SEEDS if few else 1, (WILD,)), _filled(config) if few else ())
        distributions = self._scope.distributions
        return cases_of(config, SEEDS_A_CONFIG, distributions) if few else cases_of(config, 1, FEWER_DISTRIBUTIONS)

    def _cut(self) -> Simpler | None:
        """Return a failing case with the case's own values in a plainer config, or ``None``.

        Any one time step, sequence, unit or layer may be left out.
        """
        case = self._case
        for name in _factors(self._scope):
            if name in NUMERIC_FACTORS:
                few = NEAREST if (getattr(case.config, name) or 0) > LARGEST_SIZE else None
                for candidate in islice(without_one(case, name), few):
                    if self._in_scope(candidate.config, name) and (simpler := self._neighbour(candidate)) is not None:
                        return simpler
            if name not in NUMERIC_FACTORS or None in getattr(self._scope, name):
                for config in _with_plainer(name, case.config, self._scope):
                    if (simpler := self._neighbour(fitted(case, config))) is not None:
                        return simpler
        return None

    def _in_scope(self, config: RNNConfig, name: str) -> bool:
        apart = config.dropout in self._scope.dropout and config.proj_size in self._scope.proj_size
        return self._scope.allows(name, getattr(config, name)) and apart

    def _neighbour(self, candidate: Case) -> Simpler | None:
        self._cases += 1
        result = self._check(candidate)
        if self._shows(result):
            return candidate, result
        self._otherwise.update(failure_of(result))
        if result.verdict is Verdict.UNSUPPORTED:
            here, there = factors_of(self._case.config), factors_of(candidate.config)
            self._refused[", ".join(f"{name}={there[name]}" for name in there if there[name] != here[name])] = None
        return None


def _spread(values: Sequence[_T]) -> Iterator[_T]:
    """Yield the first few of many values in a row, such as smaller sizes, then ever fewer, and the last."""
    for number, value in enumerate(values):
        if number < NEAREST or (number + 1) & number == 0 or number == len(values) - 1:
            yield value


def _few(case: Case, config: RNNConfig, distribution: str) -> Iterator[Case]:
    """Yield the first tries for a plainer config: the seed that drew the case, its own numbers, and a generic set."""
    if case.origin is not None:
        yield draw(config, *case.origin)
    yield fitted(case, config)
    yield draw(config, distribution, 1)


class ShrinkBudgetSpent(Exception):
    """Raised when no further case may be checked; it says why."""


def cases_of(
    config: RNNConfig, seeds: int = SEEDS_A_CONFIG, distributions: Iterable[str] = tuple(DISTRIBUTIONS)
) -> Iterator[Case]:
    """Return the cases to try for a config, plainest first."""
    return (draw(config, distribution, seed) for distribution in distributions for seed in range(seeds))


def _filled(config: RNNConfig) -> Iterator[Case]:
    """Yield cases whose x is NaN, or infinite, in every place: in a small case few drawn numbers are."""
    generic = draw(config, "normal", 0)
    for value in (np.nan, np.inf, -np.inf):
        x = np.where(np.isnan(generic.x), generic.x, generic.x.dtype.type(value))  # the padding stays NaN
        yield Case.from_arrays(config, {**generic.arrays, "x": x.astype(generic.x.dtype)})


def _factors(scope: Scope) -> tuple[str, ...]:
    """Return the factors in the order in which they are made plainer.

    Preparations come first, because they may run the module at other sizes, too; then sizes; then the others.
    """
    ordered = (_FIRST, "after", "preparation", _CALL_BEFORE, *NUMERIC_FACTORS)
    return (*ordered, *(name for name in scope.values() if name not in ordered), _EACH_LENGTH, _TIED)


def _with_plainer(name: str, config: RNNConfig, scope: Scope) -> Iterator[RNNConfig]:
    """Yield the config with every plainer value of a factor, plainest first."""
    if name == _EACH_LENGTH:
        yield from _plainer_lengths(config, scope)
        return
    if name == _TIED:
        yield from _plainer_ties(config, scope)
        return
    if name == _FIRST:
        if config.after is not None and config.after in scope.preparation:
            yield config.replace(preparation=config.after)
        return
    if name == _CALL_BEFORE:
        yield from _call_before(config, scope)
        return
    for value in _plainer_values(name, factors_of(config)[name], scope):
        plainer = _changed(config, name, value)
        if plainer.num_layers == 1 and 0 in scope.dropout:
            plainer = plainer.replace(dropout=0.0)
        apart = plainer.proj_size in scope.proj_size and (scope.masks or not (plainer.dropout and plainer.training))
        if plainer != config and apart:
            yield plainer


def _changed(config: RNNConfig, name: str, value: Any) -> RNNConfig:
    if name == "lengths" or config.lengths is None:
        return configure(factors_of(config) | {name: value})
    try:
        return config.replace(**{name: value})  # this keeps the lengths
    except ConfigError:
        return config


def _plainer_lengths(config: RNNConfig, scope: Scope) -> Iterator[RNNConfig]:
    """Yield the config with one sequence shorter than the longest set to the longest length, or made shorter.

    The kind of lengths stays, or becomes a plainer one; if two steps could undo each other, shrinking would not end.
    """
    before = config.lengths or ()
    sorts = {config.packing, *_plainer_values("lengths", config.packing, scope)}
    for n, length in enumerate(before):
        for replacement in (config.T, *range(1, length)) if length < config.T else ():
            lengths = (*before[:n], replacement, *before[n + 1 :])
            plainer = config.replace(lengths=lengths, enforce_sorted=config.enforce_sorted and never_rise(lengths))
            if plainer.packing in sorts:
                yield plainer


def _plainer_ties(config: RNNConfig, scope: Scope) -> Iterator[RNNConfig]:
    """Yield the config with two equal sizes both smaller, or the input size and the equal size of a layer's output."""
    for first, second in combinations(SIZE_FACTORS, 2):
        if getattr(config, first) == getattr(config, second):
            for size in _plainer_values(first, getattr(config, first), scope):
                if size in set(_plainer_values(second, getattr(config, second), scope)):
                    yield from _with_h(config, scope, **{first: size, second: size})
    if config.bidirectional and config.input_size == 2 * config.hidden_size:
        for size in _plainer_values("hidden_size", config.hidden_size, scope):
            if 2 * size in set(_plainer_values("input_size", config.input_size, scope)):
                yield from _with_h(config, scope, hidden_size=size, input_size=2 * size)


def _with_h(config: RNNConfig, scope: Scope, **sizes: int) -> Iterator[RNNConfig]:
    """Yield the config with other sizes, if the scope has the projection that these leave."""
    plainer = config.replace(**sizes)
    if plainer.proj_size in scope.proj_size:
        yield plainer


def _call_before(config: RNNConfig, scope: Scope) -> Iterator[RNNConfig]:
    """Yield the earlier calls of a used module, each alone, if the scope has it."""
    for before in config.calls_before if config.preparation == "used" else ():
        if all(scope.allows(name, getattr(before, name)) for name in ("T", "N", "preparation")):
            yield before


def _plainer_values(name: str, value: Any, scope: Scope) -> Iterable[Any]:
    allowed = getattr(scope, name)
    if name == "N" and value == 0:  # an empty batch is stranger than one sequence
        return [1] if 1 in allowed else []
    if scope.is_free(name):
        return range(1, value) if value <= LARGEST_SIZE else _spread(range(1, value))
    if name in NUMERIC_FACTORS:
        smaller = sorted(choice for choice in set(allowed) if None not in {choice, value} and choice < value)
        return [None, *smaller] if None in allowed and value is not None else smaller
    ordered = list(dict.fromkeys(allowed))
    return ordered[: ordered.index(value)] if value in ordered else []
