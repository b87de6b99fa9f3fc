"""layer: a right RNN in float64, forward and back, cut into small methods that a fault may change.

Every choice that an implementation can get wrong is a method. It shares no code with the reference, and
``tests/quality/test_planted_layer.py`` holds the two against each other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.space.case import Array, Case
from harness.space.config import RNNConfig, weight_names

Floats = NDArray[np.float64]
Steps = int | NDArray[np.intp]  # A time step; for packed sequences, an array (N) of one time step for each
Visited = NDArray[np.bool_]  # A mask (T, N, 1) of the steps that each sequence has
Place = tuple[int, int]  # A layer and a direction
Moving = tuple[Floats, ...]  # Gradients (N, H) that move together from step to step


class StepWeights(NamedTuple):
    """The parameters of one layer and direction: W_ih (H, I) or (H, D*H), W_hh (H, H), b_ih and b_hh (H)."""

    ih: Floats
    hh: Floats
    b_ih: Floats
    b_hh: Floats


class Back(NamedTuple):
    """The gradients of all that one layer and direction read."""

    weights: StepWeights
    x: Floats  # The gradient by its input (T, N, I or D*H)
    start: Floats  # The gradient by its initial state (N, H)


class Read(NamedTuple):
    """The operands and the states of the steps of one layer and direction, (T, N, ..) each."""

    x: Floats
    previous: Floats
    own: Floats


class Layer:
    """nn.RNN, each of whose choices is a method."""

    changed: frozenset[str] = frozenset()  # The names of the choices that are not nn.RNN's own

    # A step.

    def nonlinearity(self, config: RNNConfig, layer: int) -> str:
        """Return the name of the phi that a layer applies: the same in every layer."""
        return config.nonlinearity

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        """Return s_t, for rows of x (.., I) and of the previous state h (.., H)."""
        return x @ w.ih.T + w.b_ih + h @ w.hh.T + w.b_hh

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        """Return tanh(s_t) or max(s_t, 0)."""
        return np.tanh(s) if nonlinearity == "tanh" else np.maximum(s, 0)

    def new_state(self, activated: Floats, h: Floats, w: StepWeights) -> Floats:
        """Return h_t, given phi(s_t), the state that the step read, and the parameters: phi(s_t) itself."""
        return activated

    def step(self, x: Floats, h: Floats, w: StepWeights, nonlinearity: str) -> Floats:
        """Return h_t, for rows of x (.., I) and of the previous state h (.., H)."""
        return self.new_state(self.activation(self.preactivation(x, h, w), nonlinearity), h, w)

    # What a layer and direction read.

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        """Return the parameters of one layer and direction; a bias that the config leaves out is zero."""
        w = [to_float64(case.weights[name]) for name in weight_names(layer, direction, bias=case.config.bias)]
        return StepWeights(*w, *([np.zeros(case.config.hidden_size)] * (4 - len(w))))

    def initial_state(self, case: Case, layer: int, direction: int) -> Floats:
        """Return h_0 (N, H) of one layer and direction: its row of hx, or zeros."""
        if case.hx is None:
            return np.zeros((case.config.N, case.config.hidden_size))
        return to_float64(self.hx_row(case.config, layer, direction, case.hx))

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        """Return the part of hx (L*D, N, H) that is the initial state (N, H) of a layer and direction."""
        row: Array = hx[layer * config.num_directions + direction]
        return row

    def starts_from(self, config: RNNConfig, layer: int, direction: int) -> Place | None:
        """Return the layer and direction whose final state is the initial one; ``None`` if ``initial_state`` is."""
        return None

    def start(self, case: Case, layer: int, direction: int, states: Sequence[Floats]) -> Floats:
        """Return h_0 (N, H) of one layer and direction, given the states (T, N, D*H) that were computed before it."""
        source = self.starts_from(case.config, layer, direction)
        if source is None:
            return self.initial_state(case, layer, direction)
        final = at_steps(states[source[0]], self.final_step(case.config, source[1]))
        return final[:, self.features(case.config, source[1])]

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        """Return what a layer and direction read: the last array of ``below``.

        ``below`` holds x (T, N, I), and what ``between`` left of each output below.
        """
        return below[-1]

    # Time.

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
        """Return the time step whose state is h_n: the last one visited."""
        lengths = self.lengths(config)
        if lengths is None:
            return self.time_order(config, direction)[-1]
        steps = np.array(self.time_order(config, direction))[:, None]
        behind = np.where(steps < np.array(lengths), np.arange(config.T)[:, None], -1)
        return np.asarray(steps[behind.argmax(0), 0])

    def first_step(self, config: RNNConfig, direction: int) -> Steps:
        """Return the time step that reads the initial state: the first one visited."""
        lengths = self.lengths(config)
        if lengths is None:
            return self.time_order(config, direction)[0]
        steps = np.array(self.time_order(config, direction))[:, None]
        return np.asarray(steps[(steps < np.array(lengths)).argmax(0), 0])

    def visited(self, config: RNNConfig) -> Visited | None:
        """Return a mask (T, N, 1) of the steps that each sequence has; ``None`` if every sequence has T."""
        lengths = self.lengths(config)
        return None if lengths is None else (np.arange(config.T)[:, None] < np.array(lengths))[..., None]

    # Between layers, and what is returned.

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        """Return the output of a layer, given its states (T, N, D*H): the states themselves.

        The next layer reads it, and the caller gets that of the top layer.
        """
        return states

    def between(self, case: Case, layer: int, output: Floats) -> Floats:
        """Return what the next layer reads of a layer's output (T, N, D*H)."""
        factors = self.factors(case, layer)
        return output if factors is None else self.dropped(output, factors)

    def factors(self, case: Case, layer: int) -> Floats | None:
        """Return the factors of dropout for a layer's output (T, N, D*H); ``None`` where it drops nothing."""
        return case.masks[layer] * keep_scale(case.config) if layer in case.masks else None

    def dropped(self, array: Floats, factors: Floats) -> Floats:
        """Return what dropout leaves of an array: what it keeps, times 1 / (1 - p), and zeros, whatever stood there."""
        return np.where(factors == 0, 0.0, array * factors)

    def features(self, config: RNNConfig, direction: int) -> slice:
        """Return the slice of a direction's units among the D*H features of an output: forward first."""
        H = config.hidden_size
        return slice(direction * H, (direction + 1) * H)

    def h_n_order(self, config: RNNConfig) -> list[Place]:
        """Return the (layer, direction) of each row of h_n."""
        return [(layer, d) for layer in range(config.num_layers) for d in range(config.num_directions)]

    def readout(self, output: Floats, weight: Floats, bias: Floats) -> Floats:
        """Return y_t = W h_t + b for every time step."""
        return output @ weight.T + bias

    def readout_input(self, config: RNNConfig, output: Floats) -> Floats:
        """Return the part of the output (T, N, D*H) that is read out: all of it."""
        return output

    def time_major(self, array: Array, config: RNNConfig) -> Floats:
        """Return an x or output as float64 with time first, whatever the layout."""
        return to_float64(array.swapaxes(0, 1) if config.batch_first else array)

    def layout(self, array: Floats, config: RNNConfig) -> Floats:
        """Return an array that was computed with time first, in the layout that the config asks of x and output."""
        return array.swapaxes(0, 1) if config.batch_first else array

    # The loss, and the way back.

    def reaches(self, config: RNNConfig, direction: int, step: int) -> bool:
        """Tell whether the way back gets to a direction's step at all (0: its first)."""
        return True

    def flows_back(self, config: RNNConfig, step: int) -> bool:
        """Tell whether the gradient of the state that a direction's step (0: its first) reads goes on to its origin."""
        return True

    def output_gradient(self, case: Case) -> Floats:
        """Return the gradient of the loss by the top layer's output (T, N, D*H)."""
        config = case.config
        if "output.grad" in case.cotangents:
            return self.time_major(case.cotangents["output.grad"], config)
        if "readout.grad" in case.cotangents:
            return self.readout_gradient(case) @ _readout_weights(case)[0]
        return np.zeros((config.T, config.N, config.num_directions * config.hidden_size))

    def readout_gradient(self, case: Case) -> Floats:
        """Return the gradient of the loss by the readout (T, N, O)."""
        return self.time_major(case.cotangents["readout.grad"], case.config)

    def final_gradients(self, case: Case) -> dict[Place, Floats]:
        """Return the gradient of the loss by the final state (N, H) of every layer and direction, that of its rows."""
        config = case.config
        shape = (config.N, config.hidden_size)
        found = {(la, d): np.zeros(shape) for la in range(config.num_layers) for d in range(config.num_directions)}
        if "h_n.grad" in case.cotangents:
            for key, row in zip(self.h_n_order(config), to_float64(case.cotangents["h_n.grad"]), strict=True):
                found[key] = found[key] + row
        return found

    def final_step_back(self, config: RNNConfig, direction: int) -> Steps:
        """Return the time step whose state is given the gradient of h_n: the step whose state is h_n."""
        return self.final_step(config, direction)

    def factors_back(self, case: Case, layer: int) -> Floats | None:
        """Return dropout's factors for the gradient of the next layer's input, on its way to a layer's output."""
        return self.factors(case, layer)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        """Return the gradient of this name in the form in which the caller gets it: unchanged."""
        return gradient

    def parameter_gradients(self, case: Case, of_weights: Mapping[Place, StepWeights]) -> dict[str, Floats]:
        """Return the gradients of all parameters by name, given those of every layer and direction."""
        return {
            f"{name}.grad": gradient
            for at, gradients in of_weights.items()
            for name, gradient in zip(weight_names(*at, bias=case.config.bias), gradients, strict=False)
        }

    def hx_gradient(self, case: Case, rows: Mapping[Place, Floats]) -> Floats:
        """Return the gradient of hx (L*D, N, H), given those of the initial state of every layer and direction."""
        return np.stack([rows[key] for key in sorted(rows)])

    def written_back(self, case: Case, layer: int, g: Floats) -> Floats:
        """Return the gradient by the states of a layer (T, N, D*H), given the gradient by its output."""
        return g

    def read_back(self, case: Case, at: Place, g: Floats, g_below: Sequence[Floats]) -> None:
        """Add the gradient by the input of a layer and direction to the gradients by x and by the outputs below it."""
        g_below[-1][...] += g

    def slope(self, h: Floats, nonlinearity: str) -> Floats:
        """Return phi'(s_t), given the state h_t = phi(s_t): 1 for a phi that is neither tanh nor relu."""
        if nonlinearity == "tanh":
            return 1 - h * h
        return (h > 0).astype(np.float64) if nonlinearity == "relu" else np.ones_like(h)

    def slope_of(self, config: RNNConfig, layer: int) -> str:
        """Return the name of the phi whose slope a layer takes on the way back: the phi that it applies."""
        return self.nonlinearity(config, layer)

    def slopes(self, case: Case, at: Place, x: Floats, previous: Floats, own: Floats) -> Floats:
        """Return phi'(s_t) of a layer and direction (T, N, H), given all that its steps read and its states ``own``."""
        return self.slope(own, self.slope_of(case.config, at[0]))

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
        """Return the part of da (T, N, H) that enters the gradient of a parameter, by its place in ``StepWeights``."""
        return da

    def remembered(self, config: RNNConfig, direction: int, previous: Floats, own: Floats) -> Floats:
        """Return the states (T, N, H) that stand beside da in the gradient of W_hh: those that the steps read."""
        return previous

    # The loops.

    def run(self, case: Case) -> dict[str, Floats]:
        """Return every array that ``config.returned`` names, in its shape; with a loss, gradients, too."""
        config, states = case.config, self.states(case)
        rows = [
            at_steps(states[layer], self.final_step(config, d))[:, self.features(config, d)]
            for layer, d in self.h_n_order(config)
        ]
        output = self.written(case, config.num_layers - 1, states[-1])
        arrays = {"output": self.layout(output, config), "h_n": np.stack(rows)}
        if config.output_size is not None:
            read = self.readout_input(config, output)
            arrays["readout"] = self.layout(self.readout(read, *_readout_weights(case)), config)
        return arrays if config.loss is None else arrays | self.gradients(case, states)

    def states(self, case: Case) -> list[Floats]:
        """Return the states of every layer, (T, N, D*H)."""
        config, visited = case.config, self.visited(case.config)
        below, states = [self.time_major(case.x, config)], list[Floats]()
        for layer in range(config.num_layers):
            own = np.zeros((config.T, config.N, config.num_directions * config.hidden_size))
            for d in range(config.num_directions):
                x, h = self.layer_input(case, layer, d, below), self.start(case, layer, d, [*states, own])
                self.run_direction(case, (layer, d), x, h, own[..., self.features(config, d)], visited=visited)
            states.append(own)
            if layer < config.num_layers - 1:
                below.append(self.between(case, layer, self.written(case, layer, own)))
        return states

    def run_direction(
        self, case: Case, at: Place, x: Floats, start: Floats, states: Floats, *, visited: Visited | None
    ) -> None:
        """Write the states (T, N, H) of one layer and direction, step by step from the initial one."""
        w, kind = self.step_weights(case, *at), self.nonlinearity(case.config, at[0])
        self.along_time(case.config, at[1], start, lambda t, h: self.step(x[t], h, w, kind), states, visited=visited)

    def along_time(
        self,
        config: RNNConfig,
        direction: int,
        start: Floats,
        step: Callable[[int, Floats], Floats],
        states: Floats,
        *,
        visited: Visited | None,
    ) -> None:
        """Write the states (T, N, H) of one direction, step by step from the initial one.

        ``step`` returns the state of a time step, given the state that it reads. Padding is zero, and leaves no trace.
        """
        held = [start]
        for number, t in enumerate(self.time_order(config, direction)):
            read = sum((held[read + 1] for read in self.reads(config, number)), np.zeros_like(start))
            new = step(t, read)
            held.append(new if visited is None else np.where(visited[t], new, held[-1]))
            states[t] = new if visited is None else np.where(visited[t], new, 0.0)

    def back_along_time(
        self,
        config: RNNConfig,
        direction: int,
        step: Callable[[int, Moving | None], Moving],
        gradients: Moving,
        *,
        visited: Visited | None,
    ) -> None:
        """Write the gradients (T, N, H) of one direction, from its last step to its first.

        ``step`` returns those of a time step, given those of the step that read its state: ``None`` where no gradient
        comes from there. Padding has none.
        """
        later = None
        for number, t in reversed(list(enumerate(self.time_order(config, direction)))):
            new = step(t, later)
            if visited is not None:
                new = tuple(np.where(visited[t], one, 0.0) for one in new)
            for array, gradient in zip(gradients, new, strict=True):
                array[t] = gradient
            later = new if self.flows_back(config, number) else None

    def previous_states(
        self, case: Case, layer: int, direction: int, own: Floats, states: Sequence[Floats] | None = None
    ) -> Floats:
        """Return the state that each step of a direction read (T, N, H): the state before it, or the initial one.

        ``own`` holds the direction's states. ``states`` holds those of every layer; it matters where the initial state
        is one of them.
        """
        order = np.asarray(self.time_order(case.config, direction))
        previous = np.zeros(own.shape, own.dtype)  # a shorter packed sequence may lack the first step; it stays zero
        previous[order[1:]] = own[order[:-1]]
        at = (layer, direction)
        start = self.initial_state(case, *at) if states is None else self.start(case, *at, states)
        write_steps(previous, self.first_step(case.config, direction), start)
        return previous

    def gradients(self, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
        """Return the gradient of the case's loss by every input and parameter, at the states (T, N, D*H) of each layer.

        The loss is the sum of the cotangents times the arrays that they belong to.
        """
        config, visited = case.config, self.visited(case.config)
        passed = (self.between(case, layer, self.written(case, layer, own)) for layer, own in enumerate(states[:-1]))
        below = [self.time_major(case.x, config), *passed]
        g_below = [np.zeros_like(array) for array in below]
        g, g_final = self.output_gradient(case), self.final_gradients(case)
        of_weights: dict[Place, StepWeights] = {}
        g_hx: dict[Place, Floats] = {}
        for layer in reversed(range(config.num_layers)):
            if layer < config.num_layers - 1:
                factors = self.factors_back(case, layer)
                g = g_below[layer + 1] if factors is None else self.dropped(g_below[layer + 1], factors)
            g = self.written_back(case, layer, g)
            to_input: list[Floats] = []
            for d in reversed(range(config.num_directions)):
                at, part = (layer, d), self.features(config, d)
                x, own = self.layer_input(case, layer, d, below[: layer + 1]), states[layer][..., part]
                read = Read(x, self.previous_states(case, layer, d, own, states), own)
                back = self.back_through(case, at, read, (g[..., part], g_final[at]), visited=visited)
                of_weights[at], g_start = back.weights, back.start
                to_input.append(back.x)
                source = self.starts_from(config, layer, d)
                if source is not None:
                    g_final[source], g_start = g_final[source] + g_start, np.zeros_like(g_start)
                g_hx[at] = g_start
            for d, g_input in enumerate(reversed(to_input)):
                self.read_back(case, (layer, d), g_input, g_below[: layer + 1])
        found = self.parameter_gradients(case, of_weights)
        found["x.grad"] = self.layout(g_below[0], config)
        found["hx.grad"] = self.hx_gradient(case, g_hx)
        if config.output_size is not None:
            output = self.written(case, config.num_layers - 1, states[-1])
            found |= self._readout_gradients(case, self.readout_input(config, output))
        return {name: self.returned_gradient(config, name, found[name]) for name in config.gradients}

    def back_through(
        self, case: Case, at: Place, read: Read, given: tuple[Floats, Floats], *, visited: Visited | None
    ) -> Back:
        """Return the gradients of what one layer and direction read.

        ``given`` holds the gradient by its states (T, N, H), and what its final state (N, H) is given beyond that.
        """
        slopes = self.slopes(case, at, *read)
        da, g_start = self.back_direction(case, at, *given, slopes, visited=visited)
        beside = (read.x, self.remembered(case.config, at[1], read.previous, read.own))
        back = self.weights_back(at, self.step_weights(case, *at))
        return Back(self.weight_gradients(case.config, at[1], da, beside), da @ back.ih, g_start)

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

        def step(t: int, later: Moving | None) -> Moving:
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

    def _readout_gradients(self, case: Case, output: Floats) -> dict[str, Floats]:
        """Return the gradients of the readout's weight (O, D*H) and bias (O); zeros where the loss does not read it."""
        weight, bias = _readout_weights(case)
        if "readout.grad" not in case.cotangents:
            return {"readout.weight.grad": np.zeros_like(weight), "readout.bias.grad": np.zeros_like(bias)}
        g = self.readout_gradient(case).reshape(-1, len(bias))
        of_weight = g.T @ output.reshape(-1, weight.shape[1])
        return {"readout.weight.grad": of_weight, "readout.bias.grad": g.sum(0)}


def at_steps(array: Floats, steps: Steps) -> Floats:
    """Return one time step of (T, N, ..): the same for every sequence, or one for each."""
    return array[steps] if isinstance(steps, int) else array[steps, np.arange(array.shape[1])]


def write_steps(array: Floats, steps: Steps, values: Floats) -> None:
    """Write (N, ..) into one time step of (T, N, ..): the same for every sequence, or one for each."""
    if isinstance(steps, int):
        array[steps] = values
    else:
        array[steps, np.arange(array.shape[1])] = values


def to_float64(array: Array) -> Floats:
    """Cast an array to float64, exactly."""
    return array.astype(np.float64)


def keep_scale(config: RNNConfig) -> float:
    """Return the factor for what dropout keeps: 1 / (1 - p); at p = 1 it keeps nothing, and the factor is 0."""
    return 1 / (1 - config.dropout) if config.dropout < 1 else 0.0


def _readout_weights(case: Case) -> tuple[Floats, Floats]:
    return to_float64(case.weights["readout.weight"]), to_float64(case.weights["readout.bias"])
