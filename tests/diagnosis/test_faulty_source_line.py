"""Tests of own lines: the line that computes a wrong quantity is named, and none where that is open to doubt."""

from pathlib import Path
from typing import Any

import pytest

from harness import as_subject
from harness.diagnosis.faulty_source_line import own_line
from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.identify.model import Coef, GradientClip, LayerModel, Network, StateGradientTerm
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.questions import Asker
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.observation_cache import ObservationCache
from harness.subjects.protocol import scope_of
from tests import implementations
from tests.diagnosis import lines_by_hand

FORWARD = Network(
    LayerModel(
        start="np.tanh(hx)",
        step=(("x[t] @ W_ih.T", Coef()), ("b_ih", Coef()), ("h[t-1] @ W_hh", Coef()), ("b_hh", Coef(2.0))),
    )
)
PORT = Network(
    LayerModel(
        links=(StateGradientTerm("da[t+1] @ W_hh.T", sloped=True),),
        gradient_sums={
            "weight_hh": (("da[t].T @ h[t]", Coef()),),
            "bias_ih": (("da[t].sum(0)", Coef(2.0)),),
            "bias_hh": (("da[t].sum(0)", Coef(2.0)),),
            "x": (),
            "hx": (("da[0] @ W_hh.T", Coef(3.0)),),
        },
        limits={"weight_ih": GradientClip("elements", 5.0)},
    )
)
WITHOUT = Network(LayerModel(step=tuple(term for term in LayerModel().step if term[0] != "b_hh")))
FROM_SECOND = Network(
    LayerModel(step=(*LayerModel().step[:-1], (LayerModel().step[-1][0], Coef(when=TermSteps("from", 1)))))
)
LEAKS = Network(LayerModel(activated=0.5, added=(("h[t-1]", Coef(0.5)),)), derived=True)


def line_of(function: Any, network: Network, sentence: str) -> str | None:
    """Return the text of the own line of the mistake with a sentence."""
    subject = as_subject(function)
    scope = scope_of(subject).only(nonlinearity="tanh")
    [mistake] = [one for one in mistakes_of(network, "tanh") if sentence in one.sentence]
    asker = Asker(ObservationCache(subject), scope, "tanh")
    found = own_line(asker, Identification(network, "tanh", fresh=3), mistake)
    if found is None:
        return None
    assert found.text.split(" (called")[0] == Path(found.file).read_text("utf-8").splitlines()[found.number - 1].strip()
    return found.text


@pytest.mark.parametrize(
    ("function", "network", "sentence", "line"),
    [
        (lines_by_hand.forward, FORWARD, "starts at", "h, output = squashed(h0[0]), []"),  # squashed itself is right
        (lines_by_hand.forward, FORWARD, "h[t-1] @ W_hh in", 'carried = h @ weights["weight_hh_l0"]'),
        (
            lines_by_hand.forward,
            FORWARD,
            "2 * b_hh",
            'drive = x_t @ weights["weight_ih_l0"].T + 2 * weights["bias_hh_l0"]',
        ),
        (lines_by_hand.from_second, FROM_SECOND, "but the first", "if t > 0:"),
        (lines_by_hand.port, PORT, "passes", "carry = da @ U.T"),
        (lines_by_hand.port, PORT, "weight_hh", "dU += da.T @ hs[t + 1]"),
        (lines_by_hand.port, PORT, "clips", "np.clip(dW, -5, 5, out=dW)"),
        (lines_by_hand.port, PORT, "gradient by hx", '"hx": 3 * carry[None],'),
        (lines_by_hand.Module, LEAKS, "state of", "h = 0.5 * new + 0.5 * h"),
    ],
)
def test_the_line_that_computes_a_wrong_quantity_is_named(
    function: Any, network: Network, sentence: str, line: str
) -> None:
    assert line_of(function, network, sentence) == line


@pytest.mark.parametrize(
    ("function", "network", "sentence"),
    [
        (lines_by_hand.compiled, FORWARD, "2 * b_hh"),  # its code is not seen
        (lines_by_hand.port, PORT, "biases"),  # two sums are one array
        (lines_by_hand.port, PORT, "gradient by x"),  # there is no number to be found
        (lines_by_hand.port, FORWARD, "2 * b_hh"),  # that is not what it computes
        (implementations.without_b_hh, WITHOUT, "never added"),  # where the variable is set that should hold b_hh
    ],
)
def test_nothing_is_said_where_that_is_open_to_doubt(function: Any, network: Network, sentence: str) -> None:
    assert line_of(function, network, sentence) is None
