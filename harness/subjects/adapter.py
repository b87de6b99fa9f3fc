"""adapter: how a layer of any form is built, where it keeps its weights, and how it is called, in a user's words."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final

from harness.space.cells import CELL_DEFINITIONS, CELLS, layer_named
from harness.space.config import RNNConfig
from harness.space.errors import UsageError
from harness.space.factor_table import FACTORS, OPTIONS
from harness.subjects.class_form import BOTH, H_FIRST, LAYERS, X_FIRST, Block, ClassForm
from harness.subjects.conventions import Conventions
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.run_user_code import place_of

MARK: Final = "# left by adapt to fill in:"  # what the command writes behind what it could not find out

KEPT_WORD: Final = "kept"  # the word for a parameter that keeps the value with which it was built
ZERO_WORD: Final = "0"

# The places of a number in the name of a parameter: what it counts, and the number of the first.
NUMBER_PLACES: Final = {"{layer}": (LAYERS, 0), "{layer+1}": (LAYERS, 1), "{index}": (BOTH, 0), "{index+1}": (BOTH, 1)}

_TERM: Final = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh)(_reverse)?(?:\[([a-z]+)\])?(\.T)?")
_TERMS: Final = (
    "expected weight_ih, weight_hh, bias_ih or bias_hh; with _reverse for the other direction, [rz] for the rows of "
    "some gates, .T for a matrix turned round; 'weight_ih, weight_hh' for two side by side; 'bias_ih + bias_hh' for a "
    f"sum; or {KEPT_WORD!r} or {ZERO_WORD!r}"
)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A layer of any form, as ``adapt`` takes it."""

    build: Callable[[RNNConfig], Any]
    weights: Mapping[str, str] | None = None
    call: Callable[..., Any] | None = None
    offers: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """The options of the constructor, and the sizes of a call, that ``build`` reads of a config."""
        names: set[str] = set()
        for more in ({}, {"num_layers": 2, "bidirectional": True}):
            with suppress(Exception):  # a build may refuse options; one that never works is refused by its reader
                self.build(_Reads(RNNConfig(5, 3, **more), names))  # type: ignore[arg-type]
        return frozenset(names & {*OPTIONS, "T", "N"})

    @property
    def place(self) -> tuple[str, str] | None:
        """The file that it is made in, and its name there; ``None`` if it has none."""
        place, module = place_of(self.build), sys.modules.get(self.build.__module__)
        names = [name for name, value in vars(module).items() if value is self] if module else []
        return (place[0], names[0]) if place and names else None


def require_filled(function: Any, name: str) -> None:
    """Raise ``SubjectUnavailable`` if something is still to be filled in, in the file of an adapter's function."""
    place = place_of(function)
    lines: list[str] = []
    with suppress(OSError, UnicodeDecodeError):
        lines = [] if place is None else Path(place[0]).read_text("utf-8").splitlines()
    marked = [f"line {i}: {line.partition('#')[2].strip()}" for i, line in enumerate(lines, 1) if MARK in line]
    if marked:
        raise SubjectUnavailable("\n".join([f"{name}: not all is filled in", *marked]))


class _Reads:
    """A config that adds to ``names`` what is read of it."""

    def __init__(self, config: RNNConfig, names: set[str]) -> None:
        self._config, self._names = config, names

    def __getattr__(self, name: str) -> Any:
        self._names.add(name)
        return getattr(self._config, name)


def adapt(
    build: Callable[[RNNConfig], Any],
    weights: Mapping[str, str] | None = None,
    call: Callable[..., Any] | None = None,
    *,
    offers: Mapping[str, tuple[Any, ...]] | None = None,
) -> Adapter:
    """Return a layer that is checked as if it had nn.RNN's, nn.GRU's or nn.LSTM's constructor, parameters and call.

    ``build(config)`` returns a new ``torch.nn.Module``, or an object that holds NumPy arrays, for a config's
    ``input_size``, ``hidden_size`` and whatever else it reads of ``num_layers``, ``nonlinearity``, ``bias``,
    ``dropout`` and ``bidirectional``. What it does not read is not varied.

    ``weights`` says what each of the module's own parameters holds, by its name in ``named_parameters()``, or each of
    the object's arrays, by its attributes and keys, as in ``params.Wx``:
    ``{"cells.{layer}.kernel": "weight_ih.T", "i2h.weight": "weight_ih, weight_hh", "b": "bias_ih + bias_hh"}``. Gates
    are named in the order of their rows, as in ``"weight_ih[zrn]"``; where none are, runs tell the order. What is
    ``"kept"`` keeps the value with which it was built, and what is ``"0"`` is zero. ``{layer}`` counts from 0,
    ``{layer+1}`` from 1, ``{index}`` and ``{index+1}`` count both directions of each layer. The cell is told by the
    number of gates.

    ``call(module, x, h)``, of an LSTM ``call(module, x, h, c)``, returns ``output, h_n``, of an LSTM
    ``output, h_n, c_n``. The shapes are those of torch's layer: x (T, N, input_size), h and h_n (layers * directions,
    N, hidden_size), output (T, N, directions * hidden_size); arrays, of an object that holds arrays. What it does not
    return is ``None``. If it takes no states, none are given; if they have defaults, both ways are tried. An argument
    ``lengths=None`` is given how many steps of each sequence count, where that makes the sequences shorter.

    ``weights`` and ``call`` may be left out, and are then told by shapes, as those of any class are. ``offers`` names
    values of further factors: ``{"nonlinearity": ("relu",)}``, ``{"input_size": (8,)}``.

    Raises ``UsageError`` for an argument that makes no sense. ``rnn-harness adapt file.py:Class`` writes all of it.
    """
    for name, function in (("build", build), ("call", call)):
        if not (callable(function) or (function is None and name == "call")):
            raise UsageError(f"adapt({name}={function!r}): expected a function")
    if weights is not None and not isinstance(weights, Mapping):
        raise UsageError(f"adapt(weights={weights!r}): expected a dict of the module's own parameters by name")
    offers = dict(offers or {})
    if unknown := [name for name in offers if name not in FACTORS]:
        raise UsageError(f"adapt(offers=…): {', '.join(unknown)}: no such factor; see docs/reference-space.md")
    return Adapter(build, None if weights is None else dict(weights), call, offers)


class AdapterModuleFactory:
    """The constructor of an adapter's modules, as a class of modules is one.

    One that is ``in_numpy`` makes modules of NumPy objects, which are called by the adapter's own call, or by a method
    with the axes of x in an order.
    """

    function = None

    def __init__(self, adapter: Adapter, axes: str = "TNI", method: str = "", *, in_numpy: bool = False) -> None:
        self.adapter, self.axes, self.in_numpy = adapter, axes, in_numpy
        self.back: Any = None  # a NumPy object's own way back, once that is known
        self.states: set[str] = set()  # the names of its arrays that are no parameters, once that is known
        self._method = method
        self.offers = {name: tuple(values) for name, values in adapter.offers.items()}
        self.conventions: dict[str, bool] = {}
        self.__name__ = self.__qualname__ = getattr(adapter.build, "__qualname__", "build")

    @property
    def forward(self) -> Callable[..., Any]:
        """The function whose arguments tell whether states are taken: the adapter's own call, or the module's."""
        if self.adapter.call is not None:
            return self.adapter.call
        return self._method_of(self.adapter.build(RNNConfig(5, 3)))

    def __call__(self, **options: Any) -> Any:
        """Return a new module."""
        made = self.adapter.build(RNNConfig(**options))
        if not self.in_numpy:
            return made
        from harness.subjects.numpy_module import NumpyModule

        module = NumpyModule(made, self.adapter.call or self._method_of(made), self.axes, self.states)
        module.back = self.back
        return module

    def _method_of(self, made: Any) -> Callable[..., Any]:
        from harness.subjects.numpy_module import with_states_first

        method: Callable[..., Any] = getattr(type(made), self._method or "forward")
        return with_states_first(method) if self.in_numpy else method

    def call(self, module: Any, *arguments: Any, **named: Any) -> Any:
        """Return what the adapter's own call of a module returns."""
        assert self.adapter.call is not None
        return module(*arguments, **named) if self.in_numpy else self.adapter.call(module, *arguments, **named)


def built_by(adapter: Adapter) -> Iterator[AdapterModuleFactory]:
    """Yield the constructors that an adapter may be: several if it makes NumPy objects and does not say how to call.

    Raise ``SubjectUnavailable`` if it makes neither a module nor an object that holds arrays and can be called.
    """
    try:
        made = adapter.build(RNNConfig(5, 3))
    except Exception:  # noqa: BLE001 - which its reader tells
        made = torch_like = True
    else:
        torch_like = hasattr(made, "named_parameters")
    if torch_like:
        yield AdapterModuleFactory(adapter)
        return
    from harness.subjects.axes import INPUT_ORDERS
    from harness.subjects.numpy_module import CALL_METHODS, methods_of, parameters_held

    if not parameters_held(made):
        raise SubjectUnavailable(
            f"build returned {type(made).__name__}: expected a torch.nn.Module, or an object that holds arrays"
        )
    if adapter.call is not None:
        yield AdapterModuleFactory(adapter, in_numpy=True)
    elif methods := methods_of(type(made)):
        yield from (
            AdapterModuleFactory(adapter, axes, method, in_numpy=True)
            for axes, method in product(INPUT_ORDERS, methods)
        )
    else:
        raise SubjectUnavailable(
            f"build returned {type(made).__name__}: expected a call, or a method {', '.join(CALL_METHODS)}"
        )


def form_of_weights(
    form: ClassForm,
    weights: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    input_size: int,
    hidden_size: int,
    *,
    cell: str = "",
) -> ClassForm:
    """Return a form with the parameters that an adapter names, which have these shapes at some hidden_size.

    Raises ``SubjectUnavailable`` for a text that says nothing, and for parameters that are missing or are not named.
    """
    parsed = {own: _terms(own, text) for own, text in weights.items() if text not in (KEPT_WORD, ZERO_WORD)}
    names, numbers = {}, set()
    for own in weights:
        number = next((place for place in NUMBER_PLACES if place in own), "")
        numbers |= {number} - {""}
        names[own] = own.replace(number, "{}") if number else own
    if len(numbers) > 1:
        raise SubjectUnavailable(f"weights: {' and '.join(sorted(numbers))}: expected one of them")
    places, first = NUMBER_PLACES[numbers.pop()] if numbers else (LAYERS, 0)
    there = {name.replace("{}", str(first)): own for own, name in names.items()}
    if unknown := [own for name, own in there.items() if name not in shapes and "_reverse" not in weights[own]]:
        raise SubjectUnavailable(
            f"weights: the module has no {', '.join(unknown)}; its parameters are {_listed(shapes)}"
        )
    if missing := [name for name in shapes if name not in there]:
        raise SubjectUnavailable(
            f"weights: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not named; {_TERMS}"
        )
    gates = _gates(parsed, {there[name]: shape for name, shape in shapes.items()}, input_size, hidden_size, cell)
    cell = cell or next(name for name, kind in CELLS.items() if len(kind.gates) == len(gates))
    _require_shapes(parsed, {there[name]: shape for name, shape in shapes.items()}, gates, (input_size, hidden_size))
    roles: dict[str, list[Block]] = {}
    sums = [own for own, terms in parsed.items() if {role for role, *_ in terms} >= {"bias_ih", "bias_hh"}]
    biases = [own for own, terms in parsed.items() if terms[0][0].startswith("bias")]
    names_gates = any(letters for terms in parsed.values() for _, _, letters, _ in terms)
    named_as_torch = all("weight_ih" in own or "weight_hh" in own for own in parsed if own not in biases)
    one_bias = sums == biases != [] and not any(letters for own in sums for _, _, letters, _ in parsed[own])
    for own, terms in parsed.items():
        for role, reverse, letters, _ in terms:
            if not (one_bias and role == "bias_hh"):
                roles.setdefault(role + reverse, []).append(Block(names[own], letters or gates))
    order = {gate: i for i, gate in enumerate(gates)}
    start = next((terms[0][0] for terms in parsed.values() if len(terms) > 1 and terms[0][0].startswith("weight")), "")
    of_bias = next((shapes[name] for name, own in there.items() if own in biases and name in shapes), (0,))
    return replace(
        form,
        names={role: tuple(sorted(blocks, key=lambda block: order[block.gates[0]])) for role, blocks in roles.items()},
        first=first,
        places=places,
        joined={"weight_ih": X_FIRST, "weight_hh": H_FIRST}.get(start, ""),
        zeros=tuple(own for own, text in weights.items() if text == ZERO_WORD),
        unchanged_parameters=tuple(own for own, text in weights.items() if text == KEPT_WORD),
        beside=", ".join(own for own, text in weights.items() if text == KEPT_WORD),
        gate_order_assumed=(assumed := len(gates) > 1 and not names_gates and not named_as_torch),
        gates_open=assumed,
        bias_shape=tuple(-1 if size > 1 else 1 for size in of_bias) if len(of_bias) > 1 else (-1,),
        conventions=Conventions(
            one_bias=one_bias, transposed=any(turned for terms in parsed.values() for *_, turned in terms), cell=cell
        ),
    )


Terms = list[tuple[str, str, str, str]]


def _terms(own: str, text: Any) -> Terms:
    """Return the role, direction, gates and turn of each parameter of torch's that one of its own holds."""
    sign, kind = (",", "weight") if "," in str(text) else ("+", "bias")
    matches = [_TERM.fullmatch(part.strip()) for part in str(text).split(sign)]
    if not all(match and (len(matches) == 1 or match[1].startswith(kind)) for match in matches):
        raise SubjectUnavailable(f"weights[{own!r}]={text!r}: {_TERMS}")
    return [tuple(part or "" for part in match.groups()) for match in matches if match]  # type: ignore[misc]


def _gates(parsed: Mapping[str, Terms], shapes: Mapping[str, tuple[int, ...]], I: int, H: int, cell: str) -> str:  # noqa: E741
    """Return the gates of the cell: those that are named, or as many as the matrices for the state have."""
    named = {gate for terms in parsed.values() for _, _, gates, _ in terms for gate in gates}
    rows = 0
    for own, terms in parsed.items():
        for role, reverse, gates, _ in terms:
            if role == "weight_hh" and not reverse:
                rows += len(gates) or prod(shapes[own]) // (H * (H + I * (len(terms) > 1)))
    cells = {cell: CELL_DEFINITIONS[cell]} if cell else CELLS
    for form in cells.values():
        if len(form.gates) == rows and named <= {*form.gates}:
            return form.gates
    raise SubjectUnavailable(
        f"weights: {rows} gates, {', '.join(sorted(named))}: expected those of "
        + ", ".join(f"{layer_named(name)} ({', '.join(form.gates)})" for name, form in cells.items())
    )


def _require_shapes(
    parsed: Mapping[str, Terms], shapes: Mapping[str, tuple[int, ...]], gates: str, sizes: tuple[int, int]
) -> None:
    """Raise ``SubjectUnavailable`` for a parameter of another shape than what it is said to hold."""
    I, H = sizes  # noqa: E741 - as in the equations
    for own, terms in parsed.items():
        if own not in shapes:
            continue
        (role, _, some, turned), roles = terms[0], [name for name, *_ in terms]
        rows, is_weight = len(some or gates) * H, role.startswith("weight")
        expected = (rows, sum(I if name == "weight_ih" else H for name in roles)) if is_weight else (rows,)
        expected = expected[::-1] if turned else expected
        if shapes[own] != expected if is_weight else prod(shapes[own]) != rows:
            raise SubjectUnavailable(
                f"weights[{own!r}]: {', '.join(roles)} is {expected} with input_size={I} and hidden_size={H}, but "
                f"{own} is {shapes[own]}"
            )
    matrices = {own: terms[0] for own, terms in parsed.items() if terms[0][0].startswith("weight")}
    if 0 < len(marked := [own for own, (*_, turn) in matrices.items() if turn]) < len(matrices):
        plain = next(own for own in matrices if own not in marked)
        raise SubjectUnavailable(
            f"weights: {marked[0]} is marked .T, and {plain} is not: expected .T at all matrices or at none; otherwise "
            "check a function with the argument weights"
        )


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"
