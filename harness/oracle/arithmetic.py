"""arithmetic: what is assumed of a subject's floating point - its formats, its backend, and what its user accepts.

Every tolerance rests on these assumptions, and a verdict is proved only under them. Each entry says where it is from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from typing import Final, NamedTuple

from harness.space.config import COMPLEX
from harness.space.errors import UsageError


class Format(NamedTuple):
    """A floating-point format: unit roundoff, the most that one underflow may lose, the largest number."""

    u: float
    underflow: float
    largest: float


FORMATS: Final = {
    "float64": Format(2.0**-53, 2.0**-1022, (2 - 2.0**-52) * 2.0**1023),
    "float32": Format(2.0**-24, 2.0**-126, (2 - 2.0**-23) * 2.0**127),
    "bfloat16": Format(2.0**-8, 2.0**-126, (2 - 2.0**-7) * 2.0**127),
    "float16": Format(2.0**-11, 2.0**-24, (2 - 2.0**-10) * 2.0**15),
    "complex64": Format(2.0**-24, 5 * 2.0**-126, (2 - 2.0**-23) * 2.0**127),
    "complex128": Format(2.0**-53, 5 * 2.0**-1022, (2 - 2.0**-52) * 2.0**1023),
}
"""By dtype. Underflow may flush to zero, which loses up to the smallest normal number; not so in float16, whose
subnormal numbers x86's and Arm's conversions keep whatever the flushing mode, and where it loses one of them.

Of complex numbers, u and the largest one are those of the parts, and ``underflow`` is what one operation may lose, in
modulus: a product underflows three times in each part, which is 3 sqrt 2 of the part's."""

U32: Final = FORMATS["float32"].u
U64: Final = FORMATS["float64"].u


class Backend(NamedTuple):
    """How a family of implementations computes."""

    tanh_error: float
    """kappa: the relative error of tanh, in units of u (of float32's, where sums are wide)."""
    wide_sums: bool
    """Whether 16-bit dtypes are summed in float32 and rounded only when a result is stored."""
    stores_products: bool
    """Whether such a result is also stored between a matrix product and the addition of its bias."""
    source: str
    """Where these figures come from."""
    slopes_from_states: bool = True
    """Whether the slope of tanh is taken from the state, 1 - h**2; else it may be another formula of the preactivation,
    such as 1 / cosh(s)**2. torch's derivative of tanh reads its result (``derivatives.yaml``)."""
    complex_tanh_error: float = 8.0
    """The same of a complex tanh, in modulus. torch 2.13 and NumPy 2.4 on x86, both glibc's ctanh, are within 5.3 u on
    280,000 arguments of all kinds, near poles and zeros, too (``benchmarks/tanh_error.py``)."""


UNKNOWN: Final = "unknown"

BACKENDS: Final = {
    UNKNOWN: Backend(
        2.0,
        wide_sums=False,
        stores_products=True,
        source="not measured: every operation may round to the dtype, and tanh is as accurate as NumPy's and torch's",
        slopes_from_states=False,
    ),
    "torch cpu": Backend(
        2.0,
        wide_sums=True,
        stores_products=True,
        source="measured, torch 2.13 on x86: tanh is within 1.01 u over every float32 from 2**-20 to 9.5, and within "
        "1.26 u on three million float64 (benchmarks/tanh_error.py). In 16 bits a bias is fused with its product only "
        "where the input is contiguous, which batch_first's is not",
    ),
    "torch cuda": Backend(
        4.0,
        wide_sums=True,
        stores_products=True,
        source="not measured: CUDA's guide states 2 ulp, 4 u, for tanhf; TF32 is no part of it and must be off",
        complex_tanh_error=16.0,
    ),
    "torch mps": Backend(
        4.0, wide_sums=True, stores_products=True, source="not measured: taken to be like CUDA", complex_tanh_error=16.0
    ),
    "torch xpu": Backend(
        4.0, wide_sums=True, stores_products=True, source="not measured: taken to be like CUDA", complex_tanh_error=16.0
    ),
}
"""By the name under which a subject states its backend. NumPy 2.4's float32 tanh is within 1.83 u (same benchmark)."""


class Accepted(NamedTuple):
    """A looser contract than the dtype's own, which only a user can choose."""

    operand_u: float = 0.0
    """Relative error of every operand of a product, as where matrix units round what they read."""
    operand_underflow: float = 0.0
    rtol: float = 0.0
    atol: float = 0.0
    tanh: float = 0.0
    """Relative error of tanh, in units of u, where that is more than what the backend is known for."""
    tanh_atol: float = 0.0
    """Absolute error of tanh, beyond the relative one."""
    measured: tuple[tuple[str, float, float], ...] = ()
    """The two of tanh in one dtype each, as they were measured of a subject (``checks.accuracy``)."""

    @property
    def derived(self) -> bool:
        """Whether nothing beyond the dtype's own roundings is accepted of sums and of results.

        What is accepted of tanh stands in every allowance that tanh has a part in, in the place of what is assumed:
        with that alone, probes, exact laws and the soft model say as much as ever.
        """
        return self._replace(tanh=0.0, tanh_atol=0.0, measured=()) == STRICT

    def in_dtype(self, dtype: str) -> Accepted:
        """What is accepted in a dtype: matrix units round the operands of float32 products, and of no others."""
        own = [(relative, absolute) for name, relative, absolute in self.measured if name == dtype]
        tanh, atol = (max(both) for both in zip((self.tanh, self.tanh_atol), *own, strict=True))
        alone = self._replace(tanh=tanh, tanh_atol=atol, measured=())
        if self.operand_u and dtype != "float32":
            return alone._replace(operand_u=0.0, operand_underflow=0.0)
        return alone

    def beside(self, other: Accepted) -> Accepted:
        """What either accepts, in the dtype that both are of (``in_dtype``)."""
        names = ("operand_u", "operand_underflow", "rtol", "atol", "tanh", "tanh_atol")
        return self._replace(**{name: max(getattr(self, name), getattr(other, name)) for name in names})

    @property
    def product_error(self) -> float:
        """The relative error that rounded operands make in a product of two."""
        return self.operand_u * (2 + self.operand_u)


STRICT: Final = Accepted()

CONTRACTS: Final = {
    "derived": STRICT,
    "tf32": Accepted(2.0**-10, 2.0**-126),
    "bf16": Accepted(2.0**-7, 2.0**-126),
}
"""Named contracts, of float32. Operands keep 11 bits in TF32, 8 in bfloat16; they may be cut off rather than rounded to
nearest, which loses up to twice the unit roundoff. Sums stay in float32."""


@dataclass(frozen=True)
class Arithmetic:
    """All that a tolerance must know of one subject in one dtype."""

    dtype: str
    backend: Backend = BACKENDS[UNKNOWN]
    accepted: Accepted = STRICT

    @property
    def format(self) -> Format:
        """The dtype's format."""
        return FORMATS[self.dtype]

    @property
    def wide(self) -> bool:
        """Whether sums are wider than the dtype."""
        return self.backend.wide_sums and self.dtype in {"bfloat16", "float16"}

    @property
    def is_complex(self) -> bool:
        """Whether the dtype is complex."""
        return self.dtype in COMPLEX

    @property
    def modelled(self) -> bool:
        """Whether the soft model and the judge speak of it: of the dtype's own roundings alone, of real numbers."""
        return not self.wide and self.accepted.derived and not self.is_complex

    def roundings(self, m: int) -> int:
        """How many roundings a sum of m products is off by at most, relative to its terms' absolute values."""
        return 3 * m if self.is_complex else m

    @property
    def sum_u(self) -> float:
        """Unit roundoff inside sums."""
        return U32 if self.wide else self.format.u

    @property
    def tanh_error(self) -> float:
        """Relative error of a stored tanh: its own, and in wide arithmetic that of being stored."""
        kappa = self.backend.complex_tanh_error if self.is_complex else self.backend.tanh_error
        own = max(kappa, self.accepted.tanh) * self.sum_u
        return own + self.format.u * (1 + own) if self.wide else own

    @property
    def tanh_absolute(self) -> float:
        """What a stored tanh is off beside its relative error, as far as the user accepts that."""
        return self.accepted.tanh_atol * (1 + self.format.u)

    @property
    def underflow(self) -> float:
        """The most that one operation or operand loses by underflow."""
        return max(self.format.underflow, self.accepted.operand_underflow)


ULP: Final = "ulp"
"""Units in the last place of a result, each between u and 2 u of it, and taken for 2 u."""


def accepted(text: str) -> Accepted:
    """The contract that a user asks for: a name of ``CONTRACTS``, ``rtol=1e-4``, ``atol=1e-6``, ``tanh=8ulp``.

    ``tanh_atol=2e-7`` is what tanh may be off beside that. Several may stand together, with commas between them.
    Raises ``UsageError`` for an unknown name, and for a number that is negative, NaN or infinite.
    """
    named, *others = text.split(",")
    start = CONTRACTS.get(named.strip())
    given: dict[str, float] = {}
    for part in text.split(",") if start is None else others:
        name, _, value = (piece.strip() for piece in part.partition("="))
        unit = ULP if name == "tanh" else ""
        try:
            given[name] = float(value.removesuffix(unit)) if value.endswith(unit) else math.nan
        except ValueError:
            given[name] = math.nan
        if name not in {"rtol", "atol", "tanh", "tanh_atol"} or not (0 <= given[name] < math.inf):
            raise UsageError(
                f"tolerance={text!r}: expected {', '.join(CONTRACTS)}, or rtol=R,atol=A with numbers of at least 0, or "
                "tanh=Nulp for the error of tanh, and tanh_atol=A for its error near 0"
            )
    if "tanh" in given:
        given["tanh"] *= 2
    return (start or STRICT)._replace(**given)  # type: ignore[arg-type]  # of the fields that are numbers


def with_measured(tolerance: str, contract: Accepted | None, dtype: str) -> str:
    """What a user asked for, and beside it what was measured of a subject's tanh in a dtype."""
    if contract is None or not any(name == dtype for name, *_ in contract.measured):
        return tolerance
    own = contract.in_dtype(dtype)
    kept = [part for part in tolerance.split(",") if not part.strip().startswith(("derived", "tanh"))]
    return ",".join([*kept, tanh_tolerance(own.tanh, own.tanh_atol)])


def tanh_tolerance(relative: float, absolute: float) -> str:
    """How a user asks for these errors of tanh to be accepted, the relative one in units of u; rounded up."""
    ulps, atol = (
        Context(prec=3, rounding=ROUND_CEILING).create_decimal_from_float(value) for value in (relative / 2, absolute)
    )
    return f"tanh={ulps:f}{ULP}" + (f",tanh_atol={atol:g}" if absolute else "")
