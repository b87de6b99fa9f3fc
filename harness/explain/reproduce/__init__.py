"""A finding handed over: a script that was seen to fail, an issue, and a test that keeps it from coming back."""
