"""array_layout: where the numbers of a case stand: in which layout, order of time, features and rows of h_n."""

from collections.abc import Sequence

from numpy.typing import NDArray

from harness.oracle.bounded_array import Floats, TimeIndex, to_float64
from harness.oracle.pinned_numpy import np
from harness.space.case import Array
from harness.space.config import RNNConfig

Place = tuple[int, int]  # A layer and a direction
Visited = NDArray[np.bool_]  # A mask (T, N, 1) of the steps that each sequence has


def time_major(array: Array, config: RNNConfig) -> Floats:
    """Return an x or output as float64 with time first, whatever the layout."""
    return to_float64(array.swapaxes(0, 1) if config.batch_first else array)


def layout(array: Floats, config: RNNConfig) -> Floats:
    """Return an array that was computed with time first, in the layout that the config asks of x and output."""
    return array.swapaxes(0, 1) if config.batch_first else array


def features(config: RNNConfig, direction: int) -> slice:
    """Return the slice of a direction's units among the D*H features of an output: forward first."""
    units = config.h_size
    return slice(direction * units, (direction + 1) * units)


def h_n_order(config: RNNConfig) -> list[Place]:
    """Return the (layer, direction) of each row of h_n."""
    return [(layer, d) for layer in range(config.num_layers) for d in range(config.num_directions)]


def time_order(config: RNNConfig, direction: int) -> Sequence[int]:
    """Return the order in which a direction visits the time steps."""
    return range(config.T - 1, -1, -1) if direction else range(config.T)


def final_step(config: RNNConfig, direction: int) -> TimeIndex:
    """Return the time step whose state is h_n: the last one visited."""
    return first_step(config, not direction)


def first_step(config: RNNConfig, direction: int) -> TimeIndex:
    """Return the time step that reads the initial state: the first one visited."""
    if not direction:
        return 0
    return config.T - 1 if config.lengths is None else np.array(config.lengths) - 1


def visited(config: RNNConfig) -> Visited | None:
    """Return a mask (T, N, 1) of the steps that each sequence has; ``None`` if every sequence has T."""
    return None if config.lengths is None else (np.arange(config.T)[:, None] < np.array(config.lengths))[..., None]
