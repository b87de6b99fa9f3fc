"""gradient_expectation: the expected value and the allowance of each element of a correct subject's gradients.

The equations are linearised at the subject's own states: the slope of a step is that of the state which the subject
returned. So neither chaos nor the kink of relu enters.

Sums. dh_t = g_t + W_hh^T da_{t+1} + (from the layer above) sum_d W_ih^T da_t is a sum of products, and so is every
gradient but da_t itself (see ``sums``). A parameter's gradient may be summed up from one such product a time step.

Slopes. da_t = dh_t phi' is bounded as ``sums`` says.

Local and running. Where da_t itself was observed (see ``probes``), each step starts from it, and the allowance stays a
few roundings wide. Where only sums of da_t were observed, its error is carried along:
e_dh_t = ... + |W_hh|^T e_da_{t+1}.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from harness.oracle.bound import np
from harness.oracle.cell import StepWeights
from harness.oracle.expectation import (
    DROPOUT_ROUNDINGS,
    between,
    end_to_end_states,
    expect_end_to_end,
    joined,
    laid_out,
    shifted,
    stacked,
    walk,
)
from harness.oracle.expected import Expected, Setting
from harness.oracle.gated import Gated
from harness.oracle.known import Floats, Known, at_steps, write_steps
from harness.oracle.reference import Reference
from harness.oracle.sums import (
    Matrix,
    Slopes,
    Sum,
    flattened,
    single_column,
    slopes_at,
    through_slope,
    through_slope_growth,
)
from harness.oracle.tolerance import loosened
from harness.oracle.unroll import Place, State, Unroll, readout_weights
from harness.space.config import weight_names


class Gradients(NamedTuple):
    """The expected gradients."""

    arrays: dict[str, Expected]  # The gradients by the names of ``config.gradients``
    preactivations: list[Expected]  # The da of every layer, (T, N, D*H), time first


def expect_gradients(setting: Setting, states: Sequence[Known], observed: Sequence[Floats] | None = None) -> Gradients:
    """Return the expected gradients, given the subject's own states.

    ``observed`` holds the subject's own da of every layer, where that is known.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _Backward(setting, states, observed).run()


def expect_whole_run(setting: Setting) -> dict[str, Expected]:
    """Return the expected outputs of a case, and with a loss its gradients, computed without the subject's states."""
    states = end_to_end_states(setting)
    expected = expect_end_to_end(setting, states)
    return expected if setting.case.config.loss is None else expected | expect_gradients(setting, states).arrays


class _Backward:
    """One backward pass, from the loss through the layers down to x."""

    def __init__(self, setting: Setting, states: Sequence[Known], observed: Sequence[Floats] | None) -> None:
        if setting.arithmetic.backend.grids is not None:
            raise NotImplementedError("gradients through a grid have no allowance yet")
        self._setting = setting
        self._case, self._arithmetic = setting.case, setting.arithmetic
        self._config, self._states, self._observed = setting.case.config, states, observed
        self._final = setting.reference.final_gradients(setting.case)
        self._sharp = setting.arithmetic.modelled
        """True if the soft model applies to this arithmetic."""
        self._found: dict[str, Expected] = {}
        self._rows: dict[Place, list[Expected]] = {}

    def run(self) -> Gradients:
        config, reference = self._config, self._reference
        inner: list[Expected] = []
        sources = [self._from_loss()]
        for layer in reversed(range(config.num_layers)):
            given = [self._dropped(layer, sources, reference.features(config, d)) for d in range(config.num_directions)]
            if isinstance(reference, Gated):
                sources = [self._through_gates(reference, (layer, d), sums) for d, sums in enumerate(given)]
                continue
            expected = [self._back_through((layer, d), sums) for d, sums in enumerate(given)]
            inner.insert(0, joined(reference, config, expected))
            sources = [self._through_layer((layer, d), da) for d, da in enumerate(expected)]
        x = self._sum_of(sources, slice(None)).expected()
        self._found["x.grad"] = laid_out(reference, config, x)
        for i, name in enumerate(config.form.hidden):
            self._found[f"{name}.grad"] = stacked([self._rows[key][i] for key in sorted(self._rows)])
        return Gradients({name: self._returned(name, self._found[name]) for name in config.gradients}, inner)

    def _returned(self, name: str, expected: Expected) -> Expected:
        """Return a gradient in the form in which the caller gets it.

        It is unchanged, except in a fault that makes something else of it, monotonically.
        """

        def change(array: Floats) -> Floats:
            return self._reference.returned_gradient(self._config, name, array)

        values = change(expected.values)
        if values is expected.values:
            return expected
        ends = [change(expected.values - expected.allowance), change(expected.values + expected.allowance)]
        allowance = np.maximum(*(np.abs(end - values) for end in ends))
        allowance[np.isnan(allowance)] = np.inf
        return Expected(values, allowance)

    def _from_loss(self) -> tuple[Known, Floats | None]:
        """Return what reaches the top layer's output, and through which matrix: the readout's, where there is one."""
        reference, case = self._reference, self._case
        if self._config.output_size is None:
            return Known(reference.output_gradient(case)), None
        weight, _ = readout_weights(case)
        g = np.zeros((self._config.T, self._config.N, weight.shape[0]))
        if "readout.grad" in case.cotangents:
            g = reference.readout_gradient(case)
        over_rows = Known(flattened(g).T)
        read = self._states[-1].map(partial(reference.readout_input, self._config))
        of_weight = self._sum(rounded=1).product(over_rows, Matrix.of(*read.map(flattened)))
        of_bias = self._sum().product(over_rows, Matrix.of(np.ones((over_rows.values.shape[1], 1))))
        self._found["readout.weight.grad"] = of_weight.expected()
        self._found["readout.bias.grad"] = single_column(of_bias.expected())
        return Known(g), weight

    @property
    def _reference(self) -> Unroll:
        return self._setting.reference

    @property
    def _elman(self) -> Reference:
        return self._setting.elman

    def _through_gates(self, reference: Gated, at: Place, given: Sum) -> tuple[Known, Floats]:
        """Record the gradients of a direction of a cell with gates; return what goes to the layer below."""
        config, (layer, d) = self._config, at
        final = np.zeros((config.T, config.N, config.hidden_size))
        write_steps(final, reference.final_step_back(config, d), self._final[at])
        below = [self._below(one) for one in range(layer + 1)]
        steps = walk(self._setting, at, below, self._states)
        back = reference.go_back(
            self._case, at, self._arithmetic, steps, given.plain(Known(final)), visited=reference.visited(config)
        )
        self._record_weights(at, (back.ih, back.hh, back.ih, back.hh), steps.before[0])
        self._rows[at] = [self._loosened(one) for one in back.start]
        return back.ih, reference.step_weights(self._case, layer, d).ih

    def _loosened(self, ball: Known) -> Expected:
        assert ball.error is not None
        return Expected(ball.values, loosened(ball.error, ball.values, self._arithmetic))

    def _record_weights(self, at: Place, rows: Sequence[Known], previous: Known) -> None:
        """Record the gradients of a direction's parameters, each the sum of products of its rows (T, N, G*H)."""
        config, ones = self._config, Known(np.ones((self._config.T, self._config.N, 1)))
        beside = (self._below(at[0]), previous, ones, ones)
        for i, name in enumerate(weight_names(*at, bias=config.bias)):
            of = rows[i].map(lambda a: flattened(a).T)
            summed = self._sum(config.T, rounded=1).product(of, Matrix.of(*beside[i].map(flattened))).expected()
            self._found[f"{name}.grad"] = single_column(summed) if name.startswith("bias") else summed

    def _back_through(self, at: Place, given: Sum) -> Expected:
        """Return da (T, N, H) of a direction: all steps at once where it was observed, else one after the other."""
        config, reference, (layer, d) = self._config, self._elman, at
        back = self._weights_back(layer, d)
        own, steps = self._own(layer, d), list(reference.time_order(config, d))
        g_final = np.zeros((config.T, config.N, config.hidden_size))
        write_steps(g_final, reference.final_step_back(config, d), self._final[layer, d])
        given.plain(Known(g_final))
        if self._observed is not None:
            da = self._seen(layer, d)
            later = np.zeros_like(da)
            for step, (t, following) in enumerate(pairwise(steps), start=1):
                if reference.flows_back(config, step):
                    later[t] = da[following]
            whole = given.product(Known(later), Matrix.of(back.hh)).expected()
            return self._stopped(self._through_slope(whole, at, own), d, steps)
        return self._stopped(self._carried_back(at, given), d, steps)

    def _carried_back(self, at: Place, given: Sum) -> Expected:
        """Return da of a direction, one step after the other, with the error of each carried on to the next.

        A step's allowance is affine in what the next step carries to it, a_t + b_t |W_hh|^T e_{t+1}, up to where
        something may overflow. So everything but the two recurrences is computed for all steps at once.
        """
        config, reference, (layer, d) = self._config, self._reference, at
        matrix, slopes = Matrix.of(self._weights_back(layer, d).hh), self._slopes(at, self._own(layer, d))
        visited = reference.visited(config)
        dh = np.broadcast_to(given.values, slopes.slope.shape)
        values, later = np.empty_like(slopes.slope), np.zeros_like(slopes.slope)

        def step(t: int, following: State | None) -> State:
            if following is None:
                return (dh[t] * slopes.slope[t],)
            later[t] = following[0]
            return ((dh[t] + later[t] @ matrix.values) * slopes.slope[t],)

        reference.back_along_time(config, d, step, (values,), visited=visited)
        alone = through_slope(given.bounded(), slopes, self._arithmetic).allowance
        if config.T == 1:
            return Expected(values, alone)  # the caller clears the padding in it
        sums = given.product(Known(later), matrix).bounded()
        uncarried = through_slope(sums, slopes, self._arithmetic).allowance
        growth, limit = through_slope_growth(given.growth(), sums, slopes, self._arithmetic)
        allowance = np.empty(values.shape)

        def bound(t: int, following: State | None) -> State:
            if following is None:
                return (alone[t],)
            carried = following[0] @ matrix.size
            return (np.where(carried < limit[t], uncarried[t] + growth[t] * carried, np.inf),)

        reference.back_along_time(config, d, bound, (allowance,), visited=visited)
        return Expected(values, allowance)

    def _stopped(self, expected: Expected, d: int, steps: Sequence[int]) -> Expected:
        """Clear padding, and the steps that a fault does not reach on its way back."""
        visited = self._reference.visited(self._config)
        if visited is not None:
            hidden = np.broadcast_to(~visited, expected.values.shape)
            expected.values[hidden] = expected.allowance[hidden] = 0.0
            if expected.floor is not None:
                expected.floor[hidden] = np.inf
        for step, t in enumerate(steps):
            if not self._reference.reaches(self._config, d, step):
                expected.values[t] = expected.allowance[t] = 0.0
        return expected

    def _slopes(self, at: Place, state: Known) -> Slopes:
        return slopes_at(self._setting, at, state, self._below(at[0]).values)

    def _weights_back(self, layer: int, d: int) -> StepWeights:
        reference = self._elman
        return reference.weights_back((layer, d), reference.step_weights(self._case, layer, d))

    def _below(self, layer: int) -> Known:
        """Return what a layer reads."""
        if not layer:
            return Known(self._reference.time_major(self._case.x, self._config))
        return between(self._setting, layer - 1, self._states)

    def _through_slope(self, dh: Expected, at: Place, state: Known) -> Expected:
        local = state.error is None and self._observed is not None
        kind = self._reference.nonlinearity(self._config, at[0])
        return through_slope(dh, self._slopes(at, state), self._arithmetic, (state.values, kind) if local else None)

    def _through_layer(self, at: Place, expected: Expected) -> tuple[Known, Floats]:
        """Record the gradients of a direction's parameters and initial state; return what goes to the layer below."""
        config, reference, (layer, d) = self._config, self._elman, at
        back = self._weights_back(layer, d)
        da = Known(expected.values, expected.allowance) if self._observed is None else Known(self._seen(layer, d))
        own = self._own(layer, d)
        previous = Known(
            reference.previous_states(self._case, layer, d, own.values, [state.values for state in self._states]),
            None if own.error is None else shifted(reference, config, d, own.error),
        )
        before = reference.remembered(config, d, previous.values, own.values)
        if before is not previous.values:
            errors = None
            if previous.error is not None and own.error is not None:
                errors = reference.remembered(config, d, previous.error, own.error)
            previous = Known(before, errors)
        self._record_weights(at, [da.map(partial(reference.entering, config, d, i)) for i in range(4)], previous)
        first = reference.first_step(config, d)
        to_start = Matrix.of(reference.weight_to_start(back))
        self._rows[at] = [self._sum().product(da.map(partial(at_steps, steps=first)), to_start).expected()]
        return da, back.ih

    def _dropped(self, layer: int, sources: Sequence[tuple[Known, Floats | None]], part: slice) -> Sum:
        """Return the sum of the gradients that reach some features of a layer's output.

        Below another layer, they come through its dropout, where there is some.
        """
        total = self._sum_of(sources, part)
        factors = None if layer == self._config.num_layers - 1 else self._reference.factors_back(self._case, layer)
        if factors is None:
            return total
        return total.scaled(partial(self._reference.dropped, factors=factors[..., part]), DROPOUT_ROUNDINGS)

    def _sum_of(self, sources: Sequence[tuple[Known, Floats | None]], part: slice) -> Sum:
        """Return the sum of the gradients that reach some features of a layer's output (or of x), still open."""
        total = self._sum()
        for known, matrix in sources:
            if matrix is None:
                total.plain(known.map(lambda a: a[..., part]))
            else:
                total.product(known, Matrix.of(matrix[:, part]))
        return total

    def _sum(self, stored: int = 0, rounded: int = 0) -> Sum:
        return Sum(self._arithmetic, stored, rounded, soft=self._sharp)

    def _own(self, layer: int, d: int) -> Known:
        part = self._reference.features(self._config, d)
        return self._states[layer].map(lambda a: a[..., part])

    def _seen(self, layer: int, d: int) -> Floats:
        assert self._observed is not None
        return self._observed[layer][..., self._reference.features(self._config, d)]
