"""Cells that users write: what their equations are read as, what is refused, and that other processes know them."""

import pickle
from textwrap import indent
from typing import Any

import pytest

from harness import Cell, RNNConfig, Scope
from harness.space.cells import KNOWN, Gate
from harness.space.errors import UsageError

f = "f = sigmoid(W_if @ x + b_if + W_hf @ h + b_hf)\n"
n = "n = tanh(W_in @ x + b_in + W_hn @ (f * h) + b_hn)\n"
h = "h = (1 - f) * h + f * n"


def test_equations_are_read_in_any_order_of_terms() -> None:
    text = "z = sigmoid(W_iz @ x + b_iz + W_hz @ h + b_hz)\nc = c - z\nh = tanh(c) * z"
    first, second = Cell("Orders", text), Cell("Orders", f"\n{indent(text, '    ')}\n")
    turned = Cell(
        "Turned",
        "a = tanh(b_ha + (b_ia + W_ia @ x) + W_ha @ h)\n"
        "b = sigmoid((W_hb @ (h * a) + b_hb) * a + W_ib @ x + b_ib)\n"
        "h = -(b * (a - h)) + 2 * b * a",
    )

    assert first == second
    assert first.hidden == ("hx", "cx")
    assert first.final == ("h_n", "c_n")
    assert {*first.h} == {(("t", "z"), 1.0)}
    assert turned.lines == (Gate("a", "tanh"), Gate("b", "sigmoid", "a * h", "a"))
    assert {*turned.h} == {(("a", "b"), 1.0), (("b", "h"), 1.0)}
    assert (turned.gates, turned.reset, turned.hidden) == ("ab", "b", ("hx",))


@pytest.mark.parametrize(
    ("equations", "said"),
    [
        ("f = (", "expected lines of Python"),
        ("", "expected a line for each gate"),
        (f, "then one for h"),
        ("h = h", "expected a line for each gate"),
        (f + "print(f)", "expected a line such as"),
        (f + n + h + "\n" + f, "h last"),
        (f + f + h, "each name once"),
        (f + n.replace("n", "nn") + h, "names of one letter"),
        (f.replace("sigmoid", "relu") + h, "expected sigmoid or tanh"),
        (f.replace(" + b_hf", "") + h, "expected sigmoid(W_if @ x + b_if + W_hf @ h + b_hf)"),
        (f.replace("b_hf", "b_if") + h, "b_if: expected it once"),
        (f.replace("W_hf @ h", "W_hf @ x") + h, "W_hf @ x: expected W_if @ x, and W_hf @ h"),
        (f.replace("b_hf", "b_hn") + h, "b_hn: expected W_if, b_if, W_hf, b_hf"),
        (n + f + h, "f * h: expected x, h, or a gate times h, whose line is above"),
        (f + n + "h = f * f * n", "each with a gate or state once"),
        (f + n + "h = f / n", "f / n: expected gates and states with lines above, numbers"),
        (f + n + "h = c * n", "c: expected gates and states with lines above"),
        (f + n + "h = h - h", "expected a sum of products"),
        (f + n + "h = 1e999 * n", "expected gates and states"),
        ("".join(f.replace("f", letter) for letter in "abdef") + "h = a", "at most 4 gates"),
        ("x" * 10_000, "expected lines such as"),
        (None, "equations=None"),
    ],
)
def test_what_are_no_equations_is_refused_in_one_line(equations: Any, said: str) -> None:
    with pytest.raises(UsageError, match=r"^equations") as refused:
        Cell("Refused", equations)

    assert said in str(refused.value)
    assert "Refused" not in KNOWN


@pytest.mark.parametrize("name", ["gru", "LSTM", "rnn", "a b", "", None])
def test_a_name_that_is_taken_or_none_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="name="):
        Cell(name, f + n + h)


def test_another_process_learns_a_cell_from_what_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RNNConfig(2, 3, cell=Cell("Sent", f + n + h).name)
    scope = Scope().only(cell="Sent", nonlinearity="tanh")
    pickled, fields, record = pickle.dumps(config), config.to_dict(), scope.record()

    reads: list[Any] = [lambda: RNNConfig.from_dict(fields), lambda: Scope.of_record(record)]
    reads += [lambda: pickle.loads(pickled)]  # noqa: S301 - our own
    for read in reads:
        monkeypatch.delitem(KNOWN, "Sent")
        assert read() in (config, scope)

    monkeypatch.delitem(KNOWN, "Sent")
    with pytest.raises(UsageError, match="cell='Sent': expected RNN, GRU, LSTM"):
        RNNConfig(2, 3, cell="Sent")
