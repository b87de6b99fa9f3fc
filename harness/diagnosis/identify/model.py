"""model: a layer as the coefficients of its sums."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

from harness.diagnosis.identify.activations import Activation
from harness.diagnosis.identify.line import function_of
from harness.diagnosis.identify.step_patterns import EVERY_STEP, TermSteps
from harness.diagnosis.identify.terms import INPUT, START, LayerTrace, has_shape, product_of, row_sum
from harness.diagnosis.identify.transform import Transform
from harness.diagnosis.identify.wiring_choices import OWN_WIRING, TWO_BY_TWO, LayersByDirections, Wiring
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np


@cache
def scale_of(text: str) -> Callable[[LayerTrace, int], float]:
    """Return what a scale is at a step: one of ``LOSS_SCALES``, a power of t, or a straight line over the steps."""
    scale = function_of(text or "1", "N", "T", "H", "I", "t")
    return lambda f, t: float(scale(f.N, f.T, f.H, f.F, t))


# What a coefficient may be divided, or multiplied, by.
LOSS_SCALES: Final = {
    text: scale_of(text)
    for text in (
        *("", "N", "T", "N * T", "H", "I", "np.sqrt(H)", "np.sqrt(I)", "np.sqrt(T)", "np.sqrt(N)", "N * H"),
        *("(t + 1)", "(T - t)"),
    )
}
# How far a sequence has gone at a step.
PROGRESS: Final[dict[str, Callable[[int, int], float]]] = {
    text: function_of(text, "t", "T") for text in ("t", "t / T", "t / max(1, T - 1)")
}


class Coef(NamedTuple):
    """A coefficient: a value, what divides or multiplies it, and the steps at which it is not 0."""

    value: float = 1.0
    scale: str = ""
    divides: bool = True
    when: TermSteps = TermSteps()

    def of(self, f: LayerTrace, t: int) -> float:
        """Return the coefficient at step t."""
        if not self.when.at(t, f.T):
            return 0.0
        if not self.scale:
            return self.value
        scale = scale_of(self.scale)(f, t)
        return self.value / scale if self.divides else self.value * scale


WeightedTerms = tuple[tuple[str, Coef], ...]  # the terms of a sum, by name, and their coefficients


ONE: Final = Coef()
DERIVATIVE: Final = "derivative"  # the term of a returned gradient that is the derivative of the way forward


class StateGradientTerm(NamedTuple):
    """A term of dh: what the later step passes on, and whether this step's slope multiplies it."""

    term: str
    sloped: bool
    coef: Coef = ONE


class FinalStateGradientEntry(NamedTuple):
    """How h_n's gradient enters: added to a state's, "g", "instead" of that, or as if a later step had "passed" it."""

    how: str
    coef: Coef


class GradientClip(NamedTuple):
    """A clip: of each element, or of the norm of one array or of all of ``kind`` 'joint norm' together."""

    kind: str  # "elements", "norm", "joint norm", "running sum"
    most: float
    beside: float = 0.0  # what is added to a norm that divides
    over: tuple[str, ...] = ()  # the roles whose gradients a joint norm is taken of; a bias that is one may count once


class BlankStep(NamedTuple):
    """A step at which x is all zeros, of a sequence or of the whole batch: its state, and whether its output is 0."""

    state: str  # "h[t-1]" or "0"
    batch: bool = False
    silent: bool = False


class Extent(NamedTuple):
    """The part of an axis that counts, one of ``COUNT_KINDS``, by a number k. The rest is as if 0."""

    axis: str  # "units", "inputs", "states", "sequences"
    kind: str  # of ``COUNT_KINDS``
    k: int

    @property
    def least(self) -> int:
        """The least size of which some count and others do not."""
        return self.k + 1

    def mask(self, size: int) -> Floats:
        """Return 1 for those that count, and 0 for others."""
        return np.where(COUNT_KINDS[self.kind](np.arange(size), size, self.k), 1.0, 0.0)


# Which counts of some: the first k, those after them, the last k, those before them, and whole blocks of k.
COUNT_KINDS: Final[dict[str, Callable[[Any, int, int], Any]]] = {
    "first": lambda i, size, k: i < k,
    "but first": lambda i, size, k: i >= k,
    "last": lambda i, size, k: i >= size - k,
    "but last": lambda i, size, k: i < size - k,
    "blocks": lambda i, size, k: i < size // k * k,
}


@dataclass(frozen=True)
class LayerModel:
    """What a layer computes. Every field is nn.RNN's unless given; ``None`` stands for what follows the config."""

    activation: Activation | None = None
    inside: float = 1.0  # what multiplies its argument
    otherwise: tuple[tuple[Activation, TermSteps], ...] = ()  # other activations, and the steps that have them
    step: WeightedTerms = tuple((name, ONE) for name in ("x[t] @ W_ih.T", "b_ih", "h[t-1] @ W_hh.T", "b_hh"))
    activated: float = 1.0  # what multiplies the activation
    added: WeightedTerms = ()
    extents: tuple[Extent, ...] = ()  # of the axes that do not count whole
    start: str = "hx"  # what a sequence starts at, of ``SEQUENCE_STARTS``
    final: str = "h[T-1]"
    visited: TermSteps = EVERY_STEP  # the steps that are computed; at others the state stays, and the output is 0
    at_zero: BlankStep | None = None  # what is done at a step at which x is all zeros
    written: str = "h[t]"  # what is returned of each step, of ``STATES_RETURNED``
    shown: TermSteps = EVERY_STEP  # the steps whose output is written; others are 0
    slope: tuple[tuple[str, float], ...] | None = None
    at: str = "t"
    sloped: TermSteps = EVERY_STEP  # the steps whose slope is taken; at others it is 1
    at_kink: float = 0.0  # the slope of relu where the sum is 0
    counted: TermSteps = EVERY_STEP  # the steps whose output's gradient counts
    own: tuple[tuple[bool, Coef], ...] = ((True, ONE),)  # the terms of da by g[t]: with the slope, or without
    links: tuple[StateGradientTerm, ...] = (StateGradientTerm("da[t+1] @ W_hh", True),)
    # How h_n's gradient enters.
    entry: tuple[FinalStateGradientEntry, ...] = (FinalStateGradientEntry("g", Coef(when=TermSteps("last", 1))),)
    reached: TermSteps = EVERY_STEP  # the steps that the way back reaches
    passes: TermSteps = EVERY_STEP  # the steps that are passed something by the step after them
    horizon: int = 0  # the steps that the gradient of a step's output goes back, if that is limited
    step_limit: tuple[str, GradientClip] | None = None  # a clip at each step, of "da", "dh" or "dh_next"
    gradient_sums: Mapping[str, WeightedTerms] = field(
        default_factory=dict
    )  # of returned gradients, by role; others are nn.RNN's
    limits: Mapping[str, GradientClip] = field(default_factory=dict)  # by role

    def readout(self, role: str) -> WeightedTerms:
        """Return the terms of a gradient that is returned."""
        if role == "hx" and role not in self.gradient_sums:
            terms = tuple(
                (link.term.replace("[t+1]", "[0]"), link.coef._replace(when=TermSteps())) for link in self.links
            )
            if terms and all(name in START for name, _ in terms):  # what a step passes to the one before, hx is passed
                return terms
        return self.gradient_sums.get(role, RIGHT_GRADIENT_SUMS[role])


@dataclass(frozen=True)
class Network:
    """The models of a stack: of the first layer, and of the layers above and the reverse direction if these differ.

    ``wiring_choices`` says which layers and directions these are, and what each of them reads and writes.
    """

    first: LayerModel = LayerModel()
    above: LayerModel | None = None
    reverse: LayerModel | None = None
    derived: bool = False
    """True if its gradients are the derivative of its way forward, as autograd takes it. Then of the way back only
    ``passes`` counts, the steps from whose states the gradient goes on, and ``gradient_clipping``."""
    wiring: Wiring = OWN_WIRING
    back: Wiring | None = None
    """The wiring of the way back, if that is not the adjoint of the way forward."""
    transforms: Mapping[str, Transform] = field(default_factory=dict)  # of arrays, before they are returned
    ignores_padding: bool = False  # true if a step in the padding reads zeros, whatever x holds there

    def of(self, layer: int, direction: int, sizes: LayersByDirections = TWO_BY_TWO) -> LayerModel:
        """Return the model of a layer and direction."""
        at = layer, direction
        above = self.above if self.wiring.at_place("above", at, sizes) else None
        reverse = self.reverse if self.wiring.at_place("turned", at, sizes) else None
        if above is None or reverse is None:
            return above or reverse or self.first
        names = [key.name for key in fields(self.first) if getattr(reverse, key.name) != getattr(self.first, key.name)]
        return replace(above, **{name: getattr(reverse, name) for name in names})

    def map(self, change: Callable[[LayerModel], LayerModel]) -> Network:
        """Return the network with each model changed."""
        above, reverse = (None if model is None else change(model) for model in (self.above, self.reverse))
        return replace(self, first=change(self.first), above=above, reverse=reverse)


RIGHT_NETWORK: Final = Network()


RIGHT_GRADIENT_SUMS: Final[dict[str, WeightedTerms]] = {
    "weight_ih": ((product_of("da[t]", "x[t]"), ONE),),
    "weight_hh": ((product_of("da[t]", "h[t-1]"), ONE),),
    "bias_ih": ((row_sum("da[t]"), ONE),),
    "bias_hh": ((row_sum("da[t]"), ONE),),
    "x": (("da[t] @ W_ih", ONE),),
    "hx": (("da[0] @ W_hh", ONE),),
}


ROLES: Final = tuple(RIGHT_GRADIENT_SUMS)


# The shapes of the parameters' gradients.
SHAPES: Final = {"weight_ih": "HF", "weight_hh": "HH", "bias_ih": "H", "bias_hh": "H"}


def needs_square(role: str, name: str) -> bool:
    """Tell whether a term of a gradient has its shape only where input_size = hidden_size."""
    if role in SHAPES:
        return name != DERIVATIVE and not has_shape(name, SHAPES[role])
    return name != DERIVATIVE and (INPUT if role == "x" else START)[name].square


Term = TypeVar("Term", bound=tuple[Any, ...])
OPERAND: Final = re.compile(r"\b(?:x|h|b_ih|b_hh)\b")


def in_order(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Return terms, which begin with their names, in nn.RNN's order, each other one behind that of its operand."""
    right = [name for name, _ in LayerModel().step]
    operands = [OPERAND.findall(name)[0] for name in right]

    def place(term: Term) -> tuple[int, bool]:
        first = next((operand for operand in OPERAND.findall(term[0]) if operand in operands), None)
        return len(right) if first is None else operands.index(first), term[0] not in right

    return tuple(sorted(terms, key=place))
