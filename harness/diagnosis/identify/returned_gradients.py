"""returned_gradients: what each returned gradient is made of, the steps that it reaches, and where h_n's enters."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import combinations, product as pairs_of
from typing import Any, Final

from harness.diagnosis.identify.backward_step import BackwardStepInquiry
from harness.diagnosis.identify.coefficient_patterns import LinearSystem, gathered, gathered_at_start, used
from harness.diagnosis.identify.fit import TermColumns, solve
from harness.diagnosis.identify.inquiry import SHORT_TIME, Pairs
from harness.diagnosis.identify.line import Line, function_of
from harness.diagnosis.identify.model import (
    DERIVATIVE,
    ONE,
    RIGHT_GRADIENT_SUMS,
    Coef,
    FinalStateGradientEntry,
    LayerModel,
    WeightedTerms,
    needs_square,
)
from harness.diagnosis.identify.questions import LONG_TIMES
from harness.diagnosis.identify.step_patterns import PATTERNS, TermSteps, fitting_pattern
from harness.diagnosis.identify.terms import (
    ARRANGED_BACK,
    GRADIENT_MASKS,
    INDICES,
    INPUT,
    LEFT,
    RIGHT_TERMS,
    START,
    LayerTrace,
    at_step,
    by_last_read,
    factors,
    indices,
    masked,
    of_sequence,
    of_sums,
    over_units,
    product,
    product_of,
    row_sum,
    transposed,
)
from harness.oracle.array_layout import time_major
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np
from harness.space.config import role_of

StepTerms = dict[int, dict[str, float]]  # the coefficients of terms by step
StepCoefs = tuple[LayerTrace, StepTerms]
ENTRY: Final = "h_n.grad's way in"


# Which step of x, or of the states, a gradient may be paired with: hx, which is another in long cases, first.
STEP_PAIRS: Final[dict[str, dict[str, Callable[[int, int], int]]]] = {
    "weight_ih": {f"x[{name}]": index for name, index in INDICES.items()},
    "weight_hh": {"hx": function_of("-1", "t", "T")}
    | {f"h[{name}]": index for name, index in (indices(["T-t"]) | INDICES).items()},
}
WIDE: Final = 33  # units: more than one of the usual blocks has, of which the largest is 32


class ReturnedGradientInquiry(BackwardStepInquiry):
    """The gradients that are returned."""

    def _own_term(self, role: str) -> str:
        """Return the term that a gradient is made of if nothing is wrong with it."""
        return DERIVATIVE if self.derived else RIGHT_GRADIENT_SUMS[role][0][0]

    def _solved(self, role: str, pairs: Pairs, names: Sequence[str] | None = None) -> StepTerms | None:
        """Return the coefficients of a gradient's terms by step, if some explain it: of as few terms as will do."""
        derivative = [DERIVATIVE] if self.derived else []
        columns = [*dict.fromkeys([*derivative, *terms_of_da(role, pairs[0][1])] if names is None else names)]
        system = self._system_back(role, pairs, columns)
        own = self._own_term(role)

        def fits(some: Collection[str]) -> StepTerms | None:
            return system.solved([name for name in columns if name in some], self.noise)

        if names is not None:
            by = fits(columns)
            if role == "hx" and by == {0: {}}:  # a gradient of 0 shows no coefficient of a term that is 0, too
                by[0] = {name: math.nan for name in columns if not system.columns[0][name].any()}
            return by
        for term in sorted(columns, key=lambda name: name != own):
            if (by := fits([term])) is not None:
                return by
        own_product = RIGHT_GRADIENT_SUMS[role][0][0]
        others = [masked(own_product, mask) for mask in GRADIENT_MASKS] if role == "weight_hh" else []
        for term in (*others, *ARRANGED_BACK.get(role, ())):
            if (by := self._system_back(role, pairs, [term]).solved([term], self.noise)) is not None:
                return by
        if (solution := fits(columns)) is None:
            return None
        T = len(solution)
        middle = {name for t, by in solution.items() if T // 2 <= t < T - 1 for name in by}
        if middle and (by := fits(middle)) is not None:
            return by
        several = [numbered] if role in STEP_PAIRS and (numbered := self._numbered(role, pairs)) else []
        several += [{first, second} for first in (own, *middle) for second in columns if first != second]
        return next((by for pair in several if (by := fits(pair)) is not None), solution)

    def _numbered(self, role: str, answers: Pairs) -> set[str]:
        """Return the one or two terms by which da of each step is paired with x, or h, of the step that it is."""
        of_x, indices, T = role == "weight_ih", STEP_PAIRS[role], answers[0][1].T
        pairs = [(t, k) for t in range(T) for k in range(0 if of_x else -1, T)]

        def column(pair: tuple[int, int]) -> Floats:
            read = [(f.back(f.da, pair[0]), f.input(pair[1]) if of_x else f.state(pair[1])) for _, f in answers]
            return np.concatenate([np.ravel(da.T @ v) for da, v in read])

        fit = solve(TermColumns(dict.fromkeys(pairs), column), self._given(role, answers), self.noise)
        fits = [{t for t, k in fit or () if index(t, T) == k} for index in indices.values()]
        named = [{product_of("da[t]", name) for name in some} for n in (1, 2) for some in combinations(indices, n)]
        steps = [set().union(*some) for n in (1, 2) for some in combinations(fits, n)]
        return next((some for some, at in zip(named, steps, strict=True) if fit and at == {*range(T)}), set())

    def _system_back(self, role: str, pairs: Pairs, names: Sequence[str]) -> LinearSystem:
        """Return the equations of a gradient: one system for all steps, or one for each step where it has steps."""
        steps = range(1 if role == "hx" else pairs[0][1].T)

        @cache
        def operands(line: Line, t: int) -> Floats:
            return np.stack([at_step(line, f, t) for _, f in pairs])

        def column(t: int, name: str) -> Floats:
            if name == DERIVATIVE:
                return np.concatenate([np.ravel(f.derivative[role][t]) for _, f in pairs])
            if (factored := factors(name)) is not None and role not in ("x", "hx"):  # one product for all cases
                left, right = factored
                row = operands(left, t)
                return np.ravel(row.sum(1) if right is None else row.swapaxes(1, 2) @ operands(right, t))
            value = partial(product, name) if role not in ("x", "hx") else (INPUT if role == "x" else START)[name].value
            return np.concatenate([np.ravel(value(f, t)) for _, f in pairs])

        columns = {t: TermColumns(names, partial(column, t)) for t in steps}
        if role == "x":
            gradients = [time_major(a.arrays["x.grad"], a.case.config) for a, _ in pairs]
            return LinearSystem(columns, {t: np.concatenate([g[t].ravel() for g in gradients]) for t in steps})
        y = self._given(role, pairs)
        return LinearSystem(columns, {0: y} if role == "hx" else y)

    def _is_right_chain(self) -> bool:
        pairs = self._back(SHORT_TIME, 26)
        self._chained(self.model, pairs)
        own = ((role, [RIGHT_GRADIENT_SUMS[role][0][0]]) for role in self.roles() if role != "hx" and pairs)
        return any((by := self._solved(role, pairs, names)) is not None and all(by.values()) for role, names in own)

    def _gradient_sums(self, model: LayerModel, most: int, roles: Sequence[str] = ()) -> tuple[LayerModel, list[str]]:
        """Return the model with the gradients, or some, that it explains, and the roles of those that it does not.

        Where these are more than ``most``, the rest is not looked at.
        """
        assert self._base is not None
        N = self._base["N"]
        roles, unknown = roles or self.roles(), list[str]()
        by_role: dict[str, list[StepCoefs]] = {role: [] for role in roles}
        earlier: list[Pairs] = []
        wide = {"N": 3 if N > 1 else 1, "input_size": 3, "hidden_size": 5}
        cases = [*((T, {}) for T in (SHORT_TIME, *LONG_TIMES)), (SHORT_TIME + 1, wide)]
        for i, (T, sizes) in enumerate(cases):
            pairs = self._back(T, 26 if i == 0 else 2 * T + 4, **sizes)
            if not pairs or (sizes and pairs[0][1].square):
                continue
            names = {role: used(by_role[role]) if by_role[role] else None for role in by_role}
            if sizes:
                names = {role: [n for n in terms or () if not needs_square(role, n)] for role, terms in names.items()}
            own = {role: [self._own_term(role)] for role in by_role}
            wanted = {role: terms for role, terms in (names if i else own).items() if role != "hx"}
            uncut = model
            model = self._cut(model, [*earlier, pairs], wanted) if i or self.cut_short else model
            if unknown and model != uncut and (uncut.passes, uncut.horizon) == (TermSteps(), 0):
                return self._gradient_sums(model, most, roles)  # what a short case did not explain, it may explain cut
            earlier.append(pairs)
            self._chained(model, pairs)
            solved = self._all_solved(model, pairs, by_role, names, again=i > 0 and not sizes)
            some = any(by is not None for by in solved.values())  # else the chain is wrong
            for role, by in solved.items():
                if by is not None:
                    by_role[role].append((pairs[0][1], by))
                elif not sizes:
                    unknown.append(role)
                    del by_role[role]
                elif role != "hx" and some and (others := self._of_any_size(role, earlier)) is not None:
                    by_role[role] = others
            if len(unknown) > most or not by_role:
                return model, unknown
        # A gradient that is not known may count the steps that the others leave out.
        return self._gathered(model if unknown else self._reached(model, by_role), by_role, unknown)

    def _of_any_size(self, role: str, batches: Sequence[Pairs]) -> list[StepCoefs] | None:
        """Return the coefficients of the terms that explain the last cases, whose sizes differ, if they explain all.

        Where input_size is hidden_size, another term may be equal.
        """
        if (by := self._solved(role, batches[-1])) is None:
            return None
        solved = [(pairs[0][1], self._solved(role, pairs, used([(pairs[0][1], by)]))) for pairs in batches]
        return [(f, coefs) for f, coefs in solved if coefs is not None] if all(coefs for _, coefs in solved) else None

    def _all_solved(
        self,
        model: LayerModel,
        pairs: Pairs,
        by_role: Mapping[str, Sequence[StepCoefs]],
        names: Mapping[str, Sequence[str] | None],
        *,
        again: bool,
    ) -> dict[str, StepTerms | None]:
        """Return the coefficients of each gradient by step, of the terms named, or ``again`` of all; hx's comes last.

        Where no gradient is made of the terms named, the chain is wrong, and others are not tried.
        """
        solved = {role: self._solved(role, pairs, names[role]) for role in by_role if role != "hx"}
        again = again and any(by is not None for by in solved.values())
        solved |= {role: self._solved(role, pairs) for role, by in solved.items() if by is None and again}
        if "hx" in by_role:  # the first step that is reached; which ones they are, only several lengths tell
            so_far = {role: [*by_role[role], (pairs[0][1], by)] for role, by in solved.items() if by is not None}
            self._chained(self._reached(model, so_far), pairs)
            by = self._solved("hx", pairs, names["hx"])
            solved["hx"] = self._solved("hx", pairs) if by is None and again else by
        return solved

    def _gathered(
        self, model: LayerModel, by_role: Mapping[str, Sequence[StepCoefs]], unknown: list[str]
    ) -> tuple[LayerModel, list[str]]:
        """Return a model with the gradients of coefficients that follow a pattern, and the roles of the others."""
        gradient_sums: dict[str, WeightedTerms] = {}
        for role, steps in by_role.items():
            of_steps = [(f, {t: by for t, by in at.items() if model.reached.at(t, f.T)}) for f, at in steps]
            terms = gathered_at_start(steps, self.noise) if role == "hx" else gathered(of_steps, self.noise)
            if terms is None:
                unknown.append(role)
            elif self.derived or terms != replace(model, gradient_sums={}).readout(role):
                gradient_sums[role] = terms
        model = replace(model, gradient_sums=gradient_sums)
        if self.derived:
            return model, unknown
        # in long sequences, the first step is not reached, or does not pass anything on
        cut = [how for how, when in (("reached", model.reached), ("passed", model.passes)) if when != TermSteps()]
        if cut and (gradient_sums.get("hx") == () or "hx" in unknown):
            pairs = [pair for T in (1, 2, SHORT_TIME, *LONG_TIMES) for pair in self._back(T, 1)]
            sums = (gradient_sums | {"hx": ((f"da[0] @ W_hh, if {how}", ONE),)} for how in cut)
            several = (replace(model, gradient_sums=some) for some in sums)
            right = next((some for some in several if "hx" not in self._differing(some, pairs)), None)
            return (model, unknown) if right is None else (right, [role for role in unknown if role != "hx"])
        return model, unknown

    def _cut(
        self, model: LayerModel, batches: Sequence[Pairs], names: Mapping[str, Sequence[str] | None]
    ) -> LayerModel:
        """Return the model with the steps between which a long way back is cut, if it is."""

        def explained(candidate: LayerModel, pairs: Pairs) -> bool:
            self._chained(candidate, pairs)
            return any(self._solved(role, pairs, terms) is not None for role, terms in names.items())

        if self.derived or not model.links or not names or explained(model, batches[-1]):
            return model
        steps = [TermSteps("but every", k) for k in range(2, LONG_TIMES[-1])]
        for k in range(1, LONG_TIMES[-1]) if self.cut_short else ():
            steps += [TermSteps("but every from the end", k)] if k > 1 else []
            steps += [TermSteps(kind, k) for kind in ("but last but", "from", "but last", "first", "last")]
        cut = [replace(model, passes=when) for when in steps]
        cut += [replace(model, horizon=k) for k in range(1, LONG_TIMES[-1])]  # of which each takes T times as long
        return next((candidate for candidate in cut if all(explained(candidate, pairs) for pairs in batches)), model)

    def _reached(self, model: LayerModel, by_role: Mapping[str, Sequence[StepCoefs]]) -> LayerModel:
        """Say of steps that count in no gradient that the way back does not reach them."""
        if self.derived or model.reached != TermSteps():
            return model
        counted: dict[tuple[int, int], bool] = {}
        for role, steps in by_role.items():
            for f, at in steps if role != "hx" else ():
                for t, by in at.items():
                    shown = [c for c in by.values() if not math.isnan(c)]
                    if shown or not by:
                        counted[f.T, t] = counted.get((f.T, t), False) or bool(shown)
        if not counted or all(counted.values()):
            return model
        hits = [(T, t, hit) for (T, t), hit in counted.items()]
        return replace(model, reached=fitting_pattern(hits) or TermSteps())

    def _counted(self) -> TermSteps:
        """Return the steps whose output's gradient counts, as each alone shows."""
        hits = []
        for T in (SHORT_TIME, 7) if self.asker.losses[0] != "h_n" else ():
            for t in range(T):
                answers = self.answers(T, 1, loss=self.asker.losses[0], at=(t,), **self.alone)
                arrays = [array for a in answers for n, array in a.arrays.items() if role_of(n) in RIGHT_GRADIENT_SUMS]
                hits.append((T, t, any(array.any() for array in arrays)))
        if hits and not any(hit for *_, hit in hits):
            return TermSteps("never")
        return fitting_pattern(hits) or TermSteps()

    def _find_kink(self) -> None:
        """Find the slope of relu where the sum is exactly 0, which generic numbers never are."""
        if self.asker.nonlinearity != "relu" or self.model.activation is not None or self.found.unknown:
            return
        answers = self.answers(2, 1, loss=self.loss, zero=("x", "hx", "bias"))
        models = [replace(self.model, at_kink=slope) for slope in (0.0, 0.5, 1.0)] if answers else []
        self.model = next((model for model in models if self._gives(model, answers)), self.model)

    def _entered(self, model: LayerModel, unknown: list[str]) -> tuple[LayerModel, list[str]]:
        """Return a model with the steps at which the gradient of h_n enters, and what is unknown of it."""
        loss: dict[str, Any] = {"loss": "h_n"}
        if "h_n" not in self.asker.losses:
            loss = {"loss": "both", "zero": ("output.grad", "readout.grad")}
        self.found.unknown = unknown
        known = [role for role in self.roles() if role not in unknown]
        if loss["loss"] not in self.asker.losses or not known:
            return model, unknown
        batches = [self._pairs(self.answers(T, 3, scale=1e-2, **loss)) for T in (SHORT_TIME, self.asker.long[0], 1, 2)]
        batches += [self._pairs(self.answers(SHORT_TIME, 2, loss="both"))] if "both" in self.asker.losses else []
        batches = [pairs for pairs in batches if pairs]
        last = Coef(when=TermSteps("last", 1))
        simple = [(FinalStateGradientEntry(how, last),) for how in ("g", "passed", "instead")]
        several = [entry for entry in (*simple, self._entry(model, batches[:2])) if entry is not None]
        right = self._first_right((replace(model, entry=entry) for entry in several), *batches)
        if right is None:
            return model, [*unknown, ENTRY]
        # Where none enters and the last steps do not count, the way back does not reach these.
        if right.entry == () and right.counted.kind == "but last" and right.reached == TermSteps():
            right = replace(right, reached=right.counted, counted=TermSteps(), entry=LayerModel().entry)
        return right, unknown

    def _find_tiles(self) -> None:
        """Find what is left out of a gradient where it is too wide for a single block."""
        pairs = self._back(2, 1, input_size=WIDE, hidden_size=WIDE)
        if not (wrong := self._differing(self.model, pairs)):
            return
        own, sums = RIGHT_GRADIENT_SUMS["weight_hh"], self.model.gradient_sums
        masks = GRADIENT_MASKS if self.model.readout("weight_hh") == own else ()
        several = ({**sums, "weight_hh": ((masked(own[0][0], mask), ONE),)} for mask in masks)
        right = self._first_right((replace(self.model, gradient_sums=some) for some in several), pairs)
        self.model = right or self.model
        self.found.unknown += [] if right else wrong

    def _find_periods(self) -> None:
        """Find what the way back leaves out at some steps of long cases, and of no shorter ones."""
        pairs = self._back(self.asker.long[-1], 2) if self.asker.periods else ()
        if wrong := self._differing(self.model, pairs):
            right = self._first_right(self._periodic(), pairs)
            self.model = right or self.model
            self.found.unknown += [] if right else wrong

    def _periodic(self) -> Iterator[LayerModel]:
        """Yield the model with what is left out after so many steps as only long cases have."""
        model, hx = self.model, self.model.gradient_sums.get("hx")
        for k, kind in pairs_of(self.asker.periods, PATTERNS):
            when = TermSteps(kind, k)
            for name in ("passes", "reached"):
                if getattr(model, name) == TermSteps():
                    changed: dict[str, Any] = {name: when}
                    candidate = replace(model, **changed)
                    yield candidate
                    for how in ("reached", "passed") if hx is None else ():
                        term = (f"da[0] @ W_hh, if {how}", ONE)
                        yield replace(candidate, gradient_sums={**model.gradient_sums, "hx": (term,)})
            for role in self.roles():
                terms = tuple((name, coef._replace(when=when)) for name, coef in model.readout(role))
                yield replace(model, gradient_sums={**model.gradient_sums, role: terms})
        yield from (replace(model, horizon=k) for k in self.asker.periods)

    def _entry(self, model: LayerModel, batches: Sequence[Pairs]) -> tuple[FinalStateGradientEntry, ...] | None:
        """Return the entries by which h_n's gradient makes up all others, if there are some."""
        solved = []
        for pairs in batches:
            T = pairs[0][1].T
            columns: dict[int, dict[str, Floats]] = {t: {} for t in range(T)}
            for how, t in pairs_of(("g", "passed"), range(T)):
                candidate = replace(model, entry=(FinalStateGradientEntry(how, Coef(when=TermSteps("only", t))),))
                columns[t][how] = self._all([self._expected(candidate, a) for a, _ in pairs])
            system = LinearSystem(columns, self._all([a.arrays for a, _ in pairs]))
            if (by := system.solved(("g", "passed"), self.noise)) is None:
                return None
            solved.append((pairs[0][1], by))
        terms = gathered(solved, self.noise)
        return None if terms is None else tuple(FinalStateGradientEntry(how, coef) for how, coef in terms)

    def _all(self, several: Sequence[Mapping[str, Floats]]) -> Floats:
        """Return all known gradients of some answers, one after the other."""
        roles = [role for role in self.roles() if role not in self.found.unknown]
        return np.concatenate([self._gradient(role, arrays).ravel() for arrays in several for role in roles])


def terms_of_da(role: str, f: LayerTrace) -> list[str]:
    """Return the terms of a role's gradient that a trace can have, each made of the gradients by its sums."""
    if role in ("x", "hx"):
        table = INPUT if role == "x" else START
        return [n for n, term in table.items() if n not in ARRANGED_BACK[role] and (f.square or not term.square)]
    if role.startswith("bias"):
        every = [*map(row_sum, LEFT), *map(over_units, ("da[t]", "g[t]"))]
        every += [of_sequence(n, "da[t]") for n in (0, -1)] if f.N > 1 else []
        return [*every, "b_ih" if role == "bias_ih" else "b_hh"]
    x, h = (
        [name for name in RIGHT_TERMS if not needs_square(of, product_of("da[t]", name))]
        for of in ("weight_ih", "weight_hh")
    )
    plain, others, own = (x, h, "x[t]") if role == "weight_ih" else (h, x, "h[t-1]")
    rights = [*dict.fromkeys([own, *plain, *(others if f.square else ())])]
    products = [product_of("da[t]", right) for right in rights]
    terms = [*products, *(product_of(left, own) for left in LEFT if left != "da[t]")]
    terms += [*(of_sequence(n, "da[t]", own) for n in (0, -1)), of_sums("da[t]", own)] if f.N > 1 else []
    terms += [by_last_read(own), "W_ih" if role == "weight_ih" else "W_hh"]
    return [*terms, *map(transposed, products[:3])] if f.square or role == "weight_hh" else terms
