"""torch's ``nn.RNN`` as torch's two exporters write it: each function returns a model as bytes.

A layer that was ``used`` is exported at another shape than that of the call, with dynamic axes; any other at the shape
of the call, with fixed axes. torch.export fixes the number of time steps in any case.

The text of these functions is part of the scripts of findings, so each imports what it uses.
"""

from __future__ import annotations

from typing import Any


def layer_of(config: Any) -> Any:
    """Return an ``nn.RNN`` in a module that also packs and unpacks, and that can be given its weights in the call."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            names = ("num_layers", "nonlinearity", "bias", "batch_first", "dropout", "bidirectional")
            options = {name: getattr(config, name) for name in names}
            self.rnn = torch.nn.RNN(config.input_size, config.hidden_size, **options)

        def forward(self, x: Any, hx: Any = None, lengths: Any = None, weights: Any = None) -> Any:
            if lengths is not None:
                x = pack_padded_sequence(x, lengths, config.batch_first, config.enforce_sorted)
            called = (x, hx) if hx is not None else (x,)
            output, h_n = (
                self.rnn(*called) if weights is None else torch.func.functional_call(self.rnn, weights, called)
            )
            if lengths is not None:
                output, _ = pad_packed_sequence(output, config.batch_first)
            return output, h_n

    return Layer().to(getattr(torch, config.dtype)).train(config.training)


def example_of(config: Any, packed: Any, time: Any) -> Any:
    """Return the arguments of an export by name, and the dynamic axes of each and of the results.

    ``time`` says that the number of time steps may be dynamic.
    """
    import torch

    dtype, dynamic = getattr(torch, config.dtype), config.preparation == "used"
    T, N = config.T + (dynamic and time), config.N + dynamic
    batch, axis = ([N], {1: "N"}) if config.batched else ([], {})
    steps, axes = [T, *batch], {0: "T", **axis}
    if config.batched and config.batch_first:
        steps, axes = [N, T], {0: "N", 1: "T"}
    given = {"x": torch.ones(*steps, config.input_size, dtype=dtype)}
    if config.hx:
        states = config.num_layers * config.num_directions
        given["hx"] = torch.ones(states, *batch, config.hidden_size, dtype=dtype)
    if packed:
        given["lengths"] = torch.full(batch, T)
    of = {"x": axes, "hx": axis, "lengths": {0: "N"}, "output": axes, "h_n": axis}
    return given, {name: of[name] for name in (*given, "output", "h_n")} if dynamic else {}


def by_torchscript(weights: Any, config: Any, packed: Any) -> Any:
    """Return the model that the TorchScript exporter writes of a layer with these weights, which are constants."""
    import io
    import warnings

    import torch

    layer, (given, axes) = layer_of(config), example_of(config, packed, time=True)
    file: Any = io.BytesIO()
    layer.rnn.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and it warns of what is checked here
        torch.onnx.export(
            layer,
            (),
            file,
            kwargs=given,
            input_names=list(given),
            output_names=["output", "h_n"],
            dynamic_axes=axes,
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamo=False,
        )
    return file.getvalue()


def by_dynamo(weights: Any, config: Any, packed: Any) -> Any:
    """Return the model that the exporter of torch.export writes of a layer with any weights, which are inputs.

    An export takes a second, and its model serves all weights of a config.
    """
    import io
    import warnings

    import torch

    layer, (given, axes) = layer_of(config), example_of(config, packed, time=False)
    file: Any = io.BytesIO()
    batch = {name: {i: torch.export.Dim.DYNAMIC for i, axis in axes[name].items() if axis == "N"} for name in axes}
    shapes = {name: batch[name] for name in given} | {"weights": dict.fromkeys(weights)} if axes else None
    names = [*given, *weights]
    given["weights"] = {name: torch.from_numpy(array) for name, array in weights.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its own code
        torch.onnx.export(
            layer,
            (),
            file,
            kwargs=given,
            input_names=names,
            output_names=["output", "h_n"],
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
    return file.getvalue()


def fed_to(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
    """Return what an exported model is given, by the names of its inputs; ``weights`` are those that are inputs."""
    feeds = {"x": x, **weights}
    if config.hx:
        feeds["hx"] = h0
    if lengths is not None:
        feeds["lengths"] = lengths
    return feeds
