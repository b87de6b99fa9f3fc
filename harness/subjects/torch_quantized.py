"""The subject ``torch:quantized-cell``: torch's nn.RNNCell with weights of 8 bits, looped over time.

``quantize_dynamic`` replaces each cell by one that holds its weights as whole numbers of 8 bits and rounds what it
reads to a grid in each call. What such a cell returns is held to what ``nn.RNN`` computes with the weights as they
were, within a tolerance for both.
"""

import inspect
from dataclasses import replace
from typing import Any, Final

from harness.space.declared_arithmetic import Grid, Grids
from harness.subjects.capabilities import Recipe
from harness.subjects.function import FunctionSubject
from harness.subjects.torch_class_facts import TORCH

GRIDS: Final = Grids(states=Grid(127, 6.1e-5, symmetric=False), weights=Grid(255, 2.0**-23, symmetric=True))
"""The grids of torch's dynamic quantization, as its source has them. The states' grid has the 127 steps of
``reduce_range``, and its least step is ``SMALL_SCALE_THRESHOLD`` (``aten/src/ATen/native/quantized/cpu/QuantUtils.h``).
The engine ``qnnpack`` takes 255 steps in the same range, which is finer. The step of weights is at least the ``eps`` of
``MinMaxObserver``, and it is max|W| / 127.5 otherwise (``torch/ao/quantization/observer.py``)."""


def quantized_cell(x: Any, h0: Any, weights: Any, config: Any) -> tuple[Any, Any]:
    """Return output and h_n of an ``nn.RNNCell`` that ``quantize_dynamic`` has replaced, called step by step."""
    import warnings

    import torch

    if config.num_layers > 1 or config.bidirectional or config.batch_first:
        raise NotImplementedError("a cell is one layer and one direction, and takes one time step")
    if not config.bias or not config.batched or config.dtype != "float32":
        raise NotImplementedError("a quantized cell has biases, and takes batches in float32")
    cell: Any = torch.nn.RNNCell(config.input_size, config.hidden_size, nonlinearity=config.nonlinearity)
    cell.load_state_dict({name: torch.from_numpy(weights[f"{name}_l0"]) for name in cell.state_dict()})
    quantize_dynamic: Any = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns of functions of its own that it calls there
        largest = cell.weight_ih.abs().max(), cell.weight_hh.abs().max()
        [cell] = quantize_dynamic(torch.nn.ModuleList([cell]), {torch.nn.RNNCell}, inplace=True)
        h, states = torch.from_numpy(h0[0]), []
        for step in torch.from_numpy(x):
            if not (step.abs().sum() * largest[0] + h.abs().sum() * largest[1]).isfinite():
                raise NotImplementedError("a quantized cell takes finite numbers, whose products are finite, too")
            h = cell(step, h)
            states.append(h)
        return torch.stack(states).numpy(), h[None].numpy()


def by_torch() -> FunctionSubject:
    """Return the subject ``torch:quantized-cell``."""
    lines = ("from typing import Any", "", "", *inspect.getsource(quantized_cell).rstrip().split("\n"))
    subject = FunctionSubject(quantized_cell, "torch:quantized-cell", Recipe(quantized_cell.__name__, lines))
    arithmetic = {"cpu": TORCH["cpu"]._replace(grids=GRIDS)}
    offers = {**subject.capabilities.offers, "strides": ("contiguous",), "preparation": ("new",)}
    subject.capabilities = replace(subject.capabilities, arithmetic=arithmetic, offers=offers)
    return subject
