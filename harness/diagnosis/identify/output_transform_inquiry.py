"""output_transform_inquiry: what is done to an array before it is returned."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Final

from harness.diagnosis.identify.activations import IDENTITY, recognised
from harness.diagnosis.identify.fit import plainest
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.inquiry import departing, explains, fresh_answers
from harness.diagnosis.identify.model import Network
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.questions import Asker, Response
from harness.diagnosis.identify.step_patterns import EVERY_STEP, fitting_pattern
from harness.diagnosis.identify.transform import AXIS_MATRICES, TRANSFORM_AXES, Transform, axis_matrix
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np

STEPWISE: Final = ("output", "readout")  # of which the first axis is time
Pairs = Sequence[tuple[Floats, Floats]]  # what a network gives of an array, and what the subject returns of it


def transformable(generic: Sequence[Response]) -> list[str]:
    """Return the arrays that may be transformed alone: output and h_n are not if the one ends with the other."""

    def ends(a: Response) -> bool:
        last = None if a.returned is None or "h_n" not in a.arrays else a.returned[-1]
        return last is not None and np.array_equal(last, a.arrays["h_n"][-1])

    names = dict.fromkeys(name for a in generic for name in a.arrays)
    return [name for name in names if name not in ("output", "h_n") or not all(map(ends, generic))]


def with_transform(asker: Asker, network: Network, name: str, generic: Sequence[Response]) -> Network | None:
    """Return a network with the transform of an array, an empty one if that is not known.

    The result is ``None`` if the network does not give the other arrays.
    """
    network = replace(network, transforms={name: Transform()})
    if any(departing(network, a, asker.rounding) - {name} for a in generic):
        return None
    pairs = [(values_of(run(network, a.case)[name]), a.arrays[name]) for a in generic if name in a.arrays]
    way = transform_of(pairs, asker.noise, [axis for axis in TRANSFORM_AXES if axis or name in STEPWISE])
    several = [replace(network, transforms={name: way._replace(derived=derived)}) for derived in (True, False)]
    fresh = list(fresh_answers(asker))
    return next((choice for choice in several if all(explains(choice, a, asker.rounding) for a in fresh)), several[0])


def transform_of(pairs: Pairs, noise: float, axes: Sequence[int]) -> Transform:
    """Return the transform that makes each second array of the first one beside it; an empty one if there is none.

    At some places alone it is done along one of the ``axes``.
    """
    for matrix, axis in (("", 0), *product([name for name in AXIS_MATRICES if name], TRANSFORM_AXES)):
        made = [(np.swapaxes(axis_matrix(matrix, v.shape[axis]) @ v.swapaxes(axis, -2), axis, -2), g) for v, g in pairs]
        if (way := _function_of(made, noise, known=not matrix)) is not None:
            return way._replace(matrix=matrix, axis=axis)
    return next((way for axis in axes if (way := _in_places(pairs, noise, axis)) is not None), Transform())


def _function_of(pairs: Pairs, noise: float, *, known: bool) -> Transform | None:
    """Return the factor of each number, or of a function of it that is ``known``."""
    if not pairs:
        return None
    v, actual = (np.concatenate([array.ravel() for array in several]) for several in zip(*pairs, strict=True))
    for function in (IDENTITY, *(kind for kind, _ in (recognised(v, actual, noise) if known else ()))):
        value = function.value(v)
        if not (size := float(value @ value)):
            continue
        factor = plainest(float(value @ actual) / size, noise)
        if _equal(factor * value, actual, noise):
            return Transform(factor, function)
    return None


def _in_places(pairs: Pairs, noise: float, axis: int) -> Transform | None:
    """Return what is done at some places along an axis, if these follow a pattern and the others stay.

    A function may leave all numbers of a place as they are, too.
    """
    several = [(np.moveaxis(v, axis, 0), np.moveaxis(actual, axis, 0)) for v, actual in pairs]
    places = [(len(v), i, v[i], actual[i]) for v, actual in several for i in range(len(v))]
    changed = [(v, actual) for *_, v, actual in places if not _equal(v, actual, noise)]
    if (way := _function_of(changed, noise, known=True)) is None:
        return None
    hits = [
        (size, i, not _equal(v, actual, noise))
        for size, i, v, actual in places
        if _equal(v, actual, noise) != _equal(way.factor * way.function.value(v), actual, noise)
    ]
    when = fitting_pattern(hits)
    return None if when is None or when == EVERY_STEP else way._replace(axis=axis, when=when)


def _equal(first: Floats, second: Floats, noise: float) -> bool:
    return bool(np.abs(first - second).max(initial=0) <= 1024 * noise * (1 + np.abs(second).max(initial=0)))
