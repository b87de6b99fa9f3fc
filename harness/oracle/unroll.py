"""unroll: a cell taken through time, directions and layers, there and back.

Values, and values with errors, go through the same loops, ``through_layers`` and ``along_time``. A
state is a tuple of arrays that move together, and the loops do not ask which they are.

Every choice that an implementation can get wrong is a small method, which a fault may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from numpy.typing import NDArray

from harness.oracle.bound import np
from harness.oracle.cell import Cell, StepWeights
from harness.oracle.known import Floats, Steps, at_steps, to_float64, write_steps
from harness.space.case import Array, Case
from harness.space.config import RNNConfig, weight_names

Visited = NDArray[np.bool_]  # A mask (T, N, 1) of the steps that each sequence has
Place = tuple[int, int]  # A layer and a direction
State = tuple[Floats, ...]  # A state (N, H), and the arrays that move with it, such as its error
Below = TypeVar("Below")
States = TypeVar("States")


class Back(NamedTuple):
    """The gradients of all that one layer and direction read."""

    weights: StepWeights
    x: Floats  # The gradient by its input (T, N, I or D*H)
    start: Floats  # The gradient by its initial state (N, H)
    carried: State = ()  # Those by the other initial states, of a cell that has some


class Read(NamedTuple):
    """The operands and the states of the steps of one layer and direction, (T, N, ..) each."""

    x: Floats
    previous: Floats
    own: Floats


class Unroll(Cell):
    """A cell over time, directions and layers."""

    changed: frozenset[str] = frozenset()  # The names of the choices, which are methods, that are not nn.RNN's own

    def nonlinearity(self, config: RNNConfig, layer: int) -> str:
        """Return the name of the phi that a layer applies: the same in every layer.

        ``tolerance`` depends on it, too, because it decides what becomes of a rounding error.
        """
        return config.nonlinearity

    def step_weights(self, case: Case, layer: int, direction: int) -> StepWeights:
        """Return the parameters of one layer and direction; a bias that the config leaves out is zero."""
        w = [to_float64(case.weights[name]) for name in weight_names(layer, direction, bias=case.config.bias)]
        if not case.config.bias:
            w += [np.zeros(len(self.gates) * case.config.hidden_size)] * 2
        return StepWeights(*w)

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
        """Return an x or output as float64 with time first, whatever the layout.

        But for the cast, the method is its own inverse.
        """
        return to_float64(array.swapaxes(0, 1) if config.batch_first else array)

    def layout(self, array: Floats, config: RNNConfig) -> Floats:
        """Return an array that was computed with time first, in the layout that the config asks of x and output."""
        return array.swapaxes(0, 1) if config.batch_first else array

    # The loss, and the choices of the way back.

    def reaches(self, config: RNNConfig, direction: int, step: int) -> bool:
        """Tell whether the way back gets to a direction's step at all (0: its first)."""
        return True

    def flows_back(self, config: RNNConfig, step: int) -> bool:
        """Tell whether the gradient of the state that a direction's step (0: its first) reads goes on to its origin."""
        return True

    def output_gradient(self, case: Case) -> Floats:
        """Return the gradient of the loss by the top layer's output (T, N, D*H).

        It comes through the readout where the loss reads that.
        """
        config = case.config
        if "output.grad" in case.cotangents:
            return self.time_major(case.cotangents["output.grad"], config)
        if "readout.grad" in case.cotangents:
            return self.readout_gradient(case) @ readout_weights(case)[0]
        return np.zeros((config.T, config.N, config.num_directions * config.hidden_size))

    def readout_gradient(self, case: Case) -> Floats:
        """Return the gradient of the loss by the readout (T, N, O)."""
        return self.time_major(case.cotangents["readout.grad"], case.config)

    def final_gradients(self, case: Case, name: str = "h_n") -> dict[Place, Floats]:
        """Return the gradient of the loss by the final state (N, H) of every layer and direction.

        It is that of the state's row of h_n, or of the final states of another name, or the sum of those of its rows.
        """
        config, order = case.config, self.h_n_order(case.config)
        found: dict[Place, Floats] = {}
        if f"{name}.grad" in case.cotangents:
            for key, row in zip(order, to_float64(case.cotangents[f"{name}.grad"]), strict=True):
                found[key] = row if key not in found else found[key] + row
        every = ((layer, d) for layer in range(config.num_layers) for d in range(config.num_directions))
        return {key: found[key] if key in found else np.zeros((config.N, config.hidden_size)) for key in every}

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

    # The loops.

    def run(self, case: Case) -> dict[str, Floats]:
        """Return every array that ``config.returned`` names, in its shape, in float64; with a loss, gradients, too."""
        config = case.config
        states = self.states(case)
        rows = [
            at_steps(states[layer], self.final_step(config, d))[:, self.features(config, d)]
            for layer, d in self.h_n_order(config)
        ]
        output = self.written(case, config.num_layers - 1, states[-1])
        arrays = {"output": self.layout(output, config), "h_n": np.stack(rows), **self.carried_final(case, states)}
        if config.output_size is not None:
            read = self.readout_input(config, output)
            arrays["readout"] = self.layout(self.readout(read, *readout_weights(case)), config)
        return arrays if config.loss is None else arrays | self.gradients(case, states)

    def carried_final(self, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
        """Return the final states beside h_n by name, of a cell that has some."""
        return {}

    def states(self, case: Case) -> list[Floats]:
        """Return the states of every layer, (T, N, D*H)."""
        config, visited = case.config, self.visited(case.config)

        def layer_states(layer: int, below: Sequence[Floats], states: Sequence[Floats]) -> Floats:
            own = np.zeros((config.T, config.N, config.num_directions * config.hidden_size))
            for d in range(config.num_directions):
                x, h = self.layer_input(case, layer, d, below), self.start(case, layer, d, [*states, own])
                self.run_direction(case, (layer, d), x, h, own[..., self.features(config, d)], visited=visited)
            return own

        def passed(layer: int, states: Sequence[Floats]) -> Floats:
            return self.between(case, layer, self.written(case, layer, states[-1]))

        return through_layers(config.num_layers, self.time_major(case.x, config), layer_states, passed)

    def run_direction(
        self, case: Case, at: Place, x: Floats, start: Floats, states: Floats, *, visited: Visited | None
    ) -> None:
        """Write the states (T, N, H) of one layer and direction, step by step from the initial one."""
        w, kind = self.step_weights(case, *at), self.nonlinearity(case.config, at[0])

        def step(t: int, held: State) -> State:
            return self.moved(x[t], held, w, kind)

        self.along_time(case.config, at[1], (start, *self.initial(case, at)), step, (states,), visited=visited)

    def initial(self, case: Case, at: Place) -> State:
        """Return the initial states beside h, of a cell that has some."""
        return ()

    def moved(self, x: Floats, held: State, w: StepWeights, kind: str) -> State:
        """Return the states after a step, h first."""
        return (self.step(x, held[0], w, kind),)

    def read_below(self, case: Case, states: Sequence[Floats]) -> list[Floats]:
        """Return what each layer reads, (T, N, ..), given the states of each."""
        passed = (self.between(case, layer, self.written(case, layer, own)) for layer, own in enumerate(states[:-1]))
        return [self.time_major(case.x, case.config), *passed]

    def along_time(
        self,
        config: RNNConfig,
        direction: int,
        start: State,
        step: Callable[[int, State], State],
        states: State,
        *,
        visited: Visited | None,
    ) -> None:
        """Write the states (T, N, H) of one direction, step by step from the initial one, with what moves with them.

        ``step`` returns the state of a time step, given the state that it reads. If it returns more arrays than
        ``states`` holds, the rest is carried on to later steps, and not written. Padding is zero, and leaves no trace.
        """
        held, partly = [start], _partly(visited)
        for step_number, t in enumerate(self.time_order(config, direction)):
            new = step(t, recalled(held, self.reads(config, step_number)))
            if t in partly:
                held.append(_where(partly[t], new, held[-1]))
                new = _where(partly[t], new)
            else:
                held.append(new)
            for array, state in zip(states, new, strict=False):
                array[t] = state

    def back_along_time(
        self,
        config: RNNConfig,
        direction: int,
        step: Callable[[int, State | None], State],
        gradients: State,
        *,
        visited: Visited | None,
    ) -> None:
        """Write the gradients (T, N, H) of one direction, from its last step to its first.

        ``step`` returns those of a time step, given those of the step that read its state: ``None`` where no gradient
        comes from there. Padding has none.
        """
        later, partly = None, _partly(visited)
        for step_number, t in reversed(list(enumerate(self.time_order(config, direction)))):
            new = step(t, later)
            if t in partly:
                new = _where(partly[t], new)
            for array, gradient in zip(gradients, new, strict=True):
                array[t] = gradient
            later = new if self.flows_back(config, step_number) else None

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
        config = case.config
        below = self.read_below(case, states)
        g_below = [np.zeros_like(array) for array in below]
        g, g_final, visited = self.output_gradient(case), self.final_gradients(case), self.visited(config)
        of_weights: dict[Place, StepWeights] = {}
        g_hx: dict[Place, State] = {}
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
                of_weights[at], g_input, g_start, carried = self.back_through(
                    case, at, read, (g[..., part], g_final[at]), visited=visited
                )
                to_input.append(g_input)
                source = self.starts_from(config, layer, d)
                if source is not None:
                    g_final[source], g_start = g_final[source] + g_start, np.zeros_like(g_start)
                g_hx[at] = (g_start, *carried)
            for d, g_input in enumerate(reversed(to_input)):
                self.read_back(case, (layer, d), g_input, g_below[: layer + 1])
        found = self.parameter_gradients(case, of_weights)
        found["x.grad"] = self.layout(g_below[0], config)
        for i, name in enumerate(config.form.hidden):
            found[f"{name}.grad"] = self.hx_gradient(case, {at: of[i] for at, of in g_hx.items()})
        if config.output_size is not None:
            output = self.written(case, config.num_layers - 1, states[-1])
            found |= readout_gradients(self, case, self.readout_input(config, output))
        return {name: self.returned_gradient(config, name, found[name]) for name in config.gradients}

    def back_through(
        self, case: Case, at: Place, read: Read, given: tuple[Floats, Floats], *, visited: Visited | None
    ) -> Back:
        """Return the gradients of what one layer and direction read.

        ``given`` holds the gradient by its states (T, N, H), and what its final state (N, H) is given beyond that.
        """
        raise NotImplementedError(f"{type(self).__name__} has no gradients yet")


def through_layers(
    num_layers: int,
    x: Below,
    layer_states: Callable[[int, Sequence[Below], Sequence[States]], States],
    passed: Callable[[int, Sequence[States]], Below],
) -> list[States]:
    """Return the states of every layer, from the first one up.

    ``layer_states`` returns those of a layer, given x and what was passed up by each layer below, and the states of
    these layers. ``passed`` returns what the layer above one reads, given the states up to that one.
    """
    below, states = [x], list[States]()
    for layer in range(num_layers):
        states.append(layer_states(layer, below, states))
        if layer < num_layers - 1:
            below.append(passed(layer, states))
    return states


def recalled(held: Sequence[State], steps: Sequence[int]) -> State:
    """Return the sum of the states of some steps; ``held`` holds all states from the initial one on."""
    if len(steps) == 1:
        return held[steps[0] + 1]
    if not steps:
        return tuple(np.zeros_like(array) for array in held[0])
    return tuple(np.sum(arrays, 0) for arrays in zip(*(held[step + 1] for step in steps), strict=True))


def _partly(visited: Visited | None) -> dict[int, Visited]:
    """Return the masks (N, 1) of the time steps that some sequences lack."""
    if visited is None:
        return {}
    return {t: visited[t] for t in np.flatnonzero(~visited.all((1, 2))).tolist()}


def _where(mask: Visited, new: State, old: Iterable[Floats | float] | None = None) -> State:
    """Return each array of ``new`` where the mask is true, and elsewhere that of ``old``, or zero."""
    others = [0.0] * len(new) if old is None else old
    return tuple(np.where(mask, one, other) for one, other in zip(new, others, strict=True))


def readout_gradients(reference: Unroll, case: Case, output: Floats) -> dict[str, Floats]:
    """Return the gradients of the readout's weight (O, D*H) and bias (O); zeros where the loss does not read it."""
    weight = readout_weights(case)[0]
    if "readout.grad" not in case.cotangents:
        return {"readout.weight.grad": np.zeros_like(weight), "readout.bias.grad": np.zeros(weight.shape[0])}
    g = reference.readout_gradient(case).reshape(-1, weight.shape[0])
    return {
        "readout.weight.grad": g.T @ output.reshape(-1, weight.shape[1]),
        "readout.bias.grad": g.sum(0),
    }


def readout_weights(case: Case) -> tuple[Floats, Floats]:
    """Return the readout's weight (O, D*H) and bias (O)."""
    return to_float64(case.weights["readout.weight"]), to_float64(case.weights["readout.bias"])


def keep_scale(config: RNNConfig) -> float:
    """Return the factor for what dropout keeps: 1 / (1 - p); at p = 1 it keeps nothing, and the factor is 0."""
    return 1 / (1 - config.dropout) if config.dropout < 1 else 0.0
