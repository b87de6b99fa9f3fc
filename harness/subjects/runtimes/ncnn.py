"""ncnn on the CPU: a net of its layers ``RNN``, one after another, that runs one sequence after another.

A layer has one bias, which is the sum of both. It has no batch axis: its axes are (T, I), and its states are (D, H).

The text of this function is part of the scripts of findings, so it imports what it uses.
"""

from typing import Any

from harness.subjects.function import FunctionSubject
from harness.subjects.runtimes.library import subject_of


def by_ncnn(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
    """Return output and h_n."""
    import ncnn
    import numpy as np

    if config.nonlinearity != "tanh":
        raise NotImplementedError("RNN has tanh only")
    if config.dtype != "float32":
        raise NotImplementedError("float32 only")
    L, D, H = config.num_layers, config.num_directions, config.hidden_size
    lines, arrays = ["Input input 0 1 steps0", *(f"Input input{k} 0 1 start{k}" for k in range(L))], []
    for k in range(L):
        ends = [f"_l{k}", f"_l{k}_reverse"][:D]
        ih, hh = (np.stack([weights[f"weight_{of}{end}"] for end in ends]) for of in ("ih", "hh"))
        none = np.zeros(H, np.float32)
        bias = np.stack([weights.get(f"bias_ih{end}", none) + weights.get(f"bias_hh{end}", none) for end in ends])
        wires = f"steps{k} start{k} steps{k + 1} last{k}"
        lines.append(f"RNN layer{k} 2 2 {wires} 0={H} 1={ih.size} 2={2 if D == 2 else 0}")
        arrays += [ih, bias, hh]
    # Four zero bytes before an array of weights say that it is float32. ncnn reads from the text while it runs.
    stored = b"".join(bytes(4) + array.astype("<f4").tobytes() for array in arrays)
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_packed = net.opt.use_bf16_storage = False
    net.load_param_mem("\n".join(["7767517", f"{len(lines)} {1 + 3 * L}", *lines, ""]))
    net.load_model_mem(stored)

    def one(steps: Any, start: Any) -> Any:
        run = net.create_extractor()
        given = {"steps0": steps, **{f"start{k}": start[k * D : k * D + D] for k in range(L)}}
        held = {name: np.ascontiguousarray(array) for name, array in given.items()}  # as long as ncnn reads them
        for name, array in held.items():
            run.input(name, ncnn.Mat(array))
        last = [np.array(run.extract(f"last{k}")[1]) for k in range(L)]
        return np.array(run.extract(f"steps{L}")[1]), np.concatenate(last)

    if not config.batched:
        return one(x, h0)
    x = x if config.batch_first else x.swapaxes(0, 1)  # (N, T, I)
    output = np.zeros((*x.shape[:2], D * H), x.dtype)
    h_n = np.zeros_like(h0)
    for n, steps in enumerate(x):
        length = len(steps) if lengths is None else lengths[n]
        output[n, :length], h_n[:, n] = one(steps[:length], h0[:, n])
    return output if config.batch_first else output.swapaxes(0, 1), h_n


def subject() -> FunctionSubject:
    """Return the subject ``ncnn:cpu``."""
    return subject_of("ncnn:cpu", "ncnn", ("ncnn",), by_ncnn)
