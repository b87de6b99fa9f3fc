"""A step that a paper or a framework has is named by it, and no other step is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest

import harness
from harness import as_subject
from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.identify.gated_layer_inquiry import identify_gated
from harness.diagnosis.identify.gates import GatedModel, step_of
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.model import Network
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.published_variants import RESET_BEFORE, VARIANTS, PublishedVariant
from harness.diagnosis.identify.questions import Asker
from harness.diagnosis.observation_cache import ObservationCache
from harness.pipeline import check
from harness.space.config import RNNConfig
from harness.space.values import draw
from harness.subjects.protocol import scope_of
from tests.long import few

Step = Callable[..., Any]


def sigmoid(s: Any) -> Any:
    return 1 / (1 + np.exp(-s))


def hard_sigmoid_2(s: Any) -> Any:
    """Return the hard_sigmoid of keras.activations 2.2.4: 0 below -2.5, 1 above 2.5, 0.2 * s + 0.5 between these."""
    return np.where(s < -2.5, 0, np.where(s > 2.5, 1, 0.2 * s + 0.5))


def hard_sigmoid_3(s: Any) -> Any:
    """Return the hard_sigmoid of keras.activations 3: 0 below -3, 1 above 3, s / 6 + 0.5 between these."""
    return np.where(s <= -3, 0, np.where(s >= 3, 1, s / 6 + 0.5))


# A step is given x, the states, and of each gate the matrices W and U and the bias b.


def cho(x: Any, h: Any, _: Any, W: Any, U: Any, b: Any, sigma: Any = sigmoid) -> Any:
    """Return the new h of Cho et al. 2014, arXiv:1406.1078v3, with biases, which are left out there."""
    r = sigma(x @ W["r"] + h @ U["r"] + b["r"])  # (5)
    z = sigma(x @ W["z"] + h @ U["z"] + b["z"])  # (6)
    candidate = np.tanh(x @ W["n"] + (r * h) @ U["n"] + b["n"])  # (8)
    return (z * h + (1 - z) * candidate,)  # (7)


def chung(x: Any, h: Any, _: Any, W: Any, U: Any, b: Any) -> Any:
    """Return the new h of Chung et al. 2014, arXiv:1412.3555, section 3.2, with biases, which are left out there."""
    z = sigmoid(x @ W["z"] + h @ U["z"] + b["z"])
    r = sigmoid(x @ W["r"] + h @ U["r"] + b["r"])
    candidate = np.tanh(x @ W["n"] + (r * h) @ U["n"] + b["n"])
    return ((1 - z) * h + z * candidate,)


def keras_2_2(x: Any, h: Any, _: Any, W: Any, U: Any, b: Any) -> Any:
    """Return the new h of keras.layers.GRU 2.2.4, by GRUCell.call with its defaults."""
    return cho(x, h, _, W, U, b, hard_sigmoid_2)


def lasagne(x: Any, h: Any, _: Any, W: Any, U: Any, b: Any) -> Any:
    """Return the new h of lasagne.layers.GRULayer, by the equations of its documentation."""
    r = sigmoid(x @ W["r"] + h @ U["r"] + b["r"])
    u = sigmoid(x @ W["z"] + h @ U["z"] + b["z"])
    c = np.tanh(x @ W["n"] + r * (h @ U["n"]) + b["n"])
    return ((1 - u) * h + u * c,)


def gru(x: Any, h: Any, _: Any, W: Any, U: Any, b: Any, sigma: Any) -> Any:
    r, z = (sigma(x @ W[k] + h @ U[k] + b[k]) for k in "rz")
    n = np.tanh(x @ W["n"] + b["n"] + r * (h @ U["n"] + b["hn"]))
    return ((1 - z) * n + z * h,)


def graves(x: Any, h: Any, c: Any, W: Any, U: Any, b: Any) -> Any:
    """Return the new h and c of Graves 2013, arXiv:1308.0850, whose W_ci, W_cf and W_co are the identity."""
    i = sigmoid(x @ W["i"] + h @ U["i"] + c + b["i"])  # (7)
    f = sigmoid(x @ W["f"] + h @ U["f"] + c + b["f"])  # (8)
    c = f * c + i * np.tanh(x @ W["g"] + h @ U["g"] + b["g"])  # (9)
    o = sigmoid(x @ W["o"] + h @ U["o"] + c + b["o"])  # (10)
    return o * np.tanh(c), c  # (11)


def lstm(
    x: Any, h: Any, c: Any, W: Any, U: Any, b: Any, *, sigma: Any = sigmoid, new: Any = None, bias: Any = 0
) -> Any:
    i, f, o = (sigma(x @ W[k] + h @ U[k] + b[k] + bias * (k == "f")) for k in "ifo")
    g = np.tanh(x @ W["g"] + h @ U["g"] + b["g"])
    c = new(i, f, g, c) if new else f * c + i * g
    return o * np.tanh(c), c


def greff(*given: Any) -> Any:
    """Return the new h and c of an LSTM with f = 1 - i, Greff et al. 2017, arXiv:1503.04069, CIFG in section 3."""
    return lstm(*given, new=lambda i, _, g, c: (1 - i) * c + i * g)


def coupled_of_tensorflow_1(*given: Any) -> Any:
    """Return the new h and c of tf.contrib.rnn.CoupledInputForgetGateLSTMCell with forget_bias=0."""
    return lstm(*given, new=lambda _, f, g, c: f * c + (1 - f) * g)


def jozefowicz(*given: Any) -> Any:
    """Return the new h and c of an LSTM to whose b_f 1 is added, Jozefowicz et al. 2015."""
    return lstm(*given, bias=1)


# The steps by the variants' names: how these begin, and of which cell they are.
STEPS: Final[dict[tuple[str, str], Step]] = {
    ("the GRU of Cho", "GRU"): cho,
    ("the GRU of Chung", "GRU"): chung,
    ("the GRU that was Keras's", "GRU"): keras_2_2,
    ("Lasagne's", "GRU"): lasagne,
    ("the peepholes of", "LSTM"): graves,
    ("the coupled input and forget gates of Greff", "LSTM"): greff,
    ("the coupled input and forget gates of TensorFlow 1", "LSTM"): coupled_of_tensorflow_1,
    ("the forget bias of", "LSTM"): jozefowicz,
    **{
        (f"the hard_sigmoid of Keras {k}", cell): lambda *given, step=step, sigma=sigma: step(*given, sigma=sigma)
        for cell, step in (("GRU", gru), ("LSTM", lstm))
        for k, sigma in ((2, hard_sigmoid_2), (3, hard_sigmoid_3))
    },
}


def step_of_variant(variant: PublishedVariant) -> Step:
    [step] = [
        step
        for (name, cell), step in STEPS.items()
        if (variant.name.startswith(name), variant.model.cell) == (True, cell)
    ]
    return step


def layer(step: Step, cell: str, start: Any = lambda h: h, rows: str = "") -> Any:
    """Return a layer of one direction in NumPy that makes a step, whose gates' rows have an order."""
    letters = rows or {"GRU": "rzn", "LSTM": "ifgo"}[cell]

    def of(x: Any, states: Any, weights: Any, config: RNNConfig) -> Any:
        if config.batch_first or config.num_directions > 1 or config.num_layers > 1 or not config.bias:
            raise NotImplementedError("one layer with biases, one direction, time first")
        W, U = (
            {k: block.T for k, block in zip(letters, np.split(weights[f"weight_{of}_l0"], len(letters)), strict=True)}
            for of in ("ih", "hh")
        )
        biases = [np.split(weights[f"bias_{of}_l0"], len(letters)) for of in ("ih", "hh")]
        b = {k: first + second for k, first, second in zip(letters, *biases, strict=True)}
        if step in HAS_TWO_BIASES:
            b |= {"n": biases[0][-1], "hn": biases[1][-1]}
        h, *c = (start(state[0]) for state in states)
        output = []
        for frame in x:
            h, *c = (np.asarray(v, x.dtype) for v in step(frame, h, *(c or [None]), W, U, b))
            output.append(h)
        return (np.stack(output), h[None], *(v[None] for v in c))

    def own_gru(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
        return of(x, [h0], weights, config)

    def own_lstm(x: Any, h0: Any, c0: Any, weights: Any, config: RNNConfig) -> Any:
        return of(x, [h0, c0], weights, config)

    return harness.conventions(**{cell.lower(): True})(own_gru if cell == "GRU" else own_lstm)


HAS_TWO_BIASES: Final = [step for (name, cell), step in STEPS.items() if cell == "GRU" and "hard" in name]


def identified(function: Any, cell: str) -> Identification:
    subject = as_subject(function)
    return identify_gated(Asker(ObservationCache(subject), scope_of(subject), "tanh"), RNNConfig(2, 2, N=2, cell=cell))


def said_of(model: GatedModel) -> list[str]:
    return [mistake.sentence for mistake in mistakes_of(Network(model, derived=True), "tanh")]


def ids(variant: PublishedVariant) -> str:
    return f"{variant.name.partition(' (')[0]}, {variant.model.cell}"


@pytest.mark.parametrize("variant", VARIANTS, ids=ids)
def test_a_variant_computes_what_was_published(variant: PublishedVariant) -> None:
    config = RNNConfig(3, 4, T=5, N=2, hx=True, cell=variant.model.cell, dtype="float64")
    case = draw(config, "normal", 1)
    states = [case.hx] if case.cx is None else [case.hx, case.cx]

    own = run(Network(variant.model, derived=True), case)
    published = layer(step_of_variant(variant), variant.model.cell)(case.x, *states, dict(case.weights), config)

    for name, array in zip(("output", *config.form.final), published, strict=True):
        np.testing.assert_allclose(values_of(own[name]), array, 1e-12, 1e-12)


@pytest.mark.parametrize(
    "variant", few([(variant,) for variant in VARIANTS], lambda row: "Chung" in row[0].name or "Gers" in row[0].name)
)
def test_a_layer_of_a_variant_is_named(variant: PublishedVariant) -> None:
    found = identified(layer(step_of_variant(variant), variant.model.cell), variant.model.cell)

    said = [mistake.sentence for mistake in mistakes_of(found.network, "tanh")]
    assert found.whole
    assert said == said_of(variant.model)
    assert all(sentence.endswith(variant.name) for sentence in said)


@pytest.mark.parametrize(
    ("step", "cell", "name"),
    few([(cho, "GRU", "the GRU of Cho et al. 2014"), (jozefowicz, "LSTM", "the forget bias of Jozefowicz")], 1),
)
def test_a_report_names_a_variant(step: Step, cell: str, name: str, tmp_path: Any) -> None:
    report = str(check(layer(step, cell), cases=60, findings=str(tmp_path), quiet=True))

    assert name in " ".join(report.split())


@pytest.mark.parametrize("order", ["zrn", "rzn"])
def test_rows_and_starts_of_a_variant_may_be_others(order: str) -> None:
    found = identified(layer(cho, "GRU", start=lambda h: 0 * h, rows=order), "GRU")

    said = [mistake.sentence for mistake in mistakes_of(found.network, "tanh")]
    assert [sentence.partition(":")[0] for sentence in said if "reads" not in sentence] == [
        "ignores hx",
        "applies r to h before W_hn, not to the product with it",
    ]
    assert [sentence for sentence in said if "Cho et al." in sentence] == said[-1:]


def named(start: str) -> GatedModel:
    return next(variant.model for variant in VARIANTS if variant.name.startswith(start))


def with_term(model: GatedModel, letter: str, k: int, **changes: Any) -> GatedModel:
    """Return a model in which a term of a gate's sum is another."""
    gates = dict(model.gates)
    parts = list(gates[letter].parts)
    parts[k] = parts[k]._replace(**changes)
    gates[letter] = gates[letter]._replace(parts=tuple(parts))
    return replace(model, gates=tuple(gates.items()))


@pytest.mark.parametrize(
    "model",
    [
        replace(RESET_BEFORE, limit=1.0),
        with_term(RESET_BEFORE, "n", 3, factor="r"),
        with_term(RESET_BEFORE, "n", 1, coef=2.0),
        with_term(RESET_BEFORE, "z", 1, coef=0.5),
        replace(step_of("GRU"), mix=named("the GRU of Chung").mix),
        with_term(named("the peepholes"), "f", 4, coef=0.5),
        with_term(named("the peepholes"), "o", 4, operand="c"),
        with_term(named("the forget bias"), "f", 4, coef=2.0),
    ],
)
def test_a_step_that_is_nearly_a_variant_has_not_its_name(model: GatedModel) -> None:
    assert not [sentence for sentence in said_of(model) if ":" in sentence]


def test_a_part_is_named_beside_other_choices() -> None:
    model = replace(named("the forget bias"), memory=named("the coupled input and forget gates of G").memory, limit=3.0)

    assert [sentence.partition(" (")[0] for sentence in said_of(model)] == [
        "adds 1 to the sum of f: the forget bias of Jozefowicz et al. 2015",
        "takes 1 - i in the place of f: the coupled input and forget gates of Greff et al. 2017, CIFG",
        "clips c to ±3",
    ]
