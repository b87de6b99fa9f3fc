"""torch_own: a class of modules with a constructor, parameters and a call of its own, used as if they were nn.RNN's."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch

from harness.space.case import Case
from harness.space.config import RNNConfig, role_of
from harness.space.contract import PORT
from harness.space.parts import OPTIONS, PLAIN, having
from harness.subjects.capabilities import Recipe
from harness.subjects.conventions import Conventions, declared_by
from harness.subjects.form import Form
from harness.subjects.torch_autograd import seeded
from harness.subjects.torch_form import without
from harness.subjects.torch_module import Run, Tensors, TorchSubject

ASIDE: Final = {name: (PLAIN[name],) for name in having("drop_in")}
"""The values of the factors that such a class need not have: it is no drop-in replacement. Its attribute ``offers`` may
name more, as a function's does."""

# The preparations that set one parameter after the other on the module itself, where a part of it may have them.
SINGLY: Final = ("replaced", "parametrize")


class OwnFormSubject(TorchSubject):
    """A class of modules of a form of its own."""

    def __init__(self, factory: Any, name: str, form: Form, *, conventions: Conventions | None = None) -> None:
        """Take a class, its form, and the conventions that it has besides those of its form."""
        self._form = form
        declared = declared_by(factory, name) if conventions is None else conventions
        super().__init__(factory, name, conventions=Conventions.of((*declared.names, *form.conventions.names)))
        usual = self.capabilities.offers
        offers = {"preparation": tuple(one for one in usual["preparation"] if one not in SINGLY)}
        more = {**ASIDE, **form.offers, **getattr(factory, "offers", {})}
        offers |= {factor: values for factor, values in more.items() if factor not in self._conventions.offers}
        self.capabilities = replace(
            self.capabilities,
            check_derivatives=None if form.joined else self.capabilities.check_derivatives,
            offers={**usual, **offers},
            contract=PORT,
            recipe=Recipe(form=form),
            call=None,
            masks=None,  # it draws its own, which must obey the law of dropout
            read_as=form.words,
        )

    def _require_conventions(self, name: str) -> None:
        if not self._form.conventions.last_output_only:
            super()._require_conventions(name)

    def devices(self) -> tuple[str, ...]:
        """Return the devices that compute."""
        return tuple(device for device in super().devices() if device != "meta")

    def call(self, module: torch.nn.Module, parameters: Any, *arguments: Any, **named: Any) -> Any:
        """Return what a call returns, as nn.RNN does."""
        x, *hx = arguments
        if self._form.is_cell:
            step = partial(super().call, module, parameters)
            return looped(step, self._form.returns.index("h_n"), torch.stack, x, *hx)
        states = [state[0] for state in hx] if self._form.flat else hx
        returned = super().call(module, parameters, x, *states, **named)
        leading = tuple(x.shape[:2]) if isinstance(x, torch.Tensor) else ()
        return self._form.arranged(returned, leading, batch_first=self._conventions.batch_first)

    def _outputs(self, case: Case, module: torch.nn.Module, lent: Mapping[str, torch.Tensor]) -> Run:
        # A view of the output as h_n is usual, and only nn.RNN itself has no memory in common between the two.
        return super()._outputs(case, module, lent)._replace(aliased=())

    def build(self, config: RNNConfig) -> torch.nn.Module:
        """Return a new module, made with the arguments that its constructor takes."""
        dtype = getattr(torch, config.dtype)
        values = {**{name: getattr(config, name) for name in OPTIONS}, "device": config.device, "dtype": dtype}
        with warnings.catch_warnings(), seeded(0):
            warnings.filterwarnings("ignore", "dropout option adds dropout", UserWarning)
            given = {own: values[name] for name, own in self._form.takes.items()}
            states = config.num_directions * config.hidden_size
            first, by_name = self._form.given(config.input_size, config.hidden_size, states)
            module: torch.nn.Module = self._factory(*first, **by_name, **given)
            return without(module, self._form.replaced).to(device=config.device, dtype=dtype)

    def prepare(self, config: RNNConfig, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """Return a module with the weights. Raise ``NotImplementedError`` for options that it cannot have."""
        for name, values in self._form.offers.items():
            if getattr(config, name) not in values and name not in self._conventions.offers:
                raise NotImplementedError(f"{name}={getattr(config, name)!r}: {self._form.refusal(name)}")
        return super().prepare(config, weights)

    def renamed(self, module: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return weights under the module's own names, and all else that it saves, which it keeps."""
        directions = 1 + any(name.endswith("_reverse") for name in weights)
        own = self._form.merged(weights, directions, torch.cat)
        saved = module.state_dict().keys()
        kept = {name: buffer for name, buffer in module.named_buffers() if name in saved}
        if self._form.beside:
            kept |= {name: one.detach() for name, one in module.named_parameters() if name not in own}
        return kept | own

    def parameters(self, module: torch.nn.Module, config: RNNConfig) -> dict[str, torch.nn.Parameter]:
        """Return the module's parameters by nn.RNN's names."""
        own, roles = dict(module.named_parameters()), self._form.names
        names = [name for name in config.weights if not name.startswith("readout") and role_of(name) in roles]
        return {name: own[self._form.own(name, config.num_directions)] for name in names}

    def gradients_back(self, gradients: Tensors) -> dict[str, torch.Tensor]:
        """Return the gradients by the module's own parameters as nn.RNN has them."""
        return self._form.parted(super().gradients_back(gradients).items())


def looped(cell: Any, place: int, stack: Any, x: Any, *hx: Any) -> Any:
    """Call a cell once for each step of x; the new state is at this place of what it returns."""
    state, states = [h[0] for h in hx], []
    for step in x:
        returned = cell(step, *state)
        state = [returned[place] if isinstance(returned, (tuple, list)) else returned]
        states += state
    output = stack(states)
    return output, output[-1:].clone()
