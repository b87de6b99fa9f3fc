"""The networks that give the arrays of a few known cases, where nothing can be asked of any subject.

A network is nn.RNN with some plain choices (``choices``), as few as give every number within the derived bounds. They
are looked for along the trace: the first step before later ones, layer by layer, the way forward before gradients, so
that mistakes which begin to show at different places only add up. What else gives the same numbers with as few choices
is kept, and a case is looked for that would tell them apart.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations, product
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from harness.diagnosis.identify.ball import Ball
from harness.diagnosis.identify.choices import CandidateDifference, choices
from harness.diagnosis.identify.gates import right_of
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.inquiry import explains, states_of
from harness.diagnosis.identify.mistake import Mistake
from harness.diagnosis.identify.model import Network
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.questions import Response, rounding_of
from harness.diagnosis.identify.terms import NoShapes
from harness.oracle.arithmetic_assumptions import FORMATS
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np
from harness.space.case import Array, Case
from harness.space.config import RNNConfig, role_of
from harness.space.factor_table import ConfigError
from harness.space.values import draw

MOST_CHOICES: Final = 5  # choices of one network
NETWORK_BEAM: Final = 8  # networks that explain a part of the arrays, from which the search goes on
MOST_RIVAL_NETWORKS: Final = 30  # networks that are held against each other, at most
MOST_COST: Final = 2**29  # of all runs of a search, in units of ``RNNConfig.cost``
GATED_RUNS: Final = 2**13  # of one layer with gates, at most, whose pairs of choices are many
MOST_RUNS: Final = 2000  # of a case; a longer one is shortened
SHORTENED_SIZES: Final = (12, 3)  # T and N of a case that is shortened
SLACK: Final = 64.0  # by how much faster than in a right run errors may grow
GRADIENT: Final = 2  # comes after all that is returned on the way forward
Bits = NDArray[np.bool_]
Runs = Callable[[Case], Mapping[str, Any]]  # what a layer gives on a case

# The roles of gradients, those of fewest choices first.
GRADIENT_ORDER: Final = ("bias_ih", "bias_hh", "weight_ih", "x", "weight_hh", "hx")


@dataclass(frozen=True)
class ArrayExplanation:
    """A network that gives every number, and its mistakes."""

    network: Network
    mistakes: tuple[Mistake, ...]

    def run(self, case: Case) -> Mapping[str, Any]:
        """Return what the network gives on a case."""
        return run(self.network, case)


class _Node(NamedTuple):
    """A network on the way, its choices, and how many ranks of numbers it gives before the first that it misses."""

    network: Network
    choices: tuple[CandidateDifference, ...]
    ranks: int


def explanations(
    responses: Sequence[Response], dtypes: Sequence[str], most: int = MOST_CHOICES
) -> list[ArrayExplanation]:
    """Return the networks with fewest mistakes that give all arrays, the plainest first; nothing if none does.

    ``most`` is the number of choices of a network, at most.
    """
    short = [_shortened(a) for a in responses]
    with np.errstate(all="ignore"):
        every = _NetworkSearch(short, dtypes).explanations(most)
    fewest = min((len(explanation.mistakes) for explanation in every), default=0)
    different: list[ArrayExplanation] = []
    for explanation in [one for one in every if len(one.mistakes) == fewest][:MOST_RIVAL_NETWORKS]:
        if all(case_apart(explanation.run, rival.run, short[0].case) for rival in different):
            different.append(explanation)
    long = [(a, rounding_of(dtype)) for a, b, dtype in zip(responses, short, dtypes, strict=True) if a is not b]
    return [one for one in different if all(explains(one.network, a, rounding) for a, rounding in long)]


def _shortened(a: Response) -> Response:
    """Return the first steps and sequences of a long case, if they can be told without the others."""
    config = a.case.config
    if config.cost * MOST_RUNS <= MOST_COST or config.loss is not None or config.lengths is not None or a.case.masks:
        return a
    of_steps = {name: array for name, array in a.arrays.items() if name not in config.form.final}
    T = SHORTENED_SIZES[0] if of_steps and not config.bidirectional else config.T
    N = SHORTENED_SIZES[1] if config.batched else config.N
    short = config.replace(T=min(T, config.T), N=min(N, config.N))
    arrays = of_steps if short.T < config.T else a.arrays

    def cut(name: str, array: Array) -> Array:
        axes = (short.inputs | short.outputs)[name].axes
        sizes = {"T": short.T, "N": short.N}
        return array[tuple(slice(sizes.get(axis)) for axis in axes)]

    case_arrays = a.case.arrays | {name: cut(name, a.case.arrays[name]) for name in config.inputs}
    returned = {name: cut(name, array) for name, array in arrays.items()}
    return Response(Case.from_arrays(short, case_arrays), returned, rounded=a.rounded)


class _NetworkSearch:
    """The search of networks that explain some arrays."""

    def __init__(self, responses: Sequence[Response], dtypes: Sequence[str]) -> None:
        self._responses, self._roundings = responses, [rounding_of(dtype) for dtype in dtypes]
        first = responses[0].case.config
        config = max((a.case.config for a in responses), key=lambda conf: (conf.loss is not None, conf.T))
        self._actual = self._joined([a.arrays for a in responses])
        self._right = right_of(first)
        right = [run(self._right, a.case, r, a.states) for a, r in zip(responses, self._roundings, strict=True)]
        errors = [{n: v.error if isinstance(v, Ball) else 0 * values_of(v) for n, v in made.items()} for made in right]
        units = max(FORMATS[dtype].u for dtype in dtypes) * (first.input_size + first.hidden_size + 2)
        self._relative, self._absolute = SLACK * units, SLACK * self._joined(errors) + responses[0].rounded
        # Numbers are explained along the trace: each has a rank, those of the way forward the first ones.
        places = np.concatenate([_places_of(name, a) for a in responses for name in _names(a)], 1)
        ranked, ranks = np.unique(places, axis=1, return_inverse=True)
        self._ranks, self._all, self._forward = ranks.ravel(), ranked.shape[1], int((ranked[0] < GRADIENT).sum())
        self._choices = choices(config, {name: v for a in responses for name, v in a.arrays.items()})
        self._runs = MOST_COST // (len(first.form.gates) * sum(a.case.config.cost for a in responses))
        if first.gated:  # a run of a short case takes some 1 ms for each layer and direction, and back 4 times as long
            layers = first.num_layers * first.num_directions * (1 if config.loss is None else 4)
            self._runs = min(self._runs, GATED_RUNS // layers)

    def _joined(self, several: Iterable[Mapping[str, Any]]) -> Floats:
        """Return the numbers of all cases in one row."""
        pairs = zip(several, self._responses, strict=True)
        return np.concatenate([np.ravel(values_of(arrays[name])) for arrays, a in pairs for name in _names(a)])

    def _run(self, network: Network) -> Floats | None:
        """Return what a network gives, in one row; ``None`` if it cannot run."""
        self._runs -= 1
        try:
            row = self._joined([run(network, a.case, states=states_of(network, a)) for a in self._responses])
        except NoShapes:
            return None
        return row if row.size == self._actual.size else None

    def _near(self, row: Floats) -> Bits:
        off = np.abs(row - self._actual)
        close: Bits = off <= self._absolute + self._relative * (np.abs(row) + np.abs(self._actual))
        return close

    def explanations(self, most: int) -> list[ArrayExplanation]:
        """Return the networks with fewest choices that explain everything, and those of as few mistakes."""
        frontier, pending = [self._scored(self._right, ()) or _Node(self._right, (), 0)], list[_Node]()
        explained, fewest = list[ArrayExplanation](), most if frontier[0].ranks < self._all else 0
        for count in range(1, most + 1):
            if count > fewest or self._runs <= 0:
                break
            reached, pending, stuck = pending, [], []
            for base in frontier:
                own = self._extended(base)
                reached += own
                stuck += [] if own else [base]
            if self._forward < self._all:
                reached += [self._derived(node) for node in reached if node.ranks >= self._forward > 0]
            for network in self._exchanged([node for node in reached if self._is_whole(node)]):
                mistakes = mistakes_of(network, self._responses[0].case.config.nonlinearity)
                explained.append(ArrayExplanation(network, tuple(mistakes)))
                fewest = min(fewest, len(mistakes))
            reached = [node for node in reached if node.ranks < self._all]
            if count < fewest:
                pending = [pair for base in stuck for pair in self._by_pairs(base)]
            frontier = sorted(reached, key=lambda node: -node.ranks)[:NETWORK_BEAM]
        return explained

    def _is_whole(self, node: _Node | None) -> bool:
        """Tell whether a network explains everything, held to the bounds of its own."""
        pairs = zip(self._responses, self._roundings, strict=True)
        return node is not None and node.ranks == self._all and all(explains(node.network, a, r) for a, r in pairs)

    def _derived(self, node: _Node) -> _Node:
        """Return a network whose gradients are the derivative of its way forward."""
        return self._scored(replace(node.network, derived=True), node.choices) or node

    def _scored(self, network: Network, chosen: tuple[CandidateDifference, ...], least: int = 0) -> _Node | None:
        """Return a network with the ranks that it explains, if these are more than some."""
        row = self._run(network) if self._runs > 0 else None
        ranks = 0 if row is None else int(self._ranks[~self._near(row)].min(initial=self._all))
        return _Node(network, chosen, ranks) if ranks > least else None

    def _choices_of(self, base: _Node) -> list[CandidateDifference]:
        """Return the choices that may show in the first rank that is not explained."""
        if not self._forward:
            return self._choices
        return [choice for choice in self._choices if choice.back == (base.ranks >= self._forward)]

    def _with(self, base: _Node, *several: CandidateDifference) -> _Node | None:
        """Return a network with some choices more, if it explains more."""
        network = reduce(lambda network, choice: choice.apply(network), several, base.network)
        return self._scored(network, (*base.choices, *several), base.ranks)

    def _extended(self, base: _Node) -> list[_Node]:
        """Return what explains more with one choice more."""
        return [node for choice in self._choices_of(base) if (node := self._with(base, choice)) is not None]

    def _by_pairs(self, base: _Node) -> list[_Node]:
        """Return what explains more with two choices more, of which each alone explains none.

        Of choices that give the same numbers as far as the first rank that is not explained, one stands for all.
        """
        if base.ranks == self._all or (before := self._run(base.network)) is None:
            return []
        view, classes = self._ranks <= base.ranks, dict[bytes, list[CandidateDifference]]()
        size = 1e-300 + np.abs(self._actual[view]).max()
        for choice in self._choices_of(base):
            if (row := self._run(choice.apply(base.network))) is not None and not (row == before)[view].all():
                classes.setdefault(np.round(row[view] / size, 9).tobytes(), []).append(choice)
        nodes: list[_Node] = []
        alike = [(any(choice.plain for choice in several), several) for several in classes.values()]
        for how in (2, 1):  # both are plain, or one of them
            for (plain, firsts), (also, seconds) in () if nodes else combinations(alike, 2):
                if plain + also != how or self._runs <= 0:
                    continue
                row = self._run(seconds[0].apply(firsts[0].apply(base.network)))
                if row is not None and self._near(row)[view].all():
                    several = (self._with(base, *pair) for pair in product(firsts, seconds))
                    nodes += [node for node in several if node is not None]
        return nodes

    def _exchanged(self, nodes: Sequence[_Node]) -> Iterator[Network]:
        """Yield networks that explain everything, and those which do with one of their choices exchanged."""
        yield from (node.network for node in nodes)
        for node in nodes[:NETWORK_BEAM]:
            right = _Node(replace(self._right, derived=node.network.derived), (), 0)
            for i, choice in product(range(len(node.choices)), self._choices if len(node.choices) > 1 else ()):
                exchanged = self._with(right, *node.choices[:i], choice, *node.choices[i + 1 :])
                if exchanged is not None and self._is_whole(exchanged):
                    yield exchanged.network


def _names(a: Response) -> list[str]:
    return [name for name in a.case.config.returned if name in a.arrays]


def _places_of(name: str, a: Response) -> NDArray[np.int_]:
    """Return three numbers for each number of an array, which sort as they are computed."""
    config, index = a.case.config, np.indices(a.arrays[name].shape)
    key: tuple[Any, ...]
    if name.endswith(".grad"):
        order = {role: k for k, role in enumerate(GRADIENT_ORDER)}
        layer = int("".join(filter(str.isdigit, name.rpartition("_l")[2])) or -1)
        key = GRADIENT, -layer, order.get(role_of(name), -1)
    elif name in config.form.final:
        inner = index[0] < (config.num_layers - 1) * config.num_directions
        key = np.where(inner, 0, 1), index[0], config.T
    else:
        t = index[1 if config.batch_first and config.batched else 0]
        reverse = (index[-1] >= config.hidden_size) & (name == "output")
        key = 1, 0, np.where(reverse, config.T - 1 - t, t)
    return np.stack([np.broadcast_to(part, index.shape[1:]).ravel() for part in key])


# What another case may have that tells two networks apart, in words; the likeliest to be at hand first.
OTHER_CASES: Final[dict[str, dict[str, Any]]] = {
    "another x": {},
    **{f"T={T}": {"T": T} for T in (2, 3, 5, 13)},
    **{f"N={N}": {"N": N} for N in (2, 3)},
    "hx": {"hx": True},
    "hx, T=13 and N=3": {"hx": True, "T": 13, "N": 3},
}


def case_apart(first: Runs, second: Runs, case: Case) -> str:
    """Return what another case must have on which two layers differ; empty if they are the same wherever tried."""
    config, weights = case.config, {name: np.asarray(array, np.float64) for name, array in case.weights.items()}
    sizes = {"hidden_size": config.hidden_size + 1, "input_size": config.input_size + 2, "T": 7, "N": 5}
    cases = [(words, change, weights) for words, change in OTHER_CASES.items()]
    cases += [("other weights", OTHER_CASES["hx, T=13 and N=3"], {}), ("another hidden_size", sizes, {})]
    return next((words for words, *rest in cases if _differ(first, second, config, *rest)), "")


def _differ(
    first: Runs, second: Runs, config: RNNConfig, change: Mapping[str, Any], weights: Mapping[str, Floats]
) -> bool:
    """Tell whether two layers give other numbers on a random case; not if there is no such config."""
    try:
        config = config.replace(lengths=None, dtype="float64", **({"batched": True} if "N" in change else {}), **change)
    except ConfigError:
        return False
    drawn = draw(config, "normal", 11)
    case = Case.from_arrays(config, {**drawn.arrays, **weights}).plain()
    with np.errstate(all="ignore"):
        arrays, others = first(case), second(case)
    pairs = [(values_of(arrays[name]), values_of(others[name])) for name in arrays if name in others]
    return any(a.shape != b.shape or not np.allclose(a, b, 1e-9, 1e-12, equal_nan=True) for a, b in pairs)
