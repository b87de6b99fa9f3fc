"""Conformance of torch's nn.RNNCell: it computes a step of nn.RNN, and refuses misfits with the mismatched numbers."""

from typing import Any

import pytest
import torch
from hypothesis import given

from harness import Case, assert_agrees, cases
from harness.space.factor_table import DTYPES, LOSSES
from harness.subjects.torch_cell import CellSubject
from tests.long import few

pytestmark = pytest.mark.kernels

CELL = CellSubject()
PLAIN: dict[str, Any] = {"num_layers": 1, "bidirectional": False, "batch_first": False, "dropout": 0.0}


@pytest.mark.parametrize("dtype", few(DTYPES, lambda dtype: dtype == "float32"))
def test_a_loop_of_it_is_nn_rnn(dtype: str) -> None:
    @given(cases(**PLAIN, dtype=dtype, batched=[True, False], losses=LOSSES, output_size=[None, 2]))
    def agrees(case: Case) -> None:
        assert_agrees(CELL, case)

    agrees()


@pytest.mark.parametrize(
    ("x", "hx", "error", "facts"),
    [
        ((), None, ValueError, ["1D or 2D", "0D"]),
        ((1, 2, 3), None, ValueError, ["1D or 2D", "3D"]),
        ((2, 3), (1, 2, 4), ValueError, ["1D or 2D", "3D"]),
        ((2, 7), None, RuntimeError, ["7", "3"]),
        ((2, 3), (1, 4), RuntimeError, ["2", "1"]),
        ((2, 3), (2, 5), RuntimeError, ["5", "4"]),
    ],
)
def test_what_does_not_fit_is_refused_with_its_numbers(
    x: tuple[int, ...], hx: tuple[int, ...] | None, error: type[Exception], facts: list[str]
) -> None:
    cell = torch.nn.RNNCell(3, 4)

    with pytest.raises(error) as raised:
        cell(torch.ones(x), None if hx is None else torch.ones(hx))

    assert all(fact in str(raised.value) for fact in facts)


def test_an_unknown_nonlinearity_is_refused_when_it_is_called() -> None:
    cell = torch.nn.RNNCell(3, 4, nonlinearity="sigmoid")

    with pytest.raises(RuntimeError, match="sigmoid"):
        cell(torch.ones(2, 3))
