"""step_patterns: the steps at which a term stands, and the pattern that some steps follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from harness.diagnosis.identify.line import function_of
from harness.diagnosis.identify.questions import LONG_TIMES


class TermSteps(NamedTuple):
    """The steps at which a term stands: all of them, or those that a pattern names."""

    kind: str = "all"
    k: int = 0

    def at(self, t: int, T: int) -> bool:
        """Tell whether it stands at step t of T."""
        return PATTERNS[self.kind].at(t, T, self.k)

    @property
    def line(self) -> str:
        """The steps as a condition of t and T."""
        return PATTERNS[self.kind].line.format(k=self.k)

    @property
    def words(self) -> str:
        """The steps in words."""
        ending = "th" if 10 <= self.k % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(self.k % 10, "th")
        words = PATTERNS[self.kind].words.format(k=self.k, next=self.k + 1, nth=f"{self.k}{ending}")
        return _PLAINER.get(words, words)

    @property
    def others(self) -> TermSteps | None:
        """The other steps, if these follow a pattern, too."""
        pairs = next((pair for pair in COMPLEMENTS if self.kind in pair), None)
        return None if pairs is None else self._replace(kind=pairs[pairs[0] == self.kind])


EVERY_STEP: Final = TermSteps()
NO_STEP: Final = TermSteps("never")


class Pattern(NamedTuple):
    """Some of the steps, given ``k``, as a line of NumPy and in words; and the line as a function of t, T and k."""

    line: str
    words: str
    at: Callable[[int, int, int], bool]


PATTERNS: Final = {
    kind: Pattern(line, words, function_of(line.format(k="k"), "t", "T", "k"))
    for kind, line, words in (
        ("all", "True", ""),
        ("never", "False", "never"),
        ("first", "t < {k}", "at the first {k} steps only"),
        ("from", "t >= {k}", "from step {k} on"),
        ("last", "t >= T - {k}", "at the last {k} steps only"),
        ("but last", "t < T - {k}", "at all steps but the last {k}"),
        ("last but", "t == T - 1 - {k}", "at step T-{next} only"),
        ("only", "t == {k}", "at step {k} only"),
        ("every", "(t + 1) % {k} == 0", "at every {nth} step only"),
        ("but every", "(t + 1) % {k} != 0", "at all steps but every {nth}"),
        ("block", "t % {k} == 0 and t > 0", "at every {nth} step after the first only"),
        ("but block", "t % {k} != 0 or t == 0", "at all steps but every {nth} after the first"),
        ("but every from the end", "(T - 1 - t) % {k} != 0", "at all steps but every {nth} from the end"),
        ("full blocks", "t < T - T % {k}", "at the steps of full blocks of {k} only"),
        ("rest of blocks", "t >= T - T % {k}", "at the steps after the last full block of {k} only"),
        ("but last but", "t != T - 1 - {k}", "at all steps but T-{next}"),
        ("after the first of the last", "t > max(0, T - {k})", "at the last {k} steps but the first of them"),
    )
}
COMPLEMENTS: Final = (
    ("all", "never"),
    ("first", "from"),
    ("last", "but last"),
    ("last but", "but last but"),
    ("every", "but every"),
    ("block", "but block"),
    ("full blocks", "rest of blocks"),
)
_PLAINER: Final = {
    "from step 1 on": "at all steps but the first",
    "at step 0 only": "at the first step only",
    "at the first 1 steps only": "at the first step only",
    "at the last 1 steps only": "at the last step only",
    "at all steps but the last 1": "at all steps but the last",
}


def patterns(T: int) -> Iterator[TermSteps]:
    """Yield the patterns of up to T steps, the plainest first."""
    most = max(LONG_TIMES[-1], T // 2 + 1)  # less one, the steps that are counted: those that T shows twice
    yield TermSteps()
    yield TermSteps("only", 0)
    for k in range(1, most):
        for kind in ("from", "first", "last", "but last", "last but"):
            yield TermSteps(kind, k)
    for k in range(2, most):
        yield TermSteps("but every", k)
        yield TermSteps("every", k)
        yield TermSteps("but block", k)
        yield TermSteps("block", k)
        yield TermSteps("but every from the end", k)
        yield TermSteps("full blocks", k)
        yield TermSteps("rest of blocks", k)
        yield TermSteps("but last but", k - 1)
        yield TermSteps("after the first of the last", k)


def fitting_pattern(hits: Sequence[tuple[int, int, bool]]) -> TermSteps | None:
    """Return the plainest pattern of the steps that are hit, of T, t and whether it is."""
    longest = max((T for T, *_ in hits), default=1)
    return next((w for w in patterns(longest) if all(w.at(t, T) == hit for T, t, hit in hits)), None)
