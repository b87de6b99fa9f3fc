"""Tests of run_twice: results that a further call overwrites are named, and nothing else is."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence

from harness import RNNConfig, as_subject, draw
from harness.space.factor_table import PREPARATIONS
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.torch_cell import CellSubject
from harness.subjects.torch_module import TorchSubject
from tests import implementations

CASE = draw(RNNConfig(2, 3, T=4, N=5, hx=True), "normal", 0)
LOST = draw(RNNConfig(2, 3, T=4, N=5, loss="both"), "normal", 0)
BUFFERS: dict[Any, Any] = {}


def in_a_buffer(array: Any) -> Any:
    """Return the array's numbers in memory that is reused for all arrays of its shape."""
    tensor = isinstance(array, torch.Tensor)
    kept = BUFFERS.setdefault((tuple(array.shape), tensor), array.detach().clone() if tensor else array.copy())
    kept[...] = array.detach() if tensor else array
    return kept


def remembered(output: Any, h_n: Any) -> Any:
    """Return the earlier answer for the same numbers, if there was one."""
    return BUFFERS.setdefault(output.tobytes(), (output, h_n))


def only_once(output: Any, h_n: Any) -> Any:
    if BUFFERS:
        raise ValueError("a second call")
    return in_a_buffer(output), h_n


def once_written(output: Any, h_n: Any) -> Any:
    """Write into the result of the call before."""
    if BUFFERS.get("x") is not None:
        BUFFERS["x"][...] = 0
    BUFFERS["x"] = h_n
    return output, h_n


FUNCTIONS: dict[str, tuple[Callable[[Any, Any], Any], tuple[str, ...]]] = {
    "a buffer": (lambda output, h_n: (in_a_buffer(output), h_n), ("output",)),
    "a view of a buffer": (lambda output, h_n: (in_a_buffer(output[::-1])[::-1], h_n), ("output",)),
    "h_n alone": (lambda output, h_n: (output, in_a_buffer(h_n)), ("h_n",)),
    "both": (lambda output, h_n: (in_a_buffer(output), in_a_buffer(h_n)), ("output", "h_n")),
    "a tensor": (lambda output, h_n: (in_a_buffer(torch.from_numpy(output)), h_n), ("output",)),
    "the array that was given before": (once_written, ("h_n",)),
    "fresh arrays": (lambda output, h_n: (output, h_n), ()),
    "views of fresh arrays": (lambda output, h_n: (np.repeat(output, 2, 0)[::2], output[None, -1]), ()),
    "a buffer of constants": (lambda output, h_n: (in_a_buffer(np.ones_like(output)), h_n), ()),
    "what was computed before": (remembered, ()),
    "nothing the second time": (only_once, ()),
}


@pytest.fixture(autouse=True)
def _no_buffers() -> None:
    BUFFERS.clear()


@pytest.mark.parametrize("how", FUNCTIONS)
def test_a_function_that_returns(how: str) -> None:
    returns, overwritten = FUNCTIONS[how]

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return returns(*implementations.vectorised(x, h0, weights, config))

    outcome = as_subject(rnn).run_twice(CASE)  # type: ignore[attr-defined]

    assert outcome.failure is None, outcome.message
    assert outcome.overwritten == overwritten


def test_what_it_returns_when_it_is_called_twice_is_what_it_returns_the_first_time() -> None:
    calls: list[Mapping[str, Any]] = []

    def rnn(**given: Any) -> Any:
        calls.append(given)
        return implementations.vectorised(given["x"], given["h0"], given["weights"], given["config"])

    subject: Any = as_subject(rnn)
    once, twice = subject.run(CASE), subject.run_twice(CASE)
    _, first, second = calls

    assert {name: array.tobytes() for name, array in once.arrays.items()} == {
        name: array.tobytes() for name, array in twice.arrays.items()
    }
    assert np.array_equal(first["x"], CASE.x)
    assert not np.isin(second["x"], first["x"]).any()
    assert second["x"].shape == first["x"].shape
    assert second["config"] == first["config"]


@pytest.mark.parametrize("name", ["x", "weight_hh_l0"])
def test_of_a_function_s_gradients_those_that_are_overwritten(name: str) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        scale = x.sum() + sum(g.sum() for g in cotangents.values())
        gradients = {"x": x * scale, **{of: array * scale for of, array in weights.items()}}
        gradients[name] = in_a_buffer(gradients[name])
        return *implementations.vectorised(x, h0, weights, config), gradients

    outcome = as_subject(rnn).run_twice(LOST)  # type: ignore[attr-defined]

    assert outcome.failure is None, outcome.message
    assert outcome.overwritten == (f"{name}.grad",)


def test_memory_that_is_taken_away_counts_as_overwritten() -> None:
    class Lent:
        shape = (4, 5, 3)

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            if BUFFERS.get("x") is not self:
                raise RuntimeError("gone")
            return np.zeros(self.shape, np.float32)

    def rnn(x: Any, h0: Any) -> Any:
        BUFFERS["x"] = Lent()
        return BUFFERS["x"], h0

    assert as_subject(rnn).run_twice(CASE).overwritten == ("output",)  # type: ignore[attr-defined]


class Backwards(torch.autograd.Function):
    """The identity, whose gradient is in a buffer."""

    @staticmethod
    def forward(_ctx: Any, x: Any) -> Any:
        return x.clone()

    @staticmethod
    def backward(_ctx: Any, gradient: Any) -> Any:
        with torch.no_grad():
            return in_a_buffer(gradient)


class Returning(torch.nn.RNN):
    """nn.RNN with results changed by ``what``, and inputs by ``given``."""

    what: ClassVar[Any] = None
    given: ClassVar[Any] = None

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        return Returning.what(*super().forward(Returning.given(input), hx))


def packed_in_a_buffer(output: Any, h_n: Any) -> Any:
    return output._replace(data=in_a_buffer(output.data)) if isinstance(output, PackedSequence) else output, h_n


MODULES: dict[str, tuple[dict[str, Any], Any, tuple[str, ...]]] = {
    "a buffer": ({}, lambda output, h_n: (in_a_buffer(output), h_n), ("output",)),
    "a view of a buffer": ({}, lambda output, h_n: (in_a_buffer(output.mT).mT, h_n), ("output",)),
    "h_n alone": ({}, lambda output, h_n: (output, in_a_buffer(h_n)), ("h_n",)),
    "packed": ({"lengths": (4, 1, 2, 4, 3)}, packed_in_a_buffer, ("output",)),
    "fresh tensors": ({}, lambda output, h_n: (output.clone(), h_n * 1), ()),
    "on meta": ({"device": "meta"}, lambda output, h_n: (in_a_buffer(output), h_n), ()),
}


@pytest.mark.parametrize("how", MODULES)
@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_a_module_that_returns(monkeypatch: pytest.MonkeyPatch, how: str, preparation: str) -> None:
    changes, what, overwritten = MODULES[how]
    monkeypatch.setattr(Returning, "what", staticmethod(what))
    monkeypatch.setattr(Returning, "given", staticmethod(lambda x: x))
    case = draw(CASE.config.replace(**changes, preparation=preparation), "normal", 0)

    outcome = TorchSubject(Returning, "returning").run_twice(case)

    assert outcome.failure is None, outcome.message
    assert outcome.overwritten == overwritten


def test_of_a_module_s_gradients_those_that_are_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Returning, "what", staticmethod(lambda output, h_n: (output, h_n)))
    monkeypatch.setattr(Returning, "given", staticmethod(Backwards.apply))

    outcome = TorchSubject(Returning, "returning").run_twice(LOST)

    assert outcome.failure is None, outcome.message
    assert outcome.overwritten == ("x.grad",)


@pytest.mark.parametrize("subject", [TorchSubject(), CellSubject()], ids=lambda subject: subject.name)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "both"},
        {"loss": "both", "strides": "expanded", "hx": False},
        {"grad_mode": "inference_mode"},
        {"autocast": "bfloat16", "loss": "h_n"},
        {"N": 0},
        {"output_size": 2, "loss": "both"},
    ],
)
def test_torch_overwrites_nothing_and_gives_the_same(subject: TorchSubject, changes: dict[str, Any]) -> None:
    case = draw(CASE.config.replace(**changes), "normal", 0)

    once, twice = subject.run(case), subject.run_twice(case)

    assert (twice.failure, twice.overwritten, twice.changed_inputs, twice.aliased) == (None, (), (), ())
    assert {name: array.tobytes() for name, array in once.arrays.items()} == {
        name: array.tobytes() for name, array in twice.arrays.items()
    }


def test_torch_overwrites_nothing_of_packed_batches_and_of_dropout() -> None:
    packed = RNNConfig(2, 3, 2, T=4, N=3, lengths=(2, 4, 1), output_size=2, loss="both")
    dropping = RNNConfig(2, 3, 3, T=4, N=3, dropout=0.5, training=True, loss="both")

    outcomes = [TorchSubject().run_twice(draw(config, "normal", 0)) for config in (packed, dropping)]

    assert [(outcome.failure, outcome.overwritten) for outcome in outcomes] == [(None, ())] * 2


def test_it_is_asked_where_the_subject_is(tmp_path: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "KEPT = np.empty((4, 5, 3), np.float32)\n"
        "def rnn(x, h0):\n"
        "    KEPT[...] = x[..., :1]\n"
        "    return KEPT, h0\n"
    )

    with IsolatedSubject(f"{file}:rnn") as subject:
        assert subject.capabilities.run_twice is not None
        outcome = subject.capabilities.run_twice(CASE)

    assert outcome.overwritten == ("output",)
    assert np.array_equal(outcome.arrays["output"], np.broadcast_to(CASE.x[..., :1], (4, 5, 3)))
