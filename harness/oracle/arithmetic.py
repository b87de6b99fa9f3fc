"""arithmetic: what is assumed of a subject's floating point - its formats, its backend, and what its user accepts.

Every tolerance rests on these assumptions, and a verdict is proved only under them. Each entry says where it is from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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

    @property
    def derived(self) -> bool:
        """Whether nothing beyond the dtype's own roundings is accepted."""
        return self == STRICT

    def in_dtype(self, dtype: str) -> Accepted:
        """What is accepted in a dtype: matrix units round the operands of float32 products, and of no others."""
        return STRICT if self.operand_u and dtype != "float32" else self

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
        own = (self.backend.complex_tanh_error if self.is_complex else self.backend.tanh_error) * self.sum_u
        return own + self.format.u * (1 + own) if self.wide else own

    @property
    def underflow(self) -> float:
        """The most that one operation or operand loses by underflow."""
        return max(self.format.underflow, self.accepted.operand_underflow)


def accepted(text: str) -> Accepted:
    """The contract that a user asks for: a name of ``CONTRACTS``, or ``rtol=1e-4,atol=1e-6`` (one may be left out).

    Raises ``UsageError`` for an unknown name, and for a number that is negative, NaN or infinite.
    """
    if text in CONTRACTS:
        return CONTRACTS[text]
    given: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            given[name] = float(value)
        except ValueError:
            given[name] = math.nan
        if name not in {"rtol", "atol"} or not (0 <= given[name] < math.inf):
            raise UsageError(
                f"tolerance={text!r}: expected {', '.join(CONTRACTS)}, or rtol=R,atol=A with numbers of at least 0"
            )
    return Accepted(**given)
