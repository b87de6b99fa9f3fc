"""gradient_expectation: the expected value and the tolerance of each element of a correct subject's gradients.

The equations are linearised at the subject's own states: the slope of a step is that of the state which the subject
returned. So neither chaos nor the kink of relu enters.

Sums. dh_t = g_t + W_hh^T da_{t+1} + (from the layer above) sum_d W_ih^T da_t is a sum of products, and so is every
gradient but da_t itself (see ``sums``). A parameter's gradient may be summed up from one such product a time step.

Slopes. da_t = dh_t phi' is bounded as ``slopes`` says.

Local and running. Where da_t itself was observed (see ``probe_units``), each step starts from it, and the tolerance
stays a few roundings wide. Where only sums of da_t were observed, its error is carried along:
e_dh_t = ... + |W_hh|^T e_da_{t+1}.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from harness.oracle.array_layout import Place, features, first_step, h_n_order, time_major, time_order
from harness.oracle.balls import BallArithmetic
from harness.oracle.bounded_array import BoundedArray, Floats, at_steps
from harness.oracle.expectation import (
    DROPOUT_ROUNDINGS,
    end_to_end_states,
    expect_end_to_end,
    hide_padding,
    inputs,
    joined,
    laid_out,
    previous_known,
    stacked,
    walk,
)
from harness.oracle.expected import ExpectedArray
from harness.oracle.gated import GatedCell
from harness.oracle.pinned_numpy import np
from harness.oracle.setting import Setting
from harness.oracle.slopes import Slopes, slopes_at, through_slope, through_slope_growth
from harness.oracle.sums import Matrix, Sum, flattened, last_column, without_last_column
from harness.oracle.tolerance import loosened
from harness.oracle.unroll import (
    State,
    back_along_time,
    factors_of,
    final_gradient,
    names_at,
    output_gradient,
    readout_weights,
    step_weights,
)
from harness.space.config import PARAMETERS, PROJECTION, role_of


class ExpectedGradients(NamedTuple):
    """The expected gradients."""

    arrays: dict[str, ExpectedArray]  # The gradients by the names of ``config.gradients``
    preactivations: list[ExpectedArray]  # The da of every layer, (T, N, D*H), time first


def expect_gradients(
    setting: Setting, states: Sequence[BoundedArray], observed: Sequence[Floats] | None = None
) -> ExpectedGradients:
    """Return the expected gradients, given the subject's own states.

    ``observed`` holds the subject's own da of every layer, where that is known.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _Backward(setting, states, observed).run()


def expect_whole_run(setting: Setting) -> dict[str, ExpectedArray]:
    """Return the expected outputs of a case, and with a loss its gradients, computed without the subject's states."""
    states = end_to_end_states(setting)
    expected = expect_end_to_end(setting, states)
    return expected if setting.case.config.loss is None else expected | expect_gradients(setting, states).arrays


class _Backward:
    """One backward pass, from the loss through the layers down to x."""

    def __init__(self, setting: Setting, states: Sequence[BoundedArray], observed: Sequence[Floats] | None) -> None:
        if setting.arithmetic.backend.grids is not None:
            raise NotImplementedError("gradients through a grid have no tolerance yet")
        self._setting = setting
        self._case, self._arithmetic = setting.case, setting.arithmetic
        self._config, self._states, self._observed = setting.case.config, states, observed
        self._inputs = inputs(setting, states)
        self._sharp = setting.arithmetic.modelled
        """True if the soft model applies to this arithmetic."""
        self._gradients: dict[str, ExpectedArray] = {}
        self._rows: dict[Place, list[ExpectedArray]] = {}

    def run(self) -> ExpectedGradients:
        config, reference = self._config, self._setting.reference
        inner: list[ExpectedArray] = []
        sources = [self._from_loss()]
        for layer in reversed(range(config.num_layers)):
            incoming = [self._dropped(layer, sources, features(config, d)) for d in range(config.num_directions)]
            if isinstance(reference, GatedCell):
                sources = [self._through_gates(reference, (layer, d), sums) for d, sums in enumerate(incoming)]
                continue
            expected = [self._back_through((layer, d), sums) for d, sums in enumerate(incoming)]
            inner.insert(0, joined(config, expected))
            sources = [self._through_layer((layer, d), da) for d, da in enumerate(expected)]
        x = self._sum_of(sources, slice(None)).expected()
        self._gradients["x.grad"] = laid_out(config, x)
        for i, name in enumerate(config.form.hidden):
            self._gradients[f"{name}.grad"] = stacked([self._rows[at][i] for at in h_n_order(config)])
        return ExpectedGradients(
            {name: self._returned(name, self._gradients[name]) for name in config.gradients}, inner
        )

    def _returned(self, name: str, expected: ExpectedArray) -> ExpectedArray:
        """Return a gradient as the caller gets it: unchanged, but for a known issue that makes NaN of some of it."""

        def change(array: Floats) -> Floats:
            return self._setting.reference.returned_gradient(self._config, name, array)

        values = change(expected.values)
        if values is expected.values:
            return expected
        ends = [change(expected.values - expected.tolerance), change(expected.values + expected.tolerance)]
        tolerance = np.maximum(*(np.abs(end - values) for end in ends))
        tolerance[np.isnan(tolerance)] = np.inf
        return ExpectedArray(values, tolerance)

    def _from_loss(self) -> tuple[BoundedArray, Floats | None]:
        """Return what reaches the top layer's output, and through which matrix: the readout's, where there is one."""
        case = self._case
        if self._config.output_size is None:
            return BoundedArray(output_gradient(case)), None
        weight, _ = readout_weights(case)
        g = np.zeros((self._config.T, self._config.N, weight.shape[0]))
        if "readout.grad" in case.cotangents:
            g = time_major(case.cotangents["readout.grad"], self._config)
        over_rows = BoundedArray(flattened(g).T)
        of_weight = self._sum(rounded=1).product(over_rows, Matrix.of(*self._states[-1].map(flattened)))
        of_bias = self._sum().product(over_rows, Matrix.of(np.ones((over_rows.values.shape[1], 1))))
        self._gradients["readout.weight.grad"] = of_weight.expected()
        self._gradients["readout.bias.grad"] = last_column(of_bias.expected())
        return BoundedArray(g), weight

    def _through_gates(self, reference: GatedCell, at: Place, incoming: Sum) -> tuple[BoundedArray, Floats]:
        """Record the gradients of a direction of a cell with gates; return what goes to the layer below."""
        steps = walk(self._setting, at, self._inputs[at[0]], self._states[at[0]])
        incoming.plain(BoundedArray(final_gradient(self._case, at)))
        back = reference.go_back(self._case, at, self._arithmetic, steps, incoming)
        operands = reference.operands(BallArithmetic(self._arithmetic), steps)
        self._record_weights(at, back.ih, back.hh, operands, (back.h, steps.inner))
        self._rows[at] = [self._loosened(ball) for ball in back.start]
        return back.ih, step_weights(self._case, at).ih

    def _loosened(self, ball: BoundedArray) -> ExpectedArray:
        assert ball.error is not None
        return ExpectedArray(ball.values, loosened(ball.error, ball.values, self._arithmetic))

    def _record_weights(
        self,
        at: Place,
        ih: BoundedArray,
        hh: BoundedArray,
        previous: Sequence[BoundedArray],
        projected: tuple[BoundedArray, BoundedArray] | None = None,
    ) -> None:
        """Record the gradients of a direction's parameters, given those by the sums that they are in (T, N, G*H).

        ``previous`` is what W_hh multiplies, or what each gate's rows of it do. ``projected`` holds the gradient by h,
        and what W_hr projects to it.
        """
        sides = self._by_rows(ih, [self._inputs[at[0]]]), self._by_rows(hh, previous)
        gradients = [change(side) for change in (without_last_column, last_column) for side in sides]
        gradients += [] if projected is None else [without_last_column(self._by_rows(projected[0], projected[1:]))]
        by_role = dict(zip((*PARAMETERS, PROJECTION), gradients, strict=False))
        self._gradients |= {f"{name}.grad": by_role[role_of(name)] for name in names_at(self._config, at)}

    def _by_rows(self, gradients: BoundedArray, several: Sequence[BoundedArray]) -> ExpectedArray:
        """Return the gradients of a weight and of its bias (G*H, K + 1), given those by their sums (T, N, G*H).

        All rows of the weight multiply the same operand (T, N, K), or each block of H rows its own.
        """
        rows = gradients.map(lambda array: flattened(array).T)
        H = len(rows.values) // len(several)
        sums = [
            self._sum(self._config.T, rounded=1)
            .product(rows.map(partial(_rows, first=k * H, last=(k + 1) * H)), Matrix.with_ones(*operand.map(flattened)))
            .expected()
            for k, operand in enumerate(several)
        ]
        if len(sums) == 1:
            return sums[0]
        return ExpectedArray(
            np.concatenate([part.values for part in sums]), np.concatenate([part.tolerance for part in sums])
        )

    def _back_through(self, at: Place, incoming: Sum) -> ExpectedArray:
        """Return da (T, N, H) of a direction: all steps at once where it was observed, else one after the other."""
        config, own = self._config, self._own(at)
        incoming.plain(BoundedArray(final_gradient(self._case, at)))
        if self._observed is None:
            return self._without_padding(self._carried_back(at, incoming))
        order = list(time_order(config, at[1]))
        da, later = self._da(at), np.zeros(own.values.shape)
        later[order[:-1]] = da[order[1:]]
        dh = incoming.product(BoundedArray(later), Matrix.of(step_weights(self._case, at).hh)).expected()
        exact = (own.values, config.nonlinearity) if own.error is None else None
        return self._without_padding(through_slope(dh, self._slopes(at), self._arithmetic, exact))

    def _carried_back(self, at: Place, incoming: Sum) -> ExpectedArray:
        """Return da of a direction, one step after the other, with the error of each carried on to the next.

        A step's tolerance is affine in what the next step carries to it, a_t + b_t |W_hh|^T e_{t+1}, up to where
        something may overflow. So everything but the two recurrences is computed for all steps at once.
        """
        config, matrix, slopes = self._config, Matrix.of(step_weights(self._case, at).hh), self._slopes(at)
        dh = np.broadcast_to(incoming.values, slopes.slope.shape)
        values, later = np.empty_like(slopes.slope), np.zeros_like(slopes.slope)

        def step(t: int, following: State | None) -> State:
            if following is None:
                return (dh[t] * slopes.slope[t],)
            later[t] = following[0]
            return ((dh[t] + later[t] @ matrix.values) * slopes.slope[t],)

        back_along_time(config, at[1], step, (values,))
        alone = through_slope(incoming.bounded(), slopes, self._arithmetic).tolerance
        if config.T == 1:
            return ExpectedArray(values, alone)  # the caller clears the padding in it
        sums = incoming.product(BoundedArray(later), matrix).bounded()
        uncarried = through_slope(sums, slopes, self._arithmetic).tolerance
        growth, limit = through_slope_growth(incoming.growth(), sums, slopes, self._arithmetic)
        tolerance = np.empty(values.shape)

        def bound(t: int, following: State | None) -> State:
            if following is None:
                return (alone[t],)
            carried = following[0] @ matrix.size
            return (np.where(carried < limit[t], uncarried[t] + growth[t] * carried, np.inf),)

        back_along_time(config, at[1], bound, (tolerance,))
        return ExpectedArray(values, tolerance)

    def _without_padding(self, expected: ExpectedArray) -> ExpectedArray:
        hide_padding(self._config, expected.values, expected.tolerance, expected.floor)
        return expected

    def _slopes(self, at: Place) -> Slopes:
        return slopes_at(self._setting, at, self._own(at), self._inputs[at[0]].values)

    def _through_layer(self, at: Place, expected: ExpectedArray) -> tuple[BoundedArray, Floats]:
        """Record the gradients of a direction's parameters and initial state; return what goes to the layer below."""
        w = step_weights(self._case, at)
        da = BoundedArray(expected.values, expected.tolerance) if self._observed is None else BoundedArray(self._da(at))
        self._record_weights(at, da, da, [previous_known(self._case, at, self._states[at[0]])])
        first = da.map(partial(at_steps, steps=first_step(self._config, at[1])))
        self._rows[at] = [self._sum().product(first, Matrix.of(w.hh)).expected()]
        return da, w.ih

    def _dropped(self, layer: int, sources: Sequence[tuple[BoundedArray, Floats | None]], part: slice) -> Sum:
        """Return the sum of the gradients that reach some features of a layer's output.

        Below another layer, they come through its dropout, where there is some.
        """
        total = self._sum_of(sources, part)
        factors = factors_of(self._case, layer)
        if factors is None:
            return total
        return total.scaled(partial(self._setting.reference.dropped, factors=factors[..., part]), DROPOUT_ROUNDINGS)

    def _sum_of(self, sources: Sequence[tuple[BoundedArray, Floats | None]], part: slice) -> Sum:
        """Return the sum of the gradients that reach some features of a layer's output (or of x), still open."""
        total = self._sum()
        for gradient, matrix in sources:
            if matrix is None:
                total.plain(gradient.map(lambda a: a[..., part]))
            else:
                total.product(gradient, Matrix.of(matrix[:, part]))
        return total

    def _sum(self, stored: int = 0, rounded: int = 0) -> Sum:
        return Sum(self._arithmetic, stored, rounded, soft=self._sharp)

    def _own(self, at: Place) -> BoundedArray:
        part = features(self._config, at[1])
        return self._states[at[0]].map(lambda a: a[..., part])

    def _da(self, at: Place) -> Floats:
        assert self._observed is not None
        return self._observed[at[0]][..., features(self._config, at[1])]


def _rows(array: Floats, first: int, last: int) -> Floats:
    return array[first:last]
