"""elman_layer_inquiry: the sums of a subject's step and of its way back, each from cases that show it and little else.

The order is that in which data traces: the step, from the subject's own states, then h_n, then the slope in a single
step, what a step passes to the one before it in two, each returned gradient in three, longer and wider cases for what
depends on the step or on a size, and large numbers for what is clipped. A sum is not looked up: its coefficients solve
linear equations, so that several mistakes at once only add up. What was found is then run as a whole, and must give
every number of fresh cases within the error that roundings can make.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import chain, islice, product, takewhile
from typing import Any, Final

from harness.diagnosis.identify.fit import accuracy
from harness.diagnosis.identify.gradient_clipping import LimitInquiry
from harness.diagnosis.identify.gradients_between_layers import otherwise_in_stack
from harness.diagnosis.identify.inquiry import (
    SHORT_TIME,
    SQUARE,
    PlaceResult,
    departing,
    explains,
    fresh_answers,
    gives_all,
)
from harness.diagnosis.identify.model import ONE, RIGHT_GRADIENT_SUMS, LayerModel, Network, in_order
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.output_transform_inquiry import transformable, with_transform
from harness.diagnosis.identify.questions import LONG_TIMES, Asker, Response
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.identify.transform import Transform
from harness.diagnosis.identify.wiring_choices import Place
from harness.diagnosis.identify.wiring_inquiry import WiringCases, WiringInquiry, own_view, views_of
from harness.oracle.pinned_numpy import np
from harness.space.config import RNNConfig, role_of

# The stacks that have a layer above the first, or a reverse direction, by its place.
STACKS: Final[dict[Place, dict[str, Any]]] = {(1, 0): {"num_layers": 2}, (0, 1): {"bidirectional": True}}
# The fields of the way forward, which come before those of the way back.
FORWARD_PARTS: Final = tuple(takewhile("slope".__ne__, (part.name for part in fields(LayerModel))))


class LayerInquiry(LimitInquiry):
    """Everything that is asked of one layer and direction."""

    def identify(self) -> PlaceResult:
        """Return what this layer and direction computes."""
        if self._base is None or accuracy(self.noise) >= 1:  # of 16 bits, no coefficient can be told from 0
            return self.found
        if self.place == (0, 0):
            self._find_extents()
        self.found.forward = self._step()
        if self.asker.losses and self.found.forward and self._derives():
            self.network = replace(self.network, derived=True)
            self._find_limits()
        elif self.asker.losses and self._states_known():
            wrong = self.found.forward and not self._steps_right()
            # Where nn.RNN's chain explains no gradient, that of the wrong way forward may explain some.
            first = wrong and not self._is_right_chain()
            if not (first and self._derive_in_part()):
                self._way_back()
                if wrong and not first and self.found.unknown:
                    self._derive_in_part()
        if not self.asker.has_bias:  # of what is never there, nothing is wrong
            step = {**dict.fromkeys(("b_ih", "b_hh"), ONE), **dict(self.model.step)}
            self.model = replace(self.model, step=in_order(tuple(step.items())))
        self.found.model, self.found.derived = self.model, self.derived
        return self.found

    def _derives(self) -> bool:
        """Tell whether the gradients are the derivative of a wrong way forward, as autograd takes it."""
        if self.network.derived:
            return True
        if self._steps_right():
            return False
        answers = [
            a
            for loss in self.asker.losses
            for T in (1, SHORT_TIME, self.asker.long[-1])
            for blank in (False, self.model.at_zero is not None)
            for a in self.answers(T, 1, loss=loss, scale=1.0, blank=blank)
        ]
        periods = (TermSteps("but every", k) for k in (*range(2, LONG_TIMES[-1]), *self.asker.periods))
        for when in (TermSteps(), TermSteps("never"), TermSteps("never", 1), *periods):
            model = replace(self.model, passes=when, gradient_sums={})
            if answers and gives_all(replace(self._with(model), derived=True), answers, self.asker):
                self.model, self.derived = model, True
                return True
        return False

    def _steps_right(self) -> bool:
        return all(getattr(self.model, name) == getattr(LayerModel(), name) for name in FORWARD_PARTS)

    def _derive_in_part(self) -> bool:
        """Find the gradients that are not the derivative of a wrong way forward, where others are; tell whether all."""
        before = self.model, self.network, self.derived, self.found.unknown
        self.model, self.network, self.derived = _known_part(self.model, ()), replace(self.network, derived=True), True
        self.found.unknown = []
        pairs = [pair for T in (1, SHORT_TIME, self.asker.long[-1]) for pair in self._back(T, 1)]
        wrong = self._differing(self.model, pairs)
        if {*self.roles()} - {*wrong, "hx"}:
            self.model, self.found.unknown = self._gradient_sums(self.model, len(wrong), wrong)
            if not self.found.unknown:
                self._find_limits()
            if not self.found.unknown:
                return True
        self.model, self.network, self.derived, self.found.unknown = before
        return False

    def _way_back(self) -> None:
        """Find the slope, what is passed from step to step, and what each returned gradient is made of."""
        self.model = _known_part(self.model, ())  # the way back of another layer tells nothing of this one's
        best = self._best(1)
        if (best is None or best[2]) and not self._is_only_coarse(self._with(self.model), loss=self.loss, scale=1.0):
            # a cut in short sequences is rare, and takes long
            tries = product(((20, False), (5, True)), dict.fromkeys((self._counted(), TermSteps())))
            for (most, self.cut_short), when in tries:
                if best is not None and not best[2]:
                    break
                self.model = replace(self.model, counted=when)
                best = min(filter(None, [best, self._best(most)]), key=lambda way: way[0], default=None)
        if best is None:
            self.found.unknown = ["the way back"]
            return
        (_, self.model, self.found.unknown) = best
        self._find_limits()
        self._find_kink()
        self._find_tiles()
        self._find_periods()

    def _best(self, most: int) -> tuple[tuple[int, int], LayerModel, list[str]] | None:
        """Return the way back that leaves the fewest gradients unknown, and is least odd, of the first chains."""
        best: tuple[tuple[int, int], LayerModel, list[str]] | None = None
        right = [self.model] if self._is_right_chain() else []  # nn.RNN's own is tried without a search
        for model in islice(chain(right, self._chains()), most):
            solved, unknown = self._gradient_sums(model, len(RIGHT_GRADIENT_SUMS) if best is None else len(best[2]))
            if unknown and (weighed := self._weighed(model)) is not None:
                reweighed, remaining = self._gradient_sums(weighed, len(unknown))
                solved, unknown = (reweighed, remaining) if len(remaining) < len(unknown) else (solved, unknown)
            if best is None or len(unknown) <= len(best[2]):
                solved, unknown = self._entered(solved, unknown)
            score = (len(unknown), oddness(solved))
            if best is None or score < best[0]:
                best = score, solved, unknown
            if not unknown:
                break
        self.found.unknown = []
        return best


def oddness(model: LayerModel) -> int:
    """Return how many fields of a model are not nn.RNN's."""
    right = LayerModel()
    names = ("slope", "at", "own", "links", "reached", "passes", "sloped")
    return len([name for name in names if getattr(model, name) != getattr(right, name)]) + len(model.gradient_sums)


@dataclass(frozen=True)
class Identification:
    """The network that a subject was found to compute, and the cases on which it was tried."""

    network: Network
    nonlinearity: str
    fresh: int  # the fresh cases on each of which the network gives every number that is known
    unknown: tuple[str, ...] = ()  # what is not known of it: gradients by role, or "the step"
    roles: tuple[str, ...] = ()  # the gradients that it returns
    questions: int = 0
    pins: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # the values of factors that alone were tried
    dtype: str = "float64"  # in which it was asked: the most exact one in which it computes

    @property
    def whole(self) -> bool:
        """True if every number that was returned is known."""
        return not self.unknown

    def unknown_of(self, config: RNNConfig) -> set[str]:
        """Return the arrays of the way forward that are not known."""
        return {"output", "readout", *config.form.final} & {*self.unknown}


def identify(asker: Asker, config: RNNConfig | None = None, before: Identification | None = None) -> Identification:
    """Return what a subject computes, by the coefficients of its sums.

    Of what is outside of a single layer, that is asked which may show with ``config``; without one, the sums of layers
    above and of the reverse direction. What was identified ``before`` is not asked again if it holds.
    """
    with np.errstate(all="ignore"):
        inquiry = LayerInquiry(asker)
        if before is not None and gives_all(before.network, fresh_answers(asker), asker):
            network, step_known, first = before.network, True, PlaceResult(forward=True)
        else:
            network, step_known, first = _single(asker, inquiry.identify())
        unknown = [] if step_known else ["the step"]
        # Where there always are two directions, the gradients of both are in x's: views tell them, and fresh cases.
        unknown += first.unknown if asker.allows("bidirectional", False) else []
        viewed: list[Response] = []
        for view in views_of(config, asker) if config is not None and not unknown else ():
            network, answers = seen_in(asker, view, network)
            viewed += answers
        for place, stack in STACKS.items():
            if unknown or config is not None or not all(asker.allows(name, value) for name, value in stack.items()):
                continue
            answers = list(fresh_answers(asker, **stack))
            summed = _summed(asker, network, place, answers)
            network = summed if gives_all(summed, answers, asker) else network
        shown = (role_of(name) for a in viewed for name in a.arrays if name.endswith(".grad"))
        roles = inquiry.roles() or list(dict.fromkeys(shown))  # of a subject that always has two directions
        fresh = list(fresh_answers(asker))
        wrong = {name for a in fresh for name in departing(network, a, asker.rounding)}
        unknown = [{"the way back": ""}.get(part, part.removeprefix("large ")) for part in unknown]
        returned = {name for name in wrong if not name.endswith(".grad")}
        unknown += sorted(returned) if returned <= network.transforms.keys() else ["the step"]
        unknown += roles if "" in unknown else [role_of(name) for name in wrong if name.endswith(".grad")]
        unknown = [part for part in dict.fromkeys(unknown) if part in (*roles, *returned, "the step")]
        proved = [role for role in roles if role not in unknown]
        network = network.map(partial(_known_part, roles=proved))
        fresh += [a for a in viewed if explains(network, a, asker.rounding)]
        return Identification(network, asker.nonlinearity, len(fresh), tuple(unknown), tuple(roles), asker.questions)


def _single(asker: Asker, first: PlaceResult) -> tuple[Network, bool, PlaceResult]:
    """Return the network of a single layer, and whether its step is known, given what its first cases tell."""
    generic = list(fresh_answers(asker, (None,)))
    network, step_known = Network(first.model, derived=first.derived), first.forward
    if first.coarse:
        return network, False, first
    # Of a subject that always has several layers or directions, views tell what is wrong in the others.
    single = asker.allows("num_layers", 1) and asker.allows("bidirectional", False)
    sure = step_known and (not single or gives_all(network, generic, asker))
    if not sure and (near := _right_but_one_array(asker, generic)) is not None:
        return near, True, PlaceResult(forward=True)
    if not sure:
        network, step_known, first = _otherwise_wired(asker, first, generic)
        sure = step_known and gives_all(network, generic, asker)
    if not sure or network.first.activated != 1:  # a factor of the states may be one of what is returned
        others = [*_without_one_array(asker, generic), *([(network, first)] if sure else [])]
        network, first = min(others, key=partial(_oddness, asker, generic), default=(network, first))
        step_known = step_known or bool(others)
    return network, step_known, first


def _right_but_one_array(asker: Asker, generic: Sequence[Response]) -> Network | None:
    """Return nn.RNN with a transform of one array that is returned, if that is all."""
    several = ((name, with_transform(asker, Network(), name, generic)) for name in transformable(generic))
    near = (net for name, net in several if net is not None and net.transforms[name] != Transform())
    return next((net for net in near if gives_all(net, fresh_answers(asker), asker)), None)


def _otherwise_wired(
    asker: Asker, first: PlaceResult, generic: Sequence[Response]
) -> tuple[Network, bool, PlaceResult]:
    """Return the network of a step that is not known with everything in its place, and whether it is known so."""
    own = WiringInquiry(asker, own_view(asker, readout=bool(generic and "readout" in generic[0].arrays)))
    results = [PlaceResult(forward=True)]
    for sequences, input_size in ((1, SQUARE), (2, SQUARE - 1)):  # what is mixed up, or depends on equal sizes
        if first.forward:
            break
        results.append(LayerInquiry(asker, sequences=sequences, input_size=input_size).identify())
    for result in results:
        if not result.forward:
            continue
        network = Network(result.model, derived=result.derived)
        network = own.forth(network, 2) or network
        if not gives_all(network, generic, asker):
            continue
        for candidate in (network, replace(network.map(partial(_known_part, roles=())), derived=True)):
            if own.explained(candidate, own.backward):
                return candidate, True, result
        if result.model != LayerModel():
            return network, True, result
        if (back := own.back(network)) is not None:
            return back, True, result
    best = next((result for result in results[1:] if result.forward), first)
    return Network(best.model, derived=best.derived), best.forward, best


def _oddness(asker: Asker, generic: Sequence[Response], candidate: tuple[Network, PlaceResult]) -> tuple[bool, int]:
    """Return how far a network is from what is sought: whether it leaves anything, and the number of its mistakes."""
    return not gives_all(candidate[0], generic, asker), len(mistakes_of(candidate[0], asker.nonlinearity))


def _without_one_array(asker: Asker, generic: Sequence[Response]) -> Iterator[tuple[Network, PlaceResult]]:
    """Yield the network of a step that is known without one array, with the transform of that array, if it is known."""
    for name in transformable(generic):
        part = LayerInquiry(asker.without(name)).identify()
        network = Network(part.model, derived=part.derived)
        if part.forward and (transformed := with_transform(asker, network, name, generic)) is not None:
            yield transformed, part


Elsewhere = Callable[[Network, WiringInquiry], Network]  # finds the steps of other layers, or of another direction


def seen_in(
    asker: Asker, view: WiringCases, network: Network, elsewhere: Elsewhere | None = None
) -> tuple[Network, list[Response]]:
    """Return a network that explains the cases of a view, and those that it explains."""
    inquiry = WiringInquiry(asker, view)
    if view.name == "lengths" and asker.ignores_padding:
        network = replace(network, ignores_padding=True)
    before, summed = network, elsewhere or partial(_summed_elsewhere, asker)
    layered = view.name in ("layers", "directions")

    if not inquiry.explained(network, inquiry.forward):
        wired = inquiry.forth(network, 1)
        if wired is None and layered:
            candidate = summed(network, inquiry)
            wired = candidate if inquiry.explained(candidate, inquiry.forward) else inquiry.forth(candidate)
        wired = wired or inquiry.forth(network)
        if wired is None and layered:
            several = (summed(start, inquiry) for start in inquiry.nearest)
            wired = next((option for option in several if inquiry.explained(option, inquiry.forward)), None)
        if wired is None:
            return network, []
        before, network = network, _pruned(wired, network, asker, inquiry)
    both = [*inquiry.forward, *inquiry.backward]
    if inquiry.explained(network, inquiry.backward):
        return network, both
    if (back := inquiry.back(network)) is not None:
        return back, both
    # what a wiring explains on the way forward may be a sum that explains the way back, too
    for start in ([network] if before is network else [network, before]) if layered else ():
        candidate = summed(start, inquiry)
        result = candidate if inquiry.explained(candidate, both) else inquiry.back(candidate)
        if result is not None and inquiry.explained(result, both):
            return result, both
    if layered and asker.losses:
        stacked = otherwise_in_stack(asker, network, layers=view.name == "layers")
        if stacked is not None:
            rewired = stacked if inquiry.explained(stacked, both) else inquiry.back(stacked)
            if rewired is not None:
                return rewired, both
    return network, inquiry.forward


def _pruned(network: Network, before: Network, asker: Asker, inquiry: WiringInquiry) -> Network:
    """Return the network without the new differences that others make needless: a sum that a wiring explains."""
    earlier = mistakes_of(before, asker.nonlinearity)
    for mistake in [m for m in mistakes_of(network, asker.nonlinearity) if m not in earlier]:
        less = mistake.without(network)
        network = less if inquiry.explained(less, inquiry.forward) else network
    return network


def _summed_elsewhere(asker: Asker, network: Network, inquiry: WiringInquiry) -> Network:
    place = (1, 0) if inquiry.view.name == "layers" else (0, 1)
    return _summed(asker, network, place, list(fresh_answers(asker, **STACKS[place])))


def _summed(asker: Asker, network: Network, place: Place, fresh: list[Response]) -> Network:
    """Return the network with the sums of the layers above, or of the reverse direction, that explain its cases.

    If none explain the gradients, they are those that explain the way forward; if none do, it stays as it is.
    """
    forward = [a for a in fresh if a.case.config.loss is None]
    if gives_all(network, fresh, asker):
        return network
    result = LayerInquiry(asker, place, network).identify()
    if not result.forward:
        return network
    # its way back may be that of the first layer, as a whole or in what is not returned alone, the gradient by x
    passed = {role: terms for role, terms in network.first.gradient_sums.items() if role == "x"}
    of_first = replace(network.first, **{name: getattr(result.model, name) for name in FORWARD_PARTS})
    models = [replace(result.model, gradient_sums={**result.model.gradient_sums, **more}) for more in ({}, passed)]
    pairs = [(model, result.derived) for model in models if not result.unknown] + [(of_first, network.derived)]
    name = "above" if place[0] else "reverse"
    parts: list[dict[str, Any]] = [{name: model, "derived": derived} for model, derived in pairs]
    several = [replace(network, **part) for part in parts]
    kinds = ((fresh, ()), (forward, ()), (forward, ("h_n",)))  # a wiring may explain h_n
    right = (some for answers, but in kinds for some in several if gives_all(some, answers, asker, but))
    return next(right, network)


def _known_part(model: LayerModel, roles: Sequence[str]) -> LayerModel:
    """Return a model without what is not proved: other gradients, and all of the way back if none is known."""
    if not roles:
        return replace(LayerModel(), **{name: getattr(model, name) for name in FORWARD_PARTS})
    parts: dict[str, Any] = {
        name: {role: value for role, value in getattr(model, name).items() if role in roles}
        for name in ("gradient_sums", "limits")
    }
    return replace(model, **parts)
