"""The share of nets in which a small planted fault is seen: by ``np.allclose``, by ``assert_close``, by the harness.

The nets are of the default distribution, tanh, float32. Each fault is planted in torch's own run, through changed
weights or changed gradients, or in a recurrence written out in NumPy float32. It is there in every case that the
subject is given: in prefixes of the stack, and in the wider cases that ``check_agreement`` makes. There are three
tables:

- forward: one layer, T 5-50, H 8-128; the outputs are compared;
- gradients: one layer, T 20-40, H 8-32; ``np.allclose`` and ``assert_close`` look at the gradients alone;
- layer 0 of a stack of three bidirectional layers, T 5-30, H 8-32, compared without a loss and with one.

The columns are the shares of nets on which each way says that something is wrong, so that a row without a fault holds
the false alarms: ``np.allclose`` and ``torch.testing.assert_close`` at their defaults, against the float64 reference
(rounded to float32 for the latter); ``hard``, if the verdict is DISAGREES; ``soft``, if it is DISAGREES or SUSPECT. The
last table is the cost of each on a small net, in ms per case, the subject's own run included.

Run: ``python benchmarks/detection.py`` (some minutes), or with ``--nets 10``.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import starmap
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch are imported

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

from harness import Capabilities, Case, Outcome, Reference, RNNConfig, Subject, Verdict, check_agreement, draw
from harness.checks.agreement import assess, observe
from harness.space.factor_table import LOSSES
from harness.subjects.run_user_code import attempt
from harness.subjects.torch_module import TorchSubject

Array = NDArray[Any]
Change = Callable[[Array], Array]

COLUMNS: Final = ("np.allclose", "assert_close", "hard", "soft")
CUT: Final = 15  # The number of steps that truncated backpropagation goes back
TORCH: Final = TorchSubject()


def same(array: Array) -> Array:
    """Return the array unchanged."""
    return array


def to_tf32(array: Array) -> Array:
    """Round float32 to TF32's 11 bits, to nearest even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & 0xFFFFE000).astype(np.uint32).view(np.float32)


def to_bf16(array: Array) -> Array:
    """Round float32 to bfloat16's 8 bits."""
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


def scaled(array: Array, factor: float) -> Array:
    """Multiply all of the array by 1 + ``factor``, rounded once."""
    return (array.astype(np.float64) * (1 + factor)).astype(array.dtype)


def one_scaled(array: Array, factor: float) -> Array:
    """Multiply the first entry by 1 + ``factor``."""
    changed = array.copy()
    changed.flat[0] = scaled(changed.flat[:1], factor)[0]
    return changed


class Tampered:
    """Torch's own run, on changed weights, or with changed gradients."""

    name = "torch, tampered with"
    capabilities: ClassVar = Capabilities(offers={"loss": LOSSES})

    def __init__(
        self, weights: Mapping[str, Change] | None = None, gradients: Mapping[str, Change] | None = None
    ) -> None:
        self._weights, self._gradients = weights or {}, gradients or {}

    def devices(self) -> tuple[str, ...]:
        """Return the CPU."""
        return ("cpu",)

    def run(self, case: Case) -> Outcome:
        """Change the weights, run, and change the gradients."""
        changed = {name: self._weights.get(name, same)(array) for name, array in case.weights.items()}
        outcome = TORCH.run(replace(case, weights=changed))
        arrays = {name: self._gradients.get(name, same)(array) for name, array in outcome.arrays.items()}
        return replace(outcome, arrays=arrays)


@dataclass(frozen=True)
class Stepwise:
    """One layer, one direction, time first, in NumPy float32, forward and backward; each field is a way to be wrong."""

    operands: Change = same  # A change of every operand of a product in the forward pass
    carried: Change = same  # A change of a state before the next step reads it
    bend: float = 0.0  # The largest error of tanh
    operands_back: Change = same  # A change of every operand of a product in the backward pass
    for_slope: Change = same  # A change of a state before tanh' is computed from it
    cut: int | None = None  # The number of steps after which the backward pass ends
    name: str = "stepwise"
    capabilities: ClassVar = Capabilities(offers={"loss": LOSSES})

    def devices(self) -> tuple[str, ...]:
        """Return the CPU, because NumPy arrays are on the CPU."""
        return ("cpu",)

    def run(self, case: Case) -> Outcome:
        """Run forward, and backward if there is a loss."""
        return attempt(lambda: self._run(case))

    def _run(self, case: Case) -> dict[str, Array]:
        config = case.config
        if config.num_layers > 1 or config.bidirectional or config.batch_first or config.nonlinearity != "tanh":
            raise NotImplementedError("one layer of tanh, one direction, time first")
        W, V = (self.operands(case.weights[f"weight_{kind}_l0"]) for kind in ("ih", "hh"))
        b_ih, b_hh = case.weights["bias_ih_l0"], case.weights["bias_hh_l0"]
        h = np.zeros((config.N, config.hidden_size), np.float32) if case.hx is None else case.hx[0]
        before, states = [], []
        for x in case.x:
            before.append(h)
            s = self.operands(x) @ W.T + b_ih + (self.operands(h) @ V.T + b_hh)
            state = np.tanh(s)
            if self.bend:
                state = state + np.float32(self.bend) * np.sin(2 * s)
            states.append(state)
            h = self.carried(state)
        output = np.stack(states)
        arrays = {"output": output, "h_n": output[-1:]}
        return arrays if config.loss is None else arrays | self._back(case, np.stack(before), output)

    def _back(self, case: Case, before: Array, output: Array) -> dict[str, Array]:
        config, rounded = case.config, self.operands_back
        W, V = (rounded(case.weights[f"weight_{kind}_l0"]) for kind in ("ih", "hh"))
        g = case.cotangents.get("output.grad", np.zeros_like(output))
        dh = case.cotangents["h_n.grad"][0] if "h_n.grad" in case.cotangents else np.zeros_like(g[0])
        da = np.empty_like(output)
        for t in reversed(range(config.T)):
            h = self.for_slope(output[t])
            da[t] = (g[t] + dh) * (1 - h * h)
            dh = rounded(da[t]) @ V
            if self.cut is not None and t and t % self.cut == 0:
                dh = np.zeros_like(dh)
        flat = rounded(da).reshape(-1, config.hidden_size).T
        bias = da.reshape(-1, config.hidden_size).sum(0)
        found = {
            "x.grad": rounded(da) @ W,
            "hx.grad": dh[None],
            "weight_ih_l0.grad": flat @ rounded(case.x).reshape(-1, config.input_size),
            "weight_hh_l0.grad": flat @ rounded(before).reshape(-1, config.hidden_size),
            "bias_ih_l0.grad": bias,
            "bias_hh_l0.grad": bias,
        }
        return {name: found[name] for name in config.gradients}


class Row(NamedTuple):
    """A fault: its name, the subject that has it, and a change of the case beforehand."""

    fault: str
    subject: Subject
    prepared: Callable[[Case], Case] = lambda case: case


class Table(NamedTuple):
    """Faults, and the nets they are planted in."""

    title: str
    nets: Callable[[Random], RNNConfig]
    rows: Sequence[Row]


def small_b_hh(case: Case, largest: float) -> Case:
    """Return the case with b_hh scaled down to a largest value."""
    b_hh = case.weights["bias_hh_l0"].astype(np.float64)
    small = (b_hh * (largest / np.abs(b_hh).max())).astype(np.float32)
    return replace(case, weights={**case.weights, "bias_hh_l0": small}, origin=None)


def with_loss(case: Case) -> Case:
    """Return the same net with a loss that reads everything."""
    config = case.config.replace(loss="both")
    assert case.origin is not None
    rng = np.random.default_rng(case.origin.seed)
    cotangents = {name: rng.standard_normal(spec.shape).astype(np.float32) for name, spec in config.cotangents.items()}
    return replace(case, config=config, cotangents=cotangents, origin=None)


def on(name: str, change: Callable[[Array, float], Array], factor: float) -> Tampered:
    """Return torch with one parameter changed."""
    return Tampered(weights={name: lambda array: change(array, factor)})


FORWARD: Final = Table(
    "forward",
    lambda rng: RNNConfig(rng.randint(4, 32), rng.randint(8, 128), T=rng.randint(5, 50), N=rng.randint(1, 8)),
    [
        Row("none: torch", TORCH),
        Row("none: stepwise", Stepwise()),
        Row("operands rounded to TF32", Stepwise(operands=to_tf32)),
        Row("operands rounded to bf16", Stepwise(operands=to_bf16)),
        Row("carried h rounded to TF32", Stepwise(carried=to_tf32)),
        *(Row(f"one b_ih x (1 + {f:g})", on("bias_ih_l0", one_scaled, f)) for f in (1e-4, 1e-5, 1e-6)),
        Row("all b_ih x (1 + 1e-5)", on("bias_ih_l0", scaled, 1e-5)),
        *(Row(f"one W_hh x (1 + {f:g})", on("weight_hh_l0", one_scaled, f)) for f in (1e-4, 1e-5)),
        Row("all W_hh x (1 + 1e-5)", on("weight_hh_l0", scaled, 1e-5)),
        *(Row(f"tanh off by up to {e:g}", Stepwise(bend=e)) for e in (1e-5, 1e-6, 3e-7, 1e-7)),
        *(
            Row(
                f"no b_hh, |b_hh| <= {size:g}",
                Tampered(weights={"bias_hh_l0": np.zeros_like}),
                partial(small_b_hh, largest=size),
            )
            for size in (1e-4, 1e-5, 1e-6)
        ),
    ],
)

GRADIENTS: Final = Table(
    "gradients",
    lambda rng: RNNConfig(
        *(rng.randint(4, 16), rng.randint(8, 32)), T=rng.randint(20, 40), N=rng.randint(1, 8), hx=True, loss="both"
    ),
    [
        Row("none: torch", TORCH),
        Row("none: stepwise", Stepwise()),
        Row("TF32 in the products back", Stepwise(operands_back=to_tf32)),
        Row("tanh' from a bf16 h", Stepwise(for_slope=to_bf16)),
        Row(f"cut after {CUT} steps", Stepwise(cut=CUT)),
        *(
            Row(f"one dW_hh x (1 + {f:g})", Tampered(gradients={"weight_hh_l0.grad": partial(one_scaled, factor=f)}))
            for f in (1e-4, 1e-5)
        ),
        Row(
            "db x (1 + 1e-5)",
            Tampered(gradients={f"bias_{kind}_l0.grad": partial(scaled, factor=1e-5) for kind in ("ih", "hh")}),
        ),
    ],
)

_INNER: Final = [
    Row("none: torch", TORCH),
    *(Row(f"one bias x (1 + {f:g})", on("bias_ih_l0", one_scaled, f)) for f in (1e-4, 1e-5)),
    Row("all W_hh x (1 + 1e-5)", on("weight_hh_l0", scaled, 1e-5)),
]

STACK: Final = Table(
    "layer 0 of 3, bidirectional",
    lambda rng: RNNConfig(
        *(rng.randint(4, 16), rng.randint(8, 32), 3), bidirectional=True, T=rng.randint(5, 30), N=rng.randint(1, 8)
    ),
    [*_INNER, *(row._replace(fault=f"{row.fault}, with a loss", prepared=with_loss) for row in _INNER)],
)

SMALL: Final = RNNConfig(8, 16, T=10, N=2, hx=True)


def allclose(actual: Array, expected: Array) -> bool:
    """Compare by ``np.allclose`` at its defaults."""
    return bool(np.allclose(actual, expected))


def assert_close(actual: Array, expected: Array) -> bool:
    """Compare by ``torch.testing.assert_close`` at its defaults for float32."""
    try:
        torch.testing.assert_close(torch.tensor(actual), torch.tensor(expected.astype(np.float32)))
    except AssertionError:
        return False
    return True


def seen(row: Row, case: Case, *, gradients: bool) -> tuple[bool, bool, bool, bool]:
    """Return which columns say that something is wrong."""
    case = row.prepared(case)
    observed = observe(row.subject, case)
    verdict = assess(observed).verdict
    assert verdict in {Verdict.AGREES, Verdict.DISAGREES, Verdict.SUSPECT}, (row.fault, verdict)
    expected = Reference().run(case)
    looked_at = case.config.gradients if gradients else case.config.outputs
    arrays = observed.outcome.arrays
    pairs = [(arrays[name], expected[name]) for name in looked_at if name in arrays]
    by_hand = [not all(starmap(close, pairs)) for close in (allclose, assert_close)]
    return by_hand[0], by_hand[1], verdict is Verdict.DISAGREES, verdict is not Verdict.AGREES


def shares(table: Table, nets: int, seed: int) -> Iterator[tuple[str, list[float]]]:
    """Yield every fault with the share of nets in which each column sees it; the nets are the same for all faults."""
    cases = []
    for i in range(nets):
        rng = Random(f"{seed}/{table.title}/{i}")
        cases.append(draw(table.nets(rng), "default", rng.getrandbits(32)))
    for row in table.rows:
        print(f"\r{table.title}: {row.fault:40}", end="", file=sys.stderr, flush=True)
        found = [seen(row, case, gradients=table is GRADIENTS) for case in cases]
        yield row.fault, [float(share) for share in np.mean(found, axis=0)]
    print(f"\r{'':70}\r", end="", file=sys.stderr, flush=True)


def costs(repetitions: int = 200) -> Iterator[tuple[str, list[float]]]:
    """Yield each column's ms per case on a small net, without and with gradients; hard and soft come from one call."""
    for title, config in (("forward", SMALL), ("with gradients", SMALL.replace(loss="both"))):
        cases = [draw(config, "default", i) for i in range(repetitions)]

        def by_hand(case: Case, close: Callable[[Array, Array], bool]) -> bool:
            expected, outcome = Reference().run(case), TORCH.run(case)
            found = [close(array, expected[name]) for name, array in outcome.arrays.items()]
            return all(found)

        asked: list[Callable[[Case], object]] = [
            TORCH.run,
            partial(by_hand, close=allclose),
            partial(by_hand, close=assert_close),
            partial(check_agreement, TORCH),
        ]
        times = []
        for ask in asked:
            ask(cases[0])
            start = time.perf_counter()
            for case in cases:
                ask(case)
            times.append((time.perf_counter() - start) / repetitions * 1e3)
        yield title, times


def main() -> None:
    """Plant the faults, look for them, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nets", type=int, default=60, help="nets for each fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    start = time.perf_counter()
    figures: dict[str, Any] = {"nets": asked.nets, "seed": asked.seed, "columns": COLUMNS}
    for table in (FORWARD, GRADIENTS, STACK):
        print(f"{table.title + ', % of ' + str(asked.nets) + ' nets':40}" + "".join(f"{c:>14}" for c in COLUMNS))
        figures[table.title] = {}
        for fault, row in shares(table, asked.nets, asked.seed):
            print(f"  {fault:38}" + "".join(f"{share:14.0%}" for share in row), flush=True)
            figures[table.title][fault] = row
        print()
    sizes = f"I {SMALL.input_size}, H {SMALL.hidden_size}, T {SMALL.T}, N {SMALL.N}"
    heads = ("torch alone", *COLUMNS[:2], "hard, soft")
    print(f"{'ms a case, ' + sizes:40}" + "".join(f"{head:>14}" for head in heads))
    figures["ms"] = {}
    for title, row in costs():
        print(f"  {title:38}" + "".join(f"{ms:14.2f}" for ms in row))
        figures["ms"][title] = dict(zip(heads, row, strict=True))
    figures["seconds"] = time.perf_counter() - start
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
