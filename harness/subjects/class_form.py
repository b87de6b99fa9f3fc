"""The constructor, the call and the parameters of a class of modules, as far as they differ from nn.RNN's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from harness.space.cells import CELL_DEFINITIONS, CellDefinition, layer_named
from harness.space.config import RNNConfig, role_of
from harness.space.factor_table import PLAIN
from harness.subjects.conventions import Conventions
from harness.subjects.state_axes import TORCH_AXES, from_axes, said_axes
from harness.subjects.state_containers import StateContainer

T = TypeVar("T")

LAYERS, BOTH = "layer", "both"

X_FIRST, H_FIRST = "x, h", "h, x"

# The dtypes that a class is asked for if it computes in them: those of real numbers.
FLOATS = ("float32", "float64", "bfloat16", "float16")

Names = Mapping[str, str]


class Block(NamedTuple):
    """One of its own parameters, and the gates whose rows it holds, in their order."""

    own: str
    gates: str


class ModuleSizes(NamedTuple):
    """The sizes with which a module is made, and those of a call on it."""

    input_size: int
    hidden_size: int
    output_size: int
    T: int = 4
    N: int = 13  # unlike the others, their sums of two, and the numbers of layers and directions

    @classmethod
    def of(cls, config: RNNConfig) -> Self:
        """Return those of a config, with an output layer that is as wide as the states."""
        states = config.num_directions * config.hidden_size
        return cls(config.input_size, config.hidden_size, states, config.T, config.N)

    def given(self, num_layers: int = 1) -> dict[str, Any]:
        """Return the values of all that an argument of a constructor may mean, but for options."""
        layers = [self.hidden_size] * num_layers
        sizes = {"output": self.output_size, "hidden_sizes": layers, "layer_sizes": [self.input_size, *layers]}
        return {**self._asdict(), **sizes}


def is_by_layer(part: Any) -> bool:
    """Tell whether a part of what a call returned is a list of several states for each layer."""
    if not isinstance(part, list | tuple) or not part:
        return False
    if not all(isinstance(states, tuple | list) and len(states) == len(part[0]) > 1 for states in part):
        return False
    return all(hasattr(state, "shape") for states in part for state in states)


def is_layered(part: Any) -> bool:
    """Tell whether a part of what a call returned is a list of a state (N, H) for each layer."""
    return isinstance(part, list) and bool(part) and all(len(getattr(state, "shape", ())) == 2 for state in part)


def parts_of(returned: Any, *, lists: bool = True) -> list[Any]:
    """Return the parts of what a call returned, the states of a tuple, or of a list of two, each by itself."""
    returned = tuple(returned.values()) if isinstance(returned, Mapping) else returned
    parts: list[Any] = []
    for part in returned if isinstance(returned, tuple | list) else [returned]:
        few = (isinstance(part, tuple) and 0 < len(part) < 3) or (lists and isinstance(part, list) and len(part) == 2)
        parts += part if few and all(hasattr(state, "shape") for state in part) else [part]
    return parts


def stacked(returned: Any, stack: Callable[[Any], Any]) -> Any:
    """Return what a call returned, with one state (L, N, H) for each list of states (N, H)."""
    if is_layered(returned):
        return stack(returned)
    if isinstance(returned, tuple | list):
        return (
            [stacked(part, stack) for part in returned]
            if isinstance(returned, list)
            else tuple(stacked(part, stack) for part in returned)
        )
    return returned


def in_first_layer(name: str, number: str = "0") -> str:
    """Return torch's name of a parameter in the first layer, or in another."""
    role, end, _ = name.partition("_reverse")
    return f"{role}_l{number}{end}"


@dataclass(frozen=True)
class ClassForm:
    """The constructor, the call and the parameters of a class, as far as they differ from nn.RNN's."""

    # The arguments of nn.RNN's constructor that its own takes by name, and its names for them; none for a list's.
    takes: Names
    names: Mapping[str, tuple[Block, ...]]
    """Its own parameters that hold the rows of each of torch's layer's: ``{"weight_ih": (Block("cells.{}.weight",
    "rzn"),), "weight_ih_reverse": …}``. The number of the layer takes the place of the braces. One that is in two
    matrices holds them side by side, and one that is in two biases is their sum."""
    first: int  # the number of the first layer
    places: str  # ``layer`` if the number counts the layers, ``both`` if it counts both directions of each layer
    conventions: Conventions  # those that the class tells by itself: transposed weights, one bias, batch first
    # The values that it is asked for: of nn.RNN's options, where those are fewer, and of ``hx``.
    offers: Mapping[str, tuple[Any, ...]]
    returns: tuple[str, ...] = ("output", "h_n")
    """The names of what a call returns: ``output``, ``h_n``, ``c_n``, ``last`` for the last step of the output, and
    nothing for what is not compared. Where h_n is missing, it is the last step of the output; of a cell, it is the new
    state."""
    flat: bool = False  # it takes states without an axis for layers, (N, H)
    flat_h_n: bool = False  # it returns h_n so
    # What its constructor takes by position: these two, ``output``, the size of an output layer, ``T``, ``N``, or the
    # list ``hidden_sizes`` or ``layer_sizes``, which begins with the input's; ``*layer_sizes`` one by one.
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
    packs: bool = False  # it takes a PackedSequence, and returns one
    of_step: bool = False  # what it returns beside its output is one step of that, where two directions do not end
    beside: str = ""  # the parameters on which its state does not depend, or what holds them
    unchanged_parameters: tuple[str, ...] = ()  # the parameters that an adapter leaves as they were built
    # Its biases, if torch's layer has no place for one of them, and its learned starts: they are zero.
    zeros: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()  # learned states before the first step
    gate_order_assumed: bool = False  # True if no name tells the order of its gates' rows, and torch's is taken
    gates_open: bool = False  # True if it is for runs to tell that order, as no adapter says it, and none told it yet
    order: str = ""  # that order, if runs told it, and names not or otherwise
    apart: bool = False  # it takes each state as an argument of its own
    by_layer: bool = False  # its states are a list of a tuple for each layer
    unbatched: bool = False  # a call takes one sequence, without an axis for the batch
    layered: bool = False  # each of its states is a list of (N, H), one for each layer
    listed: bool = False  # its output is a list of steps
    steps: tuple[Any, ...] | None = None  # the place of a tuple of steps in what a call returns, if there is one
    state_axes: str = TORCH_AXES  # the axes of the states that it takes (``state_axes``), if they are not flat
    final_axes: str = TORCH_AXES  # and of those that it returns
    axes: str = ""  # the order of the axes of x, T, N and I, if it is neither (T, N, I) nor (N, T, I)
    always_given: str = ""  # what a call on x alone does, if its states may be left out by the signature alone
    stateless: bool = False  # its call takes an argument for states, but succeeds with no kind of them
    bias_shape: tuple[int, ...] = (-1,)  # its biases are (H,), or (1, H), or (H, 1); both in one are (2, H)
    state_names: tuple[str, ...] = ()  # the names by which it must be given its states
    container: StateContainer | None = None  # in which it takes and returns its states, if that is none of torch's
    never_given: tuple[str, ...] = ()  # the arguments of a call that it is never given
    valid: tuple[str, str] = ("", "")  # the argument that says how many steps count, and what it is given
    # The axes of x, TN or NT, for an argument of that kind without a default: each call is given it. Nothing, if there
    # is a default.
    needs: str = ""
    loader: str = ""  # the method of NumPy code that takes the weights of torch's layer by their names
    back: str = ""  # the method or function whose gradients are compared, of NumPy code
    back_of_one: bool = False  # that takes one sequence, though a call takes several
    states: tuple[str, ...] = ()  # the arrays of a NumPy object that are states, as a call changes them
    not_compared: Names = field(default_factory=dict)  # what it offers and is not compared, with the reason
    drop_in: bool = False  # its constructor and parameters are those of torch's layer

    @property
    def cell(self) -> CellDefinition:
        """The form of the cell that it is compared with."""
        return CELL_DEFINITIONS[self.conventions.cell]

    @property
    def words(self) -> str:
        """Its own names and what they are read as, in a line."""
        turn = ".T" * self.conventions.transposed
        texts = {name: f"{name}{turn if name.startswith('weight') else ''}" for name in self.names}
        if self.conventions.one_bias:
            texts |= {name: f"{name} + {name.replace('_ih', '_hh')}" for name in texts if name.startswith("bias")}
        if self.joined:
            for name in [name for name in texts if name.startswith("weight_ih")]:
                twin = name.replace("_ih", "_hh")
                if self.names[name] == self.names[twin]:
                    parts = [texts[name], texts.pop(twin)][:: -1 if self.joined == H_FIRST else 1]
                    texts[name] = f"{' and '.join(parts)} side by side"
        named = {name: self._named(name) for name in texts}
        own = [
            name
            for name in texts
            if texts[name] == name and named[name] in {in_first_layer(name), in_first_layer(name, "*")}
        ]
        words = "" if own == [*texts] else ", ".join(f"{named[name]} as {what}" for name, what in texts.items())
        if self.order and any(len(block.gates) > 1 for blocks in self.names.values() for block in blocks):
            words += f"; rows in the order {', '.join(self.order)}, as runs tell"
        elif self.order:
            words += "; runs tell its gates" + ", other ones than its names" * (not self.gate_order_assumed)
        elif self.gate_order_assumed and not self.loader:
            words += f"; rows taken in {layer_named(self.conventions.cell)}'s order {', '.join(self.cell.gates)}"
        if biases := [name for name in self.zeros if name not in self.starts]:
            stay = "stays zero: it" if len(biases) == 1 else "stay zero: they"
            words += f"; {', '.join(biases)} {stay} cannot hold all of {layer_named(self.conventions.cell)}'s biases"
        words += "".join(f"; {start} stays zero: it is the state before the first step" for start in self.starts)
        return (words + self._words_of_call).removeprefix("; ")

    @property
    def _words_of_call(self) -> str:
        words = ""
        if self.is_cell:
            words += "; a cell: called once for each step"
        elif "h_n" in self.returns and "output" not in self.returns:
            finals = [name for name in self.cell.final if name in self.returns]
            words += f"; {' and '.join(finals)} alone {'is' if len(finals) == 1 else 'are'} compared"
        elif self.returns != ("output", *self.cell.final):
            shown = filter(None, self.returns)
            words += f"; returns {', '.join(shown).replace('last', 'the last output alone')}"
            other = "one step of it, where two directions do not end: that" if self.of_step else "something that"
            words += f", and {other} is not compared" * ("" in self.returns)
        words += f"; not compared: {self.beside}" if self.beside else ""
        words += f"; its Embedding {self.embedding} is replaced by the identity" if self.embedding else ""
        are = "is" if len(self.heads) == 1 else "are"
        words += f"; its output layer {' and '.join(self.heads)} {are} replaced by the identity" if self.heads else ""
        words += "; its output is (T * N, H)" * self.rows
        if self.flat or self.flat_h_n:
            which = {(True, True): "its states are", (True, False): "takes states", (False, True): "returns h_n as"}
            columns = self.axes.find("I") < self.axes.find("N")
            words += f"; {which[self.flat, self.flat_h_n]} {'(H, N)' if columns else '(N, H)'}"
        words += f"; {self.container.words}" if self.container is not None else ""
        words += "; its states are a list of (h, c), one for each layer" * self.by_layer
        words += "; takes one sequence: called once for each" * self.unbatched
        words += "; its states are a list of (N, H), one for each layer" * self.layered
        for does, axes in (("takes", self.state_axes), ("returns", self.final_axes)):
            words += f"; {does} states {said_axes(axes)}" * (
                axes != TORCH_AXES and not (does == "takes" and self.offers.get("hx") == (False,))
            )
        axes = self.axes or "NTI" * self.conventions.batch_first
        words += f"; reads ({', '.join(axes).replace('I', 'input_size')})" * bool(axes)
        words += f"; its {self.loader} is given the weights" * bool(self.loader)
        words += "; takes a PackedSequence" * self.packs
        if self.valid[0]:
            words += f"; {self.valid[0]} is {'always ' * bool(self.needs)}given {self.valid[1]}"
            words += ", and the output in the padding is not compared"
        if self.never_given:
            words += f"; {', '.join(self.never_given)} {'is' if len(self.never_given) == 1 else 'are'} never given"
        words += f"; gradients are those of its {self.back}" * bool(self.back)
        words += ", which takes one sequence: with them, called once for each" * self.back_of_one
        words += f"; {', '.join(self.states)} taken for states, which a call changes" * bool(self.states)
        if missing := [dtype for dtype in FLOATS if dtype not in self.offers.get("dtype", FLOATS)]:
            words += f"; without {', '.join(missing)}, in which it does not compute"
        words += f"; training is left out: {self.refusal('training')}" * ("training" in self.offers)
        return words

    def refusal(self, name: str) -> str:
        """Say why it cannot have other values of an option."""
        takes = name in self.takes
        reasons = (
            (self.stateless and name == "hx", "no call with a state of a form that is known succeeds"),
            (name == "hx" and self.offers.get("hx") == (True,) and self.always_given, self.always_given),
            (name == "hx", "forward takes another number of arguments"),
            (name == "loss", f"it returns no {self.cell.final[-1]}"),
            (name == "training", "it drops elements with dropout=0, too"),
            (takes and name == "dropout" and bool(self.heads), "it drops elements elsewhere than between layers"),
            (takes and self.is_cell, "a call is one step of one layer"),
            (takes and name == "dropout" and "output" not in self.returns, "the output, which shows masks, is hidden"),
            (takes and not {"h_n", "output"} & {*self.returns}, "it returns no h_n"),
            (takes, "with it, its parameters or its results are not read as nn.RNN's"),
        )
        return next((why for holds, why in reasons if holds), "its constructor does not take that")

    @property
    def h_n_is_last(self) -> bool:
        """True if h_n is not returned, and is the last step of the output: of one layer and one direction."""
        plain = all(self.offers.get(name) == (PLAIN[name],) for name in ("num_layers", "bidirectional"))
        return "h_n" not in self.returns and plain

    @property
    def roles(self) -> frozenset[str]:
        """The roles of torch's parameters that its own hold, in one direction."""
        return frozenset(name.removesuffix("_reverse") for name in self.names)

    def passed(self, states: Sequence[Any]) -> list[Any]:
        """Return the arguments of a call for these states: none, one, a tuple of several, several, or a list."""
        states = [list(state) for state in states] if self.layered else states
        if self.by_layer and states:
            return [list(zip(*states, strict=True))]
        return list(states) if self.apart or len(states) < 2 else [tuple(states)]

    @property
    def replaced(self) -> tuple[str, ...]:
        """The parts in whose places the identity is put."""
        return (*self.heads, *[self.embedding] * bool(self.embedding))

    @property
    def _both_in_one(self) -> bool:
        return self.bias_shape[0] == 2

    @property
    def built_for(self) -> frozenset[str]:
        """The sizes of a call, T or N, that its constructor takes."""
        return frozenset({"T", "N"} & {*self.sizes, *self.by_name.values()})

    def given(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return what its constructor is given by position and by name, of the values of sizes and options."""
        sizes = {own: values[name] for own, name in self.by_name.items()}
        options = {own: values[name] for name, own in self.takes.items() if own and name in values}
        first = [[values[name]] if name in values else values[name.removeprefix("*")] for name in self.sizes]
        return [value for several in first for value in several], {**sizes, **options}

    def shapes(self, shapes: Mapping[str, tuple[int, ...]], directions: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of its own parameters, by its names, for those of torch's layer."""
        turned = {name: shape[::-1] if self.conventions.transposed else shape for name, shape in shapes.items()}
        own = self.merged({name: np.zeros(shape) for name, shape in turned.items()}, directions, np.concatenate)
        return {name: array.shape for name, array in own.items()}

    def merged(self, tensors: Mapping[str, T], directions: int, beside: Callable[[list[T], int], T]) -> dict[str, T]:
        """Return tensors by its own names, some of them put side by side along an axis where it has one for several.

        They are given by the names of torch's layer, as its conventions have them.
        """
        own: dict[str, T] = {}
        for name, tensor in tensors.items():
            for block in self.blocks(name, directions):
                part: Any = self._rows(tensor, block.gates, beside)
                part = (
                    part.reshape((1, -1) if self._both_in_one else self.bias_shape) if name.startswith("bias") else part
                )
                if block.own in own and name.startswith("weight"):
                    order = -1 if self.joined == H_FIRST else 1
                    part = beside([own[block.own], part][::order], 0 if self.conventions.transposed else 1)
                elif block.own in own:
                    part = beside([own[block.own], part], 0) if self._both_in_one else own[block.own] + part
                own[block.own] = part
        return own

    def _rows(self, tensor: Any, gates: str, beside: Callable[[list[Any], int], Any]) -> Any:
        if gates == self.cell.gates:
            return tensor
        axis = int(self.conventions.transposed and tensor.ndim == 2)
        blocks = self._each(tensor, self.cell.gates, axis)
        return beside([blocks[gate] for gate in gates], axis) if len(gates) > 1 else blocks[gates]

    @staticmethod
    def _each(tensor: Any, gates: str, axis: int = 0) -> dict[str, Any]:
        size = tensor.shape[axis] // len(gates)
        places = [slice(i * size, (i + 1) * size) for i in range(len(gates))]
        return {gate: tensor[:, at] if axis else tensor[at] for gate, at in zip(gates, places, strict=True)}

    def parted(
        self, gradients: Mapping[str, T], names: Sequence[str], directions: int, beside: Callable[[list[T], int], T]
    ) -> dict[str, T]:
        """Return gradients by its own parameters as those by the parameters of torch's layer with some names.

        One that is missing is zero, unless all of a parameter of torch's layer are missing.
        """
        parted: dict[str, T] = {}
        for name in names:
            if self.conventions.one_bias and name.startswith("bias_hh"):  # the loss depends on both in the same way
                if (twin := name.replace("_hh_", "_ih_")) in parted:
                    parted[name] = parted[twin]
                continue
            blocks: dict[str, Any] = {}
            for block in self.blocks(name, directions):
                if (gradient := gradients.get(block.own)) is not None:
                    blocks |= self._each(self._columns(gradient, name, block, directions), block.gates)
            if blocks:
                some = next(iter(blocks.values()))
                ordered = [blocks[gate] if gate in blocks else some * 0 for gate in self.cell.gates]
                parted[name] = beside(ordered, 0) if len(ordered) > 1 else some
        return parted

    def _columns(self, gradient: Any, name: str, block: Block, directions: int) -> Any:
        """Return the columns of a gradient by one of its own matrices that belong to one of torch's."""
        if not name.startswith("weight"):
            return gradient[int("_hh" in name)] if self._both_in_one else gradient.reshape(-1)
        gradient = gradient.T if self.conventions.transposed else gradient
        twin = name.replace("_ih_", "_hh_") if "_ih_" in name else name.replace("_hh_", "_ih_")
        if block not in self.blocks(twin, directions):
            return gradient
        size = gradient.shape[0] // len(block.gates)
        if self.joined == X_FIRST:
            return gradient[:, -size:] if "weight_hh" in name else gradient[:, :-size]
        return gradient[:, :size] if "weight_hh" in name else gradient[:, size:]

    def arranged(
        self,
        returned: Any,
        leading: tuple[int, ...],
        stack: Callable[[Any], Any],
        *,
        batch_first: bool,
        directions: int = 1,
    ) -> Any:
        """Return what a call returned as torch's layer does, (output, h_n) or (output, h_n, c_n), or else unchanged.

        What is not returned is ``None``. The ``leading`` sizes are those of the first two axes of x.
        """
        if self.by_layer and isinstance(returned, tuple | list):
            returned = [tuple(map(stack, zip(*part, strict=True))) if is_by_layer(part) else part for part in returned]
        returned = stacked(returned, stack) if self.layered else returned
        parts = self.parts(returned)
        if len(parts) != len(self.returns):
            return returned
        named = {name: part for name, part in zip(self.returns, parts, strict=True) if name}
        if "output" in named and self.listed and isinstance(named["output"], list):
            named["output"] = stack(named["output"])
        if not all(hasattr(part, "shape") for part in named.values()):
            return returned
        output = named.get("output")
        if self.rows and output is not None and output.shape[:1] == (leading[0] * leading[1],):
            output = output.reshape(*leading, *output.shape[1:])
        states = [named[name][None] if self.flat_h_n else named[name] for name in self.cell.final if name in named]
        size = 0 if output is None else output.shape[-1] // directions
        states = [from_axes(state, self.final_axes, directions, size) for state in states]
        if "h_n" not in named:
            last = None
            if output is None:
                last = named["last"][None]
            elif self.h_n_is_last:
                last = output[:, -1][None] if batch_first and len(output.shape) == 3 else output[-1:]
            states.insert(0, last)
        return output, *states, *[None] * (len(self.cell.final) - len(states))

    def parts(self, returned: Any) -> list[Any]:
        """Return the parts of what a call returned; the steps of an output that is a list stay together."""
        if self.listed and len(self.returns) == 1:
            return [returned]
        parts = parts_of(returned)
        if len(parts) != len(self.returns) and isinstance(returned, tuple | list):  # a list of two steps is no state
            return parts_of(returned, lists=False)
        return parts

    def blocks(self, name: str, directions: int) -> list[Block]:
        """Return its own parameters that hold a parameter of torch's layer, such as ``weight_ih_l0_reverse``."""
        layer, _, reverse = name.partition("_l")[2].partition("_")
        number = int(layer) * directions + bool(reverse) if self.places == BOTH else int(layer)
        blocks = self.names[f"{role_of(name)}_{reverse}" if reverse else role_of(name)]
        return [block._replace(own=block.own.replace("{}", str(number + self.first))) for block in blocks]

    def _named(self, name: str) -> str:
        """Return its own names of a parameter of torch's layer, with the gates of each if there are several."""
        blocks = self.names[name]
        if self._both_in_one and name.startswith("bias"):
            return f"{blocks[0].own.replace('{}', '*')}[{int('_hh' in name)}]"
        several = len(blocks) > 1 or blocks[0].gates != (self.order or self.cell.gates)
        gates = f" ({', '.join(blocks[0].gates if len(blocks) == 1 else [block.gates for block in blocks])})" * several
        return ", ".join(block.own.replace("{}", "*") for block in blocks) + gates
