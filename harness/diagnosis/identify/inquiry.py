"""inquiry: one layer and direction of a subject, and the questions that are asked of it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, Final

from harness.diagnosis.identify.activations import Activation, Numbers
from harness.diagnosis.identify.ball import Ball, SubjectRounding
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.layer import backward, by_states, cut_off, forward, slopes
from harness.diagnosis.identify.model import RIGHT_GRADIENT_SUMS, RIGHT_NETWORK, LayerModel, Network
from harness.diagnosis.identify.network_run import derived_trace, lone_trace, run
from harness.diagnosis.identify.questions import LONG_TIMES, Asker, CaseSizes, Response
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.identify.terms import STATES_RETURNED, LayerTrace
from harness.diagnosis.identify.wiring_choices import OWN_WIRING, Place
from harness.oracle.arithmetic_assumptions import FORMATS
from harness.oracle.array_layout import time_major
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np
from harness.space.case import Case
from harness.space.config import role_of
from harness.space.values import draw

SQUARE: Final = 4  # input_size and hidden_size of most cases: equal, so that what was exchanged shows
SHORT_TIME: Final = 4  # the T of most cases: no step stands as far from one end as another from the other
LARGE_WEIGHTS: Final = 4.0  # times the weights of most cases, with which a product of four is as large as its operand
# The fields of what is returned of the states.
RETURN_FIELDS: Final = ("written", "shown", "final", "visited", "at_zero")
COARSE_ERROR: Final = 4 * FORMATS["bfloat16"].u  # as many roundings as a step has
OVERFLOWS: Final = 2.0**-10  # the share of the largest number from which what is summed may overflow on the way

# CaseSizes (T, N, input_size, hidden_size) and the scale of the gradients of cases that were not asked before: one of
# everything, long ones, and gradients that a clip would cut off.
FRESH_KINDS: Final = (
    (1, 1, 1, 1, 1e3),
    (2, 2, 3, 2, 1.0),
    (5, 2, SQUARE, SQUARE, 1e-2),
    (7, 3, 2, 5, 30.0),
    (LONG_TIMES[-1] + 2, 1, 3, 3, 1.0),
)
FRESH_SEED: Final = 101  # of their numbers


Pairs = Sequence[tuple[Response, LayerTrace]]  # answers, and their traces


@dataclass
class PlaceResult:
    """The model of one layer and direction, and the parts of it that are known."""

    model: LayerModel = field(default_factory=LayerModel)
    derived: bool = False  # True if the gradients are the derivative of the way forward
    forward: bool = False  # True if the step is known
    coarse: bool = False  # True if the step seems to be nn.RNN's, in a coarser arithmetic: no sum explains that
    unknown: list[str] = field(default_factory=list)  # the returned gradients that are not known, by role


class Inquiry:
    """One layer and direction of a subject, and what is known of it so far."""

    def __init__(
        self,
        asker: Asker,
        place: Place = (0, 0),
        network: Network = RIGHT_NETWORK,
        *,
        sequences: int = 2,
        input_size: int = SQUARE,
    ) -> None:
        """Ask of a layer and direction; ``network`` is what is known of the layers below and the other direction."""
        self.asker, self.noise, self.place, self.network = asker, asker.noise, place, network
        self._input_size = input_size
        both = place[1] > 0 or not asker.allows("bidirectional", False)
        self._stack: dict[str, Any] = {"num_layers": place[0] + 1, "bidirectional": both}
        self.found = PlaceResult()
        self.model = network.first
        self.derived = network.derived
        # How many times as large weights are asked for as those of which every activation is inverted.
        self.weights = 1.0
        self.cut_short = False  # True if the way back may be cut within a few steps
        self._values: dict[Any, Any] = {}
        self._base = self._shape(sequences)

    def _shape(self, sequences: int) -> dict[str, Any] | None:
        """Return how generic cases look: hx, and two sequences if there may be."""
        for N in range(sequences, 0, -1):
            for hx in (True, False) if self.asker.has_hx else (False,):
                if (
                    self.asker.ask(CaseSizes(SHORT_TIME, N, self._input_size, SQUARE), hx=hx, loss=None, **self._stack)
                    is not None
                ):
                    return {"N": N, "hx": hx}
        return None

    @property
    def size(self) -> int:
        """The input_size and hidden_size of most cases: so many that some count of what may be left out."""
        return max([SQUARE, *(extent.least for extent in self.model.extents if extent.axis != "sequences")])

    def answers(self, T: int, number: int, **factors: Any) -> list[Response]:
        """Return what the subject gives on some cases of generic numbers."""
        assert self._base is not None
        usual = {"N": self._base["N"], "input_size": self._input_size + self.size - SQUARE, "hidden_size": self.size}
        named = usual | {"hx": self._base["hx"], "loss": None, "weights": self.weights} | self._stack | factors
        sizes = CaseSizes(T, *(named.pop(name) for name in usual))
        for hx in (True, False) if named["hx"] else (False,):  # there may be no gradients where a state is given
            named["hx"] = hx
            if answers := [a for seed in range(number) if (a := self.asker.ask(sizes, seed, **named)) is not None]:
                return answers
        return []

    def _in_turn(self, array: Floats) -> Floats:
        """Return the half (T, N, H) of this direction in the order of its steps."""
        half: Floats = np.split(array, 2, -1)[self.place[1]] if self._stack["bidirectional"] else array
        return half[::-1] if self.place[1] else half

    def _steps_of(self, a: Response, model: LayerModel | None = None) -> Floats | None:
        """Return the states of this layer and direction (T, N, H) in the order of its steps, if they are returned."""
        written = (model or self.model).written
        if a.steps is None or (written == "h[t-1]" and a.shorter is None):
            return None
        states = self._in_turn(a.steps)
        if a.shorter is None:
            states = states[::-1] if written == "h[T-1-t]" else states
            if written == "phi(h[t])":
                states = (self.model.activation or Activation(self.asker.nonlinearity)).inverse(states)[0]
        return states

    def _traces(self, answers: Sequence[Response]) -> list[LayerTrace]:
        """Return a trace for each answer, with the subject's own states."""
        traces = []
        for a in answers:
            f = lone_trace(self.network, a.case, self.place)
            if (states := self._steps_of(a)) is not None:
                f.raw = list(states)
                f.out = dict(enumerate(states))
                f.h = dict(f.out)
            f.given_hx = f.hx
            cut_off(self.model, f)
            traces.append(f)
        return traces

    @property
    def _row(self) -> int:
        """The row of this layer and direction in hx and h_n."""
        layer, direction = self.place
        return layer * (2 if self._stack["bidirectional"] else 1) + direction

    def _states_known(self) -> bool:
        answers = self.answers(SHORT_TIME, 1)
        return self.found.forward or bool(answers and answers[0].steps is not None)

    def _back(self, T: int, number: int, at: int | None = None, **factors: Any) -> list[tuple[Response, LayerTrace]]:
        """Return answers with gradients, small ones, which are not 0 by the state of one step if ``at`` names it."""
        factors = {"loss": self.loss} | self.alone | factors
        if at is None or self.loss == "h_n":
            return self._pairs(self.answers(T, number, **factors)) if at in (None, T - 1) else []
        model, index = self.model, STATES_RETURNED[self.model.written]
        steps = [t for t in range(T) if index(t, T) == at and model.shown.at(t, T) and model.counted.at(t, T)]
        times = tuple(T - 1 - t if self.place[1] else t for t in steps)
        answers = self.answers(T, number, at=times, **factors) if times else []
        return self._pairs([a for a in answers if at < a.case.config.T])  # the subject may take a few T only

    @property
    def loss(self) -> str:
        """The loss of most questions: of h_n alone if the gradient of a single step's output does not count."""
        losses, model = self.asker.losses, self.model
        counts = (
            model.counted != TermSteps("never") and model.shown.at(0, 1) and STATES_RETURNED[model.written](0, 1) == 0
        )
        return losses[0] if counts or "h_n" not in losses else "h_n"

    @property
    def alone(self) -> dict[str, Any]:
        """The question's factors with which h_n's gradient is 0, if every loss is of the output and of h_n together."""
        return {"zero": ("h_n.grad",)} if self.loss == "both" else {}

    def _pairs(self, answers: Sequence[Response]) -> list[tuple[Response, LayerTrace]]:
        pairs = []
        for a, f in zip(answers, self._traces(answers), strict=True):
            forward(self.model, f, self.asker.nonlinearity, np.stack(list(f.out.values())) if f.out else None)
            f.g = self._upstream(a, f)
            pairs.append((a, f))
        return pairs

    def _upstream(self, a: Response, f: LayerTrace) -> dict[int, Floats]:
        """Return the gradient by each state, as the loss gives it, in the order of the steps."""
        config, arrays = a.case.config, a.case.arrays
        g = np.zeros((config.T, config.N, config.hidden_size))
        for name in [name for name in ("output.grad", "readout.grad") if name in arrays]:
            upstream = time_major(arrays[name], config)
            if name == "readout.grad":
                upstream = upstream @ np.asarray(a.case.weights["readout.weight"], np.float64)
            g = g + self._in_turn(upstream)
        by_state = by_states(self.model, f, dict(enumerate(g)))
        if "h_n.grad" in arrays:
            by_state[config.T - 1] = by_state[config.T - 1] + np.asarray(arrays["h_n.grad"][self._row], np.float64)
        return by_state

    def _name(self, role: str) -> str:
        """Return the name of a gradient of this layer and direction."""
        layer, d = self.place
        return f"{role}.grad" if role in ("x", "hx") else f"{role}_l{layer}{'_reverse' if d else ''}.grad"

    def roles(self) -> list[str]:
        """Return the roles of the gradients that the subject returns of this layer and direction."""
        if not self.asker.losses or self._base is None or not (pairs := self._back(SHORT_TIME, 1)):
            return []
        returned = pairs[0][0].arrays
        return [r for r in RIGHT_GRADIENT_SUMS if self._name(r) in returned and (r != "x" or self.place == (0, 0))]

    def _gradient(self, role: str, arrays: Mapping[str, Floats]) -> Floats:
        """Return the gradient of a role, of hx that of the own row."""
        array = arrays[self._name(role)]
        return array[self._row] if role == "hx" else array

    def _vector(self, role: str, a: Response) -> Floats:
        return self._gradient(role, a.arrays).ravel()

    def _chained(self, model: LayerModel, pairs: Pairs) -> None:
        for a, f in pairs:
            slopes(model, f, self.asker.nonlinearity)
            if self.derived:
                taped = derived_trace(self._with(model), a.case, self.place)
                f.da, f.dh, f.derivative = taped.da, taped.dh, taped.derivative
            else:
                backward(model, f)

    def _expected(self, model: LayerModel, a: Response) -> dict[str, Floats]:
        with np.errstate(all="ignore"):
            states = self._steps_of(a)
            by_place = None if states is None else {self.place: states}
            return {name: values_of(v) for name, v in run(self._with(model), a.case, states=by_place).items()}

    def _with(self, model: LayerModel) -> Network:
        """Return the network with the model of this layer and direction."""
        layer, d = self.place
        if layer:
            return replace(self.network, above=model)
        return replace(self.network, reverse=model) if d else replace(self.network, first=model)

    def _gives(self, model: LayerModel, answers: Iterable[Response]) -> bool:
        """Tell whether a model gives every number of some answers."""
        return gives_all(self._with(model), answers, self.asker)

    def _first_right(self, models: Iterable[LayerModel], *batches: Pairs) -> LayerModel | None:
        """Return the first model that gives all gradients of some answers."""
        return next((m for m in models if not any(self._differing(m, pairs) for pairs in batches)), None)

    def _is_only_coarse(self, network: Network, **factors: Any) -> bool:
        """Tell whether short cases are those of a network but for some roundings of the coarsest dtype."""
        answers = [a for T in (1, SHORT_TIME) for a in self.answers(T, 1, **factors)]
        return self.place == (0, 0) and not gives_all(network, answers, self.asker) and nearly(network, answers)

    def _differing(self, model: LayerModel, pairs: Pairs) -> list[str]:
        """Return the roles whose gradients are not the model's."""
        wrong: list[str] = []
        for a, _ in pairs:
            made = self._expected(model, a)
            for role in [role for role in self.roles() if role not in (*wrong, *self.found.unknown)]:
                actual, expected = (self._gradient(role, arrays) for arrays in (a.arrays, made))
                size = np.abs(expected).max(initial=0)
                if not np.abs(actual - expected).max(initial=0) <= 1024 * self.noise * size:
                    wrong.append(role)
        return wrong


def explains(network: Network, a: Response, rounding: SubjectRounding, roles: Collection[str] = ()) -> bool:
    """Tell whether a network gives every number of an answer, but for gradients of some roles."""
    return all(role_of(name) in roles for name in departing(network, a, rounding))


def gives_all(network: Network, answers: Iterable[Response], asker: Asker, but: Collection[str] = ()) -> bool:
    """Tell whether a network gives every number of some answers, but for gradients of some roles."""
    return all(explains(network, a, asker.rounding, but) for a in answers)


def departing(network: Network, a: Response, rounding: SubjectRounding) -> set[str]:
    """Return the arrays of an answer that a network does not give."""
    with np.errstate(all="ignore"):
        made = run(network, a.case, rounding, states_of(network, a))
    return differing(a, made, rounding)


def nearly(network: Network, answers: Iterable[Response]) -> bool:
    """Tell whether a network gives some answers but for some roundings of the coarsest dtype."""
    return not any(_distant(a, run(network, a.case)) for a in answers)


def distant(network: Network, a: Response, rounding: SubjectRounding) -> set[str]:
    """Return arrays that a network misses by far more than bounds allow, without these: in a third of the time.

    With roundings of 16 bits, bounds may be as large, and none is returned.
    """
    coarse = rounding.u > FORMATS["float32"].u
    return set() if coarse else _distant(a, run(network, a.case, None, states_of(network, a)))


def _distant(a: Response, made: Mapping[str, Numbers]) -> set[str]:
    def misses(actual: Floats, expected: Floats) -> bool:
        least = COARSE_ERROR * np.abs(expected).max(initial=0) + a.rounded
        return not np.abs(actual - expected).max(initial=0) <= least

    return {name for name, v in made.items() if name in a.arrays and misses(a.arrays[name], values_of(v))}


def differing(a: Response, made: Mapping[str, Numbers], rounding: SubjectRounding) -> set[str]:
    """Return the arrays of an answer that are not those which a network gives."""
    largest = FORMATS[a.case.config.plain.dtype].largest
    wrong: set[str] = set()
    with np.errstate(all="ignore"):
        # NaN is within nothing
        overflows = not all(np.abs(values_of(v)).max(initial=0) <= OVERFLOWS * largest for v in made.values())
        for name, array in a.arrays.items():
            if name not in made:
                continue
            ball = made[name]
            value, error = (ball.value, ball.error) if isinstance(ball, Ball) else (ball, np.zeros(np.shape(ball)))
            close = (np.abs(array - value) <= error + rounding.eta + a.rounded) | ~np.isfinite(error + np.abs(value))
            beyond = ~np.isfinite(array) | (np.abs(value) > OVERFLOWS * largest)  # relu may make 0 of inf - inf
            if not (close | (beyond & overflows)).all():
                wrong.add(name)
    return wrong


def matched(made: Mapping[str, Numbers], a: Response, noise: float) -> int:
    """Return how many of an answer's numbers a network makes; among far too large ones, small numbers match nothing."""
    pairs = [(array, values_of(made[name])) for name, array in a.arrays.items() if name in made]
    near = (np.abs(array - value) <= 1024 * noise * np.abs(array).max(initial=0) for array, value in pairs)
    return sum(int(np.count_nonzero(array)) for array in near)


def states_of(network: Network, a: Response) -> dict[Place, Floats] | None:
    """Return the states of a single layer, if an answer has them, and the network returns them in their place.

    Where the output has the state before each step, h_n has the last one.
    """
    models = [model for model in (network.first, network.above, network.reverse) if model is not None]
    in_place = network.wiring.put("carries", False) == OWN_WIRING
    before = replace(LayerModel(), written="h[t-1]")
    if a.shorter is None and all(
        all(getattr(model, name) == getattr(before, name) for name in RETURN_FIELDS) for model in models
    ):
        states = a.states if in_place and not network.transforms and "h_n" in a.arrays else None
        return states and {(0, d): np.concatenate([h[1:], a.arrays["h_n"][[d]]]) for (_, d), h in states.items()}
    plain = all(model.written in ("h[t]", "s[t]") and model.shown == TermSteps() for model in models)
    plain = plain and not any(model.at_zero is not None and model.at_zero.silent for model in models)
    plain = (plain or a.shorter is not None) and in_place and "output" not in network.transforms
    return a.states if plain else None


def fresh_answers(asker: Asker, losses: Sequence[str | None] | None = None, **stack: Any) -> Iterator[Response]:
    """Yield answers on cases that were not asked before, with every loss, of small and of large gradients."""
    losses, starts = (None, *asker.losses) if losses is None else losses, (True, False) if asker.has_hx else (False,)
    for loss, (T, *sizes, scale), hx in product(losses, FRESH_KINDS, starts):
        T = T if LONG_TIMES[-1] > T else asker.long[-1] + 2
        ask = partial(asker.ask, CaseSizes(T, *sizes), FRESH_SEED, hx=hx, loss=loss, scale=scale, **stack)
        if (a := ask()) is None:
            continue
        yield a
        if asker.nonlinearity == "relu":  # of which much is 0 elsewhere
            yield from filter(None, [ask(positive=True)])
        # and large numbers, which leave the range where an activation is nearly linear
        large = draw(a.case.config, "normal", FRESH_SEED)
        grads = {name: v * v.dtype.type(scale) for name, v in large.arrays.items() if name.endswith(".grad")}
        yield from filter(None, [asker.of(Case.from_arrays(large.config, {**large.arrays, **grads}))])
    yield from filter(None, [asker.ask(CaseSizes(SHORT_TIME, 2, 3, 3), FRESH_SEED, blank=True, **stack)])
