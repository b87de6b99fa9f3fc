"""Tests of the parts of a config: each checks its own fields, and a config has the fields of all of them."""

import inspect
import re
from dataclasses import fields
from typing import Any

import pytest

from harness.space.config import RNNConfig
from harness.space.factor_table import (
    LAYER,
    MODULE_FACTORS,
    OPTIONS,
    REQUIRED_FIELDS,
    WAY,
    CallConfig,
    CellConfig,
    ConfigError,
    LayerConfig,
    ResultConfig,
    WayConfig,
)

# A config in which all fields can be shown: ids are made from this text, so their order must not change.
EVERY_FIELD = (
    "RNNConfig(2, 3, num_layers=2, nonlinearity='relu', bias=False, batch_first=True, dropout=0.5, bidirectional=True, "
    "T=2, N=1, hx=True, dtype='float32', device='meta', training=True, output_size=2, loss='both', wrt='inputs', "
    "lengths=(2,), enforce_sorted=True, strides='stepped', autocast='bfloat16', grad_mode='enable_grad', "
    "preparation='used')"
)


def test_a_config_has_the_fields_of_its_parts_in_their_order() -> None:
    parts = (LayerConfig, CallConfig, ResultConfig, WayConfig, CellConfig)

    assert [field.name for part in parts for field in fields(part)] == [field.name for field in fields(RNNConfig)]


def test_the_text_of_a_config_lists_its_fields_in_the_order_of_the_parts() -> None:
    shown = EVERY_FIELD.replace(", dtype='float32'", "")

    assert repr(eval(EVERY_FIELD)) == shown  # noqa: S307 - a repr is meant to be evaluated


def test_the_layer_s_fields_alone_may_be_given_by_position() -> None:
    parameters = inspect.signature(RNNConfig).parameters.values()

    assert tuple(one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD) == LAYER
    assert (*REQUIRED_FIELDS, *OPTIONS) == LAYER


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        (LayerConfig, "num_layers", 0),
        (LayerConfig, "nonlinearity", "sigmoid"),
        (LayerConfig, "bias", 1),
        (LayerConfig, "dropout", 2),
        (CallConfig, "T", 0),
        (CallConfig, "N", -1),
        (CallConfig, "hx", None),
        (CallConfig, "dtype", "int8"),
        (CallConfig, "device", ""),
        (ResultConfig, "output_size", 0),
        (ResultConfig, "loss", "readout"),
        (WayConfig, "enforce_sorted", 1),
        (WayConfig, "strides", "dense"),
        (WayConfig, "preparation", None),
    ],
)
def test_a_part_refuses_an_impossible_value_of_its_own(part: type[Any], field: str, value: Any) -> None:
    sizes = {"input_size": 1, "hidden_size": 1} if part is LayerConfig else {}

    with pytest.raises(ConfigError, match=rf"^{re.escape(f'{field}={value!r}')}: expected "):
        part(**sizes, **{field: value})


def test_the_way_is_about_the_arrays_or_about_torch() -> None:
    assert MODULE_FACTORS == ("autocast", "grad_mode", "preparation", "after", "positional", "tied")
    assert set(MODULE_FACTORS) < set(WAY)
