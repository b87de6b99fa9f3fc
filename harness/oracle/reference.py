"""reference: the Elman RNN in NumPy float64: one step as its equation, three short loops around it, and the way back.

The equations are those of the ``torch.nn.RNN`` documentation page, and of J. L. Elman, "Finding Structure in Time",
Cognitive Science 14, 1990. nn.RNN has two biases a layer, which only add up, and are easily taken for one. The
gradients are backpropagation through time (P. J. Werbos, Proceedings of the IEEE 78(10), 1990), written out from the
same equations.

For complex numbers, everything that is called float64 here is complex128. The gradient of a real loss L by z = a + ib
is dL/da + i dL/db, as in torch. The loss is the real part of the sum of conj(cotangent) times the array that it belongs
to. A step is holomorphic, so that a gradient goes back through z -> w z as a product with conj(w).

Every choice that an implementation can get wrong is a small method, which a fault may change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.space.case import Array, Case
from harness.space.config import RNNConfig, weight_names

Floats = NDArray[np.float64]
"""An array of float64, or of complex128 for a complex dtype. Code that holds for both is written once."""
Visited = NDArray[np.bool_]
Steps = int | NDArray[np.intp]
"""A time step; for packed sequences, an array (N) of one time step for each."""


class StepWeights(NamedTuple):
    """The float64 parameters of one layer and direction: W_ih (H, I or D*H), W_hh (H, H), b_ih and b_hh (H)."""

    ih: Floats
    hh: Floats
    b_ih: Floats
    b_hh: Floats


class Reference:
    """The network h_t = phi(s_t) with s_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh; phi is tanh or relu.

    It runs over time, directions and layers. On the way back, da_t = dloss/ds_t follows from
    dh_t = g_t + W_hh^T da_{t+1} and da_t = dh_t phi'(s_t), where g_t comes from the layer above or from the loss. Every
    other gradient is a sum of products of some da_t with what stood beside it on the way forward.
    """

    changed: frozenset[str] = frozenset()
    """The names of the choices, which are methods, that are not nn.RNN's own."""

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        """Return s_t, for rows of x (.., I) and of the previous state h (.., H)."""
        return x @ w.ih.T + w.b_ih + h @ w.hh.T + w.b_hh

    def nonlinearity(self, config: RNNConfig) -> str:
        """Return the name of phi.

        ``tolerance`` depends on it, too, because it decides what becomes of a rounding error.
        """
        return config.nonlinearity

    def nonlinearity_of(self, config: RNNConfig, layer: int) -> str:
        """Return the name of the phi that a layer applies: the same in every layer."""
        return self.nonlinearity(config)

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        """Return h_t = tanh(s_t) or max(s_t, 0)."""
        return np.tanh(s) if nonlinearity == "tanh" else np.maximum(s, 0)

    def new_state(self, activated: Floats, h: Floats, w: StepWeights) -> Floats:
        """Return h_t, given phi(s_t), the state that the step read, and the parameters: phi(s_t) itself."""
        return activated

    def unsettled(self, states: Floats, u: float) -> Floats | None:
        """Return how far apart a step may take two states that differ by a rounding u.

        ``None`` means no further than they are. A fault that rounds the states that a step reads may round such
        neighbours to different numbers.
        """
        return None

    def step(self, x: Floats, h: Floats, w: StepWeights, nonlinearity: str) -> Floats:
        """Return h_t, for rows of x (.., I) and of the previous state h (.., H)."""
        return self.new_state(self.activation(self.preactivation(x, h, w), nonlinearity), h, w)

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        """Return the parameters of one layer and direction; a bias that the config leaves out is zero."""
        w = [to_float64(case.weights[name]) for name in weight_names(layer, direction, bias=case.config.bias)]
        if not case.config.bias:
            w += [zeros(case.config, case.config.hidden_size)] * 2
        return StepWeights(*w)

    def initial_state(self, case: Case, layer: int, direction: int) -> Floats:
        """Return h_0 (N, H) of one layer and direction: its row of hx, or zeros."""
        if case.hx is None:
            return zeros(case.config, case.config.N, case.config.hidden_size)
        return to_float64(self.hx_row(case.config, layer, direction, case.hx))

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        """Return the part of hx (L*D, N, H) that is the initial state (N, H) of a layer and direction."""
        row: Array = hx[layer * config.num_directions + direction]
        return row

    def starts_from(self, config: RNNConfig, layer: int, direction: int) -> tuple[int, int] | None:
        """Return the layer and direction whose final state is the initial one; ``None`` if ``initial_state`` is."""
        return None

    def start(self, case: Case, layer: int, direction: int, states: Sequence[Floats]) -> Floats:
        """Return h_0 (N, H) of one layer and direction, given the states (T, N, D*H) that were computed before it."""
        source = self.starts_from(case.config, layer, direction)
        if source is None:
            return self.initial_state(case, layer, direction)
        final = at_steps(states[source[0]], self.final_step(case.config, source[1]))
        return final[:, self.features(case.config, source[1])]

    def time_order(self, config: RNNConfig, direction: int) -> Sequence[int]:
        """Return the order in which a direction visits the time steps."""
        return range(config.T - 1, -1, -1) if direction else range(config.T)

    def reads(self, config: RNNConfig, step: int) -> tuple[int, ...]:
        """Return the steps whose states a step adds up and reads.

        Steps are counted in a direction's own order, from 0; -1 stands for the initial state.
        """
        return (step - 1,)

    def lengths(self, config: RNNConfig) -> tuple[int, ...] | None:
        """Return the number of steps of each sequence; ``None`` if every sequence has T."""
        return config.lengths

    def final_step(self, config: RNNConfig, direction: int) -> Steps:
        """Return the time step whose state is h_n: the last one visited.

        It is one index for all sequences; for packed sequences, an array (N) of one each.
        """
        lengths = self.lengths(config)
        if lengths is None:
            return self.time_order(config, direction)[-1]
        steps = np.array(self.time_order(config, direction))[:, None]
        behind = np.where(steps < np.array(lengths), np.arange(config.T)[:, None], -1)
        return np.asarray(steps[behind.argmax(0), 0])

    def first_step(self, config: RNNConfig, direction: int) -> Steps:
        """Return the time step that reads the initial state: the first one visited.

        It is one index for all sequences; for packed sequences, an array (N) of one each.
        """
        lengths = self.lengths(config)
        if lengths is None:
            return self.time_order(config, direction)[0]
        steps = np.array(self.time_order(config, direction))[:, None]
        return np.asarray(steps[(steps < np.array(lengths)).argmax(0), 0])

    def visited(self, config: RNNConfig) -> Visited | None:
        """Return a mask (T, N, 1) of the steps that each sequence has; ``None`` if every sequence has T.

        Padding leaves no trace in the states.
        """
        lengths = self.lengths(config)
        return None if lengths is None else (np.arange(config.T)[:, None] < np.array(lengths))[..., None]

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        """Return the output of a layer, given its states (T, N, D*H): the states themselves.

        The next layer reads it, and the caller gets that of the top layer.
        """
        return states

    def between(self, case: Case, layer: int, output: Floats) -> Floats:
        """Return what the next layer reads of a layer's output (T, N, D*H): what dropout keeps of it, over 1 - p."""
        factors = self.factors(case, layer)
        return output if factors is None else self.dropped(output, factors)

    def factors(self, case: Case, layer: int) -> Floats | None:
        """Return the factors of dropout for a layer's output (T, N, D*H); ``None`` where it drops nothing."""
        return case.masks[layer] * keep_scale(case.config) if layer in case.masks else None

    def dropped(self, array: Floats, factors: Floats) -> Floats:
        """Return what dropout leaves of an array: what it keeps, times 1 / (1 - p), and zeros, whatever stood there."""
        return np.where(factors == 0, 0.0, array * factors)

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        """Return what a layer and direction read: the last array of ``below``.

        ``below`` holds x (T, N, I), and what ``between`` left of each output below.
        """
        return below[-1]

    def features(self, config: RNNConfig, direction: int) -> slice:
        """Return the slice of a direction's units among the D*H features of an output: forward first."""
        H = config.hidden_size
        return slice(direction * H, (direction + 1) * H)

    def h_n_order(self, config: RNNConfig) -> list[tuple[int, int]]:
        """Return the (layer, direction) of each row of h_n."""
        return [(layer, d) for layer in range(config.num_layers) for d in range(config.num_directions)]

    def readout(self, output: Floats, weight: Floats, bias: Floats) -> Floats:
        """Return y_t = W h_t + b for every time step."""
        return output @ weight.T + bias

    def readout_input(self, config: RNNConfig, output: Floats) -> Floats:
        """Return the part of the output (T, N, D*H) that is read out: all of it."""
        return output

    def time_major(self, array: Array, config: RNNConfig) -> Floats:
        """Return an x or output as float64 with time first, whatever the layout.

        But for the cast, the method is its own inverse.
        """
        return to_float64(array.swapaxes(0, 1) if config.batch_first else array)

    def slope(self, h: Floats, nonlinearity: str) -> Floats:
        """Return phi'(s_t), given the state h_t = phi(s_t).

        It is 1 - h_t**2 for tanh. For relu it is 1 where h_t > 0, else 0. It is 1 for any other phi, such as a fault's.
        """
        if nonlinearity == "tanh":
            return 1 - h * h
        return (h > 0).astype(np.float64) if nonlinearity == "relu" else np.ones_like(h)

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        """Return phi'(s_t) of a layer and direction (T, N, H), computed from its states ``own``.

        ``x`` and ``previous`` are all that its steps read; a fault may compute the slopes from these.
        """
        return self.slope(own, self.slope_of(case.config, at[0]))

    def slope_of(self, config: RNNConfig, layer: int) -> str:
        """Return the name of the phi whose slope a layer takes on the way back: the phi that it applies."""
        return self.nonlinearity_of(config, layer)

    def reaches(self, config: RNNConfig, direction: int, step: int) -> bool:
        """Tell whether the way back gets to a direction's step at all (0: its first)."""
        return True

    def flows_back(self, config: RNNConfig, step: int) -> bool:
        """Tell whether the gradient of the state that a direction's step (0: its first) reads goes on to its origin."""
        return True

    def weights_back(self, at: tuple[int, int], w: StepWeights) -> StepWeights:
        """Return the parameters that multiply da_t on its way back: W_ih^T da_t to x_t, W_hh^T da_t to h_{t-1}."""
        return w

    def weight_to_start(self, back: StepWeights) -> Floats:
        """Return the weight that multiplies the first step's da on its way to hx."""
        return back.hh

    def to_previous(self, da: Floats, dh: Floats, hh: Floats) -> Floats:
        """Return what a step gives back to the state that it read: W_hh^T da_t."""
        return da @ hh

    def conjugate(self, array: Floats) -> Floats:
        """Return the conjugate of a factor that stands beside a gradient in a product; real numbers stay the same."""
        return array.conj()

    def entering(self, config: RNNConfig, direction: int, parameter: int, da: Floats) -> Floats:
        """Return the part of da (T, N, H) that enters the gradient of a parameter: all of it.

        ``parameter`` is the parameter's place in ``StepWeights``.
        """
        return da

    def remembered(self, config: RNNConfig, direction: int, previous: Floats, own: Floats) -> Floats:
        """Return the states (T, N, H) that stand beside da in the gradient of W_hh: those that the steps read."""
        return previous

    def output_gradient(self, case: Case) -> Floats:
        """Return the gradient of the loss by the top layer's output (T, N, D*H).

        It comes through the readout where the loss reads that.
        """
        config = case.config
        if "output.grad" in case.cotangents:
            return self.time_major(case.cotangents["output.grad"], config)
        if "readout.grad" in case.cotangents:
            return self.readout_gradient(case) @ self.conjugate(readout_weights(case)[0])
        return zeros(config, config.T, config.N, config.num_directions * config.hidden_size)

    def readout_gradient(self, case: Case) -> Floats:
        """Return the gradient of the loss by the readout (T, N, O)."""
        return self.time_major(case.cotangents["readout.grad"], case.config)

    def final_gradients(self, case: Case) -> dict[tuple[int, int], Floats]:
        """Return the gradient of the loss by the final state (N, H) of every layer and direction.

        It is that of the state's row of h_n, or the sum of those of its rows.
        """
        config, order = case.config, self.h_n_order(case.config)
        found: dict[tuple[int, int], Floats] = {}
        if "h_n.grad" in case.cotangents:
            for key, row in zip(order, to_float64(case.cotangents["h_n.grad"]), strict=True):
                found[key] = row if key not in found else found[key] + row
        every = ((layer, d) for layer in range(config.num_layers) for d in range(config.num_directions))
        return {key: found[key] if key in found else zeros(config, config.N, config.hidden_size) for key in every}

    def final_step_back(self, config: RNNConfig, direction: int) -> Steps:
        """Return the time step whose state is given the gradient of h_n: the step whose state is h_n."""
        return self.final_step(config, direction)

    def factors_back(self, case: Case, layer: int) -> Floats | None:
        """Return dropout's factors for the gradient of the next layer's input, on its way to a layer's output."""
        return self.factors(case, layer)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        """Return the gradient of this name in the form in which the caller gets it: unchanged."""
        return gradient

    def run(self, case: Case) -> dict[str, Floats]:
        """Return every array that ``config.returned`` names, in its shape, in float64; with a loss, gradients, too."""
        config = case.config
        states = self.states(case)
        rows = [
            at_steps(states[layer], self.final_step(config, d))[:, self.features(config, d)]
            for layer, d in self.h_n_order(config)
        ]
        output = self.written(case, config.num_layers - 1, states[-1])
        arrays = {"output": self.layout(output, config), "h_n": np.stack(rows)}
        if config.output_size is not None:
            read = self.readout_input(config, output)
            arrays["readout"] = self.layout(self.readout(read, *readout_weights(case)), config)
        return arrays if config.loss is None else arrays | self.gradients(case, states)

    def states(self, case: Case) -> list[Floats]:
        """Return the states of every layer, (T, N, D*H)."""
        config = case.config
        visited = self.visited(config)
        below: list[Floats] = [self.time_major(case.x, config)]
        states: list[Floats] = []
        for layer in range(config.num_layers):
            own = zeros(config, config.T, config.N, config.num_directions * config.hidden_size)
            states.append(own)
            for d in range(config.num_directions):
                x, h = self.layer_input(case, layer, d, below), self.start(case, layer, d, states)
                self.run_direction(case, (layer, d), x, h, own[..., self.features(config, d)], visited=visited)
            below.append(self.between(case, layer, self.written(case, layer, own)))
        return states

    def gradients(self, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
        """Return the gradient of the case's loss by every input and parameter, at the states (T, N, D*H) of each layer.

        The loss is the sum of the cotangents times the arrays that they belong to.
        """
        config = case.config
        below = [self.time_major(case.x, config)]
        below += [self.between(case, layer, self.written(case, layer, own)) for layer, own in enumerate(states[:-1])]
        g_below = [np.zeros_like(array) for array in below]
        g, g_final, visited = self.output_gradient(case), self.final_gradients(case), self.visited(config)
        of_weights: dict[tuple[int, int], StepWeights] = {}
        g_hx: dict[tuple[int, int], Floats] = {}
        for layer in reversed(range(config.num_layers)):
            if layer < config.num_layers - 1:
                factors = self.factors_back(case, layer)
                g = g_below[layer + 1] if factors is None else self.dropped(g_below[layer + 1], factors)
            g = self.written_back(case, layer, g)
            to_input: list[Floats] = []
            for d in reversed(range(config.num_directions)):
                at, part = (layer, d), self.features(config, d)
                x, own = self.layer_input(case, layer, d, below[: layer + 1]), states[layer][..., part]
                previous = self.previous_states(case, layer, d, own, states)
                slopes = self.conjugate(self.slopes(case, at, x, previous, own))
                da, g_start = self.back_direction(case, at, g[..., part], g_final[at], slopes, visited=visited)
                of_weights[at] = self.weight_gradients(config, d, da, (x, self.remembered(config, d, previous, own)))
                back = self.weights_back(at, self.step_weights(case, layer, d))
                to_input.append(da @ self.conjugate(back.ih))
                source = self.starts_from(config, layer, d)
                if source is not None:
                    g_final[source], g_start = g_final[source] + g_start, np.zeros_like(g_start)
                g_hx[at] = g_start
            for d, g_input in enumerate(reversed(to_input)):
                self.read_back(case, (layer, d), g_input, g_below[: layer + 1])
        found = self.parameter_gradients(case, of_weights)
        found |= {"x.grad": self.layout(g_below[0], config), "hx.grad": self.hx_gradient(case, g_hx)}
        if config.output_size is not None:
            output = self.written(case, config.num_layers - 1, states[-1])
            found |= readout_gradients(self, case, self.readout_input(config, output))
        return {name: self.returned_gradient(config, name, found[name]) for name in config.gradients}

    def weight_gradients(
        self, config: RNNConfig, direction: int, da: Floats, beside: tuple[Floats, Floats]
    ) -> StepWeights:
        """Return the gradients of the parameters of one layer and direction, given its da.

        ``beside`` holds the arrays that W_ih and W_hh multiply on the way forward.
        """
        rows = [self.entering(config, direction, i, da) for i in range(len(StepWeights._fields))]
        products = [
            np.einsum("tni,tnk->ik", of, self.conjugate(factor)) for of, factor in zip(rows, beside, strict=False)
        ]
        return StepWeights(*products, *(of.sum((0, 1)) for of in rows[2:]))

    def parameter_gradients(self, case: Case, of_weights: Mapping[tuple[int, int], StepWeights]) -> dict[str, Floats]:
        """Return the gradients of all parameters by name, given those of every layer and direction."""
        return {
            f"{name}.grad": gradient
            for at, gradients in of_weights.items()
            for name, gradient in zip(weight_names(*at, bias=case.config.bias), gradients, strict=False)
        }

    def hx_gradient(self, case: Case, rows: Mapping[tuple[int, int], Floats]) -> Floats:
        """Return the gradient of hx (L*D, N, H), given those of the initial state of every layer and direction."""
        return np.stack([rows[key] for key in sorted(rows)])

    def written_back(self, case: Case, layer: int, g: Floats) -> Floats:
        """Return the gradient by the states of a layer (T, N, D*H), given the gradient by its output."""
        return g

    def read_back(self, case: Case, at: tuple[int, int], g: Floats, g_below: Sequence[Floats]) -> None:
        """Add the gradient by the input of a layer and direction to the gradients by x and by the outputs below it."""
        g_below[-1][...] += g

    def tangents(self, case: Case, tangents: Mapping[str, Array]) -> dict[str, Floats]:
        """Return the directional derivatives of output and h_n along ``tangents`` of every input and parameter.

        They are ds_t = W_ih dx_t + dW_ih x_t + db_ih + W_hh dh_{t-1} + dW_hh h_{t-1} + db_hh, and
        dh_t = phi'(s_t) ds_t.
        """
        config = case.config.prefix(case.config.num_layers)
        along, kind = Case.from_arrays(config, tangents), self.nonlinearity(config)
        below, d_below = self.time_major(case.x, config), self.time_major(along.x, config)
        rows = []
        for layer in range(config.num_layers):
            output = zeros(config, config.T, config.N, config.num_directions * config.hidden_size)
            d_output = np.empty_like(output)
            for d in range(config.num_directions):
                part = self.features(config, d)
                w, dw = self.step_weights(case, layer, d), self.step_weights(along, layer, d)
                h, dh = self.initial_state(case, layer, d), self.initial_state(along, layer, d)
                for t in self.time_order(config, d):
                    ds = d_below[t] @ w.ih.T + dh @ w.hh.T + self.preactivation(below[t], h, dw)
                    h = self.activation(self.preactivation(below[t], h, w), kind)
                    dh = self.slope(h, kind) * ds
                    output[t][:, part], d_output[t][:, part] = h, dh
                rows.append(d_output[self.final_step(config, d)][:, part])
            below, d_below = output, d_output
        return {"output.tangent": self.layout(d_below, config), "h_n.tangent": np.stack(rows)}

    def previous_states(
        self, case: Case, layer: int, direction: int, own: Floats, states: Sequence[Floats] | None = None
    ) -> Floats:
        """Return the state that each step of a direction read (T, N, H): the state before it, or the initial one.

        ``own`` holds the direction's states. ``states`` holds those of every layer; it matters where the initial state
        is one of them.
        """
        order = np.asarray(self.time_order(case.config, direction))
        previous = np.zeros_like(own)  # a shorter packed sequence may lack the first step; it stays zero
        previous[order[1:]] = own[order[:-1]]
        at = (layer, direction)
        start = self.initial_state(case, *at) if states is None else self.start(case, *at, states)
        write_steps(previous, self.first_step(case.config, direction), start)
        return previous

    def layout(self, array: Floats, config: RNNConfig) -> Floats:
        """Return an array that was computed with time first, in the layout that the config asks of x and output."""
        return array.swapaxes(0, 1) if config.batch_first else array

    def run_direction(
        self, case: Case, at: tuple[int, int], x: Floats, start: Floats, states: Floats, *, visited: Visited | None
    ) -> None:
        """Write the states (T, N, H) of one layer and direction, step by step from the initial one."""
        w, kind = self.step_weights(case, *at), self.nonlinearity_of(case.config, at[0])
        held = [start]
        for step, t in enumerate(self.time_order(case.config, at[1])):
            h = recalled(held, self.reads(case.config, step))
            new = self.step(x[t], h, w, kind)
            held.append(new if visited is None else np.where(visited[t], new, held[-1]))
            states[t] = new if visited is None else np.where(visited[t], new, 0.0)

    def back_direction(
        self, case: Case, at: tuple[int, int], g: Floats, g_final: Floats, slopes: Floats, *, visited: Visited | None
    ) -> tuple[Floats, Floats]:
        """Return da (T, N, H) of one layer and direction, and the gradient by its initial state (N, H).

        ``g`` is the gradient by its states (T, N, H). ``g_final`` is what its final state is given beyond that.
        """
        config, back = case.config, self.weights_back(at, self.step_weights(case, *at))
        hh = self.conjugate(back.hh)
        given = np.zeros(slopes.shape, np.result_type(g, slopes))
        da, dh, carried = np.empty_like(given), np.empty_like(given), np.zeros_like(given[0])
        write_steps(given, self.final_step_back(config, at[1]), g_final)
        for step, t in reversed(list(enumerate(self.time_order(config, at[1])))):
            dh[t] = g[t] + carried + given[t]
            da[t] = dh[t] * slopes[t] if self.reaches(config, at[1], step) else 0.0
            if visited is not None:
                da[t] = np.where(visited[t], da[t], 0.0)
            flows = self.flows_back(config, step)
            carried = self.to_previous(da[t], dh[t], hh) if flows else np.zeros_like(carried)
        first = self.first_step(config, at[1])
        to_start = self.conjugate(self.weight_to_start(back))
        return da, self.to_previous(at_steps(da, first), at_steps(dh, first), to_start)


def recalled(held: Sequence[Floats], steps: Sequence[int]) -> Floats:
    """Return the sum of the states of some steps; ``held`` holds all states from the initial one on."""
    if len(steps) == 1:
        return held[steps[0] + 1]
    return np.sum([held[step + 1] for step in steps], 0) if steps else np.zeros_like(held[0])


def readout_gradients(reference: Reference, case: Case, output: Floats) -> dict[str, Floats]:
    """Return the gradients of the readout's weight (O, D*H) and bias (O); zeros where the loss does not read it."""
    config, weight = case.config, readout_weights(case)[0]
    if "readout.grad" not in case.cotangents:
        return {"readout.weight.grad": np.zeros_like(weight), "readout.bias.grad": zeros(config, weight.shape[0])}
    g = reference.readout_gradient(case).reshape(-1, weight.shape[0])
    return {
        "readout.weight.grad": g.T @ reference.conjugate(output).reshape(-1, weight.shape[1]),
        "readout.bias.grad": g.sum(0),
    }


def readout_weights(case: Case) -> tuple[Floats, Floats]:
    """Return the readout's weight (O, D*H) and bias (O)."""
    return to_float64(case.weights["readout.weight"]), to_float64(case.weights["readout.bias"])


def keep_scale(config: RNNConfig) -> float:
    """Return the factor for what dropout keeps: 1 / (1 - p); at p = 1 it keeps nothing, and the factor is 0."""
    return 1 / (1 - config.dropout) if config.dropout < 1 else 0.0


def at_steps(array: Floats, steps: Steps) -> Floats:
    """Return one time step of (T, N, ..): the same for every sequence, or one for each."""
    return array[steps] if isinstance(steps, int) else array[steps, np.arange(array.shape[1])]


def write_steps(array: NDArray[Any], steps: Steps, values: NDArray[Any]) -> None:
    """Write (N, ..) into one time step of (T, N, ..): the same for every sequence, or one for each."""
    if isinstance(steps, int):
        array[steps] = values
    else:
        array[steps, np.arange(array.shape[1])] = values


def zeros(config: RNNConfig, *shape: int) -> Floats:
    """Return zeros of the dtype that a config's numbers are cast to."""
    return np.zeros(shape, np.complex128 if config.is_complex else np.float64)


def to_float64(array: Array) -> Floats:
    """Cast an array to float64, or to complex128.

    The cast is exact: every number of the narrower dtypes is a float64, and so is each part of a complex number.
    """
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
