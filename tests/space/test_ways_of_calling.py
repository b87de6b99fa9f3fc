"""Tests of RNNConfig: lengths, calls without a batch axis, and other ways of calling, and which of them go together."""

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from harness.space.config import RNNConfig, fitted_lengths
from harness.space.factor_table import ConfigError
from harness.space.scope import Scope
from harness.space.strategies import configs
from harness.subjects.protocol import scope_of
from harness.subjects.torch_module import TorchSubject

ALL = scope_of(TorchSubject())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("wrt", None),
        ("wrt", "x"),
        ("strides", "negative"),
        ("strides", None),
        ("autocast", "float32"),
        ("grad_mode", "no_grad"),
        ("preparation", None),
        ("preparation", "compiled"),
        ("batched", 1),
        ("batched", None),
        ("enforce_sorted", 0),
    ],
)
def test_an_impossible_way_of_calling_is_refused_by_name_and_value(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"input_size": 1, "hidden_size": 1, field: value}

    with pytest.raises(ConfigError, match=rf"^{re.escape(f'{field}={value!r}')}: expected "):
        RNNConfig(**fields)


@pytest.mark.parametrize(
    "lengths",
    [
        (),
        (4, 2),
        (4, 2, 1, 1),
        (4, 2, 0),
        (4, 2, -1),
        (5, 4, 1),
        (3, 3, 3),
        (4, 2.0, 1),
        (4, True, 1),
        (4, "2", 1),
        "421",
        4,
        {4, 2, 1},
        True,
    ],
)
def test_lengths_that_are_not_those_of_n_sequences_of_at_most_t_steps_are_refused(lengths: Any) -> None:
    words = f"lengths={lengths!r}: expected N=3 of them, from 1 to T=4, and the longest T itself"

    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        RNNConfig(1, 1, T=4, N=3, lengths=lengths)


def test_an_empty_batch_cannot_be_packed() -> None:
    with pytest.raises(ConfigError, match=re.escape("lengths=(): expected N=0 of them")):
        RNNConfig(1, 1, T=4, N=0, lengths=())


def test_lengths_that_are_a_list_become_a_tuple() -> None:
    given_as_list: Any = [1, 4, 2]

    config = RNNConfig(1, 1, T=4, N=3, lengths=given_as_list)

    assert config.lengths == (1, 4, 2)
    assert config == RNNConfig(1, 1, T=4, N=3, lengths=(1, 4, 2))
    assert hash(config) == hash(RNNConfig(1, 1, T=4, N=3, lengths=(1, 4, 2)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"enforce_sorted": True}, "enforce_sorted=True with lengths=None: expected lengths that never rise"),
        (
            {"enforce_sorted": True, "lengths": (2, 1, 2), "T": 2, "N": 3},
            "enforce_sorted=True with lengths=(2, 1, 2): expected lengths that never rise",
        ),
        ({"batched": False, "N": 2}, "batched=False with N=2, lengths=None: expected N=1 and no lengths"),
        ({"batched": False, "N": 0}, "batched=False with N=0, lengths=None: expected N=1 and no lengths"),
        ({"batched": False, "lengths": (1,)}, "batched=False with N=1, lengths=(1,): expected N=1 and no lengths"),
        (
            {"autocast": "float16", "dtype": "float64"},
            "autocast='float16' with dtype='float64': expected dtype='float32'",
        ),
        (
            {"autocast": "bfloat16", "dtype": "bfloat16"},
            "autocast='bfloat16' with dtype='bfloat16': expected dtype='float32'",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_with_both(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        RNNConfig(1, 1, **fields)


@pytest.mark.parametrize("lengths", [(3,), (3, 3, 3), (3, 2, 2), (3, 2, 1)])
def test_lengths_that_never_rise_may_be_said_to_be_sorted(lengths: tuple[int, ...]) -> None:
    assert RNNConfig(1, 1, T=3, N=len(lengths), lengths=lengths, enforce_sorted=True).enforce_sorted


@pytest.mark.parametrize(
    ("lengths", "packing"),
    [
        (None, None),
        ((4,), "equal"),
        ((4, 4, 4), "equal"),
        ((4, 4, 1), "falling"),
        ((4, 3, 3), "falling"),
        ((1, 4), "any"),
        ((4, 1, 2), "any"),
    ],
)
def test_packings_are_told_apart(lengths: tuple[int, ...] | None, packing: str | None) -> None:
    N = 3 if lengths is None else len(lengths)

    assert RNNConfig(1, 1, T=4, N=N, lengths=lengths).packing == packing


PACKED = RNNConfig(2, 3, T=5, N=4, lengths=(2, 5, 1, 4))


@pytest.mark.parametrize(
    ("changes", "lengths"),
    [
        ({"T": 3}, (2, 3, 1, 3)),
        ({"T": 1}, (1, 1, 1, 1)),
        ({"T": 7}, (2, 7, 1, 4)),
        ({"N": 2}, (2, 5)),
        ({"N": 1}, (5,)),
        ({"N": 6}, (2, 5, 1, 4, 2, 5)),
        ({"N": 3, "T": 9}, (2, 9, 1)),
        ({"hidden_size": 7}, (2, 5, 1, 4)),
        ({"T": 2, "lengths": (1, 2, 1, 2)}, (1, 2, 1, 2)),
        ({"N": 9, "lengths": None}, None),
    ],
)
def test_lengths_follow_a_change_of_time_and_batch(changes: dict[str, Any], lengths: tuple[int, ...] | None) -> None:
    assert PACKED.replace(**changes).lengths == lengths


def test_lengths_said_to_be_sorted_stay_so_when_they_are_repeated() -> None:
    config = RNNConfig(1, 1, T=4, N=3, lengths=(4, 2, 1), enforce_sorted=True)

    assert config.replace(N=5).lengths == (4, 4, 2, 2, 1)
    assert config.replace(T=3).lengths == (3, 2, 1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_fitted_lengths_are_always_those_of_a_batch(lengths: list[int], T: int, N: int, falling: bool) -> None:
    fitted = fitted_lengths(tuple(lengths), T, N, falling=falling)

    assert len(fitted) == N
    assert min(fitted) >= 1
    assert max(fitted) == T
    if falling:
        assert all(a >= b for a, b in pairwise(fitted))


def test_there_are_no_lengths_of_no_sequences() -> None:
    assert fitted_lengths((1, 2), 2, 0) == ()


def test_the_plain_form_is_the_same_layer_called_in_order_with_a_batch_axis() -> None:
    fancy = RNNConfig(
        2,
        3,
        num_layers=2,
        nonlinearity="relu",
        bidirectional=True,
        batch_first=True,
        dropout=0.5,
        T=4,
        N=2,
        hx=True,
        training=True,
        output_size=5,
        loss="both",
        wrt="inputs",
        lengths=(4, 1),
        enforce_sorted=True,
        strides="stepped",
        autocast="bfloat16",
        preparation="pickle",
    )

    assert fancy.plain == RNNConfig(
        2,
        3,
        num_layers=2,
        nonlinearity="relu",
        bidirectional=True,
        batch_first=True,
        dropout=0.5,
        T=4,
        N=2,
        hx=True,
        dtype="bfloat16",
        training=True,
        output_size=5,
        loss="both",
        wrt="inputs",
        lengths=(4, 1),
    )


def test_the_plain_form_without_a_batch_axis_has_one_after_time() -> None:
    config = RNNConfig(2, 3, T=4, batch_first=True, batched=False, grad_mode="inference_mode")

    assert config.plain == RNNConfig(2, 3, T=4)
    assert config.plain.inputs["x"].shape == (4, 1, 2)


@given(configs(ALL))
def test_a_plain_form_is_its_own(config: RNNConfig) -> None:
    assert config.plain.plain is config.plain


def test_what_is_computed_is_in_autocast_s_dtype_and_gradients_are_in_that_of_what_they_belong_to() -> None:
    config = RNNConfig(2, 3, hx=True, output_size=4, loss="both", autocast="float16")

    dtypes = {name: config.dtype_of(name) for name in config.returned}

    assert {name for name, dtype in dtypes.items() if dtype == "float16"} == {"output", "h_n", "readout"}
    assert {dtype for name, dtype in dtypes.items() if name.endswith(".grad")} == {"float32"}
    assert RNNConfig(2, 3, dtype="float64").dtype_of("output") == "float64"


@pytest.mark.parametrize(
    ("fields", "drops"),
    [
        ({"num_layers": 2, "dropout": 0.5, "training": True}, True),
        ({"num_layers": 2, "dropout": 1, "training": True}, True),
        ({"num_layers": 2, "dropout": 0.5}, False),
        ({"num_layers": 2, "training": True}, False),
        ({"dropout": 0.5, "training": True}, False),
    ],
)
def test_dropout_draws_in_training_between_layers(fields: dict[str, Any], drops: bool) -> None:
    assert RNNConfig(1, 1, **fields).drops is drops


@given(
    configs(ALL, T=[1, 4], N=[1, 3], input_size=[1, 3], hidden_size=[1, 3]),
    st.sampled_from(["input_size", "hidden_size", "num_layers", "T", "N"]),
)
def test_more_of_anything_costs_more(config: RNNConfig, name: str) -> None:
    if name == "N" and not config.batched:
        config = config.replace(batched=True)

    assert config.replace(**{name: getattr(config, name) + 1}).cost > config.cost
    assert config.replace(bidirectional=True).cost >= config.cost


def test_a_step_of_an_empty_batch_costs_something_too() -> None:
    assert RNNConfig(1, 1, T=3, N=0).cost == 3 * 2**13
    assert RNNConfig(1, 1, num_layers=5, bidirectional=True, T=3, N=0).cost == 3 * 5 * 2 * 2**13


def test_gradients_are_asked_by_what_wrt_says() -> None:
    config = RNNConfig(2, 3, T=4, hx=True, output_size=5, loss="both")
    inputs = ["x.grad", "hx.grad"]
    weights = [
        *(f"{role}_l0.grad" for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
        "readout.weight.grad",
        "readout.bias.grad",
    ]

    asked = {wrt: list(config.replace(wrt=wrt).gradients) for wrt in ("all", "inputs", "weights")}

    assert asked == {"all": [*inputs, *weights], "inputs": inputs, "weights": weights}
    assert list(config.replace(wrt="inputs", hx=False).gradients) == ["x.grad"]
    assert not config.replace(wrt="inputs", loss=None).gradients
    assert list(config.replace(wrt="inputs").cotangents) == ["readout.grad", "h_n.grad"]


@pytest.mark.parametrize("batch_first", [False, True])
def test_without_a_batch_axis_no_array_has_one(batch_first: bool) -> None:
    config = RNNConfig(
        3, 4, 2, batch_first=batch_first, bidirectional=True, T=5, hx=True, output_size=7, loss="both", batched=False
    )

    shapes = {name: spec.shape for name, spec in {**config.inputs, **config.outputs, **config.cotangents}.items()}

    assert shapes == {
        "x": (5, 3),
        "hx": (4, 4),
        "output": (5, 8),
        "h_n": (4, 4),
        "readout": (5, 7),
        "readout.grad": (5, 7),
        "h_n.grad": (4, 4),
    }
    assert config.gradients["x.grad"].shape == (5, 3)
    assert config.gradients["hx.grad"].shape == (4, 4)
    assert config.weights == config.replace(batched=True).weights


def test_places_without_a_batch_axis_name_no_sequence() -> None:
    config = RNNConfig(3, 4, 2, bidirectional=True, T=5, batched=False)

    assert config.locate("output", (3, 6)) == {"t": 3, "direction": "reverse", "unit": 2}
    assert config.locate("h_n", (3, 1)) == {"layer": 1, "direction": "reverse", "unit": 1}


def test_lengths_change_no_shape() -> None:
    config = RNNConfig(3, 4, batch_first=True, T=5, N=2, hx=True, loss="both")
    packed = config.replace(lengths=(2, 5))

    assert packed.inputs == config.inputs
    assert packed.returned == config.returned
    assert packed.cotangents == config.cotangents


@given(configs(ALL))
def test_every_config_comes_back_from_json_and_from_its_repr(config: RNNConfig) -> None:
    assert RNNConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert eval(repr(config)) == config  # noqa: S307 - a repr is meant to be evaluated


def test_a_list_of_lengths_that_is_wrong_is_refused_after_json_too() -> None:
    fields = {"input_size": 1, "hidden_size": 1, "T": 2, "N": 2, "lengths": [1, 1]}

    with pytest.raises(ConfigError, match=re.escape("lengths=(1, 1): expected N=2 of them")):
        RNNConfig.from_dict(fields)


def test_a_config_written_before_there_were_ways_of_calling_is_called_in_the_plainest() -> None:
    config = RNNConfig.from_dict({"input_size": 2, "hidden_size": 3, "T": 4, "N": 5, "loss": "both"})

    assert config == RNNConfig(2, 3, T=4, N=5, loss="both")
    assert config.plain is config


@given(configs(ALL, num_layers=[2, 3]))
def test_a_prefix_is_called_in_the_same_way(config: RNNConfig) -> None:
    prefix = config.prefix(1)

    for name in ("lengths", "enforce_sorted", "batched", "strides", "autocast", "grad_mode", "preparation"):
        assert getattr(prefix, name) == getattr(config, name), name
    assert (prefix.loss, prefix.wrt, prefix.output_size, prefix.dropout) == (None, "all", None, 0.0)


def test_nothing_new_is_drawn_unless_it_is_asked_for() -> None:
    defaults = RNNConfig(1, 1).to_dict()

    new = ("wrt", "lengths", "batched", "strides", "autocast", "grad_mode", "preparation")

    assert {name: getattr(Scope(), name) for name in new} == {name: (defaults[name],) for name in new}
    assert not Scope().masks
