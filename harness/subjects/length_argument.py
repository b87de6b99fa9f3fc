"""length_argument: the argument of a call that says how many steps of each sequence count: lengths, or a mask."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from typing import Any, Final, NamedTuple

import torch

from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.signature import OF_STEPS
from harness.subjects.torch_tensors import near

STEPS_LESS: Final = 2  # the steps by which a sequence is made shorter


class ValidStepsArgument(NamedTuple):
    """Such an argument: its name, what it is given, and whether sequences may become longer."""

    name: str
    kind: str
    any_order: bool


def _lengths(lengths: Sequence[int], _T: int, _x: torch.Tensor) -> Any:
    return torch.tensor(lengths)  # on the CPU, because packing needs them there


def _list(lengths: Sequence[int], _T: int, _x: torch.Tensor) -> Any:
    return list(lengths)


def _mask(lengths: Sequence[int], T: int, x: torch.Tensor, *, axes: str, counts: bool, as_bool: bool) -> Any:
    mask = (torch.arange(T) < torch.tensor(lengths)[:, None]) == counts  # (N, T)
    mask = mask.T if axes.startswith("T") else mask
    mask = mask[..., None] if axes.endswith("1") else mask
    return mask.to(x.device) if as_bool else mask.to(x)


def _kinds() -> Iterator[tuple[str, Callable[..., Any]]]:
    yield from (("lengths", _lengths), ("a list of lengths", _list))
    for axes, counts, as_bool in product(("NT", "TN", "NT1", "TN1"), (True, False), (True, False)):
        where, true = ("where a step counts" if counts else "in the padding"), ("True" if as_bool else "1.0")
        yield f"a mask ({', '.join(axes)}), {true} {where}", partial(_mask, axes=axes, counts=counts, as_bool=as_bool)


LENGTH_KINDS: Final = dict(_kinds())


def steps_in_code(kind: str) -> str:
    """Return torch code that makes of a tensor ``lengths`` what an argument is given, for x (T, N, input_size)."""
    made = LENGTH_KINDS[kind]
    if not isinstance(made, partial):
        return "lengths" if made is _lengths else "lengths.tolist()"
    axes, counts, as_bool = (made.keywords[name] for name in ("axes", "counts", "as_bool"))
    mask = f"(torch.arange(len(x)) {'<' if counts else '>='} lengths[:, None])"
    turned = ".T" * axes.startswith("T") + "[..., None]" * axes.endswith("1")
    return f"{mask}{turned}.to({'x.device' if as_bool else 'x'})"


def takes_steps(call: Callable[..., Any]) -> bool:
    """Tell whether a call has an argument with the name of lengths or of a mask."""
    with suppress(TypeError, ValueError):
        return any(OF_STEPS.search(name) for name in inspect.signature(call).parameters)
    return False


Call = Callable[..., Sequence[torch.Tensor | None]]
"""Calls a class on its first steps, so many, with named arguments, and returns the output, time first, (T, N, H), or
``None``, and final states, each (rows, N, H)."""


def valid_steps_of(
    choices: Iterable[tuple[str, str]], trial: "LengthTrial", *, wrongly: bool
) -> ValidStepsArgument | None:
    """Return the first argument, of some names and kinds, by which the last sequence is made shorter.

    With ``wrongly``, it is one with the name of lengths or of a mask by which only a part of the results is cut.
    """
    for name, kind in choices:
        cuts = trial.cuts_partly if wrongly else trial.cuts
        if (OF_STEPS.search(name) or not wrongly) and cuts((name, kind), trial.N - 1):
            return ValidStepsArgument(name, kind, trial.takes((name, kind), 0))
    return None


class LengthsUnreadError(SubjectUnavailable):
    """Raised for an argument without a default, with some kinds of which calls succeed, and with none get shorter."""

    def __init__(self, subject: str, name: str) -> None:
        super().__init__(
            f"{subject}: {name} has no default, and neither lengths (N,), nor a list of them, nor a mask makes a "
            f"sequence shorter\nexpected that steps behind a length do not count, or a default, such as {name}=None"
        )


@dataclass(frozen=True)
class LengthTrial:
    """A class that is called on x, of T steps and N sequences, to see what an argument does."""

    call: Call
    x: torch.Tensor
    T: int
    N: int

    @cached_property
    def plain(self) -> Sequence[torch.Tensor | None]:
        """The results without the argument."""
        return self.call(self.T)

    @cached_property
    def shorter(self) -> Sequence[torch.Tensor | None]:
        """The same, on the first steps alone."""
        return self.call(self.T - STEPS_LESS)

    def cuts(self, valid: tuple[str, str], n: int) -> bool:
        """Tell whether an argument makes a sequence shorter.

        Some of its final states are those of a call on fewer steps, where they differ from those of all steps. Without
        final states, the output of these steps is that of such a call, where it differs from that of all steps, or
        where features of the others become zero, or stay what the last of these is.
        """
        with suppress(Exception):  # whatever the user's code raises for what it does not take
            output, *finals = self._of_sequence(valid, n)
            if any(final is not None for final in self.plain[1:]):
                rows = [row for final in filter(None, finals) for row in zip(*final, strict=True)]
                return any(_same(its, at_end) and not _same(mine, at_end) for mine, its, at_end in rows)
            if output is not None:
                mine, its, end = output
                return _same(its[: len(end)], end) and (
                    _is_cut(mine, its, len(end)) or not _same(mine[: len(end)], its[: len(end)])
                )
        return False

    def cuts_partly(self, valid: tuple[str, str], n: int) -> bool:
        """Tell whether an argument cuts the output of a sequence, or makes a state of the output with all steps final.

        A layer that runs on in the padding does no more than the first, and one that returns the state of a wrong step
        no more than the second.
        """
        with suppress(Exception):  # whatever the user's code raises for what it does not take
            output, *finals = self._of_sequence(valid, n)
            if output is None:
                return False
            rows = [row for final in filter(None, finals) for row in zip(*final, strict=True)]
            moved = (
                _same(its, state) and not _same(mine, state)
                for mine, its, _ in rows
                for state in output[0].reshape(-1, len(mine))
            )
            return _is_cut(output[0], output[1], len(output[2])) or any(moved)
        return False

    def _of_sequence(
        self, valid: tuple[str, str], n: int
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None]:
        """Return each result of a sequence: with all steps, with fewer by an argument, and of a call on fewer steps.

        With all steps, the results are those without the argument, and with fewer in one sequence, nothing of any other
        one changes. So a mask of something else, such as one that resets the state, is none. Else an error is raised.
        """
        same = all(map(_same, self.plain, self._called(valid, [self.T] * self.N)))
        results: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None] = []
        for a, b, end in zip(self.plain, self.with_shorter(valid, n), self.shorter, strict=True):
            if a is None or b is None or end is None:
                results.append(None)
                continue
            several = enumerate(zip(a.unbind(1), b.unbind(1), strict=True))
            same &= all(_same(mine, its) for k, (mine, its) in several if k != n)
            results.append((a[:, n], b[:, n], end[:, n]))
        if not same:
            raise ValueError("it changes more than one sequence")
        return results

    def takes(self, valid: tuple[str, str], n: int) -> bool:
        """Tell whether a call with fewer steps in a sequence succeeds."""
        with suppress(Exception):
            self.with_shorter(valid, n)
            return True
        return False

    def with_shorter(self, valid: tuple[str, str], n: int) -> Sequence[torch.Tensor | None]:
        """Return the results with fewer steps in a sequence."""
        return self._called(valid, [self.T - STEPS_LESS if k == n else self.T for k in range(self.N)])

    def _called(self, valid: tuple[str, str], lengths: Sequence[int]) -> Sequence[torch.Tensor | None]:
        return self.call(self.T, **lengths_by_name(valid, lengths, self.T, self.x))


def _paddings(counted: torch.Tensor, padding: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return what the output is behind the steps that count: zero, or the last of these."""
    return torch.zeros_like(padding), counted[-1:].expand_as(padding)


def _is_cut(before: torch.Tensor, after: torch.Tensor, steps: int) -> bool:
    """Tell whether some features of an output, as those of one direction, are cut behind some steps, and were not."""

    def are(output: torch.Tensor, rest: torch.Tensor) -> list[bool]:
        return [_same(own, its) for own, its in zip(output[steps:].unbind(-1), rest.unbind(-1), strict=True)]

    paddings = _paddings(after[:steps], after[steps:])
    return any(
        now and not then for rest in paddings for now, then in zip(are(after, rest), are(before, rest), strict=True)
    )


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and near(a, b)


def lengths_by_name(valid: tuple[str, str], lengths: Sequence[int], T: int, x: torch.Tensor) -> dict[str, Any]:
    """Return what a call on x is given by name, of an argument's name and kind."""
    name, kind = valid
    return {name: LENGTH_KINDS[kind](lengths, T, x)}


def with_all_steps(
    call: Callable[..., Any], valid: tuple[str, str], batch_first: bool, x: torch.Tensor, /, *states: Any, **named: Any
) -> Any:
    """Call on x (T, N, input_size), or (N, T, input_size), with an argument that says that each step counts.

    It is given by name, as it is if it is among the ``named`` ones.
    """
    if valid[0] not in named:
        T, N, _ = x.transpose(0, 1).shape if batch_first else x.shape
        named |= lengths_by_name(valid, [T] * N, T, x)
    return call(x, *states, **named)


def inside(lengths: Sequence[int], T: int, *, batch_first: bool) -> torch.Tensor:
    """Return where a step counts, (T, N, 1), or (N, T, 1) with ``batch_first``."""
    mask = torch.arange(T)[:, None] < torch.tensor(lengths)  # (T, N)
    return (mask.T if batch_first else mask)[..., None]


def last_steps(output: Any, lengths: Sequence[int], *, batch_first: bool) -> Any:
    """Return the last output of each sequence, with an axis for layers, or ``None`` of one of another shape."""
    if not isinstance(output, torch.Tensor) or output.dim() != 3:
        return None
    of_sequences = (output if batch_first else output.transpose(0, 1)).unbind()
    return torch.stack([steps[min(T, len(steps)) - 1] for steps, T in zip(of_sequences, lengths, strict=False)])[None]


def filled(output: Any, lengths: Sequence[int], T: int, *, batch_first: bool) -> Any:
    """Return an output with zeros where no step counts, or unchanged if it has another shape."""
    mask = inside(lengths, T, batch_first=batch_first)
    if not isinstance(output, torch.Tensor) or output.dim() != 3 or output.shape[:2] != mask.shape[:2]:
        return output
    return torch.where(mask.to(output.device), output, output.new_zeros(()))
