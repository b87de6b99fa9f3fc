"""base: what a fault is, and the way back through whatever it rearranges on the way there.

Where a fault only chooses - another row of hx, another step's output, a transposed weight, zeros - what its numbers are
given goes back to where each of them was taken from. To find out where that is, the choice is made once among numbers
that count the places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from harness.explain.faults.lines import filled
from harness.oracle.reference import Floats, Reference, StepWeights, Visited, recalled, write_steps, zeros
from harness.space.case import Case, padding
from harness.space.config import RNNConfig, weight_names

ONE: Final = RNNConfig(1, 1)
"""The smallest config of all."""

_END: Final = re.compile(r"\.(?=\s|$)")
"""Where a sentence ends: a dot within a name is none."""

TIED: Final = range(2, 130)
"""Sizes of which two must be equal for a fault to show: no one of them can be made smaller alone."""


class Fault(Reference):
    """A Reference that is wrong in one way.

    The first sentence of a fault's docstring is its name for people; it reads on from "the subject". A ``k`` in it
    stands for the fault's parameter.

    Faults add up: a class below two of them makes both mistakes, for each calls ``super()``. So a parameter is an
    attribute of the instance, of another name in each class.
    """

    role: ClassVar[str] = ""
    """What the parameters concerned are called, before the layer's suffix."""
    family: ClassVar[str] = ""
    """What sort of mistake it is."""
    code: ClassVar[tuple[str, str] | None] = None
    """The line of NumPy that makes the mistake, and the right one, as in ``lines``; ``None`` where the sentence says it
    better."""
    smallest: ClassVar[tuple[RNNConfig, ...]] = ()
    """The configs of its minimal cases, of the parameter that is planted."""
    stepwise: ClassVar[bool] = True
    """Whether it can be told step by step; else only whole runs can be compared, for what it returns as the output is
    not the state that the next step reads, or is hidden in padding; or what it does to a layer depends on those above,
    or on more than a state."""
    across: ClassVar[bool] = False
    """Whether a sequence begins where another one ends: where no state is known, no step of it can be followed."""
    parameter: ClassVar[tuple[str, float] | None] = None
    """The attribute that holds its parameter, and the value that is planted."""
    of_each: ClassVar[bool] = False
    """Whether ``returned_gradient`` does the same to every gradient by itself, so that it may be done to some only."""

    def __init__(self, **values: float) -> None:
        for cls in type(self).__mro__:
            name, planted = vars(cls).get("parameter") or ("", 0)
            if name:
                setattr(self, name, values.get(name, planted))

    @property
    def value(self) -> float | None:
        """The value of its parameter, if it has one."""
        return None if self.parameter is None else float(getattr(self, self.parameter[0]))

    @property
    def sentence(self) -> str:
        """The fault's name for people."""
        sentence = " ".join(_END.split(type(self).__doc__ or "", maxsplit=1)[0].split())
        if self.value is None:
            return sentence
        said = re.sub(r"\bk\b", f"{self.value:g}", sentence)
        said = re.sub(r"\b1 (step|unit|input|state|sequence)s\b", r"1 \1", said)
        return re.sub(r"\b(every|the first|the last) 1 ", r"\1 ", said)

    def lines(self, config: RNNConfig) -> tuple[str, str] | None:
        """The line that makes the mistake, and nn.RNN's, as a config has them; ``None`` where no line says it."""
        if self.code is None:
            return None
        wrong, right = (filled(line, config.nonlinearity, self.value) for line in self.code)
        return wrong, right

    def values(self, config: RNNConfig) -> Sequence[float]:
        """The values of its parameter that a case of a config can tell apart from each other, or from none."""
        return ()

    def fitted(self, config: RNNConfig) -> list[Fault]:
        """This fault with each parameter that matters in a config."""
        if self.parameter is None:
            return [self]
        return [type(self)(**{self.parameter[0]: value}) for value in self.values(config)]

    def planted(self) -> Fault:
        """This fault as it is planted where the harness itself is measured."""
        return type(self)()

    def concerned(self, config: RNNConfig) -> list[str]:
        """The parameters of a config that the fault gets wrong."""
        return [name for name in config.weights if self.role and name.startswith(self.role)]

    def run(self, case: Case) -> dict[str, Floats]:
        """What a Reference returns; what stands in padding is zero, as wherever it is compared."""
        arrays = super().run(case)
        if case.config.lengths is not None:
            hidden = padding(case.config)[..., None]
            arrays |= {name: np.where(hidden, 0.0, arrays[name]) for name in ("output", "readout") if name in arrays}
        return arrays

    def previous_states(
        self, case: Case, layer: int, direction: int, own: Floats, states: Sequence[Floats] | None = None
    ) -> Floats:
        if not self._changes("reads"):
            return super().previous_states(case, layer, direction, own, states)
        at, visited = (layer, direction), self.visited(case.config)
        previous = np.empty_like(own)
        held = [self.initial_state(case, *at) if states is None else self.start(case, *at, states)]
        for step, t in enumerate(self.time_order(case.config, direction)):
            previous[t] = recalled(held, self.reads(case.config, step))
            held.append(own[t] if visited is None else np.where(visited[t], own[t], held[-1]))
        return previous

    def back_direction(
        self, case: Case, at: tuple[int, int], g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
    ) -> tuple[Floats, Floats]:
        if not self._changes("reads"):
            return super().back_direction(case, at, g, g_final, slopes, visited=visited)
        config, order = case.config, self.time_order(case.config, at[1])
        hh = self.conjugate(self.weights_back(at, self.step_weights(case, *at)).hh)
        given = np.zeros(slopes.shape, np.result_type(g, slopes))
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
        return super().flows_back(config, step) and (not self._changes("reads") or bool(self.reads(config, step)))

    def written_back(self, case: Case, layer: int, g: Floats) -> Floats:
        if not self._changes("written"):
            return super().written_back(case, layer, g)
        numbers = numbered(case.config.replace(hx=False)).case  # where nothing but the states counts
        return adjoint(lambda states: self.written(numbers, layer, states), [g], g)[0]

    def read_back(self, case: Case, at: tuple[int, int], g: Floats, g_below: Sequence[Floats]) -> None:
        if not self._changes("layer_input"):
            super().read_back(case, at, g, g_below)
            return
        parts = adjoint(lambda *below: self.layer_input(case, *at, below), g_below, g)
        for given, part in zip(g_below, parts, strict=True):
            given += part

    def hx_gradient(self, case: Case, rows: Mapping[tuple[int, int], Floats]) -> Floats:
        config = case.config
        if not config.hx or not self._changes("hx_row"):
            return super().hx_gradient(case, rows)
        total = np.zeros((len(rows), config.N, config.hidden_size), next(iter(rows.values())).dtype)
        for (layer, d), g in rows.items():
            total += adjoint(partial(self.hx_row, config, layer, d), [total], g)[0]
        return total

    def parameter_gradients(self, case: Case, of_weights: Mapping[tuple[int, int], StepWeights]) -> dict[str, Floats]:
        if not self._changes("step_weights"):
            return super().parameter_gradients(case, of_weights)
        numbers = numbered(case.config)
        total = zeros(case.config, numbers.places + 1)
        for at, gradients in of_weights.items():
            for chosen, g in zip(self.step_weights(numbers.case, *at), gradients, strict=True):
                total += summed(chosen, g, numbers.places)
        weights = numbers.case.weights
        names = (name for at in of_weights for name in weight_names(*at, bias=case.config.bias))
        return {f"{name}.grad": total[weights[name].astype(np.intp)] for name in names}

    def _changes(self, hook: str) -> bool:
        return getattr(type(self), hook) is not getattr(Reference, hook)


class Numbers(NamedTuple):
    """A case whose parameters count their own places from 1 on, and how many there are."""

    case: Case
    places: int


@lru_cache(64)
def numbered(config: RNNConfig) -> Numbers:
    """The numbers of a config's parameters; everything else is zero."""
    plain = config.replace(dtype="float64", loss=None, wrt="all")
    arrays: dict[str, Any] = {}
    count = 0
    for name, spec in plain.weights.items():
        arrays[name] = np.arange(count + 1.0, count + 1 + spec.size).reshape(spec.shape)
        count += spec.size
    x, hx = np.zeros(plain.inputs["x"].shape), np.zeros(plain.inputs["hx"].shape) if plain.hx else None
    return Numbers(Case(plain, x, hx, arrays), count)


def adjoint(select: Callable[..., Floats], like: Sequence[Floats], g: Floats) -> list[Floats]:
    """What each place of some arrays is given, where ``select`` takes numbers from them that are given ``g``."""
    counts, start = [], 1.0
    for array in like:
        counts.append(np.arange(start, start + array.size).reshape(array.shape))
        start += array.size
    total = summed(select(*counts), g, int(start) - 1)
    return [total[array.astype(np.intp)] for array in counts]


def summed(places: Floats, g: Floats, count: int) -> Floats:
    """The sum of what is given to each place from 0 to ``count``, of which 0 is none."""
    chosen = np.asarray(places).astype(np.intp).ravel()
    if g.dtype.kind != "c":
        return np.asarray(np.bincount(chosen, np.asarray(g).ravel(), count + 1), np.float64)
    parts = [np.bincount(chosen, part.ravel(), count + 1) for part in (g.real, g.imag)]
    return np.asarray(parts[0] + 1j * parts[1])


def several(T: int, few: int = 8) -> list[int]:
    """The numbers below T: the first few, and then powers of two."""
    return [k for k in (*range(1, few + 1), 16, 32, 64, 128) if k < T]
