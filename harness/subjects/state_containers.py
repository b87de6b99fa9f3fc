"""state_containers: the dict, named tuple, tuple or list in which a class takes and returns states, as plain ones."""

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

SameTensors = Callable[[Any, Any], bool]  # tells whether two tensors are the same but for roundings


class StateContainer(NamedTuple):
    """A container of final states: with names, or a tuple or list of the states (N, H) of all layers and directions."""

    finals: int
    names: tuple[str, ...] = ()  # of a dict, or of the fields of a named tuple, in its order
    fields: bool = False  # true of a named tuple
    turned: bool = False  # true if c comes before h
    kind: str = "tuple"  # without names: ``tuple`` or ``list``, or nothing if each is a result of its own
    rows: bool = False  # with names: of the states (N, H) of both directions, in the place of h and c
    pairs: bool = False  # without names: a pair (h, c) for each layer and direction, in the place of all h before all c

    @property
    def apart(self) -> bool:
        """True if each state is an argument, and a result, of its own."""
        return not self.names and not self.kind

    @property
    def words(self) -> str:
        """The words of a report."""
        if not self.names:
            one = "(h, c)" if self.pairs else "(N, H)"
            return f"its states are {f'in a {self.kind} with ' * bool(self.kind)}one {one} for each layer and direction"
        return f"its states are in a {'named tuple' if self.fields else 'dict'} of {' and '.join(self.names)}"

    def filled(self, states: Sequence[Any]) -> Any:
        """Return a container of some states, h first."""
        if not self.names:
            rows = [self._in_rows(state) for state in states]
            return self._of_kind(zip(*rows, strict=True)) if self.pairs else tuple(rows) if len(rows) > 1 else rows[0]
        states = self._in_rows(states[0]) if self.rows else states
        values = states[::-1] if self.turned else states
        if self.fields:  # the class's own need not be there, where its subject is described
            return namedtuple("States", self.names)(*values)  # noqa: PYI024 - names of a call
        return dict(zip(self.names, values, strict=True))

    def emptied(self, part: Any) -> Any:
        """Return what a container holds, h first; anything else as it is."""
        if self.names and _names_of(part) == self.names:
            values = [_in_list(value) for value in _values_of(part)][:: -1 if self.turned else 1]
            if self.rows:
                return _stacked(values)
            return tuple(values) if self.finals > 1 else values[0]
        if self.names or type(part).__name__ != self.kind:
            return part
        nested = [*zip(*part, strict=True)] if self.pairs and all(map(_of_layers, part)) else part
        if nested and all(map(_of_layers, nested)):
            return tuple(map(_stacked, nested))
        return _stacked(part) if _of_layers(part) else part

    def _of_kind(self, parts: Iterable[Any]) -> Any:
        return tuple(parts) if self.kind == "tuple" else list(parts)

    def _in_rows(self, state: Any) -> Any:
        """Return the states (N, H) of one with an axis for layers and directions; another one as it is."""
        return self._of_kind(state) if getattr(state, "ndim", 0) == 3 else state

    def filled_in_code(self, states: Sequence[str]) -> str:
        """Return ``filled`` as code."""
        if not self.names:
            rows = [f"{self.kind}({state})" if self.kind else f"*{state}" for state in states]
            together = f"({', '.join(rows)})" if len(rows) > 1 else rows[0]
            return f"{self.kind}(zip({', '.join(states)}))" if self.pairs else together
        states = [f"{states[0]}[{row}]" for row in range(len(self.names))] if self.rows else states
        pairs = list(zip(self.names, states[::-1] if self.turned else states, strict=True))
        if self.fields:
            return f"namedtuple('States', {self.names})({', '.join(state for _, state in pairs)})"
        return f"{{{', '.join(f'{name!r}: {state}' for name, state in pairs)}}}"

    def emptied_in_code(self, held: str) -> str:
        """Return ``emptied`` as code, of what holds the states."""
        if not self.names and self.finals < 2:
            return f"torch.stack({held})"
        if not self.names:
            return f"(torch.stack(of) for of in {f'zip(*{held})' if self.pairs else held})"
        names = self.names[::-1] if self.turned else self.names
        parts = ", ".join(f"{held}.{name}" if self.fields else f"{held}[{name!r}]" for name in names)
        return f"torch.stack([{parts}])" if self.rows else parts


def container_of(returned: Any, same: SameTensors, *, grows: bool) -> StateContainer | None:
    """Return the container of final states in what a call of a single layer returned, its output first.

    A tuple of one state is that state, unless there may be more, as the class grows.
    """
    if not isinstance(returned, Mapping | tuple | list) or len(returned) < 2:
        return None
    output, *rest = returned.values() if isinstance(returned, Mapping) else returned
    if len(rest) == 2 and _are_of_directions(output, rest, same):
        return StateContainer(1, kind="")
    found = (_named(output, part, same) if _names_of(part) else _unnamed(output, part, same, grows) for part in rest)
    return next(filter(None, found), None)


def _named(output: Any, part: Any, same: SameTensors) -> StateContainer | None:
    """Return the container that a dict or a named tuple is, if it is one of states."""
    values, names = [_in_list(value) for value in _values_of(part)], _names_of(part)
    if len(values) not in {1, 2} or not all(isinstance(value, list) or hasattr(value, "shape") for value in values):
        return None
    if rows := _are_of_directions(output, values, same):  # names in any order: numbers tell which is which
        turned = all(map(partial(_ends_in, output, same=same), (0, 1), values[::-1]))
    else:
        turned = _ends(output, values[-1], same) and not _ends(output, values[0], same)
    return StateContainer(1 if rows else len(values), names, hasattr(part, "_fields"), turned, rows=rows)


def _unnamed(output: Any, part: Any, same: SameTensors, grows: bool) -> StateContainer | None:
    """Return the container that a tuple or a list is, if it is one of states."""
    kind = type(part).__name__
    if _of_layers(part):
        one = grows and len(part) == 1 and kind == "tuple"
        return StateContainer(1, kind=kind) if one or _are_of_directions(output, part, same) else None
    if not isinstance(part, tuple | list) or not part or not all(map(_of_layers, part)) or len({*map(len, part)}) > 1:
        return None
    if grows and len(part) == 2 and len(part[0]) == 1 and kind == type(part[0]).__name__ == "tuple":
        return StateContainer(2)
    for pairs, each in ((True, [*zip(*part, strict=True)]), (False, part)):
        if len(each) == 2 and _are_of_directions(output, each[0], same):
            return StateContainer(2, kind=kind, pairs=pairs)
    return None


def with_container(call: Callable[..., Any], container: StateContainer, x: Any, /, *states: Any, **named: Any) -> Any:
    """Call with plain states, of which the call takes a container, and return plain ones."""
    if container.names and len(states) == 1:
        states = (container.filled(states[0] if container.finals > 1 else states),)
    elif not container.names:
        several = [state if isinstance(state, tuple) else (state,) for state in states]
        states = tuple(map(container.filled, several))
    if container.apart:
        states = tuple(row for state in states for row in (state if isinstance(state, list) else [state]))
    returned = call(x, *states, **named)
    if container.apart:
        values = [*(returned.values() if isinstance(returned, Mapping) else returned)]
        return (values[0], _stacked(values[1:])) if len(values) == 3 and _of_layers(values[1:]) else returned
    if isinstance(returned, Mapping):
        return {name: container.emptied(part) for name, part in returned.items()}
    if isinstance(returned, tuple | list) and len(returned) > 1:
        return (returned[0], *map(container.emptied, returned[1:]))
    return returned


def _names_of(part: Any) -> tuple[str, ...]:
    return tuple(part) if isinstance(part, Mapping) else tuple(getattr(part, "_fields", ()))


def _values_of(part: Any) -> tuple[Any, ...]:
    return tuple(part.values() if isinstance(part, Mapping) else part)


def _of_layers(part: Any) -> bool:
    return isinstance(part, tuple | list) and bool(part) and all(getattr(state, "ndim", 0) == 2 for state in part)


def _stacked(states: Sequence[Any]) -> Any:
    from torch import stack  # whoever has tensors has it

    return stack([*states])


def _in_list(part: Any) -> Any:
    """Return a list of the states of layers for a tuple of them; anything else as it is."""
    return list(part) if isinstance(part, tuple) and _of_layers(part) else part


def _are_of_directions(output: Any, states: Sequence[Any], same: SameTensors) -> bool:
    """Tell whether the last two states (N, H) are each a half of a step of the output, and not both of the same step.

    The two halves of one step are of two directions that do not end there.
    """
    if len(states) < 2 or not _of_layers(states) or len({state.shape for state in states}) > 1:
        return False
    steps = _halves(output, states[0])
    some = all(any(same(half, state) for step in steps for half in step) for state in states[-2:])
    return some and not any(all(map(same, step, states[-2:])) for step in steps)


def _halves(output: Any, state: Any) -> list[tuple[Any, Any]]:
    """Return both halves of each step of an output, as time goes; nothing if a state (N, H) is no half of it."""
    N, H = state.shape
    if getattr(output, "ndim", 0) != 3 or output.shape[-1] != 2 * H or N not in output.shape[:2]:
        return []
    return [(step[:, :H], step[:, H:]) for step in output.unbind(int(output.shape[1] != N))]


def _ends_in(output: Any, direction: int, state: Any, *, same: SameTensors) -> bool:
    """Tell whether a state (N, H) is where a direction ends: its last step, or the first one if it is reverse."""
    return same(_halves(output, state)[-1 + direction][direction], state)


def _ends(output: Any, state: Any, same: SameTensors) -> bool:
    """Tell whether a state, of the last layer, is the last output."""
    steps = (output[-1], output[:, -1]) if getattr(output, "ndim", 0) == 3 else ()
    own = state[-1] if isinstance(state, list) else state
    return any(step.numel() == own.numel() and same(step, own.reshape(step.shape)) for step in steps)
