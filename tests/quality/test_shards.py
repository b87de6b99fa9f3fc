"""Eight shards, merged, say what one run says: of torch with its refusals and its dropout, and of several mistakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.layers import first_styles
from harness.subjects.protocol import Subject
from harness.subjects.registry import as_subject
from tests import implementations
from tests.sharded import Sharded, same_but_for_times
from tests.unrun import let_scripts_fail_unrun

pytestmark = pytest.mark.long


def two_mistakes(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Ignore b_hh, and halve h_n with batch_first."""
    output, h_n = implementations.without_b_hh(x, h0, weights, config)
    return output, h_n * (0.5 if config.batch_first else 1)


ONE: Final[dict[str, Callable[[], Subject]]] = {
    "torch": lambda: as_subject("torch"),
    "right": lambda: as_subject(implementations.vectorised),
    "a mistake": lambda: as_subject(implementations.without_b_hh),
    "a mistake of larger sizes": lambda: as_subject(first_styles.tiled),
    "a class": lambda: as_subject(first_styles.Handwritten),
}


def sharded(make: Callable[[], Subject], folder: Path, patch: pytest.MonkeyPatch, cases: int) -> Sharded:
    let_scripts_fail_unrun(patch)
    return Sharded.of(make, folder, 8, cases=cases, pins={"num_layers": [1, 2], "T": [1, 2, 3, 9]})


@pytest.mark.parametrize("subject", ONE)
def test_of_one_mistake_or_none_all_is_the_same(subject: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = sharded(ONE[subject], tmp_path, monkeypatch, 250)

    assert same_but_for_times(both.merged(tmp_path / "all"), both.one) == []


def test_of_several_mistakes_a_case_may_count_for_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = sharded(lambda: as_subject(two_mistakes), tmp_path, monkeypatch, 150)

    done = both.merged(tmp_path / "all")

    others = [
        one
        for one in same_but_for_times(done, both.one)
        if not any(part in one for part in ("further", "certificate", "minimal", ".log."))
    ]
    assert [one.finding.id for one in done.in_search_order] == [one.finding.id for one in both.one.in_search_order]
    assert sum(one.further for one in done.in_search_order) == sum(one.further for one in both.one.in_search_order)
    assert others == []
