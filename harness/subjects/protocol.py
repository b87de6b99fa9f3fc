"""The Subject protocol: the interface of an implementation under test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.space.contract import KERNEL, under
from harness.space.errors import UsageError
from harness.space.outcome import Outcome
from harness.space.scope import Scope
from harness.subjects.ground import ground


class SubjectError(UsageError):
    """A subject that is not available: unknown, not importable, of a wrong signature, or on a missing device."""


class Unsupported(NotImplementedError):
    """Raised by a subject to say that it does not support a config; a plain ``NotImplementedError`` says the same."""


def choose_devices(subject: Subject, asked: Sequence[str]) -> tuple[str, ...]:
    """Return the devices asked for under the subject's own names, such as ``cuda:0`` for ``cuda``; by default, all.

    With all devices, meta is drawn less often than the others, because it has no values. Raises ``SubjectError`` for a
    device that is not here.
    """
    here = subject.devices()
    chosen = tuple(device if device in here else f"{device}:0" for device in asked)
    for device, name in zip(asked, chosen, strict=True):
        if name not in here:
            raise SubjectError(f"device={device!r}: {subject.name} runs here on {', '.join(here)}")
    return chosen or tuple(device for device in here for _ in range(1 if device == "meta" else 15))


def backend_of(subject: Subject, config: RNNConfig) -> str:
    """Return the backend that the subject names for a config, as in ``oracle.arithmetic``, or ``"unknown"``."""
    name: Callable[[RNNConfig], str] = getattr(subject, "backend", lambda _config: "unknown")
    return name(config)


def ground_of(subject: Subject, device: str) -> dict[str, str]:
    """Return the ground of a subject: the software and hardware that it names, or else those of this process."""
    name: Callable[[str], dict[str, str]] = getattr(subject, "ground", ground)
    return name(device)


def masks_of(subject: Subject, case: Case) -> dict[int, Array] | None:
    """Return the masks of dropout by layer: what a run keeps of each inner layer's output, (T, N, D*H).

    There are none if the config drops nothing. Returns ``None`` if the subject cannot tell its masks.
    """
    if not case.config.drops:
        return {}
    ask: Callable[[Case], Sequence[Array] | None] = getattr(subject, "masks", lambda _case: None)
    masks = ask(case)
    return None if masks is None else dict(enumerate(masks))


def contract_of(subject: object) -> str:
    """Return the contract that a subject is held to unless another is asked for (``space.contract``)."""
    return str(getattr(subject, "contract", KERNEL))


def scope_of(subject: object, contract: str | None = None) -> Scope:
    """Return the scope that a contract (by default the subject's own) asks of it, including the subject's offers."""
    return under(Scope().only(**getattr(subject, "offers", {})), contract or contract_of(subject))


@runtime_checkable
class Subject(Protocol):
    """An implementation under test.

    ``run`` reports the subject's own failures in the outcome; an exception that it raises is an error of the harness.
    It gives the same answer to the same case, whatever ran before.

    A subject may also have these attributes. ``offers`` are values of factors by name that are not in everyone's scope
    (``{"dtype": ("float32", "bfloat16"), "loss": LOSSES}``). ``backend(config)`` names the backend whose arithmetic is
    known. ``contract`` is the contract it is held to unless another is asked for. ``shares_process = True`` says that
    it leaves its process as it found it (the floating-point environment, NumPy, the warnings), and that a worker may
    run it in its own process without another one beside it, until a worker dies of it.

    ``run_twice(case)`` gives what ``run`` does, and names in ``Outcome.overwritten`` the arrays that a further call
    changed.

    It may also have derivatives beyond gradients, along ``tangents`` that are given by the names of inputs and
    parameters; each returns an ``Outcome`` as ``run`` does. ``jvp(case, tangents)`` is asked for cases without a loss
    and a readout and gives ``output``, ``h_n``, and their directional derivatives ``output.tangent`` and
    ``h_n.tangent``. ``second(case, tangents)`` gives the directional derivative of every gradient, under the gradient's
    name.
    """

    @property
    def name(self) -> str:
        """The name by which the subject is asked for and reported."""
        ...

    def devices(self) -> tuple[str, ...]:
        """Return the devices on which it can run here; there is at least one."""
        ...

    def run(self, case: Case) -> Outcome:
        """Run the subject on a case."""
        ...
