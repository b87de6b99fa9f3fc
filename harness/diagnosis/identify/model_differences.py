"""model_differences: where an identified network is not nn.RNN's: a sentence, a line of NumPy, the mend."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Final

from harness.diagnosis.identify.activations import Activation, number
from harness.diagnosis.identify.gate_back_differences import differences as back_differences
from harness.diagnosis.identify.gate_differences import (
    differences as gate_differences,
    lines as gate_lines,
    right_lines,
)
from harness.diagnosis.identify.gates import GatedModel, layer_of
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.mistake import LayerSlot, Mend, Mistake, SlotMistakes, mistakes_in, with_fields_of
from harness.diagnosis.identify.model import (
    DERIVATIVE,
    ONE,
    RIGHT_GRADIENT_SUMS,
    Coef,
    Extent,
    FinalStateGradientEntry,
    GradientClip,
    LayerModel,
    Network,
    WeightedTerms,
    in_order,
)
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.recurrence import lines, slope_of, term
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.identify.terms import (
    GRADIENT_MASKS,
    OF_GRADIENT,
    OF_INPUT,
    SLOPES,
    STATES_RETURNED,
    STEP_TERMS,
    by_last_read,
    factors,
    masked,
    of_sequence,
    over_units,
    transposed,
)
from harness.diagnosis.identify.transform import Transform
from harness.diagnosis.identify.wiring_choices import Wiring
from harness.diagnosis.identify.wiring_differences import WHERE_WORDS, differences, of_roles
from harness.oracle.pinned_numpy import np
from harness.space.config import RNNConfig, role_of
from harness.space.values import draw

# The words for where alone a mistake is made, by those for where it is not.
ELSEWHERE: Final = {
    "in the layers above the first": "in the first layer",
    "in the reverse direction": "in the forward direction",
}


def mistakes_of(network: Network, nonlinearity: str) -> list[Mistake]:
    """Return the mistakes of a network, in the order in which numbers trace."""
    models: dict[str, list[Mistake]] = {
        name: list(_of_model(model, nonlinearity, derived=network.derived))
        for name in ("first", "above", "reverse")
        if (model := getattr(network, name)) is not None
    }
    mistakes = []
    for mistake in dict.fromkeys(chain(*models.values())):
        made = tuple(name for name, own in models.items() if mistake in own)
        others = tuple(name for name in models if name not in made)
        names = {own.variant for name in made for own in models[name] if own == mistake}
        variant = names.pop() if len(names) == 1 else ""  # that of each step that makes it
        words = _where(made, others, network.wiring)
        mistakes.append(replace(mistake, models=made, others=others, words=words, variant=variant))
    for name, way in network.transforms.items():
        if way != Transform():  # else it is not known
            rest = {n: transform for n, transform in network.transforms.items() if n != name}
            mended = partial(replace, transforms=rest)
            mistakes.append(Mistake(way.words(name), f"{name} = {way.line(name)}", rewire=mended))
    layer = layer_of(network)
    mistakes += [replace(mistake, what=mistake.what.replace("nn.RNN", layer)) for mistake in differences(network)]
    return mistakes


def _where(made: Sequence[str], others: Sequence[str], wiring: Wiring) -> str:
    """Return in words where alone a mistake is made; nothing if that is everywhere."""
    where = {"above": WHERE_WORDS[wiring["above"]], "reverse": WHERE_WORDS[wiring["turned"]]}
    if not others:
        return ""
    if "first" in made:
        return ", ".join(ELSEWHERE.get(where[name], f"but not {where[name]}") for name in others)
    return " and ".join(where[name] for name in made)


def _of_model(model: LayerModel, nonlinearity: str, *, derived: bool) -> Iterator[Mistake]:
    made: Iterator[Mistake]
    if isinstance(model, GatedModel):
        made = chain(
            gate_differences(model), mistakes_in(OF_BOTH_MACHINES, model, LayerModel()), back_differences(model)
        )
        own, right = gate_lines(model), right_lines(model)
    else:
        made = _of_elman_layer(model, nonlinearity, derived=derived)
        own, right = lines(model, nonlinearity), lines(LayerModel(), nonlinearity)
    yield from (mistake.with_lines(own, right) for mistake in made)


def _of_elman_layer(model: LayerModel, nonlinearity: str, *, derived: bool) -> Iterator[Mistake]:
    forward = [*mistakes_in(FORWARD, model, LayerModel(), nonlinearity)]
    roles = frozenset() if derived or not forward else _derivatives(model, nonlinearity)
    if roles and len(forward) == 1:  # what mends it, mends its derivative, too
        forward = [replace(forward[0], mend=partial(_mended_with_derivative, mend=forward[0].mend, roles=roles))]
    yield from forward
    # The gradients that are the derivative of the way forward have no mistake of their own.
    back: list[SlotMistakes] = [
        *(() if derived else WAY_IN_SLOTS),
        *(() if derived or roles & STEP_SUMS else WAY_BACK_SLOTS),
        *(() if derived else (STEP_LIMIT,)),
        partial(_gradient_sums, derived=roles),
        _limits,
    ]
    yield from mistakes_in(back, model, LayerModel(), nonlinearity)


@np.errstate(all="ignore")
def _derivatives(model: LayerModel, nonlinearity: str) -> frozenset[str]:
    """Return the roles whose gradients are the derivative of what a wrong way forward gives, and so are no mistake."""
    if any(STEP_TERMS[name].other for name, _ in model.step) or {model.start, model.final} & START_STATES.keys():
        return frozenset()  # it cannot be run alone
    config = RNNConfig(3, 3, nonlinearity=nonlinearity, T=5, N=3, hx=True, loss="both", dtype="float64")
    case = draw(config, "normal", 1)
    entered = with_fields_of(model, LayerModel(), WAY_IN)  # whatever is wrong with the way in
    own, derived = run(Network(entered), case), run(Network(replace(model, gradient_sums={}), derived=True), case)
    same = {n: np.allclose(values_of(own[n]), values_of(derived[n]), 1e-9, 1e-12) for n in config.gradients}
    return frozenset(role_of(n) for n, equal in same.items() if equal)


def _mended_with_derivative(model: LayerModel, mend: Mend, roles: frozenset[str]) -> LayerModel:
    mended: LayerModel = with_fields_of(mend(model), LayerModel(), WAY_BACK if roles & STEP_SUMS else ())
    return _mended_roles(mended, "gradient_sums", roles)


def _mended_roles(model: LayerModel, name: str, roles: Collection[str]) -> LayerModel:
    """Return a model that has nn.RNN's choice of some roles in a field."""
    changed: dict[str, Any] = {name: {role: v for role, v in getattr(model, name).items() if role not in roles}}
    return replace(model, **changed)


# The way forward.

START_STATES: Final = {
    "hx_below": "the initial state of the layer below",
    "h_below[T-1]": "the last state of the layer below",
    "hx_beside": "the forward direction's initial state",
    "h_beside[T-1]": "the forward direction's last state",
}
# The parts of the step's sum: nn.RNN's term, and what tells a term of this part.
SUM_PARTS: Final = (
    ("x[t] @ W_ih.T", re.compile(r"\bx(_fed)?[\[.]|^h_\w+\[t-1\] @ W_ih\.T")),
    ("b_ih", re.compile(r"^b_ih(_below|_beside)?(\[.*\])?$")),
    ("h[t-1] @ W_hh.T", re.compile(r"\bh\[|^h_\w+\[.* W_hh|\bhx\b")),
    ("b_hh", re.compile(r"^b_hh(_below|_beside)?(\[.*\])?$")),
    ("", re.compile(r"^b_.*@|^1$")),
)
BIASES: Final = ("b_ih", "b_hh")
BOTH_BIASES: Final = re.compile("^b_(ih|hh)$")
JOINT: Final = re.compile(r"^np\.hstack")  # x and h in one product
SUMS: Final = np.linspace(-3, 3, 61)  # arguments that tell an activation's derivative from other slopes
SAME_SLOPE: Final = 1e-9  # how far two forms of one function of float64 may be apart: roundings make some 1e-15


def _extents(model: LayerModel, *_: object) -> Iterator[Mistake]:
    for extent in model.extents:
        yield Mistake(_extent_sentence(extent), line="s", mend=partial(_without_extent, extent=extent))


def _without_extent(model: LayerModel, extent: Extent) -> LayerModel:
    return replace(model, extents=tuple(item for item in model.extents if item != extent))


def _extent_sentence(extent: Extent) -> str:
    axis, kind, k = extent
    some = axis.removesuffix("s") if k == 1 and kind != "blocks" else f"{k} {axis}"
    end, only = kind.removeprefix("but "), not kind.startswith("b")
    which = f"the {end} {some}{' only' if only else ''}"
    which = f"the {axis} that are left of full blocks of {k}" if kind == "blocks" else which
    if axis in ("units", "sequences"):
        return f"computes {which}: other states are 0" if only else f"does not compute {which}: 0 stays there"
    return f"sums over {which}" if only else f"leaves {which} out of the sum of its step"


def _sum(model: LayerModel, *_: object) -> Iterator[Mistake]:
    names, moved = dict(model.step), _behind(model)
    mended_biases = partial(_mended_sum, own=BIASES, belongs=BOTH_BIASES)
    joint = next(filter(JOINT.search, names), "")
    if joint:
        mend = partial(_mended_sum, own=[right for right, _ in SUM_PARTS if "@" in right], belongs=JOINT)
        yield Mistake(f"takes {joint} in its step, whose parts do not belong together", line="s", mend=mend)
    if moved:
        words = f"adds {' + '.join(moved)} to its activation, not to the sum of its step"
        yield Mistake(words, line="h", mend=_mended_behind)
    twice = next(
        (pair for pair in (BIASES, BIASES[::-1]) if names.get(pair[0]) == Coef(2.0) and pair[1] not in names), None
    )
    if twice is not None:
        words = "adds bias_{} twice, and bias_{} never".format(*(b.removeprefix("b_") for b in twice))
        yield Mistake(words, line="s", mend=mended_biases)
    neither = twice is None and not any(
        b in moved or belongs.search(n) for b, belongs in SUM_PARTS if b in BIASES for n in names
    )
    if neither:  # most people add them together, in one line
        yield Mistake("ignores both biases: neither is ever added", line="s", mend=mended_biases)
    parts = {right: tuple(pair for pair in model.step if belongs.search(pair[0])) for right, belongs in SUM_PARTS}
    alike = [tuple((name.replace(b, "b"), coef) for name, coef in parts[b]) for b in BIASES]
    both = alike[0] == alike[1] != (("b", ONE),)  # a line that adds both has one mistake
    told = {*moved, *(BIASES if twice or neither else BIASES[1:] if both else ())}
    for right, belongs in SUM_PARTS:
        terms = parts[right]
        if (joint and "@" in right) or right in told or terms == (((right, ONE),) if right else ()):
            continue
        if both and right in BIASES:
            yield Mistake(f"{_step_sentence(terms, right)}, and {BIASES[1]} likewise", line="s", mend=mended_biases)
        else:
            mend = partial(_mended_sum, own=[right] if right else [], belongs=belongs)
            yield Mistake(_step_sentence(terms, right), line="s", mend=mend)


def _mended_sum(model: LayerModel, own: Sequence[str], belongs: re.Pattern[str]) -> LayerModel:
    """Return a model that has some of nn.RNN's own terms in the place of those of a pattern."""
    terms = [pair for pair in model.step if not belongs.search(pair[0])]
    return replace(model, step=in_order((*terms, *((name, ONE) for name in own))))


def _behind(model: LayerModel) -> list[str]:
    """Return nn.RNN's terms of a step that are added to the activation and not to its argument."""
    step, added = dict(model.step), dict(model.added)
    return [name for name, _ in LayerModel().step if added.get(name) == ONE and name not in step]


def _mended_behind(model: LayerModel) -> LayerModel:
    moved = _behind(model)
    added = tuple(pair for pair in model.added if pair[0] not in moved)
    return replace(model, added=added, step=in_order((*model.step, *((name, ONE) for name in moved))))


# The sum of old states, less those that a unit reads anew.
IN_PLACE: Final = {"h[t-1] @ W_hh.T": 1.0, "h[t] @ np.tril(W_hh, -1).T": 1.0, "h[t-1] @ np.tril(W_hh, -1).T": -1.0}
OF_ANOTHER: Final = {"_beside": "the other direction", "_below": "the layer below"}


def _step_sentence(terms: WeightedTerms, right: str) -> str:
    if not terms:
        role = {"b_ih": "bias_ih", "b_hh": "bias_hh"}.get(right)
        return f"leaves {right} out of its step" if role is None else f"ignores {role}: {right} is never added"
    needs = min({STEP_TERMS[name].needs for name, _ in terms} - {""}, default="")
    where = f", where {needs}" if needs else ""
    if {name: coef.value for name, coef in terms} == IN_PLACE:
        return "updates the state in place: each unit reads the new states of the units before it"
    if not right:
        return f"adds {written(terms)} to the sum of its step{where}"
    if len(terms) == 1 and terms[0] == (right, Coef(when=terms[0][1].when)):
        if terms[0][1].when.kind == "but block" and right == "h[t-1] @ W_hh.T":
            return f"starts anew from zeros every {terms[0][1].when.k} steps"
        return f"adds {right} {terms[0][1].when.words}"
    for end, whose in OF_ANOTHER.items():
        if [(name.replace(end, ""), coef) for name, coef in terms] == [(right, ONE)] and end in terms[0][0]:
            operand = next(name for name in ("W_ih", "W_hh", "b_ih", "b_hh") if name in right)
            return f"takes {operand} of {whose}, not its own"
    return f"takes {written(terms)} in its step, not {right}{where}"


def _activation_words(model: Any, nonlinearity: str) -> str:
    kind = model.activation
    if kind == Activation(nonlinearity, dead_zone=kind.dead_zone):
        end = number(kind.dead_zone)
        return f"sets states between -{end} and {end} to 0"
    return f"applies no {nonlinearity}" if kind.name == "identity" else _applies(kind, nonlinearity)


def _applies(kind: Activation, nonlinearity: str) -> str:
    name = line = kind.line("s")
    if kind in (Activation("tanh"), Activation("relu")):
        name = kind.name
    elif not (kind.name in {"identity", "clip", "quotient"} or kind.clips):
        name = f"{kind.name}, {line}"
    return f"applies {name}, not {nonlinearity}"


def _has_own_slope(model: LayerModel) -> bool:
    """Tell whether a slope is the derivative of another activation, which is applied: it goes with that."""
    slope = dict(model.slope or ())
    if model.activation is None or not slope or slope.keys() & {*OF_INPUT, *OF_GRADIENT}:
        return False
    with np.errstate(all="ignore"):
        h = model.activation.value(SUMS)
        taken = sum(c * SLOPES[name](h, SUMS, SUMS, SUMS) for name, c in slope.items())
        return np.allclose(taken, model.activation.slope(SUMS), rtol=0, atol=SAME_SLOPE, equal_nan=True)


def _mended_activation(model: LayerModel) -> LayerModel:
    return replace(model, activation=None, slope=None if _has_own_slope(model) else model.slope)


def _otherwise(model: LayerModel, _right: LayerModel, nonlinearity: str) -> Iterator[Mistake]:
    for kind, when in model.otherwise:
        yield Mistake(f"{_applies(kind, nonlinearity)}, {when.words}", line="h", mend=partial(replace, otherwise=()))


def _outside(model: LayerModel, *_: object) -> Iterator[Mistake]:
    """Yield what is done to the activation, but for nn.RNN's terms that are added there."""
    moved = _behind(model)
    rest = [(name, coef) for name, coef in model.added if name not in moved]
    if rest or model.activated != 1:
        factor = "" if model.activated == 1 else f"{number(model.activated)} * "
        made = " + ".join([f"{factor}phi(s)", *(term(name, coef) for name, coef in rest)])
        words = f"makes its state of {made}, where nn.RNN takes phi(s) alone"
        yield Mistake(words, line="h", mend=_mended_outside)


def _mended_outside(model: LayerModel) -> LayerModel:
    moved = _behind(model)
    return replace(model, added=tuple(pair for pair in model.added if pair[0] in moved), activated=1.0)


def _at_zero_words(model: Any, _: str) -> str:
    state, batch, silent = model.at_zero
    at = f"a step at which x is all zeros{' in the whole batch' if batch else ''}"
    words = f"sets the state to zero at {at}" if state == "0" else f"skips {at}: its state stays"
    return f"{words}, and its output is 0" if silent else words


def _final_words(model: Any, _: str) -> str:
    if model.visited != TermSteps():  # then it is that of the last step that is computed
        return ""
    return f"returns {model.final} as h_n, not the state after the last step"


_OTHER_STATE: Final = "returns {choice} as the output of step t, not h[t]"
RETURNED: Final = (
    LayerSlot("at_zero", "at zero", _at_zero_words),
    LayerSlot("written", "h_n", {
        "s[t]": "returns the sum of each step as the output, not its state",
        "phi(h[t])": "applies {function} to its output once more",
        "h[t-1]": "returns the state before each step as its output, not the one after it",
        "h[T-1-t]": "leaves its output in the order in which it was computed",
        **{
            name: f"{_OTHER_STATE}: {name[:-1].partition('%')[2]} buffers take turns"
            for name in STATES_RETURNED
            if "%" in name
        },
        None: _OTHER_STATE,
    }),
    LayerSlot("shown", "h_n", "writes its output {choice.words}: elsewhere it is 0"),
    LayerSlot("final", "h_n", _final_words),
)  # fmt: skip

# The way back.


def _passes(model: LayerModel, right: LayerModel, _: str) -> Iterator[Mistake]:
    if model.passes.kind == "never" or not model.links:
        mend = partial(replace, links=model.links or right.links, passes=right.passes, horizon=right.horizon)
        yield Mistake("passes no gradient from a step to the one before it", line="next", mend=mend)
    elif model.horizon:
        yield from HORIZON(model, right, "")
    else:
        yield from PASSES(model, right, "")


HORIZON: Final = LayerSlot("horizon", "next", "goes back {choice} steps at most from the output of each step")
PASSES: Final = LayerSlot("passes", "next", {
    "but every": "cuts the way back every {choice.k} steps",
    "but every from the end": "cuts the way back every {choice.k} steps, counted from the end",
    "but last but": "cuts the way back once, before the last {steps}",
    None: "passes a gradient to the step before {choice.words}",
})  # fmt: skip
_STAYS: Final = ": the state stays there, and the output is 0"
OF_BOTH_MACHINES: Final[tuple[SlotMistakes, ...]] = (_passes, *RETURNED)  # the slots of each cell
FORWARD: Final[tuple[SlotMistakes, ...]] = (
    _extents,
    LayerSlot("start", "start", {
        "0 * hx": "ignores hx: it starts at zeros",
        "hx[:1] + 0 * hx": "starts at hx[:1], not at hx",
        "hx.mean(0) + 0 * hx": "starts at hx.mean(0), not at hx",
        **{start: f"starts at {words}, not at hx" for start, words in START_STATES.items()},
        None: "starts at {choice}, not at hx",
    }),
    _sum,
    LayerSlot("activation", "h", _activation_words, _mended_activation),
    LayerSlot("inside", "h", "applies {function} to {number} * s, not to s"),
    _otherwise,
    _outside,
    LayerSlot("visited final", "steps", {
        "but last": "leaves out the last {steps}" + _STAYS,
        "from": "leaves out the first {steps}" + _STAYS,
        "last": "runs over the last {steps} only" + _STAYS,
        "first": "runs over the first {steps} only" + _STAYS,
        None: "runs {choice.words}" + _STAYS,
    }),
    *RETURNED,
    _passes,
)  # fmt: skip
STEP_SUMS: Final = frozenset({"weight_ih", "weight_hh", "bias_ih", "bias_hh", "x"})  # the gradients made of each da
WAY_IN: Final = ("counted", "entry", "own")  # of the gradients that are given
WAY_BACK: Final = ("reached", "slope", "sloped", "at_kink", "at", "links")


def _entry_words(model: Any, _: str) -> str:
    if not model.entry:
        return "ignores the gradient of h_n"
    how, coef = model.entry[0]
    last = TermSteps("last", 1)
    if how == "instead":
        return "takes the gradient of h_n in place of the output's at the last step, and does not add them"
    if model.entry == (FinalStateGradientEntry("passed", Coef(when=last)),):  # another way to write "g"
        return ""
    if coef.when == last:
        return f"multiplies the gradient of h_n by {number(coef.value)}"
    return f"adds the gradient of h_n {coef.when.words or 'at every step'}, not at the last step"


def _own_words(model: Any, _: str) -> str:
    if not model.own[0][0]:
        return "adds the output's gradient behind the slope, which does not multiply it"
    coefs = [coef for _, coef in model.own]
    others = [coef for coef in coefs if coef.value != 1 and not coef.scale]
    if len(coefs) > 1 and len(others) == len(coefs) - 1:  # elsewhere it counts once
        factors = (f"by {number(coef.value)} {coef.when.words}" for coef in others)
        return f"multiplies the gradient of the output {', '.join(factors)}"
    return f"takes {written(tuple(('g[t]', coef) for coef in coefs))} for the output's gradient"


def _slope_words(model: Any, nonlinearity: str) -> str:
    if _has_own_slope(model):
        return ""
    own, right = (slope_of(variant, nonlinearity) for variant in (model, LayerModel()))
    return f"takes {own} for the slope of {nonlinearity}, not {right}"


def _passed(model: LayerModel) -> str:
    return " + ".join(term(link.term, link.coef) for link in model.links)


def _links_words(model: Any, _: str) -> str:
    passed, own = _passed(model), _passed(LayerModel())
    if passed == own:
        return "adds what the next step passes back behind the slope, which does not multiply it"
    where = "" if not model.links or model.links[0].sloped else ", behind the slope"
    return passed and f"passes {passed} from step t+1 back to step t{where}, not {own}"


def _step_limit_words(model: Any, _: str) -> str:
    where, limit = model.step_limit
    what = f"clips {where} to ±" if limit.kind == "elements" else f"clips the norm of {where} to "
    return f"{what}{number(limit.most)} at each step of the way back"


WAY_IN_SLOTS: Final = (
    LayerSlot("counted", "counted", {
        "never": "ignores the gradient of the output",
        None: "counts the gradient of the output {choice.words}",
    }),
    LayerSlot("entry", "entry", _entry_words),
    LayerSlot("own", lambda model: "dh" if model.own[0][0] else "da", _own_words),
)  # fmt: skip
WAY_BACK_SLOTS: Final = (
    LayerSlot("reached", "back", {
        "but last": "leaves the last {steps} out of the way back",
        "from": "leaves the first {steps} out of the way back",
        "last": "goes back over the last {steps} only",
        "first": "goes back over the first {steps} only",
        None: "goes back {choice.words}",
    }),
    LayerSlot("slope", "slope", _slope_words),
    LayerSlot("sloped", "slope", "takes the slope of {nonlinearity} {choice.words}: elsewhere it is 1"),
    LayerSlot("at_kink", "slope", "takes {number} for the slope of relu where the sum is 0, not 0"),
    LayerSlot("at", "slope", "takes the slope of step {choice} at step t of the way back"),
    LayerSlot("links", lambda model: "da" if _passed(model) == _passed(LayerModel()) else "next", _links_words),
)  # fmt: skip
STEP_LIMIT: Final = LayerSlot(
    "step_limit", lambda model: model.step_limit[0].replace("dh_next", "next"), _step_limit_words
)


def _gradient_sums(model: LayerModel, *_right: object, derived: frozenset[str]) -> Iterator[Mistake]:
    """Yield what is wrong in the sums of returned gradients, but for roles whose gradients are a derivative."""
    groups: dict[tuple[str, object], list[str]] = {}
    for role, terms in model.gradient_sums.items():
        if role in derived or terms == RIGHT_GRADIENT_SUMS[role]:
            continue
        if not terms and role.startswith("bias") and f"b_{role[5:]}" not in {name for name, _ in model.step}:
            continue  # what is not read has no gradient
        if len(terms) == 1 and terms[0][0].endswith((", if reached", ", if passed")):
            continue  # nor has what the way back does not reach
        right = RIGHT_GRADIENT_SUMS[role][0][0]
        factor = [name for name, _ in terms] in ([right], [DERIVATIVE])
        alike = "factor" if factor else "zero" if not terms else "biases" if "bias" in role else role
        groups.setdefault((alike, terms[0][1] if factor else terms), []).append(role)
    for (kind, _), roles in groups.items():
        terms = model.gradient_sums[roles[0]]
        words = _factor_sentence(of_roles(roles), terms[0][1]) if kind == "factor" else _sum_sentence(roles, terms)
        yield Mistake(words, line=roles[0], mend=partial(_mended_roles, name="gradient_sums", roles=roles))


def _factor_sentence(whose: str, coef: Coef) -> str:
    if coef.when != TermSteps():
        return f"counts the gradient by {whose} {coef.when.words}"
    if coef == Coef(scale="N"):
        return f"divides the gradient by {whose} by N: it is a mean over the batch, not a sum"
    by = term(coef.scale, Coef(coef.value)) if coef.scale else number(coef.value)
    return f"{'divides' if coef.scale and coef.divides else 'multiplies'} the gradient by {whose} by {by}"


def _sum_sentence(roles: Sequence[str], terms: WeightedTerms) -> str:
    whose, right = of_roles(roles), RIGHT_GRADIENT_SUMS[roles[0]]
    if not terms:
        return f"returns 0 as the gradient by {whose}"
    names, own = [name for name, _ in terms], right[0][0]
    for mask in GRADIENT_MASKS:
        if names[0] == masked(own, mask):
            return f"multiplies the gradient by {whose} by {mask}: other elements are 0"
    if names == [transposed(own)]:
        return f"returns the gradient by {whose} transposed"
    if names == [over_units("da[t]")]:
        return f"sums the gradient by {whose} over the units, too"
    decay = {"weight_ih": "W_ih", "weight_hh": "W_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}.get(roles[0], "")
    if decay in names and [pair for pair in terms if pair[0] != decay] == list(right):
        return f"adds {term(decay, terms[names.index(decay)][1])} to the gradient by {whose}, as weight decay does"
    if names[0] in map(by_last_read, ("x", "h")):
        return f"takes for the gradient by {whose} what the last of the steps read, not what each one read"
    for n, which in ((0, "first"), (-1, "last")):
        if names[0] in [of_sequence(n, "da[t]", operand) for operand in ("", "x[t]", "h[t-1]")] and len(names) == 1:
            return f"takes the gradient by {whose} of the {which} sequence alone"
    made, owned = (written(tuple((_operands(name), coef) for name, coef in some)) for some in (terms, right))
    return f"makes the gradient by {whose} of {made}, not of {owned}"


def _operands(product: str) -> str:
    """Return a product as its operands in words; others as they are written."""
    return " and ".join(product.removesuffix(".sum(0)").split(".T @ ")) if factors(product) else product


_LIMITED: Final = {
    "elements": "clips the gradient by {whose} to ±{most}",
    "norm": "clips the norm of the gradient by {whose} to {most}, each by itself",
    "joint norm": "clips the norm of the gradients by {whose}, taken together, to {most}",
    "running sum": "clips the running sum of the gradient by {whose} to ±{most} at each step",
}


def _limits(model: LayerModel, *_right: object) -> Iterator[Mistake]:
    groups: dict[GradientClip, list[str]] = {}
    for role, limit in model.limits.items():
        groups.setdefault(limit, []).append(role)
    for limit, roles in groups.items():
        words = _LIMITED[limit.kind].format(whose=of_roles(roles), most=number(limit.most))
        key = roles[0] if limit.kind == "running sum" else f"limit of {roles[0]}"
        yield Mistake(words, line=key, mend=partial(_mended_roles, name="limits", roles=roles))


def written(terms: WeightedTerms) -> str:
    """Return a sum, with the steps of each term in words where it does not stand at all of them."""
    parts = [term(name, coef) + (f" [{coef.when.words}]" if coef.when.words else "") for name, coef in terms]
    return " + ".join(parts).replace("+ -", "- ") or "0"
