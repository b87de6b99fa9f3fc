"""Conversion of arrays to tensors on their device, in their memory layout and packed, and back to arrays."""

from collections.abc import Iterable
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.subjects.run_user_code import MalformedResultError, a_or_an


def on_device(array: Array, device: str) -> torch.Tensor:
    """Return a copy of the array on a device.

    Raises ``NotImplementedError`` for a dtype that the device does not have, such as float64 on mps.
    """
    tensor = from_numpy(array)
    if device == "cpu":  # to() would find that out, too, but takes as long as the copy
        return tensor
    try:
        return tensor.to(device)
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
    if tensor.is_meta:
        tensor = torch.zeros_like(tensor, device="cpu")
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy(force=True).view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy(force=True))


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
        part = tensor.reshape(-1)[0].clone() if constant else tensor[:1].clone()
        return part.expand(tensor.shape)
    return tensor


def tensors_of(case: Case, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Return copies of some of the case's arrays, with the inputs and cotangents in the config's memory layout."""
    config, arrays, made = case.config, case.arrays, {}
    for name in names:
        made[name] = on_device(arrays[name], config.device)
        if name not in config.weights:
            made[name] = laid_out(made[name], config.strides, constant=name in config.cotangents)
    return made


def data_of(returned: Any) -> Any:
    """Return a returned tensor, or the data of a packed sequence."""
    return returned.data if isinstance(returned, PackedSequence) else returned


def packed(x: torch.Tensor, config: RNNConfig) -> PackedSequence:
    """Pack the sequences of x."""
    assert config.lengths is not None
    return pack_padded_sequence(
        x, torch.tensor(config.lengths), batch_first=config.batch_first, enforce_sorted=config.enforce_sorted
    )


def padded(returned: Any, config: RNNConfig) -> Any:
    """Return the module's results with a packed output padded. Raise ``MalformedResultError`` if it is not packed."""
    if not isinstance(returned, tuple | list) or not returned:
        return returned
    if not isinstance(returned[0], PackedSequence):
        kind = a_or_an(type(returned[0]).__name__)
        raise MalformedResultError(f"returned {kind} for output, expected a PackedSequence, as the input is")
    if config.device == "meta":  # padding needs the values of the sort indices
        steps = (config.N, config.T) if config.batch_first else (config.T, config.N)
        return (returned[0].data.sum() + returned[0].data.new_zeros(*steps, returned[0].data.shape[1]), *returned[1:])
    output, _ = pad_packed_sequence(returned[0], batch_first=config.batch_first, total_length=config.T)
    return (output, *returned[1:])


def near(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Tell whether two results of float32 are the same up to another order of sums.

    States are below 1, and their sums, of up to 80 terms, are off by at most some 80 u, or 5e-6, of their size.
    """
    return torch.allclose(first, second, 1e-4, 1e-5)
