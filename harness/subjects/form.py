"""form: the constructor, the call and the parameters of a class of modules, as far as they differ from nn.RNN's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.subjects.conventions import Conventions

T = TypeVar("T")

LAYERS, BOTH = "layer", "both"

X_FIRST, H_FIRST = "x, h", "h, x"

# The dtypes that a class is asked for if it computes in them: those of real numbers.
FLOATS = ("float32", "float64", "bfloat16", "float16")

Names = Mapping[str, str]


@dataclass(frozen=True)
class Form:
    """The constructor, the call and the parameters of a class, as far as they differ from nn.RNN's."""

    takes: Names  # the arguments of nn.RNN's constructor that its own takes by name, and its names for them
    names: Names
    """Its own names of parameters by nn.RNN's: ``{"weight_ih": "cells.{}.weight", "weight_ih_reverse": …}``. The number
    of the layer takes the place of the braces."""
    first: int  # the number of the first layer
    places: str  # ``layer`` if the number counts the layers, ``both`` if it counts both directions of each layer
    conventions: Conventions  # those that the class tells by itself: transposed weights, one bias, batch first
    # The values that it is asked for: of nn.RNN's options, where those are fewer, and of ``hx``.
    offers: Mapping[str, tuple[Any, ...]]
    returns: tuple[str, ...] = ("output", "h_n")
    """The names of what a call returns: ``output``, ``h_n``, ``last`` for the last step of the output, and nothing for
    what is not compared. Where h_n is missing, it is the last step of the output; of a cell, it is the new state."""
    flat: bool = False  # it takes states without an axis for layers, (N, H)
    flat_h_n: bool = False  # it returns h_n so
    # The arguments that its constructor takes by position: these two, and ``output``, the size of an output layer.
    sizes: tuple[str, ...] = ("input_size", "hidden_size")
    by_name: Names = field(default_factory=dict)  # those of the sizes that it takes by name, by its own names
    # The order of the columns, if weight_ih and weight_hh stand side by side in one matrix: ``x, h`` or ``h, x``.
    joined: str = ""
    # The names of an output layer of its own, a Linear, and of softmaxes. The identity is put in their places.
    heads: tuple[str, ...] = ()
    # The name of an Embedding of its own, in whose place the identity is put: x is what it would give.
    embedding: str = ""
    rows: bool = False  # its output has one axis for time and batch, (T * N, H)
    is_cell: bool = False  # a call is one step, from x (N, I) and a state (N, H)
    beside: str = ""  # the parameters on which its state does not depend, or what holds them

    @property
    def words(self) -> str:
        """Its own names and what they are read as, in a line."""
        turn = ".T" * self.conventions.transposed
        said = {name: f"{name}{turn if name.startswith('weight') else ''}" for name in self.names}
        if self.conventions.one_bias:
            said |= {name: f"{name} + {name.replace('_ih', '_hh')}" for name in said if name.startswith("bias")}
        if self.joined:
            for name in [name for name in said if name.startswith("weight_ih")]:
                parts = [said[name], said[name.replace("_ih", "_hh")]][:: -1 if self.joined == H_FIRST else 1]
                said[name] = f"{' and '.join(parts)} side by side"
            said = {name: what for name, what in said.items() if not name.startswith("weight_hh")}
        words = ", ".join(f"{self.names[name].replace('{}', '*')} as {what}" for name, what in said.items())
        if self.is_cell:
            words += "; a cell: called once for each step"
        elif "h_n" in self.returns and "output" not in self.returns:
            words += "; h_n alone is compared"
        elif self.returns != ("output", "h_n"):
            words += f"; returns {', '.join(self.returns).replace('last', 'the last output alone')}"
        words += f"; not compared: {self.beside}" if self.beside else ""
        words += f"; its Embedding {self.embedding} is replaced by the identity" if self.embedding else ""
        are = "is" if len(self.heads) == 1 else "are"
        words += f"; its output layer {' and '.join(self.heads)} {are} replaced by the identity" if self.heads else ""
        words += "; its output is (T * N, H)" * self.rows
        if self.flat or self.flat_h_n:
            which = {(True, True): "its states are", (True, False): "takes states", (False, True): "returns h_n as"}
            words += f"; {which[self.flat, self.flat_h_n]} (N, H)"
        words += "; reads (N, T, input_size)" * self.conventions.batch_first
        if missing := [dtype for dtype in FLOATS if dtype not in self.offers.get("dtype", FLOATS)]:
            words += f"; {', '.join(missing)} left out: a call raises an error"
        may = {*self.takes, "training"}
        lost = [name for name in ("num_layers", "bidirectional", "training") if name in may and name in self.offers]
        return words + "".join(f"; {name} is left out: {self.refusal(name)}" for name in lost)

    def refusal(self, name: str) -> str:
        """Say why it cannot have other values of an option."""
        if name == "hx":
            return "forward takes another number of arguments"
        if name == "training":
            return "it drops elements with dropout=0, too"
        if name == "dropout" and self.heads and name in self.takes:
            return "it drops elements elsewhere than between layers"
        if self.is_cell and name in self.takes:
            return "a call is one step of one layer"
        if "h_n" not in self.returns and name in self.takes:
            return "it returns no h_n"
        return "its other parameters cannot be told" if name in self.takes else "its constructor does not take that"

    @property
    def replaced(self) -> tuple[str, ...]:
        """The parts in whose places the identity is put."""
        return (*self.heads, *[self.embedding] * bool(self.embedding))

    def given(self, input_size: T, hidden_size: T, output_size: T) -> tuple[list[T], dict[str, T]]:
        """Return the sizes that its constructor is given by position, and those by name."""
        values = {"input_size": input_size, "hidden_size": hidden_size, "output": output_size}
        return [values[name] for name in self.sizes], {own: values[name] for own, name in self.by_name.items()}

    def shapes(self, shapes: Mapping[str, tuple[int, ...]], directions: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of its own parameters, by its names, for those of nn.RNN's."""
        turned = {name: shape[::-1] if self.conventions.transposed else shape for name, shape in shapes.items()}

        def beside(parts: list[tuple[int, ...]], axis: int) -> tuple[int, ...]:
            rows, columns = parts[0]
            return (rows + parts[1][0], columns) if axis == 0 else (rows, columns + parts[1][1])

        return self.merged(turned, directions, beside)

    def merged(self, tensors: Mapping[str, T], directions: int, beside: Callable[[list[T], int], T]) -> dict[str, T]:
        """Return tensors by its own names, two of them put side by side along an axis where it has one for both.

        They are given by nn.RNN's names, as its conventions have them.
        """
        axis = 0 if self.conventions.transposed else 1
        order = -1 if self.joined == H_FIRST else 1
        own: dict[str, T] = {}
        for name, tensor in tensors.items():
            one = tensor
            if self.joined and name.startswith("weight_hh"):
                continue
            if self.joined and name.startswith("weight_ih"):
                one = beside([tensor, tensors[name.replace("_ih", "_hh")]][::order], axis)
            own[self.own(name, directions)] = one
        return own

    def parted(self, gradients: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """Return gradients by nn.RNN's parameters, of which the two matrices of a layer may be one of its own."""
        return {name: self._part(name, one) if self.joined and "weight_" in name else one for name, one in gradients}

    def _part(self, name: str, gradient: Any) -> Any:
        size = len(gradient)
        if self.joined == X_FIRST:
            return gradient[:, -size:] if "weight_hh" in name else gradient[:, :-size]
        return gradient[:, :size] if "weight_hh" in name else gradient[:, size:]

    def arranged(self, returned: Any, leading: tuple[int, ...], *, batch_first: bool) -> Any:
        """Return what a call returned as nn.RNN does, (output, h_n); unchanged if it is something else.

        The output is ``None`` if it is not returned. The ``leading`` sizes are those of the first two axes of x.
        """
        parts = list(returned) if isinstance(returned, tuple | list) else [returned]
        if len(parts) != len(self.returns):
            return returned
        named = {name: part for name, part in zip(self.returns, parts, strict=True) if name}
        if not all(hasattr(part, "shape") for part in named.values()):
            return returned
        if "output" not in named:
            h_n = named["h_n"] if "h_n" in named else named["last"]
            return None, h_n[None] if self.flat_h_n or "h_n" not in named else h_n
        output = named["output"]
        if self.rows and output.shape[:1] == (leading[0] * leading[1],):
            output = output.reshape(*leading, *output.shape[1:])
        last = output[:, -1][None] if batch_first and len(output.shape) == 3 else output[-1:]
        h_n = named.get("h_n", last)
        return output, h_n[None] if self.flat_h_n and "h_n" in named else h_n

    def own(self, name: str, directions: int) -> str:
        """Return its own name of a parameter of nn.RNN's, such as ``weight_ih_l0_reverse``."""
        role, _, rest = name.partition("_l")
        layer, _, reverse = rest.partition("_")
        number = int(layer)
        if self.places == BOTH:
            number = number * directions + bool(reverse)
        return self.names[f"{role}_{reverse}" if reverse else role].replace("{}", str(number + self.first))
