"""Call: one whole use of a recurrent module as plain data, and as the code that the data stand for.

A ``Call`` may be malformed in any way, because nothing in it is validated. Its code is what runs, and what a finding
shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, ClassVar, Final

from harness.space.config import PLAINEST, RNNConfig
from harness.space.parts import OPTIONS, REQUIRED
from harness.subjects.answer import Stage

MODULE: Final = "torch.nn.RNN"
PACKERS: Final = ("PackedSequence", "pack_padded_sequence")
"""The names from ``torch.nn.utils.rnn`` that a call's code uses."""


@dataclass(frozen=True)
class Code:
    """A value that has no literal, given by the code that makes it: ``Code("torch.tanh")``."""

    text: str


@dataclass(frozen=True)
class Tensor:
    """A tensor given by its shape; it holds ones, because no call is refused for its numbers."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    device: str = "cpu"


@dataclass(frozen=True)
class Packing:
    """Packing of the input by ``pack_padded_sequence``; ``lengths`` may be anything."""

    lengths: Any
    enforce_sorted: bool = True
    batch_first: bool = False


@dataclass(frozen=True)
class ByHand:
    """Packing by hand: the input is the data of a ``PackedSequence`` that the call itself makes."""

    batch_sizes: Any
    sorted_indices: Any = None
    unsorted_indices: Any = None


@dataclass(frozen=True)
class Call:
    """A module's constructor arguments, its replaced parameters, the input, its packing, and hx.

    ``x`` and ``hx`` are a ``Tensor``, ``Code``, or any literal; ``hx`` is not passed if it is ``None``.
    """

    arguments: Mapping[str, Any]
    x: Any
    hx: Any = None
    packing: Packing | ByHand | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    module: str = MODULE
    """The name of torch's own class that is built."""

    def replace(self, **changes: Any) -> Call:
        """Return the same call with ``changes``."""
        return dataclasses.replace(self, **changes)

    def with_arguments(self, **changes: Any) -> Call:
        """Return the same call with other constructor arguments."""
        return self.replace(arguments={**self.arguments, **changes})

    def steps(self, module: str = "") -> Iterator[tuple[Stage | None, str]]:
        """Yield the call line by line, each line with its stage.

        A line without a stage makes a value that is passed, and cannot fail. ``module`` is the name of the class in the
        code, by default torch's own.
        """
        yield Stage.CONSTRUCTOR, f"rnn = {module or self.module}({_arguments(self.arguments)})"
        yield None, f"x = {code_of(self.x)}"
        if self.hx is not None:
            yield None, f"hx = {code_of(self.hx)}"
        for name, value in self.parameters.items():
            made = f"torch.nn.Parameter({code_of(value)})" if isinstance(value, Tensor) else code_of(value)
            yield Stage.PARAMETERS, f"rnn.{name} = {made}"
        if isinstance(self.packing, Packing):
            yield Stage.PACKING, f"x = pack_padded_sequence(x, {_fields(self.packing)})"
        elif self.packing is not None:
            yield Stage.PACKING, f"x = PackedSequence(x, {_fields(self.packing)})"
        yield Stage.CALL, "result = rnn(x)" if self.hx is None else "result = rnn(x, hx)"

    def as_code(self, module: str = "") -> str:
        """Return code that makes this call, ready to be pasted; ``module`` is as in ``steps``."""
        imports = ["import torch"]
        if self.packing is not None:
            imports.append(f"from torch.nn.utils.rnn import {', '.join(PACKERS)}")
        return "\n".join([*imports, *(line for _, line in self.steps(module))])


class Form(Enum):
    """The ways to pass the input, plainest first."""

    BATCHED = "batched"
    UNBATCHED = "unbatched"
    PACKED = "packed"
    BY_HAND = "a PackedSequence made by hand"


@dataclass(frozen=True)
class Base:
    """A well-formed call: a config, and the form of its input. If sequences are packed, N is at least 1."""

    module: ClassVar[str] = MODULE
    """The name of torch's own class."""
    options: ClassVar[tuple[str, ...]] = OPTIONS
    """The arguments of its constructor beside the sizes, the dtype and the device."""

    config: RNNConfig
    form: Form = Form.BATCHED
    enforce_sorted: bool = True

    @property
    def parameters(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the module's parameters, by name."""
        return {name: spec.shape for name, spec in self.config.weights.items()}

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of the sequences to be packed: T, T - 1, ..., at least 1; reversed if they need not be sorted."""
        lengths = tuple(max(self.config.T - n, 1) for n in range(self.config.N))
        return lengths if self.enforce_sorted else lengths[::-1]

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The number of sequences that have each step."""
        return tuple(sum(t < length for length in self.lengths) for t in range(self.config.T))

    @property
    def x(self) -> Tensor:
        """The input before any packing."""
        shape = self.config.inputs["x"].shape
        if self.form is Form.UNBATCHED:
            shape = (self.config.T, self.config.input_size)
        elif self.form is Form.BY_HAND:
            shape = (sum(self.lengths), self.config.input_size)
        return self.tensor(*shape)

    @property
    def hx(self) -> Tensor:
        """An initial state that fits, even if the call does not pass one."""
        config = self.config
        rows = config.num_layers * config.num_directions
        batch = () if self.form is Form.UNBATCHED else (config.N,)
        return self.tensor(rows, *batch, config.hidden_size)

    @cached_property
    def call(self) -> Call:
        """The call itself; arguments at their defaults are left out."""
        config = self.config
        named = {name: getattr(config, name) for name in (*self.options, "device")}
        given = {name: value for name, value in named.items() if value != getattr(PLAINEST, name)}
        if config.dtype != PLAINEST.dtype:
            given["dtype"] = Code(f"torch.{config.dtype}")
        packing: Packing | ByHand | None = None
        if self.form is Form.PACKED:
            packing = Packing(list(self.lengths), self.enforce_sorted, config.batch_first)
        elif self.form is Form.BY_HAND:
            packing = ByHand(Code(f"torch.tensor({list(self.batch_sizes)})"))
        arguments = {"input_size": config.input_size, "hidden_size": config.hidden_size, **given}
        return Call(arguments, self.x, self.hx if config.hx else None, packing, module=self.module)

    def tensor(self, *shape: int) -> Tensor:
        """Return a tensor of this shape, with the config's dtype and device."""
        return Tensor(shape, self.config.dtype, self.config.device)


class CellBase(Base):
    """A well-formed call of ``nn.RNNCell``: one step, batched or not, of a config, whose T plays no part."""

    module = "torch.nn.RNNCell"
    options = ("bias", "nonlinearity")

    @property
    def parameters(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the cell's parameters, by name."""
        config = RNNConfig(self.config.input_size, self.config.hidden_size, bias=self.config.bias)
        return {name.removesuffix("_l0"): spec.shape for name, spec in config.weights.items()}

    @property
    def x(self) -> Tensor:
        """The input of the step."""
        return self.tensor(*self._batch, self.config.input_size)

    @property
    def hx(self) -> Tensor:
        """A state that fits, even if the call does not pass one."""
        return self.tensor(*self._batch, self.config.hidden_size)

    @property
    def _batch(self) -> tuple[int, ...]:
        return () if self.form is Form.UNBATCHED else (self.config.N,)


def code_of(value: Any) -> str:
    """Return the code that makes a value."""
    if isinstance(value, Code):
        return value.text
    if not isinstance(value, Tensor):
        return repr(value)
    dtype = "" if value.dtype == "float32" else f", dtype=torch.{value.dtype}"
    device = "" if value.device == "cpu" else f", device={value.device!r}"
    return f"torch.ones({value.shape}{dtype}{device})"


def _arguments(arguments: Mapping[str, Any]) -> str:
    """Return constructor arguments as code: the sizes by position if both are there, the others by name."""
    both = all(name in arguments for name in REQUIRED)
    return ", ".join(
        code_of(value) if both and name in REQUIRED else f"{name}={code_of(value)}" for name, value in arguments.items()
    )


def _fields(packing: Packing | ByHand) -> str:
    """Return a packing's fields as code: the first by position, and any other that is not at its default by name."""
    first, *others = dataclasses.fields(packing)
    given = [
        f"{other.name}={code_of(getattr(packing, other.name))}"
        for other in others
        if getattr(packing, other.name) != other.default
    ]
    return ", ".join([code_of(getattr(packing, first.name)), *given])
