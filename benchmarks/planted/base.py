"""base: a fault as data, and the layer with its changes made, on the way there and on the way back.

Where a fault only chooses - another row of hx, another step's output, a transposed weight, zeros - what its numbers are
given goes back to where each of them was taken from. To find out where that is, the choice is made once among numbers
that count the places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, Final, NamedTuple, cast

import numpy as np

from benchmarks.planted.layer import (
    Back,
    Floats,
    Layer,
    Moving,
    Place,
    Read,
    StepWeights,
    Visited,
    at_steps,
    write_steps,
)
from harness.space.case import Case, padding
from harness.space.config import RNNConfig, weight_names

ONE: Final = RNNConfig(1, 1)  # The smallest config of all

# Sizes of which two must be equal for a fault to show: no one of them can be made smaller alone.
TIED: Final = range(2, 130)

Change = Callable[..., Any]
"""Another way to make one of the choices, which are the methods of ``Layer``: ``change(right, *arguments)``.

``right`` makes this fault's choices as they are without it, and all others as they are. A fault with a parameter has it
first: ``change(k, right, *arguments)``.
"""

Changes = Mapping[str, Change]  # Changes by the name of the choice, a method of ``Layer``


@dataclass(frozen=True, eq=False)
class Fault:
    """A mistake in one thing."""

    name: str
    says: str  # The fault for people; it reads on from "the subject". ``{k}`` stands for the parameter.
    changes: Changes
    _: KW_ONLY
    family: str = ""  # The sort of mistake: the file's that the fault stands in
    smallest: tuple[RNNConfig, ...] = ()  # The configs of its minimal cases, of the parameter that is planted
    k: float | None = None  # The value of its parameter, if it has one

    @cached_property
    def layer(self) -> Changed:
        """The layer with this mistake."""
        return Changed(self.layers())

    def layers(self) -> list[Changes]:
        """Return the changes to make, one mapping after the other."""
        if self.k is None:
            return [self.changes]
        return [{name: partial(change, self.k) for name, change in self.changes.items()}]

    def run(self, case: Case) -> dict[str, Floats]:
        """Return the arrays that a layer with this mistake gives, by name."""
        return self.layer.run(case)

    @property
    def sentence(self) -> str:
        """The fault for people, with the value of its parameter."""
        if self.k is None:
            return self.says
        said = self.says.replace("{k}", f"{self.k:g}")
        said = re.sub(r"\b1 (step|unit|input|state|sequence)s\b", r"1 \1", said)
        return re.sub(r"\b(every|the first|the last) 1 ", r"\1 ", said)


class _Without:
    """The choices of a model, without some changes."""

    def __init__(self, model: Layer, before: Mapping[str, Callable[..., Any]]) -> None:
        self._model, self._before = model, before

    def __getattr__(self, name: str) -> Any:
        return self._before[name] if name in self._before else getattr(self._model, name)


class Changed(Layer):
    """The right layer with changes made, the last of which is asked first."""

    def __init__(self, layers: Sequence[Changes]) -> None:
        self.changed = frozenset(name for changes in layers for name in changes)
        for changes in layers:
            right = cast(Layer, _Without(self, {name: getattr(self, name) for name in changes}))
            for name, change in changes.items():
                setattr(self, name, partial(change, right))

    def run(self, case: Case) -> dict[str, Floats]:
        """Return what the right layer returns; the padding is zero, as wherever it is compared."""
        arrays = super().run(case)
        if case.config.lengths is not None:
            hidden = padding(case.config)[..., None]
            arrays |= {name: np.where(hidden, 0.0, arrays[name]) for name in ("output", "readout") if name in arrays}
        return arrays

    def previous_states(
        self, case: Case, layer: int, direction: int, own: Floats, states: Sequence[Floats] | None = None
    ) -> Floats:
        if "reads" not in self.changed:
            return super().previous_states(case, layer, direction, own, states)
        at, visited = (layer, direction), self.visited(case.config)
        previous = np.empty_like(own)
        start = self.initial_state(case, *at) if states is None else self.start(case, *at, states)

        def step(t: int, held: Floats) -> Floats:
            previous[t] = held
            return np.asarray(own[t])

        self.along_time(case.config, direction, start, step, np.empty_like(own), visited=visited)
        return previous

    def back_direction(
        self, case: Case, at: tuple[int, int], g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
    ) -> tuple[Floats, Floats]:
        if "reads" not in self.changed:
            return super().back_direction(case, at, g, g_final, slopes, visited=visited)
        config, order = case.config, self.time_order(case.config, at[1])
        hh = self.weights_back(at, self.step_weights(case, *at)).hh
        given = np.zeros(slopes.shape)
        da = np.empty_like(given)
        owed = np.zeros((len(order) + 1, *given[0].shape), given.dtype)
        write_steps(given, self.final_step_back(config, at[1]), g_final)
        for step, t in reversed(list(enumerate(order))):
            there = np.ones(()) if visited is None else visited[t]
            dh = np.where(there, g[t] + owed[step + 1] + given[t], 0.0)
            da[t] = dh * slopes[t] if self.reaches(config, at[1], step) else 0.0
            owed[step] += np.where(there, 0.0, owed[step + 1])
            for read in self.reads(config, step) if self.flows_back(config, step) else ():
                owed[read + 1] += self.to_previous(da[t], dh, hh)
        return da, owed[0]

    def flows_back(self, config: RNNConfig, step: int) -> bool:
        return super().flows_back(config, step) and ("reads" not in self.changed or bool(self.reads(config, step)))

    def written_back(self, case: Case, layer: int, g: Floats) -> Floats:
        if "written" not in self.changed:
            return super().written_back(case, layer, g)
        numbers = numbered(case.config.replace(hx=False)).case  # where nothing but the states counts
        return adjoint(lambda states: self.written(numbers, layer, states), [g], g)[0]

    def read_back(self, case: Case, at: tuple[int, int], g: Floats, g_below: Sequence[Floats]) -> None:
        if "layer_input" not in self.changed:
            super().read_back(case, at, g, g_below)
            return
        parts = adjoint(lambda *below: self.layer_input(case, *at, below), g_below, g)
        for given, part in zip(g_below, parts, strict=True):
            given += part

    def hx_gradient(self, case: Case, rows: Mapping[tuple[int, int], Floats]) -> Floats:
        config = case.config
        if not config.hx or "hx_row" not in self.changed:
            return super().hx_gradient(case, rows)
        total = np.zeros((len(rows), config.N, config.hidden_size), next(iter(rows.values())).dtype)
        for (layer, d), g in rows.items():
            total += adjoint(partial(self.hx_row, config, layer, d), [total], g)[0]
        return total

    def parameter_gradients(self, case: Case, of_weights: Mapping[tuple[int, int], StepWeights]) -> dict[str, Floats]:
        if "step_weights" not in self.changed:
            return super().parameter_gradients(case, of_weights)
        numbers = numbered(case.config)
        total = np.zeros(numbers.places + 1)
        for at, gradients in of_weights.items():
            for chosen, g in zip(self.step_weights(numbers.case, *at), gradients, strict=True):
                total += summed(chosen, g, numbers.places)
        weights = numbers.case.weights
        names = (name for at in of_weights for name in weight_names(*at, bias=case.config.bias))
        return {f"{name}.grad": total[weights[name].astype(np.intp)] for name in names}


def parameters(
    change: Callable[[StepWeights], StepWeights], where: Callable[[int, int], bool] = lambda _layer, _direction: True
) -> Changes:
    """Change the parameters of some layers and directions."""

    def step_weights(right: Layer, case: Case, layer: int, direction: int) -> StepWeights:
        w = right.step_weights(case, layer, direction)
        return change(w) if where(layer, direction) else w

    return {"step_weights": step_weights}


def without(*names: str) -> Callable[[StepWeights], StepWeights]:
    """Put zeros in the place of some parameters."""
    return lambda w: w._replace(**{name: np.zeros_like(getattr(w, name)) for name in names})


def returned(change: Callable[[Floats], Floats], *starts: str) -> Changes:
    """Change the gradients whose names begin so, or all."""

    def returned_gradient(right: Layer, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        gradient = right.returned_gradient(config, name, gradient)
        return np.asarray(change(gradient)) if not starts or name.startswith(starts) else gradient

    return {"returned_gradient": returned_gradient}


def entering(change: Callable[[Floats, RNNConfig], Floats], *names: str) -> Changes:
    """Change what of da (T, N, H) enters the gradients of some parameters, as ``StepWeights`` names them, or of all."""

    def entering(right: Layer, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        da = right.entering(config, direction, parameter, da)
        return np.asarray(change(da, config)) if not names or StepWeights._fields[parameter] in names else da

    return {"entering": entering}


def added_after_phi(preactivation: Change, to_previous: Change, *names: str) -> Changes:
    """Return the changes of a step that adds some parameters, or their products, to phi(s), but for the sum itself.

    The gradient by the state enters theirs, and not that by the preactivation. The slopes are those at phi(s).
    """

    def slopes(right: Layer, case: Case, at: Place, x: Floats, previous: Floats, own: Floats) -> Floats:
        s = preactivation(right, x, previous, right.step_weights(case, *at))
        return right.slopes(case, at, x, previous, right.activation(s, right.nonlinearity(case.config, at[0])))

    def back_through(
        right: Layer, case: Case, at: Place, read: Read, given: tuple[Floats, Floats], *, visited: Visited | None
    ) -> Back:
        config, (x, previous, own) = case.config, read
        back = right.back_through(case, at, read, given, visited=visited)
        da, _ = right.back_direction(case, at, *given, slopes(right, case, at, *read), visited=visited)
        hh = right.weights_back(at, right.step_weights(case, *at)).hh
        whole = given[0] + np.zeros(da.shape)
        last = right.final_step_back(config, at[1])
        write_steps(whole, last, at_steps(whole, last) + given[1])

        def step(t: int, later: Moving | None) -> Moving:
            return (whole[t] if later is None else whole[t] + to_previous(right, later[1], later[0], hh)), da[t]

        dh = np.empty_like(whole)
        right.back_along_time(config, at[1], step, (dh, np.empty_like(da)), visited=visited)
        beside = (x, right.remembered(config, at[1], previous, own))
        of_states = right.weight_gradients(config, at[1], dh, beside)
        return back._replace(weights=back.weights._replace(**{name: getattr(of_states, name) for name in names}))

    return {"preactivation": preactivation, "slopes": slopes, "back_through": back_through}


def above_first(layer: int, _direction: int) -> bool:
    """Tell if a layer stands above the first."""
    return layer > 0


def in_reverse(_layer: int, direction: int) -> bool:
    """Tell if a direction is the reverse one."""
    return direction > 0


class Numbers(NamedTuple):
    """A case whose parameters count their own places from 1 on, and how many there are."""

    case: Case
    places: int


@lru_cache(64)
def numbered(config: RNNConfig) -> Numbers:
    """Count the places of a config's parameters; everything else is zero."""
    plain = config.replace(dtype="float64", loss=None, wrt="all")
    arrays: dict[str, Any] = {}
    count = 0
    for name, spec in plain.weights.items():
        arrays[name] = np.arange(count + 1.0, count + 1 + spec.size).reshape(spec.shape)
        count += spec.size
    x, hx = np.zeros(plain.inputs["x"].shape), np.zeros(plain.inputs["hx"].shape) if plain.hx else None
    return Numbers(Case(plain, x, hx, arrays), count)


def adjoint(select: Callable[..., Floats], like: Sequence[Floats], g: Floats) -> list[Floats]:
    """Return what each place of some arrays is given, where ``select`` takes numbers from them that are given ``g``."""
    counts, start = [], 1.0
    for array in like:
        counts.append(np.arange(start, start + array.size).reshape(array.shape))
        start += array.size
    total = summed(select(*counts), g, int(start) - 1)
    return [total[array.astype(np.intp)] for array in counts]


def summed(places: Floats, g: Floats, count: int) -> Floats:
    """Sum what is given to each place from 0 to ``count``; 0 is no place."""
    chosen = np.asarray(places).astype(np.intp).ravel()
    return np.asarray(np.bincount(chosen, np.asarray(g).ravel(), count + 1), np.float64)


def several(T: int, few: int = 8) -> list[int]:
    """List the numbers below T: the first few, and then powers of two."""
    return [k for k in (*range(1, few + 1), 16, 32, 64, 128) if k < T]
