"""Tests of the part of the space that two subjects both support."""

from typing import Any

import pytest

from harness import Scope, as_subject
from harness.checks.result import Result, Verdict
from harness.search.common_scope import Behaviour, joint_scope
from harness.search.deadline import Hang
from harness.space.constraints import FactorRule
from harness.subjects.protocol import Subject
from tests import implementations

SCOPE = Scope().only(num_layers=1, dtype=["float32", "float64"], preparation="new")


def refusing(*refuses: Any) -> Subject:
    """Return a subject that refuses what a function tells of it."""

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if any(one(config) for one in refuses):
            raise NotImplementedError("not this")
        return implementations.vectorised(x, h0, weights, config)

    return as_subject(rnn)


def test_what_one_supports_beside_another_factor_only_is_asked_of_both_there_only() -> None:
    everything, ruled = refusing(), refusing(lambda config: config.bidirectional and config.dtype == "float32")
    rule = FactorRule("bidirectional", True, "dtype", ("float64",))

    found = joint_scope((everything, SCOPE), (ruled, SCOPE))

    assert found.old is not None
    assert found.new is not None
    assert found.old.scope == found.new.scope == SCOPE.ruled([rule])
    assert found.behaviour == (
        Behaviour("bidirectional=True except with dtype=float64", "supports it", "refuses: not this"),
    )
    back = joint_scope((ruled, SCOPE), (everything, SCOPE))
    assert [(one.old, one.new) for one in back.behaviour] == [("refuses: not this", "supports it")]


def test_what_both_refuse_and_what_only_one_offers_is_told_apart() -> None:
    def one(config: Any) -> bool:
        return bool(config.bidirectional)

    found = joint_scope((refusing(one), SCOPE), (refusing(one), SCOPE.only(dtype="float32")))

    assert found.old is not None
    assert found.old.scope.bidirectional == (False,)
    assert list(found.old.refused) == ["bidirectional=True"]
    assert found.behaviour == (Behaviour("dtype=float64", "supports it", "does not offer it"),)


def test_one_that_refuses_everything_or_hangs_leaves_each_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = joint_scope((refusing(), SCOPE), (refusing(lambda _: True), SCOPE))

    assert (nothing.old, nothing.new) == (None, None)
    assert nothing.behaviour == (Behaviour("every plain config", "supports it", "refuses: not this"),)

    def hangs(*_: Any, **__: Any) -> Any:
        raise Hang(None, Result(Verdict.BROKEN))  # type: ignore[arg-type]

    monkeypatch.setattr("harness.search.common_scope.narrow", hangs)
    assert joint_scope((refusing(), SCOPE), (refusing(), SCOPE)) == (None, None, ())
