"""model_differences: where an identified layer is not nn.RNN's: a sentence, a line of NumPy, the mend."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.activations import Activation, number
from harness.diagnosis.identify.gate_back_differences import differences as back_differences
from harness.diagnosis.identify.gate_differences import (
    differences as gate_differences,
    lines as gate_lines,
    right_lines,
)
from harness.diagnosis.identify.gates import GatedModel, layer_of
from harness.diagnosis.identify.gather import values_of
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


class ModelDifference(NamedTuple):
    """A difference of a model from nn.RNN's: what is said of it, the line that has it, and what mends it."""

    line: str  # its key among ``lines``
    sentence: str
    mend: Callable[[LayerModel], LayerModel]


# The words for where alone a mistake is made, by those for where it is not.
ELSEWHERE: Final = {
    "in the layers above the first": "in the first layer",
    "in the reverse direction": "in the forward direction",
}


@dataclass(frozen=True)
class Mistake:
    """One difference of a subject from nn.RNN. It is the same one wherever it is made, and beside whatever else."""

    what: str  # reads on from "the subject"
    yours: str = field(compare=False)  # the line of NumPy
    right: str = field(compare=False)  # nn.RNN's; empty where nn.RNN has none
    models: tuple[str, ...] = field(default=("first",), compare=False)  # those of a network that make it
    others: tuple[str, ...] = field(default=(), compare=False)  # those that do not
    words: str = field(default="", compare=False)  # where alone it is made
    variant: str = field(default="", compare=False)  # the published variant that has it
    of_order: bool = field(default=False, compare=False)  # it is the order of the gates' rows
    mend: Callable[[LayerModel], LayerModel] = field(default=lambda model: model, compare=False, repr=False)
    rewire: Callable[[Network], Network] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> str:
        """What is said of it, which reads on from "the subject"."""
        where = f"{self.what}, {self.words}" if self.words else self.what
        return f"{where}: {self.variant}" if self.variant else where

    def without(self, network: Network) -> Network:
        """Return a network in which this mistake is not made."""
        if self.rewire is not None:
            return self.rewire(network)
        changed: dict[str, Any] = {name: self.mend(getattr(network, name)) for name in self.models}
        return replace(network, **changed)

    def placed_as(self, mistake: Mistake) -> Mistake:
        """Return this mistake where another identification found the same one, if that knows more of the models."""
        if len(mistake.models + mistake.others) <= len(self.models + self.others):
            return self
        return replace(self, models=mistake.models, others=mistake.others, words=mistake.words, variant=mistake.variant)


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
        if way == Transform():  # it is not known
            continue
        rest = {n: transform for n, transform in network.transforms.items() if n != name}
        mended = partial(_with_transforms, transforms=rest)
        mistakes.append(Mistake(way.words(name), f"{name} = {way.line(name)}", "", rewire=mended))
    for sentence, yours, right, rewire in differences(network):
        mistakes.append(Mistake(sentence.replace("nn.RNN", layer_of(network)), yours, right, rewire=rewire))
    return mistakes


def _with_transforms(network: Network, transforms: Mapping[str, Transform]) -> Network:
    return replace(network, transforms=transforms)


def _where(made: Sequence[str], others: Sequence[str], wiring: Wiring) -> str:
    """Return in words where alone a mistake is made; nothing if that is everywhere."""
    where = {"above": WHERE_WORDS[wiring["above"]], "reverse": WHERE_WORDS[wiring["turned"]]}
    if not others:
        return ""
    if "first" in made:
        return ", ".join(ELSEWHERE.get(where[name], f"but not {where[name]}") for name in others)
    return " and ".join(where[name] for name in made)


def _of_model(model: LayerModel, nonlinearity: str, *, derived: bool) -> Iterator[Mistake]:
    if isinstance(model, GatedModel):
        yield from _of_gates(model)
        return
    own, right = lines(model, nonlinearity), lines(LayerModel(), nonlinearity)
    forward = [*_extents(model), *_forward(model, nonlinearity), *_passes(model)]
    roles = frozenset() if derived or not forward else _derivatives(model, nonlinearity)
    if roles and len(forward) == 1:  # what mends it, mends its derivative, too
        forward = [forward[0]._replace(mend=partial(_mended_with_derivative, mend=forward[0].mend, roles=roles))]
    back = [*_gradient_sums(model), *_limits(model)] if derived else _back(model, nonlinearity, roles)
    for line, sentence, mend in (*forward, *back):
        yield Mistake(sentence, own.get(line, "").strip(), right.get(line, "").strip(), mend=mend)


@np.errstate(all="ignore")
def _derivatives(model: LayerModel, nonlinearity: str) -> frozenset[str]:
    """Return the roles whose gradients are the derivative of what a wrong way forward gives, and so are no mistake."""
    if any(STEP_TERMS[name].other for name, _ in model.step) or {model.start, model.final} & START_STATES.keys():
        return frozenset()  # it cannot be run alone
    config = RNNConfig(3, 3, nonlinearity=nonlinearity, T=5, N=3, hx=True, loss="both", dtype="float64")
    case = draw(config, "normal", 1)
    right = LayerModel()
    entered = replace(model, **{name: getattr(right, name) for name in WAY_IN})  # whatever is wrong with the way in
    own, derived = run(Network(entered), case), run(Network(replace(model, gradient_sums={}), derived=True), case)
    same = {n: np.allclose(values_of(own[n]), values_of(derived[n]), 1e-9, 1e-12) for n in config.gradients}
    return frozenset(role_of(n) for n, equal in same.items() if equal)


def _mended_with_derivative(
    model: LayerModel, mend: Callable[[LayerModel], LayerModel], roles: frozenset[str]
) -> LayerModel:
    mended, right = mend(model), LayerModel()
    if roles & STEP_SUMS:
        mended = replace(mended, **{name: getattr(right, name) for name in WAY_BACK})
    return _mended_gradient_sums(mended, tuple(roles))


def _of_gates(model: GatedModel) -> Iterator[Mistake]:
    own, right = gate_lines(model), right_lines(model)
    for line, sentence, mend, of_order, _, variant in gate_differences(model):
        yours, wanted = own.get(line, "").strip(), right.get(line, "").strip()
        yield Mistake(sentence, yours, wanted, mend=mend, of_order=of_order, variant=variant)
    for line, sentence, mend in _passes(model):
        yield Mistake(sentence, own.get(line, "").strip(), right.get(line, "").strip(), mend=mend)
    for _, sentence, mend in _returned(model, ""):
        yield Mistake(sentence, own.get("written", ""), "", mend=mend)
    for sentence, yours, nn, mend in back_differences(model):
        yield Mistake(sentence, yours, nn, mend=mend)


def _set(name: str) -> Callable[[LayerModel], LayerModel]:
    """Return what gives a field of a model nn.RNN's value."""
    return lambda model: replace(model, **{name: getattr(LayerModel(), name)})


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


def _forward(model: LayerModel, nonlinearity: str) -> Iterator[ModelDifference]:
    if model.start != "hx":
        words = (
            "ignores hx: it starts at zeros"
            if model.start == "0 * hx"
            else f"starts at {START_STATES.get(model.start, model.start.removesuffix(' + 0 * hx'))}, not at hx"
        )
        yield ModelDifference("start", words, _set("start"))
    yield from _sum(model)
    if model.activation is not None:
        none = model.activation.name == "identity"
        words = f"applies no {nonlinearity}" if none else f"applies {_function(model.activation)}, not {nonlinearity}"
        if model.activation == Activation(nonlinearity, dead_zone=model.activation.dead_zone):
            end = number(model.activation.dead_zone)
            words = f"sets states between -{end} and {end} to 0"
        yield ModelDifference("h", words, _mended_activation)
    phi = (model.activation or Activation(nonlinearity)).name
    if model.inside != 1:
        words = f"applies {phi} to {number(model.inside)} * s, not to s"
        yield ModelDifference("h", words, _set("inside"))
    for kind, when in model.otherwise:
        words = f"applies {_function(kind)}, not {nonlinearity}, {when.words}"
        yield ModelDifference("h", words, _set("otherwise"))
    moved = _behind(model)
    rest = replace(model, added=tuple(pair for pair in model.added if pair[0] not in moved))
    if rest.added or model.activated != 1:
        words = f"makes its state of {_outside(rest)}, where nn.RNN takes phi(s) alone"
        yield ModelDifference("h", words, _mended_outside)
    if model.visited != TermSteps():
        words = f"{_visited_sentence(model.visited)}: the state stays there, and the output is 0"
        yield ModelDifference("steps", words, lambda m: replace(m, visited=TermSteps(), final=LayerModel().final))
    yield from _returned(model, nonlinearity)


def _returned(model: LayerModel, nonlinearity: str) -> Iterator[ModelDifference]:
    if model.at_zero is not None:
        state, batch, silent = model.at_zero
        where = " in the whole batch" if batch else ""
        words = f"skips a step at which x is all zeros{where}: its state stays" if state != "0" else ""
        words = words or f"sets the state to zero at a step at which x is all zeros{where}"
        yield ModelDifference("at zero", words + (", and its output is 0" if silent else ""), _set("at_zero"))
    if model.written != LayerModel().written:
        words = {
            "s[t]": "returns the sum of each step as the output, not its state",
            "phi(h[t])": f"applies {(model.activation or Activation(nonlinearity)).name} to its output once more",
            "h[t-1]": "returns the state before each step as its output, not the one after it",
            "h[T-1-t]": "leaves its output in the order in which it was computed",
        }.get(model.written, f"returns {model.written} as the output of step t, not h[t]")
        words += f": {model.written[:-1].partition('%')[2]} buffers take turns" if "%" in model.written else ""
        yield ModelDifference("h_n", words, _set("written"))
    if model.shown != TermSteps():
        yield ModelDifference("h_n", f"writes its output {model.shown.words}: elsewhere it is 0", _set("shown"))
    if model.final != LayerModel().final and model.visited == TermSteps():
        words = f"returns {model.final} as h_n, not the state after the last step"
        yield ModelDifference("h_n", words, _set("final"))


def _sum(model: LayerModel) -> Iterator[ModelDifference]:
    names, moved = dict(model.step), _behind(model)
    joint = [name for name in names if name.startswith("np.hstack")]
    if joint:
        words = f"takes {joint[0]} in its step, whose parts do not belong together"
        yield ModelDifference("s", words, _mended_joint)
    if moved:
        words = f"adds {' + '.join(moved)} to its activation, not to the sum of its step"
        yield ModelDifference("h", words, _mended_behind)
    twice = next((b for b, second in (BIASES, BIASES[::-1]) if names.get(b) == Coef(2.0) and second not in names), "")
    if twice:
        roles = ("bias_ih", "bias_hh") if twice == "b_ih" else ("bias_hh", "bias_ih")
        yield ModelDifference("s", f"adds {roles[0]} twice, and {roles[1]} never", _mended_biases)
    neither = not twice and not any(
        b in moved or belongs.search(n) for b, belongs in SUM_PARTS if b in BIASES for n in names
    )
    if neither:  # most people add them together, in one line
        yield ModelDifference("s", "ignores both biases: neither is ever added", _mended_biases)
    parts = [
        (right, belongs, tuple(pair for pair in model.step if belongs.search(pair[0]))) for right, belongs in SUM_PARTS
    ]
    alike = [tuple((name.replace(b, "b"), coef) for name, coef in own) for b, _, own in parts if b in BIASES]
    both = alike[0] == alike[1] != (("b", ONE),)
    for right, belongs, terms in parts:
        if (joint and "@" in right) or right in moved or ((twice or neither) and right in BIASES):
            continue
        if both and right in BIASES:  # a line that adds both has one mistake
            if right == BIASES[0]:
                yield ModelDifference("s", f"{_step_sentence(terms, right)}, and {BIASES[1]} likewise", _mended_biases)
        elif terms != (((right, ONE),) if right else ()):
            yield ModelDifference(
                "s", _step_sentence(terms, right), partial(_mended_step, right=right, belongs=belongs)
            )


BIASES: Final = ("b_ih", "b_hh")
SUMS: Final = np.linspace(-3, 3, 61)  # arguments that tell an activation's derivative from other slopes
SAME_SLOPE: Final = 1e-9  # how far two forms of one function of float64 may be apart: roundings make some 1e-15


def _behind(model: LayerModel) -> list[str]:
    """Return nn.RNN's terms of a step that are added to the activation and not to its argument."""
    step, added = dict(model.step), dict(model.added)
    return [name for name, _ in LayerModel().step if added.get(name) == ONE and name not in step]


def _mended_behind(model: LayerModel) -> LayerModel:
    moved = _behind(model)
    added = tuple(pair for pair in model.added if pair[0] not in moved)
    return replace(model, added=added, step=in_order((*model.step, *((name, ONE) for name in moved))))


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


def _mended_outside(model: LayerModel) -> LayerModel:
    moved = _behind(model)
    return replace(model, added=tuple(pair for pair in model.added if pair[0] in moved), activated=1.0)


def _mended_biases(model: LayerModel) -> LayerModel:
    others = tuple(pair for pair in model.step if pair[0] not in BIASES)
    return replace(model, step=in_order((*others, *((name, ONE) for name in BIASES))))


def _mended_joint(model: LayerModel) -> LayerModel:
    right = [pair for pair in LayerModel().step if "@" in pair[0]]
    return replace(model, step=(*right, *(pair for pair in model.step if not pair[0].startswith("np.hstack"))))


def _extents(model: LayerModel) -> Iterator[ModelDifference]:
    for extent in model.extents:
        yield ModelDifference("s", _extent_sentence(extent), partial(_without_extent, extent=extent))


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


# The sum of old states, less those that a unit reads anew.
IN_PLACE: Final = {"h[t-1] @ W_hh.T": 1.0, "h[t] @ np.tril(W_hh, -1).T": 1.0, "h[t-1] @ np.tril(W_hh, -1).T": -1.0}


def _mended_step(model: LayerModel, right: str, belongs: re.Pattern[str]) -> LayerModel:
    terms = [pair for pair in model.step if not belongs.search(pair[0])] + ([(right, ONE)] if right else [])
    return replace(model, step=in_order(tuple(terms)))


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


def _function(activation: Activation) -> str:
    name, line = activation.name, activation.line("s")
    if activation in (Activation("tanh"), Activation("relu")):
        return name
    return line if name in {"identity", "clip", "quotient"} or activation.clips else f"{name}, {line}"


def _outside(model: LayerModel) -> str:
    factor = "" if model.activated == 1 else f"{number(model.activated)} * "
    return " + ".join([f"{factor}phi(s)", *(term(name, coef) for name, coef in model.added)])


# The way back.


def _passes(model: LayerModel) -> Iterator[ModelDifference]:
    if model.passes.kind == "never" or not model.links:
        right = LayerModel()
        links = model.links or right.links
        mend = partial(replace, links=links, passes=right.passes, horizon=right.horizon)
        yield ModelDifference("next", "passes no gradient from a step to the one before it", mend)
    elif model.horizon:
        words = f"goes back {model.horizon} steps at most from the output of each step"
        yield ModelDifference("next", words, _set("horizon"))
    elif model.passes != TermSteps():
        words = {
            "but every": f"cuts the way back every {model.passes.k} steps",
            "but every from the end": f"cuts the way back every {model.passes.k} steps, counted from the end",
            "but last but": f"cuts the way back once, before the last {model.passes.k} steps",
        }.get(model.passes.kind, f"passes a gradient to the step before {model.passes.words}")
        yield ModelDifference("next", re.sub(r"last 1 steps", "last step", words), _set("passes"))


STEP_SUMS: Final = frozenset({"weight_ih", "weight_hh", "bias_ih", "bias_hh", "x"})  # the gradients made of each da
WAY_IN: Final = ("counted", "entry", "own")  # of the gradients that are given
WAY_BACK: Final = ("reached", "slope", "sloped", "at_kink", "at", "links")


def _back(model: LayerModel, nonlinearity: str, derived: frozenset[str]) -> Iterator[ModelDifference]:
    """Yield the differences of the way back, but for roles whose gradients are the derivative of the way forward."""
    yield from _way_in(model)
    if not derived & STEP_SUMS:
        yield from _way_back(model, nonlinearity)
    if model.step_limit is not None:
        where, limit = model.step_limit
        what = f"clips {where} to ±" if limit.kind == "elements" else f"clips the norm of {where} to "
        key = {"dh_next": "next"}.get(where, where)
        yield ModelDifference(key, f"{what}{number(limit.most)} at each step of the way back", _set("step_limit"))
    yield from _gradient_sums(model, derived)
    yield from _limits(model)


def _way_in(model: LayerModel) -> Iterator[ModelDifference]:
    right = LayerModel()
    if model.counted != right.counted:
        words = f"counts the gradient of the output {model.counted.words}"
        words = "ignores the gradient of the output" if model.counted.kind == "never" else words
        yield ModelDifference("counted", words, _set("counted"))
    last = Coef(when=TermSteps("last", 1))
    # "g" and "passed" are two ways to write one thing.
    if model.entry not in {(FinalStateGradientEntry(how, last),) for how in ("g", "passed")}:
        yield ModelDifference("entry", _entry_sentence(model), _set("entry"))
    if model.own != right.own:
        yield ModelDifference("dh" if model.own[0][0] else "da", _own_sentence(model), _set("own"))


def _own_sentence(model: LayerModel) -> str:
    if not model.own[0][0]:
        return "adds the output's gradient behind the slope, which does not multiply it"
    coefs = [coef for _, coef in model.own]
    others = [coef for coef in coefs if coef.value != 1 and not coef.scale]
    if len(coefs) > 1 and len(others) == len(coefs) - 1:  # elsewhere it counts once
        factors = (f"by {number(coef.value)} {coef.when.words}" for coef in others)
        return f"multiplies the gradient of the output {', '.join(factors)}"
    return f"takes {written(tuple(('g[t]', coef) for coef in coefs))} for the output's gradient"


def _way_back(model: LayerModel, nonlinearity: str) -> Iterator[ModelDifference]:
    right = LayerModel()
    if model.reached != right.reached:
        yield ModelDifference("back", _reached_sentence(model.reached), _set("reached"))
    yield from _slopes(model, nonlinearity)
    if model.links and model.links != right.links:
        behind = not model.links[0].sloped
        passed = " + ".join(term(link.term, link.coef) for link in model.links)
        if passed == right.links[0].term:
            words = "adds what the next step passes back behind the slope, which does not multiply it"
        else:
            where = ", behind the slope" if behind else ""
            words = f"passes {passed} from step t+1 back to step t{where}, not {right.links[0].term}"
        yield ModelDifference("da" if passed == right.links[0].term else "next", words, _set("links"))


def _slopes(model: LayerModel, nonlinearity: str) -> Iterator[ModelDifference]:
    right = LayerModel()
    if model.slope is not None and not _has_own_slope(model):
        slopes = [slope_of(variant, nonlinearity) for variant in (model, right)]
        words = f"takes {slopes[0]} for the slope of {nonlinearity}, not {slopes[1]}"
        yield ModelDifference("slope", words, _set("slope"))
    if model.sloped != right.sloped:
        words = f"takes the slope of {nonlinearity} {model.sloped.words}: elsewhere it is 1"
        yield ModelDifference("slope", words, _set("sloped"))
    if model.at_kink:
        words = f"takes {number(model.at_kink)} for the slope of relu where the sum is 0, not 0"
        yield ModelDifference("slope", words, _set("at_kink"))
    if model.at != right.at:
        yield ModelDifference("slope", f"takes the slope of step {model.at} at step t of the way back", _set("at"))


def _entry_sentence(model: LayerModel) -> str:
    if not model.entry:
        return "ignores the gradient of h_n"
    how, coef = model.entry[0]
    if how == "instead":
        return "takes the gradient of h_n in place of the output's at the last step, and does not add them"
    if coef.when == TermSteps("last", 1):
        return f"multiplies the gradient of h_n by {number(coef.value)}"
    return f"adds the gradient of h_n {coef.when.words or 'at every step'}, not at the last step"


def _visited_sentence(when: TermSteps) -> str:
    words = _reached_sentence(when).replace(" of the way back", "").replace("goes back", "runs")
    return re.sub(r"leaves (.*) out$", r"leaves out \1", words)


def _reached_sentence(when: TermSteps) -> str:
    words = {
        "but last": f"leaves the last {when.k} steps out of the way back",
        "from": f"leaves the first {when.k} steps out of the way back",
        "last": f"goes back over the last {when.k} steps only",
        "first": f"goes back over the first {when.k} steps only",
    }.get(when.kind, f"goes back {when.words}")
    return re.sub(r"the (last|first) 1 steps", r"the \1 step", words)


def _gradient_sums(model: LayerModel, derived: frozenset[str] = frozenset()) -> Iterator[ModelDifference]:
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
        yield ModelDifference(roles[0], words, partial(_mended_gradient_sums, roles=tuple(roles)))


def _mended_gradient_sums(model: LayerModel, roles: Sequence[str]) -> LayerModel:
    return replace(
        model, gradient_sums={role: terms for role, terms in model.gradient_sums.items() if role not in roles}
    )


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


def _limits(model: LayerModel) -> Iterator[ModelDifference]:
    groups: dict[GradientClip, list[str]] = {}
    for role, limit in model.limits.items():
        groups.setdefault(limit, []).append(role)
    for limit, roles in groups.items():
        most, whose = number(limit.most), of_roles(roles)
        words = {
            "elements": f"clips the gradient by {whose} to ±{most}",
            "norm": f"clips the norm of the gradient by {whose} to {most}, each by itself",
            "joint norm": f"clips the norm of the gradients by {whose}, taken together, to {most}",
            "running sum": f"clips the running sum of the gradient by {whose} to ±{most} at each step",
        }[limit.kind]
        key = roles[0] if limit.kind == "running sum" else f"limit of {roles[0]}"
        yield ModelDifference(key, words, partial(_mended_limits, roles=tuple(roles)))


def _mended_limits(model: LayerModel, roles: Sequence[str]) -> LayerModel:
    return replace(model, limits={role: limit for role, limit in model.limits.items() if role not in roles})


# Words.


def written(terms: WeightedTerms) -> str:
    """Return a sum, with the steps of each term in words where it does not stand at all of them."""
    parts = []
    for name, coef in terms:
        words = coef.when.words
        parts.append(term(name, coef) + (f" [{words}]" if words else ""))
    return " + ".join(parts).replace("+ -", "- ") or "0"
