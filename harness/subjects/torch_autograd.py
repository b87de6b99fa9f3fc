"""torch's modes around a call, gradients that two backward passes add up, and its own check of derivatives beyond."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck

from harness.space.config import RNNConfig
from harness.subjects.capabilities import DIFFERENCES


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


class Graph(NamedTuple):
    """A graph to go back through: from which tensors, and to which."""

    roots: Sequence[torch.Tensor]
    by: Sequence[torch.Tensor]


def accumulated(
    graph: Graph, cotangents: Sequence[torch.Tensor], second: Graph | None = None
) -> Sequence[torch.Tensor | None]:
    """Return half of what two passes leave in each ``.grad``, ``None`` where there is nothing.

    The second pass goes through the ``second`` graph, or again through the same. Tensors that both share have one
    ``.grad``; those of others that take the same place are added up.

    The sum of two equal numbers and half of it are exact, so that this is what one pass gives, to the bit. Only a sum
    may overflow; the first pass's own gradient stands in for one that does.
    """
    second = second or graph
    for tensor in (*graph.by, *second.by):
        tensor.grad = None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "grad and param do not obey the gradient layout contract", UserWarning)
            # A copy of a scripted module has parameters that are no leaves.
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
            torch.autograd.backward(graph.roots, cotangents, retain_graph=True)
            first = [None if tensor.grad is None else tensor.grad.clone() for tensor in graph.by]
            for tensor in (*graph.by, *second.by):  # autograd may leave views of one memory, such as parts of a sum's
                tensor.grad = None if tensor.grad is None else tensor.grad.clone()
            torch.autograd.backward(second.roots, cotangents)
            totals = [_total(*pair) for pair in zip(graph.by, second.by, strict=True)]
        return [_half(*pair) for pair in zip(totals, first, strict=True)]
    finally:
        for tensor in (*graph.by, *second.by):
            tensor.grad = None  # the module is used again for other cases


def _total(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor | None:
    if first is second or second.grad is None:
        return first.grad
    return second.grad if first.grad is None else first.grad + second.grad


def _half(total: torch.Tensor | None, first: torch.Tensor | None) -> torch.Tensor | None:
    if total is None:
        return None
    if first is None:  # half of what only the second pass gave shows that the first one is missing
        return total / 2
    return torch.where(total.isinf() & first.isfinite(), first, total / 2)


def wrong_derivatives(
    results: Callable[..., Sequence[torch.Tensor]], inputs: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor]
) -> str:
    """Return the name of the check by which derivatives of ``results`` differ from differences, or nothing.

    Raises ``NotImplementedError`` if there are neither those of forward mode nor those of gradients.
    """
    forward: partial[bool] = partial(gradcheck, results, inputs, **DIFFERENCES["gradcheck"])
    backward: partial[bool] = partial(gradgradcheck, results, inputs, cotangents, **DIFFERENCES["gradgradcheck"])
    missing: list[NotImplementedError] = []
    for check in (forward, backward):
        try:
            with warnings.catch_warnings(), seeded(0):  # the directions are random
                # The first dual tensor loads code that torch has written for torch.jit, and torch then warns of it.
                warnings.filterwarnings("ignore", r".*torch\.jit\.script")
                check()
        except GradcheckError:
            name: str = check.func.__name__
            return name
        except NotImplementedError as error:
            missing.append(error)
    if len(missing) > 1:
        raise missing[0]
    return ""
