"""Torch's own layers in another of torch's modes: compiled, exported, scripted or traced."""

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch
from torch._dynamo.exc import Unsupported

from harness.space.config import RNNConfig
from harness.subjects.capabilities import FEW_SIZES
from harness.subjects.subject_names import of_cell
from harness.subjects.torch_class_facts import ClassFacts
from harness.subjects.torch_module import Tensors, TorchSubject, states_of
from harness.subjects.torch_preparation import in_mode, load
from harness.subjects.torch_variants import MODE_SUBJECTS, MODES, ExecutionMode, attribute_of

# What every mode is asked for in place of the layer's values, because it takes a while to make; and one that unrolls
_OFFERS: Final[dict[str, Any]] = {"lengths": (None,), "autocast": (None,), **FEW_SIZES}
_UNROLLED: Final[dict[str, Any]] = {"num_layers": (1, 2), "grad_mode": (None,)}


class CompiledSubject(TorchSubject):
    """A layer, called by what torch makes of it at the first call of each config.

    A config whose ``preparation`` is ``used`` calls it at other sizes first. One whose ``preparation`` is a change of
    the mode's, such as ``assign``, changes what torch made, which had other weights before.
    """

    def __init__(self, name: str) -> None:
        cell, variant = MODE_SUBJECTS[name]
        self._mode: ExecutionMode = MODES[variant]
        self._own, self._layer = _class_of(self._mode, cell), getattr(torch.nn, cell)
        super().__init__(self._own, name, facts=ClassFacts(own=True, forgets=True, cell=cell))
        own = self.capabilities
        # It computes by other kernels, or by the same ones in another order: nothing is known of its arithmetic.
        offers = {**own.offers, **_OFFERS, **(_UNROLLED if self._mode.unrolls else {})}
        offers |= {"after": (None, *self._mode.after), "positional": (False,), "tied": (False,)}
        offers["preparation"] = ("new", "new", "used", *self._mode.changes)
        self.capabilities = replace(
            own,
            offers=offers,
            slow=True,
            arithmetic={},
            stages=tuple(of_cell(stage, cell) for stage in ("torch", *(f"torch:{mode}" for mode in self._mode.stages))),
            exact_relations=None,
            masks=None,
            check_derivatives=None,
            call=None,
        )

    def devices(self) -> tuple[str, ...]:
        """Return the devices that compute."""
        return tuple(device for device in super().devices() if device != "meta")

    def build(self, config: RNNConfig) -> torch.nn.Module:
        """Return a new module, for which nothing was compiled yet."""
        torch.compiler.reset()  # dynamo compiles a layer's own code for so many modules only
        return super().build(config)

    def prepare(self, config: RNNConfig, weights: Tensors) -> torch.nn.Module:
        """Return the module of the config, made before or not, with these weights."""
        if config.preparation in self._mode.changes:
            return self._changed(config, {name: tensor.clone() for name, tensor in weights.items()})
        module = self._module(config) if config.after is None else self._called_before(self.build(config), config)
        if config.preparation == "used":
            return self._used(module, config, weights)
        with torch.no_grad():
            load(module, dict(weights))
        return in_mode(module, config)

    def _called_before(self, module: torch.nn.Module, config: RNNConfig) -> torch.nn.Module:
        """Return the module after a functional call as torch's own layer, before anything is made of it."""
        others = {name: torch.full_like(parameter, 0.5) for name, parameter in module.named_parameters()}
        module.__class__ = self._layer
        with torch.no_grad():
            torch.func.functional_call(module, others, tuple(_ones(config)))
        module.__class__ = self._own
        return module

    def _changed(self, config: RNNConfig, weights: Tensors) -> torch.nn.Module:
        """Return what torch makes of a new module at a call, changed after it to hold these weights."""
        module: Any = in_mode(self.build(config), config)
        if config.after is not None:
            self._called_before(module, config)
        self.call(module, None, *_ones(config))
        [made] = module.made.values()
        if config.preparation == "deepcopy":
            with _quiet():
                made = copy.deepcopy(made)
        held = self.holder(made)
        if config.preparation == "replaced":
            for name, tensor in weights.items():
                setattr(held, name, torch.nn.Parameter(tensor))
        elif config.preparation != "functional_call":
            held.load_state_dict(weights, assign=config.preparation == "assign")
        changed: torch.nn.Module = made
        return changed

    def call(self, module: torch.nn.Module, parameters: Tensors | None, *arguments: Any, **named: Any) -> Any:
        """Call the module; what dynamo says that it does not support is unsupported."""
        called: Any = module if isinstance(module, self._own) else _within(module, self._mode.called)
        with _quiet():
            try:
                return super().call(called, parameters, *arguments, **named)
            except Unsupported as error:
                raise NotImplementedError(str(error).partition("\n")[0]) from error

    def holder(self, module: torch.nn.Module) -> torch.nn.Module:
        """Return the module that holds the parameters: in what torch made, the one of the layer's form."""
        held: torch.nn.Module = module if isinstance(module, self._own) else _within(module, self._mode.attribute)
        return held

    def calls_before(self, config: RNNConfig) -> tuple[RNNConfig, ...]:
        """Return the configs of the calls before, which differ in the sizes that the mode lets change."""
        before = super().calls_before(config)
        return tuple(earlier.replace(T=config.T) for earlier in before) if self._mode.keeps_time else before


def _ones(config: RNNConfig) -> list[Any]:
    dtype = getattr(torch, config.dtype)
    ones = {name: torch.ones(spec.shape, device=config.device, dtype=dtype) for name, spec in config.inputs.items()}
    return [ones["x"], *states_of(ones, config)]


def _within(made: torch.nn.Module, attribute: str) -> Any:
    """Return an attribute of a module, named with its dot, or the module itself if none is named."""
    return getattr(made, attribute[1:]) if attribute else made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what torch says of its own code while it transforms a module."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _class_of(mode: ExecutionMode, cell: str) -> type[torch.nn.Module]:
    names: dict[str, Any] = {"torch": torch}
    exec("\n".join(mode.lines(cell)), names)  # noqa: S102 - lines of the table of modes, which a script shows as well
    made: type[torch.nn.Module] = names[cell]
    return made


globals().update({attribute_of(spec): partial(CompiledSubject, spec) for spec in MODE_SUBJECTS})
