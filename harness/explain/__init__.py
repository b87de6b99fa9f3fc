"""Why a case fails: named faults, and which of them is the subject's."""
