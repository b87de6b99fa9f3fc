"""choices: the plain differences from nn.RNN that a network may have, each of one slot and in one place.

Where a subject can be asked, the coefficients of its sums are solved for. Where a few arrays are all that there is,
they are too few equations, so that the plain choices are tried: a term left out, exchanged, scaled, or at some steps.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.activations import ACTIVATIONS
from harness.diagnosis.identify.gate_choices import gate_choices
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
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.identify.terms import (
    ARRANGED_TERMS,
    AT,
    GENERAL,
    INPUT,
    LEFT,
    LINK,
    OF_INPUT,
    RIGHT_SLOPE,
    RIGHT_TERMS as OPERANDS,
    SEQUENCE_STARTS,
    SLOPES,
    START,
    STATES_RETURNED,
    STEP_TERMS,
    of_sequence,
    over_units,
    product_of,
    row_sum,
    transposed,
)
from harness.oracle.bounded_array import Floats
from harness.space.config import RNNConfig

ModelChange = Callable[[LayerModel], LayerModel]

TERM_SCALES: Final = (2.0, 0.5, -1.0)
SHARES: Final = (0.5, 0.1, 0.9, 0.2, 0.8, 0.25, 0.75, 0.3, 0.7)  # of the old state in a leaky one
_SCALES: Final = {"x[t] @ W_ih.T": ("np.sqrt(I)", "I"), "h[t-1] @ W_hh.T": ("np.sqrt(H)", "H")}  # that divide a term
_PLAIN: Final = frozenset(
    ("x[t] @ W_ih", "h[t-1] @ W_hh", "h[t-1]", "x[t]", "1", "b_ih @ W_hh.T", "x[t-1] @ W_ih.T", "x[t+1] @ W_ih.T")
)
_BEYOND: Final = {
    "x[t-1]": TermSteps("from", 1),
    "x[t+1]": TermSteps("but last", 1),
    "h[t-2]": TermSteps("from", 1),
}  # where it exists
ENDS: Final = 3  # the steps at an end that a term stands at, or does not, at most


class CandidateDifference(NamedTuple):
    """A difference of a network from nn.RNN: whether it is of the way back, and one of the plainest."""

    back: bool
    plain: bool
    apply: Callable[[Network], Network]


def choices(config: RNNConfig, arrays: Mapping[str, Floats]) -> list[CandidateDifference]:
    """Return the choices that may show in the given arrays of a config, the plainest first."""
    every: list[tuple[bool, bool, Any]] = [(False, *pair) for pair in _forward(config)] if not config.gated else []
    every += [(True, *pair) for pair in _back(config, arrays)] if config.loss is not None and not config.gated else []
    every += gate_choices(config, back=config.loss is not None) if config.gated else []
    result = [CandidateDifference(back, plain, _everywhere(change)) for back, plain, change in every]
    for place in _places(config):
        result += [CandidateDifference(back, plain, _in_place(change, place)) for back, plain, change in every]
    if config.bidirectional and not config.gated:
        result.append(CandidateDifference(False, True, _in_place(_setting("written", "h[T-1-t]"), "reverse")))
    return sorted(result, key=lambda choice: not choice.plain)


def _everywhere(change: ModelChange) -> Callable[[Network], Network]:
    return lambda network: network.map(change)


def _places(config: RNNConfig) -> Iterator[str]:
    if config.num_layers > 1:
        yield from ("above", "first layer")
    if config.bidirectional:
        yield from ("reverse", "forward")


def _in_place(change: ModelChange, place: str) -> Callable[[Network], Network]:
    def made(network: Network) -> Network:
        if place == "above":
            return replace(network, above=change(network.above or network.first))
        if place == "reverse":
            return replace(network, reverse=change(network.reverse or network.first))
        sibling = "above" if place == "first layer" else "reverse"
        rest: dict[str, Any] = {sibling: getattr(network, sibling) or network.first}
        return replace(network, first=change(network.first), **rest)

    return made


def _patterns(T: int) -> Iterator[TermSteps]:
    """Yield the steps at which a term may stand where it does not stand at all of them."""
    yield TermSteps("from", 1)  # with one step alone, nothing tells it from never
    if T > 1:
        yield TermSteps("only", 0)
        ends = [1, *range(2, min(T - 1, ENDS + 1))]  # with T - 1, it is the same as 1 from the other end
        yield from (TermSteps(kind, k) for k in ends for kind in ("but last", "last", "first", "from"))
        yield from (TermSteps(kind, k) for k in range(2, min(T, ENDS + 1)) for kind in ("but every", "every"))


def _coefs(T: int, scales: Sequence[str]) -> Iterator[tuple[bool, Coef]]:
    """Yield the coefficients that a term may have in place of 1, each with whether it is plain."""
    yield from ((True, Coef(value)) for value in TERM_SCALES)
    yield from ((True, Coef(1.0, scale)) for scale in scales)
    yield from ((when in (TermSteps("from", 1), TermSteps("but last", 1)), Coef(when=when)) for when in _patterns(T))


def _fits(name: str, table: Mapping[str, Any], config: RNNConfig) -> bool:
    term = table[name]
    if term.square and config.input_size != config.hidden_size:
        return False
    source = getattr(term, "other", "").partition(" ")[0]
    return not source or (config.bidirectional if source == "beside" else config.num_layers > 1)


def _forward(config: RNNConfig) -> Iterator[tuple[bool, ModelChange]]:
    for start in SEQUENCE_STARTS:
        if start != "hx" and (config.hx or start.startswith("h_")) and _started(start, config):
            yield start == "0 * hx", _setting("start", start)
    yield from _sums(config)
    for kind in ACTIVATIONS:
        change = _setting("activation", None if kind == config.nonlinearity else ACTIVATIONS[kind])
        yield kind in {"tanh", "relu", "identity", "sigmoid"}, change
    for kind, when in product(("identity", "tanh", "relu"), (TermSteps("only", 0), TermSteps("last", 1))):
        if config.T > 1 and kind != config.nonlinearity:
            yield False, _setting("otherwise", ((ACTIVATIONS[kind], when),))
    yield from ((False, _setting("inside", factor)) for factor in TERM_SCALES)
    for count in range(1, 4):
        for some in combinations([right for right, _ in SUM_PARTS if right], count):
            yield count == 1, _outside(some)
    for share in SHARES:
        for factor in (1 - share, 1.0):
            yield False, _leaking((("h[t-1]", Coef(share)),), factor)
    yield True, _leaking((("h[t-1]", ONE),), 1.0)
    if config.input_size == config.hidden_size:
        yield True, _leaking((("x[t]", ONE),), 1.0)
    for state, batch, silent in product(("h[t-1]", "0"), (False, True), (False, True)):
        yield False, _setting("at_zero", BlankStep(state, batch, silent))
    yield from _returned(config)


def _returned(config: RNNConfig) -> Iterator[tuple[bool, ModelChange]]:
    """Yield which steps may be computed, and what may be returned of each."""
    yield from ((True, _setting("final", final)) for final in FINAL_STATES if final != "h[T-1]")
    for written in STATES_RETURNED:
        far = any(int(k) >= config.T - 1 for k in re.findall(r"\(t, (?:T-)?(\d+)\)", written))
        if written not in {"h[t]", "h[T-1-t]"} and not far:
            yield written == "s[t]", _setting("written", written)
    for when in _patterns(config.T):
        yield False, _setting("shown", when)
        yield False, _setting("visited", when)


def _sums(config: RNNConfig) -> Iterator[tuple[bool, ModelChange]]:
    """Yield what each part of the step's sum may be."""
    for right, belongs in SUM_PARTS:
        terms = (*GENERAL, *ARRANGED_TERMS)  # in a short case, another step that is read may be any of many
        others = [name for name in terms if name != right and belongs.search(name) and _fits(name, STEP_TERMS, config)]
        if right:
            yield True, _parted(belongs, ())
            for plain, coef in _coefs(config.T, _SCALES.get(right, ())):
                yield plain, _parted(belongs, ((right, coef),))
        for name in others:
            coefs = [ONE, *(Coef(when=when) for index, when in _BEYOND.items() if index in name)]
            yield from ((name in _PLAIN, _parted(belongs, ((name, coef),))) for coef in coefs)


def _started(start: str, config: RNNConfig) -> bool:
    return ("below" not in start or config.num_layers > 1) and ("beside" not in start or config.bidirectional)


def _setting(name: str, value: Any) -> ModelChange:
    changed: dict[str, Any] = {name: value}
    return lambda model: replace(model, **changed)


def _parted(belongs: Any, terms: WeightedTerms) -> ModelChange:
    """Return what gives one part of the step's sum other terms."""

    def part(name: str) -> int:
        return next((i for i, (_, pattern) in enumerate(SUM_PARTS) if pattern.search(name)), len(SUM_PARTS))

    def made(model: LayerModel) -> LayerModel:
        rest = [term for term in model.step if not belongs.search(term[0])]
        return replace(model, step=tuple(sorted([*rest, *terms], key=lambda term: part(term[0]))))

    return made


def _outside(names: Sequence[str]) -> ModelChange:
    """Return what moves terms of the sum behind the activation."""

    def made(model: LayerModel) -> LayerModel:
        step = tuple(term for term in model.step if term[0] not in names)
        return replace(model, step=step, added=(*model.added, *((name, ONE) for name in names)))

    return made


def _leaking(added: WeightedTerms, factor: float) -> ModelChange:
    return lambda model: replace(model, added=(*model.added, *added), activated=factor)


def _back(config: RNNConfig, arrays: Mapping[str, Floats]) -> Iterator[tuple[bool, ModelChange]]:
    square = config.input_size == config.hidden_size
    yield from _slopes(config)
    yield True, _setting("links", ())
    for name, term in LINK.items():
        for sloped in (True, False):
            links = (StateGradientTerm(name, sloped),)
            if name != "dh_next[t+1]" and (square or not term.square) and links != LayerModel().links:
                yield name.startswith("da[t+1]") or not sloped, _setting("links", links)
    yield True, _setting("own", ((False, ONE),))
    for when in _patterns(config.T):
        yield when in (TermSteps("but last", 1), TermSteps("from", 1)), _setting("reached", when)
    yield False, _setting("passes", TermSteps("never"))
    for k in range(2, config.T):
        yield False, _setting("passes", TermSteps("but every", k))
        yield False, _setting("horizon", k)
    if config.loss != "output":
        for how, when in (("g", TermSteps()), ("g", TermSteps("only", 0)), ("instead", TermSteps("last", 1))):
            yield False, _setting("entry", (FinalStateGradientEntry(how, Coef(when=when)),))
        yield False, _setting("entry", ())
    roles = [
        role for role in RIGHT_GRADIENT_SUMS if any(name.startswith(role) and name.endswith(".grad") for name in arrays)
    ]
    for some in (("bias_ih", "bias_hh"), *((role,) for role in roles)):
        if set(some) <= set(roles):
            yield from _gradient_sums(some, config)
    yield from _limits(arrays, roles)


def _slopes(config: RNNConfig) -> Iterator[tuple[bool, ModelChange]]:
    square, right = config.input_size == config.hidden_size, dict(RIGHT_SLOPE[config.nonlinearity])
    for name in SLOPES:
        sums = [((name, 1.0),), (("1", 1.0), (name, -1.0))]
        sums += [((name, 1.0), (f"{name}**2", -1.0))] if f"{name}**2" in SLOPES else []
        for terms in sums if square or name not in OF_INPUT else ():
            if dict(terms) != right and len(dict(terms)) == len(terms):
                yield name in {"1", "h", "(h > 0)", "s"}, _setting("slope", terms)
    yield from ((True, _setting("at", at)) for at in AT if at != "t")


def _gradient_sums(roles: Sequence[str], config: RNNConfig) -> Iterator[tuple[bool, ModelChange]]:
    """Yield the sums that the gradients of some roles may be."""
    [(right, _)] = RIGHT_GRADIENT_SUMS[roles[0]]
    sums: list[tuple[bool, WeightedTerms]] = [(True, ())]
    sums += [(plain, ((right, coef),)) for plain, coef in _coefs(config.T, ("N", "T", "N * T", "H", "N * H"))]
    square = config.input_size == config.hidden_size
    if roles[0] in ("x", "hx"):
        table = INPUT if roles[0] == "x" else START
        names = [name for name, term in table.items() if (square or not term.square) and ", if " not in name]
    elif roles[0].startswith("bias"):
        names = [*map(row_sum, LEFT), over_units("da[t]")]
        names += [of_sequence(n, "da[t]") for n in (0, -1)] if config.N > 1 else []
    else:
        own = "x[t]" if roles[0] == "weight_ih" else "h[t-1]"
        names = [product_of("da[t]", name) for name in OPERANDS] + [product_of(left, own) for left in LEFT]
        names += [transposed(right), *(of_sequence(n, "da[t]", own) for n in (0, -1) if config.N > 1)]
        names = [name for name in names if square or not needs_square(roles[0], name)]
    plainest = ("da[t].T @ h[t]", "dh[t].", "g[t].", transposed(right), "dh[t] @", "da[t] @ W_ih.T")
    sums += [(name.startswith(plainest), ((name, ONE),)) for name in names if name != right]
    for plain, terms in sums:
        yield plain, _reading(roles, terms)


def _reading(roles: Sequence[str], terms: WeightedTerms) -> ModelChange:
    return lambda model: replace(model, gradient_sums={**model.gradient_sums, **dict.fromkeys(roles, terms)})


def _limits(arrays: Mapping[str, Floats], roles: Sequence[str]) -> Iterator[tuple[bool, ModelChange]]:
    """Yield the clips that show as one size which several elements of a gradient have, and none more."""
    tops: dict[str, float] = {}
    for name, array in arrays.items():
        sizes = abs(array).ravel()
        if name.endswith(".grad") and sizes.size > 1 and sizes.max() and (sizes == sizes.max()).sum() > 1:
            tops[name] = float(sizes.max())
    for top in dict.fromkeys(tops.values()):
        limit, clips = GradientClip("elements", top), [role for role in roles if any(n.startswith(role) for n in tops)]
        yield True, _limiting(roles, limit)
        yield True, _limiting([role for role in roles if role not in ("x", "hx")], limit)
        yield from ((False, _limiting([role], limit)) for role in clips)


def _limiting(roles: Sequence[str], limit: GradientClip) -> ModelChange:
    return lambda model: replace(model, limits={**model.limits, **dict.fromkeys(roles, limit)})
