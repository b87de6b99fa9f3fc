"""wiring_differences: where an identified wiring is not nn.RNN's: a sentence, a line of NumPy, the mend."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from harness.diagnosis.identify.activations import ACTIVATIONS
from harness.diagnosis.identify.mistake import Mistake
from harness.diagnosis.identify.model import Network
from harness.diagnosis.identify.wiring_choices import FLIPS, OF_H, OWN_PLACE, OWN_WIRING, SLOTS, Wiring

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
# The layers that compute with the parameters of a place.
_ABOVE: Final = {"min(l, 1), d": " in all layers above it", "(L - 1) * (l > 0), d": " in all layers above the first"}
# Choices whose names are no expressions, or that say enough without their line.
_WITHOUT_LINE: Final = {*_FEATURES, "mask[..., :H] of both directions", "masks[0]", "mask of the next layer"}
ORDER_COMMENT: Final = "  # order = np.argsort(-lengths)"
_HSTACK: Final = "np.split(np.hstack([W_ih, W_hh]), [H], 1)[::-1]"
_SHOWS: Final = ", which shows in values where T = N"
_TRANSPOSED: Final = ", where it should be transposed"
_ROWS: Final = "(N, layers * directions, hidden_size)"
_OTHER_ROWS: Final = f"as {_ROWS} with batch_first, which does not change nn.RNN's"
_OTHERS_START: Final = "from hx, and the others at zeros"
_FLIPPED: Final = "along the batch, not along the steps"
_IN_TURN: Final = "puts {results} of a packed batch in order by the permutation that sorts it, not by its inverse"
# The sentences of slots whose choice is not nn.RNN's, by slots and choice; ``None`` is any other choice. Each is
# a template over the names of ``_filled``. Of slots that differ together, the first row counts whose slots all differ.
SENTENCES: Final[dict[tuple[str, str | None], str]] = {
    ("steps", "T"): "runs on through the padding of a packed batch to step T",
    ("steps", "lengths[order[n]]"): "sorts the lengths of a packed batch, but not its sequences",
    ("steps", "lengths[n] if n == 0 else 0"): "computes the first sequence only: the others are 0",
    ("steps", "lengths[n] if n == N - 1 else 0"): "computes the last sequence only: the others are 0",
    ("steps", "lengths[n] if n < N - 1 else 0"): "leaves out the last sequence, which is 0",
    ("steps", "lengths[n] if n > 0 else 0"): "leaves out the first sequence, which is 0",
    ("steps", None): "runs {choice} steps of sequence n of a packed batch, not lengths[n]",
    ("reads x_of writes output_of", None): f"flips x and output {_FLIPPED}",
    ("reads x_of", None): f"flips x {_FLIPPED}",
    ("writes output_of", None): f"flips output {_FLIPPED}",
    ("reads writes", "k"): "goes forwards in time",
    ("reads writes", "steps - 1 - k"): "goes backwards in time",
    ("reads writes", None): "goes in the order t = {choice} in time",
    ("reads", None): "reads step {choice} at its own step k, not step {own}",
    ("writes", "k"): "leaves its output in the order in which it was computed",
    ("writes", None): "writes its own step k to step {choice} of the output, not to step {own}",
    ("final", None): "returns the output at step {choice} as h_n, not the state after the last step",
    **{
        (slot, choice): sentence
        for slot in ("output_of", "h_n_of")
        for choice, sentence in (
            ("order[n]", "leaves {results} of a packed batch sorted, the longest sequence first"),
            ("order[order[n]]", _IN_TURN),
            (None, "returns {sequence} as sequence n of {results}"),
        )
    },
    ("started", "lengths[n] == max(lengths)"): f"starts the longest sequences {_OTHERS_START}",
    ("started", "lengths[n] < max(lengths)"): f"starts all but the longest sequences {_OTHERS_START}",
    ("started", "n == 0"): f"starts the first sequence {_OTHERS_START}",
    ("started", "n > 0"): f"starts all but the first sequence {_OTHERS_START}",
    ("hx_of", "np.argsort(order)[n]"): (
        "does not sort hx along with a packed batch: the longest sequence starts from the first sequence's hx"
    ),
    ("hx_of", None): "starts sequence n from hx of {sequence}",
    ("x_of", None): "reads x of {sequence} in sequence n",
    ("x_layout output_layout", "other"): "reshapes x and the output with batch_first, where they should be transposed",
    ("x_layout output_layout", "other where T == N"): (
        f"ignores batch_first: it always runs along the first axis{_SHOWS}"
    ),
    ("x_layout output_layout", None): "takes the first axis for the batch although batch_first is not set{shows}",
    ("x_layout", "other where T == N"): f"reads x with time first although batch_first is set{_SHOWS}",
    ("x_layout", "other"): f"reshapes x with batch_first{_TRANSPOSED}",
    ("x_layout", "always batch first"): f"reshapes x from (T, N, ...) to (N, T, ...){_TRANSPOSED}",
    ("x_layout", None): f"reads x with the batch first although batch_first is not set{_SHOWS}",
    ("output_layout", "other where T == N"): f"returns the output with time first although batch_first is set{_SHOWS}",
    ("output_layout", "other"): f"reshapes the output with batch_first{_TRANSPOSED}",
    ("output_layout", "always batch first"): f"reshapes the output from (N, T, ...) to (T, N, ...){_TRANSPOSED}",
    ("output_layout", None): f"returns the output with the batch first although batch_first is not set{_SHOWS}",
    ("hx_layout", "always the other"): f"reshapes hx to {_ROWS}{_TRANSPOSED}",
    ("hx_layout", None): f"reads hx {_OTHER_ROWS}",
    ("h_n_layout", "always the other"): f"reshapes h_n from {_ROWS}{_TRANSPOSED}",
    ("h_n_layout", None): f"returns h_n {_OTHER_ROWS}",
    ("activation", None): "applies {activation}, not the nonlinearity that is set",
    ("hx_row", None): "starts from row {choice} of {array}, not from row l * D + d",
    ("h_n_row", None): "writes {array} to row {choice}, not to row l * D + d",
    ("h_n_place", None): "writes the last {state} of {place} to row l * D + d of {array}",
    ("h_n_where", None): "writes {array} {where} only: its other rows stay 0",
    ("carries", None): "starts each sequence at the state that the one before it ended with",
    ("weights", None): "computes with {roles} of {whose}{above}, not with each one's own",
    ("matrices", _HSTACK): "multiplies [h, x] by [W_ih, W_hh], whose order is another one",
    **{
        ("matrices", both.format(index)): f"reads the {lines} of {{matrices}} in reverse order"
        for index, lines in (("[::-1]", "rows"), ("[:, ::-1]", "columns"))
        for both in ("W_ih{0}", "W_hh{0}", "W_ih{0}, W_hh{0}")
    },
    ("matrices", None): "takes {choice} for {matrices}",
    ("layers", "1"): "computes the first layer only: its output is returned, and its state in every row of h_n",
    ("layers", None): "leaves out the last layer",
    ("directions", None): "computes the forward direction only: what the reverse one gives is 0",
    ("input", "x"): "reads x in every layer, where the sizes allow it",
    ("input", None): "adds x to what each layer above the first reads, where the sizes allow it",
    ("skip", "above the first"): "adds the input of every layer above the first to its output, but not to h_n",
    ("skip", "every layer"): "adds the input of every layer to its output where the sizes are equal, but not to h_n",
    ("skip", "x"): "adds x to the output where the sizes are equal, but not to h_n",
    ("joined", None): "makes a layer's output of {features}, not of [forward, reverse]",
    ("inner", None): "reads {features} of the output below, above the first layer, not [forward, reverse]",
    ("inner_reverse", None): "does not flip the reverse direction's output back for the layer above",
    ("output", None): "returns {features} as the output, not [forward, reverse]",
    ("readout", None): "reads out {features}, not [forward, reverse]",
    ("padding", "held"): "keeps its state in padding, which the layer above reads",
    ("padding", None): "sets what it wrote to padding to 0",
    ("factor", "1"): "forgets dropout in training: nothing is dropped, and nothing scaled",
    ("factor", "mask"): "does not divide what dropout keeps by 1 - p",
    ("factor", "(1 - mask) / (1 - p)"): "keeps what dropout drops, and drops what it keeps",
    ("factor", None): "multiplies by {choice} for dropout, not by mask / (1 - p)",
    ("evaluation", None): (
        "multiplies the output of each layer but the last by {choice} in evaluation, where dropout does nothing"
    ),
    ("mask", "mask[:1]"): "drops with the first time step's mask at every step",
    ("mask", "mask[:, :1]"): "drops with the first sequence's mask in every sequence",
    ("mask", "mask[:, :, :1]"): "drops with the first unit's mask in every unit",
    ("mask", None): "drops with {choice}, not with the mask of each step, sequence and unit",
    ("drops_last", None): "drops the inner layers' {listed}, too, like their output",
    ("readout_step", None): "reads out the state of step {choice} at step t{zeros}",
    ("readout_where", None): "reads out the last time step only: the readout is 0 at the others",
    ("readout_bias", None): "never adds the readout's bias",
    ("gradient_stop", "from layer to layer"): "passes no gradient from a layer to the one below it",
    ("gradient_stop", "through reverse"): (
        "takes no gradient through the reverse direction: its parameters get none, and neither does what it reads"
    ),
    ("gradient_stop", None): "gives x, and the layers below, no gradient {choice}",
}
# The lines, as in a ``Slot``, of several slots together, and of choices that have another line than their slot.
LINES: Final[dict[tuple[str, str | None], tuple[str, ...]]] = {
    ("reads x_of writes output_of", None): ("x[:, ::-1], output[:, ::-1]", "x[::-1], output[::-1]"),
    ("reads x_of", None): ("x[:, ::-1]", "x[::-1]"),
    ("writes output_of", None): ("output[:, ::-1]", "output[::-1]"),
    ("reads writes", None): ("t = {choice}",),
    ("matrices", _HSTACK): ("W_ih, W_hh = {choice}", ""),
    ("skip", "x"): ("output[t] = h + x[t]", "output[t] = h"),
    ("evaluation", "p"): ("x = output * p", "x = output"),
}
_IGNORED: Final = {
    "l == L - 1": "all layers but the last",
    "l == 0": "all layers but the first",
    "d == 0": "the reverse direction",
    "d == 1": "the forward direction",
}
# The sentences of slots of the way back; other slots have those of the way forward.
BACK_SENTENCES: Final[dict[tuple[str, str | None], str]] = {
    **{key: sentence for key, sentence in SENTENCES.items() if key[0] == "gradient_stop"},
    ("weights", None): "gives the gradients by {roles} to {place}, not each to its own",
    ("gradients_of", None): "returns the gradients by {roles} of {place} in the place of each one's own",
    ("hx_row", None): "writes the gradient by {array} to row {choice}, not to row {read}",
    ("final", ""): "gives the gradient of h_n to the state after the last step",
    ("final", "T - 1"): "gives the gradient of h_n to time step T - 1{lost}",
    ("final", None): "gives the gradient of h_n to time step {choice}",
    ("factor", "1"): "forgets dropout on the way back: what was dropped gets a gradient, and nothing is scaled",
    ("factor", "mask"): "does not divide what dropout keeps by 1 - p on the way back",
    ("x_layout", "other where T == N"): f"returns x's gradient with time first although batch_first is set{_SHOWS}",
    ("x_layout", "other"): f"reshapes x's gradient with batch_first{_TRANSPOSED}",
    ("writes", "steps - 1 - k"): "takes the gradient of the output in the reversed order of time",
    ("writes", "k"): "takes the gradient of the output in the order of time, not in that of its own steps",
    **{("h_n_where", choice): f"ignores the gradient of {{array}} of {of}" for choice, of in _IGNORED.items()},
    ("h_n_row", None): "takes row {choice} of the gradient of {array}, not row l * D + d",
    ("h_n_place", None): "gives row l * D + d of the gradient of {array} to {place}",
    ("reads", None): "writes the gradient by x of its own step k to step {choice}, not to step {own}",
    ("x_of", None): "writes the gradient by x of sequence n to {sequence}",
    ("hx_of", None): "writes the gradient by hx of sequence n to {sequence}",
    ("output_of", None): "takes the gradient of the output of sequence n for {sequence}",
    ("h_n_of", None): "takes the gradient of h_n of sequence n for {sequence}",
}
BACK_LINES: Final[dict[tuple[str, str | None], tuple[str, ...]]] = {
    ("gradients_of", None): ("{gradients}",),
    ("hx_row", None): ("d{array}[{choice}] = dh_next",),
    ("final", ""): ("d_output[t, n] += dh_n", ""),
    ("final", None): ("d_output[{choice}, n] += dh_n", ""),
    ("h_n_row", None): ("d{letter}_next = {array}_grad[{choice}]",),
    ("h_n_place", None): ("d{letter}_next[{choice}] = {array}_grad[l * D + d]",),
    ("reads", None): ("dx[{choice}] += da[k] @ W_ih",),
}
# Slots that have such a sentence also where the way back has nn.RNN's choice, and the way forward has another one.
_ALSO_IF_OWN: Final = ("gradient_stop", "weights", "gradients_of", "hx_row", "final")


def differences(network: Network) -> Iterator[Mistake]:
    """Yield the differences of the wiring of a network, and of its way back."""
    wiring, back = network.wiring, network.back
    for slots in _grouped(wiring, OWN_WIRING):
        yield Mistake(*_words(slots, wiring), rewire=partial(_mended, slots=slots))
    if back is None:
        return
    # A place that computes with parameters of another one returns their gradients.
    for slots in _grouped(back, wiring.put("gradients_of", wiring["weights"])):
        if any(back.inherited(slot) != OWN_WIRING.inherited(slot) for slot in slots):
            # else it is right once the way forward is
            yield Mistake(*_back_words(slots, back, wiring), rewire=partial(_mended_back, slots=slots))


def _mended(network: Network, slots: tuple[str, ...]) -> Network:
    wiring, back = network.wiring, network.back
    if back is not None and "weights" in slots and back["gradients_of"] == wiring["weights"]:
        back = back.put("gradients_of", ())
    for slot in slots:
        if back is not None and back[slot] == wiring[slot]:
            back = back.put(slot, SLOTS[slot].own)
        wiring = wiring.put(slot, SLOTS[slot].own)
    return replace(network, wiring=wiring, back=None if back == wiring else back)


def _mended_back(network: Network, slots: tuple[str, ...]) -> Network:
    if (back := network.back) is None:
        return network
    for slot in slots:
        back = back.put(slot, network.wiring[slot])
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


def _grouped(wiring: Wiring, right: Wiring) -> list[tuple[str, ...]]:
    """Return the slots that differ, together where one mistake is made in several."""
    groups: dict[tuple[str, Any], list[str]] = {}
    flipped = {
        slot for flip in FLIPS.values() if all(wiring[slot] == choice for slot, choice in flip) for slot, _ in flip
    }
    for slot in wiring.changes(right):
        if slot in ("above", "turned", "activation_where"):  # where sums differ is said of these
            continue
        name = _name(slot)
        key = ("flips", "N - 1 - n") if slot in flipped else (_TOGETHER.get(name, name), wiring[slot])
        if slot == "padding":  # what was written there is a part of the mistake that wrote it
            key = next((group for group in groups if group[0] == "steps"), key)
        groups.setdefault(key, []).append(slot)
    sets: list[tuple[str, ...]] = []
    for slots in groups.values():
        names, ways = ({slot.partition(".")[at] for slot in slots if "." in slot} for at in (2, 0))
        if sum("." in slot for slot in slots) < len(names) * len(ways):  # not the same in both directions
            every = dict.fromkeys(map(_name, slots))
            sets += [tuple(slot for slot in slots if _name(slot) == name) for name in every]
        else:
            sets.append(tuple(slots))
    return sets


def _name(slot: str) -> str:
    return slot.rpartition(".")[2]


def _row(slot: str) -> str:
    """Return the name by which the tables have a slot: those of c have what those of h have."""
    return OF_H.get(slot, _name(slot))


def _words(slots: tuple[str, ...], wiring: Wiring) -> tuple[str, str, str]:
    """Return the sentence of some slots, their line, and nn.RNN's."""
    names = {*map(_row, slots)}
    of = next(of for of, _ in SENTENCES if names.issuperset(of.split()))
    sentence, yours, right = _filled(of, slots, wiring)
    return sentence, f"{yours}{ORDER_COMMENT}" if "order" in yours else yours, right


def _back_words(slots: tuple[str, ...], back: Wiring, forth: Wiring) -> tuple[str, str, str]:
    name, choice = _row(slots[0]), back[slots[0]]
    if choice == SLOTS[slots[0]].own and (name, choice) not in BACK_SENTENCES and name not in _ALSO_IF_OWN:
        return f"goes back as nn.RNN does, where on the way forward it {_words(slots, forth)[0]}", "", ""
    if {(name, choice), (name, None)} & BACK_SENTENCES.keys():
        return _filled(name, slots, back, forth)
    return f"{_words(slots, back)[0]}, on the way back alone", "", ""


def _filled(of: str, slots: tuple[str, ...], wiring: Wiring, forth: Wiring | None = None) -> tuple[str, str, str]:
    """Return the sentence and the lines of a choice; those of the way back, if the wiring ``forth`` is given."""
    sentences, lines = (SENTENCES, LINES) if forth is None else (BACK_SENTENCES, BACK_LINES)
    slot, names = slots[0], {*map(_name, slots)}
    array = slot.rpartition("_")[0]
    choice, own = wiring.inherited(slot), OWN_WIRING.inherited(slot)
    sentence = sentences.get((of, choice)) or sentences[of, None]
    line = lines.get((of, choice)) or lines.get((of, None), SLOTS[slot].line if forth is None else ())
    yours, *rest = line if line and choice not in _WITHOUT_LINE else ("", "")
    roles = list[str]()
    if slot in ("weights", "gradients_of"):
        roles, choice, own = [role for role, _ in choice], choice[0][1], OWN_PLACE
    text, read = str(choice), (forth or wiring).inherited(slot)
    layer, _, direction = text.partition(", ")
    ways = {slot.partition(".")[0] for slot in slots if "." in slot}
    where = f", in the {ways.pop()} direction" if len(ways) == 1 else ""
    sentence = sentence.format(
        choice=text,
        own=own,
        place=_PLACES.get(text, f"layer and direction {text}"),
        whose=_PLACES.get(text, f"layer {layer}, direction {direction}"),
        above=_ABOVE.get(text, ""),
        where=WHERE_WORDS.get(text, ""),
        sequence=_SEQUENCES.get(text, f"sequence {text}"),
        results=" and ".join(result for result in ("output", "h_n") if f"{result}_of" in names),
        features=_FEATURES.get(text, f"[{text}]"),
        roles=roles and of_roles(roles),
        matrices=" and ".join(name for name in ("W_ih", "W_hh") if name in text),
        listed=slot == "drops_last" and listed(choice),
        activation=slot == "activation" and _activation(wiring),
        shows=_SHOWS if "==" in text else "",
        zeros=", and zeros before the first" if "- 1" in text else "",
        array=array,
        state="c" if array.startswith("c") else "state",
        read=read if read == own else f"{read}, from which it starts",
        lost=", not to the first" if "reverse" in where else ": that of a shorter sequence is lost in the padding",
    )
    yours, right = (
        line.format(
            choice=index,
            array=array,
            letter=array[:1],
            parameters=", ".join(f"{role}[{index}]" for role in roles),
            gradients=", ".join(f"d{role}[{index}]" for role in roles),
        )
        for line, index in ((yours, text), (rest[0] if rest else yours, own))
    )
    return f"{sentence}{where}", yours, right


def _activation(wiring: Wiring) -> str:
    return f"{ACTIVATIONS[wiring['activation']].line('s')} {WHERE_WORDS.get(wiring['activation_where'], '')}"


def listed(names: Sequence[str]) -> str:
    """Return names as a list in words."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def of_roles(roles: Sequence[str]) -> str:
    """Return the arrays of some roles in words."""
    both = {"bias_ih", "bias_hh"} <= {*roles}
    names = ["the biases" if role == "bias_ih" and both else role for role in roles]
    return listed([name for name in names if not (name == "bias_hh" and both)])
