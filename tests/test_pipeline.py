"""Tests of the way of a subject through the rooms."""

from pathlib import Path
from typing import Any

import pytest

from harness import as_subject, scope_of
from harness.pipeline import go_through
from harness.store.scripts import offer
from tests import implementations


def test_an_interrupt_while_a_finding_is_kept_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, calls = as_subject(implementations.without_b_hh), list[int]()

    def interrupted_once(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return offer(*arguments, **named)

    monkeypatch.setattr("harness.store.keep.offer", interrupted_once)
    done = go_through(subject, scope_of(subject), folder=str(tmp_path), warn=pytest.fail, cases=100)

    (told,) = done.told
    assert done.examination.interrupted
    assert told.kept is not None
    assert (told.kept.folder / "case.json").exists()
    assert told.explanation.diagnosis is not None
