"""function_module: a function with a signature of its own as a class of modules, whose parameters are its arguments.

What each argument is, is told by its name as far as x, states and biases go, and otherwise by its shape: of the shapes
that the weights may have, the first with which they are one layer's and a call answers as a layer does are taken.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from itertools import product, tee
from traceback import walk_tb
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from harness.space.cells import CELL_OF, CELLS
from harness.subjects.axes import INPUT_ORDERS, in_order, mapped
from harness.subjects.class_form import ModuleSizes
from harness.subjects.length_argument import LENGTH_KINDS, with_all_steps
from harness.subjects.line_runs import progress_of
from harness.subjects.numpy_back import NO_ARGUMENTS, NumpyBackward, called, in_numpy
from harness.subjects.parameters_by_shape import TELLING_SIZES, layers_of
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.run_user_code import raised, with_place
from harness.subjects.signature import OF_STEPS, STATE_WORDS, STATES_OF_C

# The words in the names of arguments that are x, weights in one argument, and a size.
X_WORDS: Final = {"x", "xs", "input", "inputs", "seq", "sequence", "data", "inp", "xt", "batch"}
WEIGHT_CONTAINER_WORDS: Final = {"params", "parameters", "weights", "param", "w", "p", "theta"}
CONFIG: Final = "config"  # a function that takes it takes our arguments: no array has this name
SIZE: Final = {"size", "dim", "units", "n"}

NAMED_KINDS: Final = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
OUTPUTS: Final = 7  # of an output layer

_WORD: Final = re.compile(r"[A-Za-z]+\d*")
# The most weights whose shapes are tried one by one: those of a layer with an output layer, as W, U, V, b and c. There
# are 7 ** _MOST ways. Of more weights, those whose names differ in the end alone are alike.
_MOST: Final = 5

Shape = tuple[str, ...]  # its sizes: I, H, G * H as R, or both as B
_MATRICES: Final[tuple[Shape, ...]] = (("R", "I"), ("I", "R"), ("R", "H"), ("H", "R"), ("R", "B"), ("B", "R"))
_VECTORS: Final[tuple[Shape, ...]] = (("R",), ("1", "R"), ("R", "1"))


class _Anything:
    """A stand-in for an array. Each operation on it returns it, so a function runs before its arrays are known."""

    dtype: Final = None  # which stands for the usual one where new arrays are made

    def __init__(self, *shape: int) -> None:
        self.shape, self.ndim = shape, len(shape)

    def _itself(self, *_: Any, **__: Any) -> Any:
        return self

    __array_ufunc__ = __array_function__ = __call__ = __getitem__ = __add__ = __radd__ = __sub__ = __rsub__ = _itself
    __mul__ = __rmul__ = __matmul__ = __rmatmul__ = __truediv__ = __rtruediv__ = __neg__ = __pow__ = __rpow__ = _itself
    __lt__ = __le__ = __gt__ = __ge__ = _itself

    def __setitem__(self, *_: Any) -> None: ...

    def __array__(self, *_: Any, **__: Any) -> Any:
        return np.zeros(())  # which fits wherever it is written

    def __len__(self) -> int:
        return len(self.shape)

    def __iter__(self) -> Iterator[Any]:
        return iter([self])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> Any:
        return cls(3, 3)


class _Signature(NamedTuple):
    x: str
    states: tuple[str, ...]
    weights: tuple[str, ...]  # its arguments, or what one argument holds
    container_argument: str = ""  # the argument that holds them
    by_key: bool = False  # it is a dict
    sizes: tuple[str, ...] = ()  # the arguments that are hidden_size
    zeros: str = ""  # the argument that is one of two states: it is given zeros, as the other cannot be given
    batch: int = 1  # the axis of x along which these zeros are as long
    of_steps: str = ""  # the argument without a default that says how many steps count


def modules_of_function(function: Callable[..., Any]) -> Iterator[type[torch.nn.Module]]:
    """Yield classes of modules that call a function, for NumPy arrays and for tensors, with weights of other shapes."""
    ways = [(signature, tee(_readable(signature), 1)[0]) for signature in _signatures(function)]
    for axes, (signature, readable), numpy in product(INPUT_ORDERS, ways, (True, False)):
        for shapes, gates in copy(readable):  # from its begin, and no further than anybody reads
            module = _module_of(function, signature, shapes, gates, axes, numpy=numpy)
            if _can_be_called(module, signature):
                yield module


def _can_be_called(module: type[torch.nn.Module], signature: _Signature) -> bool:
    """Tell whether some call on x, of a sequence or a step, with its states, succeeds and returns a tensor."""
    for call in _calls(module, signature, ((4, 2), (4,), ())):
        with suppress(Exception), np.errstate(all="ignore"), torch.no_grad():
            tensors: list[torch.Tensor] = []
            mapped(call(), tensors.append)
            return bool(tensors)
    return False


def _calls(
    module: type[torch.nn.Module], signature: _Signature, axes: Sequence[tuple[int, ...]]
) -> Iterator[Callable[[], Any]]:
    """Yield calls on x, with some axes before its features, and on states."""
    made, H = module(*TELLING_SIZES[0][:2]), TELLING_SIZES[0].hidden_size
    of_x = [torch.zeros(*before, TELLING_SIZES[0].input_size) for before in axes]
    of_states = [torch.zeros(*before, H) for before in ((2,), (4,), (1, 2), (1, 4), (), (1,))]
    states = [(), *([state] * len(signature.states) for state in of_states if signature.states)]
    calls: list[Callable[..., Any]] = [made]
    if name := signature.of_steps:  # of sequences; a mask of the padding can be taken where one of the steps can
        kinds = product([kind for kind in LENGTH_KINDS if "padding" not in kind], (False, True))
        calls = [partial(with_all_steps, made, (name, kind), batch_first) for kind, batch_first in kinds]
        of_x = of_x[:1]
    for x, given, call in product(of_x, states, calls):
        yield partial(call, x, *given)


class _FailedCall(NamedTuple):
    """A call that raised an error, by how likely it is that the call was as the function wants to be called."""

    rank: tuple[Any, ...]
    message: str
    given: Mapping[str, Any]


def likeliest_failure(function: Callable[..., Any], cell: str) -> str:
    """Say what the likeliest call on a batch of sequences raises, where, and of which shapes its arguments are.

    Of the calls with arrays of a layer, that is the one in which weights have the shapes that nn.RNN's letters in their
    names mean, ``ih`` and ``hh``. Without such letters, it is the one that runs furthest, of all with the gates of a
    cell first. Nothing is said if a call that is as likely succeeds, or, without such letters, any call.
    """
    best: _FailedCall | None = None
    ways = [(signature, [*_readable(signature)]) for signature in _signatures(function)]
    succeeds = {False: False, True: False}  # by whether the letters say the shapes
    for axes, (signature, readable), numpy in product(INPUT_ORDERS, ways, (True, False)):
        for shapes, gates in readable:
            module, named = _module_of(function, signature, shapes, gates, axes, numpy=numpy), _are_as_named(shapes)
            for call in _calls(module, signature, ((4, 2),)):
                with np.errstate(all="ignore"), torch.no_grad():
                    progress, error = progress_of(call, function.__code__.co_filename)
                succeeds[named] |= error is None
                given = {} if error is None else _given_by(error, module)
                if error is None or not progress:  # it does not take so many arguments
                    continue
                rank = (named, progress, CELL_OF[gates] == cell)
                if best is None or rank > best.rank:
                    best = _FailedCall(rank, with_place(raised(error), function.__code__.co_filename), given)
    if best is None or succeeds[True] or (any(succeeds.values()) and not best.rank[0]):
        return ""
    return f"{best.message}\n  called with {', '.join(f'{name} {_shape(given)}' for name, given in best.given.items())}"


def _are_as_named(shapes: Mapping[str, Shape]) -> bool:
    """Tell whether weights by input and state are those whose names have nn.RNN's letters, and both are there."""
    of_size = {"ih": "I", "hh": "H"}
    meant = {name: [size for letters, size in of_size.items() if letters in name.lower()] for name in shapes}
    matrices = [(shape, *meant[name]) for name, shape in shapes.items() if shape in _MATRICES and meant[name]]
    return {size for _, size in matrices} == {"I", "H"} and all(size in shape for shape, size in matrices)


def _given_by(error: Exception, module: Any) -> Mapping[str, Any]:
    """Return what a function was given by a call that raised an error, by name."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if frame.f_code is module.run.__code__]
    return frames[0].f_locals["given"] if frames else {}


def _shape(value: Any) -> str:
    """Say of which shape an array is, or each of those that are held, and anything else as it is."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name!r}: {_shape(part)}' for name, part in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_shape, value))}]"
    return str(tuple(value.shape)) if hasattr(value, "shape") else repr(value)


def _readable(signature: _Signature) -> Iterator[tuple[dict[str, Shape], int]]:
    """Yield the shapes of weights that are those of one layer, and the number of its gates."""
    # From many gates to few: three rows of a GRU may be taken for one row of three units, but not the reverse.
    for gates, shapes in product(sorted(CELL_OF, reverse=True), _shapes(signature.weights)):
        if signature.zeros and len(CELLS[CELL_OF[gates]].hidden) < 2:
            continue
        with suppress(SubjectUnavailable):
            layers = layers_of(_sized(shapes, gates, TELLING_SIZES[0]), TELLING_SIZES[0], "")
            if layers.roles.conventions.cell == CELL_OF[gates] and layers.number == 1:
                yield shapes, gates


def _sized(shapes: Mapping[str, Shape], gates: int, sizes: ModuleSizes) -> dict[str, tuple[int, ...]]:
    alone = sum(shape in _MATRICES for shape in shapes.values()) > 2  # a matrix for each gate
    rows = sizes.hidden_size * (1 if alone else gates)
    both = sizes.input_size + sizes.hidden_size
    values = {"I": sizes.input_size, "H": sizes.hidden_size, "B": both, "R": rows, "O": sizes.output_size, "1": 1}
    return {name: tuple(values[size] for size in shape) for name, shape in shapes.items()}


def _shapes(names: Sequence[str]) -> Iterator[dict[str, Shape]]:
    """Yield the shapes that weights may have, those first in which all are of the layer, and no output layer is."""
    biases = [name for name in names if "b" in name.lower()[:1] or "bias" in name.lower()]
    matrices = [name for name in names if name not in biases]
    yield from _of_layer(matrices, biases)
    for head in product(reversed(matrices), reversed(biases or [""])):
        for layer in _of_layer(*([name for name in names if name not in head] for names in (matrices, biases))):
            turned = not {*layer.values()}.isdisjoint({_MATRICES[1], _MATRICES[5]})
            vector = next((shape for name, shape in layer.items() if name in biases), ("R",))
            shapes = [("H", "O") if turned else ("O", "H"), tuple("O" if size == "R" else size for size in vector)]
            yield layer | dict(zip(head, shapes, strict=False))


def _of_layer(matrices: Sequence[str], biases: Sequence[str]) -> Iterator[dict[str, Shape]]:
    """Yield the shapes of the matrices and biases of a layer; many names that differ in the end have the same shape."""
    many = len(matrices) + len(biases) > _MOST
    groups = {name: re.sub(r"[A-Za-z]\d*$", "", name) or name if many else name for name in matrices}
    every = list(dict.fromkeys(groups.values()))
    for vector in _VECTORS:
        choices = sorted(product((*_MATRICES, vector), repeat=len(every)), key=lambda chosen: chosen.count(vector))
        for chosen in choices:  # a bias may have another name, which is tried last
            if _is_layer({*chosen} - {vector}):
                by_group = dict(zip(every, chosen, strict=True))
                yield {**{name: by_group[group] for name, group in groups.items()}, **dict.fromkeys(biases, vector)}


def _is_layer(shapes: set[Shape]) -> bool:
    """Tell whether matrices of some shapes may be those of a layer, all of them turned or none."""
    return shapes in ({_MATRICES[0], _MATRICES[2]}, {_MATRICES[1], _MATRICES[3]}, {_MATRICES[4]}, {_MATRICES[5]})


def _signatures(function: Callable[..., Any]) -> Iterator[_Signature]:
    """Yield what the arguments of a function may be; what may be a second state may be a weight.

    A function that takes one of two states starts the other from zeros.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    needed = [arg.name for arg in parameters if arg.default is arg.empty and arg.kind in NAMED_KINDS]
    for name in [*filter(OF_STEPS.search, needed)] or [""]:
        if (signature := _signature(function, name)) is not None and CONFIG not in signature.weights:
            yield from _with_fewer_states(function, signature)


def _with_fewer_states(function: Callable[..., Any], signature: _Signature) -> Iterator[_Signature]:
    """Yield what the arguments may be, with all that may be states, and with fewer of them."""
    yield signature
    if len(signature.states) > 1 and not signature.container_argument:
        order = [name for name in inspect.signature(function).parameters if name != signature.x]
        first, *others = signature.states
        weights = tuple(name for name in order if name in {*signature.weights, *others})
        yield signature._replace(states=(first,), weights=weights)
    if len(signature.states) == 1:
        alone = signature._replace(states=(), zeros=signature.states[0])
        yield from (alone, alone._replace(batch=0))


def _signature(function: Callable[..., Any], of_steps: str) -> _Signature | None:
    parameters = [arg for name, arg in inspect.signature(function).parameters.items() if name != of_steps]
    words = {arg.name: {word.lower() for word in _WORD.findall(arg.name)} for arg in parameters}
    needed = [arg.name for arg in parameters if arg.default is arg.empty and arg.kind in NAMED_KINDS]
    first = next((name for name in needed if not words[name] & (STATE_WORDS | STATES_OF_C)), "")
    x = next((name for name in needed if words[name] & X_WORDS), first)
    states = [arg.name for arg in parameters if words[arg.name] & (STATE_WORDS | STATES_OF_C) and arg.name != x]
    states = [name for name in states if not words[name] & (SIZE | {"w", "u", "b", "bias", "weight"})]
    rest = [name for name in needed if name not in {x, *states}]
    optional = [arg.name for arg in parameters if arg.default is None and words[arg.name] & {"b", "bias"}]
    sizes = tuple(name for name in rest if words[name] & SIZE and words[name] & {"h", "hidden", "units", "size"})
    rest = [name for name in rest if name not in sizes]
    if not x or not rest:
        return None
    if len(rest) == 1:
        others = dict.fromkeys(states, _Anything(2, 3)) | dict.fromkeys(sizes, 3)
        others |= dict.fromkeys([of_steps] * bool(of_steps), _Anything(2))
        held, by_key = _held(function, x, others, rest[0])
        if held:
            return _Signature(x, tuple(states), held, rest[0], by_key, sizes, of_steps=of_steps)
        if words[rest[0]] & WEIGHT_CONTAINER_WORDS:
            return None
    return _Signature(x, tuple(states), (*rest, *optional), sizes=sizes, of_steps=of_steps)


def _held(
    function: Callable[..., Any], x: str, arguments: Mapping[str, Any], name: str
) -> tuple[tuple[str, ...], bool]:
    """Return the names of what one argument holds, by the keys that a call asks for, or as the source unpacks it."""
    keys = max((_keys_of(function, name, {**arguments, x: _Anything(*of_x)}) for of_x in ((4, 2, 5), (4, 5))), key=len)
    if keys:
        return tuple(keys), True
    with suppress(OSError, TypeError, SyntaxError):
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id == name:
                [target] = node.targets
                if isinstance(target, ast.Tuple | ast.List):
                    return tuple(element.id for element in target.elts if isinstance(element, ast.Name)), False
    return (), False


def _keys_of(function: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return the keys that a call asks an argument for, one after the other."""
    keys: dict[str, Any] = {}
    for _ in range(64):
        try:
            function(**arguments, **{name: keys})
        except KeyError as error:
            key = error.args[0] if error.args else None
            if not isinstance(key, str) or key in keys:
                break
            keys[key] = _Anything(3, 3)
        except Exception:  # noqa: BLE001 - it knows what it was given
            break
        else:
            break
    return [*keys]


def _module_of(
    function: Callable[..., Any],
    signature: _Signature,
    shapes: Mapping[str, Shape],
    gates: int,
    order: str,
    *,
    numpy: bool,
) -> type[torch.nn.Module]:
    class FunctionModule(torch.nn.Module):
        """The module of a function."""

        in_numpy, axes = numpy, order
        back: NumpyBackward | None = None  # its own way back, once that is known

        def __init__(self, input_size: int, hidden_size: int) -> None:
            super().__init__()
            self._size = hidden_size
            sized = _sized(shapes, gates, ModuleSizes(input_size, hidden_size, OUTPUTS))
            for name in signature.weights:  # in their order, which may tell which bias is which
                self.register_parameter(name, torch.nn.Parameter(torch.empty(sized[name])))

        def forward(self, *arguments: Any, **more: Any) -> Any:
            if len(arguments) > 1 + len(signature.states) or not {*more} <= {arg.name for arg in beside}:
                raise TypeError("more arguments than it takes")
            own = dict(self.named_parameters())
            if numpy:
                return called(partial(self.run, more=in_numpy(more)), arguments, own, order, self.back)
            _, returned = self.run(mapped(arguments, lambda tensor: in_order(tensor, order)), own, more)
            return mapped(returned, lambda tensor: in_order(tensor, order, back=True))

        def run(self, arguments: Any, own: dict[str, Any], more: Mapping[str, Any] = NO_ARGUMENTS) -> tuple[Any, Any]:
            """Return the object that is called, if there is one, and what a call returns."""
            named = own
            if signature.container_argument:
                named = {
                    signature.container_argument: own if signature.by_key else [own[name] for name in signature.weights]
                }
            named |= dict.fromkeys(signature.sizes, self._size)
            if signature.zeros:
                arguments = (*arguments, self._zeros(arguments[0]))
            names = (signature.x, *(signature.states or [signature.zeros]))
            given = {**dict(zip(names, arguments, strict=False)), **named, **more}
            returned = function(**given)
            return getattr(function, "holder", None), returned

        def _zeros(self, x: Any) -> Any:
            rows = x.shape[order.index("TN"[signature.batch])]
            shape = (self._size, rows) if order.index("I") < order.index("N") else (rows, self._size)
            return np.zeros(shape, x.dtype) if numpy else x.new_zeros(shape)

    parameters = inspect.signature(function).parameters
    used = {
        signature.x,
        *signature.states,
        signature.zeros,
        *signature.weights,
        signature.container_argument,
        *signature.sizes,
    }
    beside = [
        arg.replace(kind=arg.KEYWORD_ONLY)
        for arg in parameters.values()
        if arg.name not in used
        and arg.kind in NAMED_KINDS
        and (arg.default is not arg.empty or arg.name == signature.of_steps)
    ]
    taken = [parameters[name] for name in (signature.x, *signature.states)]
    self_ = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [arg.replace(kind=arg.POSITIONAL_OR_KEYWORD) for arg in taken]
    needed.sort(key=lambda arg: arg.default is not arg.empty)
    FunctionModule.forward.__signature__ = inspect.Signature([self_, *needed, *beside])  # type: ignore[attr-defined]
    FunctionModule.function = staticmethod(function)  # type: ignore[attr-defined]
    FunctionModule.__name__, FunctionModule.__qualname__ = function.__name__, function.__qualname__
    return FunctionModule
