"""Conversion of arrays to tensors on their device and in their memory layout, and back to arrays."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch

from harness.space.case import Array


def on_device(array: Array, device: str) -> torch.Tensor:
    """Return a copy of the array on a device.

    Raises ``NotImplementedError`` for a dtype that the device does not have, such as float64 on mps.
    """
    try:
        return from_numpy(array).to(device)
    except TypeError as error:
        raise NotImplementedError(str(error)) from error


def from_numpy(array: Array) -> torch.Tensor:
    """Return a tensor with a copy of the array's numbers, also in bfloat16, which torch does not read from NumPy.

    The tensor lies in memory that torch allocated, which always begins at a multiple of 64 bytes. NumPy's memory may
    begin at any multiple of 16, and kernels may sum in another order if memory begins elsewhere: one case could then
    give two answers.
    """
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).clone().view(torch.bfloat16)
    return torch.from_numpy(array.copy()).clone()


def to_numpy(tensor: torch.Tensor) -> Array:
    """Return an array of the tensor's numbers; zeros for meta.

    It also handles bfloat16, which torch does not convert to NumPy.
    """
    tensor = tensor.detach()
    if tensor.device.type == "meta":
        tensor = torch.zeros_like(tensor, device="cpu")
    tensor = tensor.cpu().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())


def laid_out(tensor: torch.Tensor, strides: str, *, constant: bool = False) -> torch.Tensor:
    """Return the same numbers in the memory layout that a config's ``strides`` names.

    The layout ``expanded`` is one value along the first axis, or if ``constant`` one value throughout, with stride 0.
    """
    if strides == "transposed":
        axes = tuple(reversed(range(tensor.dim())))
        return tensor.permute(axes).contiguous().permute(axes)
    if strides == "stepped":
        return torch.stack([tensor, tensor], dim=-1).flatten(-2)[..., ::2]
    if strides == "expanded" and tensor.numel():
        one = tensor.reshape(-1)[0].clone() if constant else tensor[:1].clone()
        return one.expand(tensor.shape)
    return tensor
