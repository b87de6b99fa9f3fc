"""A finding as a script that shows it without this package."""
