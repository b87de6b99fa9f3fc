"""reference: the Elman RNN of nn.RNN in NumPy float64: one step as its equation, the way back, and a step's bounds.

The equations are those of the ``torch.nn.RNN`` documentation page, and of J. L. Elman, "Finding Structure in Time",
Cognitive Science 14, 1990. nn.RNN has two biases a layer, which only add up, and are easily taken for one. The
gradients are backpropagation through time (P. J. Werbos, Proceedings of the IEEE 78(10), 1990), written out from the
same equations. ``unroll`` takes the step through time, directions and layers.
"""

from __future__ import annotations

from typing import NamedTuple

from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.array_layout import Place, first_step
from harness.oracle.bounded_array import BoundedArray, Floats, at_steps
from harness.oracle.element_equation import ElementEquation
from harness.oracle.pinned_numpy import np
from harness.oracle.tolerance import ParameterSizes, StepBounds, StepOperands
from harness.oracle.unroll import (
    LayerGradients,
    State,
    StepWeights,
    Unroll,
    back_along_time,
    previous_states,
    step_weights,
)
from harness.space.case import Case


class Reference(Unroll):
    """The network of cells h_t = phi(s_t) with s_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh; phi is tanh or relu.

    da_t = dloss/ds_t follows from dh_t = g_t + W_hh^T da_{t+1} and da_t = dh_t phi'(s_t), where g_t comes from the
    layer above or from the loss. Every other gradient is a sum of products of some da_t with what stood beside it on
    the way forward.
    """

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        """Return s_t, for rows of x (.., I) and of the previous state h (.., H)."""
        return x @ w.ih.T + w.b_ih + h @ w.hh.T + w.b_hh

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        """Return h_t = tanh(s_t) or max(s_t, 0)."""
        return np.tanh(s) if nonlinearity == "tanh" else np.maximum(s, 0)

    def step(self, x: Floats, held: State, w: StepWeights, kind: str) -> State:
        return (self.activation(self.preactivation(x, held[0], w), kind),)

    def back_through(
        self, case: Case, at: Place, x: Floats, own: Floats, incoming: tuple[Floats, Floats]
    ) -> LayerGradients:
        (g, final), config, w = incoming, case.config, step_weights(case, at)
        slopes, da = slope(own, config.nonlinearity), np.empty(own.shape)

        def step(t: int, later: State | None) -> State:
            dh = (g[t] if later is None else g[t] + later[0] @ w.hh) + final[t]
            return (dh * slopes[t],)

        back_along_time(config, at[1], step, (da,))
        of_ih, of_hh = (np.einsum("tni,tnk->ik", da, beside) for beside in (x, previous_states(case, at, own)))
        weights = StepWeights(of_ih, of_hh, da.sum((0, 1)), da.sum((0, 1)))
        return LayerGradients(weights, da @ w.ih, (at_steps(da, first_step(config, at[1])) @ w.hh,))


class BoundedSteps(NamedTuple):
    """The steps of one layer and direction, with the bounds of ``tolerance``."""

    reference: Reference
    w: StepWeights
    kind: str
    arithmetic: Arithmetic
    first: bool  # True if x is the caller's own
    sizes: ParameterSizes

    @classmethod
    def of(cls, reference: Reference, case: Case, at: Place, arithmetic: Arithmetic) -> BoundedSteps:
        """Return the steps of a layer and direction of a case."""
        w = step_weights(case, at)
        sizes = ParameterSizes.of(w.ih, w.hh, w.b_ih, w.b_hh, arithmetic.backend.grids)
        return cls(reference, w, case.config.nonlinearity, arithmetic, at[0] == 0, sizes)

    def values(self, x: Floats, h: Floats) -> Floats:
        """Return the states (.., H), for rows of x (.., I) and of the previous state h (.., H)."""
        [values] = self.reference.step(x, (h,), self.w, self.kind)
        return values

    def bounds(self, x: BoundedArray, h: Floats) -> StepBounds:
        """Return the same states with their bounds. Whoever asks has to expect overflow and NaN."""
        s = self.reference.preactivation(x.values, h, self.w)
        y, step = self.reference.activation(s, self.kind), StepOperands(x.values, h, *self.w[:4])
        return StepBounds.of(
            step, s, y, self.kind, self.arithmetic, x_error=x.error, x_given=self.first, sizes=self.sizes
        )

    def equation(self, x: Floats, h: Floats, unit: int) -> ElementEquation:
        """Return the exact equation of a unit at x (I) and h (H): phi of the sum of its products, in two groups."""
        w = self.w
        a = np.concatenate([x, [1.0], h, [1.0]])
        b = np.concatenate([w.ih[unit], w.b_ih[unit : unit + 1], w.hh[unit], w.b_hh[unit : unit + 1]])
        return ElementEquation(a, b, function=self.kind, groups=(x.size + 1, h.size + 1))


def slope(h: Floats, nonlinearity: str) -> Floats:
    """Return phi'(s_t), given the state h_t = phi(s_t): 1 - h_t**2 for tanh; for relu 1 where h_t > 0, else 0."""
    return 1 - h * h if nonlinearity == "tanh" else (h > 0).astype(np.float64)
