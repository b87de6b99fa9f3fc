"""Running of user code on copies, so that whatever it does becomes an outcome."""

import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Any

import ml_dtypes
import numpy as np

from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.space.outcome import LONGEST_TEXTS, Failure, Outcome, legible


class MalformedResultError(Exception):
    """Raised when a subject returned something other than the arrays that it had to return."""


class FailedRunError(Exception):
    """Raised by what knows the outcome of a run that gave no arrays."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


def attempt(call: Callable[[], Mapping[str, Array]]) -> Outcome:
    """Return the outcome of ``call``: its arrays, its refusal, or its failure. Prints go to standard error."""
    try:
        with redirect_stdout(sys.stderr):
            return Outcome(call())
    except KeyboardInterrupt:
        raise
    except NotImplementedError as error:
        return Outcome(failure=Failure.UNSUPPORTED, message=str(error) or type(error).__name__)
    except MalformedResultError as error:
        return Outcome(failure=Failure.MALFORMED, message=str(error))
    except FailedRunError as error:
        return error.outcome
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is its outcome
        return raised(error)


def raised(error: BaseException) -> Outcome:
    """Return the outcome of a call that raised an error. To format a message of 50 MB would take half a second."""
    frames = _own_frames(error.__traceback__)
    message = _message(error)
    if len(message) > LONGEST_TEXTS["traceback"]:
        summary = f"{type(error).__name__}: {legible(message, LONGEST_TEXTS['message'])}"
        lines = ["Traceback (most recent call last):\n", *traceback.format_tb(frames), f"{summary}\n"]
    else:
        lines = traceback.format_exception(type(error), error, frames)
        summary = traceback.format_exception_only(error)[-1].strip()
    classes = tuple(base.__name__ for base in type(error).__mro__)
    return Outcome(failure=Failure.RAISED, message=summary, traceback="".join(lines), classes=classes)


def with_place(outcome: Outcome, file: str) -> str:
    """Return the message of what raised an error, and the last line of a file that its traceback names."""
    frames = re.findall(r'^  File "(.+)", line (\d+), in .*\n    (.+)$', outcome.traceback, re.MULTILINE)
    own = [(number, code) for name, number, code in frames if name == file]
    place = f"\n  line {own[-1][0]} of {Path(file).name}: {own[-1][1]}" if own else ""
    return f"{outcome.message}{place}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's own
        return ""


@contextmanager
def filled(number: float) -> Iterator[None]:
    """Have the arrays that NumPy and torch make without numbers hold a number, as far as the user's code makes them."""
    torch = sys.modules.get("torch")
    owners = [(np, "empty"), (np, "empty_like")]
    owners += [] if torch is None else [(torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")]
    before = [(owner, name, getattr(owner, name)) for owner, name in owners]
    for owner, name, make in before:
        setattr(owner, name, _filling(make, number))
    try:
        yield
    finally:
        for owner, name, make in before:
            setattr(owner, name, make)


def _filling(make: Callable[..., Any], number: float) -> Callable[..., Any]:
    def filling(*arguments: Any, **named: Any) -> Any:
        made = make(*arguments, **named)
        if isinstance(made, np.ndarray):
            if made.dtype.kind == "f":
                made.fill(number)
        elif made.is_floating_point():
            made.data.fill_(number)
        return made

    return filling


def by_name(returned: Any, config: RNNConfig, *, readout: bool | None = None) -> dict[str, Any]:
    """Return a subject's results by name.

    Accepted are ``(output, h_n)``; and with a readout ``(output, h_n, readout)``, or ``(readout, h_n)``, or the readout
    alone, as a model that ends in its linear layer returns it. Where a cell has several final states, they may be a
    tuple of their own. Without ``readout``, the config says whether there is one. Raises ``MalformedResultError`` for
    anything else.
    """
    readout, final = config.output_size is not None if readout is None else readout, config.form.final
    states = ", ".join(final)
    expected = f"(output, {states}, readout) or (readout, {states})" if readout else f"(output, {states})"
    if readout and _is_array(returned):
        return {"readout": returned}
    if not isinstance(returned, tuple | list):
        raise MalformedResultError(f"returned {_describe(returned)}, expected {expected}")
    if len(final) > 1 and len(returned) > 1 and isinstance(returned[1], tuple | list):
        returned = [returned[0], *returned[1], *returned[2:]]
    forms = [("readout", *final), ("output", *final, "readout")] if readout else [("output", *final)]
    names = next((form for form in forms if len(form) == len(returned)), None)
    if names is None:
        raise MalformedResultError(f"returned {len(returned)} things, expected {expected}")
    return dict(zip(names, returned, strict=True))


def as_arrays(named: Mapping[str, Any]) -> dict[str, Array]:
    """Return copies of arrays and tensors, by name. Raise ``MalformedResultError`` for anything else."""
    return {name: as_array(name, value) for name, value in named.items()}


def as_array(name: str, value: Any) -> Array:
    """Return a NumPy copy of an array or tensor. Raise ``MalformedResultError`` for anything else."""
    if not _is_array(value):
        raise MalformedResultError(f"returned {_describe(value)} for {name}, expected an array")
    try:
        if getattr(value, "is_meta", False):  # meta has no numbers
            value = value.new_zeros(value.shape, device="cpu")
        if hasattr(value, "detach"):
            value = _numbers_of(value.detach().cpu())
        array = np.asarray(value).copy()
    except (TypeError, ValueError) as error:  # a dtype or device that NumPy does not support
        raise MalformedResultError(f"returned {_describe(value)} for {name} that is no NumPy array: {error}") from None
    if array.dtype.kind not in "fiubc" and array.dtype != ml_dtypes.bfloat16:
        raise MalformedResultError(f"returned an array of {array.dtype} for {name}, expected numbers")
    return array


def named_gradients(gradients: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a subject's gradients under names such as ``x.grad``; ``x`` is accepted, too, and ``h0`` for ``hx``."""
    renamed = {"h0": "hx", "c0": "cx"}
    names = {name: str(name).removesuffix(".grad") for name in gradients}
    return {f"{renamed.get(names[n], names[n])}.grad": gradient for n, gradient in gradients.items()}


def changed(lent: Mapping[str, Array], case: Case) -> tuple[str, ...]:
    """Return the names of the arrays in ``lent`` that no longer equal the case's."""
    originals = case.arrays
    return tuple(
        name for name, array in lent.items() if name in originals and array.tobytes() != originals[name].tobytes()
    )


class HeldResults:
    """A subject's results by name, and a copy of them, to check that later calls leave them as they were."""

    def __init__(self, returned: Mapping[str, Any]) -> None:
        """Copy the results. Raise ``MalformedResultError`` for a result that is not an array."""
        self._returned = returned
        self.arrays = as_arrays(returned)

    def overwritten(self) -> tuple[str, ...]:
        """Return the names of the results that changed."""
        return tuple(name for name, array in self.arrays.items() if not self._still(name, array))

    def _still(self, name: str, array: Array) -> bool:
        try:
            return as_array(name, self._returned[name]).tobytes() == array.tobytes()
        except Exception:  # noqa: BLE001 - memory that was freed, or whatever a class of the user's raises
            return False


def _numbers_of(tensor: Any) -> Any:
    """Return the numbers of a CPU tensor for NumPy; bfloat16 goes through float32, which holds it exactly."""
    if str(tensor.dtype) == "torch.bfloat16":
        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    return tensor.numpy(force=True)  # which does what torch deferred, such as a change of sign


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or (hasattr(value, "__array__") and hasattr(value, "shape"))


def _describe(value: object) -> str:
    return "None" if value is None else a_or_an(type(value).__name__)


def a_or_an(noun: str) -> str:
    """Return a noun with its article: ``a list``, ``an int``, ``an ndarray``."""
    return f"{'an' if noun.lower().startswith((*'aeio', 'nd')) else 'a'} {noun}"


def place_of(target: Any) -> tuple[str, str] | None:
    """Return the file of a function or class, and its name there; ``None`` if it can be found under no name."""
    name = str(getattr(target, "__qualname__", "<unknown>"))
    try:
        file = None if "<" in name else inspect.getsourcefile(target)
    except (TypeError, OSError):  # it was written in C, or at a prompt
        return None
    return None if file is None else (file, name)


def _own_frames(frames: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame outside this package."""
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("harness."):
        frames = frames.tb_next
    return frames
