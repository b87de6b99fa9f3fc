"""slopes: phi' at a state, and the products of gradients with it, each with its tolerance.

Slopes. With an error e of dh, an error e' of phi' and a relative error r of the roundings (``slope_error``), dh phi' is
off by at most (phi' + e') e + |dh| e' + (|dh| + e) r. For tanh e' = 2 |h| e_h + e_h**2 where h is off by e_h. For relu
phi' is exact, unless e_h reaches over 0: then all of dh may pass, or none of it. The same is true where a subject that
computes in a wider format had a positive state and returned 0, because the state underflowed. That may be where h = 0
and s is within an underflow of 0, widened by what s loses through the rounding of its operands, and through their
underflow. States that are not finite exempt whatever they reach.
"""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from harness.oracle.arithmetic_assumptions import U64, Arithmetic
from harness.oracle.array_layout import Place, first_step
from harness.oracle.bounded_array import BoundedArray, Floats, write_steps
from harness.oracle.element_equation import ElementEquation
from harness.oracle.expected import ExpectedArray, Index
from harness.oracle.pinned_numpy import np
from harness.oracle.reference import slope
from harness.oracle.setting import Setting
from harness.oracle.tolerance import gamma, loosened, row_sum, slope_error
from harness.oracle.unroll import previous_states, step_weights


class Slopes(NamedTuple):
    """The slope phi' (.., H), how far it may be off, and the relative error of rounding it and the product with it."""

    slope: Floats
    off: Floats
    relative: Floats


def slopes_at(setting: Setting, at: Place, state: BoundedArray, x: Floats) -> Slopes:
    """Return phi' at the states (T, N, H) of a layer and direction that reads x, with its error."""
    _, case, arithmetic = setting
    kind, h, u = case.config.nonlinearity, state.values, arithmetic.format.u
    steep, off = slope(h, kind), np.zeros(h.shape)
    relative: Any = np.zeros(h.shape)
    if kind == "tanh":
        if state.error is not None:
            off = 2 * np.abs(h) * state.error + state.error**2
        relative = slope_error(h, steep, arithmetic) * (arithmetic.sum_u + 2 * U64)
        if arithmetic.wide:
            relative = relative * (1 + u) + u * (np.abs(steep) + off)
    elif state.error is not None:
        off = (np.abs(h) <= state.error).astype(np.float64)
    else:
        off = ((h == 0) & _vanishing(setting, at, h, x)).astype(np.float64)
    off[~np.isfinite(h)] = np.inf
    return Slopes(steep, off, relative)


def through_slope(
    dh: ExpectedArray, slopes: Slopes, arithmetic: Arithmetic, exact: tuple[Floats, str] | None = None
) -> ExpectedArray:
    """Return the product with phi', for rows of both.

    ``exact`` holds the states and the name of phi, where the states and the operands of the sum are the subject's own.
    """
    values = dh.values * slopes.slope
    size, e, off, relative = np.abs(dh.values), dh.tolerance, slopes.off, slopes.relative
    under = 2 * arithmetic.underflow
    tolerance = (np.abs(slopes.slope) + off) * e + size * off + (size + e) * relative + under * (2 + size)
    tolerance[np.isnan(tolerance)] = np.inf  # 0 times inf
    tolerance = loosened(tolerance, values, arithmetic)
    equation = dh.equation
    if equation is None or exact is None:
        return ExpectedArray(values, tolerance)
    h, kind = exact

    def with_slope(index: Index) -> ElementEquation:
        return equation(index)._replace(state=float(h[index]), nonlinearity=kind)

    floor = None if dh.floor is None else np.where(slopes.off > 0, np.inf, dh.floor * slopes.slope)
    return ExpectedArray(values, tolerance, floor, with_slope)


def through_slope_growth(
    of_sums: tuple[float, Floats], sums: ExpectedArray, slopes: Slopes, arithmetic: Arithmetic
) -> tuple[Floats, Floats]:
    """Return how much the tolerance of ``through_slope`` grows with what is carried to ``sums``, and up to which limit.

    ``of_sums`` is ``Sum.growth`` of these sums. Where a tolerance is infinite already, the limit is below 0.
    """
    growth, limit = of_sums
    loose = 1 + arithmetic.accepted.rtol
    growth, steep = growth * loose, np.abs(slopes.slope) + slopes.off
    grows = (steep + slopes.relative) * (growth * loose)
    sure = np.isfinite(grows) & np.isfinite(sums.tolerance)
    return np.where(sure, grows, 0.0), np.where(sure, limit, -1.0)


def _vanishing(setting: Setting, at: Place, h: Floats, x: Floats) -> NDArray[np.bool_]:
    """Tell where s, at the subject's own operands, may be positive and so small that underflow loses it.

    Operands may have been lost in the same way: states of this layer, and of the layer below.
    """
    _, case, arithmetic = setting
    w, previous = step_weights(case, at), previous_states(case, at, h)
    s = setting.elman.preactivation(x, previous, w)
    sizes = (row_sum(np.abs(rows)) * np.abs(matrix).max(initial=0) for rows, matrix in ((x, w.ih), (previous, w.hh)))
    m, tiny = x.shape[-1] + h.shape[-1] + 2, arithmetic.underflow
    slack = (gamma(m + 1, arithmetic.format.u) + gamma(m, U64)) * (sum(sizes) + np.abs(w.b_ih) + np.abs(w.b_hh))
    lost = np.abs(previous) <= tiny
    # The initial state is the caller's own, and was not lost.
    write_steps(lost, first_step(case.config, at[1]), np.zeros(lost.shape[1:]))
    slack = slack + tiny * (lost @ np.abs(w.hh).T)
    if at[0]:
        slack = slack + tiny * ((np.abs(x) <= tiny) @ np.abs(w.ih).T)
    return np.asarray((s + slack > 0) & (s <= tiny + slack))
