"""value_threshold: the quantity whose size or sign decides whether a failure shows on a case.

Cases of one config are drawn whose arrays differ in size and in sign, each by itself. Where some fail and others pass,
each quantity is tried as what divides them. Then the line from a failing case to a passing one is halved again and
again, which moves every array at once. A quantity that only goes with the true one has another value at the end of each
such line; the true one has the same, and that is the threshold.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.model import RIGHT_NETWORK, Network
from harness.diagnosis.identify.network_run import run, traces_of
from harness.oracle.bounded_array import Floats, to_float64
from harness.oracle.pinned_numpy import np
from harness.oracle.setting import reference_of
from harness.space.case import Array, Case
from harness.space.config import PARAMETERS, RNNConfig, role_of
from harness.space.values import draw

THRESHOLD_DRAWS: Final = 24
"""The number of cases that are drawn. Of some 100 quantities that have nothing to do with a failure, one divides 6
failing from 18 passing ones by chance once in 1,300 times; then the lines speak against it."""

MOST_DRAWS: Final = 48  # the draws of another config
FIRST_DRAWS: Final = 8  # the draws after which no more are made if all of them fail
FEWEST_CASES: Final = 4  # the failing cases, and the passing ones, that a threshold must divide
HALVED_LINES: Final = 3  # the lines from a failing case to a passing one that are halved
HALVINGS: Final = 20
NARROW: Final = 2.0**-6  # the relative distance that the lines may leave between a failing and a passing quantity

GRADIENT_SCALES: Final = (1.0, 2.0**-8, 2.0**8)  # of a loss's gradients, which the way back only multiplies
INPUT_SCALES: Final = (1.0, 0.0625, 4.0)  # of x and hx; larger ones saturate tanh, and little shows
WEIGHTS: Final = (1.0, 0.125, 3.0)  # of parameters
SIGNS: Final = (0, 1, -1)  # of the numbers of an array: as they are drawn, or all of one sign

CASE_STATISTICS: Final[Mapping[str, Callable[[Floats], float]]] = {
    "beyond": lambda v: float(np.abs(v).max(initial=0)),
    "norm": lambda v: float(np.sqrt(np.square(v).sum())),
    "least": lambda v: float(v.min(initial=np.inf)),
    "most": lambda v: float(v.max(initial=-np.inf)),
}


class ValueThreshold(NamedTuple):
    """The threshold of a quantity that divides failing cases from passing ones."""

    quantity: str  # its numbers, in words
    statistic: str  # a key of ``CASE_STATISTICS``
    above: bool  # True if it fails above the threshold
    value: float

    @property
    def words(self) -> str:
        """The condition in words: ``where some gradients are beyond ±5``."""
        value, what = f"{self.value:.3g}", self.quantity
        if self.statistic == "norm":
            return f"where the norm of all {what} is {'above' if self.above else 'at most'} {value}"
        if self.statistic == "beyond" and not self.value:
            return f"where some {what} are not 0" if self.above else f"where all {what} are 0"
        if self.statistic == "beyond":
            return f"where some {what} are beyond ±{value}" if self.above else f"where all {what} are within ±{value}"
        some = self.above == (self.statistic == "most")
        if not self.value:
            return f"where {'some' if some else 'all'} {what} are {'positive' if self.above else 'negative'}"
        return f"where {'some' if some else 'all'} {what} are {'above' if self.above else 'below'} {value}"


@dataclass(frozen=True)
class NumbersNeeded:
    """How a failure depends on the numbers of a case, where its config is one that fails."""

    fails: int  # the draws that fail
    draws: int
    threshold: ValueThreshold | None = None  # what decides it, if that is known
    failing: tuple[Case, ...] = field(default=(), compare=False, repr=False)  # the draws that fail

    @property
    def telling(self) -> int:
        """The draws of another config of which one would fail, but for once in 1,000 times, or as many as are made."""
        share = self.fails / max(1, self.draws)
        return MOST_DRAWS if not share else min(MOST_DRAWS, math.ceil(math.log(1e-3) / math.log1p(-share)))

    @property
    def always(self) -> bool:
        """True if every draw fails."""
        return self.fails == self.draws > 0


_Key = tuple[str, str]  # a quantity, and its statistic


class _Trial(NamedTuple):
    case: Case
    fails: bool
    quantities: Mapping[_Key, float]


class _Bracket(NamedTuple):
    """The range in which a quantity passes from passing to failing."""

    above: bool  # True if the failing ones are above
    low: float
    high: float
    narrow: bool
    of_sign: bool  # True if that is 0, between negative and positive
    near: float  # the distance at which roundings may decide

    def foretells(self, value: float) -> bool | None:
        """Tell whether a case fails whose quantity has a value; ``None`` too near to the threshold."""
        if self.low - self.near <= value <= self.high + self.near:
            return None
        return (value > self.high) == self.above


def numbers_needed(
    config: RNNConfig, fails: Callable[[Case], bool | None], right: Network = RIGHT_NETWORK
) -> NumbersNeeded:
    """Return which numbers a failure needs, of a config.

    ``fails`` says of a case whether it fails, ``None`` if that cannot be told. ``right`` is what a subject computes
    that does not fail, of which the quantities are.
    """
    trials: list[_Trial] = []
    for number in range(THRESHOLD_DRAWS):
        trials += _trials(drawn(config, number), fails, right)
        if len(trials) >= FIRST_DRAWS and all(trial.fails for trial in trials):
            break
    failing, passing = ([trial for trial in trials if trial.fails is how] for how in (True, False))
    needed = NumbersNeeded(len(failing), len(trials), failing=tuple(trial.case for trial in failing))
    if min(len(failing), len(passing)) < FEWEST_CASES:
        return needed
    dividing = [key for key in failing[0].quantities if _bracket(trials, key) is not None]
    for failed, passed in list(zip(failing, passing, strict=False))[:HALVED_LINES]:
        if not dividing:
            break
        trials += _halved(failed, passed, fails, right)
        dividing = [key for key in dividing if _bracket(trials, key) is not None]
    for failed, passed in zip(failing, reversed(passing), strict=False):
        if len(dividing) < 2:
            break
        trials += _telling(trials, dividing, (failed.case, passed.case), fails, right)
        dividing = [key for key in dividing if _bracket(trials, key) is not None]
    return replace(needed, threshold=_threshold(trials, dividing))


def drawn(config: RNNConfig, number: int) -> Case:
    """Return a case of generic numbers, whose arrays have sizes and signs of their own.

    Of as many cases in a row as there are sizes or signs, each array has each of them once.
    """

    def choice(name: str, several: Sequence[float]) -> float:
        block, place = divmod(number, len(several))
        order = np.random.default_rng([block, len(several), zlib.crc32(name.encode())]).permutation(len(several))
        return several[int(order[place])]

    case, arrays = draw(config, ("normal", "default")[number % 2], number), dict[str, Array]()
    for name, array in case.arrays.items():
        if name in config.weights:
            arrays[name] = array * array.dtype.type(choice("weights", WEIGHTS))
            continue
        sign = choice(f"sign of {name}", SIGNS)
        scale = choice("gradients", GRADIENT_SCALES) if name.endswith(".grad") else choice(name, INPUT_SCALES)
        values = np.abs(array) * array.dtype.type(sign) if sign else array
        arrays[name] = values * array.dtype.type(scale)
    return Case.from_arrays(config, arrays)


def _between(start: Case, end: Case, share: float) -> Case:
    """Return the case that is a share of the way from one to another."""
    arrays = {
        name: (to_float64(array) + share * (to_float64(end.arrays[name]) - to_float64(array))).astype(array.dtype)
        for name, array in start.arrays.items()
    }
    return Case.from_arrays(start.config, arrays)


def _halved(failing: _Trial, passing: _Trial, fails: Callable[[Case], bool | None], right: Network) -> Iterator[_Trial]:
    """Yield cases between a failing one and a passing one, ever nearer to where that changes."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        for trial in _trials(_between(failing.case, passing.case, middle), fails, right):
            yield trial
            low, high = (middle, high) if trial.fails else (low, middle)


def _telling(
    trials: Sequence[_Trial],
    keys: Sequence[_Key],
    ends: tuple[Case, Case],
    fails: Callable[[Case], bool | None],
    right: Network,
) -> Iterator[_Trial]:
    """Yield a case between a failing and a passing one of which two quantities foretell different verdicts.

    Each quantity passes its threshold somewhere on the line: it is asked for the case between the first and the last.
    """
    brackets = {key: bracket for key in keys if (bracket := _bracket(trials, key)) is not None and bracket.narrow}
    crossings = []
    for key, bracket in brackets.items():
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            above = _quantities(right, _between(*ends, middle))[key] > (bracket.low + bracket.high) / 2
            low, high = (middle, high) if above == bracket.above else (low, middle)
        crossings.append((low + high) / 2)
    if not crossings:
        return
    case = _between(*ends, (min(crossings) + max(crossings)) / 2)
    quantities = _quantities(right, case)
    if len({bracket.foretells(quantities[key]) for key, bracket in brackets.items()} - {None}) > 1:
        yield from _trials(case, fails, right)


def _trials(case: Case, fails: Callable[[Case], bool | None], right: Network) -> Iterator[_Trial]:
    if (verdict := fails(case)) is not None:
        yield _Trial(case, verdict, _quantities(right, case))


def _quantities(right: Network, case: Case) -> dict[_Key, float]:
    """Return every statistic of every quantity of a case, the more general ones first."""
    plain, sums = case.plain(), list[Floats]()
    with np.errstate(all="ignore"):
        if plain.config.gated:  # what is identified is nn.RNN's
            arrays = reference_of(plain.config).run(plain)
        else:
            arrays = {name: values_of(v) for name, v in run(right, plain).items()}
            sums = [values_of(f.s[t]).ravel() for f in traces_of(right, plain) for t in range(f.T)]
    gradients = {role_of(name): v.ravel() for name, v in arrays.items() if name.endswith(".grad")}
    by_name: dict[str, list[Floats]] = {
        "numbers of x": [to_float64(plain.x).ravel()],
        "numbers of hx": [] if plain.hx is None else [to_float64(plain.hx).ravel()],
        "preactivations": sums,
        "gradients of the loss": [to_float64(array).ravel() for array in plain.cotangents.values()],
        "gradients": list(gradients.values()),
        "gradients by parameters": [v for role, v in gradients.items() if role in PARAMETERS],
        "gradients by weights": [v for role, v in gradients.items() if role.startswith("weight")],
        "gradients by biases": [v for role, v in gradients.items() if role.startswith("bias")],
        **{f"gradients by {role}": [v] for role, v in gradients.items()},
    }
    every = {name: np.concatenate(parts) for name, parts in by_name.items() if parts}
    values = {name: v[~np.isnan(v)] for name, v in every.items()}  # padding is NaN
    return {(name, how): measure(v) for name, v in values.items() for how, measure in CASE_STATISTICS.items() if v.size}


def _bracket(trials: Sequence[_Trial], key: _Key) -> _Bracket | None:
    """Return what divides failing cases from passing ones, near which roundings may decide; ``None`` if nothing does.

    Next to 0 "near" is measured by the usual size: it is the sign that decides there.
    """
    failing, passing = ([trial.quantities[key] for trial in trials if trial.fails is how] for how in (True, False))
    usual = float(np.median([abs(trial.quantities[key]) for trial in trials[:FIRST_DRAWS]]))
    for above, inner, outer in ((True, max(passing), min(failing)), (False, max(failing), min(passing))):
        size = max(abs(inner), abs(outer))
        signed = key[1] in {"least", "most"} and size <= NARROW * usual
        near = NARROW * (usual if signed else size)
        if inner - outer <= near:
            return _Bracket(above, min(inner, outer), max(inner, outer), abs(outer - inner) <= near, signed, near)
    return None


def _threshold(trials: Sequence[_Trial], keys: Sequence[_Key]) -> ValueThreshold | None:
    """Return the threshold of the first quantity whose failing and passing values come close to each other."""
    for key in keys:
        bracket = _bracket(trials, key)
        if bracket is not None and bracket.narrow:
            return ValueThreshold(*key, bracket.above, 0.0 if bracket.of_sign else _plainest(bracket.low, bracket.high))
    return None


def _plainest(low: float, high: float) -> float:
    """Return the number of fewest digits between two, or as near to them as they are to each other."""
    middle, width = (low + high) / 2, high - low
    rounded = (float(f"{middle:.{digits}g}") for digits in (1, 2))
    return next((number for number in rounded if low - width <= number <= high + width), middle)
