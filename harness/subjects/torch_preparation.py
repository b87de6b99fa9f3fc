"""The ways in which a module comes to hold its weights; none of them may change what it computes.

Each takes a module that holds the weights and returns one that should compute the same. They are keyed by the names of
``RNNConfig.preparation``.
"""

import copy
import pickle
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, Final

import torch
from torch.nn.utils import parametrize

from harness.space.config import RNNConfig
from harness.space.factor_table import LAYER, OTHER

# The number of modules kept for the next case of the same config; a search runs a few cases per config in a row.
MODULES: Final = 64

Build = Callable[[RNNConfig], torch.nn.Module]
Weights = Mapping[str, torch.Tensor]


@lru_cache(MODULES)
def structure(config: RNNConfig, more: Collection[str] = ()) -> RNNConfig:
    """Return the config with all fields that the constructor does not see at their defaults, to share modules.

    Of those of a call, it sees ``more``.
    """
    fields = (*LAYER, "device", "dtype", "positional", "cell", "proj_size", *more)
    return RNNConfig(**{name: getattr(config, name) for name in fields})


def load(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load weights as ``load_state_dict`` does, at a third of its cost if they are exactly the module's parameters."""
    parameters = dict(module.named_parameters())
    plain = parameters.keys() == weights.keys() and not any(True for _ in module.buffers())
    if plain and all(parameter.shape == weights[name].shape for name, parameter in parameters.items()):
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    else:
        module.load_state_dict(weights)


def others(module: torch.nn.Module, weights: Weights) -> dict[str, torch.Tensor]:
    """Return other weights than these, under the same names; a module's buffers stay as they are."""
    buffers = {name for name, _ in module.named_buffers()}
    return {name: tensor if name in buffers else torch.full_like(tensor, OTHER) for name, tensor in weights.items()}


def renew(module: torch.nn.Module, weights: Weights) -> None:
    """Give weights to a module that was called: in training as an optimizer's step does, else by ``load_state_dict``.

    The module may be parametrized.
    """
    own = {_name_of(name): (name, parameter) for name, parameter in module.named_parameters()}
    with torch.no_grad():
        if not module.training:
            module.load_state_dict({own[name][0] if name in own else name: tensor for name, tensor in weights.items()})
            return
        for name, (_, parameter) in own.items():
            parameter.copy_(weights[name])


def in_mode(module: torch.nn.Module, config: RNNConfig) -> torch.nn.Module:
    """Return the same module, in the config's mode, of training or evaluation."""
    return module if module.training == config.training else module.train(config.training)


def prepared(module: torch.nn.Module, config: RNNConfig, weights: Weights, build: Build) -> torch.nn.Module:
    """Return a module that should compute what ``module`` does.

    ``module`` already holds ``weights``; ``build`` makes new modules.
    """
    if config.preparation in {"new", "used", "functional_call"}:  # these affect the call alone
        return module
    return _WAYS[config.preparation](module, config, weights, build)


def prepared_in_place(module: torch.nn.Module, config: RNNConfig, weights: Weights, build: Build) -> torch.nn.Module:
    """Do what ``prepared`` does to a module that nobody else has, and that may be parametrized.

    Its own parameters are changed. Another module is parametrized if it is, so that both have the same names.
    """

    def made(changed: RNNConfig) -> torch.nn.Module:
        if config.preparation in {"replaced", "parametrize"}:
            return module
        twin = build(changed)
        _parametrize_like(twin, module)
        return twin

    with torch.no_grad():
        return prepared(module, config, weights, made)


def _deepcopy(module: torch.nn.Module, _config: RNNConfig, _weights: Weights, _build: Build) -> torch.nn.Module:
    return copy.deepcopy(module)


def _pickle(module: torch.nn.Module, _config: RNNConfig, _weights: Weights, _build: Build) -> torch.nn.Module:
    try:
        written = pickle.dumps(module)
    except (pickle.PicklingError, AttributeError) as error:  # a class that no import can find again
        raise NotImplementedError(f"cannot be pickled: {error}") from error
    read: torch.nn.Module = pickle.loads(written)  # noqa: S301 - written one line above
    return read


def _state_dict(module: torch.nn.Module, config: RNNConfig, _weights: Weights, build: Build) -> torch.nn.Module:
    twin = build(config)
    twin.load_state_dict(module.state_dict())
    return twin


def _assign(module: torch.nn.Module, config: RNNConfig, _weights: Weights, build: Build) -> torch.nn.Module:
    twin = build(config)
    twin.load_state_dict({name: tensor.clone() for name, tensor in module.state_dict().items()}, assign=True)
    return twin


def _to_dtype(module: torch.nn.Module, config: RNNConfig, _weights: Weights, build: Build) -> torch.nn.Module:
    twin = build(config.replace(dtype="float32" if config.dtype == "float64" else "float64", autocast=None))
    twin = twin.to(getattr(torch, config.dtype))
    twin.load_state_dict(module.state_dict())
    return twin


def _replaced(_module: torch.nn.Module, config: RNNConfig, weights: Weights, build: Build) -> torch.nn.Module:
    twin = build(config)
    for name, tensor in weights.items():
        setattr(twin, name, torch.nn.Parameter(tensor.clone()))
    return twin


class _Same(torch.nn.Module):
    """A parametrization that returns the original's numbers, computed again each time."""

    def forward(self, original: torch.Tensor) -> torch.Tensor:
        return original.clone()


def _parametrize(_module: torch.nn.Module, config: RNNConfig, weights: Weights, build: Build) -> torch.nn.Module:
    twin = build(config)
    with torch.no_grad():
        for name, tensor in weights.items():
            parametrize.register_parametrization(twin, name, _Same())
            originals: Any = twin.parametrizations
            originals[name].original.copy_(tensor)
    return twin


def tie(module: torch.nn.Module, to: torch.nn.Module) -> None:
    """Make the parameters of another module the module's own, which is parametrized if the other one is."""
    _parametrize_like(module, to)
    for name, parameter in to.named_parameters():
        place, _, own = name.rpartition(".")
        setattr(module.get_submodule(place), own, parameter)


def _parametrize_like(module: torch.nn.Module, template: torch.nn.Module) -> None:
    """Parametrize each parameter that is parametrized in another module, and not yet in this one."""
    for name in getattr(template, "parametrizations", ()):
        if not parametrize.is_parametrized(module, name):
            parametrize.register_parametrization(module, name, _Same())


def parameters_by_name(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the module's parameters under nn.RNN's names, also if they are parametrized."""
    layer = "_l0" if isinstance(module, torch.nn.RNNCell) else ""
    return {_name_of(name) + layer: parameter for name, parameter in module.named_parameters()}


def _name_of(parameter: str) -> str:
    """Return the name that a parameter had before it was parametrized."""
    return parameter.removeprefix("parametrizations.").removesuffix(".original")


def parameters_of(own: Weights, config: RNNConfig) -> dict[str, torch.Tensor]:
    """Return those of a module's own parameters that nn.RNN has. Raise ``NotImplementedError`` if some are missing."""
    names = [name for name in config.weights if not name.startswith("readout")]
    if missing := [name for name in names if name not in own]:
        raise NotImplementedError(f"gradients need parameters under nn.RNN's names; {', '.join(missing)} is missing")
    return {name: own[name] for name in names}


def renamed(module: torch.nn.Module, weights: Weights) -> dict[str, torch.Tensor]:
    """Return weights under the module's own names; a cell's names are nn.RNN's without the layer."""
    is_cell = isinstance(module, torch.nn.RNNCell)
    return {name.removesuffix("_l0") if is_cell else name: tensor for name, tensor in weights.items()}


_WAYS: Final[dict[str, Callable[[torch.nn.Module, RNNConfig, Weights, Build], torch.nn.Module]]] = {
    "deepcopy": _deepcopy,
    "pickle": _pickle,
    "state_dict": _state_dict,
    "assign": _assign,
    "to_dtype": _to_dtype,
    "replaced": _replaced,
    "parametrize": _parametrize,
}
