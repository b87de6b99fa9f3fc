"""parts: faults that are made in a part of the network only.

A part is one direction, the first layer or those above it, the outputs that are returned or those that are not, some
gradients, or all from some unit, step or sequence on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np

from harness.diagnosis.faults import Fault
from harness.diagnosis.faults.base import Change, Changes, Place
from harness.diagnosis.pairs import pair_of
from harness.oracle.cell import StepWeights
from harness.oracle.known import Floats
from harness.oracle.reference import Reference
from harness.oracle.unroll import State, Visited
from harness.space.case import Case
from harness.space.config import RNNConfig, weight_names

RIGHT: Final = Reference()

ORDINALS: Final = ("first", "second", "third", "fourth", "fifth")


def parts_of(fault: Fault, config: RNNConfig) -> Iterator[Fault]:
    """Yield the fault in each part in which a case of a config may show it."""
    yield in_direction(fault, 0)
    yield in_layers(fault, "in the first layer only", lambda layer, _d: layer == 0)
    if config.bidirectional:
        yield in_direction(fault, 1)
    if config.num_layers > 1:
        yield in_layers(fault, "in the layers above the first only", lambda layer, _d: layer > 0)
        for layer in range(1, min(config.num_layers, len(ORDINALS))):
            yield in_layers(fault, f"in the {ORDINALS[layer]} layer only", partial(_of_layer, layer))
        if config.bidirectional:
            above = "in the reverse direction above the first layer only"
            yield in_layers(fault, above, lambda layer, d: min(layer, d) > 0)
    if "written" in fault.changes:
        yield in_outputs(fault, "in what is returned only", returned=True)
        if config.num_layers > 1:
            yield in_outputs(fault, "in what the layer above reads only", returned=False)
    if config.loss is None:
        return
    if fault.of_each:
        yield in_gradients(fault, "the parameters", PARAMETERS)
    if fault.of_each or _of_parameters(fault):
        for name, group in OF_GRADIENTS.items():
            yield in_gradients(fault, name, group)
    if fault.of_each:
        for name in ("x", "hx"):
            yield in_gradients(fault, name, (name,))


def _of_layer(chosen: int, layer: int, _direction: int) -> bool:
    return layer == chosen


def _of_parameters(fault: Fault) -> bool:
    """Tell whether a fault that is right forward changes the terms of the parameters' gradients, or their sum."""
    return fault.family == "gradients" and not fault.changes.keys().isdisjoint({"entering", "weight_gradients"})


# The beginnings of the parameters' names, in the order of ``StepWeights``.
PARAMETERS: Final = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

# The groups of parameters, the widest first.
OF_GRADIENTS: Final = {
    "both weights": PARAMETERS[:2],
    "both biases": PARAMETERS[2:],
    **{f"{name}": (name,) for name in PARAMETERS},
}


def from_places(fault: Fault, first: Mapping[str, int]) -> Iterator[Fault]:
    """Yield the fault in the parts that its first wrong unit, step and sequence suggest.

    A part goes from that place on, or is what full blocks of as many leave over, or is the last place alone. ``first``
    holds the first wrong places on the failing case, by axis. A place that is the first of its axis suggests no part.
    """
    for axis, place in first.items():
        if place:
            named = _NAMED[axis]
            yield in_elements(fault, axis, f"from {named} {place} on", partial(_from, place))
            yield in_elements(
                fault, axis, f"in the {named}s after the last full block of {place}", partial(_rest, place)
            )
            yield in_elements(fault, axis, f"in the last {named} only", _last)


def _from(place: int, size: int) -> Visited:
    return np.arange(size) >= place


def _rest(block: int, size: int) -> Visited:
    full = size // block * block
    return np.arange(size) >= full


def _last(size: int) -> Visited:
    return np.asarray(np.arange(size) == size - 1)


_NAMED: Final = {"unit": "unit", "n": "sequence", "t": "step"}


def together(one: Fault, other: Fault) -> Fault:
    """Return a fault that makes both mistakes, even if one of them is made in a part only."""
    for part, rest in ((one, other), (other, one)):
        if isinstance(part, Part):
            return replace(part, beside=rest)
    return pair_of(one, other)


@dataclass(frozen=True, eq=False, kw_only=True)
class Part(Fault):
    """A mistake in a part of what it could be made in."""

    fault: Fault
    where: str
    beside: Fault | None = None  # A mistake that is made everywhere, in the part, too

    def layers(self) -> list[Changes]:
        """Return the changes: those of the mistake beside, and what tells the part from the rest."""
        if self.beside is None:
            return [self.confined(self.fault.reference, RIGHT)]
        within = together(self.fault, self.beside)
        return [*self.beside.layers(), self.confined(within.reference, self.beside.reference)]

    def confined(self, wrong: Reference, right: Reference) -> Changes:
        """Return the changes that ask ``wrong`` in the part, and ``right`` elsewhere."""
        raise NotImplementedError

    @property
    def sentence(self) -> str:
        """The mistake, and its part, for people."""
        return f"{self.fault.sentence}, {self.where}"

    def lines(self, config: RNNConfig) -> tuple[str, str] | None:
        """Return the lines of the mistake."""
        return self.fault.lines(config)

    def concerned(self, config: RNNConfig) -> list[str]:
        """Return the parameters of a config that the mistake gets wrong."""
        return self.fault.concerned(config)


def _part(kind: type[_P], fault: Fault, where: str, **more: Any) -> _P:
    return kind(fault.name, "", {}, family=fault.family, stepwise=False, fault=fault, where=where, **more)


@dataclass(frozen=True, eq=False, kw_only=True)
class InPlaces(Part):
    """A mistake in some layers or directions only."""

    made: Callable[[int, int], bool]
    by_direction: int | None = None  # The direction, where that alone decides

    def concerned(self, config: RNNConfig) -> list[str]:
        """Return the parameters of those places that the mistake gets wrong."""
        places = ((layer, d) for layer in range(config.num_layers) for d in range(config.num_directions))
        made = {name for at in places if self.made(*at) for name in weight_names(*at, bias=config.bias)}
        return [name for name in super().concerned(config) if name in made]

    def confined(self, wrong: Reference, right: Reference) -> Changes:
        """Return the changes that ask ``wrong`` in those places, and ``right`` elsewhere."""

        def of(at: Place) -> Reference:
            return wrong if self.made(*at) else right

        def of_place(choice: str) -> Change:
            return lambda _right, case, layer, d, *rest: getattr(of((layer, d)), choice)(case, layer, d, *rest)

        def of_direction(choice: str) -> Change:
            def change(_right: Reference, config: RNNConfig, d: int, *rest: Any) -> Any:
                return getattr(wrong if d == self.by_direction else right, choice)(config, d, *rest)

            return change

        def weights_back(_right: Reference, at: Place, w: StepWeights) -> StepWeights:
            return of(at).weights_back(at, w)

        def slopes(_right: Reference, case: Case, at: Place, *rest: Floats) -> Floats:
            return of(at).slopes(case, at, *rest)

        def of_steps(choice: str) -> Change:
            def change(_right: Reference, case: Case, at: Place, *rest: Floats, **_visited: Visited | None) -> Any:
                own = of(at)
                return getattr(own, choice)(case, at, *rest, visited=own.visited(case.config))  # as that one counts

            return change

        def written(everywhere: Reference, case: Case, layer: int, states: Floats) -> Floats:
            output = right.written(case, layer, states)
            if self.by_direction is None or self.by_direction >= case.config.num_directions:
                return output
            output, part = output.copy(), everywhere.features(case.config, self.by_direction)
            output[..., part] = wrong.written(case, layer, states)[..., part]
            return output

        def written_back(everywhere: Reference, case: Case, layer: int, g: Floats) -> Floats:
            if self.by_direction is None or self.by_direction >= case.config.num_directions:
                return right.written_back(case, layer, g)
            here, part = np.zeros_like(g), everywhere.features(case.config, self.by_direction)
            here[..., part] = g[..., part]
            back: Floats = right.written_back(case, layer, g - here) + wrong.written_back(case, layer, here)
            return back

        places = ("step_weights", "initial_state", "start", "layer_input", "previous_states")
        directions = ("time_order", "final_step", "entering")
        return {
            **{choice: of_place(choice) for choice in places},
            **{choice: of_direction(choice) for choice in directions},
            **{choice: of_steps(choice) for choice in ("run_direction", "back_direction")},
            "slopes": slopes,
            "weights_back": weights_back,
            "written": written,
            "written_back": written_back,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class InOutputs(Part):
    """A mistake in the last layer's output only, which is returned, or in those of the layers below only."""

    returned: bool

    def confined(self, wrong: Reference, right: Reference) -> Changes:
        """Return the changes that write those outputs as ``wrong`` does, and the others as ``right``."""

        def of(case: Case, layer: int) -> Reference:
            return wrong if (layer == case.config.num_layers - 1) is self.returned else right

        def written(_right: Reference, case: Case, layer: int, states: Floats) -> Floats:
            return of(case, layer).written(case, layer, states)

        def written_back(_right: Reference, case: Case, layer: int, g: Floats) -> Floats:
            return of(case, layer).written_back(case, layer, g)

        return {"written": written, "written_back": written_back}


@dataclass(frozen=True, eq=False, kw_only=True)
class InElements(Part):
    """A mistake in some units, steps or sequences only; the others are computed right."""

    axis: str
    made: Callable[[int], Visited]

    def confined(self, wrong: Reference, right: Reference) -> Changes:
        """Return the change that takes the steps of ``wrong`` in those elements, and of ``right`` elsewhere."""

        def run_direction(
            everywhere: Reference,
            case: Case,
            at: Place,
            x: Floats,
            start: Floats,
            states: Floats,
            *,
            visited: Visited | None,
        ) -> None:
            config, kind = case.config, right.nonlinearity(case.config, at[0])
            of_wrong, of_right = wrong.step_weights(case, *at), right.step_weights(case, *at)
            made: Visited = self.made({"unit": config.hidden_size, "n": config.N, "t": config.T}[self.axis])
            if self.axis == "n":
                made = made[:, None]

            def step(t: int, held: State) -> State:
                off = wrong.step(x[t], held[0], of_wrong, wrong.nonlinearity(config, at[0]))
                here = made[t] if self.axis == "t" else made
                return (np.where(here, off, right.step(x[t], held[0], of_right, kind)),)

            everywhere.along_time(config, at[1], (start,), step, (states,), visited=visited)

        return {"run_direction": run_direction}


@dataclass(frozen=True, eq=False, kw_only=True)
class InGradients(Part):
    """A mistake in the gradients of some parameters only."""

    names: tuple[str, ...]

    def confined(self, wrong: Reference, right: Reference) -> Changes:
        """Return the changes that take those gradients of ``wrong``, and the others of ``right``."""

        def weight_gradients(_right: Reference, *arguments: Any) -> StepWeights:
            off, as_it_should = (one.weight_gradients(*arguments) for one in (wrong, right))
            pairs = zip(PARAMETERS, off, as_it_should, strict=True)
            return StepWeights(*(one if name in self.names else other for name, one, other in pairs))

        def returned_gradient(_right: Reference, config: RNNConfig, name: str, gradient: Floats) -> Floats:
            own = wrong if name.split("_l", maxsplit=1)[0].removesuffix(".grad") in self.names else right
            return own.returned_gradient(config, name, gradient)

        return {"weight_gradients": weight_gradients, "returned_gradient": returned_gradient}


_P = TypeVar("_P", bound=Part)


def in_direction(fault: Fault, direction: int) -> InPlaces:
    """Return the fault in one direction only."""
    named = "in the reverse direction only" if direction else "in the forward direction only"
    return _part(InPlaces, fault, named, made=lambda _layer, d: d == direction, by_direction=direction)


def in_layers(fault: Fault, where: str, made: Callable[[int, int], bool]) -> InPlaces:
    """Return the fault in the layers and directions of which ``made`` says so."""
    return _part(InPlaces, fault, where, made=made)


def in_outputs(fault: Fault, where: str, *, returned: bool) -> InOutputs:
    """Return the fault in the output of the last layer only, or in those of the layers below only."""
    return _part(InOutputs, fault, where, returned=returned)


def in_elements(fault: Fault, axis: str, where: str, made: Callable[[int], Visited]) -> InElements:
    """Return the fault in some elements of an axis, of whose size ``made`` makes a mask."""
    return _part(InElements, fault, where, axis=axis, made=made)


def in_gradients(fault: Fault, of: str, names: Sequence[str]) -> InGradients:
    """Return the fault in the gradients of the parameters whose names begin so."""
    return _part(InGradients, fault, f"of {of} alone", names=tuple(names))
