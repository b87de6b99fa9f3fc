"""tangent_expectation: the expected value and the allowance of a correct subject's directional derivatives.

The tangent of a step is linear in all that goes into it, and is taken at the subject's own states, like its gradients.
ds_t = W_ih dx_t + dW_ih x_t + W_hh dh_{t-1} + dW_hh h_{t-1} + db_ih + db_hh is a sum of 2 (I + H) + 2 products, and
dh_t = phi'(h_t) ds_t. Both are bounded as ``sums`` says. One operand of each product is a state or its tangent, which a
subject that computes more precisely has rounded when it returned it. The other operand is the caller's own.

Local and running. Where the tangents of every layer were observed, each step starts from the subject's own previous
one, and the allowance stays a few roundings wide. Otherwise errors are carried along: e_ds_t = ... + |W_hh| e_dh_{t-1}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.oracle.bound import np
from harness.oracle.expectation import Expected, Setting, at_step, joined, laid_out, shifted, stacked
from harness.oracle.known import Floats, Known
from harness.oracle.sums import Matrix, Slopes, Sum, slopes_at, through_slope
from harness.oracle.unroll import Place, State, through_layers
from harness.space.case import Case


def expect_tangents(
    setting: Setting, along: Case, states: Sequence[Known], observed: Sequence[Floats] | None = None
) -> list[dict[str, Expected]]:
    """Return the expected ``output.tangent`` of every layer; the last dict has the whole stack's ``h_n.tangent``, too.

    ``along`` holds the tangents of the case's inputs and parameters in their places. ``states[l]`` is the output of
    layer l, and ``observed[l]`` its tangent. Both are the subject's own, (T, N, D*H), time first.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _Forward(setting, along, states, observed).run()


class _Below(NamedTuple):
    """The input of a layer, and its tangent."""

    values: Known
    tangent: Known


class _Forward:
    """One pass of tangents, from x through the layers up to the output."""

    def __init__(
        self, setting: Setting, along: Case, states: Sequence[Known], observed: Sequence[Floats] | None
    ) -> None:
        self._setting, self._along, self._states, self._observed = setting, along, states, observed
        self._reference, self._case, self._arithmetic = setting.elman, setting.case, setting.arithmetic
        self._config = setting.case.config
        self._sharp = self._arithmetic.modelled

    def run(self) -> list[dict[str, Expected]]:
        config, reference = self._config, self._reference
        final: dict[Place, Expected] = {}

        def layer_tangents(layer: int, below: Sequence[_Below], _tangents: Sequence[Expected]) -> Expected:
            parts = [self._direction((layer, d), below[-1]) for d in range(config.num_directions)]
            for d, part in enumerate(parts):
                final[layer, d] = at_step(part, reference.final_step(config, d))
            return joined(reference, config, parts)

        def passed(layer: int, tangents: Sequence[Expected]) -> _Below:
            if self._observed is not None:
                return _Below(self._states[layer], Known(self._observed[layer]))
            return _Below(self._states[layer], Known(tangents[-1].values, tangents[-1].allowance))

        x, dx = (Known(reference.time_major(case.x, config)) for case in (self._case, self._along))
        tangents = through_layers(len(self._states), _Below(x, dx), layer_tangents, passed)
        found = [{"output.tangent": laid_out(reference, config, one)} for one in tangents]
        found[-1]["h_n.tangent"] = stacked([final[key] for key in reference.h_n_order(config)])
        return found

    def _direction(self, at: Place, below: _Below) -> Expected:
        """Return the tangents (T, N, H) of a direction: all steps at once where they were observed, else one by one."""
        config, reference, (layer, d) = self._config, self._reference, at
        x, dx = below
        w, dw = reference.step_weights(self._case, layer, d), reference.step_weights(self._along, layer, d)
        part = reference.features(config, d)
        own = self._states[layer].map(lambda a: a[..., part])
        error = None if own.error is None else shifted(reference, config, d, own.error)
        previous = Known(reference.previous_states(self._case, layer, d, own.values), error)
        ds = Sum(self._arithmetic, 0, 0, soft=self._sharp).product(dx, Matrix.of(w.ih.T))
        ds.product(x, Matrix.of(dw.ih.T)).product(previous, Matrix.of(dw.hh.T))
        for bias in (dw.b_ih, dw.b_hh):
            ds.plain(Known(np.broadcast_to(bias, own.values.shape)))
        slopes, matrix = slopes_at(self._setting, at, own, x.values), Matrix.of(w.hh.T)
        if self._observed is not None:
            carried = reference.previous_states(self._along, layer, d, self._observed[layer][..., part])
            whole = ds.product(Known(carried), matrix).expected()
            exact = (own.values, reference.nonlinearity(config, layer)) if own.error is None else None
            return through_slope(whole, slopes, self._arithmetic, exact)
        found = Expected(np.empty(own.values.shape), np.empty(own.values.shape))

        def step(t: int, held: State) -> State:
            of_step = ds.at(t).product(Known(*held), matrix).bounded()
            dh = through_slope(of_step, Slopes(*(a[t] for a in slopes)), self._arithmetic)
            return dh.values, dh.allowance

        start = reference.initial_state(self._along, layer, d)
        written = found.values, found.allowance
        reference.along_time(config, d, (start, np.zeros(start.shape)), step, written, visited=None)
        return found
