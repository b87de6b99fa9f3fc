"""gradient_expectation: what a correct subject's gradients may be, each element with its value and its allowance.

The equations are linearised at the subject's own states, so that neither chaos nor the kink of relu enters: the slope
of a step is that of the state which the subject returned.

Sums. dh_t = g_t + W_hh^T da_{t+1} + (from the layer above) sum_d W_ih^T da_t, and every gradient but da_t itself, are
sums of products, bounded as in ``tolerance``. What the subject stores in 16 bits on the way is at most each product and
each partial sum of them; a parameter's gradient may be summed up from one such product a time step.

Slopes. da_t = dh_t phi': with an error e of dh, e' of phi' and a relative r of the roundings (``slope_error``), at most
(phi' + e') e + |dh| e' + (|dh| + e) r. For tanh e' = 2 |h| e_h + e_h**2 where h is off by e_h. For relu phi' is exact,
unless e_h reaches over 0: then all of dh may or may not pass. So it may where a subject that computes in a wider format
had a positive state and returned 0, because it underflowed: where h = 0 and s is within an underflow of it, and within
what rounding its operands, and losing them in the same way, does to s. States that are not finite exempt what they
reach.

Local and running. Where da_t itself was observed (see ``probes``), each step starts from it, and the allowance stays a
few roundings wide. Where only sums of it were, its error is carried along: e_dh_t = ... + |W_hh|^T e_da_{t+1}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.oracle.arithmetic import U64, Arithmetic
from harness.oracle.equation import Equation
from harness.oracle.expectation import Expected, Index, Layer, Setting, joined, laid_out, shifted, stacked
from harness.oracle.reference import Floats, readout_weights
from harness.oracle.tolerance import gamma, loosened, row_sum, slope_error, soft_floor, sum_allowance
from harness.space.config import weight_names


class Known(NamedTuple):
    """An array, and how far a correct subject's may be from it (``None``: it is the subject's own)."""

    values: Floats
    error: Floats | None = None

    def map(self, change: Callable[[Floats], Floats]) -> Known:
        """The same change to both."""
        return Known(change(self.values), None if self.error is None else change(self.error))


class Gradients(NamedTuple):
    """What the gradients may be."""

    arrays: dict[str, Expected]
    """By the names of ``config.gradients``."""
    preactivations: list[Expected]
    """da of every layer, (T, N, D*H), time first."""


def expect_gradients(setting: Setting, states: Sequence[Layer], observed: Sequence[Floats] | None = None) -> Gradients:
    """What the gradients may be, given the subject's own states, and its own da of every layer where ``observed``."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _Backward(setting, states, observed).run()


class _Backward:
    """One backward pass, from the loss through the layers down to x."""

    def __init__(self, setting: Setting, states: Sequence[Layer], observed: Sequence[Floats] | None) -> None:
        self._reference, self._case, self._arithmetic = reference, case, arithmetic = setting
        self._config, self._states, self._observed = case.config, states, observed
        self._final = reference.final_gradients(case)
        self._sharp = not arithmetic.wide and arithmetic.accepted.derived
        """Whether the soft model speaks of this arithmetic."""
        self._found: dict[str, Expected] = {}
        self._rows: dict[tuple[int, int], Expected] = {}

    def run(self) -> Gradients:
        config, reference = self._config, self._reference
        inner: list[Expected] = []
        sources = [self._from_loss()]
        for layer in reversed(range(config.num_layers)):
            given = [self._sum_of(sources, reference.features(config, d)) for d in range(config.num_directions)]
            expected = [self._back_through((layer, d), sums) for d, sums in enumerate(given)]
            inner.insert(0, joined(reference, config, expected))
            sources = [self._through_layer((layer, d), da) for d, da in enumerate(expected)]
        x = self._sum_of(sources, slice(None)).expected()
        self._found |= {
            "x.grad": laid_out(reference, config, x),
            "hx.grad": stacked([self._rows[key] for key in sorted(self._rows)]),
        }
        return Gradients({name: self._found[name] for name in config.gradients}, inner)

    def _from_loss(self) -> tuple[Known, Floats | None]:
        """What reaches the top layer's output, and through which matrix: the readout's, where there is one."""
        reference, case = self._reference, self._case
        if self._config.output_size is None:
            return Known(reference.output_gradient(case)), None
        weight, _ = readout_weights(case)
        g = np.zeros((self._config.T, self._config.N, weight.shape[0]))
        if "readout.grad" in case.cotangents:
            g = reference.time_major(case.cotangents["readout.grad"], self._config)
        over_rows = Known(_rows(g).T)
        of_weight = self._sum(rounded=1).product(over_rows, _Matrix.of(*Known(*self._states[-1]).map(_rows)))
        of_bias = self._sum().product(over_rows, _Matrix.of(np.ones((over_rows.values.shape[1], 1))))
        self._found["readout.weight.grad"] = of_weight.expected()
        self._found["readout.bias.grad"] = _single_column(of_bias.expected())
        return Known(g), weight

    def _back_through(self, at: tuple[int, int], given: _Sum) -> Expected:
        """Da (T, N, H) of a direction: all steps at once where it was observed, else one after the other."""
        config, reference, (layer, d) = self._config, self._reference, at
        back = reference.weights_back(reference.step_weights(self._case, layer, d))
        own, steps = self._own(layer, d), list(reference.time_order(config, d))
        g_final = np.zeros((config.T, config.N, config.hidden_size))
        g_final[reference.final_step(config, d)] = self._final[layer, d]
        given.plain(Known(g_final))
        if self._observed is not None:
            da = self._seen(layer, d)
            later = np.zeros_like(da)
            for step, (t, following) in enumerate(pairwise(steps), start=1):
                if reference.flows_back(config, step):
                    later[t] = da[following]
            whole = given.product(Known(later), _Matrix.of(back.hh)).expected()
            return self._stopped(self._through_slope(whole, self._slopes(at, own), own), steps)
        values, allowance = np.empty(g_final.shape), np.empty(g_final.shape)
        slopes, matrix = self._slopes(at, own), _Matrix.of(back.hh)
        carried: Known | None = None
        for step, t in reversed(list(enumerate(steps))):
            dh = given.at(t)
            if carried is not None:
                dh.product(carried, matrix)
            da_t = self._through_slope(dh.expected(), _Slopes(*(a[t] for a in slopes)), own)
            values[t], allowance[t] = da_t.values, da_t.allowance
            carried = Known(values[t], allowance[t]) if reference.flows_back(config, step) else None
        return self._stopped(Expected(values, allowance), steps)

    def _stopped(self, expected: Expected, steps: Sequence[int]) -> Expected:
        """Without the steps that a fault does not reach on its way back."""
        for step, t in enumerate(steps):
            if not self._reference.reaches(self._config, step):
                expected.values[t] = expected.allowance[t] = 0.0
        return expected

    def _slopes(self, at: tuple[int, int], state: Known) -> _Slopes:
        """What each step's gradient is multiplied by: phi' at the states of a direction."""
        kind, arithmetic = self._reference.nonlinearity(self._config), self._arithmetic
        h, u = state.values, arithmetic.format.u
        slope = self._reference.slope(h, kind)
        off = np.zeros_like(h)
        relative: Any = np.zeros_like(h)
        if kind == "tanh":
            if state.error is not None:
                off = 2 * np.abs(h) * state.error + state.error**2
            relative = slope_error(slope) * (arithmetic.sum_u + 2 * U64)
            if arithmetic.wide:
                relative = relative * (1 + u) + u * (slope + off)
        elif kind == "relu" and state.error is not None:
            off = (np.abs(h) <= state.error).astype(np.float64)
        elif kind == "relu":
            off = ((h == 0) & self._vanishing(at, h)).astype(np.float64)
        off[~np.isfinite(h)] = np.inf
        return _Slopes(slope, off, relative)

    def _vanishing(self, at: tuple[int, int], h: Floats) -> NDArray[np.bool_]:
        """Whether s, at the subject's own operands, may be positive, and so small that it is lost to underflow.

        Operands may have been lost in the same way: states of this layer, and of the one below.
        """
        reference, tiny = self._reference, self._arithmetic.underflow
        w, previous = reference.step_weights(self._case, *at), reference.previous_states(self._case, *at, h)
        x = self._below(at[0]).values
        s = reference.preactivation(x, previous, w)
        sizes = (
            row_sum(np.abs(rows)) * np.abs(matrix).max(initial=0) for rows, matrix in ((x, w.ih), (previous, w.hh))
        )
        m, u = x.shape[-1] + h.shape[-1] + 2, self._arithmetic.format.u
        slack = (gamma(m + 1, u) + gamma(m, U64)) * (sum(sizes) + np.abs(w.b_ih) + np.abs(w.b_hh))
        lost = np.abs(previous) <= tiny
        lost[reference.time_order(self._config, at[1])[0]] = False  # the initial state is the caller's
        slack = slack + tiny * (lost @ np.abs(w.hh).T)
        if at[0]:
            slack = slack + tiny * ((np.abs(x) <= tiny) @ np.abs(w.ih).T)
        return np.asarray((s + slack > 0) & (s <= tiny + slack))

    def _below(self, layer: int) -> Known:
        """What a layer reads."""
        return (
            Known(*self._states[layer - 1]) if layer else Known(self._reference.time_major(self._case.x, self._config))
        )

    def _through_slope(self, dh: Expected, slopes: _Slopes, state: Known) -> Expected:
        """The product dh phi', for rows of both."""
        values = dh.values * slopes.slope
        size, e, off, relative = np.abs(dh.values), dh.allowance, slopes.off, slopes.relative
        under = 2 * self._arithmetic.underflow
        allowance = (slopes.slope + off) * e + size * off + (size + e) * relative + under * (2 + size)
        allowance[np.isnan(allowance)] = np.inf  # 0 times inf
        allowance = loosened(allowance, values, self._arithmetic)
        equation = dh.equation
        if equation is None or state.error is not None or self._observed is None:
            return Expected(values, allowance)
        kind, h = self._reference.nonlinearity(self._config), state.values

        def with_slope(index: Index) -> Equation:
            return equation(index)._replace(state=float(h[index]), nonlinearity=kind)

        floor = None if dh.floor is None else np.where(slopes.off > 0, np.inf, dh.floor * slopes.slope)
        return Expected(values, allowance, floor, with_slope)

    def _through_layer(self, at: tuple[int, int], expected: Expected) -> tuple[Known, Floats]:
        """The gradients of a direction's parameters and initial state; and what goes on to the layer below."""
        config, reference, (layer, d) = self._config, self._reference, at
        back = reference.weights_back(reference.step_weights(self._case, layer, d))
        da = Known(expected.values, expected.allowance) if self._observed is None else Known(self._seen(layer, d))
        x = self._below(layer)
        own = self._own(layer, d)
        previous = Known(
            reference.previous_states(self._case, layer, d, own.values),
            None if own.error is None else shifted(reference.time_order(config, d), own.error),
        )
        ones = Known(np.ones((config.T, config.N, 1)))
        for i, name in enumerate(weight_names(layer, d, bias=config.bias)):
            rows = da.map(partial(reference.entering, parameter=i)).map(lambda a: _rows(a).T)
            summed = (
                self._sum(config.T, rounded=1)
                .product(rows, _Matrix.of(*(x, previous, ones, ones)[i].map(_rows)))
                .expected()
            )
            self._found[f"{name}.grad"] = _single_column(summed) if name.startswith("bias") else summed
        first = reference.time_order(config, d)[0]
        self._rows[at] = self._sum().product(da.map(itemgetter(first)), _Matrix.of(back.hh)).expected()
        return da, back.ih

    def _sum_of(self, sources: Sequence[tuple[Known, Floats | None]], part: slice) -> _Sum:
        """What reaches some features of a layer's output (or x), as a sum still open."""
        total = self._sum()
        for known, matrix in sources:
            if matrix is None:
                total.plain(known.map(lambda a: a[..., part]))
            else:
                total.product(known, _Matrix.of(matrix[:, part]))
        return total

    def _sum(self, stored: int = 0, rounded: int = 0) -> _Sum:
        return _Sum(self._arithmetic, stored, rounded, soft=self._sharp)

    def _own(self, layer: int, d: int) -> Known:
        part = self._reference.features(self._config, d)
        return Known(*self._states[layer]).map(lambda a: a[..., part])

    def _seen(self, layer: int, d: int) -> Floats:
        assert self._observed is not None
        return self._observed[layer][..., self._reference.features(self._config, d)]


class _Slopes(NamedTuple):
    """phi' (.., H), how far it may be off, and the relative error of its roundings and of the product with it."""

    slope: Floats
    off: Floats
    relative: Floats


class _Matrix(NamedTuple):
    """A matrix (m, K), how far it may be off, its absolute values, their sums over m, and the most terms of a sum."""

    values: Floats
    error: Floats | None
    size: Floats
    columns: Floats
    terms: int

    @classmethod
    def of(cls, values: Floats, error: Floats | None = None) -> _Matrix:
        size = np.abs(values)
        terms = len(values) if error is not None else int(np.count_nonzero(values, axis=0).max(initial=0))
        return cls(values, error, size, size.sum(0), terms)


class _Sum:
    """A sum of products under construction, elementwise (.., K): its value, and all that its allowance needs."""

    def __init__(self, arithmetic: Arithmetic, stored: int, rounded: int, *, soft: bool) -> None:
        """``stored``: how often a partial result may be rounded to 16 bits, beyond once each part and each addition.

        ``rounded``: how many operands of a product may be off by a rounding, in a subject that computes more precisely
        than it returns; one is always paid for.
        """
        self._arithmetic, self._stored, self._soft = arithmetic, stored, soft
        self._arrays: dict[str, Any] = dict.fromkeys(("values", "magnitude", "carried", "operands"), 0.0)
        self._m, self._parts = rounded, 0
        self._exact = True
        self._pieces: list[Callable[[Index], tuple[Floats, Floats]]] = []

    def plain(self, known: Known) -> _Sum:
        """Add an array itself."""
        self._add(known.values, np.abs(known.values), known.error, 0.0, 1)
        self._pieces.append(lambda i: (np.atleast_1d(known.values[i]), np.ones(1)))
        return self

    def product(self, rows: Known, matrix: _Matrix) -> _Sum:
        """Add rows (.., m) times a matrix (m, K)."""
        size_a = np.abs(rows.values)
        carried = None
        if rows.error is not None:
            carried = rows.error @ matrix.size
        if matrix.error is not None:
            moved = (size_a if rows.error is None else size_a + rows.error) @ matrix.error
            carried = moved if carried is None else carried + moved
        operands = row_sum(size_a) + matrix.columns
        self._add(rows.values @ matrix.values, size_a @ matrix.size, carried, operands, matrix.terms)
        self._pieces.append(lambda i: (rows.values[i[:-1]], matrix.values[:, i[-1]]))
        return self

    def at(self, t: int) -> _Sum:
        """The same of one time step."""
        step = _Sum(self._arithmetic, self._stored, 0, soft=False)
        step._arrays = {name: a if isinstance(a, float) else a[t] for name, a in self._arrays.items()}
        step._m, step._parts = self._m, self._parts
        return step

    def expected(self) -> Expected:
        """The sum's value and allowance."""
        values, magnitude, carried, operands = map(np.asarray, self._arrays.values())
        stored = self._stored + 2 * self._parts
        allowance = sum_allowance(
            magnitude, self._m, self._arithmetic, carried=carried, operands=operands, stored=stored
        )
        allowance = loosened(allowance, values, self._arithmetic)
        if not (self._soft and self._exact):
            return Expected(values, allowance)
        floor = soft_floor(values, values, magnitude, "identity", self._arithmetic)
        return Expected(values, allowance, floor, self._equation)

    def _add(self, values: Floats, magnitude: Floats, carried: Floats | None, operands: Floats | float, m: int) -> None:
        added = {"values": values, "magnitude": magnitude, "carried": carried, "operands": operands}
        for name, array in added.items():
            if array is not None:
                self._arrays[name] = self._arrays[name] + array
        self._exact = self._exact and carried is None
        self._m += m
        self._parts += 1

    def _equation(self, index: Index) -> Equation:
        pieces = [piece(index) for piece in self._pieces]
        a, b = (np.concatenate(side) for side in zip(*pieces, strict=True))
        return Equation(a, b, groups=tuple(piece[0].size for piece in pieces))


def _rows(array: Floats) -> Floats:
    """(T, N, K) as (T*N, K)."""
    return array.reshape(-1, array.shape[-1])


def _single_column(expected: Expected) -> Expected:
    """(K, 1) as (K)."""
    equation, floor = expected.equation, expected.floor
    return Expected(
        expected.values[:, 0],
        expected.allowance[:, 0],
        None if floor is None else floor[:, 0],
        None if equation is None else lambda index: equation((*index, 0)),
    )
