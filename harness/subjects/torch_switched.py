"""Torch's own nn.RNN under a switch that chooses other kernels, in a process of its own.

The authors never ran those for CUDA on a GPU; that they set the flags was seen on a CPU.
"""

from dataclasses import replace
from functools import partial

import torch

from harness.subjects import torch_facts
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import Subject, SubjectError
from harness.subjects.torch_facts import FACTS
from harness.subjects.torch_module import TorchSubject
from harness.subjects.torch_variants import SWITCHES, is_applied


class SwitchedSubject(TorchSubject):
    """``nn.RNN`` in a process in which the switch in its name is set, on the devices whose kernels that chooses."""

    def __init__(self, name: str) -> None:
        # Exactness was measured without a switch; and a worker, which runs other subjects, must not have one.
        facts = replace(FACTS[torch.nn.RNN], exact=False, shares_process=False)
        super().__init__(name=name, facts=facts)
        self.capabilities = replace(self.capabilities, absent={})  # no other device is asked for
        self._devices = devices_of(name)

    def devices(self) -> tuple[str, ...]:
        """Return the devices whose kernels the switch chooses."""
        return self._devices


def devices_of(spec: str) -> tuple[str, ...]:
    """Return the devices that a subject's switch affects. Raise ``SubjectError`` if there are none."""
    kind = SWITCHES[spec.removeprefix("torch:")].on
    found = tuple(device for device in torch_facts.devices() if device.partition(":")[0] == kind)
    if not found:
        raise SubjectError(f"{spec}: needs {kind.upper()}; {torch_facts.absent().get(kind, 'torch finds none')}")
    return found


def _switched(name: str) -> Subject:
    """Return torch's own subject if the switch is set in this process, else one in a process in which it is set."""
    spec = f"torch:{name}"
    devices_of(spec)
    return SwitchedSubject(spec) if is_applied(name) else IsolatedSubject(spec)


no_mkldnn = partial(_switched, "no-mkldnn")
onednn_avx2 = partial(_switched, "onednn-avx2")
onednn_avx512 = partial(_switched, "onednn-avx512")
aten_avx2 = partial(_switched, "aten-avx2")
aten_default = partial(_switched, "aten-default")
two_threads = partial(_switched, "two-threads")
avx2 = partial(_switched, "avx2")
no_cudnn = partial(_switched, "no-cudnn")
tf32 = partial(_switched, "tf32")
ieee = partial(_switched, "ieee")
