"""Cuts of a case: its arrays fitted to another config, so that places that stay keep their numbers.

A failing case is made smaller in this way without losing the values that make it fail: by a unit, a time step, a
sequence, a layer, a direction, a dtype or a layout.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from harness.space.case import Array, Case, padding, prescribe
from harness.space.config import AXIS_LETTERS, ArraySpec, RNNConfig, fitted_lengths

# The places that stay on an axis, by the axis letter; on an axis that is not listed, the first ones stay.
Staying = Mapping[str, tuple[int, ...]]


def without_one(case: Case, factor: str) -> Iterator[Case]:
    """Yield the case with each single time step, sequence, unit or layer left out, the last one first.

    The first layer is never left out.
    """
    letter, size = AXIS_LETTERS[factor], getattr(case.config, factor)
    if size is None or size < 2:
        return
    for gone in reversed(range(1 if factor == "num_layers" else 0, size)):
        stays = tuple(i for i in range(size) if i != gone)
        config = case.config
        if factor == "N" and config.lengths is not None:
            lengths = fitted_lengths(
                [config.lengths[n] for n in stays], config.T, size - 1, falling=config.enforce_sorted
            )
            config = config.replace(N=size - 1, lengths=lengths)
        else:
            config = config.replace(**{factor: size - 1})
        if config.num_layers == 1:
            config = config.replace(dropout=0.0)
        yield fitted(case, config, {letter: stays})


def fitted(case: Case, config: RNNConfig, staying: Staying | None = None) -> Case:
    """Return the case fitted to another config. Entries that the case does not have are zero.

    A loss that reads the output has the same value as one that reads the top layer's h_n, if it reads the same states.
    """
    here = case.config.given
    sizes = _axes(case.config), _axes(config)
    unpadded = _unpadded(case)
    arrays: dict[str, Array] = {}
    for name, spec in config.given.items():
        source = _source(name, staying or {})
        if source in here:
            array = _Fitting(sizes[0], sizes[1], staying or {}).fit(unpadded[source], here[source], spec)
        elif name == "output.grad" and "h_n.grad" in here and config.lengths is None:
            rows = config.outputs["h_n"]
            array = _at_the_ends(
                _Fitting(*sizes, staying or {}).fit(unpadded["h_n.grad"], here["h_n.grad"], rows), config
            )
        else:
            array = np.zeros(spec.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            arrays[name] = np.ascontiguousarray(array.astype(config.dtype))
    prescribe(config, arrays)
    return Case.from_arrays(config, arrays)


def _at_the_ends(h_n: Array, config: RNNConfig) -> Array:
    """Return zeros in the shape of the output, with the top layer's rows of h_n in the last step of each direction."""
    T, N, D, H = config.T, config.N if config.batched else 1, config.num_directions, config.h_size
    output = np.zeros((T, N, D, H), h_n.dtype)
    top = h_n.reshape(config.num_layers, D, N, H)[-1]
    for direction, step in zip(range(D), (T - 1, 0), strict=False):
        output[step, :, direction] = top[direction]
    if config.batched and config.batch_first:
        output = output.swapaxes(0, 1)
    return output.reshape(config.outputs["output"].shape)


def _axes(config: RNNConfig) -> dict[str, int]:
    form = {"G": len(config.form.gates), "L": config.num_layers, "D": config.num_directions}
    return form | {"H": config.hidden_size, "P": config.proj_size}


def _source(name: str, staying: Staying) -> str:
    """Return the name that a parameter had before layers were left out; the name of any other array stays."""
    head, mark, tail = name.rpartition("_l")
    if not mark or "L" not in staying:
        return name
    layer, _, end = tail.partition("_")
    return f"{head}_l{staying['L'][int(layer)]}" + (f"_{end}" if end else "")


class _Fitting:
    """A change of the axes of arrays; an axis of two letters, such as D*H, is split into both."""

    def __init__(self, here: Mapping[str, int], there: Mapping[str, int], staying: Staying) -> None:
        self._here, self._there, self._staying = here, there, staying
        self._h = "P" if here["P"] and there["P"] else "H"  # the letter of h, whose units stay as far as there are

    def fit(self, array: Array, old: ArraySpec, new: ArraySpec) -> Array:
        """Return an array in the axes and sizes of a new spec."""
        letters, shape = self._apart(old, self._here)
        wanted, sizes = self._apart(new, self._there)
        array = array.reshape(shape)
        for letter in [letter for letter in letters if letter not in wanted]:  # a batch of one that is no axis any more
            axis = letters.index(letter)
            array, letters = array.take(0, axis), [*letters[:axis], *letters[axis + 1 :]]
        for letter in [letter for letter in wanted if letter not in letters]:
            array, letters = array[None], [letter, *letters]
        array = array.transpose([letters.index(letter) for letter in wanted])
        for axis, (letter, size) in enumerate(zip(wanted, sizes, strict=True)):
            staying = self._staying.get(letter.rstrip("'"), range(size))[:size]
            places = [place for place in staying if place < array.shape[axis]]
            array = array.take(places, axis) if array.shape[axis] else array
            if (short := size - array.shape[axis]) > 0:
                array = np.concatenate([array, np.zeros_like(array, shape=_with(array.shape, axis, short))], axis)
        return array.reshape(new.shape)

    def _apart(self, spec: ArraySpec, sizes: Mapping[str, int]) -> tuple[list[str], tuple[int, ...]]:
        """Return the single letters of a spec's axes and their sizes; a repeated letter gets a prime."""
        letters: list[str] = []
        shape: list[int] = []
        for axis, size in zip(spec.axes, spec.shape, strict=True):
            for letter in axis.split("*"):
                name = self._h if letter == "P" else letter
                letters.append(name + "'" * letters.count(name))
                shape.append(sizes[letter] if "*" in axis else size)
        return letters, tuple(shape)


def _with(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _unpadded(case: Case) -> Mapping[str, Array]:
    """Return the arrays with the padding in x set to zero, because it may not be padding in another config."""
    if case.config.lengths is None or case.config.strides == "expanded":
        return case.arrays
    x = case.x.copy()
    x[padding(case.config)] = 0
    return {**case.arrays, "x": x}
