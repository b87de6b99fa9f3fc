"""Capability discovery: it leaves out of a scope what the subject does not support, so that no search is spent on it.

Values that raise an error, or return arrays of a wrong shape, even at the plainest sizes are not supported either. They
are reported once, and left out, too.
"""

import math
import time
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Any, Final, NamedTuple

from harness.checks.agreement import check_agreement, unfit
from harness.checks.result import Result, Verdict
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.constraints import FactorRule
from harness.space.factor_table import SIZE_FACTORS, having
from harness.space.outcome import Failure, Outcome
from harness.space.scope import Scope, configure, factors_of
from harness.space.size_product_edges import product_edges
from harness.space.values import draw
from harness.subjects.line_runs import lines_of
from harness.subjects.protocol import Subject, SubjectUnavailable

# Sizes are asked for by themselves, and dropout means nothing in one layer.
PROBE_FACTORS: Final = tuple(name for name in having("discovered") if name not in SIZE_FACTORS)

# The factors that neither the shapes nor the names of any array show, nor an argument of its own: a function that does
# not get the config supports one value of each.
UNSEEN: Final = having("unseen")
LAYOUT: Final = "batch_first"

FEATURE_FACTORS: Final = having("feature")
"""Factors for which a subject may support some values only, and for the others return or raise something arbitrary,
such as a port of one layer that refuses nothing.
"""

UNEQUAL_SIZES: Final = {"T": 3, "N": 2, "input_size": 4, "hidden_size": 5}  # sizes at which mixed-up axes show
FEW_LAYERS: Final = 3
"""The most layers of a slow subject, because each layer is one more call, and may be one more to compile. The second of
three has a layer on either side.
"""

# The sizes that are asked for of a factor, beside the plainest: what takes one of these takes most, and the run itself
# asks for others.
OTHER_SIZES: Final = 2
MOST_FIXED: Final = {1: 17, 2: 8}  # up to what one size that is fixed is looked for, and two: some 450 calls in all

# The sizes, besides 1, of a subject that is slow at new shapes: all different; a search begins with them.
SLOW_SIZES: Final = {"input_size": 2, "hidden_size": 3, "T": 4, "N": 5}

# The states, of one axis, by which it shows whether a subject computes each by lines of its own.
MANY_STATES: Final = 64

# Factors with a value that may open what is refused beside another value, such as gradients in float64.
OPENING_FACTORS: Final = ("dtype", *(name for name in having("opens_others") if name != "dtype"))


class DiscoveredScope(NamedTuple):
    """The rest of a scope, and what the subject said about each value that was left out."""

    scope: Scope
    refused: dict[str, str]  # The refusals by value: ``{"num_layers=2": "only one layer"}``
    # True if any config near the plainest was accepted; if none was, the scope is whole and ``refused`` says why.
    accepted: bool = True
    # The values that it neither supports nor refuses: ``num_layers=2``, a case, and how that fails.
    unsupported_unrefused: tuple[tuple[str, Case, Result], ...] = ()


def narrow(
    subject: Subject, scope: Scope, *, refused_only: bool = False, slow: bool = False, until: float = math.inf
) -> DiscoveredScope:
    """Ask the subject for each value of each factor, with the other factors at the plainest values that it accepts.

    A value refused there is taken to be refused everywhere, unless another factor opens it: then it is asked for beside
    that factor's value only. A function that cannot see a factor of ``UNSEEN`` is asked for the value that it supports,
    and one that never reads the layout in its config for that of the plainest config that it supports.
    With ``refused_only``, values that it neither supports nor refuses stay in the scope. A subject that is ``slow`` at
    new shapes is asked for fewer layers and few sizes, and for no large products of sizes, as is one that computes each
    state by lines of its own. That is counted and not timed: the same search has the same cases on a busy machine, too.
    After ``until`` (``time.perf_counter``) nothing more is asked, and the remaining values count as supported.
    """
    full, (unseen, scope) = scope, _without_unseen(subject, scope)
    factors = _asked_for(scope)
    base, supported = _accepted(subject, scope, factors)
    if base is None:
        refusal = _refusal(subject, plainest(scope), {})
        return DiscoveredScope(full, {repr(plainest(scope)): refusal or ""}, accepted=False)
    if slow and (layers := tuple(number for number in scope.num_layers if number <= FEW_LAYERS)):
        scope = scope.only(num_layers=layers)
        factors = _asked_for(scope)
    sizes = {name: size for name, size in SLOW_SIZES.items() if scope.is_free(name)}
    if slow and sizes:  # if they are all pinned, they have been chosen with a view to that
        scope = scope.only(**{name: (size, 1) for name, size in sizes.items()}, preparation=scope.preparation[0])
        base, supported = configure({**factors_of(base), **sizes}), False
        quick = ("num_layers", "bidirectional", "lengths", "batched", "loss")  # these are usually refused, at once
        factors = {name: factors[name] for name in (*quick, *factors) if name in factors and name != "preparation"}
    refused: dict[str, str] = dict(unseen)
    if supported:
        never, scope = _without_unread(subject, scope, base, factors, until)
        fixed, scope = ({}, scope) if slow else _without_refused_sizes(subject, scope, base, until)
        refused |= never | fixed
        factors = _asked_for(scope)
    unrefused: list[tuple[str, Case, Result]] = []
    rules: list[FactorRule] = []
    for name, values in factors.items():
        offered: dict[Any, bool] = {}
        opened: dict[str, FactorRule | None] = {}
        for value in values:
            if time.perf_counter() > until or value == factors_of(base)[name]:  # which it has accepted
                offered[value] = True
                continue
            reason = _refusal(subject, base, {name: value})
            if reason is None:
                tested = supported and name in FEATURE_FACTORS and not refused_only
                bad = _not_done(subject, base, {name: value}) if tested else None
                offered[value] = bad is None
                unrefused += [(f"{name}={value}", *bad)] if bad is not None else []
                continue
            if reason not in opened:
                opened[reason] = _opening(subject, base, name, value, full)
            rule = opened[reason]
            offered[value] = rule is not None
            if rule is None:
                refused[f"{name}={value}"] = reason
            else:
                rules.append(rule._replace(value=value))
                refused[f"{name}={value} except with {rule.words}"] = reason
        scope = scope.only(**{name: tuple(value for value in getattr(scope, name) if offered[value])})
    scope = scope.ruled(rules)
    if product_edges(scope) and time.perf_counter() < until and _is_by_state(subject, base):
        scope = scope.only(products=False)
    return DiscoveredScope(scope, refused, unsupported_unrefused=tuple(unrefused))


def require_weights(subject: Subject, config: RNNConfig) -> None:
    """Raise ``SubjectUnavailable`` for what takes no weights, or returns x and the same where all of them are zero.

    A layer with a mistake may return what does not depend on its weights, such as zeros for some units, but not x.
    """
    own = subject.capabilities
    if own.is_torch:
        return
    case = draw(_with_unequal_sizes(config), "normal")
    zeros = {name: array * 0 if name in config.weights else array for name, array in case.arrays.items()}
    first, second = (subject.run(drawn).arrays for drawn in (case, Case.from_arrays(case.config, zeros)))
    same = {name for name, array in first.items() if name in second and array.tobytes() == second[name].tobytes()}
    gives_x = any(array.tobytes() == case.x.tobytes() for array in first.values())
    if (own.takes is not None and "weights" not in own.takes) or (gives_x and {*first} == same):
        raise SubjectUnavailable(
            f"{subject.name}: what it returns does not depend on its weights\n"
            "expected a recurrent layer: an output and h_n made of x, the initial state and the weights"
        )


def _asked_for(scope: Scope) -> dict[str, tuple[Any, ...]]:
    """Return the factors whose values a subject is asked for, with these values."""
    return {name: values for name, values in scope.values().items() if name in PROBE_FACTORS and len(values) > 1}


def plainest(scope: Scope) -> RNNConfig:
    """Return the config with every factor at the scope's plainest value."""
    factors = {name: values[0] for name, values in scope.values().items()}
    factors["dropout"], factors["training"] = scope.modes[0]
    return configure(factors)


def _without_unseen(subject: Subject, scope: Scope) -> tuple[dict[str, str], Scope]:
    """Return the values of unseen factors that a function does not support, and the scope without them."""
    factors = {name: values for name in UNSEEN if len(values := scope.values()[name]) > 1}
    takes = subject.capabilities.takes
    if takes is None or "config" in takes or not factors:
        return {}, scope
    sizes = {name: size for name, size in UNEQUAL_SIZES.items() if size in getattr(scope, name)}
    base = {**factors_of(plainest(scope)), **sizes}
    choices = [dict(zip(factors, values, strict=True)) for values in product(*factors.values())]
    best = max(choices, key=lambda chosen: _fits(subject, configure(base | chosen)))  # a tie goes to the plainest
    others = [f"{name}={value}" for name, values in factors.items() for value in values if value != best[name]]
    return dict.fromkeys(others, "it does not take config"), scope.only(**best)


def _without_unread(
    subject: Subject, scope: Scope, base: RNNConfig, factors: Mapping[str, tuple[Any, ...]], until: float
) -> tuple[dict[str, str], Scope]:
    """Return the layouts that a function with a config never reads there, and the scope without them.

    The layout is how a function is called; to forget the nonlinearity is a mistake. It reads the layout if it does so
    in any call with one factor other than in ``base``, or with all other values that it accepts, of two sizes each. A
    fresh process is asked, because a function may keep what it reads.
    """
    reads, process = subject.capabilities.reads, subject.capabilities.process
    if reads is None or LAYOUT not in factors or LAYOUT in reads(draw(base, "normal")):
        return {}, scope
    if process is not None:
        process.restart()
    for config in _with_other_values(subject, scope, base, factors):
        for sized in (config, _with_unequal_sizes(config)):
            if time.perf_counter() > until or LAYOUT in reads(draw(sized, "normal")):
                return {}, scope
    plain = base.batch_first
    others = [f"{LAYOUT}={value}" for value in factors[LAYOUT] if value != plain]
    return dict.fromkeys(others, f"config.{LAYOUT} is never read"), scope.only(batch_first=plain)


def _without_refused_sizes(
    subject: Subject, scope: Scope, base: RNNConfig, until: float
) -> tuple[dict[str, str], Scope]:
    """Return the sizes that a subject refuses of a factor of which it takes few, and the scope without them.

    What is refused alone and taken beside other sizes that are as large is a rule between sizes, and stays.
    """
    refused: dict[str, str] = {}
    for name in SIZE_FACTORS if base.lengths is None else ():
        own, others = getattr(base, name), [size for size in SIZE_FACTORS if size != name]
        several = [size for size in getattr(scope, name) if size != own] if name != "N" or base.batched else []
        beside = [some for count in range(len(others) + 1) for some in combinations(others, count)]
        few = [(size, some) for size in several[:OTHER_SIZES] for some in beside]
        if any(_refusal(subject, base, dict.fromkeys((name, *some), size)) is None for size, some in few):
            continue
        reasons = {size: _refusal(subject, base, {name: size}) for size in several if time.perf_counter() < until}
        refused |= {f"{name}={size}": reason for size, reason in reasons.items() if reason is not None}
        scope = scope.only(**{name: tuple(s for s in getattr(scope, name) if f"{name}={s}" not in refused)})
    return refused, scope


def _with_other_values(
    subject: Subject, scope: Scope, base: RNNConfig, factors: Mapping[str, tuple[Any, ...]]
) -> Iterator[RNNConfig]:
    """Yield ``base``, with the last value of each factor in its place, and with all of these that are accepted."""
    yield base
    every = base
    changes = [{name: values[-1]} for name, values in factors.items()]
    for change in (*changes, dict(zip(("dropout", "training"), scope.modes[-1], strict=True))):
        yield configure({**factors_of(base), **change})
        if _refusal(subject, every, change) is None:
            every = configure({**factors_of(every), **change})
    yield every


def _fits(subject: Subject, config: RNNConfig) -> int:
    """Return on how many of a few cases a subject is right; -1 if its arrays have wrong shapes.

    The cases have some terms of a step set to zero, because a mistake in a term does not show if the term is zero.
    """
    case = draw(config, "normal")
    if unfit(case, subject.run(case)) is not None:
        return -1
    return sum(check_agreement(subject, variant).verdict is Verdict.AGREES for variant in _with_zeros(case))


def _with_zeros(case: Case) -> Iterator[Case]:
    groups = (("weight_hh",), ("bias",))
    for count in range(len(groups) + 1):
        for chosen in combinations(groups, count):
            zeroed = tuple(prefix for group in chosen for prefix in group)
            arrays = {name: array * 0 if name.startswith(zeroed) else array for name, array in case.arrays.items()}
            yield Case.from_arrays(case.config, arrays)


def _accepted(subject: Subject, scope: Scope, factors: Mapping[str, tuple[Any, ...]]) -> tuple[RNNConfig | None, bool]:
    """Return the first config near the plainest that the subject supports, or else the first that it accepts.

    Also returned is whether it supports the config.
    """
    first: RNNConfig | None = None
    for number, config in enumerate(_near(scope, factors)):
        outcome = subject.run(case := draw(config))
        if outcome.failure is Failure.UNSUPPORTED:
            continue
        if _fits_other_sizes(subject, config) and unfit(case, outcome) is None:
            return config, True
        first = first or config
        if number > len(factors):  # unsupported everywhere one step away means a wrong layer, not another kind of layer
            break
    return first, False


def _fits_other_sizes(subject: Subject, config: RNNConfig) -> bool:
    """Tell if the shapes are right, or sizes refused, when all sizes differ."""
    outcome = subject.run(case := draw(_with_unequal_sizes(config)))
    return outcome.failure is Failure.UNSUPPORTED or unfit(case, outcome) is None


def _is_by_state(subject: Subject, base: RNNConfig) -> bool:
    """Tell if a subject runs a line of its own, or more, for each sequence or each unit of a step."""

    def lines(**sizes: int) -> int:
        case = draw(configure({**factors_of(base), **dict.fromkeys(SIZE_FACTORS, 1), **sizes}))
        return min(lines_of(subject, case) for _ in range(2))  # the first call may make a module, which is kept

    few = lines()
    return few > 0 and any(lines(**{name: MANY_STATES}) - few >= MANY_STATES - 1 for name in ("N", "hidden_size"))


def _with_unequal_sizes(config: RNNConfig) -> RNNConfig:
    """Return the config with sizes at which mixed-up axes show; a packed batch stays as it is."""
    places = {name: size for name, size in UNEQUAL_SIZES.items() if name != "N" or config.batched}
    return config.replace(**places) if config.lengths is None else config


def _near(scope: Scope, factors: Mapping[str, tuple[Any, ...]]) -> Iterator[RNNConfig]:
    """Yield the configs that differ from the plainest in at most three factors.

    The same follows with other sizes, all sizes equal, because a kernel may support only multiples of 8, for example.
    """
    for size in (None, 2, 8, 16, 32):
        sizes = {} if size is None else {name: size for name in SIZE_FACTORS if size in getattr(scope, name)}
        base = configure(factors_of(plainest(scope)) | sizes)
        for count in range(min(3, len(factors)) + 1):
            for names in combinations(factors, count):
                for values in product(*(factors[name][1:] for name in names)):
                    yield configure(factors_of(base) | dict(zip(names, values, strict=True)))
    base = plainest(scope)  # one or two sizes may be fixed
    for count, most in MOST_FIXED.items():
        for names in combinations(SIZE_FACTORS, count):
            for values in product(*([size for size in getattr(scope, name) if size <= most] for name in names)):
                yield configure(factors_of(base) | dict(zip(names, values, strict=True)))


def _opening(subject: Subject, base: RNNConfig, name: str, value: Any, scope: Scope) -> FactorRule | None:
    """Return the rule by which another factor's values open a value that is refused at the plainest, or ``None``."""
    for opener in OPENING_FACTORS:
        if opener != name:
            values = [choice for choice in scope.values()[opener] if choice != factors_of(base)[opener]]
            opening = tuple(choice for choice in values if _opens(subject, base, {name: value, opener: choice}))
            if opening:
                return FactorRule(name, value, opener, opening)
    return None


def _opens(subject: Subject, base: RNNConfig, changes: Mapping[str, Any]) -> bool:
    """Return whether a subject accepts two values together, if neither of them gives way to the other."""
    made = factors_of(configure({**factors_of(base), **changes}))
    return changes.items() <= made.items() and _refusal(subject, base, changes) is None


def _refusal(subject: Subject, base: RNNConfig, changes: Mapping[str, Any]) -> str | None:
    config = configure({**factors_of(base), **changes})
    outcome = subject.run(draw(config))
    return outcome.message if outcome.failure is Failure.UNSUPPORTED else None


def _turns(outcome: Outcome, config: RNNConfig) -> bool:
    """Return whether the output has the right shape, or has it with its first two axes exchanged."""
    output = outcome.arrays.get("output")
    if output is None or output.ndim < 2:
        return False
    first, second, *rest = output.shape
    return config.outputs["output"].shape in {(first, second, *rest), (second, first, *rest)}


def _misdeclared(subject: Subject, case: Case) -> bool:
    """Tell if a subject would return arrays of the right form if it had not declared one of its conventions."""
    run_as, declared = subject.capabilities.run_as, subject.capabilities.conventions
    if run_as is None:
        return False
    others = (declared.switched(name) for name in declared.forms if name != "batch_first")
    return any(unfit(case, run_as(case, conventions)) is None for conventions in others)


def _not_done(subject: Subject, base: RNNConfig, changes: Mapping[str, Any]) -> tuple[Case, Result] | None:
    """Return how a subject fails with these changes, by an error or wrong shapes, at all sizes; else ``None``."""
    plain = configure({**factors_of(base), **changes})
    if plain == base:
        return None
    first: tuple[Case, Result] | None = None
    for config in (_with_unequal_sizes(plain), plain):
        case = draw(config, "normal")
        outcome = subject.run(case)
        if outcome.failure is Failure.UNSUPPORTED:
            continue
        bad = unfit(case, outcome)
        turned = plain.batch_first != base.batch_first
        if config is plain and bad is None and turned:  # a single sequence of one step hides it
            break
        if turned and bad is not None and bad.mismatches and _turns(outcome, config):
            return None  # it reads the layout right, but returns some array in a wrong one
        if plain.loss is not None and bad is not None and bad.mismatches:
            return None  # one missing or misshapen gradient says nothing about the others
        # A subject that writes into its inputs, or dies, supports the call; the search finds out what is wrong.
        if bad is None or bad.failure is not None or outcome.changed_inputs or outcome.aliased:
            return None
        if _misdeclared(subject, case):
            return None  # likewise
        first = first or (case, bad)
    return first
