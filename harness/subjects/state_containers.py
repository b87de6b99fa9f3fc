"""state_containers: the dict, named tuple or tuple in which a class takes and returns states, as plain ones."""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

SameTensors = Callable[[Any, Any], bool]  # tells whether two tensors are the same but for roundings


class StateContainer(NamedTuple):
    """A container of final states; without names, tuples of a state (N, H) for each layer, where lists are usual."""

    finals: int
    names: tuple[str, ...] = ()  # of a dict, or of the fields of a named tuple, in its order
    fields: bool = False  # true of a named tuple
    turned: bool = False  # true if c comes before h

    @property
    def words(self) -> str:
        """The words of a report for a container with names."""
        return f"its states are in a {'named tuple' if self.fields else 'dict'} of {' and '.join(self.names)}"

    def filled(self, states: Sequence[Any]) -> Any:
        """Return a container of some states, h first."""
        values = states[::-1] if self.turned else states
        if self.fields:  # the class's own need not be there, where its subject is described
            return namedtuple("States", self.names)(*values)  # noqa: PYI024 - names of a call
        return dict(zip(self.names, values, strict=True))

    def emptied(self, part: Any) -> Any:
        """Return what a container holds, h first; anything else as it is."""
        if not self.names:
            return _in_lists(part, self.finals)
        if _names_of(part) != self.names:
            return part
        values = [_in_lists(value, 1) for value in _values_of(part)]
        return tuple(values[::-1] if self.turned else values) if self.finals > 1 else values[0]

    def filled_in_code(self, states: Sequence[str]) -> str:
        """Return ``filled`` as code."""
        pairs = list(zip(self.names, states[::-1] if self.turned else states, strict=True))
        if self.fields:
            return f"namedtuple('States', {self.names})({', '.join(state for _, state in pairs)})"
        return f"{{{', '.join(f'{name!r}: {state}' for name, state in pairs)}}}"

    def emptied_in_code(self, held: str) -> str:
        """Return ``emptied`` as code, of what holds the states."""
        names = self.names[::-1] if self.turned else self.names
        return ", ".join(f"{held}.{name}" if self.fields else f"{held}[{name!r}]" for name in names)


def container_of(returned: Any, same: SameTensors) -> StateContainer | None:
    """Return the container of final states in what a call of a single layer returned, its output first."""
    if not isinstance(returned, Mapping | tuple | list) or len(returned) < 2:
        return None
    output, *rest = returned.values() if isinstance(returned, Mapping) else returned
    for part in rest:
        names = _names_of(part)
        values = [_in_lists(value, 1) for value in _values_of(part)] if names else []
        if len(values) in {1, 2} and all(isinstance(value, list) or hasattr(value, "shape") for value in values):
            turned = _ends(output, values[-1], same) and not _ends(output, values[0], same)
            return StateContainer(len(values), names, hasattr(part, "_fields"), turned)
        for finals in (1, 2):
            lists = _in_lists(part, finals)
            if lists is not part and len(lists if finals == 1 else lists[0]) == 1:
                return StateContainer(finals)
    return None


def with_container(call: Callable[..., Any], container: StateContainer, x: Any, /, *states: Any, **named: Any) -> Any:
    """Call with plain states, of which the call takes a container, and return plain ones."""
    if container.names and len(states) == 1:
        states = (container.filled(states[0] if container.finals > 1 else states),)
    elif not container.names:
        states = tuple(map(_in_tuples, states))
    returned = call(x, *states, **named)
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
    return isinstance(part, tuple) and bool(part) and all(getattr(state, "ndim", 0) == 2 for state in part)


def _in_lists(part: Any, finals: int) -> Any:
    """Return lists of the states of layers for tuples of them; anything else as it is."""
    if finals == 1:
        return list(part) if _of_layers(part) else part
    pair = isinstance(part, tuple) and len(part) == finals and all(map(_of_layers, part))
    return tuple(map(list, part)) if pair else part


def _in_tuples(part: Any) -> Any:
    return tuple(map(_in_tuples, part)) if isinstance(part, tuple | list) else part


def _ends(output: Any, state: Any, same: SameTensors) -> bool:
    """Tell whether a state, of the last layer, is the last output."""
    steps = (output[-1], output[:, -1]) if getattr(output, "ndim", 0) == 3 else ()
    own = state[-1] if isinstance(state, list) else state
    return any(step.numel() == own.numel() and same(step, own.reshape(step.shape)) for step in steps)
