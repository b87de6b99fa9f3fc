"""backward_step: the slope of a step, and what a step of the way back passes to the one before it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from harness.diagnosis.identify.coefficient_patterns import named
from harness.diagnosis.identify.fit import fewest, plainest, solve
from harness.diagnosis.identify.inquiry import SHORT_TIME
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

    def _readout(self, role: str, f: LayerTrace, da: Mapping[int, Floats], x_of: Response) -> Floats:
        """Return what nn.RNN makes of some da: one gradient, as the subject lays it out."""
        f.da = dict(da)
        made = gradient(LayerModel(), role, f)
        if role == "x":
            made = np.stack(made)
            made = made.swapaxes(0, 1) if x_of.case.config.batch_first else made
        return np.ravel(made)

    def _own(self, anchor: str) -> Iterator[tuple[LayerModel, TermSteps]]:
        """Yield what may be the slope and its step, and which steps are reached."""
        number = 14 if anchor.startswith("bias") else 8
        for T, at, reached in ((1, 0, TermSteps()), (2, 0, TermSteps("but last", 1)), (2, 1, TermSteps("from", 1))):
            # Longer sequences show which step's slope is taken, and at which steps one is.
            numbers = ((T, number), (T + 1, number // 2), (T + 2, number // 2))
            several = [answers for length, some in numbers if (answers := self._back(length, some, at, N=1))]
            shown = [pairs for pairs in several if any(self._vector(anchor, a).any() for a, _ in pairs)]
            if not several or several[0] not in shown:
                continue
            right = RIGHT_SLOPE[self.asker.nonlinearity]
            fits = [slope for pairs in shown if (slope := self._slope(anchor, pairs, at))]
            fits = [*dict.fromkeys([*fits, right])]
            flat: SlopeTerms = (("1", 1.0),)  # one slope at all steps
            ends = (TermSteps("last", 1), TermSteps("but last", 1), TermSteps("only", 0), TermSteps("from", 1))
            candidates: list[tuple[SlopeTerms, str, bool, TermSteps]] = (
                [(flat, "t", True, TermSteps())] if flat in fits else []
            )
            fits = [slope for slope in fits if slope != flat]
            places = {
                slope: ("t",) if any(part in name for name, _ in slope for part in PARTIAL_SUMS) else AT
                for slope in fits
            }
            candidates += [(slope, where, True, TermSteps()) for slope in fits for where in places[slope]]
            candidates += [(right, where, False, TermSteps()) for where in AT]
            candidates += [(slope, where, True, when) for slope in fits for when in ends for where in places[slope]]
            for slope, where, sloped, taken in candidates:
                model = replace(
                    self.model,
                    slope=None if slope == right else slope,
                    at=where,
                    sloped=taken,
                    own=((sloped, ONE),),
                    links=(),
                    reached=reached,
                )
                if all(self._owns(anchor, model, pairs, at) for pairs in shown):
                    yield model, reached
            return

    def _slope(self, anchor: str, pairs: Sequence[tuple[Response, LayerTrace]], at: int) -> SlopeTerms:
        """Return what may be the slope of a step, which alone is given a gradient; nothing if it is no sum."""
        right = RIGHT_SLOPE[self.asker.nonlinearity]
        names = sorted(SLOPES, key=lambda name: name not in dict(right))
        names = [name for name in names if pairs[0][1].square or name not in OF_INPUT]
        columns = {
            name: np.concatenate(
                [
                    self._readout(anchor, f, {at: slope_term(name, f, at, f.x[at], f.g[at]) * f.g[at]}, a)
                    for a, f in pairs
                ]
            )
            for name in names
        }
        y = np.concatenate([self._vector(anchor, a) for a, _ in pairs])
        coefs = fewest(columns, y, self.noise, dict(right))
        if not coefs:
            return ()
        least = min(abs(c) for c in coefs.values())  # a factor of all of it may be the gradient's own
        slope = tuple((name, plainest(c / least, self.noise)) for name, c in coefs.items())
        leading = slope[0][1]
        return right if same_slope([(name, c / leading) for name, c in slope], right) else slope

    def _owns(self, anchor: str, model: LayerModel, pairs: Sequence[tuple[Response, LayerTrace]], at: int) -> bool:
        """Tell whether the own term of a model's da makes a gradient, up to a factor."""
        parts = []
        for a, f in pairs:
            slopes(model, f, self.asker.nonlinearity)
            da = f.sloped(at, f.g[at]) if model.own[0][0] else f.g[at]
            parts.append(self._readout(anchor, f, {at: da}, a))
        y = np.concatenate([self._vector(anchor, a) for a, _ in pairs])
        return bool(solve({"da": np.concatenate(parts)}, y, self.noise))

    def _linked(self, anchor: str, own: LayerModel, reached: TermSteps) -> Iterator[LayerModel]:
        """Yield models with what a step may pass to the one before it."""
        first = 0 if reached.kind != "from" else 1
        length = 2 if reached == TermSteps() else 3
        later = first + 1
        if reached.kind == "but last":
            later = 1
        number = 24 if anchor.startswith("bias") else 12
        pairs = self._back(length, number, later, N=1) or self._back(length + 1, number, later, N=1)
        if not pairs:
            yield own
            return
        y = np.concatenate([self._vector(anchor, a) for a, _ in pairs])
        columns: dict[str, list[Floats]] = {}
        for a, f in pairs:
            slopes(own, f, self.asker.nonlinearity)
            sloped = own.own[0][0]
            f.dh = {later: f.g[later]}
            da = f.sloped(later, f.g[later]) if sloped else f.g[later]
            parts = {"own": self._readout(anchor, f, {later: da}, a)}
            for name, term in LINK.items():
                if term.square and not f.square:
                    continue
                f.da, f.dh = {later: da}, {later: f.g[later]}
                passed = term.value(f, first)
                parts[f"s {name}"] = self._readout(anchor, f, {first: f.sloped(first, passed)}, a)
                parts[f"p {name}"] = self._readout(anchor, f, {first: passed}, a)
            for name, part in parts.items():
                columns.setdefault(name, []).append(part)
        plain = [name for name in LINK if name not in ARRANGED_BACK["link"]]
        several = [["own", *(f"{kind} {name}" for kind in "sp" for name in plain)]]
        if pairs[0][1].slope_by is not None:  # then da is no sum
            several = [["own", f"s {name}"] for name in plain]
        several += [["own", f"s {name}"] for name in ARRANGED_BACK["link"]]
        solved = (
            solve({n: np.concatenate(columns[n]) for n in some if n in columns}, y, self.noise) for some in several
        )
        solution = next((by for by in solved if by is not None), None)
        if solution is None:
            return
        solution.pop("own", None)
        base = self._factor(anchor, own, first)
        coefs = {name: plainest(c / base, self.noise) for name, c in solution.items()}  # 0 where only roundings make it
        links = [StateGradientTerm(name[2:], name.startswith("s "), Coef(c)) for name, c in coefs.items() if c]
        model = replace(own, links=tuple(links))
        yield model
        if links and links[0].coef != ONE and len(links) == 1:
            yield replace(own, links=(links[0]._replace(coef=ONE),))
        for name in ("dh_next[t+1]",):  # what only a third step shows
            yield replace(own, links=(*links, StateGradientTerm(name, links[0].sloped if links else True)))
        if not links:  # the anchor may not show it
            yield replace(own, links=LayerModel().links)

    def _weighed(self, model: LayerModel) -> LayerModel | None:
        """Return a model with what multiplies the gradient of each output, if one gradient shows it and it differs."""
        if model.horizon or model.own != ((model.own[0][0], ONE),):
            return None
        for role in (role for role in self.roles() if role != "hx"):
            runs = []
            for T in (SHORT_TIME, 7):
                pairs = self._back(T, 6)  # of H numbers each at least: twice as many as there are steps
                self._chained(model, pairs)
                zeros = {f: dict.fromkeys(range(f.T), np.zeros((f.N, f.H))) for _, f in pairs}
                columns = {
                    t: np.concatenate([self._readout(role, f, zeros[f] | f.sources()[t], a) for a, f in pairs])
                    for t in range(T if pairs else 0)
                }
                y = np.concatenate([self._vector(role, a) for a, _ in pairs]) if pairs else np.zeros(0)
                runs.append((pairs, solve(columns, y, self.noise)))
            if not all(answers and by and len(by) == answers[0][1].T for answers, by in runs):
                continue  # which steps count at all is another field
            usual, _ = Counter(plainest(c, self.noise) for _, by in runs for c in (by or {}).values()).most_common(1)[0]
            steps = [(f, {t: (by or {}).get(t, 0.0) / usual for t in range(f.T)}) for [(_, f), *_], by in runs]
            coefs = named(steps, self.noise)
            if coefs is not None and coefs != (ONE,):
                return replace(model, own=tuple((model.own[0][0], coef) for coef in coefs))
        return None

    def _factor(self, anchor: str, own: LayerModel, first: int) -> float:
        """Return what multiplies the part of the first step in a gradient."""
        pairs = self._back(first + 1, 4, first, N=1) or self._back(2, 4, first, N=1)
        if not pairs:
            return 1.0
        y = np.concatenate([self._vector(anchor, a) for a, _ in pairs])
        parts = []
        for a, f in pairs:
            slopes(own, f, self.asker.nonlinearity)
            da = f.sloped(first, f.g[first]) if own.own[0][0] else f.g[first]
            parts.append(self._readout(anchor, f, {first: da}, a))
        fit = solve({"da": np.concatenate(parts)}, y, self.noise)
        return fit["da"] if fit else 1.0


def same_slope(first: Sequence[tuple[str, float]], second: Sequence[tuple[str, float]]) -> bool:
    """Tell whether two slopes have the same terms."""
    return dict(first) == dict(second)
