"""No explanation ends because a machine is slow: steps alone limit it."""

from collections.abc import Iterator

import pytest

from harness.diagnosis import effort


@pytest.fixture(scope="session", autouse=True)
def _enough_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effort, "SECONDS", 1e9)
        yield
