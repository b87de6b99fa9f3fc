"""Known deviations of torch and its libraries from nn.RNN's documentation, in values.

Each is a reference that deviates in the same way. A difference is known if the subject agrees with such a reference,
within its tolerance, or gives NaN where that reference does and is right everywhere else. A search reports how often
that happened, and when a deviation could have shown and did not. No case is left out because of them. Calls
that torch does not refuse are in ``malformed``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import Enum
from importlib.resources import files
from typing import Final, NamedTuple, Protocol

from harness.checks.agreement import REFERENCE, Observation, assess
from harness.checks.result import Result, Verdict
from harness.oracle.bound import np
from harness.oracle.cell import StepWeights
from harness.oracle.compare import same_numbers
from harness.oracle.known import Floats
from harness.oracle.reference import Reference
from harness.space.case import Case
from harness.space.config import RNNConfig


class Whose(Enum):
    """The party that would have to change something."""

    TORCH = "torch"
    ONEDNN = "oneDNN"
    NUMPY = "NumPy"


class KnownCause(Protocol):
    """A known cause that excuses a failure."""

    @property
    def name(self) -> str:
        """The name under which it is counted."""
        ...

    def excuses(self, observation: Observation, result: Result) -> bool:
        """Return whether this is the cause of a result, which came from the observation."""
        ...


class ValueDeviation(NamedTuple):
    """A deviation, and the reference that has it, which gives NaN where a number is right."""

    name: str
    whose: Whose
    reason: str
    reference: Reference
    concerns: Callable[[RNNConfig], bool]
    """A test of whether it can show on a config, in its plain form."""
    issue: str = ""
    """The file in ``checks/issues`` that reports it to the people who can fix it."""

    def excuses(self, observation: Observation, _result: Result) -> bool:
        """Return whether the subject deviates as the reference does, everywhere or only in some places that give NaN.

        A kernel that is chosen for some sizes deviates in some products of a case only. For gradients, only the
        reference that deviates everywhere says what a NaN does to them.
        """
        if observation.unfit is not None or not self.concerns(observation.case.config):
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            ways = ((observation, self.reference), (replace(observation, or_nan=self.reference), REFERENCE))
            return any(assess(*way).verdict is Verdict.AGREES for way in ways)

    def spares(self, case: Case) -> bool:
        """Return whether it would show on a case, in its plain form, through numbers that are not finite."""
        if not self.concerns(case.config) or all(np.isfinite(array).all() for array in case.arrays.values()):
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            deviating, right = (reference.run(case.forward()) for reference in (self.reference, REFERENCE))
        return any(not same_numbers(array, right[name]) for name, array in deviating.items())

    def report(self) -> str:
        """Return the issue that reports it, in Markdown, or an empty text if there is none."""
        return files(__package__).joinpath("issues", self.issue).read_text("utf-8") if self.issue else ""


def times_zero(rows: Floats, block: int) -> Floats | float:
    """Return what a block gives that is filled up with its last operand times zero: 0, or NaN if that is infinite.

    ``rows`` are operands (.., K); if K is a multiple of ``block``, nothing is filled up.
    """
    return rows[..., -1:] * 0.0 if rows.shape[-1] % block else 0.0


class _DropoutMultiplies(Reference):
    def dropped(self, array: Floats, factors: Floats) -> Floats:
        return np.asarray(array * factors)


class _FillsUpPairs(Reference):
    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        return super().preactivation(x, h, w) + times_zero(x, 2) + times_zero(h, 2)


class _Both(_DropoutMultiplies, _FillsUpPairs):
    pass


KNOWN: Final = (
    ValueDeviation(
        "dropout multiplies by zero",
        Whose.TORCH,
        "dropout is documented to zero elements, but multiplies by a mask, and so it turns infinities into NaN",
        _DropoutMultiplies(),
        lambda config: config.drops,
    ),
    ValueDeviation(
        "bfloat16 pairs are filled up",
        Whose.ONEDNN,
        "where a bfloat16 product has an odd number of terms, oneDNN's kernel gemm:jit:bf16 multiplies the last "
        "feature of x or h by a zero of padding, too, which turns an infinity there into NaN",
        _FillsUpPairs(),
        lambda config: config.dtype == "bfloat16",
        issue="onednn_bf16_odd_k.md",
    ),
)

TOGETHER: Final = ValueDeviation(
    "dropout multiplies what filled-up pairs give",
    Whose.TORCH,
    "both of these at once: oneDNN's kernel makes a NaN, and dropout multiplies it by zero",
    _Both(),
    lambda config: config.drops and config.dtype == "bfloat16",
)


class _SkipsZeros(Reference):
    """A reference in which a weight matrix of one number, zero, makes every product with it zero."""

    def __init__(self, *, of_x: bool, of_h: bool) -> None:
        self._skipped = of_x, of_h

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        products = []
        for rows, matrix, skipped in ((x, w.ih, self._skipped[0]), (h, w.hh, self._skipped[1])):
            nothing = skipped and matrix.shape == (1, 1) and not matrix.any()
            products.append(np.zeros((*rows.shape[:-1], 1), rows.dtype) if nothing else rows @ matrix.T)
        return np.asarray(products[0] + w.b_ih + products[1] + w.b_hh)


class ShortcutDeviation(NamedTuple):
    """A deviation of a function's library: the subject agrees with a reference that has the deviation."""

    name: str
    whose: Whose
    reason: str
    references: tuple[Reference, ...]
    concerns: Callable[[RNNConfig], bool]

    def excuses(self, observation: Observation, _result: Result) -> bool:
        """Return whether the subject agrees with one of the references everywhere."""
        if observation.unfit is not None or not self.concerns(observation.case.config):
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            return any(assess(observation, one).verdict is Verdict.AGREES for one in self.references)


OF_NUMPY: Final = (
    ShortcutDeviation(
        "a product with zero is skipped",
        Whose.NUMPY,
        "np.dot of (m, 1) by (1, 1) is 0 where the (1, 1) is 0, even if the other operand is infinite or NaN: its BLAS "
        "scales by that one number, and has a shortcut for 0",
        tuple(_SkipsZeros(of_x=of_x, of_h=of_h) for of_x, of_h in ((True, True), (True, False), (False, True))),
        lambda config: config.hidden_size == 1,
    ),
)
"""Deviations that functions are not held to, because they usually compute with NumPy."""


def excused(observation: Observation, result: Result, excuses: Iterable[KnownCause] = (*KNOWN, TOGETHER)) -> str | None:
    """Return the name of the first excuse for a result, or ``None``."""
    return next((excuse.name for excuse in excuses if excuse.excuses(observation, result)), None)


def spared(case: Case) -> tuple[str, ...]:
    """Return the names of the known deviations that would show on a case, in its plain form."""
    return tuple(deviation.name for deviation in KNOWN if deviation.spares(case))
