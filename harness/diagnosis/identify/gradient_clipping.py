"""gradient_clipping: what is clipped, of the gradients that are returned or at each step of the way back."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Final

from harness.diagnosis.identify.fit import plainest
from harness.diagnosis.identify.inquiry import LARGE_WEIGHTS, SHORT_TIME, Pairs
from harness.diagnosis.identify.model import GradientClip, LayerModel
from harness.diagnosis.identify.questions import Response
from harness.diagnosis.identify.returned_gradients import ReturnedGradientInquiry
from harness.diagnosis.identify.terms import LINK, LayerTrace
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np

ENOUGH_NORMS: Final = 3  # the norms that are cut off: one more than the two numbers that they are to tell
BEYOND: Final = 1.25  # times the largest gradients that are in proportion: few elements are clipped


class LimitInquiry(ReturnedGradientInquiry):
    """What large gradients show."""

    def _find_limits(self) -> None:
        """Find which gradients are clipped, or what is clipped at each step, from large ones."""
        # what is clipped at each step makes a gradient by x large where the weights are
        scales = (
            (30.0, self.weights),
            (1e3, self.weights),
            (1e4, self.weights),
            (1e4, LARGE_WEIGHTS),
            (1e4, LARGE_WEIGHTS**2),
        )
        pairs = [pair for scale, weights in scales for pair in self._back(SHORT_TIME, 4, scale=scale, weights=weights)]
        pairs += self._back(1, 2, scale=1e4)  # where the way back does not go far, hx has a gradient here alone
        pairs = [(a, f) for a, f in pairs if all(np.isfinite(array).all() for array in a.arrays.values())]
        if not pairs:
            return
        wrong = self._differing(self.model, pairs)
        if not wrong:
            return
        pairs += self._near(pairs, wrong)
        for model in (self.model, *self._step_limits()):
            limits = self._limits(model, pairs)
            if limits is not None:
                self.model = replace(model, limits=limits)
                return
        self.found.unknown += [f"large {role}" for role in wrong if role not in self.found.unknown]

    def _near(self, pairs: Pairs, wrong: Sequence[str]) -> list[tuple[Response, LayerTrace]]:
        """Return answers with gradients that are not far from a limit, so that some are cut off and others are not."""
        a = pairs[0][0]
        made = self._expected(self.model, a)
        sizes = [float(np.abs(made[self._name(role)]).max(initial=0)) for role in wrong]
        tops = [self._top(role, a) for role in wrong]
        scales = {
            30.0 * times * top / size for top, size in zip(tops, sizes, strict=True) if size for times in (1.5, 4)
        }
        return [pair for scale in sorted(scales) for pair in self._back(self.asker.long[0], 4, scale=scale)]

    def _limits(self, model: LayerModel, pairs: Pairs) -> dict[str, GradientClip] | None:
        """Return the clips of returned gradients that explain what large ones are; ``None`` if none do."""
        wrong = self._differing(replace(model, limits={}), pairs)
        limits: dict[str, GradientClip] = {}
        unexplained = []
        for role in wrong:
            tops = {self._top(role, a) for a, _ in pairs}
            top = plainest(max(tops), self.noise)
            candidate = replace(model, limits={role: GradientClip("elements", top)})
            norms = [float(np.linalg.norm(self._vector(role, a))) for a, _ in pairs]
            norm = plainest(max(norms), self.noise)
            by_norm = replace(model, limits={role: GradientClip("norm", norm)})
            if role not in self._differing(candidate, pairs):
                limits[role] = GradientClip("elements", top)
            elif role not in self._differing(by_norm, pairs):
                limits[role] = GradientClip("norm", norm)
            elif role not in self._differing(replace(model, limits={role: GradientClip("running sum", top)}), pairs):
                limits[role] = GradientClip("running sum", top)
            else:
                unexplained.append(role)
        if unexplained:
            limit = self._joint_norm(replace(model, limits=limits), pairs, unexplained)
            candidate = replace(model, limits=limits | dict.fromkeys(unexplained, limit))
            if self._differing(candidate, pairs):
                return None
            limits |= dict.fromkeys(unexplained, limit)
        return limits

    def _joint_norm(self, model: LayerModel, answers: Pairs, roles: Sequence[str]) -> GradientClip:
        """Return the norm that some gradients have together, and what was added to the norm that divided them.

        With n the norm before, it is most * n / (n + beside) after. Its inverse is linear in 1 / n.
        """

        def norm(arrays: Mapping[str, Floats], over: Sequence[str]) -> float:
            return math.sqrt(sum(float(np.sum(np.square(arrays[self._name(role)]))) for role in over))

        made = [self._expected(model, a) for a, _ in answers]
        for count in range(len(roles), 0, -1):
            for over in combinations(roles, count):
                pairs = [(norm(m, over), norm(a.arrays, over)) for m, (a, _) in zip(made, answers, strict=True)]
                norms = [(before, after) for before, after in pairs if 0 < after < before * (1 - 64 * self.noise)]
                if len(norms) < ENOUGH_NORMS:
                    continue
                A = np.array([[1.0, 1 / before] for before, _ in norms])
                y = np.array([1 / after for _, after in norms])
                fit = np.linalg.lstsq(A, y, rcond=None)[0]
                if np.abs(A @ fit - y).max() <= 4096 * self.noise * np.abs(y).max():
                    beside = float(f"{fit[1] / fit[0]:.2g}")
                    most = plainest(float(1 / fit[0]), self.noise)
                    return GradientClip(
                        "joint norm",
                        most,
                        beside if 1e-13 < beside < 0.1 else 0.0,
                        tuple(over) if count < len(roles) else (),
                    )
        return GradientClip("joint norm", math.inf)

    def _top(self, role: str, a: Response) -> float:
        return float(np.abs(self._vector(role, a)).max(initial=0))

    def _step_limits(self) -> Iterator[LayerModel]:
        """Yield the model with a clip at each step, whose limit is where gradients stop being in proportion.

        Each role shows one: some are clipped themselves, at smaller gradients.
        """
        lowest, highest = 1e-2, 1e4
        pairs = self._back(2, 1, scale=lowest)
        if self.derived or not pairs or self._differing(self.model, pairs):
            return
        for role in self._differing(self.model, self._back(2, 1, scale=highest)):
            low, high = lowest, highest
            while high / low > 1 + 1e-6:
                middle = math.sqrt(low * high)
                differs = role in self._differing(self.model, self._back(2, 1, scale=middle))
                low, high = (low, middle) if differs else (middle, high)
            [(_, f)] = pairs = self._back(2, 1, scale=low)
            self._chained(self.model, pairs)
            passed = self.model.links if f.T > 1 else ()  # the subject may take one step only
            links = [LINK[link.term].value(f, 0) * link.coef.of(f, 0) for link in passed]
            quantities = {"da": list(f.da.values()), "dh": list(f.dh.values()), "dh_next": links}
            for where, values in quantities.items():
                top = max((float(np.abs(v).max()) for v in values), default=0.0)
                norm = max((float(np.linalg.norm(v)) for v in values), default=0.0)
                for kind, most in (("elements", top), ("norm", norm)) if values else ():
                    model = replace(self.model, step_limit=(where, GradientClip(kind, float(f"{most:.4g}"))))
                    if role not in self._differing(model, self._back(2, 1, scale=BEYOND * low)):
                        yield model
