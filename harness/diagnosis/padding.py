"""padding: what a subject makes of what stands in the padding of a packed batch.

nn.RNN reads nothing there, and the cases have NaN there. So the subject is run with finite numbers there, and with
others: if what it returns follows them, it reads them; if not, it only lets a NaN through.
"""

from itertools import islice
from typing import Final

import numpy as np

from harness.checks.agreement import Observation
from harness.checks.result import Result
from harness.diagnosis.experiments import Question, ShownCause
from harness.diagnosis.fresh_cases import fresh_cases
from harness.oracle.compare import MismatchKind
from harness.space.case import Array, Case, padding
from harness.subjects.protocol import Subject

PADDING_FILLS: Final = (0.5, 0.25)  # different, and small enough that tanh is not at its ends
FRESH_WITH_PADDING: Final = 3  # fresh cases on which it is seen, too
MOST_PADDED: Final = 12  # that are tried at most

# The sentence and the evidence, with the number of fresh cases.
READ: Final = (
    "reads what stands in the padding of a packed batch: other numbers there change its results",
    "its results follow the numbers there on {} fresh cases",
)
LET_THROUGH: Final = (
    "lets a NaN in the padding of a packed batch through, as a mask does that is a factor",
    "with finite numbers there its results are finite and the same on {} fresh cases",
)


def padding_of(question: Question) -> ShownCause | None:
    """Return what a subject makes of padding, if NaN there is all that is wrong on a case."""
    subject, case = question.subject, question.finding.case
    if not _not_finite(question.finding.result) or _follows(subject, case) is None:
        return None
    packed = (fresh for fresh in fresh_cases(case.config, question.scope) if fresh.config.lengths is not None)
    answers = [_follows(subject, fresh) for fresh in islice(packed, MOST_PADDED)]
    verdicts = [follows for follows in answers if follows is not None]
    if len(verdicts) < FRESH_WITH_PADDING:
        return None
    reads = any(verdicts)
    sentence, evidence = READ if reads else LET_THROUGH

    def explains(subject: Subject, observation: Observation, result: Result) -> bool:
        follows = _follows(subject, observation.case) if _not_finite(result) else None
        return follows is not None and follows <= reads  # a matrix of zeros hides what is read

    return ShownCause(sentence, evidence.format(verdicts.count(reads)), explains)


def _not_finite(result: Result) -> bool:
    return bool(result.mismatches) and all(mismatch.sort is MismatchKind.FINITENESS for mismatch in result.mismatches)


def _follows(subject: Subject, case: Case) -> bool | None:
    """Tell whether results follow finite numbers in the padding.

    ``None`` if there is no padding, or the results are not finite, or none; or if masks that are drawn may change them.
    """
    config = case.config
    if config.lengths is None or config.drops or not padding(config).any():
        return None
    runs = [subject.run(_filled(case, number)).arrays for number in PADDING_FILLS]
    specs = config.returned
    if not all(runs) or any(n not in specs or v.shape != specs[n].shape for run in runs for n, v in run.items()):
        return None
    arrays = [{name: _without_padding(case, name, array) for name, array in run.items()} for run in runs]
    if arrays[0].keys() != arrays[1].keys() or not all(np.isfinite(v).all() for run in arrays for v in run.values()):
        return None
    return any(not np.array_equal(v, arrays[1][name]) for name, v in arrays[0].items())


def _filled(case: Case, number: float) -> Case:
    at = padding(case.config)[..., None]
    return Case.from_arrays(
        case.config,
        {
            name: np.where(at, v.dtype.type(number), v) if name in ("x", "output.grad", "readout.grad") else v
            for name, v in case.arrays.items()
        },
    )


def _without_padding(case: Case, name: str, array: Array) -> Array:
    """Return an array as float64, with zeros where nothing is compared."""
    v = np.asarray(array, np.float64)
    return np.where(padding(case.config)[..., None], 0.0, v) if name in ("output", "readout", "x.grad") else v
