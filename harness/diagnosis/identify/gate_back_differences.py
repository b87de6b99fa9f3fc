"""gate_back_differences: where the way back of a step with gates is not torch's: a sentence, a line, the mend."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from harness.diagnosis.identify.activations import TANH, in_product
from harness.diagnosis.identify.gate_back import GATED_ROLES
from harness.diagnosis.identify.gate_differences import final_names, joined, letters_of, part_text
from harness.diagnosis.identify.gates import CUT_EDGE, SLOPE_OF, Edge, GatedModel, GateSumTerm, SlopeTerms, step_of
from harness.diagnosis.identify.wiring_differences import listed

BEFORE: Final = {
    "h": "h[t-1]",
    "c": "c[t-1]",
    "h'": "h[t]",
    "c'": "c[t]",
    "t": "tanh(c[t])",
    "h_n": "h[T-1]",
    "c_n": "c[T-1]",
    "h_cyclic": "h[(t-1) % T]",
    "c_cyclic": "c[(t-1) % T]",
    "h_or_zero": "(h[t-1] if t else 0)",
    "c_or_zero": "(c[t-1] if t else 0)",
}  # quantities, with their steps
COUNTED_STEPS: Final = {
    "from": "all steps but the first {k}",
    "but last": "all steps but the last {k}",
    "last": "the last {k} steps only",
}


def differences(model: GatedModel) -> Iterator[tuple[str, str, str, Callable[[Any], Any]]]:
    """Yield where the way back is not torch's: a sentence, the line, torch's line, and what mends it."""
    model = model.way_back
    groups: dict[Any, list[tuple[Edge, Any]]] = {}
    for edge, choice in model.back:
        key: Any = edge
        if edge[0] == "sum":
            ends = {partner[3] for partner, same in model.back if partner[:3] == edge[:3] and same == choice}
            of_all = len(ends) > 1 or (edge[2].startswith("b_") and edge[3] != "factor")
            key = edge[0], choice if choice not in (CUT_EDGE, "open") else edge[1], choice, of_all or edge[3]
        key = (edge[0], choice) if edge[0] in ("scale", "carry", "start", "limit") else key
        if edge[0] != "slope" or choice != _own_slope(model, edge[1]):  # then another activation is all that is wrong
            groups.setdefault(key, []).append((edge, choice))
    for several in groups.values():
        words, yours, right = _back_words(model, several)
        yield words, yours, right, partial(_restored, edges=[edge for edge, _ in several])
    for limit in dict.fromkeys(model.limits.values()):
        roles = [role for role in GATED_ROLES if model.limits.get(role) == limit]
        most = f"{limit.most:.6g}"
        yours = f"d{roles[0]} = np.clip(d{roles[0]}, -{most}, {most})"
        yield (
            f"clips the gradient{'s' * (len(roles) > 1)} of {listed(roles)} to ±{most}",
            yours,
            "",
            lambda m: replace(m, limits={}),
        )


def _restored(model: GatedModel, edges: Sequence[Edge]) -> GatedModel:
    return replace(model, back=tuple(pair for pair in model.back if pair[0] not in edges))


def _back_words(model: GatedModel, several: Sequence[tuple[Edge, Any]]) -> tuple[str, str, str]:
    (kind, *rest), choice = several[0]
    if kind == "by":
        return _product_words(model, rest, choice)
    if kind == "limit":
        names, most = [edge[1] for edge, _ in several], f"{choice:.6g}"
        words = f"clips the gradient{'s' * (len(names) > 1)} by {listed([f'{name}[t]' for name in names])} to ±{most}"
        return f"{words} at each step", f"d{names[0]} = np.clip(d{names[0]}, -{most}, {most})", ""
    if kind == "counted":
        return f"counts the gradient by {rest[0]} {choice.words}", "", ""
    gates = dict(model.gates)
    if kind == "through":
        of_c_n = "" if ("final", 1) in dict(model.back) else ", and the gradient of c_n,"
        read = model.read.line("c[t]")
        words = f"multiplies what the next step passes back to c[t]{of_c_n} by the slope of {read}, too"
        slope = "(1 - tanh(c[t])**2)" if model.read == TANH else f"slope({read})"
        return words, f"dc[t] = (dc_next + dh[t] * o) * {slope}", f"dc[t] = dc_next + dh[t] * o * {slope}"
    if kind == "slope":
        own = _own_slope(model, rest[0])
        name = BEFORE.get(str(rest[0]), str(rest[0]))
        sum_of = "c[t]" if rest[0] == "t" else f"s_{rest[0]}"
        yours, right = (_slope_text(terms, name, sum_of) for terms in (choice, own))
        return (
            f"takes {yours} as the slope of {name}, not {right}",
            f"d{sum_of} = d{name} * ({yours})",
            f"d{sum_of} = d{name} * ({right})",
        )
    if kind == "sum":
        parts = [p for p in gates[rest[0]].parts if p.name in {edge[2] for edge, _ in several}]
        return _sum_words(model, rest[0], parts, choice, {edge[3] for edge, _ in several})
    return _other_words(model, kind, rest, choice, [edge[1] for edge, _ in several if len(edge) > 1])


def _own_slope(model: GatedModel, name: str) -> SlopeTerms:
    """Return the slope that torch's layer takes of a gate, or of what is read of c: by its cell, not by the model."""
    right = step_of(model.cell)
    activation = right.read if name == "t" else dict(right.gates)[name].activation
    return SLOPE_OF[activation]


def _sum_words(
    model: GatedModel, gate: str, parts: Sequence[GateSumTerm], choice: str, to: set[str]
) -> tuple[str, str, str]:
    """Return what is said of the gradient of some terms of a gate's sum, to what it goes ``to``."""
    texts = [part_text(model, p).replace("c_after", "c") for p in parts]
    what, factor = listed(texts), parts[0].factor
    if choice not in (CUT_EDGE, "open"):
        yours, right = (f"dweight_hh += ds.T @ {BEFORE[state]}" for state in (choice, parts[0].operand))
        return f"takes {BEFORE[choice]} in the gradient of weight_hh, not {BEFORE[parts[0].operand]}", yours, right
    if to == {"factor"}:
        return f"passes no gradient back to {factor} through {what}", "", f"d{factor} += ds_{gate} * ({joined(texts)})"
    if to == {"operand"}:
        of_h = parts[0].name.startswith("h")
        what = f"{BEFORE.get(parts[0].operand, parts[0].operand) if of_h else 'x[t]'} through {what}"
    elif to == {"parameter"}:
        what = listed([re.findall(r"[Wb]_\w+", text)[0] for text in texts])
    if choice == CUT_EDGE:
        words = {"operand": f"passes no gradient back to {what}", "parameter": f"returns no gradient of {what}"}
        of_all = f"passes no gradient back through {what} in the sum of {gate}"
        return of_all if len(to) > 1 or "b_" in what else words[min(to)], "", ""
    return f"leaves {factor} out of the gradient of {what}", f"dq = ds_{gate}", f"dq = ds_{gate} * {factor}"


def _other_words(
    model: GatedModel, kind: str, rest: Sequence[Any], choice: Any, every: Sequence[Any]
) -> tuple[str, str, str]:
    if kind == "final":
        name = final_names(model)[rest[0]]
        return f"ignores the gradient of {name}", "", f"d{letters_of(model)[rest[0]]} = {name}_grad"
    if kind == "carry":
        what = f" of {every[0]}" if len(every) < len(model.starts) else ""
        return f"passes no gradient{what} from a step to the one before it", f"d{rest[0]} = 0", ""
    if kind == "start":
        names = [step_of(model.cell).starts[letters_of(model).index(letter)] for letter in every]
        words = f"returns zeros as the gradient{'s' * (len(names) > 1)} of {listed(names)}"
        return words, f"d{names[0]} = 0", f"d{names[0]} = d{every[0]}"
    if kind == "steps":
        some = (
            COUNTED_STEPS[choice.kind].format(k=choice.k).replace("first 1", "first one").replace("last 1", "last one")
        )
        return f"goes back over {some.replace('one steps', 'step')}", "", "for t in reversed(range(T)):"
    what = f"the gradient{'s' * (len(every) > 1)} of {listed(every)}"
    if choice == "0":
        return f"returns zeros as {what}", "", ""
    return f"returns {what} times {choice}", f"d{every[0]} *= {choice}", ""


def _product_words(model: GatedModel, rest: Sequence[Any], choice: Any) -> tuple[str, str, str]:
    state, names, name = rest
    coef = next(c for terms in (model.memory, model.mix) for factors, c in terms if factors == names)
    d, to = f"d{BEFORE[state]}", f"d{BEFORE.get(name, name)}"
    texts = [
        " * ".join(["-" * (coef < 0) + d, *(BEFORE.get(factor, in_product(factor)) for factor in some)])
        for some in ([factor for factor in names if factor != name], [] if choice == CUT_EDGE else choice)
    ]
    right, yours = (f"{to} += {text}" for text in texts)
    product_text = " * ".join(BEFORE.get(factor, factor) for factor in names)
    if choice == CUT_EDGE:
        return f"passes no gradient to {BEFORE.get(name, name)} through {product_text}", f"{to} += 0", right
    instead, wanted = (text.removeprefix("-" * (coef < 0) + d).removeprefix(" * ") or "1" for text in texts[::-1])
    words = f"multiplies the gradient of {BEFORE[state]} by {instead} for that of {BEFORE.get(name, name)}"
    return f"{words}, not by {wanted}", yours, right


def _slope_text(slope: Any, name: str, sum_of: str) -> str:
    terms = [("" if c == 1 else "-") + re.sub(r"\bs\b", sum_of, re.sub(r"\bh\b", name, text)) for text, c in slope]
    return joined(terms)
