"""Tests of the faults' code lines: in the place of the right line in a small RNN, the wrong line makes the mistake."""

import ast
import math
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.planted import PlantedSubject
from harness import Case, draw
from harness.diagnosis.faults import CATALOGUE, Fault, lines, named
from harness.diagnosis.pairs import pair_of
from harness.diagnosis.parts import parts_of
from harness.oracle.reference import Reference
from harness.space.case import padding
from harness.space.config import RNNConfig, weight_names

Arrays = dict[str, NDArray[Any]]

# Faults that show no line, and why their sentence says it better.
WITHOUT: Final = {
    "RoundsStateToBFloat16": "a rounding",
    "RoundsStateToFloat16": "a rounding",
    "RoundsStateToFloat32": "a rounding",
    "KeepsOutputInFloat32": "a rounding",
    "RoundsOperandsToTF32": "a rounding, to a dtype that NumPy has not",
    "RoundsOperandsToBFloat16": "a rounding",
    "SumsInFloat16": "a rounding of every addition",
    "SumsGradientsInFloat32": "a rounding of every addition",
    "RepeatsLastTermTimesZero": "a kernel's way of summing in blocks",
    "ReadsOnIntoNextSequence": "a kernel's way of summing in blocks",
    "MakesNaNOfInfiniteSums": "a kernel's order of summing",
    "DiagonalBlocksOfWeightHH": "a kernel's way of summing in blocks",
    "ReadsPadding": "it shows by NaN in the padding, where the program has zeros",
    **dict.fromkeys(
        ("SkipsZeroX", "SkipsZeroXAndOutput", "ResetsAtZeroX", "SkipsZeroXOfBatch", "SkipsZeroXOfBatchAndOutput"),
        "it shows where x is zero, which it is not in the program's cases",
    ),
    "LosesGradientOfHnInPadding": "the way back of a packed batch, which the program leaves out",
}

# nn.RNN as in its documentation, written as most people write it.
FORWARD: Final = """
time = 1 if batch_first else 0
x = np.moveaxis(x, time, 0)
x0 = x
h_n = np.zeros((L * D, N, H))
kept = {}
layers = range(L)
for layer in layers:
    mask = masks.get(layer, np.ones((T, N, D * H)))
    outs = np.zeros((D, T, N, H))
    directions = range(D)
    for d in directions:
        out, before, hs = outs[d], np.zeros((T, N, H)), []
        W_ih, W_hh, b_ih, b_hh = weights[layer, d]
        order = range(T)[::-1] if d == 1 else range(T)
        h = hx[layer * D + d]
        h0 = h
        for i, t in enumerate(order):
            h_prev = h
            before[t] = h_prev
            h = {phi}(x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_hh)
            there = (t < np.array(lengths))[:, None]
            h = np.where(there, h, h_prev)
            hs.append(h)
            out[t] = h
            out[t] *= there
        h_n[layer * D + d] = h
        kept[layer, d] = x, out, before, order
    output = np.concatenate(list(outs), -1)
    if layer < L - 1:
        x = output * mask / (1 - p)
result = np.zeros((T, N, D * H))
for t in range(T):
    result[t] = output[t]
output = result
y = output @ W_out.T + b_out
output = np.moveaxis(output, 0, time)
y = np.moveaxis(y, 0, time)
"""

# Backpropagation through time, written as most people write it.
BACK: Final = """
grads, dhx = {}, np.zeros((L * D, N, H))
for layer in range(L)[::-1]:
    d_output = d_top
    if layer < L - 1:
        mask = masks.get(layer, np.ones((T, N, D * H)))
        d_output = dx * mask / (1 - p)
    d_outputs = np.split(d_output, D, -1)
    dx = np.zeros(kept[layer, 0][0].shape)
    for d in range(D):
        x, out, before, order = kept[layer, d]
        W_ih, W_hh, b_ih, b_hh = weights[layer, d]
        dW_ih, dW_hh, db_ih, db_hh = (np.zeros(array.shape) for array in weights[layer, d])
        d_output = d_outputs[d].copy()
        dh = dh_n[layer * D + d]
        steps = range(T)[::-1]
        for i in steps:
            t = order[i]
            h, h_prev = out[t], before[t]
            s = x[t] @ W_ih.T + b_ih + h_prev @ W_hh.T + b_hh
            dh = dh + d_output[t]
            da = dh * {slope}
            dW_ih += da.T @ x[t]
            dW_hh += da.T @ h_prev
            db_ih += da.sum(0)
            db_hh += da.sum(0)
            dx[t] += da @ W_ih
            dh = da @ W_hh
        dhx[layer * D + d] = dh
        grads |= zip(names[layer, d], (dW_ih, dW_hh, db_ih, db_hh))
norm_of_all = norm(*grads.values())
norm_of_grads = norm(*grads.values(), dx, dhx)
norm_of_all_but_db_hh = norm(*(grads[name] for name in grads if not name.startswith("bias_hh")))
dx = np.moveaxis(dx, 0, time)
grads |= {"x": dx, "hx": dhx}
def returned(name, grad):
    return grad
grads = {name: returned(name, grad) for name, grad in grads.items()}
"""

BY_UNITS: Final = f"""
old, h, new = h, h.copy(), np.zeros((N, H))
{lines.UNITS}
for j in units:
    {lines.UNIT}
h = new if (h == old).all() else h
"""
BY_SEQUENCES: Final = """
finals, sequences = np.zeros((N, H)), range(N)
sequences = range(N)
for n in sequences:
    h = hx[layer * D + d, n]
    steps = range(lengths[n])
    for t in steps[::-1] if d == 1 else steps:
        h = {phi}(x[t, n] @ W_ih.T + b_ih + h @ W_hh.T + b_hh)
        out[t, n] = h
    finals[n] = h
h, order = finals, []
"""
IN_ZEROS: Final = BY_SEQUENCES.replace(lines.LENGTH, lines.LENGTH_IN_ZEROS).replace(
    "    finals[n]", "    out[lengths[n]:, n] = 0\n    finals[n]"
)
BY_COLUMNS: Final = f"""
{lines.INPUTS}
{lines.STATES}
h = {{phi}}(x[t][:, inputs] @ W_ih[:, inputs].T + b_ih + h[:, states] @ W_hh[:, states].T + b_hh)
"""
TURNED: Final = f"""
{lines.TURN}
order = range(T)
if d == 1:
    x, out = turn(x), turn(out)
"""
JOINED: Final = f"forward, reverse = (*outs, outs[0])[:2]\n{lines.JOIN}\noutput = output[..., :D * H]"
SORTED: Final = """
output = result
longest_first = np.argsort(-np.array(lengths), kind="stable")
unsort = np.argsort(longest_first)
sorted_output, sorted_h_n = output[:, longest_first], h_n[:, longest_first]
"""
SORTED_START: Final = f"""
longest_first = np.argsort(-np.array(lengths), kind="stable")
{lines.SORTED_START}
h = h[np.argsort(longest_first)]
"""
EACH_PARAMETER: Final = f"""
ones, of_biases = np.ones((N, 1)), (db_ih[:, None], db_hh[:, None])
for dW, read in zip((dW_ih, dW_hh, *of_biases), (x[t], h_prev, ones, ones)):
    {lines.OF_PARAMETERS}
"""
SUM: Final = "s = x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_hh\n"

# Right lines that the programs write differently, with equivalent lines to put in their place.
SAME: Final[Mapping[str, Mapping[str, str]]] = {
    lines.UNIT: {lines.STEP: BY_UNITS},
    lines.UNITS: {lines.STEP: BY_UNITS},
    lines.INPUTS: {lines.STEP: BY_COLUMNS},
    lines.STATES: {lines.STEP: BY_COLUMNS},
    lines.JOINED_STEP: {lines.STEP: f"{lines.JOINED_STEP}\n{lines.PHI}"},
    lines.PHI: {lines.STEP: SUM + lines.PHI},
    lines.TANH: {lines.STEP: SUM + lines.TANH},
    lines.RELU: {lines.STEP: SUM + lines.RELU},
    lines.X_T: {lines.STEP: f"{lines.X_T}\nh = {{phi}}(x_t @ W_ih.T + b_ih + h @ W_hh.T + b_hh)"},
    lines.WEIGHT_IH: {lines.WEIGHTS: f"{lines.WEIGHTS}\nflat_weight_ih = W_ih.ravel()\n{lines.WEIGHT_IH}"},
    lines.WEIGHT_HH: {lines.WEIGHTS: f"{lines.WEIGHTS}\n{lines.WEIGHT_HH}"},
    lines.MATRICES: {lines.WEIGHTS: f"{lines.WEIGHTS}\n{lines.MATRICES}"},
    lines.BIASES: {lines.WEIGHTS: f"{lines.WEIGHTS}\n{lines.BIASES}"},
    lines.READ: {"h_prev = h": f"{lines.READ}\nh = h_prev"},
    lines.TURN: {lines.ORDER: TURNED},
    lines.START_OF_SEQUENCE: {lines.START: BY_SEQUENCES},
    lines.SEQUENCES: {lines.START: BY_SEQUENCES},
    lines.LENGTH: {lines.START: BY_SEQUENCES},
    lines.OUT_OF_SEQUENCE: {lines.START: BY_SEQUENCES},
    lines.LENGTH_IN_ZEROS: {lines.START: IN_ZEROS},
    lines.SORTED_START: {lines.START: SORTED_START},
    lines.JOIN: {"output = np.concatenate(list(outs), -1)": JOINED},
    lines.BELOW: {lines.DROPOUT: f"{lines.BELOW}\nx = x * mask / (1 - p)"},
    lines.UNSORTED: {"output = result": SORTED + lines.UNSORTED},
    lines.UNSORTED_OUTPUT: {"output = result": SORTED + lines.UNSORTED_OUTPUT},
    lines.UNSORTED_H_N: {"output = result": SORTED + lines.UNSORTED_H_N},
    lines.READOUT_STEP: {
        lines.READOUT: f"y = np.zeros((T, N, len(b_out)))\nfor t in range(T):\n    {lines.READOUT_STEP}"
    },
    lines.READ_OUT: {
        lines.READOUT: f"forward, reverse = np.split(output, D, -1)\n{lines.READ_OUT}\ny = read @ W_out.T + b_out"
    },
    lines.HX: {lines.TIME_AXIS: f"{lines.TIME_AXIS}\n{lines.HX}"},
    lines.H_N_BACK_AT: {lines.H_N_BACK: f"dh = np.zeros((N, H))\n{lines.H_N_BACK_AT}"},
    lines.OF_BIASES: {
        lines.OF_BIAS_IH: f"for db in (db_ih, db_hh):\n    {lines.OF_BIASES}",
        lines.OF_BIAS_HH: "pass",
    },
    lines.OF_PARAMETERS: {
        lines.OF_WEIGHT_IH: EACH_PARAMETER,
        **dict.fromkeys((lines.OF_WEIGHT_HH, lines.OF_BIAS_IH, lines.OF_BIAS_HH), "pass"),
    },
    lines.GRADIENT_OF_PARAMETER: {
        lines.GRADIENT: f'if name in ("x", "hx"): return grad\ndW = grad\n{lines.GRADIENT_OF_PARAMETER}'
    },
}

CLOSE: Final = 1e-9
"""The tolerance: sums of some twenty numbers near one differ by 1e-14 in another order, and the mistakes change them by
at least 1e-6.
"""

TWO_WAYS = RNNConfig(3, 4, 2, bidirectional=True, T=5, N=3, hx=True, dtype="float64")
ONE_WAY = RNNConfig(3, 4, 3, T=5, N=3, hx=True, dtype="float64")
LARGE = RNNConfig(9, 10, 2, bidirectional=True, T=4, N=9, hx=True, dtype="float64")
TANHS = (TWO_WAYS, ONE_WAY)
RELUS = (TWO_WAYS.replace(nonlinearity="relu"), ONE_WAY.replace(nonlinearity="relu"))
SQUARE = (RNNConfig(4, 4, 3, T=5, N=3, hx=True, dtype="float64"),)
DROPPED = tuple(config.replace(dropout=0.25, training=True) for config in TANHS)
PACKED = tuple(config.replace(N=4, lengths=(3, 5, 1, 5)) for config in (TWO_WAYS, ONE_WAY))
BATCH_FIRST = tuple(config.replace(batch_first=True) for config in TANHS)
READ_BOTH = TWO_WAYS.replace(output_size=2)
AS_MANY = tuple(config.replace(N=5) for config in BATCH_FIRST)

OF_FAMILY: Final = {
    "size": (LARGE,),
    "packed": PACKED,
    "dropout": DROPPED,
    "readout": tuple(config.replace(output_size=2) for config in TANHS),
    "gradients": tuple(config.replace(loss="both") for config in (*TANHS, *RELUS)),
}
OF_RIGHT: Final = {lines.TANH: TANHS, lines.RELU: RELUS, lines.TURN: (*TANHS, *RELUS), lines.READ_OUT: (READ_BOTH,)}
OF_FAULT: Final = {
    "TransposesWeightIH": SQUARE,
    "ExchangesWeights": SQUARE,
    "EveryLayerReadsX": SQUARE,
    "AddsInputToOutput": SQUARE,
    "AddsXToOutput": SQUARE,
    "DropsHn": DROPPED[1:],
    "ForgetsMaskBack": tuple(config.replace(loss="both") for config in DROPPED),
    "ForgetsScaleBack": tuple(config.replace(loss="both") for config in DROPPED),
    "AddsBiasesAlongBatch": tuple(config.replace(N=config.hidden_size) for config in TANHS),
    "LeavesReverseAtTheEnd": PACKED[:1],
    "ReadsOutInTurns": (READ_BOTH,),
    "ReadsHxBySum": (TWO_WAYS,),
    "ReadsForwardHalfOnly": (TWO_WAYS,),
    "SeparatesDirections": (TWO_WAYS,),
    "IgnoresBatchFirst": AS_MANY,
    "ReadsXTimeFirst": AS_MANY,
    "ReturnsOutputTimeFirst": AS_MANY,
    "ReturnsGradientOfXTimeFirst": tuple(config.replace(loss="both") for config in AS_MANY),
    "ReshapesX": BATCH_FIRST,
    "ReshapesOutput": BATCH_FIRST,
    "ReshapesHx": BATCH_FIRST,
    "TanhInLastLayer": RELUS,
    "TanhAboveFirstLayer": RELUS,
    "AlwaysTanh": RELUS,
    "SlopeWithoutSquare": OF_FAMILY["gradients"][:2],
    "SlopeOfPreactivation": OF_FAMILY["gradients"][:2],
    "SlopeOfTanhOfState": OF_FAMILY["gradients"][:2],
    **dict.fromkeys(
        ("SlopeOfTanhForRelu", "SlopeOfReluAtZero", "SlopeOfReluOneAtZero", "SlopeOfReluHalfAtZero"),
        OF_FAMILY["gradients"][2:],
    ),
}

each_fault = pytest.mark.parametrize(
    "fault", [fault for fault in CATALOGUE if fault.code is not None], ids=lambda fault: fault.name
)


class Replaced(NamedTuple):
    """A line of a program, and its replacement."""

    right: str
    wrong: str


@each_fault
def test_the_wrong_line_in_the_place_of_the_right_one_makes_the_mistake(fault: Fault) -> None:
    shown = []
    for case in cases(fault):
        both = fault.lines(case.config)
        assert both is not None
        line = Replaced(right_of(fault), both[0])

        computed = run(case, line)

        expected = fault.run(case)
        for name in compared(fault, case.config):
            hidden(case, computed, name)
            np.testing.assert_allclose(computed[name], expected[name], CLOSE, CLOSE, err_msg=name)
            shown.append(not np.allclose(expected[name], Reference().run(case)[name], CLOSE, CLOSE, equal_nan=True))
    assert any(shown)


@pytest.mark.parametrize("right", ["", *SAME])
def test_the_right_lines_compute_what_nn_rnn_does(right: str) -> None:
    configs = OF_RIGHT.get(right, (*TANHS, *RELUS, *DROPPED, *BATCH_FIRST, *PACKED))
    there = any(old in FORWARD for old in SAME.get(right, {}))
    for config in configs:
        case = drawn(config.replace(loss=None if there or config.lengths else "both"))

        computed = run(case, Replaced(right, right))

        for name, array in Reference().run(case).items():
            np.testing.assert_allclose(computed[name], array, CLOSE, CLOSE, err_msg=name)


@each_fault
def test_both_lines_are_python_and_fit_a_line(fault: Fault) -> None:
    config = fault.smallest[0]

    both = fault.lines(config)

    assert both is not None
    assert both[0] != both[1]
    for line in both:
        ast.parse(line)
        assert "{" not in line
        assert len(line) <= 68


def test_the_faults_that_show_no_line_are_those_that_say_why() -> None:
    assert {fault.name for fault in CATALOGUE if fault.code is None} == set(WITHOUT)


def test_every_right_line_is_one_of_the_common_ones() -> None:
    common = {value for name, value in vars(lines).items() if name.isupper() and isinstance(value, str)}

    assert {fault.code[1] for fault in CATALOGUE if fault.code is not None} <= common


def test_a_part_shows_the_lines_of_its_fault_and_a_pair_those_of_its_first() -> None:
    fault, config = named("IgnoresBiasHH"), RNNConfig(2, 3, 2, bidirectional=True)

    shown = {part.lines(config) for part in parts_of(fault, config)} | {
        pair_of(fault, named("IgnoresBiasIH")).lines(config)
    }

    assert shown == {fault.lines(config)}


def test_a_line_has_the_nonlinearity_and_the_parameter_of_what_failed() -> None:
    relu = RNNConfig(1, 1, nonlinearity="relu")
    back = named("SlopeOfPreviousState")

    assert (named("IgnoresBiasHH").lines(relu) or ("",))[0] == "h = relu(x[t] @ W_ih.T + b_ih + h @ W_hh.T)"
    assert (named("ResetsState", 3).lines(relu) or ("",))[0] == "h_prev = 0 * h0  # if i > 0 and i % 3 == 0"
    assert back.lines(relu) == ("da = dh * (h_prev > 0)", "da = dh * (h > 0)")
    assert back.lines(RNNConfig(1, 1)) == ("da = dh * (1 - h_prev**2)", "da = dh * (1 - h**2)")
    assert named("RoundsStateToFloat16").lines(relu) is None


def cases(fault: Fault) -> list[Case]:
    """Return generic cases on which the lines can be run, some with the values that the mistake needs."""
    name = fault.name
    configs = OF_FAULT.get(name) or OF_RIGHT.get(right_of(fault)) or OF_FAMILY.get(fault.family, (*TANHS, *RELUS))
    found = [drawn(config) for config in configs]
    for case in list(found):
        if name in {"ReluDropsNaN", "MultipliesByMask"}:
            odd = np.nan if name == "ReluDropsNaN" else -np.inf
            weights = {key: np.ones_like(array) for key, array in case.weights.items()}
            found.append(replace(case, x=np.full_like(case.x, odd), weights=weights, origin=None))
        if name.endswith("AtZero"):
            found.append(replace(case, weights={key: 0 * array for key, array in case.weights.items()}, origin=None))
        if name.startswith("Clips"):
            larger = {key: 100 * array for key, array in case.cotangents.items()}
            found.append(replace(case, cotangents=larger, origin=None))
    return found


def drawn(config: RNNConfig) -> Case:
    case = draw(config, "normal", 1)
    masks = dict(enumerate(PlantedSubject(CATALOGUE[0]).masks(case))) if config.drops else {}
    return replace(case.plain(), masks=masks)


def right_of(fault: Fault) -> str:
    assert fault.code is not None
    return fault.code[1]


def compared(fault: Fault, config: RNNConfig) -> list[str]:
    """Return the arrays that the line affects; for a mistake in the forward pass, these are not the gradients."""
    if config.loss is not None:
        return list(config.gradients)
    if fault.name == "ComputesFirstLayerOnly":  # its line leaves the other rows of h_n open
        return ["output"]
    return ["readout"] if fault.family == "readout" else ["output", "h_n"]


def hidden(case: Case, arrays: Arrays, name: str) -> None:
    if name == "output" and case.config.lengths is not None:
        arrays[name][padding(case.config)] = 0.0


def run(case: Case, line: Replaced) -> Arrays:
    """Return what the programs compute with the right line replaced."""
    config, L, D = case.config, case.config.num_layers, case.config.num_directions
    places = [(layer, d) for layer in range(L) for d in range(D)]
    names = {at: weight_names(*at) for at in places}
    weights = {at: tuple(case.weights[name] for name in names[at]) for at in places}
    time, wide = (1 if config.batch_first else 0), D * config.hidden_size
    given: dict[str, Any] = {
        "np": np, "tanh": np.tanh, "relu": lambda s: np.maximum(s, 0), "erf": np.vectorize(math.erf), "norm": _norm,
        "x": case.x, "hx": case.hx, "L": L, "D": D, "T": config.T, "N": config.N, "H": config.hidden_size,
        "batch_first": config.batch_first, "lengths": config.lengths or (config.T,) * config.N,
        "names": names, "weights": weights,
        "masks": case.masks, "p": config.dropout if config.drops else 0.0,
        "weight_ih": {at: w[0] for at, w in weights.items()}, "weight_hh": {at: w[1] for at, w in weights.items()},
        "bias_ih": {at: w[2] for at, w in weights.items()}, "bias_hh": {at: w[3] for at, w in weights.items()},
        "W_out": case.weights.get("readout.weight", np.zeros((1, wide))),
        "b_out": case.weights.get("readout.bias", np.zeros(1)),
    }  # fmt: skip
    there, back = (program(text, config, line) for text in (FORWARD, BACK))
    assert lines.filled(line.wrong.partition("  # if ")[0], config.nonlinearity, None) in there + back
    with np.errstate(all="ignore"):
        exec(there, given)  # noqa: S102 - the test's own text, and the catalogue's
        arrays: Arrays = {"output": given["output"], "h_n": given["h_n"], "readout": given["y"]}
        if config.loss is not None:
            given["d_top"] = np.moveaxis(case.cotangents["output.grad"], time, 0)
            given["dh_n"] = case.cotangents["h_n.grad"]
            exec(back, given)  # noqa: S102
            arrays |= {f"{name}.grad": grad for name, grad in given["grads"].items()}
    return arrays


def program(text: str, config: RNNConfig, line: Replaced) -> str:
    """Return a program with the right line replaced, under the new line's condition if it has one."""
    for old, new in SAME.get(line.right, {}).items():
        text = written(text, old, new)
    wrong, _, condition = line.wrong.partition("  # if ")
    if condition and line.wrong != line.right:
        text = written(text, line.right, f"if {condition}:\n    {wrong}\nelse:\n    {line.right}")
    else:
        text = written(text, line.right, line.wrong)
    return lines.filled(text, config.nonlinearity, None)


def written(text: str, old: str, new: str) -> str:
    """Return a program with a line replaced by others, indented as deep."""
    rows = []
    for row in text.splitlines():
        indent = row[: len(row) - len(row.lstrip())]
        rows.append(textwrap.indent(new.strip(), indent) if row.strip() == old and old else row)
    return "\n".join(rows)


def _norm(*arrays: NDArray[Any]) -> float:
    return float(np.sqrt(sum((array**2).sum() for array in arrays)))
