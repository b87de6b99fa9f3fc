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
from harness.diagnosis.identify.inquiry import explains, matched
from harness.diagnosis.identify.model import Network
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.questions import Asker, CaseSizes, Response
from harness.diagnosis.identify.wiring_choices import (
    DROPOUT_MASKS,
    DROPOUT_SCALES,
    EVALUATION,
    FEATURE_ORDERS,
    FINALS,
    FLIPS,
    FROM_HX,
    GRADIENT_LOSSES,
    INPUTS,
    LAYOUTS,
    MATRICES,
    MOVED_PLACES,
    OWN_PLACE,
    OWN_WIRING,
    READ_STEPS,
    SEQUENCE_ORDERS,
    SKIPS,
    STATE_ROWS,
    STEP_ORDERS,
    TIMES,
    WHERE,
    LayersByDirections,
    Wiring,
)
from harness.oracle.pinned_numpy import np
from harness.space.config import RNNConfig

Slot = tuple[str, ...]
SlotChoices = tuple[tuple[Slot, Any], ...]  # choices that are made together

# The parameters that may be those of another place together.
ROLES_SHARED: Final = tuple(some for count in (4, 3, 2, 1) for some in combinations(PARAMETER_ROLES, count))
OTHER_PLACES: Final = tuple(
    tuple((role, place) for role in roles) for roles in ROLES_SHARED for place in MOVED_PLACES if place != OWN_PLACE
)
DROPS: Final = (("h_n",), ("c_n",), ("h_n", "c_n"))
OF_C: Final[dict[str, Any]] = {
    "cx_row": STATE_ROWS,
    "c_n_row": STATE_ROWS,
    "c_n_place": MOVED_PLACES,
    "c_n_where": WHERE,
}
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


def moves_of(slot: str, choices: Iterable[Any]) -> Iterator[SlotChoices]:
    """Yield the choices of a slot."""
    return ((((slot,), choice),) for choice in choices)


def both(slot: str, choices: Iterable[str]) -> Iterator[SlotChoices]:
    """Yield the choices of a slot of both directions, and of each."""
    for choice in choices:
        move = (("forward", slot), choice), (("reverse", slot), choice)
        yield move
        yield from ((part,) for part in move)


def _sequences(*, packed: bool) -> list[str]:
    return [name for name in SEQUENCE_ORDERS if name != "n" and packed == ("order" in name or "lengths" in name)]


def _batch_moves() -> Iterator[SlotChoices]:
    for slot, name in product(("hx_of", "x_of", "output_of", "h_n_of"), _sequences(packed=False)):
        yield from both(slot, [name])
    yield from both("steps", [name for name in STEP_ORDERS if " if " in name])
    yield from both("started", FROM_HX)
    yield ((("carries",), True),)
    for slot in ("x_layout", "output_layout"):
        yield from moves_of(slot, ("always batch first",))


def _time_moves() -> Iterator[SlotChoices]:
    for way, time in product(("reverse", "forward"), TIMES):
        reads, writes = ((way, "reads"), time), ((way, "writes"), time)
        yield from ((reads,), (writes,), (reads, writes))


def _final_moves() -> Iterator[SlotChoices]:
    yield from ((((way, "final"), time),) for way, time in product(("reverse", "forward"), FINALS))


def _own_moves() -> Iterator[SlotChoices]:
    """Yield the choices that show in a single layer and sequence."""
    yield from moves_of("matrices", MATRICES)
    yield from moves_of("skip", ("x", "every layer"))
    yield from _order_moves()


def _order_moves() -> Iterator[SlotChoices]:
    yield from _time_moves()
    yield from both("final", FINALS)


def _row_moves() -> Iterator[SlotChoices]:
    yield from moves_of("h_n_where", WHERE)
    yield from moves_of("h_n_place", MOVED_PLACES)
    yield from moves_of("h_n_row", STATE_ROWS)
    yield from moves_of("hx_row", STATE_ROWS)
    yield from (move for slot in ("hx_layout", "h_n_layout") for move in moves_of(slot, ("always the other",)))
    yield from (move for slot, choices in OF_C.items() for move in moves_of(slot, choices))
    yield from (((("hx_row",), row), (("h_n_row",), row)) for row in STATE_ROWS)
    yield from moves_of("weights", (OWN_WIRING.weights, *OTHER_PLACES))
    yield from moves_of("above", WHERE)
    yield from moves_of("turned", WHERE)
    for where, kind in product(WHERE, ACTIVATIONS):
        yield (("activation",), kind), (("activation_where",), where)


def _layer_moves() -> Iterator[SlotChoices]:
    yield from moves_of("layers", ("1", "L - 1"))
    yield from moves_of("input", INPUTS)
    yield from moves_of("skip", SKIPS)
    yield from _row_moves()


def _direction_moves() -> Iterator[SlotChoices]:
    for slot in ("joined", "output", "inner"):
        yield from moves_of(slot, FEATURE_ORDERS)
    yield from moves_of("directions", ("1",))
    yield from moves_of("inner_reverse", ("T - 1 - t",))
    yield from _time_moves()
    yield from _final_moves()
    for arrays in (("x",), ("output",), tuple(FLIPS)):
        yield tuple((("reverse", slot), choice) for array in arrays for slot, choice in FLIPS[array].items())
    for slot, name in product(("hx_of", "x_of", "output_of", "h_n_of"), ("N - 1 - n", "0", "N - 1")):
        yield from ((((way, slot), name),) for way in ("reverse", "forward"))
    yield from _row_moves()


def _length_moves() -> Iterator[SlotChoices]:
    yield from both("steps", [name for name in STEP_ORDERS if " if " not in name])
    yield ((("forward", "steps"), "T"), (("reverse", "steps"), "T"), (("padding",), "0"))
    yield from _time_moves()
    yield from both("final", FINALS)
    for slot in ("hx_of", "h_n_of", "output_of", "x_of"):
        yield from both(slot, _sequences(packed=True))
    yield from both("started", FROM_HX)
    yield from moves_of("padding", ("0", "held"))


def _lost_moves() -> Iterator[SlotChoices]:
    yield from moves_of("gradient_stop", GRADIENT_LOSSES)
    yield from moves_of("h_n_where", WHERE)
    yield from moves_of("gradients_of", OTHER_PLACES)


MOVES: Final = {
    "own": tuple(_own_moves()),
    "batch": tuple(_batch_moves()),
    "layout": tuple(
        move
        for slot in ("x_layout", "output_layout", "hx_layout", "h_n_layout")
        for move in moves_of(slot, (name for name in LAYOUTS if name != "always the other"))
    ),
    "layers": tuple(_layer_moves()),
    "directions": tuple(_direction_moves()),
    "lengths": tuple(_length_moves()),
    "dropout": (*moves_of("factor", DROPOUT_SCALES), *moves_of("mask", DROPOUT_MASKS), *moves_of("drops_last", DROPS)),
    "evaluation": tuple(moves_of("evaluation", EVALUATION)),
    "readout": (
        *moves_of("readout", FEATURE_ORDERS),
        *moves_of("readout_step", READ_STEPS),
        *moves_of("readout_where", ("t == T - 1",)),
        *moves_of("readout_bias", (False,)),
    ),
}
LOST_MOVES: Final = tuple(_lost_moves())


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
    return WiringCases("own", _single_probes(asker), (), tuple(_order_moves()))


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
            moves = (move for move in view.moves if any(slot[-1] not in OF_OUTPUT for slot, _ in move))
            view = replace(view, moves=tuple(moves))
        self.view = view
        self._wider = answers_of(asker, view.wider)
        self.backward: list[Response] = [a for loss in asker.losses for a in answers_of(asker, view.probes, loss=loss)]

    def explained(self, network: Network, answers: Sequence[Response]) -> bool:
        """Tell whether a network gives every number of some answers."""
        return all(explains(network, a, self._asker.rounding) for a in answers)

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
            scores = [(self._all_matched(changed[0], answers), changed[0]) for _, changed in gains[: 8 * WIRING_BEAM]]
            highest = max((score for score, _ in scores), default=0)
            beam = [candidate for score, candidate in scores if score == highest][:WIRING_BEAM]
        return []

    def _all_matched(self, network: Network, answers: Sequence[Response]) -> int:
        return sum(self._matched(network, a) for a in answers)

    def _matched(self, network: Network, a: Response) -> int:
        """Return how many of an answer's numbers a network gives."""
        with np.errstate(all="ignore"):
            return matched(run(network, a.case), a, self._asker.noise)


def _of_c(slot: Slot, choice: Any) -> bool:
    """Tell whether a choice is one of c."""
    return slot[-1] in OF_C or (slot == ("drops_last",) and "c_n" in choice)


def _all_batch_first(wiring: Wiring) -> bool:
    """Tell whether a wiring works batch first throughout, which is a declaration that is missing (``declared``)."""
    return wiring.x_layout == wiring.output_layout == "always batch first"


# Slots whose choices are expressions of a layer and direction.
_OF_PLACES: Final[dict[str, Any]] = {
    "hx_row": STATE_ROWS,
    **OF_C,
    "h_n_row": STATE_ROWS,
    "h_n_place": MOVED_PLACES,
    "h_n_where": WHERE,
    "above": WHERE,
    "turned": WHERE,
    "activation_where": WHERE,
}


def _alike(moves: Sequence[SlotChoices], sizes: Iterable[LayersByDirections]) -> list[list[SlotChoices]]:
    """Return the moves, together those that are the same in stacks of some sizes."""
    groups: dict[Any, list[SlotChoices]] = {}
    for move in moves:
        groups.setdefault(tuple(_effect(slot, choice, sizes) for slot, choice in move), []).append(move)
    return list(groups.values())


def _effect(slot: Slot, choice: Any, sizes: Iterable[LayersByDirections]) -> Any:
    def values(function: Any) -> tuple[Any, ...]:
        return tuple(function(at, size) for size in sizes for at in product(range(size.L), range(size.D)))

    if slot in (("weights",), ("gradients_of",)):
        return slot, tuple((role, values(MOVED_PLACES[place])) for role, place in choice)
    return slot, values(_OF_PLACES[slot[-1]][choice]) if slot[-1] in _OF_PLACES else choice


def moved(network: Network, move: SlotChoices, *, back: bool) -> Network:
    """Return a network with other choices in its wiring, or in that of its way back."""
    wiring = (network.back if back else None) or network.wiring
    for slot, choice in move:
        wiring = wiring.put(slot, choice)
    return replace(network, back=wiring) if back else replace(network, wiring=wiring)
