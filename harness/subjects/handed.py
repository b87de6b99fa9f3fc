"""Reading of what a user wants explained: a module or its weights, arrays, tensors, or files of them."""

from __future__ import annotations

import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from harness.space.case import LARGEST, Array
from harness.space.config import RNNConfig, weight_names
from harness.space.errors import UsageError
from harness.space.scope import LAYERS
from harness.subjects.calling import Malformed, a_or_an, as_array

PICKLE: Final = 2**20
"""The most bytes of the pickle that names the tensors of a file, which takes 60 times as much when it is read. That of
an nn.RNN with 64 layers in both directions has 50,000.
"""

MEMBERS: Final = 10 * LAYERS
"""The most members of an archive, each of which takes some 0.2 ms to be read. The weights of LAYERS layers in both
directions are 8 a layer.
"""

_PARAMETER: Final = re.compile(r"(?:(.*)\.)?((?:weight|bias)_[ih]h_l(\d{1,9})(_reverse)?)")

_READOUT: Final = re.compile(r"(?:(.*)\.)?(weight|bias)")

_WANTED: Final = "expected a torch.nn.RNN, a module that holds one, or a dict of its weights, as state_dict() gives it"


class Model(NamedTuple):
    """The weights of an nn.RNN, and of a linear layer after it, and what is known of their use."""

    weights: dict[str, Array]
    """The weights under the names of ``RNNConfig.weights``, in their order."""
    config: RNNConfig
    """The layer's own arguments, in float64, which holds the numbers of all dtypes; the call is left at the defaults.
    """
    nonlinearity: str | None = None
    """The nonlinearity; ``None`` if it is unknown, as for weights alone."""
    batch_first: bool | None = None
    drops: bool = False
    """True if it is in training mode with dropout between its layers."""


def model(module: Any) -> Model:
    """Return the model in a module or a dict of weights. Raise ``UsageError`` unless it holds exactly one nn.RNN."""
    if isinstance(module, Mapping):
        return _of_weights({str(name): array(str(name), value) for name, value in module.items()})
    if not hasattr(module, "named_modules"):
        raise UsageError(f"module is {a_or_an(type(module).__name__)}: {_WANTED}")
    import torch

    rnns = [part for part in module.modules() if isinstance(part, torch.nn.RNN)]
    linears = [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
    if len(rnns) != 1 or len(linears) > 1:
        held = f"module={type(module).__name__} holds {len(rnns)} nn.RNN and {len(linears)} nn.Linear"
        raise UsageError(f"{held}: expected one nn.RNN and at most one nn.Linear; pass the nn.RNN alone")
    (rnn,) = rnns
    places = [(layer, d) for layer in range(rnn.num_layers) for d in range(2 if rnn.bidirectional else 1)]
    names = [name for place in places for name in weight_names(*place, bias=rnn.bias)]
    weights = {name: array(name, getattr(rnn, name)) for name in names}
    for linear in linears:
        weights["weight"] = array("weight", linear.weight)
        if linear.bias is not None:
            weights["bias"] = array("bias", linear.bias)
    drops = rnn.training and rnn.dropout > 0 and rnn.num_layers > 1
    return _of_weights(weights)._replace(nonlinearity=rnn.nonlinearity, batch_first=rnn.batch_first, drops=drops)


def array(name: str, value: Any) -> Array:
    """Return the numbers of an array, a tensor or nested lists. Raise ``UsageError`` if they are none or complex."""
    try:
        found = as_array(name, value if hasattr(value, "__array__") else np.asarray(value))
    except (Malformed, TypeError, ValueError, RuntimeError) as error:
        why = "" if isinstance(error, Malformed) else f" ({error})"
        held = a_or_an(type(value).__name__)
        raise UsageError(f"{name} is {held}: expected an array or a tensor of numbers{why}") from None
    if found.dtype.kind == "c":
        raise UsageError(f"{name} is of {found.dtype}: expected real numbers")
    return found


def load(path: str) -> Any:
    """Load a file: ``.npy`` gives an array, ``.npz`` arrays by name, and any other file what ``torch.save`` wrote.

    Raises ``UsageError`` if nothing can be read. No file can run code, or be larger than ``LARGEST`` when unpacked.
    """
    try:
        return _loaded(path)
    except UsageError:
        raise
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except Exception as error:  # noqa: BLE001 - unpacking an unknown file may raise anything
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):  # a class that torch does not allow
            raise UsageError(
                f"{path}: holds more than tensors, such as a whole module, which could run code when it is read:"
                " expected what torch.save(model.state_dict(), ...) wrote"
            ) from None
        # torch advises to read the file in a way in which it can run code: that sentence is left out.
        said = f"{type(error).__name__}: {error}".partition("\n")[0].partition(" In PyTorch")[0]
        raise UsageError(
            f"{path}: expected what np.save or np.savez wrote, or torch.save(model.state_dict(), ...) ({said})"
        ) from None


def _loaded(path: str) -> Any:
    """Load a file. Raise whatever NumPy and torch raise, or ``UsageError`` for what they are not to be asked."""
    if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
        raise UsageError(f"{path}: expected a file")
    of_numpy = Path(path).suffix in {".npy", ".npz"}
    _require_small(path, of_numpy=of_numpy)
    if of_numpy:
        found = np.load(path, allow_pickle=False)
        return {name: found[name] for name in found.files} if hasattr(found, "files") else found
    import torch

    with warnings.catch_warnings(action="ignore"):  # of what else the file may hold
        held = torch.load(path, map_location="cpu", weights_only=True)
    _require_tensors(path, held)
    return held


def _require_small(path: str, *, of_numpy: bool) -> None:
    """Raise ``UsageError`` for an archive that is large when unpacked, and for tensors that are in no archive."""
    if not zipfile.is_zipfile(path):
        if not of_numpy and Path(path).stat().st_size:
            raise UsageError(f"{path}: expected what np.save or np.savez wrote, or torch.save(model.state_dict(), ...)")
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if len(parts) > MEMBERS:
        raise UsageError(f"{path}: holds {len(parts):,} arrays, expected at most {MEMBERS:,}")
    size = sum(part.file_size for part in parts)
    pickles = sum(part.file_size for part in parts if part.filename.endswith(".pkl"))
    for held, most in ((size, LARGEST), (pickles, PICKLE)):
        if held > most:
            raise UsageError(f"{path}: holds {held:,} bytes, expected at most {most:,}")


def _require_tensors(path: str, held: Any) -> None:
    """Raise ``UsageError`` for lists of lists, and for tensors that are large when they are copied, as views can be."""
    values = [*held.values()] if isinstance(held, Mapping) else held if isinstance(held, list | tuple) else [held]
    if any(isinstance(value, list | tuple | Mapping) for value in values):
        raise UsageError(f"{path}: expected a tensor, or several by name")
    size = sum(math.prod(value.shape) * value.element_size() for value in values if hasattr(value, "element_size"))
    if size > LARGEST:
        raise UsageError(f"{path}: holds {size:,} bytes, expected at most {LARGEST:,}")


def _listed(names: Iterable[str]) -> str:
    """Return names of foreign origin in a line."""
    return " ".join(", ".join(names).split())[:200]


def _of_weights(given: Mapping[str, Array]) -> Model:
    """Build the model from weights under any prefix, such as ``rnn.weight_ih_l0``; other weights are the readout's."""
    found, rest = {}, {}
    prefixes, layers, reverse = set(), [-1], False
    for name, value in given.items():
        if match := _PARAMETER.fullmatch(name):
            prefixes.add(match[1])
            layers.append(int(match[3]))
            reverse = reverse or match[4] is not None
            found[match[2]] = value
        else:
            rest[name] = value
    if len(prefixes) != 1:
        held = "the weights of several nn.RNN" if prefixes else "no weight_ih_l0"
        raise UsageError(f"module holds {held}, but {_listed(given) or 'nothing'}: {_WANTED}")
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in found or found[name].ndim != 2:
            raise UsageError(
                f"{name} is missing or not a matrix: expected (hidden_size, ...); pass nn.RNN's own weights"
            )
    readout = _readout(rest)
    config = RNNConfig(
        found["weight_ih_l0"].shape[1],
        found["weight_hh_l0"].shape[1],
        min(max(layers), len(found)) + 1,  # if there are more layers than weights, some are missing in the first ones
        bias=any(name.startswith("bias") for name in found),
        bidirectional=reverse,
        dtype="float64",
        output_size=len(readout["readout.weight"]) if readout else None,
    )
    found |= readout
    for name, spec in config.weights.items():
        if name not in found:
            raise UsageError(
                f"{name} is missing: expected ({', '.join(spec.axes)}) = {spec.shape}, as state_dict() has it"
            )
        if found[name].shape != spec.shape:
            gates = len(found["weight_hh_l0"]) // config.hidden_size
            hint = f"; {gates} times as many rows belong to an LSTM or a GRU" if gates in {3, 4} else ""
            shape, axes = found[name].shape, ", ".join(spec.axes)
            raise UsageError(f"{name} has shape {shape}: expected ({axes}) = {spec.shape}, as nn.RNN has it{hint}")
    if extra := [name for name in found if name not in config.weights]:
        raise UsageError(f"{_listed(extra)}: expected parameters of {config!r} only; leave it out")
    return Model({name: found[name] for name in config.weights}, config)


def _readout(rest: Mapping[str, Array]) -> dict[str, Array]:
    if not rest:
        return {}
    matches = {name: _READOUT.fullmatch(name) for name in rest}
    named = {match[2]: rest[name] for name, match in matches.items() if match is not None}
    one = len({match and match[1] for match in matches.values()}) == 1
    if not one or None in matches.values() or "weight" not in named or named["weight"].ndim != 2:
        raise UsageError(
            f"module holds {_listed(rest)} beside the nn.RNN: expected at most the weight and bias of one nn.Linear;"
            " leave out what is not the readout"
        )
    bias = named.get("bias", np.zeros(len(named["weight"]), named["weight"].dtype))
    return {"readout.weight": named["weight"], "readout.bias": bias}
