"""Tests of what is identified of layers that take and return less than torch's."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks import composed_gates
from harness.diagnosis.identify.gates import OWN_TERMS, SIGMOID, step_of
from harness.diagnosis.identify.model_differences import mistakes_of


def with_term(cell: str, letter: str, old: str, new: str) -> Any:
    """Return a step with another term in the sum of one gate."""
    right = step_of(cell)
    gate = dict(right.gates)[letter]
    parts = tuple(part._replace(name=new) if part.name == old else part for part in gate.parts)
    changed = gate._replace(parts=parts)
    return replace(right, gates=tuple((name, changed if name == letter else own) for name, own in right.gates))


@pytest.mark.parametrize(
    ("interface", "model", "sentence"),
    [
        # The state before the last step is seen where the gate before tanh(c) is at its end.
        (
            ("last state alone", "no hx", "one sequence"),
            with_term("LSTM", "f", OWN_TERMS[2], "np.tanh(h[t-1] @ W_hh.T)"),
            "takes np.tanh(h @ W_hf.T) in the sum of f, not h @ W_hf.T",
        ),
        (
            ("last state alone", "no hx", "one feature"),
            replace(step_of("LSTM"), memory=((("c", "f"), 1.0), (("f", "g", "i"), 1.0))),
            "makes c of f * c + i * f * g, not of f * c + i * g",
        ),
        # Of a fixed T, a step is read that others follow.
        (
            ("fixed T",),
            replace(step_of("LSTM"), arranged=("weight_hh",)),
            "reads the rows of weight_hh unit by unit, all gates of each, not gate by gate",
        ),
        (
            ("fixed T", "no hx"),
            with_term("GRU", "z", OWN_TERMS[2], "h[t-1] @ W_hh"),
            "takes h @ W_hz in the sum of z, not h @ W_hz.T",
        ),
    ],
)
def test_a_mistake_is_found_within_what_a_layer_takes(interface: tuple[str, ...], model: Any, sentence: str) -> None:
    found = composed_gates.identified(model, interface)

    assert not found.unknown
    assert [one.sentence for one in mistakes_of(found.network, "tanh")] == [sentence]


def test_rows_are_known_to_go_unit_by_unit_where_the_gate_of_the_first_rows_is_not_used() -> None:
    coupled = ((("c",), 1.0), (("c", "i"), -1.0), (("g", "i"), 1.0))

    found = composed_gates.identified(replace(step_of("LSTM"), memory=coupled, arranged=("bias_hh",)))

    assert not found.unknown
    assert mistakes_of(found.network, "tanh")[0].sentence.startswith("reads the rows of bias_hh unit by unit")


def test_what_is_read_and_carried_is_found_beside_another_step_of_x() -> None:
    model = replace(step_of("LSTM"), read=SIGMOID, carried=("t", "c'"), input="t // 11 * 11")

    found = composed_gates.identified(model, ("short T",))

    assert not found.unknown
    assert [one.sentence for one in mistakes_of(found.network, "tanh")] == [
        "reads x of step 0, not of step t",
        "applies sigmoid to c, not tanh",
        "carries sigmoid(c) to the next step as h",
    ]
