"""The check of dropout: random masks must have the statistics of dropout.

nn.RNN is documented to apply dropout, in training, to the outputs of each layer except the last one. Each element
becomes zero with probability p, independently and newly in each call, and kept elements are multiplied by 1/(1-p).

A net that shows its masks is a stack of relu layers that pass on what they read (W_ih = 1, W_hh = 0), given x = 1. Its
output is the product of the masks between its layers, scaled. Layers with gates pass on a tanh of it, with W_ih = 1 of
g, or n, and the other gates held open or closed by their biases. One layer has nothing to drop. Two things are checked.

*Values.* With the masks that a run showed, everything else is determined: the scale, h_n, which holds states before
they are dropped, and every gradient. The reference is given these masks, and the run is compared with it. For gradients
the last layer has a bias of 1, so that dropped elements have a slope, too. In eval mode and with p = 0 there are no
masks. In layers that read nothing of those below (W_ih = 0) and keep their initial state (W_hh = 1), masks have no
effect.

*Chance.* Two things are counted: the kept elements, in total and at every single place along each axis; and the pairs
that agree among those that should be independent, neighbours along time, batch, units, directions and calls. Each count
is binomial if the statistics hold, and a test fails only if the count's probability is below the test's share of
``FALSE_ALARMS``. Two calls show 16,384 elements. In these, a rate that is off by 0.04 is found in 99 of 100 runs; in a
single time step (2,048 elements), a rate off by 0.12; and in a single sequence or unit (512), a rate off by 0.23.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from harness.checks.agreement import Observation, arithmetic_of, assess, unfit
from harness.checks.result import ComparisonMethod, Result, Verdict
from harness.oracle.array_layout import features, final_step, h_n_order, time_major, visited
from harness.oracle.bounded_array import write_steps
from harness.oracle.compare import Mismatch
from harness.oracle.pinned_numpy import np
from harness.oracle.unroll import keep_scale
from harness.space.case import Array, Case, as_plain
from harness.space.cells import CELLS
from harness.space.config import DIRECTIONS, RNNConfig, weight_names
from harness.space.scope import Scope, factors_of
from harness.subjects.protocol import Subject, scope_of

# The highest probability that a right subject fails a run of all tests; each test has an equal share.
FALSE_ALARMS: Final = 1e-9

# the number of runs of each config, each with an x of its own, from which torch's generator is seeded
RUNS_OF_A_CONFIG: Final = 2

MASK_STEPS: Final = 8
MASK_SEQUENCES: Final = 32
MASK_UNITS: Final = 32
# Lengths that contain every length from 1 to 8, in no order.
MASK_LENGTHS: Final = tuple(MASK_STEPS - 5 * n % MASK_STEPS for n in range(MASK_SEQUENCES))

MASK_AXES: Final = ("call", "t", "n", "direction", "unit")  # the axes of masks as they are counted

_NEIGHBOURS: Final = {
    "call": "two calls",
    "t": "successive time steps",
    "n": "neighbouring sequences",
    "direction": "the two directions",
    "unit": "neighbouring units",
}

RATE: Final = "dropout's rate"  # the rule that a share of the elements is kept
NOTHING_DROPPED: Final = "dropout does nothing in training"  # the words for that rule where every element is kept

SATURATING_SUM: Final = 800.0  # a sum at which a sigmoid is 1, or 0, in every dtype

Masks = NDArray[np.bool_]


def applies(subject: Subject) -> bool:
    """Return whether a subject draws masks in training.

    Such a subject offers ``masks``, also with the value ``False`` if its masks are unknown.
    """
    return "masks" in subject.capabilities.offers


def check_dropout(
    subject: Subject, device: str = "cpu", seed: int = 0, scope: Scope | None = None, until: float = math.inf
) -> Result:
    """Run ``subject`` on nets that show its masks, from the plainest on, up to the first that breaks the statistics.

    The nets are called only in ways that are in ``scope``, which by default is all that the subject offers. The result
    is *unsupported* if it refuses dropout in training everywhere. The device meta, which has no numbers, cannot be
    checked. After ``until`` (``time.perf_counter``) no further net is run, if one showed the masks.
    """
    if scope is not None and not {*scope.cell} <= {*CELLS}:
        return Result(Verdict.UNSUPPORTED, message="the nets that show masks are those of nn.RNN, nn.GRU and nn.LSTM")
    if not applies(subject):
        return Result(Verdict.UNSUPPORTED, message="it draws no masks, so its dropout in training is not checked")
    scope = scope or scope_of(subject)
    dtypes = scope.values()["dtype"]
    cell = scope.values()["cell"][0]
    nonlinearity = "relu" if cell == "RNN" and scope.allows("nonlinearity", "relu") else "tanh"
    configs = [config for config in _configs(device, dtypes, nonlinearity, cell) if _is_in(scope, config)]
    masked = any(map(_shows, configs))
    telling = [config for config in configs if (_shows(config) if masked else config.num_layers == 1)]
    if not telling:
        return Result(Verdict.UNSUPPORTED, message="the scope has no net in which masks show")
    level = FALSE_ALARMS / max(1, sum(_tests(config) for config in configs))
    refused: list[Result] = []
    shown = False
    for config in configs:
        if shown and time.perf_counter() >= until:
            break
        result = _check(subject, config, level, seed)
        if result.failed:
            return result
        if config in telling and result.verdict is Verdict.UNSUPPORTED:
            refused.append(result)
        shown |= config in telling and result.verdict is Verdict.AGREES
    if not shown:
        return refused[0]
    message = "" if masked else "one layer drops nothing in training, as it must"
    return Result(Verdict.AGREES, message=message, method=ComparisonMethod.DROPOUT)


def check_net(subject: Subject, config: RNNConfig, seed: int = 0) -> Result:
    """Run ``subject`` on one net that shows its masks."""
    return _check(subject, config, FALSE_ALARMS / max(_tests(config), 1), seed)


def _is_in(scope: Scope, config: RNNConfig) -> bool:
    """Return whether a scope has a config, ignoring its probability, its mode, and sizes that are not pinned."""
    factors = factors_of(config).items()
    return all(scope.allows(name, value) for name, value in factors if name not in {"dropout", "training"})


def _configs(device: str, dtypes: Sequence[str], nonlinearity: str = "relu", cell: str = "RNN") -> Iterator[RNNConfig]:
    """Yield the configs: nets with nothing to drop, then all p and dtypes, then ways of calling, then gradients.

    The first are of one layer, in training.
    """
    base = RNNConfig(
        MASK_UNITS + 1,
        MASK_UNITS,
        2,
        nonlinearity,
        dropout=0.5,
        T=MASK_STEPS,
        N=MASK_SEQUENCES,
        dtype=dtypes[0],
        device=device,
        training=True,
        cell=cell,
    )
    stacked = base.replace(num_layers=3, bidirectional=True)
    yield from (base.replace(num_layers=1), base.replace(num_layers=1, hx=True))
    for config in (base, stacked):
        yield config.replace(training=False)
        yield config.replace(dropout=0.0)
        yield config.replace(hx=True)
    for dtype in dtypes:
        for p in (0.5, 0.1, 0.9, 1.0):
            yield base.replace(dtype=dtype, dropout=p)
    base, stacked = (config.replace(dropout=0.25) for config in (base, stacked))  # at this rate, no 1 - p passes for p
    yield from (base.replace(bidirectional=True), base.replace(num_layers=3), stacked)
    for way in (base, stacked):
        yield way.replace(batch_first=True)
        yield way.replace(lengths=MASK_LENGTHS)
        yield way.replace(batched=False, N=1, T=MASK_STEPS * MASK_SEQUENCES // 4)
    back = base.replace(dropout=0.5, loss="output")  # at this rate, sums of kept elements are exact
    for config in (back, back.replace(bidirectional=True)):
        yield config
        yield config.replace(lengths=MASK_LENGTHS)


def _check(subject: Subject, config: RNNConfig, level: float, seed: int) -> Result:
    calls: list[Masks] = []
    mismatches: tuple[Mismatch, ...] = ()
    for call in range(RUNS_OF_A_CONFIG):
        case = net(config, (seed, call))
        outcome = subject.run(case)
        if (bad := unfit(case, outcome)) is not None:
            refused = bad.verdict is Verdict.UNSUPPORTED
            return bad if refused else replace(bad, message=f"{bad.message}; in {config!r}".removeprefix("; "))
        arrays = as_plain(config, outcome.arrays)
        if _shows(config):
            case = replace(case, masks=_masks(config, arrays))
            calls.append(case.masks[config.num_layers - 2])
        observation = Observation(case.plain(), replace(outcome, arrays=arrays), arithmetic_of(subject, case))
        mismatches = mismatches or assess(observation).mismatches
    words = _exact(config, mismatches)
    if words and (place := _elsewhere(config, arrays)):  # the rest follows from that
        words = [f"dropout must act between layers only, not on the {place}: {words[0].partition(': ')[2]}"]
    elif calls:
        by_chance = _by_chance(config, np.stack(calls), level)
        lost = any(sentence.startswith(NOTHING_DROPPED) for sentence in by_chance)  # the rest follows from that
        words = by_chance if lost else words + by_chance
    if not words:
        return Result(Verdict.AGREES, method=ComparisonMethod.DROPOUT)
    message = f"{'; '.join(words)}; in {config!r}"
    return Result(Verdict.DISAGREES, message=message, method=ComparisonMethod.DROPOUT, net=config)


def _shows(config: RNNConfig) -> bool:
    """Return whether masks are drawn and have an effect; in the nets with an initial state, layers read nothing."""
    return config.drops and not config.hx


def net(config: RNNConfig, seed: tuple[int, int] = (0, 0)) -> Case:
    """Build the net of a config that shows its masks.

    x has one more feature, which no weight reads, to tell calls apart.
    """
    arrays = {name: np.zeros(spec.shape) for name, spec in config.weights.items()}
    for layer in range(config.num_layers):
        for d in range(config.num_directions):
            w_ih, w_hh, b_ih, _ = (arrays[name] for name in weight_names(layer, d))
            first = 2 * MASK_UNITS if config.gated else 0  # g, or n, is the third gate
            if not config.hx:
                w_ih[first : first + MASK_UNITS] = np.eye(MASK_UNITS, w_ih.shape[1], k=d * MASK_UNITS if layer else 0)
            elif not config.gated:
                w_hh[...] = np.eye(MASK_UNITS)
            b_ih[...] = _lift(config) if layer == config.num_layers - 1 else 0
            if config.gated:
                b_ih += np.repeat(_gates(config), MASK_UNITS)
    x = np.ones(config.inputs["x"].shape)
    x[..., -1] = Generator(PCG64(seed)).integers(128, size=x.shape[:-1])  # numbers that every dtype has
    arrays |= {"x": x, **{name: np.ones(spec.shape) for name, spec in config.cotangents.items()}}
    arrays |= {name: np.ones(config.inputs[name].shape) for name in config.hidden}
    return Case.from_arrays(config, {name: array.astype(config.dtype) for name, array in arrays.items()})


def _gates(config: RNNConfig) -> list[float]:
    """Return the sums at which gates pass on what is read, or with an initial state that state."""
    first = -SATURATING_SUM if config.hx else SATURATING_SUM
    return [first, -first, 0.0, SATURATING_SUM] if config.cell == "LSTM" else [0.0, -first, 0.0]


def _lift(config: RNNConfig) -> float:
    """Return the last layer's bias: where nothing is kept, relu has a slope only above zero."""
    return 0.0 if config.loss is None or config.nonlinearity == "tanh" else 1.0


def _masks(config: RNNConfig, arrays: Mapping[str, Array]) -> dict[int, Array]:
    """Return masks of all inner layers that a run may have drawn, given its results, in the plain form's shapes.

    The output shows the product of all masks, and the last steps in h_n show what is kept below each layer. What
    neither shows had no effect.
    """
    plain = config.plain
    kept = time_major(arrays["output"], plain) > _lift(config)
    masks = {layer: kept.copy() for layer in range(config.num_layers - 1)}
    for row, (layer, d) in enumerate(h_n_order(plain)):
        if 0 < layer < config.num_layers - 1:
            part = masks[layer - 1][..., features(plain, d)]
            write_steps(part, final_step(plain, d), arrays["h_n"][row] > 0)
    return masks


def _elsewhere(config: RNNConfig, arrays: Mapping[str, Array]) -> str:
    """Return where a subject drops, too, beside between layers, given the results of a net of one layer or two."""
    if config.num_layers == 1:
        before = (arrays["h_n"] == 0).any()
        return "" if config.hx else "input of the first one" if before else "output of the last one"
    output, (first, *between, last) = time_major(arrays["output"], config.plain), arrays["h_n"]
    if between or config.bidirectional or config.lengths or config.loss:
        return ""
    if config.nonlinearity == "tanh" and not config.gated:  # whose states change
        return ""
    if config.hx:
        after, before = (output != output[-1]).any() and (last == last[0, 0]).all(), False
    else:
        twice = (output > 0).mean() < (1 - config.dropout) * (1 - config.dropout / 2)  # between one mask and two
        after, before = twice and ((output[-1] == 0) & (last > 0)).any(), twice and (first == 0).any()
    return "input of the first one" if before else "output of the last one" if after and config.training else ""


def _exact(config: RNNConfig, mismatches: Sequence[Mismatch]) -> list[str]:
    """Describe the differences from what the seen masks would give, with one array for each rule that is broken."""
    broken: dict[str, str] = {}
    of_output = any(mismatch.array == "output" for mismatch in mismatches)
    for mismatch in mismatches:
        site = mismatch.sites[0]
        if of_output and mismatch.array == "h_n" and site.place.get("layer") == config.num_layers - 1:
            continue  # it ends the output
        at = ", ".join(f"{axis}={index}" for axis, index in site.place.items())
        what = f"{mismatch.array} is {site.actual:.4g} at {at}, expected {site.expected:.4g}"
        broken.setdefault(_rule(config, mismatch.array), what)
    return [f"{rule}: {what}" for rule, what in broken.items()]


def _rule(config: RNNConfig, name: str) -> str:
    if not config.training:
        return "dropout must do nothing in eval mode"
    if not config.dropout:
        return "dropout must do nothing with p=0"
    if config.hx or config.num_layers == 1:
        return "dropout must act between layers only"
    if name.endswith(".grad"):
        return "dropout's gradient must follow from the output's masks"
    if name == "h_n":
        return "h_n must hold the states before dropout"
    scaled = f"dropout's scale must be 1/(1-p) = {keep_scale(config):.3g} per layer"
    return scaled if config.dropout < 1 else "dropout with p=1 must make everything zero"


def _by_chance(config: RNNConfig, calls: Masks, level: float) -> list[str]:
    """Return the statistics that masks (call, T, N, D*H) break.

    If the rate is wrong, agreement of pairs means nothing; if the masks are dependent, the rate in one place means
    nothing.
    """
    kept = calls.reshape(_sizes(config))
    own = visited(config.plain)
    there = np.broadcast_to(True if own is None else own[None, ..., None], kept.shape)
    kept = kept & there
    total = _wrong_rate(config, kept, there, level)
    places = _wrong_places(config, kept, there, level)
    return [*total, *places] if total else _dependences(config, kept, there, level) or places


def _wrong_rate(config: RNNConfig, kept: Masks, there: Masks, level: float) -> list[str]:
    expected = share_kept(config)
    if not surprising(int(kept.sum()), int(there.sum()), expected, level):
        return []
    masks = "one mask" if config.num_layers == 2 else f"{config.num_layers - 1} independent masks"
    rule = NOTHING_DROPPED if kept.sum() == there.sum() else RATE
    return [f"{rule}: {_share(kept, there)} are kept, expected {expected:.4g} with {masks}"]


def _wrong_places(config: RNNConfig, kept: Masks, there: Masks, level: float) -> list[str]:
    """Return the first place along each axis where the rate is wrong and right everywhere else."""
    expected = share_kept(config)
    messages = []
    for axis, name in enumerate(MASK_AXES):
        others = tuple(summed for summed in range(len(MASK_AXES)) if summed != axis)
        pairs = list(zip(kept.sum(others).tolist(), there.sum(others).tolist(), strict=True))
        for i, (count, total) in enumerate(pairs):
            rest = int(kept.sum()) - count, int(there.sum()) - total
            if surprising(count, total, expected, level) and rest[1] and not surprising(*rest, expected, level):
                place = DIRECTIONS[i] if name == "direction" else i
                share = f"{count:,} of {total:,} elements ({count / total:.4g}) at {name}={place}"
                messages.append(f"{RATE}: {share} are kept, expected {expected:.4g}")
                break
    return messages


def _dependences(config: RNNConfig, kept: Masks, there: Masks, level: float) -> list[str]:
    """Compare pairs that do not overlap; they are independent of each other, so the number that agree is binomial."""
    rate = share_kept(config)
    expected = rate**2 + (1 - rate) ** 2
    messages = []
    for axis, name in enumerate(MASK_AXES):
        pairs = kept.shape[axis] // 2
        first, second = range(0, 2 * pairs, 2), range(1, 2 * pairs, 2)
        both = there.take(first, axis) & there.take(second, axis)
        agree = (kept.take(first, axis) == kept.take(second, axis)) & both
        if surprising(int(agree.sum()), int(both.sum()), expected, level):
            what = f"the masks of {_NEIGHBOURS[name]} agree in {_share(agree, both)}"
            messages.append(f"dropout's independence: {what}, expected {expected:.4g}")
    return messages


def _share(some: Masks, there: Masks) -> str:
    count, total = int(some.sum()), int(there.sum())
    return f"{count:,} of {total:,} elements ({count / total:.4g})"


def share_kept(config: RNNConfig) -> float:
    """Return the probability that every mask between the layers keeps an element."""
    return float((1 - config.dropout) ** (config.num_layers - 1))


def _sizes(config: RNNConfig) -> tuple[int, ...]:
    return (RUNS_OF_A_CONFIG, config.T, config.N, config.num_directions, config.hidden_size)


def _tests(config: RNNConfig) -> int:
    """Return the number of tests of a config: the rate, the rate at each place, and the pairs along each axis."""
    return 1 + sum(_sizes(config)) + len(MASK_AXES) if _shows(config) else 0


def surprising(count: int, total: int, probability: float, level: float) -> bool:
    """Return whether ``count`` of ``total`` is further off than chance makes it with probability ``level``.

    By Chernoff's bound, a binomial count is at ``count`` or beyond it, seen from its mean, with a probability of at
    most exp(-total D), where D is the relative entropy of count/total and ``probability``. Each side has half of
    ``level``.
    """
    if not total:
        return False
    share = count / total
    entropy = _entropy(share, probability) + _entropy(1 - share, 1 - probability)
    return total * entropy > math.log(2 / level)


def _entropy(share: float, probability: float) -> float:
    if not share:
        return 0.0
    return share * math.log(share / probability) if probability else math.inf
