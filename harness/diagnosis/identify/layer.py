"""layer: what one layer and direction computes, forward and back, by its model."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import cache, partial
from typing import Any, Final

from harness.diagnosis.identify.activations import Activation, Numbers
from harness.diagnosis.identify.array_protocol import ELEMENT_FUNCTIONS
from harness.diagnosis.identify.autodiff import Var
from harness.diagnosis.identify.ball import Ball
from harness.diagnosis.identify.gather import together
from harness.diagnosis.identify.line import Line
from harness.diagnosis.identify.model import (
    RIGHT_GRADIENT_SUMS,
    BlankStep,
    Coef,
    GradientClip,
    LayerModel,
    WeightedTerms,
    needs_square,
)
from harness.diagnosis.identify.terms import (
    ACTIVATION_TERMS,
    AT,
    ELEMENTWISE,
    INPUT,
    LINK,
    OF_GRADIENT,
    OF_INPUT,
    RIGHT_SLOPE,
    SEQUENCE_STARTS,
    START,
    STATES_RETURNED,
    STEP_TERMS,
    LayerTrace,
    StepwiseArray,
    product,
    slope_term,
)
from harness.oracle.pinned_numpy import np


def total(terms: WeightedTerms, table: Mapping[str, Any], f: LayerTrace, t: int) -> Numbers | None:
    """Return a sum at a step; ``None`` if it has no term there."""
    result: Numbers | None = None
    for name, coef in terms:
        c = coef.of(f, t)
        if c:
            value = table[name].value(f, t)
            value = value if c == 1 else value * c
            result = value if result is None else result + value
    return result


def cut_off(model: LayerModel, f: LayerTrace) -> None:
    """Leave out of a trace's weights, and of the states that it makes, what does not count."""
    for extent in model.extents:
        if extent.axis == "inputs":
            f.W_ih = f.W_ih * extent.mask(f.F)
        elif extent.axis == "states":
            f.W_hh = f.W_hh * extent.mask(f.H)
        else:
            mask = extent.mask(f.H) if extent.axis == "units" else extent.mask(f.N)[:, None]
            f.update_mask = mask + np.zeros((f.N, f.H)) if f.update_mask is None else f.update_mask * mask


def forward(model: LayerModel, f: LayerTrace, nonlinearity: str, states: Any = None) -> None:
    """Compute a trace's preactivations and states; with ``states``, each step reads those, and so does the way back.

    On a tape, their gradient goes to what the step makes, by the slope at the state that was returned.
    """
    activation = model.activation or Activation(nonlinearity)
    zeros = np.zeros((f.N, f.H))
    cut_off(model, f)
    f.given_hx = f.hx
    f.hx = SEQUENCE_STARTS[model.start](f)
    returned = [] if states is None else [activation.of(o) for o in states] if model.written == "s[t]" else states
    f.h = dict(enumerate(returned))
    step = model.step if all(STEP_TERMS[name].fits(f) for name, _ in model.step) else LayerModel().step
    added_here = model.added if all(ACTIVATION_TERMS[name].fits(f) for name, _ in model.added) else ()
    in_place = any(name.startswith("h[t] @") for name, _ in step)  # a unit reads the new states of those before it
    plain = (
        model.inside == model.activated == 1 and model.written == "h[t]" and not added_here and f.update_mask is None
    )
    parameters = f.W_ih, f.W_hh, f.b_ih, f.b_hh
    sums = None if states is None else _sums_at_once(model, step, f)
    for t in range(f.T):
        if f.reads is not None:
            f.W_ih, f.W_hh, f.b_ih, f.b_hh = f.reads(t, parameters)
        function = next((kind for kind, when in model.otherwise if when.at(t, f.T)), activation)
        if not model.visited.at(t, f.T):
            f.s[t], f.h[t], f.step_output[t] = zeros, f.state(t - 1), f.state(t - 1)
            f.skipped.add(t)
            continue
        if in_place and states is None:
            f.h[t] = zeros
        for _ in range(f.H if in_place and states is None else 1):
            s = total(step, STEP_TERMS, f, t) if sums is None else sums[t * f.N : (t + 1) * f.N]
            f.s[t] = zeros if s is None else s
            h = function.of(f.s[t] if model.inside == 1 else f.s[t] * model.inside)
            if states is not None and isinstance(h, Var) and plain and function.name in SLOPE_AT:
                h = _with_slope_at(states[t], h, function.name)
            h = h if model.activated == 1 else h * model.activated
            added = total(added_here, ACTIVATION_TERMS, f, t)
            h = h if added is None else h + added
            h = h if f.update_mask is None else h * f.update_mask
            f.step_output[t] = h if model.at_zero is None else at_blank(model.at_zero, f, t, h)
            if states is None:
                f.h[t] = f.step_output[t]
            elif isinstance(f.step_output[t], Var):
                f.h[t] = _in_place_of(f.step_output[t], f.h[t])


def _sums_at_once(model: LayerModel, step: WeightedTerms, f: LayerTrace) -> Numbers | None:
    """Return the sums of all steps (T*N, H), off the tape, where each is of one x and one given state alone."""
    own = LayerModel()
    alone = all(term in own.step for term in step) and model.visited == own.visited
    if not alone or f.T == 1 or any(isinstance(v, Var) for v in (f.x[0], f.hx, f.W_ih)):
        return None
    before = together([f.state(t - 1) for t in range(f.T)])
    return total(step, STEP_TERMS, LayerTrace([together(f.x)], before, f.W_ih, f.W_hh, f.b_ih, f.b_hh), 0)


# The slopes of functions by what they return.
SLOPE_AT: Final[dict[str, Callable[[Numbers], Numbers]]] = {
    "tanh": lambda y: y * y * -1.0 + 1.0,
    "sigmoid": lambda y: y + y * y * -1.0,
}


def _with_slope_at(y: Numbers, h: Var, name: str) -> Var:
    """Return what a function made, whose gradient goes on by the slope at what was returned instead."""
    [(s, _)] = h.made_of
    return Var(h.value, ((s, lambda g: g * SLOPE_AT[name](y)),))


def _in_place_of(made: Var, state: Numbers) -> Var:
    return Var(state, ((made, lambda g: g),))


def at_blank(blank: BlankStep, f: LayerTrace, t: int, h: Numbers) -> Numbers:
    """Return the state of a step, given what its sum makes, where x may be all zeros."""
    x = f.x[t].value if isinstance(f.x[t], Var) else f.x[t]
    zero = (x.value if isinstance(x, Ball) else x) == 0
    there = np.broadcast_to(zero.all() if blank.batch else zero.all(1, keepdims=True), (f.N, 1)) * 1.0
    f.blank[t] = there
    if not there.any():
        return h
    return h * (1 - there) + f.state(t - 1) * there if blank.state == "h[t-1]" else h * (1 - there)


def slopes(model: LayerModel, f: LayerTrace, nonlinearity: str) -> None:
    """Compute a trace's slopes, each as it is taken at its step."""
    terms = model.slope or RIGHT_SLOPE[nonlinearity]
    read = f.x if f.square else f.below and [f.below.state(t) for t in range(f.T)]  # its half of two directions
    if not read and any(name in OF_INPUT for name, _ in terms):
        terms = RIGHT_SLOPE[nonlinearity]

    def slope(t: int, dh: Numbers) -> Numbers:
        k = min(AT[model.at](t, f.T), f.T - 1)
        value: Numbers = np.zeros((f.N, f.H))
        for name, c in terms:
            value = value + slope_term(name, f, k, (read or f.x)[max(k, 0)], dh) * c
        if model.at_kink and nonlinearity == "relu":
            s = f.back(f.s, k)
            value = value + ((s.value if isinstance(s, Ball) else s) == 0) * model.at_kink
        return value if model.sloped.at(t, f.T) else np.ones((f.N, f.H))

    f.slope_by = slope if any(name in OF_GRADIENT for name, _ in terms) else None
    f.slope = {t: slope(t, np.zeros((f.N, f.H))) for t in range(f.T)}


def limited(v: Numbers, limit: GradientClip) -> Numbers:
    """Return an array that is clipped."""
    if limit.kind == "elements":
        return np.clip(v, -limit.most, limit.most)
    return shrunk(v, norm_of(v), limit)


def norm_of(*several: Numbers) -> Numbers:
    """Return the norm of all numbers of some arrays."""
    return np.sqrt(sum((np.sum(v * v) for v in several), 0.0))


def shrunk(v: Numbers, norm: Numbers, limit: GradientClip) -> Numbers:
    """Return an array that is scaled down as far as a norm is beyond a limit."""
    size, off = (norm.value, norm.error) if isinstance(norm, Ball) else (norm, 0.0)
    if not size + off + limit.beside > limit.most:
        return v

    def scale(norm: Any) -> Any:
        return limit.most / np.maximum(norm + limit.beside, limit.most)

    if not isinstance(norm, Ball):
        return v * scale(norm)
    scaled = v * norm.mapped(scale, ELEMENT_FUNCTIONS[np.reciprocal])  # which falls, too
    # the subject's sum may have overflowed
    return Ball(scaled.value, np.inf, norm.rounding) if size**2 > norm.rounding.largest else scaled


def backward(model: LayerModel, f: LayerTrace) -> None:
    """Compute a trace's gradients by its states and preactivations, given ``f.g`` and the slopes."""
    f.first = next((t for t in range(f.T) if model.reached.at(t, f.T)), 0)
    f.passes_to_hx = model.passes.at(-1, f.T)
    f.sources = cache(partial(by_source, model, f))  # each of T steps reads all of them
    if model.horizon:
        zeros = np.zeros((f.N, f.H))
        f.da, f.dh = dict.fromkeys(range(f.T), zeros), dict.fromkeys(range(f.T), zeros)
        for by_step in f.sources().values():
            for t, da in by_step.items():
                f.da[t] = f.da[t] + da
        return
    go_back(model, f, range(f.T))


def by_source(model: LayerModel, f: LayerTrace) -> dict[int, dict[int, Numbers]]:
    """Return da by the step whose output's gradient it is part of, and by step."""
    parts: dict[int, dict[int, Numbers]] = {}
    for source in range(f.T):
        trace = copy(f)
        trace.da, trace.dh, trace.from_next, trace.h_n_gradient, trace.slope = {}, {}, {}, {}, dict(f.slope)
        trace.g = {source: f.g[source]}
        first = max(0, source - model.horizon) if model.horizon else 0
        go_back(model, trace, range(first, source + 1))
        parts[source] = trace.da
    return parts


def go_back(model: LayerModel, f: LayerTrace, steps: range) -> None:
    """Go back over some steps."""
    zeros = np.zeros((f.N, f.H))
    links = model.links if all(LINK[link.term].fits(f) for link in model.links) else LayerModel().links
    where, limit = model.step_limit or ("", GradientClip("elements", math.inf))
    for t in reversed(steps):
        f.da[t], f.dh[t] = zeros, zeros
        if not model.reached.at(t, f.T) or not model.visited.at(t, f.T):
            continue
        # What is added up to dh, and whether the slope multiplies it; of one source, the other steps have no g.
        own = [(f.g[t] * c, sloped) for sloped, coef in model.own if t in f.g and (c := coef.of(f, t))]
        passed: list[tuple[Numbers, bool]] = []
        if t + 1 in f.da and model.reached.at(t + 1, f.T) and model.passes.at(t, f.T):
            passed = [(LINK[term].value(f, t) * coef.of(f, t), sloped) for term, sloped, coef in links]
            passed = [(limited(v, limit), sloped) for v, sloped in passed] if where == "dh_next" else passed
        if t in f.h_n_gradient:
            passed.append((f.h_n_gradient[t], not model.links or model.links[0].sloped))
        f.from_next[t] = sum((v for v, _ in passed), zeros)
        dh = sum((v for v, _ in (*own, *passed)), zeros)
        da = sum((v * f.slope[t] if sloped else v for v, sloped in (*own, *passed)), zeros)
        dh = limited(dh, limit) if where == "dh" else dh
        if where == "dh" or f.slope_by is not None:
            da = f.sloped(t, dh)
        f.dh[t], f.da[t] = dh, (limited(da, limit) if where == "da" else da)


def enter(model: LayerModel, f: LayerTrace, g: Numbers) -> None:
    """Add h_n's gradient where it enters; what is passed goes on to the first step that the way back reaches, or hx."""
    for t in range(f.T):
        for how, coef in model.entry:
            if not (c := coef.of(f, t)):
                continue
            if how in ("g", "instead"):
                f.g[t] = (f.g[t] if how == "g" else f.g[t] * 0.0) + g * c
                continue
            to = next((k for k in range(t, -1, -1) if model.reached.at(k, f.T)), -1)
            f.h_n_gradient[to] = f.h_n_gradient.get(to, np.zeros(g.shape)) + g * c


def written_of(model: LayerModel, f: LayerTrace, nonlinearity: str) -> list[Numbers]:
    """Return what is returned of each step, in the order of the steps."""
    outputs: list[Numbers] = []
    for t in range(f.T):
        k = STATES_RETURNED[model.written](t, f.T)
        of_step = f.s[t] if model.written == "s[t]" else f.step_output[k] if k >= 0 else f.hx
        if model.written == "phi(h[t])":
            of_step = (model.activation or Activation(nonlinearity)).of(of_step)
        if model.at_zero is not None and model.at_zero.silent and f.blank[t].any():
            of_step = of_step * (1 - f.blank[t])
        outputs.append(of_step if _writes(model, t, f.T) else np.zeros((f.N, f.H)))
    return outputs


def _writes(model: LayerModel, t: int, T: int) -> bool:
    return model.shown.at(t, T) and model.visited.at(t, T)


def by_states(model: LayerModel, f: LayerTrace, g: Mapping[int, Numbers]) -> dict[int, Numbers]:
    """Return the gradient by each state, given that by what is returned of each step."""
    gradients = {t: v * 0.0 for t, v in g.items()}
    for t, v in g.items():
        k = STATES_RETURNED[model.written](t, len(g))
        if model.at_zero is not None and model.at_zero.silent and f.blank[t].any():
            v = v * (1 - f.blank[t])
        if k >= 0 and _writes(model, t, len(g)) and model.counted.at(t, len(g)):
            gradients[k] = gradients[k] + v
    return gradients


def gradient(model: LayerModel, role: str, f: LayerTrace) -> Any:
    """Return one gradient of a trace: an array; by x a list of steps."""
    terms = model.readout(role)
    if not f.square and any(needs_square(role, name) for name, _ in terms):
        terms = RIGHT_GRADIENT_SUMS[role]
    if role == "x":
        zeros = np.zeros((f.N, f.F))
        return [value if (value := total(terms, INPUT, f, t)) is not None else zeros for t in range(f.T)]
    if role == "hx":
        value = total(terms, START, f, 0)
        value = np.zeros((f.N, f.H)) if value is None else value
        return value + f.h_n_gradient[-1] if -1 in f.h_n_gradient else value
    shape = {"weight_ih": (f.H, f.F), "weight_hh": (f.H, f.H)}.get(role, (f.H,))
    result: Numbers = np.zeros(shape)
    limit = model.limits.get(role)
    steps = [t for t in reversed(range(f.T)) if model.reached.at(t, f.T)]
    clips = limit is not None and limit.kind == "running sum"
    for run in [[t] for t in steps] if clips else [steps]:
        for name, coef in terms:
            for c, group in _by_coefficient(coef, f, run):
                part = product(name, f, *group)
                result = result + (part if c == 1 else part * c)
        if limit is not None and clips:
            result = np.clip(result, -limit.most, limit.most)
    return result


def _by_coefficient(coef: Coef, f: LayerTrace, steps: Sequence[int]) -> Iterator[tuple[float, list[int]]]:
    groups: dict[float, list[int]] = {}
    for t in steps:
        groups.setdefault(coef.of(f, t), []).append(t)
    yield from ((c, group) for c, group in groups.items() if c)


def _final(line: Line, f: LayerTrace) -> Numbers:
    """Return a final state of what the steps make, whatever the next ones read."""
    made = StepwiseArray(lambda t: f.hx if t < 0 else f.step_output[t], f.T)
    return line.of({"h": made, "output": StepwiseArray(f.kept, f.T), "s": f.s, "hx": f.hx, "T": f.T})


# What may be returned as h_n, given the trace.
FINAL_STATES: Final[dict[str, Callable[[LayerTrace], Numbers]]] = {
    text: partial(_final, Line(text))
    for text in (
        *("h[T-1]", "h[0]", "s[T-1]", "h[T-2]", "hx", "output[T-1]", "output[max(T-2, 0)]"),
        *(line.format("h[T-1]") for line in ELEMENTWISE),
        *("h[0:T].sum(0)", "h[0:T].mean(0)"),
    )
}
