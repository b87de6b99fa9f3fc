"""wiring_inquiry: the wiring of a subject, found slot by slot on the smallest stack that shows it.

A view is what a few slots show in: two layers, two directions, a packed batch. Its cases are those on which each choice
of a slot gives other numbers. A choice is taken if it brings more of a subject's numbers out right, and a wiring is
believed if it gives all of them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.activations import ACTIVATIONS
from harness.diagnosis.identify.gates import PARAMETER_ROLES
from harness.diagnosis.identify.inquiry import explains, gives_all, matched
from harness.diagnosis.identify.model import Network
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.questions import Asker, CaseSizes, Response
from harness.diagnosis.identify.wiring_choices import (
    FINALS,
    FLIPS,
    FROM_HX,
    GRADIENT_LOSSES,
    LAYOUTS,
    MOVED_PLACES,
    OWN_PLACE,
    SEQUENCE_ORDERS,
    SLOTS,
    STATE_ROWS,
    STEP_ORDERS,
    TIMES,
    WAYS,
    WHERE,
    LayersByDirections,
    Wiring,
    at_place,
)
from harness.oracle.pinned_numpy import np
from harness.space.config import RNNConfig

SlotChoices = tuple[tuple[str, Any], ...]  # slots and choices that are made together

# The parameters that may be those of another place together.
ROLES_SHARED: Final = tuple(some for count in (4, 3, 2, 1) for some in combinations(PARAMETER_ROLES, count))
OTHER_PLACES: Final = tuple(
    tuple((role, place) for role in roles) for roles in ROLES_SHARED for place in MOVED_PLACES if place != OWN_PLACE
)
DROPS: Final = (("h_n",), ("c_n",), ("h_n", "c_n"))
OF_C: Final = ("cx_row", "c_n_row", "c_n_place", "c_n_where")
OF_OUTPUT: Final = ("writes", "output_of", "output_layout", "padding", "joined", "output")  # slots of the output alone
SLOTS_AT_ONCE: Final = 4  # slots that are wrong at once in one view, at most
WIRING_BEAM: Final = 3  # wirings from which the search goes on
# The most wirings that are tried on one answer, some two seconds; after them, each choice that brought more numbers out
# right before.
MOST_CANDIDATES: Final = 800
UNSORTED_LENGTHS: Final = (3, 1, 4, 2, 2)  # their order, its inverse and its square are all different
WIRING_SEED: Final = 31


class CaseSpec(NamedTuple):
    """The sizes of a case, and its other factors."""

    sizes: CaseSizes
    factors: dict[str, Any]


@dataclass(frozen=True)
class WiringCases:
    """The cases that show some slots, and the choices of these."""

    name: str
    probes: tuple[CaseSpec, ...]  # that a wiring must explain
    wider: tuple[CaseSpec, ...]  # that tell apart wirings that do
    moves: tuple[SlotChoices, ...]


def _alone(slots: str, choices: Iterable[Any] | None = None) -> list[SlotChoices]:
    """Return the choices of some slots, each by itself; of each slot all that it has unless given."""
    return [((slot, choice),) for slot in slots.split() for choice in choices or SLOTS[slot].choices]


def _both(slots: str, choices: Iterable[str]) -> list[SlotChoices]:
    """Return the choices of some slots of both directions, in both together, and in each."""
    pairs = [tuple((f"{way}.{slot}", choice) for way in WAYS) for slot, choice in product(slots.split(), choices)]
    return [move for pair in pairs for move in (pair, pair[:1], pair[1:])]


_OF_BATCH, _PACKED = (
    [name for name in SEQUENCE_ORDERS if name != "n" and packed == ("order" in name or "lengths" in name)]
    for packed in (False, True)
)
_OF_SEQUENCE: Final = "hx_of x_of output_of h_n_of"
_ORDER: Final = [
    move
    for way, time in product(WAYS[::-1], TIMES)
    for pair in [((f"{way}.reads", time), (f"{way}.writes", time))]
    for move in (pair[:1], pair[1:], pair)
]
_STATES: Final = [
    *_alone("h_n_where h_n_place h_n_row hx_row"),
    *_alone("hx_layout h_n_layout", ["always the other"]),
    *_alone(" ".join(OF_C)),
    *((("hx_row", row), ("h_n_row", row)) for row in STATE_ROWS),
    *_alone("weights", ((), *OTHER_PLACES)),
    *_alone("above turned"),
    *((("activation", kind), ("activation_where", where)) for where, kind in product(WHERE, ACTIVATIONS)),
]
MOVES: Final[dict[str, list[SlotChoices]]] = {
    "order": [*_ORDER, *_both("final", FINALS)],
    "own": [*_alone("matrices"), *_alone("skip", ["x", "every layer"]), *_ORDER, *_both("final", FINALS)],
    "batch": [
        *_both(_OF_SEQUENCE, _OF_BATCH),
        *_both("steps", [name for name in STEP_ORDERS if " if " in name]),
        *_both("started", FROM_HX),
        *_alone("carries", [True]),
        *_alone("x_layout output_layout", ["always batch first"]),
    ],
    "layout": _alone(
        "x_layout output_layout hx_layout h_n_layout", [name for name in LAYOUTS if name != "always the other"]
    ),
    "layers": [*_alone("layers", ["1", "L - 1"]), *_alone("input skip"), *_STATES],
    "directions": [
        *_alone("joined output inner"),
        *_alone("directions", ["1"]),
        *_alone("inner_reverse", ["T - 1 - t"]),
        *_ORDER,
        *_alone("reverse.final forward.final"),
        *(FLIPS["x"], FLIPS["output"], FLIPS["x"] + FLIPS["output"]),
        *(
            ((f"{way}.{slot}", sequence),)
            for slot, sequence, way in product(_OF_SEQUENCE.split(), ("N - 1 - n", "0", "N - 1"), WAYS[::-1])
        ),
        *_STATES,
    ],
    "lengths": [
        *_both("steps", [name for name in STEP_ORDERS if " if " not in name]),
        (("forward.steps", "T"), ("reverse.steps", "T"), ("padding", "0")),
        *_ORDER,
        *_both("final", FINALS),
        *_both("hx_of h_n_of output_of x_of", _PACKED),
        *_both("started", FROM_HX),
        *_alone("padding", ["0", "held"]),
    ],
    "dropout": [*_alone("factor mask"), *_alone("drops_last", DROPS)],
    "evaluation": _alone("evaluation"),
    "readout": [
        *_alone("readout readout_step"),
        *_alone("readout_where", ["t == T - 1"]),
        *_alone("readout_bias", [False]),
    ],
}
LOST_MOVES: Final = [
    *_alone("gradient_stop", [name for name in GRADIENT_LOSSES if name]),
    *_alone("h_n_where"),
    *_alone("gradients_of", OTHER_PLACES),
]


def views_of(config: RNNConfig, asker: Asker) -> Iterator[WiringCases]:
    """Yield the views that show what may be wrong in a case, from the plainest outwards."""
    L, D = min(config.num_layers, 2), config.bidirectional
    stacks = [{"num_layers": L, "bidirectional": D}]
    deeper = [{"num_layers": 3, "bidirectional": D}] if L > 1 else []
    others = [{"num_layers": 2, "bidirectional": True}]

    def view(name: str, sizes: Sequence[tuple[int, int]], stacks: Any, wider: Any = (), **factors: Any) -> WiringCases:
        def probes(stacks: Any) -> tuple[CaseSpec, ...]:
            return tuple(
                CaseSpec(CaseSizes(T, N, width, 2), stack | factors | {"hx": hx})
                for stack in stacks
                for T, N in sizes
                for hx in ((False, True) if asker.has_hx else (False,))
                for width in ((4, 2) if name in ("layers", "directions") and stack is stacks[0] else (3,))
            )

        single = CaseSpec(CaseSizes(3, 2, 3, 2), {"hx": False})  # what is right there stays so
        moves = tuple(move for move in MOVES[name] if "cx" in config.form.hidden or not _of_c(*move[0]))
        return WiringCases(name, (*probes(stacks), single), probes(wider), moves)

    if config.N > 1:
        yield view("batch", [(2, 3)], [{}])
    if config.batch_first and config.batched:
        yield view("layout", [(3, 2), (3, 3)], stacks, batch_first=True)
    if config.num_layers > 1:
        plain = [{"num_layers": 2}, {"num_layers": 3}]
        yield view("layers", [(3, 2)], plain, [] if D else others)
    if D:
        yield view("directions", [(3, 2)], [{"bidirectional": True}], others)
        if config.num_layers > 1:
            yield view("directions", [(3, 2)], [*stacks, *deeper])
    if config.lengths is not None:
        yield view("lengths", [(4, 5), (4, 1)], stacks, [*others, {"bidirectional": True}], lengths=UNSORTED_LENGTHS)
    if config.drops and (p := _dropout(asker)):
        yield view("dropout", [(3, 3)], [*stacks, *deeper], others, dropout=p, training=True)
    elif config.dropout and config.num_layers > 1 and (p := _dropout(asker)):
        yield view("evaluation", [(3, 2)], [*stacks, *deeper], others, dropout=p, training=False)
    if config.output_size is not None:
        yield view("readout", [(3, 2)], stacks, [{"bidirectional": True}], output_size=config.output_size)


def own_view(asker: Asker, *, readout: bool) -> WiringCases:
    """Return the view of a single layer and sequence, of a batch, and of a readout that is always there."""
    moves = (*MOVES["own"], *MOVES["batch"], *(MOVES["readout"] if readout else ()))
    return WiringCases("own", _single_probes(asker), (), moves)


def order_view(asker: Asker) -> WiringCases:
    """Return the view of the order of steps in a single layer."""
    return WiringCases("own", _single_probes(asker), (), tuple(MOVES["order"]))


def _single_probes(asker: Asker) -> tuple[CaseSpec, ...]:
    sizes = ((3, 1, 4, 4), (3, 3, 3, 4))
    starts = (False, True) if asker.has_hx else (False,)
    return tuple(CaseSpec(CaseSizes(*size), {"hx": hx}) for size in sizes for hx in starts)


def shown_by(config: RNNConfig) -> tuple[Any, ...]:
    """Return what of a config decides its views."""
    flags = config.num_layers > 1, config.bidirectional, config.N > 1, config.batch_first and config.batched
    return *flags, config.lengths is not None, config.drops, config.dropout > 0, config.output_size


def _dropout(asker: Asker) -> float:
    """Return a probability of dropout that the subject takes, and that tells p from 1 - p if it takes one."""
    taken = [p for p in (0.25, 0.2, 0.1, 0.3, 0.75, 0.5) if asker.allows("dropout", p)]
    return taken[0] if taken else 0.0


def answers_of(asker: Asker, probes: Iterable[CaseSpec], **factors: Any) -> list[Response]:
    """Return what a subject gives on some cases; of relu, whose stacks soon give 0, on positive ones, too."""
    ways = (False, True) if asker.nonlinearity == "relu" else (False,)
    answers = (
        asker.ask(sizes, WIRING_SEED, scale=1.0, positive=way, plain_readout=False, **({"loss": None} | own | factors))
        for (sizes, own), way in product(probes, ways)
    )
    return [a for a in answers if a is not None]


class WiringInquiry:
    """The questions about a subject's wiring in one view."""

    def __init__(self, asker: Asker, view: WiringCases) -> None:
        self._asker = asker
        self.nearest: list[Network] = []  # with the choice by which most numbers of the way forward are right
        self.forward = answers_of(asker, view.probes)
        if not any("output" in a.arrays for a in self.forward):  # what is not seen is not said to be wrong
            moves = (move for move in view.moves if any(slot.rpartition(".")[-1] not in OF_OUTPUT for slot, _ in move))
            view = replace(view, moves=tuple(moves))
        self.view = view
        self._wider = answers_of(asker, view.wider)
        self.backward: list[Response] = [a for loss in asker.losses for a in answers_of(asker, view.probes, loss=loss)]

    def explained(self, network: Network, answers: Sequence[Response]) -> bool:
        """Tell whether a network gives every number of some answers."""
        return gives_all(network, answers, self._asker)

    def forth(self, network: Network, depth: int = SLOTS_AT_ONCE) -> Network | None:
        """Return the network with a wiring that explains the way forward, if there is one."""
        candidates = self._search(network, self.forward, self.view.moves, depth, back=False)
        return self._widest(candidates, self._wider)

    def back(self, network: Network) -> Network | None:
        """Return the network with a wiring of the way back that explains the gradients."""
        moves = (*LOST_MOVES, *self.view.moves)
        for start in dict.fromkeys(filter(None, (network.back, network.wiring, Wiring()))):
            begun = replace(network, back=start)
            networks = self._search(begun, self.backward, moves, 2, back=True)
            if self.explained(begun, self.backward):
                networks = [begun]
            wider = [a for loss in self._asker.losses for a in answers_of(self._asker, self.view.wider, loss=loss)]
            if (best := self._widest(networks, wider)) is not None:
                return best
        return None

    def _widest(self, networks: Sequence[Network], answers: Sequence[Response]) -> Network | None:
        """Return the first of the networks that explain most of other answers."""
        if len(networks) < 2 or not answers:
            return networks[0] if networks else None
        return max(networks, key=lambda network: sum(self._matched(network, a) for a in answers))

    def _search(
        self, network: Network, answers: Sequence[Response], moves: Sequence[SlotChoices], depth: int, *, back: bool
    ) -> list[Network]:
        """Return the networks that explain all answers with the fewest choices that are not those of a network."""
        beam, wirings = [network], {(network.wiring, network.back)}
        alike = _alike(
            moves, {LayersByDirections(a.case.config.num_layers, a.case.config.num_directions) for a in answers}
        )
        helped, runs = list[list[SlotChoices]](), Counter[int]()
        for _ in range(depth):
            gains: list[tuple[int, list[Network]]] = []
            for start in beam:
                shown = next((i for i, a in enumerate(answers) if not explains(start, a, self._asker.rounding)), None)
                if shown is None:
                    continue
                wrong = answers[shown]
                least = self._matched(start, wrong)
                for several in alike if runs[shown] <= MOST_CANDIDATES else list(helped):
                    changed = [moved(start, move, back=back) for move in several]
                    if (wired := (changed[0].wiring, changed[0].back)) in wirings or _all_batch_first(wired[0]):
                        continue
                    wirings.add(wired)
                    runs[shown] += 1
                    if (number := self._matched(changed[0], wrong)) > least:
                        gains.append((number, changed))
                        helped += [several] if several not in helped else []
            gains.sort(key=lambda gain: -gain[0])
            best = [changed for number, changed in gains if number == gains[0][0]]
            if solved := [variant for changed in best if self.explained(changed[0], answers) for variant in changed]:
                return solved
            if not (back or self.nearest):
                self.nearest = [changed[0] for changed in best][:WIRING_BEAM]
            first = [changed[0] for _, changed in gains[: 8 * WIRING_BEAM]]
            scores = [(sum(self._matched(candidate, a) for a in answers), candidate) for candidate in first]
            highest = max((score for score, _ in scores), default=0)
            beam = [candidate for score, candidate in scores if score == highest][:WIRING_BEAM]
        return []

    def _matched(self, network: Network, a: Response) -> int:
        """Return how many of an answer's numbers a network gives."""
        with np.errstate(all="ignore"):
            return matched(run(network, a.case), a, self._asker.noise)


def _of_c(slot: str, choice: Any) -> bool:
    """Tell whether a choice is one of c."""
    return slot in OF_C or (slot == "drops_last" and "c_n" in choice)


def _all_batch_first(wiring: Wiring) -> bool:
    """Tell whether a wiring works batch first throughout, which is a declaration that is missing (``declared``)."""
    return {wiring["x_layout"], wiring["output_layout"]} == {"always batch first"}


def _alike(moves: Sequence[SlotChoices], sizes: Iterable[LayersByDirections]) -> list[list[SlotChoices]]:
    """Return the moves, together those that are the same in stacks of some sizes."""
    groups: dict[Any, list[SlotChoices]] = {}
    for move in moves:
        groups.setdefault(tuple(_effect(slot, choice, sizes) for slot, choice in move), []).append(move)
    return list(groups.values())


def _effect(slot: str, choice: Any, sizes: Iterable[LayersByDirections]) -> Any:
    def values(text: str) -> tuple[Any, ...]:
        return tuple(at_place(text, at, size) for size in sizes for at in product(range(size.L), range(size.D)))

    if slot in ("weights", "gradients_of"):
        return slot, tuple((role, values(place)) for role, place in choice)
    choices = SLOTS[slot].choices
    return slot, values(choices[choice]) if choices in (STATE_ROWS, MOVED_PLACES, WHERE) else choice


def moved(network: Network, move: SlotChoices, *, back: bool) -> Network:
    """Return a network with other choices in its wiring, or in that of its way back."""
    wiring = (network.back if back else None) or network.wiring
    for slot, choice in move:
        wiring = wiring.put(slot, choice)
    return replace(network, back=wiring) if back else replace(network, wiring=wiring)
