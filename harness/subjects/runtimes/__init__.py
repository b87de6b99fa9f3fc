"""Layers of other libraries as subjects, each mapped onto ``nn.RNN`` in a file of its own."""
