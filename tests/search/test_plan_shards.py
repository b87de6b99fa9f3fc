"""The parts of a plan: disjoint, whole, and of about the same cost."""

from itertools import islice
from typing import Any

import pytest

from harness import Scope
from harness.search.plan import chunks
from harness.search.plan_shards import OTHER_CHECKS_COST, Shard, cost, parted
from harness.search.search import hunt
from harness.search.search_record import Stop
from harness.space.errors import UsageError
from harness.subjects.registry import as_subject
from tests import implementations

SMALL = Scope().only(num_layers=[1], T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2], dtype=["float32"])


def test_the_parts_are_disjoint_and_together_the_plan() -> None:
    plan = list(parted(chunks(SMALL, 0, 400), 400, 3, aside=False))
    parts = [list(Shard(number, 3).chunks(chunks(SMALL, 0, 400), 400, aside=False)) for number in (1, 2, 3)]

    assert [unit for _, unit in plan] == list(islice(chunks(SMALL, 0, 400), len(plan)))
    assert sum(unit.cases for _, unit in plan[:-1]) < 400 <= sum(unit.cases for _, unit in plan)
    assert parts == [[unit for number, unit in plan if number == mine] for mine in (1, 2, 3)]


@pytest.mark.parametrize("aside", [False, True])
def test_no_two_parts_differ_by_more_than_a_unit(aside: bool) -> None:
    plan = list(parted(chunks(SMALL, 0, 1650), 1650, 8, aside=aside))

    costs = [sum(cost(unit) for number, unit in plan if number == mine) for mine in range(1, 9)]

    costs[0] += OTHER_CHECKS_COST if aside else 0
    assert max(costs) - min(costs) <= max(cost(unit) for _, unit in plan)


def test_a_plan_without_a_limit_of_cases_has_parts_without_end() -> None:
    assert len(list(islice(Shard(2, 2).chunks(chunks(SMALL, 0, None), None, aside=False), 100))) == 100


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "3", "1/1001", "1/3/5", "-1/3", "a/b", "", "1/3 ", 3, None])
def test_what_is_no_shard_is_refused(text: Any) -> None:
    with pytest.raises(UsageError, match=r"shard=.*: expected K/N, such as 3/8"):
        Shard.of_text(text)


def test_a_search_of_a_part_ends_with_it_and_may_have_none() -> None:
    subject = as_subject(implementations.vectorised)

    parts = [hunt(subject, SMALL, cases=20, shard=Shard(number, 3)) for number in (1, 2, 3)]

    assert parts[2].total == 0 < parts[1].total
    assert sum(part.total for part in parts) >= 20
    assert {part.stop for part in parts} == {Stop.BUDGET}
    with pytest.raises(UsageError, match=r"shard=.*expected Shard"):
        hunt(subject, SMALL, cases=20, shard="1/3")
