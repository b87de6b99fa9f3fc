"""lines: the lines of an RNN in NumPy, as nn.RNN computes it: a fault shows its own line beside one of these.

The names are nn.RNN's: x (T, N, I), h (N, H), W_ih, W_hh, b_ih, b_hh, hx (L * D, N, H). ``layer`` and ``d`` count the
layers and the D directions, ``t`` the time steps, ``i`` the steps in the order in which a direction visits them. On the
way back, dh and da are the gradients by a state and by its preactivation. A comment ``# if ...`` says where a line
stands in the place of the right one. ``{phi}`` and ``{slope}`` are those of the config, ``{k}`` is a fault's parameter.
"""

from __future__ import annotations

from typing import Final

STEP: Final = "h = {phi}(x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_hh)"
UNIT: Final = "new[:, j] = {phi}(x[t] @ W_ih[j] + b_ih[j] + h @ W_hh[j] + b_hh[j])"
JOINED_STEP: Final = "s = np.hstack([x[t], h]) @ np.hstack([W_ih, W_hh]).T + b_ih + b_hh"
PHI: Final = "h = {phi}(s)"
TANH: Final = "h = tanh(s)"
RELU: Final = "h = np.maximum(s, 0)"

WEIGHTS: Final = "W_ih, W_hh, b_ih, b_hh = weights[layer, d]"
WEIGHT_IH: Final = "W_ih = flat_weight_ih.reshape((H, -1))"
WEIGHT_HH: Final = "W_hh = weight_hh[layer, d]"
MATRICES: Final = "W_ih, W_hh = weight_ih[layer, d], weight_hh[layer, d]"
BIASES: Final = "b_ih, b_hh = bias_ih[layer, d], bias_hh[layer, d]"

START: Final = "h = hx[layer * D + d]"
SORTED_START: Final = "h = hx[layer * D + d][longest_first]"
START_OF_SEQUENCE: Final = "h = hx[layer * D + d, n]"
READ: Final = "h_prev = hs[i - 1] if i > 0 else h0"
ORDER: Final = "order = range(T)[::-1] if d == 1 else range(T)"
TURN: Final = "def turn(a): return a[::-1]"
X_T: Final = "x_t = x[t]"
UNITS: Final = "units = range(H)"
INPUTS: Final = "inputs = range(W_ih.shape[1])"
STATES: Final = "states = range(H)"
SEQUENCES: Final = "sequences = range(N)"
LENGTH: Final = "steps = range(lengths[n])"
LENGTH_IN_ZEROS: Final = "steps = range(lengths[n])  # out[lengths[n]:, n] = 0"

OUT: Final = "out[t] = h"
OUT_OF_SEQUENCE: Final = "out[t, n] = h"
FINAL: Final = "h_n[layer * D + d] = h"
LAYERS: Final = "layers = range(L)"
DIRECTIONS: Final = "directions = range(D)"
JOIN: Final = "output = np.concatenate([forward, reverse], -1)"
BELOW: Final = "x = output"
DROPOUT: Final = "x = output * mask / (1 - p)"
RESULT: Final = "result[t] = output[t]"
UNSORTED_OUTPUT: Final = "output = sorted_output[:, unsort]"
UNSORTED_H_N: Final = "h_n = sorted_h_n[:, unsort]"
UNSORTED: Final = "output, h_n = sorted_output[:, unsort], sorted_h_n[:, unsort]"
READ_OUT: Final = "read = np.concatenate([forward, reverse], -1)"
READOUT: Final = "y = output @ W_out.T + b_out"
READOUT_STEP: Final = "y[t] = output[t] @ W_out.T + b_out"

TIME_AXIS: Final = "time = 1 if batch_first else 0"
TIME_FIRST: Final = "x = np.moveaxis(x, time, 0)"
AS_ASKED: Final = "output = np.moveaxis(output, 0, time)"
HX: Final = "hx = hx  # (L * D, N, H), with batch_first, too"

H_N_BACK: Final = "dh = dh_n[layer * D + d]"
H_N_BACK_AT: Final = "d_output[order[-1]] += dh_n[layer * D + d]"
STEPS_BACK: Final = "steps = range(T)[::-1]"
OUTPUT_BACK: Final = "dh = dh + d_output[t]"
SLOPE: Final = "da = dh * {slope}"
STEP_BACK: Final = "dh = da @ W_hh"
X_BACK: Final = "dx[t] += da @ W_ih"
X_BACK_AS_ASKED: Final = "dx = np.moveaxis(dx, 0, time)"
HX_BACK: Final = "dhx[layer * D + d] = dh"
DROPOUT_BACK: Final = "d_output = dx * mask / (1 - p)"
OF_WEIGHT_IH: Final = "dW_ih += da.T @ x[t]"
OF_WEIGHT_HH: Final = "dW_hh += da.T @ h_prev"
OF_BIAS_IH: Final = "db_ih += da.sum(0)"
OF_BIAS_HH: Final = "db_hh += da.sum(0)"
OF_BIASES: Final = "db += da.sum(0)"
OF_PARAMETERS: Final = "dW += da.T @ read  # read: x[t], h_prev or ones"
GRADIENT: Final = "return grad"
GRADIENT_OF_PARAMETER: Final = "return dW"

_SLOPES: Final = {"tanh": "(1 - {0}**2)", "relu": "({0} > 0)"}


def filled(line: str, nonlinearity: str, k: float | None) -> str:
    """Fill in the nonlinearity of a config, its slope, and the value of a fault's parameter."""
    line = line.replace("{phi}", nonlinearity).replace("{other}", "relu" if nonlinearity == "tanh" else "tanh")
    for name, state in (("{slope}", "h"), ("{slope_before}", "h_prev")):
        line = line.replace(name, _SLOPES[nonlinearity].format(state))
    return line if k is None else line.replace("{k}", f"{k:g}")
