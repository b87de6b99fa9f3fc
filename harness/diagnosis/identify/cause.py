"""cause: identified mistakes as the cause of a finding."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Any, Final, TypeVar, cast

from harness.checks.agreement import Observation, observe, plain_outcome
from harness.checks.relation_check import asked_by, relations_of
from harness.checks.result import RaisedError, Result
from harness.diagnosis.identify.activations import Numbers
from harness.diagnosis.identify.ball import SubjectRounding
from harness.diagnosis.identify.elman_layer_inquiry import Identification, identify
from harness.diagnosis.identify.gated_layer_inquiry import identify_gated
from harness.diagnosis.identify.gates import layer_of, right_of
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.inquiry import differing, states_of
from harness.diagnosis.identify.mistake import Mistake
from harness.diagnosis.identify.model import LayerModel, Network, needs_square
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.network_run import derived_trace, run, run_whole
from harness.diagnosis.identify.questions import Asker, Response, rounding_of
from harness.diagnosis.identify.recurrence import recurrence, step_lines
from harness.diagnosis.identify.terms import LINK, STEP_TERMS, LayerTrace, NoShapes
from harness.diagnosis.identify.wiring_choices import Place
from harness.diagnosis.observation_cache import ObservationCache, forward_part
from harness.oracle.arithmetic_assumptions import FORMATS, U64
from harness.oracle.bounded_array import Floats
from harness.oracle.compare import MismatchKind
from harness.oracle.pinned_numpy import np
from harness.space.case import Case
from harness.space.config import PREACTIVATION, RNNConfig, role_of
from harness.space.scope import Scope
from harness.space.values import draw
from harness.subjects.protocol import Subject

MOST_SEEDS: Final = 16  # draws; a single unit of relu is at 0 in half of them, so in all with a chance of 2**-16
NOT_NEEDED: Final = frozenset({"loss", "N"})  # pins of an identification that the failure need not have
SMALL_NUMBER: Final = 1e-3  # beside 1: the slope of tanh is 1 there
LEAST_GRADIENT: Final = 1e-30  # a gradient that is less may underflow
LEAST_FRESH = 3  # the fresh cases that the whole must reproduce, at least


Function = TypeVar("Function", bound=Callable[..., Any])


def _cached(most: int, key: Callable[..., tuple[Any, ...]] = lambda *parts: parts) -> Callable[[Function], Function]:
    """Keep the last results of a function, by the identity of its arguments or ``key``, which is kept alive as long.

    A case is held against each cause that is known, most of which share a network.
    """
    known = OrderedDict[tuple[int, ...], tuple[Any, Any]]()

    def decorated(function: Function) -> Function:
        def kept(*arguments: Any) -> Any:
            parts = key(*arguments)
            at = tuple(map(id, parts))
            if at not in known:
                known[at] = parts, function(*arguments)
                if len(known) > most:
                    known.popitem(last=False)
            return known[at][1]

        return cast("Function", kept)

    return decorated


@_cached(64, lambda network, a, rounding, identified: (network, a.case, rounding, identified))
def _run_on(network: Network, a: Response, rounding: SubjectRounding | None, identified: Network) -> dict[str, Numbers]:
    """Return what a network gives on the case of an answer, at the states that an identified one has there."""
    return run(network, a.case, rounding, states_of(identified, a))


def _made(identified: Identification, a: Response) -> dict[str, Numbers]:
    """Return what an identified layer gives on the case of an answer."""
    return _run_on(identified.network, a, _rounding(identified, a), identified.network)


@_cached(64, lambda a: (right_of(a.case.config), a.arrays))
def _right_on(a: Response) -> dict[str, Numbers]:
    """Return what torch's layer gives on the case of an answer, at the states that this returned, as it is judged."""
    network = right_of(a.case.config)
    return run(network, a.case, None, states_of(network, a) or a.top_states)


def _rounding(identified: Identification, a: Response) -> SubjectRounding:
    """Return the roundings of a case: those of its dtype, or of the dtype in which the subject computes, if larger."""
    own = a.case.config.plain.dtype
    if "dtype" in identified.pins:
        return rounding_of(own)
    return rounding_of(max(own, identified.dtype, key=lambda dtype: FORMATS[dtype].u))


@_cached(100, lambda identified: (identified.network, identified.nonlinearity))
def _every(identified: Identification) -> list[Mistake]:
    return mistakes_of(identified.network, identified.nonlinearity)


@_cached(200)
def _without(network: Network, mistake: Mistake) -> Network:
    """Return a network in which a mistake is not made."""
    return mistake.without(network)


@dataclass(frozen=True)
class IdentifiedCause:
    """The mistakes that show on a finding's case, of a layer that is identified."""

    identified: Identification
    new: tuple[Mistake, ...]  # those that were not said before, if any of these shows
    earlier_mistakes: tuple[Mistake, ...] = ()  # those of earlier findings
    arrays: frozenset[str] = frozenset()  # the arrays in which a new one shows
    unreported: tuple[Mistake, ...] = ()  # those of this and earlier findings that have none of their own
    raised: RaisedError | None = None  # the error that these raise where input_size is not hidden_size

    @property
    def sentence(self) -> str:
        """The mistake in a sentence, which reads on from "the subject"."""
        return self.new[0].sentence

    @property
    def evidence(self) -> str:
        """The reason why that is certain."""
        fresh = f"on this case and on {self.identified.fresh} fresh ones"
        numbers = "every number" if self.identified.whole else "every number but what is not known"
        return f"what it was found to compute gives {numbers} {fresh}"

    @np.errstate(all="ignore")
    def explains(self, subject: Subject, observation: Observation, result: Result) -> bool:
        """Tell whether the identified layer gives what the subject does, and no mistake shows that is unsaid."""
        if of_shapes(result):
            cause = ill_shaped(self.identified, observation, result, self.earlier_mistakes)
            return cause is not None and cause.new == self.new and cause.raised == self.raised
        return self._explains(subject, seen_of(subject, observation, result), result)

    def _explains(self, subject: Subject, answers: list[Response], result: Result) -> bool:
        if not answers or not result.mismatches:
            return False
        try:
            wide = [] if all(_tight(self.identified, a) for a in answers) else self._in_float64(subject, answers)
        except NoShapes:
            return False
        if wide is None or not reproduced(self.identified, answers, result, wide):
            return False
        answers = [*answers, *wide]

        def any_shows(some: Iterable[Mistake]) -> bool:
            return any(shows(self.identified, mistake, a) for mistake in some for a in answers)

        every = _every(self.identified)
        if any_shows(mistake for mistake in every if mistake not in (*self.earlier_mistakes, *self.new)):
            return False
        # A case that shows unreported mistakes alone is worth a finding.
        unreported = [mistake for mistake in every if mistake in self.unreported]
        reported = [mistake for mistake in every if mistake not in self.unreported]
        return not unreported or any_shows(reported) or not any_shows(unreported)

    @np.errstate(all="ignore")
    def left(self, subject: Subject, observation: Observation, result: Result) -> Result:
        """Return a result without the mismatches that this explains, if it explains some of them.

        Of one layer among several, the output may be explained and what is above it not. Where something is not on the
        way forward, no gradient is.
        """
        if relations_of(result) or of_shapes(result):
            return result
        answers, every = seen_of(subject, observation, result), observation.case.config.num_layers
        unlike = [self._unlike(a) for a in answers]
        names = {(name, a.case.config.num_layers) for a, arrays in zip(answers, unlike, strict=True) for name in arrays}
        forward = any(layers == every and not name.endswith(".grad") for name, layers in names)

        def stays(name: str, layers: int) -> bool:
            unknown = role_of(name) in self.identified.unknown or (forward and name.endswith(".grad"))
            return unknown or (name, layers) in names

        remaining = tuple(
            m
            for m in result.mismatches
            if (m.probed and names) or stays(m.array, every if m.layer is None else m.layer + 1)
        )
        covered = tuple(m for m in result.mismatches if m not in remaining)
        if not (remaining and covered):
            return result
        rest = [
            a._replace(arrays={n: v for n, v in a.arrays.items() if not stays(n, a.case.config.num_layers)})
            for a in answers
        ]
        explained = self._explains(subject, rest, replace(result, mismatches=covered))
        return replace(result, mismatches=remaining) if explained else result

    def _unlike(self, a: Response) -> set[str]:
        """Return the arrays of an answer that the identified layer does not give; all if it has no shapes there."""
        try:
            return differing(a, _made(self.identified, a), _rounding(self.identified, a))
        except NoShapes:
            return set(a.arrays)

    def _in_float64(self, subject: Subject, answers: list[Response]) -> list[Response] | None:
        """Return what the subject gives on the same numbers in float64, if it has that; ``None`` if it fails there."""
        case = max(answers, key=lambda a: len(a.arrays)).case
        if self.identified.dtype != "float64" or case.config.drops:
            return []
        config, names = case.config.replace(dtype="float64"), {name for a in answers for name in a.arrays}
        wide = Case.from_arrays(config, {name: np.asarray(v, np.float64) for name, v in case.arrays.items()})
        outcome = subject.run(wide)
        if outcome.failure is not None:
            return None
        arrays = {n: v for n, v in plain_outcome(config, outcome).arrays.items() if n in names}
        forward = {n: v for n, v in arrays.items() if n in config.outputs}
        return [Response(wide, arrays), *([Response(wide.forward(), forward)] if config.loss is not None else [])]

    @property
    def mended(self) -> Network:
        """The network without the first of the mistakes."""
        return _without(self.identified.network, self.new[0])

    def shows_on(self, case: Case, *, bounds: bool = True) -> bool | None:
        """Tell whether the first of the mistakes makes a difference on a case; ``None`` if roundings may be as large.

        It may make one where the identified layer has no shapes, as beside a projection. Without ``bounds``, every
        difference counts.
        """
        try:
            return self._shows_on(case, bounds=bounds)
        except NoShapes:
            return True

    @np.errstate(all="ignore")
    def _shows_on(self, case: Case, *, bounds: bool) -> bool | None:
        plain, identified = case.plain(), self.identified
        if self.raised is not None and case.config.input_size != case.config.hidden_size:
            return True
        beyond = [name for name, values in identified.pins.items() if getattr(case.config, name) not in values]
        if beyond:
            return None if {*beyond} & NOT_NEEDED else False
        # Without bounds, a run takes a third of the time.
        for rounding in (None, rounding_of(plain.config.dtype)) if bounds else (None,):
            made, mended = (run(network, plain, rounding) for network in (identified.network, self.mended))
            if not differ(identified, made, mended):
                return False if rounding is None else None
        return True

    def placed(self, cause: IdentifiedCause) -> IdentifiedCause:
        """Return the same cause, with each mistake where another one's identification shows it in more models."""
        mistakes = {m: m for m in mistakes_of(cause.identified.network, cause.identified.nonlinearity)}
        return replace(self, new=tuple(m.placed_as(mistakes.get(m, m)) for m in self.new))

    @property
    def recurrence(self) -> list[str]:
        """The recurrence of the subject as lines of NumPy; torch's own line stands above each that differs."""
        identified = self.identified
        layer, shown = layer_of(identified.network), list[str]()
        for own, right in recurrence(identified.network, identified.nonlinearity, identified.roles, identified.unknown):
            indent = " " * (len(own or right) - len((own or right).lstrip()))
            shown += [] if own == right else [f"{indent}# {layer}: {right.strip() or 'nothing'}"]
            shown += [own] if own else []
        return shown

    @property
    def lines(self) -> tuple[str, str]:
        """The line with the mistake, and torch's."""
        first, identified = self.new[0], self.identified
        return step_lines(first.models[0], first.yours, first.right, identified.network, identified.nonlinearity)


def error_of(v: Numbers) -> Any:
    """Return how far off numbers may be."""
    return getattr(v, "error", 0.0)


@np.errstate(all="ignore")
def differ(identified: Identification, made: Mapping[str, Numbers], others: Mapping[str, Numbers]) -> bool:
    """Tell whether two runs differ, beyond what they may be off, in a number that is known of an identified layer."""
    roles = {*identified.roles} - {*identified.unknown}
    return any(
        (np.abs(values_of(made[name]) - values_of(other)) > error_of(made[name]) + error_of(other)).any()
        for name, other in others.items()
        if (role_of(name) in roles if name.endswith(".grad") else name not in identified.unknown)
    )


def lacks_gradients(result: Result) -> bool:
    """Tell whether gradients are missing, and nothing else is wrong: autograd has none for what is not connected."""
    return bool(result.mismatches) and all(
        mismatch.sort is MismatchKind.MISSING and mismatch.array.endswith(".grad") for mismatch in result.mismatches
    )


def answers_of(observation: Observation, result: Result) -> list[Response]:
    """Return what was observed of a case, of the wider one with probes and of prefixes; nothing if there are no values.

    A gradient that is missing is 0, whatever the numbers. So it is held against numbers of which it is not.
    """
    if lacks_gradients(result):
        names = [mismatch.array for mismatch in result.mismatches]
        wider = observation.probed[0] if observation.probed and result.mismatches[0].probed else observation.case
        return _without_gradients(wider, names)
    if observation.unfit is not None or observation.outcome.failure is not None:
        return []
    pairs = [(observation.case, observation.outcome), *([observation.probed] if observation.probed else [])]
    # Forward alone, each step starts at the subject's own state; a layer with gates has it so beside its gradients.
    if observation.case.config.loss is not None and not observation.case.config.gated:
        forward = forward_part(observation)
        pairs.insert(0, (forward.case, forward.outcome))
    answers = []
    for case, outcome in pairs:
        returned = case.config.returned
        if all(v.shape == returned[n].shape for n, v in outcome.arrays.items() if n in returned):
            answers.append(Response(case, {n: np.asarray(v, np.float64) for n, v in outcome.arrays.items()}))
    for layers, output in (observation.prefixes or {}).items():
        answers.append(Response(observation.case.prefix(layers), {"output": np.asarray(output, np.float64)}))
    return answers


@_cached(4)
def seen_of(subject: Subject, observation: Observation, result: Result) -> list[Response]:
    """Return what was observed of a case, or of the cases of the relation that the result breaks."""
    if not relations_of(result):
        return answers_of(observation, result)
    cases = [case for relation in relations_of(result) for case in asked_by(subject, observation.case, relation)]
    return [answer for case in cases for answer in answers_of(observe(subject, case, with_probes=False), result)]


def _unfading(config: RNNConfig) -> Case:
    """Return a case of many steps through which gradients go whole: of small numbers, by an identity."""
    case = draw(config, "normal", 1)
    arrays = {name: v if name.endswith(".grad") else v * v.dtype.type(SMALL_NUMBER) for name, v in case.arrays.items()}
    eyes = {name: v for name, v in arrays.items() if role_of(name) == "weight_hh"}
    arrays |= {name: np.resize(np.eye(v.shape[1], dtype=v.dtype), v.shape) for name, v in eyes.items()}
    return Case.from_arrays(config, arrays)


@np.errstate(all="ignore")
def _without_gradients(case: Case, names: Sequence[str]) -> list[Response]:
    """Return an answer in which some gradients are 0 where most of nn.RNN's are not; nothing if they always are."""
    config = case.config if case.config.N else case.config.replace(N=1)  # of no sequence, each gradient is 0
    best: tuple[int, list[Response]] = (0, [])
    drawn = (
        draw(config, distribution, seed) for distribution, seed in product(("default", "normal"), range(MOST_SEEDS))
    )
    for candidate in chain(drawn, [_unfading(config)]):
        generic = candidate.plain()
        right = run(right_of(generic.config), generic)
        number = sum(name in right and np.abs(values_of(right[name])).max(initial=0) > LEAST_GRADIENT for name in names)
        if number > best[0]:  # some may always be 0, such as that by W_hh in one step from zeros
            zeros = {name: np.zeros(generic.config.gradients[name].shape) for name in names}
            best = number, [Response(generic, zeros)]
        if number == len(names):
            break
    return best[1]


@np.errstate(all="ignore")
def reproduced(
    identified: Identification, answers: Sequence[Response], result: Result, wide: Sequence[Response] = ()
) -> bool:
    """Tell whether an identified layer gives the numbers of all answers, and is nearer where nn.RNN's are wrong.

    Gradients that are not known must not be what is wrong. Each step is judged by the states that it was given, so that
    a number may be wrong which nn.RNN gives, too. A layer that has no shapes beside a projection gives none. Where a
    chain of steps amplifies roundings, the same case in float64 (``wide``) may tell which of the two is nearer.
    """
    chained = any(a.case.config.T > 1 and states_of(identified.network, a) is None for a in answers)
    try:
        agrees = all(_gives(identified, a) for a in chain(answers, wide))
        return agrees and any(_is_nearer(identified, part, result) for part in (answers, wide if chained else ()))
    except NoShapes:
        return False


def _gives(identified: Identification, a: Response) -> bool:
    """Tell whether an identified layer gives every known number of an answer."""
    differences = differing(a, _made(identified, a), _rounding(identified, a))
    return all(role_of(name) in identified.unknown for name in differences)


def _is_nearer(identified: Identification, answers: Sequence[Response], result: Result) -> bool:
    wrong = {m.array for m in result.mismatches if m.array not in identified.unknown}
    if not wrong or any(role_of(name) in identified.unknown for name in wrong):
        return False
    if wrong == {PREACTIVATION}:
        return any(_is_nearer_inside(identified, a, result) for a in answers)
    plain = {m.array for m in result.mismatches if not m.probed and m.array in wrong}
    # By whether the array is one of the wrong ones, and a gradient.
    compared: defaultdict[tuple[bool, bool], list[tuple[Floats, Numbers, Floats]]] = defaultdict(list)
    for a in answers:
        made, right = _made(identified, a), _right_on(a)
        # Where there is a loss, what was given on the way forward alone tells of the states, if that is there.
        alone = a.case.config.loss is not None and not a.case.config.gated
        returned = {n for n in made.keys() & a.arrays.keys() if not alone or n.endswith(".grad")}
        returned -= {*identified.unknown}
        for n in returned:
            compared[n in plain, n.endswith(".grad")].append((a.arrays[n], made[n], values_of(right[n])))
    if not all(np.isfinite(array).all() for array, *_ in chain(*compared.values())):
        return True
    # States that are rounded to few bits make gradients that are near to neither, where slopes are nearly 0.
    wrong_ones = any(wrong for wrong, _ in compared)  # what probes show is inside, and not returned
    for gradients, bounded in product((False, True), (True, False)):  # where all bounds are infinite, sizes count
        counts = [_nearer(*triple, bounded=bounded) for triple in compared[wrong_ones, gradients]]
        near, far = np.sum(counts, 0) if counts else (0.0, 0.0)
        if near or far:
            return bool(2 * far < near)
    return False


def _is_nearer_inside(identified: Identification, a: Response, result: Result) -> bool:
    """Tell whether wrong gradients by preactivations, which only probes show, are those of an identified layer."""
    config, network = a.case.config, identified.network
    sites = [
        (config.num_layers - 1 if m.layer is None else m.layer, site) for m in result.mismatches for site in m.sites
    ]
    if config.loss is None or config.lengths is not None or config.gated:
        return False
    traces: dict[Place, LayerTrace] = {}
    for layer, site in sites:
        place: dict[str, Any] = dict(site.place)
        d, n, t, unit = (place.get(name, 0) for name in ("direction", "n", "t", "unit"))
        at = layer, int(d == "reverse")
        if layer >= config.num_layers or max(t - config.T, n - config.N, unit - config.hidden_size) >= 0:
            return False  # it is of another case
        if at not in traces:
            traces |= {at: derived_trace(network, a.case, at)} if network.derived else run_whole(network, a.case)[0]
        value = float(values_of(traces[at].da[config.T - 1 - t if at[1] else t])[n, unit])
        if abs(site.actual - value) >= abs(site.expected - value) / 2:
            return False
    return bool(sites)


@np.errstate(all="ignore")
def _tight(identified: Identification, a: Response) -> bool:
    """Tell whether the bound of each array given is within its largest number: a larger one lets nearly all pass."""
    shown = [v for name, v in _made(identified, a).items() if name in a.arrays]
    return all(np.max(error_of(v), initial=0) <= np.abs(values_of(v)).max(initial=0) for v in shown)


def _nearer(array: Floats, made: Numbers, right: Floats, *, bounded: bool) -> tuple[float, float]:
    """Return how much of an array is near to what was found, and how much to what is right, where these differ.

    Each number counts by the square of how far apart the two are beside what it may be off, as in a likelihood: many
    numbers that are nearer to either by chance do not outweigh one that tells. If it is not ``bounded``, it counts
    beside its size.
    """
    values = values_of(made)
    size, half = np.abs(values) + np.abs(right), np.abs(values - right) / 2
    weights = (half / np.maximum(error_of(made) if bounded else 0.0, U64 * size)) ** 2
    at = np.isfinite(weights) & np.isfinite(array) & (half > U64 * size)
    near, far = (float(weights[(np.abs(array - v) < half) & at].sum()) for v in (values, right))
    return near, far


def shows(identified: Identification, mistake: Mistake, a: Response) -> bool:
    """Tell whether a mistake makes a difference in what is returned on a case, beyond roundings."""
    return bool(shown_in(identified, mistake, a))


@np.errstate(all="ignore")
def shown_in(identified: Identification, mistake: Mistake, a: Response) -> list[str]:
    """Return the arrays of a case in which a mistake makes a difference, beyond roundings."""
    made = _made(identified, a)
    mended = _run_on(_without(identified.network, mistake), a, None, identified.network)
    return [
        name
        for name in a.arrays
        if name in made
        and role_of(name) not in identified.unknown
        and (np.abs(values_of(made[name]) - values_of(mended[name])) > error_of(made[name])).any()
    ]


def _alone(identified: Identification, mistake: Mistake, every: Sequence[Mistake]) -> Identification:
    network = identified.network
    for candidate in every:
        network = network if candidate == mistake else candidate.without(network)
    return replace(identified, network=network)


def identified_of(
    observations: ObservationCache,
    scope: Scope,
    case: Case,
    before: Identification | None = None,
    *,
    longest: int = 1,
    hidden: frozenset[str] = frozenset(),
) -> Identification | None:
    """Return what a subject computes with a case's nonlinearity and stack; ``None`` if the step is not known.

    Nor is it where an answer has a shape that no sum here has, or every h is projected. Raises ``SubjectTooSlow`` where
    each question takes long. What shows from a step on that is not before ``longest`` is not found. Gradients that are
    ``hidden``, by role, are not looked at, and stay unknown.
    """
    if 0 not in scope.proj_size:
        return None
    asker = Asker(observations, scope, case.config.nonlinearity)
    asker.excluded = hidden
    asker.choose_dtype()
    asker.lengthen(longest)
    identified = (identify_gated if case.config.gated else identify)(asker, case.config, before)
    identified = replace(identified, unknown=(*identified.unknown, *hidden), dtype=asker.dtype)
    return None if "the step" in identified.unknown or identified.fresh < LEAST_FRESH else identified


def _narrow(network: Network) -> set[tuple[str, str]]:
    """Return the terms that have a shape only where input_size = hidden_size, each with the sum that it is in."""
    narrow: set[tuple[str, str]] = set()
    for model in (network.first, network.above, network.reverse):
        if isinstance(model, LayerModel):
            narrow |= {("step", name) for name, _ in model.step if STEP_TERMS[name].square}
            narrow |= {("link", link.term) for link in model.links if LINK[link.term].square}
            narrow |= {
                (role, name)
                for role, terms in model.gradient_sums.items()
                for name, _ in terms
                if needs_square(role, name)
            }
    return narrow


def of_shapes(result: Result) -> bool:
    """Tell whether a subject raised an error, or returned an array of another shape."""
    return result.raised is not None or (bool(result.mismatches) and result.mismatches[0].sort is MismatchKind.SHAPE)


def ill_shaped(
    identified: Identification, observation: Observation, result: Result, earlier: Sequence[Mistake]
) -> IdentifiedCause | None:
    """Return the mistakes whose terms have no shape where a subject raised an error, or returned another shape."""
    config = observation.case.config
    if result.mismatches and result.mismatches[0].probed and observation.probed is not None:
        config = observation.probed[0].config
    if config.input_size == config.hidden_size or not of_shapes(result):
        return None
    narrow = _narrow(identified.network)
    if result.mismatches:
        narrow = {term for term in narrow if term[0] == role_of(result.mismatches[0].array)}
    new = [m for m in _every(identified) if narrow - _narrow(_without(identified.network, m))]
    return IdentifiedCause(identified, tuple(new), tuple(earlier), raised=result.raised) if new else None


def cause_of(
    identified: Identification, answers: Sequence[Response], result: Result, earlier: Sequence[Mistake]
) -> IdentifiedCause | None:
    """Return the mistakes that show on a failing case, if the identified layer reproduces it.

    They are those that are not said yet. Only where none of these shows, they are those that are said.
    """
    if not answers or not reproduced(identified, answers, result):
        return None
    every = _every(identified)
    shown = [m for m in every if any(shows(identified, m, a) for a in answers)]
    new = [m for m in shown if m not in earlier] or shown
    if not new:  # each hides the others
        new = [m for m in every if m not in earlier and any(shows(_alone(identified, m, every), m, a) for a in answers)]
    arrays = frozenset(name for m in new for a in answers for name in shown_in(identified, m, a))
    return IdentifiedCause(identified, tuple(new), tuple(earlier), arrays) if new else None
