"""compare: the comparison of actual with expected arrays, in a fixed order: names, shape, dtype, finiteness, values.

``compare`` holds every element against its proved tolerance, ``suspect`` against the narrower one of a model. Both
return records of the differences, which ``report`` puts into words.

Only the first sort of difference found in an array is reported of it, with all its sites, because what comes later in
the order is usually only its consequence.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from numpy.typing import NDArray

from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.bounded_array import Floats, to_float64
from harness.oracle.element_equation import ElementEquation
from harness.oracle.expected import ExpectedArray
from harness.oracle.pinned_numpy import np
from harness.oracle.tolerance import soft_tolerance
from harness.space.case import Array
from harness.space.config import RNNConfig

SITES: Final = 5  # The number of sites that a record shows: enough to see a pattern, few enough to read

MOST_ELEMENTS: Final = 256
"""The number of elements of an array that ``suspect`` looks at, those furthest beyond their floor. Each takes some 40
microseconds."""


_OF_LAYER: Final = re.compile(r"_l\d+(_reverse)?")
"""The end of a parameter's name. It is no part of the kind where values differ, because a smaller case has fewer
layers."""


class MismatchKind(Enum):
    """The sort of difference of an array."""

    MISSING = "missing"
    UNEXPECTED = "unexpected"
    SHAPE = "shape"
    DTYPE = "dtype"
    FINITENESS = "finiteness"
    VALUE = "value"
    SUSPICIOUS = "suspicious value"
    """A value within what the worst roundings may do, but beyond ``tolerance.LAMBDA`` standard deviations of usual
    ones."""
    # A derivative beyond gradients that differs from differences (``torch.autograd.gradcheck``).
    DERIVATIVE = "derivative"
    CHANGED = "changed input"
    ALIASED = "shared memory"
    OVERWRITTEN = "overwritten by the next call"
    MALFORMED = "malformed"


# The differences of numbers, where everything else is right.
OF_VALUE: Final = frozenset({MismatchKind.VALUE, MismatchKind.FINITENESS, MismatchKind.SUSPICIOUS})

# The differences beside the results, which are right themselves.
OF_EFFECT: Final = frozenset({MismatchKind.CHANGED, MismatchKind.ALIASED})


@dataclass(frozen=True)
class Site:
    """One differing element: its index, both values, and the difference that rounding could have explained."""

    place: Mapping[str, int | str]
    actual: float
    expected: float
    tolerance: float
    # The equation of the element, where the subject's own operands are known exactly.
    equation: ElementEquation | None = field(default=None, compare=False, repr=False)

    @property
    def difference(self) -> float:
        """The size of the difference, |actual - expected|."""
        return abs(self.actual - self.expected)

    @property
    def excess(self) -> float:
        """The difference as a multiple of its tolerance; infinite where either value is not finite."""
        ratio = self.difference / self.tolerance if self.tolerance else math.inf
        return math.inf if math.isnan(ratio) else ratio


@dataclass(frozen=True)
class Mismatch:
    """The difference of one array: its sort, what was expected and found, and some of the elements that differ."""

    array: str
    sort: MismatchKind
    layer: int | None = None  # The inner layer of which the array is the output, where it is not the whole stack's
    probed: bool = False  # True if it was seen with probes, which add units to the layer (``oracle.probe_units``)
    relation: str = ""
    """The relation that it breaks, where the expected array is not the reference's but comes from other runs of the
    subject (``checks.relations``).
    """
    others: str = ""  # The other runs, in words
    expected: str = ""
    actual: str = ""
    count: int = 0
    total: int = 0
    atol: float = 0.0
    rtol: float = 0.0  # The smallest absolute, or else relative, tolerance that would have let the array pass
    # The worst site (by difference over tolerance), and then the first ones in index order.
    sites: tuple[Site, ...] = ()

    @property
    def kind(self) -> str:
        """The part that stays the same while a failing case is shrunk; a suspicion may turn out to be a proof."""
        sort = MismatchKind.VALUE if self.sort is MismatchKind.SUSPICIOUS else self.sort
        array = _OF_LAYER.sub("", self.array) if self.sites else self.array
        kind = f"{array}: {sort.value}"
        return f"{self.relation}: {kind}" if self.relation else kind


def compare(
    config: RNNConfig,
    actual: Mapping[str, Array],
    expected: Mapping[str, ExpectedArray],
    layer: int | None = None,
    *,
    probed: bool = False,
) -> list[Mismatch]:
    """Return a mismatch for every array of ``actual`` that is off by more than its tolerance."""
    found = (_differs(config, name, array, expected[name]) for name, array in actual.items() if name in expected)
    return [replace(mismatch, layer=layer, probed=probed) for mismatch in found if mismatch is not None]


def suspect(
    config: RNNConfig,
    actual: Mapping[str, Array],
    expected: Mapping[str, ExpectedArray],
    arithmetic: Arithmetic,
    layer: int | None = None,
    *,
    probed: bool = False,
) -> list[Mismatch]:
    """Return a mismatch for every array beyond the soft tolerance, of those whose operands are known exactly."""
    found = (_suspicious(config, name, array, expected[name], arithmetic) for name, array in actual.items())
    return [replace(mismatch, layer=layer, probed=probed) for mismatch in found if mismatch is not None]


def check_form(config: RNNConfig, actual: Mapping[str, Array], *, required: tuple[str, ...]) -> list[Mismatch]:
    """Compare names, shapes and dtypes alone, which must be right before any value means something."""
    mismatches = [
        Mismatch(name, MismatchKind.MISSING, expected=_spec(config, name)) for name in required if name not in actual
    ]
    for name, array in actual.items():
        if name not in config.returned:
            mismatches.append(Mismatch(name, MismatchKind.UNEXPECTED, actual=f"{array.dtype} {array.shape}"))
        elif array.shape != config.returned[name].shape:
            mismatches.append(Mismatch(name, MismatchKind.SHAPE, expected=_spec(config, name), actual=str(array.shape)))
        elif array.dtype != np.dtype(config.dtype_of(name)):
            mismatches.append(
                Mismatch(name, MismatchKind.DTYPE, expected=config.dtype_of(name), actual=str(array.dtype))
            )
    return mismatches


def beyond(actual: Floats, expected: Floats, tolerance: Floats) -> NDArray[np.bool_]:
    """Return a mask of the elements that are further off than they may be."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(actual - expected)
        # Only "within the tolerance" passes, so that a NaN fails this test, unless a NaN is expected.
        bad = ~(difference <= tolerance)
        if bad.any():
            bad &= ~(np.isinf(tolerance) | (actual == expected) | (np.isnan(actual) & np.isnan(expected)))
    return bad


def over_tolerance(actual: Floats, expected: Floats, tolerance: Floats) -> NDArray[np.float64]:
    """Return the difference of each element as a multiple of its tolerance: above 1 exactly where ``beyond`` is true.

    It is 0 where the element is exempt or equal, and infinite where a NaN or an infinity is on one side alone.
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        ratio = np.abs(actual - expected) / tolerance
    ratio[np.isnan(ratio)] = np.inf
    bad = beyond(actual, expected, tolerance)
    return np.where(bad, np.maximum(ratio, np.nextafter(1.0, 2.0)), np.where(np.isfinite(ratio), ratio, 0.0))


def share_of_tolerance(actual: Floats, expected: Floats, tolerance: Floats) -> float:
    """Return the maximum of ``over_tolerance``, for arrays of which ``beyond`` is true nowhere."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        ratio = np.abs(actual - expected) / tolerance
    return float(ratio.max(initial=0.0, where=np.isfinite(ratio)))


def same_numbers(a: Array, b: Array) -> bool:
    """Tell whether two arrays hold the same numbers; NaN counts as equal to NaN, and 0 to -0."""
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


def _differs(config: RNNConfig, name: str, actual: Array, expected: ExpectedArray) -> Mismatch | None:
    wide, values = to_float64(actual), expected.values
    bad = beyond(wide, values, expected.tolerance)
    if expected.or_nan is not None:
        bad &= ~(expected.or_nan & np.isnan(wide))
    if not bad.any():
        return None
    unlike = bad & ((np.isfinite(wide) != np.isfinite(values)) | (np.isnan(wide) != np.isnan(values)))
    sort = MismatchKind.FINITENESS if unlike.any() else MismatchKind.VALUE
    flat = np.flatnonzero(unlike if unlike.any() else bad)
    atol, rtol = _enough(wide, values, flat)
    sites = _sites(config, name, wide, expected, flat)
    return Mismatch(name, sort, count=flat.size, total=bad.size, atol=atol, rtol=rtol, sites=sites)


def _suspicious(
    config: RNNConfig, name: str, actual: Array, expected: ExpectedArray, arithmetic: Arithmetic
) -> Mismatch | None:
    if expected.floor is None or expected.equation is None:
        return None
    wide = to_float64(actual)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        difference = np.abs(wide - expected.values)
        above = difference > expected.floor
        if not above.any():
            return None
        beyond = np.flatnonzero(above & np.isfinite(expected.tolerance))
        excess = difference.flat[beyond] / expected.floor.flat[beyond]
    tolerances: dict[int, float] = {}
    for i in beyond[np.argsort(-excess, kind="stable")][:MOST_ELEMENTS]:
        index = tuple(int(k) for k in np.unravel_index(i, wide.shape))
        off = float(difference.flat[i])
        soft = soft_tolerance(expected.equation(index), float(expected.values[index]), arithmetic, enough=off)
        if off > soft:
            tolerances[int(i)] = soft
    if not tolerances:
        return None
    tolerance = np.full(wide.shape, np.inf)
    tolerance.flat[list(tolerances)] = list(tolerances.values())
    flat = np.array(list(tolerances))
    atol, rtol = _enough(wide, expected.values, flat)
    sites = _sites(config, name, wide, replace(expected, tolerance=tolerance), flat)
    return Mismatch(name, MismatchKind.SUSPICIOUS, count=flat.size, total=wide.size, atol=atol, rtol=rtol, sites=sites)


def _enough(actual: NDArray[np.float64], expected: NDArray[np.float64], flat: NDArray[np.intp]) -> tuple[float, float]:
    """Return the smallest atol, and the smallest rtol, that would have let the given elements pass."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        off = np.abs(actual.flat[flat] - expected.flat[flat])
        relative = off / np.abs(expected.flat[flat])
    return float(off.max()), float(relative.max())


def _sites(
    config: RNNConfig, name: str, actual: NDArray[np.float64], expected: ExpectedArray, flat: NDArray[np.intp]
) -> tuple[Site, ...]:
    values, tolerance = expected.values, expected.tolerance
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        excess = np.abs(actual - values).flat[flat] / tolerance.flat[flat]
    worst = flat[int(np.argmax(np.nan_to_num(excess, nan=np.inf, posinf=np.inf)))]
    chosen = [worst, *[i for i in np.sort(flat)[:SITES] if i != worst]][:SITES]
    return tuple(_site(config, name, actual, expected, int(i)) for i in chosen)


def _site(config: RNNConfig, name: str, actual: NDArray[np.float64], expected: ExpectedArray, flat: int) -> Site:
    index = tuple(int(i) for i in np.unravel_index(flat, actual.shape))
    equation = None if expected.equation is None else expected.equation(index)
    at = actual[index].item(), expected.values[index].item(), float(expected.tolerance[index])
    return Site(config.locate(name, index), *at, equation=equation)


def _spec(config: RNNConfig, name: str) -> str:
    spec = config.returned[name]
    return f"({', '.join(spec.axes)}) = {spec.shape}"
