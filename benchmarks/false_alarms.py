"""The false alarms on correct implementations: by the harness, by ``np.allclose``, and by ``assert_close``.

Cases are drawn from all distributions, sizes 1 to 33 (mostly small), every layout, gradients included; case i of a seed
is the same whatever the number of workers. Each is run on one correct subject:

- torch, gru, lstm: torch's own ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` and autograd, in all dtypes;
- calls: the same over the whole scope that torch is searched in, large sizes and every way of calling it: packed,
  unbatched, in strides, in autocast, with dropout, prepared in all ways; with probes in one case of four;
- orders: written by hand here, forward and backward, in float32 and float64; each case takes all its sums in one of
  nine orders, with or without fused multiply-add (emulated: in a wider format, rounded once);
- gates: an ``nn.GRU`` or ``nn.LSTM`` by hand, forward, in one of these orders, three forms of sigmoid, and four of the
  GRU's mix, with r inside of its sum or outside;
- fma: the same, always with fused multiply-add;
- wide: the same in float64 (float64 in the machine's long double), rounded only when it returns, in all dtypes.

DISAGREES and SUSPECT are ``check_agreement``'s verdicts; every one of them is listed below the table with the arguments
that draw its case again. A case counts under ``forward`` for output, h_n and readout, under ``gradients`` for the rest.
``np.allclose`` and ``assert_close``, each at its defaults for the dtype, compare the same subject's arrays with the
float64 reference (rounded to the dtype for ``assert_close``). They are asked only if all numbers are finite: ``finite``
says how often. ``end to end`` counts cases whose inner states could not be obtained, ``known`` those that a known
issue of torch explains.

Run: ``python benchmarks/false_alarms.py --subject orders --cases 200000 --workers 2``.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import starmap
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch are imported, here and in every worker

import numpy as np
import torch
from numpy.typing import NDArray

from harness import Capabilities, Case, Outcome, RNNConfig, Subject, Verdict, draw
from harness.checks.agreement import assess, observe
from harness.checks.known_issues import known_or_not
from harness.checks.result import ComparisonMethod, Result
from harness.oracle.setting import reference_of
from harness.space.config import weight_names
from harness.space.factor_table import DTYPES, LOSSES
from harness.space.scope import HIGHEST_COST, affordable, configure
from harness.space.values import DISTRIBUTIONS
from harness.subjects.protocol import scope_of
from harness.subjects.registry import find_subject
from harness.subjects.run_user_code import attempt
from harness.subjects.torch_module import TorchSubject
from harness.subjects.torch_tensors import from_numpy

Array = NDArray[Any]

FORWARD: Final = ("output", "h_n", "c_n", "readout")
PARTS: Final = ("forward", "gradients")
CHUNK: Final = 200  # The number of cases between two reports of progress
LIMIT: Final = 1_500_000
"""The number of products per layer (of the probed case, which is wider) beyond which a case is drawn again for the
hand-written subjects, which form every product by itself.
"""
LANES: Final = 16


class Products(NamedTuple):
    """Products a (m, R, 1) times b (m, 1, K), to be summed over m; or, if b is ``None``, a (m, R, K) as they are."""

    a: Array
    b: Array | None

    def formed(self) -> Array:
        """Return the products, (m, R, K)."""
        return self.a if self.b is None else self.a * self.b

    def multiplied(self) -> Array:
        """Return their sum, by a matrix product."""
        return np.asarray(self.a.sum(0) if self.b is None else self.a[..., 0].T @ self.b[:, 0])


def rows_times(rows: Array, matrix: Array) -> Products:
    """Return rows (R, m) times a matrix (m, K)."""
    return Products(rows.T[:, :, None], matrix[:, None, :])


def sequential(terms: Array) -> Array:
    """Add one term after the other; ``accumulate``, unlike ``sum``, guarantees this order."""
    return np.asarray(np.add.accumulate(terms, axis=0)[-1])


def in_pairs(terms: Array) -> Array:
    """Add neighbours first, then the sums of neighbours."""
    while len(terms) > 1:
        paired = terms[: len(terms) // 2 * 2]
        terms = np.concatenate([paired[::2] + paired[1::2], terms[len(paired) :]])
    return np.asarray(terms[0])


def in_lanes(terms: Array) -> Array:
    """Add like a vector unit: every 16th term into one lane, then the lanes in pairs."""
    missing = -len(terms) % LANES
    padded = np.concatenate([terms, np.zeros((missing, *terms.shape[1:]), terms.dtype)])
    return in_pairs(sequential(padded.reshape(-1, LANES, *terms.shape[1:])))


def by_size(terms: Array, *, down: bool) -> Array:
    """Add each element's terms in the order of their absolute values."""
    order = np.argsort(np.abs(terms), axis=0, kind="stable")
    return sequential(np.take_along_axis(terms, order[::-1] if down else order, axis=0))


ORDERS: Final[dict[str, Callable[[Array], Array]]] = {
    "sequential": sequential,
    "reversed": lambda terms: sequential(terms[::-1]),
    "pairwise": in_pairs,
    "lanes": in_lanes,
    "small first": lambda terms: by_size(terms, down=False),
    "large first": lambda terms: by_size(terms, down=True),
}
"""The orders of one flat sum. The others are ``random``, ``gemms`` (a matrix product for each part, then the parts in
pairs) and ``fma``.
"""

CHOICES: Final = (*ORDERS, "random", "gemms", "fma")


class Style(NamedTuple):
    """The way a hand-written subject computes one case, and everything that is derived from the case."""

    order: str = "gemms"
    seed: int = 0  # The seed of the random orders
    factored: bool = False  # True if tanh' is (1 - h)(1 + h) instead of 1 - h h
    wide: bool = False  # True if everything is computed in a wider format and rounded once

    def total(self, parts: Sequence[Products]) -> Array:
        """Return the sum of all products."""
        if self.order == "gemms":
            sums = [part.multiplied() for part in parts]
            return in_pairs(np.stack(sums)) if len(sums) > 1 else sums[0]
        if self.order == "fma":
            return self._fused(parts)
        formed = [part.formed() for part in parts]
        terms = formed[0] if len(formed) == 1 else np.concatenate(formed)
        if self.order == "random":
            return sequential(terms[np.random.default_rng([self.seed, len(terms)]).permutation(len(terms))])
        return ORDERS[self.order](terms)

    @staticmethod
    def _fused(parts: Sequence[Products]) -> Array:
        """Add in a row, each product before it is rounded. In long double that is rounded twice, at 2**-64."""
        dtype = parts[0].a.dtype
        wider = np.float64 if dtype == np.float32 else np.longdouble
        exact = [Products(p.a.astype(wider), None if p.b is None else p.b.astype(wider)).formed() for p in parts]
        total = np.zeros(exact[0].shape[1:], dtype)
        for part in exact:
            for term in part:
                total = (term + total).astype(dtype)
        return total


class HandWritten:
    """A correct recurrent layer and its gradients, in NumPy, written without looking at ``harness.oracle``."""

    capabilities: ClassVar = Capabilities(offers={"loss": LOSSES})

    def __init__(self, style: Style, name: str) -> None:
        self.name = name
        self.style = style

    def devices(self) -> tuple[str, ...]:
        """Return the CPU, because NumPy arrays are on the CPU."""
        return ("cpu",)

    def run(self, case: Case) -> Outcome:
        """Run forward, and backward if there is a loss."""

        def call() -> Mapping[str, Array]:
            config = case.config
            work: Any = np.dtype(config.dtype)
            if self.style.wide:
                work = np.longdouble if config.dtype == "float64" else np.float64
            arrays = {name: array.astype(work) for name, array in case.arrays.items()}
            found = _Pass(config, arrays, self.style).run()
            return {name: found[name].astype(config.dtype) for name in config.returned}

        with np.errstate(all="ignore"):
            return attempt(call)


class _Pass:
    """One run, with all arrays in the format of the computation, time first."""

    def __init__(self, config: RNNConfig, arrays: dict[str, Array], style: Style) -> None:
        self.config, self.arrays, self.style = config, arrays, style
        self.dtype = arrays["x"].dtype
        self.x = self._turned(arrays["x"])
        self.inputs: list[Array] = []
        """The inputs of every layer, (T, N, features)."""
        self.before: dict[tuple[int, int], Array] = {}
        """The previous state that every step of a layer and direction reads, (T, N, H)."""
        self.states: dict[tuple[int, int], Array] = {}

    def run(self) -> dict[str, Array]:
        config = self.config
        below = self.x
        for layer in range(config.num_layers):
            self.inputs.append(below)
            below = np.concatenate([self._forward(layer, d, below) for d in range(config.num_directions)], axis=2)
        last = [states[0 if d else -1] for (_, d), states in self.states.items()]
        found = {"output": self._turned(below), "h_n": np.stack(last)}
        if config.output_size is not None:
            weight, bias = self.arrays["readout.weight"], self.arrays["readout.bias"]
            flat = self._sum([rows_times(_rows(below), weight.T), rows_times(self._ones(_rows(below)), bias[None])])
            found["readout"] = self._turned(flat.reshape(config.T, config.N, -1))
        return found if config.loss is None else found | self._back(below)

    def _steps(self, d: int) -> list[int]:
        steps = list(range(self.config.T))
        return steps[::-1] if d else steps

    def _forward(self, layer: int, d: int, x: Array) -> Array:
        config = self.config
        W, V, *biases = (self.arrays[name] for name in weight_names(layer, d, bias=config.bias))
        before = np.zeros((config.T, config.N, config.hidden_size), self.dtype)
        states = np.zeros_like(before)
        h = self.arrays["hx"][layer * config.num_directions + d] if config.hx else before[0].copy()
        for t in self._steps(d):
            before[t] = h
            parts = [[rows_times(x[t], W.T)], [rows_times(h, V.T)]]
            for part, bias in zip(parts, biases, strict=False):
                part.append(rows_times(self._ones(h), bias[None]))
            s = self._sum([product for part in parts for product in part])
            h = np.tanh(s) if config.nonlinearity == "tanh" else np.maximum(s, self.dtype.type(0))
            states[t] = h
        self.before[layer, d], self.states[layer, d] = before, states
        return states

    def _back(self, top: Array) -> dict[str, Array]:
        config, found = self.config, dict[str, Array]()
        hx: dict[int, Array] = {}

        def from_loss(t: int, part: slice) -> list[Products]:
            if "output.grad" in self.arrays:
                return [Products(self._turned(self.arrays["output.grad"])[t][None, :, part], None)]
            if "readout.grad" in self.arrays:
                g = self._turned(self.arrays["readout.grad"])[t]
                return [rows_times(g, self.arrays["readout.weight"][:, part])]
            return []

        above: Callable[[int, slice], list[Products]] = from_loss
        for layer in reversed(range(config.num_layers)):
            das = [self._back_through(layer, d, above) for d in range(config.num_directions)]
            matrices = []
            for d, da in enumerate(das):
                names = weight_names(layer, d, bias=config.bias)
                beside = (self.inputs[layer], self.before[layer, d], self._ones(da), self._ones(da))
                for name, factor in zip(names, beside, strict=False):
                    gradient = self._over_time(da, factor, d)
                    found[f"{name}.grad"] = gradient[:, 0] if name.startswith("bias") else gradient
                matrices.append(self.arrays[names[0]])
                row = layer * config.num_directions + d
                hx[row] = self._sum([rows_times(da[self._steps(d)[0]], self.arrays[names[1]])])
            above = _below(das, matrices)
        x = np.stack([self._sum(above(t, slice(None))) for t in range(config.T)])
        found |= {"x.grad": self._turned(x), "hx.grad": np.stack([hx[row] for row in sorted(hx)])}
        if config.output_size is not None:
            g = self.arrays.get("readout.grad")
            g = np.zeros((config.T, config.N, config.output_size), self.dtype) if g is None else self._turned(g)
            found["readout.weight.grad"] = self._over_time(g, top, 0)
            found["readout.bias.grad"] = self._over_time(g, self._ones(g), 0)[:, 0]
        return found

    def _back_through(self, layer: int, d: int, above: Callable[[int, slice], list[Products]]) -> Array:
        config, h = self.config, self.states[layer, d]
        part = slice(d * config.hidden_size, (d + 1) * config.hidden_size)
        V = self.arrays[weight_names(layer, d, bias=config.bias)[1]]
        one = self.dtype.type(1)
        if config.nonlinearity == "relu":
            slope = (h > 0).astype(self.dtype)
        else:
            slope = (one - h) * (one + h) if self.style.factored else one - h * h
        da, last = np.zeros_like(h), self._steps(d)[-1]
        later: Array | None = None
        for t in reversed(self._steps(d)):
            parts = above(t, part)
            if t == last and "h_n.grad" in self.arrays:
                parts.append(Products(self.arrays["h_n.grad"][layer * config.num_directions + d][None], None))
            if later is not None:
                parts.append(rows_times(later, V))
            if parts:
                da[t] = self._sum(parts) * slope[t]
            later = da[t]
        return da

    def _over_time(self, left: Array, right: Array, d: int) -> Array:
        """Return the sum over time and batch of left (T, N, R) times right (T, N, K): (R, K), from the last step on."""
        return self._sum([Products(left[t][:, :, None], right[t][:, None, :]) for t in reversed(self._steps(d))])

    def _sum(self, parts: Sequence[Products]) -> Array:
        return self.style.total(parts)

    def _ones(self, like: Array) -> Array:
        return np.ones((*like.shape[:-1], 1), self.dtype)

    def _turned(self, array: Array) -> Array:
        return array.swapaxes(0, 1) if self.config.batch_first else array


SIGMOIDS: Final[dict[str, Callable[[Array], Array]]] = {
    "exp": lambda s: s.dtype.type(1) / (1 + np.exp(-s)),
    "branches": lambda s: np.where(s >= 0, 1 / (1 + np.exp(-np.abs(s))), np.exp(-np.abs(s)) / (1 + np.exp(-np.abs(s)))),
    "tanh": lambda s: s.dtype.type(0.5) + s.dtype.type(0.5) * np.tanh(s * s.dtype.type(0.5)),
}
MIXES: Final[dict[str, Callable[[Array, Array, Array], Array]]] = {
    "(1 - z) n + z h": lambda z, n, h: (1 - z) * n + z * h,
    "n + z (h - n)": lambda z, n, h: n + z * (h - n),
    "h + (1 - z) (n - h)": lambda z, n, h: h + (1 - z) * (n - h),
    "n - z n + z h": lambda z, n, h: n - z * n + z * h,
}


class Form(NamedTuple):
    """The forms in which a layer of gates computes."""

    sigmoid: str
    mix: str
    inside: bool  # True if r multiplies each product with h, and not their sum


class GatedHandWritten(HandWritten):
    """A correct layer of gates on the way forward."""

    capabilities: ClassVar = Capabilities(offers={"cell": ("GRU", "LSTM"), "loss": (None,)})

    def __init__(self, style: Style, form: Form, name: str) -> None:
        super().__init__(style, name)
        self.form = form

    def run(self, case: Case) -> Outcome:
        """Run forward."""
        with np.errstate(all="ignore"):
            return attempt(lambda: _GatedPass(case.config, {**case.arrays}, self.style, self.form).run())


class _GatedPass(_Pass):
    def __init__(self, config: RNNConfig, arrays: dict[str, Array], style: Style, form: Form) -> None:
        super().__init__(config, arrays, style)
        self.form, self.kept = form, list[Array]()

    def run(self) -> dict[str, Array]:
        found = super().run()
        return found | ({"c_n": np.stack(self.kept)} if self.config.cell == "LSTM" else {})

    def _forward(self, layer: int, d: int, x: Array) -> Array:
        config, form, sigmoid = self.config, self.form, SIGMOIDS[self.form.sigmoid]
        names, row = weight_names(layer, d, bias=config.bias), layer * config.num_directions + d
        blocks = [np.split(self.arrays[name], 4 if config.cell == "LSTM" else 3) for name in names]
        states = np.zeros((config.T, config.N, config.hidden_size), self.dtype)
        h = self.arrays["hx"][row] if config.hx else np.zeros_like(states[0])
        c = self.arrays["cx"][row] if "cx" in self.arrays else np.zeros_like(h)

        def parts(k: int, read: Array) -> list[list[Products]]:
            found = [[rows_times(x[t], blocks[0][k].T)], [rows_times(read, blocks[1][k].T)]]
            for part, bias in zip(found, blocks[2:], strict=False):
                part.append(rows_times(self._ones(read), bias[k][None]))
            return found

        for t in self._steps(d):
            if config.cell == "LSTM":
                i, f, g, o = (self._sum([one for part in parts(k, h) for one in part]) for k in range(4))
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            else:
                r, z = (sigmoid(self._sum([one for part in parts(k, h) for one in part])) for k in range(2))
                of_x, of_h = parts(2, h)
                if form.inside:
                    of_h = [Products(r[None] * one.formed(), None) for one in of_h]
                    n = np.tanh(self._sum([*of_x, *of_h]))
                else:
                    n = np.tanh(self._sum([*of_x, Products((r * self._sum(of_h))[None], None)]))
                h = MIXES[form.mix](z, n, h)
            states[t] = h
        self.before[layer, d], self.states[layer, d] = states, states
        self.kept.append(c)
        return states


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


def _below(das: Sequence[Array], matrices: Sequence[Array]) -> Callable[[int, slice], list[Products]]:
    """Return a function for what reaches the layer below, at a time step and for some of its features."""
    return lambda t, part: [rows_times(da[t], W[:, part]) for da, W in zip(das, matrices, strict=True)]


TORCH: Final = TorchSubject()
OF_TORCH: Final = {"torch": TORCH, "gru": find_subject("torch:gru"), "lstm": find_subject("torch:lstm")}
WHOLE: Final = scope_of(TORCH)


CALLS: Final = "torch, in any call"

CHEAP: Final = 2**17
# The share of cases called in any way in which sizes give way at an eighth of the cost that a search affords.
RARE: Final = 0.9


class Drawn(NamedTuple):
    """One case, the subject that runs it, and a description of the subject."""

    number: int
    case: Case
    subject: Subject
    style: str


def drawn(subject: str, seed: int, index: int) -> Drawn:
    """Return case ``index`` of a seed."""
    rng = Random(f"{seed}/{index}")
    if subject == "calls":
        return Drawn(index, draw(_any_call(rng), rng.choice(list(DISTRIBUTIONS)), rng.getrandbits(32)), TORCH, CALLS)
    dtypes: tuple[str, ...] = DTYPES if subject in {*OF_TORCH, "wide"} else ("float32", "float64")
    cell = (
        subject.upper() if subject in {"gru", "lstm"} else rng.choice(("GRU", "LSTM")) if subject == "gates" else "RNN"
    )
    while True:
        config = RNNConfig(
            *(_size(rng), _size(rng)),
            num_layers=rng.choice((1, 1, 2, 3)),
            nonlinearity=rng.choice(("tanh", "relu")) if cell == "RNN" else "tanh",
            bias=rng.random() < 0.75,
            batch_first=rng.random() < 0.5,
            bidirectional=rng.random() < 0.5,
            T=_size(rng),
            N=_size(rng),
            hx=rng.random() < 0.5,
            dtype=rng.choice(dtypes),
            output_size=_size(rng) if rng.random() < 0.2 else None,
            loss=rng.choice(LOSSES) if subject != "gates" else None,
            cell=cell,
        )
        if subject == "lstm":
            config = config.replace(proj_size=min(rng.choice((0, 0, 1, 2, 8)), config.hidden_size - 1))
        if subject in OF_TORCH or _products(config) <= LIMIT:
            break
    case = draw(config, rng.choice(list(DISTRIBUTIONS)), rng.getrandbits(32))
    if subject in OF_TORCH:
        return Drawn(index, case, OF_TORCH[subject], subject)
    style = Style(rng.choice(CHOICES), rng.getrandbits(16), factored=rng.random() < 0.5)
    if subject == "gates":
        form = Form(rng.choice([*SIGMOIDS]), rng.choice([*MIXES]), rng.random() < 0.5)
        return Drawn(index, case, GatedHandWritten(style, form, subject), f"{style!r}, {form!r}")
    if subject == "fma":
        style = style._replace(order="fma")
    if subject == "wide":
        style = style._replace(order="gemms", wide=True)
    return Drawn(index, case, HandWritten(style, subject), repr(style))


def _any_call(rng: Random) -> RNNConfig:
    """Return a config of the whole scope, with each factor drawn alone."""
    factors = {name: rng.choice(getattr(WHOLE, name)) for name in WHOLE.values()}
    factors["dropout"], factors["training"] = rng.choice(WHOLE.modes)
    return configure(affordable(factors, CHEAP if rng.random() < RARE else HIGHEST_COST), rng.getrandbits(32))


def _size(rng: Random) -> int:
    """Draw a size from 1 to 33, mostly small."""
    return rng.randint(*rng.choices(((1, 6), (7, 17), (18, 33)), (70, 24, 6))[0])


def _products(config: RNNConfig) -> int:
    """Return the products in one direction of the widest layer that is run."""
    wider = config.num_layers if config.loss is not None else 1
    H = wider * config.hidden_size
    features = config.input_size + (config.num_directions * H if config.loss is not None else 0)
    features = max(features, config.num_directions * H if config.num_layers > 1 else 0)
    return config.T * config.N * H * (features + H)


class Counted(NamedTuple):
    """The results of some cases: numbers by ``dtype/part/what``, and every alarm of the harness."""

    numbers: Counter[str]
    alarms: list[dict[str, Any]]


def count(subject: str, seed: int, indices: range) -> Counted:
    """Draw, run and judge some cases."""
    counted = Counted(Counter(), [])
    for index in indices:
        _judge(drawn(subject, seed, index), counted)
    return counted


def _judge(drawn: Drawn, counted: Counted) -> None:
    numbers, config = counted.numbers, drawn.case.config.plain
    seen = observe(drawn.subject, drawn.case, with_probes=drawn.number % 4 == 0 or drawn.style != CALLS)
    result = assess(seen)
    if result.verdict is not Verdict.AGREES and known_or_not(seen, result).known_as is not None:
        numbers["known"] += 1
        result = Result(Verdict.AGREES, method=result.method)
    parts = PARTS if config.loss is not None else PARTS[:1]
    at = f"{config.dtype}/"
    for part in parts:
        numbers[f"{at}{part}/cases"] += 1
    numbers["end to end"] += result.method is ComparisonMethod.END_TO_END
    if result.verdict is not Verdict.AGREES:
        evidence = {PARTS[name.array not in FORWARD] for name in result.mismatches} or {PARTS[0]}
        for part in evidence:
            numbers[f"{at}{part}/{result.verdict.value}"] += 1
        origin = drawn.case.origin
        assert origin is not None
        what = [
            f"{m.array}, {m.sort.value}, layer {m.layer}{', probed' if m.probed else ''}: {m.count} of {m.total}; "
            + "; ".join(f"{dict(s.place)} {s.actual!r} not {s.expected!r} +- {s.tolerance:.3g}" for s in m.sites[:1])
            for m in result.mismatches
        ]
        counted.alarms.append(
            {
                "index": drawn.number,
                "verdict": result.verdict.value,
                "case": f"draw({drawn.case.config!r}, {origin.distribution!r}, {origin.seed})",
                "style": drawn.style,
                "what": what or [result.message],
            }
        )
    if seen.outcome.failure is not None:
        return
    with np.errstate(all="ignore"):
        expected = reference_of(config).run(seen.case)
        for part in parts:
            names = [name for name in seen.outcome.arrays if (name in FORWARD) == (part == "forward")]
            pairs = [(seen.outcome.arrays[name], expected[name]) for name in names]
            if all(np.isfinite(a).all() and np.isfinite(e.astype(a.dtype)).all() for a, e in pairs):
                numbers[f"{at}{part}/finite"] += 1
                numbers[f"{at}{part}/allclose"] += not all(starmap(_allclose, pairs))
                numbers[f"{at}{part}/assert_close"] += not all(starmap(_assert_close, pairs))


def _allclose(actual: Array, expected: Array) -> bool:
    return bool(np.allclose(actual.astype(np.result_type(np.float64, expected)), expected))


def _assert_close(actual: Array, expected: Array) -> bool:
    try:
        torch.testing.assert_close(from_numpy(actual), from_numpy(expected.astype(actual.dtype)))
    except AssertionError:
        return False
    return True


def counted_in_chunks(subject: str, seed: int, cases: int, workers: int) -> Iterator[Counted]:
    """Yield the results, some cases at a time, in this process or in several."""
    chunks = [range(start, min(start + CHUNK, cases)) for start in range(0, cases, CHUNK)]
    if workers == 1:
        for chunk in chunks:
            yield count(subject, seed, chunk)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for future in as_completed([pool.submit(count, subject, seed, chunk) for chunk in chunks]):
            yield future.result()


def table(numbers: Mapping[str, int]) -> Iterator[str]:
    """Yield the figures, a line for each dtype and part."""
    columns = ("cases", "disagrees", "suspect", "finite", "allclose", "assert_close")
    heads = ("cases", "DISAGREES", "SUSPECT", "finite", "np.allclose", "assert_close")
    yield f"{'':20}" + "".join(f"{head:>15}" for head in heads)
    for dtype in DTYPES:
        for part in PARTS:
            row = [numbers.get(f"{dtype}/{part}/{column}", 0) for column in columns]
            if row[0]:
                finite = max(row[3], 1)
                shown = [f"{n:,}" for n in row[:4]] + [f"{n:,} ({n / finite:.1%})" for n in row[4:]]
                yield f"{dtype:10}{part:10}" + "".join(f"{cell:>15}" for cell in shown)


def main() -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--subject", choices=(*OF_TORCH, "calls", "orders", "gates", "wide", "fma"), default="torch")
    parser.add_argument("--cases", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    whole, start = Counted(Counter(), []), time.perf_counter()
    done = 0
    for counted in counted_in_chunks(asked.subject, asked.seed, asked.cases, asked.workers):
        whole.numbers.update(counted.numbers)
        whole.alarms.extend(counted.alarms)
        for alarm in counted.alarms:  # printed at once, in case nobody waits for the rest
            print(f"\n{alarm['index']} {alarm['verdict']}: {alarm['case']}: {alarm['what'][0]}", file=sys.stderr)
        done = min(done + CHUNK, asked.cases)
        spent = time.perf_counter() - start
        alarms = len(whole.alarms)
        told = f"{done:,} of {asked.cases:,}, {done / spent:.0f} a second, {alarms} alarms"
        print(f"\r{told}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    whole.alarms.sort(key=lambda alarm: alarm["index"])
    seconds = time.perf_counter() - start
    print(f"{asked.subject}: {asked.cases:,} cases, --seed {asked.seed}, {seconds:.0f} s")
    print(*table(whole.numbers), sep="\n")
    print(f"end to end: {whole.numbers['end to end']:,}; known: {whole.numbers['known']:,}")
    for alarm in whole.alarms:
        print(f"\ncase {alarm['index']} {alarm['verdict']}: {alarm['case']}\n  {alarm['style']}")
        print(*(f"  {line}" for line in alarm["what"]), sep="\n")
    if asked.json:
        figures = {
            "subject": asked.subject,
            "cases": asked.cases,
            "seed": asked.seed,
            "seconds": seconds,
            "numbers": dict(sorted(whole.numbers.items())),
            "alarms": whole.alarms,
        }
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
