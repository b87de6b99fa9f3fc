"""capabilities: all that a subject offers besides ``run``, declared in one object, which everything else reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol

from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.space.conformance_profile import KERNEL
from harness.space.declared_arithmetic import DeclaredArithmetic
from harness.space.errors import UsageError
from harness.space.outcome import Outcome
from harness.space.reading import MOST_WRITTEN, read_bytes
from harness.subjects.class_form import ClassForm
from harness.subjects.conventions import Conventions

if TYPE_CHECKING:  # the module of Subject imports this one
    from harness.subjects.protocol import Closable

# The sizes that a subject offers if each new shape takes it long. The largest are those of the statistics of dropout.
FEW_SIZES: Final[Mapping[str, tuple[int, ...]]] = {
    "T": (1, 2, 3, 8),
    "N": (1, 2, 5, 32),
    "input_size": (1, 2, 3, 33),
    "hidden_size": (1, 2, 3, 32),
}


_FAST: Final = {"fast_mode": True, "check_undefined_grad": False, "nondet_tol": 1e-12}

DIFFERENCES: Final[dict[str, dict[str, Any]]] = {
    "gradcheck": {"check_forward_ad": True, "check_backward_ad": False, **_FAST},
    "gradgradcheck": _FAST,
}
"""The options of torch's checks of derivatives. What they leave out is checked otherwise, such as a loss that reads one
result."""


@dataclass(frozen=True)
class Recipe:
    """The way in which a stand-alone script builds and calls a function or a class of torch modules."""

    # The function or class in the script. If it is empty, the script imports what the subject's name says.
    expression: str = ""
    lines: tuple[str, ...] = ()  # the lines that make the expression usable, such as its import
    environ: Mapping[str, str] = field(default_factory=dict)  # the variables that must be set before torch is imported
    # The arguments of the function in the script, if they are not those that the subject takes.
    takes: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()  # the arguments of a function that takes them by position only
    paired: bool = False  # a function takes h0 and c0 in one argument
    is_cell: bool = False  # the names of its parameters have no layer
    own: bool = False  # it is torch's own, so that the script may leave out what is at torch's defaults
    title: str = ""  # the name of torch's own for readers who do not know this package
    form: ClassForm | None = None  # the form of a class that has a constructor and parameters of its own


class OwnProcess(Protocol):
    """The members of a subject that runs in a process of its own, as ``IsolatedSubject`` does."""

    @property
    def shared(self) -> object | None:
        """An object that becomes the same subject in the process that unpickles it, if the subject allows that."""
        ...

    @property
    def spoiled(self) -> str:
        """The error of the harness in a process that the subject had changed; nothing if there was none."""
        ...

    @property
    def unrepeated(self) -> int:
        """The number of times that its process ended as from outside, and did not when the same was asked again."""
        ...

    @property
    def switchable(self) -> bool:
        """True if it computes with torch, so that switches affect it (``torch_variants.KERNEL_SWITCHES``)."""
        ...

    def restart(self) -> None:
        """Use a fresh process for the next call, without memory of earlier calls."""
        ...

    def switched(self, switch: str) -> Closable:
        """Return the same subject in another process, under one more switch."""
        ...

    def kernels(self, case: Case) -> tuple[str, ...]:
        """Return the kernels that it runs on a case, by name and shape."""
        ...

    def lines(self, case: Case) -> int:
        """Return how many of its own lines it runs on a case (``line_runs.lines_of``)."""
        ...

    def line_runs(self, case: Case) -> list[Any]:
        """Return the runs of its own lines on a case (``line_runs.LineRun``)."""
        ...

    def environment(self, device: str) -> dict[str, str]:
        """Return the software and hardware that its process computes on."""
        ...


@dataclass(frozen=True)
class Capabilities:
    """All that a subject offers besides ``run``. The defaults are those of a subject that offers nothing else.

    Its methods are those of an object, such as ``Capabilities(masks=self.masks)`` in ``__init__``.
    """

    # The values that it is asked for, in place of the usual ones, by factor: ``{"dtype": ("float32", "float64")}``.
    offers: Mapping[str, Any] = field(default_factory=dict)
    profile: str = KERNEL  # the profile that it is held to unless another is asked for (``space.conformance_profile``)
    slow: bool = False  # each new shape takes it long, as where it compiles, so that it is asked for few (``narrow``)
    arithmetic: Mapping[str, DeclaredArithmetic] = field(default_factory=dict)
    """The figures that are known of its arithmetic, by the kind of device, such as ``cpu``. Where nothing is known, its
    tanh is measured."""
    is_torch: bool = False  # it is a layer of torch's own, which may deviate as torch is known to
    # The names of the arguments that a function takes; ``None`` for what is no function.
    takes: tuple[str, ...] | None = None
    recipe: Recipe | None = None  # the way in which a script builds and calls it; ``None`` if no script can
    # The file and the name of the function or class that it was made of, if it has a name there.
    place: tuple[str, str] | None = None
    # The arguments that its constructor takes by position, by name, as far as they are known.
    positions: tuple[str, ...] = ()
    # The environment that it computes on, if that is not this process: ``software``, in its own words.
    environment: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)  # the devices that are not here, with the reasons
    shares_process: bool = False
    """True if it leaves its process as it found it: the floating-point environment, NumPy, the warnings. Then a worker
    may run it in its own process without another one beside it, until a worker dies of it."""
    process: OwnProcess | None = None  # the process of its own in which it runs, if there is one
    stages: tuple[str, ...] = ()
    """The names of subjects that do a part of what it does, from the least on. A finding says which is the first that
    fails as well."""
    # Returns the relations that it keeps to the bit in a config (``checks.relation_check``).
    exact_relations: Callable[[RNNConfig], frozenset[str]] | None = None
    masks: Callable[[Case], Sequence[Array] | None] | None = None
    """Returns what dropout keeps of each inner layer's output in ``run``, time first, (T, N, D*H), as booleans; or
    ``None`` if it cannot tell."""
    # Does what ``run`` does, and names in ``Outcome.overwritten`` the arrays that a further call changed.
    run_twice: Callable[[Case], Outcome] | None = None
    # Does what ``run`` does, with memory that is not written yet filled with a number.
    run_filled: Callable[[Case, float], Outcome] | None = None
    check_derivatives: Callable[[Case], Outcome] | None = None
    """Compares its derivatives in forward mode, and those of its gradients, with differences; the outcome's message
    is ``gradcheck`` or ``gradgradcheck`` if they differ, torch's name of that check."""
    # Runs the code of a whole use of a class, which is its name ``RNN``, with a default dtype and device.
    call: Callable[[str, str, str], Outcome] | None = None
    # The conventions that it declares, by which it differs from nn.RNN.
    conventions: Conventions = field(default_factory=Conventions)
    # What it offers and cannot be compared, by factor or array, with the reason: ``{"hx": "no call with …"}``.
    not_compared: Mapping[str, str] = field(default_factory=dict)
    order_assumed: bool = False  # which of its rows are of which gate is taken from names, or as torch has it
    # The names of its parameters and what they are read as, if they are not nn.RNN's: ``cell.w as weight_ih``.
    read_as: str = ""
    # Returns the fields of the config that it reads in ``run``, if it is a function that is given a config.
    reads: Callable[[Case], frozenset[str]] | None = None
    # Does what ``run`` does, as if it had declared other conventions.
    run_as: Callable[[Case, Conventions], Outcome] | None = None

    @property
    def source(self) -> str:
        """The hash of the file that it is in, or nothing if it is in none that can be read."""
        try:
            return "" if self.place is None else sha256(read_bytes(self.place[0], MOST_WRITTEN)).hexdigest()
        except UsageError:
            return ""

    def with_methods(self, wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Capabilities:
        """Return the same capabilities, each method replaced by ``wrap(name, method)``."""
        values: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values |= {name: wrap(name, value) for name, value in values.items() if callable(value)}
        return Capabilities(**values)
