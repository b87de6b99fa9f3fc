"""Tests of ONNX models as subjects: what a runtime gets right, wrong, and refuses, and what a script says of it."""

import io
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
from rich.console import Console

from harness import RNNConfig, Verdict, as_subject, draw
from harness.checks.activation_accuracy import measure
from harness.checks.agreement import check_agreement
from harness.diagnosis.script.script_text import script
from harness.oracle.arithmetic_assumptions import STRICT
from harness.report.terminal import subjects_list
from harness.search.search import hunt
from harness.space.cells import CELLS
from harness.space.outcome import Failure
from harness.subjects.protocol import SubjectUnavailable, scope_of
from harness.subjects.registry import find_subject
from harness.subjects.runtimes import library, onnx_exporters, onnx_runtimes
from harness.subjects.subject_names import of_cell
from tests.scripts import says_failed

PLAIN = RNNConfig(3, 4, nonlinearity="relu", T=5, N=3)
STACK = PLAIN.replace(num_layers=2, bidirectional=True, hx=True)
PACKED = STACK.replace(lengths=(2, 5, 3))
TANH = STACK.replace(nonlinearity="tanh", dtype="float64", batch_first=True)


@pytest.fixture
def _installed() -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="needs the extra onnx")


needs_onnx = pytest.mark.usefixtures("_installed")


AGREE = [
    ("onnx:runtime", PLAIN.replace(bias=False)),
    ("onnx:runtime", PACKED),
    ("onnx:runtime", STACK.replace(dtype="float16", nonlinearity="tanh")),
    ("onnx:reference", TANH),
    ("onnx:reference", TANH.replace(batch_first=False, bias=False)),
    ("onnx:torchscript", PACKED),
    ("onnx:torchscript", PACKED.replace(batch_first=True, preparation="used")),
    ("onnx:torchscript", PLAIN.replace(batched=False, N=1, preparation="used", training=True)),
]


@needs_onnx
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("name", "config"), AGREE)
def test_a_model_computes_what_torch_s_layer_computes(name: str, config: RNNConfig, cell: str) -> None:
    if cell != "RNN":
        config = config.replace(cell=cell, nonlinearity="tanh")
    subject = as_subject(of_cell(name, cell))
    # Some functions of gates are less accurate than assumed: what is measured of them is accepted, as in a search.
    measured = tuple(one.accepted for one in measure(subject, scope_of(subject), STRICT) if not one.assumed)

    assert check_agreement(subject, draw(config), accepted=STRICT._replace(measured=measured)).verdict is Verdict.AGREES


REFUSED = [
    ("onnx:runtime", PLAIN.replace(batch_first=True), "layout == 1"),
    ("onnx:runtime", PLAIN.replace(dtype="float64"), "NOT_IMPLEMENTED"),
    ("onnx:runtime", PLAIN.replace(batched=False, N=1), "batch axis"),
    ("onnx:runtime", PLAIN.replace(output_size=2), "no readout"),
    ("onnx:reference", PLAIN, "Relu"),
    ("onnx:torchscript", STACK.replace(training=True, dropout=0.5), "no dropout in training"),
]


@needs_onnx
@pytest.mark.parametrize(("name", "config", "words"), REFUSED)
def test_what_a_runtime_refuses_is_unsupported_and_never_wrong(name: str, config: RNNConfig, words: str) -> None:
    outcome = as_subject(name).run(draw(config))

    assert outcome.failure is Failure.UNSUPPORTED
    assert words in outcome.message


@needs_onnx
def test_a_runtime_that_ignores_sequence_lens_disagrees_and_a_script_shows_it() -> None:
    subject = as_subject("onnx:reference")
    packed = {"lengths": "any", "T": (1, 2, 3), "N": (1, 2, 3), "nonlinearity": "tanh", "dtype": "float64"}
    finding = hunt(subject, scope_of(subject).only(**packed), cases=60).finding

    assert finding is not None
    assert (finding.result.verdict, finding.case.config.T, finding.case.config.N) == (Verdict.DISAGREES, 2, 2)
    assert says_failed(script(finding, subject).text)


@needs_onnx
def test_dynamic_axes_are_checked_at_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, used = as_subject("onnx:torchscript"), draw(PLAIN.replace(preparation="used"))
    right = onnx_exporters.example_of
    monkeypatch.setattr(onnx_exporters, "example_of", lambda config, packed, time: (right(config, packed, time)[0], {}))

    outcome = subject.run(used)

    assert outcome.failure is Failure.RAISED
    assert "Got: 5 Expected: 6" in outcome.message


@needs_onnx
def test_an_error_that_is_no_refusal_is_a_failure() -> None:
    def run(model: bytes, feeds: Any) -> Any:
        raise RuntimeError("out of luck")

    subject = onnx_runtimes.subject_by("mine", "onnx", ("onnx",), run, run, ("float32",), False)

    assert subject.run(draw(PLAIN)).failure is Failure.RAISED


def test_an_exporter_that_raises_has_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def exported(*given: Any) -> bytes:
        raise ValueError("one line\nand another")

    monkeypatch.setattr(library, "version", lambda _package: "1.0")
    monkeypatch.setattr(onnx_exporters, "exported", exported)
    outcome = onnx_exporters.torchscript.RNN().run(draw(PLAIN))

    assert (outcome.failure, outcome.message) == (Failure.UNSUPPORTED, "ValueError: one line")


NEED_AN_EXTRA = ["onnx:runtime", "onnx:openvino", "jax:flax", "keras:torch", "paddle:layer", "mlx:cpu", "ncnn:cpu"]


@pytest.mark.parametrize("name", NEED_AN_EXTRA)
def test_a_runtime_that_is_not_installed_is_told_with_its_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(library, "version", version)
    with pytest.raises(
        SubjectUnavailable, match=r"needs \w+; pip install 'rnn-harness\[(jax|keras|mlx|ncnn|onnx|openvino|paddle)\]'"
    ) as raised:
        find_subject(name)
    assert "\n" not in str(raised.value)

    console = Console(width=60, record=True, file=io.StringIO())
    console.print(subjects_list([(name, str(raised.value), "", "rnn-harness")]))
    assert "…" not in console.export_text()
