"""Measurement on faults that only a relation can see: the default search finds and shrinks them."""

import pytest

from harness import RNNConfig, Verdict, hunt
from harness.subjects.protocol import scope_of
from tests.checks.test_relations import TORCH, Ulp, ulp_off_when_unbatched

pytestmark = pytest.mark.kernels


def test_one_unit_in_the_last_place_where_unbatched_is_found_and_small() -> None:
    record = hunt(
        Ulp(ulp_off_when_unbatched), scope_of(TORCH).only(dtype=["float32", "float64"], loss=None, autocast=None)
    )

    assert record.finding is not None
    assert record.finding.result.verdict in {Verdict.DISAGREES, Verdict.SUSPECT}
    assert record.finding.result.kind in {"unbatched: h_n: value", "h_n: value"}
    config = record.finding.case.config.replace(nonlinearity="tanh")
    assert config in {RNNConfig(1, 1), RNNConfig(1, 1, batched=False)}
