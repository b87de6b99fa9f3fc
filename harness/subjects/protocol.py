"""Subject: what an implementation under test looks like to the harness."""

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
    """A subject that cannot be had: unknown, not importable, of a wrong signature, or on a device that is not here."""


class Unsupported(NotImplementedError):
    """Raised by a subject to say that it does not do a config; a plain ``NotImplementedError`` says the same."""


def choose_devices(subject: Subject, asked: Sequence[str]) -> tuple[str, ...]:
    """The devices asked for by the subject's own names: ``cuda`` for ``cuda:0``. All of them, if none is asked for.

    meta, which has no values, is then drawn less often than the others.

    Raises ``SubjectError`` for one that is not here.
    """
    here = subject.devices()
    chosen = tuple(device if device in here else f"{device}:0" for device in asked)
    for device, name in zip(asked, chosen, strict=True):
        if name not in here:
            raise SubjectError(f"device={device!r}: {subject.name} runs here on {', '.join(here)}")
    return chosen or tuple(device for device in here for _ in range(1 if device == "meta" else 15))


def backend_of(subject: Subject, config: RNNConfig) -> str:
    """The backend that the subject says it computes a config on, as ``oracle.arithmetic`` names it; or unknown."""
    name: Callable[[RNNConfig], str] = getattr(subject, "backend", lambda _config: "unknown")
    return name(config)


def ground_of(subject: Subject, device: str) -> dict[str, str]:
    """What a subject computes on, as it says itself; else what this process does."""
    name: Callable[[str], dict[str, str]] = getattr(subject, "ground", ground)
    return name(device)


def masks_of(subject: Subject, case: Case) -> dict[int, Array] | None:
    """What dropout keeps of each inner layer's output in a run, (T, N, D*H), by layer: nothing where it drops nothing.

    ``None`` where the subject cannot say.
    """
    if not case.config.drops:
        return {}
    ask: Callable[[Case], Sequence[Array] | None] = getattr(subject, "masks", lambda _case: None)
    masks = ask(case)
    return None if masks is None else dict(enumerate(masks))


def contract_of(subject: object) -> str:
    """The contract that a subject is held to, unless another is asked for (``space.contract``)."""
    return str(getattr(subject, "contract", KERNEL))


def scope_of(subject: object, contract: str | None = None) -> Scope:
    """All that a contract, the subject's own unless given, asks of it: the usual scope, and what it offers beyond."""
    return under(Scope().only(**getattr(subject, "offers", {})), contract or contract_of(subject))


@runtime_checkable
class Subject(Protocol):
    """An implementation under test.

    ``run`` reports the subject's own failures in the outcome; what it raises is the harness's fault. It gives the
    same answer to the same case, whatever ran before.

    It may also have ``offers``, values of factors by name that are not in everyone's scope (``{"dtype": ("float32",
    "bfloat16"), "loss": LOSSES}``), ``backend(config)``, the name of what is known of its arithmetic, and ``contract``,
    how strictly it is held unless asked otherwise.
    ``shares_process = True`` says that it leaves its process as it found it (the floating-point environment, NumPy, the
    warnings), and that a worker may run it in its own, without another beside it: until one dies of it.

    ``run_twice(case)`` gives what ``run`` does, and names in ``Outcome.overwritten`` what a further call changed of it.

    And it may have derivatives beyond gradients, along ``tangents`` that are given by the names of inputs and
    parameters; each returns an ``Outcome`` as ``run`` does. ``jvp(case, tangents)`` is asked of cases without a loss
    and a readout and gives ``output``, ``h_n``, and their directional derivatives ``output.tangent`` and
    ``h_n.tangent``. ``second(case, tangents)`` gives the directional derivative of every gradient, under its name.
    """

    @property
    def name(self) -> str:
        """How the subject is asked for, and what reports call it."""
        ...

    def devices(self) -> tuple[str, ...]:
        """The devices on which it can run here; never empty."""
        ...

    def run(self, case: Case) -> Outcome:
        """What the subject gives on a case."""
        ...
