"""Torch's own nn.RNN under a switch that chooses other kernels, in a process of its own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import Subject
from harness.subjects.switches import is_applied
from harness.subjects.torch_facts import FACTS
from harness.subjects.torch_module import TorchSubject


class SwitchedSubject(TorchSubject):
    """``nn.RNN`` on a CPU, in a process in which the switch in its name is set."""

    def __init__(self, name: str) -> None:
        # Exactness was measured without a switch; and a worker, which runs other subjects, must not have one.
        facts = replace(FACTS[torch.nn.RNN], exact=False, shares_process=False)
        super().__init__(name=name, facts=facts)
        self.capabilities = replace(self.capabilities, absent={})  # only the CPU is asked for

    def devices(self) -> tuple[str, ...]:
        """Return the CPU, whose kernels the switches choose."""
        return ("cpu",)


def _switched(name: str) -> Subject:
    """Return torch's own subject if the switch is set in this process, else one in a process in which it is set."""
    spec = f"torch:{name}"
    return SwitchedSubject(spec) if is_applied(name) else IsolatedSubject(spec)


no_mkldnn = partial(_switched, "no-mkldnn")
onednn_avx2 = partial(_switched, "onednn-avx2")
onednn_avx512 = partial(_switched, "onednn-avx512")
aten_avx2 = partial(_switched, "aten-avx2")
aten_default = partial(_switched, "aten-default")
two_threads = partial(_switched, "two-threads")
avx2 = partial(_switched, "avx2")
