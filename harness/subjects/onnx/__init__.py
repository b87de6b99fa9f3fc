"""ONNX as a subject: a graph built by hand, torch's exporters, and the runtimes that run both."""
