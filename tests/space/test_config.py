"""Tests of RNNConfig: what it refuses, and the shapes that follow from it."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from harness.space.config import GRUConfig, LSTMConfig, RNNConfig
from harness.space.factor_table import ConfigError
from harness.space.strategies import configs


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_size", 0),
        ("input_size", True),
        ("hidden_size", 2.0),
        ("num_layers", 0),
        ("num_layers", -1),
        ("nonlinearity", "sigmoid"),
        ("bias", 1),
        ("batch_first", None),
        ("dropout", -0.1),
        ("dropout", 1.5),
        ("dropout", float("nan")),
        ("dropout", True),
        ("dropout", "0.5"),
        ("bidirectional", "yes"),
        ("T", 0),
        ("N", -1),
        ("hx", None),
        ("dtype", "int8"),
        ("device", ""),
        ("device", 0),
        ("training", 1),
        ("output_size", 0),
        ("loss", "readout"),
        ("loss", ""),
        ("loss", True),
        ("loss", ("output",)),
    ],
)
def test_an_impossible_value_is_refused_by_name_and_value(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"input_size": 1, "hidden_size": 1, field: value}

    with pytest.raises(ConfigError, match=rf"^{re.escape(f'{field}={value!r}')}: expected "):
        RNNConfig(**fields)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_a_complex_dtype_is_refused_in_a_sentence(dtype: str) -> None:
    with pytest.raises(ConfigError, match=rf"^dtype='{dtype}': complex numbers are not checked; expected one of 'floa"):
        RNNConfig(1, 1, dtype=dtype)


def test_the_shapes_of_a_two_layer_bidirectional_stack_are_those_of_the_nn_rnn_page() -> None:
    config = RNNConfig(3, 4, num_layers=2, bidirectional=True, T=5, N=6, hx=True, output_size=7)

    shapes = {name: spec.shape for name, spec in {**config.inputs, **config.weights, **config.outputs}.items()}

    assert shapes == {
        "x": (5, 6, 3),
        "hx": (4, 6, 4),
        "weight_ih_l0": (4, 3),
        "weight_hh_l0": (4, 4),
        "bias_ih_l0": (4,),
        "bias_hh_l0": (4,),
        "weight_ih_l0_reverse": (4, 3),
        "weight_hh_l0_reverse": (4, 4),
        "bias_ih_l0_reverse": (4,),
        "bias_hh_l0_reverse": (4,),
        "weight_ih_l1": (4, 8),
        "weight_hh_l1": (4, 4),
        "bias_ih_l1": (4,),
        "bias_hh_l1": (4,),
        "weight_ih_l1_reverse": (4, 8),
        "weight_hh_l1_reverse": (4, 4),
        "bias_ih_l1_reverse": (4,),
        "bias_hh_l1_reverse": (4,),
        "readout.weight": (7, 8),
        "readout.bias": (7,),
        "output": (5, 6, 8),
        "h_n": (4, 6, 4),
        "readout": (5, 6, 7),
    }


def test_batch_first_turns_x_output_and_readout_but_not_hx_and_h_n() -> None:
    config = RNNConfig(3, 4, batch_first=True, T=5, N=6, hx=True, output_size=7)

    shapes = {name: spec.shape for name, spec in {**config.inputs, **config.outputs}.items()}

    assert shapes == {"x": (6, 5, 3), "hx": (1, 6, 4), "output": (6, 5, 4), "h_n": (1, 6, 4), "readout": (6, 5, 7)}


@pytest.mark.parametrize(("cell", "gates"), [("GRU", 3), ("LSTM", 4)])
def test_a_cell_with_gates_has_a_block_of_rows_for_each(cell: str, gates: int) -> None:
    config = RNNConfig(3, 5, num_layers=2, bidirectional=True, output_size=7, cell=cell)

    of_one = RNNConfig(3, 5, num_layers=2, bidirectional=True, output_size=7)
    of_layers = {name: spec for name, spec in config.weights.items() if not name.startswith("readout")}
    assert {spec.axes[0] for spec in of_layers.values()} == {"G*H"}
    assert {spec.shape[0] for spec in of_layers.values()} == {5 * gates}
    assert {name: spec.shape[1:] for name, spec in config.weights.items()} == {
        name: spec.shape[1:] for name, spec in of_one.weights.items()
    }
    assert config.weights["readout.bias"].shape == (7,)


def test_an_lstm_has_two_states_and_a_loss_that_reads_one_reads_both() -> None:
    config = RNNConfig(3, 5, N=2, T=4, hx=True, loss="h_n", cell="LSTM")

    assert list(config.inputs) == ["x", "hx", "cx"]
    assert list(config.outputs) == ["output", "h_n", "c_n"]
    assert list(config.cotangents) == ["h_n.grad", "c_n.grad"]
    assert config.inputs["cx"] == config.inputs["hx"]


@pytest.mark.parametrize("bias", [True, False])
def test_a_projected_lstm_has_torch_s_parameters_in_their_order_and_an_h_of_fewer_units(bias: bool) -> None:
    config = RNNConfig(3, 5, 2, bias=bias, bidirectional=True, T=4, N=6, hx=True, loss="both", output_size=7)
    config = config.replace(cell="LSTM", proj_size=2)
    layer = torch.nn.LSTM(3, 5, 2, bias=bias, bidirectional=True, proj_size=2)

    shapes = {name: spec.shape for name, spec in config.weights.items() if not name.startswith("readout")}
    assert list(shapes.items()) == [(name, tuple(one.shape)) for name, one in layer.state_dict().items()]
    assert config.weights["readout.weight"].shape == (7, 4)
    assert [config.inputs[name].shape for name in ("hx", "cx")] == [(4, 6, 2), (4, 6, 5)]
    assert [config.outputs[name].shape for name in ("output", "h_n", "c_n")] == [(4, 6, 4), (4, 6, 2), (4, 6, 5)]
    assert config.locate("output", (1, 0, 3)) == {"t": 1, "n": 0, "direction": "reverse", "unit": 1}
    assert config.replace(hidden_size=2).proj_size == 1


def test_many_equal_lengths_are_said_once_and_paste_back() -> None:
    packed = RNNConfig(3, 5, T=4, N=9, lengths=(4,) * 9)

    assert "lengths=(4,) * 9" in repr(packed)
    assert eval(repr(packed)) == packed  # noqa: S307 - that is what it is for
    assert "lengths=(4, 4)" in repr(packed.replace(N=2, lengths=(4, 4)))


def test_without_lengths_none_are_sorted() -> None:
    packed = RNNConfig(3, 5, T=4, N=2, lengths=(4, 2), enforce_sorted=True)

    assert packed.replace(lengths=None) == RNNConfig(3, 5, T=4, N=2)
    with pytest.raises(ValueError, match="enforce_sorted=True"):
        packed.replace(lengths=None, enforce_sorted=True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cell": "LSTM", "proj_size": 5}, "proj_size=5 with hidden_size=5: expected less than hidden_size, or 0"),
        ({"cell": "LSTM", "proj_size": -1}, "proj_size=-1: expected an int of at least 0"),
        ({"cell": "LSTM", "proj_size": True}, "proj_size=True: expected an int of at least 0"),
        ({"cell": "GRU", "proj_size": 1}, "proj_size=1 with cell='GRU': expected proj_size=0, or cell='LSTM'"),
    ],
)
def test_a_projection_that_no_lstm_has_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}"):
        RNNConfig(3, 5, **fields)


def test_a_cell_with_gates_has_no_nonlinearity() -> None:
    with pytest.raises(ConfigError, match="nonlinearity='relu' with cell='GRU'"):
        RNNConfig(1, 1, nonlinearity="relu", cell="GRU")


def test_without_bias_only_matrices_are_left() -> None:
    assert list(RNNConfig(1, 1, bias=False).weights) == ["weight_ih_l0", "weight_hh_l0"]


@pytest.mark.parametrize(
    ("loss", "output_size", "read"),
    [
        (None, None, []),
        ("output", None, ["output"]),
        ("h_n", None, ["h_n"]),
        ("both", None, ["output", "h_n"]),
        ("output", 7, ["readout"]),
        ("h_n", 7, ["h_n"]),
        ("both", 7, ["readout", "h_n"]),
    ],
)
def test_a_loss_gives_gradients_of_what_it_reads_and_asks_for_those_of_all_that_is_given(
    loss: str | None, output_size: int | None, read: list[str]
) -> None:
    config = RNNConfig(3, 4, bidirectional=True, T=5, N=6, hx=True, output_size=output_size, loss=loss)

    assert config.cotangents == {f"{name}.grad": config.outputs[name] for name in read}
    asked = {f"{name}.grad": spec for name, spec in {**config.inputs, **config.weights}.items()}
    assert config.gradients == (asked if loss else {})
    assert list(config.returned) == [*config.outputs, *config.gradients]


def test_the_gradient_of_an_hx_that_is_not_passed_is_not_asked_for() -> None:
    assert "hx.grad" not in RNNConfig(3, 4, loss="both").gradients
    assert "hx.grad" in RNNConfig(3, 4, loss="both", hx=True).gradients


def test_elements_of_gradients_are_located_by_name() -> None:
    config = RNNConfig(3, 4, num_layers=2, bidirectional=True, batch_first=True, T=5, N=6, hx=True, loss="both")

    assert config.locate("x.grad", (1, 2, 0)) == {"n": 1, "t": 2, "feature": 0}
    assert config.locate("hx.grad", (3, 5, 1)) == {"layer": 1, "direction": "reverse", "n": 5, "unit": 1}
    assert config.locate("weight_ih_l1_reverse.grad", (3, 7)) == {"row": 3, "column": 7}
    assert config.locate("bias_hh_l0.grad", (2,)) == {"unit": 2}
    assert config.locate("preactivation.grad", (4, 1, 5)) == {"t": 4, "n": 1, "direction": "reverse", "unit": 1}


@given(configs(output_size=[None, 2], loss=[None, "output", "h_n", "both"], dtypes=["float32", "bfloat16"]))
def test_a_repr_pastes_back(config: RNNConfig) -> None:
    assert eval(repr(config)) == config  # noqa: S307 - a repr is meant to be evaluated


@given(configs(output_size=[None, 2], loss=[None, "output", "h_n", "both"], dtypes=["float32", "bfloat16"]))
def test_plain_data_reads_back(config: RNNConfig) -> None:
    assert RNNConfig.from_dict(config.to_dict()) == config


@given(configs(output_size=[None, 2]))
def test_the_cost_counts_the_products_of_every_step_and_something_for_the_step_itself(config: RNNConfig) -> None:
    matrices = sum(spec.size for name, spec in config.weights.items() if name.startswith("weight"))
    steps = config.T * config.num_layers * config.num_directions

    assert config.cost == config.T * config.N * matrices + 2**13 * steps


def test_unknown_and_missing_fields_are_named() -> None:
    with pytest.raises(ConfigError, match="unknown config fields projection_size"):
        RNNConfig.from_dict({"input_size": 1, "hidden_size": 1, "projection_size": 0})
    with pytest.raises(ConfigError, match="missing config fields hidden_size"):
        RNNConfig.from_dict({"input_size": 1})


def test_a_config_that_was_written_before_there_were_losses_has_none() -> None:
    assert RNNConfig.from_dict({"input_size": 1, "hidden_size": 1}).loss is None


def test_elements_are_located_by_name() -> None:
    config = RNNConfig(3, 4, num_layers=2, bidirectional=True, batch_first=True, T=5, N=6, output_size=7)

    assert config.locate("output", (1, 2, 6)) == {"n": 1, "t": 2, "direction": "reverse", "unit": 2}
    assert config.locate("h_n", (2, 5, 3)) == {"layer": 1, "direction": "forward", "n": 5, "unit": 3}
    assert config.locate("readout", (0, 4, 6)) == {"n": 0, "t": 4, "o": 6}


@given(configs(num_layers=[2, 3], output_size=[None, 2], loss=[None, "both"]), st.integers(1, 2))
def test_a_prefix_has_the_first_layers_weights_and_no_readout(config: RNNConfig, layers: int) -> None:
    prefix = config.prefix(layers)

    kept = {
        name: spec
        for name, spec in config.weights.items()
        if name.endswith(tuple(f"_l{k}{end}" for k in range(layers) for end in ("", "_reverse")))
    }
    assert prefix.weights == kept
    assert "readout" not in prefix.outputs
    assert prefix.loss is None


def test_configs_of_layers_with_gates_have_names_of_their_own() -> None:
    assert GRUConfig(2, 3, T=4) == RNNConfig(2, 3, T=4, cell="GRU")
    assert repr(LSTMConfig(2, 3, T=4, proj_size=2)) == "LSTMConfig(2, 3, T=4, N=1, proj_size=2)"
