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
        scales = [(scale, self.weights) for scale in (30.0, 1e3, 1e4)]
        scales += [(1e4, LARGE_WEIGHTS), (1e4, LARGE_WEIGHTS**2)]
        pairs = [pair for scale, weights in scales for pair in self._back(SHORT_TIME, 4, scale=scale, weights=weights)]
        pairs += self._back(1, 2, scale=1e4)  # where the way back does not go far, hx has a gradient here alone
        pairs = [(a, f) for a, f in pairs if all(np.isfinite(array).all() for array in a.arrays.values())]
        if not pairs or not (wrong := self._differing(self.model, pairs)):
            return
        pairs += self._near(pairs, wrong)
        for model in (self.model, *self._step_limits()):
            if (limits := self._limits(model, pairs)) is not None:
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
        limits: dict[str, GradientClip] = {}
        unexplained = []
        for role in self._differing(replace(model, limits={}), pairs):
            top = plainest(max(self._top(role, a) for a, _ in pairs), self.noise)
            norm = plainest(max(float(np.linalg.norm(self._vector(role, a))) for a, _ in pairs), self.noise)
            for limit in (GradientClip("elements", top), GradientClip("norm", norm), GradientClip("running sum", top)):
                if role not in self._differing(replace(model, limits={role: limit}), pairs):
                    limits[role] = limit
                    break
            else:
                unexplained.append(role)
        if unexplained:
            limit = self._joint_norm(replace(model, limits=limits), pairs, unexplained)
            limits |= dict.fromkeys(unexplained, limit)
            return None if self._differing(replace(model, limits=limits), pairs) else limits
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
                    most, beside = plainest(float(1 / fit[0]), self.noise), float(f"{fit[1] / fit[0]:.2g}")
                    beside = beside if 1e-13 < beside < 0.1 else 0.0
                    return GradientClip("joint norm", most, beside, over if count < len(roles) else ())
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
