"""Tests of atomic writing: what its errors say, and where a link leads."""

from pathlib import Path

import pytest

from harness.space.atomic import atomic_write, write_text


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "no folder" / "report.json"

    with pytest.raises(OSError, match=r"no folder/report\.json'$"), atomic_write(path):
        pass


def test_a_file_of_ours_takes_the_place_of_a_link_and_leaves_what_it_leads_to(tmp_path: Path) -> None:
    target, link, dangling = (tmp_path / name for name in ("target", "link", "dangling"))
    target.write_text("mine")
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "new")

    for path in (link, dangling):
        write_text(path, "ours")

    assert {path.name: path.read_text() for path in tmp_path.iterdir() if not path.is_symlink()} == {
        **dict.fromkeys(["link", "dangling"], "ours"),
        "target": "mine",
    }
