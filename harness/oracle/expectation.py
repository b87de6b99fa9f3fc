"""expectation: the expected value and the allowance of each element that a correct subject may return on a case.

The comparison is step-local where the subject's own states are known. Every state is compared with one step of the
reference, taken at the subject's own input and previous state, so that errors neither accumulate nor explode. Otherwise
the comparison is end to end. The allowance is carried along from step to step and layer to layer, which stays sound,
but soon is too wide to show a mistake.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.oracle.arithmetic import U64, Arithmetic
from harness.oracle.equation import Equation
from harness.oracle.reference import (
    Floats,
    Reference,
    Steps,
    StepWeights,
    at_steps,
    keep_scale,
    readout_weights,
    recalled,
    write_steps,
    zeros,
)
from harness.oracle.tolerance import Bound, Sizes, Step, gamma, linear_allowance, soft_floor, step_allowance
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

Index = tuple[int, ...]

BLOCK: Final = 2**13
"""The number of elements of an operand that are worked on at once. Larger arrays are fetched from the system anew each
time, and touching new memory costs more than computing: for 200 rows of 64 units it takes 0.6 ms with blocks of this
size, and 1.4 ms without."""


DROPOUT_ROUNDINGS: Final = 4
"""The number of roundings between a state and what dropout keeps of it, as ``between`` counts them."""


@dataclass(frozen=True)
class Expected:
    """An array's expected values, and the largest difference from each that rounding can explain (inf: exempt).

    Where an element's operands are known exactly, its ``equation`` is known, too, and a smaller difference may still be
    suspicious. ``floor`` is a lower limit of the suspicious differences, elementwise.
    """

    values: Floats
    allowance: Floats
    floor: Floats | None = None
    equation: Callable[[Index], Equation] | None = None
    or_nan: NDArray[np.bool_] | None = None
    """A mask of the elements where NaN is accepted, too, because a known deviation gives NaN there."""


def or_nan(expected: Expected, deviating: Expected) -> Expected:
    """Return an expectation that accepts NaN, too, where a known deviation gives it."""
    return replace(expected, or_nan=np.isnan(deviating.values))


class Setting(NamedTuple):
    """The setting of a comparison: the reference (or a fault), the case, and the subject's arithmetic."""

    reference: Reference
    case: Case
    arithmetic: Arithmetic


class Operand(NamedTuple):
    """An operand that a step reads: its values, and how far they may be off (``None``: exact)."""

    values: Floats
    error: Floats | None = None


class Layer(NamedTuple):
    """The output of a layer (T, N, D*H), as far as known: values, and how far they may be off (``None``: exact)."""

    output: Floats
    error: Floats | None = None


def expect_local(setting: Setting, states: Sequence[Layer]) -> list[dict[str, Expected]]:
    """Return the expected arrays of every layer, given the subject's own states.

    ``states[l]`` is the output of layer l, time first. Each dict but the last holds a layer's ``output``. The last one
    holds all arrays of the whole stack.
    """
    reference, case, _ = setting
    config = case.config
    below = [Layer(reference.time_major(case.x, config))]
    final: dict[tuple[int, int], Expected] = {}
    expected: list[dict[str, Expected]] = []
    for layer in range(len(states)):
        parts = [_direction(setting, (layer, d), below, states) for d in range(config.num_directions)]
        for d, part in enumerate(parts):
            final[layer, d] = at_step(part, reference.final_step(config, d))
        output = joined(reference, config, parts)
        expected.append({"output": laid_out(reference, config, output)})
        if layer < config.num_layers - 1:
            below.append(between(setting, layer, states))
    output = joined(reference, config, parts)
    expected[-1] = _assemble(setting, output, final, states[-1])
    return expected


def single_step_states(reference: Reference, config: RNNConfig, h_n: Array) -> list[Layer]:
    """Return the output of every layer of a case with a single time step, where h_n (L*D, N, H) holds them all."""
    shape = (1, config.N, config.num_directions * config.hidden_size)
    states = [Layer(zeros(config, *shape)) for _ in range(config.num_layers)]
    for (layer, direction), row in zip(reference.h_n_order(config), h_n, strict=True):
        states[layer].output[0][..., reference.features(config, direction)] = row
    return states


def end_to_end_states(setting: Setting) -> list[Layer]:
    """Return the output of every layer, computed without the subject's states."""
    reference, case, _ = setting
    below = [Layer(reference.time_major(case.x, case.config))]
    states: list[Layer] = []
    for layer in range(case.config.num_layers):
        states.append(Layer(*carried_along(setting, layer, below, states)))
        below.append(between(setting, layer, states))
    return states


def read_by(setting: Setting, at: tuple[int, int], below: Sequence[Layer]) -> Layer:
    """Return what a layer and direction read: the last of ``below``, if no fault reads another.

    ``below`` holds x, and what dropout leaves of each output below.
    """
    reference, case, _ = setting
    output = reference.layer_input(case, *at, [layer.output for layer in below])
    same = [layer for layer in below if layer.output is output]
    if same or all(layer.error is None for layer in below):
        return same[0] if same else Layer(output)
    errors = [np.zeros(layer.output.shape) if layer.error is None else layer.error for layer in below]
    return Layer(output, reference.layer_input(case, *at, errors))


def _start(setting: Setting, at: tuple[int, int], states: Sequence[Layer]) -> Operand:
    """Return the initial state of a layer and direction, which may be the final state of another, computed before."""
    reference, case, _ = setting
    values = reference.start(case, *at, [state.output for state in states])
    source = reference.starts_from(case.config, *at)
    error = None if source is None else states[source[0]].error
    if source is None or error is None:
        return Operand(values)
    final = at_steps(error, reference.final_step(case.config, source[1]))
    return Operand(values, final[:, reference.features(case.config, source[1])])


def between(setting: Setting, layer: int, states: Sequence[Layer]) -> Layer:
    """Return what the next layer reads of ``states[layer]``: what dropout leaves of it.

    1 - p, its inverse and the product are rounded, and the inverse once more in some implementations. An inverse that
    is a power of two costs no rounding. The product may overflow.
    """
    reference, case, arithmetic = setting
    output, error = states[layer].output, states[layer].error
    if layer not in case.masks:
        return states[layer]
    with np.errstate(invalid="ignore", over="ignore"):
        kept = reference.between(case, layer, output)
        carried = None if error is None else reference.between(case, layer, error)
        if (over := np.abs(kept) >= arithmetic.format.largest).any():
            carried = np.where(over & np.isfinite(output), np.inf, 0.0 if carried is None else carried)
        if math.frexp(keep_scale(case.config))[0] not in {0.0, 0.5}:
            u = arithmetic.format.u
            rounded = gamma(DROPOUT_ROUNDINGS, u) * np.abs(kept) + arithmetic.underflow * case.masks[layer]
            grown = 0.0 if carried is None else carried * (1 + gamma(DROPOUT_ROUNDINGS, u))
            return Layer(kept, np.asarray(rounded + grown))
        return Layer(kept, carried)


def expect_end_to_end(setting: Setting, states: Sequence[Layer]) -> dict[str, Expected]:
    """Return the expected ``output``, ``h_n`` and ``readout`` of the case, given its ``end_to_end_states``."""
    reference, config = setting.reference, setting.case.config
    final: dict[tuple[int, int], Expected] = {}
    for layer, d in reference.h_n_order(config):
        last, part = reference.final_step(config, d), reference.features(config, d)
        values, error = (at_steps(array, last)[..., part] for array in states[layer] if array is not None)
        final[layer, d] = Expected(values, error)
    top = states[-1]
    assert top.error is not None
    return _assemble(setting, Expected(top.output, top.error), final, top)


def carried_along(
    setting: Setting, layer: int, below: Sequence[Layer], states: Sequence[Layer], own: Floats | None = None
) -> tuple[Floats, Floats]:
    """Return a layer's states (T, N, D*H), and how far a correct run's may be from them; errors go from step to step.

    The states are the reference's, or ``own``: those of another run. With ``own``, the error is how far the two runs
    may be apart, each with its own roundings. That is at most one step's allowance around what the reference makes of
    that run's operands, plus the distance of its own state from the same. ``states`` are those of the layers before it.

    Errors are carried twice: elementwise, e <- |W_hh| e + ..., which grows by the row sums of |W_hh|, and as the norm
    of the errors of each row, which grows by the largest singular value. An element is off by at most the smaller of
    the two.
    """
    reference, case, arithmetic = setting
    config = case.config
    shape = (config.T, config.N, config.num_directions * config.hidden_size)
    values, errors = zeros(config, *shape), np.empty(shape)
    for direction in range(config.num_directions):
        part, at = reference.features(config, direction), (layer, direction)
        x = read_by(setting, at, below)
        start = _start(setting, at, [*states, Layer(values, errors)])
        steps = _Steps(setting, at)
        by_unit, largest = _growth(steps.w, arithmetic)
        held = [(start, np.zeros((config.N, 1)) if start.error is None else _norm(start.error))]
        visited = reference.visited(config)
        for step, t in enumerate(reference.time_order(config, direction)):
            h, norm = _recalled(held, reference.reads(config, step))
            x_t = Operand(x.output[t], None if x.error is None else x.error[t])
            y, (elementwise, _), _ = steps(x_t, h)
            _, (alone, _), _ = steps(x_t, Operand(h.values))
            with np.errstate(invalid="ignore", over="ignore"):
                if own is not None:
                    apart = np.abs(own[t][..., part] - y)
                    apart[np.isnan(apart)] = 0.0  # not finite: what reads such states is exempt, or settled by them
                    y, elementwise, alone = own[t][..., part], elementwise + apart, alone + apart
                error = np.fmin(elementwise, alone + by_unit * norm)
                grown = np.fmin(_norm(error), _norm(alone) + largest * norm)
            if visited is None:
                held.append((Operand(y, error), grown))
            else:
                before, norm_before = held[-1]
                off = np.zeros_like(error) if before.error is None else before.error
                kept = Operand(np.where(visited[t], y, before.values), np.where(visited[t], error, off))
                held.append((kept, np.where(visited[t], grown, norm_before)))
                y, error = np.where(visited[t], y, 0.0), np.where(visited[t], error, 0.0)
            values[t][..., part], errors[t][..., part] = y, error
    return values, errors


def _recalled(held: Sequence[tuple[Operand, Floats]], steps: Sequence[int]) -> tuple[Operand, Floats]:
    """Return the sum of the states of some steps, and that of the norms of their errors.

    ``held`` holds all states from the initial one on.
    """
    if len(steps) == 1:
        return held[steps[0] + 1]
    chosen = [held[step + 1] for step in steps]
    errors = [h.error for h, _ in chosen if h.error is not None]
    values = recalled([h.values for h, _ in held], steps)
    return Operand(values, np.sum(errors, 0) if errors else None), recalled([norm for _, norm in held], steps)


def _growth(w: StepWeights, arithmetic: Arithmetic) -> tuple[Floats, float]:
    """Return the most that the norm of a state's error may grow by in one step: into each unit, and into a norm again.

    These are the norms of W_hh's rows, and its largest singular value, which LAPACK gives to some H u64. phi does not
    enlarge an error. Errors also change the roundings themselves, of which ``step_allowance`` has at most as many as
    are counted here. That change is relative to |W_hh||e|, whose norm grows by the largest singular value of |W_hh|.
    """
    H, m = len(w.hh), w.ih.shape[1] + len(w.hh) + 2
    if arithmetic.is_complex:  # a complex tanh is steeper than 1 beside its poles
        return np.full(H, np.inf), np.inf
    if not np.isfinite(w.hh).all():
        return np.full(H, np.inf), np.inf
    each = [2 * gamma(m + 1, arithmetic.sum_u), 8 * arithmetic.format.u, arithmetic.tanh_error]
    relative = (
        math.prod(1 + error for error in [*each, arithmetic.accepted.product_error, arithmetic.accepted.rtol]) - 1
    )
    with np.errstate(over="ignore"):
        signed, unsigned = (float(np.linalg.norm(matrix, 2)) * (1 + 16 * H * U64) for matrix in (w.hh, np.abs(w.hh)))
        return _norm(w.hh)[:, 0] * (1 + relative), signed + relative * unsigned


def _norm(rows: Floats) -> Floats:
    """Return the norm of each row, scaled so that no square underflows."""
    largest = np.abs(rows).max(axis=-1, keepdims=True, initial=0)
    scale = np.where((largest > 0) & (largest < np.inf), largest, 1.0)
    return np.asarray(scale * np.linalg.norm(rows / scale, axis=-1, keepdims=True))


def apart_from_prefixes(setting: Setting, states: Sequence[Layer]) -> list[Layer]:
    """Return the states of prefixes of the stack, and how far the same states may be off in the run of the whole stack.

    The top layer's states are the whole run's own, and exact.
    """
    below = [Layer(setting.reference.time_major(setting.case.x, setting.case.config))]
    known: list[Layer] = []
    for layer, state in enumerate(states[:-1]):
        known.append(Layer(*carried_along(setting, layer, below, known, state.output)))
        below.append(between(setting, layer, known))
    return [*known, states[-1]]


def laid_out(reference: Reference, config: RNNConfig, expected: Expected) -> Expected:
    """Return an expectation that was computed with time first, in the layout of the config."""
    if not config.batch_first:
        return expected
    turned = [None if a is None else reference.layout(a, config) for a in (expected.values, expected.allowance)]
    floor = None if expected.floor is None else reference.layout(expected.floor, config)
    equation = expected.equation
    swapped = None if equation is None else lambda index: equation((index[1], index[0], *index[2:]))
    assert turned[0] is not None
    assert turned[1] is not None
    return Expected(turned[0], turned[1], floor, swapped)


def joined(reference: Reference, config: RNNConfig, parts: Sequence[Expected]) -> Expected:
    """Return the directions' (T, N, H) as one (T, N, D*H)."""
    if len(parts) == 1:
        return parts[0]
    slices = [reference.features(config, d) for d in range(len(parts))]

    def whole(arrays: Sequence[Floats | None]) -> Floats | None:
        known = [array for array in arrays if array is not None]
        if len(known) < len(parts):
            return None
        together = np.zeros((config.T, config.N, len(parts) * config.hidden_size), known[0].dtype)
        for array, part in zip(known, slices, strict=True):
            together[..., part] = array
        return together

    def equation(index: Index) -> Equation:
        for part, expected in zip(slices, parts, strict=True):
            if part.start <= index[2] < part.stop and expected.equation is not None:
                return expected.equation((*index[:2], index[2] - part.start))
        raise IndexError(index)

    values, allowance = whole([p.values for p in parts]), whole([p.allowance for p in parts])
    assert values is not None
    assert allowance is not None
    exact = all(part.equation is not None for part in parts)
    return Expected(values, allowance, whole([p.floor for p in parts]), equation if exact else None)


def stacked(rows: Sequence[Expected]) -> Expected:
    """Return the rows of h_n or hx, (N, H) each, as one (L*D, N, H)."""
    floors = [row.floor for row in rows if row.floor is not None]

    def equation(index: Index) -> Equation:
        of_row = rows[index[0]].equation
        assert of_row is not None
        return of_row(index[1:])

    return Expected(
        np.stack([row.values for row in rows]),
        np.stack([row.allowance for row in rows]),
        np.stack(floors) if len(floors) == len(rows) else None,
        equation if all(row.equation is not None for row in rows) else None,
    )


def _direction(setting: Setting, at: tuple[int, int], outputs: Sequence[Layer], states: Sequence[Layer]) -> Expected:
    """Return the states (T, N, H) of one layer and direction, each computed from the subject's own previous one."""
    (reference, case, arithmetic), (layer, direction) = setting, at
    config, own, below = case.config, states[layer], read_by(setting, at, outputs)
    part = reference.features(config, direction)
    known = [state.output for state in states]
    previous = reference.previous_states(case, layer, direction, own.output[..., part], known)
    error = None if own.error is None else shifted(reference, config, direction, own.error[..., part])
    exact = below.error is None and own.error is None and arithmetic.modelled
    steps = _Steps(setting, at)
    values, allowance = np.empty(previous.shape, previous.dtype), np.empty(previous.shape)
    floor = np.empty(previous.shape) if exact else None
    operands = [None if a is None else _rows(a) for a in (below.output, below.error, previous, error)]
    for rows in _blocks(operands):
        x, x_error, h, h_error = (None if a is None else a[rows] for a in operands)
        assert x is not None
        assert h is not None
        y, bound, s = steps(Operand(x, x_error), Operand(h, h_error))
        _rows(values)[rows], _rows(allowance)[rows] = y, bound.allowance
        if floor is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                _rows(floor)[rows] = soft_floor(s, y, bound.magnitude, steps.kind, arithmetic)
    if own.error is not None:
        allowance += own.error[..., part]
    _hide_padding(reference, config, values, allowance, floor)
    if floor is None:
        return Expected(values, allowance)

    w, kind = steps.w, steps.kind

    def equation(index: Index) -> Equation:
        return _step_equation(w, kind, below.output[index[:2]], previous[index[:2]], index[2])

    return Expected(values, allowance, floor, equation)


def _hide_padding(
    reference: Reference, config: RNNConfig, values: Floats, allowance: Floats, floor: Floats | None
) -> None:
    visited = reference.visited(config)
    if visited is None:
        return
    hidden = np.broadcast_to(~visited, values.shape)
    values[hidden] = allowance[hidden] = 0.0
    if floor is not None:
        floor[hidden] = np.inf


def _blocks(operands: Sequence[Floats | None]) -> Iterator[slice]:
    """Return slices that take the rows of operands a few at a time."""
    given = [array for array in operands if array is not None]
    at_once = max(1, BLOCK // max(array.shape[1] for array in given))
    return (slice(start, start + at_once) for start in range(0, len(given[0]), at_once))


def _rows(array: Floats) -> Floats:
    """Return (T, N, K) as (T*N, K)."""
    return array.reshape(-1, array.shape[-1])


def shifted(reference: Reference, config: RNNConfig, direction: int, own: Floats) -> Floats:
    """Return what belongs to each step's previous state, given what belongs to the states; zero for the initial one."""
    previous, order = np.zeros_like(own), np.asarray(reference.time_order(config, direction))
    previous[order[1:]] = own[order[:-1]]
    write_steps(previous, reference.first_step(config, direction), np.zeros(own.shape[1:]))
    return previous


def _step_equation(w: StepWeights, kind: str, x: Floats, h: Floats, unit: int) -> Equation:
    a = np.concatenate([x, [1.0], h, [1.0]])
    b = np.concatenate([w.ih[unit], w.b_ih[unit : unit + 1], w.hh[unit], w.b_hh[unit : unit + 1]])
    return Equation(a, b, function=kind, groups=(x.size + 1, h.size + 1))


class _Steps:
    """The steps of one layer and direction, with their bounds."""

    def __init__(self, setting: Setting, at: tuple[int, int]) -> None:
        self._reference, case, self._arithmetic = setting
        self.w = self._reference.step_weights(case, *at)
        self.kind = self._reference.nonlinearity_of(case.config, at[0])
        self._sizes = Sizes.of(self.w.ih, self.w.hh)
        self._first = at[0] == 0

    def __call__(self, x: Operand, h: Operand) -> tuple[Floats, Bound, Floats]:
        """Return phi(s), its bound, and s, for rows of operands."""
        with np.errstate(over="ignore", invalid="ignore"):
            s = self._reference.preactivation(x.values, h.values, self.w)
            activated = self._reference.activation(s, self.kind)
            y = self._reference.new_state(activated, h.values, self.w)
        bound = step_allowance(
            Step(x.values, h.values, *self.w),
            s,
            activated,
            self.kind,
            self._arithmetic,
            x_error=x.error if self._first else self._unsettled(x),
            h_error=self._unsettled(h),
            x_given=self._first,
            sizes=self._sizes,
        )
        if y is not activated:
            bound = bound._replace(allowance=self._of_new_state(y, activated, h, bound))
        return y, bound, s

    def _unsettled(self, read: Operand) -> Floats | None:
        """Return how far off what a step makes of a state may be, the state's own error included."""
        apart = self._reference.unsettled(read.values, self._arithmetic.format.u)
        if apart is None or read.error is None:
            return read.error if apart is None else apart
        return apart + read.error

    def _of_new_state(self, y: Floats, activated: Floats, h: Operand, bound: Bound) -> Floats:
        """Return the allowance of what a fault makes of phi(s).

        The fault adds something to phi(s) or rounds it, and its result never falls as phi(s) rises. So the two ends of
        the allowance of phi(s) bound all that lies between.
        """
        u = self._arithmetic.format.u
        with np.errstate(over="ignore", invalid="ignore"):
            ends = [
                self._reference.new_state(activated + off, h.values, self.w)
                for off in (-bound.allowance, bound.allowance)
            ]
            allowance = np.maximum(*(np.abs(end - y) for end in ends))
            allowance = allowance + 4 * u * (bound.magnitude + np.abs(activated) + np.abs(h.values))
            allowance[np.isnan(allowance)] = np.inf
            return np.asarray(allowance if h.error is None else allowance + h.error)


def at_step(expected: Expected, steps: Steps) -> Expected:
    """Return one time step of (T, N, H): the same for every sequence, or one for each."""
    equation = expected.equation
    floor = None if expected.floor is None else at_steps(expected.floor, steps)

    def at_t(index: Index) -> Equation:
        assert equation is not None
        return equation((steps if isinstance(steps, int) else int(steps[index[0]]), *index))

    values, allowance = (at_steps(array, steps) for array in (expected.values, expected.allowance))
    return Expected(values, allowance, floor, None if equation is None else at_t)


def _assemble(
    setting: Setting, output: Expected, final: dict[tuple[int, int], Expected], read: Layer
) -> dict[str, Expected]:
    """Return every array in the caller's layout; the readout is taken of ``read``."""
    reference, config = setting.reference, setting.case.config
    rows = [final[key] for key in reference.h_n_order(config)]
    arrays = {"output": laid_out(reference, config, output), "h_n": stacked(rows)}
    if config.output_size is not None:
        arrays["readout"] = laid_out(reference, config, _readout(setting, read))
    return arrays


def _readout(setting: Setting, read: Layer) -> Expected:
    reference, case, arithmetic = setting
    weight, bias = readout_weights(case)
    if reference.readout_input(case.config, read.output) is not read.output:
        error = None if read.error is None else reference.readout_input(case.config, read.error)
        read = Layer(reference.readout_input(case.config, read.output), error)
    with np.errstate(over="ignore", invalid="ignore"):
        y = reference.readout(read.output, weight, bias)
    allowance, magnitude = linear_allowance(read.output, weight, bias, arithmetic, x_error=read.error)
    if case.config.lengths is not None:
        _hide_padding(reference, case.config, y, allowance, None)
    if read.error is not None or not arithmetic.modelled:
        return Expected(y, allowance)

    def equation(index: Index) -> Equation:
        a = np.concatenate([read.output[index[:2]], [1.0]])
        return Equation(a, np.concatenate([weight[index[2]], bias[index[2] : index[2] + 1]]))

    with np.errstate(over="ignore", invalid="ignore"):
        return Expected(y, allowance, soft_floor(y, y, magnitude, "identity", arithmetic), equation)
