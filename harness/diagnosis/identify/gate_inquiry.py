"""gate_inquiry: the gates of a subject's step, found one by one by what their rows of W_ih move.

One feature of x, which is 1 in the step that is read, drives the gates: its weights add to the sum of the gate that
reads one block of rows of W_ih. A state is a gate times something, plus something, so a gate is known of a state once
that is seen with the gate at both of its ends, too: then its function is inverted, and the coefficients of its sum
solve linear equations, whatever the other gates do. A gate that acts through another one is seen in that one's sum.
Then each state solves linear equations, too: its terms are products of gates and states. Which gate is which follows
from what was found. Whatever sizes a subject takes will do: of fewer sequences and units, it is asked more often.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, islice, permutations, product
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.activations import ACTIVATIONS, ARGUMENTS, IDENTITY, TANH, Activation
from harness.diagnosis.identify.fit import EQUATIONS_AN_UNKNOWN, affine, may_reach, plainest, solve
from harness.diagnosis.identify.gates import (
    OWN_TERMS,
    PARAMETER_ROLES,
    SIGMOID,
    GatedModel,
    GateFunction,
    GateSumTerm,
    StepEvaluation,
    blocks_of,
    complements,
    parameter_in,
    step_of,
)
from harness.diagnosis.identify.model import in_order
from harness.diagnosis.identify.questions import Asker, CaseSizes, Response
from harness.diagnosis.identify.terms import ONE_STEP_TERMS
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np
from harness.space.case import Case
from harness.space.cells import Polynomial
from harness.space.config import RNNConfig

# a sum at which a gate is at its end: all bounded functions are flat there but softsign and arctan
SATURATING_DRIVE: Final = 200.0
VERY_FAR: Final = 1e9  # such a sum for softsign and arctan, which rise as 1 - 1/s
BOUND: Final = 10.0  # the largest modulus of a bounded function
GATE_UNITS: Final = 12
# The features of x: one that drives the gates in the step that is read, one that does so in those before, and others.
FEATURES: Final = 6
# Sums at which gates are between their ends, and differ. With one gate at its end, and an initial c up to
# ``SMALL_DRIVE``, c is within 0.4, so that no usual limit cuts it off.
STATE_LEVELS: Final = (-2.0, 0.3, 0.2, 0.8)
SMALL_DRIVE: Final = 0.3
GATE_SEQUENCES: Final = 8
# The equations of a sum: 1.5 for each unknown, of which the widest sums of an LSTM's gate have some 90.
GATE_EQUATIONS: Final = 192
GATE_SEEDS: Final = 3  # sets of weights of that many equations
BIASES: Final = 14  # units of all seeds together: 1.5 for each kind of term that is the same in all sequences
# The sums at which a function is looked at, its two ends last.
FUNCTION_SUMS: Final = np.append(
    [-2.3, -1.7, -1.05, -0.83, -0.47, -0.2, 0.13, 0.38, 0.6, 0.92, 1.21, 1.55, 2.05, 2.6, 3.4, -3.7, 4.6, -5.3],
    [SATURATING_DRIVE, -SATURATING_DRIVE],
)
TERM_NAMES: Final = (*OWN_TERMS, "h[t-1] @ W_hh", "h[t-1] * np.diag(W_hh)", "h[t-1]", "1")
GROWTH_STEPS: Final = 40  # steps after which a c that only grows is beyond any usual limit
QUOTIENT_ERROR: Final = 2.0**-48  # of a quotient of plain numbers
WEAK: Final = 1e-3  # of a gate's reach over the largest, from which little is seen of it


# The functions of a state that can be inverted.
OUTERS: Final = tuple(kind for kind in ACTIVATIONS.values() if kind != IDENTITY and kind.family.inverse is not None)


def inverted(outer: Activation, v: Floats) -> Floats:
    """Return what a function was applied to; NaN where that is not known, but of a tanh of 1 an infinity."""
    if outer == IDENTITY:
        return v
    if outer == TANH:
        return np.arctanh(np.clip(v, -1, 1))
    s, known = outer.inverse(v)
    return np.where(known, s, np.nan)


class StepToRead(NamedTuple):
    """The step whose numbers are read: the first one, with given states, or the second one; else the last one."""

    T: int  # the steps up to it; a subject that takes longer cases alone must return each of their steps
    hx: bool
    by_h: int | None = None  # the block whose gate is driven through h, by a further unit, and not through x


class GateObservation(NamedTuple):
    """The array that shows a gate, the function that is inverted, and the sums to which other gates are driven."""

    setting: StepToRead
    array: str
    outer: Activation
    others: tuple[float, ...]
    through: int = -1  # the block of the gate in whose sum it is seen
    diagonal: bool = False  # whether W_hh of that gate is diagonal meanwhile, so that units do not mix
    others_constant: bool = False  # whether the others are there when its sum is asked for, and not at their levels
    open: bool = False  # whether the ends of that gate are those with this one at its upper end
    activation: Activation = SIGMOID
    inside: float = 1.0


@cache
def _function_table() -> tuple[list[tuple[float, Activation]], Floats]:
    """Return functions, by what multiplies their argument, and what each gives of ``FUNCTION_SUMS``."""
    table = [((a, kind), kind.value(a * FUNCTION_SUMS)) for a, kind in product(ARGUMENTS, ACTIVATIONS.values())]
    finite = [row for row in table if np.isfinite(row[1]).all()]
    return [of for of, _ in finite], np.stack([values for _, values in finite])


def far_of(kind: Activation, setting: StepToRead) -> float:
    """Return a sum at which a function is at its end, within roundings of float64 or of what others add to it.

    What drives it through h may be multiplied by another gate, which is small.
    """
    ends = kind.value(np.array([SATURATING_DRIVE, 2 * SATURATING_DRIVE]))
    reached = ends[1] - ends[0] == 0 and setting.by_h is None
    return SATURATING_DRIVE if reached or abs(ends[1]) > BOUND else VERY_FAR


class ObservedSteps(NamedTuple):
    """A step of several sequences: what each reads, and what is returned of it."""

    case: Case
    x: Floats
    before: Mapping[str, Floats]
    after: Mapping[str, Floats]


class GateInquiry:
    """Everything that is asked of one layer and direction with gates."""

    def __init__(self, asker: Asker, cell: str, settings: Sequence[StepToRead]) -> None:
        """Ask of the steps of some settings, those of the first one before others."""
        self.asker, self.right, self.noise = asker, step_of(cell), asker.noise
        self.G = len(self.right.gates)
        fitted = [(s, config) for s in settings if (config := self._config(s.T, 1, s.hx)) is not None]
        self.settings = [*dict.fromkeys(self._readable(s, config) for s, config in fitted if config.T >= s.T)]
        most = self._config(1, GATE_SEQUENCES, self.settings[0].hx) if self.settings else None
        self.N, self.units = (1, 1) if most is None else (min(most.N, GATE_SEQUENCES), most.hidden_size)
        self.seeds = max(GATE_SEEDS, math.ceil(BIASES / self.units))
        self.sequences = max(self.N, math.ceil(GATE_EQUATIONS / (self.units * self.seeds)))  # of each seed
        self.observations: dict[int, GateObservation] = {}
        self.gates: dict[int, GateFunction] = {}
        self._tables: dict[Any, Mapping[str, Floats] | None] = {}
        self._through: dict[tuple[int, int, bool, StepToRead], GateObservation | None] = {}
        self._driven_so: dict[tuple[StepToRead, tuple[float, ...]], list[ObservedSteps | None]] = {}
        self._sums: dict[tuple[int, GateObservation], list[tuple[ObservedSteps, Floats, Floats]] | None] = {}
        self._before: dict[Any, Mapping[str, Floats] | None] = {}
        self._gate_at_end: int | None = None  # the block of the gate at whose upper end h is c, if nothing else shows c
        self.right = replace(self.right, arranged=tuple(role for role in PARAMETER_ROLES if self._is_arranged(role)))

    def _config(self, T: int, N: int, hx: bool, units: int = GATE_UNITS) -> RNNConfig | None:
        return self.asker.config(**CaseSizes(T, N, FEATURES, units)._asdict(), hx=hx, loss=None)

    def _readable(self, setting: StepToRead, config: RNNConfig) -> StepToRead:
        """Return the step itself, or the last one if the subject takes more steps and returns the last alone."""
        a = self.asker.ask(CaseSizes(config.T, 1, FEATURES, GATE_UNITS), hx=setting.hx, loss=None)
        return setting if a is not None and a.returned is not None else setting._replace(T=config.T)

    # What is asked.

    def _steps(
        self, setting: StepToRead, seed: int, drives: Floats, number: int, diagonal: int | None = None
    ) -> ObservedSteps | None:
        """Return the last step of some sequences, whose gates are driven to some sums (G) there."""
        N = self.N
        every = [self._run(setting, seed, drives, range(k, k + N), diagonal) for k in range(0, number, N)]
        observed = [steps for steps in every if steps is not None]
        if len(observed) < len(every):
            return None
        before, after = (_beside([getattr(steps, name) for steps in observed]) for name in ("before", "after"))
        return ObservedSteps(observed[0].case, np.concatenate([steps.x for steps in observed]), before, after)

    def _run(
        self, setting: StepToRead, seed: int, drives: Floats, sequences: range, diagonal: int | None
    ) -> ObservedSteps | None:
        N, T, H = len(sequences), setting.T, self.units + (setting.by_h is not None)
        config = self._config(T, N, setting.hx, H)
        if config is None or config.T < T or (config.N, config.hidden_size) != (N, H):
            return None
        random, largest = np.random.default_rng(seed), 1.5 / (FEATURES + H)
        ih = random.uniform(-largest, largest, (self.G * H, config.input_size))
        hh = random.uniform(-1, 1, (self.G * H, H)) * 2 * largest
        biases = random.uniform(-largest, largest, (2, self.G * H))
        if diagonal is not None:
            hh[diagonal * H : (diagonal + 1) * H] *= np.eye(H)
        own = [np.random.default_rng([seed, k]) for k in sequences]
        numbers = {"weight_ih_l0": ih, "weight_hh_l0": hh, "bias_ih_l0": biases[0], "bias_hh_l0": biases[1]}
        numbers["x"] = np.stack([r.uniform(-1, 1, (config.T, config.input_size)) for r in own], 1)
        numbers |= {name: np.stack([r.uniform(-1, 1, H) for r in own]) for name in config.form.hidden}
        self._drive(setting, np.tile(drives, (H, 1)).T, numbers)
        case, a = self._answer(config, numbers)
        if a is None or not (after := arrays_of(a, T)):
            return None
        key = setting, seed, sequences, diagonal, self._shows_h, self.carries
        if key not in self._before:
            self._before[key] = self._states_before(setting, numbers, a)
        if (before := self._before[key]) is None:
            return None
        starts = {name: numbers[name] for name in config.form.hidden}
        states = {name: before[start] for name, start in zip("hc", starts, strict=False)}
        states |= {name: v if setting.hx else 0 * v for name, v in starts.items()}
        x = case.x[:, T - 1] if config.batch_first and config.batched else case.x[T - 1]
        return ObservedSteps(case, np.asarray(x, np.float64).reshape(N, -1), states, after)

    def _drive(self, setting: StepToRead, drives: Floats, numbers: dict[str, Floats]) -> None:
        """Change numbers so that a step's sums have ``drives`` (G, H) added to them, and other steps' sums others."""
        (G, H), x, levels = drives.shape, numbers["x"], np.reshape(STATE_LEVELS[: self.G], (-1, 1))
        x[..., 0] = np.arange(len(x))[:, None] == setting.T - 1
        x[..., 1:2] = 1 - x[..., :1]
        by_x, by_h = numbers["weight_ih_l0"].reshape(G, H, -1), numbers["weight_hh_l0"].reshape(G, H, H)
        by_x[..., 0] += drives
        if x.shape[-1] > 1:
            by_x[..., 1] += levels
        elif self.asker.has_bias and len(x) > 1:  # at each step alike
            numbers["bias_ih_l0"] = numbers.get("bias_ih_l0", np.zeros(G * H)) + np.repeat(levels, H)
            by_x[..., 0] -= levels
        if "cx" in numbers:
            numbers["cx"] = numbers["cx"] * SMALL_DRIVE
        if (k := setting.by_h) is not None:  # by the last column, or by the last row if it is read the other way round
            by_x[k, :, :2], numbers["hx"][:, -1] = 0, 1
            by_h[:, :, -1], by_h[:, -1, :] = 0, 0
            by_h[k, :, -1], by_h[k, -1, :] = drives[k], drives[k]

    def _states_before(
        self, setting: StepToRead, numbers: Mapping[str, Floats], response: Response
    ) -> Mapping[str, Floats] | None:
        """Return the states before the last step: those that a run ends with which is a step shorter."""
        hidden, x = response.case.config.form.hidden, numbers["x"]
        if setting.T == 1:
            return numbers
        T, N, H = setting.T - 1, x.shape[1], numbers[hidden[0]].shape[1]
        prefix = self._config(T, N, setting.hx, H)
        if prefix is None or (prefix.T > T and not (T == 1 and response.returned is not None)):
            return None
        before: Mapping[str, Floats] = {**numbers, "x": x[: prefix.T]}
        given = [before, self._with_c_shown(before)][: len(hidden)]
        shorter = [self._answer(prefix, several)[1] for several in given]
        known = [arrays for a in shorter if a is not None and (arrays := arrays_of(a, T))]
        pairs = zip(hidden, known, strict=True) if len(known) == len(given) else ()
        return {name: self._state(arrays, k) for k, (name, arrays) in enumerate(pairs)} or None

    def _with_c_shown(self, numbers: Mapping[str, Floats]) -> Mapping[str, Floats]:
        """Return numbers of a first step whose gates are where what is returned shows c."""
        of_c = self._observations_of_c
        ends = [k == self._gate_at_end or (bool(of_c) and of_c[0].others[k] == SATURATING_DRIVE) for k in range(self.G)]
        if not any(ends) or self.carries[0] == "c_n":
            return numbers
        ih = numbers["weight_ih_l0"].copy()
        more = np.repeat(ends, len(ih) // self.G) * SATURATING_DRIVE
        if ih.shape[1] == 1:
            return {**numbers, "bias_ih_l0": numbers["bias_ih_l0"] + more}
        ih[:, 1] += more
        return {**numbers, "weight_ih_l0": ih}

    def _table(self, setting: StepToRead, drives: Floats, quiet: float) -> Mapping[str, Floats] | None:
        """Return what is given of the sums (n, G) to which the gates of one unit each are driven, without biases.

        The matrix W_hh of each gate is ``quiet`` times a unit matrix.
        """
        key = setting, drives.tobytes(), quiet
        if key not in self._tables:
            one = int(setting.by_h is not None)  # a further unit, which drives others
            wide = self._config(setting.T, 1, setting.hx, len(drives) + one)
            most = 0 if wide is None else min(wide.hidden_size - one, len(drives))
            several = [drives[k : k + most] for k in range(0, len(drives), most)] if most > 0 else []
            rows = [self._row(setting, some, quiet) for some in several]
            known = [row for row in rows if row is not None]
            self._tables[key] = None if len(known) < len(rows) or not rows else _beside(known)
        return self._tables[key]

    def _row(self, setting: StepToRead, drives: Floats, quiet: float) -> Mapping[str, Floats] | None:
        config = self._config(setting.T, 1, setting.hx, len(drives) + (setting.by_h is not None))
        if config is None or config.T < setting.T:
            return None
        H, number = config.hidden_size, len(drives)
        hh = np.tile(quiet * np.eye(H), (self.G, 1))
        if setting.by_h is not None:
            hh[setting.by_h * H : (setting.by_h + 1) * H] = 0
        numbers = {"weight_ih_l0": np.zeros((self.G * H, config.input_size)), "weight_hh_l0": hh}
        numbers["x"] = np.zeros((config.T, config.N, config.input_size))
        numbers |= {name: np.full((config.N, H), 0.6 + 0.1 * k) for k, name in enumerate(config.form.hidden)}
        self._drive(setting, np.concatenate([drives, np.repeat(drives[-1:], H - number, 0)]).T, numbers)
        _, a = self._answer(config, numbers)
        arrays = {} if a is None else arrays_of(a, setting.T)
        return {name: v[0, :number] for name, v in arrays.items()} or None

    def _answer(self, config: RNNConfig, numbers: Mapping[str, Floats]) -> tuple[Case, Response | None]:
        """Return a case of numbers, x (T, N, I) and states (N, H), and what is given; what is not given is 0 or 1."""
        dtype, arrays = np.dtype(config.dtype), dict[str, Any]()
        for name, spec in config.given.items():
            value: Any = numbers.get(name)
            value = np.eye(*spec.shape) if value is None and len(spec.shape) == 2 else value
            value = np.zeros(spec.shape) if value is None else value
            if name.removesuffix("_l0") in self.right.arranged:
                value = np.asarray(value).reshape(self.G, -1, *spec.shape[1:]).swapaxes(0, 1)
            if name == "x" and config.batch_first and config.batched:
                value = value.swapaxes(0, 1)
            arrays[name] = value.reshape(spec.shape).astype(dtype)
        case = Case.from_arrays(config, arrays)
        return case, self.asker.of(case)

    def _is_arranged(self, role: str) -> bool:
        """Tell whether a parameter's first rows are of the first unit: rows go unit by unit, not gate by gate."""
        setting = StepToRead(1, True) if self.asker.allows("hx", True) else StepToRead(2, False)
        config = self._config(setting.T, 1, setting.hx)
        if config is None or f"{role}_l0" not in config.weights or config.hidden_size == 1:
            return False
        numbers = {name: np.random.default_rng(3).uniform(0.1, 0.5, spec.shape) for name, spec in config.given.items()}

        def returned(rows: slice, more: float) -> Mapping[str, Floats]:
            bumped = numbers[f"{role}_l0"].copy()
            bumped[rows] += more
            _, a = self._answer(config, numbers | {f"{role}_l0": bumped})
            return {} if a is None else arrays_of(a, setting.T)

        def moves_unit(k: int) -> bool:  # by the rows of all gates, of which one may move nothing
            rows = slice(max(1, k * self.G), (k + 1) * self.G)
            before, after, H = returned(rows, 0.0), returned(rows, 1.0), config.hidden_size
            moved = [(before[name] != after.get(name)).reshape(-1, H).any(0) for name in before]
            return bool(moved) and list(np.any(moved, 0)) == [unit == k for unit in range(H)]

        return moves_unit(0) and moves_unit(1)

    def _state(self, arrays: Mapping[str, Floats], k: int) -> Floats:
        """Return the state that arrays of a step show, as far as it is known how that is returned."""
        if k == 0:
            return arrays.get(self._shows_h, arrays.get("h_n", next(iter(arrays.values()))))
        name, outer = self.carries
        return inverted(outer, arrays.get(name, next(iter(arrays.values()))))

    @property
    def _shows_h(self) -> str:
        # Beside c, which all gates but one add up to, h shows one gate alone.
        single = len(self.right.starts) == 1
        arrays = Counter(s.array for s in self.observations.values() if single or s.outer == IDENTITY)
        return min(("output", "h_n"), key=lambda name: arrays.get(name, math.inf))

    @property
    def carries(self) -> tuple[str, Activation]:
        """The array that shows c, and the function of c that it is."""
        if self._gate_at_end is not None:
            return self._shows_h, IDENTITY
        of_c = self._observations_of_c
        return (of_c[0].array, of_c[0].outer) if of_c else ("c_n", IDENTITY)

    @property
    def _observations_of_c(self) -> list[GateObservation]:
        return [s for s in self.observations.values() if (s.array, s.outer) != (self._shows_h, IDENTITY)]

    def grown(self, start: float, sum_: float = SATURATING_DRIVE) -> Response | None:
        """Return what is given where all gates have a sum, and the initial state is large or there are many steps."""
        T, hx = (1, True) if self.asker.allows("hx", True) else (GROWTH_STEPS, False)
        config = self._config(T, 1, hx)
        if config is None:
            return None
        x, H = np.ones((config.T, 1, config.input_size)), config.hidden_size
        ih = np.zeros((self.G * H, config.input_size))
        ih[:, 0] = math.copysign(sum_, sum_ * start) if T > 1 else sum_
        starts = {self.right.starts[-1]: np.full((1, H), start)}
        return self._answer(config, starts | {"x": x, "weight_ih_l0": ih})[1]

    # Which gate is seen where.

    def find_observations(self) -> None:
        """Find where the gate that reads each block shows, and its function."""
        two = len(self.right.starts) > 1
        outers = tuple(dict.fromkeys((TANH, *OUTERS)))
        names = ("c_n", "h_n", "output") if two else ("output", "h_n")
        views = [(name, outer) for outer in (IDENTITY, *outers) for name in names]
        steps = self._steps(self.settings[0], 1, np.array(STATE_LEVELS[: self.G]), 1) if self.settings else None
        if steps is not None:  # an array that is the same as another one shows nothing more
            arrays = [name for name in ("output", "c_n", "h_n") if name in steps.after]
            same = {b for a, b in combinations(arrays, 2) if np.array_equal(steps.after[a], steps.after[b])}
            views = [(name, outer) for name, outer in views if name in arrays and name not in same]
        for plain in (True, False):
            for setting, (array, outer) in product(self.settings, views):
                for k in range(self.G):
                    if k not in self.observations:
                        self._look(k, setting, array, outer, plain=plain)
        for k, (array, outer) in product(range(self.G), views if self.asker.allows("hx", True) else ()):
            if k not in self.observations:
                self._look(k, StepToRead(1, True, k), array, outer, plain=True)

    def _observations_of(self, k: int, *, held: bool) -> Iterator[GateObservation]:
        """Yield how a gate is seen: of itself, or in the sum of another one; ``held``, with the others at their ends.

        There what reads the gate does not change with it; but of a gate that reads another one, not all is seen.
        """
        if held:
            backgrounds = islice(self._backgrounds(k), 1, None) if k in self.observations else ()
            yield from (self.observations[k]._replace(others=others, others_constant=True) for others in backgrounds)
            return
        if k in self.observations:
            yield self.observations[k]
        for m, opened, setting in product(self.observations, (False, True), self.settings):
            if k != m and self.observations[m].activation.name != "identity":
                if (k, m, opened, setting) not in self._through:
                    self._through[k, m, opened, setting] = self._look_through(k, m, setting, opened=opened)
                if (observation := self._through[k, m, opened, setting]) is not None:
                    yield observation
                    yield observation._replace(diagonal=True)

    def _backgrounds(self, k: int) -> Iterator[tuple[float, ...]]:
        level = STATE_LEVELS[: self.G]
        others = [j for j in range(self.G) if j != k]
        yield level
        for far in others:
            yield tuple(SATURATING_DRIVE if j == far else drive for j, drive in enumerate(level))
        yield tuple(SATURATING_DRIVE if j in others else drive for j, drive in enumerate(level))

    def _driven(self, k: int, others: Sequence[float], values: Floats) -> Floats:
        drives = np.tile(np.asarray(others, np.float64), (len(values), 1))
        drives[:, k] = values
        return drives

    def _look(self, k: int, setting: StepToRead, array: str, outer: Activation, *, plain: bool) -> None:
        for others in self._backgrounds(k):
            drives = self._driven(k, others, FUNCTION_SUMS)
            table = self._table(setting, drives, 0.0 if setting.by_h is None else 0.5)
            if table is None or array not in table:
                continue
            function = self._function(inverted(outer, table[array]))
            if function is not None and (not plain or function[1] in ARGUMENTS):
                self.observations[k] = GateObservation(
                    setting, array, outer, others, activation=function[0], inside=function[1]
                )
                return

    def _look_through(self, k: int, m: int, setting: StepToRead, *, opened: bool) -> GateObservation | None:
        """Look for a gate in the sum of another one, whose ends are known."""
        observation = self.observations[m]._replace(setting=setting)
        several = [self._driven(k, observation.others, FUNCTION_SUMS) for _ in range(3)]
        level = STATE_LEVELS[m] / max(1.0, abs(observation.inside))
        for drives, end in zip(several, (level, SATURATING_DRIVE, -SATURATING_DRIVE), strict=True):
            drives[:, m] = end
            drives[:, k] = SATURATING_DRIVE if opened and end != level else drives[:, k]
        for quiet in (0.5, -0.5):
            tables = [self._table(setting, drives, quiet) for drives in several]
            arrays = [table[observation.array] for table in tables if table is not None and observation.array in table]
            if len(arrays) < len(tables):
                continue
            function = self._function(
                self._from_ends(observation, *(inverted(observation.outer, v) for v in arrays))[0]
            )
            if function is not None:
                activation, inside = function
                return observation._replace(through=m, open=opened, activation=activation, inside=inside)
        return None

    def _ends(self, activation: Activation) -> bool:
        return bool(
            np.isfinite(activation.value(np.array([1e6]))).all() and abs(activation.value(np.array(1e6))) < BOUND
        )

    def _function(self, v: Floats) -> tuple[Activation, float] | None:
        """Return the function that gives v, up to a factor and a summand, and what multiplies its argument."""
        if not np.isfinite(v).all() or np.ptp(v) <= 1e3 * self.noise * np.abs(v).max():
            return None
        ones, (kinds, values) = np.ones(len(FUNCTION_SUMS) - 2), _function_table()
        inner = values[:, :-2]  # the ends, where some functions are large, are not fitted
        for k in affine(inner, v[:-2], self.noise):
            (argument, kind), y = kinds[k], values[k]
            fit = solve({"1": ones, "y": inner[k]}, v[:-2], self.noise)
            made = None if fit is None else fit.get("1", 0.0) + fit.get("y", 0.0) * y
            if made is not None and np.allclose(made, v, 1e-3):
                return kind, argument
        top, bottom = v[-2], v[-1]  # at both ends
        y = (v - bottom) / (top - bottom)
        between = (y > 1e-9) & (y < 1 - 1e-9)
        if between.sum() < 4:
            return None
        inner, noise = FUNCTION_SUMS[between], self.noise * 1e3
        for own, form in ((np.log(y[between] / (1 - y[between])), None), (y[between], "hard")):
            steep = np.polyfit(inner, own, 1)
            if np.abs(np.polyval(steep, inner) - own).max() <= 64 * noise * (1 + np.abs(own).max()):
                a = plainest(float(steep[0]), self.noise)
                if form is None:
                    return (TANH, a / 2) if _simple(a / 2) and not _simple(a) else (SIGMOID, a)
                return (Activation("clip", (-1.0, 1.0)), 1.0) if a == 0.5 else (Activation("hard sigmoid", (a,)), 1.0)
        return None

    def _unrefused(self, observation: GateObservation, steps: Sequence[ObservedSteps]) -> tuple[Floats, Floats]:
        """Return the sum of a gate in a step, given its ends in two others, and how well it is known."""
        arrays = (inverted(observation.outer, of.after[observation.array][:, : self.units]) for of in steps)
        return self._from_ends(observation, *arrays)

    def _from_ends(
        self, observation: GateObservation, main: Floats, high: Floats, low: Floats
    ) -> tuple[Floats, Floats]:
        kind = observation.activation
        far = far_of(kind, observation.setting)
        top, bottom = (
            float(kind.value(np.array(end))) for end in (far * observation.inside, -far * observation.inside)
        )
        reach = high - low
        if kind.name == "identity":  # up to what others add
            weight = reach / (2 * SATURATING_DRIVE)
            return main / np.where(weight == 0, 1.0, weight) / observation.inside, weight
        if not self._ends(kind):  # it is 0 at its lower end, and at its upper one its sum
            share = (main - low) / np.where(reach == 0, 1.0, reach)
            y = SATURATING_DRIVE * observation.inside * share / (1 - share)
        else:
            y = bottom + (top - bottom) * (main - low) / np.where(reach == 0, 1.0, reach)
        s, known = kind.inverse(y)
        weight = np.where(known & (np.abs(reach) > WEAK * np.abs(reach).max()), np.abs(reach * kind.slope(s)), 0.0)
        return s / observation.inside, np.where(np.isfinite(weight), weight, 0.0)

    # What a gate's sum is made of.

    def find_sums(self) -> bool:
        """Find the sum of each gate that is seen; tell whether all of these are known."""
        while self._find_sum(held=False) or self._find_sum(held=True):
            pass
        blocks = {*self.observations, *(k for (k, *_), observation in self._through.items() if observation is not None)}
        return blocks <= {*self.gates}

    def _find_sum(self, *, held: bool) -> bool:
        """Find the sums of further gates, by what is known of others; tell whether there is one."""
        number = len(self.gates)
        # What W_hh drives may be a gate whose rows of W_ih are other ones, which x drives.
        order = sorted(
            range(self.G), key=lambda k: k in self.observations and self.observations[k].setting.by_h is not None
        )
        for last, k in product((False, True), order):  # to those of the last kind others may add
            identity = k in self.observations and self.observations[k].activation.name == "identity"
            if identity != last or k in self.gates:
                continue
            observations = self._observations_of(k, held=held)
            gates = (self._sum(k, observation) for observation in observations)
            gate = next((choice for choice in gates if choice is not None and choice not in self.gates.values()), None)
            if gate is not None:
                self.gates[k] = gate
                if held:
                    break
        return len(self.gates) > number

    def _observed(self, k: int, observation: GateObservation) -> list[tuple[ObservedSteps, Floats, Floats]] | None:
        """Return steps, and the sum of a gate in each and how well it is known."""
        if (k, observation) not in self._sums:
            self._sums[k, observation] = self._observe(k, observation)
        return self._sums[k, observation]

    def _observe(self, k: int, observation: GateObservation) -> list[tuple[ObservedSteps, Floats, Floats]] | None:
        observed, m = [], observation.through
        # What shows h shows c where the gate before tanh(c) is at its end.
        held = observation.others_constant or (observation.array != "c_n" and observation.outer == TANH)
        others = observation.others if held else STATE_LEVELS[: self.G]
        far = far_of(observation.activation, observation.setting)
        drives = self._driven(k, others, np.array([0.0, far, -far]))
        if m >= 0:  # each with the gate that it is seen through at a sum of its own, and at both ends
            end = far_of(self.observations[m].activation, self.observations[m].setting)
            level = STATE_LEVELS[m] / max(1.0, abs(self.observations[m].inside))
            drives = np.repeat(drives, 3, 0)
            drives[:, m] = np.tile([level, end, -end], 3)
            drives[drives[:, m] != level, k] = far if observation.open else drives[drives[:, m] != level, k]
        diagonal = m if observation.diagonal else None
        for seed in range(self.seeds):
            every = [self._steps(observation.setting, seed, drive, self.sequences, diagonal) for drive in drives]
            steps = [step for step in every if step is not None]
            if len(steps) < len(every) or any(observation.array not in step.after for step in steps):
                return None
            if m < 0:
                s, weight = self._unrefused(observation, steps)
            else:
                inner, sure = zip(
                    *(self._unrefused(self.observations[m], steps[j : j + 3]) for j in (0, 3, 6)), strict=True
                )
                s, weight = self._from_ends(observation, *inner)
                weight = weight * np.minimum.reduce([np.abs(v) for v in sure])
            observed.append((steps[0], s, weight))
        return observed

    def _sum(self, k: int, observation: GateObservation) -> GateFunction | None:
        observed = self._observed(k, observation)
        if observed is None:
            return None
        y = np.concatenate([(s * w).ravel() for _, s, w in observed])
        weight = np.concatenate([w.ravel() for _, _, w in observed])
        rows = weight != 0
        if rows.sum() < weight.size / 4 or not np.isfinite(y).all():
            return None
        evaluated = [(self._step(steps), steps.before["h"].shape) for steps, _, _ in observed]

        @cache
        def column(of: GateSumTerm | tuple[str, ...]) -> Floats:
            values = [
                (step.part(of) if isinstance(of, GateSumTerm) else step.monomial(of), size) for step, size in evaluated
            ]
            every = np.concatenate([np.broadcast_to(v, size)[:, : self.units].ravel() for v, size in values])
            return np.asarray(every[rows])

        beside = self._beside() if observation.activation.name == "identity" else []
        products: dict[Any, Floats] = {names: column(names) for names in beside}
        for parts in self._parts(k, observation):
            columns: dict[Any, Floats] = {part: column(part) * weight[rows] for part in parts} | products
            own = [part for part in parts if part.block == k and not part.factor and part.name in OWN_TERMS]
            if (
                fit := self._with_another_term(k, columns, y[rows]) or solve(columns, y[rows], self.noise, own)
            ) is not None:
                summands = [p._replace(coef=plainest(c, self.noise)) for p, c in fit.items() if p in parts]
                return GateFunction(observation.activation, tuple(p for p in summands if p.coef), observation.inside)
        return None

    def _with_another_term(self, k: int, columns: Mapping[Any, Floats], y: Floats) -> dict[Any, float] | None:
        """Return a sum with one term that no other cell has, in the place of its own or beside it.

        In the sequences that are asked for, a sum is a multiple of a mean: one with the factors 1 is the likeliest.
        """
        own = [p for p in columns if isinstance(p, GateSumTerm) and p.block == k and p.operand == "h"]
        others, own = ([p for p in own if (p.name in OWN_TERMS) == of_torch] for of_torch in (False, True))
        others = [p for p in others if p.name not in TERM_NAMES]
        if not others or not may_reach(columns, y, self.noise):
            return None
        sums = (
            solve({p: columns[p] for p in columns if p == part or (p in own and p.name not in gone)}, y, self.noise)
            for instead, part in product((True, False), others)
            for gone in [{name for name in OWN_TERMS if instead and parameter_in(name) in part.name}]
        )
        found = [fit for fit in sums if fit is not None]
        return min(found, key=lambda fit: sum(plainest(c, self.noise) != 1 for c in fit.values()), default=None)

    def _beside(self) -> list[tuple[str, ...]]:
        """Return what may be added to a product with a gate: products of other gates and states."""
        gates, states = [str(m) for m in self.gates], [(), ("h",), ("c",)][: 1 + len(self.right.starts)]
        return [
            (*names, *state) for n in range(3) for names in combinations(gates, n) for state in states if names or state
        ]

    def _parts(self, k: int, observation: GateObservation) -> Iterator[list[GateSumTerm]]:
        """Yield what a sum may be made of, ever more."""
        blocks = [k, *(j for j in range(self.G) if j != k)]
        states = ["h", "c"][: len(self.right.starts)]
        own = [GateSumTerm(name, j) for name in OWN_TERMS for j in blocks]
        plain = [GateSumTerm("1", k)]
        yield [*own, *plain]
        read = [*states, "c'"] if len(states) > 1 and observation[1:3] == ("output", IDENTITY) else states
        odd = [
            GateSumTerm(name, j, operand)
            for operand in read
            for name in TERM_NAMES
            if name.startswith("h")
            for j in blocks
        ]
        odd = [part for part in odd if part not in own and (part.name != "h[t-1]" or part.block == k)]
        wide = [*own, *plain, *odd]
        yield from (self._gated(own, m, plain) for m in self.gates)
        yield wide
        yield from (self._gated(wide, m) for m in self.gates)
        yield from (self._gated(self._gated(own, m, plain), j) for m, j in permutations(self.gates, 2))
        known = {part.name for part in wide}
        others = [GateSumTerm(name, k) for name in ONE_STEP_TERMS if name not in known]
        yield [*own, *plain, *others]
        for m in self.gates:  # which multiplies what reads h
            by_m = [part._replace(factor=str(m)) for part in others if re.search(r"h\[|b_hh", part.name)]
            yield [*self._gated(own, m, plain), *others, *by_m]

    def _gated(self, parts: list[GateSumTerm], m: int, beside: Sequence[GateSumTerm] = ()) -> list[GateSumTerm]:
        """Return parts with and without a gate that multiplies them, and products with what it multiplies before."""
        by = str(m)
        inner = [p._replace(operand=f"{by} * h") for p in parts if " @ W_hh" in p.name and p.operand == "h"]
        return [*parts, *beside, *(part._replace(factor=by) for part in parts if not part.factor), *inner]

    def _step(self, steps: ObservedSteps, model: GatedModel | None = None, *, known: bool = True) -> StepEvaluation:
        """Return the quantities of steps, as far as gates are known, by their blocks, c' as it is seen if ``known``."""
        weights = [np.asarray(v, np.float64) for v in steps.case.weights.values()]
        if len(weights) < 4 or weights[2].ndim != 1:
            weights = [*weights[:2], *[np.zeros(len(weights[0]))] * 2]
        states = dict(steps.before)
        if len(self.right.starts) > 1 and known:
            name, outer = self.carries
            after = steps.after.get(name, np.zeros_like(states["h"]))
            states["c'"] = inverted(outer, after)
        gates = tuple((str(k), gate) for k, gate in self.gates.items())
        return StepEvaluation(
            replace(model or self.right, gates=gates), blocks_of(self.right, *weights[:4]), steps.x, states
        )

    # What the states are made of.

    def find_states(self) -> Iterator[GatedModel]:
        """Yield what the step may be, its gates by their letters.

        Where no array is c, h may be c times a gate, and so be c at the gate's end.
        """
        hidden = len(self.right.starts) > 1 and not self._observations_of_c
        for end in (None, *(self.gates if hidden else ())):
            self._gate_at_end = end
            if (model := self._states()) is not None:
                yield model

    def _states(self) -> GatedModel | None:
        gates, two = [str(k) for k in self.gates], len(self.right.starts) > 1
        some = [names for n in range(3 if two else 4) for names in combinations(gates, n)]
        begun, model = [(name,) for name in self.right.starts], self.right
        if two:
            others = next(
                (s.others for s in self.observations.values() if (s.array, s.outer) == self.carries), STATE_LEVELS
            )
            if (end := self._gate_at_end) is not None:
                others = self._driven(end, STATE_LEVELS[: self.G], np.array([SATURATING_DRIVE]))[0]
            columns = [(*names, *state) for names in some for state in ((), ("c",), ("h",), ("tanh(c)",))]
            odd = [(*names, *state) for names in some for state in begun]
            wide = [(*names, *state) for names in combinations(gates, 3) for state in ((), ("c",))]
            several = ([*columns, *beside] for beside in ((), odd, wide))
            memory = next(filter(None, (self._polynomial(terms, others, "c'", model) for terms in several)), None)
            if memory is None:
                return None
            model = replace(model, memory=memory)
        reads = [*dict.fromkeys([TANH, IDENTITY, *ACTIVATIONS.values()] if two else [TANH])]
        plain, scaled = reads[:2], [TANH._replace(inside=inside) for inside in ARGUMENTS[1:] if two]
        every, found = [*plain, *scaled, *reads[2:]], None
        for outer, kind in (*product([IDENTITY], every), *product(OUTERS, plain), *product(OUTERS, reads[2:])):
            if found is not None and outer != IDENTITY:
                break
            model = replace(model, read=kind, outer=outer)
            beside = ((), ("t",), ("c'",), ("h",), ("tanh(c)",), ("c",)) if two else ((), ("h",))
            columns = [
                (*names, *state) for names in some for state in beside if state != ("t",) or kind.name != "identity"
            ]
            odd = [(*names, *state) for names in some for state in begun] if outer == IDENTITY and kind in plain else []
            several = ([*columns, *beside] for beside in ((), odd)[: 1 + bool(odd)])
            mix = next(filter(None, (self._polynomial(terms, STATE_LEVELS, "h'", model) for terms in several)), None)
            if mix is not None and (found is None or len(mix) < len(found.mix)):
                read = kind if any("t" in names for names, _ in mix) else TANH  # what is not used is not wrong
                found = replace(model, read=read, mix=mix)
                if len(mix) <= len(self.right.mix):  # sigmoid(c) is a sum with tanh(c / 2), too
                    break
        return None if found is None else self._named(found)

    def _polynomial(
        self, columns: Sequence[tuple[str, ...]], others: Sequence[float], name: str, model: GatedModel
    ) -> Polynomial | None:
        """Return what a state is made of, in all settings or else in the first."""
        steps: list[list[tuple[ObservedSteps, StepEvaluation]]] = []
        for setting in self.settings:
            # Each gate at two sums, between which also one that is cut off moves; states of both signs.
            turned = [-sum_ if abs(sum_) < SATURATING_DRIVE else sum_ for sum_ in others[: self.G]]
            if (setting, (*others,)) not in self._driven_so:
                self._driven_so[setting, (*others,)] = [
                    self._steps(setting, 100 + k, np.array(drives), math.ceil(self.sequences / 2))
                    for k, drives in product(range(self.seeds), (others[: self.G], turned))
                ]
            every = self._driven_so[setting, (*others,)]
            steps.append([(run, self._step(run, model, known=name == "c'")) for run in every if run is not None])
        for some in dict.fromkeys([len(steps), 1]):
            pairs = [pair for group in steps[:some] for pair in group]
            if not pairs:
                return None
            shape = pairs[0][0].before["h"].shape
            shown = self._shows_h
            if name == "h'" and not all(shown in run.after for run, _ in pairs):  # no array that is returned shows h
                return None
            y = np.concatenate([(s.of("c'") if name == "c'" else run.after[shown]).ravel() for run, s in pairs])
            y, known = (y, np.full(y.shape, True)) if name == "c'" else model.outer.inverse(y)
            if known.sum() < EQUATIONS_AN_UNKNOWN * len(columns):
                continue
            values = {
                names: np.concatenate([np.broadcast_to(step.monomial(names), shape).ravel() for _, step in pairs])
                for names in columns
            }
            values, y = {names: column[known] for names, column in values.items()}, y[known]
            likely = [names for names in columns if not {"tanh(c)", "h" if name == "c'" else "c"} & {*names}]
            if (fit := solve(values, y, self.noise, likely)) is not None:
                return tuple((names, plainest(c, self.noise)) for names, c in fit.items())
        return None

    def _named(self, model: GatedModel) -> GatedModel:
        """Return a model with the letters and the functions of its gates by which it is nearest to torch's."""
        own, best = self.gates, self._nearest(model)
        reads = {name for g in own.values() for p in g.parts for name in f"{p.factor} {p.operand}".split()}
        forms: list[list[tuple[GateFunction, float, float]]] = []
        for k, gate in own.items():
            others = (form for form in forms_of(gate) if str(k) not in reads or form[1:] == (0.0, 1.0))
            forms.append([(gate, 0.0, 1.0), *others])
        for some in product(*forms):
            self.gates, memory, mix = {}, model.memory, model.mix
            for k, (gate, base, factor) in zip(own, some, strict=True):
                self.gates[k] = gate
                memory, mix = (replaced(terms, str(k), base, factor) for terms in (memory, mix))
            best = min(best, self._nearest(replace(model, memory=memory, mix=mix)), key=lambda pair: pair[0])
        return best[1]

    def _nearest(self, model: GatedModel) -> tuple[tuple[int, ...], GatedModel]:
        """Return how far a model is from torch's, and the model, with the letters by which it is nearest."""
        letters = [name for name, _ in self.right.gates]
        best: tuple[tuple[int, ...], GatedModel] | None = None
        for blocks in permutations(range(self.G)):
            letter_of = dict(zip(map(str, blocks), letters, strict=True))
            named = renamed(model, self.gates, letter_of, self.right, bias=self.asker.has_bias)
            mistakes, numbers = distance(named, self.right)
            moved = sum(j != k for j, k in enumerate(blocks))
            away = (mistakes + (moved > 0), numbers, moved)
            if best is None or away < best[0]:
                best = away, named
        assert best is not None
        return best


def forms_of(gate: GateFunction) -> Iterator[tuple[GateFunction, float, float]]:
    """Yield other functions and sums by which a gate is ``base + factor * other``, with these two numbers.

    Most terms have the factor 1 then. A sigmoid of -s is 1 less that of s, and that of 2 s half a tanh of s and 1/2.
    """
    usual = next((coef for coef, _ in Counter(p.coef for p in gate.parts).most_common() if coef), 1.0)
    inside, kind = plainest(gate.inside * usual, QUOTIENT_ERROR), gate.activation
    total = {"sigmoid": 1.0, "tanh": 0.0}.get(kind.name)  # what f(-s) and f(s) add up to
    if total is None:
        return
    base, factor = (total, -1.0) if inside < 0 else (0.0, 1.0)
    parts = tuple(p._replace(coef=plainest(p.coef / usual, QUOTIENT_ERROR)) for p in gate.parts)
    plain = GateFunction(kind, parts, abs(inside))
    yield plain, base, factor
    if kind.name == "sigmoid":
        yield plain._replace(activation=TANH, inside=abs(inside) / 2), base + factor / 2, factor / 2
    else:
        yield plain._replace(activation=SIGMOID, inside=abs(inside) * 2), base - factor, factor * 2


def replaced(terms: Polynomial, old: str, base: float, factor: float) -> Polynomial:
    """Return a polynomial with ``base + factor * old`` in the place of a quantity."""
    products: dict[tuple[str, ...], float] = {}
    for names, coef in terms:
        rest = tuple(name for name in names if name != old)
        for some, c in {rest: base, names: factor}.items() if rest != names else ((names, 1.0),):
            products[some] = products.get(some, 0.0) + c * coef
    return tuple((names, coef) for names, coef in products.items() if coef)


def renamed(
    model: GatedModel, gates: Mapping[int, GateFunction], letters: Mapping[str, str], right: GatedModel, *, bias: bool
) -> GatedModel:
    """Return a model whose gates have their letters; a gate that is not known, or a ``bias``, is as torch has it."""

    def name(text: str) -> str:
        operand, star, rest = text.partition(" * ")
        return letters.get(operand, operand) + star + rest

    def lettered(terms: Polynomial) -> Polynomial:
        return tuple((tuple(sorted(map(name, names))), coef) for names, coef in terms)

    by_letter = {
        letters[str(k)]: gate._replace(
            parts=tuple(p._replace(operand=name(p.operand), factor=name(p.factor)) for p in gate.parts)
        )
        for k, gate in gates.items()
    }
    blocks = {letter: int(block) for block, letter in letters.items()}
    every = []
    for k, (letter, gate) in enumerate(right.gates):
        own = gate._replace(parts=tuple(p._replace(block=blocks[letter]) for p in gate.parts))
        choice = by_letter.get(letter, own if k != blocks[letter] else gate)
        biases = () if bias or choice is gate else tuple(p for p in own.parts if p.name.startswith("b_"))
        parts = in_order((*choice.parts, *(p for p in biases if p not in choice.parts)))
        every.append((letter, choice._replace(parts=parts)))
    return replace(model, gates=tuple(every), memory=lettered(model.memory), mix=lettered(model.mix))


def distance(model: GatedModel, reference: GatedModel) -> tuple[int, int]:
    """Return how many mistakes apart two models are, and how many numbers and functions.

    What several gates have alike is one mistake, as in a report. A term of a state counts twice.
    """
    away, numbers, mistakes, rights = int(model.outer != reference.outer), 0, set[Any](), dict(reference.gates)
    for terms, right_terms in ((model.memory, reference.memory), (model.mix, reference.mix)):
        # A sum with 1 - a gate in the place of one is one mistake away.
        near = [(0, right_terms), *((1, made) for made in _complemented(right_terms, tuple(rights)))]
        away += min(first + 2 * len({*terms} ^ {*made}) for first, made in near)
        numbers += 2 * len({*terms} ^ {*right_terms})
    for letter, gate in model.gates:
        right = rights[letter]
        if (gate.activation, gate.inside) != (right.activation, right.inside):
            mistakes.add((gate.activation, gate.inside, right.activation))
            numbers += 1
        own, wanted = ({p._replace(block=0) for p in function.parts} for function in (gate, right))
        less = wanted - own
        for part in sorted(own - wanted):
            pair = next((p for p in sorted(less) if p.name == part.name), None)
            if pair is None:
                mistakes.add((part, "added"))
            else:
                less.remove(pair)
                mistakes.add((part[2:], pair[2:]))
        mistakes |= {(part, "missing") for part in less}
        numbers += len(own ^ wanted)
    return away + len(mistakes), numbers


@cache
def _complemented(terms: Polynomial, gates: tuple[str, ...]) -> list[Polynomial]:
    """Return a sum of products with 1 - a gate in the place of each gate."""
    return [made for _, _, made in complements(terms, gates)]


def arrays_of(a: Response, steps: int) -> dict[str, Floats]:
    """Return what an answer shows of the step after which so many are made: each array (N, H)."""
    names = ("h_n", "c_n") if steps == a.case.config.T else ()
    arrays = {name: np.asarray(a.arrays[name][-1], np.float64) for name in names if name in a.arrays}
    return arrays if a.returned is None else arrays | {"output": np.asarray(a.returned[steps - 1], np.float64)}


def _beside(several: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([arrays[name] for arrays in several]) for name in several[0]}


def _simple(value: float) -> bool:
    return value == round(value, 3) and math.isfinite(value)
