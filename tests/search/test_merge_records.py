"""The record of several parts is that of one run, also where their findings are told on other cases."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from harness import RNNConfig, Scope, draw
from harness.checks.result import Result, Verdict
from harness.search.evidence import Certificate
from harness.search.examination import Examination
from harness.search.merge_records import merged
from harness.search.plan import chunks
from harness.search.plan_shards import Shard, parted
from harness.search.search_record import Finding, SearchRecord, Stop
from harness.space.errors import UsageError

SMALL = Scope().only(num_layers=[1], T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2], dtype=["float32"])
CASES = 90
AGREES = Result(Verdict.AGREES, margin=0.3)
FAILS = Result(Verdict.DISAGREES)


def finding(T: int, cause: str, *, minimal: bool = True) -> Finding:
    certificate = Certificate() if minimal else Certificate().but_for("the time was over")
    return Finding("mine", draw(RNNConfig(1, 1, T=T)), replace(FAILS, message=cause), certificate)


ONE, ALIKE, OTHER = finding(1, "one", minimal=False), finding(2, "one"), finding(3, "other")


def places() -> list[int]:
    """Return the shard of every case of the plan, in order."""
    return [number for number, unit in parted(chunks(SMALL, 0, CASES), CASES, 2, aside=False) for _ in unit.planned()]


def part(number: int, found: Mapping[int, Finding], until: int | None = None, stop: Stop = Stop.BUDGET) -> SearchRecord:
    """Return a part in which every case from the first finding on fails for its cause, which some cases find first.

    ``found`` has the findings by the number of the case in the plan. The part ends before the case ``until``.
    """
    record, known = SearchRecord("mine", 0, SMALL, shard=Shard(number, 2)), ""
    record.log.planned = CASES
    for unit in Shard(number, 2).chunks(chunks(SMALL, 0, CASES), CASES, aside=False):
        for asked in unit.planned():
            if until is not None and asked.number >= until:
                break
            new = found.get(asked.number)
            result = FAILS if new is not None else replace(AGREES, known_as=known) if known else AGREES
            record.log.close(record)
            record.take(asked, result)
            record.log.begin(record)
            if new is not None:
                record.findings.append(new)
                known = new.id
                record.log.explained()
    record.log.close(record)
    record.stop = stop
    return record


def together(*parts: SearchRecord) -> SearchRecord:
    def same(one: Finding, other: Finding) -> bool:
        return one.result.message == other.result.message

    return merged(parts, cases=CASES, seconds=None, same=same)


def first_of(number: int, after: int = 0) -> int:
    return next(place for place, owner in enumerate(places()) if owner == number and place >= after)


def test_of_one_cause_the_smallest_finding_stands_and_all_cases_count() -> None:
    early, late = first_of(1), first_of(2)
    first, second = part(1, {early: ONE}), part(2, {late: ALIKE})

    done = together(second, first)

    assert done.findings == [ALIKE]
    assert done.total == CASES
    failing = [place for place, owner in enumerate(places()[:CASES]) if place >= (early if owner == 1 else late)]
    assert done.known == {ALIKE.id: len(failing) - 1}
    assert done.failing == {"float32": len(failing)}
    assert done.stop is Stop.BUDGET


def test_the_record_ends_where_one_run_does_but_not_before_the_last_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.search.budget.CASES_AFTER_FINDING", 10)
    start, late = first_of(1), first_of(2, after=50)

    alone = together(part(1, {start: ONE}), part(2, {}))
    later = together(part(1, {start: ONE}), part(2, {late: OTHER}))

    assert (alone.total, alone.stop) == (start + 1 + 10, Stop.AFTER)
    assert later.findings == [ONE, OTHER]
    assert (later.total, later.stop) == (late + 1 + 10, Stop.AFTER)


def test_a_finding_that_ends_a_part_ends_the_record() -> None:
    start = first_of(2)

    done = together(part(1, {}), part(2, {start: ONE}, until=start + 1, stop=Stop.FINDING))

    assert (done.total, done.stop) == (start + 1, Stop.FINDING)


@pytest.mark.parametrize("stop", [Stop.TIME, Stop.INTERRUPTED])
def test_a_part_that_ended_early_leaves_its_cases_out(stop: Stop) -> None:
    done = together(part(1, {}), part(2, {}, until=0, stop=stop))

    assert done.total == places().count(1)
    assert done.stop is stop


def test_a_part_that_is_missing_is_named() -> None:
    done = together(part(2, {}))

    assert done.total == places().count(2)
    assert done.missing == (Shard(1, 2),)
    assert "no shard 1/2" in Examination(done).lacking


def test_a_case_that_another_part_explains_is_logged_as_one_run_logs_it() -> None:
    early, late = first_of(1), first_of(2)

    done = together(part(1, {early: ALIKE}), part(2, {late: ONE}))

    results = {one.number: done.log.result(place) for place, one in enumerate(done.log.cases)}
    assert results[early].verdict is Verdict.DISAGREES
    assert (results[late].verdict, results[late].known_as) == (Verdict.AGREES, ALIKE.id)


def test_refused_cases_keep_their_reasons() -> None:
    record, asked = SearchRecord("mine", 0, SMALL), next(chunks(SMALL, 0, CASES))
    for one, said in zip(asked.planned(), ("no hx", "one layer only", "no hx"), strict=False):
        record.take(one, Result(Verdict.UNSUPPORTED, message=said))

    assert [record.log.result(place).message for place in range(3)] == ["no hx", "one layer only", "no hx"]


def test_a_log_that_is_not_of_the_plan_is_refused() -> None:
    twice, beyond = part(1, {}), part(1, {})
    beyond.log.cases.append(beyond.log.cases[-1]._replace(number=10**9))

    with pytest.raises(UsageError, match="is in the log twice"):
        together(twice, replace(twice, shard=Shard(2, 2)))
    with pytest.raises(UsageError, match="and one numbered 1000000000"):
        beyond.log.require_sound()
