"""torch_own: a class of modules with a constructor and parameters of its own, which is used as if they were nn.RNN's.

The constructor gets the options of nn.RNN's that it takes. The parameters are told by their shapes, in a module whose
input_size and hidden_size differ; those of higher layers by the number in their names.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any, Final, NamedTuple

import torch

from harness.space.case import Case
from harness.space.config import RNNConfig, role_of
from harness.space.contract import PORT
from harness.space.parts import OPTIONS
from harness.subjects.capabilities import Recipe
from harness.subjects.conventions import Conventions, declared_by
from harness.subjects.form import BOTH, LAYERS, Form, Names
from harness.subjects.protocol import SubjectError
from harness.subjects.torch_modes import seeded
from harness.subjects.torch_module import Run, TorchSubject

SIZES: Final = ((5, 3), (48, 32))
"""The input_size and hidden_size at which parameters are told by their shapes, and those for a layer that can only
multiples of 8 or 16."""

PLAIN: Final[dict[str, tuple[Any, ...]]] = {
    "num_layers": (1,),
    "nonlinearity": ("tanh",),
    "bias": (True,),
    "batch_first": (False,),
    "dropout": (0.0,),
    "bidirectional": (False,),
}
"""The default of each of nn.RNN's options. A constructor that does not take the option is asked for nothing else."""

ASIDE: Final[dict[str, tuple[Any, ...]]] = {
    "lengths": (None,),
    "batched": (True,),
    "autocast": (None,),
    "positional": (False,),
    "after": (None,),
    "tied": (False,),
}
"""The values of the factors that such a class need not have: it is no drop-in replacement. Its attribute ``offers`` may
name more, as a function's does."""

SINGLY: Final = ("replaced", "parametrize")
"""The preparations that set one parameter after the other on the module itself, where a part of it may have them."""

_EXPECTED: Final = (
    "expected nn.RNN's parameters under any names: for each layer a matrix (hidden_size, input_size), another "
    "(hidden_size, hidden_size), and two biases, one or none; or write a function that calls the module"
)

_NUMBER: Final = re.compile(r"\d+")

OTHERS: Final = {"num_layers": ("n_layers", "layers")}
"""Other names under which constructors often take an option."""

Shapes = Mapping[str, tuple[int, ...]]


def form_of(factory: Any, name: str) -> Form | None:
    """Return the form of a class; ``None`` if it is nn.RNN's, or a cell's, or if it shows in the search what is wrong.

    Raises ``SubjectError`` for a constructor that takes something else, and for parameters that cannot be told.
    """
    if issubclass(factory, torch.nn.RNNBase | torch.nn.RNNCellBase):
        return None
    takes = _taken(factory, name)
    if takes is None:
        return None
    same = {*OPTIONS, "device", "dtype"} <= {*takes}
    try:
        made = _plain(factory, takes)
    except Exception as error:
        if same:
            return None
        said = f"{type(error).__name__}: {error}"
        raise SubjectError(f"{name}: cannot be made with {_said(*SIZES[-1])}: {said}") from error
    if same and "weight_ih_l0" in made.shapes:
        return None
    names, conventions = _roles(made, name)
    built = {
        (layers, directions): _shapes(factory, made, takes, {"num_layers": layers, "bidirectional": directions == 2})
        for layers in (1, 2)
        for directions in (1, 2)
    }
    reverse = {}
    with suppress(SubjectError):
        rest = {own: shape for own, shape in built[1, 2].items() if own not in made.shapes}
        reverse = {f"{role}_reverse": own for role, own in _roles(made._replace(shapes=rest), name)[0].items()}
    forms = [
        Form(takes, numbered, first, places, conventions, {})
        for named in ({**names, **reverse}, names)
        for numbered, first, places in _numbered(named)
    ]
    returns, flat = _returned(factory, made, takes)
    form = max(forms, key=lambda one: len(_told(one, made, built)))  # the first of those that tell most
    told = _told(form, made, built)
    less = {name: values for name, values in PLAIN.items() if name not in takes} | {"hx": _states(factory)}
    if "h_n" not in returns:
        less |= {name: PLAIN[name] for name in ("num_layers", "bidirectional", "batch_first")}
    if flat:
        less |= {name: PLAIN[name] for name in ("num_layers", "bidirectional")}
    if "bias_ih" not in names:
        less["bias"] = (False,)
    if (2, 1) not in told:
        less["num_layers"] = (1,)
    if (1, 2) not in told or ((2, 1) in told and (2, 2) not in told):
        less["bidirectional"] = (False,)
    return replace(form, offers=less, returns=returns, flat=flat)


def _taken(factory: Any, name: str) -> Names | None:
    """Return the arguments of nn.RNN's that a constructor takes, and its names for them.

    The result is ``None`` if its signature cannot be read.
    """
    try:
        _, _, *rest = parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return None
    known = (*OPTIONS, "device", "dtype")
    accepted = {*known, *(other for others in OTHERS.values() for other in others)}
    named = [one for one in rest if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}]
    if unknown := [one.name for one in named if one.default is one.empty and one.name not in accepted]:
        raise SubjectError(
            f"{name}{inspect.signature(factory)}: takes {', '.join(unknown)}, which nn.RNN does not\n"
            f"expected input_size, hidden_size and, by name, any of {', '.join(OPTIONS)}"
        )
    names = {one.name for one in named}
    anything = any(one.kind is one.VAR_KEYWORD for one in parameters)
    called = {one: next((own for own in (one, *OTHERS.get(one, ())) if own in names), "") for one in known}
    return {one: own or one for one, own in called.items() if own or anything}


def _states(factory: Any) -> tuple[bool, ...]:
    """Return ``False`` if ``forward`` can be called with x alone, ``True`` if it can be called with a state as well."""
    try:
        signature = inspect.signature(factory.forward)
    except (TypeError, ValueError):
        return False, True
    taken = []
    for state in (False, True):
        with suppress(TypeError):
            signature.bind(*["module", "x", "state"][: 2 + state])
            taken.append(state)
    return tuple(taken) or (False, True)


def _returned(factory: Any, made: _Made, takes: Names) -> tuple[tuple[str, ...], bool]:
    """Return the names of what a call returns, told by the shapes, and if states are (N, H).

    Where no shapes tell it, these are nn.RNN's, so that a search shows what is wrong.
    """
    usual = ("output", "h_n")
    T, N, H = 4, 2, made.hidden_size
    # A class that reads (N, T, input_size) takes the first axis for the batch.
    of_states = {shape: name for batch in (N, T) for shape, name in (((1, batch, H), "h_n"), ((batch, H), "flat"))}
    shapes = {(T, N, H): "output", **of_states}
    for states in ([], *([shape] for shape in of_states)):
        if bool(states) not in _states(factory):
            continue
        with suppress(Exception), torch.no_grad(), seeded(0):
            module = _built(factory, (made.input_size, H), takes, {}).eval()
            returned = module(torch.zeros(T, N, made.input_size), *map(torch.zeros, states))
            parts = returned if isinstance(returned, tuple | list) else (returned,)
            names = tuple(shapes[tuple(part.shape)] for part in parts)
            if "output" in names and len({*names}) == len(names) < 3:
                flat = "flat" in names or any(of_states[shape] == "flat" for shape in states)
                return tuple("h_n" if name == "flat" else name for name in names), flat
    return usual, False


class _Made(NamedTuple):
    """The shapes of a module's parameters by name, and the sizes that it was made with."""

    input_size: int
    hidden_size: int
    shapes: Mapping[str, tuple[int, ...]]


def _plain(factory: Any, takes: Names) -> _Made:
    """Return the parameters of a module of one plain layer."""
    *others, last = SIZES
    for sizes in others:
        with suppress(Exception):
            return _Made(*sizes, _shapes_of(_built(factory, sizes, takes, {})))
    return _Made(*last, _shapes_of(_built(factory, last, takes, {})))


def _shapes(factory: Any, made: _Made, takes: Names, options: Mapping[str, Any]) -> Shapes:
    """Return the shapes with some options; none if it cannot be made so, which a search will see."""
    with suppress(Exception):
        return _shapes_of(_built(factory, (made.input_size, made.hidden_size), takes, options))
    return {}


def _built(factory: Any, sizes: tuple[int, int], takes: Names, options: Mapping[str, Any]) -> torch.nn.Module:
    """Build a module with nn.RNN's default for every option that it takes, but for some."""
    values = {**{name: plain for name, (plain,) in PLAIN.items()}, **options}
    with seeded(0):
        module: torch.nn.Module = factory(
            *sizes, **{own: values[name] for name, own in takes.items() if name in values}
        )
        return module


def _shapes_of(module: torch.nn.Module) -> Shapes:
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def _said(input_size: int, hidden_size: int) -> str:
    return f"input_size={input_size} and hidden_size={hidden_size}"


def _roles(made: _Made, name: str) -> tuple[dict[str, str], Conventions]:
    """Return the names of one layer's parameters by nn.RNN's names without the layer, and what the shapes tell."""
    I, H, shapes = made  # noqa: E741 - as in the equations
    plain, turned, recurrent, biases = (
        [own for own, shape in shapes.items() if shape == expected] for expected in ((H, I), (I, H), (H, H), (H,))
    )
    rest = shapes.keys() - {*plain, *turned, *recurrent, *biases}
    if rest or len(plain) + len(turned) != 1 or len(recurrent) != 1 or len(biases) > 2:
        said = ", ".join(f"{own} {shape}" for own, shape in shapes.items()) or "none"
        raise SubjectError(f"{name}: its parameters with {_said(I, H)} are {said}\n{_EXPECTED}")
    [ih], [hh] = plain + turned, recurrent
    orders = (biases, biases[::-1])
    biases = max(orders, key=lambda order: sum(map(_likeness, (ih, hh), order)))  # their names are like the matrices'
    names = {"weight_ih": ih, "weight_hh": hh, **dict(zip(("bias_ih", "bias_hh"), biases, strict=False))}
    return names, Conventions(one_bias=len(biases) == 1, transposed=bool(turned))


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def _numbered(names: Names) -> Iterator[tuple[dict[str, str], int, str]]:
    """Yield the names as they are, and with braces in place of a number, its first value, and what it counts.

    The names of both directions may have the same braces, if the numbers are one apart.
    """
    yield dict(names), 0, LAYERS
    found = {role: [*_NUMBER.finditer(own)] for role, own in names.items()}
    for place in range(min(map(len, found.values()))):
        numbers = {role: matches[place] for role, matches in found.items()}
        braced = {role: f"{names[role][: one.start()]}{{}}{names[role][one.end() :]}" for role, one in numbers.items()}
        first = int(numbers["weight_ih"].group())
        yield braced, first, BOTH
        yield braced, first, LAYERS


def _told(form: Form, made: _Made, built: Mapping[tuple[int, int], Shapes]) -> set[tuple[int, int]]:
    """Return the numbers of layers and directions whose parameters a form names, each once and with its shape."""
    told = set()
    for (layers, directions), shapes in built.items():
        config = RNNConfig(
            made.input_size,
            made.hidden_size,
            num_layers=layers,
            bidirectional=directions == 2,
            bias="bias_ih" in form.names,
        )
        with suppress(KeyError):
            specs = {name: spec.shape for name, spec in config.weights.items() if role_of(name) in form.names}
            if {form.own(name, directions): form.shape(shape) for name, shape in specs.items()} == shapes:
                told.add((layers, directions))
    return told


class OwnFormSubject(TorchSubject):
    """A class of modules of a form of its own."""

    def __init__(self, factory: Any, name: str, form: Form, *, conventions: Conventions | None = None) -> None:
        """Take a class, its form, and the conventions that it has besides those of its form."""
        self._form = form
        declared = declared_by(factory, name) if conventions is None else conventions
        super().__init__(factory, name, conventions=Conventions.of((*declared.names, *form.conventions.names)))
        usual = self.capabilities.offers
        offers = {"preparation": tuple(one for one in usual["preparation"] if one not in SINGLY)}
        more = {**ASIDE, **form.offers, **getattr(factory, "offers", {})}
        offers |= {factor: values for factor, values in more.items() if factor not in declared.offers}
        self.capabilities = replace(
            self.capabilities,
            offers={**usual, **offers},
            contract=PORT,
            recipe=Recipe(form=form),
            call=None,
            masks=None,  # it draws its own, which must obey the law of dropout
            read_as=form.words,
        )

    def devices(self) -> tuple[str, ...]:
        """Return the devices that compute."""
        return tuple(device for device in super().devices() if device != "meta")

    def call(self, module: torch.nn.Module, parameters: Any, *arguments: Any, **named: Any) -> Any:
        """Return what a call returns, as nn.RNN does."""
        x, *hx = arguments
        states = [state[0] for state in hx] if self._form.flat else hx
        returned = super().call(module, parameters, x, *states, **named)
        return self._form.arranged(returned, batch_first=self._conventions.batch_first)

    def _outputs(self, case: Case, module: torch.nn.Module, lent: Mapping[str, torch.Tensor]) -> Run:
        # A view of the output as h_n is usual, and only nn.RNN itself has no memory in common between the two.
        return super()._outputs(case, module, lent)._replace(aliased=())

    def build(self, config: RNNConfig) -> torch.nn.Module:
        """Return a new module, made with the arguments that its constructor takes."""
        dtype = getattr(torch, config.dtype)
        values = {**{name: getattr(config, name) for name in OPTIONS}, "device": config.device, "dtype": dtype}
        with warnings.catch_warnings(), seeded(0):
            warnings.filterwarnings("ignore", "dropout option adds dropout|Complex modules are a new", UserWarning)
            given = {own: values[name] for name, own in self._form.takes.items()}
            module: torch.nn.Module = self._factory(config.input_size, config.hidden_size, **given)
            return module.to(device=config.device, dtype=dtype)

    def prepare(self, config: RNNConfig, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """Return a module with the weights. Raise ``NotImplementedError`` for options that it cannot have."""
        for name, values in self._form.offers.items():
            if getattr(config, name) not in values and name not in self._conventions.offers:
                raise NotImplementedError(f"{name}={getattr(config, name)!r}: {self._form.refusal(name)}")
        return super().prepare(config, weights)

    def renamed(self, module: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return weights under the module's own names, and those of its buffers that are saved, which it keeps."""
        directions = 1 + any(name.endswith("_reverse") for name in weights)
        own = {self._form.own(name, directions): one for name, one in weights.items()}
        saved = module.state_dict().keys()
        return {name: buffer for name, buffer in module.named_buffers() if name in saved} | own

    def parameters(self, module: torch.nn.Module, config: RNNConfig) -> dict[str, torch.nn.Parameter]:
        """Return the module's parameters by nn.RNN's names."""
        own, roles = dict(module.named_parameters()), self._form.names
        names = [name for name in config.weights if not name.startswith("readout") and role_of(name) in roles]
        return {name: own[self._form.own(name, config.num_directions)] for name in names}
