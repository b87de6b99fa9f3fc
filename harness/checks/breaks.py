"""Breaks: ways to break a well-formed call, each with the stage, the exceptions and the facts of its refusal.

A call must be refused if it has no documented meaning. The message must carry certain facts, such as names and both
numbers of a mismatch, in any words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from harness.subjects.answer import Stage
from harness.subjects.call import Base, ByHand, Call, Code, Form, Packing, Tensor, code_of

Fact = tuple[str, ...]
"""A fact that a message must carry, given as alternative words or numbers."""

VALUE: Final = ("ValueError", "RuntimeError")
TYPE: Final = ("TypeError", "ValueError")
OBJECT: Final = ("TypeError", "ValueError", "AttributeError")
"""The exceptions for a value that is not a tensor, which may fail at the first attribute that it lacks."""

ANY: Final = ("TypeError", "ValueError", "RuntimeError", "IndexError", "AttributeError")
"""The exceptions for a call that no documentation gives a meaning to and that no documentation says who refuses."""

LATER: Final = ("TypeError", "ValueError", "RuntimeError")
"""The exceptions for a refusal at a later stage than possible, which then has another reason."""

_PADDED: Final = (Form.BATCHED, Form.UNBATCHED)
_DTYPES: Final = {
    "float32": ("float32", "Float"),
    "float64": ("float64", "Double"),
    "float16": ("float16", "Half"),
    "bfloat16": ("bfloat16",),
    "int64": ("int64", "Long"),
    "bool": ("bool",),
    "complex64": ("complex64", "ComplexFloat", "complex<float>"),
}
_NAMES: Final = {**_DTYPES, "complex128": ("complex128", "ComplexDouble", "complex<double>")}


class Variant(NamedTuple):
    """A call broken in one way: what is wrong in it, the call, and the facts that a refusal must mention."""

    label: str
    call: Call
    facts: tuple[Fact, ...] = ()


Variants = Iterator[Variant]


@dataclass(frozen=True)
class Break:
    """One way to break a call, in several variants, plainest first.

    ``variants(base, call)`` breaks ``call``, which is ``base``'s own call, or one with other parts broken already.
    """

    name: str
    parts: tuple[str, ...]
    """The parts of a call that it changes; two breaks that share a part cannot be combined."""
    stage: Stage
    """The earliest stage that can see the mistake and should refuse it; a later refusal is only remarked on."""
    raises: tuple[str, ...]
    variants: Callable[[Base, Call], Variants]
    forms: tuple[Form, ...] = tuple(Form)


@dataclass(frozen=True)
class Broken:
    """A call broken once, or twice in different parts, together with the well-formed call that it was."""

    base: Base
    breaks: tuple[tuple[Break, Variant], ...]

    @property
    def call(self) -> Call:
        """The malformed call."""
        return self.breaks[-1][1].call

    @property
    def kinds(self) -> tuple[Break, ...]:
        """The breaks without their variants."""
        return tuple(kind for kind, _ in self.breaks)

    @property
    def name(self) -> str:
        """The names of the breaks."""
        return " + ".join(kind.name for kind in self.kinds)

    @property
    def label(self) -> str:
        """A description of what is wrong in the call."""
        return "; ".join(variant.label for _, variant in self.breaks)


def broken(base: Base, kinds: tuple[Break, ...]) -> Iterator[Broken]:
    """Yield every call that ``kinds`` make of ``base``, plainest first; none if a kind does not apply to it."""
    yield from _broken(base, kinds, base.call, ())


def _broken(
    base: Base, kinds: tuple[Break, ...], call: Call, done: tuple[tuple[Break, Variant], ...]
) -> Iterator[Broken]:
    if not kinds:
        yield Broken(base, done)
        return
    kind, *others = kinds
    if base.form in kind.forms:
        for variant in kind.variants(base, call):
            yield from _broken(base, tuple(others), variant.call, (*done, (kind, variant)))


def carries(message: str, fact: Fact) -> bool:
    """Return whether a message carries a fact: numbers as whole numbers, words in any case."""
    return any(re.search(rf"(?<!\d){re.escape(word)}(?!\d)", message, re.IGNORECASE) for word in fact)


def _argument(name: str, *values: Any) -> Callable[[Base, Call], Variants]:
    """Return variants that give a constructor argument each of these values, which it cannot have."""

    def variants(base: Base, call: Call) -> Variants:
        for value in values:
            broken = _fitted(base, call, name, value).with_arguments(**{name: value})
            yield Variant(f"{name}={code_of(value)}", broken, ((name,),))

    return variants


def _fitted(base: Base, call: Call, name: str, value: Any) -> Call:
    """Return the call with x and hx fitted to a wrong size, so that nothing but the argument itself is wrong."""
    if not isinstance(value, int | float) or value < 0:
        return call
    if name == "input_size":
        return call.replace(x=base.tensor(*base.x.shape[:-1], int(value)))
    if call.hx is None:
        return call
    if name == "hidden_size":
        return call.replace(hx=base.tensor(*base.hx.shape[:-1], int(value)))
    if name == "num_layers":
        _, *batch, features = base.hx.shape
        return call.replace(hx=base.tensor(int(value) * base.config.num_directions, *batch, features))
    return call


def _missing(_base: Base, call: Call) -> Variants:
    for name in ("hidden_size", "input_size"):
        rest = {other: value for other, value in call.arguments.items() if other != name}
        yield Variant(f"no {name}", call.replace(arguments=rest), ((name,),))


def _nonlinearity(_base: Base, call: Call) -> Variants:
    for value in ("sigmoid", "TANH", ""):
        yield Variant(f"nonlinearity={value!r}", call.with_arguments(nonlinearity=value), ((value or "nonlinearity",),))


def _dtype(_base: Base, call: Call) -> Variants:
    for value in (Code("torch.int64"), Code("torch.bool"), "float32"):
        yield Variant(f"dtype={code_of(value)}", call.with_arguments(dtype=value), (("dtype", "float"),))


def _device(_base: Base, call: Call) -> Variants:
    yield Variant("device='bogus'", call.with_arguments(device="bogus"), (("bogus",),))


def _x_rank(base: Base, call: Call) -> Variants:
    shape = base.x.shape
    by_form = {
        Form.BATCHED: (shape[2:], (1, *shape), ()),
        Form.UNBATCHED: (shape[1:], (1, 1, *shape), ()),
        Form.PACKED: (shape[1:], (1, *shape), ()),
        Form.BY_HAND: (shape[1:], (1, *shape)),
    }
    for wrong in by_form[base.form]:
        # Packing counts this dimension as the number of sequences.
        facts = () if base.form is Form.PACKED else ((str(len(wrong)),),)
        yield Variant(f"x of {len(wrong)} dimensions", call.replace(x=base.tensor(*wrong)), facts)


def _x_features(base: Base, call: Call) -> Variants:
    size = base.config.input_size
    for wrong in _others(size):
        x = base.tensor(*base.x.shape[:-1], wrong)
        yield Variant(f"x of {wrong} features for {size}", call.replace(x=x), ((str(size),), (str(wrong),)))


def _x_dtype(base: Base, call: Call) -> Variants:
    for dtype, facts in _other_dtypes(base):
        yield Variant(f"x of {dtype}", call.replace(x=Tensor(base.x.shape, dtype, base.config.device)), facts)


def _x_object(base: Base, call: Call) -> Variants:
    for what, value in _no_tensors(base.x):
        yield Variant(f"x is {what}", call.replace(x=value))
    yield Variant("x is None", call.replace(x=None))


def _x_device(base: Base, call: Call) -> Variants:
    yield Variant("x on meta", call.replace(x=Tensor(base.x.shape, base.x.dtype, "meta")), (("device",),))


def _no_steps(base: Base, call: Call) -> Variants:
    empty = Base(base.config, base.form).x.shape
    batch_first = base.config.batch_first and base.form is not Form.UNBATCHED
    empty = (empty[0], 0, *empty[2:]) if batch_first else (0, *empty[1:])
    yield Variant("T=0", call.replace(x=base.tensor(*empty)), (("sequence length", "empty", "zero", "0"),))


def _hx_rank(base: Base, call: Call) -> Variants:
    rows, *batch, features = base.hx.shape
    shapes = ((rows, 1, features), (features,)) if not batch else ((*batch, features), (1, *base.hx.shape), (features,))
    for shape in shapes:
        fact = (str(len(shape)), str(shape), str(list(shape)))
        yield Variant(f"hx of {len(shape)} dimensions", call.replace(hx=base.tensor(*shape)), (fact,))


def _hx_rows(base: Base, call: Call) -> Variants:
    rows, *rest = base.hx.shape
    layers = base.config.num_layers
    for wrong in dict.fromkeys((*_others(rows), *((layers,) if base.config.bidirectional else ()))):
        hx = base.tensor(wrong, *rest)
        yield Variant(f"hx of {wrong} rows for {rows}", call.replace(hx=hx), ((str(rows),), (str(wrong),)))


def _hx_batch(base: Base, call: Call) -> Variants:
    yield from (_hx_of_batch(base, call, wrong) for wrong in _others(base.config.N) if wrong > 1)


def _hx_batch_of_one(base: Base, call: Call) -> Variants:
    if base.config.N > 1:
        yield _hx_of_batch(base, call, 1)


def _hx_of_batch(base: Base, call: Call, wrong: int) -> Variant:
    *rows, batch, features = base.hx.shape
    facts = ((str(batch),), (str(wrong),))
    return Variant(f"hx of batch {wrong} for {batch}", call.replace(hx=base.tensor(*rows, wrong, features)), facts)


def _hx_features(base: Base, call: Call) -> Variants:
    *rest, size = base.hx.shape
    for wrong in _others(size):
        hx = base.tensor(*rest, wrong)
        yield Variant(f"hx of {wrong} features for {size}", call.replace(hx=hx), ((str(size),), (str(wrong),)))


def _hx_batch_first(base: Base, call: Call) -> Variants:
    rows, batch, features = base.hx.shape
    if rows != batch:
        facts = ((str(batch),), (str(rows),))
        yield Variant("hx batch first", call.replace(hx=base.tensor(batch, rows, features)), facts)


def _hx_dtype(base: Base, call: Call) -> Variants:
    for dtype, facts in _other_dtypes(base):
        yield Variant(f"hx of {dtype}", call.replace(hx=Tensor(base.hx.shape, dtype, base.config.device)), facts)


def _hx_object(base: Base, call: Call) -> Variants:
    state = code_of(base.hx)
    yield Variant("hx is a tuple of two, as for an LSTM", call.replace(hx=Code(f"({state}, {state})")))
    for what, value in _no_tensors(base.hx):
        yield Variant(f"hx is {what}", call.replace(hx=value))


def _hx_device(base: Base, call: Call) -> Variants:
    yield Variant("hx on meta", call.replace(hx=Tensor(base.hx.shape, base.hx.dtype, "meta")), (("device",),))


def _packing(base: Base, lengths: Any) -> Packing:
    return Packing(lengths, base.enforce_sorted, base.config.batch_first)


def _lengths_values(base: Base, call: Call) -> Variants:
    shortest = base.lengths.index(min(base.lengths))
    for wrong in (0, -1):
        lengths = list(base.lengths)
        lengths[shortest] = wrong
        yield Variant(f"a length of {wrong}", call.replace(packing=_packing(base, lengths)), (("length",),))


def _lengths_number(base: Base, call: Call) -> Variants:
    batch = base.config.N
    for lengths in ((*base.lengths, base.lengths[-1]), base.lengths[:-1]):
        facts = ((str(batch),), (str(len(lengths)),))
        label = f"{len(lengths)} lengths for {batch} sequences"
        yield Variant(label, call.replace(packing=_packing(base, list(lengths))), facts)


def _lengths_order(base: Base, call: Call) -> Variants:
    T, N = base.config.T, base.config.N
    if T > 1 and N > 1:
        packing = Packing([1] * (N - 1) + [T], enforce_sorted=True, batch_first=base.config.batch_first)
        yield Variant("lengths not sorted", call.replace(packing=packing), (("sorted", "decreasing"),))


def _lengths_beyond(base: Base, call: Call) -> Variants:
    longest = base.lengths.index(max(base.lengths))
    for more in (1, 5):
        lengths = list(base.lengths)
        lengths[longest] = wrong = base.config.T + more
        packing = _packing(base, lengths)
        yield Variant(f"a length of {wrong} for T={base.config.T}", call.replace(packing=packing), ((str(wrong),),))


def _lengths_dtype(base: Base, call: Call) -> Variants:
    yield Variant("lengths of floats", call.replace(packing=_packing(base, [float(n) for n in base.lengths])))
    halves = Code(f"torch.tensor({[n + 0.5 for n in base.lengths]})")
    yield Variant("lengths with fractions", call.replace(packing=_packing(base, halves)))
    flags = Code(f"torch.tensor({[True] * base.config.N})")
    yield Variant("lengths of bools", call.replace(packing=_packing(base, flags)))


def _lengths_object(base: Base, call: Call) -> Variants:
    lengths = list(base.lengths)
    for label, wrong in (
        ("lengths of 2 dimensions", Code(f"torch.tensor([{lengths}])")),
        ("lengths of 0 dimensions", Code(f"torch.tensor({lengths[0]})")),
        ("lengths on meta", Code(f"torch.tensor({lengths}, device='meta')")),
    ):
        yield Variant(label, call.replace(packing=_packing(base, wrong)), (("lengths",),))
    yield Variant("lengths is None", call.replace(packing=_packing(base, None)))


def _empty_pack(base: Base, call: Call) -> Variants:
    T, features = base.config.T, base.config.input_size
    nobody = base.tensor(0, T, features) if base.config.batch_first else base.tensor(T, 0, features)
    nothing = base.tensor(*base.x.shape[:-1], 0)
    yield Variant("no sequences to pack", call.replace(x=nobody, packing=_packing(base, [])), (("empty",),))
    yield Variant("no features to pack", call.replace(x=nothing), (("empty",),))


def _sizes_dtype(base: Base, call: Call) -> Variants:
    for dtype in ("int32", "float32"):
        sizes = Code(f"torch.tensor({list(base.batch_sizes)}, dtype=torch.{dtype})")
        yield Variant(f"batch_sizes of {dtype}", call.replace(packing=ByHand(sizes)))


def _sizes_object(base: Base, call: Call) -> Variants:
    sizes = list(base.batch_sizes)
    for label, wrong in (
        ("batch_sizes is a list", sizes),
        ("batch_sizes is None", None),
        ("batch_sizes of 2 dimensions", Code(f"torch.tensor([{sizes}])")),
        ("batch_sizes of 0 dimensions", Code(f"torch.tensor({sum(sizes)})")),
        ("batch_sizes on meta", Code(f"torch.tensor({sizes}, device='meta')")),
    ):
        yield Variant(label, call.replace(packing=ByHand(wrong)))


def _sizes_empty(base: Base, call: Call) -> Variants:
    packing = ByHand(Code("torch.tensor([], dtype=torch.int64)"))
    yield Variant("batch_sizes=[]", call.replace(packing=packing))
    yield Variant("batch_sizes=[] of no data", call.replace(packing=packing, x=base.tensor(0, base.config.input_size)))


def _sizes_increasing(base: Base, call: Call) -> Variants:
    more = base.batch_sizes[-1] + 1
    yield _by_hand(base, call, "batch_sizes that increase", (*base.batch_sizes, more))
    yield _by_hand(base, call, "batch_sizes that fall and rise", (more, 1, more))


def _sizes_sum(base: Base, call: Call) -> Variants:
    rows, *features = base.x.shape
    for more, label in ((1, "more data than batch_sizes say"), (-1, "less data than batch_sizes say")):
        yield Variant(label, call.replace(x=base.tensor(rows + more, *features)))


def _sizes_zero(base: Base, call: Call) -> Variants:
    yield _by_hand(base, call, "batch_sizes that end with 0", (*base.batch_sizes, 0))
    yield _by_hand(base, call, "batch_sizes that start with 0", (0, *base.batch_sizes))
    yield _by_hand(base, call, "batch_sizes=[0]", (0,))


def _sizes_negative(base: Base, call: Call) -> Variants:
    yield _by_hand(base, call, "batch_sizes that end with -1", (*base.batch_sizes, -1))
    yield _by_hand(base, call, "batch_sizes that start with -1", (-1, *base.batch_sizes))
    yield _by_hand(base, call, "batch_sizes that end with -1, which sums do not count", (*base.batch_sizes, -1), 1)


def _by_hand(base: Base, call: Call, label: str, sizes: tuple[int, ...], more: int = 0) -> Variant:
    """Return a variant with a pack of these batch sizes, with as many rows as they say plus ``more``."""
    x = base.tensor(max(sum(sizes) + more, 0), base.config.input_size)
    return Variant(label, call.replace(x=x, packing=ByHand(Code(f"torch.tensor({list(sizes)})"))))


def _indices_range(base: Base, call: Call) -> Variants:
    for wrong, where in ((base.config.N, "beyond the batch"), (-1, "below 0")):
        indices = [*range(base.config.N - 1), wrong]
        yield _indexed(base, call, f"indices {where}", indices)
        yield _indexed(base, call, f"unsorted_indices {where}", list(range(base.config.N)), indices)


def _indices_permutation(base: Base, call: Call) -> Variants:
    if base.config.N > 1:
        yield _indexed(base, call, "indices that repeat", [0] * base.config.N)


def _indices_number(base: Base, call: Call) -> Variants:
    whole = list(range(base.config.N))
    if base.config.N > 1:
        yield _indexed(base, call, "too few indices", whole[:-1])
    yield _indexed(base, call, "too many indices", [*whole, 0])


def _indexed(base: Base, call: Call, label: str, by: list[int], back: list[int] | None = None) -> Variant:
    """Return a variant of a pack with indices to sort and to unsort by.

    Torch gets both, because it cannot derive the second from indices that are no permutation: its result would have
    entries that nothing was written to, and the same call could be refused or not.
    """
    packing = ByHand(
        Code(f"torch.tensor({list(base.batch_sizes)})"),
        Code(f"torch.tensor({by})"),
        Code(f"torch.tensor({by if back is None else back})"),
    )
    return Variant(label, call.replace(packing=packing))


def _parameter_shape(role: str) -> Callable[[Base, Call], Variants]:
    """Return variants that give a parameter shapes it cannot have.

    The parameters are the first and the last one of this role, in the order of ``state_dict``.
    """

    def variants(base: Base, call: Call) -> Variants:
        names = [name for name in base.parameters if name.startswith(role)]
        for name in dict.fromkeys((*names[:1], *names[-1:])):
            shape = base.parameters[name]
            wider, taller = (*shape[:-1], shape[-1] + 1), (shape[0] + 1, *shape[1:])
            single = (1, *shape[1:])
            for wrong in dict.fromkeys((wider, taller, single, ())):
                if wrong != shape:
                    label = f"{name} of shape {wrong} for {shape}"
                    yield Variant(label, call.replace(parameters={name: base.tensor(*wrong)}))

    return variants


def _parameter_none(base: Base, call: Call) -> Variants:
    for name in list(base.parameters)[::-1]:
        yield Variant(f"{name}=None", call.replace(parameters={name: None}))


def _parameter_dtype(base: Base, call: Call) -> Variants:
    other = "float32" if base.config.dtype == "float64" else "float64"
    for name, shape in base.parameters.items():
        yield Variant(f"{name} of {other}", call.replace(parameters={name: Tensor(shape, other)}))


def _parameter_device(base: Base, call: Call) -> Variants:
    for name, shape in base.parameters.items():
        meta = Tensor(shape, base.config.dtype, "meta")
        yield Variant(f"{name} on meta", call.replace(parameters={name: meta}), (("device",),))


def _others(size: int) -> tuple[int, ...]:
    """Return sizes near ``size``; among them is 1, which would broadcast."""
    near = (size + 1, 1, size - 1, 2 * size)
    return tuple(dict.fromkeys(other for other in near if other > 0 and other != size))


def _other_dtypes(base: Base) -> Iterator[tuple[str, tuple[Fact, ...]]]:
    """Return every other dtype, with the facts of its mismatch."""
    own = base.config.dtype
    return ((dtype, (_NAMES[own], names)) for dtype, names in _DTYPES.items() if dtype != own)


def _no_tensors(tensor: Tensor) -> Iterator[tuple[str, Any]]:
    plain = code_of(Tensor(tensor.shape))
    yield "a list", Code(f"{plain}.tolist()")
    yield "an array", Code(f"{plain}.numpy()")
    yield "an int", 0


def _of_the_constructor() -> Iterator[Break]:
    ctor = Stage.CONSTRUCTOR
    touched = {
        "input_size": ("x", "parameters"),
        "hidden_size": ("hx", "parameters"),
        "num_layers": ("hx", "parameters"),
    }
    for name, parts in touched.items():
        yield Break(f"{name} below 1", (name, *parts), ctor, VALUE, _argument(name, 0, -1))
        yield Break(f"{name} no int", (name, *parts), ctor, TYPE, _argument(name, 2.0, "3", None, [3], True))
    for name in ("bias", "batch_first", "bidirectional"):
        yield Break(f"{name} no bool", (name,), ctor, TYPE, _argument(name, 1, 0, 2, None, "yes"))
    nan, inf = Code('float("nan")'), Code('float("inf")')
    yield Break("dropout no probability", ("dropout",), ctor, VALUE, _argument("dropout", 1.1, -0.1, 2, inf, nan))
    numbers = _argument("dropout", None, "0.5", "a", True, False, 1j, Code("torch.tensor(0.5)"))
    yield Break("dropout no number", ("dropout",), ctor, TYPE, numbers)
    yield Break("nonlinearity unknown", ("nonlinearity",), ctor, VALUE, _nonlinearity)
    functions = _argument("nonlinearity", None, 1, Code("torch.tanh"))
    yield Break("nonlinearity no name", ("nonlinearity",), ctor, TYPE, functions)
    yield Break("proj_size", ("proj_size",), ctor, TYPE, _argument("proj_size", 1, 0))
    yield Break("argument unknown", ("unknown",), ctor, TYPE, _argument("momentum", 0.5))
    yield Break("argument internal", ("unknown",), ctor, TYPE, _argument("mode", "LSTM"))
    yield Break("argument missing", ("input_size", "hidden_size"), ctor, TYPE, _missing)
    yield Break("dtype", ("dtype",), ctor, (*TYPE, "RuntimeError"), _dtype)
    yield Break("device", ("device",), ctor, VALUE, _device)


def _of_the_inputs() -> Iterator[Break]:
    call = Stage.CALL
    yield Break("x: rank", ("x",), call, (*VALUE, "IndexError"), _x_rank)
    yield Break("x: features", ("x",), call, VALUE, _x_features)
    yield Break("x: dtype", ("x",), call, (*VALUE, "TypeError"), _x_dtype)
    yield Break("x: no tensor", ("x",), call, OBJECT, _x_object)
    yield Break("x: device", ("x",), call, VALUE, _x_device)
    yield Break("x: no steps", ("x",), call, VALUE, _no_steps, (*_PADDED, Form.PACKED))

    batched = (Form.BATCHED, Form.PACKED, Form.BY_HAND)
    yield Break("hx: rank", ("hx",), call, VALUE, _hx_rank)
    yield Break("hx: layers and directions", ("hx",), call, VALUE, _hx_rows)
    yield Break("hx: batch", ("hx",), call, VALUE, _hx_batch, batched)
    yield Break("hx: batch of 1", ("hx",), call, VALUE, _hx_batch_of_one, batched)
    yield Break("hx: features", ("hx",), call, VALUE, _hx_features)
    yield Break("hx: batch first", ("hx",), call, VALUE, _hx_batch_first, batched)
    yield Break("hx: dtype", ("hx",), call, (*VALUE, "TypeError"), _hx_dtype)
    yield Break("hx: no tensor", ("hx",), call, OBJECT, _hx_object)
    yield Break("hx: device", ("hx",), call, VALUE, _hx_device)


def _of_packs() -> Iterator[Break]:
    call, packing = Stage.CALL, Stage.PACKING
    packed = (Form.PACKED,)
    yield Break("lengths: below 1", ("packing",), packing, VALUE, _lengths_values, packed)
    yield Break("lengths: number", ("packing",), packing, VALUE, _lengths_number, packed)
    yield Break("lengths: order", ("packing",), packing, VALUE, _lengths_order, packed)
    yield Break("lengths: beyond T", ("packing",), packing, VALUE, _lengths_beyond, packed)
    yield Break("lengths: no ints", ("packing",), packing, (*TYPE, "RuntimeError"), _lengths_dtype, packed)
    yield Break("lengths: no list", ("packing",), packing, (*TYPE, "RuntimeError"), _lengths_object, packed)
    yield Break("nothing to pack", ("packing", "x"), packing, VALUE, _empty_pack, packed)

    by_hand = (Form.BY_HAND,)
    yield Break("batch_sizes: dtype", ("packing",), call, ANY, _sizes_dtype, by_hand)
    yield Break("batch_sizes: no list", ("packing",), call, ANY, _sizes_object, by_hand)
    yield Break("batch_sizes: none", ("packing", "x"), call, ANY, _sizes_empty, by_hand)
    yield Break("batch_sizes: increasing", ("packing", "x"), call, ANY, _sizes_increasing, by_hand)
    yield Break("batch_sizes: sum", ("packing", "x"), call, ANY, _sizes_sum, by_hand)
    yield Break("batch_sizes: zero", ("packing", "x"), call, ANY, _sizes_zero, by_hand)
    yield Break("batch_sizes: negative", ("packing", "x"), call, ANY, _sizes_negative, by_hand)
    yield Break("indices: range", ("packing",), call, ANY, _indices_range, by_hand)
    yield Break("indices: no permutation", ("packing",), call, ANY, _indices_permutation, by_hand)
    yield Break("indices: number", ("packing",), call, ANY, _indices_number, by_hand)


def _of_parameters() -> Iterator[Break]:
    call = Stage.CALL
    for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        yield Break(f"{role}: shape", ("parameters",), call, VALUE, _parameter_shape(role))
    yield Break("parameter: None", ("parameters",), call, ANY, _parameter_none)
    yield Break("parameter: dtype", ("parameters",), call, (*VALUE, "TypeError"), _parameter_dtype)
    yield Break("parameter: device", ("parameters",), call, VALUE, _parameter_device)


BREAKS: Final = (*_of_the_constructor(), *_of_the_inputs(), *_of_packs(), *_of_parameters())
