"""The record of several parts is that of one run, also where their findings are told on other cases."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from harness import RNNConfig, Scope, draw
from harness.checks.result import Result, Verdict
from harness.search.certificate import Certificate
from harness.search.examination import Examination
from harness.search.log import Log, Part
from harness.search.merge import Merged, merged
from harness.search.plan import units
from harness.search.record import Finding, Hunt, Stop
from harness.search.shards import Shard, parted
from harness.space.errors import UsageError

SMALL = Scope().only(num_layers=[1], T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2], dtype=["float32"])
CASES = 90
AGREES = Result(Verdict.AGREES, margin=0.3)
FAILS = Result(Verdict.DISAGREES, message="wrong")


def finding(T: int, cause: str, *, minimal: bool = True) -> Finding:
    certificate = Certificate() if minimal else Certificate().but_for("the time was over")
    return Finding("mine", draw(RNNConfig(1, 1, T=T)), replace(FAILS, message=cause), certificate)


ONE, ALIKE, OTHER = finding(1, "one", minimal=False), finding(2, "one"), finding(3, "other")


def places() -> list[int]:
    """Return the shard of every case of the plan, in order."""
    return [number for number, unit in parted(units(SMALL, 0, CASES), CASES, 2, aside=False) for _ in unit.asked()]


def part(number: int, found: Mapping[int, Finding], until: int | None = None, stop: Stop = Stop.BUDGET) -> Part:
    """Return a part in which every case from the first finding on fails for its cause, which some cases find first.

    ``found`` has the findings by the number of the case in the plan. The part ends before the case ``until``.
    """
    record, log, known = Hunt("mine", 0, SMALL), Log(), ""
    mine = [place for place, owner in enumerate(places()) if owner == number]
    every = [
        asked for unit in Shard(number, 2).units(units(SMALL, 0, CASES), CASES, aside=False) for asked in unit.asked()
    ]
    for place, asked in zip(mine, every, strict=True):
        if until is not None and place >= until:
            break
        new = found.get(place)
        result = FAILS if new is not None else replace(AGREES, excused_by=known) if known else AGREES
        log.close(record)
        record.take(asked, result)
        log.taken(record, result)
        if new is not None:
            record.findings.append(new)
            known = new.id
            log.explained()
    log.close(record)
    record.stop = stop
    return Part(number, record, log, {one.id: one for one in record.findings})


def together(*parts: Part) -> Merged:
    def same(one: tuple[Part, Finding], other: tuple[Part, Finding]) -> bool:
        return one[1].result.message == other[1].result.message

    return merged(parts, 2, cases=CASES, seconds=None, aside=False, same=same)


def first_of(number: int, after: int = 0) -> int:
    return next(place for place, owner in enumerate(places()) if owner == number and place >= after)


def test_of_one_cause_the_smallest_finding_stands_and_all_cases_count() -> None:
    early, late = first_of(1), first_of(2)
    first, second = part(1, {early: ONE}), part(2, {late: ALIKE})

    done = together(second, first)

    assert done.hunt.findings == [ALIKE]
    assert done.whose == [second]
    assert done.hunt.total == CASES
    failing = [place for place, owner in enumerate(places()[:CASES]) if place >= (early if owner == 1 else late)]
    assert done.hunt.known == {ALIKE.id: len(failing) - 1}
    assert done.hunt.failing == {"float32": len(failing)}
    assert done.hunt.stop is Stop.BUDGET


def test_the_record_ends_where_one_run_does_but_not_before_the_last_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.search.budget.AFTER", 10)
    start, late = first_of(1), first_of(2, after=50)

    alone = together(part(1, {start: ONE}), part(2, {}))
    later = together(part(1, {start: ONE}), part(2, {late: OTHER}))

    assert (alone.hunt.total, alone.hunt.stop) == (start + 1 + 10, Stop.AFTER)
    assert later.hunt.findings == [ONE, OTHER]
    assert (later.hunt.total, later.hunt.stop) == (late + 1 + 10, Stop.AFTER)


def test_a_finding_that_ends_a_part_ends_the_record() -> None:
    start = first_of(2)

    done = together(part(1, {}), part(2, {start: ONE}, until=start + 1, stop=Stop.FINDING))

    assert (done.hunt.total, done.hunt.stop) == (start + 1, Stop.FINDING)


@pytest.mark.parametrize("stop", [Stop.TIME, Stop.INTERRUPTED])
def test_a_part_that_ended_early_leaves_its_cases_out(stop: Stop) -> None:
    done = together(part(1, {}), part(2, {}, until=0, stop=stop))

    assert done.hunt.total == places().count(1)
    assert done.hunt.stop is stop


def test_a_part_that_is_missing_is_named() -> None:
    done = together(part(2, {}))

    assert done.hunt.total == places().count(2)
    assert done.hunt.missing == (Shard(1, 2),)
    assert "no shard 1/2" in Examination(done.hunt).lacking


def test_refused_cases_keep_their_reasons() -> None:
    one, log = part(1, {}), Log()
    for said in ("no hx", "one layer only", "no hx"):
        log.taken(one.hunt, Result(Verdict.UNSUPPORTED, message=said))

    assert [log.result(number).message for number in range(3)] == ["no hx", "one layer only", "no hx"]


def test_a_part_with_other_cases_than_its_plan_is_refused() -> None:
    whole = part(1, {})
    whole.log.cases.append(whole.log.cases[-1])

    with pytest.raises(UsageError, match="fewer cases than its plan"):
        together(part(1, {}), part(2, {}, until=40))
    with pytest.raises(UsageError, match="1 cases more than their plan"):
        together(whole, part(2, {}))
