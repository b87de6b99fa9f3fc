"""Tests of the examples: the notebook's model, redone by hand, and what the harness says about it."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import Disagreement, LSTMConfig, RNNConfig, Verdict, as_subject, assert_agrees, check_agreement, draw
from harness.diagnosis.investigate import Investigation
from harness.search.search import hunt
from harness.subjects.protocol import scope_of

pytestmark = pytest.mark.kernels

PATH = Path(__file__).parents[1] / "examples" / "notebook.py"


@pytest.fixture(scope="module")
def notebook() -> Any:
    spec = importlib.util.spec_from_file_location("notebook_example", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("output_size", [None, 2])
def test_the_notebook_s_own_case_is_wrong_as_it_stands_and_right_when_mended(notebook: Any, output_size: int) -> None:
    case = draw(RNNConfig(1, 5, batch_first=True, T=10, N=1, output_size=output_size), "default", 0)

    assert_agrees(notebook.rnn_with_b_hh, case)
    with pytest.raises(Disagreement):
        assert_agrees(notebook.rnn_without_b_hh, case)


def test_the_notebook_s_model_gives_the_false_it_ends_on(notebook: Any) -> None:
    torch.manual_seed(0)
    model = notebook.SimpleRNN(1, 5, 2)
    x = np.random.default_rng(0).standard_normal((1, 10, 1)).astype(np.float32)

    given, by_hand, mended = notebook.compare_by_hand(model, x)

    assert not np.allclose(given, by_hand)
    assert np.allclose(given, mended)


def test_the_minimal_gated_unit_is_compared_with_its_equations() -> None:
    wrong, right = (as_subject(f"{PATH.parent / 'minimal_gated_unit.py'}:{name}") for name in ("mgu", "mended_mgu"))
    found = hunt(wrong, scope_of(wrong).only(loss=None), cases=60).finding

    assert found is not None
    diagnosis = Investigation(wrong).explain(found, scope_of(wrong)).diagnosis
    assert diagnosis is not None
    assert diagnosis.cause is not None
    assert diagnosis.cause.sentence == "takes f * (h @ W_hn.T) in the sum of n, not (f * h) @ W_hn.T"
    assert found.case.config == RNNConfig(1, 2, T=1, N=1, hx=True, cell="MGU")  # with one unit, both are the same
    assert hunt(right, scope_of(right), cases=60).finding is None


def test_the_lstm_port_is_told_the_order_of_its_rows() -> None:
    wrong, right = (as_subject(f"{PATH.parent / 'lstm_port.py'}:{name}") for name in ("lstm", "lstm_in_torch_s_order"))
    found = hunt(wrong, scope_of(wrong).only(loss=None), cases=60).finding

    assert found is not None
    diagnosis = Investigation(wrong).explain(found, scope_of(wrong)).diagnosis
    assert diagnosis is not None
    assert diagnosis.cause is not None
    assert diagnosis.cause.sentence == "reads its rows in the order i, o, f, g, ONNX's"
    assert check_agreement(right, draw(LSTMConfig(3, 4, T=5, N=2, hx=True))).verdict is Verdict.AGREES
