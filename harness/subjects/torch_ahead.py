"""torch_ahead: torch, imported before it is asked for; if it cannot be, that is for who asks to find out."""

from contextlib import suppress

with suppress(Exception):
    import harness.subjects.torch_module  # noqa: F401 - for its being imported
