"""Tests of atomic writing: what its errors say."""

from pathlib import Path

import pytest

from harness.space.atomic import atomic_write


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "no folder" / "report.json"

    with pytest.raises(OSError, match=r"no folder/report\.json'$"), atomic_write(path):
        pass
