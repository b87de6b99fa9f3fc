"""extras: the packages that some subjects need, and that an extra of this distribution installs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from harness.subjects.protocol import SubjectError


def installed(name: str, *packages: str, extra: str) -> str:
    """Return the versions of the packages that a subject needs. Raise ``SubjectError`` if one is missing."""
    try:
        return ", ".join(f"{package} {version(package)}" for package in packages)
    except PackageNotFoundError as missing:
        remedy = f"pip install 'rnn-harness[{extra}]'"
        raise SubjectError(f"{name}: needs {missing.name}, which is not installed; {remedy} installs it") from None
