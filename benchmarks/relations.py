"""How exactly torch keeps the relations, from which ``TorchSubject.exact_relations`` comes, and false alarms.

Cases are drawn over everything that torch is asked, in sizes up to 33 and at most 2**17 multiplications; each is held
to every relation that applies to it. A cell says in how many of the compared cases the two sides were equal to the bit;
``-`` means that none was compared. ``exact`` counts the cases in which a declared relation was broken, ``beyond`` those
in which the two sides differed by more than their tolerances: both must be 0. Each such case is listed below the table
with the arguments that draw it again.

Run: ``python benchmarks/relations.py --cases 4000``.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Final

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch are imported

from harness import Case, Outcome, RNNConfig, draw
from harness.checks.relation_check import GRADIENT_SUFFIX, check_relation
from harness.checks.relations import RELATIONS, Relation
from harness.checks.result import Result
from harness.space.factor_table import BOUNDARIES, DTYPES, SIZE_FACTORS
from harness.space.scope import affordable, configure
from harness.space.values import DISTRIBUTIONS
from harness.subjects.protocol import scope_of
from harness.subjects.torch_module import TorchSubject, in_order

COST: Final = 2**17
PARTS: Final = ("", GRADIENT_SUFFIX)


class Remembering(TorchSubject):
    """torch with freely chosen declarations, which runs each case only once however often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self._outcomes: dict[str, Outcome] = {}
        self._relations: frozenset[str] | None = None

    def declaring(self, relations: frozenset[str] | None) -> Remembering:
        """Return the same subject with other declared relations."""
        self._relations = relations
        return self

    def exact_relations(self, config: RNNConfig) -> frozenset[str]:
        """Return the relations that it was told to declare, or those that torch declares."""
        return super().exact_relations(config) if self._relations is None else self._relations

    def run(self, case: Case) -> Outcome:
        """Return torch's outcome, remembered from the first run."""
        if case.id not in self._outcomes:
            self._outcomes[case.id] = super().run(case)
        return self._outcomes[case.id]

    def forget(self) -> None:
        """Forget the outcomes, to save memory."""
        self._outcomes.clear()


def configs(seed: int, number: int) -> Iterator[RNNConfig]:
    """Yield configs of torch's scope on the CPU, as a search draws them except for their sizes."""
    scope = scope_of(TorchSubject()).only(device="cpu", output_size=[None, None, 2])
    sizes = [*range(1, 10), *BOUNDARIES]
    for i in range(number):
        random = Random(f"{seed}/{i}")
        factors = {name: random.choice(getattr(scope, name)) for name in scope.values()}
        factors |= {name: random.choice(sizes) for name in SIZE_FACTORS} | {"dtype": DTYPES[i % len(DTYPES)]}
        factors["N"] *= random.random() > 0.03
        if factors["num_layers"] == 1:
            factors["dropout"] = 0.0
        config = configure(affordable(factors, COST), i)
        if config.lengths is not None and config.loss is not None:
            config = config.replace(output_size=None)  # its bias has a gradient from padding, too
        yield config


class Count:
    """Counts for every relation and dtype."""

    def __init__(self) -> None:
        self.compared: Counter[tuple[bool, str, str]] = Counter()
        self.equal: Counter[tuple[bool, str, str]] = Counter()
        self.alarms: dict[str, Counter[str]] = {"exact": Counter(), "beyond": Counter()}
        self.trials = 0
        self.listed: list[str] = []
        self._subject = Remembering()

    def add(self, case: Case) -> None:
        """Check every relation on a case of torch's."""
        self._subject.forget()
        for relation in RELATIONS.values():
            loose = check_relation(self._subject.declaring(frozenset()), case, relation)
            if loose is None:
                continue
            self.trials += 1
            self._note("beyond", relation, case, loose)
            own = self._subject.run(relation.about(case))
            bits = check_relation(
                self._subject.declaring(frozenset(relation.name + part for part in PARTS)), case, relation
            )
            assert bits is not None
            if not own.failure and relation.exact(relation.about(case), own.arrays):
                self._tally(relation, case, bits)
            declared = check_relation(self._subject.declaring(None), case, relation)
            assert declared is not None
            self._note("exact", relation, case, declared)

    def _tally(self, relation: Relation, case: Case, bits: Result) -> None:
        broken = {name.array.endswith(GRADIENT_SUFFIX) for name in bits.mismatches}
        for part in PARTS:
            readout = case.config.output_size is not None  # nothing is declared for it
            if part and (case.config.loss is None or readout or relation is RELATIONS["grad mode"]):
                continue
            key = in_order(case.config), relation.name + part, case.config.plain.dtype
            self.compared[key] += 1
            self.equal[key] += bool(part) not in broken

    def _note(self, which: str, relation: Relation, case: Case, result: Result) -> None:
        if result.failed:
            self.alarms[which][relation.name] += 1
            self.listed.append(f"{which} {relation.name} {result.kind} {result.message}: {case.config!r} {case.origin}")

    def table(self, *, orderly: bool) -> Iterator[str]:
        """Yield a row for every relation, and for its gradients."""
        yield f"{'in order' if orderly else 'otherwise':28}" + "".join(f"{dtype:>14}" for dtype in DTYPES)
        for name in RELATIONS:
            for part in PARTS:
                keys = [(orderly, name + part, dtype) for dtype in DTYPES]
                cells = [f"{self.equal[k]} of {self.compared[k]}" if self.compared[k] else "-" for k in keys]
                yield f"{name + part:28}" + "".join(f"{cell:>14}" for cell in cells)

    def summary(self) -> Iterator[str]:
        """Yield how often a relation was checked, and how often it was called broken."""
        for which, alarms in self.alarms.items():
            yield f"{which:8} {alarms.total()} alarms in {self.trials:,} trials of {len(RELATIONS)} relations"
        yield from self.listed


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    count, distributions = Count(), list(DISTRIBUTIONS)
    for i, config in enumerate(configs(asked.seed, asked.cases)):
        count.add(draw(config, distributions[(i // len(DTYPES)) % len(distributions)], i))
    print("\n".join([*count.table(orderly=True), "", *count.table(orderly=False), "", *count.summary()]))


if __name__ == "__main__":
    main()
