"""Implementations under test: the Subject protocol, the registry, torch's own nn.RNN, and whatever a user points at."""
