"""dropout_in_eval: dropout that is applied in evaluation, too, as by a call of it that is not told of the mode."""

from typing import Final

import numpy as np

from harness.diagnosis.experiments import Question, ShownCause
from harness.diagnosis.identify.questions import Asker
from harness.oracle.bounded_array import Floats
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.subjects.protocol import Subject

DROPPING_SIZES: Final = {"T": 1, "N": 8, "input_size": 8, "hidden_size": 8, "num_layers": 2}
# in each of which some of 64 elements are dropped, and some kept, unless p is very small or large
EVALUATION_CALLS: Final = 8
DIGITS: Final = 6  # of numbers that are the same but for roundings of float32


def dropped_in_evaluation(question: Question) -> ShownCause | None:
    """Return whether dropout acts in evaluation, in a stack of which it makes two values of one."""
    config = question.finding.case.config
    if not _does_nothing(config):
        return None
    ask = Asker(question.observations, question.scope, config.nonlinearity)
    hx = not ask.allows("hx", False)  # which is zero
    usual = {**DROPPING_SIZES, "hx": hx, "loss": None, "dropout": config.dropout, "training": False, "lengths": None}
    # One that always has dropout of its own has nothing between layers in a single one.
    without = {"dropout": 0.0} if config.dropout else {"num_layers": 1}
    several = [ask.config(**factors) for factors in (usual, {**usual, **without})]
    if None in several:
        return None
    dropped, kept = (_outputs(question.subject, stack) for stack in several if stack is not None)
    by_chance = [np.unique(v).size == 2 for v in dropped]
    moves = any(not np.array_equal(dropped[0], v) for v in dropped)
    if not (moves and any(by_chance) and {np.unique(v).size for v in kept} == {1}):
        return None
    changes = ", ".join(f"{name}={value}" for name, value in without.items())
    return ShownCause(
        "applies dropout in evaluation, too",
        "of equal numbers, a stack that passes on what it reads gave two different ones at random, in "
        f"{sum(by_chance)} calls in evaluation; with {changes}, one",
        lambda _subject, observation, _: _does_nothing(observation.case.config),
    )


def _does_nothing(config: RNNConfig) -> bool:
    """Tell whether dropout must do nothing."""
    return not config.training and config.num_layers > 1


def _outputs(subject: Subject, config: RNNConfig) -> list[Floats]:
    """Return the output of some calls of a stack that passes 1 on; none if one fails."""
    arrays = {name: np.zeros(spec.shape, config.dtype) for name, spec in config.given.items()}
    for name, array in arrays.items():
        if name == "x":
            array[...] = 1
        elif name.startswith("weight_ih"):  # of each gate
            array[...] = np.resize(np.eye(config.hidden_size, array.shape[1]), array.shape)
    case = Case.from_arrays(config, arrays)
    outcomes = [subject.run(case) for _ in range(EVALUATION_CALLS)]
    outputs = [np.asarray(outcome.arrays["output"], np.float64) for outcome in outcomes if "output" in outcome.arrays]
    return [np.round(v, DIGITS) for v in outputs] if len(outputs) == EVALUATION_CALLS else [np.zeros(0)]
