"""torch_form: the reading of a class of modules with a constructor, parameters and a call of its own.

Signatures tell what the constructor and a call take (``signature``), and shapes tell the parameters
(``parameters_by_shape``). The rest is told by calls on random numbers.
"""

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, permutations, product
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from harness.space.cells import CELL_DEFINITIONS, layer_named
from harness.space.config import RNNConfig, role_of
from harness.space.factor_table import OPTIONS, PACKINGS, PLAIN
from harness.space.scope import Scope
from harness.subjects.adapter import Adapter, AdapterModuleFactory, form_of_weights
from harness.subjects.axes import mapped
from harness.subjects.class_form import (
    H_FIRST,
    LAYERS,
    X_FIRST,
    ClassForm,
    ModuleSizes,
    is_by_layer,
    is_layered,
    parts_of,
    stacked,
)
from harness.subjects.conventions import Conventions
from harness.subjects.length_argument import (
    LENGTH_KINDS,
    LengthsUnreadError,
    LengthTrial,
    valid_steps_of,
    with_all_steps,
)
from harness.subjects.numpy_arrays import arrays_of, to_numpy
from harness.subjects.numpy_back import BackwardRecorder, NumpyCall
from harness.subjects.numpy_back_reading import BackwardTrial, Masks, calls_back, read_backward
from harness.subjects.parameters_by_shape import (
    TELLING_SIZES,
    Roles,
    Shapes,
    layers_of,
    numbered,
    roles_of,
    told_of,
    unread,
)
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.signature import (
    OF_STEPS,
    as_optional,
    by_state_names,
    constructor,
    may_be_states,
    needed,
    never_given,
    spare,
    states_by_name,
    states_taken,
    trials,
)
from harness.subjects.state_axes import IN_ROWS, TORCH_AXES, all_axes, from_axes, shape_of, to_axes
from harness.subjects.state_containers import StateContainer, container_of, with_container
from harness.subjects.torch_autograd import seeded
from harness.subjects.torch_class_facts import takes
from harness.subjects.torch_tensors import near

# The default of each of nn.RNN's options. A constructor that does not take the option is asked for nothing else.
DEFAULTS: Final[dict[str, tuple[Any, ...]]] = {name: (PLAIN[name],) for name in OPTIONS}

STEPS, SEQUENCES, MANY = *TELLING_SIZES[0][3:], 16
"""The steps and sequences on which a layer is tried, and the sequences on which a cell is. Of so many units, some are
not dead under relu, whatever the random numbers are."""

SPREAD: Final = 0.3
"""The standard deviation of the parameters in a trial. With up to 80 terms that of a sum is below 3, where tanh is not
yet one in float32. So it shows there on which numbers a state depends."""

LARGE_C: Final = 2.0**14  # of which forget gates of 0.15 leave 8 after 4 steps, where the slope of tanh is 5e-7

_SIZES: Final = ("input_size", "hidden_size")

# The values of the options of a constructor.
_CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "num_layers": (2, 1),
    "bidirectional": (True, False),
    "batch_first": (True, False),
    "dropout": (0.5, 0.0),
    "nonlinearity": ("relu", "tanh"),
    "bias": (False, True),
}

_WEIGHT: Final = re.compile("(?i)^[wub]|weight|bias|kernel")  # in the names of parameters

_X: Final = f"({STEPS}, {SEQUENCES}, {{}})"

TensorSequence = Sequence[torch.Tensor]
Given = tuple[Any, ...]  # The arguments of a call: x, and a state, a tuple of states, or several
Rows = list[list[float]]


class _ResultForm(NamedTuple):
    """The way in which a call on a sequence answers. The defaults are nn.RNN's."""

    names: tuple[str, ...] = ("output", "h_n")
    flat: bool = False  # it takes states (N, H)
    flat_h_n: bool = False  # it returns them so
    rows: bool = False
    call_arguments: Given = ()  # the arguments of a call that answered so
    layered: bool = False  # its states are lists of (N, H)
    listed: bool = False  # its output is a list of steps
    state_axes: str = TORCH_AXES  # the axes of the states that it takes, if they are not flat
    final_axes: str = TORCH_AXES  # and of those that it returns
    # The axes of x along which later outputs depend on earlier inputs: that of time, in a class that is right.
    axes: tuple[int, ...] = ()
    batches: frozenset[int] = frozenset()  # the numbers of sequences of the states that the call was given and returned

    @property
    def batch_first(self) -> bool:
        """True if x is (N, T, input_size): time is the second axis, or a state is of as many sequences as the first."""
        return self.axes == (1,) or (self.axes != (0,) and STEPS in self.batches)


class _CallReading(NamedTuple):
    """The way in which a class is called."""

    heads: tuple[str, ...]  # the output layer that is left out
    returned: _ResultForm | None
    reason: str  # why what it returns without its output layer tells nothing
    cell: tuple[tuple[str, ...], bool] | None  # what a cell returns, and whether it takes each state by itself


def form_of(factory: Any, name: str, cell: str = "") -> ClassForm | None:
    """Return the form of a class; ``None`` if it is nn.RNN's, or a cell's, or if it shows in the search what is wrong.

    A ``cell`` is that which it is declared to be. Raises ``SubjectUnavailable`` for a constructor that takes something
    else, and for what cannot be told.
    """
    if issubclass(factory, torch.nn.RNNCell) or (reading := constructor(factory)) is None:
        return None
    try:
        form = _form_of(factory, name, cell, *reading)
    except SubjectUnavailable:
        if not (obstacle := _unregistered(factory, reading[0])):
            raise
        raise SubjectUnavailable(f"{name}: {obstacle}") from None
    if form is None and (obstacle := _unregistered(factory, reading[0], alone=True)):
        raise SubjectUnavailable(f"{name}: {obstacle}")
    return form


def _form_of(factory: Any, name: str, cell: str, form: ClassForm, unknown: Sequence[str]) -> ClassForm | None:
    """Return the form of a class, of which the constructor alone tells one, and the arguments that say nothing."""
    same = {*OPTIONS, "device", "dtype"} - {"nonlinearity"} <= {*form.takes}
    if same and issubclass(factory, torch.nn.RNNBase):
        return None
    same = same and not (unknown or form.by_name)
    form = constructed(factory, name, cell)
    try:
        sizes, shapes = parameters_of_plain(factory, form)
    except Exception as error:
        if same:
            return None
        reason = f"{type(error).__name__}: {error}"
        raise SubjectUnavailable(f"{name}: cannot be made with {_worded(TELLING_SIZES[-1], form)}: {reason}") from error
    if not shapes:
        raise unread(shapes, sizes, name)
    rows = shapes.get("weight_ih_l0", (0,))[0] // sizes.hidden_size
    if same and rows == 1:
        return None
    return replace(_read_called(_FormReader(factory, name, form, sizes, cell), shapes), drop_in=same and rows > 1)


def _read_called(plain: "_FormReader", shapes: Shapes) -> ClassForm:
    """Return what a reader finds out of a class, with the argument of its call that says how many steps count."""
    try:
        return _with_valid_steps(plain, _read(replace(plain), shapes))
    except SubjectUnavailable:
        forms: list[tuple[_FormReader, ClassForm]] = []
        for given, read in _with_needed_argument(plain, shapes):
            form = _with_valid_steps(given, read)
            # Of two kinds that work, such as a mask m of booleans where 1 - m is an int, one keeps the dtype of x.
            if "lengths" in form.offers and plain.keeps_dtype(form):
                return form
            forms.append((given, form))
        if not forms:
            raise
    for form in (*(form for _, form in forms), *(_with_lengths(*pair, wrongly=True) for pair in forms)):
        if "lengths" in form.offers:
            return form
    raise LengthsUnreadError(plain.name, forms[0][1].valid[0])


def _with_needed_argument(plain: "_FormReader", shapes: Shapes) -> Iterator[tuple["_FormReader", ClassForm]]:
    """Yield a reader with each kind of an argument that a call needs, of which all calls succeed, and what it reads.

    In these calls each step counts.
    """
    reads: list[tuple[ClassForm, list[torch.Tensor]]] = []
    names = [] if plain.has_own_call else needed(plain.factory.forward)
    for valid, axes in product(product(names, LENGTH_KINDS), ("NT", "TN")):
        with suppress(SubjectUnavailable):
            known = (
                replace(read, valid=valid)
                for read, results in reads
                if (read.valid[0], read.needs) == (valid[0], axes)
                and _same(plain.results(replace(read, valid=valid)), results)
            )
            given = replace(plain, form=replace(plain.form, valid=valid, needs=axes))
            if (read := next(known, None)) is None:
                read = _read(given, shapes)
                reads.append((read, plain.results(read)))
            if ("batch_first" not in read.takes and read.conventions.batch_first) == (axes == "NT"):
                yield given, read


def _read(plain: "_FormReader", shapes: Shapes) -> ClassForm:
    """Return what a reader finds out of a class as it is, or without those of its arrays that are states."""
    plain.form = replace(plain.form, state_names=states_by_name(plain.forward))
    cells = [plain.cell] if plain.cell else ["RNN", "LSTM"]  # with one or two states
    places = [replace(plain, cell=cell).steps_in_tuple() for cell in cells]
    plain.form = replace(plain.form, steps=next((place for place in places if place is not None), None))
    plain.form = replace(plain.form, container=plain.container())
    try:
        read, apart = _either_way(plain, shapes)
    except SubjectUnavailable:
        for states in plain.states_held():
            plain.factory.states |= states
            with suppress(SubjectUnavailable):
                read, apart = _either_way(plain, parameters_of_plain(plain.factory, plain.form)[1])
                read = replace(read, states=tuple(plain.factory.states))
                break
        else:
            raise
    every = [*may_be_states(plain.forward, len(read.cell.final))]
    by_place = apart or plain.form.state_names or len({*chain(*every)}) <= len(read.cell.final)
    for names in () if by_place and not read.stateless else every:  # another argument may be the state
        with suppress(SubjectUnavailable):
            named = replace(plain, form=replace(plain.form, state_names=names))
            candidate, apart = _either_way(named, parameters_of_plain(plain.factory, plain.form)[1])
            if apart or (read.stateless and True in candidate.offers["hx"]):
                read = replace(candidate, states=read.states)
                break
    number = len(read.passed([*read.cell.final])) * (True in read.offers["hx"])
    unused = () if read.stateless else never_given(plain.forward, number, read.state_names[:number])
    return _with_axes_of_a_stack(plain, replace(read, never_given=unused))


def _with_axes_of_a_stack(plain: "_FormReader", form: ClassForm) -> ClassForm:
    """Return a form with the axes of the states of a stack: of one layer and one direction, several orders are one."""
    always = _always(form)
    layers = 3 if "num_layers" not in form.offers else always[0]  # all sizes differ, and from those of x
    directions = 2 if "bidirectional" not in form.offers else always[1]
    flat = form.flat or form.flat_h_n
    in_rows = flat or not {form.state_axes, form.final_axes}.isdisjoint(IN_ROWS)
    alone = form
    if in_rows and not form.is_cell:
        alone = replace(form, offers={**form.offers, "num_layers": always[:1], "bidirectional": (always[1] == 2,)})
    if form.is_cell or form.unbatched or (layers, directions) == always:
        return alone
    every, options = all_axes(layers, directions), {"num_layers": layers, "bidirectional": directions == 2}
    every = tuple(filter(IN_ROWS.__contains__, every)) if flat else every

    def returned(taken: str) -> str:
        """Return the axes of what is returned for states of some axes; nothing if that fails, or has none."""
        candidate = replace(form, state_axes=taken, flat=False)
        with seeded(0), torch.no_grad(), suppress(Exception):
            module = _built(plain.factory, form, plain.sizes, options)
            hx = True in form.offers["hx"]
            arguments = _arguments(candidate, plain.sizes, torch.randn, hx=hx, stack=(layers, directions))
            parts = dict(zip(form.returns, form.parts(module(*arguments)), strict=True))
            finals = [part for name, part in parts.items() if name in form.cell.final]
            shapes = {tuple(part.shape) for part in finals}
            sizes = layers, directions, SEQUENCES, plain.sizes.hidden_size
            fits = [axes for axes in dict.fromkeys((form.final_axes, *every)) if shapes == {shape_of(axes, *sizes)}]
            if fits and fits[0] in IN_ROWS:
                states = StatesInRows(finals[0], parts["output"], layers, directions)
                return "" if states.are_of_a_step else states.axes
            return fits[0] if fits else ""
        return ""

    for taken in dict.fromkeys(every if flat else (form.state_axes, *every)):
        if final := returned(taken):
            same = sorted(final) == sorted(taken) and returned(final) == final  # what is returned is taken again
            return replace(form, state_axes=final if same else taken, final_axes=final, flat=False, flat_h_n=False)
    return alone


class StatesInRows(NamedTuple):
    """States (N, layers * directions * H), which numbers tell from all else of that shape, beside an output."""

    states: torch.Tensor
    output: torch.Tensor  # (T, N, directions * H), or (N, T, directions * H)
    layers: int
    directions: int

    @property
    def _steps(self) -> torch.Tensor:
        """The output as (T, directions, N, H)."""
        output = self.output if self.output.shape[1] == len(self.states) else self.output.transpose(0, 1)
        return output.reshape(*output.shape[:2], self.directions, -1).transpose(1, 2)

    def _of_last_layer(self, axes: str) -> torch.Tensor:
        """Return the states of the last layer, (directions, N, H), if all have an order of axes."""
        states: torch.Tensor = from_axes(self.states, axes, self.directions, self._steps.shape[-1])
        return states[-self.directions :]

    @property
    def axes(self) -> str:
        """The order of their axes, in which those of the last layer are outputs of some steps; nothing if none is."""
        outputs = self._steps.flatten(0, 1)
        for axes in filter(IN_ROWS.__contains__, all_axes(self.layers, self.directions)):
            if all(any(near(own, state) for own in outputs) for state in self._of_last_layer(axes)):
                return axes
        return ""

    @property
    def are_of_a_step(self) -> bool:
        """True if they are the output of one step, in which two directions do not end."""
        return self.directions > 1 and any(near(step, self._of_last_layer(self.axes)) for step in self._steps)


def _with_valid_steps(plain: "_FormReader", form: ClassForm) -> ClassForm:
    """Return a form with the argument that says how many steps of a sequence count, if there is one.

    What may be final states, or one step of the output in both directions, is told by calls with this argument.
    """
    read = _with_lengths(plain, form)
    if "lengths" not in read.offers and not form.needs:
        read = _with_packing(plain, _with_lengths(plain, form, wrongly=True))
    if form.final_axes in IN_ROWS and _always(form)[1] == 2 and "h_n" in form.returns:
        with seeded(0), torch.no_grad(), suppress(Exception):  # whatever the user's code raises on other numbers
            trial = plain.trial(read, read.conventions.batch_first)
            output, h_n, *_ = trial.plain
            if read.valid[0]:
                output, h_n, *_ = trial.with_shorter(read.valid, SEQUENCES - 1)
            if output is not None and h_n is not None:
                last = h_n[-2:, -1]  # (directions, H), of the last sequence
                if any(near(step.unflatten(-1, (2, -1)), last) for step in output[:, -1]):
                    returns = tuple(name * (name not in form.cell.final) for name in form.returns)
                    offers = {**form.offers, "loss": (None, "output")}
                    without = replace(form, returns=returns, final_axes=TORCH_AXES, offers=offers, of_step=True)
                    return _with_lengths(plain, without)
    return read


def _with_lengths(plain: "_FormReader", form: ClassForm, *, wrongly: bool = False) -> ClassForm:
    """Return a form with such an argument, or with one by which only a part of the results is cut."""
    if form.is_cell or form.unbatched or not form.never_given:
        return form
    with seeded(0), torch.no_grad(), suppress(Exception):
        turned = form.conventions.batch_first
        choices = [form.valid] if form.needs else product(form.never_given, LENGTH_KINDS)
        argument = valid_steps_of(choices, plain.trial(form, turned), wrongly=wrongly)
        either = "batch_first" not in form.takes or "batch_first" in form.offers
        if argument is not None and not either:  # a mask may be laid out as x is
            trial = plain.trial(form, True, batch_first=True)
            cuts = trial.cuts_partly if wrongly else trial.cuts
            argument = argument if cuts(argument[:2], SEQUENCES - 1) else None
        if argument is not None:
            kinds = (None, None, None, *PACKINGS[1 : 4 if argument.any_order else 3])
            unused = tuple(name for name in form.never_given if name != argument.name)
            offers = {**form.offers, "lengths": kinds}
            return replace(form, valid=(argument.name, argument.kind), never_given=unused, offers=offers)
    return form


def _with_packing(plain: "_FormReader", form: ClassForm) -> ClassForm:
    """Return a form that offers lengths, if a call on a PackedSequence returns its output as another.

    All else has the shapes that it has of a tensor: ``output[-1]`` of a PackedSequence is no step. The call is of two
    layers with dropout where there may be such: what stands between layers may not take a PackedSequence.
    """
    if form.is_cell or form.unbatched or form.valid[0] or form.replaced or plain.has_own_call:
        return form
    with seeded(0), torch.no_grad(), suppress(Exception):  # whatever the user's code raises for what it does not take
        choices: dict[str, Any] = {"num_layers": 2, "dropout": 0.5}
        options = {name: value for name, value in choices.items() if name in form.takes and name not in form.offers}
        layers, directions = _always(form)
        stack = options.get("num_layers", layers), directions
        x, *states = _arguments(form, plain.sizes, torch.randn, hx=False not in form.offers["hx"], stack=stack)
        lengths = torch.tensor([STEPS] * (SEQUENCES - 1) + [STEPS - 1])
        packed = pack_padded_sequence(x, lengths, batch_first=form.conventions.batch_first)
        module = _built(plain.factory, form, plain.sizes, options)
        packing, returned = without_packing(module(packed, *states))
        others = [[part.shape for part in _parts(some)[1:]] for some in (returned, module(x, *states))]
        if packing is not None and others[0] == others[1]:
            return replace(form, packs=True, offers={**form.offers, "lengths": (None, None, None, *PACKINGS[1:])})
    return form


def without_packing(returned: Any) -> tuple[PackedSequence | None, Any]:
    """Return the PackedSequence that a call returned as its output, if it did, and the same with its data there."""
    if isinstance(returned, PackedSequence):
        return returned, returned.data
    if isinstance(returned, Mapping):
        packing, values = without_packing(tuple(returned.values()))
        return packing, returned if packing is None else dict(zip(returned, values, strict=True))
    if isinstance(returned, tuple | list) and returned and isinstance(returned[0], PackedSequence):
        return returned[0], (returned[0].data, *returned[1:])
    return None, returned


def _either_way(plain: "_FormReader", shapes: Shapes) -> tuple[ClassForm, bool]:
    """Return what a reader finds out, and whether states keep sequences apart.

    x is (N, T, input_size) where the layer is made for such.
    """
    reader = replace(plain)
    try:
        return reader.read(shapes), reader.apart
    except SubjectUnavailable:
        if not plain.form.built_for:
            raise
        reader = plain.turned
        read = reader.read(shapes)
        turned = replace(read.conventions, batch_first="batch_first" not in read.takes)
        return replace(read, conventions=turned), reader.apart


def constructed(factory: Any, name: str, cell: str = "") -> ClassForm:
    """Return the first form of a constructor, that of its own names first, that makes a layer; the first if none does.

    Raises ``SubjectUnavailable`` for arguments that say nothing.
    """
    form, unknown = constructor(factory) or (None, ())
    if form is None:
        raise SubjectUnavailable(f"{name}: its constructor's arguments cannot be read")
    several, named = None, False
    for trial in chain([] if unknown else [form], trials(factory, form)):
        with suppress(Exception):
            sizes, shapes = parameters_of_plain(factory, trial)
            layers = layers_of(shapes, sizes, name, cell)
            if layers.number > 1:  # one of its arguments may be that number
                same = {*_shapes_of(_built(factory, trial, sizes._replace(output_size=8, T=6, N=5), {}))} == {*shapes}
                several = several or (trial if same else None)
            elif trial is form or not _names_a_size(factory, trial, shapes):
                return _with_growth(factory, trial, sizes)
            else:
                named = True
    if several is not None:
        return several
    if len({*form.sizes, *form.by_name.values()} & {*_SIZES}) == 1:
        raise SubjectUnavailable(
            f"{name}{inspect.signature(factory)}: takes no input_size and hidden_size, which are varied"
        )
    if unknown:
        which, are = ", ".join(unknown), "are" if len(unknown) > 1 else "is"
        if {*unknown} != {*(needed := may_be_unknown(factory, form))}:
            which = f"one of {', '.join(needed)}"
        raise SubjectUnavailable(f"{name}{inspect.signature(factory)}: {which} {are} no size and no option of nn.RNN's")
    if named:
        raise SubjectUnavailable(f"{name}{inspect.signature(factory)}: an argument names parameters: no size")
    return form


def may_be_unknown(factory: Any, form: ClassForm) -> list[str]:
    """Return the arguments that a constructor needs and whose names say nothing certain."""
    return [name for name in spare(factory, form, None) if name not in (*form.sizes, "input_size", "hidden_size")]


def _names_a_size(factory: Any, form: ClassForm, shapes: Shapes) -> bool:
    """Tell whether the names of parameters are others with other sizes or options: one of these is a name."""
    choices: list[dict[str, Any]] = [{}, {"num_layers": 2}, {"nonlinearity": "relu"}]
    for sizes, options in zip((TELLING_SIZES[-1], TELLING_SIZES[0], TELLING_SIZES[0]), choices, strict=True):
        with suppress(Exception):
            if not {*shapes} <= {*_shapes_of(_built(factory, form, sizes, options))}:
                return True
    return False


def _with_growth(factory: Any, form: ClassForm, sizes: ModuleSizes) -> ClassForm:
    """Return a form with the arguments, under any name, that make layers or a direction: these add parameters."""
    for option, more in (("num_layers", 2), ("bidirectional", True)):
        [plain] = DEFAULTS[option]
        for own in spare(factory, form, type(more)) if option not in form.takes else ():
            candidate = replace(form, takes={**form.takes, option: own})
            with suppress(Exception):
                few, many = (_shapes_of(_built(factory, candidate, sizes, {option: value})) for value in (plain, more))
                if few.items() < many.items():
                    form = candidate
                    break
    return form


def form_of_adapter(built: AdapterModuleFactory, name: str, cell: str = "") -> ClassForm:
    """Return the form of what an adapter makes. Raise ``SubjectUnavailable`` for what it does not tell rightly."""
    try:
        reads = built.adapter.reads
        takes = {option: option for option in OPTIONS if option in reads}
        by_name: dict[str, str] = {size: size for size in (*_SIZES, "T", "N") if size in _SIZES or size in reads}
        form = ClassForm(takes, {}, 0, LAYERS, Conventions(), {}, sizes=(), by_name=by_name)
        fixed = {size: values[0] for size, values in built.offers.items() if size in _SIZES}
        sizes, shapes = _made(built, form, [choice._replace(**fixed) for choice in TELLING_SIZES])
    except SubjectUnavailable as error:
        raise SubjectUnavailable(f"{name}: {error}") from None
    except Exception as error:
        raise SubjectUnavailable(f"{name}: build raises {type(error).__name__}: {error}") from error
    weights = built.adapter.weights
    try:
        form = form if weights is None else form_of_weights(form, weights, shapes, *sizes[:2], cell=cell)
    except SubjectUnavailable as error:
        raise SubjectUnavailable(f"{name}: {error}") from None
    return _read_called(_FormReader(built, name, form, sizes, cell), shapes)


def _always(form: ClassForm) -> tuple[int, int]:
    """Return the number of layers, and of directions, of a plain module."""
    return form.offers.get("num_layers", (1,))[0], 1 + (form.offers.get("bidirectional") == (True,))


def returned_by(factory: Any, form: ClassForm, sizes: ModuleSizes, module: torch.nn.Module | None = None) -> Any:
    """Return what a call of a class of a known form, or of a module of it, returns, as it is."""
    module = _built(factory, form, sizes, {}) if module is None else module
    with torch.no_grad():
        return module(*_arguments(form, sizes, torch.ones, hx=True in form.offers["hx"]))


def with_way_back(factory: Any, form: ClassForm) -> ClassForm:
    """Return the form of a class of modules of NumPy code, and give the class its own way back, if that can be read."""
    forward_only = replace(form, offers={**form.offers, "loss": (None,)})
    if isinstance(factory, AdapterModuleFactory) and factory.adapter.call is not None:
        # Its own arrays are laid out otherwise.
        trials = [*_numpy_trials(factory, form)][:1]
        calls = [call.words for trial in trials for call in calls_back(trial.call.holder)]
        why = f"its {calls[0]} is not read: an adapter's call is given" if calls else ""
        return replace(forward_only, not_compared={"loss": why} if why else {})
    # Where a call takes several sequences, its way back may take one alone.
    alone = [] if form.unbatched or form.is_cell or form.rows else [replace(form, unbatched=True)]
    readings = []
    for candidate in (form, *alone):
        if trials := [*_numpy_trials(factory, candidate)]:
            reading = read_backward(trials, form.cell.final, factory.function, is_cell=form.is_cell)
            if (back := reading.back) is not None:
                factory.back = back
                losses = form.offers.get("loss", back.losses)
                offers = {**form.offers, "loss": tuple(loss for loss in back.losses if loss is None or loss in losses)}
                name, apart = back.call.function.name, candidate is not form
                return replace(form, offers=offers, back=name, back_of_one=apart, not_compared=reading.gaps)
            readings.append(reading)
    return replace(forward_only, not_compared=readings[0].gaps if readings else {})


def with_not_compared(factory: Any, form: ClassForm) -> ClassForm:
    """Return the form of a class with what it offers and is not compared: options, states, lengths, gradients.

    What raises ``NotImplementedError`` is not offered, and neither is what an adapter's ``offers`` leave out.
    """
    why = dict(form.not_compared)
    declared = factory.offers if isinstance(factory, AdapterModuleFactory) else {}
    outside = ("dropout",) * bool(form.heads)  # what is dropped elsewhere is no part of the recurrence
    for name, values in form.offers.items():
        other = next((value for value in _CHOICES.get(name, ()) if value not in values), None)
        asked = name in form.takes and other is not None and name not in {*declared, *outside}
        if asked and (does := _with_option(factory, form, name, other)) is not None:
            why[name] = f"with {other}, {does or form.refusal(name)}"
    if form.cell.name == "LSTM" and takes(factory, "proj_size") and "proj_size" not in declared:
        with_it = replace(form, takes={**form.takes, "proj_size": "proj_size"})
        if (does := _with_option(factory, with_it, "proj_size", 1)) is not None:
            why["proj_size"] = f"with 1, {does or 'none is known of a class of its own form'}"
    if (form.stateless and not _refuses_states(factory, form)) or form.always_given:
        why["hx"] = form.refusal("hx")
    unused = [name for name in form.never_given if not _refuses_argument(factory, form, name)]
    if of_steps := [name for name in unused if OF_STEPS.search(name)]:
        tried = ": no kind of lengths or masks in it makes a sequence shorter" * (not (form.is_cell or form.unbatched))
        why["lengths"] = f"{' or '.join(of_steps)} is never given{tried}"
    why |= {name: f"{name} is never given" for name in unused if name in OPTIONS}
    return replace(form, not_compared=why)


def _refuses_states(factory: Any, form: ClassForm) -> bool:
    """Tell whether a class refuses any initial state: by place, or by a name that may be a state's."""
    sizes, _ = parameters_of_plain(factory, form)
    x, *states = _arguments(form, sizes, torch.ones, hx=True)
    forward = _built(factory, form, sizes, {}).forward
    by_name = (zip(names, states, strict=False) for names in may_be_states(forward, len(states)))
    return _refuses(factory, form, [((x, *states), {}), *(((x,), dict(named)) for named in by_name)])


def _refuses_argument(factory: Any, form: ClassForm, name: str) -> bool:
    """Tell whether a class refuses, in an argument, any lengths and masks, or all values of an option but the plain."""
    sizes, _ = parameters_of_plain(factory, form)
    given = _arguments(form, sizes, torch.ones, hx=False not in form.offers["hx"])
    lengths = [sizes.T] * (SEQUENCES - 1) + [sizes.T - 1]
    values = [value for value in _CHOICES.get(name, ()) if value != PLAIN[name]]
    if OF_STEPS.search(name):
        values = [kind(lengths, sizes.T, given[0]) for kind in LENGTH_KINDS.values()]
    return _refuses(factory, form, [(given, {name: value}) for value in values])


def _refuses(factory: Any, form: ClassForm, calls: Iterable[tuple[Given, Mapping[str, Any]]]) -> bool:
    """Tell whether some calls of a class, of their arguments, raise ``NotImplementedError``, and none succeeds."""
    sizes, _ = parameters_of_plain(factory, form)
    errors = []
    for given, named in calls:
        try:
            with torch.no_grad():
                _built(factory, form, sizes, {})(*given, **named)
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            errors.append(error)
        else:
            return False
    return any(isinstance(error, NotImplementedError) for error in errors)


def _with_option(factory: Any, form: ClassForm, name: str, value: Any) -> str | None:
    """Say what a class does with a value of an option that is not compared, if that shows; ``None`` if it refuses it.

    It is called on x alone, because its states may have other axes with the option.
    """
    sizes, plain_shapes = parameters_of_plain(factory, form)
    try:
        module = _built(factory, form, sizes, {name: value})
        if False in form.offers["hx"]:
            with torch.no_grad():
                module(*_arguments(form, sizes, torch.ones, hx=False))
    except NotImplementedError:
        return None
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises
        return f"it raises {type(error).__name__}: {str(error).partition(chr(10))[0]}".removesuffix(": ")
    new = [f"{own} {shape}" for own, shape in _shapes_of(module).items() if own not in plain_shapes]
    if not new or not {"h_n", "output"} & {*form.returns}:
        return ""
    where = f"with input_size={sizes.input_size} and hidden_size={sizes.hidden_size}"
    return f"its parameters, such as {new[0]} {where}, are not read as nn.RNN's"


def with_loader(factory: Any, form: ClassForm) -> ClassForm:
    """Return the form of a class of modules of NumPy code, with the method that takes weights by torch's names, if any.

    It is one that changes all parameters of a stack, of each matrix, and in the same way if the order is another one.
    """
    sizes, _ = parameters_of_plain(factory, form)
    module: Any = _built(factory, form, sizes, {})
    for loader in module.loaders() if factory.function is None else ():
        stacks = [{"num_layers": n, "bidirectional": d} for n, d in _stacks(form) if n < 3]
        with suppress(Exception), seeded(0):
            if all(_loads(factory, form, sizes, loader, stack) for stack in stacks):
                return replace(form, loader=loader)
    return form


def _loads(factory: Any, form: ClassForm, sizes: ModuleSizes, loader: str, stack: Mapping[str, Any]) -> bool:
    config = RNNConfig(*sizes[:2], **stack, cell=form.conventions.cell)
    weights = {name: torch.randn(spec.shape) for name, spec in config.weights.items()}

    def held(state: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        module: Any = _built(factory, form, sizes, stack)
        if state:
            module.load_by(loader, state)
        return [parameter.detach().clone() for parameter in module.parameters()]

    before, after = held({}), held(weights)
    in_other_order = held(dict(reversed(weights.items())))
    matrices = [name for name in weights if name.startswith("weight")]
    without_one = (held({**weights, name: torch.zeros_like(weights[name])}) for name in matrices)
    every = not any(map(torch.equal, before, after))
    return every and _same(after, in_other_order) and not any(_same(after, parameters) for parameters in without_one)


def _stacks(form: ClassForm) -> Iterator[tuple[int, bool]]:
    """Yield the numbers of layers that a class offers, and whether there are two directions, the plain ones first."""
    layers = form.offers.get("num_layers", sorted({*Scope().num_layers}))
    return product(layers, form.offers.get("bidirectional", (False, True)))


def _numpy_trials(factory: Any, form: ClassForm) -> Iterator[BackwardTrial]:
    """Yield calls of each stack that a class of modules of NumPy code offers, the plain one first."""
    sizes, _ = parameters_of_plain(factory, form)
    gated = len(form.cell.final) > 1
    for stack, hx in product(_stacks(form), form.offers["hx"]):
        directions = 1 + stack[1]
        config = RNNConfig(*sizes[:2], num_layers=stack[0], bidirectional=stack[1], cell=form.conventions.cell)
        of_layers = [name for name in config.weights if role_of(name) in form.roles]
        needed = frozenset(block.own for name in of_layers for block in form.blocks(name, directions))

        def tried(T: int = STEPS, spread: float = SPREAD, c: float | None = None) -> tuple[NumpyCall, Masks]:
            return _numpy_call(factory, form, sizes._replace(T=T), stack, hx=hx, spread=spread, c=c)  # noqa: B023

        with suppress(Exception):
            call, masks = tried()
            trial = BackwardTrial(call, masks, needed, (stack[0], directions))
            if hx and gated:
                with suppress(Exception):
                    trial = trial._replace(of_zeros=tried(spread=0)[0], of_large=tried(c=LARGE_C)[0])
            with suppress(Exception):
                longer = BackwardTrial(*tried(1 + max(SEQUENCES, sizes.hidden_size)), needed, trial.stack)
                trial = trial._replace(longer=longer)
            yield trial


def _numpy_call(
    factory: Any,
    form: ClassForm,
    sizes: ModuleSizes,
    stack: tuple[int, bool],
    *,
    hx: bool,
    spread: float,
    c: float | None,
) -> tuple[NumpyCall, Masks]:
    """Return a call of a stack, and on which elements of what it returned each result depends."""
    layers, directions = stack[0], 1 + stack[1]
    with seeded(0):
        module: Any = _built(factory, form, sizes, {"num_layers": layers, "bidirectional": stack[1]})
        for parameter in module.parameters():
            parameter.detach().normal_(0, spread)
        given = _arguments(form, sizes, torch.randn, hx=hx, stack=(layers, directions), c=c)
    module.back = recorder = BackwardRecorder()
    with torch.enable_grad():
        returned, masks = module(*given), dict[str, Sequence[np.ndarray]]()
        for name, result in _results_of(form, returned, given[0], directions).items():
            torch.autograd.grad(
                result, [*module.parameters()], torch.ones_like(result), retain_graph=True, allow_unused=True
            )
            masks[name] = [array != 0 for array in recorder.of_returned]
    return recorder.run, masks


def _results_of(form: ClassForm, returned: Any, x: torch.Tensor, directions: int) -> dict[str, torch.Tensor]:
    """Return the results of a call by their names, those that are compared."""
    names = ("output", *form.cell.final)
    if form.is_cell:
        parts = dict(zip(form.returns, form.parts(returned), strict=True))
        return {name: parts[form.cell.final[0] if name == "output" else name] for name in names}
    turned = form.conventions.batch_first
    made = form.arranged(returned, tuple(x.shape[:2]), torch.stack, batch_first=turned, directions=directions)
    return {name: result for name, result in zip(names, made, strict=True) if result is not None}


def _arguments(
    form: ClassForm,
    sizes: ModuleSizes,
    fill: Callable[..., torch.Tensor],
    *,
    hx: bool,
    stack: tuple[int, int] | None = None,
    c: float | None = None,
) -> Given:
    """Return the arguments of a call of a class of a known form, of layers and directions if it is not plain.

    All states but h may be a number ``c``.
    """
    batch = [SEQUENCES] * (not form.unbatched)
    layers, directions = stack or _always(form)
    shape = (*[layers * directions] * (not (form.flat or form.is_cell)), *batch, sizes.hidden_size)
    every = [fill(*shape) for _ in form.cell.final if hx]
    every[1:] = every[1:] if c is None else [torch.full(shape, c) for _ in every[1:]]
    states = [to_axes(state, form.state_axes, directions) for state in every]
    x = fill(sizes.T, *batch, sizes.input_size)
    x = x.transpose(0, 1) if form.conventions.batch_first else x
    return x[0] if form.is_cell else x, *form.passed(states)


def reads_each_gate(factory: Any, form: ClassForm) -> bool:
    """Tell whether some matrix of a layer with gates counts to its last row and column.

    A loop over the units reads the rows of the first gate alone, if it is of a layer that has no others.
    """
    if len(form.cell.gates) < 2:
        return True
    sizes, _ = parameters_of_plain(factory, form)
    module = _built(factory, form, sizes, {})

    def answer() -> list[torch.Tensor]:
        parts = parts_of(stacked(returned_by(factory, form, sizes, module), torch.stack))
        return [part for part in parts if isinstance(part, torch.Tensor)]

    with torch.no_grad(), suppress(Exception):
        generator = torch.Generator().manual_seed(0)  # one for all: gates with the same numbers may hide each other
        for parameter in module.parameters():
            parameter.normal_(0, SPREAD, generator=generator)
        before = answer()
        for parameter in module.parameters():
            if parameter.ndim > 1 and 1 not in parameter.shape:
                parameter[-1, -1] += 1
                if not _same(before, answer()):
                    return True
        return False
    return True  # a call that fails tells nothing


def without(module: torch.nn.Module, heads: Sequence[str]) -> torch.nn.Module:
    """Return the same module, with the identity in the places of these parts of it."""
    for head in heads:
        module.set_submodule(head, torch.nn.Identity())
    return module


@dataclass
class _FormReader:
    """The reader of one class, which finds out its form piece by piece."""

    factory: Any
    name: str
    form: ClassForm  # the form as far as it is known
    sizes: ModuleSizes
    cell: str = ""  # the cell that it must be, if any
    directions: int = 1  # of a plain layer: two if there always are two
    layers: int = 1  # of a plain layer: more if there always are so many
    unbatched: bool = False  # it takes one sequence
    apart: bool = False  # the state of a sequence counts for its own output, and for no other one's
    # The values that it is asked for, where those are fewer.
    offers: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def read(self, shapes: Shapes) -> ClassForm:
        """Return the form of the class, of which one plain layer has parameters of these shapes."""
        if embedding := _embedding(_built(self.factory, self.form, self.sizes, {})):
            self.form = replace(self.form, embedding=embedding)
            shapes = self._shapes({})
        roles = self._read_parameters(shapes)
        self.offers = {name: values for name, values in DEFAULTS.items() if name not in self.form.takes}
        self.offers["hx"] = self._taken()
        if "bias_ih" not in roles.names:
            self.offers["bias"] = (False,)
        if not self.form.sizes and not self.form.by_name:
            self.offers |= {"input_size": (self.sizes.input_size,), "hidden_size": (self.sizes.hidden_size,)}
        if self.has_own_call:
            self._read_layer(shapes, roles, self._answered_by_adapter())
            return replace(self.form, offers={**self.offers, **self.factory.offers})
        returned = self._read_call(shapes, roles)
        if self.cell == "RNN" and "nonlinearity" not in self.form.takes and self._is_relu(returned):
            self.offers["nonlinearity"] = ("relu",)
        if roles.joined and not self._is_named:
            self.form = replace(self.form, joined=self._order())
        if self.form.embedding:
            self._require_embedded()
        return replace(self.form, offers=self.offers)

    def _read_parameters(self, shapes: Shapes) -> Roles:
        """Find out what the parameters of a plain layer are."""
        if self._is_named:
            form = self.form
            roles = Roles(dict(form.names), form.conventions, bool(form.joined), form.unchanged_parameters, form.zeros)
            self.directions += "weight_ih_reverse" in form.names and "bidirectional" not in form.takes
        else:
            roles, reverse, self.layers = layers_of(shapes, self.sizes, self.name, self.cell)
            if start := self._start(roles):
                others = {own: shape for own, shape in shapes.items() if own != start}
                roles, reverse, self.layers = layers_of(others, self.sizes, self.name, self.cell)
                self.form = replace(self.form, starts=(start,))
                roles = roles._replace(zeros=(*roles.zeros, start))
            self.directions += bool(reverse)
            self.form = replace(
                self.form,
                names={**roles.names, **reverse},
                conventions=roles.conventions,
                joined=X_FIRST if roles.joined else "",
                zeros=roles.zeros,
                gate_order_assumed=roles.gate_order_assumed,
                gates_open=len(roles.conventions.form.gates) > 1,
                bias_shape=roles.bias_shape,
            )
        self.cell = roles.conventions.cell
        return roles

    def _start(self, roles: Roles) -> str:
        """Return what looks like a bias of an RNN, and is a learned state before the first step; nothing if none is.

        Such a state counts where weight_hh is not zero, and not where it is; a bias would count there as well.
        """
        own = {role: [block.own for block in blocks] for role, blocks in roles.names.items()}
        biases = [name for role in ("bias_ih", "bias_hh") for name in own.get(role, [])]
        if roles.conventions.cell != "RNN":
            return ""
        x = torch.randn(STEPS, SEQUENCES, self.sizes.input_size, generator=torch.Generator().manual_seed(0))

        def counts(bias: str, *, carried: bool) -> bool:
            with seeded(0):
                module = self._module()
            for name in own["weight_hh"] if not carried else []:
                module.get_parameter(name).zero_()
            before = [part.clone() for part in _parts(module(x))]
            module.get_parameter(bias).add_(1)
            return not _same(before, _parts(module(x)))

        with suppress(Exception), torch.no_grad():  # a call that fails tells nothing
            starts = [bias for bias in biases if counts(bias, carried=True) and not counts(bias, carried=False)]
            return starts[0] if starts else ""
        return ""

    def _starts(self, returned: _ResultForm, rest: Sequence[str]) -> tuple[str, ...]:
        """Return those of the parameters that torch's layer does not have on which results depend without states."""
        starts: list[str] = []

        def results(changed: str = "") -> list[torch.Tensor]:
            with seeded(0):
                module = self._module()
            if changed:
                module.get_parameter(changed).add_(1)
            parts = zip(returned.names, _parts(module(returned.call_arguments[0])), strict=True)
            return [part for name, part in parts if name]

        with suppress(Exception), torch.no_grad():  # it may need its states
            starts += [own for own in rest if not _same(results(), results(own))]
        return tuple(starts)

    def _read_call(self, shapes: Shapes, roles: Roles) -> _ResultForm | None:
        """Find out how it is called, as a layer or as a cell, with several sequences or else with one."""
        plain = self.form
        heads, returned, reason, cell = self._called(plain, roles)
        if cell is None and returned is None and self._outcome().startswith("raises"):
            self.unbatched = True
            alone = self._called(plain, roles)
            answer = alone.returned or (self._returned(roles.rest) if roles.rest else None)
            if alone.cell is None and not (answer and answer.axes):
                self.unbatched = False
            else:
                heads, returned, reason, cell = alone
        plain = replace(plain, unbatched=self.unbatched)
        beside = ", ".join(dict.fromkeys(own.rpartition(".")[0] or own for own in roles.rest))
        if cell is not None:
            names, apart = cell
            self.form = replace(plain, is_cell=True, returns=names, apart=apart, beside=beside)
            self.offers |= {name: DEFAULTS[name] for name in ("num_layers", "bidirectional", "batch_first", "dropout")}
            return returned
        if reason or (roles.rest and not heads):
            returned = self._returned(roles.rest)
            if returned is None:
                raise SubjectUnavailable(f"{self.name}: {reason}") if reason else unread(shapes, self.sizes, self.name)
            starts = self._starts(returned, roles.rest)
            beside = ", ".join(dict.fromkeys(own.rpartition(".")[0] or own for own in roles.rest if own not in starts))
            self.form = replace(plain, beside=beside, starts=starts, zeros=(*plain.zeros, *starts))
        else:
            self.form = replace(plain, heads=heads)
        if returned is None:
            self._refuse()
        else:
            self._read_layer(shapes, roles, returned)
        return returned

    def _called(self, plain: ClassForm, roles: Roles) -> _CallReading:
        """Return how a call answers, with its output layer left out if that is needed."""
        heads: tuple[str, ...] = ()
        returned, reason = None, ""
        for heads in _heads(_built(self.factory, self.form, self.sizes, {}), roles.rest):
            self.form = replace(plain, heads=heads)
            returned = self._returned()
            reason = self._hidden(returned) if heads else ""
            if not reason:
                break
        self.form = plain
        cell = self._returned_by_cell(roles.rest) if returned is None or not returned.axes else None
        return _CallReading(heads, returned, reason, cell)

    def _leave_out_unread(self, returned: _ResultForm) -> None:
        """Leave out the options that a constructor takes as it takes anything by name, and that change nothing."""
        named = {*inspect.signature(self.factory).parameters}
        taken = {option for option, own in self.form.takes.items() if own not in named}
        changes = {"batch_first": True, "nonlinearity": "relu", "bias": False, "num_layers": 2, "bidirectional": True}
        unread = {
            option
            for option, value in changes.items()
            if option in taken and self._is_same_with(returned, **{option: value})
        }
        alone = returned._replace(call_arguments=returned.call_arguments[:1])  # more layers have more states
        if "dropout" in taken and not self._drops(alone, dropout=0.5, num_layers=2):
            unread.add("dropout")
        self.form = replace(self.form, takes={name: own for name, own in self.form.takes.items() if name not in unread})
        self.offers |= {name: DEFAULTS[name] for name in unread}

    def _is_same_with(self, returned: _ResultForm, **options: Any) -> bool:
        """Tell whether a layer with other options has the same parameters, and gives the same results."""
        try:
            with torch.no_grad(), seeded(0):
                module = self._module(**options)
            with torch.no_grad(), seeded(0):
                plain = self._module()
            if _shapes_of(module) != _shapes_of(plain):
                return False
            return _same(_parts(plain(*returned.call_arguments)), _parts(module(*returned.call_arguments)))
        except Exception:  # noqa: BLE001 - whatever the user's code raises
            return False

    def _read_layer(self, shapes: Shapes, roles: Roles, returned: _ResultForm) -> None:
        """Find out how a layer that takes a sequence is called, and what its parameters are."""
        if self._adapter is None:
            self._leave_out_unread(returned)
        aside = {*roles.rest, *roles.zeros}
        self._read_names({own: shape for own, shape in shapes.items() if own not in aside}, roles)
        conventions = replace(
            self.form.conventions,
            batch_first=returned.batch_first and "batch_first" not in self.form.takes,
            last_output_only="output" not in returned.names,
        )
        self.form = replace(
            self.form,
            conventions=conventions,
            returns=returned.names,
            flat=returned.flat,
            flat_h_n=returned.flat_h_n,
            rows=returned.rows,
            apart=len(returned.call_arguments) > 2,
            by_layer=any(
                isinstance(argument, list) and not is_layered(argument) for argument in returned.call_arguments
            ),
            layered=returned.layered,
            listed=returned.listed,
            state_axes=returned.state_axes,
            final_axes=returned.final_axes,
        )
        if len(returned.call_arguments) == 1 and {*self.offers["hx"]} == {False, True}:  # no form of a state is taken
            self.offers["hx"] = (False,)
            self.form = replace(self.form, stateless=True)
        elif {*self.offers["hx"]} == {False, True} and (error := self._error_without_states(returned)):
            self.offers["hx"] = (True,)
            self.form = replace(self.form, always_given=error)
        if {*self._finals[1:]} - {*returned.names}:  # whatever reads h_n reads all final states
            self.offers["loss"] = (None, "output") if "output" in returned.names else (None,)
        if "h_n" not in returned.names:
            if "output" not in returned.names:  # the last step of the output is h_n of one layer and one direction
                if self.layers > 1:
                    raise SubjectUnavailable(
                        f"{self.name}: returns the last output alone, of {self.layers} layers\n"
                        "expected the output of every step, or h_n"
                    )
                self.offers |= {name: DEFAULTS[name] for name in ("num_layers", "bidirectional", "batch_first")}
            elif not replace(self.form, offers=self.offers).h_n_is_last:
                self.offers["loss"] = (None, "output")
        if conventions.last_output_only:  # the statistics of dropout is about the output
            self.offers["dropout"] = (0.0,)
        if (self.form.heads or self.form.beside) and self._drops(returned):
            self.offers["training"] = (False,)
        if self.form.heads and "dropout" in self.form.takes and self._drops(returned, dropout=0.5):
            self.offers["dropout"] = (0.0,)

    def _error_without_states(self, returned: _ResultForm) -> str:
        """Say what a call on x alone raises; nothing if it raises nothing."""
        with seeded(0), torch.no_grad():
            try:
                self._module()(returned.call_arguments[0])
            except Exception as error:  # noqa: BLE001 - whatever the user's code raises
                return f"a call on x alone raises {type(error).__name__}"
        return ""

    def _read_names(self, shapes: Shapes, roles: Roles) -> None:
        """Find out the names of the parameters of higher layers, and of the other direction."""
        if self.layers > 1:
            self._read_all_names(shapes)
            return
        built = {
            (layers, directions): self._shapes({"num_layers": layers, "bidirectional": directions == 2})
            for layers in (1, 2)
            for directions in ((1, 2) if self.directions == 1 else (2,))
        }
        aside = {*roles.rest, *roles.zeros}
        built = {key: {own: shape for own, shape in made.items() if own not in aside} for key, made in built.items()}
        reverse = {role: own for role, own in self.form.names.items() if self.directions == 2}
        with suppress(SubjectUnavailable):
            added = {own: shape for own, shape in built[1, 2].items() if own not in shapes}
            reverse = {
                f"{role}_reverse": own for role, own in roles_of(added, self.sizes, self.name, self.cell).names.items()
            }
        forms = [self.form] * self._is_named or [
            replace(self.form, names=names, first=first, places=places)
            for named in ({**roles.names, **reverse}, roles.names)
            for names, first, places in numbered(named)
        ]
        self.form = max(
            forms, key=lambda form: len(told_of(form, self.sizes, built))
        )  # the first of those that tell most
        stacks = told_of(self.form, self.sizes, built)
        if (2, self.directions) not in stacks:
            self.offers["num_layers"] = (1,)
        if self.directions == 2:
            self.offers["bidirectional"] = (True,)
        elif (1, 2) not in stacks or ((2, 1) in stacks and (2, 2) not in stacks):
            self.offers["bidirectional"] = (False,)

    def _read_all_names(self, shapes: Shapes) -> None:
        """Find out the names of all parameters of layers of which there are always as many."""
        built = {(self.layers, self.directions): shapes}
        forms = [
            replace(self.form, names=names, first=first, places=places)
            for names, first, places in numbered(self.form.names)
        ]
        self.form = next((form for form in forms if told_of(form, self.sizes, built)), self.form)
        if not told_of(self.form, self.sizes, built):
            raise unread(shapes, self.sizes, self.name, "its parameters are not those of layers upon each other")
        self.offers |= {"num_layers": (self.layers,), "bidirectional": (self.directions == 2,)}

    def _shapes(self, options: Mapping[str, Any]) -> Shapes:
        """Return the shapes with some options; none if it cannot be made so, which a search will see."""
        with suppress(Exception):
            return _shapes_of(_built(self.factory, self.form, self.sizes, options))
        return {}

    @property
    def turned(self) -> "_FormReader":
        """The reader of a layer that is made for x (N, T, input_size)."""
        return replace(self, sizes=self.sizes._replace(T=self.sizes.N, N=self.sizes.T))

    def states_held(self) -> Iterator[set[str]]:
        """Yield the names of those arrays of a NumPy object that a call changes, first of those that are no weights."""
        if not getattr(self.factory, "in_numpy", False) or self.factory.function is not None:
            return
        self.cell = self.cell or "RNN"  # so far unknown, as the states are among its parameters
        changed = self.changed() or (self.turned.changed() if self.form.built_for else set())
        for names in ({name for name in changed if not _WEIGHT.search(name.rpartition(".")[2])}, changed):
            if names:
                yield names

    def changed(self) -> set[str]:
        """Return the names of the arrays of a NumPy object that the first call that succeeds changes."""
        for arguments in self._candidate_arguments():
            with suppress(Exception), torch.no_grad(), seeded(0):
                module: Any = self._module()
                own = to_numpy(dict(module.named_parameters()))
                before = deepcopy(own)
                holder, _ = module.run(to_numpy(arguments, self.factory.axes), own)
                after = {".".join(path): array for path, array in arrays_of(holder).items()}
                return {name for name, array in before.items() if not np.array_equal(array, after.get(name, ()))}
        return set()

    def trial(self, form: ClassForm, turned: bool, **options: Any) -> LengthTrial:
        """Return a class of a known form, whose x is (N, T, input_size) if it is turned, as lengths are tried on it."""
        x, *states = _arguments(form, self.sizes, torch.randn, hx=form.offers["hx"] == (True,))
        x = x if turned == form.conventions.batch_first else x.transpose(0, 1)
        module = _built(self.factory, form, self.sizes, options).eval()
        # N(0, 1/4), so that a sum of input_size + hidden_size = 8 products with N(0, 1) is some 1.4, where tanh tells
        # states apart. A function's own parameters are larger, and all its states near 1.
        for own in module.parameters():
            own.normal_(0, 0.5)

        own_call = self.factory.call if self.has_own_call else None  # what an adapter does not return is None

        def call(steps: int, **named: Any) -> list[torch.Tensor | None]:
            part = x.narrow(int(turned), 0, steps)
            if own_call is None:
                made = module(part, *states, **named)
            else:
                made = tuple(result for result in own_call(module, part, *states, **named) if result is not None)
            directions = _always(form)[1]
            output, *finals = form.arranged(
                made, tuple(part.shape[:2]), torch.stack, batch_first=turned, directions=directions
            )
            finals = [None for _ in finals] if form.h_n_is_last and output is not None else finals
            return [output.transpose(0, 1) if turned and output is not None else output, *finals]

        return LengthTrial(call, x, STEPS, SEQUENCES)

    def keeps_dtype(self, form: ClassForm) -> bool:
        """Tell whether all that a call returns is of the dtype of x."""
        return {result.dtype for result in self.results(form)} <= {torch.float32}

    def results(self, form: ClassForm) -> list[torch.Tensor]:
        """Return the tensors that a call of a class of a known form returns; none if it fails."""
        tensors: list[torch.Tensor] = []
        with suppress(Exception):
            mapped(returned_by(self.factory, form, self.sizes), tensors.append)
        return tensors

    def steps_in_tuple(self) -> tuple[Any, ...] | None:
        """Return the place of a tuple of all steps in what a call returns: of one step more, it has one array more."""
        every: list[Given] = []
        with suppress(SubjectUnavailable):
            every += [] if self.has_own_call else self._candidate_arguments()
        for arguments in every:
            with suppress(Exception), torch.no_grad(), seeded(0):
                x, *states = arguments
                if not (places := _tuples(self._module()(x, *states), STEPS)):
                    return None
                for axis in (0, 1):
                    longer = torch.cat([x, x.narrow(axis, 0, 1)], axis)
                    with suppress(Exception):
                        if same := [at for at in _tuples(self._module()(longer, *states), STEPS + 1) if at in places]:
                            return same[0]
        return None

    def container(self) -> StateContainer | None:
        """Return the container in which a call returns the states of its end, with an output layer left out, too."""
        if self.has_own_call or self.layers > 1:
            return None
        heads: list[str] = []
        with suppress(Exception):
            parts = _built(self.factory, self.form, self.sizes, {}).named_modules()
            heads = [name for name, part in parts if type(part) is torch.nn.Linear]
        without_head = (replace(self, form=replace(self.form, heads=(head,))) for head in heads)
        return next(filter(None, (reader.container_as_it_is() for reader in (self, *without_head))), None)

    def container_as_it_is(self) -> StateContainer | None:
        """Return the container in which a call returns the states of its end: without states, or with tuples."""
        grows = not {"num_layers", "bidirectional"}.isdisjoint(self.form.takes)
        with seeded(0):
            x = torch.randn(STEPS, SEQUENCES, self.sizes.input_size)
            states = [torch.randn(N, self.sizes.hidden_size) for N in (SEQUENCES, STEPS)]
        taken = [*((state,) for state in states), *((state, state) for state in states)]
        for arguments in ((x,), *((x, of) for of in taken), *((x, (of, of)) for of in taken)):
            with suppress(Exception), torch.no_grad(), seeded(0):
                return container_of(self._module()(*arguments), near, grows=grows)
        return None

    def _module(self, **options: Any) -> torch.nn.Module:
        module = _built(self.factory, self.form, self.sizes, options).eval()
        for parameter in module.parameters():
            parameter.detach().normal_(0, SPREAD)
        if self.unbatched:
            module.forward = partial(each_sequence, module.forward)
        return module

    @property
    def _is_named(self) -> bool:
        """True if an adapter names the parameters."""
        return self._adapter is not None and self._adapter.weights is not None

    @property
    def has_own_call(self) -> bool:
        """True if an adapter says how to call it."""
        return self._adapter is not None and self._adapter.call is not None

    @property
    def forward(self) -> Callable[..., Any]:
        """The call, by its signature, as if an argument that it is always given had a default."""
        call: Callable[..., Any] = self.factory.forward
        return as_optional(call, self.form.valid[0]) if self.form.needs else call

    @property
    def _adapter(self) -> Adapter | None:
        return self.factory.adapter if isinstance(self.factory, AdapterModuleFactory) else None

    @property
    def _finals(self) -> tuple[str, ...]:
        return CELL_DEFINITIONS[self.cell].final

    @property
    def _rows(self) -> int:
        """The number of states, one for each layer and direction."""
        return self.layers * self.directions

    def _taken(self) -> tuple[bool, ...]:
        """Return ``False`` if a call takes x alone, ``True`` if it takes states."""
        if self.form.state_names:
            return False, True
        return states_taken(self.forward, self.name, len(self._finals))

    def _with_states(self, x: torch.Tensor, *shape: int) -> Iterator[Given]:
        """Yield what a call with states of a shape may take: one, a tuple of several, or several."""
        states = tuple(torch.randn(shape) for _ in self._finals)
        if len(states) > 1:
            yield x, states
        yield x, *states

    def _in_lists(self, x: torch.Tensor, *shape: int) -> Iterator[Given]:
        """Yield what a call may take with the states of each layer in a list: several of them, or tuples of several."""
        states = tuple(torch.randn(shape) for _ in self._finals)
        if len(states) > 1:
            yield x, list(zip(*states, strict=True))
        if self.directions == 1:
            lists = [list(state) for state in states]
            yield x, lists[0] if len(lists) == 1 else tuple(lists)

    def _candidate_arguments(self) -> Iterator[Given]:
        """Yield what a layer may take: x, and with it states of the shapes that there may be."""
        hidden_size = self.sizes.hidden_size
        taken = self._taken()
        x = torch.randn(STEPS, SEQUENCES, self.sizes.input_size)
        if False in taken:
            yield (x,)
        if True in taken:  # a class that reads (N, T, input_size) takes the first axis for the batch
            every: tuple[tuple[int, ...], ...] = ((1,), ()) if self._rows == 1 else ((self._rows,),)
            for axes in every:  # a state (N, H) fits wrongly where one of (L, N, H) is read: by broadcasting
                for batch in (SEQUENCES, STEPS):
                    yield from self._with_states(x, *axes, batch, hidden_size)
            for _, shape in self._shapes_of_states()[2:]:  # the first two are torch's
                yield from self._with_states(x, *shape)
            for batch in (SEQUENCES, STEPS):
                yield from self._in_lists(x, self._rows, batch, hidden_size)

    def _shapes_of_states(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return the orders of axes that states may have, torch's first, each with its shape for either batch."""
        sizes = self.layers, self.directions
        H = self.sizes.hidden_size
        return [(axes, shape_of(axes, *sizes, N, H)) for axes in all_axes(*sizes) for N in (SEQUENCES, STEPS)]

    def _axes_of(self, state: torch.Tensor) -> str:
        """Return the order of the axes of a state; nothing for one without an axis for layers."""
        return next((axes for axes, shape in self._shapes_of_states() if shape == tuple(state.shape)), "")

    def _returned(self, rest: Sequence[str] = ()) -> _ResultForm | None:
        """Return how a call on a sequence answers, told by the shapes; ``None`` where they tell nothing.

        If there are other parameters than nn.RNN's, it is told of the state alone, on which they must have no effect.
        """
        answers: list[_ResultForm] = []
        with seeded(0), torch.no_grad():
            for arguments in self._candidate_arguments():
                with suppress(Exception):
                    if (answered := self._answered(arguments, rest)) is not None:
                        answers.append(answered)
        if not answers:
            return None
        first, *others = answers
        form = (first.names, first.flat_h_n)  # a state of the wrong axes changes it, where it is not refused
        stated = [answer for answer in (first, *others) if len(answer.call_arguments) > 1 and self._are_states(answer)]
        stated.sort(key=lambda answer: (not self._keeps_apart(answer), (answer.names, answer.flat_h_n) != form))
        self.apart = bool(stated) and self._keeps_apart(stated[0])
        for best in [self._as_flat(answer, rest) for answer in stated[:1]]:
            base = first if len(first.call_arguments) == 1 else best  # an answer without states is told by itself
            flat_h_n = base.flat_h_n if "h_n" in base.names else best.flat
            return base._replace(
                flat=best.flat,
                flat_h_n=flat_h_n,
                call_arguments=best.call_arguments,
                layered=best.layered,
                state_axes=best.state_axes,
                batches=first.batches | best.batches,
            )
        return first._replace(flat=first.flat_h_n)

    def _are_states(self, answer: _ResultForm) -> bool:
        """Tell whether the first and the last unit of each state count, or neither does.

        Of what is read as something else, such as a mask of (N, T), some numbers count, and others do not.
        """
        x, *states = answer.call_arguments

        def with_more(unit: int) -> list[torch.Tensor]:
            def change(state: torch.Tensor) -> torch.Tensor:
                changed = state.clone()
                changed[..., unit] += 1
                return changed

            with seeded(0):
                return _parts(self._module()(x, *_map(tuple(states), change)))

        with suppress(Exception), torch.no_grad():
            with seeded(0):
                before = _parts(self._module()(x, *states))
            return len({_same(before, with_more(unit)) for unit in (0, self.sizes.hidden_size - 1)}) == 1
        return False

    def _keeps_apart(self, answer: _ResultForm) -> bool:
        """Tell whether the state of the last sequence counts for its own output, and for no other one's."""
        x, *states = answer.call_arguments
        if "output" not in answer.names or answer.rows or any(isinstance(state, list) for state in states):
            return False
        place, axis = answer.names.index("output"), int(not answer.batch_first)

        def change(state: torch.Tensor) -> torch.Tensor:
            changed = state.clone()
            changed.select((self._axes_of(state) or "NH").index("N"), -1).add_(1)
            return changed

        with suppress(Exception), torch.no_grad(), seeded(0):
            module = self._module()
            before, after = (_parts(module(x, *hx))[place] for hx in (states, _map(tuple(states), change)))
            same = [near(a, b) for a, b in zip(before.unbind(axis), after.unbind(axis), strict=True)]
            return all(same[:-1]) and not same[-1]
        return False

    def _as_flat(self, answer: _ResultForm, rest: Sequence[str]) -> _ResultForm:
        """Return an answer to states (N, H), if it is the same: one that reads (1, N, H) would take the first row."""
        x, *states = answer.call_arguments
        if answer.flat or self._rows > 1 or any(isinstance(state, list) for state in states):
            return answer
        flat = (x, *_map(tuple(states), lambda state: state[0]))
        with suppress(Exception), torch.no_grad(), seeded(0):
            module = self._module()
            first, second = (
                [part for name, part in zip(answer.names, _parts(module(*arguments)), strict=True) if name == "output"]
                for arguments in (answer.call_arguments, flat)
            )
            if all(map(near, first, second)) and first:
                return self._answered(flat, rest) or answer
        return answer

    def _answered_by_adapter(self) -> _ResultForm:
        """Return how an adapter's own call answers. Raise ``SubjectUnavailable`` if it raises, or returns too much."""
        names, taken = ("output", *self._finals), self._taken()
        batch = [SEQUENCES] * (True in self.factory.offers.get("batched", (True,)))
        arguments: Given = (torch.randn(STEPS, *batch, self.sizes.input_size),)
        if True in taken:
            shape = (self._rows, *batch, self.sizes.hidden_size)
            arguments += tuple(torch.randn(shape) for _ in self._finals)
        try:
            with seeded(0), torch.no_grad():
                returned = self.factory.call(self._module(), *arguments)
        except Exception as error:
            shapes = ", ".join(str(tuple(argument.shape)) for argument in arguments)
            raise SubjectUnavailable(
                f"{self.name}: call(module, …) on {shapes} raises {type(error).__name__}: {error}"
            ) from error
        parts = returned if isinstance(returned, tuple | list) else (returned,)
        if len(parts) > len(names):
            raise SubjectUnavailable(
                f"{self.name}: call returns {len(parts)} things: expected {', '.join(names)}, None for one it has not"
            )
        there = tuple(name for name, part in zip(names, parts, strict=False) if part is not None)
        return _ResultForm(there, call_arguments=arguments, axes=(0,))

    def _answered(self, arguments: Given, rest: Sequence[str]) -> _ResultForm | None:
        module = self._module()
        returned = module(*arguments)
        parts = _parts(returned)
        kinds = self._kinds(module, arguments, parts, rest)
        plain = self._named([{"flat": "h_n", "rows": "output"}.get(kind, kind) for kind in kinds])
        if not plain or None in plain:
            return None
        flat, flat_h_n = self._are_flat(arguments[1:]), "flat" in kinds
        outputs = [place for place, name in enumerate(plain) if name == "output"]
        if not outputs:
            return self._answered_last(module, _ResultForm(plain, flat, flat_h_n, call_arguments=arguments), rest)
        [place] = outputs
        axes = tuple(axis for axis in (0, 1) if self._flows(module, arguments, place, axis))
        finals = [part for part, name in zip(parts, plain, strict=True) if name in self._finals]
        taken, final = ([self._axes_of(state) for state in states] for states in (_tensors(arguments[1:]), finals))
        batches = frozenset(
            state.shape[(axes or "NH").index("N")]
            for axes, state in zip((*taken, *final), (*_tensors(arguments[1:]), *finals), strict=True)
        )
        state_axes, final_axes = (next(filter(None, orders), TORCH_AXES) for orders in (taken, final))
        if final_axes in IN_ROWS:
            final_axes = self._in_rows(finals[0], parts[place])
            state_axes = final_axes if state_axes in IN_ROWS else state_axes
        layered = any(map(_is_layered, (*arguments[1:], returned)))
        listed = is_steps(returned) or (isinstance(returned, tuple | list) and any(map(is_steps, returned)))
        return _ResultForm(
            plain, flat, flat_h_n, "rows" in kinds, arguments, layered, listed, state_axes, final_axes, axes, batches
        )

    def _kinds(
        self, module: torch.nn.Module, arguments: Given, parts: TensorSequence, rest: Sequence[str]
    ) -> list[str]:
        """Return what each part of an answer is by its shape, nothing for no result; no list if that is unclear."""
        hidden_size = self.sizes.hidden_size
        of_states = {shape: "h_n" for _, shape in self._shapes_of_states()}
        if self.directions == 1:
            of_states |= {(batch, hidden_size): "flat" for batch in (SEQUENCES, STEPS)}
        features = self.directions * hidden_size
        of_output: dict[tuple[int, ...], str] = {(STEPS, SEQUENCES, features): "output"}
        if self.form.heads:
            of_output[STEPS * SEQUENCES, features] = "rows"
        shapes = [tuple(part.shape) for part in parts]
        flat = self._are_flat(arguments[1:])
        kinds = self._without_other_rows([(of_states | of_output).get(shape, "") for shape in shapes], parts)
        if rest:  # what depends on parameters that torch's layer does not have is none of its results
            changed = deepcopy(module)
            for own in rest:
                changed.get_parameter(own).add_(1)
            kinds = [
                kind * torch.equal(part, after)
                for kind, part, after in zip(kinds, parts, _parts(changed(*arguments)), strict=True)
            ]
            several = next((kind for kind in (("flat", "h_n") if flat else ("h_n", "flat")) if kind in kinds), "")
            kinds = [kind if kind in {several, *of_output.values()} else "" for kind in kinds]
        elif "" in kinds and not {"output", "rows"} & {*kinds}:  # beside the output, others may be its own
            return []
        outputs = [place for place, kind in enumerate(kinds) if kind in {"output", "rows"}]
        for place in outputs[1 : len(self._finals)]:  # every c, after every h
            kinds[place] = ""
        outputs = outputs[:1] + outputs[len(self._finals) :]
        if not outputs and kinds.count("flat") == 1 and not rest:
            kinds[kinds.index("flat")] = "last"
        clear = 0 < sum(map(bool, kinds)) <= 1 + len(self._finals) and len(outputs) < 2
        return kinds if clear and not ("flat" in kinds and ("h_n" in kinds or self.layers > 1)) else []

    def _without_other_rows(self, kinds: list[str], parts: TensorSequence) -> list[str]:
        """Return kinds without states (N, layers * directions * H) that are none by their numbers."""
        output = next((part for kind, part in zip(kinds, parts, strict=True) if kind == "output"), None)
        states: list[torch.Tensor] = []
        for place, part in enumerate(parts):
            if kinds[place] == "h_n" and part.dim() == 2:
                if states:  # c has the signs of h
                    right = len(states) < len(self._finals) and torch.equal(states[0].sign(), part.sign())
                else:
                    right = output is not None and bool(self._in_rows(part, output))
                if right:
                    states.append(part)
                else:
                    kinds[place] = ""
        return kinds

    def _in_rows(self, state: torch.Tensor, output: torch.Tensor) -> str:
        """Return the order of the axes of a state that has all of a sequence side by side; nothing if it is none."""
        return StatesInRows(state, output, self.layers, self.directions).axes

    def _are_flat(self, states: Given) -> bool:
        """Tell whether states are (N, H)."""
        return any(state.dim() == 2 and state.shape[-1] == self.sizes.hidden_size for state in _tensors(states))

    def _named(self, kinds: Sequence[str]) -> tuple[Any, ...]:
        """Return the names of parts that a call returned, each state by its own; ``None`` for a state too many."""
        finals = iter(self._finals)
        return tuple(next(finals, None) if kind == "h_n" else kind for kind in kinds)

    def _answered_last(self, module: torch.nn.Module, answer: _ResultForm, rest: Sequence[str]) -> _ResultForm | None:
        """Complete an answer that has the last state, but not every output; ``None`` if it is not that."""
        names, arguments = answer.names, answer.call_arguments

        def states(x: torch.Tensor) -> list[torch.Tensor]:
            return [part for part, name in zip(_parts(module(x, *arguments[1:])), names, strict=True) if name]

        x, plain = arguments[0], states(arguments[0])
        sequences = {part.shape[-2] for part in (*plain, *_tensors(arguments[1:]))}
        if len(sequences) != 1:
            return None
        axis = 0 if sequences == {SEQUENCES} else 1
        earlier = x.clone()
        earlier.select(axis, 0).add_(1)
        carried = not _same(plain, states(earlier))
        for own in rest:
            module.get_parameter(own).add_(1)
        late = axis == 1 and not rest  # its rows say that the batch is first, though it reads x otherwise
        if not (carried or late) or not _same(plain, states(x)):
            return None
        return answer._replace(axes=(axis,))

    def _flows(self, module: torch.nn.Module, arguments: Given, place: int, axis: int) -> bool:
        """Tell whether the later outputs along an axis of x depend on the first x there."""
        x, *states = arguments
        changed = x.clone()
        changed.select(axis, 0).add_(1)
        before, after = (
            # Each on a copy, which starts from the same state, where a module keeps the one in which a call ended.
            _parts(deepcopy(module)(inputs, *states))[place]
            .reshape(STEPS, SEQUENCES, -1)
            .narrow(axis, 1, x.shape[axis] - 1)
            for inputs in (x, changed)
        )
        return not torch.equal(before, after)

    def _returned_by_cell(self, rest: Sequence[str]) -> tuple[tuple[str, ...], bool] | None:
        """Return the names of what one step of a cell returns, and whether it takes each state by itself.

        The result is ``None`` if the class is no cell. A cell takes x (N, I) and states (N, H). Each row of all that it
        returns depends on no other row of these. The new states are (N, H), in order, and there are no others of that
        shape but the same ones again. They do not depend on the parameters that torch's layer does not have.
        """
        if True not in self._taken():
            return None
        half = MANY // 2
        x = torch.randn(MANY, self.sizes.input_size)
        for arguments in self._with_states(x, MANY, self.sizes.hidden_size):
            with suppress(Exception), torch.no_grad(), seeded(0):
                module, states = self._module(), _tensors(arguments[1:])
                parts = _parts(module(*arguments))
                shift = torch.cat([torch.zeros(half, 1), torch.ones(half, 1)])
                alike = [_parts(module(x + shift, *arguments[1:])), _parts(module(x, *_map(arguments[1:], shift.add)))]
                first = [[part[:half] for part in answer] for answer in (parts, *alike)]
                places: list[int] = []
                for place, part in enumerate(parts):
                    if part.shape == states[0].shape and not any(torch.equal(part, parts[k]) for k in places):
                        places.append(place)
                for own in rest:
                    module.get_parameter(own).add_(1)
                after = _parts(module(*arguments))
                if (
                    len(places) == len(self._finals)
                    and _same([parts[place] for place in places], [after[place] for place in places])
                    and all(_same(first[0], answer) for answer in first[1:])
                ):
                    named = dict(zip(places, self._finals, strict=True))
                    return tuple(named.get(place, "") for place in range(len(parts))), len(arguments) > 2
        return None

    def _hidden(self, returned: _ResultForm | None) -> str:
        """Say why the states do not come out of a layer without its output layer as they are; nothing if they do."""
        head, size = self.form.heads[0], self.directions * self.sizes.hidden_size
        if returned is None:
            return (
                f"without its output layer {head}, a call on x {_X.format(self.sizes.input_size)} with "
                f"{_worded(self.sizes, self.form)} {self._outcome()}\n"
                f"expected the output of every step, or of the last one, or h_n"
            )
        inputs: list[torch.Tensor] = []
        states: list[torch.Tensor] = []
        with seeded(0), torch.no_grad():
            module = self._module()
            module.get_submodule(head).register_forward_hook(lambda _module, args, _result: inputs.append(args[0]))
            for submodule in module.modules():
                if isinstance(submodule, torch.nn.RNNBase) and self.directions == 1:
                    submodule.register_forward_hook(lambda _module, _args, result: states.append(result[0]))
            arguments = returned.call_arguments
            parts = dict(zip(returned.names, _parts(module(*arguments)), strict=True))
        finals = [[part] for name, part in parts.items() if name in self._finals and self.directions == 1]
        output = _rows([part for name, part in parts.items() if name and name not in self._finals], size)
        passed, held = _rows(inputs, size), [_rows([*states, *final], size) or output for final in finals or [[]]]
        every = "output" in parts  # otherwise the last one is enough
        if not (output == passed if every else _among(output, passed)):
            return (
                f"what follows its output layer {head} changes the numbers, as a softmax does\n"
                f"expected a call to return h_n as well, or what {head} gives"
            )
        began = _rows(_tensors(arguments[1:])[:1], size)
        late = any(row in output for row in began)  # it is given the states, each one step late
        # Either final state may be the one that is read out: a layer may exchange the two by mistake.
        if not (late or any(_among(rows, output) if every else _among(output, rows) for rows in held)):
            return (
                f"its output layer {head} is given other numbers than the states\n"
                f"expected a call to return h_n as well, or nothing between the states and {head}"
            )
        return ""

    def _require_embedded(self) -> None:
        """Raise ``SubjectUnavailable`` unless x itself is what the Embedding is given, as far as calls tell."""
        part, inputs = self.form.embedding, list[torch.Tensor]()
        for arguments in self._candidate_arguments():
            module = self._module()
            inputs.clear()
            module.get_submodule(part).register_forward_hook(lambda _module, taken, _result: inputs.append(taken[0]))
            with suppress(Exception), torch.no_grad():
                module(*arguments)
                break
        if inputs and _rows(inputs, 1) != _rows(arguments[:1], 1):
            raise SubjectUnavailable(
                f"{self.name}: its Embedding {part} is given something else than x\n"
                f"expected the Embedding of x alone, in whose place x can be given"
            )

    def _refuse(self) -> None:
        """Raise ``SubjectUnavailable`` for a class of which no call returns what a layer does."""
        x = _X.format(self.sizes.input_size)
        raise SubjectUnavailable(
            f"{self.name}: has as many rows as an {layer_named(self.cell)}, but a call on x {x} {self._outcome()}\n"
            f"expected the output and {' and '.join(self._finals)} as {layer_named(self.cell)} returns them"
        )

    def _outcome(self) -> str:
        """Say what a call on a sequence gives where the shapes tell nothing; the first error, if each call has one."""
        errors = []
        with seeded(0), torch.no_grad():
            for arguments in self._candidate_arguments():
                try:
                    parts = _parts(self._module()(*arguments))
                    return f"returns {', '.join(str(tuple(part.shape)) for part in parts)}"
                except Exception as error:  # noqa: BLE001 - whatever the user's code raises
                    errors.append(f"raises {type(error).__name__}: {error}")
        return errors[0]

    def _order(self) -> str:
        """Return the order of the two halves of a joined matrix. Raise ``SubjectUnavailable`` if calls do not tell it.

        In one step from zeros, the results depend on the columns that x is multiplied by, and on no others.
        """
        reads = True, True
        with suppress(Exception), torch.no_grad():
            reads = self._reads_x(0), self._reads_x(-1)
        if all(reads):
            own = self.form.blocks("weight_ih_l0", 1)[0].own
            raise SubjectUnavailable(
                f"{self.name}: calls do not tell which columns of {own} x is multiplied by\n"
                f"expected the first {self.sizes.input_size} or the last {self.sizes.input_size} alone"
            )
        return H_FIRST if reads[1] else X_FIRST

    def _reads_x(self, column: int) -> bool:
        """Tell whether outputs and states depend on a column of the joined matrix.

        All else is zero but the last step of x, and what multiplies x alone, so that no state comes before that step.
        """
        form, module = replace(self.form, offers=self.offers, unbatched=False), self._module()
        x, *given = _arguments(form, self.sizes, torch.ones, hx=form.is_cell or False not in self.offers["hx"])
        states = _map(tuple(given), torch.zeros_like)
        if not form.is_cell:
            x = x.clone()
            x.narrow(int(form.conventions.batch_first), 0, STEPS - 1).zero_()
        blocks, of_states = (form.blocks(f"{role}_l0", 1) for role in ("weight_ih", "weight_hh"))
        joined = [block.own for block in blocks if block in of_states]
        for name, parameter in module.named_parameters():
            parameter.fill_(any(block.own == name for block in blocks) and name not in joined)

        def results() -> list[torch.Tensor]:
            parts = zip(form.returns, _parts(module(x, *states)), strict=True)
            return [part.clone() for name, part in parts if name]

        before = results()
        for own in joined:
            module.get_parameter(own).select(0 if form.conventions.transposed else 1, column).fill_(1)
        return not _same(before, results())

    def _is_relu(self, returned: _ResultForm | None) -> bool:
        """Tell whether no state is negative, some are zero, and some above 1, where no tanh is."""
        with suppress(Exception), torch.no_grad(), seeded(0):
            if self.form.is_cell:
                x = torch.randn(MANY, self.sizes.input_size)
                arguments = next(self._with_states(x, MANY, self.sizes.hidden_size))
                arguments = (x, *self.form.passed(_tensors(arguments[1:])))
            else:
                arguments = () if returned is None else returned.call_arguments
            module = self._module()
            for parameter in module.parameters():
                parameter.mul_(10)
            parts = zip(self.form.returns, _parts(module(*arguments)), strict=True)
            states = torch.cat([part.flatten() for name, part in parts if name])
            return bool((states >= 0).all() and (states == 0).any() and (states > 1).any())
        return False

    def _drops(self, returned: _ResultForm, **options: Any) -> bool:
        """Tell whether what is compared of two calls of a layer in training differs."""
        with suppress(Exception), torch.no_grad(), seeded(0), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "dropout option adds dropout", UserWarning)
            module = self._module(**options).train()
            first, second = (
                [
                    part
                    for part, name in zip(_parts(module(*returned.call_arguments)), returned.names, strict=True)
                    if name
                ]
                for _ in range(2)
            )
            return not _same(first, second)
        return False


def parameters_of_plain(factory: Any, form: ClassForm) -> tuple[ModuleSizes, Shapes]:
    """Return the sizes with which a module of one plain layer can be made, and its parameters' shapes.

    Those of a constructor that takes none are told by the shapes.
    """
    sizes, shapes = _made(factory, form)
    if form.sizes or form.by_name:
        return sizes, shapes
    there = dict.fromkeys(size for shape in shapes.values() for size in shape)
    for I, H in permutations(there, 2):  # noqa: E741 - as in the equations
        candidate = ModuleSizes(I, H, 0)
        with suppress(SubjectUnavailable):
            layers_of(shapes, candidate, "")
            return candidate, shapes
    return sizes, shapes


def _made(factory: Any, form: ClassForm, choices: Sequence[ModuleSizes] = TELLING_SIZES) -> tuple[ModuleSizes, Shapes]:
    """Return the sizes with which a module of one plain layer can be made, and its parameters' shapes."""
    *others, last = choices
    for sizes in others:
        with suppress(Exception):
            return sizes, _shapes_of(_built(factory, form, sizes, {}))
    return last, _shapes_of(_built(factory, form, last, {}))


def _built(factory: Any, form: ClassForm, sizes: ModuleSizes, options: Mapping[str, Any]) -> torch.nn.Module:
    """Build a module with nn.RNN's default for every option that it takes, but for some."""
    values = {**{name: plain for name, (plain,) in DEFAULTS.items()}, **options}
    first, named = form.given(sizes.given(values["num_layers"]) | values)
    with seeded(0):
        module: torch.nn.Module = without(factory(*first, **named), form.replaced)
    if form.needs:
        turned = values["batch_first"] if "batch_first" in form.takes else form.needs == "NT"
        module.forward = partial(with_all_steps, module.forward, form.valid, turned)
    if form.steps is not None:
        module.forward = partial(with_steps, module.forward, form.steps)
    if form.state_names:
        module.forward = partial(by_state_names, module.forward, form.state_names)
    if form.container is not None:
        module.forward = partial(with_container, module.forward, form.container)
    return module


def _unregistered(factory: Any, form: ClassForm, *, alone: bool = False) -> str:
    """Say what a module of a class holds where torch does not look for parameters; nothing if there is nothing.

    It may be asked of a module without parameters alone.
    """
    for trial in chain([form], trials(factory, form)):
        with suppress(Exception):
            module = _built(factory, trial, TELLING_SIZES[0], {})
            known = {id(part) for part in (*module.modules(), *module.parameters())}
            some = any(True for _ in module.parameters())
            held = {name: value for name, value in vars(module).items() if name not in vars(torch.nn.Module())}
            for kind, register in ((torch.nn.Module, "ModuleList"), (torch.nn.Parameter, "ParameterList")):
                unknown = {
                    name: [part for part in _flat(value) if isinstance(part, kind) and id(part) not in known]
                    for name, value in held.items()
                }
                names = [name for name, parts in unknown.items() if parts]
                if names and not (alone and some):
                    which = f"nn.{kind.__name__}s in its {type(held[names[0]]).__name__} {', '.join(names)}"
                    return f"{which} are not registered as its parts: nn.{register} registers them"
            tensors = [name for name, value in held.items() if isinstance(value, torch.Tensor)]
            if tensors and not some:
                return f"its tensors {', '.join(tensors)} are no parameters: nn.Parameter makes them such"
    return ""


def _flat(value: Any) -> Iterator[Any]:
    """Yield all that lists, tuples and dicts within each other hold."""
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield part
        yield from _flat(part)


def _shapes_of(module: torch.nn.Module) -> Shapes:
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def _worded(sizes: ModuleSizes, form: ClassForm) -> str:
    words = f"input_size={sizes.input_size} and hidden_size={sizes.hidden_size}"
    return words + f" and an output of {sizes.output_size}" * ("output" in {*form.sizes, *form.by_name.values()})


def _embedding(module: torch.nn.Module) -> str:
    names = [name for name, part in module.named_modules() if isinstance(part, torch.nn.Embedding) and name]
    return names[0] if len(names) == 1 else ""


def _heads(module: torch.nn.Module, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return what may be left out to see the states: the Linear with exactly these parameters, or softmaxes as well."""
    owners = {name.rpartition(".")[0] for name in names}
    parts = dict(module.named_modules())
    if len(owners) != 1 or type(parts[head := owners.pop()]) is not torch.nn.Linear:
        return [()]
    if len([*parts[head].parameters()]) != len(names):
        return [()]
    softmaxes = [name for name, part in parts.items() if isinstance(part, torch.nn.Softmax | torch.nn.LogSoftmax)]
    return [(head,), (head, *softmaxes)][: 1 + bool(softmaxes)]


def _parts(returned: Any) -> list[torch.Tensor]:
    """Return the tensors that a call returned, a list of steps as one; one without a number for anything else."""
    parts: list[Any] = []
    for part in [returned] if is_steps(returned) else parts_of(returned):
        if is_layered(part) and len(part) == 1:
            parts.append(torch.stack(part))
        elif isinstance(part, tuple) and part and all(is_layered(state) and len(state) == 1 for state in part):
            parts += map(torch.stack, part)
        elif is_by_layer(part) and len(part) == 1:
            parts += [torch.stack(states) for states in zip(*part, strict=True)]
        elif is_steps(part):
            parts.append(torch.stack(part))
        else:
            parts.append(part if isinstance(part, torch.Tensor) else torch.empty(0))
    return parts


def is_steps(part: Any) -> bool:
    """Tell whether a part of what a call returned is a list of a tensor (N, H), or (H,), for each step."""
    return isinstance(part, list) and len(part) == STEPS and all(getattr(step, "ndim", 0) in {1, 2} for step in part)


def _is_layered(part: Any) -> bool:
    """Tell whether there is a list of a state for one layer among what a call takes or returned."""
    if isinstance(part, tuple | list) and not is_steps(part):
        return (is_layered(part) and len(part) == 1) or any(map(_is_layered, part))
    return False


def with_steps(call: Callable[..., Any], place: tuple[Any, ...], /, *arguments: Any, **named: Any) -> Any:
    """Return what a call returns, with a list of steps for the tuple of them in a place."""
    returned = call(*arguments, **named)
    if not place:
        return list(returned)
    if isinstance(returned, Mapping):
        return {name: list(part) if name == place[0] else part for name, part in returned.items()}
    return tuple(list(part) if k == place[0] else part for k, part in enumerate(returned))


def _tuples(returned: Any, number: int) -> list[tuple[Any, ...]]:
    """Return the places of tuples of so many arrays in what a call returned."""
    parts: list[tuple[Any, Any]] = [*returned.items()] if isinstance(returned, Mapping) else []
    parts = [*enumerate(returned)] if isinstance(returned, list | tuple) else parts
    every = [((), returned), *(((key,), part) for key, part in parts)]
    return [place for place, part in every if isinstance(part, tuple) and len(part) == number]


def each_sequence(forward: Callable[..., Any], x: torch.Tensor, *states: Any) -> Any:
    """Return what a call that takes one sequence (T, I), or one step (I,) of it, returns for several, side by side."""
    return _beside(
        [
            forward(x.select(-2, n), *_map(states, partial(torch.Tensor.select, dim=-2, index=n)))
            for n in range(x.shape[-2])
        ]
    )


def _beside(returned: list[Any]) -> Any:
    first = returned[0]
    if isinstance(first, torch.Tensor):
        return torch.stack(returned, -2)
    if isinstance(first, Mapping):
        return {name: _beside([answer[name] for answer in returned]) for name in first}
    return type(first)(_beside(list(parts)) for parts in zip(*returned, strict=True))


def _tensors(states: Given) -> list[torch.Tensor]:
    states = tuple(stacked(part, torch.stack) for part in states)
    parts = [zip(*part, strict=True) if isinstance(part, list) else [part] for part in states]
    flat = [tensor for part in parts for state in part for tensor in (state if isinstance(state, tuple) else (state,))]
    return [tensor[None] if any(isinstance(part, list) for part in states) else tensor for tensor in flat]


def _map(args: Given, change: Callable[[torch.Tensor], torch.Tensor]) -> Given:
    """Return the same arguments, of changed tensors."""
    return tuple(change(arg) if isinstance(arg, torch.Tensor) else type(arg)(_map(tuple(arg), change)) for arg in args)


def _same(first: TensorSequence, second: TensorSequence) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def _rows(tensors: TensorSequence, size: int) -> Rows:
    return sorted(row for tensor in tensors for row in tensor.reshape(-1, size).tolist())


def _among(rows: Rows, others: Rows) -> bool:
    return all(row in others for row in rows)
