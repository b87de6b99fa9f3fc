"""Tests of the malformed calls of nn.RNNCell, and of the search for those that a cell does not refuse."""

from typing import Any

import pytest
import torch

from harness.checks.breaks import broken
from harness.checks.cell_breaks import _SHARED, CELL_BREAKS
from harness.checks.deviations import Lapse
from harness.checks.refusals import check_refusal
from harness.report.refusals import refusal_facts
from harness.search.refusals import CASES, hunt_refusals
from harness.space.config import PLAINEST, RNNConfig
from harness.subjects.answer import Answer
from harness.subjects.call import Call, CellBase, Form, Tensor
from harness.subjects.torch_calls import perform
from harness.subjects.torch_cell import CellSubject

BASES = [
    CellBase(config, form)
    for config in (
        RNNConfig(3, 4, N=2),
        RNNConfig(3, 4, N=4, hx=True, dtype="float64"),  # N = H: one dimension of hx passes for the other
        RNNConfig(1, 1, N=1, hx=True, bias=False, nonlinearity="relu"),
    )
    for form in (Form.BATCHED, Form.UNBATCHED)
]


@pytest.mark.parametrize("base", BASES, ids=str)
def test_a_cell_accepts_a_well_formed_call_and_refuses_what_it_is_not_known_to_accept(base: CellBase) -> None:
    batch = (base.config.N,) * (base.form is Form.BATCHED)
    accepted = perform(torch.nn.RNNCell, base.call)
    assert accepted == Answer.accepted(f"{base.config.dtype} {(*batch, base.config.hidden_size)}")

    for kind in CELL_BREAKS:
        for candidate in broken(base, (kind,)):
            result = check_refusal(CellSubject().perform, candidate)
            assert not result.new, (candidate.label, result, candidate.call.as_code())


def test_each_way_of_breaking_a_layer_that_a_cell_shares_is_there_once() -> None:
    names = [kind.name for kind in CELL_BREAKS]

    assert set(names) >= _SHARED
    assert len(set(names)) == len(names)


def test_a_wrong_parameter_is_not_combined_with_a_wrong_input_which_it_may_fit() -> None:
    x, weight = (kind for kind in CELL_BREAKS if kind.name in {"x: features", "weight_ih: shape"})

    fitting = [one for one in broken(BASES[0], (x, weight)) if perform(torch.nn.RNNCell, one.call).returned]

    assert fitting
    assert {*x.parts} & {*weight.parts}


@pytest.mark.parametrize("seed", range(3))
def test_the_cell_of_torch_deviates_in_nothing_that_is_not_known(seed: int) -> None:
    record = hunt_refusals(CellSubject(), seed=seed)

    assert not record.findings
    assert not record.unusable
    assert record.calls > CASES * 0.95
    assert record.refused > CASES * 0.7
    assert set(record.tried) == {kind.name for kind in CELL_BREAKS}
    assert record.late["nonlinearity unknown"]


class Broadcasts(torch.nn.RNNCell):
    """It takes one state for the whole batch."""

    def forward(self, input: torch.Tensor, hx: Any = None) -> torch.Tensor:  # noqa: A002 - nn.RNNCell's own name
        if hx is not None and hx.dim() == input.dim() == 2 and len(hx) == 1:
            hx = hx.expand(len(input), -1)
        return super().forward(input, hx)


def test_a_cell_that_accepts_too_much_is_found_on_the_plainest_call_and_told_as_a_cell() -> None:
    class Planted(CellSubject):
        def perform(self, call: Call) -> Answer:
            return perform(Broadcasts, call)

    (wrong,) = hunt_refusals(Planted()).findings

    assert (wrong.broken.name, wrong.refusal.lapse) == ("hx: batch of 1", Lapse.ACCEPTED)
    assert wrong.broken.base == CellBase(PLAINEST.replace(N=2))
    assert wrong.broken.call.hx == Tensor((1, 1))
    assert refusal_facts("torch:cell", wrong)["code"].splitlines() == [
        "import torch",
        "rnn = torch.nn.RNNCell(1, 1)",
        "x = torch.ones((2, 1))",
        "hx = torch.ones((1, 1))",
        "result = rnn(x, hx)",
    ]
