"""Conformance of torch's own nn.RNN with the reference, in every distribution and dtype, with gradients."""

import os
from itertools import cycle, product

import pytest
from hypothesis import given

from harness import Case, Stratum, assert_agrees, assert_agrees_on, cases, scope_of, strata
from harness.space.factor_table import DTYPES, LOSSES
from harness.space.values import DISTRIBUTIONS
from harness.subjects.torch_module import TorchSubject
from tests.long import few

pytestmark = pytest.mark.kernels

TORCH = TorchSubject()

DEVICES = [os.environ["RNN_DEVICE"]] if "RNN_DEVICE" in os.environ else TORCH.devices()[:-1]  # meta has no values
# Pairs that contain every distribution and every dtype at least once.
EACH_ONCE = set(zip(DISTRIBUTIONS, cycle(DTYPES), strict=False))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("distribution", "dtype"), few(product(DISTRIBUTIONS, DTYPES), EACH_ONCE.__contains__))
def test_nn_rnn_computes_what_it_documents(distribution: str, dtype: str, device: str) -> None:
    @given(cases(distributions=[distribution], dtype=dtype, device=device, output_size=[None, 1, 3]))
    def agrees(case: Case) -> None:
        assert_agrees(TORCH, case)

    agrees()


@pytest.mark.long
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_autograd_gives_nn_rnn_s_gradients(dtype: str, device: str) -> None:
    @given(cases(losses=LOSSES[1:], dtype=dtype, device=device, output_size=[None, 1, 3]))
    def agrees(case: Case) -> None:
        assert_agrees(TORCH, case)

    agrees()


STRATA = {"tanh-unidirectional-forward", "relu-bidirectional-gradients"}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stratum", few(strata(scope_of(TORCH)), lambda one: str(one) in STRATA), ids=str)
def test_nn_rnn_agrees_over_all_that_it_offers(stratum: Stratum, device: str) -> None:
    assert_agrees_on(TORCH, stratum.scope.only(device=device), cases=100)
