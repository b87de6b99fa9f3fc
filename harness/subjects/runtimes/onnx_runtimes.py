"""The runtimes of ONNX models: each function returns output and h_n of a model, given as bytes.

The text of these functions is part of the scripts of findings, so each imports what it uses.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(4)
def onnxruntime_session(model: Any) -> Any:
    """Return a session of ONNX Runtime, on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # an error is raised, and need not be printed, too
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def by_onnxruntime(model: Any, feeds: Any) -> Any:
    """Run a model by ONNX Runtime."""
    return onnxruntime_session(model).run(["output", "h_n"], feeds)


@lru_cache(4)
def reference_evaluator(model: Any) -> Any:
    """Return an evaluator of onnx's own reference implementation, which is NumPy."""
    import onnx.reference

    return onnx.reference.ReferenceEvaluator(onnx.load_from_string(model))


def by_reference(model: Any, feeds: Any) -> Any:
    """Run a model by onnx's own reference implementation."""
    return reference_evaluator(model).run(["output", "h_n"], feeds)


@lru_cache(4)
def openvino_request(model: Any) -> Any:
    """Return an inference request of OpenVINO on the CPU, in float32, where bfloat16 may be the default."""
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(core.read_model(model), "CPU", hints).create_infer_request()


def by_openvino(model: Any, feeds: Any) -> Any:
    """Run a model by OpenVINO."""
    results = openvino_request(model).infer(feeds)
    return results["output"], results["h_n"]
