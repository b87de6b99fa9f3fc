"""GRUs and LSTMs with mistakes that are drawn at random, several at once, and what is said of them.

Each layer is a program: on the way forward the lines of NumPy that ``harness.diagnosis.identify`` would print of it,
executed, and on the way back torch's autograd, which is led along other edges where a mistake is there. Run:
``python benchmarks/composed_gates.py --layers 500 --cell LSTM``. Of ``MGU``, nothing but its equations is known. It
prints what ``composed.py`` does.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import mul
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.processes import one_thread_a_process

one_thread_a_process()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.composed import ONLY, Told, arguments, differing, print_told  # noqa: E402
from benchmarks.interfaces import kept, narrowed, offers_of  # noqa: E402
from harness import Cell, as_subject  # noqa: E402
from harness.diagnosis.identify.activations import ACTIVATIONS, TANH, Activation  # noqa: E402
from harness.diagnosis.identify.choices import TURNED, gate_with, gates_with, with_index  # noqa: E402
from harness.diagnosis.identify.elman_layer_inquiry import Identification  # noqa: E402
from harness.diagnosis.identify.gate_back import moves_of  # noqa: E402
from harness.diagnosis.identify.gate_differences import lines  # noqa: E402
from harness.diagnosis.identify.gated_layer_inquiry import identify_gated  # noqa: E402
from harness.diagnosis.identify.gates import (  # noqa: E402
    CUT_EDGE,
    OWN_TERMS,
    SIGMOID,
    X_STEPS,
    GatedModel,
    GateFunction,
    GateSumTerm,
    step_of,
)
from harness.diagnosis.identify.model import GradientClip, Network  # noqa: E402
from harness.diagnosis.identify.network_run import GRADIENT_SCALE  # noqa: E402
from harness.diagnosis.identify.questions import Asker  # noqa: E402
from harness.diagnosis.identify.step_patterns import TermSteps  # noqa: E402
from harness.diagnosis.identify.terms import SLOPES  # noqa: E402
from harness.diagnosis.observation_cache import ObservationCache  # noqa: E402
from harness.space.config import RNNConfig  # noqa: E402
from harness.subjects.protocol import scope_of  # noqa: E402

# A cell of which nothing but its equations is known.
MGU = Cell(
    "MGU",
    """
    f = sigmoid(W_if @ x + b_if + W_hf @ h + b_hf)
    n = tanh(W_in @ x + b_in + W_hn @ (f * h) + b_hn)
    h = (1 - f) * h + f * n
    """,
)
ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


# The way forward: the lines.


def executed(model: GatedModel, x: Any, states: list[Any], blocks: Mapping[str, list[Any]]) -> list[Any]:
    """Execute the lines of a layer on x (T, N, I), and return the output and the final states (N, H)."""
    T, (N, H) = len(x), states[0].shape
    text = "\n".join(lines(model).values()).replace("for t in range(T):", "for t in range(T):\n    x = inputs[t]")
    space: dict[str, Any] = {"np": np, "T": T, "N": N, "H": H, "inputs": x, "output": np.zeros((T, N, H))}
    space |= dict(zip(("hx", "cx"), states, strict=False)) | {
        "tanh": np.tanh,
        "sigmoid": lambda s: 1 / (1 + np.exp(-s)),
    }
    space |= {role: np.concatenate(blocks[role]) for role in ROLES}
    if model.arranged:  # as the subject's own lines would find them
        space |= {role: np.stack(blocks[role], 1).reshape(space[role].shape) for role in model.arranged}
    for k, (letter, _) in enumerate(step_of(model.cell).gates):
        for role, letters in zip(ROLES, ("W_i", "W_h", "b_i", "b_h"), strict=True):
            space[letters + letter] = blocks[role][k]
    exec(text, space)  # noqa: S102 - the lines are ours
    return [space["output"], space["h_n"], *([space["c_n"]] if len(states) > 1 else [])]


# The way back: torch's.


class _Edge(torch.autograd.Function):
    """See ``edge``."""

    @staticmethod
    def forward(ctx: Any, value: Any, factor: Any) -> Any:
        ctx.factor, ctx.shape = factor, value.shape
        return torch.zeros_like(value)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        made = g * ctx.factor()
        return made.sum_to_size(ctx.shape), None


class _Weighed(torch.autograd.Function):
    """Nothing, whose gradient goes to a matrix, multiplied by a state that is not made yet."""

    @staticmethod
    def forward(ctx: Any, _weight: Any, factor: Any, state: Any, like: Any) -> Any:
        ctx.factor, ctx.state = factor, state
        return torch.zeros_like(like)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return (g * ctx.factor).T @ ctx.state().detach(), None, None, None


def edge(value: Any, factor: Callable[[], Any]) -> Any:
    """Return nothing, whose gradient goes to an array, multiplied by what a function returns on the way back."""
    apply: Any = _Edge.apply
    return apply(value, factor)


def _one() -> Any:
    return torch.ones(())


def numbers(v: Any) -> Any:
    """Return an array of torch as one of NumPy."""
    return v.detach().numpy()


class Program:
    """The quantities of one step, as arrays of torch."""

    def __init__(self, model: GatedModel, x: Any, states: Mapping[str, Any], blocks: Mapping[str, list[Any]]) -> None:
        self.model, self.x, self.blocks, self.back = model, x, blocks, dict(model.back)
        self.gates, self.known = dict(model.gates), dict(states)
        self.ends: Mapping[str, Any] = {}

    def of(self, name: str) -> Any:
        if name in ("h_n", "c_n"):
            return self.ends[name[0]]
        if name not in self.known:
            self.known[name] = self.made(name)
        return self.known[name]

    def outward(self, name: str) -> Any:
        v = self.of(name)
        if name != "c'" or ("through", "t") not in self.back:
            return v
        kind = self.model.read
        return v.detach() + edge(v, lambda: torch.from_numpy(np.asarray(kind.slope(numbers(v)), np.float64)))

    def made(self, name: str) -> Any:
        if name in self.gates:
            gate = self.gates[name]
            s = sum((self.term(name, part) for part in gate.parts), 0 * self.of("h"))
            return self.applied(name, gate.activation, s * gate.inside)
        if name == "t":
            return self.applied("t", self.model.read, self.of("c'"))
        if name == "tanh(c)":
            return torch.tanh(self.of("c"))
        if name == "zero":
            return 0 * self.of("h")
        if " * " in name:
            return reduce(mul, map(self.of, name.split(" * ")))
        terms = self.model.memory if name == "c'" else self.model.mix
        value = sum((self.product(name, *term) for term in terms), 0 * self.of("h"))
        value = value if name == "c'" else self.applied("h'", self.model.outer, value)
        limit = self.model.limit
        return value.clamp(-limit, limit) if limit and name == "c'" else value

    def applied(self, name: str, kind: Activation, s: Any) -> Any:
        y = torch.from_numpy(np.asarray(kind.value(numbers(s))))
        slope = self.back.get(("slope", name))
        if slope is None:
            return y + edge(s, lambda: torch.from_numpy(np.asarray(kind.slope(numbers(s)), np.float64)))
        values = sum(SLOPES[term](y.numpy(), numbers(s), numbers(s), numbers(s)) * c for term, c in slope)
        return y + edge(s, lambda: torch.from_numpy(values))

    def term(self, gate: str, part: GateSumTerm) -> Any:
        W_ih, W_hh, b_ih, b_hh = (self.blocks[role][part.block] for role in ROLES)
        h = self.of(part.operand)
        inner = {
            "x[t] @ W_ih.T": lambda: self.x @ W_ih.T,
            "b_ih": lambda: b_ih + 0 * h,
            "h[t-1] @ W_hh.T": lambda: h @ W_hh.T,
            "b_hh": lambda: b_hh + 0 * h,
            "h[t-1] @ W_hh": lambda: h @ W_hh,
            "h[t-1] * np.diag(W_hh)": lambda: h * torch.diagonal(W_hh),
            "h[t-1]": lambda: h,
            "1": lambda: 0 * h + 1,
        }[part.name]()
        factor = self.of(part.factor) if part.factor else torch.ones(())
        to = {end: self.back.get(("sum", gate, part.name, end)) for end in ("parameter", "operand", "factor")}
        if not any(to.values()):
            return inner * factor * part.coef
        value = (inner * factor).detach()
        value = value if to["factor"] == CUT_EDGE else value + edge(factor, inner.detach)
        W = {"x": W_ih, "h": W_hh}.get(part.name[0], b_ih if part.name == "b_ih" else b_hh)
        read = {"x": self.x, "h": h}.get(part.name[0])
        if to["parameter"] not in (CUT_EDGE, "open", None):
            apply: Any = _Weighed.apply
            value = value + apply(W_hh, factor.detach(), partial(self.of, to["parameter"]), value)
        elif to["parameter"] != CUT_EDGE:
            own = W + 0 * h.detach() if read is None else read.detach() @ W.T
            value = value + edge(own, _one if to["parameter"] else factor.detach)
        if to["operand"] != CUT_EDGE and read is not None:
            value = value + edge(read @ W.detach().T, _one if to["operand"] else factor.detach)
        return value * part.coef

    def product(self, state: str, names: tuple[str, ...], coef: float) -> Any:
        value = coef * reduce(mul, map(self.of, names), 1 + 0 * self.of("h"))
        others = {name: self.back.get(("by", state, names, name)) for name in names}
        if all(choice is None for choice in others.values()):
            return value
        value = value.detach()
        for name, choice in others.items():
            left = list(names)
            left.remove(name)
            if choice != CUT_EDGE:
                value = value + edge(self.of(name), partial(self.times, left if choice is None else choice, coef))
        return value

    def times(self, names: Any, coef: float) -> Any:
        return coef * reduce(mul, (self.of(name).detach() for name in names), torch.ones(()))


def arrays_of(model: GatedModel, x: Any, states: list[Any], blocks: Mapping[str, list[Any]]) -> list[Any]:
    """Return the output and the final states, as arrays of torch, whose gradients go as the model says."""
    letters, back, T = ("h", "c")[: len(states)], dict(model.back), len(x)
    given = {"hx": states[0], "cx": states[-1], "zero": 0 * states[0]}
    held = {name: given[start] for name, start in zip(letters, model.starts, strict=True)}
    held |= {name: v.detach() for name, v in held.items() if ("start", name) in back}
    begun = list(held.values())
    output, finals, reached, last = [], begun, back.get(("steps",), TermSteps()), dict[str, Any]()
    for t in range(T):
        cut = {name for name in letters if t and (("carry", name) in back or not model.passes.at(t - 1, T))}
        held |= {name: held[name].detach() for name in cut}
        uncounted = {edge[1] for edge, when in model.back if edge[0] == "counted" and not when.at(t, T)}
        here = {role: [v.detach() for v in of] if role in uncounted else of for role, of in blocks.items()}
        of = model.at_step(t, T)
        known = {**held, "hx": begun[0], "cx": begun[-1], "zero": 0 * begun[0]}
        step = Program(
            of, x[X_STEPS[of.input](t, T)], {n: known[read] for n, read in zip(letters, of.reads, strict=False)}, here
        )
        step.ends = last
        out, *finals = map(step.outward, model.returned)
        new = [step.outward(name) for name in model.carried]
        if not reached.at(t, T):
            out = out.detach()
            finals = [v.detach() + edge(held[n], _one) for v, n in zip(finals, letters, strict=True)]
            new = [v.detach() + edge(held[n], _one) for v, n in zip(new, letters, strict=True)]
        held = dict(zip(letters, new, strict=True))
        output.append(out)
    last |= held
    return [torch.stack(output), *(v.detach() if ("final", k) in back else v for k, v in enumerate(finals))]


def subject_of(model: GatedModel, interface: Sequence[str] = ()) -> Any:
    """Return a function that is a layer's program."""
    names = ("output", "h_n", "c_n")[: len(model.returned)]

    def layer(x: Any, states: list[Any], weights: Any, config: Any, cotangents: Any) -> Any:
        if config.batch_first or config.num_layers > 1 or config.bidirectional:
            raise NotImplementedError("one layer, one direction, time first")
        H: int = states[0].shape[-1]
        wide = {name: torch.tensor(np.asarray(v, np.float64), requires_grad=True) for name, v in weights.items()}
        zero = torch.zeros(len(step_of(model.cell).gates) * H, dtype=torch.float64)
        blocks = {role: list(torch.split(wide.get(f"{role}_l0", zero), H)) for role in ROLES}
        for role in model.arranged:
            blocks[role] = [wide.get(f"{role}_l0", zero)[k :: len(blocks[role])] for k in range(len(blocks[role]))]
        plain = {role: [numbers(v) for v in several] for role, several in blocks.items()}
        given = [np.asarray(v[0], np.float64) for v in states]
        made = executed(model, np.asarray(x, np.float64), given, plain)
        returned = [made[0], *(v[None] for v in made[1:])]
        cast = [np.asarray(v, x.dtype) for v in returned]
        cast = cast[1:2] if "last state alone" in interface else cast
        if config.loss is None:
            return (*cast, {})
        inputs = [torch.tensor(np.asarray(v, np.float64), requires_grad=True) for v in (x, *given)]
        arrays = arrays_of(model, inputs[0], inputs[1:], blocks)
        for one, other in zip(arrays, made, strict=True):
            assert np.allclose(numbers(one), other, 1e-9, 1e-12, equal_nan=True), "two programs of one layer differ"
        loss = sum(
            (v * torch.tensor(np.asarray(cotangents[f"{n}.grad"], np.float64)).reshape(v.shape)).sum()
            for n, v in zip(names, arrays, strict=True)
            if f"{n}.grad" in cotangents
        )
        by = {"x": inputs[0], **dict(zip(("hx", "cx"), inputs[1:], strict=False)), **wide}
        found = torch.autograd.grad(loss, list(by.values()), allow_unused=True)
        gradients, back = {}, dict(model.back)
        for (name, array), g in zip(by.items(), found, strict=True):
            value, role = numbers(torch.zeros_like(array) if g is None else g), name.removesuffix("_l0")
            if ("scale", role) in back:
                value = value * GRADIENT_SCALE[back["scale", role]](x.shape[1], x.shape[0])
            if role in model.limits:
                value = np.clip(value, -model.limits[role].most, model.limits[role].most)
            value = value[None] if name in ("hx", "cx") else value
            gradients[name] = np.asarray(value, x.dtype)
        gradients = kept(gradients, interface)
        return (*cast, gradients if config.hx else {n: g for n, g in gradients.items() if n not in ("hx", "cx")})

    def gru(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        return layer(x, [h0], weights, config, cotangents)

    def lstm(x: Any, h0: Any, c0: Any, weights: Any, config: Any, cotangents: Any) -> Any:  # noqa: PLR0917
        return layer(x, [h0, c0], weights, config, cotangents)

    function: Any = gru if len(model.starts) == 1 else lstm
    function.conventions = {model.cell.lower(): True}
    return narrowed(function, interface)


# What is drawn.

FUNCTIONS = [
    *(SIGMOID, TANH, Activation("hard sigmoid", (0.2,)), Activation("hard sigmoid", (1 / 6,))),
    *(ACTIVATIONS["relu"], ACTIVATIONS["identity"], Activation("clip", (-1.0, 1.0)), ACTIVATIONS["softsign"]),
]
Change = Callable[[Random, GatedModel], GatedModel]


def on_gates(change: Callable[[Random, str, GateFunction], GateFunction], most: int = 1) -> Change:
    """Return what changes some gates alike."""

    def changed(random: Random, m: GatedModel) -> GatedModel:
        letters = random.sample([name for name, _ in m.gates], random.randint(1, min(most, len(m.gates))))
        draw_ = random.random()
        return replace(m, gates=tuple((n, change(Random(draw_), n, g) if n in letters else g) for n, g in m.gates))

    return changed


def _rows(random: Random, m: GatedModel) -> GatedModel:
    order = random.sample(range(len(m.gates)), len(m.gates))
    names = random.choice([*[OWN_TERMS] * 3, OWN_TERMS[::2], OWN_TERMS[1::2], OWN_TERMS[:1], OWN_TERMS[2:3]])
    letters = [letter for letter, _ in m.gates]
    return replace(m, gates=gates_with(m.gates, (letters, names, {"block": order.__getitem__})))


def _function(random: Random, _letter: str, gate: GateFunction) -> GateFunction:
    return gate._replace(activation=random.choice([one for one in FUNCTIONS if one != gate.activation]))


def _inside(random: Random, _letter: str, gate: GateFunction) -> GateFunction:
    return gate._replace(inside=random.choice([0.5, 2.0]))


def _without(random: Random, _letter: str, gate: GateFunction) -> GateFunction:
    gone = random.choice(gate.parts)
    return gate._replace(parts=tuple(p for p in gate.parts if p != gone))


def _coefficient(random: Random, _letter: str, gate: GateFunction) -> GateFunction:
    which, coef = random.randrange(len(gate.parts)), random.choice([2.0, -1.0, 0.5])
    return gate._replace(parts=tuple(p._replace(coef=coef) if k == which else p for k, p in enumerate(gate.parts)))


def _added(random: Random, _letter: str, gate: GateFunction) -> GateFunction:
    return gate._replace(
        parts=(*gate.parts, GateSumTerm("1", gate.parts[0].block, coef=random.choice([1.0, -1.0, 0.5])))
    )


def _other_bias(random: Random, _letter: str, gate: GateFunction) -> GateFunction:
    name, block = random.choice(["b_ih", "b_hh"]), random.randrange(3)
    return gate_with(gate, (name,), {"block": block})


def _matrix(_random: Random, _letter: str, gate: GateFunction) -> GateFunction:
    return gate_with(gate, OWN_TERMS[2:3], {"name": TURNED})


def _reset(random: Random, m: GatedModel) -> GatedModel:
    x, b_ih, h, b_hh = dict(step_of("GRU").gates)["n"].parts
    plain = {p: p._replace(factor="") for p in (h, b_hh)}
    parts = random.choice(
        [
            (x, b_ih, h, plain[b_hh]),
            (x, b_ih, plain[h], plain[b_hh]),
            (x, b_ih, plain[h]._replace(operand="r * h"), plain[b_hh]),
            (x._replace(factor="r"), b_ih._replace(factor="r"), h, b_hh),
            (x, b_ih._replace(factor="r"), h, b_hh),
        ]
    )
    return replace(m, gates=gates_with(m.gates, (("n",), None, {"parts": parts})))


def _operand(random: Random, m: GatedModel) -> GatedModel:
    letters = random.choice(["ifo", "if", "o", "ifgo"])
    peephole = letters != "ifgo" and random.random() < 0.7

    def of(gate: GateFunction) -> GateFunction:
        if peephole:
            return gate._replace(parts=(*gate.parts, gate.parts[2]._replace(name="h[t-1]", operand="c")))
        return gate_with(gate, OWN_TERMS[2:3], {"operand": "c"})

    return replace(m, gates=tuple((n, of(g) if n in letters else g) for n, g in m.gates))


def field(name: str, *choices: Any) -> Change:
    """Return what sets a field to one of some choices."""
    return lambda random, m: replace(m, **{name: random.choice(choices)})


def place(name: str, choices: tuple[str, ...]) -> Change:
    """Return what sets one entry of a field to one of some choices."""

    def changed(random: Random, m: GatedModel) -> GatedModel:
        value, own = random.choice(choices), getattr(m, name)
        changed: dict[str, Any] = {name: with_index(own, (random.randrange(len(own)), value))}
        return replace(m, **changed)

    return changed


def _back(random: Random, m: GatedModel) -> GatedModel:
    move = random.choice([one for one in moves_of(m) if one and one[0][0][0] != "scale"])
    return replace(m, back=(*m.back, *move))


def _scaled(random: Random, m: GatedModel) -> GatedModel:
    roles = random.choice([ROLES, *((role,) for role in ROLES)])
    how = random.choice([*GRADIENT_SCALE])
    return replace(m, back=(*m.back, *((("scale", role), how) for role in roles)))


SLOTS: dict[str, dict[str, Change]] = {
    "both": {
        "outer": field("outer", *(ACTIVATIONS[name] for name in ("tanh", "sigmoid"))),
        "rows": _rows,
        "arranged": field("arranged", ROLES, ROLES[:2], *((role,) for role in ROLES)),
        "function": on_gates(_function, 3),
        "inside": on_gates(_inside),
        "term": on_gates(_without, 2),
        "coefficient": on_gates(_coefficient, 2),
        "constant": on_gates(_added, 2),
        "bias": on_gates(_other_bias),
        "matrix": on_gates(_matrix, 3),
        "back": _back,
        "scale": _scaled,
        "input": field("input", *(name for name in X_STEPS if name != "t")),
        "passes": lambda r, m: replace(
            m, passes=r.choice([TermSteps("never"), *(TermSteps("but every", k) for k in (2, 3, 5))])
        ),
        "clip": lambda r, m: replace(
            m, limits=dict.fromkeys(ROLES, GradientClip("elements", r.choice([0.5, 1.0, 5.0])))
        ),
    },
    "GRU": {
        "reset": _reset,
        "mix": field(
            "mix",
            ((("n", "z"), 1.0), (("h",), 1.0), (("h", "z"), -1.0)),
            ((("n",), 1.0), (("h", "z"), 1.0)),
            ((("n",), 1.0), (("n", "z"), -1.0)),
            ((("n",), 1.0), (("n", "z"), -1.0), (("h", "r", "z"), 1.0)),
            ((("n",), 1.0), (("n", "z"), -1.0), (("hx", "z"), 1.0)),
        ),
        "start": field("starts", ("zero",)),
        "returned": place("returned", ("h",)),
    },
    "LSTM": {
        "memory": field(
            "memory",
            ((("c",), 1.0), (("c", "i"), -1.0), (("g", "i"), 1.0)),
            ((("g", "i"), 1.0),),
            ((("c",), 1.0), (("g", "i"), 1.0)),
            ((("c", "f"), 1.0), (("g",), 1.0), (("f", "g"), -1.0)),
            ((("c", "f"), 1.0), (("g",), 1.0)),
            ((("c", "f"), 1.0), (("f", "g", "i"), 1.0)),
            ((("cx", "f"), 1.0), (("g", "i"), 1.0)),
        ),
        "read": field("read", ACTIVATIONS["identity"], ACTIVATIONS["relu"], SIGMOID),
        "limit": field("limit", 1.0, 3.0),
        "operand": _operand,
        "start": place("starts", ("zero", "hx", "cx")),
        "carried": place("carried", ("zero", "t", "c'", "h'")),
        "returned": place("returned", ("h'", "c'", "t", "c")),
    },
}


def drawn(seed: str, cell: str) -> tuple[GatedModel, list[str]]:
    """Draw a layer with one to four mistakes, and the names of their slots."""
    random, slots = Random(seed), SLOTS["both"] | SLOTS.get(cell, {})
    names = random.sample(sorted(slots), random.randint(1, 4))
    model = step_of(cell)
    for name in sorted(names, key=lambda one: one in ("back", "rows")):
        model = slots[name](random, model)
    if Random(f"{seed}/steps").random() < 0.15:  # some steps have another mistake
        names += ["steps"]
        model = _at_some_steps(random, model)
    return model, names


STEP_SLOTS = ("input", "function", "inside", "term", "coefficient", "constant", "bias", "reset", "mix", "memory")
PATTERNS_DRAWN = (
    TermSteps("first", 1),
    TermSteps("only", 0),
    *(TermSteps(kind, k) for kind in ("block", "from") for k in (2, 3, 5)),
)


def _at_some_steps(random: Random, m: GatedModel) -> GatedModel:
    slots = SLOTS["both"] | SLOTS.get(m.cell, {})
    there = slots[random.choice([name for name in STEP_SLOTS if name in slots])](random, m)
    if random.random() < 0.4:
        states = len(m.starts)
        there = replace(m, reads=random.choice([("hx", "c"), ("zero", "c"), ("h", "cx"), ("hx", "cx")][: 2 * states]))
    return replace(m, other_model=there, other_model_steps=random.choice(PATTERNS_DRAWN))


def identified(model: GatedModel, interface: Sequence[str] = ()) -> Identification:
    """Return what is found of a layer."""
    subject = as_subject(subject_of(model, interface))
    scope = scope_of(subject).only(**{"dtype": ("float64", "float32"), **ONLY, **offers_of(interface)})
    return identify_gated(Asker(ObservationCache(subject), scope, "tanh"), RNNConfig(2, 2, cell=model.cell))


def told_of(cell: str, seed: str, interface: tuple[str, ...] = ()) -> Told:
    """Draw a layer, identify it, and hold what is told against its program."""
    model, slots = drawn(seed, cell)
    found = identified(model, interface)
    wrong = differing(as_subject(subject_of(model, interface)), found, interface, cell=cell)
    return Told(Network(model, derived=True), slots, found, wrong, interface=interface)


def main() -> None:
    """Draw layers, identify them, and print the figures."""
    parser = arguments(__doc__)
    parser.add_argument("--cell", choices=("GRU", "LSTM", MGU.name), default="LSTM")
    chosen = parser.parse_args()
    print_told(chosen, partial(told_of, chosen.cell), chosen.cell)


if __name__ == "__main__":
    main()
