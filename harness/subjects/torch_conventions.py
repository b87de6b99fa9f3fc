"""torch_conventions: the parameters and gradients of a class of other conventions than nn.RNN's."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from harness.subjects.conventions import Conventions
from harness.subjects.protocol import SubjectError

Tensors = Mapping[str, torch.Tensor]


def require_a_class_can(conventions: Conventions, name: str) -> None:
    """Raise ``SubjectError`` for conventions that only a function may have."""
    if conventions.last_output_only:
        raise SubjectError(f"{name}: last_output_only=True of a class: expected of a function; write one that calls it")


def own_weights(conventions: Conventions, weights: Tensors) -> dict[str, torch.Tensor]:
    """Return nn.RNN's weights as a class of these conventions has them; gradients flow back through what this does."""
    own = {}
    for name, tensor in weights.items():
        if conventions.one_bias and name.startswith("bias_ih"):
            own[name] = tensor + weights[name.replace("_ih_", "_hh_")]
        elif not (conventions.one_bias and name.startswith("bias_hh")):
            own[name] = tensor.T.contiguous() if conventions.transposed and tensor.ndim == 2 else tensor
    return own


def with_both_biases(conventions: Conventions, parameters: Tensors) -> dict[str, torch.Tensor]:
    """Return a class's own parameters, its one bias under both names: the loss depends on both in the same way."""
    both = dict(parameters)
    if conventions.one_bias:
        both |= {name.replace("_ih_", "_hh_"): one for name, one in parameters.items() if name.startswith("bias_ih")}
    return both


def gradients_back(conventions: Conventions, gradients: Tensors) -> dict[str, torch.Tensor]:
    """Return the gradients by a class's own parameters as nn.RNN has them."""
    turn = "weight" if conventions.transposed else "-"
    return {name: one.T if name.startswith(turn) else one for name, one in gradients.items()}
