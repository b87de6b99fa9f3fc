"""Tests of modules that go on with what they made of the weights of their first call."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness import Case, RNNConfig, Subject, Verdict, as_subject, check_agreement, draw, scope_of
from harness.checks.result import Result
from harness.diagnosis.experiments import Question
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.diagnosis.observation_cache import ObservationCache
from harness.diagnosis.stale_state import StaleState, stale_of
from harness.report.explanation_lines import fails_line
from harness.search.search_record import Finding
from harness.space.config import PARAMETERS
from harness.subjects.isolated import IsolatedSubject
from tests.diagnosis.searched import Searched

USED = RNNConfig(4, 5, T=3, N=2, preparation="used")
EVERY = tuple(PARAMETERS)
STATE_KEPT = "starts from the state in which the call before ended, where no hx is given, and not from zeros"
MEAN = "divides the gradient by weight_ih by N: it is a mean over the batch, not a sum"
ONE_LAYER: dict[str, Any] = {"num_layers": 1, "bidirectional": False, "nonlinearity": "tanh", "batch_first": False}


class Keeping(nn.Module):
    """One layer of two ``Linear`` that keeps clones of some parameters from its first call on."""

    keeps: tuple[str, ...] = ("i2h.weight", "h2h.weight", "i2h.bias", "h2h.bias")
    two_biases = True

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.i2h = nn.Linear(input_size, hidden_size)
        self.h2h = nn.Linear(hidden_size, hidden_size, self.two_biases)
        self.kept: dict[str, Any] = {}

    def forward(self, x: Any, hx: Any = None) -> Any:
        own = dict(self.named_parameters())
        if not self.kept:
            self.kept = {name: own[name].clone() for name in self.keeps}
        own |= self.kept
        h, states = x.new_zeros(x.shape[1], self.h2h.out_features) if hx is None else hx[0], []
        for step in x:
            of_x = nn.functional.linear(step, own["i2h.weight"], own["i2h.bias"])
            h = torch.tanh(of_x + nn.functional.linear(h, own["h2h.weight"], own.get("h2h.bias")))
            states.append(h)
        return torch.stack(states), h[None]


class KeepsRecurrent(Keeping):
    keeps = ("h2h.weight",)


class KeepsBiases(Keeping):
    keeps = ("i2h.bias", "h2h.bias")


class KeepsOneBias(Keeping):
    keeps, two_biases = ("i2h.bias",), False


class KeepsTransposed(Keeping):
    """It keeps the transposes, which are views where the matrix has one row or column, and the sum of the biases."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        if not self.kept:
            biases = self.i2h.bias + self.h2h.bias
            self.kept = {"w": self.i2h.weight.T.contiguous(), "u": self.h2h.weight.T.contiguous(), "b": biases}
        h, states = x.new_zeros(x.shape[1], self.h2h.out_features) if hx is None else hx[0], []
        for step in x:
            h = torch.tanh(step @ self.kept["w"] + h @ self.kept["u"] + self.kept["b"])
            states.append(h)
        return torch.stack(states), h[None]


class KeepsProduct(Keeping):
    """It keeps a product with its graph, through which a second way back raises an error."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        if not self.kept:
            self.kept = {"h2h.weight": self.h2h.weight @ torch.eye(self.h2h.in_features)}
        return super().forward(x, hx)


class ForgetsAtLoad(Keeping):
    """It forgets what it keeps at ``load_state_dict``, but not at an optimizer's step."""

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self.kept = {}
        return super().load_state_dict(*args, **kwargs)


class Notices(Keeping):
    """It forgets what it keeps as soon as a parameter is another one, or was written to."""

    known: Any = None

    def forward(self, x: Any, hx: Any = None) -> Any:
        now = [(parameter, parameter._version) for parameter in self.parameters()]
        if self.known is None or any(a is not b or v != w for (a, v), (b, w) in zip(now, self.known, strict=True)):
            self.known, self.kept = now, {}
        return super().forward(x, hx)


class DropIn(nn.RNN):
    """An nn.RNN that keeps the flat list of its weights."""

    kept: Any = None

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        now: Any = self._flat_weights  # every weight is there
        self.kept = self.kept or [weight.clone() for weight in now]
        self._flat_weights = self.kept
        try:
            return super().forward(input, hx)
        finally:
            self._flat_weights = now


class KeepsState(Keeping):
    """It starts from the state in which its last call ended, if that had as many sequences."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        last = self.kept.get("state")
        fits = hx is None and last is not None and (last.shape[1], last.dtype) == (x.shape[1], x.dtype)
        self.kept = {}
        output, h_n = super().forward(x, last if fits else hx)
        self.kept = {"state": h_n.detach()}
        return output, h_n


class KeepsStateAndRepeatsTanh(KeepsState):
    """It does the same, and applies tanh to its output once more."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return torch.tanh(output), h_n


def keeping_states(layer: Any) -> Any:
    """Return an nn.RNN or nn.LSTM that starts from the states in which its last call ended."""

    class KeepsStates(layer):  # type: ignore[misc]
        last: Any = None

        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
            batch = input.shape[not self.batch_first] if isinstance(input, torch.Tensor) and input.dim() == 3 else None
            h = self.last[0] if isinstance(self.last, tuple) else self.last
            fits = hx is None and h is not None and h.shape[-2] == batch and h.dim() == 3
            output, last = super().forward(input, self.last if fits else hx)
            self.last = tuple(one.detach() for one in last) if isinstance(last, tuple) else last.detach()
            return output, last

    return KeepsStates


def stale(module: type[nn.Module], config: RNNConfig = USED) -> StaleState | None:
    return stale_at(as_subject(module), draw(config, "normal", 1))


def stale_at(subject: Subject, case: Case) -> StaleState | None:
    check = partial(check_agreement, subject)
    return stale_of(Question(ObservationCache(subject), Finding("mine", case, check(case)), scope_of(subject), check))


@pytest.mark.parametrize(
    ("module", "changes", "roles", "named"),
    [
        (Keeping, {}, EVERY, "weights of its first call, not with new ones"),
        (DropIn, {}, EVERY, "weights of its first call, not with new ones"),
        (KeepsTransposed, {}, EVERY, "weights of its first call, not with new ones"),
        # a view shows new weights, and the others tell
        (KeepsTransposed, {"input_size": 1, "hidden_size": 1}, EVERY, "weights of its first call, not with new ones"),
        (KeepsRecurrent, {}, ("weight_hh",), "weight_hh of its first call, not with a new one"),
        (KeepsBiases, {}, ("bias_ih", "bias_hh"), "bias_ih and bias_hh of its first call, not with new ones"),
        (KeepsOneBias, {}, ("bias_ih", "bias_hh"), "bias_ih of its first call, not with a new one"),
        (ForgetsAtLoad, {"training": True}, EVERY, "weights of its first call, not with new ones"),
    ],
)
def test_what_a_module_keeps_of_its_first_call_is_named(
    module: type[nn.Module], changes: Any, roles: tuple[str, ...], named: str
) -> None:
    found = stale(module, USED.replace(**changes))

    assert found is not None
    assert (found.roles, found.sentence) == (roles, f"goes on with the {named}")


@pytest.mark.parametrize(
    ("module", "config"),
    [
        (KeepsState, USED.replace(dtype="float64")),
        (KeepsState, USED.replace(loss="both")),
        (keeping_states(nn.RNN), USED.replace(num_layers=2, bidirectional=True, batch_first=True)),
        (keeping_states(nn.LSTM), USED.replace(cell="LSTM")),
        (keeping_states(nn.LSTM), USED.replace(cell="LSTM", num_layers=2, loss="both")),
    ],
)
def test_a_state_that_a_module_starts_from_again_is_named(module: type[nn.Module], config: RNNConfig) -> None:
    found = stale(module, config)

    assert found is not None
    assert found.sentence == STATE_KEPT
    assert stale(module, config.replace(hx=True)) is None


@pytest.mark.parametrize(
    ("module", "changes"),
    [
        (Notices, {"training": False}),
        (Notices, {"training": True}),
        (ForgetsAtLoad, {}),  # new weights come by a load, and in training by a step
        (Keeping, {"preparation": "new"}),  # only a module that was called with other weights can go on with them
    ],
)
def test_a_module_that_goes_on_with_nothing_agrees_and_is_not_accused(module: Any, changes: Any) -> None:
    config = USED.replace(**changes)

    assert check_agreement(as_subject(module), draw(config, "normal", 1)).verdict is Verdict.AGREES
    assert stale(module, config) is None


def test_the_excuse_is_for_wrong_numbers_of_the_first_weights_alone() -> None:
    subject = as_subject(KeepsRecurrent)
    observations = ObservationCache(subject)

    def known_or_not(roles: tuple[str, ...], config: RNNConfig) -> bool:
        observation = observations.of(draw(config, "normal", 1))
        result: Result = check_agreement(subject, draw(config, "normal", 1))
        return StaleState(roles, False, 3).explains(subject, observation, result)

    assert known_or_not(("weight_hh",), USED)
    assert known_or_not(EVERY, USED.replace(loss="both"))
    assert not known_or_not(("weight_ih",), USED)
    assert not known_or_not(("weight_hh",), USED.replace(preparation="new"))


FUNCTIONS = [
    (
        "goes on with the weight_ih and weight_hh of its first call, not with new ones",
        """
kept = {}

def rnn(x, h0, weights, config):
    W, U = kept.setdefault((x.shape, h0.shape, x.dtype), (weights["weight_ih_l0"].T, weights["weight_hh_l0"].T))
    h, output = h0[0], []
    for x_t in x:
        h = np.tanh(x_t @ W + h @ U + weights.get("bias_ih_l0", 0) + weights.get("bias_hh_l0", 0))
        output.append(h)
    return np.stack(output), h[None]
""",
    ),
    (  # of as many sequences as a call has, whatever else the calls before had, in float32
        STATE_KEPT,
        """
kept = {}

def rnn(x, h0, weights, config):
    size = config.hidden_size
    if len(kept.get(size, ())) < x.shape[1]:
        kept[size] = np.zeros((x.shape[1], size), np.float32)
    h = kept[size][: x.shape[1]]
    h[...] = h0[0] if h0.any() else h
    W, U = (weights[name].T.astype(np.float32) for name in ("weight_ih_l0", "weight_hh_l0"))
    b = (weights.get("bias_ih_l0", 0) + weights.get("bias_hh_l0", np.zeros(size))).astype(np.float32)
    output = np.stack([np.tanh(x_t.astype(np.float32) @ W + h @ U + b, out=h).copy() for x_t in x]).astype(x.dtype)
    return output, output[-1:]
""",
    ),
]


@pytest.mark.parametrize(("sentence", "code"), FUNCTIONS, ids=["weights", "buffer"])
def test_what_a_function_keeps_of_earlier_calls_is_found_in_processes_of_its_own(
    sentence: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(f"import numpy as np\n{code}")
    monkeypatch.setattr("harness.search.budget.CASES_AFTER_FINDING", 10)

    with IsolatedSubject(f"{tmp_path / 'mine.py'}:rnn") as subject:
        done = Searched(subject, ONE_LAYER, cases=60)

    cause = next(cause for cause, one in zip(done.causes, done.findings, strict=True) if one.result.nondeterministic)
    assert isinstance(cause, StaleState)
    assert cause.sentence == sentence


BACK = """
import numpy as np

last, sums = {}, {}

def rnn(x, h0, weights, config, cotangents):
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    states = [h0[0] if config.hx or not STATE else last.get(h0.shape, h0[0])]
    for x_t in x:
        s = x_t @ W.T + states[-1] @ U.T + weights.get("bias_ih_l0", 0) + STATE * weights.get("bias_hh_l0", 0)
        states.append(np.tanh(s))
    last[h0.shape] = states[-1]
    output, h_n = np.stack(states[1:]), states[-1][None].copy()
    if config.loss is None:
        return output, h_n
    g = cotangents.get("output.grad", np.zeros_like(output))
    dh, dW, dU, db, dx = cotangents.get("h_n.grad", np.zeros_like(h_n))[0], 0 * W, 0 * U, 0 * W[:, 0], 0 * x
    for t in reversed(range(len(x))):
        da = (g[t] + dh) * (1 - output[t] ** 2)
        dW, dU, db = dW + da.T @ x[t] / len(x[t]), dU + da.T @ states[t], db + da.sum(0)
        dx[t], dh = da @ W, da @ U
    if not STATE:
        key = W.shape, U.shape, x.dtype
        db = sums[key] = sums.get(key, 0) + db
    found = {"x": dx, "hx": dh[None], "weight_ih_l0": dW, "weight_hh_l0": dU}
    return output, h_n, found | ({"bias_ih_l0": db, "bias_hh_l0": db.copy()} if config.bias else {})
"""


@pytest.mark.parametrize("state", [True, False])
def test_what_is_kept_over_calls_of_other_cases_is_named_with_what_it_does_not_hide(
    state: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(f"STATE = {state}\n{BACK}")
    monkeypatch.setattr("harness.search.budget.CASES_AFTER_FINDING", 20)

    with IsolatedSubject(f"{tmp_path / 'mine.py'}:rnn") as subject:
        done = Searched(subject, ONE_LAYER | {"dtype": "float64"}, cases=60)

    accumulates = "adds the gradient by the biases to that of its earlier calls"
    assert {*done.sentences} == {
        MEAN,
        *([STATE_KEPT] if state else [accumulates, "ignores bias_hh: b_hh is never added"]),
    }


def test_what_is_kept_is_named_of_a_layer_with_another_mistake() -> None:
    pins = {"dtype": "float64", "loss": None, "preparation": ["new", "used"], "distributions": "normal"}

    done = Searched(KeepsStateAndRepeatsTanh, pins, cases=100)

    assert len(done.findings) == 2
    assert {*done.sentences} == {"applies tanh to its output once more", STATE_KEPT}


@pytest.mark.long
def test_an_error_on_the_way_back_through_what_is_kept_has_the_same_cause() -> None:
    subject, case = as_subject(KeepsProduct), draw(USED.replace(loss="both"), "normal", 1)
    result = check_agreement(subject, case)

    assert "second time" in result.message
    explanation = FindingExplainer(subject).explain(Finding("mine", case, result), scope_of(subject))
    assert explanation.diagnosis is not None
    assert isinstance(explanation.diagnosis.cause, StaleState)
    assert explanation.diagnosis.cause.roles == ("weight_hh",)
    assert explanation.diagnosis.cause.explains(subject, ObservationCache(subject).of(case), result)


@pytest.mark.long
@pytest.mark.parametrize("module", [Keeping, KeepsTransposed, DropIn])
def test_a_search_has_one_finding_that_is_certain(module: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.search.budget.CASES_AFTER_FINDING", 60)

    done = Searched(module, {"dtype": "float32", "distributions": "normal"}, cases=250)

    [finding], [cause] = done.findings, done.causes
    assert cause.sentence == "goes on with the weights of its first call, not with new ones"
    assert cause.evidence == ("with these, nn.RNN gives what the subject does on this case and on 3 fresh ones")
    assert "preparation=used" in fails_line(done.conditions[0])
    assert finding.minimal
    assert done.record.known.total() > 0
