"""Tests of picture: the errors of each state by one step and in the whole run, what is shown, and what is marked."""

from dataclasses import replace
from typing import Any

import numpy as np

from harness import RNNConfig, as_subject, draw
from harness.checks.agreement import check_agreement, observe
from harness.diagnosis.picture import SHOWN, Picture, network_of, picture_of
from harness.diagnosis.where import first_departure
from harness.oracle.compare import Mismatch, Site, Sort
from harness.subjects.protocol import Subject
from harness.subjects.torch_module import TorchSubject
from tests import implementations

WIDE = RNNConfig(3, 4, num_layers=2, T=5, N=2)


def tampered(tamper: Any) -> Subject:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return implementations.vectorised(x, h0, weights, config, tamper)

    return as_subject(rnn)


def off_at(t: int) -> Subject:
    def tamper(h: Any, at: dict[str, Any]) -> Any:
        h = h.copy()
        if at["layer"] == 0 and at["t"] == t:
            h[1, 2] += h.dtype.type(0.01)
        return h

    return tampered(tamper)


def pictured(subject: Subject, config: RNNConfig = WIDE) -> Picture:
    seen = observe(subject, draw(config, "normal", 1))
    found = picture_of(seen, first_departure(seen))
    assert found is not None
    return found


def test_an_error_is_made_at_one_step_and_carried_along_from_there() -> None:
    found = pictured(off_at(2))
    first, above = found.maps
    assert first.local is not None
    assert first.whole is not None
    assert first.whole_steps is not None
    assert above.local is not None

    assert np.argwhere(first.local > 1).tolist() == [[2, 1, 2]]
    assert (first.whole_steps[:2] <= 1).all()
    assert (first.whole_steps[2:] > 1).all()
    assert (above.local <= 1).all()
    assert dict(found.first) == {"array": "output", "layer": 0, "direction": None, "t": 2, "n": 1, "unit": 2}


def test_a_right_subject_has_no_picture() -> None:
    assert picture_of(observe(TorchSubject(), draw(WIDE, "normal", 1))) is None


def test_of_many_steps_those_around_the_first_departure_are_shown() -> None:
    found = pictured(off_at(50), WIDE.replace(T=60))
    start, stop, of = found.shown["t"]

    assert (stop - start, of) == (SHOWN["t"], 60)
    assert start < 50 < stop
    assert found.maps[0].local is not None
    assert found.maps[0].local[50 - start, 1, 2] > 1


def test_without_the_states_the_readout_is_shown() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n, readout = implementations.vectorised(x, h0, weights, config)
        return output, h_n, readout + np.float32(0.01)

    seen = observe(as_subject(rnn), draw(RNNConfig(3, 4, T=5, N=2, output_size=2), "normal", 1))
    arrays = {"readout": seen.outcome.arrays["readout"]}
    blind = type(seen)(seen.case, type(seen.outcome)(arrays), seen.arithmetic)

    found = picture_of(blind)

    assert found is not None
    assert [(one.array, one.layer, one.local) for one in found.maps] == [("readout", None, None)]
    assert found.maps[0].whole is not None
    assert (found.maps[0].whole > 1).all()


def test_units_in_another_order_are_matched() -> None:
    def turned(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output[..., ::-1].copy(), h_n

    found = pictured(as_subject(turned), RNNConfig(3, 4, T=5, N=2)).permuted

    assert found is not None
    assert ((found <= 1) == np.eye(4, dtype=bool)[::-1]).all()
    assert pictured(off_at(2)).permuted is None


def shown_apart(subject: Subject, config: RNNConfig) -> Picture:
    """Return the picture of a subject whose states are all right."""
    seen = observe(subject, draw(config, "normal", 1))
    assert first_departure(seen) is None
    found = picture_of(seen)
    assert found is not None
    return found


def test_a_wrong_h_n_of_right_states_is_shown_by_layer_and_direction() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        h_n = h_n.copy()
        h_n[3, 1, 2] += h_n.dtype.type(0.01)
        return output, h_n

    found = shown_apart(as_subject(rnn), RNNConfig(3, 4, num_layers=2, bidirectional=True, T=5, N=2))
    *states, last = found.maps

    assert all(one.array == "output" and one.first is None for one in states)
    assert last.array == "h_n"
    assert last.columns is not None
    assert (last.columns.means, last.columns.names) == ("layer", ("0 fwd", "0 rev", "1 fwd", "1 rev"))
    assert last.first == (3, 1, 2)
    assert last.whole is not None
    assert np.argwhere(last.whole > 1).tolist() == [[3, 1, 2]]
    assert found.place == {"layer": 1, "direction": "reverse", "n": 1, "unit": 2}
    assert found.first["t"] is None


def test_a_wrong_gradient_of_a_weight_is_shown_by_row_and_column() -> None:
    config = RNNConfig(3, 40, T=2, N=2, loss="output")
    seen = observe(TorchSubject(), draw(config, "normal", 1))
    wrong = dict(seen.outcome.arrays)
    wrong["weight_ih_l0.grad"] = wrong["weight_ih_l0.grad"] + (np.indices((40, 3)) == [[[3]], [[1]]]).all(axis=0)
    wrong["bias_hh_l0.grad"] = wrong["bias_hh_l0.grad"] + (np.arange(40) == 2)

    found = picture_of(replace(seen, outcome=replace(seen.outcome, arrays=wrong)))

    assert found is not None
    weight, bias = (one for one in found.maps if one.array.endswith("l0.grad"))
    assert (weight.array, weight.first) == ("weight_ih_l0.grad", (1, 0, 3))
    assert weight.columns is not None
    assert weight.rows is not None
    assert weight.columns.names == ("0", "1", "2")
    assert (weight.rows.means, len(weight.rows.names), weight.rows.of) == ("row", SHOWN["unit"], 40)
    assert (bias.array, bias.first, bias.whole_steps) == ("bias_hh_l0.grad", None, None)
    assert found.place == {"row": 3, "column": 1}


def test_the_wrong_states_of_a_case_are_marked() -> None:
    config = RNNConfig(1, 2, num_layers=2, bidirectional=True, T=3, N=1)
    site = Site({"t": 1, "n": 0, "direction": "reverse", "unit": 0}, 1.0, 0.0, 0.1)
    last = Site({"layer": 0, "direction": "reverse", "n": 0, "unit": 0}, 1.0, 0.0, 0.1)
    weight = Mismatch("weight_hh_l0.grad", Sort.VALUE, sites=(Site({"row": 0, "column": 0}, 1.0, 0.0, 0.1),))

    def marked(*mismatches: Mismatch) -> Any:
        found = network_of(config, mismatches)
        return found.states, found.finals, found.inputs, found.arrays, found.more

    one = Mismatch("output", Sort.VALUE, count=1, total=12, sites=(site,))
    assert marked(one) == (((1, 1, 1),), (), (), (), False)
    assert marked(Mismatch("h_n", Sort.VALUE, count=1, total=8, sites=(last,))) == ((), ((0, 1),), (), (), False)
    assert marked(Mismatch("x.grad", Sort.VALUE, count=9, sites=(Site({"t": 2}, 1, 0, 0),)))[2:4] == ((2,), ())
    assert marked(Mismatch("x.grad", Sort.MISSING)) == ((), (), (), ("x.grad (missing)",), False)
    assert marked(weight) == ((), (), (), ("weight_hh_l0.grad",), False)


def test_with_one_step_the_states_of_inner_layers_are_known_by_h_n() -> None:
    sites = tuple(Site({"layer": layer, "n": 0, "unit": 0}, 1.0, 0.0, 0.1) for layer in range(2))
    wrong = Mismatch("h_n", Sort.VALUE, count=2, total=2, sites=sites)

    found = network_of(RNNConfig(1, 1, num_layers=2, T=1, N=1), [wrong])

    assert (found.states, found.finals) == (((0, 0, 0),), ((0, 0), (1, 0)))


def test_the_wrong_steps_of_the_readout_are_marked() -> None:
    config = RNNConfig(1, 1, T=3, N=1, output_size=1)
    site = Site({"t": 1, "n": 0, "o": 0}, 1.0, 0.0, 0.1)

    assert network_of(config, [Mismatch("readout", Sort.VALUE, count=1, total=3, sites=(site,))]).readouts == (1,)
    assert network_of(config, [Mismatch("readout", Sort.VALUE, count=3, total=3, sites=(site,))]).readouts == (0, 1, 2)


def test_of_more_wrong_elements_than_sites_it_is_said_that_more_may_be_wrong() -> None:
    config = RNNConfig(1, 2, T=9, N=1)
    result = check_agreement(tampered(lambda h, _at: h + h.dtype.type(0.01)), draw(config, "normal", 0))
    some = result.mismatches[0]

    assert network_of(config, [some]).states == tuple((0, 0, t) for t in range(9))  # all elements are wrong
    assert network_of(config, [Mismatch("output", Sort.VALUE, count=10, total=18, sites=some.sites)]).more
