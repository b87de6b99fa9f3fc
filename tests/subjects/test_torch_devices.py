"""Tests of the memory that torch says is free on a device."""

import pytest
import torch

from harness.subjects.isolated import IsolatedSubject
from harness.subjects.torch_devices import free_memory


def test_a_device_tells_its_free_memory_and_a_cpu_tells_none(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"cuda:1": (3 * 10**9, 8 * 10**10)}
    monkeypatch.setattr(torch.cuda, "mem_get_info", sizes.__getitem__)

    assert free_memory("cuda:1") == 3 * 10**9
    assert free_memory("cpu") is None


def test_it_is_asked_in_the_process_of_the_subject() -> None:
    with IsolatedSubject("torch") as subject:
        assert subject.free_memory("cpu") is None
        assert subject.ground()["torch"] == torch.__version__  # the same process answers the next question
