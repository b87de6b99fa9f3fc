"""The diagnosis of a failing case: what the subject computes instead, what the failure needs, where it begins."""
