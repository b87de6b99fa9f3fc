"""network_run: the arrays that a network gives on a case: the sums of its steps, its wiring, and what is clipped.

Everything outside of the steps moves numbers from place to place, on a tape, so that the way back is its adjoint; a
wiring of the way back of its own moves the gradients otherwise.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from harness.diagnosis.effort import spend_run
from harness.diagnosis.identify.activations import Activation, Numbers
from harness.diagnosis.identify.autodiff import Var, backward as differentiate
from harness.diagnosis.identify.ball import Ball, SubjectRounding
from harness.diagnosis.identify.gates import GatedModel, rows_of
from harness.diagnosis.identify.gather import Gather, columns, concatenated, each, rows, stack, value_of
from harness.diagnosis.identify.layer import (
    FINAL_STATES,
    backward,
    by_states,
    enter,
    forward,
    gradient,
    limited,
    norm_of,
    shrunk,
    slopes,
    written_of,
)
from harness.diagnosis.identify.line import Line, function_of
from harness.diagnosis.identify.model import DERIVATIVE, ROLES, LayerModel, Network, WeightedTerms
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.identify.terms import RIGHT_SLOPE, LayerTrace
from harness.diagnosis.identify.wiring_choices import (
    OWN_WIRING,
    WAYS,
    Ints,
    LayersByDirections,
    Place,
    Wiring,
    at_place,
    by_sequence,
    lengths_of,
)
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np
from harness.space.case import Case, padding
from harness.space.config import PROJECTION, role_of, weight_names

# A sum of products may be arranged in another way, (1 - z) n + z h as n + z (h - n): its partial results are at most
# twice as large, and each takes at most twice the roundings.
ARRANGED_ROUNDINGS: Final = 4


# What a returned gradient of a layer with gates may be multiplied by.
GRADIENT_SCALE: Final = {
    text: function_of(text, "N", "T") for text in ("0", "1 / N", "1 / T", "1 / (N * T)", "2", "0.5", "-1")
}


class SequenceGroup(NamedTuple):
    """The sequences of a direction that take their steps together."""

    sequences: Ints
    steps: int


@lru_cache(maxsize=64)
def _gathers(*_key: Any) -> dict[Any, Any]:
    """Return the gathers that were made of the numbers of cases whose wiring and sizes are the same."""
    return {}


class NetworkRun:
    """A network on its way through a plain case, as ``Case.plain`` has it."""

    def __init__(
        self,
        network: Network,
        case: Case,
        rounding: SubjectRounding | None = None,
        states: Mapping[Place, Floats] | None = None,
        *,
        by_step: bool = False,
    ) -> None:
        """Run on numbers, or with ``rounding`` on balls; ``by_step``, a derived network tells each step's gradients.

        ``states`` (T, N, H) by place, in the order of its steps, are what each step and the way back read in place of
        the network's own.
        """
        config = self.config = case.config
        if config.gated and rounding is not None:
            rounding = rounding._replace(u=ARRANGED_ROUNDINGS * rounding.u)
        self.network, self.case, self.rounding = network, case, rounding
        self.derived = (network.derived and config.loss is not None) or config.gated  # else there is no way back
        # The width of all states side by side.
        self.width = config.h_size + config.hidden_size * (len(config.form.hidden) - 1)
        self._states = states or {}
        self.forward_wiring = network.wiring
        self.backward_wiring = network.back or network.wiring
        self.lengths = lengths_of(config)
        self.stack = LayersByDirections(config.num_layers, config.num_directions)
        self._letters = {name: getattr(config, name) for name in ("T", "N", "batch_first")}
        self._letters |= {"D": self.stack.D, "H": config.h_size}
        self.leaves: dict[str, Var] = {}
        self.traces: dict[tuple[int, int, int], LayerTrace] = {}  # by layer, direction and group
        self._by_step = by_step
        # What traces read whose gradients may be sums of da.
        self.taped: dict[tuple[int, int, int], dict[str, Var]] = {}
        self.parts: dict[tuple[str, tuple[int, int, int], int], Var] = {}  # of their steps, by role or "da" or "dh"
        self.of_parts: dict[tuple[str, tuple[int, int, int], int], Numbers] = {}  # the gradients by these
        self.nodes: list[Var] = []  # what the traces give
        self._finals: dict[Place, Var] = {}
        sizes = (*self.stack, config.T, config.N, config.h_size, self.width, config.batch_first, config.lengths)
        self._gathers = _gathers(self.forward_wiring, self.backward_wiring, network.ignores_padding, sizes)
        self.fed = rows(self._leaf("x"), self._gather("x", self._fed))

    def _number(self, array: Any) -> Numbers:
        values = np.asarray(array, np.float64)
        return values if self.rounding is None else Ball(values, 0.0, self.rounding)

    def _leaf(self, name: str) -> Var:
        """Return an array of the case on the tape."""
        if name not in self.leaves:
            self.leaves[name] = Var(self._number(self.case.arrays[name]))
        return self.leaves[name]

    def _gather(self, what: Any, index: Callable[[Wiring], Ints]) -> Gather:
        if what not in self._gathers:
            self._gathers[what] = Gather(index(self.forward_wiring), index(self.backward_wiring))
        gather: Gather = self._gathers[what]
        return gather

    # Indices: each is where the numbers of a result lie in what it is made of.

    def _value(self, wiring: Wiring, slot: str, **letters: Any) -> Any:
        """Return the value of a wiring's choice in a slot on this case."""
        return Line(wiring.text(slot)).of(self._letters | letters)

    def _by_sequence(self, wiring: Wiring, slot: str) -> Ints:
        return by_sequence(wiring.text(slot), self.config.T, tuple(self.lengths))

    def _sequences(self, wiring: Wiring, d: int, slot: str) -> Ints:
        """Return the sequence that each one is given, or gives; as in NumPy, -1 is the last."""
        return self._by_sequence(wiring, f"{WAYS[d]}.{slot}") % max(self.config.N, 1)

    def _at_step(self, t: Any, n: Any) -> Ints:
        """Return where step t of sequence n lies among (t, n); -1 if there is no such step."""
        return np.where((t >= 0) & (t < self.config.T), t * self.config.N + n, -1)

    def _laid_out(self, wiring: Wiring, slot: str) -> Ints:
        """Return where (t, n) lies in an array with the layout of x or an output."""
        T, N = self.config.T, self.config.N
        t, n = np.arange(T)[:, None], np.arange(N)
        return n * T + t if self.config.batch_first != self._value(wiring, slot) else t * N + n

    def _fed(self, wiring: Wiring) -> Ints:
        """Return where what step t of sequence n is fed lies in x; -1 if that is a zero."""
        counts = np.arange(self.config.T)[:, None] < (self.lengths if self.network.ignores_padding else self.config.T)
        return np.where(counts, self._laid_out(wiring, "x_layout"), -1)

    def _row_laid_out(self, wiring: Wiring, slot: str, row: Any, n: Any) -> Ints:
        """Return where a row and sequence lies in hx or h_n."""
        R, N = self.stack.L * self.stack.D, self.config.N
        return np.asarray(n * R + row if self._value(wiring, slot) else row * N + n, np.intp)

    def _steps(self, wiring: Wiring, d: int) -> Ints:
        slot = f"{WAYS[d]}.steps"
        if self.config.lengths is None and " if " not in wiring[slot]:  # a batch without lengths tells none
            return self.lengths
        return self._by_sequence(wiring, slot)

    def _read(self, wiring: Wiring, d: int, group: SequenceGroup) -> Ints:
        """Return where what step k of a sequence reads lies among (t, n)."""
        steps = self._steps(wiring, d)[group.sequences]
        t = self._value(wiring, f"{WAYS[d]}.reads", k=np.arange(group.steps)[:, None], steps=steps)
        return self._at_step(t, self._sequences(wiring, d, "x_of")[group.sequences])

    def _start(self, wiring: Wiring, name: str, at: Place, sequences: Ints) -> Ints:
        """Return where the initial state of some sequences lies in hx, or cx."""
        n = self._sequences(wiring, at[1], "hx_of")[sequences]
        index = self._row_laid_out(wiring, "hx_layout", wiring.at_place(f"{name}_row", at, self.stack), n)
        return np.where(self._by_sequence(wiring, f"{WAYS[at[1]]}.started")[sequences], index, -1)

    def _written(self, wiring: Wiring, d: int, groups: list[SequenceGroup]) -> Ints:
        """Return where each (t, n) of an output lies among the steps of all groups; -1 if no step wrote it."""
        T, N = self.config.T, self.config.N
        index, start = np.full((T, N), -1), 0
        steps = self._steps(wiring, d)
        for group in groups:
            k = np.arange(group.steps)[:, None]
            own = start + k * len(group.sequences) + np.arange(len(group.sequences))
            t = self._value(wiring, f"{WAYS[d]}.writes", k=k, steps=steps[group.sequences]) + 0 * own
            n = group.sequences + 0 * own
            there = (t >= 0) & (t < T)
            index[t[there], n[there]] = own[there]
            start += group.steps * len(group.sequences)
        return index[:, self._sequences(wiring, d, "output_of")]

    def _final(self, wiring: Wiring, d: int) -> Ints:
        """Return where h_n of each sequence lies among (t, n)."""
        t = np.maximum(self._by_sequence(wiring, f"{WAYS[d]}.final"), 0)
        return t * self.config.N + np.arange(self.config.N)

    def _of_last(self, name: str, wiring: Wiring) -> Ints:
        """Return where each row and sequence of h_n, or c_n, lies among the last states by place."""
        L, D, N = *self.stack, self.config.N
        index = np.full((L * D, N), -1)
        for at in ((layer, d) for layer in range(L) for d in range(D)):
            row, place, where = (wiring.at_place(f"{name}_{of}", at, self.stack) for of in ("row", "place", "where"))
            if where:
                layer, d = place
                index[row] = (layer * D + d) * N + self._sequences(wiring, d, "h_n_of")
        return index

    def _features(self, slot: str, d: int = 0) -> Gather:
        return self._gather((slot, d), lambda wiring: self._halves(wiring, slot, d))

    def _halves(self, wiring: Wiring, slot: str, d: int) -> Ints:
        """Return the features of an output, of those of the two directions side by side; -1 is a zero."""
        forward, reverse = np.arange(1, 2 * self.config.h_size + 1).reshape(2, -1)  # from 1, as 0 stands for zeros
        if self.stack.D == 1:
            return forward - 1
        halves = self._value(wiring, slot, forward=forward, reverse=reverse, d=d)
        return np.hstack([np.broadcast_to(half, forward.shape) for half in halves]) - 1

    def _columns(self, start: int, end: int) -> Gather:
        return self._gather((start, end), lambda _wiring: np.arange(start, end))

    # The way forward.

    def groups(self, d: int) -> list[SequenceGroup]:
        """Return the sequences of a direction, by what takes its steps together."""
        if ("groups", d) not in self._gathers:
            steps = self._steps(self.forward_wiring, d)
            every = np.arange(self.config.N)
            if self.forward_wiring["carries"]:
                groups = [SequenceGroup(every[n : n + 1], int(steps[n])) for n in every]
            else:
                groups = [SequenceGroup(np.flatnonzero(steps == k), int(k)) for k in np.unique(steps)]
            self._gathers["groups", d] = groups or [SequenceGroup(every, self.config.T)]
        cached: list[SequenceGroup] = self._gathers["groups", d]
        return cached

    def _initial(self, at: Place, g: int, sequences: Ints) -> Var:
        """Return the states that some sequences of a layer and direction start from, side by side."""
        if not self.config.hidden:
            return Var(self._number(np.zeros((len(sequences), self.width))))
        read = []
        for name in self.config.hidden:
            index = partial(self._start, name=name, at=at, sequences=sequences)
            read.append(rows(self._leaf(name), self._gather((name, at, g, len(sequences)), index)))
        return concatenated(read, -1)

    def trace(
        self, at: Place, g: int, group: SequenceGroup, x: Var, start: Var | None = None
    ) -> tuple[LayerTrace, dict[str, Var]]:
        """Return the trace of a group of a layer and direction, and what of it is on the tape, by role.

        ``x`` (T, N, F) is what its layer reads.
        """
        layer, d = at
        N, R = len(group.sequences), self.config.weights[weight_names(*at)[0]].shape[0]
        start = self._initial(at, g, group.sequences) if start is None else start
        lost = self.backward_wiring.at_place("gradient_stop", at, self.stack)
        with_parameters = self.backward_wiring["gradient_stop"] == "through reverse"
        x = Var(x.value) if lost and not with_parameters else x
        key = (d, g, group.steps, N)  # the same group, if it has as many sequences
        xs = rows(x, self._gather(("read", *key), lambda wiring: self._read(wiring, d, group)))
        taped = {"x": xs, "hx": start} | self._weights(at)
        if lost and with_parameters:
            taped = {role: Var(v.value) for role, v in taped.items()}
        operands = taped if self.derived else {role: v.value for role, v in taped.items()}
        parameters = [operands.get(role, np.zeros(R)) for role in ROLES[:4]]
        f = LayerTrace([operands["x"][k] for k in range(group.steps)], operands["hx"], *parameters)
        f.W_hr = operands.get(PROJECTION)
        if self.derived and not self.config.gated and (self._by_step or self._model(at)[0].gradient_sums):
            self.taped[layer, d, g] = taped
            f.x = [self._part((layer, d, g), "x", t, v) for t, v in enumerate(f.x)]
            f.hx = self._part((layer, d, g), "hx", 0, f.hx)
            f.reads = partial(self._parameters, (layer, d, g))
        return f, taped

    def _parameters(self, key: tuple[int, int, int], t: int, reads: Sequence[Any]) -> list[Any]:
        return [
            self._part(key, role, t, v) if role in self.taped[key] else v for role, v in zip(ROLES, reads, strict=False)
        ]

    def _part(self, key: tuple[int, int, int], role: str, t: int, v: Var) -> Var:
        """Return what a step reads of an array, whose part of the gradient is known and may go on as a multiple."""

        def goes(g: Any) -> Any:
            f, terms = self.traces[key], self._sum_of(key, role)
            return g if terms is None else g * sum(coef.of(f, t) for name, coef in terms if name == DERIVATIVE)

        part = self.parts[role, key, t] = Var(v.value, ((v, goes),))
        return part

    def _sum_of(self, key: tuple[int, int, int], role: str) -> WeightedTerms | None:
        """Return the sum of a gradient that a derived network returns; ``None`` if that is the derivative."""
        return self._model(key[:2])[0].gradient_sums.get(role)

    def _weights(self, at: Place) -> dict[str, Var]:
        """Return the parameters of a layer and direction on the tape, by role."""
        weights: dict[str, Var] = {}
        for role, own in zip(ROLES, weight_names(*at, bias=self.config.bias), strict=False):
            read, back = (
                self._leaf(self._source(wiring["weights"], own))
                for wiring in (self.forward_wiring, self.backward_wiring)
            )
            weights[role] = read if read is back else Var(read.value, ((back, lambda g: g),))
        if self.config.proj_size:
            weights[PROJECTION] = self._leaf(weight_names(*at, projected=True)[-1])
        if self.forward_wiring["matrices"] != OWN_WIRING["matrices"]:
            ih, hh = weights["weight_ih"], weights["weight_hh"]
            first = np.arange(int(np.prod(ih.shape))).reshape(ih.shape)
            second = first.size + np.arange(int(np.prod(hh.shape))).reshape(hh.shape)
            both = concatenated([flat(ih), flat(hh)], 0)
            laid = self._value(self.forward_wiring, "matrices", W_ih=first, W_hh=second, H=len(second))
            for role, index in zip(ROLES, laid, strict=False):
                weights[role] = rows(both, Gather(index), lead=1)
        return weights

    def _source(self, places: Iterable[tuple[str, str]], own: str) -> str:
        """Return the name of the parameter that takes the place of another one, if that has the same shape."""
        by_role = dict(places)
        if (role := role_of(own)) not in by_role:
            return own
        name = weight_names(*at_place(by_role[role], place_of(own), self.stack), bias=True)[ROLES.index(role)]
        return name if self.case.arrays[name].shape == self.case.arrays[own].shape else own

    def advance(self, layers: int | None = None) -> Var:
        """Go forward through all layers, or through some, and return what the last one passes on (T, N, D*H)."""
        x = self.fed
        last = max(self.forward_wiring.at_place("layers", (0, 0), self.stack), 1)
        for layer in range(last if layers is None else layers):
            read = self._input(layer, x)
            output = self._layer(layer, read, layer == self.stack.L - 1)
            x = self._dropped(layer, output) if layer < self.stack.L - 1 else output
        return x

    def _input(self, layer: int, x: Var) -> Var:
        fits = layer > 0 and self.fed.shape == x.shape
        return self._value(self.forward_wiring, "input", below=x, x=self.fed) if fits else x

    def _layer(self, layer: int, x: Var, top: bool) -> Var:
        config, parts = self.config, list[Var]()
        for d in range(self.stack.D):
            if d and self.forward_wiring["directions"] == "1":
                parts.append(Var(self._number(np.zeros((config.T, config.N, config.h_size)))))
                self._finals[layer, d] = Var(self._number(np.zeros((config.N, self.width))))
                continue
            read = columns(x, self._features("inner", d)) if layer else x
            parts.append(self._direction((layer, d), read))
        if not top and self.stack.D > 1:
            parts[1] = rows(parts[1], self._gather("inner_reverse", self._inner_reverse))
        output = columns(concatenated(parts, -1), self._features("joined"))
        if self.forward_wiring["padding"] == "0" and config.lengths is not None:
            output = output * (np.arange(config.T)[:, None] < self.lengths)[..., None].astype(np.float64)
        skip = self.forward_wiring.at_place("skip", (layer, 0), self.stack)
        beside = self.fed if self.forward_wiring["skip"] == "x" else x
        return output + beside if skip and beside.shape == output.shape else output

    def _inner_reverse(self, _wiring: Wiring) -> Ints:
        """Return where (t, n) of a reverse direction, as the layer above reads it, lies in what that wrote."""
        t = self._value(self.forward_wiring, "inner_reverse", t=np.arange(self.config.T)[:, None])
        return self._at_step(t, np.arange(self.config.N))

    def _direction(self, at: Place, x: Var) -> Var:
        """Compute one layer and direction, and return its output (T, N, H)."""
        layer, d = at
        config, H = self.config, self.config.h_size
        groups = self.groups(d)
        steps, finals, start = list[Var](), list[Var](), None
        for g, group in enumerate(groups):
            if group.steps == 0:
                finals.append(Var(self._number(np.zeros((len(group.sequences), self.width)))))
                continue
            node = self._node(at, g, group, x, start)
            steps.append(flat(columns(node[: group.steps], self._columns(0, H)), 2))
            finals.append(node[group.steps])
            start = finals[-1] if self.forward_wiring["carries"] else None
        wrote = concatenated(steps, 0) if steps else Var(self._number(np.zeros((0, H))))
        output = rows(wrote, self._gather(("written", d), lambda wiring: self._written(wiring, d, groups)), 1)

        def in_turn(_wiring: Wiring) -> Ints:
            return np.argsort(np.concatenate([group.sequences for group in groups]), kind="stable")

        final = rows(concatenated(finals, 0), self._gather(("in turn", d), in_turn), lead=1)
        if self.forward_wiring["padding"] == "held" and config.lengths is not None:
            beyond = (np.arange(config.T)[:, None] >= self._steps(self.forward_wiring, d))[..., None].astype(np.float64)
            held = columns(final if d == 0 else self._initial(at, -1, np.arange(config.N)), self._columns(0, H))
            output = output * (1 - beyond) + held * beyond
        slot = f"{WAYS[d]}.final"
        if self.forward_wiring[slot] or self.backward_wiring[slot]:
            of_h = columns(final, self._columns(0, H))
            read, back = (
                rows(output, Gather(self._final(wiring, d))) if wiring[slot] else of_h
                for wiring in (self.forward_wiring, self.backward_wiring)
            )
            of_h = Var(read.value, ((back, lambda g: g),))
            final = concatenated([of_h, columns(final, self._columns(H, self.width))], -1) if self.width > H else of_h
        if self.forward_wiring["drops_last"] and (factor := self._factor(self.forward_wiring, layer)) is not None:
            t = self.lengths - 1 if d == 0 else 0 * self.lengths
            last = factor[t, np.arange(config.N), d * H : (d + 1) * H]
            ones = np.ones_like(last)
            of_each = [last if name in self.forward_wiring["drops_last"] else ones for name in config.form.final]
            final = final * np.concatenate(of_each[: self.width // H], -1)
        self._finals[at] = final
        return output

    def _node(self, at: Place, g: int, group: SequenceGroup, x: Var, start: Var | None) -> Var:
        """Compute the steps of a group: return what each of them gives, and then the last states (steps + 1, N, H)."""
        layer, d = at
        f, taped = self.trace(at, g, group, x, start)
        self.traces[layer, d, g] = f
        self._beside_others(f, at, g, group)
        model, nonlinearity, slope = self._model(at)
        own: Any = self._states.get(at)
        own = None if own is None else own[: group.steps, group.sequences]
        own = own if own is None or self.rounding is None else [Ball(h, 0.0, self.rounding) for h in own]
        if isinstance(model, GatedModel):
            f.continues_tape = partial(goes_on, model.passes, f.T)
            return rows_of(model, f, own, forward_only=self.config.loss is None)
        if self.derived:
            f.continues_tape = partial(goes_on, model.passes, f.T)
            forward(model, f, nonlinearity, own)
            return stack([*written_of(model, f, nonlinearity), FINAL_STATES[model.final](f)])
        forward(model, f, nonlinearity, own)
        back = TraceBackward(model, f, slope, enters="h_n.grad" in self.case.cotangents)
        made = tuple((taped[role], partial(back.by, role)) for role in ROLES if role in taped)
        self.nodes.append(Var(np.stack([*written_of(model, f, nonlinearity), FINAL_STATES[model.final](f)]), made))
        return self.nodes[-1]

    def _model(self, at: Place) -> tuple[LayerModel, str, str]:
        """Return the model of a layer and direction, its nonlinearity, and that whose slope is taken."""
        model = self.network.of(*at, self.stack)
        kind, slope = (
            wiring["activation"] if wiring.at_place("activation_where", at, self.stack) else ""
            for wiring in (self.forward_wiring, self.backward_wiring)
        )
        if kind not in ("", *RIGHT_SLOPE):
            model, kind = replace(model, activation=Activation(kind)), ""
        own = self.config.nonlinearity
        return model, kind or own, slope if slope in RIGHT_SLOPE else own

    def _beside_others(self, f: LayerTrace, at: Place, g: int, group: SequenceGroup) -> None:
        """Tell a trace of the others, and of what the network is given."""
        layer, d = at
        f.below, f.beside = self.traces.get((layer - 1, d, g)), self.traces.get((layer, d - 1, g))
        key = ("fed", d, g, group.steps, len(group.sequences))
        fed = rows(self.fed, self._gather(key, lambda _wiring: self._read(self.forward_wiring, d, group)))
        f.network_input = [(fed if self.derived else fed.value)[k] for k in range(group.steps)]

    def alone(self, at: Place) -> LayerTrace:
        """Return the trace of a layer and direction before its first step; those below and beside it are computed."""
        layer, d = at
        x = self._input(layer, self.advance(layer))
        group = SequenceGroup(np.arange(self.config.N), self.config.T)
        if d:
            self._direction((layer, 0), columns(x, self._features("inner", 0)) if layer else x)
        f, _ = self.trace(at, 0, group, columns(x, self._features("inner", d)) if layer else x)
        self._beside_others(f, at, 0, group)
        return f

    def _factor(self, wiring: Wiring, layer: int) -> Floats | None:
        """Return what dropout multiplies a layer's output by; ``None`` where it does nothing."""
        masks = {at: np.asarray(mask, np.float64) for at, mask in self.case.masks.items()}
        p = np.float64(self.config.dropout)
        if layer >= self.stack.L - 1 or (masks and layer not in masks):
            return None
        if not masks and wiring["evaluation"] == "1":
            return None
        mask = self._value(wiring, "mask", mask=masks[layer], masks=masks) if masks else None
        slot = "factor" if masks else "evaluation"
        with np.errstate(divide="ignore", invalid="ignore"):  # nothing is divided by a 1 - p, or a p, that is 0
            factor = np.nan_to_num(self._value(wiring, slot, mask=mask, p=p), nan=0.0, posinf=1.0)
        return np.asarray(factor + np.zeros_like(masks.get(layer, 0.0)))

    def _dropped(self, layer: int, output: Var) -> Var:
        factors = [self._factor(wiring, layer) for wiring in (self.forward_wiring, self.backward_wiring)]
        if all(array is None for array in factors):
            return output
        factor, back = (1.0 if array is None else array for array in factors)
        value = output.value * factor
        return Var(value, ((output, lambda g: g * back),))

    # What is returned.

    def arrays(self) -> dict[str, Numbers]:
        """Return the arrays that the network gives."""
        config, case = self.config, self.case
        x = self.advance()
        L, D = self.stack
        top = max(layer for layer, _ in self._finals)
        finals = [self._finals[min(layer, top), d] for layer in range(L) for d in range(D)]
        last = stack(finals)
        names, start = config.form.final, config.h_size - config.hidden_size
        bounds = [max(0, start + k * config.hidden_size) for k in range(len(names) + 1)]
        results = {
            name: self._in_rows(
                rows(columns(last, self._columns(*bounds[k : k + 2])), self._gather(name, partial(self._of_last, name)))
            )
            for k, name in enumerate(names)
        }
        results["output"] = columns(x, self._features("output"))
        if config.output_size is not None:
            results["readout"] = self._readout(x)
        for name in results.keys() - {*names}:
            results[name] = rows(results[name], self._gather("output", self._out))
        results |= {name: way.of(results[name]) for name, way in self.network.transforms.items() if name in results}
        arrays = {name: value_of(v) for name, v in results.items()}
        for name in ("output", "readout"):
            if config.lengths is not None and name in arrays:  # where nothing is compared
                arrays[name] = each(arrays[name], lambda array: np.where(padding(config)[..., None], 0.0, array))
        if config.loss is None:
            return arrays
        seeds = {results[name.removesuffix(".grad")]: self._number(g) for name, g in case.cotangents.items()}
        for node in self.nodes:  # a term of a gradient may stand where nothing is passed
            seeds.setdefault(node, self._number(np.zeros(node.shape)))
        by = self._differentiated(seeds)
        by |= {name: by[self._source(self.backward_wiring["gradients_of"], name)] for name in case.weights}
        arrays |= {f"{name}.grad": g for name, g in by.items() if f"{name}.grad" in config.returned}
        for (kind, *rest), how in getattr(self.network.first, "back", ()):
            if kind == "scale":
                names_of = [name for name in arrays if name.endswith(".grad") and role_of(name) == rest[0]]
                arrays |= {name: arrays[name] * float(GRADIENT_SCALE[how](config.N, config.T)) for name in names_of}
        return within_limits(self.network, arrays, self.stack)

    def _differentiated(self, seeds: Mapping[Var, Any]) -> dict[str, Numbers]:
        """Return the gradients by what the network is given, also where those of a derived one are sums of da."""
        leaves = self.leaves | {name: self._leaf(name) for name in self.case.weights}
        for key in self.taped:
            f = self.traces[key]
            of_steps = [("da", f.s), ("dh", f.step_output)]
            self.parts |= {(what, key, t): v for what, by_t in of_steps for t, v in by_t.items() if isinstance(v, Var)}
        gradients = differentiate(seeds, {**leaves, **self.parts})
        self.of_parts = {key: gradients[key] for key in self.parts}
        sums: dict[Var, Any] = {}
        for key, taped in self.taped.items():
            for role in taped:
                rest = tuple(pair for pair in self._sum_of(key, role) or () if pair[0] != DERIVATIVE)
                if rest:
                    made = gradient(replace(LayerModel(), gradient_sums={role: rest}), role, self.numbers(key))
                    sums[taped[role]] = np.stack(made) if role == "x" else made
        others = differentiate(sums, leaves) if sums else {}
        return {name: gradients[name] + others[name] if others else gradients[name] for name in leaves}

    def numbers(self, key: tuple[int, int, int]) -> LayerTrace:
        """Return a trace of a derived network on numbers, with the gradients of its steps."""
        f = on_numbers(self.traces[key])
        parts = [(what, t, g) for (what, owner, t), g in self.of_parts.items() if owner == key]
        gradients = {role: {t: g for what, t, g in parts if what == role} for role in ("da", "dh", *ROLES)}
        f.da, f.dh, f.derivative = gradients["da"], gradients["dh"], gradients
        model, nonlinearity, _ = self._model(key[:2])
        slopes(model, f, nonlinearity)
        return f

    def _out(self, wiring: Wiring) -> Ints:
        """Return where the numbers of an output, as it is laid out, lie among (t, n)."""
        T, N = self.config.T, self.config.N
        index = np.argsort(self._laid_out(wiring, "output_layout").ravel())
        return index.reshape((N, T) if self.config.batch_first else (T, N))

    def _in_rows(self, h_n: Var) -> Var:
        R, N = self.stack.L * self.stack.D, self.config.N

        def index(wiring: Wiring) -> Ints:
            place = self._row_laid_out(wiring, "h_n_layout", np.arange(R)[:, None], np.arange(N))
            return np.argsort(place.ravel()).reshape(R, N)

        return rows(h_n, self._gather("rows of h_n", index))

    def _readout(self, x: Var) -> Var:
        T, N = self.config.T, self.config.N

        t, n = np.arange(T)[:, None], np.arange(N)

        def read_of(wiring: Wiring) -> Ints:
            return self._at_step(self._value(wiring, "readout_step", t=t) + 0 * t, n)

        def written_by(wiring: Wiring) -> Ints:
            return np.where(self._value(wiring, "readout_where", t=t), t * N + n, -1)

        read = columns(rows(x, self._gather("step read out", read_of)), self._features("readout"))
        operand, W = flat(read), self._leaf("readout.weight")
        beside = operand.value
        # The states that the subject read out itself.
        if (0, 0) in self._states and self.stack == LayersByDirections(1, 1):
            beside = self._number(self._states[0, 0].reshape(beside.shape))
        made = ((operand, lambda g: g @ W.value), (W, lambda g: g.T @ beside))
        readout = Var(operand.value @ W.value.T, made)
        readout = readout + self._leaf("readout.bias") if self.forward_wiring["readout_bias"] else readout
        return rows(readout, self._gather("step of readout", written_by), 1)


class TraceBackward:
    """The way back of one trace: the gradients by what it reads, given those by its results."""

    def __init__(self, model: LayerModel, f: LayerTrace, nonlinearity: str, *, enters: bool) -> None:
        self._model, self._trace, self._nonlinearity, self._enters = model, f, nonlinearity, enters
        self._gradient: Any = None

    def by(self, role: str, g: Any) -> Numbers:
        """Return the gradient by one of its operands; ``g`` (steps + 1, N, H) is that by what it gives."""
        f, model = self._trace, self._model
        if g is not self._gradient:
            self._gradient = g
            f.da, f.dh, f.from_next, f.h_n_gradient, f.slope = {}, {}, {}, {}, {}
            f.g = by_states(model, f, {t: g[t] for t in range(f.T)})
            if self._enters:
                enter(model, f, g[f.T])
            slopes(model, f, self._nonlinearity)
            backward(model, f)
        result = gradient(model, role, f)
        return np.stack(result) if role == "x" else result


def on_numbers(f: LayerTrace) -> LayerTrace:
    """Return a trace that is on a tape as one of numbers."""
    trace = copy(f)
    for name, v in vars(f).items():
        if isinstance(v, Var):
            setattr(trace, name, v.value)
        elif isinstance(v, LayerTrace):
            setattr(trace, name, on_numbers(v))
        elif isinstance(v, list):
            setattr(trace, name, [value_of(item) for item in v])
        elif isinstance(v, dict):
            setattr(trace, name, {key: value_of(item) for key, item in v.items()})
    return trace


def flat(v: Var, lead: int = 2) -> Var:
    """Return an array with its first axes taken together, on the tape."""
    shape = v.shape
    count = int(np.prod(shape[:lead]))
    to = (count, *shape[lead:])
    return Var(each(v.value, lambda a: a.reshape(to)), ((v, lambda g: each(g, lambda a: a.reshape(shape))),))


def run(
    network: Network, case: Case, rounding: SubjectRounding | None = None, states: Mapping[Place, Floats] | None = None
) -> dict[str, Numbers]:
    """Return the arrays that the network gives on a plain case (``Case.plain``); ``states`` as in ``NetworkRun``."""
    spend_run(case.config)
    return NetworkRun(network, case, rounding, states).arrays()


def traces_of(network: Network, case: Case) -> list[LayerTrace]:
    """Return the traces of all layers and directions after the way forward; sequences of one length share one."""
    way = NetworkRun(replace(network, derived=False), case)
    way.advance()
    return list(way.traces.values())


def lone_trace(network: Network, case: Case, at: Place) -> LayerTrace:
    """Return the trace of a layer and direction before its first step; those below and beside it are computed."""
    return NetworkRun(replace(network, derived=False), case).alone(at)


def derived_trace(network: Network, case: Case, at: Place) -> LayerTrace:
    """Return the trace of a layer and direction of a derived network, with the gradients of its steps."""
    way = NetworkRun(network, case, by_step=True)
    way.arrays()
    return way.numbers((*at, 0))


def run_whole(network: Network, case: Case) -> tuple[dict[Place, LayerTrace], dict[str, Numbers]]:
    """Return every trace, too; of a case that is not packed, and a network that goes back by itself."""
    way = NetworkRun(network, case)
    arrays = way.arrays()
    return {(layer, d): f for (layer, d, _), f in way.traces.items()}, arrays


def goes_on(passes: TermSteps, T: int, t: int) -> bool:
    """Tell whether the gradient of what reads the state of step t goes on; before the first step, that is hx."""
    return passes.at(t, T) if t >= 0 else passes != TermSteps("never")


def place_of(name: str) -> Place:
    """Return the layer and the direction of a parameter's gradient; of x and hx, the first ones."""
    base = name.removesuffix(".grad")
    layer = base.removesuffix("_reverse").rpartition("_l")[2]
    return (int(layer) if layer.isdigit() else 0), int(base.endswith("_reverse"))


def within_limits(network: Network, arrays: dict[str, Numbers], sizes: LayersByDirections) -> dict[str, Numbers]:
    """Clip the gradients that the network clips."""
    gradients = [name for name in arrays if name.endswith(".grad")]
    several = {name: network.of(*place_of(name), sizes).limits.get(role_of(name)) for name in gradients}
    limits = {name: limit for name, limit in several.items() if limit is not None and limit.kind != "running sum"}
    joint = {name: limit for name, limit in limits.items() if limit.kind == "joint norm"}
    norm = norm_of(*(arrays[name] for name, limit in joint.items() if not limit.over or role_of(name) in limit.over))
    for name, limit in limits.items():
        arrays[name] = shrunk(arrays[name], norm, limit) if name in joint else limited(arrays[name], limit)
    return arrays
