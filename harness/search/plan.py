"""The plan: the cases of a search in order, in chunks that any process can do without knowing the others.

First come all pairs of flags on small sizes, which take almost no time to plan; then a covering array of everything;
then a few cases for derivatives beyond gradients; then products of sizes around 2**16; then the factors apart, such as
pairs of preparations; then samples of one stratum of the scope after the other, without end. A chunk depends on the
scope, the seed and its own place only, so it does not matter which process does it, or when.

Random choices come from Python's own generator and not from Hypothesis. Hypothesis also draws numbers that occur in the
local code, which differs between processes. Python's generator is also faster: 0.05 ms a config instead of 0.8 ms.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from math import inf, prod
from random import Random
from typing import Final, NamedTuple, Protocol

from harness.search.covering import covering
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.factor_table import PLAIN, SIZE_FACTORS, WAY, lacking
from harness.space.rare_factors import apart
from harness.space.scope import Scope, factors_of
from harness.space.size_product_edges import product_edges
from harness.space.strata import Stratum, strata
from harness.space.values import draw

COVERING_SHARE: Final = 0.6
"""The share of a budget that covering arrays may take. The rest goes to drawn configs with several cases each, because
values matter, too. Torch's arrays take 929 of the default 1,650 cases, a budget that was chosen for them.
"""

# The strengths of covering arrays, in order of preference; the first one that the budget allows is used.
ARRAY_STRENGTHS: Final = (3, 2)

# The number of cases per drawn config, each in another distribution of values; its module and its masks are made once.
CASES_PER_CONFIG: Final = 2

SMALL_SIZES: Final = ((2, 3, 4, 5), (3, 3, 3, 3), (2, 2, 2, 2))
"""Small sizes, in the order of ``SIZE_FACTORS``, with which a search begins: all different, so that mixed-up axes give
wrong shapes; and all the same, so that they do not.
"""

CONFIGS_PER_CHUNK: Final = 16
"""The number of configs per chunk: some 0.3 s of torch's, which is little to lose at the end of a search, and much
beside the 2 ms that it takes to send a chunk to a worker and its results back.
"""

PROBE_INTERVAL: Final = 4
"""One case in this many has probes, which double the cost of a gradient, and all other checks that cost as much. If
only few cases can have probes, those have them more often: until one case in this many has them, or all that can.
"""

# The configs of the cases on which derivatives beyond gradients are checked (``checks.derivatives``).
DERIVATIVE_CONFIGS: Final = (
    _TWICE := RNNConfig(2, 3, T=3, N=2, dtype="float64", loss="output"),
    _TWICE.replace(hx=True, loss="both"),
    _TWICE.replace(hx=True, loss="h_n", nonlinearity="relu", bias=False, batch_first=True),
    _TWICE.replace(hx=True, loss="both", num_layers=2, bidirectional=True, T=2),
)

RELATION_INTERVAL: Final = (
    4  # one case in this many is held to a relation, for which the subject runs once or twice more
)


class PlannedCase(NamedTuple):
    """A case of a search before its arrays are drawn, and the checks to make on it."""

    config: RNNConfig
    distribution: str
    seed: int
    first: bool  # True if it is the first case of its config
    with_probes: bool
    with_relation: bool
    number: int = 0  # its place in the plan

    def case(self) -> Case:
        """Draw the case itself."""
        return draw(self.config, self.distribution, self.seed)


class PlanChunk(Protocol):
    """A few cases of a search."""

    def planned(self) -> Iterator[PlannedCase]:
        """Return the cases in their order; they are the same every time."""
        ...

    @property
    def cases(self) -> int:
        """The number of cases."""
        ...


@dataclass(frozen=True)
class CoveringChunk:
    """Some configs of a covering array, with one case each."""

    seed: int
    probing: float  # the share of cases with probes, among those that can have them
    first: int  # the place of the first config in the array
    configs: tuple[RNNConfig, ...]
    scope: Scope

    def planned(self) -> Iterator[PlannedCase]:
        """Yield one case per config, in a distribution that is drawn."""
        for number, config in enumerate(self.configs, self.first):
            random = Random(f"{self.seed}/covering/{number}")
            values = random.randrange(2**32)
            distribution, config = random.choice(self.scope.distributions), self.scope.abiding(config, number)
            yield _case(config, distribution, values, 0, self.probing, place=number)

    @property
    def cases(self) -> int:
        """The number of cases, one per config."""
        return len(self.configs)


@dataclass(frozen=True)
class StratumChunk:
    """A sample of a stratum, with several cases per config."""

    seed: int
    probing: float
    stratum: Stratum
    number: int
    first: int  # the place of the first case in the plan

    def planned(self) -> Iterator[PlannedCase]:
        """Yield the cases of each config: several distributions in a row from a drawn one on, plainest first."""
        random = Random(f"{self.seed}/{self.stratum}/{self.number}")
        scope = self.stratum.scope
        names = scope.distributions
        for place, sampled in enumerate(self.stratum.sample(random, CONFIGS_PER_CHUNK)):
            config = scope.abiding(sampled, place)
            first, values = random.randrange(len(names)), random.randrange(2**32)
            chosen = sorted((first + i) % len(names) for i in range(CASES_PER_CONFIG))
            for number, index in enumerate(chosen):
                here = self.first + place * CASES_PER_CONFIG + number
                yield _case(config, names[index], values + number // len(names), number, self.probing, place=here)

    @property
    def cases(self) -> int:
        """The number of cases, several per config."""
        return CONFIGS_PER_CHUNK * CASES_PER_CONFIG


def chunks(scope: Scope, seed: int, cases: int | None) -> Iterator[PlanChunk]:
    """Yield the chunks of a search of ``cases`` cases, or of any number, in order and without end.

    The covering array is the stronger of those of three and of two factors that leaves enough of the budget.
    """
    probing = min(1, 1 / (PROBE_INTERVAL * _plain_share(scope)))
    remaining, place = inf if cases is None else COVERING_SHARE * cases, 0
    for arrays in (small(scope), (covering(scope, strength) for strength in ARRAY_STRENGTHS)):
        planned = next((array for array in arrays if len(array) <= remaining), [])
        yield from _planned(seed, probing, place, planned, scope)
        remaining, place = remaining - len(planned), place + len(planned)
    if place:
        planned = differentiated(scope)
        tame = scope.only(distributions="default") if "default" in scope.distributions else scope
        yield from _planned(seed, 1, place, planned, tame)
        place += len(planned)
    large = product_edges(scope)
    # A budget for no array is none for these.
    if cases is None or (place and len(large) <= COVERING_SHARE * (cases - place)):
        generic = scope.only(distributions="normal") if "normal" in scope.distributions else scope
        yield from _planned(seed, 0, place, large, generic)  # probes would double their cost
        place += len(large)
    if place:
        few = apart(scope, seed)[: None if cases is None else int(COVERING_SHARE * (cases - place))]
        yield from _planned(seed, probing, place, few, scope)
        place += len(few)
    parts = strata(scope)
    if cases is not None and cases - place < len(parts) * CONFIGS_PER_CHUNK * CASES_PER_CONFIG:
        parts = [Stratum("all", scope)]  # the budget does not hold a sample of each
    for number in count():
        for stratum in parts:
            yield StratumChunk(seed, probing, stratum, number, place)
            place += CONFIGS_PER_CHUNK * CASES_PER_CONFIG


def _planned(seed: int, probing: float, place: int, configs: list[RNNConfig], scope: Scope) -> Iterator[CoveringChunk]:
    """Yield configs in chunks; ``place`` is that of the first in the plan."""
    for start in range(0, len(configs), CONFIGS_PER_CHUNK):
        yield CoveringChunk(seed, probing, place + start, tuple(configs[start : start + CONFIGS_PER_CHUNK]), scope)


def small(scope: Scope) -> Iterator[list[RNNConfig]]:
    """Return the covering array of pairs of flags, on the sizes of ``SMALL_SIZES`` in turn, if the scope has them."""
    sized = [dict(zip(SIZE_FACTORS, sizes, strict=True)) for sizes in SMALL_SIZES]
    sized = [sizes for sizes in sized if all(size in getattr(scope, name) for name, size in sizes.items())]
    if sized:
        array = covering(scope.only(**sized[0]), 2)
        yield [
            config if turn == 0 else scope.config(factors_of(config) | sized[turn], number)
            for number, config in enumerate(array)
            for turn in [number % len(sized)]
        ]


def differentiated(scope: Scope) -> list[RNNConfig]:
    """Return the configs of ``DERIVATIVE_CONFIGS`` that are in the scope."""
    return [
        config
        for config in DERIVATIVE_CONFIGS
        if all(scope.allows(name, value) for name, value in factors_of(config).items())
    ]


def _case(config: RNNConfig, distribution: str, values: int, number: int, probing: float, *, place: int) -> PlannedCase:
    """Return a config's case with this number; the seed of values decides which cases get more checks."""
    with_relation = (values // PROBE_INTERVAL + number) % RELATION_INTERVAL == 0
    thorough = number == values % PROBE_INTERVAL
    if config.loss is not None and all(getattr(config, name) == value for name, value in _PLAIN.items()):
        thorough = (values // (PROBE_INTERVAL * RELATION_INTERVAL) + number) % _PARTS < probing * _PARTS
    return PlannedCase(config, distribution, values, number == 0, thorough, with_relation, place)


def _plain_share(scope: Scope) -> float:
    """Return the share of draws that can have probes, as far as the way of calling decides that."""
    return prod(getattr(scope, name).count(value) / len(getattr(scope, name)) for name, value in _PLAIN.items()) or 1.0


# The way of calling that probes need, packed or not, and however gradients are asked for.
_PLAIN: Final = {name: PLAIN[name] for name in lacking("probed", WAY)}

_PARTS: Final = 2**16
