"""The subjects that run other libraries' layers, and how a script runs the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from harness.space.contract import PORT
from harness.subjects.capabilities import Recipe
from harness.subjects.extras import installed
from harness.subjects.function import FunctionSubject
from harness.subjects.runtimes import flax, keras, mlx, ncnn, padding, paddle


def _subject(
    name: str, extra: str, packages: tuple[str, ...], functions: tuple[Any, ...], **offers: Any
) -> FunctionSubject:
    """Return the subject of the last of some functions, whose texts are all that a script needs.

    It ``offers`` the plain way of calling: a library copies what it is given, and keeps nothing of a call.
    """
    software = installed(name, *packages, extra=extra)
    *_, run = functions
    texts = [inspect.getsource(function).strip("\n") for function in functions]
    lines = "\n\n\n".join(["from functools import lru_cache\nfrom typing import Any", *texts])
    subject = FunctionSubject(_offering(run, offers), name, Recipe(run.__name__, tuple(lines.split("\n"))))
    subject.capabilities = replace(subject.capabilities, ground={"software": software})
    return subject


def _offering(run: Callable[..., Any], offers: dict[str, Any]) -> Callable[..., Any]:
    """Return a function of a library with what it is asked for, which it declares as any function may."""
    declared: Any = run
    declared.contract = PORT
    declared.offers = {"strides": ("contiguous",), "preparation": ("new",), **offers}
    return run


def by_flax() -> FunctionSubject:
    """Return the subject ``jax:flax``: Flax's ``nnx.RNN`` and ``nnx.Bidirectional``."""
    functions = (padding.with_zeros, flax.flax_function, flax.by_flax)
    return _subject("jax:flax", "jax", ("flax", "jax", "jaxlib"), functions, num_layers=(1, 1, 2))


def by_keras() -> FunctionSubject:
    """Return the subject ``keras:torch``: Keras' ``SimpleRNN`` and ``Bidirectional`` on the torch backend."""
    return _subject("keras:torch", "keras", ("keras", "torch"), (padding.with_zeros, keras.by_keras))


def by_paddle() -> FunctionSubject:
    """Return the subject ``paddle:layer``: PaddlePaddle's ``SimpleRNN``."""
    return _subject("paddle:layer", "paddle", ("paddlepaddle",), (padding.with_zeros, paddle.by_paddle))


def by_mlx() -> FunctionSubject:
    """Return the subject ``mlx:cpu``: a stack of MLX's ``RNN`` on the CPU."""
    return _subject("mlx:cpu", "mlx", ("mlx", "mlx-cpu"), (mlx.by_mlx,))


def by_ncnn() -> FunctionSubject:
    """Return the subject ``ncnn:cpu``: a net of ncnn's layers ``RNN`` on the CPU."""
    return _subject("ncnn:cpu", "ncnn", ("ncnn",), (ncnn.by_ncnn,))
