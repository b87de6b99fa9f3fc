"""Layers with mistakes that are drawn at random, several at once, and what is said of them.

Each layer is a program: the lines of NumPy that ``harness.diagnosis.identify`` would print of it, executed. So what a
line says and what the search computes are held against each other. Run: ``python benchmarks/composed.py --layers 200``.
It prints how many layers are told wholly, in part, and falsely, and each layer that is not told in the words of the
mistakes that were drawn. With ``--interface each``, or ``pairs``, or some names of ``benchmarks/interfaces.py``, layers
take and return less, as those of real code do, and there are figures for each interface. What is told of a layer is
held against its program on fresh cases: other words for the same numbers are right.
"""

import argparse
import math
import sys
import time
from collections import Counter, UserDict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set as AbstractSet
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.processes import one_thread_a_process

one_thread_a_process()

import numpy as np  # noqa: E402

from benchmarks.interfaces import INTERFACES, chosen, kept, narrowed, offers_of  # noqa: E402
from harness import Subject, as_subject  # noqa: E402
from harness.diagnosis.defects import raise_defects  # noqa: E402
from harness.diagnosis.identify.activations import ACTIVATIONS, Activation  # noqa: E402
from harness.diagnosis.identify.elman_layer_inquiry import Identification, identify  # noqa: E402
from harness.diagnosis.identify.gather import values_of  # noqa: E402
from harness.diagnosis.identify.model import Coef, GradientClip, LayerModel, Network, StateGradientTerm  # noqa: E402
from harness.diagnosis.identify.model_differences import mistakes_of  # noqa: E402
from harness.diagnosis.identify.network_run import run  # noqa: E402
from harness.diagnosis.identify.questions import Asker  # noqa: E402
from harness.diagnosis.identify.recurrence import lines  # noqa: E402
from harness.diagnosis.identify.step_patterns import TermSteps  # noqa: E402
from harness.diagnosis.identify.terms import (  # noqa: E402
    ARRANGED_TERMS,
    GRADIENT_MASKS,
    OTHER_STEPS,
    PARTIAL_SUMS,
    ROWS_OVER_TIME,
    STATES_RETURNED,
    STEP_TERMS,
    read_of,
)
from harness.diagnosis.observation_cache import ObservationCache  # noqa: E402
from harness.space.case import Case  # noqa: E402
from harness.space.config import RNNConfig, role_of  # noqa: E402
from harness.space.values import draw  # noqa: E402
from harness.subjects.protocol import scope_of  # noqa: E402

raise_defects()

ONLY: dict[str, Any] = {"num_layers": 1, "bidirectional": False, "nonlinearity": "tanh", "batch_first": False}
# The stacks that a drawn network may have, beside a single layer, in which it is asked, too.
STACKS: dict[str, dict[str, Any]] = {"": {}, "layers": {"num_layers": 2}, "directions": {"bidirectional": True}}


FRESH = 40  # the cases on which what is told is held against a layer
CLOSE = 1e-6  # of the largest number: roundings grow along 20 steps
CLOSE_FLOAT32 = 1e-3


class Zeros(UserDict[int, Any]):
    """Arrays by step, which are 0 where none was written."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def __missing__(self, t: int) -> Any:
        return np.zeros(self.shape)

    def sum(self, _axis: int) -> Any:
        return sum(self.data.values())


class States(UserDict[int, Any]):
    """States by step: before the first one, hx, and after the last one, the last."""

    def __missing__(self, t: int) -> Any:
        return self.data[-1] if t < 0 else self.data[max(self.data)]


class Sums(Zeros):
    """Sums by step: before the first one 0, and after the last one, the last."""

    def __missing__(self, t: int) -> Any:
        return self.data[max(self.data)] if self.data and t > 0 else np.zeros(self.shape)


class Inputs(list[Any]):
    """x by step, counted as Python counts and around both ends."""

    def __getitem__(self, t: Any) -> Any:
        return np.stack([*self][t]) if isinstance(t, slice) else super().__getitem__(t % len(self))

    def mean(self, axis: int) -> Any:
        """Return the mean along an axis."""
        return np.stack([*self]).mean(axis)

    def swapaxes(self, *axes: int) -> Any:
        """Return the array with two axes exchanged."""
        return np.stack([*self]).swapaxes(*axes)

    def reshape(self, *shape: int) -> Any:
        """Return the array in another shape."""
        return np.stack([*self]).reshape(*shape)


def executed(model: LayerModel, x: Any, hx: Any, weights: Mapping[str, Any], cotangents: Mapping[str, Any]) -> Any:
    """Execute the lines of a layer, and return output, h_n and the gradients."""
    text = lines(model, "tanh")
    T, N, _ = x.shape
    H = hx.shape[-1]
    zeros = np.zeros(H)
    names = {role: weights.get(f"{role}_l0", zeros) for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    W_ih, W_hh, b_ih, b_hh = names.values()
    space: dict[str, Any] = {"np": np, "T": T, "N": N, "H": H, "I": W_ih.shape[1], "hx": hx[0], "x": Inputs(x)}
    space |= {"W_ih": W_ih, "W_hh": W_hh, "b_ih": b_ih, "b_hh": b_hh, "h": States(), "first": 0, "s": Sums((N, H))}
    space |= {name: Zeros((N, H)) for name in ("g", "da", "dh", "slope", "passed")} | {"dx": np.zeros_like(x)}
    space |= {"dW_ih": 0 * W_ih, "dW_hh": 0 * W_hh, "db_ih": zeros.copy(), "db_hh": zeros.copy()}
    space |= {"sigmoid": lambda v: 1 / (1 + np.exp(-v)), "erf": np.vectorize(math.erf, otypes=[float])}
    space |= {"dh_next": np.zeros((N, H)), "h_n_grad": cotangents.get("h_n.grad", [np.zeros((N, H))])[0]}
    space |= {"norm_of": lambda *arrays: np.sqrt(sum((a * a).sum() for a in arrays))}
    for t, g in enumerate(cotangents.get("output.grad", ())):
        if (step := STATES_RETURNED[model.written](t, T)) >= 0 and model.shown.at(t, T):
            space["g"][step] = space["g"][step] + g
    program = "\n".join(text.values()).replace("h[0:T]", "np.stack([h[t] for t in range(T)])")
    program = program.replace("h[-1:T-1]", "np.stack([h[k] for k in range(-1, T - 1)])")
    program = program.replace("dh_next[t+1]", "dh_next").replace("dh_next[0]", "dh_next")  # of the step before it
    if program.count("for t in reversed(") == 2:  # the first step that the way back reaches
        loop = next(line for line in text.values() if line.startswith("for t in reversed("))
        program = program.replace(loop, f"first = min({loop[len('for t in reversed(') : -2]}, default=0)\n{loop}", 1)
    exec(program, space)  # noqa: S102 - the lines are ours
    output = np.stack(space["output"])
    gradients = {
        "x": space["dx"],
        "hx": space["dhx"][None],
        **{f"{role}_l0": space[name] for role, name in zip(names, ("dW_ih", "dW_hh", "db_ih", "db_hh"), strict=True)},
    }
    return output, space["h_n"][None], gradients


@np.errstate(all="ignore")
def stacked(network: Network, x: Any, hx: Any, weights: Mapping[str, Any], cotangents: Mapping[str, Any]) -> Any:
    """Execute the lines of each layer and direction, and return output, h_n and the gradients."""
    D = 2 if "weight_ih_l0_reverse" in weights else 1
    places = [(layer, d) for layer in range(len(hx) // D) for d in range(D)]
    read, H = {place: x for place in places if place[0] == 0}, hx.shape[-1]

    def of(place: tuple[int, int], given: Mapping[str, Any]) -> Any:
        layer, d = place
        end = f"_l{layer}{'_reverse' if d else ''}"
        own = {f"{n.removesuffix(end)}_l0": w for n, w in weights.items() if n.endswith(end)}
        row, turn = layer * D + d, slice(None, None, -1 if d else 1)
        grads = {name: g[row : row + 1] if name == "h_n.grad" else g[turn] for name, g in given.items()}
        out, h_n, by = executed(network.of(layer, d), read[place][turn], hx[row : row + 1], own, grads)
        by = {n if n in ("x", "hx") else n.removesuffix("_l0") + end: v for n, v in by.items()}
        return out[turn], h_n, by | {"x": by["x"][turn]}

    made, finals, found, by_hx = {}, {}, dict[str, Any](), dict[tuple[int, int], Any]()
    for layer, d in places:
        made[layer, d], finals[layer, d], _ = of((layer, d), {})
        read[layer + 1, d] = np.concatenate([made[layer, k] for k in range(D) if (layer, k) in made], -1)
        read[layer + 1, 0] = read[layer + 1, d]
    top = places[-1][0]
    g = {name: v for name, v in cotangents.items() if name != "h_n.grad"}
    for layer in range(top, -1, -1):
        below = 0.0
        for d in range(D):
            given = {n: v[..., d * H : (d + 1) * H] for n, v in g.items()}
            given |= {n: v for n, v in cotangents.items() if n == "h_n.grad"}
            _, _, by = of((layer, d), given)
            below, by_hx[layer, d] = below + by.pop("x"), by.pop("hx")
            found |= by
        g = {"output.grad": below}
    found |= {"hx": np.concatenate([by_hx[place] for place in places]), "x": below}
    return read[top + 1, 0], np.concatenate([finals[place] for place in places]), found


def subject_of(network: Network | LayerModel, interface: Sequence[str] = ()) -> Any:
    """Return a function that executes the lines of a network, or of one layer."""
    whole = network if isinstance(network, Network) else Network(network)

    def composed(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        if config.batch_first or config.nonlinearity != "tanh":
            raise NotImplementedError("tanh, time first")
        if (config.num_layers > 1 and whole.above is None) or (config.bidirectional and whole.reverse is None):
            raise NotImplementedError("one layer, one direction")
        output, h_n, gradients = stacked(whole, x, h0, weights, cotangents)
        given = {name: g for name, g in gradients.items() if name in weights or name in ("x", "hx")}
        cast = {name: np.asarray(g, x.dtype) for name, g in given.items() if name != "hx" or config.hx}
        returned = (h_n,) if "last state alone" in interface else (output, h_n)
        return (*(array.astype(x.dtype) for array in returned), kept(cast, interface) if config.loss else {})

    return narrowed(composed, interface)


def terms(model: LayerModel, **changes: Coef | None) -> LayerModel:
    """Change coefficients of nn.RNN's terms in a step."""
    step = ((name, changes.get(name.replace(" @ ", "_").replace(".", "_"), coef)) for name, coef in model.step)
    return replace(model, step=tuple((name, coef) for name, coef in step if coef is not None))


def exchanged(model: LayerModel, old: str, new: str, when: TermSteps | None = None) -> LayerModel:
    """Put another term in the place of one of nn.RNN's."""
    changed = [
        (new, coef._replace(when=when or coef.when)) if name == old else (name, coef) for name, coef in model.step
    ]
    return replace(model, step=tuple(changed))


def read(role: str, name: str, coef: Coef = Coef()) -> Callable[[Random, LayerModel], LayerModel]:  # noqa: B008
    """Return what makes a gradient of another term."""
    return lambda _, m: replace(m, gradient_sums={**m.gradient_sums, role: ((name, coef),)})


def coef_of(random: Random) -> Coef:
    """Draw a coefficient that is not 1 at every step."""
    return random.choice(
        [Coef(2.0), Coef(0.5), Coef(-1.0), Coef(scale="N"), Coef(scale="T"), Coef(scale="np.sqrt(H)"),
         Coef(when=TermSteps("from", 1)), Coef(when=TermSteps("first", 1)),
         Coef(when=TermSteps("last", random.randint(1, 5)))]
    )  # fmt: skip


def _factor(random: Random, m: LayerModel) -> LayerModel:
    role = random.choice(["weight_ih", "weight_hh", "bias_ih", "bias_hh"])
    own = m.readout(role)[0][0]
    return replace(m, gradient_sums={**m.gradient_sums, role: ((own, coef_of(random)),)})


def _clip(random: Random, m: LayerModel) -> LayerModel:
    roles = random.choice([("weight_ih", "weight_hh", "bias_ih", "bias_hh"), ("weight_hh",), ("x", "hx")])
    kind = random.choice(["elements", "joint norm", "running sum"] if len(roles) == 4 else ["elements", "norm"])
    return replace(m, limits=dict.fromkeys(roles, GradientClip(kind, random.choice([0.5, 1.0, 5.0]))))


OTHERS = [
    *(one for one in ACTIVATIONS.values() if one.name not in {"tanh", "exp"}),  # a state of exp overflows
    *(Activation(name, (c,)) for name, c in (("leaky relu", 0.2), ("elu", 1.0), ("celu", 2.0), ("hard sigmoid", 0.2))),
    *(Activation(name, (0.5,)) for name in ("softshrink", "hardshrink")),
    *(Activation("clip", (low, high)) for low, high in ((-1.0, 1.0), (0.0, 6.0))),
    Activation("quotient", (3.0, 4.0, 0.0, 1.0, 0.0, 1 / 27, 1.0, 0.0, 1 / 3)),
    Activation("quotient", (1.0, 4.0, 0.0, 1.0, 0.0, -1 / 3, 1.0)),
]
# What may be changed: a name for each slot, and what draws another choice of it.
SLOTS: dict[str, tuple[Callable[[Random, LayerModel], LayerModel], ...]] = {
    "activation": (lambda r, m: replace(m, activation=r.choice(OTHERS)),),
    "inside": (lambda r, m: replace(m, inside=r.choice([0.5, 2.0])),),
    "start": (
        lambda r, m: replace(m, start=r.choice(["0 * hx", "np.tanh(hx)", "-hx", "hx[:1] + 0 * hx", "hx[::-1]"])),
    ),
    "h_n": (lambda _, m: replace(m, final="h[0]"),),
    "written": (
        lambda r, m: replace(m, written=r.choice([name for name in STATES_RETURNED if name != "h[t]"])),
        lambda r, m: replace(
            m, shown=r.choice([TermSteps("last", 1), TermSteps("from", 1), TermSteps("but block", 3)])
        ),
    ),
    "x": (
        lambda r, m: exchanged(m, "x[t] @ W_ih.T", r.choice(["x[t-1] @ W_ih.T", "x[T-1-t] @ W_ih.T", "x[t] @ W_ih"])),
        lambda r, m: exchanged(m, "x[t] @ W_ih.T", r.choice([name for name in ARRANGED_TERMS if name[0] == "x"])),
        lambda r, m: exchanged(m, "x[t] @ W_ih.T", read_of("x", r.choice([*OTHER_STEPS]))),
    ),
    "h": (
        lambda r, m: exchanged(
            m, "h[t-1] @ W_hh.T", r.choice(["h[t-1] @ W_hh", "h[t-2] @ W_hh.T", "h[t-1]", "hx @ W_hh.T"])
        ),
        lambda r, m: terms(m, **{"h[t-1]_W_hh_T": Coef(r.choice([0.5, 2.0, -1.0]))}),
        lambda r, m: exchanged(m, "h[t-1] @ W_hh.T", r.choice([name for name in ARRANGED_TERMS if name[0] == "h"])),
        lambda r, m: exchanged(
            m,
            "h[t-1] @ W_hh.T",
            r.choice([name for name in (read_of("h", n) for n in OTHER_STEPS) if name in STEP_TERMS]),
        ),
        lambda r, m: terms(m, **{"h[t-1]_W_hh_T": Coef(when=TermSteps("but block", r.randint(2, 5)))}),
    ),
    "b_ih": (lambda r, m: terms(m, b_ih=r.choice([None, Coef(2.0), Coef(when=TermSteps("from", 1))])),),
    "b_hh": (lambda r, m: terms(m, b_hh=r.choice([None, Coef(2.0), Coef(when=TermSteps("from", 1))])),),
    "slope": (
        lambda r, m: replace(
            m,
            slope=r.choice(
                [
                    (("1", 1.0),),
                    (("1", 1.0), ("s**2", -1.0)),
                    (("1", 1.0), ("h", -1.0)),
                    (("(h > 0)", 1.0),),
                    (("1", 1.0), ("np.tanh(h)**2", -1.0)),
                    (("h", 1.0), ("h**2", -1.0)),
                    (("np.sqrt(1 - h**2)", 1.0),),
                    (("1", 1.0), ("dh**2", -1.0)),
                    *((("1", 1.0), (f"np.tanh({part})**2", -1.0)) for part in PARTIAL_SUMS),
                ]
            ),
        ),
    ),
    "at": (lambda r, m: replace(m, at=r.choice(["t-1", "t+1", "T-1"])),),
    "link": (
        lambda r, m: replace(
            m,
            links=(
                StateGradientTerm(r.choice(["da[t+1] @ W_hh.T", "da[t+1]", "dh[t+1] @ W_hh", "dh[t+1]"]), sloped=True),
            ),
        ),
        lambda _, m: replace(m, links=()),
        lambda _, m: replace(m, links=(StateGradientTerm("da[t+1] @ W_hh", sloped=False),)),
    ),
    "reached": (
        lambda r, m: replace(
            m, reached=r.choice([TermSteps("from", 1), TermSteps("but last", 1), TermSteps("last", r.randint(2, 6))])
        ),
    ),
    "sloped": (lambda r, m: replace(m, sloped=r.choice([TermSteps("last", 1), TermSteps("but last", 1)])),),
    "counted": (
        lambda r, m: replace(m, counted=r.choice([TermSteps("last", 1), TermSteps("never"), TermSteps("but last", 1)])),
    ),
    "passes": (
        lambda r, m: replace(
            m, passes=TermSteps(r.choice(["but every", "but every from the end", "but last but"]), r.randint(2, 5))
        ),
    ),
    "step limit": (
        lambda r, m: replace(
            m, step_limit=(r.choice(["da", "dh"]), GradientClip("elements", r.choice([0.5, 1.0, 5.0])))
        ),
    ),
    "dW_ih": (
        read("weight_ih", "da[t].T @ x[t-1]"),
        read("weight_ih", "da[t].T @ x[0]"),
        read("weight_ih", "dh[t].T @ x[t]"),
    ),
    "dW_hh": (
        read("weight_hh", "da[t].T @ h[t]"),
        read("weight_hh", "(da[t].T @ h[t-1]).T"),
        read("weight_hh", "g[t].T @ h[t-1]"),
        read("weight_hh", "da[T-1-t].T @ h[t-1]"),
        *(read("weight_hh", f"da[t].T @ {name}") for name in ROWS_OVER_TIME if name[0] == "h"),
        *(read("weight_hh", f"da[t].T @ h[t-1] * {mask}") for mask in GRADIENT_MASKS[:6]),
    ),
    "db": (read("bias_ih", "dh[t].sum(0)"), read("bias_hh", "da[t].sum()")),
    "dx": (read("x", "da[t] @ W_hh @ W_ih"), read("x", "dh[t] @ W_ih")),
    "dhx": (read("hx", "da[0]"), read("hx", "da[0] @ W_hh.T")),
    "factor": (_factor,),
    "clip": (_clip,),
}


def drawn(random: Random) -> tuple[LayerModel, list[str]]:
    """Draw a layer with one to four mistakes, and the names of their slots."""
    names = random.sample(sorted(SLOTS), random.randint(1, 4))
    model = LayerModel()
    for name in names:
        model = random.choice(SLOTS[name])(random, model)
    return model, names


def drawn_network(seed: str) -> tuple[Network, list[str], str]:
    """Draw a network with one to four mistakes, a third of them stacks; its slots, and its stack of ``STACKS``.

    In a stack, each mistake is made in the first layer or direction, in the other one, or in both.
    """
    random, stack = Random(seed), Random(f"{seed}/stack").choice(["", "", "", "", "layers", "directions"])
    if not stack:
        model, names = drawn(random)
        return Network(model), names, stack
    names = random.sample(sorted(SLOTS), random.randint(1, 4))
    first, other = LayerModel(), LayerModel()
    for name in names:
        change, where, drawing = random.choice(SLOTS[name]), random.choice(["first", "other", "both"]), random.random()
        first = change(Random(drawing), first) if where != "other" else first
        other = change(Random(drawing), other) if where != "first" else other
    limits = [one for model in (first, other) for one in model.limits.items()]
    if any(role in ("x", "hx") or limit.kind == "joint norm" for role, limit in limits):  # of all layers together
        return drawn_network(f"{seed}/again")
    if stack == "layers":
        return Network(first, above=other), names, stack
    return Network(first, reverse=other), names, stack


def identified(network: Network | LayerModel, stack: str = "", interface: Sequence[str] = ()) -> Identification:
    """Return what is found of a network."""
    subject = as_subject(subject_of(network, interface))
    factors = ONLY | {name: (ONLY[name], value) for name, value in STACKS[stack].items()}
    scope = scope_of(subject).only(**{"dtype": ("float64", "float32"), **factors, **offers_of(interface)})
    return identify(Asker(ObservationCache(subject), scope, "tanh"))


def fresh_cases(random: Random, interface: Sequence[str] = (), **stack: Any) -> Iterator[Case]:
    """Yield cases of all sizes, the longest beyond every k of a pattern, with small and with large gradients."""
    offers = offers_of(interface)
    for number in range(FRESH):
        T, N, input_size, hidden_size = (random.randint(1, most) for most in (20, 4, 5, 5))
        factors: dict[str, Any] = {
            "input_size": input_size,
            "hidden_size": hidden_size,
            "T": T,
            "N": N,
            "dtype": "float64",
        }
        factors |= stack | {"hx": random.random() < 0.7, "loss": "h_n" if "last state alone" in interface else "both"}
        factors |= {name: random.choice(values) for name, values in offers.items() if factors.get(name) not in values}
        if "last state alone" in interface and factors.get("cell") == "LSTM":
            factors |= {"loss": None, "wrt": "all"}
        case = draw(RNNConfig(**factors), "normal", number)
        scale = 10.0 ** random.uniform(-2, 3)
        arrays = {name: v * scale if name.endswith(".grad") else v for name, v in case.arrays.items()}
        yield Case.from_arrays(case.config, arrays)


@np.errstate(all="ignore")
def differing(subject: Subject, found: Identification, interface: Sequence[str] = (), **factors: Any) -> set[str]:
    """Return the arrays that are said to be known, and that a program does not give on fresh cases."""
    wrong, close = set[str](), CLOSE_FLOAT32 if "float32 alone" in interface else CLOSE
    for case in fresh_cases(Random("fresh"), interface, **factors) if "the step" not in found.unknown else ():
        made, outcome = run(found.network, case), subject.run(case)
        if outcome.failure is not None:
            continue  # a term has no shape there
        if not all(np.isfinite(array).all() for array in outcome.arrays.values()):
            continue  # what a line computes may be out of range where its function is not
        for name, array in outcome.arrays.items():
            known = {name, role_of(name)}.isdisjoint(found.unknown)
            value = values_of(made[name])
            size = np.abs(value).max(initial=0)
            if known and not np.allclose(array, value, close, close * size, equal_nan=True):
                wrong.add(name)
    return wrong


class Told(NamedTuple):
    """What is told of a layer that was drawn."""

    network: Network
    slots: list[str]
    found: Identification
    wrong: set[str]  # the arrays that are told falsely
    left: AbstractSet[str] = frozenset()  # those of a stack of which nothing is told
    interface: tuple[str, ...] = ()


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Return the command line of a benchmark that draws layers."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=200)
    parser.add_argument("--only", type=int, nargs="+", help="the numbers of some of these layers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--interface", nargs="+", default=[], choices=["each", "pairs", *INTERFACES])
    parser.add_argument("--workers", type=int, default=1)
    return parser


def print_told(options: argparse.Namespace, told_of: Callable[[str, tuple[str, ...]], Told], cell: str) -> None:
    """Print the figures of layers, which are drawn from seeds, and each that is not told in the drawn words."""
    numbers = options.only or range(options.layers)
    interfaces = [chosen(options.interface, number, cell) for number in numbers]
    by_interface: dict[tuple[str, ...], Counter[str]] = {}
    figures = dict.fromkeys(("wholly", "in part", "not at all", "falsely"), 0)
    same = named = mistakes = 0
    pool = ProcessPoolExecutor(options.workers)
    every = pool.map(told_of, [f"{options.seed}/{number}" for number in numbers], interfaces)
    start = time.perf_counter()
    for number, (network, slots, found, wrong, left, interface) in zip(numbers, every, strict=True):
        planted, said = ({one.sentence for one in mistakes_of(of, "tanh")} for of in (network, found.network))
        part = "not at all" if "the step" in found.unknown else "in part"
        told = "falsely" if wrong else "wholly" if found.whole and not left else part
        figures[told] += 1
        by_interface.setdefault(interface, Counter())[told] += 1
        same += told == "wholly" and said == planted
        mistakes += len(planted)
        named += len(planted) if told == "wholly" else len(planted & said) if told == "in part" else 0
        if said != planted or told != "wholly":
            unknown = f"; unknown: {', '.join(found.unknown)}" if found.unknown else ""
            unknown += f"; not so: {', '.join(sorted(wrong | left))}" if wrong or left else ""
            within = f" ({', '.join(interface)})" if interface else ""
            print(f"{number}{within}: told {told}: {', '.join(slots)}{unknown}")
            print("".join(f"    - {one}\n" for one in sorted(planted - said)), end="")
            print("".join(f"    + {one}\n" for one in sorted(said - planted)), end="", flush=True)
    seconds = (time.perf_counter() - start) * options.workers / max(len(numbers), 1)
    for interface, counts in sorted(by_interface.items()) if options.interface else ():
        print(f"{' and '.join(interface)}: {', '.join(f'{told}: {count}' for told, count in counts.items())}")
    print(f"{len(numbers)} layers, told {', '.join(f'{told}: {count}' for told, count in figures.items())}")
    print(f"{same} of them in the same words, the others as equal numbers; {named} of {mistakes} mistakes told")
    print(f"{seconds:.1f} seconds a layer and worker; --seed {options.seed}")


def told_of(seed: str, interface: tuple[str, ...] = ()) -> Told:
    """Draw a network, identify it, and hold what is told against its program."""
    network, slots, stack = drawn_network(seed)
    subject, found = as_subject(subject_of(network, interface)), identified(network, stack, interface)
    wrong = differing(subject, found, interface)
    other = differing(subject, found, interface, **STACKS[stack]) if stack else set[str]()
    placed = found.network.above is not None or found.network.reverse is not None
    slots = [*slots, *([stack] if stack else [])]
    return Told(network, slots, found, wrong | other if placed else wrong, set() if placed else other, interface)


def main() -> None:
    """Draw layers, identify them, and print the figures."""
    print_told(arguments(__doc__).parse_args(), told_of, "RNN")


if __name__ == "__main__":
    main()
