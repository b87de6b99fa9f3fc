"""Tests of profiles: a port is asked for less than a kernel, unless it offers more."""

from typing import Any

import pytest

from harness import Scope, as_subject, scope_of
from harness.space.conformance_profile import KERNEL, PORT, PROFILE_WORDS, under
from harness.space.errors import UsageError
from harness.space.values import DISTRIBUTIONS
from harness.subjects.torch_module import TorchSubject
from tests import implementations


def test_a_port_is_asked_for_finite_numbers_in_plain_arrays_of_one_sequence_at_least() -> None:
    kernel = Scope().only(strides=["contiguous", "stepped"], loss=[None, "h_n"])

    port = under(kernel, PORT)

    assert 0 in kernel.N
    assert 0 not in port.N
    assert port.strides == ("contiguous",)
    assert set(DISTRIBUTIONS) - set(port.distributions) == {"special"}
    assert port.loss == kernel.loss
    assert under(kernel, KERNEL) == kernel


def test_functions_are_ports_and_classes_are_kernels_unless_they_say_otherwise() -> None:
    def strict(x: Any) -> Any:
        return x

    strict.profile = KERNEL  # type: ignore[attr-defined]

    assert as_subject(implementations.vectorised).capabilities.profile == PORT
    assert as_subject(strict).capabilities.profile == KERNEL
    assert TorchSubject().capabilities.profile == KERNEL
    assert 0 in scope_of(as_subject(implementations.vectorised), KERNEL).N


def test_an_unknown_profile_is_said_to_be() -> None:
    with pytest.raises(UsageError, match=f"profile='lax': expected {' or '.join(PROFILE_WORDS)}"):
        under(Scope(), "lax")
