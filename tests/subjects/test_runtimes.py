"""Tests of other libraries' layers as subjects: each agrees where it should, and a mistake in its mapping is named."""

import inspect
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from harness import RNNConfig, Verdict, as_subject, draw
from harness.checks.activation_accuracy import measure
from harness.checks.agreement import check_agreement
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.diagnosis.script.script_text import script
from harness.oracle.arithmetic_assumptions import STRICT
from harness.search.search import hunt
from harness.space.cells import CELLS
from harness.space.outcome import Failure
from harness.subjects.conventions import Conventions
from harness.subjects.function import FunctionSubject
from harness.subjects.protocol import scope_of
from harness.subjects.runtimes import flax, keras, mlx, ncnn, paddle
from harness.subjects.subject_names import of_cell
from tests.causes import has_cause_of
from tests.scripts import says_failed

# The module of the package that each subject needs.
NEEDS = {"jax:flax": "flax", "keras:torch": "keras", "mlx:cpu": "mlx", "ncnn:cpu": "ncnn", "paddle:layer": "paddle"}

PLAIN = RNNConfig(3, 4, nonlinearity="relu", T=5, N=3)
SMALL = {"T": (1, 2, 3), "N": (1, 2), "input_size": (1, 2), "hidden_size": (1, 2, 3), "bias": True}
DEEP = PLAIN.replace(num_layers=2, batch_first=True, hx=True, loss="both", wrt="all")
STACK = DEEP.replace(bidirectional=True, batch_first=False)
PACKED = PLAIN.replace(lengths=(2, 5, 3), num_layers=2)


def subject_of(name: str, cell: str = "RNN") -> Any:
    if find_spec(NEEDS[name]) is None:  # Keras must not be imported before it is told its backend
        pytest.skip(f"needs the extra {name.partition(':')[0]}")
    return as_subject(of_cell(name, cell))


AGREE = [
    ("jax:flax", PLAIN.replace(batched=False, N=1, bias=False)),
    ("jax:flax", STACK.replace(dtype="float64", nonlinearity="tanh")),
    ("jax:flax", STACK.replace(lengths=(2, 5, 3), batch_first=True)),
    ("keras:torch", PLAIN.replace(bias=False)),
    ("keras:torch", STACK),
    ("keras:torch", PACKED.replace(bidirectional=True, batch_first=True)),
    ("mlx:cpu", PLAIN.replace(batched=False, N=1, bias=False)),
    ("mlx:cpu", DEEP),
    ("ncnn:cpu", PLAIN.replace(nonlinearity="tanh", batched=False, N=1, bias=False)),
    ("ncnn:cpu", PACKED.replace(nonlinearity="tanh", bidirectional=True, batch_first=True, hx=True)),
    ("paddle:layer", PACKED),
    ("paddle:layer", STACK.replace(dtype="float64", nonlinearity="tanh")),
    ("paddle:layer", DEEP),
]


@pytest.mark.long
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("name", "config"), AGREE)
def test_a_layer_computes_what_torch_s_computes(name: str, config: RNNConfig, cell: str) -> None:
    bias = config.bias and (name, cell) != ("jax:flax", "GRU")  # whose cell has no b_hn
    case = draw(config.replace(cell=cell, nonlinearity="tanh" if cell != "RNN" else config.nonlinearity, bias=bias))

    subject = subject_of(name, cell)
    # Some functions of gates are less accurate than assumed: what is measured of them is accepted, as in a search.
    measured = tuple(one.accepted for one in measure(subject, scope_of(subject), STRICT) if not one.assumed)

    assert check_agreement(subject, case, accepted=STRICT._replace(measured=measured)).verdict is Verdict.AGREES


REFUSED = [
    ("jax:flax", PLAIN.replace(num_layers=2, training=True, dropout=0.5), "no dropout"),
    ("keras:torch", PLAIN.replace(batched=False, N=1), "batch axis"),
    ("mlx:cpu", PLAIN.replace(bidirectional=True), "one direction"),
    ("mlx:cpu", PACKED, "no packed sequences"),
    ("ncnn:cpu", PLAIN, "tanh only"),
    ("paddle:layer", PLAIN.replace(batched=False, N=1), "batch axis"),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "config", "words"), REFUSED)
def test_what_a_library_has_not_is_unsupported_and_never_wrong(name: str, config: RNNConfig, words: str) -> None:
    outcome = subject_of(name).run(draw(config))

    assert outcome.failure is Failure.UNSUPPORTED
    assert words in outcome.message


MISTAKES = [
    ("jax:flax", flax, "nnx.Param(U.T)", "nnx.Param(U)", "TransposesWeightHH"),
    ("keras:torch", keras, "else sum(of)", "else of[0]", "IgnoresBiasHH"),
    ("mlx:cpu", mlx, "[one[..., -1, :] for one in states]", "[one[..., 0, :] for one in states]", "TakesHnAtFirstStep"),
    ("ncnn:cpu", ncnn, "rows(b + b_hh)", "rows(b)", "IgnoresBiasHH"),
    ("paddle:layer", paddle, "set_value(array)", "set_value(array.T if 'hh' in name else array)", "TransposesWeightHH"),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "module", "right", "wrong", "cause"), MISTAKES)
def test_a_mistake_in_the_mapping_is_named(name: str, module: ModuleType, right: str, wrong: str, cause: str) -> None:
    run = subject_of(name).capabilities.recipe.expression
    text = inspect.getsource(module)
    assert text.count(right) == 1
    made: dict[str, Any] = {}
    exec(text.replace(right, wrong), made)  # noqa: S102 - a file of this package, with a mistake
    subject = FunctionSubject(made[run], "mine")
    scope = scope_of(subject).only(
        num_layers=1, bidirectional=False, nonlinearity="tanh", dtype="float32", loss=None, lengths=None, **SMALL
    )

    found = hunt(subject, scope, cases=100)

    assert found.finding is not None
    assert has_cause_of(FindingExplainer(subject).explain(found.finding, found.scope).diagnosis, cause)


ROWS = [
    ("keras:torch", keras, "[blocks[1], blocks[0], blocks[2]]", "blocks", "GRU", "rows in the order z, r, n"),
    (
        "ncnn:cpu",
        ncnn,
        "np.concatenate([i, f, o, g])",
        "np.concatenate([i, f, g, o])",
        "LSTM",
        "rows in the order i, f, o, g",
    ),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "module", "right", "wrong", "cell", "words"), ROWS)
def test_an_order_of_rows_that_is_taken_wrongly_is_named(
    name: str, module: ModuleType, right: str, wrong: str, cell: str, words: str
) -> None:
    own = subject_of(name, cell).capabilities
    text = inspect.getsource(module)
    assert text.count(right) == 1
    made: dict[str, Any] = {}
    exec(text.replace(right, wrong), made)  # noqa: S102 - a file of this package, with a mistake
    subject = FunctionSubject(made[own.recipe.expression], "mine", own.recipe, Conventions(cell=cell))
    scope = scope_of(subject).only(num_layers=1, bidirectional=False, dtype="float32", loss=None, lengths=None, **SMALL)

    found = hunt(subject, scope, cases=100)

    assert found.finding is not None
    diagnosis = FindingExplainer(subject).explain(found.finding, found.scope).diagnosis
    assert diagnosis is not None
    assert diagnosis.certain
    assert diagnosis.cause is not None
    assert words in diagnosis.cause.sentence


@pytest.mark.long
def test_a_script_of_a_finding_needs_the_library_only() -> None:
    subject = subject_of("keras:torch")
    pins = {"num_layers": 1, "nonlinearity": "tanh", "dtype": "float64", "lengths": None, "loss": None}
    finding = hunt(subject, scope_of(subject).only(bidirectional=False, **pins, **SMALL), cases=20).finding

    assert finding is not None  # Keras' matmul of float64 tensors is one of float32
    assert says_failed(script(finding, subject).text)
