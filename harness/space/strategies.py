"""Hypothesis strategies over the space, configs() and cases(), for a user's own @given tests."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.scope import Scope, assembled, factors_to_draw, whole_or
from harness.space.values import draw


def configs(scope: Scope | None = None, **only: Any) -> st.SearchStrategy[RNNConfig]:
    """Return a strategy for configs of ``scope`` (the whole space by default), with factors pinned by ``Scope.only``.

    It shrinks towards one layer, one direction, tanh, bias, time first, no hx, float32, and sizes of 1.
    """
    return _configs(whole_or(scope).only(**only))


def cases(
    scope: Scope | None = None, *, distributions: Sequence[str] | None = None, **only: Any
) -> st.SearchStrategy[Case]:
    """Return a strategy for cases: a config as from ``configs``, a distribution, and the seed of the values.

    The distributions are those of the scope unless ``distributions`` is given. The strategy shrinks like ``configs``,
    then towards the first of the distributions and towards seed 0. ::

        @given(case=cases(bidirectional=False, dtypes=["float32"]))
        def test_my_kernel(case): ...
    """
    drawn = whole_or(scope).only(**({} if distributions is None else {"distributions": distributions})).distributions
    return st.builds(draw, configs(scope, **only), st.sampled_from(drawn), seeds())


def seeds() -> st.SearchStrategy[int]:
    """Return a strategy for seeds of values. The range is so wide that two draws rarely meet; it shrinks towards 0."""
    return st.integers(0, 2**32 - 1)


def _configs(scope: Scope) -> st.SearchStrategy[RNNConfig]:
    varying = {name: values for name, values in factors_to_draw(scope).items() if len(values) > 1}
    fixed = {name: values[0] for name, values in factors_to_draw(scope).items() if len(values) == 1}
    # Hypothesis copies what it drew to every place that draws from the same values, so that most examples would be near
    # copies of earlier ones. Pairing each value with its factor's name tells the factors apart: among 1,000 configs,
    # 826 different (hidden_size, T, N) instead of 440; independent draws give 922 (tests/space/test_strata.py).
    drawn = [st.sampled_from([(name, value) for value in values]) for name, values in varying.items()]
    seeded = any(scope.lengths) or bool(scope.rules)

    def build(values: tuple[Any, ...]) -> RNNConfig:
        *chosen, seed = values
        return scope.abiding(assembled(scope, fixed | dict(chosen), seed), seed)

    return st.tuples(*drawn, seeds() if seeded else st.just(0)).map(build)
