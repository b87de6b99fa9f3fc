"""state_axes: the shapes in which a call may have the states of all layers and directions, as orders of their axes.

In an order, L stands for layers, D for directions, N and H for theirs; R is L and D in one axis, B is D and H, A is L,
D and H, and E is D, L and H.
"""

from math import prod
from typing import Any, Final

TORCH_AXES: Final = "RNH"  # that of torch's layer: (layers * directions, N, H)
OTHER_ORDERS: Final = ("NRH", "LDNH", "LNDH", "NLDH", "DLNH", "DNLH", "NDLH")
DIRECTIONS_SIDE_BY_SIDE: Final = ("LNB", "NLB")  # both directions of a layer side by side
IN_ROWS: Final = ("NA", "NE")  # all states of a sequence side by side

_APART: Final = "LDNH"
_SEVERAL: Final = {"R": "LD", "B": "DH", "A": "LDH", "E": "DLH"}
_WORDS: Final = {"L": "layers", "D": "directions"}


def all_axes(layers: int, directions: int) -> tuple[str, ...]:
    """Return the orders that are tried, torch's first."""
    in_rows = IN_ROWS[: (layers * directions > 1) + (layers > 1 < directions)]  # of one state, (N, H) is flat
    return (
        TORCH_AXES,
        *OTHER_ORDERS,
        *DIRECTIONS_SIDE_BY_SIDE[: len(DIRECTIONS_SIDE_BY_SIDE) * (directions - 1)],
        *in_rows,
    )


def said_axes(axes: str) -> str:
    """Return an order in words: ``(N, layers * directions, H)``."""
    return f"({', '.join(' * '.join(_WORDS.get(letter, letter) for letter in _split(axis)) for axis in axes)})"


def shape_of(axes: str, layers: int, directions: int, N: int, H: int) -> tuple[int, ...]:
    """Return the shape of states in an order of axes."""
    sizes = {"L": layers, "D": directions, "N": N, "H": H}
    return tuple(prod(sizes[letter] for letter in _split(axis)) for axis in axes)


def to_axes(state: Any, axes: str, directions: int) -> Any:
    """Return a state (layers * directions, N, H) in an order of axes."""
    if axes == TORCH_AXES:
        return state
    layers, (_, N, H) = state.shape[0] // directions, state.shape
    apart = state.reshape(layers, directions, N, H).permute([_APART.index(axis) for axis in _split(axes)])
    return apart.reshape(shape_of(axes, layers, directions, N, H))


def from_axes(state: Any, axes: str, directions: int, H: int) -> Any:
    """Return a state in an order of axes as (layers * directions, N, H), or unchanged if it has other axes.

    H may be 0 where it is not known; it is used if all states of a sequence are side by side.
    """
    if axes == TORCH_AXES or len(state.shape) != len(axes):
        return state
    parts = directions * H if axes in IN_ROWS else 1 + ("B" in axes)
    if parts == 0 or state.shape[-1] % parts:
        return state
    layers, sizes = state.shape[-1] // parts, list[int]()
    for axis, size in zip(axes, state.shape, strict=True):
        several = {"R": [size, 1], "B": [2, size // 2], "A": [layers, directions, H], "E": [directions, layers, H]}
        sizes += several.get(axis, [size])
    split = _split(axes)
    apart = state.reshape(sizes).permute([split.index(axis) for axis in _APART])
    return apart.reshape(-1, *apart.shape[2:])


def to_axes_in_code(state: str, axes: str, directions: int) -> str:
    """Return torch code that makes of a state (layers * directions, N, H) one in an order of axes."""
    if axes == "NRH":
        return f"{state}.transpose(0, 1)"
    order = ", ".join(str(_APART.index(axis)) for axis in _split(axes))
    turned = "" if axes == _APART else f".permute({order})"
    joined = "" if axes[-1] == "H" else f".flatten(-{len(_SEVERAL[axes[-1]])})"
    return f"{state}.unflatten(0, (-1, {directions})){turned}{joined}" if axes != TORCH_AXES else state


def from_axes_in_code(state: str, axes: str, directions: int) -> str:
    """Return torch code that does the opposite, where there is an output."""
    if axes == "NRH":
        return f"{state}.transpose(0, 1)"
    order = ", ".join(str(_split(axes).index(axis)) for axis in _APART)
    turned = "" if axes == _APART else f".permute({order})"
    sizes = {
        "B": f"{directions}, -1",
        "A": f"-1, {directions}, output[0].shape[-1] // {directions}",
        "E": f"{directions}, -1, output[0].shape[-1] // {directions}",
    }
    apart = "" if axes[-1] == "H" else f".unflatten(-1, ({sizes[axes[-1]]}))"
    return f"{state}{apart}{turned}.flatten(0, 1)" if axes != TORCH_AXES else state


def _split(axes: str) -> str:
    return "".join(_SEVERAL.get(axis, axis) for axis in axes)
