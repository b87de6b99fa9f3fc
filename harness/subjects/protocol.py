"""The Subject protocol: the interface of an implementation under test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.space.conformance_profile import under
from harness.space.declared_arithmetic import DeclaredArithmetic
from harness.space.errors import UsageError, require_type
from harness.space.outcome import Outcome
from harness.space.scope import Scope
from harness.subjects.capabilities import Capabilities
from harness.subjects.environment import environment


class SubjectUnavailable(UsageError):
    """A subject that is not available: unknown, not importable, of a wrong signature, or on a missing device."""


class Unsupported(NotImplementedError):
    """Raised by a subject to say that it does not support a config; a plain ``NotImplementedError`` says the same."""


def choose_devices(subject: Subject, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the devices asked for under the subject's own names, such as ``cuda:0`` for ``cuda``; by default, all.

    With all devices, meta is drawn less often than the others, because it has no values. Raises ``SubjectUnavailable``
    for a device that is not here.
    """
    here = subject.devices()
    chosen = tuple(device if device in here else f"{device}:0" for device in wanted)
    for device, name in zip(wanted, chosen, strict=True):
        if name not in here:
            raise SubjectUnavailable(f"device={device!r}: {subject.name} runs here on {', '.join(here)}")
    return chosen or tuple(device for device in here for _ in range(1 if device == "meta" else 15))


def backend_of(subject: Subject, config: RNNConfig) -> DeclaredArithmetic | None:
    """Return what is known of the subject's arithmetic on a config's device; ``None`` if nothing is."""
    return subject.capabilities.arithmetic.get(config.device.partition(":")[0])


def unrepeated_of(subject: Subject) -> int:
    """Return how often a subject's own process ended as from outside, and did not when the same was asked again."""
    process = subject.capabilities.process
    return 0 if process is None else process.unrepeated


def spoiled_by(subject: Subject) -> str:
    """Return the error of the harness in a process that the subject had changed; nothing if there was none."""
    process = subject.capabilities.process
    return "" if process is None else process.spoiled


def has_more(subject: Subject) -> bool:
    """Tell whether dropout's statistics follow a search: of a module, or where no case compares what it drops."""
    own = subject.capabilities
    return own.call is not None or (own.takes is None and own.masks is None)


def environment_of(subject: Subject, device: str) -> dict[str, str]:
    """Return the environment of a subject: the software and hardware that it names, or else those of this process."""
    process = subject.capabilities.process
    return environment(device) if process is None else process.environment(device)


def masks_of(subject: Subject, case: Case) -> dict[int, Array] | None:
    """Return the masks of dropout by layer: what a run keeps of each inner layer's output, (T, N, D*H).

    There are none if the config drops nothing. Returns ``None`` if the subject cannot tell its masks.
    """
    if not case.config.drops:
        return {}
    ask = subject.capabilities.masks
    masks = None if ask is None else ask(case)
    return None if masks is None else dict(enumerate(masks))


def scope_of(subject: Subject, profile: str | None = None) -> Scope:
    """Return the scope that a profile (by default the subject's own) asks of it, including the subject's offers."""
    require_type("subject", subject, Subject, "as_subject(function) makes one")
    own = subject.capabilities
    return under(Scope().only(**own.offers), own.profile if profile is None else profile)


@runtime_checkable
class Subject(Protocol):
    """An implementation under test.

    ``run`` reports the subject's own failures in the outcome; an exception that it raises is an error of the harness.
    It gives the same answer to the same case, whatever ran before.

    It declares as its ``capabilities`` whatever else it offers: ``capabilities = Capabilities()`` stands for nothing.
    """

    @property
    def name(self) -> str:
        """The name by which the subject is asked for and reported."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """All that it offers besides ``run``."""
        ...

    def devices(self) -> tuple[str, ...]:
        """Return the devices on which it can run here; there is at least one."""
        ...

    def run(self, case: Case) -> Outcome:
        """Run the subject on a case."""
        ...


class Closable(Subject, Protocol):
    """A subject that holds something, such as a process, until it is closed."""

    def close(self) -> None:
        """End what it holds."""
        ...
