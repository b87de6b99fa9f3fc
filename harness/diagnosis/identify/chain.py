"""chain: the slope of a step, and what a step of the way back passes to the one before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.diagnosis.identify.ask import Response
from harness.diagnosis.identify.fit import fewest, plainest, solve
from harness.diagnosis.identify.layer import gradient, slopes
from harness.diagnosis.identify.model import ONE, Coef, LayerModel, Link, When
from harness.diagnosis.identify.step import StepInquiry
from harness.diagnosis.identify.terms import (
    AT,
    LINK,
    OF_INPUT,
    RIGHT_SLOPE,
    SLOPES,
    Flow,
)
from harness.oracle.bound import np
from harness.oracle.known import Floats


class ChainInquiry(StepInquiry):
    """The way back from step to step."""

    def _chains(self) -> Iterator[LayerModel]:
        """Yield models with what may be the slope and the link, as single steps and pairs of steps show them."""
        roles = self.roles()
        anchors = [role for role in ("bias_ih", "bias_hh", "x", "weight_ih", "weight_hh") if role in roles]
        done: list[LayerModel] = []
        for anchor in anchors:
            for own, reached in self._own(anchor):
                for model in self._linked(anchor, own, reached):
                    if model not in done:
                        done.append(model)
                        yield model

    def _readout(self, role: str, f: Flow, da: Mapping[int, Floats], x_of: Response) -> Floats:
        """Return what nn.RNN makes of some da: one gradient, as the subject lays it out."""
        f.da = dict(da)
        made = gradient(LayerModel(), role, f)
        if role == "x":
            made = np.stack(made)
            made = made.swapaxes(0, 1) if x_of.case.config.batch_first else made
        return np.ravel(made)

    def _own(self, anchor: str) -> Iterator[tuple[LayerModel, When]]:
        """Yield what may be the slope and its step, and which steps are reached."""
        number = 14 if anchor.startswith("bias") else 8
        for T, at, reached in ((1, 0, When()), (2, 0, When("but last", 1)), (2, 1, When("from", 1))):
            asked = self._back(T, number, at, N=1)
            if not asked:
                continue
            y = np.concatenate([self._vector(anchor, a) for a, _ in asked])
            if not y.any():
                continue
            right = RIGHT_SLOPE[self.asker.nonlinearity]
            names = sorted(SLOPES, key=lambda name: name not in dict(right))
            names = [name for name in names if asked[0][1].square or name not in OF_INPUT]
            columns = {
                name: np.concatenate(
                    [
                        self._readout(anchor, f, {at: SLOPES[name](f.state(at), f.s[at], f.x[at]) * f.g[at]}, a)
                        for a, f in asked
                    ]
                )
                for name in names
            }
            seen: list[tuple[Any, ...]] = []
            found = fewest(columns, y, self.noise, dict(right))
            candidates: list[tuple[tuple[tuple[str, float], ...], str, bool, When]] = []
            every = When()
            if found:
                least = min(abs(c) for c in found.values())  # a factor of all of it may be the gradient's own
                slope = tuple((name, plainest(c / least, self.noise)) for name, c in found.items())
                leading = slope[0][1]
                if same_slope([(name, c / leading) for name, c in slope], right):
                    slope = right
                candidates += [(slope, where, True, every) for where in AT]
                if list(found) == ["1"]:
                    candidates += [(right, where, False, every) for where in AT]
            candidates += [(right, where, True, every) for where in AT]
            some = (When("last", 1), When("but last", 1), When("only", 0), When("from", 1))
            candidates += [(right, "t", True, when) for when in some]
            for candidate in candidates:
                if candidate in seen:
                    continue
                seen.append(candidate)
                slope, where, sloped, taken = candidate
                model = replace(
                    self.model,
                    slope=None if slope == right else slope,
                    at=where,
                    sloped=taken,
                    own=((sloped, ONE),),
                    links=(),
                    reached=reached,
                )
                parts = []
                for a, f in asked:
                    slopes(model, f, self.asker.nonlinearity)
                    da = f.slope[at] * f.g[at] if sloped else f.g[at]
                    parts.append(self._readout(anchor, f, {at: da}, a))
                if solve({"da": np.concatenate(parts)}, y, self.noise):
                    yield model, reached
            return

    def _linked(self, anchor: str, own: LayerModel, reached: When) -> Iterator[LayerModel]:
        """Yield models with what a step may pass to the one before it."""
        first = 0 if reached.kind != "from" else 1
        length = 2 if reached == When() else 3
        later = first + 1
        if reached.kind == "but last":
            later = 1
        number = 24 if anchor.startswith("bias") else 12
        asked = self._back(length, number, later, N=1)
        if not asked:
            yield own
            return
        y = np.concatenate([self._vector(anchor, a) for a, _ in asked])
        columns: dict[str, list[Floats]] = {}
        for a, f in asked:
            slopes(own, f, self.asker.nonlinearity)
            sloped = own.own[0][0]
            f.dh = {later: f.g[later]}
            da = f.slope[later] * f.g[later] if sloped else f.g[later]
            parts = {"own": self._readout(anchor, f, {later: da}, a)}
            for name, term in LINK.items():
                if term.square and not f.square:
                    continue
                f.da, f.dh = {later: da}, {later: f.g[later]}
                passed = term.value(f, first)
                parts[f"s {name}"] = self._readout(anchor, f, {first: passed * f.slope[first]}, a)
                parts[f"p {name}"] = self._readout(anchor, f, {first: passed}, a)
            for name, part in parts.items():
                columns.setdefault(name, []).append(part)
        ordered_ = ["own", *(f"s {name}" for name in LINK), *(f"p {name}" for name in LINK)]
        found = solve({name: np.concatenate(columns[name]) for name in ordered_ if name in columns}, y, self.noise)
        if found is None:
            return
        found.pop("own", None)
        links = []
        base = self._factor(anchor, own, first)
        for name, c in found.items():
            c = plainest(c / base, self.noise)
            links.append(Link(name[2:], name.startswith("s "), Coef(c)))
        model = replace(own, links=tuple(links))
        yield model
        if links and links[0].coef != ONE and len(links) == 1:
            yield replace(own, links=(links[0]._replace(coef=ONE),))
        for name in ("dh_next[t+1]",):  # what only a third step shows
            yield replace(own, links=(*links, Link(name, links[0].sloped if links else True)))
        if not links:  # the anchor may not show it
            yield replace(own, links=LayerModel().links)

    def _factor(self, anchor: str, own: LayerModel, first: int) -> float:
        """Return what multiplies the part of the first step in a gradient."""
        asked = self._back(first + 1, 4, first, N=1) or self._back(2, 4, first, N=1)
        if not asked:
            return 1.0
        y = np.concatenate([self._vector(anchor, a) for a, _ in asked])
        parts = []
        for a, f in asked:
            slopes(own, f, self.asker.nonlinearity)
            da = f.slope[first] * f.g[first] if own.own[0][0] else f.g[first]
            parts.append(self._readout(anchor, f, {first: da}, a))
        found = solve({"da": np.concatenate(parts)}, y, self.noise)
        return found["da"] if found else 1.0


def same_slope(one: Sequence[tuple[str, float]], other: Sequence[tuple[str, float]]) -> bool:
    """Tell whether two slopes have the same terms."""
    return dict(one) == dict(other)
