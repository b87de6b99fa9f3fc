"""diagnose: the choice of the fault that the subject agrees with, on the failing case and on fresh ones.

A fault is a Reference. So "the subject computes what this fault computes" is the agreement check itself, with the fault
in the reference's place and the same derived tolerance (``likeness``). If the subject is right on a fresh case where a
fault would show, the fault is not made there. It is then made under a condition, which ``factors`` looks for. A fault
that the subject neither makes nor leaves out on a fresh case is ruled out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, combinations, islice
from typing import Any, Final

from harness.checks.repeatability import check_repeatability
from harness.diagnosis.faults import CATALOGUE, Fault
from harness.diagnosis.fresh import fresh_cases, infinite_cases, rare, stilled_cases, zeroed_cases
from harness.diagnosis.identify.cause import IdentifiedCause
from harness.diagnosis.identify.mistakes import Mistake
from harness.diagnosis.likeness import Seen
from harness.diagnosis.observations import Observations
from harness.diagnosis.own_line import SourceLine
from harness.diagnosis.pairs import Pair, pair_of
from harness.diagnosis.parts import Part, from_places, parts_of, together
from harness.diagnosis.precision import Precision, estimate, estimate_gradients
from harness.diagnosis.small_check import Cause
from harness.diagnosis.where import first_wrong
from harness.oracle.compare import OF_VALUE, Sort
from harness.search.guard import Late
from harness.search.record import Finding
from harness.space.case import Case
from harness.space.config import MANY, RNNConfig
from harness.space.parts import SIZE_FACTORS
from harness.space.scope import Scope, factors_of

EVIDENCE: Final = 3
"""The number of cases, beside the failing one, on which a subject must be wrong in a fault's own way before the fault
is called certain. Each case has several generic numbers, any one of which two different faults would have to share."""

PAIRS: Final = 3 * 2**28
"""The cost of the pairs of faults that are tried (``RNNConfig.cost``): some 2 s, in which 12,000 pairs of the smallest
cases are run, or 1,000 of T=50."""

FEW: Final = 3  # The number of pairs beyond which none is named: what so many explain, none explains
FIRST: Final = 24  # The number of fresh cases among which the cheapest is chosen to try pairs on


@dataclass(frozen=True)
class Diagnosis:
    """The faults of the catalogue that explain everything that was seen of a subject, and what was tried."""

    causes: tuple[Fault, ...]
    tried: int  # The number of faults in the catalogue
    fresh: int
    """The number of fresh cases, beside the failing case, on which every cause reproduces what is wrong with the
    subject."""
    spared: int = 0  # The number of fresh cases on which the subject is right, though the causes would show
    pairs: int = 0  # The number of pairs of faults that were tried, if no single one explains the subject
    beside: tuple[Fault, ...] = ()  # The causes of earlier findings, which the subject has as well
    # The other mistake, if the subject makes two of which the case shows one. It is needed to explain all the rest.
    elsewhere: tuple[Fault | Mistake, ...] = ()
    # The properties of the subject's arithmetic, if no fault explains the subject and coarser arithmetic may.
    precision: Precision | None = None
    # The cause that a check of something else told, or that was identified; then no fault is certain.
    instead: Cause | None = None
    computed: IdentifiedCause | None = None  # what it was found to compute, where the certain fault is the same
    line: SourceLine | None = None  # the line of the subject's own code that makes the mistake, if that is known

    @property
    def certain(self) -> bool:
        """True if exactly one fault explains the subject, on ``EVIDENCE`` fresh cases, too; or if ``instead`` does."""
        return self.instead is not None or (len(self.causes) == 1 and self.fresh >= EVIDENCE)


def diagnose(
    observations: Observations, finding: Finding, scope: Scope | None = None, beside: Sequence[Fault] = ()
) -> Diagnosis | None:
    """Return the faults that reproduce a subject within tolerance on the finding's case and on fresh ones around it.

    The fresh cases stay within ``scope``. Faults that the subject is known to have, ``beside`` this one, may show in
    them, too. A subject that wavers somewhere is asked twice, and cases on which it wavers are left out. The result is
    ``None`` where there is nothing to ask for: a subject that broke, or gave arrays of a wrong shape or dtype, shows by
    itself what is wrong.
    """
    case = nameable(finding)
    if case is None:
        return None
    finite = all(mismatch.sort is not Sort.FINITENESS for mismatch in finding.result.mismatches)
    scope = scope or Scope()
    scope = scope if case.config.loss is not None else scope.only(loss=None)
    return _Inquiry(observations, case, scope, tuple(beside)).diagnosis(finite=finite)


def nameable(finding: Finding) -> Case | None:
    """Return the part of a finding's case that a fault can be told by; ``None`` if nothing can.

    A mistake on the way forward makes the way back wrong, too, in as many ways as there are to differentiate. So the
    way back is left out then.
    """
    mismatches = finding.result.mismatches
    if not mismatches or not all(mismatch.sort in OF_VALUE for mismatch in mismatches):
        return None
    return finding.case if mismatches[0].array.endswith(".grad") else finding.case.forward()


class _Inquiry:
    """One subject, one failing case, and the faults that may be its cause."""

    def __init__(self, observations: Observations, case: Case, scope: Scope, beside: tuple[Fault, ...]) -> None:
        self._observations, self._case, self._scope, self._beside = observations, case, scope, beside
        self._known: list[Seen] = []
        """The fresh cases seen so far, in the order in which they are asked for."""
        self._finite = True
        """True if the failure is one of finite numbers, and so may be a matter of precision."""
        self._asking = self._observed()

    def diagnosis(self, *, finite: bool) -> Diagnosis:
        """Return what explains the subject; ``finite`` says that the failure may be a matter of precision."""
        self._finite = finite
        here = Seen(self._observations.of(self._case, with_probes=False))
        every = [fitted for fault in CATALOGUE for fitted in fault.fitted(self._case.config)]
        if here.right:  # it is only suspected, which proves no fault
            every = []
        if not finite:  # no rounding makes a NaN of a number
            every = [fault for fault in every if fault.family != "rounding"]
        singles = [fault for fault in every if self._may_make(here, fault) and self._makes(here, fault)]
        pairs = 0
        causes, hits, spared = self._surviving(singles)
        elsewhere: tuple[Fault, ...] = ()
        large = self._case.config.states > MANY  # then a size makes it fail, and to try all the rest takes a minute
        if not causes and not large:
            parts = [part for fault in every for part in parts_of(fault, self._case.config)]
            if first := first_wrong(here.observation):
                parts += [part for fault in every for part in from_places(fault, first)]
            confined = [part for part in parts if self._may_make(here, part) and self._makes(here, part)]
            causes, hits, spared = self._surviving(confined)
        if not causes and not self._beside and not large:
            passed, pairs = self._pairs(here, every, singles)
            causes, hits, spared = self._surviving([pair for pair in passed if here.reproduces(pair)])
            causes, elsewhere = self._own(here, self._distinct(causes) if len(causes) <= FEW else [])
        if not causes and not self._beside:  # with another factor another mistake may show, too
            causes, hits, spared = self._surviving(singles, alike_in_factors=True)
        precision = None
        if not causes and finite:
            ask = estimate if self._case.config.loss is None else estimate_gradients
            precision = ask(self._observations, self._case)
        return Diagnosis(tuple(causes), len(CATALOGUE), hits, spared, pairs, self._beside, elsewhere, precision)

    def _may_make(self, seen: Seen, fault: Fault) -> bool:
        return seen.resembles(fault) or any(seen.resembles(together(fault, other)) for other in self._beside)

    def _makes(self, seen: Seen, fault: Fault) -> bool:
        """Tell whether the subject makes a mistake on a case, alone or beside those that it is known to make."""
        return seen.reproduces(fault) or any(seen.reproduces(together(fault, other)) for other in self._beside)

    def _right(self, seen: Seen) -> bool:
        """Tell whether nothing is wrong there, beside what is known."""
        return seen.right or any(seen.reproduces(other) for other in self._beside)

    def _leaves_out(self, seen: Seen, fault: Fault) -> bool:
        """Tell whether the subject does not make a mistake where it would show, if that can be decided."""
        return not seen.undecided(fault) and not self._makes(seen, fault) and seen.tells_apart(fault)

    def _surviving(self, faults: Sequence[Fault], *, alike_in_factors: bool = False) -> tuple[list[Fault], int, int]:
        """Return the faults that explain every fresh case best, on how many they show, and how many spare them.

        Cases ``alike_in_factors`` differ from the failing one in sizes and numbers only.
        """
        hits: Counter[Fault] = Counter()
        common: Counter[Fault] = Counter()
        spared: Counter[Fault] = Counter()
        left = list(faults)
        right: list[Seen] = []
        for seen in self._fresh() if left else ():
            if alike_in_factors and not self._alike(seen.case.config):
                continue
            if self._right(seen):
                right.append(seen)
                continue
            for fault in tuple(left):
                if self._makes(seen, fault):
                    hits[fault] += 1
                    common[fault] += not seen.rare
                elif not seen.rare and not seen.undecided(fault):
                    left.remove(fault)
            if not left:
                return [], 0, 0
        left = [fault for fault in left if hits[fault]]
        for seen in right:  # last, because the cases above rule most faults out
            spared.update(fault for fault in left if self._leaves_out(seen, fault))
        # A fault that only the failing case supports is there by chance. So is a fault that only rare values support,
        # if common values speak against it.
        left = [fault for fault in left if common[fault] or not spared[fault]]
        if not left:
            return [], 0, 0
        fewest = min(spared[fault] for fault in left)
        most = max(hits[fault] for fault in left if spared[fault] == fewest)
        best = [fault for fault in left if (spared[fault], hits[fault]) == (fewest, most)]
        return widest(best), most, fewest

    def _alike(self, config: RNNConfig) -> bool:
        """Tell whether a config differs from the failing case's in sizes only."""
        own, other = factors_of(self._case.config), factors_of(config)
        return all(other[name] == value for name, value in own.items() if name not in SIZE_FACTORS)

    def _distinct(self, causes: Sequence[Fault]) -> list[Fault]:
        """Return the first of those that compute the same: they are one mistake in other words.

        Rare values do not count: one way may leave out an infinity that the other multiplies by zero.
        """
        kept: list[Fault] = []
        cases = [seen for seen in self._known if not seen.rare]
        for cause in causes:
            if not any(all(seen.alike(cause, other) for seen in cases) for other in kept):
                kept.append(cause)
        return kept

    def _own(self, here: Seen, causes: list[Fault]) -> tuple[list[Fault], tuple[Fault, ...]]:
        """Split two mistakes that explain everything together: the one that explains the case alone, and the other."""
        if len(causes) == 1 and isinstance(causes[0], Pair):
            own = [fault for fault in causes[0].members if here.reproduces(fault)]
            if len(own) == 1:
                return own, tuple(fault for fault in causes[0].members if fault is not own[0])
        return causes, ()

    def _pairs(self, here: Seen, every: Sequence[Fault], singles: Sequence[Fault]) -> tuple[list[Fault], int]:
        """Return the pairs that pass on a fresh case where both may show, and how many pairs were tried.

        Pairs worth trying are two faults that both matter on the failing case, or one that explains it alone with any
        other.
        """
        matter = [fault for fault in every if here.tells_apart(fault)]
        place = {fault: i for i, fault in enumerate(every)}
        alone = ((one, other) for one in singles for other in every if other is not one)
        pairs = dict.fromkeys(tuple(sorted(pair, key=place.__getitem__)) for pair in (*alone, *combinations(matter, 2)))
        wrong = [seen for seen in islice(self._fresh(), FIRST) if not seen.right and not seen.rare]
        if not wrong:  # only its own values make it fail, and on those many pairs would do as well
            return [], 0
        wide = min(wrong, key=lambda seen: seen.case.config.cost)
        tried = [pair_of(*pair) for pair in list(pairs)[: PAIRS // wide.case.config.cost]]
        return [pair for pair in tried if wide.resembles(pair)], len(tried)

    def _fresh(self) -> Iterator[Seen]:
        """Yield the fresh cases that the subject accepts, as many as time allows; each is run only once."""
        yield from self._known
        with suppress(Late):
            for seen in self._asking:
                self._known.append(seen)
                yield seen

    def _observed(self) -> Iterator[Seen]:
        config = self._case.config
        telling = stilled_cases(config, self._scope) if self._finite else infinite_cases(config, self._scope)
        for case in chain(telling, zeroed_cases(self._case, self._scope), fresh_cases(config, self._scope)):
            observation = self._observations.of(case, with_probes=False)
            subject, wavers = self._observations.subject, self._observations.wavers
            if wavers and check_repeatability(subject, case, observation.raw).nondeterministic:
                continue
            if observation.unfit is None:
                yield Seen(observation, rare=rare(case))


def widest(faults: Sequence[Fault]) -> list[Fault]:
    """Return the widest of the parts that a fault may be confined to, for each fault.

    It says as much as any other part that explains everything.
    """
    kinds: dict[Any, Fault] = {}
    for fault in faults:
        kinds.setdefault((fault.fault.name, fault.fault.k) if isinstance(fault, Part) else fault, fault)
    return list(kinds.values())
