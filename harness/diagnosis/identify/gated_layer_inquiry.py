"""gated_layer_inquiry: a layer with gates: its step, what moves from step to step, and whether that is all."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain, islice, product
from typing import Any, Final

from harness.diagnosis.identify.choices import choices
from harness.diagnosis.identify.elman_layer_inquiry import Identification, seen_in
from harness.diagnosis.identify.fit import plainest
from harness.diagnosis.identify.gate_back import find_back
from harness.diagnosis.identify.gate_inquiry import SATURATING_DRIVE, GateInquiry, StepToRead
from harness.diagnosis.identify.gates import X_STEPS, GatedModel, step_of
from harness.diagnosis.identify.inquiry import departing, distant, explains, fresh_answers, nearly
from harness.diagnosis.identify.model import LayerModel, Network
from harness.diagnosis.identify.output_transform_inquiry import transformable, with_transform
from harness.diagnosis.identify.questions import Asker, CaseSizes, Response
from harness.diagnosis.identify.step_patterns import TermSteps, patterns
from harness.diagnosis.identify.subject_views import one_way, with_exchanged_states
from harness.diagnosis.identify.terms import STATES_RETURNED
from harness.diagnosis.identify.wiring_inquiry import WiringInquiry, order_view, views_of
from harness.oracle.pinned_numpy import np
from harness.space.cells import CELL_DEFINITIONS
from harness.space.config import RNNConfig, role_of

STATE_TERMS: Final = ("h'", "c'", "t", "h", "c", "tanh(c)", "zero")  # what may be taken for a state that goes on
STEPS_WRITTEN: Final = tuple(
    name for name in STATES_RETURNED if name.startswith("h[") and name not in ("h[t]", "h[t-1]")
)
LARGE_STATE: Final = 100.0
ABOVE: Final = ("l > 0", "l < L - 1", "0 < l == L - 1")  # the layers that may have a step of their own


def identify_gated(asker: Asker, config: RNNConfig, before: Identification | None = None) -> Identification:
    """Return what a subject computes whose cell has gates, as ``elman_layer_inquiry.identify`` does."""
    with np.errstate(all="ignore"):
        network = None if before is None else before.network
        if network is None or not _all(network, fresh_answers(asker, (None,)), asker):
            network = _forward(asker, config.cell)
        fresh, at_first = list(fresh_answers(asker)), network
        each = [departing(network, a, asker.rounding) for a in fresh]
        alone = asker.allows("bidirectional", False)
        # of two directions at once, their wiring may be wrong
        forward = _missed(fresh, each) <= network.transforms.keys() or not alone
        if forward and alone and any(each):
            network = find_back(asker, network)
        if forward:
            # the step of the reverse direction alone, which takes long to find, and does not depend on the view
            reverse = cache(lambda: _forward(one_way(asker, 1), config.cell).first)
            for view in views_of(config, asker):
                network, answers = seen_in(asker, view, network, partial(_elsewhere, asker, reverse))
                fresh += answers
        each = each if network is at_first else []
        each += [departing(network, a, asker.rounding) for a in fresh[len(each) :]]
        wrong, missed = {name for names in each for name in names}, _missed(fresh, each)
        unknown = sorted(missed) if forward else ["the step"]
        unknown += sorted({role_of(name) for name in wrong if name.endswith(".grad")})
        roles = {role_of(name) for a in fresh for name in a.arrays if name.endswith(".grad")}
        return Identification(network, asker.nonlinearity, len(fresh), tuple(unknown), tuple(roles), asker.questions)


def _missed(answers: Iterable[Response], departures: Iterable[set[str]]) -> set[str]:
    """Return the arrays that a network does not give where no gradients are asked for."""
    pairs = zip(answers, departures, strict=True)
    return {name for a, names in pairs for name in names if a.case.config.loss is None}


def _forward(asker: Asker, cell: str) -> Network:
    """Return the network that gives what is returned on the way forward, or the nearest that was found."""
    generic, right = list(fresh_answers(asker, (None,))), Network(step_of(cell), derived=True)
    wrong = {name for a in generic for name in departing(right, a, asker.rounding)}
    if not asker.allows("bidirectional", False):  # both directions are taken to make the same step
        return right if not wrong else _forward(one_way(asker), cell)
    if len(CELL_DEFINITIONS[cell].final) > 1 and _exchanges(generic):
        swapped = _forward(with_exchanged_states(asker), cell)
        own: Any = swapped.first
        exchanged = replace(swapped, first=replace(own, returned=(own.returned[0], *own.returned[:0:-1])))
        if _all(exchanged, generic, asker):
            return exchanged
    if not wrong:
        return Network(_limited(GateInquiry(asker, cell, [StepToRead(1, hx=True)]), step_of(cell)), derived=True)
    for name in transformable(generic) if len(generic[0].arrays) > 1 else ():
        # The step is right, and one array that is returned of it is not: it is another state, or a transform.
        if (transformed := with_transform(asker, right, name, generic)) is not None:
            model = _returning(asker, step_of(cell), generic, step_of(cell))
            return transformed if model is None else Network(model, derived=True)
    coarse = nearly(right, generic)  # what only rounds more is looked at once
    model = _layer(asker, cell, ways=1 if coarse else 3)
    best = right if model is None else Network(model, derived=True)
    if coarse or _all(best, generic, asker):
        return best
    starts = (best, right)[: 1 + (model is not None)]
    at_steps = (network for start in starts for network in _at_some_steps(asker, start, generic))
    near = chain(_one_choice_away(starts, generic, asker), at_steps)
    return next(chain(near, _without_one_array(asker, cell, generic)), best)


def _exchanges(answers: Sequence[Response]) -> bool:
    """Tell whether c_n is the last output, and h_n is not, in all answers."""
    for a in answers:
        output, ends = a.steps, [a.arrays.get(name) for name in ("h_n", "c_n")]
        if output is None or a.rounded or any(end is None or end.ndim < 3 for end in ends):
            return False
        h_n, c_n = (np.array_equal(output[-1], end[-1]) for end in ends if end is not None)
        if h_n or not c_n:
            return False
    return bool(answers)


def _at_some_steps(asker: Asker, base: Network, generic: Sequence[Response]) -> Iterator[Network]:
    """Yield networks that give some answers, and whose step differs in one choice at the steps of a pattern."""
    model: Any = base.first
    config = generic[0].case.config
    for T in range(1, asker.long[-1] + 1):
        answers = [a for seed in range(2) if (a := asker.ask(CaseSizes(T, 2, 3, 4), seed, loss=None)) is not None]
        if not _all(base, answers, asker):
            break
    else:
        return
    alike: dict[tuple[bool, ...], list[TermSteps]] = {}
    for when in islice(patterns(asker.long[-1]), 1, None):  # but all of them
        shown = any(when.at(t, shorter) for shorter in range(1, T) for t in range(shorter))
        if not shown and any(hits := tuple(when.at(t, T) for t in range(T))):
            alike.setdefault(hits, []).append(when)
    others = product(*((s, f"{s}x", "zero") for s in "hc"[: len(model.starts)]))
    every = [replace(model, reads=names) for names in islice(others, 1, None)]
    every += [choice.apply(base).first for choice in choices(config, {}) if not choice.back]
    moves = ("starts", "carried", "returned")
    there = [step for step in every if step != model and all(getattr(step, n) == getattr(model, n) for n in moves)]
    for whens, variant in product(alike.values(), there):
        several = [replace(base, first=replace(model, other_model=variant, other_model_steps=when)) for when in whens]
        if nearly(several[0], answers) and _all(several[0], answers, asker):
            yield from (network for network in several if _all(network, generic, asker))


def _one_choice_away(networks: Iterable[Network], generic: Sequence[Response], asker: Asker) -> Iterator[Network]:
    """Yield networks that give some answers, and differ in one choice from what is known."""
    config = generic[0].case.config
    made = (choice.apply(network) for network in networks for choice in choices(config, {}) if not choice.back)
    return (
        network
        for network in made
        if not distant(network, generic[0], asker.rounding) and _all(network, generic, asker)
    )


def _elsewhere(asker: Asker, reverse: Callable[[], LayerModel], network: Network, inquiry: WiringInquiry) -> Network:
    """Return the network with a step of the layers above, of the inner ones, or of a direction, that explains a view.

    In the reverse direction it is found as that of a single one is; elsewhere, it is one choice away.
    """
    config = inquiry.forward[0].case.config
    right = step_of(config.cell)
    layers = inquiry.view.name == "layers"
    made = [choice.apply(network) for choice in choices(config, {}) if not choice.back]

    def candidates() -> Iterator[Network]:
        where = "above" if layers else "reverse"
        yield replace(network, above=right) if layers else replace(network, reverse=right)
        yield from (variant for variant in made if getattr(variant, where) is not None)
        if not layers:  # it takes long not to find a step, so that is left for the end
            yield replace(network, reverse=reverse())

    stack: dict[str, Any] = {"num_layers": config.num_layers, "bidirectional": config.bidirectional}
    first = asker.ask(CaseSizes(1 if asker.has_hx else 2, 1, 3, 2), hx=asker.has_hx, loss=None, **stack)
    small = [] if first is None else [first]  # which rules most out in a tenth of the time
    for where in ABOVE if layers else ABOVE[:1]:
        for candidate in candidates():
            wired: Network = replace(candidate, wiring=candidate.wiring.put("above", where))
            if nearly(wired, small) and inquiry.explained(wired, inquiry.forward):
                return wired
    return network


def _without_one_array(asker: Asker, cell: str, generic: Sequence[Response]) -> Iterator[Network]:
    """Yield the network of a step that is known without one array, with what that array is, if it is known."""
    for name in transformable(generic):
        if (model := _layer(asker.without(name), cell)) is None:
            continue
        network = Network(model, derived=True)
        wired = WiringInquiry(asker, order_view(asker)).forth(network, 1)
        if wired is not None and _all(wired, generic, asker):
            yield wired
        if (transformed := with_transform(asker, network, name, generic)) is not None:
            yield transformed


def _all(network: Network, answers: Iterable[Response], asker: Asker) -> bool:
    return all(explains(network, a, asker.rounding) for a in answers)


def _layer(asker: Asker, cell: str, ways: int = 3) -> GatedModel | None:
    """Return what the layer computes, if its step is found, in some ways of asking."""
    first: GatedModel | None = None
    later, start = StepToRead(2, not asker.allows("hx", False)), StepToRead(1, hx=True)
    both = [later, *([start] if asker.allows("hx", True) else [])]
    for settings in [both, both[::-1], [StepToRead(2, hx=True)] if len(both) > 1 else []][:ways]:
        inquiry = GateInquiry(asker, cell, settings)
        inquiry.find_observations()
        for step in inquiry.find_states() if inquiry.observations and inquiry.find_sums() else ():
            moved, explained = _moved(asker, step)
            if not explained and (limited := _limited(inquiry, moved)) != moved:  # what is cut off hides where it moves
                moved, explained = _moved(asker, limited)
            if explained:
                return _limited(inquiry, moved)
            first = first or moved
    return first


def _moved(asker: Asker, model: GatedModel) -> tuple[GatedModel, bool]:
    def answers(T: int, hx: bool) -> list[Response]:
        responses = (asker.ask(CaseSizes(T, 2, 3, 4), seed, hx=hx, loss=None) for seed in range(2))
        return [a for a in responses if a is not None]

    right, states = step_of(model.cell), len(model.starts)
    starts = [model.starts, *product((*right.starts, "zero"), repeat=states)]
    carried = [model.carried, *product(STATE_TERMS, repeat=states)]
    first, started = answers(1, False), answers(1, True)
    best = model
    for start in dict.fromkeys(starts if started else starts[:1]):
        candidate = _returning(asker, replace(model, starts=start), [*first, *started], right)
        if candidate is not None:
            best = candidate
            break
    later = [a for T in (2, 3) for hx in (False, True) for a in answers(T, hx)]
    for some in dict.fromkeys(carried):
        for candidate in (replace(best, carried=some), _returning(asker, replace(best, carried=some), later, right)):
            if candidate is not None and _all(Network(candidate, derived=True), later, asker):
                return candidate, True
    moved = (replace(best, carried=some, input=index) for index, some in product(_other_inputs(later), carried[1:]))
    return next(((m, True) for m in moved if _all(Network(m, derived=True), later, asker)), (best, False))


def _other_inputs(answers: Sequence[Response]) -> list[str]:
    """Return the steps of x that may be read, one for each that differs in some answers, but for the own."""
    lengths = sorted({a.case.config.T for a in answers})
    names = {tuple(at(t, T) for T in lengths for t in range(T)): name for name, at in reversed(X_STEPS.items())}
    return [name for name in names.values() if name != "t"]


def _returning(asker: Asker, model: GatedModel, answers: Sequence[Response], right: GatedModel) -> GatedModel | None:
    names = ("output", *("h_n", "c_n")[: len(model.starts)])
    returned, written = list(right.returned), right.written
    for k, name in enumerate(names):
        choices_of = [(choice, right.written) for choice in (right.returned[k], *STATE_TERMS, *dict(model.gates))]
        choices_of += [(right.returned[k], steps) for steps in STEPS_WRITTEN] if k == 0 else []
        for choice, steps in choices_of:
            if len(model.starts) == 1 and choice in ("c'", "t", "c", "tanh(c)"):
                continue
            returned[k], written = choice, steps if k == 0 else written
            network = Network(replace(model, returned=tuple(returned), written=written), derived=True)
            if not any(
                name in distant(network, a, asker.rounding) or name in departing(network, a, asker.rounding)
                for a in answers
            ):
                break
        else:
            return None
    return replace(model, returned=tuple(returned), written=written)


def _limited(inquiry: GateInquiry, model: GatedModel) -> GatedModel:
    """Return a model with the limit of the state that is kept, if that has one: gates are open, so that it only grows.

    A gate that keeps a state may be open where its sum is large, or where it is the least.
    """
    name = f"{model.kept}_n"
    if model.returned[-1] != f"{model.kept}'":
        return model
    for start, sum_ in product((LARGE_STATE, -LARGE_STATE), (SATURATING_DRIVE, -SATURATING_DRIVE)):
        if (a := inquiry.grown(start, sum_)) is None or name not in a.arrays:
            return model
        if explains(Network(model, derived=True), a, inquiry.asker.rounding):
            continue
        limit = float(np.abs(a.arrays[name]).max())
        limited = replace(model, limit=plainest(limit, inquiry.noise) if 0 < limit < LARGE_STATE else 0.0)
        if explains(Network(limited, derived=True), a, inquiry.asker.rounding):
            return limited
    return model
