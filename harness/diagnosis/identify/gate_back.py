"""gate_back: the way back of a step with gates: where it is not the derivative of what was found of the way forward.

On the way back each product and function has an edge for each of its operands. What a subject has there instead is
chosen edge by edge: a choice is taken if it brings more of the returned gradients out right, first in a single step of
one sequence, where a bias's gradient shows each gate alone, then in several steps. Large gradients show what is cut
off. It is believed if every number of all these cases comes out right.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, product
from typing import Any, Final

from harness.diagnosis.identify.activations import IDENTITY
from harness.diagnosis.identify.fit import plainest
from harness.diagnosis.identify.gates import (
    COMPLEMENT,
    CUT_EDGE,
    CYCLIC,
    LAST,
    OWN_TERMS,
    ZERO_FIRST,
    Edge,
    GatedModel,
    GateFunction,
    GateSumTerm,
    step_of,
)
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.inquiry import departing, matched, states_of
from harness.diagnosis.identify.model import GradientClip, Network
from harness.diagnosis.identify.network_run import GRADIENT_SCALE, run
from harness.diagnosis.identify.questions import Asker, CaseSizes, Response
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.identify.wiring_choices import TIMES
from harness.oracle.pinned_numpy import np
from harness.space.config import role_of

TARGETS: Final = ("parameter", "operand")  # what a term's gradient goes to, beside its factor
# What of a step a way back by hand may have as torch has it where the way forward does not.
STEP_SLOTS: Final = (
    ("parts",),
    ("activation", "inside"),
    ("memory",),
    ("read",),
    ("mix", "outer"),
    ("limit",),
    ("starts", "carried", "returned", "reads", "input", "written", "other_model", "other_model_steps"),
)
EdgeChoices = tuple[tuple[Edge, Any], ...]  # choices that are made together

_SLOPES: Final = (
    (("h", 1.0), ("h**2", -1.0)),
    (("1", 1.0), ("h**2", -1.0)),
    (("1", 1.0),),
    (("h", 1.0),),
    (("1", 1.0), ("h", -1.0)),
    (("sigmoid(h)", 1.0), ("sigmoid(h)**2", -1.0)),
    (("1", 1.0), ("np.tanh(h)**2", -1.0)),
    (("s", 1.0), ("s**2", -1.0)),
    (("1", 1.0), ("s**2", -1.0)),
    (("h", 1.0), ("h**2", 1.0)),
    (("1", 1.0), ("h**2", 1.0)),
)
GATE_SLOPES: Final = tuple(tuple((name, sign * c) for name, c in slope) for sign in (1.0, -1.0) for slope in _SLOPES)
GATED_ROLES: Final = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "x", "hx", "cx")
CHOICES_IN_A_ROW: Final = 6  # choices that are made one after the other
LARGE_GRADIENT: Final = 1e4
CUT_STEPS: Final = 13  # steps, which show a cut that is made again after up to ten


def differentiated(model: GatedModel) -> Iterator[GatedModel]:
    """Yield the model with steps whose derivative its way back may be: torch's, and torch's in some of its slots.

    Gates keep their blocks of rows, which a way back by hand shares with the way forward.
    """
    right = step_of(model.cell)
    own = dict(model.gates)
    others = {}
    for letter, gate in right.gates:
        [(block, _)] = Counter(part.block for part in own[letter].parts).most_common(1) or [(gate.parts[0].block, 0)]
        others[letter] = gate._replace(parts=tuple(part._replace(block=block) for part in gate.parts))
    if not any("t" in names for names, _ in model.mix):  # c' is what is read of c, then, and may have its own slope
        read = tuple((tuple("t" if name == "c'" else name for name in names), coef) for names, coef in model.mix)
        if read != model.mix:
            yield from differentiated(replace(model, read=IDENTITY, mix=read))
    made = [model]
    for slots in (some for k in range(len(STEP_SLOTS), 0, -1) for some in combinations(STEP_SLOTS, k)):
        names = {name for slot in slots for name in slot}
        gates = tuple(
            (letter, gate._replace(**{name: getattr(others[letter], name) for name in names & {*gate._fields}}))
            for letter, gate in model.gates
        )
        fields = {name: getattr(right, name) for name in names if hasattr(right, name)}
        step = replace(model, gates=gates, **fields)
        if step not in made:
            made.append(step)
            yield replace(model, differentiated=step)


def moves_of(model: GatedModel) -> Iterator[EdgeChoices]:
    """Yield what may be otherwise on the way back."""
    gates = dict(model.gates)
    letters = ("h", "c")[: len(model.starts)]
    # Of what gives the same in a single step, the simpler first: a whole state is cut, and not each of its terms.
    for kind in ("start", "carry"):
        yield tuple(((kind, name), CUT_EDGE) for name in letters)
    for k, name in enumerate(letters):
        yield from (((edge, CUT_EDGE),) for edge in (("final", k), ("start", name), ("carry", name)))
    yield from _product_moves(model)
    for name in (*gates, *(["t"] if model.memory else [])):
        yield from (((("slope", name), slope),) for slope in GATE_SLOPES)
    yield from _sum_moves(gates)
    yield from [((("through", "t"), True),)] * bool(model.memory)
    yield from (((("steps",), TermSteps(kind, k)),) for kind, k in product(("from", "but last", "last"), (1, 2)))
    for role, kind, k in product(GATED_ROLES[:4], ("from", "but last", "first", "last"), (1, 2)):
        yield ((("counted", role), TermSteps(kind, k)),)
    for roles, how in product([*((role,) for role in GATED_ROLES), GATED_ROLES[:4]], GRADIENT_SCALE):
        yield tuple((("scale", role), how) for role in roles)


def _sum_moves(gates: Mapping[str, GateFunction]) -> Iterator[EdgeChoices]:
    """Yield what a term's gradient may be otherwise, to all that it goes to, and to each, of a gate and of several."""

    def moves(terms: Sequence[tuple[str, GateSumTerm]], choices: Sequence[str]) -> Iterator[EdgeChoices]:
        both = [(letter, part, to) for letter, part in terms for to in TARGETS if to == TARGETS[0] or "@" in part.name]
        for choice in choices:
            each = dict.fromkeys(to for _, _, to in both)
            for tos in dict.fromkeys((tuple(each), *((to,) for to in each))):
                yield tuple((("sum", letter, part.name, to), choice) for letter, part, to in both if to in tos)

    every = [(letter, part) for letter, gate in gates.items() for part in gate.parts if part.name != "1"]
    recurrent = [pair for pair in every if pair[1].name == OWN_TERMS[2]]
    reset = [pair for pair in every if pair[1].factor]
    for term in every:
        yield from moves([term], (CUT_EDGE, "open") if term[1].factor else (CUT_EDGE,))
    for several in (reset, *([pair] for pair in reset)):
        yield from moves(several, ("open",) if len(several) > 1 else ())
        yield tuple((("sum", letter, part.name, "factor"), CUT_EDGE) for letter, part in several)
    yield tuple((("sum", letter, part.name, "operand"), CUT_EDGE) for letter, part in recurrent)
    for state in ("h'", "h_n", "h_cyclic"):  # zero at the first step is what is not counted there
        yield tuple((("sum", letter, part.name, "parameter"), state) for letter, part in recurrent)


def _product_moves(model: GatedModel) -> Iterator[EdgeChoices]:
    """Yield what a product's gradient may be multiplied by for that of a factor: less, or another state or gate."""
    exchanged = [("c", "c'"), ("h", "h'"), ("t", "c'"), ("c'", "t"), ("c", "t")]
    exchanged += [(own, name) for names in (LAST, CYCLIC, ZERO_FIRST) for name, own in names.items()]
    for gate in dict(model.gates):
        exchanged += [(gate, COMPLEMENT + gate), *((gate, second) for second in dict(model.gates) if second != gate)]
    for state, terms in (("c'", model.memory), ("h'", model.mix)):
        for names, name in ((several, factor) for several, _ in terms for factor in several):
            rest = tuple(part for part in names if part != name)
            others = [tuple(part for part in rest if part != out) for out in rest]
            others += [tuple(new if part == old else part for part in rest) for old, new in exchanged if old in rest]
            edge = ("by", state, names, name)
            yield from (((edge, choice),) for choice in (CUT_EDGE, *dict.fromkeys(others)))


def find_back(asker: Asker, network: Network) -> Network:
    """Return a network with what its way back is made of, as far as that explains more."""
    model = network.first
    if not isinstance(model, GatedModel) or not asker.losses:
        return network
    stages = [
        [a for loss in asker.losses for a in _answers(asker, (CaseSizes(*sizes),), loss)]
        for sizes in ((1, 1, 3, 2), (3, 1, 3, 2), (3, 2, 3, 2))
    ]
    first, second, third = stages
    # Of those that give as much, the derivative of the step itself, and else that of all of torch's.
    steps = (replace(network, first=step) for step in (model, *differentiated(model)))
    network = max(steps, key=lambda step: sum(_matched(asker, step, a) for a in [*first, *second]))
    network = _search(asker, network, first, [*second, *third])

    def continued(start: Network) -> Network:
        return _search(asker, _search(asker, start, [*first, *second]), [*first, *second, *third])

    answers = [*first, *second, *third]
    result = continued(_cut(asker, network))
    if result.first.passes != network.first.passes and not _all_given(asker, result, answers):  # it may be c's alone
        result = max((result, continued(network)), key=lambda choice: sum(_matched(asker, choice, a) for a in answers))
    return _limited(asker, _uncut(asker, _pruned(asker, result, answers)))


def _all_given(asker: Asker, network: Network, answers: Sequence[Response]) -> bool:
    return not any(departing(network, a, asker.rounding) for a in answers)


def _pruned(asker: Asker, network: Network, answers: Sequence[Response]) -> Network:
    """Return a network without choices that others made needless."""
    for edge, _ in getattr(network.first, "back", ()):
        less = network.map(partial(_without, edge=edge))
        if all(_matched(asker, less, a) == _matched(asker, network, a) for a in answers):
            network = less
    return network


def _without(model: Any, edge: Edge) -> Any:
    return replace(model, back=tuple(pair for pair in model.back if pair[0] != edge))


def _cut(asker: Asker, network: Network) -> Network:
    """Return a network with the pattern of steps between which no gradient goes, if that explains more."""
    long = _long(asker)
    ways = (TermSteps(), TermSteps("never"), *(TermSteps("but every", k) for k in range(2, CUT_STEPS)))
    cut = [replace(network, first=replace(network.first, passes=when)) for when in ways]
    return max(cut, key=lambda candidate: sum(_matched(asker, candidate, a) for a in long))


def _uncut(asker: Asker, network: Network) -> Network:
    """Return a network without a cut that other choices made needless."""
    plain = replace(network, first=replace(network.first, passes=TermSteps()))
    if plain == network:
        return network
    same = all(_matched(asker, plain, a) >= _matched(asker, network, a) for a in _long(asker))
    return plain if same else network


def _long(asker: Asker) -> list[Response]:
    return [a for loss in asker.losses for a in _answers(asker, (CaseSizes(CUT_STEPS, 2, 3, 2),), loss)]


def _answers(asker: Asker, sizes: Sequence[CaseSizes], loss: str, scale: float = 1.0) -> list[Response]:
    with_hx = (True, False) if asker.has_hx else (False,)
    answers = (asker.ask(size, 7, hx=hx, loss=loss, scale=scale) for size in sizes for hx in with_hx)
    return [a for a in answers if a is not None]


def _search(asker: Asker, network: Network, answers: Sequence[Response], longer: Sequence[Response] = ()) -> Network:
    """Return the network with the choices that bring the answers' gradients out right, one after the other.

    Of choices that do so alike, the one is made that brings more numbers of ``longer`` cases out right.
    """
    for _ in range(CHOICES_IN_A_ROW):
        wrong = [a for a in answers if departing(network, a, asker.rounding)]
        model = network.first
        if not wrong or not isinstance(model, GatedModel):
            return network
        shown = [*wrong[:1], *wrong[1:][-1:]]
        least = [_matched(asker, network, a) for a in shown]
        several = ((_matched(asker, choice, shown[0]), choice) for choice in _choices(network, model))
        scored = [  # most bring less of the first case out right, and are tried on no other one
            (matched + sum(_matched(asker, choice, a) for a in shown[1:]), choice)
            for matched, choice in several
            if matched >= least[0]
        ]
        most = max((matched for matched, _ in scored), default=0)
        if most <= sum(least):
            return network
        best = [choice for matched, choice in scored if matched == most]
        if len(best) > 1:
            best.sort(key=lambda choice: sum(_matched(asker, choice, a) for a in (*answers, *longer)), reverse=True)
        network = best[0]
    return network


def _choices(network: Network, model: GatedModel) -> Iterator[Network]:
    for move in moves_of(model.way_back):
        rest = tuple(pair for pair in model.back if pair[0] not in {edge for edge, _ in move})
        yield replace(network, first=replace(model, back=(*rest, *move)))
    yield from (network.map(partial(_without, edge=edge)) for edge, _ in model.back)
    back = network.back or network.wiring
    for time in TIMES:  # the output's gradients may be taken at other steps, and h_n's with them, as its last row
        moved = back.put("forward.writes", time)
        yield from (replace(network, back=wiring) for wiring in (moved, moved.put("forward.final", "T - 1")))


def _matched(asker: Asker, network: Network, a: Response) -> int:
    """Return how many numbers of the gradients a network gives."""
    made = run(network, a.case, None, states_of(network, a))
    return matched({name: v for name, v in made.items() if name.endswith(".grad")}, a, asker.noise)


def _limited(asker: Asker, network: Network) -> Network:
    """Return a network with what cuts large gradients off, element by element."""
    loss = "both" if "both" in asker.losses else asker.losses[0]
    if (limited := _limited_at_steps(asker, network, loss)) is not None:
        return limited
    limits: dict[str, GradientClip] = {}
    for a in _answers(asker, (CaseSizes(3, 2, 3, 2),), loss, LARGE_GRADIENT):
        for name in departing(network, a, asker.rounding):
            most = float(np.abs(a.arrays[name]).max(initial=0))
            if name.endswith(".grad") and most < LARGE_GRADIENT and (np.abs(a.arrays[name]) == most).sum() > 1:
                limits[role_of(name)] = GradientClip("elements", plainest(most, asker.noise))
    return network.map(lambda model: replace(model, limits=limits)) if limits else network


def _limited_at_steps(asker: Asker, network: Network, loss: str) -> Network | None:
    """Return a network with what cuts the gradient by a state off at each step, if that explains large gradients.

    In a single step, all gradients are linear in the limit.
    """
    large = _answers(asker, (CaseSizes(1, 1, 3, 2), CaseSizes(3, 2, 3, 2)), loss, LARGE_GRADIENT)
    model = network.first
    if not isinstance(model, GatedModel) or not any(departing(network, a, asker.rounding) for a in large):
        return None

    def limits(letters: str, most: float) -> Network:
        edges: tuple[tuple[Edge, Any], ...] = tuple((("limit", letter), most) for letter in letters)
        return replace(network, first=replace(model, back=(*model.back, *edges)))

    first = large[0]
    for letters in ("h", "c", "hc") if model.memory else ("h",):
        ones, twos = (
            run(network, first.case, None, states_of(network, first))
            for network in (limits(letters, 1), limits(letters, 2))
        )
        names = [name for name in ones if name.endswith(".grad") and name in first.arrays]
        by_one, by_two, actual = (
            np.concatenate([np.ravel(values_of(made[name])) for name in names]) for made in (ones, twos, first.arrays)
        )
        more = by_two - by_one
        at = np.abs(more).argmax()
        if more[at]:
            limited = limits(letters, plainest(float(1 + (actual[at] - by_one[at]) / more[at]), asker.noise))
            if not any(departing(limited, a, asker.rounding) for a in large):
                return limited
    return None
