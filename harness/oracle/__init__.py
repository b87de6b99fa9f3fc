"""The ground truth and its error bounds: reference, tolerance, expectation and comparison. Torch is never imported."""
