"""wiring_differences: where an identified wiring is not nn.RNN's: a sentence, a line of NumPy, the mend."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.activations import ACTIVATIONS
from harness.diagnosis.identify.model import Network
from harness.diagnosis.identify.wiring_choices import FLIPS, OWN_WIRING, Wiring

Slot = tuple[str, ...]


class WiringDifference(NamedTuple):
    """A difference of a wiring from nn.RNN's."""

    sentence: str  # reads on from "the subject"
    yours: str
    right: str
    mend: Callable[[Network], Network]


# The layers and directions of a condition, in words.
WHERE_WORDS: Final = {
    "l == L - 1": "in the last layer",
    "0 < l == L - 1": "in the last layer of several",
    "l == 0": "in the first layer",
    "l == 0 < L - 1": "in the first layer of several",
    "l > 0": "in the layers above the first",
    "l < L - 1": "in all layers but the last",
    "l == 1": "in the second layer",
    "l > 1": "in the layers above the second",
    "l % 2 == 1": "in every other layer",
    "d == 0": "in the forward direction",
    "d == 1": "in the reverse direction",
}
_PLACES: Final = {
    "l, 0": "the forward direction",
    "l, D - 1": "the reverse direction",
    "l, D - 1 - d": "the other direction",
    "0, d": "the first layer",
    "L - 1, d": "the last layer",
    "min(l, 1), d": "the second layer",
    "(L - 1) * (l > 0), d": "the last layer",
}
_SEQUENCES: Final = {"0": "the first sequence", "N - 1": "the last sequence"}
_FEATURES: Final = {
    "own half": "the half of the direction that reads, and zeros",
    "other half": "the half of the other direction than that which reads, and zeros",
    "in turns": "the units of the two directions in turns",
    "out of turns": "every other unit first, as if those of the two directions lay in turns",
}
ORDER_COMMENT: Final = "  # order = np.argsort(-lengths)"


def differences(network: Network) -> Iterator[WiringDifference]:
    """Yield the differences of the wiring of a network, and of its way back."""
    wiring, back = network.wiring, network.back
    for slots in _grouped(wiring, OWN_WIRING):
        sentence, yours, right = _words(slots, wiring)
        yield WiringDifference(sentence, yours, right, partial(_mended, slots=slots))
    if back is None:
        return
    for slots in _grouped(back, _shared(wiring)):
        if any(
            _choice(back, slot) != _choice(OWN_WIRING, slot) for slot in slots
        ):  # else it is right once the way forward is
            sentence, yours, right = _back_words(slots, back, wiring)
            yield WiringDifference(sentence, yours, right, partial(_mended_back, slots=slots))


def _shared(wiring: Wiring) -> Wiring:
    """Return a wiring in which each place that computes with parameters of another one returns their gradients."""
    return replace(wiring, gradients_of=wiring.weights)


def _choice(wiring: Wiring, slot: Slot) -> Any:
    name = slot[-1]
    inherited = wiring.hx_row if name == "cx_row" else wiring.last("c_n", name[4:]) if name.startswith("c_n") else ""
    return wiring.at(slot) or inherited


def _mended(network: Network, slots: tuple[Slot, ...]) -> Network:
    wiring, back = network.wiring, network.back
    if back is not None and ("weights",) in slots and back.gradients_of == wiring.weights:
        back = replace(back, gradients_of=())
    for slot in slots:
        if back is not None and back.at(slot) == wiring.at(slot):
            back = back.put(slot, OWN_WIRING.at(slot))
        wiring = wiring.put(slot, OWN_WIRING.at(slot))
    return replace(network, wiring=wiring, back=None if back == wiring else back)


def _mended_back(network: Network, slots: tuple[Slot, ...]) -> Network:
    if (back := network.back) is None:
        return network
    for slot in slots:
        back = back.put(slot, network.wiring.at(slot))
    return replace(network, back=None if back == network.wiring else back)


# Slots that one mistake sets together, if they have one choice.
_TOGETHER: Final = {
    "x_layout": "layouts",
    "output_layout": "layouts",
    "reads": "times",
    "writes": "times",
    "output_of": "results",
    "h_n_of": "results",
}


def _grouped(wiring: Wiring, right: Wiring) -> list[tuple[Slot, ...]]:
    """Return the slots that differ, together where one mistake is made in several."""
    groups: dict[tuple[str, Any], list[Slot]] = {}
    flips = [flip for flip in FLIPS.values() if flip.items() <= vars(wiring.reverse).items()]
    for slot in wiring.changes(right):
        if slot in (("above",), ("turned",), ("activation_where",)):  # where sums differ is said of these
            continue
        key = _TOGETHER.get(slot[-1], slot[-1]), wiring.at(slot)
        if slot[0] == "reverse" and any(slot[-1] in flip for flip in flips):
            key = "flips", "N - 1 - n"
        if slot == ("padding",):  # what was written there is a part of the mistake that wrote it
            key = next((group for group in groups if group[0] == "steps"), key)
        groups.setdefault(key, []).append(slot)
    sets: list[tuple[Slot, ...]] = []
    for slots in groups.values():
        by_way = [slot for slot in slots if len(slot) > 1]
        names, ways = ({slot[at] for slot in by_way} for at in (-1, 0))
        if len(by_way) < len(names) * len(ways & {"forward", "reverse"}):  # not the same in both directions
            sets += [tuple(slot for slot in slots if slot[-1] == name) for name in dict.fromkeys(s[-1] for s in slots)]
        else:
            sets.append(tuple(slots))
    return sets


def _where(slots: tuple[Slot, ...]) -> str:
    ways = {slot[0] for slot in slots} & {"forward", "reverse"}
    return f", in the {ways.pop()} direction" if len(ways) == 1 else ""


def _words(slots: tuple[Slot, ...], wiring: Wiring) -> tuple[str, str, str]:
    """Return what is said of a slot, its line, and nn.RNN's."""
    names, choice = {slot[-1] for slot in slots}, wiring.at(slots[0])
    if wiring.padding == "held" and len(names) > 1:  # that would be right if it was not read
        names -= {"padding"}
    right = OWN_WIRING.at(slots[0])
    if slots[0][0] in ("forward", "reverse"):
        sentence, yours, own = _of_way(names, choice, right)
        return f"{sentence}{_where(slots)}", _ordered(yours), own
    if {"x_layout", "output_layout"} == names:
        shows = ", which shows in values where T = N" if "==" in choice else ""
        if choice == "other":  # so are x and the output where T is not N
            return "reshapes x and the output with batch_first, where they should be transposed", "", ""
        if choice.startswith("other"):
            return f"ignores batch_first: it always runs along the first axis{shows}", "", ""
        return f"takes the first axis for the batch although batch_first is not set{shows}", "", ""
    name = slots[0][-1]
    if name == "activation":
        line = ACTIVATIONS[choice].line("s")
        return (
            f"applies {line} {WHERE_WORDS.get(wiring.activation_where, '')}, not the nonlinearity that is set",
            "",
            "",
        )
    if name.endswith("_layout"):
        return _layout(name.removesuffix("_layout"), choice), "", ""
    return _of_stack(name, choice)


def _ordered(line: str) -> str:
    return f"{line}{ORDER_COMMENT}" if "order" in line else line


def _of_way(names: set[str], choice: str, right: str) -> tuple[str, str, str]:
    """Return what is said of a slot of a direction."""
    if "steps" in names:
        words = {
            "T": "runs on through the padding of a packed batch to step T",
            "lengths[order[n]]": "sorts the lengths of a packed batch, but not its sequences",
            "lengths[n] if n == 0 else 0": "computes the first sequence only: the others are 0",
            "lengths[n] if n == N - 1 else 0": "computes the last sequence only: the others are 0",
            "lengths[n] if n < N - 1 else 0": "leaves out the last sequence, which is 0",
            "lengths[n] if n > 0 else 0": "leaves out the first sequence, which is 0",
        }.get(choice, f"runs {choice} steps of sequence n of a packed batch, not lengths[n]")
        return words, f"steps = {choice}", "steps = lengths[n]"
    if flipped := [array for array, flip in FLIPS.items() if flip.keys() <= names]:
        yours, own = (", ".join(f"{array}[{index}]" for array in flipped) for index in (":, ::-1", "::-1"))
        return f"flips {' and '.join(flipped)} along the batch, not along the steps", yours, own
    if names == {"reads", "writes"}:
        forth = {"k": "forwards", "steps - 1 - k": "backwards"}.get(choice, f"in the order t = {choice}")
        return f"goes {forth} in time", f"t = {choice}", f"t = {right}"
    if "reads" in names:
        return f"reads step {choice} at its own step k, not step {right}", f"x[{choice}, n]", f"x[{right}, n]"
    if "writes" in names:
        words = {"k": "leaves its output in the order in which it was computed"}.get(
            choice, f"writes its own step k to step {choice} of the output, not to step {right}"
        )
        return words, f"output[{choice}, n] = h", f"output[{right}, n] = h"
    if "final" in names:
        words = f"returns the output at step {choice} as h_n, not the state after the last step"
        return words, f"h_n[l * D + d, n] = output[{choice}, n]", "h_n[l * D + d, n] = h"
    sequence = _SEQUENCES.get(choice, f"sequence {choice}")
    if names <= {"output_of", "h_n_of"}:
        what = " and ".join(name for name in ("output", "h_n") if f"{name}_of" in names)
        words = {
            "order[n]": f"leaves {what} of a packed batch sorted, the longest sequence first",
            "order[order[n]]": f"puts {what} of a packed batch in order by the permutation that sorts it, not by its "
            "inverse",
        }.get(choice, f"returns {sequence} as sequence n of {what}")
        result = {"output": "output[:, n]", "h_n": "h_n[:, n]"}[what.split(" and ")[0]]
        return words, f"{result} = result_of({choice})", f"{result} = result_of(n)"
    if "started" in names:
        which = {
            "lengths[n] == max(lengths)": "the longest sequences",
            "lengths[n] < max(lengths)": "all but the longest sequences",
            "n == 0": "the first sequence",
            "n > 0": "all but the first sequence",
        }[choice]
        return (
            f"starts {which} from hx, and the others at zeros",
            f"h = hx[l * D + d, n] if {choice} else 0",
            "h = hx[l * D + d, n]",
        )
    if "hx_of" in names:
        words = {
            "np.argsort(order)[n]": (
                "does not sort hx along with a packed batch: the longest sequence starts from the first sequence's hx"
            )
        }.get(choice, f"starts sequence n from hx of {sequence}")
        return words, f"h = hx[l * D + d, {choice}]", "h = hx[l * D + d, n]"
    return f"reads x of {sequence} in sequence n", f"x[t, {choice}]", "x[t, n]"


def _of_stack(name: str, choice: Any) -> tuple[str, str, str]:
    """Return what is said of a slot of the whole stack."""
    if name == "weights":
        roles = [role for role, _ in choice]
        place = choice[0][1]
        layer, _, direction = place.partition(", ")
        whose = _PLACES.get(place, f"layer {layer}, direction {direction}")
        above = {
            "min(l, 1), d": " in all layers above it",
            "(L - 1) * (l > 0), d": " in all layers above the first",
        }.get(place, "")
        yours, right = (", ".join(f"{role}[{index}]" for role in roles) for index in (place, "l, d"))
        said_of = f"computes with {of_roles(roles)} of {whose}{above}, not with each one's own"
        return said_of, yours, right
    if name == "matrices":
        return _matrices(choice)
    features = f"[{choice}]" if ", " in str(choice) else _FEATURES.get(str(choice), "")
    place = _PLACES.get(str(choice), f"layer and direction {choice}")
    row, where = f"row {choice}", WHERE_WORDS.get(str(choice), "")
    mask = str(choice)
    dropped = listed(choice) if name == "drops_last" else ""
    last = name[:3] if name.startswith("c_n") else "h_n"
    of_last = "c" if last == "c_n" else "state"

    def halves(array: str) -> tuple[str, str]:
        yours, right = (f"{array} = np.concatenate({each}, -1)" for each in (features, "[forward, reverse]"))
        return (yours, right) if features.startswith("[") else ("", "")

    words: dict[str, tuple[str, str, str]] = {
        "hx_row": (f"starts from {row} of hx, not from row l * D + d", f"h = hx[{choice}]", "h = hx[l * D + d]"),
        "cx_row": (f"starts from {row} of cx, not from row l * D + d", f"c = cx[{choice}]", "c = cx[l * D + d]"),
        f"{last}_row": (
            f"writes {last} to {row}, not to row l * D + d",
            f"{last}[{choice}] = {last[0]}",
            f"{last}[l * D + d] = {last[0]}",
        ),
        f"{last}_place": (
            f"writes the last {of_last} of {place} to row l * D + d of {last}",
            f"{last}[l * D + d] = last[{choice}]",
            f"{last}[l * D + d] = last[l, d]",
        ),
        f"{last}_where": (
            f"writes {last} {where} only: its other rows stay 0",
            f"{last}[l * D + d] = {last[0]} if {choice} else 0",
            f"{last}[l * D + d] = {last[0]}",
        ),
        "carries": (
            "starts each sequence at the state that the one before it ended with",
            "h = hx[l * D + d, 0] if n == 0 else h",
            "h = hx[l * D + d, n]",
        ),
        "layers": (
            "computes the first layer only: its output is returned, and its state in every row of h_n"
            if choice == "1"
            else "leaves out the last layer",
            f"layers = range({choice})",
            "layers = range(L)",
        ),
        "directions": (
            "computes the forward direction only: what the reverse one gives is 0",
            "directions = range(1)",
            "directions = range(D)",
        ),
        "input": (
            "reads x in every layer, where the sizes allow it"
            if choice == "x"
            else "adds x to what each layer above the first reads, where the sizes allow it",
            f"read = {choice}",
            "read = below",
        ),
        "skip": (
            {
                "above the first": "adds the input of every layer above the first to its output, but not to h_n",
                "every layer": "adds the input of every layer to its output where the sizes are equal, but not to h_n",
                "x": "adds x to the output where the sizes are equal, but not to h_n",
            }.get(str(choice), ""),
            f"output[t] = h + {'x[t]' if choice == 'x' else 'read[t]'}",
            "output[t] = h",
        ),
        "joined": (f"makes a layer's output of {features}, not of [forward, reverse]", *halves("output")),
        "inner": (f"reads {features} of the output below, above the first layer, not [forward, reverse]", *halves("x")),
        "inner_reverse": (
            "does not flip the reverse direction's output back for the layer above",
            "below[t] = np.hstack([forward[t], reverse[T - 1 - t]])",
            "below[t] = np.hstack([forward[t], reverse[t]])",
        ),
        "output": (f"returns {features} as the output, not [forward, reverse]", *halves("output")),
        "readout": (f"reads out {features}, not [forward, reverse]", *halves("read")),
        "padding": (
            "keeps its state in padding, which the layer above reads"
            if choice == "held"
            else "sets what it wrote to padding to 0",
            "",
            "",
        ),
        "factor": (
            {
                "1": "forgets dropout in training: nothing is dropped, and nothing scaled",
                "mask": "does not divide what dropout keeps by 1 - p",
                "(1 - mask) / (1 - p)": "keeps what dropout drops, and drops what it keeps",
            }.get(mask, f"multiplies by {mask} for dropout, not by mask / (1 - p)"),
            f"x = output * ({mask})",
            "x = output * mask / (1 - p)",
        ),
        "evaluation": (
            f"multiplies the output of each layer but the last by {mask} in evaluation, where dropout does nothing",
            f"x = output * {mask if mask in ('p', '1') else f'({mask})'}",
            "x = output",
        ),
        "mask": (
            {
                "mask[:1]": "drops with the first time step's mask at every step",
                "mask[:, :1]": "drops with the first sequence's mask in every sequence",
                "mask[:, :, :1]": "drops with the first unit's mask in every unit",
            }.get(mask, f"drops with {mask}, not with the mask of each step, sequence and unit"),
            f"mask = {mask}" if mask.startswith("mask[") and "of" not in mask else "",
            "",
        ),
        "drops_last": (f"drops the inner layers' {dropped}, too, like their output", "", ""),
        "readout_step": (
            f"reads out the state of step {choice} at step t"
            + (", and zeros before the first" if "- 1" in mask else ""),
            f"readout[t] = W @ h[{choice}] + b",
            "readout[t] = W @ h[t] + b",
        ),
        "readout_where": ("reads out the last time step only: the readout is 0 at the others", "", ""),
        "readout_bias": ("never adds the readout's bias", "readout[t] = W @ h[t]", "readout[t] = W @ h[t] + b"),
        "gradient_stop": (
            {
                "from layer to layer": "passes no gradient from a layer to the one below it",
                "from the reverse direction": "gives x, and the layers below, no gradient from the reverse direction",
                "from the forward direction": "gives x, and the layers below, no gradient from the forward direction",
                "through reverse": "takes no gradient through the reverse direction: its parameters get none, and "
                "neither does what it reads",
            }.get(str(choice), ""),
            "",
            "",
        ),
    }
    return words[name]


def _matrices(choice: str) -> tuple[str, str, str]:
    if "hstack" in choice:
        words = "multiplies [h, x] by [W_ih, W_hh], whose order is another one"
    else:
        names = [name for name in ("W_ih", "W_hh") if name in choice]
        form = choice.partition(", np." if choice.startswith("np.") else ", W_hh")[0].strip()
        order = {"[::-1]": "the rows of {} in reverse order", "[:, ::-1]": "the columns of {} in reverse order"}
        named = order.get(form.removeprefix(names[0]), "")
        words = f"reads {named.format(of_roles(names))}" if named else f"takes {choice} for {of_roles(names)}"
    return words, f"W_ih, W_hh = {choice}" if "hstack" in choice else choice, ""


def _layout(name: str, choice: str) -> str:
    """Return how an array is laid out in words."""
    shows = ", which shows in values where T = N" if "==" in choice else ""
    verb = {"x": "reads x", "hx": "reads hx", "output": "returns the output", "h_n": "returns h_n"}[name]
    if name in ("hx", "h_n") and choice == "always the other":
        way = "to" if name == "hx" else "from"
        return f"reshapes {name} {way} (N, layers * directions, hidden_size), where it should be transposed"
    if name in ("hx", "h_n"):
        return f"{verb} as (N, layers * directions, hidden_size) with batch_first, which does not change nn.RNN's"
    if choice.startswith("always") and shows:
        return f"{verb} with the batch first although batch_first is not set{shows}"
    if choice.startswith("always"):
        return {
            "x": "reshapes x from (T, N, ...) to (N, T, ...), where it should be transposed",
            "output": "reshapes the output from (N, T, ...) to (T, N, ...), where it should be transposed",
        }[name]
    if shows:
        return f"{verb} with time first although batch_first is set{shows}"
    return f"reshapes {'x' if name == 'x' else 'the output'} with batch_first, where it should be transposed"


def _back_words(slots: tuple[Slot, ...], back: Wiring, forth: Wiring) -> tuple[str, str, str]:
    name, choice = slots[0][-1], back.at(slots[0])
    words = {
        ("factor", "1"): "forgets dropout on the way back: what was dropped gets a gradient, and nothing is scaled",
        ("factor", "mask"): "does not divide what dropout keeps by 1 - p on the way back",
        **{
            (f"{last}_where", where): f"ignores the gradient of {last} of {places}"
            for last in ("h_n", "c_n")
            for where, places in (
                ("l == L - 1", "all layers but the last"),
                ("l == 0", "all layers but the first"),
                ("d == 0", "the reverse direction"),
                ("d == 1", "the forward direction"),
            )
        },
        ("x_layout", "other where T == N"): "returns x's gradient with time first although batch_first is set, which "
        "shows in values where T = N",
        ("writes", "steps - 1 - k"): "takes the gradient of the output in the reversed order of time",
        ("writes", "k"): "takes the gradient of the output in the order of time, not in that of its own steps",
        ("x_layout", "other"): "reshapes x's gradient with batch_first, where it should be transposed",
    }.get((name, str(choice)))
    if name == "gradient_stop":
        return _of_stack(name, choice)
    if name in ("weights", "gradients_of"):
        roles, place = [role for role, _ in choice], choice[0][1]
        whose = _PLACES.get(place, f"layer and direction {place}")
        if name == "weights":
            return f"gives the gradients by {of_roles(roles)} to {whose}, not each to its own", "", ""
        yours, right = (", ".join(f"d{role}[{index}]" for role in roles) for index in (place, "l, d"))
        words = f"returns the gradients by {of_roles(roles)} of {whose} in the place of each one's own"
        return words, yours, right
    if name in ("hx_row", "cx_row"):
        array, choice, read = name[:2], _choice(back, slots[0]), _choice(forth, slots[0])
        started = "" if read == _choice(OWN_WIRING, slots[0]) else ", from which it starts"
        moved = f"writes the gradient by {array} to row {choice}, not to row {read}{started}"
        return moved, f"d{array}[{choice}] = dh_next", f"d{array}[l * D + d] = dh_next"
    if name == "final":
        step = choice or "of the last state"
        at = f"time step {step}" if choice else "the state after the last step"
        first = {slot[0] for slot in slots} == {"reverse"}
        lost = ", not to the first" if first else ": that of a shorter sequence is lost in the padding"
        lost = lost if choice == "T - 1" else ""
        return f"gives the gradient of h_n to {at}{lost}{_where(slots)}", f"d_output[{choice or 't'}, n] += dh_n", ""
    if words is not None:
        return f"{words}{_where(slots)}", "", ""
    if choice == OWN_WIRING.at(slots[0]):
        return f"goes back as nn.RNN does, where on the way forward it {_words(slots, forth)[0]}", "", ""
    from_place = _moved_back(name, str(choice), str(OWN_WIRING.at(slots[0])))
    if from_place is not None:
        sentence, line, own = from_place
        return f"{sentence}{_where(slots)}", line, own
    return f"{_words(slots, back)[0]}, on the way back alone", "", ""


def _moved_back(name: str, choice: str, right: str) -> tuple[str, str, str] | None:
    """Return what is said of a gradient that is taken from another place, or written to one, and how."""
    last, d = name[:3], f"d{name[0]}_next"
    if name in ("h_n_row", "c_n_row"):
        words = f"takes row {choice} of the gradient of {last}, not row l * D + d"
        return words, f"{d} = {last}_grad[{choice}]", f"{d} = {last}_grad[l * D + d]"
    if name in ("h_n_place", "c_n_place"):
        words = (
            f"gives row l * D + d of the gradient of {last} to {_PLACES.get(choice, f'layer and direction {choice}')}"
        )
        return words, f"{d}[{choice}] = {last}_grad[l * D + d]", f"{d}[l, d] = {last}_grad[l * D + d]"
    if name == "reads":
        words = f"writes the gradient by x of its own step k to step {choice}, not to step {right}"
        return words, f"dx[{choice}] += da[k] @ W_ih", f"dx[{right}] += da[k] @ W_ih"
    sequence = _SEQUENCES.get(choice, f"sequence {choice}")
    if name in ("x_of", "hx_of"):
        return f"writes the gradient by {name.removesuffix('_of')} of sequence n to {sequence}", "", ""
    if name in ("output_of", "h_n_of"):
        what = {"output_of": "the output", "h_n_of": "h_n"}[name]
        return f"takes the gradient of {what} of sequence n for {sequence}", "", ""
    return None


def listed(names: Sequence[str]) -> str:
    """Return names as a list in words."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def of_roles(roles: Sequence[str]) -> str:
    """Return the arrays of some roles in words."""
    both = {"bias_ih", "bias_hh"} <= {*roles}
    names = ["the biases" if role == "bias_ih" and both else role for role in roles]
    return listed([name for name in names if not (name == "bias_hh" and both)])
