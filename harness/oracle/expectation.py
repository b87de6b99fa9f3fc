"""expectation: the expected value and the tolerance of each element that a correct subject may return on a case.

The comparison is step-local where the subject's own states are known. Every state is compared with one step of the
reference, taken at the subject's own input and previous state, so that errors neither accumulate nor explode. Otherwise
the comparison is end to end. The tolerance is carried along from step to step and layer to layer, which stays sound,
but soon is too wide to show a mistake.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Final

from numpy.random import PCG64, Generator

from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.array_layout import Place, features, final_step, h_n_order, layout, time_major, visited
from harness.oracle.bounded_array import BoundedArray, Floats, TimeIndex, at_steps
from harness.oracle.element_equation import ElementEquation
from harness.oracle.expected import ExpectedArray, Index
from harness.oracle.gated import GatedCell, GatedSteps
from harness.oracle.pinned_numpy import np
from harness.oracle.reference import BoundedSteps
from harness.oracle.setting import Setting
from harness.oracle.tolerance import (
    LAMBDA,
    StepBounds,
    error_growth,
    gamma,
    linear_tolerance,
    loosened,
    norms,
    off_grid,
    soft_floor,
)
from harness.oracle.unroll import (
    State,
    along_time,
    initial_states,
    keep_scale,
    previous_states,
    readout_weights,
    shifted,
)
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

# A function from the state that a time step reads to the one that it gives, as ``along_time`` takes it.
TakeStep = Callable[[int, State], State]

# What is expected of the final states (N, H) of each layer and direction, h first.
Finals = dict[Place, list[ExpectedArray]]

BLOCK: Final = 2**13
"""The number of elements of an operand that are worked on at once. Larger arrays are fetched from the system anew each
time, and touching new memory costs more than computing: for 200 rows of 64 units it takes 0.6 ms with blocks of this
size, and 1.4 ms without."""


# The number of random runs that ``usually_apart`` takes a standard deviation of: it is then known to 18 %.
RANDOM_RUNS: Final = 16

# The number of roundings between a state and what dropout keeps of it, as ``between`` counts them.
DROPOUT_ROUNDINGS: Final = 4


def expect_local(setting: Setting, states: Sequence[BoundedArray]) -> list[dict[str, ExpectedArray]]:
    """Return the expected arrays of every layer, given the subject's own states.

    ``states[l]`` is the output of layer l, time first. Each dict but the last holds a layer's ``output``. The last one
    holds all arrays of the whole stack.
    """
    config, final = setting.case.config, Finals()
    outputs: list[ExpectedArray] = []
    for layer, (x, own) in enumerate(zip(inputs(setting, states), states, strict=True)):
        parts = [_direction(setting, (layer, d), x, own) for d in range(config.num_directions)]
        for d, part in enumerate(parts):
            final[layer, d] = [at_step(state, final_step(config, d)) for state in part]
        outputs.append(joined(config, [part[0] for part in parts]))
    expected = [{"output": laid_out(config, output)} for output in outputs[:-1]]
    return [*expected, _assemble(setting, outputs[-1], final, states[-1])]


def inputs(setting: Setting, states: Sequence[BoundedArray]) -> list[BoundedArray]:
    """Return what each layer reads, (T, N, ..), given the states of each."""
    passed = (between(setting, layer, own) for layer, own in enumerate(states[:-1]))
    return [_first_input(setting), *passed]


def _first_input(setting: Setting) -> BoundedArray:
    return BoundedArray(time_major(setting.case.x, setting.case.config))


def single_step_states(config: RNNConfig, h_n: Array) -> list[BoundedArray]:
    """Return the output of every layer of a case with a single time step, where h_n (L*D, N, H) holds them all."""
    shape = (1, config.N, config.num_directions * config.h_size)
    states = [BoundedArray(np.zeros(shape)) for _ in range(config.num_layers)]
    for (layer, direction), row in zip(h_n_order(config), h_n, strict=True):
        states[layer].values[0][..., features(config, direction)] = row
    return states


def end_to_end_states(setting: Setting) -> list[BoundedArray]:
    """Return the output of every layer, computed without the subject's states."""
    return _layer_by_layer(setting, setting.case.config.num_layers, partial(carried_along, setting))


def _layer_by_layer(
    setting: Setting, layers: int, states_of: Callable[[int, BoundedArray], BoundedArray]
) -> list[BoundedArray]:
    """Return the states of the lowest layers, given those of a layer that reads an input."""
    x, states = _first_input(setting), list[BoundedArray]()
    for layer in range(layers):
        states.append(states_of(layer, x))
        x = between(setting, layer, states[-1])
    return states


def as_read(operand: BoundedArray, arithmetic: Arithmetic) -> BoundedArray:
    """Return x or the states (.., N, K) as a step multiplies them: off by their rounding to a grid, where there is one.

    Each (N, K) is what one call reads.
    """
    grids = arithmetic.backend.grids
    return (
        operand
        if grids is None
        else BoundedArray(operand.values, off_grid(operand.values, grids.states, operand.error))
    )


def between(setting: Setting, layer: int, states: BoundedArray) -> BoundedArray:
    """Return what the next layer reads of a layer's states: what dropout leaves of them.

    1 - p, its inverse and the product are rounded, and the inverse once more in some implementations. An inverse that
    is a power of two costs no rounding. The product may overflow.
    """
    reference, case, arithmetic = setting
    output, error = states
    if layer not in case.masks:
        return states
    with np.errstate(invalid="ignore", over="ignore"):
        kept = reference.between(case, layer, output)
        carried = None if error is None else reference.between(case, layer, error)
        if (over := np.abs(kept) >= arithmetic.format.largest).any():
            carried = np.where(over & np.isfinite(output), np.inf, 0.0 if carried is None else carried)
        if math.frexp(keep_scale(case.config))[0] not in {0.0, 0.5}:
            u = arithmetic.format.u
            rounded = gamma(DROPOUT_ROUNDINGS, u) * np.abs(kept) + arithmetic.underflow * case.masks[layer]
            grown = 0.0 if carried is None else carried * (1 + gamma(DROPOUT_ROUNDINGS, u))
            return BoundedArray(kept, np.asarray(rounded + grown))
        return BoundedArray(kept, carried)


def expect_end_to_end(setting: Setting, states: Sequence[BoundedArray]) -> dict[str, ExpectedArray]:
    """Return the expected ``output``, ``h_n`` and ``readout`` of the case, given its ``end_to_end_states``."""
    config, final, read = setting.case.config, Finals(), inputs(setting, states)
    for layer, d in h_n_order(config):
        last, part = final_step(config, d), features(config, d)
        values, error = (at_steps(array, last)[..., part] for array in states[layer] if array is not None)
        carried = _carried(setting, (layer, d), read[layer], states[layer])
        final[layer, d] = [ExpectedArray(values, error), *(at_step(state, last) for state in carried)]
    top = states[-1]
    assert top.error is not None
    return _assemble(setting, ExpectedArray(top.values, top.error), final, top)


def carried_along(setting: Setting, layer: int, x: BoundedArray, own: Floats | None = None) -> BoundedArray:
    """Return a layer's states (T, N, D*H), and how far a correct run's may be from them; errors go from step to step.

    The states are the reference's, or ``own``: those of another run. With ``own``, the error is how far the two runs
    may be apart, each with its own roundings. That is at most one step's tolerance around what the reference makes of
    that run's operands, plus the distance of its own state from the same.

    Errors are carried twice: elementwise, e <- |W_hh| e + ..., which grows by the row sums of |W_hh|, and as the norm
    of the errors of each row, which grows by the largest singular value. An element is off by at most the smaller of
    the two. The states come first, so that all that their errors do not enter is computed for many steps at once.
    """
    reference, case, arithmetic = setting
    config, x = case.config, as_read(x, arithmetic)
    shape = (config.T, config.N, config.num_directions * config.h_size)
    states = BoundedArray(np.zeros(shape), np.empty(shape))
    for direction in range(config.num_directions):
        part, at = features(config, direction), (layer, direction)
        values, errors = (array[..., part] for array in states if array is not None)
        own_part = None if own is None else own[..., part]
        if isinstance(reference, GatedCell):
            values[...], errors[...] = reference.run_along(case, at, arithmetic, x, own=own_part)
            continue
        state, error = _carrying(setting, at, x, own_part)
        (start,) = initial_states(case, at)
        along_time(config, direction, (start,), state, (values,))
        off = np.zeros(start.shape)
        along_time(config, direction, (off, norms(off)), error, (errors,))
    return states


def _carrying(setting: Setting, at: Place, x: BoundedArray, own: Floats | None) -> tuple[TakeStep, TakeStep]:
    """Return two steps for ``carried_along``: that of a state, and then that of its error and the norm of that error.

    The second one needs the states that all steps read. It has a stretch of time computed at once.
    """
    (_, case, arithmetic), config = setting, setting.case.config
    steps = BoundedSteps.of(setting.elman, case, at, arithmetic)
    by_unit, largest = error_growth(steps.w.ih, steps.w.hh, arithmetic)
    previous = np.zeros((config.T, config.N, config.hidden_size))
    at_once = max(1, BLOCK // max(1, config.N * max(x.values.shape[2], config.hidden_size)))

    def state(t: int, held: State) -> State:
        (previous[t],) = held
        with np.errstate(over="ignore", invalid="ignore"):
            return (steps.values(x.values[t], held[0]) if own is None else own[t],)

    @lru_cache(1)
    def stretch(number: int) -> tuple[StepBounds, Floats | None, Floats, Floats]:
        """Return the steps of a stretch, how far its states are from them, and the errors alone, with their norms."""
        some = slice(number * at_once, (number + 1) * at_once)
        bounds, apart = steps.bounds(x.map(lambda array: array[some]), previous[some]), None
        alone = bounds.tolerance()
        if own is not None:
            apart = np.abs(own[some] - bounds.y)
            apart[np.isnan(apart)] = 0.0  # not finite: what reads such states is exempt, or settled by them
            alone = alone + apart
        return bounds, apart, alone, norms(alone)

    def error(t: int, held: State) -> State:
        (error, norm), (number, i) = held, divmod(t, at_once)
        with np.errstate(invalid="ignore", over="ignore"):
            bounds, apart, alone, norm_alone = stretch(number)
            error = bounds.at(i).tolerance(as_read(BoundedArray(previous[t], error), arithmetic).error)
            if apart is not None:
                error = error + apart[i]
            error = np.fmin(error, alone[i] + by_unit * norm)
            return error, np.fmin(norms(error), norm_alone[i] + largest * norm)

    return state, error


def apart_from_prefixes(setting: Setting, states: Sequence[BoundedArray]) -> list[BoundedArray]:
    """Return the states of prefixes of the stack, and how far the same states may be off in the run of the whole stack.

    The top layer's states are the whole run's own, and exact.
    """

    def states_of(layer: int, x: BoundedArray) -> BoundedArray:
        return carried_along(setting, layer, x, states[layer].values)

    return [*_layer_by_layer(setting, len(states) - 1, states_of), states[-1]]


def usually_apart(setting: Setting, states: Sequence[BoundedArray]) -> list[BoundedArray]:
    """Return the same states as ``apart_from_prefixes``, and how far they usually are off in the whole run.

    It is a model and no proof: LAMBDA standard deviations of runs whose every step is off by a random part of its
    tolerance. They follow the states where small errors grow, as near a pole of tanh, and where they vanish.
    """
    random = Generator(PCG64(0))
    exact, *runs = (_inexact_run(setting, len(states) - 1, source) for source in (None, *[random] * RANDOM_RUNS))
    usual: list[BoundedArray] = []
    for own, values, *others in zip(states[:-1], exact, *runs, strict=True):
        with np.errstate(over="ignore", invalid="ignore"):
            energy = sum(_distance(inexact.values, values.values) ** 2 for inexact in others)
            usual.append(BoundedArray(own.values, LAMBDA * np.sqrt(energy / RANDOM_RUNS)))
    return [*usual, states[-1]]


def _inexact_run(setting: Setting, layers: int, random: Generator | None) -> list[BoundedArray]:
    """Return the states of the lowest layers, where each step adds a random part of its tolerance to its result."""
    (_, case, arithmetic), config = setting, setting.case.config

    def states_of(layer: int, x: BoundedArray) -> BoundedArray:
        states = BoundedArray(np.zeros((config.T, config.N, config.num_directions * config.hidden_size)))
        for direction in range(config.num_directions):
            at, part = (layer, direction), features(config, direction)
            steps = BoundedSteps.of(setting.elman, case, at, arithmetic)

            def state(t: int, held: State, steps: BoundedSteps = steps) -> State:
                with np.errstate(over="ignore", invalid="ignore"):
                    if random is None:
                        return (steps.values(x.values[t], held[0]),)
                    bounds = steps.bounds(as_read(BoundedArray(x.values[t]), arithmetic), held[0])
                    off = bounds.tolerance(as_read(BoundedArray(held[0]), arithmetic).error)
                    return (_off(bounds.y, off, random),)

            along_time(config, direction, initial_states(case, at), state, (states.values[..., part],))
        return states

    return _layer_by_layer(setting, layers, states_of)


def _off(values: Floats, tolerance: Floats, random: Generator) -> Floats:
    """Return values that are off by a random part of their tolerance; where it is infinite, they are exact."""
    by = np.where(np.isfinite(tolerance), tolerance, 0.0) * random.uniform(-1, 1, values.shape)
    return values + by


def _distance(a: Floats, b: Floats) -> Floats:
    """Return how far numbers are apart: 0 if they are the same, infinity if one alone is not finite."""
    apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return np.asarray(np.where(np.isnan(apart), np.inf, apart))


def laid_out(config: RNNConfig, expected: ExpectedArray) -> ExpectedArray:
    """Return an expectation that was computed with time first, in the layout of the config."""
    if not config.batch_first:
        return expected
    turned = [None if a is None else layout(a, config) for a in (expected.values, expected.tolerance)]
    floor = None if expected.floor is None else layout(expected.floor, config)
    equation = expected.equation
    swapped = None if equation is None else lambda index: equation((index[1], index[0], *index[2:]))
    assert turned[0] is not None
    assert turned[1] is not None
    return ExpectedArray(turned[0], turned[1], floor, swapped)


def joined(config: RNNConfig, parts: Sequence[ExpectedArray]) -> ExpectedArray:
    """Return the directions' (T, N, H) as one (T, N, D*H)."""
    if len(parts) == 1:
        return parts[0]
    slices = [features(config, d) for d in range(len(parts))]

    def merged(arrays: Sequence[Floats | None]) -> Floats | None:
        present = [array for array in arrays if array is not None]
        if len(present) < len(parts):
            return None
        together = np.zeros((config.T, config.N, len(parts) * config.h_size), present[0].dtype)
        for array, part in zip(present, slices, strict=True):
            together[..., part] = array
        return together

    def equation(index: Index) -> ElementEquation:
        for part, expected in zip(slices, parts, strict=True):
            if part.start <= index[2] < part.stop and expected.equation is not None:
                return expected.equation((*index[:2], index[2] - part.start))
        raise IndexError(index)

    values, tolerance = merged([p.values for p in parts]), merged([p.tolerance for p in parts])
    assert values is not None
    assert tolerance is not None
    exact = all(part.equation is not None for part in parts)
    return ExpectedArray(values, tolerance, merged([p.floor for p in parts]), equation if exact else None)


def stacked(rows: Sequence[ExpectedArray]) -> ExpectedArray:
    """Return the rows of h_n or hx, (N, H) each, as one (L*D, N, H)."""
    floors = [row.floor for row in rows if row.floor is not None]

    def equation(index: Index) -> ElementEquation:
        of_row = rows[index[0]].equation
        assert of_row is not None
        return of_row(index[1:])

    return ExpectedArray(
        np.stack([row.values for row in rows]),
        np.stack([row.tolerance for row in rows]),
        np.stack(floors) if len(floors) == len(rows) else None,
        equation if all(row.equation is not None for row in rows) else None,
    )


def walk(setting: Setting, at: Place, x: BoundedArray, own: BoundedArray) -> GatedSteps:
    """Return the steps of one layer and direction of a cell with gates, each from the subject's own previous state.

    ``own`` holds the subject's states of the layer.
    """
    reference, case, arithmetic = setting
    assert isinstance(reference, GatedCell)
    exact = own.values[..., features(case.config, at[1])] if own.error is None else None
    return reference.walk(case, at, arithmetic, x, previous_known(case, at, own), own=exact)


def previous_known(case: Case, at: Place, own: BoundedArray) -> BoundedArray:
    """Return the state that each step of a direction reads (T, N, H), of the subject's own states of the layer."""
    part = features(case.config, at[1])
    previous = previous_states(case, at, own.values[..., part])
    return BoundedArray(previous, None if own.error is None else shifted(case.config, at[1], own.error[..., part]))


def _carried(setting: Setting, at: Place, x: BoundedArray, own: BoundedArray) -> list[ExpectedArray]:
    """Return the states (T, N, H) beside h of a layer and direction, of a cell that has some."""
    if not isinstance(setting.reference, GatedCell):
        return []
    return [_of_ball(setting, state) for state in walk(setting, at, x, own).states[1:]]


def _of_ball(setting: Setting, ball: BoundedArray) -> ExpectedArray:
    assert ball.error is not None
    tolerance = loosened(ball.error, ball.values, setting.arithmetic)
    hide_padding(setting.case.config, ball.values, tolerance, None)
    return ExpectedArray(ball.values, tolerance)


def _direction(setting: Setting, at: Place, x: BoundedArray, own: BoundedArray) -> list[ExpectedArray]:
    """Return the states (T, N, H) of one layer and direction, each computed from the subject's own previous one.

    The first ones are h. Those of a cell that has more states follow. ``own`` holds the subject's states of the layer.
    """
    (reference, case, arithmetic), config, part = setting, setting.case.config, features(setting.case.config, at[1])
    if isinstance(reference, GatedCell):
        expected = [_of_ball(setting, state) for state in walk(setting, at, x, own).states]
        if own.error is not None:
            expected[0] = ExpectedArray(expected[0].values, expected[0].tolerance + own.error[..., part])
        return expected
    below = as_read(x, arithmetic)
    previous, error = as_read(previous_known(case, at, own), arithmetic)
    steps = BoundedSteps.of(setting.elman, case, at, arithmetic)
    exact = below.error is None and own.error is None and arithmetic.modelled
    values, tolerance = np.empty(previous.shape, previous.dtype), np.empty(previous.shape)
    floor = np.empty(previous.shape) if exact else None
    operands = [None if a is None else _rows(a) for a in (below.values, below.error, previous, error)]
    for rows in _blocks(operands):
        x_rows, x_error, h, h_error = (None if a is None else a[rows] for a in operands)
        assert x_rows is not None
        assert h is not None
        with np.errstate(over="ignore", invalid="ignore"):
            bounds = steps.bounds(BoundedArray(x_rows, x_error), h)
            _rows(values)[rows], _rows(tolerance)[rows] = bounds.y, bounds.tolerance(h_error)
            if floor is not None:
                _rows(floor)[rows] = bounds.floor()
    if own.error is not None:
        tolerance += own.error[..., part]
    hide_padding(config, values, tolerance, floor)
    if floor is None:
        return [ExpectedArray(values, tolerance)]

    def equation(index: Index) -> ElementEquation:
        return steps.equation(below.values[index[:2]], previous[index[:2]], index[2])

    return [ExpectedArray(values, tolerance, floor, equation)]


def hide_padding(config: RNNConfig, values: Floats, tolerance: Floats, floor: Floats | None) -> None:
    """Clear padding, in place, where nothing is expected."""
    there = visited(config)
    if there is None:
        return
    hidden = np.broadcast_to(~there, values.shape)
    values[hidden] = tolerance[hidden] = 0.0
    if floor is not None:
        floor[hidden] = np.inf


def _blocks(operands: Sequence[Floats | None]) -> Iterator[slice]:
    """Return slices that take the rows of operands a few at a time."""
    arrays = [array for array in operands if array is not None]
    at_once = max(1, BLOCK // max(array.shape[1] for array in arrays))
    return (slice(start, start + at_once) for start in range(0, len(arrays[0]), at_once))


def _rows(array: Floats) -> Floats:
    return array.reshape(-1, array.shape[-1])


def at_step(expected: ExpectedArray, steps: TimeIndex) -> ExpectedArray:
    """Return one time step of (T, N, H): the same for every sequence, or one for each."""
    equation = expected.equation
    floor = None if expected.floor is None else at_steps(expected.floor, steps)

    def at_t(index: Index) -> ElementEquation:
        assert equation is not None
        return equation((steps if isinstance(steps, int) else int(steps[index[0]]), *index))

    values, tolerance = (at_steps(array, steps) for array in (expected.values, expected.tolerance))
    return ExpectedArray(values, tolerance, floor, None if equation is None else at_t)


def _assemble(setting: Setting, output: ExpectedArray, final: Finals, read: BoundedArray) -> dict[str, ExpectedArray]:
    """Return every array in the caller's layout; the readout is taken of ``read``."""
    config = setting.case.config
    arrays = {"output": laid_out(config, output)}
    for i, name in enumerate(config.form.final):
        arrays[name] = stacked([final[at][i] for at in h_n_order(config)])
    if config.output_size is not None:
        arrays["readout"] = laid_out(config, _readout(setting, read))
    return arrays


def _readout(setting: Setting, read: BoundedArray) -> ExpectedArray:
    reference, case, arithmetic = setting
    weight, bias = readout_weights(case)
    with np.errstate(over="ignore", invalid="ignore"):
        y = reference.readout(read.values, weight, bias)
    tolerance, magnitude = linear_tolerance(read.values, weight, bias, arithmetic, x_error=read.error)
    if case.config.lengths is not None:
        hide_padding(case.config, y, tolerance, None)
    if read.error is not None or not arithmetic.modelled:
        return ExpectedArray(y, tolerance)

    def equation(index: Index) -> ElementEquation:
        a = np.concatenate([read.values[index[:2]], [1.0]])
        return ElementEquation(a, np.concatenate([weight[index[2]], bias[index[2] : index[2] + 1]]))

    with np.errstate(over="ignore", invalid="ignore"):
        return ExpectedArray(y, tolerance, soft_floor(y, y, magnitude, "identity", arithmetic), equation)
