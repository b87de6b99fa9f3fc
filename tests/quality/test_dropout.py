"""Measurement of torch's dropout: a correct layer raises no alarm by chance."""

import pytest

from harness import Verdict
from harness.checks import dropout
from harness.checks.dropout import check_dropout
from harness.checks.result import Result
from harness.subjects.torch_module import TorchSubject

TORCH = TorchSubject()


@pytest.mark.long
def test_fifty_other_seeds_raise_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropout, "assess", lambda _seen: Result(Verdict.AGREES))  # values have no element of chance

    for seed in range(50):
        assert check_dropout(TORCH, seed=seed).verdict is Verdict.AGREES, seed
