"""own_cell: a cell that a user has written, as a step and its way back over balls, both from its equations.

The way back is the chain rule for sums of products. A state, and the gradient by a quantity, may be computed in any
order and with common factors, 1 - z included (``BallArithmetic.polynomial``).
"""

from collections.abc import Sequence
from typing import Final

from harness.oracle.balls import BallArithmetic
from harness.oracle.bounded_array import BoundedArray, Floats
from harness.oracle.gated import Carry, GatedCell, GatedSteps, Values, at_step, joined, rows_of
from harness.oracle.pinned_numpy import np
from harness.oracle.sums import Matrix, Sum
from harness.oracle.unroll import StepWeights
from harness.space.cells import Cell, Polynomial

OF_STATE: Final = "W_h of "  # what a gate's W_h and b_h make, in the name of a quantity


class OwnCell(GatedCell):
    """A cell as its equations say."""

    keeps = True

    def __init__(self, cell: Cell) -> None:
        self._cell, self.gates = cell, tuple(cell.gates)
        sigmoids = [gate.letter for gate in cell.lines if gate.function == "sigmoid"]
        self.shows = next((z for z in sigmoids if cell.h == ((tuple(sorted((z, "t"))), 1.0),)), "")
        each = {names for terms in (cell.c, cell.h) for names, _ in terms}
        self._mixed = {
            z for z in sigmoids if any(z in names and tuple(y for y in names if y != z) in each for names in each)
        }

    def activations(self, k: BallArithmetic, x: BoundedArray, h: BoundedArray, w: StepWeights) -> Values:
        v: dict[str, BoundedArray] = {}
        for gate, rows in zip(self._cell.lines, rows_of(w, *[1] * len(self.gates)), strict=True):
            inner = self._sum(k).product(self._operand(k, gate.operand, h, v), rows.hh).plain(BoundedArray(rows.b_hh))
            if gate.factor:
                v[OF_STATE + gate.letter] = inner.ball()
                inner.times(v[gate.factor])
            s = inner.product(x, rows.ih).plain(BoundedArray(rows.b_ih)).ball()
            v[gate.letter] = k.sigmoid(s) if gate.function == "sigmoid" else k.tanh(s)
        return v

    def carry(self, k: BallArithmetic, v: Values) -> Carry:
        def states(t: int | None, before: Sequence[BoundedArray]) -> tuple[BoundedArray, ...]:
            here = {name: v[name] if t is None else at_step(v[name], t) for name in self.gates}
            quantities = {**here, **dict(zip("hc", before, strict=False))}
            return (k.polynomial(quantities, self._cell.c, mixed=self._mixed),) if self._cell.c else ()

        return states

    def emitted(
        self, k: BallArithmetic, v: Values, before: Sequence[BoundedArray], carried: Sequence[BoundedArray]
    ) -> BoundedArray:
        quantities = {**v, "h": before[0]}
        for c in carried:
            quantities |= {"c'": c, "t": k.tanh(c)}
        return k.polynomial(quantities, self._cell.h, mixed=self._mixed)

    def slopes(
        self, k: BallArithmetic, v: Values, before: Sequence[BoundedArray], states: Sequence[BoundedArray]
    ) -> Values:
        factors = {**v, **dict(zip("hc", before, strict=False))}
        for gate in self._cell.lines:
            slope = k.sigmoid_slope if gate.function == "sigmoid" else k.tanh_slope
            factors[f"slope_{gate.letter}"] = slope(v[gate.letter])
        if self._cell.c:
            t = k.tanh(states[1])
            factors |= {"c'": states[1], "t": t, "slope_t": k.tanh_slope(t)}
        return factors

    def back(
        self, k: BallArithmetic, v: Values, dh: BoundedArray, later: Sequence[BoundedArray], w: StepWeights
    ) -> tuple[BoundedArray, BoundedArray, tuple[BoundedArray, ...]]:
        gradients: dict[str, list[BoundedArray]] = {}

        def through(terms: Polynomial, gradient: BoundedArray) -> None:
            for name in dict.fromkeys(name for names, _ in terms for name in names):
                derivative = tuple((tuple(z for z in names if z != name), c) for names, c in terms if name in names)
                gradients.setdefault(name, []).append(k.polynomial(v, derivative, gradient, self._mixed))

        def total(name: str) -> BoundedArray:
            return k.total(*gradients[name]) if name in gradients else BoundedArray(np.zeros_like(dh.values))

        through(self._cell.h, dh)
        if self._cell.c:
            gradients["c'"] = [*gradients.get("c'", []), *later]
            if "t" in gradients:
                gradients["c'"].append(k.product(total("t"), v["slope_t"]))
            through(self._cell.c, total("c'"))
        of_ih, of_hh = dict[str, BoundedArray](), dict[str, BoundedArray]()
        H = dh.values.shape[-1]
        for i, gate in reversed([*enumerate(self._cell.lines)]):
            s = of_ih[gate.letter] = k.product(total(gate.letter), v[f"slope_{gate.letter}"])
            of_hh[gate.letter] = k.product(s, v[gate.factor]) if gate.factor else s
            if gate.factor:
                gradients.setdefault(gate.factor, []).append(k.product(s, v[OF_STATE + gate.letter]))
            if gate.operand != "h":
                of_operand = k.through(of_hh[gate.letter], Matrix.of(w.hh[i * H : (i + 1) * H]))
                factor = gate.operand.partition(" * ")[0]
                gradients.setdefault(factor, []).append(k.product(of_operand, v["h"]))
                gradients.setdefault("h", []).append(k.product(of_operand, v[factor]))
        ih, hh = (joined(*(by_gate[letter] for letter in self.gates)) for by_gate in (of_ih, of_hh))
        return ih, hh, tuple(total(name) for name in ("h", "c")[: len(self._cell.hidden)])

    def recurrent(self, w: StepWeights) -> Floats:
        own = np.repeat([gate.operand == "h" for gate in self._cell.lines], len(w.hh) // len(self.gates))
        own_rows: Floats = w.hh * own[:, None]
        return own_rows

    def operands(self, k: BallArithmetic, walk: GatedSteps) -> tuple[BoundedArray, ...]:
        names = [gate.operand for gate in self._cell.lines]
        names = names if len({*names}) > 1 else names[:1]
        return tuple(self._operand(k, name, walk.before[0], walk.values) for name in names)

    def _operand(self, k: BallArithmetic, name: str, h: BoundedArray, v: Values) -> BoundedArray:
        return h if name == "h" else k.product(v[name.partition(" * ")[0]], h)

    def _sum(self, k: BallArithmetic) -> Sum:
        return Sum(k.arithmetic, 0, 0, soft=False)
