"""Torch's own layers under a switch that chooses other kernels, in a process of its own.

The authors never ran those for CUDA on a GPU; that they set the flags was seen on a CPU.
"""

from dataclasses import replace
from functools import partial

import torch

from harness.subjects import torch_class_facts
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import Subject, SubjectUnavailable
from harness.subjects.torch_class_facts import FACTS
from harness.subjects.torch_module import TorchSubject
from harness.subjects.torch_variants import KERNEL_SUBJECTS, KERNEL_SWITCHES, attribute_of, is_applied


class SwitchedSubject(TorchSubject):
    """A layer in a process in which the switch in its name is set, on the devices whose kernels that chooses."""

    def __init__(self, name: str) -> None:
        # Exactness was measured without a switch; and a worker, which runs other subjects, must not have one.
        layer = getattr(torch.nn, KERNEL_SUBJECTS[name][0])
        super().__init__(layer, name, facts=replace(FACTS[layer], exact=False, shares_process=False))
        self.capabilities = replace(self.capabilities, absent={})  # no other device is asked for
        self._devices = devices_of(name)

    def devices(self) -> tuple[str, ...]:
        """Return the devices whose kernels the switch chooses."""
        return self._devices


def devices_of(spec: str) -> tuple[str, ...]:
    """Return the devices that a subject's switch affects. Raise ``SubjectUnavailable`` if there are none."""
    kind = KERNEL_SWITCHES[KERNEL_SUBJECTS[spec][1]].on
    devices = tuple(device for device in torch_class_facts.devices() if device.partition(":")[0] == kind)
    if not devices:
        raise SubjectUnavailable(
            f"{spec}: needs {kind.upper()}; {torch_class_facts.absent().get(kind, 'torch finds none')}"
        )
    return devices


def _switched(spec: str) -> Subject:
    """Return torch's own subject if the switch is set in this process, else one in a process in which it is set."""
    devices_of(spec)
    return SwitchedSubject(spec) if is_applied(KERNEL_SUBJECTS[spec][1]) else IsolatedSubject(spec)


globals().update({attribute_of(spec): partial(_switched, spec) for spec in KERNEL_SUBJECTS})
