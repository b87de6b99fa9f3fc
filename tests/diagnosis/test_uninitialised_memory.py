"""Memory that is read before it is written is told as that, and what is written first is not."""

from typing import Any

import numpy as np
import pytest
import torch

from harness import Case, RNNConfig, as_subject, check
from harness.diagnosis.uninitialised_memory import follows_new_arrays
from harness.subjects.run_user_code import filled


def empty(shape: Any, dtype: Any) -> Any:
    return np.empty(shape, dtype)


def of_numpy(start: Any) -> Any:
    def rnn(x: Any, weights: Any) -> Any:
        h = start((x.shape[1], weights["weight_hh_l0"].shape[0]), x.dtype)
        output = np.empty((*x.shape[:2], h.shape[1]), x.dtype)
        for t, x_t in enumerate(x):
            b = weights["bias_ih_l0"] + weights["bias_hh_l0"]
            h = np.tanh(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b)
            output[t] = h
        return output, h[None]

    rnn.offers = {"batch_first": (False,), "bias": (True,)}  # type: ignore[attr-defined]
    return rnn


class OfTorch(torch.nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.read, self.keep = torch.nn.Linear(input_size, hidden_size), torch.nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Any) -> Any:
        h, states = x.new_empty(x.shape[1], self.keep.in_features), []
        for step in x:
            h = torch.tanh(self.read(step) + self.keep(h))
            states.append(h)
        return torch.stack(states), h[None]


@pytest.mark.parametrize(
    ("subject", "reads"),
    [(of_numpy(empty), True), (of_numpy(np.zeros), False), (OfTorch, True)],
    ids=["empty", "zeros", "torch"],
)
def test_what_is_read_before_it_is_written_is_told(subject: Any, reads: bool, tmp_path: Any) -> None:
    said = " ".join(str(check(subject, cases=210, quiet=True, findings=str(tmp_path))).split())

    assert ("1 reads memory before it is written, such as an array of np.empty" in said) is reads
    assert ("; 1 bug" in said or ": 1 bug" in said) is reads


def test_what_is_read_shows_also_where_tanh_is_at_its_ends() -> None:
    """With W_hh = 64, tanh of 64 times any number above 0.2 is 1 in bfloat16."""
    zero = [[0.0]]
    case = Case.of(
        RNNConfig(1, 1, T=1, N=1, dtype="bfloat16"),
        x=[zero],
        weight_ih_l0=zero,
        weight_hh_l0=[[64.0]],
        bias_ih_l0=[0.0],
        bias_hh_l0=[0.0],
    )

    assert follows_new_arrays(as_subject(OfTorch), case)


def test_new_arrays_are_filled_and_everything_is_as_it_was_afterwards() -> None:
    before = np.empty, torch.Tensor.new_empty

    with filled(0.5):
        made: list[Any] = [np.empty(2), np.empty_like(np.ones(2)), torch.empty(2), torch.ones(2).new_empty(2)]
        whole = np.empty(2, int), torch.empty(2, dtype=torch.int64)

    assert all(float(number) == 0.5 for one in made for number in one)
    assert [one.shape for one in whole] == [(2,), (2,)]
    assert (np.empty, torch.Tensor.new_empty) == before
