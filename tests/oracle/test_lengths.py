"""Tests of packed sequences and dropout in the reference: against each sequence, and each layer, alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from harness import Capabilities, Case, Reference, RNNConfig, as_subject, cases, check_agreement, draw
from harness.checks.result import ComparisonMethod, Verdict
from harness.space.case import as_plain
from harness.subjects.protocol import scope_of
from tests.calls_by_hand import doing

SMALL: dict[str, Any] = {"T": [1, 2, 3, 5], "N": [1, 2, 3, 5], "input_size": [1, 2, 3], "hidden_size": [1, 2, 3]}
FINITE = ["dyadic", "default", "normal", "spectral", "sparse"]
LOSSES = [None, "output", "h_n", "both"]


def close(actual: Any, expected: Any) -> bool:
    """Return whether arrays agree to float64's roundings over some hundred operations."""
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    return actual.shape == expected.shape and bool((np.abs(actual - expected) <= 2.0**-40 * scale).all())


@settings(max_examples=150)
@given(
    cases(
        **SMALL,
        distributions=FINITE,
        dtypes=["float64"],
        losses=LOSSES,
        lengths=[None, "equal", "falling", "any"],
        masks=True,
        dropout=[0.0, 0.1, 0.5, 1.0],
        strides=["contiguous"],
    )
)
def test_the_reference_is_each_sequence_and_each_layer_alone(case: Case) -> None:
    subject = as_subject(doing())
    outcome = subject.run(case)
    kept: Any = subject
    masks = dict(enumerate(kept.masks(case))) if case.config.drops else {}
    plain = case.plain()

    found = Reference().run(Case(plain.config, plain.x, plain.hx, plain.weights, None, plain.cotangents, masks))

    assert outcome.failure is None, outcome.traceback
    actual = as_plain(case.config, outcome.arrays)
    assert actual.keys() == found.keys()
    assert all(close(actual[name], found[name]) for name in found)


@settings(max_examples=60)
@given(cases(scope_of(as_subject(doing())), **SMALL, dtypes=["float32", "float64", "bfloat16", "float16"]))
def test_a_right_implementation_of_them_agrees(case: Case) -> None:
    result = check_agreement(as_subject(doing()), case)

    assert result.verdict in {Verdict.AGREES, Verdict.UNSUPPORTED}, result


PACKED = RNNConfig(
    2, 3, num_layers=2, bidirectional=True, T=4, N=4, hx=True, dtype="float64", loss="both", lengths=(2, 4, 1, 4)
)
DROPPING = PACKED.replace(lengths=None, dropout=0.5, training=True)


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (PACKED, "final_state"),
        (PACKED, "order"),
        (PACKED, "ties"),
        (PACKED, "padding_gradient"),
        (DROPPING, "scale"),
        (DROPPING, "drops_h_n"),
        (DROPPING, "backward"),
        (PACKED.replace(dropout=0.5, training=True), "backward"),
    ],
)
def test_a_wrong_one_disagrees(config: RNNConfig, wrong: str) -> None:
    case = draw(config, "normal", 0)

    assert check_agreement(as_subject(doing()), case).verdict is Verdict.AGREES
    assert check_agreement(as_subject(doing(**{wrong: True})), case).verdict is Verdict.DISAGREES


def test_what_stands_in_the_padding_of_an_output_does_not_matter() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
        output, h_n = doing()(x, h0, weights, config, {}, lengths, None)
        behind = np.arange(config.T)[:, None] >= lengths
        return np.where(behind[..., None], np.nan, output), h_n

    assert check_agreement(as_subject(rnn), draw(PACKED.replace(loss=None), "normal", 0)).verdict is Verdict.AGREES


def test_masks_that_cannot_be_had_leave_the_form_alone_to_compare() -> None:
    class Dropping:
        name = "dropping"
        capabilities = Capabilities()

        def devices(self) -> tuple[str, ...]:
            return ("cpu",)

        def run(self, case: Case) -> Any:
            return as_subject(doing()).run(case)

    result = check_agreement(Dropping(), draw(DROPPING, "normal", 0))

    assert (result.verdict, result.method) == (Verdict.AGREES, ComparisonMethod.FORM)
