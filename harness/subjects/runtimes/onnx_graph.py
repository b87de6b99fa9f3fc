"""A stack of ONNX's ``RNN``, ``GRU`` or ``LSTM`` nodes that computes what torch's layer does: the mapping of its parts.

Such a node is one layer. Its rows of gates are z, r, h of a GRU, and i, o, f, c of an LSTM. Its axes are those of
torch, with one more for the directions: ``Y`` is (T, D, N, H), or (N, T, D, H) with ``layout=1``, which stands for
``batch_first``. Its ``clip`` stays unset, because torch has none.

The text of these functions is part of the scripts of findings, so they use NumPy and onnx only. onnx is imported only
when a model is built.
"""

from typing import Any

import numpy as np


def model_of(weights: Any, config: Any, packed: Any) -> Any:
    """Return the model of a stack: inputs x, hx, cx and lengths as far as used, and outputs output, h_n and c_n.

    ``packed`` says that each sequence has a length of its own.
    """
    from onnx import TensorProto, helper, numpy_helper

    D, H, first = config.num_directions, config.hidden_size, config.batch_first
    rows = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 3, 1, 2]}[config.cell]  # where torch has those of each gate
    own: Any = {"RNN": {"activations": [config.nonlinearity.capitalize()] * D}, "GRU": {"linear_before_reset": 1}}
    states = {"h": ("hx", "h_n"), "c": ("cx", "c_n")} if config.cell == "LSTM" else {"h": ("hx", "h_n")}
    dtype = helper.np_dtype_to_tensor_dtype(weights["weight_ih_l0"].dtype)
    turned = [1, 0, 2] if first else [0, 1, 2]  # of states, which are (N, D, H) with layout=1
    nodes, constants = [], []

    def add(kind: Any, inputs: Any, outputs: Any, **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, inputs, outputs, **attributes))

    def constant(name: Any, array: Any) -> Any:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def stacked(role: Any, layer: Any) -> Any:
        blocks = [np.split(weights[f"{role}_l{layer}{end}"], len(rows)) for end in ["", "_reverse"][:D]]
        return np.stack([np.concatenate([parts[i] for i in rows]) for parts in blocks])

    for k in range(config.num_layers):
        below = f"output_l{k - 1}" if k else "x"
        output = f"output_l{k}" if k + 1 < config.num_layers else "output"
        W = constant(f"W_l{k}", stacked("weight_ih", k))  # (D, G*H, I), with G gates
        R = constant(f"R_l{k}", stacked("weight_hh", k))  # (D, G*H, H)
        B = ""
        if config.bias:  # (D, 2*G*H): Wb, then Rb
            B = constant(f"B_l{k}", np.concatenate([stacked("bias_ih", k), stacked("bias_hh", k)], axis=1))
        initial = []
        if config.hx:  # the layer's rows of hx and cx, (L*D, N, H)
            ends = [constant(f"{end}_l{k}", np.array([at])) for end, at in (("from", k * D), ("to", k * D + D))]
            for state, (start, _) in states.items():
                add("Slice", [start, *ends], [f"{start}_l{k}"])
                add("Transpose", [f"{start}_l{k}"], [f"initial_{state}_l{k}"], perm=turned)
                initial.append(f"initial_{state}_l{k}")
        add(
            config.cell,
            [below, W, R, B, "lengths" if packed else "", *initial],
            [f"Y_l{k}", *(f"Y_{state}_l{k}" for state in states)],
            hidden_size=H,
            direction="bidirectional" if D == 2 else "forward",
            layout=int(first),
            **own.get(config.cell, {}),
        )
        add("Transpose", [f"Y_l{k}"], [f"steps_l{k}"], perm=[0, 1, 2, 3] if first else [0, 2, 1, 3])
        add("Reshape", [f"steps_l{k}", constant(f"shape_l{k}", np.array([0, 0, D * H]))], [output])  # 0: as it is
        for state, (_, last) in states.items():
            add("Transpose", [f"Y_{state}_l{k}"], [f"{last}_l{k}"], perm=turned)
    for _, last in states.values():
        add("Concat", [f"{last}_l{k}" for k in range(config.num_layers)], [last], axis=0)

    steps = ["N", "T"] if first else ["T", "N"]
    shape = [config.num_layers * D, "N", H]
    inputs = [helper.make_tensor_value_info("x", dtype, [*steps, config.input_size])]
    if config.hx:
        inputs += [helper.make_tensor_value_info(start, dtype, shape) for start, _ in states.values()]
    if packed:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["N"]))
    outputs = [helper.make_tensor_value_info("output", dtype, [*steps, D * H])]
    outputs += [helper.make_tensor_value_info(last, dtype, shape) for _, last in states.values()]
    graph = helper.make_graph(nodes, "rnn", inputs, outputs, constants)
    opset = helper.make_opsetid("", 22)  # the latest in which they have changed, and the format of its time
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


def fed(x: Any, h0: Any, config: Any, lengths: Any) -> Any:
    """Return what such a model is given, by the names of its inputs."""
    feeds = {"x": x}
    if config.hx:
        feeds |= dict(zip(("hx", "cx"), h0, strict=True)) if config.cell == "LSTM" else {"hx": h0}
    if lengths is not None:
        feeds["lengths"] = lengths.astype(np.int32)
    return feeds
