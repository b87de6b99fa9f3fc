"""Runs a call, step by step, on a module that torch builds."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any

import torch
from torch.nn.utils import rnn

from harness.subjects.answer import Answer, Stage
from harness.subjects.call import PACKERS, Call


def perform(factory: Callable[..., torch.nn.Module], call: Call) -> Answer:
    """Run ``call`` on a module that ``factory`` makes, and return its answer. Prints go to standard error."""
    names: dict[str, Any] = {"torch": torch, "RNN": factory} | {name: getattr(rnn, name) for name in PACKERS}
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a call may be well formed and still cause a warning
        for stage, line in call.steps("RNN"):
            try:
                if stage is Stage.PARAMETERS:
                    _require_parameters(names["rnn"], call)
                exec(line, names)  # noqa: S102 - the call's own code, which is also what a finding shows
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if stage is None:
                    raise
                return Answer.refused(stage, error)
    return Answer.accepted(*_described(names["result"]))


def _require_parameters(module: torch.nn.Module, call: Call) -> None:
    """Raise ``NotImplementedError`` if the module has no parameter under a name that the call replaces."""
    own = dict(module.named_parameters())
    if missing := [name for name in call.parameters if name not in own]:
        raise NotImplementedError(f"no parameter {', '.join(missing)}")


def _described(returned: Any) -> Iterator[str]:
    """Describe every returned tensor by its shape, dtype, device and finiteness, and anything else by its type."""
    if isinstance(returned, rnn.PackedSequence):
        yield f"PackedSequence of {''.join(_described(returned.data))}"
    elif isinstance(returned, tuple | list):
        for one in returned:
            yield from _described(one)
    elif isinstance(returned, torch.Tensor):
        finite = returned.is_meta or bool(returned.isfinite().all())
        shape, dtype = tuple(returned.shape), str(returned.dtype).removeprefix("torch.")
        device = "" if returned.device.type == "cpu" else f" on {returned.device}"
        yield f"{dtype} {shape}{device}{'' if finite else ', not all finite'}"
    else:
        yield type(returned).__name__
