"""gates: a step with gates as data, and what it computes, forward; its way back is the derivative, on a tape.

A gate is a function of a sum, whose terms are those of nn.RNN's step with one block of rows of each parameter. A state
is a sum of products of gates and states. So GRU and LSTM are rows of a table, and a mistake is another number in one.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from itertools import product
from operator import add, mul
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.activations import IDENTITY, TANH, Activation, Numbers
from harness.diagnosis.identify.autodiff import Var
from harness.diagnosis.identify.ball import Ball
from harness.diagnosis.identify.gather import concatenated, each, stack, together, value_of
from harness.diagnosis.identify.model import RIGHT_NETWORK, LayerModel, Network
from harness.diagnosis.identify.step_patterns import NO_STEP, TermSteps
from harness.diagnosis.identify.terms import (
    INDICES,
    OTHER_STEPS,
    RIGHT_SLOPE,
    SLOPES,
    STATES_RETURNED,
    STEP_TERMS,
    LayerTrace,
    indices,
)
from harness.oracle.pinned_numpy import np
from harness.space.cells import CELL_DEFINITIONS, Polynomial, layer_named
from harness.space.config import RNNConfig

SIGMOID: Final = Activation("sigmoid")


class GateSumTerm(NamedTuple):
    """A term of a gate's sum."""

    name: str  # of ``STEP_TERMS``, where ``h[t-1]`` stands for the operand
    block: int  # the block of rows of its parameter
    operand: str = "h"  # the quantity that is read in the place of h
    factor: str = ""  # the gate that multiplies it
    coef: float = 1.0


class GateFunction(NamedTuple):
    """A function of the sum of some parts; ``inside`` multiplies the sum."""

    activation: Activation
    parts: tuple[GateSumTerm, ...]
    inside: float = 1.0


Edge = tuple[Any, ...]  # what a gradient goes along: a word for its kind, and of what
SlopeTerms = tuple[tuple[str, float], ...]  # the terms of ``SLOPES``, and what multiplies each
SLOPE_OF: Final[dict[Activation, SlopeTerms]] = {
    TANH: RIGHT_SLOPE["tanh"],
    SIGMOID: (("h", 1.0), ("h**2", -1.0)),
}  # of the functions that a cell has
HALF: Final = 0.5
CUT_EDGE: Final = "cut"  # of an edge along which nothing goes

# The steps of x that may be read; a list counts from its end, but not beyond it.
X_STEPS: Final = {name: index for name, index in INDICES.items() if name not in ("t+1", "t-2")}
X_STEPS.update(OTHER_STEPS | indices(["(t + 1) % T"]))
LAST: Final = {"h_n": "h", "c_n": "c"}  # the states after the last step, which only the way back can read
# The states before a step but the first one, where the way back has the last state, as if indices were cyclic, or zero.
CYCLIC: Final = {"h_cyclic": "h", "c_cyclic": "c"}
ZERO_FIRST: Final = {"h_or_zero": "h", "c_or_zero": "c"}
COMPLEMENT: Final = "1 - "  # of a gate, in the name of a quantity
UNPROJECTED: Final = ("h", "zero")  # what has the units of h as they are read

# The kinds of edges, with what they are of: "by": a state, a product in it, and one of its factors; the choice is what
# the state's gradient is multiplied by "slope": a gate or "t"; the choice is its slope "sum": a gate, a term's name,
# and what of it the gradient goes to: its "parameter", "operand" or "factor"; the choice "open" leaves the factor out,
# and another one is the state that a weight's gradient is multiplied by "final": a final state, whose gradient is cut;
# "carry" and "start": a state that is cut between steps, or before them "limit": a state, and the largest modulus of
# the gradient by it at each step "steps": the steps that are gone back over, a ``TermSteps``; "counted": a parameter,
# and those that its gradient is made of "through": "t", whose slope multiplies what c' is passed by the next step, and
# as c_n's gradient, too "scale": a returned gradient's role, and what it is multiplied by


@dataclass(frozen=True)
class GatedModel(LayerModel):
    """A layer whose step has gates.

    The quantities of a step are its gates by their letters, the states before it ``h`` and ``c``, those after it ``h'``
    and ``c'``, those that the sequence starts at ``hx`` and ``cx``, and ``t``, the function ``read`` of ``c'``. What it
    has of a ``LayerModel`` are ``passes``, ``gradient_clipping``, and of ``written`` what names a step.
    """

    cell: str = ""
    gates: tuple[tuple[str, GateFunction], ...] = ()
    memory: Polynomial = ()  # c', if there is one
    limit: float = 0.0  # the largest modulus of the state that is kept from step to step, if that is limited
    read: Activation = TANH
    mix: Polynomial = ()  # h', before its function ``outer``
    outer: Activation = IDENTITY
    starts: tuple[str, ...] = ("hx",)  # what the states start at; ``h_below`` is the last h of the layer below
    carried: tuple[str, ...] = ("h'",)  # what the next step reads as its states
    returned: tuple[str, ...] = ("h'", "h'")  # as the output, and as each final state
    arranged: tuple[str, ...] = ()  # the parameters whose rows are read unit by unit, with all gates of each
    # The step whose derivative the way back is, at the values of this one; None if it is this one's.
    differentiated: "GatedModel | None" = None
    back: tuple[tuple[Edge, Any], ...] = ()  # where the way back is not that derivative, with what is there
    input: str = "t"  # the step of x that a step reads
    reads: tuple[str, ...] = ("h", "c")  # what a step reads as its states: those before it, of the start, or "zero"
    other_model: "GatedModel | None" = None  # what some steps are made by instead
    other_model_steps: TermSteps = NO_STEP  # those steps

    @property
    def kept(self) -> str:
        """The state that gates keep from step to step."""
        return "c" if self.memory else "h"

    @property
    def way_back(self) -> "GatedModel":
        """The model of which the way back is made: its derivative, but for ``back``."""
        own = self.differentiated
        return self if own is None else replace(own, back=self.back, passes=self.passes, limits=self.limits)

    def at_step(self, t: int, T: int) -> "GatedModel":
        """Return the model by which a step is made."""
        return (
            self
            if self.other_model is None or not self.other_model_steps.at(t, T)
            else replace(self.other_model, back=self.back)
        )


PARAMETER_ROLES: Final = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
OWN_TERMS: Final = ("x[t] @ W_ih.T", "b_ih", "h[t-1] @ W_hh.T", "b_hh")


def step_of(cell: str) -> GatedModel:
    """Return the step of a cell with gates."""
    return _step(CELL_DEFINITIONS[cell])


@cache
def _step(own: Any) -> GatedModel:
    functions = {"sigmoid": SIGMOID, "tanh": TANH}
    x, b_ih, h, b_hh = OWN_TERMS

    def parts(block: int, operand: str, factor: str) -> tuple[GateSumTerm, ...]:
        return (
            GateSumTerm(x, block),
            GateSumTerm(b_ih, block),
            GateSumTerm(h, block, operand, factor),
            GateSumTerm(b_hh, block, factor=factor),
        )

    gates = [
        (letter, GateFunction(functions[function], parts(k, *rest)))
        for k, (letter, function, *rest) in enumerate(own.lines)
    ]
    states = ("h'", "c'")[: len(own.final)]
    return GatedModel(
        cell=own.name,
        gates=tuple(gates),
        memory=own.c,
        mix=own.h,
        starts=own.hidden,
        carried=states,
        returned=("h'", *states),
    )


def complements(terms: Polynomial, gates: Iterable[str]) -> Iterator[tuple[str, str, Polynomial]]:
    """Yield a gate in a sum of products, another one or itself, and the sum with 1 - the other in its place."""
    gates = tuple(gates)
    for gate, second in product((name for name in gates if any(name in names for names, _ in terms)), gates):
        made: dict[tuple[str, ...], float] = {}
        for names, coef in terms:
            rest = tuple(name for name in names if name != gate)
            for some, c in (
                ((rest, coef), (tuple(sorted((*rest, second))), -coef)) if gate in names else ((names, coef),)
            ):
                made[some] = made.get(some, 0.0) + c
        exchanged = tuple((names, coef) for names, coef in made.items() if coef)
        if exchanged and not any(len({*names}) < len(names) for names, _ in exchanged):
            yield gate, second, exchanged


def right_of(config: RNNConfig) -> Network:
    """Return the network that torch's layer is, the same one for each definition of a cell."""
    return _right_network(CELL_DEFINITIONS[config.cell]) if config.gated else RIGHT_NETWORK


@cache
def _right_network(own: Any) -> Network:
    return Network(_step(own), derived=True)


def layer_of(network: Network) -> str:
    """Return the name of torch's layer that a network is held against."""
    cell = network.first.cell if isinstance(network.first, GatedModel) else "RNN"
    return layer_named(cell)


class StepEvaluation:
    """The quantities of one step, computed when they are asked for."""

    def __init__(
        self,
        model: GatedModel,
        blocks: list[tuple[Any, ...]],
        x: Any,
        states: Mapping[str, Any],
        forward: "StepEvaluation | None" = None,
    ) -> None:
        """With another evaluation ``forward``, all values are that one's, and only what they are made of is its own."""
        self._model, self._blocks, self._x, self._forward = model, blocks, x, forward
        self._gates, self._back = dict(model.gates), dict(model.back)
        self._known: dict[str, Numbers] = {name: self._with_values(name, v) for name, v in states.items()}
        self._arguments: dict[str, Numbers] = {}  # of the functions
        self._traces: dict[tuple[int, str], LayerTrace] = {}
        self.ends: Mapping[str, Numbers] = {}  # the states after the last step, once that is made
        self.first = False  # whether no step is before this one

    def of(self, name: str) -> Numbers:
        """Return a quantity."""
        if name in LAST:
            return self.ends[LAST[name]]
        if name in CYCLIC:
            return self.ends[CYCLIC[name]] if self.first else self.of(CYCLIC[name])
        if name in ZERO_FIRST:
            before = self.of(ZERO_FIRST[name])
            return before * 0.0 if self.first else before
        if name not in self._known:
            self._known[name] = self._with_values(name, self._made(name))
        return self._known[name]

    def _with_values(self, name: str, v: Any) -> Numbers:
        return v if self._forward is None else valued(self._forward.of(name), v)

    def argument(self, name: str) -> Numbers:
        """Return what the function of a gate, or of what is read of c, is applied to."""
        self.of(name)
        return self._arguments[name]

    def function(self, name: str) -> Activation:
        """Return the function of a gate, of what is read of c, or of h."""
        model = self._model
        return self._gates[name].activation if name in self._gates else model.read if name == "t" else model.outer

    def outward(self, name: str) -> Numbers:
        """Return a quantity as the next step reads it, or the caller."""
        v = self.of(name)
        if name != "c'" or ("through", "t") not in self._back:
            return v
        t: Any = self.of("t")
        [(_, through)] = t.made_of
        return Var(value_of(v), ((v, through),))

    def _made(self, name: str) -> Numbers:
        model = self._model
        if name in self._gates:
            return self._gate(name, self._gates[name])
        if name in ("t", "tanh(c)"):
            return self._function("t", model.read, self.of("c'")) if name == "t" else TANH.of(self.of("c"))
        if name in ("c'", "h'"):
            terms = model.memory if name == "c'" else model.mix
            value = self._sum([self._product(name, names, coef) for names, coef in terms])
            value = value if name == "c'" or model.outer == IDENTITY else self._function("h'", model.outer, value)
            value = limited(value, model.limit) if model.limit and name == f"{model.kept}'" else value
            most = self._back.get(("limit", name[0]))
            return value if most is None else Var(value.value, ((value, lambda g: np.clip(g, -most, most)),))
        if name.startswith(COMPLEMENT):
            return self.of(name.removeprefix(COMPLEMENT)) * -1.0 + 1.0
        left, star, right = name.partition(" * ")
        return self.of(left) * self.of(right) if star else self.of("h") * 0.0

    def part(self, part: GateSumTerm) -> Numbers:
        """Return a term of a gate's sum, without its coefficient."""
        at = part.block, part.operand
        if at not in self._traces:
            self._traces[at] = LayerTrace([self._x], self.of(part.operand), *self._blocks[part.block])
        value = STEP_TERMS[part.name].value(self._traces[at], 0)
        return value * self.of(part.factor) if part.factor else value

    def _gate(self, name: str, gate: GateFunction) -> Numbers:
        s = self._sum([self._term(name, part) for part in gate.parts])
        made = self._function(name, gate.activation, s if gate.inside == 1 else s * gate.inside)
        return _cancelling(made) if gate.activation == TANH and gate.inside == HALF else made

    def _term(self, gate: str, part: GateSumTerm) -> Numbers:
        value = self.part(part)
        choices = {to: self._back.get(("sum", gate, part.name, to)) for to in ("parameter", "operand", "factor")}
        if any(choice is not None for choice in choices.values()) and isinstance(value, Var):
            value = Var(value.value, tuple(self._along(part, choices)))
        return value if part.coef == 1 else value * part.coef

    def _along(self, part: GateSumTerm, choices: Mapping[str, Any]) -> Iterator[tuple[Var, Callable[[Any], Any]]]:
        """Yield what the gradient of a term goes to, and what it is there."""
        blocks, operand = self._blocks[part.block], self.of(part.operand)
        held = [Var(v.value) if isinstance(v, Var) else v for v in (self._x, operand, *blocks)]
        traces = {
            "parameter": LayerTrace(held[:1], held[1], *blocks),
            "operand": LayerTrace([self._x], operand, *held[2:]),
        }
        for to, trace in traces.items():
            inner, by = STEP_TERMS[part.name].value(trace, 0), "" if choices[to] == "open" else part.factor
            if choices[to] not in (None, CUT_EDGE, "open"):
                yield blocks[1], lambda g: self._times(g, part.factor).T @ self.of(choices["parameter"]).value
            elif choices[to] != CUT_EDGE and isinstance(inner, Var):  # a bias that is not there is a number
                yield inner, lambda g, by=by: self._times(g, by)  # type: ignore[misc]
        if part.factor and choices["factor"] != CUT_EDGE:
            yield self.of(part.factor), lambda g: g * value_of(self.part(part._replace(factor="")))

    def _times(self, g: Any, factor: str) -> Any:
        return g * self.of(factor).value if factor else g

    def _function(self, name: str, kind: Activation, s: Numbers) -> Numbers:
        slope: SlopeTerms | None = self._back.get(("slope", name))
        self._arguments[name] = s
        if (forward := self._forward) is not None:
            y, s = value_of(forward.of(name)), valued(forward.argument(name), s)
            same = forward.function(name) == kind
            slope = slope if slope is not None or same else SLOPE_OF[kind]
        if slope is None:
            return kind.of(s)
        y, x = kind.of(s.value) if forward is None else y, s.value
        return Var(y, ((s, lambda g: g * reduce(add, [SLOPES[term](y, x, x, g) * c for term, c in slope])),))

    def _product(self, state: str, names: tuple[str, ...], coef: float) -> Numbers:
        others = {name: self._back.get(("by", state, names, name)) for name in names}
        if not any(choice is not None for choice in others.values()):
            return self.monomial(names, coef)

        def along(name: str) -> Callable[[Any], Any]:
            rest = list(names)
            rest.remove(name)
            by: Any = rest if others[name] is None else others[name]
            return lambda g: reduce(mul, [self.of(key).value for key in by], g * coef)  # c' itself is not made yet

        made = tuple((self.of(name), along(name)) for name in names if others[name] != CUT_EDGE)
        return Var(self.monomial(names, coef).value, made)

    def _sum(self, terms: list[Numbers]) -> Numbers:
        return reduce(add, terms) if terms else 0.0 * self.of("h")

    def monomial(self, names: tuple[str, ...], coef: float = 1.0) -> Numbers:
        """Return a product of quantities."""
        value: Numbers = np.ones((1, 1)) + 0.0 * self.of("h") if not names else self.of(names[0])
        for name in names[1:]:
            value = value * self.of(name)
        return value if coef == 1 else value * coef


def _cancelling(made: Any) -> Any:
    """Return a tanh of half a sum that may have been made as 2 * sigmoid - 1, whose terms of about 1 cancel."""
    ball = value_of(made)
    if not isinstance(ball, Ball):
        return made
    off = ball.error + (ball.rounding.function + 1) * ball.rounding.u
    wider = Ball(ball.value, off, ball.rounding)
    return Var(wider, ((made, lambda g: g),)) if isinstance(made, Var) else wider


def limited(v: Numbers, limit: float) -> Numbers:
    """Return numbers that are cut off at a limit on either side, on the tape, too."""
    if not isinstance(v, Var):
        return np.clip(v, -limit, limit)
    size = np.abs(getattr(v.value, "value", v.value))
    slope: Any = (size <= limit) * 1.0
    if isinstance(v.value, Ball):  # near the limit, another rounding may be on its other side
        slope = Ball(slope, (np.abs(size - limit) <= v.value.error) * 1.0, v.value.rounding)
    return Var(np.clip(v.value, -limit, limit), ((v, lambda g: g * slope),))


def blocks_of(model: GatedModel, *parameters: Any) -> list[tuple[Any, ...]]:
    """Return the rows of each gate, of each parameter."""
    G = len(CELL_DEFINITIONS[model.cell].gates)
    H = parameters[0].shape[0] // G
    by_unit = [role in model.arranged for role in PARAMETER_ROLES]
    return [
        tuple(v[k::G] if some else v[k * H : (k + 1) * H] for v, some in zip(parameters, by_unit, strict=True))
        for k in range(G)
    ]


def rows_of(model: GatedModel, f: LayerTrace, own: Any = None, *, forward_only: bool = False) -> Var:
    """Return what a trace gives: of each step (N, S*H) what is returned beside c', and at last the final states.

    With ``own`` states h, each step reads those, as far as they are what it returns.
    """
    forward, back = replace(model, differentiated=None), model.way_back
    if forward_only or back is model:
        return _rows_of(forward, f, own, forward_only=forward_only)[0]
    rows, steps = _rows_of(replace(forward, back=()), f, own)
    ends = f.ends
    taped, _ = _rows_of(back, f, own, forward=steps)
    f.ends = {name: valued(ends[name], v) for name, v in f.ends.items()}
    return _moved(rows, taped)


def _rows_of(
    model: GatedModel,
    f: LayerTrace,
    own: Any = None,
    *,
    forward_only: bool = False,
    forward: Sequence[StepEvaluation] = (),
) -> tuple[Var, list[StepEvaluation]]:
    own = own if model.returned[0] == model.carried[0] == "h'" and model.written == "h[t]" else None
    letters = ("h", "c")[: len(model.starts)]
    blocks = blocks_of(model, f.W_ih, f.W_hh, f.b_ih, f.b_hh)
    H = blocks[0][0].shape[0]
    P = H if f.W_hr is None else f.W_hr.shape[0]
    starts = dict(zip(("hx", "cx")[: len(letters)], (f.hx[:, :P], f.hx[:, P : P + H]), strict=False))
    others = {"below": f.below, "beside": f.beside}
    ended = {f"{s}_{place}": trace.ends[s] for place, trace in others.items() if trace is not None for s in letters}
    states = {
        letter: (starts | ended).get(name, own_start * (name != "zero"))
        for letter, name, own_start in zip(letters, model.starts, starts.values(), strict=True)
    }
    if forward_only and own is not None and f.W_hr is None and steps_are_apart(model):
        values = [tuple(map(value_of, of)) for of in blocks]
        return _steps_at_once(replace(model, back=()), f, values, states, own), []
    back = dict(model.back)
    reached: TermSteps = back.get(("steps",), TermSteps())
    states |= {name: Var(v.value) for name, v in states.items() if ("start", name) in back}
    begun = {f"{letter}x": v for letter, v in states.items()}
    rows, ends, last, steps = [], list[Any](), dict[str, Any](), list[StepEvaluation]()
    for t in range(f.T):
        here = model.at_step(t, f.T)
        if t and not f.continues_tape(t - 1):
            states = {name: Var(v.value) for name, v in states.items()}
        states |= {name: Var(v.value) for name, v in states.items() if t and ("carry", name) in back}
        uncounted = {edge[1] for edge, when in model.back if edge[0] == "counted" and not when.at(t, f.T)}
        sources = {**states, **begun}
        read = {
            letter: sources.get(name, states[letter] * 0.0) for letter, name in zip(letters, here.reads, strict=False)
        }
        x = f.x[X_STEPS[here.input](t, f.T)]
        made = forward[t] if forward else None
        step, before = StepEvaluation(here, _detached(blocks, uncounted), x, {**begun, **read}, made), states
        steps.append(step)
        output, new, ends = (
            [_placed(step, name, None if k else f.W_hr) for k, name in enumerate(names)]
            for names in (here.returned[:1], here.carried, here.returned[1:])
        )
        if not reached.at(t, f.T):  # what reaches its states goes on to those before
            output, ends = (
                [Var(v.value) for v in output],
                [_moved(v, h) for v, h in zip(ends, before.values(), strict=True)],
            )
            new = [_moved(v, h) for v, h in zip(new, before.values(), strict=True)]
        step.ends, step.first = last, t == 0
        states = dict(zip(letters, new, strict=True))
        states |= {} if own is None else {"h": Var(own[t], ((states["h"], lambda g: g),))}
        rows.append(joined([*output, *new[1:]]))
    rows = [rows[STATES_RETURNED[model.written](t, f.T)] for t in range(f.T)]
    rows.append(joined([Var(v.value) if ("final", k) in back else v for k, v in enumerate(ends)]))
    last |= states
    f.ends = states
    return stack(rows), steps


def parameter_in(name: str) -> str:
    """Return the first parameter that a term reads."""
    return re.sub(r"^.*?([Wb]_\w+).*$", r"\1", name)


def steps_are_apart(model: GatedModel) -> bool:
    """Tell whether the gates of a step read x and h alone, so that given states h make all steps independent."""
    ordered, own = [letter for letter, _ in model.gates], {"h"}
    for _ in ordered:
        own |= {
            letter
            for letter, gate in model.gates
            if all(part.name in OWN_TERMS and own >= _factors(part.operand, part.factor) for part in gate.parts)
        }
    letters = ("h", "c")[: len(model.starts)]
    states = tuple(f"{letter}'" for letter in letters)
    mixed = set[str]().union(*(_factors(*names) for names, _ in model.mix))
    return (
        own.issuperset(ordered)
        and mixed <= {*own, "c", "c'", "t", "tanh(c)"}
        and (model.carried, model.returned, model.reads[: len(letters)]) == (states, ("h'", *states), letters)
        and model.other_model is None
    )


def _factors(*names: str) -> set[str]:
    return {factor.removeprefix(COMPLEMENT) for name in names if name for factor in name.split(" * ")}


def _steps_at_once(
    model: GatedModel, f: LayerTrace, blocks: list[tuple[Any, ...]], states: Mapping[str, Var], own: Any
) -> Var:
    """Return what ``rows_of`` does, off the tape; only c is computed step by step."""
    start, T, N = {name: v.value for name, v in states.items()}, f.T, f.N

    def at(v: Any, t: int) -> Any:
        return v[t * N : (t + 1) * N]

    x = together([value_of(f.x[X_STEPS[model.input](t, T)]) for t in range(T)])
    steps = {"h": together([start["h"], *list(own)[:-1]])}
    gates = StepEvaluation(model, blocks, x, {**steps, "hx": start["h"]})
    steps |= {letter: gates.of(letter) for letter, _ in model.gates}
    if model.memory:
        c = [start["c"]]
        for t in range(T):
            step = {name: at(v, t) for name, v in steps.items()}
            c.append(StepEvaluation(model, blocks, None, {**step, "c": c[-1], "cx": c[0], "hx": start["h"]}).of("c'"))
        steps |= {"c": together(c[:-1]), "c'": together(c[1:])}
    whole = StepEvaluation(model, blocks, x, steps)
    states_after = together([whole.of(name) for name in model.carried], lambda parts: np.concatenate(parts, -1))
    f.ends = {"h": Var(own[T - 1])} | ({"c": Var(at(steps["c'"], T - 1))} if model.memory else {})
    last = at(states_after, T - 1)
    return Var(each(together([states_after, last]), lambda array: array.reshape(T + 1, N, array.shape[-1])))


def _detached(blocks: list[tuple[Any, ...]], roles: Collection[str]) -> list[tuple[Any, ...]]:
    """Return the rows of each gate, those of some parameters off the tape."""

    def of_role(role: str, v: Any) -> Any:
        return Var(v.value) if role in roles and isinstance(v, Var) else v

    return [tuple(map(of_role, PARAMETER_ROLES, block)) for block in blocks] if roles else blocks


def _placed(step: StepEvaluation, name: str, W_hr: Any) -> Any:
    """Return a quantity in the place of a state: in that of h by W_hr, unless it has the units of a projected h."""
    v = step.outward(name)
    return v if W_hr is None or name in UNPROJECTED else v @ W_hr.T


def _moved(v: Any, to: Var) -> Var:
    """Return a number whose gradient goes to another one."""
    return Var(value_of(v), ((to, lambda g: g),))


def valued(by: Any, v: Any) -> Any:
    """Return a number with the value of another one, whose gradient is its own."""
    return _moved(by, v) if isinstance(v, Var) else value_of(by)


def joined(parts: list[Any]) -> Var:
    """Return numbers side by side, on the tape."""
    return concatenated([part if isinstance(part, Var) else Var(part) for part in parts], -1)
