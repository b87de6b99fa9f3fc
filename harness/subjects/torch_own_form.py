"""A class of modules with a constructor, parameters and a call of its own, used as if they were nn.RNN's."""

import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations, product
from math import prod
from typing import Any, Final

import numpy as np
import torch

from harness.space.case import Array, Case
from harness.space.cells import CELLS
from harness.space.config import RNNConfig, role_of
from harness.space.conformance_profile import PORT
from harness.space.factor_table import OPTIONS, PLAIN, having
from harness.space.outcome import Failure
from harness.space.scope import factors_of
from harness.space.values import draw
from harness.subjects.adapter import AdapterModuleFactory
from harness.subjects.capabilities import Recipe
from harness.subjects.class_form import FLOATS, Block, ClassForm, ModuleSizes
from harness.subjects.conventions import Conventions, declared_by
from harness.subjects.length_argument import filled, inside, last_steps, lengths_by_name, with_all_steps
from harness.subjects.numpy_back import X_NUMBER, NumpyBackward
from harness.subjects.parameters_by_shape import TELLING_SIZES
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.run_user_code import with_place
from harness.subjects.signature import by_state_names
from harness.subjects.state_axes import to_axes
from harness.subjects.state_containers import with_container
from harness.subjects.torch_autograd import seeded
from harness.subjects.torch_form import each_sequence, with_steps, without, without_packing
from harness.subjects.torch_module import ForwardPass, Tensors, TorchSubject
from harness.subjects.torch_preparation import structure

NO_DROP_IN: Final = {name: (PLAIN[name],) for name in having("drop_in")}
"""The values of the factors that such a class need not have: it is no drop-in replacement. Its attribute ``offers`` may
name more, as a function's does."""

# The attributes of a module with what it was built for.
_DIRECTIONS: Final = "_rnn_harness_directions"
_BATCH_FIRST: Final = "_rnn_harness_batch_first"

# What the names of arrays begin with that are zero in simpler and simpler cases, and T. In one step from zeros without
# biases, gates stand for others: (1 - r) n is what an nn.GRU makes of n whose r and z are exchanged.
SIMPLER: Final = ((), 3), ((), 1), (("hx", "cx"), 3), (("bias",), 3), (("cx",), 1)
OPEN_GATE: Final = 32.0  # the bias of a gate that is 1: a sigmoid is off by 2e-14, a tanh by less; ``_alike`` sees 1e-3

# The preparations that set one parameter after the other on the module itself, where a part of it may have them.
ONE_BY_ONE_PREPARATIONS: Final = ("replaced", "parametrize")


class OwnFormSubject(TorchSubject):
    """A class of modules of a form of its own."""

    def __init__(self, factory: Any, name: str, form: ClassForm, *, conventions: Conventions | None = None) -> None:
        """Take a class, its form, and the conventions that it has besides those of its form."""
        self._form, self.built_for = form, form.built_for
        self._in_numpy = getattr(factory, "in_numpy", False)
        own = inspect.signature(factory).parameters.get(form.takes.get("dtype", ""))
        self._dtype_by_name = own is not None and isinstance(own.default, str)
        self._back: NumpyBackward | None = factory.back if form.back else None
        declared = declared_by(factory, name) if conventions is None else conventions
        super().__init__(factory, name, conventions=form.conventions.beside(declared))
        usual = self.capabilities.offers
        # A module of fixed T or N is not used at others before.
        aside = (*ONE_BY_ONE_PREPARATIONS, *["used"] * bool(self.built_for))
        offers = {"preparation": tuple(way for way in usual["preparation"] if way not in aside)}
        declared_offers = getattr(factory, "offers", {})
        more = {**NO_DROP_IN, **form.offers, **declared_offers}
        offers |= {factor: values for factor, values in more.items() if factor not in self._conventions.offers}
        offers |= {name: (0,) for name in usual if name == "proj_size"}  # none is known of a class of its own form
        offers |= {"loss": form.offers["loss"]} if "loss" in form.offers else {}
        self.capabilities = replace(
            self.capabilities,
            check_derivatives=None if form.joined else self.capabilities.check_derivatives,
            offers={**usual, **offers},
            profile=PORT,
            recipe=Recipe(form=form),
            call=None,
            masks=None,  # it draws its own, which must have the statistics of dropout
            not_compared={
                name: why for name, why in form.not_compared.items() if name not in {*declared_offers, *declared.offers}
            },
            order_assumed=form.gates_open and not form.loader,
            read_as=form.words,
        )

    def _require_conventions(self, name: str) -> None:
        if not self._form.conventions.last_output_only:
            super()._require_conventions(name)

    @property
    def not_returned(self) -> tuple[str, ...]:
        """The results that it never returns."""
        form = self._form
        returned = {*form.returns, *["h_n"] * (form.h_n_is_last or "last" in form.returns)}
        return () if form.is_cell else tuple(name for name in ("output", *form.cell.final) if name not in returned)

    def lacking(self, config: RNNConfig) -> tuple[str, ...]:
        """Return the results and gradients that it does not return in a config, some of a parameter's included."""
        if self._back is None or config.loss is None or (places := self._back.places_of(config)) is None:
            return self.not_returned
        numbers = sorted(name for name in places.targets if name.isdigit() and name != X_NUMBER)
        by_state = dict(zip(config.hidden, numbers, strict=True)) if len(numbers) == len(config.hidden) else {}
        needs = {name: [by_state[name]] if by_state else numbers for name in config.hidden}
        needs |= {"x": [X_NUMBER], **{name: self.held_in(name, config) for name in self._weights_of(config)}}
        gradients = (name.removesuffix(".grad") for name in config.gradients)
        return (
            *self.not_returned,
            *(f"{name}.grad" for name in gradients if not {*needs.get(name, ())} <= {*places.sources}),
        )

    def held_in(self, name: str, config: RNNConfig) -> list[str]:
        """Return its own parameters that hold one of torch's."""
        twin = name.replace("_hh_", "_ih_") if self._form.conventions.one_bias and "bias" in name else name
        return [block.own for block in self._blocks(twin, config)]

    def devices(self) -> tuple[str, ...]:
        """Return the devices that compute."""
        return tuple(device for device in super().devices() if device != "meta")

    def call(self, module: torch.nn.Module, parameters: Any, *arguments: Any, **named: Any) -> Any:
        """Return what a call returns, as nn.RNN does."""
        x, *hx = arguments
        step = partial(super().call, module, parameters)
        if self._form.needs:
            step = partial(with_all_steps, step, self._form.valid, getattr(module, _BATCH_FIRST, False))
        if self._form.steps is not None:
            step = partial(with_steps, step, self._form.steps)
        if self._form.state_names:
            step = partial(by_state_names, step, self._form.state_names)
        if self._form.container is not None:
            step = partial(with_container, step, self._form.container)
        if (self._form.unbatched or (self._form.back_of_one and torch.is_grad_enabled())) and x.ndim == 3:
            step = partial(each_sequence, step)
        if self._form.is_cell:
            return looped(step, self._form, torch.stack, x, *hx)
        states = [state[0] if self._form.flat else state for state in flattened(hx)]
        directions = getattr(module, _DIRECTIONS, 1)
        states = [to_axes(state, self._form.state_axes, directions) for state in states]
        packing, returned = without_packing(step(x, *self._form.passed(states), **named))
        leading = tuple(x.shape[:2]) if isinstance(x, torch.Tensor) else ()
        batch_first = self._conventions.batch_first
        made = self._form.arranged(returned, leading, torch.stack, batch_first=batch_first, directions=directions)
        return made if packing is None else (packing._replace(data=made[0]), *made[1:])

    def of_lengths(self, x: torch.Tensor, config: RNNConfig) -> tuple[Any, dict[str, Any]]:
        """Return x with zeros in the padding, and the argument that says which steps count."""
        if config.lengths is None or not self._form.valid[0]:
            return super().of_lengths(x, config)
        mask = inside(config.lengths, config.T, batch_first=config.batch_first).to(x.device)
        return torch.where(mask, x, x.new_zeros(())), lengths_by_name(self._form.valid, config.lengths, config.T, x)

    def padded(self, returned: Any, config: RNNConfig) -> Any:
        """Return the same with zeros in the output after the steps that count."""
        returned = returned if self._form.valid[0] else super().padded(returned, config)
        if config.lengths is None or not isinstance(returned, tuple | list) or not returned:
            return returned
        output, *finals = returned
        if self._form.h_n_is_last and finals and output is not None:
            finals[0] = last_steps(output, config.lengths, batch_first=config.batch_first)
        return filled(output, config.lengths, config.T, batch_first=config.batch_first), *finals

    def _outputs(self, case: Case, module: torch.nn.Module, lent: Mapping[str, torch.Tensor]) -> ForwardPass:
        # A view of the output as h_n is usual, and only nn.RNN itself has no memory in common between the two.
        return super()._outputs(case, module, lent)._replace(aliased=())

    def build(self, config: RNNConfig) -> torch.nn.Module:
        """Return a new module, made with the arguments that its constructor takes."""
        dtype = getattr(torch, config.dtype)
        own_dtype: Any = np.dtype(config.dtype) if self._in_numpy else dtype
        if self._dtype_by_name:
            own_dtype = config.dtype
        values = {**{name: getattr(config, name) for name in OPTIONS}, "device": config.device, "dtype": own_dtype}
        with warnings.catch_warnings(), seeded(0):
            warnings.filterwarnings("ignore", "dropout option adds dropout", UserWarning)
            first, by_name = self._form.given(ModuleSizes.of(config).given(config.num_layers) | values)
            module: torch.nn.Module = self._factory(*first, **by_name)
            setattr(module, _DIRECTIONS, config.num_directions)
            setattr(module, _BATCH_FIRST, config.batch_first)
            return without(module, self._form.replaced).to(device=config.device, dtype=dtype)

    def prepare(self, config: RNNConfig, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """Return a module with the weights. Raise ``NotImplementedError`` for what it cannot have, or does not give."""
        if config.proj_size:
            raise NotImplementedError(f"proj_size={config.proj_size}: none is known of a class of its own form")
        for name, values in self._form.offers.items():
            if factors_of(config)[name] not in values and (name not in self._conventions.offers or name == "loss"):
                raise NotImplementedError(f"{name}={getattr(config, name)!r}: {self._form.refusal(name)}")
        if config.loss is not None and self._back is not None and self._back.places_of(config) is None:
            what = ", ".join(f"{name}={getattr(config, name)}" for name in ("num_layers", "bidirectional", "hx"))
            raise NotImplementedError(f"its {self._form.back} returns nothing known to be a gradient where {what}")
        return super().prepare(config, weights)

    def renamed(self, module: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return weights under the module's own names, and all else that it saves, which it keeps."""
        directions = 1 + any(name.endswith("_reverse") for name in weights)
        own = self._form.merged(weights, directions, torch.cat)
        saved = module.state_dict().keys()
        tensors = {name: buffer for name, buffer in module.named_buffers() if name in saved}
        parameters = _parameters_of(module)
        if self._form.beside:
            tensors |= {name: parameter.detach() for name, parameter in parameters.items()}
        tensors |= {name: torch.zeros_like(tensor) for name, tensor in parameters.items() if name in self._form.zeros}
        return tensors | own

    def parameters(self, module: torch.nn.Module, config: RNNConfig) -> dict[str, torch.Tensor]:
        """Return the module's parameters by its own names."""
        own = _parameters_of(module)
        return {block.own: own[block.own] for name in self._weights_of(config) for block in self._blocks(name, config)}

    def gradients_back(self, gradients: Tensors, config: RNNConfig) -> dict[str, torch.Tensor]:
        """Return the gradients by the module's own parameters as those by the parameters of torch's layer."""
        own = {name.removesuffix(".grad"): gradient for name, gradient in gradients.items()}
        names = self._weights_of(config) if config.wrt != "inputs" else []
        parted = self._form.parted(own, names, config.num_directions, torch.cat)
        rest = {name: gradient for name, gradient in gradients.items() if name in config.gradients}
        every = rest | {f"{name}.grad": gradient for name, gradient in parted.items()}
        return {name: every[name] for name in every if name not in self.lacking(config)}

    def _weights_of(self, config: RNNConfig) -> list[str]:
        return [name for name in config.weights if not name.startswith("readout")]

    def _blocks(self, name: str, config: RNNConfig) -> list[Block]:
        """Return its own parameters that hold one of torch's; none for the second bias of a layer that has one."""
        return self._form.blocks(name, config.num_directions) if role_of(name) in self._form.roles else []


class AdaptedSubject(OwnFormSubject):
    """A layer of an adapter."""

    def __init__(self, built: AdapterModuleFactory, name: str, form: ClassForm) -> None:
        """Take the constructor of its modules, and its form."""
        self._built, self._adapter = built, built.adapter
        super().__init__(built, name, form)
        # A script would need this package for the adapter itself.
        offers = dict(self.capabilities.offers)
        if built.in_numpy:
            offers["preparation"] = ("new",)
        elif built.adapter.call is not None:  # it calls the module with the module's own parameters
            offers["preparation"] = tuple(way for way in offers["preparation"] if way != "functional_call")
        self.capabilities = replace(
            self.capabilities, offers=offers, recipe=None, place=built.adapter.place, check_derivatives=None
        )

    @property
    def not_returned(self) -> tuple[str, ...]:
        """The results that it never returns."""
        names = ("output", *self._form.cell.final)
        by_hand = tuple(name for name in names if name not in self._form.returns)
        return super().not_returned if self._adapter.call is None else by_hand

    def call(self, module: torch.nn.Module, parameters: Any, *arguments: Any, **named: Any) -> Any:
        """Return what the adapter's call returns, if it has one, with ``None`` for what it leaves out."""
        if self._adapter.call is None:
            return super().call(module, parameters, *arguments, **named)
        if parameters is not None:
            raise NotImplementedError("an adapter's call takes the module's own parameters")
        x, *hx = arguments
        returned = self._built.call(module, x, *flattened(hx), **named)
        parts = list(returned) if isinstance(returned, tuple | list) else [returned]
        return *parts, *[None] * (1 + len(self._form.cell.final) - len(parts))


class ModuleOfSubject(OwnFormSubject):
    """A class of modules that is made of a NumPy class, of a function, or of a class that takes one object."""

    def __init__(
        self,
        factory: Any,
        name: str,
        form: ClassForm,
        *,
        conventions: Conventions | None = None,
        place: tuple[str, str] | None = None,
    ) -> None:
        """Take the class of modules, its form, and the place of what it is made of."""
        super().__init__(factory, name, form, conventions=conventions)
        self._places: dict[RNNConfig, dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]]] = {}
        offers = {**self.capabilities.offers, "preparation": ("new",)}
        self.capabilities = replace(self.capabilities, offers=offers, recipe=None, place=place, check_derivatives=None)

    def prepare(self, config: RNNConfig, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """Return a module with the weights, which its own loader takes if it has one."""
        module: Any = super().prepare(config, weights)
        if self._form.loader:
            module.load_by(self._form.loader, {name: weights[name].detach() for name in self._weights_of(config)})
        return module  # type: ignore[no-any-return]

    def gradients_back(self, gradients: Tensors, config: RNNConfig) -> dict[str, torch.Tensor]:
        """Return the gradients by the module's own parameters as those by the parameters that its loader took."""
        if not self._form.loader or config.wrt == "inputs":
            return super().gradients_back(gradients, config)
        lacking = self.lacking(config)
        results = {
            name: tensor for name, tensor in gradients.items() if name in config.gradients and name not in lacking
        }
        for name, places in self._loaded_from(structure(config, self.built_for)).items():
            own = {block: gradients[f"{block}.grad"] for block in places if f"{block}.grad" in gradients}
            if own and f"{name}.grad" not in lacking:
                total = torch.zeros(prod(config.weights[name].shape) + 1, dtype=next(iter(own.values())).dtype)
                for own_name, gradient in own.items():
                    place, factor = places[own_name]
                    total.index_add_(0, place, gradient.flatten() * factor.to(gradient.dtype))
                results[f"{name}.grad"] = total[1:].reshape(config.weights[name].shape)
        return results

    def held_in(self, name: str, config: RNNConfig) -> list[str]:
        """Return its own parameters that hold one of torch's, as its loader takes it if it has one."""
        if not self._form.loader:
            return super().held_in(name, config)
        places = self._loaded_from(structure(config, self.built_for))[name]
        return [own for own, (place, _) in places.items() if place.any()]

    def _loaded_from(self, config: RNNConfig) -> dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
        """Return which element of each of torch's parameters is in each element of its own, and by which factor.

        Elements are counted from 1; 0 is none. One parameter after the other is loaded with zeros for the others, with
        its elements' numbers k, and with their squares: a k and a k**2 tell k.
        """
        if config not in self._places:
            dtype = next(choice for choice in ("float64", "float32") if choice in self._form.offers["dtype"])
            module: Any = self.build(config.replace(dtype=dtype))
            shapes = {name: config.weights[name].shape for name in self._weights_of(config)}
            zeros = {name: torch.zeros(shape, dtype=getattr(torch, dtype)) for name, shape in shapes.items()}

            def loaded(**weights: torch.Tensor) -> dict[str, torch.Tensor]:
                module.load_by(self._form.loader, {**zeros, **weights})
                return {own: parameter.detach().flatten().clone() for own, parameter in module.named_parameters()}

            places, before = dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]](), loaded()
            for name, shape in shapes.items():
                numbers = torch.arange(1.0, prod(shape) + 1, dtype=getattr(torch, dtype)).reshape(shape)
                once, twice = loaded(**{name: numbers}), loaded(**{name: numbers**2})
                places[name] = {}
                for own, zero in before.items():
                    linear, square = once[own] - zero, twice[own] - zero
                    place = torch.where(linear == 0, 0, square / linear).round()
                    if not torch.allclose(place * linear, square) or (place > prod(shape)).any() or (place < 0).any():
                        raise NotImplementedError(f"its {self._form.loader} mixes elements: no gradients are known")
                    places[name][own] = place.long(), torch.where(place == 0, 0, linear / place)
            self._places[config] = places
        return self._places[config]


def completed(make: Callable[[ClassForm], OwnFormSubject], form: ClassForm) -> ClassForm:
    """Return a form with what only runs tell: the dtypes that its class computes in, and the order of gates' rows.

    ``make`` returns the subject of a form.
    """
    dtypes = _dtypes(make(form), form)
    lost = [dtype for dtype in ("float32", "float64") if dtype not in dtypes and "dtype" in form.takes]
    gaps = {"dtype": f"it does not compute in {lost[0]}"} if lost else {}
    form = replace(form, offers={**form.offers, "dtype": dtypes}, not_compared={**form.not_compared, **gaps})
    both = form.cell.reset and {"bias_ih", "bias_hh"} <= {*form.names}
    if not (form.gates_open or both) or form.loader or form.conventions.cell not in CELLS:
        return form
    return _in_its_order(make, form)


def _plain(form: ClassForm, sizes: ModuleSizes, **fields: Any) -> RNNConfig:
    """Return a config that a class of a form can do."""
    offers = form.offers
    plain: dict[str, Any] = {
        "input_size": offers.get("input_size", (sizes.input_size,))[0],
        "hidden_size": offers.get("hidden_size", (sizes.hidden_size,))[0],
        "N": 1 + (offers.get("batched") != (False,)),
        "T": 3,
        "bias": offers.get("bias", (True,))[0],
        "batched": offers.get("batched", (True,))[0],
        "batch_first": form.conventions.batch_first,
        "bidirectional": offers.get("bidirectional", (False,))[0],
        "num_layers": offers.get("num_layers", (1,))[0],
        "nonlinearity": offers.get("nonlinearity", ("tanh",))[0],
        "hx": offers.get("hx", (False,))[-1],
        "cell": form.conventions.cell,
    }
    return RNNConfig(**{**plain, **fields})


def _dtypes(subject: OwnFormSubject, form: ClassForm) -> tuple[str, ...]:
    """Return the dtypes in which every call that succeeds in some dtype does, and answers in that dtype.

    Raise ``SubjectUnavailable`` if each raises an error: it is not known then how the class wants to be called.
    """
    calls = [_plain(form, sizes, hx=hx) for sizes, hx in product(TELLING_SIZES, form.offers.get("hx", (False,)))]
    results = {dtype: [subject.run(draw(call.replace(dtype=dtype), "normal", 1)) for call in calls] for dtype in FLOATS}
    fine = {
        dtype: [run.failure is None and {str(a.dtype) for a in run.arrays.values()} <= {dtype} for run in runs]
        for dtype, runs in results.items()
    }
    some = [any(flags) for flags in zip(*fine.values(), strict=True)]
    every = [run for runs in results.values() for run in runs]
    if all(run.failure is Failure.RAISED for run in every):
        place = subject.capabilities.place
        what = with_place(every[0], place[0]) if place else every[0].message
        sizes = ", ".join(f"{name}={getattr(calls[0], name)}" for name in having("size"))
        raise SubjectUnavailable(f"{subject.name}: each call raises {what}\n  called with {sizes}")
    return tuple(dtype for dtype, flags in fine.items() if flags == some)


def _in_its_order(make: Callable[[ClassForm], OwnFormSubject], form: ClassForm) -> ClassForm:
    """Return a form with the gates' rows in the order with which the class is torch's layer, whatever names say.

    The order of rows in a matrix of its own is the class's own choice, and no mistake, and so are names, and which of a
    GRU's two biases is inside r. A GRU's gates are known by their effects, where it is torch's layer in no order. Else
    the order is the one with which it is torch's layer in simpler and simpler cases, in which fewer mistakes show, or
    gives most of the right arrays, such as c_n alone, there, and then where one gate after the other is 1, so that no
    mistake in it shows; else that of names, or of torch.
    """
    right = TorchSubject(getattr(torch.nn, form.conventions.cell))
    dtype = "float64" if "float64" in form.offers["dtype"] else "float32"
    plain, *simpler = SIMPLER
    if found := _as_torch(make, form, right, dtype, plain):
        return found
    order = _order_by_effects(make(form), form, dtype) if form.gates_open and form.cell.reset else ""
    for simplified in simpler if not order else ():
        if found := _as_torch(make, form, right, dtype, simplified):
            return found
    every = [(candidate, own) for candidate, own in _orders(form) if own == order or not order]
    for sizes in TELLING_SIZES:
        candidates = every
        # In a GRU, whose state is made of r, z and n alone, one that is 1 lets another stand for a third.
        gates = range(len(form.cell.gates)) if "cx" in form.cell.hidden else ()
        for gate, (zero, T) in product((None, *gates), SIMPLER):
            drawn = draw(_plain(form, sizes, dtype=dtype, T=T), "normal", 1)
            arrays = _with_zeros(drawn, zero)
            if gate is not None:
                arrays = _with_open_gate(arrays, gate, drawn.config.hidden_size)
            case = drawn.from_arrays(drawn.config, arrays)
            expected = right.run(case).arrays
            scores = [_alike(make(candidate), case, expected) for candidate, _ in candidates]
            if best := max(scores):
                candidates = [candidate for score, candidate in zip(scores, candidates, strict=True) if score == best]
            if len({own for _, own in candidates}) == 1 and (best or len(candidates) == 1):
                return replace(candidates[0][0], gates_open=False)
        if len(candidates) < len(every):  # where a mistake makes two gates alike, the first of them is as in torch
            return candidates[0][0]
    return replace(every[0][0], gates_open=False) if order else form


def _as_torch(
    make: Callable[[ClassForm], OwnFormSubject],
    form: ClassForm,
    right: TorchSubject,
    dtype: str,
    simplified: tuple[tuple[str, ...], int],
) -> ClassForm | None:
    """Return a form with which a class is torch's layer in a case, or ``None``, each role in an order of its own."""
    zero, T = simplified
    for sizes, start in product(TELLING_SIZES, _exchanged(form)):
        drawn = draw(_plain(form, sizes, dtype=dtype, T=T), "normal", 1)
        case = drawn.from_arrays(drawn.config, _with_zeros(drawn, zero))
        if (found := _role_by_role(make, start, right, case)) is not None:
            return _ordered(form, found)
    return None


def _role_by_role(
    make: Callable[[ClassForm], OwnFormSubject], form: ClassForm, right: TorchSubject, case: Case
) -> ClassForm | None:
    """Return a form with which a class is torch's layer in a case, or ``None``: one role after the other is told.

    The parameters of later roles are zero. Where several orders are right, as of a bias that is zero, the one that
    stands as that of the role before comes first, then that of names.
    """
    groups = _roles_together(form)
    place = dict(zip(form.cell.gates, form.cell.gates, strict=True))
    for number, group in enumerate(groups, 1):
        roles = {role for later in groups[number:] for role in later}
        roles |= {"bias_hh"} if form.conventions.one_bias and "bias_ih" in roles else set()
        part = case.from_arrays(case.config, _with_zeros(case, tuple(f"{role}_l" for role in roles)))
        expected = right.run(part).arrays
        tried = ((_placed(form, group, places), places) for places in (place, *_places(form)))
        told = next(((placed, places) for placed, places in tried if _is_right(make(placed), part, expected)), None)
        if told is None:
            return None
        form, place = told
    return form


def _with_zeros(case: Case, beginnings: tuple[str, ...]) -> dict[str, Array]:
    """Return the arrays of a case, of which some are zero, by what their names begin with."""
    return {name: array * (not name.startswith(beginnings)) for name, array in case.arrays.items()}


def _roles_together(form: ClassForm) -> list[set[str]]:
    """Return the roles of a form, in one direction, in groups that have own parameters in common."""
    groups: list[set[str]] = []
    for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        own = {block.own for block in form.names.get(role, ())}
        shared = [group for group in groups if own & {block.own for of in group for block in form.names[of]}]
        groups = [group for group in groups if group not in shared]
        groups += [set[str]().union(*shared, {role})] * bool(own)
    return groups


def _places(form: ClassForm) -> Iterator[dict[str, str]]:
    """Yield what stands in the place of each gate, in each order; the order that the form has first."""
    for order in permutations(form.cell.gates) if form.gates_open else [tuple(form.cell.gates)]:
        yield dict(zip(form.cell.gates, order, strict=True))


def _placed(form: ClassForm, roles: Collection[str], place: Mapping[str, str]) -> ClassForm:
    """Return a form with other gates in the places of those of some roles, in both directions."""
    names = dict(form.names)
    for name in [name for name in names if name.removesuffix("_reverse") in roles]:
        blocks = [block._replace(gates="".join(map(place.__getitem__, block.gates))) for block in names[name]]
        names[name] = tuple(sorted(blocks, key=lambda block: form.cell.gates.index(block.gates[0])))
    return replace(form, names=names)


def _ordered(form: ClassForm, found: ClassForm) -> ClassForm:
    """Return a form that runs told, with the order of weight_ih's rows, unless names tell all that runs do."""
    before, after = ({block for blocks in of.names.values() for block in blocks} for of in (form, found))
    order = "".join(block.gates for block in found.names["weight_ih"])
    order = order if form.gate_order_assumed or before != after else ""
    return replace(found, order=order, gates_open=False)


def _exchanged(form: ClassForm) -> Iterator[ClassForm]:
    """Yield a form, and one with a GRU's biases exchanged, which is inside r."""
    exchanged = {"bias_ih": "bias_hh", "bias_hh": "bias_ih"}
    yield form
    if form.cell.reset and form.names.get("bias_hh", form.names.get("bias_ih")) != form.names.get("bias_ih"):
        yield replace(form, names={exchanged.get(role, role): blocks for role, blocks in form.names.items()})


def _order_by_effects(subject: OwnFormSubject, form: ClassForm, dtype: str) -> str:
    """Return the letters of a GRU's gates in the order of its rows, by what each does; nothing if that does not tell.

    In two steps from zeros without weight_hh and bias_hh, r does nothing, and h is odd in the sums of n alone, also of
    a GRU with mistakes in its gates' functions, in 1 - z or in what r multiplies. z counts in the second step.
    """
    drawn = draw(_plain(form, TELLING_SIZES[0], dtype=dtype, T=2), "normal", 1)
    H = drawn.config.hidden_size
    still = {
        name: array * (not name.startswith(("hx", "weight_hh", "bias_hh"))) for name, array in drawn.arrays.items()
    }

    def of(sums: Sequence[int]) -> Array | None:
        """Return h with the sum of each gate multiplied by a number."""
        factors = np.repeat(np.array(sums), H)
        arrays = {
            name: (array.T * factors.astype(array.dtype)).T if name.startswith(("weight_ih", "bias_ih")) else array
            for name, array in still.items()
        }
        outcome = subject.run(drawn.from_arrays(drawn.config, arrays))
        return outcome.arrays.get("h_n", outcome.arrays.get("output"))

    gates = range(len(form.cell.gates))
    plain = of([1 for _ in gates])
    turned = [h for gate in gates if (h := of([-1 if k == gate else 1 for k in gates])) is not None]
    if plain is None or len(turned) < len(gates):
        return ""
    nothing = [k for k, h in enumerate(turned) if np.array_equal(h, plain)]
    odd = [k for k, h in enumerate(turned) if np.allclose(h, -plain, 1e-3, 1e-3)]  # in another one, in no digit
    if (len(nothing), len(odd)) != (1, 1):
        return ""
    return "".join("r" if k in nothing else "n" if k in odd else "z" for k in gates)


def _with_open_gate(arrays: Mapping[str, Array], gate: int, H: int) -> dict[str, Array]:
    """Return the arrays of a case with a gate that is 1, or constant without biases, by its rows in torch's order."""
    copies = {name: array.copy() for name, array in arrays.items()}
    for name, copy in copies.items():
        if name.startswith(("weight", "bias")):
            copy[gate * H : (gate + 1) * H] = OPEN_GATE * name.startswith("bias_ih")
    return copies


def _orders(form: ClassForm) -> Iterator[tuple[ClassForm, str]]:
    """Yield a form with the gates' rows in each order, and with a GRU's biases exchanged, too, and the order."""
    for place in _places(form):
        for exchanged in _exchanged(form):
            yield _ordered(form, _placed(exchanged, form.roles, place)), "".join(place.values())


def _is_right(subject: OwnFormSubject, case: Case, expected: Mapping[str, Any]) -> bool:
    """Tell whether a subject gives all that it returns as torch does."""
    returned = [name for name in expected if name not in subject.not_returned]
    return _alike(subject, case, expected) == len(returned) > 0


def _alike(subject: OwnFormSubject, case: Case, expected: Mapping[str, Any]) -> int:
    """Return how many arrays a subject gives as torch does; another order differs in the first digits."""
    arrays = subject.run(case).arrays
    shared = {name: array for name, array in arrays.items() if name in expected and array.shape == expected[name].shape}
    return sum(np.allclose(array, expected[name], 1e-3, 1e-3) for name, array in shared.items())


def flattened(states: Sequence[Any]) -> list[Any]:
    """Return the states of an argument that is a state or a tuple of several; none if there is none."""
    return [state for part in states for state in (part if isinstance(part, tuple) else [part])]


def looped(cell: Any, form: ClassForm, stack: Any, x: Any, *hx: Any) -> Any:
    """Call a cell once for each step of x."""
    state, outputs = [initial[0] for initial in flattened(hx)], []
    places = [form.returns.index(name) for name in form.cell.final]
    for step in x:
        returned = form.parts(cell(step, *form.passed(state)))
        state = [returned[place] for place in places]
        outputs.append(state[0])
    output = stack(outputs)
    return output, output[-1:].clone(), *[part[None] for part in state[1:]]


def _parameters_of(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return a module's parameters by each of their names; those of a part that is shared have several."""
    return dict(module.named_parameters(remove_duplicate=False))
