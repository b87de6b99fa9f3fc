"""gated: the cells of nn.GRU and nn.LSTM, each a step and its way back, with the bounds on what a correct one computes.

The equations are those of the ``torch.nn.GRU`` and ``torch.nn.LSTM`` documentation pages. The GRU is that of K. Cho et
al., EMNLP 2014, but with r beside the product W_hn h + b_hn and not inside of it. The LSTM is that of S. Hochreiter and
J. Schmidhuber, Neural Computation 9(8), 1997, with the forget gate of F. Gers et al., Neural Computation 12(10), 2000.
The gradients are backpropagation through time, written out from the same equations.

All is written over balls, so that one text gives values and bounds. ``unroll`` takes a step through time, directions
and layers. A state that the subject does not return, an LSTM's c, is carried with its error from step to step, and cut
by what h says of it. Sums are bounded as in ``tolerance``; there is no soft model of these cells.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.array_layout import Place, features, final_step, first_step, h_n_order
from harness.oracle.balls import BallArithmetic, GateParameters
from harness.oracle.bounded_array import BoundedArray, Floats, at_steps
from harness.oracle.pinned_numpy import np
from harness.oracle.sums import Matrix, Sum, flattened
from harness.oracle.unroll import (
    LayerGradients,
    State,
    StepWeights,
    Unroll,
    along_time,
    back_along_time,
    final_gradient,
    initial_states,
    previous_states,
    step_weights,
)
from harness.space.case import Case
from harness.space.cells import CELLS

Values = Mapping[str, BoundedArray]  # What a step computes, by the letters of the equations

# The states beside h, (N, H) each, of a time step of (T, N, H), given the states before; of all there is for ``None``.
Carry = Callable[[int | None, Sequence[BoundedArray]], tuple[BoundedArray, ...]]

EXACT_ARITHMETIC: Final = Arithmetic(
    "float64"
)  # The arithmetic of the reference's own values, whose errors are not looked at


class GatedSteps(NamedTuple):
    """The steps of one layer and direction at given states h, (T, N, ..) each.

    ``states`` are what each step makes of ``before``, the states that it reads; both begin with h. ``inner`` is h
    before it is projected, if it is.
    """

    values: Values
    before: tuple[BoundedArray, ...]
    states: tuple[BoundedArray, ...]
    inner: BoundedArray


class WayBack(NamedTuple):
    """The gradients of one layer and direction.

    They are those by the gates' sums as W_ih and as W_hh meet them (T, N, G*H), by each initial state (N, H), and by
    h (T, N, H).
    """

    ih: BoundedArray
    hh: BoundedArray
    start: tuple[BoundedArray, ...]
    h: BoundedArray


class GatedCell(Unroll):
    """A cell with gates. Its arrays are (.., H), and those of all gates (.., G*H); h may be projected to (.., P)."""

    gates: tuple[str, ...]  # The names of the blocks of H rows in W_ih, W_hh and the biases, in their order

    # True if h_{t-1} enters h_t beside its product with W_hh, too.
    keeps: bool = False

    # The gate that multiplies the tanh of the first carried state to give h, so that h shows that state; or none.
    shows: str = ""

    @abstractmethod
    def activations(self, k: BallArithmetic, x: BoundedArray, h: BoundedArray, w: StepWeights) -> Values:
        """Return the gates, which depend on x and the previous h alone."""

    def carry(self, k: BallArithmetic, v: Values) -> Carry:  # noqa: ARG002 - of most cells
        """Return what gives the states beside h of a step, given the gates of all steps."""
        return lambda t, before: ()  # noqa: ARG005 - of most cells

    @abstractmethod
    def emitted(
        self, k: BallArithmetic, v: Values, before: Sequence[BoundedArray], carried: Sequence[BoundedArray]
    ) -> BoundedArray:
        """Return h, not projected, given the gates, the states before and the other states."""

    def update(self, k: BallArithmetic, v: Values, before: Sequence[BoundedArray]) -> tuple[BoundedArray, ...]:
        """Return the states, h first and not projected, given the gates and the states before."""
        carried = self.carry(k, v)(None, before)
        return (self.emitted(k, v, before, carried), *carried)

    @abstractmethod
    def slopes(
        self, k: BallArithmetic, v: Values, before: Sequence[BoundedArray], states: Sequence[BoundedArray]
    ) -> Values:
        """Return all that the way back multiplies gradients with."""

    @abstractmethod
    def back(
        self, k: BallArithmetic, v: Values, dh: BoundedArray, later: Sequence[BoundedArray], w: StepWeights
    ) -> tuple[BoundedArray, BoundedArray, tuple[BoundedArray, ...]]:
        """Return the gradients by the gates' sums as W_ih and as W_hh meet them, and by each state before.

        ``dh`` is the gradient by h before its projection, and ``later`` are those by the other states. The gradient by
        the h before is what does not come through ``recurrent``.
        """

    def recurrent(self, w: StepWeights) -> Floats:
        """Return W_hh as far as it multiplies the h before itself."""
        return w.hh

    def operands(self, k: BallArithmetic, walk: "GatedSteps") -> tuple[BoundedArray, ...]:  # noqa: ARG002 - a cell's that multiplies h before
        """Return what W_hh multiplies, (T, N, H), or what each gate's rows of it do."""
        return (walk.before[0],)

    def projected(self, k: BallArithmetic, h: BoundedArray, w: StepWeights) -> BoundedArray:
        """Return W_hr h, or h itself where it is not projected."""
        return h if w.hr is None else k.through(h, Matrix.of(w.hr.T))

    def step(self, x: Floats, held: State, w: StepWeights, kind: str) -> State:  # noqa: ARG002 - there is one kind
        return tuple(
            new.values
            for new in self._step(
                BallArithmetic(EXACT_ARITHMETIC), BoundedArray(x), [BoundedArray(array) for array in held], w
            )
        )

    def _step(
        self, k: BallArithmetic, x: BoundedArray, before: Sequence[BoundedArray], w: StepWeights
    ) -> tuple[BoundedArray, ...]:
        h, *others = self.update(k, self.activations(k, x, before[0], w), before)
        return (self.projected(k, h, w), *others)

    def run_along(
        self, case: Case, at: Place, arithmetic: Arithmetic, x: BoundedArray, *, own: Floats | None = None
    ) -> BoundedArray:
        """Return the states h (T, N, H) of one layer and direction, with errors that go from step to step.

        With ``own``, they are these, those of another run, and may be off by their distance from this run's, too.
        """
        k, w, config = BallArithmetic(arithmetic), step_weights(case, at), case.config
        values, errors = np.zeros((2, config.T, config.N, config.h_size))

        def step(t: int, held: State) -> State:
            h, *others = self._step(k, x.map(lambda array: array[t]), _paired(held), w)
            if own is not None:
                apart = np.abs(own[t] - h.values)
                h = BoundedArray(own[t], _error(h) + np.where(np.isnan(apart), 0.0, apart))
            return _flat((h, *others))

        first = _flat(map(BoundedArray, initial_states(case, at)))
        with np.errstate(over="ignore", invalid="ignore"):
            along_time(config, at[1], first, step, (values, errors))
        return BoundedArray(values, errors)

    def walk(
        self,
        case: Case,
        at: Place,
        arithmetic: Arithmetic,
        x: BoundedArray,
        previous: BoundedArray,
        *,
        own: Floats | None = None,
    ) -> GatedSteps:
        """Return the steps of one layer and direction, which read ``previous`` (T, N, H).

        ``own`` holds the subject's own states h, where they are known to be. They show a carried state unless they are
        projected, which mixes all units.
        """
        k, config, w = BallArithmetic(arithmetic), case.config, step_weights(case, at)
        with np.errstate(all="ignore"):
            values = self.activations(k, x, previous, w)
            initial = initial_states(case, at)[1:]
            if not initial:
                states = self.update(k, values, (previous,))
                return GatedSteps(values, (previous,), states, states[0])
            own_shape, carry = (config.T, config.N, config.hidden_size), self.carry(k, values)
            shown = self.shows if own is not None and w.hr is None else ""
            first, last = k.before_tanh(np.asarray(own), values[shown]) if shown else ((), ())
            before, after = (np.zeros((2 * len(initial), *own_shape)) for _ in range(2))

            def step(t: int, held: State) -> State:
                new = carry(t, (at_step(previous, t), *_paired(held)))
                for array, state in zip(before, held, strict=True):
                    array[t] = state
                for array, state in zip(after, _flat(new), strict=True):
                    array[t] = state
                return _flat((k.within(new[0], first[t], last[t]),) if shown else new)

            along_time(config, at[1], _flat(map(BoundedArray, initial)), step, ())
            others = _paired(after)
            inner = self.emitted(k, values, (previous, *_paired(before)), others)  # of all steps at once
            return GatedSteps(values, (previous, *_paired(before)), (self.projected(k, inner, w), *others), inner)

    def go_back(self, case: Case, at: Place, arithmetic: Arithmetic, walk: GatedSteps, incoming: Sum) -> WayBack:
        """Return the gradients of one layer and direction; ``incoming`` is what reaches its states (T, N, H)."""
        k, config, w = BallArithmetic(arithmetic), case.config, step_weights(case, at)
        hh, hr = Matrix.of(self.recurrent(w)), None if w.hr is None else Matrix.of(w.hr)
        with np.errstate(all="ignore"):
            slopes = self.slopes(k, walk.values, walk.before, walk.states)
            final = [BoundedArray(final_gradient(case, at, name)) for name in config.form.final[1:]]

            def step(t: int, later: State | None) -> State:
                dh, carried = incoming.at(t), [at_step(gradient, t) for gradient in final]
                if later is not None:
                    _, _, of_hh, direct, *others = _paired(later)
                    dh.product(of_hh, hh)
                    if self.keeps:
                        dh.plain(direct)
                    carried = [k.total(*pair) for pair in zip(others, carried, strict=True)]
                here = {name: at_step(slope, t) for name, slope in slopes.items()}
                of_h = dh.ball()
                ih, of_hh, states = self.back(k, here, of_h if hr is None else k.through(of_h, hr), carried, w)
                return _flat((of_h, ih, of_hh, *states))

            H, G = config.hidden_size, len(self.gates)
            sizes = (config.h_size, G * H, G * H, *[H] * len(walk.states))
            arrays = [np.zeros((config.T, config.N, size)) for size in sizes for _ in range(2)]
            back_along_time(config, at[1], step, tuple(arrays))
            of_h, of_ih, of_hh, direct, *others = _paired(arrays)
            first = first_step(config, at[1])
            start = Sum(arithmetic, 0, 0, soft=False).product(of_hh.map(lambda a: at_steps(a, first)), hh)
            if self.keeps:
                start.plain(direct.map(lambda a: at_steps(a, first)))
            carried = [gradient.map(lambda a: at_steps(a, first)) for gradient in others]
            return WayBack(of_ih, of_hh, (start.ball(), *carried), of_h)

    def carried_final(self, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
        config, inputs = case.config, self.inputs(case, states)
        rows = []
        for at in h_n_order(config):
            walk = self._own_walk(case, at, inputs[at[0]], states[at[0]][..., features(config, at[1])])
            rows.append([at_steps(state.values, final_step(config, at[1])) for state in walk.states[1:]])
        return {
            name: np.stack(part) for name, part in zip(config.form.final[1:], zip(*rows, strict=True), strict=False)
        }

    def back_through(
        self, case: Case, at: Place, x: Floats, own: Floats, incoming: tuple[Floats, Floats]
    ) -> LayerGradients:
        walk = self._own_walk(case, at, x, own)
        back = self.go_back(
            case,
            at,
            EXACT_ARITHMETIC,
            walk,
            Sum(EXACT_ARITHMETIC, 0, 0, soft=False).plain(BoundedArray(incoming[0] + incoming[1])),
        )
        of_ih, of_hh = back.ih.values, back.hh.values
        weights = StepWeights(
            flattened(of_ih).T @ flattened(x),
            np.concatenate([da.T @ flattened(operand.values) for da, operand in self._by_operand(of_hh, walk)]),
            of_ih.sum((0, 1)),
            of_hh.sum((0, 1)),
            flattened(back.h.values).T @ flattened(walk.inner.values) if case.config.proj_size else None,
        )
        return LayerGradients(weights, of_ih @ step_weights(case, at).ih, tuple(state.values for state in back.start))

    def _by_operand(self, of_hh: Floats, walk: GatedSteps) -> Iterator[tuple[Floats, BoundedArray]]:
        operands = self.operands(BallArithmetic(EXACT_ARITHMETIC), walk)
        return zip(np.split(flattened(of_hh), len(operands), -1), operands, strict=True)

    def _own_walk(self, case: Case, at: Place, x: Floats, own: Floats) -> GatedSteps:
        return self.walk(case, at, EXACT_ARITHMETIC, BoundedArray(x), BoundedArray(previous_states(case, at, own)))


class GRU(GatedCell):
    """The cell h_t = (1 - z) n + z h, with n = tanh(W_in x + b_in + r (W_hn h + b_hn)); r, z are sigmoids of sums."""

    gates = tuple(CELLS["GRU"].gates)
    keeps = True

    def activations(self, k: BallArithmetic, x: BoundedArray, h: BoundedArray, w: StepWeights) -> Values:
        of_gates, of_n = rows_of(w, 2, 1)
        r, z = split(k.sigmoid(k.affine(x, h, of_gates)), 2)
        return {"r": r, "z": z, "n": k.tanh(k.reset(x, h, r, of_n)), "q": k.of_state(h, of_n)}

    def emitted(
        self,
        k: BallArithmetic,
        v: Values,
        before: Sequence[BoundedArray],
        carried: Sequence[BoundedArray],  # noqa: ARG002
    ) -> BoundedArray:
        return k.mix(v["z"], v["n"], before[0])

    def slopes(
        self,
        k: BallArithmetic,
        v: Values,
        before: Sequence[BoundedArray],
        states: Sequence[BoundedArray],  # noqa: ARG002 - an LSTM's
    ) -> Values:
        return {
            "r": v["r"],
            "rest": k.less(v["z"]),
            "share": k.share(v["z"]),
            "slope_n": k.tanh_slope(v["n"]),
            "of_rz": joined(v["q"], k.apart(before[0], v["n"])),
            "slope_rz": joined(k.sigmoid_slope(v["r"]), k.sigmoid_slope(v["z"])),
        }

    def back(
        self,
        k: BallArithmetic,
        v: Values,
        dh: BoundedArray,
        later: Sequence[BoundedArray],  # noqa: ARG002 - an LSTM's
        w: StepWeights,  # noqa: ARG002 - those of a cell that multiplies h before W_hh
    ) -> tuple[BoundedArray, BoundedArray, tuple[BoundedArray, ...]]:
        n = k.product(dh, v["rest"], v["slope_n"])
        rz = k.product(joined(n, dh), v["of_rz"], v["slope_rz"])
        return joined(rz, n), joined(rz, k.product(n, v["r"])), (k.product(dh, v["share"]),)


class LSTM(GatedCell):
    """The cell h_t = o tanh(c_t) with c_t = f c + i g; i, f and o are sigmoids of sums, and g is a tanh.

    With a projection, h_t = W_hr (o tanh(c_t)), as in H. Sak, A. Senior and F. Beaufays, Interspeech 2014.
    """

    gates = tuple(CELLS["LSTM"].gates)
    shows = "o"

    def activations(self, k: BallArithmetic, x: BoundedArray, h: BoundedArray, w: StepWeights) -> Values:
        sums = k.affine(x, h, *rows_of(w, 4))
        i, f, _, o = split(k.sigmoid(sums), 4)
        return {"i": i, "f": f, "g": k.tanh(split(sums, 4)[2]), "o": o}

    def carry(self, k: BallArithmetic, v: Values) -> Carry:
        line = k.line(v["f"], k.product(v["i"], v["g"]))
        return lambda t, before: ((line if t is None else line.at(t)).of(before[1]),)

    def emitted(
        self,
        k: BallArithmetic,
        v: Values,
        before: Sequence[BoundedArray],  # noqa: ARG002
        carried: Sequence[BoundedArray],
    ) -> BoundedArray:
        return k.product(v["o"], k.tanh(carried[0]))

    def slopes(
        self, k: BallArithmetic, v: Values, before: Sequence[BoundedArray], states: Sequence[BoundedArray]
    ) -> Values:
        t = k.tanh(states[1])
        of_i, of_f, of_o = (k.sigmoid_slope(v[gate]) for gate in "ifo")
        return {
            "f": v["f"],
            "o": v["o"],
            "slope_t": k.tanh_slope(t),
            "of_gates": joined(v["g"], before[1], v["i"], t),
            "slope_gates": joined(of_i, of_f, k.tanh_slope(v["g"]), of_o),
        }

    def back(
        self,
        k: BallArithmetic,
        v: Values,
        dh: BoundedArray,
        later: Sequence[BoundedArray],
        w: StepWeights,  # noqa: ARG002 - those of a cell that multiplies h before W_hh
    ) -> tuple[BoundedArray, BoundedArray, tuple[BoundedArray, ...]]:
        dc = k.total(k.product(dh, v["o"], v["slope_t"]), later[0])
        da = k.product(joined(dc, dc, dc, dh), v["of_gates"], v["slope_gates"])
        nothing = BoundedArray(np.zeros_like(dh.values), np.zeros_like(dh.values))
        return da, da, (nothing, k.product(dc, v["f"]))


def rows_of(w: StepWeights, *groups: int) -> Iterator[GateParameters]:
    """Yield the parameters of so many gates at a time, in their order."""
    H = len(w.hh) // sum(groups)
    ih, hh, start = Matrix.of_columns(w.ih.T), Matrix.of_columns(w.hh.T), 0
    for gates in groups:
        rows = slice(start * H, (start + gates) * H)
        yield GateParameters(ih.part(rows), hh.part(rows), w.b_ih[rows], w.b_hh[rows])
        start += gates


def split(of_gates: BoundedArray, gates: int) -> list[BoundedArray]:
    """Return what is of each gate (.., H), of an array of so many (.., G*H)."""
    H = of_gates.values.shape[-1] // gates
    blocks = [slice(i * H, (i + 1) * H) for i in range(gates)]
    return [BoundedArray(of_gates.values[..., block], _error(of_gates)[..., block]) for block in blocks]


def at_step(ball: BoundedArray, t: int) -> BoundedArray:
    """Return what is of a time step, of (T, N, ..)."""
    return ball.map(lambda array: array[t])


def _error(ball: BoundedArray) -> Floats:
    return np.zeros_like(ball.values) if ball.error is None else ball.error


def _flat(balls: Iterable[BoundedArray]) -> State:
    """Return the values and errors of balls as arrays that move together."""
    return tuple(chain.from_iterable((ball.values, _error(ball)) for ball in balls))


def _paired(arrays: Sequence[Floats] | Floats) -> tuple[BoundedArray, ...]:
    return tuple(BoundedArray(arrays[i], arrays[i + 1]) for i in range(0, len(arrays), 2))


def joined(*gates: BoundedArray) -> BoundedArray:
    """Return the balls of all gates (.., H) as one (.., G*H)."""
    return BoundedArray(
        np.concatenate([gate.values for gate in gates], -1), np.concatenate([_error(gate) for gate in gates], -1)
    )


GATED_CELLS: Final[Mapping[str, GatedCell]] = {"GRU": GRU(), "LSTM": LSTM()}
