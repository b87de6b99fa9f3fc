"""Tests of what people read about refusals, word for word."""

import json
from collections import Counter
from typing import Any

import pytest
from rich.console import Group

from harness.checks.breaks import BREAKS, broken
from harness.checks.deviations import DEVIATIONS
from harness.checks.refusals import check_refusal
from harness.report.refusals import (
    add_refusals,
    add_refusals_in_short,
    fact_table,
    refusals_findings,
    refusals_findings_in_short,
    refusals_record,
)
from harness.search.refusals import Refusals, Wrong
from harness.space.config import RNNConfig
from harness.subjects.answer import Answer, Stage
from harness.subjects.call import Base
from tests.report.test_wording import assert_snapshot, rendered


def wrong(answer: Answer, *names: str) -> Wrong:
    base = Base(RNNConfig(1, 1, T=1, N=2))
    found = next(broken(base, tuple(kind for kind in BREAKS if kind.name in names)))
    return Wrong(found, check_refusal(lambda _call: answer, found))


KNOWN = {deviation.name: deviation for deviation in DEVIATIONS}


def clean() -> Refusals:
    return Refusals(
        "torch",
        0,
        tried=Counter({"x: rank": 500, "hx: rank": 400}),
        calls=896,
        refused=800,
        deviating=93,
        late=Counter({"bidirectional no bool": 12, "lengths: beyond T": 3}),
        known=Counter({KNOWN["input_size=True"]: 4, KNOWN["parameters that broadcast"]: 90}),
        seconds=1.25,
    )


def found() -> Refusals:
    return Refusals(
        "mine.py:RNN",
        0,
        tried=Counter({"hx: batch of 1": 1}),
        calls=1,
        unsupported=2,
        unusable=Counter({"packed: TypeError: no packs": 1}),
        interrupted=True,
        findings=[
            wrong(Answer.accepted("float32 (1, 2, 1)", "float32 (1, 2, 1)"), "hx: batch of 1"),
            wrong(Answer.refused(Stage.CALL, KeyError("bad")), "x: features", "hx: features"),
            wrong(Answer.crashed("signal 11"), "parameter: None"),
        ],
    )


@pytest.mark.parametrize(("name", "refusals"), [("refusals", clean()), ("refusals_found", found())])
def test_reports(name: str, refusals: Refusals) -> None:
    facts, in_short = fact_table(), fact_table()

    add_refusals(facts, refusals)
    add_refusals_in_short(in_short, refusals)

    assert_snapshot(name, rendered(Group(facts, refusals_findings(refusals))))
    assert_snapshot(f"{name}_in_short", rendered(Group(in_short, refusals_findings_in_short(refusals))))


def test_however_many_kinds_are_not_refused_they_take_eight_lines_in_short() -> None:
    refusals = Refusals("mine.py:RNN", 0, findings=found().findings * 20)

    shown = rendered(refusals_findings_in_short(refusals), 80).splitlines()

    assert len(shown) <= 8
    assert "... and" in "".join(shown)


def test_the_record_is_plain_data() -> None:
    record: dict[str, Any] = json.loads(json.dumps(refusals_record(found()), allow_nan=False))

    assert [finding["lapse"] for finding in record["findings"]] == [
        one.refusal.lapse.value for one in found().findings if one.refusal.lapse
    ]
    first = record["findings"][0]
    assert first["breaks"][0]["name"] == "hx: batch of 1"
    assert first["answer"]["returned"] == ["float32 (1, 2, 1)", "float32 (1, 2, 1)"]
    assert first["config"]["N"] == 2
    assert first["code"].startswith("import torch\nrnn = RNN(1, 1)\n")
    assert json.loads(json.dumps(refusals_record(clean())))["known_deviations"][0]["whose"] == "torch"
