"""Subjects for torch's nn.RNN on CUDA with cuDNN off, with TF32 products, and with float32 products.

The authors never ran them on a GPU; that they set the flags was seen on a CPU.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from harness.space.case import Case
from harness.space.outcome import Outcome
from harness.subjects.protocol import SubjectError
from harness.subjects.torch_module import TorchSubject


class CudnnSubject(TorchSubject):
    """``nn.RNN`` on the CUDA devices that are here, under some of cuDNN's flags.

    Raises ``SubjectError`` if there is no such device.
    """

    def __init__(self, name: str, **flags: bool) -> None:
        super().__init__(name=name)
        self._flags = flags
        self._cuda = tuple(device for device in super().devices() if device.startswith("cuda"))
        if not self._cuda:
            raise SubjectError(f"{name}: needs CUDA; {self.capabilities.absent.get('cuda', 'torch finds none')}")

    def devices(self) -> tuple[str, ...]:
        """Return the CUDA devices that are here."""
        return self._cuda

    def run(self, case: Case) -> Outcome:
        """Run torch's own method under the flags."""
        with self._switched():
            return super().run(case)

    def run_twice(self, case: Case) -> Outcome:
        """Run torch's own method under the flags."""
        with self._switched():
            return super().run_twice(case)

    def check_derivatives(self, case: Case) -> Outcome:
        """Run torch's own method under the flags."""
        with self._switched():
            return super().check_derivatives(case)

    def _switched(self) -> AbstractContextManager[Any]:
        flags: Any = torch.backends.cudnn.flags
        switched: AbstractContextManager[Any] = flags(**self._flags)
        return switched


def without_cudnn() -> CudnnSubject:
    """Return ``torch:no-cudnn``, which uses torch's own kernels."""
    return CudnnSubject("torch:no-cudnn", enabled=False)


def with_tf32() -> CudnnSubject:
    """Return ``torch:tf32``: cuDNN may round float32 operands of products to TF32, as ``--tolerance tf32`` accepts."""
    return CudnnSubject("torch:tf32", enabled=True, allow_tf32=True)


def without_tf32() -> CudnnSubject:
    """Return ``torch:ieee``: cuDNN may not round to TF32."""
    return CudnnSubject("torch:ieee", enabled=True, allow_tf32=False)
