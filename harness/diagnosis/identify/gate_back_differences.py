"""gate_back_differences: where the way back of a step with gates is not torch's: a sentence, a line, the mend."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from harness.diagnosis.identify.activations import TANH, in_product
from harness.diagnosis.identify.gate_back import GATED_ROLES
from harness.diagnosis.identify.gate_differences import final_names, joined, letters_of, part_text
from harness.diagnosis.identify.gates import CUT_EDGE, SLOPE_OF, Edge, GatedModel, SlopeTerms, step_of
from harness.diagnosis.identify.mistake import Mistake
from harness.diagnosis.identify.wiring_differences import listed

EdgeTexts = tuple[str, str, str]  # what is said of an edge, its line, and torch's
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
LOOP: Final = "for t in reversed(range(T)):"
# The texts of an edge by its kind and choice; ``None`` is any other choice.
EDGE_TEXTS: Final[dict[tuple[str, Any], EdgeTexts]] = {
    ("limit", None): (
        "clips the gradient{s} by {at_t} to ±{choice:.6g} at each step",
        "d{name} = np.clip(d{name}, -{choice:.6g}, {choice:.6g})",
        "",
    ),
    ("counted", None): ("counts the gradient by {name} {choice.words}", "", ""),
    ("through", None): (
        "multiplies what the next step passes back to c[t]{and_c_n} by the slope of {read}, too",
        "dc[t] = (dc_next + dh[t] * o) * {slope}",
        "dc[t] = dc_next + dh[t] * o * {slope}",
    ),
    ("final", None): ("ignores the gradient of {name}", "", "d{letter} = {name}_grad"),
    ("carry", None): ("passes no gradient{only} from a step to the one before it", "d{name} = 0", ""),
    ("start", None): ("returns zeros as the gradient{s} of {starts}", "d{start} = 0", "d{start} = d{name}"),
    ("steps", "from"): ("goes back over all steps but the first {k}", "", LOOP),
    ("steps", "but last"): ("goes back over all steps but the last {k}", "", LOOP),
    ("steps", "last"): ("goes back over the last {steps} only", "", LOOP),
    ("scale", "0"): ("returns zeros as the gradient{s} of {names}", "", ""),
    ("scale", None): ("returns the gradient{s} of {names} times {choice}", "d{name} *= {choice}", ""),
}


def differences(model: GatedModel) -> Iterator[Mistake]:
    """Yield where the way back is not torch's."""
    model = model.way_back
    groups: dict[Any, list[Edge]] = {}
    choices = dict(model.back)
    for edge, choice in model.back:
        key: Any = edge
        if edge[0] == "sum":
            ends = {partner[3] for partner, same in model.back if partner[:3] == edge[:3] and same == choice}
            of_all = len(ends) > 1 or (edge[2].startswith("b_") and edge[3] != "factor")
            key = edge[0], choice if choice not in (CUT_EDGE, "open") else edge[1], choice, of_all or edge[3]
        key = (edge[0], choice) if edge[0] in ("scale", "carry", "start", "limit") else key
        if edge[0] != "slope" or choice != _own_slope(model, edge[1]):  # then another activation is all that is wrong
            groups.setdefault(key, []).append(edge)
    for edges in groups.values():
        texts = {"by": _product_texts, "slope": _slope_texts, "sum": _sum_texts}.get(edges[0][0], _edge_texts)
        words, yours, right = texts(model, edges, choices[edges[0]])
        yield Mistake(words, yours, right, mend=partial(_restored, edges=edges))
    for limit in dict.fromkeys(model.limits.values()):
        roles = [role for role in GATED_ROLES if model.limits.get(role) == limit]
        words = f"clips the gradient{'s' * (len(roles) > 1)} of {listed(roles)} to ±{limit.most:.6g}"
        yours = f"d{roles[0]} = np.clip(d{roles[0]}, -{limit.most:.6g}, {limit.most:.6g})"
        yield Mistake(words, yours, mend=partial(replace, limits={}))


def _restored(model: GatedModel, edges: Sequence[Edge]) -> GatedModel:
    return replace(model, back=tuple(pair for pair in model.back if pair[0] not in edges))


def _edge_texts(model: GatedModel, edges: Sequence[Edge], choice: Any) -> EdgeTexts:
    kind, of = edges[0][0], [edge[1] for edge in edges if len(edge) > 1]
    letters, starts = letters_of(model), step_of(model.cell).starts
    names = [final_names(model)[k] if kind == "final" else k for k in of]
    states = [k if kind == "final" else letters.index(k) for k in of if kind == "final" or k in letters] or [0]
    k, read = getattr(choice, "k", 0), model.read.line("c[t]")
    words, yours, right = (
        text.format(
            choice=choice,
            name=names[0] if names else "",
            names=listed(names) if names else "",
            s="s" * (len(names) > 1),
            at_t=listed([f"{name}[t]" for name in names]) if names else "",
            letter=letters[states[0]],
            only=f" of {names[0]}" if len(names) == 1 < len(letters) else "",
            start=starts[states[0]],
            starts=listed([starts[state] for state in states]),
            k="one" if k == 1 else k,
            steps="step" if k == 1 else f"{k} steps",
            and_c_n="" if ("final", 1) in dict(model.back) else ", and the gradient of c_n,",
            read=read,
            slope="(1 - tanh(c[t])**2)" if model.read == TANH else f"slope({read})",
        )
        for text in EDGE_TEXTS.get((kind, getattr(choice, "kind", choice))) or EDGE_TEXTS[kind, None]
    )
    return words, yours, right


def _own_slope(model: GatedModel, name: str) -> SlopeTerms:
    """Return the slope that torch's layer takes of a gate, or of what is read of c: by its cell, not by the model."""
    right = step_of(model.cell)
    activation = right.read if name == "t" else dict(right.gates)[name].activation
    return SLOPE_OF[activation]


def _slope_texts(model: GatedModel, edges: Sequence[Edge], choice: SlopeTerms) -> EdgeTexts:
    gate: str = edges[0][1]
    name, sum_of = BEFORE.get(gate, gate), "c[t]" if gate == "t" else f"s_{gate}"
    yours, right = (
        joined(("" if c == 1 else "-") + re.sub(r"\bs\b", sum_of, re.sub(r"\bh\b", name, text)) for text, c in slope)
        for slope in (choice, _own_slope(model, gate))
    )
    words = f"takes {yours} as the slope of {name}, not {right}"
    return words, f"d{sum_of} = d{name} * ({yours})", f"d{sum_of} = d{name} * ({right})"


def _sum_texts(model: GatedModel, edges: Sequence[Edge], choice: str) -> EdgeTexts:
    """Return the texts of the gradient of some terms of a gate's sum."""
    gate, terms, to = edges[0][1], {edge[2] for edge in edges}, {edge[3] for edge in edges}
    parts = [p for p in dict(model.gates)[gate].parts if p.name in terms]
    texts = [part_text(model, p).replace("c_after", "c") for p in parts]
    what, factor, operand = listed(texts), parts[0].factor, parts[0].operand
    if choice not in (CUT_EDGE, "open"):
        yours, right = (f"dweight_hh += ds.T @ {BEFORE[state]}" for state in (choice, operand))
        return f"takes {BEFORE[choice]} in the gradient of weight_hh, not {BEFORE[operand]}", yours, right
    if to == {"factor"}:
        return f"passes no gradient back to {factor} through {what}", "", f"d{factor} += ds_{gate} * ({joined(texts)})"
    if to == {"operand"}:
        what = f"{BEFORE.get(operand, operand) if parts[0].name.startswith('h') else 'x[t]'} through {what}"
    elif to == {"parameter"}:
        what = listed([re.findall(r"[Wb]_\w+", text)[0] for text in texts])
    if choice != CUT_EDGE:
        return f"leaves {factor} out of the gradient of {what}", f"dq = ds_{gate}", f"dq = ds_{gate} * {factor}"
    if len(to) > 1 or "b_" in what:
        return f"passes no gradient back through {what} in the sum of {gate}", "", ""
    return f"{'passes no gradient back to' if to == {'operand'} else 'returns no gradient of'} {what}", "", ""


def _product_texts(model: GatedModel, edges: Sequence[Edge], choice: Any) -> EdgeTexts:
    """Return the texts of the gradient by a factor of a product."""
    [(_, state, names, name)] = edges
    coef = next(c for terms in (model.memory, model.mix) for factors, c in terms if factors == names)
    d, to = f"{'-' * (coef < 0)}d{BEFORE[state]}", BEFORE.get(name, name)
    right, yours = (
        " * ".join(BEFORE.get(factor, in_product(factor)) for factor in factors)
        for factors in ([factor for factor in names if factor != name], [] if choice == CUT_EDGE else choice)
    )
    lines = [f"d{to} += {' * '.join(filter(None, (d, text)))}" for text in (yours, right)]
    if choice == CUT_EDGE:
        product = " * ".join(BEFORE.get(factor, factor) for factor in names)
        return f"passes no gradient to {to} through {product}", f"d{to} += 0", lines[1]
    words = f"multiplies the gradient of {BEFORE[state]} by {yours or 1} for that of {to}, not by {right or 1}"
    return words, lines[0], lines[1]
