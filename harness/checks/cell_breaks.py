"""Breaks of calls of ``nn.RNNCell``: those of ``nn.RNN`` that a cell can have, too, and its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from harness.checks.breaks import ANY, BREAKS, OBJECT, TYPE, VALUE, Break, Variant, Variants
from harness.subjects.answer import Stage
from harness.subjects.call import Base, ByHand, Call, Code, Form, code_of

_SHARED: Final = frozenset(
    (
        *(f"{size} {wrong}" for size in ("input_size", "hidden_size") for wrong in ("below 1", "no int")),
        *("bias no bool", "nonlinearity unknown", "nonlinearity no name"),
        *("argument unknown", "argument missing", "dtype", "device"),
        *("x: features", "x: dtype", "x: no tensor", "x: device"),
        *("hx: batch", "hx: batch of 1", "hx: features", "hx: dtype", "hx: no tensor", "hx: device"),
        *(f"{role}: shape" for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
        *("parameter: dtype", "parameter: device"),
    )
)
"""The names of the breaks that are those of ``nn.RNN``."""

_OF_LAYERS: Final[dict[str, Any]] = {
    "num_layers": 1,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "proj_size": 0,
}


def _layers(_base: Base, call: Call) -> Variants:
    for name, value in _OF_LAYERS.items():
        yield Variant(f"{name}={code_of(value)}", call.with_arguments(**{name: value}), ((name,),))


def _internal(_base: Base, call: Call) -> Variants:
    yield Variant("num_chunks=1", call.with_arguments(num_chunks=1), (("num_chunks",),))


def _x_rank(base: Base, call: Call) -> Variants:
    batch = (1,) if base.form is Form.UNBATCHED else ()
    for wrong in ((1, *batch, *base.x.shape), ()):
        yield Variant(f"x of {len(wrong)} dimensions", call.replace(x=base.tensor(*wrong)), ((str(len(wrong)),),))


def _x_packed(base: Base, call: Call) -> Variants:
    sizes = Code(f"torch.tensor([{base.config.N}])")
    yield Variant("x is a PackedSequence", call.replace(packing=ByHand(sizes)))


def _hx_rank(base: Base, call: Call) -> Variants:
    *batch, features = base.hx.shape
    of_another = ((features,),) if batch else ((1, features), (features, features))
    for shape in (*of_another, (1, *(batch or [1]), features), ()):
        fact = (str(len(shape)), str(shape), str(list(shape)))
        yield Variant(f"hx of {len(shape)} dimensions", call.replace(hx=base.tensor(*shape)), (fact,))


def _weight_none(_base: Base, call: Call) -> Variants:
    # Without both biases a cell is one with bias=False, and nothing is documented of a cell without one of them.
    for name in ("weight_hh", "weight_ih"):
        yield Variant(f"{name}=None", call.replace(parameters={name: None}))


def _own() -> Iterator[Break]:
    ctor, call = Stage.CONSTRUCTOR, Stage.CALL
    yield Break("argument of a layer", ("unknown",), ctor, TYPE, _layers)
    yield Break("argument internal", ("unknown",), ctor, TYPE, _internal)
    yield Break("x: rank", ("x",), call, VALUE, _x_rank)
    yield Break("x: packed", ("x", "packing"), call, OBJECT, _x_packed, (Form.BATCHED,))
    yield Break("hx: rank", ("hx",), call, VALUE, _hx_rank)
    yield Break("parameter: None", ("parameters",), call, ANY, _weight_none)


def _alone(kind: Break) -> Break:
    """Return the break, not combined with one of x or hx if it is of a parameter.

    A cell compares x, hx and its parameters with each other and not with its arguments, so that two may fit.
    """
    of_parameter = kind.stage is Stage.CALL and "parameters" in kind.parts
    return replace(kind, parts=(*kind.parts, "x", "hx")) if of_parameter else kind


CELL_BREAKS: Final = tuple(map(_alone, (*(kind for kind in BREAKS if kind.name in _SHARED), *_own())))
