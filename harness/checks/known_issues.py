"""The known issues of torch, its libraries and other makers' layers: in numbers, in calls, and as they are reported.

Nothing is left out of a search because of an issue in numbers. A disagreement passes if the subject agrees with a
reference that has the issue, or gives NaN where that reference does and is right everywhere else. A search counts these
cases, and those in which an issue could have shown and did not. A reported failure covers nothing: it is the layer's
own, and a finding names its report. Calls that torch does not refuse are rules of ``malformed``.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from typing import Any, Final, Protocol, runtime_checkable

from harness.checks.agreement import Observation, assess
from harness.checks.malformed import MALFORMED_RULES
from harness.checks.result import Result, Verdict
from harness.oracle.balls import BallArithmetic
from harness.oracle.bounded_array import BoundedArray, Floats
from harness.oracle.compare import same_numbers
from harness.oracle.gated import GATED_CELLS, GatedCell, Values
from harness.oracle.pinned_numpy import np
from harness.oracle.reference import Reference
from harness.oracle.setting import reference_of
from harness.oracle.unroll import StepWeights, Unroll
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.scope import factors_of
from harness.subjects.torch_variants import TORCH_LAYERS


class KnownCause(Protocol):
    """A known cause of failures, which then pass."""

    @property
    def name(self) -> str:
        """The name under which it is counted."""
        ...

    def covers(self, observation: Observation, result: Result) -> bool:
        """Return whether this is the cause of a result, which came from the observation."""
        ...


@runtime_checkable
class PartialCause(KnownCause, Protocol):
    """A known cause that may explain some of what is wrong."""

    def left(self, observation: Observation, result: Result) -> Result:
        """Return a result without the mismatches of this cause; the result itself if this does not explain any."""
        ...


@dataclass(frozen=True)
class KnownIssue:
    """An issue, and the party that would have to change something."""

    name: str
    whose: str
    reason: str
    link: str = ""  # the address of its report, or the name of a file in ``checks/issues`` that can be sent

    def report(self) -> str:
        """Return the report that can be sent, in Markdown, or an empty text if there is none."""
        there = self.link.endswith(".md")
        return files(__package__).joinpath("issues", self.link).read_text("utf-8") if there else ""


@dataclass(frozen=True, kw_only=True)
class ValueIssue(KnownIssue):
    """An issue in numbers."""

    references: Callable[[RNNConfig], tuple[Unroll, ...]]  # those that have it, if it can show on a plain config
    gives_nan: bool = True  # a kernel that is chosen for some sizes may have it in some places only, and NaN there

    def covers(self, observation: Observation, _result: Result) -> bool:
        """Return whether the subject has the issue everywhere, or in some places only.

        For gradients, only the reference that has it everywhere says what a NaN does to them.
        """
        if observation.unfit is not None:
            return False
        every, right = self.references(observation.case.config), reference_of(observation.case.config)
        ways = [(observation, reference) for reference in every]
        ways += [(replace(observation, or_nan=reference), right) for reference in every if self.gives_nan]
        with np.errstate(invalid="ignore", over="ignore"):
            return any(assess(*way).verdict is Verdict.AGREES for way in ways)

    def could_show(self, case: Case) -> bool:
        """Return whether it would show on a case, in its plain form, through numbers that are not finite."""
        every = self.references(case.config)
        if not every or all(np.isfinite(array).all() for array in case.arrays.values()):
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            wrong, right = (reference.run(case.forward()) for reference in (every[0], reference_of(case.config)))
        return any(not same_numbers(array, right[name]) for name, array in wrong.items())


@dataclass(frozen=True, kw_only=True)
class ReportedFailure(KnownIssue):
    """A failure of another maker's layer, which its maker knows of."""

    subjects: tuple[str, ...]
    where: Mapping[str, Any]  # the values of factors that a failing case must have
    fails: str  # a pattern for the kind of the failure and its message

    def fits(self, subject: str, config: RNNConfig, result: Result) -> bool:
        """Return whether a failure is such as the report tells of."""
        factors = factors_of(config)
        return (
            subject in self.subjects
            and all(factors[name] == value for name, value in self.where.items())
            and re.search(self.fails, f"{result.kind}\n{result.message}") is not None
        )


def times_zero(rows: Floats, block: int) -> Floats | float:
    """Return what a block gives that is filled up with its last operand times zero: 0, or NaN if that is infinite.

    ``rows`` are operands (.., K); if K is a multiple of ``block``, nothing is filled up.
    """
    return rows[..., -1:] * 0.0 if rows.shape[-1] % block else 0.0


def missing_terms(K: int) -> int:
    """Return how many terms are missing of whole pairs, up to 32 terms, or else of blocks of 32."""
    return -K % (2 if K <= 32 else 32)


def next_times_zero(rows: Floats, block: int = 0, *, packed: bool = False) -> Floats | float:
    """Return what rows (.., N, K) give that are filled up with the start of the row behind, times zero: 0, or NaN.

    They are filled up to blocks of terms; without a size, to those of the kernels that use AMX. Which row is behind in
    a packed batch depends on how it is sorted; any may be.
    """
    if not (missing := -rows.shape[-1] % block if block else missing_terms(rows.shape[-1])):
        return 0.0
    starts = (rows.reshape(-1, rows.shape[-1])[:, :missing] * 0.0).sum(-1)
    behind = np.zeros((*rows.shape[:-1], 1))
    if packed:
        return np.full_like(behind, starts.sum())
    behind.reshape(-1)[:-1] = starts[1:]
    return behind


def either_behind(output: Floats) -> Floats | float:
    """Return what a readout of (T, N, ..) gives that is filled up with the next sequence or step, times zero."""
    turned = next_times_zero(output.swapaxes(0, 1))  # with batch_first, the next step is behind
    return next_times_zero(output) + (turned if isinstance(turned, float) else turned.swapaxes(0, 1))


class _FillsUpPairs(Reference):
    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        return super().preactivation(x, h, w) + times_zero(x, 2) + times_zero(h, 2)


class _ReadsOn(Reference):
    packed = False

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        read = (next_times_zero(rows, packed=self.packed) for rows in (x, h))
        return super().preactivation(x, h, w) + sum(read)

    def readout(self, output: Floats, weight: Floats, bias: Floats) -> Floats:
        return super().readout(output, weight, bias) + either_behind(output)

    def returned_gradient(self, config: RNNConfig, name: str, gradient: Floats) -> Floats:
        """Return NaN in every row of x and hx before one that is not finite: each step back may read on by one."""
        if name not in ("x.grad", "hx.grad") or not missing_terms(len(config.form.gates) * config.hidden_size):
            return gradient
        turned = name == "x.grad" and config.batch_first
        rows = gradient.swapaxes(0, 1) if turned else gradient
        lost = ~np.isfinite(rows).all(-1)
        before = np.flip(np.maximum.accumulate(np.flip(lost.ravel()))).reshape(lost.shape)
        made = np.where(before[..., None], np.nan, rows)
        return np.asarray(made.swapaxes(0, 1) if turned else made)


class _PadsAll(_FillsUpPairs, _ReadsOn):
    pass


class _PadsPacked(_PadsAll):
    packed = True


def _multiplying(reference: Unroll) -> Unroll:
    """Return a reference that also multiplies by dropout's mask."""

    def dropped(_self: Unroll, array: Floats, factors: Floats) -> Floats:
        return np.asarray(array * factors)

    own: Any = type(reference)
    made: Unroll = type(own.__name__, (own,), {"dropped": dropped})()
    return made


def _padding(cell: str, *pads: Callable[[Floats], Floats | float]) -> Unroll:
    """Return the reference of a cell with gates that pads operands."""
    own: Any = type(GATED_CELLS[cell])

    def padded(operand: BoundedArray) -> BoundedArray:
        return operand._replace(values=operand.values + sum(pad(operand.values) for pad in pads))

    def activations(self: GatedCell, k: BallArithmetic, x: BoundedArray, h: BoundedArray, w: StepWeights) -> Values:
        values: Values = own.activations(self, k, padded(x), padded(h), w)
        return values

    def projected(self: GatedCell, k: BallArithmetic, h: BoundedArray, w: StepWeights) -> BoundedArray:
        state: BoundedArray = own.projected(self, k, h if w.hr is None else padded(h), w)
        return state

    def readout(self: GatedCell, output: Floats, weight: Floats, bias: Floats) -> Floats:
        behind = either_behind(output) if {*pads} - {_FILLED} else 0.0
        return np.asarray(own.readout(self, output, weight, bias) + behind)

    changes: dict[str, Any] = {"activations": activations, "projected": projected, "readout": readout}
    if {*pads} - {_FILLED}:
        changes["returned_gradient"] = _ReadsOn.returned_gradient
    made: Unroll = type(own.__name__, (own,), changes)()
    return made


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


_FILLED: Final = partial(times_zero, block=2)
_PAIRS: Final = {"RNN": (_FillsUpPairs(),)} | {cell: (_padding(cell, _FILLED),) for cell in GATED_CELLS}
_READS: Final = {"RNN": (_ReadsOn(), _PadsAll(), _PadsPacked())} | {
    cell: (
        _padding(cell, next_times_zero),
        _padding(cell, _FILLED, next_times_zero),
        _padding(cell, _FILLED, partial(next_times_zero, packed=True)),
    )
    for cell in GATED_CELLS
}
_DROPS: Final = {  # alone, and together with each of the others: one case may show two issues
    cell: tuple(map(_multiplying, (plain, *_PAIRS[cell], *_READS[cell])))
    for cell, plain in {"RNN": Reference(), **GATED_CELLS}.items()
}
_SKIPS: Final = tuple(_SkipsZeros(of_x=of_x, of_h=of_h) for of_x, of_h in ((True, True), (True, False), (False, True)))

READ_ON: Final = "bfloat16 rows are read on"  # what it does to a sequence depends on the one behind

TORCH_ISSUES: Final = (
    ValueIssue(
        "dropout multiplies by zero",
        "torch",
        "dropout is documented to zero elements, but multiplies by a mask, and so it turns infinities into NaN",
        references=lambda config: (
            _DROPS.get(config.cell, ())[: 4 + (config.lengths is not None) if config.dtype == "bfloat16" else 1]
            if config.drops
            else ()
        ),
    ),
    ValueIssue(
        "bfloat16 pairs are filled up",
        "oneDNN",
        "where a bfloat16 product has an odd number of terms, oneDNN's kernel gemm:jit:bf16 multiplies the last "
        "feature of x or h by a zero of padding, too, which turns an infinity there into NaN",
        "onednn_bf16_odd_k.md",
        references=lambda config: _PAIRS.get(config.cell, ()) if config.dtype == "bfloat16" else (),
    ),
    ValueIssue(
        READ_ON,
        "oneDNN",
        "oneDNN's bfloat16 kernels that use AMX fill up a row of x or h with the start of the next one, to pairs or to "
        "32 terms, and multiply that by zeros of padding: an infinity or NaN there gives NaN in the row before",
        "onednn_bf16_next_row.md",
        references=lambda config: (
            _READS.get(config.cell, ())[: 2 + (config.lengths is not None)] * (config.dtype == "bfloat16")
        ),
    ),
)

# Functions are not held to these, because they usually compute with NumPy.
OF_NUMPY: Final = (
    ValueIssue(
        "a product with zero is skipped",
        "NumPy",
        "np.dot of (m, 1) by (1, 1) is 0 where the (1, 1) is 0, even if the other operand is infinite or NaN: its BLAS "
        "scales by that one number, and has a shortcut for 0",
        references=lambda config: _SKIPS if config.hidden_size == 1 and not config.gated else (),
        gives_nan=False,
    ),
)

REPORTED: Final = (
    ReportedFailure(
        "a compiled LSTM on oneDNN",
        "torch",
        "a compiled nn.LSTM raises an error on oneDNN's path, whose operation gives None for a workspace",
        "https://github.com/pytorch/pytorch/pull/185163",
        subjects=tuple(f"torch:lstm:{mode}" for mode in ("compile-aot", "compile-decomposed", "compile")),
        where={},
        fails=r"tensors_saved_with_vc_check|expected Tensor\(\) for op: torch\.ops\.aten\.mkldnn_rnn_layer",
    ),
    ReportedFailure(
        "a deep copy of a scripted module",
        "torch",
        "the parameters of a deep copy of a scripted module are no leaves",
        "https://github.com/pytorch/pytorch/issues/44951",
        subjects=tuple(f"{layer}:{mode}" for layer in TORCH_LAYERS.values() for mode in ("script", "trace")),
        where={"preparation": "deepcopy"},
        fails=r"\.grad: missing|leaf [Vv]ariable",
    ),
    ReportedFailure(
        "layout of an RNN",
        "OpenVINO",
        "layout=1 of an RNN is ignored",
        "https://github.com/openvinotoolkit/openvino/issues/37820",
        subjects=("onnx:openvino",),
        where={"batch_first": True},
        fails="^(output|h_n): (shape|value)",
    ),
    ReportedFailure(
        "matmul of float64",
        "Keras",
        "keras.ops.matmul of two float64 tensors is float32",
        "https://github.com/keras-team/keras/issues/23704",
        subjects=("keras:torch",),
        where={"dtype": "float64"},
        fails=": value",
    ),
)

KNOWN_ISSUES: Final[tuple[KnownIssue, ...]] = (
    *TORCH_ISSUES,
    *OF_NUMPY,
    *(KnownIssue(rule.name, "torch", rule.known) for rule in MALFORMED_RULES if rule.known),
    *REPORTED,
)


def known_or_not(observation: Observation, result: Result, known_causes: Iterable[KnownCause] = TORCH_ISSUES) -> Result:
    """Return an agreement, by the name of the first cause that covers a result, or what none of them covers."""
    for known_cause in known_causes:
        if known_cause.covers(observation, result):
            return Result(Verdict.AGREES, method=result.method, known_as=known_cause.name)
        if isinstance(known_cause, PartialCause):
            result = known_cause.left(observation, result)
    return result


def spared(case: Case) -> tuple[str, ...]:
    """Return the names of the issues of torch in numbers that could show on a case, in its plain form."""
    return tuple(issue.name for issue in TORCH_ISSUES if issue.could_show(case))


def reported(subject: str, config: RNNConfig, result: Result) -> ReportedFailure | None:
    """Return the first report that fits a failure."""
    return next((report for report in REPORTED if report.fits(subject, config, result)), None)
