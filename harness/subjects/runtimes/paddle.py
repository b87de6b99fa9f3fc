"""PaddlePaddle: ``paddle.nn.SimpleRNN``, whose parameters, axes and gradients are those of ``nn.RNN``.

The text of this function is part of the scripts of findings, so it imports what it uses.
"""

from typing import Any

from harness.subjects.function import FunctionSubject
from harness.subjects.runtimes.library import subject_of, with_zeros


def by_paddle(x: Any, h0: Any, weights: Any, config: Any, lengths: Any, cotangents: Any) -> Any:
    """Return output and h_n, and the gradients where there are cotangents."""
    import warnings

    with warnings.catch_warnings(action="ignore"):  # it warns of a compiler that is not needed here
        import paddle

    if not config.batched:
        raise NotImplementedError("SimpleRNN has a batch axis")
    paddle.set_default_dtype(config.dtype)
    bias = None if config.bias else False
    layer = paddle.nn.SimpleRNN(
        config.input_size,
        config.hidden_size,
        config.num_layers,
        direction="bidirect" if config.bidirectional else "forward",
        time_major=not config.batch_first,
        activation=config.nonlinearity,
        bias_ih_attr=bias,
        bias_hh_attr=bias,
    )
    own = {name: getattr(layer, name) for name in weights}
    for name, array in weights.items():
        own[name].set_value(array)
    padded = with_zeros(x, lengths, config.batch_first)
    given, start = (paddle.to_tensor(array, stop_gradient=False) for array in (padded, h0))
    lengths = None if lengths is None else paddle.to_tensor(lengths)
    output, h_n = layer(given, start, lengths)
    arrays = output.numpy(), h_n.numpy()
    if not cotangents:
        return arrays
    returned = {"output": output, "h_n": h_n}
    read = [name for name in returned if f"{name}.grad" in cotangents]
    heads = [paddle.to_tensor(cotangents[f"{name}.grad"]) for name in read]
    sources = {"x": given, "h0": start, **own}
    found = paddle.grad([returned[name] for name in read], list(sources.values()), heads, allow_unused=True)
    gradients = zip(sources.items(), found, strict=True)
    return *arrays, {n: (paddle.zeros_like(s) if g is None else g).numpy() for (n, s), g in gradients}


def subject() -> FunctionSubject:
    """Return the subject ``paddle:layer``."""
    return subject_of("paddle:layer", "paddle", ("paddlepaddle",), with_zeros, by_paddle)
