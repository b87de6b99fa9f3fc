"""dropout: do masks that cannot be known beforehand obey the law of dropout?

nn.RNN is documented to put dropout on the outputs of each layer except the last one, in training: each element becomes
zero with probability p, independently and anew in each call, and what is kept is multiplied by 1/(1-p).

A net that shows its masks is a stack of relu layers that pass on what they read (W_ih = 1, W_hh = 0), given x = 1: its
output is the product of the masks between its layers, scaled. Two things are asked of it.

*Values.* With the masks that a run showed, all else is determined: the scale, h_n, which holds states before they are
dropped, and every gradient. The reference is given these masks, and the run compared with it. For gradients the last
layer has a bias of 1, so that what was dropped has a slope, too. In eval mode and with p = 0 there are no masks; and
where layers read nothing of those below (W_ih = 0) and keep the state that they begin with (W_hh = 1), none has effect.

*Chance.* How many elements are kept, in all and at every single place along each axis, and how often two that should
be independent agree, neighbours along time, batch, units, directions and calls: each is binomial, if the law holds, and
a test fails only where its probability is below its share of ``FALSE_ALARMS``. Two calls show 16,384 elements, in which
a rate off by 0.04 is found in 99 of 100 runs, in a single time step (2,048) one off by 0.12, and in a single sequence
or unit (512) one off by 0.23.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from harness.checks.agreement import REFERENCE, Observation, arithmetic_of, assess, unfit
from harness.checks.result import Method, Result, Verdict
from harness.oracle.compare import Mismatch
from harness.oracle.reference import keep_scale, write_steps
from harness.space.case import Array, Case, as_plain
from harness.space.config import COMPLEX, DIRECTIONS, RNNConfig, weight_names
from harness.space.scope import SIZE_FACTORS, SIZES, Scope, factors_of
from harness.subjects.protocol import Subject, scope_of

FALSE_ALARMS: Final = 1e-9
"""The most by which a subject that obeys the law may fail a run of all tests, by chance. Each has an equal share."""

CALLS: Final = 2
"""Runs of each config, each with an x of its own, from which torch's generator is seeded."""

STEPS: Final = 8
SEQUENCES: Final = 32
UNITS: Final = 32
LENGTHS: Final = tuple(STEPS - 5 * n % STEPS for n in range(SEQUENCES))
"""Every length from 1 to 8, in no order."""

AXES: Final = ("call", "t", "n", "direction", "unit")
"""Of masks as they are counted."""

_NEIGHBOURS: Final = {
    "call": "two calls",
    "t": "successive time steps",
    "n": "neighbouring sequences",
    "direction": "the two directions",
    "unit": "neighbouring units",
}

Masks = NDArray[np.bool_]


def applies(subject: Subject) -> bool:
    """Whether a subject draws masks in training: it then offers ``masks``, be it as ``False``, for they are unknown."""
    return "masks" in getattr(subject, "offers", {})


def check_dropout(subject: Subject, device: str = "cpu", seed: int = 0, scope: Scope | None = None) -> Result:
    """Run ``subject`` on nets that show its masks, from the plainest on, up to the first that breaks the law.

    They are called in no way that is not in ``scope``, which is all that the subject offers unless given.
    *Unsupported*, if it refuses dropout in training everywhere. A device without numbers, meta, cannot be asked.
    """
    if not applies(subject):
        return Result(Verdict.UNSUPPORTED, message="it draws no masks: dropout in training is not asked of it")
    scope = scope or scope_of(subject)
    dtypes = tuple(dict.fromkeys(dtype for dtype in scope.dtype if dtype not in COMPLEX))
    if not dtypes:
        return Result(Verdict.UNSUPPORTED, message="dropout of complex numbers is not asked of anything")
    configs = [config for config in _configs(device, dtypes) if _is_in(scope, config)]
    if not any(map(_shows, configs)):
        return Result(Verdict.UNSUPPORTED, message="no net that shows masks is in the scope")
    level = FALSE_ALARMS / sum(_tests(config) for config in configs)
    refused: list[Result] = []
    shown = False
    for config in configs:
        result = _check(subject, config, level, seed)
        if result.failed:
            return result
        if _shows(config) and result.verdict is Verdict.UNSUPPORTED:
            refused.append(result)
        shown |= _shows(config) and result.verdict is Verdict.AGREES
    return Result(Verdict.AGREES, method=Method.DROPOUT) if shown else refused[0]


def _is_in(scope: Scope, config: RNNConfig) -> bool:
    """Whether a scope has a config, but for its probability, its mode, and sizes where the scope pins none."""
    free = {name for name in SIZE_FACTORS if set(getattr(scope, name)) >= set(SIZES)} | {"dropout", "training"}
    return all(value in getattr(scope, name) for name, value in factors_of(config).items() if name not in free)


def _configs(device: str, dtypes: Sequence[str]) -> Iterator[RNNConfig]:
    """From where there is nothing to drop, over all p and dtypes, to the ways of calling, and backwards."""
    base = RNNConfig(
        UNITS + 1,
        UNITS,
        2,
        "relu",
        dropout=0.5,
        T=STEPS,
        N=SEQUENCES,
        dtype=dtypes[0],
        device=device,
        training=True,
    )
    stacked = base.replace(num_layers=3, bidirectional=True)
    for config in (base, stacked):
        yield config.replace(training=False)
        yield config.replace(dropout=0.0)
        yield config.replace(hx=True)
    for dtype in dtypes:
        for p in (0.5, 0.1, 0.9, 1.0):
            yield base.replace(dtype=dtype, dropout=p)
    base, stacked = (config.replace(dropout=0.25) for config in (base, stacked))  # at which no 1 - p passes for p
    yield from (base.replace(bidirectional=True), base.replace(num_layers=3), stacked)
    for way in (base, stacked):
        yield way.replace(batch_first=True)
        yield way.replace(lengths=LENGTHS)
        yield way.replace(batched=False, N=1, T=STEPS * SEQUENCES // 4)
    back = base.replace(dropout=0.5, loss="output")  # at which sums of what is kept are exact
    for config in (back, back.replace(bidirectional=True)):
        yield config
        yield config.replace(lengths=LENGTHS)


def _check(subject: Subject, config: RNNConfig, level: float, seed: int) -> Result:
    calls: list[Masks] = []
    mismatches: tuple[Mismatch, ...] = ()
    for call in range(CALLS):
        case = _case(config, (seed, call))
        outcome = subject.run(case)
        if (bad := unfit(case, outcome)) is not None:
            refused = bad.verdict is Verdict.UNSUPPORTED
            return bad if refused else replace(bad, message=f"{bad.message}; in {config!r}".removeprefix("; "))
        arrays = as_plain(config, outcome.arrays)
        if _shows(config):
            case = replace(case, masks=_masks(config, arrays))
            calls.append(case.masks[config.num_layers - 2])
        seen = Observation(case.plain(), replace(outcome, arrays=arrays), arithmetic_of(subject, case))
        mismatches = mismatches or assess(seen).mismatches
    words = _exact(config, mismatches)
    if calls:
        words += _by_chance(config, np.stack(calls), level)
    if not words:
        return Result(Verdict.AGREES, method=Method.DROPOUT)
    return Result(Verdict.DISAGREES, mismatches, f"{'; '.join(words)}; in {config!r}", method=Method.DROPOUT)


def _shows(config: RNNConfig) -> bool:
    """Whether masks are drawn, and have an effect: in the nets with an initial state, layers read nothing."""
    return config.drops and not config.hx


def _case(config: RNNConfig, seed: tuple[int, int]) -> Case:
    """The net of a config that shows its masks; x has one more feature, which no weight reads, to tell calls apart."""
    arrays = {name: np.zeros(spec.shape) for name, spec in config.weights.items()}
    for layer in range(config.num_layers):
        for d in range(config.num_directions):
            w_ih, w_hh, b_ih, _ = (arrays[name] for name in weight_names(layer, d))
            if config.hx:
                w_hh[...] = np.eye(UNITS)
            else:
                w_ih[...] = np.eye(UNITS, w_ih.shape[1], k=d * UNITS if layer else 0)
            b_ih[...] = _lift(config) if layer == config.num_layers - 1 else 0
    x = np.ones(config.inputs["x"].shape)
    x[..., -1] = Generator(PCG64(seed)).integers(128, size=x.shape[:-1])  # numbers that every dtype has
    arrays |= {"x": x, **{name: np.ones(spec.shape) for name, spec in config.cotangents.items()}}
    arrays |= {"hx": np.ones(config.inputs["hx"].shape)} if config.hx else {}
    return Case.from_arrays(config, {name: array.astype(config.dtype) for name, array in arrays.items()})


def _lift(config: RNNConfig) -> float:
    """The last layer's bias: where nothing is kept, relu has a slope only above zero."""
    return 0.0 if config.loss is None else 1.0


def _masks(config: RNNConfig, arrays: Mapping[str, Array]) -> dict[int, Array]:
    """Masks of all inner layers that a run may have drawn, by what it returned, in the plain form's shapes.

    The output shows the product of all, and the last steps in h_n what is kept below each layer. What neither shows
    had no effect.
    """
    plain = config.plain
    kept = REFERENCE.time_major(arrays["output"], plain) > _lift(config)
    masks = {layer: kept.copy() for layer in range(config.num_layers - 1)}
    for row, (layer, d) in enumerate(REFERENCE.h_n_order(plain)):
        if 0 < layer < config.num_layers - 1:
            part = masks[layer - 1][..., REFERENCE.features(plain, d)]
            write_steps(part, REFERENCE.final_step(plain, d), arrays["h_n"][row] > 0)
    return masks


def _exact(config: RNNConfig, mismatches: Sequence[Mismatch]) -> list[str]:
    """What differs from what the masks that were seen would give, in words: one array for each rule that it breaks."""
    found: dict[str, str] = {}
    for mismatch in mismatches:
        site = mismatch.sites[0]
        at = ", ".join(f"{axis}={index}" for axis, index in site.place.items())
        what = f"{mismatch.array} is {site.actual:.4g} at {at}, expected {site.expected:.4g}"
        found.setdefault(_rule(config, mismatch.array), what)
    return [f"{rule}: {what}" for rule, what in found.items()]


def _rule(config: RNNConfig, name: str) -> str:
    """What an array of that name obeys in that config."""
    if not config.training:
        return "dropout in eval mode"
    if not config.dropout:
        return "dropout with p=0"
    if config.hx:
        return "dropout elsewhere than between layers"
    if name.endswith(".grad"):
        return "dropout's gradient, through the masks seen in the output"
    if name == "h_n":
        return "dropout's h_n, which holds states before they are dropped"
    return f"dropout's scale, 1/(1-p) = {keep_scale(config):.3g} a layer"


def _by_chance(config: RNNConfig, calls: Masks, level: float) -> list[str]:
    """The laws of chance that masks (call, T, N, D*H) break.

    Where the rate is wrong, agreement means nothing; nor does the rate in one place where the masks are dependent.
    """
    kept = calls.reshape(_sizes(config))
    visited = REFERENCE.visited(config.plain)
    there = np.broadcast_to(True if visited is None else visited[None, ..., None], kept.shape)
    kept = kept & there
    total = _wrong_rate(config, kept, there, level)
    places = _wrong_places(config, kept, there, level)
    return [*total, *places] if total else _dependences(config, kept, there, level) or places


def _wrong_rate(config: RNNConfig, kept: Masks, there: Masks, level: float) -> list[str]:
    expected = _rate(config)
    if not surprising(int(kept.sum()), int(there.sum()), expected, level):
        return []
    masks = "its mask keeps" if config.num_layers == 2 else f"{config.num_layers - 1} independent masks keep"
    return [f"dropout's rate: {_share(kept, there)} are kept, expected {expected:.4g}, which {masks}"]


def _wrong_places(config: RNNConfig, kept: Masks, there: Masks, level: float) -> list[str]:
    """The first place along each axis where the rate is wrong, and right everywhere else."""
    expected = _rate(config)
    found = []
    for axis, name in enumerate(AXES):
        others = tuple(other for other in range(len(AXES)) if other != axis)
        pairs = list(zip(kept.sum(others).tolist(), there.sum(others).tolist(), strict=True))
        for i, (count, of) in enumerate(pairs):
            rest = int(kept.sum()) - count, int(there.sum()) - of
            if surprising(count, of, expected, level) and rest[1] and not surprising(*rest, expected, level):
                place = DIRECTIONS[i] if name == "direction" else i
                share = f"{count:,} of {of:,} elements ({count / of:.4g}) at {name}={place}"
                found.append(f"dropout's rate: {share} are kept, expected {expected:.4g}")
                break
    return found


def _dependences(config: RNNConfig, kept: Masks, there: Masks, level: float) -> list[str]:
    """Pairs that do not overlap are independent of each other, so that how many agree is binomial."""
    rate = _rate(config)
    expected = rate**2 + (1 - rate) ** 2
    found = []
    for axis, name in enumerate(AXES):
        pairs = kept.shape[axis] // 2
        one, other = range(0, 2 * pairs, 2), range(1, 2 * pairs, 2)
        both = there.take(one, axis) & there.take(other, axis)
        agree = (kept.take(one, axis) == kept.take(other, axis)) & both
        if surprising(int(agree.sum()), int(both.sum()), expected, level):
            what = f"the masks of {_NEIGHBOURS[name]} agree in {_share(agree, both)}"
            found.append(f"dropout's independence: {what}, expected {expected:.4g}")
    return found


def _share(some: Masks, of: Masks) -> str:
    count, total = int(some.sum()), int(of.sum())
    return f"{count:,} of {total:,} elements ({count / total:.4g})"


def _rate(config: RNNConfig) -> float:
    """The probability that every mask between the layers keeps an element."""
    return float((1 - config.dropout) ** (config.num_layers - 1))


def _sizes(config: RNNConfig) -> tuple[int, ...]:
    return (CALLS, config.T, config.N, config.num_directions, config.hidden_size)


def _tests(config: RNNConfig) -> int:
    """The number of tests made of a config: the rate, the rate at each place, and a sort of pairs along each axis."""
    return 1 + sum(_sizes(config)) + len(AXES) if _shows(config) else 0


def surprising(count: int, total: int, probability: float, level: float) -> bool:
    """Whether so many of so many are further off than chance makes them with a probability of ``level``.

    By Chernoff's bound, a binomial count is at ``count`` or beyond, seen from its mean, with a probability of at most
    exp(-total D), D the relative entropy of count/total and ``probability``. Each side has half of ``level``.
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
