"""step: the sum of a step, its activation, what is added to that, and what of it is returned."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cache, partial
from itertools import combinations, product
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.activations import ACTIVATIONS, Activation, recognised
from harness.diagnosis.identify.coefficient_patterns import LinearSystem, gathered, used
from harness.diagnosis.identify.fit import EQUATIONS_AN_UNKNOWN, TermColumns, plainest, solve
from harness.diagnosis.identify.inquiry import LARGE_WEIGHTS, SHORT_TIME, SQUARE, Inquiry, fresh_answers
from harness.diagnosis.identify.layer import FINAL_STATES, forward, total
from harness.diagnosis.identify.model import (
    COUNT_KINDS,
    ONE,
    RIGHT_NETWORK,
    BlankStep,
    Coef,
    Extent,
    LayerModel,
    Network,
    WeightedTerms,
    in_order,
)
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.questions import LONG_TIMES
from harness.diagnosis.identify.step_patterns import TermSteps, fitting_pattern
from harness.diagnosis.identify.terms import (
    ACTIVATION_TERMS,
    ADDED_TERMS,
    ARRANGED_TERMS,
    GENERAL,
    OTHER_STEP_TERMS,
    OTHER_STEPS,
    OVER_TIME,
    SEQUENCE_STARTS,
    STATES_RETURNED,
    STEP_TERMS,
    WHERE_N_IS_H,
    LayerTrace,
    Term,
    read_of,
)
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np

FROM_FIRST: Final = {"x[0] @ W_ih.T": "x[t] @ W_ih.T", "hx @ W_hh.T": "h[t-1] @ W_hh.T"}
SHARE: Final = 0.5  # of the equations of a sum that relu leaves


# Sums at which an activation is measured: ordinary and large ones first, which tell whether it is nn.RNN's.
ACTIVATION_SUMS: Final = (
    np.array([0.31, -0.43, 0.87, -0.79, 1.3, -1.7, 2.9, -3.1, 5.3, -4.7, 11.0, -13.0, 43.0, -37.0, 210.0, -190.0]),
    np.linspace(-0.97, 0.99, 16),
    np.linspace(-0.92, 0.93, 16),
    np.array([-8.1, -7.2, -6.3, -5.2, -4.1, -3.6, -2.7, -2.3, -1.9, -1.2, 1.1, 1.6, 2.2, 2.6, 3.3, 3.9]),
    np.array([-2.1, -1.45, -1.05, 1.02, 1.4, 1.8, 2.05, 2.45, 3.05, 4.6, 5.1, 5.9, 6.1, 6.7, 7.3, 8.3]),
)
SMALL_SUMS: Final = np.geomspace(2.0**-12, 2.0**-3, 16)  # whose states may be set to 0; in float16, they are normal
USUAL_SUMS: Final = np.linspace(-0.4, 0.4, 9)  # sums of most cases: where an activation is constant, they show nothing
SUM_SIZES: Final = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 63, 64, 65, 67)  # around the usual blocks
OTHER_FUNCTIONS: Final = tuple(ACTIVATIONS[name] for name in ("identity", "tanh", "relu"))  # of single steps
FEW_MISTAKES: Final = 2  # mistakes of a form, with which no plainer one is looked for
MIDDLE: Final = 7  # another T: with the others, two at least have a rest of blocks of 3 to 8 steps, and not the same
MOST_COMMON_TERMS: Final = 3  # the terms that one factor has in common if it is the sum's


# Traces, and the coefficients of each step's terms.
TraceCoefficients = list[tuple[LayerTrace, dict[int, dict[str, float]]]]
Kinds = Sequence[tuple[Activation, float]]  # what may be the activation, each with its factor
Cases = Sequence[Sequence[LayerTrace]]  # traces by the sizes of their cases
System = tuple[TermColumns[str], Floats]  # the columns of a step's terms, and what they add up to


class StepForm(NamedTuple):
    """The form of a step: its activation, what multiplies that and is added to it, and what of it is returned."""

    kind: Activation
    factor: float = 1.0
    added: WeightedTerms = ()
    visited: TermSteps = TermSteps()
    written: str = "h[t]"
    shown: TermSteps = TermSteps()
    terms: tuple[str, ...] = ()  # the only ones of its sum, if given
    shorter: str = ""  # the array of shorter runs that shows the states, as ``Asker`` has it, if the output does not


class StepInquiry(Inquiry):
    """The way forward."""

    def _step(self) -> bool:
        """Find the step, its activation, what is added to that, and what of it is returned."""
        assert self._base is not None
        kinds = self._kinds()
        if len(kinds) == 1 and self._is_coarse():
            self.found.coarse = True
            return False
        self.weights = 1.0 if np.ptp(kinds[0][0].value(USUAL_SUMS)) else self._shown_by()
        terms = [term for term in GENERAL.values() if self.place != (0, 0) or not term.other]
        several = math.ceil(len(terms) * EQUATIONS_AN_UNKNOWN / SHARE / (self._base["N"] * SQUARE)) + 2
        sizes = [*((T, {}) for T in (SHORT_TIME, MIDDLE, *self.asker.long)), (SHORT_TIME, self._wide)]

        @cache
        def cases(_shorter: str, *, positive: bool = False) -> list[list[LayerTrace]]:
            every = [self._observed(T, several, positive=positive, **wide) for T, wide in sizes]
            every = every if every[-1] and not every[-1][0].square else every[:-1]
            return [traces for traces in every if traces and traces[0].out]

        if not cases(self.asker.shorter):
            return False
        first: LayerModel | None = None
        fits: list[tuple[int, LayerModel, str]] = []  # with the number of mistakes, of which two are nearly always few
        for form in self._forms(kinds, cases(self.asker.shorter)):
            self.asker.shorter = form.shorter
            model = self._formed(form, cases(form.shorter, positive=form.kind.positive))
            if model is not None and (final := self._final(model)) is not None:
                model = replace(model, final=final)
                if self._holds(model):
                    model = self._shortened(model)
                    number = len(mistakes_of(Network(model), self.asker.nonlinearity))
                    fits.append((number, model, form.shorter))
                    if number <= FEW_MISTAKES:
                        break
            first = first or model
        if fits:
            beyond = fits if len(fits) == 1 else [fit for fit in fits if self._holds_beyond(*fit[1:])]
            _, self.model, self.asker.shorter = min(beyond or fits, key=lambda fit: fit[0])
            self._find_tied()
            self._find_blank()
            return True
        self.asker.shorter = ""
        self.model = first or self.model
        return first is not None

    def _is_coarse(self) -> bool:
        """Tell whether the activation, and short cases, are nn.RNN's but for some roundings of the coarsest dtype.

        An activation that is another one by a formula, as an approximation of nn.RNN's is, was found before.
        """
        s, h = self._table(ACTIVATION_SUMS[:1], "x")
        return not _is(self._nonlinearity, s, h, self.noise) and self._is_only_coarse(RIGHT_NETWORK)

    def _shown_by(self) -> float:
        """Return the least weights with which so many states are not 0 as the equations of a sum are counted on."""

        def share(weights: float) -> float:
            states = [a.steps for a in self.answers(SHORT_TIME, 4, weights=weights) if a.steps is not None]
            return float(np.mean(np.stack(states) != 0)) if states else 0.0

        return next((weights for weights in (2.0, 3.0, 4.0, 5.0, 6.0, 8.0) if share(weights) >= SHARE), LARGE_WEIGHTS)

    def _forms(self, kinds: Kinds, cases: Cases) -> Iterator[StepForm]:
        """Yield the forms that a step may have, the plainest first."""
        readings = list[StepForm]()
        for reading in self._readings(kinds, cases):
            readings.append(reading)
            yield reading
        for reading in readings:
            self.asker.shorter = reading.shorter
            if reading.written == "h[t-1]" and not reading.shorter:
                continue  # of a single step it shows nothing
            if terms := self._arranged(reading):
                yield reading._replace(terms=terms)
        for shorter in dict.fromkeys(reading.shorter for reading in readings):
            self.asker.shorter = shorter
            outsides = [*self._outsides()]
            every = [r for r in readings if r.shorter == shorter and r.visited == TermSteps()]
            for reading in [r for r in every if shorter or r.written == "h[t]"]:
                for (factor, added), kind in product(outsides, (reading.kind, ACTIVATIONS["identity"])):
                    yield reading._replace(kind=kind, factor=factor, added=added)

    def _readings(self, kinds: Kinds, cases: Cases) -> Iterator[StepForm]:
        """Yield the forms of nn.RNN's terms: what may be the activation, and what is returned of each step."""
        if all((np.asarray(f.raw[0]) == f.given_hx).all() for traces in cases for f in traces):
            yield from (StepForm(kind, factor, written="h[t-1]") for kind, factor in self._kinds_by("h_n"))
        plain = [StepForm(kind, factor) for kind, factor in kinds]
        sums = [StepForm(kind, written="s[t]") for kind in self._kinds_of_sums(kinds)]
        yield from (*sums, *plain) if plain[0].kind == ACTIVATIONS["identity"] else (*plain, *sums)
        if (visited := self._visited(cases)) is not None:
            for kind, factor in kinds:
                yield StepForm(kind, factor, visited=visited)
        yield StepForm(self._nonlinearity, written="phi(h[t])")
        yield StepForm(kinds[0][0], written="h[T-1-t]")
        for by in ("h_n", "output"):
            for written, shown in list(self._writings(by)):
                for kind, factor in self._kinds_by(by):
                    yield StepForm(kind, factor, written=written, shown=shown, shorter=by)

    def _kinds_of_sums(self, kinds: Kinds) -> list[Activation]:
        """Return what may be the activation if the sums are returned: the output has none, and h_n shows which."""
        if self.place != (0, 0):
            return [self._nonlinearity]
        if all(kind != ACTIVATIONS["identity"] for kind, _ in kinds):
            return []
        return [kind for kind, factor in self._kinds_by("h_n") if kind != ACTIVATIONS["identity"] and factor == 1]

    def _kinds_by(self, by: str) -> Kinds:
        """Return what may be the activation, by the array of shorter runs that shows the states."""
        if not any(by in a.arrays for a in self.answers(1, 1)):
            return [(self._nonlinearity, 1.0)]
        self.asker.shorter = by
        kinds = self._kinds()
        self.asker.shorter = ""
        return kinds

    def _shortened(self, model: LayerModel) -> LayerModel:
        """Return a model in fewer words, if it gives the same.

        Several terms of x or h may be one with a matrix that is read otherwise. Where each step reads x[0] and hx, and
        only the last one is returned, that is the first step.
        """
        if {"x[0] @ W_ih.T", "hx @ W_hh.T"} <= {name for name, _ in model.step}:
            step = tuple((FROM_FIRST.get(name, name), coef) for name, coef in model.step)
            if self._holds(plainer := replace(model, step=in_order(step), final="h[0]")):
                return plainer
        for right in ("x[t] @ W_ih.T", "h[t-1] @ W_hh.T"):
            rest = tuple(term for term in model.step if not _of_part(right, term[0]))
            for name in ARRANGED_TERMS if len(model.step) - len(rest) > 1 else ():
                plainer = replace(model, step=in_order((*rest, (name, ONE))))
                if _of_part(right, name) and self._holds(plainer):
                    return plainer
        return model

    def _holds(self, model: LayerModel) -> bool:
        """Tell whether a model gives what is returned where no two sizes are equal, and in a long case."""
        answers = [*self.answers(SHORT_TIME, 1, **self._wide), *self.answers(self.asker.long[-1], 1)]
        return self._gives(model, answers)

    def _holds_beyond(self, model: LayerModel, shorter: str) -> bool:
        """Tell whether a model gives what is returned of large numbers, too, which a limit cuts off."""
        self.asker.shorter = shorter
        return self._gives(model, fresh_answers(self.asker, (None,), **self._stack))

    @property
    def _wide(self) -> dict[str, Any]:
        """The sizes of cases in which no two are equal."""
        assert self._base is not None
        N = self._base["N"]
        return {"N": N + 1 if N > 1 else 1, "input_size": self.size - 1, "hidden_size": self.size + 1}

    def _arranged(self, form: StepForm) -> tuple[str, ...]:
        """Return the terms of a step by what x, hx and the biases each make alone; none if one of these is no term."""
        terms: list[str] = []
        for part, zero in (("x", ("hx", "bias")), ("h", ("x", "bias")), ("b", ("x", "hx"))):
            traces = self._observed(1, 8, zero=zero, positive=form.kind.positive, **self._wide)
            if not traces or not traces[0].out or (part == "h" and not (self._base or {}).get("hx")):
                continue
            self._read(traces, form)
            names = {n: None for n in (*GENERAL, *ARRANGED_TERMS) if STEP_TERMS[n].fits(traces[0]) and n != "1"}
            own = [name for name, _ in LayerModel().step if name.startswith(part)]
            system = self._system(traces, form, names, 0)
            some = [own, *([name] for name in names if part != "b"), [name for name in names if name.startswith("b_")]]
            fits = (solve({name: system[0][name] for name in group}, system[1], self.noise) for group in some if system)
            terms += next((by for by in fits if by is not None), {})
            terms += own if part == "h" else []  # what is made of hx may be the start's
        return tuple(dict.fromkeys(terms)) if terms else ()

    def _find_extents(self) -> None:
        """Find how much of each axis counts, by unit matrices, and sequences, of many sizes."""
        extents: dict[str, Extent] = {}
        for axis, through in (("inputs", "x"), ("states", "hx"), ("units", "bias_ih_l0"), ("sequences", "")):
            reached = partial(self._reaches, through)
            if (axis == "units" and not extents) or len({*(mask := reached(SUM_SIZES[-1])).tolist()}) < len((0, 1)):
                continue
            masks = [mask, *map(reached, SUM_SIZES[:-1])]
            several = (Extent(axis, kind, k) for k in range(1, SUM_SIZES[-1]) for kind in COUNT_KINDS)
            fits = (choice for choice in several if all(np.array_equal(choice.mask(len(mask)), mask) for mask in masks))
            if (extent := next(fits, None)) is not None:
                extents[axis] = extent
        if "units" not in extents and "inputs" in extents and extents["inputs"][1:] == extents.get("states", (0,))[1:]:
            extents["units"] = extents["inputs"]._replace(axis="units")
        if "units" in extents:
            extents = {axis: ext for axis, ext in extents.items() if ext[1:] != extents["units"][1:] or axis == "units"}
        self.model = replace(self.model, extents=tuple(extents.values()))
        if "sequences" in extents:
            self._base = self._shape(extents["sequences"].least)

    def _reaches(self, through: str, size: int) -> Floats:
        """Return 1 for units, or sequences, that one number each makes other than 0; for all if there are too few."""
        table = self.asker.unit(np.linspace(0.6, 1.9, size), through) if through else self.asker.sequences(size)
        values = table[1] if isinstance(table, tuple) else table
        return np.ones(size) if values is None or len(values) < size else (values != 0) * 1.0

    def _visited(self, cases: Cases) -> TermSteps | None:
        """Return the steps whose output is not 0, if others are, and they follow a pattern."""
        hits = [(f.T, t, bool(f.raw[t].any())) for traces in cases for f in traces[:1] for t in range(f.T)]
        return None if all(hit for *_, hit in hits) else fitting_pattern(hits)

    def _writings(self, by: str) -> Iterator[tuple[str, TermSteps]]:
        """Yield which state is returned of each step, if it is not that step's, by those that end shorter runs.

        Then such states are what is read of the subject from there on.
        """
        if self.place != (0, 0):
            return
        self.asker.shorter = by
        rows: list[tuple[int, int, list[int]]] = []  # T, t, and the steps with that state; none if all is 0
        for a in [a for T in (SHORT_TIME, *self.asker.long) for a in self.answers(T, 1)]:
            if a.returned is None or a.shorter is None:
                return
            [f] = self._traces([a])
            states = {-1: f.given_hx, **dict(enumerate(a.shorter))}
            for t, o in enumerate(a.returned):
                alike = [k for k, h in states.items() if np.abs(h - o).max() <= 64 * self.noise]
                if o.any() and not alike:
                    return
                rows.append((f.T, t, alike if o.any() else []))
        shown = fitting_pattern([(T, t, bool(alike)) for T, t, alike in rows])
        if shown is None or not any(len(alike) == 1 for T, _, alike in rows if T > 1):  # all states may be the same
            return
        ways: dict[tuple[int, ...], str] = {}  # by the steps, of which several may be the same in short sequences
        for written, index in STATES_RETURNED.items():
            if written not in ("s[t]", "phi(h[t])") and all(index(t, T) in alike for T, t, alike in rows if alike):
                ways.setdefault(tuple(index(t, T) for T, t, alike in rows if alike), written)
        yield from ((written, shown) for written in ways.values() if (written, shown) != ("h[t]", TermSteps()))

    @property
    def _nonlinearity(self) -> Activation:
        return Activation(self.asker.nonlinearity)

    def _kinds(self) -> Kinds:
        """Return what may be the activation, with its factor: at least that of the first layer.

        With unit matrices, and nothing beside x, the sum of the first step is x, whatever is wrong with it otherwise.
        Large numbers show where a function is cut off.
        """
        own = self.network.first.activation or self._nonlinearity
        for through in ("hx",) if self.place[0] else ("x", "hx"):  # what a layer above reads is not free
            s, h = self._table(ACTIVATION_SUMS[:1], through)
            if s.size and np.ptp(h):
                if _is(own, s, h, self.noise):
                    return [(own._replace(dead_zone=self._dead_zone(own, through)), 1.0)]
                if kinds := recognised(*self._table(ACTIVATION_SUMS, through), self.noise):
                    return [*kinds, (own, 1.0)]
        return [(own, 1.0)]

    def _dead_zone(self, own: Activation, through: str) -> float:
        """Return how far from 0 states begin; 0 if those of small sums are returned."""
        s, low, high, own = SMALL_SUMS, 0.0, math.inf, own._replace(dead_zone=0.0)
        for _ in range(6):  # the first finds a factor of 1.5, and each further one takes its 17th root
            s, h = self._table([s], through)
            right = np.abs(own.value(s))
            low = max(low, right[h == 0].max(initial=0))
            high = min(high, right[h != 0].min(initial=math.inf))
            if not 0 < low < high < math.inf:
                return 0.0
            s = own.inverse(np.geomspace(low, high, 18)[1:-1])[0]
        plain = (float(f"{high:.{digits}g}") for digits in range(1, 9))
        return next((value for value in plain if low < value <= high * (1 + 1e-9)), high)

    def _table(self, rows: Sequence[Floats], through: str) -> tuple[Floats, Floats]:
        """Return values of s, and of what a single step makes of each."""
        pairs = [pair for row in rows if (pair := self.asker.unit(row, through, self.place, **self._stack)) is not None]
        if not pairs:
            return np.zeros(0), np.zeros(0)
        s, h = (np.concatenate(values) for values in zip(*pairs, strict=True))
        finite = np.isfinite(h)
        return s[finite], h[finite]

    def _formed(self, form: StepForm, cases: Cases) -> LayerModel | None:
        """Return the model whose step has a form, if there is one."""
        every: TraceCoefficients = []
        all_terms: dict[str, Any] = {name: STEP_TERMS[name] for name in form.terms} or dict(GENERAL)
        terms = all_terms
        for traces in cases:
            if form.written == "h[t-1]" and not self.asker.shorter:
                traces = [_ended_before(f) for f in traces if f.T > 1]
            self._read(traces, form)
            # a step that no case has had so far may have others
            others = [all_terms] if every and LONG_TIMES[-1] < traces[0].T else []
            for some, numbered in ((terms, False), *((choice, False) for choice in others), (terms, True)):
                fits = {name: term for name, term in some.items() if term.fits(traces[0])}
                if (by := self._steps(traces, form, fits, numbered=numbered)) is not None:
                    break
            if by is None and not every:
                return None
            if by is not None:
                every.append((traces[0], by))
                terms = {name: term for name, term in terms.items() if name in used(every)}
        every = _indexed(every)
        if not {*used(every)} <= STEP_TERMS.keys():  # other steps that follow no index
            return None
        step, otherwise = gathered(every, self.noise), self._otherwise(every)
        if step is None or otherwise is None:
            return None
        [(inside, times)] = Counter(coef.value for _, coef in step if not coef.scale).most_common(1) or [(1.0, 0)]
        if times >= MOST_COMMON_TERMS:  # the argument as a whole is scaled
            step = tuple((name, coef._replace(value=coef.value / inside)) for name, coef in step)
        return replace(
            self.model,
            activation=None if form.kind == self._nonlinearity else form.kind,
            inside=inside if times >= MOST_COMMON_TERMS else 1.0,
            otherwise=otherwise,
            step=in_order(step),
            added=form.added,
            activated=form.factor,
            start=every[0][0].start,
            visited=form.visited,
            written=form.written,
            shown=form.shown,
        )

    def _read(self, traces: Sequence[LayerTrace], form: StepForm) -> None:
        """Give traces the states that a form says were returned."""
        for f in traces:
            f.hx = f.given_hx
            turned = form.written == "h[T-1-t]" and not self.asker.shorter
            f.out = dict(enumerate(reversed(f.raw) if turned else f.raw))
            if form.written == "phi(h[t])":
                f.out = {t: form.kind.inverse(o)[0] for t, o in f.out.items()}
            f.h = {t: form.kind.of(o) if form.written == "s[t]" else o for t, o in f.out.items()}
            for t in range(f.T):
                f.h[t] = f.h[t] if form.visited.at(t, f.T) else f.state(t - 1)

    def _otherwise(self, every: Sequence[tuple[LayerTrace, Any]]) -> tuple[tuple[Activation, TermSteps], ...] | None:
        """Return the other activations of some steps, as ``_steps`` noted them; ``None`` if they follow no pattern."""
        kinds = dict.fromkeys(kind for f, _ in every for kind in f.kinds.values())
        pairs = []
        for kind in kinds:
            hits = [(f.T, t, f.kinds.get(t) == kind) for f, by in every for t in by]
            when = fitting_pattern(hits)
            if when is None or when == TermSteps():  # at every step: that is another form
                return None
            pairs.append((kind, when))
        return tuple(pairs)

    def _observed(self, T: int, number: int, **factors: Any) -> list[LayerTrace]:
        return self._traces(self.answers(T, number, **factors))

    def _outsides(self) -> Iterator[tuple[float, WeightedTerms]]:
        """Yield what may stand outside of the activation: its factor, and what is added to it."""
        yield 1.0, ()
        own = tuple(self._name(role).removesuffix(".grad") for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        traces = self._observed(SHORT_TIME, 8, zero=own)
        coefs: dict[str, float] = {}
        rows = [(f, t) for f in traces for t in range(1, f.T)]  # the first step may read another state than hx
        if rows and traces[0].out:
            terms = {name: term for name, term in ADDED_TERMS.items() if term.fits(traces[0])}
            columns = {n: np.concatenate([_filled(term.value(f, t), f) for f, t in rows]) for n, term in terms.items()}
            coefs = solve(columns, np.concatenate([f.out[t].ravel() for f, t in rows]), self.noise) or {}
        coefs = {name: plainest(c, self.noise) for name, c in coefs.items() if name != "1"}
        base = tuple((name, Coef(c)) for name, c in coefs.items())
        factors = dict.fromkeys([1.0, *(plainest(1 - c, self.noise) for c in coefs.values())])
        beside = [(name, ONE) for name in ("b_hh", "b_ih", "h[t-1] @ W_hh.T", "x[t] @ W_ih.T")]
        several = (some for count in range(5) for some in combinations(beside, count) if count or base)
        yield from ((factor, (*base, *some)) for some in several for factor in factors)

    def _steps(
        self, traces: Sequence[LayerTrace], form: StepForm, terms: Mapping[str, Any], *, numbered: bool = False
    ) -> dict[int, dict[str, float]] | None:
        """Return the coefficients of the terms of each step's sum; ``None`` if there are none.

        With ``numbered``, a step may read others by their numbers.
        """
        kind = form.kind
        coefs: dict[int, dict[str, float]] = {}
        columns: dict[int, TermColumns[str]] = {}
        ys: dict[int, Floats] = {}
        traces[0].kinds, traces[0].start = {}, "hx"
        own = [name for name, _ in LayerModel().step]
        likely = own, [*own, *OVER_TIME]
        steps = [t for t in range(traces[0].T) if form.visited.at(t, traces[0].T)]
        ends = (0, traces[0].T - 1)
        for t in sorted(steps, key=lambda t: (t in ends, -t)):  # those that rule most out first
            others = [function for function in OTHER_FUNCTIONS if function != kind and t in ends]
            for activation in (kind, *others):
                system = self._system(traces, form._replace(kind=activation), terms, t)
                by = None if system is None else solve(*system, self.noise, *likely)
                if system is not None and by is not None:
                    (columns[t], ys[t]), coefs[t] = system, by
                    traces[0].kinds |= {} if activation == kind else {t: activation}
                    break
            else:
                by_number = self._of_other_step(traces, form, t) if numbered else None
                if by_number is not None:
                    coefs[t] = by_number
                elif t > steps[0]:
                    return None
        if not steps:
            return None
        if coefs.keys() - columns.keys():  # of other steps, each by its number, or else of none
            read = {name for by in coefs.values() for name in by}.difference(own)
            return dict(sorted(coefs.items())) if steps[0] in coefs and read else None
        start_at, later = steps[0], coefs[steps[min(1, len(steps) - 1)]] if len(steps) > 1 else {}
        only_there = not any("hx" in name or "h[t-2]" in name for name in later)  # hx is read in the first step alone
        if only_there and len(steps) > 1 and not self._alike(coefs.get(start_at), later, columns.get(start_at)):
            # what it starts at shows where states are read
            starts = SEQUENCE_STARTS if form.added or any(map(_reads_state, later)) else ("hx",)
            made = partial(self._system, traces, form, terms, start_at)
            started = self._started(traces, made, later, likely, starts)
            if started is not None:
                (columns[start_at], ys[start_at]), coefs[start_at] = started
                traces[0].kinds.pop(start_at, None)
        if start_at not in coefs:
            return None
        return self._in_few_words(LinearSystem(columns, ys), dict(sorted(coefs.items())))

    def _started(
        self,
        traces: Sequence[LayerTrace],
        made: Callable[[], System | None],
        later: Mapping[str, float],
        likely: Sequence[Collection[str]],
        starts: Iterable[str],
    ) -> tuple[System, dict[str, float]] | None:
        """Return the first step's system and coefficients, from what traces start at if it is to be as later ones."""
        for start in starts:
            for f in traces:
                f.hx = f.given_hx
                f.hx = SEQUENCE_STARTS[start](f)
            system = made()
            by = None if system is None else solve(*system, self.noise, *likely)
            if system is not None and by is not None and self._alike(by, later, system[0]):
                traces[0].start = start
                return system, by
        for f in traces:
            f.hx = f.given_hx
        return None

    def _of_other_step(self, traces: Sequence[LayerTrace], form: StepForm, t: int) -> dict[str, float] | None:
        """Return the coefficients of a step that reads x, or the state before, of other steps by their numbers."""
        x, b_ih, h, b_hh = (name for name, _ in LayerModel().step)
        xs = [x, *(read_of("x", str(k)) for k in range(traces[0].T) if k != t)]
        hs = [h, *(read_of("h", str(k)) for k in range(t))]
        system = self._system(traces, form, [*xs, b_ih, *hs, b_hh], t)
        if system is None:
            return None
        columns, y = system
        for some in sorted(product(xs, hs), key=lambda pair: (pair[0] != x) + (pair[1] != h)):
            by = solve({name: columns[name] for name in (some[0], b_ih, some[1], b_hh)}, y, self.noise)
            if by is not None:
                return by
        return None

    def _in_few_words(self, system: LinearSystem, coefs: dict[int, dict[str, float]]) -> dict[int, dict[str, float]]:
        """Return the coefficients of as few terms as will do: nn.RNN's own, with one or two exchanged, or one more.

        At the ends of a sequence, and in short ones, several terms are the same.
        """
        right, names = [name for name, _ in LayerModel().step], [*next(iter(system.columns.values()))]
        others = [name for name in names if name not in right]
        base = [right] if set(right) <= set(names) else []
        exchanged = [[*(n for n in right if n != old), new] for new in others for old in right if _of_part(old, new)]
        middle = {name for t, by in coefs.items() if len(coefs) // 2 <= t < len(coefs) - 1 for name in by}
        read = {name for by in coefs.values() for name in by}.difference(right)
        both = [
            [*(n for n in right if n[0] not in "xh"), x, h]
            for x, h in product((n for n in names if n[0] == "x"), (n for n in names if n[0] == "h"))
            if {x, h}.isdisjoint(right) and read & {x, h}
        ]
        several = [*base, *exchanged, *both, [*right, *middle.difference(right)]] if base else []
        return next((by for some in several if (by := system.solved(some, self.noise)) is not None), None) or (
            system.solved(names, self.noise) or coefs
        )

    def _alike(
        self, step: Mapping[str, float] | None, later: Mapping[str, float], columns: Mapping[str, Floats] | None
    ) -> bool:
        """Tell whether a step reads states as another one does, as far as that can show there."""
        if step is None or columns is None:
            return False
        names = {n for n in {*step, *later} if _reads_state(n) and n in columns and columns[n].any()}
        return all(plainest(step.get(n, 0.0), self.noise) == plainest(later.get(n, 0.0), self.noise) for n in names)

    def _system(self, traces: Sequence[LayerTrace], form: StepForm, terms: Collection[str], t: int) -> System | None:
        """Return the columns and the right side of a step's sum, as far as the activation can be inverted."""
        out = np.concatenate([f.out[t].ravel() for f in traces])
        if form.added:
            beside = [np.asarray(total(form.added, ACTIVATION_TERMS, f, t)) + np.zeros((f.N, f.H)) for f in traces]
            out = out - np.concatenate([v.ravel() for v in beside])
        weight = np.ones_like(out)
        s, known = out, np.isfinite(out)
        if form.written != "s[t]":
            s, known = form.kind.inverse(out / form.factor)
            off = np.abs(form.kind.value(np.where(known, s, out)) - out / form.factor)
            if not off.max() <= 1e-3:  # no value of it
                return None
            weight = np.where(known, form.kind.slope(s), 0.0)
        if traces[0].update_mask is not None:
            weight = weight * np.concatenate([f.update_mask.ravel() for f in traces if f.update_mask is not None])
        y = s * weight
        rows = y != 0
        if rows.sum() < y.size / 4:
            return None
        return TermColumns(terms, lambda name: (self._column(traces, name, t) * weight)[rows]), y[rows]

    def _column(self, traces: Sequence[LayerTrace], name: str, t: int) -> Floats:
        """Return the values of a term at a step of some traces, which many forms have in common."""
        key = (id(traces[0]), id(traces[0].hx), id(traces[0].h.get(0)), name, t)
        if key not in self._values:
            term = STEP_TERMS.get(name) or Term(name)
            parts = [_filled(term.value(f, t), f) for f in traces]
            kept = traces, traces[0].hx, traces[0].h.get(0)  # what has an id is kept
            self._values[key] = *kept, np.concatenate(parts)
        column: Floats = self._values[key][-1]
        return column

    def _find_tied(self) -> None:
        """Find biases that are added along the batch, which can be where N = hidden_size alone."""
        answers = self.answers(1, 8, N=self.size) if self.model.step == LayerModel().step else []
        if not answers or self.size != answers[0].case.config.N or self._gives(self.model, answers[:1]):
            return
        names = [name for name, _ in LayerModel().step]
        names += [name for name, term in STEP_TERMS.items() if term.other == WHERE_N_IS_H]
        traces = self._traces(answers)
        system = self._system(traces, StepForm(self.model.activation or self._nonlinearity), dict.fromkeys(names), 0)
        by = None if system is None else solve(*system, self.noise, names[:4])
        if by is not None:
            step = tuple((name, Coef(plainest(c, self.noise))) for name, c in by.items())
            self.model = replace(self.model, step=in_order(step))

    def _find_blank(self) -> None:
        """Find what is done at a step at which x is all zeros, which generic numbers never are."""
        answers = self.answers(SHORT_TIME, 1, blank=True) if self.place == (0, 0) else []
        answers = [a._replace(shorter=None) for a in answers]
        blanks = (None, *(BlankStep(*choice) for choice in product(("h[t-1]", "0"), (False, True), (False, True))))
        models = (replace(self.model, at_zero=blank) for blank in blanks)
        self.model = next((model for model in models if self._gives(model, answers)), self.model)

    def _final(self, model: LayerModel) -> str | None:
        """Return which state h_n is; ``None`` if it is none, and the right one if it is not returned."""
        answers = [a for T in (SHORT_TIME, 2, 1) for a in self.answers(T, 1)]
        if not answers or "h_n" not in answers[0].arrays:
            return LayerModel().final
        fits = [*FINAL_STATES]
        for a, f in zip(answers, self._traces(answers), strict=True):
            forward(model, f, self.asker.nonlinearity, self._steps_of(a, model))
            fits = [n for n in fits if np.abs(a.arrays["h_n"][self._row] - FINAL_STATES[n](f)).max() <= 64 * self.noise]
        return next(iter(fits), None)


def _indexed(every: TraceCoefficients) -> TraceCoefficients:
    """Return the steps with an index in the place of the number of each other step that they read."""
    for operand in ("x", "h"):
        numbers = {read_of(operand, str(k)): k for f, _ in every for k in range(f.T)}
        read: list[tuple[int, int, str, int]] = []  # T, t, the term, and the number of the step
        for f, by in every:
            for t, terms in by.items():
                number_of = {n: step(t, f.T) % f.T for n, step in OTHER_STEP_TERMS[operand].items()} | numbers
                read += [(f.T, t, name, number_of[name]) for name in terms if name in number_of]
        others = {name for *_, name, _ in read}
        if others <= STEP_TERMS.keys():
            continue
        own = {"x": "x[t] @ W_ih.T", "h": "h[t-1] @ W_hh.T"}[operand]
        right = [(f.T, t, own, t) for f, by in every for t, terms in by.items() if own in terms]
        for some, (index, step_at) in product(([*read, *right], read), OTHER_STEPS.items()):
            if read_of(operand, index) in STEP_TERMS and all(step_at(t, T) == k for T, t, _, k in some):
                new = read_of(operand, index)
                renamed = {name: new for *_, name, _ in some}
                every = [
                    (f, {t: {renamed.get(n, n): c for n, c in terms.items()} for t, terms in by.items()})
                    for f, by in every
                ]
                # Which of the two it is does not show where these are the same step: in a loop over what blocks leave,
                # it is the other one.
                size = int(index.rpartition(" ")[2]) if index.startswith("t % ") else 0
                rest = TermSteps("rest of blocks", size)
                blocks = size > 0 and all(rest.at(t, T) for T, t, *_ in some)
                for f, by in every if own not in renamed else ():
                    for t, terms in by.items():
                        if step_at(t, f.T) == t and own in terms and (not blocks or rest.at(t, f.T)):
                            terms[new] = terms.pop(own) if blocks else math.nan
                            terms |= {} if blocks else {own: math.nan}
                break
    return every


def _is(kind: Activation, s: Floats, h: Floats, noise: float) -> bool:
    """Tell whether a function has these values at s."""
    return bool((np.abs(h - kind.value(s)) <= 64 * noise * (1 + np.abs(s))).all())


def _reads_state(name: str) -> bool:
    return "h[" in name or "h_" in name


def _filled(v: Any, f: LayerTrace) -> Floats:
    """Return a number for each sequence and unit, in one row."""
    return np.broadcast_to(v, (f.N, f.H)).ravel()


def _ended_before(f: LayerTrace) -> LayerTrace:
    """Return the trace of the states before each step: that of a sequence that ends a step earlier, without hx."""
    earlier = copy(f)
    earlier.T, earlier.x, earlier.raw = f.T - 1, f.x[:-1], f.raw[1:]
    return earlier


def _of_part(right: str, name: str) -> bool:
    """Tell whether a term may stand for one of nn.RNN's: it has its operand or its matrix."""
    return name[0] == right[0] or (name.startswith("h_") and name.rpartition(" @ ")[2] == right.rpartition(" @ ")[2])
