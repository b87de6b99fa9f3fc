"""parts: faults that are made in a part of the network only.

A part is one direction, the first layer or those above it, some gradients, or all from some unit, step or sequence on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from harness.explain.faults import Fault
from harness.explain.pairs import pair_of
from harness.oracle.reference import Floats, Reference, Steps, StepWeights, Visited
from harness.space.case import Case
from harness.space.config import RNNConfig, weight_names

RIGHT: Final = Reference()

ORDINALS: Final = ("first", "second", "third", "fourth", "fifth")

Place = tuple[int, int]
"""A layer and a direction."""


def parts_of(fault: Fault, config: RNNConfig) -> Iterator[Fault]:
    """Yield the fault in each part in which a case of a config may show it."""
    yield InPlaces(fault, "in the forward direction only", by_direction=0)
    yield InPlaces(fault, "in the first layer only", lambda at: at[0] == 0)
    if config.bidirectional:
        yield InPlaces(fault, "in the reverse direction only", by_direction=1)
    if config.num_layers > 1:
        yield InPlaces(fault, "in the layers above the first only", lambda at: at[0] > 0)
        for layer in range(1, min(config.num_layers, len(ORDINALS))):
            yield InPlaces(fault, f"in the {ORDINALS[layer]} layer only", partial(_of_layer, layer))
        if config.bidirectional:
            yield InPlaces(fault, "in the reverse direction above the first layer only", lambda at: min(at) > 0)
    if config.loss is None:
        return
    if fault.of_each:
        yield InGradients(fault, "the parameters", PARAMETERS)
    if fault.of_each or _of_parameters(fault):
        for name, group in OF_GRADIENTS.items():
            yield InGradients(fault, name, group)
    if fault.of_each:
        for name in ("x", "hx"):
            yield InGradients(fault, name, (name,))


def _of_layer(layer: int, at: Place) -> bool:
    return at[0] == layer


def _of_parameters(fault: Fault) -> bool:
    """Tell whether a fault, right forwards, changes what enters the parameters' gradients, or how it is summed."""
    hooks = ("entering", "weight_gradients")
    return fault.family == "gradients" and any(
        getattr(type(fault), hook) is not getattr(Reference, hook) for hook in hooks
    )


PARAMETERS: Final = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""The beginnings of the parameters' names, in the order of ``StepWeights``."""

OF_GRADIENTS: Final = {
    "both weights": PARAMETERS[:2],
    "both biases": PARAMETERS[2:],
    **{f"{name}": (name,) for name in PARAMETERS},
}
"""The groups of parameters, the widest first."""


def from_places(fault: Fault, first: Mapping[str, int]) -> Iterator[Fault]:
    """Yield the fault in the parts that its first wrong unit, step and sequence suggest.

    A part goes from that place on, or is what full blocks of as many leave over, or is the last place alone. ``first``
    holds the first wrong places on the failing case, by axis. A place that is the first of its axis suggests no part.
    """
    for axis, place in first.items():
        if place:
            named = _NAMED[axis]
            yield InElements(fault, axis, f"from {named} {place} on", partial(_from, place))
            yield InElements(
                fault, axis, f"in the {named}s after the last full block of {place}", partial(_rest, place)
            )
            yield InElements(fault, axis, f"in the last {named} only", _last)


def _from(place: int, size: int) -> Visited:
    return np.arange(size) >= place


def _rest(block: int, size: int) -> Visited:
    full = size // block * block
    return np.arange(size) >= full


def _last(size: int) -> Visited:
    return np.asarray(np.arange(size) == size - 1)


_NAMED: Final = {"unit": "unit", "n": "sequence", "t": "step"}


def together(one: Fault, other: Fault) -> Fault:
    """Return a fault that makes both mistakes at once, where one of them may be made in a part only."""
    for part, rest in ((one, other), (other, one)):
        if isinstance(part, _Part):
            return part.beside(rest)
    return pair_of(one, other)


class _Part(Fault):
    """makes a fault in a part of what it could be made in."""

    stepwise = False

    def __init__(self, fault: Fault, where: str) -> None:
        self.fault, self.where = fault, where
        self.right: Reference = RIGHT
        """The reference, or the other fault, that computes where the fault is not made."""

    def beside(self, other: Fault) -> Fault:
        """Return this fault with another one beside it, which is made wherever it would be made alone.

        That is in the part, outside of it, and in what is neither.
        """
        own = type(self)
        bases = (own,) if isinstance(other, own) else (own, type(other))
        both: _Part = object.__new__(type(own.__name__, bases, {"stepwise": False}))
        both.__dict__.update({**vars(other), **vars(self)})
        both.fault, both.right = together(self.fault, other), other
        return both

    @property
    def sentence(self) -> str:
        return f"{self.fault.sentence}, {self.where}"

    def lines(self, config: RNNConfig) -> tuple[str, str] | None:
        return self.fault.lines(config)

    def concerned(self, config: RNNConfig) -> list[str]:
        return self.fault.concerned(config)


class InPlaces(_Part):
    """makes a fault in some layers or directions only."""

    def __init__(
        self, fault: Fault, where: str, made: Callable[[Place], bool] | None = None, by_direction: int | None = None
    ) -> None:
        super().__init__(fault, where)
        self._made = made or (lambda at: at[1] == by_direction)
        self._by_direction = by_direction

    def concerned(self, config: RNNConfig) -> list[str]:
        places = ((layer, d) for layer in range(config.num_layers) for d in range(config.num_directions))
        made = {name for at in places if self._made(at) for name in weight_names(*at, bias=config.bias)}
        return [name for name in super().concerned(config) if name in made]

    def _of(self, layer: int, direction: int) -> Reference:
        return self.fault if self._made((layer, direction)) else self.right

    def _of_direction(self, direction: int) -> Reference:
        return self.fault if direction == self._by_direction else self.right

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        return self._of(layer, direction).step_weights(case, layer, direction)

    def initial_state(self, case: Case, layer: int, direction: int) -> Floats:
        return self._of(layer, direction).initial_state(case, layer, direction)

    def start(self, case: Case, layer: int, direction: int, states: Sequence[Floats]) -> Floats:
        return self._of(layer, direction).start(case, layer, direction, states)

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        return self._of(layer, direction).layer_input(case, layer, direction, below)

    def time_order(self, config: RNNConfig, direction: int) -> Sequence[int]:
        return self._of_direction(direction).time_order(config, direction)

    def final_step(self, config: RNNConfig, direction: int) -> Steps:
        return self._of_direction(direction).final_step(config, direction)

    def run_direction(
        self, case: Case, at: Place, x: Floats, start: Floats, states: Floats, *, visited: Visited | None
    ) -> None:
        own = self._of(*at)
        visited = own.visited(case.config)  # as this reference or fault counts the steps
        own.run_direction(case, at, x, start, states, visited=visited)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output = self.right.written(case, layer, states)
        if self._by_direction is None or self._by_direction >= case.config.num_directions:
            return output
        output, part = output.copy(), self.features(case.config, self._by_direction)
        output[..., part] = self.fault.written(case, layer, states)[..., part]
        return output

    def previous_states(
        self, case: Case, layer: int, direction: int, own: Floats, states: Sequence[Floats] | None = None
    ) -> Floats:
        return self._of(layer, direction).previous_states(case, layer, direction, own, states)

    def slopes(self, case: Case, at: Place, x: Floats, previous: Floats, own: Floats) -> Floats:
        return self._of(*at).slopes(case, at, x, previous, own)

    def weights_back(self, at: Place, w: StepWeights) -> StepWeights:
        return self._of(*at).weights_back(at, w)

    def back_direction(
        self, case: Case, at: Place, g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
    ) -> tuple[Floats, Floats]:
        own = self._of(*at)
        visited = own.visited(case.config)
        return own.back_direction(case, at, g, g_final, slopes, visited=visited)

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        return self._of_direction(direction).entering(config, direction, parameter, da)


class InElements(_Part):
    """makes a fault in some units, steps or sequences only; what the others compute, is right."""

    def __init__(self, fault: Fault, axis: str, where: str, made: Callable[[int], Visited]) -> None:
        super().__init__(fault, where)
        self._axis, self._made_at = axis, made

    def run_direction(
        self, case: Case, at: Place, x: Floats, start: Floats, states: Floats, *, visited: Visited | None
    ) -> None:
        config, kind = case.config, self.right.nonlinearity_of(case.config, at[0])
        wrong, right = self.fault.step_weights(case, *at), self.right.step_weights(case, *at)
        made: Visited = self._made_at({"unit": config.hidden_size, "n": config.N, "t": config.T}[self._axis])
        if self._axis == "n":
            made = made[:, None]
        h = start
        for t in self.time_order(config, at[1]):
            off = self.fault.step(x[t], h, wrong, self.fault.nonlinearity_of(config, at[0]))
            new = np.where(made[t] if self._axis == "t" else made, off, self.right.step(x[t], h, right, kind))
            h = new if visited is None else np.where(visited[t], new, h)
            states[t] = new if visited is None else np.where(visited[t], new, 0.0)


class InGradients(_Part):
    """makes a fault in the gradients of some parameters only."""

    def __init__(self, fault: Fault, of: str, names: Sequence[str]) -> None:
        super().__init__(fault, f"of {of} alone")
        self._names = tuple(names)

    def weight_gradients(
        self, config: RNNConfig, direction: int, da: Floats, beside: tuple[Floats, Floats]
    ) -> StepWeights:
        off, right = (one.weight_gradients(config, direction, da, beside) for one in (self.fault, self.right))
        made = (name in self._names for name in PARAMETERS)
        return StepWeights(
            *(pair[0] if here else pair[1] for here, pair in zip(made, zip(off, right, strict=True), strict=True))
        )

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        own = self.fault if name.split("_l", maxsplit=1)[0].removesuffix(".grad") in self._names else self.right
        return own.returned_gradient(config, name, gradient)
