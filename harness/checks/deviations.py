"""Known deviations of torch's nn.RNN and nn.RNNCell in what they refuse, why, and who would have to change it.

A deviation excuses no more than it says: it is matched by the break, by what went wrong, and by the call's code or the
message. Torch differs between versions; deviations of older versions are listed, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Lapse(Enum):
    """The ways in which an answer to a malformed call can be wrong, mildest first."""

    MESSAGE = "refused without a fact that the message must carry"
    CLASS = "refused with another exception"
    ACCEPTED = "accepted silently"
    HUNG = "hung"
    CRASHED = "crashed"


class Whose(Enum):
    """The party that would have to change something."""

    TORCH = "torch"
    ONEDNN = "oneDNN"
    NUMPY = "NumPy"
    DOCUMENTATION = "torch's documentation"
    """The documentation gives the call no meaning, and does not say that it is not refused either."""


@dataclass(frozen=True)
class Deviation:
    """One known deviation, given by patterns for the break's name, for its label and code, and for the exception."""

    name: str
    whose: Whose
    reason: str
    lapses: tuple[Lapse, ...]
    breaks: str
    where: str = ""
    said: str = ""

    def explains(self, lapse: Lapse, name: str, where: str, said: str) -> bool:
        """Return whether a lapse on one break is this deviation."""
        return lapse in self.lapses and all(
            re.search(pattern, text) for pattern, text in ((self.breaks, name), (self.where, where), (self.said, said))
        )


def known(lapse: Lapse, name: str, where: str, said: str) -> Deviation | None:
    """Return the deviation that explains a lapse on one break, or ``None``."""
    return next((deviation for deviation in DEVIATIONS if deviation.explains(lapse, name, where, said)), None)


_CELL: Final = r".*torch\.nn\.RNNCell\(.*"
"""The pattern of a cell's code."""

DEVIATIONS: Final = (
    Deviation(
        "input_size=True",
        Whose.TORCH,
        "the check for an int accepts True, which then means 1; hidden_size and num_layers refuse True",
        (Lapse.ACCEPTED,),
        "^input_size no int$",
        "^input_size=True",
    ),
    Deviation(
        "sizes checked by what allocates",
        Whose.TORCH,
        "no check refuses a bool, before torch 2.10 or so none looks at input_size, and a cell checks no size; the "
        "allocation of the weights then fails, and its error does not name the argument",
        (Lapse.MESSAGE,),
        "^(input|hidden)_size ",
        said=r"empty\(\)|negative dimension|unsupported operand type",
    ),
    Deviation(
        "a cell's sizes, unchecked",
        Whose.TORCH,
        "a cell checks no size: with 0 it has no features or no units and returns what follows from that, and True "
        "means 1",
        (Lapse.ACCEPTED,),
        "^(input|hidden)_size (below 1|no int)$",
        rf"(?s)^(input_size=0|hidden_size=0|hidden_size=True)\b{_CELL}",
    ),
    Deviation(
        "a cell's bias, unchecked",
        Whose.TORCH,
        "a cell does not check that bias is a bool, but takes what is true for True and what is not for False",
        (Lapse.ACCEPTED,),
        "^bias no bool$",
        f"(?s){_CELL}",
    ),
    Deviation(
        "a cell's hx of another rank than x",
        Whose.TORCH,
        "a cell checks that x and hx have one dimension or two, but not that they have the same: an error is one of "
        "sizes or of an index, and beside unbatched x an hx of (H, H) is taken for H states",
        (Lapse.ACCEPTED, Lapse.CLASS, Lapse.MESSAGE),
        "^hx: rank$",
        f"(?s)^hx of [12] dimensions{_CELL}",
    ),
    Deviation(
        "a cell's devices, unchecked",
        Whose.TORCH,
        "a cell leaves the check to its operations: a product with a tensor on meta is on meta, or on the CPU with "
        "numbers that nothing has computed, where no bias is added to it",
        (Lapse.ACCEPTED,),
        "device$",
        f"(?s)'meta'{_CELL}|{_CELL}'meta'",
    ),
    Deviation(
        "a cell's weight without dimensions",
        Whose.TORCH,
        "a cell's products look at a dimension of the weights before anything checks that there is one",
        (Lapse.CLASS,),
        "^weight_[ih]h: shape$",
        rf"(?s)of shape \(\) for{_CELL}",
        "^IndexError: .*no dimensions",
    ),
    Deviation(
        "num_layers compared unchecked",
        Whose.TORCH,
        "its type is not checked; a comparison or range() then fails, and its error does not name the argument",
        (Lapse.MESSAGE,),
        "^num_layers no int$",
        said="not supported between|interpreted as an integer",
    ),
    Deviation(
        "dropout converted unchecked",
        Whose.TORCH,
        "float() is called before the check, and its error does not name the argument",
        (Lapse.MESSAGE,),
        "^dropout no number$",
        said="could not convert string|float",
    ),
    Deviation(
        "input_size=0 in older versions",
        Whose.TORCH,
        "before torch 2.10 or so input_size was not checked; products over no features give zeros and no error",
        (Lapse.ACCEPTED,),
        "^input_size below 1$",
        "^input_size=0",
    ),
    Deviation(
        "batch_first unread for packed input in older versions",
        Whose.TORCH,
        "before torch 2.10 or so only the kernel refused it, and for packed input the kernel does not get it",
        (Lapse.ACCEPTED,),
        "^batch_first no bool$",
        "pack_padded_sequence|PackedSequence",
    ),
    Deviation(
        "parameters that broadcast",
        Whose.TORCH,
        "only the arithmetic checks a parameter's shape: a parameter that broadcasts is used, and so is one to which "
        "a layer of one unit broadcasts",
        (Lapse.ACCEPTED,),
        "^(weight|bias)_[ih]h: shape$",
        r"^\w+ of shape \((\)|1,)|^\w+ of shape .* for \(1,",
    ),
    Deviation(
        "a bias of another dtype",
        Whose.TORCH,
        "where x is not contiguous, as with batch_first, the bias is added in a step of its own, which converts it",
        (Lapse.ACCEPTED,),
        "^parameter: dtype$",
        "^bias",
    ),
    Deviation(
        "devices unchecked for packed input",
        Whose.TORCH,
        "torch checks only for padded input that everything is on one device; a product of tensors on the CPU and on "
        "meta is on meta, where nothing checks dtypes and indices, and the result holds no numbers",
        (Lapse.ACCEPTED, Lapse.MESSAGE),
        "",
        "(?s)(?=.*'meta')(?=.*PackedSequence)",
    ),
    Deviation(
        "lengths sorted before they are checked",
        Whose.TORCH,
        "with enforce_sorted=False sequences are selected by the order of the lengths before their number is checked: "
        "sequences without a length are dropped, and an error is one of an index",
        (Lapse.ACCEPTED, Lapse.CLASS, Lapse.MESSAGE),
        "^lengths: (number|no list)$",
        "enforce_sorted=False",
    ),
    Deviation(
        "hx sorted before it is checked",
        Whose.TORCH,
        "the states are selected by sorted_indices before the shape of hx is checked: surplus states are dropped, and "
        "an error is one of an index",
        (Lapse.ACCEPTED, Lapse.CLASS, Lapse.MESSAGE),
        "^hx: (batch|batch of 1|batch first|rank)$",
        "enforce_sorted=False|sorted_indices",
    ),
    Deviation(
        "lengths that are no ints",
        Whose.TORCH,
        "lengths are documented to be ints, but others are converted: 2.5 becomes 2, True becomes 1",
        (Lapse.ACCEPTED,),
        "^lengths: no ints$",
    ),
    Deviation(
        "a pack made by hand, unchecked",
        Whose.DOCUMENTATION,
        "the documentation says that nobody should make a PackedSequence by hand, but not what happens then: data "
        "beyond batch_sizes and steps of batch size 0 are ignored, indices that are no permutation mix up sequences, "
        "and unsorted_indices that torch then computes hold partly what was in memory before",
        (Lapse.ACCEPTED,),
        "^(batch_sizes: (sum|zero|no list)|indices: (no permutation|number))$",
    ),
    Deviation(
        "batch_sizes=None",
        Whose.DOCUMENTATION,
        "torch then expects a pair of data and batch_sizes as data, and an assertion fails",
        (Lapse.CLASS,),
        "^batch_sizes: no list$",
        "^batch_sizes is None",
        "^AssertionError",
    ),
)
