"""gate_differences: a step with gates as lines of NumPy, and where it is not torch's: a sentence, the mend."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any, Final, NamedTuple

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
from harness.diagnosis.identify.model import LayerModel
from harness.diagnosis.identify.published_variants import Slot, variant_name
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


class GateDifference(NamedTuple):
    """A difference of a model from torch's: the line that has it, what is said of it, and what mends it."""

    line: str  # its key among ``lines``
    sentence: str
    mend: Callable[[Any], Any]  # of a ``GatedModel``
    of_order: bool = False  # it is the order of the gates' rows
    slots: tuple[Slot, ...] = ()  # of the choices of a step that it is
    variant: str = ""  # the published variant that has it


# Lines.


def lines(model: GatedModel) -> dict[str, str]:
    """Return the lines of one layer and direction by what they compute; a state is the new one once it is written."""
    there = model.other_model
    if there is None:
        return _lines(model, model)
    own, others = _lines(model, there), _lines(there, model)  # of the same keys
    order = others if len(_late(there)) > len(_late(model)) else own
    return {
        key: own[key] if own[key] == others[key] else _either(own[key], others[key], model.other_model_steps.line)
        for key in order
    }


def _either(own: str, alternative: str, condition: str) -> str:
    """Return a line that computes what another one does where a condition holds."""
    return f"{alternative} if {condition} else {own.partition(' = ')[2]}"


def _late(model: GatedModel) -> list[str]:
    """Return the gates that read the new c."""
    return [name for name, gate in model.gates if any("c'" in p.operand for p in gate.parts)]


def _lines(model: GatedModel, beside: GatedModel) -> dict[str, str]:
    """Return the lines of a model, with those that another model of the same layer needs."""
    gates = dict(model.gates)
    late = _late(model)
    names = final_names(model)
    texts = _rows_lines(model, "({role}[k::{G}] for k in range({G}))")
    texts |= {"start": f"{', '.join(letters_of(model))} = {', '.join(_start(state) for state in model.starts)}"}
    texts["steps"] = "for t in range(T):"
    if {model.input, beside.input} != {"t"}:
        texts["input"] = f"    x = inputs[{model.input}]"
    for letter, own, theirs in zip(letters_of(model), model.reads, beside.reads, strict=False):
        if {own, theirs} != {letter}:
            texts[f"read {letter}"] = f"    {letter} = {_begun(model, letter, own)}"
    old = [name for name in letters_of(model) if _is_overwritten(model, name) or _is_overwritten(beside, name)]
    if old:
        texts["before"] = f"    {', '.join(f'{name}_before' for name in old)} = {', '.join(old)}"
    texts |= {name: f"    {_gate_line(model, name)}" for name in gates if name not in late}
    if model.memory:
        c = polynomial_text(model, model.memory, step_of(model.cell).memory)
        c = _within(model, "c", c)
        texts["c"] = f"    c_new = {c}" if model.carried[1] != "c'" else f"    c = {c}"
    texts |= {name: f"    {_gate_line(model, name)}" for name in late}
    h = _within(model, "h", _mix_text(model))
    texts["h"] = f"    h_new = {h}" if model.carried[0] != "h'" else f"    h = {h}"
    new = {
        "h'": texts["h"].split()[0],
        "c'": texts.get("c", "c").split()[0],
        **{name: f"{name}_before" for name in old},
    }
    texts |= {"h": texts["h"].replace("c_after", new["c'"])}
    late_names = {name: texts[name].replace("c_after", new["c'"]) for name in late}
    texts |= late_names
    carried = [(name, _value(model, state, new)) for name, state in zip(letters_of(model), model.carried, strict=True)]
    changed = [(name, value) for name, value in carried if name != value]
    if changed:
        texts["carried"] = f"    {', '.join(n for n, _ in changed)} = {', '.join(v for _, v in changed)}"
    values = [_value(model, state, new) for state in model.returned]
    texts["output"] = f"    output[t] = {values[0]}"
    if model.written != LayerModel().written:
        texts["written"] = f"output = output[[{model.written[2:-1]} for t in range(T)]]"
    texts["returned"] = f"{', '.join(names)} = {', '.join(values[1:])}"
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


def _letter(model: GatedModel, block: int) -> str:
    return step_of(model.cell).gates[block][0]


def part_text(model: GatedModel, part: GateSumTerm) -> str:
    """Return a term of a gate's sum, without its factor."""
    letter = _letter(model, part.block)
    operand = f"({part.operand})" if "*" in part.operand else part.operand.replace("c'", "c_after")
    text = part.name.replace("x[t]", "x").replace("h[t-1]", operand)
    text = re.sub(r"\b([Wb])_(i|h)h\b", rf"\1_\2{letter}", text)
    return text if part.coef == 1 else f"-{text}" if part.coef == -1 else _times(part.coef, text)


def _times(coef: float, text: str) -> str:
    if text == "1":
        return number(coef)
    return f"{number(coef)} * ({text})" if re.search(r" [-+@] ", text) else f"{number(coef)} * {text}"


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


def _gate_line(model: GatedModel, name: str) -> str:
    return f"{name} = {gate_text(model, dict(model.gates)[name])}"


def gate_text(model: GatedModel, gate: GateFunction) -> str:
    """Return what a gate is."""
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
    return text if coef == 1 else f"-{text}" if coef == -1 else _times(coef, text)


# Mistakes.


def differences(model: GatedModel) -> Iterator[GateDifference]:
    """Yield the differences of a step from torch's, in the order in which numbers trace."""
    if model.differentiated is not None:
        rows = differences(replace(model, differentiated=None))
        yield from (row._replace(mend=partial(_mended_both_ways, mend=row.mend)) for row in rows)
        return
    there = model.other_model
    if there is None:
        every = [*_differences(model)]
        in_order = reduce(lambda mended, row: row.mend(mended), (row for row in every if row.of_order), model)
        yield from (row._replace(variant=variant_name(in_order, row.slots)) for row in every)
        return
    own, others = [*_differences(model)], {change.sentence: change for change in _differences(there)}
    for difference in own:
        if (same := others.pop(difference.sentence, None)) is not None:
            yield difference._replace(mend=partial(_mended, own=difference.mend, there=same.mend))
        else:
            rest = model.other_model_steps.others
            words = f"{difference.sentence}, {'at some steps' if rest is None else rest.words}"
            yield difference._replace(sentence=words, mend=partial(_mended, own=difference.mend))
    for difference in others.values():
        mend = partial(_mended, there=difference.mend)
        yield difference._replace(sentence=f"{difference.sentence}, {model.other_model_steps.words}", mend=mend)


def _mended(model: GatedModel, own: Any = lambda m: m, there: Any = lambda m: m) -> GatedModel:
    """Return a model that is mended at some of its steps, or at all; where all are alike then, it has no others."""
    plain: GatedModel = own(replace(model, other_model=None, other_model_steps=NO_STEP))
    elsewhere: GatedModel = replace(there(model.other_model), back=plain.back)
    return (
        plain
        if plain == elsewhere
        else replace(plain, other_model=elsewhere, other_model_steps=model.other_model_steps)
    )


def _mended_both_ways(model: GatedModel, mend: Callable[[GatedModel], GatedModel]) -> GatedModel:
    """Return a model that is mended, as is the step whose derivative its way back is, unless they are alike then."""
    forward = mend(replace(model, differentiated=None))
    back = None if model.differentiated is None else replace(mend(model.way_back), differentiated=None)
    return replace(forward, differentiated=None if back == forward else back)


def _differences(model: GatedModel) -> Iterator[GateDifference]:
    right = step_of(model.cell)
    if model.arranged:
        yield GateDifference(
            model.arranged[0],
            f"reads the rows of {listed(model.arranged)} unit by unit, all gates of each, not gate by gate",
            lambda m: replace(m, arranged=()),
        )
    yield from _starts(model, right)
    read = [(s, name) for s, name in zip(letters_of(model), model.reads, strict=False) if s != name]
    if read:
        starts = dict(zip(("hx", "cx"), model.starts, strict=False))
        at = [(s, starts.get(name, name)) for s, name in read]
        words = listed([f"{s} anew at {'zeros' if name == 'zero' else LAST_STATES.get(name, name)}" for s, name in at])
        yield GateDifference(f"read {read[0][0]}", f"starts {words}", lambda m: replace(m, reads=right.reads))
    if model.input != right.input:
        words = f"reads x of step {model.input}, not of step t"
        yield GateDifference("input", words, lambda m: replace(m, input=right.input))
    rows = [*_rows(model, right)]
    yield from rows
    mended = model
    for difference in rows:
        mended = difference.mend(mended)
    yield from _functions(mended, right)
    yield from _sums(mended, right)
    if {*model.memory} != {*right.memory}:
        yield GateDifference("c", _memory_sentence(model, right), _set(right, "memory"), slots=(("memory",),))
    if model.limit:
        words = f"clips {model.kept} to ±{model.limit:.6g}"
        yield GateDifference(model.kept, words, _set(right, "limit"), slots=(("limit",),))
    reads = model.memory and model.read != right.read and any("t" in names for names, _ in model.mix)
    if reads and model.read != IDENTITY:
        what = times(model.read.inside, "c")
        words = f"applies {_name(model.read._replace(inside=1.0))} to {what}, not tanh{' to c' * (what != 'c')}"
        yield GateDifference("h", words, _set(right, "read"), slots=(("read",),))
    if {*model.mix} != {*right.mix} or model.outer != right.outer or (reads and model.read == IDENTITY):
        words = _mix_sentence(model, right)
        mend = _set(right, "mix", "outer", *["read"] * (model.read == IDENTITY))
        yield GateDifference("h", words, mend, slots=(("mix",),))
    yield from _moved(model, right)


def _starts(model: GatedModel, right: GatedModel) -> Iterator[GateDifference]:
    if model.starts == right.starts[::-1] and len(right.starts) > 1:
        yield GateDifference("start", "exchanges hx and cx: h starts at cx, and c at hx", _set(right, "starts"))
        return
    for where in ("below", "beside"):
        if len(model.starts) > 1 and model.starts == tuple(f"{letter}_{where}" for letter in letters_of(model)):
            words = f"starts at the last states{LAST_STATES[f'h_{where}'].removeprefix('the last h')}, not at hx and cx"
            yield GateDifference("start", words, _set(right, "starts"))
            return
    for k, (own, wanted) in enumerate(zip(model.starts, right.starts, strict=True)):
        if own != wanted:
            letter = letters_of(model)[k]
            words = (
                f"ignores {wanted}: {letter} starts at zeros"
                if own == "zero"
                else f"starts {letter} at {LAST_STATES.get(own, own)}, not {wanted}"
            )
            yield GateDifference("start", words, partial(_at, name="starts", k=k, value=wanted))


def _set(right: GatedModel, *names: str) -> Callable[[GatedModel], GatedModel]:
    return lambda model: replace(model, **{name: getattr(right, name) for name in names})


def _at(model: GatedModel, name: str, k: int, value: str) -> GatedModel:
    choices = [*getattr(model, name)]
    choices[k] = value
    changed: dict[str, Any] = {name: tuple(choices)}
    return replace(model, **changed)


def _rows(model: GatedModel, right: GatedModel) -> Iterator[GateDifference]:
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
    for order, names in orders.items():
        absent = [name for name in OWN_TERMS if name not in names and _reads(model, name)]
        rows = "its rows" if not absent else f"the rows of {listed([PARAMETER_OF[name] for name in names])}"
        words = f"reads {rows} in the order {', '.join(order)}"
        words += f", {_whose(GATE_ORDERS[order])}" if order in GATE_ORDERS else f", not {', '.join(letters)}"
        mend = partial(_reordered, names=names, right=right)
        yield GateDifference(_first_moved(order, letters), words, mend, of_order=True)


def _of_parameter(part: GateSumTerm, names: Sequence[str]) -> bool:
    """Tell whether a term reads a parameter of some terms of torch's step, in whatever form."""
    return any(re.search(rf"\b{parameter}\b", part.name) for parameter in map(parameter_in, names))


def _whose(frameworks: Sequence[str]) -> str:
    return f"{frameworks[0]}'s" if len(frameworks) == 1 else f"that of {listed(frameworks)}"


def _first_moved(order: str, letters: list[str]) -> str:
    return next(letter for letter, own in zip(letters, order, strict=True) if letter != own)


def _reads(model: GatedModel, name: str) -> bool:
    return any(p.name == name for _, gate in model.gates for p in gate.parts)


def _reordered(model: GatedModel, names: Sequence[str], right: GatedModel) -> GatedModel:
    own = {letter: k for k, (letter, _) in enumerate(right.gates)}
    return _with_gates(
        model,
        lambda letter, gate: gate._replace(
            parts=tuple(p._replace(block=own[letter]) if _of_parameter(p, names) else p for p in gate.parts)
        ),
    )


def _with_gates(model: GatedModel, change: Callable[[str, GateFunction], GateFunction]) -> GatedModel:
    return replace(model, gates=tuple((letter, change(letter, gate)) for letter, gate in model.gates))


def _name(kind: Activation) -> str:
    line = kind.line("s")
    return (
        kind.name
        if kind.name in {*SHORT_FUNCTIONS, "relu"}
        else "no function"
        if kind.name == "identity"
        else f"{kind.name}, {line},"
    )


def _functions(model: GatedModel, right: GatedModel) -> Iterator[GateDifference]:
    rights, wrong = dict(right.gates), dict[tuple[Activation, float, Activation], list[str]]()
    for letter, gate in model.gates:
        if gate[::2] != rights[letter][::2]:
            wrong.setdefault((gate.activation, gate.inside, rights[letter].activation), []).append(letter)
    for (kind, inside, own), letters in wrong.items():
        words = f"applies {_name(kind)} to the sum of {listed(letters)}, not {own.name}"
        if inside != 1:
            argument = f"{number(inside)} times the sum of {listed(letters)}"
            words = f"applies {_name(kind)} to {argument}, not {own.name} to the sum"
        slots = tuple(("function", letter) for letter in letters)
        yield GateDifference(letters[0], words, partial(_refunctioned, letters=letters, right=right), slots=slots)


def _refunctioned(model: GatedModel, letters: Sequence[str], right: GatedModel) -> GatedModel:
    rights = dict(right.gates)
    return _with_gates(
        model,
        lambda letter, gate: (
            gate._replace(activation=rights[letter].activation, inside=rights[letter].inside)
            if letter in letters
            else gate
        ),
    )


def _sums(model: GatedModel, right: GatedModel) -> Iterator[GateDifference]:
    """Yield what is wrong in the sums of gates; what is the same in several is said once."""
    rights = dict(right.gates)
    wrong: dict[str, list[str]] = {}
    for letter, gate in model.gates:
        more = [p for p in gate.parts if p not in rights[letter].parts]
        less = [p for p in rights[letter].parts if p not in gate.parts]
        if more or less:
            words = _sum_sentence(model, letter, more, less)
            wrong.setdefault(
                re.sub(rf"\b([Wb]_[ih]){letter}\b|\b{letter}$|\b{letter}(?=, not)", r"\1*", words), []
            ).append(letter)
    for words, letters in wrong.items():
        slots = tuple(("sum", letter) for letter in letters)
        mend = partial(_resummed, letters=letters, right=right)
        yield GateDifference(letters[0], _of_all(words, letters, right), mend, slots=slots)


def _of_all(words: str, letters: Sequence[str], right: GatedModel) -> str:
    """Return what is said of one gate, of several; ``*`` stands for the letter of each."""
    if len(letters) == 1:
        return words.replace("*", letters[0]) if " * " not in words else re.sub(r"(?<! )\*|\*(?! )", letters[0], words)
    many = re.sub(r"b_(i|h)\*", r"bias_\1h", re.sub(r"W_(i|h)\*", r"weight_\1h", words))
    many = re.sub(r"sum of \*", f"sums of {listed(letters)}", many)
    if len(letters) == len(right.gates):
        every = f" in the sums of {listed(letters)}"
        for side, opposite in (("ih", "hh"), ("hh", "ih")):
            if many == f"takes 2 * bias_{side}{every}, not bias_ih + bias_hh":
                return f"adds bias_{side} twice, and bias_{opposite} never"
            if many == f"leaves bias_{side} out of the sums of {listed(letters)}":
                return f"ignores bias_{side}: it is never added"
        return many.replace(every, "") if many.startswith("takes") else many
    return many


def _resummed(model: GatedModel, letters: Sequence[str], right: GatedModel) -> GatedModel:
    rights = dict(right.gates)
    return _with_gates(
        model, lambda letter, gate: gate._replace(parts=rights[letter].parts) if letter in letters else gate
    )


def _sum_sentence(model: GatedModel, letter: str, more: Sequence[GateSumTerm], less: Sequence[GateSumTerm]) -> str:
    """Return what is wrong in a gate's sum."""
    own = list(step_of(model.cell).gates).index((letter, dict(step_of(model.cell).gates)[letter]))
    if all(p.coef == 1 and p.block == own for p in more) and (words := _reset_sentence(letter, more, less)):
        return words

    def text_of(parts: Sequence[GateSumTerm]) -> str:
        return listed([part_text(model, p) for p in parts]).replace("c_after", "the new c")

    if not more:
        return f"leaves {text_of(less)} out of the sum of {letter}"
    if not less:
        return f"adds {text_of(more)} to the sum of {letter}"
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


def _memory_sentence(model: GatedModel, right: GatedModel) -> str:
    own = polynomial_text(model, model.memory, right.memory)
    if not any({"c", "tanh(c)"} & {*names} for names, _ in model.memory):
        return f"does not carry c: it makes c of {own}"
    if words := _complement_words(model.memory, right.memory, right):
        return words
    return f"makes c of {own}, not of {polynomial_text(right, right.memory, right.memory)}"


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


def _mix_sentence(model: GatedModel, right: GatedModel) -> str:
    own, wanted = map(_mix_text, (model, right))
    after = "c[t]" if "c_before" in own else "c"
    if model.outer == right.outer and (words := _complement_words(model.mix, right.mix, right)):
        return words
    words = f"makes h of {own}, not of {wanted}"
    return words.replace("c_before", "c[t-1]").replace("c_after", after)


def _moved(model: GatedModel, right: GatedModel) -> Iterator[GateDifference]:
    new = {"h'": "h", "c'": "c", "h": "the h before the step", "c": "the c before the step"}
    for k, (own, wanted) in enumerate(zip(model.carried, right.carried, strict=True)):
        if own != wanted:
            letter, value = letters_of(model)[k], _value(model, own, new)
            words = (
                f"carries no {letter} to the next step"
                if own == "zero"
                else f"carries {value} to the next step as {letter}"
            )
            yield GateDifference("carried", words, partial(_at, name="carried", k=k, value=wanted))
    names = ("output", *final_names(model))
    if model.returned[1:] == right.returned[:0:-1] and len(right.starts) > 1:
        yield GateDifference(
            "returned", "exchanges h_n and c_n", lambda m: replace(m, returned=(m.returned[0], *right.returned[1:]))
        )
        return
    for k, (own, wanted) in enumerate(zip(model.returned, right.returned, strict=True)):
        if own != wanted:
            words = f"returns {_value(model, own, new)} as {names[k]}, not {new[wanted]}"
            yield GateDifference("returned" if k else "output", words, partial(_at, name="returned", k=k, value=wanted))
