"""Tests of cuDNN's flags as subjects: they are set while the module runs, and unavailable without CUDA."""

from typing import Any

import pytest
import torch

from harness import RNNConfig, draw
from harness.subjects import torch_devices
from harness.subjects.protocol import SubjectError
from harness.subjects.registry import find_subject

NAMES = ["torch:no-cudnn", "torch:tf32", "torch:ieee"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
@pytest.mark.parametrize("name", NAMES)
def test_without_cuda_they_are_not_here(name: str) -> None:
    with pytest.raises(SubjectError, match=f"{name}: needs CUDA"):
        find_subject(name)


@pytest.mark.parametrize(
    ("name", "enabled", "tf32"),
    [("torch:no-cudnn", False, None), ("torch:tf32", True, True), ("torch:ieee", True, False)],
)
def test_the_flags_are_switched_while_it_runs_and_no_longer(
    name: str, enabled: bool, tf32: bool | None, monkeypatch: Any
) -> None:
    seen: list[tuple[bool, bool]] = []
    forward = torch.nn.RNN.forward

    def spied(self: Any, *arguments: Any) -> Any:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return forward(self, *arguments)

    monkeypatch.setattr(torch.nn.RNN, "forward", spied)
    monkeypatch.setattr(torch_devices, "devices", lambda: ("cpu", "cuda:0", "meta"))
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32
    subject = find_subject(name)

    subject.run(draw(RNNConfig(1, 1)))

    assert subject.devices() == ("cuda:0",)
    assert seen[0][0] is enabled
    assert tf32 in {None, seen[0][1]}
    assert (torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32) == before
