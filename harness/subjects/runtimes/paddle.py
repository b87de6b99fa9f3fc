"""PaddlePaddle: ``SimpleRNN``, ``GRU`` and ``LSTM``, whose parameters, axes and gradients are those of torch's layers.

The text of this function is part of the scripts of findings, so it imports what it uses.
"""

from typing import Any

from harness.subjects.function import FunctionSubject
from harness.subjects.runtimes.library import of_each, subject_of, with_zeros


def by_paddle(x: Any, h0: Any, weights: Any, config: Any, lengths: Any, cotangents: Any) -> Any:
    """Return output and the final states, and the gradients where there are cotangents."""
    import warnings

    with warnings.catch_warnings(action="ignore"):  # it warns of a compiler that is not needed here
        import paddle

    if not config.batched:
        raise NotImplementedError("a layer of Paddle has a batch axis")
    paddle.set_default_dtype(config.dtype)
    bias = None if config.bias else False
    kinds = {"RNN": paddle.nn.SimpleRNN, "GRU": paddle.nn.GRU, "LSTM": paddle.nn.LSTM}
    layer = kinds[config.cell](
        config.input_size,
        config.hidden_size,
        config.num_layers,
        direction="bidirect" if config.bidirectional else "forward",
        time_major=not config.batch_first,
        bias_ih_attr=bias,
        bias_hh_attr=bias,
        **({"activation": config.nonlinearity} if config.cell == "RNN" else {}),
    )
    own = {name: getattr(layer, name) for name in weights}
    for name, array in weights.items():
        own[name].set_value(array)
    padded, two = with_zeros(x, lengths, config.batch_first), config.cell == "LSTM"
    inputs, *starts = (paddle.to_tensor(array, stop_gradient=False) for array in (padded, *(h0 if two else [h0])))
    lengths = None if lengths is None else paddle.to_tensor(lengths)
    output, last = layer(inputs, tuple(starts) if two else starts[0], lengths)
    returned = {"output": output, **dict(zip(("h_n", "c_n"), last if two else [last], strict=False))}
    arrays = [array.numpy() for array in returned.values()]
    if not cotangents:
        return arrays
    read = [name for name in returned if f"{name}.grad" in cotangents]
    heads = [paddle.to_tensor(cotangents[f"{name}.grad"]) for name in read]
    sources = {"x": inputs, **dict(zip(("h0", "c0"), starts, strict=False)), **own}
    raw = paddle.grad([returned[name] for name in read], list(sources.values()), heads, allow_unused=True)
    gradients = zip(sources.items(), raw, strict=True)
    return *arrays, {n: (paddle.zeros_like(s) if g is None else g).numpy() for (n, s), g in gradients}


@of_each
def subject(cell: str) -> FunctionSubject:
    """Return the subject ``paddle:layer`` of a cell."""
    return subject_of("paddle:layer", cell, "paddle", ("paddlepaddle",), with_zeros, by_paddle)
