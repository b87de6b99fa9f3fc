"""The assumptions about a subject's floating point: its formats, its backend, and what its user accepts.

Every tolerance rests on these assumptions, and a verdict is proved only under them. A subject declares what is known of
its backend, with the source (``space.declared_arithmetic``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from functools import cached_property
from typing import Final, NamedTuple

from harness.space.declared_arithmetic import LEAST_ASSUMED, DeclaredArithmetic
from harness.space.errors import UsageError


class Format(NamedTuple):
    """A floating-point format: its unit roundoff, the most that one underflow may lose, and its largest number."""

    u: float
    underflow: float
    largest: float


FORMATS: Final = {
    "float64": Format(2.0**-53, 2.0**-1022, (2 - 2.0**-52) * 2.0**1023),
    "float32": Format(2.0**-24, 2.0**-126, (2 - 2.0**-23) * 2.0**127),
    "bfloat16": Format(2.0**-8, 2.0**-126, (2 - 2.0**-7) * 2.0**127),
    "float16": Format(2.0**-11, 2.0**-24, (2 - 2.0**-10) * 2.0**15),
}
"""The format of each dtype. Underflow may flush a result to zero, which loses up to the smallest normal number. float16
is different: the conversions of x86 and Arm keep its subnormal numbers in every flushing mode, so that underflow loses
at most one of the smallest of them."""

U32: Final = FORMATS["float32"].u
U64: Final = FORMATS["float64"].u


class AcceptedErrors(NamedTuple):
    """A tolerance that is looser than the dtype's own. Only a user can choose it, except for ``measured``."""

    # The relative error of every operand of a product, as where matrix units round what they read.
    operand_u: float = 0.0
    operand_underflow: float = 0.0
    rtol: float = 0.0
    atol: float = 0.0
    # The relative errors of functions, in units of u, where they are more than what the backend is known for, and the
    # absolute errors that are accepted beside them.
    tanh: float = 0.0
    tanh_atol: float = 0.0
    sigmoid: float = 0.0
    sigmoid_atol: float = 0.0
    measured: tuple[tuple[str, str, float, float], ...] = ()
    """The errors of functions that were measured of a subject (``activation_accuracy``): each is a dtype, the function,
    the relative error in units of u, and the absolute error."""

    @property
    def derived(self) -> bool:
        """True if nothing beyond the dtype's own roundings is accepted of sums and of results.

        An accepted error of a function does not count. It takes the place of the assumed one in every tolerance that
        the function has a part in. With that alone, probes, exact relations and the soft model say as much as ever.
        """
        return self._replace(measured=(), **dict.fromkeys(OF_FUNCTIONS, 0.0)) == STRICT

    def in_dtype(self, dtype: str) -> AcceptedErrors:
        """Return the tolerance for one dtype.

        Matrix units round the operands of float32 products, and of no others. The errors of functions are the larger of
        those that the user accepts and those that were measured in the dtype.
        """
        errors = {name: getattr(self, name) for name in OF_FUNCTIONS}
        for of_dtype, function, *off in self.measured:
            if of_dtype == dtype:
                for name, error in zip((function, f"{function}_atol"), off, strict=True):
                    errors[name] = max(errors[name], error)
        alone = self._replace(measured=(), **errors)
        if self.operand_u and dtype != "float32":
            return alone._replace(operand_u=0.0, operand_underflow=0.0)
        return alone

    def beside(self, tolerance: AcceptedErrors) -> AcceptedErrors:
        """Return the tolerance that accepts whatever either accepts; both are of the same dtype (``in_dtype``)."""
        names = ("operand_u", "operand_underflow", "rtol", "atol", *OF_FUNCTIONS)
        return self._replace(**{name: max(getattr(self, name), getattr(tolerance, name)) for name in names})

    @property
    def product_error(self) -> float:
        """The relative error of a product of two rounded operands."""
        return self.operand_u * (2 + self.operand_u)


FUNCTIONS: Final = ("tanh", "sigmoid")
OF_FUNCTIONS: Final = (*FUNCTIONS, *(f"{name}_atol" for name in FUNCTIONS))  # the fields for their errors

STRICT: Final = AcceptedErrors()

TOLERANCES: Final = {
    "derived": STRICT,
    "tf32": AcceptedErrors(2.0**-10, 2.0**-126),
    "bf16": AcceptedErrors(2.0**-7, 2.0**-126),
}
"""The tolerances that have a name, for float32. Operands keep 11 bits in TF32, and 8 in bfloat16. They may be cut off
instead of rounded to nearest, which loses up to twice the unit roundoff. Sums stay in float32."""


@dataclass(frozen=True)
class Arithmetic:
    """Everything that a tolerance must know about one subject in one dtype."""

    dtype: str
    backend: DeclaredArithmetic = LEAST_ASSUMED
    accepted: AcceptedErrors = STRICT

    @cached_property
    def format(self) -> Format:
        """The dtype's format."""
        return FORMATS[self.dtype]

    @cached_property
    def wide(self) -> bool:
        """True if sums are computed in a wider format than the dtype."""
        return self.backend.wide_sums and self.dtype in {"bfloat16", "float16"}

    @cached_property
    def modelled(self) -> bool:
        """True if the soft model and the judge apply: to the dtype's own roundings alone."""
        return not self.wide and self.accepted.derived and self.backend.grids is None

    @cached_property
    def sum_u(self) -> float:
        """The unit roundoff inside sums."""
        return U32 if self.wide else self.format.u

    @cached_property
    def tanh_error(self) -> float:
        """The relative error of a stored tanh: its own error and, in wide arithmetic, the error of storing it."""
        own = max(self.backend.tanh_error, self.accepted.tanh) * self.sum_u
        return own + self.format.u * (1 + own) if self.wide else own

    @cached_property
    def tanh_absolute(self) -> float:
        """The absolute error of a stored tanh beside its relative one, as far as the user accepts it."""
        return self.accepted.tanh_atol * (1 + self.format.u)

    @cached_property
    def sigmoid_error(self) -> float:
        """The relative error of a stored sigmoid."""
        own = max(self.backend.sigmoid_error, self.accepted.sigmoid) * self.sum_u
        return own + self.format.u * (1 + own) if self.wide else own

    @cached_property
    def sigmoid_absolute(self) -> float:
        """The absolute error of a stored sigmoid beside its relative one."""
        return max(self.backend.sigmoid_absolute * self.sum_u, self.accepted.sigmoid_atol) * (1 + self.format.u)

    @cached_property
    def underflow(self) -> float:
        """The most that one operation or operand loses by underflow."""
        return max(self.format.underflow, self.accepted.operand_underflow)


ULP: Final = "ulp"
"""The unit of ``tanh=8ulp``: units in the last place of a result. Each is between u and 2 u of the result, and counts
as 2 u."""


def accepted(text: str) -> AcceptedErrors:
    """Return the tolerance that a user asks for.

    It is a name in ``TOLERANCES``, ``rtol=1e-4``, ``atol=1e-6``, ``tanh=8ulp``, or ``tanh_atol=2e-7``, the absolute
    error of tanh beside its relative one; likewise ``sigmoid`` and ``sigmoid_atol``. Several may stand together, with
    commas between them. Raises ``UsageError`` for an unknown name, for a number that is negative, NaN or infinite, and
    for what is not text.
    """
    if not isinstance(text, str):
        raise UsageError(f"tolerance={text!r}: expected text, such as 'derived' or 'rtol=1e-4'")
    named, *others = text.split(",")
    start = TOLERANCES.get(named.strip())
    numbers: dict[str, float] = {}
    for part in text.split(",") if start is None else others:
        name, _, value = (piece.strip() for piece in part.partition("="))
        unit = ULP if name in FUNCTIONS else ""
        try:
            numbers[name] = float(value.removesuffix(unit)) if value.endswith(unit) else math.nan
        except ValueError:
            numbers[name] = math.nan
        if name not in {"rtol", "atol", *OF_FUNCTIONS} or not (0 <= numbers[name] < math.inf):
            raise UsageError(
                f"tolerance={text!r}: expected {', '.join(TOLERANCES)}, or rtol=R,atol=A with numbers >= 0, or "
                "tanh=Nulp for the error of tanh, and tanh_atol=A for its error near 0, and so sigmoid and sigmoid_atol"
            )
    for name in FUNCTIONS:
        if name in numbers:
            numbers[name] *= 2
    return (start or STRICT)._replace(**numbers)  # type: ignore[arg-type]  # only fields that are numbers are given


def with_measured(tolerance: str, within: AcceptedErrors | None, dtype: str) -> str:
    """Return the tolerance that a user asked for, with the measured errors of the subject's functions in a dtype."""
    functions = [] if within is None else [function for of_dtype, function, *_ in within.measured if of_dtype == dtype]
    if within is None or not functions:
        return tolerance
    own = within.in_dtype(dtype)
    parts = [part for part in tolerance.split(",") if not part.strip().startswith(("derived", *functions))]
    named = dict.fromkeys(functions)
    return ",".join([*parts, *(function_tolerance(f, getattr(own, f), getattr(own, f"{f}_atol")) for f in named)])


def function_tolerance(function: str, relative: float, absolute: float) -> str:
    """Return the tolerance that accepts these errors of a function, as a user writes it, with both numbers rounded up.

    ``relative`` is in units of u, two of which are one ulp.
    """
    ulps, atol = (
        Context(prec=3, rounding=ROUND_CEILING).create_decimal_from_float(value) for value in (relative / 2, absolute)
    )
    return f"{function}={ulps:f}{ULP}" + (f",{function}_atol={atol:g}" if absolute else "")
