"""recurrence: an identified layer as lines of NumPy that can be executed, forward and back."""

import re
from collections.abc import Collection
from typing import Final

from harness.diagnosis.identify.activations import Activation, in_product, number, times
from harness.diagnosis.identify.gate_differences import lines as gate_lines, right_lines
from harness.diagnosis.identify.gates import GatedModel
from harness.diagnosis.identify.model import DERIVATIVE, Coef, GradientClip, LayerModel, Network, WeightedTerms
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.identify.terms import RIGHT_SLOPE
from harness.diagnosis.identify.transform import Transform
from harness.diagnosis.identify.wiring_differences import differences

LINE_NAMES: Final = {
    "weight_ih": "dW_ih",
    "weight_hh": "dW_hh",
    "bias_ih": "db_ih",
    "bias_hh": "db_hh",
    "x": "dx[t]",
    "hx": "dhx",
}
DERIVATIVE_LINE: Final = "derivative[t]"  # what the step adds to the derivative of the way forward
UNKNOWN_LINE: Final = "...  # not known"


def term(name: str, coef: Coef) -> str:
    """Return a term with its coefficient."""
    text = name if coef.value == 1 else f"-{in_product(name)}" if coef.value == -1 else times(coef.value, name)
    if coef.scale:
        scale = f"({coef.scale})" if " " in coef.scale and not coef.scale.startswith("(") else coef.scale
        text = f"{in_product(text) if coef.value == 1 else text} {'/' if coef.divides else '*'} {scale}"
    return text


def sum_of(terms: WeightedTerms) -> str:
    """Return a sum; a term that does not stand at every step has its condition."""
    parts = [
        term(name, coef) if coef.when == TermSteps() else f"({term(name, coef)} if {coef.when.line} else 0)"
        for name, coef in terms
    ]
    return " + ".join(parts).replace("+ -", "- ") or "0"


def lines(model: LayerModel, nonlinearity: str, *, back: bool = True) -> dict[str, str]:
    """Return the lines of one layer and direction by what they compute.

    Before the first step, h[t] is hx, and beyond the last one every gradient is 0; x is counted as Python counts.
    """
    texts = {
        "start": f"h[-1] = {model.start}",
        "steps": f"for t in {_range(model.visited)}:",
        "s": f"    s[t] = {sum_of(model.step)}",
        "h": f"    h[t] = {_state(model, nonlinearity)}",
        "h_n": f"output = {_output(model, nonlinearity)}; h_n = {model.final}",
    }
    if model.at_zero is not None:
        there = f"(x[t] == 0).all({'' if model.at_zero.batch else '1, keepdims=True'})"
        texts["at zero"] = f"    h[t] = np.where({there}, {model.at_zero.state}, h[t])"
        texts["at zero"] += f"; output[t] *= ~{there}" if model.at_zero.silent else ""
    return texts | (_back(model, nonlinearity) if back else {}) | _limits(model)


def _output(model: LayerModel, nonlinearity: str) -> str:
    activation = model.activation or Activation(nonlinearity)
    of_step = activation.line("h[t]") if model.written == "phi(h[t])" else model.written
    if model.shown != TermSteps():
        return f"[{of_step} if {model.shown.line} else 0 * hx for t in range(T)]"
    return "h[0:T]" if of_step == "h[t]" else f"[{of_step} for t in range(T)]"


def _state(model: LayerModel, nonlinearity: str) -> str:
    phi = (model.activation or Activation(nonlinearity)).line(
        "s[t]" if model.inside == 1 else f"({number(model.inside)} * s[t])"
    )
    for kind, when in model.otherwise:
        phi = f"({kind.line('s[t]')} if {when.line} else {phi})"
    return times(model.activated, phi) + "".join(f" + {term(name, coef)}" for name, coef in model.added)


def _back(model: LayerModel, nonlinearity: str) -> dict[str, str]:
    slope = slope_of(model, nonlinearity)
    slope += f" + {number(model.at_kink)} * (s[t] == 0)" if model.at_kink else ""
    unless = f" if {model.sloped.line} else 1 + 0 * h[t]" if model.sloped != TermSteps() else ""
    links = [term(link.term, link.coef) for link in model.links]
    links += ["passed[t]"] if any(how == "passed" for how, _ in model.entry) else []
    passing = "" if model.passes == TermSteps() or not model.links else f" if {model.passes.line} else 0"
    horizon = f"  # at most {model.horizon} steps back from each output" if model.horizon else ""
    sloped, behind = model.own[0][0], bool(model.links) and not model.links[0].sloped
    own = sum_of(tuple(("g[t]", coef) for _, coef in model.own))
    own = f"({own})" if len(model.own) > 1 else own
    where, limit = model.step_limit or ("", GradientClip("elements", 0))
    da = {
        (True, False): "dh[t] * slope[t]",
        (True, True): f"{own} * slope[t] + dh_next",
        (False, False): f"{own} + dh_next * slope[t]",
        (False, True): "dh[t]",
    }
    by_dh = "dh[t]" in slope
    body = {
        "slope": f"    slope[t] = {slope}{unless}",
        "next": f"    dh_next = {' + '.join(links) or '0'}{passing}{horizon}",
        "dh": f"    dh[t] = {own} + dh_next",
        # If it decides the slope, or is clipped, dh is all that the slope multiplies.
        "da": f"    da[t] = {da[(True, False) if where == 'dh' or by_dh else (sloped, behind)]}",
    }
    if where:
        key, name = ("next", where) if where == "dh_next" else (where, f"{where}[t]")
        body[key] += f"; {name} = {clipped(name, limit)}"
    order = ("next", "dh", "slope", "da") if by_dh else tuple(body)
    counts = model.counted == TermSteps()
    texts = {} if counts else {"counted": f"for t in range(T): g[t] = g[t] * ({model.counted.line})"}
    texts |= {"entry": entry_line(model), "back": loop_line(model.reached)} | {key: body[key] for key in order}
    texts["gradients"] = loop_line(model.reached)
    for role, name in LINE_NAMES.items():
        text = readout_line(model, role)
        limit = model.limits.get(role, GradientClip("elements", 0))
        if limit.kind == "running sum":
            text += f"; {name} = {clipped(name, limit)}"
        texts[role] = text if role == "hx" else f"    {text}"
    return texts


def _limits(model: LayerModel) -> dict[str, str]:
    texts = {
        f"limit of {role}": limit_line(role, limit)
        for role, limit in model.limits.items()
        if limit.kind != "running sum"
    }
    joint = next((limit for limit in model.limits.values() if limit.kind == "joint norm"), None)
    if joint is not None:
        over = joint.over or [role for role, limit in model.limits.items() if limit == joint]
        squares = ", ".join(LINE_NAMES[role].removesuffix("[t]") for role in over)
        beside = f" + {number(joint.beside)}" if joint.beside else ""
        texts = {"norm": f"norm = norm_of({squares}){beside}"} | texts
    return texts


def entry_line(model: LayerModel) -> str:
    """Return where h_n's gradient enters."""
    if not model.entry:
        return "pass"
    how, coef = model.entry[0]
    name, sign = ("passed", "+=") if how == "passed" else ("g", "+=" if how == "g" else "=")
    if coef.when == TermSteps("last", 1):
        return f"{name}[T-1] {sign} {term('h_n_grad', coef._replace(when=TermSteps()))}"
    where = "" if coef.when == TermSteps() else f" if {coef.when.line} else 0"
    return f"for t in range(T): {name}[t] += {term('h_n_grad', coef)}{where}"


def loop_line(when: TermSteps) -> str:
    """Return the loop of the way back."""
    return f"for t in reversed({_range(when)}):"


def _range(when: TermSteps) -> str:
    ranges = {
        "all": "range(T)",
        "but last": f"range(T - {when.k})",
        "from": f"range({when.k}, T)",
        "last": f"range(max(0, T - {when.k}), T)",
        "first": f"range(min({when.k}, T))",
    }
    return ranges.get(when.kind) or f"[t for t in range(T) if {when.line}]"


def slope_of(model: LayerModel, nonlinearity: str) -> str:
    """Return the slope at step t."""
    terms = sorted(model.slope or RIGHT_SLOPE[nonlinearity], key=lambda pair: pair[1] < 0)
    text = " + ".join(term(name, Coef(c)) for name, c in terms).replace("+ -", "- ")
    before = {"t": "t-1", "t-1": "t-2", "t+1": "t", "T-1": "T-2", "0": "-1"}
    text = re.sub(r"\bdh\b", "dh[t]", text).replace("h[t-1]", f"h[{before[model.at]}]")
    return re.sub(r"\b(h|s|x)\b(?!\[|\()", lambda match: f"{match[1]}[{model.at}]", text)


def readout_line(model: LayerModel, role: str) -> str:
    """Return the line of a gradient that is returned; ``+=`` at each step of the way back."""
    terms = tuple((DERIVATIVE_LINE if name == DERIVATIVE else name, coef) for name, coef in model.readout(role))
    if role == "hx":
        terms = tuple((name.removesuffix(", if reached"), coef) for name, coef in terms)
    if (
        role == "hx"
        and model.reached != TermSteps()
        and not dict(model.readout(role)).keys() & {"da[0] @ W_hh, if reached"}
    ):
        terms = tuple((name.replace("[0]", "[first]"), coef) for name, coef in terms)
    passed = model.passes != TermSteps() and any(name.endswith(", if passed") for name, _ in terms)
    terms = tuple((name.removesuffix(", if passed"), coef) for name, coef in terms)
    before = re.sub(r"\bt\b", "-1", model.passes.line).replace("(T - 1 - -1)", "T") if passed else ""
    only = f" if {before} else 0" if passed else ""
    return f"{LINE_NAMES[role]} {'=' if role in ('x', 'hx') else '+='} {sum_of(terms)}{only}"


def clipped(name: str, limit: GradientClip) -> str:
    """Return a clipped array."""
    if limit.kind in ("elements", "running sum"):
        return f"np.clip({name}, -{number(limit.most)}, {number(limit.most)})"
    return f"{name} * min(1, {number(limit.most)} / np.linalg.norm({name}))"


def limit_line(role: str, limit: GradientClip) -> str:
    """Return the line that clips a gradient."""
    name = LINE_NAMES[role].removesuffix("[t]")
    if limit.kind != "joint norm":
        return f"{name} = {clipped(name, limit)}"
    return f"{name} = {name} * min(1, {number(limit.most)} / norm)"


def step_lines(name: str, yours: str, right: str, network: Network, nonlinearity: str) -> tuple[str, str]:
    """Return the line of a mistake of one of a network's models and nn.RNN's, a step of the way forward as one line.

    That is how most people write it.
    """
    model = getattr(network, name)
    if not yours.startswith(("s[t] = ", "h[t] = ")) or isinstance(model, GatedModel):
        return yours, right
    return _step_line(model, nonlinearity), _step_line(LayerModel(), nonlinearity)


def _step_line(model: LayerModel, nonlinearity: str) -> str:
    line, s = f"h = {_state(model, nonlinearity)}".replace("np.tanh(", "tanh("), sum_of(model.step)
    if nonlinearity == "relu" and model.activation is None:
        line = re.sub(r"np\.maximum\((.*), 0\)", r"relu(\1)", line)
    line = line.replace("(s[t])", f"({s})").replace("s[t]", s if line == "h = s[t]" else f"({s})")
    return line.replace("h[t-1]", "h") if "h[" not in line.replace("h[t-1]", "").replace("h[t]", "") else line


def recurrence(
    network: Network, nonlinearity: str, roles: Collection[str], unknown: Collection[str]
) -> list[tuple[str, str]]:
    """Return the lines of the first layer, each beside nn.RNN's own, which is empty where there is none.

    Given are the roles of the gradients that are returned, and what is not known.
    """
    wired = [(mistake.yours, mistake.right) for mistake in differences(network) if mistake.yours]
    outer = [
        (f"{name} = {UNKNOWN_LINE if way == Transform() else way.line(name)}", "")
        for name, way in network.transforms.items()
    ]
    if isinstance(network.first, GatedModel):
        own, right = gate_lines(network.first), right_lines(network.first)
        return wired + [(own.get(key, ""), right.get(key, "")) for key in dict.fromkeys([*own, *right])] + outer
    back = not network.derived and not {*roles} <= {*unknown}
    own, right = (lines(model, nonlinearity, back=back) for model in (network.first, LayerModel()))
    own |= {role: f"    {LINE_NAMES[role]} = {UNKNOWN_LINE}" for role in roles if role in unknown} if back else {}
    if network.derived:
        own |= {role: readout_line(network.first, role) for role in network.first.gradient_sums}
    keys = list(dict.fromkeys([*own, *right]))
    at = keys.index("h_n") + 1  # what is done to what is returned
    pairs = [(own.get(key, ""), right.get(key, "")) for key in keys]
    return [*wired, *pairs[:at], *outer, *pairs[at:]]
