"""Tests of the examples: the notebook's model, redone by hand, and what the harness says about it."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import Disagreement, RNNConfig, as_subject, assert_agrees, draw
from harness.diagnosis.finding_explainer import FindingExplainer
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


@pytest.mark.parametrize(
    ("wrong", "right", "smallest", "cause"),
    [
        (
            "lstm_port.py:lstm",
            "lstm_port.py:lstm_in_torch_s_order",
            {"hidden_size": 1, "cell": "LSTM"},
            "reads its rows in the order i, o, f, g, ONNX's",
        ),
        (
            "minimal_gated_unit.py:mgu",
            "minimal_gated_unit.py:mended_mgu",
            {"hidden_size": 2, "cell": "MGU", "hx": True},  # with one unit, both are the same
            "takes f * (h @ W_hn.T) in the sum of n, not (f * h) @ W_hn.T",
        ),
    ],
)
def test_a_port_with_gates_is_told_what_is_wrong(wrong: str, right: str, smallest: Any, cause: str) -> None:
    subjects = [as_subject(f"{PATH.parent / name}") for name in (wrong, right)]
    found = hunt(subjects[0], scope_of(subjects[0]).only(loss=None), cases=60).finding

    assert found is not None
    assert found.case.config == RNNConfig(1, **smallest)
    diagnosis = FindingExplainer(subjects[0]).explain(found, scope_of(subjects[0])).diagnosis
    assert diagnosis is not None
    assert diagnosis.cause is not None
    assert diagnosis.cause.sentence == cause
    assert hunt(subjects[1], scope_of(subjects[1]).only(loss=None), cases=60).finding is None
