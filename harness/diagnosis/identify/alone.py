"""alone: cases on which some mistakes of an identified layer show, and no others."""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import Any, Final

from harness.diagnosis.fresh import changed
from harness.diagnosis.identify.identify import Identification
from harness.diagnosis.identify.mistakes import Mistake, mistakes_of
from harness.diagnosis.identify.model import Network
from harness.diagnosis.identify.run import run, values_of
from harness.oracle.bound import np
from harness.oracle.known import Floats
from harness.space.case import Case
from harness.space.config import RNNConfig, role_of
from harness.space.scope import Scope
from harness.space.values import draw

MOST: Final = 4  # roles of arrays that are not 0: x or a state, its weights, and a gradient, with one to spare
EQUAL: Final = 1e-9  # of numbers of about 1: more than roundings of float64, and less than any choice makes


@np.errstate(all="ignore")
def shown_alone(
    identified: Identification, some: Collection[Mistake], others: Collection[Mistake], config: RNNConfig, scope: Scope
) -> Iterator[Case]:
    """Yield cases near a config on which one of some mistakes makes a difference, and none of the others does.

    Most of their arrays are 0, which hides what is multiplied by them.
    """
    whole, every = identified.network, mistakes_of(identified.network, identified.nonlinearity)
    known = {*identified.roles} - {*identified.unknown}
    without_some, without_others = ([m.without(whole) for m in every if m in these] for these in (some, others))

    def differs(made: Mapping[str, Floats], other: Network, case: Case) -> bool:
        return any(
            np.abs(made[name] - value).max(initial=0) > EQUAL
            for name, value in _given(other, case).items()
            if (role_of(name) in known if name.endswith(".grad") else name not in identified.unknown)
        )

    for case in _mostly_zero(config, scope.only(**identified.pins)):
        plain = case.plain()
        made = _given(whole, plain)
        if any(differs(made, one, plain) for one in without_some) and not any(
            differs(made, one, plain) for one in without_others
        ):
            yield case


def _given(network: Network, case: Case) -> dict[str, Floats]:
    return {name: values_of(v) for name, v in run(network, case).items()}


def _mostly_zero(config: RNNConfig, scope: Scope) -> Iterator[Case]:
    """Yield cases of few steps with everything that a config may have, in which few roles of arrays are not 0."""
    wanted: dict[str, Any] = {"hx": True, "bias": True}
    wanted |= {"loss": "both"} if config.loss is not None else {}
    rich = {name: value for name, value in wanted.items() if scope.allows(name, value)}
    lengths = sorted(T for T in {1, 2, config.T} if scope.allows("T", T))
    drawn = [draw(changed(config, rich | {"T": T}), "normal", 1) for T in lengths]
    for number in range(1, MOST + 1):
        for case in drawn:
            for roles in combinations(dict.fromkeys(map(_kind, case.arrays)), number):
                arrays = {name: v if _kind(name) in roles else np.zeros_like(v) for name, v in case.arrays.items()}
                yield Case.from_arrays(case.config, arrays)


def _kind(name: str) -> str:
    return name if name.endswith(".grad") else role_of(name)
