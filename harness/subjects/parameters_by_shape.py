"""The parameters of a class of modules, told by their shapes, and those of higher layers by their names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import SequenceMatcher
from typing import Final, NamedTuple

from harness.space.config import RNNConfig, role_of
from harness.subjects.conventions import Conventions
from harness.subjects.form import BOTH, LAYERS, Form, Names
from harness.subjects.protocol import SubjectError
from harness.subjects.signature import WRITE

_EXPECTED: Final = (
    "expected nn.RNN's parameters under any names: for each layer a matrix (hidden_size, input_size), another "
    "(hidden_size, hidden_size), or one (hidden_size, input_size + hidden_size), and two biases, one or none; and at "
    f"most one Linear more, the output layer; {WRITE}"
)

_NUMBER: Final = re.compile(r"\d+")

Shapes = Mapping[str, tuple[int, ...]]


class Sizes(NamedTuple):
    """The sizes with which a module is made."""

    input_size: int
    hidden_size: int
    output_size: int


SIZES: Final = (Sizes(5, 3, 7), Sizes(48, 32, 16))
"""The sizes at which parameters are told by their shapes, and those for a layer that takes only multiples of 8. No
two of them are equal, and neither are a size and a sum of two."""


class Roles(NamedTuple):
    """The roles of the parameters of one layer, told by their shapes."""

    names: dict[str, str]  # the layer's own names by nn.RNN's, without the layer
    conventions: Conventions
    joined: bool  # one matrix is both weights side by side
    rest: tuple[str, ...]  # the parameters that are none of nn.RNN's


def unread(shapes: Shapes, sizes: Sizes, name: str) -> SubjectError:
    """Return the error that names the parameters of a module that are not one layer's."""
    said = ", ".join(f"{own} {shape}" for own, shape in shapes.items()) or "none"
    made = f"input_size={sizes.input_size} and hidden_size={sizes.hidden_size}"
    both = any("reverse" in own for own in shapes)
    ways = "; it has two directions, and its constructor takes no bidirectional" * both
    return SubjectError(f"{name}: its parameters with {made} are {said}{ways}\n{_EXPECTED}")


def roles_of(shapes: Shapes, sizes: Sizes, name: str) -> Roles:
    """Return the roles of one layer's parameters. Raise ``SubjectError`` if they are not one layer's."""
    I, H, _ = sizes  # noqa: E741 - as in the equations
    joined, beside, plain, turned, recurrent, biases = (
        [own for own, shape in shapes.items() if shape == expected]
        for expected in ((H, I + H), (I + H, H), (H, I), (I, H), (H, H), (H,))
    )
    both = joined + beside
    if plain or both:  # then it is the matrix of an output layer as wide as x
        turned = []
    rest = tuple(own for own in shapes if own not in {*both, *plain, *turned, *recurrent, *biases})
    apart = len(plain) + len(turned) == 1 and len(recurrent) == 1 and not both
    if not (apart or (len(both) == 1 and not plain + turned + recurrent)) or len(biases) > 2:
        raise unread(shapes, sizes, name)
    [ih], [hh] = (both, both) if both else (plain + turned, recurrent)
    orders = (biases, biases[::-1])
    biases = max(orders, key=lambda order: sum(map(_likeness, (ih, hh), order)))  # their names are like the matrices'
    names = {"weight_ih": ih, "weight_hh": hh, **dict(zip(("bias_ih", "bias_hh"), biases, strict=False))}
    return Roles(names, Conventions(one_bias=len(biases) == 1, transposed=bool(turned + beside)), bool(both), rest)


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def numbered(names: Names) -> Iterator[tuple[dict[str, str], int, str]]:
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


def told_of(form: Form, sizes: Sizes, built: Mapping[tuple[int, int], Shapes]) -> set[tuple[int, int]]:
    """Return the numbers of layers and directions whose parameters a form names, each once and with its shape."""
    told = set()
    for (layers, directions), shapes in built.items():
        config = RNNConfig(
            sizes.input_size,
            sizes.hidden_size,
            num_layers=layers,
            bidirectional=directions == 2,
            bias="bias_ih" in form.names,
        )
        with suppress(KeyError):
            specs = {name: spec.shape for name, spec in config.weights.items() if role_of(name) in form.names}
            if form.shapes(specs, directions) == shapes:
                told.add((layers, directions))
    return told
