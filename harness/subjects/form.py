"""form: the constructor and the parameters of a class of modules, as far as they differ from nn.RNN's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.subjects.conventions import Conventions

LAYERS, BOTH = "layer", "both"

Names = Mapping[str, str]


@dataclass(frozen=True)
class Form:
    """The constructor, the call and the parameters of a class, as far as they differ from nn.RNN's."""

    takes: Names
    """The arguments of nn.RNN's constructor that its own takes after the two sizes, and its names for them."""
    names: Names
    """Its own names of parameters by nn.RNN's: ``{"weight_ih": "cells.{}.weight", "weight_ih_reverse": …}``. The number
    of the layer takes the place of the braces."""
    first: int
    """The number of the first layer."""
    places: str
    """``layer`` if the number counts the layers, ``both`` if it counts both directions of each layer."""
    conventions: Conventions
    """Those that the shapes tell: transposed weights, one bias."""
    offers: Mapping[str, tuple[Any, ...]]
    """The values that it is asked for: of nn.RNN's options, where those are fewer, and of ``hx``."""
    returns: tuple[str, ...] = ("output", "h_n")
    """The names of what a call returns; h_n may be missing, and is then the last step of the output."""
    flat: bool = False
    """True if its states have no axis for layers, (N, H)."""

    @property
    def words(self) -> str:
        """Its own names and what they are read as, in a line."""
        turn = ".T" * self.conventions.transposed
        said = {name: f"{name}{turn if name.startswith('weight') else ''}" for name in self.names}
        if self.conventions.one_bias:
            said |= {name: f"{name} + {name.replace('_ih', '_hh')}" for name in said if name.startswith("bias")}
        words = ", ".join(f"{own.replace('{}', '*')} as {said[name]}" for name, own in self.names.items())
        if self.returns != ("output", "h_n"):
            words += f"; returns {', '.join(self.returns)}"
        words += "; its states are (N, H)" * self.flat
        lost = [name for name in ("num_layers", "bidirectional") if name in self.takes and name in self.offers]
        return words + "".join(f"; {name} is left out: {self.refusal(name)}" for name in lost)

    def refusal(self, name: str) -> str:
        """Say why it cannot have other values of an option."""
        if name == "hx":
            return "forward takes another number of arguments"
        if "h_n" not in self.returns and name in self.takes:
            return "it returns no h_n"
        return "its other parameters cannot be told" if name in self.takes else "its constructor does not take that"

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that its own parameter has where nn.RNN's has another one."""
        return shape[::-1] if self.conventions.transposed else shape

    def arranged(self, returned: Any, *, batch_first: bool) -> Any:
        """Return what a call returned as nn.RNN does, (output, h_n); unchanged if it is something else."""
        parts = list(returned) if isinstance(returned, tuple | list) else [returned]
        if len(parts) != len(self.returns) or not all(hasattr(part, "shape") for part in parts):
            return returned
        named = dict(zip(self.returns, parts, strict=True))
        output = named["output"]
        last = output[:, -1][None] if batch_first and len(output.shape) == 3 else output[-1:]
        h_n = named.get("h_n", last)
        return output, h_n[None] if self.flat and "h_n" in named else h_n

    def own(self, name: str, directions: int) -> str:
        """Return its own name of a parameter of nn.RNN's, such as ``weight_ih_l0_reverse``."""
        role, _, rest = name.partition("_l")
        layer, _, reverse = rest.partition("_")
        number = int(layer)
        if self.places == BOTH:
            number = number * directions + bool(reverse)
        return self.names[f"{role}_{reverse}" if reverse else role].replace("{}", str(number + self.first))
