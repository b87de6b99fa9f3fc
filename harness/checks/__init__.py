"""Checks: properties of a subject on a case. Each returns a result; none prints."""
