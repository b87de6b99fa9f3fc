"""Imports torch before it is needed; if that fails, the code that needs torch will report it."""

from contextlib import suppress

with suppress(Exception):
    import torch as torch
