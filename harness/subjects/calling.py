"""calling: user code is run on copies, and whatever it does becomes an outcome."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from types import TracebackType
from typing import Any

import ml_dtypes
import numpy as np

from harness.space.case import Array, Case
from harness.space.outcome import Failure, Outcome


class Malformed(Exception):
    """The subject returned something that is not the arrays it owes."""


def attempt(call: Callable[[], Mapping[str, Array]]) -> Outcome:
    """The outcome of ``call``: its arrays, its refusal, or its failure. What it prints goes to standard error."""
    try:
        with redirect_stdout(sys.stderr):
            return Outcome(call())
    except KeyboardInterrupt:
        raise
    except NotImplementedError as error:
        return Outcome(failure=Failure.UNSUPPORTED, message=str(error) or type(error).__name__)
    except Malformed as error:
        return Outcome(failure=Failure.MALFORMED, message=str(error))
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is its outcome
        lines = traceback.format_exception(type(error), error, _own_frames(error.__traceback__))
        summary = traceback.format_exception_only(error)[-1].strip()
        return Outcome(failure=Failure.RAISED, message=summary, traceback="".join(lines))


def named_outputs(returned: Any, *, readout: bool) -> dict[str, Array]:
    """Copies of what a subject returned, by name. Raises ``Malformed`` as ``by_name`` and ``as_array`` do."""
    return as_arrays(by_name(returned, readout=readout))


def by_name(returned: Any, *, readout: bool) -> dict[str, Any]:
    """What a subject returned, by name.

    Accepted: ``(output, h_n)``; with a readout ``(output, h_n, readout)``, or ``(readout, h_n)``, or the readout
    alone, as a model that ends in its linear layer returns it. Raises ``Malformed`` for anything else.
    """
    expected = "(output, h_n, readout) or (readout, h_n)" if readout else "(output, h_n)"
    if readout and _is_array(returned):
        return {"readout": returned}
    if not isinstance(returned, tuple | list):
        raise Malformed(f"returned {_describe(returned)}, expected {expected}")
    names = {(2, False): ("output", "h_n"), (2, True): ("readout", "h_n"), (3, True): ("output", "h_n", "readout")}
    key = (len(returned), readout)
    if key not in names:
        raise Malformed(f"returned {len(returned)} things, expected {expected}")
    return dict(zip(names[key], returned, strict=True))


def as_arrays(named: Mapping[str, Any]) -> dict[str, Array]:
    """Copies of arrays and tensors, by name. Raises ``Malformed`` for anything else."""
    return {name: as_array(name, value) for name, value in named.items()}


def as_array(name: str, value: Any) -> Array:
    """A NumPy copy of an array or tensor. Raises ``Malformed`` for anything else."""
    if not _is_array(value):
        raise Malformed(f"returned {_describe(value)} for {name}, expected an array")
    try:
        if getattr(value, "is_meta", False):  # which has no numbers
            value = value.new_zeros(value.shape, device="cpu")
        if hasattr(value, "detach"):
            value = _numbers_of(value.detach().cpu())
        array = np.asarray(value).copy()
    except (TypeError, ValueError) as error:  # a dtype or device that NumPy cannot hold
        raise Malformed(f"returned {_describe(value)} for {name} that is no NumPy array: {error}") from None
    if array.dtype.kind not in "fiubc" and array.dtype != ml_dtypes.bfloat16:
        raise Malformed(f"returned an array of {array.dtype} for {name}, expected numbers")
    return array


def named_gradients(gradients: Mapping[Any, Any]) -> dict[str, Any]:
    """Gradients that a subject returned under the names of what they belong to, ``x`` or ``x.grad``; h0 is hx, too."""
    names = {name: str(name).removesuffix(".grad") for name in gradients}
    return {f"{'hx' if names[n] == 'h0' else names[n]}.grad": gradient for n, gradient in gradients.items()}


def changed(lent: Mapping[str, Array], case: Case) -> tuple[str, ...]:
    """The names of the arrays in ``lent`` that no longer hold what the case holds."""
    originals = case.arrays
    return tuple(
        name for name, array in lent.items() if name in originals and array.tobytes() != originals[name].tobytes()
    )


class Held:
    """What a subject returned, by name, and a copy of it: whatever is called later must leave it as it was."""

    def __init__(self, returned: Mapping[str, Any]) -> None:
        """Raises ``Malformed`` for what is no array."""
        self._returned = returned
        self.arrays = as_arrays(returned)

    def overwritten(self) -> tuple[str, ...]:
        """The names of what is not as it was."""
        return tuple(name for name, array in self.arrays.items() if not self._still(name, array))

    def _still(self, name: str, array: Array) -> bool:
        try:
            return as_array(name, self._returned[name]).tobytes() == array.tobytes()
        except Exception:  # noqa: BLE001 - memory that was taken away, or whatever a class of the user's raises
            return False


def _numbers_of(tensor: Any) -> Any:
    """What NumPy can read of a tensor on the CPU; torch does not hand it bfloat16, which float32 holds exactly."""
    if str(tensor.dtype) == "torch.bfloat16":
        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    if str(tensor.dtype).startswith("torch.complex"):
        tensor = tensor.resolve_conj().resolve_neg()  # which torch may have left to be done
    return tensor.numpy()


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or (hasattr(value, "__array__") and hasattr(value, "shape"))


def _describe(value: object) -> str:
    return "None" if value is None else a_or_an(type(value).__name__)


def a_or_an(noun: str) -> str:
    """``a list``, ``an int``, ``an ndarray``."""
    return f"{'an' if noun.lower().startswith((*'aeio', 'nd')) else 'a'} {noun}"


def _own_frames(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not this package's."""
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("harness."):
        frames = frames.tb_next
    return frames
