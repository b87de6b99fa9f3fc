"""Imports torch before it is needed; if that fails, the code that needs torch will report it."""

from contextlib import suppress
from importlib import import_module

with suppress(Exception):
    import_module("torch")
