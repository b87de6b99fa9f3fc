"""backward_step: the slope of a step, and what a step of the way back passes to the one before it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from harness.diagnosis.identify.coefficient_patterns import named
from harness.diagnosis.identify.fit import Name, fewest, plainest, solve
from harness.diagnosis.identify.inquiry import SHORT_TIME, Pairs
from harness.diagnosis.identify.layer import gradient, slopes
from harness.diagnosis.identify.model import ONE, Coef, LayerModel, StateGradientTerm
from harness.diagnosis.identify.questions import Response
from harness.diagnosis.identify.step import StepInquiry
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.identify.terms import (
    ARRANGED_BACK,
    AT,
    LINK,
    OF_INPUT,
    PARTIAL_SUMS,
    RIGHT_SLOPE,
    SLOPES,
    LayerTrace,
    slope_term,
)
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np

SlopeTerms = tuple[tuple[str, float], ...]  # its terms and their coefficients
GradientsByStep = Callable[[LayerTrace], Mapping[int, Floats]]  # da of a trace


class BackwardStepInquiry(StepInquiry):
    """The way back from step to step."""

    def _chains(self) -> Iterator[LayerModel]:
        """Yield models with what may be the slope and the link, as single steps and pairs of steps show them."""
        roles = self.roles()
        anchors = [role for role in ("bias_ih", "bias_hh", "x", "weight_ih", "weight_hh") if role in roles]
        done: list[LayerModel] = []
        for some in zip_longest(*(self._chains_of(anchor) for anchor in anchors)):  # the plainest of each come first
            for model in some:
                if model is not None and model not in done:
                    done.append(model)
                    yield model

    def _chains_of(self, anchor: str) -> Iterator[LayerModel]:
        for own, reached in self._own(anchor):
            yield from self._linked(anchor, own, reached)

    def _fit(self, role: str, pairs: Pairs, columns: Mapping[Name, GradientsByStep]) -> dict[Name, float] | None:
        """Return the coefficients with which some da, each a function of a trace, add up to a gradient."""
        return solve(self._made(role, pairs, columns), self._given(role, pairs), self.noise)

    def _made(self, role: str, pairs: Pairs, columns: Mapping[Name, GradientsByStep]) -> dict[Name, Floats]:
        """Return what nn.RNN makes of some da: one gradient, as the subject lays it out."""

        def made(da: GradientsByStep, a: Response, f: LayerTrace) -> Floats:
            f.da = dict(da(f))
            value = gradient(LayerModel(), role, f)
            if role == "x":
                value = np.stack(value)
                value = value.swapaxes(0, 1) if a.case.config.batch_first else value
            return np.ravel(value)

        return {name: np.concatenate([made(da, a, f) for a, f in pairs]) for name, da in columns.items()}

    def _given(self, role: str, pairs: Pairs) -> Floats:
        return np.concatenate([self._vector(role, a) for a, _ in pairs])

    def _own_da(self, model: LayerModel, at: int, pairs: Pairs) -> GradientsByStep:
        """Return the da of one step that alone is given a gradient, by its slope in a model."""
        for _, f in pairs:
            slopes(model, f, self.asker.nonlinearity)
        return lambda f: {at: f.sloped(at, f.g[at]) if model.own[0][0] else f.g[at]}

    def _own(self, anchor: str) -> Iterator[tuple[LayerModel, TermSteps]]:
        """Yield what may be the slope and its step, and which steps are reached."""
        number = 14 if anchor.startswith("bias") else 8
        for T, at, reached in ((1, 0, TermSteps()), (2, 0, TermSteps("but last", 1)), (2, 1, TermSteps("from", 1))):
            # Longer sequences show which step's slope is taken, and at which steps one is.
            numbers = ((T, number), (T + 1, number // 2), (T + 2, number // 2))
            several = [answers for length, some in numbers if (answers := self._back(length, some, at, N=1))]
            shown = [pairs for pairs in several if self._given(anchor, pairs).any()]
            if not several or several[0] not in shown:
                continue
            right = RIGHT_SLOPE[self.asker.nonlinearity]
            fits = [slope for pairs in shown if (slope := self._slope(anchor, pairs, at))]
            fits = [*dict.fromkeys([*fits, right])]
            flat: SlopeTerms = (("1", 1.0),)  # one slope at all steps
            ends = (TermSteps("last", 1), TermSteps("but last", 1), TermSteps("only", 0), TermSteps("from", 1))
            candidates = [(flat, "t", True, TermSteps())] if flat in fits else []
            places = {
                slope: ("t",) if any(part in name for name, _ in slope for part in PARTIAL_SUMS) else AT
                for slope in fits
                if slope != flat
            }
            candidates += [(slope, where, True, TermSteps()) for slope in places for where in places[slope]]
            candidates += [(right, where, False, TermSteps()) for where in AT]
            candidates += [(slope, where, True, when) for slope in places for when in ends for where in places[slope]]
            for slope, where, by_slope, taken in candidates:
                own: dict[str, Any] = {"sloped": taken, "own": ((by_slope, ONE),), "links": (), "reached": reached}
                model = replace(self.model, slope=None if slope == right else slope, at=where, **own)
                if all(self._fit(anchor, pairs, {"da": self._own_da(model, at, pairs)}) for pairs in shown):
                    yield model, reached
            return

    def _slope(self, anchor: str, pairs: Pairs, at: int) -> SlopeTerms:
        """Return what may be the slope of a step, which alone is given a gradient; nothing if it is no sum."""
        right = RIGHT_SLOPE[self.asker.nonlinearity]

        def with_slope(name: str) -> GradientsByStep:
            return lambda f: {at: slope_term(name, f, at, f.x[at], f.g[at]) * f.g[at]}

        names = sorted(SLOPES, key=lambda name: name not in dict(right))
        terms = {name: with_slope(name) for name in names if pairs[0][1].square or name not in OF_INPUT}
        coefs = fewest(self._made(anchor, pairs, terms), self._given(anchor, pairs), self.noise, dict(right))
        if not coefs:
            return ()
        least = min(abs(c) for c in coefs.values())  # a factor of all of it may be the gradient's own
        slope = tuple((name, plainest(c / least, self.noise)) for name, c in coefs.items())
        return right if {name: c / slope[0][1] for name, c in slope} == dict(right) else slope

    def _linked(self, anchor: str, own: LayerModel, reached: TermSteps) -> Iterator[LayerModel]:
        """Yield models with what a step may pass to the one before it."""
        first = 0 if reached.kind != "from" else 1
        length = 2 if reached == TermSteps() else 3
        later = 1 if reached.kind == "but last" else first + 1
        number = 24 if anchor.startswith("bias") else 12
        pairs = self._back(length, number, later, N=1) or self._back(length + 1, number, later, N=1)
        if not pairs:
            yield own
            return
        own_da = self._own_da(own, later, pairs)

        def passed(name: str, *, sloped: bool) -> GradientsByStep:
            def da(f: LayerTrace) -> Mapping[int, Floats]:
                f.dh, f.da = {later: f.g[later]}, dict(own_da(f))
                v = LINK[name].value(f, first)
                return {first: f.sloped(first, v) if sloped else v}

            return da

        columns = {"own": own_da}
        for name in [name for name, term in LINK.items() if pairs[0][1].square or not term.square]:
            columns |= {f"s {name}": passed(name, sloped=True), f"p {name}": passed(name, sloped=False)}
        plain = [name for name in LINK if name not in ARRANGED_BACK["link"]]
        several = [["own", *(f"{kind} {name}" for kind in "sp" for name in plain)]]
        if pairs[0][1].slope_by is not None:  # then da is no sum
            several = [["own", f"s {name}"] for name in plain]
        several += [["own", f"s {name}"] for name in ARRANGED_BACK["link"]]
        made, y = self._made(anchor, pairs, columns), self._given(anchor, pairs)
        solved = (solve({n: made[n] for n in some if n in made}, y, self.noise) for some in several)
        solution = next((by for by in solved if by is not None), None)
        if solution is None:
            return
        solution.pop("own", None)
        base = self._factor(anchor, own, first)
        coefs = {name: plainest(c / base, self.noise) for name, c in solution.items()}  # 0 where only roundings make it
        links = [StateGradientTerm(name[2:], name.startswith("s "), Coef(c)) for name, c in coefs.items() if c]
        yield replace(own, links=tuple(links))
        if links and links[0].coef != ONE and len(links) == 1:
            yield replace(own, links=(links[0]._replace(coef=ONE),))
        # what only a third step shows
        yield replace(own, links=(*links, StateGradientTerm("dh_next[t+1]", links[0].sloped if links else True)))
        if not links:  # the anchor may not show it
            yield replace(own, links=LayerModel().links)

    def _weighed(self, model: LayerModel) -> LayerModel | None:
        """Return a model with what multiplies the gradient of each output, if one gradient shows it and it differs."""
        if model.horizon or model.own != ((model.own[0][0], ONE),):
            return None

        def of_source(t: int) -> GradientsByStep:
            return lambda f: dict.fromkeys(range(f.T), np.zeros((f.N, f.H))) | f.sources()[t]

        for role in (role for role in self.roles() if role != "hx"):
            runs = []
            for T in (SHORT_TIME, 7):
                pairs = self._back(T, 6)  # of H numbers each at least: twice as many as there are steps
                self._chained(model, pairs)
                by = self._fit(role, pairs, {t: of_source(t) for t in range(T)}) if pairs else None
                runs.append((pairs, by or {}))
            if not all(answers and len(by) == answers[0][1].T for answers, by in runs):
                continue  # which steps count at all is another field
            usual, _ = Counter(plainest(c, self.noise) for _, by in runs for c in by.values()).most_common(1)[0]
            steps = [(f, {t: by[t] / usual for t in range(f.T)}) for [(_, f), *_], by in runs]
            coefs = named(steps, self.noise)
            if coefs is not None and coefs != (ONE,):
                return replace(model, own=tuple((model.own[0][0], coef) for coef in coefs))
        return None

    def _factor(self, anchor: str, own: LayerModel, first: int) -> float:
        """Return what multiplies the part of the first step in a gradient."""
        pairs = self._back(first + 1, 4, first, N=1) or self._back(2, 4, first, N=1)
        fit = self._fit(anchor, pairs, {"da": self._own_da(own, first, pairs)}) if pairs else None
        return fit["da"] if fit else 1.0
