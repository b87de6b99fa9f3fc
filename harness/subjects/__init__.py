"""Implementations under test: the Subject protocol, the registry, torch's own nn.RNN, and a user's subjects."""
