"""The patterns of the coefficients of a sum: the steps where they stand, and the sizes they go with."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.diagnosis.identify.fit import accuracy, plainest, solve, unsure
from harness.diagnosis.identify.model import LOSS_SCALES, PROGRESS, Coef, WeightedTerms, scale_of
from harness.diagnosis.identify.step_patterns import TermSteps, patterns
from harness.diagnosis.identify.terms import LayerTrace
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np

StepCoefficients = dict[int, float]  # a coefficient by step


class LinearSystem(NamedTuple):
    """Linear equations: the columns of each step's terms, and what they add up to, at each step or over all of them."""

    columns: Mapping[int, Mapping[str, Floats]]
    y: Mapping[int, Floats] | Floats

    def solved(self, names: Sequence[str], noise: float) -> dict[int, dict[str, float]] | None:
        """Return the coefficients by step of some terms, if they explain everything; NaN where one cannot show."""
        coefs: dict[int, dict[str, float]] = {}
        if isinstance(self.y, Mapping):
            for t, y in self.y.items():
                by = solve({name: self.columns[t][name] for name in names}, y, noise)
                if by is None:
                    return None
                doubt = unsure(by, self.columns[t], y, noise)
                coefs[t] = by | dict.fromkeys(doubt, math.nan)
        else:
            flat = {f"{t}|{name}": by[name] for t, by in self.columns.items() for name in names}
            if (solution := solve(flat, self.y, noise)) is None:
                return None
            solution |= dict.fromkeys(unsure(solution, flat, self.y, noise), math.nan)
            coefs = {t: {} for t in self.columns}
            for key, c in solution.items():
                step, _, name = key.partition("|")
                coefs[int(step)][name] = c
        used = {name for by in coefs.values() for name in by}
        for t, by in coefs.items():
            y = self.y[t] if isinstance(self.y, Mapping) else self.y
            least = noise / accuracy(noise) * float(np.abs(y).max(initial=0))  # smaller columns show no coefficient
            by |= {n: math.nan for n in names if n in used and np.abs(self.columns[t][n]).max(initial=0) <= least}
        return coefs


def named(
    runs: Sequence[tuple[LayerTrace, StepCoefficients]], noise: float, some: Sequence[TermSteps] | None = None
) -> tuple[Coef, ...] | None:
    """Return the coefficient that has these values at the steps of some traces, as few ``Coef`` as will do.

    The steps are those of ``some`` patterns, or of any.
    """
    steps = [(f, {t: plainest(c, noise) for t, c in by.items() if not math.isnan(c)}) for f, by in runs]
    longest = max((f.T for f, _ in runs), default=1)
    for scale, divides in ((scale, divides) for scale in LOSS_SCALES for divides in (True, False)):
        scaled = [
            (f.T, {t: plainest(c * factor(f, t) if divides else c / factor(f, t), noise) for t, c in by.items()})
            for factor in (LOSS_SCALES[scale],)
            for f, by in steps
        ]
        values = {round(c, 9): c for _, by in scaled for c in by.values() if c}
        if len(values) == 1:
            [value] = values.values()
            for when in some or patterns(longest):
                if all(bool(c) == when.at(t, T) for T, by in scaled for t, c in by.items()):
                    return (Coef(value, scale, divides, when),)
        if 1 < len(values) <= 2 and not scale:  # one value at some steps, another elsewhere
            coefs: list[Coef] = []
            for value in sorted(values, reverse=True):
                hits = [(T, {t: round(c, 9) == value for t, c in by.items()}) for T, by in scaled]
                every = some or patterns(longest)
                fits = (w for w in every if all(hit == w.at(t, T) for T, at in hits for t, hit in at.items()))
                if (there := next(fits, None)) is None:
                    break
                coefs.append(Coef(values[value], when=there))
            else:
                return tuple(coefs)
    return _changing(steps, noise)


def _changing(runs: Sequence[tuple[LayerTrace, StepCoefficients]], noise: float) -> tuple[Coef, ...] | None:
    """Return the coefficient that is a power of t, or a straight line over the steps; ``None`` if it is neither."""
    first = next((by[0] for _, by in runs if by.get(0)), 0.0)
    later = [(f, t, c / first) for f, by in runs for t, c in by.items() if t > 0] if first else []
    if len({t for _, t, _ in later}) < 3:  # of one or two, several would do
        return None
    f, t, c = later[-1]
    lines = ((over, progress, plainest((c - 1) / progress(t, f.T), noise)) for over, progress in PROGRESS.items())
    scales = [f"(1 {'-' if by < 0 else '+'} {abs(by):.9g} * {over})" for over, _, by in lines]
    scales += [f"{plainest(c ** (1 / t), noise):.9g}**t"] if c > 0 else []

    def holds(scale: str) -> bool:
        factor = scale_of(scale)
        return all(abs(c - factor(f, t)) <= accuracy(noise) * max(1.0, abs(c)) for f, t, c in later)

    return next(((Coef(first, scale, divides=False),) for scale in scales if holds(scale)), None)


def gathered(
    runs: Sequence[tuple[LayerTrace, Mapping[int, Mapping[str, float]]]],
    noise: float,
    some: Sequence[TermSteps] | None = None,
) -> WeightedTerms | None:
    """Return the sum whose coefficients were found at each step of some traces; ``None`` if they follow no pattern.

    The steps are those of ``some`` patterns, or of any.
    """
    terms: list[tuple[str, Coef]] = []
    for name in used(runs):
        coefs = named([(f, {t: by.get(name, 0.0) for t, by in steps.items()}) for f, steps in runs], noise, some)
        if coefs is None:
            return None
        terms += [(name, coef) for coef in coefs]
    return tuple(terms)


def gathered_at_start(
    runs: Sequence[tuple[LayerTrace, Mapping[int, Mapping[str, float]]]], noise: float
) -> WeightedTerms | None:
    """Return the sum of hx's gradient, which has one step only."""
    return gathered(runs, noise, [TermSteps()])


def used(runs: Sequence[tuple[LayerTrace, Mapping[int, Mapping[str, float]]]]) -> list[str]:
    """Return the names of all terms that have a coefficient at some step."""
    return list(
        dict.fromkeys(name for _, steps in runs for by in steps.values() for name, c in by.items() if not math.isnan(c))
    )
