"""conventions: the ways in which a layer may differ from nn.RNN by design, declared, and the mapping between the two.

A function or class declares them with the decorator ``conventions``, with an attribute of that name, or in its
subject's name: ``mine.py:rnn+transposed``. They are no mistakes: the harness gives the layer what it expects, and
compares what it means.
"""

from __future__ import annotations

import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from inspect import isclass, isfunction
from typing import Any, TypeVar

from harness.space.case import Case
from harness.space.cells import CELL_DEFINITIONS, CELLS, Cell, CellDefinition, cell_named, make_known
from harness.space.config import RNNConfig
from harness.space.errors import UsageError
from harness.space.factor_table import offers_of

T = TypeVar("T")


@dataclass(frozen=True)
class Conventions:
    """The conventions of a layer; without any, they are nn.RNN's."""

    one_bias: bool = False  # it has one bias: ``bias_ih_l0`` is the sum of nn.RNN's two, and there is no ``bias_hh_l0``
    # Its weights are transposed: ``weight_ih_l0`` is (input_size, hidden_size), and a step is ``x @ W``.
    transposed: bool = False
    batch_first: bool = False  # it always reads and returns (N, T, ...), and is asked for nothing else
    last_output_only: bool = False
    """It returns the last output (N, D*H) alone, which in the reverse direction is that of step 0, or final states
    alone. Other outputs are not compared."""
    zero_state_only: bool = False  # it always starts from zeros, and is asked for nothing else
    cell: str = "RNN"  # the name of the cell of the layer that it is compared with

    @classmethod
    def of(cls, declared: Any, whose: str = "conventions") -> Conventions:
        """Return the conventions in a mapping of names to ``True`` or ``False``, or in a list of names.

        Raises ``UsageError`` in one line for anything else.
        """
        if isinstance(declared, Conventions):
            return declared
        if isinstance(declared, str) or not isinstance(declared, Iterable):
            raise UsageError(f"{whose}={reprlib.repr(declared)}: expected a dict such as {{'transposed': True}}")
        named = declared if isinstance(declared, Mapping) else dict.fromkeys(declared, True)
        cells = {
            name: cell
            for name in named
            if (cell := cell_named(str(name))) not in ("", "RNN") and name not in CONVENTION_NAMES
        }
        for name, value in named.items():
            if name not in CONVENTION_NAMES and name not in cells:
                names = [*CONVENTION_NAMES, *(cell.lower() for cell in CELL_DEFINITIONS if cell != "RNN")]
                close = get_close_matches(str(name), names, n=1)
                meant = f"did you mean {close[0]}?" if close else f"expected {', '.join(names)}"
                raise UsageError(f"{whose}: {str(name)[:80]} is no convention and no layer; {meant}")
            if not isinstance(value, bool):
                raise UsageError(f"{whose}: {name}={reprlib.repr(value)}: expected True or False")
        declared_cells = {cell: name for name, cell in cells.items() if named[name]}
        made = cls(
            **{name: value for name, value in named.items() if name in CONVENTION_NAMES},
            cell=next(iter(declared_cells), "RNN"),
        )
        apart = [*declared_cells.values()]
        apart += ["one_bias"] * (bool(apart) and made.one_bias and made.form.reset != "")
        if len(apart) > 1:
            raise UsageError(
                f"{whose}: {' with '.join(apart)}: expected one of them, because together they mean nothing"
            )
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the cell with its equations, which no other process has to know."""
        return _unpickled, (
            self.form.equations,
            self.form.place,
            *(getattr(self, field.name) for field in fields(self)),
        )

    @property
    def form(self) -> CellDefinition:
        """The cell of the layer that it is compared with."""
        return CELL_DEFINITIONS[self.cell]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of those that are declared."""
        return (*self.forms, *([self.cell.lower()] if self.cell != "RNN" else []))

    @property
    def forms(self) -> tuple[str, ...]:
        """The names of those that are declared, but for the cell."""
        return tuple(name for name in CONVENTION_NAMES if getattr(self, name))

    def switched(self, *names: str) -> Conventions:
        """Return these with some of them the other way round, declared or not."""
        changes: dict[str, Any] = {name: not getattr(self, name) for name in names}
        return replace(self, **changes)

    def beside(self, declared: Conventions) -> Conventions:
        """Return these with what is declared, which names the cell, if it does."""
        both = dict.fromkeys((*declared.forms, *self.forms), True)
        return Conventions(**both, cell=self.cell if declared.cell == "RNN" else declared.cell)

    @property
    def offers(self) -> dict[str, tuple[Any, ...]]:
        """The values of factors that a layer of these conventions is asked for, in place of the usual ones."""
        offers: dict[str, tuple[Any, ...]] = {}
        if self.batch_first:
            offers["batch_first"] = (True,)
        if self.zero_state_only:
            offers["hx"] = (False,)
        offers |= offers_of(self.cell)
        if self.last_output_only:
            offers["loss"] = (None, "h_n")
        return offers

    def narrowed(self, offers: Mapping[str, Any], name: str) -> dict[str, tuple[Any, ...]]:
        """Return the values of ``offers`` that are left to a layer of these conventions, where they leave out any.

        Raises ``UsageError`` if it offers only what it declares not to do.
        """
        allowed: dict[str, tuple[Any, ...]] = {}
        for factor, values in self.offers.items():
            offered = offers.get(factor, values if factor != "loss" else (None,))
            offered = tuple(offered) if isinstance(offered, list | tuple) else (offered,)
            allowed[factor] = tuple(value for value in offered if value in values)
            if not allowed[factor]:
                raise UsageError(
                    f"{name}: offers {factor}={offered!r}, but declares {', '.join(self.names)}; leave one out"
                )
        return allowed

    def passed(self, takes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the arguments of ``mapped``, for a function that takes some."""
        return tuple(dict.fromkeys((*takes, "weights", "config"))) if self.maps else takes

    def mapped(self, function: Callable[..., Any], takes: tuple[str, ...]) -> Callable[..., Any]:
        """Return a function of nn.RNN's conventions that calls one of these."""
        return as_nn_rnn(function, takes, **self.maps) if self.maps else function

    @property
    def maps(self) -> dict[str, bool]:
        """Those of ``MAPPING_CONVENTIONS`` that are declared, as arguments of ``as_nn_rnn``."""
        return {name: True for name in self.names if name in MAPPING_CONVENTIONS}

    def refuse(self, config: RNNConfig) -> None:
        """Raise ``NotImplementedError`` for a config that a layer of these conventions cannot do."""
        if self.batch_first and not config.batch_first and config.batched:
            raise NotImplementedError("batch_first=False: it declares batch_first")
        if self.zero_state_only and config.hx:
            raise NotImplementedError("an initial state: it declares zero_state_only")
        if self.last_output_only and (config.output_size is not None or config.loss in {"output", "both"}):
            raise NotImplementedError("more than the last output: it declares last_output_only")


def _unpickled(equations: str, place: str, *values: Any) -> Conventions:
    made = Conventions(*values)
    make_known(made.cell, equations, place)
    return made


CONVENTION_NAMES = tuple(field.name for field in fields(Conventions) if field.name != "cell")

# The conventions that need a mapping; for the others, it is enough to ask for less.
MAPPING_CONVENTIONS = ("one_bias", "transposed", "last_output_only")


def conventions(**declared: bool) -> Callable[[T], T]:
    """Declare the conventions of a function or class: ``@harness.conventions(one_bias=True, transposed=True)``.

    ``Conventions`` explains each. Raises ``UsageError`` for a name or value that is none.
    """
    Conventions.of(declared)

    def declare(target: T) -> T:
        target.conventions = declared  # type: ignore[attr-defined]
        return target

    return declare


def declared_by(target: Any, name: str) -> Conventions:
    """Return what a function or class declares in an attribute, and the layer that is a word of its name.

    A declaration may name another layer; an empty one, or one with ``gru=False``, stands for nn.RNN. A class of one of
    torch's layers is told by its parameters instead of its name. Where nothing else tells, it is compared with the only
    cell that its file defines. Raises ``UsageError`` for a declaration that makes no sense.
    """
    given, whose = getattr(target, "conventions", {}), f"{name}: conventions"
    declared = Conventions.of(given, whose)
    if declared.cell != "RNN" or not (isfunction(target) or isclass(target)):
        return declared
    of_cells = [] if isinstance(given, Conventions) else [word for word in given if word not in CONVENTION_NAMES]
    if hasattr(target, "conventions") and (of_cells or not given):
        return declared
    cell = _cell_by_name(target)
    return declared if cell == "RNN" else Conventions.of((*declared.names, cell.lower()), whose)


def _cell_by_name(target: Any) -> str:
    """Return the cell that is a word of a name, or the only one of the file where nothing else tells."""
    words = {target.__name__, *re.findall(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])", target.__name__)}
    cells = {cell_named(word.replace("_", "")) for word in words} - {""}
    there = {cell.name for cell in vars(sys.modules.get(target.__module__, object)).values() if isinstance(cell, Cell)}
    own = cells & there or (there if not cells and len(there) == 1 else set())
    chosen = own or (cells & {*CELLS} if isfunction(target) else set())
    return chosen.pop() if len(chosen) == 1 else "RNN"


def named_conventions(spec: str) -> tuple[str, tuple[str, ...]]:
    """Return a subject's name without the conventions that follow it, and these: ``mine.py:rnn+transposed``.

    Whether they are any is not known before what is named is loaded, which may define a cell.
    """
    place, colon, name = spec.rpartition(":")
    name, *names = name.split("+")
    return f"{place}{colon}{name}", tuple(names)


def turned(case: Case, *, batch_first: bool) -> Case:
    """Return the same case in the other layout, in memory in order, or the case itself if it has the layout."""
    config = case.config
    if config.batch_first == batch_first or not config.batched:
        return case
    flipped = config.replace(batch_first=batch_first, strides="contiguous")
    same = {name: flipped.given[name].axes == spec.axes for name, spec in config.given.items()}
    arrays = {name: array if same[name] else array.swapaxes(0, 1).copy() for name, array in case.arrays.items()}
    return Case.from_arrays(flipped, arrays)


def as_nn_rnn(
    function: Any, takes: Any, *, one_bias: bool = False, transposed: bool = False, last_output_only: bool = False
) -> Any:
    """Return a function that is called as one of nn.RNN's conventions, by the names of its arguments."""

    def given_weights(weights: Any) -> Any:
        own = {}
        for name, array in weights.items():
            if one_bias and name.startswith("bias_ih"):
                own[name] = array + weights[name.replace("_ih_", "_hh_")]
            elif not (one_bias and name.startswith("bias_hh")):
                own[name] = array.T.copy() if transposed and array.ndim == 2 else array
        return own

    def returned_gradients(own: Any) -> Any:
        gradients = dict(own)
        for name, array in own.items():
            if transposed and str(name).startswith(("weight", "readout.weight")):
                gradients[name] = array.T
            elif one_bias and str(name).startswith("bias_ih"):  # the loss depends on both in the same way
                gradients[name.replace("_ih_", "_hh_")] = array
        return gradients

    def h_n_of(last: Any, config: Any) -> Any:
        if last.ndim != 1 + config.batched:
            return last
        if config.num_layers > 1:
            raise NotImplementedError("inner layers: it returns the last output, and not h_n")
        if last.shape[-1] != config.num_directions * config.hidden_size:
            return last
        last = last.reshape(*last.shape[:-1], config.num_directions, config.hidden_size)
        return last.swapaxes(0, 1) if config.batched else last

    def rnn(**arguments: Any) -> Any:
        weights = arguments["weights"]
        own = given_weights(weights)
        before = {name: array.copy() for name, array in own.items()}
        returned = function(**{name: own if name == "weights" else arguments[name] for name in takes})
        for name, array in before.items():  # what it writes into its weights is to be seen
            if (after := own.get(name, array)).tobytes() != array.tobytes():
                weights[name][...] = after.T if transposed and array.ndim == 2 else after
        parts = list(returned) if isinstance(returned, (tuple, list)) else [returned]
        gradients = [returned_gradients(parts.pop())] if parts and isinstance(parts[-1], dict) else []
        finals = arguments["config"].form.final
        if last_output_only and len(parts) == 1 and hasattr(parts[0], "shape"):
            parts = [None, h_n_of(parts[0], arguments["config"]), *[None] * (len(finals) - 1)]
        elif last_output_only and len(parts) == len(finals):
            parts = [None, *parts]
        return parts[0] if len(parts) == 1 and not gradients else (*parts, *gradients)

    return rnn


def own_weights(conventions: Conventions, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return nn.RNN's weights as a class of these conventions has them; gradients flow back through what this does."""
    own = {}
    for name, tensor in weights.items():
        if conventions.one_bias and name.startswith("bias_ih"):
            own[name] = tensor + weights[name.replace("_ih_", "_hh_")]
        elif not (conventions.one_bias and name.startswith("bias_hh")):
            own[name] = tensor.T.contiguous() if conventions.transposed and tensor.ndim == 2 else tensor
    return own


def with_both_biases(conventions: Conventions, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a class's own parameters, its one bias under both names: the loss depends on both in the same way."""
    both = dict(parameters)
    if conventions.one_bias:
        both |= {name.replace("_ih_", "_hh_"): bias for name, bias in parameters.items() if name.startswith("bias_ih")}
    return both


def gradients_back(conventions: Conventions, gradients: Mapping[str, Any]) -> dict[str, Any]:
    """Return the gradients by a class's own parameters as nn.RNN has them."""
    turn = "weight" if conventions.transposed else "-"
    return {name: gradient.T if name.startswith(turn) else gradient for name, gradient in gradients.items()}
