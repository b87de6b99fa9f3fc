"""TorchSubject: torch's own nn.RNN, or any class with its constructor and state_dict, run eagerly on a device."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import torch
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from harness.space.answer import Answer
from harness.space.call import Call
from harness.space.case import Array, Case
from harness.space.config import (
    AUTOCASTS,
    COMPLEX,
    DTYPES,
    GRAD_MODES,
    LOSSES,
    PREPARATIONS,
    STRIDES,
    TANGENT,
    WRT,
    RNNConfig,
)
from harness.space.outcome import Outcome
from harness.space.scope import PACKINGS
from harness.space.values import with_other_inputs
from harness.subjects import torch_devices
from harness.subjects.calling import Held, Malformed, a_or_an, as_array, as_arrays, attempt, changed, named_outputs
from harness.subjects.torch_calls import perform
from harness.subjects.torch_preparation import parameters_by_name, prepared, renamed
from harness.subjects.torch_tensors import laid_out, on_device, to_numpy

_MODULES = 64
"""Modules kept for the next case of the same config. A search runs a handful of cases a config, one after the other."""

EXACT: Final = frozenset(
    name + part for name in ("loss scale", "padding unread", "training", "zero hx") for part in ("", ".grad")
)
"""Laws that nn.RNN keeps to the bit on a CPU, and so in its gradients: measured (``benchmarks/laws.py``)."""

EXACT_IN_ORDER: Final = EXACT | {
    "grad mode",
    *(name + part for name in ("preparation", "unbatched", "wrt") for part in ("", ".grad")),
}
"""Laws that it keeps to the bit where what it multiplies lies in order (``in_order``), likewise."""

_make_dual: Callable[..., torch.Tensor] = forward_ad.make_dual
_unpack_dual: Callable[..., Any] = forward_ad.unpack_dual

Tensors = Mapping[str, torch.Tensor]


class _Run(NamedTuple):
    """One forward pass: what it gave, as arrays and as tensors; what gradients are by; and what shares memory."""

    named: dict[str, Array]
    results: dict[str, torch.Tensor]
    own: dict[str, torch.Tensor]
    """The results that are the module's own, with what is packed as it came back."""
    asked: list[torch.Tensor]
    aliased: tuple[tuple[str, str], ...]


@dataclasses.dataclass
class _Noticed:
    """What is to be told of a call beside its arrays, as an ``Outcome`` does."""

    aliased: tuple[tuple[str, str], ...] = ()
    overwritten: tuple[str, ...] = ()


class TorchSubject:
    """A recurrent ``torch.nn.Module``, built by a factory that takes ``nn.RNN``'s constructor arguments.

    The readout, where a config has one, is torch's own linear function of the module's output. Gradients are those of
    autograd, and so are the derivatives beyond them, by forward mode and by double backward.
    """

    OFFERS: Final[dict[str, Any]] = {
        "dtype": (*(dtype for dtype in DTYPES if dtype not in COMPLEX for _ in range(2)), *COMPLEX),
        "loss": (*[None] * 3, *LOSSES[1:]),
        "wrt": ("all", *WRT),
        "lengths": (*[None] * 5, *PACKINGS[1:]),
        "batched": (*[True] * 7, False),
        "strides": (*["contiguous"] * 5, *STRIDES[1:]),
        "autocast": (*[None] * 8, *AUTOCASTS[1:]),
        "grad_mode": (*[None] * 2, *GRAD_MODES[1:]),
        "preparation": (*["new"] * 18, *PREPARATIONS[1:]),
    }
    """The whole space. What is dear, or plain in all but one respect, is drawn less often than what is not."""

    def __init__(self, factory: Callable[..., torch.nn.Module] = torch.nn.RNN, name: str = "torch") -> None:
        self.name = name
        self._factory = factory
        self._module = self._keeping()
        self.offers = {**self.OFFERS, "masks": factory is torch.nn.RNN}
        self.is_cell = isinstance(factory, type) and issubclass(factory, torch.nn.RNNCell)
        self.shares_process = factory is torch.nn.RNN
        if not self.is_cell:  # whose constructor is another
            self.call: Callable[[Call], Answer] = partial(perform, factory)

    def __getstate__(self) -> dict[str, Any]:
        """All but the modules that are kept: a copy builds its own."""
        return {name: value for name, value in vars(self).items() if name != "_module"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._module = self._keeping()

    def devices(self) -> tuple[str, ...]:
        """The CPU, every accelerator that torch finds here, and meta."""
        return torch_devices.devices()

    def absent(self) -> dict[str, str]:
        """The accelerators that are not here, and why."""
        return torch_devices.absent()

    def backend(self, config: RNNConfig) -> str:
        """Torch's own kernels are known by their device; of another module's arithmetic nothing is."""
        own = self._factory is torch.nn.RNN or self.is_cell
        return f"torch {config.device.partition(':')[0]}" if own else "unknown"

    def exact_laws(self, config: RNNConfig) -> frozenset[str]:
        """The laws that nn.RNN keeps to the bit; of another module or device, or complex numbers, nothing is known."""
        if self._factory is not torch.nn.RNN or config.device != "cpu" or config.is_complex:
            return frozenset()
        return EXACT_IN_ORDER if in_order(config) else EXACT

    def masks(self, case: Case) -> list[Array] | None:
        """What dropout keeps of each inner layer's output in ``run``, time first, (T, N, D*H), as booleans.

        ``nn.RNN`` on a CPU draws one mask after the other, as the dropout function does of as many ones, under the same
        seed. Of another module or device, nothing is known.
        """
        config = case.config
        if self._factory is not torch.nn.RNN or config.device != "cpu":
            return None
        features = config.num_directions * config.hidden_size
        ones = torch.ones(config.T, config.N, features)
        packed = None if config.lengths is None else _packed(ones, config.replace(batch_first=False))
        kept: list[Array] = []
        with _seeded(case.seed):
            for _ in range(config.num_layers - 1):
                if packed is None:
                    mask = torch.nn.functional.dropout(ones, config.dropout)
                else:
                    data = torch.nn.functional.dropout(packed.data, config.dropout)
                    mask, _ = pad_packed_sequence(packed._replace(data=data), total_length=config.T)
                kept.append(to_numpy(mask != 0))
        return kept

    def run(self, case: Case) -> Outcome:
        """Load the case's weights into a module of its config, and call it."""
        return self._attempt(case, partial(self._call, case))

    def run_twice(self, case: Case) -> Outcome:
        """What ``run`` gives, and which of it another call of the module overwrites: with other inputs.

        On meta, where nothing has numbers, there is no other call.
        """
        work = self._call if case.config.device == "meta" else self._call_twice
        return self._attempt(case, partial(work, case))

    def jvp(self, case: Case, tangents: Mapping[str, Array]) -> Outcome:
        """The outputs and their directional derivatives, by torch's forward mode with dual inputs and parameters."""
        return self._attempt(case, partial(self._forward_mode, case, tangents))

    def second(self, case: Case, tangents: Mapping[str, Array]) -> Outcome:
        """Every gradient's directional derivative, by double backward: the gradient of tangents times gradients."""
        return self._attempt(case, partial(self._double_backward, case, tangents))

    @staticmethod
    def _attempt(case: Case, work: Callable[[Tensors, _Noticed], Mapping[str, Array]]) -> Outcome:
        """The outcome of some work on a copy of the case's arrays."""
        lent: dict[str, torch.Tensor] = {}
        noticed = _Noticed()

        def call() -> Mapping[str, Array]:
            lent.update(_tensors(case, case.arrays))
            return work(lent, noticed)

        outcome = attempt(call)
        arrays = {} if case.config.device == "meta" else {name: to_numpy(tensor) for name, tensor in lent.items()}
        return dataclasses.replace(
            outcome,
            changed_inputs=changed(arrays, case),
            aliased=noticed.aliased,
            overwritten=noticed.overwritten,
        )

    def _call(self, case: Case, lent: Tensors, noticed: _Noticed) -> Mapping[str, Array]:
        module = self._loaded(case.config, lent)
        with _grad_mode(case.config):
            done, gradients = self._results(case, module, lent)
            noticed.aliased = done.aliased
            return done.named | as_arrays(gradients)

    def _call_twice(self, case: Case, lent: Tensors, noticed: _Noticed) -> Mapping[str, Array]:
        config = case.config
        module, other = self._loaded(config, lent), with_other_inputs(case)
        if config.preparation == "used":  # which it is by now
            other = dataclasses.replace(other, config=config.replace(preparation="new"))
        with _grad_mode(config):
            done, gradients = self._results(case, module, lent)
            noticed.aliased = done.aliased
            held = Held({**done.own, **gradients})
            others = {**lent, **_tensors(other, (*config.inputs, *config.cotangents))}
            attempt(lambda: self._results(other, module, others)[0].named)
            noticed.overwritten = held.overwritten()
            return done.named | {name: held.arrays[name] for name in gradients}

    def _results(self, case: Case, module: torch.nn.Module, lent: Tensors) -> tuple[_Run, Tensors]:
        """What the module gives, forward, and back where a loss is."""
        done = self._outputs(case, module, lent)
        of_the_form = all(done.named[name].shape == spec.shape for name, spec in case.config.outputs.items())
        return done, self._gradients(case, done, lent) if case.config.loss and of_the_form else {}

    def _loaded(self, config: RNNConfig, lent: Tensors) -> torch.nn.Module:
        """The module of a config, with a case's weights in it."""
        module = self._module(_structure(config))
        weights = {name: lent[name] for name in config.weights if not name.startswith("readout")}
        with torch.no_grad():
            if config.preparation == "functional_call":  # which is to take the weights that it is given, not its own
                return self._in_mode(self._build(config), config)
            weights = renamed(module, weights)
            _load(module, weights)
        return self._in_mode(prepared(module, config, weights, self._build), config)

    @staticmethod
    def _in_mode(module: torch.nn.Module, config: RNNConfig) -> torch.nn.Module:
        return module if module.training == config.training else module.train(config.training)

    def _outputs(self, case: Case, module: torch.nn.Module, lent: Tensors) -> _Run:
        config = case.config
        given = {name: lent[name] for name in config.inputs}
        weights = {name: lent[name] for name in config.weights}
        readout = [tensor for name, tensor in weights.items() if name.startswith("readout")]
        by = set() if config.loss is None else {name.removesuffix(".grad") for name in config.gradients}
        if config.loss is not None:
            given = {name: tensor.detach().requires_grad_(name in by) for name, tensor in given.items()}
            readout = [tensor.detach().requires_grad_("readout.weight" in by) for tensor in readout]
        with _frozen(module, config):
            raw, own = self._called(module, case, given, weights)
            returned = raw if config.lengths is None else _padded(raw, config)
            with _autocast(config):
                named = named_outputs(returned, readout=False)
                results = dict(zip(named, returned, strict=True))
                own_results = dict(zip(named, map(_data, raw), strict=True))
                _require_device(results, config)
                if readout:
                    results["readout"] = torch.nn.functional.linear(torch.as_tensor(returned[0]), *readout)
                    named["readout"] = as_array("readout", results["readout"])
        known = {**given, **dict(zip((name for name in weights if "readout" in name), readout, strict=True)), **own}
        asked = [] if config.loss is None else [known[name.removesuffix(".grad")] for name in config.gradients]
        return _Run(named, results, own_results, asked, _aliased(results, {**given, **own}))

    def _called(
        self, module: torch.nn.Module, case: Case, given: Tensors, weights: Tensors
    ) -> tuple[Any, dict[str, torch.Tensor]]:
        """What the module returns, and its parameters by nn.RNN's names."""
        config = case.config
        if config.preparation == "used":
            self._use(module, config)
        x: torch.Tensor | PackedSequence = given["x"]
        if config.lengths is not None:
            x = _packed(given["x"], config)
        arguments = (x, *(tensor for name, tensor in given.items() if name == "hx"))
        own = {} if config.loss is None else _parameters(module, config)
        with _seeded(case.seed) if config.drops else contextlib.nullcontext(), _autocast(config):
            if config.preparation == "functional_call":
                own = {name: tensor for name, tensor in weights.items() if not name.startswith("readout")}
                own = {name: tensor.detach().requires_grad_(config.wrt != "inputs") for name, tensor in own.items()}
                returned = torch.func.functional_call(module, renamed(module, own), arguments)
            else:
                returned = module(*arguments)
        return returned, own

    @staticmethod
    def _use(module: torch.nn.Module, config: RNNConfig) -> None:
        """Call a module at another shape, backwards too where a loss is."""
        shape: tuple[int, ...] = (config.T + 1,)
        if config.batched:
            shape = (config.N + 1, config.T + 1) if config.batch_first else (config.T + 1, config.N + 1)
        dtype = getattr(torch, config.dtype)
        x = torch.ones(*shape, config.input_size, device=config.device, dtype=dtype)
        with _autocast(config):
            output = module(x)[0]
        if config.loss is not None and output.requires_grad:
            output.real.sum().backward()
            module.zero_grad()

    def _forward_mode(
        self, case: Case, tangents: Mapping[str, Array], lent: Tensors, _noticed: _Noticed
    ) -> Mapping[str, Array]:
        config = case.config
        module = self._loaded(config, lent)
        names = [*config.inputs, *config.weights]
        primals = [*(lent[name] for name in config.inputs), *_parameters(module, config).values()]
        along = [on_device(tangents[name], config.device) for name in names]
        with warnings.catch_warnings(), torch.no_grad(), forward_ad.dual_level():
            # The first dual tensor loads what torch has written for torch.jit, of which torch then warns.
            warnings.filterwarnings("ignore", r".*torch\.jit\.script", DeprecationWarning)
            duals = list(map(_make_dual, primals, along))
            given, parameters = duals[: len(config.inputs)], duals[len(config.inputs) :]
            by_name = renamed(module, dict(zip(config.weights, parameters, strict=True)))
            returned = torch.func.functional_call(module, by_name, tuple(given))
            named = named_outputs(returned, readout=False)
            for name, result in zip(tuple(named), returned, strict=True):
                tangent = _unpack_dual(result).tangent
                if tangent is not None:
                    named[name + TANGENT] = as_array(name + TANGENT, tangent)
        return named

    def _double_backward(
        self, case: Case, tangents: Mapping[str, Array], lent: Tensors, _noticed: _Noticed
    ) -> Mapping[str, Array]:
        config = case.config
        along = {f"{name}.grad": on_device(array, config.device) for name, array in tangents.items()}
        with torch.enable_grad():
            done = self._outputs(case, self._loaded(config, lent), lent)
            asked = done.asked
            roots = [done.results[name.removesuffix(".grad")] for name in case.cotangents]
            cotangents = [lent[name] for name in case.cotangents]
            first = torch.autograd.grad(roots, asked, cotangents, allow_unused=True, create_graph=True)
            pairs = [
                (gradient, along[name])
                for name, gradient in zip(config.gradients, first, strict=True)
                if gradient is not None and gradient.requires_grad
            ]
            found: tuple[torch.Tensor | None, ...] = (None,) * len(asked)
            if pairs:  # else every gradient is constant
                found = torch.autograd.grad([g for g, _ in pairs], asked, [v for _, v in pairs], allow_unused=True)
        return {
            name: as_array(name, torch.zeros_like(tensor) if result is None else result)
            for name, tensor, result in zip(config.gradients, asked, found, strict=True)
        }

    @staticmethod
    def _gradients(case: Case, done: _Run, lent: Tensors) -> dict[str, torch.Tensor]:
        """What autograd gives for each tensor asked for. Where it gives none, the gradient is missing."""
        roots = [done.results[name.removesuffix(".grad")] for name in case.cotangents]
        cotangents = [lent[name] for name in case.cotangents]
        for i, root in enumerate(roots):
            if cotangents[i].dtype != root.dtype:  # a conversion puts in order what it is given
                cotangents[i] = laid_out(cotangents[i].to(root.dtype), case.config.strides, constant=True)
        gradients = torch.autograd.grad(roots, done.asked, cotangents, allow_unused=True)
        found = dict(zip(case.config.gradients, gradients, strict=True))
        if "readout.grad" not in case.cotangents:  # a readout that no loss reads has none, and rightly so
            found |= {n: torch.zeros_like(t) for n, t in zip(found, done.asked, strict=True) if "readout" in n}
        return {name: gradient for name, gradient in found.items() if gradient is not None}

    def _keeping(self) -> Callable[[RNNConfig], torch.nn.Module]:
        """How a config's module is had. Another than torch's may remember earlier calls, and a case says if it may."""
        return lru_cache(_MODULES)(self._build) if self._factory is torch.nn.RNN else self._build

    def _build(self, config: RNNConfig) -> torch.nn.Module:
        arguments: dict[str, Any] = {
            name: getattr(config, name)
            for name in ("num_layers", "nonlinearity", "bias", "batch_first", "dropout", "bidirectional")
        }
        dtype = getattr(torch, config.dtype)
        with warnings.catch_warnings():
            # That dropout means nothing in a single layer is the config's own choice, and no news to its author.
            warnings.filterwarnings("ignore", "dropout option adds dropout", UserWarning)
            with _seeded(0):  # who uses the weights that a module begins with, uses the same ones again
                return self._factory(
                    config.input_size, config.hidden_size, **arguments, device=config.device, dtype=dtype
                )


def in_order(config: RNNConfig) -> bool:
    """Whether torch multiplies contiguous arrays, adds a bias to them, and casts nothing.

    Else it chooses among kernels that sum in different orders, by memory and by what gradients are asked for, too.
    """
    return config.strides == "contiguous" and not config.batch_first and config.bias and config.autocast is None


def _tensors(case: Case, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Copies of some of the case's arrays, the inputs and cotangents lying in memory as the config says."""
    config, made = case.config, {}
    for name in names:
        made[name] = on_device(case.arrays[name], config.device)
        if name not in config.weights:
            made[name] = laid_out(made[name], config.strides, constant=name in config.cotangents)
    return made


def _data(returned: Any) -> Any:
    """A tensor that was returned, or that of a packed sequence."""
    return returned.data if isinstance(returned, PackedSequence) else returned


def _packed(x: torch.Tensor, config: RNNConfig) -> PackedSequence:
    """The sequences of x, packed. Raises ``NotImplementedError`` for what torch 2.13 refuses with another error."""
    assert config.lengths is not None
    if config.is_complex and x.requires_grad:
        raise NotImplementedError("packing does not support automatic differentiation of complex numbers")
    return pack_padded_sequence(
        x, torch.tensor(config.lengths), batch_first=config.batch_first, enforce_sorted=config.enforce_sorted
    )


def _padded(returned: Any, config: RNNConfig) -> Any:
    """What was returned, with a packed output padded. Raises ``Malformed`` if it is not packed."""
    if not isinstance(returned, tuple | list) or not returned:
        return returned
    if not isinstance(returned[0], PackedSequence):
        kind = a_or_an(type(returned[0]).__name__)
        raise Malformed(f"returned {kind} for output, expected a PackedSequence, as the input is")
    if config.device == "meta":  # where what was sorted cannot be padded, for its indices have no numbers
        steps = (config.N, config.T) if config.batch_first else (config.T, config.N)
        return (returned[0].data.sum() + returned[0].data.new_zeros(*steps, returned[0].data.shape[1]), *returned[1:])
    output, _ = pad_packed_sequence(returned[0], batch_first=config.batch_first, total_length=config.T)
    return (output, *returned[1:])


def _grad_mode(config: RNNConfig) -> contextlib.AbstractContextManager[Any]:
    """Gradients where there is a loss; else what the config says."""
    if config.grad_mode == "inference_mode":
        return torch.inference_mode()
    return torch.set_grad_enabled(config.loss is not None or config.grad_mode == "enable_grad")


def _autocast(config: RNNConfig) -> contextlib.AbstractContextManager[Any]:
    """Torch's automatic mixed precision, if the config asks for it."""
    if config.autocast is None:
        return contextlib.nullcontext()
    return torch.autocast(config.device.partition(":")[0], getattr(torch, config.autocast))


@contextlib.contextmanager
def _frozen(module: torch.nn.Module, config: RNNConfig) -> Iterator[None]:
    """The module's parameters without gradients, where those by the inputs alone are asked for."""
    freeze = config.loss is not None and config.wrt == "inputs"
    if freeze:
        module.requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        if freeze:
            module.requires_grad_(requires_grad=True)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The generator that dropout and initialisation draw from, at a seed; afterwards as it was."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed looks for devices, too, which takes a while
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def _require_device(results: Tensors, config: RNNConfig) -> None:
    """Raise ``Malformed`` for a tensor that is not where what went in is."""
    here = torch.device(config.device)
    for name, tensor in results.items():
        there = getattr(tensor, "device", here)
        if there.type != here.type or (here.index is not None and there.index != here.index):
            raise Malformed(f"returned {name} on {there}, expected it on {here}, where x is")


def _aliased(results: Tensors, given: Tensors) -> tuple[tuple[str, str], ...]:
    """Which results share memory with what was given, or with each other."""
    seen: dict[int, str] = {_storage(tensor): name for name, tensor in given.items() if tensor.numel()}
    found: list[tuple[str, str]] = []
    for name, tensor in results.items():
        if not isinstance(tensor, torch.Tensor) or tensor.device.type == "meta" or not tensor.numel():
            continue
        other = seen.setdefault(_storage(tensor), name)
        if other != name:
            found.append((name, other))
    return tuple(found)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _parameters(module: torch.nn.Module, config: RNNConfig) -> dict[str, torch.Tensor]:
    """The module's own parameters, under nn.RNN's names. Gradients cannot be asked of a module without them."""
    own = parameters_by_name(module)
    names = [name for name in config.weights if not name.startswith("readout")]
    if missing := [name for name in names if name not in own]:
        raise NotImplementedError(f"gradients need parameters under nn.RNN's names; {', '.join(missing)} is missing")
    return {name: own[name] for name in names}


def _load(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """What ``load_state_dict`` does, at a third of its price where the module's parameters are just these weights."""
    parameters = dict(module.named_parameters())
    plain = parameters.keys() == weights.keys() and not any(True for _ in module.buffers())
    if plain and all(parameter.shape == weights[name].shape for name, parameter in parameters.items()):
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    else:
        module.load_state_dict(weights)


@lru_cache(_MODULES)
def _structure(config: RNNConfig) -> RNNConfig:
    """The config with what the constructor does not see at its default, so that modules are shared."""
    names = [field.name for field in dataclasses.fields(config)[:8]]
    return RNNConfig(**{name: getattr(config, name) for name in (*names, "device", "dtype")})
