"""Tests of the memory that is free."""

from pathlib import Path

from harness.space.memory import free


def test_the_least_of_what_the_system_and_the_container_leave_is_free(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:   5000 kB\n")
    assert free(tmp_path, tmp_path) == 5000 * 1024

    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 300\nactive_file 200\n")
    assert free(tmp_path, tmp_path) == 5000 * 1024

    (tmp_path / "memory.max").write_text("3000\n")
    assert free(tmp_path, tmp_path) == 3000 - 1000 + 300
