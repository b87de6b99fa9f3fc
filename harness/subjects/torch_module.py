"""TorchSubject: torch's own nn.RNN, or any class with its constructor and state_dict, run eagerly on a device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import torch
from torch.autograd import forward_ad

from harness.space.case import Array, Case
from harness.space.config import DTYPES, LOSSES, TANGENT, RNNConfig
from harness.space.outcome import Outcome
from harness.subjects.calling import as_array, attempt, changed, named_outputs

_MODULES = 64
"""Modules kept for the next case of the same config. A search runs a handful of cases a config, one after the other."""

_make_dual: Callable[..., torch.Tensor] = forward_ad.make_dual
_unpack_dual: Callable[..., Any] = forward_ad.unpack_dual


class TorchSubject:
    """A recurrent ``torch.nn.Module``, built by a factory that takes ``nn.RNN``'s constructor arguments.

    The readout, where a config has one, is torch's own linear function of the module's output. Gradients are those of
    autograd, and so are the derivatives beyond them, by forward mode and by double backward.
    """

    offers: ClassVar = {"dtype": DTYPES, "loss": (*[None] * 3, *LOSSES[1:])}
    """Every dtype; and gradients, which cost several times a forward pass, in half of the cases."""

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

    def backend(self, config: RNNConfig) -> str:
        """Torch's own kernels are known by their device; of another module's arithmetic nothing is."""
        return f"torch {config.device.partition(':')[0]}" if self._factory is torch.nn.RNN else "unknown"

    def run(self, case: Case) -> Outcome:
        """Load the case's weights into a module of its config, and call it."""
        return self._attempt(case, partial(self._call, case))

    def jvp(self, case: Case, tangents: Mapping[str, Array]) -> Outcome:
        """The outputs and their directional derivatives, by torch's forward mode with dual inputs and parameters."""
        return self._attempt(case, partial(self._forward_mode, case, tangents))

    def second(self, case: Case, tangents: Mapping[str, Array]) -> Outcome:
        """Every gradient's directional derivative, by double backward: the gradient of tangents times gradients."""
        return self._attempt(case, partial(self._double_backward, case, tangents))

    @staticmethod
    def _attempt(case: Case, work: Callable[[Mapping[str, torch.Tensor]], Mapping[str, Array]]) -> Outcome:
        """The outcome of some work on a copy of the case's arrays."""
        lent: dict[str, torch.Tensor] = {}

        def call() -> Mapping[str, Array]:
            for name, array in case.arrays.items():
                lent[name] = _on_device(array, case.config.device)
            return work(lent)

        outcome = attempt(call)
        arrays = {name: to_numpy(tensor) for name, tensor in lent.items()}
        return Outcome(outcome.arrays, outcome.failure, outcome.message, outcome.traceback, changed(arrays, case))

    def _call(self, case: Case, lent: Mapping[str, torch.Tensor]) -> Mapping[str, Array]:
        config = case.config
        module = self._loaded(config, lent)
        with torch.set_grad_enabled(config.loss is not None):
            named, results, asked = self._outputs(case, module, lent)
            return named if config.loss is None else named | self._gradients(case, results, lent, asked)

    def _loaded(self, config: RNNConfig, lent: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """The module of a config, with a case's weights in it."""
        module = self._module(_structure(config))
        if module.training != config.training:
            module.train(config.training)
        with torch.no_grad():
            _load(module, {name: lent[name] for name in config.weights if not name.startswith("readout")})
        return module

    @staticmethod
    def _outputs(
        case: Case, module: torch.nn.Module, lent: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, Array], dict[str, torch.Tensor], list[torch.Tensor]]:
        """What a forward pass gives, as arrays and as tensors; and what gradients are by, where there is a loss."""
        config = case.config
        given = {name: lent[name] for name in config.inputs}
        readout = [lent[name] for name in config.weights if name.startswith("readout")]
        if config.loss is not None:
            given = {name: tensor.detach().requires_grad_() for name, tensor in given.items()}
            readout = [tensor.detach().requires_grad_() for tensor in readout]
        returned = module(*given.values())
        named = named_outputs(returned, readout=False)
        results = dict(zip(named, returned, strict=True))
        if readout:
            results["readout"] = torch.nn.functional.linear(torch.as_tensor(returned[0]), *readout)
            named["readout"] = as_array("readout", results["readout"])
        if config.loss is None:
            return named, results, []
        return named, results, [*given.values(), *_parameters(module, config), *readout]

    def _forward_mode(
        self, case: Case, tangents: Mapping[str, Array], lent: Mapping[str, torch.Tensor]
    ) -> Mapping[str, Array]:
        config = case.config
        module = self._loaded(config, lent)
        names = [*config.inputs, *config.weights]
        primals = [*(lent[name] for name in config.inputs), *_parameters(module, config)]
        along = [_on_device(tangents[name], config.device) for name in names]
        with warnings.catch_warnings(), torch.no_grad(), forward_ad.dual_level():
            # The first dual tensor loads what torch has written for torch.jit, of which torch then warns.
            warnings.filterwarnings("ignore", r".*torch\.jit\.script", DeprecationWarning)
            duals = list(map(_make_dual, primals, along))
            given, parameters = duals[: len(config.inputs)], duals[len(config.inputs) :]
            returned = torch.func.functional_call(
                module, dict(zip(config.weights, parameters, strict=True)), tuple(given)
            )
            named = named_outputs(returned, readout=False)
            for name, result in zip(tuple(named), returned, strict=True):
                tangent = _unpack_dual(result).tangent
                if tangent is not None:
                    named[name + TANGENT] = as_array(name + TANGENT, tangent)
        return named

    def _double_backward(
        self, case: Case, tangents: Mapping[str, Array], lent: Mapping[str, torch.Tensor]
    ) -> Mapping[str, Array]:
        config = case.config
        along = {f"{name}.grad": _on_device(array, config.device) for name, array in tangents.items()}
        with torch.enable_grad():
            _, results, asked = self._outputs(case, self._loaded(config, lent), lent)
            roots = [results[name.removesuffix(".grad")] for name in case.cotangents]
            cotangents = [lent[name] for name in case.cotangents]
            first = torch.autograd.grad(roots, asked, cotangents, allow_unused=True, create_graph=True)
            pairs = [
                (gradient, along[name])
                for name, gradient in zip(config.gradients, first, strict=True)
                if gradient is not None and gradient.requires_grad
            ]
            found: tuple[torch.Tensor | None, ...] = (None,) * len(asked)
            if pairs:  # else every gradient is constant
                found = torch.autograd.grad([g for g, _ in pairs], asked, [v for _, v in pairs], allow_unused=True)
        return {
            name: as_array(name, torch.zeros_like(tensor) if result is None else result)
            for name, tensor, result in zip(config.gradients, asked, found, strict=True)
        }

    def _gradients(
        self,
        case: Case,
        results: Mapping[str, torch.Tensor],
        lent: Mapping[str, torch.Tensor],
        asked: list[torch.Tensor],
    ) -> dict[str, Array]:
        """What autograd gives for each tensor asked for. Where it gives none, the gradient is missing."""
        roots = [results[name.removesuffix(".grad")] for name in case.cotangents]
        cotangents = [lent[name] for name in case.cotangents]
        found = dict(
            zip(case.config.gradients, torch.autograd.grad(roots, asked, cotangents, allow_unused=True), strict=True)
        )
        if "readout.grad" not in case.cotangents:  # a readout that no loss reads has none, and rightly so
            found |= {name: torch.zeros_like(t) for name, t in zip(found, asked, strict=True) if "readout" in name}
        return {name: as_array(name, gradient) for name, gradient in found.items() if gradient is not None}

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
        return from_numpy(array).to(device)
    except TypeError as error:
        raise NotImplementedError(str(error)) from error


def _parameters(module: torch.nn.Module, config: RNNConfig) -> list[torch.Tensor]:
    """The module's own parameters, under nn.RNN's names. Gradients cannot be asked of a module without them."""
    own = dict(module.named_parameters())
    names = [name for name in config.weights if not name.startswith("readout")]
    if missing := [name for name in names if name not in own]:
        raise NotImplementedError(f"gradients need parameters under nn.RNN's names; {', '.join(missing)} is missing")
    return [own[name] for name in names]


def from_numpy(array: Array) -> torch.Tensor:
    """A tensor with a copy of the array's numbers, bfloat16 included, which torch does not read from NumPy."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def to_numpy(tensor: torch.Tensor) -> Array:
    """An array of the tensor's numbers, bfloat16 included, which torch does not hand to NumPy."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())


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
    return config.replace(T=1, N=1, hx=False, training=False, output_size=None, loss=None)
