"""Cases on which one mistake of an identified layer shows, and those that have findings do not."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import combinations
from typing import Any, Final

from harness.diagnosis.fresh_cases import changed
from harness.diagnosis.identify.cause import differ
from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.identify.mistake import Mistake
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.questions import rounding_of
from harness.diagnosis.identify.terms import NoShapes
from harness.oracle.pinned_numpy import np
from harness.space.case import Case
from harness.space.config import RNNConfig, role_of
from harness.space.scope import Scope
from harness.space.values import draw

MOST_ROLES: Final = 4  # roles of arrays that are not 0: x or a state, its weights, and a gradient, with one to spare
COMPUTED_STATES: Final = 10_000
"""The states that are computed for a mistake, by gate: a second or two. All cases of a single layer without gates have
fewer.
"""


@np.errstate(all="ignore")
def shown_alone(
    identified: Identification, mistake: Mistake, others: Collection[Mistake], config: RNNConfig, scope: Scope
) -> Iterator[Case]:
    """Yield cases near a config on which a mistake makes a difference beyond roundings, and others make none.

    Most of their arrays are 0, which hides what is multiplied by them.
    """
    network, every = identified.network, mistakes_of(identified.network, identified.nonlinearity)
    without = next((m.without(network) for m in every if m == mistake), network)
    without_others = [m.without(network) for m in every if m in others]

    budget = COMPUTED_STATES
    for case in _mostly_zero(config, scope.only(**identified.pins)):
        plain, rounding = case.plain(), rounding_of(case.config.plain.dtype)
        budget -= case.config.states * len(case.config.form.gates) * (2 + len(without_others))
        if budget < 0:
            return
        with suppress(NoShapes):
            # Without bounds, a run takes a third of the time, and every difference counts.
            made = run(network, plain)
            alone = not any(differ(identified, made, run(mended, plain)) for mended in without_others)
            alone = alone and differ(identified, made, run(without, plain))
            if alone and differ(identified, run(network, plain, rounding), run(without, plain, rounding)):
                yield case


def _mostly_zero(config: RNNConfig, scope: Scope) -> Iterator[Case]:
    """Yield cases of few steps with everything that a config may have, in which few roles of arrays are not 0."""
    wanted: dict[str, Any] = {"hx": True, "bias": True}
    wanted |= {"loss": "both"} if config.loss is not None else {}
    rich = {name: value for name, value in wanted.items() if scope.allows(name, value)}
    short = [T for T in (1, 2) if scope.allows("T", T)]
    drawn = [draw(changed(config, rich | {"T": T}), "normal", 1) for T in short or [config.T]]
    for number in range(1, MOST_ROLES + 1):
        for case in drawn:
            for roles in combinations(dict.fromkeys(map(_kind, case.arrays)), number):
                arrays = {name: v if _kind(name) in roles else np.zeros_like(v) for name, v in case.arrays.items()}
                yield Case.from_arrays(case.config, arrays)


def _kind(name: str) -> str:
    return name if name.endswith(".grad") else role_of(name)
