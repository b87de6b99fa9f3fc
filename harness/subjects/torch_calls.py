"""torch_calls: makes a call, step by step, of a module that torch builds."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any

import torch
from torch.nn.utils import rnn

from harness.space.answer import Answer, Stage
from harness.space.call import PACKERS, Call


def perform(factory: Callable[..., torch.nn.Module], call: Call) -> Answer:
    """What comes of ``call`` if ``factory`` makes the module. What it prints goes to standard error."""
    names: dict[str, Any] = {"torch": torch, "RNN": factory} | {name: getattr(rnn, name) for name in PACKERS}
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a call may be odd, and yet be well formed
        for stage, line in call.steps("RNN"):
            try:
                if stage is Stage.PARAMETERS:
                    _require_parameters(names["rnn"], call)
                exec(line, names)  # noqa: S102 - a call's own code, so that a finding shows what was run
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if stage is None:
                    raise
                return Answer.refused(stage, error)
    return Answer.accepted(*_described(names["result"]))


def _require_parameters(module: torch.nn.Module, call: Call) -> None:
    """A module that keeps no parameter under a name of nn.RNN's cannot be given another one there."""
    own = dict(module.named_parameters())
    if missing := [name for name in call.parameters if name not in own]:
        raise NotImplementedError(f"no parameter {', '.join(missing)}")


def _described(returned: Any) -> Iterator[str]:
    """Shape, dtype, device and finiteness of every tensor that was returned; of anything else, its type."""
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
