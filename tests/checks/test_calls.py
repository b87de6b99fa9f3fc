"""Tests of calls as data and as code."""

import dataclasses
import json
import pickle

import pytest

from harness.checks.breaks import BREAKS, broken
from harness.space.config import RNNConfig
from harness.subjects.answer import Stage
from harness.subjects.call import Base, ByHand, Call, Code, Form, Packing, Tensor

CONFIG = RNNConfig(3, 4, num_layers=2, batch_first=True, T=3, N=2, hx=True, dtype="float64")


def test_a_call_reads_as_code() -> None:
    call = Call(
        {"input_size": 3, "hidden_size": 4, "dropout": Code('float("nan")')},
        Tensor((5, 2, 3)),
        Tensor((1, 2, 4), "float64", "meta"),
        Packing([5, 0], enforce_sorted=False),
        {"bias_ih_l0": Tensor((1,)), "bias_hh_l0": None},
    )

    assert call.as_code().splitlines() == [
        "import torch",
        "from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence",
        'rnn = torch.nn.RNN(3, 4, dropout=float("nan"))',
        "x = torch.ones((5, 2, 3))",
        "hx = torch.ones((1, 2, 4), dtype=torch.float64, device='meta')",
        "rnn.bias_ih_l0 = torch.nn.Parameter(torch.ones((1,)))",
        "rnn.bias_hh_l0 = None",
        "x = pack_padded_sequence(x, [5, 0], enforce_sorted=False)",
        "result = rnn(x, hx)",
    ]


def test_a_missing_size_makes_the_other_a_name() -> None:
    assert next(Call({"hidden_size": 4}, None).steps("RNN")) == (Stage.CONSTRUCTOR, "rnn = RNN(hidden_size=4)")


def test_a_pack_made_by_hand() -> None:
    call = Call({}, Tensor((3, 1)), packing=ByHand([2, 1], unsorted_indices=[1, 0]))

    assert (Stage.PACKING, "x = PackedSequence(x, [2, 1], unsorted_indices=[1, 0])") in list(call.steps())


@pytest.mark.parametrize(
    ("form", "x", "hx"),
    [
        (Form.BATCHED, (2, 3, 3), (2, 2, 4)),
        (Form.UNBATCHED, (3, 3), (2, 4)),
        (Form.PACKED, (2, 3, 3), (2, 2, 4)),
        (Form.BY_HAND, (5, 3), (2, 2, 4)),
    ],
)
def test_a_base_has_the_shapes_of_its_form(form: Form, x: tuple[int, ...], hx: tuple[int, ...]) -> None:
    call = Base(CONFIG, form).call

    assert call.x == Tensor(x, "float64")
    assert call.hx == Tensor(hx, "float64")
    assert dict(call.arguments) == {
        "input_size": 3,
        "hidden_size": 4,
        "num_layers": 2,
        "batch_first": True,
        "dtype": Code("torch.float64"),
    }


def test_lengths_fall_and_batch_sizes_follow() -> None:
    base = Base(RNNConfig(1, 1, T=3, N=5), Form.PACKED)

    assert base.lengths == (3, 2, 1, 1, 1)
    assert base.batch_sizes == (5, 2, 1)
    assert Base(base.config, Form.PACKED, enforce_sorted=False).lengths == (1, 1, 1, 2, 3)


@pytest.mark.parametrize("form", Form)
def test_every_malformed_call_is_plain_data(form: Form) -> None:
    base = Base(CONFIG, form)
    calls = [one.call for kind in BREAKS for one in broken(base, (kind,))]

    assert len(calls) > 100
    for call in calls:
        json.dumps(dataclasses.asdict(call), allow_nan=False, default=repr)  # 1j is the one value without a literal
        assert pickle.loads(pickle.dumps(call)) == call  # noqa: S301 - our own


def test_two_breaks_are_both_in_the_call() -> None:
    base = Base(RNNConfig(3, 4, T=3, N=2))
    kinds = tuple(kind for kind in BREAKS if kind.name in {"x: features", "hx: features"})

    first = next(broken(base, kinds))

    assert first.name == "x: features + hx: features"
    assert first.label == "x of 4 features for 3; hx of 5 features for 4"
    assert first.call.x == Tensor((3, 2, 4))
    assert first.call.hx == Tensor((1, 2, 5))


def test_a_break_that_does_not_apply_gives_no_call() -> None:
    kinds = tuple(kind for kind in BREAKS if kind.name == "hx: batch of 1")

    assert not list(broken(Base(RNNConfig(1, 1, T=1, N=1)), kinds))
    assert not list(broken(Base(RNNConfig(1, 1, T=1, N=2), Form.UNBATCHED), kinds))


def test_names_of_breaks_are_their_own() -> None:
    assert len({kind.name for kind in BREAKS}) == len(BREAKS)
