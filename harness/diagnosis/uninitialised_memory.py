"""uninitialised_memory: memory that a subject reads before it writes it, such as an array of ``np.empty``.

What is in such memory is not known, and often zero. So the subject is run with new arrays filled, with one number and
then with others: if what it returns follows them, it reads them.
"""

from typing import Final

from harness.diagnosis.experiments import Question, ShownCause
from harness.space.case import Case
from harness.subjects.protocol import Subject

# Small ones where tanh is not at its ends; large ones of both signs where it is, or where 16 bits round them away.
MEMORY_FILLS: Final = (0.5, 0.25, 1e3, -1e3)
FRESH_WITH_FILL: Final = 3  # fresh cases on which it is seen, too
MOST_FILLED: Final = 12  # that are tried at most


def unwritten_of(question: Question) -> ShownCause | None:
    """Return that a subject reads what it has not written; ``None`` if new arrays change nothing."""
    if (fresh := question.hits(follows_new_arrays, most=MOST_FILLED)) < FRESH_WITH_FILL:
        return None
    return ShownCause(
        "reads memory before it is written, such as an array of np.empty or torch.empty",
        f"its results follow what new arrays are filled with, on this case and on {fresh} fresh ones",
        lambda subject, observation, _: follows_new_arrays(subject, observation.case),
    )


def follows_new_arrays(subject: Subject, case: Case) -> bool:
    """Tell whether the results of a case follow what new arrays are filled with."""
    run = subject.capabilities.run_filled
    if run is None:
        return False

    def bits(number: float) -> dict[str, bytes]:
        return {name: array.tobytes() for name, array in run(case, number).arrays.items()}

    first = bits(MEMORY_FILLS[0])
    return bool(first) and first == bits(MEMORY_FILLS[0]) and any(bits(number) != first for number in MEMORY_FILLS[1:])
