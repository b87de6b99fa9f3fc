"""Reading of what a user wants explained: a module or its weights, arrays, or tensors."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from harness.space.case import Array
from harness.space.cells import CELL_OF, CELLS
from harness.space.config import RNNConfig, weight_names
from harness.space.errors import UsageError
from harness.subjects.run_user_code import MalformedResultError, a_or_an, as_array
from harness.subjects.weight_schemes import flat, translated

_PARAMETER: Final = re.compile(r"(?:(.*)\.)?((?:weight_[ih]h|bias_[ih]h|weight_hr)_l(\d{1,9})(_reverse)?)")

_READOUT: Final = re.compile(r"(?:(.*)\.)?(weight|bias)")

_WANTED: Final = (
    "expected a torch.nn.RNN, nn.GRU or nn.LSTM, a module that holds one, or a dict of its weights, as state_dict() "
    "gives it"
)


class WeightsToExplain(NamedTuple):
    """The weights of a layer, and of a linear layer after it, and what is known of their use."""

    weights: dict[str, Array]  # the weights under the names of ``RNNConfig.weights``, in their order
    config: RNNConfig
    """The layer's own arguments, in float64, which holds the numbers of all dtypes; the call is left at the defaults.
    """
    nonlinearity: str | None = None  # the nonlinearity; ``None`` if it is unknown, as for weights alone
    batch_first: bool | None = None
    drops: bool = False  # true if it is in training mode with dropout between its layers
    words: str = ""  # the way in which the weights were understood, if they have other names than nn.RNN's


def models(module: Any) -> list[WeightsToExplain]:
    """Return the model in a module or a dict of weights, or two of square matrices that may be transposed.

    Raises ``UsageError`` unless it holds exactly one nn.RNN, or a layer under the names of ``weight_schemes``.
    """
    if isinstance(module, Mapping):
        arrays = {name: array(name, value) for name, value in flat(module)}
        if not any(map(_PARAMETER.fullmatch, arrays)) and (readings := translated(arrays)):
            return [_of_weights(reading.weights)._replace(words=reading.words) for reading in readings]
        return [_of_weights(arrays)]
    if not hasattr(module, "named_modules"):
        raise UsageError(f"module is {a_or_an(type(module).__name__)}: {_WANTED}")
    import torch

    rnns = [part for part in module.modules() if isinstance(part, torch.nn.RNNBase)]
    linears = [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
    if len(rnns) != 1 or len(linears) > 1:
        held = f"module={type(module).__name__} holds {len(rnns)} recurrent layers and {len(linears)} nn.Linear"
        raise UsageError(
            f"{held}: expected one nn.RNN, nn.GRU or nn.LSTM, and at most one nn.Linear; pass the layer alone"
        )
    (rnn,) = rnns
    places = [(layer, d) for layer in range(rnn.num_layers) for d in range(2 if rnn.bidirectional else 1)]
    projected = rnn.proj_size > 0
    names = [name for place in places for name in weight_names(*place, bias=rnn.bias, projected=projected)]
    weights = {name: array(name, getattr(rnn, name)) for name in names}
    for linear in linears:
        weights["weight"] = array("weight", linear.weight)
        if linear.bias is not None:
            weights["bias"] = array("bias", linear.bias)
    drops = rnn.training and rnn.dropout > 0 and rnn.num_layers > 1
    phi = getattr(rnn, "nonlinearity", None)
    return [_of_weights(weights)._replace(nonlinearity=phi, batch_first=rnn.batch_first, drops=drops)]


def array(name: str, value: Any) -> Array:
    """Return the numbers of an array, a tensor or nested lists. Raise ``UsageError`` if they are none or complex."""
    try:
        numbers = as_array(name, value if hasattr(value, "__array__") else np.asarray(value))
    except (MalformedResultError, TypeError, ValueError, RuntimeError) as error:
        why = "" if isinstance(error, MalformedResultError) else f" ({error})"
        held = a_or_an(type(value).__name__)
        raise UsageError(f"{name} is {held}: expected an array or a tensor of numbers{why}") from None
    if numbers.dtype.kind == "c":
        raise UsageError(f"{name} is of {numbers.dtype}: expected real numbers")
    return numbers


def _listed(names: Iterable[str]) -> str:
    return " ".join(", ".join(names).split())[:200]


def _of_weights(weights: Mapping[str, Array]) -> WeightsToExplain:
    """Build the model from weights under any prefix, such as ``rnn.weight_ih_l0``; other weights are the readout's."""
    own, rest = {}, {}
    prefixes, layers, reverse = set(), [-1], False
    for name, value in weights.items():
        if match := _PARAMETER.fullmatch(name):
            prefixes.add(match[1])
            layers.append(int(match[3]))
            reverse = reverse or match[4] is not None
            own[match[2]] = value
        else:
            rest[name] = value
    if len(prefixes) != 1:
        held = f"the weights of several nn.RNN ({_listed(weights)})" if prefixes else "no weight_ih_l0"
        held += f", only {_listed(weights)}" if weights and not prefixes else ""
        raise UsageError(f"module holds {held}: {_WANTED}")
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in own or own[name].ndim != 2:
            raise UsageError(
                f"{name} is missing or not a matrix: expected (hidden_size, ...); pass nn.RNN's own weights"
            )
    readout = _readout(rest)
    rows, size = own["weight_hh_l0"].shape
    cell, proj_size = CELL_OF.get(rows // max(size, 1), "RNN"), 0
    if "weight_hr_l0" in own:  # which an nn.LSTM alone has
        cell, proj_size, size = "LSTM", size, rows // len(CELLS["LSTM"].gates)
    config = RNNConfig(
        own["weight_ih_l0"].shape[1],
        size,
        min(max(layers), len(own)) + 1,  # if there are more layers than weights, some are missing in the first ones
        bias=any(name.startswith("bias") for name in own),
        bidirectional=reverse,
        dtype="float64",
        output_size=len(readout["readout.weight"]) if readout else None,
        cell=cell,
        proj_size=proj_size,
    )
    own |= readout
    for name, spec in config.weights.items():
        if name not in own:
            raise UsageError(
                f"{name} is missing: expected ({', '.join(spec.axes)}) = {spec.shape}, as state_dict() has it"
            )
        if own[name].shape != spec.shape:
            shape, axes = own[name].shape, ", ".join(spec.axes)
            raise UsageError(f"{name} has shape {shape}: expected ({axes}) = {spec.shape}, as {config.layer} has it")
    if extra := [name for name in own if name not in config.weights]:
        raise UsageError(f"{_listed(extra)}: expected parameters of {config!r} only; leave it out")
    return WeightsToExplain({name: own[name] for name in config.weights}, config)


def _readout(rest: Mapping[str, Array]) -> dict[str, Array]:
    if not rest:
        return {}
    matches = {name: _READOUT.fullmatch(name) for name in rest}
    named = {match[2]: rest[name] for name, match in matches.items() if match is not None}
    single = len({match and match[1] for match in matches.values()}) == 1
    if not single or None in matches.values() or "weight" not in named or named["weight"].ndim != 2:
        raise UsageError(
            f"module holds {_listed(rest)} beside the nn.RNN: expected at most the weight and bias of one nn.Linear;"
            " leave out what is not the readout"
        )
    bias = named.get("bias", np.zeros(len(named["weight"]), named["weight"].dtype))
    return {"readout.weight": named["weight"], "readout.bias": bias}
