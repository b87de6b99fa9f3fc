"""Tests of kernels: a failing case is run under each switch, and failures of one kernel are reported once."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from harness import Case, Outcome, RNNConfig, Verdict, as_subject, draw
from harness.checks.agreement import check_agreement, observe
from harness.checks.case_checks import check as check_everything
from harness.checks.result import Result
from harness.diagnosis.kernels import NONE, KernelCause, kernels_of
from harness.oracle.compare import Mismatch, MismatchKind
from harness.report.explanation_lines import kernels_line
from harness.space.scope import Scope
from harness.subjects.capabilities import OwnProcess
from harness.subjects.function import FunctionSubject
from tests import implementations
from tests.diagnosis.searched import Searched

CONFIG = RNNConfig(3, 4, T=2, N=2)
check = partial(check_agreement, with_probes=False)


class Kernel(FunctionSubject):
    """A subject that is correct except for a kernel, used for odd sizes only, that one switch turns off."""

    shared = None
    switchable = True

    def __init__(self, off: float = 1.5, *, on: bool = True) -> None:
        super().__init__(implementations.vectorised, "kernel")
        self._off, self._on = off, on
        process: OwnProcess = self
        self.capabilities = replace(self.capabilities, process=process)

    unrepeated, spoiled = 0, ""

    def lines(self, case: Case) -> int:
        return 0

    def line_runs(self, case: Case) -> list[Any]:
        return []

    def run(self, case: Case) -> Outcome:
        outcome = super().run(case)
        if not self._on or case.config.input_size % 2 == 0 or outcome.failure:
            return outcome
        return replace(outcome, arrays={name: array * self._off for name, array in outcome.arrays.items()})

    def switched(self, switch: str) -> Self:
        return type(self)(self._off, on=switch != "no-mkldnn")

    def kernels(self, case: Case) -> tuple[str, ...]:
        return ("matmul ours 2x3:3x4",)

    def environment(self, device: str) -> dict[str, str]:
        return {"device": device}

    def restart(self) -> None:
        pass

    def close(self) -> None:
        pass


class Mistake(Kernel):
    """A subject with a mistake in its own code, under every switch."""

    def switched(self, switch: str) -> Self:
        return type(self)(self._off)


def test_what_a_switch_turns_off_passes_with_it_and_fails_with_the_others() -> None:
    case = draw(CONFIG, "normal")
    subject = Kernel()

    found = kernels_of(subject, case, check(subject, case), check)

    assert found.passes == ("no-mkldnn",)
    assert "onednn-avx2" in found.fails
    assert "no-cudnn" not in found.fails
    said = kernels_line(found)
    assert said is not None
    ran = "oneDNN ran matmul ours 2x3:3x4"
    assert said.startswith(f"passes with mkldnn off; {ran}; fails with ONEDNN_MAX_CPU_ISA=AVX2")


@pytest.mark.parametrize(
    ("subject", "config"),
    [(Mistake(off=2.0), CONFIG.replace(input_size=3)), (as_subject(implementations.vectorised), CONFIG)],
    ids=["a mistake under every switch", "no switches"],
)
def test_where_no_switch_turns_a_failure_off_none_is_told(subject: Any, config: RNNConfig) -> None:
    case = draw(config, "normal")

    found = kernels_of(subject, case, check(subject, case), check)

    assert not found.passes
    assert kernels_line(found) is None
    assert isinstance(subject, Mistake) or found is NONE


EXAMPLE = Path(__file__).parents[2] / "examples" / "notebook.py"
RIGHT, WRONG = (f"{EXAMPLE}:rnn_{part}_b_hh" for part in ("with", "without"))


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (
            (RIGHT, WRONG, RIGHT),
            f"passes in {RIGHT} (…); fails from {WRONG} on (…); in brackets the error by its tolerance",
        ),
        ((RIGHT,), f"passes in {RIGHT} (…); fails from mine on (…); in brackets the error by its tolerance"),
        ((WRONG,), None),
        ((RIGHT, f"{EXAMPLE}:none"), None),
    ],
)
def test_a_subject_of_stages_is_told_the_first_that_fails(stages: tuple[str, ...], said: str | None) -> None:
    subject, case = FunctionSubject(implementations.vectorised, "mine"), draw(CONFIG, "normal")
    subject.capabilities = replace(subject.capabilities, stages=stages)

    whole = partial(check_everything, relations=(), with_probes=False)
    found = kernels_of(subject, case, whole(as_subject(WRONG), case), whole)

    line = kernels_line(found)
    assert said == (line and re.sub(r"\([\d.e+]+\)", "(…)", line))
    if found.stage is not None and said is not None:
        [margin] = found.stage.margins
        assert margin is not None
        assert found.stage.off is not None
        assert margin <= 1 < found.stage.off


def test_failures_that_go_away_with_one_kernel_are_one_finding() -> None:
    scope = Scope().only(num_layers=1, bidirectional=False, nonlinearity="tanh", dtype="float32")

    done = Searched(Kernel(off=1.0 + 2.0**-6), scope, cases=200)

    [finding], [told] = done.findings, done.explanations
    assert told.kernels.passes == ("no-mkldnn",)
    assert done.record.known[finding.id] > 0


@pytest.mark.parametrize(
    ("switch", "met", "covered"),
    [
        ("no-mkldnn", lambda result: result, True),
        ("no-mkldnn", lambda _: Result(Verdict.DISAGREES, (Mismatch("output", MismatchKind.MISSING),)), False),
        (
            "no-mkldnn",
            lambda result: Result(Verdict.DISAGREES, (replace(result.mismatches[0], sort=MismatchKind.FINITENESS),)),
            False,
        ),
        ("aten-avx2", lambda result: result, False),
    ],
    ids=["the same", "another sort", "numbers that are lost", "stays without the kernel"],
)
def test_a_failure_is_of_a_kernel_that_is_alike_and_goes_away_without_it(switch: str, met: Any, covered: bool) -> None:
    subject, case = Kernel(), draw(CONFIG, "normal")
    result = check(subject, case)

    known_cause = KernelCause(result, subject.switched(switch), check)

    assert known_cause.explains(subject, observe(subject, case), met(result)) is covered
