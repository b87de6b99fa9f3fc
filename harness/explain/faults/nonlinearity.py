"""nonlinearity: another phi, one that is approximated, or one that is left out where it should be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, Fault
from harness.oracle.reference import Floats, Visited, at_steps, write_steps
from harness.space.case import Case
from harness.space.config import RNNConfig

RELU = ONE.replace(nonlinearity="relu")
HARMLESS = "identity"
"""What no nonlinearity is called."""


class AlwaysTanh(Fault):
    """ignores nonlinearity='relu': it applies tanh."""

    family = "nonlinearity"
    code = ("h = tanh(x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_hh)", lines.STEP)
    smallest = (RELU,)

    def nonlinearity(self, config: RNNConfig) -> str:
        return "tanh"


class AlwaysRelu(Fault):
    """ignores nonlinearity='tanh': it applies relu."""

    family = "nonlinearity"
    code = ("h = relu(x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_hh)", lines.STEP)
    smallest = (ONE,)

    def nonlinearity(self, config: RNNConfig) -> str:
        return "relu"


class ExchangesNonlinearities(Fault):
    """applies relu where nonlinearity='tanh', and tanh where nonlinearity='relu'."""

    family = "nonlinearity"
    code = ("h = {other}(x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_hh)", lines.STEP)
    smallest = (ONE,)

    def nonlinearity(self, config: RNNConfig) -> str:
        return "relu" if super().nonlinearity(config) == "tanh" else "tanh"


class NoNonlinearity(Fault):
    """applies no nonlinearity: h_t is the preactivation itself."""

    family = "nonlinearity"
    code = ("h = x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_hh", lines.STEP)
    smallest = (ONE,)

    def nonlinearity(self, config: RNNConfig) -> str:
        return HARMLESS

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        return s if nonlinearity == HARMLESS else super().activation(s, nonlinearity)


class NoNonlinearityInLastLayer(Fault):
    """applies no nonlinearity in the last layer."""

    family, stepwise = "nonlinearity", False
    code = ("h = s  # if layer == L - 1", lines.PHI)
    smallest = (ONE,)

    def nonlinearity_of(self, config: RNNConfig, layer: int) -> str:
        return HARMLESS if layer == config.num_layers - 1 else super().nonlinearity_of(config, layer)

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        return s if nonlinearity == HARMLESS else super().activation(s, nonlinearity)


class NonlinearityInFirstLayerOnly(Fault):
    """applies the nonlinearity in the first layer only."""

    family = "nonlinearity"
    code = ("h = s  # if layer > 0", lines.PHI)
    smallest = (ONE.replace(num_layers=2),)

    def nonlinearity_of(self, config: RNNConfig, layer: int) -> str:
        return HARMLESS if layer else super().nonlinearity_of(config, layer)

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        return s if nonlinearity == HARMLESS else super().activation(s, nonlinearity)


class TanhInLastLayer(Fault):
    """applies tanh in the last layer of several, though nonlinearity='relu'."""

    family, stepwise = "nonlinearity", False
    code = ("h = tanh(s)  # if layer == L - 1", lines.PHI)
    smallest = (RELU.replace(num_layers=2),)

    def nonlinearity_of(self, config: RNNConfig, layer: int) -> str:
        last = 0 < layer == config.num_layers - 1
        return "tanh" if last else super().nonlinearity_of(config, layer)


class ReluInLastLayer(Fault):
    """applies relu in the last layer of several, though nonlinearity='tanh'."""

    family, stepwise = "nonlinearity", False
    code = ("h = relu(s)  # if layer == L - 1", lines.PHI)
    smallest = (ONE.replace(num_layers=2),)

    def nonlinearity_of(self, config: RNNConfig, layer: int) -> str:
        last = 0 < layer == config.num_layers - 1
        return "relu" if last else super().nonlinearity_of(config, layer)


class TanhAboveFirstLayer(Fault):
    """applies tanh in every layer above the first, though nonlinearity='relu'."""

    family = "nonlinearity"
    code = ("h = tanh(s)  # if layer > 0", lines.PHI)
    smallest = (RELU.replace(num_layers=2),)

    def nonlinearity_of(self, config: RNNConfig, layer: int) -> str:
        return "tanh" if layer else super().nonlinearity_of(config, layer)


class NoNonlinearityAtLastStep(Fault):
    """applies no nonlinearity at the last step: its state is the preactivation itself."""

    family, stepwise = "nonlinearity", False
    code = ("h = s  # if t == order[-1]", lines.PHI)
    smallest = (ONE,)

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        return s if nonlinearity == HARMLESS else super().activation(s, nonlinearity)

    def run_direction(
        self, case: Case, at: tuple[int, int], x: Floats, start: Floats, states: Floats, *, visited: Visited | None
    ) -> None:
        super().run_direction(case, at, x, start, states, visited=visited)
        order, last = list(self.time_order(case.config, at[1])), self.final_step(case.config, at[1])
        previous = np.zeros_like(states)
        previous[order[1:]] = states[order[:-1]]
        write_steps(previous, self.first_step(case.config, at[1]), start)
        new = self.step(at_steps(x, last), at_steps(previous, last), self.step_weights(case, *at), HARMLESS)
        there = np.ones_like(new) if visited is None else at_steps(visited.astype(np.float64), last)
        write_steps(states, last, new * there)

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        slopes = super().slopes(case, at, x, previous, own).copy()
        write_steps(slopes, self.final_step(case.config, at[1]), np.ones_like(own[0]))
        return slopes


class _Other(Fault):
    """A phi in the place of tanh, of relu, or of either: ``phi``, and its slope by the preactivation."""

    family = "nonlinearity"
    smallest = (RELU,)
    instead_of: ClassVar[tuple[str, ...]] = ("relu",)

    @staticmethod
    def phi(s: Floats) -> Floats:
        """What is applied."""
        raise NotImplementedError

    @staticmethod
    def steepness(s: Floats) -> Floats:
        """Its slope."""
        raise NotImplementedError

    def nonlinearity(self, config: RNNConfig) -> str:
        right = super().nonlinearity(config)
        return next((name for name, kind in self._others().items() if right in kind.instead_of), right)

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        kind = self._others().get(nonlinearity)
        return super().activation(s, nonlinearity) if kind is None else kind.phi(s)

    def slopes(self, case: Case, at: tuple[int, int], x: Floats, previous: Floats, own: Floats) -> Floats:
        kind = self._others().get(self.nonlinearity_of(case.config, at[0]))
        if kind is None:
            return super().slopes(case, at, x, previous, own)
        return kind.steepness(self.preactivation(x, previous, self.step_weights(case, *at)))

    def _others(self) -> dict[str, type[_Other]]:
        """Each of which this is one, by its name: two stand side by side in a fault that makes both mistakes."""
        return {
            kind.__name__: kind
            for kind in type(self).__mro__
            if issubclass(kind, _Other) and kind is not _Other and "phi" in vars(kind)
        }


class AppliesSigmoid(_Other):
    """applies the logistic sigmoid, in the place of tanh and of relu."""

    code = ("h = 1 / (1 + np.exp(-s))", lines.PHI)

    smallest = (ONE,)
    instead_of = ("tanh", "relu")

    @staticmethod
    def phi(s: Floats) -> Floats:
        return sigmoid(s)

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return np.asarray(sigmoid(s) * (1 - sigmoid(s)))


class AppliesHalfTanh(_Other):
    """takes 2 sigmoid(s) - 1 for tanh, which is tanh(s / 2)."""

    code = ("h = 2 / (1 + np.exp(-s)) - 1", lines.TANH)

    smallest = (ONE,)
    instead_of = ("tanh",)

    @staticmethod
    def phi(s: Floats) -> Floats:
        return np.tanh(s / 2)

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return np.asarray((1 - np.tanh(s / 2) ** 2) / 2)


class AppliesHardTanh(_Other):
    """clips to [-1, 1] in the place of tanh."""

    code = ("h = np.clip(s, -1, 1)", lines.TANH)

    smallest = (ONE,)
    instead_of = ("tanh",)

    @staticmethod
    def phi(s: Floats) -> Floats:
        return np.clip(s, -1, 1)

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return (np.abs(s) < 1).astype(np.float64)


class AppliesSoftsign(_Other):
    """applies softsign, s / (1 + abs(s)), in the place of tanh."""

    code = ("h = s / (1 + np.abs(s))", lines.TANH)

    smallest = (ONE,)
    instead_of = ("tanh",)

    @staticmethod
    def phi(s: Floats) -> Floats:
        return np.asarray(s / (1 + np.abs(s)))

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return np.asarray(1 / (1 + np.abs(s)) ** 2)


class AppliesTanhTwice(_Other):
    """applies tanh twice: to the preactivation, and to what comes of it."""

    code = ("h = tanh(tanh(s))", lines.TANH)

    smallest = (ONE,)
    instead_of = ("tanh",)

    @staticmethod
    def phi(s: Floats) -> Floats:
        return np.tanh(np.tanh(s))

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return np.asarray((1 - np.tanh(np.tanh(s)) ** 2) * (1 - np.tanh(s) ** 2))


class ApproximatesTanhByFraction(_Other):
    """takes s (27 + s^2) / (27 + 9 s^2), clipped to [-1, 1], for tanh."""

    code = ("h = np.clip(s * (27 + s**2) / (27 + 9 * s**2), -1, 1)", lines.TANH)

    smallest = (ONE,)
    instead_of = ("tanh",)

    @staticmethod
    def phi(s: Floats) -> Floats:
        s = np.clip(s, -3, 3)
        return np.asarray(s * (27 + s * s) / (27 + 9 * s * s))

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return np.asarray(np.where(np.abs(s) < 3, ((s * s - 9) / (3 * (s * s + 3))) ** 2, 0.0))


class ApproximatesTanhByCubic(_Other):
    """takes s - s^3 / 3, with s clipped to [-1, 1], for tanh."""

    code = ("h = np.clip(s, -1, 1) - np.clip(s, -1, 1) ** 3 / 3", lines.TANH)

    smallest = (ONE,)
    instead_of = ("tanh",)

    @staticmethod
    def phi(s: Floats) -> Floats:
        s = np.clip(s, -1, 1)
        return np.asarray(s - s * s * s / 3)

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return np.maximum(1 - s * s, 0)


class AppliesLeakyRelu(_Other):
    """lets a hundredth of what is negative pass, as a leaky relu does, in the place of relu."""

    code = ("h = np.where(s > 0, s, 0.01 * s)", lines.RELU)

    @staticmethod
    def phi(s: Floats) -> Floats:
        return np.where(s > 0, s, 0.01 * s)

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return np.where(s > 0, 1.0, 0.01)


class AppliesAbs(_Other):
    """takes the absolute value in the place of relu."""

    code = ("h = np.abs(s)", lines.RELU)

    @staticmethod
    def phi(s: Floats) -> Floats:
        return np.abs(s)

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return np.sign(s)


class AppliesElu(_Other):
    """applies elu, exp(s) - 1 where s is negative, in the place of relu."""

    code = ("h = np.where(s > 0, s, np.exp(s) - 1)", lines.RELU)

    @staticmethod
    def phi(s: Floats) -> Floats:
        return np.where(s > 0, s, np.expm1(np.minimum(s, 0)))

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return np.exp(np.minimum(s, 0))


class AppliesSoftplus(_Other):
    """applies softplus, log(1 + exp(s)), in the place of relu."""

    code = ("h = np.log(1 + np.exp(s))", lines.RELU)

    @staticmethod
    def phi(s: Floats) -> Floats:
        return np.logaddexp(0, s)

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return sigmoid(s)


class AppliesSilu(_Other):
    """applies silu, s sigmoid(s), in the place of relu."""

    code = ("h = s / (1 + np.exp(-s))", lines.RELU)

    @staticmethod
    def phi(s: Floats) -> Floats:
        return np.asarray(s * sigmoid(s))

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return np.asarray(sigmoid(s) * (1 + s * (1 - sigmoid(s))))


class AppliesGelu(_Other):
    """applies gelu, s times the normal distribution function of s, in the place of relu."""

    code = ("h = s * (1 + erf(s / np.sqrt(2))) / 2", lines.RELU)

    @staticmethod
    def phi(s: Floats) -> Floats:
        return np.asarray(s * _normal(s))

    @staticmethod
    def steepness(s: Floats) -> Floats:
        return np.asarray(_normal(s) + s * np.exp(-s * s / 2) / math.sqrt(2 * math.pi))


class ActivatesOutput(Fault):
    """applies the nonlinearity to the output once more, but not to h_n."""

    family, stepwise = "nonlinearity", False
    code = ("result[t] = {phi}(output[t])", lines.RESULT)
    smallest = (ONE,)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output = super().written(case, layer, states)
        top = layer == case.config.num_layers - 1
        return self.activation(output, self.nonlinearity_of(case.config, layer)) if top else output


class ReluDropsNaN(Fault):
    """turns NaN into 0 in relu, as np.fmax does."""

    family = "nonlinearity"
    code = ("h = np.fmax(s, 0)", lines.RELU)
    smallest = (RELU,)

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        activated = super().activation(s, nonlinearity)
        return np.where(np.isnan(activated), 0.0, activated) if nonlinearity == "relu" else activated


class MultipliesByMask(Fault):
    """computes relu as s times (s > 0), which makes NaN of minus infinity."""

    family = "nonlinearity"
    code = ("h = s * (s > 0)", lines.RELU)
    smallest = (RELU,)

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        activated = super().activation(s, nonlinearity)
        return activated + np.where(s == -np.inf, np.nan, 0.0) if nonlinearity == "relu" else activated


class CapsRelu(Fault):
    """caps relu at k: no state is larger."""

    family = "nonlinearity"
    code = ("h = np.clip(s, 0, {k})", lines.RELU)
    smallest = (RELU,)
    parameter = ("cap", 6)
    cap: int

    def values(self, config: RNNConfig) -> Sequence[int]:
        return (1, 6, 20) if config.nonlinearity == "relu" else ()

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        activated = super().activation(s, nonlinearity)
        return np.minimum(activated, self.cap) if nonlinearity == "relu" else activated

    def slope(self, h: Floats, nonlinearity: str) -> Floats:
        slope = super().slope(h, nonlinearity)
        return np.where(h < self.cap, slope, 0.0) if nonlinearity == "relu" else slope


def sigmoid(s: Floats) -> Floats:
    """1 / (1 + exp(-s)); of complex s in a form in which nothing overflows, but what is tiny is lost."""
    if np.iscomplexobj(s):
        return np.asarray((1 + np.tanh(s / 2)) / 2)
    with np.errstate(over="ignore"):  # which gives 0
        return np.asarray(1 / (1 + np.exp(-s)))


_ERF: Callable[[Floats], Floats] = np.frompyfunc(math.erf, 1, 1)


def _normal(s: Floats) -> Floats:
    return np.asarray((1 + np.asarray(_ERF(s / math.sqrt(2)), np.float64)) / 2)
