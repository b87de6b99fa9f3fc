"""The subjects that run ONNX models, and how a script runs the same."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness.space.config import RNNConfig
from harness.space.contract import PORT
from harness.subjects.capabilities import FEW_SIZES, Recipe
from harness.subjects.extras import installed
from harness.subjects.function import FunctionSubject
from harness.subjects.onnx import exporters, graph, runtimes
from harness.subjects.protocol import Unsupported

REFUSALS: Final = ("NOT_IMPLEMENTED", "not supported", "Unknown activation function")
"""The words in an error by which a runtime says that it does not support a model."""

KEPT: Final = 256
"""The number of models that torch.export's exporter has written and that are kept, because each takes a second."""

OFFERS: Final[dict[str, Any]] = {"strides": ("contiguous",), "preparation": ("new",)}
"""The values that every subject here is asked for: a runtime copies what it is given, and keeps nothing of a call."""

EXPORTED: Final = OFFERS | {
    "dtype": ("float32", "float32", "float64", "float16"),
    "preparation": ("new", "new", "used"),
    "batched": (*[True] * 7, False),
}
"""The values that exported models are asked for. The older exporter refuses dropout in training."""

FEW: Final = EXPORTED | {
    **FEW_SIZES,
    "num_layers": (1, 2),
    "masks": False,
}
"""The values that torch.export's exporter is asked for, because an export takes a second; and dropout in training."""

_TAKES: Final = ("x", "h0", "weights", "config", "lengths")

_BUILT: Final = """
def rnn(x, h0, weights, config, lengths):
    model = model_of(weights, config, lengths is not None).SerializeToString()
    return {run}(model, fed(x, h0, config, lengths))
"""

_EXPORTED: Final = """
def rnn(x, h0, weights, config, lengths):
    model = {export}(weights, config, lengths is not None)
    return by_onnxruntime(model, fed_to(x, h0, {inputs}, config, lengths))
"""


class _Built:
    """A stack of ``RNN`` nodes, run by one runtime, as a function of a layer."""

    contract = PORT

    def __init__(self, run: Callable[[bytes, Mapping[str, Any]], Any], dtypes: Sequence[str]) -> None:
        self._run = run
        self.offers = OFFERS | {"dtype": dtypes}

    def __call__(self, x: Any, h0: Any, weights: Any, config: RNNConfig, lengths: Any) -> Any:
        """Build the model of a config with its weights, and run it."""
        _refuse_readout(config)
        if not config.batched:
            raise Unsupported("ONNX's RNN has a batch axis")
        model = graph.model_of(weights, config, lengths is not None).SerializeToString()
        with _refusing():
            return self._run(model, graph.fed(x, h0, config, lengths))


class _Exported:
    """An exported ``nn.RNN``, run by ONNX Runtime, as a function of a layer."""

    contract = PORT

    def __init__(self, export: Callable[..., bytes], offers: Mapping[str, Any], *, weighted: bool) -> None:
        """Take an exporter. The weights are constants of its models if they are ``weighted``, else inputs."""
        self._export, self._weighted, self.offers = export, weighted, offers
        self._unweighted = lru_cache(KEPT)(self._of_zeros)

    def __call__(self, x: Any, h0: Any, weights: Any, config: RNNConfig, lengths: Any) -> Any:
        """Export the layer of a config, and run its model."""
        _refuse_readout(config)
        packed = lengths is not None
        model = self._exported(weights, config, packed) if self._weighted else self._unweighted(config, packed)
        inputs = {} if self._weighted else weights
        with _refusing():
            return runtimes.by_onnxruntime(model, exporters.fed_to(x, h0, inputs, config, lengths))

    def _of_zeros(self, config: RNNConfig, packed: bool) -> bytes:
        weights = {name: np.zeros(spec.shape, config.dtype) for name, spec in config.weights.items()}
        return self._exported(weights, config, packed)

    def _exported(self, weights: Any, config: RNNConfig, packed: bool) -> bytes:
        """Return the model. Raise ``Unsupported`` if the exporter raises: it says so, and writes nothing."""
        try:
            with _silenced():
                return self._export(weights, config, packed)
        except Exception as error:  # noqa: BLE001 - an exporter raises errors of all kinds
            cause = error.__cause__ or error
            raise Unsupported(f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}") from None


class ExportedSubject(FunctionSubject):
    """An exported ``nn.RNN``. A used one was exported at another shape, and is not called there."""

    def use(self, config: RNNConfig) -> None:
        """Do nothing more."""


def _refuse_readout(config: RNNConfig) -> None:
    if config.output_size is not None:
        raise Unsupported("no readout: the model is the layer alone")


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn the errors by which a runtime refuses a model into ``Unsupported``."""
    try:
        yield
    except Exception as error:
        if any(words in str(error) for words in REFUSALS):
            raise Unsupported(f"{type(error).__name__}: {str(error).strip()}") from None
        raise


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep away from standard error what torch's C++ code prints there while it exports."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _recipe(rnn: str, *functions: Callable[..., Any]) -> Recipe:
    """Return how a script runs what ``rnn`` runs, by the texts of these functions."""
    texts = [inspect.getsource(function).strip("\n") for function in functions]
    lines = "\n\n\n".join(["from functools import lru_cache\nfrom typing import Any", *texts, rnn.strip("\n")])
    return Recipe("rnn", tuple(lines.split("\n")), takes=_TAKES)


def _built(name: str, software: str, run: Any, prepared: Any, dtypes: Sequence[str]) -> FunctionSubject:
    """Return the subject of a runtime: ``run`` runs a model by what ``prepared`` makes of it."""
    recipe = _recipe(_BUILT.format(run=run.__name__), graph.model_of, graph.fed, prepared, run)
    subject = FunctionSubject(_Built(run, dtypes), name, recipe)
    subject.capabilities = replace(subject.capabilities, ground={"software": software})
    return subject


def _exported(name: str, export: Any, offers: Mapping[str, Any], *, weighted: bool) -> ExportedSubject:
    """Return the subject of an exporter."""
    software = installed(name, "torch", "onnxscript", "onnx", "onnxruntime", extra="onnx")
    text = _EXPORTED.format(export=export.__name__, inputs="{}" if weighted else "weights")
    of_torch = (exporters.layer_of, exporters.example_of, export, exporters.fed_to)
    recipe = _recipe(text, *of_torch, runtimes.onnxruntime_session, runtimes.by_onnxruntime)
    subject = ExportedSubject(_Exported(export, offers, weighted=weighted), name, recipe)
    own = subject.capabilities
    subject.capabilities = replace(own, takes=None, masks=None, ground={"software": software})
    return subject


def by_onnxruntime() -> FunctionSubject:
    """Return the subject ``onnx:runtime``: a graph built by hand, run by ONNX Runtime on the CPU."""
    name = "onnx:runtime"
    software, dtypes = (
        installed(name, "onnxruntime", "onnx", extra="onnx"),
        ("float32", "float32", "float64", "float16", "bfloat16"),
    )
    return _built(name, software, runtimes.by_onnxruntime, runtimes.onnxruntime_session, dtypes)


def by_reference() -> FunctionSubject:
    """Return the subject ``onnx:reference``: the same graph, run by onnx's own reference implementation."""
    name = "onnx:reference"
    software = f"onnx.reference, which is NumPy: {installed(name, 'onnx', 'numpy', extra='onnx')}"
    dtypes = ("float32", "float32", "float64", "float64", "float16", "bfloat16")
    return _built(name, software, runtimes.by_reference, runtimes.reference_evaluator, dtypes)


def by_openvino() -> FunctionSubject:
    """Return the subject ``onnx:openvino``: the same graph, run by OpenVINO on the CPU, which computes in float32."""
    name = "onnx:openvino"
    software = installed(name, "openvino", "onnx", extra="openvino")
    return _built(name, software, runtimes.by_openvino, runtimes.openvino_request, ("float32",))


def by_torchscript() -> ExportedSubject:
    """Return the subject ``onnx:torchscript``: nn.RNN as torch's older exporter writes it, run by ONNX Runtime."""
    return _exported("onnx:torchscript", exporters.by_torchscript, EXPORTED, weighted=True)


def by_dynamo() -> ExportedSubject:
    """Return the subject ``onnx:dynamo``: nn.RNN as the exporter of torch.export writes it, run by ONNX Runtime."""
    return _exported("onnx:dynamo", exporters.by_dynamo, FEW, weighted=False)
