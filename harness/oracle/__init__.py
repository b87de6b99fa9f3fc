"""What is right, and how sure one can be: reference, tolerance, expectation, comparison. Never imports torch."""
