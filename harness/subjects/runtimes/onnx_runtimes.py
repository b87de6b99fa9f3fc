"""A graph of ONNX's ``RNN``, ``GRU`` or ``LSTM`` nodes, run by ONNX Runtime, by onnx's own reference, and by OpenVINO.

The text of the functions that run a model is part of the scripts of findings, so each imports what it uses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Final

from harness.space.conformance_profile import PORT
from harness.subjects.conventions import Conventions
from harness.subjects.function import FunctionSubject
from harness.subjects.protocol import Unsupported
from harness.subjects.runtimes.library import LIBRARY_OFFERS, installed, of_each, recipe_of
from harness.subjects.runtimes.onnx_graph import fed, model_of
from harness.subjects.subject_names import of_cell

REFUSAL_WORDS: Final = ("NOT_IMPLEMENTED", "not support", "Unknown activation function")  # a runtime's words
TAKES: Final = ("x", "h0", "weights", "config", "lengths")

_SCRIPT: Final = """
def rnn(x, h0, weights, config, lengths):
    model = model_of(weights, config, lengths is not None).SerializeToString()
    return {run}(model, fed(x, h0, config, lengths))
"""


@lru_cache(4)
def onnxruntime_session(model: Any) -> Any:
    """Return a session of ONNX Runtime, on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # an error is raised, and need not be printed, too
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def by_onnxruntime(model: Any, feeds: Any) -> Any:
    """Run a model, given as bytes, by ONNX Runtime."""
    return onnxruntime_session(model).run(None, feeds)


@lru_cache(4)
def reference_evaluator(model: Any) -> Any:
    """Return an evaluator of onnx's own reference implementation, which is NumPy."""
    import onnx.reference

    return onnx.reference.ReferenceEvaluator(onnx.load_from_string(model))


def by_reference(model: Any, feeds: Any) -> Any:
    """Run a model, given as bytes, by onnx's own reference implementation."""
    return reference_evaluator(model).run(None, feeds)


@lru_cache(4)
def openvino_request(model: Any) -> Any:
    """Return an inference request of OpenVINO on the CPU, in float32, where bfloat16 may be the default."""
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(core.read_model(model), "CPU", hints).create_infer_request()


def by_openvino(model: Any, feeds: Any) -> Any:
    """Run a model, given as bytes, by OpenVINO."""
    return list(openvino_request(model).infer(feeds).values())


@contextmanager
def refusing() -> Iterator[None]:
    """Turn the errors by which a runtime refuses a model into ``Unsupported``."""
    try:
        yield
    except Exception as error:
        if any(words in str(error) for words in REFUSAL_WORDS):
            raise Unsupported(f"{type(error).__name__}: {str(error).strip()}") from None
        raise


def subject_by(
    name: str,
    extra: str,
    packages: tuple[str, ...],
    run: Callable[..., Any],
    made: Any,
    dtypes: tuple[str, ...],
    slow: bool,
    cell: str = "RNN",
) -> FunctionSubject:
    """Return the subject of a runtime: ``run`` runs a model by what ``made`` makes of it.

    ``slow`` is as in ``Capabilities``.
    """
    name = of_cell(name, cell)

    def rnn(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
        if config.output_size is not None or not config.batched:
            raise Unsupported(f"ONNX's {config.cell} has a batch axis, and no readout")
        model = model_of(weights, config, lengths is not None).SerializeToString()
        with refusing():
            return run(model, fed(x, h0, config, lengths))

    software = installed(name, *packages, extra=extra)
    declared: Any = rnn
    declared.profile, declared.offers, declared.slow = PORT, LIBRARY_OFFERS | {"dtype": dtypes}, slow
    text = _SCRIPT.format(run=run.__name__)
    recipe = recipe_of("rnn", model_of, fed, made, run, text=text, takes=TAKES)
    subject = FunctionSubject(rnn, name, replace(recipe, paired=cell == "LSTM"), Conventions(cell=cell))
    subject.capabilities = replace(subject.capabilities, environment={"software": software})
    return subject


_BY: Final[dict[str, tuple[Any, ...]]] = {
    "onnx:runtime": (
        *("onnx", ("onnxruntime", "onnx"), by_onnxruntime, onnxruntime_session),
        ("float32", "float32", "float64", "float16", "bfloat16"),
        False,
    ),
    "onnx:reference": (
        *("onnx", ("onnx", "numpy"), by_reference, reference_evaluator),
        ("float32", "float32", "float64", "float64", "float16", "bfloat16"),
        False,
    ),
    "onnx:openvino": ("openvino", ("openvino", "onnx"), by_openvino, openvino_request, ("float32",), True),
}
runtime, reference, openvino = (of_each(partial(subject_by, name, *by)) for name, by in _BY.items())
