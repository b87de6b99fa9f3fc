"""Known deviations of torch's own nn.RNN in what it refuses, with the reason and with who would have to change it.

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


DEVIATIONS: Final = (
    Deviation(
        "input_size=True",
        Whose.TORCH,
        "a bool passes the check for an int, and then acts as 1; hidden_size and num_layers refuse it",
        (Lapse.ACCEPTED,),
        "^input_size no int$",
        "^input_size=True",
    ),
    Deviation(
        "sizes checked by what allocates",
        Whose.TORCH,
        "no check looks for a bool, and before torch 2.10 or so none at input_size; what refuses is the allocation of "
        "the weights, which does not name the argument",
        (Lapse.MESSAGE,),
        "^(input|hidden)_size ",
        said=r"empty\(\)|negative dimension",
    ),
    Deviation(
        "num_layers compared unchecked",
        Whose.TORCH,
        "its type is not checked: what refuses is a comparison or range(), which does not name the argument",
        (Lapse.MESSAGE,),
        "^num_layers no int$",
        said="not supported between|interpreted as an integer",
    ),
    Deviation(
        "dropout converted unchecked",
        Whose.TORCH,
        "float() is called before the check, and does not name the argument",
        (Lapse.MESSAGE,),
        "^dropout no number$",
        said="could not convert string|float",
    ),
    Deviation(
        "input_size=0 in older versions",
        Whose.TORCH,
        "before torch 2.10 or so input_size was not checked, and no features are multiplied like some",
        (Lapse.ACCEPTED,),
        "^input_size below 1$",
        "^input_size=0",
    ),
    Deviation(
        "batch_first unread for packed input in older versions",
        Whose.TORCH,
        "before torch 2.10 or so it was refused by the kernel alone, which is not told of it where input is packed",
        (Lapse.ACCEPTED,),
        "^batch_first no bool$",
        "pack_padded_sequence|PackedSequence",
    ),
    Deviation(
        "parameters that broadcast",
        Whose.TORCH,
        "a parameter's shape is checked by nothing but the arithmetic: one that broadcasts, or a layer of one unit "
        "that broadcasts to it, is computed with",
        (Lapse.ACCEPTED,),
        "^(weight|bias)_[ih]h: shape$",
        r"^\w+ of shape \((\)|1,)|^\w+ of shape .* for \(1,",
    ),
    Deviation(
        "a bias of another dtype",
        Whose.TORCH,
        "where x is not contiguous, as with batch_first, the bias is added by itself, which converts it",
        (Lapse.ACCEPTED,),
        "^parameter: dtype$",
        "^bias",
    ),
    Deviation(
        "devices unchecked for packed input",
        Whose.TORCH,
        "the check that all is on one device is made for padded input alone; a product of tensors on the CPU and on "
        "meta is on meta, where neither dtypes nor indices are looked at, and what comes back holds no numbers",
        (Lapse.ACCEPTED, Lapse.MESSAGE),
        "",
        "(?s)(?=.*'meta')(?=.*PackedSequence)",
    ),
    Deviation(
        "lengths sorted before they are checked",
        Whose.TORCH,
        "with enforce_sorted=False sequences are selected by the order of the lengths before their number is looked "
        "at: sequences without a length are dropped, and what is refused is refused as an index",
        (Lapse.ACCEPTED, Lapse.CLASS, Lapse.MESSAGE),
        "^lengths: (number|no list)$",
        "enforce_sorted=False",
    ),
    Deviation(
        "hx sorted before it is checked",
        Whose.TORCH,
        "the states are selected by sorted_indices before the shape of hx is looked at: states too many are dropped, "
        "and what is refused is refused as an index",
        (Lapse.ACCEPTED, Lapse.CLASS, Lapse.MESSAGE),
        "^hx: (batch|batch of 1|batch first|rank)$",
        "enforce_sorted=False|sorted_indices",
    ),
    Deviation(
        "lengths that are no ints",
        Whose.TORCH,
        "lengths are documented to be ints, but are converted: 2.5 becomes 2, True becomes 1",
        (Lapse.ACCEPTED,),
        "^lengths: no ints$",
    ),
    Deviation(
        "a pack made by hand, unchecked",
        Whose.DOCUMENTATION,
        "a PackedSequence should never be made by hand, the documentation says, but not what comes of it: data beyond "
        "batch_sizes and steps of batch size 0 are passed over, indices that are no permutation mix up sequences, and "
        "where unsorted_indices are left to torch, they are partly whatever was in memory",
        (Lapse.ACCEPTED,),
        "^(batch_sizes: (sum|zero|no list)|indices: (no permutation|number))$",
    ),
    Deviation(
        "batch_sizes=None",
        Whose.DOCUMENTATION,
        "then the data are taken for a pair of data and batch_sizes, by an assertion",
        (Lapse.CLASS,),
        "^batch_sizes: no list$",
        "^batch_sizes is None",
        "^AssertionError",
    ),
)
