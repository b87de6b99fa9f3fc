"""run: the arrays that a network gives on a case: layers, directions, lengths, masks, and what is clipped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from harness.diagnosis.identify.activations import Numbers
from harness.diagnosis.identify.ball import Ball, Rounding
from harness.diagnosis.identify.layer import (
    FINAL,
    added,
    backward,
    by_states,
    enter,
    forward,
    gradient,
    limited,
    slopes,
    written_of,
)
from harness.diagnosis.identify.model import (
    ROLES,
    Limit,
    Network,
    When,
)
from harness.diagnosis.identify.tape import Var
from harness.diagnosis.identify.tape import backward as differentiate
from harness.diagnosis.identify.terms import Flow
from harness.oracle.bound import np
from harness.oracle.known import Floats
from harness.space.case import Case
from harness.space.config import weight_names

Place = tuple[int, int]  # a layer and a direction


def flow_of(case: Case, layer: int, direction: int, x: Any, rounding: Rounding | None) -> Flow:
    """Return the flow of a layer and direction, whose x is given in time's order."""
    config = case.config
    names = weight_names(layer, direction, bias=True)

    def of(array: Any) -> Any:
        values = np.asarray(array, np.float64)
        return values if rounding is None else Ball(values, 0.0, rounding)

    weights = [
        np.asarray(case.weights[name], np.float64) if name in case.weights else np.zeros(config.hidden_size)
        for name in names
    ]
    row = layer * config.num_directions + direction
    hx = np.zeros((config.N, config.hidden_size)) if case.hx is None else case.hx[row]
    steps = x if direction == 0 else x[::-1]
    return Flow([v if isinstance(v, Ball) else of(v) for v in steps], of(hx), *weights)


def beside_others(flows: Mapping[Place, Flow], f: Flow, place: Place, fed: Any) -> None:
    """Tell a flow of the others, and of what the network is given."""
    layer, d = place
    f.below, f.beside = flows.get((layer - 1, d)), flows.get((layer, d - 1))
    f.fed = fed if d == 0 else fed[::-1]


def time_major(case: Case, array: Any) -> Floats:
    """Return x or an output as float64 with time first."""
    values = np.asarray(array, np.float64)
    return values.swapaxes(0, 1) if case.config.batch_first else values


def flows_of(
    network: Network,
    case: Case,
    rounding: Rounding | None = None,
    layers: int | None = None,
    states: Mapping[Place, Floats] | None = None,
) -> tuple[dict[Place, Flow], Any]:
    """Return the flow of each layer and direction after the way forward, and the output, step by step.

    With ``layers``, the way ends before that layer. ``states`` (T, N, H) by place, in the order of its steps, are what
    each step and the way back read in place of the model's own.
    """
    config = case.config
    x: Any = list(time_major(case, case.x))
    fed, flows = x, dict[Place, Flow]()
    for layer in range(config.num_layers if layers is None else layers):
        outputs = []
        for d in range(config.num_directions):
            f = flows[layer, d] = flow_of(case, layer, d, x, rounding)
            beside_others(flows, f, (layer, d), fed)
            own: Any = (states or {}).get((layer, d))
            own = own if own is None or rounding is None else [Ball(h, 0.0, rounding) for h in own]
            forward(network.of(layer, d), f, config.nonlinearity, own)
            of_step = written_of(network.of(layer, d), f, config.nonlinearity)
            outputs.append(of_step if d == 0 else of_step[::-1])
        x = [joined(parts) for parts in zip(*outputs, strict=True)]
        if layer in case.masks and layer < config.num_layers - 1:
            x = [v * np.asarray(m, np.float64) for v, m in zip(x, case.masks[layer], strict=True)]
    return flows, x


def run(
    network: Network, case: Case, rounding: Rounding | None = None, states: Mapping[Place, Floats] | None = None
) -> dict[str, Numbers]:
    """Return the arrays that the network gives on a plain case, as ``Case.plain`` has it; ``states`` as above."""
    if case.config.lengths is not None:
        return run_packed(network, case, rounding)
    if network.derived and case.config.loss is not None:
        return run_derived(network, case, rounding)
    return run_whole(network, case, rounding, states)[1]


def run_whole(
    network: Network, case: Case, rounding: Rounding | None = None, states: Mapping[Place, Floats] | None = None
) -> tuple[dict[Place, Flow], dict[str, Numbers]]:
    """Return every flow, too; of a case that is not packed, and a network that goes back by itself."""
    config, arrays = case.config, case.arrays
    L, D, T, H = config.num_layers, config.num_directions, config.T, config.hidden_size
    flows, x = flows_of(network, case, rounding, states=states)
    found: dict[str, Numbers] = {"output": stacked(x)}
    found["h_n"] = stacked([FINAL[network.of(*at).final](f) for at, f in flows.items()])
    read = [
        np.asarray(case.weights[f"readout.{name}"], np.float64) for name in ("weight", "bias") if config.output_size
    ]
    if read:
        found["readout"] = stacked([v @ read[0].T + read[1] for v in x])
    if config.loss is None:
        return flows, laid_out(found, case)
    zeros = np.zeros((T, config.N, D * H))
    g: Any = list(time_major(case, arrays["output.grad"]) if "output.grad" in arrays else zeros)
    if "readout.grad" in arrays:
        given = list(time_major(case, arrays["readout.grad"]))
        states_read = x if states is None else [states[0, 0][t] for t in range(T)] if D == 1 and L == 1 else x
        found["readout.weight.grad"] = added([o.T @ v for o, v in zip(given, states_read, strict=True)])
        found["readout.bias.grad"] = added([o.sum(0) for o in given])
        g = [o @ read[0] for o in given]

    def number(v: Any) -> Numbers:
        return v if rounding is None or isinstance(v, Ball) else Ball(v, 0.0, rounding)

    of_hx: dict[int, Numbers] = {}
    for layer in reversed(range(L)):
        below: list[Any] | None = None
        for d in range(D):
            f, model = flows[layer, d], network.of(layer, d)
            f.g = {t: number(g[t if d == 0 else T - 1 - t])[:, d * H : (d + 1) * H] for t in range(T)}
            f.g = by_states(model, f, f.g)
            if "h_n.grad" in arrays:
                enter(model, f, np.asarray(arrays["h_n.grad"][layer * D + d], np.float64))
            slopes(model, f, config.nonlinearity)
            backward(model, f)
            for role, name in zip(ROLES, weight_names(layer, d, bias=True), strict=False):
                if name in case.weights:
                    found[f"{name}.grad"] = gradient(model, role, f)
            of_hx[layer * D + d] = gradient(model, "hx", f)
            dx = gradient(model, "x", f)
            dx = dx if d == 0 else dx[::-1]
            below = dx if below is None else [a + b for a, b in zip(below, dx, strict=True)]
        assert below is not None
        g = below
        if layer > 0 and layer - 1 in case.masks:
            g = [v * np.asarray(m, np.float64) for v, m in zip(g, case.masks[layer - 1], strict=True)]
    found["x.grad"] = stacked(g)
    if case.hx is not None:
        found["hx.grad"] = stacked([of_hx[row] for row in range(L * D)])
    returned = {name: found[name] for name in found if name in config.returned}
    return flows, laid_out(within_limits(network, returned), case)


def run_derived(network: Network, case: Case, rounding: Rounding | None = None) -> dict[str, Numbers]:
    """Return the arrays of a network whose gradients are the derivative of its way forward."""
    config, arrays = case.config, case.arrays
    L, D, T, H = config.num_layers, config.num_directions, config.T, config.hidden_size

    def var(array: Any) -> Var:
        values = np.asarray(array, np.float64)
        return Var(values if rounding is None else Ball(values, 0.0, rounding))

    x: Any = [var(v) for v in time_major(case, case.x)]
    inputs = {f"x{t}": v for t, v in enumerate(x)}
    fed, flows = x, dict[Place, Flow]()
    for layer in range(L):
        outputs = []
        for d in range(D):
            names = weight_names(layer, d, bias=True)
            weights = tuple(var(arrays[name]) if name in arrays else np.zeros(H) for name in names)
            inputs |= {name: w for name, w in zip(names, weights, strict=True) if name in arrays}
            row = layer * D + d
            hx = np.zeros((config.N, H)) if case.hx is None else var(case.hx[row])
            inputs |= {} if case.hx is None else {f"hx{row}": hx}
            f = flows[layer, d] = Flow(x if d == 0 else x[::-1], hx, *weights)
            beside_others(flows, f, (layer, d), fed)
            model = network.of(layer, d)
            f.passes = partial(goes_on, model.passes, T)
            forward(model, f, config.nonlinearity)
            of_step = written_of(model, f, config.nonlinearity)
            outputs.append(of_step if d == 0 else of_step[::-1])
        x = [beside(parts) for parts in zip(*outputs, strict=True)]
        if layer in case.masks and layer < L - 1:
            x = [v * np.asarray(m, np.float64) for v, m in zip(x, case.masks[layer], strict=True)]
    finals = [FINAL[network.of(*at).final](f) for at, f in flows.items()]
    seeds: list[tuple[Any, Any]] = []
    read: Any = []
    if config.output_size is not None:
        W, b = var(arrays["readout.weight"]), var(arrays["readout.bias"])
        inputs |= {"readout.weight": W, "readout.bias": b}
        read = [v @ W.T + b for v in x]
    if "readout.grad" in arrays:
        seeds += zip(read, (var(g).value for g in time_major(case, arrays["readout.grad"])), strict=True)
    if "output.grad" in arrays:
        seeds += zip(x, (var(g).value for g in time_major(case, arrays["output.grad"])), strict=True)
    if "h_n.grad" in arrays:
        seeds += zip(finals, (var(g).value for g in arrays["h_n.grad"]), strict=True)
    given: dict[Var, Any] = {}
    for v, g in seeds:
        if isinstance(v, Var):
            given[v] = given[v] + g if v in given else g
    by = differentiate(given, inputs)
    found: dict[str, Numbers] = {f"{name}.grad": g for name, g in by.items() if name in case.weights}
    found["x.grad"] = stacked([by[f"x{t}"] for t in range(T)])
    if case.hx is not None:
        found["hx.grad"] = stacked([by[f"hx{row}"] for row in range(L * D)])
    found |= {"output": stacked([of_var(v) for v in x]), "h_n": stacked([of_var(v) for v in finals])}
    found |= {"readout": stacked([of_var(v) for v in read])} if read else {}
    return laid_out({name: found[name] for name in config.returned if name in found}, case)


def goes_on(passes: When, T: int, t: int) -> bool:
    """Tell whether the gradient of what reads the state of step t goes on; before the first step, that is hx."""
    return passes.at(t, T) if t >= 0 else passes != When("never")


def of_var(v: Any) -> Numbers:
    """Return the value of a number that may be on a tape."""
    return v.value if isinstance(v, Var) else v


def beside(parts: Any) -> Any:
    """Put the directions' states side by side, on the tape."""
    if len(parts) == 1:
        return parts[0]
    H = parts[0].shape[-1]

    def cut(d: int) -> Callable[[Any], Any]:
        return lambda g: g[:, d * H : (d + 1) * H]

    return Var(
        joined([of_var(p) for p in parts]), tuple((p, cut(d)) for d, p in enumerate(parts) if isinstance(p, Var))
    )


def run_packed(network: Network, case: Case, rounding: Rounding | None) -> dict[str, Numbers]:
    """Return the arrays of a packed batch: each sequence alone, as long as it is, padding 0, and parameters summed."""
    config = case.config
    assert config.lengths is not None
    found: dict[str, Any] = {}
    for n, length in enumerate(config.lengths):
        alone = config.replace(lengths=None, N=1, T=length, batch_first=False, enforce_sorted=False)
        arrays = {}
        for name, array in case.arrays.items():
            base = name.removesuffix(".grad")
            if base in ("x", "output"):
                values = array.swapaxes(0, 1) if config.batch_first else array
                arrays[name] = values[:length, n : n + 1]
            else:
                arrays[name] = array[:, n : n + 1] if base in ("hx", "h_n") else array
        masks = {layer: mask[:length, n : n + 1] for layer, mask in case.masks.items()}
        one = run(network, Case.from_arrays(alone, arrays, masks=masks), rounding)
        for name, v in one.items():
            ball = v if isinstance(v, Ball) else Ball(v, 0.0, rounding or Rounding(0.0, 0.0, 0.0))
            if name.startswith(("weight", "bias")):
                found[name] = found[name] + ball if name in found else ball
            else:
                found.setdefault(name, []).append(ball)
    T = config.T
    whole: dict[str, Numbers] = {}
    for name, several in found.items():
        if not isinstance(several, list):
            whole[name] = several
            continue
        parts = []
        for of in ("value", "error"):
            columns = [getattr(ball, of) for ball in several]
            if name in ("output", "x.grad"):
                columns = [np.concatenate([c, np.zeros((T - len(c), *c.shape[1:]))]) for c in columns]
            parts.append(np.concatenate(columns, 1))
        whole[name] = Ball(parts[0], parts[1], several[0].rounding)
    if rounding is None:
        whole = {name: values_of(v) for name, v in whole.items()}
    return laid_out(whole, case)


def place_of(name: str) -> Place:
    """Return the layer and the direction of a parameter's gradient; of x and hx, the first ones."""
    base = name.removesuffix(".grad")
    layer = base.removesuffix("_reverse").rpartition("_l")[2]
    return (int(layer) if layer.isdigit() else 0), int(base.endswith("_reverse"))


def within_limits(network: Network, found: dict[str, Numbers]) -> dict[str, Numbers]:
    """Clip the gradients that the network clips."""

    def limit_of(name: str) -> Limit | None:
        return network.of(*place_of(name)).limits.get(role_of(name)) if name.endswith(".grad") else None

    joint = [name for name in found if (limit := limit_of(name)) is not None and limit.kind == "joint norm"]
    over = {name: limit.over for name in joint if (limit := limit_of(name)) is not None}
    counted = [name for name in joint if not over[name] or role_of(name) in over[name]]
    squares = sum(float(np.sum(np.square(values_of(found[name])))) for name in counted)
    for name in [name for name in found if name.endswith(".grad")]:
        limit = limit_of(name)
        if limit is not None and limit.kind == "joint norm":
            if (norm := math.sqrt(squares) + limit.beside) > limit.most:
                found[name] = found[name] * (limit.most / norm)
        elif limit is not None and limit.kind != "running sum":
            found[name] = limited(found[name], limit)
    return found


def role_of(name: str) -> str:
    """Return the role of a gradient: ``weight_ih`` of ``weight_ih_l0.grad``."""
    base = name.removesuffix(".grad").removesuffix("_reverse")
    return base.partition("_l")[0]


def values_of(v: Numbers) -> Floats:
    """Return the numbers alone."""
    values: Floats = v.value if isinstance(v, Ball) else v
    return values


def joined(parts: Any) -> Numbers:
    """Put the directions' states side by side."""
    if len(parts) == 1:
        return parts[0]
    balls = [p for p in parts if isinstance(p, Ball)]
    if balls:
        parts = [p if isinstance(p, Ball) else Ball(p, 0.0, balls[0].rounding) for p in parts]
        values, errors = (np.concatenate([getattr(p, name) for p in parts], -1) for name in ("value", "error"))
        return Ball(values, errors, balls[0].rounding)
    return np.concatenate(parts, -1)


def stacked(parts: Any) -> Numbers:
    """Put arrays on top of each other."""
    balls = [p for p in parts if isinstance(p, Ball)]
    if not balls:
        return np.stack(parts)
    parts = [p if isinstance(p, Ball) else Ball(p, 0.0, balls[0].rounding) for p in parts]
    return Ball(np.stack([p.value for p in parts]), np.stack([p.error for p in parts]), balls[0].rounding)


def laid_out(found: dict[str, Numbers], case: Case) -> dict[str, Numbers]:
    """Bring arrays into the layout of a case."""

    def swapped(v: Numbers) -> Numbers:
        if isinstance(v, Ball):
            return Ball(v.value.swapaxes(0, 1), v.error.swapaxes(0, 1), v.rounding)
        return v.swapaxes(0, 1)

    if case.config.batch_first:
        for name in ("output", "x.grad", "readout"):
            if name in found:
                found[name] = swapped(found[name])
    return found
