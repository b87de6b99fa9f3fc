"""Tests of portable names: they depend neither on how a path was typed nor on where its repository lies."""

from pathlib import Path

import pytest

from harness import Result, RNNConfig, Verdict, draw
from harness.search.search_record import Finding
from harness.subjects.interpreters import portable


def typed(place: Path, below: str = "layers") -> set[str]:
    """Return the ways in which a file of a repository may be named, as portable names."""
    (place / ".git").mkdir(parents=True)
    (place / below).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        names = {
            portable(f"{way}my_rnn.py:rnn") for way in ("layers/", "./layers/", f"{place}/layers/", "layers/../layers/")
        }
        patch.chdir(place / below)
        return names | {portable(f"{way}my_rnn.py:rnn") for way in ("", "./", "../layers/", f"{place}/layers/")}


def test_a_file_is_named_by_its_place_in_its_repository_wherever_that_lies(tmp_path: Path) -> None:
    assert typed(tmp_path / "one") == typed(tmp_path / "elsewhere" / "two") == {"layers/my_rnn.py:rnn"}


def test_a_file_outside_of_repositories_is_named_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")

    for way, expected in (
        ("./my_rnn.py:rnn", "my_rnn.py:rnn"),
        (f"{tmp_path}/below/my_rnn.py:rnn", "my_rnn.py:rnn"),
        (f"{tmp_path}/my_rnn.py:rnn", "../my_rnn.py:rnn"),
    ):
        assert portable(way) == expected


@pytest.mark.parametrize(
    "name", ["torch", "torch:avx2", "package.module:rnn", "rnn.<locals>.f", "my_rnn.py", "", ":", "\0.py:f"]
)
def test_a_name_without_a_file_stays_as_it_is(name: str) -> None:
    assert portable(name) == name


def test_the_id_of_a_finding_is_the_same_however_its_file_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case, result = draw(RNNConfig(1, 1)), Result(Verdict.BROKEN, message="boom")

    ids = {Finding(f"{way}my_rnn.py:rnn", case, result).id for way in ("", "./", f"{tmp_path}/")}

    assert len(ids) == 1
    assert ids != {Finding("other.py:rnn", case, result).id}
