"""torch's own layers as torch's two exporters write them, run by ONNX Runtime.

A layer that was ``used`` is exported at another shape than that of the call, with dynamic axes; any other at the shape
of the call, with fixed axes. torch.export fixes the number of time steps in any case.

The text of the functions up to ``fed_to`` is part of the scripts of findings, so each imports what it uses.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness.space.config import RNNConfig
from harness.space.conformance_profile import PORT
from harness.subjects.capabilities import FEW_SIZES
from harness.subjects.conventions import Conventions
from harness.subjects.function import FunctionSubject
from harness.subjects.protocol import Unsupported
from harness.subjects.runtimes.library import LIBRARY_OFFERS, installed, of_each, recipe_of
from harness.subjects.runtimes.onnx_runtimes import TAKES, by_onnxruntime, onnxruntime_session, refusing
from harness.subjects.subject_names import of_cell

MODELS_KEPT: Final = 256  # the number of models of torch.export's exporter that are kept, because each takes a second

# Exported models are asked for these; the older exporter refuses dropout in training, and the other one is slow.
EXPORTED_OFFERS: Final = LIBRARY_OFFERS | {
    "dtype": ("float32", "float32", "float64", "float16"),
    "preparation": ("new", "new", "used"),
    "batched": (*[True] * 7, False),
}
FEW_OFFERED: Final = EXPORTED_OFFERS | {**FEW_SIZES, "num_layers": (1, 2), "masks": False}

_SCRIPT: Final = """
def rnn(x, h0, weights, config, lengths):
    model = exported(weights, config, lengths is not None, {dynamo})
    return by_onnxruntime(model, fed_to(x, h0, {inputs}, config, lengths))
"""


def layer_of(config: Any) -> Any:
    """Return torch's layer in a module that also packs and unpacks, and that can be given its weights in the call."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            names = ["num_layers", "bias", "batch_first", "dropout", "bidirectional"]
            names += ["nonlinearity"] if config.cell == "RNN" else []
            options = {name: getattr(config, name) for name in names}
            self.rnn = getattr(torch.nn, config.cell)(config.input_size, config.hidden_size, **options)

        def forward(self, x: Any, hx: Any = None, cx: Any = None, lengths: Any = None, weights: Any = None) -> Any:
            if lengths is not None:
                x = pack_padded_sequence(x, lengths, config.batch_first, config.enforce_sorted)
            called = (x, *[hx if cx is None else (hx, cx)] * (hx is not None))
            output, last = (
                self.rnn(*called) if weights is None else torch.func.functional_call(self.rnn, weights, called)
            )
            if lengths is not None:
                output, _ = pad_packed_sequence(output, config.batch_first)
            return (output, *last) if config.cell == "LSTM" else (output, last)

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
    inputs = {"x": torch.ones(*steps, config.input_size, dtype=dtype)}
    if config.hx:
        states = config.num_layers * config.num_directions
        for name in ("hx", "cx") if config.cell == "LSTM" else ("hx",):
            inputs[name] = torch.ones(states, *batch, config.hidden_size, dtype=dtype)
    if packed:
        inputs["lengths"] = torch.full(batch, T)
    results = {"output": axes, "h_n": axis, **({"c_n": axis} if config.cell == "LSTM" else {})}
    every = {"x": axes, "hx": axis, "cx": axis, "lengths": {0: "N"}}
    return inputs, {**{name: every[name] for name in inputs}, **results} if dynamic else {}


def exported(weights: Any, config: Any, packed: Any, dynamo: Any) -> Any:
    """Return the model that an exporter writes, as bytes.

    The weights are constants; with ``dynamo`` they are inputs, so that one slow export serves all weights of a config.
    """
    import io
    import warnings

    import torch

    layer, (inputs, axes) = layer_of(config), example_of(config, packed, time=not dynamo)
    file: Any = io.BytesIO()
    tensors, names = {name: torch.from_numpy(array) for name, array in weights.items()}, list(inputs)
    if dynamo:
        batch = {name: {i: torch.export.Dim.DYNAMIC for i, axis in axes[name].items() if axis == "N"} for name in axes}
        shapes = {name: batch[name] for name in inputs} | {"weights": dict.fromkeys(weights)} if axes else None
        options: Any = {"dynamic_shapes": shapes, "verbose": False}
        inputs["weights"], names = tensors, [*names, *weights]
    else:
        layer.rnn.load_state_dict(tensors)
        options = {"dynamic_axes": axes, "training": torch.onnx.TrainingMode.PRESERVE}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # one is deprecated and warns of what is checked here, the other of its own code
        results = ["output", "h_n", *["c_n"] * (config.cell == "LSTM")]
        torch.onnx.export(
            layer, (), file, kwargs=inputs, input_names=names, output_names=results, dynamo=dynamo, **options
        )
    return file.getvalue()


def fed_to(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
    """Return what an exported model is given, by the names of its inputs; ``weights`` are those that are inputs."""
    feeds = {"x": x, **weights}
    if config.hx:
        feeds |= dict(zip(("hx", "cx"), h0, strict=True)) if config.cell == "LSTM" else {"hx": h0}
    if lengths is not None:
        feeds["lengths"] = lengths
    return feeds


class ExportedSubject(FunctionSubject):
    """An exported layer. A used one was exported at another shape, and is not called there."""

    def __init__(self, name: str, offers: Mapping[str, Any], cell: str = "RNN", *, dynamo: bool) -> None:
        name = of_cell(name, cell)
        software = installed(name, "torch", "onnxscript", "onnx", "onnxruntime", extra="onnx")
        self._dynamo, self._of_zeros = dynamo, lru_cache(MODELS_KEPT)(self._with_zeros)
        text = _SCRIPT.format(dynamo=dynamo, inputs="weights" if dynamo else "{}")
        functions = (layer_of, example_of, exported, fed_to, onnxruntime_session, by_onnxruntime)
        recipe = recipe_of("rnn", *functions, text=text, takes=TAKES)

        def declared(x: Any, h0: Any, weights: Any, config: RNNConfig, lengths: Any) -> Any:
            return self._rnn(x, h0, weights, config, lengths)

        own: Any = declared
        own.profile, own.offers, own.slow = PORT, offers, True
        super().__init__(declared, name, replace(recipe, paired=cell == "LSTM"), Conventions(cell=cell))
        self.capabilities = replace(self.capabilities, takes=None, masks=None, environment={"software": software})

    def use(self, config: RNNConfig) -> None:
        """Do nothing more."""

    def _rnn(self, x: Any, h0: Any, weights: Any, config: RNNConfig, lengths: Any) -> Any:
        if config.output_size is not None:
            raise Unsupported("no readout: the model is the layer alone")
        packed = lengths is not None
        model = self._of_zeros(config, packed) if self._dynamo else self._written(weights, config, packed)
        inputs = weights if self._dynamo else {}
        with refusing():
            return by_onnxruntime(model, fed_to(x, h0, inputs, config, lengths))

    def _with_zeros(self, config: RNNConfig, packed: bool) -> bytes:
        weights = {name: np.zeros(spec.shape, config.dtype) for name, spec in config.weights.items()}
        return self._written(weights, config, packed)

    def _written(self, weights: Any, config: RNNConfig, packed: bool) -> bytes:
        """Return the model. Raise ``Unsupported`` if the exporter raises: it says so, and writes nothing."""
        try:
            with silenced():
                return bytes(exported(weights, config, packed, self._dynamo))
        except Exception as error:  # noqa: BLE001 - an exporter raises errors of all kinds
            cause = error.__cause__ or error
            raise Unsupported(f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}") from None


@contextmanager
def silenced() -> Iterator[None]:
    """Keep away from standard error what torch's C++ code prints there while it exports."""
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("w") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


torchscript = of_each(partial(ExportedSubject, "onnx:torchscript", EXPORTED_OFFERS, dynamo=False))
dynamo = of_each(partial(ExportedSubject, "onnx:dynamo", FEW_OFFERED, dynamo=True))
