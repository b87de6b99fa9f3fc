"""known: deviations from nn.RNN's documentation that torch and its libraries are known to have, in values.

Each is a reference that deviates likewise. A difference is known if the subject agrees with such a reference, within
its tolerance, or gives NaN where it does and is right everywhere else. A search tells how often that was, and when one
could have shown and did not. No case is left out for them. Deviations in what is refused are in ``deviations``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.resources import files
from typing import Final, NamedTuple, Protocol

import numpy as np

from harness.checks.agreement import REFERENCE, Observation, assess
from harness.checks.deviations import Whose
from harness.checks.result import Result, Verdict
from harness.oracle.compare import same_numbers
from harness.oracle.reference import Floats, Reference, StepWeights
from harness.space.case import Case
from harness.space.config import RNNConfig


class Excuse(Protocol):
    """Why a failure is no news: what it comes of is known."""

    @property
    def name(self) -> str:
        """By which it is counted."""
        ...

    def excuses(self, observation: Observation, result: Result) -> bool:
        """Whether that is what a result, which came of the observation, comes of."""
        ...


class ValueDeviation(NamedTuple):
    """A deviation, and the reference that has it: NaN where a number is right."""

    name: str
    whose: Whose
    reason: str
    reference: Reference
    concerns: Callable[[RNNConfig], bool]
    """Whether it can show on a config, in its plain form."""
    issue: str = ""
    """The file in ``checks/issues`` that reports it to who can mend it."""

    def excuses(self, observation: Observation, _result: Result) -> bool:
        """Whether the subject deviates as the reference does everywhere, or in some places, where it gives NaN.

        A kernel that is taken for some sizes deviates in some products of a case. What a NaN does to gradients, the
        whole of the deviation tells, and a part of it does not.
        """
        if observation.unfit is not None or not self.concerns(observation.case.config):
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            ways = ((observation, self.reference), (replace(observation, or_nan=self.reference), REFERENCE))
            return any(assess(*way).verdict is Verdict.AGREES for way in ways)

    def spares(self, case: Case) -> bool:
        """Whether it would show on a case, in its plain form, on numbers that are not finite."""
        if not self.concerns(case.config) or all(np.isfinite(array).all() for array in case.arrays.values()):
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            deviating, right = (reference.run(case.forward()) for reference in (self.reference, REFERENCE))
        return any(not same_numbers(array, right[name]) for name, array in deviating.items())

    def report(self) -> str:
        """The issue that reports it, in Markdown; empty where there is none."""
        return files(__package__).joinpath("issues", self.issue).read_text("utf-8") if self.issue else ""


def times_zero(rows: Floats, block: int) -> Floats | float:
    """What a block of terms gives that is filled up with its last operand times zero: 0, or NaN if that is infinite.

    ``rows`` are operands (.., K); where K is a multiple of ``block``, nothing is filled up.
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
        "Dropout is documented to zero elements, but multiplies by a mask: of an infinity or a NaN, it makes a NaN",
        _DropoutMultiplies(),
        lambda config: config.drops,
    ),
    ValueDeviation(
        "bfloat16 pairs are filled up",
        Whose.ONEDNN,
        "where a bfloat16 product has an odd number of terms, oneDNN's kernel gemm:jit:bf16 multiplies the last "
        "feature of x or h by a zero of padding, too: of an infinity there, it makes a NaN",
        _FillsUpPairs(),
        lambda config: config.dtype == "bfloat16",
        issue="onednn_bf16_odd_k.md",
    ),
)

TOGETHER: Final = ValueDeviation(
    "dropout multiplies what filled-up pairs give",
    Whose.TORCH,
    "Both of these at once: dropout multiplies a NaN by zero that oneDNN's kernel made",
    _Both(),
    lambda config: config.drops and config.dtype == "bfloat16",
)


class _SkipsZeros(Reference):
    """A weight matrix of one number, zero, makes zero of whatever it is multiplied with."""

    def __init__(self, *, of_x: bool, of_h: bool) -> None:
        self._skipped = of_x, of_h

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        products = []
        for rows, matrix, skipped in ((x, w.ih, self._skipped[0]), (h, w.hh, self._skipped[1])):
            nothing = skipped and matrix.shape == (1, 1) and not matrix.any()
            products.append(np.zeros((*rows.shape[:-1], 1), rows.dtype) if nothing else rows @ matrix.T)
        return np.asarray(products[0] + w.b_ih + products[1] + w.b_hh)


class ShortcutDeviation(NamedTuple):
    """A deviation of the library that a function computes with: the subject agrees with a reference that has it."""

    name: str
    whose: Whose
    reason: str
    references: tuple[Reference, ...]
    concerns: Callable[[RNNConfig], bool]

    def excuses(self, observation: Observation, _result: Result) -> bool:
        """Whether the subject agrees with one of the references everywhere."""
        if observation.unfit is not None or not self.concerns(observation.case.config):
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            return any(assess(observation, one).verdict is Verdict.AGREES for one in self.references)


OF_NUMPY: Final = (
    ShortcutDeviation(
        "a product with zero is skipped",
        Whose.NUMPY,
        "np.dot of (m, 1) by (1, 1) is 0 where the (1, 1) is 0, though the other operand be infinite or NaN: its BLAS "
        "scales by that one number, and has a shortcut for 0",
        tuple(_SkipsZeros(of_x=of_x, of_h=of_h) for of_x, of_h in ((True, True), (True, False), (False, True))),
        lambda config: config.hidden_size == 1,
    ),
)
"""What functions are not held to, which compute with NumPy as a rule."""


def excused(observation: Observation, result: Result, excuses: Iterable[Excuse] = (*KNOWN, TOGETHER)) -> str | None:
    """The name of the first that excuses a result, if one does."""
    return next((excuse.name for excuse in excuses if excuse.excuses(observation, result)), None)


def spared(case: Case) -> tuple[str, ...]:
    """The names of the known deviations that would show on a case, in its plain form."""
    return tuple(deviation.name for deviation in KNOWN if deviation.spares(case))
