"""Tests of torch's modes as subjects: each calls what torch makes of a layer, at its first sizes and at others."""

from pathlib import Path
from typing import Any

import pytest

from harness import RNNConfig, Verdict, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.checks.dropout import check_dropout
from harness.checks.result import ComparisonMethod
from harness.oracle.compare import MismatchKind
from harness.search.examination import examine
from harness.search.search_record import Finding, SearchRecord
from harness.space.outcome import Failure
from harness.store.scripts import offer
from harness.subjects.protocol import scope_of
from harness.subjects.torch_compiled import CompiledSubject
from harness.subjects.torch_variants import MODE_SUBJECTS, MODES, ExecutionMode
from tests.long import few

pytestmark = pytest.mark.kernels

PLAIN = RNNConfig(3, 4, T=2, N=3)
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"loss": "both", "dtype": "float64", "num_layers": 2},
    {"batched": False, "N": 1, "bias": False},
    {"num_layers": 2, "bidirectional": True, "batch_first": True, "hx": True, "preparation": "used"},
    {"preparation": "state_dict", "loss": "both"},
    {"preparation": "deepcopy", "loss": "output"},
)

COPY = ("import copy",)

KEPT = """

class Kept(torch.nn.Module):
    def __init__(self, plain):
        super().__init__()
        self.__dict__["old"] = copy.deepcopy(plain)
        for name, parameter in plain.named_parameters():
            setattr(self, name, parameter)

    def forward(self, *arguments):
        return self.old(*arguments)"""

BROKEN = 'torch.compile(lambda *_: torch._dynamo.graph_break(), backend="eager", fullgraph=True)'


@pytest.mark.parametrize("spec", few(MODE_SUBJECTS, lambda spec: MODE_SUBJECTS[spec][1] in {"script", "trace"}))
def test_every_mode_computes_what_its_layer_computes(spec: str) -> None:
    subject = as_subject(spec)
    cell, mode = MODE_SUBJECTS[spec]

    for change in CHANGES:
        config = PLAIN.replace(cell=cell, **change)
        result = check_agreement(subject, draw(config))
        if mode == "compile":  # under inductor, some results share memory; their values are compared all the same
            assert {mismatch.sort for mismatch in result.mismatches} <= {MismatchKind.ALIASED}, config
        else:
            assert result.verdict is Verdict.AGREES, config


@pytest.fixture
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CompiledSubject:
    """Return a subject in a mode of its own."""
    monkeypatch.setitem(MODES, "mine", request.param)
    monkeypatch.setitem(MODE_SUBJECTS, "torch:mine", ("RNN", "mine"))
    return CompiledSubject("torch:mine")


@pytest.mark.parametrize("made", [ExecutionMode("frozen", "lambda *_, first=plain(*arguments): first")], indirect=True)
def test_what_is_frozen_at_the_first_call_shows_at_other_sizes(made: CompiledSubject) -> None:
    assert check_agreement(made, draw(PLAIN)).verdict is Verdict.AGREES
    assert check_agreement(made, draw(PLAIN.replace(preparation="used"))).kind == "output: shape"


@pytest.mark.parametrize(
    "made", [ExecutionMode("stale", "lambda *given, old=copy.deepcopy(plain): old(*given)", COPY)], indirect=True
)
def test_a_module_that_is_made_once_gets_the_weights_of_the_next_case(made: CompiledSubject) -> None:
    first, second = (check_agreement(made, draw(PLAIN, "normal", seed)) for seed in (0, 1))

    assert (first.verdict, second.verdict) == (Verdict.AGREES, Verdict.DISAGREES)


CHANGED = [PLAIN.replace(preparation=preparation) for preparation in MODES["script"].changes]


@pytest.mark.parametrize("made", [ExecutionMode("the module itself", "plain")], indirect=True)
def test_a_module_that_follows_every_change_agrees(made: CompiledSubject) -> None:
    for config in CHANGED:
        for case in (draw(config), draw(config.replace(hx=True, loss="both", wrt="inputs"))):
            assert check_agreement(made, case).verdict is Verdict.AGREES, config


@pytest.mark.parametrize("made", [ExecutionMode("weights kept", "Kept(plain)", (*COPY, KEPT))], indirect=True)
def test_a_module_that_keeps_the_weights_it_was_made_with_is_found_in_every_change(made: CompiledSubject) -> None:
    for config in CHANGED:
        assert check_agreement(made, draw(config)).verdict is Verdict.DISAGREES, config


def test_torch_scripts_an_nn_rnn_that_goes_on_with_its_old_weights(tmp_path: Path) -> None:
    """In torch 2.13 its list of flat weights is not replaced along with its parameters."""
    subject = as_subject("torch:script")
    results = {one.preparation: check_agreement(subject, draw(one)) for one in CHANGED}

    assert results["state_dict"].verdict is results["deepcopy"].verdict is Verdict.AGREES
    stale = results["assign"]
    assert stale.kind == results["replaced"].kind
    if stale.failed:  # until torch mends it
        found = Finding("torch:script", draw(PLAIN.replace(preparation="assign")), stale)
        assert offer(found, subject, tmp_path).path is not None


def test_torch_scripts_an_nn_rnn_with_the_weights_of_an_earlier_functional_call(tmp_path: Path) -> None:
    subject = as_subject("torch:script")
    case = draw(PLAIN.replace(preparation="state_dict", after="functional_call"), "normal")
    result = check_agreement(subject, case)

    assert {mismatch.sort for mismatch in result.mismatches} == {MismatchKind.VALUE}
    assert check_agreement(subject, draw(PLAIN.replace(preparation="state_dict"), "normal")).verdict is Verdict.AGREES
    offered = offer(Finding("torch:script", case, result), subject, tmp_path)
    assert offered.path is not None, offered.reason


@pytest.mark.parametrize("made", [ExecutionMode("without dropout", "copy.copy(plain).eval()", COPY)], indirect=True)
def test_a_mode_that_loses_dropout_breaks_its_relation(made: CompiledSubject) -> None:
    scope = scope_of(made)
    done = examine(made, SearchRecord("mine", 0, scope.only(dtype="float32")))

    assert done.dropout is not None
    assert (done.dropout.verdict, done.dropout.method) == (Verdict.DISAGREES, ComparisonMethod.DROPOUT)
    assert done.refusals is None


@pytest.mark.parametrize("made", [ExecutionMode("broken", BROKEN)], indirect=True)
def test_what_dynamo_does_not_support_is_no_mistake(made: CompiledSubject) -> None:
    outcome = made.run(draw(PLAIN))

    assert outcome.failure is Failure.UNSUPPORTED
    assert "graph_break" in outcome.message
    assert len(outcome.message.splitlines()) == 1


@pytest.mark.long
def test_a_scripted_and_a_traced_module_drop_in_training() -> None:
    for name in ("script", "trace"):
        assert check_dropout(as_subject(f"torch:{name}")).verdict is Verdict.AGREES


def test_a_call_before_has_the_sizes_that_may_change() -> None:
    assert [CompiledSubject(f"torch:{name}").calls_before(PLAIN)[0].T for name in ("export", "trace")] == [2, 3]
