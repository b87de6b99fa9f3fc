"""choices: the plain differences from torch's layer that a network may have, each of one slot and in one place.

Where a subject can be asked, the coefficients of its sums are solved for. Where a few arrays are all that there is,
they are too few equations, so that the plain choices are tried: a term left out, exchanged, scaled, or at some steps.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, combinations, permutations, product, starmap
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.activations import ACTIVATIONS, TANH, Activation
from harness.diagnosis.identify.gate_back import EdgeChoices, moves_of
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
from harness.diagnosis.identify.layer import FINAL_STATES
from harness.diagnosis.identify.model import (
    ONE,
    RIGHT_GRADIENT_SUMS,
    BlankStep,
    Coef,
    FinalStateGradientEntry,
    GradientClip,
    LayerModel,
    Network,
    StateGradientTerm,
    WeightedTerms,
    needs_square,
)
from harness.diagnosis.identify.model_differences import SUM_PARTS
from harness.diagnosis.identify.step_patterns import EVERY_STEP, NO_STEP, TermSteps
from harness.diagnosis.identify.terms import (
    ARRANGED_TERMS,
    AT,
    GENERAL,
    INDICES,
    INPUT,
    LEFT,
    LINK,
    OF_INPUT,
    RIGHT_SLOPE,
    RIGHT_TERMS,
    SEQUENCE_STARTS,
    SLOPES,
    START,
    STATES_RETURNED,
    of_sequence,
    over_units,
    product_of,
    row_sum,
    transposed,
)
from harness.oracle.bounded_array import Floats
from harness.space.cells import GATE_ORDERS, Polynomial
from harness.space.config import RNNConfig, role_of

SCALES: Final = (2.0, 0.5, -1.0)  # of a term, or of what a function is applied to
SHARES: Final = (0.5, 0.1, 0.9, 0.2, 0.8, 0.25, 0.75, 0.3, 0.7)  # of the old state in a leaky one
HARD: Final = tuple(Activation("hard sigmoid", parameters) for parameters in ((0.2,), (1 / 6,), (0.25,)))
PLAIN_FUNCTIONS: Final = ("sigmoid", "tanh", "relu", "identity")
PLAIN_SLOPES: Final = ("1", "h", "(h > 0)", "s")
PLAIN_TERMS: Final = frozenset((
    *("x[t] @ W_ih", "h[t-1] @ W_hh", "h[t-1]", "x[t]", "1", "b_ih @ W_hh.T", "x[t-1] @ W_ih.T", "x[t+1] @ W_ih.T"),
    *(f"{left}.{right}" for left in ("dh[t]", "g[t]") for right in ("T @ x[t]", "T @ h[t-1]", "sum(0)")),
    *("(da[t].T @ x[t]).T", "da[t].T @ h[t]", "(da[t].T @ h[t-1]).T", "dh[t] @ W_ih", "da[t] @ W_ih.T"),
))  # fmt: skip
TURNED: Final = "h[t-1] @ W_hh"
BUT_FIRST: Final = TermSteps("from", 1)
BUT_LAST: Final = TermSteps("but last", 1)
PLAIN_STEPS: Final = (EVERY_STEP, BUT_FIRST, BUT_LAST)
ENDS: Final = 3  # the steps at an end that a term stands at, or does not, at most
# The steps at which what a term reads exists.
READABLE: Final = {"x[t-1]": BUT_FIRST, "x[t+1]": BUT_LAST, "h[t-2]": BUT_FIRST}
# The sizes that may divide a term of a step, or a gradient.
STEP_SIZES: Final = {"x[t] @ W_ih.T": ("np.sqrt(I)", "I"), "h[t-1] @ W_hh.T": ("np.sqrt(H)", "H")}
GRADIENT_SIZES: Final = ("N", "T", "N * T", "H", "N * H")
# The parameters whose rows may be others together: all, the matrices, the biases, those of x and of h, and each.
ROW_GROUPS: Final = (
    *(OWN_TERMS, OWN_TERMS[::2], OWN_TERMS[1::2], OWN_TERMS[:2], OWN_TERMS[2:]),
    *((name,) for name in OWN_TERMS),
)


class ModelSlot(NamedTuple):
    """A part of a model that may be other than torch's: a field, or more than one if its name is empty."""

    field: str
    choices: Iterable[Any]
    plain: bool | Callable[[Any], bool] = False  # whether they are the plainest: all, none, or those of which it is so
    put: Callable[[Any, Any], Any] = lambda _, choice: choice  # what is there with a choice, given what was

    def is_plain(self, choice: Any) -> bool:
        """Tell whether a choice is one of the plainest."""
        return self.plain(choice) if callable(self.plain) else self.plain

    def changed(self, choice: Any, model: LayerModel) -> Any:
        """Return a model with a choice."""
        if not self.field:
            return self.put(model, choice)
        made: dict[str, Any] = {self.field: self.put(getattr(model, self.field), choice)}
        return replace(model, **made)


class CandidateDifference(NamedTuple):
    """A difference of a network from torch's: whether it is of the way back, and one of the plainest."""

    back: bool
    plain: bool
    apply: Callable[[Network], Network]


def choices(config: RNNConfig, arrays: Mapping[str, Floats]) -> list[CandidateDifference]:
    """Return the choices that may show in the given arrays of a config, the plainest first."""
    if config.gated:
        right = step_of(config.cell)
        forward = [*_gate_slots(right), *_state_slots(right, config)]
        back = [ModelSlot("back", moves_of(right), lambda move: len(move) == 1, _with_edges)]
    else:
        forward, back = [*_step_slots(config)], [*_back_slots(config, arrays)]
    ways = ((False, forward), (True, back if config.loss is not None else []))
    every = [
        (is_back, slot.is_plain(choice), partial(slot.changed, choice))
        for is_back, slots in ways
        for slot in slots
        for choice in slot.choices
    ]
    result = [
        CandidateDifference(is_back, plain, partial(_in_place, place, change))
        for place in _places(config)
        for is_back, plain, change in every
    ]
    if config.bidirectional and not config.gated:
        turned = partial(ModelSlot("written", ()).changed, "h[T-1-t]")
        result.append(CandidateDifference(False, True, partial(_in_place, ("reverse", "reverse"), turned)))
    return sorted(result, key=lambda choice: not choice.plain)


def _places(config: RNNConfig) -> Iterator[tuple[str, str]]:
    """Yield where a network may differ: the model that it has beside the first one then, and which of them it is."""
    yield "", ""
    for second in (*["above"] * (config.num_layers > 1), *["reverse"] * config.bidirectional):
        yield from ((second, second), (second, "first"))


def _in_place(place: tuple[str, str], change: Callable[[LayerModel], Any], network: Network) -> Network:
    second, changed = place
    if not second:
        return network.map(change)
    models: dict[str, Any] = {"first": network.first, second: getattr(network, second) or network.first}
    return replace(network, **models | {changed: change(models[changed])})


def _step_slots(config: RNNConfig) -> Iterator[ModelSlot]:
    """Yield the slots of nn.RNN's step."""
    square, T = config.input_size == config.hidden_size, config.T
    there = {"below": config.num_layers > 1, "beside": config.bidirectional}
    starts = [start for start in SEQUENCE_STARTS if start != "hx" and (config.hx or start.startswith("h_"))]
    starts = [start for start in starts if all(there[which] or which not in start for which in there)]
    yield ModelSlot("start", starts, lambda start: start == "0 * hx")
    names = []
    for name, term in (
        GENERAL | ARRANGED_TERMS
    ).items():  # in a short case, another step that is read may be any of many
        if (square or not term.square) and (not term.other or there.get(term.other, there["below"])):
            names.append(name)
    for right, belongs in SUM_PARTS:
        others = [
            (name, coef)
            for name in names
            if name != right and belongs.search(name)
            for coef in (ONE, *(Coef(when=when) for read, when in READABLE.items() if read in name))
        ]
        yield _sum_slot("step", partial(_sum_with, belongs), right, _coefs(T, STEP_SIZES.get(right, ())), others)
    kinds = [None if kind == config.nonlinearity else ACTIVATIONS[kind] for kind in ACTIVATIONS]
    yield ModelSlot("activation", kinds, lambda kind: kind is None or kind.name in PLAIN_FUNCTIONS)
    for kind, when in product(("identity", "tanh", "relu"), (TermSteps("only", 0), TermSteps("last", 1))):
        if T > 1 and kind != config.nonlinearity:
            yield ModelSlot("otherwise", [((ACTIVATIONS[kind], when),)])
    yield ModelSlot("inside", SCALES)
    own = [right for right, _ in SUM_PARTS if right]
    several = chain.from_iterable(combinations(own, count) for count in range(1, 4))
    yield ModelSlot("", several, lambda names: len(names) == 1, _with_outside)
    yield ModelSlot("", [("h[t-1]", share, factor) for share in SHARES for factor in (1 - share, 1.0)], put=_with_share)
    yield ModelSlot("", [(name, 1.0, 1.0) for name in ("h[t-1]", *["x[t]"] * square)], True, _with_share)
    yield ModelSlot("at_zero", starmap(BlankStep, product(("h[t-1]", "0"), (False, True), (False, True))))
    yield ModelSlot("final", [final for final in FINAL_STATES if final != "h[T-1]"], True)
    far = [name for name in STATES_RETURNED if any(int(k) >= T - 1 for k in re.findall(r"\(t, (?:T-)?(\d+)\)", name))]
    written = [name for name in STATES_RETURNED if name not in {"h[t]", "h[T-1-t]", *far}]
    yield ModelSlot("written", written, lambda name: name == "s[t]")
    for when in _patterns(T):
        yield from (ModelSlot(name, [when]) for name in ("shown", "visited"))


def _back_slots(config: RNNConfig, arrays: Mapping[str, Floats]) -> Iterator[ModelSlot]:
    """Yield the slots of nn.RNN's way back."""
    square, T, right_slope = config.input_size == config.hidden_size, config.T, dict(RIGHT_SLOPE[config.nonlinearity])
    for name in SLOPES if square else [name for name in SLOPES if name not in OF_INPUT]:
        sums = [((name, 1.0),), *[(("1", 1.0), (name, -1.0))] * (name != "1")]
        sums += [((name, 1.0), (f"{name}**2", -1.0))] if f"{name}**2" in SLOPES else []
        yield ModelSlot("slope", [terms for terms in sums if dict(terms) != right_slope], name in PLAIN_SLOPES)
    yield ModelSlot("at", [at for at in AT if at != "t"], True)
    names = [name for name, term in LINK.items() if name != "dh_next[t+1]" and (square or not term.square)]
    links = [(StateGradientTerm(name, sloped),) for name in names for sloped in (True, False)]
    links = [link for link in links if link != LayerModel().links]
    yield ModelSlot(
        "links", [(), *links], lambda of: all(one.term.startswith("da[t+1]") or not one.sloped for one in of)
    )
    yield ModelSlot("own", [((False, ONE),)], True)
    yield ModelSlot("reached", _patterns(T), lambda when: when in PLAIN_STEPS)
    yield ModelSlot("passes", [NO_STEP])
    for k in range(2, T):
        yield ModelSlot("passes", [TermSteps("but every", k)])
        yield ModelSlot("horizon", [k])
    if config.loss != "output":
        ways = (("g", EVERY_STEP), ("g", TermSteps("only", 0)), ("instead", TermSteps("last", 1)))
        yield ModelSlot("entry", [*((FinalStateGradientEntry(how, Coef(when=when)),) for how, when in ways), ()])
    roles = [role for role in RIGHT_GRADIENT_SUMS if any(_is_gradient(name, role) for name in arrays)]
    for some in (("bias_ih", "bias_hh"), *((role,) for role in roles)):
        if {*some} <= {*roles}:
            [(right, _)], others = RIGHT_GRADIENT_SUMS[some[0]], _gradient_terms(some[0], config)
            terms = [(name, ONE) for name in others if name != right]
            yield _sum_slot("gradient_sums", partial(_with_roles, some), right, _coefs(T, GRADIENT_SIZES), terms)
    # Clips that show as one size which several elements of a gradient have, and none more.
    sizes = {name: abs(array).ravel() for name, array in arrays.items() if name.endswith(".grad") and array.size > 1}
    tops = {name: float(size.max()) for name, size in sizes.items() if size.max() and (size == size.max()).sum() > 1}
    parameters = [role for role in roles if role not in ("x", "hx")]
    for top in dict.fromkeys(tops.values()):
        clip = [GradientClip("elements", top)]
        yield from (ModelSlot("limits", clip, True, partial(_with_roles, some)) for some in (roles, parameters))
        clipped = [role for role in roles if any(_is_gradient(name, role) for name in tops)]
        yield from (ModelSlot("limits", clip, put=partial(_with_roles, (role,))) for role in clipped)


def _gate_slots(right: GatedModel) -> Iterator[ModelSlot]:
    """Yield the slots of the gates of a step."""
    letters, _, _, h, b_hh = tuple(letter for letter, _ in right.gates), *OWN_TERMS
    numbers, memory = range(len(letters)), bool(right.memory)
    groups = [*((letter,) for letter in letters), _sigmoids(right), letters]  # that may be otherwise together
    for order in list(permutations(numbers))[1:]:
        known = "".join(letters[order.index(k)] for k in numbers) in GATE_ORDERS
        for names in ROW_GROUPS:
            moved = letters, names, {"block": order.__getitem__}
            yield ModelSlot("gates", [moved], known and names == OWN_TERMS, gates_with)
    for k, block, names in product(numbers, numbers, ROW_GROUPS):
        if block != k:  # one gate alone reads those of another one
            yield ModelSlot("gates", [((letters[k],), names, {"block": block})], put=gates_with)
    for kind in (*ACTIVATIONS.values(), *HARD):
        plain = kind.name in PLAIN_FUNCTIONS or kind in HARD
        yield ModelSlot("gates", [(some, None, {"activation": kind}) for some in groups], plain, gates_with)
        yield ModelSlot("read", [kind] * (memory and kind != TANH), plain)
    yield ModelSlot("gates", [(some, None, {"inside": c}) for c, some in product(SCALES, groups)], put=gates_with)
    for some, name in product(groups, OWN_TERMS):
        yield ModelSlot("gates", [(some, (name,), {})], True, gates_with)
        yield ModelSlot("gates", [(some, (name,), {"coef": coef}) for coef in SCALES], put=gates_with)
    for some in groups:
        yield ModelSlot("gates", [(some, (h,), {"name": TURNED})], True, gates_with)
        yield ModelSlot("gates", [(some, (h,), {"operand": "c"})] * memory, put=gates_with)
    for k, (letter, gate) in enumerate(right.gates):
        more = [(*gate.parts, GateSumTerm("1", k, coef=coef)) for coef in (1.0, -1.0)]
        yield ModelSlot("gates", [((letter,), None, {"parts": parts}) for parts in more], memory, gates_with)
        if reset := next((part.factor for part in gate.parts if part.factor), ""):
            several = chain.from_iterable(combinations(OWN_TERMS, count) for count in range(5))
            put = partial(_gates_with_factor, letter, reset)
            yield ModelSlot("gates", several, lambda names: len(names) in {0, 1, 4}, put)
            before = gate_with(gate, (h,), {"factor": "", "operand": f"{reset} * h"})  # h is multiplied before W_hh
            more = [gate_with(before, (b_hh,), {"factor": factor}).parts for factor in ("", reset)]
            yield ModelSlot("gates", [((letter,), None, {"parts": parts}) for parts in more], True, gates_with)


def _state_slots(right: GatedModel, config: RNNConfig) -> Iterator[ModelSlot]:
    """Yield the slots of the states beside gates: what they are made of, start at, go on as and are returned as."""
    letters, memory = [letter for letter, _ in right.gates], bool(right.memory)
    others = (*letters, "h", *(("c", "c'", "t", "tanh(c)") if memory else ()))
    kept = (*letters, "h", "c", "tanh(c)") if memory else others  # what c' may be made of
    for name, quantities in (("memory", kept), ("mix", others)):
        made = list(_other_products(getattr(right, name), quantities))
        for plain in (True, False):
            yield ModelSlot(name, [terms for terms, is_plain in made if is_plain == plain], plain)
    for name in ("memory", "mix"):
        yield ModelSlot(name, [made for _, _, made in complements(getattr(right, name), _sigmoids(right))], True)
    yield ModelSlot("input", [index for index in X_STEPS if index != right.input], lambda index: index in INDICES)
    states = ("h'", "c'", "t", "h", "c", "zero") if memory else ("h'", "h", "zero")
    for name, quantities in (("starts", (*right.starts, "zero")), ("carried", states), ("returned", states)):
        own: tuple[str, ...] = getattr(right, name)
        for k, value in product(range(len(own)), quantities):
            if value != own[k]:
                yield ModelSlot(name, [(k, value)], value == "zero" and name != "returned", with_index)
        yield ModelSlot(name, [(*own[:-2], *own[:-3:-1])] * memory, True)
    for source in (*["below"] * (config.num_layers > 1), *["beside"] * config.bidirectional):
        ends = tuple(f"{letter}_{source}" for letter in ("h", "c")[: len(right.starts)])
        yield ModelSlot("starts", [ends], True)
        yield ModelSlot("starts", enumerate(ends if len(ends) > 1 else ()), True, with_index)


def _sigmoids(right: GatedModel) -> tuple[str, ...]:
    return tuple(letter for letter, gate in right.gates if gate.activation == SIGMOID)


def _patterns(T: int) -> Iterator[TermSteps]:
    """Yield the steps at which a term may stand where it does not stand at all of them."""
    yield BUT_FIRST  # with one step alone, nothing tells it from never
    if T > 1:
        yield TermSteps("only", 0)
        ends = [1, *range(2, min(T - 1, ENDS + 1))]  # with T - 1, it is the same as 1 from the other end
        yield from (TermSteps(kind, k) for k in ends for kind in ("but last", "last", "first", "from"))
        yield from (TermSteps(kind, k) for k in range(2, min(T, ENDS + 1)) for kind in ("but every", "every"))


def _coefs(T: int, sizes: Sequence[str]) -> list[Coef]:
    """Return the coefficients that a term may have in place of 1."""
    return [*map(Coef, SCALES), *(Coef(scale=size) for size in sizes), *(Coef(when=when) for when in _patterns(T))]


def _sum_slot(
    field: str, put: Callable[[Any, Any], Any], right: str, coefs: Iterable[Coef], others: Iterable[tuple[str, Coef]]
) -> ModelSlot:
    """Return the slot of a sum: it may have no term, torch's with another coefficient, or another one in its place."""

    def plain(terms: WeightedTerms) -> bool:
        return all(coef.when in PLAIN_STEPS if name == right else name in PLAIN_TERMS for name, coef in terms)

    own = [(), *(((right, coef),) for coef in coefs)] if right else []
    return ModelSlot(field, [*own, *((term,) for term in others)], plain, put)


def _gradient_terms(role: str, config: RNNConfig) -> list[str]:
    """Return the terms that the gradient of a role may be made of."""
    square, ends = config.input_size == config.hidden_size, (0, -1) if config.N > 1 else ()
    if role in ("x", "hx"):
        table = INPUT if role == "x" else START
        return [name for name, term in table.items() if (square or not term.square) and ", if " not in name]
    if role.startswith("bias"):
        return [*map(row_sum, LEFT), over_units("da[t]"), *(of_sequence(n, "da[t]") for n in ends)]
    own = "x[t]" if role == "weight_ih" else "h[t-1]"
    names = [*(product_of("da[t]", name) for name in RIGHT_TERMS), *(product_of(left, own) for left in LEFT)]
    names += [transposed(product_of("da[t]", own)), *(of_sequence(n, "da[t]", own) for n in ends)]
    return [name for name in names if square or not needs_square(role, name)]


def _other_products(terms: Polynomial, quantities: Iterable[str]) -> Iterator[tuple[Polynomial, bool]]:
    """Yield a state made of a product less, a factor less or another one; and whether it is plain."""
    for i, (factors, coef) in enumerate(terms):
        rest = (*terms[:i], *terms[i + 1 :])
        yield rest, True
        for j, factor in enumerate(factors):
            less = (*factors[:j], *factors[j + 1 :])
            if less:
                yield (*rest, (less, coef)), True
            for new in quantities:
                if new not in factors:
                    yield (*rest, (tuple(sorted((*less, new))), coef)), factor == "t" and new == "c'"


def _is_gradient(name: str, role: str) -> bool:
    return name.endswith(".grad") and role_of(name) == role


# What becomes of a part of a model by a choice.


def _sum_with(belongs: re.Pattern[str], step: WeightedTerms, terms: WeightedTerms) -> WeightedTerms:
    """Return a step's sum with other terms in one part of it."""

    def part(term: tuple[str, Coef]) -> int:
        return next((i for i, (_, pattern) in enumerate(SUM_PARTS) if pattern.search(term[0])), len(SUM_PARTS))

    return tuple(sorted([*(term for term in step if not belongs.search(term[0])), *terms], key=part))


def _with_outside(model: LayerModel, names: Sequence[str]) -> LayerModel:
    """Return a model with terms of its sum behind the activation."""
    step = tuple(term for term in model.step if term[0] not in names)
    return replace(model, step=step, added=(*model.added, *((name, ONE) for name in names)))


def _with_share(model: LayerModel, choice: tuple[str, float, float]) -> LayerModel:
    """Return a model that adds a share of a term to its activation times a factor."""
    name, share, factor = choice
    return replace(model, added=(*model.added, (name, Coef(share))), activated=factor)


def _with_roles(roles: Iterable[str], own: Mapping[str, Any], choice: Any) -> Mapping[str, Any]:
    return {**own, **dict.fromkeys(roles, choice)}


def with_index(own: tuple[str, ...], choice: tuple[int, str]) -> tuple[str, ...]:
    """Return states of which one is another."""
    k, value = choice
    return (*own[:k], value, *own[k + 1 :])


def _with_edges(back: EdgeChoices, move: EdgeChoices) -> EdgeChoices:
    edges = {edge for edge, _ in move}
    return (*(pair for pair in back if pair[0] not in edges), *move)


Gates = tuple[tuple[str, GateFunction], ...]


def gates_with(gates: Gates, choice: tuple[Sequence[str], Sequence[str] | None, Mapping[str, Any]]) -> Gates:
    """Return gates of which some have other fields, or other terms if these are named."""
    letters, names, changes = choice

    def changed(gate: GateFunction) -> GateFunction:
        return gate._replace(**changes) if names is None else gate_with(gate, names, changes)

    return tuple((letter, changed(gate) if letter in letters else gate) for letter, gate in gates)


def gate_with(gate: GateFunction, names: Sequence[str], changes: Mapping[str, Any]) -> GateFunction:
    """Return a gate with other fields, or functions of those, in some of its terms; without these if none changes."""

    def changed(part: GateSumTerm) -> GateSumTerm:
        return part._replace(**{n: new(getattr(part, n)) if callable(new) else new for n, new in changes.items()})

    parts = (changed(part) if part.name in names else part for part in gate.parts if changes or part.name not in names)
    return gate._replace(parts=tuple(parts))


def _gates_with_factor(letter: str, factor: str, gates: Gates, names: Sequence[str]) -> Gates:
    """Return gates of which one has these terms multiplied by another gate, and no others."""
    plain = gates_with(gates, ((letter,), (*OWN_TERMS, TURNED), {"factor": ""}))
    return gates_with(plain, ((letter,), names, {"factor": factor}))
