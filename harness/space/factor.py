"""factor: a row of the table of factors (``factor_table``), and the kinds of rows."""

from dataclasses import MISSING, dataclass, field
from typing import Any, Final

from harness.space.constraints import Constraint

ROW: Final = "row"  # the key of a row in the metadata of its field


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A row of the table. Of values that repeat, more are drawn; the first one is the plainest."""

    choices: tuple[Any, ...] | None = None  # all values that a config may have; None: any of its type
    usual: tuple[Any, ...]  # those that every subject is asked for
    torch: tuple[Any, ...]  # those that torch's own layer is asked for
    function: tuple[Any, ...] | None = None  # those that a function is asked for, if they are not the usual ones
    argument: str = ""  # the argument by which a function says that it supports the factor
    excluded: tuple[Constraint, ...] = ()  # what it excludes of the factors above it, and itself

    axis: str = ""  # the letter of the axis whose length it is
    size: bool = False  # nothing but the length of an axis of arrays
    dear: int = 0  # of lengths: its place in the order in which they are shrunk, the dearest first
    group: str = ""  # factors that exclude each other (``interactions``)
    halves: tuple[str, str] | None = None  # the names of the halves of the space with its plainest value and without
    apart: bool = False  # varied in cases of its own, and nowhere else
    beside_apart: bool = False  # varied in these cases, too

    unseen: bool = False  # no array shows it to a function that does not get the config
    feature: bool = False  # a subject may ignore a value instead of refusing it
    discovered: bool = True  # a subject is asked which values it supports
    opens_others: bool = False  # a subject may support a value of another factor beside some of its values only
    probed: bool = False  # gradients are probed whatever it is
    drop_in: bool = False  # a class of another form than nn.RNN's need not have it

    modules_only: bool = False  # only a module of torch has it
    sent: bool = True  # it means something to a program
    always_named: bool = True  # it is said even if it is as usual

    @property
    def is_flag(self) -> bool:
        """True if it is true or false."""
        return isinstance(self.usual[0], bool)


def factor(
    choices: tuple[Any, ...] | None = None,
    *,
    usual: tuple[Any, ...] = (),
    torch: tuple[Any, ...] = (),
    required: bool = False,
    **columns: Any,
) -> Any:
    """Return a field with its row. Usual is the plainest choice alone; torch's layer is asked for the usual values."""
    usual = usual or (choices or ())[:1]
    row = Factor(choices=choices, usual=usual, torch=torch or usual, **columns)
    return field(default=MISSING if required else usual[0], metadata={ROW: row})


def option(choices: tuple[Any, ...] | None = None, **columns: Any) -> Any:
    """Return the field of an option, which a subject may ignore instead of refusing it."""
    return factor(choices, **{"feature": True, "opens_others": True, "beside_apart": True} | columns)


def way(choices: tuple[Any, ...] | None = None, **columns: Any) -> Any:
    """Return the field of a way of calling."""
    return factor(choices, always_named=False, **columns)


def of_torch(choices: tuple[Any, ...] | None = None, **columns: Any) -> Any:
    """Return the field of a way of calling that exists in torch only."""
    return way(choices, modules_only=True, sent=False, **columns)
