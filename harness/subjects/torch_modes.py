"""The modes of torch around a call, each for the time of a ``with`` block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from harness.space.config import RNNConfig


def grad_mode(config: RNNConfig) -> contextlib.AbstractContextManager[Any]:
    """Enable gradients if there is a loss; otherwise use the config's mode."""
    if config.grad_mode == "inference_mode":
        return torch.inference_mode()
    return torch.set_grad_enabled(config.loss is not None or config.grad_mode == "enable_grad")


def autocast(config: RNNConfig) -> contextlib.AbstractContextManager[Any]:
    """Return torch's automatic mixed precision if the config asks for it, else a context that does nothing."""
    if config.autocast is None:
        return contextlib.nullcontext()
    return torch.autocast(config.device.partition(":")[0], getattr(torch, config.autocast))


@contextlib.contextmanager
def frozen(module: torch.nn.Module, config: RNNConfig) -> Iterator[None]:
    """Freeze the module's parameters if only gradients with respect to the inputs are asked for."""
    # A scripted module refuses its own requires_grad_.
    parameters = list(module.parameters()) if config.loss is not None and config.wrt == "inputs" else []
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generator that dropout and initialisation draw from, and restore its state afterwards."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed also looks for devices, which takes a while
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
