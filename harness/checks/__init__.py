"""Checks: properties of a subject on a case; each returns a result, and none prints."""
