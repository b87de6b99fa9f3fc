"""Tests of complex numbers: the reference against Python's own, and what is seen of correct and wrong subjects."""

import cmath
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness import Case, Reference, RNNConfig, Verdict, draw
from harness.checks.agreement import check_agreement
from harness.checks.derivatives import differentiable
from harness.checks.lawfulness import check_laws
from harness.diagnosis.diagnose import diagnose
from harness.diagnosis.observations import Observations
from harness.oracle.arithmetic import Arithmetic
from harness.oracle.expectation import Setting, end_to_end_states
from harness.oracle.tolerance import Products, Step, step_allowance, sum_allowance
from harness.report import wording
from harness.report.record import result_record
from harness.search.certificate import Certificate
from harness.search.record import Finding
from harness.space.parts import COMPLEX
from harness.space.scope import Scope, affordable, configure
from harness.space.values import REGIMES
from harness.subjects.function import FunctionSubject
from harness.subjects.protocol import scope_of
from harness.subjects.torch_module import TorchSubject

pytestmark = pytest.mark.kernels

Array = NDArray[Any]
Product = Callable[[Array, Array], Array]
Weights = Mapping[str, Array]

TORCH = TorchSubject()
SMALL = RNNConfig(2, 3, 2, bidirectional=True, T=3, N=2, hx=True, dtype="complex128", loss="both")


def drawn(scope: Scope, count: int, cost: int = 2**15) -> list[Case]:
    """Draw complex cases of a scope, over all regimes."""
    values, regimes, found = scope.only(dtype=COMPLEX, device="cpu").values(), list(REGIMES), []
    for seed in range(count):
        random = Random(f"complex {seed}")
        factors = {name: random.choice(choices) for name, choices in values.items()}
        found.append(draw(configure(affordable(factors, cost), seed), regimes[seed % len(regimes)], seed))
    return found


# The reference


def one_number_at_a_time(case: Case) -> dict[str, Array]:
    """Compute forward with Python's complex numbers and ``cmath.tanh``."""
    config, w = case.config, {name: array.tolist() for name, array in case.weights.items()}
    H, D = config.hidden_size, config.num_directions
    below, finals = case.x.tolist(), []
    for layer in range(config.num_layers):
        out: list[list[list[complex]]] = [[[0j] * (D * H) for _ in range(config.N)] for _ in range(config.T)]
        for d in range(D):
            end = f"_l{layer}" + "_reverse" * d
            h = [[0j] * H for _ in range(config.N)] if case.hx is None else case.hx[layer * D + d].tolist()
            for t in reversed(range(config.T)) if d else range(config.T):
                new = []
                for n in range(config.N):
                    row = []
                    for j in range(H):
                        s = sum(a * b for a, b in zip(w["weight_ih" + end][j], below[t][n], strict=True))
                        s += sum(a * b for a, b in zip(w["weight_hh" + end][j], h[n], strict=True))
                        row.append(cmath.tanh(s + w["bias_ih" + end][j] + w["bias_hh" + end][j]))
                    new.append(row)
                    out[t][n][d * H : (d + 1) * H] = row
                h = new
            finals.append(h)
        below = out
    return {"output": np.array(below), "h_n": np.array(finals)}


@pytest.mark.parametrize("seed", range(4))
def test_the_reference_is_what_python_computes_one_number_at_a_time(seed: int) -> None:
    case = draw(SMALL.replace(loss=None), seed=seed)
    found = Reference().run(case)
    for name, array in one_number_at_a_time(case).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("readout", [None, 2])
@pytest.mark.parametrize("part", [1, 1j])
def test_its_gradients_are_what_central_differences_tend_to(readout: int | None, part: complex) -> None:
    case = draw(SMALL.replace(output_size=readout), seed=3)
    found, step, rng = Reference().run(case), 2.0**-19, np.random.default_rng(0)

    def loss(arrays: Mapping[str, Array]) -> float:
        outputs = Reference().run(Case.from_arrays(case.config, arrays))
        terms = [(g.conj() * outputs[name.removesuffix(".grad")]).real.sum() for name, g in case.cotangents.items()]
        return float(sum(terms))

    for gradient in case.config.gradients:
        name = gradient.removesuffix(".grad")
        along = rng.standard_normal(case.arrays[name].shape)
        ends = [loss({**case.arrays, **_moved(case, name, by * part * along)}) for by in (step, -step)]
        difference = (ends[0] - ends[1]) / (2 * step)
        # Along v, a real loss changes by the real part of conj(gradient) v.
        assert difference == pytest.approx(
            float((found[gradient].conj() * part * along).real.sum()), rel=1e-5, abs=1e-7
        )


def _moved(case: Case, name: str, by: Array) -> dict[str, Array]:
    """Return a case's cotangents and one moved array under the names that ``from_arrays`` knows."""
    return {**case.cotangents, name: case.arrays[name] + by}


def test_its_gradients_are_autograd_s() -> None:
    for seed in range(4):
        case = draw(SMALL.replace(output_size=2), seed=seed)
        expected, found = Reference().run(case), TORCH.run(case).arrays
        for name in case.config.gradients:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-11, atol=1e-12)


# The bound of tanh


@pytest.mark.parametrize("regime", ["generic", "near poles", "far out"])
def test_no_move_of_the_preactivation_moves_tanh_by_more_than_is_allowed(regime: str) -> None:
    rng = np.random.default_rng(0)
    count, size = 2000, 10.0 ** rng.uniform(-9, -0.4, 2000)
    s = {
        "generic": rng.standard_normal(count) + 2j * rng.standard_normal(count),
        "near poles": 1j * np.pi / 2 + rng.standard_normal(count) * (0.3 + 0.3j),
        "far out": rng.uniform(3, 40, count) + 9j * rng.standard_normal(count),
    }[regime]
    zero, one = np.zeros((1, 1), complex), np.ones((1, 1), complex)
    step = Step(s[:, None], np.zeros((count, 1), complex), one, zero, zero[0], zero[0])
    y = np.tanh(s)
    allowance = step_allowance(step, s[:, None], y[:, None], "tanh", Arithmetic("complex128"), x_error=size[:, None])
    turns = np.exp(1j * rng.uniform(0, 2 * np.pi, (50, count)))
    moved = np.tanh(s + size * turns)
    assert (np.abs(moved - y) <= allowance.allowance[:, 0]).all()
    assert np.isfinite(allowance.allowance).mean() > 0.5
    if regime != "far out":  # it is no wider than needed, because a small move reaches it
        small = size < 1e-4
        reached = np.abs(np.tanh(s + size) - y)[small] / allowance.allowance[small, 0]
        assert np.median(reached) > 0.9


def test_far_out_any_error_of_the_preactivation_is_nothing() -> None:
    zero, one = np.zeros((1, 1), complex), np.ones((1, 1), complex)
    s = np.array([[100 + 3j]])
    step = Step(s, zero, one, zero, zero[0], zero[0])
    bound = step_allowance(step, s, np.tanh(s), "tanh", Arithmetic("complex128"), x_error=np.array([[40.0]]))
    assert bound.allowance < 1e-14


def test_errors_that_are_carried_along_grow_as_fast_as_tanh_is_steep() -> None:
    # A fixed point at s = 1.2 i, where phi' = 7.6: an error of one state is 2.3 times as large in the next.
    config = RNNConfig(1, 1, T=12, N=1, hx=True, dtype="complex64")
    state = 1j * np.tan(1.2)
    case = Case.of(config, [[[0]]] * 12, [[[state]]], **_parameters(0, 0.3, 1.2j - 0.3 * state))
    allowances = end_to_end_states(Setting(Reference(), case, Arithmetic("complex64")))[0].error
    off = np.abs(TORCH.run(case).arrays["output"] - Reference().run(case)["output"])
    assert allowances is not None
    assert off.max() > 1e-5
    assert (off <= allowances).all()


def _parameters(ih: complex, hh: complex, bias: complex) -> dict[str, Any]:
    return {"weight_ih_l0": [[ih]], "weight_hh_l0": [[hh]], "bias_ih_l0": [bias], "bias_hh_l0": [0]}


def test_every_real_product_may_be_rounded_into_the_sum_by_itself() -> None:
    m, u = 200, 2.0**-24
    tiny = np.float32(u * (1 + 2.0**-10))  # added to 1 and a bit, this is rounded up to 2 u
    a, b = np.full((1, m), 1 + 1j, np.complex64), np.full((1, m), tiny * (1 - 1j), np.complex64)
    a[0, -1] = b[0, -1] = 1
    exact = complex((a.astype(complex) @ b.astype(complex).T)[0, 0])
    magnitude = np.abs(a.astype(complex)) @ np.abs(b.astype(complex)).T
    off = abs(interleaved(a, b)[0, 0] - exact)
    assert off > (m + 3) * u * magnitude[0, 0]
    assert off <= sum_allowance(Products(magnitude, m), Arithmetic("complex64"))[0, 0]


# By hand


def one_by_one(a: Array, b: Array) -> Array:
    """Return A b^T with each complex term and sum rounded."""
    total = a[:, :1] * b[:, 0]
    for k in range(1, a.shape[1]):
        total = total + a[:, k : k + 1] * b[:, k]
    return np.asarray(total)


def interleaved(a: Array, b: Array) -> Array:
    """Return A b^T with real products added to each part in turn, from the last on, as fused kernels do."""
    real, imaginary = (np.zeros((len(a), len(b)), a.real.dtype) for _ in range(2))
    for k in reversed(range(a.shape[1])):
        x, w = a[:, k : k + 1], b[:, k]
        for one, other, sign in ((x.real, w.real, 1), (x.imag, w.imag, -1)):
            real = real + sign * (one * other)
        for one, other in ((x.real, w.imag), (x.imag, w.real)):
            imaginary = imaginary + one * other
    return np.asarray(real + 1j * imaginary, a.dtype)


PRODUCTS: dict[str, Product] = {
    "one by one": one_by_one,
    "parts interleaved": interleaved,
    "parts apart": lambda a, b: np.asarray(
        (a.real @ b.real.T - a.imag @ b.imag.T) + 1j * (a.real @ b.imag.T + a.imag @ b.real.T), a.dtype
    ),
    "as BLAS does": lambda a, b: a @ b.T,
}


def by_hand(
    product: Product = one_by_one, wrong: str = ""
) -> Callable[[Array, Array, Weights, RNNConfig, Weights], tuple[Any, ...]]:
    """Return an RNN and its backpropagation in the dtype itself; ``wrong`` names its mistake."""

    def conj(array: Array, where: str) -> Array:
        return array if wrong == f"no conjugate in {where}" else array.conj()

    def rnn(x: Array, h0: Array, weights: Weights, config: RNNConfig, cotangents: Weights) -> tuple[Any, ...]:
        if wrong == "through float16":
            rounded = {n: _parts(a, lambda part: part.astype(np.float16)) for n, a in {**weights, "x": x}.items()}
            x, weights = rounded.pop("x"), rounded
        H, D = config.hidden_size, config.num_directions

        def turn(array: Array) -> Array:
            return array.swapaxes(0, 1) if config.batch_first else array

        inputs, kept, h_n = [turn(x)], {}, np.empty_like(h0)
        for layer in range(config.num_layers):
            output = np.zeros((config.T, config.N, D * H), x.dtype)
            for d in range(D):
                w = _weights(weights, layer, d, config)
                if wrong == "W_ih conjugated":
                    w[0] = w[0].conj()
                if wrong == "b_hh forgotten":
                    w[3] = 0 * w[3]
                if wrong == "one bias off by 1e-4" and layer == d == 0:
                    w[2] = w[2] * np.where(np.arange(H) == H - 1, 1 + 1e-4, 1).astype(w[2].real.dtype)
                h, before = h0[layer * D + d], np.empty((config.T, config.N, H), x.dtype)
                for t in range(config.T)[:: -1 if d else 1]:
                    before[t] = h
                    h = np.tanh(product(inputs[-1][t], w[0]) + w[2] + product(h, w[1]) + w[3])
                    output[t][:, d * H : (d + 1) * H] = h = h.real + 0j if wrong == "imaginary part dropped" else h
                h_n[layer * D + d], kept[layer, d] = h, (w, before)
            inputs.append(output.astype(x.dtype))
        outputs = (turn(inputs[-1]), h_n)
        if config.loss is None:
            return outputs
        grads: dict[str, Array] = {"hx": np.zeros_like(h0)}
        given = turn(cotangents["output.grad"]) if "output.grad" in cotangents else np.zeros_like(inputs[-1])
        for layer in reversed(range(config.num_layers)):
            through = np.zeros_like(inputs[layer])
            for d in range(D):
                w, before = kept[layer, d]
                row, order = layer * D + d, range(config.T)[:: 1 if d else -1]
                carried = cotangents["h_n.grad"][row] if "h_n.grad" in cotangents else np.zeros_like(h0[row])
                sums = [np.zeros_like(a) for a in w]
                for t in order:
                    h = inputs[layer + 1][t][:, d * H : (d + 1) * H]
                    da = (given[t][:, d * H : (d + 1) * H] + carried) * conj(1 - h * h, "the slope")
                    carried, down = (product(da, conj(a, "dx").T) for a in (w[1], w[0]))
                    through[t] += down
                    beside = (inputs[layer][t], before[t])
                    for i in range(2):
                        sums[i] = sums[i] + (product(da.T, conj(beside[i], "dW").T) if config.N else 0)
                        sums[2 + i] = sums[2 + i] + da.sum(0)
                grads["hx"][row] = carried
                grads |= dict(zip(_names(layer, d), sums, strict=True))
            given = through
        grads["x"] = turn(given)
        return (*outputs, {name: array for name, array in grads.items() if f"{name}.grad" in config.gradients})

    return rnn


def _parts(array: Array, change: Callable[[Array], Array]) -> Array:
    return np.asarray(change(array.real) + 1j * change(array.imag).astype(array.real.dtype), array.dtype)


def _names(layer: int, d: int) -> list[str]:
    end = f"_l{layer}" + "_reverse" * d
    return [f"{kind}{end}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def _weights(weights: Weights, layer: int, d: int, config: RNNConfig) -> list[Array]:
    w = [weights[name] for name in _names(layer, d) if name in weights]
    return w if config.bias else [*w, *[np.zeros(config.hidden_size, w[0].dtype)] * 2]


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_right_one_agrees_whatever_its_order_of_summation(product: str) -> None:
    subject = FunctionSubject(by_hand(PRODUCTS[product]), product)
    scope = scope_of(subject).only(loss=[None, "output", "h_n", "both"], preparation="new")
    for case in drawn(scope, 60, 2**14):
        result = check_agreement(subject, case)
        assert result.verdict is Verdict.AGREES, (case, result)


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize(
    ("wrong", "loss", "arrays"),
    [
        ("no conjugate in dW", "output", {"weight_ih_l0.grad"}),
        ("no conjugate in dx", "output", {"x.grad", "hx.grad"}),
        ("no conjugate in the slope", "output", {"x.grad", "bias_ih_l0.grad"}),
        ("b_hh forgotten", None, {"output"}),
        ("imaginary part dropped", None, {"output"}),
        ("W_ih conjugated", None, {"output"}),
        ("one bias off by 1e-4", None, {"output"}),
        ("through float16", None, {"output"}),
    ],
)
def test_a_wrong_one_disagrees(dtype: str, wrong: str, loss: str | None, arrays: set[str]) -> None:
    config = RNNConfig(4, 8, T=6, N=3, hx=True, dtype=dtype, loss=loss)
    for regime in ("default", "normal", "spectral"):
        result = check_agreement(FunctionSubject(by_hand(wrong=wrong), wrong), draw(config, regime, 1))
        assert result.verdict is Verdict.DISAGREES
        assert arrays <= {mismatch.array for mismatch in result.mismatches}
        if loss is not None:
            assert all(mismatch.array.endswith(".grad") for mismatch in result.mismatches)


# torch


@pytest.mark.long
def test_torch_agrees_in_every_way_of_calling_it() -> None:
    cases = drawn(scope_of(TORCH), 150)
    for case in cases:
        result = check_agreement(TORCH, case)
        assert result.verdict is Verdict.AGREES, (case, result)
    assert {case.config.nonlinearity for case in cases} == {"tanh"}
    assert not any(case.config.drops for case in cases)
    for name in ("loss", "lengths", "batched", "strides", "preparation", "grad_mode"):
        assert len({getattr(case.config, name) for case in cases}) > 1


def test_torch_keeps_its_laws() -> None:
    for case in drawn(scope_of(TORCH), 60):
        assert check_laws(TORCH, case).verdict is Verdict.AGREES, case


def test_what_torch_refuses_is_unsupported() -> None:
    config = RNNConfig(2, 3, 2, T=3, N=2, dtype="complex64")
    for one in (config.replace(nonlinearity="relu"), config.replace(lengths=(3, 2), loss="output")):
        assert check_agreement(TORCH, draw(one)).verdict is Verdict.UNSUPPORTED
        again = configure(Scope.around(one).only(dtype="complex64").values() | one.to_dict() | {"lengths": one.packing})
        assert check_agreement(TORCH, draw(again)).verdict is Verdict.AGREES


# Other checks


def test_complex_numbers_are_asked_of_torch_and_of_functions_only_when_asked_for() -> None:
    assert set(COMPLEX) <= set(scope_of(TORCH).dtype)
    assert not set(COMPLEX) & set(scope_of(FunctionSubject(by_hand(), "mine")).dtype)
    assert not set(COMPLEX) & set(scope_of(TORCH).only(nonlinearity="relu").dtype)
    assert not set(COMPLEX) & set(scope_of(TORCH).only(training=True, dropout=0.5).dtype)


def test_derivatives_beyond_gradients_are_not_asked_for() -> None:
    assert not differentiable(SMALL)
    assert differentiable(SMALL.replace(dtype="float64"))


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("regime", REGIMES)
def test_a_case_is_kept_and_pasted_back_bit_for_bit(dtype: str, regime: str, tmp_path: Path) -> None:
    case = draw(RNNConfig(1, 2, T=2, N=1, hx=True, dtype=dtype, loss="both"), regime, 2)
    case.save(tmp_path / "case.npz")
    pasted = eval(repr(case), {"np": np, "Case": Case, "RNNConfig": RNNConfig})  # noqa: S307 - its purpose
    assert repr(case).startswith("Case.of(")
    assert Case.load(tmp_path / "case.npz").id == case.id
    assert pasted.id == case.id
    assert any((array.imag != 0).any() for array in case.arrays.values())


def test_a_difference_is_shown_and_recorded_with_both_parts() -> None:
    case = draw(RNNConfig(1, 1, T=1, N=1, dtype="complex64"))
    result = check_agreement(FunctionSubject(by_hand(wrong="W_ih conjugated"), "mine"), case)
    site = result.mismatches[0].sites[0]
    assert isinstance(site.actual, complex)
    assert site.actual.imag != 0
    assert wording.site_row(site, "complex64")[1] == f"{site.actual:.9g}"
    recorded = json.loads(json.dumps(result_record(result), allow_nan=False))
    assert complex(recorded["mismatches"][0]["sites"][0]["actual"]) == site.actual


def test_what_reads_an_infinity_or_a_nan_is_exempt() -> None:
    config = RNNConfig(1, 2, T=2, N=2, dtype="complex64")
    case = draw(config)
    x = case.x.copy()
    x[0, 0] = complex(0, np.inf)
    wild = Case.from_arrays(config, {**case.arrays, "x": x})

    def rnn(x: Array, h0: Array, weights: Weights, config: RNNConfig) -> tuple[Any, ...]:
        output, h_n = by_hand()(x, h0, weights, config, {})
        output[:, 0], h_n[:, 0] = 7, 7
        return output, h_n

    assert (
        check_agreement(FunctionSubject(rnn, "mine"), wild).mismatches[0].array == "output"
    )  # its second step is read
    assert check_agreement(FunctionSubject(by_hand(), "mine"), wild).verdict is Verdict.AGREES


def test_torch_s_tanh_stays_finite_far_out() -> None:
    for dtype in (torch.complex64, torch.complex128):
        z = torch.tensor([s + 0.3j for s in (50.0, 89.0, 355.0, 711.0, 1e30)], dtype=dtype)
        np.testing.assert_allclose(torch.tanh(z).numpy(), 1, rtol=1e-6)
        np.testing.assert_allclose(torch.tanh(-z).numpy(), -1, rtol=1e-6)


def test_its_cause_is_named() -> None:
    subject = FunctionSubject(by_hand(wrong="b_hh forgotten"), "mine")
    case = draw(RNNConfig(1, 1, T=1, N=1, dtype="complex64"))
    diagnosis = diagnose(
        Observations(subject), Finding("mine", case, check_agreement(subject, case), certificate=Certificate()), Scope()
    )
    assert diagnosis is not None
    assert [fault.name for fault in diagnosis.causes] == ["IgnoresBiasHH"]


def test_a_function_is_not_asked_for_relu() -> None:
    subject = FunctionSubject(by_hand(), "mine")
    assert check_agreement(subject, draw(SMALL.replace(nonlinearity="relu"))).verdict is Verdict.UNSUPPORTED
