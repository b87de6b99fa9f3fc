"""A stack of ONNX's ``RNN`` nodes that computes what ``nn.RNN`` does: the mapping of weights, axes and attributes.

ONNX's ``RNN`` is one layer. Its axes are those of ``nn.RNN``, with one more for the directions: ``Y`` is (T, D, N, H),
or (N, T, D, H) with ``layout=1``, which stands for ``batch_first``. Its ``clip`` stays unset, because ``nn.RNN`` has
none.

The text of these functions is part of the scripts of findings, so they use NumPy and onnx only. onnx is imported only
when a model is built.
"""

from typing import Any

import numpy as np


def model_of(weights: Any, config: Any, packed: Any) -> Any:
    """Return the model of a stack, with inputs x, hx and lengths as far as they are used, and outputs output and h_n.

    ``packed`` says that each sequence has a length of its own.
    """
    from onnx import TensorProto, helper, numpy_helper

    D, H, first = config.num_directions, config.hidden_size, config.batch_first
    dtype = helper.np_dtype_to_tensor_dtype(weights["weight_ih_l0"].dtype)
    turned = [1, 0, 2] if first else [0, 1, 2]  # of states, which are (N, D, H) with layout=1
    nodes, constants = [], []

    def add(kind: Any, inputs: Any, outputs: Any, **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, inputs, outputs, **attributes))

    def constant(name: Any, array: Any) -> Any:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def of(role: Any, layer: Any) -> Any:
        ends = ["", "_reverse"][:D]
        return np.stack([weights[f"{role}_l{layer}{end}"] for end in ends])

    for k in range(config.num_layers):
        below = f"output_l{k - 1}" if k else "x"
        output = f"output_l{k}" if k + 1 < config.num_layers else "output"
        W = constant(f"W_l{k}", of("weight_ih", k))  # (D, H, I)
        R = constant(f"R_l{k}", of("weight_hh", k))  # (D, H, H)
        B = ""
        if config.bias:  # (D, 2*H): Wb, then Rb
            B = constant(f"B_l{k}", np.concatenate([of("bias_ih", k), of("bias_hh", k)], axis=1))
        initial_h = ""
        if config.hx:  # the layer's rows of hx, (L*D, N, H)
            initial_h = f"initial_h_l{k}"
            rows = [constant(f"{end}_l{k}", np.array([at])) for end, at in (("from", k * D), ("to", k * D + D))]
            add("Slice", ["hx", *rows], [f"hx_l{k}"])
            add("Transpose", [f"hx_l{k}"], [initial_h], perm=turned)
        add(
            "RNN",
            [below, W, R, B, "lengths" if packed else "", initial_h],
            [f"Y_l{k}", f"Y_h_l{k}"],
            hidden_size=H,
            direction="bidirectional" if D == 2 else "forward",
            activations=[config.nonlinearity.capitalize()] * D,
            layout=int(first),
        )
        add("Transpose", [f"Y_l{k}"], [f"steps_l{k}"], perm=[0, 1, 2, 3] if first else [0, 2, 1, 3])
        add("Reshape", [f"steps_l{k}", constant(f"shape_l{k}", np.array([0, 0, D * H]))], [output])  # 0: as it is
        add("Transpose", [f"Y_h_l{k}"], [f"h_n_l{k}"], perm=turned)
    add("Concat", [f"h_n_l{k}" for k in range(config.num_layers)], ["h_n"], axis=0)

    steps = ["N", "T"] if first else ["T", "N"]
    states = [config.num_layers * D, "N", H]
    inputs = [helper.make_tensor_value_info("x", dtype, [*steps, config.input_size])]
    if config.hx:
        inputs.append(helper.make_tensor_value_info("hx", dtype, states))
    if packed:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["N"]))
    outputs = [
        helper.make_tensor_value_info("output", dtype, [*steps, D * H]),
        helper.make_tensor_value_info("h_n", dtype, states),
    ]
    graph = helper.make_graph(nodes, "rnn", inputs, outputs, constants)
    opset = helper.make_opsetid("", 22)  # the latest in which RNN has changed, and the format of its time
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


def fed(x: Any, h0: Any, config: Any, lengths: Any) -> Any:
    """Return what such a model is given, by the names of its inputs."""
    feeds = {"x": x}
    if config.hx:
        feeds["hx"] = h0
    if lengths is not None:
        feeds["lengths"] = lengths.astype(np.int32)
    return feeds
