"""Tests of every choice that a layer may have: the line that a report shows does what is computed."""

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest

from benchmarks.composed import drawn, executed
from harness import RNNConfig, draw
from harness.diagnosis.identify.activations import ACTIVATIONS, Activation
from harness.diagnosis.identify.layer import FINAL_STATES
from harness.diagnosis.identify.line_quantities import LineQuantity, quantities_of
from harness.diagnosis.identify.model import (
    LOSS_SCALES,
    ONE,
    PROGRESS,
    Coef,
    FinalStateGradientEntry,
    GradientClip,
    LayerModel,
    Network,
    StateGradientTerm,
    WeightedTerms,
)
from harness.diagnosis.identify.model_differences import SUM_PARTS
from harness.diagnosis.identify.network_run import run, run_whole
from harness.diagnosis.identify.recurrence import lines
from harness.diagnosis.identify.step_patterns import PATTERNS, TermSteps
from harness.diagnosis.identify.terms import (
    ACTIVATION_TERMS,
    AT,
    GRADIENT_MASKS,
    INPUT,
    LEFT,
    LINK,
    RIGHT_TERMS,
    SEQUENCE_STARTS,
    SLOPES,
    START,
    STATES_RETURNED,
    STEP_TERMS,
    masked,
    of_sequence,
    of_sums,
    over_units,
    product_of,
    row_sum,
    transposed,
)

GENERIC = RNNConfig(4, 4, T=5, N=3, dtype="float64", hx=True, loss="both")
STEP_SUM = LayerModel().step
IN_PLACE = "h[t] @ np.tril(W_hh, -1).T"  # the state that it makes, unit by unit: no line of its own computes it
ROLES = {"weight_ih": "x[t]", "weight_hh": "h[t-1]", "bias_ih": "", "bias_hh": ""}


@pytest.mark.parametrize("name", [name for name in STEP_TERMS if "hstack" not in name])
def test_each_term_of_a_step_belongs_to_a_part_of_which_something_is_said(name: str) -> None:
    assert any(belongs.search(name) for _, belongs in SUM_PARTS)


@pytest.mark.parametrize("name", [name for name in STEP_TERMS if not STEP_TERMS[name].other])
def test_the_line_of_each_term_of_a_step_is_evaluated_where_the_line_of_a_subject_is_looked_for(name: str) -> None:
    model = LayerModel(step=with_term(name))
    traces, _ = run_whole(Network(model), draw(GENERIC.replace(loss=None), "normal", 1))

    made = quantities_of(lines(model, "tanh"), traces[0, 0])

    assert np.allclose(made[LineQuantity("s", 4, result=True)][0], traces[0, 0].s[4])


def on_the_way_forward() -> Iterator[tuple[str, LayerModel]]:
    """Yield a layer for each choice of each slot."""
    steps = [name for name, term in STEP_TERMS.items() if not term.other and name != IN_PLACE]
    yield from ((f"step {name}", LayerModel(step=with_term(name))) for name in steps)
    yield from (
        (f"added {name}", LayerModel(added=((name, ONE),)))
        for name in ACTIVATION_TERMS
        if not ACTIVATION_TERMS[name].other
    )
    for when in (TermSteps(kind, 2) for kind in PATTERNS if kind != "all"):
        late = Coef(when=when)
        yield f"when {when}", LayerModel(step=(*STEP_SUM[:3], ("b_hh", late)))
    for scale in LOSS_SCALES:
        for divides in (True, False):
            coef = Coef(scale=scale, divides=divides)
            yield f"scale {scale} {divides}", LayerModel(step=(("x[t] @ W_ih.T", coef), *STEP_SUM[1:]))
    for scale in ("0.5**t", *(f"(1 - 0.25 * {over})" for over in PROGRESS)):
        course = Coef(scale=scale, divides=False)
        yield f"scale {scale}", LayerModel(step=(("x[t] @ W_ih.T", course), *STEP_SUM[1:]))
    starts = [
        name for name in SEQUENCE_STARTS if "below" not in name and "beside" not in name
    ]  # which a single layer lacks
    yield from ((f"start {name}", LayerModel(start=name)) for name in starts)
    yield from ((f"final {name}", LayerModel(final=name)) for name in FINAL_STATES)
    yield from ((f"written {name}", LayerModel(written=name)) for name in STATES_RETURNED)
    yield from ((f"activation {name}", LayerModel(activation=one)) for name, one in ACTIVATIONS.items())
    yield "small states set to 0", LayerModel(activation=Activation("tanh", dead_zone=0.25))
    yield "a factor of a difference", LayerModel(activation=ACTIVATIONS["tanhshrink"], activated=2.0)


def on_the_way_back() -> Iterator[tuple[str, LayerModel]]:
    """Yield a layer for each choice of each slot."""
    yield from ((f"reached {kind}", LayerModel(reached=TermSteps(kind, 2))) for kind in PATTERNS if kind != "all")
    for scale in LOSS_SCALES:
        one = "da[t].T @ h[t-1]", Coef(scale=scale)
        yield f"scale of a gradient {scale}", LayerModel(gradient_sums={"weight_hh": (one,)})
    yield from ((f"slope {name}", LayerModel(slope=((name, 1.0),))) for name in SLOPES)
    yield from ((f"at {name}", LayerModel(at=name)) for name in AT)
    for name in LINK:
        yield from (
            (f"link {name} {sloped}", LayerModel(links=(StateGradientTerm(name, sloped),))) for sloped in (True, False)
        )
    for role, right in ROLES.items():
        for left in LEFT:
            yield f"{role} {left}", readout(role, product_of(left, right) if right else row_sum(left))
            if left in ("da[t]", "g[t]") and not right:
                yield f"{role} over units {left}", readout(role, over_units(left))
        for other in RIGHT_TERMS if right else ():
            yield f"{role} {other}", readout(role, product_of("da[t]", other))
            yield f"{role} {other} transposed", readout(role, transposed(product_of("da[t]", other)))
        for sequence in (0, -1):
            yield f"{role} {sequence}", readout(role, of_sequence(sequence, "da[t]", right))
        yield f"{role} of sums", readout(role, of_sums("da[t]", right) if right else row_sum("da[t]"))
    yield from ((f"mask {mask}", readout("weight_hh", masked("da[t].T @ h[t-1]", mask))) for mask in GRADIENT_MASKS)
    yield from ((f"x {name}", readout("x", name)) for name in INPUT)
    yield from ((f"hx {name}", readout("hx", name)) for name in START)
    for how in ("g", "instead", "passed"):
        yield f"entry {how}", LayerModel(entry=(FinalStateGradientEntry(how, Coef(when=TermSteps("last", 1))),))
    for kind in ("elements", "norm", "joint norm", "running sum"):
        yield f"limit {kind}", LayerModel(limits=dict.fromkeys(("weight_ih", "weight_hh"), GradientClip(kind, 0.125)))
        if kind in ("elements", "norm"):
            for place in ("da", "dh", "dh_next"):
                yield f"limit {kind} of {place}", LayerModel(step_limit=(place, GradientClip(kind, 0.125)))


def with_term(name: str) -> WeightedTerms:
    """Return nn.RNN's sum with a term more, or at another coefficient."""
    return (*(one for one in STEP_SUM if one[0] != name), (name, Coef(0.5)))


def readout(role: str, name: str) -> LayerModel:
    """Return a layer with a gradient of one term."""
    return LayerModel(gradient_sums={role: ((name, ONE),)})


DRAWN = ((f"drawn {seed}", drawn(Random(f"lines/{seed}"))[0]) for seed in range(60))  # with several at once
MODELS = dict([*on_the_way_forward(), *on_the_way_back(), *DRAWN])


@pytest.mark.parametrize("name", MODELS)
def test_the_line_of_a_choice_does_what_it_computes(name: str) -> None:
    model = MODELS[name]
    case = draw(GENERIC, "default", 1)
    weights = {role: np.asarray(w) for role, w in case.weights.items()}

    with np.errstate(divide="ignore"):  # by a norm of zeros, which no limit cuts off
        output, h_n, gradients = executed(model, case.x, case.hx, weights, case.cotangents)
    made: dict[str, Any] = run(Network(model), case)

    assert made["output"] == pytest.approx(output, rel=1e-9, abs=1e-12)
    assert made["h_n"] == pytest.approx(h_n, rel=1e-9, abs=1e-12)
    for of, gradient in gradients.items():
        assert made[f"{of}.grad"] == pytest.approx(gradient, rel=1e-9, abs=1e-12), of
