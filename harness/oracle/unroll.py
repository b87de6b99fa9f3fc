"""unroll: a cell taken through time, directions and layers, there and back.

Values, and values with errors, go through the same loops, ``along_time`` and ``back_along_time``. A state is a tuple of
arrays that move together, and the loops do not ask which they are.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from harness.oracle.array_layout import (
    Place,
    Visited,
    features,
    final_step,
    first_step,
    h_n_order,
    layout,
    time_major,
    time_order,
)
from harness.oracle.bounded_array import Floats, at_steps, to_float64, write_steps
from harness.oracle.pinned_numpy import np
from harness.space.case import Case
from harness.space.config import PARAMETERS, PROJECTION, RNNConfig, role_of, weight_names

State = tuple[Floats, ...]  # A state (N, H), and the arrays that move with it, such as its error


class StepWeights(NamedTuple):
    """The float64 parameters of one layer and direction; G is the number of gates.

    Their shapes are (G*H, I) or (G*H, D*H) for W_ih, (G*H, H) for W_hh, and (G*H) for b_ih and b_hh. Where h is
    projected, W_hr is (P, H), and h has P units instead of H, here and below.
    """

    ih: Floats
    hh: Floats
    b_ih: Floats
    b_hh: Floats
    hr: Floats | None = None

    def by_role(self) -> dict[str, Floats | None]:
        """Return them by the roles in their names."""
        return dict(zip((*PARAMETERS, PROJECTION), self, strict=True))


class LayerGradients(NamedTuple):
    """The gradients of all that one layer and direction read."""

    weights: StepWeights
    x: Floats  # The gradient by its input (T, N, I or D*H)
    start: State  # Those by its initial states (N, H), h first


class Unroll(ABC):
    """A cell over time, directions and layers."""

    @abstractmethod
    def step(self, x: Floats, held: State, w: StepWeights, kind: str) -> State:
        """Return the states after a step, h first, for rows of x (N, I) and of the states before.

        ``kind`` names the nonlinearity, where a cell has a choice of it.
        """

    @abstractmethod
    def back_through(
        self, case: Case, at: Place, x: Floats, own: Floats, incoming: tuple[Floats, Floats]
    ) -> LayerGradients:
        """Return the gradients of what one layer and direction read, at its input x and its states ``own`` (T, N, ..).

        ``incoming`` holds the gradients by its states (T, N, H): those from above, and those from its final state.
        """

    def carried_final(self, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
        """Return the final states beside h_n by name, of a cell that has some."""
        return {}

    # What a known issue of torch computes otherwise, where numbers are not finite.

    def dropped(self, array: Floats, factors: Floats) -> Floats:
        """Return what dropout leaves of an array: what it keeps, times 1 / (1 - p), and zeros, whatever stood there."""
        return np.where(factors == 0, 0.0, array * factors)

    def readout(self, output: Floats, weight: Floats, bias: Floats) -> Floats:
        """Return y_t = W h_t + b for every time step."""
        return output @ weight.T + bias

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        """Return the gradient of this name as the caller gets it: unchanged."""
        return gradient

    # The way there and back.

    def run(self, case: Case) -> dict[str, Floats]:
        """Return every array that ``config.returned`` names, in its shape, in float64; with a loss, gradients, too."""
        config, states = case.config, self.states(case)
        rows = [
            at_steps(states[layer], final_step(config, d))[:, features(config, d)] for layer, d in h_n_order(config)
        ]
        arrays = {"output": layout(states[-1], config), "h_n": np.stack(rows), **self.carried_final(case, states)}
        if config.output_size is not None:
            arrays["readout"] = layout(self.readout(states[-1], *readout_weights(case)), config)
        return arrays if config.loss is None else arrays | self.gradients(case, states)

    def states(self, case: Case) -> list[Floats]:
        """Return the states of every layer, (T, N, D*H)."""
        config, states = case.config, list[Floats]()
        x = time_major(case.x, config)
        for layer in range(config.num_layers):
            states.append(np.zeros((config.T, config.N, config.num_directions * config.h_size)))
            for d in range(config.num_directions):
                self._run_direction(case, (layer, d), x, states[-1][..., features(config, d)])
            x = self.between(case, layer, states[-1])
        return states

    def _run_direction(self, case: Case, at: Place, x: Floats, states: Floats) -> None:
        """Write the states (T, N, H) of one layer and direction, step by step from the initial one."""
        w, kind = step_weights(case, at), case.config.nonlinearity

        def step(t: int, held: State) -> State:
            return self.step(x[t], held, w, kind)

        along_time(case.config, at[1], initial_states(case, at), step, (states,))

    def between(self, case: Case, layer: int, output: Floats) -> Floats:
        """Return what the next layer reads of a layer's output (T, N, D*H): what dropout keeps of it, over 1 - p."""
        factors = factors_of(case, layer)
        return output if factors is None else self.dropped(output, factors)

    def inputs(self, case: Case, states: Sequence[Floats]) -> list[Floats]:
        """Return what each layer reads, (T, N, ..), given the states of each."""
        passed = (self.between(case, layer, own) for layer, own in enumerate(states[:-1]))
        return [time_major(case.x, case.config), *passed]

    def gradients(self, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
        """Return the gradient of the case's loss by every input and parameter, at the states (T, N, D*H) of each layer.

        The loss is the sum of the cotangents times the arrays that they belong to.
        """
        config, inputs = case.config, self.inputs(case, states)
        g = output_gradient(case)
        by_name: dict[str, Floats] = {}
        starts: dict[Place, State] = {}
        for layer in reversed(range(config.num_layers)):
            g_x = np.zeros_like(inputs[layer])
            for d in range(config.num_directions):
                at, part = (layer, d), features(config, d)
                incoming = g[..., part], final_gradient(case, at)
                back = self.back_through(case, at, inputs[layer], states[layer][..., part], incoming)
                gradients = back.weights.by_role()
                by_name |= {
                    f"{name}.grad": gradient
                    for name in names_at(config, at)
                    for gradient in [gradients[role_of(name)]]
                    if gradient is not None
                }
                starts[at] = back.start
                g_x += back.x
            factors = factors_of(case, layer - 1)
            g = g_x if factors is None else self.dropped(g_x, factors)
        by_name["x.grad"] = layout(g, config)
        for i, name in enumerate(config.form.hidden):
            by_name[f"{name}.grad"] = np.stack([starts[at][i] for at in h_n_order(config)])
        if config.output_size is not None:
            by_name |= readout_gradients(case, states[-1])
        return {name: self.returned_gradient(config, name, by_name[name]) for name in config.gradients}


# What a case holds.


def names_at(config: RNNConfig, at: Place) -> tuple[str, ...]:
    """Return the names of the parameters of one layer and direction."""
    return weight_names(*at, bias=config.bias, projected=config.proj_size > 0)


def step_weights(case: Case, at: Place) -> StepWeights:
    """Return the parameters of one layer and direction; a bias that the config leaves out is zero."""
    ih, hh, *others = [to_float64(case.weights[name]) for name in names_at(case.config, at)]
    zeros = [] if case.config.bias else [np.zeros(len(ih))] * 2
    return StepWeights(ih, hh, *zeros, *others)


def initial_states(case: Case, at: Place) -> State:
    """Return the initial states (N, H) of one layer and direction, h first: their rows of hx and so on, or zeros."""
    config, row = case.config, at[0] * case.config.num_directions + at[1]
    sizes = (config.h_size, *[config.hidden_size] * (len(config.form.hidden) - 1))
    states = zip((getattr(case, name) for name in config.form.hidden), sizes, strict=True)
    return tuple(np.zeros((config.N, size)) if array is None else to_float64(array[row]) for array, size in states)


def factors_of(case: Case, layer: int) -> Floats | None:
    """Return the factors of dropout for a layer's output (T, N, D*H); ``None`` where it drops nothing."""
    return case.masks[layer] * keep_scale(case.config) if layer in case.masks else None


def keep_scale(config: RNNConfig) -> float:
    """Return the factor for what dropout keeps: 1 / (1 - p); at p = 1 it keeps nothing, and the factor is 0."""
    return 1 / (1 - config.dropout) if config.dropout < 1 else 0.0


def readout_weights(case: Case) -> tuple[Floats, Floats]:
    """Return the readout's weight (O, D*H) and bias (O)."""
    return to_float64(case.weights["readout.weight"]), to_float64(case.weights["readout.bias"])


def output_gradient(case: Case) -> Floats:
    """Return the gradient of the loss by the top layer's output (T, N, D*H).

    It comes through the readout where the loss reads that.
    """
    config = case.config
    if "output.grad" in case.cotangents:
        return time_major(case.cotangents["output.grad"], config)
    if "readout.grad" in case.cotangents:
        return time_major(case.cotangents["readout.grad"], config) @ readout_weights(case)[0]
    return np.zeros((config.T, config.N, config.num_directions * config.h_size))


def final_gradient(case: Case, at: Place, name: str = "h_n") -> Floats:
    """Return the gradient of the loss by a direction's states (T, N, H) that its final state of this name gives."""
    config = case.config
    array = np.zeros((config.T, config.N, config.h_size if name == "h_n" else config.hidden_size))
    if f"{name}.grad" in case.cotangents:
        row = case.cotangents[f"{name}.grad"][at[0] * config.num_directions + at[1]]
        write_steps(array, final_step(config, at[1]), to_float64(row))
    return array


def readout_gradients(case: Case, output: Floats) -> dict[str, Floats]:
    """Return the gradients of the readout's weight (O, D*H) and bias (O); zeros where the loss does not read it."""
    weight, bias = readout_weights(case)
    if "readout.grad" not in case.cotangents:
        return {"readout.weight.grad": np.zeros_like(weight), "readout.bias.grad": np.zeros_like(bias)}
    g = time_major(case.cotangents["readout.grad"], case.config).reshape(-1, len(bias))
    of_weight = g.T @ output.reshape(-1, weight.shape[1])
    return {"readout.weight.grad": of_weight, "readout.bias.grad": g.sum(0)}


# Time.


def along_time(
    config: RNNConfig, direction: int, start: State, step: Callable[[int, State], State], states: State
) -> None:
    """Write the states (T, N, H) of one direction, step by step from the initial one, with what moves with them.

    ``step`` returns the state of a time step, given the state that it reads. If it returns more arrays than ``states``
    holds, the rest is carried on to later steps, and not written. Padding is zero, and leaves no trace.
    """
    held, partly = start, _partly(config)
    for t in time_order(config, direction):
        new = step(t, held)
        if t in partly:
            held, new = _where(partly[t], new, held), _where(partly[t], new)
        else:
            held = new
        for array, state in zip(states, new, strict=False):
            array[t] = state


def back_along_time(
    config: RNNConfig, direction: int, step: Callable[[int, State | None], State], gradients: State
) -> None:
    """Write the gradients (T, N, H) of one direction, from its last step to its first.

    ``step`` returns those of a time step, given those of the step that read its state: ``None`` at the last one.
    Padding has none.
    """
    later, partly = None, _partly(config)
    for t in reversed(time_order(config, direction)):
        later = step(t, later)
        if t in partly:
            later = _where(partly[t], later)
        for array, gradient in zip(gradients, later, strict=True):
            array[t] = gradient


def previous_states(case: Case, at: Place, own: Floats) -> Floats:
    """Return the state that each step of a direction with the states ``own`` read (T, N, H)."""
    previous = shifted(case.config, at[1], own)
    write_steps(previous, first_step(case.config, at[1]), initial_states(case, at)[0])
    return previous


def shifted(config: RNNConfig, direction: int, own: Floats) -> Floats:
    """Return what belongs to each step's previous state, given what belongs to the states; zero for the initial one."""
    order = np.asarray(time_order(config, direction))
    previous = np.zeros(own.shape, own.dtype)
    previous[order[1:]] = own[order[:-1]]
    write_steps(previous, first_step(config, direction), np.zeros(own.shape[1:]))
    return previous


def _partly(config: RNNConfig) -> dict[int, Visited]:
    """Return the masks (N, 1) of the time steps that some sequences lack."""
    if config.lengths is None:
        return {}
    lengths = np.array(config.lengths)[:, None]
    return {t: t < lengths for t in range(min(config.lengths), config.T)}


def _where(mask: Visited, new: State, old: Iterable[Floats | float] | None = None) -> State:
    """Return each array of ``new`` where the mask is true, and elsewhere that of ``old``, or zero."""
    others = [0.0] * len(new) if old is None else old
    return tuple(np.where(mask, array, before) for array, before in zip(new, others, strict=True))
