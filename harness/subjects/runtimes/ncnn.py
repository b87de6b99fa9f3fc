"""ncnn on the CPU: a net of its layers ``RNN``, ``GRU`` or ``LSTM``, one after another, one sequence after another.

A layer has one bias, which is the sum of both; a GRU has b_in and b_hn. An LSTM's rows are i, f, o, g. There is no
batch axis: axes are (T, I), and states are (D, H).

The text of this function is part of the scripts of findings, so it imports what it uses.
"""

from typing import Any

from harness.subjects.function import FunctionSubject
from harness.subjects.runtimes.library import of_each, subject_of


def by_ncnn(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
    """Return output and the final states."""
    import ncnn
    import numpy as np

    if config.nonlinearity != "tanh":
        raise NotImplementedError("RNN has tanh only")
    if config.dtype != "float32":
        raise NotImplementedError("float32 only")
    L, D, H, cell = config.num_layers, config.num_directions, config.hidden_size, config.cell
    initial, G = h0 if cell == "LSTM" else (h0,), {"RNN": 1, "GRU": 3, "LSTM": 4}[cell]
    S = len(initial)
    inputs = [f"Input input{k}_{s} 0 1 start{k}_{s}" for k in range(L) for s in range(S)]
    lines, arrays = ["Input input 0 1 steps0", *inputs], []

    def rows(array: Any) -> Any:
        i, f, g, o = np.split(array, 4) if cell == "LSTM" else [array] * 4
        return np.concatenate([i, f, o, g]) if cell == "LSTM" else array

    for k in range(L):
        ends = [f"_l{k}", f"_l{k}_reverse"][:D]
        ih, hh = (np.stack([rows(weights[f"weight_{role}{end}"]) for end in ends]) for role in ("ih", "hh"))
        none, bias = np.zeros(G * H, np.float32), []
        for end in ends:
            b, b_hh = weights.get(f"bias_ih{end}", none), weights.get(f"bias_hh{end}", none)
            bias.append(rows(b + b_hh))
            if cell == "GRU":
                bias[-1] = np.concatenate([bias[-1][: 2 * H], b[2 * H :], b_hh[2 * H :]])
        wires = [f"{kind}{k}_{s}" for kind in ("start", "last") for s in range(S)]
        wired = " ".join([f"steps{k}", *wires[:S], f"steps{k + 1}", *wires[S:]])
        lines.append(f"{cell} layer{k} {S + 1} {S + 1} {wired} 0={H} 1={ih.size} 2={2 if D == 2 else 0}")
        arrays += [ih, np.stack(bias), hh]
    # Four zero bytes before an array of weights say that it is float32. ncnn reads from the text while it runs.
    stored = b"".join(bytes(4) + array.astype("<f4").tobytes() for array in arrays)
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_packed = net.opt.use_bf16_storage = False
    net.load_param_mem("\n".join(["7767517", f"{len(lines)} {1 + L + 2 * L * S}", *lines, ""]))
    net.load_model_mem(stored)

    def returned(steps: Any, starts: Any) -> Any:
        run = net.create_extractor()
        rows_of = {f"start{k}_{s}": starts[s][k * D : k * D + D] for k in range(L) for s in range(S)}
        held = {name: np.ascontiguousarray(array) for name, array in {"steps0": steps, **rows_of}.items()}
        for name, array in held.items():
            run.input(name, ncnn.Mat(array))  # which ncnn reads while it runs: ``held`` keeps it
        last = [np.concatenate([np.array(run.extract(f"last{k}_{s}")[1]) for k in range(L)]) for s in range(S)]
        return np.array(run.extract(f"steps{L}")[1]), *last

    if not config.batched:
        return returned(x, initial)
    x = x if config.batch_first else x.swapaxes(0, 1)  # (N, T, I)
    output = np.zeros((*x.shape[:2], D * H), x.dtype)
    final = [np.zeros_like(start) for start in initial]
    for n, steps in enumerate(x):
        length = len(steps) if lengths is None else lengths[n]
        output[n, :length], *last = returned(steps[:length], [start[:, n] for start in initial])
        for array, state in zip(final, last, strict=True):
            array[:, n] = state
    return output if config.batch_first else output.swapaxes(0, 1), *final


@of_each
def subject(cell: str) -> FunctionSubject:
    """Return the subject ``ncnn:cpu`` of a cell."""
    return subject_of("ncnn:cpu", cell, "ncnn", ("ncnn",), by_ncnn)
