"""The gradients that some layers of a stack, or one direction, return or pass down in a way of their own.

An inner layer returns no states, so that its sums are not seen. But the gradients below a layer are linear in what it
passes down, and each gradient is linear in its terms: each term is run alone, and the coefficients are solved for.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Final

from harness.diagnosis.identify.coefficient_patterns import gathered_at_start
from harness.diagnosis.identify.fit import TermColumns, solve
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.inquiry import departing, fresh_answers
from harness.diagnosis.identify.model import DERIVATIVE, ONE, RIGHT_GRADIENT_SUMS, ROLES, Network, WeightedTerms
from harness.diagnosis.identify.network_run import place_of, run, traces_of
from harness.diagnosis.identify.questions import Asker, Response
from harness.diagnosis.identify.returned_gradients import terms_of_da
from harness.diagnosis.identify.terms import LayerTrace
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np
from harness.space.config import role_of

STACKED_LAYERS: Final = 2


def otherwise_in_stack(asker: Asker, network: Network, *, layers: bool) -> Network | None:
    """Return the network with the other gradients of some layers, or else of one direction, as far as they are sums.

    The layers are those above the first, which pass something else down, or all but the last. ``None`` if none are.
    """
    if network.above is not None or network.reverse is not None or (network.derived and not layers):
        return None
    stack: dict[str, Any] = {"num_layers": STACKED_LAYERS} if layers else {"bidirectional": True}
    every = [a for a in fresh_answers(asker, asker.losses[:1], **stack) if a.case.config.loss is not None]
    wrong = sorted({name for a in every for name in departing(network, a, asker.rounding)})
    if not wrong or not all(name.endswith(".grad") for name in wrong):
        return None
    several = {a.case.config.T: a for a in every[::-1] if a.case.config.hidden_size > 1}  # which tell matrices apart

    def solved(start: Network, where: str, role: str, names: Sequence[str]) -> WeightedTerms | None:
        cases = [_solved(asker, a, start, (where, role), names) for a in several.values()]
        return None if None in cases else gathered_at_start([case for case in cases if case is not None], asker.noise)

    if layers:
        names = [name for name in every[0].arrays if name.endswith(".grad") and name != "hx.grad"]  # its rows may move
        below = [name for name in names if place_of(name)[0] < STACKED_LAYERS - 1]
        passed = solved(network, "l > 0", "x", below) if {*wrong} <= {*below, "hx.grad"} else None
        if passed is not None:
            return _with_sum(network, "l > 0", "x", passed)
    if network.derived:
        return None
    result = network
    for where, role in product(("l < L - 1",) if layers else ("d == 1", "d == 0"), ROLES[:4]):
        at = (0, int(where == "d == 1"))
        names = [name for name in wrong if role_of(name) == role and place_of(name) == at]
        if names and (terms := solved(result, where, role, names)) is not None:
            result = _with_sum(result, where, role, terms)
    return None if result is network else result


def _with_sum(network: Network, where: str, role: str, terms: WeightedTerms) -> Network:
    """Return a network with another sum of a gradient in some layers, or in one direction."""
    own = {"d == 0": network.first, "d == 1": network.reverse}.get(where, network.above) or network.first
    model = replace(own, gradient_sums={**own.gradient_sums, role: terms})
    if where == "d == 0":
        return replace(network, first=model, reverse=network.reverse or network.first)
    if where == "d == 1":
        return replace(network, reverse=model)
    return replace(network, above=model, wiring=network.wiring.put("above", where))


def _solved(
    asker: Asker, a: Response, network: Network, target: tuple[str, str], names: Sequence[str]
) -> tuple[LayerTrace, dict[int, dict[str, float]]] | None:
    """Return the coefficients of the terms of a gradient that give some arrays of an answer, if there are some."""
    where, role = target
    names = [name for name in names if name in a.arrays]

    def made(terms: WeightedTerms) -> Floats:
        arrays = run(_with_sum(network, where, role, terms), a.case)
        return np.concatenate([np.ravel(values_of(arrays[name])) for name in names])

    nothing, own = made(()), DERIVATIVE if network.derived else RIGHT_GRADIENT_SUMS[role][0][0]
    trace = traces_of(network, a.case)[-1 if where in ("l > 0", "d == 1") else 0]
    others = () if network.derived else terms_of_da(role, trace)
    y = np.concatenate([np.ravel(a.arrays[name]) for name in names]) - nothing
    columns = TermColumns(dict.fromkeys([own, *others]), lambda name: made(((name, ONE),)) - nothing)
    by = solve(columns, y, asker.noise, [own])
    return None if by is None else (trace, {0: by})
