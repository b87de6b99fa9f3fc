"""The planted faults that each way of testing kills, and the time it takes: the harness beside common alternatives.

Every fault of the catalogue is planted as the self-test plants it, and run in each way until it is killed:

- harness: ``hunt`` with its default budget, over what the planted subject offers, as the self-test has it: gradients,
  packed batches, masks or a readout only if the fault needs them; a kill ends in a finding;
- harness, whole space: the same, but every planted subject offers all of these, so that nothing tells where to look;
- hypothesis: a property over the harness's own ``configs`` (sizes 1 to 16, float32, layers, nonlinearity, bias,
  batch_first, bidirectional, hx). Its arrays are drawn by ``hypothesis.extra.numpy``, which draws some of the elements
  and fills the rest with one value; results are compared with ``Reference``. With ``gradients``, those of a loss on the
  output, on h_n or on both are compared, too;
- every element: the same, with each element drawn (``fill=nothing()``); examples that exceed Hypothesis's buffer are
  not drawn;
- hypothesis-torch: the same, drawn by its ``tensor_strategy``, which also draws each element;
- ModuleInfo: torch's own samples of ``nn.RNN``, float32 and float64, train and eval, with gradients and without, also
  packed, on freshly initialised weights; compared with torch by ``assert_close``, gradients of the outputs' sum;
- notebook: the one example of ``examples/notebook.py``, the readout included.

All but ModuleInfo compare by ``np.allclose`` with the reference rounded to the dtype, or with ``--close assert_close``
by that. Examples do not depend on the subject as long as none fails, so they are drawn once for all faults, and their
cost is added to each. Seconds are CPU time of one thread up to the first kill: drawing, expecting, running, comparing.
Shrinking is not timed. The harness plans its covering array again for each fault, which the self-test does once for all
faults with the same scope.

An example on which a correct layer fails proves nothing. ``kills`` counts a fault that fails anywhere; ``sound`` only
one that fails where torch and the reference planted without a fault pass; seconds and examples are up to the first
sound kill. ``a run`` is the cost of all examples on torch. False alarms are the share of examples on which each correct
layer fails.

Run: ``python benchmarks/kills.py`` (a quarter of an hour), or with ``--families bias``, ``--only IgnoresBiasHH``,
``--ways harness notebook``. It needs ``pip install hypothesis-torch expecttest``; ways whose package is missing are
left out.
"""

import argparse
import importlib
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.checks.case_checks import against
from harness.processes import one_thread_a_process
from harness.search.search import Search
from harness.search.search_options import SearchOptions
from harness.search.search_record import Finding

one_thread_a_process()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed as seeded, settings, strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence  # noqa: E402

from benchmarks.planted import CATALOGUE, Fault  # noqa: E402
from benchmarks.planted.subject import PlantedSubject  # noqa: E402
from benchmarks.selftest import chosen  # noqa: E402
from harness import Case, Reference, RNNConfig, Scope, Subject, Verdict, check_agreement, configs, hunt  # noqa: E402
from harness.search.covering import _covering  # noqa: E402
from harness.search.search_record import SearchRecord  # noqa: E402
from harness.space.case import Array, as_plain  # noqa: E402
from harness.space.interactions import interactions_of  # noqa: E402
from harness.subjects.torch_module import TorchSubject  # noqa: E402

Arrays = Mapping[str, Array]
Close = Callable[[Array, Array], bool]
Drawn = Callable[[tuple[int, ...]], st.SearchStrategy[Array]]

SIZES: Final = tuple(range(1, 17))
# The scope that a property written by hand would ask of a layer.
NAIVE: Final = Scope().only(
    **dict.fromkeys(("input_size", "hidden_size", "T", "N"), SIZES), dtype="float32", dropout=0.0, training=False
)
WAYS: Final = ("harness", "harness-whole", "hypothesis", "every-element", "hypothesis-torch", "ModuleInfo", "notebook")
REFERENCE: Final = Reference()
TORCH: Final = TorchSubject()


@dataclass(frozen=True)
class Example:
    """A case, its expected results, and the CPU seconds that both took."""

    case: Case
    expected: Arrays
    seconds: float


@dataclass(frozen=True)
class Way:
    """A way of testing that is a list of examples."""

    name: str
    examples: Sequence[Example]
    close: Close


@dataclass
class Killed:
    """The result for one fault: if it was killed, and at what cost."""

    kill: bool = False  # True if it fails somewhere
    sound: bool = False  # True if it fails where correct layers pass
    examples: int | None = None
    seconds: float | None = None  # Seconds up to the first sound kill


@dataclass
class Row:
    """The results of one way of testing."""

    way: str
    examples: int  # The number of examples in one run
    run_seconds: float  # The seconds of one run on torch
    alarms_torch: float  # The share of examples on which torch fails
    alarms_planted: float  # The share of examples on which the reference, planted without a fault, fails
    faults: dict[str, Killed]


def allclose(actual: Array, expected: Array) -> bool:
    """Compare by ``np.allclose`` at its defaults."""
    return bool(np.allclose(actual, expected))


def assert_close(actual: Array, expected: Array) -> bool:
    """Compare by ``torch.testing.assert_close`` at its defaults."""
    try:
        torch.testing.assert_close(torch.from_numpy(np.array(actual)), torch.from_numpy(np.array(expected)))
    except AssertionError:
        return False
    return True


def right(offers: Mapping[str, Any]) -> PlantedSubject:
    """Return the reference, planted without a fault."""
    subject = PlantedSubject(Fault("none", "makes no mistake", {}))
    subject.name = "no fault"
    subject.capabilities = replace(subject.capabilities, offers=offers)
    return subject


def returned(subject: Subject, case: Case) -> dict[str, Array]:
    """Return what a subject gives on a case, with padding of outputs set to zero."""
    outcome = subject.run(case)
    assert outcome.failure is None, (subject.name, case.config, outcome.message)
    return as_plain(case.config, outcome.arrays)


def fails(subject: Subject, example: Example, close: Close) -> bool:
    """Return whether a subject fails on an example."""
    actual = returned(subject, example.case)
    return not all(close(actual[name], array) for name, array in example.expected.items())


def by_reference(case: Case, before: float) -> Example:
    """Return a case with the reference's results in its dtype; ``before`` is when its drawing began."""
    with np.errstate(all="ignore"):
        expected = {name: array.astype(case.config.dtype) for name, array in REFERENCE.run(case).items()}
    return Example(case, expected, time.process_time() - before)


def naive(count: int, seed: int, arrays: Drawn, *, gradients: bool) -> list[Example]:
    """Return the examples of a property for the seed that Hypothesis would take."""
    scope = NAIVE.only(loss=("output", "h_n", "both")) if gradients else NAIVE
    examples: list[Example] = []
    before = time.process_time()

    @st.composite
    def cases(draw_from: st.DrawFn) -> Case:
        config = draw_from(configs(scope))
        return Case.from_arrays(config, {name: draw_from(arrays(spec.shape)) for name, spec in config.given.items()})

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def collects(case: Case) -> None:
        nonlocal before
        examples.append(by_reference(case, before))
        before = time.process_time()

    collects()
    return examples


def drawing(way: str, largest: float) -> Drawn:
    """Return how a property draws an array. Raise ``ImportError`` if its package is missing."""
    floats = st.floats(-largest, largest, width=32)
    if way == "hypothesis":
        return lambda shape: hnp.arrays(np.float32, shape, elements=floats)
    if way == "every-element":
        return lambda shape: hnp.arrays(np.float32, shape, elements=floats, fill=st.nothing())
    tensors = importlib.import_module("hypothesis_torch").tensor_strategy
    plain = {"device": torch.device("cpu"), "layout": torch.strided, "memory_format": torch.contiguous_format}

    def by_tensor(shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
        strategy: st.SearchStrategy[torch.Tensor] = tensors(
            torch.float32, shape, elements=floats, requires_grad=False, **plain
        )
        return strategy.map(lambda tensor: tensor.numpy())

    return by_tensor


def module_info(seed: int) -> list[Example]:
    """Return torch's samples of ``nn.RNN``. Raise ``ImportError`` if what they need is missing."""
    modules: Any = importlib.import_module("torch.testing._internal.common_modules")
    info = next(one for one in modules.module_db if one.module_cls is torch.nn.RNN)
    torch.manual_seed(seed)
    examples: list[Example] = []
    before = time.process_time()
    for dtype, training, gradients in product((torch.float32, torch.float64), (False, True), (False, True)):
        samples = info.module_inputs_func(
            info, device="cpu", dtype=dtype, requires_grad=gradients, training=training, with_packed_sequence=True
        )
        for sample in samples:
            case = of_sample(sample, dtype, training=training, gradients=gradients)
            expected = returned(TORCH, case)
            examples.append(Example(case, expected, time.process_time() - before))
            before = time.process_time()
    return examples


def of_sample(sample: Any, dtype: torch.dtype, *, training: bool, gradients: bool) -> Case:
    """Return a sample as a case: its arguments, its inputs, and a module's fresh weights."""
    arguments, (x, *state) = sample.constructor_input.kwargs, sample.forward_input.args
    module = torch.nn.RNN(**arguments, dtype=dtype)
    called: dict[str, Any] = {"hx": bool(state), "dtype": str(dtype).removeprefix("torch."), "training": training}
    if isinstance(x, PackedSequence):
        x, lengths = pad_packed_sequence(x, batch_first=module.batch_first)
        called |= {"lengths": tuple(lengths.tolist()), "enforce_sorted": True}
    else:
        called |= {"batched": x.dim() == 3}
    steps, batch = (1, 0) if module.batch_first and x.dim() == 3 else (0, 1)
    called |= {"T": x.shape[steps], "N": x.shape[batch] if x.dim() == 3 else 1}
    config = RNNConfig(**arguments, **called, loss="both" if gradients else None)
    return of_module(config, module, x, *state)


def of_module(config: RNNConfig, module: torch.nn.Module, x: torch.Tensor, hx: torch.Tensor | None = None) -> Case:
    """Return a case with a module's weights, and a loss that is the sum of what it reads."""
    given_ = {"x": x} if hx is None else {"x": x, "hx": hx}
    arrays = {name: tensor.detach().numpy() for name, tensor in {**given_, **dict(module.named_parameters())}.items()}
    ones = {name: np.ones(spec.shape, config.dtype) for name, spec in config.cotangents.items()}
    return Case.from_arrays(config, arrays | ones)


def notebook(seed: int) -> list[Example]:
    """Return the notebook's model and input."""
    before = time.process_time()
    torch.manual_seed(seed)
    config = RNNConfig(1, 5, batch_first=True, T=10, N=1, output_size=2)
    module = torch.nn.RNN(1, 5, batch_first=True)
    module.readout = torch.nn.Linear(5, 2)
    return [by_reference(of_module(config, module, torch.randn(1, 10, 1)), before)]


def measured(way: Way, faults: Sequence[Fault]) -> Row:
    """Try a way on correct layers, then on each fault."""
    sound: list[bool] = []
    alarms: Counter[str] = Counter()
    took = sum(example.seconds for example in way.examples)
    planted = right({})
    for example in way.examples:
        start = time.process_time()
        by_torch = fails(TORCH, example, way.close)
        took += time.process_time() - start
        by_planted = fails(planted, example, way.close)
        alarms.update({"torch": by_torch, "planted": by_planted})
        sound.append(not by_torch and not by_planted)
    row = Row(way.name, len(sound), took, alarms["torch"] / len(sound), alarms["planted"] / len(sound), faults={})
    for fault in faults:
        row.faults[fault.name] = tried(way, PlantedSubject(fault), sound)
        said(way.name, len(row.faults), len(faults))
    return row


def tried(way: Way, subject: Subject, sound: Sequence[bool]) -> Killed:
    """Try a fault on example after example, up to the first sound kill."""
    killed, spent = Killed(), 0.0
    for number, (example, passes) in enumerate(zip(way.examples, sound, strict=True), 1):
        start = time.process_time()
        failed = fails(subject, example, way.close)
        spent += example.seconds + time.process_time() - start
        killed.kill |= failed
        if failed and passes:
            return Killed(kill=True, sound=True, examples=number, seconds=spent)
    return killed


def everything() -> dict[str, Any]:
    """Return everything that planted subjects offer."""
    offers: dict[str, Any] = {}
    for fault in CATALOGUE:
        offers |= PlantedSubject(fault).capabilities.offers
    return offers | {"output_size": (None, *offers["output_size"])}


def forget_plans() -> None:
    """Make the next search plan its covering array, as the only search of a process does."""
    interactions_of.cache_clear()
    _covering.cache_clear()


def by_harness(name: str, faults: Sequence[Fault], seed: int, cases: int | None) -> Row:
    """Try the harness on correct layers, over what each fault's subject offers, and on each fault."""
    subjects = [PlantedSubject(fault) for fault in faults]
    if name == "harness-whole":
        for subject in subjects:
            subject.capabilities = replace(subject.capabilities, offers=everything())
    hunt(TORCH, cases=100, seed=seed)  # imports and caches that are filled once are not measured
    forget_plans()
    start = time.process_time()
    runs = {"torch": [hunt(TORCH, cases=cases, seed=seed)], "planted": list[SearchRecord]()}
    took = time.process_time() - start
    clean: dict[str, bool] = {}
    for subject in subjects:
        if (key := repr(subject.capabilities.offers)) in clean:
            continue
        runs["torch"].append(hunt(TORCH, subject.scope(), cases=cases, seed=seed))
        runs["planted"].append(hunt(right(subject.capabilities.offers), subject.scope(), cases=cases, seed=seed))
        clean[key] = not any(run[-1].findings for run in runs.values())
    alarms = {
        who: sum(len(one.findings) for one in of) / max(1, sum(one.total for one in of)) for who, of in runs.items()
    }
    title = "harness, whole space" if name == "harness-whole" else name
    row = Row(title, runs["torch"][0].total, took, alarms["torch"], alarms["planted"], faults={})
    for subject in subjects:
        row.faults[subject.name] = hunted(subject, seed, cases, clean=clean[repr(subject.capabilities.offers)])
        said(row.way, len(row.faults), len(subjects))
    return row


def hunted(subject: PlantedSubject, seed: int, cases: int | None, *, clean: bool) -> Killed:
    """Search for a fault as the self-test does; the clock stops when the search begins to shrink a failure."""
    forget_plans()
    start, began = time.process_time(), list[float]()
    with Search(subject, subject.scope(), SearchOptions(cases, seed=seed)) as search:
        for event in search:
            if isinstance(event, Finding):
                break
            if against(event.result) and not began:
                began.append(time.process_time())
    record = search.record
    if record.finding is None:
        return Killed()
    case = record.finding.case
    correct = (TORCH, right(subject.capabilities.offers))
    passes = all(check_agreement(one, case).verdict is Verdict.AGREES for one in correct)
    return Killed(True, clean and passes, record.total, (began or [time.process_time()])[0] - start)


def ways(options: argparse.Namespace) -> Iterator[Way]:
    """Yield the ways that are lists of examples, if they were asked for and what they need is installed."""
    close = {"allclose": allclose, "assert_close": assert_close}[options.close]
    seed = options.seed
    for name in options.ways:
        try:
            if name in {"hypothesis", "every-element", "hypothesis-torch"}:
                arrays = drawing(name, options.largest)
                naive(5, seed, arrays, gradients=True)  # imports and caches that are filled once are not measured
                for gradients, count in product((False, True), options.examples):
                    title = f"{name}, {count}{', gradients' if gradients else ''}"
                    yield Way(title, naive(count, seed, arrays, gradients=gradients), close)
            elif name == "ModuleInfo":
                module_info(seed)
                yield Way(name, module_info(seed), assert_close)
            elif name == "notebook":
                notebook(seed)
                yield Way(name, notebook(seed), close)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)


def said(way: str, done: int, of: int) -> None:
    """Print the progress on standard error."""
    end = "" if done < of else f"\r{'':70}\r"
    print(f"\r{way}: {done} of {of} faults{end}", end="", file=sys.stderr, flush=True)


def figures(row: Row, faults: Sequence[Fault]) -> dict[str, Any]:
    """Return the results of a way as plain data."""
    sound = [one for one in row.faults.values() if one.sound]
    families: dict[str, Counter[str]] = {}
    for fault in faults:
        killed = row.faults[fault.name]
        counts = families.setdefault(fault.family, Counter())
        counts.update({"faults": 1, "kills": killed.kill, "sound": killed.sound})
    seconds = [one.seconds for one in sound if one.seconds is not None]
    examples = [one.examples for one in sound if one.examples is not None]
    return asdict(row) | {
        "kills": sum(one.kill for one in row.faults.values()),
        "sound": len(sound),
        "of": len(faults),
        "seconds": {"median": statistics.median(seconds), "worst": max(seconds)} if seconds else None,
        "examples_to_kill": {"median": statistics.median(examples), "worst": max(examples)} if examples else None,
        "families": families,
        "survivors": [name for name, one in row.faults.items() if not one.sound],
    }


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table, one per way; then the sound kills of each family."""
    of = rows[0]["of"]
    yield f"{'':30}{'':>9}{'kills of':>14}  {'s to a kill':>18}{'examples':>14}{'':>11}{'% false alarms':>18}"
    heads = ("examples", f"{of}", "sound", "median", "worst", "median", "worst", "a run, s", "torch", "no fault")
    widths = (9, 7, 7, 11, 9, 8, 6, 11, 9, 9)
    yield f"{'':30}" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))
    for row in rows:
        seconds, examples = row["seconds"], row["examples_to_kill"]
        cells = [f"{row['examples']}", f"{row['kills']}", f"{row['sound']}"]
        cells += [f"{seconds['median']:.3f}", f"{seconds['worst']:.2f}"] if seconds else ["-", "-"]
        cells += [f"{examples['median']:.0f}", f"{examples['worst']}"] if examples else ["-", "-"]
        cells += [f"{row['run_seconds']:.1f}", *(f"{100 * row[f'alarms_{who}']:.1f}" for who in ("torch", "planted"))]
        yield f"{row['way']:30}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    families = {family: len(family) + 2 for family in rows[0]["families"]}
    yield ""
    yield f"{'sound kills':30}" + "".join(f"{family:>{width}}" for family, width in families.items())
    counts = [("of", rows[0], "faults"), *((row["way"], row, "sound") for row in rows)]
    for title, row, what in counts:
        yield f"{title:30}" + "".join(f"{row['families'][name][what]:>{width}}" for name, width in families.items())


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--only", nargs="+", default=[], help="faults by their class")
    parser.add_argument("--families", nargs="+", default=[])
    parser.add_argument("--examples", nargs="+", type=int, default=[100, 500], help="max_examples of the properties")
    parser.add_argument("--largest", type=float, default=1.0, help="of the numbers that the properties draw")
    parser.add_argument("--close", choices=["allclose", "assert_close"], default="allclose")
    parser.add_argument("--cases", type=int, help="budget of the harness, instead of its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def measured_all(options: argparse.Namespace) -> dict[str, Any]:
    """Try every way on every fault, print the table, and return the figures as plain data."""
    faults, _ = chosen([*options.only, *options.families])
    start = time.perf_counter()
    rows = []
    with np.errstate(all="ignore"):
        searches = [name for name in ("harness", "harness-whole") if name in options.ways]
        rows += [figures(by_harness(name, faults, options.seed, options.cases), faults) for name in searches]
        rows += [figures(measured(way, faults), faults) for way in ways(options)]
    if rows:
        print("\n".join(table(rows)))
    of = {name: value for name, value in vars(options).items() if name != "json"}
    return {"options": of, "ways": rows, "seconds": time.perf_counter() - start}


def main() -> None:
    """Try every way on every fault, and print."""
    options = parsed()
    found = measured_all(options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
