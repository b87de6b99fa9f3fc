"""Measurements of the harness; each file is a script."""
