"""TorchSubject: torch's own nn.RNN, or any class with its constructor and state_dict, run eagerly on a device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch

from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.space.outcome import Outcome
from harness.subjects.calling import as_array, attempt, changed, named_outputs

_MODULES = 64
"""Modules kept for the next case of the same config. A search runs a handful of cases a config, one after the other."""


class TorchSubject:
    """A recurrent ``torch.nn.Module``, built by a factory that takes ``nn.RNN``'s constructor arguments.

    The readout, where a config has one, is torch's own ``nn.Linear`` on the module's output.
    """

    def __init__(self, factory: Callable[..., torch.nn.Module] = torch.nn.RNN, name: str = "torch") -> None:
        self.name = name
        self._factory = factory
        self._module = lru_cache(_MODULES)(self._build)

    def devices(self) -> tuple[str, ...]:
        """The CPU, and every accelerator that torch finds here."""
        found = ["cpu"]
        found += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            found.append("mps")
        if hasattr(torch, "xpu") and torch.xpu.is_available():
            found += [f"xpu:{i}" for i in range(torch.xpu.device_count())]
        return tuple(found)

    def run(self, case: Case) -> Outcome:
        """Load the case's weights into a module of its config, and call it."""
        lent: dict[str, torch.Tensor] = {}

        def call() -> Mapping[str, Array]:
            config = case.config
            for name, array in case.arrays.items():
                lent[name] = _on_device(array, config.device)
            return self._call(case, lent)

        outcome = attempt(call)
        arrays = {name: tensor.cpu().numpy() for name, tensor in lent.items()}
        return Outcome(outcome.arrays, outcome.failure, outcome.message, outcome.traceback, changed(arrays, case))

    def _call(self, case: Case, lent: Mapping[str, torch.Tensor]) -> Mapping[str, Array]:
        config = case.config
        module = self._module(_structure(config))
        if module.training != config.training:
            module.train(config.training)
        with torch.no_grad():
            _load(module, {name: lent[name] for name in config.weights if not name.startswith("readout")})
            returned = module(lent["x"], lent["hx"]) if config.hx else module(lent["x"])
            named = named_outputs(returned, readout=False)
            if config.output_size is not None:
                output = torch.as_tensor(returned[0])
                read = torch.nn.functional.linear(output, lent["readout.weight"], lent["readout.bias"])
                named["readout"] = as_array("readout", read)
        return named

    def _build(self, config: RNNConfig) -> torch.nn.Module:
        arguments: dict[str, Any] = {
            name: getattr(config, name)
            for name in ("num_layers", "nonlinearity", "bias", "batch_first", "dropout", "bidirectional")
        }
        dtype = getattr(torch, config.dtype)
        with warnings.catch_warnings():
            # That dropout means nothing in a single layer is the config's own choice, and no news to its author.
            warnings.filterwarnings("ignore", "dropout option adds dropout", UserWarning)
            return self._factory(config.input_size, config.hidden_size, **arguments, device=config.device, dtype=dtype)


def _on_device(array: Array, device: str) -> torch.Tensor:
    """The array's copy on a device; a dtype that the device does not have, as float64 on mps, is unsupported."""
    try:
        return torch.from_numpy(array.copy()).to(device)
    except TypeError as error:
        raise NotImplementedError(str(error)) from error


def _load(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """What ``load_state_dict`` does, at a third of its price where the module's parameters are just these weights."""
    parameters = dict(module.named_parameters())
    plain = parameters.keys() == weights.keys() and not any(True for _ in module.buffers())
    if plain and all(parameter.shape == weights[name].shape for name, parameter in parameters.items()):
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    else:
        module.load_state_dict(weights)


@lru_cache(_MODULES)
def _structure(config: RNNConfig) -> RNNConfig:
    """The config with what the constructor does not see at its default, so that modules are shared."""
    return config.replace(T=1, N=1, hx=False, training=False, output_size=None)
