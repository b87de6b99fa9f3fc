"""layers: a layer reads, or starts from, something else than what stands below it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, TIED, Fault
from harness.explain.faults.over_time import late
from harness.oracle.reference import Floats, to_float64
from harness.space.case import Array, Case
from harness.space.config import RNNConfig

TWO = ONE.replace(num_layers=2)


class EveryLayerReadsX(Fault):
    """reads x in every layer, where the sizes allow it."""

    family = "layers"
    code = ("x = x  # the first layer's, in every layer", lines.BELOW)
    smallest = (
        TWO,
        TWO.replace(num_layers=3),  # by a law: above the first layer, the stack runs on what that returned
        *(RNNConfig(n, n, num_layers=2) for n in TIED),
        *(RNNConfig(2 * n, n, num_layers=2, bidirectional=True) for n in range(1, 65)),
    )

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        fits = below[0].shape == below[-1].shape
        return super().layer_input(case, layer, direction, below[:1] if fits else below)


class UpperLayersReadLate(Fault):
    """reads, above the first layer, the output below one step late: that of t - 1 at step t, and zeros at the first."""

    family = "layers"
    code = ("x_t = x[t - 1] if t > 0 else 0 * x[t]  # if layer > 0", lines.X_T)
    smallest = (TWO,)

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        read = super().layer_input(case, layer, direction, below)
        return late(read) if layer else read


class UpperLayersReadLastStep(Fault):
    """reads, above the first layer, the last time step of the output below at every step."""

    family = "layers"
    code = ("x_t = x[T - 1]  # if layer > 0", lines.X_T)
    smallest = (TWO.replace(T=2),)

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        read = super().layer_input(case, layer, direction, below)
        return np.broadcast_to(read[-1:], read.shape) if layer else read


class ComputesFirstLayerOnly(Fault):
    """computes the first layer only: its output is returned, and its state in every row of h_n."""

    family, stepwise = "layers", False
    code = ("layers = range(1)", lines.LAYERS)
    smallest = (TWO,)

    def states(self, case: Case) -> list[Floats]:
        return [super().states(case)[0]] * case.config.num_layers

    def gradients(self, case: Case, states: Sequence[Floats]) -> dict[str, Floats]:
        config, D = case.config, case.config.num_directions
        wide = "complex128" if config.is_complex else "float64"
        alone = config.replace(num_layers=1, dropout=0.0, dtype=wide)
        given = {name: to_float64(array) for name, array in case.arrays.items()}
        if "hx" in given:
            given["hx"] = given["hx"][:D]
        if "h_n.grad" in given:
            given["h_n.grad"] = given["h_n.grad"].reshape(config.num_layers, D, config.N, config.hidden_size).sum(0)
        weights = {name: given[name] for name in alone.weights}
        cotangents = {name: given[name] for name in alone.cotangents}
        first = Case(alone, given["x"], given.get("hx"), weights, None, cotangents)
        found = super().gradients(first, states[:1])
        gradients: dict[str, Floats] = {}
        for name, spec in config.gradients.items():
            gradient = found[name] if name in found else np.zeros(spec.shape)
            missing = spec.shape[0] - gradient.shape[0] if name == "hx.grad" else 0
            gradients[name] = np.concatenate([gradient, np.zeros((missing, *spec.shape[1:]))]) if missing else gradient
        return gradients


class AddsInputToOutput(Fault):
    """adds the input of every layer above the first to its output, as a residual connection does, but not to h_n."""

    family, stepwise = "layers", False
    code = ("out[t] = h + x[t]  # if layer > 0", lines.OUT)
    smallest = (TWO,)

    def layer_input(self, case: Case, layer: int, direction: int, below: Sequence[Floats]) -> Floats:
        read = super().layer_input(case, layer, direction, below)
        return read if layer < 2 else np.asarray(sum(below[1:-1], read))

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output, top = super().written(case, layer, states), case.config.num_layers - 1
        if layer < top or not top:
            return output
        lower = self.states(case.prefix(top))
        return np.asarray(sum((self.between(case, k, own) for k, own in enumerate(lower)), output))

    def written_back(self, case: Case, layer: int, g: Floats) -> Floats:
        return g

    def read_back(self, case: Case, at: tuple[int, int], g: Floats, g_below: Sequence[Floats]) -> None:
        if at[0] < 2:
            super().read_back(case, at, g, g_below)
        top = at == (case.config.num_layers - 1, 0)
        for given in g_below[1:]:
            given += g if at[0] > 1 else 0.0
            given += self.output_gradient(case) if top else 0.0


class StartsFromLayerBelow(Fault):
    """starts each layer above the first from the final state of the layer below, not from hx."""

    family = "layers"
    code = ("h = h_n[(layer - 1) * D + d]  # if layer > 0", lines.START)
    smallest = (TWO,)

    def starts_from(self, config: RNNConfig, layer: int, direction: int) -> tuple[int, int] | None:
        return (layer - 1, direction) if layer else super().starts_from(config, layer, direction)


class SharesHxOfFirstLayer(Fault):
    """starts every layer from the first layer's rows of hx."""

    family = "layers"
    code = ("h = hx[d]", lines.START)
    smallest = (TWO.replace(hx=True),)

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        return super().hx_row(config, 0, direction, hx)


class UpperLayersIgnoreHx(Fault):
    """ignores hx in the layers above the first, which start from zeros."""

    family = "layers"
    code = ("h = np.zeros((N, H))  # if layer > 0", lines.START)
    smallest = (TWO.replace(hx=True),)

    def hx_row(self, config: RNNConfig, layer: int, direction: int, hx: Array) -> Array:
        row = super().hx_row(config, layer, direction, hx)
        return np.zeros_like(row) if layer else row
