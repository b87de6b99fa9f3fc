"""gate_choices: the plain differences from torch's that a step with gates may have, each of one slot.

They are tried where a few arrays are all that there is, as those of ``choices`` are of nn.RNN's step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce
from itertools import combinations, permutations, product
from typing import Any, Final

from harness.diagnosis.identify.activations import ACTIVATIONS, TANH, Activation
from harness.diagnosis.identify.gate_back import moves_of
from harness.diagnosis.identify.gates import (
    OWN_TERMS,
    SIGMOID,
    X_STEPS,
    GatedModel,
    GateFunction,
    GateSumTerm,
    complements,
    step_of,
)
from harness.diagnosis.identify.terms import INDICES
from harness.space.cells import GATE_ORDERS, Polynomial
from harness.space.config import RNNConfig

GatedModelChange = Callable[[GatedModel], GatedModel]

GATE_SCALES: Final = (2.0, 0.5, -1.0)
HARD: Final = tuple(Activation("hard sigmoid", parameters) for parameters in ((0.2,), (1 / 6,), (0.25,)))
PLAIN_FUNCTIONS: Final = ("sigmoid", "tanh", "relu", "identity")

# The parameters whose rows may be others together: all, the matrices, the biases, those of x and of h, and each.
ROW_GROUPS: Final = (
    OWN_TERMS,
    OWN_TERMS[::2],
    OWN_TERMS[1::2],
    OWN_TERMS[:2],
    OWN_TERMS[2:],
    *((name,) for name in OWN_TERMS),
)


def gate_choices(config: RNNConfig, *, back: bool) -> Iterator[tuple[bool, bool, GatedModelChange]]:
    """Yield whether a choice is of the way back, whether it is one of the plainest, and what it changes."""
    right = step_of(config.cell)
    for plain, change in (*_rows(right), *_functions(right), *_sums(right), *_states(right), *_moved(right)):
        yield False, plain, change
    for source in (*["below"] * (config.num_layers > 1), *["beside"] * config.bidirectional):
        ends = tuple(f"{letter}_{source}" for letter in ("h", "c")[: len(right.starts)])
        yield False, True, partial(_model_with, starts=ends)
        for k, end in enumerate(ends if len(ends) > 1 else ()):
            yield False, True, _at("starts", k, end)
    for move in moves_of(right) if back else ():
        yield True, len(move) == 1, _going_back(move)


def _going_back(move: Any) -> GatedModelChange:
    edges = {edge for edge, _ in move}
    return lambda model: replace(model, back=(*(pair for pair in model.back if pair[0] not in edges), *move))


def _changing(letters: Sequence[str], change: Callable[[GateFunction], GateFunction]) -> GatedModelChange:
    return lambda model: replace(
        model, gates=tuple((letter, change(gate) if letter in letters else gate) for letter, gate in model.gates)
    )


def _groups(right: GatedModel) -> list[tuple[str, ...]]:
    """Return the gates that may be otherwise together: each, those of one function, and all."""
    letters = [letter for letter, _ in right.gates]
    sigmoids = tuple(letter for letter, gate in right.gates if gate.activation == SIGMOID)
    return [*((letter,) for letter in letters), sigmoids, tuple(letters)]


def _rows(right: GatedModel) -> Iterator[tuple[bool, GatedModelChange]]:
    letters = [letter for letter, _ in right.gates]
    for order in permutations(range(len(letters))):
        if order != tuple(range(len(letters))):
            known = "".join(letters[order.index(k)] for k in range(len(letters))) in GATE_ORDERS
            yield from ((known and names == OWN_TERMS, _ordered(letters, order, names)) for names in ROW_GROUPS)
    for (k, letter), block, names in product(enumerate(letters), range(len(letters)), ROW_GROUPS):
        if block != k:  # one gate alone reads those of another one
            yield False, _parted_in((letter,), names, block=block)


def _ordered(letters: Sequence[str], order: Sequence[int], names: Sequence[str]) -> GatedModelChange:
    def moved(gate: GateFunction) -> GateFunction:
        parts = (p._replace(block=order[p.block]) if p.name in names else p for p in gate.parts)
        return gate._replace(parts=tuple(parts))

    return _changing(letters, moved)


def _functions(right: GatedModel) -> Iterator[tuple[bool, GatedModelChange]]:
    for kind in (*ACTIVATIONS.values(), *HARD):
        plain = kind.name in PLAIN_FUNCTIONS or kind in HARD
        for letters in _groups(right):
            yield plain, _changing(letters, partial(_gate_with, activation=kind))
        if right.memory and kind != TANH:
            yield plain, partial(_model_with, read=kind)
    for factor, letters in product(GATE_SCALES, _groups(right)):
        yield False, _changing(letters, partial(_gate_with, inside=factor))


def _sums(right: GatedModel) -> Iterator[tuple[bool, GatedModelChange]]:
    for letters, name in product(_groups(right), OWN_TERMS):
        yield True, _parted(letters, name)
        yield from ((False, _parted(letters, name, coef=coef)) for coef in GATE_SCALES)
    _, _, h, b_hh = OWN_TERMS
    for letters in _groups(right):
        yield True, _parted(letters, h, name="h[t-1] @ W_hh")
        if right.memory:
            yield False, _parted(letters, h, operand="c")
    for k, (letter, gate) in enumerate(right.gates):
        for coef in (1.0, -1.0):
            more = (*gate.parts, GateSumTerm("1", k, coef=coef))
            yield bool(right.memory), _changing((letter,), partial(_gate_with, parts=more))
        reset = next((p.factor for p in gate.parts if p.factor), "")
        for names in (some for count in range(5) for some in combinations(OWN_TERMS, count)) if reset else ():
            yield len(names) in {0, 1, 4}, _reset((letter,), names, reset)
        for factor in ("", reset) if reset else ():  # h is multiplied before W_hh
            before = _with_parts(gate, h, factor="", operand=f"{reset} * h")
            yield True, _changing((letter,), partial(_gate_with, parts=_with_parts(before, b_hh, factor=factor).parts))


def _gate_with(gate: GateFunction, **changes: Any) -> GateFunction:
    return gate._replace(**changes)


def _model_with(model: GatedModel, /, **changes: Any) -> GatedModel:
    return replace(model, **changes)


def _with_parts(gate: GateFunction, name: str, /, **changes: Any) -> GateFunction:
    """Return a gate whose terms of a name are changed; without changes, it has none of them."""
    parts = (p._replace(**changes) if p.name == name else p for p in gate.parts if changes or p.name != name)
    return gate._replace(parts=tuple(parts))


def _parted(letters: Sequence[str], name: str, /, **changes: Any) -> GatedModelChange:
    return _changing(letters, lambda gate: _with_parts(gate, name, **changes))


def _parted_in(letters: Sequence[str], names: Sequence[str], /, **changes: Any) -> GatedModelChange:
    return _changing(letters, lambda gate: reduce(lambda g, name: _with_parts(g, name, **changes), names, gate))


def _reset(letters: Sequence[str], names: Sequence[str], factor: str) -> GatedModelChange:
    """Return what lets a gate multiply these terms and no others."""
    return _changing(
        letters,
        lambda gate: gate._replace(
            parts=tuple(p._replace(factor=factor if p.name in names else "") for p in gate.parts)
        ),
    )


def _states(right: GatedModel) -> Iterator[tuple[bool, GatedModelChange]]:
    """Yield what the states may be made of: a product less, a factor less or another one, and what adds up to 1."""
    letters = tuple(letter for letter, _ in right.gates)
    others = (*letters, "h", *(("c", "c'", "t", "tanh(c)") if right.memory else ()))
    for name in ("memory", "mix"):
        terms: Polynomial = getattr(right, name)
        for i, (factors, coef) in enumerate(terms):
            rest = (*terms[:i], *terms[i + 1 :])
            yield True, _made_of(name, rest)
            for j, factor in enumerate(factors):
                less = (*factors[:j], *factors[j + 1 :])
                if less:
                    yield True, _made_of(name, (*rest, (less, coef)))
                for new in others if name == "mix" or not right.memory else (*letters, "h", "c", "tanh(c)"):
                    if new not in factors:
                        made = tuple(sorted((*less, new)))
                        yield factor == "t" and new == "c'", _made_of(name, (*rest, (made, coef)))
    sigmoids = [letter for letter, gate in right.gates if gate.activation == SIGMOID]
    for name in ("memory", "mix"):
        yield from ((True, _made_of(name, made)) for _, _, made in complements(getattr(right, name), sigmoids))


def _made_of(name: str, terms: Polynomial) -> GatedModelChange:
    changes: dict[str, Any] = {name: terms}
    return partial(_model_with, **changes)


def _moved(right: GatedModel) -> Iterator[tuple[bool, GatedModelChange]]:
    """Yield what steps of x may be read, and what the states may start at, go on as and be returned as."""
    yield from ((index in INDICES, partial(_model_with, input=index)) for index in X_STEPS if index != right.input)
    new = ("h'", "c'", "t", "h", "c", "zero") if right.memory else ("h'", "h", "zero")
    for name, others in (("starts", (*right.starts, "zero")), ("carried", new), ("returned", new)):
        own: tuple[str, ...] = getattr(right, name)
        for k, value in product(range(len(own)), others):
            if value != own[k]:
                yield value == "zero" and name != "returned", _at(name, k, value)
        if right.memory:
            swapped: dict[str, Any] = {name: (*own[:-2], *own[:-3:-1])}
            yield True, partial(_model_with, **swapped)


def _at(name: str, k: int, value: str) -> GatedModelChange:
    def made(model: GatedModel) -> GatedModel:
        own = getattr(model, name)
        return _model_with(model, **{name: (*own[:k], value, *own[k + 1 :])})

    return made
