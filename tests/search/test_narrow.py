"""narrow: what a subject refuses is left out, whatever way of calling is pinned."""

from typing import Any

import pytest

from harness import RNNConfig, Scope, as_subject
from harness.search.narrow import narrow
from harness.space.config import AUTOCASTS, GRAD_MODES, PREPARATIONS, STRIDES
from harness.space.scope import PACKINGS
from tests import implementations

CALLS = Scope().only(
    lengths=PACKINGS,
    batched=[True, False],
    strides=STRIDES,
    autocast=AUTOCASTS,
    grad_mode=GRAD_MODES,
    preparation=PREPARATIONS,
    loss=[None, "both"],
)


def refusing(x: Any) -> Any:
    raise NotImplementedError("nothing at all")


def test_of_a_function_that_takes_three_arguments_no_more_than_they_say_is_asked() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if not config.batched:
            raise NotImplementedError("batches only")
        return implementations.vectorised(x, h0, weights, config)

    narrowed = narrow(as_subject(rnn), CALLS)

    assert narrowed.accepted
    assert narrowed.scope == CALLS.only(
        lengths=[None], batched=[True], autocast=[None], grad_mode=[None], preparation=["new", "used"], loss=[None]
    )
    assert narrowed.refused["batched=False"] == "batches only"
    assert narrowed.refused["lengths=any"] == "no packed sequences: it does not take lengths"
    assert narrowed.refused["loss=both"] == "no gradients: it does not take cotangents"
    torch_s = {"autocast=float16", "grad_mode=enable_grad", "preparation=parametrize"}
    assert {narrowed.refused[one] for one in torch_s} == {"autocast, grad modes and ways to build a module are torch's"}


@pytest.mark.parametrize(
    ("pins", "said"),
    [
        ({"batched": False}, "nothing at all"),
        ({"lengths": "any"}, "no packed sequences: it does not take lengths"),
        ({"lengths": "falling", "enforce_sorted": True}, "no packed sequences: it does not take lengths"),
        ({"loss": "both"}, "no gradients: it does not take cotangents"),
    ],
)
def test_a_subject_that_refuses_all_of_a_pinned_way_of_calling_is_not_accepted(pins: dict[str, Any], said: str) -> None:
    scope = Scope().only(**pins)

    narrowed = narrow(as_subject(refusing), scope)

    assert not narrowed.accepted
    assert narrowed.scope == scope
    assert list(narrowed.refused.values()) == [said]


def test_a_packed_batch_is_met_at_sizes_that_the_subject_does() -> None:
    def rnn(x: Any, h0: Any, lengths: Any, config: RNNConfig) -> Any:
        if config.N < 8 or config.T < 8:
            raise NotImplementedError("eight or more")
        return x[..., :1].repeat(config.hidden_size, -1), h0

    narrowed = narrow(as_subject(rnn), Scope().only(lengths="any", hx=False))

    assert narrowed.accepted
