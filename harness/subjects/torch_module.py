"""TorchSubject: torch's own nn.RNN, or any class with its constructor and state_dict, run eagerly on a device."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import torch
from torch.nn.utils.rnn import pad_packed_sequence

from harness.space.case import Array, Case
from harness.space.cells import CELLS
from harness.space.config import RNNConfig
from harness.space.conformance_profile import KERNEL, PORT
from harness.space.factor_table import LAYER, OPTIONS, PROJECTIONS, WEIGHT_SETTING, offers_of
from harness.space.outcome import Failure, Outcome
from harness.space.scope import TORCH_VALUES
from harness.space.values import with_other_inputs
from harness.subjects import torch_class_facts
from harness.subjects.capabilities import Capabilities, Recipe
from harness.subjects.conventions import Conventions, declared_by, gradients_back, own_weights, with_both_biases
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.run_user_code import (
    HeldResults,
    MalformedResultError,
    as_array,
    as_arrays,
    attempt,
    by_name,
    changed,
    filled,
    place_of,
)
from harness.subjects.torch_autograd import Graph, accumulated, autocast, frozen, grad_mode, seeded, wrong_derivatives
from harness.subjects.torch_class_facts import TORCH, ClassFacts, facts_of, is_cell, positions, takes
from harness.subjects.torch_preparation import (
    MODULES,
    in_mode,
    load,
    others,
    parameters_by_name,
    parameters_of,
    prepared,
    prepared_in_place,
    renamed,
    renew,
    structure,
    tie,
)
from harness.subjects.torch_tensors import data_of, laid_out, packed, padded, tensors_of, to_numpy
from harness.subjects.torch_variants import RECIPES

# The relations that nn.RNN keeps to the bit on a CPU, for outputs and gradients, as measured by
# ``benchmarks/relations.py``.
EXACT_RELATIONS: Final = frozenset(
    name + part for name in ("loss scale", "padding unread", "training", "zero hx") for part in ("", ".grad")
)

# The relations that it keeps to the bit if its operands lie in order (``in_order``), measured in the same way.
EXACT_IN_ORDER: Final = EXACT_RELATIONS | {
    "grad mode",
    *(name + part for name in ("preparation", "unbatched", "wrt") for part in ("", ".grad")),
}

Tensors = Mapping[str, torch.Tensor]


class ForwardPass(NamedTuple):
    """One forward pass: its results as arrays and as tensors, the tensors to differentiate by, and shared memory."""

    named: dict[str, Array]
    results: dict[str, torch.Tensor]
    own: dict[str, torch.Tensor]  # the results as the module itself returned them, still packed if they were packed
    sources: dict[str, torch.Tensor]
    aliased: tuple[tuple[str, str], ...]


@dataclasses.dataclass
class _Noticed:
    """Observations about a call in addition to its arrays, as in an ``Outcome``."""

    aliased: tuple[tuple[str, str], ...] = ()
    overwritten: tuple[str, ...] = ()
    wrong: str = ""


class TorchSubject:
    """A recurrent ``torch.nn.Module``, built by a factory that takes ``nn.RNN``'s constructor arguments.

    A run has four steps, each a method: ``build``, ``prepare``, ``call`` and ``differentiate``. A subclass for a module
    that is compiled, exported or run by other means replaces those in which it differs.

    The readout of a config is torch's own linear function of the module's output. Gradients are those of autograd, and
    the derivatives beyond them are those of its forward mode and of double backward.
    """

    def __init__(
        self,
        factory: Callable[..., torch.nn.Module] = torch.nn.RNN,
        name: str = "torch",
        *,
        facts: ClassFacts | None = None,
        recipe: Recipe | None = None,
        conventions: Conventions | None = None,
    ) -> None:
        """Take a class, its ``facts`` if not those of ``torch_class_facts``, and how a script builds and calls it.

        Its ``conventions`` are by default those that it declares.
        """
        self.name = name
        self._conventions = declared_by(factory, name) if conventions is None else conventions
        self._require_conventions(name)
        plain = not self._conventions.maps
        self._factory = factory
        self._facts = facts or facts_of(factory)
        cell = self._facts.cell if self._conventions.cell == "RNN" else self._conventions.cell
        self._module = self._keeping()
        self.capabilities = Capabilities(
            offers={
                **TORCH_VALUES,
                **self._conventions.narrowed(TORCH_VALUES, name),
                **({"positional": (False,)} if is_cell(factory) else {}),  # whose constructor is another
                **of_cell(cell),
                **({"proj_size": PROJECTIONS} if cell == "LSTM" and takes(factory, "proj_size") else {}),
                "masks": self._facts.draws_masks,
            },
            profile=KERNEL if self._facts.own else getattr(factory, "profile", PORT),
            arithmetic=TORCH if self._facts.own else {},
            is_torch=self._facts.own,
            recipe=recipe or RECIPES.get(name, Recipe(is_cell=is_cell(factory))),
            place=place_of(factory),
            positions=() if self._facts.own else positions(factory) or (),
            absent=torch_class_facts.absent(),
            shares_process=self._facts.shares_process,
            exact_relations=self.exact_relations,
            masks=self.masks,
            run_twice=self.run_twice,
            run_filled=None if self._facts.own else self.run_filled,
            check_derivatives=self.check_derivatives,
            # The malformed calls are those of nn.RNN, and a cell has another constructor.
            call=self.perform if plain and not is_cell(factory) else None,
            conventions=self._conventions,
            run_as=None if self._facts.own else self.run_as,  # torch's own declares nothing
        )

    def _require_conventions(self, name: str) -> None:
        """Raise ``SubjectUnavailable`` for conventions that it cannot have."""
        if self._conventions.last_output_only:
            raise SubjectUnavailable(
                f"{name}: last_output_only=True of a class: expected of a function; write one that calls it"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the kept modules; a copy builds its own."""
        return {name: value for name, value in vars(self).items() if name != "_module"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._module = self._keeping()

    @property
    def not_returned(self) -> tuple[str, ...]:
        """The results that it never returns."""
        return ("output",) if self._conventions.last_output_only else ()

    def lacking(self, config: RNNConfig) -> tuple[str, ...]:  # noqa: ARG002
        """Return the results and gradients that it does not return in a config."""
        return self.not_returned

    # The sizes of a call, T or N, that its constructor takes.
    built_for: frozenset[str] = frozenset()

    def devices(self) -> tuple[str, ...]:
        """Return the CPU, every accelerator that torch finds here, and meta."""
        return torch_class_facts.devices()

    def build(self, config: RNNConfig) -> torch.nn.Module:
        """Return a new module with a config's constructor arguments. This is the first step."""
        options = [name for name in OPTIONS if not (config.gated and name == "nonlinearity")]
        options += ["proj_size"] * (config.proj_size > 0)
        named: dict[str, Any] = {name: getattr(config, name) for name in options}
        positional: tuple[Any, ...] = ()
        if config.positional:
            positional, named = tuple(named.values()), {}
            self._require_positions()
        dtype = getattr(torch, config.dtype)
        with warnings.catch_warnings():
            # The config chose dropout in a single layer, where it does nothing, and the user need not be warned of it.
            warnings.filterwarnings("ignore", "dropout option adds dropout", UserWarning)
            with seeded(0):  # a module that uses its initial weights must always start from the same ones
                return self._factory(
                    config.input_size, config.hidden_size, *positional, **named, device=config.device, dtype=dtype
                )

    def _require_positions(self) -> None:
        """Raise ``NotImplementedError`` if the class takes some arguments by name only, which none can mistake."""
        taken = positions(self._factory)
        if taken is not None and len(taken) < len(LAYER):
            raise NotImplementedError(f"takes by position only {', '.join(taken) or 'nothing'}")

    def prepare(self, config: RNNConfig, weights: Tensors) -> torch.nn.Module:
        """Return a module that has come to hold the weights as ``config.preparation`` says. This is the second step."""
        if config.after is not None:
            return self._prepared_twice(config, weights)
        module = self._module(structure(config, self.built_for))
        if config.preparation == "used":
            return self._used(module, config, weights)
        with torch.no_grad():
            if config.preparation == "functional_call":  # it must use the weights that it is given, not its own
                return in_mode(self.build(config), config)
            own = self.renamed(module, own_weights(self._conventions, weights))
            load(module, own)
        return in_mode(prepared(module, config, own, self.build), config)

    def _used(self, module: torch.nn.Module, config: RNNConfig, weights: Tensors) -> torch.nn.Module:
        """Return a module that was called with other weights, and then got these."""
        weights = own_weights(self._conventions, weights)
        with torch.no_grad():
            load(module, others(module, self.renamed(module, weights)))
        self._use(in_mode(module, config), config)
        renew(module, self.renamed(module, weights))
        return module

    def _prepared_twice(self, config: RNNConfig, weights: Tensors) -> torch.nn.Module:
        """Return a new module that has had ``config.after``, and then the preparation."""
        module = self.build(config)
        own = self.renamed(module, own_weights(self._conventions, weights))
        first = own
        if config.after == "used" or config.preparation in {"used", "functional_call"}:
            first = others(module, own)
        with torch.no_grad():
            load(module, first)
        if config.after == "functional_call":
            self._use(in_mode(module, config), config, others(module, own))
        elif config.after == "used":
            self._use(in_mode(module, config), config)
        else:
            module = prepared_in_place(module, config.replace(preparation=config.after), first, self.build)
        if config.preparation == "used":
            self._use(in_mode(module, config), config)
        if first is not own and config.preparation not in WEIGHT_SETTING:
            renew(module, own)
        return in_mode(prepared_in_place(module, config, own, self.build), config)

    def call(self, module: torch.nn.Module, parameters: Tensors | None, *arguments: Any, **named: Any) -> Any:
        """Return what a module returns, on its own parameters or on those that are given. This is the third step."""
        if parameters is None:
            return module(*arguments, **named)
        return torch.func.functional_call(module, dict(parameters), arguments, named, tie_weights=False)

    def of_lengths(self, x: torch.Tensor, config: RNNConfig) -> tuple[Any, dict[str, Any]]:
        """Return x as it is given for the lengths of a config, and what else is given by name."""
        return (x if config.lengths is None else packed(x, config)), {}

    def padded(self, returned: Any, config: RNNConfig) -> Any:
        """Return what a call of several lengths returned, with zeros where an output has no step."""
        return padded(returned, config)

    def holder(self, module: torch.nn.Module) -> torch.nn.Module:
        """Return the module that holds the parameters of the one that is called."""
        return module

    def renamed(self, module: torch.nn.Module, weights: Tensors) -> dict[str, torch.Tensor]:
        """Return weights under a module's own names."""
        return renamed(module, weights)

    def parameters(self, module: torch.nn.Module, config: RNNConfig) -> dict[str, torch.Tensor]:
        """Return the parameters that gradients are asked by, by nn.RNN's names."""
        return parameters_of(with_both_biases(self._conventions, parameters_by_name(self.holder(module))), config)

    def gradients_back(self, gradients: Tensors, config: RNNConfig) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """Return the gradients by the parameters that they were asked by as nn.RNN has them."""
        return gradients_back(self._conventions, gradients)

    def differentiate(
        self, roots: Sequence[torch.Tensor], by: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor]
    ) -> Sequence[torch.Tensor | None]:
        """Return the gradient by each tensor, ``None`` where there is none. This is the fourth step."""
        return torch.autograd.grad(roots, by, cotangents, allow_unused=True)

    def exact_relations(self, config: RNNConfig) -> frozenset[str]:
        """Return the relations that the class keeps to the bit.

        There are none if nothing is known of the class, none on another device, and none that were measured of gates.
        """
        if not self._facts.exact or config.device != "cpu" or config.gated:
            return frozenset()
        return EXACT_IN_ORDER if in_order(config) else EXACT_RELATIONS

    def masks(self, case: Case) -> list[Array] | None:
        """Return what dropout keeps of each inner layer's output in ``run``, time first, (T, N, D*H), as booleans.

        ``nn.RNN`` on a CPU draws one mask after the other. The dropout function draws the same masks from an array of
        ones under the same seed. For another device, and for a class of which this is not known, the result is
        ``None``.
        """
        config = case.config
        if not self._facts.draws_masks or config.device != "cpu":
            return None
        features = config.num_directions * config.h_size
        ones = torch.ones(config.T, config.N, features)
        pack = None if config.lengths is None else packed(ones, config.replace(batch_first=False))
        masks: list[Array] = []
        with seeded(case.seed):
            for _ in range(config.num_layers - 1):
                if pack is None:
                    mask = torch.nn.functional.dropout(ones, config.dropout)
                else:
                    data = torch.nn.functional.dropout(pack.data, config.dropout)
                    mask, _ = pad_packed_sequence(pack._replace(data=data), total_length=config.T)
                masks.append(to_numpy(mask != 0))
        return masks

    def perform(self, code: str, dtype: str, device: str) -> Outcome:
        """Run the code of a call, malformed or not, in which ``RNN`` is the class, with a default dtype and device."""
        before = torch.get_default_dtype()

        def made() -> dict[str, Array]:
            torch.set_default_dtype(getattr(torch, dtype))
            with torch.device(device) if device != "cpu" else contextlib.nullcontext():
                exec(code, {"torch": torch, "RNN": self._factory})  # noqa: S102 - from the table in checks/malformed.py
            return {}

        try:
            return attempt(made)
        finally:
            torch.set_default_dtype(before)

    def run(self, case: Case) -> Outcome:
        """Load the case's weights into a module of its config, and call it."""
        return self._attempt(case, partial(self._once, case))

    def run_filled(self, case: Case, number: float) -> Outcome:
        """Run a case with memory that is not written yet filled with a number."""
        with filled(number):
            return self.run(case)

    def run_as(self, case: Case, conventions: Conventions) -> Outcome:
        """Run a case as if the class had declared other conventions."""
        if conventions.last_output_only:
            return Outcome(failure=Failure.UNSUPPORTED, message="a class returns output and h_n")
        made = type(self).__new__(type(self))
        made.__setstate__({**self.__getstate__(), "_conventions": conventions})
        return made.run(case)

    def run_twice(self, case: Case) -> Outcome:
        """Run the case, and find out which results a second call of the module, with other inputs, overwrites.

        On meta there is no second call, because nothing has numbers there.
        """
        work = self._once if case.config.device == "meta" else self._twice
        return self._attempt(case, partial(work, case))

    def check_derivatives(self, case: Case) -> Outcome:
        """Compare the derivatives of the results that the loss reads, and of the gradients, with differences."""
        return self._attempt(case, partial(self._derivatives, case))

    def _attempt(self, case: Case, work: Callable[[Tensors, _Noticed], Mapping[str, Array]]) -> Outcome:
        """Return the outcome of some work on a copy of the case's arrays."""
        lent: dict[str, torch.Tensor] = {}
        noticed = _Noticed()

        def call() -> Mapping[str, Array]:
            lent.update(tensors_of(case, case.arrays))
            return work(lent, noticed)

        with _without_advice(case.config):
            outcome = attempt(call)
        arrays = {} if case.config.device == "meta" else {name: to_numpy(tensor) for name, tensor in lent.items()}
        return dataclasses.replace(
            outcome,
            message=noticed.wrong or outcome.message,
            changed_inputs=changed(arrays, case),
            aliased=noticed.aliased,
            overwritten=noticed.overwritten,
            not_returned=tuple(name for name in self.lacking(case.config) if name not in outcome.arrays),
        )

    def _once(self, case: Case, lent: Tensors, noticed: _Noticed) -> Mapping[str, Array]:
        module = self._prepared(case.config, lent)
        with grad_mode(case.config):
            done, gradients = self._results(case, module, lent)
            noticed.aliased = done.aliased
            return done.named | as_arrays(gradients)

    def _twice(self, case: Case, lent: Tensors, noticed: _Noticed) -> Mapping[str, Array]:
        config = case.config
        module, second = self._prepared(config, lent), with_other_inputs(case)
        with grad_mode(config):
            done, gradients = self._results(case, module, lent)
            noticed.aliased = done.aliased
            held = HeldResults({**done.own, **gradients})
            others = {**lent, **tensors_of(second, (*config.inputs, *config.cotangents))}
            attempt(lambda: self._results(second, module, others)[0].named)
            noticed.overwritten = held.overwritten()
            return done.named | {name: held.arrays[name] for name in gradients}

    def _results(self, case: Case, module: torch.nn.Module, lent: Tensors) -> tuple[ForwardPass, Tensors]:
        """Return what the module gives, forward, and backward if there is a loss."""
        done, config = self._outputs(case, module, lent), case.config
        of_the_form = all(array.shape == config.outputs[name].shape for name, array in done.named.items())
        if config.loss is None or not of_the_form:
            return done, {}
        beside = self._outputs(case, self._tied(module, config, lent), lent) if config.tied else None
        return done, self._gradients(case, done, lent, beside)

    def _tied(self, module: torch.nn.Module, config: RNNConfig, lent: Tensors) -> torch.nn.Module:
        twin, weights = self.build(structure(config, self.built_for)), self._weights(config, lent)
        with torch.no_grad():
            load(twin, self.renamed(twin, own_weights(self._conventions, weights)))
        tie(twin, module)
        return in_mode(twin, config)

    def _prepared(self, config: RNNConfig, lent: Tensors) -> torch.nn.Module:
        self._conventions.refuse(config)
        return self.prepare(config, self._weights(config, lent))

    @staticmethod
    def _weights(config: RNNConfig, lent: Tensors) -> Tensors:
        return {name: lent[name] for name in config.weights if not name.startswith("readout")}

    def _outputs(self, case: Case, module: torch.nn.Module, lent: Tensors) -> ForwardPass:
        config = case.config
        inputs = {name: lent[name] for name in config.inputs}
        weights = {name: lent[name] for name in config.weights}
        readout = [tensor for name, tensor in weights.items() if name.startswith("readout")]
        by = set() if config.loss is None else {name.removesuffix(".grad") for name in config.gradients}
        if config.loss is not None:
            inputs = {name: tensor.detach().requires_grad_(name in by) for name, tensor in inputs.items()}
            readout = [tensor.detach().requires_grad_("readout.weight" in by) for tensor in readout]
        with frozen(module, config):
            raw, own = self._called(module, case, inputs, weights)
            returned = raw if config.lengths is None else self.padded(raw, config)
            with autocast(config):
                results = self._by_name(returned, config)
                named = as_arrays(results)
                own_results = {name: data_of(value) for name, value in self._by_name(raw, config).items()}
                _require_device(results, config)
                if readout:
                    results["readout"] = torch.nn.functional.linear(torch.as_tensor(returned[0]), *readout)
                    named["readout"] = as_array("readout", results["readout"])
        leaves = {**inputs, **dict(zip((name for name in weights if name.startswith("readout")), readout, strict=True))}
        every = {f"{name}.grad": tensor for name, tensor in {**leaves, **own}.items()}
        sources = {name: every[name] for name in config.gradients if name in every}
        if config.loss is not None and config.wrt != "inputs":
            sources |= {f"{name}.grad": tensor for name, tensor in own.items()}
        return ForwardPass(named, results, own_results, sources, _aliased(results, {**inputs, **own}))

    def _by_name(self, returned: Any, config: RNNConfig) -> dict[str, Any]:
        named = by_name(returned, config, readout=False)
        return {name: value for name, value in named.items() if value is not None or name not in self.not_returned}

    def _called(
        self, module: torch.nn.Module, case: Case, inputs: Tensors, weights: Tensors
    ) -> tuple[Any, dict[str, torch.Tensor]]:
        config = case.config
        x, named = self.of_lengths(inputs["x"], config)
        own: dict[str, torch.Tensor] = {}
        if config.loss is not None:
            own = self.parameters(module, config)
        call = partial(self.call, module, None)
        if config.preparation == "functional_call":
            own = {name: tensor for name, tensor in weights.items() if not name.startswith("readout")}
            own = {name: tensor.detach().requires_grad_(config.wrt != "inputs") for name, tensor in own.items()}
            call = partial(self.call, module, self.renamed(module, own_weights(self._conventions, own)))
        with seeded(case.seed) if config.drops else contextlib.nullcontext(), autocast(config):
            returned = call(x, *states_of(inputs, config), **named)
        return returned, own

    def calls_before(self, config: RNNConfig) -> tuple[RNNConfig, ...]:
        """Return the configs of the calls that a used module had before."""
        return config.calls_before

    def _use(self, module: torch.nn.Module, config: RNNConfig, parameters: Tensors | None = None) -> None:
        """Call a module at other sizes, and backward if there is a loss, on its own parameters or on those given."""
        dtype = getattr(torch, config.dtype)
        with grad_mode(config), frozen(module, config):
            for before in self.calls_before(config):
                inputs = {
                    name: torch.ones(spec.shape, device=config.device, dtype=dtype)
                    for name, spec in before.inputs.items()
                }
                with autocast(config):
                    returned = self.call(module, parameters, inputs["x"], *states_of(inputs, before))
                output = next(part for part in returned if part is not None)
                if config.loss is not None and output.requires_grad:
                    output.sum().backward()
                    module.zero_grad()

    def _derivatives(self, case: Case, lent: Tensors, noticed: _Noticed) -> Mapping[str, Array]:
        config, names = case.config, [*case.config.inputs, *case.config.weights]
        module = in_mode(self.build(config), config)

        def results(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            values = dict(zip(names, tensors, strict=True))
            own = own_weights(self._conventions, {name: values[name] for name in config.weights})
            returned = self.call(module, self.renamed(module, own), values["x"], *states_of(values, config))
            named = self._by_name(returned, config)
            return tuple(named[name.removesuffix(".grad")] for name in case.cotangents)

        with torch.enable_grad():
            copies = {name: lent[name].detach().clone().requires_grad_() for name in (*names, *case.cotangents)}
            leaves, cotangents = ([copies[name] for name in group] for group in (names, case.cotangents))
            noticed.wrong = wrong_derivatives(results, leaves, cotangents)
        return {}

    def _gradients(
        self, case: Case, done: ForwardPass, lent: Tensors, beside: ForwardPass | None
    ) -> dict[str, torch.Tensor]:
        """Return autograd's gradient for each tensor asked for; tensors without one are left out.

        A run ``beside`` is the call of another module that shares the parameters.
        """
        names = [name.removesuffix(".grad") for name in case.cotangents]
        roots = [done.results[name] for name in names]
        cotangents = [lent[name] for name in case.cotangents]
        for i, root in enumerate(roots):
            if cotangents[i].dtype != root.dtype:  # a conversion would make the copy contiguous
                cotangents[i] = laid_out(cotangents[i].to(root.dtype), case.config.strides, constant=True)
        # Nothing flows back from a result that is detached, but autograd raises an error if it is given one.
        attached = [i for i, root in enumerate(roots) if root.requires_grad]
        roots, cotangents = [roots[i] for i in attached], [cotangents[i] for i in attached]
        gradients: Sequence[torch.Tensor | None] = (None,) * len(done.sources)
        by = list(done.sources.values())
        if attached and (case.config.tied or case.config.grad_mode == "accumulate"):
            second = None
            if beside is not None:
                second = Graph([beside.results[names[i]] for i in attached], list(beside.sources.values()))
            gradients = accumulated(Graph(roots, by), cotangents, second)
        elif attached:
            gradients = self.differentiate(roots, by, cotangents)
        raw = dict(zip(done.sources, gradients, strict=True))
        if "readout.grad" not in case.cotangents:  # a readout that no loss reads has no gradient, which counts as zero
            raw |= {n: torch.zeros_like(t) for n, t in done.sources.items() if n.startswith("readout")}
        present = {name: gradient for name, gradient in raw.items() if gradient is not None}
        config = case.config
        return present if config.preparation == "functional_call" else self.gradients_back(present, config)

    def _keeping(self) -> Callable[[RNNConfig], torch.nn.Module]:
        """Return a function that gives a config's module.

        Modules are kept only if they forget earlier calls, because the case decides whether a module was used before.
        """
        return lru_cache(MODULES)(self.build) if self._facts.forgets else self.build


def of_cell(cell: str) -> dict[str, tuple[Any, ...]]:
    """Return what a layer of torch's is asked for because of its cell; under autocast, gates compute in two dtypes."""
    if cell == "RNN":
        return {}
    # In which sums a gate is open, so that dropout shows, is known of torch's own cells alone.
    return {**offers_of(cell), "autocast": (None,), **({"training": (False,)} if cell not in CELLS else {})}


def gru() -> TorchSubject:
    """Return torch's nn.GRU."""
    return TorchSubject(torch.nn.GRU, "torch:gru")


def lstm() -> TorchSubject:
    """Return torch's nn.LSTM."""
    return TorchSubject(torch.nn.LSTM, "torch:lstm")


@contextlib.contextmanager
def _without_advice(config: RNNConfig) -> Iterator[None]:
    """Leave out torch's advice that nn.LSTM takes its other path for a projection, which the config chose."""
    if not config.proj_size:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections is not supported", UserWarning)
        yield


def states_of(inputs: Tensors, config: RNNConfig) -> list[Any]:
    """Return the argument for the initial states: none, a tensor, or a tuple of tensors."""
    states = [inputs[name] for name in config.hidden]
    return states if len(states) < 2 else [tuple(states)]


def in_order(config: RNNConfig) -> bool:
    """Return whether torch multiplies contiguous arrays, adds a bias to them, and casts nothing.

    Otherwise it chooses among kernels that sum in different orders, depending on memory and on the gradients asked for.
    """
    return config.strides == "contiguous" and not config.batch_first and config.bias and config.autocast is None


def _require_device(results: Tensors, config: RNNConfig) -> None:
    """Raise ``MalformedResultError`` for a tensor that is not on the inputs' device."""
    here = torch.device(config.device)
    for name, tensor in results.items():
        there = getattr(tensor, "device", here)
        if there.type != here.type or (here.index is not None and there.index != here.index):
            raise MalformedResultError(f"returned {name} on {there}, expected it on {here}, where x is")


def _aliased(results: Tensors, inputs: Tensors) -> tuple[tuple[str, str], ...]:
    """Return which results share memory with what was given, or with each other."""
    owners: dict[int, str] = {_storage(tensor): name for name, tensor in inputs.items() if tensor.numel()}
    pairs: list[tuple[str, str]] = []
    for name, tensor in results.items():
        if not isinstance(tensor, torch.Tensor) or tensor.device.type == "meta" or not tensor.numel():
            continue
        owner = owners.setdefault(_storage(tensor), name)
        if owner != name:
            pairs.append((name, owner))
    return tuple(pairs)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
