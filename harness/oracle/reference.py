"""reference: the Elman RNN of nn.RNN in NumPy float64: one step as its equation, how it moves, and the way back.

The equations are those of the ``torch.nn.RNN`` documentation page, and of J. L. Elman, "Finding Structure in Time",
Cognitive Science 14, 1990. nn.RNN has two biases a layer, which only add up, and are easily taken for one. The
gradients are backpropagation through time (P. J. Werbos, Proceedings of the IEEE 78(10), 1990), written out from the
same equations. ``unroll`` takes the step through time, directions and layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import ClassVar, NamedTuple

from harness.oracle.arithmetic import Arithmetic
from harness.oracle.bound import np
from harness.oracle.cell import Bounded, BoundedSteps, StepWeights
from harness.oracle.equation import Equation
from harness.oracle.known import Floats, Known, at_steps, write_steps
from harness.oracle.tolerance import Sizes, Step, StepBounds, error_growth, soft_floor
from harness.oracle.unroll import Back, Place, Read, State, Unroll, Visited
from harness.space.case import Case
from harness.space.config import RNNConfig


class Elman(Unroll):
    """The cell h_t = phi(s_t) with s_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh; phi is tanh or relu."""

    gates: ClassVar[tuple[str, ...]] = ("h",)

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        """Return s_t, for rows of x (.., I) and of the previous state h (.., H)."""
        return x @ w.ih.T + w.b_ih + h @ w.hh.T + w.b_hh

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        """Return h_t = tanh(s_t) or max(s_t, 0)."""
        return np.tanh(s) if nonlinearity == "tanh" else np.maximum(s, 0)

    def new_state(self, activated: Floats, h: Floats, w: StepWeights) -> Floats:
        """Return h_t, given phi(s_t), the state that the step read, and the parameters: phi(s_t) itself."""
        return activated

    def step(self, x: Floats, h: Floats, w: StepWeights, nonlinearity: str) -> Floats:
        """Return h_t, for rows of x (.., I) and of the previous state h (.., H)."""
        return self.new_state(self.activation(self.preactivation(x, h, w), nonlinearity), h, w)

    def slope(self, h: Floats, nonlinearity: str) -> Floats:
        """Return phi'(s_t), given the state h_t = phi(s_t).

        It is 1 - h_t**2 for tanh. For relu it is 1 where h_t > 0, else 0. It is 1 for any other phi, such as a fault's.
        """
        if nonlinearity == "tanh":
            return 1 - h * h
        return (h > 0).astype(np.float64) if nonlinearity == "relu" else np.ones_like(h)

    def unsettled(self, states: Floats, u: float) -> Floats | None:
        """Return how far apart a step may take two states that differ by a rounding u.

        ``None`` means no further than they are. A fault that rounds the states that a step reads may round such
        neighbours to different numbers.
        """
        return None

    def bounded_steps(self, w: StepWeights, kind: str, arithmetic: Arithmetic, *, first: bool) -> BoundedSteps:
        """Return the steps of one layer and direction, with the bounds of ``tolerance``."""
        return partial(_BoundedSteps, _Layer(self, w, kind, arithmetic, first, Sizes.of(*w, arithmetic.backend.grids)))

    def growth(self, w: StepWeights, arithmetic: Arithmetic) -> tuple[Floats, float]:
        """Return the most that the norm of a state's error may grow by, as ``tolerance`` derives it."""
        return error_growth(w.ih, w.hh, arithmetic)

    def equation(self, w: StepWeights, kind: str) -> Callable[[Floats, Floats, int], Equation]:
        """Return phi of the sum of a unit's products, its two halves as groups."""

        def of_unit(x: Floats, h: Floats, unit: int) -> Equation:
            a = np.concatenate([x, [1.0], h, [1.0]])
            b = np.concatenate([w.ih[unit], w.b_ih[unit : unit + 1], w.hh[unit], w.b_hh[unit : unit + 1]])
            return Equation(a, b, function=kind, groups=(x.size + 1, h.size + 1))

        return of_unit


class Reference(Elman):
    """The network of Elman cells, with its way back.

    da_t = dloss/ds_t follows from dh_t = g_t + W_hh^T da_{t+1} and da_t = dh_t phi'(s_t), where g_t comes from the
    layer above or from the loss. Every other gradient is a sum of products of some da_t with what stood beside it on
    the way forward.
    """

    def slopes(self, case: Case, at: Place, x: Floats, previous: Floats, own: Floats) -> Floats:
        """Return phi'(s_t) of a layer and direction (T, N, H), computed from its states ``own``.

        ``x`` and ``previous`` are all that its steps read; a fault may compute the slopes from these.
        """
        return self.slope(own, self.slope_of(case.config, at[0]))

    def slope_of(self, config: RNNConfig, layer: int) -> str:
        """Return the name of the phi whose slope a layer takes on the way back: the phi that it applies."""
        return self.nonlinearity(config, layer)

    def weights_back(self, at: Place, w: StepWeights) -> StepWeights:
        """Return the parameters that multiply da_t on its way back: W_ih^T da_t to x_t, W_hh^T da_t to h_{t-1}."""
        return w

    def weight_to_start(self, back: StepWeights) -> Floats:
        """Return the weight that multiplies the first step's da on its way to hx."""
        return back.hh

    def to_previous(self, da: Floats, dh: Floats, hh: Floats) -> Floats:
        """Return what a step gives back to the state that it read: W_hh^T da_t."""
        return da @ hh

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        """Return the part of da (T, N, H) that enters the gradient of a parameter: all of it.

        ``parameter`` is the parameter's place in ``StepWeights``.
        """
        return da

    def remembered(self, config: RNNConfig, direction: int, previous: Floats, own: Floats) -> Floats:
        """Return the states (T, N, H) that stand beside da in the gradient of W_hh: those that the steps read."""
        return previous

    def back_through(
        self, case: Case, at: Place, read: Read, given: tuple[Floats, Floats], *, visited: Visited | None
    ) -> Back:
        """Return the gradients of what one layer and direction read."""
        x, previous, own = read
        slopes = self.slopes(case, at, x, previous, own)
        da, g_start = self.back_direction(case, at, *given, slopes, visited=visited)
        beside = (x, self.remembered(case.config, at[1], previous, own))
        back = self.weights_back(at, self.step_weights(case, *at))
        of_weights = self.weight_gradients(case.config, at[1], da, beside)
        return Back(of_weights, da @ back.ih, g_start)

    def back_direction(
        self, case: Case, at: Place, g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
    ) -> tuple[Floats, Floats]:
        """Return da (T, N, H) of one layer and direction, and the gradient by its initial state (N, H).

        ``g`` is the gradient by its states (T, N, H). ``g_final`` is what its final state is given beyond that.
        """
        config, back = case.config, self.weights_back(at, self.step_weights(case, *at))
        given = np.zeros(slopes.shape)
        da, dh = np.empty_like(given), np.empty_like(given)
        reached = {t: self.reaches(config, at[1], k) for k, t in enumerate(self.time_order(config, at[1]))}
        write_steps(given, self.final_step_back(config, at[1]), g_final)

        def step(t: int, later: State | None) -> State:
            whole = (g[t] if later is None else g[t] + self.to_previous(later[0], later[1], back.hh)) + given[t]
            return (whole * slopes[t] if reached[t] else np.zeros_like(whole)), whole

        self.back_along_time(config, at[1], step, (da, dh), visited=visited)
        first = self.first_step(config, at[1])
        return da, self.to_previous(at_steps(da, first), at_steps(dh, first), self.weight_to_start(back))

    def weight_gradients(
        self, config: RNNConfig, direction: int, da: Floats, beside: tuple[Floats, Floats]
    ) -> StepWeights:
        """Return the gradients of the parameters of one layer and direction, given its da.

        ``beside`` holds the arrays that W_ih and W_hh multiply on the way forward.
        """
        rows = [self.entering(config, direction, i, da) for i in range(len(StepWeights._fields))]
        products = [np.einsum("tni,tnk->ik", of, factor) for of, factor in zip(rows, beside, strict=False)]
        return StepWeights(*products, *(of.sum((0, 1)) for of in rows[2:]))


class _Layer(NamedTuple):
    """The terms that all steps of one layer and direction share."""

    cell: Elman
    w: StepWeights
    kind: str
    arithmetic: Arithmetic
    first: bool  # True if x is the caller's own
    sizes: Sizes


class _BoundedSteps(Bounded):
    """Steps phi(s), with the bounds of ``tolerance``."""

    def __init__(self, layer: _Layer, x: Known, h: Floats) -> None:
        cell, self._layer, self._x, self._h = layer.cell, layer, x, h
        self._s = cell.preactivation(x.values, h, layer.w)
        self._activated = cell.activation(self._s, layer.kind)
        self.values = cell.new_state(self._activated, h, layer.w)

    @cached_property
    def _bounds(self) -> StepBounds:
        """The bounds of phi(s)."""
        _, w, kind, arithmetic, first, sizes = self._layer
        x, error = self._x
        return StepBounds.of(
            Step(x, self._h, *w),
            self._s,
            self._activated,
            kind,
            arithmetic,
            x_error=error if first else self._unsettled(x, error),
            x_given=first,
            sizes=sizes,
        )

    def allowance(self, h_error: Floats | None = None, *, t: int | None = None) -> Floats:
        bounds, h, y = self._bounds, self._h, self.values
        if t is not None:
            bounds, h, y = bounds.at(t), h[t], y[t]
        off = bounds.allowance(self._unsettled(h, h_error))
        return off if self.values is self._activated else self._of_new_state(y, off, bounds, h, h_error)

    def floor(self) -> Floats:
        bounds = self._bounds
        return soft_floor(self._s, self.values, bounds.magnitude, bounds.nonlinearity, bounds.arithmetic)

    def _unsettled(self, read: Floats, error: Floats | None) -> Floats | None:
        """Return how far off what a step makes of a state may be, the state's own error included."""
        apart = self._layer.cell.unsettled(read, self._layer.arithmetic.format.u)
        if apart is None or error is None:
            return error if apart is None else apart
        return apart + error

    def _of_new_state(self, y: Floats, off: Floats, bounds: StepBounds, h: Floats, h_error: Floats | None) -> Floats:
        """Return the allowance of what a fault makes of phi(s), which may be ``off`` by so much.

        The fault adds something to phi(s) or rounds it, and its result never falls as phi(s) rises. So the two ends of
        the allowance of phi(s) bound all that lies between.
        """
        cell, w, u, activated = self._layer.cell, self._layer.w, self._layer.arithmetic.format.u, bounds.y
        ends = [cell.new_state(activated + by, h, w) for by in (-off, off)]
        allowance = np.maximum(*(np.abs(end - y) for end in ends))
        allowance = allowance + 4 * u * (bounds.magnitude + np.abs(activated) + np.abs(h))
        allowance[np.isnan(allowance)] = np.inf
        return np.asarray(allowance if h_error is None else allowance + h_error)
