"""What a subject does compute, found by experiment: the terms of each sum in its step and in its way back."""
