"""interfaces: what layers of real code take and return, and layers that are drawn within that."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from random import Random
from typing import Any, Final, NamedTuple


class Interface(NamedTuple):
    """The values of factors that a layer takes, and its conventions."""

    offers: Mapping[str, tuple[Any, ...]]
    conventions: tuple[str, ...] = ()


INTERFACES: Final = {
    "one sequence": Interface({"N": (1,)}),
    "one feature": Interface({"input_size": (1,)}),
    "one unit": Interface({"hidden_size": (1,)}),
    "fixed T": Interface({"T": (5,)}),
    "short T": Interface({"T": (1, 2)}),
    "no biases": Interface({"bias": (False,)}),
    "one bias": Interface({}, ("one_bias",)),
    "no hx": Interface({"hx": (False,)}),
    "last state alone": Interface({}, ("last_output_only",)),
    "float32 alone": Interface({"dtype": ("float32",)}),
    "gradients of weights alone": Interface({}),  # a layer returns no others
    "one step": Interface({"T": (1,)}),
    "fixed sizes": Interface({"input_size": (3,), "hidden_size": (4,)}),
}
ONE_BIAS_HAS_NO_MEANING: Final = ("GRU",)  # where one bias is inside of what r multiplies, and the other outside


def interfaces_of(cell: str) -> list[str]:
    """Return the names of the interfaces that a layer of a cell may have."""
    return [name for name in INTERFACES if name != "one bias" or cell not in ONE_BIAS_HAS_NO_MEANING]


def chosen(names: Sequence[str], number: int, cell: str) -> tuple[str, ...]:
    """Return the interfaces of a layer by its number: those named; of ``each`` one in turn, of ``pairs`` two."""
    every = interfaces_of(cell)
    if [*names] == ["each"]:
        return (every[number % len(every)],)
    if [*names] == ["pairs"]:
        several = [pair for pair in combinations(every, 2) if not _exclude(*pair)]
        return Random(f"pairs/{number}").choice(several)
    return tuple(names)


def _exclude(first: str, second: str) -> bool:
    """Tell whether two interfaces allow different values of one factor, or say the same of biases."""
    offers = INTERFACES[first].offers.keys() & INTERFACES[second].offers.keys()
    return bool(offers) or {first, second} == {"no biases", "one bias"}


def offers_of(names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the values of factors that are left by some interfaces."""
    return {factor: values for name in names for factor, values in INTERFACES[name].offers.items()}


def kept(gradients: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the gradients that a layer of some interfaces returns."""
    left_out = ("x", "hx", "cx") if "gradients of weights alone" in names else ()
    return {name: array for name, array in gradients.items() if name not in left_out}


def narrowed(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """Return a layer's function, which takes all and returns output, final states and gradients, within interfaces."""
    own: Any = function
    declared = [convention for name in names for convention in INTERFACES[name].conventions]
    own.conventions = {**getattr(own, "conventions", {}), **dict.fromkeys(declared, True)}
    own.offers = {**getattr(own, "offers", {}), **offers_of(names)}
    return function
