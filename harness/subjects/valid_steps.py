"""valid_steps: the argument of a call that says how many steps of each sequence count: lengths, or a mask."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from typing import Any, Final, NamedTuple

import torch


class ValidSteps(NamedTuple):
    """Such an argument: its name, what it is given, and whether sequences may become longer."""

    name: str
    kind: str
    any_order: bool


def _lengths(lengths: Sequence[int], _T: int, _dtype: torch.dtype) -> Any:
    return torch.tensor(lengths)


def _list(lengths: Sequence[int], _T: int, _dtype: torch.dtype) -> Any:
    return list(lengths)


def _mask(
    lengths: Sequence[int], T: int, dtype: torch.dtype, *, axes: str, counts: bool = True, as_bool: bool = True
) -> Any:
    mask = (torch.arange(T) < torch.tensor(lengths)[:, None]) == counts  # (N, T)
    mask = mask.T if axes.startswith("T") else mask
    mask = mask[..., None] if axes.endswith("1") else mask
    return mask if as_bool else mask.to(dtype)


def _kinds() -> Iterator[tuple[str, Callable[..., Any]]]:
    yield from (("lengths", _lengths), ("a list of lengths", _list))
    for axes, counts, as_bool in product(("NT", "TN", "NT1", "TN1"), (True, False), (True, False)):
        where, one = ("where a step counts" if counts else "in the padding"), ("True" if as_bool else "1.0")
        yield f"a mask ({', '.join(axes)}), {one} {where}", partial(_mask, axes=axes, counts=counts, as_bool=as_bool)


KINDS: Final = dict(_kinds())


def valid_steps_of(
    names: Sequence[str], call: Callable[..., Sequence[torch.Tensor | None]], T: int, N: int, dtype: torch.dtype
) -> ValidSteps | None:
    """Return the first argument, of some names, by which the last sequence can be made shorter.

    ``call`` gives named arguments and returns the output, time first, (T, N, H), or ``None``, and final states, each
    (rows, N, H). With all steps they must be those without the argument; with fewer in one sequence, its states must
    be others, and those of the others the same.
    """
    for name, (kind, made) in product(names, KINDS.items()):

        def seen(*lengths: int, name: str = name, made: Callable[..., Any] = made) -> Sequence[torch.Tensor | None]:
            return call(**{name: made(lengths, T, dtype)})

        with suppress(Exception):  # whatever the user's code raises for what it does not take
            plain, shorter = call(), seen(*[T] * (N - 1), T - 2)
            if not all(map(_same, plain, seen(*[T] * N))) or not _apart(plain, shorter, N - 1):
                continue
            rising = False
            with suppress(Exception):
                rising = _apart(plain, seen(T - 2, *[T] * (N - 1)), 0)
            return ValidSteps(name, kind, rising)
    return None


def _apart(plain: Sequence[torch.Tensor | None], other: Sequence[torch.Tensor | None], n: int) -> bool:
    """Tell whether the final states of a sequence differ, and nothing of any other."""
    for place, (a, b) in enumerate(zip(plain, other, strict=True)):
        if a is None or b is None:
            continue
        differ = [not _same(mine, its) for mine, its in zip(a.unbind(1), b.unbind(1), strict=True)]
        if any(differ[:n] + differ[n + 1 :]) or (place > 0 and not differ[n]):
            return False
    return any(one is not None for one in plain[1:])


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and torch.allclose(a, b, 1e-4, 1e-5)


def given(valid: tuple[str, str], lengths: Sequence[int], T: int, dtype: torch.dtype) -> dict[str, Any]:
    """Return what a call is given by name, of an argument's name and kind."""
    name, kind = valid
    return {name: KINDS[kind](lengths, T, dtype)}


def inside(lengths: Sequence[int], T: int, *, batch_first: bool) -> torch.Tensor:
    """Return where a step counts, (T, N, 1), or (N, T, 1) with ``batch_first``."""
    mask: torch.Tensor = _mask(lengths, T, torch.bool, axes="NT1" if batch_first else "TN1")
    return mask


def filled(output: Any, lengths: Sequence[int], T: int, *, batch_first: bool) -> Any:
    """Return an output with zeros where no step counts, or unchanged if it has another shape."""
    mask = inside(lengths, T, batch_first=batch_first)
    if not isinstance(output, torch.Tensor) or output.dim() != 3 or output.shape[:2] != mask.shape[:2]:
        return output
    return torch.where(mask.to(output.device), output, output.new_zeros(()))
