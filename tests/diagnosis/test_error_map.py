"""Tests of error_map: the errors of each state by one step or of the whole run, what is shown, and what is marked."""

from dataclasses import replace
from typing import Any

import numpy as np

from harness import RNNConfig, as_subject, draw
from harness.checks.agreement import observe
from harness.diagnosis.error_map import MAP_SIDE, MAPS_SHOWN, ErrorMaps, error_maps
from harness.diagnosis.first_departure import first_departure
from harness.subjects.protocol import Subject
from harness.subjects.torch_module import TorchSubject
from tests import implementations

WIDE = RNNConfig(3, 4, num_layers=2, T=5, N=2)


def off_at(t: int, *, reverse: bool = False) -> Subject:
    """Return a subject whose first layer is off in one unit of one sequence at a step, and at the step before it."""

    def tamper(h: Any, at: dict[str, Any]) -> Any:
        h = h.copy()
        if at["layer"] == 0 and at["t"] in {t - 1, t} and at["direction"] == int(reverse):
            h[1, 2] += h.dtype.type(0.01)
        return h

    return as_subject(lambda x, h0, weights, config: implementations.vectorised(x, h0, weights, config, tamper))


def mapped(subject: Subject, config: RNNConfig = WIDE) -> ErrorMaps:
    found = error_maps(observe(subject, draw(config, "normal", 1)))
    assert found is not None
    return found


def wrong(errors: Any) -> list[list[int]]:
    places: list[list[int]] = np.argwhere(errors > 1).tolist()
    return places


def test_only_the_states_that_a_step_gets_wrong_are_wrong() -> None:
    found = mapped(off_at(2))
    [only] = found.maps

    assert found.local
    assert (only.array, only.layer, only.sequence, only.first) == ("output", 0, 1, (1, 2))
    assert wrong(only.errors) == [[1, 2], [2, 2]]
    assert only.place == {"n": 1, "t": "1", "unit": "2"}


def test_the_first_wrong_state_of_the_reverse_direction_is_the_last() -> None:
    config = WIDE.replace(bidirectional=True)
    subject = off_at(3, reverse=True)
    departure = first_departure(observe(subject, draw(config, "normal", 1)))

    [only] = mapped(subject, config).maps

    assert departure is not None
    assert (only.direction, only.place["t"]) == ("reverse", "3")
    assert departure.place == {"direction": "reverse", "t": 3, "n": 1, "unit": 2}


def test_a_right_subject_has_no_map() -> None:
    assert error_maps(observe(TorchSubject(), draw(WIDE, "normal", 1))) is None


def test_of_many_steps_those_around_the_first_wrong_one_are_shown() -> None:
    [only] = mapped(off_at(50), WIDE.replace(T=60)).maps

    assert only.errors.shape == (MAP_SIDE, 4)
    assert only.columns.size == 60
    assert only.columns.labels[only.first[0]] == "49"


def test_what_follows_a_sequence_has_no_error() -> None:
    seen = observe(TorchSubject(), draw(RNNConfig(3, 4, T=5, N=2, lengths=(5, 3)), "normal", 1))
    arrays = {**seen.outcome.arrays, "output": seen.outcome.arrays["output"].copy()}
    arrays["output"][1, 1, 2] += 0.01
    found = error_maps(replace(seen, outcome=replace(seen.outcome, arrays=arrays)))
    assert found is not None
    [only] = found.maps

    assert np.isnan(only.errors[3:]).all()
    assert np.isfinite(only.errors[:3]).all()


def test_without_the_states_the_readout_is_compared_end_to_end() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n, readout = implementations.vectorised(x, h0, weights, config)
        return output, h_n, readout + np.float32(0.01)

    seen = observe(as_subject(rnn), draw(RNNConfig(3, 4, T=5, N=2, output_size=2), "normal", 1))
    blind = type(seen)(seen.case, type(seen.outcome)({"readout": seen.outcome.arrays["readout"]}), seen.arithmetic)

    found = error_maps(blind)

    assert found is not None
    assert not found.local
    assert [(one.array, one.layer) for one in found.maps] == [("readout", None)]
    assert (found.maps[0].errors > 1).all()


def test_a_wrong_h_n_of_right_states_is_shown_by_layer_and_direction() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        h_n = h_n.copy()
        h_n[3, 1, 2] += h_n.dtype.type(0.01)
        return output, h_n

    [only] = mapped(as_subject(rnn), RNNConfig(3, 4, num_layers=2, bidirectional=True, T=5, N=2)).maps

    assert only.array == "h_n"
    assert only.columns.labels == ("0 forward", "0 reverse", "1 forward", "1 reverse")
    assert wrong(only.errors) == [[3, 2]]
    assert only.place == {"n": 1, "layer": "1 reverse", "unit": "2"}


def test_wrong_gradients_of_weights_are_shown_by_row_and_column_and_the_rest_is_counted() -> None:
    config = RNNConfig(3, 40, num_layers=2, T=2, N=2, loss="output")
    seen = observe(TorchSubject(), draw(config, "normal", 1))
    arrays = dict(seen.outcome.arrays)
    names = [name for name in arrays if name.startswith(("weight", "bias"))]
    for name in names:
        arrays[name] = arrays[name].copy()
        arrays[name][..., 1] += 1

    found = error_maps(replace(seen, outcome=replace(seen.outcome, arrays=arrays)))

    assert found is not None
    weight = next(one for one in found.maps if one.array == "weight_ih_l0.grad")
    assert (weight.first, weight.sequence, weight.rows.size) == ((1, 0), None, 40)
    assert weight.errors.shape == (3, MAP_SIDE)
    assert (len(found.maps), found.arrays_not_shown) == (MAPS_SHOWN, len(names) - MAPS_SHOWN)
