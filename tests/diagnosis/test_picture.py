"""Tests of picture: the errors of each state by one step and in the whole run, what is shown, and what is marked."""

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


def test_the_wrong_states_of_a_case_are_marked() -> None:
    config = RNNConfig(1, 2, num_layers=2, bidirectional=True, T=3, N=1)
    site = Site({"t": 1, "n": 0, "direction": "reverse", "unit": 0}, 1.0, 0.0, 0.1)
    last = Site({"layer": 0, "direction": "reverse", "n": 0, "unit": 0}, 1.0, 0.0, 0.1)
    weight = Mismatch("weight_hh_l0.grad", Sort.VALUE, sites=(Site({"row": 0, "column": 0}, 1.0, 0.0, 0.1),))

    def marked(*mismatches: Mismatch) -> Any:
        found = network_of(config, mismatches)
        return found.states, found.inputs, found.arrays, found.more

    one = Mismatch("output", Sort.VALUE, count=1, total=12, sites=(site,))
    assert marked(one) == (((1, 1, 1),), (), (), False)
    assert marked(Mismatch("h_n", Sort.VALUE, count=1, total=8, sites=(last,))) == (((0, 1, 0),), (), (), False)
    assert marked(Mismatch("x.grad", Sort.VALUE, count=9, sites=(Site({"t": 2}, 1, 0, 0),))) == ((), (2,), (), False)
    assert marked(weight) == ((), (), ("weight_hh_l0.grad",), False)


def test_of_more_wrong_elements_than_sites_it_is_said_that_more_may_be_wrong() -> None:
    config = RNNConfig(1, 2, T=9, N=1)
    result = check_agreement(tampered(lambda h, _at: h + h.dtype.type(0.01)), draw(config, "normal", 0))
    some = result.mismatches[0]

    assert network_of(config, [some]).states == tuple((0, 0, t) for t in range(9))  # all elements are wrong
    assert network_of(config, [Mismatch("output", Sort.VALUE, count=10, total=18, sites=some.sites)]).more
