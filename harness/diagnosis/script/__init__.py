"""A finding as a Python script that shows it: ``reproduce.py``."""
