"""layers: a layer reads, or starts from, something else than what stands below it."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, TIED, Fault
from benchmarks.planted.layer import Floats, Layer, Place, to_float64
from benchmarks.planted.over_time import late
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

TWO = ONE.replace(num_layers=2)


def _every_layer_reads_x(right: Layer, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
    fits = below[0].shape == below[-1].shape
    return right.layer_input(case, layer, direction, below[:1] if fits else below)


def _upper_layers_read_late(right: Layer, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
    read = right.layer_input(case, layer, direction, below)
    return late(read) if layer else read


def _upper_layers_read_last_step(
    right: Layer, case: Case, layer: int, direction: int, below: Sequence[Floats]
) -> Floats:
    read = right.layer_input(case, layer, direction, below)
    return np.broadcast_to(read[-1:], read.shape) if layer else read


def _computes_first_layer_only_states(right: Layer, case: Case) -> list[Floats]:
    return [right.states(case)[0]] * case.config.num_layers


def _computes_first_layer_only_gradients(right: Layer, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
    config, D = case.config, case.config.num_directions
    alone = config.replace(num_layers=1, dropout=0.0, dtype="float64")
    given = {name: to_float64(array) for name, array in case.arrays.items()}
    if "hx" in given:
        given["hx"] = given["hx"][:D]
    if "h_n.grad" in given:
        given["h_n.grad"] = given["h_n.grad"].reshape(config.num_layers, D, config.N, config.hidden_size).sum(0)
    found = right.gradients(Case.from_arrays(alone, given), states[:1])
    gradients: dict[str, Floats] = {}
    for name, spec in config.gradients.items():
        gradient = found[name] if name in found else np.zeros(spec.shape)
        missing = spec.shape[0] - gradient.shape[0] if name == "hx.grad" else 0
        gradients[name] = np.concatenate([gradient, np.zeros((missing, *spec.shape[1:]))]) if missing else gradient
    return gradients


def _adds_input_to_output_layer_input(
    right: Layer, case: Case, layer: int, direction: int, below: Sequence[Floats]
) -> Floats:
    read = right.layer_input(case, layer, direction, below)
    return read if layer < 2 else np.asarray(sum(below[1:-1], read))


def _adds_input_to_output_written(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output, top = right.written(case, layer, states), case.config.num_layers - 1
    if layer < top or not top:
        return output
    lower = right.states(case.prefix(top))
    return np.asarray(sum((right.between(case, k, own) for k, own in enumerate(lower)), output))


def _adds_input_to_output_written_back(right: Layer, case: Case, layer: int, g: Floats) -> Floats:
    return g


def _adds_input_to_output_read_back(right: Layer, case: Case, at: Place, g: Floats, g_below: Sequence[Floats]) -> None:
    if at[0] < 2:
        right.read_back(case, at, g, g_below)
    top = at == (case.config.num_layers - 1, 0)
    for given in g_below[1:]:
        given += g if at[0] > 1 else 0.0
        given += right.output_gradient(case) if top else 0.0


def _adds_x_to_output_written(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output, x = right.written(case, layer, states), right.time_major(case.x, case.config)
    return output + x if layer == case.config.num_layers - 1 and output.shape == x.shape else output


def _adds_x_to_output_read_back(right: Layer, case: Case, at: Place, g: Floats, g_below: Sequence[Floats]) -> None:
    right.read_back(case, at, g, g_below)
    of_output = right.output_gradient(case)
    if at == (case.config.num_layers - 1, 0) and of_output.shape == g_below[0].shape:
        g_below[0][...] += of_output


def _starts_from_layer_below(right: Layer, config: RNNConfig, layer: int, direction: int) -> tuple[int, int] | None:
    return (layer - 1, direction) if layer else right.starts_from(config, layer, direction)


def _shares_hx_of_first_layer(right: Layer, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
    return right.hx_row(config, 0, direction, hx)


def _upper_layers_ignore_hx(right: Layer, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
    row = right.hx_row(config, layer, direction, hx)
    return np.zeros_like(row) if layer else row


FAULTS: Final = (
    Fault(
        "EveryLayerReadsX",
        "reads x in every layer, where the sizes allow it",
        {"layer_input": _every_layer_reads_x},
        smallest=(
            TWO,
            TWO.replace(num_layers=3),  # by a relation: above the first layer, the stack runs on what that returned
            *(RNNConfig(n, n, num_layers=2) for n in TIED),
            *(RNNConfig(2 * n, n, num_layers=2, bidirectional=True) for n in range(1, 65)),
        ),
    ),
    Fault(
        "UpperLayersReadLate",
        "reads the output below one step late, above the first layer: that of t - 1 at step t, and zeros at the first",
        {"layer_input": _upper_layers_read_late},
        smallest=(TWO,),
    ),
    Fault(
        "UpperLayersReadLastStep",
        "reads the last time step of the output below at every step, above the first layer",
        {"layer_input": _upper_layers_read_last_step},
        smallest=(TWO.replace(T=2),),
    ),
    Fault(
        "ComputesFirstLayerOnly",
        "computes the first layer only: its output is returned, and its state in every row of h_n",
        {"states": _computes_first_layer_only_states, "gradients": _computes_first_layer_only_gradients},
        smallest=(TWO,),
    ),
    Fault(
        "AddsInputToOutput",
        "adds the input of every layer above the first to its output, as a residual connection does, but not to h_n",
        {
            "layer_input": _adds_input_to_output_layer_input,
            "written": _adds_input_to_output_written,
            "written_back": _adds_input_to_output_written_back,
            "read_back": _adds_input_to_output_read_back,
        },
        smallest=(TWO,),
    ),
    Fault(
        "AddsXToOutput",
        "adds x to the output where the sizes are equal, as a residual connection does, but not to h_n",
        {"written": _adds_x_to_output_written, "read_back": _adds_x_to_output_read_back},
        smallest=(
            ONE,
            *(RNNConfig(n, n) for n in TIED),
            *(RNNConfig(2 * n, n, bidirectional=True) for n in range(1, 65)),
        ),
    ),
    Fault(
        "StartsFromLayerBelow",
        "starts each layer above the first from the final state of the layer below, not from hx",
        {"starts_from": _starts_from_layer_below},
        smallest=(TWO,),
    ),
    Fault(
        "SharesHxOfFirstLayer",
        "starts every layer from the first layer's rows of hx",
        {"hx_row": _shares_hx_of_first_layer},
        smallest=(TWO.replace(hx=True),),
    ),
    Fault(
        "UpperLayersIgnoreHx",
        "ignores hx in the layers above the first, which start from zeros",
        {"hx_row": _upper_layers_ignore_hx},
        smallest=(TWO.replace(hx=True),),
    ),
)
