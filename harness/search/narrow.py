"""narrow: leaves out of a scope what the subject says it cannot do, so that a search spends itself on what it can.

What raises an error, or gives arrays of a wrong shape, at the plainest sizes already is not done either: it is told
once, and left out, too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Any, Final, NamedTuple

from harness.checks.agreement import check_agreement, unfit
from harness.checks.result import Result, Verdict
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.outcome import Failure, Outcome
from harness.space.rules import Rule
from harness.space.scope import SIZE_FACTORS, SIZES, Scope, configure, factors_of
from harness.space.values import draw
from harness.subjects.protocol import Subject

NOT_ASKED: Final = frozenset({*SIZE_FACTORS, "dropout", "training"})
"""Factors that are left as they are: a size is for the run itself to refuse, and dropout means nothing in one layer."""

UNSEEN: Final = ("nonlinearity", "batch_first")
"""Factors that no array tells: a function that is not given the config cannot know them, and does one value of each."""

FEATURES: Final = (
    "num_layers",
    "nonlinearity",
    "bias",
    "batch_first",
    "bidirectional",
    "batched",
    "lengths",
    "loss",
    "autocast",
)
"""Factors of which a subject may do some values only, and of the others return or raise whatever comes: a port of one
layer, say, that refuses nothing."""

PLACES: Final = {"T": 3, "N": 2, "input_size": 4, "hidden_size": 5}
"""Sizes at which axes that are mixed up show."""

SLOW: Final = 0.05
"""Seconds beyond what a shape takes again that are many for a new one: some 800 of a search's 1,650 cases have a shape
of their own, which would take longer so than the search takes of torch, 25 s."""

FEW: Final = {"input_size": 2, "hidden_size": 3, "T": 4, "N": 5}
"""Beside 1, the sizes of a subject that is slow over new shapes: all different; a search begins with them."""

PAIRED: Final = ("dtype", "nonlinearity", "bias", "batch_first", "bidirectional", "hx", "loss", "batched")
"""Factors one of whose values may open what is refused beside another: gradients in float64, say."""


class Narrowed(NamedTuple):
    """What is left of a scope, and what the subject said to each value that was left out."""

    scope: Scope
    refused: dict[str, str]
    """``{"num_layers=2": "only one layer"}``."""
    accepted: bool = True
    """Whether any config near the plainest was accepted; if none was, the scope is whole and ``refused`` says why."""
    slow: float = 0.0
    """Seconds that it takes over a shape that is new to it, if it is asked for few of them for that."""
    undone: tuple[tuple[str, Case, Result], ...] = ()
    """What it neither does nor refuses: ``num_layers=2``, a case of it, and how that fails."""


def narrow(subject: Subject, scope: Scope, *, refused_only: bool = False, until: float = math.inf) -> Narrowed:
    """Ask the subject for each value of each factor, the others being at the plainest that it accepts.

    A value refused there is taken to be refused everywhere, but where another factor opens it: then it is asked for
    beside that alone. A function that cannot see a factor is asked for the value that it does, of ``UNSEEN``. With
    ``refused_only``, what it neither does nor refuses stays in the scope. What takes long over each new shape, as what
    is compiled for it, is asked for few shapes. After ``until`` (``time.perf_counter``) nothing is asked any more, and
    what was not is taken to be done.
    """
    whole, (unseen, scope) = scope, _without_unseen(subject, scope)
    factors = {name: values for name, values in scope.values().items() if name not in NOT_ASKED and len(values) > 1}
    base, done, slow = _accepted(subject, scope, factors)
    if base is None:
        refusal = _refusal(subject, plainest(scope), {})
        return Narrowed(whole, {repr(plainest(scope)): refusal or ""}, accepted=False)
    if slow:
        sizes = {name: size for name, size in FEW.items() if set(getattr(scope, name)) >= set(SIZES)}
        scope = scope.only(**{name: (size, 1) for name, size in sizes.items()}, preparation=scope.preparation[0])
        base, done = configure({**factors_of(base), **sizes}), False
        quick = ("num_layers", "bidirectional", "lengths", "batched", "loss")  # which are refused as a rule, at once
        factors = {name: factors[name] for name in (*quick, *factors) if name in factors and name != "preparation"}
    refused: dict[str, str] = dict(unseen)
    undone: list[tuple[str, Case, Result]] = []
    rules: list[Rule] = []
    for name, values in factors.items():
        kept: dict[Any, bool] = {}
        opened: dict[str, Rule | None] = {}
        for value in values:
            if time.perf_counter() > until:
                kept[value] = True
                continue
            said = _refusal(subject, base, {name: value})
            if said is None:
                asked = done and name in FEATURES and not refused_only
                bad = _not_done(subject, base, {name: value}) if asked else None
                kept[value] = bad is None
                undone += [(f"{name}={value}", *bad)] if bad is not None else []
                continue
            if said not in opened:
                opened[said] = _opening(subject, base, name, value, whole)
            rule = opened[said]
            kept[value] = rule is not None
            if rule is None:
                refused[f"{name}={value}"] = said
            else:
                rules.append(rule._replace(value=value))
                refused[f"{name}={value} but with {rule.words}"] = said
        scope = scope.only(**{name: tuple(value for value in getattr(scope, name) if kept[value])})
    return Narrowed(scope.ruled(rules), refused, slow=slow, undone=tuple(undone))


def plainest(scope: Scope) -> RNNConfig:
    """The config with every factor at the scope's plainest value."""
    factors = {name: values[0] for name, values in scope.values().items()}
    factors["dropout"], factors["training"] = scope.modes[0]
    return configure(factors)


def _without_unseen(subject: Subject, scope: Scope) -> tuple[dict[str, str], Scope]:
    """The values of unseen factors that a function does not do, and the scope without them."""
    factors = {name: values for name in UNSEEN if len(values := scope.values()[name]) > 1}
    if "config" in getattr(subject, "takes", ("config",)) or not factors:
        return {}, scope
    sizes = {name: size for name, size in PLACES.items() if size in getattr(scope, name)}
    base = {**factors_of(plainest(scope)), **sizes}
    choices = [dict(zip(factors, values, strict=True)) for values in product(*factors.values())]
    best = max(choices, key=lambda chosen: _fits(subject, configure(base | chosen)))  # of equals, the plainest
    others = [f"{name}={value}" for name, values in factors.items() for value in values if value != best[name]]
    return dict.fromkeys(others, "it does not take config"), scope.only(**best)


def _fits(subject: Subject, config: RNNConfig) -> int:
    """On how many of a few cases a subject is right; fewer than none where its arrays have other shapes.

    A mistake in one of the terms of a step does not show where that term is zero.
    """
    case = draw(config, "normal")
    if unfit(case, subject.run(case)) is not None:
        return -1
    return sum(check_agreement(subject, one).verdict is Verdict.AGREES for one in _with_zeros(case))


def _with_zeros(case: Case) -> Iterator[Case]:
    groups = (("weight_hh",), ("bias",))
    for count in range(len(groups) + 1):
        for chosen in combinations(groups, count):
            zeroed = tuple(prefix for group in chosen for prefix in group)
            arrays = {name: array * 0 if name.startswith(zeroed) else array for name, array in case.arrays.items()}
            yield Case.from_arrays(case.config, arrays)


def _accepted(
    subject: Subject, scope: Scope, factors: Mapping[str, tuple[Any, ...]]
) -> tuple[RNNConfig | None, bool, float]:
    """The first config that the subject does, or else accepts, of those near the plainest.

    And whether it does it, and how much longer a new shape takes than a known one, where that is long.
    """
    first: RNNConfig | None = None
    for number, config in enumerate(_near(scope, factors)):
        outcome = subject.run(case := draw(config))
        if outcome.failure is Failure.UNSUPPORTED:
            continue
        fits, slow = _with_other_sizes(subject, config)
        if slow or (fits and unfit(case, outcome) is None):
            return config, fits, slow
        first = first or config
        if number > len(factors):  # what is done nowhere one step away is wrong, and not another layer's
            break
    return first, False, 0.0


def _with_other_sizes(subject: Subject, config: RNNConfig) -> tuple[bool, float]:
    """Whether what it returns has the right shapes where all sizes differ, too, or it does no such sizes; how slow."""
    case = draw(_placed(config))
    outcome, seconds = _timed(subject, case)
    fits, slow = outcome.failure is Failure.UNSUPPORTED or unfit(case, outcome) is None, 0.0
    if seconds > SLOW:  # which may be chance, once
        longer = draw(case.config.replace(T=case.config.T + 2)) if case.config.lengths is None else case
        slow = min(seconds - _timed(subject, case)[1], _timed(subject, longer)[1] - _timed(subject, longer)[1])
    return fits, slow if slow > SLOW else 0.0


def _timed(subject: Subject, case: Case) -> tuple[Outcome, float]:
    """What a subject gives on a case, and the seconds that it takes."""
    start = time.perf_counter()
    return subject.run(case), time.perf_counter() - start


def _placed(config: RNNConfig) -> RNNConfig:
    """The config with sizes at which axes that are mixed up show; a packed batch as it is."""
    places = {name: size for name, size in PLACES.items() if name != "N" or config.batched}
    return config.replace(**places) if config.lengths is None else config


def _near(scope: Scope, factors: Mapping[str, tuple[Any, ...]]) -> Iterator[RNNConfig]:
    """The configs that differ from the plainest in at most three factors.

    Then those of other sizes, every size the same: a kernel may do none but multiples of 8, say.
    """
    for size in (None, 2, 8, 16, 32):
        sizes = {} if size is None else {name: size for name in SIZE_FACTORS if size in getattr(scope, name)}
        base = configure(factors_of(plainest(scope)) | sizes)
        for count in range(min(3, len(factors)) + 1):
            for names in combinations(factors, count):
                for values in product(*(factors[name][1:] for name in names)):
                    yield configure(factors_of(base) | dict(zip(names, values, strict=True)))


def _opening(subject: Subject, base: RNNConfig, name: str, value: Any, scope: Scope) -> Rule | None:
    """Which other factor's values open a value that is refused beside the plainest."""
    for other in PAIRED:
        if other != name:
            values = [one for one in scope.values()[other] if one != factors_of(base)[other]]
            opening = tuple(one for one in values if _opens(subject, base, {name: value, other: one}))
            if opening:
                return Rule(name, value, other, opening)
    return None


def _opens(subject: Subject, base: RNNConfig, changes: Mapping[str, Any]) -> bool:
    """Whether a subject accepts two values together, neither of which gives way to the other."""
    made = factors_of(configure({**factors_of(base), **changes}))
    return changes.items() <= made.items() and _refusal(subject, base, changes) is None


def _refusal(subject: Subject, base: RNNConfig, changes: Mapping[str, Any]) -> str | None:
    config = configure({**factors_of(base), **changes})
    outcome = subject.run(draw(config))
    return outcome.message if outcome.failure is Failure.UNSUPPORTED else None


def _turns(outcome: Outcome, config: RNNConfig) -> bool:
    """Whether the output has the right shape, or has it with its first two axes exchanged."""
    output = outcome.arrays.get("output")
    if output is None or output.ndim < 2:
        return False
    first, second, *rest = output.shape
    return config.outputs["output"].shape in {(first, second, *rest), (second, first, *rest)}


def _not_done(subject: Subject, base: RNNConfig, changes: Mapping[str, Any]) -> tuple[Case, Result] | None:
    """How a subject fails beside what it does, by an error or the shapes of what it returns, whatever the sizes."""
    plain = configure({**factors_of(base), **changes})
    if plain == base:
        return None
    first: tuple[Case, Result] | None = None
    for config in (_placed(plain), plain):
        case = draw(config, "normal")
        outcome = subject.run(case)
        if outcome.failure is Failure.UNSUPPORTED:
            continue
        bad = unfit(case, outcome)
        turned = plain.batch_first != base.batch_first
        if config is plain and bad is None and turned:  # which one sequence of one step hides
            break
        if turned and bad is not None and bad.mismatches and _turns(outcome, config):
            return None  # it does turn what it is given, but not all that it returns as it should
        if plain.loss is not None and bad is not None and bad.mismatches:
            return None  # a gradient that is missing, or of a wrong shape, does not make the others so
        # What writes into its inputs, or dies, does the call; how is for the search to find out.
        if bad is None or bad.failure is not None or outcome.changed_inputs or outcome.aliased:
            return None
        first = first or (case, bad)
    return first
