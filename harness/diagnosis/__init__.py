"""The diagnosis of a failing case: named faults, and which of them is the subject's."""
