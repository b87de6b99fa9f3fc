"""Command lines and calls that nobody means: each is answered or refused, in a line, and none shows a fault of ours."""

import importlib
import io
import math
import pkgutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

import harness
from harness.cli import codes, main
from harness.space.errors import UsageError
from tests.implementations import vectorised

# Words in the place of any argument: numbers, names, files and values, some of them possible.
WORDS = (
    *("", " ", "-", "--", "-1", "0", "1", "3", "1.5", "1e999", "nan", "inf", "-inf", "٣", "²", "9" * 400, "0x10"),
    *("x", "a" * 300, "ü\udcff", "\x1b[31m", "[red]", "{}", "%s", "../..", "/", "/dev/null", ".", "no/such.npz"),
    *("torch", "torch:x", "cpu", "float32", "tf32", "rtol=x,atol=1", "rtol=nan,atol=-1", "tanh=-3ulp", "tanh=1e999ulp"),
    *(
        "T=",
        "=1",
        "T=1",
        "T=x",
        "T=[1,2",
        "T=-1",
        "T=9**9",
        f"T={10**30}",
        "bias=maybe",
        "lengths=[1]",
        "masks=1",
        "x=1",
    ),
    *("dtype=float8", "num_layers=0,1", "60s", "0s", "-1m", "1e9h", "abcd", "abcd1234", "correct", "port", "auto"),
)


def lines() -> st.SearchStrategy[list[str]]:
    """Return command lines of all commands, with any of their options, and of none."""
    return st.one_of([_of_command(name, command) for name, command in main.cli.commands.items()] + [_words(3)])


def _of_command(name: str, command: click.Command) -> st.SearchStrategy[list[str]]:
    options = [option for option in command.params if isinstance(option, click.Option)]
    one = st.sampled_from(options).flatmap(_of_option) if options else st.just([])
    parts = st.lists(st.one_of(one, _words(1)), max_size=4)
    return parts.map(lambda some: [name, *(word for part in some for word in part)])


def _of_option(option: click.Option) -> st.SearchStrategy[list[str]]:
    name = st.sampled_from([*option.opts, *option.secondary_opts])
    return name.map(lambda one: [one]) if option.is_flag else st.tuples(name, st.sampled_from(WORDS)).map(list)


def _words(most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(WORDS), max_size=most)


def refuses(*_: Any, **__: Any) -> Any:
    """Stand for all that takes long, after a line was understood."""
    raise UsageError("understood")


LONG = {
    "harness.subjects.isolated.IsolatedSubject": refuses,
    "harness.cli.all_subjects.IsolatedSubject": refuses,
    "harness.subjects.isolated.ahead": lambda _specs: None,
    "harness.search.scope_and_workers.workers_of": lambda *_: None,
    "harness.store.document._require": lambda *_: None,  # nothing is written
    "harness.store.document.write": lambda *_: None,
    "harness.store.document.lines_to": refuses,
}


def answer(arguments: list[str]) -> tuple[int, str]:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err), patch("sys.argv", ["rnn-harness", *arguments]):
        try:
            main.main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    err.flush()
    return code, err.buffer.getvalue().decode()


def several(number: int) -> settings:
    """Return settings of so many examples, the same in each run."""
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


for one in pkgutil.walk_packages(harness.__path__, "harness."):  # what is imported later would keep these stand-ins
    if not one.name.endswith("__main__") and ".entry" not in one.name:
        importlib.import_module(one.name)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, instead in LONG.items():
        monkeypatch.setattr(name, instead)


@pytest.mark.long
def test_every_command_line_is_answered_or_refused() -> None:
    @several(500)
    @given(lines())
    def refused(arguments: list[str]) -> None:
        code, said = answer(arguments)

        assert code in {codes.AGREES, codes.MISUSE}, said
        assert "Traceback" not in said
        assert code == codes.AGREES or "Error: " in said or said.startswith("Usage: ")

    refused()


CASE = harness.draw(harness.RNNConfig(1, 1))
SCOPE = harness.Scope().only(T=1, N=1, num_layers=1, bidirectional=False)
THINGS: tuple[Any, ...] = (
    *(None, True, -1, 0, 2, 1.5, math.nan, math.inf, "", "x", "1", b"x", [], [1], (), {}, {"a": 1}, {1, 2}),
    *(object(), len, int, np.float32(1), np.int64(-3), np.zeros(2), np.array("x"), 1j, "float32", "kernel", "tf32"),
    *(CASE, SCOPE, CASE.config, harness.Verdict.AGREES, Ellipsis, "\udcff", "a" * 300),
)
api: Any = harness
RIGHT = api.as_subject(vectorised)
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "hunt": (api.hunt, {"subject": vectorised, "scope": SCOPE, "cases": 1, "seconds": 1, "seed": 0}),
    "check": (
        lambda **given: api.check(given.pop("subject"), quiet=True, **given),
        {"subject": vectorised, "cases": 1, "seconds": 1, "seed": 0, "profile": None, "tolerance": "derived", "T": 1},
    ),
    "assert_agrees": (api.assert_agrees, {"subject": vectorised, "case": CASE, "tolerance": "derived"}),
    "assert_agrees_on": (
        partial(api.assert_agrees_on, cases=1),
        {"subject": vectorised, "scope": SCOPE, "seed": 0, "tolerance": "derived"},
    ),
    "check_agreement": (api.check_agreement, {"subject": RIGHT, "case": CASE}),
    "draw": (api.draw, {"config": CASE.config, "distribution": "normal", "seed": 0}),
    "RNNConfig": (
        api.RNNConfig,
        dict.fromkeys(("input_size", "hidden_size", "num_layers", "T", "N"), 1) | {"lengths": None, "dtype": "float32"},
    ),
    "Scope.only": (api.Scope().only, {"T": 1, "dtype": "float32", "bias": True, "lengths": None}),
    "as_subject": (api.as_subject, {"given": vectorised}),
    "offered": (api.offered, {"subject": vectorised, "T": 1}),
    "scope_of": (api.scope_of, {"subject": RIGHT, "profile": None}),
    "strata": (api.strata, {"scope": SCOPE}),
    "configs": (api.configs, {"scope": SCOPE, "T": 1}),
    "cases": (api.cases, {"scope": SCOPE, "distributions": None}),
    "Case.from_arrays": (api.Case.from_arrays, {"config": CASE.config, "arrays": dict(CASE.arrays)}),
    "explain": (
        partial(api.explain, x=CASE.x, actual=RIGHT.run(CASE).arrays["output"]),
        {"module": CASE.weights, "nonlinearity": "tanh", "batch_first": False, "atol": 0.0},
    ),
}


@pytest.mark.parametrize("number", [40, pytest.param(500, marks=pytest.mark.long)])
def test_every_call_is_answered_or_refused(number: int) -> None:
    @several(number)
    @given(st.data(), st.sampled_from(list(CALLS)))
    def refused(data: st.DataObject, name: str) -> None:
        call, arguments = CALLS[name]
        wrong = data.draw(st.sampled_from(list(arguments)))
        thing = data.draw(st.sampled_from(THINGS))
        with suppress(UsageError, harness.Disagreement, harness.Unsupported):
            call(**{**arguments, wrong: thing})

    refused()
