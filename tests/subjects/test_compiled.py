"""Tests of the folder in which JAX keeps what it compiles."""

import os
from pathlib import Path

import pytest

from harness.subjects.runtimes import library
from harness.subjects.runtimes.library import CACHE_VARIABLE, FOLDER, keep_compiled


def test_what_is_compiled_is_kept_in_a_folder_unless_the_user_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_FOLDERS", [])
    folders = library._FOLDERS
    monkeypatch.setenv(CACHE_VARIABLE, "2")
    monkeypatch.setenv(FOLDER, "mine")

    keep_compiled()
    assert (os.environ[FOLDER], folders) == ("mine", [])

    monkeypatch.delenv(FOLDER)
    keep_compiled()
    keep_compiled()
    assert [os.environ[FOLDER]] == [one.name for one in folders]
    assert os.environ[CACHE_VARIABLE] == "2"

    folders[0].cleanup()
    assert not Path(os.environ[FOLDER]).exists()
