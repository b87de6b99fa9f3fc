"""gate_differences: a step with gates as lines of NumPy, and where it is not torch's: a sentence, the mend."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any, Final

from harness.diagnosis.identify.activations import IDENTITY, Activation, number, times
from harness.diagnosis.identify.gates import (
    OWN_TERMS,
    PARAMETER_ROLES,
    GatedModel,
    GateFunction,
    GateSumTerm,
    complements,
    parameter_in,
    step_of,
)
from harness.diagnosis.identify.mistake import LayerSlot, Mend, Mistake, SlotMistakes, mistakes_in, with_fields_of
from harness.diagnosis.identify.model import LayerModel
from harness.diagnosis.identify.published_variants import variant_name
from harness.diagnosis.identify.step_patterns import NO_STEP
from harness.diagnosis.identify.wiring_differences import listed
from harness.space.cells import GATE_ORDERS, Polynomial

PARAMETER_OF: Final = dict(zip(OWN_TERMS, ("weight_ih", "bias_ih", "weight_hh", "bias_hh"), strict=True))
SHORT_FUNCTIONS: Final = ("sigmoid", "tanh")  # functions whose name is enough of a line
LAST_STATES: Final = {
    f"{letter}_{name}": f"the last {letter} of {words}"
    for letter in ("h", "c")
    for name, words in (("below", "the layer below"), ("beside", "the forward direction"))
}  # what states may start at, in words


# Lines.


def lines(model: GatedModel) -> dict[str, str]:
    """Return the lines of one layer and direction by what they compute; a state is the new one once it is written."""
    there = model.other_model
    if there is None:
        return _lines(model, model)
    own, others = _lines(model, there), _lines(there, model)  # of the same keys
    condition = model.other_model_steps.line
    return {
        key: own[key]
        if own[key] == others[key]
        else f"{others[key]} if {condition} else {own[key].partition(' = ')[2]}"
        for key in (others if len(_late(there)) > len(_late(model)) else own)
    }


def _late(model: GatedModel) -> list[str]:
    """Return the gates that read the new c."""
    return [name for name, gate in model.gates if any("c'" in p.operand for p in gate.parts)]


def _lines(model: GatedModel, beside: GatedModel) -> dict[str, str]:
    """Return the lines of a model, with those that another model of the same layer needs."""
    letters, late = letters_of(model), _late(model)
    gates = {name: f"    {name} = {_gate_text(model, gate)}" for name, gate in model.gates}
    texts = _rows_lines(model, "({role}[k::{G}] for k in range({G}))")
    texts |= {"start": f"{', '.join(letters)} = {', '.join(map(_start, model.starts))}", "steps": "for t in range(T):"}
    if {model.input, beside.input} != {"t"}:
        texts["input"] = f"    x = inputs[{model.input}]"
    for letter, own, theirs in zip(letters, model.reads, beside.reads, strict=False):
        if {own, theirs} != {letter}:
            texts[f"read {letter}"] = f"    {letter} = {_begun(model, letter, own)}"
    old = [name for name in letters if _is_overwritten(model, name) or _is_overwritten(beside, name)]
    if old:
        texts["before"] = f"    {', '.join(f'{name}_before' for name in old)} = {', '.join(old)}"
    h = "h" if model.carried[0] == "h'" else "h_new"
    c = "c_new" if model.memory and model.carried[1] != "c'" else "c"
    new = {"h'": h, "c'": c, **{name: f"{name}_before" for name in old}}
    texts |= {name: text for name, text in gates.items() if name not in late}
    if model.memory:
        memory = polynomial_text(model, model.memory, step_of(model.cell).memory)
        texts["c"] = f"    {c} = {_within(model, 'c', memory)}"
    texts |= {name: gates[name] for name in late}
    texts["h"] = f"    {h} = {_within(model, 'h', _mix_text(model))}"
    texts = {key: text.replace("c_after", c) for key, text in texts.items()}
    values = [_value(model, state, new) for state in model.carried]
    changed = [(name, value) for name, value in zip(letters, values, strict=True) if name != value]
    if changed:
        texts["carried"] = f"    {', '.join(n for n, _ in changed)} = {', '.join(v for _, v in changed)}"
    output, *last = (_value(model, state, new) for state in model.returned)
    texts["output"] = f"    output[t] = {output}"
    if model.written != LayerModel().written:
        texts["h_n"] = f"output = output[[{model.written[2:-1]} for t in range(T)]]"
    texts["returned"] = f"{', '.join(final_names(model))} = {', '.join(last)}"
    return texts


def _mix_text(model: GatedModel) -> str:
    text = polynomial_text(model, model.mix, step_of(model.cell).mix)
    return text if model.outer == IDENTITY else function_text(model.outer, text)


def _within(model: GatedModel, state: str, text: str) -> str:
    limits = model.limit and model.kept == state
    return f"np.clip({text}, -{model.limit:.6g}, {model.limit:.6g})" if limits else text


def _rows_lines(model: GatedModel, rows: str) -> dict[str, str]:
    """Return lines for the rows of each gate, of the parameters that have them unit by unit."""
    letters, texts = [name for name, _ in step_of(model.cell).gates], {}
    for role, stem in zip(PARAMETER_ROLES, ("W_i", "W_h", "b_i", "b_h"), strict=True):
        if role in model.arranged:
            texts[role] = f"{', '.join(stem + letter for letter in letters)} = {rows.format(role=role, G=len(letters))}"
    return texts


def right_lines(model: GatedModel) -> dict[str, str]:
    """Return torch's lines by what they compute, with those that a model's stand beside."""
    texts = _rows_lines(model, "np.split({role}, {G})") | lines(step_of(model.cell))
    of_input = {"t"} != {variant.input for variant in (model, model.other_model) if variant is not None}
    return texts | ({"input": "    x = inputs[t]"} if of_input else {})


def letters_of(model: GatedModel) -> tuple[str, ...]:
    """Return the names of the states."""
    return ("h", "c")[: len(model.starts)]


def final_names(model: GatedModel) -> tuple[str, ...]:
    """Return the names of the final states."""
    return ("h_n", "c_n")[: len(model.starts)]


def _is_overwritten(model: GatedModel, name: str) -> bool:
    """Tell whether a state's value before a step is read after the line that overwrites it."""
    k = letters_of(model).index(name)
    others = {*model.returned, *model.carried[:k], *model.carried[k + 1 :]}
    in_h = {factor for names, _ in model.mix for factor in names} if name == "c" else set()
    return (model.carried[k] != name and name in others) or not in_h.isdisjoint({"c", "tanh(c)"})


def _start(name: str) -> str:
    return {"zero": "0 * hx"}.get(name, f"{name}[T-1]" if name in LAST_STATES else name)


def _begun(model: GatedModel, letter: str, name: str) -> str:
    """Return what is read in the place of the state before a step."""
    start = dict(zip(("hx", "cx"), model.starts, strict=False)).get(name, name)
    return f"0 * {letter}" if start == "zero" else _start(start)


def _value(model: GatedModel, name: str, new: dict[str, str]) -> str:
    if name == "t":
        return function_text(model.read, new["c'"])
    return {"zero": "0 * h", **new}.get(name, name)


def part_text(model: GatedModel, part: GateSumTerm) -> str:
    """Return a term of a gate's sum, without its factor."""
    letter, _ = step_of(model.cell).gates[part.block]
    operand = f"({part.operand})" if "*" in part.operand else part.operand.replace("c'", "c_after")
    text = part.name.replace("x[t]", "x").replace("h[t-1]", operand)
    text = re.sub(r"\b([Wb])_(i|h)h\b", rf"\1_\2{letter}", text)
    return _scaled(part.coef, text)


def _scaled(coef: float, text: str) -> str:
    return f"-{text}" if coef == -1 else number(coef) if text == "1" else times(coef, text)


def sum_text(model: GatedModel, parts: Sequence[GateSumTerm]) -> str:
    """Return the sum of a gate; what one gate multiplies stands together."""
    texts = []
    for factor in dict.fromkeys(p.factor for p in parts):
        inner = joined(part_text(model, p) for p in parts if p.factor == factor)
        inner = f"({inner})" if factor and " " in inner else inner
        texts.append(f"{factor} * {inner}" if factor else inner)
    return joined(texts) or "0"


def joined(terms: Iterable[str]) -> str:
    """Return a sum of terms."""
    return " + ".join(terms).replace("+ -", "- ")


def function_text(kind: Activation, s: str) -> str:
    """Return a function of an expression."""
    kind, s = kind._replace(inside=1.0), times(kind.inside, s)
    if kind.name in SHORT_FUNCTIONS:
        return f"{kind.name}({s})"
    s = f"({s})" if " " in s else s
    return kind.line(s)


def _gate_text(model: GatedModel, gate: GateFunction) -> str:
    s = sum_text(model, gate.parts)
    return function_text(gate.activation, s if gate.inside == 1 else f"{number(gate.inside)} * ({s})")


def polynomial_text(model: GatedModel, terms: Polynomial, right: Polynomial) -> str:
    """Return a sum of products; what stands with a gate and without it is written as (1 - gate)."""
    rest = {frozenset(names): (names, coef) for names, coef in terms}
    letters = [name for name, _ in model.gates]
    order = [*(frozenset(names) for names, _ in right), *rest]
    texts = []
    for key in order:
        if key not in rest:
            continue
        pairs = ((gate, key - {gate}, key | {gate}) for gate in letters)
        opposite = (row for row in pairs if all(k in rest for k in row[1:]) and rest[row[1]][1] == -rest[row[2]][1])
        gate, without, with_it = next(opposite, (None, key, key))
        names, coef = rest.pop(without)
        rest.pop(with_it, None)
        texts.append(_product_text(model, names, coef, gate, in_h=terms is model.mix))
    return joined(texts) or "0 * h"


def _product_text(model: GatedModel, names: Sequence[str], coef: float, gate: str | None, *, in_h: bool) -> str:
    letters = [name for name, _ in model.gates]
    ordered = sorted(names, key=lambda name: (name not in letters, letters.index(name) if name in letters else name))
    words = {"t": function_text(model.read, "c_after"), "c'": "c_after", "h'": "h"}
    words |= {"c": "c_before", "tanh(c)": "tanh(c_before)"} if in_h else {}
    factors = [*([f"(1 - {gate})"] if gate else []), *(words.get(name, name) for name in ordered)]
    text = " * ".join(factors) or "1"
    return _scaled(coef, text)


# Mistakes.


def differences(model: GatedModel) -> Iterator[Mistake]:
    """Yield the differences of a step from torch's, in the order in which numbers trace."""
    if model.differentiated is not None:
        for mistake in differences(replace(model, differentiated=None)):
            yield replace(mistake, mend=partial(_mended_both_ways, mend=mistake.mend))
        return
    right, there = step_of(model.cell), model.other_model
    every = [*mistakes_in(SLOTS, model, right)]
    if there is None:
        in_order = reduce(lambda mended, mistake: mistake.mend(mended), (m for m in every if m.of_order), model)
        yield from (replace(mistake, variant=variant_name(in_order, mistake.slots)) for mistake in every)
        return
    own, others = ({mistake.what: mistake for mistake in some} for some in (every, mistakes_in(SLOTS, there, right)))
    steps, rest = model.other_model_steps.words, model.other_model_steps.others
    elsewhere = "at some steps" if rest is None else rest.words
    for what in {**own, **others}:
        mends = [some.get(what, Mistake(what)).mend for some in (own, others)]  # those without it need no mend
        words = what if what in own and what in others else f"{what}, {elsewhere if what in own else steps}"
        mistake = own.get(what) or others[what]
        yield replace(mistake, what=words, mend=partial(_mended, own=mends[0], there=mends[1]))


def _mended(model: GatedModel, own: Mend, there: Mend) -> GatedModel:
    """Return a model that is mended at some of its steps, or at all; where all are alike then, it has no others."""
    plain: GatedModel = own(replace(model, other_model=None, other_model_steps=NO_STEP))
    elsewhere: GatedModel = replace(there(model.other_model), back=plain.back)
    if plain == elsewhere:
        return plain
    return replace(plain, other_model=elsewhere, other_model_steps=model.other_model_steps)


def _mended_both_ways(model: GatedModel, mend: Mend) -> GatedModel:
    """Return a model that is mended, as is the step whose derivative its way back is, unless they are alike then."""
    forward: GatedModel = mend(replace(model, differentiated=None))
    back = None if model.differentiated is None else replace(mend(model.way_back), differentiated=None)
    return replace(forward, differentiated=None if back == forward else back)


# What is said of the states at the start, in the next step and at the end, of both together and of one.
STATE_SENTENCES: Final[dict[tuple[str, Any], str]] = {
    ("starts", ("cx", "hx")): "exchanges hx and cx: h starts at cx, and c at hx",
    ("starts", ("h_below", "c_below")): "starts at the last states of the layer below, not at hx and cx",
    ("starts", ("h_beside", "c_beside")): "starts at the last states of the forward direction, not at hx and cx",
    ("starts", "zero"): "ignores {right}: {letter} starts at zeros",
    ("starts", None): "starts {letter} at {state}, not {right}",
    ("carried", "zero"): "carries no {letter} to the next step",
    ("carried", None): "carries {state} to the next step as {letter}",
    ("returned", ("c'", "h'")): "exchanges h_n and c_n",
    ("returned", None): "returns {state} as {result}, not {right}",
}
STATE_WORDS: Final = LAST_STATES | {"h'": "h", "c'": "c", "h": "the h before the step", "c": "the c before the step"}


def _states(model: GatedModel, right: GatedModel, _: str, *, name: str, line: str) -> Iterator[Mistake]:
    states, own, letters = getattr(model, name), getattr(right, name), letters_of(model)
    before = len(states) - len(letters)  # of these is the output
    together = (name, states[before:]) in STATE_SENTENCES
    wrong = [[*range(before, len(states))]] if together else [[k] for k, s in enumerate(states) if s != own[k]]
    for places in wrong:
        k = places[0]
        choice = states[before:] if together else states[k]
        sentence = (STATE_SENTENCES.get((name, choice)) or STATE_SENTENCES[name, None]).format(
            letter=letters[k - before],
            state=_value(model, states[k], STATE_WORDS),
            right=STATE_WORDS.get(own[k], own[k]),
            result=("output", *final_names(model))[k],
        )
        mend = partial(_with_states_of, right=right, name=name, places=places)
        yield Mistake(sentence, line=line if k >= before else "output", mend=mend)


def _with_states_of(model: GatedModel, right: GatedModel, name: str, places: Collection[int]) -> GatedModel:
    own, states = getattr(right, name), getattr(model, name)
    changed: dict[str, Any] = {name: tuple(own[k] if k in places else state for k, state in enumerate(states))}
    return replace(model, **changed)


def _arranged_words(model: Any, _: str) -> str:
    return f"reads the rows of {listed(model.arranged)} unit by unit, all gates of each, not gate by gate"


def _begun_anew(model: GatedModel, right: GatedModel, _: str) -> Iterator[Mistake]:
    """Yield what the states are set to in every step, or in some."""
    read = [(letter, name) for letter, name in zip(letters_of(model), model.reads, strict=False) if letter != name]
    if read:
        starts = {"zero": "zeros"} | LAST_STATES
        at = dict(zip(("hx", "cx"), model.starts, strict=False))
        states = [(letter, at.get(name, name)) for letter, name in read]
        words = listed([f"{letter} anew at {starts.get(name, name)}" for letter, name in states])
        mend = partial(with_fields_of, right=right, names=["reads"])
        yield Mistake(f"starts {words}", line=f"read {read[0][0]}", mend=mend)


def _rows(model: GatedModel, right: GatedModel, _: str) -> Iterator[Mistake]:
    """Yield the parameters whose rows are read in another order."""
    letters = [name for name, _ in right.gates]
    orders: dict[str, list[str]] = {}
    for name in OWN_TERMS:
        blocks = [{p.block for p in gate.parts if _of_parameter(p, [name])} for _, gate in model.gates]
        block_of = [next(iter(options)) if len(options) == 1 else -1 for options in blocks]
        rest = [k for k in range(len(letters)) if k not in block_of]
        if block_of.count(-1) <= 1 and len(rest) <= 1:  # a gate that does not read it has the rows that are left
            block_of = [rest[0] if k == -1 else k for k in block_of]
        if sorted(block_of) == [*range(len(letters))] and block_of != sorted(block_of):
            order = "".join(letters[block_of.index(k)] for k in range(len(letters)))
            orders.setdefault(order, []).append(name)
    read = {p.name for _, gate in model.gates for p in gate.parts}
    for order, names in orders.items():
        some = any(name in read for name in OWN_TERMS if name not in names)
        rows = f"the rows of {listed([PARAMETER_OF[name] for name in names])}" if some else "its rows"
        whose = GATE_ORDERS.get(order, ())
        known = f"that of {listed(whose)}" if len(whose) > 1 else "".join(f"{name}'s" for name in whose)
        words = f"reads {rows} in the order {', '.join(order)}, {known or 'not ' + ', '.join(letters)}"
        first = next(letter for letter, own in zip(letters, order, strict=True) if letter != own)
        yield Mistake(words, line=first, mend=partial(_reordered, names=names), of_order=True)


def _of_parameter(part: GateSumTerm, names: Sequence[str]) -> bool:
    """Tell whether a term reads a parameter of some terms of torch's step, in whatever form."""
    return any(re.search(rf"\b{parameter}\b", part.name) for parameter in map(parameter_in, names))


def _reordered(model: GatedModel, names: Sequence[str]) -> GatedModel:
    """Return a model in which each gate reads its own rows of some parameters."""

    def own_rows(k: int, gate: GateFunction) -> GateFunction:
        parts = (p._replace(block=k) if _of_parameter(p, names) else p for p in gate.parts)
        return gate._replace(parts=tuple(parts))

    return replace(model, gates=tuple((letter, own_rows(k, gate)) for k, (letter, gate) in enumerate(model.gates)))


def _with_gates_of(model: GatedModel, right: GatedModel, letters: Collection[str], names: Sequence[str]) -> GatedModel:
    """Return a model with some fields of another one's gates."""
    rights = dict(right.gates)
    changes = {letter: {name: getattr(rights[letter], name) for name in names} for letter in letters}
    return replace(
        model, gates=tuple((letter, gate._replace(**changes.get(letter, {}))) for letter, gate in model.gates)
    )


def _functions(model: GatedModel, right: GatedModel, _: str) -> Iterator[Mistake]:
    rights, wrong = dict(right.gates), dict[tuple[Activation, float, Activation], list[str]]()
    for letter, gate in model.gates:
        if gate[::2] != rights[letter][::2]:
            wrong.setdefault((gate.activation, gate.inside, rights[letter].activation), []).append(letter)
    for (kind, inside, own), letters in wrong.items():
        what = f"the sum of {listed(letters)}"
        words = f"applies {_name(kind)} to {what}, not {own.name}"
        if inside != 1:
            words = f"applies {_name(kind)} to {number(inside)} times {what}, not {own.name} to the sum"
        mend = partial(_with_gates_of, right=right, letters=letters, names=("activation", "inside"))
        yield Mistake(words, line=letters[0], mend=mend, slots=tuple(("function", letter) for letter in letters))


def _name(kind: Activation) -> str:
    names = {"identity": "no function"} | {name: name for name in (*SHORT_FUNCTIONS, "relu")}
    return names.get(kind.name, f"{kind.name}, {kind.line('s')},")


def _sums(model: GatedModel, right: GatedModel, _: str) -> Iterator[Mistake]:
    """Yield what is wrong in the sums of gates; what is the same in several is said once."""
    rights = dict(right.gates)
    wrong: dict[str, list[str]] = {}
    for letter, gate in model.gates:
        more = [p for p in gate.parts if p not in rights[letter].parts]
        less = [p for p in rights[letter].parts if p not in gate.parts]
        if more or less:
            words = _sum_sentence(model, letter, more, less)
            words = re.sub(rf"\b([Wb]_[ih]){letter}\b|\b{letter}$|\b{letter}(?=, not)", r"\1*", words)
            wrong.setdefault(words, []).append(letter)
    for words, letters in wrong.items():
        mend = partial(_with_gates_of, right=right, letters=letters, names=["parts"])
        slots = tuple(("sum", letter) for letter in letters)
        yield Mistake(_of_all(words, letters, right), line=letters[0], mend=mend, slots=slots)


def _of_all(words: str, letters: Sequence[str], right: GatedModel) -> str:
    """Return what is said of one gate, of several; ``*`` stands for the letter of each."""
    if len(letters) == 1:
        return words.replace("*", letters[0]) if " * " not in words else re.sub(r"(?<! )\*|\*(?! )", letters[0], words)
    many = re.sub(r"b_(i|h)\*", r"bias_\1h", re.sub(r"W_(i|h)\*", r"weight_\1h", words))
    many = re.sub(r"sum of \*", f"sums of {listed(letters)}", many)
    if len(letters) < len(right.gates):
        return many
    every = f" in the sums of {listed(letters)}"
    for side, opposite in (("ih", "hh"), ("hh", "ih")):
        if many == f"takes 2 * bias_{side}{every}, not bias_ih + bias_hh":
            return f"adds bias_{side} twice, and bias_{opposite} never"
        if many == f"leaves bias_{side} out of the sums of {listed(letters)}":
            return f"ignores bias_{side}: it is never added"
    return many.replace(every, "") if many.startswith("takes") else many


def _sum_sentence(model: GatedModel, letter: str, more: Sequence[GateSumTerm], less: Sequence[GateSumTerm]) -> str:
    """Return what is wrong in a gate's sum."""
    own = [name for name, _ in step_of(model.cell).gates].index(letter)
    if all(p.coef == 1 and p.block == own for p in more) and (words := _reset_sentence(letter, more, less)):
        return words
    added, left_out = (
        listed([part_text(model, p) for p in parts]).replace("c_after", "the new c") if parts else ""
        for parts in (more, less)
    )
    if not more:
        return f"leaves {left_out} out of the sum of {letter}"
    if not less:
        return f"adds {added} to the sum of {letter}"
    wanted, instead = (sum_text(model, parts).replace("c_after", "c") for parts in (less, more))
    return f"takes {instead} in the sum of {letter}, not {wanted}"


def _reset_sentence(letter: str, more: Sequence[GateSumTerm], less: Sequence[GateSumTerm]) -> str:
    """Return what is multiplied by a gate, and what is not, if no more than that is wrong."""
    x, b_ih, h, b_hh = OWN_TERMS
    texts = {x: f"x @ W_i{letter}.T", b_ih: f"b_i{letter}", h: f"h @ W_h{letter}.T", b_hh: f"b_h{letter}"}
    gate = next((p.factor for p in (*more, *less) if p.factor), "")
    reads = {(p.name, p.operand) for p in more}, {(p.name, p.operand) for p in less}
    before = {(name, f"{gate} * h" if name == h else operand) for name, operand in reads[1]}
    inside, outside = ({p.factor for p in parts} for parts in (more, less))
    if outside == {gate} and inside == {""} and reads[0] == before and (h, "h") in reads[1]:
        return f"applies {gate} to h before W_h{letter}, not to the product with it"
    if reads[0] != reads[1] or not {*texts} >= {name for name, _ in reads[0]}:
        return ""
    what = listed([texts[p.name] for p in more])
    if (inside, outside) == ({gate}, {""}):
        return f"multiplies {what} by {gate}, too"
    if (inside, outside) == ({""}, {gate}):
        if {name for name, _ in reads[0]} == {h, b_hh}:
            return f"does not apply {gate}: it multiplies nothing in {letter}"
        return f"adds {what} outside of {gate}"
    return ""


def _memory_words(model: Any, _: str) -> str:
    right = step_of(model.cell)
    if {*model.memory} == {*right.memory}:
        return ""
    own = polynomial_text(model, model.memory, right.memory)
    if not any({"c", "tanh(c)"} & {*names} for names, _ in model.memory):
        return f"does not carry c: it makes c of {own}"
    words = _complement_words(model.memory, right.memory, right)
    return words or f"makes c of {own}, not of {polynomial_text(right, right.memory, right.memory)}"


def _complement_words(own: Polynomial, terms: Polynomial, right: GatedModel) -> str:
    """Return what is said of a sum that has 1 - a gate in the place of one; nothing of another sum."""
    for gate, complemented, made in complements(terms, dict(right.gates)):
        if {*made} == {*own}:
            both = any(
                tuple(name for name in names if name != gate) in dict(terms) for names in dict(terms) if gate in names
            )
            return (
                f"exchanges {gate} and 1 - {gate}"
                if gate == complemented and both
                else f"takes 1 - {complemented} in the place of {gate}"
            )
    return ""


def _is_read_otherwise(model: GatedModel) -> bool:
    """Tell whether what h is made of has another function of c."""
    own = step_of(model.cell).read
    return bool(model.memory) and model.read != own and any("t" in names for names, _ in model.mix)


def _read_words(model: Any, _: str) -> str:
    if not _is_read_otherwise(model) or model.read == IDENTITY:  # then h is made of c itself
        return ""
    what = times(model.read.inside, "c")
    return f"applies {_name(model.read._replace(inside=1.0))} to {what}, not tanh{' to c' * (what != 'c')}"


def _mix(model: GatedModel, right: GatedModel, _: str) -> Iterator[Mistake]:
    of_c = model.read == IDENTITY and _is_read_otherwise(model)
    if {*model.mix} == {*right.mix} and model.outer == right.outer and not of_c:
        return
    words = _complement_words(model.mix, right.mix, right) if model.outer == right.outer else ""
    if not words:
        own, wanted = map(_mix_text, (model, right))
        words = f"makes h of {own}, not of {wanted}".replace("c_before", "c[t-1]")
        words = words.replace("c_after", "c[t]" if "c_before" in own else "c")
    names = ("mix", "outer", *["read"] * (model.read == IDENTITY))
    yield Mistake(words, line="h", mend=partial(with_fields_of, right=right, names=names), slots=(("mix",),))


SLOTS: Final[tuple[SlotMistakes, ...]] = (
    LayerSlot("arranged", lambda model: model.arranged[0], _arranged_words),
    partial(_states, name="starts", line="start"),
    _begun_anew,
    LayerSlot("input", "input", "reads x of step {choice}, not of step t"),
    _rows,
    _functions,
    _sums,
    LayerSlot("memory", "c", _memory_words),
    LayerSlot("limit", lambda model: model.kept, "clips {model.kept} to ±{choice:.6g}"),
    LayerSlot("read", "h", _read_words),
    _mix,
    partial(_states, name="carried", line="carried"),
    partial(_states, name="returned", line="returned"),
)
